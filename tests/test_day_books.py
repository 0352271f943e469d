"""Two books of a day: every difference that is planted is found, and none is invented."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.day_books import Day, Difference, FillRow, FundingRow, Kind, compare
from market_maker.domain import Side

DAY = Day(1_000, 2_000)
few = settings(max_examples=40)
amounts = st.decimals(-1000, 1000, places=6)
sizes = st.decimals("0.001", 1000, places=3)
instants = st.integers(DAY.start_ns, DAY.end_ns - 1)
numbers = st.integers(1, 2**62)
markets = st.sampled_from(["BTC-USD", "ETH-USD"])
fills = st.builds(
    FillRow, markets, numbers, numbers, st.sampled_from(Side), sizes, sizes, amounts, st.booleans(), instants
)
payments = st.builds(FundingRow, markets, numbers, amounts, sizes, amounts, amounts, instants)


def books_of(rows):
    return st.lists(rows, max_size=6, unique_by=lambda row: (row.market, row.number))


books = books_of(fills) | books_of(payments)
books_with_a_row = books.filter(bool)


def other_than(row, field):
    """The row with one field changed, within the day."""
    value = getattr(row, field)
    if field == "side":
        return row._replace(side=Side(-value))
    if field == "is_taker":
        return row._replace(is_taker=not value)
    if field == "venue_ns":
        return row._replace(venue_ns=value - 1 if value > DAY.start_ns else value + 1)
    return row._replace(**{field: value + 1})


def changeable(row):
    return [name for name in row._fields if name not in ("market", "number")]


@few
@given(books, st.randoms(use_true_random=False))
def test_equal_books_differ_in_nothing_in_whatever_order(rows, order):
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert compare(rows, shuffled, DAY) == []


@few
@given(books_with_a_row, st.data())
def test_a_row_that_one_side_lacks_is_the_one_difference(rows, data):
    row = data.draw(st.sampled_from(rows))
    rest = [other for other in rows if other is not row]
    assert compare(rest, rows, DAY) == [Difference(Kind.MISSING_IN_JOURNAL, None, row)]
    assert compare(rows, rest, DAY) == [Difference(Kind.MISSING_AT_EXCHANGE, row, None)]


@few
@given(books_with_a_row, st.data())
def test_a_field_that_was_altered_is_named_and_both_values_with_it(rows, data):
    row = data.draw(st.sampled_from(rows))
    field = data.draw(st.sampled_from(changeable(row)))
    altered = other_than(row, field)
    ours = [altered if other is row else other for other in rows]
    assert compare(ours, rows, DAY) == [Difference(Kind.DIFFERS, altered, row, (field,))]


@few
@given(books_with_a_row, st.integers(1, 3), st.data())
def test_each_further_copy_in_the_journal_is_a_difference(rows, copies, data):
    row = data.draw(st.sampled_from(rows))
    assert compare([*rows, *[row] * copies], rows, DAY) == [Difference(Kind.DOUBLED, row, None)] * copies


@few
@given(books_with_a_row, st.data())
def test_a_copy_that_was_altered_is_one_too_many(rows, data):
    row = data.draw(st.sampled_from(rows))
    copy = other_than(row, data.draw(st.sampled_from(changeable(row))))
    place = data.draw(st.integers(0, len(rows)))
    ours = [*rows[:place], copy, *rows[place:]]
    assert compare(ours, rows, DAY) == [Difference(Kind.DOUBLED, copy, None)]


@few
@given(books, st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5)))
def test_several_at_once_are_all_found_and_told_by_time(rows, lost, altered):
    ours, expected = [], []
    for index, row in enumerate(rows):
        if index in lost:
            expected.append(Difference(Kind.MISSING_IN_JOURNAL, None, row))
        elif index in altered:
            ours.append(other_than(row, "venue_ns"))
            expected.append(Difference(Kind.DIFFERS, ours[-1], row, ("venue_ns",)))
        else:
            ours.append(row)
    found = compare(ours, rows, DAY)
    assert sorted(found, key=repr) == sorted(expected, key=repr)
    assert [one.row.venue_ns for one in found] == sorted(one.row.venue_ns for one in found)


@few
@given(books, st.sampled_from([DAY.start_ns - 1, DAY.end_ns, 0]))
def test_what_is_of_other_days_is_left_aside(rows, at_ns):
    elsewhen = [row._replace(venue_ns=at_ns) for row in rows]
    assert compare(elsewhen, [], DAY) == []
    assert compare([], elsewhen, DAY) == []


@few
@given(fills, st.sampled_from([DAY.start_ns - 1, DAY.end_ns]))
def test_an_instant_that_differs_across_midnight_is_no_missing_row(row, at_ns):
    moved = row._replace(venue_ns=at_ns)
    assert compare([moved], [row], DAY) == [Difference(Kind.DIFFERS, moved, row, ("venue_ns",))]
    assert compare([row], [moved], DAY) == [Difference(Kind.DIFFERS, row, moved, ("venue_ns",))]


@few
@given(fills, st.integers(DAY.start_ns, DAY.end_ns))
def test_what_is_older_than_the_exchange_keeps_is_told_as_such(row, kept_since_ns):
    (found,) = compare([row], [], DAY, kept_since_ns)
    assert found.kind is (Kind.NOT_KEPT if row.venue_ns < kept_since_ns else Kind.MISSING_AT_EXCHANGE)


def test_both_sides_of_a_match_with_ourselves_bear_one_id():
    buy = FillRow("BTC-USD", 7, 1, Side.BUY, Decimal(10), Decimal(1), Decimal(0), False, DAY.start_ns)
    sell = buy._replace(side=Side.SELL, order_id=2)
    assert compare([buy, sell], [sell, buy], DAY) == []
    assert compare([buy], [sell, buy], DAY) == [Difference(Kind.MISSING_IN_JOURNAL, None, sell)]


def test_the_scale_of_a_number_is_no_difference():
    """The wire writes 16 digits behind the point."""
    row = FillRow("BTC-USD", 7, 1, Side.BUY, Decimal(10), Decimal(1), Decimal(0), False, DAY.start_ns)
    assert compare([row], [row._replace(price=Decimal("10.0000000000000000"))], DAY) == []


def test_a_difference_of_nothing_is_none():
    with pytest.raises(ValueError, match="expected an entry in one of the books"):
        _ = Difference(Kind.DIFFERS, None, None).row
