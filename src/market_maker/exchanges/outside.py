"""Prices of Binance's USD-M futures, as a reference: the best quotes of some symbols over one stream.

Public data, no key. What can not be read is counted and passed over, a lost connection is opened again at a
pace that slows down: nobody waits for these prices, and a venue that refuses us need not be asked often.
"""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final

import aiohttp
import msgspec

from market_maker.clock import Clock
from market_maker.config_sections import ConnectionSettings, OutsideSettings, OutsideVenue
from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.exchanges.link import Link, StreamLoss, hear_all
from market_maker.exchanges.outbox import Outbox
from market_maker.exchanges.socket import Connector
from market_maker.exchanges.wire import CorruptFrame, Millis, corrupt, frame_reader
from market_maker.reference_feed import OutsidePrice, ReferenceFeed

# Best quotes of a symbol that trades change many times a second.
_SILENCE_S: Final = 30.0
_LONGEST_PAUSE_S: Final = 60.0
# A mid that stands is told this often, so that it does not look silent.
_REPEATED_NS: Final = NS_PER_S
_TICKER: Final = "bookTicker"


class _Ticker(msgspec.Struct, gc=False):
    s: str
    b: Decimal
    a: Decimal
    e: str = _TICKER
    u: int = 0
    E: Millis = 0


class _TickerFrame(msgspec.Struct, gc=False):
    data: _Ticker


class _AnyFrame(msgspec.Struct, gc=False):
    stream: str = ""


_read_ticker = frame_reader(_TickerFrame, "a best quote of a symbol")
_read_any = frame_reader(_AnyFrame, "a JSON object")


def decode_ticker(frame: bytes) -> tuple[str, Decimal, int, int]:
    """Symbol, mid, number and instant (ns) of a best quote.

    ``{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT",
    "b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}}``

    Raises
    ------
    CorruptFrame
        If it is something else, or a side has no price or is beyond the other.
    """
    ticker = _read_ticker(frame).data
    if ticker.e != _TICKER or not (ticker.b.is_finite() and ticker.a.is_finite()):
        raise corrupt("a best quote of a symbol", frame)
    if not 0 < ticker.b <= ticker.a:
        raise corrupt("a bid above 0 and an ask not below it", frame)
    return ticker.s, (ticker.b + ticker.a) / 2, ticker.u, ticker.E * NS_PER_MS


class _Tickers:
    """Hears the stream: a mid that is another than before, or that stood for a second."""

    def __init__(
        self,
        markets: Mapping[str, Sequence[str]],
        clock: Clock,
        unknown: Counter[str],
        put: Callable[[OutsidePrice], None],
    ) -> None:
        self._markets = markets
        self._clock = clock
        self._unknown = unknown
        self._put = put
        self._numbers: dict[str, int] = {}
        self._told: dict[str, tuple[Decimal, int]] = {}

    def on_open(self) -> None:
        """Begin a new sequence."""
        self._numbers.clear()

    def on_frame(self, frame: bytes) -> None:
        """Hand the price of a frame on, if it is news."""
        try:
            symbol, mid, number, venue_ns = decode_ticker(frame)
        except CorruptFrame:
            self._unknown[_kind_of(frame)] += 1
            return
        if symbol not in self._markets:
            self._unknown[f"outside symbol {symbol[:20]}"] += 1
        elif number and number <= self._numbers.get(symbol, 0):
            self._unknown["outside frame late or twice"] += 1
        else:
            self._numbers[symbol] = number
            for market in self._markets[symbol]:
                self._tell(OutsidePrice(market, mid, venue_ns))

    def _tell(self, price: OutsidePrice) -> None:
        now_ns = self._clock.now_ns()
        before, told_ns = self._told.get(price.market, (None, 0))
        if price.price != before or now_ns - told_ns >= _REPEATED_NS:
            self._told[price.market] = price.price, now_ns
            self._put(price)

    def on_lost(self, _loss: StreamLoss) -> None:
        """Count it: the next frame makes up for what was missed."""
        self._unknown["outside stream lost"] += 1


def _kind_of(frame: bytes) -> str:
    """What a frame that could not be read is counted as."""
    try:
        stream = _read_any(frame).stream
    except CorruptFrame:
        return "outside frame corrupt"
    return "outside frame corrupt" if stream.endswith(f"@{_TICKER}") else "outside frame of another kind"


class BinanceTickers:
    """Mids of Binance's USD-M futures as a `ReferenceFeed`; made within the event loop."""

    def __init__(self, outside: OutsideSettings, connection: ConnectionSettings, clock: Clock) -> None:
        self.unknown: Counter[str] = Counter()
        self._symbols = outside.symbols
        longest_s = max(connection.reconnect_longest_s, _LONGEST_PAUSE_S)
        self._settings = replace(connection, reconnect_longest_s=longest_s)
        self._clock = clock
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        self._connect = Connector(self._session, outside.outside_url.rstrip("/"))

    def prices(self, markets: Sequence[str]) -> AsyncIterator[OutsidePrice]:
        """Mids of the named markets that have a symbol; unread ones give way to newer ones.

        The iterator ends at once where none has.
        """
        wanted: defaultdict[str, list[str]] = defaultdict(list)
        for market in markets:
            if market in self._symbols:
                wanted[self._symbols[market].upper()].append(market)
        outbox = Outbox[OutsidePrice]()
        outbox.open()
        if not wanted:
            outbox.end()
            return hear_all(outbox, [])
        names = "/".join(f"{symbol.lower()}@{_TICKER}" for symbol in wanted)
        link = Link(self._connect, f"/stream?streams={names}", self._settings, silence_s=_SILENCE_S)
        tickers = _Tickers(
            wanted, self._clock, self.unknown, lambda price: outbox.put_latest(price.market, price)
        )
        return hear_all(outbox, [(link, tickers)])

    async def close(self) -> None:
        """Close the connection; no other is opened."""
        await self._session.close()


def outside_feed(
    outside: OutsideSettings, connection: ConnectionSettings, clock: Clock
) -> ReferenceFeed | None:
    """Feed of the venue of the settings; None where none is set. To be called within the event loop."""
    if outside.outside_venue is OutsideVenue.BINANCE:
        return BinanceTickers(outside, connection, clock)
    return None
