"""How a set of markets moved together over a span, and how sure that is: what `mm markets correlation` shows.

Log mids of all markets on one grid of time; overlapping returns of K steps; a pair is estimated where both
markets have one. Intervals are of a circular block bootstrap, as those of a backtest are (`intervals`):
blocks of a minute or of ten returns, whichever is longer, drawn for all markets alike; their distances from
the estimate widened for few blocks.

The live matrix (`correlation`) forgets; this one weights the span evenly, and shrinks nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.intervals import CONFIDENCE, RESAMPLES, resample, student_quantile
from market_maker.domain import BPS, NS_PER_S
from market_maker.fitting.quotes import QuoteReader
from market_maker.gateway import Candle
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import Hour, Store

_NS_PER_MINUTE: Final = 60 * NS_PER_S
_LEAST_BLOCKS: Final = 3
_LEAST_BLOCK_S: Final = 60.0
_RETURNS_A_BLOCK: Final = 10

Vector = NDArray[np.float64]


class Grid(NamedTuple):
    """Log mids of markets at the same instants, a row for each market; not a number where none was known."""

    names: tuple[str, ...]
    start_ns: int
    step_s: float
    log_mids: Vector


class JointMoves(NamedTuple):
    """Estimates with the low and high ends of their intervals; ends are no numbers where the span is short.

    Correlations and betas are matrices: `beta[i, j]` is what a USD of market j moves like in USD of market i.
    """

    names: tuple[str, ...]
    start_ns: int
    seconds: float  # in which the markets that were heard longest have returns
    return_s: float
    blocks: int
    sigma_bps: Vector  # bps/√minute
    rho: tuple[Vector, Vector, Vector]  # estimate, low, high
    beta: tuple[Vector, Vector, Vector]


def grid_of_store(store: Store, markets: Sequence[str], span_ns: tuple[int, int]) -> Grid:
    """Mids of recorded markets each second, by the venue's clock, over the time that all of them have.

    Raises
    ------
    RecordingError
        If they have no ten seconds in common within the span.
    """
    infos = [store.info(market) for market in markets]
    start = max(span_ns[0], *(info.hours[0].first_ns for info in infos))
    end = min(span_ns[1] - 1, *(info.hours[-1].last_ns for info in infos))
    first_s, last_s = -(-start // NS_PER_S), end // NS_PER_S
    if last_s - first_s < 10:
        msg = f"{', '.join(markets)}: expected ten seconds that all have, was {max(0, last_s - first_s)}"
        raise RecordingError(msg)
    instants: Any = np.arange(first_s, last_s + 1, dtype=np.int64) * NS_PER_S
    mids = np.array([_mids_at(store.hours(market), instants) for market in markets])
    return Grid(tuple(markets), int(instants[0]), 1.0, mids)


def _mids_at(hours: "Iterator[Hour]", instants: NDArray[np.int64]) -> Vector:
    """Log mids that stood at instants: the last before each, if the book could be trusted then."""
    reader, ns, mid2 = QuoteReader(), [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]
    for hour in hours:
        found = reader.read(hour)
        ns.append(found.ns)
        mid2.append(found.mid2_ticks)
    at = np.searchsorted(np.concatenate(ns), instants, side="right") - 1
    return _logs(np.concatenate(mid2)[at] / 2.0)


def _logs(prices: Vector) -> Vector:
    with np.errstate(divide="ignore"):
        found: Vector = np.where(prices > 0.0, np.log(prices), math.nan)
    return found


def grid_of_candles(candles: Mapping[str, Sequence[Candle]]) -> Grid:
    """Closes of one-minute candles of each market; a minute that one lacks is unknown there.

    Raises
    ------
    ValueError
        If no market has any.
    """
    opens = sorted({candle.open_ns for found in candles.values() for candle in found})
    if not opens:
        msg = f"expected candles of {', '.join(candles)}, was none"
        raise ValueError(msg)
    minutes = (opens[-1] - opens[0]) // _NS_PER_MINUTE + 1
    closes = np.zeros((len(candles), minutes))
    for i, found in enumerate(candles.values()):
        for candle in found:
            closes[i, (candle.open_ns - opens[0]) // _NS_PER_MINUTE] = float(candle.close)
    return Grid(tuple(candles), opens[0] + _NS_PER_MINUTE, 60.0, _logs(closes))


def joint_moves(grid: Grid, return_steps: int, seed: int = 1) -> JointMoves:
    """Correlations and betas of overlapping returns of so many steps, with intervals.

    Raises
    ------
    ValueError
        If a market has no return: it was never known for so long.
    """
    returns = grid.log_mids[:, return_steps:] - grid.log_mids[:, :-return_steps]
    known = np.isfinite(returns)
    for name, has in zip(grid.names, known, strict=True):
        if not has.any():
            msg = f"{name}: expected two mids {return_steps * grid.step_s:g} s apart, was none"
            raise ValueError(msg)
    n, count = returns.shape
    moves = np.where(known, returns, 0.0)
    first, second = np.triu_indices(n)
    products = moves[first] * moves[second]
    weights = (known[first] & known[second]).astype(np.float64)
    columns = np.concatenate([products, weights])
    pairs = len(first)
    estimate = _figures(columns.sum(axis=1)[:, None], pairs, n)
    block = max(_LEAST_BLOCK_S / grid.step_s, float(_RETURNS_A_BLOCK * return_steps))
    length = min(count, math.ceil(block))
    blocks = count // length
    ends = [np.full((2, n, n), math.nan)] * 2
    if blocks >= _LEAST_BLOCKS:
        drawn = _figures(resample(columns, length, RESAMPLES, seed), pairs, n)
        ends = [_interval(e[..., 0], d, blocks) for e, d in zip(estimate[:2], drawn[:2], strict=True)]
    variance = np.diagonal(estimate[2][..., 0]) / (return_steps * grid.step_s)
    return JointMoves(
        names=grid.names,
        start_ns=grid.start_ns,
        seconds=float(known.sum(axis=1).max()) * grid.step_s,
        return_s=return_steps * grid.step_s,
        blocks=blocks,
        sigma_bps=BPS * np.sqrt(variance * 60.0),
        rho=(estimate[0][..., 0], *ends[0]),
        beta=(estimate[1][..., 0], *ends[1]),
    )


def _figures(sums: Vector, pairs: int, n: int) -> tuple[Vector, Vector, Vector]:
    """Correlations, betas and covariances, (n, n, series), from sums of products and of what was known."""
    first, second = np.triu_indices(n)
    covariance = np.zeros((n, n, sums.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = sums[:pairs] / sums[pairs:]
        covariance[first, second] = covariance[second, first] = found
        variance = np.einsum("iik->ik", covariance)
        root = np.sqrt(variance)
        rho = np.clip(covariance / (root[:, None] * root[None, :]), -1.0, 1.0)
        beta = covariance / variance[:, None]
    return rho, beta, covariance


def _interval(estimate: Vector, drawn: Vector, blocks: int) -> Vector:
    tail = (1.0 - CONFIDENCE) / 2.0
    # A series in which a figure is not defined leaves its ends undefined too.
    low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=-1)
    widening = student_quantile(1.0 - tail, blocks - 1) / NormalDist().inv_cdf(1.0 - tail)
    widening *= math.sqrt(blocks / (blocks - 1))
    ends: Vector = np.array([estimate - (estimate - low) * widening, estimate + (high - estimate) * widening])
    return ends
