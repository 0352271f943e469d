"""Start and restart are one path: positions, peaks, latches, orders of before, and each fill noted once."""

import asyncio
import io
import json
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from inside import START_NS, Inside, WatchedGateway, assert_sound, in_virtual_time

from market_maker.clock import Entropy, ShiftedClock
from market_maker.config import load_config
from market_maker.domain import NS_PER_S, Reason, Side
from market_maker.emulator.rules import ExchangeRules, MoneyRules
from market_maker.kill_ladder import Cause, Step
from market_maker.past import Past, Whose, latest_past, past_of, read_past
from market_maker.shutdown import Stop
from market_maker.start_refusals import BooksDisagree, StoppedByLadder
from market_maker.strategy import MarketMakerStrategy
from market_maker.surroundings import Surroundings
from market_maker.trade_journal import InlineSink, TradeJournal

pytestmark = pytest.mark.slow

WHOSE = Whose("inside", "1", "mm")
PUSD = 10**12
ARMED = "arm_dead_mans_switch"


class Dead(BaseException):
    """The process is gone."""


class MortalGateway(WatchedGateway):
    """A gateway whose process may be killed."""

    is_dead = False

    def _note(self, name, what=""):
        if self.is_dead:
            raise Dead
        super()._note(name, what)


def records(data: bytes) -> list[dict]:
    """Lines of a journal; one that is torn is left out."""
    return [json.loads(line) for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


class Killed:
    """Runs sessions that are killed, and keeps their journals."""

    def __init__(self, inside) -> None:
        self.inside = inside
        self.sessions: list[list[dict]] = []
        self.seed = 0

    @property
    def past(self) -> Past:
        return past_of(self.sessions, WHOSE)

    async def run_until(self, at_s, *settings, during=None, torn=0) -> MortalGateway:
        """Begin a session with the past, and kill it at an instant, in the middle of whatever it does."""
        inside, self.seed = self.inside, self.seed + 1
        gateway = MortalGateway(inside.driver, inside.account_id)
        target = io.BytesIO()
        config = load_config([f"markets={','.join(inside.markets)}", *settings])
        journal = TradeJournal(InlineSink(target), inside.clock)
        around = Surroundings(gateway, config, inside.clock, Entropy(self.seed), journal, past=self.past)
        began = []
        task = asyncio.ensure_future(MarketMakerStrategy.run(around, None, began.append))
        if during is not None:
            await during(inside, began)
        await inside.until(at_s)
        written = target.getvalue()
        gateway.is_dead = True
        self.sessions.append(records(written[: len(written) - torn]))
        task.cancel()
        with suppress(Dead, asyncio.CancelledError):
            await task
        return gateway

    async def restart(self, seconds, *settings, during=None):
        """A session with the past that ends in order."""
        self.seed += 1
        run = await self.inside.session(seconds, *settings, past=self.past, seed=self.seed, during=during)
        self.sessions.append(run.records())
        return run

    def fills(self) -> Counter:
        """How often each fill is in the journals."""
        fills = [record for session in self.sessions for record in session if record["type"] == "fill"]
        return Counter((f["market"], f["trade_id"], Side[f["side"]].value) for f in fills)

    def agrees(self) -> None:
        """Every fill of the account is in the journal exactly once."""
        inside = self.inside
        theirs = {(trade.market, trade.trade_id, int(trade.side)) for trade in inside.account.trades}
        noted = self.fills()
        assert set(noted.values()) <= {1}
        assert set(noted) == theirs


@pytest.mark.parametrize("at_s", [1.1, 4.3, 9.7])
def test_orders_of_ours_that_still_fit_are_gone_on_with(at_s):
    async def main():
        inside = Inside("flat")
        killed = Killed(inside)
        await killed.run_until(at_s)
        before = set(inside.open_ids())
        await inside.until(at_s + 2.0)
        seen = {}

        async def during(strategy):
            seen["adopted"] = {order.external_id for order in strategy.orders.working()}
            await inside.until(at_s + 5.0)
            seen["later"] = set(inside.open_ids())

        return inside, killed, before, seen, await killed.restart(5.0, during=during)

    inside, killed, before, seen, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert len(before) == 4
    assert seen["adopted"] == before
    (restarted,) = run.records("restarted")
    assert set(restarted["adopted"]) == before
    # A market that stands still gives no cause to move them.
    assert seen["later"] & before
    killed.agrees()


def test_funding_that_was_paid_while_we_were_down_is_noted_once_and_in_no_book_twice():
    every_5_s = ExchangeRules(money=MoneyRules(funding_speedup=720.0))

    async def main():
        inside = Inside("choppy", exchange_rules=every_5_s)
        killed = Killed(inside)
        await inside.until(1.0)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 100, 2_000)
        for at_s in (12.3, 30.1):
            await killed.run_until(at_s)
            await inside.until(at_s + 12.0)
        return inside, killed, await killed.restart(8.0)

    inside, killed, run = in_virtual_time(main)
    assert_sound(inside, run)
    noted = [record for session in killed.sessions for record in session if record["type"] == "funding"]
    # The first session begins a second after the exchange does.
    paid = [(payment.market, payment.payment_id) for payment in inside.account.payments]
    assert sorted((record["market"], record["payment_id"]) for record in noted) == sorted(paid)
    assert {record.get("missed", False) for record in noted} == {True, False}


def test_what_was_traded_before_the_first_session_is_not_ours_to_miss():
    async def main():
        inside = Inside("flat")
        killed = Killed(inside)
        await inside.until(1.0)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 100, 2_000)
        await inside.until(3.0)
        await killed.run_until(6.0)
        return inside, await killed.restart(2.0)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    (restarted,) = run.records("restarted")
    assert restarted["missed_fills"] == 0


@pytest.mark.parametrize("seed", range(2))
def test_what_filled_while_we_were_down_is_noted_once_and_in_no_book_twice(seed):
    async def main():
        inside = Inside("mixed", ("WIF-USD",), seed=seed)
        killed = Killed(inside)
        for at_s in (12.3, 30.1, 47.7):
            await killed.run_until(at_s, torn=7 * seed)
            await inside.until(at_s + 8.0)
        return inside, killed, await killed.restart(10.0)

    inside, killed, run = in_virtual_time(main)
    assert_sound(inside, run)
    killed.agrees()
    assert sum(len(session) for session in killed.sessions) > 100


def test_the_peak_and_the_start_of_the_day_outlive_a_kill():
    seen = {}

    async def main():
        inside = Inside("flat")
        killed = Killed(inside)

        async def rise(inside, began):
            await inside.until(3.0)
            session = began[0].session
            equity = int(session.ledger.equity() * PUSD)
            session.risk.on_equity(equity + 400 * PUSD, inside.clock.now_ns())

        await killed.run_until(10.0, during=rise)

        async def during(strategy):
            seen["risk"] = strategy.session.risk.export()
            seen["equity"] = strategy.session.ledger.equity()

        return inside, await killed.restart(3.0, during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert seen["risk"].peak_pusd == int(seen["equity"] * PUSD) + 400 * PUSD
    assert seen["risk"].day_start_pusd == int(seen["equity"] * PUSD)


def test_a_latched_step_outlives_a_kill_until_somebody_resumes():
    seen = {}

    async def main():
        inside = Inside("calm")
        killed = Killed(inside)

        async def fall(inside, began):
            await inside.until(3.0)
            session = began[0].session
            session.risk.on_equity(int((session.ledger.equity() + 1_100) * PUSD), inside.clock.now_ns())

        await killed.run_until(6.0, during=fall)
        await inside.until(8.0)

        async def during(strategy):
            await inside.until(14.0)
            seen["step"] = strategy.session.standing.step, strategy.session.standing.cause
            seen["halt"] = strategy.session.desks["BTC-USD"].halts.gravest
            seen["open"] = inside.open_ids()
            strategy.kill.resume("a test")
            await inside.until(18.0)
            seen["after"] = len(inside.open_ids())

        await killed.restart(12.0, during=during)
        return inside, await killed.restart(4.0)

    inside, last = in_virtual_time(main)
    assert_sound(inside, last)
    assert seen["step"] == (Step.FLATTEN, Cause.DRAWDOWN)
    assert seen["halt"] is Reason.RISK_DRAWDOWN
    assert seen["open"] == []
    assert seen["after"] == 4
    assert last.strategy.session.standing.step is Step.NORMAL
    assert len(last.gateway.made("place")) >= 4


def test_after_a_stop_of_the_ladder_nothing_begins_until_somebody_resumes():
    async def main():
        inside = Inside("calm")
        killed = Killed(inside)

        async def during(strategy):
            await inside.until(3.0)
            session = strategy.session
            session.risk.on_equity(int((session.ledger.equity() + 2_000) * PUSD), inside.clock.now_ns())

        first = await killed.restart(60.0, during=during)
        second = await killed.restart(5.0)
        return inside, first, second

    inside, first, second = in_virtual_time(main)
    assert_sound(inside, first)
    assert isinstance(second.error, StoppedByLadder)
    assert "for DRAWDOWN; look into why, then mm resume" in str(second.error)
    assert second.gateway.made("place") == []


def test_it_does_not_trade_while_journal_and_exchange_disagree_and_says_why():
    async def main():
        inside = Inside("flat")
        killed = Killed(inside)
        await killed.run_until(5.0)
        # A fill of which the exchange's history says nothing.
        await inside.order(Side.BUY, inside.best(Side.SELL) + 200, 1_000)

        def hides(gateway):
            gateway.hides_fills = True

        run = await inside.session(5.0, past=killed.past, prepare=hides)
        accepted = killed.past
        resumed = {"type": "resumed", "t": 1, "n": 1, **WHOSE._asdict(), "accepts_positions": True}
        accepted = past_of([*killed.sessions, [resumed]], WHOSE)
        return inside, run, await inside.session(3.0, past=accepted, prepare=hides)

    inside, run, after = in_virtual_time(main)
    assert isinstance(run.error, BooksDisagree)
    assert str(run.error).startswith("BTC-USD: expected a position of 0")
    assert "was 0.0" in str(run.error)
    assert "mm resume --accept-positions" in str(run.error)
    assert run.gateway.made("place") == []
    assert_sound(inside, after)


def test_orders_of_others_stay_untouched_over_a_restart():
    async def main():
        inside = Inside("flat")
        killed = Killed(inside)
        await inside.until(0.5)
        manual = await inside.order(Side.BUY, inside.best(Side.BUY) - 500, 1_000)
        await killed.run_until(5.0, "foreign_orders=leave")
        run = await killed.restart(4.0, "foreign_orders=leave")
        return inside, manual, run

    inside, manual, run = in_virtual_time(main)
    assert run.error is None
    assert inside.open_ids() == [manual]
    assert manual not in {call.what for call in run.gateway.made("cancel")}


def test_an_order_of_which_our_journal_knows_nothing_is_cancelled():
    async def main():
        inside = Inside("flat")
        killed = Killed(inside)
        await killed.run_until(5.0)
        await inside.order(Side.BUY, inside.best(Side.BUY) - 90, 1_000, external_id="mm-7-strange")
        return inside, await killed.restart(4.0)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert inside.account.by_external["mm-7-strange"].status.value == "CANCELLED"


def test_what_a_restart_costs():
    """Look-ups before the first order, with and without a past."""

    async def main():
        inside = Inside("flat")
        killed = Killed(inside)
        first = await killed.run_until(5.0)
        second = await killed.restart(4.0)
        return first, second.gateway

    first, again = (
        Counter(call.name for call in gateway.calls if call.at_s <= gateway.made(ARMED)[0].at_s)
        for gateway in in_virtual_time(main)
    )
    # One look at the history of fills, and one at what is gone on with.
    assert again - first == Counter({"fills": 1, "open_orders": 1})
    assert first.total() < 20


def test_the_hedgers_budget_of_the_day_outlives_a_kill():
    seen = {}

    async def main():
        inside = Inside("flat")
        killed = Killed(inside)

        async def pay(inside, began):
            await inside.until(3.0)
            hedger = began[0]._upkeep.hedger
            hedger.restore(START_NS // (86_400 * 10**9), 12.5)

        await killed.run_until(6.0, during=pay)

        async def during(strategy):
            seen["fees"] = strategy._upkeep.hedger.fees_today_usd

        return inside, await killed.restart(2.0, during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert seen["fees"] == 12.5


def test_an_emulator_that_was_started_anew_has_no_past():
    """Its trades are counted from the beginning again, and nothing of before is there."""
    sessions = []

    async def first():
        inside = Inside("mixed", ("WIF-USD",))
        killed = Killed(inside)
        await killed.run_until(30.0, "network=emulator")
        sessions.extend(killed.sessions)
        return killed.fills()

    async def anew():
        inside = Inside("mixed", ("WIF-USD",), seed=5)
        killed = Killed(inside)
        killed.sessions.extend(sessions)
        await inside.until(3.0)
        return inside, await killed.restart(6.0, "network=emulator")

    assert in_virtual_time(first)
    inside, run = in_virtual_time(anew)
    assert_sound(inside, run)
    (restarted,) = run.records("restarted")
    assert (restarted["known"], restarted["missed_fills"], restarted["adopted"]) == (False, 0, [])


def test_the_past_is_read_from_the_files_of_a_folder_and_a_torn_line_is_left_out(tmp_path):
    async def main():
        inside = Inside("mixed", ("WIF-USD",))
        killed = Killed(inside)
        for at_s in (20.3, 33.1):
            await killed.run_until(at_s)
        return killed

    killed = in_virtual_time(main)
    for number, session in enumerate(killed.sessions):
        lines = [json.dumps(record, separators=(",", ":")) + "\n" for record in session]
        (tmp_path / f"mm-2026010{number}T000000.000000-0000.jsonl").write_text("".join(lines))
    assert read_past(tmp_path, WHOSE) == killed.past
    assert latest_past(tmp_path, "inside", "mm") == killed.past
    assert latest_past(tmp_path, "inside", "other") is None
    assert read_past(tmp_path / "none", WHOSE) == Past(WHOSE)
    newest = tmp_path / "mm-20260101T000000.000000-0000.jsonl"
    whole = newest.read_text()
    newest.write_text(whole + whole[whole.rindex('{"type":"order_sent"') :][:90])
    assert read_past(tmp_path, WHOSE) == killed.past
    assert killed.past.trades
    assert killed.past.orders


@pytest.mark.parametrize("known", [False, True])
def test_money_that_moved_while_positions_were_looked_up_is_looked_at_again(known):
    """A fill between the two look-ups would be in the money and not in the position, for good."""
    looks = []

    async def main():
        inside = Inside("flat")
        killed = Killed(inside)
        if known:
            await killed.run_until(4.0)

        def prepare(gateway):
            look_up = gateway.positions

            async def positions():
                found = await look_up()
                looks.append(found)
                if len(looks) == 1:
                    await inside.order(Side.BUY, inside.best(Side.SELL) + 100, 500)
                return found

            gateway.positions = positions

        past = killed.past if known else Past()
        return inside, await inside.session(6.0, past=past, prepare=prepare, seed=9)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert not looks[0]
    assert looks[1][0].size_lots == 500


def test_who_is_stopped_before_it_looked_for_orders_of_before_does_not_say_that_none_is_open():
    outcomes = []

    async def main():
        inside = Inside("flat")
        killed = Killed(inside)
        await killed.run_until(4.0)
        pasts = [Past(), killed.past]
        ended = await killed.restart(2.0)
        remaining = list(ended.outcome.remaining)
        killed.sessions[-1].append(
            {"type": "session_stop", "t": inside.clock.now_ns(), "remaining": remaining}
        )
        for past in [*pasts, killed.past]:
            stop = Stop()
            stop.ask("SIGTERM")
            gateway = WatchedGateway(inside.driver, inside.account_id)
            journal = TradeJournal(InlineSink(io.BytesIO()), inside.clock)
            config = load_config([f"markets={','.join(inside.markets)}"])
            around = Surroundings(gateway, config, inside.clock, Entropy(1), journal, past=past)
            outcomes.append(await MarketMakerStrategy.run(around, None, lambda _strategy: None, stop))

    in_virtual_time(main)
    # Nothing was sent before; a process was killed; the next one looked, and left nothing open.
    assert [outcome.remaining for outcome in outcomes] == [(), ("unknown",), ()]


@pytest.mark.parametrize("ahead_s", [0.0, 2.0])
@pytest.mark.parametrize("early_s", np.arange(0.1, 1.0, 0.15).round(2).tolist())
def test_funding_paid_while_a_session_opens_is_in_its_books_once(early_s, ahead_s):
    """Between the look-ups, or between them and the session; and by a clock ahead of the exchange's."""
    every_20_s = ExchangeRules(money=MoneyRules(funding_speedup=180.0))

    async def main():
        inside = Inside("flat", exchange_rules=every_20_s)
        await inside.until(1.0)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 100, 2_000)
        await inside.until(20.0 - early_s)
        inside.clock = ShiftedClock(inside.clock, ahead_s)
        return inside, await inside.session(3.0)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert len(inside.account.payments) == 1


def test_a_long_end_does_not_hide_a_fill_that_nobody_heard():
    """What the exchange is asked for at the next start begins before the last word of what was traded."""
    said = {"t": START_NS, "type": "account", **WHOSE._asdict()}
    sent = {
        "t": START_NS + NS_PER_S,
        "type": "order_sent",
        "market": "X-USD",
        "external_id": "mm-0-a",
        "side": "BUY",
        "price_ticks": 1,
        "size_lots": 2,
        "post_only": True,
        "reduce_only": False,
        "immediate_or_cancel": False,
        "expire_ns": START_NS,
        "nonce": 1,
        "replaces": "",
    }
    end = {"t": START_NS + 900 * NS_PER_S, "type": "session_stop", "remaining": []}
    resumed = {"t": START_NS + 990 * NS_PER_S, "type": "resumed"}
    assert past_of([[said, sent, end, resumed]], WHOSE).asks_since_ns < START_NS
