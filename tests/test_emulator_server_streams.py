"""The v1 streams on sockets: paths, handshakes, sequences, pings, readers that are lost, the end."""

import asyncio
import json
from decimal import Decimal

import aiohttp
import pytest
from aiohttp import WSMsgType
from emulator_served import AGENT, BTC, ETH, world
from inside import in_virtual_time

from market_maker.domain import Side
from market_maker.emulator.faults import Faults
from market_maker.emulator.flow import LevelChange, TakerOrder
from market_maker.emulator.requests import OrderRequest
from market_maker.emulator.rules import ExchangeRules, MoneyRules
from market_maker.emulator.server import ServerRules


def inside(program, exchange_rules=None, server_rules=None, **how):
    """Run a coroutine function of a served world in virtual time."""

    async def main():
        async with world(exchange_rules, server_rules, **how) as here:
            return await program(here)

    return in_virtual_time(main)


def stream(here, path: str, **how):
    """Open a stream."""
    headers = how.pop("headers", AGENT)
    return here.session.ws_connect(here.streams + path, headers=headers, **how)


def seconds(total: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total)


async def frame(socket) -> dict:
    """Next frame of a stream; it is text."""
    message = await socket.receive(timeout=120)
    assert message.type is WSMsgType.TEXT, message
    return json.loads(message.data)


async def refused(here, path: str, **how) -> int:
    """HTTP status of a handshake that is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await stream(here, path, **how)
    return refusal.value.status


# Topics.


def test_the_whole_book_and_then_its_changes():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}") as socket:
            first = await frame(socket)
            assert (first["type"], first["seq"]) == ("SNAPSHOT", 1)
            assert first["data"] == {
                "t": "SNAPSHOT",
                "m": BTC,
                "b": [{"q": "1.00000", "p": "83990"}, {"q": "1.00000", "p": "83980"}],
                "a": [{"q": "1.00000", "p": "84010"}, {"q": "1.00000", "p": "84020"}],
                "d": "f",
            }
            here.feed(LevelChange(Side.SELL, 84_010, 40_000))
            second = await frame(socket)
            assert (second["type"], second["seq"]) == ("DELTA", 2)
            assert second["data"]["a"] == [{"q": "-0.60000", "p": "84010", "c": "0.40000"}]
            third = await frame(socket)
            assert (third["type"], third["seq"]) == ("SNAPSHOT", 3)
            assert third["ts"] - first["ts"] == 60_000

    inside(program)


def test_a_stream_without_a_market_tells_of_all_in_one_sequence():
    async def program(here):
        async with stream(here, "/orderbooks") as socket:
            frames = [await frame(socket) for _ in range(2)]
            assert {each["data"]["m"] for each in frames} == {BTC, ETH}
            assert [each["seq"] for each in frames] == [1, 2]
        async with stream(here, "/prices/index") as socket:
            frames = [await frame(socket) for _ in range(2)]
            assert {each["data"]["m"] for each in frames} == {BTC, ETH}

    inside(program)


def test_the_best_quote_is_always_a_snapshot():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}?depth=1") as socket:
            first = await frame(socket)
            here.feed(LevelChange(Side.BUY, 83_995, 500))
            second = await frame(socket)
        assert [each["type"] for each in (first, second)] == ["SNAPSHOT", "SNAPSHOT"]
        assert [each["seq"] for each in (first, second)] == [1, 2]
        assert second["data"]["b"] == [{"q": "0.00500", "p": "83995"}]
        assert second["data"]["a"] == [{"q": "1.00000", "p": "84010"}]

    inside(program)


def test_prices_trades_and_funding():
    async def program(here):
        async with stream(here, f"/prices/mark/{BTC}") as socket:
            mark = await frame(socket)
            assert (mark["type"], mark["data"]["p"], mark["sourceEventId"]) == ("MP", "84000.00", None)
            here.flows[BTC].index = Decimal(84_100)
            assert Decimal((await frame(socket))["data"]["p"]) > 84_000
        async with stream(here, f"/prices/index/{BTC}") as socket:
            index = await frame(socket)
            assert (index["type"], index["data"]["p"]) == ("IP", "84100")
        async with stream(here, f"/publicTrades/{BTC}") as socket:
            here.feed(TakerOrder(Side.BUY, 84_010, 300))
            trades = await frame(socket)
            assert "type" not in trades
            [trade] = trades["data"]
            assert (trade["S"], trade["p"], trade["q"], trade["tT"]) == ("BUY", "84010", "0.00300", "TRADE")
        async with stream(here, f"/funding/{BTC}") as socket:
            funding = await frame(socket)
            assert (funding["data"]["m"], funding["seq"]) == (BTC, 1)

    inside(program, ExchangeRules(money=MoneyRules(mark_basis_s=1.0)))


def test_candles_that_are_forming():
    async def program(here):
        async with stream(here, f"/candles/{BTC}/mark-prices?interval=PT1M") as socket:
            [first] = (await frame(socket))["data"]
            here.flows[BTC].index = Decimal(84_200)
            second = await frame(socket)
            [row] = second["data"]
            assert (row["T"], row["h"], second["seq"]) == (first["T"], "84200.00", 2)
            assert "v" not in row
        path = f"/candles/{BTC}/trades"
        assert await refused(here, path) == 400
        assert await refused(here, f"{path}?interval=PT7M") == 400
        assert await refused(here, f"/candles/{BTC}/spot?interval=PT1M") == 404
        assert await refused(here, "/candles/NONE-USD/trades?interval=PT1M") == 404

    inside(program, ExchangeRules(money=MoneyRules(mark_basis_s=1e9)))


def test_the_account_stream_opens_by_header_or_by_query():
    async def program(here):
        async with stream(here, "/account", headers=here.key(0)) as first:
            assert [(await frame(first))["type"] for _ in range(3)] == ["ORDER", "BALANCE", "POSITION"]
            key = here.accounts[0].api_key
            async with stream(here, f"/account?X-API-KEY={key}") as second:
                assert [(await frame(second))["seq"] for _ in range(3)] == [1, 2, 3]
                await here.driver.send(here.accounts[0].account_id, resting(here))
                told = [await frame(each) for each in (first, second)]
        assert [each["seq"] for each in told] == [4, 4]
        assert told[0]["data"]["orders"][0]["externalId"] == "o1"

    inside(program)


def resting(here, **changes) -> OrderRequest:
    usual = {
        "market": BTC,
        "external_id": "o1",
        "side": Side.BUY,
        "price": Decimal(83_900),
        "qty": Decimal("0.01"),
        "expire_ns": here.clock.now_ns() + 3600 * 10**9,
    }
    return OrderRequest(**(usual | changes))


# Handshakes.


def test_handshakes_that_are_refused():
    async def program(here):
        assert await refused(here, "/orderbooks/NONE-USD") == 404
        assert await refused(here, "/depth") == 404
        assert await refused(here, "/account") == 401
        assert await refused(here, "/account?X-API-KEY=nobody") == 401
        assert await refused(here, "/account", headers=AGENT | {"X-Api-Key": "nobody"}) == 401
        assert await refused(here, f"/orderbooks/{BTC}", headers={"User-Agent": ""}) == 403

    inside(program)


def test_frames_may_be_compressed_and_need_not():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}", compress=15) as packed:
            assert packed.compress == 15
            async with stream(here, f"/orderbooks/{BTC}") as plain:
                assert plain.compress == 0
                assert (await frame(packed))["data"] == (await frame(plain))["data"]

    inside(program)


# Pings.


async def next_pings(socket, count: int) -> list[float]:
    """Virtual instants of the next pings, each answered."""
    loop, instants = asyncio.get_running_loop(), []
    while len(instants) < count:
        message = await socket.receive(timeout=120)
        assert message.type in (WSMsgType.TEXT, WSMsgType.PING), message
        if message.type is WSMsgType.PING:
            instants.append(loop.time())
            await socket.pong(message.data)
    return instants


def test_the_server_pings_every_fifteen_seconds():
    async def program(here):
        async with stream(here, f"/publicTrades/{BTC}", autoping=False) as socket:
            first, second, third = await next_pings(socket, 3)
            assert second - first == third - second == 15.0

    inside(program)


def test_a_ping_is_answered_but_in_silence():
    async def program(here):
        async with stream(here, f"/publicTrades/{BTC}", autoping=False) as socket:
            await socket.ping(b"here?")
            message = await socket.receive(timeout=1)
            assert (message.type, message.data) == (WSMsgType.PONG, b"here?")
            here.exchange.set_faults(Faults(silent_streams=1.0))
            await socket.ping(b"here?")
            with pytest.raises(asyncio.TimeoutError):
                await socket.receive(timeout=60)
            here.exchange.set_faults(Faults())
            await socket.ping(b"now?")
            message = await socket.receive(timeout=1)
            assert (message.type, message.data) == (WSMsgType.PONG, b"now?")

    inside(program)


def test_in_silence_nothing_is_told():
    async def program(here):
        async with stream(here, f"/candles/{BTC}/mark-prices?interval=PT1M") as socket:
            await frame(socket)
            here.exchange.set_faults(Faults(silent_streams=1.0))
            here.flows[BTC].index = Decimal(84_200)
            with pytest.raises(asyncio.TimeoutError):
                await socket.receive(timeout=40)

    inside(program)


def test_a_reader_that_answers_no_ping_is_dropped():
    async def program(here):
        async with stream(here, f"/publicTrades/{BTC}", autoping=False) as socket:
            assert (await socket.receive(timeout=60)).type is WSMsgType.PING
            began = asyncio.get_running_loop().time()
            message = await socket.receive(timeout=60)
            assert message.type in (WSMsgType.CLOSED, WSMsgType.CLOSE, WSMsgType.ERROR)
            assert 10.0 <= asyncio.get_running_loop().time() - began <= 12.0

    inside(program)


# The end of a stream.


def test_a_reader_that_lets_too_much_wait_is_dropped():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}") as socket:
            await frame(socket)
            # It reads no more: what it does not take fills the buffers between, then waits at the server.
            pause(socket)
            [subscription] = here.driver._subscriptions.values()
            for _ in range(100):
                subscription.queue.put_nowait(("book", b"x" * 200_000))
            await asyncio.sleep(5)
            assert waiting(here) == 1
            for _ in range(101):
                subscription.queue.put_nowait(("book", b"x"))
            await asyncio.sleep(5)
            assert waiting(here) == 0

    inside(program, server_rules=ServerRules(backlog_frames=100, ping_interval_s=1e6))


def pause(socket: aiohttp.ClientWebSocketResponse) -> None:
    connection = socket._conn
    assert connection is not None
    connection.transport.pause_reading()


def waiting(here) -> int:
    """How many subscriptions are open at the exchange."""
    return len(here.driver._subscriptions)


def test_a_reader_that_leaves_is_forgotten():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}") as socket:
            await frame(socket)
            assert waiting(here) == 1
        await asyncio.sleep(1)
        assert waiting(here) == 0
        socket = await stream(here, f"/orderbooks/{BTC}")
        await frame(socket)
        socket._conn.transport.abort()
        await asyncio.sleep(1)
        assert waiting(here) == 0
        await socket.close()

    inside(program)


def test_a_stream_that_the_exchange_closes():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}") as socket:
            await frame(socket)
            here.exchange.set_faults(Faults(close_streams=1.0))
            here.feed(LevelChange(Side.BUY, 83_995, 10))
            message = await socket.receive(timeout=5)
            assert message.type is WSMsgType.CLOSE
            assert socket.close_code == 1001

    inside(program)


def test_unreachable_everything_is_cut_without_a_word():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}") as socket:
            await frame(socket)
            # On its way when it happens: nobody ever answers.
            asking = asyncio.create_task(here.call("GET", "/user/balance", timeout=seconds(3)))
            await asyncio.sleep(0.01)
            here.exchange.set_faults(Faults(unreachable=1.0))
            message = await socket.receive(timeout=5)
            assert message.type in (WSMsgType.CLOSED, WSMsgType.ERROR)
            assert socket.close_code == 1006
            with pytest.raises(asyncio.TimeoutError):
                await asking
        for knock in (here.get("/info/markets", None), stream(here, f"/orderbooks/{BTC}")):
            with pytest.raises(aiohttp.ClientConnectionError):
                await knock
        assert here.exchange.fault_counts["unreachable"] >= 2
        async with here.session.post(f"{here.server.url}/emulator/faults", json={}) as reply:
            assert reply.status == 200
        assert Decimal((await here.get("/user/balance"))["equity"]) == 10_000
        async with stream(here, f"/orderbooks/{BTC}") as socket:
            assert (await frame(socket))["seq"] == 1

    inside(program)


def test_streams_end_with_the_server():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}") as socket:
            await frame(socket)
            await here.server.close()
            message = await socket.receive(timeout=5)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
            with pytest.raises(aiohttp.ClientConnectorError):
                await stream(here, f"/orderbooks/{BTC}")

    inside(program)


def test_what_a_client_says_is_ignored():
    async def program(here):
        async with stream(here, f"/orderbooks/{BTC}") as socket:
            await frame(socket)
            await socket.send_str('{"method":"subscribe"}')
            here.feed(LevelChange(Side.BUY, 83_995, 10))
            assert (await frame(socket))["seq"] == 2

    inside(program)
