"""Markets of one account that see one another: skew, net-beta limit, the hedge in the reference market."""

from dataclasses import replace

import numpy as np
import pytest
from test_backtest_portfolio import FREE, SLICE_NS
from test_backtest_runner import INSTRUMENT, contestant, market

from market_maker.backtest.hedge_host import HedgeHost
from market_maker.backtest.host import MarketMakerRun
from market_maker.backtest.joint_account import JointAccounts, JointSeat, JointSettings, position_of
from market_maker.backtest.portfolio import Seat, SharedAccount, side_by_side
from market_maker.backtest.rows import LARGEST
from market_maker.correlation import CorrelationSettings
from market_maker.domain import Action
from market_maker.exposure import PUSD_PER_USD, NetBetaSettings
from market_maker.fills.rows import EventKind
from market_maker.hedging import HedgeSettings, HedgeWhy

NAMES = ("BTC-USD", "ETH-USD")
QUICK = CorrelationSettings(portfolio_return_s=1.0, portfolio_halflife_s=60.0, portfolio_warmup_s=1.0)
ALONE = replace(QUICK, portfolio_enabled=False)
NO_LIMIT = NetBetaSettings(max_net_beta_usd=0.0)
HEDGE = HedgeSettings(
    hedge_enabled=True,
    hedge_net_beta_usd=300.0,
    hedge_hard_usd=900.0,
    hedge_min_usd=70.0,
    hedge_interval_s=0.2,
    hedge_fee_budget_usd=1e6,
)


def play(hours, player, joint, watch=lambda _runs: None):
    """Runs and logs of markets that one contestant plays in, and the accounts that tell it of the others."""
    runs = [MarketMakerRun(INSTRUMENT, [player]) for _ in hours]
    shared = SharedAccount({0: [Seat(run, 0) for run in runs]}, {0: player.risk})
    seats = [JointSeat(name, run, 0) for name, run in zip(NAMES, runs, strict=True)]
    together = JointAccounts([(seats, joint)])
    logs = [[] for _ in runs]
    for slices in side_by_side([[hour] for hour in hours], 0, SLICE_NS):
        for run, pieces, log in zip(runs, slices, logs, strict=True):
            log += [played.log for piece in pieces for played in run.feed(piece)]
        shared.look()
        together.look()
        watch(runs)
    for run, log in zip(runs, logs, strict=True):
        log += [played.log for played in run.finish()]
    return runs, [np.concatenate(log) for log in logs]


def free(**limits):
    return contestant(**{**FREE, **limits})


def value_usd(run):
    found = position_of(run, 0)
    return found.lots * found.lot_pusd / PUSD_PER_USD


@pytest.mark.slow
def test_each_market_is_told_what_the_other_holds():
    # The same market twice: whatever one holds is as good as the other's own.
    hours = [market(3, 4_000), market(3, 4_000)]
    seen = []

    def watch(runs):
        others = [float(run.bench.risks[0].others_lots) for run in runs]
        seen.append([*others, *(position_of(run, 0).lots for run in runs)])

    play(hours, free(), JointSettings(QUICK, NO_LIMIT), watch)
    late = np.array(seen[len(seen) // 2 :])
    held = np.abs(late[:, 2:]).sum(axis=1) > 0
    assert held.any()
    assert late[held, 0] == pytest.approx(late[held, 3], rel=1e-6)
    assert late[held, 1] == pytest.approx(late[held, 2], rel=1e-6)


@pytest.mark.slow
def test_without_portfolio_limit_and_hedge_the_account_plays_as_before():
    hours = [market(1), market(2)]
    runs, logs = play(hours, free(), JointSettings(ALONE, NO_LIMIT))
    for run, hour, log in zip(runs, hours, logs, strict=True):
        assert MarketMakerRun(INSTRUMENT, [free()]).run([hour]).log.tobytes() == log.tobytes()
        assert int(run.bench.risks[0].room_long_pusd) == LARGEST


@pytest.mark.slow
def test_the_limit_on_net_beta_holds_over_the_markets():
    # The same market twice: a beta of one, known or not.
    hours = [market(3, 6_000), market(3, 6_000)]
    most = {}
    for limit_usd in (0.0, 1_500.0):
        seen = []

        def note(runs, seen=seen):
            seen.append(abs(sum(value_usd(run) for run in runs)))

        play(hours, free(), JointSettings(ALONE, NetBetaSettings(max_net_beta_usd=limit_usd)), note)
        most[limit_usd] = max(seen)
    assert most[0.0] > 2_000.0
    # Within a slice a market goes by what the other held at its end; then prices move what is held.
    assert 500.0 < most[1_500.0] <= 1_500.0 * 1.25


def filled(log):
    return log[log["kind"] == EventKind.FILL]


@pytest.mark.slow
def test_a_hedge_rests_takes_the_breach_and_pays_for_it():
    hours = [market(3, 5_000), market(3, 5_000)]
    runs, logs = play(
        hours,
        replace(free(), hedges=True),
        JointSettings(replace(QUICK, portfolio_enabled=False), NO_LIMIT, HEDGE),
    )
    plain, _ = play(hours, free(), JointSettings(ALONE, NO_LIMIT))
    each = len(runs[0].bench.slots)
    fills = filled(logs[0])
    hedges = fills[fills["tag"] >= each - 2]
    assert len(hedges[hedges["role"] == 0]) > 0
    takes = hedges[hedges["tag"] == each - 1]
    assert len(takes) > 0
    assert (takes["role"] == 1).all()
    row = runs[0].bench.hedges[0]
    assert int(row.taker_tick_lots) == int((takes["price_ticks"] * takes["lots"]).sum())
    # Only the reference market has hedges.
    assert (filled(logs[1])["tag"] < each - 2).all()
    for run in plain:
        assert len(run.bench.slots) == each - 2


def hosted(net_usd, change=None, settings=HEDGE):
    """A contestant that has quoted for a while, then its hedge's plan and wish."""
    run = MarketMakerRun(INSTRUMENT, [replace(free(), hedges=True)])
    list(run.feed(market(3, 600)))
    if change is not None:
        change(run)
    host = HedgeHost(run, 0, settings)
    return host, run, host.look(net_usd)


def test_a_wish_is_carried_out_once():
    _, run, wanted = hosted(500.0)
    row = run.bench.hedges[0]
    assert wanted.rest is not None
    assert (int(row.rest_side), int(row.rest_ticks), int(row.rest_lots)) == wanted.rest
    tail = market(3, 900)
    list(run.feed(type(tail)(*(column[600:] for column in tail))))
    placed = int((run.bench.slots["last_change_ns"][-2:] > 0).sum())
    assert placed == 1
    assert int(row.rest_action) == 0
    assert int(row.rested_ns) > 0


def test_without_a_book_or_in_a_halt_nothing_is_wanted():
    def halt(run):
        run.bench.accounts["halt_reason"] = 1

    assert hosted(5_000.0, halt)[2].why == HedgeWhy.UNKNOWN


def test_a_resting_hedge_moves_and_goes():
    def rest(run):
        run.bench.slots["side"][-2] = -1
        for name, value in (("order_id", 99), ("price_ticks", 600_500), ("remaining_lots", 3)):
            run.bench.held[name][-2] = value

    _, run, wanted = hosted(500.0, rest)
    assert int(run.bench.hedges[0].rest_action) == Action.REPLACE
    assert int(run.bench.hedges[0].rest_ticks) == wanted.rest.price_ticks
    _, run, wanted = hosted(-500.0, rest)
    assert int(run.bench.hedges[0].rest_action) == Action.CANCEL
    _, run, _ = hosted(0.0, rest)
    assert int(run.bench.hedges[0].rest_action) == Action.CANCEL


def test_fees_count_once():
    host, run, _ = hosted(0.0)
    run.bench.hedges["taker_tick_lots"] = 10_000_000
    run.bench.world.strategies["taker_fee_ppb"] = 250_000
    # 10 M tick·lots of 0.1 × 0.001 USD are 1,000 USD: at 2.5 bps a quarter of a dollar.
    poor = replace(HEDGE, hedge_fee_budget_usd=0.25)
    host = HedgeHost(run, 0, poor)
    assert host.look(5_000.0).why == HedgeWhy.OVER_BUDGET
    assert host.look(5_000.0).why == HedgeWhy.OVER_BUDGET
    assert HedgeHost(run, 0, replace(poor, hedge_fee_budget_usd=1.0)).look(5_000.0).why == HedgeWhy.TAKING


def test_positions_are_as_the_contestant_knows_them():
    run = MarketMakerRun(INSTRUMENT, [free()])
    bench = run.bench
    bench.accounts["position_lots"] = 5
    bench.risks["lot_pusd"] = 7
    for slot, (order, new) in {0: (3, 4), 1: (2, 0), 2: (0, 6)}.items():
        bench.held["order_id"][slot], bench.held["remaining_lots"][slot] = min(order, 1), order
        bench.held["new_id"][slot], bench.held["new_remaining_lots"][slot] = min(new, 1), new
    assert position_of(run, 0) == (5, 5 + 13, 2 - 5, 7)


def test_rooms_share_what_nobody_uses():
    runs = [MarketMakerRun(INSTRUMENT, [free()]) for _ in NAMES]
    joint = JointSettings(QUICK, NetBetaSettings(max_net_beta_usd=1_000.0), reference="ETH-USD")
    together = JointAccounts(
        [([JointSeat(name, run, 0) for name, run in zip(NAMES, runs, strict=True)], joint)]
    )
    for run, lots in zip(runs, (4, 1), strict=True):
        run.bench.risks["lot_pusd"] = 100 * PUSD_PER_USD
        run.bench.accounts["position_lots"] = lots
    together.look()
    # Long 500 of 1,000: 250 more for each. As a short there is room for 1,500, 750 for each.
    rooms = [
        (int(run.bench.risks[0].room_long_pusd), int(run.bench.risks[0].room_short_pusd)) for run in runs
    ]
    assert rooms == [(650 * PUSD_PER_USD, 350 * PUSD_PER_USD), (350 * PUSD_PER_USD, 650 * PUSD_PER_USD)]
    runs[0].bench.accounts["position_lots"] = 30
    together.look()
    # Past the limit: what is held may stay, and no more.
    assert int(runs[0].bench.risks[0].room_long_pusd) == 3_000 * PUSD_PER_USD
    assert int(runs[1].bench.risks[0].room_long_pusd) == 100 * PUSD_PER_USD


def test_an_unplayed_reference_is_the_first_market():
    runs = [MarketMakerRun(INSTRUMENT, [replace(free(), hedges=True)]) for _ in NAMES]
    seats = [JointSeat(name, run, 0) for name, run in zip(NAMES, runs, strict=True)]
    JointAccounts([(seats, JointSettings(QUICK, NO_LIMIT, HEDGE, "SOL-USD"))]).look()
