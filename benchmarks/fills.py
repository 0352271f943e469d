"""Rows of a market a second through fills, signals, decisions and limits: one setting, and 64 in one pass.

A made market of levels, trades and best quotes about 10 ms apart; two levels a side, latencies of 10 ms, a
timer of 250 ms. The kernels are compiled before the clock starts.
"""

import json
import sys
from decimal import Decimal

import numpy as np

from market_maker.backtest.host import Contestant, MarketMakerRun
from market_maker.clock import SystemClock
from market_maker.fills.rows import StrategyRow
from market_maker.instrument import Instrument
from market_maker.recordings import store
from market_maker.recordings.store import Hour

ROWS = {1: 400_000, 64: 50_000}
WARM_ROWS = 1_000
MS = 1_000_000
INSTRUMENT = Instrument("BTC-USD", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"))


def market(rows: int) -> Hour:
    """Rows of a market whose mid walks by single ticks; each row is a frame but those of a best quote."""
    rng = np.random.default_rng(1)
    what = rng.choice(4, rows, p=[0.12, 0.08, 0.4, 0.4])
    mid = 600_000 + np.cumsum(np.where(what == 1, rng.choice([-1, 1], rows), 0))
    side = rng.choice([-1, 1], rows)
    off = np.where(what < 2, 1, rng.integers(1, 20, rows))
    kinds = np.where(
        what == 0,
        np.where(side > 0, store.TRADE_BUY, store.TRADE_SELL),
        np.where(
            what == 1,
            np.where(side > 0, store.BEST_ASK, store.BEST_BID),
            np.where(side > 0, store.LEVEL_ASK, store.LEVEL_BID),
        ),
    )
    return Hour(
        np.cumsum(rng.integers(1, 20, rows) * MS) + 10**9,
        np.full(rows, 5_000, np.int32),
        (kinds | store.LAST).astype(np.uint8),
        (mid + side * off).astype(np.int32),
        rng.integers(1, 3_000, rows).astype(np.uint32),
    )


def measure(contestants: int, rows: int) -> dict[str, float]:
    """Seconds and rates of one run."""
    travel = StrategyRow(
        request_ns=10 * MS, reply_ns=10 * MS, cancel_request_ns=10 * MS, cancel_reply_ns=10 * MS
    )
    hour, clock = market(rows), SystemClock()
    run = MarketMakerRun(INSTRUMENT, [Contestant(fills=travel)] * contestants)
    begun_ns = clock.perf_ns()
    log = run.run([hour]).log
    seconds = (clock.perf_ns() - begun_ns) / 1e9
    return {
        "settings": contestants,
        "rows": rows,
        "seconds": round(seconds, 3),
        "rows_per_s": round(rows / seconds),
        "ns_per_row_and_setting": round(seconds / rows / contestants * 1e9),
        "decisions": int(sum(risk.decisions for risk in run.bench.risks)),
        "log_rows": len(log),
    }


def main(rows: dict[int, int] | None = None) -> dict[str, dict[str, float]]:
    """Measure every number of settings."""
    measure(1, WARM_ROWS)
    return {f"k{count}": measure(count, length) for count, length in (rows or ROWS).items()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(), indent=2) + "\n")
