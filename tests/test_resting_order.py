"""Is what rests worth a move? Each rule by itself, on records made by hand."""

from dataclasses import replace

import pytest

from market_maker import resting_order
from market_maker.domain import NS_PER_S, Reason, Regime, Side
from market_maker.kernel import new_row
from market_maker.pricing_engine import Conditions
from market_maker.strategy_rows import Account, DecisionRow, Params, RepriceSettings, Slot, State

NOW = 1_700_000_000 * NS_PER_S
# Half of 10 bps is 5 ticks at a fair value of 10 000; the floor of the costs is 0.3 bps, a third of a tick.
WANTED = DecisionRow(
    fair_ticks=10_000.0, offset_bps=10.0, wanted_ticks=9_990, wanted_lots=100, conditions=Conditions()
)
LONG_WAIT = NOW - 10 * NS_PER_S
GOOD = Slot(
    price_ticks=9_990, remaining_lots=100, placed_ns=LONG_WAIT, last_change_ns=LONG_WAIT, resting=True
)


def record(value):
    return new_row(value)[0]


@pytest.mark.parametrize(
    ("off", "share", "settings", "expected"),
    [
        (5, 0.0, {}, False),
        (6, 0.0, {}, True),
        (-6, 0.0, {}, True),
        # A bid against a short position reduces: at 80 % of the limit the tolerance is a fifth, one tick.
        (1, -0.8, {}, False),
        (2, -0.8, {}, True),
        (5, 0.8, {}, False),
        (2, -1.0, {"reprice_tolerance_ticks": 2.0}, False),
        (6, 0.0, {"reprice_tolerance": 0.6}, False),
    ],
)
def test_the_price_may_be_off_by_the_tolerance(off, share, settings, expected):
    params = record(Params(reprice=replace(RepriceSettings(), **settings)))
    wanted = record(replace(WANTED, conditions=Conditions(inventory_share=share)))
    slot = record(replace(GOOD, price_ticks=9_990 + off))
    assert resting_order.needs_reprice(params, slot, wanted) == expected


@pytest.mark.parametrize(("lots", "expected"), [(49, True), (50, False), (150, False), (151, True)])
def test_the_size_may_be_off_by_its_share(lots, expected):
    slot = record(replace(GOOD, remaining_lots=lots))
    assert resting_order.needs_resize(record(Params()), slot, record(WANTED)) == expected


@pytest.mark.parametrize(
    ("regime", "age_s"), [(Regime.CALM, 240), (Regime.NORMAL, 120), (Regime.EXTREME, 60)]
)
def test_an_order_is_renewed_at_the_age_of_the_regime(regime, age_s):
    slot = record(replace(GOOD, placed_ns=NOW - age_s * NS_PER_S))
    params = record(Params())
    assert resting_order.age_exceeded(params, slot, int(regime), NOW)
    assert not resting_order.age_exceeded(params, slot, int(regime), NOW - 1)


@pytest.mark.parametrize(
    ("side", "price", "position", "enabled", "expected"),
    [
        (Side.BUY, 9_999, 0, True, False),
        (Side.BUY, 10_000, 0, True, True),
        (Side.BUY, 10_050, 5, True, True),
        (Side.BUY, 10_050, -5, True, False),
        (Side.SELL, 10_001, 0, True, False),
        (Side.SELL, 9_990, 0, True, True),
        (Side.SELL, 9_990, 5, True, False),
        (Side.BUY, 10_050, 0, False, False),
    ],
)
def test_only_an_opening_order_that_no_longer_pays_is_dangerous(side, price, position, enabled, expected):
    params = record(Params(reprice=RepriceSettings(reprice_safety_enabled=enabled)))
    slot, account = (
        record(replace(GOOD, side=int(side), price_ticks=price)),
        record(Account(position_lots=position)),
    )
    assert resting_order.is_dangerous(params, account, slot, record(WANTED)) == expected


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, Reason.WITHIN_TOLERANCE),
        ({"price_ticks": 9_980}, Reason.PRICE_MOVED),
        ({"price_ticks": 9_980, "last_change_ns": NOW}, Reason.MIN_REPRICE_INTERVAL),
        ({"price_ticks": 10_010, "last_change_ns": NOW}, Reason.PRICE_MOVED),
        ({"remaining_lots": 10}, Reason.SIZE_CHANGED),
        ({"remaining_lots": 10, "last_change_ns": NOW}, Reason.MIN_REPRICE_INTERVAL),
        # The price comes before the size, and both before the age.
        ({"price_ticks": 9_980, "remaining_lots": 10, "placed_ns": 0}, Reason.PRICE_MOVED),
        ({"remaining_lots": 10, "placed_ns": 0}, Reason.SIZE_CHANGED),
        ({"placed_ns": 0, "last_change_ns": NOW}, Reason.AGE_EXCEEDED),
    ],
)
def test_the_first_rule_that_applies_gives_the_reason(changes, reason):
    state = State()
    state.market_view.regime = int(Regime.NORMAL)
    records = (record(v) for v in (Params(), state, Account(), replace(GOOD, **changes), WANTED))
    assert resting_order.change_reason(*records, NOW) == reason
