"""What becomes of requests: on their way, at the exchange's door, in its book.

The door refuses in the order of the exchange's API (size, value, price band, expiry, predecessor,
reduce-only), and a refused replacement leaves its predecessor alone. The matching engine then cancels the
predecessor, and what fails from there on (post-only that would take) ends both. What takes meets the sizes
that the recording shows, which are not used up by it: the market does not know of us.
"""

from typing import Final

from market_maker.fills import accounts, depth, matching
from market_maker.fills.rows import (
    ASKS,
    BIDS,
    CANCEL_PATH,
    NEVER_NS,
    NO_ASK,
    NO_BID,
    ORDER_PATH,
    REQUEST,
    TAKER,
    UNSEEN,
    EventKind,
    FillReason,
    OrderPlace,
    OrderRow,
    RequestKind,
    RequestRow,
    World,
)
from market_maker.kernel import inner_kernel

_BIDS: Final = BIDS
_ASKS: Final = ASKS
_ORDER_PATH: Final = ORDER_PATH
_CANCEL_PATH: Final = CANCEL_PATH
_REQUEST: Final = REQUEST
_TAKER: Final = TAKER
_NEVER_NS: Final = NEVER_NS
_NO_ASK: Final = NO_ASK
_NO_BID: Final = NO_BID
_UNSEEN: Final = UNSEEN
_FREE: Final = int(OrderPlace.FREE)
_TRAVELLING: Final = int(OrderPlace.TRAVELLING)
_RESTING: Final = int(OrderPlace.RESTING)
_PLACE: Final = int(RequestKind.PLACE)
_CANCEL: Final = int(RequestKind.CANCEL)
_REPLACE: Final = int(RequestKind.REPLACE)
_SENT: Final = int(EventKind.SENT)
_ACCEPTED: Final = int(EventKind.ACCEPTED)
_REJECTED: Final = int(EventKind.REJECTED)
_CANCELLED: Final = int(EventKind.CANCELLED)
_CANCEL_REJECTED: Final = int(EventKind.CANCEL_REJECTED)
_CANCEL_SENT: Final = int(EventKind.CANCEL_SENT)
_EXPIRED: Final = int(EventKind.EXPIRED)
_NONE: Final = int(FillReason.NONE)
_POST_ONLY: Final = int(FillReason.POST_ONLY)
_NO_LIQUIDITY: Final = int(FillReason.NO_LIQUIDITY)
_REDUCE_ONLY: Final = int(FillReason.REDUCE_ONLY)
_REPLACED: Final = int(FillReason.REPLACED)
_NOT_FOUND: Final = int(FillReason.NOT_FOUND)
_MIN_SIZE: Final = int(FillReason.MIN_SIZE)
_MIN_VALUE: Final = int(FillReason.MIN_VALUE)
_MAX_VALUE: Final = int(FillReason.MAX_VALUE)
_PRICE_BAND: Final = int(FillReason.PRICE_BAND)
_EXPIRY: Final = int(FillReason.EXPIRY)
_INVALID: Final = int(FillReason.INVALID)
_SELF_TRADE: Final = int(FillReason.SELF_TRADE)
_FILLED_BEFORE: Final = int(FillReason.FILLED_BEFORE)
_PPM: Final = 1_000_000
_PARTS: Final = 100


@inner_kernel
def new_order(w: World, k: int) -> int:
    """Take a free place for an order of strategy k, to be filled in and sent; −1 where all are taken."""
    m, s = w.market[0], w.strategies[k]
    for g in range(k * m.orders_each, (k + 1) * m.orders_each):
        order = w.orders[g]
        if order.place == _FREE:
            s.orders_sent += 1
            order.strategy = k
            order.order_id = s.orders_sent
            order.tag = 0
            order.place = _TRAVELLING
            order.post_only = True
            order.immediate = False
            order.reduce_only = False
            order.expire_ns = _NEVER_NS
            order.front = 0.0
            order.traded = 0.0
            order.accepted_ns = 0
            order.queue_ahead_lots = -1
            return g
    return -1


@inner_kernel
def find_order(w: World, k: int, order_id: int) -> int:
    """Place of an order of strategy k that has not ended at the exchange, −1 where it has."""
    m = w.market[0]
    for g in range(k * m.orders_each, (k + 1) * m.orders_each):
        if w.orders[g].place != _FREE and w.orders[g].order_id == order_id:
            return g
    return -1


@inner_kernel
def _push(w: World, k: int, now_ns: int, path: int) -> RequestRow:
    m, s = w.market[0], w.strategies[k]
    if s.requests_sent - s.requests_served >= m.requests_each:
        m.overflow = True
        s.requests_served += 1
    row = w.requests[k * m.requests_each + s.requests_sent % m.requests_each]
    s.requests_sent += 1
    due_ns = now_ns + accounts.latency_ns(w, s, now_ns, path, _REQUEST)
    # One connection: what was sent first arrives first.
    s.last_request_ns = max(s.last_request_ns, due_ns)
    row.due_ns = s.last_request_ns
    accounts.wake(w, s, row.due_ns)
    return row


@inner_kernel
def send(w: World, g: int, now_ns: int, old: int, old_id: int) -> None:
    """Send an order from `new_order`; with `old_id` not 0 it takes that order's place."""
    order = w.orders[g]
    order.remaining_lots = order.size_lots
    accounts.note(w, order, now_ns, _SENT, _NONE, order.size_lots)
    row = _push(w, order.strategy, now_ns, _ORDER_PATH)
    row.kind = _REPLACE if old_id != 0 else _PLACE
    row.order = g
    row.old = old
    row.old_id = old_id


@inner_kernel
def send_cancel(w: World, k: int, now_ns: int, old: int, old_id: int) -> None:
    """Ask for an order to be cancelled, named by its place and id."""
    if old >= 0 and w.orders[old].order_id == old_id:
        accounts.note(w, w.orders[old], now_ns, _CANCEL_SENT, _NONE, w.orders[old].size_lots)
    row = _push(w, k, now_ns, _CANCEL_PATH)
    row.kind = _CANCEL
    row.order = -1
    row.old = old
    row.old_id = old_id


@inner_kernel
def _is_resting(w: World, k: int, old: int, old_id: int) -> bool:
    if old < 0:
        return False
    order = w.orders[old]
    return order.place == _RESTING and order.order_id == old_id and order.strategy == k


@inner_kernel
def _bad_form(w: World, order: OrderRow, now_ns: int) -> int:
    """Reason against the order as such: flags, size, value, price band, expiry."""
    m = w.market[0]
    value = order.price_ticks * order.size_lots
    if (order.post_only and order.immediate) or order.price_ticks <= 0:
        return _INVALID
    if not depth.is_inside(w, order.price_ticks):
        return _PRICE_BAND
    if order.size_lots < max(m.min_lots, 1):
        return _MIN_SIZE
    if value < m.min_tick_lots and not order.reduce_only:
        return _MIN_VALUE
    if 0 < m.max_tick_lots < value:
        return _MAX_VALUE
    mark, price = accounts.mark_parts(w), _PARTS * order.price_ticks
    if mark > 0 and m.band_up_ppm > 0:
        too_high = order.side > 0 and price * _PPM > mark * (_PPM + m.band_up_ppm)
        too_low = order.side < 0 and price * _PPM < mark * (_PPM - m.band_down_ppm)
        if too_high or too_low:
            return _PRICE_BAND
    return _EXPIRY if order.expire_ns <= now_ns else _NONE


@inner_kernel
def _refusal(w: World, order: OrderRow, r: RequestRow, now_ns: int) -> int:
    """Reason for which the door refuses; nothing has changed then."""
    reason = _bad_form(w, order, now_ns)
    if reason != _NONE:
        return reason
    if r.kind == _REPLACE and not _is_resting(w, order.strategy, r.old, r.old_id):
        return _NOT_FOUND
    if matching.reducible_lots(w, order, order.size_lots) < order.size_lots:
        return _REDUCE_ONLY
    return _NONE


@inner_kernel
def _own_best(w: World, k: int, side: int) -> int:
    """Best price of a strategy's own resting orders on a side."""
    m = w.market[0]
    best = _NO_BID if side == _BIDS else _NO_ASK
    for g in range(k * m.orders_each, (k + 1) * m.orders_each):
        order = w.orders[g]
        if order.place != _RESTING or (order.side > 0) != (side == _BIDS):
            continue
        best = max(best, order.price_ticks) if side == _BIDS else min(best, order.price_ticks)
    return best


@inner_kernel
def _would_take(w: World, order: OrderRow) -> bool:
    d = w.depths[0]
    if order.side > 0:
        ask = d.ask_ticks if d.trusted else _NO_ASK
        return order.price_ticks >= min(ask, _own_best(w, order.strategy, _ASKS))
    bid = d.bid_ticks if d.trusted else _NO_BID
    return order.price_ticks <= max(bid, _own_best(w, order.strategy, _BIDS))


@inner_kernel
def _clear_own_way(w: World, g: int, now_ns: int) -> None:
    """Cancel our own orders that an order would trade with, oldest first."""
    order, m = w.orders[g], w.market[0]
    while True:
        found = -1
        for other in range(order.strategy * m.orders_each, (order.strategy + 1) * m.orders_each):
            o = w.orders[other]
            meets = o.side == -order.side and (o.price_ticks - order.price_ticks) * order.side <= 0
            if o.place == _RESTING and meets and (found < 0 or o.order_id < w.orders[found].order_id):
                found = other
        if found < 0:
            return
        accounts.reply(w, found, now_ns, _CANCELLED, _SELF_TRADE, _ORDER_PATH)
        matching.remove(w, found)


@inner_kernel
def _take(w: World, g: int, now_ns: int) -> None:
    """Trade an order with the levels it reaches, best first; whole fills all get the best price."""
    order, s, d = w.orders[g], w.strategies[w.orders[g].strategy], w.depths[0]
    if not d.trusted:
        return
    other = _ASKS if order.side > 0 else _BIDS
    ticks = d.ask_ticks if order.side > 0 else d.bid_ticks
    while order.remaining_lots > 0 and ticks != _NO_ASK and ticks != _NO_BID:
        if (ticks - order.price_ticks) * order.side > 0:
            return
        lots = order.remaining_lots
        if s.partial_fills:
            lots = min(lots, depth.size_at(w, 0, other, ticks))
        lots = matching.reducible_lots(w, order, lots)
        if lots <= 0:
            return
        accounts.book_fill(w, g, now_ns, ticks, lots, _TAKER)
        ticks = depth.next_ask(w, 0, ticks) if order.side > 0 else depth.next_bid(w, 0, ticks)


@inner_kernel
def _join(w: World, g: int, now_ns: int) -> None:
    """Put an order at the back of the queue at its price."""
    order = w.orders[g]
    s, side = w.strategies[order.strategy], _BIDS if order.side > 0 else _ASKS
    order.front = _UNSEEN
    order.accepted_ns = now_ns
    if depth.is_shown(w, 0, side, order.price_ticks):
        order.queue_ahead_lots = depth.size_at(w, 0, side, order.price_ticks)
        order.front = order.queue_ahead_lots / s.lots_per_unit
    matching.rest(w, g)
    s.expiry_ns = min(s.expiry_ns, order.expire_ns)
    if order.expire_ns < _NEVER_NS:
        accounts.wake(w, s, order.expire_ns)
    accounts.reply(w, g, now_ns, _ACCEPTED, _NONE, _ORDER_PATH)


@inner_kernel
def _reject(w: World, g: int, now_ns: int, reason: int) -> None:
    accounts.reply(w, g, now_ns, _REJECTED, reason, _ORDER_PATH)
    w.orders[g].place = _FREE


@inner_kernel
def _replace(w: World, order: OrderRow, r: RequestRow, now_ns: int) -> int:
    """Cancel the predecessor; reason for which the new order fails with it."""
    old = w.orders[r.old]
    filled = old.size_lots - old.remaining_lots
    accounts.reply(w, r.old, now_ns, _CANCELLED, _REPLACED, _ORDER_PATH)
    matching.remove(w, r.old)
    if not w.market[0].replacement_counts_filled:
        return _NONE
    order.size_lots -= filled
    order.remaining_lots -= filled
    return _NONE if order.size_lots > 0 else _FILLED_BEFORE


@inner_kernel
def _admit(w: World, r: RequestRow, now_ns: int) -> None:
    """Let an order in at the exchange."""
    g, order = r.order, w.orders[r.order]
    reason = _refusal(w, order, r, now_ns)
    if reason == _NONE and r.kind == _REPLACE:
        reason = _replace(w, order, r, now_ns)
    takes = reason == _NONE and _would_take(w, order)
    if takes and order.post_only:
        reason = _POST_ONLY
    if reason != _NONE:
        _reject(w, g, now_ns, reason)
        return
    if takes:
        _clear_own_way(w, g, now_ns)
        _take(w, g, now_ns)
    _settle_rest(w, g, now_ns)
    if w.market[0].sweeps > 0:
        matching.sweep_reduce_only(w, now_ns)


@inner_kernel
def _settle_rest(w: World, g: int, now_ns: int) -> None:
    """Let what an order did not take at once rest, or end it."""
    order = w.orders[g]
    if order.remaining_lots == 0:
        order.place = _FREE
        return
    is_idle = matching.reducible_lots(w, order, 1) == 0
    if not (order.immediate or is_idle):
        _join(w, g, now_ns)
        return
    reason = _NONE if order.remaining_lots < order.size_lots else _NO_LIQUIDITY
    accounts.reply(w, g, now_ns, _CANCELLED, _REDUCE_ONLY if is_idle else reason, _ORDER_PATH)
    order.place = _FREE


@inner_kernel
def _cancel(w: World, k: int, r: RequestRow, now_ns: int) -> None:
    if _is_resting(w, k, r.old, r.old_id):
        accounts.reply(w, r.old, now_ns, _CANCELLED, _NONE, _CANCEL_PATH)
        matching.remove(w, r.old)
        return
    # Its place may be another order's by now: the reply names the one that was meant, from the spare row.
    spare = len(w.orders) - 1
    order = w.orders[spare]
    order.strategy = k
    order.order_id = r.old_id
    accounts.reply(w, spare, now_ns, _CANCEL_REJECTED, _NOT_FOUND, _CANCEL_PATH)


@inner_kernel
def _expire(w: World, k: int, now_ns: int) -> None:
    """End the orders whose time is over, oldest first, and find the next instant."""
    m, s = w.market[0], w.strategies[k]
    while s.expiry_ns <= now_ns:
        found, next_ns = -1, _NEVER_NS
        for g in range(k * m.orders_each, (k + 1) * m.orders_each):
            order = w.orders[g]
            if order.place != _RESTING:
                continue
            next_ns = min(next_ns, order.expire_ns)
            is_older = found < 0 or order.order_id < w.orders[found].order_id
            if order.expire_ns <= now_ns and is_older:
                found = g
        s.expiry_ns = next_ns
        if found >= 0:
            accounts.reply(w, found, now_ns, _EXPIRED, _NONE, _ORDER_PATH)
            matching.remove(w, found)


@inner_kernel
def serve(w: World, k: int, now_ns: int) -> None:
    """Carry out the requests of a strategy that have arrived, then end orders whose time is over."""
    m, s = w.market[0], w.strategies[k]
    while s.requests_served < s.requests_sent:
        r = w.requests[k * m.requests_each + s.requests_served % m.requests_each]
        if r.due_ns > now_ns:
            break
        s.requests_served += 1
        if r.kind == _CANCEL:
            _cancel(w, k, r, now_ns)
        else:
            _admit(w, r, now_ns)
    _expire(w, k, now_ns)


@inner_kernel
def next_due_ns(w: World, k: int) -> int:
    """Next instant at which a request arrives, an order expires or a reply is heard."""
    m, s = w.market[0], w.strategies[k]
    due_ns = s.expiry_ns
    if s.requests_served < s.requests_sent:
        due_ns = min(due_ns, w.requests[k * m.requests_each + s.requests_served % m.requests_each].due_ns)
    if s.replies_heard < s.replies_sent:
        due_ns = min(due_ns, w.replies[k * m.replies_each + s.replies_heard % m.replies_each].due_ns)
    return due_ns
