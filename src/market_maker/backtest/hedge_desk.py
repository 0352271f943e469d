"""Hedges of a contestant: what its host wants, `hedging.plan` that is, as requests of its desk.

The host plans between two slices of time and writes a wish (`HedgeRow`); the desk carries it out once, when
nothing of that slot is on its way. The last two slots of a contestant are the hedge's: one for the order that
rests, one for the order that takes. They are no levels: no signal, gate or uptime looks at them, but they
count in the worst case, in the order rate and in the position as every order does.
"""

from typing import Final

from market_maker.backtest.rows import Bench, HedgeRow, SlotOrderRow
from market_maker.domain import Action, Reason
from market_maker.fills.rows import ReplyRow
from market_maker.kernel import inline_kernel, inner_kernel
from market_maker.strategy_rows import DecisionRow

HEDGE_SLOTS: Final = 2
_KEEP: Final = int(Action.KEEP)
_PLACE: Final = int(Action.PLACE)
_REPLACE: Final = int(Action.REPLACE)
_CANCEL: Final = int(Action.CANCEL)
_HEDGING: Final = int(Reason.HEDGING)


@inline_kernel
def rest_slot(b: Bench, k: int) -> int:
    """Slot of the order that rests."""
    return (k + 1) * (len(b.slots) // len(b.params)) - 2


@inline_kernel
def take_slot(b: Bench, k: int) -> int:
    """Slot of the order that takes."""
    return (k + 1) * (len(b.slots) // len(b.params)) - 1


@inline_kernel
def is_taking(b: Bench, k: int, i: int) -> bool:
    """Whether the order of a slot takes at once, and rests never."""
    return bool(b.hedges[k].enabled and i == take_slot(b, k))


@inline_kernel
def note_fill(b: Bench, k: int, i: int, r: ReplyRow) -> None:
    """Count the value that hedges have traded."""
    g = b.hedges[k]
    if not g.enabled or i < rest_slot(b, k):
        return
    if r.taker:
        g.taker_tick_lots += r.price_ticks * r.lots
    else:
        g.maker_tick_lots += r.price_ticks * r.lots


@inner_kernel
def wants(b: Bench, k: int, i: int, now_ns: int) -> bool:
    """Write the request that a hedge's slot is to send now; whether there is one."""
    g, h, d = b.hedges[k], b.held[i], b.decisions[k]
    if h.new_id != 0 or h.cancel_id != 0:
        return False
    is_wanted = _wants_take(g, h, d) if i == take_slot(b, k) else _wants_rest(g, h, d)
    if not is_wanted:
        return False
    d.reason = _HEDGING
    d.reduce_only = False
    if i == take_slot(b, k):
        b.slots[i].side = g.take_side
        g.take_lots = 0
        g.took_ns = now_ns
    else:
        b.slots[i].side = g.rest_side
        g.rest_action = _KEEP
        g.rested_ns = now_ns
    return True


@inline_kernel
def _wants_take(g: HedgeRow, h: SlotOrderRow, d: DecisionRow) -> bool:
    d.action = _PLACE
    d.price_ticks = g.take_ticks
    d.size_lots = g.take_lots
    return bool(g.take_lots > 0 and h.order_id == 0)


@inline_kernel
def _wants_rest(g: HedgeRow, h: SlotOrderRow, d: DecisionRow) -> bool:
    """An order that has filled is neither moved nor cancelled, nor is one placed again in its stead."""
    d.action = g.rest_action
    d.price_ticks = g.rest_ticks
    d.size_lots = g.rest_lots
    if g.rest_action in (_REPLACE, _CANCEL):
        return bool(h.order_id != 0)
    return bool(g.rest_action == _PLACE and h.order_id == 0)
