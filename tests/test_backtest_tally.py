"""The tally: exact parts that equal the live ledger's, figures that do not depend on how a run was cut."""

import math
from collections import defaultdict
from decimal import Decimal

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
from market_maker.fills.rows import MAKER, TAKER, EventKind, StrategyRow
from market_maker.gateway import Fill, FillReport, FundingPayment
from market_maker.instrument import Instrument
from market_maker.ledger import Ledger, OpeningPosition
from market_maker.recordings import store

ODD = Instrument("X-USD", Decimal("0.003"), Decimal("0.07"), Decimal("0.07"))
BTC = Instrument("BTC-USD", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"))
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
    before = [m for ns, m in mids if ns <= start]
    earlier = [row["position_lots"] for row in log if row["ns"] < start]
    lots, opening2 = (earlier[-1] if earlier else 0), (before[-1] if before else mids[0][1])
    mark0 = instrument.tick * marks[0] / 100 if marks[0] else instrument.tick * opening2 / 2
    ledger = Ledger(
        {instrument.name: instrument}, Decimal(0), {instrument.name: OpeningPosition(lots, opening2, mark0)}
    )
    happened = [(ns, 1, m) for ns, m in mids if ns > start]
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
