"""The way out: what becomes of the position, and then no order open, verified with the exchange."""

import asyncio
from contextlib import suppress
from typing import Final

from market_maker.account_stream import AccountStream
from market_maker.config_sections import SessionSettings, StopAction
from market_maker.domain import NS_PER_S, Action, Decision, Reason, Side, SlotId
from market_maker.gateway import VenueError
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.risk_manager import Approved, OrderStyle
from market_maker.session import Session

_STEP_S: Final = 0.25
# How far through the best price: what the exchange's own interface uses for market orders.
_AGGRESSION: Final = 0.0075


async def leave_nothing_open(session: Session, orders: OrderManager) -> tuple[str, ...]:
    """Cancel every order of ours and verify it; the external ids of what may be open all the same."""
    try:
        remaining = await orders.cancel_all(session.desks)
    except VenueError as error:
        session.journal.note("not_verified", {"why": str(error)})
        remaining = orders.working()
    return tuple(order.external_id for order in remaining)


async def reduce_position(session: Session, hurried: asyncio.Event) -> None:
    """Rest reducing orders only until flat, the time for it is over, or somebody hurries."""
    settings = session.config.of(SessionSettings)
    if settings.stop_action is not StopAction.REDUCE:
        return
    session.reducing = True
    deadline_ns = session.clock.now_ns() + round(settings.stop_reduce_s * NS_PER_S)
    while session.clock.now_ns() < deadline_ns and not session.is_flat():
        with suppress(TimeoutError):
            async with asyncio.timeout(_STEP_S):
                await hurried.wait()
                return


async def flatten_position(session: Session, orders: OrderManager, account: AccountStream) -> None:
    """Take what is left of the positions off the market with immediate, reduce-only orders."""
    settings = session.config.of(SessionSettings)
    if settings.stop_action is not StopAction.FLATTEN:
        return
    deadline_ns = session.clock.now_ns() + round(settings.stop_reduce_s * NS_PER_S)
    while session.clock.now_ns() < deadline_ns and not session.is_flat():
        for desk in session.desks.values():
            await _take(session, desk, orders, account)
        await asyncio.sleep(_STEP_S)


async def _take(session: Session, desk: MarketDesk, orders: OrderManager, account: AccountStream) -> None:
    lots, book = session.ledger.position_lots(desk.name), desk.latest
    if lots == 0 or book is None:
        return
    side, best = (Side.SELL, book.bid_ticks) if lots > 0 else (Side.BUY, book.ask_ticks)
    price_ticks = max(1, round(best * (1 + side * _AGGRESSION)))
    decision = Decision(Action.PLACE, Reason.STOPPING, price_ticks, abs(lots), reduce_only=True)
    slot = SlotId(desk.name, side, 0)
    style = OrderStyle.IMMEDIATE_OR_CANCEL
    portfolio = session.portfolio(orders, account)
    verdict = session.risk.approve(slot, decision, portfolio, session.clock.now_ns(), style)
    if isinstance(verdict, Approved):
        await orders.apply(slot, verdict)
