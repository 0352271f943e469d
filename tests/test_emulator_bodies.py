"""Bodies of requests: what the official client sends, what is tolerated, what is refused and how."""

import json
from decimal import Decimal

import msgspec
import pytest

from market_maker.domain import NS_PER_MS, Side
from market_maker.emulator.bodies import (
    BodyRefused,
    leverage_request,
    mass_cancel_request,
    order_request,
    read_order,
    signed_order,
)
from market_maker.emulator.requests import (
    LeverageRequest,
    MassCancelRequest,
    OrderRequest,
    OrderType,
    SelfTrade,
    TimeInForce,
)

# extended-api.md §2.3, as SDK 2.6.0 sends it.
ORDER = {
    "id": "3124382698005151368799462327265232571820900820246721336532151560677844528646",
    "market": "BTC-USD",
    "type": "LIMIT",
    "side": "SELL",
    "qty": "0.001",
    "price": "84000",
    "reduceOnly": False,
    "postOnly": False,
    "timeInForce": "GTT",
    "expiryEpochMillis": 1795387528053,
    "fee": "0.00025",
    "nonce": "4195148984",
    "selfTradeProtectionLevel": "ACCOUNT",
    "settlement": {
        "signature": {"r": "0x664e", "s": "0x7ab6"},
        "starkKey": "0x61c5e7",
        "collateralPosition": "10002",
    },
    "debuggingAmounts": {"collateralAmount": "84000000", "feeAmount": "29400", "syntheticAmount": "-1000"},
    "builderFee": "0.0001",
    "builderId": 7,
}


def encoded(**changes) -> bytes:
    """The order with changes; None takes a field out."""
    return json.dumps(
        {name: value for name, value in (ORDER | changes).items() if value is not None}
    ).encode()


def parsed(**changes) -> OrderRequest:
    return order_request(read_order(encoded(**changes)))


def code_of(read, *body) -> int:
    with pytest.raises(BodyRefused) as refused:
        read(*body)
    assert str(refused.value)
    return refused.value.code


def test_an_order_of_the_official_client():
    request = parsed()
    assert request == OrderRequest(
        market="BTC-USD",
        external_id=ORDER["id"],
        side=Side.SELL,
        price=Decimal(84_000),
        qty=Decimal("0.001"),
        expire_ns=1795387528053 * NS_PER_MS,
        nonce=4_195_148_984,
        fee=Decimal("0.00025"),
    )
    signed = signed_order(read_order(encoded()), request)
    assert signed.fee == Decimal("0.00035")
    assert (signed.r, signed.s, signed.public_key) == (0x664E, 0x7AB6, 0x61C5E7)
    assert (signed.vault, signed.nonce, signed.expiry_ms) == (10_002, 4_195_148_984, 1795387528053)


def test_flags_and_words_of_an_order():
    request = parsed(
        type="MARKET",
        side="BUY",
        timeInForce="IOC",
        reduceOnly=True,
        cancelId="old",
        selfTradeProtectionLevel="CLIENT",
    )
    assert (request.order_type, request.time_in_force) == (OrderType.MARKET, TimeInForce.IOC)
    assert (request.side, request.reduce_only, request.cancel_id) == (Side.BUY, True, "old")
    assert request.self_trade is SelfTrade.CLIENT
    assert parsed(postOnly=True).post_only
    assert parsed(selfTradeProtectionLevel=None).self_trade is SelfTrade.ACCOUNT


def test_unknown_fields_and_numbers_that_are_no_strings_are_tolerated():
    assert parsed(qty=0.001, price=84000, nonce=4195148984, newField={"a": [1]}) == parsed()
    assert parsed(expiryEpochMillis="1795387528053", cancelId="") == parsed()


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'"order"', b"null", encoded(qty="much"), encoded(id=1)]
)
def test_what_is_no_order_is_malformed(body):
    assert code_of(read_order, body) == 400


@pytest.mark.parametrize(
    "field", ["id", "market", "type", "side", "qty", "timeInForce", "expiryEpochMillis", "fee", "nonce"]
)
def test_an_order_without_a_field_that_must_be_there_is_malformed(field):
    assert code_of(read_order, encoded(**{field: None})) == 400


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"price": None}, 1130),
        ({"type": "CONDITIONAL"}, 1132),
        ({"type": "TPSL"}, 1132),
        ({"type": "TWAP"}, 1132),
        ({"trigger": {"triggerPrice": "1"}}, 1132),
        ({"tpSlType": "ORDER"}, 1132),
        ({"takeProfit": {"price": "1"}}, 1132),
        ({"stopLoss": {"price": "1"}}, 1132),
        ({"type": "ICEBERG"}, 1133),
        ({"side": "HOLD"}, 1133),
        ({"timeInForce": "FOK"}, 1133),
        ({"timeInForce": "TOB"}, 1133),
        ({"selfTradeProtectionLevel": "NEVER"}, 1133),
        ({"qty": "NaN"}, 1133),
        ({"qty": "1e99999"}, 1133),
        ({"price": "-Infinity"}, 1133),
        ({"price": "1e-99999"}, 1133),
        ({"fee": "sNaN"}, 1133),
        ({"nonce": "Infinity"}, 1133),
        ({"expiryEpochMillis": -1}, 1133),
        ({"expiryEpochMillis": 2**60}, 1133),
    ],
)
def test_orders_that_there_are_not(changes, code):
    assert code_of(parsed_with, changes) == code


def parsed_with(changes) -> OrderRequest:
    return parsed(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"settlement": None},
        {"builderId": None},
        {"builderFee": None},
        {"builderFee": "NaN"},
        {"settlement": ORDER["settlement"] | {"starkKey": "key"}},
        {"settlement": ORDER["settlement"] | {"collateralPosition": "Infinity"}},
        {"settlement": ORDER["settlement"] | {"signature": {"r": "", "s": "0x1"}}},
    ],
)
def test_settlements_that_are_none(changes):
    body = read_order(encoded(**changes))
    assert code_of(signed_order, body, order_request(body)) == 1133


def test_no_builder_is_no_fee_of_his():
    body = read_order(encoded(builderFee=None, builderId=None))
    assert signed_order(body, order_request(body)).fee == Decimal("0.00025")


def test_mass_cancel():
    body = b'{"orderIds":[1,2],"externalOrderIds":["a"],"markets":["BTC-USD"],"cancelAll":false}'
    assert mass_cancel_request(body) == MassCancelRequest(
        markets=("BTC-USD",), order_ids=(1, 2), external_ids=("a",)
    )
    assert mass_cancel_request(b'{"cancelAll":true,"markets":null}') == MassCancelRequest(cancel_all=True)
    assert mass_cancel_request(b"{}") == MassCancelRequest()
    assert code_of(mass_cancel_request, b'{"markets":"BTC-USD"}') == 400


def test_leverage():
    assert leverage_request(b'{"market":"BTC-USD","leverage":"12.5"}') == LeverageRequest(
        market="BTC-USD", leverage=Decimal("12.5")
    )
    assert code_of(leverage_request, b'{"market":"BTC-USD"}') == 400
    assert code_of(leverage_request, b'{"market":"BTC-USD","leverage":"NaN"}') == 1133


def test_a_request_says_nothing_of_its_settlement_until_it_is_checked():
    assert parsed().settlement_code == 0
    assert msgspec.structs.replace(parsed(), settlement_code=1101).settlement_code == 1101
