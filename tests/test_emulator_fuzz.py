"""Whatever a client sends, over a socket, is answered in the API's own words, and the exchange goes on."""

import json

import pytest
from emulator_served import BTC, world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inside import in_virtual_time
from test_emulator_server_rest import UNVERIFIED, order
from yarl import URL

pytestmark = pytest.mark.slow

NUMBERS = [
    "0",
    "-1",
    "1e30",
    "1e-30",
    "1e999999999",
    "NaN",
    "sNaN",
    "Infinity",
    "9" * 400,
    "0x5",
    "1_0",
    " 1",
    "٣",
]
WORDS = [*NUMBERS, "", "BTC-USD", "LIMIT", "GTT", "IOC", "\ud800", "\x00", "ÿ/..%", "x" * 5_000]
JUNK = st.one_of(
    st.sampled_from([None, True, 0, -1, 1.5, 2**63, 2**64, -(2**63), 10**400, [], {}, [[]], {"a": 1}]),
    st.sampled_from(WORDS),
)
FIELDS = st.sampled_from(
    [
        "id",
        "market",
        "type",
        "side",
        "qty",
        "price",
        "postOnly",
        "reduceOnly",
        "timeInForce",
        "expiryEpochMillis",
        "fee",
        "nonce",
        "cancelId",
        "selfTradeProtectionLevel",
        "settlement",
        "builderFee",
        "builderId",
        "trigger",
        "tpSlType",
        "takeProfit",
        "orderIds",
        "externalOrderIds",
        "markets",
        "cancelAll",
        "leverage",
    ]
)
BODIES = st.dictionaries(FIELDS, JUNK, min_size=1, max_size=3)
POSTED = st.sampled_from(
    [("POST", "/user/order"), ("POST", "/user/order/massCancel"), ("PATCH", "/user/leverage")]
)
LOOKED_UP = st.sampled_from(
    [
        "/info/markets",
        "/info/markets/{}/stats",
        "/info/markets/{}/trades",
        "/info/candles/{}/trades",
        "/info/{}/funding",
        "/info/candles/BTC-USD/{}",
        "/info/BTC-USD/open-interests",
        "/info/assets/{}/price",
        "/user/orders/{}",
        "/user/fees",
        "/user/orders/external/{}",
        "/user/orders/history",
        "/user/trades",
        "/user/funding/history",
        "/user/positions",
        "/user/positions/history",
        "/user/leverage",
    ]
)
KEYS = st.sampled_from(
    [
        "market",
        "limit",
        "cursor",
        "endTime",
        "startTime",
        "interval",
        "side",
        "type",
        "id",
        "externalId",
        "sort",
        "countdownTime",
    ]
)
ESCAPED = st.sampled_from(
    [
        "",
        "%FF",
        "%ED%A0%80",
        "%00",
        "a%20b",
        "-1",
        "1.5",
        "9" * 19,
        "9" * 20,
        "NaN",
        BTC,
        "%D9%A3",
        "PT1M",
        "%2F",
    ]
)
QUERIES = st.lists(st.tuples(KEYS, ESCAPED), max_size=3)
MANY = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])


async def answered(here, method: str, path: str, body: bytes | None = None) -> None:
    """A call is answered: with data, or with an error of the API that is the caller's."""
    url = URL(here.rest + path, encoded=True)
    async with here.session.request(method, url, headers=here.key(), data=body) as reply:
        said = await reply.json()
        assert reply.status < 500
        assert said["status"] == ("OK" if reply.status == 200 else "ERROR")
        if reply.status != 200:
            assert isinstance(said["error"]["code"], int)
    here.driver.check_failure()
    here.driver.check_open()


def inside(program) -> None:
    async def main():
        async with world(server_rules=UNVERIFIED) as here:
            await program(here)
            assert (await here.get("/user/balance"))["status"] == "ACTIVE"

    in_virtual_time(main)


@MANY
@given(st.lists(st.tuples(POSTED, BODIES, st.binary(max_size=3)), min_size=20, max_size=40))
def test_bodies(calls):
    async def program(here):
        for number, ((method, path), changes, tail) in enumerate(calls):
            body = order(here) | {"id": f"o{number}", "leverage": "5", "cancelAll": False} | changes
            await answered(here, method, path, json.dumps(body).encode() + tail)

    inside(program)


@MANY
@given(st.lists(st.tuples(LOOKED_UP, ESCAPED, QUERIES), min_size=20, max_size=40))
def test_paths_and_queries(calls):
    async def program(here):
        for path, part, query in calls:
            asked = "?" + "&".join(f"{key}={value}" for key, value in query)
            await answered(here, "GET", path.replace("{}", part) + asked)
            await answered(here, "DELETE", "/user/order" + asked)
            await answered(here, "POST", "/user/deadmanswitch" + asked)

    inside(program)
