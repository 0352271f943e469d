"""What a decoder accepts is what the frame says: read once more by the standard library, and compared.

`test_frame_fuzz.py` shows that nothing but `CorruptFrame` comes of nonsense; here, that nonsense does not
pass for something else, and that no number comes through that the compiled core can not hold.
"""

import json
from collections import Counter
from contextlib import suppress
from decimal import Decimal

import pytest
from fuzzing import damaged, doubled_key, examples, nearly
from hypothesis import given
from hypothesis import strategies as st
from test_frame_fuzz import (
    BALANCE,
    BODIES,
    BOOK,
    BTC,
    FILL,
    MARKETS,
    ORDER,
    POSITION,
    ROWS,
    SHAPES,
    STREAMS,
    TRADE,
)

from market_maker.domain import NS_PER_MS, OrderState, Side
from market_maker.exchanges import replies
from market_maker.exchanges.credentials import decode_account_info
from market_maker.exchanges.outside import decode_ticker
from market_maker.exchanges.wire import CorruptFrame
from market_maker.gateway import VenueError

INT64 = 2**63
# What a float may be off, in ticks: the fast way of book frames.
NEARLY = Decimal("0.000001")
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}


def read(text):
    """What the standard library reads: exact numbers, and of a key that is said twice the last.

    Text that is no UTF-8 may stand where nobody looks, as all else may there.
    """
    return json.loads(text.decode(errors="replace"), parse_float=Decimal)


def number(value):
    return Decimal(str(value))


def assert_instant(ns, said):
    assert ns == int(number(said)) * NS_PER_MS
    assert 0 <= ns < INT64


def assert_on_grid(units, unit, said, *, lowest):
    assert abs(number(said) - units * unit) <= NEARLY * unit
    assert lowest <= units < INT64


def assert_levels(levels, said, size_key):
    assert len(levels) == len(said)
    for (ticks, lots), level in zip(levels, said, strict=True):
        assert_on_grid(ticks, BTC.tick, level["p"], lowest=1)
        assert_on_grid(lots, BTC.step, level[size_key], lowest=0)


def assert_book(update, said):
    data = said["data"]
    assert (update.market, data["m"]) == (BTC.name, BTC.name)
    assert update.is_snapshot == (data["t"] == "SNAPSHOT")
    assert update.seq == int(number(said["seq"]))
    assert_instant(update.venue_ns, said["ts"])
    size_key = "q" if update.is_snapshot else "c"
    assert_levels(update.bids, data.get("b", []), size_key)
    assert_levels(update.asks, data.get("a", []), size_key)


def assert_best(best, said):
    data = said["data"]
    bids, asks = (
        [(number(row["p"]), number(row["q"])) for row in data.get(side, []) if number(row["q"])]
        for side in "ba"
    )
    bid, ask = max(bids, default=(0, 0)), min(asks, default=(0, 0))
    assert (best.bid_ticks * BTC.tick, best.bid_lots * BTC.step) == bid
    assert (best.ask_ticks * BTC.tick, best.ask_lots * BTC.step) == ask
    assert 0 <= max(best[1:5]) < INT64
    assert_instant(best.venue_ns, said["ts"])


def assert_trades(trades, said):
    for trade, row in zip(trades, said["data"], strict=True):
        assert (trade.market, trade.taker_side) == (row["m"], SIDES[row["S"]])
        off = BTC.tick / 2 if row.get("tT", "TRADE") != "TRADE" else 0
        assert abs(trade.price_ticks * BTC.tick - number(row["p"])) <= off
        assert trade.size_lots * BTC.step == number(row["q"])
        assert 0 < trade.price_ticks < INT64
        assert 0 <= trade.size_lots < INT64
        assert_instant(trade.venue_ns, row["T"])


def assert_price(price, said):
    data = said["data"]
    assert (price.market, data["m"]) == (BTC.name, BTC.name)
    assert price.price == number(data["p"]) > 0
    assert_instant(price.venue_ns, number(data.get("ts", 0)) or said["ts"])


def assert_funding(rate, said):
    assert rate.rate == number(said["data"]["f"])
    assert rate.rate.is_finite()
    assert_instant(rate.venue_ns, said["data"]["T"])


def assert_account(frame, said):
    assert frame.seq == int(number(said["seq"]))
    assert_instant(frame.venue_ns, said["ts"])
    rows = {kind: said["data"].get(kind) or [] for kind in ("orders", "trades", "positions")}
    ours = [(kind, row) for kind, found in rows.items() for row in found if row["market"] in MARKETS]
    balances = said["data"].get("balance") is not None
    assert len(frame.events) == len(ours) + balances
    checks = {"orders": assert_order, "trades": assert_fill, "positions": assert_position}
    for event, (kind, row) in zip(frame.events, ours, strict=False):
        checks[kind](event, row)


def assert_order(report, row):
    assert (report.market, report.side) == (row["market"], SIDES[row["side"]])
    assert report.external_id == row.get("externalId", "")
    if row["status"] in OrderState.__members__:
        assert report.state == OrderState[row["status"]]
    assert report.size_lots * BTC.step == number(row["qty"])
    assert report.filled_lots * BTC.step == number(row.get("filledQty") or 0)
    assert report.price_ticks * BTC.tick == number(row.get("price") or 0)
    assert min(report.price_ticks, report.size_lots, report.filled_lots) >= 0
    assert max(report.price_ticks, report.size_lots, report.filled_lots) < INT64
    assert_instant(report.venue_ns, row.get("updatedTime", 0))


def assert_fill(report, row):
    fill = report.fill
    assert (fill.market, fill.side) == (row["market"], SIDES[row["side"]])
    assert fill.size_lots * BTC.step == number(row["qty"]) >= 0
    assert report.fee == number(row.get("fee", 0))
    assert 0 < fill.price_ticks < INT64
    assert fill.size_lots < INT64
    assert_instant(fill.venue_ns, row.get("createdTime", 0))


def assert_position(report, row):
    assert abs(report.size_lots) * BTC.step == (
        0 if row.get("status") == "CLOSED" else abs(number(row["size"]))
    )
    assert abs(report.size_lots) < INT64
    if report.size_lots:
        assert (report.size_lots > 0) == (row["side"] == "LONG")
    assert_instant(report.venue_ns, row.get("updatedAt", 0))


CHECKS = {
    "book": (assert_book, {"BOOK": BOOK, "DELTA": {**BOOK, "t": "DELTA"}}),
    "bbo": (assert_best, {"BOOK": BOOK}),
    "trades": (assert_trades, {"TRADES": [TRADE, {**TRADE, "tT": "TRADE", "p": "61998.5"}]}),
    "mark": (assert_price, {"PRICE": SHAPES["price"]}),
    "index": (assert_price, {"PRICE": SHAPES["price"]}),
    "funding": (assert_funding, {"FUNDING": SHAPES["funding"]}),
    "account": (assert_account, {"ACCOUNT": SHAPES["account"]}),
}
ODD = st.one_of(
    st.integers(-(10**40), 10**40),
    st.integers(-3, 3),
    st.decimals(allow_nan=False, allow_infinity=False, places=6).map(str),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["ETH-USD", "DELTA", "SELL", "-1", "1e21", "9223372036854775808", "0.000001", "CLOSED"]),
    st.none(),
)


def frames_of(name):
    return [
        {"type": kind, "data": data, "ts": 1_790_425_441_925, "seq": 7}
        for kind, data in CHECKS[name][1].items()
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
@examples(25)
@given(st.data())
def test_what_a_stream_frame_is_taken_for_is_what_it_says(name, data):
    frame = data.draw(nearly(frames_of(name), ODD))
    text = json.dumps(frame).encode()
    with suppress(CorruptFrame):
        CHECKS[name][0](STREAMS[name](text), read(text))


@pytest.mark.slow
@pytest.mark.parametrize("name", CHECKS)
@examples(25)
@given(st.data())
def test_a_damaged_stream_frame_is_taken_for_what_it_says_or_refused(name, data):
    text = data.draw(damaged([json.dumps(frame).encode() for frame in frames_of(name)]))
    with suppress(CorruptFrame):
        accepted = STREAMS[name](text)
        CHECKS[name][0](accepted, read(text))


@pytest.mark.parametrize("name", CHECKS)
def test_of_a_key_that_is_said_twice_the_last_counts(name):
    text = json.dumps(frames_of(name)[0]).encode()
    text = doubled_key(text, "ts", 9)
    CHECKS[name][0](STREAMS[name](text), read(text))


@pytest.mark.slow
@pytest.mark.parametrize("wide", [1, 60])
@examples(25)
@given(
    odd=st.lists(nearly([{"p": "84050.1", "q": "0.5", "c": "1"}], ODD), max_size=3), is_snapshot=st.booleans()
)
def test_few_and_many_levels_are_read_alike(wide, odd, is_snapshot):
    """A whole book is scanned by other code than a small one: both say what the frame says, or refuse."""
    levels = [{"p": str(84_000 + at), "q": "0.5", "c": "1"} for at in range(wide)] + odd
    book = {**BOOK, "t": "SNAPSHOT" if is_snapshot else "DELTA", "b": levels}
    text = json.dumps({"data": book, "ts": 1, "seq": 1}).encode()
    with suppress(CorruptFrame):
        assert_book(STREAMS["book"](text), read(text))


TOO_LARGE = [
    ("book", "data", "b", 0, "p", "1e24"),
    ("book", "data", "b", 0, "q", "1e19"),
    ("book", "ts", 10**13),
    ("book", "ts", -1),
    ("bbo", "data", "a", 0, "p", "1e24"),
    ("bbo", "ts", 10**25),
    ("trades", "data", 0, "q", "1e19"),
    ("trades", "data", 0, "p", "1e24"),
    ("trades", "data", 0, "T", -5),
    ("mark", "data", "ts", 10**13),
    ("funding", "data", "T", 10**13),
    ("account", "data", "orders", 0, "qty", "1e19"),
    ("account", "data", "orders", 0, "updatedTime", 10**13),
    ("account", "data", "trades", 0, "createdTime", -1),
    ("account", "data", "positions", 0, "size", "1e19"),
    ("account", "data", "positions", 0, "updatedAt", 10**13),
    ("account", "data", "balance", "updatedTime", 10**13),
]


@pytest.mark.parametrize("change", TOO_LARGE, ids=lambda change: "-".join(map(str, change)))
def test_what_the_core_can_not_hold_is_corrupt(change):
    """Rows of the compiled core hold 64 bits: what is larger would end the session there instead of here."""
    name, *path, value = change
    frame = json.loads(json.dumps(frames_of(name)[0]))
    inner = frame
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(CorruptFrame):
        STREAMS[name](json.dumps(frame).encode())


REPLIES = {
    "orders": (lambda body: replies.decode_orders(body, MARKETS, Counter()), ORDER, assert_order),
    "fills": (lambda body: replies.decode_fills(body, MARKETS, 1, Counter()), FILL, assert_fill),
    "positions": (lambda body: replies.decode_positions(body, MARKETS, Counter()), POSITION, assert_position),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPLIES)
@examples(25)
@given(st.data())
def test_what_a_reply_is_taken_for_is_what_it_says(name, data):
    decode, row, check = REPLIES[name]
    text = json.dumps({"status": "OK", "data": [data.draw(nearly([row], ODD))]}).encode()
    with suppress(CorruptFrame, VenueError):
        for report in decode(text):
            if report is not None and read(text)["data"][0]["market"] in MARKETS:
                check(report, read(text)["data"][0])


@pytest.mark.slow
@examples(25)
@given(
    st.sampled_from(sorted(BODIES)),
    damaged([json.dumps({"status": "OK", "data": [r]}).encode() for r in ROWS]),
)
def test_damaged_replies(name, body):
    with suppress(CorruptFrame, VenueError):
        BODIES[name](body)


@examples(25)
@given(nearly([BALANCE], ODD))
def test_a_balance_is_what_it_says(row):
    text = json.dumps({"status": "OK", "data": row}).encode()
    with suppress(CorruptFrame, VenueError):
        report = replies.decode_balance(text)
        assert report.equity == number(row["equity"])
        assert report.available_for_trade == number(row["availableForTrade"])
        assert_instant(report.venue_ns, row.get("updatedTime", 0))


TICKER = {
    "stream": "btcusdt@bookTicker",
    "data": {"e": "bookTicker", "u": 5, "s": "BTCUSDT", "b": "1.5", "a": "2", "E": 7},
}


@examples(40)
@given(nearly([TICKER], ODD) | st.just(TICKER))
def test_a_price_from_outside_is_what_it_says(frame):
    with suppress(CorruptFrame):
        symbol, mid, _, venue_ns = decode_ticker(json.dumps(frame).encode())
        said = frame["data"]
        assert symbol == said["s"]
        assert 2 * mid == number(said["b"]) + number(said["a"])
        assert_instant(venue_ns, said.get("E", 0))


@examples(25)
@given(damaged([json.dumps(TICKER).encode()]) | st.binary(max_size=80))
def test_damaged_prices_from_outside(frame):
    with suppress(CorruptFrame):
        assert decode_ticker(frame)[1].is_finite()


@examples(25)
@given(
    nearly([{"status": "OK", "data": {"l2Key": "0x1", "l2Vault": "7", "accountId": 1, "status": "ACTIVE"}}])
)
def test_whose_account_it_is(body):
    with suppress(CorruptFrame, VenueError):
        assert decode_account_info(json.dumps(body).encode()).public_key.startswith("0x")
