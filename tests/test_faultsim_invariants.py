"""Each invariant is seen where it is violated: by the bot, the exchange or the journal made to do wrong."""

from decimal import Decimal

import pytest
from simulated import MARKET, Simulated

from market_maker.domain import NS_PER_S, Action, Decision, Reason, Side
from market_maker.emulator.requests import CancelRequest, OrderRequest
from market_maker.faultsim.fault_plan import PlannedFault
from market_maker.faultsim.final_books import CANARY, check_journals
from market_maker.faultsim.world import World

KEEP = Decision(Action.KEEP, Reason.REQUEST_PENDING, 0, 0, reduce_only=False)


def order_of(world: World, external_id: str, lots: int, side=Side.BUY, share="0.02") -> OrderRequest:
    """An order far from the market, past the bot."""
    instrument = world.exchange.venue.markets[MARKET].instrument
    mark = world.exchange.mark(MARKET)
    return OrderRequest(
        market=MARKET,
        external_id=external_id,
        side=side,
        price=instrument.price(instrument.ticks_down(mark * (1 - side * Decimal(share)))),
        qty=instrument.size(lots),
        expire_ns=world.clock.now_ns() + 3600 * NS_PER_S,
    )


def submit(world: World, request) -> None:
    world.exchange.submit(world.account.account_id, request, world.clock.now_ns())


async def at(world: World, instant_s: float) -> None:
    await world.until(instant_s)


@pytest.mark.slow
def test_without_faults_nothing_is_violated_and_all_is_in_the_journal(tmp_path):
    done = Simulated(tmp_path, seconds=180.0, foreign=True)
    assert done.reports == []
    assert len(done.world.lives) == 1
    assert done.world.account.trades
    assert not done.world.watch.own_open()


@pytest.mark.slow
def test_exposure_past_the_limit_counts_what_rests_beside_the_position(tmp_path):
    async def during(world):
        await at(world, 30.0)
        submit(world, order_of(world, "mm-0-toolarge", 2_000))

    done = Simulated(tmp_path, during=during)
    assert "exposure" in done.kinds()
    assert "2000" in done.reports[0][1] or "of at most" in done.reports[0][1]


@pytest.mark.slow
def test_an_order_of_somebody_else_is_not_to_be_cancelled(tmp_path):
    async def during(world):
        await at(world, 30.0)
        submit(world, order_of(world, "manual1", 10))
        await at(world, 31.0)
        world.watch.add_foreign(world.account.by_external["manual1"])
        submit(world, CancelRequest(external_id="manual1"))
        world.watch.on_request(CancelRequest(external_id="manual1"))

    done = Simulated(tmp_path, during=during)
    assert [told for told in done.reports if told[0] == "foreign"] == [
        ("foreign", "asked for the cancel of 'manual1'"),
        ("foreign", "manual1 was cancelled"),
    ]


@pytest.mark.slow
def test_an_order_that_rests_while_the_bot_is_halted(tmp_path):
    async def during(world):
        await at(world, 30.0)
        strategy = world.lives[-1].strategy
        strategy.session.halt_all(Reason.CIRCUIT_BREAKER, "a test")
        # The market's task wakes nobody any more, as where a halt forgets to cancel.
        for desk in strategy.session.desks.values():
            desk.decide = lambda _slot, _now_ns: KEEP
        await at(world, 60.0)

    done = Simulated(tmp_path, during=during, seconds=70.0)
    assert "halted" in done.kinds()


@pytest.mark.slow
def test_an_order_without_a_process_outlives_the_countdown(tmp_path):
    async def during(world):
        await at(world, 30.0)
        world.may_start = False
        world.lives[-1].kill(0.0)
        await at(world, 31.0)
        submit(world, order_of(world, "mm-0-orphan", 10))
        world.account.switch_due_ns = 0

    done = Simulated(tmp_path, during=during)
    assert "orphan" in done.kinds()


@pytest.mark.slow
def test_a_position_of_which_the_books_do_not_know(tmp_path):
    async def during(world):
        await at(world, 100.0)
        ledger = world.lives[-1].strategy.session.ledger
        ledger._accounts[MARKET].position += 1

    done = Simulated(tmp_path, during=during)
    assert {"identity", "books"} <= done.kinds()


@pytest.mark.slow
def test_journals_that_lack_a_fill_have_one_twice_or_tell_the_key(tmp_path):
    done = Simulated(tmp_path, seconds=120.0)
    account, path = done.world.account, next(iter(sorted(done.folder.glob("*.jsonl"))))
    lines = path.read_bytes().splitlines(keepends=True)
    fills = [line for line in lines if line.startswith(b'{"type":"fill"')]
    assert fills

    def told_of(content: bytes) -> list[tuple[str, str]]:
        reports: list[tuple[str, str]] = []
        path.write_bytes(content)
        check_journals(account, done.folder, lambda *told: reports.append(told))
        return reports

    assert told_of(b"".join(lines)) == []
    assert "in no journal" in told_of(b"".join(line for line in lines if line != fills[0]))[0][1]
    assert "twice" in told_of(b"".join([*lines, fills[0]]))[0][1]
    assert (
        told_of(b"".join([*lines, b'{"type":"note","why":"' + CANARY.encode() + b'"}\n']))[0][0] == "secret"
    )
    assert told_of(b"".join([*lines, b"{torn\n", b'{"type":"note"}\n']))[0][0] == "journal"


@pytest.mark.slow
def test_a_crash_is_a_violation_and_the_process_is_started_again(tmp_path):
    async def during(world):
        await at(world, 30.0)
        desk = world.lives[-1].strategy.session.desks[MARKET]

        def broken(_slot, _now_ns):
            raise KeyError("no such level")

        desk.decide = broken

    done = Simulated(tmp_path, during=during)
    assert ("crash", "KeyError: 'no such level'") in done.reports
    assert len(done.world.lives) == 2


@pytest.mark.slow
def test_too_many_requests_in_a_minute(tmp_path):
    async def during(world):
        await at(world, 30.0)
        for _ in range(1_001):
            world.watch.on_request(None)

    done = Simulated(tmp_path, during=during, seconds=60.0)
    assert "rate" in done.kinds()


def fault(name: str, value=1.0, start_s=30.0, end_s=45.0) -> PlannedFault:
    return PlannedFault(name, value, start_s, end_s)


@pytest.mark.slow
@pytest.mark.parametrize(
    "planned",
    [
        fault("sigterm"),
        fault("kill", 0.9),
        fault("kill", 0.1),
        fault("kill", 0.7),
        fault("full_disk", end_s=60.0),
        fault("second_instance"),
        fault("clock_jump", 20.0),
        fault("margin_shrink"),
        fault("market_delisted"),
    ],
    ids=lambda planned: f"{planned.name}-{planned.value:g}",
)
def test_the_process_gets_over_each_fault_that_is_staged(tmp_path, planned):
    done = Simulated(tmp_path, planned, seconds=130.0)
    assert done.reports == []
    assert done.world.all_counts()[planned.name] >= 1


@pytest.mark.slow
def test_a_killed_process_sends_nothing_more(tmp_path):
    sent: list[int] = []

    async def during(world):
        await at(world, 30.0)
        world.may_start = False
        world.lives[-1].kill(0.0)
        sent.append(world.watch.requests_sent)
        await at(world, 55.0)
        sent.append(world.watch.requests_sent)

    done = Simulated(tmp_path, during=during, seconds=150.0)
    assert sent[0] == sent[1] > 0
    # The dead man's switch has taken its orders by then, and nobody quotes.
    assert "liveness" in done.kinds()
    assert "orphan" not in done.kinds()
    assert done.world.lives[0].is_killed
