"""One-minute bars of the mid, and what other estimators than σ's make of them.

A bar counts where the book was trusted for all of its minute, so a gap costs the minutes that it touches.
Its range is that of every change of the mid. A mid that bounces between two prices has a range even where it
goes nowhere, and estimates from ranges come out high; one that moves in a few leaps has closes that wander
farther than its ranges show, and they come out low. Both are why several are shown.
"""

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS, NS_PER_S
from market_maker.fitting.quotes import Quotes
from market_maker.fitting.record import Ranges
from market_maker.range_volatility import (
    Bars,
    bipower_variation,
    close_to_close,
    garman_klass,
    parkinson,
    realised_variance,
    rogers_satchell,
    two_scale_variance,
    yang_zhang,
)

Ints = NDArray[np.int64]

NS_PER_MINUTE: Final = 60 * NS_PER_S
_LEAST_MINUTES: Final = 12
_SHORTEST_RUN: Final = 3  # minutes: the fewest that all estimators can do with
_S_PER_MINUTE: Final = 60
_SCALE_S: Final = 60


class MinuteBars:
    """Bars of a part of a market, from the quotes of consecutive pieces of it."""

    def __init__(self) -> None:
        # A row each: minute, open, high, low, close, ns with a book. A minute may come in several rows.
        self._rows: list[Ints] = []

    def take(self, quotes: Quotes, end_ns: int) -> None:
        """Take quotes in, the first of which held from the end of the piece before on."""
        start_ns = int(quotes.ns[0])
        first = start_ns // NS_PER_MINUTE + 1
        minutes = np.arange(first, -(-end_ns // NS_PER_MINUTE)) * NS_PER_MINUTE
        # A minute opens with the mid that stood: as if it had been quoted anew.
        at = np.searchsorted(quotes.ns, minutes, side="right") - 1
        ns = np.concatenate([quotes.ns, minutes])
        order = np.argsort(ns, kind="stable")
        mids = np.concatenate([quotes.mid2_ticks, quotes.mid2_ticks[at]])[order]
        ns = ns[order]
        held: Any = np.where(mids > 0, np.diff(np.append(ns, end_ns)), 0)
        # A mid that held for no time was one of several at one stamp.
        shown = held > 0
        if not shown.any():
            return
        minute, mids, held = ns[shown] // NS_PER_MINUTE, mids[shown], held[shown]
        self._rows.append(_grouped(minute, mids, mids, mids, mids, held))

    def bars(self) -> tuple[Ints, Bars]:
        """Number of each whole minute, and its bar, prices in half ticks."""
        rows = np.concatenate([np.zeros((0, 6), np.int64), *self._rows])
        if len(rows):
            rows = _grouped(*rows.T)
        whole = rows[rows[:, 5] == NS_PER_MINUTE]
        return whole[:, 0], Bars(*whole[:, 1:5].T.astype(np.float64))


def _grouped(minute: Ints, *columns: Ints) -> Ints:
    """Rows of one minute joined; the minutes must not descend."""
    opens, highs, lows, closes, held = columns
    starts = np.flatnonzero(np.diff(minute, prepend=minute[0] - 1))
    ends = np.append(starts[1:], len(minute)) - 1
    joined = (
        minute[starts],
        opens[starts],
        np.maximum.reduceat(highs, starts),
        np.minimum.reduceat(lows, starts),
        closes[ends],
        np.add.reduceat(held, starts),
    )
    return np.stack(joined, axis=1)


def ranges(minutes: Ints, bars: Bars, mid2_ticks: Ints) -> Ranges:
    """Figures of bars, and of mids on a one-second grid (half ticks, 0: none), or why there are none.

    Each is an average over stretches of minutes without a gap, weighted by their minutes.
    """
    breaks = np.flatnonzero(np.diff(minutes) != 1) + 1
    columns = [np.split(column, breaks) for column in bars]
    runs = [Bars(*run) for run in zip(*columns, strict=True) if len(run[0]) >= _SHORTEST_RUN]
    count = sum(len(run.close) for run in runs)
    if count < _LEAST_MINUTES:
        return Ranges(
            minutes=count,
            refused=f"expected at least {_LEAST_MINUTES} whole minutes of trusted book, was {count}",
        )

    def mean_bps(variance_a_minute: Callable[[Bars], float]) -> float:
        return _bps(sum(len(run.close) * variance_a_minute(run) for run in runs) / count)

    realised = mean_bps(lambda run: realised_variance(_returns(run)) / (len(run.close) - 1))
    bipower = mean_bps(lambda run: bipower_variation(_returns(run)) / (len(run.close) - 2))
    return Ranges(
        minutes=count,
        close_bps=mean_bps(lambda run: close_to_close(_returns(run))),
        parkinson_bps=mean_bps(parkinson),
        garman_klass_bps=mean_bps(garman_klass),
        rogers_satchell_bps=mean_bps(rogers_satchell),
        yang_zhang_bps=mean_bps(yang_zhang),
        realised_bps=realised,
        bipower_bps=bipower,
        jump_share=max(0.0, 1.0 - (bipower / realised) ** 2) if realised > 0.0 else 0.0,
        two_scale_bps=_two_scale_bps(mid2_ticks),
        refused="",
    )


def _returns(run: Bars) -> NDArray[np.float64]:
    return np.diff(np.log(run.close))


def _two_scale_bps(mid2_ticks: Ints) -> float:
    """From mids a second apart, over all stretches without a gap; 0 where none is long enough."""
    breaks = np.flatnonzero(np.diff(mid2_ticks > 0)) + 1
    runs = [run for run in np.split(mid2_ticks, breaks) if run.size > 2 * _SCALE_S and run[0] > 0]
    total = sum(two_scale_variance(np.log(run.astype(np.float64)), _SCALE_S) for run in runs)
    returns = sum(len(run) - 1 for run in runs)
    return _bps(total * _S_PER_MINUTE / returns) if returns else 0.0


def _bps(variance_a_minute: float) -> float:
    return BPS * math.sqrt(max(variance_a_minute, 0.0))
