"""`mm run`: quote until stopped, with the settings of a trader."""

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


@app.command(
    epilog=examples(
        "mm run",
        "mm run --config my.toml --set ETH-USD:level_size_usd=500",
        "mm run --seconds 3600 --json > summary.json",
    )
)
def run(
    *,
    seconds: Annotated[
        float | None,
        typer.Option(min=1.0, max=LONGEST_S, help="How long to quote, s; until stopped if not given."),
    ] = None,
    scenario: Annotated[str, typer.Option(help="Market that the exchange inside generates.")] = "mixed",
    seed: Annotated[int, typer.Option(min=0, help="Seed of that market and of the exchange.")] = 1,
    recording: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Follow a recorded market instead: folder or file.")
    ] = None,
    speed: Annotated[str, typer.Option(help="Market seconds in a second, or max.")] = "1",
    deposit: Annotated[
        float, typer.Option(min=1.0, max=RICHEST_USD, help="Money of the account, USD.")
    ] = 10_000.0,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Quote the markets of the settings on the exchange inside, until Ctrl-C; then leave nothing open."""
    from market_maker.cli.host import Play

    play = Play(
        seconds=seconds,
        scenario=scenario,
        seed=seed,
        speed=speed_of(speed),
        recording=recording,
        deposit=Decimal(str(deposit)),
    )
    raise typer.Exit(play_and_report(load_settings(config, settings, profile), play, as_json=as_json))
