"""Our books against the exchange's, when the stream keeps something to itself."""

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time

from market_maker.domain import Reason, Side
from market_maker.emulator.faults import Faults
from market_maker.emulator.requests import TimeInForce

IOC = TimeInForce.IOC


def play_beside(seconds, during, *settings, scenario="calm"):
    async def main():
        inside = Inside(scenario)

        async def beside(strategy):
            await during(inside, strategy)

        return inside, await inside.session(seconds, *settings, during=beside)

    return in_virtual_time(main)


async def fill_ours(inside, side: Side) -> None:
    """Let somebody take our nearest order of a side."""
    ours = [order for order in inside.account.open.values() if order.side is side]
    best = max(ours, key=lambda order: side * order.price_ticks)
    await inside.order(Side(-side), best.price_ticks, 10**7, account_id=inside.other_id, time_in_force=IOC)


def test_a_fill_that_the_stream_lost_is_fetched():
    """The frames of a match are lost; the gap is noticed, the trade looked up, nothing counted twice."""
    seen = {}

    async def during(inside, strategy):
        await inside.until(3.0)
        inside.driver.losing = {"TRADE", "POSITION"}
        await fill_ours(inside, Side.BUY)
        inside.driver.losing = set()
        await inside.until(12.0)
        seen["halts"] = {desk.halts.gravest for desk in strategy.session.desks.values()}

    inside, run = play_beside(14.0, during)
    assert_sound(inside, run)
    assert len(run.records("fill")) == len(inside.account.trades) >= 1
    assert seen["halts"] == {Reason.NONE}


def test_a_trade_that_comes_twice_is_booked_once():
    async def during(inside, strategy):
        await inside.until(3.0)
        await fill_ours(inside, Side.SELL)
        await inside.until(4.0)
        for report in await strategy.session.gateway.fills(0):
            strategy.orders.on_fill(report)

    inside, run = play_beside(6.0, during)
    assert_sound(inside, run)
    assert len(run.records("fill")) == len(inside.account.trades) >= 1


def test_a_position_that_nothing_explains_halts_until_it_is_gone():
    """A trade that the exchange does not show to anybody for a while: quoting on would be blind."""
    seen = {}

    async def during(inside, strategy):
        gateway = strategy.session.gateway
        await inside.until(3.0)
        gateway.hides_fills = True
        inside.driver.losing = {"TRADE", "POSITION"}
        await fill_ours(inside, Side.BUY)
        await inside.until(3.5)
        inside.driver.losing = set()
        await inside.until(12.0)
        seen["halts"] = {desk.halts.gravest for desk in strategy.session.desks.values()}
        seen["open"] = inside.open_ids()
        gateway.hides_fills = False
        await inside.until(20.0)
        seen["again"] = inside.open_ids()

    inside, run = play_beside(21.0, during)
    assert_sound(inside, run)
    assert seen["halts"] == {Reason.DESYNCHRONISED}
    assert seen["open"] == []
    assert len(seen["again"]) > 0


def test_a_manual_trade_in_the_account_is_booked_too():
    async def during(inside, strategy):
        await inside.until(3.0)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 200, 900)
        await inside.until(4.0)
        assert strategy.session.ledger.position_lots(BTC) == inside.account.position_lots(BTC)

    inside, run = play_beside(6.0, during)
    assert_sound(inside, run)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ORDER", "TRADE", "POSITION", "BALANCE"])
def test_frames_lost_for_a_while_leave_no_trace_in_the_books(kind):
    async def during(inside, _strategy):
        for begin in (4.0, 9.0, 14.0):
            await inside.until(begin)
            inside.driver.losing = {kind}
            await inside.until(begin + 1.5)
            inside.driver.losing = set()

    inside, run = play_beside(25.0, during, scenario="mixed")
    assert_sound(inside, run)
    assert len(run.records("fill")) == len(inside.account.trades)


def test_a_fill_that_the_stream_lost_just_before_the_end_is_fetched():
    async def during(inside, strategy):
        await inside.until(3.0)
        inside.driver.losing = {"TRADE", "POSITION"}
        await fill_ours(inside, Side.BUY)
        await inside.until(3.15)
        strategy.stop.ask("a test")
        inside.driver.losing = set()

    inside, run = play_beside(14.0, during)
    assert_sound(inside, run)
    assert len(run.records("fill")) == len(inside.account.trades) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("hurried", [False, True])
def test_a_second_wish_to_stop_spares_the_retries_where_the_exchange_is_gone(hurried):
    async def during(inside, strategy):
        await inside.until(4.0)
        inside.exchange.set_faults(Faults(unreachable=1.0))
        strategy.stop.ask("SIGINT")
        if hurried:
            strategy.stop.ask("SIGINT")

    _, run = play_beside(30.0, during)
    assert run.outcome.remaining
    settling = len(run.records("not_settled"))
    assert settling == 1 if hurried else settling > 5
