"""How much does the mid move? σ from overlapping returns on a one-second grid.

One-second returns understate what a quote is exposed to, so σ comes from the longest of 1, 5, 15, 30 and 60 s
of which the part holds at least twelve that do not overlap (a relative error of 17 % on a random walk). A
return counts where the book was trusted at each second of it: a mid carried over a gap fakes a calm market.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS
from market_maker.fitting.record import Volatility

INTERVALS_S: Final = (1, 5, 15, 30, 60)
_LEAST_RETURNS: Final = 12
_LEAST_SECONDS: Final = 60
_BLOCKS: Final = 10
_S_PER_MINUTE: Final = 60.0


def squared_returns(mid2_ticks: NDArray[np.int64], interval_s: int) -> NDArray[np.float64]:
    """Squared overlapping returns, ticks², of mids (half ticks, one a second, 0: none) over an interval."""
    if len(mid2_ticks) <= interval_s:
        return np.zeros(0)
    missing = np.r_[0, np.cumsum(mid2_ticks == 0)]
    is_whole = missing[interval_s + 1 :] == missing[: -interval_s - 1]
    moves: Any = (mid2_ticks[interval_s:] - mid2_ticks[:-interval_s])[is_whole] / 2.0
    squares: NDArray[np.float64] = moves**2
    return squares


def volatility(mid2_ticks: NDArray[np.int64]) -> Volatility:
    """σ of mids on a one-second grid (half ticks, 0 where there is none), or why there is none."""
    known = mid2_ticks[mid2_ticks > 0]
    if len(known) < _LEAST_SECONDS:
        return Volatility(refused=f"expected at least {_LEAST_SECONDS} s of trusted book, was {len(known)} s")
    mean_ticks = float(known.mean()) / 2.0
    to_bps = BPS * math.sqrt(_S_PER_MINUTE) / mean_ticks
    found = {length: squared_returns(mid2_ticks, length) for length in INTERVALS_S}
    held = {length: len(squares) / length for length, squares in found.items()}
    usable = [length for length in INTERVALS_S if held[length] >= _LEAST_RETURNS]
    interval_s = usable[-1] if usable else INTERVALS_S[0]
    by_interval = tuple(
        (float(length), _sigma(found[length], length) * to_bps) for length in usable or INTERVALS_S[:1]
    )
    sigma = _sigma(found[interval_s], interval_s)
    if sigma <= 0.0:
        why = "expected the mid to move, was the same throughout"
        return Volatility(by_interval_bps=by_interval, refused=why)
    return Volatility(
        sigma_ticks=sigma,
        sigma_error=_error(found[interval_s], interval_s),
        sigma_bps=sigma * to_bps,
        interval_s=float(interval_s),
        returns=int(held[interval_s]),
        by_interval_bps=by_interval,
        refused="",
    )


def _sigma(squares: NDArray[np.float64], interval_s: int) -> float:
    return math.sqrt(float(squares.mean()) / interval_s) if squares.size else 0.0


def _error(squares: NDArray[np.float64], interval_s: int) -> float:
    """Standard error of σ, from leaving out a tenth of the time at a time."""
    blocks = [block for block in np.array_split(squares, _BLOCKS) if block.size]
    total, count = float(squares.sum()), len(squares)
    if len(blocks) < 2:
        return math.inf
    left = np.array([(total - block.sum()) / (count - len(block)) for block in blocks])
    return float(math.sqrt((len(blocks) - 1) * np.sqrt(left / interval_s).var()))
