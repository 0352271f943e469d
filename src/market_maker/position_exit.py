"""Takes positions off the market with orders that only reduce: at once where that works, else by resting.

At the end of a session, and in the middle of one when the kill ladder says flatten. Where the exchange takes
no immediate orders (after maintenance it is post-only), or there is no book to be trusted, reducing orders
rest for a while at the best price that is known, and are renewed; each while is longer than the one before.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Final

from market_maker.account_stream import AccountStream
from market_maker.config_sections import ForeignOrders, SessionSettings
from market_maker.domain import NS_PER_S, Action, Book, Decision, Reason, Side, SlotId
from market_maker.gateway import VenueError
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.order_table import TrackedOrder
from market_maker.risk_manager import Approved, OrderStyle, RiskSettings
from market_maker.session import Session

# Levels of quotes are 20 at most, hedges have 90 and 91.
EXIT_LEVEL: Final = 92
_STEP_S: Final = 0.25
# Requests are counted over a minute: by then the exchange takes some again.
_RATE_WINDOW_NS: Final = 60 * NS_PER_S
# How far through the best price: what the exchange's own interface uses for market orders.
_AGGRESSION: Final = 0.0075
# How long reducing orders rest after a refusal, at first and at most.
_FIRST_REST_NS: Final = NS_PER_S // 2
_LONGEST_REST_NS: Final = 8 * NS_PER_S


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


class PositionExit:
    """Closes the positions of a session.

    Parameters
    ----------
    hurried : asyncio.Event
        Once it is set, nothing more is sent.

    Attributes
    ----------
    remaining : tuple of str
        What may be open all the same, by the last look.
    """

    def __init__(
        self, session: Session, orders: OrderManager, account: AccountStream, hurried: asyncio.Event
    ) -> None:
        self.remaining: tuple[str, ...] = ()
        self._session = session
        self._orders = orders
        self._account = account
        self._hurried = hurried

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Close until flat, until it is over, or until the exchange takes no order at all.

        Parameters
        ----------
        is_over : callable
            Whether to give up; asked again and again.
        """
        session, rest_ns = self._session, _FIRST_REST_NS
        while not (self._is_done() or is_over()):
            refused = self._orders.counters.rejected
            if not await self._send_all(OrderStyle.IMMEDIATE_OR_CANCEL):
                break
            await self._step()
            if self._is_done() or (self._orders.counters.rejected == refused and self._has_books()):
                continue
            await self._send_all(OrderStyle.POST_ONLY)
            until_ns = session.clock.now_ns() + rest_ns
            while session.clock.now_ns() < until_ns and not (self._is_done() or is_over()):
                await self._step()
            self.remaining = await leave_nothing_open(session, self._orders)
            rest_ns = min(2 * rest_ns, _LONGEST_REST_NS)

    def _is_done(self) -> bool:
        return not self._held() or self._hurried.is_set()

    def _held(self) -> list[MarketDesk]:
        """Markets with a position; the exchange takes no order that is as small as the rest of a fill."""
        session = self._session
        return [
            desk
            for name, desk in session.desks.items()
            if abs(session.ledger.position_lots(name)) >= max(1, desk.instrument.min_lots)
        ]

    def _has_books(self) -> bool:
        return all(desk.book.book is not None for desk in self._held())

    async def _step(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_STEP_S):
                await self._hurried.wait()

    async def _send_all(self, style: OrderStyle) -> bool:
        """Send an order that closes its position in each market; False where the exchange takes none."""
        held, refused = self._held(), 0
        for desk in held:
            try:
                await self._reduce(desk, style)
            except VenueError as error:
                # A market that is gone keeps none of the others from being closed.
                refused += 1
                self._session.journal.note("not_flattened", {"market": desk.name, "why": str(error)})
        return refused < len(held) or not held

    async def _reduce(self, desk: MarketDesk, style: OrderStyle) -> None:
        session, orders = self._session, self._orders
        lots = session.ledger.position_lots(desk.name)
        side = Side.SELL if lots > 0 else Side.BUY
        slot = SlotId(desk.name, side, EXIT_LEVEL)
        now_ns = session.clock.now_ns()
        if now_ns < orders.rate_limited_until_ns or orders.slot_order(slot) is not None:
            return
        # A book that is only old will do; one with a gap may be anywhere.
        if style == OrderStyle.IMMEDIATE_OR_CANCEL:
            price_ticks, lots = _taking(session, desk, side, abs(lots))
        else:
            price_ticks, lots = _resting_ticks(desk, side), abs(lots)
        if price_ticks <= 0:
            return
        most_lots = desk.instrument.lots_down(
            desk.instrument.max_limit_order_value / desk.instrument.price(price_ticks)
        )
        decision = Decision(
            Action.PLACE, Reason.STOPPING, price_ticks, min(lots, most_lots), reduce_only=True
        )
        verdict = session.risk.approve(
            slot, decision, session.portfolio(orders, self._account), now_ns, style
        )
        if isinstance(verdict, Approved):
            sending = orders.apply(slot, verdict)
            session.note_sent(decision, orders.slot_order(slot))
            await sending


def _taking(session: Session, desk: MarketDesk, side: Side, lots: int) -> tuple[int, int]:
    """Price and size of an immediate order; zeros where there is no book."""
    book = desk.book.book
    if book is None:
        return 0, 0
    depth_lots = book.bid_depth_lots if side == Side.SELL else book.ask_depth_lots
    return _through_the_book(session, desk, side, book), _slice(desk, lots, depth_lots)


def _resting_ticks(desk: MarketDesk, side: Side) -> int:
    """Best price of our own side in the last book that was whole, else the mark; 0 where there is neither."""
    book, rules = desk.latest, desk.instrument
    if book is not None:
        return book.ask_ticks if side == Side.SELL else book.bid_ticks
    if desk.mark is None:
        return 0
    return rules.ticks_up(desk.mark) if side == Side.SELL else rules.ticks_down(desk.mark)


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
