"""Made bars of a quiet market that falls once."""

from decimal import Decimal

import numpy as np

from market_maker.backtest.stress_bars import NS_PER_MINUTE, BarDay
from market_maker.instrument import Instrument

START_NS = 1_700_006_400 * 10**9
assert START_NS % (24 * 60 * NS_PER_MINUTE) == 0


def made_day(minutes=90, crash_at=60, seed=1, market="BTC", fall=0.1, date="2023-11-15"):
    """Minutes of a random walk of about 10 bps, and one that falls by a share of the price."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 10e-4, minutes)
    steps[crash_at : crash_at + 1] = -fall
    close = 40_000 * np.exp(np.cumsum(steps))
    open_ = np.concatenate([[40_000], close[:-1]])
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 3e-4, minutes)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 3e-4, minutes)))
    ticks = np.column_stack(
        [np.clip(np.rint(open_), np.rint(low), np.rint(high)), np.rint(high), np.rint(low), np.rint(close)]
    ).astype(np.int64)
    lots = rng.integers(500_000, 2_000_000, minutes)
    lots[crash_at : crash_at + 2] *= 8
    instrument = Instrument(market, Decimal(1), Decimal("0.0001"), Decimal("0.0001"))
    return BarDay("made", market, date, instrument, START_NS, ticks, lots)
