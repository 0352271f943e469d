"""The exchange inside as a gateway: each method, each kind of error, the order of what it lists."""

import asyncio
from contextlib import suppress
from decimal import Decimal

import pytest
from inside import BTC, START_NS, Inside, in_virtual_time, rules

from market_maker.domain import NS_PER_S, BestQuote, BookUpdate, NewOrder, OrderState, Side, Trade
from market_maker.emulator.faults import Faults
from market_maker.emulator.rules import Mode
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.gateway import (
    BalanceReport,
    FillReport,
    FundingRate,
    IndexPrice,
    MarketNotFound,
    MarkPrice,
    OrderRefused,
    OrderReport,
    OutcomeUnknown,
    PositionReport,
    RateLimited,
    StreamLost,
)

ETH = "ETH-USD"
LOTS = 1_000


class Desk:
    """A gateway on an exchange, and orders without ceremony."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        self.gateway = InProcessGateway(inside.driver, inside.account_id)
        self._names = 0

    def order(self, side: Side, ticks: int, lots: int = LOTS, **changes) -> NewOrder:
        self._names += 1
        given = {
            "post_only": False,
            "reduce_only": False,
            "immediate_or_cancel": False,
            "expire_ns": self.inside.clock.now_ns() + 60 * NS_PER_S,
            "nonce": 1,
        }
        market = changes.pop("market", BTC)
        return NewOrder(market, f"mm-{self._names}", side, ticks, lots, **(given | changes))

    async def rest(self, ticks_off: int = 100, side: Side = Side.BUY) -> NewOrder:
        """An order that rests off the best price."""
        order = self.order(side, self.inside.best(side) - side * ticks_off)
        await self.gateway.place(order)
        await asyncio.sleep(0.2)
        return order

    async def take(self, side: Side, lots: int = LOTS) -> NewOrder:
        """An order that fills at once."""
        order = self.order(side, self.inside.best(Side(-side)) + 50 * side, lots, immediate_or_cancel=True)
        await self.gateway.place(order)
        await asyncio.sleep(0.2)
        return order


def at_the_desk(program, *, exchange_rules=None, markets=(BTC,)):
    """Run a test at a desk of the exchange, once its market is there."""

    async def main():
        desk = Desk(Inside("flat", markets, exchange_rules=exchange_rules))
        await desk.inside.until(1.0)
        await desk.gateway.instruments(())
        return await program(desk)

    return in_virtual_time(main)


async def collect(events, seconds: float) -> list:
    """What a stream tells in a time, or until it ends."""
    found = []
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async for event in events:
                found.append(event)  # noqa: PERF401  (what came before the time was up is wanted)
    return found


def test_instruments_are_those_named_and_all_where_none_is():
    async def program(desk):
        return await desk.gateway.instruments(()), await desk.gateway.instruments((ETH,))

    everything, one = at_the_desk(program, markets=(BTC, ETH))
    assert list(everything) == [BTC, ETH]
    assert list(one) == [ETH]
    assert everything[BTC].tick == 1
    assert everything[BTC].step == Decimal("0.00001")


def test_a_market_that_does_not_exist_is_named_beside_those_that_do():
    async def program(desk):
        with pytest.raises(MarketNotFound, match=r"no market 'NO-USD'.*available: BTC-USD"):
            await desk.gateway.instruments(("NO-USD",))

    at_the_desk(program)


@pytest.mark.parametrize(
    "ask",
    [
        lambda desk: desk.gateway.fees("NO-USD"),
        lambda desk: desk.gateway.candles("NO-USD", 5),
        lambda desk: desk.gateway.place(desk.order(Side.BUY, 1, market="NO-USD")),
        lambda desk: anext(desk.gateway.market_events("NO-USD")),
    ],
    ids=["fees", "candles", "place", "market_events"],
)
def test_every_request_about_an_unknown_market_says_so(ask):
    async def program(desk):
        with pytest.raises(MarketNotFound, match="was NO-USD"):
            await ask(desk)

    at_the_desk(program)


def test_fees_are_those_of_the_account():
    async def program(desk):
        return await desk.gateway.fees(BTC)

    fees = at_the_desk(program, exchange_rules=rules(money={"maker_fee": Decimal("-0.00002")}))
    assert (fees.maker, fees.taker) == (Decimal("-0.00002"), Decimal("0.00025"))


def test_leverage_is_that_of_the_account():
    async def program(desk):
        return await desk.gateway.leverage((ETH,))

    assert at_the_desk(program, markets=(BTC, ETH)) == {ETH: 10}


def test_candles_come_oldest_first():
    async def program(desk):
        return await desk.gateway.candles(BTC, 5)

    candles = at_the_desk(program)
    opens = [candle.open_ns for candle in candles]
    assert opens == [START_NS - minutes * 60 * NS_PER_S for minutes in (5, 4, 3, 2, 1)]
    assert all(candle.low <= candle.close <= candle.high for candle in candles)


def test_a_placed_order_is_accepted_then_rests_then_is_found_by_its_id():
    async def program(desk):
        order = await desk.rest()
        return order, await desk.gateway.open_orders(), await desk.gateway.order(order.external_id)

    order, listed, found = at_the_desk(program)
    assert listed == [found]
    assert (found.external_id, found.side, found.state) == (order.external_id, Side.BUY, OrderState.LIVE)
    assert (found.price_ticks, found.size_lots, found.filled_lots) == (order.price_ticks, LOTS, 0)


def test_a_cancelled_order_is_found_as_such_and_one_that_nobody_knows_is_none():
    async def program(desk):
        assert await desk.gateway.order("mm-0-nobody") is None
        order = await desk.rest()
        await desk.gateway.cancel(BTC, order.external_id)
        await asyncio.sleep(0.2)
        return await desk.gateway.open_orders(), await desk.gateway.order(order.external_id)

    listed, found = at_the_desk(program)
    assert (listed, found.state) == ([], OrderState.CANCELLED)


def test_a_mass_cancel_spares_the_markets_that_it_does_not_name():
    async def program(desk):
        await desk.rest()
        other = desk.order(Side.BUY, desk.inside.best(Side.BUY, ETH) - 50, 100, market=ETH)
        await desk.gateway.place(other)
        await asyncio.sleep(0.2)
        await desk.gateway.mass_cancel((BTC,))
        await asyncio.sleep(0.2)
        return [report.market for report in await desk.gateway.open_orders()]

    assert at_the_desk(program, markets=(BTC, ETH)) == [ETH]


def test_a_replacement_takes_the_place_of_the_old_order():
    async def program(desk):
        old = await desk.rest()
        new = desk.order(Side.BUY, old.price_ticks - 10)._replace(replaces=old.external_id)
        await desk.gateway.place(new)
        await asyncio.sleep(0.2)
        return await desk.gateway.order(old.external_id), await desk.gateway.order(new.external_id)

    old, new = at_the_desk(program)
    assert (old.state, new.state) == (OrderState.CANCELLED, OrderState.LIVE)


def test_the_dead_mans_switch_fires_where_it_is_not_fed_and_not_once_disarmed():
    async def program(desk):
        await desk.rest()
        await desk.gateway.arm_dead_mans_switch(5)
        await desk.gateway.arm_dead_mans_switch(0)
        await asyncio.sleep(6.0)
        disarmed = len(await desk.gateway.open_orders())
        await desk.gateway.arm_dead_mans_switch(5)
        await asyncio.sleep(6.0)
        return disarmed, len(await desk.gateway.open_orders())

    assert at_the_desk(program) == (1, 0)


def test_fills_come_oldest_first_and_not_from_before_the_instant():
    async def program(desk):
        await desk.take(Side.BUY)
        since_ns = desk.inside.clock.now_ns()
        for side in (Side.BUY, Side.SELL, Side.SELL):
            await desk.take(side)
        return await desk.gateway.fills(0), await desk.gateway.fills(since_ns)

    every, recent = at_the_desk(program)
    ids = [report.fill.trade_id for report in every]
    assert ids == sorted(ids)
    assert [report.fill.side for report in recent] == [Side.BUY, Side.SELL, Side.SELL]
    assert [report.fill.trade_id for report in recent] == ids[1:]
    assert all(report.fill.is_taker for report in every)
    assert all(report.fee > 0 for report in every)


def test_position_and_balance_are_the_accounts():
    async def program(desk):
        flat = await desk.gateway.positions()
        await desk.take(Side.SELL)
        return desk.inside, flat, await desk.gateway.positions(), await desk.gateway.balance()

    inside, flat, held, balance = at_the_desk(program)
    assert (flat, [(report.market, report.size_lots) for report in held]) == ([], [(BTC, -LOTS)])
    assert balance.equity == inside.exchange.equity(inside.account_id)
    assert balance.available_for_trade < balance.equity


def test_funding_payments_come_oldest_first():
    async def program(desk):
        await desk.take(Side.BUY)
        await asyncio.sleep(30.0)
        return desk.inside, await desk.gateway.funding_payments(0)

    inside, payments = at_the_desk(program, exchange_rules=rules(money={"funding_speedup": 360.0}))
    assert [payment.payment_id for payment in payments] == sorted(p.payment_id for p in payments)
    assert [payment.amount for payment in payments] == [p.amount for p in inside.account.payments]
    assert len(payments) == 3


def test_the_market_stream_starts_with_a_snapshot_and_goes_on_in_turn():
    async def program(desk):
        return await collect(desk.gateway.market_events(BTC), 10.0)

    events = at_the_desk(program, exchange_rules=rules(money={"funding_speedup": 720.0}))
    books = [event for event in events if isinstance(event, BookUpdate)]
    assert [book.is_snapshot for book in books[:3]] == [True, False, False]
    assert [book.seq for book in books] == list(range(1, len(books) + 1))
    kinds = {type(event) for event in events}
    assert kinds == {BookUpdate, BestQuote, Trade, MarkPrice, IndexPrice, FundingRate}


def test_a_corrupt_book_frame_is_a_lost_stream_that_resumes_with_a_snapshot():
    async def program(desk):
        desk_events = asyncio.ensure_future(collect(desk.gateway.market_events(BTC), 4.0))
        await asyncio.sleep(2.0)
        desk.inside.driver.break_market(BTC)
        return await desk_events

    events = at_the_desk(program)
    lost = next(i for i, event in enumerate(events) if isinstance(event, StreamLost))
    assert events[lost].market == BTC
    resumed = next(event for event in events[lost:] if isinstance(event, BookUpdate))
    assert (resumed.is_snapshot, resumed.seq) == (True, 1)


def test_a_gap_of_the_book_is_a_lost_stream_that_resumes_with_a_snapshot():
    async def program(desk):
        desk_events = asyncio.ensure_future(collect(desk.gateway.market_events(BTC), 6.0))
        await asyncio.sleep(2.0)
        desk.inside.driver.losing = {"book"}
        await asyncio.sleep(1.0)
        desk.inside.driver.losing = set()
        return await desk_events

    events = at_the_desk(program)
    lost = next(i for i, event in enumerate(events) if isinstance(event, StreamLost))
    assert "book frame" in events[lost].why
    resumed = next(event for event in events[lost:] if isinstance(event, BookUpdate))
    assert (resumed.is_snapshot, resumed.seq) == (True, 1)


def test_frames_that_come_twice_are_taken_once_and_counted():
    async def program(desk):
        desk.inside.exchange.set_faults(Faults(duplicate_frames=1.0))
        streams = [desk.gateway.market_events(BTC), desk.gateway.account_events()]
        listeners = [asyncio.ensure_future(collect(stream, 5.0)) for stream in streams]
        await asyncio.sleep(0.5)
        await desk.take(Side.BUY)
        return desk.gateway.unknown, *await asyncio.gather(*listeners)

    unknown, market, account = at_the_desk(program)
    assert not any(isinstance(event, StreamLost) for event in (*market, *account))
    seqs = [event.seq for event in market if isinstance(event, BookUpdate)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert len([event for event in account if isinstance(event, FillReport)]) == 1
    assert unknown["book frame twice"] == len(seqs)
    assert unknown["account frame twice"] > 3


def test_a_stream_that_the_exchange_closes_is_lost_and_tried_again_with_pauses():
    async def program(desk):
        desk.inside.exchange.set_faults(Faults(close_streams=1.0))
        streams = [desk.gateway.market_events(BTC), desk.gateway.account_events()]
        listeners = [asyncio.ensure_future(collect(stream, 2.0)) for stream in streams]
        await asyncio.sleep(1.0)
        desk.inside.exchange.set_faults(Faults())
        return await asyncio.gather(*listeners)

    for events in at_the_desk(program):
        lost = [event for event in events if isinstance(event, StreamLost)]
        assert 3 <= len(lost) <= 10
        assert {event.why for event in lost} == {"the exchange closed the stream"}
        assert not isinstance(events[-1], StreamLost)


def test_a_request_whose_reply_is_lost_has_an_unknown_outcome_and_was_carried_out():
    async def program(desk):
        desk.inside.exchange.set_faults(Faults(lost_replies=1.0))
        with pytest.raises(OutcomeUnknown, match="within 5 s"):
            await desk.rest()
        return desk.inside

    assert len(at_the_desk(program).open_ids()) == 1


def test_leverage_is_set_in_one_market():
    async def program(desk):
        await desk.gateway.set_leverage(ETH, Decimal(5))
        with pytest.raises(OrderRefused):
            await desk.gateway.set_leverage(ETH, Decimal(1000))
        return await desk.gateway.leverage((BTC, ETH)), await desk.gateway.clock_skew_s()

    assert at_the_desk(program, markets=(BTC, ETH)) == ({BTC: 10, ETH: 5}, 0.0)


def test_the_account_stream_starts_with_what_is_there():
    async def program(desk):
        order = await desk.rest()
        await desk.take(Side.BUY)
        return order, await collect(desk.gateway.account_events(), 1.0)

    order, events = at_the_desk(program)
    by_kind = {type(event): event for event in events}
    assert set(by_kind) == {OrderReport, PositionReport, BalanceReport}
    assert by_kind[OrderReport].external_id == order.external_id
    assert by_kind[PositionReport].size_lots == LOTS


def test_the_account_stream_tells_of_an_order_and_its_match():
    async def program(desk):
        events = asyncio.ensure_future(collect(desk.gateway.account_events(), 2.0))
        await asyncio.sleep(0.5)
        await desk.take(Side.BUY)
        return await events

    events = at_the_desk(program)
    filled = next(e for e in events if isinstance(e, OrderReport) and e.state is OrderState.FILLED)
    match = next(e for e in events if isinstance(e, FillReport))
    assert match.fill.external_id == filled.external_id
    assert match.fill.size_lots == filled.filled_lots == LOTS


@pytest.mark.parametrize("how", ["corrupt", "gap"])
def test_a_broken_account_stream_is_lost_and_resumes_with_what_is_there(how):
    async def program(desk):
        events = asyncio.ensure_future(collect(desk.gateway.account_events(), 3.0))
        await asyncio.sleep(0.5)
        if how == "corrupt":
            desk.inside.driver.break_account(desk.inside.account_id)
        else:
            desk.inside.driver.losing = {"TRADE"}
            await desk.take(Side.BUY)
            desk.inside.driver.losing = set()
        await desk.rest()
        return await events

    events = at_the_desk(program)
    lost = next(i for i, event in enumerate(events) if isinstance(event, StreamLost))
    assert events[lost].market == ""
    assert any(isinstance(event, BalanceReport) for event in events[lost:])
    assert any(isinstance(event, OrderReport) for event in events[lost:])


def test_an_account_stream_that_does_not_say_what_there_is_is_opened_anew():
    async def program(desk):
        desk.inside.driver.losing = {"ORDER", "BALANCE", "POSITION"}
        events = asyncio.ensure_future(collect(desk.gateway.account_events(), 15.0))
        await asyncio.sleep(9.0)
        desk.inside.driver.losing = set()
        return await events

    events = at_the_desk(program)
    assert isinstance(events[0], StreamLost)
    assert events[0].why.startswith("expected the stream to say what there is within 10 s")
    assert any(isinstance(event, BalanceReport) for event in events[1:])
    assert sum(isinstance(event, StreamLost) for event in events) == 1


def test_a_book_that_does_not_begin_is_asked_for_anew():
    """Where a market stands still nothing but time shows that its begin was lost."""

    async def program(desk):
        desk.inside.driver.losing = {"book"}
        events = asyncio.ensure_future(collect(desk.gateway.market_events(BTC), 15.0))
        # Not a frame comes through until it is asked for anew.
        await asyncio.sleep(10.01)
        desk.inside.driver.losing = set()
        return await events

    events = at_the_desk(program)
    lost = next(i for i, event in enumerate(events) if isinstance(event, StreamLost))
    assert events[lost].why.startswith("expected the stream to say what there is within 10 s")
    assert any(isinstance(event, BookUpdate) and event.is_snapshot for event in events[lost:])


def test_a_refusal_is_an_error_with_its_code():
    async def program(desk):
        with pytest.raises(OrderRefused) as refusal:
            await desk.gateway.place(desk.order(Side.BUY, desk.inside.best(Side.BUY), 1))
        with pytest.raises(OrderRefused) as unknown:
            await desk.gateway.cancel(BTC, "mm-0-nobody")
        return refusal.value.code, unknown.value.code

    assert at_the_desk(program) == (1120, 404)


def test_too_many_requests_are_a_rate_limit_for_orders_and_look_ups():
    async def program(desk):
        for _ in range(2):
            await desk.gateway.positions()
        with pytest.raises(RateLimited):
            await desk.gateway.positions()
        with pytest.raises(RateLimited):
            await desk.gateway.place(desk.order(Side.BUY, desk.inside.best(Side.BUY)))

    at_the_desk(program, exchange_rules=rules(orders={"requests_per_minute": 3}))


def test_maintenance_is_a_refusal_by_its_own_code_whatever_the_http_status():
    async def program(desk):
        desk.inside.exchange.set_mode(Mode.MAINTENANCE)
        with pytest.raises(OrderRefused) as refusal:
            await desk.gateway.place(desk.order(Side.BUY, desk.inside.best(Side.BUY)))
        return refusal.value.code

    assert at_the_desk(program) == 1010


def test_a_reply_that_is_none_has_an_unknown_outcome():
    class Garbled(InProcessGateway):
        async def _look_up(self, query, decode):
            return await super()._look_up(lambda: b"<html>bad gateway</html>", decode)

    async def program(desk):
        gateway = Garbled(desk.inside.driver, desk.inside.account_id)
        for look_up in (gateway.positions, gateway.balance, gateway.open_orders):
            with pytest.raises(OutcomeUnknown, match="expected"):
                await look_up()

    at_the_desk(program)


def test_closed_it_ends_its_streams_and_every_request_fails():
    async def program(desk):
        gateway = desk.gateway
        streams = [gateway.market_events(BTC), gateway.account_events()]
        listeners = [asyncio.ensure_future(collect(stream, 60.0)) for stream in streams]
        placing = asyncio.ensure_future(gateway.place(desk.order(Side.BUY, desk.inside.best(Side.BUY))))
        await asyncio.sleep(0.001)
        await gateway.close()
        with pytest.raises(OutcomeUnknown):
            await placing
        for look_up in (gateway.positions, gateway.balance, gateway.open_orders):
            with pytest.raises(OutcomeUnknown):
                await look_up()
        for stream in (gateway.market_events(BTC), gateway.account_events()):
            assert [event async for event in stream] == []
        await asyncio.gather(*listeners)

    at_the_desk(program)
