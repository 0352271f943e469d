"""The kill ladder in whole sessions: each step does what it says, flatten always ends flat, resume lifts."""

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time

from market_maker.domain import NS_PER_S, Reason, Side
from market_maker.emulator.rules import Mode
from market_maker.kill_ladder import Cause, Step

pytestmark = pytest.mark.slow

PUSD = 10**12


def play(seconds, during, *settings, scenario="calm", lots=0, action="hold"):
    """A session that may begin with a position, and what `during(inside, strategy)` does beside it."""

    async def main():
        inside = Inside(scenario)
        if lots:
            await inside.until(0.5)
            side = Side.BUY if lots > 0 else Side.SELL
            await inside.order(side, inside.best(Side(-side)) + side * 300, abs(lots))

        async def beside(strategy):
            await during(inside, strategy)

        settled = (f"stop_action={action}", *settings)
        return inside, await inside.session(seconds, *settled, during=beside)

    return in_virtual_time(main)


def fall(inside, strategy, usd):
    """Let the peak of equity be so far above what it is now."""
    equity = strategy.session.ledger.equity()
    strategy.session.risk.on_equity(int((equity + usd) * PUSD), inside.clock.now_ns())


def stands(strategy):
    return strategy.session.standing.step, strategy.session.standing.cause


@pytest.mark.parametrize("lots", [2_000, -2_000])
def test_a_drawdown_takes_the_position_out_and_stays_so_until_somebody_resumes(lots):
    seen = {}

    async def during(inside, strategy):
        await inside.until(4.0)
        fall(inside, strategy, 1_100)
        await inside.until(8.0)
        seen["flat"] = inside.account.position_lots(BTC), inside.open_ids()
        await inside.until(30.0)
        seen["later"] = stands(strategy), inside.open_ids()
        seen["halt"] = strategy.session.desks[BTC].halts.gravest
        before = strategy.kill.resume("a test")
        seen["before"] = before.step
        await inside.until(35.0)
        seen["quotes"] = len(inside.open_ids())
        seen["after"] = stands(strategy)

    inside, run = play(36.0, during, lots=lots)
    assert_sound(inside, run)
    assert seen["flat"] == (0, [])
    assert seen["later"] == ((Step.FLATTEN, Cause.DRAWDOWN), [])
    assert seen["halt"] is Reason.RISK_DRAWDOWN
    assert seen["before"] is Step.FLATTEN
    assert seen["quotes"] == 4
    assert seen["after"] == (Step.NORMAL, Cause.NONE)
    steps = [(record["step"], record["cause"]) for record in run.records("kill_step")]
    assert steps == [("FLATTEN", "DRAWDOWN"), ("NORMAL", "NONE")]
    (resumed,) = run.records("resumed")
    assert (resumed["from"], resumed["cause"], resumed["why"]) == ("FLATTEN", "DRAWDOWN", "a test")


def test_look_ups_that_nobody_answers_do_not_hold_the_ladder_up():
    seen = {}

    async def during(inside, strategy):
        await inside.until(4.0)
        strategy.session.gateway.answers.clear()
        strategy.session.funding.expect()
        await inside.until(5.5)
        fall(inside, strategy, 1_100)
        await inside.until(7.0)
        seen["step"] = stands(strategy)
        strategy.session.gateway.answers.set()

    inside, run = play(20.0, during, lots=2_000)
    assert_sound(inside, run)
    assert seen["step"] == (Step.FLATTEN, Cause.DRAWDOWN)


@pytest.mark.parametrize("lots", [2_000, -2_000])
def test_where_the_exchange_is_post_only_resting_orders_take_the_position_out(lots):
    async def during(inside, strategy):
        await inside.until(4.0)
        inside.exchange.set_mode(Mode.POST_ONLY)
        fall(inside, strategy, 1_100)
        while inside.account.position_lots(BTC):
            assert inside.now_s < 110.0
            await inside.until(inside.now_s + 1.0)
        strategy.stop.ask("flat")

    inside, run = play(112.0, during, "level_size_usd=100", lots=lots)
    assert_sound(inside, run)
    late = [call.what for call in run.gateway.made("place") if call.at_s > 5.5]
    assert {order.reduce_only for order in late} == {True}
    assert {order.post_only for order in late} == {True, False}
    assert len(late) < 80


def test_without_a_book_to_be_trusted_resting_orders_reduce():
    async def during(inside, strategy):
        await inside.until(4.0)
        inside.driver.losing = {"book", "best", "orderbook", "SNAPSHOT", "DELTA"}
        strategy.session.desks[BTC].book.lose_trust()
        fall(inside, strategy, 1_100)
        await inside.until(7.0)
        inside.driver.losing = set()

    inside, run = play(30.0, during, lots=2_000)
    assert_sound(inside, run)
    exits = [call.what for call in run.gateway.made("place") if call.at_s > 5.0]
    assert exits
    assert all(order.reduce_only for order in exits)


def test_the_last_step_ends_the_session_flat():
    async def during(inside, strategy):
        await inside.until(4.0)
        fall(inside, strategy, 2_000)

    inside, run = play(60.0, during, lots=2_000)
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) == 0
    assert run.outcome.why == "kill ladder: STOP for DRAWDOWN"
    assert inside.now_s < 12.0


@pytest.mark.parametrize("usd", [1_100, 2_000])
def test_a_stop_that_rests_reducing_orders_gives_way_to_the_ladder(usd):
    async def during(inside, strategy):
        await inside.until(4.0)
        strategy.stop.ask("a test")
        await inside.until(6.0)
        fall(inside, strategy, usd)

    inside, run = play(60.0, during, "max_position_notional_usd=100000", lots=20_000, action="reduce")
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) == 0
    assert run.outcome.why == "a test"
    assert inside.now_s < 15.0


def test_a_bot_that_may_only_reduce_earns_nothing_back_and_quotes_again_once_resumed():
    seen = {}

    async def during(inside, strategy):
        await inside.until(4.0)
        fall(inside, strategy, 800)
        await inside.until(90.0)
        seen["before"] = stands(strategy), inside.open_ids()
        strategy.kill.resume("a test")
        await inside.until(95.0)
        seen["after"] = stands(strategy), len(inside.open_ids())

    inside, run = play(96.0, during, "kill_step_down_s=2", scenario="flat")
    assert_sound(inside, run)
    assert seen["before"] == ((Step.REDUCE_ONLY, Cause.DRAWDOWN), [])
    assert seen["after"] == ((Step.NORMAL, Cause.NONE), 4)


def test_half_of_the_loss_that_is_allowed_widens_what_opens_risk():
    seen = {}

    async def during(inside, strategy):
        await inside.until(10.0)
        offsets = strategy.session.desks[BTC]._account["widening"][0]
        fall(inside, strategy, 600)
        await inside.until(12.0)
        seen["widening"] = offsets, strategy.session.desks[BTC]._account["widening"][0]
        seen["step"] = stands(strategy)
        seen["quotes"] = len(inside.open_ids())

    inside, run = play(15.0, during)
    assert_sound(inside, run)
    assert seen["widening"] == (1.0, 2.0)
    assert seen["step"] == (Step.WIDEN, Cause.DRAWDOWN)
    assert seen["quotes"] == 4


def test_orders_that_take_long_widen_and_the_ladder_comes_down_by_itself():
    seen = {}

    async def during(inside, strategy):
        await inside.until(4.0)
        watch = strategy.kill
        for _ in range(40):
            watch.on_latency(6.0, inside.clock.now_ns())
        await inside.until(6.0)
        seen["up"] = stands(strategy)
        await inside.until(134.0)
        seen["down"] = stands(strategy)

    inside, run = play(135.0, during, "kill_step_down_s=2", scenario="flat")
    assert_sound(inside, run)
    assert seen["up"] == (Step.REDUCE_ONLY, Cause.LATENCY)
    assert seen["down"] == (Step.NORMAL, Cause.NONE)
    assert [record["step"] for record in run.records("kill_step")] == ["REDUCE_ONLY", "WIDEN", "NORMAL"]


def test_clocks_that_come_apart_cancel_all_until_they_agree():
    seen = {}

    async def during(inside, strategy):
        await inside.until(4.0)
        run_gateway = strategy.session.gateway
        run_gateway.skew_s = -3.5
        await inside.until(63.0)
        seen["up"] = stands(strategy), inside.open_ids()
        run_gateway.skew_s = 0.0
        await inside.until(80.0)
        seen["down"] = stands(strategy), len(inside.open_ids())

    inside, run = play(81.0, during, "kill_step_down_s=2")
    assert_sound(inside, run)
    assert seen["up"] == ((Step.CANCEL_ALL, Cause.CLOCK), [])
    assert seen["down"] == ((Step.NORMAL, Cause.NONE), 4)


def test_markets_that_say_nothing_cancel_all_and_their_return_lifts_it():
    seen = {}

    async def during(inside, strategy):
        await inside.until(4.0)
        inside.driver.break_account(inside.account_id)
        inside.driver.losing = {"ORDER", "TRADE", "BALANCE", "POSITION"}
        await inside.until(45.0)
        seen["up"] = stands(strategy), inside.open_ids()
        inside.driver.losing = set()
        inside.driver.break_account(inside.account_id)
        await inside.until(60.0)
        seen["down"] = stands(strategy), len(inside.open_ids())

    inside, run = play(61.0, during, "kill_step_down_s=2")
    assert_sound(inside, run)
    assert seen["up"] == ((Step.CANCEL_ALL, Cause.STALE_DATA), [])
    assert seen["down"] == ((Step.NORMAL, Cause.NONE), 4)


def test_a_market_that_runs_over_our_fills_widens():
    seen = {}

    async def during(inside, strategy):
        await inside.until(4.0)
        desk, watch = strategy.session.desks[BTC], strategy.kill
        now_ns = inside.clock.now_ns()
        # Fills whose mid was 10 bps above what it is now: what was bought is worth less.
        for _ in range(20):
            watch._markouts.on_fill(BTC, 1, round(desk.mid2_ticks * 1.001), now_ns - 4 * NS_PER_S)
        await inside.until(7.0)
        seen["up"] = stands(strategy)

    inside, run = play(9.0, during, scenario="flat")
    assert_sound(inside, run)
    assert seen["up"] == (Step.WIDEN, Cause.TOXIC_FILLS)


def test_a_wish_to_resume_from_outside_is_heeded_within_a_second():
    wishes = []

    async def main():
        inside = Inside("calm")

        async def during(strategy):
            await inside.until(4.0)
            fall(inside, strategy, 1_100)
            await inside.until(6.0)
            assert stands(strategy)[0] is Step.FLATTEN
            wishes.append("from outside")
            await inside.until(8.0)
            assert stands(strategy)[0] is Step.NORMAL

        def asked():
            return wishes.pop() if wishes else None

        return inside, await inside.session(9.0, during=during, resume_asked=asked)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert [record["why"] for record in run.records("resumed")] == ["from outside"]


@pytest.mark.parametrize("seed", range(3))
def test_whenever_and_however_it_falls_flatten_ends_flat(seed):
    """In a lively market, at any instant, with the exchange post-only or not, and its streams cut or not."""
    at_s = 4.0 + 2.37 * seed

    async def main():
        inside = Inside("mixed", seed=seed)

        async def during(strategy):
            await inside.until(at_s)
            if seed % 2:
                inside.exchange.set_mode(Mode.POST_ONLY)
            if seed % 3 == 0:
                inside.driver.break_market(BTC)
            fall(inside, strategy, 1_200)
            while inside.account.position_lots(BTC) or inside.open_ids() or inside.now_s < at_s + 3.0:
                assert inside.now_s < at_s + 120.0
                await inside.until(inside.now_s + 1.0)
            strategy.stop.ask("flat")

        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 300, 500 + 700 * seed)
        return inside, await inside.session(130.0, "level_size_usd=100", during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.account.position_lots(BTC) == 0
    assert run.strategy.session.standing.step is Step.FLATTEN
