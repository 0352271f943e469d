"""Hours of a market cut at instants. A piece that begins within an hour begins with the book of then.

Frames are never cut: rows of one stamp stay together.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    CLEAR,
    CODE_MASK,
    GAP,
    LAST,
    LEVEL_ASK,
    LEVEL_BID,
    Hour,
)

_FAR: Final = 2**62


def split(hour: Hour, at_ns: int) -> tuple[Hour, Hour]:
    """Rows stamped before an instant, and those from then on."""
    row = int(np.searchsorted(hour.venue_ns, at_ns))
    return part(hour, slice(0, row)), part(hour, slice(row, None))


def between(hours: Iterable[Hour], from_ns: int, to_ns: int) -> Iterator[Hour]:
    """Events from an instant up to and without another; the first piece begins with its book."""
    started = False
    for hour in hours:
        if int(hour.venue_ns[-1]) < from_ns:
            continue
        if int(hour.venue_ns[0]) >= to_ns:
            return
        before, rest = split(hour, from_ns)
        rest = split(rest, to_ns)[0]
        if rest.venue_ns.size and before.venue_ns.size and not started:
            rest = joined(_book_frame(before, int(rest.venue_ns[0])), rest)
        if rest.venue_ns.size:
            started = True
            yield rest


def sliced(hour: Hour, rows: int) -> Iterator[Hour]:
    """Pieces of an hour of some number of rows, cut between stamps."""
    first, count = 0, hour.venue_ns.size
    while first < count:
        # Up to the end of the stamp that the last row belongs to.
        last = min(first + rows, count) - 1
        end = int(np.searchsorted(hour.venue_ns, hour.venue_ns[last], side="right"))
        yield part(hour, slice(first, end))
        first = end


def part(hour: Hour, span: slice) -> Hour:
    """Some rows of an hour."""
    columns: list[Any] = [column[span] for column in hour]
    return Hour(*columns)


def joined(first: Hour, second: Hour) -> Hour:
    """Rows of two pieces, one after the other."""
    pairs: Any = zip(first, second, strict=True)
    columns = [np.concatenate(pair) for pair in pairs]
    return Hour(*columns)


def _book_frame(before: Hour, at_ns: int) -> Hour:
    """Book that the rows leave behind, as one frame; a gap where none can be trusted."""
    codes = before.kind & CODE_MASK
    start = _last(codes == CLEAR)
    if start < 0 or _last(codes == GAP) > start:
        return _frame(at_ns, [(GAP, 0, 0)])
    rows = part(before, slice(start, None))
    bids, asks = _levels(rows, LEVEL_BID, BEST_BID, sign=1), _levels(rows, LEVEL_ASK, BEST_ASK, sign=-1)
    levels = [*((LEVEL_BID, *level) for level in bids), *((LEVEL_ASK, *level) for level in asks)]
    return _frame(at_ns, [(CLEAR, 0, 0), *levels])


def _levels(rows: Hour, level: int, best: int, *, sign: int) -> list[tuple[int, int]]:
    """Levels (ticks, lots) of a side that are left, best first; `sign` −1 for asks."""
    codes = rows.kind & CODE_MASK
    of_side = np.flatnonzero((codes == level) | (codes == best))
    # A level stands where it was set last, unless a later best quote is worse: then it is gone.
    ticks, lots = rows.ticks[of_side].astype(np.int64) * sign, rows.lots[of_side].astype(np.int64)
    worst = np.where(codes[of_side] == best, ticks, _FAR)[::-1]
    later = np.concatenate([[_FAR], np.minimum.accumulate(worst)])[:-1][::-1]
    prices, newest = np.unique(ticks[::-1], return_index=True)
    at = ticks.size - 1 - newest
    stands = (lots[at] > 0) & (prices <= later[at])
    pairs = zip((sign * prices[stands]).tolist(), lots[at][stands].tolist(), strict=True)
    return list(pairs)[::-1]


def _frame(at_ns: int, rows: list[tuple[int, int, int]]) -> Hour:
    kinds = np.array([code for code, _, _ in rows], np.uint8)
    kinds[-1] |= LAST
    return Hour(
        np.full(len(rows), at_ns, np.int64),
        np.zeros(len(rows), np.int32),
        kinds,
        np.array([ticks for _, ticks, _ in rows], np.int32),
        np.array([lots for _, _, lots in rows], np.uint32),
    )


def _last(found: NDArray[np.bool_]) -> int:
    places = np.flatnonzero(found)
    return int(places[-1]) if places.size else -1
