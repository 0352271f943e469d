"""`mm demo`: the market maker on the exchange inside, on a generated or a recorded market."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer

from market_maker.cli.app import (
    ConfigOption,
    JsonOption,
    ProfileOption,
    SetOption,
    app,
    examples,
    load_settings,
)
from market_maker.cli.play import LONGEST_S, RICHEST_USD, play_and_report, speed_of

_MARKETS = "BTC-USD,ETH-USD,WIF-USD"


@app.command(
    epilog=examples(
        "mm demo",
        "mm demo --seconds 40 --scenario mixed --seed 1 --json",
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
        typer.Option("--market", "-m", help="Market to quote; may be repeated. [as set, else BTC, ETH, WIF]"),
    ] = None,
    speed: Annotated[
        str, typer.Option(help="Market seconds in a second; 1 is real time, max as fast as it goes.")
    ] = "1",
    deposit: Annotated[
        float, typer.Option(min=1.0, max=RICHEST_USD, help="Money of the account, USD.")
    ] = 10_000.0,
    funding_every: Annotated[
        float,
        typer.Option(min=1.0, max=LONGEST_S, help="Time between funding payments, s; 3600 on the exchange."),
    ] = 3600.0,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Quote on the exchange inside for a minute: no account, no network, nothing at stake."""
    from market_maker.cli.host import Play, markets_of
    from market_maker.config import DEFAULT_ORIGIN

    play = Play(
        seconds=seconds,
        scenario=scenario,
        seed=seed,
        speed=speed_of(speed),
        recording=recording,
        offset_s=offset,
        deposit=Decimal(str(deposit)),
        funding_every_s=funding_every,
    )
    loaded = load_settings(config, settings, profile)
    if market or loaded.origins["markets"] == DEFAULT_ORIGIN:
        chosen = market or markets_of(play, _MARKETS.split(","))
        overrides = [*(settings or ()), f"markets={','.join(chosen)}"]
        loaded = load_settings(config, overrides, profile)
    raise typer.Exit(play_and_report(loaded, play, as_json=as_json))
