"""Messages in, hours of events out: the compiled fold with the arrays that it works on, grown as needed."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.kernel import new_row
from market_maker.recordings.book_fold import Levels, first_state, fold
from market_maker.recordings.events import RecordingError
from market_maker.recordings.findings import Findings
from market_maker.recordings.messages import PASSED, Messages
from market_maker.recordings.store import NS_PER_HOUR, Hour

_FIRST_TICKS: Final = 1 << 16
_MOST_TICKS: Final = 1 << 27
_FIRST_ROWS: Final = 1 << 18
_FIRST_LISTED: Final = 1 << 14
_LIMITS: Final = {"ticks": np.iinfo(np.int32), "lots": np.iinfo(np.uint32)}
_FOUND: Final = (
    "crossed_snapshots",
    "locked_snapshots",
    "crossing_changes",
    "crossed_quotes",
    "late_quotes",
    "clipped_delays",
)


class HourFolding:
    """Follows the book of one market and cuts its events into hours.

    Parameters
    ----------
    place : str
        The market and where it comes from, for messages.
    """

    def __init__(self, place: str, findings: Findings) -> None:
        self._place = place
        self._findings = findings
        self._states = new_row(first_state())
        self._levels = Levels(
            _zeros(_FIRST_TICKS), _zeros(_FIRST_TICKS), np.zeros((2, _FIRST_LISTED), np.int64)
        )
        self._out = _empty(_FIRST_ROWS)
        self._end_ns = 0

    def feed(self, messages: Messages) -> Iterator[Hour]:
        """Fold the next messages; yield each hour that is over.

        Raises
        ------
        RecordingError
            If a price or size is out of the range of the format; its stamp is named.
        """
        self._check(messages)
        self._make_room(messages)
        number = 0
        while number < messages.at_ns.size:
            if messages.at_ns[number] >= self._end_ns:
                yield from self.finish()
                self._end_ns = (int(messages.at_ns[number]) // NS_PER_HOUR + 1) * NS_PER_HOUR
                self._states["clear_due"] = True
            reached = fold(self._levels, self._states, messages, self._out, (number, self._end_ns))
            if reached == number:
                self._grow()
            number = reached

    def finish(self) -> Iterator[Hour]:
        """Yield what there is of the last hour, if anything; take over what was found."""
        rows = int(self._states["rows"][0])
        if rows:
            out = self._out
            yield Hour(
                out.venue_ns[:rows],
                out.delay_us[:rows],
                out.kind[:rows],
                out.ticks[:rows],
                out.lots[:rows],
            )
        self._states["rows"] = 0
        for name in _FOUND:
            self._findings.count(name, int(self._states[name][0]))
            self._states[name] = 0

    def _check(self, messages: Messages) -> None:
        is_book = np.repeat(messages.kind != PASSED, np.diff(messages.first))
        for name, values, limits in (
            ("ticks", messages.ticks, (0, _MOST_TICKS - 1)),
            ("lots", messages.lots, (0, int(_LIMITS["lots"].max))),
        ):
            low, high = int(_LIMITS[name].min), int(_LIMITS[name].max)
            least = np.where(is_book, max(limits[0], low), low)
            most = np.where(is_book, min(limits[1], high), high)
            bad = np.flatnonzero((values < least) | (values > most))
            if bad.size:
                row = int(bad[0])
                number = int(np.searchsorted(messages.first, row, side="right")) - 1
                msg = (
                    f"{self._place}, stamp {int(messages.at_ns[number])}: expected at most {int(most[row])} "
                    f"{name}, was {int(values[row])}; a coarser tick or step is needed"
                )
                raise RecordingError(msg)

    def _grow(self) -> None:
        listed, levels = self._states["listed"][0], self._levels.listed
        self._out = _grown(self._out)
        larger = np.zeros((2, 2 * levels.shape[1]), np.int64)
        larger[:, : listed.max()] = levels[:, : listed.max()]
        self._levels = self._levels._replace(listed=larger)

    def _make_room(self, messages: Messages) -> None:
        needed = int(messages.ticks.max(initial=0)) + 2
        size = self._levels.lots.shape[1]
        if needed <= size:
            return
        larger = min(max(1 << needed.bit_length(), 2 * size), _MOST_TICKS + 2)
        lots, marks = (_moved(column, larger) for column in self._levels[:2])
        self._levels = Levels(lots, marks, self._levels.listed)


def _zeros(size: int) -> NDArray[np.uint32]:
    return np.zeros((2, size), np.uint32)


def _moved(column: NDArray[np.uint32], size: int) -> NDArray[np.uint32]:
    # Only what is set is written, so that untouched pages cost nothing.
    larger = _zeros(size)
    used = np.nonzero(column)
    larger[used] = column[used]
    return larger


def _empty(rows: int) -> Hour:
    return Hour(
        np.zeros(rows, np.int64),
        np.zeros(rows, np.int32),
        np.zeros(rows, np.uint8),
        np.zeros(rows, np.int32),
        np.zeros(rows, np.uint32),
    )


def _grown(hour: Hour) -> Hour:
    larger = _empty(2 * hour.kind.size)
    pairs: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(hour, larger, strict=True))
    for old, new in pairs:
        new[: old.size] = old
    return larger
