"""Scripted markets, the crypto profile beside the legacy one, on a host whose orders rest at once."""

import math
import os
import tomllib
from collections import Counter
from dataclasses import replace
from importlib import resources
from typing import NamedTuple

import numpy as np
import pytest

from market_maker import reprice_pipeline as pipeline
from market_maker.domain import NS_PER_S, Action, Reason, Side
from market_maker.kernel import new_row
from market_maker.pricing_engine import MarketParams
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, Slot, State, read_decision

STEP_S = 0.5
START_NS = 1_700_000_000 * NS_PER_S
FIRST_MID = 84_000.0
LIMIT_LOTS = 12_000
MANY = 10**9
# Interpreted, a decision takes a hundred times as long: the same claims on the first part of each market.
INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT") == "1"
MARKET = MarketParams(min_lots=10, tick_lot_usd=1e-5)


def profile(name):
    """Params of a profile, as the configuration builds them."""
    params = Params(market=MARKET)
    if name == "crypto":
        return params
    text = (resources.files("market_maker") / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
    sections = {}
    for section, values in tomllib.loads(text).items():
        default = vars(params)[section]
        enums = {
            key: type(vars(default)[key])[value.upper()]
            for key, value in values.items()
            if isinstance(value, str)
        }
        sections[section] = replace(default, **(values | enums))
    return replace(params, **sections)


class Summary(NamedTuple):
    peak_lots: int
    position_lots: int
    orders: int
    fills: int
    two_sided: float
    halved_s: float
    reasons: Counter


class MiniHost:
    """One market whose takers reach an exponential distance from the mid, and take an exponential size."""

    def __init__(self, name, position_lots=0, seed_sigma_bps=5.0):
        self.params = new_row(profile(name))
        self.state = new_row(State())
        self.book = new_row(BookRow())
        self.decision = new_row(DecisionRow())
        self.account = new_row(
            Account(
                position_lots=position_lots,
                effective_inventory_lots=float(position_lots),
                limit_long_lots=LIMIT_LOTS,
                limit_short_lots=LIMIT_LOTS,
                order_latency_s=0.05,
            )
        )
        self.slots = [new_row(Slot(side=side, level=level)) for side in Side for level in (0, 1)]
        self.orders = self.fills = self.two_sided = self.steps = 0
        self.peak = abs(position_lots)
        self.reasons = Counter()
        closes = FIRST_MID * np.exp(1e-4 * seed_sigma_bps * (np.arange(20) % 2))
        pipeline.seed(self.params, self.state, closes, closes.size)

    @property
    def position(self):
        return int(self.account[0].position_lots)

    def take(self, side, worst_ticks, lots=MANY):
        """A taker of a side takes up to a size, to no worse than a price."""
        for row in sorted(self.slots, key=lambda row: side * row[0].price_ticks):
            slot = row[0]
            if slot.resting and slot.side == -side and side * (worst_ticks - slot.price_ticks) >= 0:
                filled = min(lots, int(slot.remaining_lots))
                lots -= filled
                self.account[0].position_lots += slot.side * filled
                self.account[0].effective_inventory_lots = float(self.position)
                slot.remaining_lots -= filled
                slot.resting = slot.remaining_lots > 0
                self.fills += filled > 0
        self.peak = max(self.peak, abs(self.position))
        self.count_siblings()

    def count_siblings(self):
        for row in self.slots:
            same = [other[0] for other in self.slots if other[0].side == row[0].side]
            row[0].inner_lots = sum(s.remaining_lots for s in same if s.level < row[0].level)
            row[0].outer_lots = sum(s.remaining_lots for s in same if s.level > row[0].level)

    def apply(self, slot, decision, now_ns):
        if decision.action == Action.KEEP:
            return
        slot.resting = decision.action != Action.CANCEL
        slot.remaining_lots = slot.size_lots = decision.size_lots
        slot.price_ticks = decision.price_ticks
        slot.reduce_only = decision.reduce_only
        slot.placed_ns = slot.last_change_ns = now_ns
        self.orders += 1
        self.count_siblings()

    def step(self, mid, now_ns):
        bid = math.floor(mid)
        # The market ran through what rests beyond its new best prices.
        self.take(Side.SELL, bid + 1)
        self.take(Side.BUY, bid)
        self.book[0] = (bid, 500_000, bid + 1, 500_000, 2_000_000, 2_000_000, now_ns, now_ns)
        self.account[0].mark_ticks = mid
        self.account[0].last_frame_ns = now_ns
        pipeline.observe_book(self.params, self.state, self.book, now_ns)
        for row in self.slots:
            pipeline.decide(self.params, self.state, self.account, row, self.decision, now_ns)
            decision = read_decision(self.decision)
            self.apply(row[0], decision, now_ns)
            self.reasons[decision.reason] += 1
        self.two_sided += len({int(row[0].side) for row in self.slots if row[0].resting}) == 2
        self.steps += 1


def run(name, seconds, sigma_bps, drift_bps_s=0.0, position_lots=0, buyers=0.5, rng_seed=7):
    """Run a market: takers come once in two seconds, and buyers among them with a given share."""
    rng = np.random.default_rng(rng_seed)
    host = MiniHost(name, position_lots, sigma_bps)
    mid, halved_s = FIRST_MID, math.inf
    for i in range(int(seconds / STEP_S)):
        noise_bps = sigma_bps * math.sqrt(STEP_S / 60.0) * rng.standard_normal()
        mid *= math.exp(1e-4 * (drift_bps_s * STEP_S + noise_bps))
        host.step(mid, START_NS + int(i * STEP_S * NS_PER_S))
        taker, buys, reach = rng.random(), rng.random(), rng.exponential(0.4 * sigma_bps)
        lots = int(rng.exponential(600.0)) + 1
        if taker < STEP_S / 2.0:
            side = Side.BUY if buys < buyers else Side.SELL
            # Nobody takes less than the best price.
            touch = math.floor(mid) + (1 if side == Side.BUY else 0)
            reached = mid * (1.0 + side * 1e-4 * reach)
            host.take(side, max(reached, touch) if side == Side.BUY else min(reached, touch), lots)
        if halved_s == math.inf and abs(host.position) * 2 <= abs(position_lots):
            halved_s = i * STEP_S
    return Summary(
        host.peak,
        host.position,
        host.orders,
        host.fills,
        host.two_sided / host.steps,
        halved_s,
        host.reasons,
    )


def span_s(compiled, interpreted):
    return interpreted if INTERPRETED else compiled


def time_to_halve_s(name, **market):
    rng_seeds = (4,) if INTERPRETED else (1, 3, 4, 5)
    return sum(run(name, rng_seed=rng_seed, **market).halved_s for rng_seed in rng_seeds)


@pytest.mark.slow
def test_a_ramp_leaves_a_smaller_peak_inventory():
    ramp = {"seconds": span_s(600, 90), "sigma_bps": 5.0, "drift_bps_s": 2.0, "buyers": 0.8}
    crypto, legacy = run("crypto", **ramp), run("legacy", **ramp)
    assert 0 < crypto.peak_lots < 0.7 * legacy.peak_lots


@pytest.mark.slow
@pytest.mark.parametrize("sigma_bps", [2.0, 5.0, 15.0])
def test_from_most_of_the_limit_a_flat_market_halves_the_inventory_sooner(sigma_bps):
    flat = {"seconds": span_s(30, 10), "sigma_bps": sigma_bps, "position_lots": round(0.8 * LIMIT_LOTS)}
    crypto, legacy = (time_to_halve_s(name, **flat) for name in ("crypto", "legacy"))
    assert crypto < legacy < math.inf


@pytest.mark.slow
def test_legacy_pauses_on_a_wild_market_where_crypto_quotes():
    wild = {"seconds": span_s(150, 30), "sigma_bps": 30.0}
    crypto, legacy = run("crypto", **wild), run("legacy", **wild)
    assert crypto.two_sided > 0.9
    assert legacy.two_sided < 0.6
    assert legacy.reasons[Reason.TOXIC_VOLATILITY] > crypto.reasons[Reason.TOXIC_VOLATILITY]


@pytest.mark.slow
@pytest.mark.parametrize("sigma_bps", [2.0, 5.0, 30.0])
def test_the_same_market_takes_fewer_orders(sigma_bps):
    market = {"seconds": span_s(60, 15), "sigma_bps": sigma_bps}
    assert run("crypto", **market).orders < run("legacy", **market).orders


@pytest.mark.slow
def test_a_calm_market_is_quoted_and_traded_on_both_sides_all_the_time():
    calm = run("crypto", seconds=span_s(120, 60), sigma_bps=3.0)
    assert calm.two_sided == 1.0
    assert calm.fills > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["crypto", "legacy"])
def test_no_market_takes_the_position_past_the_limit(name):
    one_sided = run(name, seconds=span_s(150, 40), sigma_bps=9.0, buyers=1.0)
    assert one_sided.peak_lots <= LIMIT_LOTS


def test_the_legacy_profile_is_static():
    legacy = profile("legacy")
    skew = legacy.skew.skew_max_bps * legacy.skew.inventory_skew_factor
    assert (skew, legacy.skew.skew_sigma_multiple) == (10.0, 0.0)
    assert (legacy.regime.vol_regime_enabled, legacy.trend.trend_enabled) == (False, False)
    assert (legacy.toxicity.micro_vol_max_bps, legacy.toxicity.micro_drift_max_bps) == (8.0, 6.0)
    assert (legacy.reprice.min_reprice_interval_s, legacy.reprice.max_order_age_s) == (0.5, 15.0)
