"""`mm soak`: hours of quoting amid faults, over real sockets, and whether anything of the bot grows."""

import select
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from market_maker.cli.app import (
    ConfigOption,
    ExitCode,
    JsonOption,
    ProfileOption,
    SetOption,
    app,
    examples,
    load_settings,
    note,
)
from market_maker.cli.data import interruptible
from market_maker.cli.play import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from market_maker.cli.child import EmulatorProcess
    from market_maker.cli.soak_bot import BotProcess
    from market_maker.cli.soak_report import Soak
    from market_maker.cli.soak_watch import BotWatch, Sample

    Told = Callable[[Sample, int], None]

_MARKETS: Final = ("BTC-USD", "ETH-USD", "WIF-USD")
_ACCOUNT: Final = 1
_LONGEST_H: Final = 168.0
_SHORTEST_H: Final = 0.003
# So much that losing for days does not end it: money is not what is watched.
_DEPOSIT: Final = 1_000_000
# What a market takes is not what is watched, and what is remembered is to be full within the warm-up: it
# would look like a leak until it is. Who sets them has them.
_SETTINGS: Final = ("max_day_loss_usd=0", "max_drawdown_usd=0", "order_tombstones_kept=500")
_SAMPLES_FILE: Final = "samples.jsonl"
_ASK_S: Final = 2.0


@dataclass(frozen=True)
class Plan:
    """How a soak goes: for so long, a look every so often (s), with these fault windows."""

    seconds: float
    every_s: float
    windows: list[str]
    scenario: str
    seed: int
    folder: Path


@app.command(
    epilog=examples(
        "mm soak --hours 0.5",
        "mm soak --hours 24 --keep soak",
        "mm soak --hours 1 --fault close_streams --fault lost_replies=0.2 --json",
        "mm soak --hours 1 --fault none --profile legacy",
    )
)
def soak(
    *,
    hours: Annotated[
        float,
        typer.Option(min=_SHORTEST_H, max=_LONGEST_H, help="How long, h; a verdict on memory takes a half."),
    ],
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]",
            help="Fault to have now and then; may be repeated. (default: all; 'none'; 'list' tells)",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the market and of when which fault comes.")] = 1,
    scenario: Annotated[
        str, typer.Option(help="Generated market: calm, choppy, trend, crash, mixed, ramp or flat.")
    ] = "mixed",
    every: Annotated[float, typer.Option(min=0.2, max=600.0, help="Time between two looks, s.")] = 5.0,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Keep the samples, the bot's log and its journal in this folder."),
    ] = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the bot and the emulator for hours, with faults, and fail if memory or anything else grows.

    Exits with 1 where something of the bot grew or it did not stop in order, with 130 after Ctrl-C, which
    reports what is known so far.
    """
    from market_maker.cli.soak_faults import chosen_faults, draw_windows
    from market_maker.cli.soak_watch import CannotWatch, check_watchable
    from market_maker.emulator.faults import known_faults

    if fault == ["list"]:
        print(f"Faults, with the value that each has where none is given:\n{known_faults()}")
        return
    try:
        check_watchable()
    except CannotWatch as error:
        note(f"mm: {error}")
        raise typer.Exit(ExitCode.USAGE) from error
    seconds = hours * HOUR_S
    windows = draw_windows(chosen_faults(fault or ()), seconds, seed)
    words = _options(config, profile, settings)
    markets = _markets(config, profile, settings)
    with _folder(keep) as folder, interruptible():
        plan = Plan(seconds, every, windows, scenario, seed, folder)
        seen = _soaked(plan, words, markets)
        raise typer.Exit(_report(seen, as_json=as_json))


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="mm-soak-") as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True, exist_ok=True, mode=0o700)
        yield keep.absolute()


def _markets(config: list[Path] | None, profile: str | None, settings: list[str] | None) -> tuple[str, ...]:
    """Markets to quote: those set, else the demo's. The settings are checked before anything starts."""
    from market_maker.config import DEFAULT_ORIGIN
    from market_maker.config_sections import SessionSettings

    loaded = load_settings(config, [*(settings or ()), "network=emulator"], profile)
    if loaded.origins["markets"] == DEFAULT_ORIGIN:
        return _MARKETS
    return loaded.of(SessionSettings).markets


def _options(config: list[Path] | None, profile: str | None, settings: list[str] | None) -> list[str]:
    """Options of `mm run`, but for those that a soak sets itself."""
    words = [word for path in config or () for word in ("--config", str(path))]
    words += ["--profile", profile] if profile else []
    return words + [word for each in (*_SETTINGS, *(settings or ())) for word in ("--set", each)]


def _soaked(plan: Plan, words: list[str], markets: tuple[str, ...]) -> "Soak":
    from market_maker.cli.child import emulator_process
    from market_maker.cli.connected import compile_kernels
    from market_maker.cli.soak_bot import bot_process, free_port
    from market_maker.cli.soak_watch import BotWatch

    options = [f"--scenario={plan.scenario}", f"--seed={plan.seed}", f"--deposit={_DEPOSIT}"]
    options += [f"--market={market}" for market in markets] + [f"--fault={each}" for each in plan.windows]
    journal, port = plan.folder / "journal", free_port()
    # Before the first fault's time runs: a bot that has to compile would start amid it, and stay large.
    compile_kernels()
    with emulator_process(options) as emulator:
        own = {
            "network": "emulator",
            "emulator_url": (url := emulator.wait_for_url()),
            "markets": ",".join(markets),
            "journal_dir": journal,
            "metrics_enabled": "yes",
            "metrics_port": port,
        }
        words = [*words, *(word for name, value in own.items() for word in ("--set", f"{name}={value}"))]
        # Should we be killed, it ends by itself a little later.
        seconds = min(plan.seconds + HOUR_S, _LONGEST_H * HOUR_S)
        with bot_process([*words, f"--account={_ACCOUNT}", f"--seconds={seconds}"], plan.folder) as bot:
            return _watched(plan, bot, BotWatch(bot.pid, port, journal), Venue(url, emulator))


class Venue:
    """The emulator as a soak asks it: what failed so far, and whether it is still there."""

    def __init__(self, url: str, process: "EmulatorProcess") -> None:
        self._url = url
        self._process = process
        self.faults: dict[str, int] = {}

    def look(self) -> None:
        """Count the faults so far; amid some of them it does not answer.

        Raises
        ------
        EmulatorEnded
            If it is gone.
        """
        if select.select([self._process.output], [], [], 0)[0] and self._process.hear():
            raise self._process.ended()
        try:
            with urllib.request.urlopen(f"{self._url}/emulator/state", timeout=_ASK_S) as reply:
                self.faults = msgspec.json.decode(reply.read(), type=_State).fault_counts
        except OSError:
            return


class _State(msgspec.Struct, rename="camel"):
    fault_counts: dict[str, int]


def _watched(plan: Plan, bot: "BotProcess", watch: "BotWatch", venue: Venue) -> "Soak":
    """Look until the time is over, the bot is, or Ctrl-C; then stop it."""
    from market_maker.cli.soak_report import Soak
    from market_maker.cli.soak_watch import ProcessGone
    from market_maker.clock import SystemClock
    from market_maker.domain import NS_PER_S

    clock = SystemClock()
    begun_ns = clock.perf_ns()
    samples: list[Sample] = []
    ended = interrupted = False

    def look() -> "Sample":
        venue.look()
        return watch.take((clock.perf_ns() - begun_ns) / NS_PER_S)

    with (plan.folder / _SAMPLES_FILE).open("wb", buffering=0) as file, _progress(plan.seconds) as told:
        try:
            while (at_s := (clock.perf_ns() - begun_ns) / NS_PER_S) < plan.seconds and not ended:
                ended = bot.ends_within(min(plan.every_s, plan.seconds - at_s))
                if not ended:
                    samples.append(look())
                    file.write(msgspec.json.encode(asdict(samples[-1])) + b"\n")
                    told(samples[-1], sum(venue.faults.values()))
        except KeyboardInterrupt:
            interrupted = True
        except ProcessGone:
            ended = True
    end = bot.end() if ended else bot.stop()
    venue.look()
    return Soak(plan.seconds, samples, venue.faults, end, ended_early=ended, interrupted=interrupted)


@contextmanager
def _progress(seconds: float) -> "Iterator[Told]":
    """A live line on a terminal: how far it is, and the last sample."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(8), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task("starting", total=seconds)

        def told(sample: "Sample", faults: int) -> None:
            bars.update(task, completed=sample.at_s, description=_line(sample, faults))

        yield told


def _line(sample: "Sample", faults: int) -> str:
    tasks = "-" if sample.tasks is None else str(sample.tasks)
    late = "-" if sample.loop_latest_ms is None else f"{sample.loop_latest_ms:.1f}"
    line = (
        f"{sample.memory_mb:.1f} MB, {sample.descriptors} files, {tasks} tasks, {late} ms late,"
        f" {faults} faults"
    )
    return f"{line}, {sample.halted}" if sample.halted else line


def _report(seen: "Soak", *, as_json: bool) -> ExitCode:
    from market_maker.cli.soak_report import as_dict, print_soak

    if as_json:
        print(msgspec.json.encode(as_dict(seen)).decode())
    else:
        print_soak(seen)
    if seen.interrupted:
        return ExitCode.INTERRUPTED
    return ExitCode.FAILED if seen.problems else ExitCode.OK
