"""A contestant's desk: what it hears, what its slots hold, what it sends. The compiled `market_desk`.

Everything here happens on the contestant's own time: replies and frames when they are heard, requests when
they leave. What the exchange knows already is read nowhere.
"""

from typing import Final

from market_maker import funding, post_only_safety
from market_maker import reprice_pipeline as pipeline
from market_maker.backtest import accounting, hedge_desk, limits, linear, memory
from market_maker.backtest.rows import Bench, Quoter, SlotOrderRow
from market_maker.domain import NS_PER_S, Action, Reason
from market_maker.fills import orders
from market_maker.fills.rows import EventKind, FillReason, ReplyRow
from market_maker.kernel import inline_kernel, inner_kernel

_NS_PER_S: Final = NS_PER_S
_LATENCY_WEIGHT: Final = 0.1
_NONE: Final = int(Reason.NONE)
_RISK_ORDER_RATE: Final = int(Reason.RISK_ORDER_RATE)
_LINEAR: Final = int(Quoter.LINEAR)
_KEEP: Final = int(Action.KEEP)
_REPLACE: Final = int(Action.REPLACE)
_CANCEL: Final = int(Action.CANCEL)
_ACCEPTED: Final = int(EventKind.ACCEPTED)
_REJECTED: Final = int(EventKind.REJECTED)
_CANCEL_REJECTED: Final = int(EventKind.CANCEL_REJECTED)
_FILL: Final = int(EventKind.FILL)
_POST_ONLY: Final = int(FillReason.POST_ONLY)


@inline_kernel
def _at_risk_lots(h: SlotOrderRow) -> int:
    """Of an order and the one that is to take its place, the larger may fill."""
    resting = h.remaining_lots if h.order_id != 0 else 0
    return max(resting, h.new_remaining_lots if h.new_id != 0 else 0)


@inner_kernel
def write_slots(b: Bench, k: int) -> None:
    """Write what is known of our orders into the slots, nearest first."""
    each = len(b.slots) // len(b.params)
    for side in (1, -1):
        inner, outer = 0, 0
        for i in range(k * each, (k + 1) * each):
            if b.slots[i].side == side:
                outer += _at_risk_lots(b.held[i])
        for i in range(k * each, (k + 1) * each):
            slot, h = b.slots[i], b.held[i]
            if slot.side != side:
                continue
            risk = _at_risk_lots(h)
            outer -= risk
            slot.inner_lots = inner
            slot.outer_lots = outer
            slot.resting = h.order_id != 0 or h.new_id != 0
            slot.request_pending = h.new_id != 0 or h.cancel_id != 0
            if h.order_id != 0:
                slot.price_ticks = h.price_ticks
                slot.size_lots = h.size_lots
                slot.remaining_lots = h.remaining_lots
                slot.reduce_only = h.reduce_only
                slot.placed_ns = h.placed_ns
            inner += risk


@inner_kernel
def _on_accepted(b: Bench, k: int, i: int, now_ns: int) -> None:
    h, a = b.held[i], b.accounts[k]
    h.order_id = h.new_id
    h.order = h.new_order
    h.price_ticks = h.new_price_ticks
    h.size_lots = h.new_size_lots
    h.remaining_lots = h.new_remaining_lots
    h.reduce_only = h.new_reduce_only
    h.placed_ns = h.new_placed_ns
    h.limit_lots = h.new_limit_lots
    h.new_id = 0
    latency_s = (now_ns - h.placed_ns) / _NS_PER_S
    a.order_latency_s += _LATENCY_WEIGHT * (latency_s - a.order_latency_s)
    post_only_safety.on_success(b.params[k].post_only, b.slots[i].post_only, now_ns)


@inner_kernel
def _on_fill(b: Bench, k: int, i: int, r: ReplyRow, now_ns: int) -> None:
    h, a = b.held[i], b.accounts[k]
    funding.on_fill(b.params[k].funding, a.holding, a.position_lots, r.side * r.lots, now_ns)
    a.position_lots += r.side * r.lots
    limit = a.limit_long_lots if r.side > 0 else a.limit_short_lots
    limit = max(limit, h.limit_lots if r.order_id == h.order_id else h.new_limit_lots)
    if r.side * a.position_lots > limit:
        b.risks[k].breaches += 1
    if r.order_id == h.order_id:
        h.remaining_lots -= r.lots
        if h.remaining_lots == 0:
            h.order_id = 0
    elif r.order_id == h.new_id:
        h.new_remaining_lots -= r.lots
        if h.new_remaining_lots == 0:
            h.new_id = 0
    hedge_desk.note_fill(b, k, i, r)
    limits.refresh(b, k)


@inner_kernel
def _on_end(b: Bench, k: int, i: int, r: ReplyRow, now_ns: int) -> None:
    h = b.held[i]
    if r.order_id == h.order_id:
        h.order_id = 0
    elif r.order_id == h.new_id:
        h.new_id = 0
    if r.kind == _REJECTED:
        b.risks[k].rejected += 1
        if r.reason == _POST_ONLY:
            post_only_safety.on_rejection(b.params[k].post_only, b.slots[i].post_only, now_ns)
    if r.order_id == h.cancel_id:
        h.cancel_id = 0


@inner_kernel
def _on_cancel_rejected(b: Bench, k: int, order_id: int) -> None:
    """The order had ended already, of which word came before this."""
    each = len(b.slots) // len(b.params)
    for i in range(k * each, (k + 1) * each):
        if b.held[i].cancel_id == order_id:
            b.held[i].cancel_id = 0


@inner_kernel
def hear(b: Bench, k: int, now_ns: int) -> bool:
    """Take in the replies that have come; whether there were any."""
    m, s = b.world.market[0], b.world.strategies[k]
    first = k * (len(b.slots) // len(b.params))
    heard = False
    while s.replies_heard < s.replies_sent:
        r = b.world.replies[k * m.replies_each + s.replies_heard % m.replies_each]
        if r.due_ns > now_ns:
            break
        s.replies_heard += 1
        heard = True
        if r.kind == _CANCEL_REJECTED:
            _on_cancel_rejected(b, k, r.order_id)
        elif r.kind == _FILL:
            _on_fill(b, k, first + r.tag, r, now_ns)
        elif r.kind == _ACCEPTED:
            _on_accepted(b, k, first + r.tag, now_ns)
        else:
            _on_end(b, k, first + r.tag, r, now_ns)
    if heard:
        memory.forget(b, k)
    return heard


@inner_kernel
def _send_order(b: Bench, k: int, i: int, now_ns: int, old: int, old_id: int) -> None:
    w, d, h, r, a = b.world, b.decisions[k], b.held[i], b.risks[k], b.accounts[k]
    g = orders.new_order(w, k)
    if g < 0:
        w.market[0].overflow = True
        return
    order = w.orders[g]
    order.tag = i - k * (len(b.slots) // len(b.params))
    order.side = b.slots[i].side
    order.price_ticks = d.price_ticks
    order.size_lots = d.size_lots
    order.reduce_only = d.reduce_only
    order.immediate = hedge_desk.is_taking(b, k, i)
    order.post_only = not order.immediate
    order.expire_ns = now_ns + r.order_life_ns
    orders.send(w, g, now_ns, old, old_id)
    h.new_id = order.order_id
    h.new_order = g
    h.new_price_ticks = d.price_ticks
    h.new_size_lots = d.size_lots
    h.new_remaining_lots = d.size_lots
    h.new_reduce_only = d.reduce_only
    h.new_placed_ns = now_ns
    h.new_limit_lots = a.limit_long_lots if order.side > 0 else a.limit_short_lots
    if old_id != 0:
        r.replaced += 1
    else:
        r.placed += 1


@inner_kernel
def _carry_out(b: Bench, k: int, i: int, now_ns: int) -> bool:
    """Send what was decided, if the limits let it; whether anything was sent."""
    d, h, r = b.decisions[k], b.held[i], b.risks[k]
    action = d.action
    if action != _CANCEL:
        reason = limits.refusal(b, k, b.slots[i], d, now_ns)
        if reason != _NONE:
            r.refused += 1
            h.reason = reason
            if action != _REPLACE or reason == _RISK_ORDER_RATE:
                return False
            # The old quote was judged wrong: it must not rest on because its successor may not.
            action = _CANCEL
    b.slots[i].last_change_ns = now_ns
    if action == _CANCEL:
        orders.send_cancel(b.world, k, now_ns, h.order, h.order_id)
        h.cancel_id = h.order_id
        r.cancelled += 1
    elif action == _REPLACE:
        _send_order(b, k, i, now_ns, h.order, h.order_id)
    else:
        _send_order(b, k, i, now_ns, 0, 0)
    return True


@inline_kernel
def _decide(b: Bench, k: int, i: int, now_ns: int) -> None:
    if b.quoters[k].kind == _LINEAR:
        linear.decide(b, k, i, now_ns)
    else:
        one, group = slice(k, k + 1), b.memos[k].group
        pipeline.decide(
            b.params[one],
            b.states[group : group + 1],
            b.accounts[one],
            b.slots[i : i + 1],
            b.decisions[one],
            now_ns,
        )
    b.risks[k].decisions += 1
    memory.note_slot(b, k, i)


@inner_kernel
def decide_all(b: Bench, k: int, now_ns: int) -> None:
    """Ask about each slot, nearest first, and send what is wanted."""
    first = k * (len(b.slots) // len(b.params))
    memory.lend_holds(b, k)
    for i in range(first, first + 2 * b.memos[k].levels):
        _decide(b, k, i, now_ns)
        if b.decisions[k].action != _KEEP and _carry_out(b, k, i, now_ns):
            # The reservation is made: the other levels must see it before they decide.
            write_slots(b, k)
    memory.take_holds(b, b.memos[k])
    memory.remember(b, k, now_ns)
    accounting.note_standing(b, k, now_ns)
    if b.hedges[k].enabled:
        _hedge(b, k, now_ns)


@inner_kernel
def _hedge(b: Bench, k: int, now_ns: int) -> None:
    """Send what the hedge wants. The exchange cancels quotes of ours that a taking order would meet."""
    for i in (hedge_desk.rest_slot(b, k), hedge_desk.take_slot(b, k)):
        if hedge_desk.wants(b, k, i, now_ns) and _carry_out(b, k, i, now_ns):
            write_slots(b, k)
            memory.forget(b, k)
