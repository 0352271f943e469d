"""How much of one market the inventory of another is.

From the covariance of the markets' moves (`return_covariance`): correlations, shrunk towards 0 until a pair
has covered the warm-up; β_ij = ρ_ij·σ_j/σ_i, what a dollar of market j is worth in dollars of market i's
risk; and the effective inventory q_i + Σ β_ij·q_j, so that a portfolio is skewed once and not twice. Source:
design.md, section 5. The Γ of models.md, section 3, takes `Correlation.covariance`.

It refuses to lean on what it does not know: without a correlation the others add nothing. A limit is the
other way around: `cautious_beta` takes a market that is not known yet for one that moves like the reference.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from market_maker.kernel import Row, kernel, new_row
from market_maker.return_covariance import (
    LEAST_S,
    MAX_MARKETS,
    CorrelationSettings,
    CorrelationState,
    Vector,
    cell,
    sigma_bps,
    update,
    variance_per_s,
)

_S_PER_MINUTE: Final = 60.0

# Settings, state and `update` are part of this module's interface, wherever they are computed.
__all__ = [
    "MAX_MARKETS",
    "Correlation",
    "CorrelationSettings",
    "CorrelationState",
    "beta",
    "cautious_beta",
    "correlation",
    "coverage",
    "effective_lots",
    "nearest_correlation",
    "net_beta_usd",
    "others_lots",
    "sigma_bps",
    "update",
]


@kernel
def coverage(settings: CorrelationSettings, state: CorrelationState, i: int, j: int) -> float:
    """How much of the warm-up a pair has covered, 0 to 1; it falls where the pair is not heard for long."""
    weight = state.weights[cell(i, j)]
    if weight < LEAST_S:
        return 0.0
    return float(min(1.0, weight / settings.portfolio_warmup_s))


@kernel
def correlation(settings: CorrelationSettings, state: CorrelationState, i: int, j: int) -> float:
    """Correlation of two markets, shrunk towards 0 by what the pair has covered; of one with itself 1."""
    if i == j:
        return 1.0
    both = variance_per_s(settings, state, i) * variance_per_s(settings, state, j)
    share = coverage(settings, state, i, j)
    if not (both > 0.0 and share > 0.0):
        return 0.0
    at = cell(i, j)
    found = state.sums[at] / state.weights[at] / settings.portfolio_return_s / math.sqrt(both)
    return float(share * max(-1.0, min(1.0, found)))


@kernel
def beta(settings: CorrelationSettings, state: CorrelationState, i: int, j: int) -> float:
    """ρ_ij·σ_j/σ_i: what one USD of market j is worth in USD of market i's risk; 0 where it is unknown."""
    if i == j:
        return 1.0
    own = variance_per_s(settings, state, i)
    if not own > 0.0:
        return 0.0
    ratio = math.sqrt(variance_per_s(settings, state, j) / own)
    cap = settings.portfolio_beta_cap
    return max(-cap, min(cap, correlation(settings, state, i, j) * ratio))


@kernel
def cautious_beta(settings: CorrelationSettings, state: CorrelationState, i: int, j: int) -> float:
    """`beta` shrunk towards 1 and not towards 0, for limits: what is not known moves like the reference."""
    share = coverage(settings, state, i, j)
    return beta(settings, state, i, j) + 1.0 - share if i != j else 1.0


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
        self.state = self._new_state()
        self._log_mids = np.full(len(names), math.nan)
        self._values = np.zeros(len(names))

    def reload(self, settings: CorrelationSettings) -> None:
        """Go by other settings from now on; what was learnt stays, unless its returns had another length."""
        before, self._settings = self._settings, new_row(settings)
        if before[0].portfolio_return_s != settings.portfolio_return_s:
            self.state = self._new_state()

    def _new_state(self) -> Row:
        state = new_row(CorrelationState())
        state[0].markets = len(self.names)
        return state

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

    def coverage(self, one: str, other: str) -> float:
        """How much of the warm-up a pair has covered, 0 to 1."""
        return float(coverage(self._settings[0], self.state[0], self._places[one], self._places[other]))

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

    def cautious_betas(self, reference: str) -> dict[str, float]:
        """The same for limits: a market that is not known yet counts as moving like the reference."""
        row, state, place = self._settings[0], self.state[0], self._places[reference]
        return {name: float(cautious_beta(row, state, place, i)) for name, i in self._places.items()}

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
