"""The v1 streams: one WebSocket for each topic, its frames as the exchange sends them.

What is wrong with a stream's address or key is the answer to its handshake: 403, 401 or 404.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from market_maker.emulator.driver import Frames
from market_maker.emulator.market_queries import CANDLE_KINDS, CandleShape
from market_maker.emulator.server_calls import API_KEY, NOT_FOUND, UNAUTHORIZED, Arguments, CallRefused, Desk
from market_maker.emulator.server_connection import Connection
from market_maker.emulator.server_public import candle_minutes
from market_maker.emulator.server_rules import STREAM_PATH, ServerRules
from market_maker.emulator.streams import ACCOUNT, Topic

_CLOSE_S: Final = 2.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_KINDS: Final = {
    "/orderbooks": "book",
    "/publicTrades": "trades",
    "/prices/mark": "mark",
    "/prices/index": "index",
    "/funding": "funding",
}


class StreamCalls:
    """Accepts streams, and closes them with the server."""

    def __init__(self, desk: Desk, rules: ServerRules) -> None:
        self._desk = desk
        self._driver = desk.driver
        self._rules = rules
        self._open: set[Connection] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        """Paths and what answers them."""
        for path, kind in _KINDS.items():
            handler = self._handler(self._public_topic(kind))
            yield web.get(STREAM_PATH + path, handler)
            yield web.get(STREAM_PATH + path + "/{market}", handler)
        yield web.get(f"{STREAM_PATH}/account", self._handler(self._account_topic))
        yield web.get(f"{STREAM_PATH}/candles/{{market}}/{{kind}}", self._candles)

    async def close(self) -> None:
        """Close every stream: the server is going away."""
        await asyncio.gather(*(connection.close() for connection in self._open))

    def _public_topic(self, kind: str) -> Callable[[web.Request], Topic]:
        def topic_of(request: web.Request) -> Topic:
            market = request.match_info.get("market", "")
            if market:
                self._check_market(market)
            is_best = kind == "book" and request.query.get("depth") == "1"
            return Topic("bbo" if is_best else kind, market)

        return topic_of

    def _check_market(self, market: str) -> None:
        if market not in self._driver.exchange.venue.markets:
            raise CallRefused(NOT_FOUND, "Market not found.")

    def _account_topic(self, request: web.Request) -> Topic:
        account = self._desk.account_of(request.headers.get(API_KEY) or request.query.get("X-API-KEY", ""))
        if account is None:
            raise CallRefused(UNAUTHORIZED)
        return Topic(ACCOUNT, account_id=account.account_id)

    def _handler(self, topic_of: Callable[[web.Request], Topic]) -> Handler:
        @asynccontextmanager
        async def subscribed(topic: Topic) -> AsyncIterator[Frames]:
            subscription = self._driver.open_stream(topic)
            try:
                yield subscription.queue
            finally:
                subscription.close()

        async def handle(request: web.Request) -> web.StreamResponse:
            topic = topic_of(request)
            socket = await self._accepted(request)
            async with subscribed(topic) as frames:
                await self._serve(request, socket, frames)
            return socket

        return handle

    async def _candles(self, request: web.Request) -> web.StreamResponse:
        """Tell how the candle that is forming stands, at intervals, where it changed."""
        asked = Arguments(request)
        market, kind = asked.part("market"), asked.part("kind")
        self._check_market(market)
        if kind not in CANDLE_KINDS:
            raise CallRefused(NOT_FOUND)
        shape = CandleShape(kind, candle_minutes(asked))
        socket = await self._accepted(request)
        frames: Frames = asyncio.Queue()
        teller = asyncio.create_task(self._tell_candles(market, shape, frames))
        try:
            await self._serve(request, socket, frames)
        finally:
            teller.cancel()
        return socket

    async def _tell_candles(self, market: str, shape: CandleShape, frames: Frames) -> None:
        exchange, clock = self._driver.exchange, self._driver.clock
        told, seq = b"", 0
        while True:
            now_ns = clock.now_ns()
            frame = exchange.queries.candle_frame(market, shape, now_ns, seq + 1)
            data = frame.partition(b',"ts"')[0]
            if data != told and not exchange.is_silent:
                told, seq = data, seq + 1
                frames.put_nowait(("candles", frame))
            await asyncio.sleep(self._rules.candle_interval_s)

    async def _accepted(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(timeout=_CLOSE_S, autoping=False)
        await socket.prepare(request)
        return socket

    async def _serve(self, request: web.Request, socket: web.WebSocketResponse, frames: Frames) -> None:
        transport, exchange = request.transport, self._driver.exchange
        if transport is None:
            return
        connection = Connection(socket, frames, transport.abort, exchange, self._rules)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)
