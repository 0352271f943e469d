"""Variants of a profile, and paired differences: exact where nothing differs, honest about chance."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from outcomes import outcome

from market_maker.backtest.ablation import (
    FEATURES,
    AblationError,
    Variant,
    compare,
    variant,
    variant_name,
    without,
)
from market_maker.backtest.intervals import paired
from market_maker.backtest.outcome import BUCKET_DTYPE, Label
from market_maker.config import SCHEMA

S = 10**9


def buckets(pnl, seconds=10):
    rows = np.zeros(len(pnl), BUCKET_DTYPE)
    rows["end_ns"] = np.arange(1, len(pnl) + 1) * seconds * S
    rows["seconds"] = seconds
    rows["inventory"] = pnl
    return rows


def noise(rng, shape):
    """Autocorrelated and heavy-tailed, as PnL is: a position is held for some stretches, and jumps happen."""
    shocks = rng.standard_t(4, size=(*shape[:-1], shape[-1] + 20))
    weights = 0.7 ** np.arange(12)
    return np.apply_along_axis(lambda row: np.convolve(row, weights, "full")[20 : 20 + shape[-1]], -1, shocks)


def run(name, pnl, *, profile="crypto", model="base", latency_s=0.25):
    return replace(outcome(), label=Label(name, profile, model, latency_s), buckets=buckets(pnl))


def test_the_same_run_differs_by_exactly_nothing():
    pnl = np.random.default_rng(3).normal(size=120)
    [found] = paired(buckets(pnl), [buckets(pnl)], confidence=0.999)
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.blocks == 12


def test_a_constant_gain_is_found_whatever_the_market_did():
    pnl = 100.0 * np.random.default_rng(3).normal(size=120)
    [found, worse] = paired(buckets(pnl), [buckets(pnl + 0.5), buckets(pnl - 0.25)])
    # 360 stretches an hour.
    assert found.estimate == pytest.approx(180.0)
    assert found.low == pytest.approx(found.high, abs=1e-6)
    assert worse.estimate == pytest.approx(-90.0)


def test_too_short_a_time_says_nothing():
    short = buckets(np.ones(17))
    assert paired(short, [short, short]) == [None, None]
    assert paired(buckets(np.ones(60)), []) == []


def test_another_seed_draws_others_and_the_same_the_same():
    rng = np.random.default_rng(1)
    first, second = buckets(rng.normal(size=200)), buckets(rng.normal(size=200))
    assert paired(first, [second], seed=1) == paired(first, [second], seed=1)
    assert paired(first, [second], seed=1) != paired(first, [second], seed=2)


def test_each_is_drawn_as_if_it_were_alone():
    rng = np.random.default_rng(1)
    first, *others = (buckets(rng.normal(size=200)) for _ in range(4))
    assert paired(first, others) == [paired(first, [other])[0] for other in others]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "blocks", "least"), [(180, 15, 0.89), (1200, 54, 0.92)])
def test_the_interval_of_no_difference_covers_it(count, blocks, least):
    """Of pairs that differ by chance alone some 95% of the intervals hold zero, fewer with few blocks."""
    pairs = noise(np.random.default_rng(11), (200, 2, count))
    found = [paired(buckets(first), [buckets(second)])[0] for first, second in pairs]
    assert {one.blocks for one in found} == {blocks}
    assert sum(one.spans_zero for one in found) >= 200 * least


@pytest.mark.slow
def test_all_of_a_family_hold_together():
    """Of families of ten comparisons, 95% have no interval beside the truth."""
    rng = np.random.default_rng(5)
    families, count = 25, 10
    whole = alone = 0
    for drawn in noise(rng, (families, 1 + count, 180)):
        runs = [run("crypto", drawn[0])] + [run(f"crypto v{i}", pnl) for i, pnl in enumerate(drawn[1:])]
        found = compare({"X": runs})
        assert {one.comparisons for one in found} == {count}
        whole += all(one.adjusted.spans_zero for one in found)
        alone += all(one.interval.spans_zero for one in found)
    # Two families that find something by chance would be bad luck, and without the adjustment most do.
    assert whole >= families - 3
    assert alone <= whole - 5


def test_every_variant_against_its_own_profile_under_the_same_terms():
    rng = np.random.default_rng(2)
    names = ("crypto", "crypto without flow", "legacy", "legacy without flow")
    runs = [
        run(name, rng.normal(size=90), profile=name.partition(" ")[0], model=model, latency_s=latency_s)
        for model, latency_s, name in product(("base", "pessimistic"), (0.01, 0.25), names)
    ]
    runs.append(run("glft", rng.normal(size=90), profile="baseline"))
    found = compare({"Here X-USD": runs, "There X-USD": runs[:4]})
    assert len(found) == 8 + 2
    assert {(one.profile, one.variant) for one in found} == {
        ("crypto", "crypto without flow"),
        ("legacy", "legacy without flow"),
    }
    by_terms = {(one.fill_model, one.latency_s): one.comparisons for one in found}
    assert by_terms[("base", 0.01)] == 4
    assert by_terms[("pessimistic", 0.25)] == 2
    for one in found:
        assert one.adjusted.estimate == one.interval.estimate
        assert one.adjusted.low <= one.interval.low <= one.interval.high <= one.adjusted.high
        assert one.adjusted.confidence == pytest.approx(1.0 - 0.05 / one.comparisons)


def test_what_was_not_scored_over_the_same_time_is_not_compared():
    full, other = run("crypto", np.ones(90)), run("crypto fade", np.ones(80))
    assert compare({"X": [full, other]}) == []
    assert compare({"X": [run("crypto", np.ones(9)), run("crypto fade", np.ones(9))]}) == []
    assert compare({"X": [full]}) == []


def test_features_are_switched_off_by_settings_that_exist():
    for overrides in FEATURES.values():
        for text in overrides:
            name, _, value = text.partition("=")
            assert SCHEMA.settings[name].parse(value) is False
            assert SCHEMA.settings[name].default is True


def test_variants_are_read():
    assert [one.name for one in without("micro_price,regime")] == ["without micro price", "without regime"]
    fade = variant("fade: trend_mode=fade ;")
    assert fade == Variant("fade", ("trend_mode=fade",))
    assert variant_name("crypto", fade) == "crypto fade"


@pytest.mark.parametrize("text", ["fade", "fade:", ":a=b", "a=b:c=d", ""])
def test_variants_of_another_form_are_refused(text):
    with pytest.raises(AblationError, match="expected NAME:setting=value"):
        variant(text)
    with pytest.raises(AblationError, match="expected features such as regime"):
        without(text)
