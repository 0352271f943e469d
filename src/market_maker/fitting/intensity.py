"""How far do orders reach? λ(δ) = A·exp(−k·δ), fitted to a recorded market.

A taker order is all trades of one stamp and one taker side; its reach is the distance of its farthest print
from the mid as it stood before that stamp. λ(δ) is the number of orders that reach at least δ, of both sides,
per second of trusted book, halved: what an order resting δ from the mid on one side would see of them, were
it first in its queue.

The line is fitted to ln λ on a grid of half ticks, weighted by the orders counted there, from the first
distance past the usual touch to where λ has fallen to a share of that. The touch itself is left out: most
orders end in the queue there, and say nothing of distance (where the spread is one tick, ln λ drops by 1.5 to
2 at the first half tick past it, and is close to a line from there). Beyond the range the tail is heavier
than any exponential. Source: models.md, section 2.

Each order counts at every distance that it reaches, so the curve cannot rise, and neighbouring points are not
independent: the errors come from leaving out a block of time at a time (jackknife), which keeps together what
clusters. R² flatters such a curve; hence its high threshold.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.fitting.quotes import Quotes
from market_maker.fitting.record import Arrivals
from market_maker.recordings import store
from market_maker.recordings.store import Hour

BLOCKS: Final = 10
_DEPTHS: Final = 1 << 14  # half ticks from the mid; who reaches farther counts as reaching this far
_SHOWN: Final = 200  # points of the curve that a result keeps
_SIDES: Final = 2


@dataclass(frozen=True)
class FitSettings:
    """Range of the fit, and when it is refused."""

    least_share: float = 0.05  # the range ends where λ falls below this share of its value at the start
    least_count: int = 8  # … or where fewer orders reach
    least_points: int = 5  # distances in the range
    least_orders: int = 40  # orders that reach the start of the range
    least_r2: float = 0.9
    most_error: float = 0.35  # standard error of k, as a share of k


class Line(NamedTuple):
    """ln λ = ln A − k·δ, and R²."""

    log_a: float
    k: float
    r2: float


def reaches(hour: Hour, quotes: Quotes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stamp and reach, half ticks, of each taker order while the book was trusted.

    An order whose taker side the recording does not know is a buy above the mid and a sell below. A negative
    reach is a print on the other side of the mid: the book had moved on before we knew.
    """
    codes = hour.kind & store.CODE_MASK
    is_trade = (codes >= store.TRADE_BUY) & (codes <= store.TRADE_UNKNOWN)
    ns, code = hour.venue_ns[is_trade], codes[is_trade]
    at = np.searchsorted(quotes.ns, ns, side="left") - 1
    mid2: Any = np.where(at >= 0, quotes.mid2_ticks[np.maximum(at, 0)], 0) if quotes.ns.size else 0 * ns
    distance = 2 * hour.ticks[is_trade].astype(np.int64) - mid2
    side = np.where(code == store.TRADE_BUY, 1, np.where(code == store.TRADE_SELL, -1, np.sign(distance)))
    known = (mid2 > 0) & (side != 0)
    ns, side, reach = ns[known], side[known], (side * distance)[known]
    if not ns.size:
        return ns, reach
    starts = np.flatnonzero(np.r_[True, (np.diff(ns) != 0) | (np.diff(side) != 0)])
    return ns[starts], np.maximum.reduceat(reach, starts)


class ReachCounts:
    """Taker orders by reach, in blocks of time of equal length.

    Parameters
    ----------
    start_ns, end_ns : int
        The part of the recording that the blocks divide.
    """

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self._start_ns, self._span_ns = start_ns, max(1, end_ns - start_ns)
        self._counts: Any = np.zeros((BLOCKS, _DEPTHS), np.int64)

    def block_of(self, ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Block that each instant lies in."""
        blocks: NDArray[np.int64] = (ns - self._start_ns) * BLOCKS // self._span_ns
        return np.clip(blocks, 0, BLOCKS - 1)

    def take(self, ns: NDArray[np.int64], reach_half_ticks: NDArray[np.int64]) -> None:
        """Count orders; a reach below 0 counts nowhere."""
        counted = reach_half_ticks >= 0
        depth = np.minimum(reach_half_ticks[counted], _DEPTHS - 1)
        np.add.at(self._counts, (self.block_of(ns[counted]), depth), 1)

    def at_least(self) -> NDArray[np.int64]:
        """Orders by block and least reach, half ticks from 0."""
        return np.ascontiguousarray(np.cumsum(self._counts[:, ::-1], axis=1)[:, ::-1])


def fit_line(depths_ticks: NDArray[np.float64], counts: NDArray[np.int64], side_seconds: float) -> Line:
    """Weighted least squares of ln λ on δ; a distance that no order reaches has no weight."""
    is_used = counts > 0
    x, weight = depths_ticks[is_used], counts[is_used].astype(np.float64)
    y = np.log(weight / side_seconds)
    total = weight.sum()
    x_mean, y_mean = (weight @ x) / total, (weight @ y) / total
    xx, xy, yy = (
        weight @ (x - x_mean) ** 2,
        weight @ ((x - x_mean) * (y - y_mean)),
        weight @ (y - y_mean) ** 2,
    )
    slope = float(xy / xx) if xx > 0 else 0.0
    r2 = float(xy * xy / (xx * yy)) if xx > 0 and yy > 0 else 0.0
    return Line(float(y_mean - slope * x_mean), -slope, r2)


def fit(
    at_least: NDArray[np.int64],
    seconds: NDArray[np.float64],
    touch_ticks: float,
    settings: FitSettings | None = None,
) -> Arrivals:
    """Fit the line, or say why not.

    Parameters
    ----------
    at_least : array of int
        `ReachCounts.at_least()`.
    seconds : array of float
        Time with a trusted book in each block, s.
    touch_ticks : float
        Usual distance of the best quotes from the mid, ticks.
    """
    rule = settings or FitSettings()
    totals, side_seconds = at_least.sum(axis=0), _SIDES * float(seconds.sum())
    first = math.floor(2.0 * touch_ticks) + 1
    orders = int(totals[first]) if first < _DEPTHS else 0
    curve = _curve(totals, side_seconds)
    if orders < rule.least_orders:
        past = f"past the touch ({touch_ticks:g} ticks)"
        why = f"expected at least {rule.least_orders} taker orders {past}, was {orders}"
        return Arrivals(orders=orders, depths_ticks=curve[0], rates_per_s=curve[1], refused=why)
    least = max(rule.least_count, rule.least_share * orders)
    end = first + int(np.count_nonzero(totals[first : _DEPTHS - 1] >= least))
    depths = np.arange(first, end) / 2.0
    if len(depths) < rule.least_points:
        why = f"expected at least {rule.least_points} distances past the touch, was {len(depths)}"
        return Arrivals(orders=orders, depths_ticks=curve[0], rates_per_s=curve[1], refused=why)
    line = fit_line(depths, totals[first:end], side_seconds)
    log_a_error, k_error = _errors(depths, at_least[:, first:end], seconds)
    why = refusal(line, k_error, rule)
    a_per_s = math.exp(line.log_a)
    return Arrivals(
        a_per_s=0.0 if why else a_per_s,
        a_error=0.0 if why else a_per_s * log_a_error,
        k_per_tick=0.0 if why else line.k,
        k_error=0.0 if why else k_error,
        r2=line.r2,
        orders=orders,
        from_ticks=float(depths[0]),
        to_ticks=float(depths[-1]),
        depths_ticks=curve[0],
        rates_per_s=curve[1],
        refused=why,
    )


def refusal(line: Line, k_error: float, settings: FitSettings) -> str:
    """Why a fitted line is not to be used; empty where it is good."""
    if not (math.isfinite(line.k) and line.k > 0.0):
        return f"expected fewer orders farther from the mid, k above 0, was k = {line.k:g} a tick"
    if line.r2 < settings.least_r2:
        return f"expected ln λ to fall in a line, R² of {settings.least_r2:g} or more, was {line.r2:.3f}"
    if not k_error <= settings.most_error * line.k:
        was = f"{k_error / line.k:.0%} (standard error): too few orders, or a market that changed"
        return f"expected k to within {settings.most_error:.0%}, was {was}"
    return ""


def _curve(totals: NDArray[np.int64], side_seconds: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Points of the whole curve, evenly spread over the distances reached."""
    reached = int(np.count_nonzero(totals))
    if not reached or side_seconds <= 0.0:
        return (), ()
    at = np.unique(np.linspace(0, reached - 1, min(_SHOWN, reached)).astype(np.int64))
    return tuple((at / 2.0).tolist()), tuple((totals[at] / side_seconds).tolist())


def _errors(
    depths: NDArray[np.float64], at_least: NDArray[np.int64], seconds: NDArray[np.float64]
) -> tuple[float, float]:
    """Standard errors of ln A and k, from leaving out a block of time at a time."""
    used = np.flatnonzero(seconds > 0.0)
    if len(used) < 2:
        return math.inf, math.inf
    totals, side_seconds = at_least.sum(axis=0), _SIDES * seconds.sum()
    lines = np.array(
        [fit_line(depths, totals - at_least[b], side_seconds - _SIDES * seconds[b])[:2] for b in used]
    )
    spread = (len(used) - 1) * lines.var(axis=0)
    return float(math.sqrt(spread[0])), float(math.sqrt(spread[1]))


def block_edges_ns(start_ns: int, end_ns: int) -> NDArray[np.int64]:
    """Ends of the blocks, the first one's beginning included."""
    return start_ns + (end_ns - start_ns) * np.arange(BLOCKS + 1) // BLOCKS
