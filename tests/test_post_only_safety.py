"""Post-only safety: the clamp, what rejections teach, and when a slot waits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from market_maker.domain import NS_PER_S, Side
from market_maker.kernel import new_row
from market_maker.post_only_safety import (
    PostOnlySafety,
    PostOnlySettings,
    PostOnlyState,
    backing_off,
    clamp_price,
    effective_ticks,
    on_rejection,
    on_success,
    reset,
)

T0 = 1_700_000_000 * NS_PER_S
COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"


def record(value):
    return new_row(value)[0]


@pytest.mark.parametrize(
    ("side", "price", "bid", "ask", "dynamic", "expected"),
    [
        (Side.BUY, 100, 99, 105, 0, 100),  # far enough away
        (Side.BUY, 104, 99, 105, 0, 104),  # exactly one tick under the ask
        (Side.BUY, 105, 99, 105, 0, 104),  # would touch
        (Side.BUY, 120, 99, 105, 0, 104),  # would cross
        (Side.BUY, 104, 99, 105, 2, 102),  # two learned ticks
        (Side.SELL, 110, 99, 105, 0, 110),
        (Side.SELL, 100, 99, 105, 0, 100),
        (Side.SELL, 99, 99, 105, 0, 100),
        (Side.SELL, 80, 99, 105, 0, 100),
        (Side.SELL, 100, 99, 105, 2, 102),
        (Side.BUY, 104, 99, 0, 0, 104),  # no asks: nothing to cross
        (Side.SELL, 90, 0, 105, 0, 90),  # no bids
        (Side.BUY, 104, 110, 105, 0, 104),  # a crossed book clamps against the other side all the same
        (Side.BUY, 3, 0, 1, 0, 0),  # no positive price is passive
        (Side.BUY, 3, 0, 2, 3, 0),
    ],
)
def test_clamp_price(side, price, bid, ask, dynamic, expected):
    state = record(PostOnlyState(dynamic_ticks=dynamic))
    assert clamp_price(record(PostOnlySettings()), state, int(side), price, bid, ask) == expected


@pytest.mark.parametrize(
    ("settings", "dynamic", "expected"),
    [
        (PostOnlySettings(), 0, 1),
        (PostOnlySettings(), 3, 4),
        (PostOnlySettings(), 9, 5),  # at most the ceiling
        (PostOnlySettings(post_only_safety_ticks=3), 1, 4),
        (PostOnlySettings(post_only_safety_ticks=7), 3, 7),  # a base above the ceiling stands
        (PostOnlySettings(adaptive_pof_enabled=False), 3, 1),
    ],
)
def test_effective_ticks(settings, dynamic, expected):
    assert effective_ticks(record(settings), record(PostOnlyState(dynamic_ticks=dynamic))) == expected


def test_adaptive_streak_widens_then_waits_twice_as_long_each_time():
    settings, state = record(PostOnlySettings()), record(PostOnlyState())
    seen = []
    for i in range(8):
        now = T0 + i * NS_PER_S
        on_rejection(settings, state, now)
        seen.append((int(effective_ticks(settings, state)), (int(state.backoff_until_ns) - now) / NS_PER_S))
    waits = [wait for _, wait in seen[2:]]
    assert [ticks for ticks, _ in seen] == [2, 3, 4, 5, 5, 5, 5, 5]
    assert int(state.streak) == 8
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]


def test_no_wait_below_the_streak():
    settings, state = record(PostOnlySettings()), record(PostOnlyState())
    on_rejection(settings, state, T0)
    on_rejection(settings, state, T0)
    assert not backing_off(state, T0)
    on_rejection(settings, state, T0)
    assert backing_off(state, T0)
    assert backing_off(state, T0 + NS_PER_S // 2 - 1)
    assert not backing_off(state, T0 + NS_PER_S // 2)


def test_successes_take_back_one_rejection_each():
    settings, state = record(PostOnlySettings()), record(PostOnlyState())
    for _ in range(6):
        on_rejection(settings, state, T0)
    ticks = []
    for _ in range(7):
        on_success(settings, state, T0 + 1)
        assert not backing_off(state, T0 + 1)
        ticks.append(int(effective_ticks(settings, state)))
    # Six rejections were worth four ticks: the first two successes only shorten the streak.
    assert ticks == [5, 5, 4, 3, 2, 1, 1]
    assert int(state.streak) == 0


def test_all_is_forgotten_after_the_reset_time():
    settings, state = record(PostOnlySettings()), record(PostOnlyState())
    for _ in range(5):
        on_rejection(settings, state, T0)
    later = T0 + 30 * NS_PER_S
    on_rejection(settings, state, later)
    assert (int(state.streak), int(state.dynamic_ticks), int(state.last_rejection_ns)) == (1, 1, later)
    on_success(settings, state, later + 30 * NS_PER_S)
    assert state.item() == new_row(PostOnlyState())[0].item()


def test_not_adaptive_learns_nothing():
    settings, state = record(PostOnlySettings(adaptive_pof_enabled=False)), record(PostOnlyState())
    for _ in range(5):
        on_rejection(settings, state, T0)
    assert state.item() == new_row(PostOnlyState())[0].item()


def test_a_base_above_the_ceiling_learns_no_ticks_but_still_waits():
    settings, state = record(PostOnlySettings(post_only_safety_ticks=9)), record(PostOnlyState())
    for _ in range(3):
        on_rejection(settings, state, T0)
    assert int(effective_ticks(settings, state)) == 9
    assert backing_off(state, T0)


def test_reset():
    state = record(PostOnlyState(3, 2, T0, T0))
    reset(state)
    assert state.item() == new_row(PostOnlyState())[0].item()


def test_a_long_streak_does_not_overflow():
    settings, state = record(PostOnlySettings()), record(PostOnlyState(streak=10_000, last_rejection_ns=T0))
    on_rejection(settings, state, T0)
    assert int(state.backoff_until_ns) == T0 + 8 * NS_PER_S


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"post_only_safety_ticks": 0}, "post_only_safety_ticks: expected 1 to 1000000, was 0"),
        ({"pof_streak_for_backoff": 0}, "pof_streak_for_backoff: expected 1"),
        ({"pof_backoff_max_s": -1.0}, "pof_backoff_max_s: expected 0 to 1000000, was -1.0"),
        ({"pof_reset_s": float("nan")}, "was nan"),
    ],
)
def test_bad_settings_say_what_was_expected(changes, message):
    with pytest.raises(ValueError, match=message):
        PostOnlySettings(**changes)


prices = st.integers(1, 10**9)
sides = st.sampled_from([Side.BUY, Side.SELL])
learned = st.integers(0, 20)


@given(sides, prices, prices, st.integers(1, 1000), learned, st.integers(1, 10))
@hypothesis_settings(deadline=None)
def test_clamped_price_never_crosses_and_never_improves(side, price, bid, spread, dynamic, base):
    settings = record(PostOnlySettings(post_only_safety_ticks=base))
    state = record(PostOnlyState(dynamic_ticks=dynamic))
    ask = bid + spread
    clamped = clamp_price(settings, state, int(side), price, bid, ask)
    distance = ask - clamped if side is Side.BUY else clamped - bid
    assert distance >= min(base, ask)
    assert side * (price - clamped) >= 0
    # Clamping twice is clamping once: the price cannot creep.
    assert clamp_price(settings, state, int(side), clamped, bid, ask) == clamped


@given(sides, prices, prices, learned)
@hypothesis_settings(deadline=None)
def test_a_longer_streak_never_improves_the_price(side, price, best, rejections):
    settings, state = record(PostOnlySettings()), record(PostOnlyState())
    before = clamp_price(settings, state, int(side), price, best, best + 1)
    ticks, until = effective_ticks(settings, state), int(state.backoff_until_ns)
    for i in range(rejections):
        on_rejection(settings, state, T0 + i)
        after = clamp_price(settings, state, int(side), price, best, best + 1)
        assert side * (before - after) >= 0
        assert effective_ticks(settings, state) >= ticks
        assert int(state.backoff_until_ns) >= until
        before, ticks, until = after, effective_ticks(settings, state), int(state.backoff_until_ns)


def test_class_keeps_the_state_of_one_slot():
    safety = PostOnlySafety(PostOnlySettings(pof_streak_for_backoff=2))
    assert safety.clamp_price(Side.BUY, 120, 99, 105) == 104
    safety.on_rejection(T0)
    safety.on_rejection(T0)
    assert safety.effective_ticks() == 3
    assert safety.clamp_price(Side.SELL, 80, 99, 105) == 102
    assert safety.backing_off(T0)
    safety.on_success(T0 + 1)
    assert not safety.backing_off(T0 + 1)
    assert safety.effective_ticks() == 2
    safety.reset()
    assert safety.effective_ticks() == 1


def trace():
    """Return everything that a scripted life of a slot shows, for comparison between the two modes."""
    settings, state = record(PostOnlySettings()), record(PostOnlyState())
    out = []
    for i in range(200):
        now = T0 + i * i * NS_PER_S // 50
        if (i * 7) % 5 < 3:
            on_rejection(settings, state, now)
        else:
            on_success(settings, state, now)
        side = 1 if i % 2 else -1
        out.append((int(clamp_price(settings, state, side, 100 + i % 9, 103, 106)), *map(int, state.item())))
    return out


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="the other mode is the child's")
def test_compiled_equals_interpreted():
    here = Path(__file__).resolve().parent
    child = subprocess.run(
        [sys.executable, "-c", f"import {Path(__file__).stem} as t; print(t.trace())"],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(here)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.strip() == str(trace())


@pytest.mark.skipif(not COMPILED, reason="only the compiled functions have signatures")
def test_one_signature_each():
    safety = PostOnlySafety(PostOnlySettings())
    safety.clamp_price(Side.BUY, 120, 99, 105)
    assert len(clamp_price.signatures) == 1
