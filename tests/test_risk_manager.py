"""Limits, the worst case, and what must always be allowed."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.domain import Action, Decision, Reason, Side, SlotId
from market_maker.exposure import (
    NO_LIMIT,
    PPM,
    AccountView,
    Exposure,
    MarketRisk,
    MarketRules,
    Portfolio,
    initial_margin,
    order_cost,
    with_order,
    worst_case,
)
from market_maker.gateway import BalanceReport
from market_maker.instrument import Instrument
from market_maker.risk_manager import (
    Approved,
    OrderStyle,
    Refused,
    RiskManager,
    RiskSettings,
    RiskState,
    equity_verdict,
    limits_in_force,
)
from market_maker.risk_view import MarketRiskBuilder, account_view, market_rules, pusd_down, pusd_up

USD = 10**12
NOW = 1_767_657_600_000_000_000
DAY_NS = 86_400 * 10**9
FREE = RiskSettings(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
# A tick is a dollar, a lot one unit, the mark 100: a lot is worth 100 USD.
RULES = MarketRules(USD, NO_LIMIT, NO_LIMIT * USD, NO_LIMIT * USD, 100_000)
MARKET = MarketRisk(RULES, 0, Exposure(), 100 * USD)
RICH = AccountView(1_000_000 * USD, 1_000_000 * USD, 0)
BID, ASK = SlotId("X", Side.BUY, 0), SlotId("X", Side.SELL, 0)


def order(
    lots: int, price: int = 100, action: Action = Action.PLACE, *, reduce_only: bool = False
) -> Decision:
    return Decision(action, Reason.NEW_QUOTE, price, lots, reduce_only)


def verdict(
    settings: RiskSettings,
    slot: SlotId,
    decision: Decision,
    market: MarketRisk = MARKET,
    account: AccountView | None = RICH,
    **others: MarketRisk,
) -> Reason:
    portfolio = Portfolio({"X": market, **others}, account)
    result = RiskManager(settings).approve(slot, decision, portfolio, NOW)
    return result.reason if isinstance(result, Refused) else Reason.NONE


def with_rules(**limits: int) -> MarketRisk:
    return MARKET._replace(rules=RULES._replace(**limits))


def test_an_approval_comes_from_the_risk_manager_alone():
    with pytest.raises(TypeError, match="from the risk manager alone"):
        Approved(BID, order(1), OrderStyle.POST_ONLY, object())


def test_an_approval_carries_the_decision():
    result = RiskManager(FREE).approve(
        BID, order(3), Portfolio({"X": MARKET}, RICH), NOW, OrderStyle.IMMEDIATE_OR_CANCEL
    )
    assert isinstance(result, Approved)
    assert (result.slot, result.decision, result.style) == (BID, order(3), OrderStyle.IMMEDIATE_OR_CANCEL)


# Each limit, at it and past it.

CASES = [
    ("position", with_rules(max_position_lots=10), FREE, 10, 11, Reason.RISK_POSITION),
    ("notional", with_rules(max_position_pusd=1_000 * USD), FREE, 10, 11, Reason.RISK_NOTIONAL),
    ("order", with_rules(max_order_pusd=1_000 * USD), FREE, 10, 11, Reason.RISK_ORDER_SIZE),
    ("gross", MARKET, replace(FREE, max_gross_notional_usd=1_000), 10, 11, Reason.RISK_GROSS),
    (
        "stress",
        MARKET,
        replace(FREE, stress_move=0.1, max_stress_loss_usd=100),
        10,
        11,
        Reason.RISK_STRESS,
    ),
    ("margin", MARKET, replace(FREE, max_margin_utilisation=0.0001), 10, 11, Reason.RISK_MARGIN),
]


@pytest.mark.parametrize(("market", "settings", "fits", "breaks", "reason"), [c[1:] for c in CASES])
@pytest.mark.parametrize("slot", [BID, ASK])
def test_a_limit_holds_exactly(market, settings, fits, breaks, reason, slot):
    assert verdict(settings, slot, order(fits), market) == Reason.NONE
    assert verdict(settings, slot, order(breaks), market) == reason


def test_available_money_bounds_what_adds():
    poor = AccountView(1_000_000 * USD, 100 * USD, 0)
    assert verdict(FREE, BID, order(10), account=poor) == Reason.NONE
    assert verdict(FREE, BID, order(11), account=poor) == Reason.RISK_MARGIN


COSTS = [
    # position, exposure, side, ticks, lots, USD at a mark of 100 and 10x
    (0, Exposure(), Side.BUY, 100, 2, 20),
    (0, Exposure(sell_lots=50), Side.BUY, 90, 2, 18),
    (0, Exposure(), Side.BUY, 110, 2, 22 + 20),
    (0, Exposure(), Side.SELL, 110, 2, 22),
    (0, Exposure(), Side.SELL, 90, 2, 18 + 20),
    (5, Exposure(), Side.SELL, 100, 12, 20),
    (-5, Exposure(), Side.BUY, 100, 12, 20),
    (5, Exposure(), Side.SELL, 100, 10, 0),
    (5, Exposure(sell_lots=3, reduce_sell_lots=1), Side.SELL, 100, 12, 100),
    (-5, Exposure(buy_lots=3, reduce_buy_lots=1), Side.BUY, 100, 12, 100),
    (5, Exposure(buy_lots=7), Side.BUY, 100, 1, 10),
]


@pytest.mark.parametrize(("position", "exposure", "side", "ticks", "lots", "usd"), COSTS)
def test_the_cost_of_an_order_is_the_exchange_s(position, exposure, side, ticks, lots, usd):
    market = MARKET._replace(position_lots=position, exposure=exposure)
    assert order_cost(market, side, ticks, lots) == usd * USD * PPM


def test_initial_margin_is_the_exchange_s():
    def usd(position: int, *exposure: int) -> int:
        market = MARKET._replace(position_lots=position, exposure=Exposure(*exposure))
        return initial_margin(market) // (USD * PPM)

    assert [usd(5), usd(-5), usd(5, 0, 12), usd(0, 3, 4), usd(-5, 0, 1)] == [50, 50, 70, 40, 60]
    assert usd(5, 0, 0, 0, 12) == 70
    assert usd(-5, 0, 0, 12) == 70


def test_the_second_side_costs_too_though_the_worst_case_stays():
    """98 USD can be spent; 60 of them are bound by the sells, and a buy costs all of its own margin."""
    account = AccountView(100 * USD, 100 * USD, 0)
    sold = MARKET._replace(exposure=Exposure(sell_lots=6))
    assert verdict(FREE, BID, order(3), sold, account) == Reason.NONE
    assert verdict(FREE, BID, order(4), sold, account) == Reason.RISK_MARGIN
    assert verdict(FREE, BID, order(3), sold, account, Y=MARKET._replace(position_lots=1)) == (
        Reason.RISK_MARGIN
    )
    short = sold._replace(position_lots=-1)
    assert verdict(FREE, BID, order(1), short, account._replace(equity_pusd=-USD)) == Reason.NONE
    assert verdict(FREE, BID, order(9, reduce_only=True), short, account) == Reason.NONE


@given(
    position=st.integers(-8, 8),
    exposure=st.builds(Exposure, *[st.integers(0, 8)] * 4),
    slot=st.sampled_from((BID, ASK)),
    ticks=st.integers(80, 120),
    lots=st.integers(1, 12),
    equity=st.integers(-50, 300),
)
def test_an_approved_order_costs_no_more_than_is_available(position, exposure, slot, ticks, lots, equity):
    market = MARKET._replace(position_lots=position, exposure=exposure)
    account = AccountView(equity * USD, 1_000_000 * USD, 0)
    if verdict(FREE, slot, order(lots, ticks), market, account) != Reason.NONE:
        return
    held = max(
        abs(position + exposure.buy_lots + exposure.reduce_buy_lots),
        abs(position - exposure.sell_lots - exposure.reduce_sell_lots),
    )
    long, short = worst_case(position, with_order(exposure, slot.side, lots, reduce_only=False))
    adds = (long if slot.side == Side.BUY else short) > 0
    assert not adds or order_cost(market, slot.side, ticks, lots) <= (equity - held * 10) * USD * PPM


def test_a_high_margin_ratio_stops_what_adds():
    near = AccountView(1_000_000 * USD, 1_000_000 * USD, 700_000)
    assert verdict(replace(FREE, max_margin_utilisation=0.7), BID, order(1), account=near) == Reason.NONE
    assert verdict(replace(FREE, max_margin_utilisation=0.6), BID, order(1), account=near) == (
        Reason.RISK_MARGIN
    )


def test_the_price_band_stops_orders_across_the_mark():
    settings = replace(FREE, mark_price_band=0.03)
    assert verdict(settings, BID, order(1, 103)) == Reason.NONE
    assert verdict(settings, BID, order(1, 104)) == Reason.RISK_PRICE_BAND
    assert verdict(settings, ASK, order(1, 97)) == Reason.NONE
    assert verdict(settings, ASK, order(1, 96)) == Reason.RISK_PRICE_BAND
    assert verdict(settings, BID, order(1, 50)) == Reason.NONE


def test_without_a_mark_or_an_account_only_reducing_is_left():
    short = MARKET._replace(lot_pusd=0, position_lots=-5)
    assert verdict(FREE, BID, order(5), short) == Reason.NONE
    assert verdict(FREE, BID, order(6), short) == Reason.MARK_MISSING
    assert verdict(FREE, BID, order(1), account=None) == Reason.RISK_NO_ACCOUNT
    assert verdict(FREE, ASK, order(1), MARKET._replace(position_lots=1), None) == Reason.NONE
    assert limits_in_force(FREE, "X", Portfolio({"X": short}, RICH)) == (0, 0)


@pytest.mark.parametrize("bad", [order(0), order(-1), order(1, 0), order(1, -5)])
def test_an_order_without_size_or_price(bad):
    assert verdict(FREE, BID, bad) == Reason.RISK_ORDER_SIZE


def test_cancels_and_keeps_always_pass():
    settings = replace(FREE, max_drawdown_usd=1, max_orders_per_s=1)
    risk = RiskManager(settings)
    risk.on_equity(100 * USD, NOW)
    assert risk.on_equity(50 * USD, NOW) == Reason.RISK_DRAWDOWN
    for action in (Action.CANCEL, Action.KEEP):
        decision = Decision(action, Reason.STOPPING, 0, 0, False)
        assert isinstance(risk.approve(BID, decision, Portfolio({}, None), NOW), Approved)


def test_an_equity_that_stands_still_changes_nothing_and_a_new_day_does():
    risk = RiskManager(replace(FREE, max_drawdown_usd=20))
    assert risk.on_equity(1_000 * USD, NOW) == Reason.NONE
    assert risk.on_equity(980 * USD, NOW) == Reason.RISK_DRAWDOWN
    before = risk.export()
    assert risk.on_equity(980 * USD, NOW) == Reason.RISK_DRAWDOWN
    assert risk.export() == before
    tomorrow_ns = NOW + 24 * 3600 * 10**9
    assert risk.on_equity(980 * USD, tomorrow_ns) == Reason.RISK_DRAWDOWN
    assert risk.export() == before._replace(day=before.day + 1, day_start_pusd=980 * USD)


def test_gross_and_stress_count_the_worst_case_of_every_market():
    settings = replace(FREE, max_gross_notional_usd=3_000, stress_move=0.1, max_stress_loss_usd=301)
    other = MARKET._replace(position_lots=-10, exposure=Exposure(buy_lots=5, sell_lots=10))
    assert verdict(settings, BID, order(10), Y=other) == Reason.NONE
    assert verdict(settings, BID, order(11), Y=other) == Reason.RISK_GROSS
    tight = replace(settings, max_stress_loss_usd=299)
    assert verdict(tight, BID, order(10), Y=other) == Reason.RISK_STRESS


def test_an_order_that_does_not_raise_the_worst_case_passes_a_drifted_gross_limit():
    settings = replace(FREE, max_gross_notional_usd=500)
    long = MARKET._replace(position_lots=10)
    assert verdict(settings, ASK, order(15), long) == Reason.NONE
    assert verdict(settings, ASK, order(21), long) == Reason.RISK_GROSS
    assert verdict(settings, BID, order(1), long) == Reason.RISK_GROSS


# The lessons.


@pytest.mark.parametrize("position", [10, -10])
def test_lesson_1_reducing_is_always_allowed_up_to_flat(position):
    """Price drift over the cap, no margin, a halt, an empty bucket, liquidation near: still it reduces."""
    settings = RiskSettings(
        max_position_notional_usd=1,
        max_order_notional_usd=1,
        max_gross_notional_usd=1,
        max_margin_utilisation=0.01,
        max_stress_loss_usd=1,
        max_orders_per_s=1,
        max_drawdown_usd=1,
    )
    rules = RULES._replace(max_position_lots=1, max_position_pusd=USD, max_order_pusd=USD)
    market = MarketRisk(rules, position, Exposure(), 100 * USD, 99 * USD)
    portfolio = Portfolio({"X": market}, AccountView(-5 * USD, -5 * USD, 2_000_000))
    risk = RiskManager(settings)
    risk.on_equity(100 * USD, NOW)
    assert risk.on_equity(50 * USD, NOW) == Reason.RISK_DRAWDOWN
    slot, adds = (ASK, BID) if position > 0 else (BID, ASK)
    for _ in range(5):
        assert isinstance(risk.approve(slot, order(10), portfolio, NOW), Approved)
    assert isinstance(risk.approve(slot, order(11), portfolio, NOW), Refused)
    assert isinstance(risk.approve(adds, order(1), portfolio, NOW), Refused)


def test_lesson_2_pending_orders_count_in_the_worst_case():
    market = with_rules(max_position_lots=10)
    for resting in range(10):
        exposure = Exposure(buy_lots=resting)
        fits = verdict(FREE, BID, order(10 - resting), market._replace(exposure=exposure))
        breaks = verdict(FREE, BID, order(11 - resting), market._replace(exposure=exposure))
        assert (fits, breaks) == (Reason.NONE, Reason.RISK_POSITION)


def test_lesson_2_orders_of_the_other_side_are_no_excuse():
    market = with_rules(max_position_lots=10)._replace(
        position_lots=8, exposure=Exposure(buy_lots=2, sell_lots=100)
    )
    assert verdict(FREE, BID, order(1), market) == Reason.RISK_POSITION


def test_a_replacement_counts_beside_the_order_it_replaces():
    market = with_rules(max_position_lots=10)._replace(exposure=Exposure(buy_lots=6))
    assert verdict(FREE, BID, order(4, action=Action.REPLACE), market) == Reason.NONE
    result = RiskManager(FREE).approve(
        BID, order(5, action=Action.REPLACE), Portfolio({"X": market}, RICH), NOW
    )
    assert isinstance(result, Refused)
    assert result.reason == Reason.RISK_POSITION
    assert result.instead is not None
    assert result.instead.decision.action == Action.CANCEL


def test_a_reduce_only_order_can_be_replaced_over_the_cap():
    market = with_rules(max_position_lots=1)._replace(
        position_lots=10, exposure=Exposure(reduce_sell_lots=10)
    )
    assert verdict(FREE, ASK, order(10, action=Action.REPLACE, reduce_only=True), market) == Reason.NONE
    assert verdict(FREE, ASK, order(2, action=Action.REPLACE), market) == Reason.RISK_POSITION


def test_lesson_6_the_drawdown_trails_the_peak_and_sees_the_closing_loss():
    risk = RiskManager(replace(FREE, max_drawdown_usd=100))
    assert risk.on_equity(1_000 * USD, NOW) == Reason.NONE
    assert risk.on_equity(1_080 * USD, NOW) == Reason.NONE
    assert risk.on_equity(981 * USD, NOW) == Reason.NONE
    assert risk.on_equity(980 * USD, NOW) == Reason.RISK_DRAWDOWN
    assert risk.halt_reason == Reason.RISK_DRAWDOWN


def test_lesson_9_a_stale_balance_does_not_shrink_a_reducing_order():
    broke = AccountView(10_000 * USD, 0, 0)
    market = MARKET._replace(position_lots=50)
    assert verdict(FREE, ASK, order(50), market, broke) == Reason.NONE
    assert verdict(FREE, BID, order(1), market, broke) == Reason.RISK_MARGIN


def test_lesson_10_no_liquidation_price_is_no_breach():
    settings = replace(FREE, min_liquidation_distance=0.05)
    held = MARKET._replace(position_lots=5)
    assert verdict(settings, BID, order(1), held) == Reason.NONE
    assert verdict(settings, BID, order(1), held._replace(liquidation_lot_pusd=95 * USD)) == Reason.NONE
    near = held._replace(liquidation_lot_pusd=96 * USD)
    assert verdict(settings, BID, order(1), near) == Reason.RISK_LIQUIDATION
    assert verdict(settings, BID, order(1), MARKET, Y=near) == Reason.RISK_LIQUIDATION
    assert verdict(settings, BID, order(1), near._replace(position_lots=0)) == Reason.NONE


def test_lesson_17_the_risk_state_survives_a_reload_and_a_restart():
    risk = RiskManager(replace(FREE, max_drawdown_usd=100))
    risk.on_equity(1_000 * USD, NOW)
    risk.on_equity(950 * USD, NOW)
    before = risk.export()
    risk.reload(replace(FREE, max_drawdown_usd=50))
    assert risk.export() == before._replace(halt=Reason.RISK_DRAWDOWN)
    assert risk.halt_reason == Reason.RISK_DRAWDOWN
    risk.reload(replace(FREE, max_drawdown_usd=200))
    assert risk.halt_reason == Reason.NONE
    restarted = RiskManager(replace(FREE, max_drawdown_usd=100))
    restarted.restore(RiskState(*before))
    assert restarted.on_equity(900 * USD, NOW) == Reason.RISK_DRAWDOWN


def test_a_drawdown_stays_in_force_when_equity_comes_back():
    risk = RiskManager(replace(FREE, max_drawdown_usd=10))
    path = (1_000, 989, 991, 1_000, 1_100)
    assert [risk.on_equity(usd * USD, NOW) for usd in path] == [Reason.NONE, *[Reason.RISK_DRAWDOWN] * 4]
    restarted = RiskManager(replace(FREE, max_drawdown_usd=10))
    restarted.restore(risk.export())
    assert restarted.halt_reason == Reason.RISK_DRAWDOWN
    assert restarted.on_equity(1_100 * USD, NOW + DAY_NS) == Reason.RISK_DRAWDOWN


def test_the_loss_of_a_day_stays_in_force_until_the_next():
    risk = RiskManager(replace(FREE, max_day_loss_usd=10))
    path = (1_000, 990, 999)
    assert [risk.on_equity(usd * USD, NOW) for usd in path][-1] == Reason.RISK_DAY_LOSS
    assert risk.on_equity(999 * USD, NOW + DAY_NS) == Reason.NONE


def test_a_replacement_out_of_turn_leaves_the_old_order():
    risk = RiskManager(replace(FREE, max_orders_per_s=1.0))
    replacement = order(1)._replace(action=Action.REPLACE)
    portfolio = Portfolio({"X": MARKET}, RICH)
    assert isinstance(risk.approve(BID, replacement, portfolio, NOW), Approved)
    refused = risk.approve(BID, replacement, portfolio, NOW)
    assert (refused.reason, refused.instead) == (Reason.RISK_ORDER_RATE, None)


def test_the_day_s_loss_starts_anew_at_midnight_and_the_peak_does_not():
    settings = replace(FREE, max_day_loss_usd=100, max_drawdown_usd=150)
    risk = RiskManager(settings)
    risk.on_equity(1_000 * USD, NOW)
    assert risk.on_equity(901 * USD, NOW + DAY_NS - 1) == Reason.NONE
    assert risk.on_equity(900 * USD, NOW + DAY_NS - 1) == Reason.RISK_DAY_LOSS
    assert risk.on_equity(900 * USD, NOW + DAY_NS) == Reason.NONE
    assert risk.on_equity(850 * USD, NOW + DAY_NS) == Reason.RISK_DRAWDOWN
    assert equity_verdict(settings, RiskState()) == Reason.NONE


def test_a_halt_stops_what_adds():
    risk = RiskManager(replace(FREE, max_day_loss_usd=10))
    risk.on_equity(100 * USD, NOW)
    risk.on_equity(90 * USD, NOW)
    result = risk.approve(BID, order(1), Portfolio({"X": MARKET}, RICH), NOW)
    assert result == Refused(Reason.RISK_DAY_LOSS)


def test_the_order_rate_is_a_bucket_that_reducing_orders_empty_but_never_wait_for():
    risk = RiskManager(replace(FREE, max_orders_per_s=2))
    flat = Portfolio({"X": MARKET}, RICH)
    long = Portfolio({"X": MARKET._replace(position_lots=1)}, RICH)

    def reason(portfolio: Portfolio, slot: SlotId, now_ns: int) -> Reason:
        result = risk.approve(slot, order(1), portfolio, now_ns)
        return result.reason if isinstance(result, Refused) else Reason.NONE

    assert [reason(flat, BID, NOW) for _ in range(3)] == [Reason.NONE, Reason.NONE, Reason.RISK_ORDER_RATE]
    assert reason(flat, BID, NOW + 499_999_999) == Reason.RISK_ORDER_RATE
    assert reason(flat, BID, NOW + 500_000_000) == Reason.NONE
    assert [reason(long, ASK, NOW + 10**9) for _ in range(5)] == [Reason.NONE] * 5
    assert reason(flat, BID, NOW + 10**9) == Reason.RISK_ORDER_RATE
    assert reason(flat, BID, NOW + 10**9 - 5) == Reason.RISK_ORDER_RATE
    assert reason(flat, BID, NOW + 9 * 10**9) == Reason.NONE


def test_limits_in_force_are_the_binding_ones():
    def limits(settings: RiskSettings, market: MarketRisk = MARKET, **others: MarketRisk) -> tuple[int, int]:
        return limits_in_force(settings, "X", Portfolio({"X": market, **others}, RICH))

    other = MARKET._replace(position_lots=5)
    assert limits(FREE, with_rules(max_position_lots=7)) == (7, 7)
    assert limits(FREE, with_rules(max_position_pusd=1_099 * USD)) == (10, 10)
    assert limits(replace(FREE, max_gross_notional_usd=2_000), Y=other) == (15, 15)
    assert limits(replace(FREE, stress_move=0.5, max_stress_loss_usd=1_000), Y=other) == (15, 15)
    assert limits(replace(FREE, max_margin_utilisation=0.001), Y=other) == (95, 95)
    assert limits(replace(FREE, max_gross_notional_usd=100), Y=other) == (0, 0)
    busy = MARKET._replace(exposure=Exposure(buy_lots=9))
    assert limits(replace(FREE, max_gross_notional_usd=2_000), busy) == (20, 20)
    manager = RiskManager(replace(FREE, max_gross_notional_usd=2_000))
    assert manager.limits_in_force("X", Portfolio({"X": MARKET}, None)) == (20, 20)


@pytest.mark.slow
@given(
    position=st.integers(-30, 30),
    orders=st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 10), st.booleans()), max_size=6),
    data=st.data(),
)
def test_no_sequence_of_fills_of_approved_orders_passes_the_limit(position, orders, data):
    """Whatever was approved fills in any order: beyond the limit the position only ever shrank."""
    limit = 12
    market = with_rules(max_position_lots=limit)._replace(position_lots=position)
    approved: list[tuple[Side, int, bool]] = []
    exposure = Exposure()
    for side, lots, reduce_only in orders:
        slot = SlotId("X", side, 0)
        decision = order(lots, reduce_only=reduce_only)
        portfolio = Portfolio({"X": market._replace(exposure=exposure)}, RICH)
        if isinstance(RiskManager(FREE).approve(slot, decision, portfolio, NOW), Approved):
            approved.append((side, lots, reduce_only))
            add = dict.fromkeys(("buy_lots", "sell_lots", "reduce_buy_lots", "reduce_sell_lots"), 0)
            add[("reduce_" if reduce_only else "") + ("buy_lots" if side > 0 else "sell_lots")] = lots
            exposure = Exposure(*(have + more for have, more in zip(exposure[:4], add.values(), strict=True)))
    for side, lots, reduce_only in data.draw(st.permutations(approved)):
        room = max(0, -int(side) * position) if reduce_only else lots
        after = position + int(side) * min(lots, room)
        assert abs(after) <= max(limit, abs(position))
        position = after


# The border with Decimal.

INSTRUMENT = Instrument(
    "X", tick=Decimal("0.1"), step=Decimal("0.003"), min_size=Decimal("0.003"), max_leverage=Decimal(50)
)


def test_rules_take_the_stricter_limit():
    rules = market_rules(INSTRUMENT, replace(FREE, max_position_size=1.0, max_position_notional_usd=2_000))
    assert rules.tick_lot_pusd == 300_000_000
    assert rules.max_position_lots == 333
    assert rules.max_position_pusd == 2_000 * USD
    assert rules.max_order_pusd == 15_000_000 * USD
    assert rules.initial_margin_ppm == 20_000
    assert market_rules(INSTRUMENT, FREE).max_position_lots == NO_LIMIT
    assert market_rules(INSTRUMENT, FREE).initial_margin_ppm == 40_000
    assert market_rules(INSTRUMENT, FREE, Decimal(10)).initial_margin_ppm == 100_000
    bare = replace(INSTRUMENT, margin_tiers=())
    assert market_rules(bare, FREE).initial_margin_ppm == 1_000_000


def test_money_is_rounded_against_us():
    third = Decimal(1) / Decimal(3)
    assert pusd_down(third) + 1 == pusd_up(third) == 333_333_333_334
    market = MarketRiskBuilder(INSTRUMENT, FREE).build(
        Decimal("1234.5678901234567"), 3, Exposure(1), Decimal("1000")
    )
    assert market.lot_pusd == 3_703_703_670_371
    assert market.liquidation_lot_pusd == 3 * USD
    unmarked = MarketRiskBuilder(INSTRUMENT, FREE).build(None, 3, Exposure())
    assert (unmarked.lot_pusd, unmarked.liquidation_lot_pusd) == (0, None)
    report = BalanceReport(
        Decimal(1), Decimal("2.0000000000005"), Decimal("-0.0000000000005"), Decimal(0), Decimal("0.1"), NOW
    )
    assert account_view(report) == AccountView(2 * USD, -1, 100_000)


def test_a_limit_is_what_the_settings_say_and_not_what_binary_makes_of_it():
    settings = replace(FREE, max_order_notional_usd=0.3)
    market = MarketRiskBuilder(INSTRUMENT, settings).build(Decimal(100), 0, Exposure())
    assert market.rules.max_order_pusd == 300_000_000_000
    assert verdict(settings, BID, order(1, 1_000), market) == Reason.NONE
    assert verdict(settings, BID, order(1, 1_001), market) == Reason.RISK_ORDER_SIZE
