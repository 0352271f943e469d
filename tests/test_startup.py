"""Start and restart: what an earlier run left, what others left, and the switch before the first order."""

import asyncio
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from inside import BTC, START_NS, Inside, assert_sound, in_virtual_time, rules

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.requests import DeadMansSwitchRequest
from market_maker.emulator.scenarios import instruments
from market_maker.gateway import OrderRefused, OutcomeUnknown, RateLimited
from market_maker.instrument import MarketStatus
from market_maker.public_markets import MarketChoiceError
from market_maker.startup import (
    AccountEmpty,
    AnotherBotQuotes,
    ClockSkewed,
    ForeignOrdersFound,
    LeverageNotSet,
)

CHANGES = ("place", "cancel", "mass_cancel", "set_leverage", "arm_dead_mans_switch")


def changed(run) -> list[str]:
    """Requests of a run that change something at the exchange."""
    return [call.name for call in run.gateway.calls if call.name in CHANGES]


async def leave_behind(inside, names=("mm-0-aaaa", "mm-0-bbbb"), *, ticks_off=30, lots=1_000) -> None:
    """Orders as an earlier run of ours would have left them."""
    await inside.until(0.5)
    for name, side in zip(names, (Side.BUY, Side.SELL), strict=False):
        await inside.order(side, inside.best(side) - side * ticks_off, lots, external_id=name)


def test_orders_of_an_earlier_run_are_cancelled_before_the_first_of_ours():
    async def main():
        inside = Inside()
        await leave_behind(inside)
        return inside, await inside.session(5.0)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    old = [inside.account.by_external[name] for name in ("mm-0-aaaa", "mm-0-bbbb")]
    assert [order.status.value for order in old] == ["CANCELLED"] * 2
    first_s = run.gateway.made("place")[0].at_s
    assert {call.what for call in run.gateway.made("cancel") if call.at_s < first_s} >= {
        "mm-0-aaaa",
        "mm-0-bbbb",
    }


def test_another_bot_under_the_same_prefix_is_told_from_leftovers():
    """Two bots with the same settings on one account would cancel each other's orders for ever."""

    async def main():
        inside = Inside()

        async def another_bot():
            while True:
                if not inside.account.open:
                    await leave_behind(inside, (f"mm-0-{round(1e6 * inside.now_s)}",))
                await asyncio.sleep(0.02)

        other = asyncio.ensure_future(another_bot())
        await inside.until(0.7)
        run = await inside.session(5.0, "cancel_all_timeout_s=2")
        other.cancel()
        return run

    run = in_virtual_time(main)
    assert isinstance(run.error, AnotherBotQuotes)
    assert "another bot seems to quote on this account" in str(run.error)
    assert run.gateway.made("place") == []
    assert run.tasks_left == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_orders_of_an_earlier_run_that_fill_meanwhile_are_in_no_book_twice(seed):
    async def main():
        inside = Inside("mixed", seed=seed)
        await leave_behind(inside, ticks_off=0, lots=200)
        return inside, await inside.session(4.0)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)


@pytest.mark.slow
def test_a_second_session_right_after_the_first_goes_on_with_its_position():
    async def main():
        inside = Inside("mixed", ("WIF-USD",))
        first = await inside.session(20.0)
        held = inside.account.position_lots("WIF-USD")
        second = await inside.session(20.0, seed=2)
        return inside, first, held, second

    inside, first, held, second = in_virtual_time(main)
    assert held != 0
    assert first.error is None
    assert_sound(inside, second)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("wait_s", [0.55, 0.83, 0.97, 1.21])
def test_a_start_with_a_position_knows_it_and_what_it_is_worth(side, wait_s):
    async def main():
        inside = Inside("mixed")
        await inside.until(wait_s)
        await inside.order(side, inside.best(Side(-side)) + 100 * side, 2_000)
        lots = inside.account.position_lots(BTC)
        seen = {}

        async def during(strategy):
            seen["at the start"] = strategy.session.ledger.position_lots(BTC)

        return inside, lots, seen, await inside.session(6.0, during=during)

    inside, lots, seen, run = in_virtual_time(main)
    assert lots == side * 2_000
    assert seen["at the start"] == lots
    assert_sound(inside, run)


def test_funding_of_before_the_session_is_in_its_start_equity_alone():
    async def main():
        inside = Inside("mixed", exchange_rules=rules(money={"funding_speedup": 360.0}))
        await inside.until(8.0)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 100, 2_000)
        await inside.until(10.5)
        return inside, await inside.session(25.0)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    booked = [record["payment_id"] for record in run.records("funding")]
    assert booked == [payment.payment_id for payment in inside.account.payments][1:]


def test_orders_of_others_are_refused_and_left_alone():
    async def main():
        inside = Inside()
        await leave_behind(inside, ("theirs-1", "theirs-2"))
        return inside, await inside.session(5.0, "stop_action=flatten")

    inside, run = in_virtual_time(main)
    assert isinstance(run.error, ForeignOrdersFound)
    assert "theirs-1" in str(run.error)
    assert sorted(inside.open_ids()) == ["theirs-1", "theirs-2"]
    assert run.gateway.made("place") == []
    assert run.tasks_left == 0


def test_a_refused_session_does_not_touch_the_position():
    async def main():
        inside = Inside()
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 100, 2_000)
        await leave_behind(inside, ("theirs-1",))
        return inside, await inside.session(5.0, "stop_action=flatten")

    inside, run = in_virtual_time(main)
    assert isinstance(run.error, ForeignOrdersFound)
    assert inside.account.position_lots(BTC) == 2_000
    assert run.gateway.made("place") == []


def test_orders_of_others_that_may_stay_are_never_cancelled():
    async def main():
        inside = Inside("calm")
        await leave_behind(inside, ("theirs-1", "mm-0-ours"), ticks_off=200)

        async def during(strategy):
            await inside.until(4.0)
            # Placed by hand while we quote, and not seen by us before the end.
            await inside.order(Side.SELL, inside.best(Side.SELL) + 300, 500, external_id="theirs-2")

        return inside, await inside.session(6.0, "foreign_orders=leave", during=during)

    inside, run = in_virtual_time(main)
    assert run.error is None
    assert run.outcome.remaining == ()
    assert sorted(inside.open_ids()) == ["theirs-1", "theirs-2"]
    assert run.gateway.made("mass_cancel") == []
    assert len(run.gateway.made("place")) > 0


@pytest.mark.parametrize(
    "name", ["instruments", "positions", "balance", "open_orders", "arm_dead_mans_switch"]
)
def test_a_start_that_gets_no_answer_ends_with_that_error_and_nothing_open(name):
    error = OutcomeUnknown("no answer")

    async def main():
        inside = Inside()
        return inside, await inside.session(5.0, prepare=lambda gateway: gateway.fail[name].append(error))

    inside, run = in_virtual_time(main)
    assert run.error is error
    assert inside.open_ids() == []
    assert run.tasks_left == 0
    assert run.gateway.made("place") == []


def test_the_switch_is_fed_at_its_interval_and_disarmed_once_where_it_was_armed():
    async def main():
        inside = Inside()
        return await inside.session(19.0, "dead_man_interval_s=5", "dead_man_countdown_s=15")

    calls = in_virtual_time(main).gateway.made("arm_dead_mans_switch")
    assert Counter(call.what for call in calls) == {15: 4, 0: 1}
    gaps = [later.at_s - earlier.at_s for earlier, later in pairwise(calls[:-1])]
    assert all(5.0 <= gap < 7.0 for gap in gaps)


def test_a_switch_that_is_not_wanted_is_never_touched():
    async def main():
        inside = Inside()
        return await inside.session(5.0, "dead_man_enabled=false")

    run = in_virtual_time(main)
    assert run.error is None
    assert run.gateway.made("arm_dead_mans_switch") == []


@pytest.mark.parametrize("failures", [1, 5])
def test_the_switch_is_disarmed_though_the_exchange_is_busy(failures):
    async def main():
        inside = Inside()

        async def during(strategy):
            await inside.until(2.0)
            strategy.session.gateway.fail["arm_dead_mans_switch"].extend(
                [RateLimited("429"), OutcomeUnknown("502")] * failures
            )
            strategy.stop.ask("a test")

        return inside, await inside.session(20.0, during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)


@pytest.mark.parametrize(("skew_s", "where"), [(12.4, "behind"), (-3.2, "ahead")])
def test_a_skewed_clock_is_refused_with_both_times_and_nothing_is_sent(skew_s, where):
    async def main():
        inside = Inside()
        await leave_behind(inside)

        def prepare(gateway):
            gateway.skew_s = skew_s

        return inside, await inside.session(5.0, "account_leverage=3", prepare=prepare)

    inside, run = in_virtual_time(main)
    assert isinstance(run.error, ClockSkewed)
    message = str(run.error)
    assert f"{abs(skew_s):.1f} s {where}" in message
    assert "2026-01-05 00:00:00.5" in message
    assert message.count("2026-01-0") == 2
    assert "NTP" in message
    assert changed(run) == []
    # Not even what an earlier run of ours left.
    assert len(inside.open_ids()) == 2


def test_a_clock_within_what_is_allowed_is_good_enough():
    async def main():
        inside = Inside()

        def prepare(gateway):
            gateway.skew_s = 2.9

        return inside, await inside.session(5.0, prepare=prepare)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)


def test_leverage_is_set_at_most_to_what_the_market_allows_and_verified():
    most = {BTC: Decimal(50), "ETH-USD": Decimal(20)}

    async def main():
        listed = [replace(each, max_leverage=most[each.name]) for each in instruments(tuple(most))]
        inside = Inside(markets=tuple(most), listed=listed)
        return inside, await inside.session(5.0, "account_leverage=30")

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    expected = {BTC: 30, "ETH-USD": 20}
    assert dict(call.what for call in run.gateway.made("set_leverage")) == expected
    (record,) = run.records("leverage_set")
    assert {name: Decimal(record[name]) for name in expected} == expected
    # The risk manager reckons with what was set.
    assert run.gateway.made("set_leverage")[-1].at_s < run.gateway.made("leverage")[-1].at_s
    assert changed(run)[:2] == ["set_leverage"] * 2


def test_leverage_that_is_set_already_or_not_wanted_is_left_alone():
    async def main():
        inside = Inside()
        first = await inside.session(3.0, "account_leverage=7")
        second = await inside.session(3.0, "account_leverage=7", seed=2)
        return first, second, await inside.session(3.0, seed=3)

    first, second, third = in_virtual_time(main)
    assert len(first.gateway.made("set_leverage")) == 1
    assert second.gateway.made("set_leverage") == []
    assert third.gateway.made("set_leverage") == []


def test_leverage_that_the_exchange_refuses_ends_the_start():
    async def main():
        inside = Inside()

        def prepare(gateway):
            gateway.refuse["set_leverage"] = OrderRefused("1052: insufficient margin", 1052)

        return await inside.session(3.0, "account_leverage=7", prepare=prepare)

    run = in_virtual_time(main)
    assert isinstance(run.error, LeverageNotSet)
    assert "BTC-USD" in str(run.error)
    assert "1052" in str(run.error)
    assert run.gateway.made("place") == []


def test_leverage_that_did_not_take_ends_the_start():
    async def main():
        inside = Inside()

        def prepare(gateway):
            async def forget(market, leverage):
                return None

            gateway.set_leverage = forget

        return await inside.session(3.0, "account_leverage=7", prepare=prepare)

    run = in_virtual_time(main)
    assert isinstance(run.error, LeverageNotSet)
    assert "expected a leverage of 7" in str(run.error)


def test_orders_of_others_in_a_market_that_is_not_quoted_are_refused_too():
    async def main():
        inside = Inside(markets=(BTC, "ETH-USD"))
        await inside.until(0.5)
        await inside.order(
            Side.BUY, inside.best(Side.BUY, "ETH-USD") - 30, 1_000, "ETH-USD", external_id="theirs-1"
        )
        inside.markets = (BTC,)
        refused = await inside.session(3.0, "account_leverage=3")
        left = await inside.session(3.0, "foreign_orders=leave", seed=2)
        return inside, refused, left

    inside, refused, left = in_virtual_time(main)
    assert isinstance(refused.error, ForeignOrdersFound)
    assert "theirs-1 in ETH-USD" in str(refused.error)
    assert changed(refused) == []
    assert left.error is None
    assert len(left.gateway.made("place")) > 0
    assert inside.open_ids() == ["theirs-1"]


@pytest.mark.parametrize("status", [MarketStatus.REDUCE_ONLY, MarketStatus.DISABLED])
def test_a_market_that_is_not_active_is_refused(status):
    async def main():
        inside = Inside(listed=[replace(listed, status=status) for listed in instruments((BTC,))])
        return await inside.session(3.0)

    run = in_virtual_time(main)
    assert isinstance(run.error, MarketChoiceError)
    assert f"expected status ACTIVE, was {status.value}" in str(run.error)
    assert changed(run) == []


def test_an_account_without_money_is_refused():
    async def main():
        inside = Inside(deposit="0")
        return await inside.session(3.0)

    run = in_virtual_time(main)
    assert isinstance(run.error, AccountEmpty)
    assert "deposit" in str(run.error)
    assert changed(run) == []


def test_lesson_19_a_clean_exit_leaves_the_switch_of_siblings_armed():
    """Beside orders of others the countdown runs on: a sibling feeds it, and nobody is left without."""
    settings = ("foreign_orders=leave", "dead_man_interval_s=5", "dead_man_countdown_s=20")

    async def main():
        inside = Inside("calm")
        await leave_behind(inside, ("theirs-1",), ticks_off=200)
        run = await inside.session(8.0, *settings)
        armed_until_ns = inside.account.switch_due_ns
        # The sibling lives, and feeds it: nothing of it is taken away.
        await inside.driver.send(inside.account_id, DeadMansSwitchRequest(countdown_s=60))
        await inside.until(inside.now_s + 40.0)
        fed = inside.open_ids()
        # It dies: what is left goes.
        await inside.until(inside.now_s + 30.0)
        return inside, run, armed_until_ns, fed

    inside, run, armed_until_ns, fed = in_virtual_time(main)
    assert run.error is None
    assert run.outcome.remaining == ()
    assert [call.what for call in run.gateway.made("arm_dead_mans_switch")].count(0) == 0
    assert armed_until_ns > START_NS + 9 * NS_PER_S
    assert [record["left_armed"] for record in run.records("dead_mans_switch")]
    assert fed == ["theirs-1"]
    assert inside.open_ids() == []
