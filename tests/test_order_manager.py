"""Deadlines, the end and the beginning, against an exchange whose faults the tests choose."""

import asyncio

import pytest
from fakes import START_NS
from order_world import BID, MARKET, S, approve, virtual

from market_maker.domain import Action, Side, SlotId
from market_maker.gateway import (
    FillReport,
    OutcomeUnknown,
    RateLimited,
    VenueError,
)
from market_maker.order_manager import Recovered, RecoverPolicy

# Deadlines.


@virtual
async def test_a_request_without_reply_is_unknown_after_its_deadline(w):
    w.gateway.reply_delay_s["place"] = 60.0
    await w.do(BID)
    assert w.clock.now_ns() == START_NS + 5 * 10**9
    assert w.state() == S.UNKNOWN
    await w.orders.reconcile()
    assert w.state() == S.LIVE


@virtual
async def test_a_request_whose_task_is_cancelled_is_unknown(w):
    w.gateway.delay_s["place"] = 1.0
    task = asyncio.create_task(w.orders.apply(BID, approve(BID)))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert w.state() == S.UNKNOWN
    assert w.lots() == (10, 0)


@virtual
async def test_an_order_that_was_never_sent_is_settled(w):
    request = w.orders.apply(BID, approve(BID))
    request.close()
    assert w.lots() == (10, 0)
    for _ in range(20):
        await asyncio.sleep(1)
        await w.orders.reconcile()
    assert w.heard == [("freed", BID, S.REJECTED, "NOT_FOUND")]
    assert w.lots() == (0, 0)


@virtual
async def test_lesson_4_a_lost_cancel_confirmation_is_looked_up(w):
    external_id = await w.quote()
    await w.do(BID, Action.CANCEL)
    w.gateway.stream.clear()
    await w.orders.reconcile()
    assert w.state() == S.PENDING_CANCEL
    await asyncio.sleep(5)
    await w.orders.reconcile()
    assert w.state() is None
    assert w.heard == [("freed", BID, S.CANCELLED, "")]
    assert ("order", external_id) in w.gateway.calls


@virtual
async def test_lesson_4_a_cancel_that_was_lost_is_sent_again(w):
    external_id = await w.quote()
    w.gateway.fail("cancel", OutcomeUnknown("reset"))
    await w.do(BID, Action.CANCEL)
    assert w.state() == S.PENDING_CANCEL
    await asyncio.sleep(5)
    await w.orders.reconcile()
    w.pump()
    assert w.gateway.orders[external_id].state == S.CANCELLED
    assert w.state() is None
    assert w.orders.counters.cancelled == 2


@virtual
async def test_lesson_4_a_lost_end_of_a_resting_order_shows_in_the_snapshot(w):
    external_id = await w.quote()
    w.gateway.finish(external_id, S.EXPIRED, tell=False)
    await asyncio.sleep(1)
    await w.orders.reconcile()
    assert w.heard == [("freed", BID, S.EXPIRED, "")]


@virtual
async def test_a_resting_order_past_its_expiry_is_looked_up(w):
    await w.orders.reconcile()
    external_id = await w.quote()
    w.gateway.finish(external_id, S.EXPIRED, tell=False)
    w.gateway.fail("open_orders", VenueError("down"))
    await asyncio.sleep(w.settings.order_expiry_s + w.settings.order_pending_timeout_s + 1)
    await w.orders.reconcile()
    assert w.heard == [("freed", BID, S.EXPIRED, "")]


@virtual
async def test_a_cancel_refused_for_its_rate_leaves_the_order(w):
    await w.quote()
    w.gateway.fail("cancel", RateLimited("slow down"))
    await w.do(BID, Action.CANCEL)
    assert w.state() == S.LIVE


@virtual
async def test_a_cancel_of_an_order_that_is_not_found_is_looked_up(w):
    external_id = await w.quote()
    w.gateway.finish(external_id, S.CANCELLED, tell=False)
    await w.do(BID, Action.CANCEL)
    assert w.state() == S.UNKNOWN
    await w.orders.reconcile()
    assert w.state() is None


@virtual
async def test_not_found_is_not_proof_at_once(w):
    w.gateway.fail("place", OutcomeUnknown("reset"))
    await w.do(BID)
    looks = 0
    while w.state() == S.UNKNOWN:
        left = await w.orders.reconcile()
        assert (w.orders.slot_order(BID) in left.unsettled) == (w.state() == S.UNKNOWN)
        looks += 1
        await asyncio.sleep(1)
    assert looks == 6
    assert w.clock.now_ns() == START_NS + 6 * 10**9
    assert w.heard == [("freed", BID, S.REJECTED, "NOT_FOUND")]
    assert w.orders.counters.rejected == 0


@virtual
async def test_a_look_up_that_is_overtaken_settles_nothing(w):
    w.gateway.fail("place", OutcomeUnknown("reset"), late=True)
    await w.do(BID)
    (external_id,) = w.gateway.orders
    w.gateway.hidden.add(external_id)
    w.gateway.delay_s["order"] = 1.0
    task = asyncio.create_task(w.orders.reconcile())
    await asyncio.sleep(0.5)
    w.gateway.finish(external_id, S.REJECTED, "INVALID_PRICE")
    w.pump()
    await task
    assert not w.orders.working()
    assert w.heard[-1] == ("freed", BID, S.REJECTED, "INVALID_PRICE")


@virtual
async def test_an_order_that_arrives_after_all_is_counted_and_cancelled(w):
    w.gateway.fail("place", OutcomeUnknown("reset"), late=True)
    await w.do(BID)
    (external_id,) = w.gateway.orders
    w.gateway.hidden.add(external_id)
    w.gateway.stream.clear()
    for _ in range(8):
        await w.orders.reconcile()
        await asyncio.sleep(1)
    assert w.lots() == (0, 0)
    w.gateway.hidden.clear()
    w.orders.on_order_report(w.gateway.orders[external_id])
    assert w.lots() == (10, 0)
    assert w.orders.slot_order(BID) is None
    await w.orders.reconcile()
    w.pump()
    assert w.gateway.resting() == []
    assert w.lots() == (0, 0)
    assert len(w.heard) == 1


@virtual
async def test_a_lost_trade_is_fetched(w):
    external_id = await w.quote()
    w.gateway.fill(external_id, 10, tell_trade=False)
    w.pump()
    assert w.heard == [("freed", BID, S.FILLED, "")]
    await w.orders.reconcile()
    assert w.requests("fills") == 0
    await asyncio.sleep(5)
    left = await w.orders.reconcile()
    assert w.heard[-1] == ("fill", BID, 10)
    assert w.lots() == (0, 0)
    assert left.unsettled == ()


@virtual
async def test_a_fetched_trade_may_have_the_exchange_s_id_alone(w):
    external_id = await w.quote()
    report = w.gateway.fill(external_id, 10, tell_trade=False)
    w.pump()
    anonymous = FillReport(report.fill._replace(external_id=""), report.fee)
    assert w.orders.on_fill(anonymous) is not None
    assert w.lots() == (0, 0)


@virtual
async def test_a_trade_that_nobody_has_is_reported_and_looked_for_ever_more_rarely(w):
    external_id = await w.quote()
    w.gateway.fill(external_id, 10, tell_trade=False)
    w.pump()
    w.gateway.past_fills.clear()
    for _ in range(60):
        await asyncio.sleep(1)
        left = await w.orders.reconcile()
    assert [order.external_id for order in left.unsettled] == [external_id]
    assert w.lots() == (10, 0)
    assert w.requests("fills") == 4


@virtual
async def test_a_failed_reconcile_is_tried_again(w):
    external_id = await w.quote()
    w.gateway.finish(external_id, S.EXPIRED, tell=False)
    await asyncio.sleep(1)
    w.gateway.fail("open_orders", RateLimited("slow down"))
    await w.orders.reconcile()
    assert w.state() == S.LIVE
    w.gateway.fail("order", VenueError("bad gateway", 502))
    await w.orders.reconcile()
    assert w.state() == S.LIVE
    await asyncio.sleep(31)
    await w.orders.reconcile()
    assert w.state() is None


@virtual
async def test_foreign_orders_are_reported(w):
    foreign = w.gateway.rest("by-hand", MARKET, Side.BUY, 90, 1)
    assert (await w.orders.reconcile()).foreign == (foreign,)
    assert w.orders.foreign == (foreign,)
    assert w.lots() == (0, 0)


# The end.


@virtual
async def test_cancel_all_verifies(w):
    for level in range(3):
        await w.quote(SlotId(MARKET, Side.BUY, level))
    assert await w.orders.cancel_all([MARKET]) == []
    assert w.gateway.resting() == []
    assert w.requests("open_orders") == 1
    assert w.requests("cancel") == 0


@virtual
async def test_lesson_5_cancel_all_works_without_a_stream(w):
    await w.quote()
    w.gateway.fail("mass_cancel", OutcomeUnknown("reset"))
    assert await w.orders.cancel_all([MARKET]) == []
    assert w.gateway.resting() == []


@virtual
async def test_cancel_all_waits_for_what_is_on_its_way(w):
    w.gateway.delay_s["place"] = 2.0
    task = asyncio.create_task(w.orders.apply(BID, approve(BID)))
    await asyncio.sleep(0)
    assert await w.orders.cancel_all([MARKET]) == []
    await task
    assert w.gateway.resting() == []
    assert len(w.gateway.orders) == 1


@virtual
async def test_an_order_cancelled_before_its_turn_is_never_sent(w):
    request = w.orders.apply(BID, approve(BID))
    cancel = w.orders.apply(BID, approve(BID, Action.CANCEL))
    await request
    await cancel
    assert w.requests("place") == 0
    assert w.state() is None
    assert w.heard == [("freed", BID, S.REJECTED, "NOT_SENT")]


@virtual
async def test_cancel_all_says_what_remains(w):
    external_id = await w.quote()
    w.gateway.deaf_to_cancels.add(external_id)
    remaining = await w.orders.cancel_all([MARKET])
    assert [order.external_id for order in remaining] == [external_id]
    assert w.clock.now_ns() >= START_NS + 15 * 10**9
    assert w.requests("cancel") <= 16


@virtual
async def test_cancel_all_that_can_not_verify_is_not_clean(w):
    await w.quote()
    for _ in range(100):
        w.gateway.fail("open_orders", OutcomeUnknown("down"))
    with pytest.raises(OutcomeUnknown, match="expected a list of them"):
        await w.orders.cancel_all([MARKET])


@virtual
async def test_cancel_all_waits_out_a_rate_limit(w):
    await w.quote()
    w.gateway.fail("mass_cancel", RateLimited("slow down", 5.0))
    assert await w.orders.cancel_all([MARKET]) == []
    assert w.requests("cancel") == 1


@virtual
async def test_cancel_all_spares_other_markets_and_foreign_orders(w):
    other = await w.quote(SlotId("Y-USD", Side.BUY, 0))
    mine = await w.quote()
    w.gateway.rest("by-hand", MARKET, Side.BUY, 90, 1)
    await asyncio.sleep(1)
    await w.orders.reconcile()
    assert await w.orders.cancel_all([MARKET]) == []
    assert sorted(w.gateway.resting()) == sorted(["by-hand", other])
    assert w.gateway.orders[mine].state == S.CANCELLED
    assert w.requests("mass_cancel") == 0


# The beginning.


@virtual
async def test_recover_adopts_and_cancels_the_rest(w):
    w.gateway.rest("mm-0-first", MARKET, Side.BUY, 100, 5)
    w.gateway.rest("mm-0-twin", MARKET, Side.BUY, 99, 5)
    w.gateway.rest("mm-0-other", "Z-USD", Side.BUY, 99, 5)
    w.gateway.rest("mm-odd", MARKET, Side.SELL, 110, 5)
    foreign = w.gateway.rest("by-hand", MARKET, Side.SELL, 111, 5)
    # The stream may speak of them first.
    w.orders.on_order_report(w.gateway.orders["mm-0-first"])
    found = await w.orders.recover(RecoverPolicy.ADOPT, [MARKET])
    assert [order.external_id for order in found.adopted] == ["mm-0-first"]
    assert found.remaining == ()
    assert found.foreign == (foreign,)
    assert w.gateway.resting() == ["mm-0-first", "by-hand"]
    assert w.lots() == (5, 0)
    await w.do(BID, Action.REPLACE, price=101)
    w.pump()
    assert w.state() == S.LIVE
    assert w.orders.slot_order(BID).price_ticks == 101


@virtual
async def test_recover_cancels_all_of_ours(w):
    w.gateway.rest("mm-0-first", MARKET, Side.BUY, 100, 5)
    w.gateway.rest("mm-1-second", "Y-USD", Side.SELL, 100, 5)
    found = await w.orders.recover(RecoverPolicy.CANCEL, [MARKET])
    assert (found.adopted, found.remaining) == ((), ())
    assert w.gateway.resting() == []
    assert w.requests("mass_cancel") == 0


@virtual
async def test_recover_of_a_clean_account_asks_once(w):
    assert await w.orders.recover(RecoverPolicy.ADOPT, [MARKET]) == Recovered((), (), ())
    assert w.gateway.calls == [("open_orders", "")]


@virtual
async def test_recover_needs_an_answer(w):
    w.gateway.delay_s["open_orders"] = 60.0
    with pytest.raises(OutcomeUnknown, match="expected a reply in"):
        await w.orders.recover(RecoverPolicy.ADOPT, [MARKET])


@virtual
async def test_while_nobody_answers_one_look_up_a_round_is_enough(w):
    for level in range(4):
        w.gateway.fail("place", OutcomeUnknown("500"))
        await w.do(SlotId(MARKET, Side.BUY, level))
    for _ in range(4):
        w.gateway.fail("order", OutcomeUnknown("500"))
    asked = []
    for _ in range(4):
        before = w.requests("order")
        await w.orders.reconcile()
        asked.append(w.requests("order") - before)
        await asyncio.sleep(1.5)
    # All at once, then one at a time while that fails; it is answered, and all are asked for again.
    assert asked == [4, 1, 4, 4]


@virtual
async def test_after_a_loss_of_the_stream_what_is_pending_is_looked_up_at_once(w):
    name = await w.quote()
    w.gateway.deaf_to_cancels.add(name)
    await w.do(BID, Action.CANCEL)
    await w.orders.reconcile()
    assert w.requests("order") == 0
    w.gateway.finish(name, S.CANCELLED, tell=False)
    await asyncio.sleep(1.1)
    w.orders.on_stream_resumed()
    await w.orders.reconcile()
    assert w.state() is None
