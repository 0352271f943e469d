"""A ladder in whole sessions: lines fill, neighbours are armed, a restart goes on, books are equal."""

from decimal import Decimal
from itertools import pairwise

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time

from market_maker.cli.host import Seat, play_session
from market_maker.clock import Entropy
from market_maker.config import ConfigError, load_config
from market_maker.domain import OrderState, Reason, Side
from market_maker.emulator.driver import ExchangeDriver
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.gateway import Fees, Unreachable
from market_maker.grid import GridSettings, Ladder, LadderState
from market_maker.ladder_keeper import KeptLadders
from market_maker.session_report import summary_of
from market_maker.summary import as_dict
from market_maker.trade_journal import read_journal

GRID = (
    "strategy=grid",
    "grid_levels=3",
    "grid_min_spacing_bps=1",
    "grid_max_spacing_bps=1",
    "grid_trend_pause=false",
    "level_size_usd=200",
    "vol_regime_enabled=false",
)


def records(run):
    return run.records("ladder")


# Some eight lines fill in the first minute and a half of this market.
LIVELY = (
    "strategy=grid",
    "grid_levels=4",
    "grid_spacing_minutes=1",
    "grid_spacing_sigmas=0.3",
    "grid_min_spacing_bps=3",
)


def lines_of(record):
    """Lines that a ladder's record wants orders in: price by line and side."""
    ladder = Ladder(GridSettings(grid_levels=4), LadderState(**record["ladder"]))
    return {(line.line, line.side): line.price_ticks for line in ladder.lines()}


@pytest.mark.slow
def test_lines_fill_and_their_neighbours_are_re_armed():
    async def main():
        inside = Inside("mixed", seed=3)
        return inside, await inside.session(100, *LIVELY)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    records = run.records("ladder")
    moves = [(a, b) for a, b in pairwise(records) if b["why"] == "moved"]
    assert len(moves) >= 4
    for before, after in moves:
        hole, ladder = before["ladder"]["hole"], after["ladder"]
        # The line that filled is the hole, and the old hole wants an order of the other side.
        side = Side.BUY if ladder["hole"] < hole else Side.SELL
        assert (hole, -side) in lines_of(after)
        assert (ladder["hole"], side) not in lines_of(after)
    placed = {(record["side"], record["price_ticks"]) for record in run.records("order_sent")}
    for before, after in moves[:-1]:
        hole = before["ladder"]["hole"]
        side = Side.BUY if after["ladder"]["hole"] > hole else Side.SELL
        assert (side.name, lines_of(after)[hole, side]) in placed
    summary = summary_of(run.strategy.session, run.strategy.orders, "base")[0].grid
    assert summary.round_trips >= 1
    assert summary.pnl_usd == summary.spread_usd - summary.fees_usd > 0
    report = run.strategy.session.ladders[BTC].trips.report()
    # What round trips earned and what is still open is all that was traded.
    ledger = run.strategy.session.ledger
    market = run.strategy.session.desks[BTC].instrument
    cash = sum(-int(line.side) * market.value(line.price_ticks, line.size_lots) for line in report.open_lines)
    held = market.size(ledger.position_lots(BTC)) * run.strategy.session.desks[BTC].mark
    open_fees = sum(line.fee for line in report.open_lines)
    assert report.pnl + cash + held - open_fees == ledger.change_of_equity(BTC)


@pytest.mark.slow
def test_a_kill_keeps_the_ladder_and_its_orders_go_back_to_the_same_prices():
    async def main():
        inside = Inside("mixed", seed=3)

        async def die(strategy):
            await inside.until(29.0)
            for name in ("place", "cancel", "mass_cancel", "open_orders", "arm_dead_mans_switch"):
                strategy.session.gateway.refuse[name] = Unreachable("the process is dead")
            strategy.stop.ask("killed")

        first = await inside.session(600, *LIVELY, "dead_man_enabled=false", during=die)
        assert inside.open_ids()
        record = first.records("ladder")[-1]
        kept = KeptLadders("here", {BTC: record})
        second = await inside.session(30, *LIVELY, ladders=kept, seed=2)
        return inside, first, record, second

    inside, first, record, second = in_virtual_time(main)
    assert first.outcome.remaining
    assert record["ladder"]["hole"] != 0
    assert_sound(inside, second)
    restored = second.records("ladder")[0]
    assert (restored["why"], restored["venue"]) == ("restored", "here")
    same = ("anchor_ticks", "spacing_bps", "step_ticks", "line_lots", "anchored")
    assert [restored["ladder"][name] for name in same] == [record["ladder"][name] for name in same]
    prices = set(lines_of(restored).values())
    sent = [order["price_ticks"] for order in second.records("order_sent")]
    assert len(sent) >= 4
    assert len([price for price in sent if price in prices]) >= len(sent) - 1
    assert not [order for order in second.records("order") if order["state"] == OrderState.REJECTED.name]


@pytest.mark.slow
def test_a_restart_by_the_command_line_finds_the_ladder_in_the_journal(tmp_path):
    config = load_config([f"markets={BTC}", f"journal_dir={tmp_path}", "network=emulator", *LIVELY])

    async def main():
        inside = Inside("mixed", seed=3)
        inside.driver.close()
        runs = []
        for seconds in (29.0, 10.0):
            # A session closes its driver; the exchange stands still until there is another.
            driver = ExchangeDriver(inside.exchange, inside.clock)
            driver.start()
            gateway = InProcessGateway(driver, inside.account_id)
            seat = Seat(gateway, inside.clock, Entropy(1), str(inside.account_id))
            runs.append(await play_session(seat, config, seconds, show=False))
        return runs

    first, second = in_virtual_time(main)
    kept = [record for record in read_journal(first.journal) if record["type"] == "ladder"][-1]
    restored = next(record for record in read_journal(second.journal) if record["type"] == "ladder")
    assert (restored["why"], restored["missed_lots"]) == ("restored", 0)
    assert (restored["venue"], restored["ladder"]) == ("emulator", kept["ladder"])
    assert restored["open_lines"] == kept["open_lines"] != []
    # What an earlier session earned is in its own summary.
    assert kept["round_trips"] >= restored["round_trips"] == 0
    (entry,) = (as_dict(run) for run in second.runs)
    assert entry["grid"]["anchored"] == kept["ladder"]["anchored"]


@pytest.mark.slow
def test_a_ladder_that_the_position_does_not_fit_is_anchored_anew_and_that_is_said():
    async def play():
        inside = Inside("choppy")
        first = await inside.session(60, *GRID)
        last = records(first)[-1]
        await inside.order(Side.BUY, inside.best(Side.SELL), 5_000)
        run = await inside.session(5, *GRID, ladders=KeptLadders("", {BTC: last}))
        assert_sound(inside, run)
        return run

    run = in_virtual_time(play)
    assert run.records("ladder_dropped")
    assert records(run)[0]["why"] == "anchored"


def test_lines_that_do_not_pay_their_fees_are_refused():
    def dear(gateway):
        async def fees(_market):
            return Fees(maker=Decimal("0.0002"), taker=Decimal("0.0005"))

        gateway.fees = fees

    async def play():
        inside = Inside("choppy")
        return await inside.session(5, *GRID, prepare=dear)

    run = in_virtual_time(play)
    assert isinstance(run.error, ConfigError)
    assert "grid_min_spacing_bps: expected more than two maker fees, 4 bps on BTC-USD, was 1" in str(
        run.error
    )


def test_a_line_of_the_other_side_is_idle_for_a_reason():
    async def play():
        inside = Inside("choppy")
        return await inside.session(5, *GRID)

    run = in_virtual_time(play)
    assert Reason.GRID_IDLE in run.strategy.session.desks[BTC].reasons.values()
