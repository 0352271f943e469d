"""Books rebuilt from events by the letter of the format, to be held against the streaming readers'."""

from market_maker.domain import BookUpdate, Side
from market_maker.recordings.events import BestQuote
from market_maker.recordings.folding import FoldedBook
from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    CLEAR,
    CODE_MASK,
    GAP,
    LAST,
    LEVEL_ASK,
    LEVEL_BID,
)


class PlainBook:
    """What a reader makes of the rows, with nothing but the format's page before it."""

    def __init__(self):
        self.bids, self.asks = {}, {}
        self.is_trusted = False

    def take(self, code, ticks, lots):
        if code in (LEVEL_BID, LEVEL_ASK):
            self._set(self.bids if code == LEVEL_BID else self.asks, ticks, lots)
        elif code == CLEAR:
            self.bids, self.asks = {}, {}
            self.is_trusted = True
        elif code == GAP:
            self.is_trusted = False
        elif code == BEST_BID:
            self.bids = {price: size for price, size in self.bids.items() if price <= ticks}
            self._set(self.bids, ticks, lots)
        elif code == BEST_ASK:
            self.asks = {price: size for price, size in self.asks.items() if price >= ticks}
            self._set(self.asks, ticks, lots)

    def _set(self, side, ticks, lots):
        side[ticks] = lots
        if not lots:
            del side[ticks]


def frames(hours):
    """Frames of hours, each (venue_ns, recv_ns - venue_ns in µs, [(code, ticks, lots), …])."""
    for hour in hours:
        rows = []
        for venue_ns, delay_us, kind, ticks, lots in zip(*(column.tolist() for column in hour), strict=True):
            rows.append((kind & CODE_MASK, ticks, lots))
            if kind & LAST:
                yield venue_ns, delay_us, rows
                rows = []


def store_books(hours):
    """(at_ns, bids, asks) after each frame that left another book than the one before."""
    book, last = PlainBook(), ({}, {})
    for at_ns, _, rows in frames(hours):
        for row in rows:
            book.take(*row)
        if book.is_trusted and last != (book.bids, book.asks):
            last = (dict(book.bids), dict(book.asks))
            yield at_ns, *last


def oracle_books(events, gaps=()):
    """The same from the events of a streaming reader; `gaps` are spans of no trust, first stamp excluded."""
    book, last = FoldedBook(), ({}, {})
    for at_ns, event in events:
        if isinstance(event, BookUpdate):
            book.apply_update(event)
        elif isinstance(event, BestQuote):
            book.apply_quote(event)
        else:
            continue
        if any(begin < at_ns < end for begin, end in gaps):
            continue
        now = (book.window(Side.BUY, 1 << 30), book.window(Side.SELL, 1 << 30))
        if now != last:
            last = now
            yield at_ns, *now
