"""A made market that is as the models have it: the mid a random walk, orders that reach δ at A·exp(−k·δ)."""

from itertools import pairwise

import numpy as np

from market_maker.domain import NS_PER_S
from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    CLEAR,
    LAST,
    LEVEL_ASK,
    LEVEL_BID,
    TRADE_BUY,
    TRADE_SELL,
    Hour,
)

START_NS = 1_767_653_640 * NS_PER_S  # 2026-01-05T22:54:00Z


def model_market(
    seconds, a_per_s=2.0, k_per_tick=0.25, sigma_ticks=3.0, seed=1, start_ns=START_NS, mid=60_000
):
    """Rows of a book two ticks wide, quoted anew each half second, and of the orders between."""
    rng = np.random.default_rng(seed)
    rows = [
        (start_ns, code, ticks, 100)
        for code, ticks in ((CLEAR, 0), (LEVEL_BID, mid - 1), (LEVEL_ASK, mid + 1))
    ]
    exact = float(mid)
    for half in range(1, 2 * seconds + 1):
        at_ns = start_ns + half * NS_PER_S // 2
        for side, code in ((1, TRADE_BUY), (-1, TRADE_SELL)):
            for _ in range(rng.poisson(a_per_s / 2.0)):
                # Just before the next quote, so that it meets the one in force.
                reach = int(rng.exponential(1.0 / k_per_tick)) + 1
                rows.append((at_ns - int(rng.integers(1, NS_PER_S // 2)), code, mid + side * reach, 10))
        exact += rng.normal(0.0, sigma_ticks * 0.5**0.5)
        mid = round(exact)
        rows += [(at_ns, BEST_BID, mid - 1, 100), (at_ns, BEST_ASK, mid + 1, 100)]
    rows.sort(key=lambda row: row[0])
    return as_hour(rows)


def as_hour(rows):
    """Rows (ns, code, ticks, lots) in the order of time; rows of one stamp are a frame."""
    ns, codes, ticks, lots = zip(*rows, strict=True)
    ends = np.append(np.diff(ns) != 0, True)
    return Hour(
        np.array(ns, np.int64),
        np.zeros(len(rows), np.int32),
        np.array(codes, np.uint8) | np.where(ends, LAST, 0).astype(np.uint8),
        np.array(ticks, np.int32),
        np.array(lots, np.uint32),
    )


def pieces(hour, count):
    """About as many pieces, cut between stamps."""
    bounds = np.flatnonzero(np.diff(hour.venue_ns)) + 1
    chosen = [0, *bounds[:: max(1, len(bounds) // count)].tolist(), len(hour.venue_ns)]
    return [Hour(*(column[i:j] for column in hour)) for i, j in pairwise(chosen) if j > i]
