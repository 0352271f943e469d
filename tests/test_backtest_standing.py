"""What a run says beside its log: baselines, time by reason, mids, samples, margin; and asking less."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from test_backtest_runner import FOUR, INSTRUMENT, MS, NEAR, as_bytes, contestant, cut, market

from market_maker.backtest.host import Contestant, Latency, MarketMakerRun, RunSettings
from market_maker.backtest.rows import Quoter, QuoterRow
from market_maker.domain import BPS, Reason
from market_maker.fills.rows import EventKind, StrategyRow
from market_maker.pricing_engine import OffsetMode
from market_maker.recordings import store
from market_maker.recordings.conversion import convert, open_sources
from market_maker.recordings.store import Hour, open_store
from market_maker.summary import Quotes, UptimeTracker, is_good_quote

LINE = QuoterRow(int(Quoter.LINEAR), half_ticks=2.0, level_step_ticks=1.0, skew_ticks=0.5)


def linear(row=LINE, **changes):
    return replace(contestant(**changes), quoter=row)


def with_levels(one, levels):
    return replace(one, params=replace(one.params, quote=replace(one.params.quote, num_levels=levels)))


def many(request_ms=10):
    """Contestants that differ in all that decides how often one is asked."""
    base, found = contestant(request_ms), []
    for i in range(9):
        p = base.params
        offset = replace(NEAR, offset_mode=OffsetMode(i % 3), offset_sigma_multiple=0.05 * (i + 1))
        toxicity = replace(p.toxicity, micro_vol_k=0.5 if i % 2 else 1.5)
        one = with_levels(replace(base, params=replace(p, offset=offset, toxicity=toxicity)), 1 + i % 3)
        found.append(replace(one, quoter=LINE) if i % 4 == 3 else one)
    return found


def outcome(contestants, hours, **settings):
    run = MarketMakerRun(INSTRUMENT, contestants, RunSettings(sample_s=0.2, **settings))
    piece = run.run(hours)
    each = range(len(contestants))
    return run, [*as_bytes(piece), [run.uptime(k) for k in each], [run.counts(k) for k in each]]


def test_who_is_asked_less_decides_the_same():
    contestants, hours = [*many(), *many(250)], [market(11, 3_000)]
    always, expected = outcome(contestants, hours, asks_all=True)
    less, found = outcome(contestants, hours)
    assert found == expected
    asked = [sum(int(risk.decisions) for risk in run.bench.risks) for run in (always, less)]
    assert asked[1] < asked[0]
    assert len(less.bench.states) < len(contestants)


RECORDING = Path(__file__).parents[2] / "shared" / "data" / "binance-usdm-2024-08-08"


@pytest.fixture(scope="module")
def recorded_store(tmp_path_factory):
    if not RECORDING.is_dir():
        pytest.skip("the recording is not here")
    folder = tmp_path_factory.mktemp("store")
    convert(open_sources(RECORDING, ["BTC-USD"]), folder)
    return folder


def test_numbers_of_levels_do_not_meddle():
    hour = market(12)
    contestants = [with_levels(contestant(), levels) for levels in (1, 3, 2)]
    together = MarketMakerRun(INSTRUMENT, contestants).run([hour]).log
    for k, one in enumerate(contestants):
        alone = MarketMakerRun(INSTRUMENT, [one]).run([hour]).log
        beside = together[together["strategy"] == k].copy()
        beside["strategy"] = 0
        assert alone.tobytes() == beside.tobytes()
        assert set(np.unique(beside["tag"]).tolist()) <= set(range(2 * one.params.quote.num_levels))


def test_a_line_quotes_around_the_mid_and_against_the_inventory():
    run = MarketMakerRun(INSTRUMENT, [linear()], RunSettings(sample_s=0.05))
    piece = run.run([market(13)])
    log = piece.log
    sent = log[log["kind"] == EventKind.SENT]
    assert (log["kind"] == EventKind.FILL).any()
    size = 16  # lots of 1,000 USD at 60,000
    for row in sent.tolist():
        order = dict(zip(sent.dtype.names, row, strict=True))
        distance = 2.0 + (order["tag"] // 2) - order["side"] * -0.5 * order["position_lots"] / size
        # The mid that is known is 40 ms old at most, and moves by a tick at a time.
        off = order["side"] * (order["mid2_ticks"] / 2 - order["price_ticks"]) - distance
        assert -5.0 <= off <= 5.0
    fresh = sent[sent["position_lots"] == 0]
    nearest = fresh[fresh["tag"] < 2]
    assert np.abs(nearest["mid2_ticks"] / 2 - nearest["price_ticks"]).mean() == pytest.approx(2.0, abs=1.0)


def test_at_its_limit_a_line_only_reduces():
    tight = linear(max_position_notional_usd=1_500.0)
    log = MarketMakerRun(INSTRUMENT, [tight]).run([market(13)]).log
    assert np.abs(log["position_lots"]).max() <= 25
    sent = log[log["kind"] == EventKind.SENT]
    near = np.abs(sent["position_lots"]) >= 24
    adding = sent[near & (sent["side"] * sent["position_lots"] > 0)]
    # Of 25 lots one is left.
    assert near.any()
    assert (adding["lots"] <= 1).all()


def standing(run, k):
    """How a contestant's quotes stand now, by the functions of the summary."""
    b, each = run.bench, len(run.bench.slots) // len(run.bench.params)
    state, params = b.states[b.memos[k].group], b.params[k]
    mid, sides = (state.book.bid_ticks + state.book.ask_ticks) / 2, {1: [], -1: []}
    spread = float(state.book.ask_ticks - state.book.bid_ticks)
    usd_per_lot = mid * params.market.tick_lot_usd
    level_lots = int(int(params.quote.level_size_usd / usd_per_lot) * 0.99) if mid else 0
    reasons = {}
    for i in range(k * each, (k + 1) * each):
        slot, held = b.slots[i], b.held[i]
        reasons.setdefault(int(slot.side), Reason(int(held.reason)))
        if held.order_id and mid:
            off, sigma = float(held.price_ticks) - mid, float(state.sigma_bps) / BPS * mid
            good = is_good_quote(int(held.remaining_lots), level_lots, off, spread, sigma)
            sides[int(slot.side)].append(good)
    for side, reason in reasons.items():
        rests = any(b.slots[i].resting and b.slots[i].side == side for i in range(k * each, (k + 1) * each))
        reasons[side] = Reason.QUOTE_FAR if rests and reason < Reason.NO_BOOK else reason
    return Quotes(any(sides[1]), any(sides[-1]), reasons[1], reasons[-1], False)


@pytest.mark.slow
def test_time_is_split_as_a_live_session_splits_it():
    hour = market(14, 900)
    half = int(np.flatnonzero(hour.kind[:450] & store.LAST)[-1])
    hour.kind[half] = store.GAP | store.LAST
    contestants = [contestant(), contestant(250), linear(max_position_notional_usd=1_500.0)]
    run = MarketMakerRun(INSTRUMENT, contestants, RunSettings(timer_s=0.002))
    trackers = [UptimeTracker(int(hour.venue_ns[0])) for _ in contestants]
    for piece in cut(hour, range(len(hour.kind))):
        list(run.feed(piece))
        for k, tracker in enumerate(trackers):
            tracker.update(int(run.bench.clock[0].now_ns), standing(run, k))
    for k, tracker in enumerate(trackers):
        told, found = tracker.report(int(run.bench.clock[0].now_ns)), run.uptime(k)
        # The tracker looks after each frame, the run at each instant: some ms lie between.
        assert found.quote_uptime == pytest.approx(told.quote_uptime, abs=0.03)
        assert {name for name, share in told.pauses.items() if share > 0.03} <= found.pauses.keys()
        shares = found.quote_uptime + sum(found.pauses.values()) + sum(found.one_sided.values())
        assert shares == pytest.approx(1.0)


def test_scoring_begins_where_it_is_told_to():
    hour = market(15)
    from_ns = int(hour.venue_ns[len(hour.kind) // 2])
    whole = MarketMakerRun(INSTRUMENT, FOUR)
    whole_log = whole.run([hour]).log
    run = MarketMakerRun(INSTRUMENT, FOUR, RunSettings(score_from_ns=from_ns))
    log = run.run([hour]).log
    assert log.tobytes() == whole_log.tobytes()
    for k in range(len(FOUR)):
        later = log[(log["strategy"] == k) & (log["ns"] > from_ns)]
        sent = int((later["kind"] == EventKind.SENT).sum())
        assert abs(run.counts(k).placed + run.counts(k).replaced - sent) <= 1
        assert run.counts(k).sent < whole.counts(k).sent
        assert run.uptime(k).start_ns == from_ns


def test_mids_are_the_exchanges_after_each_frame():
    hour = market(16)
    mids = MarketMakerRun(INSTRUMENT, [contestant()]).run([hour]).mids
    assert len(mids) > 50
    assert all(a.mid2_ticks != b.mid2_ticks and a.ns <= b.ns for a, b in pairwise(mids))
    log = MarketMakerRun(INSTRUMENT, [contestant()]).run([hour]).log
    sent = log[log["kind"] == EventKind.SENT]
    before = mids["mid2_ticks"][np.searchsorted(mids["ns"], sent["ns"], "right") - 1]
    assert (before == sent["mid2_ticks"]).all()


def test_samples_lie_on_whole_steps_and_hold_each_contestant():
    run = MarketMakerRun(INSTRUMENT, FOUR, RunSettings(sample_s=0.1))
    samples = run.run([market(17)]).samples
    assert (samples["ns"] % (100 * MS) == 0).all()
    assert (samples["strategy"].reshape(-1, len(FOUR)) == np.arange(len(FOUR))).all()
    quoted = samples[(samples["bid_ticks"] > 0) & (samples["ask_ticks"] > 0)]
    assert len(quoted)
    # Who hears late may rest on the wrong side of what he knows for a while.
    fast = quoted[quoted["strategy"] == 0]
    assert (fast["bid_ticks"] < fast["ask_ticks"]).all()
    assert (
        np.median(fast["bid_ticks"] - fast["fair_ticks"])
        < 0
        < np.median(fast["ask_ticks"] - fast["fair_ticks"])
    )


def test_fills_tell_when_and_behind_how_much_their_order_came_to_rest():
    log = MarketMakerRun(INSTRUMENT, FOUR).run([market()]).log
    key = ["strategy", "order_id"]
    accepted = {tuple(row[key].item()): row for row in log[log["kind"] == EventKind.ACCEPTED]}
    fills = log[log["kind"] == EventKind.FILL]
    assert len(fills)
    for fill in fills:
        joined = accepted[tuple(fill[key].item())]
        assert fill["accepted_ns"] == joined["ns"]
        assert fill["queue_ahead_lots"] == joined["front"]


def test_latency_stands_in_for_the_times_of_the_fills():
    slow = Latency(0.25, 0.25, 0.25, 0.125)
    plain = Contestant(contestant().params, contestant().risk, StrategyRow(), latency=slow)
    logs = [MarketMakerRun(INSTRUMENT, [one]).run([market()]).log for one in (plain, contestant(250))]
    assert logs[0].tobytes() == logs[1].tobytes()


def test_recorded_latencies_are_those_of_the_run():
    hour = market()
    told = np.array([[0, 20 * MS, 30 * MS], [10**12, 20 * MS, 30 * MS]])
    recorded = replace(contestant(), latency=Latency(recorded=True))
    fixed = replace(contestant(), latency=Latency(0.02, 0.03, 0.02, 0.03))
    logs = [
        MarketMakerRun(INSTRUMENT, [recorded], latencies=told).run([hour]).log,
        MarketMakerRun(INSTRUMENT, [fixed]).run([hour]).log,
    ]
    # What they start from as their mean latency differs; the first exchange of messages does not.
    first = [log[log["kind"] == EventKind.ACCEPTED]["ns"][0] for log in logs]
    assert first[0] == first[1]


def crash():
    """A market that is quoted, then falls by a tenth in steps of trades and best quotes."""
    hour = market(18)
    rows, now, bid = [], int(hour.venue_ns[-1]), 599_990
    for step in range(120):
        now, bid = now + 50 * MS, bid - 600
        rows += [(now, store.TRADE_SELL | store.LAST, bid + 500, 5_000)]
        rows += [(now, store.BEST_BID, bid, 500), (now, store.BEST_ASK | store.LAST, bid + 2 + step % 2, 500)]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    ns, kind, ticks, lots = columns
    tail = Hour(ns, np.zeros(len(ns)), kind, ticks, lots)
    pairs = zip(hour, tail, strict=True)
    return Hour(*(np.concatenate([a, b.astype(a.dtype)]) for a, b in pairs))


def test_a_crash_on_a_thin_account_is_a_liquidation_and_is_logged_once():
    loose = {"max_day_loss_usd": 0.0, "max_drawdown_usd": 0.0, "max_stress_loss_usd": 0.0, "stress_move": 0.0}
    thin = contestant(max_margin_utilisation=0.0, min_liquidation_distance=0.0, **loose)
    rich = RunSettings(start_equity_usd=1e6)
    poor = RunSettings(start_equity_usd=20.0)
    for settings, expected in ((rich, 0), (poor, 1)):
        run = MarketMakerRun(INSTRUMENT, [thin], settings)
        log = run.run([crash()]).log
        assert int((log["kind"] == EventKind.LIQUIDATED).sum()) == expected
        assert bool(run.bench.risks[0].liquidated) == bool(expected)


def test_margin_bounds_the_position_by_equity():
    poor = RunSettings(start_equity_usd=40.0)
    log = MarketMakerRun(INSTRUMENT, [contestant(min_liquidation_distance=0.0)], poor).run([market()]).log
    # 40 USD × 0.8 / 0.02: 1,600 USD at 60 USD a lot.
    assert 0 < np.abs(log["position_lots"]).max() <= 27


@pytest.mark.slow
def test_on_a_recording_who_is_asked_less_decides_the_same(recorded_store):
    opened = open_store(recorded_store)
    hour = next(iter(opened.hours("BTC-USD")))
    ends = np.flatnonzero(hour.kind & store.LAST) + 1
    piece = Hour(*(column[: ends[20_000]] for column in hour))
    runs = []
    for asks_all in (True, False):
        run = MarketMakerRun(
            opened.instrument("BTC-USD"), many(), RunSettings(sample_s=1.0, asks_all=asks_all)
        )
        runs.append([*as_bytes(run.run([piece])), [run.uptime(k) for k in range(9)]])
    assert runs[0] == runs[1]
