"""The fill engine against the plain-Python reference, order by order, fill by fill, cent by cent."""

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fill_markets import MID, NEVER, hour_of, market_rows, market_rules, requests, strategy
from fills_reference import Reference
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.fills.engine import ActionRow, FillEngine, FillError, price_range
from market_maker.fills.rows import EventKind, FillReason, MarketRow, QueueModel, StrategyRow, rows_of
from market_maker.kernel import plain
from market_maker.recordings import store
from market_maker.recordings.conversion import convert, open_sources
from market_maker.recordings.store import Hour, open_store

TESTS = Path(__file__).parent
RECORDING = TESTS.parents[1] / "shared" / "data" / "hyperliquid-2025-09-04"
DAY_NS = 86_400 * 10**9
FAR_NS = 10**7
COLUMNS = (
    "ns",
    "kind",
    "reason",
    "order_id",
    "tag",
    "side",
    "price_ticks",
    "lots",
    "remaining_lots",
    "position_lots",
    "mid2_ticks",
    "front",
    "role",
)
MONEY = ("fees", "rebates", "credited", "funding")
PYTHON_ONLY = os.environ.get("NUMBA_DISABLE_JIT") == "1"


def lines(log, k):
    return [tuple(row[name].item() for name in COLUMNS) for row in log[log["strategy"] == k]]


def run(rules, contestants, rows, actions, latencies=None, cuts=()):
    """Run the engine over rows cut into pieces, as a stream would bring them."""
    engine = FillEngine(rules, contestants, orders_each=64, latencies=latencies)
    cursor = np.zeros(2, np.int64)
    log, bounds = [], [0, *sorted(cuts), len(rows)]
    for i, j in pairwise(bounds):
        end_ns = rows[j - 1][0] - 1 if j < len(rows) else rows[-1][0] + FAR_NS
        engine.reach_prices(60, 140)
        log += list(engine.replay(hour_of(rows[i:j]), actions, cursor, end_ns)) if i < j else []
    return engine, np.concatenate(log)


class Case:
    """One generated market with its contestants and their requests."""

    def __init__(self, seed, contestants=3, rows=150, count=90):
        rng = np.random.default_rng(seed)
        # Every other one passes midnight, when rebates are credited.
        start_ns = DAY_NS - 2000 if seed % 2 else 0
        self.rows = market_rows(rng, rows, start_ns)
        self.rules = market_rules(rng)
        self.contestants = [strategy(rng) for _ in range(contestants)]
        end_ns = self.rows[-1][0] + 100
        self.actions = requests(rng, contestants, count, end_ns, start_ns)
        marks = start_ns + np.array([0, 3_000, 3_100, 9_000])
        self.latencies = np.column_stack([marks, [5, 40, 40, 1_000], [9, 3, 3, 30]]).astype(np.int64)

    def run(self, cuts=()):
        return run(self.rules, self.contestants, self.rows, self.actions, self.latencies, cuts)

    def reference(self, k):
        reference = Reference(self.rules, self.contestants[k], self.latencies.tolist())
        own = [plain(row) for row in self.actions if row.strategy == k]
        reference.run(self.rows, own, self.rows[-1][0] + FAR_NS)
        return reference


def money(row, name):
    return int(row[name]) + Fraction(int(row[f"{name}_frac"]), 10**11)


def assert_equal(case):
    engine, log = case.run()
    for k in range(len(case.contestants)):
        reference, row = case.reference(k), engine.world.strategies[k]
        assert lines(log, k) == reference.log
        for name in MONEY:
            assert money(row, name) == getattr(reference, name)
        mine = (row.position_lots, row.flow_tick_lots, row.maker_tick_lots, row.taker_tick_lots)
        theirs = (reference.position, reference.cash, reference.maker_volume, reference.taker_volume)
        assert mine == theirs


@pytest.mark.slow
@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_the_engine_equals_the_reference(seed):
    assert_equal(Case(seed))


class RecordedCase(Case):
    """Frames of a recorded market, and requests near its mid of that time."""

    def __init__(self, hour, seed, contestants=4, count=400):
        rng = np.random.default_rng(seed)
        columns = (hour.venue_ns, hour.kind, hour.ticks, hour.lots)
        self.rows = list(zip(*(column.tolist() for column in columns), strict=True))
        self.rules = MarketRow(min_lots=1, band_up_ppm=50_000, band_down_ppm=50_000)
        ways = zip(QueueModel, rng.integers(1, 400, (len(QueueModel), 2)) * 1_000_000, strict=True)
        self.contestants = [
            replace(
                strategy(rng),
                queue_model=int(model),
                request_ns=int(there),
                reply_ns=int(back),
                cancel_request_ns=int(back),
                cancel_reply_ns=int(there),
                recorded_latency=False,
            )
            for model, (there, back) in ways
        ]
        self.latencies = np.zeros((0, 3), np.int64)
        start_ns, end_ns = self.rows[0][0], self.rows[-1][0]
        self.actions = requests(rng, len(self.contestants), count, end_ns, start_ns)
        is_bid = (hour.kind & store.CODE_MASK) == store.BEST_BID
        best, stamps = hour.ticks[is_bid], hour.venue_ns[is_bid]
        sizes = hour.lots[hour.lots > 0]
        for row in self.actions:
            now = max(int(np.searchsorted(stamps, row.now_ns)) - 1, 0)
            row.price_ticks = int(best[now]) + (row.price_ticks - MID)
            row.lots = int(rng.choice(sizes)) // 4 + 1
            row.expire_ns = int(row.now_ns) + 3 * 10**9 if row.expire_ns < NEVER else NEVER

    def run(self, cuts=()):
        engine = FillEngine(self.rules, self.contestants, orders_each=512)
        hour = hour_of(self.rows)
        engine.reach_prices(int(hour.ticks[hour.ticks > 0].min()), int(hour.ticks.max()))
        cursor = np.zeros(2, np.int64)
        log = list(engine.replay(hour, self.actions, cursor, self.rows[-1][0] + FAR_NS))
        return engine, np.concatenate(log)


@pytest.mark.slow
@pytest.mark.skipif(not RECORDING.exists(), reason="needs the recorded markets")
def test_the_engine_equals_the_reference_on_a_recorded_market(tmp_path):
    convert(open_sources(RECORDING, ["ETH-USD"]), tmp_path / "store")
    [first, *_] = open_store(tmp_path / "store").hours("ETH-USD")
    case = RecordedCase(Hour(*(column[:12_000] for column in first)), 1)
    assert_equal(case)
    _, log = case.run()
    fills = log[log["kind"] == EventKind.FILL]
    assert set(fills["strategy"].tolist()) == set(range(len(case.contestants)))
    assert (fills["remaining_lots"] > 0).any()
    assert (log["kind"] == EventKind.REJECTED).any()


@pytest.mark.slow
def test_generated_markets_reach_every_ending():
    seen = Counter()
    for seed in range(250):
        _, log = Case(seed).run()
        seen.update(zip(log["kind"].tolist(), log["reason"].tolist(), strict=True))
    kinds, reasons = {kind for kind, _ in seen}, {reason for _, reason in seen}
    assert kinds == set(EventKind) - {EventKind.LIQUIDATED}
    assert reasons == set(FillReason) - {FillReason.INVALID}


@pytest.mark.slow
@given(st.integers(0, 2**32), st.lists(st.integers(1, 149), max_size=20))
@settings(max_examples=40, deadline=None)
def test_where_the_market_is_cut_changes_nothing(seed, cuts):
    case = Case(seed)
    _, whole = case.run()
    _, pieces = case.run({cut for cut in cuts if cut < len(case.rows)})
    assert pieces.tobytes() == whole.tobytes()


@pytest.mark.slow
@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_a_contestant_alone_fares_as_beside_others(seed):
    case = Case(seed, contestants=5)
    _, together = case.run()
    for k, contestant in enumerate(case.contestants):
        own = case.actions[case.actions["strategy"] == k].copy()
        own["strategy"] = 0
        _, alone = run(case.rules, [contestant], case.rows, own, case.latencies)
        assert lines(alone, 0) == lines(together, k)


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes():
    logs = [Case(7).run() for _ in range(2)]
    assert logs[0][1].tobytes() == logs[1][1].tobytes()
    assert logs[0][0].world.strategies.tobytes() == logs[1][0].world.strategies.tobytes()


def digest():
    """What a process makes of 2,000 rows, to be compared with one that compiles nothing."""
    engine, log = Case(11, rows=2_000, count=400).run()
    strategies = [plain(row) for row in engine.world.strategies]
    return {"log": log.tobytes().hex(), "strategies": strategies}


@pytest.mark.slow
@pytest.mark.skipif(PYTHON_ONLY, reason="there is nothing to compare with")
def test_compiled_equals_interpreted_on_2000_rows():
    script = "import json, test_fills_engine as t; print(json.dumps(t.digest()))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", script]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(child.stdout) == digest()


# Small markets worked out by hand.

LAST = store.LAST
BID, ASK = store.LEVEL_BID | LAST, store.LEVEL_ASK | LAST
BUYS, SELLS = store.TRADE_BUY | LAST, store.TRADE_SELL | LAST


def orders(*wanted):
    rows = rows_of(ActionRow, len(wanted))
    for row, fields in zip(rows, wanted, strict=True):
        for name, value in fields.items():
            row[name] = value
    return rows


def fills(log, k=0):
    found = log[(log["kind"] == EventKind.FILL) & (log["strategy"] == k)]
    return [(row.ns.item(), row.order_id.item(), row.price_ticks.item(), row.lots.item()) for row in found]


BOOK = [(1, BID, 99, 10), (1, ASK, 101, 10)]


def bids_at_99(*sizes, start_ns=5):
    return orders(*({"now_ns": start_ns + i, "price_ticks": 99, "lots": n} for i, n in enumerate(sizes)))


def test_one_trade_is_shared_among_our_own_orders_behind_the_queue():
    rows = [*BOOK, (10, SELLS, 99, 13), (11, SELLS, 99, 2)]
    _, log = run(MarketRow(), [StrategyRow()], rows, bids_at_99(2, 4))
    assert fills(log) == [(10, 1, 99, 2), (10, 2, 99, 1), (11, 2, 99, 2)]


def test_a_trade_through_our_price_fills_no_more_than_its_size():
    rows = [*BOOK, (10, SELLS, 98, 3)]
    _, log = run(MarketRow(), [StrategyRow()], rows, bids_at_99(5))
    assert fills(log) == [(10, 1, 99, 3)]
    _, log = run(MarketRow(), [StrategyRow(partial_fills=False)], rows, bids_at_99(5))
    assert fills(log) == [(10, 1, 99, 5)]


def test_models_differ_in_what_leaves_ahead_of_us():
    rows = [(1, BID, 99, 10), (1, ASK, 101, 10), (8, BID, 99, 30), (9, BID, 99, 20), (10, SELLS, 99, 10)]
    models = [
        StrategyRow(queue_model=int(QueueModel.RISK_AVERSE)),
        StrategyRow(queue_model=int(QueueModel.POWER), queue_power=1.0),
        StrategyRow(queue_model=int(QueueModel.TRADE_THROUGH)),
        StrategyRow(queue_model=int(QueueModel.AHEAD)),
    ]
    wanted = orders(*({"now_ns": 5, "strategy": k, "price_ticks": 99, "lots": 9} for k in range(4)))
    _, log = run(MarketRow(), models, rows, wanted)
    # 10 of 30 leave: in the linear model a third of them stood ahead, so 6 and two thirds were left.
    assert [fills(log, k) for k in range(4)] == [[], [(10, 1, 99, 3)], [], [(10, 1, 99, 9)]]


def test_a_level_that_reaches_our_price_fills_us_with_what_is_new_in_it():
    rows = [*BOOK, (10, ASK, 99, 2), (11, ASK, 99, 3), (12, ASK, 99, 1)]
    _, log = run(MarketRow(), [StrategyRow()], rows, bids_at_99(9))
    assert fills(log) == [(10, 1, 99, 2), (11, 1, 99, 1)]
    _, log = run(MarketRow(), [StrategyRow(book_fills=False)], rows, bids_at_99(9))
    assert fills(log) == []


def test_latencies_differ_by_action_and_messages_never_overtake():
    contestant = StrategyRow(request_ns=10, cancel_request_ns=2, reply_ns=7)
    wanted = orders({"now_ns": 5, "price_ticks": 99, "lots": 1}, {"now_ns": 6, "kind": 1, "target_id": 1})
    engine, log = run(MarketRow(), [contestant], [*BOOK, (40, BID, 98, 1)], wanted)
    done = [(row.ns, EventKind(int(row.kind)).name) for row in log]
    assert done == [(5, "SENT"), (6, "CANCEL_SENT"), (15, "ACCEPTED"), (15, "CANCELLED")]
    assert engine.world.replies[0].due_ns == 22


def test_funding_is_paid_on_the_mark_at_its_instant():
    rows = [
        *BOOK,
        (10, SELLS, 98, 5),
        (11, store.MARK | LAST, 10_050, 0),
        (12, store.FUNDING | LAST, 2_000, 0),
    ]
    engine, _ = run(MarketRow(), [StrategyRow()], rows, bids_at_99(5))
    assert money(engine.world.strategies[0], "funding") == -Fraction(2_000, 10**9) * Fraction(10_050, 100) * 5


def test_a_price_that_the_book_does_not_show_is_behind_all_that_shows_up_there():
    snapshot = [(1, store.CLEAR, 0, 0), (1, store.LEVEL_BID, 99, 5), (1, ASK, 101, 5)]
    rows = [*snapshot, (10, SELLS, 97, 6), (11, BID, 97, 4), (12, SELLS, 97, 5)]
    wanted = orders({"now_ns": 5, "price_ticks": 97, "lots": 3})
    _, log = run(MarketRow(), [StrategyRow()], rows, wanted)
    assert fills(log) == [(12, 1, 97, 1)]


def test_too_many_orders_void_the_run():
    engine = FillEngine(MarketRow(), [StrategyRow()], orders_each=1)
    rows = hour_of(BOOK)
    with pytest.raises(FillError, match="at most 1 orders"):
        list(engine.replay(rows, bids_at_99(1, 1), np.zeros(2, np.int64), 100))


def test_levels_nobody_trades_at_do_not_fill_the_memory():
    rows = hour_of([(1, BID, 100_000 + i, 1) for i in range(9)] + [(2, ASK, 2**31 - 1, 1), (3, BID, 1, 1)])
    low, high = price_range(rows)
    assert low <= 100_000 < high
    assert high - low < 2**22


def test_a_whole_lot_past_us_reaches_us_though_the_sum_of_floats_lacks_its_last_bit():
    """Counted in contracts, 0.092 − 0.009 − 0.038 − 0.043 − 0.003 is a bit more than −0.001."""
    whole = StrategyRow(queue_model=int(QueueModel.RISK_AVERSE), lots_per_unit=1000.0, partial_fills=False)
    frame = store.LAST
    rows = [(0, store.LEVEL_BID | frame, 99, 5), (0, store.LEVEL_ASK | frame, 101, 92)]
    traded = [9, 38, 43, 3]
    rows += [(10 + i, store.TRADE_BUY | frame, 101, lots) for i, lots in enumerate(traded)]
    action = rows_of(ActionRow, 1)
    action["now_ns"], action["side"], action["price_ticks"], action["lots"] = 1, -1, 101, 1
    _, log = run(MarketRow(), [whole], rows, action)
    assert [row["ns"] for row in log if row["kind"] == EventKind.FILL] == [13]
