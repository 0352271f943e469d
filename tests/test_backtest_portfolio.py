"""Several markets in one account: their slices of time, the limits that they share."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_backtest_runner import INSTRUMENT, contestant, cut, market

from market_maker.backtest.host import MarketMakerRun
from market_maker.backtest.portfolio import Seat, SharedAccount, side_by_side
from market_maker.domain import Reason
from market_maker.exposure import PUSD_PER_USD
from market_maker.fills.rows import EventKind

SLICE_NS = 200_000_000
FREE = {"max_drawdown_usd": 0.0, "max_day_loss_usd": 0.0}


def play(hours, contestants, slice_ns=SLICE_NS, look=True, watch=lambda runs: None):
    """Runs and logs of markets that everybody plays in, each contestant with one account."""
    runs = [MarketMakerRun(INSTRUMENT, contestants) for _ in hours]
    names = range(len(contestants))
    account = SharedAccount(
        {k: [Seat(run, k) for run in runs] for k in names}, {k: contestants[k].risk for k in names}
    )
    logs = [[] for _ in runs]
    for slices in side_by_side([[hour] for hour in hours], 0, slice_ns):
        for run, pieces, log in zip(runs, slices, logs, strict=True):
            log += [played.log for piece in pieces for played in run.feed(piece)]
        if look:
            account.look()
            watch(runs)
    for run, log in zip(runs, logs, strict=True):
        log += [played.log for played in run.finish()]
    return runs, [np.concatenate(log) for log in logs]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=3), st.integers(1, 3_000), st.integers(0, 2**32))
def test_every_row_comes_once_in_its_slice(sizes, slice_ms, seed):
    rng = np.random.default_rng(seed)
    hours = [market(seed + i, rows) for i, rows in enumerate(sizes)]
    streams = [cut(hour, rng.integers(0, len(hour.kind), 3)) for hour in hours]
    slice_ns = slice_ms * 1_000_000
    found = [[] for _ in hours]
    last = -1
    for slices in side_by_side(streams, 0, slice_ns):
        stamps = np.concatenate([piece.venue_ns for pieces in slices for piece in pieces])
        [number] = set((stamps // slice_ns).tolist())
        assert number > last
        last = number
        for rows, pieces in zip(found, slices, strict=True):
            rows.extend(pieces)
    for hour, pieces in zip(hours, found, strict=True):
        for name, column in hour._asdict().items():
            assert np.array_equal(column, np.concatenate([getattr(piece, name) for piece in pieces]))


@pytest.mark.slow
def test_without_common_limits_an_account_plays_as_each_market_alone():
    hours = [market(1), market(2)]
    players = [contestant(), contestant(250)]
    players = [replace(player, risk=replace(player.risk, **FREE)) for player in players]
    _, together = play(hours, players, look=False)
    for hour, log in zip(hours, together, strict=True):
        assert MarketMakerRun(INSTRUMENT, players).run([hour]).log.tobytes() == log.tobytes()


def held_usd(logs, k):
    """Largest notional of all markets at once, at a price that no market reaches."""
    events = np.concatenate([log[(log["strategy"] == k) & (log["kind"] == EventKind.FILL)] for log in logs])
    market_of = np.concatenate(
        [
            np.full(int(((log["strategy"] == k) & (log["kind"] == EventKind.FILL)).sum()), i)
            for i, log in enumerate(logs)
        ]
    )
    positions, most = [0] * len(logs), 0
    for at in np.argsort(events["ns"], kind="stable").tolist():
        positions[market_of[at]] = int(events["position_lots"][at])
        most = max(most, sum(map(abs, positions)))
    return most * 61_000 * 0.001


@pytest.mark.slow
def test_markets_cannot_pass_the_gross_limit_together():
    hours = [market(3, 6_000), market(4, 6_000), market(5, 6_000)]
    bound = contestant(max_gross_notional_usd=4_000.0, **FREE)
    alone = contestant(**FREE)
    _, logs = play(hours, [bound, alone])
    assert held_usd(logs, 1) > 5_000.0
    assert 1_500.0 < held_usd(logs, 0) <= 4_000.0 * 1.02


@pytest.mark.slow
def test_a_loss_in_one_market_halts_all():
    hours = [market(3, 6_000), market(4, 6_000)]
    players = [contestant(max_drawdown_usd=0.045, max_day_loss_usd=0.0)]
    seen = []

    def watch(runs):
        gains = [equity(run) for run in runs]
        shown = [int(run.bench.risks[0].start_pusd) - 10_000 * PUSD_PER_USD for run in runs]
        assert shown == gains[::-1]
        seen.append(sum(gains))

    runs, _ = play(hours, players, watch=watch)
    assert {Reason(int(run.bench.risks[0].halt)) for run in runs} == {Reason.RISK_DRAWDOWN}
    falls = np.maximum.accumulate([0, *seen]) - np.array([0, *seen])
    assert falls.max() >= 0.03 * PUSD_PER_USD


def equity(run):
    """Gained in a market at the mark that is known."""
    of, risk = run.bench.world.strategies[0], run.bench.risks[0]
    cash = of.flow_tick_lots - of.fees + of.rebates + of.funding
    return int(cash * risk.tick_lot_pusd + of.position_lots * risk.lot_pusd)
