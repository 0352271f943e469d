"""Toxicity by volume: buckets against cumulative volume, bulk classification, rank against brute force."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import flow_toxicity as toxic
from market_maker.domain import NS_PER_S
from market_maker.flow_toxicity import LEAST_WINDOWS, MAX_BUCKETS, RANK_BINS, FlowToxicityState
from market_maker.kernel import new_row

HISTORY_S = 100.0


def market():
    return new_row(FlowToxicityState())[0]


# --- Classification -----------------------------------------------------------------------------------------


def test_the_vector_of_the_models():
    changes, volumes = (0.0, 1.0, -0.5, 2.0), (100.0, 50.0, 80.0, 120.0)
    shares = [toxic.buy_share(change, 1.0) for change in changes]
    bought = sum(share * volume for share, volume in zip(shares, volumes, strict=True))
    assert bought == pytest.approx(234.020225, abs=5e-7)
    assert sum(volumes) - bought == pytest.approx(115.979775, abs=5e-7)
    state = market()
    for share, volume in zip(shares, volumes, strict=True):
        toxic.add(state, 1, 350.0, volume, share)
    assert (state.filled, state.volume_lots) == (1, 350.0)
    assert toxic.toxicity(state) == pytest.approx(0.337258426, abs=5e-10)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan])
def test_without_a_sigma_half_of_a_trade_was_bought(sigma):
    assert toxic.buy_share(3.0, sigma) == 0.5


def test_a_known_taker_counts_on_that_side():
    state = market()
    assert toxic.classify(state, 1, 100) == 1.0
    assert toxic.classify(state, -1, 150) == 0.0


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_bulk_classification_uses_the_changes_so_far(prices):
    state = market()
    shares = [toxic.classify(state, 0, price) for price in prices]
    changes = np.diff(prices)
    assert shares[0] == 0.5
    for i, change in enumerate(changes):
        sigma = math.sqrt(np.mean(changes[: i + 1] ** 2))
        expected = 0.5 * (1.0 + math.erf(change / sigma / math.sqrt(2.0))) if sigma > 0.0 else 0.5
        assert shares[i + 1] == pytest.approx(expected, abs=1e-12)


def test_old_changes_of_the_price_fade():
    state = market()
    for price in (100, 140, 100, 140):
        toxic.classify(state, 1, price)
    toxic.forget(state, 1e-6)
    # Against a habit of 40 ticks, one tick would say nothing; against a new one of a tick it says much.
    toxic.classify(state, 1, 141)
    assert toxic.classify(state, 0, 142) == pytest.approx(0.5 * (1 + math.erf(1 / math.sqrt(2))), abs=1e-3)


# --- Buckets ------------------------------------------------------------------------------------------------


def windows(trades, window):
    """Toxicity after each trade, from cumulative volume cut at the buckets' borders; trades are (usual, size,
    share), and a bucket is as large as usual was at the trade in which it begins."""
    ends = np.cumsum([0.0, *(size for _, size, _ in trades)])
    net = np.cumsum([0.0, *(size * (2.0 * share - 1.0) for _, size, share in trades)])
    borders = [0.0]
    while borders[-1] < ends[-1]:
        began = np.searchsorted(ends, borders[-1], "right") - 1
        borders.append(borders[-1] + max(trades[began][0], 1.0))
    sums = np.interp(borders, ends, net)
    for i in range(1, len(trades) + 1):
        closed = np.searchsorted(borders, ends[i] + 1e-9, "right") - 1
        first = max(closed - window, 0)
        volume = borders[closed] - borders[first]
        yield np.abs(np.diff(sums[first : closed + 1])).sum() / volume if volume else 0.0


# Eighths, so that borders are exact: which bucket a sum within rounding of one fills is nobody's concern.
TRADES = st.tuples(
    st.integers(0, 320).map(lambda eighths: eighths / 8),
    st.integers(1, 90),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)


@given(st.lists(TRADES, min_size=1, max_size=60), st.sampled_from([1, 2, 5, MAX_BUCKETS]))
@settings(max_examples=60)
def test_toxicity_equals_its_definition_on_cumulative_volume(trades, window):
    state = market()
    for (usual, size, share), expected in zip(trades, windows(trades, window), strict=True):
        toxic.add(state, window, usual, float(size), share)
        assert toxic.toxicity(state) == pytest.approx(expected, abs=1e-7)


def test_a_trade_is_split_at_the_border_of_a_bucket():
    state = market()
    assert not toxic.add(state, 2, 10.0, 6.0, 1.0)
    assert toxic.add(state, 2, 10.0, 9.0, 0.0)
    # 6 bought and 4 sold, |2| of 10; 5 sold wait in the second.
    assert (state.filled, toxic.toxicity(state)) == (1, pytest.approx(0.2))
    assert toxic.add(state, 2, 10.0, 5.0, 0.0)
    assert toxic.toxicity(state) == pytest.approx((2.0 + 10.0) / 20.0)


def test_an_open_bucket_keeps_its_size():
    state = market()
    toxic.add(state, 4, 10.0, 1.0, 1.0)
    assert toxic.add(state, 4, 50.0, 9.0, 1.0)
    assert not toxic.add(state, 4, 50.0, 49.0, 1.0)
    assert toxic.add(state, 4, 5.0, 1.0, 1.0)
    assert state.volume_lots == 60.0


def test_a_giant_costs_no_more_than_a_window():
    state = market()
    toxic.add(state, 8, 10.0, 5.0, 0.0)
    assert toxic.add(state, 8, 10.0, 2.0**52 + 3.0, 1.0)
    assert (state.filled, toxic.toxicity(state)) == (8, 1.0)
    # Phase is kept: the giant ends 8 lots into a bucket, as when it is cut by hand.
    by_hand = market()
    toxic.add(by_hand, 8, 10.0, 5.0, 0.0)
    for _ in range(100):
        toxic.add(by_hand, 8, 10.0, 10.0, 1.0)
    toxic.add(by_hand, 8, 10.0, (2.0**52 + 3.0) % 10.0, 1.0)
    assert state.room_lots == by_hand.room_lots


def test_rounding_does_not_add_up():
    state = market()
    toxic.add(state, 3, 1e15, 2e15, 1.0)
    for _ in range(12):
        toxic.add(state, 3, 3.3, 3.3, 0.8)
    assert toxic.toxicity(state) == pytest.approx(0.6)


def test_a_restart_empties_the_window_and_keeps_the_past():
    state = market()
    for n in range(40):
        toxic.add(state, 2, 10.0, 10.0, 0.25 * (n % 4))
        toxic.remember(state, 2, HISTORY_S, n * NS_PER_S)
    weight = state.past.sum()
    toxic.add(state, 2, 10.0, 7.0, 0.0)
    toxic.restart(state)
    assert (state.filled, state.rank, toxic.toxicity(state)) == (0, 0.0, 0.0)
    assert state.past.sum() == weight
    toxic.add(state, 2, 10.0, 10.0, 0.5)
    assert (state.filled, toxic.toxicity(state)) == (1, 0.0)


# --- Rank ---------------------------------------------------------------------------------------------------


def ranks(samples, window):
    """Rank of each sample (second, toxicity, is the window full) among the ones before, by its bin."""
    for i, (at_s, value, full) in enumerate(samples):
        past = [it for it in samples[:i] if it[2]]
        weights = np.array([math.exp((then_s - at_s) / HISTORY_S) for then_s, _, _ in past])
        bins = np.array([min(math.floor(it[1] * RANK_BINS), RANK_BINS - 1) for it in past])
        own = min(math.floor(value * RANK_BINS), RANK_BINS - 1)
        if full and weights.sum() >= LEAST_WINDOWS * window:
            yield (weights[bins < own].sum() + 0.5 * weights[bins == own].sum()) / weights.sum()
        else:
            yield 0.0


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0])), min_size=5, max_size=60
    )
)
def test_rank_is_the_share_of_a_slowly_forgotten_past_that_was_lower(steps):
    state, now_s, samples, found = market(), 0, [], []
    for gap_s, share in steps:
        now_s += gap_s
        toxic.add(state, 2, 10.0, 10.0, share)
        toxic.remember(state, 2, HISTORY_S, now_s * NS_PER_S)
        samples.append((now_s, float(toxic.toxicity(state)), state.filled == 2))
        found.append(float(state.rank))
    assert found == pytest.approx(list(ranks(samples, 2)), abs=1e-9)


def test_the_rank_of_what_never_was_so_toxic_is_high():
    state = market()
    for n in range(60):
        toxic.add(state, 2, 10.0, 10.0, 0.5 if n % 2 else 0.55)
        toxic.remember(state, 2, HISTORY_S, n * NS_PER_S)
    assert 0.2 < state.rank < 0.8
    toxic.add(state, 2, 10.0, 10.0, 1.0)
    toxic.remember(state, 2, HISTORY_S, 60 * NS_PER_S)
    assert state.rank == 1.0


def test_an_instant_before_the_last_forgets_nothing():
    state = market()
    for now_ns in (5 * NS_PER_S, 5 * NS_PER_S, 0):
        toxic.add(state, 1, 10.0, 10.0, 1.0)
        toxic.remember(state, 1, HISTORY_S, now_ns)
    assert state.past.sum() == 3.0
