"""Takers of a generated book, and its mark.

Takers trade a bar's volume, no more and no less: at its open, high, low and close, at the touch, and at the
levels that the mid crosses. Nothing trades between a close and an open elsewhere, nor outside the bar.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.stress_path import STEP_S, STEPS, Path

LEVELS: Final = 16
_TAKEN: Final = 0.7
_TAKER_CHANCE: Final = 0.7
_WITH_THE_MOVE: Final = 0.3
_MARK_S: Final = 2.0

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_Flags = NDArray[np.bool_]


class Side(NamedTuple):
    """Levels of a side, steps × levels, best first; 0 lots where there is a hole."""

    ticks: _Ints
    lots: _Ints


class Minutes(NamedTuple):
    """Bars (minutes × open, high, low, close; ticks) and their volume (lots)."""

    bars: _Ints
    volume: _Ints


class Trades(NamedTuple):
    """Trades of the steps: steps × slots; 0 lots where there is none."""

    buys: _Flags
    ticks: _Ints
    lots: _Ints


def trades_of(
    rng: np.random.Generator, path: Path, minutes: Minutes, lots: _Floats, book: tuple[Side, Side]
) -> Trades:
    """Trades of each step: at the touch of the book before it, at levels crossed, at the bar's own prices."""
    steps, (bids, asks) = len(lots), book
    bars, mid = minutes.bars, path.mid.ravel()
    high, low = np.repeat(bars[:, 1], STEPS), np.repeat(bars[:, 2], STEPS)
    move = np.sign(np.diff(mid, prepend=mid[:1]))
    is_open = np.arange(steps) % STEPS == 0
    buys = rng.random(steps) < 0.5 + _WITH_THE_MOVE * move
    touch = np.where(buys, asks.ticks[:, 0], bids.ticks[:, 0])
    touched = (rng.random(steps) < _TAKER_CHANCE) & ~is_open
    touch_lots = np.where(touched, lots * rng.exponential(1.0, steps), 0.0)
    rises = move > 0
    cross = np.where(rises[:, None], asks.ticks, bids.ticks)
    # The mid went past the price: nobody can have kept an order there.
    crossed = np.where(rises[:, None], cross < mid[:, None], cross > mid[:, None]) & ~is_open[:, None]
    shown = np.where(rises[:, None], asks.lots, bids.lots)
    crossed &= rng.random(shown.shape) < _TAKEN
    cross_lots = np.where(crossed, shown, 0).astype(np.float64)
    ends, end_buys, end_ticks = _bar_trades(path, bars, move)
    end_lots = np.where(ends, lots + 1.0, 0.0)
    ticks = np.column_stack([touch, cross, end_ticks])
    wanted = np.column_stack([touch_lots, cross_lots, end_lots])
    wanted[(ticks > high[:, None]) | (ticks < low[:, None])] = 0.0
    sides = np.column_stack([buys, np.repeat(rises[:, None], LEVELS, axis=1), end_buys])
    return Trades(sides, ticks, _to_volume(wanted, minutes.volume))


def _bar_trades(path: Path, bars: _Ints, move: _Floats) -> tuple[_Flags, _Flags, _Ints]:
    """Where the bar's own four prices trade: at which steps, who buys, at what price."""
    steps = path.mid.size
    firsts = (np.arange(len(bars)) * STEPS)[:, None]
    at = path.anchors + firsts
    first = np.where(path.high_first, 1, 2)
    order = np.column_stack([np.zeros(len(bars), np.int64), first, 3 - first, np.full(len(bars), 3)])
    there = np.zeros(steps, np.bool_)
    ticks, buys = np.zeros(steps, np.int64), move > 0
    there[at] = True
    ticks[at] = np.take_along_axis(bars, order, axis=1)
    buys[at[:, 1]], buys[at[:, 2]] = path.high_first, ~path.high_first
    return there, buys, ticks


def _to_volume(wanted: _Floats, volume: _Ints) -> _Ints:
    """Whole lots in proportion to what is wanted, which add up to each bar's volume.

    The bar's own prices, in the last column, get a lot each where there are enough.
    """
    minutes = len(volume)
    own = np.zeros(wanted.shape, np.int64)
    own[:, -1] = wanted[:, -1] > 0
    own[np.repeat(volume < own.reshape(minutes, -1).sum(axis=1), STEPS)] = 0
    left = volume - own.reshape(minutes, -1).sum(axis=1)
    grown = np.cumsum(wanted.reshape(minutes, -1), axis=1)
    # The close trades in each bar, so there is something to divide by, and the last entry is the whole.
    share = np.floor(grown / grown[:, -1:] * left[:, None]).astype(np.int64)
    lots: _Ints = np.diff(share, axis=1, prepend=0).reshape(wanted.shape) + own
    return lots


def marks_of(mid: _Floats, before: float) -> _Floats:
    """Follow the mid with a lag of two seconds, from what the mark was before."""
    keep = math.exp(-STEP_S / _MARK_S)
    marks = np.empty_like(mid)
    for step, price in enumerate(mid.tolist()):
        before = keep * before + (1.0 - keep) * price
        marks[step] = before
    return marks
