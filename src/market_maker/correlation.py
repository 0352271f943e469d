"""How much the quoted markets move together, and so how much of one the inventory of another is.

Log mids go by previous tick onto a fixed one-second grid; overlapping K-second returns feed an exponentially
weighted covariance. Markets answer the same news seconds apart, so correlations of short returns come out too
low (Epps, JASA 74, 1979): on the four Hyperliquid markets BTC-ETH is .37 at 1 s, .65 at 5 s, .74 at 10 s, .78
at 15 s, .79 at 30 s. K = 10 s is the shortest within two standard errors (.03 at a half-life of 900 s) of the
plateau; a longer one leaves fewer returns. Correlations are shrunk towards 0 until a pair has covered the
warm-up. Source: design.md, section 5, "Skew" and "Cross-market".

It refuses to guess: a market that was not heard within the last K seconds adds to no pair, and no return
spans a gap. What was learnt before a gap fades with time as all does; it is the markets' nature.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS, NS_PER_S
from market_maker.kernel import kernel, new_row

MAX_MARKETS: Final = 16
_RING_S: Final = 64  # grid samples kept of each market; a power of two
_MASK: Final = _RING_S - 1
_CELLS: Final = MAX_MARKETS * MAX_MARKETS
_MAX_LOG: Final = 100.0
_MAX_RETURN: Final = 0.5
_NEVER_S: Final = 2**31
_LN2: Final = math.log(2.0)
_LEAST_S: Final = 1.0  # of coverage, below which nothing is known
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
def _cell(i: int, j: int) -> int:
    return min(i, j) * MAX_MARKETS + max(i, j)


@kernel
def _variance_per_s(settings: CorrelationSettings, state: CorrelationState, i: int) -> float:
    """Of the log mid; 0 where nothing is known."""
    at = _cell(i, i)
    if state.weights[at] < _LEAST_S:
        return 0.0
    return float(state.sums[at] / state.weights[at] / settings.portfolio_return_s)


@kernel
def sigma_bps(settings: CorrelationSettings, state: CorrelationState, i: int) -> float:
    """Volatility of a market as the matrix knows it, bps per square root of a minute; 0 if it does not."""
    return BPS * math.sqrt(_variance_per_s(settings, state, i) * _S_PER_MINUTE)


@kernel
def coverage(settings: CorrelationSettings, state: CorrelationState, i: int, j: int) -> float:
    """How much of the warm-up a pair has covered, 0 to 1; it falls where the pair is not heard for long."""
    weight = state.weights[_cell(i, j)]
    if weight < _LEAST_S:
        return 0.0
    return float(min(1.0, weight / settings.portfolio_warmup_s))


@kernel
def correlation(settings: CorrelationSettings, state: CorrelationState, i: int, j: int) -> float:
    """Correlation of two markets, shrunk towards 0 by what the pair has covered; of one with itself 1."""
    if i == j:
        return 1.0
    both = _variance_per_s(settings, state, i) * _variance_per_s(settings, state, j)
    share = coverage(settings, state, i, j)
    if not (both > 0.0 and share > 0.0):
        return 0.0
    at = _cell(i, j)
    found = state.sums[at] / state.weights[at] / settings.portfolio_return_s / math.sqrt(both)
    return float(share * max(-1.0, min(1.0, found)))


@kernel
def beta(settings: CorrelationSettings, state: CorrelationState, i: int, j: int) -> float:
    """ρ_ij·σ_j/σ_i: what one USD of market j is worth in USD of market i's risk; 0 where it is unknown."""
    if i == j:
        return 1.0
    own = _variance_per_s(settings, state, i)
    if not own > 0.0:
        return 0.0
    ratio = math.sqrt(_variance_per_s(settings, state, j) / own)
    cap = settings.portfolio_beta_cap
    return max(-cap, min(cap, correlation(settings, state, i, j) * ratio))


@kernel
def net_beta_usd(
    settings: CorrelationSettings, state: CorrelationState, reference: int, values_usd: Vector
) -> float:
    """Σ_j β_rj·value_j: the position in the reference market that the portfolio moves like, USD, signed.

    `values_usd` are the signed values of the positions, in the order of the markets.
    """
    total = 0.0
    for j in range(min(values_usd.size, state.markets)):
        total += beta(settings, state, reference, j) * values_usd[j]
    return total


@kernel
def others_lots(
    settings: CorrelationSettings,
    state: CorrelationState,
    i: int,
    values_usd: Vector,
    lot_value_usd: float,
) -> float:
    """What the other markets' positions add to market i's inventory, lots of market i, signed.

    share·Σ_{j≠i} β_ij·value_j / value of a lot of i. 0 where disabled, or without the value of a lot.
    """
    if not (settings.portfolio_enabled and 0.0 < lot_value_usd < math.inf):
        return 0.0
    total = net_beta_usd(settings, state, i, values_usd) - values_usd[i]
    lots = settings.portfolio_skew_share * total / lot_value_usd
    return float(lots) if math.isfinite(lots) else 0.0


@kernel
def effective_lots(
    settings: CorrelationSettings,
    state: CorrelationState,
    i: int,
    values_usd: Vector,
    lot_value_usd: float,
) -> float:
    """Inventory that market i's skew is to see: its own lots and `others_lots`; 0 without a lot's value."""
    if not 0.0 < lot_value_usd < math.inf:
        return 0.0
    return float(values_usd[i] / lot_value_usd) + others_lots(settings, state, i, values_usd, lot_value_usd)


class Correlation:
    """The matrix of a portfolio: what a live session and a backtest hold, and the instrument for the bench.

    Parameters
    ----------
    names : sequence of str
        Markets, at most MAX_MARKETS, each once; the first is the reference unless another is asked for.
    settings : CorrelationSettings, optional
        The defaults where none are given.

    Raises
    ------
    ValueError
        If there are no markets, too many, or one twice.

    Examples
    --------
    >>> together = Correlation(["BTC-USD", "ETH-USD"])
    >>> for second in range(600):
    ...     move = 1.0 + 1e-4 * (second // 30 % 2)
    ...     together.update({"BTC-USD": 60_000 * move, "ETH-USD": 3_000 * move**2}, second * 1_000_000_000)
    >>> round(together.betas("BTC-USD")["ETH-USD"], 2)
    2.0
    """

    def __init__(self, names: Sequence[str], settings: CorrelationSettings | None = None) -> None:
        if not 0 < len(names) <= MAX_MARKETS or len(set(names)) != len(names):
            msg = f"markets: expected 1 to {MAX_MARKETS}, each once, was {list(names)}"
            raise ValueError(msg)
        self.names = tuple(names)
        self._places = {name: i for i, name in enumerate(names)}
        self._settings = new_row(settings or CorrelationSettings())
        self.state = new_row(CorrelationState())
        self.state[0].markets = len(names)
        self._log_mids = np.full(len(names), math.nan)
        self._values = np.zeros(len(names))

    def reload(self, settings: CorrelationSettings) -> None:
        """Go by other settings from now on; what was learnt stays, unless its returns had another length."""
        before, self._settings = self._settings, new_row(settings)
        if before[0].portfolio_return_s != settings.portfolio_return_s:
            self.state = new_row(CorrelationState())
            self.state[0].markets = len(self.names)

    def update(self, mids: Mapping[str, float], now_ns: int) -> None:
        """Take in the mid prices heard since the last call, by market; one not above 0 is ignored."""
        self._log_mids[:] = math.nan
        for name, mid in mids.items():
            if 0.0 < mid < math.inf:
                self._log_mids[self._places[name]] = math.log(mid)
        update(self._settings[0], self.state[0], self._log_mids, len(self.names), int(now_ns))

    def correlation(self, one: str, other: str) -> float:
        """Correlation of two markets, shrunk by its coverage."""
        return float(correlation(self._settings[0], self.state[0], self._places[one], self._places[other]))

    def matrix(self) -> Vector:
        """Correlations of all markets, in the order of their names, positive semi-definite."""
        row, state, n = self._settings[0], self.state[0], range(len(self.names))
        return nearest_correlation(np.array([[correlation(row, state, i, j) for j in n] for i in n]))

    def covariance(self) -> Vector:
        """Covariance of the log mids, bps² per second, correlations shrunk; positive semi-definite.

        Where pairs were not heard at the same times the estimate may have a negative eigenvalue: it becomes
        0, and variances stay as they were.
        """
        sigma = np.array(list(self.sigmas_bps().values())) / math.sqrt(_S_PER_MINUTE)
        found: Vector = np.outer(sigma, sigma) * self.matrix()
        return found

    def sigmas_bps(self) -> dict[str, float]:
        """Volatility of each market, bps per square root of a minute, 0 where it is unknown."""
        row, state = self._settings[0], self.state[0]
        return {name: float(sigma_bps(row, state, i)) for name, i in self._places.items()}

    def betas(self, reference: str) -> dict[str, float]:
        """USD of the reference market that a USD of each market moves like."""
        row, state, place = self._settings[0], self.state[0], self._places[reference]
        return {name: float(beta(row, state, place, i)) for name, i in self._places.items()}

    def net_beta_usd(self, reference: str, values_usd: Mapping[str, float]) -> float:
        """Position in the reference market that the portfolio moves like, USD, signed."""
        return float(
            net_beta_usd(
                self._settings[0], self.state[0], self._places[reference], self._in_order(values_usd)
            )
        )

    def others_lots(self, name: str, values_usd: Mapping[str, float], lot_value_usd: float) -> float:
        """What the positions of the other markets add to a market's inventory, its lots, signed."""
        values, place = self._in_order(values_usd), self._places[name]
        return float(others_lots(self._settings[0], self.state[0], place, values, float(lot_value_usd)))

    def _in_order(self, values_usd: Mapping[str, float]) -> Vector:
        self._values[:] = 0.0
        for name, value in values_usd.items():
            self._values[self._places[name]] = value
        return self._values


def nearest_correlation(rho: Vector) -> Vector:
    """Matrix without its negative eigenvalues, rescaled to a diagonal of ones."""
    values, vectors = np.linalg.eigh(rho)
    if values[0] >= 0.0:
        return rho
    clipped = (vectors * np.maximum(values, 0.0)) @ vectors.T
    root = np.sqrt(np.diag(clipped))
    found: Vector = clipped / np.outer(root, root)
    np.fill_diagonal(found, 1.0)
    return found
