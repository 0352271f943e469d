"""The order of numbered frames."""

from collections import Counter

import pytest

from market_maker.exchanges.turns import Turns
from market_maker.exchanges.wire import CorruptFrame


def turns(first=None):
    unknown = Counter()
    made = Turns("book", unknown)
    made.restart(first)
    return made, unknown


def test_frames_in_turn_and_those_heard_before_however_late():
    book, unknown = turns()
    assert not book.has_begun
    assert [book.is_next(seq, b"%d" % seq) for seq in (1, 2, 3, 2, 1, 3, 4)] == [
        True,
        True,
        True,
        False,
        False,
        False,
        True,
    ]
    assert unknown == {"book frame twice": 3}


@pytest.mark.parametrize("seq", [0, 1, 2, 4, 9])
def test_any_other_number_is_out_of_turn(seq):
    book, _ = turns()
    for heard in (1, 2):
        book.is_next(heard, b"heard")
    with pytest.raises(CorruptFrame, match=f"expected book frame 3, was {seq}"):
        book.is_next(seq, b"something else")


def test_numbers_that_start_anew_are_no_repeats():
    book, _ = turns()
    for seq in range(1, 20):
        book.is_next(seq, b"%d" % seq)
    with pytest.raises(CorruptFrame, match="expected book frame 20, was 1"):
        book.is_next(1, b"a new snapshot")


def test_a_new_connection_has_numbers_of_its_own():
    book, _ = turns(first=1)
    with pytest.raises(CorruptFrame, match="expected book frame 1, was 2"):
        book.is_next(2, b"")
    book.is_next(1, b"same")
    book.restart(first=1)
    assert book.is_next(1, b"same")


def test_what_is_long_past_is_forgotten():
    book, _ = turns()
    for seq in range(1, 200):
        book.is_next(seq, b"%d" % seq)
    assert not book.is_next(150, b"150")
    with pytest.raises(CorruptFrame):
        book.is_next(2, b"2")
