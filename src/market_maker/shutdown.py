"""The way out: the wish to stop, then no order open, verified with the exchange, then the position."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Final

from market_maker.account_stream import AccountStream
from market_maker.config_sections import ForeignOrders, SessionSettings, StopAction
from market_maker.domain import NS_PER_S, Action, Book, Decision, Reason, Side, SlotId
from market_maker.gateway import VenueError
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.order_table import TrackedOrder
from market_maker.risk_manager import Approved, OrderStyle, RiskSettings
from market_maker.session import Session

_STEP_S: Final = 0.25
# Requests are counted over a minute: by then the exchange takes some again.
_RATE_WINDOW_NS: Final = 60 * NS_PER_S
# How far through the best price: what the exchange's own interface uses for market orders.
_AGGRESSION: Final = 0.0075
# How long the book of a position may take to come.
_BOOKS_NS: Final = 10 * NS_PER_S
# How long reducing orders rest after a refusal, at first and at most.
_FIRST_REST_NS: Final = NS_PER_S // 2
_LONGEST_REST_NS: Final = 8 * NS_PER_S


class Stop:
    """The wish to end the session, from wherever it comes; asked for twice it also hurries."""

    def __init__(self) -> None:
        self.why = ""
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def ask(self, why: str) -> None:
        """Ask for the end; a second call only hurries it: no position is reduced then."""
        if self.asked.is_set():
            self.hurried.set()
        self.why = self.why or why
        self.asked.set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Ask when SIGINT, SIGTERM or SIGHUP comes, for as long as this lasts.

        SIGHUP comes where the terminal is closed or the connection to it breaks; under nohup it is ignored.
        """
        loop = asyncio.get_running_loop()
        wanted = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            wanted.append(signal.SIGHUP)
        with suppress(NotImplementedError):
            for number in wanted:
                loop.add_signal_handler(number, self.ask, number.name)
        try:
            yield
        finally:
            with suppress(NotImplementedError):
                for number in wanted:
                    loop.remove_signal_handler(number)


async def leave_nothing_open(session: Session, orders: OrderManager) -> tuple[str, ...]:
    """Cancel every order of ours and verify it; the external ids of what may be open all the same.

    An exchange that takes no more requests for now is asked again until it has had time to.
    """
    deadline_ns = session.clock.now_ns() + _RATE_WINDOW_NS
    while True:
        refused = orders.counters.rate_limited
        remaining = await _cancel_and_verify(session, orders)
        is_late = session.clock.now_ns() >= deadline_ns
        if not remaining or is_late or orders.counters.rate_limited == refused:
            return tuple(order.external_id for order in remaining)


async def _cancel_and_verify(session: Session, orders: OrderManager) -> list[TrackedOrder]:
    try:
        # Where orders of others may stay, one may have come since we last looked.
        others_stay = session.config.of(SessionSettings).foreign_orders is ForeignOrders.LEAVE
        return await orders.cancel_all(session.desks, one_by_one=others_stay)
    except VenueError as error:
        session.journal.note("not_verified", {"why": str(error)})
        return orders.working()


async def reduce_position(
    session: Session, orders: OrderManager, account: AccountStream, hurried: asyncio.Event
) -> None:
    """Rest reducing orders only until flat, the time for it is over, or somebody hurries."""
    settings = session.config.of(SessionSettings)
    if settings.stop_action is not StopAction.REDUCE:
        return
    session.reducing = True
    session.refresh_limits(orders, account)
    deadline_ns = session.clock.now_ns() + round(settings.stop_reduce_s * NS_PER_S)
    while session.clock.now_ns() < deadline_ns and not (session.is_flat() or hurried.is_set()):
        await _step(hurried)


async def _step(hurried: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_STEP_S):
            await hurried.wait()


async def books_for_positions(session: Session, hurried: asyncio.Event) -> None:
    """Wait until every market with a position has a book and a mark, or the time for it is over."""
    deadline_ns = session.clock.now_ns() + _BOOKS_NS
    while session.clock.now_ns() < deadline_ns and not hurried.is_set():
        held = [desk for name, desk in session.desks.items() if session.ledger.position_lots(name)]
        if all(desk.book.book is not None and desk.mark is not None for desk in held):
            return
        await _step(hurried)


async def flatten_position(
    session: Session,
    orders: OrderManager,
    account: AccountStream,
    hurried: asyncio.Event,
    remaining: tuple[str, ...],
) -> tuple[str, ...]:
    """Take what is left of the positions off the market with immediate, reduce-only orders.

    Where the exchange refuses these (after maintenance it takes resting orders only), reducing orders rest
    for a while before the next try; each while is longer than the one before.

    Returns
    -------
    tuple of str
        What may be open all the same: `remaining`, until orders have rested and been cancelled here.
    """
    settings = session.config.of(SessionSettings)
    if settings.stop_action is not StopAction.FLATTEN:
        return remaining
    deadline_ns = session.clock.now_ns() + round(settings.stop_reduce_s * NS_PER_S)
    rest_ns = _FIRST_REST_NS
    while session.clock.now_ns() < deadline_ns and not (session.is_flat() or hurried.is_set()):
        refused = orders.counters.rejected
        if not await _send_all(session, orders, account, OrderStyle.IMMEDIATE_OR_CANCEL):
            break
        await _step(hurried)
        if orders.counters.rejected == refused or session.is_flat():
            continue
        await _send_all(session, orders, account, OrderStyle.POST_ONLY)
        until_ns = min(deadline_ns, session.clock.now_ns() + rest_ns)
        while session.clock.now_ns() < until_ns and not (session.is_flat() or hurried.is_set()):
            await _step(hurried)
        remaining = await leave_nothing_open(session, orders)
        rest_ns = min(2 * rest_ns, _LONGEST_REST_NS)
    if not session.is_flat():
        lots = {name: session.ledger.position_lots(name) for name in session.desks}
        session.journal.note("position_left", {"lots": lots})
    return remaining


async def _send_all(
    session: Session, orders: OrderManager, account: AccountStream, style: OrderStyle
) -> bool:
    """Send an order that closes its position in each market; False where the exchange takes none."""
    try:
        for desk in session.desks.values():
            await _reduce(session, desk, orders, account, style)
    except VenueError as error:
        session.journal.note("not_flattened", {"why": str(error)})
        return False
    return True


async def _reduce(
    session: Session, desk: MarketDesk, orders: OrderManager, account: AccountStream, style: OrderStyle
) -> None:
    # A book that is only old will do; one with a gap may be anywhere.
    lots, book = session.ledger.position_lots(desk.name), desk.book.book
    if lots == 0 or book is None or session.clock.now_ns() < orders.rate_limited_until_ns:
        return
    side = Side.SELL if lots > 0 else Side.BUY
    price_ticks = book.ask_ticks if side == Side.SELL else book.bid_ticks
    if style == OrderStyle.IMMEDIATE_OR_CANCEL:
        price_ticks = _through_the_book(session, desk, side, book)
        lots = _slice(desk, abs(lots), book.bid_depth_lots if side == Side.SELL else book.ask_depth_lots)
    most_lots = desk.instrument.lots_down(
        desk.instrument.max_limit_order_value / desk.instrument.price(price_ticks)
    )
    decision = Decision(
        Action.PLACE, Reason.STOPPING, price_ticks, min(abs(lots), most_lots), reduce_only=True
    )
    slot = SlotId(desk.name, side, 0)
    portfolio = session.portfolio(orders, account)
    verdict = session.risk.approve(slot, decision, portfolio, session.clock.now_ns(), style)
    if isinstance(verdict, Approved):
        await orders.apply(slot, verdict)


def _through_the_book(session: Session, desk: MarketDesk, side: Side, book: Book) -> int:
    """Price that takes what is near the best one, and stays within the band around the mark."""
    best = book.bid_ticks if side == Side.SELL else book.ask_ticks
    ticks, rules = round(best * (1 + side * _AGGRESSION)), desk.instrument
    if desk.mark is not None:
        band = Decimal(repr(session.config.of(RiskSettings, desk.name).mark_price_band)) or Decimal(1)
        if side == Side.SELL:
            ticks = max(ticks, rules.ticks_up(desk.mark * (1 - min(band, rules.price_floor))))
        else:
            ticks = min(ticks, rules.ticks_down(desk.mark * (1 + min(band, rules.price_cap))))
    return max(1, ticks)


def _slice(desk: MarketDesk, lots: int, depth_lots: int) -> int:
    """What to take at once: what is there near the best price, so that a thin book has time to refill."""
    taken = min(lots, max(depth_lots, desk.instrument.min_lots))
    # What would be left could not be sent on its own.
    return lots if lots - taken < desk.instrument.min_lots else taken
