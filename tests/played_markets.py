"""A generated market as a recording on disk: Parquet books and trades that calibrate and fill."""

import numpy as np

S = 10**9
START_NS = 1_767_225_600 * S
LEVELS = 10


def write_market(folder, name="BTC", *, seed=1, seconds=120, sure=None, changes=None):
    """Write NAME_book.parquet and NAME_trades.parquet: a book four times a second, about a trade a second.

    Trades reach a geometric distance into the book. `sure` is the share of trades whose taker is certain;
    None leaves the column out. `changes` maps a table's name to columns to be put in their place.
    """
    import polars as pl

    rng = np.random.default_rng(seed)
    count = 4 * seconds
    stamps = START_NS + np.arange(count) * S // 4
    mid = 100_000 + np.cumsum(rng.integers(-3, 4, count))
    steps = np.arange(1, LEVELS + 1)
    bids, asks = mid[:, None] - steps, mid[:, None] + steps
    sizes = rng.integers(50, 2_000, (2, count, LEVELS)) / 1_000
    book = {
        "ts": stamps,
        "recv": stamps + rng.integers(1, 9, count) * 1_000_000,
        "bid": bids[:, 0] / 10,
        "bid_sz": sizes[0, :, 0],
        "ask": asks[:, 0] / 10,
        "ask_sz": sizes[1, :, 0],
        "bpx": (bids / 10).tolist(),
        "bsz": sizes[0].tolist(),
        "apx": (asks / 10).tolist(),
        "asz": sizes[1].tolist(),
    }
    at = np.sort(rng.integers(1, count, 2 * seconds))
    side = rng.choice([-1, 1], at.size)
    depth = rng.geometric(0.4, at.size)
    trades = {
        "ts": stamps[at] + S // 8,
        "recv": stamps[at] + S // 8 + 2_000_000,
        "px": (mid[at] + side * depth) / 10,
        "sz": rng.integers(1, 800, at.size) / 1_000,
        "side": side.astype(np.int8),
    }
    if sure is not None:
        trades["side_sure"] = rng.random(at.size) < sure
    given = changes or {}
    for table, columns in (("book", book), ("trades", trades)):
        frame = pl.DataFrame({**columns, **given.get(table, {})})
        frame.write_parquet(folder / f"{name}_{table}.parquet")
    return folder
