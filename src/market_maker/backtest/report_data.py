"""Columns of a saved run as a report draws them: thinned, sorted, and packed as plotly reads them."""

import base64
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import NS_PER_MS, NS_PER_S

_EXTREMES: Final = 4  # rows that a bucket keeps: the largest and smallest of two columns


def packed(values: NDArray[Any], dtype: str = "f4") -> dict[str, str]:
    """Numbers as plotly reads them in binary: base64 of little-endian `f4`, `f8`, `i4` or `i1`.

    >>> packed(np.array([1.0]))
    {'dtype': 'f4', 'bdata': 'AACAPw=='}
    """
    return {"dtype": dtype, "bdata": base64.b64encode(values.astype(f"<{dtype}").tobytes()).decode()}


def instants(ns: NDArray[np.int64]) -> dict[str, str]:
    """Instants for a date axis: milliseconds since the epoch."""
    return packed(ns / NS_PER_MS, "f8")


def thinned(rows: NDArray[Any], columns: tuple[str, str], most: int) -> NDArray[Any]:
    """At most `most` rows, about: of each stretch the first, and the extremes of two columns.

    So the highest and lowest point of both are there, and a drawdown drawn from them is the true one.
    """
    if len(rows) <= most:
        return rows
    edges = np.linspace(0, len(rows), max(1, most // (_EXTREMES + 1)) + 1).astype(np.int64)
    kept = {0, len(rows) - 1}
    for first, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        kept.add(first)
        for column in columns:
            piece = rows[column][first:end]
            kept |= {first + int(piece.argmax()), first + int(piece.argmin())}
    return rows[sorted(kept)]


def spread_out(count: int, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` of `count` things, evenly, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def drawdown(total_usd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance below the highest value so far, zero or negative.

    >>> drawdown(np.array([1.0, 3.0, 2.0])).tolist()
    [0.0, 0.0, -1.0]
    """
    # The account begins at zero, which is a peak too.
    highest = np.maximum.accumulate(np.maximum(total_usd, 0.0)) if len(total_usd) else total_usd
    return np.minimum(total_usd - highest, 0.0)


def shares_up_to(values: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sorted values, thinned, and the share of all that are no larger."""
    ordered = np.sort(values)
    at = spread_out(len(ordered), most)
    return ordered[at], (at + 1) / max(1, len(ordered))


def seconds(ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Durations in seconds."""
    return ns / NS_PER_S
