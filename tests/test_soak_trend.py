"""Trends of a long run: leaks are seen, noise, steps and storms are none, a short time is not judged."""

import math
from statistics import median

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.soak_trend import Limit, Verdict, blocks, judge, theil_sen

MEMORY = Limit(per_hour=1.0)
COUNT = Limit(least=2.0, least_s=120.0)
EVERY_S = 5.0


def series(seconds, value):
    """A figure every five seconds, by the number of the sample."""
    return [(EVERY_S * n, float(value(n))) for n in range(int(seconds / EVERY_S))]


def noisy(seconds, per_hour, sigma=0.3, seed=1):
    draws = np.random.default_rng(seed)
    return series(seconds, lambda n: 150.0 + per_hour * n * EVERY_S / 3600 + sigma * draws.standard_normal())


@pytest.mark.parametrize(
    ("per_hour", "verdict"),
    [(0.0, Verdict.FINE), (0.5, Verdict.FINE), (3.0, Verdict.GROWS), (-5.0, Verdict.FINE)],
)
def test_memory_that_grows_is_told_from_memory_that_moves(per_hour, verdict):
    trend = judge(noisy(1800, per_hour), MEMORY)
    assert trend.verdict is verdict
    assert trend.low <= trend.slope <= trend.high
    assert trend.slope == pytest.approx(per_hour, abs=0.45)


def test_a_buffer_that_fills_is_no_leak_once_it_is_full():
    def filling(seconds):
        return series(1200, lambda n: 150.0 + 5.0 * min(n * EVERY_S / seconds, 1.0))

    assert judge(filling(500), MEMORY).verdict is Verdict.UNSURE
    assert judge(filling(1200), MEMORY).verdict is Verdict.GROWS


def test_much_noise_leaves_it_unsure():
    trend = judge(noisy(900, 0.0, sigma=5.0), MEMORY)
    assert (trend.verdict, trend.high > 1.0) == (Verdict.UNSURE, True)


def test_a_short_time_is_not_judged_however_steep():
    trend = judge(noisy(120, 100.0), MEMORY)
    assert (trend.verdict, trend.slope > 50) == (Verdict.TOO_SHORT, True)
    assert judge([], MEMORY).verdict is Verdict.TOO_SHORT
    assert judge([(0.0, 1.0)], MEMORY).slope is None
    assert judge([(0.0, 1.0), (0.0, 2.0)], MEMORY).slope is None
    # Long, but with next to nothing in it.
    assert judge([(0.0, 1.0), (3600.0, 2.0)], MEMORY).verdict is Verdict.TOO_SHORT


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("constant", lambda _: 23, Verdict.FINE),
        ("one more for good", lambda n: 23 + (n > 200), Verdict.FINE),
        ("one leaked in five minutes", lambda n: 23 + n // 60, Verdict.GROWS),
        ("storms that pass", lambda n: 23 + 40 * (n % 30 < 4), Verdict.FINE),
        ("a leak below storms", lambda n: 23 + n // 30 + 40 * (n % 30 < 4), Verdict.GROWS),
        ("one that is freed", lambda n: 23 - n // 60, Verdict.FINE),
    ],
)
def test_counts_grow_by_their_floor(name, value, verdict):
    assert judge(series(1800, value), COUNT, min).verdict is verdict, name


def test_a_level_grows_only_by_a_share_of_itself():
    limit = Limit(share=0.5, least=1.0)
    assert judge(series(1800, lambda n: 10 + n / 120), limit).verdict is Verdict.FINE
    assert judge(series(1800, lambda n: 10 + n / 40), limit).verdict is Verdict.GROWS
    assert judge(series(1800, lambda n: 0.1 + n / 1000), limit).verdict is Verdict.FINE


def test_the_interval_is_sens():
    # z √(n(n−1)(2n+5)/18) = 2.576 · 5.32 = 13.7 of 15 pairs: the interval has them all.
    points = [(float(n), value) for n, value in enumerate([1.0, 2.5, 2.0, 4.5, 4.0, 6.5])]
    slope, low, high = theil_sen(points)
    pairs = sorted((b[1] - a[1]) / (b[0] - a[0]) for i, a in enumerate(points) for b in points[i + 1 :])
    assert slope == median(pairs)
    assert (low, high) == (pairs[0], pairs[-1])


def test_points_at_one_instant_have_no_slope():
    with pytest.raises(ValueError, match="expected points at two instants or more, was 2 at one"):
        theil_sen([(1.0, 1.0), (1.0, 2.0)])


figures = st.lists(st.floats(-1e6, 1e6), min_size=10, max_size=60)


@given(figures, st.floats(-1e3, 1e3))
def test_a_line_laid_over_a_figure_is_added_to_its_slope(values, tilt):
    plain = [(float(n), value) for n, value in enumerate(values)]
    tilted = [(at, value + tilt * at) for at, value in plain]
    before, after = theil_sen(plain)[0], theil_sen(tilted)[0]
    assert math.isclose(after, before + tilt, rel_tol=1e-6, abs_tol=1e-3)


@given(figures)
def test_the_slope_lies_in_its_interval_and_turns_with_the_figure(values):
    points = [(float(n), value) for n, value in enumerate(values)]
    slope, low, high = theil_sen(points)
    assert low <= slope <= high
    assert theil_sen([(at, -value) for at, value in points])[0] == pytest.approx(-slope)


@given(st.integers(10, 200), st.integers(0, 1000))
def test_a_quarter_of_wild_blocks_does_not_make_a_trend(count, seed):
    draws = np.random.default_rng(seed)
    wild = draws.random(count) < 0.2
    points = [(60.0 * n, 1e6 if wild[n] else 100.0) for n in range(count)]
    assert judge(points, MEMORY).verdict is not Verdict.GROWS


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=300).map(sorted))
def test_blocks_keep_the_order_and_the_range_of_time(instants):
    folded = blocks([(at, at) for at in instants], median)
    assert len(folded) <= 30
    assert [at for at, _ in folded] == sorted(at for at, _ in folded)
    assert all(instants[0] - 1e-6 <= at <= instants[-1] + 1e-6 for at, _ in folded)
