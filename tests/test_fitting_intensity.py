"""Reach of taker orders, the line through ln λ, and when it is refused."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.fitting.intensity import (
    BLOCKS,
    FitSettings,
    Line,
    ReachCounts,
    fit,
    fit_line,
    reaches,
    refusal,
)
from market_maker.fitting.quotes import Quotes
from market_maker.recordings.store import LAST, LEVEL_BID, TRADE_BUY, TRADE_SELL, TRADE_UNKNOWN, Hour

S = 10**9


def hour(*rows):
    """Rows (ns, code, ticks)."""
    ns, codes, ticks = zip(*rows, strict=True)
    count = len(rows)
    return Hour(
        np.array(ns, np.int64),
        np.zeros(count, np.int32),
        np.array(codes, np.uint8) | LAST,
        np.array(ticks, np.int32),
        np.ones(count, np.uint32),
    )


QUOTES = Quotes(np.array([10, 20, 30, 40]), np.array([100, 101, 0, 98]), np.array([102, 102, 0, 102]))


def test_a_reach_is_the_farthest_print_of_an_order_from_the_mid_before_it():
    ns, reach = reaches(
        hour(
            (15, TRADE_BUY, 102),
            (15, TRADE_BUY, 105),
            (15, TRADE_SELL, 100),
            (20, TRADE_SELL, 99),  # the quote of this stamp is what the order left behind
            (21, TRADE_SELL, 99),
            (25, LEVEL_BID, 60),
            (41, TRADE_BUY, 102),
        ),
        QUOTES,
    )
    assert ns.tolist() == [15, 15, 20, 21, 41]
    # Half ticks from 101, 101, 101, 101.5, 100.
    assert reach.tolist() == [8, 2, 4, 5, 4]


def test_an_unknown_taker_bought_above_the_mid_and_sold_below():
    ns, reach = reaches(
        hour((15, TRADE_UNKNOWN, 103), (16, TRADE_UNKNOWN, 100), (17, TRADE_UNKNOWN, 101)), QUOTES
    )
    assert ns.tolist() == [15, 16]
    assert reach.tolist() == [4, 2]


def test_a_print_behind_the_mid_has_a_negative_reach():
    assert reaches(hour((15, TRADE_BUY, 100)), QUOTES)[1].tolist() == [-2]


def test_nothing_is_measured_without_a_book():
    early = hour((10, TRADE_BUY, 102), (35, TRADE_BUY, 102))
    assert reaches(early, QUOTES)[0].size == 0
    nothing = Quotes(*(np.zeros(0, np.int64) for _ in range(3)))
    assert reaches(early, nothing)[0].size == 0
    assert reaches(hour((15, LEVEL_BID, 99)), QUOTES)[0].size == 0


def test_counts_are_of_orders_that_reach_at_least_so_far_in_blocks_of_time():
    counts = ReachCounts(0, 100)
    counts.take(np.array([0, 9, 10, 99, 99]), np.array([0, 3, 1, 2, -1]))
    found = counts.at_least()
    assert found.sum(axis=0)[:5].tolist() == [4, 3, 2, 1, 0]
    assert found[:, 0].tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_who_reaches_beyond_the_grid_reaches_its_end():
    counts = ReachCounts(0, 100)
    counts.take(np.array([5]), np.array([10**9]))
    assert counts.at_least().sum(axis=0).min() == 1


@given(st.floats(1e-3, 1e3), st.floats(1e-4, 0.5))
def test_a_line_is_found_again(a, k):
    depths = np.arange(1, 40) / 2.0
    rates = a * np.exp(-k * depths)
    seconds = 1e9 / rates.min()
    line = fit_line(depths, np.round(rates * seconds).astype(np.int64), seconds)
    assert math.exp(line.log_a) == pytest.approx(a, rel=1e-6)
    assert line.k == pytest.approx(k, rel=1e-4, abs=1e-8)
    assert line.r2 == pytest.approx(1.0, abs=1e-3)


def test_distances_that_nobody_reaches_have_no_weight():
    depths = np.arange(1, 6) / 2.0
    counts = np.array([400, 200, 100, 0, 0])
    assert fit_line(depths, counts, 10.0) == fit_line(depths[:3], counts[:3], 10.0)


def orders(rate_per_s, k, seconds, seed=1, touch=2.0):
    """Counts of orders of both sides that arrive as the model says, past a touch full of others."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(2.0 * rate_per_s * seconds)
    counts = ReachCounts(0, seconds * S)
    counts.take(
        rng.integers(0, seconds * S, count), np.floor(2.0 * rng.exponential(1.0 / k, count)).astype(int)
    )
    crowd = rng.poisson(20.0 * seconds)
    counts.take(rng.integers(0, seconds * S, crowd), np.full(crowd, round(2.0 * touch)))
    return counts.at_least()


@pytest.mark.parametrize(("a", "k", "seconds"), [(3.0, 0.25, 600), (0.8, 0.05, 900), (10.0, 0.6, 300)])
def test_orders_that_arrive_as_the_model_says_give_its_parameters_within_their_errors(a, k, seconds):
    found = fit(orders(a, k, seconds), np.full(BLOCKS, seconds / BLOCKS), touch_ticks=2.0)
    assert found.refused == ""
    assert found.from_ticks == 2.5
    assert abs(found.k_per_tick - k) < 3.0 * found.k_error < 0.5 * k
    assert abs(found.a_per_s - a) < 3.0 * found.a_error < 0.5 * a
    assert found.r2 > 0.98
    assert found.depths_ticks[0] == 0.0
    assert found.rates_per_s[0] > 10.0


def test_errors_tell_how_far_repeated_samples_scatter():
    fits = [fit(orders(1.0, 0.2, 400, seed), np.full(BLOCKS, 40.0), 2.0) for seed in range(40)]
    scatter = np.std([found.k_per_tick for found in fits])
    assert np.mean([found.k_error for found in fits]) == pytest.approx(scatter, rel=0.3)


def test_few_orders_are_refused_without_numbers():
    found = fit(orders(0.05, 0.25, 200), np.full(BLOCKS, 20.0), 2.0)
    assert found.refused.startswith("expected at least 40 taker orders past the touch (2 ticks), was ")
    assert (found.a_per_s, found.k_per_tick, found.a_error, found.k_error) == (0.0, 0.0, 0.0, 0.0)
    assert len(found.depths_ticks) > 2


def test_no_orders_at_all_are_refused():
    found = fit(np.zeros((BLOCKS, 1 << 14), np.int64), np.zeros(BLOCKS), 0.5)
    assert "was 0" in found.refused
    assert found.depths_ticks == ()


def test_orders_that_all_reach_as_far_are_refused():
    counts = ReachCounts(0, 100 * S)
    counts.take(np.arange(100) * S, np.full(100, 40))
    found = fit(counts.at_least(), np.full(BLOCKS, 10.0), 0.5)
    assert found.refused.startswith("expected fewer orders farther from the mid, k above 0, was k = ")
    assert (found.a_per_s, found.k_per_tick) == (0.0, 0.0)


def test_a_range_of_few_distances_is_refused():
    counts = ReachCounts(0, 100 * S)
    counts.take(np.arange(100) * S, np.full(100, 3))
    assert "at least 5 distances" in fit(counts.at_least(), np.full(BLOCKS, 10.0), 0.5).refused


def test_a_curve_that_is_no_line_is_refused():
    # Two kinds of orders: nearly all stop at once, the others go anywhere.
    counts = ReachCounts(0, 1000 * S)
    at = np.linspace(0, 1000 * S - 1, 1000).astype(np.int64)
    counts.take(at, np.where(np.arange(1000) % 10 < 8, 2, np.arange(1000) % 199))
    found = fit(counts.at_least(), np.full(BLOCKS, 100.0), 0.5)
    assert "R² of 0.9 or more, was 0." in found.refused
    assert found.k_per_tick == 0.0
    assert 0.0 < found.r2 < 0.9


def test_a_market_that_changed_halfway_is_refused():
    # All far-reaching orders come in one tenth of the time.
    counts = ReachCounts(0, 1000 * S)
    rng = np.random.default_rng(3)
    counts.take(rng.integers(0, 1000 * S, 60), rng.geometric(0.5, 60) + 1)
    counts.take(rng.integers(0, 100 * S, 90), np.floor(rng.exponential(40.0, 90)).astype(int) + 1)
    found = fit(counts.at_least(), np.full(BLOCKS, 100.0), 0.5, FitSettings(least_r2=0.0))
    assert found.refused.startswith("expected k to within 35%")


@pytest.mark.parametrize(
    ("line", "error", "why"),
    [
        (Line(0.0, -0.1, 0.99), 0.01, "k above 0"),
        (Line(0.0, math.nan, 0.99), 0.01, "k above 0"),
        (Line(0.0, 0.1, 0.5), 0.01, "R² of 0.9 or more, was 0.500"),
        (Line(0.0, 0.1, 0.99), math.inf, "to within 35%"),
        (Line(0.0, 0.1, 0.99), math.nan, "to within 35%"),
    ],
)
def test_what_is_refused(line, error, why):
    assert why in refusal(line, error, FitSettings())


def test_a_good_line_is_not_refused():
    assert refusal(Line(0.0, 0.1, 0.95), 0.03, FitSettings()) == ""
