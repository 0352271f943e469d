"""Correlation and betas: what a dollar of one market is worth in another, and what a skew sees of it."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import correlation as co
from market_maker.domain import NS_PER_S
from market_maker.kernel import new_row

T0 = 1_700_000_000 * NS_PER_S
ROW = new_row(co.CorrelationSettings())[0]
PAIR = ("BTC-USD", "ETH-USD")


def state_of(variances, rho, weight=1_000.0, params=ROW):
    """A state in which the matrix is known: variances per second, correlations, and one weight for all."""
    state = new_row(co.CorrelationState())[0]
    state.markets = len(variances)
    for i in range(len(variances)):
        for j in range(i, len(variances)):
            cell = i * co.MAX_MARKETS + j
            state.weights[cell] = weight
            state.sums[cell] = (
                weight * rho[i][j] * math.sqrt(variances[i] * variances[j]) * params.portfolio_return_s
            )
    return state


THREE = state_of([1e-8, 4e-8, 9e-8], [[1.0, 0.8, 0.5], [0.8, 1.0, 0.6], [0.5, 0.6, 1.0]])


def walked(names, seconds=400, params=None, seed=3, spread=(1.0, 2.0, 1.5)):
    """An instrument that has heard markets with one common factor and as much of their own."""
    rng, found = np.random.default_rng(seed), co.Correlation(names, params)
    common = np.cumsum(rng.normal(0.0, 1e-4, seconds))
    own = np.cumsum(rng.normal(0.0, 0.5e-4, (len(names), seconds)), axis=1)
    for second in range(seconds):
        logs = {name: spread[i] * (common[second] + own[i, second]) for i, name in enumerate(names)}
        found.update({name: 100.0 * math.exp(log) for name, log in logs.items()}, T0 + second * NS_PER_S)
    return found


def test_betas_are_the_slope_of_a_market_on_another():
    assert co.beta(ROW, THREE, 0, 1) == pytest.approx(0.8 * 2.0)
    assert co.beta(ROW, THREE, 1, 0) == pytest.approx(0.8 / 2.0)
    assert co.beta(ROW, THREE, 2, 0) == pytest.approx(0.5 / 3.0)
    assert co.beta(ROW, THREE, 2, 2) == 1.0


def test_betas_are_capped_on_either_side():
    one_in_a_thousand = state_of([1e-12, 1e-6], [[1.0, -1.0], [-1.0, 1.0]])
    assert co.beta(ROW, one_in_a_thousand, 0, 1) == -4.0
    assert co.beta(ROW, one_in_a_thousand, 1, 0) == pytest.approx(-1e-3)


def test_what_does_not_move_or_is_not_known_has_no_beta():
    still = state_of([0.0, 1e-8], [[1.0, 0.0], [0.0, 1.0]])
    assert co.beta(ROW, still, 0, 1) == co.beta(ROW, still, 1, 0) == co.correlation(ROW, still, 0, 1) == 0.0
    unknown = new_row(co.CorrelationState())[0]
    assert co.beta(ROW, unknown, 0, 1) == 0.0
    assert co.coverage(ROW, unknown, 0, 1) == 0.0
    assert co.cautious_beta(ROW, unknown, 0, 1) == co.cautious_beta(ROW, unknown, 0, 0) == 1.0


def test_until_the_warm_up_is_covered_a_skew_leans_less_and_a_limit_counts_more():
    half = state_of([1e-8, 1e-8], [[1.0, 0.6], [0.6, 1.0]], weight=60.0)
    assert co.coverage(ROW, half, 0, 1) == 0.5
    assert co.correlation(ROW, half, 0, 1) == co.correlation(ROW, half, 1, 0) == pytest.approx(0.3)
    assert co.beta(ROW, half, 0, 1) == pytest.approx(0.3)
    assert co.cautious_beta(ROW, half, 0, 1) == pytest.approx(0.5 * 0.6 + 0.5)
    assert co.cautious_beta(ROW, THREE, 0, 1) == pytest.approx(1.6)


def test_effective_inventory_is_what_is_held_and_what_the_others_are_worth():
    values = np.array([600.0, 1_000.0, -400.0])
    # In market 0: 600 + 1.6·1,000 − 1.5·400 = 1,600 USD of lots worth 20 USD.
    assert co.net_beta_usd(ROW, THREE, 0, values) == pytest.approx(1_600.0)
    assert co.effective_lots(ROW, THREE, 0, values, 20.0) == pytest.approx(80.0)
    assert co.others_lots(ROW, THREE, 0, values, 20.0) == pytest.approx(50.0)
    half = new_row(co.CorrelationSettings(portfolio_skew_share=0.5))[0]
    assert co.effective_lots(half, THREE, 0, values, 20.0) == pytest.approx(30.0 + 25.0)
    off = new_row(co.CorrelationSettings(portfolio_enabled=False))[0]
    assert co.effective_lots(off, THREE, 0, values, 20.0) == pytest.approx(30.0)
    # A limit on net beta is none of the skew's business.
    assert co.net_beta_usd(off, THREE, 0, values) == pytest.approx(1_600.0)


@pytest.mark.parametrize("lot_value", [0.0, -1.0, math.nan, math.inf])
def test_without_the_value_of_a_lot_there_is_no_inventory(lot_value):
    values = np.array([600.0, 1_000.0, -400.0])
    assert co.effective_lots(ROW, THREE, 0, values, lot_value) == 0.0
    assert co.others_lots(ROW, THREE, 0, values, lot_value) == 0.0


def test_a_value_that_is_no_number_leans_nothing():
    assert co.others_lots(ROW, THREE, 0, np.array([0.0, math.nan, 0.0]), 20.0) == 0.0


def test_a_portfolio_is_skewed_once():
    # Two markets that are the same: long one and short the other is nothing to either.
    same = state_of([1e-8, 1e-8], [[1.0, 1.0], [1.0, 1.0]])
    values = np.array([500.0, -500.0])
    assert co.effective_lots(ROW, same, 0, values, 1.0) == pytest.approx(0.0)
    assert co.effective_lots(ROW, same, 1, values, 1.0) == pytest.approx(0.0)


def test_the_instrument_says_what_the_kernels_do():
    names = (*PAIR, "SOL-USD")
    found = walked(names)
    row, state = ROW, found.state[0]
    rho = found.matrix()
    assert rho[0, 1] == pytest.approx(found.correlation("BTC-USD", "ETH-USD"), abs=1e-9)
    assert 0.6 < rho[0, 1] < 0.95
    assert found.betas("ETH-USD")["SOL-USD"] == co.beta(row, state, 1, 2)
    assert found.cautious_betas("ETH-USD") == pytest.approx(found.betas("ETH-USD"))
    assert found.sigmas_bps()["ETH-USD"] == co.sigma_bps(row, state, 1)
    assert found.coverage("BTC-USD", "SOL-USD") == 1.0
    sigma = np.array(list(found.sigmas_bps().values()))
    assert found.covariance() == pytest.approx(rho * np.outer(sigma, sigma) / 60.0)
    values = {"BTC-USD": 100.0, "SOL-USD": -70.0}
    listed = np.array([100.0, 0.0, -70.0])
    assert found.net_beta_usd("ETH-USD", values) == co.net_beta_usd(row, state, 1, listed)
    assert found.others_lots("ETH-USD", values, 3.0) == co.others_lots(row, state, 1, listed, 3.0)


def test_mids_that_are_no_prices_are_not_heard():
    found = co.Correlation(PAIR)
    found.update({"BTC-USD": 0.0, "ETH-USD": math.nan}, T0)
    found.update({"BTC-USD": -5.0}, T0 + NS_PER_S)
    assert found.state[0].silent_s[:2].min() > 10**6


def test_other_settings_leave_what_was_learnt_unless_it_means_another_thing():
    found = walked(PAIR)
    before = found.sigmas_bps()
    found.reload(co.CorrelationSettings(portfolio_skew_share=0.0))
    assert found.sigmas_bps() == before
    assert found.others_lots("BTC-USD", {"ETH-USD": 100.0}, 1.0) == 0.0
    found.reload(co.CorrelationSettings(portfolio_return_s=5.0))
    assert found.sigmas_bps() == dict.fromkeys(PAIR, 0.0)
    assert found.matrix() == pytest.approx(np.eye(2))


@pytest.mark.parametrize("names", [[], ["A", "A"], [str(n) for n in range(17)]])
def test_the_markets_are_one_to_sixteen_each_once(names):
    with pytest.raises(ValueError, match="markets: expected 1 to 16, each once, was"):
        co.Correlation(names)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 6), st.floats(0.05, 1.0))
def test_covariance_is_positive_semi_definite_however_the_markets_are_heard(seed, n, heard):
    rng = np.random.default_rng(seed)
    names = [str(i) for i in range(n)]
    params = co.CorrelationSettings(portfolio_return_s=2.0, portfolio_halflife_s=20.0, portfolio_warmup_s=1.0)
    found = co.Correlation(names, params)
    logs = np.zeros(n)
    for second in range(40):
        logs = logs + rng.normal(0.0, 1e-3) * rng.choice([-1.0, 1.0], n) + rng.normal(0.0, 1e-4, n)
        now = {name: math.exp(logs[i]) for i, name in enumerate(names) if rng.random() < heard}
        found.update(now, T0 + second * NS_PER_S)
    rho, covariance = found.matrix(), found.covariance()
    assert np.linalg.eigvalsh(rho).min() >= -1e-9
    assert np.diag(rho) == pytest.approx(np.ones(n))
    assert np.abs(rho).max() <= 1.0 + 1e-9
    assert np.linalg.eigvalsh(covariance).min() >= -1e-9 * max(np.diag(covariance).max(), 1e-9)


def test_a_matrix_that_cannot_be_becomes_one_that_can():
    impossible = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    found = co.nearest_correlation(impossible)
    assert np.linalg.eigvalsh(found).min() >= -1e-12
    assert np.diag(found) == pytest.approx(np.ones(3))
    assert np.sign(found) == pytest.approx(np.sign(impossible))
    fine = np.array([[1.0, 0.9], [0.9, 1.0]])
    assert co.nearest_correlation(fine) is fine
