"""Quotes of Avellaneda & Stoikov and GLFT: published and computed numbers, and what must hold everywhere."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker import market_making_models as models

GAMMA, SIGMA, K = 0.1, 2.0, 1.5


@pytest.mark.parametrize(
    ("inventory", "left_s", "spread", "bid", "ask"),
    [
        (0, 1.0, 1.690770423, 99.154614789, 100.845385211),
        (0, 0.5, 1.490770423, 99.254614789, 100.745385211),
        (1, 1.0, 1.690770423, 98.754614789, 100.445385211),
        (5, 1.0, 1.690770423, 97.154614789, 98.845385211),
        (5, 0.5, 1.490770423, 98.254614789, 99.745385211),
    ],
)
def test_avellaneda_stoikov_vectors(inventory, left_s, spread, bid, ask):
    quotes = models.as_quotes(100.0, float(inventory), GAMMA, SIGMA, K, left_s)
    assert quotes == pytest.approx((bid, ask), abs=1e-9)
    assert 2.0 * models.as_half_spread(GAMMA, SIGMA, K, left_s) == pytest.approx(spread, abs=1e-9)


def test_reservation_prices_lie_around_the_indifference_price():
    bid, ask = models.as_reservations(100.0, 2.0, GAMMA, SIGMA, 0.5)
    assert bid == pytest.approx(100.0 - 5.0 * 0.1 * 4.0 * 0.5 / 2.0)
    assert ask == pytest.approx(100.0 - 3.0 * 0.1 * 4.0 * 0.5 / 2.0)
    assert (bid + ask) / 2.0 == pytest.approx(100.0 - 2.0 * models.as_skew(GAMMA, SIGMA, 0.5))


@pytest.mark.parametrize(
    ("inventory", "bid", "ask"), [(0, 99.917011972, 100.082304992), (3, 99.354614788, 99.543299632)]
)
def test_stationary_vectors(inventory, bid, ask):
    found = models.as_stationary_reservations(100.0, float(inventory), GAMMA, 10.0)
    assert found == pytest.approx((bid, ask), abs=1e-8)


def test_stationary_quotes_at_the_bound():
    assert models.as_stationary_reservations(100.0, 10.0, GAMMA, 10.0)[0] == -math.inf
    # The formula leaves the short side's price finite: s + ln 2 / γ.
    ask = models.as_stationary_reservations(100.0, -10.0, GAMMA, 10.0)[1]
    assert ask == pytest.approx(100.0 + math.log(2.0) / GAMMA)


def test_a_geometric_market_is_an_arithmetic_one_of_the_price_at_short_horizons():
    geometric = models.as_geometric_reservations(100.0, 3.0, GAMMA, 0.02, 1e-6)
    arithmetic = models.as_reservations(100.0, 3.0, GAMMA, 0.02 * 100.0, 1e-6)
    assert np.subtract(geometric, 100.0) == pytest.approx(np.subtract(arithmetic, 100.0), rel=1e-6)
    bid, ask = models.as_geometric_reservations(100.0, 0.0, GAMMA, 0.2, 1.0)
    assert ask - 100.0 == pytest.approx(0.5 * GAMMA * 100.0**2 * (math.exp(0.04) - 1.0))
    assert 100.0 - bid == pytest.approx(ask - 100.0)


ROWS = [
    (0.3, 0.9, 0.3, 3.278982, 0.067866, (3.312915, 3.312915), (3.380781, 3.245049), (3.652244, 2.973586)),
    (0.4, 0.9, 0.3, 3.278982, 0.090488, (3.324226, 3.324226), (3.414714, 3.233738), (3.776665, 2.871787)),
    (1.0, 0.2, 0.3, 3.278982, 0.479884, (3.518924, 3.518924), (3.998808, 3.039040), (5.918344, 1.119505)),
    (0.6, 0.9, 0.9, 1.104984, 0.077937, (1.143952, 1.143952), (1.221889, 1.066015), (1.533636, 0.754268)),
]


@pytest.mark.parametrize(("sigma", "a", "k", "base", "skew", "flat", "one", "five"), ROWS)
def test_glft_closed_form_vectors(sigma, a, k, base, skew, flat, one, five):
    assert models.spread_base(0.01, k) == pytest.approx(base, abs=1e-6)
    assert models.glft_skew(0.01, sigma, k, a) == pytest.approx(skew, abs=1e-6)
    for inventory, offsets in ((0.0, flat), (1.0, one), (5.0, five)):
        found = models.glft_offsets(inventory, 0.01, sigma, k, a)
        assert found == pytest.approx(offsets, abs=1e-6)
        assert models.glft_offsets(-inventory, 0.01, sigma, k, a) == pytest.approx(found[::-1])


def test_glft_with_drift_and_with_adverse_selection():
    bid, ask = models.glft_offsets(0.0, 0.01, 0.3, 0.3, 0.9)
    shift = models.glft_drift_shift(0.01, 0.3, 0.001, models.glft_skew(0.01, 0.3, 0.3, 0.9))
    assert (bid - shift, ask + shift) == pytest.approx((3.237509, 3.388322), abs=1e-6)
    assert models.glft_adverse_offsets(0.0, 0.01, 0.3, 0.3, 0.9, 0.5) == pytest.approx(
        [3.564212] * 2, abs=1e-6
    )
    assert models.glft_adverse_offsets(2.0, 0.01, 0.3, 0.3, 0.9, 0.0) == pytest.approx(
        models.glft_offsets(2.0, 0.01, 0.3, 0.3, 0.9)
    )


def test_the_numbers_of_the_hftbacktest_tutorial():
    a, k, gamma, sigma = 2.986162360812285, 0.04235741115084049, 0.05, 10.69
    skew = models.glft_skew(gamma, sigma, k, a)
    assert skew == pytest.approx(9.76326865029227, rel=1e-13)
    assert models.spread_base(gamma, k) + skew / 2.0 == pytest.approx(20.47208533844371, rel=1e-13)


def test_orders_of_one_unit_are_glft_and_larger_ones_count_in_units():
    assert models.sized_glft_offsets(3.0, 0.01, 0.3, 0.3, 0.9, 1.0) == pytest.approx(
        models.glft_offsets(3.0, 0.01, 0.3, 0.3, 0.9)
    )
    # Three orders of 4 units, risk averse in units: the same as orders of one with four times the aversion.
    assert models.sized_glft_offsets(12.0, 0.01, 0.3, 0.3, 0.9, 4.0) == pytest.approx(
        models.glft_offsets(3.0, 0.04, 0.3, 0.3, 0.9)
    )


def test_without_risk_aversion_the_base_is_one_over_k_and_nothing_leans():
    assert models.spread_base(0.0, 0.25) == 4.0
    assert models.spread_base(1e-12, 0.25) == pytest.approx(4.0)
    assert models.glft_offsets(7.0, 0.0, 1.0, 0.25, 1.0) == (4.0, 4.0)


GAMMAS = st.floats(1e-4, 1.0)
SIGMAS = st.floats(1e-2, 100.0)
KS = st.floats(1e-2, 10.0)
RATES = st.floats(1e-2, 1e3)
HELD = st.integers(-20, 20)


@given(GAMMAS, SIGMAS, KS, RATES, HELD)
def test_a_longer_position_never_raises_a_quote(gamma, sigma, k, a, inventory):
    now = models.glft_offsets(float(inventory), gamma, sigma, k, a)
    longer = models.glft_offsets(inventory + 1.0, gamma, sigma, k, a)
    assert longer[0] >= now[0]
    assert longer[1] <= now[1]
    bid, ask = models.as_quotes(0.0, float(inventory), gamma, sigma, k, 10.0)
    bid_longer, ask_longer = models.as_quotes(0.0, inventory + 1.0, gamma, sigma, k, 10.0)
    assert bid_longer <= bid < ask
    assert ask_longer <= ask


@given(GAMMAS, SIGMAS, KS, RATES, HELD)
def test_without_drift_long_and_short_mirror_each_other(gamma, sigma, k, a, inventory):
    long, short = (models.glft_offsets(sign * inventory, gamma, sigma, k, a) for sign in (1.0, -1.0))
    assert long == pytest.approx(short[::-1], rel=1e-9)
    bid, ask = models.as_quotes(0.0, float(inventory), gamma, sigma, k, 5.0)
    assert models.as_quotes(0.0, float(-inventory), gamma, sigma, k, 5.0) == pytest.approx(
        (-ask, -bid), rel=1e-9
    )


# Avellaneda & Stoikov (2008), tables 1 to 3: spread, profit, its deviation, deviation of the final inventory.
TABLES = [
    (0.1, True, 1.49, 65.0, 6.6, 2.9),
    (0.1, False, 1.49, 68.4, 12.7, 8.4),
    (0.01, True, 1.35, 68.6, 8.7, 5.1),
    (0.01, False, 1.35, 68.8, 12.8, 8.7),
    (1.0, True, 3.02, 31.4, 5.0, 1.7),
    (1.0, False, 3.02, 44.0, 11.0, 5.1),
]
PATHS, STEP_S, STEPS, RATE = 1000, 0.005, 200, 140.0


def session(gamma, *, leans, seed):
    """Play the paper's session on many paths: mean spread, profits and final inventories.

    A step's order is filled with probability λ·dt, literally, as the paper's numbers require: 1 − exp(−λ·dt)
    gives 4 to 12 % less profit.
    """
    rng = np.random.default_rng(seed)
    mid, cash, held = np.full(PATHS, 100.0), np.zeros(PATHS), np.zeros(PATHS)
    lefts = 1.0 - STEP_S * np.arange(STEPS)
    halves = [models.as_half_spread(gamma, SIGMA, K, left) for left in lefts]
    for left, half in zip(lefts, halves, strict=True):
        lean = held * models.as_skew(gamma, SIGMA, left) if leans else 0.0
        width = half if leans else np.mean(halves)
        bid, ask = width + lean, width - lean
        buys, sells = (rng.random(PATHS) < RATE * np.exp(-K * d) * STEP_S for d in (bid, ask))
        cash += sells * (mid + ask) - buys * (mid - bid)
        held += buys.astype(float) - sells
        mid += SIGMA * math.sqrt(STEP_S) * np.where(rng.random(PATHS) < 0.5, 1.0, -1.0)
    return 2.0 * np.mean(halves), cash + held * mid, held


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "leans", "spread", "profit", "deviation", "held_deviation"), TABLES)
def test_the_published_tables(gamma, leans, spread, profit, deviation, held_deviation):
    found_spread, profits, held = session(gamma, leans=leans, seed=2008)
    assert found_spread == pytest.approx(spread, abs=0.02)
    # Both means are of 1,000 paths.
    error = math.hypot(profits.std(), deviation) / math.sqrt(PATHS)
    assert profits.mean() == pytest.approx(profit, abs=3.0 * error)
    assert profits.std() == pytest.approx(deviation, rel=0.15)
    assert held.std() == pytest.approx(held_deviation, rel=0.15)
    assert abs(held.mean()) < 3.0 * math.sqrt(2.0) * held_deviation / math.sqrt(PATHS)
