"""`mm demo`: the market maker on an emulated exchange, on a generated or a recorded market.

In real time the exchange is a process of its own, reached over sockets as the real one is. At any other
speed it is inside this process, and time is virtual.
"""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from market_maker.cli.app import (
    ConfigOption,
    EnvFileOption,
    ExitCode,
    JsonOption,
    ProfileOption,
    SetOption,
    app,
    examples,
    load_settings,
)
from market_maker.cli.play import (
    HOUR_S,
    LONGEST_S,
    RICHEST_USD,
    Play,
    is_shown,
    markets_of,
    report,
    speed_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from market_maker.config import Config

_MARKETS: Final = ("BTC-USD", "ETH-USD", "WIF-USD")
# Account 0 is for whoever else wants to trade on the emulator meanwhile.
_ACCOUNT: Final = 1


@app.command(
    epilog=examples(
        "mm demo",
        "mm demo --seconds 40 --scenario mixed --seed 1 --json",
        "mm demo --fault silent_streams@10+20",
        "mm demo --seconds 3600 --speed max --scenario trend --profile legacy",
        "mm demo --recording FOLDER --market ETH-USD --seconds 600 --speed max",
    )
)
def demo(
    *,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=LONGEST_S, help="How long to quote, in the market's time.")
    ] = 60.0,
    scenario: Annotated[
        str, typer.Option(help="Generated market: calm, choppy, trend, crash, mixed, ramp or flat.")
    ] = "mixed",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the generated market and of the exchange.")] = 1,
    recording: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Follow a recorded market instead: folder or file.")
    ] = None,
    offset: Annotated[
        float, typer.Option(min=0.0, max=LONGEST_S, help="Where in the recording to begin, s.")
    ] = 0.0,
    market: Annotated[
        list[str] | None,
        typer.Option(
            "--market", "-m", help="Market to quote; may be repeated. (default: as set, else BTC, ETH, WIF)"
        ),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(help="Market seconds in a second; 1 is real time over sockets, max as fast as it goes."),
    ] = "1",
    deposit: Annotated[
        float, typer.Option(min=1.0, max=RICHEST_USD, help="Money of the account, USD.")
    ] = 10_000.0,
    funding_every: Annotated[
        float,
        typer.Option(min=1.0, max=LONGEST_S, help="Time between funding payments, s; 3600 on the exchange."),
    ] = HOUR_S,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=VALUE]@FROM+FOR",
            help="Let the exchange fail from a second of its life on, so long. 'list' tells what there is.",
        ),
    ] = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    env_file: EnvFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Quote on an emulated exchange for a minute: no account, no network, nothing at stake."""
    from market_maker.config import DEFAULT_ORIGIN
    from market_maker.emulator.faults import known_faults, parse_fault

    if fault == ["list"]:
        print(f"Faults, with the value that each has where none is given:\n{known_faults()}")
        return
    for text in fault or ():
        parse_fault(text)
    play = Play(
        seconds=seconds,
        scenario=scenario,
        seed=seed,
        speed=speed_of(speed),
        recording=recording,
        offset_s=offset,
        deposit=Decimal(str(deposit)),
        funding_every_s=funding_every,
        faults=fault or (),
    )
    chosen = list(market or ())

    def load(*more: str) -> "Config":
        # Whatever network the settings name is for `mm run`: here nothing is ever at stake.
        overrides = [*(settings or ()), "network=emulator", *more]
        if chosen:
            overrides.append(f"markets={','.join(chosen)}")
        return load_settings(config, overrides, profile, env_file)

    loaded = load()
    if not chosen and loaded.origins["markets"] == DEFAULT_ORIGIN:
        chosen += markets_of(recording, _MARKETS)
    raise typer.Exit(_play(load, play, as_json=as_json))


def _play(load: "Callable[..., Config]", play: Play, *, as_json: bool) -> ExitCode:
    show = is_shown(as_json=as_json)
    if play.speed == 1.0:
        return _play_over_sockets(load, play, show=show, as_json=as_json)
    from market_maker.cli.inside import run_inside

    return report(run_inside(load(), play, show=show).played, as_json=as_json)


def _play_over_sockets(load: "Callable[..., Config]", play: Play, *, show: bool, as_json: bool) -> ExitCode:
    from market_maker.cli.child import emulator_process
    from market_maker.config_sections import SessionSettings

    markets = load().of(SessionSettings).markets
    with emulator_process(_options(play, markets)) as emulator:
        # While it starts, we do.
        from market_maker.cli.connected import Visit, compile_kernels, run_connected

        compile_kernels()
        config = load(f"emulator_url={emulator.wait_for_url()}")
        played = run_connected(config, Visit(play.seconds, _ACCOUNT), show=show, emulator=emulator)
        code = report(played, as_json=as_json)
        emulator.end()
    return code


def _options(play: Play, markets: tuple[str, ...]) -> list[str]:
    """Options of `mm emulator` for a play."""
    options = [f"--scenario={play.scenario}", f"--seed={play.seed}", f"--deposit={play.deposit}"]
    options += [f"--funding-every={play.funding_every_s}"]
    if play.recording is not None:
        options += [f"--recording={play.recording}", f"--offset={play.offset_s}"]
    options += [f"--market={market}" for market in markets]
    return options + [f"--fault={fault}" for fault in play.faults]
