"""Runs the grid over the kernels of the fill engine, all settings in one pass, on hftbacktest's own events.

The exchange's rows are the events that hftbacktest's exchange would see, in their order, and the delayed
book's the ones that its local side would see. A decision sees all that happened up to its instant, that
included.
"""

from pathlib import Path
from typing import Any, Final, NamedTuple

import grid
import numpy as np
from numba import njit

from market_maker.fills import depth, matching, orders
from market_maker.fills.engine import FillEngine, frozen
from market_maker.fills.money import FRACTION
from market_maker.fills.rows import (
    NEVER_NS,
    EventKind,
    MarketRow,
    QueueModel,
    StrategyRow,
    World,
)
from market_maker.recordings import store
from market_maker.recordings.store import Hour

PLACES: Final = 512
_PPB: Final = 1_000_000_000
_EXCHANGE: Final = 1 << 31
_LOCAL: Final = 1 << 30
_BUY: Final = 1 << 29
_CODE: Final = 0xFF
_DEPTH, _TRADE, _CLEAR, _SNAPSHOT = 1, 2, 3, 4
_NEVER: Final = NEVER_NS
_ACCEPTED: Final = int(EventKind.ACCEPTED)
_REJECTED: Final = int(EventKind.REJECTED)
_CANCELLED: Final = int(EventKind.CANCELLED)
_FILLED: Final = int(EventKind.FILL)
_int: Final[Any] = np.int64

# What a strategy knows of its order.
_NONE, _SENT, _RESTING, _CANCELLING = 0, 1, 2, 3
OWN_DTYPE: Final = np.dtype(
    [
        ("state", np.int64),
        ("order_id", np.int64),
        ("place", np.int64),
        ("side", np.int64),
        ("ticks", np.int64),
        ("lots", np.int64),
    ],
    align=True,
)


class Desk(NamedTuple):
    """Arrays of the runner beside the engine's: orders as known, positions and instants, journal."""

    settings: Any
    own: Any  # settings × PLACES
    position: Any  # lots, as heard
    late: Any  # tick·lots received and traded in fills of which nobody heard in time, by setting
    next_ns: Any
    last_ns: Any  # of the last decision: what is heard later is nobody's
    journal: Any
    lines: Any  # one: how many


def rows_of_events(events: Any, flag: int, stamp: str, tick: float) -> Hour:  # noqa: ANN401  (their records)
    """Their events of one side as rows of ours; a clear becomes the removal of what was there."""
    seen = events[(events["ev"] & flag) != 0]
    code, is_buy = seen["ev"] & _CODE, (seen["ev"] & _BUY) != 0
    ticks = np.round(seen["px"] / tick).astype(np.int64)
    lots = np.round(seen["qty"] * grid.STEPS_PER_UNIT).astype(np.int64)
    trade = np.where(is_buy, store.TRADE_BUY, store.TRADE_SELL)
    level = np.where(is_buy, store.LEVEL_BID, store.LEVEL_ASK)
    kind = np.where(code == _TRADE, trade, level)
    columns = np.column_stack([seen[stamp], kind, ticks, lots])
    pieces, done = [], 0
    for at in np.flatnonzero(code == _CLEAR):
        pieces += [columns[done:at], _removals(columns[:at], code[:at], columns[at])]
        done = at + 1
    rows = np.concatenate([*pieces, columns[done:]])
    return frozen(
        Hour(
            rows[:, 0].copy(),
            np.zeros(len(rows), np.int32),
            (rows[:, 1] | store.LAST).astype(np.uint8),
            rows[:, 2].astype(np.int32),
            rows[:, 3].astype(np.uint32),
        )
    )


def _removals(before: Any, code: Any, clear: Any) -> Any:  # noqa: ANN401  (arrays)
    """Rows that remove the levels of a side from its best price up to the clear's."""
    sign = 1 if clear[1] == store.LEVEL_BID else -1
    sizes: dict[int, int] = {}
    for row in before[(code != _TRADE) & (code != _CLEAR) & (before[:, 1] == clear[1])]:
        sizes[int(row[2])] = int(row[3])
    gone = sorted(
        (ticks for ticks, lots in sizes.items() if lots and sign * (ticks - clear[2]) >= 0),
        reverse=sign > 0,
    )
    return np.array([[clear[0], clear[1], ticks, 0] for ticks in gone], np.int64).reshape(-1, 4)


@njit
def _note(d: Desk, k: int, kind: int, ns: int, side: int, ticks: int, lots: int) -> None:  # noqa: PLR0913  (a line)
    row = d.journal[d.lines[0]]
    d.lines[0] += 1
    row.setting = k
    row.kind = kind
    row.ns = ns
    row.side = side
    row.ticks = ticks
    row.lots = lots


@njit
def _find(d: Desk, k: int, order_id: int) -> int:
    for i in range(PLACES):
        if d.own[k, i].state != _NONE and d.own[k, i].order_id == order_id:
            return i
    return -1


@njit
def _note_late(d: Desk, k: int, r: Any) -> None:  # noqa: ANN401  (a record)
    if r.kind == _FILLED:
        d.late[k, 0] -= r.side * r.lots * r.price_ticks
        d.late[k, 1] += r.lots * r.price_ticks


@njit
def _learn(d: Desk, k: int, own: Any, r: Any) -> None:  # noqa: ANN401  (records)
    if r.kind == _ACCEPTED:
        own.state = _RESTING
    elif r.kind == _CANCELLED:
        own.state = _NONE
    elif r.kind == _REJECTED:
        own.state = _NONE
        _note(d, k, grid.EXPIRED, r.venue_ns, own.side, own.ticks, own.lots)
    elif r.kind == _FILLED:
        own.state = _NONE
        d.position[k] += r.side * r.lots
        _note(d, k, grid.FILL, r.venue_ns, r.side, r.price_ticks, r.lots)


@njit
def _hear(w: World, d: Desk, k: int, now_ns: int) -> None:
    """Take in the replies that have come."""
    m, s = w.market[0], w.strategies[k]
    while s.replies_heard < s.replies_sent:
        r = w.replies[k * m.replies_each + s.replies_heard % m.replies_each]
        if r.due_ns > now_ns:
            return
        s.replies_heard += 1
        i = _find(d, k, r.order_id)
        if now_ns > d.last_ns[k]:
            _note_late(d, k, r)
        elif i >= 0:
            _learn(d, k, d.own[k, i], r)


@njit
def _cancel(w: World, d: Desk, k: int, now_ns: int, side: int, first: int, count: int) -> None:  # noqa: PLR0913  (a side)
    """Cancel what is not in the grid of a side."""
    for i in range(PLACES):
        own = d.own[k, i]
        if own.state != _RESTING or own.side != side:
            continue
        if not grid.is_wanted(d.settings[k], side, first, count, own.ticks):
            _note(d, k, grid.CANCEL, now_ns, side, own.ticks, own.lots)
            own.state = _CANCELLING
            orders.send_cancel(w, k, now_ns, own.place, own.order_id)


@njit
def _is_known(d: Desk, k: int, ticks: int) -> bool:
    for own in d.own[k]:  # noqa: SIM110  (any() of a generator does not compile)
        if own.state != _NONE and own.ticks == ticks:
            return True
    return False


@njit
def _submit(w: World, d: Desk, k: int, now_ns: int, side: int, first: int, count: int) -> None:  # noqa: PLR0913  (a side)
    """Post what the grid of a side lacks."""
    setting = d.settings[k]
    for level in range(count):
        ticks = first - side * level * setting.interval_ticks
        if _is_known(d, k, ticks):
            continue
        free = 0
        while free < PLACES and d.own[k, free].state != _NONE:
            free += 1
        g = orders.new_order(w, k)
        if g < 0 or free == PLACES:
            w.market[0].overflow = True
            return
        order, own = w.orders[g], d.own[k, free]
        order.side = side
        order.price_ticks = ticks
        order.size_lots = setting.order_lots
        own.state = _SENT
        own.order_id = order.order_id
        own.place = g
        own.side = side
        own.ticks = ticks
        own.lots = setting.order_lots
        orders.send(w, g, now_ns, -1, 0)
        _note(d, k, grid.SUBMIT, now_ns, side, ticks, setting.order_lots)


@njit
def _decide(w: World, d: Desk, k: int, now_ns: int) -> None:
    setting, book, lots = d.settings[k], w.depths[1], d.position[k]
    bid, ask = grid.first_prices(setting, book.bid_ticks, book.ask_ticks, lots)
    buys, sells = grid.count_on(setting, 1, lots), grid.count_on(setting, -1, lots)
    _cancel(w, d, k, now_ns, 1, bid, buys)
    _cancel(w, d, k, now_ns, -1, ask, sells)
    _submit(w, d, k, now_ns, 1, bid, buys)
    _submit(w, d, k, now_ns, -1, ask, sells)
    d.next_ns[k] += setting.step_ns


@njit
def _decide_due(w: World, d: Desk, now_ns: int) -> None:
    for k in range(len(w.strategies)):
        if d.next_ns[k] == now_ns:
            _decide(w, d, k, now_ns)


@njit
def _settle(w: World, d: Desk, now_ns: int) -> None:
    w.market[0].due_ns = _NEVER
    for k in range(len(w.strategies)):
        s = w.strategies[k]
        if s.due_ns <= now_ns:
            orders.serve(w, k, now_ns)
            _hear(w, d, k, now_ns)
            s.due_ns = orders.next_due_ns(w, k)
        w.market[0].due_ns = min(w.market[0].due_ns, s.due_ns)


@njit
def play(w: World, d: Desk, market: Hour, heard: Hour, stop_ns: int) -> None:
    """Run both streams and all settings up to an instant: market, exchange, replies, book, then decisions.

    What is on its way then is heard too, too late for anybody.
    """
    i, j, n, o = 0, 0, len(market.venue_ns), len(heard.venue_ns)
    while not w.market[0].overflow:
        # The log of the engine is not read here.
        w.market[0].log_rows = 0
        row_ns = market.venue_ns[i] if i < n else _NEVER
        frame_ns = heard.venue_ns[j] if j < o else _NEVER
        now_ns = min(row_ns, frame_ns, w.market[0].due_ns, d.next_ns.min())
        if now_ns > stop_ns:
            break
        if row_ns == now_ns:
            matching.apply_row(w, now_ns, _int(market.kind[i]), _int(market.ticks[i]), _int(market.lots[i]))
            i += 1
        elif w.market[0].due_ns == now_ns:
            _settle(w, d, now_ns)
        elif frame_ns == now_ns:
            depth.follow(w, 1, _int(heard.kind[j]), _int(heard.ticks[j]), _int(heard.lots[j]))
            j += 1
        else:
            _decide_due(w, d, now_ns)
    for k in range(len(w.strategies)):
        _hear(w, d, k, _NEVER)


def strategy_row(setting: Any) -> StrategyRow:  # noqa: ANN401  (a record)
    """Fill model of a setting as hftbacktest has it: whole fills, the queue counted in contracts."""
    entry, reply = int(setting["entry_ns"]), int(setting["reply_ns"])
    averse = setting["queue"] == grid.RISK_AVERSE
    return StrategyRow(
        queue_model=int(QueueModel.RISK_AVERSE if averse else QueueModel.POWER),
        queue_power=float(setting["power"]),
        lots_per_unit=float(grid.STEPS_PER_UNIT),
        partial_fills=False,
        maker_fee_ppb=round(grid.MAKER_FEE * _PPB),
        taker_fee_ppb=round(grid.TAKER_FEE * _PPB),
        request_ns=entry,
        reply_ns=reply,
        cancel_request_ns=entry,
        cancel_reply_ns=reply,
    )


def run(market: grid.Market, folder: Path, count: int) -> tuple[Any, Any]:
    """Play all settings: the journal, and balance and fees of each in USD, as far as they were heard."""
    events = np.load(folder / f"{market.name}.npy", mmap_mode="r")
    settings = grid.settings_of(market, count)
    rows = rows_of_events(events, _EXCHANGE, "exch_ts", market.tick)
    heard = rows_of_events(events, _LOCAL, "local_ts", market.tick)
    engine = FillEngine(MarketRow(), [strategy_row(s) for s in settings], orders_each=PLACES, feeds=1)
    engine.reach(rows)
    stop_ns = int(events["exch_ts"].max()) - grid.END_NS
    begin_ns, step_ns = int(rows.venue_ns[0]) + grid.START_NS, settings["step_ns"]
    desk = Desk(
        settings=settings,
        own=np.zeros((count, PLACES), OWN_DTYPE),
        position=np.zeros(count, np.int64),
        late=np.zeros((count, 2), np.int64),
        next_ns=begin_ns + step_ns,
        last_ns=begin_ns + (stop_ns - begin_ns) // step_ns * step_ns,
        journal=np.zeros(30_000 * count + 1_000_000, grid.JOURNAL_DTYPE),
        lines=np.zeros(1, np.int64),
    )
    play(engine.world, desk, rows, heard, stop_ns)
    engine.drain()
    return desk.journal[: desk.lines[0]], _cash(engine, desk, market)


def _cash(engine: FillEngine, desk: Desk, market: grid.Market) -> Any:  # noqa: ANN401  (settings × 2)
    """What the engine booked, less what was heard too late."""
    booked: Any = engine.world.strategies
    worth = market.tick / grid.STEPS_PER_UNIT
    fees = booked["fees"] + booked["fees_frac"] / FRACTION - desk.late[:, 1] * grid.MAKER_FEE
    return np.column_stack([booked["flow_tick_lots"] - desk.late[:, 0], fees]) * worth
