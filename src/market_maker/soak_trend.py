"""Tells whether a figure of a long-running process grows, or only moves about.

Samples are folded into blocks of equal time, by the median, or by the least where a leak lifts the floor and
faults lift the rest. Through the blocks goes the line of Theil and Sen, the median of the slopes of pairs,
which a quarter of wild blocks do not move. Its interval is Sen's, from the variance of Kendall's S with ties
(Sen 1968, J. Am. Stat. Assoc. 63, 1379). Blocks that follow one another are not independent: so the interval
is of 99 %, and a figure grows only where its slope is past the limit too.

A leak does not slow down: what grows over the whole time and no more in its later half is a buffer that has
filled, or memory that was wanted once; that is UNSURE. A time that is too short is not judged: a process that
has just begun always grows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import combinations, groupby
from statistics import median
from typing import Final, NamedTuple

Point = tuple[float, float]
_SECONDS_PER_HOUR: Final = 3600.0
_BLOCKS: Final = 30
_LEAST_BLOCKS: Final = 8
_DEVIATIONS: Final = 2.576  # 99 %, both sides


class Verdict(Enum):
    """What the samples say; UNSURE: growth has ended, or is not seen but one past the limit not excluded."""

    FINE = "fine"
    GROWS = "grows"
    UNSURE = "unsure"
    TOO_SHORT = "too short"


@dataclass(frozen=True, slots=True)
class Limit:
    """How much a figure may grow, in its own unit.

    Parameters
    ----------
    per_hour : float
        Largest slope.
    least : float
        Growth over the whole time that is too small to count, however steep.
    share : float
        The same, as a share of the level at the beginning; the larger of both holds.
    least_s : float
        Shortest time that is judged, s.
    """

    per_hour: float = 0.0
    least: float = 0.0
    share: float = 0.0
    least_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure over a time: slope an hour with its interval, that of the later half, level at both ends.

    Slopes are None where there are too few blocks for any.
    """

    verdict: Verdict
    seconds: float
    samples: int
    first: float
    last: float
    slope: float | None = None
    low: float | None = None
    high: float | None = None
    late_slope: float | None = None


def theil_sen(points: Sequence[Point]) -> tuple[float, float, float]:
    """Slope of a line through points, and the bounds of its 99 % interval.

    Raises
    ------
    ValueError
        If no two points differ in time.

    Examples
    --------
    >>> theil_sen([(float(t), 2.0 * t) for t in range(10)])
    (2.0, 2.0, 2.0)
    """
    slopes = sorted((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0])
    if not slopes:
        msg = f"expected points at two instants or more, was {len(points)} at one"
        raise ValueError(msg)
    margin = _DEVIATIONS * math.sqrt(_kendall_variance([value for _, value in points]))
    lowest = max(math.floor((len(slopes) - margin) / 2), 0)
    highest = min(math.ceil((len(slopes) + margin) / 2), len(slopes) - 1)
    return median(slopes), slopes[lowest], slopes[highest]


def _kendall_variance(values: Sequence[float]) -> float:
    """Variance of Kendall's S where nothing trends, with equal values counted as such."""
    ties = (len(list(group)) for _, group in groupby(sorted(values)))
    return (_pairs_weight(len(values)) - sum(map(_pairs_weight, ties))) / 18


def _pairs_weight(count: int) -> int:
    return count * (count - 1) * (2 * count + 5)


def blocks(points: Sequence[Point], fold: Callable[[Sequence[float]], float]) -> list[Point]:
    """Points folded into blocks of equal time, each at the mean of its instants; empty ones are left out."""
    if not points:
        return []
    begin, end = points[0][0], points[-1][0]
    width = (end - begin) / _BLOCKS or 1.0
    gathered: dict[int, list[Point]] = {}
    for point in points:
        gathered.setdefault(min(int((point[0] - begin) / width), _BLOCKS - 1), []).append(point)
    return [
        (math.fsum(at for at, _ in group) / len(group), fold([value for _, value in group]))
        for _, group in sorted(gathered.items())
    ]


def judge(points: Sequence[Point], limit: Limit, fold: Callable[[Sequence[float]], float] = median) -> Trend:
    """Judge a figure, its warm-up left out by the caller.

    Parameters
    ----------
    points : sequence of (float, float)
        Instants, s, ascending, and the figure in its unit.
    fold : callable
        What stands for a block: `median`, or `min` for a figure whose floor tells.
    """
    folded = blocks(points, fold)
    if not folded:
        return Trend(Verdict.TOO_SHORT, 0.0, 0, 0.0, 0.0)
    seconds = points[-1][0] - points[0][0]
    edge = max(len(folded) // 10, 1)
    first = median(value for _, value in folded[:edge])
    last = median(value for _, value in folded[-edge:])
    if len(folded) < 2:
        return Trend(Verdict.TOO_SHORT, seconds, len(points), first, last)
    slope, low, high = (bound * _SECONDS_PER_HOUR for bound in theil_sen(folded))
    late_slope = theil_sen(folded[(len(folded) - 1) // 2 :])[0] * _SECONDS_PER_HOUR
    verdict = Verdict.TOO_SHORT
    if seconds >= limit.least_s and len(folded) >= _LEAST_BLOCKS:
        verdict = _verdict((slope, low, high), late_slope, _Bar(limit, seconds, first))
    return Trend(verdict, seconds, len(points), first, last, slope, low, high, late_slope)


class _Bar(NamedTuple):
    """What a slope is held against."""

    limit: Limit
    seconds: float
    level: float

    def is_passed_by(self, per_hour: float) -> bool:
        """Whether a slope is past the limit, and makes up something over the whole time."""
        least = max(self.limit.least, self.limit.share * abs(self.level))
        return per_hour > self.limit.per_hour and per_hour * self.seconds / _SECONDS_PER_HOUR >= least


def _verdict(slopes: tuple[float, float, float], late_slope: float, bar: _Bar) -> Verdict:
    slope, low, high = slopes
    if low > 0 and bar.is_passed_by(slope) and late_slope > bar.limit.per_hour:
        return Verdict.GROWS
    return Verdict.UNSURE if bar.is_passed_by(high) else Verdict.FINE
