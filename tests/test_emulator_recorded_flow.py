"""The emulator follows a recording: the book as displayed, trades as orders, nothing taken twice."""

from decimal import Decimal
from pathlib import Path

import pytest
from flow_statistics import MinimalBook

from market_maker.domain import NS_PER_S, BookUpdate, Side, Trade
from market_maker.emulator.flow import LevelChange, TakerOrder
from market_maker.emulator.recorded_flow import RecordedFlow, build_recorded_flows
from market_maker.instrument import Instrument
from market_maker.recordings.events import BestQuote, RecordingError

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
START = 1_790_000_000 * NS_PER_S
S = NS_PER_S


def books(at, bids, asks):
    return at, BookUpdate("X-USD", True, bids, asks, at, at, at)


def quotes(at, bid, bid_lots, ask, ask_lots):
    return at, BestQuote("X-USD", bid, bid_lots, ask, ask_lots, at, at, at)


def trades(at, side, price, lots):
    return at, Trade("X-USD", at, side, price, lots, at, at)


class Scripted:
    """A recorded market that is a list."""

    def __init__(self, *stream):
        self.instrument = Instrument("X-USD", Decimal("0.5"), Decimal(1), Decimal(1))
        self.stream = stream
        self.first_ns, self.last_ns = stream[0][0], stream[-1][0]

    def events(self):
        return iter(self.stream)


def followed(*stream, end=100 * S, origin=S):
    return RecordedFlow(Scripted(*stream), START, origin, end)


def step(flow, book):
    """Pop one instant into the book; its time in seconds from the start, and its events."""
    at_s = (flow.next_ns() - START) / S
    events = list(flow.pop(book))
    for event in events:
        book.apply(event)
    return at_s, events


FIRST = books(S, [(98, 5), (97, 6)], [(100, 4), (101, 7)])


def test_first_instant_shows_the_whole_book_at_the_start():
    flow, book = followed(FIRST, trades(3 * S, Side.BUY, 100, 1)), MinimalBook()
    assert step(flow, book)[0] == 0
    assert book.levels == {Side.BUY: {98: 5, 97: 6}, Side.SELL: {100: 4, 101: 7}}
    assert step(flow, book) == (2, [TakerOrder(Side.BUY, 100, 1)])
    assert flow.next_ns() is None
    assert flow.pop(book) == []


def test_only_what_changed_is_told_and_falls_come_first():
    later = books(2 * S, [(99, 1), (98, 5)], [(101, 9)])
    flow, book = followed(FIRST, later), MinimalBook()
    step(flow, book)
    assert step(flow, book)[1] == [
        LevelChange(Side.BUY, 97, 0),
        LevelChange(Side.SELL, 100, 0),
        LevelChange(Side.BUY, 99, 1),
        LevelChange(Side.SELL, 101, 9),
    ]


def test_what_a_trade_took_is_not_taken_twice():
    # Three of four are taken, the next recorded quote shows the one that is left: nothing is to be changed.
    flow = followed(FIRST, trades(2 * S, Side.BUY, 100, 3), quotes(2 * S, 98, 5, 100, 1))
    book = MinimalBook()
    for _ in range(2):
        step(flow, book)
    assert book.levels[Side.SELL] == {100: 1, 101: 7}
    assert step(flow, book) == (1, [])


def test_next_book_sets_the_truth_where_a_trade_took_more_than_was_shown():
    flow = followed(FIRST, trades(2 * S, Side.BUY, 100, 30), quotes(3 * S, 98, 5, 100, 2))
    book = MinimalBook()
    for _ in range(2):
        step(flow, book)
    assert book.levels[Side.SELL] == {101: 7}
    assert step(flow, book)[1] == [LevelChange(Side.SELL, 100, 2)]


def test_best_quote_moves_the_touch_between_books():
    flow, book = followed(FIRST, quotes(2 * S, 97, 2, 99, 3)), MinimalBook()
    step(flow, book)
    step(flow, book)
    assert book.levels == {Side.BUY: {97: 2}, Side.SELL: {99: 3, 100: 4, 101: 7}}
    assert flow.index_price() == Decimal("49.00")


def test_trades_of_one_instant_come_together_before_its_book():
    sweep = [trades(2 * S, Side.BUY, 100, 4), trades(2 * S, Side.BUY, 101, 2)]
    flow, book = followed(FIRST, *sweep, books(2 * S, [(98, 5)], [(101, 5)])), MinimalBook()
    step(flow, book)
    assert len(step(flow, book)[1]) == 2
    assert step(flow, book) == (1, [LevelChange(Side.BUY, 97, 0)])


def test_part_of_a_recording_starts_with_the_book_of_then_and_ends_in_time():
    stream = [FIRST, trades(2 * S, Side.BUY, 100, 1), quotes(3 * S, 97, 1, 99, 1)]
    stream += [trades(5 * S, Side.SELL, 97, 1), trades(9 * S, Side.SELL, 97, 1)]
    flow, book = followed(*stream, origin=4 * S, end=6 * S), MinimalBook()
    assert step(flow, book)[0] == 0
    assert (book.best_ticks(Side.BUY), book.best_ticks(Side.SELL)) == (97, 99)
    assert step(flow, book)[0] == 1
    assert flow.next_ns() is None
    assert flow.end_ns == START + 2 * S


def test_recording_without_a_book_is_refused():
    with pytest.raises(RecordingError, match="X-USD: expected a book with both sides"):
        followed(trades(2 * S, Side.BUY, 100, 1))


def test_nothing_is_known_of_the_time_before():
    assert followed(FIRST).past_bars(10) == []


def _write(folder, name, rows=4):
    pl = pytest.importorskip("polars")
    stamps = [k * S for k in range(1, rows + 1)]
    flat = {"ts": stamps, "recv": stamps, "bid": [10.0] * rows, "bid_sz": [1.0] * rows}
    flat |= {"ask": [10.5] * rows, "ask_sz": [1.0] * rows}
    lists = {"bpx": [[10.0]] * rows, "bsz": [[1.0]] * rows, "apx": [[10.5]] * rows, "asz": [[1.0]] * rows}
    pl.DataFrame({**flat, **lists}).write_parquet(folder / f"{name}_book.parquet")
    prints = {"ts": stamps, "recv": stamps, "px": [10.5] * rows, "sz": [1.0] * rows, "side": [1] * rows}
    pl.DataFrame(prints).write_parquet(folder / f"{name}_trades.parquet")


def test_flows_of_a_folder_run_together_for_the_time_asked(tmp_path):
    _write(tmp_path, "BTC")
    _write(tmp_path, "ETH", rows=9)
    instruments, flows = build_recorded_flows(tmp_path, [], START, offset_s=1.0, duration_s=1.0)
    assert [item.name for item in instruments] == ["BTC-USD", "ETH-USD"]
    for flow in flows:
        book, stamps = MinimalBook(), []
        while flow.next_ns() is not None:
            stamps.append(step(flow, book)[0])
        assert stamps[0] == 0
        assert stamps[-1] == 1
    _, whole = build_recorded_flows(tmp_path, ["BTC-USD"], START)
    assert whole[0].next_ns() == START


def test_offset_past_the_end_says_how_long_the_recording_is(tmp_path):
    _write(tmp_path, "BTC")
    with pytest.raises(RecordingError, match=r"expected an offset below the recording's 3\.0 s, was 60\.0 s"):
        build_recorded_flows(tmp_path, [], START, offset_s=60.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "market", "share"),
    [("hyperliquid-2025-09-04", "WLFI-USD", 0.7), ("binance-usdm-2024-08-08", "ETH-USD", 0.5)],
)
def test_real_recording_is_followed_without_crossing(folder, market, share):
    pytest.importorskip("polars")
    if not (DATA / folder).exists():
        pytest.skip("no recordings here")
    _, [flow] = build_recorded_flows(DATA / folder, [market], START, duration_s=60.0)
    book, wanted, taken, last_ns = MinimalBook(), 0, 0, START
    while (at_ns := flow.next_ns()) is not None:
        assert last_ns <= at_ns <= START + 60 * S
        last_ns = at_ns
        for event in flow.pop(book):
            if isinstance(event, TakerOrder):
                wanted += event.size_lots
            taken += sum(lots for _, lots in book.apply(event))
            bid, ask = book.best_ticks(Side.BUY), book.best_ticks(Side.SELL)
            assert bid is None or ask is None or bid < ask
    assert taken > share * wanted


def test_a_flow_that_can_not_be_read_on_has_ended():
    class Torn(Scripted):
        def events(self):
            yield from self.stream
            msg = "line 3: expected a frame, was none"
            raise RecordingError(msg)

    flow, book = RecordedFlow(Torn(FIRST, trades(2 * S, Side.BUY, 100, 1)), START, S, 100 * S), MinimalBook()
    step(flow, book)
    with pytest.raises(RecordingError, match="line 3"):
        flow.pop(book)
    assert flow.next_ns() is None
    assert list(flow.pop(book)) == []
