"""A small exchange that does as it is told: a real `Gateway`, its faults chosen by the test."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Protocol

from market_maker.domain import BookUpdate, Fill, NewOrder, OrderState, Side
from market_maker.gateway import (
    Accepted,
    AccountEvent,
    BalanceReport,
    Candle,
    Fees,
    FillReport,
    FundingPayment,
    MarketEvent,
    MarketNotFound,
    OrderRefused,
    OrderReport,
    PositionReport,
)
from market_maker.instrument import Instrument, MarketStatus

START_NS = 1_767_657_600_000_000_000


class ManualClock:
    """Time that stands until it is moved."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.ns = now_ns

    def now_ns(self) -> int:
        return self.ns

    def perf_ns(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


class FakeGateway:
    """One account on an exchange without a market.

    Orders rest until `fill` or `finish` says otherwise. What the account stream would tell collects in
    `stream` (tests hand it on with `pump`) and also comes out of `account_events`. The next request of a name
    raises after `fail(request, error)`, before it takes effect or, with `late=True`, after. Before it takes
    effect `delay_s[request]` is waited, after it `reply_delay_s[request]`. `calls` lists the requests.
    """

    def __init__(self, instruments: Sequence[Instrument] = ()) -> None:
        self.calls: list[tuple[str, str]] = []
        self.orders: dict[str, OrderReport] = {}
        self.sent: dict[str, NewOrder] = {}
        self.stream: deque[AccountEvent] = deque()
        self.past_fills: list[FillReport] = []
        self.position_reports: list[PositionReport] = []
        self.payments: list[FundingPayment] = []
        self.past_candles: list[Candle] = []
        self.money = BalanceReport(
            Decimal(10_000), Decimal(10_000), Decimal(10_000), Decimal(0), Decimal(0), START_NS
        )
        self.fee_rates = Fees(Decimal(0), Decimal("0.00025"))
        self.maker_fee = Decimal(0)
        self.account_leverage = Decimal(10)
        self.leverages: dict[str, Decimal] = {}
        self.skew_s = 0.0
        self.unknown: Counter[str] = Counter()
        self.delay_s: dict[str, float] = defaultdict(float)
        self.reply_delay_s: dict[str, float] = defaultdict(float)
        self.hidden: set[str] = set()
        self.deaf_to_cancels: set[str] = set()
        self.switch_s: int | None = None
        self.closed = False
        self._instruments = {instrument.name: instrument for instrument in instruments}
        self._faults: dict[str, deque[tuple[Exception, bool]]] = defaultdict(deque)
        self._market_queues: dict[str, asyncio.Queue[MarketEvent]] = defaultdict(asyncio.Queue)
        self._account_queue: asyncio.Queue[AccountEvent] = asyncio.Queue()
        self._ids = 0

    # What a test does to it.

    def fail(self, request: str, error: Exception, *, late: bool = False) -> None:
        """Let the next request of this name raise; late: after it was carried out."""
        self._faults[request].append((error, late))

    def rest(
        self, external_id: str, market: str, side: Side, price_ticks: int, size_lots: int
    ) -> OrderReport:
        """Put an order of the account in the book that this run did not send."""
        self._ids += 1
        report = OrderReport(
            market, self._ids, external_id, side, OrderState.LIVE, "", price_ticks, size_lots, 0,
            reduce_only=False, post_only=True, venue_ns=START_NS,
        )  # fmt: skip
        self.orders[external_id] = report
        return report

    def fill(
        self, external_id: str, lots: int, *, tell_order: bool = True, tell_trade: bool = True
    ) -> FillReport:
        """Match some of an order at its price."""
        order = self.orders[external_id]
        filled = order.filled_lots + lots
        state = OrderState.FILLED if filled == order.size_lots else order.state
        self.orders[external_id] = order._replace(filled_lots=filled, state=state)
        self._ids += 1
        report = FillReport(
            Fill(
                order.market, self._ids, order.order_id, external_id, order.side, order.price_ticks, lots,
                is_taker=False, venue_ns=START_NS, recv_ns=START_NS,
            ),
            self.maker_fee,
        )  # fmt: skip
        self.past_fills.append(report)
        if tell_order:
            self._tell(self.orders[external_id])
        if tell_trade:
            self._tell(report)
        return report

    def finish(
        self, external_id: str, state: OrderState, reason: str = "", *, tell: bool = True
    ) -> OrderReport:
        """End an order."""
        self.orders[external_id] = self.orders[external_id]._replace(state=state, reason=reason)
        if tell:
            self._tell(self.orders[external_id])
        return self.orders[external_id]

    def send_market(self, event: MarketEvent) -> None:
        """Queue an event of a market's stream."""
        self._market_queues[event.market].put_nowait(event)

    def send_account(self, event: AccountEvent) -> None:
        """Queue an event of the account stream."""
        self._tell(event)

    def resting(self) -> list[str]:
        """External ids of what rests."""
        return [name for name, order in self.orders.items() if order.state == OrderState.LIVE]

    def _tell(self, event: AccountEvent) -> None:
        self.stream.append(event)
        self._account_queue.put_nowait(event)

    async def _enter(self, request: str, what: str = "") -> None:
        self.calls.append((request, what))
        if self.delay_s[request]:
            await asyncio.sleep(self.delay_s[request])
        if self._faults[request] and not self._faults[request][0][1]:
            raise self._faults[request].popleft()[0]

    async def _leave(self, request: str) -> None:
        if self.reply_delay_s[request]:
            await asyncio.sleep(self.reply_delay_s[request])
        if self._faults[request] and self._faults[request][0][1]:
            raise self._faults[request].popleft()[0]

    # The port.

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        await self._enter("instruments")
        for market in markets:
            if market not in self._instruments:
                msg = f"expected one of {', '.join(self._instruments)}, was {market}"
                raise MarketNotFound(msg, 1001)
        return {name: self._instruments[name] for name in markets or self._instruments}

    async def statuses(self, markets: Sequence[str]) -> dict[str, MarketStatus]:
        await self._enter("statuses")
        return {name: self._instruments[name].status for name in markets if name in self._instruments}

    async def fees(self, market: str) -> Fees:
        await self._enter("fees", market)
        return self.fee_rates

    async def leverage(self, markets: Sequence[str]) -> dict[str, Decimal]:
        await self._enter("leverage")
        return {market: self.leverages.get(market, self.account_leverage) for market in markets}

    async def set_leverage(self, market: str, leverage: Decimal) -> None:
        await self._enter("set_leverage", f"{market} {leverage}")
        self.leverages[market] = leverage

    async def clock_skew_s(self) -> float:
        await self._enter("clock_skew_s")
        return self.skew_s

    async def candles(self, market: str, count: int) -> list[Candle]:
        await self._enter("candles", market)
        return self.past_candles[-count:]

    async def place(self, order: NewOrder) -> Accepted:
        await self._enter("place", order.external_id)
        if order.external_id in self.orders:
            raise OrderRefused("DuplicateOrder", 1134)
        if order.replaces:
            old = self.orders.get(order.replaces)
            if old is None or old.state != OrderState.LIVE:
                raise OrderRefused("EditOrderNotFound", 1142)
            self.finish(order.replaces, OrderState.CANCELLED, "ORDER_REPLACED")
        self._ids += 1
        self.sent[order.external_id] = order
        self.orders[order.external_id] = OrderReport(
            order.market, self._ids, order.external_id, order.side, OrderState.LIVE, "", order.price_ticks,
            order.size_lots, 0, order.reduce_only, order.post_only, START_NS,
        )  # fmt: skip
        accepted = Accepted(self._ids, order.external_id)
        self._tell(self.orders[order.external_id])
        await self._leave("place")
        return accepted

    async def cancel(self, market: str, external_id: str) -> None:
        await self._enter("cancel", external_id)
        order = self.orders.get(external_id)
        if order is None or order.state != OrderState.LIVE or order.market != market:
            raise OrderRefused("NotFound", 404)
        if external_id not in self.deaf_to_cancels:
            self.finish(external_id, OrderState.CANCELLED)
        await self._leave("cancel")

    async def mass_cancel(self, markets: Sequence[str]) -> None:
        await self._enter("mass_cancel", ",".join(markets))
        for name in self.resting():
            if self.orders[name].market in markets and name not in self.deaf_to_cancels:
                self.finish(name, OrderState.CANCELLED)
        await self._leave("mass_cancel")

    async def arm_dead_mans_switch(self, countdown_s: int) -> None:
        await self._enter("arm_dead_mans_switch", str(countdown_s))
        self.switch_s = countdown_s

    async def open_orders(self) -> list[OrderReport]:
        await self._enter("open_orders")
        return [self.orders[name] for name in self.resting() if name not in self.hidden]

    async def order(self, external_id: str) -> OrderReport | None:
        await self._enter("order", external_id)
        return None if external_id in self.hidden else self.orders.get(external_id)

    async def fills(self, since_ns: int) -> list[FillReport]:
        await self._enter("fills", str(since_ns))
        return [report for report in self.past_fills if report.fill.venue_ns >= since_ns]

    async def positions(self) -> list[PositionReport]:
        await self._enter("positions")
        return self.position_reports

    async def balance(self) -> BalanceReport:
        await self._enter("balance")
        return self.money

    async def funding_payments(self, since_ns: int) -> list[FundingPayment]:
        await self._enter("funding_payments", str(since_ns))
        return [payment for payment in self.payments if payment.venue_ns >= since_ns]

    async def market_events(self, market: str) -> AsyncIterator[MarketEvent]:
        while not self.closed:
            yield await self._market_queues[market].get()

    async def account_events(self) -> AsyncIterator[AccountEvent]:
        while not self.closed:
            yield await self._account_queue.get()

    async def close(self) -> None:
        self.closed = True


class OrderListener(Protocol):
    """Who follows orders."""

    def on_order_report(self, report: OrderReport) -> None: ...

    def on_fill(self, report: FillReport) -> Fill | None: ...


def pump(gateway: FakeGateway, listener: OrderListener) -> None:
    """Hand on what the account stream has to tell of orders."""
    while gateway.stream:
        event = gateway.stream.popleft()
        if isinstance(event, OrderReport):
            listener.on_order_report(event)
        elif isinstance(event, FillReport):
            listener.on_fill(event)


def snapshot(
    market: str, bids: list[tuple[int, int]], asks: list[tuple[int, int]], now_ns: int = START_NS
) -> BookUpdate:
    """A whole book."""
    return BookUpdate(market, is_snapshot=True, bids=bids, asks=asks, seq=1, venue_ns=now_ns, recv_ns=now_ns)
