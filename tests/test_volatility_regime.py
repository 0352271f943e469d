"""Volatility: exact sums against an oracle, regimes, scalings, gaps, seeds, and the recordings' shares."""

import importlib.util
import math
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import kernel as kernel_module
from market_maker import volatility_regime as vr
from market_maker.domain import NS_PER_S, Regime
from market_maker.kernel import Row, kernel, new_row

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PURE = os.environ.get("NUMBA_DISABLE_JIT") == "1"
T0 = 1_700_000_000 * NS_PER_S
SMALL = vr.VolatilitySettings(
    vol_short_window_s=8.0,
    vol_medium_window_s=20.0,
    vol_long_window_s=40.0,
    vol_fast_window_s=6.0,
    vol_short_return_s=2.0,
    vol_medium_return_s=3.0,
    vol_long_return_s=5.0,
)
HORIZONS = ((8, 2), (20, 3), (40, 5), (6, 1))


@kernel
def _run(
    params: Row, regimes: Row, state: Row, times_ns: np.ndarray, log_mids: np.ndarray, out: np.ndarray
) -> None:
    """Feed events; a row of `out` is what stands after each: warm, measured, short, medium, long, fast."""
    for i in range(times_ns.size):
        vr.update(params[0], regimes[0], state[0], log_mids[i], times_ns[i])
        out[i, 0] = vr.is_warm(state[0])
        out[i, 1] = vr.measured_regime(state[0])
        for horizon in range(4):
            out[i, 2 + horizon] = state[0].sigmas[horizon]


def run(
    times_ns: np.ndarray,
    log_mids: np.ndarray,
    params: vr.VolatilitySettings = SMALL,
    regimes: vr.VolatilityRegimeSettings | None = None,
) -> np.ndarray:
    out = np.zeros((times_ns.size, 6))
    state = new_row(vr.VolatilityState())
    _run(new_row(params), new_row(regimes or vr.VolatilityRegimeSettings()), state, times_ns, log_mids, out)
    return out


def seconds(n: int) -> np.ndarray:
    return T0 + np.arange(n) * NS_PER_S


def walk(n: int, sigma_bps: float, seed: int = 1) -> np.ndarray:
    """Log mids of a random walk, one a second, of the given volatility per root of a minute."""
    steps = np.random.default_rng(seed).normal(0.0, sigma_bps * 1e-4 / math.sqrt(60.0), n)
    return np.round(math.log(100.0) + np.cumsum(steps), 8)


def oracle(grid: np.ndarray, window: int, interval: int) -> float:
    """The formula, literally, over the whole history of the grid; 0 while it does not count."""
    returns = (grid[interval:] - grid[:-interval])[-window:] if grid.size > interval else np.zeros(0)
    if 2 * returns.size < window:
        return 0.0
    return 1e4 * math.sqrt(float(np.sum(returns**2)) / interval / (returns.size / 60.0))


def feed(vol: vr.VolatilityRegime, log_mids: np.ndarray, start_s: int = 0) -> None:
    for i, x in enumerate(log_mids):
        vol.update(math.exp(x), T0 + (start_s + i) * NS_PER_S)


# --- the estimator ---------------------------------------------------------------------------------------


def test_every_prefix_equals_the_formula() -> None:
    log_mids = walk(150, 20.0)
    out = run(seconds(150), log_mids)
    for i in range(150):
        # The mid of the running second is not on the grid yet.
        expected = [oracle(log_mids[:i], *horizon) for horizon in HORIZONS]
        np.testing.assert_allclose(out[i, 2:], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(PURE, reason="a day of seconds; the same integers as compiled")
def test_a_day_leaves_no_drift_in_the_sums() -> None:
    n = 86_400 + 7
    log_mids = walk(n, 30.0)
    # A violent first hour is what a float sum would remember for ever.
    log_mids[:3600] *= 1.0 + 0.01 * np.sin(np.arange(3600))
    log_mids = np.round(log_mids, 8)
    out = run(seconds(n), log_mids, vr.VolatilitySettings())
    for i in (3600, 7200, n - 1):
        for column, horizon in enumerate(((60, 5), (300, 15), (900, 30), (30, 1))):
            assert out[i, 2 + column] == pytest.approx(oracle(log_mids[:i], *horizon), rel=1e-9)


def test_after_the_violent_part_left_the_window_sums_are_exactly_those_of_the_rest() -> None:
    quiet = walk(120, 5.0)
    violent = quiet + np.where(np.arange(120) < 20, 0.05 * np.sin(np.arange(120)), 0.0)
    state_a, state_b = new_row(vr.VolatilityState()), new_row(vr.VolatilityState())
    out = np.zeros((120, 6))
    regimes = new_row(vr.VolatilityRegimeSettings())
    _run(new_row(SMALL), regimes, state_a, seconds(120), quiet, out)
    _run(new_row(SMALL), regimes, state_b, seconds(120), violent, out)
    assert state_a["sums"].tolist() == state_b["sums"].tolist()


def test_the_ring_wraps() -> None:
    n = vr.RING_S + 100
    log_mids = walk(n, 10.0)
    out = run(seconds(n), log_mids) if not PURE else run(seconds(60), log_mids[:60])
    i = out.shape[0] - 1
    assert out[i, 2:] == pytest.approx([oracle(log_mids[:i], *horizon) for horizon in HORIZONS], rel=1e-9)


@given(seed=st.integers(0, 1000), scale=st.integers(2, 5))
@settings(max_examples=15, deadline=None)
def test_scaling_all_returns_scales_sigma(seed: int, scale: int) -> None:
    moves = np.cumsum(np.random.default_rng(seed).integers(-5000, 5001, 60))
    one = run(seconds(60), moves * 1e-8)
    many = run(seconds(60), scale * moves * 1e-8)
    np.testing.assert_allclose(many[:, 2:], scale * one[:, 2:], rtol=1e-12)


def test_the_update_rate_does_not_matter() -> None:
    log_mids = walk(80, 10.0)
    sparse = run(seconds(80), log_mids)
    # Each second is seen ten times; its last value is the one that enters the grid.
    times = (seconds(80)[:, None] + np.arange(10)[None, :] * (NS_PER_S // 10)).ravel()
    noise = np.where(np.arange(800) % 10 == 9, 0.0, 0.001)
    dense = run(times, np.repeat(log_mids, 10) + noise)
    np.testing.assert_array_equal(dense[9::10, 2:], sparse[:, 2:])


def test_sigma_is_that_of_one_minute_returns() -> None:
    log_mids = walk(1800, 12.0, seed=3) if not PURE else walk(1000, 12.0, seed=3)
    out = run(seconds(log_mids.size), log_mids, vr.VolatilitySettings())
    assert out[-1, 4] == pytest.approx(12.0, rel=0.25)


def test_a_horizon_counts_once_it_covers_half_its_window() -> None:
    out = run(seconds(45), walk(45, 10.0))
    for column, (window, interval) in enumerate(HORIZONS):
        first = int(np.argmax(out[:, 2 + column] > 0.0))
        assert first == interval + window // 2
    assert int(np.argmax(out[:, 0])) == 2 + 4


def test_the_baseline_falls_back_to_the_longest_horizon_that_counts() -> None:
    vol = vr.VolatilityRegime(SMALL)
    assert vol.get().sigma_long_bps == 0.0
    seen = []
    log_mids = walk(40, 10.0)
    for i, x in enumerate(log_mids):
        vol.update(math.exp(x), T0 + i * NS_PER_S)
        short, medium, long, _ = vol.state[0].sigmas.tolist()
        expected = long or medium or short
        seen.append((long > 0.0, medium > 0.0, short > 0.0))
        assert vol.get().sigma_long_bps == expected
    assert set(seen) == {(False,) * 3, (False, False, True), (False, True, True), (True,) * 3}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e9, -1e9])
def test_a_mid_that_is_no_number_is_ignored(bad: float) -> None:
    row = new_row(vr.VolatilityState())
    before = row.tobytes()
    vr.update(new_row(SMALL)[0], new_row(vr.VolatilityRegimeSettings())[0], row[0], bad, T0)
    assert row.tobytes() == before


@pytest.mark.parametrize("mid", [0.0, -1.0, math.nan])
def test_a_price_that_is_not_positive_is_ignored(mid: float) -> None:
    vol = vr.VolatilityRegime()
    vol.update(mid, T0)
    assert not vol.state[0].has_mid


def test_an_impossible_jump_is_bounded_and_forgotten() -> None:
    log_mids = np.zeros(100)
    log_mids[30:] = 90.0
    out = run(seconds(100), log_mids)
    assert np.isfinite(out).all()
    assert out[32, 1] == Regime.EXTREME
    assert out[-1, 2:].tolist() == [0.0] * 4


# --- gaps and clocks -------------------------------------------------------------------------------------


def test_a_gap_within_the_setting_carries_the_mid() -> None:
    log_mids = walk(60, 10.0)
    times = np.delete(seconds(60), slice(30, 44))
    held = log_mids.copy()
    held[30:44] = held[29]
    out = run(times, np.delete(log_mids, slice(30, 44)))
    np.testing.assert_array_equal(out[-1], run(seconds(60), held)[-1])


def test_a_long_gap_resets_the_coverage_and_holds_the_regime() -> None:
    vol = vr.VolatilityRegime()
    feed(vol, walk(120, 200.0))
    assert vol.get().is_warm
    assert vol.get().regime == Regime.EXTREME
    vol.update(100.0, T0 + 140 * NS_PER_S)
    assert vol.get() == (Regime.EXTREME, Regime.EXTREME, 0.0, 0.0, 0.0, False)
    feed(vol, np.full(30, math.log(100.0)), start_s=141)
    assert vol.get().measured == Regime.EXTREME
    feed(vol, np.full(30, math.log(100.0)), start_s=171)
    assert vol.get().is_warm
    assert vol.get().regime == Regime.CALM


def test_a_late_update_is_ignored_and_a_stepped_clock_starts_anew() -> None:
    vol = vr.VolatilityRegime(SMALL)
    feed(vol, walk(60, 10.0))
    before = vol.state.tobytes()
    vol.update(500.0, T0 + 57 * NS_PER_S)
    assert vol.state.tobytes() == before
    vol.update(100.0, T0 + 10 * NS_PER_S)
    assert not vol.get().is_warm
    feed(vol, walk(20, 10.0), start_s=10)
    assert vol.get().is_warm


# --- the classification ----------------------------------------------------------------------------------


def classify(sigmas: list[float], regimes: vr.VolatilityRegimeSettings) -> list[int]:
    row, params = new_row(vr.VolatilityState()), new_row(regimes)
    seen = []
    for sigma in sigmas:
        row[0].sigmas[0] = sigma
        vr._classify(params[0], row[0])
        seen.append(int(vr.measured_regime(row[0])))
    return seen


@pytest.mark.parametrize(
    ("sigma", "regime"),
    [
        (0.0, Regime.CALM),
        (4.99, Regime.CALM),
        (5.0, Regime.NORMAL),
        (24.99, Regime.NORMAL),
        (25.0, Regime.ELEVATED),
        (59.99, Regime.ELEVATED),
        (60.0, Regime.EXTREME),
        (1e6, Regime.EXTREME),
    ],
)
def test_thresholds(sigma: float, regime: Regime) -> None:
    # NORMAL is where it starts, so CALM comes after the dwell time, and 4.99 is above its exit.
    without = vr.VolatilityRegimeSettings(vol_regime_exit_ratio=1.0, vol_regime_dwell_s=0.0)
    assert classify([sigma], without) == [regime]


def test_rises_at_once_and_falls_after_the_dwell_time_below_the_exit() -> None:
    regimes = vr.VolatilityRegimeSettings(vol_regime_dwell_s=3.0)
    above_exit, below_exit = 0.86 * 60.0, 0.84 * 60.0
    path = [
        70.0,
        above_exit,
        above_exit,
        below_exit,
        below_exit,
        above_exit,
        below_exit,
        below_exit,
        below_exit,
    ]
    assert classify(path, regimes) == [3] * 8 + [2]
    # Back under the threshold it does not count as EXTREME again before it reaches it.
    assert classify([*path, above_exit, 59.9, 60.0], regimes)[-3:] == [2, 2, 3]


def test_each_threshold_has_a_dwell_time_of_its_own() -> None:
    regimes = vr.VolatilityRegimeSettings(vol_regime_dwell_s=3.0)
    assert classify([70.0, 0.0, 0.0, 0.0], regimes) == [3, 3, 3, 0]
    assert classify([70.0, 30.0, 30.0, 10.0, 10.0, 10.0, 1.0, 1.0, 1.0], regimes) == [
        3,
        3,
        3,
        2,
        2,
        1,
        1,
        1,
        0,
    ]


def test_without_dwell_time_it_stays_within_the_band_only() -> None:
    regimes = vr.VolatilityRegimeSettings(vol_regime_dwell_s=0.0)
    assert classify([60.0, 52.0, 50.0, 22.0, 21.0, 4.5, 4.0], regimes) == [3, 3, 2, 2, 1, 1, 0]


@given(
    path=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=40),
    factors=st.lists(st.floats(1.0, 5.0), min_size=40, max_size=40),
)
@settings(max_examples=50, deadline=None)
def test_regime_is_monotone_in_the_volatility(path: list[float], factors: list[float]) -> None:
    regimes = vr.VolatilityRegimeSettings(vol_regime_dwell_s=4.0)
    higher = [sigma * factor for sigma, factor in zip(path, factors, strict=False)]
    low, high = classify(path, regimes), classify(higher, regimes)
    assert all(a <= b for a, b in zip(low, high, strict=True))


@given(seed=st.integers(0, 1000), scale=st.floats(1.0, 10.0))
@settings(max_examples=15, deadline=None)
def test_regime_is_monotone_in_the_scale_of_the_market(seed: int, scale: float) -> None:
    moves = np.cumsum(np.random.default_rng(seed).normal(0.0, 5e-4, 60))
    one, many = run(seconds(60), moves), run(seconds(60), scale * moves)
    assert (one[:, 1] <= many[:, 1]).all()


def test_disabled_regimes_are_measured_but_not_applied() -> None:
    vol = vr.VolatilityRegime(SMALL, vr.VolatilityRegimeSettings(vol_regime_enabled=False))
    feed(vol, walk(60, 200.0))
    assert vol.get().measured == Regime.EXTREME
    assert vol.get().regime == Regime.NORMAL


def test_starts_normal_and_cold() -> None:
    assert vr.VolatilityRegime().get() == (Regime.NORMAL, Regime.NORMAL, 0.0, 0.0, 0.0, False)


# --- the scalings ----------------------------------------------------------------------------------------


def test_scales_by_regime() -> None:
    vol = vr.VolatilityRegime(scales=vr.RegimeScaleSettings(vol_skew_scale_calm=0.9))
    table = {
        vol.scale_offsets: (0.7, 1.0, 2.0, 2.0),
        vol.scale_thresholds: (0.7, 1.0, 2.0, 2.0),
        vol.scale_skew: (0.9, 1.0, 1.5, 1.5),
        vol.scale_limits: (1.0, 1.0, 0.5, 0.5),
        vol.scale_reprice_interval: (1.5, 1.0, 1.0, 1.0),
        vol.scale_order_age: (2.0, 1.0, 0.5, 0.5),
    }
    for scale, expected in table.items():
        assert tuple(scale(regime) for regime in Regime) == expected


def test_defaults_of_the_requirements() -> None:
    params, regimes, scales = (
        vr.VolatilitySettings(),
        vr.VolatilityRegimeSettings(),
        vr.RegimeScaleSettings(),
    )
    assert (params.vol_short_window_s, params.vol_medium_window_s, params.vol_long_window_s) == (60, 300, 900)
    assert regimes.vol_regime_enabled
    assert (regimes.vol_regime_calm_bps, regimes.vol_regime_elevated_bps) == (5, 25)
    assert regimes.vol_regime_extreme_bps == 60
    assert (scales.vol_offset_scale_elevated, scales.vol_offset_scale_calm) == (2.0, 0.7)


@pytest.mark.parametrize(
    ("section", "wrong", "message"),
    [
        (
            vr.VolatilitySettings,
            {"vol_short_window_s": 60.5},
            "vol_short_window_s in whole seconds, was 60.5",
        ),
        (
            vr.VolatilitySettings,
            {"vol_long_window_s": math.nan},
            "vol_long_window_s in whole seconds, was nan",
        ),
        (vr.VolatilitySettings, {"vol_short_return_s": 31.0}, "half its window"),
        (vr.VolatilitySettings, {"vol_medium_return_s": 0.0}, "half its window"),
        (vr.VolatilitySettings, {"vol_long_window_s": 3600.0}, "within 2048 s"),
        (vr.VolatilitySettings, {"vol_short_window_s": 400.0}, "short <= medium <= long"),
        (vr.VolatilitySettings, {"vol_fast_window_s": 1.0}, "vol_fast_window_s from 2"),
        (vr.VolatilitySettings, {"vol_gap_reset_s": 0.0}, "vol_gap_reset_s from 1"),
        (vr.VolatilityRegimeSettings, {"vol_regime_calm_bps": 0.0}, "0 < vol_regime_calm_bps"),
        (vr.VolatilityRegimeSettings, {"vol_regime_elevated_bps": 61.0}, "was (5.0, 61.0, 60.0)"),
        (vr.VolatilityRegimeSettings, {"vol_regime_exit_ratio": 1.1}, "in (0, 1], was 1.1"),
        (vr.VolatilityRegimeSettings, {"vol_regime_dwell_s": -1.0}, "at least 0, was -1"),
        (vr.RegimeScaleSettings, {"vol_skew_scale_calm": 0.0}, "vol_skew_scale_calm above 0, was 0"),
        (vr.RegimeScaleSettings, {"vol_limit_scale_calm": 1.5}, "at most 1, was (1.5, 0.5)"),
    ],
)
def test_a_bad_setting_says_what_was_expected_and_found(section: type, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*, was ") as caught:
        section(**wrong)
    assert message in str(caught.value)


# --- seeds -----------------------------------------------------------------------------------------------


def candles(n: int, sigma_bps: float) -> np.ndarray:
    """Closes whose one-minute returns are all of one size."""
    signs = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    return 100.0 * np.exp(np.cumsum(signs * sigma_bps * 1e-4))


def test_candles_make_it_warm_with_their_volatility() -> None:
    vol = vr.VolatilityRegime()
    vol.seed(candles(30, 80.0))
    reading = vol.get()
    assert reading.is_warm
    assert reading.regime == Regime.EXTREME
    assert reading[2:5] == pytest.approx((80.0, 80.0, 80.0))


def test_a_quiet_hour_of_candles_is_calm_without_dwell_time() -> None:
    vol = vr.VolatilityRegime()
    feed(vol, walk(60, 200.0))
    vol.update(100.0, T0 + 1000 * NS_PER_S)
    assert vol.get().regime == Regime.EXTREME
    vol.seed(candles(30, 2.0))
    assert vol.get().regime == Regime.CALM


def test_each_horizon_takes_its_own_minutes() -> None:
    closes = np.concatenate([candles(20, 90.0), candles(8, 10.0)])
    closes[20:] *= closes[19] / closes[20]
    vol = vr.VolatilityRegime()
    vol.seed(closes)
    short, medium, long, fast = vol.state[0].sigmas.tolist()
    assert (short, medium, fast) == pytest.approx((10.0, 10.0, 10.0))
    assert 10.0 < long < 90.0


def test_live_coverage_replaces_the_seeds_horizon_by_horizon() -> None:
    vol = vr.VolatilityRegime(SMALL)
    vol.seed(candles(30, 80.0))
    feed(vol, np.full(10, math.log(100.0)))
    short, medium, long, _ = vol.state[0].sigmas.tolist()
    assert (short, medium, long) == (0.0, pytest.approx(80.0), pytest.approx(80.0))
    feed(vol, np.full(30, math.log(100.0)), start_s=10)
    assert vol.state[0].sigmas.tolist() == [0.0] * 4


def test_seeds_leave_live_coverage_alone() -> None:
    vol = vr.VolatilityRegime(SMALL)
    feed(vol, walk(30, 10.0))
    before = vol.state.tobytes()
    vol.seed(candles(30, 80.0))
    assert vol.state.tobytes() == before


def test_a_gap_ends_the_seeds() -> None:
    vol = vr.VolatilityRegime(SMALL)
    vol.seed(candles(30, 80.0))
    feed(vol, np.full(2, math.log(100.0)))
    assert vol.get().is_warm
    vol.update(100.0, T0 + 100 * NS_PER_S)
    assert not vol.get().is_warm


@pytest.mark.parametrize(
    "closes",
    [np.zeros(0), np.array([100.0]), np.array([math.nan, 100.0, math.inf, 0.0, -5.0, 1.0])],
)
def test_unsound_closes_seed_nothing(closes: np.ndarray) -> None:
    vol = vr.VolatilityRegime()
    vol.seed(closes)
    assert vol.get() == (Regime.NORMAL, Regime.NORMAL, 0.0, 0.0, 0.0, False)


def test_only_the_first_n_closes_are_read() -> None:
    rows = new_row(SMALL), new_row(vr.VolatilityRegimeSettings()), new_row(vr.VolatilityState())
    closes = np.concatenate([candles(10, 30.0), np.full(10, 1.0)])
    vr.seed(rows[0][0], rows[1][0], rows[2][0], closes, 10)
    assert vr.sigma_bps(rows[2][0]) == pytest.approx(30.0)


# --- compiled and pure -----------------------------------------------------------------------------------


def pure_copy() -> ModuleType:
    """Load the module once more with a decorator that compiles nothing."""
    spec = importlib.util.find_spec(vr.__name__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel_module, "kernel", lambda function: function)
        spec.loader.exec_module(module)
    return module


PURE_COPY = pure_copy()


@pytest.mark.skipif(PURE, reason="compares the pure code with itself")
@given(
    steps=st.lists(st.tuples(st.floats(-0.02, 0.02), st.integers(0, 3 * NS_PER_S)), min_size=30, max_size=60),
    closes=st.lists(st.floats(90.0, 110.0), max_size=20),
)
@settings(max_examples=20, deadline=None)
def test_compiled_equals_pure(steps: list[tuple[float, int]], closes: list[float]) -> None:
    states = []
    for module in (vr, PURE_COPY):
        params, regimes, state = (
            new_row(SMALL),
            new_row(vr.VolatilityRegimeSettings()),
            new_row(vr.VolatilityState()),
        )
        x, now_ns = 4.6, T0
        module.seed(params[0], regimes[0], state[0], np.array(closes), len(closes))
        for move, wait_ns in steps:
            x, now_ns = x + move, now_ns + wait_ns
            module.update(params[0], regimes[0], state[0], x, now_ns)
        states.append(state.tobytes())
    assert states[0] == states[1]


# --- the recordings --------------------------------------------------------------------------------------

SHARES = {
    "standx-btc-2026-01/BTC-USD_book": (0.79, 0.21, 0.0, 0.0),
    "hyperliquid-2025-09-04/BTC_bbo": (0.60, 0.40, 0.0, 0.0),
    "hyperliquid-2025-09-04/ETH_bbo": (0.0, 0.98, 0.02, 0.0),
    "hyperliquid-2025-09-04/SOL_bbo": (0.0, 1.0, 0.0, 0.0),
    "hyperliquid-2025-09-04/WLFI_bbo": (0.0, 0.0, 0.86, 0.14),
}


@pytest.mark.slow
@pytest.mark.skipif(PURE, reason="half a million updates; the same numbers as compiled")
@pytest.mark.skipif(not DATA.is_dir(), reason="recordings are not here")
@pytest.mark.parametrize("name", SHARES)
def test_shares_of_the_regimes_on_recordings(name: str) -> None:
    polars = pytest.importorskip("polars")
    columns = polars.read_parquet(DATA / f"{name}.parquet", columns=["ts", "bid", "ask"]).sort("ts")
    times = columns["ts"].to_numpy()
    mids = (columns["bid"].to_numpy() + columns["ask"].to_numpy()) / 2.0
    out = run(times, np.log(mids), vr.VolatilitySettings())
    # What stands after an event stands until the next one.
    weights = np.diff(times, append=times[-1]) * out[:, 0]
    shares = [float(np.sum(weights * (out[:, 1] == regime)) / np.sum(weights)) for regime in Regime]
    assert shares == pytest.approx(SHARES[name], abs=0.04)
