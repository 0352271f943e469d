"""Quotes of models that trade spread against inventory.

The mid is a Brownian motion of σ; orders that reach δ from it arrive at A·exp(−k·δ) on each side. Avellaneda
& Stoikov (Quantitative Finance 8(3), 2008, 217–224) quote around an indifference price for what is left of a
session. Guéant, Lehalle & Fernandez-Tapia ("Dealing with the inventory risk", arXiv 1105.3115) solve the same
far from its end, and give the closed form; Guéant ("Optimal market making", arXiv 1605.01862) adds the order
size. `glft_solution` has what the closed form approximates.

Units are any that agree: prices in ticks, time in seconds, inventory q in orders, long positive; then γ is
per tick and order. Offsets are distances from the mid, positive outwards. Arguments are positive unless said;
a model refuses nothing, so whoever calls it checks.
"""

import math

from market_maker.kernel import kernel


@kernel
def spread_base(gamma: float, k: float) -> float:
    """(1/γ)·ln(1 + γ/k): half of the spread where inventory costs nothing; 1/k as γ falls to 0."""
    return math.log1p(gamma / k) / gamma if gamma > 0.0 else 1.0 / k


@kernel
def as_skew(gamma: float, sigma: float, left_s: float) -> float:
    """γσ²(T−t): how far an order held moves the indifference price down."""
    return gamma * sigma * sigma * left_s


@kernel
def as_half_spread(gamma: float, sigma: float, k: float, left_s: float) -> float:
    """Half of γσ²(T−t) + (2/γ)·ln(1 + γ/k)."""
    return 0.5 * as_skew(gamma, sigma, left_s) + spread_base(gamma, k)


@kernel
def as_quotes(
    mid: float, inventory: float, gamma: float, sigma: float, k: float, left_s: float
) -> tuple[float, float]:
    """Bid and ask of Avellaneda & Stoikov, around r = s − q·γσ²(T−t)."""
    centre = mid - inventory * as_skew(gamma, sigma, left_s)
    half = as_half_spread(gamma, sigma, k, left_s)
    return centre - half, centre + half


@kernel
def as_reservations(
    mid: float, inventory: float, gamma: float, sigma: float, left_s: float
) -> tuple[float, float]:
    """Reservation bid and ask: prices at which one order more, or less, is worth as much as none."""
    half_risk = 0.5 * as_skew(gamma, sigma, left_s)
    return mid - (1.0 + 2.0 * inventory) * half_risk, mid + (1.0 - 2.0 * inventory) * half_risk


@kernel
def as_stationary_reservations(
    mid: float, inventory: float, gamma: float, most: float
) -> tuple[float, float]:
    """Reservation bid and ask of an infinite horizon with discount ω = ½γ²σ²(q_max+1)².

    With this ω the volatility cancels. Whoever is long q_max buys at no price; |q| ≤ q_max.
    """
    room = (most + 1.0) * (most + 1.0) - inventory * inventory
    more, less = 1.0 - (1.0 + 2.0 * inventory) / room, 1.0 + (1.0 - 2.0 * inventory) / room
    bid = mid + math.log(more) / gamma if more > 0.0 else -math.inf
    return bid, mid + math.log(less) / gamma


@kernel
def as_geometric_reservations(
    mid: float, inventory: float, gamma: float, sigma: float, left_s: float
) -> tuple[float, float]:
    """Reservation bid and ask where the mid is a geometric Brownian motion, mean-variance (appendix)."""
    half_risk = 0.5 * gamma * mid * mid * math.expm1(sigma * sigma * left_s)
    return mid + (-1.0 - 2.0 * inventory) * half_risk, mid + (1.0 - 2.0 * inventory) * half_risk


@kernel
def glft_skew(gamma: float, sigma: float, k: float, a_per_s: float) -> float:
    """S = √((σ²γ / 2kA)·(1 + γ/k)^(1 + k/γ)): how far an order held moves both quotes down."""
    if gamma <= 0.0:
        return 0.0
    power = (1.0 + k / gamma) * math.log1p(gamma / k)
    return sigma * math.sqrt(gamma / (2.0 * k * a_per_s) * math.exp(power))


@kernel
def glft_offsets(
    inventory: float, gamma: float, sigma: float, k: float, a_per_s: float
) -> tuple[float, float]:
    """Offsets of bid and ask in the closed form: base + S/2 ± q·S."""
    skew = glft_skew(gamma, sigma, k, a_per_s)
    half = spread_base(gamma, k) + 0.5 * skew
    return half + inventory * skew, half - inventory * skew


@kernel
def glft_drift_shift(gamma: float, sigma: float, drift: float, skew: float) -> float:
    """How far a drift μ (per second, any sign) moves both quotes up: S·μ/(γσ²)."""
    return skew * drift / (gamma * sigma * sigma)


@kernel
def glft_adverse_offsets(
    inventory: float, gamma: float, sigma: float, k: float, a_per_s: float, jump: float
) -> tuple[float, float]:
    """Offsets where the price jumps ξ against us at each fill: ξ/2 farther on both sides, S·e^(kξ/4)."""
    skew = glft_skew(gamma, sigma, k, a_per_s) * math.exp(0.25 * k * jump)
    half = spread_base(gamma, k) + 0.5 * jump + 0.5 * skew
    return half + inventory * skew, half - inventory * skew


@kernel
def sized_glft_offsets(
    inventory: float, gamma: float, sigma: float, k: float, a_per_s: float, size: float
) -> tuple[float, float]:
    """Offsets with orders of size Δ and inventory in the same unit (Guéant's model A, ξ = γ).

    c₁ + Δσc₂/2 ± q·σc₂ with c₁ = ln(1 + γΔ/k)/(γΔ) and c₂ = √((γ / 2AΔk)·(1 + γΔ/k)^(1 + k/(γΔ))).
    """
    skew = glft_skew(gamma * size, sigma, k, a_per_s) / size
    half = spread_base(gamma * size, k) + 0.5 * size * skew
    return half + inventory * skew, half - inventory * skew
