"""Messages to events: the book is followed, and a row is written for each level that changes.

The rules are those of `FoldedBook`, in compiled code. Snapshots become differences from the book as it
stands; a best quote that is newer than a change keeps its say; where a change crosses the book, what it
meets on the other side is gone. Whoever reads the rows needs none of these rules: they are in the rows.

Levels lie in two arrays that are indexed by ticks, of which the system gives us only the pages in use.
"""

from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.kernel import Row, kernel
from market_maker.recordings.messages import BREAK, PASSED, QUOTE, SNAPSHOT, Messages
from market_maker.recordings.store import (
    BEST_BID,
    CLEAR,
    GAP,
    LAST,
    LEVEL_BID,
    Hour,
)

_US: Final = 1_000
_DELAY_LIMIT_US: Final = 2**31 - 1
_BID: Final = 0
_ASK: Final = 1


class Levels(NamedTuple):
    """Sizes by side and ticks, a mark beside each size, and a list of the ticks that may have a size."""

    lots: NDArray[np.uint32]
    marks: NDArray[np.uint32]
    listed: NDArray[np.int64]


@dataclass
class FoldState:
    """What is remembered from message to message; counts of what was found are at its end."""

    best: Annotated[NDArray[np.int64], 2]
    count: Annotated[NDArray[np.int64], 2]
    listed: Annotated[NDArray[np.int64], 2]  # how many ticks are on the list
    quote: Annotated[NDArray[np.int64], 4]  # ticks and lots of the bid, of the ask
    quote_seq: int = 0
    has_quote: bool = False
    change_seq: int = -1
    mark: int = 0  # the last that was given
    rows: int = 0  # rows written into the hour
    clear_due: bool = True  # the next book message is written as CLEAR and the whole book
    broken: bool = False  # nothing of the book is written until a snapshot comes
    is_silent: bool = False  # the book is followed, rows are not written
    crossed_snapshots: int = 0
    locked_snapshots: int = 0
    crossing_changes: int = 0
    crossed_quotes: int = 0
    late_quotes: int = 0
    clipped_delays: int = 0


def first_state() -> FoldState:
    """State before the first message."""
    two = np.zeros(2, np.int64)
    return FoldState(two, two, two, np.zeros(4, np.int64))


@kernel
def fold(levels: Levels, states: Row, messages: Messages, out: Hour, span: tuple[int, int]) -> int:
    """Fold messages from number `span[0]` on into the book, and write events; return the next number.

    It stops at the first message of stamp `span[1]` or later, and where `out` or the list of levels might
    not hold the next one.
    """
    state = states[0]
    number = span[0]
    while number < messages.at_ns.size and messages.at_ns[number] < span[1]:
        rows = messages.first[number + 1] - messages.first[number]
        if state.rows + 4 * rows + 3 * (state.count[0] + state.count[1]) + 8 > out.kind.size:
            break
        if not _has_room(levels, state, rows + 2):
            break
        _take_in(levels, state, messages, number, out)
        number += 1
    return number


@kernel
def _take_in(levels: Levels, state: FoldState, messages: Messages, number: int, out: Hour) -> None:
    kind = messages.kind[number]
    start = state.rows
    if kind == BREAK:
        if not state.broken or state.rows == 0:
            _write(state, out, GAP, 0, 0)
        state.broken = True
    elif kind == PASSED:
        _open_hour(levels, state, messages, number, out)
        start = state.rows
        for row in range(messages.first[number], messages.first[number + 1]):
            _write(state, out, messages.code[row], messages.ticks[row], messages.lots[row])
    else:
        if kind == SNAPSHOT and state.broken:
            state.broken = False
            state.clear_due = True
        state.is_silent = state.broken or state.clear_due
        _change_book(levels, state, messages, number, out)
        state.is_silent = False
        is_known = kind == SNAPSHOT or state.count[0] + state.count[1] > 0
        if state.clear_due and is_known and not state.broken:
            _write_book(levels, state, out)
    _end_frame(state, messages, number, start, out)


@kernel
def _open_hour(levels: Levels, state: FoldState, messages: Messages, number: int, out: Hour) -> None:
    """Begin an hour whose first message leaves the book as it is."""
    if state.rows > 0:
        return
    if state.broken:
        _write(state, out, GAP, 0, 0)
    elif state.clear_due and state.count[0] + state.count[1] > 0:
        _write_book(levels, state, out)
    _end_frame(state, messages, number, 0, out)


@kernel
def _write_book(levels: Levels, state: FoldState, out: Hour) -> None:
    state.clear_due = False
    _write(state, out, CLEAR, 0, 0)
    for side in range(2):
        left = state.count[side]
        ticks = state.best[side]
        while left > 0:
            if levels.lots[side, ticks] > 0:
                _write(state, out, LEVEL_BID + side, ticks, levels.lots[side, ticks])
                left -= 1
            ticks += 2 * side - 1


@kernel
def _end_frame(state: FoldState, messages: Messages, number: int, start: int, out: Hour) -> None:
    if state.rows == start:
        return
    delay = (messages.recv_ns[number] - messages.at_ns[number]) // _US
    if delay > _DELAY_LIMIT_US or delay < -_DELAY_LIMIT_US:
        state.clipped_delays += 1
        delay = min(max(delay, -_DELAY_LIMIT_US), _DELAY_LIMIT_US)
    for row in range(start, state.rows):
        out.venue_ns[row] = messages.at_ns[number]
        out.delay_us[row] = delay
    out.kind[state.rows - 1] |= LAST


@kernel
def _write(state: FoldState, out: Hour, code: int, ticks: int, lots: int) -> None:
    if state.is_silent:
        return
    out.kind[state.rows] = code
    out.ticks[state.rows] = ticks
    out.lots[state.rows] = lots
    state.rows += 1


@kernel
def _change_book(levels: Levels, state: FoldState, messages: Messages, number: int, out: Hour) -> None:
    if messages.kind[number] == QUOTE:
        _take_quote(levels, state, messages, number, out)
        return
    if messages.kind[number] == SNAPSHOT:
        _drop_unnamed(levels, state, messages, number, out)
    for row in range(messages.first[number], messages.first[number + 1]):
        side = messages.code[row] - LEVEL_BID
        _set_level(levels, state, out, side, messages.ticks[row], messages.lots[row])
    state.change_seq = messages.seq[number]
    crossed = state.count[_BID] > 0 and state.count[_ASK] > 0 and state.best[_BID] >= state.best[_ASK]
    if crossed:
        _count_crossed(state, messages.kind[number])
    state.has_quote = state.has_quote and state.quote_seq > messages.seq[number]
    if state.has_quote:
        _fold_quote(levels, state, out)
    elif crossed:
        _uncross(levels, state, messages, number, out)


@kernel
def _count_crossed(state: FoldState, kind: int) -> None:
    if kind != SNAPSHOT:
        state.crossing_changes += 1
    elif state.best[_BID] > state.best[_ASK]:
        state.crossed_snapshots += 1
    else:
        state.locked_snapshots += 1


@kernel
def _drop_unnamed(levels: Levels, state: FoldState, messages: Messages, number: int, out: Hour) -> None:
    """Remove the levels that a snapshot does not name."""
    named, kept = state.mark + 1, state.mark + 2
    state.mark = kept
    for row in range(messages.first[number], messages.first[number + 1]):
        if messages.lots[row] > 0:
            levels.marks[messages.code[row] - LEVEL_BID, messages.ticks[row]] = named
    for side in range(2):
        left = 0
        for place in range(state.listed[side]):
            ticks = levels.listed[side, place]
            mark = levels.marks[side, ticks]
            if levels.lots[side, ticks] == 0 or mark == kept:
                continue
            if mark == named:
                levels.marks[side, ticks] = kept
                levels.listed[side, left] = ticks
                left += 1
            else:
                _set_level(levels, state, out, side, ticks, 0)
        state.listed[side] = left


@kernel
def _has_room(levels: Levels, state: FoldState, rows: int) -> bool:
    """Whether the list holds so many more ticks; those that are empty or twice there are taken off it."""
    for side in range(2):
        if state.listed[side] + rows <= levels.listed.shape[1]:
            continue
        state.mark += 1
        left = 0
        for place in range(state.listed[side]):
            ticks = levels.listed[side, place]
            if levels.lots[side, ticks] > 0 and levels.marks[side, ticks] != state.mark:
                levels.marks[side, ticks] = state.mark
                levels.listed[side, left] = ticks
                left += 1
        state.listed[side] = left
        if 2 * left + rows > levels.listed.shape[1]:
            return False
    return True


@kernel
def _set_level(levels: Levels, state: FoldState, out: Hour, side: int, ticks: int, lots: int) -> None:
    """Set a level, and write it where it changed."""
    if levels.lots[side, ticks] == lots:
        return
    _write(state, out, LEVEL_BID + side, ticks, lots)
    _store_level(levels, state, side, ticks, lots)


@kernel
def _store_level(levels: Levels, state: FoldState, side: int, ticks: int, lots: int) -> None:
    before = levels.lots[side, ticks]
    levels.lots[side, ticks] = lots
    away = 2 * side - 1
    if before == 0:
        levels.listed[side, state.listed[side]] = ticks
        state.listed[side] += 1
        state.count[side] += 1
        if state.count[side] == 1 or (state.best[side] - ticks) * away > 0:
            state.best[side] = ticks
    elif lots == 0:
        state.count[side] -= 1
        if ticks == state.best[side]:
            while state.count[side] > 0 and levels.lots[side, state.best[side]] == 0:
                state.best[side] += away


@kernel
def _take_quote(levels: Levels, state: FoldState, messages: Messages, number: int, out: Hour) -> None:
    row = messages.first[number]
    if messages.seq[number] < state.change_seq:
        state.late_quotes += 1
        return
    if messages.ticks[row] >= messages.ticks[row + 1]:
        state.crossed_quotes += 1
        return
    state.has_quote = True
    state.quote_seq = messages.seq[number]
    for side in range(2):
        state.quote[2 * side] = messages.ticks[row + side]
        state.quote[2 * side + 1] = messages.lots[row + side]
    _fold_quote(levels, state, out)


@kernel
def _fold_quote(levels: Levels, state: FoldState, out: Hour) -> None:
    for side in range(2):
        ticks, lots = state.quote[2 * side], state.quote[2 * side + 1]
        is_better = state.count[side] > 0 and (ticks - state.best[side]) * (2 * side - 1) > 0
        if is_better or levels.lots[side, ticks] != lots:
            _write(state, out, BEST_BID + side, ticks, lots)
        while state.count[side] > 0 and (ticks - state.best[side]) * (2 * side - 1) > 0:
            _store_level(levels, state, side, state.best[side], 0)
        if levels.lots[side, ticks] != lots:
            _store_level(levels, state, side, ticks, lots)


@kernel
def _uncross(levels: Levels, state: FoldState, messages: Messages, number: int, out: Hour) -> None:
    """Drop what the newer side met: the asks where this message set the best bid, else the bids."""
    bid = state.best[_BID]
    side = _BID
    for row in range(messages.first[number], messages.first[number + 1]):
        if messages.code[row] == LEVEL_BID and messages.ticks[row] == bid and messages.lots[row] > 0:
            side = _ASK
    while state.count[side] > 0 and state.best[_BID] >= state.best[_ASK]:
        _set_level(levels, state, out, side, state.best[side], 0)
