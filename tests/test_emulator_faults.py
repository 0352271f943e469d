"""Each fault does what it says and is counted; without one nothing happens that did not before."""

import json
from collections import Counter
from dataclasses import fields, replace
from decimal import Decimal

import pytest
from emulator_flows import NO_DELAY, START_NS, Bench, instant_rules
from hypothesis import given
from hypothesis import strategies as st

from market_maker.domain import NS_PER_MS, NS_PER_S, Side
from market_maker.emulator.fault_injection import FaultInjector
from market_maker.emulator.faults import (
    MEANINGS,
    FaultError,
    Faults,
    FaultWindow,
    faults_of,
    known_faults,
    parse_fault,
)
from market_maker.emulator.flow import LevelChange
from market_maker.emulator.requests import CancelRequest, DeadMansSwitchRequest
from market_maker.emulator.rules import Delay, Mode
from market_maker.emulator.streams import Reply, StreamClosed, StreamFrame, Topic

BUY, SELL = Side.BUY, Side.SELL


class Faulty(Bench):
    """A bench whose exchange has faults, with one subscription, to the book unless said otherwise."""

    def __init__(self, topic: str = "book", **values: float) -> None:
        super().__init__()
        self.events(LevelChange(BUY, 90, 1), LevelChange(SELL, 110, 100))
        account_id = self.accounts[0] if topic == "account" else 0
        named = Topic(topic, "" if account_id else self.market, account_id)
        self.subscription = self.exchange.subscribe(named)
        self.wait(0.2)
        self.outputs.clear()
        self.exchange.set_faults(Faults(**values))

    def heard(self) -> list[StreamFrame]:
        return [out for out in self.outputs if isinstance(out, StreamFrame)]

    def seqs(self) -> list[int]:
        return [json.loads(out.frame)["seq"] for out in self.heard()]

    def changes(self, count: int) -> None:
        """So many changes of the book, each in a frame of its own."""
        for lots in range(2, count + 2):
            self.level(BUY, 90, lots)
            self.wait(0.1)

    def orders(self, count: int) -> None:
        for lots in range(1, count + 1):
            self.exchange.submit(self.accounts[0], self.request(BUY, 50, lots), self.now_ns)
            self.wait(0.01)

    def replies(self) -> list[Reply]:
        return [out for out in self.outputs if isinstance(out, Reply)]

    def open_count(self) -> int:
        return len(self.exchange.account(self.accounts[0]).open)

    @property
    def counts(self) -> dict[str, int]:
        return self.exchange.fault_counts


def test_without_faults_nothing_is_lost_and_nothing_counted():
    bench = Faulty()
    bench.changes(50)
    assert bench.seqs() == list(range(2, 52))
    assert bench.counts == {}
    assert bench.exchange.faults == Faults()


def test_dropped_frames_leave_gaps():
    bench = Faulty(drop_frames=0.3)
    bench.changes(100)
    lost = 100 - len(bench.seqs())
    assert bench.counts == {"drop_frames": lost}
    assert 15 <= lost <= 45
    assert bench.seqs() == sorted(set(bench.seqs()))


def test_duplicated_frames_come_twice_with_the_same_number():
    bench = Faulty(duplicate_frames=0.3)
    bench.changes(100)
    twice = [seq for seq, times in Counter(bench.seqs()).items() if times == 2]
    assert bench.counts == {"duplicate_frames": len(twice)}
    assert 15 <= len(twice) <= 45
    frames = Counter(out.frame for out in bench.heard())
    assert sum(frames.values()) == 100 + len(twice)
    assert len(frames) == 100


def test_reordered_frames_all_come_and_out_of_turn():
    bench = Faulty(reorder_frames=0.3)
    bench.changes(100)
    bench.wait(5)
    assert sorted(bench.seqs()) == list(range(2, 102))
    assert bench.seqs() != sorted(bench.seqs())
    assert 15 <= bench.counts["reorder_frames"] <= 45


def test_corrupt_frames_are_no_json():
    bench = Faulty(corrupt_frames=1.0)
    bench.changes(100)
    assert bench.counts == {"corrupt_frames": 100}
    whole = 0
    for out in bench.heard():
        try:
            json.loads(out.frame)
            whole += 1
        except ValueError:
            pass
    assert (len(bench.heard()), whole) == (100, 0)


def test_a_closed_stream_says_so_once_and_tells_no_more():
    bench = Faulty(close_streams=1.0)
    bench.changes(5)
    assert [out for out in bench.outputs if not isinstance(out, Reply)] == [
        StreamClosed(bench.subscription, bench.outputs[0].due_ns)
    ]
    assert bench.counts == {"close_streams": 1}
    bench.exchange.unsubscribe(bench.subscription)
    bench.exchange.set_faults(Faults())
    bench.changes(5)
    assert bench.heard() == []


def test_silent_streams_tell_nothing_and_their_numbers_are_lost():
    bench = Faulty(silent_streams=1.0)
    assert bench.exchange.is_silent
    bench.changes(5)
    late = bench.exchange.subscribe(Topic("mark", bench.market))
    bench.wait(1)
    assert bench.heard() == []
    bench.exchange.set_faults(Faults())
    assert not bench.exchange.is_silent
    bench.changes(1)
    assert bench.seqs() == [7]
    assert bench.counts == {"silent_streams": 6}
    bench.exchange.unsubscribe(late)


def test_unreachable_nothing_arrives_and_streams_are_closed():
    bench = Faulty(unreachable=1.0)
    assert bench.exchange.is_unreachable
    bench.orders(3)
    bench.exchange.ask("somebody", lambda: b"{}", bench.now_ns)
    bench.changes(2)
    assert (bench.replies(), bench.open_count(), bench.heard()) == ([], 0, [])
    assert sum(isinstance(out, StreamClosed) for out in bench.outputs) == 1
    assert bench.counts["unreachable"] == 5
    bench.exchange.set_faults(Faults())
    bench.orders(1)
    assert (len(bench.replies()), bench.open_count()) == (1, 1)


def test_a_burst_of_429_refuses_before_anything_is_done():
    bench = Faulty(rate_limit=0.5)
    bench.orders(60)
    refused = [reply for reply in bench.replies() if reply.http_status == 429]
    assert 15 <= len(refused) <= 45
    assert bench.counts == {"rate_limit": len(refused)}
    assert bench.open_count() == 60 - len(refused)
    look_up = [bench.ask(bench.exchange.queries.instruments).http_status for _ in range(40)]
    assert set(look_up) == {200, 429}


def test_an_error_before_leaves_nothing_behind_and_one_after_all():
    before, after = Faulty(errors_before=0.5), Faulty(errors_after=0.5)
    for bench in (before, after):
        bench.orders(60)
        failed = [reply for reply in bench.replies() if reply.http_status == 500]
        assert 15 <= len(failed) <= 45
        assert len(bench.replies()) == 60
        assert list(bench.counts.values()) == [len(failed)]
    assert before.open_count() == 60 - before.counts["errors_before"]
    assert after.open_count() == 60


def test_an_error_after_is_none_where_nothing_was_done():
    bench = Faulty(errors_after=1.0)
    reply = bench.send(bench.request(BUY, 50, 0))
    assert (reply.http_status, reply.code) == (400, 1120)


def test_a_lost_reply_is_that_of_a_request_that_was_carried_out():
    bench = Faulty(lost_replies=0.5)
    bench.orders(60)
    lost = 60 - len(bench.replies())
    assert 15 <= lost <= 45
    assert bench.counts == {"lost_replies": lost}
    assert bench.open_count() == 60


def test_late_and_reordered_replies_come_all_the_same():
    for fault, least_s, most_s in (("late_replies", 4.0, 12.1), ("reorder_replies", 0.15, 3.0)):
        bench = Faulty(**{fault: 0.5})
        sent = {}
        for lots in range(1, 41):
            ticket = bench.exchange.submit(bench.accounts[0], bench.request(BUY, 50, lots), bench.now_ns)
            sent[ticket] = bench.now_ns
            bench.wait(0.02)
        bench.wait(15)
        took_s = [(reply.due_ns - sent[reply.ticket]) / NS_PER_S for reply in bench.replies()]
        late = [seconds for seconds in took_s if seconds >= least_s]
        assert len(took_s) == 40
        assert 10 <= len(late) == bench.counts[fault] <= 30
        assert max(late) < most_s
        assert bench.open_count() == 40


def test_a_duplicated_reply_comes_twice_for_one_order():
    bench = Faulty(duplicate_replies=1.0)
    bench.orders(3)
    bench.wait(3)
    assert sorted(reply.ticket for reply in bench.replies()) == [1, 1, 2, 2, 3, 3]
    assert bench.open_count() == 3


def test_a_stale_look_up_tells_how_things_stood_when_it_was_asked():
    bench = Faulty(stale_lookups=1.0)
    bench.exchange.ask("x", lambda: bench.exchange.queries.open_orders(bench.accounts[0]), bench.now_ns)
    bench.wait(0.001)
    bench.orders(1)
    bench.wait(10)
    stale = next(reply for reply in bench.replies() if reply.data is None)
    assert json.loads(stale.frame)["data"] == []
    assert bench.counts["stale_lookups"] == 1
    assert bench.open_count() == 1


def test_a_stale_snapshot_is_the_whole_book_of_one_before():
    bench = Bench()
    bench.level(BUY, 90, 5)
    bench.exchange.subscribe(Topic("book", bench.market))
    bench.wait(1)
    bench.level(BUY, 90, 7)
    bench.exchange.set_faults(Faults(stale_snapshots=1.0))
    number = bench.exchange.subscribe(Topic("book", bench.market))
    bench.wait(0.01)
    frame = next(out for out in bench.outputs if isinstance(out, StreamFrame) and out.subscription == number)
    [bid] = json.loads(frame.frame)["data"]["b"]
    assert Decimal(bid["q"]) == bench.instrument.size(5)
    assert bench.exchange.fault_counts == {"stale_snapshots": 1}


def test_positions_come_without_a_liquidation_price():
    bench = Faulty("account", null_liquidation=1.0)
    bench.level(BUY, 90, 50)
    bench.place(SELL, 90, 20)
    position = next(frame for frame in bench.heard() if frame.kind == "POSITION")
    [told] = json.loads(position.frame)["data"]["positions"]
    assert told["liquidationPrice"] is None
    [looked_up] = json.loads(bench.ask(lambda: bench.exchange.queries.positions(bench.accounts[0])).frame)[
        "data"
    ]
    assert looked_up["liquidationPrice"] is None
    assert bench.counts["null_liquidation"] >= 2


@pytest.mark.parametrize("fault", ["early_fills", "late_fills"])
def test_an_order_is_taken_from_at_an_awkward_moment(fault):
    bench = Faulty(**{fault: 1.0})
    bench.level(BUY, 60, 5)
    orders = []
    for lots in range(2, 12):
        bench.level(BUY, 60, 5)
        request = bench.request(BUY, 50, lots)
        bench.send(request)
        orders.append(bench.order(request.external_id))
        if orders[-1].is_open:
            bench.send(CancelRequest(external_id=request.external_id))
    assert all(order.filled_lots > 0 for order in orders)
    assert bench.counts[fault] == 10
    assert {order.filled_lots == order.lots for order in orders} == {True, False}


def test_latency_is_added_to_each_leg():
    bench = Faulty("account", extra_latency_ms=100.0, latency_tail_ms=50.0)
    sent_ns = bench.now_ns
    bench.exchange.submit(bench.accounts[0], bench.request(BUY, 50, 1), sent_ns)
    bench.wait(5)
    [reply], [news] = bench.replies(), bench.heard()
    assert reply.due_ns - sent_ns > 200 * NS_PER_MS
    assert news.due_ns - sent_ns > 300 * NS_PER_MS
    assert bench.counts["extra_latency_ms"] >= 4
    ticket_ns = bench.now_ns
    bench.exchange.ask("x", bench.exchange.queries.instruments, ticket_ns)
    bench.wait(5)
    assert bench.replies()[-1].due_ns - ticket_ns > 200 * NS_PER_MS


def test_a_maintenance_refuses_everything_then_takes_post_only_orders_then_all():
    bench = Bench()
    bench.events(LevelChange(BUY, 90, 1), LevelChange(SELL, 110, 100))
    maintenance = Faults(maintenance=1.0, post_only_after_s=5.0)
    bench.exchange.plan_faults([FaultWindow(maintenance, 10.0, 20.0)])
    seen = []
    for at_s in (9.0, 11.0, 19.0, 21.0, 24.0, 26.0):
        bench.wait((START_NS + round(at_s * NS_PER_S) - bench.now_ns) / NS_PER_S)
        taking = bench.send(bench.request(BUY, 110, 1))
        resting = bench.send(bench.request(BUY, 50, 1, post_only=True))
        look_up = bench.ask(bench.exchange.queries.instruments)
        seen.append((bench.exchange.venue.mode, taking.code, resting.code, look_up.http_status))
    assert seen == [
        (Mode.OPEN, 0, 0, 200),
        *[(Mode.MAINTENANCE, 1010, 1010, 503)] * 2,
        *[(Mode.POST_ONLY, 1011, 0, 200)] * 2,
        (Mode.OPEN, 0, 0, 200),
    ]
    assert bench.exchange.fault_counts == {"maintenance": 1, "post_only_after_s": 1}


def test_a_maintenance_without_post_only_opens_at_once_and_one_may_follow_another():
    bench = Bench()
    bench.exchange.set_faults(Faults(maintenance=1.0))
    assert bench.exchange.venue.mode is Mode.MAINTENANCE
    bench.exchange.set_faults(Faults())
    assert bench.exchange.venue.mode is Mode.OPEN
    bench.exchange.set_faults(Faults(maintenance=1.0, post_only_after_s=5.0))
    bench.exchange.set_faults(Faults())
    assert bench.exchange.venue.mode is Mode.POST_ONLY
    bench.wait(1)
    bench.exchange.set_faults(Faults(maintenance=1.0))
    bench.wait(30)
    assert bench.exchange.venue.mode is Mode.MAINTENANCE


def test_unknown_values_are_a_reason_a_type_and_a_field():
    bench = Faulty("account", unknown_values=1.0)
    bench.orders(60)
    frames = [json.loads(out.frame) for out in bench.heard()]
    assert [frame["seq"] for frame in frames] == list(range(4, 4 + len(frames)))
    assert bench.counts == {"unknown_values": 60}
    types = Counter(frame["type"] for frame in frames)
    assert types["ORDER"] == 60
    assert types["LOYALTY"] == len(frames) - 60 > 5
    orders = [order for frame in frames if frame["type"] == "ORDER" for order in frame["data"]["orders"]]
    assert sum("fieldOfTomorrow" in order for order in orders) > 5
    assert sum(order.get("statusReason") == "REASON_OF_TOMORROW" for order in orders) > 5


@pytest.mark.parametrize(("topic", "kind"), [("trades", "trades"), ("account", "TRADE")])
def test_trades_are_told_twice_each_time_with_a_number_of_its_own(topic, kind):
    bench = Faulty(topic, duplicate_trades=1.0)
    bench.send(bench.request(BUY, 110, 1))
    told = [json.loads(out.frame) for out in bench.heard() if out.kind == kind]
    assert len(told) == 2
    assert told[0]["data"] == told[1]["data"]
    assert told[1]["seq"] == told[0]["seq"] + 1
    assert bench.counts == {"duplicate_trades": 1}


def test_windows_open_and_close_and_may_overlap():
    bench = Bench()
    bench.exchange.plan_faults(
        [
            parse_fault("drop_frames=0.1@1+3"),
            parse_fault("drop_frames=0.5@2+1"),
            parse_fault("lost_replies@5+1"),
        ]
    )
    seen = []
    for _ in range(7):
        bench.wait(0.999)
        bench.wait(0.001)
        seen.append(bench.exchange.faults.values())
    dropping = {"drop_frames": 0.1}
    assert seen == [dropping, {"drop_frames": 0.5}, dropping, {}, {"lost_replies": 0.3}, {}, {}]


def test_what_is_set_and_what_is_planned_are_both_on():
    bench = Bench()
    bench.exchange.set_faults(Faults(drop_frames=0.2))
    bench.exchange.plan_faults([parse_fault("duplicate_trades=0.4@1+1")])
    bench.wait(1.5)
    assert bench.exchange.faults == Faults(drop_frames=0.2, duplicate_trades=0.4)
    bench.exchange.set_faults(Faults())
    assert bench.exchange.faults == Faults(duplicate_trades=0.4)


def _bytes(*, planned: bool) -> list[bytes]:
    latency = replace(NO_DELAY, request=Delay(5.0, 5.0), stream=Delay(5.0, 5.0))
    bench = Bench(instant_rules(latency=latency))
    if planned:
        bench.exchange.plan_faults([parse_fault("drop_frames=1@30+1"), parse_fault("errors_before=1@30+1")])
    bench.listen()
    for lots in range(1, 100):
        bench.level(BUY, 90, lots)
        bench.exchange.submit(bench.accounts[0], bench.request(BUY, 50, lots), bench.now_ns)
        bench.wait(0.1)
    bench.wait(15)
    return [out.frame for out in bench.outputs]


def test_until_a_fault_is_on_everything_is_the_same_to_the_byte():
    assert _bytes(planned=True) == _bytes(planned=False)


def test_the_same_seed_has_the_same_faults():
    runs = []
    for _ in range(2):
        bench = Faulty(drop_frames=0.2, duplicate_frames=0.2, corrupt_frames=0.1, reorder_frames=0.2)
        bench.changes(50)
        runs.append([out.frame for out in bench.heard()])
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("text", "values", "start_s", "end_s"),
    [
        ("drop_frames=0.1@10+20", {"drop_frames": 0.1}, 10.0, 30.0),
        ("silent_streams@0+5", {"silent_streams": 1.0}, 0.0, 5.0),
        ("lost_replies", {"lost_replies": 0.3}, 0.0, float("inf")),
        ("maintenance@1+2", {"maintenance": 1.0, "post_only_after_s": 5.0}, 1.0, 3.0),
        ("maintenance,post_only_after_s=60@1+2", {"maintenance": 1.0, "post_only_after_s": 60.0}, 1.0, 3.0),
        (
            "extra_latency_ms=50, latency_tail_ms=5 @1+2",
            {"extra_latency_ms": 50.0, "latency_tail_ms": 5.0},
            1.0,
            3.0,
        ),
    ],
)
def test_a_fault_is_read_from_text(text, values, start_s, end_s):
    window = parse_fault(text)
    assert (window.faults.values(), window.start_s, window.end_s) == (values, start_s, end_s)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no fault ''"),
        ("drop_frame=0.1", "no fault 'drop_frame'"),
        ("drop_frames=1.5", "drop_frames: expected a number from 0 to 1, was 1.5"),
        ("extra_latency_ms=-1", "extra_latency_ms: expected 0 or more, was -1"),
        ("drop_frames=much", "expected name"),
        ("drop_frames=nan", "expected name"),
        ("drop_frames@10", "expected name"),
        ("drop_frames@10+0", "expected name"),
        ("drop_frames@-1+5", "expected name"),
        ("drop_frames@x+5", "expected name"),
        ("drop_frames@1+inf", "expected name"),
    ],
)
def test_a_fault_that_is_none_is_told_what_there_is(text, said):
    with pytest.raises(FaultError, match=said):
        parse_fault(text)


def test_the_table_of_faults_has_a_line_for_each_with_its_meaning():
    lines = known_faults().splitlines()
    assert len(lines) == len(fields(Faults)) == len(MEANINGS)
    for line, (name, meaning) in zip(lines, MEANINGS.items(), strict=True):
        assert line.split()[0] == name
        assert line.endswith(meaning)
    with pytest.raises(FaultError, match="probability that a frame is lost"):
        faults_of({"nothing": 1.0})


@given(st.sampled_from([name for name in MEANINGS if not name.endswith(("_ms", "_s"))]), st.floats())
def test_a_probability_is_one(name, value):
    if 0 <= value <= 1:
        assert faults_of({name: value}).values().get(name, 0.0) == value
    else:
        with pytest.raises(FaultError):
            faults_of({name: value})


def test_an_injector_that_is_off_draws_nothing():
    class NoChance:
        """A generator that must not be asked."""

    injector = FaultInjector(NoChance())
    assert not injector.happens("drop_frames")
    assert injector.extra_ns() == 0
    assert not injector.is_on


def test_the_dead_mans_switch_fires_while_replies_are_refused():
    bench = Faulty()
    bench.orders(3)
    bench.send(DeadMansSwitchRequest(countdown_s=5))
    bench.exchange.set_faults(Faults(errors_before=1.0))
    assert bench.send(DeadMansSwitchRequest(countdown_s=5)).http_status == 500
    bench.wait(6)
    assert bench.open_count() == 0


def test_money_is_untouched_by_what_happens_to_frames_and_replies():
    def cash(**values: float) -> Decimal:
        bench = Faulty("account", **values)
        bench.exchange.submit(bench.accounts[0], bench.request(BUY, 110, 4), bench.now_ns)
        bench.wait(1)
        return bench.cash()

    assert cash() == cash(drop_frames=1.0, lost_replies=1.0) == cash(duplicate_trades=1.0)
