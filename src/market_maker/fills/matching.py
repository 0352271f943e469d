"""What the market's events do to our resting orders.

What arrives against our side, a trade at or through our price or a level of the other side that reaches it,
meets our orders as the exchange would have them: better prices first, then by arrival. With partial fills it
fills no more than its own size, shared among them: what one took does not move the next one up. Behind the
others' queue stands only who is met at his own price by a trade; whoever the market has gone past, or whose
price the other side now shows, has nobody ahead of him. Without partial fills whoever is reached fills whole,
and a level reaches only where it improves the other side's best price (hftbacktest's NoPartialFillExchange).
"""

from typing import Final

from market_maker.fills import accounts, depth, queue
from market_maker.fills.rows import (
    ASKS,
    BIDS,
    HEADS,
    MAKER,
    NEVER_NS,
    ORDER_PATH,
    TAILS,
    EventKind,
    FillReason,
    OrderPlace,
    OrderRow,
    QueueModel,
    World,
)
from market_maker.kernel import inline_kernel, inner_kernel
from market_maker.recordings import store

_BIDS: Final = BIDS
_HEADS: Final = HEADS
_TAILS: Final = TAILS
_ASKS: Final = ASKS
_ORDER_PATH: Final = ORDER_PATH
_MAKER: Final = MAKER
_NEVER_NS: Final = NEVER_NS
_FREE: Final = int(OrderPlace.FREE)
_RESTING: Final = int(OrderPlace.RESTING)
_CANCELLED: Final = int(EventKind.CANCELLED)
_REDUCE_ONLY: Final = int(FillReason.REDUCE_ONLY)
_TRADE_THROUGH: Final = int(QueueModel.TRADE_THROUGH)
_LEVEL_BID: Final = store.LEVEL_BID
_LEVEL_ASK: Final = store.LEVEL_ASK
_CLEAR: Final = store.CLEAR
_TRADE_BUY: Final = store.TRADE_BUY
_TRADE_SELL: Final = store.TRADE_SELL
_TRADE_UNKNOWN: Final = store.TRADE_UNKNOWN
_BEST_BID: Final = store.BEST_BID
_BEST_ASK: Final = store.BEST_ASK
_MARK: Final = store.MARK
_FUNDING: Final = store.FUNDING
_GAP: Final = store.GAP
_CODE_MASK: Final = store.CODE_MASK
_LAST: Final = store.LAST

# How something came against our orders.
_BY_TRADE: Final = 0
_BY_BEST: Final = 1  # a level that is a new best price
_BY_LEVEL: Final = 2  # a level that was reached already, and grew


@inner_kernel
def rest(w: World, g: int) -> None:
    """Put an order at the end of our list at its price."""
    order, m = w.orders[g], w.market[0]
    side = _BIDS if order.side > 0 else _ASKS
    ticks, i = order.price_ticks, order.price_ticks - m.base_ticks
    tail = w.levels[_TAILS, side, i]
    order.place = _RESTING
    order.earlier = tail
    order.later = -1
    if tail >= 0:
        w.orders[tail].later = g
    else:
        w.levels[_HEADS, side, i] = g
    w.levels[_TAILS, side, i] = g
    w.strategies[order.strategy].resting += 1
    m.own_count[side] += 1
    if m.own_count[side] == 1:
        m.own_best[side] = ticks
        m.own_worst[side] = ticks
    elif side == _BIDS:
        m.own_best[side] = max(m.own_best[side], ticks)
        m.own_worst[side] = min(m.own_worst[side], ticks)
    else:
        m.own_best[side] = min(m.own_best[side], ticks)
        m.own_worst[side] = max(m.own_worst[side], ticks)


@inner_kernel
def remove(w: World, g: int) -> None:
    """Take an order out of its list, and free its place."""
    order, m = w.orders[g], w.market[0]
    side = _BIDS if order.side > 0 else _ASKS
    i = order.price_ticks - m.base_ticks
    if order.earlier >= 0:
        w.orders[order.earlier].later = order.later
    else:
        w.levels[_HEADS, side, i] = order.later
    if order.later >= 0:
        w.orders[order.later].earlier = order.earlier
    else:
        w.levels[_TAILS, side, i] = order.earlier
    order.place = _FREE
    w.strategies[order.strategy].resting -= 1
    m.own_count[side] -= 1


@inner_kernel
def sweep_reduce_only(w: World, now_ns: int) -> None:
    """Cancel reduce-only orders that have nothing left to reduce, oldest first."""
    m = w.market[0]
    m.sweeps = 0
    for k in range(len(w.strategies)):
        s = w.strategies[k]
        if not s.needs_sweep:
            continue
        s.needs_sweep = False
        while s.resting > 0:
            found = -1
            for g in range(k * m.orders_each, (k + 1) * m.orders_each):
                order = w.orders[g]
                idle = order.reduce_only and order.side * s.position_lots >= 0
                older = found < 0 or order.order_id < w.orders[found].order_id
                if order.place == _RESTING and idle and older:
                    found = g
            if found < 0:
                break
            accounts.reply(w, found, now_ns, _CANCELLED, _REDUCE_ONLY, _ORDER_PATH)
            remove(w, found)


@inner_kernel
def reducible_lots(w: World, order: OrderRow, lots: int) -> int:
    """Lots of an order that its reduce-only flag lets trade."""
    if not order.reduce_only:
        return lots
    return min(lots, max(-order.side * w.strategies[order.strategy].position_lots, 0))


@inner_kernel
def _reached_lots(w: World, order: OrderRow, ticks: int, lots: int, how: int) -> int:
    """Lots of what arrived that get as far as an order."""
    s = w.strategies[order.strategy]
    # Whole fills ask whether something came, not how much.
    left = s.left_lots if s.partial_fills else max(lots, 1)
    if how != _BY_TRADE and not s.book_fills:
        return 0
    if order.price_ticks != ticks:
        if s.partial_fills:
            order.front = 0.0
        return left
    if how == _BY_TRADE:
        return queue.on_trade(s, order, left, lots)
    return 0 if s.queue_model == _TRADE_THROUGH else left


@inner_kernel
def _meet(w: World, g: int, now_ns: int, ticks: int, lots: int, how: int) -> None:
    """Let what arrived meet one order."""
    order = w.orders[g]
    m, s = w.market[0], w.strategies[order.strategy]
    if s.arrival != m.arrivals:
        s.arrival = m.arrivals
        s.left_lots = lots
    if not s.partial_fills and how == _BY_LEVEL:
        return
    reached = _reached_lots(w, order, ticks, lots, how)
    if s.partial_fills:
        take = reducible_lots(w, order, min(reached, order.remaining_lots))
        s.left_lots -= max(take, 0)
    else:
        take = reducible_lots(w, order, order.remaining_lots) if reached > 0 else 0
    if take <= 0:
        return
    accounts.book_fill(w, g, now_ns, order.price_ticks, take, _MAKER)
    if order.remaining_lots == 0:
        remove(w, g)


@inline_kernel
def _arrive(w: World, now_ns: int, side: int, ticks: int, lots: int, how: int) -> None:
    """Let lots at a price meet our orders of one side, if it reaches the best of them."""
    m = w.market[0]
    if m.own_count[side] > 0 and (m.own_best[side] >= ticks if side == _BIDS else m.own_best[side] <= ticks):
        _meet_all(w, now_ns, side, ticks, lots, how)


@inner_kernel
def _meet_all(w: World, now_ns: int, side: int, ticks: int, lots: int, how: int) -> None:
    """Let lots at a price meet our orders of one side, best price first, by arrival at each price."""
    m = w.market[0]
    step = -1 if side == _BIDS else 1
    while m.own_count[side] > 0 and w.levels[_HEADS, side, m.own_best[side] - m.base_ticks] < 0:
        m.own_best[side] += step
    if m.own_count[side] == 0:
        return
    m.arrivals += 1
    last = max(ticks, m.own_worst[side]) if side == _BIDS else min(ticks, m.own_worst[side])
    price = m.own_best[side]
    while (price - last) * step <= 0:
        g = w.levels[_HEADS, side, price - m.base_ticks]
        while g >= 0:
            later = w.orders[g].later
            _meet(w, g, now_ns, ticks, lots, how)
            g = later
        price += step
    if m.sweeps > 0:
        sweep_reduce_only(w, now_ns)


@inline_kernel
def _note_level(w: World, side: int, ticks: int, before: int, lots: int) -> None:
    """Move our orders at a level up after its size changed."""
    if w.market[0].own_count[side] == 0:
        return
    g = w.levels[_HEADS, side, ticks - w.market[0].base_ticks]
    while g >= 0:
        order = w.orders[g]
        queue.on_level(w.strategies[order.strategy], order, before, lots)
        g = order.later


@inline_kernel
def _apply_level(w: World, now_ns: int, side: int, ticks: int, lots: int) -> None:
    d = w.depths[0]
    if not d.trusted or not depth.is_inside(w, ticks):
        return
    best = d.bid_ticks if side == _BIDS else d.ask_ticks
    before = depth.set_level(w, 0, side, ticks, lots)
    if d.in_snapshot:
        return
    _note_level(w, side, ticks, before, lots)
    improved = lots > 0 and (ticks > best if side == _BIDS else ticks < best)
    if improved:
        _arrive(w, now_ns, 1 - side, ticks, max(lots - before, 0), _BY_BEST)
    elif lots > before:
        _arrive(w, now_ns, 1 - side, ticks, lots - before, _BY_LEVEL)


@inner_kernel
def _clear_better(w: World, now_ns: int, side: int, ticks: int) -> None:
    """Remove the levels that are better than a best quote."""
    d = w.depths[0]
    sign = 1 if side == _BIDS else -1
    best = d.bid_ticks if side == _BIDS else d.ask_ticks
    while d.trusted and (best - ticks) * sign > 0:
        _apply_level(w, now_ns, side, best, 0)
        best = d.bid_ticks if side == _BIDS else d.ask_ticks


@inner_kernel
def _compare_orders(w: World) -> None:
    """Move our orders up after a snapshot; a size that did not change says nothing."""
    for g in range(len(w.orders)):
        order = w.orders[g]
        side, ticks = _BIDS if order.side > 0 else _ASKS, order.price_ticks
        if order.place != _RESTING or not depth.is_shown(w, 0, side, ticks):
            continue
        before, lots = depth.old_size_at(w, 0, side, ticks), depth.size_at(w, 0, side, ticks)
        if before != lots:
            queue.on_level(w.strategies[order.strategy], order, before, lots)


@inner_kernel
def _end_snapshot(w: World, now_ns: int) -> None:
    """Compare a snapshot with the book before it, then let what is new in it meet our orders."""
    d, m = w.depths[0], w.market[0]
    d.in_snapshot = False
    _compare_orders(w)
    how = _BY_BEST if d.after_gap or d.ask_ticks < d.old_ask_ticks else _BY_LEVEL
    ticks = d.ask_ticks
    while m.own_count[_BIDS] > 0 and ticks <= m.own_best[_BIDS]:
        grown = depth.size_at(w, 0, _ASKS, ticks) - depth.old_size_at(w, 0, _ASKS, ticks)
        if grown > 0 or how == _BY_BEST:
            _arrive(w, now_ns, _BIDS, ticks, max(grown, 0), how)
        how = _BY_LEVEL
        ticks = depth.next_ask(w, 0, ticks)
    how = _BY_BEST if d.after_gap or d.bid_ticks > d.old_bid_ticks else _BY_LEVEL
    ticks = d.bid_ticks
    while m.own_count[_ASKS] > 0 and ticks >= m.own_best[_ASKS]:
        grown = depth.size_at(w, 0, _BIDS, ticks) - depth.old_size_at(w, 0, _BIDS, ticks)
        if grown > 0 or how == _BY_BEST:
            _arrive(w, now_ns, _ASKS, ticks, max(grown, 0), how)
        how = _BY_LEVEL
        ticks = depth.next_bid(w, 0, ticks)


@inline_kernel
def _apply_trade(w: World, now_ns: int, code: int, ticks: int, lots: int) -> None:
    """Let a public trade meet the side that its taker hit; of an unknown taker, the side that it touched."""
    w.market[0].volume_tick_lots += ticks * lots
    d = w.depths[0]
    if code == _TRADE_SELL or (code == _TRADE_UNKNOWN and ticks <= d.bid_ticks):
        _arrive(w, now_ns, _BIDS, ticks, lots, _BY_TRADE)
    elif code == _TRADE_BUY or (code == _TRADE_UNKNOWN and ticks >= d.ask_ticks):
        _arrive(w, now_ns, _ASKS, ticks, lots, _BY_TRADE)


@inline_kernel
def _apply_book(w: World, now_ns: int, kind: int, ticks: int, lots: int) -> None:
    d, code = w.depths[0], kind & _CODE_MASK
    if code in (_LEVEL_BID, _LEVEL_ASK, _BEST_BID, _BEST_ASK):
        side = _BIDS if code in (_LEVEL_BID, _BEST_BID) else _ASKS
        if code in (_BEST_BID, _BEST_ASK):
            _clear_better(w, now_ns, side, ticks)
        _apply_level(w, now_ns, side, ticks, lots)
    elif code == _CLEAR:
        depth.begin_snapshot(w, 0)
    elif code == _GAP:
        d.trusted = False
    if d.in_snapshot and kind & _LAST:
        _end_snapshot(w, now_ns)


@inline_kernel
def apply_row(w: World, now_ns: int, kind: int, ticks: int, lots: int) -> None:
    """Take a row of the market in at the exchange, where our orders rest."""
    code = kind & _CODE_MASK
    accounts.turn_day(w, now_ns)
    if code in (_TRADE_BUY, _TRADE_SELL, _TRADE_UNKNOWN):
        _apply_trade(w, now_ns, code, ticks, lots)
    elif code == _MARK:
        w.market[0].mark_parts = ticks
    elif code == _FUNDING:
        accounts.pay_funding(w, now_ns, ticks)
    _apply_book(w, now_ns, kind, ticks, lots)
