"""Block bootstrap: how often the truth lies inside, and what pairing and block lengths do."""

import math
from dataclasses import replace
from decimal import Decimal
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.backtest.conclusions import Evidence, Source, conclusions
from market_maker.backtest.intervals import (
    block_count,
    block_length,
    difference,
    differences,
    estimates,
    intervals,
    resample,
    student_quantile,
)
from market_maker.backtest.outcome import BUCKET_DTYPE, FIGURES, Interval, Label, Outcome
from market_maker.backtest.series import Buckets, Mids, Thinned
from market_maker.ledger import PnlParts
from market_maker.summary import RunSummary, Uptime

ZERO = PnlParts(*[Decimal(0)] * 7)


def stretches(count, seconds=10.0, **columns):
    rows = np.zeros(count, BUCKET_DTYPE)
    rows["seconds"] = seconds
    rows["end_ns"] = (np.cumsum(rows["seconds"]) * 1e9).astype(np.int64)
    rows["volume"], rows["held2_s"], rows["return2"] = 100.0, 50.0, 1e-8
    for name, values in columns.items():
        rows[name] = values
    return rows


def autoregressive(rng, count, memory):
    found, value = np.empty(count), rng.standard_normal() / math.sqrt(1 - memory**2)
    for i, draw in enumerate(rng.standard_normal(count)):
        value = memory * value + draw
        found[i] = value
    return found


def outcome(rows, name="one"):
    summary = RunSummary(name, "X", name, "base", Uptime(0, 0), ZERO)
    return Outcome(Label(name, name, "base", 0.0), "X", summary, buckets=rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "memory", "least"), [(120, 0.0, 0.92), (360, 0.5, 0.91), (1_500, 0.7, 0.89)]
)
def test_nineteen_of_twenty_intervals_hold_the_truth(count, memory, least):
    # A mean of 0.3 a stretch, and volume that comes in bursts of its own.
    trials, hits, ratio_hits = 200, 0, 0
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        volume = rng.poisson(0.5, count) * 500.0
        rows = stretches(count, inventory=autoregressive(rng, count, memory) + 0.3, volume=volume)
        found = intervals(rows, seed=7, resamples=400)
        hour, ratio = found["pnl_per_hour_usd"], found["pnl_bps_of_volume"]
        hits += hour.low <= 0.3 * 360 <= hour.high
        ratio_hits += ratio.low <= 0.3 / 250 * 1e4 <= ratio.high
    assert least <= hits / trials <= 0.99
    assert least <= ratio_hits / trials <= 0.995


def test_intervals_that_ignore_memory_would_be_too_narrow():
    rng = np.random.default_rng(3)
    rows = stretches(1_500, inventory=autoregressive(rng, 1_500, 0.9))
    by_blocks = intervals(rows, seed=1)["pnl_per_hour_usd"]
    drawn = resample(rows["inventory"][None].astype(float), 1, 1_000, seed=1)[0]
    alone = np.quantile(drawn, [0.025, 0.975])
    assert by_blocks.high - by_blocks.low > 2.0 * (alone[1] - alone[0]) / rows["seconds"].sum() * 3600


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(1, 60), st.integers(0, 3))
def test_drawn_series_are_as_long_as_the_recorded_one(count, length, seed):
    length = min(length, count)
    drawn = resample(np.ones((1, count)), length, 20, seed)
    assert np.allclose(drawn, count)


@settings(max_examples=40)
@given(st.integers(2, 5_000), st.sampled_from([1.0, 10.0, 40.0, 600.0]))
def test_a_block_is_a_minute_or_longer(count, seconds):
    rows = stretches(count, seconds)
    length = block_length(rows)
    assert length * seconds >= min(60.0, count * seconds)
    assert length >= min(count, 2 * count ** (1 / 3) - 1e-9)
    assert block_count(rows) == count // length


@pytest.mark.parametrize("degrees", [3, 5, 10, 30, 100])
def test_students_quantile_has_its_probability(degrees):
    # By integrating the density.
    upper = student_quantile(0.975, degrees)
    grid = np.linspace(0.0, upper, 200_001)
    density = (1 + grid**2 / degrees) ** (-(degrees + 1) / 2)
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    assert 0.5 + scale * np.trapezoid(density, grid) == pytest.approx(0.975, abs=0.002)
    assert upper > NormalDist().inv_cdf(0.975)


def test_estimates_are_the_plain_figures():
    rows = stretches(36, spread=2.0, inventory=-1.0, fees=-0.25, held2_s=1e9, return2=4e-8)
    found = estimates(rows)
    assert found["spread_bps"] == pytest.approx(200.0)
    assert found["pnl_bps_of_volume"] == pytest.approx(75.0)
    assert found["pnl_per_hour_usd"] == pytest.approx(0.75 * 360)
    # σ² a second 4e-9, square inventory 1e8 USD².
    assert found["pnl_per_inventory_risk"] == pytest.approx(0.75 * 360 / math.sqrt(4e-9 * 1e8 * 3600))
    assert list(found) == list(FIGURES)


def test_what_is_not_defined_is_left_out():
    found = intervals(stretches(400, inventory=1.0, volume=0.0), seed=0)
    assert set(found) == {"pnl_per_hour_usd", "pnl_per_inventory_risk"}
    assert intervals(stretches(400, held2_s=0.0), seed=0).keys() == set(FIGURES) - {"pnl_per_inventory_risk"}
    assert intervals(stretches(10), seed=0) == {}
    assert intervals(stretches(0), seed=0) == {}
    # One burst of volume: most drawn series have none of it.
    once = np.zeros(2_000)
    once[500] = 1e4
    assert "spread_bps" not in intervals(stretches(2_000, volume=once, spread=once * 1e-4), seed=0)


def test_the_same_seed_draws_the_same():
    rows = stretches(300, inventory=np.random.default_rng(1).normal(size=300))
    assert intervals(rows, 5) == intervals(rows, 5)
    assert intervals(rows, 5) != intervals(rows, 6)


def test_pairing_takes_out_what_the_market_did_to_both():
    rng = np.random.default_rng(8)
    market = rng.normal(scale=5.0, size=600)
    first = outcome(stretches(600, inventory=market + 0.2 + rng.normal(scale=0.2, size=600)))
    second = outcome(stretches(600, inventory=market), "two")
    apart = intervals(first.buckets, 0)["pnl_per_hour_usd"]
    found = difference(first, second)
    assert found.estimate == pytest.approx(0.2 * 360, rel=0.2)
    assert not found.spans_zero
    assert apart.spans_zero
    assert found.high - found.low < 0.1 * (apart.high - apart.low)
    back = difference(second, first)
    assert back.estimate == pytest.approx(-found.estimate)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low), rel=0.15)


def test_a_difference_needs_the_same_time_and_enough_of_it():
    one = outcome(stretches(300))
    with pytest.raises(ValueError, match="expected two outcomes of the same time"):
        difference(one, outcome(stretches(299), "two"))
    assert difference(outcome(stretches(8)), outcome(stretches(8), "two")) is None
    quiet = outcome(stretches(300, volume=0.0), "quiet")
    assert difference(one, quiet, "spread_bps") is None


def test_the_first_is_held_against_each_other_one_of_its_kind():
    rng = np.random.default_rng(8)
    market = rng.normal(size=600)

    def played(name, more, fill_model="base", count=600):
        found = outcome(stretches(count, inventory=market[:count] + more), name)
        return replace(found, label=Label(name, name, fill_model, 0.25))

    everybody = [
        *(played("crypto", 0.5), played("legacy", 0.0), played("glft", 0.7), played("late", 0.0, count=500)),
        *(played("crypto", 0.5, "optimistic"), played("legacy", 0.1, "optimistic")),
    ]
    found = differences(everybody)
    assert [(one.fill_model, one.first, one.second) for one in found] == [
        ("base", "crypto", "legacy"),
        ("base", "crypto", "glft"),
        ("optimistic", "crypto", "legacy"),
    ]
    assert [one.pnl_per_hour_usd.estimate for one in found] == pytest.approx([180.0, -72.0, 144.0])
    assert found[0].pnl_per_hour_usd == difference(everybody[0], everybody[1])
    assert differences([played("a", 0.0, count=8), played("b", 0.0, count=8)]) == []


EVIDENCE = Evidence(
    fills=5_000,
    blocks=100,
    seconds=36_000.0,
    volume_share=0.01,
    intervals={"pnl_per_hour_usd": Interval(1.0, 0.5, 1.5, 0.95, 100)},
)


@pytest.mark.parametrize(
    ("changed", "source", "sentences"),
    [
        ({}, Source("Extended"), []),
        ({"fills": 0}, Source("Extended"), ["Nothing was filled"]),
        ({"liquidated": True}, Source("Extended"), ["Its equity fell to the maintenance margin"]),
        ({"fills": 1}, Source("Extended"), ["1 fill: too few"]),
        ({"fills": 99}, Source("Extended"), ["99 fills: too few"]),
        (
            {"blocks": 1, "seconds": 90.0},
            Source("Extended"),
            ["1.5 minutes were scored, 1 independent block"],
        ),
        ({"blocks": 9}, Source("Extended"), ["9 independent blocks of time: too short"]),
        ({"volume_share": 0.051}, Source("Extended"), ["Our volume is 5.1% of the market's: beyond 5%"]),
        (
            {"intervals": {"pnl_per_hour_usd": Interval(1.0, -0.5, 1.5, 0.95, 100)}},
            Source("Extended"),
            ["Profit and loss cannot be told apart: +1 USD an hour, 95% interval -0.5 … +1.5."],
        ),
        ({}, Source("StandX", sides_sure=False), ["The taker's side", "Recorded on StandX, not on Extended"]),
        ({}, Source(), ["Recorded on another venue"]),
    ],
)
def test_what_stands_against_a_conclusion_is_said(changed, source, sentences):
    found = conclusions(replace(EVIDENCE, **changed), source)
    assert len(found) == len(sentences)
    for sentence, start in zip(found, sentences, strict=True):
        assert start in sentence
        assert sentence.endswith(".")


@settings(max_examples=40)
@given(st.lists(st.integers(0, 40), max_size=12), st.sampled_from([4, 6, 16]))
def test_merged_stretches_lose_nothing(counts, limit):
    buckets, end, total = Buckets(limit), 0, 0
    for count in counts:
        rows = stretches(count, inventory=np.arange(total, total + count, dtype=float))
        rows["end_ns"] = np.arange(total + 1, total + count + 1)
        buckets.add(rows)
        total += count
        end = total
    found = buckets.rows()
    assert len(found) <= limit + 1
    assert found["seconds"].sum() == pytest.approx(10.0 * total)
    assert found["inventory"].sum() == pytest.approx(total * (total - 1) / 2)
    if total:
        assert found["end_ns"][-1] == end
        lengths = np.diff(found["end_ns"], prepend=0)
        assert len(set(lengths[:-1].tolist())) <= 1
        assert np.allclose(lengths * 10.0, found["seconds"])


@settings(max_examples=40)
@given(st.lists(st.integers(0, 30), max_size=12), st.integers(2, 20))
def test_thinned_rows_are_evenly_spread(counts, limit):
    thinned, total = Thinned(limit, np.dtype([("n", np.int64)])), 0
    for count in counts:
        thinned.add(np.array([(total + i,) for i in range(count)], [("n", np.int64)]))
        total += count
    assert thinned.rows["n"].tolist() == list(range(0, total, thinned.stride))
    assert len(thinned.rows) <= limit


def test_moments_without_a_mid_keep_the_last_one():
    mids = Mids()
    mids.add(np.array([10, 20, 30]), np.array([100, 0, 300]))
    assert mids.at(np.array([9, 10, 25, 30, 99])).tolist() == [0, 100, 100, 300, 300]
    assert mids.before(np.array([10, 30, 31])).tolist() == [0, 100, 300]
    mids.forget(30)
    assert mids.before(np.array([30])).tolist() == [100]
    assert len(mids.ns) == 2
