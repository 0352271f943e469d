"""One stream of the exchange: opened, read frame by frame, and known to live.

A WebSocket that nobody closes may be dead all the same, so each stream sends pings of its own, and one that
is not answered by the next loses it. Who reads decides what a loss means: here it is an exception with the
reason. Whatever arrives is bytes; nothing here knows what they say.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal, cast
from urllib.parse import urlsplit

import aiohttp

from market_maker.config_sections import ConnectionSettings, Secret

USER_AGENT: Final = "extended-market-maker"
ACCOUNT_PATH: Final = "/account"
TOO_MANY_REQUESTS: Final = 429
# The largest book known has 169 KB; above this a frame is no book any more.
_LONGEST_FRAME: Final = 16 * 2**20
# A message may have come while our own loop was busy: it is looked for once more before a verdict.
_LAST_LOOK_S: Final = 0.001
_CLOSING_S: Final = 1.0
_SHOWN_CHARS: Final = 160
_LONGEST_RETRY_AFTER_S: Final = 60.0


class StreamBroken(Exception):
    """A stream ended or can not be trusted to live; the text says why."""


class StreamRefused(StreamBroken):
    """The exchange refused the handshake with an HTTP status; `retry_after_s` is 0 if it named no pause."""

    def __init__(self, message: str, status: int, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class Stream:
    """One open stream.

    Parameters
    ----------
    socket : ClientWebSocketResponse
        Opened without automatic pings and pongs; its text comes as bytes.
    ping_interval_s : float
        Between two pings.
    silence_s : float
        Longest time without a frame; 0: it may be silent for as long as pings are answered.
    """

    def __init__(
        self,
        socket: aiohttp.ClientWebSocketResponse[Literal[False]],
        ping_interval_s: float,
        silence_s: float = 0.0,
    ) -> None:
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._ping_interval_s = ping_interval_s
        self._silence_s = silence_s
        self._unanswered = 0
        self._next_ping_s = self._loop.time()
        self._last_frame_s = self._loop.time()

    async def frame(self) -> bytes:
        """Wait for the next frame.

        Raises
        ------
        StreamBroken
            If the stream is closed, does not answer pings, or is silent for too long.
        """
        while True:
            try:
                message = await self._message()
                frame = None if message is None else await self._read(message)
                if message is None or self._loop.time() >= self._next_ping_s:
                    await self._beat(is_idle=message is None)
                if frame is not None:
                    return frame
            except (aiohttp.ClientError, OSError) as error:
                raise StreamBroken(_shown(f"connection lost: {error}")) from error

    async def close(self) -> None:
        """Close, without waiting long for a peer that does not answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_S):
                await self._socket.close()

    async def _message(self) -> aiohttp.WSMessage | None:
        """Next message; None where nothing came until something is to be done."""
        due_s = self._next_ping_s
        if self._silence_s:
            due_s = min(due_s, self._last_frame_s + self._silence_s)
        for wait_s in (max(due_s - self._loop.time(), _LAST_LOOK_S), _LAST_LOOK_S):
            with suppress(TimeoutError):
                # Its type for text that comes as bytes is not exported; it has the same fields.
                return cast("aiohttp.WSMessage", await self._socket.receive(timeout=wait_s))
        return None

    async def _beat(self, *, is_idle: bool) -> None:
        """Send the ping that is due, unless the last one shows that nobody is there."""
        now_s = self._loop.time()
        if is_idle and self._silence_s and now_s >= self._last_frame_s + self._silence_s:
            msg = f"no frame for {self._silence_s:g} s"
            raise StreamBroken(msg)
        if now_s < self._next_ping_s:
            return
        # Where messages wait to be read, the answer may be among them: once more.
        if self._unanswered and (is_idle or self._unanswered > 1):
            msg = f"a ping was not answered within {self._ping_interval_s:g} s"
            raise StreamBroken(msg)
        self._unanswered += 1
        self._next_ping_s = now_s + self._ping_interval_s
        await self._socket.ping()

    async def _read(self, message: aiohttp.WSMessage) -> bytes | None:
        """Frame of a message; None where it is for the connection itself."""
        if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            self._last_frame_s = self._loop.time()
            frame: bytes = message.data
            return frame
        if message.type is aiohttp.WSMsgType.PING:
            await self._socket.pong(message.data)
        elif message.type is aiohttp.WSMsgType.PONG:
            self._unanswered = 0
        elif message.type is aiohttp.WSMsgType.CLOSE:
            raise StreamBroken(_shown(f"closed by the exchange: {_close_code(message.data)} {message.extra}"))
        elif message.type is aiohttp.WSMsgType.ERROR:
            raise StreamBroken(_shown(f"connection failed: {message.data}"))
        else:
            msg = "connection lost without a word"
            raise StreamBroken(msg)
        return None


class Connector:
    """Opens streams of one network. Its session follows no redirect: the key would go along.

    Parameters
    ----------
    session : ClientSession
        Whose connections are used. Where it is closed, no stream opens any more.
    stream_url : str
        What every path is appended to; no slash at its end.
    api_key : Secret, optional
        Sent with the account's stream, and with no other.
    headers : mapping, optional
        Sent with every stream.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        stream_url: str,
        api_key: Secret | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._session = session
        self._url = stream_url
        self._host = urlsplit(stream_url).netloc
        self._api_key = api_key
        self._common = {"User-Agent": USER_AGENT, **(headers or {})}
        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(_refuse_redirect)
        tracing.freeze()
        session.trace_configs.append(tracing)

    @property
    def closed(self) -> bool:
        """Whether no stream opens any more."""
        return self._session.closed

    async def open(self, path: str, settings: ConnectionSettings, *, silence_s: float = 0.0) -> Stream:
        """Open the stream of a path, such as ``/orderbooks/BTC-USD?depth=1``.

        Raises
        ------
        StreamRefused
            If the exchange answers with anything but a stream.
        StreamBroken
            If no connection comes about within `request_timeout_s`.
        """
        try:
            async with asyncio.timeout(settings.request_timeout_s):
                socket = await self._session.ws_connect(
                    f"{self._url}{path}",
                    headers=self._headers(path),
                    autoping=False,
                    autoclose=False,
                    max_msg_size=_LONGEST_FRAME,
                    decode_text=False,
                )
        except aiohttp.WSServerHandshakeError as error:
            refusal: StreamBroken = self._refusal(error, path)
        except TimeoutError as error:
            msg = f"no answer from {self._host} within {settings.request_timeout_s:g} s"
            raise StreamBroken(msg) from error
        except (aiohttp.ClientError, OSError) as error:
            refusal = StreamBroken(_shown(f"no connection to {self._host}: {error}"))
        else:
            return Stream(socket, settings.ping_interval_s, silence_s)
        # Not raised within: the library's error shows the headers of the request, and with them the key.
        raise refusal

    def _headers(self, path: str) -> dict[str, str]:
        headers = dict(self._common)
        if path == ACCOUNT_PATH and self._api_key:
            headers["X-Api-Key"] = self._api_key.reveal()
        return headers

    def _refusal(self, error: aiohttp.WSServerHandshakeError, path: str) -> StreamRefused:
        message = f"{self._host} refused the stream {path}: HTTP {error.status}"
        named = error.headers.get("Retry-After", "") if error.headers else ""
        # A date is allowed there too; the usual pause does for it.
        retry_after_s = float(named) if named.isascii() and named.isdigit() else 0.0
        return StreamRefused(message, error.status, min(retry_after_s, _LONGEST_RETRY_AFTER_S))


async def _refuse_redirect(
    _session: aiohttp.ClientSession, _context: object, params: aiohttp.TraceRequestRedirectParams
) -> None:
    params.response.close()
    msg = f"{params.url.authority} sent us elsewhere: HTTP {params.response.status}"
    raise StreamRefused(msg, params.response.status)


def _close_code(code: int) -> str:
    known = {member.value: member.name for member in aiohttp.WSCloseCode}
    return f"{code} {known[code]}" if code in known else str(code)


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARS else f"{line[:_SHOWN_CHARS]}…"
