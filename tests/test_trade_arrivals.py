"""Arrivals of takers: the exponential kernel against its sum, habit, what one taker eats, silence."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker import trade_arrivals as arrivals
from market_maker.domain import NS_PER_S
from market_maker.kernel import new_row
from market_maker.trade_arrivals import BRANCHING_RATIO, ArrivalState

KERNEL_S = 5.0
HISTORY_S = 600.0


def market():
    return new_row(ArrivalState())[0]


def feed(state, events):
    """Feed (seconds, side, share bought), in order of time; return the last second."""
    last_s = events[0][0]
    for at_s, side, share in events:
        arrivals.advance(state, at_s - last_s, KERNEL_S, HISTORY_S)
        arrivals.arrive(state, side, share, KERNEL_S, round(at_s * NS_PER_S))
        last_s = at_s
    return last_s


@given(st.lists(st.tuples(st.integers(1, 20_000), st.floats(0.0, 1.0)), min_size=1, max_size=40))
def test_decaying_numbers_equal_the_sum_over_all_arrivals(steps):
    state, now, events = market(), 0, []
    for gap_ms, share in steps:
        now += gap_ms
        events.append((now / 1e3, 0, share))
    end_s = feed(state, events)
    recent = [math.exp((at_s - end_s) / KERNEL_S) / KERNEL_S for at_s, _, _ in events]
    usual = [math.exp((at_s - end_s) / HISTORY_S) for at_s, _, _ in events]
    shares = [share for _, _, share in events]
    span_s = HISTORY_S * -math.expm1((events[0][0] - end_s) / HISTORY_S)
    assert state.recent_buys == pytest.approx(np.dot(recent, shares), rel=1e-9, abs=1e-12)
    assert state.recent_sells == pytest.approx(sum(recent) - np.dot(recent, shares), rel=1e-9, abs=1e-9)
    assert state.usual_buys == pytest.approx(np.dot(usual, shares), rel=1e-9, abs=1e-12)
    assert state.usual_sells == pytest.approx(sum(usual) - np.dot(usual, shares), rel=1e-9, abs=1e-9)
    assert state.span_s == pytest.approx(span_s, rel=1e-9, abs=1e-12)


def test_what_one_taker_eats_at_one_instant_is_one_arrival():
    state = market()
    feed(state, [(1.0, 1, 1.0), (1.0, 1, 1.0), (1.0, 1, 1.0)])
    assert state.usual_buys == 1.0
    # Another side, or another instant, is another taker.
    feed(state, [(1.0, -1, 0.0), (2.0, -1, 0.0)])
    assert state.usual_sells == pytest.approx(1.0 + math.exp(-1.0 / HISTORY_S))


def test_without_a_past_nobody_is_eager():
    state = market()
    assert arrivals.relative_intensity(state, 1) == 1.0
    assert arrivals.balance(state) == 0.0
    arrivals.arrive(state, 1, 1.0, KERNEL_S, NS_PER_S)
    assert arrivals.balance(state) == 0.0


def test_a_habit_leans_nowhere_and_more_than_it_does():
    state = market()
    # Buyers come twice as often, always.
    habit = [(float(at_s), -1 if at_s % 3 == 2 else 1, float(at_s % 3 != 2)) for at_s in range(3000)]
    end_s = feed(state, habit)
    assert arrivals.balance(state) == pytest.approx(0.0, abs=0.1)
    feed(state, [(end_s + 0.1 * n, -1, 0.0) for n in range(1, 20)])
    assert arrivals.relative_intensity(state, -1) > 3.0
    assert arrivals.balance(state) < -0.4


def test_a_silence_leads_both_sides_back_to_the_constant_part():
    state = market()
    end_s = feed(state, [(0.5 * n, 1 if n % 2 else -1, float(n % 2)) for n in range(400)])
    feed(state, [(end_s + 0.1 * n, 1, 1.0) for n in range(1, 20)])
    assert arrivals.balance(state) > 0.3
    arrivals.advance(state, 60.0, KERNEL_S, HISTORY_S)
    for side in (1, -1):
        assert arrivals.relative_intensity(state, side) == pytest.approx(1.0 - BRANCHING_RATIO, abs=1e-3)
    assert arrivals.balance(state) == pytest.approx(0.0, abs=1e-3)


def test_an_average_market_has_its_mean_intensity():
    state = market()
    end_s = feed(state, [(2.0 * n, 1, 1.0) for n in range(2000)])
    arrivals.advance(state, 1.0, KERNEL_S, HISTORY_S)
    assert end_s == 3998.0
    assert arrivals.relative_intensity(state, 1) == pytest.approx(1.0, abs=0.02)


def test_a_restart_forgets_the_excitement_and_keeps_the_habit():
    state = market()
    feed(state, [(float(n), 1, 1.0) for n in range(20)])
    usual = float(state.usual_buys)
    arrivals.restart(state)
    assert (state.recent_buys, state.recent_sells, state.usual_buys) == (0.0, 0.0, usual)
