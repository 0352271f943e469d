"""Stress days: the account's worst moments, the way out, and whole sessions."""

import io
import json
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from stress_bars import made_day

from market_maker.backtest.outcome import Label
from market_maker.backtest.stress import StressSettings, run_stress
from market_maker.backtest.stress_account import AccountPath, HourBooks, WayOut, walk_book
from market_maker.backtest.stress_outcome import Session, StressOutcome, stress_json, stress_table, together
from market_maker.config import load_config
from market_maker.domain import Reason
from market_maker.fills.rows import MAKER, TAKER, EventKind, LogRow, StrategyRow, rows_of
from market_maker.instrument import Instrument, MarginTier
from market_maker.recordings import store
from market_maker.recordings.store import Hour
from market_maker.risk_manager import RiskSettings
from market_maker.summary import OrderCounts, Uptime

TIERS = (MarginTier(Decimal(5_000), Decimal("0.02")), MarginTier(Decimal(10**9), Decimal("0.5")))
INSTRUMENT = Instrument("X", Decimal("0.5"), Decimal("0.01"), Decimal("0.01"), margin_tiers=TIERS)
USD = 0.005  # of a tick·lot
SECOND = 10**9
FEES = StrategyRow(taker_fee_ppb=250_000, maker_fee_ppb=100_000, request_ns=SECOND)


def hour_of(marks, books, start_ns=SECOND):
    """An hour with a mark each second, and before each a book of (bids, asks) with sizes of 10."""
    rows = []
    for n, (mark, (bids, asks)) in enumerate(zip(marks, books, strict=True)):
        ns = start_ns + n * SECOND
        rows.append((ns, store.CLEAR, 0, 0))
        rows += [(ns, store.LEVEL_BID, ticks, 10) for ticks in bids]
        rows += [(ns, store.LEVEL_ASK, ticks, 10) for ticks in asks[::-1]]
        rows[-1] = (ns, store.LEVEL_ASK | store.LAST, asks[0], 10)
        rows.append((ns, store.MARK | store.LAST, mark, 0))
    ns, kind, ticks, lots = zip(*rows, strict=True)
    return Hour(
        np.array(ns, np.int64),
        np.zeros(len(ns), np.int32),
        np.array(kind, np.uint8),
        np.array(ticks, np.int32),
        np.array(lots, np.uint32),
    )


def log_of(*fills):
    """Rows of the log from (ns, side, ticks, lots, role); one that is no fill comes first."""
    log = rows_of(LogRow, len(fills) + 1)
    log[0]["kind"] = EventKind.SENT
    for row, (ns, side, ticks, lots, role) in zip(log[1:], fills, strict=True):
        row["kind"], row["ns"], row["side"] = EventKind.FILL, ns, side
        row["price_ticks"], row["lots"], row["role"] = ticks, lots, role
    return log


FLAT = ((1_000, 990, 980), (1_002, 1_010, 1_020))


def path_of(log, hour, start_usd=100.0, leverage=0.0):
    path = AccountPath(INSTRUMENT, FEES, start_usd, leverage)
    path.take(log, HourBooks(hour))
    path.finish(log[:0], HourBooks(hour))
    return path


def test_equity_is_cash_and_the_position_at_the_mark_less_fees():
    hour = hour_of([100_100, 100_100, 90_000, 110_000], [FLAT] * 4)
    path = path_of(log_of((SECOND + 1, 1, 1_001, 20, TAKER)), hour)
    fee = 1_001 * 20 * USD * 0.00025
    expected = [0.0, -fee, 20 * (900 - 1_001) * USD - fee, 20 * (1_100 - 1_001) * USD - fee]
    assert np.concatenate(path.equity_usd) - 100.0 == pytest.approx(expected)
    assert path.max_fall_usd == pytest.approx(-expected[2])
    assert 100.0 - path.least_usd == pytest.approx(-expected[2])
    assert (path.fill_count, path.volume_usd) == (1, pytest.approx(1_001 * 20 * USD))
    assert path.max_position_usd == pytest.approx(1_100 * 20 * USD)
    assert path.worst.ns == 3 * SECOND


def test_the_way_out_walks_the_book_of_a_latency_later_and_pays_the_taker_fee():
    gone = ((500, 490, 400), (502, 510, 520))
    hour = hour_of([100_000, 80_000, 80_000, 100_000], [FLAT, FLAT, gone, FLAT])
    path = path_of(log_of((SECOND + 1, 1, 1_000, 15, MAKER)), hour)
    got = (10 * 500 + 5 * 490) * USD
    assert path.worst.position_usd == pytest.approx(15 * 800 * USD)
    assert path.worst.fee_usd == pytest.approx(got * 0.00025)
    assert path.worst.cost_usd == pytest.approx(15 * 800 * USD - got + got * 0.00025)
    assert path.worst.loss_usd == pytest.approx(path.max_fall_usd + path.worst.cost_usd)
    # At the end the market is where it was: two levels of the bids.
    assert path.end.position_usd == pytest.approx(15 * 1_000 * USD)
    assert path.end.cost_usd == pytest.approx(5 * 10 * USD + (10 * 1_000 + 5 * 990) * USD * 0.00025)


def test_a_short_position_buys_its_way_out():
    hour = hour_of([100_000, 104_000, 104_000], [FLAT] * 3)
    path = path_of(log_of((SECOND + 1, -1, 1_000, 12, MAKER)), hour)
    paid = (10 * 1_002 + 2 * 1_010) * USD
    assert path.worst.position_usd == pytest.approx(-12 * 1_040 * USD)
    assert path.worst.cost_usd == pytest.approx(paid - 12 * 1_040 * USD + paid * 0.00025)


def test_what_the_book_does_not_hold_trades_beyond_it():
    hour = hour_of([100_000, 90_000, 90_000], [FLAT] * 3)
    path = path_of(log_of((SECOND + 1, 1, 1_000, 40, MAKER)), hour)
    assert path.worst.beyond_lots == 10
    value, beyond = walk_book(np.array([100, 90]), np.array([5, 5]), 12)
    assert (value, beyond) == (5 * 100 + 5 * 90 + 2 * 90 * 0.95, 2)
    value, _ = walk_book(np.array([100, 110]), np.array([5, 5]), 12)
    assert value == pytest.approx(5 * 100 + 5 * 110 + 2 * 110 * 1.05)


def test_a_way_out_in_the_last_second_meets_the_next_hours_book():
    low = ((700, 690), (702, 710))
    first = hour_of([100_000, 80_000], [FLAT] * 2)
    second = hour_of([90_000, 90_000], [low, FLAT], 3 * SECOND)
    path = AccountPath(INSTRUMENT, FEES, 100.0)
    path.take(log_of((SECOND + 1, 1, 1_000, 10, MAKER)), HourBooks(first))
    assert path.worst.ns == 0
    path.take(log_of(), HourBooks(second))
    path.finish(log_of(), HourBooks(second))
    assert path.worst.ns == 2 * SECOND
    assert path.worst.cost_usd == pytest.approx(10 * (800 - 700) * USD + 7_000 * USD * 0.00025)


def test_what_fills_after_the_last_mark_counts_at_the_end():
    hour = hour_of([100_000, 100_000], [FLAT] * 2)
    path = AccountPath(INSTRUMENT, FEES, 100.0)
    path.take(log_of(), HourBooks(hour))
    path.finish(log_of((2 * SECOND + 1, 1, 900, 10, MAKER)), HourBooks(hour))
    assert path.end.equity_usd == pytest.approx(100.0 + 10 * 100 * USD - 9_000 * USD * 0.0001)
    assert path.end.position_usd == pytest.approx(10_000 * USD)


def test_liquidation_is_where_equity_falls_to_the_maintenance_margin():
    # 200 lots at 1,000 are 1,000 USD; the margin that keeps it is 1 %.
    log = log_of((SECOND + 1, 1, 1_000, 200, MAKER))
    fee = 0.1
    safe = path_of(log, hour_of([100_000, 91_000], [FLAT] * 2), 100.0 + fee)
    assert safe.liquidated_ns == 0
    assert safe.max_margin_ratio == pytest.approx(910 * 0.01 / 10)
    assert safe.max_margin_use == pytest.approx(910 * 0.02 / 10)
    gone = path_of(log, hour_of([100_000, 90_800, 90_000], [FLAT] * 3), 100.0 + fee)
    assert gone.liquidated_ns == 2 * SECOND
    assert gone.max_margin_ratio > 1.0


def test_margin_follows_leverage_and_tier():
    log = log_of((SECOND + 1, 1, 1_000, 200, MAKER))
    hour = hour_of([100_000, 100_000], [FLAT] * 2)
    assert path_of(log, hour, 1_000.1, leverage=5.0).max_margin_use == pytest.approx(0.2)
    large = path_of(log_of((SECOND + 1, 1, 1_000, 2_000, MAKER)), hour, 20_001.0)
    assert large.max_margin_use == pytest.approx(0.25)
    assert large.max_margin_ratio == pytest.approx(0.125)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5_999), st.sampled_from([1, -1]), st.integers(900, 1_100), st.integers(1, 30)
        ),
        max_size=20,
    ),
    st.lists(st.integers(80_000, 120_000), min_size=6, max_size=6),
    st.integers(1, 5),
)
def test_the_path_is_that_of_a_plain_account_wherever_hours_end(fills, marks, cut):
    fills = [(SECOND + ms * 10**6 + 1, *rest, MAKER) for ms, *rest in sorted(fills)]
    hours = [
        hour_of(marks[:cut], [FLAT] * cut),
        hour_of(marks[cut:], [FLAT] * (6 - cut), (1 + cut) * SECOND),
    ]
    path = AccountPath(INSTRUMENT, FEES, 1_000.0)
    edge = (1 + cut) * SECOND
    path.take(log_of(*(fill for fill in fills if fill[0] < edge)), HourBooks(hours[0]))
    path.take(log_of(*(fill for fill in fills if fill[0] >= edge)), HourBooks(hours[1]))
    path.finish(log_of(), HourBooks(hours[1]))
    equity, peak, fall, least = [], 1_000.0, 0.0, 1_000.0
    for n, mark in enumerate(marks):
        known = [fill for fill in fills if fill[0] <= (1 + n) * SECOND]
        cash = -sum(side * ticks * lots for _, side, ticks, lots, _ in known)
        held = sum(side * lots for _, side, _, lots, _ in known) * mark / 100
        fees = sum(ticks * lots for _, _, ticks, lots, _ in known) * USD * 0.0001
        equity.append(1_000.0 + (cash + held) * USD - fees)
        peak, least = max(peak, equity[-1]), min(least, equity[-1])
        fall = max(fall, peak - equity[-1])
    assert np.concatenate(path.equity_usd) == pytest.approx(equity)
    assert (path.max_fall_usd, path.least_usd) == (pytest.approx(fall, abs=1e-9), pytest.approx(least))


def test_the_book_at_an_instant_is_the_last_one_shown():
    other = ((900, 890), (950, 960))
    hour = hour_of([100_000] * 3, [FLAT, other, FLAT])
    books = HourBooks(hour)
    assert books.side_at(2 * SECOND + 5, store.LEVEL_BID)[0].tolist() == [900, 890]
    assert books.side_at(2 * SECOND - 1, store.LEVEL_ASK)[0].tolist() == [1_002, 1_010, 1_020]
    assert books.side_at(0, store.LEVEL_ASK)[0].tolist() == [1_002, 1_010, 1_020]


def test_the_dearest_way_out_is_found_where_the_book_is_thin_though_nothing_was_lost():
    thin = ((700,), (1_300,))
    shown = [FLAT] * 9 + [FLAT, FLAT, thin, thin] + [FLAT] * 8
    hour = hour_of([100_000] * len(shown), shown)
    path = path_of(log_of((SECOND + 1, 1, 1_000, 10, MAKER)), hour, 10_000.0)
    # The mark of the eleventh second is one of those that are looked at; an order gets there a second later.
    assert path.dearest.ns == 11 * SECOND
    assert path.dearest.cost_usd == pytest.approx(10 * 300 * USD + 7_000 * USD * 0.00025)
    assert path.max_loss_usd == pytest.approx(path.dearest.fall_usd + path.dearest.cost_usd)
    assert path.max_loss_usd > path.worst.loss_usd


ONE_MODEL = StressSettings(fill_models=("base",), latency_s=0.05)
# Near the touch, so that a short session trades; stopped by nothing but the position limit.
EAGER = [
    "offset_mode=fixed",
    "price_offset_per_level_percent=0.01",
    "min_edge_bps=0",
    "offset_latency_sigmas=0",
    "vol_regime_enabled=false",
    "toxicity_enabled=false",
    "jump_enabled=false",
    "trend_enabled=false",
]


@pytest.fixture(scope="module")
def played():
    """Two markets of a date, both profiles."""
    days = [made_day(20, 14), made_day(20, 15, seed=2, market="ETH")]
    configs = {name: load_config(profile=name) for name in ("crypto", "legacy")}
    told = []
    outcomes = run_stress(days, configs, ONE_MODEL, lambda *step: told.append(step))
    return SimpleNamespace(outcomes=outcomes, told=told, days=days, configs=configs)


@pytest.mark.slow
def test_each_market_has_its_sessions_and_they_share_one(played):
    found = [(one.session, one.market, one.label.name) for one in played.outcomes]
    each = [(name, who) for name in ("BTC", "ETH") for who in ("crypto", "legacy")]
    assert [(m, w) for s, m, w in found if s is Session.DAY] == each
    assert [(m, w) for s, m, w in found if s is Session.CRASH] == each
    assert [(m, w) for s, m, w in found if s is Session.SHARED] == each
    assert [(one.markets, one.label.name) for one in together(played.outcomes)] == [
        (("BTC", "ETH"), "crypto"),
        (("BTC", "ETH"), "legacy"),
    ]
    assert played.told[0] == ("2023-11-15 BTC, day", 1, 1)
    assert {name.partition(", ")[2] for name, _, _ in played.told} == {"day", "crash", "crash, one account"}


@pytest.mark.slow
def test_a_session_says_what_was_traded_and_lost(played):
    whole = [one for one in played.outcomes if one.session is Session.DAY]
    for one, day in zip(whole, [day for day in played.days for _ in range(2)], strict=True):
        assert one.uptime.quote_uptime + sum(one.uptime.pauses.values()) <= 1.0 + 1e-9
        assert one.orders.placed > 0
        assert 0.0 <= one.loss_usd <= one.max_fall_usd + 1e-9
        assert one.pnl_usd == pytest.approx(one.gain_usd[-1], abs=5.0)
        assert len(one.gain_usd) == 60 * len(day.lots)
        assert one.market_volume_usd == pytest.approx(
            float((day.lots * day.ticks[:, 3]).sum()) * 0.0001, rel=0.2
        )
        assert one.holds


@pytest.mark.slow
def test_a_shared_account_adds_its_markets_up(played):
    shared = [one for one in played.outcomes if one.session is Session.SHARED]
    for account in together(played.outcomes):
        parts = [one for one in shared if one.label == account.label]
        assert account.pnl_usd == pytest.approx(sum(one.pnl_usd for one in parts))
        assert account.max_fall_usd <= sum(one.max_fall_usd for one in parts) + 1e-6
        assert account.fills == sum(one.fills for one in parts)
        assert account.max_margin_ratio < 0.2


@pytest.mark.slow
def test_table_and_json_say_the_same(played):
    out = io.StringIO()
    Console(file=out, width=100).print(stress_table(played.outcomes))
    text = out.getvalue()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    entries = json.loads(json.dumps(stress_json(played.outcomes)))
    assert len(entries) == len(played.outcomes) + 2
    assert {entry["session"] for entry in entries} == {"day", "crash", "shared"}
    first, one = entries[0], played.outcomes[0]
    assert first["largest_fall_flattened_usd"] == pytest.approx(one.max_loss_usd, abs=0.01)
    assert (first["stress_loss_limit_usd"], first["liquidated"], first["holds"]) == (3_000.0, None, True)
    assert all(f"{entry['pnl_usd']:,.0f}" in text for entry in entries if abs(entry["pnl_usd"]) >= 1)


def test_large_figures_fit_a_terminal():
    way = WayOut(1, 9_000.0, 1_012.0, 5_000.0, 1_100.0, 1.0)
    label = Label("crypto", "crypto", "pessimistic", 1.0)
    one = StressOutcome(
        session=Session.DAY,
        market="DOGE-USD",
        date="2021-05-19",
        label=label,
        uptime=Uptime(0, 1, 1.0),
        orders=OrderCounts(),
        fills=12_345,
        volume_usd=1.2e7,
        market_volume_usd=1e9,
        pnl_usd=-12_345.0,
        fees_usd=0.0,
        loss_usd=2_000.0,
        max_fall_usd=2_000.0,
        risk=RiskSettings(),
        max_position_usd=10_000.0,
        max_margin_use=1.0,
        max_margin_ratio=0.123,
        liquidated_ns=0,
        halt=Reason.RISK_DRAWDOWN,
        max_loss_usd=3_100.0,
        worst=way,
        dearest=way,
        end=way,
        gain_usd=np.array([0.0, -2_000.0]),
    )
    out = io.StringIO()
    shared = [
        replace(one, session=Session.SHARED, market=name) for name in ("BTC-USD", "DOGE-USD", "ETH-USD")
    ]
    Console(file=out, width=100).print(stress_table([one, replace(one, session=Session.CRASH), *shared]))
    assert "…" not in out.getvalue()
    assert out.getvalue().count("NO, stop") == 3


@pytest.mark.slow
def test_the_same_days_give_the_same_outcomes(played):
    again = run_stress(played.days[:1], played.configs, ONE_MODEL)
    for one, other in zip(again, [one for one in played.outcomes if one.market == "BTC"], strict=False):
        assert one.gain_usd.tobytes() == other.gain_usd.tobytes()
        assert replace(one, gain_usd=other.gain_usd) == other


@pytest.mark.slow
def test_an_account_without_stops_or_money_is_liquidated_and_says_so():
    day = made_day(20, 12, fall=0.5)
    eager = [*EAGER, "max_drawdown_usd=0", "max_day_loss_usd=0", "warmup_limit_scale=1"]
    poor = replace(ONE_MODEL, start_equity_usd=150.0)
    outcomes = run_stress([day], {"eager": load_config(eager)}, poor)
    assert outcomes[0].fills > 10
    assert outcomes[0].liquidated_ns >= day.start_ns + 12 * 60 * SECOND
    assert not outcomes[0].holds
    assert stress_json(outcomes)[0]["liquidated"].startswith("2023-11-15T00:1")


@pytest.mark.slow
def test_markets_of_one_account_stop_together():
    days = [made_day(20, 12, fall=0.3), made_day(20, 12, seed=2, market="ETH", fall=0.3)]
    config = load_config([*EAGER, "max_drawdown_usd=60", "max_day_loss_usd=0"])
    outcomes = [
        one for one in run_stress(days, {"eager": config}, ONE_MODEL) if one.session is Session.SHARED
    ]
    assert [one.halt for one in outcomes] == [Reason.RISK_DRAWDOWN] * 2
    (account,) = together(outcomes)
    assert account.halt is Reason.RISK_DRAWDOWN
    assert account.max_fall_usd >= 60
