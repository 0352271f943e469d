"""What may become of a position: the worst that the orders of a market can still do to it.

Exposure is counted as if every order that may still fill did, those of one side before any of the other.
Reduce-only orders count up to flat and no further, because the exchange holds them there.

Money is whole picodollars (10⁻¹² USD, suffix `_pusd`), so that tick × step is whole and sums are exact.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from market_maker.domain import Side

PUSD_PER_USD: Final = 10**12
PPM: Final = 1_000_000
NO_LIMIT: Final = 10**15


class Exposure(NamedTuple):
    """Lots of a market's orders that may still fill, by side; those of reduce-only orders apart."""

    buy_lots: int = 0
    sell_lots: int = 0
    reduce_buy_lots: int = 0
    reduce_sell_lots: int = 0
    orders: int = 0


class MarketRules(NamedTuple):
    """What does not change from decision to decision: a market's unit and its limits (`NO_LIMIT` if none)."""

    tick_lot_pusd: int  # value of one lot at a price of one tick
    max_position_lots: int
    max_position_pusd: int
    max_order_pusd: int
    initial_margin_ppm: int


class MarketRisk(NamedTuple):
    """One market as it is now: signed position, worst-case orders, value of a lot at mark and liquidation."""

    rules: MarketRules
    position_lots: int
    exposure: Exposure
    lot_pusd: int
    liquidation_lot_pusd: int | None = None


class AccountView(NamedTuple):
    """The account as the exchange last told it; `margin_ratio_ppm` is maintenance margin / equity."""

    equity_pusd: int
    available_pusd: int
    margin_ratio_ppm: int


class Portfolio(NamedTuple):
    """All markets, and the account if it is known."""

    markets: Mapping[str, MarketRisk]
    account: AccountView | None


def worst_case(position_lots: int, exposure: Exposure) -> tuple[int, int]:
    """Longest and shortest position that the orders can lead to, as lots long and lots short.

    Either is negative where even then the position stays on the other side of flat. Reduce-only orders
    carry the position to flat at most.

    >>> worst_case(10, Exposure(buy_lots=5, sell_lots=12, reduce_sell_lots=99))
    (15, 12)
    """
    buy, sell, reduce_buy, reduce_sell, _ = exposure
    if position_lots < 0:
        return min(0, position_lots + reduce_buy) + buy, sell - position_lots
    return position_lots + buy, min(0, reduce_sell - position_lots) + sell


def with_order(exposure: Exposure, side: Side, size_lots: int, *, reduce_only: bool) -> Exposure:
    """Exposure with one more order in it."""
    buy, sell, reduce_buy, reduce_sell, orders = exposure
    if side == Side.BUY:
        if reduce_only:
            return Exposure(buy, sell, reduce_buy + size_lots, reduce_sell, orders + 1)
        return Exposure(buy + size_lots, sell, reduce_buy, reduce_sell, orders + 1)
    if reduce_only:
        return Exposure(buy, sell, reduce_buy, reduce_sell + size_lots, orders + 1)
    return Exposure(buy, sell + size_lots, reduce_buy, reduce_sell, orders + 1)


def gross_pusd(risk: MarketRisk) -> int:
    """Worst-case notional of a market at its mark, on whichever side is larger."""
    return max(worst_case(risk.position_lots, risk.exposure)) * risk.lot_pusd


def initial_margin(risk: MarketRisk) -> int:
    """What a market binds of the account's money by the exchange's rule, 10⁻¹⁸ USD (picodollars × ppm).

    max(|position + buys|, |position − sells|) × rate, all at the mark. Unlike the worst case it counts
    reduce-only orders in full.
    """
    buy, sell, reduce_buy, reduce_sell, _ = risk.exposure
    lots = max(
        abs(risk.position_lots + buy + reduce_buy),
        abs(risk.position_lots - sell - reduce_sell),
    )
    return lots * risk.lot_pusd * risk.rules.initial_margin_ppm


def order_cost(risk: MarketRisk, side: Side, price_ticks: int, size_lots: int) -> int:
    """What the exchange asks to be available for one more order, 10⁻¹⁸ USD (picodollars × ppm).

    Buy: max(rate × P × (Q + min(0, 2 × (position + Σ open buys))) − open loss, 0) with the open loss
    min(Q × (mark − P), 0); sell mirrored (extended-api.md §4). The other side's orders do not lessen it.

    >>> rules = MarketRules(1, 9, 9, 9, initial_margin_ppm=100_000)
    >>> order_cost(MarketRisk(rules, 0, Exposure(sell_lots=99), lot_pusd=50), Side.BUY, 50, 2) // PPM
    10
    """
    buy, sell, reduce_buy, reduce_sell, _ = risk.exposure
    same_side = buy + reduce_buy if side == Side.BUY else sell + reduce_sell
    charged = size_lots + min(0, 2 * (side * risk.position_lots + same_side))
    price_pusd = price_ticks * risk.rules.tick_lot_pusd
    open_loss = min(side * size_lots * (risk.lot_pusd - price_pusd), 0)
    return max(risk.rules.initial_margin_ppm * price_pusd * charged - open_loss * PPM, 0)
