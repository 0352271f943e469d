"""How much a market moved, from bars and from returns: estimators that part where it is no random walk.

A bar's range knows more than its close. Parkinson (1980) uses high and low, Garman & Klass (1980) all four
prices, Rogers & Satchell (1991) all four and no assumption about the drift, Yang & Zhang (2000) the jump
between bars too. From returns: their variance, their sum of squares (realised variance), the bipower
variation of Barndorff-Nielsen & Shephard (2004), which a single jump hardly touches, and the two-scale
estimate of Zhang, Mykland & Aït-Sahalia (2005), which takes out the bounce between bid and ask. Formulas:
models.md, section 7.

Each gives a variance in log price squared; none a σ, because roots of averages are no averages of roots.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LN2: Final = math.log(2.0)
_YANG_ZHANG_ALPHA: Final = 0.34  # of which k is made, the least variance by the authors


class Bars(NamedTuple):
    """Open, high, low and close of bars in the order of time; prices above 0 in any unit."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats


def _require(found: int, least: int, what: str) -> None:
    if found < least:
        msg = f"{what}: expected at least {least}, was {found}"
        raise ValueError(msg)


def parkinson(bars: Bars) -> float:
    """Variance a bar: mean of ln²(H/L), over 4·ln 2. About five times as efficient as closes, if driftless.

    >>> bars = Bars(*(np.array([x]) for x in (100.0, 102.0, 99.0, 101.0)))
    >>> round(parkinson(bars), 7)
    0.0003214
    """
    _require(len(bars.close), 1, "bars")
    return float(np.mean(np.log(bars.high / bars.low) ** 2)) / (4.0 * _LN2)


def garman_klass(bars: Bars) -> float:
    """Variance a bar: mean of ½·ln²(H/L) − (2·ln 2 − 1)·ln²(C/O). Seven times as efficient, if driftless."""
    _require(len(bars.close), 1, "bars")
    ranges, bodies = np.log(bars.high / bars.low), np.log(bars.close / bars.open)
    return float(np.mean(0.5 * ranges**2 - (2.0 * _LN2 - 1.0) * bodies**2))


def rogers_satchell(bars: Bars) -> float:
    """Variance a bar, whatever the drift: mean of ln(H/C)·ln(H/O) + ln(L/C)·ln(L/O)."""
    _require(len(bars.close), 1, "bars")
    up = np.log(bars.high / bars.close) * np.log(bars.high / bars.open)
    down = np.log(bars.low / bars.close) * np.log(bars.low / bars.open)
    return float(np.mean(up + down))


def yang_zhang(bars: Bars) -> float:
    """Variance a bar with the jump from the close before: of n opens, k·closes and (1 − k)·Rogers–Satchell.

    The first bar gives only its close; three bars are the fewest.
    """
    _require(len(bars.close), 3, "bars")
    later = Bars(*(column[1:] for column in bars))
    n = len(later.close)
    jumps = float(np.var(np.log(later.open / bars.close[:-1]), ddof=1))
    bodies = float(np.var(np.log(later.close / later.open), ddof=1))
    k = _YANG_ZHANG_ALPHA / (1.0 + _YANG_ZHANG_ALPHA + (n + 1) / (n - 1))
    return jumps + k * bodies + (1.0 - k) * rogers_satchell(later)


def close_to_close(returns: Floats) -> float:
    """Variance a return about the mean return, unbiased."""
    _require(len(returns), 2, "returns")
    return float(np.var(returns, ddof=1))


def realised_variance(returns: Floats) -> float:
    """Sum of squared returns: the variance over all of their time, jumps included."""
    return float(returns @ returns)


def bipower_variation(returns: Floats) -> float:
    """π/2 times the sum of |rᵢ||rᵢ₋₁|: the realised variance without its jumps.

    Its n − 1 products are not scaled up to n, as in models.md; compare it with means where n is small.
    """
    size = np.abs(returns)
    return float(size[1:] @ size[:-1]) * math.pi / 2.0


def two_scale_variance(log_prices: Floats, scale: int) -> float:
    """Variance over all the time of a series of log prices, without the noise that each price carries.

    The mean over `scale` interleaved grids of their realised variance, less its share of the noise that the
    realised variance of all returns measures; corrected for the length. It can come out below 0.
    """
    n = len(log_prices) - 1
    if not 1 < scale < n:
        msg = f"scale: expected above 1 and below the {n} returns, was {scale}"
        raise ValueError(msg)
    slow = log_prices[scale:] - log_prices[:-scale]
    each = (n - scale + 1) / scale
    share = each / n
    noisy = realised_variance(np.diff(log_prices))
    return (realised_variance(slow) / scale - share * noisy) / (1.0 - share)
