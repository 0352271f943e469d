"""Regimes: thresholds, dwell times, what is held over a gap, scalings, and the recordings' shares."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_mids import PURE, SMALL, T0, candles, pure_copy, seconds, walk

from market_maker import realised_volatility as rv
from market_maker import volatility_regime as vr
from market_maker.domain import NS_PER_S, Regime
from market_maker.kernel import Row, kernel, new_row

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PURE_COPY = pure_copy(vr)


@kernel
def _run(
    rows: tuple[Row, Row, Row, Row], times_ns: np.ndarray, log_mids: np.ndarray, out: np.ndarray
) -> None:
    """Feed events; a row of `out` is what stands after each: warm, regime measured."""
    params, regimes, volatility, regime = rows
    for i in range(times_ns.size):
        vr.update(params[0], regimes[0], volatility[0], regime[0], log_mids[i], times_ns[i])
        out[i, 0] = rv.is_warm(volatility[0])
        out[i, 1] = vr.measured_regime(regime[0])


def new_rows(params: rv.VolatilitySettings = SMALL) -> tuple[Row, Row, Row, Row]:
    records = params, vr.VolatilityRegimeSettings(), rv.VolatilityState(), vr.RegimeState()
    return tuple(new_row(record) for record in records)


def run(times_ns: np.ndarray, log_mids: np.ndarray, params: rv.VolatilitySettings = SMALL) -> np.ndarray:
    out = np.zeros((times_ns.size, 2))
    _run(new_rows(params), times_ns, log_mids, out)
    return out


def feed(vol: vr.VolatilityRegime, log_mids: np.ndarray, start_s: int = 0) -> None:
    for i, x in enumerate(log_mids):
        vol.update(math.exp(x), T0 + (start_s + i) * NS_PER_S)


# --- what it is fed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mid", [0.0, -1.0, math.nan])
def test_a_price_that_is_not_positive_is_ignored(mid: float) -> None:
    vol = vr.VolatilityRegime()
    vol.update(mid, T0)
    assert not vol.volatility[0].has_mid


# --- gaps and clocks -------------------------------------------------------------------------------------


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


# --- the classification ----------------------------------------------------------------------------------


def classify(sigmas: list[float], regimes: vr.VolatilityRegimeSettings) -> list[int]:
    row, params = new_row(vr.RegimeState()), new_row(regimes)
    seen = []
    for sigma in sigmas:
        vr._classify(params[0], row[0], sigma)
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
    regimes, scales = vr.VolatilityRegimeSettings(), vr.RegimeScaleSettings()
    assert regimes.vol_regime_enabled
    assert (regimes.vol_regime_calm_bps, regimes.vol_regime_elevated_bps) == (5, 25)
    assert regimes.vol_regime_extreme_bps == 60
    assert (scales.vol_offset_scale_elevated, scales.vol_offset_scale_calm) == (2.0, 0.7)


@pytest.mark.parametrize(
    ("section", "wrong", "message"),
    [
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


@pytest.mark.parametrize(
    "closes",
    [np.zeros(0), np.array([100.0]), np.array([math.nan, 100.0, math.inf, 0.0, -5.0, 1.0])],
)
def test_unsound_closes_seed_nothing(closes: np.ndarray) -> None:
    vol = vr.VolatilityRegime()
    vol.seed(closes)
    assert vol.get() == (Regime.NORMAL, Regime.NORMAL, 0.0, 0.0, 0.0, False)


# --- compiled and pure -----------------------------------------------------------------------------------


@pytest.mark.skipif(PURE, reason="compares the pure code with itself")
@given(
    steps=st.lists(st.tuples(st.floats(-0.02, 0.02), st.integers(0, 3 * NS_PER_S)), min_size=30, max_size=60),
    closes=st.lists(st.floats(90.0, 110.0), max_size=20),
)
@settings(max_examples=20, deadline=None)
def test_compiled_equals_pure(steps: list[tuple[float, int]], closes: list[float]) -> None:
    states = []
    for module in (vr, PURE_COPY):
        rows = new_rows()
        records = [row[0] for row in rows]
        x, now_ns = 4.6, T0
        module.seed(*records, np.array(closes), len(closes))
        for move, wait_ns in steps:
            x, now_ns = x + move, now_ns + wait_ns
            module.update(*records, x, now_ns)
        states.append([row.tobytes() for row in rows])
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
    out = run(times, np.log(mids), rv.VolatilitySettings())
    # What stands after an event stands until the next one.
    weights = np.diff(times, append=times[-1]) * out[:, 0]
    shares = [float(np.sum(weights * (out[:, 1] == regime)) / np.sum(weights)) for regime in Regime]
    assert shares == pytest.approx(SHARES[name], abs=0.04)
