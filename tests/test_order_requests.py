"""Requests and what their replies mean."""

import asyncio

import pytest
from fakes import START_NS, FakeGateway
from order_world import ASK, BID, MARKET, S, approve, virtual

from market_maker.clock import Entropy
from market_maker.domain import Action, Side
from market_maker.exposure import Exposure
from market_maker.gateway import (
    CredentialsRefused,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
)
from market_maker.order_manager import OrderManager
from market_maker.order_records import OrderSettings
from market_maker.risk_manager import OrderStyle

# Placing, and what the order looks like.


@virtual
async def test_an_order_is_sent_as_approved(w):
    await w.do(BID, price=123, lots=7, reduce_only=True, style=OrderStyle.IMMEDIATE_OR_CANCEL)
    ((external_id, order),) = w.gateway.sent.items()
    assert external_id.startswith("mm-0-")
    assert set(external_id) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
    assert (order.market, order.side, order.price_ticks, order.size_lots) == (MARKET, Side.BUY, 123, 7)
    assert (order.post_only, order.reduce_only, order.immediate_or_cancel) == (False, True, True)
    assert order.expire_ns == START_NS + 90 * 10**9
    assert 1 <= order.nonce < 2**31
    assert w.orders.owns(external_id)
    assert not w.orders.owns("mm2-0-abc")
    assert w.orders.exposure(MARKET) == Exposure(0, 0, 7, 0, 1)


@virtual
async def test_accepted_is_not_resting(w):
    await w.do(BID)
    assert w.state() == S.PENDING_NEW
    w.pump()
    assert w.state() == S.LIVE
    assert w.orders.slot_order(BID).remaining_lots == 10
    assert w.orders.counters.placed == 1


def test_a_prefix_that_the_exchange_would_not_take():
    with pytest.raises(ValueError, match="expected 1 to 16 letters"):
        OrderManager(FakeGateway(), None, Entropy(1), OrderSettings(order_id_prefix="a-b"))


@virtual
async def test_an_approval_for_another_slot(w):
    with pytest.raises(ValueError, match="expected an approval for"):
        w.orders.apply(ASK, approve(BID))


@virtual
async def test_a_stale_approval_sends_nothing(w):
    await w.quote()
    await w.do(BID)
    await w.do(ASK, Action.REPLACE)
    await w.do(ASK, Action.CANCEL)
    await w.do(BID, Action.KEEP)
    assert len(w.gateway.calls) == 1


# Refusals.


@virtual
async def test_a_refused_order_frees_its_slot(w):
    w.gateway.fail("place", OrderRefused("OrderCostExceedsBalance", 1140))
    await w.do(BID)
    assert w.state() is None
    assert w.lots() == (0, 0)
    assert w.heard == [
        ("rejected", BID, "OrderCostExceedsBalance"),
        ("freed", BID, S.REJECTED, "OrderCostExceedsBalance"),
    ]
    assert w.orders.counters.rejected == 1


@virtual
async def test_a_rate_limit_says_when_to_try_again(w):
    w.gateway.fail("place", RateLimited("slow down", 2.5))
    await w.do(BID)
    assert w.heard == [("freed", BID, S.REJECTED, "RATE_LIMITED")]
    assert w.orders.rate_limited_until_ns == START_NS + 2_500_000_000
    assert (w.orders.counters.rate_limited, w.orders.counters.rejected) == (1, 0)


@virtual
async def test_lesson_18_refused_credentials_are_fatal(w):
    w.gateway.fail("place", CredentialsRefused("Unauthorized", 401))
    with pytest.raises(CredentialsRefused):
        await w.do(BID)
    assert w.state() is None
    await w.quote()
    w.gateway.fail("cancel", CredentialsRefused("Unauthorized", 401))
    with pytest.raises(CredentialsRefused):
        await w.do(BID, Action.CANCEL)
    assert w.state() == S.LIVE
    w.gateway.fail("open_orders", CredentialsRefused("Unauthorized", 401))
    with pytest.raises(CredentialsRefused):
        await w.orders.reconcile()


@pytest.mark.parametrize("state", [S.REJECTED, S.CANCELLED])
def test_lesson_22_a_post_only_rejection_is_no_failure(state):
    async def check(w):
        external_id = await w.quote()
        w.gateway.finish(external_id, state, "POST_ONLY_FAILED")
        w.pump()
        assert w.heard == [("post_only", BID), ("freed", BID, state, "POST_ONLY_FAILED")]
        assert w.orders.counters.rejected == 0
        assert w.orders.counters.post_only_rejected == 1

    virtual(check)()


# Replacing.


@virtual
async def test_a_replacement_reserves_old_and_new(w):
    old = await w.quote()
    await w.do(BID, Action.REPLACE, price=99, lots=7)
    assert w.lots() == (17, 0)
    new = w.orders.slot_order(BID)
    assert new.order.replaces == old
    assert new.price_ticks == 99
    w.pump()
    assert w.lots() == (7, 0)
    assert w.state() == S.LIVE
    assert w.heard == []
    assert (w.orders.counters.placed, w.orders.counters.replaced) == (1, 1)


@virtual
async def test_a_refused_replacement_leaves_the_old_order(w):
    old = await w.quote()
    w.gateway.fail("place", OrderRefused("InvalidPriceAmount", 1141))
    await w.do(BID, Action.REPLACE, price=99)
    assert w.orders.slot_order(BID).external_id == old
    assert w.state() == S.LIVE
    assert w.lots() == (10, 0)
    assert w.heard == [("rejected", BID, "InvalidPriceAmount")]


@virtual
async def test_a_replacement_of_an_order_that_is_gone(w):
    old = await w.quote()
    w.gateway.fill(old, 10)
    await w.do(BID, Action.REPLACE, price=99)
    # 1142: the fill is on its way, so the old order still counts.
    assert w.state() == S.UNKNOWN
    assert w.lots() == (10, 0)
    w.pump()
    assert w.lots() == (0, 0)
    assert w.heard == [("freed", BID, S.FILLED, ""), ("fill", BID, 10)]
    assert w.orders.counters.rejected == 0


@virtual
async def test_a_replacement_that_fails_to_match_cancels_both(w):
    await w.quote()
    await w.do(BID, Action.REPLACE, price=99)
    new = w.orders.slot_order(BID).external_id
    w.gateway.finish(new, S.REJECTED, "PREV_ORDER_TRIGGERED")
    w.pump()
    assert w.lots() == (0, 0)
    assert w.heard == [("freed", BID, S.REJECTED, "PREV_ORDER_TRIGGERED")]


@virtual
async def test_a_replacement_of_unknown_outcome_is_looked_up(w):
    old = await w.quote()
    w.gateway.fail("place", OutcomeUnknown("reset"), late=True)
    await w.do(BID, Action.REPLACE, price=99)
    w.gateway.stream.clear()
    assert w.state() == S.UNKNOWN
    assert w.lots() == (20, 0)
    await w.orders.reconcile()
    assert w.state() == S.LIVE
    await asyncio.sleep(6)
    await w.orders.reconcile()
    assert w.lots() == (10, 0)
    assert w.gateway.orders[old].state == S.CANCELLED
