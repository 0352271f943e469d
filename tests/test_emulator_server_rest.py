"""The REST API on a socket: envelopes, keys, refusals in their order, pages, histories, faults, control."""

import asyncio
import io
import json
from decimal import Decimal
from email.utils import parsedate_to_datetime

import aiohttp
import pytest
from emulator_served import AGENT, BTC, ETH, START_NS, world
from inside import in_virtual_time, rules
from test_emulator_bodies import ORDER

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.faults import Faults
from market_maker.emulator.flow import TakerOrder
from market_maker.emulator.rules import Delay, Mode
from market_maker.emulator.server import EmulatorServer, ServerRules
from market_maker.emulator.server_calls import Desk

UNVERIFIED = ServerRules(verify_signatures=False)
HOUR_MS = 3_600_000


def inside(program, exchange_rules=None, server_rules=None, **how):
    """Run a coroutine function of a served world in virtual time."""

    async def main():
        async with world(exchange_rules, server_rules, **how) as here:
            return await program(here)

    return in_virtual_time(main)


def order(here, **changes) -> dict[str, object]:
    """Body of an order that rests; None takes a field out."""
    usual = {
        "id": "o1",
        "side": "BUY",
        "qty": "0.01",
        "price": "83900",
        "nonce": "1",
        "expiryEpochMillis": here.clock.now_ns() // 10**6 + HOUR_MS,
        "builderFee": None,
        "builderId": None,
    }
    fields = ORDER | usual | changes
    return {name: value for name, value in fields.items() if value is not None}


async def place(here, account=0, **changes) -> int:
    """Place an order; return its id once the matching engine had the time to see it."""
    status, body = await here.call("POST", "/user/order", account, json=order(here, **changes))
    assert status == 200, body
    await asyncio.sleep(0.2)
    return body["data"]["id"]


# Who may call, and how an answer looks.


def test_a_call_says_who_makes_it():
    async def program(here):
        assert await here.refused("GET", "/info/markets", headers={"User-Agent": ""}) == (403, 403)
        assert await here.refused("GET", "/user/balance", None) == (401, 401)
        wrong = AGENT | {"X-Api-Key": "nobody"}
        assert await here.refused("GET", "/user/balance", headers=wrong) == (401, 401)
        assert await here.refused("POST", "/user/order", headers=wrong, json=order(here)) == (401, 401)
        assert await here.refused("POST", "/user/deadmanswitch?countdownTime=5", None) == (401, 401)

    inside(program)


def test_what_is_not_there_has_the_envelope_too():
    async def program(here):
        assert await here.refused("GET", "/user/nothing") == (404, 404)
        assert await here.refused("DELETE", "/user/balance") == (405, 405)
        assert await here.refused("POST", "/user/order", data=io.BytesIO(b"x" * 2_000_000)) == (413, 413)

    inside(program)


@pytest.mark.parametrize("skew_s", [0.0, -7.0])
def test_replies_are_dated_by_the_exchanges_clock(skew_s):
    async def program(here):
        async with here.session.get(f"{here.rest}/info/status", headers=AGENT) as reply:
            assert reply.content_type == "application/json"
            dated = parsedate_to_datetime(reply.headers["Date"])
        assert dated.timestamp() == START_NS // NS_PER_S + skew_s

    inside(program, server_rules=ServerRules(clock_skew_s=skew_s))


def test_a_look_up_takes_its_time():
    async def program(here):
        began_ns = here.clock.now_ns()
        await here.get("/user/balance")
        assert here.clock.now_ns() - began_ns == 80 * 10**6

    way = {"base_ms": 40.0, "tail_ms": 0.0}
    inside(program, rules(latency={"request": Delay(**way), "reply": Delay(**way)}))


def test_each_account_and_each_address_has_its_own_limit():
    async def program(here):
        for _ in range(3):
            await here.get("/user/positions", 0)
        status, body = await here.call("GET", "/user/positions", 0)
        assert (status, body["status"], body["error"]["code"]) == (429, "ERROR", 429)
        assert await here.refused("POST", "/user/order", json=order(here)) == (429, 429)
        assert await here.refused("POST", "/user/order", json={}) == (429, 429)
        await here.get("/user/positions", 1)
        for _ in range(3):
            await here.get("/info/markets", None)
        assert await here.refused("GET", "/info/markets", None) == (429, 429)

    inside(program, rules(orders={"requests_per_minute": 3}))


# What anybody may ask.


def test_all_of_one_address_may_share_a_limit():
    async def program(here):
        await here.get("/info/markets", None)
        await here.get("/user/positions", 0)
        await here.get("/user/positions", 1)
        assert await here.refused("POST", "/user/order", 0, json=order(here)) == (429, 429)
        assert await here.refused("GET", "/info/markets", None) == (429, 429)

    inside(program, rules(orders={"requests_per_minute": 3, "one_rate_limit": True}))


def test_markets_and_their_states():
    async def program(here):
        assert [market["name"] for market in await here.get("/info/markets", None)] == [BTC, ETH]
        query = f"/info/markets?market={ETH}&market=NONE-USD"
        [market] = await here.get(query, None)
        assert market["l2Config"] == {
            "type": "STARKX",
            "collateralId": "0x31857064564ed0ff978e687456963cba09c2c6985d8f9300a1de4962fafa054",
            "syntheticId": "0x" + b"ETH-4".ljust(15, b"\0").hex(),
            "syntheticResolution": 10_000,
            "collateralResolution": 1_000_000,
        }
        assert await here.refused("GET", "/info/markets/NONE-USD/stats", None) == (400, 1001)
        assert await here.get("/info/status", None) == {"operationalStatus": "OPERATIONAL"}
        here.exchange.set_mode(Mode.MAINTENANCE)
        assert await here.get("/info/status", None) == {"operationalStatus": "MAINTENANCE"}
        assert await here.refused("GET", "/info/markets", None) == (503, 1010)

    inside(program)


MARKET_KEYS = """name type uiName category subCategory assetName assetPrecision collateralAssetName
    collateralAssetPrecision description active isRfq isOffHours status tradingHours marketStats tradingConfig
    l2Config visibleOnUi referenceMarket createdAt"""
STATS_KEYS = """dailyVolume dailyVolumeBase dailyPriceChange dailyPriceChangePercentage dailyLow dailyHigh
    lastPrice askPrice bidPrice markPrice indexPrice fundingRate nextFundingRate openInterest openInterestBase
    deleverageLevels"""
TRADING_KEYS = """minOrderSize minOrderSizeChange minPriceChange maxMarketOrderValue maxLimitOrderValue
    maxPositionValue maxLeverage hourlyFundingRateCap openInterestLimit maxNumOrders limitPriceCap
    limitPriceFloor riskFactorConfig uPnlWithdrawable postWithdrawalMarginFactor"""
BALANCE_KEYS = """collateralName balance status equity spotEquity spotEquityForAvailableForTrade
    availableForTrade availableForWithdrawal unrealisedPnl withdrawableUnrealisedPnl initialMargin marginRatio
    updatedTime
    collateralReservedForSpotOrders exposure leverage accountHealth"""
POSITION_KEYS = """id accountId market status side leverage size value openPrice markPrice liquidationPrice
    margin unrealisedPnl midPriceUnrealisedPnl realisedPnl adl maxPositionSize createdAt updatedAt"""


def test_shapes_have_the_keys_that_were_captured():
    async def program(here):
        await place(here, price="84010", qty="1")
        market = (await here.get("/info/markets", None))[0]
        [position] = await here.get("/user/positions")
        for row, keys in (
            (market, MARKET_KEYS),
            (market["marketStats"], STATS_KEYS),
            (market["tradingConfig"], TRADING_KEYS),
            (market["tradingConfig"]["riskFactorConfig"][0], "upperBound riskFactor isAvailableForUsers"),
            (await here.get("/user/balance"), BALANCE_KEYS),
            (position, POSITION_KEYS),
        ):
            assert set(row) == set(keys.split())

    inside(program, server_rules=UNVERIFIED)


def test_the_book_and_the_last_trades_of_a_market():
    async def program(here):
        here.feed(TakerOrder(Side.SELL, 83_990, 700), after_s=0.1)
        here.feed(TakerOrder(Side.BUY, 84_010, 300), after_s=0.2)
        await asyncio.sleep(1)
        book = await here.get(f"/info/markets/{BTC}/orderbook", None)
        assert book["bid"][0] == {"qty": "0.99300", "price": "83990"}
        newest, older = await here.get(f"/info/markets/{BTC}/trades", None)
        assert (newest["S"], newest["p"], newest["q"]) == ("BUY", "84010", "0.00300")
        assert (older["S"], older["tT"], older["m"]) == ("SELL", "TRADE", BTC)
        stats = await here.get(f"/info/markets/{BTC}/stats", None)
        assert (stats["lastPrice"], stats["dailyVolumeBase"]) == ("84010", "0.01000")

    inside(program)


def test_candles_are_closed_whole_and_before_an_instant():
    async def program(here):
        here.feed(TakerOrder(Side.BUY, 84_010, 100), after_s=1)
        here.feed(TakerOrder(Side.SELL, 83_990, 100), after_s=70)
        await asyncio.sleep(15 * 60)
        path = f"/info/candles/{BTC}/trades"
        minutes = await here.get(f"{path}?interval=PT1M&limit=1000", None)
        assert len(minutes) == 15
        assert (minutes[-1]["c"], minutes[-1]["v"]) == ("84010", "0.00100")
        assert minutes[-2]["c"] == "83990"
        five, older = await here.get(f"{path}?interval=PT5M&limit=2", None)
        assert five["T"] - older["T"] == 300_000
        end_ms = minutes[4]["T"]
        earlier = await here.get(f"{path}?interval=PT1M&limit=3&endTime={end_ms}", None)
        assert earlier == minutes[4:7]
        assert await here.refused("GET", f"{path}?interval=PT7M", None) == (400, 1005)
        assert await here.refused("GET", f"{path}", None) == (400, 1005)
        assert await here.refused("GET", f"{path}?interval=PT1M&limit=x", None) == (400, 400)
        assert await here.refused("GET", f"/info/candles/{BTC}/spot?interval=PT1M", None) == (404, 404)

    inside(program)


def test_funding_rates_need_both_ends_and_open_interest_an_interval():
    async def program(here):
        end = here.clock.now_ns() // 10**6
        assert await here.get(f"/info/{BTC}/funding?startTime=0&endTime={end}", None) == []
        assert await here.refused("GET", f"/info/{BTC}/funding?startTime=0", None) == (400, 400)
        await place(here, price="84010")
        [now] = await here.get(f"/info/{BTC}/open-interests?interval=P1H", None)
        assert (now["I"], now["i"]) == ("0.01000", "840.0000000")
        assert await here.refused("GET", f"/info/{BTC}/open-interests", None) == (400, 1005)
        assert await here.refused("GET", "/info/assets/XYZ/price", None) == (400, 1000)

    inside(program, server_rules=UNVERIFIED)


# Orders.


def test_an_order_is_taken_in_and_found_by_everything_that_names_it():
    async def program(here):
        number = await place(here)
        [by_list] = await here.get("/user/orders")
        assert by_list == await here.get(f"/user/orders/{number}")
        assert [by_list] == await here.get("/user/orders/external/o1")
        assert (by_list["id"], by_list["accountId"]) == (number, here.accounts[0].account_id)
        assert by_list["expireTime"] > by_list["createdTime"]
        assert await here.get("/user/orders", 1) == []
        assert await here.refused("GET", f"/user/orders/{number}", 1) == (404, 404)
        assert await here.get("/user/orders/external/o1", 1) == []
        assert await here.get(f"/user/orders?market={ETH}") == []
        assert await here.get("/user/orders?side=SELL&type=LIMIT") == []
        assert await here.refused("GET", "/user/orders/x") == (400, 400)

    inside(program, server_rules=UNVERIFIED)


def test_an_order_is_not_found_before_the_matching_engine_has_it():
    async def program(here):
        status, body = await here.call("POST", "/user/order", json=order(here))
        assert status == 200
        assert await here.refused("GET", f"/user/orders/{body['data']['id']}") == (404, 404)
        assert await here.get("/user/orders/external/o1") == []
        await asyncio.sleep(5)
        assert len(await here.get("/user/orders/external/o1")) == 1

    slow = rules(latency={"matching": Delay(3000.0), "stream_first_probability": 0.0})
    inside(program, slow, UNVERIFIED)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"qty": "much"}, (400, 400)),
        ({"type": "TPSL"}, (400, 1132)),
        ({"price": None}, (400, 1130)),
        ({"timeInForce": "FOK"}, (400, 1133)),
        ({"settlement": None}, (400, 1133)),
        ({"market": "NONE-USD"}, (400, 1001)),
        ({"qty": "0.00001"}, (400, 1120)),
        ({"price": "99000"}, (400, 1141)),
        ({"expiryEpochMillis": 1}, (400, 1135)),
        ({"fee": "0"}, (400, 1128)),
        ({"cancelId": "none"}, (400, 1142)),
        ({"reduceOnly": True}, (400, 1137)),
        ({"qty": "5"}, (400, 1140)),
        # The signature comes after all of these.
        ({}, (400, 1100)),
    ],
)
def test_refusals_of_an_order(changes, refusal):
    async def program(here):
        assert await here.refused("POST", "/user/order", json=order(here, **changes)) == refusal
        await asyncio.sleep(0.2)
        assert await here.get("/user/orders") == []

    inside(program)


def test_a_malformed_body_may_be_answered_by_nothing():
    async def program(here):
        assert await here.call("POST", "/user/order", data=b"{") == (400, None)
        assert await here.refused("POST", "/user/order", json=order(here, type="TPSL")) == (400, 1132)

    inside(program, server_rules=ServerRules(malformed_body_empty=True))


def test_cancels():
    async def program(here):
        first, second = await place(here, id="a"), await place(here, id="b")
        assert await here.call("DELETE", f"/user/order/{first}") == (200, {"status": "OK"})
        assert await here.call("DELETE", "/user/order?externalId=b") == (200, {"status": "OK"})
        await asyncio.sleep(0.2)
        assert await here.get("/user/orders") == []
        assert await here.refused("DELETE", f"/user/order/{second}") == (404, 404)
        assert await here.refused("DELETE", "/user/order") == (400, 400)
        assert await here.refused("DELETE", "/user/order/x") == (400, 400)
        assert await here.refused("POST", "/user/order/massCancel", json={}) == (400, 1133)
        assert await here.refused("POST", "/user/order/massCancel", data=b"") == (400, 400)
        await place(here, id="c")
        assert (await here.call("DELETE", "/user/order?externalId=c", 1))[0] == 404
        reply = await here.call("POST", "/user/order/massCancel", json={"cancelAll": True})
        assert reply == (200, {"status": "OK"})

    inside(program, server_rules=UNVERIFIED)


def test_the_dead_mans_switch_cancels_unless_it_is_fed():
    async def program(here):
        path = "/user/deadmanswitch?countdownTime="
        await place(here)
        for _ in range(3):
            assert await here.call("POST", f"{path}5") == (200, {"status": "OK"})
            await asyncio.sleep(4)
        assert len(await here.get("/user/orders")) == 1
        await asyncio.sleep(2)
        assert await here.get("/user/orders") == []
        await place(here, id="o2")
        await here.call("POST", f"{path}5")
        await here.call("POST", f"{path}0")
        await asyncio.sleep(10)
        assert len(await here.get("/user/orders")) == 1
        for wrong in ("", "-1", "x", "1e3"):
            assert await here.refused("POST", path + wrong) == (400, 400)
        assert await here.refused("POST", "/user/deadmanswitch") == (400, 400)

    inside(program, server_rules=UNVERIFIED)


# The account.


def test_an_empty_balance_is_not_found_or_is():
    async def program(here):
        return (await here.call("GET", "/user/balance"))[0]

    assert inside(program, deposit="0") == 404
    assert inside(program, server_rules=ServerRules(balance_404_when_zero=False), deposit="0") == 200
    assert inside(program) == 200


def test_leverage_is_refused_by_code():
    async def program(here):
        async def refused(leverage, market=BTC):
            body = {"market": market, "leverage": leverage}
            return await here.refused("PATCH", "/user/leverage", json=body)

        assert await refused("0.5") == (400, 1049)
        assert await refused("50.01") == (400, 1050)
        assert await refused("10.001") == (400, 1053)
        assert await refused("10", "NONE-USD") == (400, 1001)
        assert await refused("NaN") == (400, 1133)
        assert await here.refused("PATCH", "/user/leverage", data=b"{}") == (400, 400)
        await place(here, qty="1.0")
        assert await refused("1") == (400, 1052)
        reply = await here.call("PATCH", "/user/leverage", json={"market": BTC, "leverage": "50"})
        assert reply == (200, {"status": "OK", "data": {"market": BTC, "leverage": "50"}})
        assert await here.get(f"/user/leverage?market={BTC}") == [{"market": BTC, "leverage": "50"}]
        assert Decimal((await here.get("/user/balance"))["initialMargin"]) == 1678
        assert await here.get(f"/user/leverage?market={ETH}", 1) == [{"market": ETH, "leverage": "10"}]

    inside(program, server_rules=UNVERIFIED)


def test_a_position_too_large_for_a_leverage():
    async def program(here):
        await place(here, price="84020", qty="1.5", timeInForce="IOC")
        await here.call("PATCH", "/user/leverage", json={"market": BTC, "leverage": "50"})
        here.flows[BTC].index = Decimal(3_000_000)
        await asyncio.sleep(2)
        body = {"market": BTC, "leverage": "49"}
        assert await here.refused("PATCH", "/user/leverage", json=body) == (400, 10501)

    inside(program, server_rules=UNVERIFIED, deposit="1000000")


def test_histories_have_filters_and_pages():
    async def program(here):
        bought = [await place(here, id=f"b{n}", price="84010") for n in range(3)]
        sold = await place(here, id="s", side="SELL", price="83990", timeInForce="IOC")
        unfilled = await place(here, id="u", timeInForce="IOC")
        everything = await here.get("/user/orders/history")
        assert [row["id"] for row in everything] == [unfilled, sold, *reversed(bought)]
        assert [row["id"] for row in await here.get("/user/orders/history?side=SELL")] == [sold]
        named = await here.get(f"/user/orders/history?id={bought[0]}&externalId=s")
        assert [row["id"] for row in named] == [sold, bought[0]]
        assert await here.get(f"/user/orders/history?market={ETH}") == []
        status, page = await here.call("GET", "/user/trades?limit=3&type=TRADE")
        assert (status, page["pagination"]["count"]) == (200, 3)
        _, rest = await here.call("GET", f"/user/trades?limit=3&cursor={page['pagination']['cursor']}")
        assert [row["orderId"] for row in page["data"] + rest["data"]] == [sold, *reversed(bought)]
        _, none = await here.call("GET", f"/user/trades?cursor={rest['pagination']['cursor']}")
        assert (none["data"], none["pagination"]) == ([], {"count": 0})
        assert "externalOrderId" not in page["data"][0]
        assert await here.get("/user/trades?type=LIQUIDATION") == []
        [position] = await here.get("/user/positions?side=LONG")
        assert position["size"] == "0.02000"
        assert await here.get("/user/positions?side=SHORT") == []
        [history] = await here.get("/user/positions/history")
        assert (history["side"], history["maxPositionSize"]) == ("LONG", "0.03000")
        assert "closedTime" not in history

    inside(program, server_rules=UNVERIFIED)


def test_orders_without_a_fill_may_not_be_kept():
    async def program(here):
        filled = await place(here, id="f", price="84010")
        unfilled = await place(here, id="u", timeInForce="IOC")
        resting = await place(here, id="r")
        assert [row["id"] for row in await here.get("/user/orders/history")] == [filled]
        assert await here.refused("GET", f"/user/orders/{unfilled}") == (404, 404)
        assert await here.get("/user/orders/external/u") == []
        assert (await here.get(f"/user/orders/{resting}"))["status"] == "NEW"

    inside(program, server_rules=ServerRules(verify_signatures=False, unfilled_orders_kept=False))


def test_funding_payments_since_an_instant():
    async def program(here):
        await place(here, price="84010")
        await asyncio.sleep(65)
        payments = await here.get("/user/funding/history")
        assert len(payments) == 3
        assert payments[0]["paidTime"] > payments[-1]["paidTime"]
        since = payments[0]["paidTime"]
        assert await here.get(f"/user/funding/history?fromTime={since}") == payments[:1]
        assert await here.get(f"/user/funding/history?startTime={since}") == payments[:1]
        assert await here.get("/user/funding/history?side=SHORT") == []
        [position] = await here.get("/user/positions/history")
        paid = sum(Decimal(row["fundingFee"]) for row in payments)
        assert Decimal(position["realisedPnlBreakdown"]["fundingFees"]) == paid
        [rebates] = await here.get("/user/rebates/stats")
        assert rebates["totalPaid"] == "0"

    inside(program, rules(money={"funding_speedup": 180.0}), UNVERIFIED)


# When things go wrong.


def test_an_accepted_request_happens_though_its_caller_is_gone():
    async def program(here):
        impatient = aiohttp.ClientTimeout(total=0.01)
        with pytest.raises(asyncio.TimeoutError):
            await here.call("POST", "/user/order", json=order(here), timeout=impatient)
        await asyncio.sleep(1)
        assert [row["externalId"] for row in await here.get("/user/orders")] == ["o1"]

    inside(program, server_rules=UNVERIFIED)


def test_faults_are_set_and_cleared_from_outside():
    async def program(here):
        control = f"{here.server.url}/emulator"

        async def post(body):
            async with here.session.post(f"{control}/faults", json=body) as reply:
                return reply.status, await reply.json()

        assert await post({"errors_before": 1}) == (200, {"faults": {"errors_before": 1.0}})
        status, _ = await here.call("GET", "/user/balance")
        assert status == 500
        async with here.session.get(f"{control}/state") as reply:
            state = await reply.json()
        assert state["faults"] == {"errors_before": 1.0}
        assert state["faultCounts"]["errors_before"] == 1
        assert state["openOrders"] == {str(each.account_id): 0 for each in here.accounts}
        assert Decimal(state["equity"][str(here.accounts[0].account_id)]) == 10_000
        assert await post({}) == (200, {"faults": {}})
        assert here.exchange.faults == Faults()
        for wrong in ({"no_such": 1}, {"lost_replies": 2}, {"lost_replies": "often"}, [1]):
            status, body = await post(wrong)
            assert (status, body["status"]) == (400, "ERROR")

    inside(program)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8790"}, 200),
        ({"Host": "127.0.0.2"}, 200),
        ({"Host": "evil.example:8790"}, 403),
        ({"Host": "[evil"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_web_page_gets_no_keys_and_sets_no_faults(headers, status):
    async def program(here):
        control = f"{here.server.url}/emulator"
        async with here.session.get(f"{control}/accounts", headers=headers) as reply:
            assert reply.status == status
        async with here.session.post(f"{control}/faults", headers=headers, data=b"{}") as reply:
            assert reply.status == status

    inside(program)


def test_keys_are_handed_out_to_this_machine_only():
    async def program(here):
        async with here.session.get(f"{here.server.url}/emulator/accounts") as reply:
            [first, _] = (await reply.json())["accounts"]
        own = here.accounts[0]
        assert first == {
            "accountId": own.account_id,
            "apiKey": own.api_key,
            "starkPrivateKey": own.private_key,
            "starkPublicKey": own.public_key,
            "vault": own.vault,
        }
        assert own.api_key not in repr(own)
        assert own.private_key not in repr(own)
        everywhere = EmulatorServer(here.driver, here.accounts)
        await everywhere.start("0.0.0.0", token="a-token-of-16-signs")
        brought = {"Authorization": "Bearer a-token-of-16-signs"}
        port = everywhere.url.rpartition(":")[2]
        try:
            for path in ("accounts", "state", "faults"):
                url = f"http://127.0.0.1:{port}/emulator/{path}"
                async with here.session.get(url, headers=brought) as reply:
                    assert reply.status == 404
        finally:
            await everywhere.close()

    inside(program)


def test_a_port_that_is_taken():
    async def program(here):
        other = EmulatorServer(here.driver, here.accounts)
        port = int(here.server.url.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            await other.start(port=port)
        assert other.url == ""

    inside(program)


def test_when_the_exchange_closes_calls_end_with_an_error():
    async def program(here):
        waiting = asyncio.create_task(here.refused("POST", "/user/order", json=order(here)))
        await asyncio.sleep(0.01)
        here.driver.close()
        assert await waiting == (500, 500)
        assert await here.refused("GET", "/user/balance") == (500, 500)

    inside(program, server_rules=UNVERIFIED)


def test_a_look_up_that_fails_is_not_the_exchanges_end():
    async def program(here):
        with pytest.raises(ZeroDivisionError):
            await Desk(here.driver, {}).look_up("somebody", lambda: bytes(1 // 0))
        assert not here.driver.is_closed
        assert await here.get("/user/positions") == []

    inside(program)


def test_every_number_that_matters_is_a_string_and_ids_are_beyond_floats():
    async def program(here):
        await place(here, price="84010")
        [trade] = await here.get("/user/trades")
        assert trade["id"] > 2**53
        assert trade["orderId"] > 2**53
        for name in ("price", "qty", "value", "fee"):
            assert isinstance(trade[name], str)
            assert "E" not in trade[name]
        text = json.dumps(await here.get("/user/positions"))
        assert "null" not in text

    inside(program, server_rules=UNVERIFIED)
