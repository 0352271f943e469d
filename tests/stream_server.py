"""The exchange's streams on loopback, each connection as a test scripts it, and time that jumps."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp
from aiohttp import web

from market_maker.clock import LoopClock
from market_maker.config_sections import ConnectionSettings, Secret
from market_maker.exchanges.socket import Connector

START_NS = 1_790_425_441_000_000_000
START_MS = START_NS // 1_000_000
KEY = "canary-api-key"
SETTINGS = ConnectionSettings()


class Opened(NamedTuple):
    """A handshake: when, of what path (with its query), with which headers."""

    at_s: float
    path: str
    headers: dict[str, str]


class Peer:
    """The server's end of one connection."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket
        self.pings = 0

    async def send(self, *frames: bytes) -> None:
        for frame in frames:
            await self.socket.send_str(frame.decode())

    async def stay(self, *, pong: bool = True) -> None:
        """Hear until the client leaves, with or without answers to pings."""
        while True:
            message = await self.socket.receive()
            if message.type is aiohttp.WSMsgType.PING:
                self.pings += 1
                if pong:
                    await self.socket.pong(message.data)
            elif message.type is not aiohttp.WSMsgType.PONG:
                return

    def cut(self) -> None:
        """Lose the connection without a close frame."""
        assert self.request.transport is not None
        self.request.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


async def stay(peer: Peer) -> None:
    """Say nothing, and answer pings."""
    await peer.stay()


class StreamServer:
    """Scripts of each path: one a connection, the last for all that follow; a number is a refusal."""

    def __init__(self) -> None:
        self.opened: list[Opened] = []
        self.live = 0
        self.port = 0
        self.scripts: dict[str, list[Script | int | web.Response]] = {}
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/v1"

    def tries(self, path: str) -> list[float]:
        """When a path was asked for."""
        return [opened.at_s for opened in self.opened if opened.path == path]

    async def start(self, ssl=None) -> None:
        app = web.Application()
        app.router.add_get("/v1/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=ssl)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        path = request.path_qs.removeprefix("/v1")
        self.opened.append(Opened(asyncio.get_running_loop().time(), path, dict(request.headers)))
        scripts = self.scripts.get(path) or [stay]
        script = scripts.pop(0) if len(scripts) > 1 else scripts[0]
        if isinstance(script, int):
            return web.Response(status=script)
        if isinstance(script, web.Response):
            return web.Response(status=script.status, headers=script.headers)
        socket = web.WebSocketResponse(autoping=False, max_msg_size=0)
        await socket.prepare(request)
        self.live += 1
        try:
            await script(Peer(request, socket))
        except ConnectionError:
            pass
        finally:
            self.live -= 1
        return socket


@asynccontextmanager
async def serving(*, key: str = KEY):
    """A server, a connector to it, and the loop's clock."""
    server = StreamServer()
    await server.start()
    async with aiohttp.ClientSession() as session:
        clock = LoopClock(asyncio.get_running_loop(), START_NS)
        try:
            yield server, Connector(session, server.url, Secret(key)), clock
        finally:
            await session.close()
            await server.stop()


def frame(data, seq: int, kind: str | None = None, ms: int = START_MS) -> bytes:
    """A frame of any stream."""
    head = {} if kind is None else {"type": kind}
    return json.dumps(head | {"data": data, "ts": ms, "seq": seq}).encode()


def levels(rows, change: bool):
    return [{"q": str(q), "p": str(p)} | ({"c": str(q)} if change else {}) for p, q in rows]


def book(
    seq: int, bids=((100, 1),), asks=((101, 1),), kind: str = "SNAPSHOT", market: str = "BTC-USD"
) -> bytes:
    """A frame of the order book."""
    change = kind == "DELTA"
    data = {"t": kind, "m": market, "b": levels(bids, change), "a": levels(asks, change), "d": "f"}
    return frame(data, seq, kind)


def delta(seq: int, bids=((99, 2),), asks=()) -> bytes:
    """Changed levels."""
    return book(seq, bids, asks, "DELTA")
