"""The runner of the market maker: a recorded market in, decisions and fills out, K settings in one pass.

The exchange's book runs on the venue's time; each delayed book on the time at which its frames were heard,
which never falls. At an instant the market comes first, then what is due at the exchange or heard from it,
then frames, then the timer. A frame is acted on as a whole: the signals take it in, then each slot is asked.
"""

from typing import Any, Final

import numpy as np

from market_maker import reprice_pipeline as pipeline
from market_maker.backtest import accounting, desk, limits, memory
from market_maker.backtest.rows import Bench
from market_maker.domain import Reason
from market_maker.fills import depth, matching, orders
from market_maker.fills.rows import ASKS, BIDS, NEVER_NS, NO_ASK, NO_BID
from market_maker.kernel import inline_kernel, inner_kernel, kernel
from market_maker.recordings import store
from market_maker.recordings.store import Hour
from market_maker.reference_price import PriceSource

_BIDS: Final = BIDS
_ASKS: Final = ASKS
_NO_BID: Final = NO_BID
_NO_ASK: Final = NO_ASK
_NEVER_NS: Final = NEVER_NS
_MARK: Final = store.MARK
_TRADE_BUY: Final = store.TRADE_BUY
_TRADE_SELL: Final = store.TRADE_SELL
_TRADE_UNKNOWN: Final = store.TRADE_UNKNOWN
_INDEX: Final = store.INDEX
_FUNDING: Final = store.FUNDING
_OUTSIDE: Final = store.OUTSIDE
_PRICE_PARTS: Final = float(store.PRICE_PARTS)
_FUNDING_PARTS: Final = float(store.FUNDING_PARTS)
_FROM_MARK: Final = int(PriceSource.MARK)
_FROM_INDEX: Final = int(PriceSource.INDEX)
_FROM_OUTSIDE: Final = int(PriceSource.OUTSIDE)
_CODE_MASK: Final = store.CODE_MASK
_LAST: Final = store.LAST
_NONE: Final = int(Reason.NONE)
_NO_BOOK: Final = int(Reason.NO_BOOK)
_STREAM_LOST: Final = int(Reason.STREAM_LOST)
_NS_PER_US: Final = 1000
# Unsigned and signed numbers together would make floats in compiled code.
_int: Final[Any] = np.int64


@inline_kernel
def _depth_lots(b: Bench, feed: int, side: int) -> int:
    """Size near the best price: so many levels, and no farther than a share of the price."""
    f, w, book = b.feeds[feed], b.world, 1 + feed
    best = w.depths[book].bid_ticks if side == _BIDS else w.depths[book].ask_ticks
    reach = int(best * f.depth_span) if f.depth_span > 0.0 else _NO_ASK // 4
    ticks, lots = best, 0
    for _ in range(f.depth_levels):
        lots += depth.size_at(w, book, side, ticks)
        ticks = depth.next_bid(w, book, ticks) if side == _BIDS else depth.next_ask(w, book, ticks)
        is_far = ticks < best - reach if side == _BIDS else ticks > best + reach
        if ticks in (_NO_BID, _NO_ASK) or is_far:
            break
    return lots


@inline_kernel
def _write_book(b: Bench, feed: int, venue_ns: int, now_ns: int) -> int:
    """Write the delayed book where signals read it; why there is none, else NONE."""
    w, row = b.world, b.books[feed]
    d = w.depths[1 + feed]
    if not d.trusted:
        return _STREAM_LOST
    if d.bid_ticks == _NO_BID or d.ask_ticks == _NO_ASK:
        return _NO_BOOK
    row.bid_ticks = d.bid_ticks
    row.ask_ticks = d.ask_ticks
    row.bid_lots = depth.size_at(w, 1 + feed, _BIDS, d.bid_ticks)
    row.ask_lots = depth.size_at(w, 1 + feed, _ASKS, d.ask_ticks)
    row.bid_depth_lots = _depth_lots(b, feed, _BIDS)
    row.ask_depth_lots = _depth_lots(b, feed, _ASKS)
    row.venue_ns = venue_ns
    row.recv_ns = now_ns
    return _NONE


@inline_kernel
def _note_trade(b: Bench, feed: int, side: int, ticks: int, lots: int, now_ns: int) -> None:
    for n in range(len(b.groups)):
        if b.groups[n].feed == feed:
            one, leader = slice(n, n + 1), b.groups[n].leader
            pipeline.observe_trade(b.params[leader : leader + 1], b.states[one], side, ticks, lots, now_ns)
            memory.note_group(b, n)


@inner_kernel
def _note_price(b: Bench, feed: int, code: int, parts: int, now_ns: int) -> None:
    """Take a price of elsewhere, or what is paid for a position, into the signals."""
    source = _FROM_MARK if code == _MARK else _FROM_INDEX if code == _INDEX else _FROM_OUTSIDE
    for n in range(len(b.groups)):
        if b.groups[n].feed != feed:
            continue
        one, leader = slice(n, n + 1), b.groups[n].leader
        params, state = b.params[leader : leader + 1], b.states[one]
        if code == _FUNDING:
            pipeline.observe_funding(params, state, float(parts) / _FUNDING_PARTS, now_ns)
        else:
            pipeline.observe_price(params, state, source, float(parts) / _PRICE_PARTS, now_ns)
        memory.note_news(b, n)


@inline_kernel
def _observe(b: Bench, feed: int, now_ns: int) -> None:
    """Let the signals take a new book in, once for all contestants that share them."""
    for n in range(len(b.groups)):
        if b.groups[n].feed == feed:
            one, leader = slice(n, n + 1), b.groups[n].leader
            pipeline.observe_book(
                b.params[leader : leader + 1], b.states[one], b.books[feed : feed + 1], now_ns
            )
            memory.note_group(b, n)


@inline_kernel
def _tell(b: Bench, feed: int, reason: int, now_ns: int) -> None:
    """Let the contestants of a feed take its frame in and decide."""
    f = b.feeds[feed]
    mark = f.mark_parts
    if mark == 0 and b.world.market[0].mark_from_mid and reason == _NONE:
        mark = 50 * depth.mid2_ticks(b.world, 1 + feed)
    if f.has_book and reason == _NONE:
        _observe(b, feed, now_ns)
    asks_all = b.clock[0].asks_all
    for k in range(len(b.params)):
        if b.world.strategies[k].feed != feed:
            continue
        a = b.accounts[k]
        a.last_frame_ns = f.alive_ns
        if a.halt_reason != reason:
            a.halt_reason = reason
            memory.forget(b, k)
        if mark > 0 and limits.is_news(b, k, mark, now_ns):
            limits.on_mark(b, k, mark, now_ns)
            memory.forget(b, k)
        if asks_all or not memory.may_skip(b, k, now_ns):
            desk.decide_all(b, k, now_ns)


@inline_kernel
def _frame_ns(b: Bench, rows: Hour, feed: int) -> int:
    """When the next frame of a feed is heard."""
    i = b.cursor[1 + feed]
    if i >= len(rows.venue_ns):
        return _NEVER_NS
    f = b.feeds[feed]
    delay_ns = max(_int(rows.delay_us[i]), 0) * _NS_PER_US + f.extra_ns
    heard_ns: int = max(f.now_ns, rows.venue_ns[i] + delay_ns)
    return heard_ns


@inline_kernel
def _hear_frame(b: Bench, rows: Hour, feed: int, now_ns: int) -> None:
    """Take a whole frame into a delayed book."""
    f, n = b.feeds[feed], len(rows.venue_ns)
    f.now_ns = now_ns
    f.has_book = False
    while b.cursor[1 + feed] < n:
        i = b.cursor[1 + feed]
        b.cursor[1 + feed] += 1
        kind, ticks, lots = _int(rows.kind[i]), _int(rows.ticks[i]), _int(rows.lots[i])
        code = kind & _CODE_MASK
        if code != _OUTSIDE:
            f.alive_ns = now_ns
        if depth.follow(b.world, 1 + feed, kind, ticks, lots):
            f.has_book = True
        elif code in (_TRADE_BUY, _TRADE_SELL, _TRADE_UNKNOWN):
            side = 1 if code == _TRADE_BUY else -1 if code == _TRADE_SELL else 0
            _note_trade(b, feed, side, ticks, lots, now_ns)
        elif code in (_MARK, _INDEX, _OUTSIDE, _FUNDING):
            if code == _MARK:
                f.mark_parts = ticks
            _note_price(b, feed, code, ticks, now_ns)
        if kind & _LAST:
            break
    venue_ns = _int(rows.venue_ns[b.cursor[1 + feed] - 1])
    _tell(b, feed, _write_book(b, feed, venue_ns, now_ns), now_ns)


@inner_kernel
def _settle(b: Bench, now_ns: int) -> None:
    """Carry out what is due at the exchange, and let the contestants hear what came back."""
    w = b.world
    m = w.market[0]
    m.due_ns = _NEVER_NS
    for k in range(len(b.params)):
        s = w.strategies[k]
        if s.due_ns <= now_ns:
            orders.serve(w, k, now_ns)
            # Before anything is sent: what leaves now may be due before the next reply.
            s.due_ns = _NEVER_NS
            if desk.hear(b, k, now_ns):
                desk.write_slots(b, k)
                desk.decide_all(b, k, now_ns)
            s.due_ns = min(s.due_ns, orders.next_due_ns(w, k))
        m.due_ns = min(m.due_ns, s.due_ns)


@inner_kernel
def _ring(b: Bench, now_ns: int) -> None:
    """Do what is done by the clock: the look at a quiet book, the beginning of the score, a sample."""
    c = b.clock[0]
    if c.timer_ns == now_ns:
        c.timer_ns = now_ns + c.timer_step_ns
        for k in range(len(b.params)):
            desk.decide_all(b, k, now_ns)
    elif c.score_ns == now_ns:
        c.score_ns = _NEVER_NS
        accounting.begin_scoring(b, now_ns)
    else:
        c.sample_ns = now_ns + c.sample_step_ns
        accounting.sample(b, now_ns)


@inline_kernel
def _has_room(b: Bench) -> bool:
    """Whether a step can write all that it may have to."""
    w, c = b.world, b.clock[0]
    log_room = len(w.log) - 4 * len(w.orders) - len(w.strategies)
    has_samples = c.samples + len(b.params) <= len(b.samples)
    return w.market[0].log_rows <= log_room and c.mids < len(b.mids) and has_samples


@inline_kernel
def _step(b: Bench, rows: Hour, now_ns: int, row_ns: int) -> None:
    """Do the first thing that is due at an instant."""
    w, feeds = b.world, len(b.feeds)
    if row_ns == now_ns:
        i = b.cursor[0]
        b.cursor[0] += 1
        kind = _int(rows.kind[i])
        matching.apply_row(w, now_ns, kind, _int(rows.ticks[i]), _int(rows.lots[i]))
        if kind & _LAST:
            accounting.note_mid(b, now_ns)
        return
    if w.market[0].due_ns <= now_ns:
        _settle(b, now_ns)
        return
    for feed in range(feeds):
        if _frame_ns(b, rows, feed) == now_ns:
            _hear_frame(b, rows, feed, now_ns)
            return
    _ring(b, now_ns)


@kernel
def run(b: Bench, rows: Hour, end_ns: int) -> bool:
    """Run a piece of the market. All its rows are taken in at the exchange, all else up to `end_ns`.

    False where a log is full: empty them and call again.
    """
    feeds, m, c = len(b.feeds), b.world.market[0], b.clock[0]
    for k in range(len(b.params)):
        # The host may have changed anything.
        b.risks[k].seen_fills = -1
        memory.forget(b, k)
    while not m.overflow:
        row_ns = rows.venue_ns[b.cursor[0]] if b.cursor[0] < len(rows.venue_ns) else _NEVER_NS
        now_ns = min(row_ns, m.due_ns, c.timer_ns, c.score_ns, c.sample_ns)
        for feed in range(feeds):
            now_ns = min(now_ns, _frame_ns(b, rows, feed))
        if now_ns == _NEVER_NS or (row_ns > now_ns and now_ns > end_ns):
            return True
        if not _has_room(b):
            return False
        c.now_ns = now_ns
        _step(b, rows, now_ns, row_ns)
    return True
