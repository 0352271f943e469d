"""The v1 streams: one WebSocket for each topic, its frames as the exchange sends them, pings and pongs.

A reader that is too slow, or does not answer pings, is dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from market_maker.emulator.driver import Frames
from market_maker.emulator.server_calls import API_KEY, NOT_FOUND, UNAUTHORIZED, CallRefused, Desk
from market_maker.emulator.server_rules import STREAM_PATH, ServerRules
from market_maker.emulator.streams import Topic

_WATCH_S: Final = 1.0
_CLOSE_S: Final = 2.0
Abort = Callable[[], None]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_KINDS: Final = {
    "/orderbooks": "book",
    "/publicTrades": "trades",
    "/prices/mark": "mark",
    "/prices/index": "index",
    "/funding": "funding",
}


class Connection:
    """One stream: sends what its queue brings, answers pings, sends its own, and watches the reader."""

    def __init__(
        self, socket: web.WebSocketResponse, frames: Frames, abort: Abort, rules: ServerRules
    ) -> None:
        self._socket = socket
        self._frames = frames
        self._abort = abort
        self._rules = rules
        self._loop = asyncio.get_running_loop()
        self._pinged_at: float | None = None

    async def run(self) -> None:
        """Serve until either side closes it."""
        tasks = [asyncio.create_task(job()) for job in (self._send, self._ping, self._watch)]
        try:
            async for message in self._socket:
                if message.type is WSMsgType.PING:
                    await self._socket.pong(message.data)
                elif message.type is WSMsgType.PONG:
                    self._pinged_at = None
        except ConnectionError:
            pass
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close it: the server is going away."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    async def _send(self) -> None:
        while (item := await self._frames.get()) is not None:
            await self._socket.send_frame(item[1], WSMsgType.TEXT)
        await self.close()

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._rules.ping_interval_s)
            self._pinged_at = self._pinged_at or self._loop.time()
            await self._socket.ping()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            if self._is_lost():
                self._abort()

    def _is_lost(self) -> bool:
        pinged_at = self._pinged_at
        waited_s = 0.0 if pinged_at is None else self._loop.time() - pinged_at
        return waited_s > self._rules.pong_timeout_s or self._frames.qsize() > self._rules.backlog_frames


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

    async def close(self) -> None:
        """Close every stream: the server is going away."""
        await asyncio.gather(*(connection.close() for connection in self._open))

    async def _serve(self, request: web.Request, socket: web.WebSocketResponse, frames: Frames) -> None:
        transport = request.transport
        if transport is None:
            return
        connection = Connection(socket, frames, transport.abort, self._rules)
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    def _public_topic(self, kind: str) -> Callable[[web.Request], Topic]:
        def topic_of(request: web.Request) -> Topic:
            market = request.match_info.get("market", "")
            if market and market not in self._driver.exchange.venue.markets:
                raise CallRefused(NOT_FOUND, "Market not found.")
            is_best = kind == "book" and request.query.get("depth") == "1"
            return Topic("bbo" if is_best else kind, market)

        return topic_of

    def _account_topic(self, request: web.Request) -> Topic:
        key = request.headers.get(API_KEY) or request.query.get("X-API-KEY", "")
        account = self._desk.account_of(key)
        if account is None:
            raise CallRefused(UNAUTHORIZED)
        return Topic("account", account_id=account.account_id)

    def _handler(self, topic_of: Callable[[web.Request], Topic]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            topic = topic_of(request)
            socket = web.WebSocketResponse(timeout=_CLOSE_S, autoping=False)
            await socket.prepare(request)
            subscription = self._driver.open_stream(topic)
            try:
                await self._serve(request, socket, subscription.queue)
            finally:
                subscription.close()
            return socket

        return handle
