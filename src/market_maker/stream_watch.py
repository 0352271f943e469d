"""Which streams can be trusted: lost and come back, or open and silent; and words in them that nobody knows.

A market's book that says nothing may be quiet. But every trade takes something out of the book: where trades
go on and the book stands still, it is the book's stream that is dead, though it is open, and though frames of
other kinds come. Where all is silent the decision core sees that by itself.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Final

from market_maker.domain import NS_PER_S, Reason
from market_maker.market_desk import MarketDesk
from market_maker.session import Session

# A trade that is this much newer than the book is not in it, whatever the order of the frames.
_NEWER_NS: Final = NS_PER_S
_PATIENCE_NS: Final = 3 * NS_PER_S
_MOST_WORDS: Final = 100


class StreamWatch:
    """What the session knows of its streams."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._lost: set[str] = set()
        self._book_venue_ns: dict[str, int] = {}
        self._unseen_since_ns: dict[str, int] = {}
        self._words: Counter[str] = Counter()

    def on_lost(self, desk: MarketDesk, why: str) -> None:
        """Trust a market's book no more until its stream resumes. A flapping stream is one loss."""
        desk.book.lose_trust()
        self._unseen_since_ns.pop(desk.name, None)
        if desk.name not in self._lost:
            self._lost.add(desk.name)
            self._session.journal.halt(desk.name, Reason.STREAM_LOST, why)
        self._session.metrics.sequence_gap(desk.name)

    def on_book(self, desk: MarketDesk, venue_ns: int) -> None:
        """Note a frame of the book, or of its best prices, that was taken in."""
        self._book_venue_ns[desk.name] = venue_ns
        self._unseen_since_ns.pop(desk.name, None)
        if desk.name in self._lost:
            self._lost.remove(desk.name)
            self._session.note_resumed(desk.name, Reason.STREAM_LOST)
        self._session.resume(desk, Reason.STALE_BOOK)

    def on_trade(self, desk: MarketDesk, venue_ns: int, now_ns: int) -> None:
        """Note a public trade: the book is to follow."""
        if venue_ns - self._book_venue_ns.get(desk.name, venue_ns) > _NEWER_NS:
            self._unseen_since_ns.setdefault(desk.name, now_ns)

    def check(self, now_ns: int) -> None:
        """Pull the quotes where the market trades and its book stands still."""
        for name, since_ns in self._unseen_since_ns.items():
            if now_ns - since_ns >= _PATIENCE_NS:
                why = f"trades for {_PATIENCE_NS / NS_PER_S:g} s, and no frame of the book"
                self._session.halt(self._session.desks[name], Reason.STALE_BOOK, why)

    def count_unknown(self, words: Mapping[str, int]) -> None:
        """Journal each undocumented word of the exchange once, and count them all."""
        for word, count in list(words.items()):
            seen = self._words[word]
            if not seen and len(self._words) <= _MOST_WORDS:
                self._session.journal.note("unknown_word", {"word": word})
            if count > seen:
                self._session.metrics.unknown_words(count - seen)
                self._words[word] = count
