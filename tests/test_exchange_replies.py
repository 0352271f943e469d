"""Bodies of the exchange's REST replies, hand-written from its documentation."""

import json
from collections import Counter
from decimal import Decimal

import pytest

from market_maker.domain import OrderState, Side
from market_maker.exchanges import replies
from market_maker.exchanges.envelope import next_cursor, venue_error
from market_maker.exchanges.wire import CorruptFrame
from market_maker.gateway import (
    Accepted,
    CredentialsRefused,
    Fees,
    MarketNotFound,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
)
from market_maker.instrument import Instrument, MarginTier, MarketStatus

BTC = Instrument("BTC-USD", tick=Decimal(1), step=Decimal("0.00001"), min_size=Decimal("0.0001"))
MARKETS = {"BTC-USD": BTC}

MARKET = {
    "name": "BTC-USD",
    "type": "PERPETUAL",
    "active": True,
    "isRfq": False,
    "isOffHours": False,
    "status": "ACTIVE",
    "tradingHours": "CONTINUOUS",
    "marketStats": {
        "dailyVolume": "92863013.450600",
        "askPrice": "84078",
        "bidPrice": "84077",
        "markPrice": "84058.473541750005",
        "nextFundingRate": 1790427600000,
    },
    "tradingConfig": {
        "minOrderSize": "0.0001",
        "minOrderSizeChange": "0.00001",
        "minPriceChange": "1",
        "maxMarketOrderValue": "3000000",
        "maxLimitOrderValue": "15000000",
        "maxPositionValue": "60000000",
        "maxLeverage": "50.00",
        "hourlyFundingRateCap": "0.25",
        "openInterestLimit": "0",
        "maxNumOrders": "200",
        "limitPriceCap": "0.05",
        "limitPriceFloor": "0.04",
        "riskFactorConfig": [
            {"upperBound": "4000000", "riskFactor": "0.02", "isAvailableForUsers": True},
            {"upperBound": "8000000", "riskFactor": "0.04", "isAvailableForUsers": True},
        ],
    },
    "referenceMarket": "null",
}


def ok(data, **extra):
    return json.dumps({"status": "OK", "data": data, **extra}).encode()


def refusal(code, message=""):
    return json.dumps({"status": "ERROR", "error": {"code": code, "message": message}}).encode()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, 1140, OrderRefused),
        (400, 1010, OrderRefused),
        (404, 1001, MarketNotFound),
        (400, 1100, CredentialsRefused),
        (400, 1101, CredentialsRefused),
        (400, 1102, CredentialsRefused),
        (401, 401, CredentialsRefused),
        (429, 429, RateLimited),
        (400, 1006, OutcomeUnknown),
        (500, 500, OutcomeUnknown),
    ],
)
def test_errors_are_types_by_code(status, code, kind):
    error = venue_error(status, refusal(code, "the text says 503, 429 and 401 and does not matter"))
    assert type(error) is kind
    assert error.code == code


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b"", CredentialsRefused),
        (400, b"", OrderRefused),
        (429, b"<html>", RateLimited),
        (503, b"<html>503</html>", OutcomeUnknown),
        (404, refusal("NOT_FOUND"), OrderRefused),
        (502, b"\xff\xfe", OutcomeUnknown),
    ],
)
def test_without_a_code_the_http_status_decides(status, body, kind):
    error = venue_error(status, body)
    assert type(error) is kind
    assert error.code == status


def test_retry_after_is_kept():
    error = venue_error(429, b"", retry_after_s=7.5)
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 7.5


def test_an_error_with_http_200_is_raised_by_every_decoder():
    with pytest.raises(OrderRefused, match="1142: gone"):
        replies.decode_accepted(refusal(1142, "gone"))
    with pytest.raises(CorruptFrame, match="expected a reply envelope"):
        replies.decode_balance(b"<html>")
    with pytest.raises(CorruptFrame, match="expected a balance"):
        replies.decode_balance(ok([]))


def test_pagination():
    assert next_cursor(ok([], pagination={"cursor": 1784963886257016832, "count": 1})) == 1784963886257016832
    assert next_cursor(ok([])) is None
    assert next_cursor(b"") is None


def test_markets():
    unknown = Counter()
    listing = replies.decode_markets(ok([MARKET]), unknown)["BTC-USD"]
    assert listing.instrument == Instrument(
        "BTC-USD",
        Decimal(1),
        Decimal("0.00001"),
        Decimal("0.0001"),
        max_leverage=Decimal(50),
        price_floor=Decimal("0.04"),
        hourly_funding_cap=Decimal("0.0025"),
        margin_tiers=(
            MarginTier(Decimal(4000000), Decimal("0.02")),
            MarginTier(Decimal(8000000), Decimal("0.04")),
        ),
    )
    assert (listing.bid, listing.ask) == (Decimal(84077), Decimal(84078))
    assert listing.obstacle == ""
    assert not unknown


def test_one_odd_market_does_not_hide_the_others():
    odd_tick = {
        **MARKET,
        "name": "ODD-USD",
        "tradingConfig": {**MARKET["tradingConfig"], "minPriceChange": "0"},
    }
    not_a_number = {
        **MARKET,
        "name": "NAN-USD",
        "tradingConfig": {**MARKET["tradingConfig"], "maxLeverage": "NaN"},
    }
    new_words = {**MARKET, "name": "NEW-USD", "status": "SLEEPING", "tradingHours": "LUNAR"}
    unknown = Counter()
    body = ok([odd_tick, {"name": "BAD-USD"}, 7, not_a_number, new_words, MARKET])
    listings = replies.decode_markets(body, unknown)
    assert set(listings) == {"NEW-USD", "BTC-USD"}
    assert listings["NEW-USD"].instrument.status is MarketStatus.UNKNOWN
    assert [key.split(":")[0] for key in unknown] == [
        "market ODD-USD",
        "market BAD-USD",
        "market ?",
        "market NAN-USD",
        "market status SLEEPING",
    ]


ORDER = {
    "id": 1775511783722512384,
    "externalId": "2554",
    "market": "BTC-USD",
    "side": "BUY",
    "status": "CANCELLED",
    "statusReason": "ORDER_REPLACED",
    "price": "3300",
    "qty": "0.2",
    "filledQty": "0.1",
    "reduceOnly": True,
    "postOnly": False,
    "updatedTime": 1701563440000,
    "expireTime": 1712754771819,
}


def test_orders():
    unknown = Counter()
    reports = replies.decode_orders(ok([ORDER, {**ORDER, "market": "DOGE-USD"}]), MARKETS, unknown)
    # One in a market that we do not quote may be of somebody else: it is told, without price and size.
    assert [(report.market, report.size_lots > 0) for report in reports] == [
        ("BTC-USD", True),
        ("DOGE-USD", False),
    ]
    report = reports[0]
    assert (report.state, report.reason, report.side) == (OrderState.CANCELLED, "ORDER_REPLACED", Side.BUY)
    assert (report.price_ticks, report.size_lots, report.filled_lots) == (3300, 20_000, 10_000)
    assert not unknown


def test_fills_positions_and_balance():
    unknown = Counter()
    trade = {
        "id": 1784963886257016832,
        "market": "BTC-USD",
        "orderId": 9223372036854775808,
        "side": "BUY",
        "price": "58853.0000000000000000",
        "qty": "0.0900000000000000",
        "fee": "-0.5",
        "tradeType": "TRADE",
        "createdTime": 1,
        "isTaker": False,
    }
    fill = replies.decode_fills(ok([trade]), MARKETS, 5, unknown)[0]
    assert (fill.fill.order_id, fill.fill.external_id, fill.fee) == (9223372036854775808, "", Decimal("-0.5"))
    position = {"market": "BTC-USD", "side": "LONG", "size": "0.1", "liquidationPrice": None, "updatedAt": 1}
    report = replies.decode_positions(ok([position]), MARKETS, unknown)[0]
    assert (report.size_lots, report.liquidation_price, report.open_price) == (10_000, None, 0)
    balance = {"balance": "168.5", "equity": "7524", "availableForTrade": "5008", "updatedTime": 1}
    assert replies.decode_balance(ok(balance)).equity == 7524


def test_fees_candles_and_accepted():
    fees = [
        {"market": "BTC-USD", "makerFeeRate": "0.00000", "takerFeeRate": "0.00025", "builderFeeRate": "0"}
    ]
    assert replies.decode_fees(ok(fees)) == {"BTC-USD": Fees(Decimal(0), Decimal("0.00025"))}
    assert replies.decode_leverage(ok([{"market": "SOL-USD", "leverage": "10"}])) == {"SOL-USD": Decimal(10)}
    with pytest.raises(CorruptFrame, match="a leverage above 0, was 0"):
        replies.decode_leverage(ok([{"market": "SOL-USD", "leverage": "0"}]))
    bars = [
        {"o": "4", "l": "2", "h": "5", "c": "3", "v": "0.0", "T": 60_000},
        {"o": "1", "l": "1", "h": "4", "c": "4", "T": 0},
    ]
    candles = replies.decode_candles(ok(bars))
    assert [bar.open_ns for bar in candles] == [0, 60_000_000_000]
    assert (candles[1].low, candles[1].high, candles[1].close) == (2, 5, 3)
    body = ok({"id": 1791389621914243072, "externalId": "310979"})
    assert replies.decode_accepted(body) == Accepted(1791389621914243072, "310979")


@pytest.mark.parametrize("price", ["NaN", "0", "-1", "1e400"])
def test_a_candle_that_is_no_price_is_corrupt(price):
    with pytest.raises(CorruptFrame, match="price of a candle"):
        replies.decode_candles(ok([{"o": "4", "l": price, "h": "5", "c": "3", "T": 0}]))


def test_positions_in_markets_that_are_not_loaded_are_counted():
    row = {"market": "DOGE-USD", "side": "LONG", "size": "3"}
    unknown = Counter()
    body = ok([row, row | {"market": "PEPE-USD", "size": "0"}, row | {"market": "BTC-USD", "size": "0.1"}])
    [report] = replies.decode_positions(body, {"BTC-USD": BTC}, unknown)
    assert (report.market, report.size_lots) == ("BTC-USD", 10_000)
    assert unknown == {"position in DOGE-USD, not asked for": 1}


@pytest.mark.parametrize("body", [b'{"status":"PENDING","data":{}}', b'{"status":"","data":{}}'])
def test_a_status_that_nobody_documented_is_neither_success_nor_refusal(body):
    with pytest.raises(OutcomeUnknown):
        replies.decode_accepted(body)


@pytest.mark.parametrize("wire_sign", ["", "-"])
@pytest.mark.parametrize(
    ("side", "rate", "received"),
    [("LONG", "0.001", -4), ("SHORT", "0.001", 4), ("LONG", "-0.001", 4), ("SHORT", "-0.001", -4)],
)
def test_funding_payment_takes_its_sign_from_rate_and_side(side, rate, received, wire_sign):
    payment = {
        "id": 8341,
        "market": "BTC-USD",
        "side": side,
        "size": "0.1",
        "markPrice": "40000",
        "fundingFee": f"{wire_sign}4",
        "fundingRate": rate,
        "paidTime": 5,
    }
    booked = replies.decode_funding_payments(ok([payment, {**payment, "market": "DOGE-USD"}]), MARKETS)
    assert [p.amount for p in booked] == [received]
    assert booked[0].size_lots == (10_000 if side == "LONG" else -10_000)


def test_funding_payment_of_no_side_is_corrupt():
    payment = {"id": 1, "market": "BTC-USD", "side": "FLAT", "size": "0", "markPrice": "1"}
    payment |= {"fundingFee": "0", "fundingRate": "0", "paidTime": 5}
    with pytest.raises(CorruptFrame, match="LONG or SHORT"):
        replies.decode_funding_payments(ok([payment]), MARKETS)
