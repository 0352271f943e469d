"""Covariance of the markets' moves: an exponentially weighted one, robust to markets that tick apart.

Log mids go by previous tick onto a fixed one-second grid; overlapping K-second returns are summed with
weights that halve over the half-life. Markets answer the same news seconds apart, so correlations of short
returns come out too low (Epps, JASA 74, 1979): on the four Hyperliquid markets BTC-ETH is .37 at 1 s, .65 at
5 s, .74 at 10 s, .78 at 15 s, .79 at 30 s. K = 10 s is the shortest within two standard errors (.03 at a
half-life of 900 s) of the plateau; a longer one leaves fewer returns. Source: design.md, section 5.

It refuses to guess: a market that was not heard within the last K seconds adds to no pair, and no return
spans a gap. What was learnt before a gap fades with time as all does; it is the markets' nature.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS, NS_PER_S
from market_maker.kernel import kernel

MAX_MARKETS: Final = 16
_RING_S: Final = 64  # grid samples kept of each market; a power of two
_MASK: Final = _RING_S - 1
_CELLS: Final = MAX_MARKETS * MAX_MARKETS
_MAX_LOG: Final = 100.0
_MAX_RETURN: Final = 0.5
_NEVER_S: Final = 2**31
_LN2: Final = math.log(2.0)
LEAST_S: Final = 1.0  # of coverage, below which nothing is known
_S_PER_MINUTE: Final = 60.0

Vector = NDArray[np.float64]


def _require(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        msg = f"{name}: expected {low:g} to {high:g}, was {value:g}"
        raise ValueError(msg)


@dataclass(frozen=True)
class CorrelationSettings:
    """How the markets of a portfolio are seen together.

    Raises
    ------
    ValueError
        If a value is out of its range.
    """

    portfolio_enabled: bool = True  # skew by the inventory of the other markets too
    portfolio_skew_share: float = 1.0  # share of the other markets' inventory that counts
    portfolio_return_s: float = 10.0  # s, K: whole seconds from one mid to the other of a return
    portfolio_halflife_s: float = 900.0  # s, after which a return counts half
    portfolio_warmup_s: float = 120.0  # s that a pair covers before its correlation counts in full
    portfolio_gap_reset_s: float = 15.0  # s unheard, after which a market's returns start anew
    portfolio_beta_cap: float = 4.0  # largest beta, of either sign

    def __post_init__(self) -> None:
        k = self.portfolio_return_s
        _require("portfolio_skew_share", self.portfolio_skew_share, 0.0, 2.0)
        _require("portfolio_return_s", k, 1.0, _RING_S - 1.0)
        _require("portfolio_halflife_s", self.portfolio_halflife_s, k, 1e6)
        _require("portfolio_warmup_s", self.portfolio_warmup_s, 1.0, self.portfolio_halflife_s)
        _require("portfolio_gap_reset_s", self.portfolio_gap_reset_s, 1.0, 3600.0)
        _require("portfolio_beta_cap", self.portfolio_beta_cap, 0.1, 100.0)
        if not k.is_integer():
            msg = f"portfolio_return_s: expected whole seconds, was {k:g}"
            raise ValueError(msg)


def _floats(count: int = MAX_MARKETS) -> Vector:
    return np.zeros(count)


def _never() -> NDArray[np.int64]:
    return np.full(MAX_MARKETS, _NEVER_S, np.int64)


@dataclass
class CorrelationState:
    """State of all markets; of a pair (i, j) with i ≤ j the cell is i·MAX_MARKETS + j."""

    ring: Annotated[Vector, 1024] = field(default_factory=lambda: _floats(MAX_MARKETS * _RING_S))
    pending: Annotated[Vector, 16] = field(default_factory=_floats)  # log mid heard last
    silent_s: Annotated[NDArray[np.int64], 16] = field(default_factory=_never)  # s since it was heard
    samples: Annotated[Vector, 16] = field(default_factory=_floats)  # on the grid, in a row
    returns: Annotated[Vector, 16] = field(default_factory=_floats)  # newest; not a number: none
    sums: Annotated[Vector, 256] = field(default_factory=lambda: _floats(_CELLS))
    weights: Annotated[Vector, 256] = field(default_factory=lambda: _floats(_CELLS))
    markets: int = 0
    head: int = 0  # grid samples written, ever
    second: int = 0  # second that the newest mids belong to
    started: bool = False


@kernel
def _fade(settings: CorrelationSettings, state: CorrelationState, seconds: int) -> None:
    keep = math.exp(-_LN2 * float(seconds) / settings.portfolio_halflife_s)
    for i in range(state.markets):
        for j in range(i, state.markets):
            state.sums[i * MAX_MARKETS + j] *= keep
            state.weights[i * MAX_MARKETS + j] *= keep


@kernel
def _sample(settings: CorrelationSettings, state: CorrelationState, i: int) -> None:
    """Put the mid that stood last on the grid; find the return that ends there, if there is one."""
    return_s = int(settings.portfolio_return_s)
    first = i * _RING_S
    state.ring[first + (state.head & _MASK)] = state.pending[i]
    if state.silent_s[i] > settings.portfolio_gap_reset_s:
        state.samples[i] = 0
    else:
        state.samples[i] = min(state.samples[i] + 1, _RING_S)
    is_fresh = state.silent_s[i] < return_s and state.samples[i] > return_s
    move = state.pending[i] - state.ring[first + ((state.head - return_s) & _MASK)]
    state.returns[i] = max(-_MAX_RETURN, min(_MAX_RETURN, move)) if is_fresh else math.nan
    state.silent_s[i] += 1


@kernel
def _end_second(settings: CorrelationSettings, state: CorrelationState) -> None:
    """The mids that stood last become the samples of their second."""
    for i in range(state.markets):
        _sample(settings, state, i)
    state.head += 1
    state.second += 1
    _fade(settings, state, 1)
    for i in range(state.markets):
        for j in range(i, state.markets):
            product = state.returns[i] * state.returns[j]
            if math.isfinite(product):
                state.sums[i * MAX_MARKETS + j] += product
                state.weights[i * MAX_MARKETS + j] += 1.0


@kernel
def _begin_anew(settings: CorrelationSettings, state: CorrelationState, second: int) -> None:
    """After a gap of all markets, or a step of the clock: no return spans it."""
    if state.started and second > state.second:
        _fade(settings, state, second - state.second)
    for i in range(MAX_MARKETS):
        state.samples[i] = 0
        state.silent_s[i] = _NEVER_S
    state.second = second
    state.started = True


@kernel
def update(
    settings: CorrelationSettings, state: CorrelationState, log_mids: Vector, n: int, now_ns: int
) -> None:
    """Take the mids of `n` markets in, always in the same order; seconds that have ended are sampled first.

    Parameters
    ----------
    log_mids
        Natural logarithms of the mids heard since the last call; not a number where none was. What was heard
        last stands for a market until the next, for as long as `portfolio_gap_reset_s`.
    n
        Number of markets, at most MAX_MARKETS; those beyond are ignored.
    now_ns
        Nanoseconds since the epoch. An update of an earlier second is ignored; a step of the clock by more
        than `portfolio_gap_reset_s`, to either side, starts the returns of all markets anew.
    """
    state.markets = min(n, log_mids.size, MAX_MARKETS)
    second = now_ns // NS_PER_S
    elapsed_s = second - state.second
    if not state.started or abs(elapsed_s) > settings.portfolio_gap_reset_s:
        _begin_anew(settings, state, second)
    elif elapsed_s < 0:
        return
    while state.second < second:
        _end_second(settings, state)
    for i in range(state.markets):
        if math.isfinite(log_mids[i]) and abs(log_mids[i]) <= _MAX_LOG:
            state.pending[i] = log_mids[i]
            state.silent_s[i] = 0


@kernel
def cell(i: int, j: int) -> int:
    """Where a pair is in `sums` and `weights`."""
    return min(i, j) * MAX_MARKETS + max(i, j)


@kernel
def variance_per_s(settings: CorrelationSettings, state: CorrelationState, i: int) -> float:
    """Of the log mid; 0 where nothing is known."""
    at = cell(i, i)
    if state.weights[at] < LEAST_S:
        return 0.0
    return float(state.sums[at] / state.weights[at] / settings.portfolio_return_s)


@kernel
def sigma_bps(settings: CorrelationSettings, state: CorrelationState, i: int) -> float:
    """Volatility of a market as the matrix knows it, bps per square root of a minute; 0 if it does not."""
    return BPS * math.sqrt(variance_per_s(settings, state, i) * _S_PER_MINUTE)
