"""Range and return estimators of variance: the vectors of models.md, section 7, and what each withstands."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.range_volatility import (
    Bars,
    bipower_variation,
    close_to_close,
    garman_klass,
    parkinson,
    realised_variance,
    rogers_satchell,
    two_scale_variance,
    yang_zhang,
)

ROWS = [
    (100, 102, 99, 101),
    (101, 103, 100, 102.5),
    (102.5, 103, 101, 101.5),
    (101.5, 104, 101, 103.5),
    (103.5, 105, 103, 104),
]


def bars_of(rows):
    return Bars(*(np.array(column, float) for column in zip(*rows, strict=True)))


def walk_bars(rng, count, steps=400, sigma=1e-3, drift=0.0, gap=0.0):
    """Bars of a random walk with a variance of sigma² a bar, and gaps between bars."""
    moves = rng.normal(drift / steps, sigma / math.sqrt(steps), (count, steps))
    moves[:, 0] += rng.normal(0.0, gap, count) if gap else 0.0
    path = np.cumsum(moves).reshape(count, steps)
    opens = path[:, 0]
    return Bars(*(np.exp(column) for column in (opens, path.max(1), path.min(1), path[:, -1])))


def test_the_vectors_of_the_models():
    bars = bars_of(ROWS)
    assert parkinson(bars) == pytest.approx(2.4352800e-4, rel=1e-7)
    assert garman_klass(bars) == pytest.approx(2.7452444e-4, rel=1e-7)
    assert rogers_satchell(bars) == pytest.approx(2.6078271e-4, rel=1e-7)
    returns = np.diff(np.log(bars.close))
    assert realised_variance(returns) == pytest.approx(7.1742873e-4, rel=1e-7)
    assert bipower_variation(returns) == pytest.approx(6.7524576e-4, rel=1e-7)
    assert close_to_close(returns) == pytest.approx(1.6774664e-4, rel=1e-7)


def test_yang_and_zhang_by_their_formula():
    rows = [(100, 102, 99, 101), (101.5, 103, 100, 102.5), (102, 103, 101, 101.5), (101.7, 104, 101, 103.5)]
    jumps = [math.log(101.5 / 101), math.log(102 / 102.5), math.log(101.7 / 101.5)]
    bodies = [math.log(102.5 / 101.5), math.log(101.5 / 102), math.log(103.5 / 101.7)]

    def variance(values):
        mean = sum(values) / 3
        return sum((value - mean) ** 2 for value in values) / 2

    k = 0.34 / (1.34 + 4 / 2)
    expected = variance(jumps) + k * variance(bodies) + (1 - k) * rogers_satchell(bars_of(rows[1:]))
    assert yang_zhang(bars_of(rows)) == pytest.approx(expected, rel=1e-12)


def test_two_scales_by_hand():
    prices = np.array([0.0, 1.0, 0.0, 2.0, 1.0])
    # Two grids: (0, 0, 1) and (1, 2); n = 4, 3/2 returns in each on average.
    expected = ((0 + 1 + 1) / 2 - 3 / 8 * (1 + 1 + 4 + 1)) / (1 - 3 / 8)
    assert two_scale_variance(prices, 2) == pytest.approx(expected)


def test_a_random_walk_has_its_variance_by_all():
    bars = walk_bars(np.random.default_rng(1), 2_000)
    for estimate in (parkinson, garman_klass, rogers_satchell, yang_zhang):
        # 400 steps do not see the whole range.
        assert estimate(bars) == pytest.approx(1e-6, rel=0.12)
    assert close_to_close(np.diff(np.log(bars.close))) == pytest.approx(1e-6, rel=0.12)


def test_a_drift_fools_ranges_but_not_rogers_and_satchell():
    bars = walk_bars(np.random.default_rng(2), 500, steps=4_000, drift=2e-3)
    assert parkinson(bars) > 1.5e-6
    assert rogers_satchell(bars) == pytest.approx(1e-6, rel=0.12)


def test_jumps_between_bars_are_seen_by_yang_and_zhang():
    bars = walk_bars(np.random.default_rng(3), 2_000, gap=1e-3)
    assert rogers_satchell(bars) == pytest.approx(1e-6, rel=0.12)
    assert yang_zhang(bars) == pytest.approx(2e-6, rel=0.12)


def test_a_jump_is_in_the_realised_variance_and_not_in_bipower():
    returns = np.random.default_rng(4).normal(0.0, 1e-3, 4_000)
    returns[2_000] += 0.05
    assert realised_variance(returns) == pytest.approx(4e-3 + 2.5e-3, rel=0.06)
    assert bipower_variation(returns) == pytest.approx(4e-3, rel=0.06)


def test_noise_is_taken_out_by_two_scales():
    rng = np.random.default_rng(5)
    true = np.cumsum(rng.normal(0.0, 1e-4, 20_000))
    seen = true + rng.normal(0.0, 1e-4, 20_000)
    assert realised_variance(np.diff(seen)) > 2.5 * 20_000 * 1e-8
    assert two_scale_variance(seen, 30) == pytest.approx(20_000 * 1e-8, rel=0.1)


@settings(max_examples=30)
@given(st.floats(0.01, 1e6), st.integers(0, 2**32))
def test_the_unit_of_the_price_does_not_matter(unit, seed):
    bars = walk_bars(np.random.default_rng(seed), 10, steps=8)
    scaled = Bars(*(column * unit for column in bars))
    for estimate in (parkinson, garman_klass, rogers_satchell, yang_zhang):
        assert estimate(scaled) == pytest.approx(estimate(bars), rel=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_range_estimates_are_no_less_than_nothing(seed):
    bars = walk_bars(np.random.default_rng(seed), 5, steps=5)
    assert parkinson(bars) >= 0.0
    assert rogers_satchell(bars) >= -1e-18
    assert bipower_variation(np.diff(np.log(bars.close))) >= 0.0


def test_too_little_is_refused():
    none = bars_of([(1, 1, 1, 1)])
    for estimate in (parkinson, garman_klass, rogers_satchell):
        assert estimate(none) == 0.0
        with pytest.raises(ValueError, match="bars: expected at least 1, was 0"):
            estimate(Bars(*(column[:0] for column in none)))
    with pytest.raises(ValueError, match="bars: expected at least 3, was 1"):
        yang_zhang(none)
    with pytest.raises(ValueError, match="returns: expected at least 2, was 1"):
        close_to_close(np.zeros(1))
    for scale in (1, 4):
        with pytest.raises(ValueError, match="scale: expected above 1 and below the 4 returns"):
            two_scale_variance(np.zeros(5), scale)
