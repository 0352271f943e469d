"""Hedges in whole sessions: what rests, what is taken and how much, what makes way, what is left."""

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time, rules

from market_maker.domain import Side
from market_maker.emulator.rules import Delay
from market_maker.gateway import OrderRefused, OutcomeUnknown
from market_maker.hedger import REST_LEVEL, TAKE_LEVEL
from market_maker.hedging import HedgeWhy
from market_maker.session_report import market_status

ETH = "ETH-USD"
SOFT, HARD = 2_000.0, 2_500.0
# Betas are known within seconds; quotes are small, so that it is the hedge that moves net beta.
FAST = (
    "hedge_enabled=true",
    f"hedge_net_beta_usd={SOFT}",
    f"hedge_hard_usd={HARD}",
    "hedge_interval_s=1",
    "portfolio_return_s=1",
    "portfolio_warmup_s=2",
    "portfolio_halflife_s=60",
    "level_size_usd=100",
)
LATE = Delay(base_ms=500.0, tail_ms=100.0)


@dataclass
class Seen:
    """A hedge as it was sent: the order, net beta, and how many of our orders it would have matched."""

    at_s: float
    order: object
    level: int
    net_beta_usd: float
    rests_usd: float
    in_the_way: int

    @property
    def usd(self) -> float:
        return self.order.side * self.order.price_ticks * self.order.size_lots * 1e-5


@dataclass
class Watched:
    """Hedges on their way to the exchange; `fail(seen)` may say what becomes of their requests."""

    fail: object = None
    strategy: object = None
    seen: list[Seen] = field(default_factory=list)

    def prepare(self, gateway) -> None:
        place = gateway.place

        async def watched(order):
            level = int(order.external_id.split("-")[1])
            if level < REST_LEVEL:
                return await place(order)
            self.seen.append(self._as_it_is(order, level))
            error = self.fail(self.seen[-1]) if self.fail else None
            if isinstance(error, OrderRefused):
                raise error
            accepted = await place(order)
            if error is not None:
                raise error
            return accepted

        gateway.place = watched

    def _as_it_is(self, order, level) -> Seen:
        session, orders = self.strategy.session, self.strategy.orders.working((BTC,))
        matched = [
            other
            for other in orders
            if other.order.side == -order.side
            and order.side * (order.price_ticks - other.price_ticks) >= 0
            and order.immediate_or_cancel
        ]
        rests = [o for o in orders if o.slot is not None and o.slot.level == REST_LEVEL]
        rests_usd = sum(o.at_risk_lots for o in rests) * session.lot_usd(session.desks[BTC])
        net_beta_usd = session.cross.known_net_beta_usd(session.values_usd())
        at_s = (session.clock.now_ns() - session.started_ns) / 1e9
        return Seen(at_s, order, level, net_beta_usd, rests_usd, len(matched))

    @property
    def takes(self) -> list[Seen]:
        return [one for one in self.seen if one.level == TAKE_LEVEL]


def play(seconds, *settings, eth_lots=4_000, fail=None, during=None, exchange_rules=None):
    """A session that begins with a position in ETH-USD, and what it hedged of it."""
    watched = Watched(fail)

    async def main():
        inside = Inside("mixed", (BTC, ETH), 3, exchange_rules, deposit="20000")
        await inside.until(1.0)
        side = Side.BUY if eth_lots > 0 else Side.SELL
        ticks = inside.best(Side(-side), ETH) + 100 * side
        await inside.order(side, ticks, abs(eth_lots), ETH, account_id=inside.account_id)
        assert inside.account.position_lots(ETH) == eth_lots

        async def beside(strategy):
            watched.strategy = strategy
            if during is not None:
                await during(inside, strategy)

        run = await inside.session(
            seconds, *FAST, *settings, prepare=watched.prepare, during=beside, profile="crypto"
        )
        return inside, run

    inside, run = in_virtual_time(main)
    return inside, run, watched


def whys(run) -> set[str]:
    return {record["why"] for record in run.records("hedge")}


@pytest.mark.slow
@pytest.mark.parametrize("eth_lots", [4_000, -4_000])
def test_a_hedge_rests_and_takes_the_breach_and_no_more(eth_lots):
    inside, run, watched = play(16.0, eth_lots=eth_lots)
    assert_sound(inside, run)
    assert {HedgeWhy.RESTING.name, HedgeWhy.TAKING.name} <= whys(run)
    levels = {seen.level for seen in watched.seen}
    assert levels == {REST_LEVEL, TAKE_LEVEL}
    for seen in watched.seen:
        assert seen.order.side == (Side.SELL if seen.net_beta_usd > 0 else Side.BUY)
        assert seen.order.post_only == (seen.level == REST_LEVEL)
        assert seen.order.immediate_or_cancel == (seen.level == TAKE_LEVEL)
        limit = SOFT if seen.level == REST_LEVEL else HARD
        # A price differs a little from the mark that net beta is counted at.
        assert abs(seen.usd) <= (abs(seen.net_beta_usd) - limit) * 1.002
        assert abs(seen.usd) <= 2_500.0
    for take in watched.takes:
        assert take.in_the_way == 0
        assert abs(take.usd) + take.rests_usd <= abs(take.net_beta_usd) - SOFT + 5.0
    assert any(fill.is_taker for fill in inside.account.trades if fill.market == BTC)
    reasons = {record["reason"] for record in run.records("order")}
    assert "SELF_TRADE_PROTECTION" not in reasons


@pytest.mark.slow
def test_the_status_shows_a_hedge_that_rests_and_no_quote_counts_it():
    shown = []

    async def during(_inside, strategy):
        session = strategy.session
        while not session.quoted_until_ns and not shown:
            await asyncio.sleep(0.1)
            status = market_status(session, strategy.orders, session.desks[BTC])
            shown.extend(quote for quote in status.quotes if quote.level == REST_LEVEL and quote.price)

    _, run, _ = play(14.0, "hedge_hard_usd=100000", during=during)
    assert run.error is None
    assert (shown[0].side, shown[0].state, shown[0].reason) == ("SELL", "LIVE", "HEDGING")
    assert {slot.level for slot in run.strategy.session.desks[BTC].reasons} <= {0, 1}


@pytest.mark.slow
def test_the_budget_ends_what_costs_fees():
    inside, run, _ = play(14.0, "hedge_fee_budget_usd=0.25")
    assert_sound(inside, run)
    assert HedgeWhy.OVER_BUDGET.name in whys(run)
    fees = [trade.fee for trade in inside.account.trades if trade.is_taker and trade.market == BTC]
    assert 0 < sum(fees) <= 0.25
    budget = run.strategy._upkeep.hedger.fees_today_usd
    assert budget == pytest.approx(float(sum(fees)))


@pytest.mark.slow
def test_a_stop_amid_a_take_leaves_nothing_open():
    """The wish to stop comes while the taking order is on its way, half a second from the exchange."""
    stopped, strategies = [], []

    def stop(seen):
        if seen.level == TAKE_LEVEL and not stopped:
            stopped.append(seen)
            strategies[0].stop.ask("SIGINT")

    async def during(_inside, strategy):
        strategies.append(strategy)

    inside, run, watched = play(
        30.0, fail=stop, during=during, exchange_rules=rules(latency={"request": LATE})
    )
    assert_sound(inside, run)
    assert run.outcome.why == "SIGINT"
    assert watched.seen[-1] is stopped[0]


@pytest.mark.slow
def test_a_take_of_unknown_outcome_is_not_sent_again_before_that_is_known():
    """It arrived and filled, and nobody answered: the next is for what is left of the breach."""

    def lose(seen):
        return OutcomeUnknown("no reply") if seen.level == TAKE_LEVEL else None

    inside, run, watched = play(14.0, f"hedge_hard_usd={SOFT}", fail=lose)
    assert_sound(inside, run)
    assert len(watched.takes) >= 2
    for take in watched.takes:
        assert abs(take.usd) <= (abs(take.net_beta_usd) - SOFT) * 1.002


@pytest.mark.slow
def test_a_hedge_that_is_refused_waits_for_its_interval():
    def refuse(seen):
        return OrderRefused("no", 1101) if seen.level == TAKE_LEVEL else None

    inside, run, watched = play(12.0, f"hedge_hard_usd={SOFT}", fail=refuse)
    assert_sound(inside, run)
    at_s = [take.at_s for take in watched.takes]
    assert len(at_s) >= 2
    assert min(then - before for before, then in pairwise(at_s)) >= 1.0


@pytest.mark.slow
def test_nothing_is_hedged_unless_that_is_wanted():
    inside, run, watched = play(8.0, "hedge_enabled=false")
    assert_sound(inside, run)
    assert watched.seen == []
    assert run.records("hedge") == []
