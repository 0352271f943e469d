"""What is to be done about the part of a portfolio that moves with the reference market.

Net beta is Σ β_j·value_j (`correlation.net_beta_usd`). Three steps, each dearer than the one before: the
quotes of the reference market lean, which their effective inventory does by itself; beyond a soft limit a
post-only order rests at the touch, sized to bring net beta back to it; beyond a hard limit the breach, and no
more, is taken at once, after the own quotes in its way. Source: design.md, section 5, "Cross-market".

It refuses to trade more than what lies beyond a limit, so |net beta| never grows by a hedge and never changes
its sign; to go past the reference market's own limits; to pay more than the day's budget of fees; to act on a
net beta that is no number.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from market_maker.domain import BPS, NS_PER_S

_NS_PER_DAY: Final = 86_400 * NS_PER_S


@dataclass(frozen=True)
class HedgeSettings:
    """When the reference market is traded against the rest of the portfolio, and for how much.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    hedge_enabled: bool = False  # trade the reference market against the net beta of the portfolio
    hedge_net_beta_usd: float = 5_000.0  # USD of net beta beyond which an order rests
    hedge_hard_usd: float = 10_000.0  # USD of net beta beyond which the breach is taken
    hedge_fee_budget_usd: float = 10.0  # USD a UTC day; an order whose fees would pass it is not sent
    hedge_min_usd: float = 100.0  # USD, least order
    hedge_interval_s: float = 2.0  # s between two changes of the resting order, and between two takes

    def __post_init__(self) -> None:
        _require("hedge_net_beta_usd", self.hedge_net_beta_usd, 0.0, 1e12)
        _require("hedge_hard_usd", self.hedge_hard_usd, self.hedge_net_beta_usd, 1e12)
        _require("hedge_fee_budget_usd", self.hedge_fee_budget_usd, 0.0, 1e9)
        _require("hedge_min_usd", self.hedge_min_usd, 0.0, 1e9)
        _require("hedge_interval_s", self.hedge_interval_s, 0.1, 3600.0)


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        msg = f"{name}: expected {low:g} to {high:g}, was {value:g}"
        raise ValueError(msg)


class HedgeWhy(IntEnum):
    """What a plan comes from."""

    DISABLED = 0
    UNKNOWN = 1  # no net beta, book, or value of a lot
    WITHIN_LIMITS = 2
    TOO_SMALL = 3  # what lies beyond the limit is less than the least order
    NO_ROOM = 4  # the limits of the reference market leave none
    OVER_BUDGET = 5  # the fees would pass the day's budget
    WAITING = 6  # for the interval, or for an order that is on its way
    RESTING = 7
    TAKING = 8


class ReferenceMarket(NamedTuple):
    """The reference market as its desk knows it; the book without our own orders."""

    bid_ticks: int
    ask_ticks: int
    lot_usd: float  # value of a lot at the mark
    min_lots: int
    position_lots: int
    limit_long_lots: int  # largest positions in force
    limit_short_lots: int
    quote_buy_lots: int = 0  # own quotes that may still fill there, without hedges
    quote_sell_lots: int = 0
    maker_fee_bps: float = 0.0
    taker_fee_bps: float = 2.5


class HedgeOrder(NamedTuple):
    """An order in the reference market; a taking one has the last price that it may trade at."""

    side: int  # +1 buys, −1 sells
    price_ticks: int
    size_lots: int


class HedgeOrders(NamedTuple):
    """Hedges as they are: what rests, what is on its way, when both last changed, and fees of a day."""

    resting: HedgeOrder | None = None  # with what is left of it
    is_pending: bool = False  # a request for the resting order is not answered yet
    taking: HedgeOrder | None = None  # a taking order that is not answered yet, with what is left of it
    rested_ns: int = -(2**62)  # when the resting order was last placed, moved or cancelled
    took_ns: int = -(2**62)  # when the last taking order was sent
    day: int = -1  # since the epoch, UTC, that the fees belong to
    fees_usd: float = 0.0

    def with_fee(self, fee_usd: float, now_ns: int) -> "HedgeOrders":
        """The same with a fee that a hedge has paid; a new UTC day begins at 0."""
        return self._replace(day=now_ns // _NS_PER_DAY, fees_usd=self.fees_today(now_ns) + fee_usd)

    def fees_today(self, now_ns: int) -> float:
        """USD that hedges have paid since 00:00 UTC."""
        return self.fees_usd if now_ns // _NS_PER_DAY == self.day else 0.0


class HedgePlan(NamedTuple):
    """What is wanted now.

    `lean`: the side (+1 buys) of the reference market that lessens net beta, 0 for none: its quotes lean that
    way by their effective inventory. `rest`: the post-only order that is to rest (equal to what does: keep
    it); None: none is to. `take`: an immediate-or-cancel order to send now; before it, own quotes and hedges
    of the other side at its price or better are to be cancelled.
    """

    lean: int
    rest: HedgeOrder | None
    take: HedgeOrder | None
    why: HedgeWhy


def plan(
    settings: HedgeSettings,
    net_beta_usd: float,
    market: ReferenceMarket,
    orders: HedgeOrders,
    now_ns: int,
) -> HedgePlan:
    """Say which hedges are wanted.

    Parameters
    ----------
    net_beta_usd
        Position in the reference market that the portfolio moves like, its own included; USD, signed.
    market
        The reference market.
    orders
        Hedges as they are. The caller keeps them up to date, and calls again after each change, and now and
        then: a plan holds for one instant.
    now_ns
        Nanoseconds since the epoch.

    Examples
    --------
    >>> btc = ReferenceMarket(600_000, 600_010, 60.0, 1, 0, 500, 500)
    >>> settings = HedgeSettings(hedge_enabled=True)
    >>> plan(settings, 7_000.0, btc, HedgeOrders(), 0).rest
    HedgeOrder(side=-1, price_ticks=600010, size_lots=33)
    >>> plan(settings, -11_000.0, btc, HedgeOrders(), 0).take
    HedgeOrder(side=1, price_ticks=600010, size_lots=16)
    """
    if not settings.hedge_enabled:
        return HedgePlan(0, None, None, HedgeWhy.DISABLED)
    if not _is_known(net_beta_usd, market):
        return HedgePlan(0, None, None, HedgeWhy.UNKNOWN)
    lean = 0 if net_beta_usd == 0.0 else (-1 if net_beta_usd > 0.0 else 1)
    excess_usd = abs(net_beta_usd) - settings.hedge_net_beta_usd
    if lean == 0 or excess_usd <= 0.0:
        return HedgePlan(lean, None, None, HedgeWhy.WITHIN_LIMITS)
    budget_usd = settings.hedge_fee_budget_usd - orders.fees_today(now_ns)
    room = _room_lots(market, lean)
    breach = _Wanted(lean, abs(net_beta_usd) - settings.hedge_hard_usd, budget_usd, room)
    take, why = _take(settings, market, orders, breach, now_ns)
    # What is being taken is not to rest as well: both may fill.
    taken = sum(order.size_lots for order in (take, orders.taking) if order and order.side == lean)
    excess = _Wanted(lean, excess_usd - taken * market.lot_usd, budget_usd, room - taken)
    rest, rest_why = _rest(settings, market, orders, excess, now_ns)
    return HedgePlan(lean, rest, take, rest_why if why == HedgeWhy.TOO_SMALL else why)


class _Wanted(NamedTuple):
    side: int
    beyond_usd: float  # a limit
    budget_usd: float
    room_lots: int


def _is_known(net_beta_usd: float, market: ReferenceMarket) -> bool:
    has_book = 0 < market.bid_ticks < market.ask_ticks
    return has_book and math.isfinite(net_beta_usd) and 0.0 < market.lot_usd < math.inf


def _room_lots(market: ReferenceMarket, side: int) -> int:
    """What limits and own quotes leave for hedges on a side; a position is always let down to flat."""
    if side > 0:
        room = market.limit_long_lots - market.position_lots - market.quote_buy_lots
    else:
        room = market.limit_short_lots + market.position_lots - market.quote_sell_lots
    return max(room, -side * market.position_lots, 0)


def _least_lots(settings: HedgeSettings, market: ReferenceMarket) -> int:
    return max(market.min_lots, math.ceil(settings.hedge_min_usd / market.lot_usd), 1)


def _sized(market: ReferenceMarket, wanted: _Wanted, least: int, fee_bps: float) -> tuple[int, HedgeWhy]:
    """Lots of an order, rounded down; 0, and why there is to be none."""
    lots = math.floor(min(wanted.beyond_usd / market.lot_usd, 1e15))
    if lots < least:
        return 0, HedgeWhy.TOO_SMALL
    lots = min(lots, wanted.room_lots)
    if lots < least:
        return 0, HedgeWhy.NO_ROOM
    fee_usd = market.lot_usd * fee_bps / BPS
    if fee_usd > 0.0:
        lots = math.floor(min(lots, max(wanted.budget_usd, 0.0) / fee_usd))
    return (lots, HedgeWhy.RESTING) if lots >= least else (0, HedgeWhy.OVER_BUDGET)


def _take(
    settings: HedgeSettings, market: ReferenceMarket, orders: HedgeOrders, wanted: _Wanted, now_ns: int
) -> tuple[HedgeOrder | None, HedgeWhy]:
    lots, why = _sized(market, wanted, _least_lots(settings, market), market.taker_fee_bps)
    if not lots:
        return None, why
    if orders.taking is not None or _is_early(settings, orders.took_ns, now_ns):
        return None, HedgeWhy.WAITING
    price = market.ask_ticks if wanted.side > 0 else market.bid_ticks
    return HedgeOrder(wanted.side, price, lots), HedgeWhy.TAKING


def _rest(
    settings: HedgeSettings, market: ReferenceMarket, orders: HedgeOrders, wanted: _Wanted, now_ns: int
) -> tuple[HedgeOrder | None, HedgeWhy]:
    price = market.bid_ticks if wanted.side > 0 else market.ask_ticks
    may_change = not (orders.is_pending or _is_early(settings, orders.rested_ns, now_ns))
    old = orders.resting
    if old is not None and old.side == wanted.side:
        lots, _ = _sized(market, wanted, 0, market.maker_fee_bps)
        # So little too much brings net beta a little below the limit, and does not pay a place in the queue.
        slack_usd = min(settings.hedge_min_usd, settings.hedge_net_beta_usd)
        excess_usd = (old.size_lots - lots) * market.lot_usd
        is_right = old.price_ticks == price and -excess_usd <= settings.hedge_min_usd
        if excess_usd <= slack_usd and (is_right or not may_change):
            return old, HedgeWhy.RESTING if is_right else HedgeWhy.WAITING
    lots, why = _sized(market, wanted, _least_lots(settings, market), market.maker_fee_bps)
    if not lots:
        return None, why
    is_cut = old is not None and old.side == wanted.side
    if not (may_change or is_cut):
        return None, HedgeWhy.WAITING
    return HedgeOrder(wanted.side, price, lots), why


def _is_early(settings: HedgeSettings, then_ns: int, now_ns: int) -> bool:
    return now_ns - then_ns < settings.hedge_interval_s * NS_PER_S
