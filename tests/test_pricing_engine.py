"""Offsets, skew, rounding and sizes: tables, properties, and the bench class beside the kernels."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker import pricing_engine as pricing
from market_maker.domain import Book, Side
from market_maker.kernel import new_row
from market_maker.micro_price import MicroPriceSettings
from market_maker.pricing_engine import (
    Conditions,
    MarketParams,
    OffsetMode,
    OffsetSettings,
    PricingEngine,
    QuoteSettings,
    SkewSettings,
)
from market_maker.strategy_rows import Params
from market_maker.trend_signal import TrendMode, TrendSettings

LEGACY_OFFSET = OffsetSettings(
    offset_mode=OffsetMode.DYNAMIC, min_offset_bps=3.0, max_offset_bps=100.0, min_edge_bps=0.0
)
LEGACY_SKEW = SkewSettings(
    skew_max_bps=20.0, skew_sigma_multiple=0.0, skew_shape=1.0, skew_deadband=0.0, skew_cap_bps=10.0
)


def record(value):
    return new_row(value)[0]


def offset(settings, level=0, **conditions):
    return pricing.offset_bps(record(settings), record(Conditions(**conditions)), level)


def skew(settings, **conditions):
    return pricing.skew_bps(record(settings), record(OffsetSettings()), record(Conditions(**conditions)))


@pytest.mark.parametrize(
    ("sigma", "low", "high"), [(3.0, 1.0, 2.5), (5.0, 1.0, 2.5), (9.0, 1.0, 2.7), (30.0, 5.0, 12.0)]
)
def test_the_nearest_level_is_competitive_in_each_market(sigma, low, high):
    assert low <= offset(OffsetSettings(), sigma_bps=sigma, latency_s=0.1) <= high


@pytest.mark.parametrize(
    ("spread", "level", "expected"),
    [(0.1, 0, 3.0), (0.1, 1, 6.0), (8.0, 0, 8.0), (8.0, 1, 16.0), (250.0, 0, 100.0), (60.0, 1, 100.0)],
)
def test_the_dynamic_offset_follows_the_spread_between_3_and_100_bps(spread, level, expected):
    assert offset(LEGACY_OFFSET, level, spread_bps=spread) == pytest.approx(expected)


def test_the_fixed_offset_is_a_percent_for_each_level_without_a_ceiling():
    fixed = replace(LEGACY_OFFSET, offset_mode=OffsetMode.FIXED)
    assert [offset(fixed, level) for level in range(4)] == pytest.approx([30.0, 60.0, 90.0, 120.0])


def test_a_calm_scale_never_undercuts_the_cost_floor():
    # Lesson 8: scaled after the clamp, CALM went below the fees and ELEVATED above the ceiling.
    calm = {"spread_bps": 4.0, "fee_bps": 2.5, "sigma_bps": 6.0, "latency_s": 0.6, "offset_scale": 0.7}
    settings = replace(LEGACY_OFFSET, min_edge_bps=0.5)
    assert pricing.cost_floor_bps(record(settings), record(Conditions(**calm))) == pytest.approx(3.6)
    assert offset(settings, **calm) == pytest.approx(3.6)


def test_the_ceiling_moves_out_with_the_regime_and_never_in():
    assert offset(LEGACY_OFFSET, spread_bps=90.0, offset_scale=2.0) == pytest.approx(180.0)
    assert offset(LEGACY_OFFSET, spread_bps=500.0, offset_scale=2.0) == pytest.approx(200.0)
    assert offset(LEGACY_OFFSET, spread_bps=500.0, offset_scale=0.7) == pytest.approx(100.0)


def test_a_volatility_offset_ignores_the_scale_of_the_regime():
    plain = offset(OffsetSettings(), sigma_bps=30.0)
    assert offset(OffsetSettings(), sigma_bps=30.0, offset_scale=2.0) == plain


def test_what_the_guards_ask_for_is_added_below_the_ceiling():
    assert offset(LEGACY_OFFSET, spread_bps=8.0, extra_bps=2.5) == pytest.approx(10.5)
    assert offset(LEGACY_OFFSET, spread_bps=8.0, extra_bps=500.0) == pytest.approx(100.0)


@given(
    mode=st.sampled_from(list(OffsetMode)),
    sigma=st.floats(0, 300),
    spread=st.floats(0, 300),
    latency=st.floats(-1, 5),
    scale=st.floats(0.1, 5),
    fee=st.floats(-2, 5),
    level=st.integers(0, 5),
)
def test_no_offset_is_below_the_floor_and_farther_levels_are_never_nearer(
    mode, sigma, spread, latency, scale, fee, level
):
    settings = replace(OffsetSettings(), offset_mode=mode)
    c = {
        "sigma_bps": sigma,
        "spread_bps": spread,
        "latency_s": latency,
        "fee_bps": fee,
        "offset_scale": scale,
    }
    assert offset(settings, level, **c) >= pricing.cost_floor_bps(record(settings), record(Conditions(**c)))
    assert offset(settings, level + 1, **c) >= offset(settings, level, **c)


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.0, 0.0), (1.0, -10.0), (-1.0, 10.0), (0.5, -10.0 * math.tanh(0.5) / math.tanh(1.0))],
)
def test_the_legacy_skew_is_ten_bps_at_the_limit_in_any_market(share, expected):
    for sigma in (1.0, 80.0):
        assert skew(LEGACY_SKEW, inventory_share=share, sigma_bps=sigma) == pytest.approx(expected)


def test_the_skew_grows_with_volatility_and_has_a_deadband():
    settings = SkewSettings()
    at_limit = [skew(settings, inventory_share=1.0, sigma_bps=sigma) for sigma in (0.0, 5.0, 30.0)]
    assert at_limit == pytest.approx([-2.0, -6.25, -37.5])
    assert skew(settings, inventory_share=0.03, sigma_bps=30.0) == 0.0


def test_carry_shifts_both_quotes_down_and_everything_stays_under_one_cap():
    settings = SkewSettings()
    assert skew(settings, carry_bps=2.0) == pytest.approx(-2.0)
    assert skew(settings, carry_bps=-2.0) == pytest.approx(2.0)
    assert skew(settings, inventory_share=1.0, sigma_bps=200.0, skew_scale=2.0, carry_bps=50.0) == -150.0


@pytest.mark.parametrize(
    ("inventory", "expected"), [(0.0, 0.0), (50.0, 0.5), (-50.0, -1.0), (500.0, 1.0), (-10.0, -0.25)]
)
def test_inventory_is_measured_by_the_limit_that_binds(inventory, expected):
    # Lesson 14: with a limit that never binds, the skew was still zero at the cap.
    assert pricing.inventory_share(inventory, 100, 40) == expected


def test_without_a_limit_any_inventory_is_all_of_it():
    assert [pricing.inventory_share(q, 0, 0) for q in (-1.0, 0.0, 1.0)] == [-1.0, 0.0, 1.0]


@given(low=st.floats(-1, 1), high=st.floats(-1, 1), sigma=st.floats(0, 100), scale=st.floats(0.1, 4))
def test_a_larger_long_never_raises_the_skew(low, high, sigma, scale):
    low, high = sorted((low, high))
    c = {"sigma_bps": sigma, "skew_scale": scale}
    assert skew(SkewSettings(), inventory_share=high, **c) <= skew(SkewSettings(), inventory_share=low, **c)


def test_a_strong_trend_multiplies_the_skew_only_against_the_inventory():
    trend = record(TrendSettings())
    scales = [
        pricing.trend_skew_scale(trend, q, d) for q, d in ((5.0, -1), (5.0, 1), (-5.0, 1), (5.0, 0), (0.0, 1))
    ]
    assert scales == [2.0, 1.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize(("mode", "shrunk"), [(TrendMode.FOLLOW, Side.SELL), (TrendMode.FADE, Side.BUY)])
def test_a_rise_shrinks_the_asks_in_follow_and_the_bids_in_fade(mode, shrunk):
    trend = record(TrendSettings(trend_mode=mode, trend_size_growth=1.25))
    assert pricing.trend_size_scale(trend, int(shrunk), 1) == 0.5
    assert pricing.trend_size_scale(trend, -int(shrunk), 1) == 1.25
    assert pricing.trend_size_scale(trend, int(shrunk), 0) == 1.0


def test_an_opening_quote_never_comes_nearer_than_its_costs():
    settings, c = record(OffsetSettings()), record(Conditions(fee_bps=1.0))
    assert pricing.quote_distance_bps(settings, c, 1, 2.0, 5.0) == pytest.approx(1.3)
    assert pricing.quote_distance_bps(settings, c, -1, 2.0, 5.0) == pytest.approx(7.0)


@given(price=st.floats(0.001, 1e9), side=st.sampled_from([1, -1]))
def test_rounding_goes_outward_by_less_than_a_tick(price, side):
    ticks = pricing.round_outward(side, price)
    assert 0.0 <= side * (price - ticks) < 1.0


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf, 1e300])
def test_a_price_out_of_proportion_is_no_price(price):
    assert pricing.round_outward(1, price) == 0


def test_the_fair_value_leans_to_the_lighter_side():
    def fair(weight, bid_lots, ask_lots):
        settings = record(QuoteSettings(micro_price_weight=weight))
        return pricing.fair_value_ticks(settings, record(MicroPriceSettings()), 100, 110, bid_lots, ask_lots)

    assert fair(0.0, 9, 1) == 105.0
    assert fair(1.0, 9, 1) == 109.0
    assert fair(0.5, 9, 1) == 107.0
    assert fair(1.0, 0, 0) == 105.0


def test_the_edge_is_positive_on_the_right_side_of_the_fair_value():
    assert pricing.edge_bps(1, 9_990.0, 10_000.0, 2.0) == pytest.approx(8.0)
    assert pricing.edge_bps(-1, 9_990.0, 10_000.0, 0.0) == pytest.approx(-10.0)
    assert math.isnan(pricing.edge_bps(1, 1.0, 0.0, 0.0))


@pytest.mark.parametrize(("level", "expected"), [(0, 1000), (1, 1500), (2, 2250)])
def test_sizes_grow_from_level_to_level(level, expected):
    settings = record(QuoteSettings(level_size_growth=1.5))
    assert pricing.level_lots(settings, record(MarketParams(tick_lot_usd=1e-3)), level, 1000.0) == expected


@pytest.mark.parametrize(("fair", "unit"), [(0.0, 1.0), (math.nan, 1.0), (1.0, 0.0), (1e-300, 1e-5)])
def test_a_size_that_cannot_be_computed_is_none(fair, unit):
    assert pricing.level_lots(record(QuoteSettings()), record(MarketParams(tick_lot_usd=unit)), 0, fair) == 0


@pytest.mark.parametrize(
    ("scale", "depth", "expected"), [(1.0, 10**6, 100), (0.5, 10**6, 50), (1.0, 120, 60), (0.5, 0, 10)]
)
def test_scale_and_depth_shrink_a_size_to_no_less_than_the_smallest_order(scale, depth, expected):
    market = record(MarketParams(min_lots=10))
    assert pricing.scaled_lots(record(QuoteSettings()), market, 100, scale, depth) == expected


class FakeBooks:
    book = Book(10_000, 100, 10_002, 100, 500, 500, 0, 0)


class FakeRisk:
    def __init__(self, position_lots):
        self.position_lots = position_lots

    def limit_lots(self, side):
        return 100


def engine(position_lots=0):
    params = Params(market=MarketParams(min_lots=1, tick_lot_usd=0.01, maker_fee_bps=0.2))
    return PricingEngine(params, FakeBooks(), FakeRisk(position_lots), 0.1)


def test_the_engine_speaks_of_prices_in_usd():
    flat, calm = engine(), Conditions(sigma_bps=6.0)
    assert flat.fair_value() == pytest.approx(1000.1)
    assert flat.compute_offset(0, calm) == pytest.approx(0.2 + 6.0 / math.sqrt(12.0))
    assert flat.compute_target_price(Side.BUY, 0, calm) == pytest.approx(999.9)
    assert flat.compute_target_price(Side.SELL, 0, calm) == pytest.approx(1000.3)
    assert flat.inventory_skew(calm) == 0.0
    assert flat.theoretical_edge_bps(Side.BUY, 999.9) == pytest.approx(1.9998 - 0.2, abs=1e-4)
    assert flat.level_size(0) == 9


def test_the_engine_lets_a_reducing_quote_give_up_its_edge():
    long, wild = engine(90), Conditions(sigma_bps=30.0)
    assert long.inventory_skew(wild) < -30.0
    assert long.compute_target_price(Side.SELL, 0, wild) < 1000.1
    assert long.compute_target_price(Side.BUY, 0, wild) < 997.0


@pytest.mark.parametrize(
    ("side", "price", "expected"),
    [(Side.BUY, 100.1, 100.1), (Side.BUY, 100.19, 100.1), (Side.SELL, 100.11, 100.2), (Side.SELL, 0.3, 0.3)],
)
def test_a_price_on_the_grid_stays_where_it_is(side, price, expected):
    assert engine().round_to_tick(side, price) == pytest.approx(expected)
