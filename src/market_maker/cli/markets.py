"""`mm markets`: what the exchange offers, with what a maker wants to know of each market."""

import asyncio
import dataclasses
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from market_maker.cli.app import ConfigOption, JsonOption, SetOption, app, examples, load_settings
from market_maker.cli.orders import MarketOption

if TYPE_CHECKING:
    from market_maker.config import Config
    from market_maker.public_markets import Listing


markets_app = typer.Typer(
    name="markets", invoke_without_command=True, rich_markup_mode="rich", subcommand_metavar="[correlation]"
)
app.add_typer(markets_app)


@markets_app.callback(
    epilog=examples(
        "mm markets --inside",
        "mm markets --market BTC-USD --market ETH-USD",
        "mm markets --set network=mainnet --json",
        "mm markets correlation --market BTC-USD --market ETH-USD",
    )
)
def markets(
    context: typer.Context,
    *,
    market: MarketOption = None,
    inside: Annotated[
        bool, typer.Option("--inside", help="Those of the exchange inside; no network is needed.")
    ] = False,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the markets of the network: tick and spread in bps, smallest order in USD, leverage.

    Public data alone: no key is needed, and none is sent.
    """
    from market_maker.public_markets import find_markets, markets_table, rank_markets

    if context.invoked_subcommand is not None:
        if market or inside or config or settings or as_json:
            msg = f"expected options behind {context.invoked_subcommand}, was some before it"
            raise typer.BadParameter(msg)
        return
    if inside:
        from market_maker.cli.inside import listings_inside

        found = {listing.instrument.name: listing for listing in listings_inside()}
    else:
        found = asyncio.run(_listings(load_settings(config, settings, None)))
    named = find_markets({name: listing.instrument for name, listing in found.items()}, market or ())
    rows = rank_markets(found[name] for name in named or found)
    if as_json:
        print(json.dumps({"markets": [dataclasses.asdict(row) for row in rows]}, indent=2))
        return
    Console().print(markets_table(rows))


async def _listings(config: "Config") -> "dict[str, Listing]":
    from market_maker.cli.connection import connect_public
    from market_maker.clock import SystemClock

    gateway = await connect_public(config, SystemClock())
    try:
        return await gateway.listings()
    finally:
        await gateway.close()
