"""Toxicity guard: range, drift and jumps of the mid, imbalance and spread thresholds."""

import math
import os
import subprocess
import sys
from bisect import bisect_left
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from market_maker.domain import NS_PER_MS, NS_PER_S, Direction, Reason, Regime, Side
from market_maker.kernel import new_row
from market_maker.toxicity_guard import (
    GRID_NS,
    MAX_WINDOW_S,
    MOVE_PER_SIGMA,
    RANGE_PER_SIGMA,
    ImbalanceSettings,
    JumpSettings,
    MarketView,
    SpreadGuardSettings,
    ToxicityGuard,
    ToxicityMode,
    ToxicitySettings,
    ToxicityState,
    check,
    drift_bps,
    excursions_bps,
    limit_bps,
    update,
)

T0 = 1_700_000_000 * NS_PER_S
COMPILED = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data"

# σ = 10 bps/√min: the limits are k · 1.5958 · 10 · √(5/60) and k · 0.7979 · 10 · √(3/60).
SIGMA = 10.0
CALM_VIEW = MarketView(sigma_bps=SIGMA, sigma_fast_bps=SIGMA, latency_s=0.1, tick_bps=0.1)
RANGE_LIMIT = 1.5 * 15.957691216057308 * math.sqrt(5 / 60)
DRIFT_LIMIT = 3.0 * 7.978845608028654 * math.sqrt(3 / 60)
STATIC = ToxicitySettings(toxicity_mode=ToxicityMode.STATIC)
NO_JUMPS = JumpSettings(jump_enabled=False)


def guard(settings=None, jump=NO_JUMPS, imbalance=None, spread=None):
    return ToxicityGuard(
        settings or ToxicitySettings(),
        jump,
        imbalance or ImbalanceSettings(),
        spread or SpreadGuardSettings(),
    )


def feed(target, path):
    """Feed (seconds, bps above the start) pairs; return the last instant."""
    for at_s, bps in path:
        target.update(bps / 1e4, 10, 10, T0 + round(at_s * NS_PER_S))
    return T0 + round(path[-1][0] * NS_PER_S)


def ramp(bps, over_s, start_s=30.0):
    """A straight move that began at `start_s`, after calm, in steps of 100 ms."""
    steps = max(1, round(over_s * 10))
    return [(0.0, 0.0)] + [(start_s + i * over_s / steps, bps * i / steps) for i in range(1, steps + 1)]


# --- The sampled mid ---------------------------------------------------------------------------------------


def mid_at(events, instant):
    return events[max(bisect_left(events, (instant, -math.inf)) - 1, 0)][1]


def oracle(events, now, window_s, drift_s):
    """Rise, fall and drift by brute force, from the mids at the ends of the grid's slots."""
    slot, current = now // GRID_NS, events[-1][1]
    window = [mid_at(events, (slot - i + 1) * GRID_NS) for i in range(1, round(window_s * 10) + 1)]
    window = [*window, current]
    reference = mid_at(events, (slot - round(drift_s * 10) + 1) * GRID_NS)
    return (current - min(window)) * 1e4, (max(window) - current) * 1e4, (current - reference) * 1e4


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.integers(-500, 500)), min_size=1, max_size=25),
    st.sampled_from([0.1, 0.5, 3.0, 5.0, 25.5]),
    st.sampled_from([0.1, 1.0, 3.0, 25.5]),
    st.integers(0, 40_000),
)
@hypothesis_settings(deadline=None, max_examples=60)
def test_range_and_drift_match_brute_force(steps, window_s, drift_s, wait_ms):
    settings = new_row(ToxicitySettings(micro_vol_window_s=window_s, micro_drift_window_s=drift_s))[0]
    imbalance, state = new_row(ImbalanceSettings())[0], new_row(ToxicityState())[0]
    now, events = T0, []
    for gap_ms, tenths in steps:
        now += (gap_ms % 40_000 if gap_ms > 30_000 else gap_ms % 300) * NS_PER_MS
        events.append((now, tenths / 1e5))
        update(settings, imbalance, state, tenths / 1e5, 1, 1, now)
    for at in (now, now + wait_ms * NS_PER_MS):
        rise, fall, drift = oracle(events, at, window_s, drift_s)
        assert excursions_bps(settings, state, at) == pytest.approx((rise, fall), abs=1e-9)
        assert drift_bps(settings, state, at) == pytest.approx(drift, abs=1e-9)


def test_readings_do_not_depend_on_the_update_rate():
    slow, fast = guard(), guard()
    for tenth in range(200):
        mid, now = 1e-4 * math.sin(tenth / 7.0), T0 + tenth * NS_PER_S // 10
        slow.update(mid, 30, 10, now)
        for i in range(20):
            fast.update(mid, 30, 10, now + i * 4 * NS_PER_MS)
    now = T0 + 20 * NS_PER_S
    assert slow.get(now)[:2] == fast.get(now)[:2]
    assert slow.get(now)[2] == pytest.approx(fast.get(now)[2], rel=0.01)


def test_a_mid_without_update_stays_in_force():
    target = guard()
    now = feed(target, [(0.0, 0.0), (60.0, 12.0)])
    assert target.get(now)[:2] == pytest.approx((12.0, 12.0))
    # Drift window over, range window not; then both.
    assert target.get(now + 4 * NS_PER_S)[:2] == pytest.approx((12.0, 0.0))
    assert target.get(now + 6 * NS_PER_S)[:2] == pytest.approx((0.0, 0.0))


def test_a_flicker_between_two_samples_leaves_no_trace():
    target = guard()
    now = feed(target, [(0.0, 0.0), (10.02, 50.0), (10.04, 0.0), (10.2, 0.0)])
    assert target.get(now)[:2] == (0.0, 0.0)


def test_an_instant_before_the_last_counts_as_the_last():
    target = guard()
    now = feed(target, [(0.0, 0.0), (10.0, 3.0)])
    target.update(5e-4, 10, 10, now - NS_PER_S)
    assert target.get(now)[:2] == pytest.approx((5.0, 5.0))


@pytest.mark.parametrize("mid", [math.nan, math.inf, -math.inf])
def test_a_mid_that_is_not_finite_is_passed_over(mid):
    target = guard()
    target.update(mid, 10, 10, T0)
    assert target.check(CALM_VIEW, Side.BUY, T0) == (Reason.NONE, 0.0)
    now = feed(target, [(0.0, 0.0), (1.0, 3.0)])
    target.update(mid, 10, 10, now)
    assert target.get(now)[0] == pytest.approx(3.0)


# --- Volatility and drift thresholds -----------------------------------------------------------------------


def test_expected_sizes_are_those_of_a_brownian_motion():
    assert math.isclose(RANGE_PER_SIGMA, math.sqrt(8 / math.pi))
    assert math.isclose(MOVE_PER_SIGMA, math.sqrt(2 / math.pi))
    rng = np.random.default_rng(5)
    paths = np.cumsum(rng.normal(0.0, SIGMA / math.sqrt(60 * 200), (1000, 1000)), axis=1)
    width = np.maximum(paths.max(axis=1), 0.0) - np.minimum(paths.min(axis=1), 0.0)
    assert width.mean() == pytest.approx(limit_bps(SIGMA, 5.0, RANGE_PER_SIGMA, 0.0), rel=0.05)
    assert np.abs(paths[:, -1]).mean() == pytest.approx(limit_bps(SIGMA, 5.0, MOVE_PER_SIGMA, 0.0), rel=0.05)


@pytest.mark.parametrize(
    ("bps", "over_s", "reason", "extra"),
    [
        (0.99 * DRIFT_LIMIT, 2.0, Reason.NONE, 0.0),
        (1.50 * DRIFT_LIMIT, 2.0, Reason.NONE, 0.35 * 0.5 * DRIFT_LIMIT),
        (1.99 * DRIFT_LIMIT, 2.0, Reason.NONE, 0.35 * 0.99 * DRIFT_LIMIT),
        (2.20 * DRIFT_LIMIT, 2.0, Reason.TOXIC_DRIFT, 0.35 * 1.2 * DRIFT_LIMIT),
        (0.99 * RANGE_LIMIT, 4.9, Reason.NONE, 0.0),
        (1.50 * RANGE_LIMIT, 4.9, Reason.NONE, 0.35 * 0.5 * RANGE_LIMIT),
        (2.01 * RANGE_LIMIT, 4.9, Reason.TOXIC_VOLATILITY, 0.35 * 1.01 * RANGE_LIMIT),
    ],
)
@pytest.mark.parametrize("threatened", [Side.BUY, Side.SELL])
def test_relative_thresholds_concern_the_threatened_side_alone(bps, over_s, reason, extra, threatened):
    target = guard()
    now = feed(target, ramp(-int(threatened) * bps, over_s))
    found, offset = target.check(CALM_VIEW, threatened, now)
    assert found is reason
    # On a ramp over two seconds the drift's limit is the lower one, over five the range's.
    assert offset == pytest.approx(extra, abs=1e-9)
    assert target.check(CALM_VIEW, Side(-threatened), now) == (Reason.NONE, 0.0)


def test_limits_are_floored_at_two_ticks():
    view = MarketView(sigma_bps=0.1, sigma_fast_bps=0.1, latency_s=0.1, tick_bps=4.0)
    for bps, reason, extra in [
        (7.9, Reason.NONE, 0.0),
        (10.0, Reason.NONE, 0.7),
        (17.0, Reason.TOXIC_VOLATILITY, 3.15),
    ]:
        target = guard()
        now = feed(target, [(0.0, 0.0), (9.0, bps)])
        assert target.check(view, Side.SELL, now) == (reason, pytest.approx(extra))


@pytest.mark.parametrize(
    ("direction", "strong", "regime", "tolerated"),
    [
        (Direction.BULLISH, True, Regime.ELEVATED, True),  # a dip in a rise: the bids go with the trend
        (Direction.BULLISH, False, Regime.NORMAL, False),
        (Direction.NEUTRAL, True, Regime.NORMAL, False),
        (Direction.BEARISH, True, Regime.NORMAL, False),  # the bids are being run over
        (Direction.BULLISH, True, Regime.EXTREME, False),
    ],
)
def test_drift_is_tolerated_further_for_the_side_that_goes_with_the_trend(
    direction, strong, regime, tolerated
):
    view = MarketView(SIGMA, SIGMA, 0.1, 0.1, int(direction), strong, int(regime))
    target = guard()
    now = feed(target, ramp(-2.2 * DRIFT_LIMIT, 2.0))
    reason, extra = target.check(view, Side.BUY, now)
    assert reason is (Reason.NONE if tolerated else Reason.TOXIC_DRIFT)
    assert extra == pytest.approx(
        0.35 * (2.2 * DRIFT_LIMIT - min(RANGE_LIMIT, 1.5 * DRIFT_LIMIT)) if tolerated else 0.42 * DRIFT_LIMIT
    )


def test_drift_is_not_tolerated_further_after_a_jump():
    view = MarketView(SIGMA, SIGMA, 0.1, 0.1, int(Direction.BULLISH), trend_strong=True)
    target = guard(jump=JumpSettings(jump_hold_s=30.0))
    now = feed(target, [(0.0, 0.0), (30.0, 20.0)])
    assert target.check(view, Side.SELL, now)[0] is Reason.JUMP
    dip = [(at_s, 20.0 + bps) for at_s, bps in ramp(-2.2 * DRIFT_LIMIT, 2.0, start_s=36.0)[1:]]
    now = feed(target, dip)
    assert target.check(view, Side.BUY, now)[0] is Reason.TOXIC_DRIFT


@pytest.mark.parametrize(
    ("path", "reason", "extra"),
    [
        ([(0.0, 0.0), (9.0, 5.9)], Reason.NONE, 0.0),
        ([(0.0, 0.0), (9.0, 7.0)], Reason.NONE, 0.35),
        ([(0.0, 0.0), (9.0, -7.4)], Reason.NONE, 0.35 * 1.4),
        ([(0.0, 0.0), (9.0, 7.6)], Reason.TOXIC_DRIFT, 0.35 * 1.6),
        ([(0.0, 0.0), (9.0, -7.6)], Reason.TOXIC_DRIFT, 0.35 * 1.6),
        ([(0.0, 0.0), (9.0, 5.0), (9.5, -4.0), (10.0, 0.0)], Reason.NONE, 0.35),  # range 9, drift 0
        ([(0.0, 0.0), (9.0, 6.0), (9.5, -4.5), (10.0, 0.0)], Reason.TOXIC_VOLATILITY, 0.35 * 2.5),
    ],
)
def test_static_mode_pauses_both_sides_as_before(path, reason, extra):
    target = guard(STATIC, JumpSettings(jump_sigmas=0.0, jump_min_ticks=0.0))
    now = feed(target, path)
    for side in Side:
        assert target.check(MarketView(), side, now) == (reason, pytest.approx(extra))


def test_static_mode_may_be_switched_off():
    target = guard(ToxicitySettings(toxicity_enabled=False, toxicity_mode=ToxicityMode.STATIC))
    now = feed(target, [(0.0, 0.0), (9.0, 90.0)])
    assert target.check(CALM_VIEW, Side.SELL, now) == (Reason.NONE, 0.0)


@pytest.mark.parametrize("field", ["sigma_bps", "sigma_fast_bps", "latency_s", "tick_bps"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_view_that_makes_no_sense_is_a_refusal(field, value):
    target = guard()
    now = feed(target, [(0.0, 0.0), (9.0, 1.0)])
    view = MarketView(
        **{"sigma_bps": 1.0, "sigma_fast_bps": 1.0, "latency_s": 0.1, "tick_bps": 0.1, field: value}
    )
    assert target.check(view, Side.BUY, now) == (Reason.NOT_FINITE, 0.0)


@given(st.lists(st.floats(-300, 300), min_size=2, max_size=12), st.floats(0.0, 100.0), st.floats(0.0, 100.0))
@hypothesis_settings(deadline=None, max_examples=40)
def test_a_wilder_market_never_makes_the_guard_stricter(moves, one, other):
    target = guard()
    now = feed(target, [(i * 0.7, bps) for i, bps in enumerate(moves)])
    for side in Side:
        calm = target.check(MarketView(min(one, other), 1.0, 0.1, 0.1), side, now)
        wild = target.check(MarketView(max(one, other), 1.0, 0.1, 0.1), side, now)
        assert wild[1] <= calm[1]
        assert calm[1] >= 0.0
        assert wild[0] is Reason.NONE or calm[0] is not Reason.NONE


# --- Jumps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bps", "side"), [(6.0, Side.SELL), (-6.0, Side.BUY)])
def test_a_jump_pulls_the_threatened_side_and_holds(bps, side):
    # 8 σ over 100 ms is 3.27 bps; the range's limit, 6.9 bps, is not reached.
    target = guard(jump=JumpSettings())
    now = feed(target, [(0.0, 0.0), (30.0, bps)])
    first = target.check(CALM_VIEW, side, now)
    assert first == target.check(CALM_VIEW, side, now)
    assert first[0] is Reason.JUMP
    assert target.check(CALM_VIEW, Side(-side), now)[0] is Reason.NONE
    held = now + 2 * NS_PER_S
    assert target.check(CALM_VIEW, side, held - 1)[0] is Reason.JUMP
    assert target.check(CALM_VIEW, side, held)[0] is Reason.NONE


@pytest.mark.parametrize(
    ("view", "reason"),
    [
        (CALM_VIEW, Reason.JUMP),
        (MarketView(SIGMA, 30.0, 0.1, 0.1), Reason.NONE),  # 9.8 bps are ordinary in a fast market
        (MarketView(30.0, 1.0, 0.1, 0.1), Reason.NONE),  # and in a wild one that was calm for a minute
        (MarketView(SIGMA, SIGMA, 0.4, 0.1), Reason.NONE),  # 6.5 bps over a longer latency
        (MarketView(SIGMA, SIGMA, 0.31, 0.1), Reason.NONE),  # latency is rounded up to the grid
        (MarketView(SIGMA, SIGMA, 0.2, 0.1), Reason.JUMP),
        (MarketView(SIGMA, SIGMA, 0.0, 0.1), Reason.JUMP),
        (MarketView(SIGMA, SIGMA, 1e12, 0.1), Reason.NONE),
        (MarketView(SIGMA, SIGMA, 0.1, 2.0), Reason.NONE),  # three ticks are not reached
        (MarketView(SIGMA, SIGMA, 0.1, 1.9), Reason.JUMP),
    ],
)
def test_jump_threshold(view, reason):
    target = guard(jump=JumpSettings())
    now = feed(target, [(0.0, 0.0), (30.0, 5.8)])
    assert target.check(view, Side.SELL, now)[0] is reason


def test_the_jump_guard_works_without_the_others_and_can_be_switched_off():
    off = ToxicitySettings(toxicity_enabled=False)
    for jump, reason in [(JumpSettings(), Reason.JUMP), (NO_JUMPS, Reason.NONE)]:
        target = guard(off, jump)
        now = feed(target, [(0.0, 0.0), (30.0, 100.0)])
        assert target.check(CALM_VIEW, Side.SELL, now) == (reason, 0.0)


# --- Imbalance and spread ----------------------------------------------------------------------------------


def test_imbalance_is_an_average_in_continuous_time():
    target = guard(imbalance=ImbalanceSettings(imbalance_window_s=10.0))
    target.update(0.0, 30, 10, T0)
    assert target.get(T0)[2] == 0.0
    for at_s in (1, 2, 10):
        target.update(0.0, 30, 10, T0 + at_s * NS_PER_S)
    assert target.get(T0)[2] == pytest.approx(0.5 * (1 - math.exp(-1.0)))
    # One odd frame counts for as long as it was in force, here for nothing.
    target.update(0.0, 0, 10, T0 + 10 * NS_PER_S)
    target.update(0.0, 30, 10, T0 + 10 * NS_PER_S)
    target.update(0.0, 30, 10, T0 + 20 * NS_PER_S)
    assert target.get(T0)[2] == pytest.approx(0.5 * (1 - math.exp(-2.0)))


@pytest.mark.parametrize(("bids", "asks"), [(0, 0), (-5, 10), (10, -5)])
def test_a_book_without_depth_leaves_the_imbalance(bids, asks):
    target = guard()
    for at_s, depths in enumerate([(30, 10), (30, 10), (bids, asks), (30, 10)]):
        target.update(0.0, *depths, T0 + at_s * NS_PER_S)
    assert target.get(T0)[2] == pytest.approx(0.5 * (1 - math.exp(-0.3)))


@pytest.mark.parametrize(
    ("bids", "asks", "threatened"),
    [(100, 1, Side.SELL), (1, 100, Side.BUY), (10, 10, None), (100, 8, None)],
)
def test_imbalance_threatens_the_side_that_it_leans_against(bids, asks, threatened):
    for enabled in (True, False):
        target = guard(imbalance=ImbalanceSettings(imbalance_enabled=enabled))
        for at_s in range(100):
            target.update(0.0, bids, asks, T0 + at_s * NS_PER_S)
        for side in Side:
            expected = Reason.IMBALANCE if enabled and side is threatened else Reason.NONE
            assert target.imbalance_check(side) is expected


@pytest.mark.parametrize(
    ("least", "spread", "reason"),
    [
        (0.0, 0.0, Reason.NONE),
        (0.0, -0.1, Reason.SPREAD_TOO_NARROW),
        (2.0, 1.99, Reason.SPREAD_TOO_NARROW),
        (2.0, 2.0, Reason.NONE),
        (0.0, math.nan, Reason.NOT_FINITE),
        (0.0, math.inf, Reason.NOT_FINITE),
    ],
)
def test_spread_check(least, spread, reason):
    assert guard(spread=SpreadGuardSettings(min_spread_bps=least)).spread_check(spread) is reason


# --- Settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        (
            ToxicitySettings,
            {"micro_vol_window_s": 30.0},
            r"micro_vol_window_s: expected 0.1 to 25.5, was 30.0",
        ),
        (ToxicitySettings, {"micro_drift_window_s": 0.0}, "micro_drift_window_s"),
        (ToxicitySettings, {"toxicity_pull_ratio": 0.5}, "toxicity_pull_ratio: expected 1 to 1000, was 0.5"),
        (ToxicitySettings, {"micro_drift_trend_tolerance": 0.9}, "micro_drift_trend_tolerance"),
        (ToxicitySettings, {"volatility_offset_multiplier": -0.1}, "volatility_offset_multiplier"),
        (ToxicitySettings, {"micro_vol_max_bps": math.nan}, "micro_vol_max_bps"),
        (JumpSettings, {"jump_hold_s": -1.0}, "jump_hold_s"),
        (ImbalanceSettings, {"imbalance_window_s": 0.0}, "imbalance_window_s"),
        (ImbalanceSettings, {"imbalance_threshold": 1.1}, "imbalance_threshold: expected 0 to 1, was 1.1"),
        (SpreadGuardSettings, {"min_spread_bps": -1.0}, "min_spread_bps"),
    ],
)
def test_bad_settings_say_what_was_expected(section, changes, message):
    with pytest.raises(ValueError, match=message):
        section(**changes)


def test_the_longest_window_is_accepted():
    assert ToxicitySettings(micro_vol_window_s=MAX_WINDOW_S).micro_vol_window_s == MAX_WINDOW_S


# --- How often it fires ------------------------------------------------------------------------------------


def shares(settings, jump, mids, view, step_ns):
    """Share of time in which either side is pulled, and in which both are."""
    rows = [new_row(value)[0] for value in (settings, jump, ToxicityState(), view, ImbalanceSettings())]
    settings, jump, state, view, imbalance = rows
    either = both = 0
    for i, mid in enumerate(mids):
        now = T0 + i * step_ns
        update(settings, imbalance, state, mid, 1, 1, now)
        bid = check(settings, jump, state, view, 1, now)[0] != 0
        ask = check(settings, jump, state, view, -1, now)[0] != 0
        either += bid or ask
        both += bid and ask
    return either / len(mids), both / len(mids)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [3.0, 10.0, 30.0, 60.0])
def test_a_relative_guard_rarely_fires_at_any_volatility(sigma):
    step_s = 0.25
    moves = np.random.default_rng(11).normal(
        0.0, sigma / 1e4 * math.sqrt(step_s / 60), 3600 if COMPILED else 600
    )
    mids = np.cumsum(moves).tolist()
    view = MarketView(sigma, sigma, 0.3, 0.1)
    assert shares(ToxicitySettings(), JumpSettings(), mids, view, NS_PER_S // 4)[0] < 0.02
    low, high = {3.0: (0.0, 0.01), 10.0: (0.0, 0.2), 30.0: (0.4, 1.0), 60.0: (0.8, 1.0)}[sigma]
    assert low <= shares(STATIC, JumpSettings(), mids, view, NS_PER_S // 4)[1] <= high


@pytest.mark.slow
@pytest.mark.skipif(not COMPILED, reason="takes minutes, and shows nothing about the mode")
@pytest.mark.parametrize(
    ("market", "sigma", "tick", "static_share"),
    [("ETH", 6.8, 0.1, 0.005), ("SOL", 7.8, 0.01, 0.010), ("WLFI", 30.8, 0.00001, 0.39)],
)
def test_static_limits_shut_the_wild_alt_off_and_relative_ones_do_not(market, sigma, tick, static_share):
    polars = pytest.importorskip("polars")
    path = RECORDINGS / "hyperliquid-2025-09-04" / f"{market}_bbo.parquet"
    if not path.exists():
        pytest.skip("the recordings are not here")
    quotes = polars.read_parquet(path).sort("ts")
    ts, mid = quotes["ts"].to_numpy(), ((quotes["bid"] + quotes["ask"]) / 2).to_numpy()
    grid = np.arange(ts[0], ts[-1], NS_PER_S // 4)
    mids = np.log(mid[np.searchsorted(ts, grid, side="right") - 1]).tolist()
    view = MarketView(sigma, sigma, 0.3, tick / mid[0] * 1e4)
    # The recordings' README counts the windows of five seconds with a range above 10 bps alone.
    static = shares(STATIC, NO_JUMPS, mids, view, NS_PER_S // 4)[1]
    assert 0.8 * static_share <= static <= 1.35 * static_share + 0.002
    relative = shares(ToxicitySettings(), JumpSettings(), mids, view, NS_PER_S // 4)
    assert relative[0] < 0.03
    assert relative[1] < 0.005


# --- Both modes --------------------------------------------------------------------------------------------


def trace():
    """Return what the guard says along a scripted market, for comparison between the two modes."""
    target = guard(jump=JumpSettings())
    view = MarketView(3.0, 4.0, 0.2, 0.1, int(Direction.BULLISH), trend_strong=True)
    out = []
    for i in range(400):
        now = T0 + i * 130 * NS_PER_MS
        leap = 12.0 if i > 250 else 0.0
        target.update((4.0 * math.sin(i / 9.0) + leap) / 1e4, 10 + i % 7, 5 + i % 11, now)
        for side in Side:
            reason, extra = target.check(view, side, now)
            out.append((int(reason), extra.hex(), int(target.imbalance_check(side))))
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
    target = guard()
    target.check(CALM_VIEW, Side.BUY, feed(target, [(0.0, 0.0), (1.0, 1.0)]))
    assert len(check.signatures) == 1
    assert len(update.signatures) == 1
