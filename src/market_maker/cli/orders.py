"""`mm cancel-all` and `mm flatten`: what is open goes, what is held is closed, and it is shown to be so."""

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

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
    note,
)

if TYPE_CHECKING:
    from market_maker.cli.flattening import Adjust, Flattened
    from market_maker.config import Config
    from market_maker.gateway import OrderReport

Line = dict[str, object]
# What a person reads; a bot that goes on quoting makes hundreds.
_MOST_ROWS: Final = 30
MarketOption = Annotated[
    list[str] | None,
    typer.Option(
        "--market", "-m", metavar="MARKET", help="Only this market; may be repeated. (default: all)"
    ),
]
AccountOption = Annotated[
    int | None,
    typer.Option(min=0, help="Account of an emulator to take. (default: that of the keys, else account 0)"),
]


@app.command(
    "cancel-all",
    epilog=examples("mm cancel-all", "mm cancel-all --market BTC-USD --ours", "mm cancel-all --json"),
)
def cancel_all(
    *,
    market: MarketOption = None,
    ours: Annotated[
        bool, typer.Option("--ours", help="Only orders of this bot, told by their id (order_id_prefix).")
    ] = False,
    account: AccountOption = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    env_file: EnvFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel every order of the account, and verify with the exchange that nothing is open.

    Exits with 0 only if nothing is open any more, with 1 if something is or if new orders came meanwhile.
    """
    loaded = load_settings(config, settings, profile, env_file)
    lines, came_late = asyncio.run(_cancel_all(loaded, market or (), account, ours=ours))
    is_clear = not (lines["remaining"] or came_late)
    if as_json:
        print(
            json.dumps(
                {**_where(loaded), **lines, "came_meanwhile": came_late, "nothing_open": is_clear}, indent=2
            )
        )
    else:
        _show_orders("Cancelled", lines["cancelled"])
        _show_orders("Still open", lines["remaining"])
        note("nothing is open" if is_clear else f"{len(lines['remaining'])} orders are still open")
    if came_late:
        note(f"{came_late} orders came meanwhile: somebody quotes here; stop that first (Ctrl-C), then again")
    raise typer.Exit(ExitCode.OK if is_clear else ExitCode.FAILED)


@app.command(
    epilog=examples(
        "mm flatten", "mm flatten --market ETH-USD", "mm flatten --set network=mainnet --confirm mainnet"
    )
)
def flatten(
    *,
    market: MarketOption = None,
    seconds: Annotated[
        float, typer.Option(min=1.0, max=3600.0, help="Longest time to spend on closing.")
    ] = 60.0,
    account: AccountOption = None,
    confirm: Annotated[
        str | None, typer.Option(metavar="WORD", help="Confirm real money where nobody attends: mainnet.")
    ] = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    env_file: EnvFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel every order, then close every position with reduce-only orders, and verify that all is flat.

    Where the exchange takes no immediate orders (after maintenance), reducing orders rest instead.

    Exits with 0 only if the positions are flat and nothing is open.
    """

    def adjusted(more: Sequence[str]) -> "Config":
        return load_settings(config, [*(settings or ()), *more], profile, env_file)

    flattened = asyncio.run(_flatten(adjusted, market or (), seconds, account, confirm))
    lines, is_done = flattened.as_lines(), flattened.is_done
    if as_json:
        print(json.dumps({**_where(adjusted(())), **lines, "flat_and_clear": is_done}, indent=2))
    else:
        _show_orders("Cancelled", lines["cancelled"])
        _show_orders("Traded", lines["fills"])
        _show_orders("Still held", lines["positions_left"])
        _show_orders("Still open", lines["remaining"])
        note("flat, and nothing is open" if is_done else "not everything is flat and cancelled")
    raise typer.Exit(ExitCode.OK if is_done else ExitCode.FAILED)


def _where(config: "Config") -> dict[str, object]:
    from market_maker.config_sections import SessionSettings

    return {"network": config.of(SessionSettings).network.value}


def _show_orders(title: str, lines: Sequence[Line]) -> None:
    """Show a table of the first lines, and how many there are beyond; nothing where there are none."""
    if not lines:
        return
    table = Table(title=title, title_justify="left")
    columns = list(dict.fromkeys(key for line in lines for key in line))
    for column in columns:
        table.add_column(column.replace("_", " "))
    for line in lines[:_MOST_ROWS]:
        table.add_row(*("-" if line.get(column) is None else str(line[column]) for column in columns))
    Console().print(table)
    if len(lines) > _MOST_ROWS:
        Console().print(f"and {len(lines) - _MOST_ROWS:,} more; --json has them all", highlight=False)


async def _cancel_all(
    config: "Config", markets: Sequence[str], account: int | None, *, ours: bool
) -> tuple[dict[str, list[Line]], int]:
    from market_maker.cli.clearing import clear_orders, order_line
    from market_maker.cli.connection import connect
    from market_maker.clock import SystemClock
    from market_maker.order_records import OrderSettings
    from market_maker.public_markets import find_markets

    clock, prefix = SystemClock(), config.of(OrderSettings)
    gateway = await connect(config, clock, account)
    try:
        instruments = await gateway.instruments(())
        chosen = find_markets(instruments, markets)

        def is_wanted(order: "OrderReport") -> bool:
            return (not chosen or order.market in chosen) and (not ours or prefix.owns(order.external_id))

        cleared = await clear_orders(gateway, clock, is_wanted, whole_markets=not ours)
    finally:
        await gateway.close()
    lines = {
        "cancelled": [order_line(order, instruments) for order in cleared.gone],
        "remaining": [order_line(order, instruments) for order in cleared.remaining],
    }
    return lines, cleared.came_late


async def _flatten(
    adjusted: "Adjust",
    markets: Sequence[str],
    seconds: float,
    account: int | None,
    confirmed: str | None,
) -> "Flattened":
    from market_maker.cli.confirmation import confirm
    from market_maker.cli.connection import connect
    from market_maker.cli.flattening import flatten
    from market_maker.clock import SystemClock
    from market_maker.config_sections import Network, SessionSettings

    config, clock = adjusted(()), SystemClock()
    gateway = await connect(config, clock, account)
    try:
        name = "" if gateway.account is None else str(gateway.account.account_id)
        if config.of(SessionSettings).network is Network.MAINNET:
            await confirm(config, name, (await gateway.balance()).equity, confirmed)
        return await flatten(gateway, clock, adjusted, markets, seconds, name)
    finally:
        await gateway.close()
