"""Covariance of returns: against its definition on every prefix, asynchronous markets, gaps, a recording."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import return_covariance as rc
from market_maker.domain import NS_PER_S
from market_maker.kernel import new_row

T0 = 1_700_000_000
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "hyperliquid-2025-09-04"
SMALL = rc.CorrelationSettings(
    portfolio_return_s=3.0, portfolio_halflife_s=40.0, portfolio_warmup_s=20.0, portfolio_gap_reset_s=5.0
)


class Fed:
    """An estimator that is told mids by market number."""

    def __init__(self, markets, params=SMALL):
        self.params, self.state, self.markets = new_row(params)[0], new_row(rc.CorrelationState())[0], markets

    def tell(self, second, mids, ns=0):
        """Log mids at a second after T0; those not named were not heard."""
        row = np.full(self.markets, math.nan)
        for i, mid in mids.items():
            row[i] = mid
        rc.update(self.params, self.state, row, self.markets, (T0 + second) * NS_PER_S + ns)

    def sums(self):
        return self._upper(self.state.sums)

    def weights(self):
        return self._upper(self.state.weights)

    def _upper(self, cells):
        full = np.asarray(cells).reshape(rc.MAX_MARKETS, rc.MAX_MARKETS)[: self.markets, : self.markets]
        return np.triu(full)


def runs_of(events, gap):
    """Events parted where nothing at all was heard for longer than the gap."""
    runs = [[events[0]]]
    for event in events[1:]:
        if event[0] - runs[-1][-1][0] > gap:
            runs.append([])
        runs[-1].append(event)
    return runs


def grid_of(run, end, market, gap):
    """A run's seconds up to `end`, the mid that stood at the end of each, and how long it was not heard."""
    seconds = np.arange(run[0][0], end)
    mids, silent = np.full(seconds.size, math.nan), np.full(seconds.size, 10**6)
    heard = [(second, mids_[market]) for second, mids_ in run if market in mids_]
    for at, second in enumerate(seconds):
        before = [(when, mid) for when, mid in heard if when <= second]
        if before and second - before[-1][0] <= gap:
            mids[at], silent[at] = before[-1][1], second - before[-1][0]
    return seconds, mids, silent


def by_definition(events, markets, params=SMALL):
    """Sums and weights from all events at once, at the second of the last."""
    k, gap = int(params.portfolio_return_s), params.portfolio_gap_reset_s
    now = events[-1][0]
    sums, weights = np.zeros((markets, markets)), np.zeros((markets, markets))
    for run in runs_of(events, gap):
        end = run[-1][0]
        found = [grid_of(run, end, market, gap) for market in range(markets)]
        returns = np.full((markets, len(found[0][0])), math.nan)
        for i, (_, mids, silent) in enumerate(found):
            for at in range(k, mids.size):
                if silent[at] < k and np.isfinite(mids[at - k : at + 1]).all():
                    returns[i, at] = mids[at] - mids[at - k]
        weight = 0.5 ** ((now - 1 - found[0][0]) / params.portfolio_halflife_s)
        for i in range(markets):
            for j in range(i, markets):
                product = returns[i] * returns[j]
                sums[i, j] += np.nansum(product * weight)
                weights[i, j] += weight[np.isfinite(product)].sum()
    return sums, weights


@pytest.mark.parametrize("seed", range(4))
def test_every_prefix_is_what_the_definition_says(seed):
    rng = np.random.default_rng(seed)
    fed, events, second = Fed(3), [], 0
    logs = np.array([3.0, 1.0, -2.0])
    for _ in range(60):
        second += int(rng.choice([0, 1, 1, 1, 2, 4, 5, 9], p=[0.1, 0.3, 0.2, 0.1, 0.15, 0.05, 0.05, 0.05]))
        logs = logs + rng.normal(0.0, 1e-3, 3)
        mids = {i: float(logs[i]) for i in range(3) if rng.random() < (0.9, 0.5, 0.15)[i]}
        events.append((second, mids))
        fed.tell(second, mids)
        sums, weights = by_definition(events, 3)
        np.testing.assert_allclose(fed.sums(), sums, rtol=1e-9, atol=1e-18)
        np.testing.assert_allclose(fed.weights(), weights, rtol=1e-9, atol=1e-12)
    assert fed.weights()[0, 1] > 1.0


def moving_together(seconds, rho, seed=1):
    """Two Brownian log mids with equal volatility of 1e-4 per √s, a second apart."""
    rng = np.random.default_rng(seed)
    first, own = rng.normal(0.0, 1e-4, (2, seconds))
    return np.cumsum([first, rho * first + math.sqrt(1.0 - rho**2) * own], axis=1)


def rho_of(fed):
    sums = fed.sums() / fed.weights().clip(1e-9)
    return sums[0, 1] / math.sqrt(sums[0, 0] * sums[1, 1])


def heard_apart(return_s, seconds=1_000, rho=0.8):
    """Correlation found where one market is heard every second and the other half as often, by chance."""
    params = rc.CorrelationSettings(portfolio_return_s=return_s, portfolio_halflife_s=1e6)
    rng, fed = np.random.default_rng(7), Fed(2, params)
    paths = moving_together(seconds, rho)
    for second in range(seconds):
        mids = {0: paths[0, second]}
        if rng.random() < 0.5:
            mids[1] = paths[1, second]
        fed.tell(second, mids)
    return rho_of(fed)


@pytest.mark.slow
def test_markets_that_tick_apart_have_nearly_their_correlation_over_long_returns_alone():
    # The second is stale by a second on average, which is much of one-second returns and little of thirty.
    assert heard_apart(1.0) < 0.65
    assert heard_apart(30.0) == pytest.approx(0.8, abs=0.07)


def test_what_the_mids_are_at_their_own_times_does_not_matter_within_a_second():
    one, other = Fed(2), Fed(2)
    paths = moving_together(30, 0.5)
    for second in range(30):
        one.tell(second, {0: paths[0, second], 1: paths[1, second]})
        other.tell(second, {0: 99.0})
        other.tell(second, {1: paths[1, second]}, ns=5)
        other.tell(second, {0: paths[0, second]}, ns=999_999_999)
    assert np.array_equal(one.sums(), other.sums())


def test_a_market_that_is_silent_adds_to_no_pair_and_its_gap_is_spanned_by_no_return():
    fed = Fed(2)
    paths = moving_together(60, 0.9)
    for second in range(20):
        fed.tell(second, {0: paths[0, second], 1: paths[1, second]})
    # Silent for longer than the gap, then three log units away: no return may see that.
    for second in range(20, 40):
        fed.tell(second, {0: paths[0, second]})
    after_silence = fed.weights()[0, 1]
    fed.tell(40, {0: paths[0, 40], 1: 3.0})
    fed.tell(43, {0: paths[0, 43], 1: 3.0})
    assert fed.weights()[0, 1] == pytest.approx(after_silence * 0.5 ** (4 / 40.0))
    fed.tell(45, {0: paths[0, 45], 1: 3.0})
    assert fed.weights()[0, 1] > after_silence * 0.5 ** (5 / 40.0)
    assert np.abs(fed.sums()[1, 1]) < 1e-6


def test_the_clock_may_step():
    fed = Fed(1)
    for second in range(20):
        fed.tell(second, {0: 1e-4 * second})
    before = fed.sums()
    fed.tell(17, {0: 5.0})
    assert np.array_equal(fed.sums(), before)
    assert fed.state.second == T0 + 19
    # Far back: the returns start anew, and what was learnt stays.
    fed.tell(-1_000, {0: 5.0})
    fed.tell(-999, {0: 5.0})
    assert fed.sums()[0, 0] == pytest.approx(before[0, 0] * 0.5 ** (1 / 40.0))
    # Far ahead it fades.
    fed.tell(-959, {0: 7.0})
    assert fed.sums()[0, 0] == pytest.approx(before[0, 0] * 0.5 ** (41 / 40.0))


def test_mids_that_are_no_numbers_are_not_heard_and_jumps_are_bounded():
    fed = Fed(1)
    for second in range(10):
        fed.tell(second, {0: [0.0, math.inf, math.nan, 101.0, -101.0][second % 5]})
    assert fed.sums()[0, 0] == 0.0
    for second in range(10, 20):
        fed.tell(second, {0: 50.0})
    returns = fed.weights()[0, 0]
    assert 0.0 < fed.sums()[0, 0] <= 0.25 * returns


def test_more_markets_than_there_is_room_for_are_not_looked_at():
    state = new_row(rc.CorrelationState())[0]
    for second in range(5):
        rc.update(new_row(SMALL)[0], state, np.full(20, second * 1e-3), 20, (T0 + second) * NS_PER_S)
    assert state.markets == rc.MAX_MARKETS


def test_volatility_is_in_bps_per_root_of_a_minute():
    fed = Fed(2, rc.CorrelationSettings(portfolio_halflife_s=1e6))
    path = moving_together(1_000, 0.0)[0]
    assert rc.sigma_bps(fed.params, fed.state, 0) == 0.0
    for second in range(1_000):
        fed.tell(second, {0: path[second]})
    assert rc.sigma_bps(fed.params, fed.state, 0) == pytest.approx(math.sqrt(60.0), rel=0.05)
    assert rc.sigma_bps(fed.params, fed.state, 1) == 0.0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"portfolio_skew_share": -0.1}, "portfolio_skew_share: expected 0 to 2, was -0.1"),
        ({"portfolio_skew_share": math.nan}, "portfolio_skew_share: expected 0 to 2, was nan"),
        ({"portfolio_return_s": 64.0}, "portfolio_return_s: expected 1 to 63, was 64"),
        ({"portfolio_return_s": 2.5}, "portfolio_return_s: expected whole seconds, was 2.5"),
        ({"portfolio_halflife_s": 5.0}, "portfolio_halflife_s: expected 10 to 1e"),
        ({"portfolio_warmup_s": 901.0}, "portfolio_warmup_s: expected 1 to 900, was 901"),
        ({"portfolio_gap_reset_s": 0.0}, "portfolio_gap_reset_s: expected 1 to 3600, was 0"),
        ({"portfolio_beta_cap": 0.0}, "portfolio_beta_cap: expected 0.1 to 100, was 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, expected):
    with pytest.raises(ValueError, match=expected):
        rc.CorrelationSettings(**change)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2), st.floats(-9, 9)), max_size=40))
def test_weights_never_exceed_what_a_pair_can_have(steps):
    fed, second = Fed(3), 0
    for elapsed, market, mid in steps:
        second += elapsed
        fed.tell(second, {market: mid})
        weights = fed.weights()
        assert np.isfinite(fed.sums()).all()
        most = 1.0 / (1.0 - 0.5 ** (1 / 40.0))
        assert weights.max() <= most
        assert all(
            weights[i, j] <= min(weights[i, i], weights[j, j]) + 1e-9 for i in range(3) for j in range(i, 3)
        )


@pytest.mark.skipif(not DATA.exists(), reason="needs the recorded markets")
def test_a_recording_by_numpy():
    import polars as pl

    names, params = ("BTC", "ETH", "SOL"), rc.CorrelationSettings()
    books = [pl.read_parquet(DATA / f"{name}_book.parquet", columns=["recv", "bid", "ask"]) for name in names]
    start = max(int(book["recv"][0]) for book in books) // NS_PER_S + 1
    grid = np.arange(start, start + 400)
    mids = np.zeros((3, grid.size))
    for i, book in enumerate(books):
        at = np.searchsorted(book["recv"].to_numpy() // NS_PER_S, grid, side="right") - 1
        mids[i] = np.log((book["bid"].to_numpy()[at] + book["ask"].to_numpy()[at]) / 2.0)
    fed = Fed(3, params)
    for at, second in enumerate(grid):
        fed.tell(int(second) - T0, {i: mids[i, at] for i in range(3)})
    returns = (mids[:, 10:] - mids[:, :-10])[:, :-1]
    weight = 0.5 ** (np.arange(returns.shape[1])[::-1] / params.portfolio_halflife_s)
    expected = (returns * weight) @ returns.T
    np.testing.assert_allclose(fed.sums(), np.triu(expected), rtol=1e-9)
    assert fed.weights()[0, 1] == pytest.approx(weight.sum())
