"""One observe and one decide: precedence, limits, moves; every decision carries a reason."""

import math
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from market_maker import reprice_pipeline as pipeline
from market_maker.domain import NS_PER_S, Action, Book, Decision, Reason, Regime, Side
from market_maker.kernel import new_row, plain
from market_maker.post_only_safety import PostOnlySettings, PostOnlyState
from market_maker.pricing_engine import MarketParams, OffsetSettings, QuoteSettings
from market_maker.realised_volatility import VolatilitySettings
from market_maker.reprice_pipeline import RepricePipeline
from market_maker.strategy_rows import (
    Account,
    BookRow,
    DecisionRow,
    ExtremeAction,
    Params,
    RepriceSettings,
    Slot,
    State,
)
from market_maker.toxicity_guard import ImbalanceSettings, JumpSettings, SpreadGuardSettings, ToxicitySettings
from market_maker.trend_signal import TrendMode, TrendSettings
from market_maker.volatility_regime import VolatilityRegimeSettings

NOW = 1_700_000_000 * NS_PER_S
MS = 1_000_000
BID = 84_000
PARAMS = Params(market=MarketParams(min_lots=10, tick_lot_usd=1e-5))
PLAIN_LOTS = 1190  # 1000 USD at the fair value
BOOK = Book(BID, 500_000, BID + 1, 500_000, 2_000_000, 2_000_000, NOW, NOW)
ACCOUNT = Account(
    limit_long_lots=12_000,
    limit_short_lots=12_000,
    mark_ticks=84_000.5,
    order_latency_s=0.1,
    last_frame_ns=NOW,
)
WANTED_BID, WANTED_ASK = 83_988, 84_013  # 1.44 bps at 5 bps/√minute


def pipe(params=PARAMS, book=BOOK, sigma_bps=5.0):
    """A warm pipeline with one book; no volatility: a cold one."""
    made = RepricePipeline(params)
    if sigma_bps:
        closes = 84_000.0 * np.exp(1e-4 * sigma_bps * (np.arange(20) % 2))
        pipeline.seed(made.params, made.state, closes, closes.size)
    made.observe(book, NOW)
    return made


def held(position_lots, **changes):
    return replace(
        ACCOUNT, position_lots=position_lots, effective_inventory_lots=float(position_lots), **changes
    )


def resting(side=Side.BUY, price=None, lots=PLAIN_LOTS, age_s=2.0, **changes):
    default = WANTED_BID if side == Side.BUY else WANTED_ASK
    then = NOW - round(age_s * NS_PER_S)
    order = Slot(
        side=side,
        price_ticks=default if price is None else price,
        size_lots=lots,
        remaining_lots=lots,
        resting=True,
        placed_ns=then,
        last_change_ns=then,
    )
    return replace(order, **changes)


def why(decision):
    return decision.action.name, decision.reason.name


def put_in_regime(made, regime):
    made.state[0].market_view.regime = int(regime)


# --- a quote, and its absence


def test_an_empty_slot_is_filled_on_either_side_of_the_fair_value():
    made = pipe()
    bid = made.evaluate(ACCOUNT, Slot(side=Side.BUY), NOW)
    ask = made.evaluate(ACCOUNT, Slot(side=Side.SELL), NOW)
    assert bid == Decision(Action.PLACE, Reason.NEW_QUOTE, WANTED_BID, PLAIN_LOTS, False)
    assert ask == Decision(Action.PLACE, Reason.NEW_QUOTE, WANTED_ASK, PLAIN_LOTS, False)


def test_the_next_level_rests_further_out():
    made = pipe()
    prices = [made.evaluate(ACCOUNT, Slot(side=Side.SELL, level=i), NOW).price_ticks for i in range(3)]
    assert prices == sorted(set(prices))


@pytest.mark.parametrize(
    ("account", "book", "reason"),
    [
        (replace(ACCOUNT, halt_reason=int(Reason.CIRCUIT_BREAKER)), BOOK, "CIRCUIT_BREAKER"),
        (replace(ACCOUNT, last_frame_ns=NOW - 11 * NS_PER_S), BOOK, "STALE_BOOK"),
        (ACCOUNT, BOOK._replace(bid_ticks=0), "NO_BOOK"),
        (ACCOUNT, BOOK._replace(ask_lots=0), "NO_BOOK"),
        (ACCOUNT, BOOK._replace(bid_ticks=BID + 1), "CROSSED_BOOK"),
        (replace(ACCOUNT, mark_ticks=math.nan), BOOK, "NOT_FINITE"),
        (replace(ACCOUNT, order_latency_s=math.nan), BOOK, "NOT_FINITE"),
        (replace(ACCOUNT, effective_inventory_lots=math.nan), BOOK, "NOT_FINITE"),
    ],
)
@pytest.mark.parametrize("position", [0, 5_000])
def test_a_hard_halt_cancels_what_rests_and_places_nothing(account, book, reason, position):
    made = pipe(book=book)
    halted = replace(account, position_lots=position)
    assert why(made.evaluate(halted, Slot(side=Side.SELL), NOW)) == ("KEEP", reason)
    assert why(made.evaluate(halted, resting(Side.SELL), NOW)) == ("CANCEL", reason)


def test_before_the_first_book_there_is_no_book():
    made = RepricePipeline(PARAMS)
    assert why(made.evaluate(ACCOUNT, Slot(), NOW)) == ("KEEP", "NO_BOOK")


def test_settings_that_are_not_finite_are_refused():
    made = pipe(replace(PARAMS, offset=OffsetSettings(min_offset_bps=math.inf)))
    assert why(made.evaluate(ACCOUNT, Slot(), NOW)) == ("KEEP", "NOT_FINITE")


def test_signals_that_are_not_finite_are_refused():
    made = pipe()
    made.state[0].spread_ema.spread_bps = math.nan
    assert why(made.evaluate(ACCOUNT, resting(), NOW)) == ("CANCEL", "NOT_FINITE")


def test_a_pending_request_is_settled_first():
    made = pipe()
    halted = replace(ACCOUNT, halt_reason=int(Reason.STOPPING))
    assert why(made.evaluate(halted, resting(request_pending=True), NOW)) == ("KEEP", "REQUEST_PENDING")


# --- soft gates


def gated(gate):
    """A pipeline in which a gate is shut against the asks."""
    params = replace(
        PARAMS,
        imbalance=ImbalanceSettings(imbalance_threshold=0.5),
        spread_guard=SpreadGuardSettings(min_spread_bps=1.0 if gate == "SPREAD_TOO_NARROW" else 0.0),
        jump=JumpSettings(jump_sigmas=1e3) if gate.startswith("TOXIC") else JumpSettings(),
    )
    made = pipe(params)
    view, toxicity = made.state[0].market_view, made.state[0].toxicity
    if gate == "EXTREME_REGIME":
        put_in_regime(made, Regime.EXTREME)
    elif gate == "STRONG_TREND":
        view.trend_direction, view.trend_strong = 1, True
    elif gate == "IMBALANCE":
        toxicity.imbalance = 0.9
    elif gate == "JUMP":
        toxicity.sell_pulled_until_ns = NOW + NS_PER_S
    elif gate == "TOXIC_VOLATILITY":
        made.observe(BOOK._replace(bid_ticks=BID + 200, ask_ticks=BID + 201), NOW + 500 * MS)
    return made


GATES = [
    "EXTREME_REGIME",
    "STRONG_TREND",
    "IMBALANCE",
    "JUMP",
    "SPREAD_TOO_NARROW",
    "TOXIC_VOLATILITY",
    "MARK_MISSING",
]


@pytest.mark.parametrize("gate", GATES)
def test_a_soft_gate_takes_no_new_risk_and_leaves_the_reducing_side(gate):
    made = gated(gate)
    now = NOW + 500 * MS
    mark = {"mark_ticks": 0.0} if gate == "MARK_MISSING" else {}
    flat = made.evaluate(held(0, **mark), Slot(side=Side.SELL), now)
    assert why(flat) == ("KEEP", gate)
    assert why(made.evaluate(held(0, **mark), resting(Side.SELL), now)) == ("CANCEL", gate)
    assert why(made.evaluate(held(-500, **mark), Slot(side=Side.SELL), now)) == ("KEEP", gate)
    long = made.evaluate(held(500, **mark), Slot(side=Side.SELL), now)
    assert (why(long), long.size_lots, long.reduce_only) == (("PLACE", "NEW_QUOTE"), 500, True)


@pytest.mark.parametrize("gate", ["STRONG_TREND", "IMBALANCE", "JUMP", "TOXIC_VOLATILITY"])
def test_the_side_that_is_not_threatened_stays(gate):
    assert gated(gate).evaluate(ACCOUNT, Slot(side=Side.BUY), NOW + 500 * MS).action == Action.PLACE


def test_in_fade_a_strong_rise_pulls_the_bids():
    made = pipe(replace(PARAMS, trend=TrendSettings(trend_mode=TrendMode.FADE)))
    view = made.state[0].market_view
    view.trend_direction, view.trend_strong = 1, True
    assert why(made.evaluate(ACCOUNT, Slot(side=Side.BUY), NOW)) == ("KEEP", "STRONG_TREND")
    assert made.evaluate(ACCOUNT, Slot(side=Side.SELL), NOW).action == Action.PLACE


def test_a_weak_trend_shrinks_the_counter_trend_side():
    made = pipe()
    made.state[0].market_view.trend_direction = 1
    sizes = [made.evaluate(ACCOUNT, Slot(side=side), NOW).size_lots for side in (Side.BUY, Side.SELL)]
    assert sizes == [PLAIN_LOTS, PLAIN_LOTS // 2]


def test_extreme_can_be_told_to_pull_everything():
    made = pipe(replace(PARAMS, reprice=RepriceSettings(extreme_action=ExtremeAction.PULL_ALL)))
    put_in_regime(made, Regime.EXTREME)
    assert why(made.evaluate(held(500), resting(Side.SELL), NOW)) == ("CANCEL", "EXTREME_REGIME")


def test_a_guard_widens_the_reducing_side_that_it_leaves():
    calm, toxic = pipe(), gated("TOXIC_VOLATILITY")
    for made in (calm, toxic):
        made.evaluate(held(500), Slot(side=Side.SELL), NOW + 500 * MS)
    assert toxic.decision[0].offset_bps > calm.decision[0].offset_bps
    assert toxic.decision[0].conditions.extra_bps > 0.0


def test_until_volatility_counts_quotes_are_those_of_elevated_and_limits_are_halved():
    cold, warm = pipe(sigma_bps=0.0), pipe(sigma_bps=25.0)
    for made in (cold, warm):
        made.evaluate(ACCOUNT, Slot(), NOW)
    assert cold.decision[0].offset_bps == pytest.approx(warm.decision[0].offset_bps, rel=1e-6)
    assert cold.decision[0].room_lots == 6_000


def test_without_regimes_there_is_no_warm_up():
    params = replace(PARAMS, regime=VolatilityRegimeSettings(vol_regime_enabled=False))
    made = pipe(params, sigma_bps=0.0)
    made.evaluate(ACCOUNT, Slot(), NOW)
    assert made.decision[0].room_lots == 12_000


# --- limits


@pytest.mark.parametrize(
    ("position", "side", "expected"),
    [
        (11_500, Side.BUY, 500),
        (-11_500, Side.SELL, 500),
        (11_995, Side.BUY, "POSITION_LIMIT"),
        (12_000, Side.BUY, "POSITION_LIMIT"),
        (15_000, Side.BUY, "POSITION_LIMIT"),
        (-15_000, Side.SELL, "POSITION_LIMIT"),
    ],
)
def test_a_quote_is_clipped_to_the_room_below_the_limit(position, side, expected):
    decision = pipe().evaluate(held(position), Slot(side=side), NOW)
    assert expected == (decision.size_lots or decision.reason.name)


@pytest.mark.parametrize("position", [15_000, -15_000])
def test_past_the_limit_reducing_is_still_allowed(position):
    # Lesson 1: a price drift over the cap froze the position.
    side = Side.SELL if position > 0 else Side.BUY
    decision = pipe().evaluate(held(position), Slot(side=side), NOW)
    assert (decision.action, decision.reduce_only) == (Action.PLACE, True)
    assert 0 < decision.size_lots <= 15_000


def test_four_levels_at_once_stay_below_the_limit_together():
    # Lesson 2: each of them passed the check on its own.
    made, placed = pipe(), []
    for level in range(4):
        slot = Slot(side=Side.BUY, level=level, inner_lots=sum(placed))
        placed.append(made.evaluate(held(9_000), slot, NOW).size_lots)
    assert placed == [PLAIN_LOTS, PLAIN_LOTS, 3_000 - 2 * PLAIN_LOTS, 0]


def test_of_two_orders_that_are_too_large_together_the_farther_one_yields():
    made, account = pipe(), held(10_500)
    prices = [made.evaluate(account, Slot(level=level), NOW).price_ticks for level in (0, 1)]
    near = made.evaluate(account, resting(price=prices[0], outer_lots=PLAIN_LOTS), NOW)
    far = made.evaluate(account, resting(price=prices[1], level=1, inner_lots=PLAIN_LOTS), NOW)
    assert near.action == Action.KEEP
    assert (why(far), far.size_lots) == (("REPLACE", "SIZE_CHANGED"), 310)


def test_an_order_grows_only_into_room_that_no_other_order_holds():
    made, account = pipe(), held(10_000)
    price = made.evaluate(account, Slot(), NOW).price_ticks
    decision = made.evaluate(account, resting(price=price, lots=300, outer_lots=1_200), NOW)
    assert (why(decision), decision.size_lots) == (("REPLACE", "SIZE_CHANGED"), 800)


def test_a_size_that_the_limit_no_longer_allows_shrinks_at_once():
    just_now = resting(age_s=0.0)
    decision = pipe().evaluate(held(11_500), just_now, NOW)
    assert (why(decision), decision.size_lots) == (("REPLACE", "SIZE_CHANGED"), 500)
    assert why(pipe().evaluate(held(11_999), just_now, NOW)) == ("CANCEL", "POSITION_LIMIT")


def test_a_reduce_only_order_that_would_now_open_is_replaced():
    decision = pipe().evaluate(ACCOUNT, resting(reduce_only=True), NOW)
    assert (why(decision), decision.reduce_only) == (("REPLACE", "SIZE_CHANGED"), False)


@pytest.mark.parametrize(("position", "expected"), [(1_195, 1_195), (1_300, PLAIN_LOTS)])
def test_a_reducing_order_leaves_nothing_behind_that_could_not_be_sent(position, expected):
    # Lesson 9: half a coin was rounded down to nothing and stayed.
    made = pipe(replace(PARAMS, quote=QuoteSettings(reduce_size_growth=0.0)))
    put_in_regime(made, Regime.EXTREME)
    assert made.evaluate(held(position), Slot(side=Side.SELL), NOW).size_lots == expected


@pytest.mark.parametrize(
    ("admitted", "expected"), [(True, ("PLACE", "NEW_QUOTE")), (False, ("KEEP", "BELOW_MIN_SIZE"))]
)
def test_dust_is_closed_whole_where_the_exchange_admits_it(admitted, expected):
    made = pipe(replace(PARAMS, market=replace(PARAMS.market, small_reduce_admitted=admitted)))
    put_in_regime(made, Regime.EXTREME)
    decision = made.evaluate(held(7), Slot(side=Side.SELL), NOW)
    assert (why(decision), decision.size_lots) == (expected, 7 if admitted else 0)


def test_a_level_below_the_smallest_order_opens_nothing_but_reduces():
    made = pipe(replace(PARAMS, quote=QuoteSettings(level_size_usd=5.0)))
    assert why(made.evaluate(ACCOUNT, Slot(), NOW)) == ("KEEP", "BELOW_MIN_SIZE")
    assert made.evaluate(held(-500), Slot(), NOW).size_lots == 10


def test_the_skew_is_at_its_largest_at_the_limit_that_binds():
    # Lesson 14: normalised to a limit that never bound, the skew was zero at the notional cap.
    made = pipe()
    put_in_regime(made, Regime.ELEVATED)
    made.evaluate(held(6_000), Slot(), NOW)
    at_limit = made.decision[0].skew_bps
    made.evaluate(held(12_000), Slot(), NOW)
    assert at_limit == made.decision[0].skew_bps < -5.0


# --- the clamp and the band


def test_a_reducing_quote_stops_short_of_the_other_side():
    made = pipe()
    assert made.evaluate(held(12_000), Slot(side=Side.SELL), NOW).price_ticks == BID + 1
    assert made.evaluate(held(-12_000), Slot(side=Side.BUY), NOW).price_ticks == BID


@pytest.mark.parametrize(
    ("side", "position", "band", "expected"),
    [
        (Side.BUY, 0, {"band_high_ticks": 83_000}, "PRICE_BAND"),
        (Side.SELL, 0, {"band_low_ticks": 85_000}, "PRICE_BAND"),
        (Side.BUY, -500, {"band_high_ticks": 83_000}, 83_000),
        (Side.SELL, 500, {"band_low_ticks": 85_000}, 85_000),
        (Side.BUY, 0, {"band_high_ticks": 85_000}, WANTED_BID),
        (Side.SELL, 0, {"band_low_ticks": 83_000}, WANTED_ASK),
    ],
)
def test_outside_the_band_nothing_opens_and_a_reduction_moves_to_its_edge(side, position, band, expected):
    made = pipe(replace(PARAMS, skew=replace(PARAMS.skew, skew_cap_bps=0.0)))
    decision = made.evaluate(held(position, **band), Slot(side=side), NOW)
    assert expected == (decision.price_ticks or decision.reason.name)


def test_where_no_positive_price_is_left_there_is_no_quote():
    params = replace(PARAMS, post_only=PostOnlySettings(post_only_safety_ticks=2))
    made = pipe(params, Book(1, 500_000, 2, 500_000, 10**6, 10**6, NOW, NOW))
    assert why(made.evaluate(ACCOUNT, Slot(side=Side.BUY), NOW)) == ("KEEP", "PRICE_BAND")


def test_a_slot_that_backs_off_waits_but_keeps_and_shrinks_what_it_has():
    made, waiting = pipe(), PostOnlyState(streak=5, backoff_until_ns=NOW + NS_PER_S)
    assert why(made.evaluate(ACCOUNT, Slot(post_only=waiting), NOW)) == ("KEEP", "POST_ONLY_BACKOFF")
    moved = resting(price=WANTED_BID - 100, post_only=waiting)
    assert why(made.evaluate(ACCOUNT, moved, NOW)) == ("KEEP", "POST_ONLY_BACKOFF")
    assert why(made.evaluate(held(11_500), moved, NOW)) == ("REPLACE", "SIZE_CHANGED")


# --- worth a move?


@pytest.mark.parametrize(
    ("slot", "expected"),
    [
        (resting(), ("KEEP", "WITHIN_TOLERANCE")),
        (resting(price=WANTED_BID - 6), ("KEEP", "WITHIN_TOLERANCE")),
        (resting(price=WANTED_BID - 7), ("REPLACE", "PRICE_MOVED")),
        (resting(price=WANTED_BID + 12), ("REPLACE", "PRICE_MOVED")),
        (resting(price=WANTED_BID - 7, age_s=0.6), ("KEEP", "MIN_REPRICE_INTERVAL")),
        # A fill at the best bid would not pay the costs: no waiting.
        (resting(price=WANTED_BID + 12, age_s=0.0), ("REPLACE", "PRICE_MOVED")),
        (resting(lots=PLAIN_LOTS // 2 + 5), ("KEEP", "WITHIN_TOLERANCE")),
        (resting(lots=PLAIN_LOTS // 3), ("REPLACE", "SIZE_CHANGED")),
        (resting(lots=PLAIN_LOTS // 3, age_s=0.5), ("KEEP", "MIN_REPRICE_INTERVAL")),
        (resting(lots=PLAIN_LOTS * 2), ("REPLACE", "SIZE_CHANGED")),
        (resting(age_s=119.0), ("KEEP", "WITHIN_TOLERANCE")),
        (resting(age_s=120.0), ("REPLACE", "AGE_EXCEEDED")),
    ],
)
def test_a_resting_order_moves_only_where_that_is_worth_it(slot, expected):
    made = pipe()
    put_in_regime(made, Regime.NORMAL)
    assert why(made.evaluate(ACCOUNT, slot, NOW)) == expected


def test_a_safety_move_waits_where_it_is_switched_off():
    made = pipe(replace(PARAMS, reprice=RepriceSettings(reprice_safety_enabled=False)))
    slot = resting(price=WANTED_BID + 12, age_s=0.0)
    assert why(made.evaluate(ACCOUNT, slot, NOW)) == ("KEEP", "MIN_REPRICE_INTERVAL")


def test_a_reducing_order_is_never_moved_for_safety_and_follows_closely():
    made = pipe()
    put_in_regime(made, Regime.NORMAL)
    account = held(10_000)
    wanted = made.evaluate(account, Slot(side=Side.SELL), NOW)
    away = resting(Side.SELL, wanted.price_ticks + 3, wanted.size_lots)
    assert why(made.evaluate(account, away, NOW)) == ("REPLACE", "PRICE_MOVED")
    assert why(made.evaluate(account, replace(away, last_change_ns=NOW), NOW)) == (
        "KEEP",
        "MIN_REPRICE_INTERVAL",
    )


def test_the_bench_asks_the_same_questions():
    made = pipe()
    put_in_regime(made, Regime.NORMAL)
    assert not made.needs_reprice(ACCOUNT, resting(), NOW)
    assert made.needs_reprice(ACCOUNT, resting(price=WANTED_BID - 50), NOW)
    assert [made.age_exceeded(resting(age_s=age), NOW) for age in (119.0, 121.0)] == [False, True]


# --- properties

MADE = {sigma: pipe(sigma_bps=sigma) for sigma in (0.0, 2.0, 9.0, 45.0, 90.0)}
positions = st.integers(-20_000, 20_000)
books = st.builds(
    lambda bid, spread, bid_lots, ask_lots: Book(
        bid, bid_lots, bid + spread, ask_lots, bid_lots * 3, ask_lots * 3, NOW, NOW
    ),
    st.integers(1, 200_000),
    st.integers(1, 400),
    st.integers(1, 10**6),
    st.integers(1, 10**6),
)
slots = st.builds(
    Slot,
    side=st.sampled_from(list(Side)),
    level=st.integers(0, 3),
    price_ticks=st.integers(1, 200_000),
    remaining_lots=st.integers(1, 5_000),
    inner_lots=st.integers(0, 3_000),
    outer_lots=st.integers(0, 3_000),
    placed_ns=st.integers(NOW - 400 * NS_PER_S, NOW),
    last_change_ns=st.integers(NOW - 5 * NS_PER_S, NOW),
    resting=st.booleans(),
)
accounts = st.builds(
    held,
    positions,
    limit_long_lots=st.integers(0, 15_000),
    limit_short_lots=st.integers(0, 15_000),
)


def decided(sigma, book, account, slot):
    made = MADE[sigma]
    made.state[0].book = new_row(BookRow(*book))[0]
    return made.evaluate(replace(account, mark_ticks=float(book.bid_ticks)), slot, NOW)


@pytest.mark.slow
@settings(deadline=None)
@given(sigma=st.sampled_from(list(MADE)), book=books, account=accounts, slot=slots)
def test_quotes_never_cross_the_opposite_best(sigma, book, account, slot):
    decision = decided(sigma, book, account, slot)
    if decision.price_ticks:
        limit = book.ask_ticks if slot.side == Side.BUY else book.bid_ticks
        assert slot.side * (limit - decision.price_ticks) > 0


@pytest.mark.slow
@settings(deadline=None)
@given(sigma=st.sampled_from(list(MADE)), book=books, account=accounts, slot=slots)
def test_no_fill_takes_the_position_past_the_limit_in_force(sigma, book, account, slot):
    decision = decided(sigma, book, account, slot)
    assume(decision.size_lots)
    scale = {0.0: 0.5, 2.0: 1.0, 9.0: 1.0, 45.0: 0.5, 90.0: 0.5}[sigma]
    after = account.position_lots + slot.side * (decision.size_lots + slot.inner_lots)
    limit = account.limit_long_lots if slot.side == Side.BUY else account.limit_short_lots
    assert slot.side * after <= max(math.floor(limit * scale), 0)


@pytest.mark.slow
@settings(deadline=None)
@given(sigma=st.sampled_from(list(MADE)), book=books, account=accounts, slot=slots)
def test_every_decision_carries_a_reason_and_only_orders_a_price(sigma, book, account, slot):
    decision = decided(sigma, book, account, slot)
    places = decision.action in (Action.PLACE, Action.REPLACE)
    assert decision.reason != Reason.NONE
    assert (decision.price_ticks > 0) == (decision.size_lots > 0) == places
    assert decision.action != Action.PLACE or not slot.resting
    assert slot.resting or decision.action in (Action.PLACE, Action.KEEP)


@pytest.mark.slow
@settings(deadline=None)
@given(sigma=st.sampled_from(list(MADE)), book=books, position=positions, level=st.integers(0, 3))
def test_a_reducing_order_is_always_allowed(sigma, book, position, level):
    assume(abs(position) >= PARAMS.market.min_lots and book.bid_ticks > 50)
    side = Side.SELL if position > 0 else Side.BUY
    decision = decided(sigma, book, held(position), Slot(side=side, level=level))
    assert decision.action == Action.PLACE


@pytest.mark.slow
@settings(deadline=None)
@given(
    sigma=st.sampled_from(list(MADE)),
    book=books,
    two=st.tuples(st.integers(-12_000, 12_000), st.integers(-12_000, 12_000)),
)
def test_a_larger_long_never_raises_the_bid(sigma, book, two):
    bids = []
    for position in sorted(two):
        decided(sigma, book, held(position), Slot(side=Side.BUY))
        bids.append(int(MADE[sigma].decision[0].wanted_ticks))
    assert bids[1] <= bids[0]


@pytest.mark.slow
@settings(deadline=None)
@given(sigma=st.sampled_from(list(MADE)), book=books, slot=slots, position=st.integers(-12_000, 12_000))
def test_rounding_never_improves_past_the_clamp(sigma, book, slot, position):
    decided(sigma, book, held(position), slot)
    row = MADE[sigma].decision[0]
    opening = slot.side * position >= 0
    edge_ticks = slot.side * (row.fair_ticks - row.wanted_ticks)
    floor = 0.3 * row.fair_ticks / 1e4
    assert not (opening and row.wanted_ticks) or edge_ticks >= floor * (1.0 - 1e-9)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(-30, 30), st.integers(0, 4_000)), min_size=2, max_size=6),
    cut=st.integers(1, 5),
)
def test_observe_is_prefix_stable(steps, cut):
    def walked(count):
        made, bid, now = pipe(), BID, NOW
        for move, wait_ms in steps[:count]:
            bid, now = bid + move, now + wait_ms * MS
            made.observe(BOOK._replace(bid_ticks=bid, ask_ticks=bid + 1), now)
            made.evaluate(ACCOUNT, Slot(), NOW)
        return made

    cut = min(cut, len(steps))
    first, again = walked(cut), walked(cut)
    assert first.state.tobytes() == again.state.tobytes()
    for move, wait_ms in steps[cut:]:
        first.observe(BOOK._replace(bid_ticks=BID + move, ask_ticks=BID + move + 1), NOW + wait_ms * MS)
    assert walked(cut).state.tobytes() == again.state.tobytes()


@pytest.mark.slow
def test_the_same_ramp_gives_the_same_trend_at_any_update_rate():
    # Lesson 13: 0.33 at one update in two seconds, 0.002 at a hundred a second.
    def strength(step_ms):
        made = pipe()
        for t in range(0, 330_000, step_ms):
            bid = BID + t // 2000
            made.observe(BOOK._replace(bid_ticks=bid, ask_ticks=bid + 1), NOW + t * MS)
        return float(made.state[0].trend.z)

    sparse = strength(2000)
    assert sparse > 0.5
    assert strength(500) == pytest.approx(sparse, rel=0.05)


# --- rows


def test_a_crossed_book_is_kept_and_moves_no_signal():
    made = pipe()
    before = made.state[0].toxicity.copy()
    made.observe(BOOK._replace(bid_ticks=BID + 500), NOW + NS_PER_S)
    assert made.state[0].toxicity == before
    assert made.state[0].book.bid_ticks == BID + 500


def test_the_last_trade_is_kept():
    made = pipe()
    pipeline.observe_trade(made.params, made.state, int(Side.SELL), BID, 77, NOW + 1)
    state = made.state[0]
    assert (state.trade_side, state.trade_ticks, state.trade_lots, state.trade_ns) == (-1, BID, 77, NOW + 1)


def test_the_decision_row_tells_what_led_to_the_decision():
    made = pipe()
    made.evaluate(ACCOUNT, Slot(), NOW)
    row = plain(made.decision[0])
    assert row["fair_ticks"] == 84_000.5
    # Sigma over five seconds, and the tenth of a second that the order is on its way.
    assert row["offset_bps"] == pytest.approx(5.0 * math.sqrt(5.1 / 60.0), rel=1e-6)
    assert row["conditions"]["sigma_bps"] == pytest.approx(5.0, rel=1e-6)


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="interpreted")
def test_decide_is_compiled_once_for_all_hosts():
    # A second signature means that a type drifted, which stalls a live bot for seconds.
    pipe().evaluate(ACCOUNT, Slot(), NOW)
    pipeline.decide(*(new_row(v) for v in (PARAMS, State(), ACCOUNT, Slot(), DecisionRow())), np.int64(NOW))
    assert len(pipeline.decide.signatures) == 1
    assert len(pipeline.observe_book.signatures) == 1


def test_disabled_guards_change_nothing_else():
    params = replace(
        PARAMS,
        toxicity=ToxicitySettings(toxicity_enabled=False),
        volatility=VolatilitySettings(vol_fast_window_s=20.0),
    )
    assert pipe(params).evaluate(ACCOUNT, Slot(), NOW) == pipe().evaluate(ACCOUNT, Slot(), NOW)
