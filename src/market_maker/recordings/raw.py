"""Reader of raw collector files: gzip, one `local_ns json` a line, the venue's frames as they came.

Example lines (Binance USD-M)::

    1723161255030314667 {"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","T":1723161256298,
        "s":"BTCUSDT","U":51,"u":57,"pu":50,"b":[["58710.20","0.014"]],"a":[["61800.30","3.330"]]}}
    1723161255088169167 {"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":58,"s":"BTCUSDT",
        "b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313}}
    1723161255088176367 {"stream":"btcusdt@trade","data":{"e":"trade","T":1723161256322,"s":"BTCUSDT",
        "t":5266,"p":"61800.30","q":"0.006","X":"MARKET","m":false}}
    1723161255319702566 {"lastUpdateId":60,"T":1723161256493,"bids":[["61800.20","2.909"]],"asks":[]}

The clock is the venue's transaction time `T`. The streams overtake each other by up to a tenth of a second,
and a quote that shows a trade before the trade is told would take its size twice, so frames are put back in
order within half a second, trades first. A gap in the update ids empties the book, never passes silently.
"""

import gzip
import heapq
import math
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from market_maker.domain import NS_PER_MS, BookUpdate, Side, Trade
from market_maker.instrument import Instrument
from market_maker.recordings.events import BestQuote, RecordedEvent, RecordingError, Stamped, repaired_ns
from market_maker.recordings.grid import Grid, decimal_unit

_CHUNK_BYTES = 1 << 20
_SAMPLE_LINES = 4000
_RECENT_CHANGES = 64
_KNOWN_TEXTS = 50_000
_OVERTAKING_NS = 500 * NS_PER_MS
_DECODE_ERRORS = (gzip.BadGzipFile, EOFError, zlib.error, OSError)
_Level = tuple[str, str]


class _Depth(msgspec.Struct, tag_field="e", tag="depthUpdate"):
    s: str
    T: int
    u: int
    pu: int
    b: list[_Level]
    a: list[_Level]


class _Quote(msgspec.Struct, tag_field="e", tag="bookTicker"):
    s: str
    T: int
    u: int
    b: str
    B: str
    a: str
    A: str


class _Print(msgspec.Struct, tag_field="e", tag="trade"):
    s: str
    T: int
    t: int
    p: str
    q: str
    m: bool
    X: str = "MARKET"


class _Frame(msgspec.Struct):
    data: _Depth | _Quote | _Print | None = None
    last_update_id: int | None = msgspec.field(default=None, name="lastUpdateId")
    T: int = 0
    bids: list[_Level] = []
    asks: list[_Level] = []


_decoder = msgspec.json.Decoder(_Frame)
# Where a frame stands, the recorder's stamp, and the frame.
_Placed = tuple[str, int, _Frame]


def _split(line: bytes, place: str) -> tuple[int, _Frame]:
    stamp, _, body = line.partition(b" ")
    try:
        return int(stamp), _decoder.decode(body)
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        msg = f"{place}: expected 'local_ns json' with a known frame, was {line[:60]!r} ({error})"
        raise RecordingError(msg) from error


def _lines(path: Path) -> Iterator[tuple[str, int, _Frame]]:
    try:
        with gzip.open(path) as stream:
            for number, line in enumerate(stream, 1):
                place = f"{path}, line {number}"
                yield place, *_split(line, place)
    except _DECODE_ERRORS as error:
        msg = f"{path}: expected a whole gzip file, was truncated or corrupt ({error})"
        raise RecordingError(msg) from error


@dataclass(frozen=True, slots=True)
class RawSummary:
    """What one pass over a raw file finds: symbol, span, lines, and the grid that its first prices lie on."""

    path: Path
    symbol: str
    first_ns: int
    last_ns: int
    grid: Grid


def inspect_raw(path: Path) -> RawSummary:
    """Decompress a file from end to end and look at its first and last lines, so that a truncated one shows.

    Raises
    ------
    RecordingError
        If the file is truncated, corrupt, empty, or of another format.
    """
    last_line, count = _last_line(path)
    if not last_line:
        msg = f"{path}: expected lines of 'local_ns json', was empty"
        raise RecordingError(msg)
    _, last = _split(last_line, f"{path}, line {count}")
    sample = list(islice(_lines(path), _SAMPLE_LINES))
    symbols = [frame.data.s for _, _, frame in sample if frame.data is not None]
    prices = [_number(value, place) for place, _, frame in sample for value in _values(frame, 0)]
    sizes = [_number(value, place) for place, _, frame in sample for value in _values(frame, 1)]
    tick, step = decimal_unit(prices), decimal_unit(sizes)
    if not symbols or tick is None or step is None:
        msg = f"{path}: expected depth, trade or bookTicker frames in its first lines, was none of them"
        raise RecordingError(msg)
    return RawSummary(path, symbols[0], _venue_ns(sample[0][2]), _venue_ns(last), Grid(tick, step))


def _number(text: str, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        msg = f"{place}: expected a number, was {text!r}"
        raise RecordingError(msg)
    return value


def _last_line(path: Path) -> tuple[bytes, int]:
    tail, count = b"", 0
    try:
        with gzip.open(path) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                count += chunk.count(b"\n")
                tail = _after_last_break(tail + chunk)
    except _DECODE_ERRORS as error:
        msg = f"{path}: expected a whole gzip file, was truncated or corrupt after line {count} ({error})"
        raise RecordingError(msg) from error
    complete = tail.endswith(b"\n")
    return tail.rstrip(b"\n").rpartition(b"\n")[2], count + (0 if complete or not tail else 1)


def _after_last_break(text: bytes) -> bytes:
    cut = text.rfind(b"\n", 0, len(text) - 1)
    return text[cut + 1 :]


def _values(frame: _Frame, column: int) -> Iterator[str]:
    match frame.data:
        case _Depth(b=bids, a=asks):
            yield from (level[column] for level in bids + asks)
        case _Quote() as quote:
            yield from ((quote.b, quote.a) if column == 0 else (quote.B, quote.A))
        case _Print() as trade:
            yield trade.p if column == 0 else trade.q
        case None:
            yield from (level[column] for level in frame.bids + frame.asks)


@dataclass(frozen=True, slots=True)
class RawMarket:
    """One market's raw files, in the order of time."""

    instrument: Instrument
    grid: Grid
    files: tuple[RawSummary, ...]

    @property
    def first_ns(self) -> int:
        """Instant of the first line."""
        return self.files[0].first_ns

    @property
    def last_ns(self) -> int:
        """Instant of the last line."""
        return self.files[-1].last_ns

    def events(self, on_gap: Callable[[int], None] | None = None) -> Iterator[Stamped]:
        """Stream the frames as values; see `RecordedMarket.events`.

        `on_gap` is told the stamp of each change that does not follow the one before it.
        """
        translator = _Translator(self.instrument.name, self.grid, on_gap)
        at_ns = 0
        for place, local_ns, frame in _in_order(self._frames()):
            at_ns = max(at_ns, _venue_ns(frame))
            try:
                event = translator.event(frame, local_ns)
            except ValueError as error:
                msg = f"{place}: {error}"
                raise RecordingError(msg) from error
            if event is not None:
                yield at_ns, event

    def _frames(self) -> Iterator[_Placed]:
        local_ns = 0
        for file in self.files:
            for place, stamp_ns, frame in _lines(file.path):
                local_ns = repaired_ns(stamp_ns, local_ns, place)
                if frame.data is not None and frame.data.s != file.symbol:
                    msg = f"{place}: expected frames of {file.symbol}, was {frame.data.s}"
                    raise RecordingError(msg)
                yield place, local_ns, frame


def _in_order(frames: Iterator[_Placed]) -> Iterator[_Placed]:
    waiting: list[tuple[int, bool, int, _Placed]] = []
    newest_ns = 0
    for number, placed in enumerate(frames):
        frame = placed[2]
        at_ns = _venue_ns(frame)
        newest_ns = max(newest_ns, at_ns)
        heapq.heappush(waiting, (at_ns, not isinstance(frame.data, _Print), number, placed))
        while waiting[0][0] < newest_ns - _OVERTAKING_NS:
            yield heapq.heappop(waiting)[-1]
    while waiting:
        yield heapq.heappop(waiting)[-1]


def _venue_ns(frame: _Frame) -> int:
    return (frame.T if frame.data is None else frame.data.T) * NS_PER_MS


class _Translator:
    """Frames to events. It remembers recent changes, to see gaps and to bring a late snapshot up to date."""

    def __init__(self, market: str, grid: Grid, on_gap: Callable[[int], None] | None) -> None:
        self._market = market
        self._on_gap = on_gap
        self._grid = grid
        self._last_update = -1
        self._recent: deque[_Depth] = deque(maxlen=_RECENT_CHANGES)
        # The same prices and sizes come again and again as text.
        self._ticks: dict[str, int] = {}
        self._lots: dict[str, int] = {}

    def event(self, frame: _Frame, recv_ns: int) -> RecordedEvent | None:
        """Event of a frame; None for one that changes nothing."""
        match frame.data:
            case _Depth() as depth:
                return self._depth(depth, recv_ns)
            case _Quote() as quote:
                return self._quote(quote, recv_ns)
            case _Print() as trade:
                return self._trade(trade, recv_ns) if trade.X == "MARKET" else None
            case None:
                return self._snapshot(frame, recv_ns)

    def _depth(self, depth: _Depth, recv_ns: int) -> BookUpdate | None:
        if depth.u <= self._last_update:
            return None
        gap = 0 <= self._last_update < depth.pu
        if gap and self._on_gap is not None:
            self._on_gap(depth.T * NS_PER_MS)
        self._last_update = depth.u
        self._recent.append(depth)
        bids, asks = self._levels(depth.b), self._levels(depth.a)
        return BookUpdate(self._market, gap, bids, asks, depth.u, depth.T * NS_PER_MS, recv_ns)

    def _snapshot(self, frame: _Frame, recv_ns: int) -> BookUpdate:
        if frame.last_update_id is None:
            msg = "expected data or lastUpdateId, was neither"
            raise ValueError(msg)
        bids, asks = dict(self._levels(frame.bids)), dict(self._levels(frame.asks))
        # The snapshot comes by another way: changes later than it may have arrived before it.
        for depth in self._recent:
            if depth.u > frame.last_update_id:
                bids.update(self._levels(depth.b))
                asks.update(self._levels(depth.a))
        self._last_update = max(self._last_update, frame.last_update_id)
        return BookUpdate(
            self._market,
            is_snapshot=True,
            bids=[*bids.items()],
            asks=[*asks.items()],
            seq=self._last_update,
            venue_ns=frame.T * NS_PER_MS,
            recv_ns=recv_ns,
        )

    def _quote(self, quote: _Quote, recv_ns: int) -> BestQuote:
        bid, bid_lots = self._level((quote.b, quote.B))
        ask, ask_lots = self._level((quote.a, quote.A))
        return BestQuote(self._market, bid, bid_lots, ask, ask_lots, quote.u, quote.T * NS_PER_MS, recv_ns)

    def _trade(self, trade: _Print, recv_ns: int) -> Trade:
        price, lots = self._level((trade.p, trade.q))
        # m: the buyer was the maker, so the seller took.
        side = Side.SELL if trade.m else Side.BUY
        return Trade(self._market, trade.t, side, price, lots, trade.T * NS_PER_MS, recv_ns)

    def _levels(self, levels: list[_Level]) -> list[tuple[int, int]]:
        return [self._level(level) for level in levels]

    def _level(self, level: _Level) -> tuple[int, int]:
        price, size = level
        ticks = self._ticks.get(price)
        if ticks is None:
            ticks = _remember(self._ticks, price, self._grid.ticks(float(price)))
        lots = self._lots.get(size)
        if lots is None:
            lots = _remember(self._lots, size, self._grid.lots(float(size)))
        return ticks, lots


def _remember(known: dict[str, int], text: str, value: int) -> int:
    if len(known) >= _KNOWN_TEXTS:
        known.clear()
    known[text] = value
    return value
