"""Many levels are read as few are: the compiled scan against the parser of small frames."""

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.exchanges.frames import CorruptFrame, decode_book
from market_maker.exchanges.level_scanner import scan_levels, warm_up
from market_maker.exchanges.levels import Level, fast_levels
from market_maker.instrument import Instrument

BTC = Instrument("BTC-USD", tick=Decimal(1), step=Decimal("0.00001"), min_size=Decimal("0.0001"))
ALT = Instrument("ALT-USD", tick=Decimal("0.00025"), step=Decimal("0.3"), min_size=Decimal("0.9"))
PLAIN = b'[{"q":"0.00118","p":"84074.000000"},{"p":84053,"q":2.5,"c":"1"}, { "q":"1", "p":"84052"}]'
MANY = b" " * 2_000  # makes a frame as long as one of many levels


def scan(text, *, tick=1.0, step=0.00001, is_snapshot=True):
    return scan_levels(msgspec.Raw(text), tick, step, is_snapshot=is_snapshot)


def test_plain_levels_are_scanned():
    warm_up()
    assert scan(PLAIN) == [(84074, 118), (84053, 250_000), (84052, 100_000)]
    assert scan(b"[]") == []
    assert scan(b'[{"q":"-3","p":"7","c":"0.5"}]', is_snapshot=False) == [(7, 50_000)]


@pytest.mark.parametrize("zeros", [0, 3, 30])
def test_zeros_behind_the_point_change_nothing(zeros):
    assert scan(b'[{"p":"84050.0' + b"0" * zeros + b'","q":"0.00001"}]') == [(84050, 1)]


@pytest.mark.parametrize(
    "level",
    [
        b'{"p":"1E2","q":"1"}',
        b'{"p":"100","q":"1E-5"}',
        b'{"p":"100","q":"1","n":3}',
        b'{"p":"100","q":"1","name":"x"}',
        b'{"p":"100","q":null}',
        b'{"p":"100"}',
        b'{"q":"1"}',
        b"{}",
        b'{"p":"","q":"1"}',
        b'{"p":"100.","q":"1"}',
        b'{"p":".5","q":"1"}',
        b'{"p":"007","q":"1"}',
        b'{"p":"+7","q":"1"}',
        b'{"p":"7 ","q":"1"}',
        b'{"p":"1000000000000000","q":"1"}',
        b'{"p":"1.0000000000000001","q":"1"}',
        b'{"p":"nan","q":"1"}',
        b'{"p":"0","q":"1"}',
        b'{"p":"-7","q":"1"}',
        b'{"p":"7.5","q":"1"}',
        b'{"p":"7","q":"-1"}',
        b'{"p":"7","q":"0.000001"}',
        b'{"p" :"7","q":"1"}',
        b"[]",
        b"7",
    ],
)
def test_what_is_odd_or_wrong_is_left_to_the_other_parsers(level):
    assert scan(b"[" + level + b"]") is None
    assert scan(PLAIN[:-1] + b"," + level + b"]") is None


@pytest.mark.parametrize(
    "text", [b"[", b"]", b"", b"null", b'"["', b"{}", b'[{"p":"7","q":"1"}', b"[}]", b"[][]"]
)
def test_what_is_no_array_is_none(text):
    assert scan(text) is None


def test_a_delta_without_the_absolute_size_is_left_to_the_exact_way():
    assert scan(b'[{"p":"7","q":"1"}]', is_snapshot=False) is None


number = st.one_of(
    st.decimals(0, 10**6, places=5, allow_nan=False).map(str),
    st.integers(0, 10**17).map(str),
    st.decimals(allow_nan=True).map(str),
    st.floats(-1, 1e10).map(repr),
    st.text("0123456789.-eE+ ", max_size=20),
)
value = number | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 10**17) | st.none()
level = st.dictionaries(st.sampled_from(["p", "q", "c", "z"]), value, min_size=2)


@given(
    levels=st.lists(level, max_size=5),
    is_snapshot=st.booleans(),
    grid=st.sampled_from([(1.0, 0.00001), (0.00025, 0.3), (0.1, 1000.0)]),
    separators=st.sampled_from([(",", ":"), (", ", ":"), (", ", ": ")]),
)
def test_what_is_scanned_is_what_the_parser_gives(levels, is_snapshot, grid, separators):
    text = json.dumps(levels, separators=separators).encode()
    found = scan(text, tick=grid[0], step=grid[1], is_snapshot=is_snapshot)
    if found is not None:
        parsed = msgspec.json.decode(text, type=list[Level], strict=False)
        assert found == fast_levels(parsed, *grid, is_snapshot=is_snapshot)


def outcome(frame, instrument):
    try:
        return decode_book(frame, instrument, 5)
    except CorruptFrame:
        return None


def on_grid(instrument, zeros):
    def spelled(ticks, lots, change):
        price, size = f"{instrument.price(ticks):f}", f"{instrument.size(lots):f}"
        price += ("" if "." in price else ".") + "0" * zeros if zeros else ""
        return {"q": change, "p": price, "c": size}

    return spelled


@given(
    pairs=st.lists(st.tuples(st.integers(1, 10**8), st.integers(0, 10**8)), min_size=1, max_size=20),
    instrument=st.sampled_from([BTC, ALT]),
    kind=st.sampled_from(["SNAPSHOT", "DELTA"]),
    zeros=st.integers(0, 9),
    edit=st.none() | st.tuples(st.integers(0, 400), st.binary(max_size=2)),
)
def test_a_long_frame_is_decoded_as_a_short_one(pairs, instrument, kind, zeros, edit):
    spell = on_grid(instrument, zeros)
    levels = [spell(ticks, lots, str(instrument.size(lots))) for ticks, lots in pairs]
    data = {"t": kind, "m": instrument.name, "b": levels, "a": levels[:3], "d": "f"}
    frame = json.dumps({"type": kind, "data": data, "ts": 5, "seq": 1}, separators=(",", ":")).encode()
    if edit is None:
        assert decode_book(frame + MANY, instrument, 5).bids == pairs
    else:
        at, put = edit
        frame = frame[:at] + put + frame[at + 1 :]
    assert outcome(frame + MANY, instrument) == outcome(frame, instrument)


def test_a_whole_book_comes_back():
    bids = [(84_000 - n, 1 + n * 7 % 400_000) for n in range(3_000)]
    asks = [(84_001 + n, 1 + n * 11 % 400_000) for n in range(3_000)]
    sides = [[{"q": str(BTC.size(q)), "p": f"{p}.0"} for p, q in side] for side in (bids, asks)]
    data = {"t": "SNAPSHOT", "m": "BTC-USD", "b": sides[0], "a": sides[1]}
    update = decode_book(json.dumps({"data": data, "ts": 1, "seq": 1}).encode(), BTC, 0)
    assert (update.bids, update.asks) == (bids, asks)
