"""Whole sessions: what they come to, that they repeat, and what they do when something fails."""

from collections import Counter

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time, rules

from market_maker.domain import Action, Reason, Side
from market_maker.emulator.rules import Delay
from market_maker.gateway import CredentialsRefused, MarketNotFound, OrderRefused, OutcomeUnknown

LATE = Delay(base_ms=700.0, tail_ms=200.0)
ALL = (BTC, "ETH-USD", "WIF-USD")


def play(seconds, *settings, scenario="mixed", markets=(BTC,), seed=1, exchange_rules=None, **how):
    """A session from beginning to end, and the exchange that it was on."""

    async def main():
        inside = Inside(scenario, markets, seed, exchange_rules)
        return inside, await inside.session(seconds, *settings, **how)

    return in_virtual_time(main)


def play_beside(seconds, during, *settings, scenario="calm", exchange_rules=None, markets=(BTC,)):
    """A session, and what `during(inside, strategy)` does beside it."""

    async def main():
        inside = Inside(scenario, markets, exchange_rules=exchange_rules)

        async def beside(strategy):
            await during(inside, strategy)

        return inside, await inside.session(seconds, *settings, during=beside)

    return in_virtual_time(main)


def resting(inside) -> int:
    return len(inside.account.open)


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["crypto", "legacy"])
def test_a_session_trades_and_its_books_are_the_exchanges(profile):
    inside, run = play(40.0, markets=ALL, profile=profile)
    assert_sound(inside, run)
    sides = Counter(trade.side for trade in inside.account.trades)
    assert sides[Side.BUY] > 0
    assert sides[Side.SELL] > 0
    assert not any(trade.is_taker for trade in inside.account.trades)
    assert len(run.records("fill")) == len(inside.account.trades)
    assert run.records("halt")[-1]["reason"] == "STOPPING"
    assert run.records("halt")[-1]["detail"] == "time is up"


@pytest.mark.slow
def test_the_same_seed_gives_the_same_journal_to_the_byte():
    runs = [play(15.0, markets=ALL)[1] for _ in range(2)]
    other = play(15.0, markets=ALL, seed=2)[1]
    assert runs[0].journal == runs[1].journal
    assert runs[0].journal != other.journal


@pytest.mark.slow
def test_the_dead_mans_switch_is_armed_before_the_first_order_and_fed():
    _, run = play(45.0, scenario="flat")
    armed = run.gateway.made("arm_dead_mans_switch")
    assert armed[0].at_s < run.gateway.made("place")[0].at_s
    countdowns = [call.what for call in armed]
    assert countdowns == [60, 60, 60, 0]
    assert run.gateway.made("mass_cancel")[-1].at_s < armed[-1].at_s


@pytest.mark.parametrize(
    "error", [CredentialsRefused("401: bad key", 401), MarketNotFound("1001: gone", 1001)]
)
def test_an_order_that_is_refused_for_good_ends_the_session_after_cancelling(error):
    async def main():
        inside = Inside("mixed")

        async def during(strategy):
            await inside.until(5.0)
            assert resting(inside) > 0
            strategy.session.gateway.fail["place"].append(error)

        return inside, await inside.session(60.0, during=during)

    inside, run = in_virtual_time(main)
    assert run.error is error
    assert inside.now_s < 30.0
    assert inside.open_ids() == []
    assert inside.account.switch_due_ns == 0
    assert run.tasks_left == 0


@pytest.mark.parametrize(
    "name", ["positions", "balance", "open_orders", "order", "fills", "funding_payments"]
)
def test_a_look_up_that_fails_now_and_then_ends_nothing(name):
    async def during(inside, strategy):
        await inside.until(2.0)
        strategy.session.gateway.fail[name].extend(
            [OutcomeUnknown("no answer"), OrderRefused("busy", 1), OutcomeUnknown("no answer")]
        )

    inside, run = play_beside(
        15.0, during, "position_refresh_s=3", "order_snapshot_interval_s=2", scenario="mixed"
    )
    assert_sound(inside, run)


def test_a_lost_account_stream_pulls_the_quotes_until_the_account_was_compared():
    seen = {}

    async def during(inside, strategy):
        await inside.until(5.0)
        assert resting(inside) > 0
        inside.driver.break_account(inside.account_id)
        strategy.session.gateway.fail["positions"].append(OutcomeUnknown("no answer"))
        await inside.until(5.4)
        seen["lost"] = resting(inside)
        seen["reasons"] = set(strategy.session.desks[BTC].reasons.values())
        await inside.until(8.0)
        seen["resumed"] = resting(inside)

    inside, run = play_beside(10.0, during)
    assert_sound(inside, run)
    assert seen["lost"] == 0
    assert seen["reasons"] == {Reason.STREAM_LOST}
    assert seen["resumed"] > 0
    assert "STREAM_LOST" in [halt["reason"] for halt in run.records("halt")]
    assert "STREAM_LOST" in [lifted["reason"] for lifted in run.records("resume")]


def test_a_lost_market_stream_pulls_that_market_alone():
    seen = {}

    async def during(inside, strategy):
        await inside.until(5.0)
        desks = strategy.session.desks
        desks[BTC].book.lose_trust()
        await inside.until(5.6)
        seen["lost"] = {order.market for order in inside.account.open.values()}
        seen["reasons"] = set(desks[BTC].reasons.values())
        inside.driver.break_market(BTC)
        await inside.until(8.0)
        seen["resumed"] = {order.market for order in inside.account.open.values()}

    inside, run = play_beside(9.0, during, markets=ALL[:2])
    assert_sound(inside, run)
    assert seen["lost"] == {"ETH-USD"}
    assert seen["reasons"] == {Reason.STREAM_LOST}
    assert seen["resumed"] == {BTC, "ETH-USD"}
    lifted = [(record["market"], record["reason"]) for record in run.records("resume")]
    assert lifted == [(BTC, "STREAM_LOST")]


def test_funding_rates_alone_show_that_the_stream_lives():
    seen = {}

    async def during(inside, strategy):
        await inside.until(5.0)
        inside.driver.losing = {"book", "trades", "mark"}
        await inside.until(24.0)
        seen["reasons"] = set(strategy.session.desks[BTC].reasons.values())

    play_beside(25.0, during, exchange_rules=rules(money={"funding_speedup": 720.0}))
    assert Reason.STALE_BOOK not in seen["reasons"]


def test_a_silent_market_is_pulled_and_the_switch_is_not_fed():
    """Lesson 5: no heartbeat without a healthy quoting loop."""

    async def during(inside, strategy):
        await inside.until(5.0)
        inside.driver.losing = {"book", "bbo", "trades", "mark", "index", "funding"}
        await inside.until(16.5)
        assert set(strategy.session.desks[BTC].reasons.values()) == {Reason.STALE_BOOK}
        assert resting(inside) == 0

    _, run = play_beside(60.0, during)
    fed = [call.at_s for call in run.gateway.made("arm_dead_mans_switch") if call.what]
    assert all(at_s < 17.0 for at_s in fed)


def test_a_halt_cancels_first_and_the_switch_is_not_fed():
    """Lesson 5: a halt leaves no order resting under a heartbeat."""
    halted_at_s = 8.0

    async def during(inside, strategy):
        await inside.until(halted_at_s)
        strategy.session.halt_all(Reason.DESYNCHRONISED, "a test")
        await inside.until(halted_at_s + 0.6)
        assert resting(inside) == 0

    inside, run = play_beside(50.0, during, "position_refresh_s=1000")
    assert_sound(inside, run)
    fed = [call.at_s for call in run.gateway.made("arm_dead_mans_switch") if call.what]
    assert fed
    assert all(at_s < halted_at_s for at_s in fed)
    assert [call for call in run.gateway.made("place") if call.at_s > halted_at_s] == []


def test_the_circuit_breaker_opens_after_repeated_refusals_and_recovers():
    settings = ("breaker_max_failures=4", "breaker_cooldown_s=10")
    seen = {}

    async def during(inside, strategy):
        gateway = strategy.session.gateway
        await inside.until(3.0)
        await strategy.session.gateway.mass_cancel((BTC,))
        gateway.refuse["place"] = OrderRefused("1140: too poor", 1140)
        await inside.until(8.0)
        seen["open"] = set(strategy.session.desks[BTC].reasons.values())
        seen["placed"] = len(gateway.made("place"))
        await inside.until(11.0)
        seen["placed_later"] = len(gateway.made("place"))
        del gateway.refuse["place"]
        await inside.until(20.0)
        seen["resting"] = resting(inside)

    inside, run = play_beside(22.0, during, *settings)
    assert_sound(inside, run)
    assert seen["open"] == {Reason.CIRCUIT_BREAKER}
    (why,) = {halt["detail"] for halt in run.records("halt") if halt["reason"] == "CIRCUIT_BREAKER"}
    assert why == "repeated failures, the last: 1140: too poor"
    assert [lifted["reason"] for lifted in run.records("resume")] == ["CIRCUIT_BREAKER"]
    assert seen["placed"] == seen["placed_later"]
    assert seen["resting"] > 0


def test_refused_replacements_open_the_circuit_breaker_though_the_old_orders_rest():
    async def during(inside, strategy):
        await inside.until(3.0)
        strategy.session.gateway.refuse["place"] = OrderRefused("1140: too poor", 1140)
        await inside.until(25.0)

    inside, run = play_beside(26.0, during, "breaker_max_failures=3", scenario="mixed")
    assert_sound(inside, run)
    assert "CIRCUIT_BREAKER" in [halt["reason"] for halt in run.records("halt")]


def test_unknown_outcomes_open_the_circuit_breaker():
    async def during(inside, strategy):
        await inside.until(3.0)
        strategy.session.gateway.refuse["place"] = OutcomeUnknown("502")
        await inside.until(25.0)

    inside, run = play_beside(26.0, during, "breaker_max_failures=3", scenario="mixed")
    assert_sound(inside, run)
    assert "CIRCUIT_BREAKER" in [halt["reason"] for halt in run.records("halt")]


@pytest.mark.slow
def test_post_only_rejections_do_not_open_the_circuit_breaker():
    """Lesson 22: a rejected post-only order is no failure."""
    inside, run = play(
        40.0,
        "breaker_max_failures=2",
        "breaker_window_s=600",
        scenario="mixed",
        exchange_rules=rules(latency={"request": LATE, "matching": LATE}),
    )
    assert_sound(inside, run)
    refused = [r for r in run.records("order") if r["reason"] == "POST_ONLY_FAILED"]
    assert len(refused) >= 2
    assert "CIRCUIT_BREAKER" not in [halt["reason"] for halt in run.records("halt")]


def test_lost_races_of_replacements_do_not_open_the_circuit_breaker():
    async def during(inside, strategy):
        for step in range(12):
            await inside.until(3.0 + step)
            strategy.session.gateway.fail["place"].append(OrderRefused("EditOrderNotFound", 1142))

    inside, run = play_beside(16.0, during, "breaker_max_failures=2", scenario="mixed")
    assert_sound(inside, run)
    assert "CIRCUIT_BREAKER" not in [halt["reason"] for halt in run.records("halt")]


def test_a_replacement_that_is_out_of_turns_for_a_moment_leaves_the_old_order():
    settings = ("max_orders_per_s=2", "reprice_tolerance=0.05")
    inside, run = play(20.0, *settings, scenario="trend", profile="legacy")
    assert_sound(inside, run)
    assert "RISK_ORDER_RATE" in {refused["reason"] for refused in run.records("refused")}
    gone = [call for call in run.gateway.made("cancel") if call.at_s < 19.0]
    wanted = [record for record in run.records("decision") if record["action"] == "CANCEL"]
    assert len(gone) == len(wanted)


def test_every_reason_of_a_decision_is_written_down():
    _, run = play(10.0)
    assert {record["action"] for record in run.records("decision")} <= {action.name for action in Action}
    assert all(record["reason"] for record in run.records("decision"))


@pytest.mark.slow
def test_refused_for_their_number_requests_slow_down_and_cancels_still_go():
    limit = 60
    inside, run = play(125.0, markets=ALL[:2], exchange_rules=rules(orders={"requests_per_minute": limit}))
    assert_sound(inside, run)
    by_minute = Counter(int(call.at_s // 60) for call in run.gateway.calls)
    assert by_minute[0] < 2.0 * limit + 30
    assert by_minute[1] < 1.5 * limit + 10
    refused = run.strategy.orders.counters.rate_limited
    assert refused > 10
    limited = [halt["t"] for halt in run.records("halt") if halt["reason"] == "RATE_LIMITED"]
    assert limited
    # What rested when the pauses grew long was taken away, one request a second.
    gone = [r["t"] for r in run.records("order") if r["state"] == "CANCELLED" and r["t"] > limited[0]]
    assert gone
