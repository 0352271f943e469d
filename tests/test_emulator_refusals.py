"""Every code that the REST API refuses with, and the order of the checks."""

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
from emulator_flows import NO_DELAY, Bench, default_instrument, instant_rules

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.flow import LevelChange
from market_maker.emulator.requests import (
    CancelRequest,
    DeadMansSwitchRequest,
    MassCancelRequest,
    OrderType,
    TimeInForce,
)
from market_maker.emulator.rules import Mode, OrderRules
from market_maker.instrument import MarketStatus

BUY, SELL = Side.BUY, Side.SELL


def a_bench(**limits) -> Bench:
    """Tick 0.25, step 0.3; others at 99 and 101 ticks."""
    instrument = default_instrument(
        tick=Decimal("0.25"), step=Decimal("0.3"), min_size=Decimal("0.6"), **limits
    )
    bench = Bench(instrument=instrument)
    bench.events(LevelChange(BUY, 99, 50), LevelChange(SELL, 101, 50))
    return bench


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (1001, {"market": "NONE-USD"}),
        (1133, {"external_id": ""}),
        (1133, {"post_only": True, "time_in_force": TimeInForce.IOC}),
        (1139, {"order_type": OrderType.MARKET}),
        (1120, {"qty": Decimal("0.3")}),
        (1120, {"qty": Decimal("NaN")}),
        (1120, {"qty": Decimal(-1)}),
        (1123, {"qty": Decimal("0.61")}),
        (1121, {"qty": Decimal("0.7")}),
        (1141, {"price": Decimal(0)}),
        (1141, {"price": Decimal("Infinity")}),
        (1125, {"price": Decimal("24.755")}),
        (1124, {"price": Decimal("24.77")}),
        (1141, {"price": Decimal("37.75")}),
        (1141, {"price": Decimal("12.25"), "side": SELL}),
        (1135, {"expire_ns": 0}),
        (1135, {"expire_ns": 3_000_000_000 * NS_PER_S}),
        (1128, {"fee": Decimal("0.0002")}),
        (1128, {"fee": Decimal(-1), "post_only": True}),
        (1142, {"cancel_id": "unknown"}),
        (1137, {"reduce_only": True}),
        (1140, {"qty": Decimal("60000"), "price": Decimal("24.75")}),
    ],
)
def test_a_wrong_order_is_refused(code, changes):
    bench = a_bench()
    reply = bench.send(msgspec.structs.replace(bench.request(BUY, 99, 10), **changes))
    assert (reply.http_status, reply.code) == (400, code)
    assert reply.message
    assert reply.data is None
    assert not bench.exchange.account(bench.accounts[0]).by_external


@pytest.mark.parametrize(
    ("code", "limits", "changes"),
    [
        (1122, {"max_limit_order_value": Decimal(70)}, {}),
        (
            1122,
            {"max_market_order_value": Decimal(70)},
            {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.IOC},
        ),
        (1127, {"max_position_value": Decimal(70)}, {}),
        (1126, {"max_open_orders": 0}, {}),
    ],
)
def test_a_limit_of_the_market(code, limits, changes):
    bench = a_bench(**limits)
    assert bench.send(bench.request(BUY, 99, 10, **changes)).code == code
    assert a_bench().send(bench.request(BUY, 99, 10, **changes)).code == 0


@pytest.mark.parametrize(
    ("mode", "changes", "status", "code"),
    [
        (Mode.MAINTENANCE, {}, 503, 1010),
        (Mode.POST_ONLY, {}, 400, 1011),
        (Mode.POST_ONLY, {"post_only": True}, 200, 0),
        (Mode.REDUCE_ONLY, {}, 400, 1012),
    ],
)
def test_modes_of_the_exchange(mode, changes, status, code):
    bench = a_bench()
    bench.exchange.set_mode(mode)
    reply = bench.send(bench.request(BUY, 99, 10, **changes))
    assert (reply.http_status, reply.code) == (status, code)


@pytest.mark.parametrize(
    ("status", "code"),
    [(MarketStatus.DISABLED, 1002), (MarketStatus.DELISTED, 1002), (MarketStatus.REDUCE_ONLY, 1014)],
)
def test_states_of_the_market(status, code):
    bench = a_bench()
    bench.exchange.set_market_status(bench.market, status)
    assert bench.send(bench.request(BUY, 99, 10)).code == code


@pytest.mark.parametrize(("side", "lots", "code"), [(SELL, 10, 0), (SELL, 11, 1136), (BUY, 5, 1138)])
def test_reduce_only_against_a_long_of_ten(side, lots, code):
    bench = a_bench()
    bench.place(BUY, 101, 10)
    assert bench.send(bench.request(side, 100, lots, reduce_only=True)).code == code


def test_reducing_is_allowed_in_a_market_and_an_exchange_that_only_reduce():
    bench = a_bench()
    bench.place(BUY, 101, 10)
    bench.exchange.set_mode(Mode.REDUCE_ONLY)
    assert bench.send(bench.request(SELL, 105, 5, reduce_only=True)).code == 0
    bench.exchange.set_mode(Mode.OPEN)
    bench.exchange.set_market_status(bench.market, MarketStatus.REDUCE_ONLY)
    assert bench.send(bench.request(SELL, 105, 5, reduce_only=True)).code == 0


def test_an_external_id_is_unique_for_ever():
    bench = a_bench()
    order = bench.place(BUY, 99, 10)
    assert bench.send(order.request).code == 1134
    bench.cancel(order)
    assert bench.send(order.request).code == 1134


def test_a_replacement_of_an_order_that_ended_is_refused_and_of_an_open_one_costs_no_slot():
    bench = a_bench(max_open_orders=1)
    order = bench.place(BUY, 99, 10)
    assert bench.send(bench.request(BUY, 98, 10)).code == 1126
    new = bench.place(BUY, 98, 10, cancel_id=order.request.external_id)
    assert bench.send(bench.request(BUY, 97, 10, cancel_id=order.request.external_id)).code == 1142
    assert new.is_open


def test_a_refused_replacement_leaves_the_old_order():
    bench = a_bench()
    order = bench.place(BUY, 99, 10)
    refused = bench.request(BUY, 99, 10, price=Decimal("24.77"), cancel_id=order.request.external_id)
    assert bench.send(refused).code == 1124
    assert order.is_open


@pytest.mark.parametrize(("code", "status"), [(404, 404), (1142, 400)])
def test_cancel_of_an_unknown_or_ended_order(code, status):
    bench = Bench(instant_rules(orders=OrderRules(cancel_unknown_code=code)))
    reply = bench.send(CancelRequest(external_id="unknown"))
    assert (reply.http_status, reply.code) == (status, code)
    order = bench.place(BUY, 99, 1)
    assert bench.send(CancelRequest(order_id=order.order_id)).http_status == 200
    assert bench.send(CancelRequest(order_id=order.order_id)).code == code
    assert bench.cancel(order).code == code


@pytest.mark.parametrize("request_", [MassCancelRequest(), DeadMansSwitchRequest(countdown_s=-1)])
def test_requests_without_meaning(request_):
    assert Bench().send(request_).code == 1133


def test_the_rate_limit_counts_every_request_of_a_minute():
    bench = Bench(instant_rules(orders=OrderRules(requests_per_minute=3)))
    account = bench.accounts[0]
    bench.place(BUY, 99, 1)
    assert bench.ask(bench.exchange.queries.instruments, pool=account).http_status == 200
    order = bench.place(BUY, 98, 1)
    reply = bench.cancel(order)
    assert (reply.http_status, reply.code) == (429, 429)
    assert bench.ask(bench.exchange.queries.instruments, pool=account).http_status == 429
    assert bench.ask(bench.exchange.queries.instruments, pool="others").http_status == 200
    bench.wait(61)
    assert bench.cancel(order).http_status == 200


def test_the_code_outside_the_price_band_is_a_switch():
    bench = Bench(instant_rules(latency=NO_DELAY, orders=OrderRules(price_band_code=1124)))
    assert bench.send(bench.request(BUY, 151, 1)).code == 1124
    assert bench.send(bench.request(BUY, 1, 1)).code == 0


def test_without_a_mark_there_is_no_band():
    bench = Bench()
    bench.exchange.venue.markets[bench.market].mark = Decimal(0)
    assert bench.send(bench.request(BUY, 500, 1)).code == 0


def test_checks_come_in_the_documented_order():
    bench = a_bench()
    wrong = bench.request(
        BUY,
        99,
        10,
        market="NONE-USD",
        qty=Decimal("0.7"),
        price=Decimal("37.75"),
        expire_ns=0,
        fee=Decimal(0),
    )
    fixes = [
        (1001, {"market": bench.market}),
        (1121, {"qty": Decimal("60000")}),
        (1141, {"price": Decimal("24.75")}),
        (1135, {"expire_ns": bench.now_ns + 60 * NS_PER_S}),
        (1128, {"fee": Decimal("0.00025")}),
        (1140, {"qty": Decimal("0.6")}),
    ]
    fields = msgspec.structs.asdict(wrong)
    for code, fix in fixes:
        assert bench.send(type(wrong)(**fields)).code == code
        fields |= fix
    assert bench.send(type(wrong)(**fields)).code == 0


def test_a_flow_is_needed_for_each_market():
    bench = Bench()
    with pytest.raises(ValueError, match="expected one flow"):
        type(bench.exchange)(
            [bench.instrument, replace(bench.instrument, name="Y")], [bench.flow], bench.rules, bench.rng, 0
        )
