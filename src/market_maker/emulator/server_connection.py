"""One stream on its WebSocket: frames out, pings and pongs, and the watch over a reader that is too slow."""

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from market_maker.emulator.driver import Frames
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.server_rules import ServerRules

_WATCH_S: Final = 1.0


class Connection:
    """Sends what a queue brings until it brings None; then, or once the reader is lost, the stream ends.

    A reader is lost that leaves a ping unanswered, or lets too many frames wait. While the exchange is
    silent, pings are neither answered nor sent; while it is unreachable, the connection is cut.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        frames: Frames,
        abort: Callable[[], None],
        exchange: Exchange,
        rules: ServerRules,
    ) -> None:
        self._socket = socket
        self._frames = frames
        self._abort = abort
        self._exchange = exchange
        self._rules = rules
        self._loop = asyncio.get_running_loop()
        self._pinged_at: float | None = None

    async def run(self) -> None:
        """Serve until either side closes it."""
        jobs = (self._receive, self._send, self._ping, self._watch)
        tasks = [asyncio.create_task(job()) for job in jobs]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            # That the other side is gone is no error.
            if isinstance(end, Exception) and not isinstance(end, ConnectionError):
                raise end
        await self.close()

    async def close(self) -> None:
        """Close it, if it is open."""
        if self._exchange.is_unreachable:
            self._abort()
        await self._socket.close(code=WSCloseCode.GOING_AWAY)

    async def _receive(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.PONG:
                self._pinged_at = None
            elif message.type is WSMsgType.PING and not self._exchange.is_silent:
                await self._socket.pong(message.data)

    async def _send(self) -> None:
        while (item := await self._frames.get()) is not None:
            await self._socket.send_frame(item[1], WSMsgType.TEXT)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._rules.ping_interval_s)
            if not self._exchange.is_silent:
                self._pinged_at = self._pinged_at or self._loop.time()
                await self._socket.ping()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            if self._is_lost():
                self._abort()
                return

    def _is_lost(self) -> bool:
        if self._exchange.is_unreachable:
            return True
        pinged_at = self._pinged_at
        waited_s = 0.0 if pinged_at is None else self._loop.time() - pinged_at
        return waited_s > self._rules.pong_timeout_s or self._frames.qsize() > self._rules.backlog_frames
