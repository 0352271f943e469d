"""A book in flat arrays: setting a level is one store, and the best prices are pointers.

A level that reaches across the book does not erase what it meets; the other side's pointer moves past it,
because the newer row is right about the best price and the older levels are about to be told. A best quote
does erase: levels better than it are gone. (The same rule as hftbacktest's depth, so that both agree.)
"""

from typing import Final

from market_maker.fills.rows import ASKS, BIDS, BOOKS, NO_ASK, NO_BID, DepthRow, World
from market_maker.kernel import inline_kernel, inner_kernel
from market_maker.recordings import store

_BIDS: Final = BIDS
_BOOKS: Final = BOOKS
_ASKS: Final = ASKS
_NO_BID: Final = NO_BID
_NO_ASK: Final = NO_ASK
_LEVEL_BID: Final = store.LEVEL_BID
_LEVEL_ASK: Final = store.LEVEL_ASK
_CLEAR: Final = store.CLEAR
_BEST_BID: Final = store.BEST_BID
_BEST_ASK: Final = store.BEST_ASK
_GAP: Final = store.GAP
_CODE_MASK: Final = store.CODE_MASK
_LAST: Final = store.LAST


@inline_kernel
def is_inside(w: World, ticks: int) -> bool:
    """Whether the arrays have a column for a price."""
    return 0 <= ticks - w.market[0].base_ticks < w.levels.shape[2]


@inline_kernel
def size_at(w: World, book: int, side: int, ticks: int) -> int:
    """Lots at a price."""
    if not is_inside(w, ticks):
        return 0
    return w.levels[_BOOKS + 2 * book + w.depths[book].active, side, ticks - w.market[0].base_ticks]


@inner_kernel
def old_size_at(w: World, book: int, side: int, ticks: int) -> int:
    """Lots at a price before the last snapshot; nothing is known from before a gap."""
    d = w.depths[book]
    if not is_inside(w, ticks) or d.after_gap:
        return 0
    return w.levels[_BOOKS + 2 * book + 1 - d.active, side, ticks - w.market[0].base_ticks]


@inline_kernel
def next_bid(w: World, book: int, below: int) -> int:
    """Best bid below a price."""
    d = w.depths[book]
    last = d.low[2 * d.active + _BIDS]
    ticks = below - 1
    while ticks >= last:
        if size_at(w, book, _BIDS, ticks) > 0:
            return ticks
        ticks -= 1
    return _NO_BID


@inline_kernel
def next_ask(w: World, book: int, above: int) -> int:
    """Best ask above a price."""
    d = w.depths[book]
    last = d.high[2 * d.active + _ASKS]
    ticks = above + 1
    while ticks <= last:
        if size_at(w, book, _ASKS, ticks) > 0:
            return ticks
        ticks += 1
    return _NO_ASK


@inline_kernel
def _widen(d: DepthRow, n: int, ticks: int) -> None:
    """Stretch the bounds of a side's prices."""
    if ticks < d.low[n]:
        d.low[n] = ticks
    if ticks > d.high[n]:
        d.high[n] = ticks


@inline_kernel
def set_level(w: World, book: int, side: int, ticks: int, lots: int) -> int:
    """Set a level's size and the best prices; return the size before."""
    d = w.depths[book]
    i = ticks - w.market[0].base_ticks
    before = w.levels[_BOOKS + 2 * book + d.active, side, i]
    w.levels[_BOOKS + 2 * book + d.active, side, i] = lots
    if lots == 0:
        if side == _BIDS and ticks == d.bid_ticks:
            d.bid_ticks = next_bid(w, book, ticks)
        elif side == _ASKS and ticks == d.ask_ticks:
            d.ask_ticks = next_ask(w, book, ticks)
        return before
    _widen(d, 2 * d.active + side, ticks)
    if side == _BIDS and ticks > d.bid_ticks:
        d.bid_ticks = ticks
        if d.ask_ticks <= ticks:
            d.ask_ticks = next_ask(w, book, ticks)
    elif side == _ASKS and ticks < d.ask_ticks:
        d.ask_ticks = ticks
        if d.bid_ticks >= ticks:
            d.bid_ticks = next_bid(w, book, ticks)
    return before


@inner_kernel
def begin_snapshot(w: World, book: int) -> None:
    """Empty the book; what was there stays in the other buffer until the next snapshot."""
    d = w.depths[book]
    d.active = 1 - d.active
    for side in range(2):
        n = 2 * d.active + side
        for ticks in range(d.low[n], d.high[n] + 1):
            w.levels[_BOOKS + 2 * book + d.active, side, ticks - w.market[0].base_ticks] = 0
        d.low[n] = _NO_ASK
        d.high[n] = 0
    d.old_bid_ticks = d.bid_ticks
    d.old_ask_ticks = d.ask_ticks
    d.bid_ticks = _NO_BID
    d.ask_ticks = _NO_ASK
    d.after_gap = not d.trusted
    d.in_snapshot = True
    d.limited = True
    d.trusted = True


@inline_kernel
def is_shown(w: World, book: int, side: int, ticks: int) -> bool:
    """Whether the book says how much there is at a price, nothing included."""
    d = w.depths[book]
    if not d.trusted or not is_inside(w, ticks):
        return False
    n = 2 * d.active + side
    if not d.limited:
        return True
    return bool(ticks >= d.low[n] if side == _BIDS else ticks <= d.high[n])


@inline_kernel
def mid2_ticks(w: World, book: int) -> int:
    """Best bid plus best ask, 0 where a side is empty or the book is not to be trusted."""
    d = w.depths[book]
    if not d.trusted or d.bid_ticks == _NO_BID or d.ask_ticks == _NO_ASK:
        return 0
    return d.bid_ticks + d.ask_ticks


@inner_kernel
def _keep_best(w: World, book: int, side: int, ticks: int) -> None:
    """Remove the levels that are better than a best price."""
    d = w.depths[book]
    sign = 1 if side == _BIDS else -1
    best = d.bid_ticks if side == _BIDS else d.ask_ticks
    while (best - ticks) * sign > 0:
        set_level(w, book, side, best, 0)
        best = d.bid_ticks if side == _BIDS else d.ask_ticks


@inline_kernel
def follow(w: World, book: int, kind: int, ticks: int, lots: int) -> bool:
    """Take a row into a delayed book, in which there are no orders of ours; whether the row was of a book."""
    d = w.depths[book]
    code = kind & _CODE_MASK
    if code in (_LEVEL_BID, _LEVEL_ASK, _BEST_BID, _BEST_ASK):
        side = _BIDS if code in (_LEVEL_BID, _BEST_BID) else _ASKS
        if d.trusted and is_inside(w, ticks):
            if code in (_BEST_BID, _BEST_ASK):
                _keep_best(w, book, side, ticks)
            set_level(w, book, side, ticks, lots)
    elif code == _GAP:
        d.trusted = False
    elif code == _CLEAR:
        begin_snapshot(w, book)
    else:
        return False
    if kind & _LAST:
        d.in_snapshot = False
    return True
