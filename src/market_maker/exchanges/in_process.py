"""The emulator's core behind the port, without a socket.

What crosses is what crosses a socket: streams are frames of bytes, decoded by the live client's decoders, and
look-ups are reply bodies. So nothing here knows the inside of the exchange, and the exchange nothing of us.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from decimal import Decimal
from typing import Final, TypeVar

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S, NewOrder
from market_maker.emulator.driver import ExchangeClosed, ExchangeDriver, Frames
from market_maker.emulator.requests import (
    CancelRequest,
    DeadMansSwitchRequest,
    LeverageRequest,
    MassCancelRequest,
    OrderRequest,
    Request,
    TimeInForce,
)
from market_maker.emulator.streams import ACCOUNT, PUBLIC_KINDS, Reply, Topic
from market_maker.exchanges import replies
from market_maker.exchanges.begin import BEGIN_S, NOT_BEGUN
from market_maker.exchanges.envelope import venue_error
from market_maker.exchanges.frames import (
    decode_account,
    decode_book,
    decode_funding,
    decode_trades,
)
from market_maker.exchanges.quotes import decode_bbo, decode_index, decode_mark
from market_maker.exchanges.turns import Turns
from market_maker.exchanges.wire import CorruptFrame, Unknown
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
    StreamLost,
)
from market_maker.instrument import Instrument, MarketStatus
from market_maker.public_markets import find_markets

_HTTP_OK: Final = 200
_LONGEST_REPLY_S: Final = 5.0
_SHORT_LIFE_NS: Final = NS_PER_S // 2
_RESUBSCRIBE_S: Final = 0.25
_CLOSED_BY_EXCHANGE: Final = "the exchange closed the stream"
_DECODE_PRICE: Final[dict[str, Callable[[bytes, Instrument], MarketEvent]]] = {
    "mark": decode_mark,
    "index": decode_index,
    "funding": decode_funding,
}
T = TypeVar("T")


class InProcessGateway:
    """One account of the exchange inside, as a `Gateway`.

    `instruments` comes first: it says by which ticks and lots the frames are decoded.

    Parameters
    ----------
    clock : Clock, optional
        Our clock, where it is another than the exchange's.
    """

    simulated = ""

    def __init__(self, driver: ExchangeDriver, account_id: int, clock: Clock | None = None) -> None:
        self._driver = driver
        self._clock = clock or driver.clock
        self._queries = driver.exchange.queries
        self._account_id = account_id
        self._instruments: dict[str, Instrument] = {}
        self.unknown: Unknown = Unknown()

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        """Trading rules of the named markets; of all where none is named."""
        listed = await self._look_up(
            self._queries.instruments, lambda body: replies.decode_markets(body, self.unknown)
        )
        offered = {name: listing.instrument for name, listing in listed.items()}
        self._instruments = find_markets(offered, markets) if markets else offered
        return dict(self._instruments)

    async def statuses(self, markets: Sequence[str]) -> dict[str, MarketStatus]:
        """Status of the named markets as it is now; one that is not listed any more is left out."""
        listed = await self._look_up(
            self._queries.instruments, lambda body: replies.decode_markets(body, self.unknown)
        )
        return {name: listed[name].instrument.status for name in markets if name in listed}

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

    async def set_leverage(self, market: str, leverage: Decimal) -> None:
        """Set the leverage of the account in a market."""
        self._instrument(market)
        await self._send(LeverageRequest(market=market, leverage=leverage))

    async def clock_skew_s(self) -> float:
        """How far the exchange's clock is ahead of ours, s; nothing, where it is the same."""
        return (self._driver.clock.now_ns() - self._now_ns()) / NS_PER_S

    async def candles(self, market: str, count: int) -> list[Candle]:
        """Return the last closed one-minute bars, oldest first."""
        self._instrument(market)
        return await self._look_up(
            lambda: self._queries.candles(market, count, self._driver.clock.now_ns()), replies.decode_candles
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
            lambda: self._queries.balance(self._account_id, self._driver.clock.now_ns()),
            replies.decode_balance,
        )

    async def funding_payments(self, since_ns: int) -> list[FundingPayment]:
        """Funding booked since an instant, oldest first."""
        return await self._look_up(
            lambda: self._queries.funding_payments(self._account_id, since_ns),
            lambda body: replies.decode_funding_payments(body, self._instruments),
        )

    async def market_events(self, market: str) -> AsyncIterator[MarketEvent]:
        """What a market tells; a gap of the book, a corrupt frame or a closed stream resubscribes.

        So does a book that does not begin: where a market stands still nothing shows that this was lost.
        """
        instrument = self._instrument(market)
        while True:
            queue: Frames = asyncio.Queue()
            streams = [self._driver.open_stream(Topic(kind, market), queue) for kind in PUBLIC_KINDS]
            turns, opened_ns = self._turns("book"), self._now_ns()
            has_begun, begin_s = False, asyncio.get_running_loop().time() + BEGIN_S
            try:
                while (item := await (queue.get() if has_begun else _first(queue, begin_s))) is not None:
                    has_begun = has_begun or item[0] == "book"
                    for event in self._market_event(instrument, turns, *item):
                        yield event
                why = _CLOSED_BY_EXCHANGE
            except CorruptFrame as error:
                why = str(error)
            except TimeoutError:
                why = NOT_BEGUN
            finally:
                for stream in streams:
                    stream.close()
            if self._has_ended():
                return
            yield StreamLost(market, why)
            await self._pause_after(opened_ns)

    def _market_event(
        self, instrument: Instrument, turns: Turns, kind: str, frame: bytes
    ) -> Sequence[MarketEvent]:
        if kind == "book":
            update = decode_book(frame, instrument, self._now_ns())
            return (update,) if turns.is_next(update.seq, frame) else ()
        if kind == "bbo":
            return (decode_bbo(frame, instrument, self._now_ns()),)
        if kind == "trades":
            return decode_trades(frame, instrument, self._now_ns())
        return (_DECODE_PRICE[kind](frame, instrument),)

    async def account_events(self) -> AsyncIterator[AccountEvent]:
        """Orders, fills, positions and balance of the account; what breaks the stream resubscribes.

        So does one that tells nothing in the beginning: an account without orders may have nothing to add.
        """
        while True:
            stream = self._driver.open_stream(Topic(ACCOUNT, account_id=self._account_id))
            turns, opened_ns = self._turns(ACCOUNT), self._now_ns()
            has_begun, begin_s = False, asyncio.get_running_loop().time() + BEGIN_S
            queue = stream.queue
            try:
                while (item := await (queue.get() if has_begun else _first(queue, begin_s))) is not None:
                    for event in self._account_event(turns, item[1]):
                        has_begun = True
                        yield event
                why = _CLOSED_BY_EXCHANGE
            except CorruptFrame as error:
                why = str(error)
            except TimeoutError:
                why = NOT_BEGUN
            finally:
                stream.close()
            if self._driver.is_closed and self._has_ended():
                return
            yield StreamLost("", why)
            await self._pause_after(opened_ns)

    def _account_event(self, turns: Turns, frame: bytes) -> Sequence[AccountEvent]:
        heard = decode_account(frame, self._instruments, self._now_ns(), self.unknown)
        return heard.events if turns.is_next(heard.seq, frame) else ()

    def _turns(self, stream: str) -> Turns:
        turns = Turns(stream, self.unknown)
        turns.restart(1)
        return turns

    async def _pause_after(self, opened_ns: int) -> None:
        """Wait before the next try where the last one was lost at once."""
        if self._now_ns() - opened_ns < _SHORT_LIFE_NS:
            await asyncio.sleep(_RESUBSCRIBE_S)

    def _has_ended(self) -> bool:
        """Whether nothing more will come; what the exchange failed with is raised."""
        self._driver.check_failure()
        return self._driver.is_closed

    async def close(self) -> None:
        """Close the exchange: it has no other client."""
        self._driver.close()

    def _now_ns(self) -> int:
        return self._clock.now_ns()

    def _instrument(self, market: str) -> Instrument:
        if market not in self._instruments:
            msg = f"expected a market of {', '.join(sorted(self._instruments))}, was {market}"
            raise MarketNotFound(msg, 1001)
        return self._instruments[market]

    async def _send(self, request: Request) -> Reply:
        return await self._answer(self._driver.send(self._account_id, request))

    async def _look_up(self, query: Callable[[], bytes], decode: Callable[[bytes], T]) -> T:
        reply = await self._answer(self._driver.ask(self._account_id, query))
        return _decoded(decode, reply.frame)

    async def _answer(self, sending: Awaitable[Reply]) -> Reply:
        try:
            async with asyncio.timeout(_LONGEST_REPLY_S):
                reply = await sending
        except TimeoutError as error:
            msg = f"expected a reply within {_LONGEST_REPLY_S:g} s, was none"
            raise OutcomeUnknown(msg) from error
        except ExchangeClosed as error:
            raise OutcomeUnknown(str(error)) from error
        if reply.http_status != _HTTP_OK:
            raise venue_error(reply.http_status, reply.frame)
        return reply

    def _orders(self, body: bytes) -> list[OrderReport]:
        return replies.decode_orders(body, self._instruments, self.unknown)


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except CorruptFrame as error:
        raise OutcomeUnknown(str(error)) from error


async def _first(queue: Frames, until_s: float) -> tuple[str, bytes] | None:
    """Next frame of a stream that has not begun yet; fails after an instant of the loop."""
    async with asyncio.timeout_at(until_s):
        return await queue.get()
