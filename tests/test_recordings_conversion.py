"""Conversion: the book rebuilt from the events equals the streaming readers', frame by frame."""

from itertools import pairwise, zip_longest
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_books import frames, oracle_books, store_books
from test_recordings import FRAMES, depth, quote, snapshot, trade, write_raw
from test_recordings_columns import BOOKS, write_tables

from market_maker.recordings.conversion import convert, open_sources
from market_maker.recordings.discovery import open_recording
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import CLEAR, GAP, NS_PER_HOUR, TRADE_BUY, TRADE_UNKNOWN, open_store

pytest.importorskip("polars")
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
S = 1_000_000_000
BTC = "BTC-USD"
GAP_NS = 10 * S


def converted(source, folder, **options):
    [info] = convert(open_sources(source), folder, replace=True, **options)
    return info, list(open_store(folder).hours(BTC))


def assert_same_books(source, folder, market=BTC, most=1 << 60):
    info = open_store(folder).info(market)
    gaps = [(begin + GAP_NS - 1, end) for begin, end in info.gaps if end - begin > GAP_NS]
    expected = oracle_books(open_recording(source, [market]).markets[market].events(), gaps)
    for number, (was, wanted) in enumerate(
        zip_longest(store_books(open_store(folder).hours(market)), expected)
    ):
        assert was == wanted
        if number > most:
            break


def test_tables_become_frames_with_trades_before_the_book(tmp_path):
    info, hours = converted(write_tables(tmp_path), tmp_path / "store")
    found = list(frames(hours))
    assert [len(rows) for _, _, rows in found] == [1, 4, 1, 3, 1, 1]
    assert found[0][2] == [(TRADE_BUY, 1005, 5)]
    assert found[1][2][0][0] == CLEAR
    assert found[-1][2] == [(TRADE_UNKNOWN, 1005, 10)]
    assert info.findings == {"trades_twice": 1}
    assert [source.name for source in info.sources] == [
        "BTC_book.parquet",
        "BTC_trades.parquet",
        "BTC_bbo.parquet",
    ]
    assert_same_books(tmp_path, tmp_path / "store")


def test_a_hole_breaks_the_book_until_the_next_snapshot(tmp_path):
    late = {"ts": [10 * S, 50 * S], "recv": [10 * S, 50 * S]}
    quotes = {"ts": [40 * S], "recv": [40 * S]}
    info, hours = converted(write_tables(tmp_path, book=late, bbo=quotes), tmp_path / "store")
    assert info.gaps == [(10 * S, 50 * S)]
    codes = [(at, rows[0][0]) for at, _, rows in frames(hours)]
    assert codes[-2:] == [(20 * S, GAP), (50 * S, CLEAR)]


def test_each_hour_starts_with_its_book(tmp_path):
    ts = [NS_PER_HOUR - S, NS_PER_HOUR + 5 * S]
    times = {"ts": ts, "recv": ts}
    trades = {"ts": [*times["ts"], NS_PER_HOUR + S], "side": [1, 1, 1], "id": ["1", "2", "3"]}
    columns = {**{name: [1.0] * 3 for name in ("sz",)}, "px": [100.5] * 3, **trades}
    columns["ts"] = columns["recv"] = sorted(columns["ts"])
    folder = write_tables(tmp_path, book=times, bbo={"ts": [ts[0]], "recv": [ts[0]]})
    pl = pytest.importorskip("polars")
    pl.DataFrame(columns).write_parquet(folder / "BTC_trades.parquet")
    _, hours = converted(folder, tmp_path / "store")
    assert len(hours) == 2
    first = next(frames(hours[1:]))
    assert first[2][0][0] == CLEAR
    assert first[0] == NS_PER_HOUR + S
    # The hour by itself gives the book that the quote before it left.
    assert next(store_books(hours[1:]))[1:] == ({1000: 5, 995: 30}, {1005: 20})


def test_one_offset_for_a_venue_whose_recorder_is_behind(tmp_path):
    behind = {"recv": [10 * S - 500_000_000, 11 * S - 450_000_000]}
    info, hours = converted(write_tables(tmp_path, book=behind), tmp_path / "store")
    assert info.clock_offset_ns == -500_000_000
    assert min(delay for _, delay, _ in frames(hours)) == 0


def test_raw_files_equal_their_reader(tmp_path):
    more = [
        quote(13, "100.2", "100.3", at=5),
        depth(14, at=6, bids=[["100.3", "1.000"]], pu=12),
        depth(12, at=6, bids=[["90.0", "1.000"]], pu=11),
        quote(12, "100.0", "100.4", at=7),
        snapshot(15, [["100.0", "5.000"]], [["100.2", "1.000"]], at=8),
        trade(9, "100.2", "0.500", at=9),
        depth(30, at=10, asks=[["100.2", "0.250"]], pu=29),
    ]
    source = tmp_path / "raw"
    source.mkdir()
    write_raw(source / "btcusdt.gz", FRAMES + more)
    info, hours = converted(source, tmp_path / "store")
    assert info.findings["sequence_breaks"] == 1
    assert GAP in {rows[0][0] for _, _, rows in frames(hours)}
    assert_same_books(source, tmp_path / "store")


@pytest.mark.parametrize("stage", ["grid", "row"])
def test_what_fails_leaves_nothing_behind(tmp_path, stage):
    changes = (
        {"trades": {"px": [100.5, None, 100.5, 1.0]}} if stage == "row" else {"book": {"bsz": [[1.5], [1.0]]}}
    )
    write_tables(tmp_path, **changes)
    with pytest.raises(RecordingError, match=r"row \d"):
        converted(tmp_path, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_sizes_beyond_the_format_are_refused_with_their_stamp(tmp_path):
    huge = {"bsz": [[1.5, 3.0], [5e9]]}
    write_tables(tmp_path, book=huge)
    with pytest.raises(
        RecordingError, match=rf"stamp {11 * S}: expected at most 4294967295 lots, was 50000000000"
    ):
        converted(tmp_path, tmp_path / "store")


def test_a_market_from_two_sources_is_refused(tmp_path):
    sources = open_sources(write_tables(tmp_path)) * 2
    with pytest.raises(RecordingError, match="expected each market from one source, was BTC-USD from more"):
        convert(sources, tmp_path / "store")


def test_a_conversion_tells_how_far_it_is(tmp_path):
    told = []
    write_tables(tmp_path)
    converted(tmp_path, tmp_path / "store", progress=lambda *state: told.append(state))
    assert told[-1][:2] == (BTC, 12 * S)


SIDE = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 3)), max_size=5, unique_by=lambda level: level[0]
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("book"), st.integers(0, 2), SIDE, SIDE),
        st.tuples(
            st.just("quote"), st.integers(0, 2), st.tuples(st.integers(1, 12), st.integers(0, 3)), SIDE
        ),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, jumps=st.lists(st.integers(0, 4000), min_size=30, max_size=30))
def test_any_books_and_quotes_give_the_readers_book(tmp_path, steps, jumps):
    """Crossed and empty books, quotes before and behind them, equal stamps, holes, and hours."""
    for file in tmp_path.glob("*.parquet"):
        file.unlink()
    at = NS_PER_HOUR
    books = {name: [] for name in BOOKS}
    quotes = {name: [] for name in ("ts", "recv", "bid", "bid_sz", "ask", "ask_sz")}
    for (kind, wait, first, second), jump in zip(steps, jumps, strict=False):
        at += wait * S // 2 + (jump * S if jump > 3900 else 0)
        if kind == "book":
            bids, asks = sorted(first, reverse=True), sorted(second)
            row = {"ts": at, "recv": at + S // 10, "bid": 1.0, "bid_sz": 1.0, "ask": 2.0, "ask_sz": 1.0}
            row |= {"bpx": [float(p) for p, _ in bids], "bsz": [float(q) for _, q in bids]}
            row |= {"apx": [float(p) for p, _ in asks], "asz": [float(q) for _, q in asks]}
            for name, value in row.items():
                books[name].append(value)
        else:
            other = second[0] if second else (first[0] + 1, 2)
            values = (at, at + S // 10, float(first[0]), float(first[1]), float(other[0]), float(other[1]))
            for name, value in zip(quotes, values, strict=True):
                quotes[name].append(value)
    # One row that shows the grid.
    row = {**BOOKS, "ts": [at + S], "recv": [at + S]}
    for name in books:
        books[name].append(
            [1.0] if name in ("bpx", "bsz") else [2.0] if name in ("apx", "asz") else row[name][0]
        )
    trades = {"ts": [NS_PER_HOUR], "recv": [NS_PER_HOUR], "px": [1.0], "sz": [1.0], "side": [1]}
    pl = pytest.importorskip("polars")
    pl.DataFrame(books).write_parquet(tmp_path / "BTC_book.parquet")
    pl.DataFrame(trades).write_parquet(tmp_path / "BTC_trades.parquet")
    if quotes["ts"]:
        pl.DataFrame(quotes).write_parquet(tmp_path / "BTC_bbo.parquet")
    converted(tmp_path, tmp_path / "store")
    assert_same_books(tmp_path, tmp_path / "store")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "market"),
    [
        ("hyperliquid-2025-09-04", "ETH-USD"),
        ("hyperliquid-2025-09-04", "WLFI-USD"),
        ("binance-usdm-2024-08-08", BTC),
    ],
)
def test_real_recordings_give_the_readers_book(tmp_path, folder, market):
    if not (DATA / folder).exists():
        pytest.skip("no recordings here")
    convert(open_sources(DATA / folder, [market]), tmp_path)
    assert_same_books(DATA / folder, tmp_path, market, most=3_000)
    for hour in open_store(tmp_path).hours(market):
        stamps = [at for at, _, _ in frames([hour])]
        assert all(earlier <= later for earlier, later in pairwise(stamps))
