"""Where the price is between the bid and the ask, given how much stands on either side.

Heavy bids are about to push the mid up, and a quote around the plain mid is late. The weighted mid takes a
book of nine to one for a price nine tenths of the way across. The micro-price of Stoikov (2018; models.md,
section 4) is what the mid is expected to become: estimated from a recording (`fitting.micro_price`), applied
here as a table. Where there is no table the weighted mid stands in.

Rows of the table are ranges of the spread, columns ranges of |b| with b = (bids − asks)/(bids + asks) at the
best prices. Values are shares of the half-spread away from the heavier side: the weighted mid is the table
that says |b| everywhere, one row serves spreads of several widths, and −1 … 1 is [bid, ask]. Books of the
other sign are the mirror image, so no table can prefer a side. Lines join the centres of columns, or a size
that flickers about an edge would move every quote; rows are not joined, because spreads are whole ticks, and
a market one tick wide is a different one from a market of two.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Final

from market_maker.kernel import kernel

COLUMNS: Final = 5  # ranges of |b|, of equal width
SPREADS: Final = 8  # rows, at most
CELLS: Final = COLUMNS * SPREADS


@dataclass(frozen=True)
class MicroPriceSettings:
    """Lean of the fair value away from the heavier side. ValueError for a table that cannot be."""

    micro_price_enabled: bool = True  # when false the fair value is the mid
    micro_price_table: Annotated[tuple[float, ...], CELLS] = ()  # shares of the half-spread; 5 a spread
    micro_price_spreads_ticks: Annotated[tuple[float, ...], SPREADS] = ()  # ticks, widest spread of each row

    def __post_init__(self) -> None:
        edges, table = self.micro_price_spreads_ticks, self.micro_price_table
        wide = [0.0, *edges]
        ascends = all(low < high and math.isfinite(high) for low, high in zip(wide, edges, strict=False))
        whole = ascends and all(float(edge).is_integer() for edge in edges)
        checks = (
            (
                whole and len(edges) <= SPREADS,
                f"micro_price_spreads_ticks: expected up to {SPREADS} whole numbers from 1 that ascend",
                edges,
            ),
            (
                len(table) == COLUMNS * len(edges),
                f"micro_price_table: expected {COLUMNS} values for each of {len(edges)} ranges of the spread",
                f"{len(table)} values",
            ),
            (
                all(-1.0 <= share <= 1.0 for share in table),
                "micro_price_table: expected shares of the half-spread, -1 to 1",
                table,
            ),
        )
        for holds, expected, was in checks:
            if not holds:
                msg = f"{expected}, was {was}"
                raise ValueError(msg)


@kernel
def _row(settings: MicroPriceSettings, spread_ticks: float) -> int:
    """Row of a spread; the last row is for all that are wider, −1: there is no table."""
    row = -1
    for i in range(SPREADS):
        if settings.micro_price_spreads_ticks[i] > 0.0 and (
            row < 0 or spread_ticks > settings.micro_price_spreads_ticks[row]
        ):
            row = i
    return row


@kernel
def _share(settings: MicroPriceSettings, row: int, weight: float) -> float:
    """Value of a row at |b|: lines between the centres of columns, through 0 in balance, flat at the end."""
    position = weight * COLUMNS + 0.5
    left = min(int(position), COLUMNS)
    first = row * COLUMNS
    high = settings.micro_price_table[first + min(left, COLUMNS - 1)]
    # Left of the first column is its own mirror image.
    low = settings.micro_price_table[first + left - 1] if left > 0 else -high
    return float(low + (position - left) * (high - low))


@kernel
def lean_ticks(
    settings: MicroPriceSettings, bid_ticks: int, ask_ticks: int, bid_lots: int, ask_lots: int
) -> float:
    """Micro-price less the mid, ticks: positive where bids are heavier, within half of the spread.

    Without a table it is the weighted mid's. Disabled, without sizes, or in a market that is not open between
    its best prices, it is 0.
    """
    spread = float(ask_ticks) - float(bid_ticks)
    bids, asks = float(bid_lots), float(ask_lots)
    if not settings.micro_price_enabled or spread <= 0.0 or bids < 0.0 or asks < 0.0 or bids + asks <= 0.0:
        return 0.0
    balance = (bids - asks) / (bids + asks)
    row = _row(settings, spread)
    share = math.fabs(balance) if row < 0 else _share(settings, row, math.fabs(balance))
    return 0.5 * spread * math.copysign(1.0, balance) * min(max(share, -1.0), 1.0)
