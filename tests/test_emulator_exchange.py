"""The exchange as a whole: latency, the two orders of reply and news, look-ups, determinism."""

import hashlib
import json
from decimal import Decimal

import numpy as np
import pytest
from emulator_flows import MARKET, START_NS, Bench, ScriptedFlow, default_instrument, instant_rules

from market_maker.domain import NS_PER_MS, NS_PER_S, Side
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.flow import LevelChange, PastBar, TakerOrder
from market_maker.emulator.requests import DeadMansSwitchRequest, OrderRequest
from market_maker.emulator.rules import Delay, ExchangeRules, LatencyRules, MoneyRules
from market_maker.emulator.streams import PUBLIC_KINDS, Reply, StreamFrame, Topic

BUY, SELL = Side.BUY, Side.SELL


def data(body: bytes):
    decoded = json.loads(body)
    assert decoded["status"] == "OK"
    return decoded["data"]


@pytest.mark.parametrize(("probability", "first"), [(0.0, Reply), (1.0, StreamFrame)])
def test_reply_and_news_in_either_order(probability, first):
    # The reply is slow and the stream fast, or what the rule says is the other way round: the rule wins.
    for reply_ms, stream_ms in ((50.0, 1.0), (1.0, 50.0)):
        latency = LatencyRules(Delay(5.0), Delay(3.0), Delay(reply_ms), Delay(stream_ms), probability)
        bench = Bench(instant_rules(latency=latency))
        bench.exchange.subscribe(Topic("account", account_id=bench.accounts[0]))
        bench.wait(1)
        ticket = bench.exchange.submit(bench.accounts[0], bench.request(BUY, 99, 1), bench.now_ns)
        sent_ns = bench.now_ns
        answers = bench.wait(1)
        assert isinstance(answers[0], first)
        assert {type(answer) for answer in answers} == {Reply, StreamFrame}
        reply = next(answer for answer in answers if isinstance(answer, Reply))
        assert reply.ticket == ticket
        assert reply.due_ns - sent_ns >= round((5 + reply_ms) * NS_PER_MS)
        assert [answer.due_ns for answer in answers] == sorted(answer.due_ns for answer in answers)


def test_a_reply_to_an_order_has_its_ids_and_body():
    bench = Bench()
    reply = bench.send(bench.request(BUY, 99, 1))
    assert reply.data is not None
    assert reply.data.external_id == "o1"
    assert json.loads(reply.frame) == {"status": "OK", "data": {"id": reply.data.id, "externalId": "o1"}}
    assert json.loads(bench.send(DeadMansSwitchRequest(countdown_s=5)).frame) == {"status": "OK"}
    refused = bench.send(bench.request(BUY, 99, 0))
    assert json.loads(refused.frame)["error"]["code"] == refused.code == 1120


def test_next_due_leads_from_event_to_event():
    latency = LatencyRules(Delay(5.0), Delay(3.0), Delay(7.0), Delay(11.0), 0.0)
    bench = Bench(instant_rules(latency=latency))
    bench.wait(0.5)
    sent_ns = bench.now_ns
    bench.exchange.submit(bench.accounts[0], bench.request(BUY, 99, 1), sent_ns)
    dues = []
    for _ in range(3):
        due_ns = bench.exchange.next_due_ns()
        dues.append((due_ns - sent_ns) // NS_PER_MS)
        bench.exchange.advance(due_ns)
    assert dues == [5, 8, 12]


def test_a_delay_has_a_floor_and_a_tail():
    rng = np.random.default_rng(3)
    draws = [Delay(10.0, 5.0).draw_ns(rng) / NS_PER_MS for _ in range(2000)]
    assert min(draws) >= 10.0
    assert 14.5 < float(np.mean(draws)) < 15.5
    assert Delay(2.0).draw_ns(rng) == 2 * NS_PER_MS


def test_what_the_engine_has_not_seen_is_not_found():
    slow = LatencyRules(Delay(), Delay(1000.0), Delay(), Delay(), 0.0)
    bench = Bench(instant_rules(latency=slow))
    account, queries = bench.accounts[0], bench.exchange.queries
    bench.send(bench.request(BUY, 99, 1))
    assert data(queries.open_orders(account)) == []
    assert data(queries.order_by_external_id(account, "o1")) == []
    bench.wait(2)
    assert [order["externalId"] for order in data(queries.open_orders(account))] == ["o1"]
    assert data(queries.order_by_external_id(account, "o1"))[0]["status"] == "NEW"
    assert data(queries.order_by_external_id(account, "unknown")) == []


def test_account_look_ups():
    bench = Bench(instant_rules(money=MoneyRules(funding_speedup=360.0)))
    account, queries = bench.accounts[0], bench.exchange.queries
    bench.events(LevelChange(SELL, 101, 10))
    bench.place(BUY, 101, 4)
    middle_ns = bench.now_ns
    bench.place(BUY, 101, 2)
    assert data(queries.open_orders(account)) == []
    assert data(queries.order_by_external_id(account, "o1"))[0]["status"] == "FILLED"
    trades = data(queries.trades(account))
    assert [trade["qty"] for trade in trades] == ["0.2", "0.4"]
    assert "externalOrderId" not in trades[0]
    assert len(data(queries.trades(account, middle_ns))) == 1
    (position,) = data(queries.positions(account))
    assert (position["side"], position["size"], position["openPrice"]) == ("LONG", "0.6", "101.000000")
    balance = data(queries.balance(account, bench.now_ns))
    assert Decimal(balance["equity"]) == bench.exchange.equity(account)
    assert data(queries.funding_payments(account)) == []
    bench.wait(20)
    payments = data(queries.funding_payments(account))
    assert len(payments) == 2
    assert payments[0]["paidTime"] > payments[1]["paidTime"]
    paid = [Decimal(payment["fundingFee"]) for payment in payments]
    sizes = [-Decimal(p["fundingRate"]) * Decimal(p["markPrice"]) * Decimal(p["size"]) for p in payments]
    assert paid == sizes
    assert len(data(queries.funding_payments(account, START_NS + 11 * NS_PER_S))) == 1
    assert data(queries.leverage(account)) == [{"market": MARKET, "leverage": "10"}]
    (fees,) = data(queries.fees(account))
    assert fees == {"market": MARKET, "makerFeeRate": "0", "takerFeeRate": "0.00025", "builderFeeRate": "0"}


def test_the_market_list_has_what_the_sdk_needs():
    bench = Bench()
    (market,) = data(bench.exchange.queries.instruments([MARKET, "NONE-USD"]))
    assert data(bench.exchange.queries.instruments()) == [market]
    needed = ("type", "assetPrecision", "isRfq", "isOffHours", "tradingHours", "active", "l2Config")
    assert all(name in market for name in needed)
    config = market["tradingConfig"]
    assert (config["minPriceChange"], config["minOrderSizeChange"], config["maxNumOrders"]) == (
        "1",
        "0.1",
        "200",
    )
    assert Decimal(config["hourlyFundingRateCap"]) == Decimal("0.25")
    assert market["marketStats"]["markPrice"] == "100.00"
    assert market["marketStats"]["nextFundingRate"] == START_NS // NS_PER_MS + 3_600_000


def test_candles_join_the_past_and_the_session():
    minute_ns = 60 * NS_PER_S
    past = [PastBar(START_NS - k * minute_ns, 90 + k, 95, 85, 90) for k in (2, 1)]
    flow = ScriptedFlow(MARKET, bars=past)
    rng = np.random.default_rng(0)
    exchange = Exchange([default_instrument()], [flow], instant_rules(), rng, START_NS)
    flow.feed(START_NS, LevelChange(SELL, 101, 10), LevelChange(SELL, 103, 10))
    flow.feed(START_NS + NS_PER_S, TakerOrder(BUY, 103, 15))
    flow.feed(START_NS + 130 * NS_PER_S, TakerOrder(BUY, 103, 1))
    now_ns = START_NS + 185 * NS_PER_S
    exchange.advance(now_ns)
    candles = data(exchange.queries.candles(MARKET, 10, now_ns))
    assert [(c["T"] * NS_PER_MS - START_NS) // minute_ns for c in candles] == [2, 1, 0, -1, -2]
    assert [candles[2][key] for key in ("o", "h", "l", "c", "v")] == ["101", "103", "101", "103", "1.5"]
    assert [candles[1][key] for key in ("o", "h", "l", "c", "v")] == ["103", "103", "103", "103", "0.0"]
    assert len(data(exchange.queries.candles(MARKET, 2, now_ns))) == 2


def test_a_flow_that_starts_late_or_ends_leaves_the_exchange_running():
    flow = ScriptedFlow(MARKET)
    exchange = Exchange([default_instrument()], [flow], instant_rules(), np.random.default_rng(0), START_NS)
    exchange.advance(START_NS + 10 * NS_PER_S)
    assert exchange.mark(MARKET) == 0
    flow.feed(START_NS + 20 * NS_PER_S, LevelChange(BUY, 99, 1))
    exchange.advance(START_NS + 20 * NS_PER_S)
    assert exchange.mark(MARKET) == 100
    assert exchange.book(MARKET).best_ticks(BUY) == 99
    assert exchange.next_due_ns() is not None


def _session(seed: int) -> str:
    """Ten seconds of a busy market with default latencies; a hash of all outputs."""
    rng = np.random.default_rng(99)
    flow = ScriptedFlow(MARKET)
    exchange = Exchange(
        [default_instrument()], [flow], ExchangeRules(), np.random.default_rng(seed), START_NS
    )
    accounts = [exchange.add_account(Decimal(100000)) for _ in range(2)]
    for kind in PUBLIC_KINDS:
        exchange.subscribe(Topic(kind, MARKET))
    for account in accounts:
        exchange.subscribe(Topic("account", account_id=account))
    digest, old = hashlib.sha256(), ""
    for step in range(200):
        now_ns = START_NS + step * 50 * NS_PER_MS
        side = BUY if rng.random() < 0.5 else SELL
        ticks = 100 - int(side) * int(rng.integers(0, 4))
        flow.feed(now_ns, LevelChange(side, ticks, int(rng.integers(0, 9))), TakerOrder(side, 100, 2))
        name = f"e{step}"
        request = OrderRequest(
            market=MARKET,
            external_id=name,
            side=side,
            price=Decimal(ticks),
            qty=Decimal("0.3"),
            expire_ns=now_ns + 2 * NS_PER_S,
            cancel_id=old if step % 3 == 0 else "",
        )
        old = name
        exchange.submit(accounts[step % 2], request, now_ns)
        for output in exchange.advance(now_ns):
            digest.update(repr(output).encode())
    return digest.hexdigest()


def test_the_same_seed_and_calls_give_the_same_bytes():
    assert _session(5) == _session(5)
    assert _session(5) != _session(6)
