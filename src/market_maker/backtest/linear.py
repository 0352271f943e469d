"""Quotes of a baseline: a line through mid and inventory, with the market maker's sizes, limits and patience.

bid = mid − skew·q − half − level·step, q the position in sizes of the nearest level; the ask is its mirror.
There are no signals and no guards. What keeps any order away stays: no book, a stale one, the limits, the
price band, the distance to the other side; and a resting order moves by the same tolerances and intervals.
"""

from typing import Final

from market_maker import post_only_safety, pricing_engine, resting_order
from market_maker.backtest.rows import Bench, QuoterRow
from market_maker.domain import BPS, NS_PER_S, Action, Reason, Regime, Side
from market_maker.kernel import inner_kernel
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, RepriceSettings, Slot, State

_NS_PER_S: Final = NS_PER_S
_BUY: Final = int(Side.BUY)
_NORMAL: Final = int(Regime.NORMAL)
_KEEP: Final = int(Action.KEEP)
_PLACE: Final = int(Action.PLACE)
_REPLACE: Final = int(Action.REPLACE)
_CANCEL: Final = int(Action.CANCEL)
_NONE: Final = int(Reason.NONE)
_NEW_QUOTE: Final = int(Reason.NEW_QUOTE)
_PRICE_MOVED: Final = int(Reason.PRICE_MOVED)
_SIZE_CHANGED: Final = int(Reason.SIZE_CHANGED)
_AGE_EXCEEDED: Final = int(Reason.AGE_EXCEEDED)
_WITHIN_TOLERANCE: Final = int(Reason.WITHIN_TOLERANCE)
_MIN_INTERVAL: Final = int(Reason.MIN_REPRICE_INTERVAL)
_REQUEST_PENDING: Final = int(Reason.REQUEST_PENDING)
_NO_BOOK: Final = int(Reason.NO_BOOK)
_STALE_BOOK: Final = int(Reason.STALE_BOOK)
_CROSSED_BOOK: Final = int(Reason.CROSSED_BOOK)
_BACKOFF: Final = int(Reason.POST_ONLY_BACKOFF)
_POSITION_LIMIT: Final = int(Reason.POSITION_LIMIT)
_BELOW_MIN_SIZE: Final = int(Reason.BELOW_MIN_SIZE)
_PRICE_BAND: Final = int(Reason.PRICE_BAND)


@inner_kernel
def _halt_reason(settings: RepriceSettings, book: BookRow, a: Account, now_ns: int) -> int:
    if a.halt_reason != _NONE:
        return a.halt_reason
    if min(book.bid_ticks, book.ask_ticks) <= 0:
        return _NO_BOOK
    if book.bid_ticks >= book.ask_ticks:
        return _CROSSED_BOOK
    if float(now_ns - a.last_frame_ns) > settings.stale_after_s * _NS_PER_S:
        return _STALE_BOOK
    return _NONE


@inner_kernel
def _price(p: Params, q: QuoterRow, s: State, a: Account, slot: Slot, d: DecisionRow) -> int:
    """Set the wanted price; return why there is none, else NONE."""
    side, plain = slot.side, pricing_engine.level_lots(p.quote, p.market, 0, d.fair_ticks)
    if plain <= 0:
        return _BELOW_MIN_SIZE
    distance = q.half_ticks + q.level_step_ticks * float(slot.level)
    shift = q.skew_ticks * (float(a.position_lots) / float(plain))
    d.offset_bps = distance / d.fair_ticks * BPS
    d.skew_bps = -shift / d.fair_ticks * BPS
    price = pricing_engine.round_outward(side, d.fair_ticks - shift - float(side) * distance)
    price = post_only_safety.clamp_price(
        p.post_only, slot.post_only, side, price, s.book.bid_ticks, s.book.ask_ticks
    )
    d.wanted_ticks = price
    outside = (side == _BUY and 0 < a.band_high_ticks < price) or (side != _BUY and price < a.band_low_ticks)
    return _PRICE_BAND if outside or price <= 0 else _NONE


@inner_kernel
def _size(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow) -> int:
    """Set the wanted size; return why there is none, else NONE. Nearer levels go first."""
    position = slot.side * a.position_lots
    limit = a.limit_long_lots if slot.side == _BUY else a.limit_short_lots
    other = a.limit_short_lots if slot.side == _BUY else a.limit_long_lots
    d.only_reduces = position < 0 and -position > other
    room = (-position if d.only_reduces else limit - position) - slot.inner_lots
    own = slot.remaining_lots if slot.resting else 0
    d.room_lots = max(min(room, max(own, room - slot.outer_lots)), 0)
    plain = pricing_engine.level_lots(p.quote, p.market, slot.level, d.fair_ticks)
    if plain < p.market.min_lots:
        return _BELOW_MIN_SIZE
    depth = s.book.bid_depth_lots if slot.side == _BUY else s.book.ask_depth_lots
    d.wanted_lots = min(pricing_engine.scaled_lots(p.quote, p.market, plain, 1.0, depth), d.room_lots)
    return _NONE if d.wanted_lots >= p.market.min_lots else _POSITION_LIMIT


@inner_kernel
def _change_reason(p: Params, a: Account, slot: Slot, d: DecisionRow, now_ns: int) -> int:
    """Why an order is sent (below WITHIN_TOLERANCE), or else not."""
    flag_is_wrong = slot.reduce_only and slot.side * a.position_lots >= 0
    if slot.resting and (slot.remaining_lots > d.room_lots or flag_is_wrong):
        return _SIZE_CHANGED
    if post_only_safety.backing_off(slot.post_only, now_ns):
        return _BACKOFF
    if not slot.resting:
        return _NEW_QUOTE
    early = float(now_ns - slot.last_change_ns) < p.reprice.min_reprice_interval_s * _NS_PER_S
    if resting_order.needs_reprice(p, slot, d):
        return _MIN_INTERVAL if early else _PRICE_MOVED
    if resting_order.needs_resize(p, slot, d):
        return _MIN_INTERVAL if early else _SIZE_CHANGED
    return _AGE_EXCEEDED if resting_order.age_exceeded(p, slot, _NORMAL, now_ns) else _WITHIN_TOLERANCE


@inner_kernel
def _want(b: Bench, k: int, i: int, now_ns: int) -> int:
    """Compute the quote that is wanted now; return why there is none, else NONE."""
    p, s, a, slot, d = b.params[k], b.states[b.memos[k].group], b.accounts[k], b.slots[i], b.decisions[k]
    reason = _halt_reason(p.reprice, s.book, a, now_ns)
    if reason != _NONE:
        return reason
    d.fair_ticks = 0.5 * float(s.book.bid_ticks + s.book.ask_ticks)
    reason = _price(p, b.quoters[k], s, a, slot, d)
    return reason if reason != _NONE else _size(p, s, a, slot, d)


@inner_kernel
def decide(b: Bench, k: int, i: int, now_ns: int) -> None:
    """Decide about slot i of contestant k and write it to the decision row, as the pipeline does."""
    p, a, slot, d = b.params[k], b.accounts[k], b.slots[i], b.decisions[k]
    d.action = _KEEP
    d.price_ticks = 0
    d.size_lots = 0
    d.reduce_only = False
    d.wanted_ticks = 0
    d.wanted_lots = 0
    d.conditions.inventory_share = 0.0
    if slot.request_pending:
        d.reason = _REQUEST_PENDING
        return
    d.reason = _want(b, k, i, now_ns)
    if d.reason != _NONE:
        if slot.resting:
            d.action = _CANCEL
        return
    d.reason = _change_reason(p, a, slot, d, now_ns)
    if d.reason < _WITHIN_TOLERANCE:
        d.action = _REPLACE if slot.resting else _PLACE
        d.price_ticks = d.wanted_ticks
        d.size_lots = d.wanted_lots
        d.reduce_only = d.only_reduces
