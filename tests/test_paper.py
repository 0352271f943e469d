"""Paper trading in virtual time: what it refuses, how orders end, and whole sessions on it."""

import asyncio
import io
import json
from collections import Counter
from contextlib import suppress
from decimal import Decimal

import pytest
from inside import BTC, START_NS, Inside, in_virtual_time, rules

from market_maker.backtest.fill_models import MODELS
from market_maker.cli.paper import paper_gateway, terms_in
from market_maker.clock import Entropy
from market_maker.config import load_config
from market_maker.config_sections import FillModelName
from market_maker.domain import NS_PER_S, BestQuote, BookUpdate, NewOrder, OrderState, Reason, Side
from market_maker.emulator.faults import Faults
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.gateway import (
    BalanceReport,
    FillReport,
    MarkPrice,
    OrderRefused,
    OrderReport,
    OutcomeUnknown,
    PositionReport,
)
from market_maker.instrument import Instrument, MarketStatus
from market_maker.orderbook_manager import BookSettings, OrderbookManager
from market_maker.recordings.events import RecordingError
from market_maker.session import Surroundings
from market_maker.session_report import fill_model_of, venue_of
from market_maker.strategy import MarketMakerStrategy
from market_maker.trade_journal import InlineSink, TradeJournal

NEAR = (
    "offset_mode=fixed",
    "price_offset_per_level_percent=0.004",
    "num_levels=3",
    "min_edge_bps=0",
    "offset_latency_sigmas=0",
)
LATENCY_S = 0.05
X = Instrument("X-USD", Decimal(1), Decimal("0.01"), Decimal("0.05"))


class Public(InProcessGateway):
    """The public side of the exchange inside: whatever needs an account fails the test."""

    closed = None
    rules = None

    async def instruments(self, markets):
        found = await super().instruments(markets)
        self.rules, self.told = found[BTC], []
        return found

    async def market_events(self, market):
        async for event in super().market_events(market):
            self.told.append(event)
            yield event

    async def _private(self, *_):
        pytest.fail("the private API was touched")

    place = cancel = mass_cancel = arm_dead_mans_switch = set_leverage = _private
    open_orders = order = fills = positions = balance = funding_payments = fees = leverage = _private

    def account_events(self):
        pytest.fail("the private API was touched")

    async def statuses(self, markets):
        found = await super().statuses(markets)
        return dict.fromkeys(found, self.closed) if self.closed else found


class Desk:
    """An account on paper, what its streams tell, and orders without ceremony."""

    def __init__(self, inside, *settings) -> None:
        self.inside = inside
        self.config = load_config(settings)
        self.public = Public(inside.driver, inside.account_id)
        self.gateway = paper_gateway(self.config, self.public, inside.clock)
        self.market, self.account = [], []
        self._sent = 0

    async def __aenter__(self):
        self.instrument = (await self.gateway.instruments([BTC]))[BTC]
        self._tasks = [
            asyncio.ensure_future(self._read(self.gateway.market_events(BTC), self.market)),
            asyncio.ensure_future(self._read(self.gateway.account_events(), self.account)),
        ]
        await asyncio.sleep(2.0)
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.gateway.close()

    async def _read(self, events, heard):
        async for event in events:
            heard.append(event)

    def latest(self, kind):
        return [event for event in (*self.market, *self.account) if isinstance(event, kind)][-1]

    def order(self, side=Side.BUY, off=500, lots=1_000, **changes):
        """An order so many ticks off the best price of its own side; below 0: through the other side."""
        self._sent += 1
        quote = self.latest(BestQuote)
        best = quote.bid_ticks if side == Side.BUY else quote.ask_ticks
        given = {
            "market": BTC,
            "external_id": f"mm-{self._sent}",
            "price_ticks": best - side * off,
            "size_lots": lots,
            "post_only": off >= 0,
            "reduce_only": False,
            "immediate_or_cancel": off < 0,
            "expire_ns": self.inside.clock.now_ns() + 60 * NS_PER_S,
            "nonce": 1,
        }
        return NewOrder(side=side, **(given | changes))

    async def place(self, side=Side.BUY, off=500, lots=1_000, **changes):
        order = self.order(side, off, lots, **changes)
        await self.gateway.place(order)
        return order

    def reports(self, order):
        return [
            (event.state.name, event.reason)
            for event in self.account
            if isinstance(event, OrderReport) and event.external_id == order.external_id
        ]


def at_the_desk(program, *settings, **how):
    async def main():
        async with Desk(Inside(**({"scenario": "flat"} | how)), *settings) as desk:
            return await program(desk)

    return in_virtual_time(main)


def test_a_reply_and_its_report_take_the_latency_both_ways():
    async def test(desk):
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        order = await desk.place()
        assert loop.time() - begun_s == pytest.approx(2 * LATENCY_S, abs=0.01)
        await asyncio.sleep(0)
        assert desk.reports(order) == [("LIVE", "NONE")]
        await desk.gateway.cancel(BTC, order.external_id)
        assert loop.time() - begun_s == pytest.approx(4 * LATENCY_S, abs=0.02)
        await asyncio.sleep(0)
        assert desk.reports(order)[1:] == [("CANCELLED", "NONE")]

    at_the_desk(test)


REFUSALS = {
    "no id": ({"external_id": ""}, 1133),
    "post-only and immediate": ({"immediate_or_cancel": True}, 1133),
    "size": ({"lots": 1}, 1120),
    "value": ({"lots": 30_000_000}, 1122),
    "band": ({"off": -9_000, "post_only": False}, 1141),
    "expiry": ({"expire_ns": START_NS}, 1135),
    "predecessor": ({"replaces": "mm-nobody"}, 1142),
    "nothing to reduce": ({"reduce_only": True}, 1137),
    "money": ({"lots": 1_000_000}, 1140),
    "position": ({"lots": 14_000_000}, 1140),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_have_the_exchanges_codes_and_leave_nothing(what):
    changes, code = REFUSALS[what]

    async def test(desk):
        order = desk.order(**changes)
        with pytest.raises(OrderRefused, match=f"^{code}: ") as refusal:
            await desk.gateway.place(order)
        assert refusal.value.code == code
        assert await desk.gateway.order(order.external_id) is None
        assert await desk.gateway.open_orders() == []
        assert desk.reports(order) == []

    at_the_desk(test)


def test_a_position_past_the_markets_largest_is_refused_however_rich_one_is():
    async def test(desk):
        for _ in range(4):
            await desk.place(lots=17_000_000)
        with pytest.raises(OrderRefused) as refusal:
            await desk.place(lots=17_000_000)
        assert refusal.value.code == 1127

    at_the_desk(test, "paper_balance_usd=1e9")


def test_more_orders_than_the_market_allows_are_refused():
    async def test(desk):
        orders = [await desk.place(off=100 + n, lots=100) for n in range(desk.instrument.max_open_orders)]
        with pytest.raises(OrderRefused) as refusal:
            await desk.place(lots=100)
        assert refusal.value.code == 1126
        # One that takes the place of another is no more than there was.
        await desk.place(lots=100, replaces=orders[0].external_id)
        await desk.gateway.mass_cancel([BTC])
        await asyncio.sleep(0.1)
        assert await desk.gateway.open_orders() == []

    at_the_desk(test)


@pytest.mark.parametrize(
    ("status", "code"), [(MarketStatus.REDUCE_ONLY, 1014), (MarketStatus.DISABLED, 1002)]
)
def test_a_market_that_closes_takes_no_new_orders(status, code):
    async def test(desk):
        desk.public.closed = status
        await desk.gateway.statuses([BTC])
        with pytest.raises(OrderRefused) as refusal:
            await desk.place()
        assert refusal.value.code == code

    at_the_desk(test)


def test_what_the_matching_engine_does_not_take_is_told_on_the_stream():
    async def test(desk):
        crossing = await desk.place(off=-100, post_only=True, immediate_or_cancel=False)
        rested = await desk.place(off=300)
        moved = await desk.place(
            off=-100, post_only=True, immediate_or_cancel=False, replaces=rested.external_id
        )
        nobody = await desk.place(off=300, post_only=False, immediate_or_cancel=True)
        brief = await desk.place(expire_ns=desk.inside.clock.now_ns() + NS_PER_S)
        await asyncio.sleep(2.0)
        assert desk.reports(crossing) == [("REJECTED", "POST_ONLY_FAILED")]
        # A replacement that fails in the engine ends both.
        assert desk.reports(rested) == [("LIVE", "NONE"), ("CANCELLED", "ORDER_REPLACED")]
        assert desk.reports(moved) == [("REJECTED", "POST_ONLY_FAILED")]
        assert desk.reports(nobody) == [("CANCELLED", "NO_LIQUIDITY")]
        assert desk.reports(brief) == [("LIVE", "NONE"), ("EXPIRED", "NONE")]

    at_the_desk(test)


def test_what_takes_pays_the_takers_fee_and_moves_position_and_money():
    async def test(desk):
        order = await desk.place(off=-100, lots=2_500)
        await asyncio.sleep(0)
        fills = [event for event in desk.account if isinstance(event, FillReport)]
        assert sum(it.fill.size_lots for it in fills) == 2_500
        assert {(it.fill.external_id, it.fill.is_taker, it.fill.side) for it in fills} == {
            (order.external_id, True, Side.BUY)
        }
        paid = sum(desk.instrument.value(it.fill.price_ticks, it.fill.size_lots) for it in fills)
        assert sum(it.fee for it in fills) == paid * Decimal("0.00025")
        assert desk.reports(order)[-1] == ("FILLED", "NONE")
        position, balance = desk.latest(PositionReport), desk.latest(BalanceReport)
        assert position.size_lots == 2_500
        mark = desk.latest(MarkPrice).price
        fees = sum(it.fee for it in fills)
        assert balance.equity == 10_000 - paid - fees + desk.instrument.size(2_500) * mark
        assert await desk.gateway.fills(0) == fills
        with pytest.raises(OrderRefused) as refusal:
            await desk.place(off=300, reduce_only=True)
        assert refusal.value.code == 1138
        with pytest.raises(OrderRefused) as refusal:
            await desk.place(Side.SELL, off=300, lots=2_501, reduce_only=True)
        assert refusal.value.code == 1136
        back = await desk.place(Side.SELL, off=-100, lots=2_500, reduce_only=True)
        await asyncio.sleep(0)
        assert desk.reports(back)[-1] == ("FILLED", "NONE")
        # The market is told to be flat, and is listed no more.
        assert (desk.latest(PositionReport).size_lots, await desk.gateway.positions()) == (0, [])

    at_the_desk(test)


def test_our_two_sides_do_not_trade_with_each_other():
    async def test(desk):
        resting = await desk.place(Side.SELL, off=0)
        through = await desk.place(off=-100)
        await asyncio.sleep(0)
        assert desk.reports(resting)[-1] == ("CANCELLED", "SELF_TRADE_PROTECTION")
        assert desk.reports(through)[-1] == ("FILLED", "NONE")

    at_the_desk(test)


def test_while_a_position_is_open_its_value_is_told_now_and_then():
    async def test(desk):
        await desk.place(off=-100)
        before = len(desk.account)
        await asyncio.sleep(12.0)
        kinds = Counter(type(event).__name__ for event in desk.account[before:])
        assert kinds["PositionReport"] == kinds["BalanceReport"] >= 2
        marks = {event.price for event in desk.market if isinstance(event, MarkPrice)}
        told = {event.mark_price for event in desk.account[before:] if isinstance(event, PositionReport)}
        assert told <= marks
        assert len(told) > 1

    at_the_desk(test)


def test_funding_is_booked_at_its_instant_and_can_be_looked_up():
    async def test(desk):
        await desk.place(off=-100, lots=5_000)
        before = (await desk.gateway.balance()).balance
        await asyncio.sleep(31.0)
        [payment] = await desk.gateway.funding_payments(0)
        assert payment.size_lots == 5_000
        assert payment.rate != 0
        size = desk.instrument.size(5_000)
        assert payment.amount == -payment.rate * payment.mark_price * size
        assert (payment.venue_ns - START_NS) // NS_PER_S % 30 == 0
        assert (await desk.gateway.balance()).balance == before + payment.amount
        assert await desk.gateway.funding_payments(payment.venue_ns + 1) == []

    at_the_desk(test, "paper_funding_every_s=30", exchange_rules=rules(money={"funding_speedup": 120.0}))


def test_the_fill_models_are_those_of_the_backtest():
    assert {name.value for name in FillModelName} == set(MODELS)
    for name in MODELS:
        terms = terms_in(load_config([f"paper_fill_model={name}", "paper_latency_ms=20"]))(X)
        assert terms.fills.queue_model == MODELS[name].queue_model
        assert (terms.fills.request_ns, terms.fills.reply_ns) == (20_000_000, 20_000_000)
        assert terms.rules.min_lots == X.min_lots


def test_a_cancel_on_its_way_is_answered_when_the_gateway_closes():
    async def test(desk):
        order = await desk.place()
        cancels = [asyncio.ensure_future(desk.gateway.cancel(BTC, order.external_id)) for _ in range(2)]
        await asyncio.sleep(0)
        await desk.gateway.close()
        for cancel in cancels:
            with pytest.raises(OutcomeUnknown):
                await cancel

    at_the_desk(test)


def test_leverage_is_set_within_the_markets_bounds():
    async def test(desk):
        assert await desk.gateway.leverage([BTC]) == {BTC: 10}
        await desk.gateway.set_leverage(BTC, Decimal(20))
        assert await desk.gateway.leverage([BTC]) == {BTC: 20}
        for wrong, code in ((Decimal("0.5"), 1049), (Decimal(51), 1050)):
            with pytest.raises(OrderRefused) as refusal:
                await desk.gateway.set_leverage(BTC, wrong)
            assert refusal.value.code == code

    at_the_desk(test)


def test_a_cancel_that_comes_too_late_is_refused():
    async def test(desk):
        order = await desk.place(expire_ns=desk.inside.clock.now_ns() + NS_PER_S)
        await asyncio.sleep(0.85)
        # It expires at the exchange while the cancel is on its way.
        with pytest.raises(OrderRefused) as refusal:
            await desk.gateway.cancel(BTC, order.external_id)
        assert refusal.value.code == 404
        assert desk.reports(order)[-1] == ("EXPIRED", "NONE")

    at_the_desk(test)


def test_orders_wait_for_a_book_and_nobody_waits_for_a_closed_gateway():
    async def main():
        inside = Inside("flat")
        desk = Desk(inside)
        desk.instrument = (await desk.gateway.instruments([BTC]))[BTC]
        desk.market.append(BestQuote(BTC, 90_000, 1, 90_001, 1, 0, 0))
        with pytest.raises(OutcomeUnknown, match="expected a book"):
            await desk.place()
        async with desk:
            waiting = asyncio.ensure_future(desk.place())
            await asyncio.sleep(0)
            await desk.gateway.close()
            with pytest.raises(OutcomeUnknown, match="closed"):
                await waiting
            await desk.gateway.close()

    in_virtual_time(main)


def test_what_cannot_be_filled_by_ends_the_streams(monkeypatch):
    """A size that no row holds, as in a recording that is refused."""

    async def test(desk):
        def refuse(_messages):
            msg = "expected at most 4294967295 lots"
            raise RecordingError(msg)

        monkeypatch.setattr(desk.gateway._markets[BTC]._folding, "feed", refuse)
        await asyncio.sleep(1.0)
        for task in desk._tasks:
            assert task.done()
            with pytest.raises(RecordingError, match="at most"):
                task.result()

    at_the_desk(test)


# Sessions.


class Session:
    """A session on paper: how it ended, its journal, and what it looked like meanwhile."""

    def __init__(self, inside, *settings) -> None:
        self.inside = inside
        self.config = load_config([f"markets={','.join(inside.markets)}", *settings])
        self.public = Public(inside.driver, inside.account_id)
        self.gateway = paper_gateway(self.config, self.public, inside.clock)
        self.target = io.BytesIO()
        self.seen = {}

    async def run(self, seconds, during=None):
        journal = TradeJournal(InlineSink(self.target), self.inside.clock)
        beside = []

        def started(strategy):
            if during is not None:
                beside.append(asyncio.ensure_future(during(self, strategy)))

        surroundings = Surroundings(self.gateway, self.config, self.inside.clock, Entropy(1), journal)
        outcome = await MarketMakerStrategy.run(surroundings, seconds, started)
        for task in beside:
            await task
        at_end = await self.gateway.balance(), await self.gateway.open_orders(), await self.gateway.fills(0)
        await self.gateway.close()
        self.outcome, (self.balance, self.open, self.fills) = outcome, at_end
        return self

    def records(self, kind):
        lines = (json.loads(line) for line in self.target.getvalue().splitlines())
        return [line for line in lines if line["type"] == kind]


def session(seconds, *settings, during=None, **how):
    async def main():
        return await Session(Inside(**how), *settings).run(seconds, during)

    return in_virtual_time(main)


def assert_sound(played):
    strategy = played.outcome.strategy
    assert strategy.books_agree
    assert strategy.equity_at_end == played.balance.equity
    assert (played.outcome.remaining, played.open) == ((), [])
    for market in played.inside.markets:
        parts = strategy.session.ledger.attribution(market)
        assert parts.total + parts.basis == strategy.session.ledger.change_of_equity(market)


@pytest.mark.slow
def test_a_session_quotes_fills_on_both_sides_and_ends_with_equal_books():
    played = session(120.0, *NEAR, scenario="choppy", markets=(BTC, "ETH-USD"))
    assert_sound(played)
    assert {report.fill.side for report in played.fills} == set(Side)
    strategy = played.outcome.strategy
    fees = sum(strategy.session.ledger.attribution(market).fees for market in played.inside.markets)
    assert fees == -sum(report.fee for report in played.fills)
    assert all(strategy.session.uptime[market].report(0) for market in played.inside.markets)
    # At the exchange nothing ever happened.
    assert not played.inside.account.open
    assert not played.inside.account.trades
    [said] = played.records("paper")
    assert said["fill_model"] == "paper-base"
    assert venue_of(played.config, played.gateway) == "paper (testnet)"
    assert fill_model_of(played.config, played.gateway) == "paper-base"


@pytest.mark.slow
def test_fees_and_funding_are_in_both_books():
    played = session(
        150.0,
        *NEAR,
        "paper_maker_fee_bps=1.5",
        "paper_funding_every_s=20",
        scenario="mixed",
        exchange_rules=rules(money={"funding_speedup": 180.0}),
    )
    assert_sound(played)
    parts = played.outcome.strategy.session.ledger.attribution(BTC)
    assert parts.fees < 0
    assert parts.funding != 0
    assert len(played.records("funding")) >= 2


def test_our_own_orders_are_not_taken_out_of_a_book_that_does_not_show_them():
    async def during(played, strategy):
        await asyncio.sleep(4.0)
        desk, mirror = strategy.session.desks[BTC], OrderbookManager(played.public.rules, BookSettings())
        for event in played.public.told:
            if isinstance(event, BookUpdate):
                mirror.apply(event)
            elif isinstance(event, BestQuote):
                mirror.apply_best(event)
        ours = {(it.order.side, it.price_ticks) for it in strategy.orders.working()}
        for side in Side:
            played.seen[side] = desk.book.levels(side, 400), mirror.levels(side, 400)
            played.seen["ours", side] = {ticks for at, ticks in ours if at is side}

    played = session(6.0, *NEAR, scenario="flat", during=during)
    for side in Side:
        shown, told = played.seen[side]
        assert shown == told
        assert played.seen["ours", side] & {ticks for ticks, _ in shown}


def test_quotes_are_pulled_while_the_exchange_is_silent_and_return_with_it():
    async def during(played, strategy):
        await asyncio.sleep(3.0)
        played.inside.exchange.set_faults(Faults(silent_streams=True))
        await asyncio.sleep(20.0)
        desk = strategy.session.desks[BTC]
        played.seen["silent"] = len(strategy.orders.working()), desk.reasons[desk.slots[0]]
        played.inside.exchange.set_faults(Faults())
        await asyncio.sleep(6.0)
        played.seen["after"] = len(strategy.orders.working())

    played = session(35.0, scenario="flat", during=during)
    assert_sound(played)
    assert played.seen["silent"][0] == 0
    assert played.seen["silent"][1] in (Reason.STALE_BOOK, Reason.STREAM_LOST)
    assert played.seen["after"] > 0


def test_an_exchange_that_is_gone_ends_the_session_with_sound_books():
    async def during(played, _strategy):
        await asyncio.sleep(5.0)
        played.inside.driver.close()

    played = session(20.0, scenario="flat", during=during)
    assert_sound(played)
    assert played.outcome.why == "a stream of the exchange ended"


def test_a_second_session_begins_flat_with_the_starting_balance():
    first = session(20.0, *NEAR, scenario="mixed")
    again = session(1.0, scenario="flat")
    assert again.outcome.strategy.session.start_equity == 10_000
    assert first.outcome.strategy.session.start_equity == 10_000


def test_the_switch_ends_what_nobody_feeds():
    async def test(desk):
        order = await desk.place()
        await desk.gateway.arm_dead_mans_switch(3)
        await asyncio.sleep(2.8)
        assert desk.reports(order) == [("LIVE", "NONE")]
        await asyncio.sleep(0.3)
        assert desk.reports(order)[-1] == ("CANCELLED", "NONE")

    at_the_desk(test)


def test_ids_that_ended_are_remembered_and_told_by_their_last_state():
    async def test(desk):
        order = await desk.place()
        with suppress(OrderRefused):
            await desk.gateway.cancel(BTC, order.external_id)
        found = await desk.gateway.order(order.external_id)
        assert (found.state, found.price_ticks) == (OrderState.CANCELLED, order.price_ticks)

    at_the_desk(test)
