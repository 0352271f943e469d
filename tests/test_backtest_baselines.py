"""Baselines as rows of a linear quoter: what they quote, and what they refuse to quote from."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker import market_making_models as models
from market_maker.backtest import baselines
from market_maker.backtest.baselines import BaselineRefused, BaselineSettings
from market_maker.backtest.rows import Quoter
from market_maker.fitting.record import Arrivals, Calibration, Volatility
from market_maker.glft_solution import Quoting, exact_offsets


def calibration(a=0.8, k=0.0475, sigma=51.0, **more):
    return Calibration(
        "BTC-USD",
        mid_ticks=617_000.0,
        spread_ticks=1.02,
        volatility=Volatility(sigma_ticks=sigma, sigma_bps=6.4, refused=""),
        arrivals=Arrivals(a_per_s=a, k_per_tick=k, r2=0.98, orders=122, refused=""),
        **more,
    )


def test_the_symmetric_one_quotes_the_width_that_was_found_and_leans_on_nothing():
    row = baselines.quoter(baselines.SYMMETRIC, calibration(symmetric_half_ticks=12.5), 16, 160)
    assert (row.kind, row.half_ticks, row.level_step_ticks, row.skew_ticks) == (
        Quoter.LINEAR,
        12.5,
        12.5,
        0.0,
    )


def test_avellaneda_stoikov_has_its_limit_at_three_deviations_of_its_inventory():
    found = calibration()
    row = baselines.quoter(baselines.AVELLANEDA_STOIKOV, found, 16, 160)
    deviation = 1.0 / math.sqrt(2.0 * found.k_per_tick * row.skew_ticks)
    assert 3.0 * deviation == pytest.approx(10.0)
    gamma = baselines.risk_aversion(found, 10.0, BaselineSettings())
    horizon_s = 140.0 / found.a_per_s
    bid, ask = models.as_quotes(0.0, 4.0, gamma, found.sigma_ticks, found.k_per_tick, horizon_s)
    assert -row.half_ticks - 4.0 * row.skew_ticks == pytest.approx(bid)
    assert row.half_ticks - 4.0 * row.skew_ticks == pytest.approx(ask)
    assert row.level_step_ticks == row.half_ticks


def test_glft_is_the_closed_form_at_the_same_risk_aversion():
    found = calibration()
    row = baselines.quoter(baselines.GLFT, found, 16, 160)
    gamma = baselines.risk_aversion(found, 10.0, BaselineSettings())
    offsets = models.glft_offsets(-3.0, gamma, found.sigma_ticks, found.k_per_tick, found.a_per_s)
    assert (row.half_ticks - 3.0 * row.skew_ticks, row.half_ticks + 3.0 * row.skew_ticks) == pytest.approx(
        offsets
    )


def test_inventory_of_a_linear_quoter_is_spread_as_the_rule_says():
    found = calibration()
    for name in (baselines.AVELLANEDA_STOIKOV, baselines.GLFT):
        row = baselines.quoter(name, found, 16, 160)
        held = np.arange(-60, 61)
        buys, sells = (
            found.a_per_s * np.exp(-found.k_per_tick * (row.half_ticks + sign * held * row.skew_ticks))
            for sign in (1.0, -1.0)
        )
        # Balance of each step of the chain: what goes up from q comes down from q + 1.
        weights = np.exp(np.append(0.0, np.cumsum(np.log(buys[:-1]) - np.log(sells[1:]))))
        variance = (weights @ held**2) / weights.sum()
        assert variance == pytest.approx(1.0 / (2.0 * found.k_per_tick * row.skew_ticks), rel=1e-6)


# σ, A, k as fitted on recordings: a fast major, a wide alt, a fine grid; and the position limit in orders.
FITTED = [(51.26, 0.799, 0.0475), (6.73, 0.321, 0.267), (317.5, 0.118, 0.00324)]


@pytest.mark.parametrize(("sigma", "a", "k"), FITTED)
@pytest.mark.parametrize("limit", [10, 20])
def test_the_line_of_glft_is_near_the_exact_solution(sigma, a, k, limit):
    found = calibration(a, k, sigma)
    row = baselines.quoter(baselines.GLFT, found, 1, limit)
    gamma = baselines.risk_aversion(found, float(limit), BaselineSettings())
    market = Quoting(gamma, sigma, k, a)
    held = np.arange(-limit, limit + 1)
    # Unbounded, as the line assumes: within half a percent of the half-width up to the limit.
    bids, asks = exact_offsets(market, 2 * limit)
    inner = slice(limit, 3 * limit + 1)
    assert bids[inner] == pytest.approx(row.half_ticks + held * row.skew_ticks, abs=0.005 * row.half_ticks)
    assert asks[inner] == pytest.approx(row.half_ticks - held * row.skew_ticks, abs=0.005 * row.half_ticks)
    # Bounded, the solution leans harder as it nears the limit: halfway there, by 6 % of the half-width.
    bids, _ = exact_offsets(market, limit)
    half = slice(limit // 2, limit + limit // 2 + 1)
    assert bids[half] == pytest.approx(
        row.half_ticks + held[half] * row.skew_ticks, abs=0.06 * row.half_ticks
    )


def test_the_line_of_avellaneda_stoikov_is_the_exact_solution_near_its_end():
    found = calibration()
    settings = BaselineSettings(horizon_arrivals=0.05)
    gamma = baselines.risk_aversion(found, 10.0, settings)
    row = baselines.quoter(baselines.AVELLANEDA_STOIKOV, found, 1, 10, settings)
    market = Quoting(gamma, found.sigma_ticks, found.k_per_tick, found.a_per_s)
    bids, _ = exact_offsets(market, 30, 0.05 / found.a_per_s)
    for held in (-10, 0, 10):
        assert bids[30 + held] == pytest.approx(row.half_ticks + held * row.skew_ticks, rel=2e-3)


@pytest.mark.parametrize("name", [baselines.AVELLANEDA_STOIKOV, baselines.GLFT])
def test_a_refused_calibration_gives_no_quotes(name):
    poor = replace(calibration(), arrivals=Arrivals(refused="expected at least 40 taker orders, was 24"))
    with pytest.raises(BaselineRefused, match=rf"BTC-USD: {name} .* at least 40 taker orders, was 24"):
        baselines.quoter(name, poor, 16, 160)
    still = replace(calibration(), volatility=Volatility(refused="expected the mid to move"))
    with pytest.raises(BaselineRefused, match="the mid to move"):
        baselines.quoter(name, still, 16, 160)


def test_a_symmetric_one_without_a_width_or_a_name_that_is_none_is_refused():
    with pytest.raises(BaselineRefused, match="half-width"):
        baselines.quoter(baselines.SYMMETRIC, calibration(), 16, 160)
    with pytest.raises(BaselineRefused, match="was 'as'"):
        baselines.quoter("as", calibration(), 16, 160)


@given(
    st.floats(0.01, 50.0), st.floats(1e-3, 5.0), st.floats(0.01, 1e3), st.integers(1, 50), st.integers(1, 500)
)
def test_quotes_are_apart_and_lean_away_from_the_position(a, k, sigma, size, limit):
    for name in (baselines.AVELLANEDA_STOIKOV, baselines.GLFT):
        row = baselines.quoter(name, calibration(a, k, sigma), size, limit)
        assert math.isfinite(row.half_ticks)
        assert row.half_ticks > 0.0
        assert row.skew_ticks > 0.0
