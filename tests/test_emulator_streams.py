"""Frames: shapes, sequence, cadence, order of events; and the books that a client rebuilds from them."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from emulator_flows import NO_DELAY, START_NS, Bench, default_instrument, instant_rules
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.domain import NS_PER_MS, Side
from market_maker.emulator import frames
from market_maker.emulator.flow import LevelChange
from market_maker.emulator.rules import Delay, MoneyRules, StreamRules
from market_maker.emulator.streams import Reply, StreamFrame, Topic

BUY, SELL = Side.BUY, Side.SELL


def listening(**rules) -> Bench:
    bench = Bench(instant_rules(**rules))
    bench.listen()
    bench.wait(0)
    return bench


@pytest.mark.parametrize(
    ("value", "shown"),
    [("1E+3", "1000"), ("1E-9", "0.000000001"), ("84050.000000", "84050.000000"), ("-0.5", "-0.5")],
)
def test_numbers_are_never_in_scientific_notation(value, shown):
    assert frames.text(Decimal(value)) == shown


def test_nothing_is_sent_where_nobody_listens():
    bench = Bench()
    bench.level(SELL, 101, 10)
    bench.place(BUY, 101, 5)
    bench.wait(120)
    assert bench.frames() == []


def test_subscriptions_start_with_snapshots():
    bench = Bench()
    bench.events(LevelChange(BUY, 99, 10), LevelChange(SELL, 101, 20))
    bench.place(BUY, 98, 5)
    bench.listen()
    bench.wait(0)
    book = bench.frames("book")[0]
    assert book == {
        "type": "SNAPSHOT",
        "data": {
            "t": "SNAPSHOT",
            "m": "X-USD",
            "b": [{"q": "1.0", "p": "99.000000"}, {"q": "0.5", "p": "98"}],
            "a": [{"q": "2.0", "p": "101.0"}],
            "d": "f",
        },
        "ts": START_NS // NS_PER_MS + 1,
        "seq": 1,
    }
    assert bench.frames("mark")[0]["type"] == "MP"
    assert bench.frames("mark")[0]["data"]["p"] == "100.00"
    assert bench.frames("mark")[0]["sourceEventId"] is None
    assert bench.frames("funding")[0]["data"]["f"] == "0.0000125000"
    private = [
        (f["type"], f["seq"], f["data"]["isSnapshot"]) for f in map(json.loads, _account_frames(bench))
    ]
    assert private == [("ORDER", 1, True), ("BALANCE", 2, True), ("POSITION", 3, True)]
    (order,) = bench.frames("ORDER")[0]["data"]["orders"]
    assert order["externalId"] == "o1"
    assert order["status"] == "NEW"
    assert isinstance(order["id"], int)
    assert "statusReason" not in order


def _account_frames(bench):
    kinds = ("ORDER", "TRADE", "POSITION", "BALANCE")
    return [out.frame for out in bench.outputs if getattr(out, "kind", "") in kinds]


def test_a_delta_has_the_change_and_the_absolute_size():
    bench = listening()
    bench.events(LevelChange(BUY, 99, 10), LevelChange(BUY, 98, 3))
    bench.wait(0.1)
    bench.events(LevelChange(BUY, 99, 4), LevelChange(BUY, 98, 0), LevelChange(SELL, 101, 1))
    bench.wait(0.1)
    last = bench.frames("book")[-1]
    assert (last["type"], last["seq"]) == ("DELTA", 3)
    assert last["data"]["b"] == [{"q": "-0.6", "p": "99", "c": "0.4"}, {"q": "-0.3", "p": "98", "c": "0.0"}]
    assert last["data"]["a"] == [{"q": "0.1", "p": "101", "c": "0.1"}]


@pytest.mark.parametrize("sent", [True, False])
def test_a_book_that_changed_and_changed_back_is_an_empty_delta_or_nothing(sent):
    bench = listening(streams=StreamRules(balance_interval_s=0.0, empty_deltas_sent=sent))
    bench.events(LevelChange(BUY, 99, 10), LevelChange(BUY, 99, 0))
    bench.wait(0.2)
    told = [(frame["type"], frame["data"]["b"], frame["data"]["a"]) for frame in bench.frames("book")[1:]]
    assert told == [("DELTA", [], [])] * sent
    bench.level(BUY, 99, 10)
    bench.wait(0.2)
    assert bench.frames("book")[-1]["seq"] == 2 + sent


@pytest.mark.parametrize(
    ("zeros", "prices"), [(True, ["99.000000", "98", "97.0"]), (False, ["99", "98", "97"])]
)
def test_prices_of_a_whole_book_have_trailing_zeros_or_not(zeros, prices):
    bench = Bench(instant_rules(streams=StreamRules(balance_interval_s=0.0, zeros_in_snapshots=zeros)))
    bench.events(*(LevelChange(BUY, ticks, 10) for ticks in (97, 98, 99)))
    bench.listen()
    bench.wait(0)
    assert [level["p"] for level in bench.frames("book")[0]["data"]["b"]] == prices


def test_book_frames_come_every_100_ms_at_most_and_snapshots_each_minute():
    bench = listening()
    for second in range(30):
        bench.level(BUY, 90, 1 + second)
        bench.wait(0.01)
    assert 3 <= len(bench.frames("book")) <= 5
    bench.wait(60)
    kinds = [frame["type"] for frame in bench.frames("book")]
    assert kinds.count("SNAPSHOT") == 2
    assert kinds[-1] == "SNAPSHOT"
    bench.wait(60)
    assert [f["type"] for f in bench.frames("book")].count("SNAPSHOT") == 3


def test_a_closed_subscription_loses_what_is_under_way_and_a_new_one_starts_from_one():
    bench = Bench()
    first = bench.listen()
    bench.wait(0)
    bench.flow.feed(bench.now_ns, LevelChange(BUY, 99, 10))
    bench.exchange.advance(bench.now_ns)
    bench.hang_up(first)
    second = bench.listen()
    bench.outputs.clear()
    bench.wait(1)
    books = bench.frames("book")
    assert [(f["type"], f["seq"]) for f in books] == [("SNAPSHOT", 1)]
    assert books[0]["data"]["b"] == [{"q": "1.0", "p": "99.000000"}]
    bench.hang_up(second)
    bench.outputs.clear()
    bench.level(BUY, 98, 1)
    bench.place(SELL, 105, 1)
    bench.wait(120)
    assert bench.frames() == []


BOOK_EVENTS = st.lists(
    st.tuples(st.sampled_from([BUY, SELL]), st.integers(90, 110), st.integers(0, 9), st.floats(0, 0.2)),
    max_size=40,
)


def _follow(book: dict[Decimal, Decimal], is_snapshot: bool, rows: list[dict]) -> None:
    if is_snapshot:
        book.clear()
    for row in rows:
        price = Decimal(row["p"])
        if "c" in row:
            assert book.get(price, Decimal(0)) + Decimal(row["q"]) == Decimal(row["c"])
        book[price] = Decimal(row.get("c", row["q"]))
        if book[price] == 0:
            del book[price]


def test_closing_a_stream_loses_frames_and_deltas_under_way():
    bench = Bench(instant_rules(latency=replace(NO_DELAY, stream=Delay(1000.0))))
    subscriptions = bench.listen()
    bench.level(BUY, 99, 1)
    bench.hang_up(subscriptions)
    bench.wait(5)
    assert bench.frames() == []


@pytest.mark.slow
@given(BOOK_EVENTS)
@settings(max_examples=40, deadline=None)
def test_a_client_that_follows_the_frames_has_the_book(events):
    bench = listening()
    for side, ticks, lots, pause in events:
        bench.level(side, ticks, lots)
        if lots % 3 == 0:
            bench.send(bench.request(side, ticks, lots + 1))
        bench.wait(pause)
    bench.wait(0.2)
    absolute: dict[str, dict[Decimal, Decimal]] = {"b": {}, "a": {}}
    for number, frame in enumerate(bench.frames("book"), start=1):
        assert frame["seq"] == number
        for side, book in absolute.items():
            _follow(book, frame["type"] == "SNAPSHOT", frame["data"][side])
    for key, side in (("b", BUY), ("a", SELL)):
        levels = {bench.instrument.price(t): bench.instrument.size(n) for t, n in bench.book.levels(side)}
        assert absolute[key] == levels


@pytest.mark.parametrize(
    "order", [("ORDER", "TRADE", "POSITION", "BALANCE"), ("BALANCE", "POSITION", "TRADE", "ORDER")]
)
def test_order_of_frames_after_a_fill_is_a_switch(order):
    bench = listening(streams=StreamRules(balance_interval_s=0.0, fill_frame_order=order))
    bench.level(SELL, 101, 10)
    bench.outputs.clear()
    bench.place(BUY, 101, 4)
    got = [json.loads(frame) for frame in _account_frames(bench)]
    assert [frame["type"] for frame in got] == list(order)
    assert [frame["seq"] for frame in got] == [4, 5, 6, 7]
    (trade,) = next(f for f in got if f["type"] == "TRADE")["data"]["trades"]
    assert trade["externalOrderId"] == "o1"
    assert (trade["price"], trade["qty"], trade["value"], trade["fee"]) == ("101", "0.4", "40.4", "0.010100")
    (position,) = next(f for f in got if f["type"] == "POSITION")["data"]["positions"]
    assert (position["status"], position["side"], position["size"]) == ("OPENED", "LONG", "0.4")
    assert "liquidationPrice" not in position
    (public,) = bench.frames("trades")[-1]["data"]
    assert (public["S"], public["tT"], public["p"], public["q"]) == ("BUY", "TRADE", "101", "0.4")


@pytest.mark.parametrize(("sent", "statuses"), [(True, ["CLOSED"]), (False, [])])
def test_a_closed_position_is_sent_or_left_out(sent, statuses):
    bench = listening(streams=StreamRules(balance_interval_s=0.0, closed_positions_sent=sent))
    bench.events(LevelChange(SELL, 101, 10), LevelChange(BUY, 99, 10))
    bench.place(BUY, 101, 4)
    bench.outputs.clear()
    bench.place(SELL, 99, 4)
    got = [p["status"] for f in bench.frames("POSITION") for p in f["data"]["positions"]]
    assert got == statuses


def test_partial_fills_are_cumulative_on_the_wire():
    bench = listening()
    bench.events(LevelChange(SELL, 101, 10), LevelChange(SELL, 102, 5))
    bench.place(BUY, 102, 20)
    (order,) = bench.frames("ORDER")[-1]["data"]["orders"]
    assert (order["status"], order["filledQty"], order["cancelledQty"]) == ("PARTIALLY_FILLED", "1.5", "0.0")
    assert Decimal(order["averagePrice"]).quantize(Decimal("0.0001")) == Decimal("101.3333")
    assert Decimal(order["payedFee"]) == Decimal("152") * Decimal("0.00025")
    bench.cancel(bench.order("o1"))
    (order,) = bench.frames("ORDER")[-1]["data"]["orders"]
    assert (order["status"], order["cancelledQty"]) == ("CANCELLED", "0.5")


def test_both_orders_of_a_replacement_are_in_one_frame():
    bench = listening()
    old = bench.place(BUY, 99, 4)
    bench.place(BUY, 98, 4, cancel_id=old.request.external_id)
    rows = bench.frames("ORDER")[-1]["data"]["orders"]
    assert [(row["status"], row.get("statusReason")) for row in rows] == [
        ("CANCELLED", "ORDER_REPLACED"),
        ("NEW", None),
    ]


def test_mark_and_funding_are_told_when_they_change():
    bench = listening(money=MoneyRules(funding_speedup=60.0))
    marks = len(bench.frames("mark"))
    bench.wait(3)
    assert len(bench.frames("mark")) == marks
    bench.flow.index = Decimal("100.5")
    bench.wait(1)
    assert bench.frames("mark")[-1]["data"]["p"] == "100.50"
    bench.wait(60)
    assert len(bench.frames("funding")) == 3


def test_balance_and_position_frames_while_a_position_is_open():
    bench = listening(streams=StreamRules(balance_interval_s=5.0))
    bench.level(SELL, 101, 10)
    bench.wait(20)
    assert len(bench.frames("BALANCE")) == 1
    bench.place(BUY, 101, 4)
    bench.outputs.clear()
    bench.wait(10)
    assert [frame["type"] for frame in map(json.loads, _account_frames(bench))] == ["POSITION", "BALANCE"] * 2


def test_the_mark_follows_the_book_away_from_the_index():
    bench = Bench(instant_rules(latency=NO_DELAY, money=MoneyRules(mark_basis_s=10.0)))
    bench.events(LevelChange(BUY, 103, 10), LevelChange(SELL, 105, 10))
    for _ in range(60):
        bench.wait(1)
    assert Decimal("103.9") < bench.exchange.mark(bench.market) <= Decimal(104)


def by_reader(bench, number, kind=None):
    """Decoded frames of one subscription."""
    found = [out for out in bench.outputs if isinstance(out, StreamFrame) and out.subscription == number]
    return [json.loads(out.frame) for out in found if kind is None or out.kind == kind]


def follow(frames) -> dict[str, dict[Decimal, Decimal]]:
    """The book that a client has who follows its frames; a change that comes twice shows."""
    books: dict[str, dict[Decimal, Decimal]] = {"b": {}, "a": {}}
    for number, frame in enumerate(frames, start=1):
        assert frame["seq"] == number
        for side, book in books.items():
            _follow(book, frame["type"] == "SNAPSHOT", frame["data"][side])
    return books


def test_each_subscription_has_its_own_sequence_and_no_change_comes_twice():
    bench = Bench()
    bench.events(LevelChange(BUY, 99, 10), LevelChange(SELL, 101, 20))
    first = bench.exchange.subscribe(Topic("book", bench.market))
    bench.wait(0.15)
    bench.level(BUY, 98, 3)
    # Its change is pending for the first while the second joins.
    second = bench.exchange.subscribe(Topic("book", bench.market))
    bench.wait(0.2)
    bench.level(BUY, 98, 7)
    bench.wait(0.2)
    assert [(f["type"], f["seq"]) for f in by_reader(bench, first)] == [
        ("SNAPSHOT", 1),
        ("DELTA", 2),
        ("DELTA", 3),
    ]
    assert [(f["type"], f["seq"]) for f in by_reader(bench, second)] == [("SNAPSHOT", 1), ("DELTA", 2)]
    assert by_reader(bench, second)[1]["data"]["b"] == [{"q": "0.4", "p": "98", "c": "0.7"}]
    assert follow(by_reader(bench, first)) == follow(by_reader(bench, second))
    bench.exchange.unsubscribe(second)
    bench.level(BUY, 98, 8)
    bench.wait(0.2)
    assert len(by_reader(bench, first)) == 4
    assert len(by_reader(bench, second)) == 2


def test_a_periodic_snapshot_of_one_reader_takes_no_change_from_the_others():
    bench = Bench(instant_rules(streams=StreamRules(balance_interval_s=0.0, book_snapshot_s=1)))
    bench.events(LevelChange(BUY, 99, 10), LevelChange(SELL, 101, 20))
    readers = []
    for step in range(40):
        if step % 5 == 0:
            readers.append(bench.exchange.subscribe(Topic("book", bench.market)))
        bench.level(BUY, 90 + step % 7, 1 + step)
        bench.wait(0.07)
    bench.wait(0.2)
    for number in readers:
        frames_of_it = by_reader(bench, number)
        assert follow(frames_of_it) == follow(by_reader(bench, readers[0]))
    assert [f["type"] for f in by_reader(bench, readers[0])].count("SNAPSHOT") == 4


def test_what_is_told_to_several_is_encoded_alike():
    bench = Bench()
    readers = [bench.exchange.subscribe(Topic("mark", bench.market)) for _ in range(2)]
    bench.flow.index = Decimal("100.5")
    bench.wait(1)
    one, other = (by_reader(bench, number) for number in readers)
    assert one == other
    assert [frame["seq"] for frame in one] == [1, 2]


def test_the_best_prices_come_alone_as_snapshots_at_most_every_10_ms_and_when_they_changed():
    bench = Bench()
    bench.events(LevelChange(BUY, 99, 10), LevelChange(BUY, 98, 5), LevelChange(SELL, 101, 20))
    bench.wait(0.5)
    number = bench.exchange.subscribe(Topic("bbo", bench.market))
    bench.wait(0.001)
    (first,) = by_reader(bench, number)
    assert first["data"] == {
        "t": "SNAPSHOT",
        "m": "X-USD",
        "b": [{"q": "1.0", "p": "99"}],
        "a": [{"q": "2.0", "p": "101"}],
        "d": "f",
    }
    # Behind the best price nothing is told.
    bench.level(BUY, 97, 4)
    bench.wait(0.1)
    assert len(by_reader(bench, number)) == 1
    for lots in range(11, 31):
        bench.level(BUY, 99, lots)
        bench.wait(0.001)
    bench.wait(0.1)
    told = by_reader(bench, number)
    assert 3 <= len(told) <= 4
    assert {frame["type"] for frame in told} == {"SNAPSHOT"}
    assert [frame["seq"] for frame in told] == list(range(1, len(told) + 1))
    assert told[-1]["data"]["b"] == [{"q": "3.0", "p": "99"}]
    # What goes and comes back between two frames is no change.
    bench.events(LevelChange(BUY, 99, 5), LevelChange(BUY, 99, 30))
    bench.wait(0.1)
    assert len(by_reader(bench, number)) == len(told)
    bench.level(SELL, 101, 0)
    bench.wait(0.1)
    assert by_reader(bench, number)[-1]["data"]["a"] == []


def test_a_new_reader_of_the_best_prices_leaves_the_others_theirs():
    bench = Bench()
    bench.events(LevelChange(BUY, 99, 10), LevelChange(SELL, 101, 20))
    first = bench.exchange.subscribe(Topic("bbo", bench.market))
    bench.wait(0.5)
    bench.level(BUY, 100, 7)
    second = bench.exchange.subscribe(Topic("bbo", bench.market))
    bench.wait(0.1)
    assert [frame["data"]["b"][0]["p"] for frame in by_reader(bench, first)] == ["99", "100"]
    assert [frame["data"]["b"][0]["p"] for frame in by_reader(bench, second)] == ["100"]


def test_the_index_is_told_when_it_changes():
    bench = Bench()
    number = bench.exchange.subscribe(Topic("index", bench.market))
    bench.wait(3)
    bench.flow.index = Decimal("100.5")
    bench.wait(3)
    told = by_reader(bench, number)
    assert [(f["type"], f["data"]["p"], f["seq"]) for f in told] == [("IP", "100", 1), ("IP", "100.5", 2)]


@pytest.mark.parametrize("kind", ["book", "bbo", "mark", "index", "funding"])
def test_all_markets_are_one_subscription_on_one_sequence(kind):
    other = replace(default_instrument(), name="Y-USD")
    bench = Bench(others=[other])
    bench.flows[1].feed(bench.now_ns, LevelChange(BUY, 99, 10))
    bench.wait(1)
    number = bench.exchange.subscribe(Topic(kind))
    bench.wait(0.1)
    told = by_reader(bench, number)
    assert {frame["data"]["m"] for frame in told} == {"X-USD", "Y-USD"}
    assert [frame["seq"] for frame in told] == [1, 2]
    for flow in bench.flows:
        flow.index = Decimal("100.5")
        flow.feed(bench.now_ns, LevelChange(BUY, 99, 20))
    bench.wait(60.5)
    told = by_reader(bench, number)
    assert len(told) >= 4
    assert [frame["seq"] for frame in told] == list(range(1, len(told) + 1))
    bench.exchange.unsubscribe(number)
    bench.outputs.clear()
    bench.wait(61)
    assert bench.outputs == []


def test_two_readers_of_an_account_hear_of_a_thing_at_the_same_instant():
    bench = Bench(instant_rules(latency=replace(NO_DELAY, stream=Delay(10.0, 10.0))))
    topic = Topic("account", account_id=bench.accounts[0])
    readers = [bench.exchange.subscribe(topic) for _ in range(2)]
    bench.wait(1)
    bench.outputs.clear()
    bench.send(bench.request(BUY, 99, 1))
    bench.wait(1)
    heard = [out for out in bench.outputs if isinstance(out, StreamFrame)]
    assert [out.subscription for out in heard] == readers
    assert heard[0].due_ns == heard[1].due_ns
    assert heard[0].frame == heard[1].frame


@pytest.mark.parametrize(
    ("topic", "named"),
    [
        (Topic("candles"), "candles"),
        (Topic("book", "NO-USD"), "NO-USD"),
        (Topic("account", account_id=7), "7"),
    ],
)
def test_a_topic_that_does_not_exist_is_named(topic, named):
    with pytest.raises(ValueError, match=f"expected .*, was .*{named}"):
        Bench().exchange.subscribe(topic)


def test_who_listens_makes_no_difference_to_requests():
    latency = replace(NO_DELAY, request=Delay(5.0, 5.0), stream=Delay(5.0, 5.0))

    def replies(listeners: int) -> list[int]:
        bench = Bench(instant_rules(latency=latency))
        for _ in range(listeners):
            bench.listen()
        dues = []
        for lots in range(1, 9):
            bench.exchange.submit(bench.accounts[0], bench.request(BUY, 90, lots), bench.now_ns)
            dues += [out.due_ns for out in bench.wait(0.5) if isinstance(out, Reply)]
        return dues

    assert replies(0) == replies(1) == replies(3)
