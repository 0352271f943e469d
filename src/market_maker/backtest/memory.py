"""When a contestant need not be asked: nothing that it would decide by has changed since it was.

Most frames change a size at the best prices, which moves the fair value by a fraction of a tick and no quote.
With everything else as it was, the price wanted, the size wanted and the tolerances rise or fall with the
fair value and never turn back, and a price wanted moves by no more than the fair value does, and one tick. So
between two fair values at which all slots were kept for the same reasons they would be kept again, and as far
around each as their tolerance leaves room. That range is remembered, with what it holds for:

* the market as decisions read it (`note_group`), the account and its orders (a reply or a new mark ends it);
* the time until an instant that decisions look at (the guards' grid, a wait, an age);
* depths that do not bind the sizes.

A price from elsewhere and a funding rate are news as such. Nothing is remembered where a slot acts or waits
for its interval, while a jump renews its hold, nor of a ladder or a model, whose quotes follow the inventory
in orders of a size that steps with the fair value.
"""

import math
from typing import Final

from market_maker import (
    order_flow,
    pricing_engine,
    resting_order,
    toxicity_guard,
    volatility_regime,
    wanted_quote,
)
from market_maker.backtest.rows import Bench, MemoRow, Quoter
from market_maker.domain import NS_PER_S, Action, Reason
from market_maker.fills.rows import NEVER_NS
from market_maker.grid import Strategy
from market_maker.kernel import inline_kernel, inner_kernel
from market_maker.pricing_engine import OffsetMode
from market_maker.strategy_rows import Params, Slot
from market_maker.toxicity_guard import GRID_NS

_NS_PER_S: Final = NS_PER_S
_NEVER_NS: Final = NEVER_NS
_GRID_NS: Final = GRID_NS
_LINEAR: Final = int(Quoter.LINEAR)
_DYNAMIC: Final = int(OffsetMode.DYNAMIC)
_KEEP: Final = int(Action.KEEP)
_MIN_INTERVAL: Final = int(Reason.MIN_REPRICE_INTERVAL)
_WITHIN_TOLERANCE: Final = int(Reason.WITHIN_TOLERANCE)
_POSITION_LIMIT: Final = int(Reason.POSITION_LIMIT)
_PENDING: Final = int(Reason.REQUEST_PENDING)
_GRID: Final = int(Strategy.GRID)
_LOWER_FAIR: Final = 0.9
_SPARE: Final = 0.999
_NEAR: Final = 0.0002
_STEEPEST: Final = 1.25
_FAR_BPS: Final = 2000.0
_FAR_TICKS: Final = 1e9
_FAR_LOTS: Final = 2**62


@inner_kernel
def note_news(b: Bench, n: int) -> None:
    """Give the group's market a new number."""
    b.groups[n].version += 1


@inner_kernel
def note_group(b: Bench, n: int) -> None:
    """After a book or a trade: give the market a new number, if anything but sizes and depths is new."""
    g, s = b.groups[n], b.states[n]
    p, view = b.params[g.leader], s.market_view
    buy = toxicity_guard.imbalance_check(p.imbalance, s.toxicity, 1)
    sell = toxicity_guard.imbalance_check(p.imbalance, s.toxicity, -1)
    same = g.bid_ticks == s.book.bid_ticks and g.ask_ticks == s.book.ask_ticks
    same = same and g.sigma_bps == s.sigma_bps and g.base_sigma_bps == view.sigma_bps
    same = same and g.fast_sigma_bps == view.sigma_fast_bps and g.regime == view.regime
    same = same and g.direction == view.trend_direction and g.strong == view.trend_strong
    same = same and g.warm == s.warm and g.buy_imbalance == buy and g.sell_imbalance == sell
    buy_flow, sell_flow = order_flow.pulls(p.flow, s.flow, 1), order_flow.pulls(p.flow, s.flow, -1)
    same = same and g.buy_flow == buy_flow and g.sell_flow == sell_flow
    same = same and g.flow_direction == s.flow.direction and g.flow_rank == s.flow.toxic_rank
    same = same and g.lead_bps == s.reference.lead_bps and g.lean_bps == s.reference.lean_bps
    if same:
        return
    g.version += 1
    g.bid_ticks = s.book.bid_ticks
    g.ask_ticks = s.book.ask_ticks
    g.sigma_bps = s.sigma_bps
    g.base_sigma_bps = view.sigma_bps
    g.fast_sigma_bps = view.sigma_fast_bps
    g.regime = view.regime
    g.direction = view.trend_direction
    g.strong = view.trend_strong
    g.warm = s.warm
    g.buy_imbalance = buy
    g.sell_imbalance = sell
    g.buy_flow = buy_flow
    g.sell_flow = sell_flow
    g.flow_direction = s.flow.direction
    g.flow_rank = s.flow.toxic_rank
    g.lead_bps = s.reference.lead_bps
    g.lean_bps = s.reference.lean_bps


@inner_kernel
def fair_ticks(b: Bench, k: int) -> float:
    """Fair value that a contestant quotes around, 0 without a book."""
    book = b.states[b.memos[k].group].book
    if min(book.bid_ticks, book.ask_ticks) <= 0:
        return 0.0
    if b.quoters[k].kind == _LINEAR:
        return 0.5 * float(book.bid_ticks + book.ask_ticks)
    return wanted_quote.fair_ticks(b.params[k], b.states[b.memos[k].group])


@inline_kernel
def forget(b: Bench, k: int) -> None:
    """Have a contestant asked at the next frame, whatever it brings."""
    b.memos[k].version = -1


@inline_kernel
def may_skip(b: Bench, k: int, now_ns: int) -> bool:
    """Whether every slot would be kept for the reason that it was."""
    m = b.memos[k]
    if m.version != b.groups[m.group].version or now_ns >= m.gate_ns:
        return False
    s = b.states[m.group]
    if m.spread_bps >= 0.0 and m.spread_bps != s.spread_ema.spread_bps:
        return False
    if min(s.book.bid_depth_lots, s.book.ask_depth_lots) < m.depth_lots:
        return False
    fair = fair_ticks(b, k)
    return bool(m.low_ticks <= fair <= m.high_ticks)


@inline_kernel
def _room_ticks(b: Bench, k: int, i: int) -> float:
    """How far the wanted price may move before what rests is off too far or it leaves the price band."""
    a, slot, d = b.accounts[k], b.slots[i], b.decisions[k]
    low, high = a.band_low_ticks, a.band_high_ticks
    room = 1e9
    if slot.side > 0 and high > 0:
        room = min(room, math.fabs(float(high - d.wanted_ticks)))
    elif slot.side < 0 and low > 0:
        room = min(room, math.fabs(float(d.wanted_ticks - low)))
    if d.reason == _WITHIN_TOLERANCE:
        off = math.fabs(float(d.wanted_ticks - slot.price_ticks))
        room = min(room, _SPARE * resting_order.tolerance_ticks(b.params[k], slot, d) - off)
    return min(room, float(d.wanted_ticks))


@inline_kernel
def _size_has_room(b: Bench, k: int, i: int) -> bool:
    """Whether the size that a fair value near this one makes would be wanted for the same reason."""
    p, slot, d = b.params[k], b.slots[i], b.decisions[k]
    plain = pricing_engine.level_lots(p.quote, p.market, slot.level, d.fair_ticks)
    spare = 2.0 + (1.0 - _SPARE) * float(plain)
    if float(plain) < float(p.market.min_lots) + spare or d.only_reduces:
        return False
    spare *= max(1.0 + p.quote.reduce_size_growth, p.trend.trend_size_growth, 1.0)
    off = math.fabs(float(d.wanted_lots - slot.remaining_lots)) + spare
    size = float(d.wanted_lots) - spare
    return bool(d.reason != _WITHIN_TOLERANCE or off <= p.reprice.reprice_size_tolerance * size)


@inline_kernel
def _reach_ticks(b: Bench, k: int, i: int) -> float:
    """How far from this fair value a slot would be kept for the same reason; −1: only exactly there."""
    d = b.decisions[k]
    if d.reason == _PENDING:
        return _FAR_TICKS
    if d.reason == _WITHIN_TOLERANCE and _room_ticks(b, k, i) < 0.0:
        return -1.0
    by_price = d.reason == _WITHIN_TOLERANCE or d.reason == _POSITION_LIMIT or d.reason == d.gate
    distance_bps = math.fabs(d.offset_bps) + math.fabs(d.skew_bps)
    if not by_price or distance_bps > _FAR_BPS or not _size_has_room(b, k, i):
        return 0.0
    # The steepest that the price follows the fair value, and a tick for its rounding.
    return min((_room_ticks(b, k, i) - 1.0) / _STEEPEST, _NEAR * d.fair_ticks)


@inline_kernel
def note_slot(b: Bench, k: int, i: int) -> None:
    """Write a slot's outcome down, and whether it is the one before."""
    h, d, m = b.held[i], b.decisions[k], b.memos[k]
    same = h.reason == d.reason
    reach = _reach_ticks(b, k, i)
    same = same and reach >= 0.0
    m.reach_ticks = min(m.reach_ticks, max(reach, 0.0))
    if d.reason != _PENDING and b.quoters[k].kind != _LINEAR:
        same = same and h.gate == d.gate and h.extra_bps == d.conditions.extra_bps
        h.gate = d.gate
        h.extra_bps = d.conditions.extra_bps
    h.reason = d.reason
    m.same = m.same and same
    m.lasts = m.lasts and d.action == _KEEP and d.reason != _MIN_INTERVAL


@inline_kernel
def _later(at_ns: int, seconds: float, now_ns: int, so_far_ns: int) -> int:
    """The earlier of two instants, if the first is still to come; a ns early, for floats are rounded."""
    due_ns = at_ns + int(min(seconds, 1e9) * _NS_PER_S) - 1
    return min(so_far_ns, due_ns) if due_ns > now_ns - 2 else so_far_ns


@inline_kernel
def _slot_gate_ns(p: Params, slot: Slot, regime: int, now_ns: int) -> int:
    gate_ns = _later(slot.post_only.backoff_until_ns, 0.0, now_ns, _NEVER_NS)
    if slot.resting:
        scale = volatility_regime.order_age_scale(p.regime_scale, regime)
        gate_ns = _later(slot.placed_ns, p.reprice.max_order_age_s * scale, now_ns, gate_ns)
        # The line of a baseline knows no regimes.
        gate_ns = _later(slot.placed_ns, p.reprice.max_order_age_s, now_ns, gate_ns)
    return gate_ns


@inline_kernel
def _gate_ns(b: Bench, k: int, now_ns: int) -> int:
    """Next instant at which time alone may change an outcome."""
    m, p = b.memos[k], b.params[k]
    gate_ns = _NEVER_NS
    if b.quoters[k].kind != _LINEAR:
        gate_ns = (now_ns // _GRID_NS + 1) * _GRID_NS
        gate_ns = _later(m.buy_pulled_until_ns, 0.0, now_ns, gate_ns)
        gate_ns = _later(m.sell_pulled_until_ns, 0.0, now_ns, gate_ns)
    regime = b.states[m.group].market_view.regime
    first = k * (len(b.slots) // len(b.params))
    for i in range(first, first + 2 * m.levels):
        gate_ns = min(gate_ns, _slot_gate_ns(p, b.slots[i], regime, now_ns))
    return gate_ns


@inline_kernel
def _free_depth_lots(b: Bench, k: int) -> int:
    """Depth from which on no size of ours is cut by its share of it."""
    p = b.params[k]
    q, fair = p.quote, _LOWER_FAIR * float(b.states[b.memos[k].group].book.bid_ticks)
    if not q.max_depth_share > 0.0 or fair <= 0.0:
        return _FAR_LOTS
    plain = 0
    for level in range(q.num_levels):
        plain = max(plain, pricing_engine.level_lots(q, p.market, level, fair))
    largest = max(1.0 + max(q.reduce_size_growth, 0.0), p.trend.trend_size_growth, 1.0)
    return math.ceil(float(plain) * largest / q.max_depth_share) + 1


@inner_kernel
def remember(b: Bench, k: int, now_ns: int) -> None:
    """After all slots were asked: begin a range at this fair value, or make the one before reach it."""
    m = b.memos[k]
    if not m.lasts:
        m.version = -1
        return
    s, fair = b.states[m.group], fair_ticks(b, k)
    spread_bps = s.spread_ema.spread_bps if b.params[k].offset.offset_mode == _DYNAMIC else -1.0
    low, high = fair - m.reach_ticks, fair + m.reach_ticks
    holds = m.same and m.version == b.groups[m.group].version and m.spread_bps == spread_bps
    # The tolerance at one end of the range is to cover the other.
    if holds and min(low, m.low_ticks) > _SPARE * max(high, m.high_ticks):
        m.low_ticks = min(low, m.low_ticks)
        m.high_ticks = max(high, m.high_ticks)
    else:
        m.version = b.groups[m.group].version
        m.low_ticks = low
        m.high_ticks = high
        m.spread_bps = spread_bps
        m.depth_lots = _free_depth_lots(b, k)
    m.gate_ns = _gate_ns(b, k, now_ns)
    if min(s.book.bid_depth_lots, s.book.ask_depth_lots) < m.depth_lots:
        m.version = -1


@inner_kernel
def lend_holds(b: Bench, k: int) -> None:
    """Put a contestant's holds after jumps into the signals that it shares."""
    m, p = b.memos[k], b.params[k]
    toxicity = b.states[m.group].toxicity
    toxicity.buy_pulled_until_ns = m.buy_pulled_until_ns
    toxicity.sell_pulled_until_ns = m.sell_pulled_until_ns
    m.lasts = p.grid.strategy != _GRID and not pricing_engine.has_model(p.offset)
    m.same = True
    m.reach_ticks = _FAR_TICKS


@inner_kernel
def take_holds(b: Bench, m: MemoRow) -> None:
    """Take them back; a hold that was renewed just now will be again at the next frame."""
    toxicity = b.states[m.group].toxicity
    buy, sell = toxicity.buy_pulled_until_ns, toxicity.sell_pulled_until_ns
    if buy != m.buy_pulled_until_ns or sell != m.sell_pulled_until_ns:
        m.lasts = False
    m.buy_pulled_until_ns = buy
    m.sell_pulled_until_ns = sell
