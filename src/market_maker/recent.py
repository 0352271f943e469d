"""What happened of late: the mean of samples that are not old, and what the market took back after our fills.

Both forget: a measure that only its own consequence could change (no order is sent, so none is timed) would
never come down again.
"""

from collections import deque
from typing import Final, NamedTuple

from market_maker.domain import BPS, NS_PER_S

_MARKOUT_NS: Final = 5 * NS_PER_S


class RecentMean:
    """Mean of the samples of the last seconds, 0 while there are fewer than `least`."""

    def __init__(self, window_s: float, least: int) -> None:
        self._window_ns = round(window_s * NS_PER_S)
        self._least = least
        self._samples: deque[tuple[int, float]] = deque()

    def add(self, value: float, now_ns: int) -> None:
        """Take a sample in."""
        self._samples.append((now_ns, value))

    def _forget(self, now_ns: int) -> None:
        while self._samples and self._samples[0][0] <= now_ns - self._window_ns:
            self._samples.popleft()

    def mean(self, now_ns: int) -> float:
        """Mean of what is not too old."""
        self._forget(now_ns)
        if len(self._samples) < self._least:
            return 0.0
        return sum(value for _, value in self._samples) / len(self._samples)

    def count(self, now_ns: int) -> int:
        """How many there were."""
        self._forget(now_ns)
        return len(self._samples)


class _Waiting(NamedTuple):
    due_ns: int
    market: str
    side: int
    mid2_ticks: int


class RecentMarkouts:
    """Mean loss of our last fills, bps: the move of the mid within five seconds of them, against us.

    Parameters
    ----------
    fills : int
        How many fills make a mean; fewer are none.
    window_s : float
        How long a fill counts.
    """

    def __init__(self, fills: int, window_s: float) -> None:
        self._losses: RecentMean = RecentMean(window_s, fills)
        self._waiting: deque[_Waiting] = deque()

    def on_fill(self, market: str, side: int, mid2_ticks: int, now_ns: int) -> None:
        """Take a fill in: its side, and twice the mid before it."""
        if mid2_ticks > 0:
            self._waiting.append(_Waiting(now_ns + _MARKOUT_NS, market, side, mid2_ticks))

    def on_time(self, mids2_ticks: dict[str, int], now_ns: int) -> None:
        """Settle the fills that are old enough by the mids of now, doubled, by market."""
        while self._waiting and self._waiting[0].due_ns <= now_ns:
            fill = self._waiting.popleft()
            moved = mids2_ticks.get(fill.market, 0) - fill.mid2_ticks
            self._losses.add(-fill.side * moved / fill.mid2_ticks * BPS, now_ns)

    def loss_bps(self, now_ns: int) -> float:
        """Mean loss of the fills that count; 0 while they are too few."""
        return self._losses.mean(now_ns)
