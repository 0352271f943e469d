"""`mm simulate`: the whole trading process against everything that fails, seed by seed, in virtual time."""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from market_maker.cli.app import ExitCode, JsonOption, SetOption, app, examples, note
from market_maker.cli.data import interruptible

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

    from market_maker.faultsim.invariants import Violation
    from market_maker.faultsim.simulation import SeedResult, SimulationSettings

_MOST_SEEDS: Final = 100_000
_MOST_HOURS: Final = 168.0
_SHOWN: Final = 20


@app.command(
    epilog=examples(
        "mm simulate --seeds 1..20",
        "mm simulate --seeds 1..1000 --hours 1 --faults all --json",
        "mm simulate --seeds 7..7 --faults kill,full_disk --keep simulated",
        "mm simulate --faults list",
    )
)
def simulate(
    *,
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="A..B", help="First and last seed, or a single one.")
    ] = "1..10",
    hours: Annotated[
        float,
        typer.Option(
            "--hours", metavar="HOURS", min=0.05, max=_MOST_HOURS, help="Simulated hours of each seed."
        ),
    ] = 1.0,
    faults: Annotated[
        str,
        typer.Option(
            "--faults", metavar="NAMES", help="all, none, or names with commas; 'list' tells what there is."
        ),
    ] = "all",
    rate: Annotated[
        float,
        typer.Option(
            "--changes",
            metavar="N",
            min=1.0,
            max=2_000.0,
            help="Moves of the market in a minute.",
        ),
    ] = 8.0,
    market: Annotated[str, typer.Option("--market", "-m", help="Generated market to quote.")] = "ETH-USD",
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes", metavar="N", min=1, max=256, help="Processes. (default: one for each core)"
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Keep the journals of each seed in a folder of its own."),
    ] = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play simulated hours in which everything fails, and check what must hold after each step.

    Exits with 1 if an invariant was violated; each violation comes with the command that repeats it. The same
    seed and options give the same journals to the byte.
    """
    from market_maker.faultsim.fault_plan import FAULT_NAMES, chosen_faults, meaning_of
    from market_maker.faultsim.simulation import SimulationSettings

    if faults == "list":
        width = max(map(len, FAULT_NAMES))
        print("\n".join(f"{name:<{width}}  {meaning_of(name)}" for name in FAULT_NAMES))
        return
    chosen = SimulationSettings(hours, chosen_faults(faults), market, rate, tuple(settings or ()), keep)
    first, last = _range(seeds)
    shown = not as_json and sys.stderr.isatty()
    with interruptible():
        results, is_whole = _played(range(first, last + 1), chosen, processes, show=shown)
    if not is_whole:
        note(f"interrupted after {len(results):,} of {last + 1 - first:,} seeds")
    if as_json:
        print(json.dumps(as_dict(results, hours), indent=2))
    else:
        _print(results, _options(chosen, faults))
    has_failed = any(result.violations for result in results)
    if not (has_failed or is_whole):
        raise typer.Exit(ExitCode.INTERRUPTED)
    raise typer.Exit(ExitCode.FAILED if has_failed else ExitCode.OK)


def _range(text: str) -> tuple[int, int]:
    begin, _, end = text.partition("..")
    try:
        first, last = int(begin), int(end or begin)
    except ValueError:
        first, last = 0, -1
    if not 0 <= first <= last < first + _MOST_SEEDS:
        msg = f"--seeds: expected A..B with 0 <= A <= B, at most {_MOST_SEEDS:,} seeds, was {text!r}"
        raise typer.BadParameter(msg)
    return first, last


def _played(
    seeds: range, settings: "SimulationSettings", processes: int | None, *, show: bool
) -> "tuple[list[SeedResult], bool]":
    """Results in the order of the seeds, and whether all were played: an interrupt leaves those that were."""
    from market_maker.faultsim.simulation import simulate as play

    count = min(processes or os.cpu_count() or 1, len(seeds))
    results: list[SeedResult] = []
    try:
        with _progress(len(seeds), show=show) as told:
            if count == 1:
                for seed in seeds:
                    results.append(told(play(seed, settings)))  # noqa: PERF401  (an interrupt keeps these)
                return results, True
            with _pool(count) as pool:
                waiting: list[Future[SeedResult]] = [pool.submit(play, seed, settings) for seed in seeds]
                for done in as_completed(waiting):
                    results.append(told(done.result()))  # noqa: PERF401  (an interrupt keeps these)
    except KeyboardInterrupt:
        pass
    return sorted(results, key=lambda result: result.seed), len(results) == len(seeds)


@contextmanager
def _pool(count: int) -> "Iterator[ProcessPoolExecutor]":
    """Processes that end with this one, however it ends, and at once where it wants no more of them."""
    # A fresh interpreter each: nothing of this one, its threads least of all, is in them.
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, context, _end_with, (theirs,))
    try:
        yield pool
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)


def _end_with(other: "Connection") -> None:
    """Let this process end when the other end is closed, by a death too; an interrupt is for the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        with suppress(EOFError, OSError):
            other.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _progress(seeds: int, *, show: bool) -> "Iterator[Any]":
    """A bar on the terminal, where somebody sees it; what is violated is said at once, and in the report."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not show) as bar:
        task = bar.add_task("simulating", total=seeds)
        found = 0

        def told(result: "SeedResult") -> "SeedResult":
            nonlocal found
            found += len(result.violations)
            for name in dict.fromkeys(violation.invariant for violation in result.violations):
                note(f"seed {result.seed}: {name} violated")
            bar.update(task, advance=1, description=f"simulating, {found} violations")
            return result

        yield told


def as_dict(results: "list[SeedResult]", hours: float) -> dict[str, Any]:
    """A run as JSON has it."""
    digest = hashlib.sha256("".join(result.journal_sha256 for result in results).encode())
    return {
        "seeds": len(results),
        "hours": hours * len(results),
        "faults": dict(sorted(_faults(results).items())),
        "violations": [
            {
                "seed": violation.seed,
                "step": violation.step,
                "at_s": violation.at_s,
                "invariant": violation.invariant,
                "detail": violation.detail,
            }
            for result in results
            for violation in result.violations
        ],
        "journal_sha256": digest.hexdigest(),
        "steps": sum(result.steps for result in results),
        "processes_started": sum(result.lives for result in results),
        "orders": sum(result.orders for result in results),
        "fills": sum(result.fills for result in results),
        "cpu_s": round(sum(result.cpu_s for result in results), 2),
    }


def _faults(results: "list[SeedResult]") -> Counter[str]:
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.faults)
    return counts


def _options(settings: "SimulationSettings", faults: str) -> str:
    """The options with which one seed is played again."""
    words = [f"--hours {settings.hours:g}", f"--faults {faults}"]
    words.append(f"--changes {settings.market_events_per_minute:g}")
    words.append(f"--market {settings.market}")
    return " ".join([*words, *(f"--set {given}" for given in settings.overrides)])


def _print(results: "list[SeedResult]", options: str) -> None:
    console = Console()
    table = Table(title="Faults injected", title_justify="left")
    table.add_column("fault", no_wrap=True)
    table.add_column("times", justify="right")
    for name, count in sorted(_faults(results).items()):
        table.add_row(name, f"{count:,}")
    console.print(table)
    violations = [violation for result in results for violation in result.violations]
    for violation in violations[:_SHOWN]:
        console.print(_told(violation, options), soft_wrap=True)
    if len(violations) > _SHOWN:
        console.print(f"… and {len(violations) - _SHOWN} more")
    told = as_dict(results, 1.0)
    console.print(
        f"{len(results):,} seeds: {told['steps']:,} steps of the exchange, {told['orders']:,} orders,"
        f" {told['fills']:,} fills, {told['processes_started']:,} processes started,"
        f" {told['cpu_s']:,.0f} s of the processor.\nJournals: sha256 {told['journal_sha256']}",
        highlight=False,
        soft_wrap=True,
    )
    if violations:
        console.print(Text(f"VIOLATED: {len(violations):,} times.", style="bold red"))
    else:
        console.print("No violation.")


def _told(violation: "Violation", options: str) -> Text:
    where = f"seed {violation.seed}, step {violation.step:,}, {violation.at_s:.3f} s"
    text = Text(f"{violation.invariant}", style="bold red")
    text.append(f" at {where}: {violation.detail}\n", style="default")
    return text.append(f"  mm simulate --seeds {violation.seed}..{violation.seed} {options}", style="cyan")
