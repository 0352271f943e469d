"""`mm markets`: what the exchange inside the process offers."""

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from market_maker.cli.app import JsonOption, app, examples
from market_maker.instrument import Instrument


@app.command(epilog=examples("mm markets", "mm markets --json"))
def markets(*, as_json: JsonOption = False) -> None:
    """List the markets of the exchange inside, with tick, step and limits."""
    from market_maker.emulator.scenarios import instruments, market_names

    offered = instruments(market_names())
    if as_json:
        print(json.dumps({"markets": [_as_dict(instrument) for instrument in offered]}, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("market", style="bold cyan", no_wrap=True)
    for heading in ("tick, USD", "step", "least order", "leverage", "price band"):
        table.add_column(heading, justify="right", no_wrap=True)
    for market in offered:
        table.add_row(
            market.name,
            f"{market.tick:f}",
            f"{market.step:f}",
            f"{market.min_size:f}",
            f"{market.max_leverage:f}",
            f"-{market.price_floor:.0%} +{market.price_cap:.0%}",
        )
    Console().print(table)


def _as_dict(market: Instrument) -> dict[str, Any]:
    """Give the rules of a market as JSON has them; decimals are strings, since they are exact."""
    return {
        "name": market.name,
        "tick": str(market.tick),
        "step": str(market.step),
        "min_size": str(market.min_size),
        "max_leverage": str(market.max_leverage),
        "max_position_value_usd": str(market.max_position_value),
        "max_limit_order_value_usd": str(market.max_limit_order_value),
        "max_open_orders": market.max_open_orders,
        "price_cap": str(market.price_cap),
        "price_floor": str(market.price_floor),
        "status": market.status.value,
    }
