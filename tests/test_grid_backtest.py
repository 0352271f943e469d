"""A grid in a backtest, on a generated book: fills at its lines, inventory by its hole, its own entry."""

from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest
from test_backtest_runner import INSTRUMENT, MS, market

from market_maker.backtest.conclusions import Source
from market_maker.backtest.host import Contestant, MarketMakerRun, RunSettings
from market_maker.backtest.outcome import Label
from market_maker.backtest.tally import Entry, Tally
from market_maker.domain import Side
from market_maker.fills.rows import EventKind, StrategyRow
from market_maker.grid import GridSettings, GridSpacing, Ladder, LadderState, Strategy
from market_maker.kernel import plain
from market_maker.risk_manager import RiskSettings
from market_maker.round_trips import RoundTrips
from market_maker.strategy_rows import Params
from market_maker.summary import as_dict

# Lines some three ticks apart, which this market crosses in a second.
GRID = GridSettings(
    strategy=Strategy.GRID,
    grid_levels=4,
    grid_spacing=GridSpacing.ARITHMETIC,
    grid_spacing_sigmas=0.001,
    grid_min_spacing_bps=0.05,
)
FEE_PPB = 1_000


@pytest.fixture(scope="module")
def played():
    times = {"request_ns": 10 * MS, "reply_ns": 10 * MS}
    rates = StrategyRow(**times, cancel_request_ns=10 * MS, cancel_reply_ns=10 * MS, maker_fee_ppb=FEE_PPB)
    contestant = Contestant(Params(grid=GRID), RiskSettings(max_position_notional_usd=5_000.0), rates)
    run = MarketMakerRun(INSTRUMENT, [contestant], RunSettings(sample_s=0.1))
    entry = Entry(Label("grid", "crypto", "base", 0.01), contestant.rules(), has_lines=True)
    tally = Tally(INSTRUMENT, [entry], Source("own"))
    hour = market(rows=4_000)
    tally.market(hour)
    pieces = [*run.feed(hour), *run.finish()]
    for piece in pieces:
        tally.take(piece)
    [outcome] = tally.finish(int(hour.venue_ns[-1]) + 1, run)
    log = np.concatenate([piece.log for piece in pieces])
    state = LadderState(**plain(run.bench.accounts[0].ladder))
    return SimpleNamespace(fills=log[log["kind"] == EventKind.FILL], state=state, outcome=outcome)


def prices(state, hole):
    """Side and price of the orders of the ladder with its hole there."""
    settled = Ladder(GRID, LadderState(**(vars(state) | {"hole": hole})))
    return {(line.side, line.price_ticks) for line in settled.lines()}


def test_fills_are_at_the_lines_and_inventory_is_by_the_hole(played):
    state = played.state
    assert state.anchored == 1
    assert len(played.fills) > 20
    position = hole = 0
    for row in played.fills:
        side = Side(int(row["side"]))
        assert (side, int(row["price_ticks"])) in prices(state, hole)
        position += side * int(row["lots"])
        while position + hole * state.line_lots >= state.line_lots:
            hole -= 1
        while position + hole * state.line_lots <= -state.line_lots:
            hole += 1
    assert (state.hole, state.filled_lots) == (hole, position + hole * state.line_lots)


def test_its_entry_is_that_of_its_fills(played):
    summary, unit = played.outcome.summary, INSTRUMENT.tick * INSTRUMENT.step
    trips = RoundTrips(INSTRUMENT)
    for row in played.fills:
        price, lots = int(row["price_ticks"]), int(row["lots"])
        fee = unit * price * lots * FEE_PPB * Decimal("1E-9")
        trips.book(Side(int(row["side"])), price, lots, fee, played.state.line_lots)
    report, grid = trips.report(), summary.grid
    assert (grid.round_trips, grid.pnl_usd) == (report.round_trips, report.pnl)
    assert grid.round_trips > 10
    assert grid.spread_usd > 0
    entry = as_dict(summary)["grid"]
    assert (entry["hole"], entry["anchored"]) == (played.state.hole, 1)
    # What is not in round trips is open, at its price.
    open_cash = sum(line.side * line.size_lots * line.price_ticks for line in report.open_lines) * unit
    open_fees = sum(line.fee for line in report.open_lines)
    left = summary.pnl.total - report.pnl
    assert left == summary.inventory.end - open_cash - open_fees
