"""A ladder in whole sessions: lines fill, neighbours are armed, a restart goes on, books are equal."""

from decimal import Decimal

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time

from market_maker.config import ConfigError
from market_maker.domain import Reason, Side
from market_maker.gateway import Fees
from market_maker.ladder_keeper import KeptLadders
from market_maker.session_report import summary_of

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


@pytest.mark.slow
def test_lines_fill_and_their_neighbours_are_armed():
    async def play():
        inside = Inside("choppy")
        run = await inside.session(300, *GRID)
        assert_sound(inside, run)
        return run

    run = in_virtual_time(play)
    session = run.strategy.session
    report = session.ladders[BTC].report()
    filled = [record for record in records(run) if record["why"] != "anchored"]
    assert filled, "expected fills of the ladder's lines"
    ladder = report.ladder
    lots = ladder.base_lots - ladder.hole * ladder.line_lots + ladder.filled_lots
    assert session.ledger.position_lots(BTC) == lots
    assert summary_of(session, run.strategy.orders, "emulator")[0].grid is not None


@pytest.mark.slow
def test_a_restart_goes_on_with_the_ladder_at_the_same_prices():
    async def play():
        inside = Inside("choppy")
        first = await inside.session(200, *GRID)
        last = records(first)[-1]
        kept = KeptLadders(last["venue"], {BTC: last})
        second = await inside.session(5, *GRID, ladders=kept)
        assert_sound(inside, second)
        return last, second

    last, second = in_virtual_time(play)
    restored = records(second)[0]
    assert restored["why"] == "restored"
    assert restored["ladder"]["anchor_ticks"] == last["ladder"]["anchor_ticks"]
    assert restored["ladder"]["spacing_bps"] == last["ladder"]["spacing_bps"]
    assert restored["round_trips"] == 0, "what an earlier session earned is in its own summary"


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
