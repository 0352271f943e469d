"""The market maker's runner: decisions and fills over recorded rows, K settings in one pass."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.backtest.host import Contestant, MarketMakerRun, RunSettings
from market_maker.domain import Reason
from market_maker.exposure import Exposure, Portfolio
from market_maker.fills.rows import EventKind, StrategyRow
from market_maker.instrument import Instrument
from market_maker.kernel import plain
from market_maker.pricing_engine import OffsetMode, OffsetSettings
from market_maker.recordings import store
from market_maker.recordings.store import Hour
from market_maker.risk_manager import RiskSettings, limits_in_force
from market_maker.risk_view import MarketRiskBuilder
from market_maker.strategy_rows import Params, RepriceSettings

MS = 1_000_000
INSTRUMENT = Instrument("BTC-USD", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"))
NEAR = OffsetSettings(
    offset_mode=OffsetMode.FIXED,
    price_offset_per_level_percent=0.0003,
    min_edge_bps=0.0,
    offset_latency_sigmas=0.0,
)
PYTHON_ONLY = os.environ.get("NUMBA_DISABLE_JIT") == "1"


def market(seed=1, rows=2_000):
    """A book that changes near its best prices and trades there: frames of levels, trades and best quotes."""
    rng = np.random.default_rng(seed)
    now, mid, found = 10**9, 600_000, []

    def frame(*parts):
        found.extend((now, *part) for part in parts[:-1])
        kind, ticks, lots = parts[-1]
        found.append((now, kind | store.LAST, ticks, lots))

    levels = [(1, mid - 1 - i, 500) for i in range(30)] + [(2, mid + 1 + i, 500) for i in range(30)]
    frame((store.CLEAR, 0, 0), *levels)
    while len(found) < rows:
        now += int(rng.integers(1, 30)) * MS
        draw, lots = rng.random(), int(rng.integers(1, 800))
        if draw < 0.3:
            frame(
                (store.TRADE_BUY, mid + 1, lots) if rng.random() < 0.5 else (store.TRADE_SELL, mid - 1, lots)
            )
        elif draw < 0.45:
            mid += int(rng.choice([-1, 1]))
            frame((store.BEST_BID, mid - 1, lots), (store.BEST_ASK, mid + 1, lots))
        else:
            side, off = int(rng.integers(1, 3)), 1 + int(rng.integers(0, 10))
            frame((side, mid - off if side == 1 else mid + off, lots))
    columns = list(zip(*found, strict=True))
    delays = rng.integers(-2_000, 40_000, len(found))
    # The rows of a frame were heard together.
    first = np.concatenate([[True], np.array(columns[1][:-1]) >= store.LAST])
    delays = delays[first][np.cumsum(first) - 1]
    return Hour(
        np.array(columns[0], np.int64),
        delays.astype(np.int32),
        np.array(columns[1], np.uint8),
        np.array(columns[2], np.int32),
        np.array(columns[3], np.uint32),
    )


def contestant(request_ms=10, size_tolerance=0.5, **limits):
    travel = request_ms * MS
    fills = StrategyRow(
        request_ns=travel, reply_ns=travel, cancel_request_ns=travel, cancel_reply_ns=travel // 2
    )
    reprice = RepriceSettings(reprice_size_tolerance=size_tolerance, reprice_tolerance_ticks=1.0)
    risk = RiskSettings(**{"max_position_notional_usd": 5_000.0, **limits})
    return Contestant(Params(offset=NEAR, reprice=reprice), risk, fills)


FOUR = [contestant(), contestant(250), contestant(1_000), contestant(10, max_position_notional_usd=1_500.0)]


def sampled(contestants):
    return MarketMakerRun(INSTRUMENT, contestants, RunSettings(sample_s=0.1))


def as_bytes(piece):
    return [rows.tobytes() for rows in piece]


def cut(hour, at):
    """Pieces of whole frames, cut behind the frames that the rows `at` lie in."""
    ends = np.flatnonzero(hour.kind & store.LAST) + 1
    bounds = sorted({0, len(hour.kind), *(int(ends[np.searchsorted(ends, row)]) for row in at)})
    return [Hour(*(column[i:j] for column in hour)) for i, j in pairwise(bounds)]


def test_quotes_fill_and_both_sides_agree_on_the_position():
    run = MarketMakerRun(INSTRUMENT, FOUR)
    log = run.run([market()]).log
    kinds = {EventKind(kind) for kind in np.unique(log["kind"]).tolist()}
    assert {EventKind.SENT, EventKind.ACCEPTED, EventKind.FILL, EventKind.CANCELLED} <= kinds
    for k in range(len(FOUR)):
        filled = log[(log["strategy"] == k) & (log["kind"] == EventKind.FILL)]
        position = int((filled["side"] * filled["lots"]).sum())
        world, account = run.bench.world, run.bench.accounts[k]
        unheard = world.strategies[k].replies_sent - world.strategies[k].replies_heard
        assert position == world.strategies[k].position_lots
        assert position == account.position_lots or unheard > 0
        assert run.bench.risks[k].decisions > 1_000


def test_no_fill_takes_a_position_past_its_limit():
    run = MarketMakerRun(INSTRUMENT, FOUR)
    log = run.run([market(2)]).log
    for k, one in enumerate(FOUR):
        largest = one.risk.max_position_notional_usd / (60_000 * 0.001) * 1.01
        positions = log["position_lots"][log["strategy"] == k]
        assert np.abs(positions).max() <= largest


def test_limits_are_those_of_the_risk_manager():
    risk = RiskSettings(max_position_notional_usd=9_876.0, max_stress_loss_usd=321.0, max_position_size=0.07)
    run = MarketMakerRun(INSTRUMENT, [replace(contestant(), risk=risk)])
    run.run([market()])
    mark = Decimal(run.bench.accounts[0].mark_ticks.item()) * INSTRUMENT.tick
    live = MarketRiskBuilder(INSTRUMENT, risk).build(mark, 0, Exposure())
    expected = limits_in_force(risk, "BTC-USD", Portfolio({"BTC-USD": live}, None))
    account = run.bench.accounts[0]
    assert (account.limit_long_lots, account.limit_short_lots) == expected
    # Both are far from every other limit, so the run is one that could have been wrong.
    assert 0 < expected[0] < 70


def test_a_contestant_alone_fares_as_beside_others():
    hour = market(3)
    together = MarketMakerRun(INSTRUMENT, FOUR).run([hour]).log
    for k, one in enumerate(FOUR):
        alone = MarketMakerRun(INSTRUMENT, [one]).run([hour]).log
        beside = together[together["strategy"] == k].copy()
        beside["strategy"] = 0
        assert alone.tobytes() == beside.tobytes()


@pytest.mark.slow
@given(st.lists(st.integers(0, 590), max_size=12), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_where_the_market_is_cut_changes_nothing(at, seed):
    hour = market(seed, 600)
    whole = sampled(FOUR).run([hour])
    pieces = sampled(FOUR).run(cut(hour, at))
    assert as_bytes(pieces) == as_bytes(whole)


@pytest.mark.slow
def test_frame_by_frame_is_the_same_as_all_at_once():
    hour = market(4, 600)
    whole = sampled(FOUR).run([hour])
    frames = sampled(FOUR).run(cut(hour, range(len(hour.kind))))
    assert as_bytes(frames) == as_bytes(whole)


def test_a_decision_knows_nothing_of_what_comes_after_it():
    hour = market(5)
    half = len(hour.kind) // 2
    other = Hour(*(column.copy() for column in hour))
    other.lots[half:] = other.lots[half:] // 2 + 1
    until = int(hour.venue_ns[half])
    logs = [MarketMakerRun(INSTRUMENT, FOUR).run([one]).log for one in (hour, other)]
    before = [log[log["ns"] < until].tobytes() for log in logs]
    assert before[0] == before[1]
    assert logs[0].tobytes() != logs[1].tobytes()


def test_a_halted_account_says_what_halted_it():
    run = MarketMakerRun(INSTRUMENT, [contestant(max_drawdown_usd=0.01)], RunSettings(sample_s=0.1))
    samples = run.run([market()]).samples
    assert run.bench.risks[0].halt == Reason.RISK_DRAWDOWN
    assert {int(samples["bid_reason"][-1]), int(samples["ask_reason"][-1])} == {Reason.RISK_DRAWDOWN}
    uptime = run.uptime(0)
    assert uptime.pauses["RISK_DRAWDOWN"] > 0.5
    assert "POSITION_LIMIT" not in uptime.pauses


def test_a_gap_stops_quoting_until_the_next_snapshot():
    hour = market(6)
    half = int(np.flatnonzero(hour.kind[:1_000] & store.LAST)[-1])
    hour.kind[half] = store.GAP | store.LAST
    run = MarketMakerRun(INSTRUMENT, [contestant()])
    log = run.run([hour]).log
    later = log[log["ns"] > int(hour.venue_ns[half]) + 100 * MS]
    assert not (later["kind"] == EventKind.SENT).any()
    assert not run.bench.slots["resting"].any()


def test_two_feeds_hear_the_same_market_at_different_times():
    late = replace(contestant(), fills=StrategyRow(feed=1))
    on_time = replace(contestant(), fills=StrategyRow(feed=0))
    run = MarketMakerRun(INSTRUMENT, [on_time, late], RunSettings(feed_extra_ns=(0, 500 * MS)))
    log = run.run([market(7)]).log
    first = [int(log["ns"][(log["strategy"] == k) & (log["kind"] == EventKind.SENT)][0]) for k in range(2)]
    assert first[1] - first[0] == 500 * MS


def digest():
    run = MarketMakerRun(INSTRUMENT, FOUR)
    log = run.run([market(8)]).log
    return {"log": log.tobytes().hex(), "states": [plain(row) for row in run.bench.states]}


@pytest.mark.slow
@pytest.mark.skipif(PYTHON_ONLY, reason="there is nothing to compare with")
def test_compiled_equals_interpreted_on_2000_rows():
    script = "import json, test_backtest_runner as t; print(json.dumps(t.digest()))"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", script]
    child = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=500)
    # As text: what is not known yet is nan, which equals nothing.
    assert child.stdout.strip() == json.dumps(digest())
