"""Frames of the exchange's streams, hand-written from its documentation."""

import json
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.domain import BookUpdate, Fill, OrderState, Side, Trade
from market_maker.exchanges import frames
from market_maker.exchanges.frames import (
    CorruptFrame,
    Unknown,
    decode_book,
    decode_funding,
    decode_trades,
)
from market_maker.exchanges.quotes import decode_mark
from market_maker.gateway import (
    BalanceReport,
    FillReport,
    FundingRate,
    MarkPrice,
    OrderReport,
    PositionReport,
)
from market_maker.instrument import Instrument

BTC = Instrument("BTC-USD", tick=Decimal(1), step=Decimal("0.00001"), min_size=Decimal("0.0001"))
ALT = Instrument("ALT-USD", tick=Decimal("0.00025"), step=Decimal("0.3"), min_size=Decimal("0.9"))
MARKETS = {"BTC-USD": BTC, "ALT-USD": ALT}

DELTA = (
    b'{"type":"DELTA","data":{"t":"DELTA","m":"BTC-USD",'
    b'"b":[{"q":"0.00118","p":"84074","c":"0.00118"},{"q":"-0.04619","p":"84053","c":"2.99615"}],'
    b'"a":[{"q":"-0.26796","p":"84078","c":"0"}],"d":"f"},"ts":1790425441925,"seq":7}'
)


def book_frame(kind="SNAPSHOT", market="BTC-USD", bids=(), asks=()):
    data = {"t": kind, "m": market, "b": list(bids), "a": list(asks), "d": "f"}
    return json.dumps({"type": kind, "data": data, "ts": 5, "seq": 1}).encode()


def test_delta_takes_the_absolute_size():
    assert decode_book(DELTA, BTC, 99) == BookUpdate(
        "BTC-USD",
        is_snapshot=False,
        bids=[(84074, 118), (84053, 299615)],
        asks=[(84078, 0)],
        seq=7,
        venue_ns=1790425441925_000_000,
        recv_ns=99,
    )


def test_v2_wrapper_is_read_alike():
    wrapped = DELTA.replace(b'"type":"DELTA"', b'"type":"ORDERBOOKS.DELTA"')
    wrapped = wrapped.replace(b'"seq":7}', b'"seq":7,"subscription":"orderbooks.BTC-USD"}')
    assert decode_book(wrapped, BTC, 99) == decode_book(DELTA, BTC, 99)


@pytest.mark.parametrize("price", ["84050", "84050.0", "84050.000000", 84050])
def test_one_price_in_many_spellings_is_one_level(price):
    update = decode_book(book_frame(bids=[{"q": "0.5", "p": price}]), BTC, 0)
    assert update.is_snapshot
    assert update.bids == [(84050, 50_000)]


def test_empty_delta_has_its_place_in_the_sequence():
    update = decode_book(b'{"data":{"t":"DELTA","m":"BTC-USD"},"ts":1,"seq":3}', BTC, 0)
    assert (update.bids, update.asks, update.seq) == ([], [], 3)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ({"q": "1", "p": "84050.5", "c": "1"}, "expected a multiple of 1, was 84050.5"),
        ({"q": "1", "p": "84050", "c": "0.000015"}, "expected a multiple of 0.00001, was 0.000015"),
        ({"q": "1", "p": "0", "c": "1"}, "positive price"),
        ({"q": "1", "p": "-3", "c": "1"}, "positive price"),
        ({"q": "1", "p": "84050", "c": "-1"}, "not negative"),
        ({"q": "1", "p": "nan", "c": "1"}, "was NaN"),
        ({"q": "-1", "p": "84050"}, "absolute size `c`"),
        ({"q": "1", "c": "1"}, "missing required field `p`"),
    ],
)
def test_corrupt_level_says_what_was_expected(level, message):
    with pytest.raises(CorruptFrame, match=message):
        decode_book(book_frame("DELTA", asks=[level]), BTC, 0)


@pytest.mark.parametrize("frame", [b"", b"[]", b"{", DELTA[:-20], b'{"data":{}}', b'\xff{"data"'])
def test_what_is_no_frame_is_corrupt(frame):
    with pytest.raises(CorruptFrame, match="expected a book frame"):
        decode_book(frame, BTC, 0)


def test_book_of_another_market_or_kind_is_corrupt():
    with pytest.raises(CorruptFrame, match="expected SNAPSHOT or DELTA of ALT-USD, was DELTA of BTC-USD"):
        decode_book(DELTA, ALT, 0)
    with pytest.raises(CorruptFrame, match="was PARTIAL of BTC-USD"):
        decode_book(book_frame("PARTIAL"), BTC, 0)


def test_long_frames_are_shortened_in_the_error():
    with pytest.raises(CorruptFrame) as caught:
        decode_book(b'{"x":"' + b"y" * 5000, BTC, 0)
    assert len(str(caught.value)) < 400


levels = st.lists(st.tuples(st.integers(1, 10**13), st.integers(0, 10**16)), max_size=6)


@given(bids=levels, asks=levels, is_snapshot=st.booleans(), instrument=st.sampled_from([BTC, ALT]))
def test_every_number_on_the_grid_comes_back_exactly(bids, asks, is_snapshot, instrument):
    def wire(pairs):
        size = "q" if is_snapshot else "c"
        prices = [f"{instrument.price(p):f}" for p, _ in pairs]
        spelled = [price + ("000" if "." in price else ".000") for price in prices]
        return [
            {"q": "-1", "p": p, size: str(instrument.size(q))}
            for p, (_, q) in zip(spelled, pairs, strict=True)
        ]

    kind = "SNAPSHOT" if is_snapshot else "DELTA"
    frame = book_frame(kind, instrument.name, wire(bids), wire(asks))
    update = decode_book(frame, instrument, 0)
    assert (update.bids, update.asks) == (bids, asks)


def test_trades():
    frame = (
        b'{"data":[{"m":"BTC-USD","S":"SELL","tT":"LIQUIDATION","T":1728478935001,"p":"61998.0","q":"0.04839",'
        b'"i":1844000421446684673}],"ts":1728478935001,"seq":5}'
    )
    assert decode_trades(frame, BTC, 8) == [
        Trade("BTC-USD", 1844000421446684673, Side.SELL, 61998, 4839, 1728478935001_000_000, 8)
    ]
    with pytest.raises(CorruptFrame, match="expected market ALT-USD, was BTC-USD"):
        decode_trades(frame, ALT, 8)
    with pytest.raises(CorruptFrame, match="expected side BUY or SELL, was HOLD"):
        decode_trades(frame.replace(b"SELL", b"HOLD"), BTC, 8)


@pytest.mark.parametrize(("kind", "ticks"), [("LIQUIDATION", 61_999), ("DELEVERAGE", 61_999)])
def test_a_liquidation_off_the_grid_is_a_trade_at_the_nearest_tick(kind, ticks):
    row = {"m": "BTC-USD", "S": "SELL", "tT": kind, "T": 1, "p": "61998.51", "q": "0.04839", "i": 7}
    [trade] = decode_trades(json.dumps({"data": [row], "ts": 1, "seq": 5}).encode(), BTC, 9)
    assert trade.price_ticks == ticks
    for odd in ({"tT": "TRADE"}, {"p": "1e99"}, {"p": "0.4"}, {"q": "0.000001"}):
        with pytest.raises(CorruptFrame):
            decode_trades(json.dumps({"data": [row | odd], "ts": 1, "seq": 5}).encode(), BTC, 9)


def test_mark_and_funding():
    mark = b'{"type":"MP","data":{"m":"BTC-USD","p":"84058.473541750005","ts":5},"ts":9,"seq":1}'
    assert decode_mark(mark, BTC) == MarkPrice("BTC-USD", Decimal("84058.473541750005"), 5_000_000)
    assert decode_mark(mark.replace(b'"ts":5', b'"ts":0'), BTC).venue_ns == 9_000_000
    with pytest.raises(CorruptFrame, match="positive mark price"):
        decode_mark(mark.replace(b"84058", b"-84058"), BTC)
    with pytest.raises(CorruptFrame, match="finite mark price"):
        decode_mark(mark.replace(b"84058.473541750005", b"NaN"), BTC)
    funding = b'{"data":{"m":"BTC-USD","T":1701563440000,"f":"-0.000013"},"ts":1701563440000,"seq":2}'
    rate = FundingRate("BTC-USD", Decimal("-0.000013"), 1701563440000_000_000)
    assert decode_funding(funding, BTC) == rate


ORDER = {
    "id": 2**63,
    "externalId": "mm-1",
    "market": "BTC-USD",
    "side": "SELL",
    "status": "PARTIALLY_FILLED",
    "price": "84000.000",
    "qty": "0.2",
    "filledQty": "0.1",
    "reduceOnly": False,
    "postOnly": True,
    "updatedTime": 7,
    "somethingNew": [1],
}
TRADE = {
    "id": 11,
    "market": "BTC-USD",
    "orderId": 2**63,
    "externalOrderId": "mm-1",
    "side": "BUY",
    "price": "58853.0000000000000000",
    "qty": "0.0900000000000000",
    "fee": "0.0120000000000000",
    "tradeType": "TRADE",
    "createdTime": 7,
    "isTaker": True,
}
POSITION = {
    "market": "BTC-USD",
    "status": "OPENED",
    "side": "SHORT",
    "size": "0.1",
    "openPrice": "39000.5",
    "markPrice": "40000.25",
    "liquidationPrice": "38200",
    "updatedAt": 7,
}
BALANCE = {
    "balance": "7.667333",
    "equity": "7.5",
    "availableForTrade": "-1.5",
    "initialMargin": "9",
    "marginRatio": "0.5",
    "updatedTime": 7,
}


def decode_account(frame, instruments, recv_ns):
    """A frame of the account, and the words that nobody documented."""
    unknown = Unknown()
    decoded = frames.decode_account(frame, instruments, recv_ns, unknown)
    return SimpleNamespace(**decoded._asdict(), unknown=unknown)


def account(snapshot=False, **data):
    return json.dumps({"type": "X", "data": {"isSnapshot": snapshot, **data}, "ts": 3, "seq": 4}).encode()


def test_account_mixture():
    frame = account(orders=[ORDER], trades=[TRADE], positions=[POSITION], balance=BALANCE)
    decoded = decode_account(frame, MARKETS, 9)
    report = OrderReport(
        "BTC-USD",
        2**63,
        "mm-1",
        Side.SELL,
        OrderState.LIVE,
        "",
        84000,
        20_000,
        10_000,
        reduce_only=False,
        post_only=True,
        venue_ns=7_000_000,
    )
    fill = Fill(
        "BTC-USD", 11, 2**63, "mm-1", Side.BUY, 58853, 9000, is_taker=True, venue_ns=7_000_000, recv_ns=9
    )
    assert decoded.events == [
        report,
        FillReport(fill, Decimal("0.012")),
        PositionReport(
            "BTC-USD", -10_000, Decimal("39000.5"), Decimal("40000.25"), Decimal(38200), venue_ns=7_000_000
        ),
        BalanceReport(
            Decimal("7.667333"),
            Decimal("7.5"),
            Decimal("-1.5"),
            Decimal(9),
            Decimal("0.5"),
            venue_ns=7_000_000,
        ),
    ]
    assert decoded.kinds == {"ORDER", "TRADE", "POSITION", "BALANCE"}
    assert (decoded.is_snapshot, decoded.seq, decoded.venue_ns) == (False, 4, 3_000_000)
    assert not decoded.unknown
    assert not decoded.other_markets


def test_empty_snapshot_says_that_there_is_nothing():
    decoded = decode_account(account(snapshot=True, positions=[]), MARKETS, 0)
    assert decoded.is_snapshot
    assert decoded.kinds == {"POSITION"}
    assert decoded.events == []


def test_kinds_that_do_not_concern_us_keep_their_place():
    frame = b'{"type":"SPOT_BALANCE","data":{"isSnapshot":true,"spotBalances":[{}]},"ts":1,"seq":4}'
    decoded = decode_account(frame, MARKETS, 0)
    assert (decoded.kinds, decoded.events, decoded.seq) == (frozenset(), [], 4)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NEW", OrderState.LIVE),
        ("UNTRIGGERED", OrderState.LIVE),
        ("TRIGGERED", OrderState.LIVE),
        ("FILLED", OrderState.FILLED),
        ("CANCELLED", OrderState.CANCELLED),
        ("REJECTED", OrderState.REJECTED),
        ("EXPIRED", OrderState.EXPIRED),
    ],
)
def test_order_states(status, state):
    decoded = decode_account(account(orders=[{**ORDER, "status": status}]), MARKETS, 0)
    assert decoded.events[0].state is state
    assert not decoded.unknown


def test_unknown_words_are_counted_and_do_not_stop_the_bot():
    orders = [
        {**ORDER, "status": "SLEEPING", "statusReason": "BORED"},
        {**ORDER, "statusReason": "NEGATIVE_EQUITY"},
    ]
    positions = [{**POSITION, "status": "ODD"}]
    decoded = decode_account(account(orders=orders, positions=positions), MARKETS, 0)
    assert [event.state for event in decoded.events[:2]] == [OrderState.UNKNOWN, OrderState.LIVE]
    assert decoded.events[0].reason == "BORED"
    assert decoded.unknown == {
        "order status SLEEPING": 1,
        "status reason BORED": 1,
        "position status ODD": 1,
    }


@pytest.mark.parametrize("value", [None, "", "0", 0, "-1", "NaN"])
def test_no_liquidation_price(value):
    decoded = decode_account(account(positions=[{**POSITION, "liquidationPrice": value}]), MARKETS, 0)
    assert decoded.events[0].liquidation_price is None


def test_missing_and_odd_liquidation_prices():
    without = {key: item for key, item in POSITION.items() if key != "liquidationPrice"}
    assert decode_account(account(positions=[without]), MARKETS, 0).events[0].liquidation_price is None
    odd = {**POSITION, "liquidationPrice": 38200.5}
    report = decode_account(account(positions=[odd]), MARKETS, 0).events[0]
    assert report.liquidation_price == Decimal("38200.5")
    with pytest.raises(CorruptFrame, match="liquidation price"):
        decode_account(account(positions=[{**POSITION, "liquidationPrice": "soon"}]), MARKETS, 0)


def test_closed_position_is_flat_and_sides_are_checked():
    closed = decode_account(account(positions=[{**POSITION, "status": "CLOSED"}]), MARKETS, 0)
    assert closed.events[0].size_lots == 0
    with pytest.raises(CorruptFrame, match="LONG or SHORT"):
        decode_account(account(positions=[{**POSITION, "side": "BUY"}]), MARKETS, 0)


def test_liquidation_off_the_grid_is_booked_at_the_nearest_tick():
    trade = {**TRADE, "tradeType": "LIQUIDATION", "price": "58853.7"}
    decoded = decode_account(account(trades=[trade]), MARKETS, 0)
    assert decoded.events[0].fill.price_ticks == 58854
    assert decoded.unknown == {"trade type LIQUIDATION": 1}
    with pytest.raises(CorruptFrame, match=r"expected a multiple of 1, was 58853\.7"):
        decode_account(account(trades=[{**trade, "tradeType": "TRADE"}]), MARKETS, 0)


def test_market_order_without_a_price():
    decoded = decode_account(account(orders=[{**ORDER, "price": None}]), MARKETS, 0)
    assert decoded.events[0].price_ticks == 0


def test_markets_that_were_not_given_are_named():
    decoded = decode_account(account(orders=[{**ORDER, "market": "DOGE-USD"}, ORDER]), MARKETS, 0)
    assert decoded.other_markets == {"DOGE-USD"}
    assert len(decoded.events) == 1


def test_money_is_of_a_size_that_money_has():
    with pytest.raises(CorruptFrame, match="finite equity"):
        decode_account(account(balance={**BALANCE, "equity": "1e999999"}), MARKETS, 0)


def test_money_must_be_finite():
    with pytest.raises(CorruptFrame, match="finite equity"):
        decode_account(account(balance={**BALANCE, "equity": "NaN"}), MARKETS, 0)
