"""What may become of a position: the worst that the orders of a market can still do to it.

Exposure is counted as if every order that may still fill did, those of one side before any of the other.
Reduce-only orders count up to flat and no further, because the exchange holds them there.

Over the markets it is counted by their betas too: what each would lose or gain where the reference market
moves. There the longs of one market and the shorts of another cancel; but only as far as they do for certain,
which is each market at its longest for the long side, and at its shortest for the short side.

Money is whole picodollars (10⁻¹² USD, suffix `_pusd`), so that tick × step is whole and sums are exact.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from market_maker.domain import Side

PUSD_PER_USD: Final = 10**12
PPM: Final = 1_000_000
NO_LIMIT: Final = 10**15
# A negative beta would let one long position make room for another: it counts as none. One above the range is
# an estimate gone wrong, and would close a market.
_HIGHEST_BETA: Final = 5.0


@dataclass(frozen=True, slots=True)
class NetBetaSettings:
    """The limit on what all markets together are exposed to of the reference market's moves.

    The default lets two markets be at their own default limit on the same side, or one with a beta of 2; and
    is two thirds of the gross limit: what is quoted on one side of every market binds before all is.

    Raises
    ------
    ValueError
        For a limit below zero.
    """

    max_net_beta_usd: float = 20_000.0  # |sum of beta × worst-case position| at the marks, USD; 0: no limit

    def __post_init__(self) -> None:
        if not (0 <= self.max_net_beta_usd < math.inf):
            msg = f"max_net_beta_usd: expected a number of at least 0, was {self.max_net_beta_usd!r}"
            raise ValueError(msg)


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
    """One market as it is now: signed position, worst-case orders, value of a lot at mark and liquidation.

    `beta_ppm` is its beta to the reference market (`beta_ppm` below), 1 until it is known.
    """

    rules: MarketRules
    position_lots: int
    exposure: Exposure
    lot_pusd: int
    liquidation_lot_pusd: int | None = None
    beta_ppm: int = PPM


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


def is_near_liquidation(markets: Mapping[str, MarketRisk], distance_ppm: int) -> bool:
    """Whether the mark of a market with a position is nearer to its liquidation price than a share of it."""
    for risk in markets.values():
        at = risk.liquidation_lot_pusd
        if at is None or risk.position_lots == 0:
            continue
        if abs(risk.lot_pusd - at) * PPM < risk.lot_pusd * distance_ppm:
            return True
    return False


def beta_ppm(beta: float) -> int:
    """Parts per million of an estimated beta, held within 0 to 5; one that is no number counts as 1.

    >>> [beta_ppm(beta) for beta in (0.8, -0.3, 90.0, math.nan)]
    [800000, 0, 5000000, 1000000]
    """
    return round(min(max(beta, 0.0), _HIGHEST_BETA) * PPM) if math.isfinite(beta) else PPM


def net_beta(markets: Mapping[str, MarketRisk], leave_out: str = "") -> tuple[int, int]:
    """Worst-case exposure to the reference market, 10⁻¹⁸ USD (picodollars × ppm), as long and as short.

    Long: Σ beta × longest position at the mark, short mirrored; either is negative where the sum stays on the
    other side whatever fills. Markets without a mark, and the one to leave out, count nothing.
    """
    long = short = 0
    for name, risk in markets.items():
        if name != leave_out:
            longest, shortest = worst_case(risk.position_lots, risk.exposure)
            long += longest * risk.lot_pusd * risk.beta_ppm
            short += shortest * risk.lot_pusd * risk.beta_ppm
    return long, short


def net_beta_room(markets: Mapping[str, MarketRisk], market: str, limit_pusd: int) -> tuple[int, int]:
    """Longest and shortest position of a market that the others leave of a net-beta limit, lots.

    Its own orders do not narrow it. 0 where the others alone are past the limit; `NO_LIMIT` where the market
    has no beta, or no mark.
    """
    risk = markets[market]
    lot = risk.lot_pusd * risk.beta_ppm
    if lot <= 0:
        return NO_LIMIT, NO_LIMIT
    long, short = net_beta(markets, leave_out=market)
    return max(0, (limit_pusd * PPM - long) // lot), max(0, (limit_pusd * PPM - short) // lot)


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
