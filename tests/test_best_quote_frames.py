"""Frames of the best quote and the index price, hand-written from the exchange's documentation."""

import json
from decimal import Decimal

import pytest

from market_maker.domain import BestQuote
from market_maker.exchanges.quotes import Envelope, decode_bbo, decode_index, read_envelope
from market_maker.exchanges.wire import CorruptFrame
from market_maker.gateway import IndexPrice
from market_maker.instrument import Instrument

BTC = Instrument("BTC-USD", tick=Decimal(1), step=Decimal("0.00001"), min_size=Decimal("0.0001"))

QUOTE = (
    b'{"type":"SNAPSHOT","data":{"t":"SNAPSHOT","m":"BTC-USD","b":[{"q":"0.00118","p":"84050.000000"}],'
    b'"a":[{"q":"1.2","p":"84051"}],"d":"1"},"ts":1790425441925,"seq":41}'
)
INDEX = (
    b'{"type":"IP","data":{"m":"BTC-USD","p":"84061.10250000000","ts":1790425441925},'
    b'"ts":1790425441930,"seq":1,"sourceEventId":null}'
)


def quote(bids=(), asks=(), kind="SNAPSHOT", market="BTC-USD"):
    data = {"t": kind, "m": market, "b": list(bids), "a": list(asks)}
    return json.dumps({"type": kind, "data": data, "ts": 5, "seq": 1}).encode()


def test_best_quote():
    assert decode_bbo(QUOTE, BTC, 99) == BestQuote(
        "BTC-USD", 84050, 118, 84051, 120_000, venue_ns=1790425441925_000_000, recv_ns=99
    )


@pytest.mark.parametrize("price", ["84050", "84050.0", "84050.000000", 84050])
def test_one_price_in_many_spellings(price):
    assert decode_bbo(quote([{"q": "0.5", "p": price}]), BTC, 0).bid_ticks == 84050


@pytest.mark.parametrize(
    ("bids", "asks", "expected"),
    [
        ([], [], (0, 0, 0, 0)),
        ([(9, 1)], [], (9, 1, 0, 0)),
        ([], [(9, 1)], (0, 0, 9, 1)),
        ([(9, 0)], [(10, 1)], (0, 0, 10, 1)),
        ([(8, 1), (9, 2)], [(11, 1), (10, 2)], (9, 2, 10, 2)),
    ],
)
def test_sides_may_be_empty_and_the_best_counts(bids, asks, expected):
    def side(levels):
        return [{"q": str(BTC.size(lots)), "p": str(ticks)} for ticks, lots in levels]

    assert decode_bbo(quote(side(bids), side(asks)), BTC, 0)[1:5] == expected


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (quote(kind="DELTA"), "SNAPSHOT of the best quote of BTC-USD, was DELTA"),
        (quote(market="ETH-USD"), "expected market BTC-USD, was ETH-USD"),
        (quote([{"q": "1", "p": "84050.5"}]), "multiple of 1, was 84050.5"),
        (quote([{"q": "0.000015", "p": "84050"}]), "multiple of 0.00001"),
        (quote([{"q": "-1", "p": "84050"}]), "not negative"),
        (quote([{"q": "1", "p": "0"}]), "positive price"),
        (quote([{"q": "1"}]), "missing required field `p`"),
        (QUOTE[:80], "a best quote frame"),
        (b"\xff\xfe", "a best quote frame"),
    ],
)
def test_corrupt_quote_says_what_was_expected(frame, message):
    with pytest.raises(CorruptFrame, match=message):
        decode_bbo(frame, BTC, 0)


def test_index_price_has_the_instant_of_its_data():
    expected = IndexPrice("BTC-USD", Decimal("84061.10250000000"), 1790425441925_000_000)
    assert decode_index(INDEX, BTC) == expected


def test_index_price_without_its_own_instant_has_the_frames():
    frame = INDEX.replace(b'"ts":1790425441925', b'"ts":0')
    assert decode_index(frame, BTC).venue_ns == 1790425441930_000_000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"84061.1025", b"-84061.1025", "positive index price"),
        (b'"84061.10250000000"', b'"NaN"', "finite index price"),
        (b"BTC", b"ETH", "expected market BTC-USD"),
        (b"}", b"", "a price frame"),
    ],
)
def test_corrupt_index_says_what_was_expected(old, new, message):
    with pytest.raises(CorruptFrame, match=message):
        decode_index(INDEX.replace(old, new), BTC)


def test_every_frame_has_an_envelope():
    assert read_envelope(QUOTE) == Envelope("SNAPSHOT", 1790425441925, 41)
    assert read_envelope(b'{"data":[],"ts":7,"seq":2,"new":{}}') == Envelope(None, 7, 2)
    assert read_envelope(b'{"type":null,"hello":1}') == Envelope()
    with pytest.raises(CorruptFrame, match="a frame with a type and a number"):
        read_envelope(b'{"type":"SNAP')
