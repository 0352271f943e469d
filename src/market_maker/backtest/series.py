"""Series that stay small however long a run is: thinned points, merged stretches of time, the mids of now."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.outcome import BUCKET_DTYPE

_SUMMED: Final = tuple(name for name in BUCKET_DTYPE.names or () if name != "end_ns")


class Mids:
    """The exchange's mids in the order of time (best bid plus best ask, ticks), as far back as is asked for.

    Moments without a mid are left out: the last one counts on.
    """

    def __init__(self) -> None:
        self.ns = np.zeros(0, np.int64)
        self.mid2 = np.zeros(0, np.int64)

    def add(self, ns: NDArray[np.int64], mid2: NDArray[np.int64]) -> None:
        """Take in later ones."""
        known = mid2 > 0
        self.ns = np.concatenate([self.ns, ns[known]])
        self.mid2 = np.concatenate([self.mid2, mid2[known]])

    def forget(self, before_ns: int) -> None:
        """Keep those from an instant on, and the last one before it."""
        first = max(int(np.searchsorted(self.ns, before_ns)) - 1, 0)
        self.ns, self.mid2 = self.ns[first:].copy(), self.mid2[first:].copy()

    def at(self, instants: NDArray[np.int64]) -> NDArray[np.int64]:
        """Last mid at or before each instant, 0 where there is none."""
        return self._take(np.searchsorted(self.ns, instants, "right"))

    def before(self, instants: NDArray[np.int64]) -> NDArray[np.int64]:
        """Last mid before each instant, 0 where there is none."""
        return self._take(np.searchsorted(self.ns, instants, "left"))

    def _take(self, after: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(1, np.int64), self.mid2])[after]


class Thinned:
    """Each so-many-th of the rows that came, so that there are at most `limit`.

    Attributes
    ----------
    stride : int
        One row in so many is kept; it doubles when there are too many.
    """

    def __init__(self, limit: int, dtype: np.dtype[Any]) -> None:
        self.stride = 1
        self._limit = limit
        self._seen = 0
        self._rows: NDArray[Any] = np.zeros(0, dtype)

    def add(self, rows: NDArray[Any]) -> None:
        """Take in later rows."""
        first = -self._seen % self.stride
        self._seen += len(rows)
        self._rows = np.concatenate([self._rows, rows[first :: self.stride]])
        while len(self._rows) > self._limit:
            self._rows = self._rows[::2].copy()
            self.stride *= 2

    @property
    def rows(self) -> NDArray[Any]:
        """Rows that are kept."""
        return self._rows


class Buckets:
    """Stretches of time without a gap; when there are too many, each two become one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._each = 1  # incoming stretches in a bucket
        self._done: NDArray[Any] = np.zeros(0, BUCKET_DTYPE)
        self._open: NDArray[Any] = np.zeros(0, BUCKET_DTYPE)

    def add(self, rows: NDArray[Any]) -> None:
        """Take in later stretches, all of one length."""
        self._open = np.concatenate([self._open, rows])
        whole = len(self._open) // self._each * self._each
        self._done = np.concatenate([self._done, _merged(self._open[:whole], self._each)])
        self._open = self._open[whole:].copy()
        while len(self._done) > self._limit:
            even = len(self._done) // 2 * 2
            # What is left over is as long as `_each` incoming ones: it waits, undivided, for its other half.
            left_over = self._done[even:]
            self._done = _merged(self._done[:even], 2)
            self._rest(left_over)

    def _rest(self, left_over: NDArray[Any]) -> None:
        padding = np.zeros(len(left_over) * (self._each - 1), BUCKET_DTYPE)
        self._open = np.concatenate([padding, left_over, self._open])
        self._each *= 2

    def rows(self) -> NDArray[Any]:
        """All of them, the last one perhaps short."""
        if not len(self._open):
            return self._done
        return np.concatenate([self._done, _merged(self._open, len(self._open))])


def _merged(rows: NDArray[Any], each: int) -> NDArray[Any]:
    if each <= 1 or not len(rows):
        return rows
    found = np.zeros(len(rows) // each, BUCKET_DTYPE)
    found["end_ns"] = rows["end_ns"].reshape(-1, each)[:, -1]
    for name in _SUMMED:
        found[name] = rows[name].reshape(-1, each).sum(axis=1)
    return found
