"""The mid between the four prices of a bar, each fifth of a second.

In each minute the mid starts at the open, goes to the high and the low in a drawn order, and ends at the
close, with noise around these three legs. It moves on a clock of its own that runs in bursts, the more so the
wilder the minute: most of the way of a crash is a few leaps. The mid keeps half of a spread away from high
and low, so that no trade need leave the bar.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

STEPS: Final = 300
STEP_S: Final = 0.2
_FIRST: Final = (20, 140)
_SECOND: Final = (160, 280)
# Of the range. Moves of 5 s then have 1.5 to 1.7 times the variance of five of 1 s; in recordings 1.3 to 1.9.
_NOISE: Final = 0.45
_STILL: Final = 0.5
_BURST_POWER: Final = 1.2
_LEAST_SHAPE: Final = 0.06
_WITH_THE_DAY: Final = 0.7
_SPREAD_SHARE: Final = 0.02
_LARGEST_SHARE: Final = 0.5

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Path(NamedTuple):
    """Minutes of the mid.

    `mid` (ticks) has a row for each minute; `anchors` are the steps at which open, first extreme, second
    extreme and close are reached, `high_first` whether the first one is the high.
    """

    mid: _Floats
    anchors: _Ints
    high_first: NDArray[np.bool_]


def spread_ticks(range_ticks: _Floats, typical_ticks: float) -> _Floats:
    """Spread that goes with a minute's range: a share of it, which grows with the root of its excess."""
    excess = np.maximum(range_ticks / typical_ticks, 1.0)
    spread: _Floats = np.maximum(_SPREAD_SHARE * range_ticks * np.sqrt(excess), 1.0)
    return spread


def walk(bars: _Ints, typical_ticks: float, rng: np.random.Generator) -> Path:
    """Walk through bars (minutes × open, high, low, close)."""
    minutes = len(bars)
    open_, high, low, close = bars.T.astype(np.float64)
    width = high - low
    half = np.minimum(spread_ticks(width, typical_ticks), _LARGEST_SHARE * width) / 2
    bottom, top = low + half, high - half
    # A minute that rises more often saw its low first.
    likely = np.where(close > open_, 1 - _WITH_THE_DAY, _WITH_THE_DAY)
    high_first = rng.random(minutes) < likely
    first, second = np.where(high_first, (top, bottom), (bottom, top))
    points = np.column_stack([np.clip(open_, bottom, top), first, second, np.clip(close, bottom, top)])
    anchors = np.column_stack(
        [
            np.zeros(minutes, np.int64),
            rng.integers(*_FIRST, minutes),
            rng.integers(*_SECOND, minutes),
            np.full(minutes, STEPS - 1, np.int64),
        ]
    )
    clock = _clock(width / typical_ticks, rng)
    mid = _legs(points, anchors, clock, _NOISE * width, rng)
    return Path(_folded(mid, bottom, top), anchors, high_first)


def _clock(wildness: _Floats, rng: np.random.Generator) -> _Floats:
    """Time of the market at each step, from 0 to 1 in each minute."""
    shape = np.maximum(_STILL / np.maximum(wildness, 1.0) ** _BURST_POWER, _LEAST_SHAPE)
    passed = rng.gamma(shape[:, None], 1.0, (len(wildness), STEPS)) + 1e-9
    passed[:, 0] = 0.0
    clock = np.cumsum(passed, axis=1)
    scaled: _Floats = clock / clock[:, -1:]
    return scaled


def _legs(
    points: _Floats, anchors: _Ints, clock: _Floats, noise: _Floats, rng: np.random.Generator
) -> _Floats:
    """Go from point to point, straight in the market's time, with a bridge of noise over each leg."""
    steps = np.arange(STEPS)
    drawn = rng.standard_normal(clock.shape) * np.sqrt(np.diff(clock, axis=1, prepend=0.0))
    wander = np.cumsum(drawn, axis=1) * noise[:, None]
    leg = (steps >= anchors[:, 1:2]).astype(np.int64) + (steps >= anchors[:, 2:3])

    def at(values: _Floats, which: _Ints) -> _Floats:
        return np.take_along_axis(values, which, axis=1)

    start, end = np.take_along_axis(anchors, leg, axis=1), np.take_along_axis(anchors, leg + 1, axis=1)
    share = (clock - at(clock, start)) / (at(clock, end) - at(clock, start))
    straight = at(points, leg) * (1 - share) + at(points, leg + 1) * share
    bridge = wander - at(wander, start) * (1 - share) - at(wander, end) * share
    return straight + bridge


def _folded(mid: _Floats, bottom: _Floats, top: _Floats) -> _Floats:
    """Fold what lies outside back in, as at a mirror."""
    low, width = bottom[:, None], np.maximum(top - bottom, 1e-9)[:, None]
    beyond = np.mod(mid - low, 2 * width)
    folded: _Floats = low + np.minimum(beyond, 2 * width - beyond)
    return folded
