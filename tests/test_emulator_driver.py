"""The driver: replies to who asked, frames to who subscribed, and an end that nobody waits through."""

import asyncio

import pytest
from inside import BTC, START_NS, FailingFlow, Inside, in_virtual_time

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.driver import ExchangeClosed, ExchangeDriver
from market_maker.emulator.faults import Faults
from market_maker.emulator.requests import DeadMansSwitchRequest
from market_maker.emulator.scenarios import build_flows
from market_maker.emulator.streams import Topic
from market_maker.recordings.events import RecordingError


class Driven:
    """An exchange, and a plain driver of it."""

    def __init__(self, **inside) -> None:
        self.inside = Inside(**inside)
        self.inside.driver.close()
        self.exchange = self.inside.exchange
        self.driver = ExchangeDriver(self.exchange, self.inside.clock)
        self.driver.start()

    def arm(self):
        return self.driver.send(self.inside.account_id, DeadMansSwitchRequest(countdown_s=60))


def driven(program, **inside):
    async def main():
        try:
            driven_one = Driven(**inside)
            return await program(driven_one)
        finally:
            driven_one.driver.close()

    return in_virtual_time(main)


async def heard(subscription) -> list:
    """Kinds of what is in the queue."""
    kinds = []
    while not subscription.queue.empty():
        item = subscription.queue.get_nowait()
        kinds.append(None if item is None else item[0])
    return kinds


def test_replies_and_look_ups_reach_who_asked():
    async def program(it):
        queries = it.exchange.queries
        order = it.arm()
        look_up = it.driver.ask("somebody", lambda: queries.positions(it.inside.account_id))
        reply, found = await asyncio.gather(order, look_up)
        return it.inside.now_s, reply, found

    now_s, reply, found = driven(program)
    assert (reply.http_status, found.http_status) == (200, 200)
    assert found.frame == b'{"status":"OK","data":[]}'
    assert 0.04 <= now_s < 0.5


def test_two_subscriptions_to_a_topic_have_a_queue_each_and_one_that_left_hears_no_more():
    async def program(it):
        await it.inside.until(1.0)
        stays, leaves = (it.driver.open_stream(Topic("book", BTC)) for _ in range(2))
        await it.inside.until(2.0)
        leaves.close()
        leaves.close()
        before = await heard(leaves), await heard(stays)
        await it.inside.until(3.0)
        return before, await heard(leaves), await heard(stays)

    before, after_leaving, after_staying = driven(program)
    assert len(before[0]) > 5
    assert before[0] == before[1]
    assert after_leaving == []
    assert len(after_staying) > 5


def test_subscriptions_may_share_a_queue():
    async def program(it):
        await it.inside.until(1.0)
        first = it.driver.open_stream(Topic("book", BTC))
        it.driver.open_stream(Topic("mark", BTC), first.queue)
        await it.inside.until(2.0)
        return await heard(first)

    assert set(driven(program)) == {"book", "mark"}


def test_a_stream_that_the_exchange_closes_ends_and_a_new_one_starts():
    async def program(it):
        await it.inside.until(1.0)
        it.exchange.set_faults(Faults(close_streams=1.0))
        closed = it.driver.open_stream(Topic("book", BTC))
        await it.inside.until(2.0)
        it.exchange.set_faults(Faults())
        opened = it.driver.open_stream(Topic("book", BTC))
        await it.inside.until(3.0)
        return await heard(closed), await heard(opened)

    closed, opened = driven(program)
    assert closed == [None]
    assert None not in opened
    assert len(opened) > 5


def test_closing_ends_streams_and_what_waits():
    async def program(it):
        stream = it.driver.open_stream(Topic("account", account_id=it.inside.account_id))
        waiting = [
            asyncio.ensure_future(it.arm()),
            asyncio.ensure_future(it.driver.ask("x", it.exchange.queries.instruments)),
        ]
        await asyncio.sleep(0.001)
        it.driver.close()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        late = it.driver.open_stream(Topic("book", BTC))
        for request in (it.arm(), it.driver.ask("x", it.exchange.queries.instruments)):
            with pytest.raises(ExchangeClosed, match="was closed"):
                await request
        await asyncio.sleep(5.0)
        return [type(error) for error in ended], await heard(stream), await heard(late), it.driver.is_closed

    errors, stream, late, is_closed = driven(program)
    assert errors == [ExchangeClosed, ExchangeClosed]
    assert (stream, late) == ([None], [None])
    assert is_closed


def test_a_lost_reply_is_waited_for_until_that_is_given_up():
    async def program(it):
        it.exchange.set_faults(Faults(lost_replies=1.0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30.0):
                await it.arm()
        return it.exchange.account(it.inside.account_id).switch_due_ns > 0

    assert driven(program)


def failing(error: Exception):
    async def program(it):
        market = it.driver.open_stream(Topic("book", BTC))
        account = it.driver.open_stream(Topic("account", account_id=it.inside.account_id))
        await it.inside.until(3.0)
        late = it.driver.open_stream(Topic("mark", BTC))
        with pytest.raises(type(error), match=str(error)):
            it.driver.check_failure()
        return await heard(market), await heard(account), await heard(late), it.driver.is_closed

    [flow] = build_flows("flat", (BTC,), 1, START_NS)
    return driven(program, flows=[FailingFlow(flow, START_NS + NS_PER_S, error)])


def test_where_a_recording_ends_public_streams_end_and_the_account_goes_on():
    market, account, late, is_closed = failing(RecordingError("it is over"))
    assert market[-1] is None
    assert None not in account
    assert late == [None]
    assert not is_closed


def test_an_error_of_the_exchange_closes_it_and_is_kept():
    market, account, late, is_closed = failing(NameError("no such name"))
    assert (market[-1], account[-1], late) == (None, None, [None])
    assert is_closed


def test_an_order_of_somebody_else_is_heard_by_its_own_account_alone():
    async def program(it):
        await it.inside.until(1.0)
        ids = (it.inside.account_id, it.inside.other_id)
        streams = [it.driver.open_stream(Topic("account", account_id=account_id)) for account_id in ids]
        await it.inside.until(1.5)
        for stream in streams:
            await heard(stream)
        it.inside.driver = it.driver
        await it.inside.order(Side.BUY, it.inside.best(Side.BUY) - 100, 1000, account_id=ids[1])
        await it.inside.until(2.0)
        return [await heard(stream) for stream in streams]

    assert driven(program) == [[], ["ORDER"]]
