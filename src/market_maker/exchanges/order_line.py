"""Connections that carry orders: HTTP/1.1 over asyncio, and little else.

A general HTTP client takes as long for a request on loopback as its signature does, twice as long as this.
Each connection carries one request at a time; one that was used less than half a minute ago is used again,
else a new one is opened. Nothing is ever sent twice.
"""

import asyncio
import ssl
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from market_maker.exchanges.endpoints import Endpoint
from market_maker.exchanges.http_reply import BadReply, HttpReply, read_reply

_IDLE_S: Final = 30.0
_CLOSING_S: Final = 1.0
# An address that does not answer, as an IPv6 one may, holds up the next of the host for no longer than this.
_NEXT_ADDRESS_S: Final = 0.25


class ConnectFailed(Exception):
    """No connection came about, so nothing was sent; `cause` says why."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class LineLost(Exception):
    """The request may have arrived, but no whole reply came; the text says how it ended."""


class _Idle(NamedTuple):
    line: "Line"
    since_s: float


class Line(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: asyncio.Future[HttpReply] | None = None
        self.is_usable = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the connection."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_usable = True

    def data_received(self, data: bytes) -> None:
        """Read the reply that is waited for."""
        self._received += data
        if self._waiting is None or self._waiting.done():
            # Nobody asked for this: what comes next could be taken for the answer to something else.
            self.close()
            return
        self._read(is_over=False)

    def eof_received(self) -> None:
        """Take no other request: the peer is about to close."""
        self.is_usable = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits for a reply, unless its end is all that was missing."""
        self.is_usable = False
        if not self.closed.done():
            self.closed.set_result(None)
        if self._waiting is None:
            return
        if exc is None:
            self._read(is_over=True)
        else:
            self._fail(type(exc).__name__)

    async def exchange(self, request: bytes) -> HttpReply:
        """Send a request and wait for its reply; the line is closed if none comes."""
        if self._transport is None or not self.is_usable:
            msg = "it was closed before the request"
            raise LineLost(msg)
        self._waiting = self._loop.create_future()
        self._transport.write(request)
        reply = None
        try:
            reply = await self._waiting
        finally:
            self._waiting = None
            self._received = b""
            if reply is None or not reply.keeps_alive:
                self.close()
        return reply

    def close(self) -> None:
        """Close; it is not waited for."""
        self.is_usable = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close without a word to the peer."""
        if self._transport is not None:
            self._transport.abort()

    def _read(self, *, is_over: bool) -> None:
        try:
            reply = read_reply(self._received, is_over=is_over)
        except BadReply as error:
            self._fail(str(error) if self._received else "closed without a reply")
            return
        if reply is not None and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(reply)

    def _fail(self, why: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(LineLost(why))


class OrderLines:
    """The connections to one endpoint.

    Parameters
    ----------
    headers : dict
        Sent with each request.
    """

    def __init__(self, endpoint: Endpoint, headers: dict[str, str]) -> None:
        parts = urlsplit(endpoint.rest_url)
        self._host = parts.hostname or ""
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path
        fixed = {"Host": parts.netloc, "Accept-Encoding": "identity", **headers}
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in fixed.items())
        self._heads: dict[str, bytes] = {}
        self._idle: list[_Idle] = []
        self._open: set[Line] = set()
        self._loop = asyncio.get_running_loop()

    async def line(self) -> Line:
        """Line for one request: that which was used last, or a new one.

        Raises
        ------
        ConnectFailed
            If no connection came about.
        """
        return self._take() or await self._connect()

    async def exchange(self, line: Line, method: str, target: str, body: bytes) -> HttpReply:
        """Reply to a request; `target` is its path after the API's base, with its query.

        Raises
        ------
        LineLost
            If no whole reply came.
        """
        reply = await line.exchange(self._head(method, target) + b"%d\r\n\r\n" % len(body) + body)
        if line.is_usable:
            self._idle.append(_Idle(line, self._loop.time()))
        return reply

    async def close(self) -> None:
        """Close all connections, and wait until they are, but not for long."""
        waiting = [line.closed for line in self._open]
        for line in self._open:
            line.close()
        if waiting:
            await asyncio.wait(waiting, timeout=_CLOSING_S)
        for line in tuple(self._open):
            # A peer that does not end its side of a TLS connection would keep it for half a minute.
            line.abort()

    def _head(self, method: str, target: str) -> bytes:
        # Targets with a query hold an id of their own each.
        key = f"{method} {target}"
        head = self._heads.get(key)
        if head is None:
            head = f"{method} {self._path}{target} HTTP/1.1\r\n{self._fixed}Content-Length: ".encode()
            if "?" not in target:
                self._heads[key] = head
        return head

    def _take(self) -> Line | None:
        """Line that was used last; those that idled for too long are closed."""
        oldest_s = self._loop.time() - _IDLE_S
        while self._idle and (self._idle[0].since_s < oldest_s or not self._idle[0].line.is_usable):
            self._idle.pop(0).line.close()
        while self._idle:
            line = self._idle.pop().line
            if line.is_usable:
                return line
        return None

    async def _addresses(self) -> list[AddrInfoType]:
        try:
            version = ip_address(self._host).version
        except ValueError:
            return list(await self._loop.getaddrinfo(self._host, self._port, type=SOCK_STREAM))
        # A look-up would take a thread to say the same.
        if version == 6:
            return [(AF_INET6, SOCK_STREAM, IPPROTO_TCP, "", (self._host, self._port, 0, 0))]
        return [(AF_INET, SOCK_STREAM, IPPROTO_TCP, "", (self._host, self._port))]

    async def _connect(self) -> Line:
        try:
            # By hand: uvloop's create_connection tries one address after the other, however long each takes.
            connected = await start_connection(
                await self._addresses(), happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, loop=self._loop
            )
            name = self._host if self._tls else None
            _, line = await self._loop.create_connection(
                Line, sock=connected, ssl=self._tls, server_hostname=name
            )
        except OSError as error:
            raise ConnectFailed(error) from error
        self._open.add(line)
        line.closed.add_done_callback(lambda _: self._open.discard(line))
        return line
