"""However and whenever a session is stopped: nothing open at the exchange, and the outcome says why."""

import asyncio
import signal
import socket
from decimal import Decimal
from itertools import pairwise

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time, rules

from market_maker.domain import Side
from market_maker.emulator.requests import TimeInForce
from market_maker.emulator.rules import Delay, Mode
from market_maker.gateway import MarketNotFound, OutcomeUnknown
from market_maker.instrument import MarketStatus

SLOW = Delay(base_ms=300.0, tail_ms=400.0)


def stop_at(
    at_s, *, times=1, seconds=20.0, scenario="flat", exchange_rules=None, settings=(), number=signal.SIGINT
):
    """A session that gets a signal at an instant, maybe twice."""

    async def main():
        inside = Inside(scenario, exchange_rules=exchange_rules)
        # A loop that has sockets asks the kernel at every step, and so hears of a signal at once.
        ours, theirs = socket.socketpair()
        asyncio.get_running_loop().add_reader(ours, bool)
        later = asyncio.get_running_loop().call_later
        asking = [later(at_s + 0.07 * n, signal.raise_signal, number) for n in range(times)]
        run = await inside.session(seconds, *settings)
        for timer in asking:
            timer.cancel()
        asyncio.get_running_loop().remove_reader(ours)
        ours.close()
        theirs.close()
        # What is still under way at the exchange arrives.
        await asyncio.sleep(10.0)
        return inside, run

    return in_virtual_time(main)


def test_the_time_is_up():
    async def main():
        inside = Inside()
        run = await inside.session(5.0)
        return inside, run

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert run.outcome.why == "time is up"
    assert run.gateway.made("place")


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("at_s", [0.001, 0.05, 0.13, 0.17])
def test_a_stop_before_the_session_is_open_sends_nothing(at_s, times):
    inside, run = stop_at(at_s, times=times)
    assert run.error is None
    assert run.outcome.why == "SIGINT"
    assert run.outcome.strategy is None
    assert run.tasks_left == 0
    assert inside.open_ids() == []
    assert run.gateway.made("place") == []


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("at_s", [0.25, 0.29, 0.33, 0.37, 0.4, 0.42, 0.44, 0.47, 0.5, 0.55, 1.0, 2.02])
def test_a_stop_at_any_instant_leaves_nothing_open(at_s, times):
    inside, run = stop_at(at_s, times=times)
    assert run.outcome.why == "SIGINT"
    if run.outcome.strategy is not None:
        assert_sound(inside, run)
    assert inside.open_ids() == []
    assert run.tasks_left == 0


@pytest.mark.slow
@pytest.mark.parametrize("at_s", [1.5 + 0.173 * step for step in range(12)])
def test_a_stop_amid_placements_on_a_slow_exchange_leaves_nothing_open(at_s):
    slow = rules(latency={"request": SLOW, "reply": SLOW, "matching": SLOW})
    inside, run = stop_at(at_s, exchange_rules=slow, scenario="mixed")
    if run.outcome.strategy is not None:
        assert_sound(inside, run)
    assert inside.open_ids() == []


@pytest.mark.parametrize("at_s", [0.3, 0.45, 3.0])
def test_no_order_is_sent_after_the_wish_to_stop(at_s):
    _, run = stop_at(at_s, scenario="mixed")
    assert [call for call in run.gateway.made("place") if call.at_s > at_s] == []


def test_a_stop_wins_over_the_time_that_is_up_later():
    async def main():
        inside = Inside()

        async def during(strategy):
            await inside.until(2.0)
            strategy.stop.ask("a test")
            strategy.stop.ask("another")

        return inside, await inside.session(5.0, during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert run.outcome.why == "a test"
    assert inside.now_s < 5.0


async def with_position(inside, action, lots=20_000, *, side=Side.BUY, hurry=False, stop_s=2.0, settings=()):
    """A session that starts with a position and is stopped."""
    await inside.until(0.5)
    await inside.order(side, inside.best(Side(-side)) + side * 200, lots)

    async def during(strategy):
        await inside.until(stop_s)
        strategy.stop.ask("a test")
        if hurry:
            await asyncio.sleep(1.0)
            strategy.stop.ask("now")

    return await inside.session(60.0, f"stop_action={action}", *settings, during=during)


def test_hold_keeps_the_position():
    async def main():
        inside = Inside()
        return inside, await with_position(inside, "hold")

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) != 0


@pytest.mark.parametrize("side", list(Side))
def test_flatten_takes_the_position_off_the_market_at_once(side):
    async def main():
        inside = Inside()
        return inside, await with_position(inside, "flatten", side=side)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) == 0
    assert inside.now_s < 6.0


@pytest.mark.slow
@pytest.mark.parametrize("loses", [(), ("ORDER", "TRADE")])
def test_a_closing_order_that_nobody_answers_is_looked_up_and_followed_by_another(loses):
    async def main():
        inside = Inside("calm")
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 200, 2_000)

        async def during(strategy):
            await inside.until(3.0)
            strategy.stop.ask("a test")
            while strategy.orders.working():
                await inside.until(inside.now_s + 0.01)
            if loses:
                inside.driver.losing = set(loses)
            else:
                strategy.session.gateway.fail["place"].append(OutcomeUnknown("nobody answers"))

        return inside, await inside.session(20.0, "stop_action=flatten", during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) == 0
    assert not run.records("position_left")
    assert inside.now_s < 25.0


def test_a_market_that_is_gone_does_not_keep_the_others_from_being_closed():
    async def main():
        inside = Inside(markets=(BTC, "ETH-USD"))
        await inside.until(0.5)
        for market in inside.markets:
            await inside.order(Side.BUY, inside.best(Side.SELL, market) + 200, 2_000, market=market)

        async def during(strategy):
            await inside.until(3.0)
            strategy.stop.ask("a test")
            while strategy.orders.working():
                await inside.until(inside.now_s + 0.01)
            # The first market's closing order comes first.
            strategy.session.gateway.fail["place"].append(MarketNotFound("no such market", 1001))

        return inside, await inside.session(20.0, "stop_action=flatten", during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert [inside.account.position_lots(market) for market in inside.markets] == [0, 0]


def test_what_is_left_of_a_fill_and_smaller_than_any_order_is_no_reason_to_go_on_asking():
    async def main():
        inside = Inside()
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 200, 25)
        await inside.order(Side.SELL, inside.best(Side.BUY) - 200, 20)
        return inside, await inside.session(0.0, "stop_action=flatten")

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert run.gateway.made("place") == []
    assert [note["lots"] for note in run.records("position_left")] == [{BTC: 5}]
    assert inside.now_s < 5.0


@pytest.mark.parametrize("side", list(Side))
def test_a_position_that_is_larger_than_the_book_is_deep_is_closed_in_slices_within_the_band(side):
    band = Decimal("0.001")

    async def main():
        inside = Inside("calm", deposit="1000000")
        depth = {}

        async def during(strategy):
            await inside.until(3.0)
            desk = strategy.session.desks[BTC]
            depth["lots"] = desk.latest.bid_depth_lots if side is Side.BUY else desk.latest.ask_depth_lots
            depth["mark"] = desk.mark
            # What nobody could take at once without walking through the book.
            through = inside.best(Side(-side)) + side * 400
            await inside.order(side, through, 3 * depth["lots"], time_in_force=TimeInForce.IOC)
            strategy.stop.ask("a test")

        settings = (
            "stop_action=flatten",
            "stop_reduce_s=120",
            f"mark_price_band={band}",
            "level_size_usd=100",
        )
        run = await inside.session(60.0, *settings, during=during)
        return inside, run, depth

    inside, run, depth = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) == 0
    closing = [call.what for call in run.gateway.made("place") if call.what.immediate_or_cancel]
    assert len(closing) >= 2
    assert {order.reduce_only for order in closing} == {True}
    assert max(order.size_lots for order in closing) < 3 * depth["lots"]
    # A tick of the mark's own move aside, no slice reaches beyond the band.
    worst = max(abs(order.price_ticks / float(depth["mark"]) - 1) for order in closing)
    assert worst < 1.5 * float(band)


def test_a_session_that_is_nothing_but_its_end_quotes_nothing_and_closes_what_it_finds():
    async def main():
        inside = Inside()
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 200, 20_000)
        return inside, await inside.session(0.0, "stop_action=flatten")

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) == 0
    placed = [call.what for call in run.gateway.made("place")]
    assert placed
    assert all(order.immediate_or_cancel and order.reduce_only for order in placed)
    assert run.outcome.why == "closing only"


def test_a_position_in_a_market_that_takes_reducing_orders_only_is_closed():
    async def main():
        inside = Inside()
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 200, 20_000)
        inside.exchange.set_market_status(BTC, MarketStatus.REDUCE_ONLY)
        return inside, await inside.session(0.0, "stop_action=flatten")

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_each_signal_that_ends_a_process_is_a_wish_to_stop(number):
    """A terminal that is closed, or an ssh connection that breaks, is told as SIGHUP."""
    # Whoever started the tests may have had hang-ups ignored.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        inside, run = stop_at(2.0, number=number)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.outcome.why == number.name
    assert_sound(inside, run)


def test_a_hang_up_that_is_ignored_stays_ignored():
    """What nohup wants."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        inside, run = stop_at(2.0, number=signal.SIGHUP, seconds=4.0)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.outcome.why == "time is up"
    assert_sound(inside, run)


@pytest.mark.parametrize("side", list(Side))
def test_reduce_rests_reducing_orders_only_until_flat(side):
    async def main():
        inside = Inside("calm")
        return inside, await with_position(
            inside, "reduce", 2_000, side=side, stop_s=6.0, settings=("stop_reduce_s=120",)
        )

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    late = [call.what for call in run.gateway.made("place") if call.at_s > 6.0]
    assert inside.account.position_lots(BTC) == 0
    positions = {order.side for order in late}
    assert len(positions) <= 1


def test_reduce_ends_at_its_deadline():
    async def main():
        inside = Inside()
        return inside, await with_position(inside, "reduce", 20_000, settings=("stop_reduce_s=3",))

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert 5.0 < inside.now_s < 8.0


@pytest.mark.parametrize("action", ["reduce", "flatten"])
def test_a_second_wish_hurries(action):
    async def main():
        inside = Inside()
        # After maintenance the exchange takes resting orders only: nothing flattens.
        asyncio.get_running_loop().call_later(1.9, inside.exchange.set_mode, Mode.POST_ONLY)
        return inside, await with_position(inside, action, hurry=True, settings=("stop_reduce_s=50",))

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.now_s < 8.0


@pytest.mark.parametrize("side", list(Side))
def test_lesson_20_a_position_is_reduced_without_a_storm_where_the_exchange_is_post_only(side):
    async def main():
        inside = Inside("calm")
        await inside.until(0.5)
        await inside.order(side, inside.best(Side(-side)) + side * 300, 2_000)

        async def during(strategy):
            await inside.until(4.0)
            inside.exchange.set_mode(Mode.POST_ONLY)
            strategy.stop.ask("a test")

        settings = ("stop_action=flatten", "stop_reduce_s=120", "level_size_usd=100")
        return inside, await inside.session(60.0, *settings, during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    late = [call.what for call in run.gateway.made("place") if call.at_s > 4.0]
    assert {order.reduce_only for order in late} == {True}
    assert {order.side for order in late} == {-side}
    assert {order.post_only for order in late} == {True, False}
    assert len(late) < 50
    assert inside.account.position_lots(BTC) == 0


def test_lesson_20_what_a_post_only_exchange_leaves_of_a_position_is_said_after_growing_pauses():
    async def main():
        inside = Inside("flat")
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 300, 20_000)

        async def during(strategy):
            await inside.until(2.0)
            inside.exchange.set_mode(Mode.POST_ONLY)
            strategy.stop.ask("a test")

        settings = ("stop_action=flatten", "stop_reduce_s=30")
        return inside, await inside.session(60.0, *settings, during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    lots = inside.account.position_lots(BTC)
    assert lots > 0
    assert [note["lots"] for note in run.records("position_left")] == [{BTC: lots}]
    tries = [call.at_s for call in run.gateway.made("place") if call.what.immediate_or_cancel]
    pauses = [later - sooner for sooner, later in pairwise(tries)]
    assert 3 <= len(tries) <= 10
    # To the latency of a look-up, which is drawn.
    assert all(later > sooner - 0.1 for sooner, later in pairwise(pauses))
    assert inside.now_s < 40.0


def test_what_can_not_be_verified_is_named():
    async def main():
        inside = Inside()

        async def during(strategy):
            await inside.until(2.0)
            run_gateway.refuse["open_orders"] = OutcomeUnknown("nobody answers")
            run_gateway.refuse["mass_cancel"] = OutcomeUnknown("nobody answers")
            strategy.stop.ask("a test")

        def prepare(gateway):
            nonlocal run_gateway
            run_gateway = gateway

        run_gateway = None
        return inside, await inside.session(20.0, "cancel_all_timeout_s=2", during=during, prepare=prepare)

    inside, run = in_virtual_time(main)
    assert run.error is None
    assert set(run.outcome.remaining) >= set(inside.open_ids())
    assert len(inside.open_ids()) > 0
    # The switch stays armed: it takes away what may have been left.
    assert inside.account.switch_due_ns > 0
    assert run.tasks_left == 0
