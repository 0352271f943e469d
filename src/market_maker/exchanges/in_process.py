"""The emulator's core behind the port, without a socket.

The venue is driven by one timer of the event loop, set to the next instant at which anything is due there.
What crosses is what crosses a socket: streams are frames of bytes, decoded by the live client's decoders, and
look-ups are reply bodies. So nothing here knows the inside of the exchange, and the exchange nothing of us.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Final, TypeVar

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S, BookUpdate, NewOrder
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.requests import (
    CancelRequest,
    DeadMansSwitchRequest,
    MassCancelRequest,
    OrderRequest,
    Request,
    TimeInForce,
)
from market_maker.emulator.streams import AccountFrame, MarketFrame, Reply
from market_maker.exchanges import replies
from market_maker.exchanges.envelope import venue_error
from market_maker.exchanges.frames import (
    decode_account,
    decode_book,
    decode_funding,
    decode_mark,
    decode_trades,
)
from market_maker.exchanges.wire import CorruptFrame, Unknown, check_turn
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
    OrderReport,
    OutcomeUnknown,
    PositionReport,
    RateLimited,
    StreamLost,
)
from market_maker.instrument import Instrument
from market_maker.public_markets import select_markets
from market_maker.recordings.events import RecordingError

_LOOKUP_S: Final = 0.04
_HTTP_OK: Final = 200
_CLOSED: Final = "the exchange inside was closed"
K = TypeVar("K")
T = TypeVar("T")
Frames = asyncio.Queue[tuple[str, bytes] | None]


class InProcessVenue:
    """Drives an exchange inside this process and hands its outputs to whoever waits for them.

    Parameters
    ----------
    exchange : Exchange
        The sans-IO core.
    clock : Clock
        The time that the exchange lives in; in virtual time it must be the loop's.
    """

    def __init__(self, exchange: Exchange, clock: Clock) -> None:
        self.exchange = exchange
        self.clock = clock
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ns = 0
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._market_queues: dict[str, Frames] = {}
        self._account_queues: dict[int, Frames] = {}
        self._closed = False
        self._failure: Exception | None = None

    def start(self) -> None:
        """Begin to live; nothing happens at the exchange before."""
        self._arm()

    def close(self) -> None:
        """Stop: streams end, and requests that wait have an unknown outcome."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(OutcomeUnknown(_CLOSED))
        for queue in (*self._market_queues.values(), *self._account_queues.values()):
            queue.put_nowait(None)

    def check_failure(self) -> None:
        """Raise whatever the exchange, or one of its flows, failed with."""
        if self._failure is not None:
            raise self._failure

    async def send(self, account_id: int, request: Request) -> Reply:
        """Submit a request and wait for its reply.

        Raises
        ------
        OutcomeUnknown
            If the venue is closed.
        """
        self.check_open()
        ticket = self.exchange.submit(account_id, request, self.clock.now_ns())
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._waiting[ticket] = future
        self._arm()
        try:
            return await future
        finally:
            self._waiting.pop(ticket, None)

    def market_frames(self, market: str) -> Frames:
        """Subscribe to a market; an earlier subscription ends."""
        queue = self._renew(self._market_queues, market)
        if self._failure is not None:
            queue.put_nowait(None)
        self.exchange.subscribe_market(market)
        self._arm()
        return queue

    def account_frames(self, account_id: int) -> Frames:
        """Subscribe to an account; an earlier subscription ends."""
        queue = self._renew(self._account_queues, account_id)
        self.exchange.subscribe_account(account_id)
        self._arm()
        return queue

    def check_open(self) -> None:
        """Fail where the venue is closed.

        Raises
        ------
        OutcomeUnknown
            If it is.
        """
        if self._closed:
            raise OutcomeUnknown(_CLOSED)

    def _renew(self, queues: dict[K, Frames], key: K) -> Frames:
        old = queues.get(key)
        if old is not None:
            old.put_nowait(None)
        queues[key] = asyncio.Queue()
        if self._closed:
            queues[key].put_nowait(None)
        return queues[key]

    def _arm(self) -> None:
        due_ns = self.exchange.next_due_ns()
        if self._closed or due_ns is None:
            return
        if self._timer is not None:
            if self._timer_due_ns <= due_ns:
                return
            self._timer.cancel()
        self._timer_due_ns = due_ns
        delay_s = (due_ns - self.clock.now_ns()) / NS_PER_S
        self._timer = self._loop.call_later(max(delay_s, 0.0), self._advance)

    def _advance(self) -> None:
        self._timer = None
        # The loop's float time may be a hair short of the instant that the timer was set to.
        now_ns = max(self.clock.now_ns(), self._timer_due_ns)
        try:
            outputs = self.exchange.advance(now_ns)
        except RecordingError as error:
            # Its flow has ended. The exchange lives on, so that orders are cancelled and books compared.
            self._fail(error)
        except Exception as error:  # noqa: BLE001  (nobody hears of an error in a timer; the streams raise it)
            self._fail(error)
            self.close()
        else:
            for output in outputs:
                self._deliver(output)
        self._arm()

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        for queue in self._market_queues.values():
            queue.put_nowait(None)

    def _deliver(self, output: Reply | AccountFrame | MarketFrame) -> None:
        if isinstance(output, MarketFrame):
            queue = self._market_queues.get(output.market)
        elif isinstance(output, AccountFrame):
            queue = self._account_queues.get(output.account_id)
        else:
            future = self._waiting.get(output.ticket)
            if future is not None and not future.done():
                future.set_result(output)
            return
        if queue is not None:
            queue.put_nowait((output.kind, output.frame))


class InProcessGateway:
    """One account of the exchange inside, as a `Gateway`.

    `instruments` comes first: it says by which ticks and lots the frames are decoded.
    """

    def __init__(self, venue: InProcessVenue, account_id: int) -> None:
        self._venue = venue
        self._queries = venue.exchange.queries
        self._account_id = account_id
        self._instruments: dict[str, Instrument] = {}
        self.unknown: Unknown = Unknown()

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        """Trading rules of the named markets; of all where none is named."""
        listed = await self._look_up(
            self._queries.instruments, lambda body: replies.decode_markets(body, self.unknown)
        )
        offered = {name: listing.instrument for name, listing in listed.items()}
        self._instruments = select_markets(offered, markets) if markets else offered
        return dict(self._instruments)

    async def fees(self, market: str) -> Fees:
        """Fee rates of the account in a market."""
        self._instrument(market)
        rates = await self._look_up(lambda: self._queries.fees(self._account_id), replies.decode_fees)
        return rates[market]

    async def leverage(self, markets: Sequence[str]) -> dict[str, Decimal]:
        """Leverage that the account is set to in the named markets."""
        return await self._look_up(
            lambda: self._queries.leverage(self._account_id, markets), replies.decode_leverage
        )

    async def clock_skew_s(self) -> float:
        """Tell that there is none: it is the same clock."""
        return 0.0

    async def candles(self, market: str, count: int) -> list[Candle]:
        """Return the last closed one-minute bars, oldest first."""
        self._instrument(market)
        return await self._look_up(
            lambda: self._queries.candles(market, count, self._now_ns()), replies.decode_candles
        )

    async def place(self, order: NewOrder) -> Accepted:
        """Send an order, or the atomic replacement of another."""
        instrument = self._instrument(order.market)
        reply = await self._send(
            OrderRequest(
                market=order.market,
                external_id=order.external_id,
                side=order.side,
                price=instrument.price(order.price_ticks),
                qty=instrument.size(order.size_lots),
                expire_ns=order.expire_ns,
                nonce=order.nonce,
                time_in_force=TimeInForce.IOC if order.immediate_or_cancel else TimeInForce.GTT,
                post_only=order.post_only,
                reduce_only=order.reduce_only,
                cancel_id=order.replaces,
            )
        )
        return _decoded(replies.decode_accepted, reply.frame)

    async def cancel(self, market: str, external_id: str) -> None:
        """Ask for the cancel of one order."""
        await self._send(CancelRequest(external_id=external_id))

    async def mass_cancel(self, markets: Sequence[str]) -> None:
        """Ask for the cancel of every order of the account in the named markets."""
        await self._send(MassCancelRequest(markets=tuple(markets)))

    async def arm_dead_mans_switch(self, countdown_s: int) -> None:
        """Arm, feed or (0) disarm the dead man's switch."""
        await self._send(DeadMansSwitchRequest(countdown_s=countdown_s))

    async def open_orders(self) -> list[OrderReport]:
        """Every order of the account that rests."""
        return await self._look_up(lambda: self._queries.open_orders(self._account_id), self._orders)

    async def order(self, external_id: str) -> OrderReport | None:
        """Look one order up."""
        found = await self._look_up(
            lambda: self._queries.order_by_external_id(self._account_id, external_id), self._orders
        )
        return found[0] if found else None

    async def fills(self, since_ns: int) -> list[FillReport]:
        """Matches of the account since an instant, oldest first."""
        newest_first = await self._look_up(
            lambda: self._queries.trades(self._account_id, since_ns),
            lambda body: replies.decode_fills(body, self._instruments, self._now_ns(), self.unknown),
        )
        return newest_first[::-1]

    async def positions(self) -> list[PositionReport]:
        """Positions of the account, those that are not flat."""
        return await self._look_up(
            lambda: self._queries.positions(self._account_id),
            lambda body: replies.decode_positions(body, self._instruments, self.unknown),
        )

    async def balance(self) -> BalanceReport:
        """The account's money."""
        return await self._look_up(
            lambda: self._queries.balance(self._account_id, self._now_ns()), replies.decode_balance
        )

    async def funding_payments(self, since_ns: int) -> list[FundingPayment]:
        """Funding booked since an instant, oldest first."""
        return await self._look_up(
            lambda: self._queries.funding_payments(self._account_id, since_ns),
            lambda body: replies.decode_funding_payments(body, self._instruments),
        )

    async def market_events(self, market: str) -> AsyncIterator[MarketEvent]:
        """Book, trades, mark and funding of one market; a gap of the book or a corrupt frame resubscribes."""
        instrument = self._instrument(market)
        while True:
            queue = self._venue.market_frames(market)
            expected = 1
            try:
                while (item := await queue.get()) is not None:
                    for event in self._market_event(instrument, *item):
                        if isinstance(event, BookUpdate):
                            check_turn("book", event.seq, expected)
                            expected += 1
                        yield event
                self._venue.check_failure()
                return
            except CorruptFrame as error:
                yield StreamLost(market, str(error))

    def _market_event(self, instrument: Instrument, kind: str, frame: bytes) -> Sequence[MarketEvent]:
        if kind == "book":
            return (decode_book(frame, instrument, self._now_ns()),)
        if kind == "trades":
            return decode_trades(frame, instrument, self._now_ns())
        if kind == "mark":
            return (decode_mark(frame, instrument),)
        return (decode_funding(frame, instrument),)

    async def account_events(self) -> AsyncIterator[AccountEvent]:
        """Orders, fills, positions and balance of the account; a gap or a corrupt frame resubscribes."""
        while True:
            queue = self._venue.account_frames(self._account_id)
            expected = 1
            try:
                while (item := await queue.get()) is not None:
                    frame = decode_account(item[1], self._instruments, self._now_ns())
                    check_turn("account", frame.seq, expected)
                    expected += 1
                    self.unknown.update(frame.unknown)
                    for event in frame.events:
                        yield event
                self._venue.check_failure()
                return
            except CorruptFrame as error:
                yield StreamLost("", str(error))

    async def close(self) -> None:
        """Close the venue: it has no other client."""
        self._venue.close()

    def _now_ns(self) -> int:
        return self._venue.clock.now_ns()

    def _instrument(self, market: str) -> Instrument:
        if market not in self._instruments:
            msg = f"expected a market of {', '.join(sorted(self._instruments))}, was {market}"
            raise MarketNotFound(msg, 1001)
        return self._instruments[market]

    async def _send(self, request: Request) -> Reply:
        reply = await self._venue.send(self._account_id, request)
        if reply.http_status != _HTTP_OK:
            raise venue_error(reply.http_status, reply.frame)
        return reply

    def _orders(self, body: bytes) -> list[OrderReport]:
        return replies.decode_orders(body, self._instruments, self.unknown)

    async def _look_up(self, query: Callable[[], bytes], decode: Callable[[bytes], T]) -> T:
        await asyncio.sleep(_LOOKUP_S)
        self._venue.check_open()
        if not self._venue.exchange.admit(self._account_id, self._now_ns()):
            msg = "429: too many requests this minute"
            raise RateLimited(msg)
        return _decoded(decode, query())


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except CorruptFrame as error:
        raise OutcomeUnknown(str(error)) from error
