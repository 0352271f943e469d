"""`mm run`: quote on the network of the settings until stopped."""

from typing import Annotated

import typer

from market_maker.cli.app import (
    ConfigOption,
    EnvFileOption,
    JsonOption,
    ProfileOption,
    SetOption,
    app,
    examples,
    load_settings,
    note,
)
from market_maker.cli.play import LONGEST_S, is_shown, report


@app.command(
    epilog=examples(
        "mm run",
        "mm run --config my.toml --set ETH-USD:level_size_usd=500",
        "mm run --seconds 3600 --json > summary.json",
        "mm run --set network=emulator --account 1",
        "mm run --set network=mainnet",
        "mm run --paper --set network=mainnet --seconds 3600",
    )
)
def run(
    *,
    seconds: Annotated[
        float | None,
        typer.Option(min=1.0, max=LONGEST_S, help="How long to quote, s; until stopped if not given."),
    ] = None,
    account: Annotated[
        int | None,
        typer.Option(
            min=0, help="Account of an emulator to take. (default: that of the keys, else account 0)"
        ),
    ] = None,
    confirm: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="Confirm real money for a start that nobody attends: mainnet."),
    ] = None,
    paper: Annotated[
        bool,
        typer.Option("--paper", help="Live data, but no key and no order: fills are simulated."),
    ] = False,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    env_file: EnvFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Quote the markets of the settings on their network, until Ctrl-C; then leave nothing open.

    The network is the testnet, unless the settings say mainnet or emulator. Mainnet asks for a word first;
    on paper there is nothing to confirm.
    """
    loaded = load_settings(config, settings, profile, env_file)
    from market_maker.cli.connected import Visit, run_connected

    if paper:
        from market_maker.cli.paper import announcement

        note(announcement(loaded))
    visit = Visit(seconds, account, confirm, paper)
    played = run_connected(loaded, visit, show=is_shown(as_json=as_json))
    raise typer.Exit(report(played, as_json=as_json))
