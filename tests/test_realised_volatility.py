"""Realised volatility: exact sums against an oracle, coverage, gaps and clocks, seeds from candles."""

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_mids import PURE, SMALL, T0, candles, pure_copy, seconds, walk

from market_maker import realised_volatility as rv
from market_maker.domain import NS_PER_S
from market_maker.kernel import Row, kernel, new_row

PURE_COPY = pure_copy(rv)
HORIZONS = ((8, 2), (20, 3), (40, 5), (6, 1))


@kernel
def _run(params: Row, state: Row, times_ns: np.ndarray, log_mids: np.ndarray, out: np.ndarray) -> None:
    """Feed events; a row of `out` is what stands after each: warm, then the sigmas."""
    for i in range(times_ns.size):
        while rv.advance(params[0], state[0], log_mids[i], times_ns[i]):
            pass
        out[i, 0] = rv.is_warm(state[0])
        for horizon in range(4):
            out[i, 1 + horizon] = state[0].sigmas[horizon]


def run(times_ns: np.ndarray, log_mids: np.ndarray, params: rv.VolatilitySettings = SMALL) -> np.ndarray:
    out = np.zeros((times_ns.size, 5))
    _run(new_row(params), new_row(rv.VolatilityState()), times_ns, log_mids, out)
    return out


class Estimator:
    """The estimator of one market, fed with log mids one a second."""

    def __init__(self, params: rv.VolatilitySettings = SMALL) -> None:
        self.rows = new_row(params), new_row(rv.VolatilityState())
        self.state: rv.VolatilityState = self.rows[1][0]

    @property
    def sigmas(self) -> list[float]:
        return self.state.sigmas.tolist()

    def feed(self, log_mids: Iterable[float], start_s: int = 0) -> None:
        mids = np.array(list(log_mids))
        _run(*self.rows, T0 + (start_s + np.arange(mids.size)) * NS_PER_S, mids, np.zeros((mids.size, 5)))

    def seed(self, closes: np.ndarray) -> bool:
        return rv.seed(self.rows[0][0], self.state, closes, closes.size)


def oracle(grid: np.ndarray, window: int, interval: int) -> float:
    """The formula, literally, over the whole history of the grid; 0 while it does not count."""
    returns = (grid[interval:] - grid[:-interval])[-window:] if grid.size > interval else np.zeros(0)
    if 2 * returns.size < window:
        return 0.0
    return 1e4 * math.sqrt(float(np.sum(returns**2)) / interval / (returns.size / 60.0))


# --- the estimator ---------------------------------------------------------------------------------------


def test_every_prefix_equals_the_formula() -> None:
    log_mids = walk(150, 20.0)
    out = run(seconds(150), log_mids)
    for i in range(150):
        # The mid of the running second is not on the grid yet.
        expected = [oracle(log_mids[:i], *horizon) for horizon in HORIZONS]
        np.testing.assert_allclose(out[i, 1:], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.skipif(PURE, reason="a day of seconds; the same integers as compiled")
def test_a_day_leaves_no_drift_in_the_sums() -> None:
    n = 86_400 + 7
    log_mids = walk(n, 30.0)
    # A violent first hour is what a float sum would remember for ever.
    log_mids[:3600] *= 1.0 + 0.01 * np.sin(np.arange(3600))
    log_mids = np.round(log_mids, 8)
    out = run(seconds(n), log_mids, rv.VolatilitySettings())
    for i in (3600, 7200, n - 1):
        for column, horizon in enumerate(((60, 5), (300, 15), (900, 30), (30, 1))):
            assert out[i, 1 + column] == pytest.approx(oracle(log_mids[:i], *horizon), rel=1e-9)


def test_after_the_violent_part_left_the_window_sums_are_exactly_those_of_the_rest() -> None:
    quiet = walk(120, 5.0)
    violent = quiet + np.where(np.arange(120) < 20, 0.05 * np.sin(np.arange(120)), 0.0)
    state_a, state_b = new_row(rv.VolatilityState()), new_row(rv.VolatilityState())
    out = np.zeros((120, 5))
    _run(new_row(SMALL), state_a, seconds(120), quiet, out)
    _run(new_row(SMALL), state_b, seconds(120), violent, out)
    assert state_a["sums"].tolist() == state_b["sums"].tolist()


def test_the_ring_wraps() -> None:
    n = rv.RING_S + 100
    log_mids = walk(n, 10.0)
    out = run(seconds(n), log_mids) if not PURE else run(seconds(60), log_mids[:60])
    i = out.shape[0] - 1
    assert out[i, 1:] == pytest.approx([oracle(log_mids[:i], *horizon) for horizon in HORIZONS], rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(("window", "interval"), [(900, 30), (1800, 30)])
def test_lesson_15_a_window_reaches_as_far_back_as_it_says(window: int, interval: int) -> None:
    """A wild minute, then calm: the long horizon shows it until its whole window is over, and no longer."""
    wild, last = 60, window + interval + 80
    log_mids = np.concatenate([walk(wild, 200.0), np.zeros(last - wild)])
    log_mids[wild:] = log_mids[wild - 1]
    params = rv.VolatilitySettings(vol_long_window_s=float(window), vol_long_return_s=float(interval))
    long = run(seconds(last), log_mids, params)[:, 3]
    for at in range(window // 2 + interval, last, 45):
        assert long[at] == pytest.approx(oracle(log_mids[:at], window, interval), rel=1e-9, abs=1e-9)
    assert long[window] > 10.0
    assert long[-1] == 0.0


@given(seed=st.integers(0, 1000), scale=st.integers(2, 5))
@settings(max_examples=15, deadline=None)
def test_scaling_all_returns_scales_sigma(seed: int, scale: int) -> None:
    moves = np.cumsum(np.random.default_rng(seed).integers(-5000, 5001, 60))
    one = run(seconds(60), moves * 1e-8)
    many = run(seconds(60), scale * moves * 1e-8)
    np.testing.assert_allclose(many[:, 1:], scale * one[:, 1:], rtol=1e-12)


def test_the_update_rate_does_not_matter() -> None:
    log_mids = walk(80, 10.0)
    sparse = run(seconds(80), log_mids)
    # Each second is seen ten times; its last value is the one that enters the grid.
    times = (seconds(80)[:, None] + np.arange(10)[None, :] * (NS_PER_S // 10)).ravel()
    noise = np.where(np.arange(800) % 10 == 9, 0.0, 0.001)
    dense = run(times, np.repeat(log_mids, 10) + noise)
    np.testing.assert_array_equal(dense[9::10, 1:], sparse[:, 1:])


def test_sigma_is_that_of_one_minute_returns() -> None:
    log_mids = walk(1800, 12.0, seed=3) if not PURE else walk(1000, 12.0, seed=3)
    out = run(seconds(log_mids.size), log_mids, rv.VolatilitySettings())
    assert out[-1, 3] == pytest.approx(12.0, rel=0.25)


def test_a_horizon_counts_once_it_covers_half_its_window() -> None:
    out = run(seconds(45), walk(45, 10.0))
    for column, (window, interval) in enumerate(HORIZONS):
        first = int(np.argmax(out[:, 1 + column] > 0.0))
        assert first == interval + window // 2
    assert int(np.argmax(out[:, 0])) == 2 + 4


def test_the_baseline_falls_back_to_the_longest_horizon_that_counts() -> None:
    vol = Estimator()
    assert rv.sigma_long_bps(vol.state) == 0.0
    seen = []
    for i, x in enumerate(walk(40, 10.0)):
        vol.feed([x], start_s=i)
        short, medium, long, fast = vol.sigmas
        seen.append((long > 0.0, medium > 0.0, short > 0.0))
        assert rv.sigma_long_bps(vol.state) == (long or medium or short)
        assert rv.sigma_bps(vol.state) == max(short, medium)
        assert rv.sigma_fast_bps(vol.state) == fast
    assert set(seen) == {(False,) * 3, (False, False, True), (False, True, True), (True,) * 3}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e9, -1e9])
def test_a_mid_that_is_no_number_is_ignored(bad: float) -> None:
    row = new_row(rv.VolatilityState())
    before = row.tobytes()
    assert not rv.advance(new_row(SMALL)[0], row[0], bad, T0)
    assert row.tobytes() == before


def test_an_impossible_jump_is_bounded_and_forgotten() -> None:
    log_mids = np.zeros(100)
    log_mids[30:] = 90.0
    out = run(seconds(100), log_mids)
    assert np.isfinite(out).all()
    assert out[32, 1] > 1000.0
    assert out[-1, 1:].tolist() == [0.0] * 4


# --- gaps and clocks -------------------------------------------------------------------------------------


def test_a_gap_within_the_setting_carries_the_mid() -> None:
    log_mids = walk(60, 10.0)
    times = np.delete(seconds(60), slice(30, 44))
    held = log_mids.copy()
    held[30:44] = held[29]
    out = run(times, np.delete(log_mids, slice(30, 44)))
    np.testing.assert_array_equal(out[-1], run(seconds(60), held)[-1])


def test_a_long_gap_starts_the_coverage_anew() -> None:
    vol = Estimator()
    vol.feed(walk(120, 200.0))
    assert rv.is_warm(vol.state)
    vol.feed([4.6], start_s=136)
    assert not rv.is_warm(vol.state)
    assert vol.sigmas == [0.0] * 4
    vol.feed(np.full(5, 4.6), start_s=137)
    assert not rv.is_warm(vol.state)
    vol.feed([4.6], start_s=142)
    assert rv.is_warm(vol.state)


def test_a_late_mid_is_ignored_and_a_stepped_clock_starts_anew() -> None:
    vol = Estimator()
    vol.feed(walk(60, 10.0))
    before = vol.rows[1].tobytes()
    vol.feed([6.0], start_s=57)
    assert vol.rows[1].tobytes() == before
    vol.feed([4.6], start_s=10)
    assert not rv.is_warm(vol.state)
    vol.feed(walk(20, 10.0), start_s=10)
    assert rv.is_warm(vol.state)


# --- seeds -----------------------------------------------------------------------------------------------


def test_candles_make_it_warm_with_their_volatility() -> None:
    vol = Estimator(rv.VolatilitySettings())
    assert vol.seed(candles(30, 80.0))
    assert rv.is_warm(vol.state)
    assert vol.sigmas == pytest.approx([80.0] * 4)


def test_each_horizon_takes_its_own_minutes() -> None:
    closes = np.concatenate([candles(20, 90.0), candles(8, 10.0)])
    closes[20:] *= closes[19] / closes[20]
    vol = Estimator(rv.VolatilitySettings())
    assert vol.seed(closes)
    short, medium, long, fast = vol.sigmas
    assert (short, medium, fast) == pytest.approx((10.0, 10.0, 10.0))
    assert 10.0 < long < 90.0


def test_live_coverage_replaces_the_seeds_horizon_by_horizon() -> None:
    vol = Estimator()
    vol.seed(candles(30, 80.0))
    vol.feed(np.full(10, 4.6))
    short, medium, long, _ = vol.sigmas
    assert (short, medium, long) == (0.0, pytest.approx(80.0), pytest.approx(80.0))
    vol.feed(np.full(30, 4.6), start_s=10)
    assert vol.sigmas == [0.0] * 4


def test_seeds_leave_live_coverage_alone() -> None:
    vol = Estimator()
    vol.feed(walk(30, 10.0))
    before = vol.rows[1].tobytes()
    assert not vol.seed(candles(30, 80.0))
    assert vol.rows[1].tobytes() == before


def test_a_gap_ends_the_seeds() -> None:
    vol = Estimator()
    vol.seed(candles(30, 80.0))
    vol.feed(np.full(2, 4.6))
    assert rv.is_warm(vol.state)
    vol.feed([4.6], start_s=100)
    assert not rv.is_warm(vol.state)


@pytest.mark.parametrize(
    "closes",
    [np.zeros(0), np.array([100.0]), np.array([math.nan, 100.0, math.inf, 0.0, -5.0, 1.0])],
)
def test_unsound_closes_seed_nothing(closes: np.ndarray) -> None:
    vol = Estimator()
    assert not vol.seed(closes)
    assert vol.sigmas == [0.0] * 4


def test_only_the_first_n_closes_are_read() -> None:
    vol = Estimator()
    closes = np.concatenate([candles(10, 30.0), np.full(10, 1.0)])
    assert rv.seed(vol.rows[0][0], vol.state, closes, 10)
    assert rv.sigma_bps(vol.state) == pytest.approx(30.0)


# --- the settings ----------------------------------------------------------------------------------------


def test_defaults_of_the_requirements() -> None:
    params = rv.VolatilitySettings()
    assert (params.vol_short_window_s, params.vol_medium_window_s, params.vol_long_window_s) == (60, 300, 900)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"vol_short_window_s": 60.5},
            "vol_short_window_s in whole seconds, was 60.5",
        ),
        (
            {"vol_long_window_s": math.nan},
            "vol_long_window_s in whole seconds, was nan",
        ),
        ({"vol_short_return_s": 31.0}, "half its window"),
        ({"vol_medium_return_s": 0.0}, "half its window"),
        ({"vol_long_window_s": 3600.0}, "within 2048 s"),
        ({"vol_short_window_s": 400.0}, "short <= medium <= long"),
        ({"vol_fast_window_s": 1.0}, "vol_fast_window_s from 2"),
        ({"vol_gap_reset_s": 0.0}, "vol_gap_reset_s from 1"),
    ],
)
def test_a_bad_setting_says_what_was_expected_and_found(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=r"expected .*, was ") as caught:
        rv.VolatilitySettings(**wrong)
    assert message in str(caught.value)


# --- compiled and pure -----------------------------------------------------------------------------------


@pytest.mark.skipif(PURE, reason="compares the pure code with itself")
@given(
    steps=st.lists(st.tuples(st.floats(-0.02, 0.02), st.integers(0, 3 * NS_PER_S)), min_size=30, max_size=60),
    closes=st.lists(st.floats(90.0, 110.0), max_size=20),
)
@settings(max_examples=20, deadline=None)
def test_compiled_equals_pure(steps: list[tuple[float, int]], closes: list[float]) -> None:
    states = []
    for module in (rv, PURE_COPY):
        params, state = new_row(SMALL), new_row(rv.VolatilityState())
        x, now_ns = 4.6, T0
        module.seed(params[0], state[0], np.array(closes), len(closes))
        for move, wait_ns in steps:
            x, now_ns = x + move, now_ns + wait_ns
            while module.advance(params[0], state[0], x, now_ns):
                pass
        states.append(state.tobytes())
    assert states[0] == states[1]
