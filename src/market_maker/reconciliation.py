"""Our books against the exchange's: positions while we trade, equity to the last digit when we stop."""

import asyncio
from decimal import Decimal
from typing import Final

from market_maker.account_stream import AccountStream
from market_maker.domain import NS_PER_S, Reason
from market_maker.gateway import CredentialsRefused, RateLimited, VenueError
from market_maker.order_manager import OrderManager
from market_maker.session import Session

_PAUSE_S: Final = 0.5
_TRIES: Final = 10
# Requests are counted over a minute: by then the exchange takes some again.
_RATE_WINDOW_NS: Final = 75 * NS_PER_S
_LOOK_BACK_NS: Final = 600 * NS_PER_S


def positions_agree(session: Session, account: AccountStream) -> bool:
    """Whether the exchange holds the positions that our fills add up to."""
    for name in session.desks:
        report = account.position(name)
        if session.ledger.position_lots(name) != (report.size_lots if report else 0):
            return False
    return True


def equity_at_their_marks(session: Session, account: AccountStream) -> Decimal:
    """Our equity at the marks by which the exchange valued its last position reports, USD."""
    reports = (account.position(name) for name in session.desks)
    return session.ledger.equity({r.market: r.mark_price for r in reports if r is not None})


async def compare_account(session: Session, orders: OrderManager, account: AccountStream) -> bool:
    """Look the account up and compare; fetch missing fills, and halt where positions do not agree.

    Events under way make the two differ for a moment, so it takes several looks to call it a difference.

    Returns
    -------
    bool
        Whether positions agree; False too where the exchange does not answer.

    Raises
    ------
    CredentialsRefused
        If the exchange does not accept ours any more.
    """
    try:
        if await _agree_in_the_end(session, orders, account):
            return True
        session.halt_all(Reason.DESYNCHRONISED, "positions differ from the exchange's")
    except CredentialsRefused:
        raise
    except VenueError as error:
        session.journal.note("not_compared", {"why": str(error)})
    return False


async def _agree_in_the_end(session: Session, orders: OrderManager, account: AccountStream) -> bool:
    for attempt in range(_TRIES):
        await session.answer(account.refresh())
        if positions_agree(session, account):
            return True
        if attempt == _TRIES // 2:
            await _fetch_fills(session, orders)
        await asyncio.sleep(_PAUSE_S)
    return False


async def _fetch_fills(session: Session, orders: OrderManager) -> None:
    """Take in what matched lately. What filled before the session is in the position that it started from."""
    since_ns = max(session.started_ns, session.clock.now_ns() - _LOOK_BACK_NS)
    for report in await session.answer(session.gateway.fills(since_ns)):
        orders.on_fill(report)


async def settle_books(
    session: Session, orders: OrderManager, account: AccountStream, hurried: asyncio.Event
) -> bool:
    """Fetch what is missing until our equity equals the exchange's; whether it does.

    Where the exchange does not answer and somebody hurries, one look has to do.
    """
    looks, deadline_ns = 0, session.clock.now_ns() + _RATE_WINDOW_NS
    while looks < _TRIES and session.clock.now_ns() < deadline_ns:
        try:
            session.funding.expect()
            await session.funding.fetch()
            if looks >= _TRIES // 2 and not positions_agree(session, account):
                await _fetch_fills(session, orders)
            await session.answer(account.refresh())
        except RateLimited as refusal:
            await asyncio.sleep(refusal.retry_after_s)
            continue
        except VenueError as error:
            session.journal.note("not_settled", {"why": str(error)})
            if hurried.is_set():
                return False
        else:
            balance = account.balance
            if balance is not None and equity_at_their_marks(session, account) == balance.equity:
                return True
        looks += 1
        await asyncio.sleep(_PAUSE_S)
    return False
