"""Segments: a torn tail is left out, damage is named; our own recordings become events."""

from decimal import Decimal

import pytest
from store_books import frames, store_books

from market_maker.recordings.conversion import convert, open_sources
from market_maker.recordings.events import RecordingError
from market_maker.recordings.segments import (
    BookRecord,
    LostRecord,
    QuoteRecord,
    SegmentHeader,
    SegmentWriter,
    TradeRecord,
    ValueRecord,
    cut_torn_tail,
    read_header,
    read_records,
)
from market_maker.recordings.store import FUNDING, GAP, INDEX, MARK, NS_PER_HOUR, TRADE_SELL, open_store

pytest.importorskip("polars")
S = 1_000_000_000
T0 = 1_767_571_230 * S
HEADER = SegmentHeader("BTC-USD", "1", "0.00001", "emulator", T0)
RECORDS = [
    BookRecord(True, [(100, 5), (99, 2)], [(102, 5)], 1, T0, T0 + 10),
    ValueRecord("mark", "101.25", T0 + 1, T0 + 10),
    ValueRecord("index", "101.5", T0 + 1, T0 + 10),
    ValueRecord("funding", "-0.000013", T0 + 1, T0 + 10),
    QuoteRecord(101, 7, 102, 4, T0 + 5, T0 + 20),
    TradeRecord(9, -1, 101, 3, T0 + 4, T0 + 30),
    TradeRecord(9, -1, 101, 3, T0 + 4, T0 + 30),
    QuoteRecord(0, 0, 102, 4, T0 + 6, T0 + 30),
    BookRecord(False, [(99, 0)], [(103, 1)], 2, T0 + 7, T0 + 40),
]


def write(path, *blocks, header=HEADER):
    writer = SegmentWriter(path, header)
    for block in blocks:
        writer.write(block)
    writer.close()
    return path


@pytest.fixture
def segment(tmp_path):
    return write(tmp_path / "BTC-USD" / "a.mmrec", RECORDS[:4], RECORDS[4:])


def converted(folder, to):
    [info] = convert(open_sources(folder), to)
    return info, list(open_store(to).hours("BTC-USD"))


def test_records_come_back_as_they_were_heard(segment):
    assert read_header(segment) == HEADER
    assert list(read_records(segment)) == RECORDS


def test_a_block_cut_short_at_any_byte_is_left_out(segment):
    whole = segment.read_bytes()
    sizes = set()
    for size in range(len(whole)):
        segment.write_bytes(whole[:size])
        try:
            read_header(segment)
        except RecordingError:
            continue
        sizes.add(len(list(read_records(segment))))
    assert sizes == {0, 4}


def test_the_torn_tail_is_cut(segment):
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-3])
    assert cut_torn_tail(segment) > 0
    assert list(read_records(segment)) == RECORDS[:4]
    assert cut_torn_tail(segment) == 0


@pytest.mark.parametrize("at", [40, 100])
def test_a_changed_byte_is_damage_with_its_place(segment, at):
    content = bytearray(segment.read_bytes())
    content[at] ^= 1
    segment.write_bytes(content)
    with pytest.raises(RecordingError, match=r"a\.mmrec, byte \d+: expected a block"):
        list(read_records(segment))


def test_an_empty_or_foreign_file_is_refused(tmp_path):
    path = tmp_path / "x.mmrec"
    path.write_bytes(b"")
    with pytest.raises(RecordingError, match="expected a recorded segment"):
        open_sources(path)
    path.write_bytes(b"something else altogether")
    with pytest.raises(RecordingError, match="byte 0: expected a block of a segment"):
        open_sources(path)


def test_segments_become_events_in_the_venues_order(tmp_path, segment):
    info, hours = converted(tmp_path / "BTC-USD", tmp_path / "store")
    assert (info.tick, info.step, info.venue) == ("1", "0.00001", "emulator")
    assert info.findings == {"funding_estimates": 1, "one_sided_quotes": 1, "trades_twice": 1}
    found = list(frames(hours))
    assert [row for _, _, rows in found[1:4] for row in rows] == [
        (MARK, 10125, 0),
        (INDEX, 10150, 0),
        (TRADE_SELL, 101, 3),
    ]
    assert list(store_books(hours))[-1] == (T0 + 7, {101: 7, 100: 5}, {102: 4, 103: 1})


def test_funding_is_the_first_rate_after_an_hour_and_others_are_estimates(tmp_path):
    hour = T0 // NS_PER_HOUR * NS_PER_HOUR + NS_PER_HOUR
    rates = [(T0 + 1, "0.5"), (hour - 1, "0.4"), (hour, "-0.000013"), (hour + 60 * S, "0.3")]
    rates += [(hour + 2 * NS_PER_HOUR + S, "0.000002")]
    told = [ValueRecord("funding", rate, at_ns, at_ns + 10) for at_ns, rate in rates]
    write(tmp_path / "BTC-USD" / "a.mmrec", [RECORDS[0], *told])
    info, hours = converted(tmp_path / "BTC-USD", tmp_path / "store")
    assert info.findings == {"funding_estimates": 3}
    paid = [(at_ns, row[1]) for at_ns, _, rows in frames(hours) for row in rows if row[0] == FUNDING]
    assert paid == [(hour, -13_000), (hour + 2 * NS_PER_HOUR + S, 2_000)]


def test_a_lost_stream_and_another_run_break_the_book(tmp_path):
    folder = tmp_path / "BTC-USD"
    again = BookRecord(True, [(90, 1)], [(92, 1)], 1, T0 + 2 * S, T0 + 2 * S)
    write(folder / "a.mmrec", [*RECORDS, LostRecord("silent", T0 + S), again])
    # The same run goes on after an hour; then another run.
    write(folder / "b.mmrec", [BookRecord(False, [(91, 1)], [], 2, T0 + 3 * S, T0 + 3 * S)])
    later = SegmentHeader("BTC-USD", "1", "0.00001", "emulator", T0 + 9 * S)
    write(
        folder / "c.mmrec",
        [ValueRecord("mark", "91", T0 + 9 * S, 0), BookRecord(True, [(80, 1)], [], 1, T0 + 9 * S, 0)],
        header=later,
    )
    info, hours = converted(tmp_path, tmp_path / "store")
    assert info.gaps == [(T0 + 7, T0 + 2 * S), (T0 + 3 * S, T0 + 9 * S)]
    assert info.counts["gap"] == 2
    assert [rows[0][0] for _, _, rows in frames(hours)].count(GAP) == 2
    assert list(store_books(hours))[-1] == (T0 + 9 * S, {80: 1}, {})


def test_a_tick_that_changes_between_segments_is_refused(tmp_path):
    write(tmp_path / "a.mmrec", RECORDS)
    write(
        tmp_path / "b.mmrec",
        RECORDS,
        header=SegmentHeader("BTC-USD", str(Decimal("0.1")), "1", "emulator", 1),
    )
    with pytest.raises(RecordingError, match=r"b\.mmrec: expected a segment of"):
        open_sources(tmp_path)
