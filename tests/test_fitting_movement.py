"""Volatility from a one-second grid of mids."""

import numpy as np
import pytest

from market_maker.fitting.movement import INTERVALS_S, squared_returns, volatility


def walk(seconds, sigma_ticks, seed=1, start_ticks=50_000):
    steps = np.random.default_rng(seed).normal(0.0, 2.0 * sigma_ticks, seconds)
    return 2 * start_ticks + np.round(np.cumsum(steps)).astype(np.int64)


def test_a_random_walk_has_the_volatility_it_was_made_with():
    found = volatility(walk(7_200, 3.0))
    assert found.refused == ""
    assert found.interval_s == 60.0
    assert found.returns == 119
    assert found.sigma_ticks == pytest.approx(3.0, rel=0.15)
    # Over 120 independent minutes, by theory σ/√(3·120).
    assert 0.05 < found.sigma_error < 0.5
    # 3 ticks of 50,000 each √s: 0.6 bps, and √60 of that each √minute.
    assert found.sigma_bps == pytest.approx(found.sigma_ticks / 50_000 * 1e4 * 60**0.5, rel=1e-2)
    assert [length for length, _ in found.by_interval_bps] == list(map(float, INTERVALS_S))


def test_returns_overlap_and_are_in_ticks():
    assert squared_returns(np.array([100, 102, 106, 104]), 2).tolist() == [9.0, 1.0]
    assert squared_returns(np.array([100, 102]), 2).size == 0


def test_no_return_reaches_over_a_gap():
    mids = np.array([100, 102, 0, 110, 114, 114])
    assert squared_returns(mids, 1).tolist() == [1.0, 4.0, 0.0]
    assert squared_returns(mids, 2).tolist() == [4.0]
    assert squared_returns(mids, 3).size == 0


def test_a_carried_mid_after_a_gap_does_not_calm_the_market():
    mids = walk(1_200, 3.0)
    gone = mids.copy()
    gone[300:600] = 0
    assert volatility(gone).sigma_ticks == pytest.approx(volatility(mids).sigma_ticks, rel=0.2)


def test_the_interval_is_the_longest_of_which_the_part_holds_twelve():
    assert [volatility(walk(seconds, 3.0)).interval_s for seconds in (66, 200, 400, 800)] == [5, 15, 30, 60]
    assert volatility(walk(66, 3.0)).returns == 12


def test_bouncing_mids_have_less_volatility_over_longer_returns():
    bounce = walk(3_600, 0.5) + 8 * (np.arange(3_600) % 2)
    found = volatility(bounce)
    assert found.sigma_ticks == pytest.approx(0.5, rel=0.3)
    by_length = dict(found.by_interval_bps)
    assert by_length[1.0] > 5.0 * by_length[60.0]


def test_too_short_or_motionless_parts_are_refused():
    assert volatility(walk(59, 3.0)).refused == "expected at least 60 s of trusted book, was 59 s"
    assert volatility(np.zeros(1_000, np.int64)).refused == "expected at least 60 s of trusted book, was 0 s"
    still = volatility(np.full(600, 1_001, np.int64))
    assert still.refused == "expected the mid to move, was the same throughout"
    assert still.sigma_ticks == 0.0


def test_a_book_that_comes_and_goes_leaves_no_return():
    blinking = walk(600, 3.0) * (np.arange(600) % 2)
    assert "expected the mid to move" in volatility(blinking).refused
