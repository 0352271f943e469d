"""The exchange's own books: what each account owes and owns, exactly.

The truth is the cash that flowed, deposit + Σ −q·p − fees + funding, and equity = cash + Σ position × mark.
The balance that the wire shows is derived: equity minus the unrealised PnL at an entry price that is
rounded.
"""

from collections import deque
from dataclasses import dataclass, field
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from typing import NamedTuple

from market_maker.domain import Side
from market_maker.emulator.orders import AccountTrade, Order, TradeType
from market_maker.instrument import Instrument

# Traps rounding: a sum of money that did not fit would raise instead of losing a digit.
EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
_ZERO = Decimal(0)
_OPEN_PRICE_EXTRA_DIGITS = 6


class FundingPayment(NamedTuple):
    """Funding booked on an account, USD: positive when received; lots are signed."""

    payment_id: int
    market: str
    position_id: int
    lots: int
    mark_price: Decimal
    rate: Decimal
    amount: Decimal
    time_ns: int


@dataclass(slots=True)
class Position:
    """Position in one market: signed lots, entry price (rounded), PnL realised since it was opened, USD.

    Funding and fees are parts of what was realised, funding positive when received, fees when paid. What
    was closed adds up in lots, and in ticks × lots for the mean exit price.
    """

    position_id: int
    market: str
    created_ns: int
    updated_ns: int
    lots: int = 0
    max_lots: int = 0
    open_price: Decimal = _ZERO
    realised: Decimal = _ZERO
    funding: Decimal = _ZERO
    open_fees: Decimal = _ZERO
    close_fees: Decimal = _ZERO
    closed_lots: int = 0
    closed_tick_lots: int = 0
    was_long: bool = True
    exit_type: TradeType = TradeType.TRADE


@dataclass(slots=True)
class Ledger:
    """Cash and positions of a party. Accounts', others' and the exchange's cash sum to the deposits."""

    cash: Decimal = _ZERO
    lots: dict[str, int] = field(default_factory=dict)

    def trade(self, market: str, signed_lots: int, signed_value: Decimal) -> None:
        """Book a match: lots come in, their value goes out."""
        self.lots[market] = self.lots.get(market, 0) + signed_lots
        self.cash = EXACT.subtract(self.cash, signed_value)

    def receive(self, amount: Decimal) -> None:
        """Book a payment, positive when received."""
        self.cash = EXACT.add(self.cash, amount)

    def pay(self, amount: Decimal) -> None:
        """Book a payment, positive when paid."""
        self.cash = EXACT.subtract(self.cash, amount)


@dataclass(slots=True)
class Account:
    """One account: its ledger, open orders and history. `leverage` holds where no market has its own."""

    account_id: int
    client_id: int
    deposit: Decimal
    leverage: Decimal
    maker_fee: Decimal
    taker_fee: Decimal
    history_limit: int
    ledger: Ledger = field(default_factory=Ledger)
    positions: dict[str, Position] = field(default_factory=dict)
    open: dict[int, Order] = field(default_factory=dict)
    by_external: dict[str, Order] = field(default_factory=dict)
    trades: deque[AccountTrade] = field(default_factory=deque)
    payments: deque[FundingPayment] = field(default_factory=deque)
    leverages: dict[str, Decimal] = field(default_factory=dict)
    by_id: dict[int, Order] = field(default_factory=dict)
    past_positions: deque[Position] = field(default_factory=deque)
    worst_lots: dict[str, int] = field(default_factory=dict)
    worst_value: dict[str, Decimal] = field(default_factory=dict)
    switch_due_ns: int = 0
    switch_fired_ns: int = 0
    matching_due_ns: int = 0
    _closed: deque[Order] = field(default_factory=deque)

    def position_lots(self, market: str) -> int:
        """Signed position, lots."""
        position = self.positions.get(market)
        return 0 if position is None else position.lots

    def leverage_in(self, market: str) -> Decimal:
        """Leverage that the account is set to in a market."""
        return self.leverages.get(market, self.leverage)

    def register(self, order: Order) -> None:
        """Take an accepted order in."""
        self.open[order.order_id] = order
        self.by_external[order.request.external_id] = order
        self.by_id[order.order_id] = order

    def retire(self, order: Order) -> None:
        """Move an order that ended to the history, which is finite."""
        del self.open[order.order_id]
        self._closed.append(order)
        if len(self._closed) > self.history_limit:
            oldest = self._closed.popleft()
            del self.by_id[oldest.order_id]
            # An order that closes by force may have the external id that somebody gave to another.
            if self.by_external.get(oldest.request.external_id) is oldest:
                del self.by_external[oldest.request.external_id]

    def open_in(self, market: str) -> list[Order]:
        """Open orders of a market, oldest first."""
        return [order for order in self.open.values() if order.request.market == market]

    def record_trade(self, trade: AccountTrade, value: Decimal) -> None:
        """Note a match; `value` is price × the position after it, for the worst that was ever held."""
        self.trades.append(trade)
        if len(self.trades) > self.history_limit:
            self.trades.popleft()
        held = abs(trade.position_after)
        if held > abs(trade.position_before):
            self.worst_lots[trade.market] = max(held, self.worst_lots.get(trade.market, 0))
            self.worst_value[trade.market] = max(abs(value), self.worst_value.get(trade.market, _ZERO))

    def record_payment(self, payment: FundingPayment) -> None:
        """Book a funding payment."""
        self.ledger.receive(payment.amount)
        position = self.positions[payment.market]
        position.realised = EXACT.add(position.realised, payment.amount)
        position.funding = EXACT.add(position.funding, payment.amount)
        self.payments.append(payment)
        if len(self.payments) > self.history_limit:
            self.payments.popleft()

    def record_position(self, position: Position) -> None:
        """Keep a position that ended."""
        self.past_positions.append(position)
        if len(self.past_positions) > self.history_limit:
            self.past_positions.popleft()

    def limit_breaches(self, market: str, limit_lots: int) -> int:
        """Return how many fills grew the position past a limit, by the exchange's own books."""
        fills = (trade for trade in self.trades if trade.market == market)
        return sum(
            1 for trade in fills if abs(trade.position_after) > max(limit_lots, abs(trade.position_before))
        )


def book_fill(position: Position, instrument: Instrument, signed_lots: int, price: Decimal) -> None:
    """Move a position by a fill: the entry price averages when it grows, PnL is realised when it shrinks."""
    before = position.lots
    after = before + signed_lots
    if before * signed_lots >= 0:
        held = position.open_price * abs(before) + price * abs(signed_lots)
        position.open_price = _rounded_entry(held / abs(after), instrument)
    else:
        closed = min(abs(before), abs(signed_lots))
        size = instrument.size(closed if before > 0 else -closed)
        gain = EXACT.multiply(EXACT.subtract(price, position.open_price), size)
        position.realised = EXACT.add(position.realised, gain)
        if before * after < 0:
            position.open_price = price
    position.lots = after
    position.max_lots = max(position.max_lots, abs(after))


def _rounded_entry(price: Decimal, instrument: Instrument) -> Decimal:
    exponent = instrument.tick.as_tuple().exponent
    digits = -int(exponent) if isinstance(exponent, int) else 0
    return round(price, digits + _OPEN_PRICE_EXTRA_DIGITS)


def unrealised(position: Position, instrument: Instrument, mark: Decimal) -> Decimal:
    """Return the PnL of a position at the mark, USD."""
    return EXACT.multiply(instrument.size(position.lots), EXACT.subtract(mark, position.open_price))


def signed(side: Side, lots: int) -> int:
    """Position change of a trade."""
    return lots if side is Side.BUY else -lots
