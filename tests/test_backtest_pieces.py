"""A market cut at instants keeps its rows, and its book."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_books import PlainBook

from market_maker.backtest.pieces import between, sliced, split
from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    CLEAR,
    CODE_MASK,
    GAP,
    LAST,
    LEVEL_ASK,
    LEVEL_BID,
    TRADE_BUY,
    Hour,
)


def hour(rows):
    """Hour of rows (venue_ns, code, ticks, lots), each a frame."""
    columns = list(zip(*rows, strict=True))
    return Hour(
        np.array(columns[0], np.int64),
        np.zeros(len(rows), np.int32),
        np.array(columns[1], np.uint8) | np.uint8(LAST),
        np.array(columns[2], np.int32),
        np.array(columns[3], np.uint32),
    )


def told(pieces):
    """Rows (venue_ns, code, ticks, lots) of pieces."""
    return [
        (ns, kind & CODE_MASK, ticks, lots)
        for piece in pieces
        for ns, _, kind, ticks, lots in zip(*(column.tolist() for column in piece), strict=True)
    ]


def book_of(rows):
    book = PlainBook()
    for _, code, ticks, lots in rows:
        if code in (LEVEL_BID, LEVEL_ASK) and not lots:
            (book.bids if code == LEVEL_BID else book.asks).pop(ticks, None)
        else:
            book.take(code, ticks, lots)
    return (book.bids, book.asks) if book.is_trusted else None


ROWS = [
    (10, CLEAR, 0, 0),
    (10, LEVEL_BID, 99, 5),
    (10, LEVEL_ASK, 101, 5),
    (20, LEVEL_BID, 100, 2),
    (30, BEST_BID, 99, 4),
    (40, TRADE_BUY, 101, 1),
    (50, LEVEL_ASK, 101, 4),
]


def test_frames_of_one_stamp_stay_together():
    before, rest = split(hour(ROWS), 20)
    assert (told([before]), told([rest])) == (ROWS[:3], ROWS[3:])


def test_a_piece_from_the_middle_begins_with_the_book_of_then():
    pieces = list(between([hour(ROWS), hour([(60, TRADE_BUY, 101, 2)])], 35, 55))
    assert told(pieces) == [(40, CLEAR, 0, 0), (40, LEVEL_BID, 99, 4), (40, LEVEL_ASK, 101, 5), *ROWS[5:]]
    assert pieces[0].kind.tolist()[:4] == [CLEAR, LEVEL_BID, LEVEL_ASK | LAST, TRADE_BUY | LAST]


def test_the_whole_is_what_it_was():
    whole = [hour(ROWS), hour([(60, TRADE_BUY, 101, 2)])]
    assert told(between(whole, 0, 100)) == told(whole)
    assert told(between(whole, 60, 61)) == [(60, TRADE_BUY, 101, 2)]
    assert told(between(whole, 61, 100)) == []


def test_slices_are_cut_between_stamps():
    assert [len(told([piece])) for piece in sliced(hour(ROWS), 2)] == [3, 2, 2]
    assert told(sliced(hour(ROWS), 1)) == ROWS


@pytest.mark.parametrize("start", [[], [(5, CLEAR, 0, 0), (6, GAP, 0, 0)]])
def test_where_the_book_is_not_known_it_is_not_made_up(start):
    rows = [*start, (10, LEVEL_BID, 99, 5), (20, LEVEL_ASK, 101, 5)]
    assert told(between([hour(rows)], 15, 30)) == [(20, GAP, 0, 0), (20, LEVEL_ASK, 101, 5)]


steps = st.tuples(
    st.sampled_from([LEVEL_BID, LEVEL_ASK, BEST_BID, BEST_ASK, TRADE_BUY, CLEAR]),
    st.integers(95, 105),
    st.integers(0, 3),
)


@settings(deadline=None)
@given(st.lists(steps, min_size=1, max_size=40), st.data())
def test_the_book_at_a_cut_is_the_book_that_a_reader_has(taken, data):
    rows = [(0, CLEAR, 0, 0)]
    for i, (code, ticks, lots) in enumerate(taken):
        rows.append((i + 1, code, ticks, max(lots, code in (BEST_BID, BEST_ASK))))
    at_ns = data.draw(st.integers(1, len(rows) - 1))
    piece = told(between([hour(rows)], at_ns, len(rows)))
    assert book_of(piece) == book_of(rows)
