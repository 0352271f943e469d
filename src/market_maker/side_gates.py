"""Why a side may take no new risk now, and how much further out the guards want it.

Regime, guards, trend, order flow and reference are soft gates: none of them removes what reduces the
position. Most look at one side; a reference that is lost or far off says that nobody knows the fair value,
and holds for both.
"""

from typing import Final

from market_maker import grid, order_flow, pricing_engine, reference_price, toxicity_guard
from market_maker.domain import BPS, Reason, Regime
from market_maker.kernel import kernel
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, Slot, State

_EXTREME: Final = int(Regime.EXTREME)
_NONE: Final = int(Reason.NONE)
_MARK_MISSING: Final = int(Reason.MARK_MISSING)
_EXTREME_REGIME: Final = int(Reason.EXTREME_REGIME)
_STRONG_TREND: Final = int(Reason.STRONG_TREND)
_TOXIC_FLOW: Final = int(Reason.TOXIC_FLOW)


@kernel
def spread_bps(book: BookRow) -> float:
    """Spread of a book, bps of its mid."""
    return 2.0 * BPS * float(book.ask_ticks - book.bid_ticks) / float(book.ask_ticks + book.bid_ticks)


@kernel
def strong_direction(s: State) -> int:
    """Direction of the trend where it is strong, else 0."""
    return s.market_view.trend_direction if s.market_view.trend_strong else 0


@kernel
def life_bps(p: Params, s: State) -> float:
    """What volatility does during the expected life of a quote, the way of the order included, bps."""
    return pricing_engine.move_bps(s.sigma_bps, p.offset.quote_lifetime_s + s.market_view.latency_s)


@kernel
def _side_gate(p: Params, s: State, side: int) -> int:
    """Why the market runs against one side."""
    strong = strong_direction(s)
    if strong != 0 and pricing_engine.is_counter_trend(p.trend, side, strong):
        return _STRONG_TREND
    if order_flow.pulls(p.flow, s.flow, side):
        return _TOXIC_FLOW
    imbalance = toxicity_guard.imbalance_check(p.imbalance, s.toxicity, side)
    if imbalance != _NONE:
        return imbalance
    return toxicity_guard.spread_check(p.spread_guard, spread_bps(s.book))


@kernel
def gate(p: Params, s: State, a: Account, d: DecisionRow, side: int, now_ns: int) -> int:
    """Why a side may take no new risk, NONE if it may; the extra offset goes into the conditions."""
    s.market_view.latency_s = max(a.order_latency_s, 0.0)
    toxic, guard_bps = toxicity_guard.check(p.toxicity, p.jump, s.toxicity, s.market_view, side, now_ns)
    far, far_bps = reference_price.check(p.reference, s.reference, s.sigma_bps, now_ns)
    d.conditions.extra_bps = guard_bps + far_bps + order_flow.extra_bps(p.flow, s.flow, life_bps(p, s))
    if s.market_view.regime == _EXTREME:
        return _EXTREME_REGIME
    if a.mark_ticks <= 0.0:
        return _MARK_MISSING
    if far != _NONE:
        return far
    if toxic != _NONE:
        return toxic
    return _side_gate(p, s, side)


@kernel
def line_gate(p: Params, s: State, a: Account, slot: Slot, now_ns: int) -> int:
    """Why a line of the ladder may take no new risk: a ladder rests, so short-lived guards do not move it."""
    if s.market_view.regime == _EXTREME:
        return _EXTREME_REGIME
    if a.mark_ticks <= 0.0:
        return _MARK_MISSING
    far, _ = reference_price.check(p.reference, s.reference, s.sigma_bps, now_ns)
    return far if far != _NONE else grid.gate(p.grid, a.ladder, slot.side, slot.level)
