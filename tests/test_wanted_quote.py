"""What funding, flow, a reference, a model and a ladder make of a quote, through the one `decide`."""

import math
from dataclasses import replace

import pytest
from test_reprice_pipeline import ACCOUNT, BID, BOOK, NOW, PARAMS, PLAIN_LOTS, held, pipe, why

from market_maker import reprice_pipeline as pipeline
from market_maker import wanted_quote
from market_maker.domain import BPS, NS_PER_S, Action, Reason, Side
from market_maker.grid import GridSettings, Strategy, slots_each
from market_maker.model_quotes import ModelSettings
from market_maker.model_table import model_row
from market_maker.order_flow import OrderFlowSettings
from market_maker.pricing_engine import OffsetMode, OffsetSettings, QuoteSettings
from market_maker.reference_price import PriceSource, ReferenceSettings
from market_maker.strategy_rows import Slot, State, levels_each

HOUR_NS = 3600 * NS_PER_S


def prices(made, account=ACCOUNT, now_ns=NOW):
    return [made.evaluate(account, Slot(side=side), now_ns).price_ticks for side in Side]


def shifted(made, account=ACCOUNT, now_ns=NOW):
    """Shift of the two quotes that was decided on, bps."""
    made.evaluate(account, Slot(), now_ns)
    return float(made.decision[0].skew_bps)


# --- funding


@pytest.mark.parametrize(("rate", "sign"), [(0.001, -1), (-0.001, 1), (0.0, 0)])
def test_quotes_lean_to_the_side_that_funding_pays(rate, sign):
    made = pipe()
    now_ns = NOW - NOW % HOUR_NS + HOUR_NS - 60 * NS_PER_S
    account = replace(ACCOUNT, last_frame_ns=now_ns)
    pipeline.observe_funding(made.params, made.state, rate, now_ns)
    assert math.copysign(1, shifted(made, account, now_ns)) == sign or (sign == 0 and shifted(made) == 0.0)


def test_the_limit_of_the_side_that_pays_shrinks_and_the_other_keeps_the_hard_one():
    made = pipe()
    now_ns = NOW - NOW % HOUR_NS + HOUR_NS - 60 * NS_PER_S
    pipeline.observe_funding(made.params, made.state, 0.002, now_ns)
    made.evaluate(replace(ACCOUNT, last_frame_ns=now_ns), Slot(), now_ns)
    rows = (made.params[0], made.state[0], made.account[0])
    carry = wanted_quote.carry_bps(*rows, now_ns)
    assert carry > 0.0
    assert wanted_quote.limit_lots(*rows, int(Side.BUY), carry) < ACCOUNT.limit_long_lots
    assert wanted_quote.limit_lots(*rows, int(Side.SELL), carry) == ACCOUNT.limit_short_lots


def test_an_inventory_that_is_paid_is_skewed_less_than_one_that_pays():
    now_ns = NOW - NOW % HOUR_NS + HOUR_NS - 60 * NS_PER_S
    account = replace(held(6_000), last_frame_ns=now_ns)
    skews = []
    for rate in (-0.0005, 0.0, 0.0005):
        made = pipe()
        pipeline.observe_funding(made.params, made.state, rate, now_ns)
        made.evaluate(account, Slot(), now_ns)
        skews.append(made.decision[0].skew_bps + made.decision[0].conditions.carry_bps)
    assert skews[0] > skews[1] > skews[2]


def test_an_index_far_under_the_quotes_foretells_that_longs_pay():
    made = pipe()
    for second in range(0, 600, 5):
        made.observe(BOOK, NOW + second * NS_PER_S)
        pipeline.observe_price(
            made.params, made.state, int(PriceSource.INDEX), 83_000.0, NOW + second * NS_PER_S
        )
    now_ns = NOW + 600 * NS_PER_S
    made.evaluate(replace(ACCOUNT, last_frame_ns=now_ns), Slot(), now_ns)
    assert made.decision[0].conditions.carry_bps > 0.0


def test_an_index_before_any_book_makes_no_premium():
    made = pipe()
    made.state[0] = pipe(sigma_bps=0.0).state[0]
    made.state[0].book.bid_ticks = 0
    pipeline.observe_price(made.params, made.state, int(PriceSource.INDEX), 83_000.0, NOW)
    assert made.state[0].funding.index_ns == 0


# --- order flow


def test_buyers_shift_both_quotes_up_and_sellers_down():
    plain = shifted(pipe())
    for direction in (1.0, -1.0):
        made = pipe()
        made.state[0].flow.direction = direction
        assert (shifted(made) - plain) * direction > 0.0


def test_toxic_buying_widens_and_pulls_the_ask_but_never_both_sides():
    made = pipe(replace(PARAMS, flow=OrderFlowSettings()))
    flow = made.state[0].flow
    flow.direction, flow.toxic_rank, flow.volume_imbalance = 1.0, 1.0, 1.0
    assert why(made.evaluate(ACCOUNT, Slot(side=Side.SELL), NOW)) == ("KEEP", "TOXIC_FLOW")
    assert made.evaluate(ACCOUNT, Slot(side=Side.BUY), NOW).action == Action.PLACE
    assert made.decision[0].conditions.extra_bps > 0.0
    assert made.evaluate(held(5_000), Slot(side=Side.SELL), NOW).reduce_only


# --- a reference


def led(beta, source=PriceSource.OUTSIDE):
    made = pipe(replace(PARAMS, reference=ReferenceSettings(reference_source=source, reference_beta=beta)))
    for second in range(300):
        now_ns = NOW + second * NS_PER_S
        made.observe(BOOK, now_ns)
        pipeline.observe_price(made.params, made.state, int(source), 84_100.0, now_ns)
    return made, NOW + 300 * NS_PER_S


def test_the_fair_value_follows_a_reference_that_has_moved():
    made, now_ns = led(beta=0.5)
    before = wanted_quote.fair_ticks(made.params[0], made.state[0])
    pipeline.observe_price(made.params, made.state, int(PriceSource.OUTSIDE), 84_100.0 * 1.0004, now_ns)
    after = wanted_quote.fair_ticks(made.params[0], made.state[0])
    assert BPS * (after / before - 1.0) == pytest.approx(2.0, abs=0.15)


def test_a_reference_that_has_run_away_takes_new_risk_from_both_sides():
    made, now_ns = led(beta=0.0)
    pipeline.observe_price(made.params, made.state, int(PriceSource.OUTSIDE), 84_100.0 * 1.02, now_ns)
    account = replace(ACCOUNT, last_frame_ns=now_ns)
    for side in Side:
        assert made.evaluate(account, Slot(side=side), now_ns).reason == Reason.REFERENCE_FAR
    long = replace(held(5_000), last_frame_ns=now_ns)
    assert made.evaluate(long, Slot(side=Side.SELL), now_ns).reduce_only


def test_a_reference_that_falls_silent_takes_new_risk_away_after_a_while():
    made, now_ns = led(beta=0.0)
    # While nothing moves here, silence there is no news.
    made.observe(BOOK._replace(bid_ticks=BID + 1, ask_ticks=BID + 2), now_ns)
    later_ns = now_ns + 1_000 * NS_PER_S
    made.observe(BOOK, later_ns)
    account = replace(ACCOUNT, last_frame_ns=later_ns)
    assert made.evaluate(account, Slot(), later_ns).reason == Reason.REFERENCE_STALE


# --- models


def by_model(mode, **changes):
    model = ModelSettings(model_a_per_s=0.5, model_k_per_bps=0.4, model_sigma_bps=5.0, **changes)
    offset = OffsetSettings(offset_mode=mode, min_offset_bps=0.0, offset_latency_sigmas=0.0)
    return pipe(replace(PARAMS, offset=offset, model=model, model_row=model_row(model, 10.0)))


@pytest.mark.parametrize("mode", [OffsetMode.AVELLANEDA_STOIKOV, OffsetMode.GLFT])
def test_a_model_sets_distance_and_shift(mode):
    made = by_model(mode)
    flat = prices(made)
    assert flat[0] < BID + 0.5 < flat[1]
    assert shifted(made) == pytest.approx(0.0, abs=1e-9)
    long, short = shifted(made, held(5 * PLAIN_LOTS)), shifted(made, held(-5 * PLAIN_LOTS))
    assert long < 0.0 < short
    assert long == pytest.approx(-short, rel=0.01)


def test_a_trend_and_a_carry_are_the_models_drift():
    made = by_model(OffsetMode.GLFT)
    flat = shifted(made)
    made.state[0].trend.z = 4.0
    made.state[0].trend.covered_s = 1e6
    made.state[0].market_view.trend_direction = 1
    assert shifted(made) > flat


def test_a_model_without_a_table_quotes_at_the_floor():
    offset = OffsetSettings(offset_mode=OffsetMode.GLFT)
    made = pipe(replace(PARAMS, offset=offset))
    made.evaluate(ACCOUNT, Slot(), NOW)
    assert made.decision[0].offset_bps == pytest.approx(offset.min_offset_bps)


# --- a ladder

GRID = GridSettings(
    strategy=Strategy.GRID, grid_levels=3, grid_min_spacing_bps=10.0, grid_max_spacing_bps=10.0
)
LADDER = replace(PARAMS, grid=GRID, quote=QuoteSettings(num_levels=1))


def ladder(made, account, now_ns=NOW):
    """Action, reason and price of every slot."""
    slots = [(side, level) for side in Side for level in range(slots_each(GRID))]
    return {
        (side, level): made.evaluate(account, Slot(side=side, level=level), now_ns) for side, level in slots
    }


def test_a_ladder_places_its_lines_on_both_sides_and_leaves_the_others_empty():
    assert levels_each(LADDER) == slots_each(GRID)
    found = ladder(pipe(LADDER), ACCOUNT)
    placed = [decision for decision in found.values() if decision.action == Action.PLACE]
    buys = sorted(d.price_ticks for (side, _), d in found.items() if side == Side.BUY and d.price_ticks)
    sells = sorted(d.price_ticks for (side, _), d in found.items() if side == Side.SELL and d.price_ticks)
    assert len(placed) == 6
    assert buys[-1] < BID < sells[0]
    assert {d.reason for d in found.values() if d.action != Action.PLACE} == {Reason.GRID_IDLE}
    assert {decision.size_lots for decision in placed} == {PLAIN_LOTS}


def test_a_line_that_has_filled_re_arms_its_neighbour_on_the_other_side():
    made = pipe(LADDER)
    before = ladder(made, ACCOUNT)
    after = ladder(made, replace(ACCOUNT, position_lots=PLAIN_LOTS))
    sells = [
        {d.price_ticks for (side, _), d in found.items() if side == Side.SELL and d.price_ticks}
        for found in (before, after)
    ]
    (armed,) = sells[1] - sells[0]
    assert armed < min(sells[0])


def test_a_ladder_takes_no_new_risk_in_an_extreme_or_without_a_mark():
    made = pipe(LADDER)
    made.state[0].market_view.regime = 3
    reasons = {decision.reason for decision in ladder(made, ACCOUNT).values()}
    assert reasons <= {Reason.EXTREME_REGIME, Reason.GRID_IDLE}
    reasons = {d.reason for d in ladder(pipe(LADDER), replace(ACCOUNT, mark_ticks=0.0)).values()}
    assert reasons <= {Reason.MARK_MISSING, Reason.GRID_IDLE}


def test_a_ladder_stays_within_the_price_band():
    account = replace(ACCOUNT, band_high_ticks=BID - 150, band_low_ticks=BID + 150)
    reasons = {decision.reason for decision in ladder(pipe(LADDER), account).values()}
    assert Reason.PRICE_BAND in reasons


def test_a_reference_that_has_run_away_stops_a_ladder_too():
    reference = ReferenceSettings(reference_source=PriceSource.INDEX)
    made = pipe(replace(LADDER, reference=reference))
    made.state[0].reference = led(beta=0.0, source=PriceSource.INDEX)[0].state[0].reference
    now_ns = NOW + 300 * NS_PER_S
    made.observe(BOOK, now_ns)
    pipeline.observe_price(made.params, made.state, int(PriceSource.INDEX), 84_100.0 * 1.02, now_ns)
    account = replace(ACCOUNT, last_frame_ns=now_ns)
    assert Reason.REFERENCE_FAR in {d.reason for d in ladder(made, account, now_ns).values()}


def test_a_state_begins_without_any_signal():
    state = State()
    assert (state.flow.direction, state.reference.has_price, state.funding.stated_ns) == (0.0, False, 0)


# --- the kill ladder


@pytest.mark.parametrize("position_lots", [-3_000, 0, 3_000])
def test_a_widened_quote_is_further_off_where_it_opens_and_stays_where_it_reduces(position_lots):
    made, account = pipe(), held(position_lots)
    plain = prices(made, account)
    wide = prices(made, replace(account, widening=3.0))
    for side, before, after in zip(Side, plain, wide, strict=True):
        assert (side * (before - after) > 0) if side * position_lots >= 0 else before == after


def test_a_widening_that_is_no_number_brings_no_price():
    made = pipe()
    decision = made.evaluate(replace(ACCOUNT, widening=math.nan), Slot(), NOW)
    assert decision.reason is Reason.NOT_FINITE
