"""Recorded markets: both formats to one stream of values, and one clear message for whatever is wrong."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import pytest

from market_maker.domain import BookUpdate, Side, Trade
from market_maker.recordings.discovery import market_name, open_recording
from market_maker.recordings.events import BestQuote, RecordingError, repaired_ns
from market_maker.recordings.folding import FoldedBook
from market_maker.recordings.grid import Grid, OffGrid, common_unit, decimal_unit

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
T0_MS = 1_723_161_256_000
LOCAL0 = 1_723_161_255_000_000_000
MS = 1_000_000


def depth(u, *, at=0, bids=(), asks=(), pu=None):
    data = {"e": "depthUpdate", "T": T0_MS + at, "s": "BTCUSDT", "u": u, "pu": u - 1 if pu is None else pu}
    return {"data": {**data, "b": list(bids), "a": list(asks)}}


def quote(u, bid, ask, *, at=0, size="1.000"):
    data = {"e": "bookTicker", "T": T0_MS + at, "s": "BTCUSDT", "u": u, "b": bid, "a": ask}
    return {"data": {**data, "B": size, "A": size}}


def trade(number, price, size, *, at=0, buyer_made=False, kind="MARKET"):
    data = {"e": "trade", "T": T0_MS + at, "s": "BTCUSDT", "t": number, "p": price, "q": size}
    return {"data": {**data, "m": buyer_made, "X": kind}}


def snapshot(u, bids, asks, *, at=0):
    return {"lastUpdateId": u, "T": T0_MS + at, "bids": bids, "asks": asks}


def raw_text(frames):
    return "".join(f"{LOCAL0 + n * MS} {json.dumps(frame)}\n" for n, frame in enumerate(frames))


def write_raw(path, frames):
    path.write_bytes(gzip.compress(raw_text(frames).encode()))
    return path


FRAMES = [
    depth(10, bids=[["100.0", "2.000"]], asks=[["100.5", "3.000"]]),
    quote(11, "100.1", "100.4", at=1),
    trade(7, "100.4", "0.250", at=2),
    trade(8, "100.1", "0.100", at=3, buyer_made=True),
    depth(12, at=4, bids=[["100.1", "0.900"]], pu=10),
]


def events(path, markets=()):
    [market] = open_recording(path, markets).markets.values()
    return list(market.events())


def test_raw_frames_become_values_in_ticks_and_lots(tmp_path):
    path = write_raw(tmp_path / "btcusdt.gz", FRAMES)
    first, second, buy, sell, last = (event for _, event in events(path))
    assert isinstance(first, BookUpdate)
    assert (first.bids, first.asks, first.is_snapshot) == ([(1000, 200)], [(1005, 300)], False)
    assert isinstance(second, BestQuote)
    assert (second.bid_ticks, second.ask_ticks, second.seq) == (1001, 1004, 11)
    assert isinstance(buy, Trade)
    assert (buy.taker_side, buy.price_ticks, buy.size_lots, buy.trade_id) == (Side.BUY, 1004, 25, 7)
    assert isinstance(sell, Trade)
    assert sell.taker_side is Side.SELL
    assert last.venue_ns == (T0_MS + 4) * MS


def test_tick_and_step_are_read_off_the_data_or_given(tmp_path):
    path = write_raw(tmp_path / "btcusdt.gz", FRAMES)
    instrument = open_recording(path).markets["BTC-USD"].instrument
    assert (instrument.tick, instrument.step) == (Decimal("0.1"), Decimal("0.01"))
    grid = Grid(Decimal("0.05"), Decimal("0.05"))
    given = open_recording(path, ["BTC-USD"], {"BTC-USD": grid}).markets["BTC-USD"]
    assert given.instrument.tick == Decimal("0.05")


def test_a_trade_is_told_before_the_quote_that_shows_it(tmp_path):
    frames = [*FRAMES[:2], quote(13, "100.1", "100.4", at=9, size="0.750"), trade(9, "100.4", "0.250", at=9)]
    kinds = [type(event) for _, event in events(write_raw(tmp_path / "x.gz", frames))]
    assert kinds[-2:] == [Trade, BestQuote]


def test_gap_in_update_ids_forgets_the_book(tmp_path):
    frames = [*FRAMES, depth(20, at=5, bids=[["100.0", "1.000"]], pu=18)]
    last = events(write_raw(tmp_path / "x.gz", frames))[-1][1]
    assert last.is_snapshot


def test_late_snapshot_is_brought_up_to_date_with_later_changes(tmp_path):
    late = snapshot(11, [["100.1", "5.000"], ["99.0", "4.000"]], [["100.5", "1.000"]], at=5)
    last = events(write_raw(tmp_path / "x.gz", [*FRAMES, late]))[-1][1]
    assert last.is_snapshot
    assert last.seq == 12
    assert dict(last.bids) == {1001: 90, 990: 400}


def test_changes_older_than_the_snapshot_are_dropped(tmp_path):
    late = snapshot(15, [["100.1", "5.000"]], [["100.5", "1.000"]], at=5)
    old = depth(14, at=6, bids=[["99.9", "1.000"]], pu=12)
    assert len(events(write_raw(tmp_path / "x.gz", [*FRAMES, late, old]))) == 6


def test_trades_outside_the_book_are_left_out(tmp_path):
    frames = [*FRAMES, trade(9, "100.4", "1.000", at=6, kind="INSURANCE_FUND")]
    assert len(events(write_raw(tmp_path / "x.gz", frames))) == 5


def test_files_of_one_market_follow_each_other(tmp_path):
    write_raw(tmp_path / "b.gz", FRAMES[:2])
    write_raw(tmp_path / "a.gz", [quote(20, "100.1", "100.4", at=500), trade(9, "100.4", "1.000", at=600)])
    stamps = [at for at, _ in _ordered_market(tmp_path)]
    assert stamps == sorted(stamps)
    assert len(stamps) == 4


def _ordered_market(folder):
    later = (folder / "a.gz").read_bytes()
    text = gzip.decompress(later).decode().replace(str(LOCAL0)[:12], str(LOCAL0 + 2_000_000_000)[:12])
    (folder / "a.gz").write_bytes(gzip.compress(text.encode()))
    return events(folder)


def test_overlapping_files_are_refused(tmp_path):
    write_raw(tmp_path / "a.gz", FRAMES)
    write_raw(tmp_path / "b.gz", FRAMES)
    with pytest.raises(RecordingError, match=r"b\.gz: expected a start after a\.gz ends"):
        open_recording(tmp_path)


def _truncated(path):
    path.write_bytes(gzip.compress(raw_text(FRAMES * 50).encode())[:-40])


def _not_gzip(path):
    path.write_bytes(b"no gzip at all")


def _empty(path):
    path.write_bytes(gzip.compress(b""))


def _cut_line(path):
    path.write_bytes(gzip.compress(raw_text(FRAMES).encode()[:-30]))


def _other_text(path):
    path.write_bytes(gzip.compress(b"12 hello\n"))


def _only_snapshots(path):
    write_raw(path, [snapshot(1, [["1.0", "1.0"]], [])])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_truncated, r"x\.gz: expected a whole gzip file, was truncated or corrupt after line \d+"),
        (_not_gzip, r"x\.gz: expected a whole gzip file"),
        (_empty, r"x\.gz: expected lines of 'local_ns json', was empty"),
        (_cut_line, r"x\.gz, line 5: expected 'local_ns json' with a known frame"),
        (_other_text, r"x\.gz, line 1: expected 'local_ns json'"),
        (_only_snapshots, r"x\.gz: expected depth, trade or bookTicker frames"),
    ],
)
def test_spoilt_raw_file_is_refused_at_once(tmp_path, spoil, message):
    spoil(tmp_path / "x.gz")
    with pytest.raises(RecordingError, match=message):
        open_recording(tmp_path / "x.gz")


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([{"data": {"e": "forceOrder", "s": "BTCUSDT"}}], r"line 5001: expected 'local_ns json'"),
        (
            [depth(9_000_000, bids=[["100.03", "1"]])],
            r"line 5001: expected a price that is a multiple of 0\.1",
        ),
        ([depth(9_000_000, bids=[["100.0", "1.0001"]])], r"line 5001: expected a size that is a multiple"),
        ([{"hello": 1}], r"line 5001: expected data or lastUpdateId, was neither"),
        (
            [{"data": {**FRAMES[2]["data"], "s": "ETHUSDT"}}],
            r"line 5001: expected frames of BTCUSDT, was ETH",
        ),
    ],
)
def test_bad_line_further_on_is_named(tmp_path, frames, message):
    path = write_raw(tmp_path / "x.gz", [*FRAMES * 1000, *frames, FRAMES[2]])
    market = open_recording(path).markets["BTC-USD"]
    with pytest.raises(RecordingError, match=message):
        list(market.events())


def test_lines_out_of_order_beyond_repair_are_named(tmp_path):
    text = raw_text(FRAMES) + f"{LOCAL0 - 5_000_000_000} {json.dumps(FRAMES[2])}\n"
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(text.encode()))
    market = open_recording(path).markets["BTC-USD"]
    with pytest.raises(RecordingError, match=r"line 6: expected a stamp of \d+ ns or later, was"):
        list(market.events())


def test_small_disorder_is_repaired():
    assert repaired_ns(10, 20, "x") == 20
    assert repaired_ns(30, 20, "x") == 30


def test_missing_path_unknown_format_and_unknown_market(tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere: expected a recording, was not found"):
        open_recording(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(RecordingError, match=r"expected NAME_book\.parquet .* was neither"):
            open_recording(path)
    write_raw(tmp_path / "x.gz", FRAMES)
    with pytest.raises(RecordingError, match=r"expected the markets DOGE-USD, was a recording of BTC-USD"):
        open_recording(tmp_path, ["BTC-USD", "DOGE-USD"])


def test_market_names():
    assert market_name("ETHUSDT") == "ETH-USD"
    assert market_name("USDC") == "USDC-USD"


def test_units():
    assert common_unit([0.0, 0.0]) is None
    assert decimal_unit([0.0]) is None
    assert common_unit([0.15, 0.45]) == Decimal("0.15")
    assert decimal_unit([109755.0, 109760.0]) == Decimal(1)
    with pytest.raises(OffGrid, match="expected a size"):
        Grid(Decimal(1), Decimal(1)).lots(float("nan"))


# The folded book


def update(seq, bids=(), asks=(), *, whole=False):
    return BookUpdate("X", whole, list(bids), list(asks), seq, 0, 0)


def best(seq, bid, ask, lots=5):
    return BestQuote("X", bid, lots, ask, lots, seq, 0, 0)


def book_of(*items):
    book = FoldedBook()
    for item in items:
        if isinstance(item, BookUpdate):
            book.apply_update(item)
        else:
            book.apply_quote(item)
    return book


def test_quote_removes_what_is_better_and_sets_the_touch():
    book = book_of(update(1, [(99, 1), (98, 2)], [(101, 1), (102, 2)]), best(2, 98, 102))
    assert book.window(Side.BUY, 9) == {98: 5}
    assert book.window(Side.SELL, 9) == {102: 5}
    assert book.lots(Side.SELL, 101) == 0


def test_newer_quote_keeps_its_say_over_an_older_update():
    book = book_of(best(5, 98, 102), update(4, [(99, 1), (97, 3)]))
    assert book.window(Side.BUY, 9) == {98: 5, 97: 3}


def test_older_quote_and_crossed_quote_are_ignored():
    book = book_of(update(5, [(98, 1)], [(102, 1)]), best(4, 99, 101), best(6, 103, 103))
    assert (book.best_ticks(Side.BUY), book.best_ticks(Side.SELL)) == (98, 102)


def test_snapshot_replaces_and_zero_removes():
    book = book_of(update(1, [(98, 1)], [(102, 1)]), update(2, [(97, 4)], [(103, 1)], whole=True))
    assert book.window(Side.BUY, 9) == {97: 4}
    book.apply_update(update(3, [(97, 0)]))
    assert book.best_ticks(Side.BUY) is None


@pytest.mark.parametrize(
    ("change", "touch"),
    [(update(3, bids=[(103, 1)]), (103, 104)), (update(3, asks=[(97, 1)]), (96, 97))],
)
def test_newer_side_wins_where_an_update_crosses(change, touch):
    book = book_of(update(1, [(98, 1), (96, 1)], [(102, 1), (104, 1)]), change)
    assert (book.best_ticks(Side.BUY), book.best_ticks(Side.SELL)) == touch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "market", "tick", "step"),
    [
        ("binance-usdm-2024-08-08", "ETH-USD", "0.01", "0.001"),
        ("hyperliquid-2025-09-04", "WLFI-USD", "0.00001", "1"),
        ("standx-btc-2026-01", "BTC-USD", "0.01", "0.0001"),
    ],
)
def test_real_recordings_open_and_their_books_do_not_cross(folder, market, tick, step):
    pytest.importorskip("polars")
    if not (DATA / folder).exists():
        pytest.skip("no recordings here")
    recorded = open_recording(DATA / folder, [market]).markets[market]
    assert (recorded.instrument.tick, recorded.instrument.step) == (Decimal(tick), Decimal(step))
    book, last_ns = FoldedBook(), 0
    for number, (at_ns, event) in enumerate(recorded.events()):
        assert at_ns >= last_ns
        last_ns = at_ns
        if isinstance(event, BookUpdate):
            book.apply_update(event)
        elif isinstance(event, BestQuote):
            book.apply_quote(event)
        bid, ask = book.best_ticks(Side.BUY), book.best_ticks(Side.SELL)
        assert bid is None or ask is None or bid < ask
        if number > 20_000:
            break
