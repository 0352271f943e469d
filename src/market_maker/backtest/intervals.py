"""How sure a figure is: a circular block bootstrap over time (Politis and Romano, 1992).

What was earned in one stretch of time is not independent of the stretch before, so whole blocks of time are
drawn with replacement, and the figures computed of what was drawn. A block is a minute or longer, and grows
with the cube root of the number of buckets n: it has max(60 s, 2·n^⅓ buckets). All contestants of a trial are
drawn alike, so differences between them are paired: what the market did to both cancels.

The quantiles of few blocks lie too near the estimate. Their distances from it are widened by Student's t of
so many blocks over the normal quantile, and by √(b/(b − 1)) for b blocks.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.outcome import FIGURES, Interval, Outcome
from market_maker.domain import BPS

CONFIDENCE: Final = 0.95
RESAMPLES: Final = 2_000
_LEAST_BLOCK_S: Final = 60.0
_LEAST_BLOCKS: Final = 3
_S_PER_HOUR: Final = 3600.0
# Drawn series beyond each end of an interval, at least, and most series that are drawn for it.
_BEYOND: Final = 20
_MOST_RESAMPLES: Final = 60_000
# Of the drawn series; where more are not defined, nor is the interval.
_DEFINED: Final = 0.95
_PARTS: Final = ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding")
_COLUMNS: Final = ("seconds", "volume", *_PARTS, "held2_s", "return2")

Sums = Mapping[str, NDArray[np.float64]]


def _pnl(sums: Sums) -> NDArray[np.float64]:
    return sum((sums[part] for part in _PARTS[1:]), start=sums[_PARTS[0]])


def _per_hour(sums: Sums) -> NDArray[np.float64]:
    return _pnl(sums) / sums["seconds"] * _S_PER_HOUR


def _per_risk(sums: Sums) -> NDArray[np.float64]:
    seconds = sums["seconds"]
    variance = sums["return2"] / seconds * (sums["held2_s"] / seconds)
    return _per_hour(sums) / np.sqrt(variance * _S_PER_HOUR)


def _bps(part: str) -> Callable[[Sums], NDArray[np.float64]]:
    return lambda sums: sums[part] / sums["volume"] * BPS


_FIGURE: Final[Mapping[str, Callable[[Sums], NDArray[np.float64]]]] = {
    "pnl_bps_of_volume": lambda sums: _pnl(sums) / sums["volume"] * BPS,
    **{f"{part}_bps": _bps(part) for part in _PARTS},
    "pnl_per_hour_usd": _per_hour,
    "pnl_per_inventory_risk": _per_risk,
}


def block_length(buckets: NDArray[Any]) -> int:
    """Buckets in a block."""
    count = len(buckets)
    # The last bucket may be short.
    bucket_s = max(float(buckets["seconds"].max()), 1e-9)
    return min(count, max(math.ceil(_LEAST_BLOCK_S / bucket_s), math.ceil(2.0 * math.cbrt(count))))


def block_count(buckets: NDArray[Any]) -> int:
    """Whole blocks in the scored time."""
    return len(buckets) // block_length(buckets) if len(buckets) else 0


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t by its expansion about the normal one (Abramowitz and Stegun 26.7.5).

    >>> round(student_quantile(0.975, 10), 2), round(student_quantile(0.975, 200), 2)
    (2.23, 1.97)
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
    )
    return math.fsum(term / degrees**power for power, term in enumerate(terms))


def resample(columns: NDArray[np.float64], length: int, resamples: int, seed: int) -> NDArray[np.float64]:
    """Sums of each column over so many drawn series, each as long as the recorded one.

    Parameters
    ----------
    columns : array (columns, n)
        What each stretch of time added.
    length : int
        Stretches in a block.

    Returns
    -------
    array (columns, resamples)
    """
    count = columns.shape[1]
    draws = math.ceil(count / length)
    # The last block drawn is cut, so that all series are equally long.
    rest = count - (draws - 1) * length
    starts = np.random.default_rng(seed).integers(0, count, (draws, resamples))
    found = np.empty((len(columns), resamples))
    for i, column in enumerate(columns):
        running = np.concatenate([[0.0], np.cumsum(np.concatenate([column, column[:length]]))])
        whole = running[length : length + count] - running[:count]
        last = running[rest : rest + count] - running[:count]
        found[i] = whole[starts[:-1]].sum(axis=0) + last[starts[-1]]
    return found


def _drawn(buckets: NDArray[Any], seed: int, resamples: int) -> tuple[Sums, Sums]:
    """Sums as they were, and as drawn."""
    columns = np.array([buckets[name] for name in _COLUMNS], np.float64)
    drawn = resample(columns, block_length(buckets), resamples, seed)
    return dict(zip(_COLUMNS, columns.sum(axis=1), strict=True)), dict(zip(_COLUMNS, drawn, strict=True))


def _interval(
    estimate: float, values: NDArray[np.float64], blocks: int, confidence: float
) -> Interval | None:
    finite = values[np.isfinite(values)]
    if not math.isfinite(estimate) or len(finite) < _DEFINED * len(values):
        return None
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(finite, [tail, 1.0 - tail])
    widening = student_quantile(1.0 - tail, blocks - 1) / NormalDist().inv_cdf(1.0 - tail)
    widening *= math.sqrt(blocks / (blocks - 1))
    return Interval(
        estimate,
        estimate - max(0.0, estimate - float(low)) * widening,
        estimate + max(0.0, float(high) - estimate) * widening,
        confidence,
        blocks,
    )


def estimates(buckets: NDArray[Any]) -> dict[str, float]:
    """Figures of a series as it was, those that are defined."""
    sums = {name: np.asarray(buckets[name].sum()) for name in _COLUMNS}
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {name: float(_FIGURE[name](sums)) for name in FIGURES}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def intervals(
    buckets: NDArray[Any], seed: int, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> dict[str, Interval]:
    """Intervals of all figures that are defined; none where there are fewer than three blocks of time."""
    blocks = block_count(buckets)
    if blocks < _LEAST_BLOCKS:
        return {}
    sums, drawn = _drawn(buckets, seed, resamples)
    found: dict[str, Interval] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for name in FIGURES:
            of = _FIGURE[name]
            interval = _interval(float(of(sums)), of(drawn), blocks, confidence)
            if interval is not None:
                found[name] = interval
    return found


def difference(
    first: Outcome,
    second: Outcome,
    figure: str = "pnl_per_hour_usd",
    *,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Interval | None:
    """By how much the first contestant's figure exceeds the second's, drawn in pairs over the same time.

    Parameters
    ----------
    figure : str
        One of `FIGURES`.

    Returns
    -------
    Interval or None
        None where the figure of one of them is not defined, or there are fewer than three blocks.

    Raises
    ------
    ValueError
        If they were not scored over the same time.
    """
    if not np.array_equal(first.buckets["end_ns"], second.buckets["end_ns"]):
        msg = f"expected two outcomes of the same time, was {first.label} and {second.label}"
        raise ValueError(msg)
    if block_count(first.buckets) < _LEAST_BLOCKS:
        return None
    pair = _drawn(first.buckets, seed, RESAMPLES), _drawn(second.buckets, seed, RESAMPLES)
    return _between(*pair, figure, block_count(first.buckets), confidence)


def _between(
    first: tuple[Sums, Sums], second: tuple[Sums, Sums], figure: str, blocks: int, confidence: float
) -> Interval | None:
    of = _FIGURE[figure]
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = float(of(first[0])) - float(of(second[0]))
        return _interval(estimate, of(first[1]) - of(second[1]), blocks, confidence)


def paired(
    first: NDArray[Any], others: Sequence[NDArray[Any]], *, seed: int = 0, confidence: float = CONFIDENCE
) -> list[Interval | None]:
    """By how much the PnL of each of `others` exceeds the first's, USD an hour, drawn in pairs.

    What is drawn is the difference of each stretch of time: it is exactly 0 where two are the same. At a high
    confidence more series are drawn, or its ends would rest on none.

    Parameters
    ----------
    first, others : arrays of Bucket
        Of the same time.

    Returns
    -------
    list
        Nothing of any where there are fewer than three blocks.
    """
    blocks = block_count(first)
    if blocks < _LEAST_BLOCKS or not others:
        return [None] * len(others)
    pnl = _pnl_of(first)
    columns = np.array([_pnl_of(other) - pnl for other in others])
    hours = float(first["seconds"].sum()) / _S_PER_HOUR
    wanted = math.ceil(2.0 * _BEYOND / (1.0 - confidence))
    resamples = min(max(RESAMPLES, wanted), _MOST_RESAMPLES)
    length = block_length(first)
    return [
        _interval(
            float(column.sum()) / hours,
            resample(column[None], length, resamples, seed)[0] / hours,
            blocks,
            confidence,
        )
        for column in columns
    ]


def _pnl_of(buckets: NDArray[Any]) -> NDArray[np.float64]:
    return _pnl({part: buckets[part] for part in _PARTS})


class Difference(NamedTuple):
    """By how much the first contestant's PnL exceeds the second's, USD an hour, all else equal."""

    market: str
    fill_model: str
    latency_s: float
    first: str
    second: str
    pnl_per_hour_usd: Interval


def differences(outcomes: Sequence[Outcome], seed: int = 0) -> list[Difference]:
    """The first contestant against each other one of its market, fill model and latency, drawn in pairs.

    Pairs of which nothing can be said are left out: less than three blocks, or scored over other times.
    """
    groups: dict[tuple[str, str, float], list[Outcome]] = {}
    for outcome in outcomes:
        key = outcome.market, outcome.label.fill_model, outcome.label.latency_s
        groups.setdefault(key, []).append(outcome)
    return [found for key, group in groups.items() for found in _against_first(key, group, seed)]


def _against_first(key: tuple[str, str, float], group: Sequence[Outcome], seed: int) -> Iterator[Difference]:
    first, blocks = group[0], block_count(group[0].buckets)
    if blocks < _LEAST_BLOCKS:
        return
    drawn = _drawn(first.buckets, seed, RESAMPLES)
    for other in group[1:]:
        if not np.array_equal(first.buckets["end_ns"], other.buckets["end_ns"]):
            continue
        second = _drawn(other.buckets, seed, RESAMPLES)
        found = _between(drawn, second, "pnl_per_hour_usd", blocks, CONFIDENCE)
        if found is not None:
            yield Difference(*key, first.label.name, other.label.name, found)
