"""Defects of other bots that show only in a whole session; docs/explanation/regressions.md lists them all."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from emulator_flows import ScriptedFlow
from inside import BTC, START_NS, Inside, in_virtual_time

from market_maker import reprice_pipeline
from market_maker.domain import NS_PER_S, Reason, Side
from market_maker.emulator.flow import LevelChange
from market_maker.emulator.requests import DeadMansSwitchRequest
from market_maker.gateway import OutcomeUnknown

PRICE = 84_000
SHOWN_LOTS = 60_000


def play_beside(seconds, during, *settings, scenario="calm", flows=None):
    """A session, and what `during(inside, strategy)` does beside it."""

    async def main():
        inside = Inside(scenario, flows=flows)

        async def beside(strategy):
            await during(inside, strategy)

        return inside, await inside.session(seconds, *settings, during=beside)

    return in_virtual_time(main)


@pytest.mark.slow
def test_lesson_6_a_loss_made_by_closing_reaches_the_stop():
    """Flat again, nothing is left to be marked; what is gone is gone all the same."""
    seen = {}

    async def during(inside, strategy):
        await inside.until(3.0)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 400, 30_000)
        await inside.order(Side.SELL, inside.best(Side.BUY) - 400, 30_000)
        await inside.until(6.0)
        seen["lost"] = strategy.session.start_equity - inside.exchange.equity(inside.account_id)
        seen["lots"] = abs(inside.account.position_lots(BTC))
        seen["reason"] = strategy.session.risk.halt_reason

    play_beside(8.0, during, "max_drawdown_usd=5", "level_size_usd=100", "kill_drawdown=0,0,0,0,0")
    assert seen["lost"] > 5
    assert seen["lots"] < 1_000
    assert seen["reason"] is Reason.RISK_DRAWDOWN


def test_lesson_9_less_than_one_coin_is_reduced_though_the_balance_says_that_nothing_is_left():
    position_lots = 2_000

    async def during(strategy):
        portfolio = strategy.session.portfolio

        def stale(*sources):
            now = portfolio(*sources)
            return now._replace(account=now.account and now.account._replace(available_pusd=0))

        strategy.session.portfolio = stale

    async def main():
        inside = Inside("calm")
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 300, position_lots)
        return await inside.session(4.0, "num_levels=1", during=during)

    run = in_virtual_time(main)
    assert run.error is None
    placed = [call.what for call in run.gateway.made("place")]
    assert {order.side for order in placed} == {Side.SELL}
    assert placed[0].size_lots >= position_lots // 2


def test_lesson_11_a_change_of_size_alone_wakes_every_level_at_once():
    decided = []
    flow = ScriptedFlow(BTC, str(PRICE))
    book = [LevelChange(side, PRICE - side * n, SHOWN_LOTS) for side in Side for n in range(1, 21)]
    flow.feed(START_NS, *book)
    flow.feed(START_NS + 31 * NS_PER_S // 10, LevelChange(Side.BUY, PRICE - 1, SHOWN_LOTS + 777))

    async def during(inside, strategy):
        session, decide = strategy.session, strategy.session.decide

        def noted(desk, slot):
            decided.append((inside.clock.now_ns(), slot, desk.latest))
            return decide(desk, slot)

        session.decide = noted
        await inside.until(4.0)

    play_beside(5.0, during, flows=[flow])
    before, after = decided[0][2], decided[-1][2]
    assert (before.bid_ticks, before.ask_ticks) == (after.bid_ticks, after.ask_ticks)
    assert after.bid_lots - before.bid_lots == 777
    at_once = {slot for at_ns, slot, _ in decided if at_ns == after.recv_ns}
    assert len(at_once) == 4


def test_lesson_12_signals_advance_once_for_each_book_and_never_for_a_decision(monkeypatch):
    counts = Counter()
    observe, decide = reprice_pipeline.observe_book, reprice_pipeline.decide

    def signals(state):
        # The host's measured latency is noted in the view; windows, means and rings are in the others.
        return [state[name].tobytes() for name in state.dtype.names if name != "market_view"]

    def observed(*rows):
        counts["books"] += 1
        observe(*rows)

    def decided(params, state, *rows):
        counts["decisions"] += 1
        before = signals(state)
        decide(params, state, *rows)
        counts["moved"] += before != signals(state)

    monkeypatch.setattr(reprice_pipeline, "observe_book", observed)
    monkeypatch.setattr(reprice_pipeline, "decide", decided)

    async def during(_inside, _strategy):
        # The kernels were warmed up by then.
        counts.clear()

    _, run = play_beside(8.0, during, "num_levels=4", scenario="mixed")
    assert counts["books"] == run.strategy.session.events[BTC]
    assert counts["decisions"] > 4 * counts["books"]
    assert counts["moved"] == 0


LINES = """
import sys
from market_maker.domain import NS_PER_S, Book
from market_maker.reprice_pipeline import Account, Params, RepricePipeline, Slot

def lines_of(call):
    count = 0
    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace if "market_maker" in frame.f_code.co_filename else None
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(None)
    return count

def dearest(rate_hz, seconds):
    pipeline, most = RepricePipeline(Params()), 0
    account = Account(limit_long_lots=10**6, limit_short_lots=10**6, mark_ticks=10_000.0)
    for n in range(rate_hz * seconds):
        now_ns = 10**18 + n * NS_PER_S // rate_hz
        mid = 10_000 + n * 7 // rate_hz % 5
        book = Book(mid - 1, 500 + n % 3, mid + 1, 500, 900, 900, now_ns, now_ns)
        account.last_frame_ns = now_ns
        def step():
            pipeline.observe(book, now_ns)
            for level in range(4):
                pipeline.evaluate(account, Slot(level=level), now_ns)
        if n >= rate_hz * (seconds - 3):
            most = max(most, lines_of(step))
        else:
            pipeline.observe(book, now_ns)
    return most

print(dearest(1, 120), dearest(1, 600), dearest(20, 120))
"""


@pytest.mark.slow
def test_lesson_12_the_work_for_a_book_depends_neither_on_the_history_nor_on_the_update_rate():
    """Lines run by the dearest of the last books, counted in a process without the compiler."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LINES], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    slow, long, fast = (int(count) for count in done.stdout.split())
    assert slow > 300
    assert long <= 1.1 * slow
    assert fast <= 1.1 * slow


@pytest.mark.slow
def test_lesson_16_a_breaker_that_unknown_outcomes_opened_closes_again():
    """Failures that opened it once do not open it again."""
    seen = {}

    async def during(inside, strategy):
        await inside.until(3.0)
        strategy.session.gateway.refuse["place"] = OutcomeUnknown("502")
        await inside.until(15.0)
        seen["halted"] = set(strategy.session.desks[BTC].reasons.values())
        del strategy.session.gateway.refuse["place"]
        await inside.until(45.0)
        seen["resting"] = len(inside.account.open)

    settings = ("breaker_max_failures=3", "breaker_cooldown_s=15", "max_order_age_s=5")
    _, run = play_beside(48.0, during, *settings, scenario="mixed")
    assert run.error is None
    assert seen["halted"] == {Reason.CIRCUIT_BREAKER}
    assert seen["resting"] > 0
    assert [halt["reason"] for halt in run.records("halt")].count("CIRCUIT_BREAKER") == 1


def test_lesson_19_a_sibling_that_disarms_the_switch_disarms_it_for_one_interval_at_most():
    """Each call arms it anew: nobody relies on a switch that somebody armed once."""
    seen = {}

    async def during(inside, _strategy):
        await inside.until(5.0)
        await inside.driver.send(inside.account_id, DeadMansSwitchRequest(countdown_s=0))
        await inside.until(5.5)
        seen["disarmed"] = inside.account.switch_due_ns
        await inside.until(16.0)
        seen["armed"] = inside.account.switch_due_ns

    play_beside(17.0, during, "dead_man_interval_s=10", "dead_man_countdown_s=30")
    assert seen["disarmed"] == 0
    assert seen["armed"] > START_NS + 30 * NS_PER_S


def test_lesson_20_a_position_is_flattened_though_the_book_is_old():
    async def main():
        inside = Inside("calm")
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 300, 2_000)

        async def during(strategy):
            await inside.until(2.0)
            inside.driver.losing = {"book", "bbo", "trades", "mark", "index", "funding"}
            await inside.until(16.0)
            assert set(strategy.session.desks[BTC].reasons.values()) == {Reason.STALE_BOOK}

        return inside, await inside.session(18.0, "stop_action=flatten", "level_size_usd=100", during=during)

    inside, run = in_virtual_time(main)
    assert run.error is None
    assert inside.account.position_lots(BTC) == 0
    assert inside.open_ids() == []


def test_lesson_21_an_error_in_a_rare_branch_ends_the_session_and_is_not_hidden():
    error = NameError("name 'qty' is not defined")

    async def during(inside, strategy):
        await inside.until(4.0)
        assert inside.open_ids()

        def decide(_slot, _now_ns):
            raise error

        strategy.session.desks[BTC].decide = decide

    inside, run = play_beside(60.0, during)
    assert run.error is error
    assert inside.now_s < 10.0
    assert inside.open_ids() == []
    assert run.tasks_left == 0
