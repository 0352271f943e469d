"""What a runner notes beside decisions and fills: how the time passed, the exchange's mids, samples.

Time is split as `summary.UptimeTracker` splits it, into cells of how many sides are good (both, one, none),
for what reason a side is not, and whether the measured regime is extreme. A cell is added to when it is left.
"""

import math
from typing import Final

from market_maker import pricing_engine, trend_signal, volatility_regime, wanted_quote
from market_maker.backtest import memory
from market_maker.backtest.rows import SPENT_REASONS, Bench, Quoter, StandingRow
from market_maker.domain import BPS, Reason, Regime
from market_maker.fills import depth
from market_maker.kernel import inline_kernel, inner_kernel
from market_maker.strategy_rows import State

_REASONS: Final = SPENT_REASONS
_LINEAR: Final = int(Quoter.LINEAR)
_NONE: Final = int(Reason.NONE)
_QUOTE_FAR: Final = int(Reason.QUOTE_FAR)
_NO_BOOK: Final = int(Reason.NO_BOOK)
_POSITION_LIMIT: Final = int(Reason.POSITION_LIMIT)
_GRID_IDLE: Final = int(Reason.GRID_IDLE)
_EXTREME: Final = int(Regime.EXTREME)
_NEAR_SPREADS: Final = 3.0
_SIZE_SLACK: Final = 0.99
_BOTH: Final = 0
_ONE: Final = 1
_NEITHER: Final = 2


@inline_kernel
def _level_lots(b: Bench, k: int, st: StandingRow, mid2_ticks: int) -> int:
    """Size of the nearest level at a mid; a percent is let go, because an order was sized at another."""
    if st.mid2_ticks != mid2_ticks:
        p = b.params[k]
        st.mid2_ticks = mid2_ticks
        plain = pricing_engine.level_lots(p.quote, p.market, 0, 0.5 * float(mid2_ticks))
        st.level_lots = math.floor(float(plain) * _SIZE_SLACK)
    return st.level_lots


@inline_kernel
def _is_quoted(b: Bench, k: int, s: State, side: int) -> bool:
    """Whether a side has a good quote (`summary.is_good_quote`)."""
    mid2_ticks = s.book.bid_ticks + s.book.ask_ticks
    if mid2_ticks <= 0:
        return False
    mid = 0.5 * float(mid2_ticks)
    near = max(_NEAR_SPREADS * float(s.book.ask_ticks - s.book.bid_ticks), s.sigma_bps / BPS * mid)
    least = _level_lots(b, k, b.standings[k], mid2_ticks)
    each = len(b.slots) // len(b.params)
    for i in range(k * each, k * each + 2 * b.memos[k].levels):
        h = b.held[i]
        if b.slots[i].side != side or h.order_id == 0 or h.remaining_lots <= 0:
            continue
        if 2 * h.remaining_lots >= least and math.fabs(float(h.price_ticks) - mid) <= near:
            return True
    return False


@inline_kernel
def _slot_reason(b: Bench, k: int, i: int) -> int:
    """Reason of a slot's last decision; where its limit is 0 for a halt, what halted the account."""
    reason, halt = b.held[i].reason, b.risks[k].halt
    return halt if reason == _POSITION_LIMIT and halt != _NONE else reason


@inline_kernel
def _side_reason(b: Bench, k: int, side: int) -> int:
    """Reason of the side's nearest level, or that what rests there does not count."""
    each = len(b.slots) // len(b.params)
    first = k * each + (0 if side > 0 else 1)
    end, reason = k * each + 2 * b.memos[k].levels, _slot_reason(b, k, first)
    for i in range(first, end, 2):
        # Of a ladder's lines the nearest that has something to do.
        if reason == _GRID_IDLE:
            reason = _slot_reason(b, k, i)
    if reason >= _NO_BOOK:
        return reason
    for i in range(first, end, 2):
        if b.slots[i].resting:
            return _QUOTE_FAR
    return reason


@inline_kernel
def _cell(b: Bench, k: int) -> int:
    s = b.states[b.memos[k].group]
    bid, ask = _is_quoted(b, k, s, 1), _is_quoted(b, k, s, -1)
    kind, reason = _BOTH, _NONE
    if bid != ask:
        kind, reason = _ONE, _side_reason(b, k, -1 if bid else 1)
    elif not bid:
        kind, reason = _NEITHER, max(_side_reason(b, k, 1), _side_reason(b, k, -1))
    extreme = 1 if volatility_regime.measured_regime(s.regime) == _EXTREME else 0
    return (kind * _REASONS + reason) * 2 + extreme


@inner_kernel
def note_standing(b: Bench, k: int, now_ns: int) -> None:
    """Take in how a contestant's quotes stand from now on; the count starts at its first good quote."""
    st, cell = b.standings[k], _cell(b, k)
    if cell == st.cell:
        return
    b.spent[k, st.cell] += max(0, now_ns - st.since_ns)
    st.since_ns = max(now_ns, st.since_ns)
    st.cell = cell
    if not st.has_quoted and cell < _NEITHER * _REASONS * 2:
        st.has_quoted = True
        _clear_time(b, k, now_ns)


@inner_kernel
def _clear_time(b: Bench, k: int, now_ns: int) -> None:
    st = b.standings[k]
    st.since_ns = now_ns
    st.start_ns = now_ns
    for cell in range(b.spent.shape[1]):
        b.spent[k, cell] = 0


@inner_kernel
def begin_scoring(b: Bench, now_ns: int) -> None:
    """Forget the time and the requests counted so far; what rests goes on."""
    for k in range(len(b.params)):
        _clear_time(b, k, now_ns)
        r = b.risks[k]
        r.decisions = 0
        r.placed = 0
        r.replaced = 0
        r.cancelled = 0
        r.rejected = 0
        r.refused = 0
        r.breaches = 0


@inline_kernel
def note_mid(b: Bench, now_ns: int) -> None:
    """Log the exchange's mid after a frame, if it is a new one."""
    c, mid2_ticks = b.clock[0], depth.mid2_ticks(b.world, 0)
    if mid2_ticks == c.mid2_ticks:
        return
    c.mid2_ticks = mid2_ticks
    row = b.mids[c.mids]
    row.ns = now_ns
    row.mid2_ticks = mid2_ticks
    c.mids += 1


@inner_kernel
def _nearest_ticks(b: Bench, k: int, side: int) -> int:
    each, best = len(b.slots) // len(b.params), 0
    for i in range(k * each, (k + 1) * each):
        h = b.held[i]
        if b.slots[i].side != side or h.order_id == 0:
            continue
        if best == 0 or (h.price_ticks - best) * side > 0:
            best = h.price_ticks
    return best


@inner_kernel
def _limit_lots(b: Bench, k: int, now_ns: int) -> int:
    p, s, a = b.params[k], b.states[b.memos[k].group], b.accounts[k]
    if b.quoters[k].kind == _LINEAR:
        return min(a.limit_long_lots, a.limit_short_lots)
    carry = wanted_quote.carry_bps(p, s, a, now_ns)
    return min(wanted_quote.limit_lots(p, s, a, 1, carry), wanted_quote.limit_lots(p, s, a, -1, carry))


@inner_kernel
def _sample(b: Bench, k: int, now_ns: int) -> None:
    c, p, s = b.clock[0], b.params[k], b.states[b.memos[k].group]
    row, first = b.samples[c.samples], k * (len(b.slots) // len(b.params))
    c.samples += 1
    row.ns = now_ns
    row.strategy = k
    row.mid2_ticks = depth.mid2_ticks(b.world, 0)
    row.position_lots = b.accounts[k].position_lots
    row.bid_ticks = _nearest_ticks(b, k, 1)
    row.ask_ticks = _nearest_ticks(b, k, -1)
    row.fair_ticks = memory.fair_ticks(b, k)
    row.sigma_bps = s.sigma_bps
    row.regime = s.market_view.regime
    row.trend = trend_signal.direction(p.trend, s.trend) * trend_signal.strength(p.trend, s.trend)
    row.bid_reason = _slot_reason(b, k, first)
    row.ask_reason = _slot_reason(b, k, first + 1)
    row.limit_lots = _limit_lots(b, k, now_ns)


@inner_kernel
def sample(b: Bench, now_ns: int) -> None:
    """Log how each contestant stands."""
    for k in range(len(b.params)):
        _sample(b, k, now_ns)
