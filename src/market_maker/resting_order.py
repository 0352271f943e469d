"""Whether an order that rests is worth a move: its price, its size, its age, against what is wanted now.

A move costs the place in the queue and a request, so small differences are let be, and a move may not come
before the least interval. One may: leaving, with an order that opens risk, a price at which a fill would no
longer pay its costs. A reducing order follows the more closely, the more inventory there is to be got rid of.
"""

import math
from typing import Final

from market_maker import pricing_engine, volatility_regime
from market_maker.domain import BPS, NS_PER_S, Reason
from market_maker.kernel import kernel
from market_maker.strategy_rows import Account, DecisionRow, Params, Slot, State

_PRICE_MOVED: Final = int(Reason.PRICE_MOVED)
_SIZE_CHANGED: Final = int(Reason.SIZE_CHANGED)
_AGE_EXCEEDED: Final = int(Reason.AGE_EXCEEDED)
_WITHIN_TOLERANCE: Final = int(Reason.WITHIN_TOLERANCE)
_MIN_INTERVAL: Final = int(Reason.MIN_REPRICE_INTERVAL)


@kernel
def tolerance_ticks(p: Params, slot: Slot, d: DecisionRow) -> float:
    """How far a resting price may be from the wanted one.

    The more inventory there is to be got rid of, the closer a reducing order follows.
    """
    tolerance = p.reprice.reprice_tolerance * d.offset_bps * d.fair_ticks / BPS
    if float(slot.side) * d.conditions.inventory_share < 0.0:
        tolerance *= 1.0 - math.fabs(d.conditions.inventory_share)
    return max(tolerance, p.reprice.reprice_tolerance_ticks)


@kernel
def needs_reprice(p: Params, slot: Slot, d: DecisionRow) -> bool:
    """Whether the resting price is further from the wanted one than the tolerance."""
    return math.fabs(float(d.wanted_ticks - slot.price_ticks)) > tolerance_ticks(p, slot, d)


@kernel
def needs_resize(p: Params, slot: Slot, d: DecisionRow) -> bool:
    """Whether the size that remains is further from the wanted one than the tolerance."""
    off = math.fabs(float(d.wanted_lots - slot.remaining_lots))
    return off > p.reprice.reprice_size_tolerance * float(d.wanted_lots)


@kernel
def age_exceeded(p: Params, slot: Slot, regime: int, now_ns: int) -> bool:
    """Whether the order is due to be renewed."""
    scale = volatility_regime.order_age_scale(p.regime_scale, regime)
    return float(now_ns - slot.placed_ns) >= p.reprice.max_order_age_s * scale * NS_PER_S


@kernel
def _too_early(p: Params, slot: Slot, regime: int, now_ns: int) -> bool:
    scale = volatility_regime.reprice_interval_scale(p.regime_scale, regime)
    return float(now_ns - slot.last_change_ns) < p.reprice.min_reprice_interval_s * scale * NS_PER_S


@kernel
def is_dangerous(p: Params, a: Account, slot: Slot, d: DecisionRow) -> bool:
    """Whether an opening order rests where a fill would no longer pay its costs."""
    if not p.reprice.reprice_safety_enabled or slot.side * a.position_lots < 0:
        return False
    edge = pricing_engine.edge_bps(slot.side, float(slot.price_ticks), d.fair_ticks, 0.0)
    return edge < pricing_engine.cost_floor_bps(p.offset, d.conditions)


@kernel
def change_reason(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow, now_ns: int) -> int:
    """Why the resting order is replaced (below WITHIN_TOLERANCE), or else kept."""
    early = _too_early(p, slot, s.market_view.regime, now_ns)
    if needs_reprice(p, slot, d):
        return _MIN_INTERVAL if early and not is_dangerous(p, a, slot, d) else _PRICE_MOVED
    if needs_resize(p, slot, d):
        return _MIN_INTERVAL if early else _SIZE_CHANGED
    if age_exceeded(p, slot, s.market_view.regime, now_ns):
        return _AGE_EXCEEDED
    return _WITHIN_TOLERANCE
