"""A stream that comes back: opened again whenever it is lost, at a pace that can not become a storm.

Pauses double from try to try and are forgotten only after a stream has lived for a while: a link that comes
up and drops at once is tried no more often than one that does not come up at all. Each pause is shortened by
a random part, so that streams lost together do not return together.
"""

import asyncio
import math
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Final, NoReturn, Protocol, TypeVar

import numpy as np

from market_maker.config_sections import ConnectionSettings
from market_maker.exchanges.begin import BEGIN_S, NOT_BEGUN
from market_maker.exchanges.outbox import Outbox
from market_maker.exchanges.socket import TOO_MANY_REQUESTS, Connector, Stream, StreamBroken, StreamRefused
from market_maker.exchanges.wire import CorruptFrame
from market_maker.gateway import MarketNotFound, VenueError

# A stream that lived this long was no flapping one.
_HEALTHY_S: Final = 10.0
# After so many frames in one go the others have their turn.
_FRAMES_AT_ONCE: Final = 32

E = TypeVar("E")
StreamLoss = StreamBroken | CorruptFrame


class StreamHearer(Protocol):
    """Whoever hears a stream."""

    def on_open(self) -> None:
        """A new connection: its numbers start anew."""
        ...

    def on_frame(self, frame: bytes) -> None:
        """A frame came; a `CorruptFrame` or `StreamBroken` raised here gives the connection up."""
        ...

    def on_lost(self, loss: StreamLoss) -> None:
        """The connection was lost, or did not come about."""
        ...


class Backoff:
    """Pauses between tries, s: doubling from first to longest, each shortened by up to a half."""

    def __init__(self, first_s: float, longest_s: float, seed: int) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s
        self._rng = np.random.default_rng(seed)

    def pause_s(self) -> float:
        """Give the pause before the next try."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self._longest_s)
        return pause_s * (1.0 - 0.5 * float(self._rng.random()))

    def reset(self) -> None:
        """Forget the tries so far."""
        self._next_s = self._first_s


class Link:
    """One stream path, heard for as long as the session lives.

    Parameters
    ----------
    connect : Connector
        Opens the stream.
    path : str
        Such as ``/publicTrades/BTC-USD``.
    settings : ConnectionSettings
        Pings and pauses.
    silence_s : float
        Longest time without a frame; 0: any.
    fatal : mapping of int to type of VenueError
        HTTP statuses of the handshake that make every further try pointless, and the error they become. A
        404 counts only before the stream was ever open: later it is a server on its way up.
    has_begun : callable, optional
        Whether the hearer has heard what each connection begins with; one that does not is given up soon.
    """

    def __init__(
        self,
        connect: Connector,
        path: str,
        settings: ConnectionSettings,
        *,
        silence_s: float = 0.0,
        fatal: Mapping[int, type[VenueError]] | None = None,
        has_begun: Callable[[], bool] | None = None,
    ) -> None:
        self._connect = connect
        self._path = path
        self._settings = settings
        self._silence_s = silence_s
        self._fatal = dict(fatal or {})
        self._has_begun = has_begun
        self._backoff = Backoff(
            settings.reconnect_first_s, settings.reconnect_longest_s, zlib.crc32(path.encode())
        )

    async def run(self, hearer: StreamHearer) -> None:
        """Hear the stream until the connector is closed or this is cancelled.

        Raises
        ------
        VenueError
            One of `fatal`, where the exchange refuses the stream for good.
        """
        while not self._connect.closed:
            pause_s = await self._hear_once(hearer)
            if self._connect.closed:
                return
            await asyncio.sleep(pause_s)

    async def _hear_once(self, hearer: StreamHearer) -> float:
        """Hear one connection to its end; how long to wait before the next."""
        loop = asyncio.get_running_loop()
        stream, opened_s = None, math.inf
        try:
            stream = await self._connect.open(self._path, self._settings, silence_s=self._silence_s)
            opened_s = loop.time()
            self._fatal = {status: kind for status, kind in self._fatal.items() if kind is not MarketNotFound}
            hearer.on_open()
            if self._has_begun is not None:
                await _hear_begin(stream, hearer, self._has_begun)
            await _hear(stream, hearer)
        except (StreamBroken, CorruptFrame) as loss:
            if self._connect.closed:
                return 0.0
            self._check_fatal(loss)
            # Before the connection is closed: that waits for a peer that may be gone.
            hearer.on_lost(loss)
            has_begun = self._has_begun is None or self._has_begun()
            if has_begun and loop.time() - opened_s >= _HEALTHY_S:
                self._backoff.reset()
            return self._pause_s(loss)
        finally:
            if stream is not None:
                await stream.close()

    def _check_fatal(self, loss: StreamLoss) -> None:
        if isinstance(loss, StreamRefused) and loss.status in self._fatal:
            raise self._fatal[loss.status](str(loss), loss.status) from None

    def _pause_s(self, loss: StreamLoss) -> float:
        pause_s = self._backoff.pause_s()
        if isinstance(loss, StreamRefused) and loss.status == TOO_MANY_REQUESTS:
            return max(pause_s, loss.retry_after_s, self._settings.reconnect_longest_s)
        return pause_s


async def _hear_begin(stream: Stream, hearer: StreamHearer, has_begun: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(BEGIN_S):
            while not has_begun():
                hearer.on_frame(await stream.frame())
    except TimeoutError:
        raise StreamBroken(NOT_BEGUN) from None


async def _hear(stream: Stream, hearer: StreamHearer) -> NoReturn:
    while True:
        for _ in range(_FRAMES_AT_ONCE):
            hearer.on_frame(await stream.frame())
        await asyncio.sleep(0)


async def hear_all(outbox: Outbox[E], heard: Sequence[tuple[Link, StreamHearer]]) -> AsyncGenerator[E, None]:
    """Hear streams at once and yield what their hearers put into an outbox, until one of them ends.

    However it is left, every connection is closed then.

    Raises
    ------
    VenueError
        Where the exchange refuses a stream for good; after the events before it.
    """
    tasks = [asyncio.ensure_future(link.run(hearer)) for link, hearer in heard]
    for task in tasks:
        task.add_done_callback(lambda _task: outbox.end())
    try:
        while (event := await outbox.take()) is not None:
            yield event
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
