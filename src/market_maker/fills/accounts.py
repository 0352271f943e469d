"""What a strategy hears and pays: replies, the log, fills, rebates by the day, funding."""

from typing import Final

from market_maker.domain import NS_PER_S
from market_maker.fills import depth, money
from market_maker.fills.rows import (
    CANCEL_PATH,
    MAKER,
    ORDER_PATH,
    REBATE_TIERS,
    REPLY,
    TAKER,
    EventKind,
    FillReason,
    LogRow,
    OrderRow,
    StrategyRow,
    World,
)
from market_maker.kernel import inline_kernel, inner_kernel

_PPM: Final = 1_000_000
_DAY_NS: Final = 86_400 * NS_PER_S
_TIERS: Final = REBATE_TIERS
_NONE: Final = int(FillReason.NONE)
_FILL: Final = int(EventKind.FILL)
_FUNDING: Final = int(EventKind.FUNDING)
_LIQUIDATED: Final = int(EventKind.LIQUIDATED)
_SCALE: Final = 1024
_REPLY: Final = REPLY
_ORDER_PATH: Final = ORDER_PATH
_CANCEL_PATH: Final = CANCEL_PATH
_TAKER: Final = TAKER
_MAKER: Final = MAKER


@inner_kernel
def latency_ns(w: World, s: StrategyRow, now_ns: int, path: int, way: int) -> int:
    """Time that a message takes which leaves now: constant by action, or interpolated as recorded."""
    n = w.market[0].latency_rows
    if not s.recorded_latency or n == 0:
        if path == _CANCEL_PATH:
            return s.cancel_reply_ns if way == _REPLY else s.cancel_request_ns
        return s.reply_ns if way == _REPLY else s.request_ns
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if w.latencies[middle, 0] <= now_ns:
            low = middle + 1
        else:
            high = middle
    if low == 0 or low == n:
        return w.latencies[min(low, n - 1), way]
    before, after = w.latencies[low - 1, way], w.latencies[low, way]
    # In units of about a microsecond, so that the product stays whole and small.
    passed = (now_ns - w.latencies[low - 1, 0]) // _SCALE
    span = max((w.latencies[low, 0] - w.latencies[low - 1, 0]) // _SCALE, 1)
    return before + (after - before) * passed // span


@inner_kernel
def wake(w: World, s: StrategyRow, due_ns: int) -> None:
    """Have a strategy looked at at an instant."""
    s.due_ns = min(s.due_ns, due_ns)
    w.market[0].due_ns = min(w.market[0].due_ns, due_ns)


@inner_kernel
def _log_row(w: World) -> LogRow:
    m = w.market[0]
    m.log_rows += 1
    row = w.log[m.log_rows - 1]
    row.mid2_ticks = depth.mid2_ticks(w, 0)
    row.rebate_ppb = 0
    return row


@inner_kernel
def note(w: World, order: OrderRow, now_ns: int, kind: int, reason: int, lots: int) -> None:
    """Write an event of an order to the log."""
    s, row = w.strategies[order.strategy], _log_row(w)
    row.ns = now_ns
    row.strategy = order.strategy
    row.kind = kind
    row.reason = reason
    row.order_id = order.order_id
    row.tag = order.tag
    row.side = order.side
    row.price_ticks = order.price_ticks
    row.lots = lots
    row.remaining_lots = order.remaining_lots
    row.position_lots = s.position_lots
    row.front = order.front
    row.role = _MAKER
    row.accepted_ns = order.accepted_ns
    row.queue_ahead_lots = order.queue_ahead_lots


@inner_kernel
def reply(w: World, g: int, now_ns: int, kind: int, reason: int, path: int) -> None:
    """Note what became of an order, and send word of it."""
    order = w.orders[g]
    note(w, order, now_ns, kind, reason, order.size_lots)
    _send(w, g, now_ns, kind, reason, path)


@inner_kernel
def _send(w: World, g: int, now_ns: int, kind: int, reason: int, path: int) -> None:
    order = w.orders[g]
    m, s = w.market[0], w.strategies[order.strategy]
    if s.replies_sent - s.replies_heard >= m.replies_each:
        m.overflow = True
        return
    row = w.replies[order.strategy * m.replies_each + s.replies_sent % m.replies_each]
    s.replies_sent += 1
    due_ns = now_ns + latency_ns(w, s, now_ns, path, _REPLY)
    # One connection: what was said first is heard first.
    s.last_reply_ns = max(s.last_reply_ns, due_ns)
    row.due_ns = s.last_reply_ns
    row.venue_ns = now_ns
    row.kind = kind
    row.reason = reason
    row.order = g
    row.order_id = order.order_id
    row.tag = order.tag
    row.side = order.side
    row.price_ticks = order.price_ticks
    row.lots = order.size_lots
    row.remaining_lots = order.remaining_lots
    row.taker = False
    wake(w, s, row.due_ns)


@inner_kernel
def book_fill(w: World, g: int, now_ns: int, price_ticks: int, lots: int, role: int) -> None:
    """Fill some of an order: position, money, log, reply. The order stays where it is."""
    order = w.orders[g]
    m, s = w.market[0], w.strategies[order.strategy]
    value = price_ticks * lots
    order.remaining_lots -= lots
    s.position_lots += order.side * lots
    s.flow_tick_lots -= order.side * value
    s.fills += 1
    s.needs_sweep = True
    m.sweeps += 1
    rate = s.taker_fee_ppb if role == _TAKER else s.maker_fee_ppb
    whole, fraction = money.share(rate, 100 * value)
    s.fees, s.fees_frac = money.total(s.fees, s.fees_frac, whole, fraction)
    if role == _TAKER:
        s.taker_tick_lots += value
    else:
        s.maker_tick_lots += value
        whole, fraction = money.share(s.day_rebate_ppb, 100 * value)
        s.rebates, s.rebates_frac = money.total(s.rebates, s.rebates_frac, whole, fraction)
        s.day_rebates, s.day_rebates_frac = money.total(s.day_rebates, s.day_rebates_frac, whole, fraction)
    note(w, order, now_ns, _FILL, _NONE, lots)
    logged = w.log[m.log_rows - 1]
    logged.price_ticks = price_ticks
    logged.role = role
    logged.rebate_ppb = 0 if role == _TAKER else s.day_rebate_ppb
    _send(w, g, now_ns, _FILL, _NONE, _ORDER_PATH)
    if not m.overflow:
        row = w.replies[order.strategy * m.replies_each + (s.replies_sent - 1) % m.replies_each]
        row.price_ticks = price_ticks
        row.lots = lots
        row.taker = role == _TAKER


@inner_kernel
def mark_parts(w: World) -> int:
    """Mark price, hundredths of a tick; 0 where there is none."""
    m = w.market[0]
    if m.mark_parts > 0 or not m.mark_from_mid:
        return m.mark_parts
    return 50 * depth.mid2_ticks(w, 0)


@inner_kernel
def _note_position(w: World, k: int, now_ns: int, kind: int, rate_ppb: int, mark: int) -> None:
    s, row = w.strategies[k], _log_row(w)
    row.ns = now_ns
    row.strategy = k
    row.kind = kind
    row.reason = _NONE
    row.order_id = 0
    row.tag = 0
    row.side = 0
    row.price_ticks = rate_ppb
    row.lots = s.position_lots
    row.remaining_lots = mark
    row.position_lots = s.position_lots
    row.front = 0.0
    row.role = _MAKER
    row.accepted_ns = 0
    row.queue_ahead_lots = -1
    row.rebate_ppb = 0


@inner_kernel
def pay_funding(w: World, now_ns: int, rate_ppb: int) -> None:
    """Pay −rate × mark × signed size on the positions of this instant."""
    mark = mark_parts(w)
    for k in range(len(w.strategies)):
        s = w.strategies[k]
        if s.position_lots == 0 or mark == 0:
            continue
        whole, fraction = money.share(-rate_ppb, mark * s.position_lots)
        s.funding, s.funding_frac = money.total(s.funding, s.funding_frac, whole, fraction)
        _note_position(w, k, now_ns, _FUNDING, rate_ppb, mark)


@inner_kernel
def note_liquidation(w: World, k: int, now_ns: int, mark: int) -> None:
    """Note that a strategy's equity no longer carries its position, at a mark in hundredths of a tick."""
    _note_position(w, k, now_ns, _LIQUIDATED, 0, mark)


@inner_kernel
def _tier_ppb(s: StrategyRow, volume_tick_lots: int) -> int:
    """Rebate rate by our share of all volume so far; the exchange looks at 30 days, we at those we have."""
    rate = 0
    for i in range(_TIERS):
        least = s.rebate_share_ppm[i]
        # volume × ppm might not fit: the thresholds are parts per million, a thousandth lost is nothing.
        if least > 0 and s.maker_tick_lots // 1000 * _PPM >= volume_tick_lots // 1000 * least:
            rate = s.rebate_ppb[i]
    return rate


@inline_kernel
def turn_day(w: World, now_ns: int) -> None:
    """At 00:00 UTC: credit the day's rebates, or lose them where they are too small; new rates."""
    if now_ns >= w.market[0].day_end_ns:
        _begin_day(w, now_ns)


@inner_kernel
def _begin_day(w: World, now_ns: int) -> None:
    m = w.market[0]
    is_first, m.day_end_ns = m.day_end_ns == 0, (now_ns // _DAY_NS + 1) * _DAY_NS
    if is_first:
        return
    for k in range(len(w.strategies)):
        s = w.strategies[k]
        if s.day_rebates >= s.rebate_least_tick_lots:
            s.credited, s.credited_frac = money.total(
                s.credited, s.credited_frac, s.day_rebates, s.day_rebates_frac
            )
        s.day_rebates = 0
        s.day_rebates_frac = 0
        if m.volume_tick_lots > 0:
            s.day_rebate_ppb = _tier_ppb(s, m.volume_tick_lots)
