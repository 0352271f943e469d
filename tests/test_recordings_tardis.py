"""Tardis CSV: the same events as a plain reading of the lines gives; bad lines are named."""

import csv
import gzip
import io

import numpy as np
import pytest
from store_books import frames, oracle_books, store_books

from market_maker.domain import BookUpdate
from market_maker.recordings import csv_blocks
from market_maker.recordings.conversion import convert, open_sources
from market_maker.recordings.events import BestQuote, RecordingError
from market_maker.recordings.store import FUNDING, INDEX, MARK, TRADE_BUY, TRADE_SELL, open_store

pytest.importorskip("polars")
T0 = 1_598_918_403_696_000
BTC = "BTC-USD"
HEADS = {
    "book": "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
    "trades": "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
    "quotes": "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
    "ticker": "exchange,symbol,timestamp,local_timestamp,funding_timestamp,funding_rate,"
    "predicted_funding_rate,open_interest,last_price,index_price,mark_price",
}
BOOK = [
    (0, "true,bid,100.0,2.0"),
    (0, "true,ask,100.5,3.0"),
    (0, "true,ask,101.0,1.0"),
    (5, "false,bid,100.1,1.5"),
    (5, "false,ask,100.5,0"),
    (9, "false,bid,101.0,1.0"),
    (20, "true,bid,99.0,2.0"),
    (20, "true,ask,99.5,3.0"),
    (21, "false,ask,99.5,2.5"),
]


def lines(kind, rows):
    text = "".join(f"binance-futures,BTCUSDT,{T0 + at},{T0 + at + 40},{rest}\n" for at, rest in rows)
    return HEADS[kind] + "\n" + text


def write(folder, **kinds):
    folder.mkdir(exist_ok=True)
    for kind, rows in kinds.items():
        (folder / f"{kind}.csv.gz").write_bytes(gzip.compress(lines(kind, rows).encode()))
    return folder


def converted(source, folder):
    [info] = convert(open_sources(source), folder, replace=True)
    return info, list(open_store(folder).hours(BTC))


def plain_events(rows, quotes=()):
    """Messages of the lines, one by one, as the streaming readers would give them."""
    groups = {}
    for number, (at, rest) in enumerate(rows):
        is_snapshot, side, price, amount = rest.split(",")
        starts = is_snapshot == "true" and (number == 0 or rows[number - 1][1].startswith("false"))
        key = (at, is_snapshot == "true")
        bids, asks, _ = groups.setdefault(key, ([], [], starts))
        (bids if side == "bid" else asks).append((round(float(price) * 10), round(float(amount) * 10)))
    found = [
        ((T0 + at) * 1000, BookUpdate(BTC, first, bids, asks, (T0 + at) * 1000, 0, 0))
        for (at, _), (bids, asks, first) in groups.items()
    ]
    for at, rest in quotes:
        ask_lots, ask, bid, bid_lots = (round(float(value) * 10) for value in rest.split(","))
        found.append(((T0 + at) * 1000, BestQuote(BTC, bid, bid_lots, ask, ask_lots, (T0 + at) * 1000, 0, 0)))
    return sorted(found, key=lambda item: item[0])


def test_book_equals_a_plain_reading_of_the_lines(tmp_path):
    quotes = [(6, "1.0,100.6,100.2,0.5"), (7, "1.0,100.6,100.1,0.5"), (21, "9.0,99.6,98.9,1.0")]
    info, hours = converted(write(tmp_path / "csv", book=BOOK, quotes=quotes), tmp_path / "store")
    assert info.venue == "binance-futures"
    assert (info.tick, info.step) == ("0.1", "0.1")
    assert info.findings == {"crossing_changes": 1, "snapshots": 2}
    assert list(store_books(hours)) == list(oracle_books(plain_events(BOOK, quotes)))


@pytest.mark.parametrize("block", [30, 64, 200, 1000])
def test_messages_cut_by_the_end_of_a_block_are_one(tmp_path, monkeypatch, block):
    whole = converted(write(tmp_path / "csv", book=BOOK), tmp_path / "whole")[1]
    monkeypatch.setattr(csv_blocks, "_BLOCK_BYTES", block)
    pieces = converted(tmp_path / "csv", tmp_path / "pieces")[1]
    assert list(frames(pieces)) == list(frames(whole))


def told_of(hours, *codes):
    return [row[:2] for _, _, rows in frames(hours) for row in rows if row[0] in codes]


def test_trades_mark_and_index(tmp_path):
    trades = [(1, "7,buy,100.5,0.1"), (2, "8,sell,100.0,0.2")]
    ticker = [(3, ",0.0001,,,100.5,100.25,100.333"), (4, ",0.0001,,,,100.25,100.4"), (5, ",,,,,,")]
    _, hours = converted(write(tmp_path / "csv", book=BOOK, trades=trades, ticker=ticker), tmp_path / "store")
    assert told_of(hours, TRADE_BUY, TRADE_SELL) == [(TRADE_BUY, 1005), (TRADE_SELL, 1000)]
    told = told_of(hours, MARK, INDEX, FUNDING)
    assert told == [(MARK, 100_333), (INDEX, 100_250), (MARK, 100_400)]


@pytest.mark.parametrize("block", [40, 1 << 24])
def test_funding_is_what_was_told_last_for_an_instant_that_has_passed(tmp_path, monkeypatch, block):
    """A ticker's rate is an estimate until the ticker names the next instant."""
    first, second, third = T0 + 10, T0 + 30, T0 + 50
    ticker = [
        (1, ",,,,,,"),
        (2, f"{first},0.0001,,,,,"),
        (9, f"{first},0.0002,,,,,"),
        (11, f"{second},0.0009,,,,,"),
        (20, f"{second},,,,,,"),
        (25, ",-0.0003,,,,,"),
        (31, f"{third},0.0004,,,,,"),
    ]
    monkeypatch.setattr(csv_blocks, "_BLOCK_BYTES", block)
    _, hours = converted(write(tmp_path / "csv", book=BOOK, ticker=ticker), tmp_path / "store")
    paid = [(at_ns, row[1]) for at_ns, _, rows in frames(hours) for row in rows if row[0] == FUNDING]
    assert paid == [((T0 + 11) * 1000, 200_000), ((T0 + 31) * 1000, -300_000)]


def test_days_follow_each_other_and_plain_files_are_read(tmp_path):
    folder = write(tmp_path / "csv", book=BOOK)
    later = [(at + 86_400_000_000, rest) for at, rest in BOOK]
    (folder / "a.csv").write_text(lines("book", later))
    _, hours = converted(folder, tmp_path / "store")
    assert len(hours) == 2
    assert all(np.diff(hour.venue_ns).min() >= 0 for hour in hours)


def test_small_disorder_is_raised_and_counted(tmp_path):
    rows = [*BOOK, (20, "false,bid,98.0,1.0")]
    info, _ = converted(write(tmp_path / "csv", book=rows), tmp_path / "store")
    assert info.findings["stamps_raised"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            (30, "false,bid,abc,1.0"),
            "line 11: expected the columns exchange, .* was 'binance-futures,BTCUSDT",
        ),
        (
            (30, "false,bid,100.05,1.0"),
            "line 11: expected a value in price that is a multiple of 0.1, was 100.05",
        ),
        ((30, "false,bid,100.0,-1.0"), "line 11: expected a value in amount"),
        ((30, "false,bid,,1.0"), "line 11: expected a value in price, was none"),
        ((30, "false,middle,100.0,1.0"), "line 11: expected bid or ask, was 'middle'"),
        ((-2_000_000, "false,bid,100.0,1.0"), r"line 11: expected a stamp of \d+ ns or later, was"),
    ],
)
def test_bad_lines_are_named(tmp_path, row, message):
    # The grid is given: what it is read off would hold the bad value too.
    from decimal import Decimal

    from market_maker.recordings.grid import Grid

    source = write(tmp_path / "csv", book=[*BOOK, row])
    with pytest.raises(RecordingError, match=rf"book\.csv\.gz, {message}"):
        convert(open_sources(source, grids={BTC: Grid(Decimal("0.1"), Decimal("0.1"))}), tmp_path / "store")
    assert not (tmp_path / "store").exists() or list((tmp_path / "store").iterdir()) == []


def test_truncated_empty_and_lonely_files_are_refused(tmp_path):
    folder = write(tmp_path / "csv", book=BOOK * 200)
    path = folder / "book.csv.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        RecordingError, match=r"book\.csv\.gz: expected a whole file, was truncated or corrupt after"
    ):
        converted(folder, tmp_path / "store")
    path.write_bytes(gzip.compress(HEADS["book"].encode() + b"\n"))
    with pytest.raises(RecordingError, match=r"book\.csv\.gz: expected rows, was empty"):
        converted(folder, tmp_path / "store")
    path.unlink()
    write(folder, trades=[(1, "7,buy,100.5,0.1")])
    with pytest.raises(
        RecordingError, match=r"trades\.csv\.gz: expected a file of incremental_book_L2 for BTC-USD"
    ):
        converted(folder, tmp_path / "store")


def test_lines_read_as_the_csv_module_reads_them(tmp_path):
    write(tmp_path / "csv", book=BOOK)
    text = gzip.decompress((tmp_path / "csv" / "book.csv.gz").read_bytes()).decode()
    assert len(list(csv.DictReader(io.StringIO(text)))) == len(BOOK)
