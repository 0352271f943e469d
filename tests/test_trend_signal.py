"""Trend: the means against their formula, the score's distribution, rates, warm-up, and a recording."""

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
from market_maker import realised_volatility as rv
from market_maker import trend_signal as ts
from market_maker.domain import NS_PER_S, Direction
from market_maker.kernel import Row, kernel, new_row

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PURE = os.environ.get("NUMBA_DISABLE_JIT") == "1"
T0 = 1_700_000_000 * NS_PER_S
SMALL = ts.TrendSettings(trend_fast_ema_s=5.0, trend_slow_ema_s=20.0, trend_rms_s=100.0)


@kernel
def _run(
    params: Row, state: Row, times_ns: np.ndarray, log_mids: np.ndarray, sigma_bps: float, out: np.ndarray
) -> None:
    """Feed events; a row of `out` is what stands after each: direction, strength, z, quotient, fast, slow."""
    for i in range(times_ns.size):
        ts.update(params[0], state[0], log_mids[i], sigma_bps, times_ns[i])
        out[i, 0] = ts.direction(params[0], state[0])
        out[i, 1] = ts.strength(params[0], state[0])
        out[i, 2] = state[0].z
        out[i, 3] = state[0].quotient
        out[i, 4] = state[0].fast
        out[i, 5] = state[0].slow


def run(
    times_ns: np.ndarray,
    log_mids: np.ndarray,
    sigma_bps: float = 10.0,
    params: ts.TrendSettings = SMALL,
) -> np.ndarray:
    out = np.zeros((times_ns.size, 6))
    _run(new_row(params), new_row(ts.TrendState()), times_ns, log_mids, sigma_bps, out)
    return out


@kernel
def _run_with_volatility(
    rows: tuple[Row, Row, Row, Row, Row], times_ns: np.ndarray, log_mids: np.ndarray, out: np.ndarray
) -> None:
    """Feed both signals as the bot does; `out` gets z (not a number while there is none) and strength."""
    vol, vol_state, trend, trend_state = rows
    for i in range(times_ns.size):
        while rv.advance(vol[0], vol_state[0], log_mids[i], times_ns[i]):
            pass
        ts.update(trend[0], trend_state[0], log_mids[i], rv.sigma_long_bps(vol_state[0]), times_ns[i])
        covered = trend_state[0].covered_s >= trend[0].trend_slow_ema_s
        out[i, 0] = trend_state[0].z if covered else math.nan
        out[i, 1] = ts.strength(trend[0], trend_state[0])


def run_with_volatility(times_ns: np.ndarray, log_mids: np.ndarray) -> np.ndarray:
    out = np.zeros((times_ns.size, 2))
    rows = (
        new_row(rv.VolatilitySettings()),
        new_row(rv.VolatilityState()),
        new_row(ts.TrendSettings()),
        new_row(ts.TrendState()),
    )
    _run_with_volatility(rows, times_ns, log_mids, out)
    return out


def seconds(n: int, rate_hz: float = 1.0) -> np.ndarray:
    return T0 + np.round(np.arange(n) * (NS_PER_S / rate_hz)).astype(np.int64)


def walk(n: int, sigma_bps: float, seed: int = 1) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(0.0, sigma_bps * 1e-4 / math.sqrt(60.0), n)
    return np.cumsum(steps)


def ramp(bps_per_s: float, seconds_: float, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    times = seconds(int(seconds_ * rate_hz) + 1, rate_hz)
    return times, (times - T0) / NS_PER_S * bps_per_s * 1e-4


# --- the score -------------------------------------------------------------------------------------------


def test_every_prefix_equals_the_formula() -> None:
    rng = np.random.default_rng(5)
    times = T0 + np.cumsum(rng.integers(1, 3 * NS_PER_S, 80))
    log_mids = walk(80, 20.0)
    out = run(times, log_mids)
    ages = (times[:, None] - times[None, :]) / NS_PER_S
    quotients, mean_square = np.zeros(80), 1.0
    for i in range(80):
        means = []
        for tau in (5.0, 20.0):
            # The mid j stood from its time to the next one's; before the first it always stood there.
            kernels = np.exp(-ages[i, : i + 1] / tau)
            means.append(log_mids[0] * kernels[0] + np.sum(log_mids[:i] * np.diff(kernels)))
        assert out[i, 4:] == pytest.approx(means, abs=1e-12)
        sd_bps = 10.0 / math.sqrt(60.0) * (20.0 - 5.0) / math.sqrt(2.0 * (20.0 + 5.0))
        quotients[i] = 1e4 * (means[0] - means[1]) / sd_bps
        assert out[i, 3] == pytest.approx(quotients[i], abs=1e-9)
        if i > 0 and ages[i - 1, 0] >= 20.0:
            alpha = 1.0 - math.exp(-ages[i, i - 1] / 100.0)
            mean_square += alpha * (min(quotients[i - 1] ** 2, 9.0) - mean_square)
        assert out[i, 2] == pytest.approx(quotients[i] / math.sqrt(max(1.0, mean_square)), abs=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(PURE, reason="a hundred thousand updates; the same numbers as compiled")
def test_the_quotient_is_standard_normal_on_a_random_walk() -> None:
    out = run(seconds(200_000), walk(200_000, 12.0), 12.0, ts.TrendSettings())[600:]
    assert out[:, 3].std() == pytest.approx(1.0, abs=0.06)
    assert float(np.mean(np.abs(out[:, 2]) > 2.0)) == pytest.approx(0.045, abs=0.02)


@pytest.mark.slow
def test_the_same_ramp_has_the_same_strength_at_any_rate() -> None:
    # About two standard deviations: neither in the dead zone nor saturated.
    sparse = run(*ramp(0.1, 900.0, 0.5), 10.0, ts.TrendSettings())
    dense = run(*ramp(0.1, 900.0, 10.0 if PURE else 100.0), 10.0, ts.TrendSettings())
    assert sparse[-1, 0] == dense[-1, 0] == Direction.BULLISH
    assert 0.4 < sparse[-1, 1] < 0.7
    assert sparse[-1, 1] == pytest.approx(dense[-1, 1], rel=1e-3)


@given(extra=st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_a_repeated_mid_changes_nothing(extra: list[float]) -> None:
    times, log_mids = seconds(40), walk(40, 20.0)
    repeats = [T0 + int((20.0 + share) * NS_PER_S) for share in sorted(extra)]
    dense_times = np.insert(times, 21, repeats)
    dense_mids = np.insert(log_mids, 21, np.full(len(repeats), log_mids[20]))
    # Only the mean square's sampling of the quotient differs, in the noise.
    np.testing.assert_allclose(run(dense_times, dense_mids)[-1], run(times, log_mids)[-1], atol=1e-3)
    np.testing.assert_allclose(run(dense_times, dense_mids)[-1, 3:], run(times, log_mids)[-1, 3:], atol=1e-9)


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 10.0))
@settings(max_examples=20, deadline=None)
def test_z_does_not_depend_on_the_scale_of_the_market(seed: int, scale: float) -> None:
    log_mids = walk(60, 10.0, seed)
    one, many = run(seconds(60), log_mids, 10.0), run(seconds(60), scale * log_mids, scale * 10.0)
    np.testing.assert_allclose(many[:, 2], one[:, 2], atol=1e-9)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_mirror_image_has_the_opposite_direction(seed: int) -> None:
    log_mids = walk(60, 30.0, seed)
    up, down = run(seconds(60), log_mids), run(seconds(60), -log_mids)
    np.testing.assert_array_equal(up[:, 0], -down[:, 0])
    np.testing.assert_array_equal(up[:, 1], down[:, 1])


def test_a_restless_market_is_normalised_but_a_calm_one_is_not_magnified() -> None:
    out = run(seconds(400), walk(400, 40.0), 10.0)
    assert np.mean(np.abs(out[200:, 2])) < 0.8 * np.mean(np.abs(out[200:, 3]))
    out = run(seconds(400), walk(400, 5.0), 10.0)
    np.testing.assert_array_equal(out[200:, 2], out[200:, 3])


def test_a_trend_does_not_normalise_itself_away() -> None:
    noise = walk(3600, 6.0)
    log_mids = noise + np.maximum(0.0, np.arange(3600) - 3000.0) * 2e-4
    keep = slice(None) if not PURE else slice(2400, None)
    out = run_with_volatility(seconds(3600)[keep], log_mids[keep])
    # Ten minutes of 2 bps a second: strong soon after its start, and still at its end.
    assert (out[-480:, 1] > 0.5).all()


# --- direction and strength ------------------------------------------------------------------------------


def reading(
    z: float, params: ts.TrendSettings | None = None, covered_s: float = 300.0
) -> tuple[int, float, bool]:
    rows = (
        new_row(params or ts.TrendSettings()),
        new_row(ts.TrendState(z=z, covered_s=covered_s, initialised=True)),
    )
    records = rows[0][0], rows[1][0]
    return ts.direction(*records), ts.strength(*records), ts.is_strong(*records)


@pytest.mark.parametrize(
    ("z", "expected"),
    [
        (0.0, (Direction.NEUTRAL, 0.0, False)),
        (0.99, (Direction.NEUTRAL, 0.2475, False)),
        (1.0, (Direction.BULLISH, 0.25, False)),
        (-1.0, (Direction.BEARISH, 0.25, False)),
        (2.0, (Direction.BULLISH, 0.5, False)),
        (2.01, (Direction.BULLISH, 0.5025, True)),
        (-2.01, (Direction.BEARISH, 0.5025, True)),
        (4.0, (Direction.BULLISH, 1.0, True)),
        (-400.0, (Direction.BEARISH, 1.0, True)),
    ],
)
def test_table(z: float, expected: tuple[int, float, bool]) -> None:
    assert reading(z) == pytest.approx(expected)


def test_without_dead_zone_zero_has_no_direction() -> None:
    params = ts.TrendSettings(trend_dead_zone=0.0)
    assert reading(0.0, params)[0] == Direction.NEUTRAL
    assert reading(0.01, params)[0] == Direction.BULLISH


def test_a_dead_zone_above_the_threshold_is_never_strong() -> None:
    assert reading(3.0, ts.TrendSettings(trend_dead_zone=3.5)) == (Direction.NEUTRAL, 0.75, False)


def test_disabled_or_uncovered_is_neutral() -> None:
    assert reading(4.0, ts.TrendSettings(trend_enabled=False)) == (Direction.NEUTRAL, 0.0, False)
    assert reading(4.0, covered_s=299.9) == (Direction.NEUTRAL, 0.0, False)
    assert reading(4.0, covered_s=300.0) == (Direction.BULLISH, 1.0, True)


@given(a=st.floats(-10.0, 10.0), b=st.floats(-10.0, 10.0))
@settings(max_examples=50, deadline=None)
def test_direction_and_strength_are_monotone(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert reading(low)[0] <= reading(high)[0]
    assert 0.0 <= reading(a)[1] <= 1.0
    if abs(a) <= abs(b):
        assert reading(a)[1] <= reading(b)[1]


# --- warm-up, gaps, bad input ----------------------------------------------------------------------------


def test_a_start_far_from_zero_is_no_trend() -> None:
    out = run(seconds(60), np.full(60, 11.5))
    np.testing.assert_allclose(out[:, 2], 0.0, atol=1e-6)
    assert not out[:, 0].any()


def test_nothing_before_the_slow_mean_is_covered() -> None:
    out = run(*ramp(5.0, 40.0, 1.0))
    assert not out[:20, :2].any()
    assert (out[20:, 0] == Direction.BULLISH).all()


def test_a_gap_starts_anew_but_keeps_the_nature_of_the_market() -> None:
    row, params = new_row(ts.TrendState()), new_row(SMALL)
    for now_ns, x in zip(*ramp(5.0, 40.0, 1.0), strict=True):
        ts.update(params[0], row[0], float(x), 10.0, int(now_ns))
    nature = float(row[0].mean_square)
    assert nature > 1.0
    ts.update(params[0], row[0], 1.0, 10.0, T0 + 60 * NS_PER_S)
    assert (row[0].fast, row[0].slow, row[0].z, row[0].covered_s) == (1.0, 1.0, 0.0, 0.0)
    assert row[0].mean_square == nature
    ts.update(params[0], row[0], 2.0, 10.0, T0)  # the clock was stepped back
    assert (row[0].fast, row[0].covered_s) == (2.0, 0.0)


@pytest.mark.parametrize(("log_mid", "now_ns"), [(math.nan, T0 + 9), (math.inf, T0 + 9), (0.5, T0 - 1)])
def test_what_is_no_number_or_out_of_order_is_ignored(log_mid: float, now_ns: int) -> None:
    row, params = new_row(ts.TrendState()), new_row(SMALL)
    ts.update(params[0], row[0], 0.1, 10.0, T0)
    before = row.tobytes()
    ts.update(params[0], row[0], log_mid, 10.0, now_ns)
    assert row.tobytes() == before


@pytest.mark.parametrize("sigma_bps", [0.0, -1.0, math.nan, math.inf])
def test_without_a_volatility_there_is_no_trend(sigma_bps: float) -> None:
    out = run(*ramp(5.0, 40.0, 1.0), sigma_bps)
    assert not out[:, :4].any()


def test_of_two_mids_at_one_instant_the_last_one_holds() -> None:
    row, params = new_row(ts.TrendState()), new_row(SMALL)
    for x in (0.1, 0.2, 0.3):
        ts.update(params[0], row[0], x, 10.0, T0)
    assert (row[0].log_mid, row[0].fast) == (0.3, 0.1)


# --- settings, instrument --------------------------------------------------------------------------------


def test_defaults_of_the_requirements() -> None:
    params = ts.TrendSettings()
    assert params.trend_enabled
    assert (params.trend_fast_ema_s, params.trend_slow_ema_s) == (60, 300)
    assert (params.trend_strong_threshold, params.trend_skew_multiplier) == (0.5, 2.0)
    assert params.trend_size_reduction == 0.5
    assert (params.trend_mode, params.trend_size_growth) == (ts.TrendMode.FOLLOW, 1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trend_fast_ema_s": 300.0}, "0 < trend_fast_ema_s < trend_slow_ema_s, was (300.0, 300.0)"),
        ({"trend_strong_threshold": 1.5}, "trend_strong_threshold in [0, 1], was 1.5"),
        ({"trend_skew_multiplier": 0.5}, "trend_skew_multiplier of at least 1"),
        ({"trend_size_reduction": -0.1}, "trend_size_reduction in [0, 1]"),
        ({"trend_size_growth": 0.9}, "trend_size_growth of at least 1"),
        ({"trend_dead_zone": -1.0}, "trend_dead_zone of at least 0"),
        ({"trend_strength_divisor": 0.0}, "trend_strength_divisor above 0"),
        ({"trend_rms_s": 299.0}, "trend_rms_s of at least trend_slow_ema_s"),
        ({"trend_gap_reset_s": math.nan}, "trend_gap_reset_s above 0, was nan"),
    ],
)
def test_a_bad_setting_says_what_was_expected_and_found(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*, was ") as caught:
        ts.TrendSettings(**wrong)  # type: ignore[arg-type]  # floats only
    assert message in str(caught.value)


def test_the_instrument() -> None:
    trend = ts.TrendSignal(SMALL)
    assert trend.get() == (Direction.NEUTRAL, 0.0, False, 0.0)
    for second in range(60):
        trend.update(100.0 * math.exp(-1e-3 * second), 10.0, T0 + second * NS_PER_S)
    trend.update(-1.0, 10.0, T0 + 61 * NS_PER_S)
    assert (trend.direction(), trend.strength(), trend.is_strong()) == (Direction.BEARISH, 1.0, True)
    assert trend.get()[:3] == (Direction.BEARISH, 1.0, True)
    assert trend.get().z < -4.0


# --- compiled and pure -----------------------------------------------------------------------------------


def pure_copy() -> ModuleType:
    """Load the module once more with a decorator that compiles nothing."""
    spec = importlib.util.find_spec(ts.__name__)
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
    steps=st.lists(st.tuples(st.floats(-0.01, 0.01), st.integers(0, 3 * NS_PER_S)), min_size=30, max_size=60)
)
@settings(max_examples=20, deadline=None)
def test_compiled_equals_pure(steps: list[tuple[float, int]]) -> None:
    seen = []
    for module in (ts, PURE_COPY):
        params, state = new_row(SMALL), new_row(ts.TrendState())
        x, now_ns, path = 4.6, T0, []
        for move, wait_ns in steps:
            x, now_ns = x + move, now_ns + wait_ns
            module.update(params[0], state[0], x, 10.0, now_ns)
            path.append((module.direction(params[0], state[0]), module.strength(params[0], state[0])))
        seen.append((path, state.tobytes()))
    assert seen[0] == seen[1]


# --- the recordings --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(PURE, reason="four hundred thousand updates; the same numbers as compiled")
@pytest.mark.skipif(not DATA.is_dir(), reason="recordings are not here")
def test_two_sigma_is_as_rare_as_it_should_be_on_a_recording() -> None:
    polars = pytest.importorskip("polars")
    path = DATA / "standx-btc-2026-01" / "BTC-USD_book.parquet"
    columns = polars.read_parquet(path, columns=["ts", "bid", "ask"]).sort("ts")
    times = columns["ts"].to_numpy()
    mids = (columns["bid"].to_numpy() + columns["ask"].to_numpy()) / 2.0
    z = run_with_volatility(times, np.log(mids))[:, 0]
    weights = np.diff(times, append=times[-1]) * np.isfinite(z)
    share = float(np.sum(weights * (np.abs(z) > 2.0)) / np.sum(weights))
    assert 0.03 <= share <= 0.08
