"""The exact solutions: computed reference numbers, their ends, and how far the closed form is from them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import market_making_models as models
from market_maker.glft_solution import (
    Portfolio,
    QuotedMarkets,
    Quoting,
    exact_offsets,
    gamma_cross,
    model_values_usd,
    portfolio_offsets,
    portfolio_skew,
)

Q = 30
FIRST = Quoting(gamma=0.01, sigma=0.3, k=0.3, a_per_s=0.9)
ROWS = [
    (FIRST, (3.313045, 3.313045), (3.381168, 3.244919), (3.653480, 2.972522)),
    (Quoting(0.01, 0.4, 0.3, 0.9), (3.324458, 3.324458), (3.415401, 3.233506), (3.778746, 2.869957)),
    (Quoting(0.01, 1.0, 0.3, 0.2), (3.525651, 3.525651), (4.017546, 3.032313), (5.918517, 1.100245)),
    (Quoting(0.01, 0.6, 0.9, 0.9), (1.144474, 1.144474), (1.223403, 1.065493), (1.536590, 0.751100)),
    (
        Quoting(0.01, 0.3, 0.3, 0.9, drift=0.001),
        (3.237350, 3.388737),
        (3.305476, 3.320615),
        (3.577881, 3.048155),
    ),
    (
        Quoting(0.01, 0.3, 0.3, 0.9, jump=0.5),
        (3.564352, 3.564352),
        (3.635088, 3.493612),
        (3.917831, 3.210773),
    ),
]


@pytest.mark.parametrize(("market", "flat", "one", "five"), ROWS)
@pytest.mark.parametrize("left_s", [600.0, math.inf])
def test_reference_vectors(market, flat, one, five, left_s):
    bids, asks = exact_offsets(market, Q, left_s)
    for inventory, expected in ((0, flat), (1, one), (5, five)):
        assert (bids[Q + inventory], asks[Q + inventory]) == pytest.approx(expected, abs=1.5e-6)


def test_near_the_end_the_offsets_are_those_of_avellaneda_and_stoikov():
    # To first order in the time left, their expansion (models.md, section 2).
    left_s = 1e-3
    bids, asks = exact_offsets(FIRST, Q, left_s)
    base, risk = models.spread_base(FIRST.gamma, FIRST.k), models.as_skew(FIRST.gamma, FIRST.sigma, left_s)
    for inventory in (-5, 0, 5):
        assert bids[Q + inventory] - base == pytest.approx((0.5 + inventory) * risk, rel=1e-3)
        assert asks[Q + inventory] - base == pytest.approx((0.5 - inventory) * risk, rel=1e-3)


def test_at_the_end_only_the_spread_is_left():
    bids, asks = exact_offsets(FIRST, 3, 0.0)
    assert bids[:-1] == pytest.approx([models.spread_base(0.01, 0.3)] * 6)
    assert bids[-1] == asks[0] == math.inf


def test_the_closed_form_is_near_the_solution_where_a_baseline_quotes():
    # Two deviations of the model's inventory, within a hundredth of the half-width.
    for market in (row[0] for row in ROWS[:4]):
        skew = models.glft_skew(market.gamma, market.sigma, market.k, market.a_per_s)
        reach = min(int(2.0 / math.sqrt(2.0 * market.k * skew)), 10)
        bids, asks = exact_offsets(market, Q)
        for inventory in range(-reach, reach + 1):
            bid, ask = models.glft_offsets(
                float(inventory), market.gamma, market.sigma, market.k, market.a_per_s
            )
            half = (bid + ask) / 2.0
            assert bids[Q + inventory] == pytest.approx(bid, abs=0.01 * half)
            assert asks[Q + inventory] == pytest.approx(ask, abs=0.01 * half)


@settings(deadline=None, max_examples=50)
@given(st.floats(1e-3, 0.5), st.floats(0.05, 3.0), st.floats(0.05, 2.0), st.floats(0.05, 50.0))
def test_exact_offsets_lean_with_inventory_and_mirror(gamma, sigma, k, a):
    bids, asks = exact_offsets(Quoting(gamma, sigma, k, a), 10)
    assert np.all(np.isfinite(bids[:-1]))
    assert np.all(np.diff(bids[:-1]) > 0.0)
    assert np.all(np.diff(asks[1:]) < 0.0)
    assert bids[:-1] == pytest.approx(asks[:0:-1], rel=1e-7, abs=1e-9)


THREE = Portfolio(
    gamma=0.01,
    xi=0.01,
    covariance=np.outer((1.0, 1.3, 1.8), (1.0, 1.3, 1.8))
    * np.array([[1.0, 0.85, 0.8], [0.85, 1.0, 0.75], [0.8, 0.75, 1.0]]),
    a_per_s=np.array([1.0, 0.8, 0.5]),
    k=np.array([0.5, 0.4, 0.3]),
    size=np.ones(3),
)


def test_three_markets():
    skew = portfolio_skew(THREE)
    assert skew == pytest.approx(
        np.array(
            [
                [0.13396653, 0.0925057, 0.11648378],
                [0.0925057, 0.2260398, 0.13234917],
                [0.11648378, 0.13234917, 0.46411996],
            ]
        ),
        abs=1e-7,
    )
    bids, asks = portfolio_offsets(THREE, np.array([3.0, -1.0, 0.0]))
    assert bids == pytest.approx([2.3566399, 2.63375845, 3.72814442], abs=1e-7)
    assert asks == pytest.approx([1.73785209, 2.53080387, 3.2939401], abs=1e-7)


CREDIT = Portfolio(
    gamma=6e-5,
    xi=6e-5,
    covariance=np.outer((5.83e-6, 2.15e-5), (5.83e-6, 2.15e-5)) * np.array([[1.0, 0.9], [0.9, 1.0]]),
    a_per_s=np.array([9.10e-4, 1.06e-3]),
    k=np.array([1.79e4, 5.47e3]),
    size=np.array([50e6, 10e6]),
)


def test_two_credit_indices():
    two = CREDIT
    assert portfolio_skew(two) == pytest.approx(
        np.array([[1.62739712e-12, 3.76500230e-12], [3.76500230e-12, 2.21714947e-11]]), rel=1e-7
    )
    bids, asks = portfolio_offsets(two, np.array([50e6, 0.0]))
    assert bids == pytest.approx([1.7370e-4, 4.7257e-4], rel=1e-4)
    assert asks == pytest.approx([1.09646e-5, 9.60740e-5], rel=1e-5)


def test_one_market_alone_is_the_sized_closed_form():
    one = Portfolio(0.01, 0.01, np.array([[0.09]]), np.array([0.9]), np.array([0.3]), np.array([4.0]))
    bids, asks = portfolio_offsets(one, np.array([12.0]))
    expected = models.sized_glft_offsets(12.0, 0.01, 0.3, 0.3, 0.9, 4.0)
    assert (bids[0], asks[0]) == pytest.approx(expected)


def test_markets_that_do_not_move_together_do_not_lean_on_each_other():
    apart = Portfolio(0.01, 0.01, np.diag(np.diag(THREE.covariance)), THREE.a_per_s, THREE.k, THREE.size)
    skew = portfolio_skew(apart)
    assert skew == pytest.approx(np.diag(np.diag(skew)), abs=1e-12)
    for i in range(3):
        expected = models.glft_skew(0.01, math.sqrt(apart.covariance[i, i]), apart.k[i], apart.a_per_s[i])
        assert skew[i, i] == pytest.approx(expected)


def settled_riccati(portfolio):
    """Where dA/dt = γΣ − A·D·A comes to rest from A = 0, by Runge-Kutta steps, without a root of a matrix."""
    xi_size = portfolio.xi * portfolio.size
    fills = (1.0 + xi_size / portfolio.k) ** -(1.0 + portfolio.k / xi_size)
    d = np.diag(2.0 * portfolio.a_per_s * portfolio.k * fills * portfolio.size)
    source = portfolio.gamma * portfolio.covariance
    step = 0.25 / math.sqrt(np.abs(d @ source).sum(axis=1).max())

    def rate(a):
        return source - a @ d @ a

    a = np.zeros_like(source)
    while True:
        first = rate(a)
        second = rate(a + 0.5 * step * first)
        third = rate(a + 0.5 * step * second)
        change = step / 6.0 * (first + 2.0 * second + 2.0 * third + rate(a + step * third))
        a = a + change
        if np.abs(change).max() < 1e-13 * np.abs(a).max():
            return a


@pytest.mark.parametrize("portfolio", [CREDIT, THREE])
def test_the_skew_is_where_the_riccati_equation_settles(portfolio):
    assert portfolio_skew(portfolio) == pytest.approx(settled_riccati(portfolio), rel=1e-9)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_any_skew_is_where_the_riccati_equation_settles(seed, n):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, n + 3))
    portfolio = Portfolio(
        gamma=float(rng.uniform(1e-3, 0.1)),
        xi=float(rng.uniform(1e-3, 0.1)),
        covariance=factors @ factors.T + 0.1 * np.eye(n),
        a_per_s=rng.uniform(0.2, 2.0, n),
        k=rng.uniform(0.1, 1.0, n),
        size=rng.uniform(0.5, 2.0, n),
    )
    skew = portfolio_skew(portfolio)
    assert skew == pytest.approx(settled_riccati(portfolio), rel=1e-7, abs=1e-9 * skew.max())


def test_quotes_that_know_one_market_lean_as_the_portfolio_does_by_what_they_are_shown():
    inventory = np.array([3.0, -1.0, 0.0])
    seen = gamma_cross(THREE, inventory)
    skew = portfolio_skew(THREE)
    assert seen * np.diag(skew) == pytest.approx(skew @ inventory)
    bids, asks = portfolio_offsets(THREE, inventory)
    assert (bids - asks) / 2.0 == pytest.approx(seen * np.diag(skew))


def test_a_market_that_does_not_move_sees_its_own_inventory():
    still = Portfolio(0.01, 0.01, np.diag([0.0, 1.0]), np.ones(2), np.ones(2), np.ones(2))
    assert gamma_cross(still, np.array([2.0, -3.0])) == pytest.approx([2.0, -3.0])


def test_values_are_seen_by_the_same_skew_whatever_the_unit():
    # The vector's markets with mids of 100, 50 and 20 and a unit worth 1 USD a tick: bps = 10⁴·ticks / mid.
    mids = np.array([100.0, 50.0, 20.0])
    bps = 1e4 / mids
    inventory = np.array([3.0, -1.0, 2.0])
    markets = QuotedMarkets(0.01 / bps, THREE.a_per_s, THREE.k / bps, THREE.size * mids)
    seen = model_values_usd(markets, THREE.covariance * np.outer(bps, bps), inventory * mids)
    assert seen / mids == pytest.approx(gamma_cross(THREE, inventory))
