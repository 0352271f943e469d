"""The live gateway beyond its contract: keys, pages, refusals, what is left to chance on the wire."""

import asyncio
import json
import re
import traceback
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest
from aiohttp import web
from inside import BTC, START_NS, Inside, in_virtual_time, rules

from market_maker.clock import LoopClock
from market_maker.config_sections import ConnectionSettings, Network, Secret
from market_maker.domain import NS_PER_S, NewOrder, Side
from market_maker.emulator.faults import Faults
from market_maker.emulator.server import EmulatorServer, ServerRules
from market_maker.emulator.server_rules import served_account
from market_maker.exchanges.endpoints import endpoint_of
from market_maker.exchanges.extended import ExtendedGateway, Keys, emulator_keys
from market_maker.gateway import (
    CredentialsRefused,
    MarketNotFound,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    Unreachable,
    VenueError,
)
from market_maker.instrument import MarketStatus

ETH = "ETH-USD"
CANARY = "canary-3f9ac71e"
PRIVATE_KEY = "0x7a7ff6fd3cab02ccdcd4a572563f5976f8976899b03a39773795a3c486d4986"
PUBLIC_KEY = "0x61c5e7e8339b7d56f197f54ea91b776776690e3232313de0f2ecbd0ef76f466"
GIVEN_KEYS = Keys(Secret(CANARY), Secret(PRIVATE_KEY))


PLACED = ("POST", "/user/order")


class World:
    """The exchange inside behind its server; gateways of its accounts."""

    def __init__(self, inside, server, accounts) -> None:
        self.inside = inside
        self.server = server
        self.accounts = accounts
        self.endpoint = endpoint_of(Network.EMULATOR, server.url)
        self._open = []

    def keys(self, account=0, signer=None):
        signer = self.accounts[account if signer is None else signer]
        return Keys(Secret(self.accounts[account].api_key), Secret(signer.private_key))

    async def gateway(self, keys, *, endpoint=None, **settings):
        gateway = await ExtendedGateway.connect(
            endpoint or self.endpoint, keys, ConnectionSettings(**settings), self.inside.clock
        )
        self._open.append(gateway)
        return gateway

    async def quoting(self, **settings):
        """A gateway of the first account that knows its market."""
        gateway = await self.gateway(self.keys(), **settings)
        await gateway.instruments([BTC])
        return gateway

    def order(self, name="mm-1", side=Side.BUY, **changes):
        ticks = self.inside.best(side) - side * 100
        at_ns = self.inside.clock.now_ns() + 60 * NS_PER_S
        plain = NewOrder(BTC, name, side, ticks, 1000, True, False, False, at_ns, 7)
        return plain._replace(**changes)

    async def close(self):
        for gateway in self._open:
            await gateway.close()
        self.inside.driver.close()
        await self.server.close()


def at_the_exchange(test, *, exchange_rules=None, deposit="10000", **server_rules):
    """Run a test against the emulator's server in virtual time."""

    async def program():
        inside = Inside("flat", (BTC, ETH), exchange_rules=exchange_rules, deposit=deposit)
        numbers = (inside.account_id, inside.other_id)
        accounts = [served_account(number, 1, index) for index, number in enumerate(numbers)]
        server = EmulatorServer(inside.driver, accounts, ServerRules(**server_rules))
        await server.start()
        world = World(inside, server, accounts)
        await inside.until(1.0)
        try:
            return await test(world)
        finally:
            await world.close()

    return in_virtual_time(program)


class Script:
    """A server whose replies a test writes: by method and path, one after the other, the last for ever."""

    def __init__(self, replies) -> None:
        self.replies = {key: list(given) for key, given in replies.items()}
        self.asked = []

    async def __call__(self, request):
        path = request.path.removeprefix("/api/v1")
        self.asked.append((request.method, path, request.rel_url.raw_query_string, await request.read()))
        given = self.replies[request.method, path]
        status, data = given.pop(0) if len(given) > 1 else given[0]
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        return web.Response(status=status, body=body)

    def orders(self):
        return [json.loads(body) for method, path, _, body in self.asked if (method, path) == PLACED]

    def queries(self, path):
        return [query for _, asked, query, _ in self.asked if asked == path]


def ok(data, **more):
    return 200, {"status": "OK", "data": data, **more}


def refusal(code, status=400):
    return status, {"status": "ERROR", "error": {"code": code, "message": f"no: {CANARY}"}}


MARKET = {
    "name": BTC,
    "tradingConfig": {
        "minOrderSize": "0.0001",
        "minOrderSizeChange": "0.00001",
        "minPriceChange": "1",
        "maxMarketOrderValue": "3000000",
        "maxLimitOrderValue": "15000000",
        "maxPositionValue": "60000000",
        "maxLeverage": "50.00",
        "hourlyFundingRateCap": "0.25",
        "maxNumOrders": "200",
        "limitPriceCap": "0.05",
        "limitPriceFloor": "0.05",
    },
    "l2Config": {
        "type": "STARKX",
        "collateralId": "0x1",
        "syntheticId": "0x4254432d3600000000000000000000",
        "syntheticResolution": 1000000,
        "collateralResolution": 1000000,
    },
}
ACCOUNT = {"accountId": 7001, "l2Key": PUBLIC_KEY, "l2Vault": "10002", "status": "ACTIVE"}
FEES = {"market": BTC, "makerFeeRate": "-0.00002", "takerFeeRate": "0.00025", "builderFeeRate": "0"}
USUAL = {
    ("GET", "/user/account/info"): [ok(ACCOUNT)],
    ("GET", "/info/markets"): [ok([MARKET])],
    ("GET", "/user/fees"): [ok([FEES])],
}


@asynccontextmanager
async def scripted(script):
    runner = web.ServerRunner(web.Server(script))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = endpoint_of(Network.EMULATOR, f"http://127.0.0.1:{runner.addresses[0][1]}")
    clock = LoopClock(asyncio.get_running_loop(), START_NS)
    try:
        gateway = await ExtendedGateway.connect(endpoint, GIVEN_KEYS, ConnectionSettings(), clock)
        try:
            await gateway.instruments([BTC])
            yield gateway
        finally:
            await gateway.close()
    finally:
        await runner.cleanup()


def with_replies(replies, test):
    """Run a test on a gateway whose exchange gives these replies; what it was asked."""
    script = Script(USUAL | replies)

    async def program():
        async with scripted(script) as gateway:
            await test(gateway)

    in_virtual_time(program)
    return script


def an_order(**changes):
    plain = NewOrder(BTC, "mm-1", Side.BUY, 84_000, 100, True, False, False, START_NS + 60 * NS_PER_S, 7)
    return plain._replace(**changes)


# --- Keys


def test_the_account_is_known_from_its_keys():
    async def test(world):
        gateway = await world.gateway(world.keys())
        mine = world.accounts[0]
        assert gateway.account.account_id == mine.account_id
        assert (gateway.account.public_key, gateway.account.vault) == (mine.public_key, mine.vault)

    at_the_exchange(test)


def test_an_unknown_api_key_is_refused_with_network_and_host():
    async def test(world):
        keys = Keys(Secret(CANARY), world.keys().stark_private_key)
        with pytest.raises(CredentialsRefused, match=r"emulator at 127\.0\.0\.1:\d+ does not accept the API"):
            await world.gateway(keys)

    at_the_exchange(test)


def test_the_private_key_of_another_account_is_refused():
    async def test(world):
        with pytest.raises(CredentialsRefused, match="must be of one sub-account") as failure:
            await world.gateway(world.keys(0, signer=1))
        assert world.accounts[1].private_key[2:] not in str(failure.value)
        assert world.accounts[1].public_key in str(failure.value)

    at_the_exchange(test)


def test_orders_signed_for_another_network_are_refused():
    async def test(world):
        endpoint = replace(world.endpoint, chain_id="SN_MAIN")
        gateway = await world.gateway(world.keys(), endpoint=endpoint)
        await gateway.instruments([BTC])
        with pytest.raises(CredentialsRefused) as failure:
            await gateway.place(world.order())
        assert failure.value.code == 1101

    at_the_exchange(test)


def test_an_emulator_hands_out_its_keys():
    async def test(world):
        keys = await emulator_keys(world.endpoint, 1)
        assert keys == world.keys(1)
        gateway = await world.gateway(keys)
        assert gateway.account.account_id == world.accounts[1].account_id
        with pytest.raises(CredentialsRefused, match="expected keys of account 2, was without"):
            await emulator_keys(world.endpoint, 2)

    at_the_exchange(test)


def test_who_is_no_emulator_hands_out_none():
    async def program():
        script = Script({("GET", "/emulator/accounts"): [(404, b"<html>")]})
        runner = web.ServerRunner(web.Server(script))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint = endpoint_of(Network.EMULATOR, f"http://127.0.0.1:{runner.addresses[0][1]}")
        with pytest.raises(CredentialsRefused, match="is mm emulator running there"):
            await emulator_keys(endpoint)
        await runner.cleanup()
        with pytest.raises(Unreachable, match="is it up"):
            await emulator_keys(endpoint)

    in_virtual_time(program)


def test_without_keys_only_what_is_public_can_be_asked():
    async def test(world):
        gateway = await world.gateway(None)
        assert gateway.account is None
        await gateway.instruments([BTC])
        listed = await gateway.listings()
        assert list(listed) == [BTC, ETH]
        assert list(await gateway.listings([ETH])) == [ETH]
        assert len(await gateway.candles(BTC, 2)) == 2
        for request in (gateway.balance(), gateway.place(world.order()), gateway.cancel(BTC, "a")):
            with pytest.raises(CredentialsRefused, match="expected keys"):
                await request

    at_the_exchange(test)


def test_an_answer_that_is_no_account_is_not_taken_for_one():
    for reply in (ok([]), ok({"accountId": 1}), ok(ACCOUNT | {"l2Key": "?"}), (200, b"<html>")):
        with pytest.raises(OutcomeUnknown, match="expected"):
            with_replies({("GET", "/user/account/info"): [reply]}, None)


# --- Look-ups


def test_fills_are_read_page_by_page_until_they_are_old_enough():
    async def test(world):
        gateway = await world.quoting()
        inside, orders = world.inside, 13
        middle_ns = 0
        for number in range(orders):
            if number == orders // 2:
                middle_ns = inside.clock.now_ns()
            await inside.order(Side.BUY, inside.best(Side.SELL) + 50, 1000, post_only=False)
            await asyncio.sleep(1)
        everything = await gateway.fills(0)
        assert sum(report.fill.size_lots for report in everything) == 1000 * orders
        assert [report.fill.venue_ns for report in everything] == sorted(r.fill.venue_ns for r in everything)
        used = (await gateway.rate_tier()).used
        recent = await gateway.fills(middle_ns)
        ids = [report.fill.trade_id for report in everything if report.fill.venue_ns >= middle_ns]
        assert [report.fill.trade_id for report in recent] == ids
        assert 0 < len(recent) < len(everything)
        # Pages of four: it stops at the first that reaches back far enough.
        assert (await gateway.rate_tier()).used - used < len(everything) / 4

    at_the_exchange(test, page_limit=4)


def fill(trade_id, at_ms):
    return {
        "id": trade_id,
        "market": BTC,
        "orderId": 1,
        "side": "BUY",
        "price": "84000",
        "qty": "0.001",
        "fee": "0",
        "createdTime": at_ms,
        "isTaker": False,
    }


START_MS = START_NS // 1_000_000


@pytest.mark.parametrize(
    ("pages", "asked"),
    [
        ([ok([])], 1),
        ([ok([fill(3, START_MS)])], 1),
        # The cursor of the last page may be that of the one before it, or lead to an empty one.
        ([ok([fill(3, START_MS)], pagination={"cursor": 3, "count": 1})] * 2, 2),
        ([ok([fill(3, START_MS)], pagination={"cursor": 3}), ok([], pagination={"cursor": 2})], 2),
    ],
)
def test_the_last_page_is_known_as_such(pages, asked):
    async def test(gateway):
        fills = await gateway.fills(0)
        assert [report.fill.trade_id for report in fills] == ([3] if pages[0][1]["data"] else [])

    script = with_replies({("GET", "/user/trades"): pages}, test)
    queries = script.queries("/user/trades")
    assert len(queries) == asked
    assert queries[0] == f"market={BTC}"
    assert all(query == f"market={BTC}&cursor=3" for query in queries[1:])


def test_an_instant_within_a_millisecond_loses_no_fill():
    async def test(gateway):
        assert len(await gateway.fills(START_NS + 900_000)) == 1

    with_replies({("GET", "/user/trades"): [ok([fill(3, START_MS), fill(2, START_MS - 1)])]}, test)


def test_funding_is_asked_for_by_both_names_of_its_start():
    async def test(gateway):
        assert await gateway.funding_payments(START_NS) == []

    script = with_replies({("GET", "/user/funding/history"): [ok([])]}, test)
    assert script.queries("/user/funding/history") == [
        f"market={BTC}&startTime={START_MS}&fromTime={START_MS}"
    ]


def test_no_money_is_no_error():
    async def test(world):
        gateway = await world.quoting()
        balance = await gateway.balance()
        assert (balance.balance, balance.equity, balance.available_for_trade) == (0, 0, 0)
        assert balance.venue_ns == world.inside.clock.now_ns()

    at_the_exchange(test, deposit="0")


def test_a_proxys_404_is_neither_an_empty_account_nor_an_unknown_order():
    page = (404, b"<html>not found</html>")

    async def test(gateway):
        for request in (gateway.balance(), gateway.order("mm-1")):
            with pytest.raises(OutcomeUnknown):
                await request

    with_replies({("GET", "/user/balance"): [page], ("GET", "/user/orders/external/mm-1"): [page]}, test)


@pytest.mark.parametrize("reply", [ok([]), refusal(404, 404), (404, b"")])
def test_an_order_that_is_not_known_is_none(reply):
    async def test(gateway):
        assert await gateway.order("mm-1") is None

    with_replies({("GET", "/user/orders/external/mm-1"): [reply]}, test)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (refusal(1010, 503), OrderRefused),
        ((200, refusal(1010)[1]), OrderRefused),
        (refusal(1006, 500), OutcomeUnknown),
        ((200, b"<html>"), OutcomeUnknown),
        ((200, b""), OutcomeUnknown),
        (refusal(429, 429), RateLimited),
    ],
)
def test_no_failure_of_a_look_up_says_that_an_order_is_gone(reply, kind):
    async def test(gateway):
        with pytest.raises(kind):
            await gateway.order("mm-1")
        with pytest.raises(kind if kind is not RateLimited else VenueError):
            await gateway.open_orders()

    with_replies(
        {("GET", "/user/orders/external/mm-1"): [reply], ("GET", "/user/orders"): [reply]},
        test,
    )


def test_an_id_of_anothers_making_is_looked_up_as_it_is():
    async def test(gateway):
        assert await gateway.order("a/b ?c=1&d#é") is None

    path = "/user/orders/external/a/b ?c=1&d#é"
    script = with_replies({("GET", path): [ok([])]}, test)
    assert script.queries(path) == [""]


def test_a_market_that_takes_no_new_positions_can_be_closed():
    """Quoting asks for an active market at start-up; cancelling and closing must go on without."""
    market = MARKET | {"status": "REDUCE_ONLY"}

    async def test(gateway):
        [instrument] = (await gateway.instruments([BTC])).values()
        assert instrument.status is MarketStatus.REDUCE_ONLY
        assert (await gateway.place(an_order(reduce_only=True))).order_id == 7

    replies = {
        ("GET", "/info/markets"): [ok([market])],
        ("POST", "/user/order"): [ok({"id": 7, "externalId": "mm-1"})],
    }
    with_replies(replies, test)


@pytest.mark.parametrize("reply", [(500, b""), (200, b"<html>"), ok([])])
def test_an_order_whose_fees_are_not_known_is_surely_not_sent(reply):
    async def test(gateway):
        with pytest.raises(OrderRefused, match="not sent: the fees of BTC-USD"):
            await gateway.place(an_order())

    assert not with_replies({("GET", "/user/fees"): [reply]}, test).orders()


@pytest.mark.parametrize("change", [{"size_lots": 2**62}, {"price_ticks": 2**62}])
def test_an_order_of_more_than_can_be_signed_is_refused_by_us(change):
    async def test(gateway):
        with pytest.raises(OrderRefused, match=r"below 2\^63"):
            await gateway.place(an_order(**change))

    assert not with_replies({}, test).orders()


def test_a_position_elsewhere_is_counted():
    async def test(world):
        gateway = await world.quoting()
        inside = world.inside
        await inside.order(Side.BUY, inside.best(Side.SELL, ETH) + 50, 1000, market=ETH, post_only=False)
        await asyncio.sleep(1)
        assert await gateway.positions() == []
        assert gateway.unknown[f"position in {ETH}, not asked for"] == 1

    at_the_exchange(test)


def test_orders_in_other_markets_are_told_too():
    async def test(world):
        gateway = await world.quoting()
        inside = world.inside
        await inside.order(Side.BUY, inside.best(Side.BUY, ETH) - 50, 1000, market=ETH)
        await asyncio.sleep(1)
        [order] = await gateway.open_orders()
        assert (order.market, order.side, order.size_lots) == (ETH, Side.BUY, 0)

    at_the_exchange(test)


def test_an_unknown_market_is_named_though_the_exchange_refuses_the_filter():
    async def test(gateway):
        with pytest.raises(MarketNotFound, match="did you mean BTC-USD"):
            await gateway.instruments(["BTC-USDT"])

    script = with_replies({("GET", "/info/markets"): [ok([MARKET]), refusal(1001, 404), ok([MARKET])]}, test)
    assert script.queries("/info/markets") == [f"market={BTC}", "market=BTC-USDT", ""]


@pytest.mark.parametrize("ahead_s", [-2.5, 0.0, 2.5])
def test_the_exchanges_clock_is_read_to_half_a_second(ahead_s):
    async def test(world):
        gateway = await world.gateway(None)
        for _ in range(5):
            assert await gateway.clock_skew_s() == pytest.approx(ahead_s, abs=0.6)
            await asyncio.sleep(0.37)

    at_the_exchange(test, clock_skew_s=ahead_s)


@pytest.mark.slow
def test_a_bar_that_is_still_open_is_left_out():
    async def test(world):
        gateway = await world.quoting()
        await world.inside.until(200)
        bars = await gateway.candles(BTC, 10)
        assert [(bar.open_ns - START_NS) // NS_PER_S for bar in bars[-3:]] == [0, 60, 120]
        assert await gateway.candles(BTC, 2) == bars[-2:]
        assert await gateway.candles(BTC, 0) == []

    at_the_exchange(test)


# --- Orders


def test_what_is_sent_is_what_was_ordered():
    replies = {
        ("POST", "/user/order"): [ok({"id": 9, "externalId": "mm-1"})],
        ("DELETE", "/user/order"): [(200, {"status": "OK"}), (200, b""), (204, b"")],
        ("POST", "/user/order/massCancel"): [(200, {"status": "OK"})],
        ("POST", "/user/deadmanswitch"): [(200, {"status": "OK"})],
        ("PATCH", "/user/leverage"): [(200, b"")],
    }

    async def test(gateway):
        accepted = await gateway.place(an_order(replaces="mm-0"))
        assert (accepted.order_id, accepted.external_id) == (9, "mm-1")
        await gateway.place(an_order(post_only=False, immediate_or_cancel=True, reduce_only=True))
        for _ in range(3):
            await gateway.cancel(BTC, "mm-1")
        await gateway.mass_cancel([BTC, ETH])
        await gateway.arm_dead_mans_switch(60)
        await gateway.set_leverage(BTC, Decimal("1E+1"))

    script = with_replies(replies, test)
    resting, taking = (
        json.loads(body)
        for method, path, _, body in script.asked
        if path == "/user/order" and method == "POST"
    )
    assert (resting["cancelId"], resting["postOnly"], resting["timeInForce"]) == ("mm-0", True, "GTT")
    # What rests is signed with the maker's fee, a rebate with none; what takes with the taker's.
    assert (resting["fee"], taking["fee"]) == ("0", "0.00025")
    assert (taking["timeInForce"], taking["reduceOnly"]) == ("IOC", True)
    assert "cancelId" not in taking
    assert script.queries("/user/deadmanswitch") == ["countdownTime=60"]
    assert script.asked[-1][3] == b'{"market":"BTC-USD","leverage":"10"}'
    [mass] = [json.loads(body) for _, path, _, body in script.asked if path == "/user/order/massCancel"]
    assert mass == {"markets": [BTC, ETH]}
    assert len(script.queries("/user/fees")) == 1


def test_an_id_with_odd_characters_stays_one_value():
    async def test(gateway):
        await gateway.cancel(BTC, "a b&c=1/é")

    script = with_replies({("DELETE", "/user/order"): [(200, b"")]}, test)
    assert script.queries("/user/order") == ["externalId=a%20b%26c%3D1%2F%C3%A9"]


@pytest.mark.parametrize(
    ("reply", "kind", "code"),
    [
        # An error may come with HTTP status 200.
        ((200, refusal(1134)[1]), OrderRefused, 1134),
        (refusal(1011), OrderRefused, 1011),
        (refusal(1010, 503), OrderRefused, 1010),
        (refusal(1101), CredentialsRefused, 1101),
        ((200, b"<html>"), OutcomeUnknown, 0),
        ((200, {"status": "OK"}), OutcomeUnknown, 0),
    ],
)
def test_refusals_of_an_order_are_types(reply, kind, code):
    async def test(gateway):
        with pytest.raises(kind) as failure:
            await gateway.place(an_order())
        assert type(failure.value) is kind
        assert failure.value.code == code
        assert CANARY not in "".join(traceback.format_exception(failure.value))

    script = with_replies({("POST", "/user/order"): [reply]}, test)
    assert len(script.queries("/user/order")) == 1


def test_after_a_refused_fee_the_fees_are_asked_for_anew():
    async def test(gateway):
        with pytest.raises(OrderRefused):
            await gateway.place(an_order())
        await gateway.place(an_order())

    script = with_replies(
        {
            ("POST", "/user/order"): [refusal(1128), ok({"id": 9, "externalId": "mm-1"})],
            ("GET", "/user/fees"): [ok([FEES]), ok([FEES | {"makerFeeRate": "0.0001"}])],
        },
        test,
    )
    assert [body["fee"] for body in script.orders()] == ["0", "0.0001"]


def test_a_market_without_settlement_can_be_watched_and_not_traded():
    async def test(gateway):
        with pytest.raises(OrderRefused, match="expected l2Config"):
            await gateway.place(an_order())
        assert gateway.unknown.total() == 1

    bare = {name: value for name, value in MARKET.items() if name != "l2Config"}
    script = with_replies({("GET", "/info/markets"): [ok([bare])]}, test)
    assert not script.queries("/user/order")


def test_each_signature_has_a_turn_of_the_loop_for_itself():
    turns = 0
    signed_in = []

    async def test(gateway):
        loop = asyncio.get_running_loop()
        stopped = False

        def count():
            nonlocal turns
            turns += 1
            if not stopped:
                loop.call_soon(count)

        class Signer:
            def __init__(self, signer) -> None:
                self._signer = signer

            def body(self, order, terms):
                signed_in.append(turns)
                return self._signer.body(order, terms)

        gateway._signer = Signer(gateway._signer)
        loop.call_soon(count)
        await gateway.fees(BTC)
        await asyncio.gather(*(gateway.place(an_order(external_id=f"mm-{n}")) for n in range(12)))
        stopped = True

    with_replies({("POST", "/user/order"): [ok({"id": 9, "externalId": "mm-1"})]}, test)
    assert len(set(signed_in)) == len(signed_in) == 12
    assert signed_in[-1] - signed_in[0] < 40


def test_in_maintenance_orders_are_refused_and_nothing_is_forgotten():
    async def test(world):
        gateway = await world.quoting()
        await gateway.place(world.order())
        await asyncio.sleep(1)
        world.inside.exchange.set_faults(Faults(maintenance=True))
        for request in (
            gateway.place(world.order("mm-2")),
            gateway.cancel(BTC, "mm-1"),
            gateway.order("mm-1"),
            gateway.open_orders(),
        ):
            with pytest.raises(OrderRefused) as failure:
                await request
            assert failure.value.code == 1010
        world.inside.exchange.set_faults(Faults())
        assert (await gateway.order("mm-1")).external_id == "mm-1"
        assert await gateway.order("mm-2") is None

    at_the_exchange(test)


def test_the_exchanges_own_rate_limit_pauses_all_but_cancels():
    async def test(world):
        gateway = await world.quoting(requests_per_minute=1000)
        await gateway.place(world.order())
        # Two look-ups and the order came before.
        for _ in range(27):
            await gateway.balance()
        with pytest.raises(RateLimited, match="429"):
            await gateway.balance()
        with pytest.raises(RateLimited, match="not sent"):
            await gateway.balance()

    at_the_exchange(test, exchange_rules=rules(orders={"requests_per_minute": 30}))


def test_keys_are_in_no_repr_and_no_failure():
    async def test(world):
        gateway = await world.quoting()
        keys = world.keys()
        secrets = [keys.api_key.reveal(), keys.stark_private_key.reveal().removeprefix("0x")]
        shown = repr(gateway) + repr(vars(gateway)) + repr(keys)
        world.inside.driver.close()
        with pytest.raises(VenueError) as failure:
            await gateway.place(world.order())
        shown += "".join(traceback.format_exception(failure.value)) + repr(failure.value)
        assert not [secret for secret in secrets if re.search(re.escape(secret), shown)]

    at_the_exchange(test)
