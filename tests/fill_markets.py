"""Generated markets and requests for the fill engine: small prices and sizes, so that everything meets."""

import numpy as np

from market_maker.fills.engine import ActionRow
from market_maker.fills.rows import MarketRow, QueueModel, StrategyRow, rows_of
from market_maker.recordings import store
from market_maker.recordings.store import Hour

MID = 100
NEVER = 2**62


def hour_of(rows):
    """Columns of (venue_ns, kind, ticks, lots)."""
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 4
    return Hour(
        np.array(columns[0], np.int64),
        np.zeros(len(columns[0]), np.int32),
        np.array(columns[1], np.uint8),
        np.array(columns[2], np.int32),
        np.array(columns[3], np.uint32),
    )


def _frame(rng, mid):
    kind = rng.integers(0, 20)
    near = int(mid + rng.integers(-4, 5))
    lots = int(rng.integers(0, 12))
    side = int(rng.integers(1, 3))
    if kind < 8:
        price = mid - int(rng.integers(-1, 5)) if side == 1 else mid + int(rng.integers(-1, 5))
        return [(side, price, lots)]
    if kind < 14:
        return [(int(rng.choice([4, 5, 5, 4, 6])), near, int(rng.integers(1, 15)))]
    if kind < 16:
        return [(side + 6, mid - 1 if side == 1 else mid + 1, int(rng.integers(1, 12)))]
    if kind == 16:
        return [(store.MARK, 100 * mid + int(rng.integers(-50, 50)), 0)]
    if kind == 17:
        return [(store.FUNDING, int(rng.integers(-3_000_000, 3_000_000)), 0)]
    if kind == 18 and rng.integers(0, 3) == 0:
        return [(store.GAP, 0, 0)]
    depth = int(rng.integers(1, 6))
    bids = [(1, mid - 1 - i, int(rng.integers(1, 12))) for i in range(depth)]
    asks = [(2, mid + 1 + i, int(rng.integers(1, 12))) for i in range(depth)]
    return [(store.CLEAR, 0, 0), *bids, *asks]


def market_rows(rng, count, start_ns=0):
    """Frames of levels, trades, best quotes, snapshots, gaps, marks and funding around a mid that walks."""
    rows, now, mid = [], start_ns, MID
    while len(rows) < count:
        now += int(rng.integers(0, 4)) * int(rng.choice([1, 1, 1, 900]))
        mid += int(rng.choice([0, 0, 0, 0, 0, 0, 1, -1]))
        frame = _frame(rng, mid)
        rows += [(now, kind, ticks, lots) for kind, ticks, lots in frame]
        last = rows[-1]
        rows[-1] = (last[0], last[1] | store.LAST, *last[2:])
    return rows


def requests(rng, strategies, count, end_ns, start_ns=0):
    """Orders, cancels and replacements, each strategy's by itself, in the order of time."""
    rows = rows_of(ActionRow, count)
    rows["now_ns"] = start_ns + np.sort(rng.integers(0, end_ns - start_ns + 1, count))
    sent = dict.fromkeys(range(strategies), 0)
    for row in rows:
        k = int(rng.integers(0, strategies))
        row.strategy, row.kind = k, int(rng.choice([0, 0, 0, 1, 2]))
        row.side, row.tag = int(rng.choice([1, -1])), int(rng.integers(0, 5))
        row.price_ticks = MID + int(rng.integers(-6, 7))
        row.lots = int(rng.integers(0, 14))
        row.post_only = bool(rng.integers(0, 4))
        row.immediate = not row.post_only and bool(rng.integers(0, 2))
        row.reduce_only = rng.integers(0, 4) == 0
        row.expire_ns = int(row.now_ns) + int(rng.integers(0, 400)) if rng.integers(0, 3) == 0 else NEVER
        row.target_id = int(rng.integers(max(1, sent[k] - 3), sent[k] + 2)) if row.kind else 0
        sent[k] += row.kind != 1
    return rows


def market_rules(rng):
    """Rules of which each comes into force now and then."""
    return MarketRow(
        min_lots=int(rng.integers(0, 3)),
        min_tick_lots=int(rng.choice([0, 250])),
        max_tick_lots=int(rng.choice([0, 1_150])),
        band_up_ppm=int(rng.choice([0, 30_000])),
        band_down_ppm=20_000,
        replacement_counts_filled=bool(rng.integers(0, 2)),
        mark_from_mid=bool(rng.integers(0, 2)),
    )


def strategy(rng):
    """A contestant with one of the fill models."""
    return StrategyRow(
        queue_model=int(rng.choice(list(QueueModel))),
        queue_power=float(rng.choice([1.0, 2.0, 3.0])),
        lots_per_unit=float(rng.choice([1.0, 10.0])),
        partial_fills=bool(rng.integers(0, 2)),
        book_fills=bool(rng.integers(0, 4)),
        maker_fee_ppb=int(rng.choice([0, 20_000, -13_000])),
        taker_fee_ppb=250_000,
        rebate_share_ppm=np.array([0, 5_000, 50_000, 0]),
        rebate_ppb=np.array([7_000, 20_000, 130_001, 0]),
        rebate_least_tick_lots=int(rng.choice([0, 1])),
        request_ns=int(rng.integers(0, 30)),
        reply_ns=int(rng.integers(0, 30)),
        cancel_request_ns=int(rng.integers(0, 30)),
        cancel_reply_ns=int(rng.integers(0, 30)),
        recorded_latency=bool(rng.integers(0, 2)),
    )
