"""Which streams can be trusted: lost and come back, or open and silent; and words in them that nobody knows.

A market's book that says nothing may be quiet. But every trade takes something out of the book: where trades
go on and the book stands still, it is the book's stream that is dead, though it is open, and though frames of
other kinds come. Where all is silent the decision core sees that by itself.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from market_maker.domain import NS_PER_S, Reason
from market_maker.market_desk import MarketDesk
from market_maker.session import Session

# A trade that is this much newer than the book is not in it, whatever the order of the frames.
_NEWER_NS: Final = NS_PER_S
_PATIENCE_NS: Final = 3 * NS_PER_S
# After a loss that is not the first in a minute quotes wait, lest a flapping link becomes a storm.
_FORGOTTEN_NS: Final = 60 * NS_PER_S
_FIRST_WAIT_NS: Final = NS_PER_S
_LONGEST_WAIT_NS: Final = 4 * NS_PER_S
_MOST_WORDS: Final = 100


@dataclass(slots=True)
class _Link:
    """One market's stream: whether it is lost, and until when quotes wait though it is back."""

    is_lost: bool = False
    lost_ns: int = 0
    wait_ns: int = 0
    wait_until_ns: int = 0
    book_venue_ns: int = 0
    unseen_since_ns: int = 0


class StreamWatch:
    """What the session knows of its streams; it alone puts STREAM_LOST in force and lifts it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._links = {name: _Link() for name in session.desks}
        self._account_is_lost = False
        self._words: Counter[str] = Counter()

    def on_account_lost(self, why: str) -> None:
        """Pull all quotes: nobody would hear of a fill."""
        self._account_is_lost = True
        self._session.halt_all(Reason.STREAM_LOST, why)

    def on_account_compared(self) -> None:
        """Quote again, where the market's own stream is there: the account is heard, and as we have it."""
        self._account_is_lost = False
        self.check(self._session.clock.now_ns())

    def on_lost(self, desk: MarketDesk, why: str, now_ns: int) -> None:
        """Trust a market's book no more until its stream resumes."""
        link = self._links[desk.name]
        desk.book.lose_trust()
        link.unseen_since_ns = 0
        if not link.is_lost:
            is_first = not link.lost_ns or now_ns - link.lost_ns > _FORGOTTEN_NS
            link.wait_ns = 0 if is_first else min(max(2 * link.wait_ns, _FIRST_WAIT_NS), _LONGEST_WAIT_NS)
        link.is_lost, link.lost_ns = True, now_ns
        self._session.halt(desk, Reason.STREAM_LOST, why)
        self._session.metrics.sequence_gap(desk.name)

    def on_book(self, desk: MarketDesk, venue_ns: int, now_ns: int) -> None:
        """Note a frame of the book, or of its best prices, that was taken in."""
        link = self._links[desk.name]
        link.book_venue_ns, link.unseen_since_ns = venue_ns, 0
        if link.is_lost:
            link.is_lost, link.wait_until_ns = False, now_ns + link.wait_ns
        self._lift(desk, link, now_ns)
        self._session.resume(desk, Reason.STALE_BOOK)

    def _lift(self, desk: MarketDesk, link: _Link, now_ns: int) -> None:
        if not (self._account_is_lost or link.is_lost or now_ns < link.wait_until_ns):
            self._session.resume(desk, Reason.STREAM_LOST)

    def on_trade(self, desk: MarketDesk, venue_ns: int, now_ns: int) -> None:
        """Note a public trade: the book is to follow."""
        link = self._links[desk.name]
        if link.book_venue_ns and venue_ns - link.book_venue_ns > _NEWER_NS:
            link.unseen_since_ns = link.unseen_since_ns or now_ns

    def check(self, now_ns: int) -> None:
        """Pull the quotes where the market trades and its book stands still; lift what waited long enough."""
        for name, link in self._links.items():
            desk = self._session.desks[name]
            self._lift(desk, link, now_ns)
            if link.unseen_since_ns and now_ns - link.unseen_since_ns >= _PATIENCE_NS:
                why = f"trades for {_PATIENCE_NS / NS_PER_S:g} s, and no frame of the book"
                self._session.halt(desk, Reason.STALE_BOOK, why)

    def count_unknown(self, words: Mapping[str, int]) -> None:
        """Journal each undocumented word of the exchange once, and count them all."""
        for word, count in list(words.items()):
            seen = self._words[word]
            if not seen and len(self._words) <= _MOST_WORDS:
                self._session.journal.note("unknown_word", {"word": word})
            if count > seen:
                self._session.metrics.unknown_words(count - seen)
                self._words[word] = count
