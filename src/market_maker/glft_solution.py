"""What GLFT's closed form approximates, solved: finite inventory, and several markets at once.

Guéant, Lehalle & Fernandez-Tapia (arXiv 1105.3115): with inventory bounded by Q, optimal offsets follow from
v(t) = exp(−M·(T−t))·v(T), M tridiagonal over q = −Q … Q; far from T, from the eigenvector of M's smallest
eigenvalue. The exponential is taken of a matrix without a negative entry, so that each component of v is
precise, however small. Several markets: Guéant (arXiv 1605.01862) and Bergault, Evangelista, Guéant & Vieira
(arXiv 1810.04383), quadratic approximation: Γ = √γ·D^−½·(D^½·Σ·D^½)^½·D^−½.

Units as in `market_making_models`. It is the yardstick of the closed form, in tests and in reports.
"""

import math
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS
from market_maker.market_making_models import spread_base

Vector = NDArray[np.float64]
_TERMS: Final = 24  # of the exponential's series, for a matrix of norm 1
_STEADY: Final = 1e-12
_MOST_SQUARINGS: Final = 200


@dataclass(frozen=True)
class Quoting:
    """One market as the model sees it: γ, σ, k, A, drift μ (any sign), and the price jump ξ at each fill."""

    gamma: float
    sigma: float
    k: float
    a_per_s: float
    drift: float = 0.0
    jump: float = 0.0


def exact_offsets(market: Quoting, most: int, left_s: float = math.inf) -> tuple[Vector, Vector]:
    """Optimal offsets of bid and ask for q = −most … most, `left_s` from the end; infinite past a bound."""
    inventory = np.arange(-most, most + 1, dtype=np.float64)
    alpha = market.k * market.gamma * market.sigma**2 / 2.0
    ratio = market.gamma / market.k
    eta = market.a_per_s * math.exp(-(1.0 + 1.0 / ratio) * math.log1p(ratio) - market.k * market.jump / 2.0)
    diagonal = alpha * inventory**2 - market.k * market.drift * inventory
    # −M, moved up so that no entry is negative: that scales v and no more.
    rates = np.diag(diagonal.max() - diagonal) + eta * (
        np.eye(2 * most + 1, k=1) + np.eye(2 * most + 1, k=-1)
    )
    value = _evolved(rates, np.exp(-market.k * market.jump * inventory**2 / 2.0), left_s)
    steps = np.diff(np.log(value)) / market.k
    base = spread_base(market.gamma, market.k) + market.jump / 2.0
    return np.append(base - steps, math.inf), np.append(math.inf, base + steps)


def _evolved(rates: Vector, end: Vector, left_s: float) -> Vector:
    """exp(rates·left_s)·end, up to a factor; where it settles, if `left_s` is infinite."""
    norm = float(np.abs(rates).sum(axis=1).max())
    is_finite = math.isfinite(left_s)
    halvings = max(0, math.ceil(math.log2(norm * left_s))) if is_finite and left_s > 0.0 else 0
    small = rates * (left_s / 2.0**halvings if is_finite else 1.0 / norm)
    step: Any = np.eye(len(end))
    term: Any = np.eye(len(end))
    for n in range(1, _TERMS):
        term = term @ small / n
        step = step + term
    value = _scaled(step @ end)
    for _ in range(halvings if is_finite else _MOST_SQUARINGS):
        step = _scaled(step @ step)
        before, value = value, _scaled(step @ end)
        if not is_finite and np.allclose(value, before, rtol=_STEADY, atol=0.0):
            break
    return value


def _scaled(values: Vector) -> Vector:
    scaled: Vector = values / values.max()
    return scaled


@dataclass(frozen=True)
class Portfolio:
    """Several markets: γ, ξ, covariance Σ of the mids, and A, k and order size Δ of each.

    ξ is one, or one for each market.
    """

    gamma: float
    xi: float | Vector
    covariance: Vector
    a_per_s: Vector
    k: Vector
    size: Vector


def portfolio_skew(portfolio: Portfolio) -> Vector:
    """Γ: market i's quotes move down by Γ_ij for each unit held long of market j."""
    reach = 1.0 + portfolio.xi * portfolio.size / portfolio.k
    share = reach ** -(1.0 + portfolio.k / (portfolio.xi * portfolio.size))
    d_root = np.sqrt(2.0 * portfolio.a_per_s * portfolio.k * share * portfolio.size)
    outer = np.outer(d_root, d_root)
    values, vectors = np.linalg.eigh(portfolio.covariance * outer)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    skew: Vector = math.sqrt(portfolio.gamma) * root / outer
    return skew


def portfolio_offsets(portfolio: Portfolio, inventory: Vector) -> tuple[Vector, Vector]:
    """Offsets of bids and asks: c₁ + ½ΔΓ_ii ± (Γq)_i, with c₁ = ln(1 + ξΔ/k)/(ξΔ)."""
    skew = portfolio_skew(portfolio)
    base = np.log1p(portfolio.xi * portfolio.size / portfolio.k) / (portfolio.xi * portfolio.size)
    half = base + portfolio.size * np.diag(skew) / 2.0
    lean = skew @ inventory
    return half + lean, half - lean


def gamma_cross(portfolio: Portfolio, inventory: Vector) -> Vector:
    """Inventory of each market that its quotes are to see: q_i + Σ_{j≠i} Γ_ij·q_j / Γ_ii.

    By it, quotes that know one market alone lean by (Γq)_i. A market that does not move sees its own.
    """
    skew = portfolio_skew(portfolio)
    own = np.diag(skew)
    seen: Vector = np.divide(skew @ inventory, own, out=np.array(inventory, np.float64), where=own > 0.0)
    return seen


class QuotedMarkets(NamedTuple):
    """Models of the markets in the units of `model_quotes`: γ per bps and order, A per s, k per bps."""

    gamma: Vector
    a_per_s: Vector
    k_per_bps: Vector
    order_usd: Vector


def model_values_usd(models: QuotedMarkets, covariance: Vector, values_usd: Vector) -> Vector:
    """`gamma_cross` of positions in USD, with each market's model in bps, seconds and orders.

    Parameters
    ----------
    covariance
        Of the log mids, bps² per second.
    values_usd
        Signed values of the positions.
    """
    # In USD per bp a position times a move is money, whatever the market's price.
    per_bp = models.order_usd / BPS
    portfolio = Portfolio(1.0, models.gamma / per_bp, covariance, models.a_per_s, models.k_per_bps, per_bp)
    return gamma_cross(portfolio, values_usd / BPS) * BPS
