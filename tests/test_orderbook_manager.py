"""The order book: trust in its sequence, and our own orders taken out."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.domain import BestQuote, Book, BookUpdate, Reason, Side
from market_maker.instrument import Instrument
from market_maker.orderbook_manager import BookSettings, OrderbookManager, SequenceGap

BTC = Instrument("BTC-USD", tick=Decimal(1), step=Decimal("0.001"), min_size=Decimal("0.001"))
LINGER_NS = 250_000_000


def snapshot(bids, asks, seq=1, recv_ns=1):
    return BookUpdate(
        "BTC-USD", is_snapshot=True, bids=bids, asks=asks, seq=seq, venue_ns=recv_ns - 1, recv_ns=recv_ns
    )


def delta(bids=(), asks=(), seq=2, recv_ns=2):
    return BookUpdate(
        "BTC-USD",
        is_snapshot=False,
        bids=list(bids),
        asks=list(asks),
        seq=seq,
        venue_ns=recv_ns - 1,
        recv_ns=recv_ns,
    )


def best_quote(bid, ask, venue_ns=5, recv_ns=6):
    return BestQuote("BTC-USD", *bid, *ask, venue_ns, recv_ns)


def started(levels=5, bps=0.0, linger_ms=250.0):
    manager = OrderbookManager(BTC, BookSettings(levels, bps, linger_ms))
    manager.apply(snapshot([(100, 5), (99, 7), (97, 9)], [(102, 4), (103, 6), (110, 8)]))
    return manager


def test_nothing_is_known_before_the_first_snapshot():
    manager = OrderbookManager(BTC, BookSettings())
    assert manager.apply(delta([(100, 1)], [(101, 1)], seq=1)) is None
    assert (manager.book, manager.mid2_ticks, manager.reason) == (None, None, Reason.NO_BOOK)
    assert manager.levels(Side.BUY, 3) == []
    assert manager.last_frame_ns == 2


def test_snapshot_gives_a_book():
    manager = started()
    assert manager.book == Book(100, 5, 102, 4, 21, 18, 0, 1)
    assert manager.mid2_ticks == 202
    assert manager.reason is Reason.NONE
    assert manager.levels(Side.BUY, 2) == [(100, 5), (99, 7)]
    assert manager.levels(Side.SELL, 2) == [(102, 4), (103, 6)]


def test_size_only_change_at_the_best_price_is_news():
    manager = started()
    book = manager.apply(delta([(100, 6)]))
    assert book is not None
    assert (book.bid_ticks, book.bid_lots, book.venue_ns, book.recv_ns) == (100, 6, 1, 2)


def test_delta_on_an_unknown_level_with_size_zero_changes_nothing():
    manager = started()
    before = manager.book
    after = manager.apply(delta([(98, 0)], [(104, 0)]))
    assert after[:6] == before[:6]


def test_levels_come_and_go():
    manager = started()
    book = manager.apply(delta([(101, 2)], [(102, 0)]))
    assert (book.bid_ticks, book.bid_lots, book.ask_ticks, book.ask_lots) == (101, 2, 103, 6)
    book = manager.apply(delta([(101, 0), (100, 0)], seq=3))
    assert (book.bid_ticks, book.bid_lots) == (99, 7)


@pytest.mark.parametrize(
    ("levels", "bps", "depth"),
    [(1, 0.0, (5, 4)), (2, 0.0, (12, 10)), (9, 0.0, (21, 18)), (9, 100.0, (12, 10)), (9, 1.0, (5, 4))],
)
def test_depth_is_within_levels_and_bps(levels, bps, depth):
    book = started(levels, bps).book
    assert (book.bid_depth_lots, book.ask_depth_lots) == depth


@pytest.mark.parametrize("seq", [4, 9, 0])
def test_a_frame_out_of_turn_ends_trust_until_the_next_snapshot(seq):
    manager = started()
    assert manager.apply(delta([(100, 9)], seq=seq)) is None
    assert manager.reason is Reason.STREAM_LOST
    assert (manager.trusted, manager.gaps, manager.last_gap) == (False, 1, SequenceGap(2, seq))
    assert manager.apply(delta([(100, 9)], seq=seq + 1)) is None
    assert manager.levels(Side.BUY, 1) == []
    assert manager.apply(snapshot([(90, 1)], [(91, 1)], seq=1)) == Book(90, 1, 91, 1, 1, 1, 0, 1)
    assert manager.trusted


def test_the_same_frame_twice_changes_nothing():
    manager = started()
    first = manager.apply(delta([(100, 9)]))
    assert manager.apply(delta([(100, 9)])) == first
    assert manager.gaps == 0


def test_snapshot_in_turn_and_snapshot_that_heals():
    manager = started()
    assert manager.apply(snapshot([(100, 5)], [(102, 4)], seq=2)) is not None
    assert manager.gaps == 0
    assert manager.apply(snapshot([(100, 5)], [(102, 4)], seq=9)) is not None
    assert (manager.gaps, manager.last_gap) == (1, SequenceGap(3, 9))
    assert manager.apply(delta([(100, 1)], seq=10)).bid_lots == 1


def test_lost_stream_ends_trust():
    manager = started()
    manager.lose_trust()
    assert (manager.book, manager.reason) == (None, Reason.STREAM_LOST)


@pytest.mark.parametrize("bid", [102, 103])
def test_crossed_and_locked_books_are_no_books(bid):
    manager = started()
    assert manager.apply(delta([(bid, 1)])) is None
    assert manager.reason is Reason.CROSSED_BOOK
    assert manager.apply(delta([(bid, 0)], seq=3)) is not None


def test_an_empty_side_is_no_book():
    manager = started()
    assert manager.apply(delta([(100, 0), (99, 0), (97, 0)])) is None
    assert manager.reason is Reason.NO_BOOK


def test_quiet_is_not_stale():
    manager = started()
    manager.heard(77)
    assert manager.last_frame_ns == 77
    manager.heard(5)
    assert manager.last_frame_ns == 77


def test_frame_of_another_market():
    with pytest.raises(ValueError, match="expected a frame of BTC-USD, was of ETH-USD"):
        started().apply(delta()._replace(market="ETH-USD"))


def test_where_our_orders_are_in_no_book_nothing_is_taken_out():
    manager = started()
    manager.shows_own = False
    before = manager.book
    manager.set_own(Side.BUY, {100: 5}, 2)
    manager.set_own(Side.BUY, {}, 3)
    assert manager.book == before
    assert manager.levels(Side.BUY, 1) == [(100, 5)]


def test_own_orders_are_taken_out():
    manager = started()
    manager.set_own(Side.BUY, {100: 5, 99: 3}, 2)
    manager.set_own(Side.SELL, {102: 1}, 2)
    book = manager.book
    assert (book.bid_ticks, book.bid_lots, book.bid_depth_lots) == (99, 4, 13)
    assert (book.ask_ticks, book.ask_lots, book.ask_depth_lots) == (102, 3, 17)
    assert manager.mid2_ticks == 201


def test_own_order_that_the_book_does_not_show_yet_takes_no_more_than_there_is():
    manager = started()
    manager.set_own(Side.BUY, {100: 50, 101: 3}, 2)
    book = manager.book
    assert (book.bid_ticks, book.bid_lots, book.bid_depth_lots) == (99, 7, 16)
    book = manager.apply(delta([(100, 55), (101, 3)]))
    assert (book.bid_ticks, book.bid_lots) == (100, 5)


def test_own_crossing_leftover_does_not_cross_the_book():
    manager = started()
    manager.set_own(Side.BUY, {102: 2}, 2)
    assert manager.apply(delta([(102, 2)])).bid_ticks == 100


def test_cancelled_own_order_is_no_strangers_until_a_frame_speaks_of_its_price():
    manager = started()
    manager.set_own(Side.BUY, {101: 3}, 2)
    assert manager.apply(delta([(101, 3)])).bid_ticks == 100
    manager.set_own(Side.BUY, {}, 10)
    assert manager.book.bid_ticks == 100
    assert manager.apply(delta([(97, 1)], seq=3, recv_ns=11)).bid_ticks == 100
    assert manager.apply(delta([(101, 2)], seq=4, recv_ns=12)).bid_ticks == 101


def test_echo_of_a_cancelled_order_ends_by_time_and_by_snapshot():
    manager = started()
    manager.set_own(Side.BUY, {100: 5}, 10)
    manager.set_own(Side.BUY, {}, 10)
    assert manager.apply(delta(seq=2, recv_ns=9 + LINGER_NS)).bid_ticks == 99
    assert manager.apply(delta(seq=3, recv_ns=10 + LINGER_NS)).bid_ticks == 100
    manager.set_own(Side.BUY, {100: 5}, 10 + LINGER_NS)
    manager.set_own(Side.BUY, {}, 10 + LINGER_NS)
    assert manager.book.bid_ticks == 99
    assert manager.apply(snapshot([(100, 5)], [(102, 1)], seq=4)).bid_ticks == 100


def test_partly_filled_own_order_echoes_its_old_size():
    manager = started()
    manager.set_own(Side.BUY, {100: 4}, 2)
    assert manager.book.bid_lots == 1
    manager.set_own(Side.BUY, {100: 1}, 3)
    assert manager.book.bid_lots == 1
    assert manager.apply(delta([(100, 2)], recv_ns=4)).bid_lots == 1
    manager.set_own(Side.BUY, {100: 1}, 5)
    manager.set_own(Side.BUY, {100: 2}, 5)
    assert manager.book.bid_ticks == 99


def test_each_removal_starts_an_echo_of_its_own():
    manager = started()
    for lots, at_ns in ((2, 10), (0, 10), (5, 20), (0, 20)):
        manager.set_own(Side.BUY, {100: lots}, at_ns)
    manager.set_own(Side.BUY, {}, 10 + LINGER_NS)
    assert manager.book.bid_ticks == 99
    manager.set_own(Side.BUY, {}, 20 + LINGER_NS)
    assert manager.book.bid_ticks == 100


def test_expired_echoes_are_forgotten():
    manager = started(linger_ms=0.0)
    manager.set_own(Side.BUY, {100: 5}, 2)
    manager.set_own(Side.BUY, {}, 3)
    assert manager.book.bid_ticks == 100
    manager.set_own(Side.BUY, {}, 4)
    assert manager.book.bid_lots == 5


prices = st.integers(1, 12)
sizes = st.integers(0, 4)
changes = st.lists(st.tuples(prices, sizes), max_size=5)
frames = st.lists(st.tuples(st.booleans(), changes, changes), min_size=1, max_size=12)
own_sizes = st.dictionaries(prices, sizes, max_size=3)


def oracle(bids, asks, own_bids, own_asks, levels):
    """Best and depth of both sides by brute force over plain dicts."""

    def net(shown, own, *, best_first):
        left = [(p, q - own.get(p, 0)) for p, q in shown.items() if q > own.get(p, 0)]
        return sorted(left, reverse=best_first)

    bid_levels, ask_levels = net(bids, own_bids, best_first=True), net(asks, own_asks, best_first=False)
    if not bid_levels or not ask_levels or bid_levels[0][0] >= ask_levels[0][0]:
        return None
    depth = [sum(q for _, q in side[:levels]) for side in (bid_levels, ask_levels)]
    return (*bid_levels[0], *ask_levels[0], *depth)


@given(frames=frames, own_bids=own_sizes, own_asks=own_sizes, levels=st.integers(1, 4))
def test_book_equals_a_naive_one(frames, own_bids, own_asks, levels):
    manager = OrderbookManager(BTC, BookSettings(levels, 0.0, 0.0))
    manager.apply(snapshot([], [], seq=1))
    manager.set_own(Side.BUY, own_bids, 0)
    manager.set_own(Side.SELL, own_asks, 0)
    bids, asks = {}, {}
    for seq, (is_snapshot, bid_changes, ask_changes) in enumerate(frames, start=2):
        if is_snapshot:
            bids, asks = {}, {}
        for shown, changed in ((bids, bid_changes), (asks, ask_changes)):
            # Asks are moved up so that most books are not crossed.
            shown.update({p + (6 if shown is asks else 0): q for p, q in changed})
        moved = [(p + 6, q) for p, q in ask_changes]
        frame = snapshot(bid_changes, moved, seq) if is_snapshot else delta(bid_changes, moved, seq)
        book = manager.apply(frame)
        expected = oracle(bids, asks, own_bids, own_asks, levels)
        assert (None if book is None else book[:6]) == expected
        assert manager.mid2_ticks == (None if expected is None else expected[0] + expected[2])
        for side, shown in ((Side.BUY, bids), (Side.SELL, asks)):
            assert all(lots > 0 for _, lots in manager.levels(side, 99))
            assert {p for p, _ in manager.levels(side, 99)} <= set(shown)


def test_a_best_quote_hides_what_is_better_and_keeps_what_is_behind():
    manager = started()
    book = manager.apply_best(best_quote((98, 2), (102, 1)))
    assert book == Book(98, 2, 102, 1, 11, 15, 5, 6)
    assert manager.levels(Side.BUY, 9) == [(98, 2), (97, 9)]
    assert manager.levels(Side.SELL, 2) == [(102, 1), (103, 6)]
    assert manager.last_frame_ns == 6


def test_a_newer_book_frame_ends_the_best_quote_and_the_book_is_as_it_was():
    manager = started()
    manager.apply_best(best_quote((98, 2), (106, 1)))
    book = manager.apply(delta([(90, 1)], recv_ns=7))
    assert book == Book(100, 5, 102, 4, 22, 18, 6, 7)


def test_an_older_book_frame_changes_only_what_is_behind():
    manager = started()
    manager.apply_best(best_quote((98, 2), (102, 1)))
    book = manager.apply(delta([(100, 9), (98, 0), (97, 4)], recv_ns=5))
    assert book == Book(98, 2, 102, 1, 6, 15, 5, 6)
    assert manager.levels(Side.BUY, 9) == [(98, 2), (97, 4)]


@pytest.mark.parametrize("venue_ns", [0, -7])
def test_a_best_quote_of_the_same_millisecond_or_before_the_book_is_no_news(venue_ns):
    manager = started()
    before = manager.book
    assert manager.apply_best(best_quote((98, 2), (106, 1), venue_ns)) == before
    assert manager.last_frame_ns == 6


def test_of_two_best_quotes_the_later_counts_whatever_comes_first():
    manager = started()
    manager.apply_best(best_quote((98, 2), (106, 1), venue_ns=8))
    assert manager.apply_best(best_quote((99, 3), (105, 1), venue_ns=7)).bid_ticks == 98
    assert manager.apply_best(best_quote((99, 3), (105, 1), venue_ns=8)).bid_ticks == 99


def test_a_best_quote_is_no_ground_for_trust():
    manager = OrderbookManager(BTC, BookSettings())
    assert manager.apply_best(best_quote((98, 2), (106, 1))) is None
    assert manager.reason is Reason.NO_BOOK
    manager = started()
    manager.apply(delta(seq=9))
    assert manager.apply_best(best_quote((98, 2), (106, 1))) is None
    assert (manager.reason, manager.levels(Side.BUY, 1)) == (Reason.STREAM_LOST, [])
    # It was sent after this snapshot was, and still tells more.
    assert manager.apply(snapshot([(100, 5)], [(102, 4)], recv_ns=3)).bid_ticks == 98


def test_own_orders_are_taken_out_of_a_best_quote():
    manager = started()
    manager.set_own(Side.BUY, {101: 3}, 2)
    manager.set_own(Side.SELL, {102: 1}, 2)
    book = manager.apply_best(best_quote((101, 3), (102, 4)))
    assert (book.bid_ticks, book.bid_lots, book.ask_ticks, book.ask_lots) == (100, 5, 102, 3)
    assert (book.bid_depth_lots, book.ask_depth_lots) == (21, 17)
    assert manager.apply_best(best_quote((101, 5), (102, 4))).bid_lots == 2


def test_echo_of_a_cancelled_order_goes_on_in_best_quotes_that_may_still_show_it():
    manager = started()
    manager.set_own(Side.BUY, {101: 3}, 2)
    manager.set_own(Side.BUY, {}, 5)
    assert manager.apply_best(best_quote((101, 3), (102, 4))).bid_ticks == 100
    late = best_quote((101, 3), (102, 4), recv_ns=5 + LINGER_NS)
    assert manager.apply_best(late).bid_ticks == 101


@pytest.mark.parametrize("bid", [102, 107])
def test_a_crossed_best_quote_leaves_no_book_and_a_crossed_book_yields_to_a_good_one(bid):
    manager = started()
    assert manager.apply_best(best_quote((bid, 1), (102, 1))) is None
    assert manager.reason is Reason.CROSSED_BOOK
    assert manager.apply(delta(recv_ns=9)).bid_ticks == 100
    assert manager.apply(delta([(bid, 1)], seq=3, recv_ns=9)) is None
    assert manager.apply_best(best_quote((104, 1), (105, 1), venue_ns=20))[:4] == (104, 1, 105, 1)


def test_a_side_that_the_best_quote_says_is_empty_is_empty():
    manager = started()
    assert manager.apply_best(best_quote((0, 0), (102, 1))) is None
    assert manager.reason is Reason.NO_BOOK
    assert manager.levels(Side.BUY, 9) == []
    assert manager.apply_best(best_quote((98, 1), (102, 1))).bid_ticks == 98


def test_a_best_quote_from_a_clock_that_is_ahead_does_not_hide_the_book_for_good():
    manager = started()
    manager.apply_best(best_quote((98, 2), (106, 1), venue_ns=10**15))
    assert manager.apply(delta(recv_ns=2 * 10**9)).bid_ticks == 98
    assert manager.apply(delta(seq=3, recv_ns=6 + 2 * 10**9)).bid_ticks == 100


def test_best_quote_of_another_market():
    with pytest.raises(ValueError, match="expected a frame of BTC-USD, was of ETH-USD"):
        started().apply_best(best_quote((1, 1), (2, 1))._replace(market="ETH-USD"))


class Venue:
    """A true book that changes once a millisecond, and what it sends: deltas rarely, best quotes often."""

    def __init__(self, steps):
        self.states = [({100: 1}, {107: 1})]
        for side, price, lots in steps:
            sides = ({**self.states[-1][0]}, {**self.states[-1][1]})
            sides[side][price + 94 + 6 * side] = lots
            self.states.append(tuple({p: q for p, q in shown.items() if q} for shown in sides))

    def frames(self, every):
        """A snapshot, then what changed since, every so many milliseconds."""
        yield snapshot(*(list(side.items()) for side in self.states[0]))._replace(venue_ns=0)
        for seq, at in enumerate(range(every, len(self.states), every), start=2):
            sides = []
            for old, new in zip(self.states[at - every], self.states[at], strict=True):
                sides.append([(p, new.get(p, 0)) for p in old | new if old.get(p) != new.get(p)])
            yield delta(*sides, seq=seq)._replace(venue_ns=at)

    def best_quotes(self, every):
        for at in range(0, len(self.states), every):
            bids, asks = self.states[at]
            bid = max(bids.items(), default=(0, 0))
            yield best_quote(bid, min(asks.items(), default=(0, 0)), venue_ns=at)


@given(
    steps=st.lists(st.tuples(st.integers(0, 1), prices, sizes), min_size=1, max_size=40),
    every=st.tuples(st.integers(1, 12), st.integers(1, 4)),
    order=st.lists(st.booleans(), max_size=60),
    own_bids=own_sizes,
    own_asks=own_sizes,
    levels=st.integers(1, 4),
)
def test_the_best_that_is_shown_is_never_older_than_the_newest_frame(
    steps, every, order, own_bids, own_asks, levels
):
    venue = Venue(steps)
    frames, bests = list(venue.frames(every[0])), list(venue.best_quotes(every[1]))
    own_bids = {price + 94: lots for price, lots in own_bids.items()}
    own_asks = {price + 100: lots for price, lots in own_asks.items()}
    manager = OrderbookManager(BTC, BookSettings(levels, 0.0, 0.0))
    manager.set_own(Side.BUY, own_bids, 0)
    manager.set_own(Side.SELL, own_asks, 0)
    book_at = best_at = -1
    while frames or bests:
        takes_frame = frames and (not bests or (order.pop() if order else True))
        if takes_frame:
            book_at = frames[0].venue_ns
            book = manager.apply(frames.pop(0))
        else:
            best_at = max(best_at, bests[0].venue_ns)
            book = manager.apply_best(bests.pop(0))
        if book_at < 0:
            assert book is None
            continue
        bids, asks = venue.states[book_at]
        if best_at > book_at:
            newest_bids, newest_asks = venue.states[best_at]
            bid, ask = max(newest_bids, default=0), min(newest_asks, default=10**6)
            bids = {p: q for p, q in bids.items() if p < bid} | {bid: newest_bids.get(bid, 0)}
            asks = {p: q for p, q in asks.items() if p > ask} | {ask: newest_asks.get(ask, 0)}
        assert (None if book is None else book[:6]) == oracle(bids, asks, own_bids, own_asks, levels)
        for side in (Side.BUY, Side.SELL):
            shown = manager.levels(side, 99)
            assert all(lots > 0 for _, lots in shown)
            assert shown == sorted(shown, reverse=side is Side.BUY)
        if book is not None:
            assert book.venue_ns == max(book_at, best_at)
    # When all has come, nothing of the overlay is left in the book itself.
    last = delta(seq=manager.gaps + len(list(venue.frames(every[0]))) + 1)._replace(venue_ns=10**6)
    manager.apply(last)
    at = len(venue.states[:-1]) // every[0] * every[0]
    assert oracle(*venue.states[at], own_bids, own_asks, levels) == (manager.book and manager.book[:6])
