"""What becomes of orders in the matching engine, as tables and small stories."""

from decimal import Decimal

import pytest
from emulator_flows import Bench, default_instrument, instant_rules, outcome

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.flow import LevelChange
from market_maker.emulator.requests import (
    DeadMansSwitchRequest,
    MassCancelRequest,
    OrderRequest,
    OrderType,
    SelfTrade,
    TimeInForce,
)
from market_maker.emulator.rules import Delay, FailureStatus, LatencyRules, Mode, OrderRules
from market_maker.instrument import MarketStatus

BUY, SELL = Side.BUY, Side.SELL
IOC = TimeInForce.IOC


def quoted() -> Bench:
    """Others show ten lots a side at 99 and 101, ten more at 98 and 102."""
    bench = Bench()
    bench.events(*(LevelChange(BUY, ticks, 10) for ticks in (99, 98)))
    bench.events(*(LevelChange(SELL, ticks, 10) for ticks in (101, 102)))
    return bench


@pytest.mark.parametrize(
    ("side", "ticks", "lots", "extra", "expected", "position"),
    [
        (BUY, 99, 5, {}, ("NEW", "NONE", 0), 0),
        (BUY, 101, 5, {}, ("FILLED", "NONE", 5), 5),
        (SELL, 99, 5, {}, ("FILLED", "NONE", 5), -5),
        (BUY, 101, 15, {}, ("PARTIALLY_FILLED", "NONE", 10), 10),
        (BUY, 102, 15, {}, ("FILLED", "NONE", 15), 15),
        (BUY, 101, 15, {"time_in_force": IOC}, ("CANCELLED", "NONE", 10), 10),
        (BUY, 100, 5, {"time_in_force": IOC}, ("CANCELLED", "NO_LIQUIDITY", 0), 0),
        (BUY, 105, 5, {"time_in_force": IOC, "order_type": OrderType.MARKET}, ("FILLED", "NONE", 5), 5),
        (BUY, 101, 5, {"post_only": True}, ("REJECTED", "POST_ONLY_FAILED", 0), 0),
        (SELL, 99, 5, {"post_only": True}, ("REJECTED", "POST_ONLY_FAILED", 0), 0),
        (BUY, 100, 5, {"post_only": True}, ("NEW", "NONE", 0), 0),
    ],
)
def test_an_incoming_order(side, ticks, lots, extra, expected, position):
    bench = quoted()
    order = bench.place(side, ticks, lots, **extra)
    assert outcome(order) == expected
    assert bench.position() == position


@pytest.mark.parametrize(
    ("failure", "status"), [(FailureStatus.REJECTED, "REJECTED"), (FailureStatus.CANCELLED, "CANCELLED")]
)
def test_status_of_a_failed_post_only_order_is_a_switch(failure, status):
    bench = Bench(instant_rules(orders=OrderRules(post_only_failure=failure)))
    bench.level(SELL, 101, 5)
    assert outcome(bench.place(BUY, 101, 1, post_only=True)) == (status, "POST_ONLY_FAILED", 0)


def test_others_ahead_of_us_fill_first_and_those_behind_later():
    bench = quoted()
    order = bench.place(BUY, 99, 5)
    bench.level(BUY, 99, 20)
    bench.taker(SELL, 99, 8)
    assert outcome(order) == ("NEW", "NONE", 0)
    assert bench.book.lots_ahead(order) == 2
    bench.taker(SELL, 99, 4)
    assert outcome(order) == ("PARTIALLY_FILLED", "NONE", 2)
    bench.taker(SELL, 99, 6)
    assert outcome(order) == ("FILLED", "NONE", 5)
    assert bench.book.external_lots(BUY, 99) == 7


def test_a_taker_stops_at_its_limit_and_leaves_nothing():
    bench = quoted()
    bench.taker(BUY, 101, 50)
    assert bench.book.best_ticks(SELL) == 102
    assert bench.book.best_ticks(BUY) == 99


def test_a_level_across_the_book_trades_with_us_and_sweeps_others_away():
    bench = quoted()
    order = bench.place(SELL, 101, 4)
    bench.level(BUY, 102, 10)
    assert outcome(order) == ("FILLED", "NONE", 4)
    assert bench.book.best_ticks(SELL) is None
    # Four of the ten that others wanted went to us.
    assert bench.book.levels(BUY)[0] == (102, 6)
    trades = [row for frame in bench.frames("trades") for row in frame["data"]]
    assert trades == []


def test_a_level_too_small_for_our_order_leaves_the_book_uncrossed():
    bench = Bench()
    order = bench.place(SELL, 101, 10)
    bench.level(BUY, 103, 4)
    assert outcome(order) == ("PARTIALLY_FILLED", "NONE", 4)
    assert bench.book.best_ticks(BUY) is None
    assert bench.book.levels(SELL) == [(101, 6)]


def test_a_fill_is_at_the_makers_price_and_pays_both_fees():
    bench = Bench(maker_fee=Decimal("-0.0001"))
    bench.level(SELL, 101, 10)
    maker = bench.place(BUY, 99, 10)
    bench.taker(SELL, 90, 10)
    bench.place(BUY, 105, 10)
    trades = list(bench.exchange.account(bench.accounts[0]).trades)
    assert [(t.price_ticks, t.is_taker, t.fee) for t in trades] == [
        (99, False, Decimal("-0.0099")),
        (101, True, Decimal("0.02525")),
    ]
    assert maker.fee == Decimal("-0.0099")


@pytest.mark.parametrize(
    ("level", "same_client", "expected"),
    [
        (SelfTrade.ACCOUNT, False, ("CANCELLED", "SELF_TRADE_PROTECTION", 0)),
        (SelfTrade.DISABLED, False, ("FILLED", "NONE", 3)),
    ],
)
def test_self_trade_protection_of_one_account(level, same_client, expected):
    bench = Bench()
    resting = bench.place(SELL, 101, 3)
    taker = bench.place(BUY, 101, 3, self_trade=level)
    assert outcome(resting) == expected
    assert outcome(taker)[0] == ("FILLED" if level is SelfTrade.DISABLED else "NEW")
    assert bench.position() == 0


@pytest.mark.parametrize(
    ("level", "client", "filled"),
    [(SelfTrade.ACCOUNT, 7, 3), (SelfTrade.CLIENT, 7, 0), (SelfTrade.CLIENT, None, 3)],
)
def test_self_trade_protection_between_accounts(level, client, filled):
    bench = Bench(client_id=client, accounts=2)
    resting = bench.place(SELL, 101, 3, account=1)
    bench.place(BUY, 101, 3, self_trade=level)
    assert resting.filled_lots == filled
    assert resting.is_open is False


def long_five() -> Bench:
    bench = quoted()
    bench.place(BUY, 101, 5)
    return bench


def test_reduce_only_fails_in_the_engine_when_the_position_is_gone_by_then():
    slow = LatencyRules(Delay(), Delay(1000.0), Delay(), Delay(), 0.0)
    bench = Bench(instant_rules(latency=slow))
    bench.events(LevelChange(BUY, 99, 20), LevelChange(SELL, 101, 5))
    for request in (bench.request(BUY, 101, 5),):
        bench.send(request)
    bench.wait(2)
    assert bench.position() == 5
    first = bench.request(SELL, 99, 5, reduce_only=True)
    second = bench.request(SELL, 99, 5, reduce_only=True)
    assert bench.send(first).http_status == bench.send(second).http_status == 200
    bench.wait(3)
    assert outcome(bench.order(first.external_id)) == ("FILLED", "NONE", 5)
    assert outcome(bench.order(second.external_id)) == ("REJECTED", "REDUCE_ONLY_FAILED", 0)


def test_a_resting_reduce_only_order_never_opens_a_position():
    bench = long_five()
    resting = bench.place(SELL, 105, 5, reduce_only=True)
    bench.place(SELL, 99, 3)
    bench.taker(BUY, 105, 50)
    assert bench.position() == 0
    assert outcome(resting) == ("CANCELLED", "REDUCE_ONLY_FAILED", 2)


def test_a_resting_reduce_only_order_goes_with_the_position():
    bench = long_five()
    resting = bench.place(SELL, 105, 5, reduce_only=True)
    bench.place(SELL, 99, 5)
    assert outcome(resting) == ("CANCELLED", "REDUCE_ONLY_FAILED", 0)


def test_replace_gives_a_new_id_at_the_back_of_the_queue():
    bench = quoted()
    old = bench.place(BUY, 99, 5)
    bench.level(BUY, 99, 12)
    new = bench.place(BUY, 99, 5, cancel_id=old.request.external_id)
    assert outcome(old) == ("CANCELLED", "ORDER_REPLACED", 0)
    assert outcome(new) == ("NEW", "NONE", 0)
    assert new.order_id > old.order_id > 2**53
    assert bench.book.lots_ahead(new) == 12
    assert bench.book.account_lots(BUY, 99) == 5


@pytest.mark.parametrize(("counts", "remaining"), [(False, 5), (True, 3)])
def test_replace_of_a_partly_filled_order(counts, remaining):
    bench = Bench(instant_rules(orders=OrderRules(replacement_counts_filled=counts)))
    old = bench.place(BUY, 99, 5)
    bench.taker(SELL, 99, 2)
    new = bench.place(BUY, 98, 5, cancel_id=old.request.external_id)
    assert outcome(old) == ("CANCELLED", "ORDER_REPLACED", 2)
    assert new.remaining_lots == remaining


def test_a_replacement_smaller_than_what_filled_ends_both_where_filled_size_counts():
    bench = Bench(instant_rules(orders=OrderRules(replacement_counts_filled=True)))
    old = bench.place(BUY, 99, 5)
    bench.taker(SELL, 99, 2)
    new = bench.place(BUY, 98, 2, cancel_id=old.request.external_id)
    assert outcome(new)[:2] == ("REJECTED", "INVALID_QTY")
    assert not old.is_open


def test_a_replacement_that_fails_in_the_engine_ends_both():
    bench = quoted()
    old = bench.place(BUY, 99, 5)
    new = bench.place(BUY, 101, 5, post_only=True, cancel_id=old.request.external_id)
    assert outcome(old) == ("CANCELLED", "ORDER_REPLACED", 0)
    assert outcome(new) == ("REJECTED", "POST_ONLY_FAILED", 0)
    assert bench.book.account_lots(BUY, 99) == 0


def test_a_fill_between_acceptance_and_replacement_leaves_the_replacement_without_predecessor():
    slow = LatencyRules(Delay(), Delay(1000.0), Delay(), Delay(), 0.0)
    bench = Bench(instant_rules(latency=slow))
    first = bench.request(BUY, 99, 5)
    bench.send(first)
    bench.wait(2)
    second = bench.request(BUY, 98, 5, cancel_id=first.external_id)
    assert bench.send(second).http_status == 200
    bench.taker(SELL, 99, 5)
    bench.wait(2)
    assert outcome(bench.order(first.external_id)) == ("FILLED", "NONE", 5)
    assert outcome(bench.order(second.external_id)) == ("REJECTED", "PREV_ORDER_NOT_FOUND", 0)


def test_an_order_still_fills_while_its_cancel_is_under_way():
    slow = LatencyRules(Delay(), Delay(1000.0), Delay(), Delay(), 0.0)
    bench = Bench(instant_rules(latency=slow))
    request = bench.request(BUY, 99, 5)
    bench.send(request)
    bench.wait(2)
    order = bench.order(request.external_id)
    assert bench.cancel(order).http_status == 200
    bench.taker(SELL, 99, 2)
    bench.wait(2)
    assert outcome(order) == ("CANCELLED", "NONE", 2)


def test_an_order_that_ended_before_the_engine_saw_its_cancel_or_itself_stays_ended():
    slow = LatencyRules(Delay(), Delay(1000.0), Delay(), Delay(), 0.0)
    bench = Bench(instant_rules(latency=slow))
    short = bench.request(BUY, 98, 5, expire_ns=bench.now_ns + NS_PER_S // 2)
    filled = bench.request(BUY, 99, 5)
    bench.send(short)
    bench.send(filled)
    bench.wait(2)
    assert outcome(bench.order(short.external_id)) == ("EXPIRED", "NONE", 0)
    assert bench.cancel(bench.order(filled.external_id)).http_status == 200
    bench.taker(SELL, 99, 5)
    bench.wait(2)
    assert outcome(bench.order(filled.external_id)) == ("FILLED", "NONE", 5)


def test_an_order_expires_at_its_instant():
    bench = Bench()
    order = bench.place(BUY, 99, 5, expire_ns=bench.now_ns + 10 * NS_PER_S)
    bench.wait(9)
    assert order.is_open
    bench.wait(1)
    assert outcome(order) == ("EXPIRED", "NONE", 0)
    assert bench.book.best_ticks(BUY) is None


def test_dead_mans_switch_fires_unless_refreshed_or_disarmed():
    bench = Bench(accounts=2)
    order, other = bench.place(BUY, 99, 5), bench.place(BUY, 98, 5, account=1)
    bench.send(DeadMansSwitchRequest(countdown_s=10))
    bench.wait(6)
    bench.send(DeadMansSwitchRequest(countdown_s=10))
    bench.wait(6)
    assert order.is_open
    bench.wait(5)
    assert outcome(order) == ("CANCELLED", "NONE", 0)
    assert other.is_open
    again = bench.place(BUY, 99, 5)
    bench.send(DeadMansSwitchRequest(countdown_s=10))
    bench.send(DeadMansSwitchRequest(countdown_s=0))
    bench.wait(20)
    assert again.is_open


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"cancel_all": True}, []),
        ({"markets": ("X-USD",)}, []),
        ({"markets": ("Y-USD",)}, ["o1", "o2"]),
        ({"external_ids": ("o1",)}, ["o2"]),
    ],
)
def test_mass_cancel(fields, left):
    bench = Bench(accounts=2)
    bench.place(BUY, 99, 5)
    bench.place(SELL, 101, 5)
    foreign = bench.place(BUY, 98, 1, account=1)
    assert bench.send(MassCancelRequest(**fields)).http_status == 200
    account = bench.exchange.account(bench.accounts[0])
    assert [order.request.external_id for order in account.open.values()] == left
    assert foreign.is_open


def test_mass_cancel_by_the_exchanges_id():
    bench = Bench()
    order, other = bench.place(BUY, 99, 5), bench.place(BUY, 98, 5)
    bench.send(MassCancelRequest(order_ids=(order.order_id,)))
    assert (order.is_open, other.is_open) == (False, True)


@pytest.mark.parametrize(
    ("mode", "status", "extra", "reason"),
    [
        (Mode.POST_ONLY, MarketStatus.ACTIVE, {}, "POST_ONLY_MODE"),
        (Mode.POST_ONLY, MarketStatus.ACTIVE, {"post_only": True}, "NONE"),
        (Mode.REDUCE_ONLY, MarketStatus.ACTIVE, {}, "REDUCE_ONLY_MODE"),
        (Mode.MAINTENANCE, MarketStatus.ACTIVE, {}, "TRADING_OFF_MODE"),
        (Mode.OPEN, MarketStatus.REDUCE_ONLY, {}, "REDUCE_ONLY_MODE"),
        (Mode.OPEN, MarketStatus.DISABLED, {}, "DISABLED_MARKET"),
        (Mode.OPEN, MarketStatus.ACTIVE, {}, "NONE"),
    ],
)
def test_the_engine_refuses_what_a_mode_forbids_by_then(mode, status, extra, reason):
    slow = LatencyRules(Delay(), Delay(1000.0), Delay(), Delay(), 0.0)
    bench = Bench(instant_rules(latency=slow))
    request: OrderRequest = bench.request(BUY, 99, 5, **extra)
    assert bench.send(request).http_status == 200
    bench.exchange.set_mode(mode)
    bench.exchange.set_market_status(bench.market, status)
    bench.wait(2)
    assert bench.order(request.external_id).reason.value == reason


@pytest.mark.parametrize(("tick", "step"), [("0.25", "0.003"), ("5", "0.7")])
def test_odd_ticks_and_steps(tick, step):
    instrument = default_instrument(tick=Decimal(tick), step=Decimal(step), min_size=Decimal(step))
    bench = Bench(instrument=instrument)
    bench.level(SELL, 101, 10)
    order = bench.place(BUY, 101, 7)
    value = Decimal(tick) * 101 * Decimal(step) * 7
    assert outcome(order) == ("FILLED", "NONE", 7)
    assert bench.cash() == Decimal(100000) - value - value * Decimal("0.00025")
    assert bench.frames() == []
