"""An account's orders, trades, position, money and funding as the wire shows them, on stream and REST."""

from decimal import Decimal

import msgspec

from market_maker.domain import Side
from market_maker.emulator.accounts import EXACT, Account, FundingPayment, Position, unrealised
from market_maker.emulator.frames import Scale, millis, text
from market_maker.emulator.margin import initial_margin, liquidation_price, maintenance_margin
from market_maker.emulator.orders import AccountTrade, Order
from market_maker.emulator.venue import Venue

_ZERO = Decimal(0)
_RATIO_DIGITS = 6
_FIRST_TO_BE_CLOSED = 1


class WireOrder(msgspec.Struct, rename="camel", omit_defaults=True):
    """An order."""

    id: int
    account_id: int
    external_id: str
    market: str
    type: str
    side: str
    status: str
    price: str
    qty: str
    filled_qty: str
    cancelled_qty: str
    payed_fee: str
    reduce_only: bool
    post_only: bool
    created_time: int
    updated_time: int
    time_in_force: str
    expire_time: int
    status_reason: str = ""
    average_price: str = ""


class WireTrade(msgspec.Struct, rename="camel", omit_defaults=True):
    """A match of an account; the external id is on the stream only."""

    id: int
    account_id: int
    market: str
    order_id: int
    side: str
    price: str
    qty: str
    value: str
    fee: str
    trade_type: str
    created_time: int
    is_taker: bool
    external_order_id: str = ""


class WirePosition(msgspec.Struct, rename="camel", omit_defaults=True):
    """A position; size and value absolute, direction in the side."""

    id: int
    account_id: int
    market: str
    status: str
    side: str
    leverage: str
    size: str
    value: str
    open_price: str
    mark_price: str
    margin: str
    unrealised_pnl: str
    realised_pnl: str
    max_position_size: str
    created_at: int
    updated_at: int
    mid_price_unrealised_pnl: str
    adl: int
    liquidation_price: str = ""


class WirePnlParts(msgspec.Struct, rename="camel"):
    """What a position realised, in parts: funding positive when received, fees negative."""

    trade_pnl: str
    funding_fees: str
    open_fees: str
    close_fees: str


class WirePastPosition(msgspec.Struct, rename="camel", omit_defaults=True):
    """A position of the history, open or ended; `size` is what is still held."""

    id: int
    account_id: int
    market: str
    side: str
    size: str
    max_position_size: str
    leverage: str
    open_price: str
    realised_pnl: str
    realised_pnl_breakdown: WirePnlParts
    created_time: int
    exit_price: str = ""
    exit_type: str = ""
    closed_time: int = 0


class WireBalance(msgspec.Struct, rename="camel"):
    """The account's money."""

    collateral_name: str
    balance: str
    status: str
    equity: str
    available_for_trade: str
    available_for_withdrawal: str
    unrealised_pnl: str
    initial_margin: str
    margin_ratio: str
    updated_time: int
    exposure: str
    leverage: str
    account_health: str
    spot_equity: str = "0"
    spot_equity_for_available_for_trade: str = "0"
    withdrawable_unrealised_pnl: str = "0"
    collateral_reserved_for_spot_orders: str = "0"


class WirePayment(msgspec.Struct, rename="camel"):
    """A funding payment; the fee is positive when received."""

    id: int
    account_id: int
    market: str
    position_id: int
    side: str
    size: str
    value: str
    mark_price: str
    funding_fee: str
    funding_rate: str
    paid_time: int


def _side(side: Side) -> str:
    return "BUY" if side is Side.BUY else "SELL"


def _direction(lots: int) -> str:
    return "LONG" if lots >= 0 else "SHORT"


class Wire:
    """Turns the exchange's records into those of the wire."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self.scales = {name: Scale(market.instrument) for name, market in venue.markets.items()}

    def order(self, order: Order) -> WireOrder:
        """Show an order as it stands."""
        scale, request = self.scales[order.market], order.request
        average = ""
        if order.filled_lots:
            tick = self._venue.markets[order.market].instrument.tick
            average = text(round(tick * order.filled_tick_lots / order.filled_lots, 16))
        return WireOrder(
            id=order.order_id,
            account_id=order.account_id,
            external_id=request.external_id,
            market=order.market,
            type=request.order_type.value,
            side=_side(order.side),
            status=order.status.value,
            price=scale.price(order.price_ticks),
            qty=scale.size(order.lots),
            filled_qty=scale.size(order.filled_lots),
            cancelled_qty=scale.size(0 if order.is_open else order.remaining_lots),
            payed_fee=text(order.fee),
            reduce_only=request.reduce_only,
            post_only=request.post_only,
            created_time=millis(order.created_ns),
            updated_time=millis(order.updated_ns),
            time_in_force=request.time_in_force.value,
            expire_time=millis(request.expire_ns),
            status_reason="" if order.reason.value == "NONE" else order.reason.value,
            average_price=average,
        )

    def trade(self, account_id: int, trade: AccountTrade, *, on_stream: bool) -> WireTrade:
        """Show a match."""
        scale = self.scales[trade.market]
        value = self._venue.markets[trade.market].instrument.value(trade.price_ticks, trade.lots)
        return WireTrade(
            id=trade.trade_id,
            account_id=account_id,
            market=trade.market,
            order_id=trade.order_id,
            side=_side(trade.side),
            price=scale.price(trade.price_ticks),
            qty=scale.size(trade.lots),
            value=text(value),
            fee=text(trade.fee),
            trade_type=trade.trade_type.value,
            created_time=millis(trade.time_ns),
            is_taker=trade.is_taker,
            external_order_id=trade.external_id if on_stream else "",
        )

    def position(self, account: Account, position: Position) -> WirePosition:
        """Show a position; one without lots is CLOSED."""
        market = self._venue.markets[position.market]
        instrument, scale = market.instrument, self.scales[position.market]
        value = abs(instrument.size(position.lots) * market.mark)
        liquidation = liquidation_price(self._venue, account, market)
        leverage = account.leverage_in(market.name)
        return WirePosition(
            id=position.position_id,
            account_id=account.account_id,
            market=position.market,
            status="OPENED" if position.lots else "CLOSED",
            side=_direction(position.lots),
            leverage=text(leverage),
            size=scale.size(abs(position.lots)),
            value=text(value),
            open_price=text(position.open_price),
            mark_price=text(market.mark),
            margin=text(value / leverage),
            unrealised_pnl=text(unrealised(position, instrument, market.mark)),
            realised_pnl=text(position.realised),
            max_position_size=scale.size(position.max_lots),
            created_at=millis(position.created_ns),
            updated_at=millis(position.updated_ns),
            mid_price_unrealised_pnl=text(unrealised(position, instrument, market.mid)),
            adl=_FIRST_TO_BE_CLOSED,
            liquidation_price="" if liquidation is None else text(round(liquidation, 8)),
        )

    def past_position(self, account: Account, position: Position) -> WirePastPosition:
        """Show a position with what it realised."""
        scale, tick = self.scales[position.market], self._venue.markets[position.market].instrument.tick
        fees = EXACT.add(position.open_fees, position.close_fees)
        traded = EXACT.subtract(EXACT.add(position.realised, fees), position.funding)
        closed = position.closed_lots
        parts = WirePnlParts(
            trade_pnl=text(traded),
            funding_fees=text(position.funding),
            open_fees=text(-position.open_fees),
            close_fees=text(-position.close_fees),
        )
        has_ended = position.lots == 0
        return WirePastPosition(
            id=position.position_id,
            account_id=account.account_id,
            market=position.market,
            side="LONG" if position.was_long else "SHORT",
            size=scale.size(abs(position.lots)),
            max_position_size=scale.size(position.max_lots),
            leverage=text(account.leverage_in(position.market)),
            open_price=text(position.open_price),
            realised_pnl=text(position.realised),
            realised_pnl_breakdown=parts,
            created_time=millis(position.created_ns),
            exit_price=text(round(tick * position.closed_tick_lots / closed, 16)) if closed else "",
            exit_type=position.exit_type.value if has_ended else "",
            closed_time=millis(position.updated_ns) if has_ended else 0,
        )

    def balance(self, account: Account, now_ns: int) -> WireBalance:
        """Show the money: equity to the last digit, balance as equity − unrealised PnL."""
        venue = self._venue
        equity = venue.equity(account)
        pnl, exposure = _ZERO, _ZERO
        for position in account.positions.values():
            market = venue.markets[position.market]
            pnl = EXACT.add(pnl, unrealised(position, market.instrument, market.mark))
            exposure += abs(market.instrument.size(position.lots) * market.mark)
        balance = EXACT.subtract(equity, pnl)
        margin = initial_margin(venue, account)
        available = EXACT.subtract(equity, margin)
        maintenance = maintenance_margin(venue, account)
        return WireBalance(
            collateral_name="USD",
            balance=text(balance),
            status="ACTIVE",
            equity=text(equity),
            available_for_trade=text(available),
            available_for_withdrawal=text(max(_ZERO, min(balance, available))),
            unrealised_pnl=text(pnl),
            initial_margin=text(margin),
            margin_ratio=text(_ratio(maintenance, equity)),
            updated_time=millis(now_ns),
            exposure=text(exposure),
            leverage=text(_ratio(exposure, equity)),
            account_health=text(max(_ZERO, 1 - _ratio(maintenance, equity))),
        )

    def payment(self, account_id: int, payment: FundingPayment) -> WirePayment:
        """Show a funding payment."""
        scale = self.scales[payment.market]
        size = self._venue.markets[payment.market].instrument.size(abs(payment.lots))
        return WirePayment(
            id=payment.payment_id,
            account_id=account_id,
            market=payment.market,
            position_id=payment.position_id,
            side=_direction(payment.lots),
            size=scale.size(abs(payment.lots)),
            value=text(EXACT.multiply(size, payment.mark_price)),
            mark_price=text(payment.mark_price),
            funding_fee=text(payment.amount),
            funding_rate=text(payment.rate),
            paid_time=millis(payment.time_ns),
        )


def _ratio(part: Decimal, whole: Decimal) -> Decimal:
    """Return part / whole, rounded; what exceeds a worthless whole is shown as 1000."""
    if part == 0:
        return _ZERO
    return round(part / whole, _RATIO_DIGITS) if whole > 0 else Decimal(1000)
