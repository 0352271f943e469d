"""The account on paper: the engine's log becomes what an exchange would tell of orders, fills and money."""

import asyncio
from collections import deque
from decimal import Decimal
from itertools import count
from typing import Any, Final

from market_maker.clock import Clock
from market_maker.domain import NS_PER_MS, Fill, NewOrder, OrderState, Side
from market_maker.exchanges.outbox import Outbox
from market_maker.exchanges.paper_market import RATE_PARTS, PaperMarket
from market_maker.exchanges.paper_money import EXACT, Purse, funding_of
from market_maker.exchanges.paper_orders import (
    UNKNOWN_ORDER,
    PaperOrder,
    PaperOrders,
    door_code,
    refusal,
)
from market_maker.fills.rows import TAKER, EventKind, FillReason
from market_maker.gateway import AccountEvent, FillReport, FundingPayment
from market_maker.instrument import Instrument, MarketStatus
from market_maker.recordings.store import PRICE_PARTS

_HISTORY: Final = 100_000
_ENDS: Final = {
    EventKind.CANCELLED: OrderState.CANCELLED,
    EventKind.EXPIRED: OrderState.EXPIRED,
    EventKind.REJECTED: OrderState.REJECTED,
}
Heard = Outbox[AccountEvent]


class PaperAccount:
    """Orders, fills and money of one account on paper.

    Attributes
    ----------
    orders : PaperOrders
        All that were sent, and what became of them.
    purse : Purse
        Cash, positions, leverage.
    fills, payments : deque
        Matches and funding, oldest first; of many the last ones.
    """

    def __init__(self, purse: Purse, clock: Clock) -> None:
        self.orders = PaperOrders()
        self.purse = purse
        self.fills: deque[FillReport] = deque(maxlen=_HISTORY)
        self.payments: deque[FundingPayment] = deque(maxlen=_HISTORY)
        self._clock = clock
        # Ids of two sessions on paper do not meet in their journals.
        self._ids = count(clock.now_ns() // NS_PER_MS * 1_000)
        self._listeners: list[Heard] = []
        self._on: Final = {
            EventKind.ACCEPTED: self._on_accepted,
            EventKind.REJECTED: self._on_rejected,
            EventKind.CANCELLED: self._on_end,
            EventKind.EXPIRED: self._on_end,
            EventKind.CANCEL_REJECTED: self._on_cancel_rejected,
            EventKind.FILL: self._on_fill,
            EventKind.FUNDING: self._on_funding,
        }

    def listen(self) -> Heard:
        """Hear what happens, from what is there on."""
        outbox = Heard()
        outbox.open()
        for placed in self.orders.open_in():
            if placed.state is OrderState.LIVE:
                outbox.put(placed.report())
        self._listeners.append(outbox)
        for event in self._money():
            outbox.put(event)
        return outbox

    def leave(self, outbox: Heard) -> None:
        """Hear no more."""
        self._listeners.remove(outbox)

    def close(self, error: Exception) -> None:
        """Let nobody wait any more: events end, replies are an error."""
        for outbox in self._listeners:
            outbox.end()
        for placed in self.orders.remembered():
            placed.fail(error)

    def refusal_code(self, order: NewOrder, market: PaperMarket, status: MarketStatus) -> int:
        """Code for which the exchange's API would not take an order; 0 where it would.

        What depends on the instant at which it arrives (band, expiry, predecessor, reduce-only) is checked by
        the engine there.
        """
        instrument = market.instrument
        self.purse.holding(instrument)
        if not order.external_id or (order.post_only and order.immediate_or_cancel):
            return 1133
        if status is not MarketStatus.ACTIVE and not (
            order.reduce_only and status is MarketStatus.REDUCE_ONLY
        ):
            return 1014 if status is MarketStatus.REDUCE_ONLY else 1002
        if instrument.value(order.price_ticks, order.size_lots) > instrument.max_limit_order_value:
            return 1122
        if self.orders.find(order.external_id) is not None:
            return 1134
        if order.replaces and self.orders.find(order.replaces) is None:
            return 1142
        return self._capacity_code(order, market)

    def _capacity_code(self, order: NewOrder, market: PaperMarket) -> int:
        instrument, orders = market.instrument, self.orders.open_in()
        if len(self.orders.open_in(order.market)) - bool(order.replaces) >= market.most_orders:
            return 1126
        if order.reduce_only:
            return 0
        lots = self.purse.standing_lots(order, orders) + order.size_lots
        if instrument.value(order.price_ticks, lots) > instrument.max_position_value:
            return 1127
        spared = [placed for placed in orders if placed.order.external_id != order.replaces]
        available = self.purse.equity - self.purse.initial_margin(spared)
        return 1140 if self.purse.order_cost(order, orders) > available else 0

    def place(self, order: NewOrder, market: PaperMarket) -> PaperOrder:
        """Send an order that nothing is against."""
        old = self.orders.find(order.replaces) if order.replaces else None
        accepted = asyncio.get_running_loop().create_future()
        placed = PaperOrder(order, next(self._ids), accepted)
        placed.number = market.send(order, old.number if old else 0, self._clock.now_ns())
        self.orders.add(placed)
        return placed

    def cancel(self, placed: PaperOrder, market: PaperMarket) -> asyncio.Future[None]:
        """Ask for the cancel of an order; the reply to be waited for."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        placed.cancels.append(waiting)
        market.cancel(placed.number, self._clock.now_ns())
        return waiting

    def take(self, market: PaperMarket, at_ns: int, line: Any) -> None:  # noqa: ANN401  (a line of the log)
        """Take in what happened at the exchange."""
        handle = self._on.get(EventKind(int(line["kind"])))
        if handle is not None:
            handle(market, at_ns, line)

    def _order_of(self, market: PaperMarket, line: Any) -> PaperOrder | None:  # noqa: ANN401
        return self.orders.numbered(market.instrument.name, int(line["order_id"]))

    def _on_accepted(self, market: PaperMarket, at_ns: int, line: Any) -> None:  # noqa: ANN401
        placed = self._order_of(market, line)
        if placed is not None:
            placed.move(OrderState.LIVE, FillReason.NONE, at_ns)
            placed.accept()
            self._tell(placed.report())

    def _on_rejected(self, market: PaperMarket, at_ns: int, line: Any) -> None:  # noqa: ANN401
        placed, reason = self._order_of(market, line), FillReason(int(line["reason"]))
        if placed is None:
            return
        code = door_code(reason, placed.order.side, int(line["position_lots"]))
        if code:
            # Nothing of it exists there.
            self.orders.forget(placed)
            placed.fail(refusal(code))
        else:
            self._on_end(market, at_ns, line)

    def _on_end(self, market: PaperMarket, at_ns: int, line: Any) -> None:  # noqa: ANN401
        placed = self._order_of(market, line)
        if placed is None:
            return
        placed.move(_ENDS[EventKind(int(line["kind"]))], FillReason(int(line["reason"])), at_ns)
        placed.accept()
        if placed.state is OrderState.CANCELLED and placed.reason == "NONE":
            placed.answer_cancel(None)
        self.orders.end(placed)
        self._tell(placed.report())

    def _on_cancel_rejected(self, market: PaperMarket, _at_ns: int, line: Any) -> None:  # noqa: ANN401
        placed = self._order_of(market, line)
        if placed is not None:
            placed.answer_cancel(refusal(UNKNOWN_ORDER))

    def _on_fill(self, market: PaperMarket, at_ns: int, line: Any) -> None:  # noqa: ANN401
        placed, instrument = self._order_of(market, line), market.instrument
        if placed is None:
            return
        ticks, lots = int(line["price_ticks"]), int(line["lots"])
        is_taker, side = int(line["role"]) == TAKER, placed.order.side
        placed.filled_lots += lots
        is_whole = not placed.remaining_lots
        placed.move(OrderState.FILLED if is_whole else OrderState.LIVE, FillReason.NONE, at_ns)
        placed.accept()
        if is_whole:
            self.orders.end(placed)
        value = instrument.value(ticks, lots)
        fee = EXACT.multiply(value, market.fees.taker if is_taker else market.fees.maker)
        self.purse.receive(EXACT.subtract(EXACT.multiply(value, Decimal(-int(side))), fee))
        self.purse.holding(instrument).move(int(side) * lots, instrument.price(ticks))
        report = FillReport(self._fill(placed, ticks, lots, at_ns, is_taker=is_taker), fee)
        self.fills.append(report)
        self._tell(placed.report())
        self._tell(report)
        self.tell_money(instrument)

    def _fill(self, placed: PaperOrder, ticks: int, lots: int, at_ns: int, *, is_taker: bool) -> Fill:
        order = placed.order
        return Fill(
            market=order.market,
            trade_id=next(self._ids),
            order_id=placed.order_id,
            external_id=order.external_id,
            side=Side(order.side),
            price_ticks=ticks,
            size_lots=lots,
            is_taker=is_taker,
            venue_ns=at_ns,
            recv_ns=self._clock.now_ns(),
        )

    def _on_funding(self, market: PaperMarket, at_ns: int, line: Any) -> None:  # noqa: ANN401
        instrument, lots = market.instrument, int(line["lots"])
        rate = Decimal(int(line["price_ticks"])) / RATE_PARTS
        mark = EXACT.multiply(instrument.tick, Decimal(int(line["remaining_lots"])) / PRICE_PARTS)
        amount = funding_of(lots, mark, rate, instrument)
        self.purse.receive(amount)
        name = instrument.name
        self.payments.append(FundingPayment(next(self._ids), name, lots, mark, rate, amount, at_ns))
        self.tell_money(instrument)

    def on_mark(self, instrument: Instrument, price: Decimal) -> None:
        """Value a position at a new mark."""
        self.purse.holding(instrument).mark = price

    def tell_money(self, changed: Instrument | None = None) -> None:
        """Tell the positions that are not flat, and the changed one, then the balance."""
        for event in self._money(changed):
            self._tell(event)

    def _money(self, changed: Instrument | None = None) -> list[AccountEvent]:
        now_ns, holdings = self._clock.now_ns(), self.purse.held
        if changed is not None and self.purse.holding(changed) not in holdings:
            holdings.append(self.purse.holding(changed))
        positions = [self.purse.position(holding, now_ns) for holding in holdings]
        return [*positions, self.purse.balance(self.orders.open_in(), now_ns)]

    def _tell(self, event: AccountEvent) -> None:
        for outbox in self._listeners:
            outbox.put(event)
