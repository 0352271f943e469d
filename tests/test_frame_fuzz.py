"""Whatever arrives is an event, a frame left out, or `CorruptFrame`: no other error, no nonsense."""

import json
from collections import Counter
from contextlib import suppress
from decimal import Decimal

import pytest
from fuzzing import nearly
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.exchanges import replies
from market_maker.exchanges.frames import (
    decode_account,
    decode_book,
    decode_funding,
    decode_trades,
)
from market_maker.exchanges.quotes import (
    decode_bbo,
    decode_index,
    decode_mark,
    foreign_envelope,
    read_envelope,
)
from market_maker.exchanges.settlements import decode_settlements
from market_maker.exchanges.wire import CorruptFrame
from market_maker.gateway import FillReport, OrderReport, VenueError
from market_maker.instrument import Instrument

BTC = Instrument("BTC-USD", tick=Decimal("0.1"), step=Decimal("0.00001"), min_size=Decimal("0.0001"))
MARKETS = {"BTC-USD": BTC}
MOST = 10**30

LEVEL = {"q": "0.5", "p": "84050.0", "c": "1"}
BOOK = {"t": "SNAPSHOT", "m": "BTC-USD", "b": [LEVEL], "a": [{**LEVEL, "p": "84051"}], "d": "f"}
ORDER = {
    "id": 5,
    "market": "BTC-USD",
    "side": "BUY",
    "status": "NEW",
    "qty": "1",
    "price": "84050.0",
    "filledQty": "0",
    "statusReason": "NONE",
    "externalId": "mm-1",
    "updatedTime": 7,
}
FILL = {
    "id": 5,
    "market": "BTC-USD",
    "orderId": 6,
    "side": "SELL",
    "price": "1.5",
    "qty": "2",
    "fee": "0.1",
    "tradeType": "TRADE",
    "createdTime": 7,
}
POSITION = {
    "market": "BTC-USD",
    "side": "LONG",
    "size": "1",
    "status": "OPENED",
    "openPrice": "5",
    "markPrice": "6",
    "liquidationPrice": "4",
}
BALANCE = {"balance": "1", "equity": "2", "availableForTrade": "3", "initialMargin": "4"}
TRADE = {"i": 1, "m": "BTC-USD", "S": "SELL", "tT": "LIQUIDATION", "T": 5, "p": "61998.53", "q": "0.5"}
SHAPES = {
    "book": BOOK,
    "trades": [TRADE],
    "price": {"m": "BTC-USD", "p": "84058.47", "ts": 5},
    "funding": {"m": "BTC-USD", "T": 5, "f": "0.001"},
    "account": {
        "isSnapshot": True,
        "orders": [ORDER],
        "trades": [FILL],
        "positions": [POSITION],
        "balance": BALANCE,
    },
}
STREAMS = {
    "book": lambda frame: decode_book(frame, BTC, 1),
    "bbo": lambda frame: decode_bbo(frame, BTC, 1),
    "trades": lambda frame: decode_trades(frame, BTC, 1),
    "mark": lambda frame: decode_mark(frame, BTC),
    "index": lambda frame: decode_index(frame, BTC),
    "funding": lambda frame: decode_funding(frame, BTC),
    "account": lambda frame: decode_account(frame, MARKETS, 1, Counter()),
    "envelope": read_envelope,
    "foreign": lambda frame: foreign_envelope(frame, {"SNAPSHOT"}),
}
BODIES = {
    "markets": lambda body: replies.decode_markets(body, Counter()),
    "settlements": lambda body: decode_settlements(body, Counter()),
    "orders": lambda body: replies.decode_orders(body, MARKETS, Counter()),
    "fills": lambda body: replies.decode_fills(body, MARKETS, 1, Counter()),
    "positions": lambda body: replies.decode_positions(body, MARKETS, Counter()),
    "balance": replies.decode_balance,
    "fees": replies.decode_fees,
    "leverage": replies.decode_leverage,
    "candles": replies.decode_candles,
    "payments": lambda body: replies.decode_funding_payments(body, MARKETS),
    "accepted": replies.decode_accepted,
}
ROWS = (ORDER, FILL, POSITION, BALANCE, TRADE, BOOK)


def check(told):
    """No nonsense: whole numbers of a size that books have."""
    for event in told.events if hasattr(told, "events") else ():
        if isinstance(event, OrderReport):
            assert 0 <= event.price_ticks < MOST
            assert 0 <= event.filled_lots < MOST
        if isinstance(event, FillReport):
            assert 0 < event.fill.price_ticks < MOST
            assert event.fee.is_finite()


@pytest.mark.parametrize("name", STREAMS)
@given(
    nearly(list(SHAPES.values())), st.sampled_from(["SNAPSHOT", "ORDER", "MP", "NEWS", None]), st.integers()
)
def test_frames_that_are_nearly_right(name, data, kind, seq):
    frame = json.dumps({"type": kind, "data": data, "ts": 1_790_425_441_925, "seq": seq}).encode()
    with suppress(CorruptFrame):
        check(STREAMS[name](frame))


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.slow
@settings(max_examples=50)
@given(nearly([[row] for row in ROWS] + list(ROWS)))
def test_replies_that_are_nearly_right(name, data):
    with suppress(CorruptFrame, VenueError):
        BODIES[name](json.dumps({"status": "OK", "data": data}).encode())


@pytest.mark.slow
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_any_bytes(junk, at, byte):
    frames = [json.dumps({"data": data, "ts": 5, "seq": 1}).encode() for data in SHAPES.values()]
    for frame in [junk, *(b"%b%c%b" % (frame[:at], byte, frame[at + 1 :]) for frame in frames)]:
        for decode in STREAMS.values():
            with suppress(CorruptFrame):
                check(decode(frame))
        for decode in BODIES.values():
            with suppress(CorruptFrame, VenueError):
                decode(frame.replace(b'{"data"', b'{"status":"OK","data"'))


@pytest.mark.parametrize("name", [*STREAMS, *BODIES])
@pytest.mark.parametrize(
    "data",
    [b"[" * 20_000 + b"]" * 20_000, b'{"x":' * 20_000 + b"1" + b"}" * 20_000, b'[{"m":"\xff"}]', b'"\xc3"'],
)
def test_deep_lists_and_broken_text(name, data):
    frame = b'{"status":"OK","ts":1,"seq":1,"data":' + data + b"}"
    with suppress(CorruptFrame, VenueError):
        (STREAMS | BODIES)[name](frame)
