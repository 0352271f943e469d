"""The summary: time without rest, exact money, the fields that the design names."""

import io
import json
from decimal import Decimal
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from market_maker.domain import Reason
from market_maker.round_trips import GridSummary
from market_maker.summary import (
    FillSummary,
    InventorySummary,
    OrderCounts,
    Quotes,
    RunSummary,
    Uptime,
    UptimeTracker,
    as_dict,
    is_good_quote,
    money,
    summary_table,
    to_json,
)

S = 1_000_000_000
START = 1_767_657_600 * S  # 2026-01-06T00:00:00Z
HOUR = Uptime(START, START + 3600 * S, 0.97, 0.98, {"POSITION_LIMIT": 0.01}, {"TOXIC_VOLATILITY": 0.02})


class Parts(NamedTuple):
    total: Decimal
    spread: Decimal
    adverse_selection: Decimal
    inventory: Decimal
    fees: Decimal
    rebates: Decimal
    funding: Decimal
    basis: Decimal


def quotes(bid=Reason.NONE, ask=Reason.NONE, *, extreme=False):
    """Standing of the quotes: a side is good where its reason is NONE."""
    return Quotes(bid is Reason.NONE, ask is Reason.NONE, bid, ask, extreme)


@pytest.mark.parametrize(
    ("resting", "distance", "spread", "sigma", "good"),
    [
        (10, 0.0, 1.0, 0.0, True),
        (5, -3.0, 1.0, 0.0, True),
        (4, 0.0, 1.0, 0.0, False),
        (0, 0.0, 1.0, 0.0, False),
        (10, 3.1, 1.0, 0.0, False),
        (10, 3.1, 1.0, 3.1, True),
        (10, -8.0, 1.0, 7.9, False),
        (10, float("nan"), 1.0, 7.9, False),
    ],
)
def test_what_counts_as_a_quote(resting, distance, spread, sigma, good):
    assert is_good_quote(resting, 10, distance, spread, sigma) is good


def test_a_level_of_size_zero_has_no_quote():
    assert not is_good_quote(0, 0, 0.0, 1.0, 1.0)


def test_time_is_split_by_reason_from_the_first_quote_on():
    tracker = UptimeTracker(0)
    tracker.update(5 * S, quotes(Reason.NO_BOOK, Reason.NO_BOOK))
    tracker.update(10 * S, quotes())
    tracker.update(50 * S, quotes(Reason.POSITION_LIMIT))
    tracker.update(60 * S, quotes(ask=Reason.STRONG_TREND))
    tracker.update(80 * S, quotes(ask=Reason.TOXIC_DRIFT))
    tracker.update(85 * S, quotes(Reason.IMBALANCE, Reason.STALE_BOOK))
    tracker.update(90 * S, quotes(Reason.EXTREME_REGIME, Reason.EXTREME_REGIME, extreme=True))
    tracker.update(100 * S, quotes(extreme=True))
    report = tracker.report(110 * S)
    assert (report.start_ns, report.end_ns) == (10 * S, 110 * S)
    assert report.quote_uptime == 0.5
    assert report.quote_uptime_outside_extreme == 0.5
    assert report.one_sided == {"STRONG_TREND": 0.2, "POSITION_LIMIT": 0.1}
    assert report.pauses == {"EXTREME_REGIME": 0.1, "TOXIC_DRIFT": 0.05, "IMBALANCE": 0.05}


def test_two_limits_at_once_are_a_pause():
    tracker = UptimeTracker(0)
    tracker.update(0, quotes())
    tracker.update(1, quotes(Reason.POSITION_LIMIT, Reason.STRONG_TREND))
    assert tracker.report(2).pauses == {"POSITION_LIMIT": 0.5}


def test_where_nothing_was_quoted_the_pauses_say_why():
    tracker = UptimeTracker(10)
    tracker.update(12, quotes(Reason.NO_BOOK, Reason.NO_BOOK))
    report = tracker.report(20)
    assert (report.start_ns, report.quote_uptime) == (10, 0.0)
    assert report.pauses == {"NO_BOOK": 0.8, "STARTING": 0.2}


def test_all_time_extreme():
    tracker = UptimeTracker(0)
    tracker.update(0, quotes(extreme=True))
    report = tracker.report(5)
    assert (report.quote_uptime, report.quote_uptime_outside_extreme) == (1.0, 0.0)


def test_no_time_has_passed():
    assert UptimeTracker(7).report(7) == Uptime(7, 7)


def test_reporting_changes_nothing_and_time_does_not_run_backwards():
    tracker = UptimeTracker(0)
    tracker.update(0, quotes())
    assert tracker.report(10) == tracker.report(10)
    tracker.update(10, quotes(Reason.JUMP, Reason.JUMP))
    tracker.update(5, quotes())
    report = tracker.report(20)
    assert report.quote_uptime == 1.0
    assert report.end_ns == 20


reasons = st.sampled_from(Reason)
standings = st.builds(Quotes, st.booleans(), st.booleans(), reasons, reasons, st.booleans())


@given(
    steps=st.lists(st.tuples(st.integers(-3, 10**12), standings), max_size=20), rest=st.integers(1, 10**12)
)
def test_shares_add_up_to_one(steps, rest):
    tracker = UptimeTracker(START)
    now = START
    for step, standing in steps:
        now += step
        tracker.update(now, standing)
    report = tracker.report(now + rest + 100)
    shares = [report.quote_uptime, *report.one_sided.values(), *report.pauses.values()]
    assert sum(shares) == pytest.approx(1.0, abs=1e-9)
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert 0.0 <= report.quote_uptime_outside_extreme <= 1.0


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9))
def test_money_is_exact(amount):
    text = money(amount)
    assert Decimal(text) == amount
    assert "E" not in text
    assert len(text.partition(".")[2]) >= 2


def run(name="crypto", market="BTC-USD", **changes):
    values = {
        "name": name,
        "market": market,
        "profile": "crypto",
        "fill_model": "base",
        "uptime": HOUR,
        "pnl": Parts(*map(Decimal, ("1.5", "2", "-0.25", "0", "-0.5", "0.25", "0", "0.125"))),
        "events": 123456,
        "orders": OrderCounts(60, 30, 30, 2),
        "fills": FillSummary(3, 4, 0.875, Decimal("1234.5")),
        "inventory": InventorySummary(Decimal(500), Decimal(1000), Decimal("-20.125"), 1),
        "markouts_bps": {30: float("nan"), 1: 0.5, 5: -0.25},
        "decision_p50_us": 21.0,
        "decision_p99_us": 80.5,
        "open_orders_at_end": 0,
    }
    return RunSummary(**values | changes)


def test_fields_are_those_of_the_design():
    assert json.loads(to_json([run()])) == {
        "runs": [
            {
                "name": "crypto",
                "market": "BTC-USD",
                "profile": "crypto",
                "fill_model": "base",
                "start": "2026-01-06T00:00:00Z",
                "end": "2026-01-06T01:00:00Z",
                "seconds": 3600.0,
                "events": 123456,
                "quote_uptime": 0.97,
                "quote_uptime_outside_extreme": 0.98,
                "one_sided": {"POSITION_LIMIT": 0.01},
                "pauses": {"TOXIC_VOLATILITY": 0.02},
                "orders": {"placed": 60, "replaced": 30, "cancelled": 30, "rejected": 2, "per_minute": 2.0},
                "fills": {"count": 7, "buys": 3, "sells": 4, "maker_share": 0.875, "volume_usd": "1234.50"},
                "pnl_usd": {
                    "total": "1.50",
                    "spread": "2.00",
                    "adverse_selection": "-0.25",
                    "inventory": "0.00",
                    "fees": "-0.50",
                    "rebates": "0.25",
                    "funding": "0.00",
                    "basis": "0.125",
                },
                "inventory_usd": {
                    "max_abs": "500.00",
                    "limit": "1000.00",
                    "end": "-20.125",
                    "limit_breaches": 1,
                },
                "markout_bps": {"1": 0.5, "5": -0.25, "30": 0.0},
                "decision_us": {"p50": 21.0, "p99": 80.5},
                "open_orders_at_end": 0,
            }
        ]
    }


def test_rebates_credited_stand_beside_those_accrued():
    entry = as_dict(run(rebates_credited=Decimal("0.1")))
    assert entry["pnl_usd"]["rebates_credited"] == "0.10"


def test_a_run_without_time():
    entry = as_dict(run(uptime=Uptime(START + 1_500_000, START + 1_500_000)))
    assert entry["start"] == "2026-01-06T00:00:00.001Z"
    assert (entry["seconds"], entry["orders"]["per_minute"]) == (0.0, 0.0)


def test_table_is_readable_at_80_columns():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table([run(market=name) for name in ("BTC-USD", "ETH-USD", "WILD-USD", "SOL-USD")]))
    text = console.export_text()
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "…" not in text
    for words in (
        "BTC-USD",
        "SOL-USD",
        "TOXIC_VOLATILITY",
        "97.0%",
        "adverse selection USD",
        "30 s",
        "markout bps",
    ):
        assert words in text


def test_table_of_nothing():
    assert summary_table([]).renderables == []


def test_table_shows_dashes_where_there_is_nothing():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(summary_table([run(uptime=Uptime(0, 0), markouts_bps={})]))
    assert console.export_text().count(" -│") >= 3


def test_a_ladder_stands_beside_the_rest():
    grid = GridSummary(
        round_trips=7,
        pnl_usd=Decimal("1.2345"),
        spread_usd=Decimal("1.5"),
        fees_usd=Decimal("0.2655"),
        open_lines=2,
        hole=-2,
        anchor=Decimal("84000.5"),
        spacing_bps=12.5,
        line_size=Decimal("0.01"),
        anchored=3,
    )
    runs = [run(), run(grid=grid)]
    assert "grid" not in as_dict(runs[0])
    assert json.loads(to_json(runs))["runs"][1]["grid"] == {
        "round_trips": 7,
        "pnl_usd": "1.2345",
        "spread_usd": "1.50",
        "fees_usd": "0.2655",
        "open_lines": 2,
        "hole": -2,
        "anchor": "84000.50",
        "spacing_bps": 12.5,
        "line_size": "0.01",
        "anchored": 3,
    }
    console = Console(width=100, file=io.StringIO(), color_system=None)
    console.print(summary_table(runs))
    rows = [line for line in console.file.getvalue().splitlines() if "grid" in line]
    assert ["84000.5 / -2" in row for row in rows].count(True) == 1
    assert len(rows) == 5
    assert all(" - " in row for row in rows)
