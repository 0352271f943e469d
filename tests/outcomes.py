"""Outcomes of a backtest that never was: a random walk, quotes around it, fills by chance."""

from dataclasses import replace
from decimal import Decimal

import numpy as np

from market_maker.backtest.outcome import (
    ALL_LEVELS,
    CURVE_DTYPE,
    FIGURES,
    FILL_DTYPE,
    HORIZONS_S,
    Interval,
    Label,
    Markout,
    Outcome,
)
from market_maker.domain import NS_PER_S, Reason
from market_maker.ledger import PnlParts
from market_maker.summary import FillSummary, InventorySummary, OrderCounts, RunSummary, Uptime

START_NS = 1_757_015_216 * NS_PER_S
PARTS = ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding")


def curve(points, seed=1):
    draw = np.random.default_rng(seed)
    rows = np.zeros(points, CURVE_DTYPE)
    rows["ns"] = START_NS + np.arange(points) * NS_PER_S
    mid = 44_000 + np.cumsum(draw.normal(0, 1.5, points)).round().astype(int)
    rows["mid2_ticks"] = 2 * mid
    rows["position_lots"] = np.cumsum(draw.integers(-1, 2, points)) * 10
    for part, drift in zip(PARTS, (0.02, -0.015, 0.0, -0.001, 0.0005, 0.0), strict=True):
        rows[part] = np.cumsum(draw.normal(drift, 0.03 if part == "inventory" else abs(drift), points))
    rows["total"] = sum(rows[part] for part in PARTS)
    rows["bid_ticks"] = np.where(draw.random(points) < 0.05, 0, mid - 8)
    rows["ask_ticks"] = np.where(draw.random(points) < 0.05, 0, mid + 8)
    rows["regime"] = np.clip((np.arange(points) * 6 // points) % 5, 0, 3)
    rows["trend"] = np.sin(np.arange(points) / points * 9)
    rows["paused"] = np.where((rows["bid_ticks"] == 0) & (rows["ask_ticks"] == 0), Reason.JUMP, 0)
    return rows


def fills(of, count, seed=2):
    draw = np.random.default_rng(seed)
    rows = np.zeros(count, FILL_DTYPE)
    at = np.sort(draw.integers(0, len(of), count))
    rows["ns"] = of["ns"][at]
    rows["order_id"] = np.arange(count) + 1
    rows["level"] = draw.integers(0, 2, count)
    rows["side"] = draw.choice([-1, 1], count)
    rows["lots"] = draw.integers(1, 30, count)
    rows["mid2_ticks"] = of["mid2_ticks"][at]
    rows["price_ticks"] = rows["mid2_ticks"] // 2 - rows["side"] * 8
    for name in ("mid2_1s", "mid2_5s", "mid2_30s"):
        rows[name] = rows["mid2_ticks"] + draw.integers(-8, 8, count)
    rows["queue_ahead_lots"] = draw.exponential(200, count)
    rows["age_ns"] = (draw.exponential(8, count) * NS_PER_S).astype(int)
    return rows


def outcome(
    name="crypto", market="ETH-USD", fill_model="base", latency_s=0.25, *, points=2000, count=120, seed=1
):
    line = curve(points, seed)
    centre = float(line["total"][-1]) / 10
    found = {
        figure: Interval(centre / at, centre / at - 1.2, centre / at + 0.9, 0.95, 25)
        for at, figure in enumerate(FIGURES, 1)
    }
    parts = [Decimal(f"{float(line[part][-1]):.6f}") for part in PARTS]
    summary = RunSummary(
        name=name,
        market=market,
        profile="legacy" if name == "legacy" else "crypto",
        fill_model=fill_model,
        uptime=Uptime(
            START_NS,
            START_NS + points * NS_PER_S,
            0.93,
            0.95,
            {"POSITION_LIMIT": 0.02},
            {"JUMP": 0.03, "QUOTE_FAR": 0.02},
        ),
        pnl=PnlParts(*parts, basis=Decimal(0)),
        events=100_000,
        orders=OrderCounts(400, 900, 380, 3),
        fills=FillSummary(count // 2, count - count // 2, 1.0, Decimal("123456.78")),
        inventory=InventorySummary(Decimal("2200.5"), Decimal(5000), Decimal("-120.25"), 0),
        markouts_bps={1: -0.4, 5: -0.7, 30: -0.2},
    )
    markouts = [
        Markout(side, level, horizon, -0.1 * horizon, 1.5 - 0.1 * horizon, 30, 30_000.0)
        for side in (-1, 0, 1)
        for level in (ALL_LEVELS, 0, 1)
        for horizon in HORIZONS_S
    ]
    return Outcome(
        label=Label(name, summary.profile, fill_model, latency_s),
        market=market,
        summary=summary,
        tick=Decimal("0.1"),
        step=Decimal("0.001"),
        intervals=found,
        market_volume_usd=Decimal(40_000_000),
        volume_share=0.003,
        conclusions=("The taker side of this market's trades is inferred.",),
        fills=fills(line, count, seed + 7),
        curve=line,
        markouts=tuple(markouts),
        seconds=float(points),
        turnover_per_day=210.0,
        max_drawdown_usd=4.25,
        fill_ratio=0.081,
        time_to_fill_s={"p10": 0.5, "p50": 6.2, "p90": 31.0, "p99": 80.0},
        queue_ahead_lots={"p10": 5.0, "p50": 140.0, "p90": 800.0, "p99": 2000.0},
        pnl_per_hour_usd=1.5,
        pnl_per_inventory_risk=0.4,
        sigma_bps=7.0,
        mean_abs_inventory_usd=900.0,
    )


def without_trading(of):
    """The same, had nothing been filled."""
    return replace(
        of,
        intervals={},
        fills=of.fills[:0],
        markouts=(),
        fill_ratio=0.0,
        time_to_fill_s={},
        queue_ahead_lots={},
        summary=replace(of.summary, fills=FillSummary(), markouts_bps={}),
    )


def many(market="ETH-USD", latencies=(0.01, 0.25, 1.0), models=("pessimistic", "base", "optimistic")):
    names = ("crypto", "legacy", "symmetric", "avellaneda_stoikov", "glft")
    return [
        outcome(name, market, model, latency, seed=100 * a + 10 * b + c)
        for a, latency in enumerate(latencies)
        for b, model in enumerate(models)
        for c, name in enumerate(names)
    ]
