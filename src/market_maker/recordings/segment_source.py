"""Segments of our own recorder as messages.

The streams of a market overtake each other on the way; they are put back into the venue's order within half
a second. A lost stream breaks the book, which the snapshot that follows mends.
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from market_maker.domain import NS_PER_MS
from market_maker.recordings.event_source import MessageList, book_rows
from market_maker.recordings.events import RecordingError
from market_maker.recordings.findings import Findings
from market_maker.recordings.grid import Grid
from market_maker.recordings.messages import BREAK, CHANGES, PASSED, QUOTE, SNAPSHOT, Messages
from market_maker.recordings.segments import (
    SUFFIX,
    BookRecord,
    LostRecord,
    QuoteRecord,
    Record,
    SegmentHeader,
    TradeRecord,
    ValueRecord,
    read_header,
    read_records,
)
from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    FUNDING,
    FUNDING_PARTS,
    INDEX,
    MARK,
    NS_PER_HOUR,
    PRICE_PARTS,
    TRADE_BUY,
    TRADE_SELL,
)

FOREVER_NS: Final = 2**63 - 1
Stamped = BookRecord | QuoteRecord | TradeRecord | ValueRecord

_OVERTAKING_NS: Final = 500 * NS_PER_MS
_REMEMBERED_IDS: Final = 8_192
_VALUE_CODES: Final = {"mark": MARK, "index": INDEX, "funding": FUNDING}
# Of one instant, the trade comes before the book it changed, the book before the quote.
_RANKS: Final = {LostRecord: 0, TradeRecord: 1, BookRecord: 2, QuoteRecord: 3, ValueRecord: 4}


@dataclass(frozen=True, slots=True)
class SegmentMarket:
    """The segments of one market, in the order of time."""

    header: SegmentHeader
    files: tuple[Path, ...]
    runs: tuple[int, ...]

    @property
    def grid(self) -> Grid:
        """Tick and step, as the exchange had published them."""
        return Grid(Decimal(self.header.tick), Decimal(self.header.step))


def segment_files(path: Path) -> list[Path]:
    """Segments at a path: a file, a market's folder, or a folder of those."""
    if path.is_file():
        return [path] if path.suffix == SUFFIX else []
    return sorted([*path.glob(f"*{SUFFIX}"), *path.glob(f"*/*{SUFFIX}")])


def open_segments(files: list[Path]) -> dict[str, SegmentMarket]:
    """Group segments by market.

    Raises
    ------
    RecordingError
        If a header cannot be read, or the tick, step or network of a market changes between them.
    """
    found: dict[str, list[tuple[SegmentHeader, Path]]] = {}
    for path in sorted(files, key=lambda file: file.name):
        header = read_header(path)
        found.setdefault(header.market, []).append((header, path))
    for entries in found.values():
        for (before, _), (header, path) in pairwise(entries):
            if msgspec.structs.replace(header, run_ns=before.run_ns) != before:
                msg = f"{path}: expected a segment of {before}, was {header}; convert them one by one"
                raise RecordingError(msg)
    return {
        market: SegmentMarket(
            entries[0][0], tuple(path for _, path in entries), tuple(header.run_ns for header, _ in entries)
        )
        for market, entries in found.items()
    }


def segment_messages(market: SegmentMarket, findings: Findings) -> Iterator[Messages]:
    """Messages of a market's segments.

    Raises
    ------
    RecordingError
        At the first block that is damaged.
    """
    translator = Translator(market.grid.tick, findings)
    at_ns = 0
    for stamp_ns, record in _in_order(_records(market)):
        findings.count("stamps_raised", int(stamp_ns < at_ns))
        at_ns = max(at_ns, stamp_ns)
        translator.add(record, at_ns)
        if translator.found.is_full:
            yield translator.found.take()
    if len(translator.found):
        yield translator.found.take()


def _records(market: SegmentMarket) -> Iterator[Record]:
    last_run = market.runs[0]
    for path, run_ns in zip(market.files, market.runs, strict=True):
        if run_ns != last_run:
            yield LostRecord("between two runs of the recorder", run_ns)
            last_run = run_ns
        yield from read_records(path)


def _in_order(records: Iterator[Record]) -> Iterator[tuple[int, Record]]:
    waiting, newest_ns = Waiting(), 0
    for record in records:
        if isinstance(record, LostRecord):
            # What came before it is told before it.
            yield from waiting.until(FOREVER_NS)
            yield newest_ns, record
            continue
        newest_ns = max(newest_ns, record.venue_ns)
        waiting.push(record)
        yield from waiting.until(newest_ns - _OVERTAKING_NS)
    yield from waiting.until(FOREVER_NS)


class Waiting:
    """Records of a market that wait until whatever they overtook has come too."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, Stamped]] = []
        self._pushed = 0

    @property
    def first_ns(self) -> int:
        """The venue's stamp of the first one; FOREVER_NS where none waits."""
        return self._heap[0][0] if self._heap else FOREVER_NS

    def push(self, record: Stamped) -> None:
        """Take a record in."""
        heapq.heappush(self._heap, (record.venue_ns, _RANKS[type(record)], self._pushed, record))
        self._pushed += 1

    def until(self, before_ns: int) -> Iterator[tuple[int, Stamped]]:
        """Records stamped before an instant, with their stamps, in the venue's order; they wait no more."""
        while self._heap and self._heap[0][0] < before_ns:
            stamp_ns, _, _, record = heapq.heappop(self._heap)
            yield stamp_ns, record


class Translator:
    """Makes messages of records, each trade once, and of funding only what is paid.

    Rates are published between the instants of funding too, as estimates; paid is the first one after each.

    Parameters
    ----------
    funding_every_ns : int
        Time between two instants of funding, counted from the epoch.

    Attributes
    ----------
    found : MessageList
        The messages so far.
    """

    def __init__(self, tick: Decimal, findings: Findings, funding_every_ns: int = NS_PER_HOUR) -> None:
        self.found = MessageList()
        self._tick = tick
        self._findings = findings
        self._funding_ns = funding_every_ns
        self._funded = 0
        self._trades: dict[int, None] = {}
        self._last_book_ns = 0
        self._lost_ns = 0

    def add(self, record: Record, at_ns: int) -> None:
        """Add the message of a record, if it tells anything new."""
        if not isinstance(record, LostRecord):
            self._funded = self._funded or record.venue_ns // self._funding_ns
        match record:
            case BookRecord():
                self._book(record, at_ns)
            case QuoteRecord() if record.bid_ticks and record.ask_ticks:
                rows = (
                    (BEST_BID, record.bid_ticks, record.bid_lots),
                    (BEST_ASK, record.ask_ticks, record.ask_lots),
                )
                self.found.add(QUOTE, (at_ns, record.recv_ns, record.venue_ns), rows)
            case QuoteRecord():
                self._findings.count("one_sided_quotes")
            case TradeRecord():
                self._trade(record, at_ns)
            case ValueRecord():
                self._value(record, at_ns)
            case LostRecord():
                self._findings.count("streams_lost")
                self._lost_ns = self._lost_ns or self._last_book_ns
                at_ns = max(at_ns, self._last_book_ns)
                self.found.add(BREAK, (at_ns, record.recv_ns, 0))

    def _book(self, record: BookRecord, at_ns: int) -> None:
        if record.is_snapshot and self._lost_ns:
            self._findings.gaps.append((self._lost_ns, at_ns))
            self._lost_ns = 0
        self._last_book_ns = at_ns
        kind = SNAPSHOT if record.is_snapshot else CHANGES
        rows = book_rows(record.bids, record.asks)
        self.found.add(kind, (at_ns, record.recv_ns, record.venue_ns), rows)

    def _trade(self, record: TradeRecord, at_ns: int) -> None:
        if record.trade_id in self._trades:
            self._findings.count("trades_twice")
            return
        self._trades[record.trade_id] = None
        if len(self._trades) > _REMEMBERED_IDS:
            del self._trades[next(iter(self._trades))]
        code = TRADE_BUY if record.side > 0 else TRADE_SELL
        self.found.add(PASSED, (at_ns, record.recv_ns, 0), ((code, record.ticks, record.lots),))

    def _is_paid(self, rate: ValueRecord) -> bool:
        period = rate.venue_ns // self._funding_ns
        last, self._funded = self._funded, max(self._funded, period)
        return last < period

    def _value(self, record: ValueRecord, at_ns: int) -> None:
        code = _VALUE_CODES[record.name]
        if code == FUNDING and not self._is_paid(record):
            self._findings.count("funding_estimates")
            return
        value = Decimal(record.value)
        ticks = round(value * FUNDING_PARTS if code == FUNDING else value / self._tick * PRICE_PARTS)
        self.found.add(PASSED, (at_ns, record.recv_ns, 0), ((code, ticks, 0),))
