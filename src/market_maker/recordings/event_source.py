"""Events of the streaming readers as messages: for formats that are read value by value."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from market_maker.domain import BookUpdate, Side, Trade
from market_maker.recordings.events import BestQuote, RecordedEvent
from market_maker.recordings.findings import Findings
from market_maker.recordings.messages import BREAK, CHANGES, PASSED, QUOTE, SNAPSHOT, Messages
from market_maker.recordings.raw import RawMarket
from market_maker.recordings.store import BEST_ASK, BEST_BID, LEVEL_ASK, LEVEL_BID, TRADE_BUY, TRADE_SELL

_MESSAGES: Final = 32_768
_Row = tuple[int, int, int]


class MessageList:
    """Collects messages one by one and gives them out as columns."""

    def __init__(self) -> None:
        self._heads: list[tuple[int, int, int, int]] = []
        self._ends: list[int] = [0]
        self._rows: list[_Row] = []

    def __len__(self) -> int:
        return len(self._heads)

    @property
    def is_full(self) -> bool:
        """Whether it is time to take the columns."""
        return len(self._heads) >= _MESSAGES

    def add(self, kind: int, stamps: tuple[int, int, int], rows: Sequence[_Row] = ()) -> None:
        """Add a message of (at_ns, recv_ns, seq) and its rows (code, ticks, lots)."""
        self._heads.append((*stamps, kind))
        self._rows.extend(rows)
        self._ends.append(len(self._rows))

    def take(self) -> Messages:
        """Columns of what was added; the list is empty then."""
        heads = np.array(self._heads, np.int64).reshape(-1, 4)
        rows = np.array(self._rows, np.int64).reshape(-1, 3)
        messages = Messages(
            at_ns=heads[:, 0].copy(),
            recv_ns=heads[:, 1].copy(),
            seq=heads[:, 2].copy(),
            kind=heads[:, 3].astype(np.uint8),
            first=np.array(self._ends, np.int64),
            code=rows[:, 0].astype(np.uint8),
            ticks=rows[:, 1].copy(),
            lots=rows[:, 2].copy(),
        )
        self._heads, self._ends, self._rows = [], [0], []
        return messages


def book_rows(bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> list[_Row]:
    """Rows of a book message."""
    return [*((LEVEL_BID, *level) for level in bids), *((LEVEL_ASK, *level) for level in asks)]


def raw_messages(market: RawMarket, findings: Findings) -> Iterator[Messages]:
    """Messages of raw collector files. A break in the update ids breaks the book at that stamp.

    Raises
    ------
    RecordingError
        At the first line that cannot be read; the file and line are named.
    """
    found = MessageList()
    breaks: list[int] = []
    last_book_ns = 0
    for at_ns, event in market.events(breaks.append):
        findings.count("stamps_raised", int(event.venue_ns != at_ns))
        if breaks:
            findings.count("sequence_breaks")
            findings.gaps.append((last_book_ns, at_ns))
            found.add(BREAK, (at_ns, at_ns, 0))
            breaks.clear()
        if isinstance(event, BookUpdate):
            last_book_ns = at_ns
        _add(found, at_ns, event)
        if found.is_full:
            yield found.take()
    if len(found):
        yield found.take()


def _add(found: MessageList, at_ns: int, event: RecordedEvent) -> None:
    match event:
        case BookUpdate():
            kind = SNAPSHOT if event.is_snapshot else CHANGES
            found.add(kind, (at_ns, event.recv_ns, event.seq), book_rows(event.bids, event.asks))
        case BestQuote():
            bid = (BEST_BID, event.bid_ticks, event.bid_lots)
            ask = (BEST_ASK, event.ask_ticks, event.ask_lots)
            found.add(QUOTE, (at_ns, event.recv_ns, event.seq), (bid, ask))
        case Trade():
            code = TRADE_BUY if event.taker_side is Side.BUY else TRADE_SELL
            row = (code, event.price_ticks, event.size_lots)
            found.add(PASSED, (at_ns, event.recv_ns, 0), (row,))
