"""The event format: what is written is read, mapped; what is spoilt is refused with its place."""

import json

import msgspec
import numpy as np
import pytest

from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import (
    CLEAR,
    EVENT_COLUMNS,
    FORMAT_VERSION,
    LAST,
    LEVEL_BID,
    NS_PER_HOUR,
    OUTSIDE,
    Hour,
    MarketInfo,
    is_store,
    open_store,
)
from market_maker.recordings.store_writer import MarketWriter

pl = pytest.importorskip("polars")
HOUR0 = 490_000 * NS_PER_HOUR
INFO = MarketInfo(FORMAT_VERSION, "BTC-USD", "here", "0.1", "0.001", 0, {}, [], {}, [], [])


def an_hour(number=0, rows=1000, **changes):
    columns = {
        "venue_ns": HOUR0 + number * NS_PER_HOUR + np.arange(rows),
        "delay_us": np.arange(rows, dtype=np.int32) - 5,
        "kind": np.full(rows, LEVEL_BID | LAST, np.uint8),
        "ticks": np.arange(rows, dtype=np.int32),
        "lots": np.full(rows, 2**32 - 1, np.uint32),
    }
    return Hour(**{**columns, **changes})


def write(folder, *hours, info=INFO, **options):
    with MarketWriter(folder, info.market, **options) as writer:
        for hour in hours:
            writer.add(hour)
        return writer.commit(info)


def hour_file(folder):
    return next((folder / "BTC-USD").glob("*.arrow"))


def test_hours_come_back_as_they_were_written(tmp_path):
    info = write(tmp_path, an_hour(0), an_hour(1, rows=200_000))
    store = open_store(tmp_path)
    assert store.markets == ("BTC-USD",)
    assert store.info("BTC-USD") == info
    assert info.counts == {"level_bid": 201_000}
    assert str(store.instrument("BTC-USD").tick) == "0.1"
    for was, back in zip((an_hour(0), an_hour(1, rows=200_000)), store.hours("BTC-USD"), strict=True):
        for name, dtype in EVENT_COLUMNS.items():
            column = getattr(back, name)
            assert column.dtype == dtype
            assert not column.flags.writeable
            assert not column.flags.owndata
            np.testing.assert_array_equal(column, getattr(was, name))


def test_a_file_is_an_arrow_file_of_21_bytes_an_event(tmp_path):
    write(tmp_path, an_hour(rows=200_000))
    frame = pl.read_ipc(hour_file(tmp_path))
    assert frame.columns == list(EVENT_COLUMNS)
    np.testing.assert_array_equal(frame["lots"].to_numpy(), an_hour(rows=200_000).lots)
    assert hour_file(tmp_path).stat().st_size < 200_000 * 21 + 2_000


def test_the_folder_of_one_market_opens_too(tmp_path):
    write(tmp_path, an_hour())
    assert open_store(tmp_path / "BTC-USD").markets == ("BTC-USD",)
    assert is_store(tmp_path)
    assert not is_store(tmp_path / "nowhere")


def test_the_clock_offset_is_taken_out_of_every_delay(tmp_path):
    write(tmp_path, an_hour(), info=msgspec.structs.replace(INFO, clock_offset_ns=-7_000))
    [hour] = open_store(tmp_path).hours("BTC-USD")
    np.testing.assert_array_equal(hour.delay_us, an_hour().delay_us + 7)


def test_a_writer_that_is_left_early_leaves_nothing(tmp_path):
    with MarketWriter(tmp_path, "BTC-USD") as writer:
        writer.add(an_hour())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_not_seen_and_is_removed(tmp_path):
    left = tmp_path / ".BTC-USD.partial"
    left.mkdir()
    (left / "market.json").write_text("{")
    with pytest.raises(RecordingError, match="expected a folder of converted markets"):
        open_store(tmp_path)
    write(tmp_path, an_hour())
    assert [path.name for path in tmp_path.iterdir()] == ["BTC-USD"]


def test_a_market_that_is_there_is_replaced_only_when_told(tmp_path):
    write(tmp_path, an_hour(0))
    with pytest.raises(RecordingError, match=r"BTC-USD: expected no such market yet"):
        write(tmp_path, an_hour(1))
    assert write(tmp_path, an_hour(1), replace=True).hours[0].first_ns == an_hour(1).venue_ns[0]
    assert len(list(open_store(tmp_path).hours("BTC-USD"))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["BTC-USD"]


def test_two_writers_of_one_market_do_not_meet(tmp_path):
    with (
        MarketWriter(tmp_path, "BTC-USD"),
        pytest.raises(RecordingError, match="expected no other conversion of it"),
        MarketWriter(tmp_path, "BTC-USD"),
    ):
        pass


def edit_info(folder, **changes):
    path = folder / "BTC-USD" / "market.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(size):
    def spoil(folder):
        path = hour_file(folder)
        path.write_bytes(path.read_bytes()[:size])

    return spoil


def other_rows(folder):
    path = folder / "BTC-USD" / "market.json"
    path.write_text(path.read_text().replace('"rows": 1000', '"rows": 992'))


def other_types(folder):
    pl.DataFrame({"venue_ns": [1.0] * 5000}).write_ipc(hour_file(folder))


def no_arrow(folder):
    hour_file(folder).write_bytes(b"x" * 40_000)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (cut(-100), r"T\d\d\.arrow: expected .*Arrow file.*, was truncated or corrupt"),
        (cut(5_000), r"\.arrow: expected 1000 events in at least \d+ bytes, was 5000 bytes \(truncated\)"),
        (cut(0), r"\.arrow: expected 1000 events in at least \d+ bytes, was 0 bytes"),
        (lambda folder: hour_file(folder).unlink(), r"\.arrow: expected 1000 events .* was not there"),
        (no_arrow, r"\.arrow: expected an Arrow file"),
        (other_types, r"\.arrow: expected the columns venue_ns, .* was venue_ns Float64"),
        (other_rows, r"\.arrow: expected 992 events in \d+ bytes, was \d+ bytes"),
        (
            lambda folder: edit_info(folder, version=2),
            r"market\.json: expected version 1 of the format, was 2",
        ),
        (lambda folder: edit_info(folder, tick="x"), r"market\.json: expected the description of a market"),
        (lambda folder: edit_info(folder, tick="-1"), r"market\.json: .* expected a positive tick"),
        (lambda folder: edit_info(folder, hours=[{}]), r"market\.json: expected the description of a market"),
    ],
)
def test_spoilt_stores_are_refused_with_their_place(tmp_path, spoil, message):
    write(tmp_path, an_hour())
    spoil(tmp_path)
    with pytest.raises(RecordingError, match=message):
        list(open_store(tmp_path).hours("BTC-USD"))


def column_with(name, row, value):
    column = getattr(an_hour(), name).copy()
    column[row] = value
    return {name: column}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (column_with("venue_ns", 7, HOUR0 + 1), r"row 7: expected a stamp of \d+ ns or later, was"),
        (column_with("kind", 7, LAST), "row 7: expected a kind of the format, was 128"),
        (column_with("kind", 7, OUTSIDE + 1), "row 7: expected a kind of the format, was 14"),
        (column_with("kind", 7, CLEAR | 64), "row 7: expected a kind of the format, was 67"),
        (column_with("kind", 999, LEVEL_BID), "row 1000: expected the end of a frame"),
    ],
)
def test_rows_that_cannot_be_are_named(tmp_path, changes, message):
    write(tmp_path, an_hour(**changes))
    with pytest.raises(RecordingError, match=rf"\.arrow, {message}"):
        list(open_store(tmp_path).hours("BTC-USD"))


def test_an_unknown_market_is_named(tmp_path):
    write(tmp_path, an_hour())
    with pytest.raises(RecordingError, match="expected the market X-USD, was a store of BTC-USD"):
        open_store(tmp_path).instrument("X-USD")
