"""The hedge: when it rests, when it takes, how much, and everything that it must not do."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import hedging
from market_maker.domain import NS_PER_S
from market_maker.hedging import HedgeOrder, HedgeOrders, HedgeSettings, HedgeWhy, ReferenceMarket

NOW = 20_000 * 86_400 * NS_PER_S
ON = HedgeSettings(
    hedge_enabled=True, hedge_net_beta_usd=5_000.0, hedge_hard_usd=10_000.0, hedge_fee_budget_usd=10.0
)
# A lot is worth 50 USD; the book is 600,000 to 600,010.
BTC = ReferenceMarket(600_000, 600_010, 50.0, 1, 0, 1_000, 1_000)
SOLD = HedgeOrder(-1, 600_010, 40)


NOTHING = HedgeOrders()


def plan(net_usd, market=BTC, orders=NOTHING, params=ON, now_ns=NOW):
    return hedging.plan(params, net_usd, market, orders, now_ns)


def test_nothing_where_it_is_off_or_nothing_is_known():
    assert plan(99_999.0, params=HedgeSettings()) == (0, None, None, HedgeWhy.DISABLED)
    unknown = (0, None, None, HedgeWhy.UNKNOWN)
    assert plan(math.nan) == plan(math.inf) == unknown
    for broken in ({"bid_ticks": 0}, {"ask_ticks": 600_000}, {"lot_usd": 0.0}, {"lot_usd": math.inf}):
        assert plan(99_999.0, BTC._replace(**broken)) == unknown


@pytest.mark.parametrize(("net_usd", "lean"), [(0.0, 0), (4_999.0, -1), (-5_000.0, 1)])
def test_within_the_limit_the_quotes_lean_and_no_more(net_usd, lean):
    assert plan(net_usd) == (lean, None, None, HedgeWhy.WITHIN_LIMITS)


def test_beyond_the_soft_limit_an_order_rests_at_the_touch_that_brings_it_back():
    assert plan(7_020.0) == (-1, SOLD, None, HedgeWhy.RESTING)
    assert plan(-7_020.0) == (1, HedgeOrder(1, 600_000, 40), None, HedgeWhy.RESTING)


def test_beyond_the_hard_limit_the_breach_is_taken_and_the_rest_rests():
    # 620 USD of breach are 12 lots, 112 in all are beyond the soft limit.
    found = plan(10_620.0)
    assert found == (-1, HedgeOrder(-1, 600_010, 100), HedgeOrder(-1, 600_000, 12), HedgeWhy.TAKING)
    found = plan(-10_620.0)
    assert found == (1, HedgeOrder(1, 600_000, 100), HedgeOrder(1, 600_010, 12), HedgeWhy.TAKING)


def test_what_is_less_than_the_least_order_is_not_traded():
    assert plan(5_099.0).why == HedgeWhy.TOO_SMALL
    assert plan(5_100.0).rest == HedgeOrder(-1, 600_010, 2)
    assert plan(5_499.0, BTC._replace(min_lots=10)).why == HedgeWhy.TOO_SMALL
    # A breach that is too small is left to the order that rests.
    found = plan(10_099.0)
    assert (found.take, found.why) == (None, HedgeWhy.RESTING)
    assert found.rest.size_lots == 101


def test_the_limits_of_the_reference_market_bind():
    assert plan(7_000.0, BTC._replace(limit_short_lots=15)).rest.size_lots == 15
    assert plan(7_000.0, BTC._replace(limit_short_lots=15, quote_sell_lots=9)).rest.size_lots == 6
    assert plan(-7_000.0, BTC._replace(limit_long_lots=15, quote_buy_lots=9)).rest.size_lots == 6
    found = plan(7_000.0, BTC._replace(limit_short_lots=100, position_lots=-99))
    assert found == (-1, None, None, HedgeWhy.NO_ROOM)
    # Down to flat a position may always be let.
    found = plan(7_000.0, BTC._replace(limit_short_lots=0, limit_long_lots=0, position_lots=30))
    assert found.rest.size_lots == 30
    # What is taken leaves the less to rest.
    found = plan(11_000.0, BTC._replace(limit_short_lots=50))
    assert (found.take.size_lots, found.rest.size_lots) == (20, 30)


def test_fees_stay_within_the_budget_of_the_day():
    # 5 bps of 50 USD are 2.5 cents a lot.
    dear = BTC._replace(taker_fee_bps=5.0)
    spent = HedgeOrders().with_fee(9.70, NOW)
    assert plan(12_000.0, dear).take.size_lots == 40
    found = plan(12_000.0, dear, spent)
    assert found.take.size_lots == 12
    found = plan(12_000.0, dear, spent.with_fee(0.26, NOW))
    assert (found.take, found.why) == (None, HedgeWhy.OVER_BUDGET)
    # What costs nothing rests all the same; with a fee it does not.
    assert found.rest.size_lots == 140
    found = plan(7_000.0, dear._replace(maker_fee_bps=1.0), HedgeOrders().with_fee(11.0, NOW))
    assert found == (-1, None, None, HedgeWhy.OVER_BUDGET)


def test_a_new_day_has_a_budget_of_its_own():
    day = 86_400 * NS_PER_S
    orders = HedgeOrders().with_fee(4.0, NOW).with_fee(5.0, NOW + day - 1)
    assert orders.fees_today(NOW + day - 1) == 9.0
    assert orders.fees_today(NOW + day) == 0.0
    assert orders.with_fee(1.0, NOW + day).fees_today(NOW + day) == 1.0


def test_a_taking_order_is_waited_for():
    breach = 10_620.0
    under_way = HedgeOrders(taking=HedgeOrder(-1, 600_000, 12))
    found = plan(breach, orders=under_way)
    # Net beta does not show what it will fill, so that is not to rest as well.
    assert found == (-1, HedgeOrder(-1, 600_010, 100), None, HedgeWhy.WAITING)
    assert plan(breach, orders=HedgeOrders(took_ns=NOW - NS_PER_S)).take is None
    assert plan(breach, orders=HedgeOrders(took_ns=NOW - 2 * NS_PER_S)).take is not None
    # One of the other side, from before the sign changed, lessens nothing.
    other = HedgeOrders(taking=HedgeOrder(1, 600_010, 12))
    assert plan(breach, orders=other).rest.size_lots == 112


def rested(order, **changes):
    return HedgeOrders(resting=order, rested_ns=NOW - NS_PER_S)._replace(**changes)


@pytest.mark.parametrize("net_usd", [7_020.0, 6_950.0, 7_099.0])
def test_an_order_that_is_nearly_right_keeps_its_place(net_usd):
    assert plan(net_usd, orders=rested(SOLD)) == (-1, SOLD, None, HedgeWhy.RESTING)


def test_an_order_moves_with_the_touch_after_the_interval():
    away = BTC._replace(bid_ticks=599_990, ask_ticks=600_000)
    assert plan(7_020.0, away, rested(SOLD)) == (-1, SOLD, None, HedgeWhy.WAITING)
    moved = HedgeOrder(-1, 600_000, 40)
    assert plan(7_020.0, away, rested(SOLD, rested_ns=NOW - 2 * NS_PER_S)).rest == moved
    pending = rested(SOLD, rested_ns=NOW - 2 * NS_PER_S, is_pending=True)
    assert plan(7_020.0, away, pending) == (-1, SOLD, None, HedgeWhy.WAITING)


def test_an_order_grows_after_the_interval_and_shrinks_at_once():
    assert plan(7_500.0, orders=rested(SOLD)) == (-1, SOLD, None, HedgeWhy.WAITING)
    assert plan(7_500.0, orders=rested(SOLD, rested_ns=0)).rest.size_lots == 50
    # By 30 lots too large, it would bring net beta 1,500 USD below the limit.
    assert plan(5_500.0, orders=rested(SOLD)).rest == HedgeOrder(-1, 600_010, 10)
    assert plan(5_000.0, orders=rested(SOLD)).rest is None
    found = plan(5_090.0, orders=rested(SOLD._replace(size_lots=2)))
    assert found.rest.size_lots == 2
    assert plan(5_090.0, orders=rested(SOLD)) == (-1, None, None, HedgeWhy.TOO_SMALL)


def test_after_a_change_of_sign_the_order_goes_and_the_other_waits():
    assert plan(-7_020.0, orders=rested(SOLD)) == (1, None, None, HedgeWhy.WAITING)
    found = plan(-7_020.0, orders=rested(SOLD, rested_ns=0))
    assert found.rest == HedgeOrder(1, 600_000, 40)


def test_a_cancelled_order_is_not_placed_again_before_the_interval():
    assert plan(7_020.0, orders=HedgeOrders(rested_ns=NOW - NS_PER_S)) == (-1, None, None, HedgeWhy.WAITING)
    assert plan(7_020.0, orders=HedgeOrders(is_pending=True)).why == HedgeWhy.WAITING


PARAMS = st.builds(
    lambda soft, more, least, budget: HedgeSettings(
        hedge_enabled=True,
        hedge_net_beta_usd=soft,
        hedge_hard_usd=soft + more,
        hedge_min_usd=least,
        hedge_fee_budget_usd=budget,
    ),
    st.floats(0.0, 1e5),
    st.floats(0.0, 1e5),
    st.floats(0.0, 1e3),
    st.floats(0.0, 100.0),
)
MARKETS = st.builds(
    ReferenceMarket,
    st.integers(1, 10**6),
    st.integers(10**6 + 1, 2 * 10**6),
    st.floats(1e-3, 1e5),
    st.integers(1, 100),
    st.integers(-(10**6), 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0.0, 5.0),
    st.floats(0.0, 10.0),
)
AN_ORDER = st.none() | st.builds(
    HedgeOrder, st.sampled_from([-1, 1]), st.integers(1, 2 * 10**6), st.integers(1, 10**6)
)
ORDERS = st.builds(
    HedgeOrders,
    AN_ORDER,
    st.booleans(),
    AN_ORDER,
    st.integers(NOW - 4 * NS_PER_S, NOW),
    st.integers(NOW - 4 * NS_PER_S, NOW),
    st.just(NOW // (86_400 * NS_PER_S)),
    st.floats(0.0, 120.0),
)


@settings(max_examples=200, deadline=None)
@given(PARAMS, st.floats(-1e6, 1e6), MARKETS, ORDERS)
def test_a_hedge_never_adds_to_net_beta_nor_turns_its_sign_nor_takes_more_than_the_breach(
    params, net_usd, market, orders
):
    found = plan(net_usd, market, orders, params)
    wanted = [order for order in (found.rest, found.take) if order]
    assert all(order.side * net_usd < 0.0 for order in wanted)
    hedged = sum(order.size_lots for order in wanted) * market.lot_usd
    assert hedged <= abs(net_usd) * (1.0 + 1e-9)
    if found.take:
        breach = abs(net_usd) - params.hedge_hard_usd
        assert found.take.size_lots * market.lot_usd <= breach * (1.0 + 1e-9)
        fee = found.take.size_lots * market.lot_usd * market.taker_fee_bps / 1e4
        assert fee <= max(params.hedge_fee_budget_usd - orders.fees_usd, 0.0) + 1e-9
    for order in wanted:
        if order != orders.resting:
            after = market.position_lots + order.side * order.size_lots
            limit = market.limit_long_lots if order.side > 0 else market.limit_short_lots
            assert order.side * after <= max(limit, 0)
            assert order.size_lots >= market.min_lots


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hedge_net_beta_usd": -1.0}, "hedge_net_beta_usd: expected 0 to 1e"),
        ({"hedge_hard_usd": 4_999.0}, "hedge_hard_usd: expected 5000 to 1e"),
        ({"hedge_fee_budget_usd": math.nan}, "hedge_fee_budget_usd: expected 0 to 1e"),
        ({"hedge_min_usd": -1.0}, "hedge_min_usd: expected 0 to 1e"),
        ({"hedge_interval_s": 0.0}, "hedge_interval_s: expected 0.1 to 3600, was 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, expected):
    with pytest.raises(ValueError, match=expected):
        HedgeSettings(**change)
