"""Parquet recordings: three tables to one stream, and the row that is wrong named."""

import sys
from decimal import Decimal

import pytest

from market_maker.domain import Side, Trade
from market_maker.recordings.discovery import open_recording
from market_maker.recordings.events import RecordingError
from market_maker.recordings.grid import Grid


def events(path):
    [market] = open_recording(path).markets.values()
    return list(market.events())


S = 1_000_000_000
BOOKS = {
    "ts": [10 * S, 11 * S],
    "recv": [10 * S, 11 * S],
    "bid": [100.0, 100.0],
    "bid_sz": [1.5, 1.0],
    "ask": [100.5, 100.5],
    "ask_sz": [2.0, 2.0],
    "bpx": [[100.0, 99.5], [100.0]],
    "bsz": [[1.5, 3.0], [1.0]],
    "apx": [[100.5], [100.5, 101.0]],
    "asz": [[2.0], [2.0, 7.5]],
}
TRADES = {
    "ts": [9 * S, 11 * S, 12 * S, 12 * S],
    "recv": [9 * S, 11 * S, 12 * S, 30 * S],
    "px": [100.5, 100.0, 100.5, 100.5],
    "sz": [0.5, 0.5, 1.0, 1.0],
    "side": [1, -1, 0, 0],
    "id": ["7", "8", "9", "9"],
}
QUOTES = {
    "ts": [11 * S],
    "recv": [11 * S],
    "bid": [100.0],
    "bid_sz": [0.5],
    "ask": [100.5],
    "ask_sz": [2.0],
}


def write_tables(folder, name="BTC", **changes):
    pl = pytest.importorskip("polars")
    for kind, columns in (("book", BOOKS), ("trades", TRADES), ("bbo", QUOTES)):
        pl.DataFrame({**columns, **changes.get(kind, {})}).write_parquet(folder / f"{name}_{kind}.parquet")
    return folder


def test_parquet_streams_are_merged_trades_first(tmp_path):
    stream = events(write_tables(tmp_path))
    assert [type(event).__name__ for _, event in stream] == [
        "Trade",
        "BookUpdate",
        "Trade",
        "BookUpdate",
        "BestQuote",
        "Trade",
    ]
    first = stream[1][1]
    assert (first.bids, first.asks) == ([(1000, 15), (995, 30)], [(1005, 20)])


def test_parquet_trades_sent_twice_are_told_once_and_unknown_sides_inferred(tmp_path):
    trades = [event for _, event in events(write_tables(tmp_path)) if isinstance(event, Trade)]
    assert [(event.trade_id, event.taker_side) for event in trades] == [
        (7, Side.BUY),
        (8, Side.SELL),
        (9, Side.BUY),
    ]


def test_one_file_of_a_folder_opens_its_market_alone(tmp_path):
    write_tables(tmp_path, "BTC")
    write_tables(tmp_path, "ETH")
    assert list(open_recording(tmp_path).markets) == ["BTC-USD", "ETH-USD"]
    recording = open_recording(tmp_path / "ETH_trades.parquet")
    assert list(recording.markets) == ["ETH-USD"]
    market = recording.markets["ETH-USD"]
    assert (market.first_ns, market.last_ns) == (10 * S, 12 * S)


def test_book_shown_rounded_down_is_moved_off_its_lock(tmp_path):
    shown = {"bid": [100.0, 100.0], "ask": [100.0, 100.0], "apx": [[100.0], [100.0, 100.5]]}
    folder = write_tables(tmp_path, book=shown, trades={"px": [100.04, 100.01, 100.06, 100.06]})
    (folder / "BTC_bbo.parquet").unlink()
    first = events(folder)[1][1]
    assert first.bids[0][0] < first.asks[0][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trades": {"ts": [9 * S, 20 * S, 12 * S, 30 * S]}}, r"BTC_trades\.parquet, row 2: expected stamps"),
        (
            {"trades": {"px": [100.5, None, 100.5, 1.0]}},
            r"BTC_trades\.parquet, row 1: expected a value in px",
        ),
        ({"book": {"bsz": [[1.5], [1.0]]}}, r"BTC_book\.parquet, row 0: expected 2 sizes in bsz"),
        (
            {"trades": {"id": ["7", "x", "9", "9"]}},
            r"BTC_trades\.parquet, from row 0: expected whole numbers",
        ),
    ],
)
def test_spoilt_parquet_rows_are_named(tmp_path, changes, message):
    folder = write_tables(tmp_path, **changes)
    with pytest.raises(RecordingError, match=message):
        events(folder)


def test_values_off_a_given_grid_are_named(tmp_path):
    folder = write_tables(tmp_path)
    market = open_recording(folder, ["BTC-USD"], {"BTC-USD": Grid(Decimal(1), Decimal("0.1"))}).markets[
        "BTC-USD"
    ]
    with pytest.raises(
        RecordingError, match=r"row 0: expected a price in (apx|px) that is a multiple of 1, was"
    ):
        list(market.events())


def test_truncated_parquet_missing_column_and_missing_file(tmp_path):
    pl = pytest.importorskip("polars")
    write_tables(tmp_path)
    book = tmp_path / "BTC_book.parquet"
    whole = book.read_bytes()
    book.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match=r"BTC_book\.parquet: expected a whole Parquet file"):
        open_recording(tmp_path)
    pl.DataFrame({"ts": [1]}).write_parquet(book)
    with pytest.raises(RecordingError, match=r"expected the columns ts, recv, .* was without recv"):
        open_recording(tmp_path)
    book.write_bytes(whole)
    (tmp_path / "BTC_trades.parquet").unlink()
    with pytest.raises(
        RecordingError, match=r"BTC_trades\.parquet: expected the trades of BTC, was not there"
    ):
        open_recording(tmp_path)


def test_empty_parquet_is_refused(tmp_path):
    pl = pytest.importorskip("polars")
    write_tables(tmp_path)
    path = tmp_path / "BTC_trades.parquet"
    pl.read_parquet(path).clear().write_parquet(path)
    with pytest.raises(RecordingError, match="expected rows, was empty"):
        open_recording(tmp_path)


def test_missing_polars_says_what_to_install(tmp_path, monkeypatch):
    for kind in ("book", "trades"):
        (tmp_path / f"BTC_{kind}.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(RecordingError, match=r"needs polars; install the extra"):
        open_recording(tmp_path)
