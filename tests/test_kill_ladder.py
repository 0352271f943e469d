"""The kill ladder: which reading asks for which step, how it comes down, and what stays latched."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.domain import NS_PER_S, Reason
from market_maker.kill_ladder import (
    REASONS,
    Cause,
    KillLadderSettings,
    Readings,
    Standing,
    Step,
    advance,
    asked_for,
    restored,
)

SETTINGS = KillLadderSettings()
WAIT_NS = round(SETTINGS.kill_step_down_s * NS_PER_S)
CALM = Readings()
CASES = [
    (CALM, Step.NORMAL, Cause.NONE),
    (Readings(drawdown=0.49), Step.NORMAL, Cause.NONE),
    (Readings(drawdown=0.5), Step.WIDEN, Cause.DRAWDOWN),
    (Readings(drawdown=0.75), Step.REDUCE_ONLY, Cause.DRAWDOWN),
    (Readings(drawdown=1.0), Step.FLATTEN, Cause.DRAWDOWN),
    (Readings(drawdown=1.5), Step.STOP, Cause.DRAWDOWN),
    (Readings(day_loss=1.0), Step.FLATTEN, Cause.DAY_LOSS),
    (Readings(day_loss=9.0), Step.STOP, Cause.DAY_LOSS),
    (Readings(margin=0.9), Step.WIDEN, Cause.MARGIN),
    (Readings(margin=1.0), Step.REDUCE_ONLY, Cause.MARGIN),
    (Readings(margin=99.0), Step.FLATTEN, Cause.MARGIN),
    (Readings(stale_s=29.0), Step.NORMAL, Cause.NONE),
    (Readings(stale_s=30.0), Step.CANCEL_ALL, Cause.STALE_DATA),
    (Readings(latency_s=2.0), Step.WIDEN, Cause.LATENCY),
    (Readings(latency_s=60.0), Step.REDUCE_ONLY, Cause.LATENCY),
    (Readings(errors=4), Step.WIDEN, Cause.ERRORS),
    (Readings(errors=8), Step.REDUCE_ONLY, Cause.ERRORS),
    (Readings(clock=0.5), Step.WIDEN, Cause.CLOCK),
    (Readings(clock=1.0), Step.CANCEL_ALL, Cause.CLOCK),
    (Readings(toxic_bps=8.0), Step.WIDEN, Cause.TOXIC_FILLS),
    (Readings(toxic_bps=20.0), Step.REDUCE_ONLY, Cause.TOXIC_FILLS),
    (Readings(drawdown=0.5, toxic_bps=20.0), Step.REDUCE_ONLY, Cause.TOXIC_FILLS),
    (Readings(drawdown=1.0, day_loss=1.0), Step.FLATTEN, Cause.DRAWDOWN),
    (Readings(drawdown=math.nan, toxic_bps=math.nan), Step.NORMAL, Cause.NONE),
    (Readings(drawdown=math.inf), Step.STOP, Cause.DRAWDOWN),
]


@pytest.mark.parametrize(("readings", "step", "cause"), CASES)
def test_each_reading_asks_for_its_step(readings, step, cause):
    assert asked_for(SETTINGS, readings) == (step, cause)
    after = advance(SETTINGS, Standing(), readings, 7)
    assert (after.step, after.cause) == (step, cause)
    assert after.reason is REASONS[cause]


def test_every_cause_has_its_reason_and_its_thresholds():
    assert set(REASONS) == set(Cause)
    assert len(set(REASONS.values())) == len(Cause)
    assert len(SETTINGS.by_name()) == len(Readings._fields) == len(Cause) - 1
    assert REASONS[Cause.DRAWDOWN] is Reason.RISK_DRAWDOWN


def test_it_comes_down_one_step_after_another_once_the_cause_is_clearly_over():
    standing = advance(SETTINGS, Standing(), Readings(stale_s=30.0), 0)
    seen = []
    for second in range(1, 70):
        standing = advance(SETTINGS, standing, CALM, second * NS_PER_S)
        seen.append(standing.step)
    assert seen == [Step.CANCEL_ALL] * 19 + [Step.REDUCE_ONLY] * 20 + [Step.WIDEN] * 20 + [Step.NORMAL] * 10
    assert standing == Standing(since_ns=standing.since_ns)


def test_a_cause_that_is_barely_over_keeps_its_step():
    standing = advance(SETTINGS, Standing(), Readings(toxic_bps=20.0), 0)
    standing = advance(SETTINGS, standing, Readings(toxic_bps=16.5), 10 * WAIT_NS)
    assert standing.step is Step.REDUCE_ONLY
    standing = advance(SETTINGS, standing, Readings(toxic_bps=15.9), 11 * WAIT_NS)
    assert standing.step is Step.WIDEN
    # Still above what WIDEN needs: there it stays.
    for turn in range(12, 20):
        standing = advance(SETTINGS, standing, Readings(toxic_bps=6.5), turn * WAIT_NS)
    assert standing.step is Step.WIDEN


def test_another_cause_takes_over_where_the_first_is_gone():
    standing = advance(SETTINGS, Standing(), Readings(latency_s=9.0), 0)
    standing = advance(SETTINGS, standing, Readings(errors=8), WAIT_NS)
    assert (standing.step, standing.cause) == (Step.REDUCE_ONLY, Cause.ERRORS)


@pytest.mark.parametrize("cause", [Cause.DRAWDOWN, Cause.DAY_LOSS, Cause.MARGIN])
def test_what_money_asked_for_from_cancel_all_on_is_latched(cause):
    readings = Readings(**{Readings._fields[cause - 1]: 1.2})
    standing = advance(SETTINGS, Standing(), readings, 0)
    for turn in range(1, 50):
        standing = advance(SETTINGS, standing, CALM, turn * WAIT_NS)
    assert (standing.step, standing.cause) == (Step.FLATTEN, cause)
    assert (standing.latch, standing.latched_by) == (Step.FLATTEN, cause)


def test_below_cancel_all_money_is_not_latched():
    standing = advance(SETTINGS, Standing(), Readings(drawdown=0.9), 0)
    assert standing.latch is Step.NORMAL
    for turn in range(1, 4):
        standing = advance(SETTINGS, standing, CALM, turn * WAIT_NS)
    assert standing.step is Step.NORMAL


def test_above_the_latch_it_comes_down_to_it_and_names_its_cause():
    settings = replace(SETTINGS, kill_stale=(0.0, 0.0, 0.0, 0.0, 60.0))
    standing = advance(settings, Standing(), Readings(drawdown=1.0, stale_s=60.0), 0)
    assert (standing.step, standing.cause, standing.latch) == (Step.STOP, Cause.STALE_DATA, Step.FLATTEN)
    standing = advance(settings, standing, CALM, WAIT_NS)
    assert (standing.step, standing.cause) == (Step.FLATTEN, Cause.DRAWDOWN)
    standing = advance(settings, standing, CALM, 2 * WAIT_NS)
    assert (standing.step, standing.cause) == (Step.FLATTEN, Cause.DRAWDOWN)


def test_after_a_restart_it_stands_where_it_was_latched():
    standing = restored(Step.FLATTEN, Cause.DAY_LOSS, 5)
    assert standing == Standing(Step.FLATTEN, Cause.DAY_LOSS, 5, Step.FLATTEN, Cause.DAY_LOSS)
    assert advance(SETTINGS, standing, CALM, 99 * WAIT_NS).step is Step.FLATTEN
    assert restored(Step.NORMAL, Cause.NONE, 0) == Standing()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"kill_drawdown": (1.0,)},
            "kill_drawdown: expected 5 numbers, none below one before it but 0, was 1",
        ),
        ({"kill_toxic": (3.0, 2.0, 0.0, 0.0, 0.0)}, "was 3,2,0,0,0"),
        ({"kill_widening": 0.5}, "kill_widening: expected at least 1, was 0.5"),
        ({"kill_clear_share": 0.0}, "kill_clear_share: expected above 0 and at most 1, was 0"),
        ({"kill_clear_share": 1.5}, "was 1.5"),
    ],
)
def test_settings_that_make_no_ladder_are_refused(changes, message):
    with pytest.raises(ValueError, match="expected") as refused:
        KillLadderSettings(**changes)
    assert message in str(refused.value)


READINGS = st.builds(
    Readings,
    *[st.floats(0, 2)] * 3,
    st.floats(0, 60),
    st.floats(0, 10),
    st.integers(0, 12).map(float),
    st.floats(0, 2),
    st.floats(-30, 30),
)


@given(st.lists(st.tuples(READINGS, st.integers(0, 3 * WAIT_NS)), max_size=30))
def test_up_at_once_down_by_one_and_never_below_the_latch(looks):
    standing, now_ns = Standing(), 0
    for readings, passed_ns in looks:
        now_ns += passed_ns
        before, standing = standing, advance(SETTINGS, standing, readings, now_ns)
        step, _ = asked_for(SETTINGS, readings)
        assert standing.step >= max(step, standing.latch)
        assert standing.step >= before.step - 1
        assert standing.latch >= before.latch
        assert (standing.step == Step.NORMAL) == (standing.cause == Cause.NONE)
        if standing.step > before.step:
            assert standing.step == step


@given(READINGS, READINGS)
def test_worse_readings_never_ask_for_less(one, other):
    worse = Readings(*map(max, one, other))
    assert asked_for(SETTINGS, worse)[0] == max(asked_for(SETTINGS, one)[0], asked_for(SETTINGS, other)[0])
