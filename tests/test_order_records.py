"""Reservation, and events in any order."""

import asyncio

import pytest
from fakes import pump
from hypothesis import given
from hypothesis import strategies as st
from order_world import ASK, BID, MARKET, S, World, approve, virtual

from market_maker.clock import Entropy
from market_maker.domain import Action, Side, SlotId
from market_maker.exposure import Exposure
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.gateway import (
    OutcomeUnknown,
)
from market_maker.order_manager import OrderManager
from market_maker.order_records import OrderSettings

# Lesson 2: reservation at the moment of the decision.


@virtual
async def test_lesson_2_four_levels_at_once_see_each_other(w):
    tasks = []
    for level in range(4):
        slot = SlotId(MARKET, Side.BUY, level)
        request = w.orders.apply(slot, approve(slot))
        assert w.lots() == (10 * (level + 1), 0)
        tasks.append(asyncio.create_task(request))
    assert w.gateway.calls == []
    await asyncio.gather(*tasks)
    assert w.orders.exposure(MARKET) == Exposure(40, 0, 0, 0, 4)


@virtual
async def test_lesson_2_every_uncertain_state_counts(w):
    await w.quote()
    w.gateway.deaf_to_cancels.add(w.orders.slot_order(BID).external_id)
    await w.do(BID, Action.CANCEL)
    assert w.state() == S.PENDING_CANCEL
    assert w.lots() == (10, 0)
    w.gateway.fail("place", OutcomeUnknown("no reply"))
    await w.do(ASK)
    assert w.state(ASK) == S.UNKNOWN
    assert w.lots() == (10, 10)
    assert w.orders.counters.unknown == 1


@virtual
async def test_a_fill_counts_until_its_trade_is_booked(w):
    external_id = await w.quote()
    w.gateway.fill(external_id, 10, tell_trade=False)
    w.pump()
    assert w.state() is None
    assert w.lots() == (10, 0)
    w.orders.on_fill(w.gateway.past_fills[0])
    assert w.lots() == (0, 0)


# Lesson 3: any order of events.


@virtual
async def test_lesson_3_terminal_before_the_reply_makes_no_ghost(w):
    w.gateway.reply_delay_s["place"] = 1.0
    task = asyncio.create_task(w.orders.apply(BID, approve(BID)))
    await asyncio.sleep(0.1)
    (external_id,) = w.gateway.orders
    w.gateway.finish(external_id, S.CANCELLED, "SELF_TRADE_PROTECTION")
    w.pump()
    assert w.orders.slot_order(BID) is None
    await task
    assert w.orders.slot_order(BID) is None
    assert w.lots() == (0, 0)
    assert w.heard == [("freed", BID, S.CANCELLED, "SELF_TRADE_PROTECTION")]
    await w.quote(price=101)


@virtual
async def test_trades_before_the_report_and_after_the_end(w):
    external_id = await w.quote()
    w.gateway.fill(external_id, 4, tell_order=False)
    w.pump()
    assert w.orders.slot_order(BID).remaining_lots == 6
    w.gateway.fill(external_id, 6, tell_order=False)
    w.pump()
    assert w.state() is None
    w.orders.on_order_report(w.gateway.orders[external_id])
    assert w.lots() == (0, 0)
    assert w.heard == [("fill", BID, 4), ("fill", BID, 6), ("freed", BID, S.FILLED, "")]


@virtual
async def test_a_fill_of_an_order_being_cancelled_counts(w):
    external_id = await w.quote()
    w.gateway.deaf_to_cancels.add(external_id)
    await w.do(BID, Action.CANCEL)
    report = w.gateway.fill(external_id, 3)
    assert w.orders.on_fill(report) == report.fill
    w.gateway.finish(external_id, S.CANCELLED)
    w.pump()
    assert w.heard == [("fill", BID, 3), ("freed", BID, S.CANCELLED, "")]
    assert w.lots() == (0, 0)


@virtual
async def test_a_trade_that_is_delivered_twice_counts_once(w):
    external_id = await w.quote()
    report = w.gateway.fill(external_id, 3, tell_order=False)
    assert w.orders.on_fill(report) is not None
    assert w.orders.on_fill(report) is None
    w.pump()
    assert w.orders.slot_order(BID).remaining_lots == 7
    assert w.heard == [("fill", BID, 3)]


@virtual
async def test_a_fill_of_an_unknown_order_is_still_booked(w):
    w.gateway.rest("mm-0-before", MARKET, Side.SELL, 100, 5)
    report = w.gateway.fill("mm-0-before", 5, tell_order=False)
    assert w.orders.on_fill(report) == report.fill
    assert w.heard == [("fill", None, 5)]


@virtual
async def test_reports_that_are_not_about_us_change_nothing(w):
    w.orders.on_order_report(w.gateway.rest("hand-made", MARKET, Side.BUY, 100, 5))
    w.gateway.rest("mm-0-before", MARKET, Side.BUY, 100, 5)
    w.orders.on_order_report(w.gateway.finish("mm-0-before", S.EXPIRED))
    assert w.orders.working() == []


@virtual
async def test_a_state_that_the_exchange_has_no_right_to_is_ignored(w):
    external_id = await w.quote()
    w.orders.on_order_report(w.gateway.orders[external_id]._replace(state=S.UNKNOWN, filled_lots=2))
    assert w.state() == S.LIVE
    assert w.orders.slot_order(BID).remaining_lots == 8


@virtual
async def test_nobody_needs_to_listen(w):
    orders = OrderManager(w.gateway, w.clock, Entropy(2), OrderSettings(order_id_prefix="quiet"))
    for reason in ("POST_ONLY_FAILED", "INVALID_PRICE"):
        await orders.apply(BID, approve(BID))
        pump(w.gateway, orders)
        external_id = orders.slot_order(BID).external_id
        w.gateway.fill(external_id, 1)
        w.gateway.finish(external_id, S.REJECTED, reason)
        pump(w.gateway, orders)
    assert (orders.counters.post_only_rejected, orders.counters.rejected) == (1, 1)
    assert orders.foreign == ()


@pytest.mark.slow
@given(
    fills=st.lists(st.integers(1, 4), max_size=3),
    ending=st.sampled_from([S.CANCELLED, S.EXPIRED]),
    data=st.data(),
)
def test_lesson_3_any_order_of_events_and_any_repetition_end_alike(fills, ending, data):
    async def check(w):
        w.gateway.reply_delay_s["place"] = 2.0
        task = asyncio.create_task(w.orders.apply(BID, approve(BID, lots=20)))
        await asyncio.sleep(1)
        (external_id,) = w.gateway.orders
        for lots in fills:
            w.gateway.fill(external_id, lots)
        w.gateway.finish(external_id, ending)
        events = list(w.gateway.stream)
        repeated = data.draw(st.lists(st.sampled_from(events), max_size=4))
        shuffled = data.draw(st.permutations(events + repeated))
        reply_at = data.draw(st.integers(0, len(shuffled)))
        for index, event in enumerate(shuffled):
            if index == reply_at:
                await task
            w.gateway.stream.clear()
            w.gateway.stream.append(event)
            w.pump()
        await task
        assert w.traded() == sum(fills)
        assert [item for item in w.heard if item[0] == "freed"] == [("freed", BID, ending, "")]
        assert w.orders.exposure(MARKET) == Exposure()
        assert w.orders.slot_order(BID) is None

    virtual(check)()


def test_tombstones_are_bounded_and_kept_while_they_matter():
    async def check():
        w = World(OrderSettings(order_tombstones_kept=3))
        external_id = await w.quote()
        w.gateway.fill(external_id, 10, tell_trade=False)
        w.pump()
        for _ in range(30):
            w.gateway.finish(await w.quote(), S.CANCELLED)
            w.pump()
        assert w.lots() == (10, 0)
        w.orders.on_fill(w.gateway.past_fills[0])
        assert w.lots() == (0, 0)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(check())
