"""The book beside a plain one: frames in turn, lost and doubled, snapshots, own orders, in any order.

The venue here has the true book and numbers its frames. What reaches the manager is every frame, or not; the
oracle applies what a trusting reader may apply, and the true book says what must be seen after a snapshot.
"""

from fuzzing import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from test_orderbook_manager import BTC, delta, oracle, snapshot

from market_maker.domain import Reason, Side
from market_maker.orderbook_manager import BookSettings, OrderbookManager

PRICES = st.integers(1, 12)
ASKS_UP = 6
CHANGES = st.lists(st.tuples(PRICES, st.integers(0, 4)), max_size=4)
OWN = st.dictionaries(PRICES, st.integers(0, 4), max_size=3)
DEPTH = 3


class Books(RuleBasedStateMachine):
    """A venue, what of it was heard, and the manager."""

    def __init__(self):
        super().__init__()
        self.manager = OrderbookManager(BTC, BookSettings(DEPTH, 0.0, 0.0))
        self.true = ({}, {})
        self.own = ({}, {})
        self.seen = None
        self.seq = self.heard_seq = 0
        self.gaps = 0
        self.last = None

    def change(self, bids, asks):
        """The venue's book changes; its next frame says so."""
        moved = [(price + ASKS_UP, lots) for price, lots in asks]
        for side, levels in zip(self.true, (bids, moved), strict=True):
            for price, lots in levels:
                side[price] = lots
                if not lots:
                    del side[price]
        self.seq += 1
        return delta(bids, moved, seq=self.seq)

    @rule(bids=CHANGES, asks=CHANGES, is_lost=st.booleans() | st.just(False))
    def deltas(self, bids, asks, is_lost):
        frame = self.change(bids, asks)
        if not is_lost:
            self.hear(frame)

    @rule(is_lost=st.booleans() | st.just(False))
    def whole_books(self, is_lost):
        self.seq += 1
        frame = snapshot(*(list(side.items()) for side in self.true), seq=self.seq)
        if not is_lost:
            self.hear(frame)

    def hear(self, frame):
        self.manager.apply(frame)
        self.last = frame
        if frame.is_snapshot:
            self.gaps += self.seen is not None and frame.seq > self.heard_seq + 1
            self.seen = tuple(dict(side) for side in self.true)
        elif self.seen is not None and frame.seq == self.heard_seq + 1:
            for side, levels in zip(self.seen, (frame.bids, frame.asks), strict=True):
                side.update(levels)
        elif self.seen is not None:
            self.gaps += 1
            self.seen = None
            return
        if self.seen is not None:
            self.heard_seq = frame.seq

    @rule()
    def the_same_frame_twice(self):
        if self.last is not None and not self.last.is_snapshot:
            self.manager.apply(self.last)

    @rule()
    def the_connection_is_lost(self):
        """A new one numbers from the beginning, with a snapshot."""
        self.manager.lose_trust()
        self.seen, self.last, self.seq = None, None, 0

    @rule(side=st.sampled_from([Side.BUY, Side.SELL]), own=OWN)
    def our_orders_change(self, side, own):
        at = 0 if side is Side.BUY else 1
        own = {price + ASKS_UP * at: lots for price, lots in own.items()}
        self.manager.set_own(side, own, 0)
        self.own = (own, self.own[1]) if side is Side.BUY else (self.own[0], own)

    @invariant()
    def the_book_is_what_was_heard_less_our_own(self):
        book = self.manager.book
        if self.seen is None:
            assert book is None
            assert self.manager.reason in (Reason.NO_BOOK, Reason.STREAM_LOST)
            assert self.manager.levels(Side.BUY, 99) == self.manager.levels(Side.SELL, 99) == []
            return
        assert (None if book is None else book[:6]) == oracle(*self.seen, *self.own, DEPTH)

    @invariant()
    def while_it_is_trusted_it_is_the_venues(self):
        if self.seen is not None and self.heard_seq == self.seq:
            for at, side in enumerate((Side.BUY, Side.SELL)):
                own = self.own[at]
                left = {p: q - own.get(p, 0) for p, q in self.true[at].items() if q > own.get(p, 0)}
                assert self.manager.levels(side, 99) == sorted(left.items(), reverse=side is Side.BUY)

    @invariant()
    def gaps_are_counted(self):
        assert self.manager.gaps == self.gaps
        assert self.manager.trusted == (self.seen is not None)


TestBooks = Books.TestCase
TestBooks.settings = examples(40, steps=30)
