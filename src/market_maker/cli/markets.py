"""`mm markets`: what the exchange inside the process offers, with what a maker wants to know of it."""

import dataclasses
import json

from rich.console import Console

from market_maker.cli.app import JsonOption, app, examples


@app.command(epilog=examples("mm markets", "mm markets --json"))
def markets(*, as_json: JsonOption = False) -> None:
    """List the markets of the exchange inside: tick and spread in bps, smallest order in USD, leverage."""
    from market_maker.cli.inside import listings_inside
    from market_maker.public_markets import markets_table, rank_markets

    rows = rank_markets(listings_inside())
    if as_json:
        print(json.dumps({"markets": [dataclasses.asdict(row) for row in rows]}, indent=2))
        return
    Console().print(markets_table(rows))
