"""Stress days: bars as they are read, and the book that is made to follow them."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stress_bars import START_NS, made_day

from market_maker.backtest.stress_bars import NS_PER_MINUTE, crash_hour, read_days, stress_instrument
from market_maker.backtest.stress_book import StressBook
from market_maker.backtest.stress_path import walk
from market_maker.recordings import store
from market_maker.recordings.events import RecordingError

pl = pytest.importorskip("polars")
RECORDED = Path(__file__).parents[2] / "shared" / "data" / "bars" / "crash-days-1m.parquet"
MADE = datetime(2024, 8, 5, tzinfo=UTC)


def table(**columns):
    rows = {
        "source": ["made"] * 3,
        "market": ["BTC"] * 3,
        "ts": [MADE + timedelta(minutes=n) for n in range(3)],
        "open": [100.0, 101.0, 100.0],
        "high": [102.0, 101.0, 103.0],
        "low": [99.0, 99.5, 100.0],
        "close": [101.0, 100.0, 102.5],
        "volume": [10.0, 0.0, 5.0],
        **columns,
    }
    return pl.DataFrame({name: column for name, column in rows.items() if column is not None})


def read(tmp_path, **columns):
    table(**columns).write_parquet(tmp_path / "bars.parquet")
    return read_days(tmp_path / "bars.parquet")


def codes_of(hour):
    return hour.kind & store.CODE_MASK


def books(hour):
    """Each book: stamp, bids and asks as (ticks, lots)."""
    starts = np.flatnonzero(codes_of(hour) == store.CLEAR)
    ends = np.flatnonzero((hour.kind & store.LAST) > 0)
    for start in starts:
        rows = slice(start + 1, int(ends[np.searchsorted(ends, start)]) + 1)
        codes, ticks = codes_of(hour)[rows], hour.ticks[rows].astype(int)
        bids, asks = codes == store.LEVEL_BID, codes == store.LEVEL_ASK
        lots = hour.lots[rows].astype(int)
        yield hour.venue_ns[start], (ticks[bids], lots[bids]), (ticks[asks], lots[asks])


def assert_trades_are_the_bars(day, hours):
    """Open first, close last, high, low and volume, of each minute of a day."""
    columns = [np.concatenate(parts) for parts in zip(*hours, strict=True)]
    codes = columns[2] & store.CODE_MASK
    trades = (codes == store.TRADE_BUY) | (codes == store.TRADE_SELL)
    minute = (columns[0][trades] - day.start_ns) // NS_PER_MINUTE
    ticks, lots = columns[3][trades].astype(int), columns[4][trades].astype(int)
    bounds = np.searchsorted(minute, np.arange(len(day.lots) + 1))
    for at, (open_, high, low, close) in enumerate(day.ticks.tolist()):
        rows = slice(bounds[at], bounds[at + 1])
        assert lots[rows].sum() == day.lots[at], at
        if day.lots[at] >= 4:
            found = ticks[rows]
            assert (found[0], found.max(), found.min(), found[-1]) == (open_, high, low, close), at


def test_bars_come_by_day_on_a_grid_of_their_own(tmp_path):
    (day,) = read(tmp_path)
    assert (day.name, day.source) == ("BTC-USD 2024-08-05", "made")
    assert str(day.instrument.tick) == "0.001"
    assert str(day.instrument.step) == "0.01"
    assert day.ticks[0].tolist() == [100_000, 102_000, 99_000, 101_000]
    assert day.lots.tolist() == [1_000, 0, 500]


def test_a_bitmex_contract_is_a_dollar(tmp_path):
    (day,) = read(tmp_path, source=["bitmex perp"] * 3)
    assert day.lots[0] == round(10.0 / 101.0 / float(day.instrument.step))


def test_a_minute_without_a_bar_stands_still(tmp_path):
    (day,) = read(tmp_path, ts=[MADE, MADE + timedelta(minutes=2), MADE + timedelta(minutes=3)])
    assert day.lots.tolist() == [1_000, 0, 0, 500]
    assert day.ticks[1].tolist() == [101_000] * 4


def test_an_open_outside_its_bar_is_moved_into_it(tmp_path):
    (day,) = read(tmp_path, open=[98.0, 101.0, 104.0])
    assert day.ticks[:, 0].tolist() == [99_000, 101_000, 103_000]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"volume": None}, "without volume"),
        ({"close": [101.0, 102.0, 102.5]}, r"BTC, 2024-08-05T00:01:00: expected low ≤ close ≤ high"),
        ({"low": [99.0, 99.5, None]}, r"2024-08-05T00:02:00: expected low"),
        ({"volume": [1.0, -1.0, 1.0]}, r"2024-08-05T00:01:00"),
        ({"ts": [MADE, MADE, MADE + timedelta(minutes=1)]}, "expected a minute after 2024-08-05T00:00:00"),
        ({"ts": [MADE + timedelta(minutes=n, seconds=1) for n in range(3)]}, "start on a minute"),
        ({"open": ["a", "b", "c"]}, "expected a Parquet table of bars"),
    ],
)
def test_what_is_no_bar_is_refused_with_its_place(tmp_path, columns, expected):
    with pytest.raises(RecordingError, match=expected):
        read(tmp_path, **columns)


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing else"])
def test_what_is_no_table_is_refused(tmp_path, content):
    (tmp_path / "bars.parquet").write_bytes(content)
    with pytest.raises(RecordingError, match="expected a Parquet table of bars"):
        read_days(tmp_path / "bars.parquet")


def test_an_empty_table_is_refused(tmp_path):
    table().clear().write_parquet(tmp_path / "bars.parquet")
    with pytest.raises(RecordingError, match="was an empty table"):
        read_days(tmp_path / "bars.parquet")


@given(st.floats(1e-6, 1e6))
def test_a_tick_is_small_and_a_lot_is_cheap(price):
    made = stress_instrument("X", price)
    assert 0.049 <= float(made.tick) / price * 1e4 <= 0.51
    assert 0.49 <= float(made.step) * price <= 5.01


def test_the_hour_of_the_crash_is_where_the_deepest_fall_begins():
    assert crash_hour([made_day(240, 150)]) == 2
    assert crash_hour([made_day(240, 70, fall=0.05), made_day(240, 239, fall=0.2)]) == 3
    assert crash_hour([made_day(240, 0)]) == 0


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.0, 0.6))
def test_each_bar_trades_at_its_prices_and_in_its_volume(seed, fall):
    day = made_day(8, 4, seed % 1000, fall=fall)
    assert_trades_are_the_bars(day, list(StressBook(day, seed).hours()))


@pytest.mark.parametrize("lots", [0, 1, 3, 4, 5])
def test_a_bar_of_few_lots_or_of_one_price_trades_no_more(lots):
    day = made_day(3)
    flat = np.repeat(day.ticks[:, 3:], 4, axis=1)
    for ticks in (day.ticks, flat):
        few = replace(day, ticks=ticks, lots=np.full(3, lots))
        assert_trades_are_the_bars(few, list(StressBook(few).hours()))


@pytest.mark.slow
def test_events_are_those_of_the_format():
    for hour in StressBook(made_day(90)).hours():
        assert (np.diff(hour.venue_ns) >= 0).all()
        assert set(codes_of(hour).tolist()) <= set(store.CODES)
        assert hour.kind[-1] & store.LAST
        assert (hour.delay_us > 0).all()
        # Rows of a frame have one stamp and one delay.
        inside = (hour.kind[:-1] & store.LAST) == 0
        assert (hour.venue_ns[1:][inside] == hour.venue_ns[:-1][inside]).all()
        assert (hour.delay_us[1:][inside] == hour.delay_us[:-1][inside]).all()
        assert ((hour.lots > 0) | (codes_of(hour) == store.CLEAR) | (codes_of(hour) == store.MARK)).all()


@pytest.mark.slow
def test_the_book_is_never_crossed_and_its_levels_are_in_order():
    for hour in StressBook(made_day(12, 6, fall=0.3)).hours():
        for _, (bids, bid_lots), (asks, ask_lots) in books(hour):
            assert bids.max() < asks.min()
            assert (np.diff(bids) < 0).all()
            assert (np.diff(asks) < 0).all()
            assert min(bid_lots.min(), ask_lots.min()) > 0


@pytest.mark.slow
def test_a_crash_widens_the_spread_thins_the_book_and_gaps_its_levels():
    day = made_day(60, 40)
    (hour,) = StressBook(day).hours()
    spreads, depths, gaps = [[], []], [[], []], [[], []]
    for ns, (bids, lots), (asks, _) in books(hour):
        minute = (ns - day.start_ns) / NS_PER_MINUTE
        if 10 <= minute < 40 or 40.9 <= minute < 41.1:
            which = int(minute >= 40)
            spreads[which].append(asks.min() - bids.max())
            depths[which].append(lots[bids >= bids.max() * 0.999].sum())
            gaps[which].append(-np.diff(bids)[:5].mean())
    assert np.median(spreads[1]) > 10 * np.median(spreads[0])
    assert np.median(depths[1]) < 0.2 * np.median(depths[0])
    assert np.median(gaps[1]) > 10 * np.median(gaps[0])


@pytest.mark.slow
def test_the_mark_follows_the_mid_a_little_late():
    day = made_day(60, 40)
    (hour,) = StressBook(day).hours()
    found = list(books(hour))
    ns = np.array([at for at, _, _ in found])
    mids = np.array([(bids.max() + asks.min()) / 2 for _, (bids, _), (asks, _) in found])
    rows = codes_of(hour) == store.MARK
    marks, at = hour.ticks[rows] / store.PRICE_PARTS, hour.venue_ns[rows]

    def distance(lag_s):
        known = np.searchsorted(ns, at - int(lag_s * 1e9), side="right") - 1
        return np.abs(marks - mids[np.maximum(known, 0)])[30:].mean()

    assert rows.sum() == 3_600
    assert distance(2.0) < distance(0.0) < distance(20.0)
    assert distance(2.0) < 1e-3 * mids.mean()


def test_the_path_stays_within_its_bars_and_touches_both_ends():
    day = made_day(60, 30)
    path = walk(day.ticks, 40.0, np.random.default_rng(1))
    _, high, low, _ = day.ticks.T[:, :, None]
    assert (path.mid <= high).all()
    assert (path.mid >= low).all()
    reach = (path.mid.max(axis=1) - path.mid.min(axis=1)) / (high - low)[:, 0]
    assert reach.min() > 0.4


def digest(day, seed=1, **span):
    hashed = hashlib.sha256()
    for hour in StressBook(day, seed).hours(**span):
        for column in hour:
            hashed.update(np.ascontiguousarray(column).tobytes())
    return hashed.hexdigest()


@pytest.mark.slow
def test_the_same_day_and_seed_are_the_same_bytes_here_and_in_another_process():
    day = made_day(70)
    assert digest(day) == digest(made_day(70))
    assert digest(day) != digest(day, seed=2)
    assert digest(day) != digest(replace(day, market="ETH"))
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]);"
        "from test_backtest_stress_book import digest, made_day; print(json.dumps(digest(made_day(70))))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert json.loads(child.stdout) == digest(day)


@pytest.mark.slow
def test_hours_are_made_when_they_are_asked_for():
    day = made_day(180)
    spans = [(int(hour.venue_ns[0]) - START_NS) // (60 * NS_PER_MINUTE) for hour in StressBook(day).hours()]
    assert spans == [0, 1, 2]
    (later,) = StressBook(day).hours(1, 1)
    assert (int(later.venue_ns[0]) - START_NS) // (60 * NS_PER_MINUTE) == 1
    assert next(iter(StressBook(day).hours())).venue_ns[-1] < START_NS + 60 * NS_PER_MINUTE


@pytest.mark.slow
@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded bars are not here")
def test_recorded_days_trade_as_they_did():
    days = read_days(RECORDED)
    assert len(days) == 6
    for day in days:
        # Two hours around the crash, to be quick.
        first = crash_hour([day])
        span = slice(60 * first, 60 * (first + 2))
        part = replace(
            day,
            ticks=day.ticks[span],
            lots=day.lots[span],
            start_ns=day.start_ns + 60 * first * NS_PER_MINUTE,
        )
        assert_trades_are_the_bars(part, list(StressBook(part).hours()))
