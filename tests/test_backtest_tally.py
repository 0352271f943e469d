"""The tally: exact parts that equal the live ledger's, figures that do not depend on how a run was cut."""

import math
from collections import defaultdict
from decimal import Decimal

import fill_markets
import numpy as np
import pytest
from backtest_pieces import (
    PlayedRun,
    S,
    cut,
    entries,
    fill,
    funding,
    hour_of,
    log_rows,
    mid_rows,
    sample_rows,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.backtest import tally as tally_module
from market_maker.backtest.conclusions import Source
from market_maker.backtest.rows import Piece
from market_maker.backtest.tally import Tally
from market_maker.domain import Side
from market_maker.fills.engine import FillEngine
from market_maker.fills.rows import MAKER, TAKER, EventKind, MarketRow, StrategyRow
from market_maker.gateway import Fill, FillReport, FundingPayment
from market_maker.instrument import Instrument
from market_maker.ledger import Ledger, OpeningPosition
from market_maker.recordings import store

ODD = Instrument("X-USD", Decimal("0.003"), Decimal("0.07"), Decimal("0.07"))
BTC = Instrument("BTC-USD", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"))
PARTS = ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding")
OWN = Source("Extended")
EMPTY = Piece(log_rows([]), mid_rows([]), sample_rows([]))


def played(instrument, piece, *, score_from=0, end=0, rates=None, hour=None, count=1, cuts=()):
    tally = Tally(instrument, entries(count, rates), OWN, score_from)
    if hour is not None:
        tally.market(hour)
    for part in cut(piece, cuts):
        tally.take(part)
    return tally.finish(end, PlayedRun(count))


# What happens in one market: (ns since the last, what, side, distance from the mid, lots, flag).
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, S // 3, 2 * S, 5 * S, 11 * S, 40 * S]),
        st.sampled_from(["mid", "mid", "fill", "fill", "funding"]),
        st.sampled_from([1, -1]),
        st.integers(-9, 9),
        st.integers(1, 50),
        st.booleans(),
    ),
    min_size=1,
    max_size=60,
)


def script(steps, rates):
    """The steps as rows, and the position by time; fills come before a new mid of the same instant."""
    now, mid2, position, order_id = 10 * S, 200_001, 0, 0
    mids, log = [(now, mid2)], []
    fills_at = defaultdict(int)
    for wait, what, side, distance, lots, flag in steps:
        now += wait
        if what == "mid":
            mid2 = max(100, mid2 + distance)
            if mids[-1][0] == now:
                mids.pop()
            mids.append((now, mid2))
            continue
        if mids and mids[-1][0] == now:
            now += 1
        if what == "funding":
            if position:
                log.append(funding(now, 1_000 * distance, position, 50 * mid2 + 7 * distance))
            continue
        position += side * lots
        order_id += flag
        fills_at[now] += 1
        log.append(
            fill(
                now,
                side,
                mid2 // 2 + distance,
                lots,
                role=TAKER if flag else MAKER,
                position_lots=position,
                mid2_ticks=mid2,
                tag=lots % 4,
                order_id=order_id,
                rebate_ppb=0 if flag else rates["rebate"],
            )
        )
    return mids, log, now


def ledger_of(instrument, mids, log, rates, start, marks, end):
    """The same through the live ledger."""
    before = [m for ns, m in mids if ns < start]
    earlier = [row["position_lots"] for row in log if row["ns"] < start]
    lots, opening2 = (earlier[-1] if earlier else 0), (before[-1] if before else mids[0][1])
    mark0 = instrument.tick * marks[0] / 100 if marks[0] else instrument.tick * opening2 / 2
    ledger = Ledger(
        {instrument.name: instrument}, Decimal(0), {instrument.name: OpeningPosition(lots, opening2, mark0)}
    )
    happened = [(ns, 1, m) for ns, m in mids if ns >= start]
    happened += [(row["ns"], 0, row) for row in log if row["ns"] >= start]
    unit = instrument.tick * instrument.step
    for i, (ns, order, item) in enumerate(sorted(happened, key=lambda found: found[:2])):
        if order:
            ledger.on_mid(instrument.name, item, ns)
        elif item["kind"] == EventKind.FUNDING:
            amount = -item["price_ticks"] * item["remaining_lots"] * item["lots"] * unit * Decimal("1E-11")
            ledger.book_funding(FundingPayment(i, instrument.name, 1, Decimal(1), Decimal(0), amount, ns))
        else:
            rate = rates["taker"] if item["role"] == TAKER else rates["maker"] - item["rebate_ppb"]
            fee = rate * item["price_ticks"] * item["lots"] * unit * Decimal("1E-9")
            book_fill(ledger, instrument, item, i, fee, [m for n, m in mids if n < ns][-1])
    end_mid = instrument.tick * [m for ns, m in mids if ns <= end][-1] / 2
    ledger.on_mark(instrument.name, instrument.tick * marks[1] / 100 if marks[1] else end_mid)
    ledger.close(end)
    return ledger


def book_fill(ledger, instrument, item, number, fee, mid2):
    found = Fill(
        market=instrument.name,
        trade_id=number,
        order_id=item["order_id"],
        external_id="x",
        side=Side(item["side"]),
        price_ticks=item["price_ticks"],
        size_lots=item["lots"],
        is_taker=item["role"] == TAKER,
        venue_ns=item["ns"],
        recv_ns=item["ns"],
    )
    ledger.book_fill(FillReport(found, fee), mid2)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    STEPS,
    st.data(),
    st.sampled_from([ODD, BTC]),
    st.sampled_from(
        [
            {"maker": 0, "taker": 250_000, "rebate": 0},
            {"maker": 0, "taker": 250_000, "rebate": 13_007},
            {"maker": -20_001, "taker": 333_333, "rebate": 0},
            {"maker": 70_001, "taker": -1, "rebate": 0},
        ]
    ),
)
def test_the_parts_equal_the_ledgers_and_add_up_to_the_change_of_equity(steps, data, instrument, rates):
    mids, log, last = script(steps, rates)
    instants = sorted({ns for ns, _ in mids} | {row["ns"] for row in log})
    start = data.draw(st.sampled_from([0, *instants[: len(instants) // 2 + 1]])) if instants else 0
    start = max(start, mids[0][0])
    end = last + data.draw(st.sampled_from([0, S, 5 * S, 60 * S]))
    marks = data.draw(
        st.sampled_from([(0, 0), (0, 10_000_321), (9_999_777, 9_999_777), (10_000_001, 10_002_003)])
    )
    hour = hour_of(
        [(start - 5, store.MARK, marks[0], 0)] * bool(marks[0])
        + [(end, store.MARK, marks[1], 0)] * bool(marks[1])
    )
    cuts = sorted(data.draw(st.lists(st.sampled_from(instants), max_size=5)))
    row = StrategyRow(maker_fee_ppb=rates["maker"], taker_fee_ppb=rates["taker"])
    piece = Piece(log_rows(log), mid_rows(mids), sample_rows([]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tally_module, "_ENOUGH_ROWS", data.draw(st.sampled_from([1, 10**9])))
        [outcome] = played(instrument, piece, score_from=start, end=end, rates=row, hour=hour, cuts=cuts)
    ledger = ledger_of(instrument, mids, log, rates, start, marks, end)
    name, summary = instrument.name, outcome.summary
    assert summary.pnl == ledger.attribution(name)
    assert summary.pnl.total + summary.pnl.basis == ledger.change_of_equity(name)
    assert summary.inventory.max_abs == ledger.max_abs_inventory_usd(name)
    assert summary.inventory.end == ledger.inventory_usd(name)
    assert summary.fills.volume_usd == ledger.volume_usd(name)
    counts = ledger.counts(name)
    assert (summary.fills.buys, summary.fills.sells) == (counts.buys, counts.sells)
    assert math.isclose(summary.fills.maker_share, ledger.maker_share(name), abs_tol=1e-12)
    assert summary.markouts_bps == pytest.approx(ledger.markouts_bps(name), abs=1e-9)
    from_price = {m.horizon_s: m.bps_from_price for m in outcome.markouts if (m.side, m.level) == (0, -1)}
    assert from_price == pytest.approx(ledger.markouts_bps(name, from_price=True), abs=1e-9) or not from_price
    # What curves and intervals are made of is the same money, in floats.
    for part, exact in summary.pnl.by_name().items():
        assert math.isclose(outcome.buckets[part].sum(), exact, rel_tol=1e-9, abs_tol=1e-7), part
    assert math.isclose(outcome.buckets["seconds"].sum(), (end - start) / S, abs_tol=1e-6)
    assert math.isclose(outcome.buckets["volume"].sum(), summary.fills.volume_usd, rel_tol=1e-9)


def quiet_market(seconds, *, mid2=1_200_000, step=0, every=1):
    """A mid each so many seconds, which moves by `step` doubled ticks."""
    return [(S * (1 + i), mid2 + step * (i // every)) for i in range(0, seconds, every)]


def test_a_day_of_trading_by_hand():
    # Bought at 599,990 under a mid of 600,000 that then rises by 10 ticks a second; sold 4 s later.
    mids = [(S * (1 + i), 1_200_000 + 20 * i) for i in range(40)]
    log = [
        fill(
            3 * S + 1,
            1,
            600_010,
            5,
            position_lots=5,
            order_id=1,
            tag=0,
            accepted_ns=2 * S,
            queue_ahead_lots=70,
        ),
        fill(
            7 * S + 1, -1, 600_070, 2, position_lots=3, order_id=2, tag=3, accepted_ns=5 * S, remaining_lots=3
        ),
        fill(8 * S + 1, -1, 600_070, 3, position_lots=0, order_id=2, tag=3, accepted_ns=5 * S),
    ]
    accepted = [
        {"ns": ns, "kind": int(EventKind.ACCEPTED), "order_id": i}
        for i, ns in enumerate([2 * S, 3 * S, 5 * S])
    ]
    rows = log_rows(sorted(log + accepted, key=lambda row: row["ns"]))
    trades = [(S, store.TRADE_BUY, 600_000, 50), (9 * S, store.TRADE_UNKNOWN, 600_000, 150)]
    [outcome] = played(
        BTC,
        Piece(rows, mid_rows(mids), sample_rows([])),
        end=40 * S,
        rates=StrategyRow(maker_fee_ppb=100_000),
        hour=hour_of(trades),
    )
    pnl, unit = outcome.summary.pnl, Decimal("0.0001")
    # Mids at the fills: 600,020; 600,060; 600,070.
    assert pnl.spread == unit * (5 * 10 + 2 * 10 + 3 * 0)
    assert pnl.adverse_selection == unit * (5 * 50 - 2 * 50 - 3 * 50)
    assert pnl.inventory == unit * (5 * (390 - 70) - 2 * (390 - 110) - 3 * (390 - 120))
    assert pnl.fees == -unit * Decimal("0.0001") * (5 * 600_010 + 5 * 600_070)
    assert pnl.total == unit * 5 * 60 + pnl.fees
    volume = 5 * 600_010 + 5 * 600_070
    assert outcome.volume_share == volume / (200 * 600_000)
    assert outcome.market_volume_usd == 200 * 600_000 * unit
    assert outcome.fill_ratio == 2 / 3
    assert outcome.time_to_fill_s["p50"] == pytest.approx(2.000000001)
    assert outcome.queue_ahead_lots["p90"] == 70
    assert outcome.summary.inventory.max_abs == Decimal(5 * 600_060) * unit
    assert (outcome.summary.inventory.limit, outcome.summary.inventory.limit_breaches) == (50_000, 3)
    assert outcome.summary.open_orders_at_end == 2
    by_key = {(m.side, m.level, m.horizon_s): m for m in outcome.markouts}
    assert by_key[1, 0, 1].bps == pytest.approx(10 / 600_020 * 1e4)
    assert by_key[1, 0, 1].bps_from_price == pytest.approx(20 / 600_010 * 1e4)
    assert by_key[-1, 1, 1].bps < 0
    assert by_key[0, -1, 5].fills == 3
    assert [(row["level"], row["side"], row["age_ns"]) for row in outcome.fills] == [
        (0, 1, S + 1),
        (1, -1, 2 * S + 1),
        (1, -1, 3 * S + 1),
    ]
    assert outcome.fills["mid2_30s"].tolist() == [1_200_040 + 600, 1_200_120 + 600, 1_200_140 + 600]
    # Held: 5 lots for 4 s, 3 lots for 1 s, of 39 scored.
    held = float(unit) * (5 * 4 * 600_045 + 3 * 600_070)
    assert outcome.mean_abs_inventory_usd == pytest.approx(held / 39, rel=1e-4)
    assert outcome.max_drawdown_usd == pytest.approx(float(-pnl.fees), rel=0.51)


def test_a_position_brought_into_scoring_is_valued_at_the_mid_then():
    mids = quiet_market(100, step=2)
    log = [
        fill(5 * S + 1, 1, 590_000, 10, position_lots=10),
        fill(60 * S + 1, -1, 600_100, 4, position_lots=6),
    ]
    samples = [{"ns": ns * S + 2, "bid_ticks": 5, "bid_reason": 1} for ns in (20, 70)]
    [outcome] = played(
        BTC, Piece(log_rows(log), mid_rows(mids), sample_rows(samples)), score_from=50 * S + 1, end=100 * S
    )
    pnl, unit = outcome.summary.pnl, Decimal("0.0001")
    assert pnl.spread == unit * 4 * (600_100 - 600_059)
    # Nothing of the bargain before: 10 lots from a mid of 600,049, 4 of them sold.
    assert pnl.total == unit * (10 * 50 + 4 * (600_100 - 600_099))
    assert outcome.summary.fills.sells == 1
    assert outcome.curve["ns"].tolist() == [70 * S + 2]
    assert outcome.curve["total"][0] == pytest.approx(float(unit) * (10 * 20 + 4 * (600_100 - 600_069)))
    assert outcome.curve["position_lots"].tolist() == [6]
    assert outcome.seconds == pytest.approx(50)


def test_rebates_are_credited_by_whole_days_that_are_enough():
    day = 86_400 * S
    rates = StrategyRow(rebate_least_tick_lots=100)
    log = [
        fill(day - 10 * S, 1, 600_000, 10, position_lots=10, rebate_ppb=20_000),  # 120 tick·lots
        fill(day + 10 * S, -1, 600_000, 5, position_lots=5, rebate_ppb=20_000),  # 60: too little
        fill(2 * day + S, -1, 600_000, 5, position_lots=0, rebate_ppb=130_000),  # the day is not over
    ]
    mids = [(ns * S, 1_200_000) for ns in range(86_000, 86_400 * 2 + 100, 50)]
    [outcome] = played(
        BTC, Piece(log_rows(log), mid_rows(mids), sample_rows([])), end=2 * day + 90 * S, rates=rates
    )
    assert outcome.summary.pnl.rebates == Decimal("0.0001") * (120 + 60 + 390)
    assert outcome.summary.rebates_credited == Decimal("0.0001") * 120


def busy(seed, count, seconds, contestants=2):
    rng = np.random.default_rng(seed)
    mids = np.zeros(4 * seconds, mid_rows([]).dtype)
    mids["ns"] = 10 * S + np.sort(rng.integers(0, seconds * S, len(mids)))
    mids["mid2_ticks"] = 1_200_000 + np.cumsum(rng.integers(-9, 10, len(mids)))
    log = np.zeros(count, log_rows([]).dtype)
    log["ns"] = 10 * S + np.sort(rng.integers(0, seconds * S, count))
    log["kind"] = EventKind.FILL
    log["strategy"] = rng.integers(0, contestants, count)
    log["side"] = rng.choice([1, -1], count)
    log["lots"] = rng.integers(1, 50, count)
    log["order_id"] = np.arange(count) // 2
    log["remaining_lots"] = np.arange(count) % 2
    log["price_ticks"] = mids["mid2_ticks"][np.searchsorted(mids["ns"], log["ns"]) - 1] // 2 - 3 * log["side"]
    log["tag"] = rng.integers(0, 6, count)
    log["accepted_ns"] = log["ns"] - rng.integers(1, 9, count) * S
    for k in range(contestants):
        mine = log["strategy"] == k
        log["position_lots"][mine] = np.cumsum((log["side"] * log["lots"])[mine])
    samples = np.zeros(contestants * seconds // 2, sample_rows([]).dtype)
    samples["ns"] = 10 * S + 2 * S * np.repeat(np.arange(seconds // 2), contestants)
    samples["strategy"] = np.tile(np.arange(contestants), seconds // 2)
    samples["bid_reason"], samples["ask_reason"] = 40, 45
    return Piece(log, mids, samples)


@pytest.mark.parametrize("enough", [1, 700, 10**9])
def test_how_a_run_was_cut_changes_nothing(monkeypatch, enough):
    piece, end = busy(3, 2_000, 3_000), 3_020 * S
    whole = played(BTC, piece, score_from=500 * S + 1, end=end, count=2)
    monkeypatch.setattr(tally_module, "_ENOUGH_ROWS", enough)
    cuts = sorted(np.random.default_rng(9).integers(0, 3_010 * S, 40).tolist())
    parts = played(BTC, piece, score_from=500 * S + 1, end=end, count=2, cuts=cuts)
    for one, other in zip(whole, parts, strict=True):
        assert one.summary == other.summary
        assert one.markouts == other.markouts
        assert one.fills.tobytes() == other.fills.tobytes()
        assert one.fill_ratio == other.fill_ratio
        assert one.max_drawdown_usd == pytest.approx(other.max_drawdown_usd, rel=1e-9)
        for name in one.curve.dtype.names:
            assert np.allclose(one.curve[name], other.curve[name], rtol=1e-9, atol=1e-7), name
        for name in one.buckets.dtype.names:
            assert np.allclose(one.buckets[name], other.buckets[name], rtol=1e-6, atol=1e-6), name


def test_the_same_run_gives_the_same_bytes():
    piece = busy(4, 1_500, 2_000)
    first, second = (played(BTC, piece, end=2_020 * S, count=2) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.summary == other.summary
        assert dict(one.intervals) == dict(other.intervals)
        assert one.buckets.tobytes() == other.buckets.tobytes()


def test_curve_and_drawdown_agree_with_a_sum_over_fills():
    piece = busy(5, 800, 1_500, contestants=1)
    [outcome] = played(BTC, piece, end=1_600 * S)
    unit, log, mids = 1e-4, piece.log, piece.mids

    def total(ns):
        done = log["ns"] <= ns
        signed = (log["side"] * log["lots"])[done]
        mid2 = mids["mid2_ticks"][np.searchsorted(mids["ns"], ns, "right") - 1]
        return unit * (signed.sum() * mid2 / 2 - (signed * log["price_ticks"][done]).sum())

    for point in outcome.curve[50::97]:
        assert point["total"] == pytest.approx(total(point["ns"]), abs=1e-6)
        parts = sum(
            point[name] for name in ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding")
        )
        assert point["total"] == pytest.approx(parts, abs=1e-9)
    assert set(outcome.curve["paused"].tolist()) == {45}
    instants = np.unique(np.concatenate([mids["ns"], log["ns"]]))
    totals = np.array([total(ns) for ns in instants])
    falls = np.maximum(np.maximum.accumulate(totals), 0) - totals
    assert outcome.max_drawdown_usd == pytest.approx(falls.max(), rel=1e-9)


def test_memory_stays_flat_while_figures_are_of_all_fills(monkeypatch):
    from market_maker.backtest import contestant_tally

    monkeypatch.setattr(contestant_tally, "_MOST_FILLS", 300)
    monkeypatch.setattr(contestant_tally, "_MOST_POINTS", 100)
    monkeypatch.setattr(contestant_tally, "_MOST_BUCKETS", 64)
    monkeypatch.setattr(tally_module, "_ENOUGH_ROWS", 500)
    piece, end = busy(6, 5_000, 9_000, contestants=1), 9_020 * S
    cuts = list(range(0, 9_000 * S, 60 * S))
    [outcome] = played(BTC, piece, end=end, cuts=cuts)
    assert (outcome.summary.fills.buys + outcome.summary.fills.sells, len(outcome.fills)) == (5_000, 157)
    assert outcome.fills_stride == 32
    assert outcome.fills["ns"].tolist() == piece.log["ns"][::32].tolist()
    assert len(outcome.curve) <= 100
    assert len(outcome.buckets) <= 65
    assert math.isclose(outcome.buckets["inventory"].sum(), outcome.summary.pnl.inventory, rel_tol=1e-9)
    assert math.isclose(outcome.buckets["seconds"].sum(), outcome.seconds, rel_tol=1e-9)
    assert (np.diff(outcome.buckets["end_ns"]) > 0).all()
    # All alike but the last.
    assert len(set(np.diff(outcome.buckets["end_ns"])[:-1].tolist())) == 1


def test_a_run_without_anything_is_no_error():
    [outcome] = played(BTC, EMPTY, end=5 * S)
    assert outcome.summary.pnl.total == 0
    assert dict(outcome.intervals) == {}
    assert outcome.summary.markouts_bps == {1: 0.0, 5: 0.0, 30: 0.0}
    assert outcome.conclusions[0] == "Nothing was filled: the data says nothing of profit."
    assert math.isfinite(outcome.pnl_per_inventory_risk)


def test_sums_too_large_for_64_bits_are_exact():
    size = 2**31
    log = [fill((2 + i) * S, 1 if i % 2 else -1, 2**30 + i, size) for i in range(8)]
    [outcome] = played(
        BTC,
        Piece(log_rows(log), mid_rows([(S, 2**31)]), sample_rows([])),
        end=60 * S,
        rates=StrategyRow(maker_fee_ppb=250_000),
    )
    volume = size * (8 * 2**30 + 28)
    assert volume > 2**63
    assert outcome.summary.fills.volume_usd == volume * Decimal("0.0001")
    assert outcome.summary.pnl.fees == -volume * Decimal("0.0001") * Decimal("0.00025")
    assert outcome.summary.pnl.total == -size * 4 * Decimal("0.0001") + outcome.summary.pnl.fees
    assert math.isclose(outcome.buckets["fees"].sum(), outcome.summary.pnl.fees)


@pytest.mark.slow
def test_the_books_are_those_of_the_fill_engine():
    # Random orders on a random market over midnight, with marks, funding, fees, rebates and takers.
    rng = np.random.default_rng(12)
    hour = fill_markets.hour_of(fill_markets.market_rows(rng, 2_500, start_ns=86_400 * S - 200_000))
    end = int(hour.venue_ns[-1])
    rates = StrategyRow(
        maker_fee_ppb=1_003,
        taker_fee_ppb=250_007,
        rebate_share_ppm=np.array([0, 5, 50_000, 0]),
        rebate_ppb=np.array([5_000_003, 20_011, 7_000_001, 0]),
        rebate_least_tick_lots=1,
        request_ns=1_000,
        reply_ns=1_000,
    )
    engine = FillEngine(MarketRow(replacement_counts_filled=True), [rates], orders_each=40)
    actions = fill_markets.requests(rng, 1, 600, end, start_ns=int(hour.venue_ns[0]))
    log = np.concatenate(list(engine.replay(hour, actions, np.zeros(2, np.int64), end + 10**9)))
    tally = Tally(BTC, entries(1, rates), OWN)
    tally.market(hour)
    tally.take(Piece(log, mid_rows([(int(hour.venue_ns[0]), 2 * fill_markets.MID)]), sample_rows([])))
    [outcome] = tally.finish(end, PlayedRun())
    pnl, unit = outcome.summary.pnl, Decimal("0.0001")
    s = engine.world.strategies[0]
    part = unit * Decimal("1E-11")
    assert s.fills == outcome.summary.fills.buys + outcome.summary.fills.sells > 50
    assert pnl.fees == -(unit * int(s.fees) + part * int(s.fees_frac))
    assert pnl.rebates == unit * int(s.rebates) + part * int(s.rebates_frac) > 0
    assert pnl.funding == unit * int(s.funding) + part * int(s.funding_frac) != 0
    assert outcome.summary.rebates_credited == unit * int(s.credited) + part * int(s.credited_frac) > 0
    traded = int(s.flow_tick_lots) + int(s.position_lots) * fill_markets.MID
    assert pnl.spread + pnl.adverse_selection + pnl.inventory == unit * traded
    marks = hour.ticks[(hour.kind & store.CODE_MASK) == store.MARK]
    assert pnl.basis == unit * int(s.position_lots) * (int(marks[-1]) - 100 * fill_markets.MID) / 100
    trades = np.isin(hour.kind & store.CODE_MASK, [4, 5, 6])
    volume = int((hour.ticks[trades] * hour.lots[trades].astype(np.int64)).sum())
    assert outcome.market_volume_usd == unit * volume
    assert outcome.summary.events == len(hour.kind)


def test_a_mid_of_the_same_instant_in_the_next_piece_still_counts(monkeypatch):
    monkeypatch.setattr(tally_module, "_ENOUGH_ROWS", 1)
    tally = Tally(BTC, entries(), OWN)
    log = log_rows([fill(2 * S, 1, 600_000, 1, position_lots=1)])
    tally.take(Piece(log, mid_rows([(S, 1_200_000), (7 * S, 1_200_010)]), sample_rows([])))
    tally.take(Piece(log_rows([]), mid_rows([(7 * S, 1_200_020)]), sample_rows([])))
    [outcome] = tally.finish(60 * S, PlayedRun())
    assert outcome.fills["mid2_5s"].tolist() == [1_200_020]
