"""Funding: the rate to expect against the exchange's meter, the holding time, the carry and its effects."""

import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.domain import NS_PER_S
from market_maker.emulator.funding import FundingMeter
from market_maker.emulator.rules import MoneyRules
from market_maker.funding import FundingCarry, FundingSettings, payments_held_for, premium_of, rate_of

HOUR_NS = 3600 * NS_PER_S
# Some whole hour; nothing is at the epoch.
START_NS = 490_992 * HOUR_NS
MINUTE_NS = 60 * NS_PER_S
SLOT_NS = NS_PER_S // 10
STEP_BPS = 0.05
PLAIN = FundingSettings()
RATES = st.floats(-0.01, 0.01)
INSTANTS = st.integers(START_NS, START_NS + 3 * HOUR_NS)


def with_rate(rate: float, settings: FundingSettings = PLAIN) -> FundingCarry:
    funding = FundingCarry(settings)
    funding.on_rate(rate, START_NS)
    return funding


def tell_premium(funding: FundingCarry, premium: float, now_ns: int) -> None:
    """An index such that the best quotes, a million ticks up, stand at this premium over it, or nearly so."""
    quotes = (999_999, 1_000_000) if premium < 0 else (1_000_000, 1_000_001)
    funding.on_index(1e6 / (1.0 + premium), *quotes, now_ns)


# --- what is set ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"funding_period_s": 0.0},
        {"funding_holding_s": math.nan},
        {"funding_holding_closings": 0.0},
        {"funding_holding_memory_s": math.inf},
        {"funding_premium_smoothing_s": 0.0},
        {"funding_max_carry_bps": -1.0},
        {"funding_full_effect_bps": 0.0},
        {"funding_skew_growth": -0.1},
        {"funding_skew_relief": 1.1},
        {"funding_limit_growth": -0.1},
        {"funding_limit_cut": 1.1},
    ],
)
def test_settings_out_of_bounds_are_named(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"^{name}: expected .* was "):
        FundingSettings(**changes)


def test_switched_off_nothing_costs_anything():
    funding = with_rate(0.01, FundingSettings(funding_enabled=False))
    tell_premium(funding, 0.02, START_NS + NS_PER_S)
    later = START_NS + 59 * MINUTE_NS
    assert funding.carry_bps(later) == 0.0
    assert (funding.skew_scale(later, 5.0), funding.limit_scale(later, 1)) == (1.0, 1.0)


# --- the rate ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "bid", "ask", "premium"),
    [
        (100.0, 99, 101, 0.0),
        (100.0, 101, 102, 0.01),
        (100.0, 98, 99, -0.01),
        (98.5, 99, 101, 0.5 / 98.5),
        (101.5, 99, 101, -0.5 / 101.5),
        (0.0, 99, 101, math.nan),
        (math.nan, 99, 101, math.nan),
        (math.inf, 99, 101, math.nan),
        (100.0, 0, 101, math.nan),
        (100.0, 101, 101, math.nan),
        (1.0, 99, 101, math.nan),
    ],
)
def test_premium_of_the_best_quotes(index, bid, ask, premium):
    assert premium_of(index, bid, ask) == pytest.approx(premium, nan_ok=True)


@pytest.mark.parametrize(
    ("premium", "rate"),
    [
        (0.0, 0.0000125),
        (0.0006, 0.0000125),
        (-0.0004, 0.0000125),
        (0.0085, 0.001),
        (-0.0085, -0.001),
        (0.00098, 0.00006),
    ],
)
def test_rate_of_a_mean_premium(premium, rate):
    assert rate_of(premium) == pytest.approx(rate)


def test_nothing_is_expected_while_nothing_is_known():
    funding = FundingCarry()
    assert funding.expected_rate(START_NS) == 0.0
    assert funding.carry_bps(START_NS + 59 * MINUTE_NS) == 0.0


def test_without_an_index_the_stated_rate_is_all_there_is():
    funding = with_rate(0.0003)
    assert funding.expected_rate(START_NS + 10 * HOUR_NS) == 0.0003
    for wrong in (math.nan, math.inf, -1.5):
        funding.on_rate(wrong, START_NS + HOUR_NS)
    funding.on_rate(0.0004, START_NS - 1)
    assert funding.expected_rate(START_NS + 10 * HOUR_NS) == 0.0003


def test_without_a_stated_rate_the_index_is_all_there_is():
    funding = FundingCarry()
    tell_premium(funding, 0.0085, START_NS + 30 * MINUTE_NS)
    assert funding.expected_rate(START_NS + 50 * MINUTE_NS) == pytest.approx(0.001)
    funding.on_index(math.nan, 1, 2, START_NS + 31 * MINUTE_NS)
    tell_premium(funding, -0.0085, START_NS + 29 * MINUTE_NS)
    assert funding.expected_rate(START_NS + 50 * MINUTE_NS) == pytest.approx(0.001)


def premiums(seed: int, count: int) -> list[float]:
    return (0.003 + np.cumsum(np.random.default_rng(seed).normal(0.0, 0.0003, count))).tolist()


@pytest.mark.parametrize("period_s", [3600, 60])
def test_the_prediction_is_the_exchanges_meter_with_the_rest_of_the_hour_filled(period_s):
    """What the meter took, and the smoothed present premium for what is still to come."""
    settings = FundingSettings(funding_period_s=float(period_s))
    funding = FundingCarry(settings)
    samples = 12 if period_s == 60 else 720
    series = premiums(3, samples)
    step_ns = period_s * NS_PER_S // samples
    # Half of the hour before, so that the present premium is known for as long as it is smoothed.
    tell_premium(funding, series[0], START_NS - NS_PER_S)
    meter = FundingMeter(MoneyRules(), Decimal(1))
    for number, premium in enumerate(series[:-1], start=1):
        tell_premium(funding, premium, START_NS + number * step_ns)
        if number % (samples // 6) == 1:
            filled = FundingMeter(MoneyRules(), Decimal(1))
            rest = float(funding.state[0].smoothed)
            for sample in series[: number - 1] + [rest] * (samples - number + 1):
                filled.sample(sample)
            assert float(funding.state[0].own_rate) == pytest.approx(float(filled.rate()), abs=2e-10)
        meter.sample(premium)
    meter.sample(series[-1])
    at_the_end = funding.expected_rate(START_NS + (samples - 1) * step_ns)
    assert at_the_end == pytest.approx(float(meter.rate()), rel=0.05 if samples == 12 else 0.002)


def test_the_premium_between_two_samples_does_not_count():
    often, seldom = FundingCarry(), FundingCarry()
    for second in range(1, 601):
        # What is told at an instant of the exchange's is in force there, and changes right after.
        now_ns = START_NS + second * NS_PER_S
        tell_premium(often, 0.002 if second % 5 == 0 else 0.009, now_ns)
        if second % 5 == 0:
            tell_premium(seldom, 0.002, now_ns)
    assert float(often.state[0].seen_weight) == float(seldom.state[0].seen_weight)
    assert float(often.state[0].seen_sum) == pytest.approx(float(seldom.state[0].seen_sum))


def test_own_sight_counts_by_the_weight_of_what_was_seen_of_the_hour():
    funding = with_rate(0.0)
    minutes = {}
    for second in range(50 * 60, 2 * 3600, 10):
        now_ns = START_NS + second * NS_PER_S
        tell_premium(funding, 0.0085, now_ns)
        minutes[second / 60] = funding.expected_rate(now_ns) / 0.001
    assert minutes[50] == 0.0
    assert minutes[55] == pytest.approx(1 - (50 / 55) ** 2, rel=0.02)
    assert minutes[59] == pytest.approx(1 - (50 / 59) ** 2, rel=0.02)
    # The next hour was seen from its beginning.
    assert minutes[61] == pytest.approx(1.0)
    assert minutes[119] == pytest.approx(1.0)


def test_a_fresh_view_is_trusted_as_the_present_premium_settles():
    funding = with_rate(0.0)
    for second in range(0, 301, 60):
        tell_premium(funding, 0.0085, START_NS + second * NS_PER_S)
        share = funding.expected_rate(START_NS + second * NS_PER_S) / 0.001
        assert share == pytest.approx(second / 300, abs=1e-9)


def test_a_stale_index_gives_way_to_the_stated_rate_and_its_silence_was_not_seen():
    funding = with_rate(0.0)
    for second in range(0, 1800, 5):
        tell_premium(funding, 0.0085, START_NS + second * NS_PER_S)
    last_ns = START_NS + 1795 * NS_PER_S
    assert funding.expected_rate(last_ns + MINUTE_NS) == pytest.approx(0.001)
    assert funding.expected_rate(last_ns + MINUTE_NS + SLOT_NS) == 0.0
    seen = float(funding.state[0].seen_weight)
    tell_premium(funding, 0.0, last_ns + 20 * MINUTE_NS)
    # A minute more was seen, up to sample 371 - 1 of the hour; the premium begins anew.
    assert float(funding.state[0].seen_weight) - seen == sum(range(359, 371))
    assert float(funding.state[0].smoothed) == 0.0
    assert funding.expected_rate(last_ns + 20 * MINUTE_NS) == 0.0


def test_an_index_of_another_hour_leaves_nothing_behind():
    funding = with_rate(0.0)
    tell_premium(funding, 0.0085, START_NS + 59 * MINUTE_NS)
    tell_premium(funding, 0.0, START_NS + 61 * MINUTE_NS)
    assert float(funding.state[0].seen_sum) == 0.0
    assert int(funding.state[0].passed) == 11


# --- the holding time -------------------------------------------------------------------------------------


def test_the_holding_time_is_the_setting_until_something_was_closed():
    funding = FundingCarry()
    assert funding.holding_s(START_NS) == 900.0
    funding.on_fill(0, 5, START_NS)
    funding.on_fill(5, 5, START_NS + NS_PER_S)
    assert funding.holding_s(START_NS + HOUR_NS) == 900.0
    assert FundingCarry(replace(PLAIN, funding_holding_memory_s=60.0)).holding_s(START_NS) == 60.0


@pytest.mark.parametrize("held_s", [30.0, 400.0, 3000.0])
def test_the_holding_time_of_positions_that_last_equally_long(held_s):
    """A lot bought or sold short, held so long, closed: again and again, with as long a pause between."""
    funding = FundingCarry(FundingSettings(funding_holding_memory_s=200_000.0))
    now_ns = START_NS
    for number in range(400):
        lots = (3, -3)[number % 2]
        funding.on_fill(0, lots, now_ns)
        now_ns += round(held_s * NS_PER_S)
        funding.on_fill(lots, -lots, now_ns)
        now_ns += round(held_s * NS_PER_S)
    n = float(funding.holding[0].closings)
    expected = (10 * 900.0 + n * held_s) / (10 + n)
    assert funding.holding_s(now_ns) == pytest.approx(expected, rel=0.02)


def test_the_holding_time_of_a_random_inventory_is_lifetime_by_little():
    """Lots come at random and each leaves after a time of its own: the mean of these comes out."""
    rng = np.random.default_rng(5)
    arrivals = np.cumsum(rng.exponential(40.0, 3000))
    departures = arrivals + rng.exponential(700.0, arrivals.size)
    events = sorted([(t, 1) for t in arrivals] + [(t, -1) for t in departures if t < arrivals[-1]])
    funding = FundingCarry(FundingSettings(funding_holding_memory_s=1e6))
    position = 0
    for at_s, change in events:
        funding.on_fill(position, change, START_NS + round(at_s * NS_PER_S))
        position += change
    assert funding.holding_s(START_NS + round(arrivals[-1] * NS_PER_S)) == pytest.approx(700.0, rel=0.1)


def test_a_fill_that_turns_the_position_closes_what_there_was():
    funding = FundingCarry()
    funding.on_fill(0, 5, START_NS)
    funding.on_fill(5, -8, START_NS + NS_PER_S)
    funding.on_fill(-3, 1, START_NS + NS_PER_S)
    row = funding.holding[0]
    assert float(row.closed_lots) == pytest.approx(6.0)
    assert (float(row.closings), int(row.position_lots)) == (2.0, -2)


def test_holding_on_makes_the_holding_time_longer_up_to_what_is_remembered():
    funding = FundingCarry()
    for _ in range(30):
        funding.on_fill(0, 4, START_NS)
        funding.on_fill(4, -4, START_NS + NS_PER_S)
    assert funding.holding_s(START_NS + NS_PER_S) < 300.0
    funding.on_fill(0, 400, START_NS + NS_PER_S)
    times = [funding.holding_s(START_NS + hour * HOUR_NS) for hour in range(1, 12)]
    assert times == sorted(times)
    assert times[-1] == 14_400.0
    # Long forgotten, the setting is back.
    funding.on_fill(400, -400, START_NS + 12 * HOUR_NS)
    assert funding.holding_s(START_NS + 300 * HOUR_NS) == pytest.approx(900.0, rel=1e-6)
    funding.on_fill(0, 1, START_NS + 3000 * HOUR_NS)
    assert funding.holding_s(START_NS + 3001 * HOUR_NS) == 900.0


def test_fills_out_of_order_do_not_turn_time_back():
    funding = FundingCarry()
    funding.on_fill(0, 4, START_NS + NS_PER_S)
    funding.on_fill(4, -2, START_NS)
    assert float(funding.holding[0].lot_seconds) == 0.0
    assert int(funding.holding[0].last_ns) == START_NS + NS_PER_S
    assert funding.holding_s(START_NS) == pytest.approx(9000 / 11)


# --- the carry --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("to_next_s", "mean_s"), [(60.0, 900.0), (1800.0, 900.0), (3600.0, 5000.0)])
def test_the_instants_held_over_by_simulation(to_next_s, mean_s):
    times = np.random.default_rng(7).exponential(mean_s, 200_000)
    held_over = np.floor((times - to_next_s) / 3600.0) + 1.0
    counted = float(np.maximum(held_over, 0.0).mean())
    assert payments_held_for(to_next_s, 3600.0, mean_s) == pytest.approx(counted, abs=0.01)


@pytest.mark.parametrize(
    ("minute", "carry"),
    # 2 bps × exp(−τ/15) / (1 − exp(−4)) in steps of 0.05, τ in minutes
    [(0, 0.05), (15, 0.1), (30, 0.3), (45, 0.75), (55, 1.45), (59.999, 2.05), (60, 0.05), (90, 0.3)],
)
def test_the_carry_ramps_up_to_the_instant(minute, carry):
    now_ns = START_NS + round(minute * MINUTE_NS)
    assert with_rate(0.0002).carry_bps(now_ns) == pytest.approx(carry)
    assert with_rate(-0.0002).carry_bps(now_ns) == pytest.approx(-carry)


@given(RATES, INSTANTS)
def test_the_carry_has_the_sign_of_the_rate_and_a_bound(rate, now_ns):
    carry = with_rate(rate).carry_bps(now_ns)
    assert carry * rate >= 0.0
    assert abs(carry) <= PLAIN.funding_max_carry_bps
    assert carry == pytest.approx(round(carry / STEP_BPS) * STEP_BPS)
    assert with_rate(-rate).carry_bps(now_ns) == -carry


@given(RATES, st.integers(0, 35_999), st.integers(0, 35_999))
def test_the_carry_grows_as_the_instant_nears_and_is_constant_in_a_slot(rate, one, other):
    funding = with_rate(rate)
    early, late = (START_NS + slot * SLOT_NS for slot in sorted((one, other)))
    assert abs(funding.carry_bps(early)) <= abs(funding.carry_bps(late))
    assert funding.carry_bps(late) == funding.carry_bps(late + SLOT_NS - 1)


@given(RATES, RATES, INSTANTS)
def test_a_higher_rate_never_makes_a_long_cheaper(one, other, now_ns):
    low, high = sorted((one, other))
    assert with_rate(low).carry_bps(now_ns) <= with_rate(high).carry_bps(now_ns)


@given(st.floats(1.0, 1e5), st.floats(1.0, 1e5), INSTANTS)
def test_who_holds_longer_pays_no_less(one, other, now_ns):
    short, long = sorted((one, other))
    carries = [
        with_rate(0.0001, replace(PLAIN, funding_holding_s=held)).carry_bps(now_ns) for held in (short, long)
    ]
    assert carries[0] <= carries[1]


@pytest.mark.parametrize("funding_period_s", [1.0, 3600.0])
@pytest.mark.parametrize("funding_holding_s", [1.0, 1e7])
def test_extremes_stay_in_bounds(funding_period_s, funding_holding_s):
    changes = {"funding_period_s": funding_period_s, "funding_holding_s": funding_holding_s}
    funding = with_rate(1.0, FundingSettings(funding_holding_memory_s=1e7, **changes))
    carries = [funding.carry_bps(START_NS + slot * SLOT_NS) for slot in range(0, 36_000, 997)]
    assert all(0.0 <= carry <= 5.0 for carry in carries)


# --- what it does -----------------------------------------------------------------------------------------

LATE_NS = START_NS + 59 * MINUTE_NS


@pytest.mark.parametrize(
    ("rate", "inventory", "skew", "long_limit", "short_limit"),
    [
        (0.0, 7.0, 1.0, 1.0, 1.0),
        (0.01, 7.0, 2.0, 0.5, 1.25),
        (0.01, -7.0, 0.5, 0.5, 1.25),
        (0.01, 0.0, 1.0, 0.5, 1.25),
        (-0.01, 7.0, 0.5, 1.25, 0.5),
        (-0.01, -7.0, 2.0, 1.25, 0.5),
        # A carry of half the full effect.
        (0.000105, 7.0, 1.5, 0.75, 1.125),
    ],
)
def test_skew_and_limits_by_who_is_paid(rate, inventory, skew, long_limit, short_limit):
    funding = with_rate(rate)
    assert funding.skew_scale(LATE_NS, inventory) == pytest.approx(skew)
    assert funding.limit_scale(LATE_NS, 1) == pytest.approx(long_limit)
    assert funding.limit_scale(LATE_NS, -1) == pytest.approx(short_limit)


SETTINGS = st.builds(
    FundingSettings,
    funding_full_effect_bps=st.floats(0.01, 50.0),
    funding_skew_growth=st.floats(0.0, 10.0),
    funding_skew_relief=st.floats(0.0, 1.0),
    funding_limit_growth=st.floats(0.0, 10.0),
    funding_limit_cut=st.floats(0.0, 1.0),
)


@given(SETTINGS, RATES, INSTANTS, st.floats(0.1, 1e6))
def test_the_paid_side_is_never_worse_off(settings, rate, now_ns, inventory):
    funding = with_rate(rate, settings)
    paid = -1 if rate > 0 else 1
    assert funding.limit_scale(now_ns, paid) >= 1.0 >= funding.limit_scale(now_ns, -paid) >= 0.0
    assert 0.0 <= funding.skew_scale(now_ns, paid * inventory) <= 1.0
    assert funding.skew_scale(now_ns, -paid * inventory) >= 1.0
