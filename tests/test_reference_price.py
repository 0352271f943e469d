"""Reference prices: basis and lead by their definitions, the lean under its cap, and both guards."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import reference_price as rp
from market_maker.domain import BPS, NS_PER_S, Reason
from market_maker.kernel import kernel, new_row
from market_maker.reference_price import PriceSource, ReferencePrice, ReferenceSettings, ReferenceState
from market_maker.toxicity_guard import GRID_NS

T0 = 1_700_000_000 * NS_PER_S
INDEX, OUTSIDE = PriceSource.INDEX, PriceSource.OUTSIDE
QUICK = ReferenceSettings(reference_beta=0.5, reference_basis_s=10.0)


def at(seconds):
    return T0 + round(seconds * NS_PER_S)


class Market:
    """A reference and a mid that are told each second; prices in bps from 100."""

    def __init__(self, params=QUICK):
        self.reference = ReferencePrice(params)
        self.now_s = 0.0

    def price(self, bps, source=INDEX):
        self.reference.on_price(source, 100.0 * math.exp(bps / BPS), at(self.now_s))
        return self

    def mid(self, bps):
        self.reference.on_mid(100.0 * math.exp(bps / BPS), at(self.now_s))
        return self

    def wait(self, seconds):
        self.now_s += seconds
        return self

    def steady(self, seconds, price_bps=0.0, mid_bps=0.0):
        for _ in range(seconds):
            self.price(price_bps).mid(mid_bps).wait(1.0)
        return self

    @property
    def lead(self):
        return self.reference.get().lead_bps

    @property
    def lean(self):
        return self.reference.get().lean_bps

    def check(self, sigma=0.0):
        return self.reference.check(sigma, at(self.now_s))


def test_the_lead_is_what_the_reference_moved_and_the_mid_did_not():
    market = Market().steady(30, 7.0, 10.0)
    assert (market.lead, market.lean) == (0.0, 0.0)
    market.price(11.0)
    assert market.lead == pytest.approx(4.0)
    assert market.lean == pytest.approx(2.0)
    market.mid(12.0)
    assert market.lead == pytest.approx(2.0)
    market.mid(14.0)
    assert market.lead == pytest.approx(0.0, abs=1e-9)
    market.price(3.0)
    assert market.lean == pytest.approx(-4.0)


def test_the_scale_of_the_reference_does_not_matter():
    market, other = Market(), Market()
    for second in range(40):
        market.price(second % 3).mid(second % 5).wait(1.0)
        other.price(second % 3 + 8_000.0).mid(second % 5).wait(1.0)
    assert other.reference.get() == pytest.approx(market.reference.get())
    assert market.lead != 0.0


def test_the_lean_is_capped_and_in_force_in_steps():
    market = Market(replace(QUICK, reference_beta=1.0, reference_max_lean_bps=2.25)).steady(30)
    leans = [market.price(bps).lean for bps in (0.0, 0.05, 0.14, 1.99, 2.11, 2.3, 300.0, -1.0, -300.0)]
    assert leans == pytest.approx([0.0, 0.0, 0.1, 1.9, 2.1, 2.25, 2.25, -1.0, -2.25])


def test_nothing_leans_by_default():
    market = Market(ReferenceSettings()).steady(150)
    assert market.price(3.0).lead == pytest.approx(3.0)
    assert market.lean == 0.0
    assert market.check() == (Reason.NONE, 0.0)


def test_nothing_leans_before_the_basis_was_observed_for_its_time():
    market = Market()
    assert market.price(0.0).mid(0.0).wait(1.0).price(5.0).lead == 0.0
    for _ in range(8):
        market.wait(1.0).mid(0.0).price(5.0)
    assert market.check(1.0) == (Reason.NONE, 0.0)
    assert market.lead == 0.0
    assert market.wait(1.0).mid(0.0).price(5.0).lead != 0.0


def expected_basis(gaps, tau, step):
    """Plain mean over the first time constant, then an exponential one, in closed form."""
    first = gaps[: round(tau / step)]
    weights = np.exp(-step / tau * np.arange(len(gaps) - len(first))[::-1]) * -math.expm1(-step / tau)
    kept = math.exp(-step / tau * (len(gaps) - len(first)))
    return kept * float(np.mean(first)) + float(weights @ gaps[len(first) :])


@pytest.mark.parametrize("step", [0.25, 1.0])
def test_the_basis_is_a_mean_over_the_time_that_each_gap_was_in_force(step):
    rng = np.random.default_rng(3)
    market, gaps = Market(), []
    for n in range(120):
        price, mid = rng.normal(0.0, 20.0, 2)
        market.price(price).mid(mid).wait(step)
        gaps.append((mid - price) / BPS)
        before = ReferencePrice(QUICK)
        before.state[0] = market.reference.state[0]
        before.on_mid(100.0, at(market.now_s))
        if n > 0:
            assert before.state[0].basis == pytest.approx(
                expected_basis(np.array(gaps), 10.0, step), abs=2e-5
            )
    assert market.reference.state[0].covered_s == pytest.approx(119 * step)


def test_it_does_not_matter_how_often_the_same_is_told():
    sparse, dense = Market(), Market()
    for second in range(40):
        sparse.price(second % 4).mid(second % 3).wait(1.0)
        for _ in range(10):
            dense.price(second % 4).mid(second % 3).wait(0.1)
    assert dense.lead == pytest.approx(sparse.lead, abs=2 * rp.STEP_BPS)


@pytest.mark.parametrize(
    ("source", "price"), [(OUTSIDE, 100.0), (PriceSource.MARK, 100.0), (PriceSource.NONE, 100.0)]
)
def test_other_sources_are_not_heard(source, price):
    reference = ReferencePrice(QUICK)
    reference.on_price(source, price, at(0))
    assert not reference.state[0].has_price
    silent = ReferencePrice(replace(QUICK, reference_source=PriceSource.NONE))
    silent.on_price(source, price, at(0))
    assert not silent.state[0].has_price


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_a_price_that_is_none_is_left_out(price):
    market = Market().steady(30)
    before = market.reference.state.copy()
    market.reference.on_price(INDEX, price, at(30))
    market.reference.on_mid(min(price, 0.0) if price == price else 0.0, at(30))
    assert market.reference.state == before
    rp.on_mid(new_row(QUICK)[0], market.reference.state[0], price * math.inf, at(30))
    assert market.reference.state == before


def test_a_reference_is_silent_by_right_while_nothing_moves():
    market = Market().steady(30)
    for _ in range(60):
        market.wait(60.0)
        assert market.check(50.0) == (Reason.NONE, 0.0)
        market.mid(0.0)
        assert market.check(50.0) == (Reason.NONE, 0.0)


def test_silence_first_ends_the_lean_then_widens_then_stops_new_risk():
    market = Market().steady(30).price(4.0)
    assert market.lean == pytest.approx(2.0)
    market.mid(0.5).wait(3.0).mid(0.5)
    assert market.lean != 0.0
    market.wait(0.1).mid(0.5)
    assert market.lean == 0.0
    assert market.check(6.0) == (Reason.NONE, 0.0)
    market.wait(26.9)
    assert market.check(6.0) == (Reason.NONE, 0.0)
    assert market.wait(15.0).check(6.0) == (Reason.NONE, pytest.approx(3.0))
    reason, most = market.wait(75.0).check(6.0)
    assert (reason, most) == (Reason.NONE, pytest.approx(6.0 * math.sqrt(1.5)))
    assert market.wait(0.1).check(6.0) == (Reason.REFERENCE_STALE, pytest.approx(most))
    assert market.wait(3_600.0).check(6.0) == (Reason.REFERENCE_STALE, pytest.approx(most))
    # Back, and trusted anew: what the basis was is long past.
    market.price(500.0).mid(0.0)
    assert market.check(6.0) == (Reason.NONE, 0.0)
    assert market.steady(9, 500.0).lead == 0.0
    assert market.steady(10, 500.0).price(502.0).lead == pytest.approx(2.0)


def test_a_basis_is_not_learned_from_a_price_that_is_no_longer_one():
    market = Market().steady(30)
    market.mid(50.0)
    for _ in range(20):
        market.wait(1.0).mid(50.0)
    # Three seconds of the gap count, not twenty.
    assert market.lead == pytest.approx(-50.0 * math.exp(-0.3), abs=0.1)
    book_is_away = Market().steady(30)
    for _ in range(20):
        book_is_away.price(50.0).wait(1.0)
    assert book_is_away.mid(0.0).lead == pytest.approx(50.0 * math.exp(-0.2), abs=0.1)


def test_a_mid_that_was_away_for_long_starts_the_basis_anew():
    market = Market().steady(30)
    for _ in range(130):
        market.price(0.0).wait(1.0)
    assert market.mid(80.0).lead == 0.0
    assert market.check(0.0) == (Reason.NONE, 0.0)
    assert market.steady(20, 0.0, 80.0).price(1.0).lead == pytest.approx(1.0)


def test_what_comes_out_of_order_moves_no_time():
    market = Market().steady(30)
    covered = market.reference.state[0].covered_s
    market.wait(-5.0).price(4.0).mid(1.0)
    assert market.reference.state[0].covered_s == covered
    assert market.lead == pytest.approx(3.0)
    assert market.check(5.0) == (Reason.NONE, 0.0)


@pytest.mark.parametrize(("sigma", "limit"), [(0.0, 15.0), (20.0, 5 * 20 / math.sqrt(6)), (math.nan, 15.0)])
def test_a_far_reference_widens_by_the_excess_and_then_stops_new_risk(sigma, limit):
    known = 0.0 if math.isnan(sigma) else sigma
    assert rp.far_limit_bps(new_row(QUICK)[0], known) == pytest.approx(limit)
    for sign in (1.0, -1.0):
        market = Market().steady(30)
        assert market.price(sign * (limit - 0.5)).check(sigma) == (Reason.NONE, 0.0)
        reason, extra = market.price(sign * (limit + 5.0)).check(sigma)
        assert (reason, extra) == (Reason.NONE, pytest.approx(5.0, abs=rp.STEP_BPS))
        assert market.price(sign * (2 * limit - 0.5)).check(sigma)[0] is Reason.NONE
        reason, extra = market.price(sign * (2 * limit + 0.5)).check(sigma)
        assert (reason, extra) == (Reason.REFERENCE_FAR, pytest.approx(limit))
        assert market.price(sign * 1e6).check(sigma) == (Reason.REFERENCE_FAR, pytest.approx(limit))


def test_a_far_reference_is_forgiven_as_its_basis_is_learned():
    market = Market().steady(30).price(60.0)
    assert market.check()[0] is Reason.REFERENCE_FAR
    assert market.steady(20, 60.0).check() == (Reason.NONE, 0.0)


@kernel
def _play(params, state, kinds, values, times_ns, sigma, out):
    """Feed events (0: mid, 1: a price); what is in force after each: lean, reason, extra, lead, basis."""
    for i in range(kinds.size):
        if kinds[i] == 0:
            rp.on_mid(params[0], state[0], values[i], times_ns[i])
        else:
            rp.on_price(params[0], state[0], 2, values[i], times_ns[i])
        out[i, 0] = rp.lean_bps(params[0], state[0])
        reason, out[i, 2] = rp.check(params[0], state[0], sigma, times_ns[i])
        out[i, 1] = reason
        out[i, 3] = state[0].lead_bps
        out[i, 4] = state[0].basis


def played(events, params, sigma=10.0):
    out = np.zeros((len(events), 5))
    kinds, values, times_ns = (np.array(column) for column in zip(*events, strict=True))
    state = new_row(ReferenceState())
    _play(
        new_row(params),
        state,
        kinds.astype(np.int64),
        values.astype(np.float64),
        times_ns.astype(np.int64),
        float(sigma),
        out,
    )
    return out, state


_PRICES = st.floats(allow_nan=True, allow_infinity=True) | st.floats(4.0, 5.0)
_EVENTS = st.lists(
    st.tuples(st.integers(0, 1), _PRICES, st.integers(-(10**9), 200 * 10**9)), min_size=1, max_size=60
)
_PARAMS = st.builds(
    ReferenceSettings,
    reference_beta=st.floats(0.0, 1.0),
    reference_max_lean_bps=st.floats(0.0, 50.0),
    reference_basis_s=st.floats(1.0, 60.0),
    reference_far_sigmas=st.floats(0.0, 20.0),
)


def dated(events):
    now_ns = T0
    for kind, value, later_ns in events:
        now_ns += later_ns
        yield kind, value, now_ns


@settings(max_examples=150, deadline=None)
@given(_EVENTS, _PARAMS, _PRICES)
def test_whatever_comes_the_lean_keeps_its_cap_and_what_is_in_force_is_finite(events, params, sigma):
    out, _ = played(list(dated(events)), params, sigma)
    assert np.isfinite(out[:, [0, 3, 4]]).all()
    assert (np.abs(out[:, 0]) <= params.reference_max_lean_bps).all()
    assert (out[:, 0] * out[:, 3] >= 0.0).all()
    assert (out[:, 2] >= 0.0).all()
    assert set(out[:, 1]) <= {Reason.NONE, Reason.REFERENCE_STALE, Reason.REFERENCE_FAR}


@settings(max_examples=50, deadline=None)
@given(_EVENTS, _PARAMS, st.floats(0.0, 100.0))
def test_without_a_reference_there_is_no_effect(events, params, sigma):
    out, _ = played([(0, value, now_ns) for _, value, now_ns in dated(events)], params, sigma)
    assert not out[:, :4].any()


@settings(max_examples=50, deadline=None)
@given(_EVENTS, _PARAMS, st.integers(1, 59))
def test_what_comes_later_changes_nothing_before(events, params, cut):
    every = list(dated(events))
    whole, _ = played(every, params)
    part, _ = played(every[:cut], params)
    assert (part == whole[: len(part)]).all()


@settings(max_examples=50, deadline=None)
@given(_EVENTS, st.integers(0, 200 * 10**9), st.integers(0, GRID_NS - 1), st.floats(0.0, 100.0))
def test_between_events_the_answer_is_constant_within_a_slot(events, later_ns, within_ns, sigma):
    every = list(dated(events))
    _, state = played(every, QUICK)
    slot_ns = (every[-1][2] + later_ns) // GRID_NS * GRID_NS
    params = new_row(QUICK)[0]
    answers = [rp.check(params, state[0], sigma, ns) for ns in (slot_ns, slot_ns + within_ns)]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("sigma", [2.5, 8.0, 31.0])
def test_an_index_that_comes_each_second_hinders_nobody(sigma):
    rng = np.random.default_rng(11)
    per_s, seconds = 4, 400
    path = np.cumsum(rng.normal(0.0, sigma / math.sqrt(60.0 * per_s), per_s * seconds)) / BPS
    events = []
    for n, log_price in enumerate(path):
        now_ns = at(n / per_s)
        if n % per_s == 0:
            # The index is a second old, and rests where it was now and then.
            late = path[max(n - per_s, 0)] if rng.random() < 0.9 else path[max(n - 3 * per_s, 0)]
            events.append((1, 100.0 * math.exp(late), now_ns + 1))
        events.append((0, log_price + rng.normal(0.0, 0.3) / BPS, now_ns))
    out, _ = played(events, ReferenceSettings(), sigma)
    assert not out[:, 1].any()
    assert np.count_nonzero(out[:, 2]) < 0.01 * len(out)
    assert out[:, 3].any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("reference_beta", 1.01),
        ("reference_beta", math.nan),
        ("reference_max_lean_bps", -0.1),
        ("reference_basis_s", 0.0),
        ("reference_fresh_s", 0.0),
        ("reference_stale_s", 2.9),
        ("reference_dead_s", 29.0),
        ("reference_far_sigmas", -1.0),
        ("reference_far_s", 0.0),
        ("reference_far_bps", 0.0),
        ("reference_far_ratio", 0.9),
    ],
)
def test_a_setting_out_of_its_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name}: expected .* to .*, was"):
        ReferenceSettings(**{name: value})
