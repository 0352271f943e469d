"""Two books of one day, ours and the exchange's: where they differ, entry by entry.

An entry is a match of one of our orders or a funding payment. Its id at the exchange tells which entry of the
one book is which of the other; everything else about it has to be equal, to the last digit. A pair belongs to
the day if either side says so, so that an instant that was noted wrongly is found across midnight too.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

from market_maker.domain import Side

Key = tuple[str, int]


class Day(NamedTuple):
    """Instants that count, ns: from the start on, before the end."""

    start_ns: int
    end_ns: int

    def has(self, at_ns: int) -> bool:
        """Whether an instant is of the day."""
        return self.start_ns <= at_ns < self.end_ns


class FillRow(NamedTuple):
    """A match; price and fee in USD, the fee positive when paid and negative where it is a rebate."""

    market: str
    number: int
    order_id: int
    side: Side
    price: Decimal
    size: Decimal
    fee: Decimal
    is_taker: bool
    venue_ns: int


class FundingRow(NamedTuple):
    """A funding payment; size signed, amount in USD and positive when received."""

    market: str
    number: int
    size: Decimal
    mark_price: Decimal
    rate: Decimal
    amount: Decimal
    venue_ns: int


Row = TypeVar("Row", FillRow, FundingRow)


class Kind(StrEnum):
    """How two books differ in an entry."""

    MISSING_IN_JOURNAL = "missing_in_journal"
    MISSING_AT_EXCHANGE = "missing_at_exchange"
    NOT_KEPT = "older_than_the_exchange_keeps"
    DIFFERS = "differs"
    DOUBLED = "doubled_in_journal"


@dataclass(frozen=True, slots=True)
class Difference(Generic[Row]):
    """One entry in which the books differ; `fields` names what is not equal where both have it."""

    kind: Kind
    ours: Row | None
    theirs: Row | None
    fields: tuple[str, ...] = ()

    @property
    def row(self) -> Row:
        """The entry as the exchange has it, else as we do."""
        row = self.ours if self.theirs is None else self.theirs
        if row is None:
            msg = "expected an entry in one of the books, was in none"
            raise ValueError(msg)
        return row


def compare(
    ours: Iterable[Row], theirs: Iterable[Row], day: Day, kept_since_ns: int | None = None
) -> list[Difference[Row]]:
    """Differences of two books of a day, by time.

    Parameters
    ----------
    ours, theirs : iterable of FillRow or FundingRow
        Entries of the day, in any order; those of other days are left aside, but may be partners.
    kept_since_ns : int, optional
        The oldest instant that the exchange still tells of; None where it tells of the whole day.
    """
    our_rows, their_rows = _by_key(ours), _by_key(theirs)
    of_the_day = {
        key
        for rows in (our_rows, their_rows)
        for key, entries in rows.items()
        if any(day.has(entry.venue_ns) for entry in entries)
    }
    found = [
        difference
        for key in of_the_day
        for difference in _differences(our_rows.get(key, []), their_rows.get(key, []), kept_since_ns)
    ]
    return sorted(found, key=lambda difference: (difference.row.venue_ns, difference.row.number))


def _by_key(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    found: defaultdict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.market, row.number].append(row)
    return found


def _differences(
    ours: Sequence[Row], theirs: Sequence[Row], kept_since_ns: int | None
) -> list[Difference[Row]]:
    """Differences of the entries of one id."""
    left_of_ours, left_of_theirs = list(ours), list(theirs)
    for row in theirs:
        if row in left_of_ours:
            left_of_ours.remove(row)
            left_of_theirs.remove(row)
    found: list[Difference[Row]] = []
    while left_of_ours and left_of_theirs:
        our_row, their_row = left_of_ours.pop(0), left_of_theirs.pop(0)
        found.append(Difference(Kind.DIFFERS, our_row, their_row, _unequal(our_row, their_row)))
    found += [Difference(_alone(row, theirs, kept_since_ns), row, None) for row in left_of_ours]
    found += [Difference(Kind.MISSING_IN_JOURNAL, None, row) for row in left_of_theirs]
    return found


def _unequal(ours: Row, theirs: Row) -> tuple[str, ...]:
    return tuple(name for name, our, their in zip(ours._fields, ours, theirs, strict=True) if our != their)


def _alone(row: Row, theirs: Sequence[Row], kept_since_ns: int | None) -> Kind:
    """Why an entry of ours has no partner."""
    if theirs:
        return Kind.DOUBLED
    if kept_since_ns is not None and row.venue_ns < kept_since_ns:
        return Kind.NOT_KEPT
    return Kind.MISSING_AT_EXCHANGE
