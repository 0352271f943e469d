"""Paper trading behind the port: live public data of an exchange, our orders in the fill engine.

The public half is another gateway, asked for nothing that needs a key; the private half is here and in
memory, so no order leaves this machine and a restart begins anew. Requests take the latency of their terms
both ways, and are refused as the exchange refuses them. What is heard of a market feeds its engine as it is
handed on, so a market fills orders while somebody reads its events.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S, NewOrder, OrderState
from market_maker.exchanges.paper_account import PaperAccount
from market_maker.exchanges.paper_market import FeedDelay, PaperMarket, Terms
from market_maker.exchanges.paper_money import Purse
from market_maker.exchanges.paper_orders import UNKNOWN_ORDER, refusal
from market_maker.gateway import (
    Accepted,
    AccountEvent,
    BalanceReport,
    Candle,
    Fees,
    FillReport,
    FundingPayment,
    Gateway,
    MarketEvent,
    MarketNotFound,
    MarkPrice,
    OrderReport,
    OutcomeUnknown,
    PositionReport,
    StreamLost,
)
from market_maker.instrument import Instrument, MarketStatus
from market_maker.recordings.segment_source import FOREVER_NS

_MARKET_NOT_FOUND: Final = 1001
_TELL_EVERY_NS: Final = 5 * NS_PER_S
TermsOf = Callable[[Instrument], Terms]


class PaperGateway:
    """An account on paper, as a `Gateway`.

    `instruments` comes first, as with any.

    Parameters
    ----------
    public : Gateway
        The exchange; only what is public is asked of it. It is closed with this one.
    terms_of : callable
        How orders are matched in a market.
    purse : Purse
        The account's money.
    funding_every_s : float
        Time between two instants of funding, s.
    simulated : str
        What the model of the terms is called.
    """

    def __init__(
        self,
        public: Gateway,
        terms_of: TermsOf,
        purse: Purse,
        clock: Clock,
        *,
        funding_every_s: float = 3600.0,
        simulated: str = "paper",
    ) -> None:
        self.simulated = simulated
        self._public = public
        self._terms_of = terms_of
        self._clock = clock
        self._funding_every_s = funding_every_s
        self._account = PaperAccount(purse, clock)
        self._delay = FeedDelay()
        self._instruments: dict[str, Instrument] = {}
        self._statuses: dict[str, MarketStatus] = {}
        self._markets: dict[str, PaperMarket] = {}
        self._read: set[str] = set()
        self._pump: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self._next_ns = FOREVER_NS
        self._told_ns = 0
        self._switch: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def unknown(self) -> Counter[str]:
        """What the exchange said that nobody documented."""
        return self._public.unknown

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        """Trading rules of the named markets; of all where none is named."""
        self._instruments = await self._public.instruments(markets)
        self._statuses |= {name: found.status for name, found in self._instruments.items()}
        return dict(self._instruments)

    async def statuses(self, markets: Sequence[str]) -> dict[str, MarketStatus]:
        """Status of the named markets as it is now."""
        found = await self._public.statuses(markets)
        self._statuses |= found
        return found

    async def clock_skew_s(self) -> float:
        """How far the exchange's clock is ahead of ours, s."""
        return await self._public.clock_skew_s()

    async def candles(self, market: str, count: int) -> list[Candle]:
        """Return the last closed one-minute bars, oldest first."""
        return await self._public.candles(market, count)

    async def fees(self, market: str) -> Fees:
        """Fee rates of the terms."""
        return self._market(market).fees

    async def leverage(self, markets: Sequence[str]) -> dict[str, Decimal]:
        """Leverage that is set in the named markets."""
        self._check_open()
        return {market: self._account.purse.leverage(self._instrument(market)) for market in markets}

    async def set_leverage(self, market: str, leverage: Decimal) -> None:
        """Set the leverage in a market."""
        instrument = self._instrument(market)
        await self._travel()
        if leverage < 1:
            raise refusal(1049)
        if leverage > instrument.max_leverage:
            raise refusal(1050)
        self._account.purse.leverages[market] = leverage

    async def place(self, order: NewOrder) -> Accepted:
        """Send an order, or the atomic replacement of another."""
        market = self._market(order.market)
        self._check_open()
        if not market.has_book:
            msg = f"{order.market}: expected a book before the first order, had none yet"
            raise OutcomeUnknown(msg)
        code = self._account.refusal_code(order, market, self._statuses[order.market])
        if code:
            await self._travel()
            raise refusal(code)
        placed = self._account.place(order, market)
        self._wake(market)
        await placed.accepted
        return Accepted(placed.order_id, order.external_id)

    async def cancel(self, market: str, external_id: str) -> None:
        """Ask for the cancel of one order."""
        self._check_open()
        placed = self._account.orders.find(external_id)
        if placed is None or not placed.is_open:
            await self._travel()
            raise refusal(UNKNOWN_ORDER)
        paper = self._market(placed.order.market)
        waiting = self._account.cancel(placed, paper)
        self._wake(paper)
        await waiting

    async def mass_cancel(self, markets: Sequence[str]) -> None:
        """Ask for the cancel of every order in the named markets."""
        self._check_open()
        self._cancel_all([self._market(name) for name in markets])
        await self._travel()

    def _cancel_all(self, markets: Iterable[PaperMarket]) -> None:
        for market in markets:
            for placed in self._account.orders.open_in(market.instrument.name):
                # Nobody waits for one by one: their ends are on the stream.
                market.cancel(placed.number, self._clock.now_ns())
            self._wake(market)

    async def arm_dead_mans_switch(self, countdown_s: int) -> None:
        """Cancel all orders unless called again within the countdown; 0 disarms."""
        self._check_open()
        if self._switch is not None:
            self._switch.cancel()
            self._switch = None
        if countdown_s > 0:
            # What it sends then takes as long to the exchange as this call does.
            loop = asyncio.get_running_loop()
            self._switch = loop.call_later(countdown_s, lambda: self._cancel_all(self._markets.values()))
        await self._travel()

    async def open_orders(self) -> list[OrderReport]:
        """Every order that rests."""
        await self._travel()
        found = self._account.orders.open_in()
        return [placed.report() for placed in found if placed.state is OrderState.LIVE]

    async def order(self, external_id: str) -> OrderReport | None:
        """Look one order up; one on its way is not found yet."""
        await self._travel()
        placed = self._account.orders.find(external_id)
        return None if placed is None or placed.state is OrderState.PENDING_NEW else placed.report()

    async def fills(self, since_ns: int) -> list[FillReport]:
        """Matches since an instant, oldest first."""
        await self._travel()
        return [report for report in self._account.fills if report.fill.venue_ns >= since_ns]

    async def positions(self) -> list[PositionReport]:
        """Positions that are not flat."""
        await self._travel()
        purse, now_ns = self._account.purse, self._clock.now_ns()
        return [purse.position(holding, now_ns) for holding in purse.held]

    async def balance(self) -> BalanceReport:
        """The account's money."""
        await self._travel()
        return self._account.purse.balance(self._account.orders.open_in(), self._clock.now_ns())

    async def funding_payments(self, since_ns: int) -> list[FundingPayment]:
        """Funding booked since an instant, oldest first."""
        await self._travel()
        return [payment for payment in self._account.payments if payment.venue_ns >= since_ns]

    async def market_events(self, market: str) -> AsyncIterator[MarketEvent]:
        """What the exchange tells of a market; the first reader's events are those that orders fill by."""
        paper, instrument = self._market(market), self._instrument(market)
        feeds = market not in self._read
        self._read.add(market)
        self._pump = self._pump or asyncio.ensure_future(self._advance_all())
        if feeds and paper.has_book:
            paper.hear(StreamLost(market, "nobody read it for a while"), self._clock.now_ns())
        events = self._public.market_events(market)
        try:
            async for event in events:
                if feeds:
                    paper.hear(event, self._clock.now_ns())
                    self._wake(paper)
                if isinstance(event, MarkPrice):
                    self._account.on_mark(instrument, event.price)
                self._check_pump()
                yield event
        finally:
            if feeds:
                self._read.discard(market)
            if isinstance(events, AsyncGenerator):
                await events.aclose()

    async def account_events(self) -> AsyncIterator[AccountEvent]:
        """Orders, fills, positions and balance; starts with what is there."""
        outbox = self._account.listen()
        try:
            while (event := await outbox.take()) is not None:
                yield event
            self._check_pump()
        finally:
            self._account.leave(outbox)

    async def close(self) -> None:
        """Forget the account, and close the exchange's public side."""
        self._is_closed = True
        if self._switch is not None:
            self._switch.cancel()
        self._account.close(OutcomeUnknown("the gateway is closed"))
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._public.close()

    def _instrument(self, market: str) -> Instrument:
        if market not in self._instruments:
            msg = f"expected a market of {', '.join(sorted(self._instruments))}, was {market}"
            raise MarketNotFound(msg, _MARKET_NOT_FOUND)
        return self._instruments[market]

    def _market(self, name: str) -> PaperMarket:
        instrument = self._instrument(name)
        if name not in self._markets:
            self._markets[name] = PaperMarket(
                instrument,
                self._terms_of(instrument),
                self._delay,
                self._funding_every_s,
                lambda at_ns, line: self._account.take(self._markets[name], at_ns, line),
            )
        return self._markets[name]

    def _check_open(self) -> None:
        if self._is_closed:
            msg = "expected an open gateway, was closed"
            raise OutcomeUnknown(msg)

    async def _travel(self) -> None:
        """Wait as long as a request takes to the exchange and back."""
        self._check_open()
        await asyncio.sleep(max((market.round_trip_s for market in self._markets.values()), default=0.0))
        self._check_open()

    async def _advance_all(self) -> None:
        """Let the engines go on as time does."""
        try:
            while True:
                now_ns = self._clock.now_ns()
                for market in tuple(self._markets.values()):
                    if market.next_ns <= now_ns:
                        market.advance(now_ns)
                        # A step of the loop for each market: nobody waits for all of them.
                        await asyncio.sleep(0)
                self._tell(now_ns)
                await self._next(now_ns)
        except Exception as error:
            # Whoever waits is told; whoever reads fails with it.
            self._account.close(OutcomeUnknown(f"paper trading has failed: {error}"))
            raise

    def _tell(self, now_ns: int) -> None:
        """Tell the money now and then while a position changes its value."""
        if self._account.purse.held and now_ns - self._told_ns >= _TELL_EVERY_NS:
            self._told_ns = now_ns
            self._account.tell_money()

    async def _next(self, now_ns: int) -> None:
        """Wait until something is due."""
        self._next_ns = min((market.next_ns for market in self._markets.values()), default=FOREVER_NS)
        self._woken.clear()
        if self._next_ns == FOREVER_NS:
            await self._woken.wait()
            return
        loop = asyncio.get_running_loop()
        timer = loop.call_later(max(0.0, (self._next_ns - now_ns) / NS_PER_S), self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()

    def _wake(self, market: PaperMarket) -> None:
        """Look again where something is due earlier than it was."""
        if market.next_ns < self._next_ns:
            self._woken.set()

    def _check_pump(self) -> None:
        if self._pump is not None and self._pump.done() and not self._pump.cancelled():
            self._pump.result()
