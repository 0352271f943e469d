"""What the REST API refuses at once, in the order of extended-api.md §8: HTTP status, code and message.

A refusal here means that nothing of the request exists. What passes may still fail in the matching engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.accounts import Account
from market_maker.emulator.margin import (
    available_for_trade,
    initial_rate,
    market_notional,
    order_cost,
    rate_at,
    tier_rate,
)
from market_maker.emulator.market import Market
from market_maker.emulator.orders import Order
from market_maker.emulator.requests import LeverageRequest, OrderRequest, OrderType, TimeInForce
from market_maker.emulator.rules import Mode
from market_maker.emulator.venue import Venue
from market_maker.instrument import Instrument, InstrumentError, MarketStatus

_DAY_NS = 86_400 * NS_PER_S
_LEVERAGE_DECIMALS = 2

MESSAGES = {
    400: "Bad request.",
    401: "Unauthorized.",
    403: "Forbidden.",
    404: "Not found.",
    429: "Rate limit exceeded.",
    1001: "Market not found.",
    1002: "Market is disabled.",
    1010: "Exchange is in maintenance mode.",
    1011: "Exchange is in post only mode.",
    1012: "Exchange is in reduce only mode.",
    1005: "Interval is not supported.",
    1014: "Market is in reduce only mode.",
    1049: "Leverage is below the minimum.",
    1050: "Leverage exceeds the maximum of the market.",
    10501: "Leverage exceeds the maximum for the value of the position.",
    1052: "Insufficient margin for this leverage.",
    1053: "Leverage has too many decimals.",
    1100: "Invalid Starknet public key.",
    1101: "Invalid StarkEx signature.",
    1102: "Invalid StarkEx vault.",
    1120: "Order quantity less than min trade size.",
    1121: "Invalid quantity due to the wrong size increment.",
    1122: "Order value exceeds max order value.",
    1123: "Invalid quantity precision.",
    1124: "Invalid price due to wrong price movement.",
    1125: "Invalid price precision.",
    1126: "Max open orders number exceeded.",
    1127: "Max position value exceeded.",
    1128: "Trading fees are invalid.",
    1132: "Order type is not allowed.",
    1133: "Invalid order parameters.",
    1134: "Duplicate order.",
    1135: "Invalid order expiration date.",
    1136: "Reduce-only order size exceeds open position size.",
    1137: "Position is missing for reduce-only order.",
    1138: "Position is the same side as reduce-only order.",
    1139: "Market order must have time in force IOC.",
    1140: "New order cost exceeds available balance.",
    1141: "Invalid price amount.",
    1142: "Edit order not found.",
}


class Refusal(NamedTuple):
    """A synchronous error reply."""

    http_status: int
    code: int

    @property
    def message(self) -> str:
        """Text that goes with the code."""
        return MESSAGES.get(self.code, f"Error {self.code}.")


@dataclass(slots=True)
class Case:
    """A request under examination. `order` exists once price and size are known to lie on the grid."""

    venue: Venue
    account: Account
    request: OrderRequest
    now_ns: int
    market: Market
    order: Order
    old: Order | None

    @property
    def instrument(self) -> Instrument:
        """Trading rules of the market."""
        return self.market.instrument

    @property
    def held_lots(self) -> int:
        """Signed position."""
        return self.account.position_lots(self.market.name)


def maintenance_refusal(venue: Venue) -> Refusal | None:
    """Refuse any request at all in maintenance."""
    if venue.mode is Mode.MAINTENANCE:
        return Refusal(venue.rules.orders.maintenance_http_status, 1010)
    return None


def leverage_refusal(venue: Venue, account: Account, request: LeverageRequest) -> Refusal | None:
    """Refuse a leverage that the market, the position in it or the account's money does not admit."""
    market, leverage = venue.markets.get(request.market), request.leverage
    if market is None:
        return Refusal(400, 1001)
    code = _leverage_code(market.instrument, leverage)
    if not code:
        value = abs(market.instrument.size(account.position_lots(market.name)) * market.mark)
        bound = tier_rate(market.instrument, value) * leverage > 1
        code = 10501 if bound else _leverage_margin_code(venue, account, market, leverage)
    return Refusal(400, code) if code else None


def _leverage_code(instrument: Instrument, leverage: Decimal) -> int:
    if not leverage.is_finite() or leverage < 1:
        return 1049
    if leverage > instrument.max_leverage:
        return 1050
    return 1053 if _decimals(leverage) > _LEVERAGE_DECIMALS else 0


def _leverage_margin_code(venue: Venue, account: Account, market: Market, leverage: Decimal) -> int:
    notional = market_notional(account, market)
    rate = rate_at(leverage, market.instrument, notional)
    more = notional * (rate - initial_rate(account, market.instrument, notional))
    return 1052 if more > 0 and more > available_for_trade(venue, account) else 0


def validate(venue: Venue, account: Account, request: OrderRequest, now_ns: int) -> Order | Refusal:
    """Examine an order; return it as the exchange will keep it, or the first reason against it."""
    market = venue.markets.get(request.market)
    code = _market_code(market, request, venue.mode)
    if code or market is None:
        return Refusal(400, code or 1001)
    code = _grid_code(market.instrument, request)
    if code:
        return Refusal(400, code)
    order = Order(
        order_id=0,
        account_id=account.account_id,
        request=request,
        price_ticks=market.instrument.ticks(request.price),
        lots=market.instrument.lots(request.qty),
        created_ns=now_ns,
        updated_ns=now_ns,
    )
    old = account.by_external.get(request.cancel_id) if request.cancel_id else None
    case = Case(venue, account, request, now_ns, market, order, old)
    code = next((code for check in _CHECKS if (code := check(case))), 0)
    return Refusal(400, code) if code else order


def _market_code(market: Market | None, request: OrderRequest, mode: Mode) -> int:
    if not request.external_id or (request.post_only and request.time_in_force is TimeInForce.IOC):
        return 1133
    if request.order_type is OrderType.MARKET and request.time_in_force is not TimeInForce.IOC:
        return 1139
    if market is None:
        return 1001
    if market.status is MarketStatus.REDUCE_ONLY:
        return 0 if request.reduce_only else 1014
    if market.status is not MarketStatus.ACTIVE:
        return 1002
    if mode is Mode.POST_ONLY:
        return 0 if request.post_only else 1011
    return 1012 if mode is Mode.REDUCE_ONLY and not request.reduce_only else 0


def _grid_code(instrument: Instrument, request: OrderRequest) -> int:
    if not request.qty.is_finite() or request.qty < instrument.min_size:
        return 1120
    if _decimals(request.qty) > _decimals(instrument.step):
        return 1123
    if not request.price.is_finite() or request.price <= 0:
        return 1141
    if _decimals(request.price) > _decimals(instrument.tick):
        return 1125
    try:
        instrument.lots(request.qty)
    except InstrumentError:
        return 1121
    try:
        instrument.ticks(request.price)
    except InstrumentError:
        return 1124
    return 0


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _order_value(case: Case) -> int:
    limit = case.instrument.max_limit_order_value
    if case.request.order_type is OrderType.MARKET:
        limit = case.instrument.max_market_order_value
    return 1122 if case.request.price * case.request.qty > limit else 0


def _band(case: Case) -> int:
    mark, price = case.market.mark, case.request.price
    if mark <= 0:
        return 0
    if case.request.side is Side.BUY:
        inside = price <= mark * (1 + case.instrument.price_cap)
    else:
        inside = price >= mark * (1 - case.instrument.price_floor)
    return 0 if inside else case.venue.rules.orders.price_band_code


def _expiry(case: Case) -> int:
    latest_ns = case.now_ns + case.venue.rules.orders.max_expiry_days * _DAY_NS
    return 0 if case.now_ns < case.request.expire_ns <= latest_ns else 1135


def _fee(case: Case) -> int:
    needed = case.account.maker_fee if case.request.post_only else case.account.taker_fee
    return 1128 if case.request.fee < max(needed, Decimal(0)) else 0


def _duplicate(case: Case) -> int:
    return 1134 if case.request.external_id in case.account.by_external else 0


def _edit(case: Case) -> int:
    if not case.request.cancel_id:
        return 0
    same_market = case.old is not None and case.old.is_open and case.old.market == case.market.name
    return 0 if same_market else 1142


def _reduce_only(case: Case) -> int:
    if not case.request.reduce_only:
        return 0
    if case.held_lots == 0:
        return 1137
    if case.held_lots * int(case.request.side) > 0:
        return 1138
    return 1136 if case.order.lots > abs(case.held_lots) else 0


def _open_cap(case: Case) -> int:
    count = len(case.account.open_in(case.market.name)) - (case.old is not None)
    return 1126 if count >= case.instrument.max_open_orders else 0


def _position_value(case: Case) -> int:
    side = case.request.side
    others = [o for o in case.account.open_in(case.market.name) if o.side is side and o is not case.old]
    lots = int(side) * case.held_lots + sum(o.remaining_lots for o in others) + case.order.lots
    value = case.instrument.value(case.order.price_ticks, lots)
    return 0 if case.request.reduce_only or value <= case.instrument.max_position_value else 1127


def _cost(case: Case) -> int:
    if case.request.reduce_only:
        return 0
    cost = order_cost(case.account, case.market, case.order, case.old)
    return 1140 if cost > available_for_trade(case.venue, case.account, case.old) else 0


def _settlement(case: Case) -> int:
    return case.request.settlement_code


_CHECKS: tuple[Callable[[Case], int], ...] = (
    _order_value,
    _band,
    _expiry,
    _fee,
    _duplicate,
    _edit,
    _reduce_only,
    _open_cap,
    _position_value,
    _cost,
    _settlement,
)
