"""How fast recordings become events: Parquet snapshots of 20 levels, and Tardis CSV, as gzip and plain.

The data are made here, so that the figures need no recordings. `rows` are levels, quotes and trades read,
`events` what was written: of a snapshot, only the levels that changed are.
"""

import gzip
import json
import platform
import resource
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from market_maker.clock import SystemClock
from market_maker.recordings.conversion import convert, open_sources

SNAPSHOTS: Final = 100_000
DEPTH: Final = 20
CHANGES: Final = 4_000_000
START_NS: Final = 1_767_653_689_000_000_000
LEAST_ROWS_PER_S: Final = 1_000_000


def write_parquet(folder: Path) -> int:
    """Write snapshots of a walking book, and trades; return the number of rows."""
    rng = np.random.default_rng(1)
    ts = START_NS + np.arange(SNAPSHOTS) * 250_000_000
    mid = 60_000 + np.cumsum(rng.integers(-1, 2, SNAPSHOTS)) * 0.1
    sizes = rng.integers(1, 5_000, (SNAPSHOTS, 2, DEPTH)) / 1_000
    # Four levels of five stay as they were.
    for row in range(1, SNAPSHOTS):
        kept = rng.random((2, DEPTH)) < 0.8
        sizes[row][kept] = sizes[row - 1][kept]
    steps = np.arange(1, DEPTH + 1) * 0.1
    bids, asks = np.round(mid[:, None] - steps, 1), np.round(mid[:, None] + steps, 1)
    pl.DataFrame(
        {
            "ts": ts,
            "recv": ts + 50_000_000,
            "bid": bids[:, 0],
            "bid_sz": sizes[:, 0, 0],
            "ask": asks[:, 0],
            "ask_sz": sizes[:, 1, 0],
            "bpx": bids.tolist(),
            "bsz": sizes[:, 0].tolist(),
            "apx": asks.tolist(),
            "asz": sizes[:, 1].tolist(),
        }
    ).write_parquet(folder / "BTC_book.parquet")
    pl.DataFrame(
        {
            "ts": ts,
            "recv": ts + 50_000_000,
            "px": asks[:, 0],
            "sz": sizes[:, 1, 0],
            "side": np.ones(SNAPSHOTS, int),
        }
    ).write_parquet(folder / "BTC_trades.parquet")
    return SNAPSHOTS * (2 * DEPTH + 1)


def write_tardis(path: Path) -> int:
    """Write changes of levels, five to a message; return the number of rows."""
    rng = np.random.default_rng(2)
    stamps = START_NS // 1_000 + np.arange(CHANGES) // 5 * 1_000
    is_bid = rng.random(CHANGES) < 0.5
    away = rng.integers(1, 500, CHANGES)
    ticks = np.where(is_bid, 600_000 - away, 600_000 + away)
    frame = pl.DataFrame(
        {
            "exchange": ["made"] * CHANGES,
            "symbol": ["BTCUSDT"] * CHANGES,
            "timestamp": stamps,
            "local_timestamp": stamps + 40_000,
            "is_snapshot": np.arange(CHANGES) < 5,
            "side": np.where(is_bid, "bid", "ask"),
            "price": np.round(ticks * 0.1, 1),
            "amount": rng.integers(0, 5_000, CHANGES) / 1_000,
        }
    )
    content = frame.write_csv().encode()
    path.write_bytes(gzip.compress(content, 6) if path.suffix == ".gz" else content)
    return CHANGES


def measure(path: Path, rows: int) -> dict[str, float]:
    """Convert twice, once to compile; time the second."""
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        convert(open_sources(path), Path(folder) / "first")
        began, busy = clock.perf_ns(), resource.getrusage(resource.RUSAGE_SELF)
        infos = convert(open_sources(path), Path(folder) / "second")
        seconds, after = (clock.perf_ns() - began) / 1e9, resource.getrusage(resource.RUSAGE_SELF)
    events = sum(sum(info.counts.values()) for info in infos)
    return {
        "rows": rows,
        "events": events,
        "seconds": round(seconds, 2),
        "processor_s": round(after.ru_utime + after.ru_stime - busy.ru_utime - busy.ru_stime, 2),
        "rows_per_s": round(rows / seconds),
        "events_per_s": round(events / seconds),
    }


def main() -> int:
    """Print the figures as JSON; 1 if fewer than a million rows a second are read."""
    with tempfile.TemporaryDirectory() as folder:
        tables, plain, packed = (Path(folder) / name for name in ("tables", "made.csv", "made.csv.gz"))
        tables.mkdir()
        figures = {
            "parquet": measure(tables, write_parquet(tables)),
            "tardis_csv": measure(plain, write_tardis(plain)),
            "tardis_csv_gz": measure(packed, write_tardis(packed)),
        }
    sys.stdout.write(json.dumps({"python": platform.python_version(), **figures}, indent=2) + "\n")
    return int(min(figure["rows_per_s"] for figure in figures.values()) < LEAST_ROWS_PER_S)


if __name__ == "__main__":
    sys.exit(main())
