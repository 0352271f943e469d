"""The orchestrator: a task for each market and level, one for the account, an end that leaves nothing open.

It decides nothing. Events go to the desks, desks hand decisions out, the risk manager approves them, the
order manager carries them out. Whatever ends a session (the time, a signal, a failure) takes one way out:
latch, cancel, verify, say what is left.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from market_maker.account_opening import AccountOpening
from market_maker.account_stream import AccountStream
from market_maker.clock import Clock, Entropy
from market_maker.domain import (
    NS_PER_S,
    Action,
    BestQuote,
    BookUpdate,
    Decision,
    OrderState,
    Reason,
    SlotId,
    Trade,
)
from market_maker.gateway import (
    FillReport,
    FundingRate,
    IndexPrice,
    MarketEvent,
    MarkPrice,
    OrderReport,
    StreamLost,
)
from market_maker.market_desk import MarketDesk
from market_maker.opening import Opened, open_session
from market_maker.order_manager import OrderManager
from market_maker.order_records import POST_ONLY_FAILED, OrderObservers, OrderSettings
from market_maker.position_exit import leave_nothing_open
from market_maker.reconciliation import equity_at_their_marks, settle_books
from market_maker.risk_manager import Approved
from market_maker.session import Session
from market_maker.shutdown import (
    Stop,
    books_for_positions,
    flatten_position,
    reduce_position,
)
from market_maker.start_refusals import UNKNOWN_ORDERS, BooksDisagree
from market_maker.startup import check_in, recover_orders
from market_maker.stream_watch import StreamWatch
from market_maker.surroundings import Surroundings
from market_maker.upkeep import Upkeep

_TIME_IS_UP: Final = "time is up"
_NOT_QUOTED: Final = "closing only"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a session ended: why, our orders that may still be open, and the strategy, if it came to be."""

    why: str
    remaining: tuple[str, ...]
    strategy: "MarketMakerStrategy | None"


class MarketMakerStrategy:
    """Runs a session's tasks.

    Parameters
    ----------
    session : Session
        Desks, books and limits.
    entropy : Entropy
        Source of order ids and nonces.
    stop : Stop
        Who asks for the end.
    """

    def __init__(self, session: Session, entropy: Entropy, stop: Stop) -> None:
        config = session.config
        self.session = session
        self.orders = OrderManager(
            session.gateway,
            session.clock,
            entropy,
            config.of(OrderSettings),
            OrderObservers(
                self._on_fill, self._on_level_freed, self._on_post_only_rejected, self._on_rejected
            ),
        )
        self.account = AccountStream(session.gateway, self)
        self.stop = stop
        self._clock: Clock = session.clock
        self._streams = StreamWatch(session)
        self._upkeep = Upkeep(session, self.orders, self.account, self._streams, self._refresh, stop)
        self.kill = self._upkeep.kill
        self._wakes = {slot: asyncio.Event() for desk in session.desks.values() for slot in desk.slots}
        self.books_agree = False
        self.equity_at_end = session.start_equity

    @classmethod
    async def run(
        cls,
        surroundings: Surroundings,
        seconds: float | None,
        started: "Callable[[MarketMakerStrategy], None]",
        stop: Stop | None = None,
    ) -> Outcome:
        """Trade until the time is up, a signal comes or something fails for good.

        Parameters
        ----------
        seconds : float or None
            How long to quote; None: until stopped. 0: not at all, a session that is nothing but its end.
        started : callable
            Told of the strategy as soon as it exists, for the live view.
        stop : Stop, optional
            Who else may ask for the end, beside the signals of the process.

        Raises
        ------
        VenueError
            If the exchange refuses us for good; our orders have been cancelled, as far as it lets us.
        ForeignOrdersFound
            If the account has orders of others and the settings do not let them stay.
        """
        stop = stop or Stop()
        with stop.on_signals():
            # Until they have been looked for, those of an earlier run may rest.
            remaining: tuple[str, ...] = (UNKNOWN_ORDERS,) if surroundings.past.may_have_open else ()
            try:
                opened = await _opened(surroundings, stop, closing=seconds == 0)
                if opened is None:
                    return Outcome(stop.why, remaining, None)
                strategy = cls(opened.session, surroundings.entropy, stop)
                strategy._go_on(opened.account)
                started(strategy)
                remaining = (UNKNOWN_ORDERS,)
                remaining = await strategy._live(seconds)
            except BooksDisagree as refusal:
                remaining = refusal.remaining
                raise
            finally:
                surroundings.share.leave(nothing_open=not remaining)
        return Outcome(stop.why, remaining, strategy)

    def _go_on(self, found: AccountOpening) -> None:
        """Take over what an earlier run left."""
        self.orders.know(found.known)
        for order, report in found.adopted:
            self.orders.adopt(order, report)

    async def _live(self, seconds: float | None) -> tuple[str, ...]:
        """Quote, then leave nothing open; what remains open all the same."""
        session = self.session
        feeds = [asyncio.ensure_future(self.account.run())]
        feeds += [asyncio.ensure_future(self._market_task(desk)) for desk in session.desks.values()]
        helpers = self._upkeep.outside_tasks(self._wake)
        levels: list[asyncio.Future[None]] = []
        began = False
        try:
            await recover_orders(session, self.orders)
            await session.answer(self.account.refresh())
            await self._upkeep.switch.feed()
            began = seconds == 0 or not self.stop.asked.is_set()
            if seconds == 0:
                self.stop.why = self.stop.why or _NOT_QUOTED
                await books_for_positions(session, self.stop.hurried)
            elif began:
                quoting = [*(self._level_task(slot) for slot in self._wakes), *self._upkeep.tasks()]
                levels = [asyncio.ensure_future(task) for task in quoting]
                await self._until_the_end([*feeds, *levels], seconds)
                session.end_quoting()
                await reduce_position(session, self.orders, self.account, self.stop.hurried)
        finally:
            remaining = await self._wind_up([*feeds, *helpers], levels, began=began)
        return remaining

    async def _wind_up(
        self,
        feeds: Sequence[asyncio.Future[None]],
        levels: Sequence[asyncio.Future[None]],
        *,
        began: bool,
    ) -> tuple[str, ...]:
        """Latch, cancel, verify; then the position, the switch and the books. What may still be open."""
        session = self.session
        session.end_quoting()
        session.halt_all(Reason.STOPPING, self.stop.why)
        try:
            await _end(levels)
            remaining = await leave_nothing_open(session, self.orders)
            # A session that did not begin was refused, and has no business with the position.
            if began:
                hurried = self.stop.hurried
                remaining = await flatten_position(session, self.orders, self.account, hurried, remaining)
            if not remaining:
                await self._upkeep.switch.disarm()
            # Last, so that nothing passes at the exchange between this look and whoever compares.
            self.books_agree = await settle_books(session, self.orders, self.account, self.stop.hurried)
            self.equity_at_end = equity_at_their_marks(session, self.account)
        finally:
            await _end(feeds)
            session.ledger.close(self._clock.now_ns())
        return remaining

    async def _until_the_end(self, tasks: list[asyncio.Future[None]], seconds: float | None) -> None:
        """Wait for the time, the wish to stop, or the first task that fails; its error is raised."""
        asked = asyncio.ensure_future(self.stop.asked.wait())
        waiting: list[asyncio.Future[Any]] = [asked, *tasks]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end([asked])
        for task in tasks:
            if task.done():
                error = task.exception()
                self.stop.why = self.stop.why or str(error or "a stream of the exchange ended")
                if error is not None:
                    raise error
        self.stop.why = self.stop.why or _TIME_IS_UP

    async def _market_task(self, desk: MarketDesk) -> None:
        """Hear one market and wake its levels."""
        async for event in self.session.gateway.market_events(desk.name):
            now_ns = self._clock.now_ns()
            if isinstance(event, BookUpdate | BestQuote):
                self._on_prices(desk, event, now_ns)
            else:
                self._on_other_event(desk, event, now_ns)
            self.kill.on_event(desk, now_ns)
            self._wake(desk)

    def _on_prices(self, desk: MarketDesk, event: BookUpdate | BestQuote, now_ns: int) -> None:
        if isinstance(event, BookUpdate):
            is_news = desk.on_book(event, now_ns)
        else:
            is_news = desk.on_best_quote(event, now_ns)
        if is_news:
            self.session.on_mid(desk, now_ns)
        if desk.book.trusted:
            self._streams.on_book(desk, event.venue_ns, now_ns)

    def _on_other_event(self, desk: MarketDesk, event: MarketEvent, now_ns: int) -> None:
        match event:
            case Trade():
                desk.on_trade(event, now_ns)
                self._streams.on_trade(desk, event.venue_ns, now_ns)
            case MarkPrice():
                desk.on_mark(event.price, now_ns)
                self.session.ledger.on_mark(desk.name, event.price)
                self.session.refresh_limits(self.orders, self.account)
            case IndexPrice():
                desk.on_index(event.price, now_ns)
            case FundingRate():
                desk.on_funding(event.rate, now_ns)
                self.session.funding.expect()
            case StreamLost():
                self._streams.on_lost(desk, event.why, now_ns)

    async def _level_task(self, slot: SlotId) -> None:
        """Decide about one slot whenever something moved, and carry the decision out."""
        desk, wake = self.session.desks[slot.market], self._wakes[slot]
        while True:
            await wake.wait()
            wake.clear()
            decision = self.session.decide(desk, slot)
            if decision.action == Action.KEEP or self._is_latched(decision):
                continue
            if self.session.must_wait(decision, self.orders.counters.rate_limited):
                desk.reasons[slot] = Reason.RATE_LIMITED
                continue
            approved = self._approve(desk, slot, decision)
            if approved is None:
                continue
            desk.sent(slot, self._clock.now_ns())
            sending = self.orders.apply(slot, approved)
            self.session.note_sent(approved.decision, self.orders.slot_order(slot))
            # The reservation is made: the other levels must see it before they decide.
            self._refresh(desk)
            await sending
            self._refresh(desk)
            # The next decision is a step of its own: the loop is not held for the two together.
            await asyncio.sleep(0)

    def _is_latched(self, decision: Decision) -> bool:
        """Whether the wish to stop forbids a decision: from then on orders only go or reduce."""
        adds = decision.action != Action.CANCEL and not decision.reduce_only
        return adds and self.stop.asked.is_set()

    def _approve(self, desk: MarketDesk, slot: SlotId, decision: Decision) -> Approved | None:
        """Ask the risk manager; a replacement refused for good becomes the cancel of the old order."""
        session = self.session
        portfolio = session.portfolio(self.orders, self.account)
        verdict = session.risk.approve(slot, decision, portfolio, self._clock.now_ns())
        approved = verdict if isinstance(verdict, Approved) else verdict.instead
        if approved is not None:
            session.note_approved(slot, approved.decision)
        if not isinstance(verdict, Approved):
            session.note_refused(desk, slot, verdict.reason)
        return approved

    def _refresh(self, desk: MarketDesk) -> None:
        """Write what is known of a market's orders where decisions read it, and wake its levels."""
        desk.write_slots(self.orders, self._clock.now_ns())
        self.session.note_quotes(desk, self.orders)
        self._wake(desk)

    def _wake(self, desk: MarketDesk) -> None:
        for slot in desk.slots:
            self._wakes[slot].set()

    def on_order_report(self, report: OrderReport) -> None:
        """One of the account's orders changed."""
        desk = self.session.desks.get(report.market)
        if desk is None:
            return
        slot_was_new = self._pending_slot(desk, report)
        self.session.journal.order_report(report)
        self.orders.on_order_report(report)
        if slot_was_new is not None and report.state in (OrderState.LIVE, OrderState.FILLED):
            slot, placed_ns = slot_was_new
            now_ns = self._clock.now_ns()
            desk.on_latency((now_ns - placed_ns) / NS_PER_S)
            self.kill.on_latency((now_ns - placed_ns) / NS_PER_S, now_ns)
            desk.on_post_only(slot, now_ns, rejected=False)
        self._refresh(desk)

    def _pending_slot(self, desk: MarketDesk, report: OrderReport) -> tuple[SlotId, int] | None:
        for slot in desk.slots:
            order = self.orders.slot_order(slot)
            if order is not None and order.external_id == report.external_id:
                return (slot, order.placed_ns) if order.state == OrderState.PENDING_NEW else None
        return None

    def on_fill_report(self, report: FillReport) -> None:
        """One of the account's orders matched."""
        self.orders.on_fill(report)

    def on_account_changed(self) -> None:
        """Positions or balance were heard anew."""
        self.session.refresh_limits(self.orders, self.account)

    def on_account_lost(self, why: str) -> None:
        """Pull the quotes until the account has been looked up again."""
        self._upkeep.on_account_lost(why)

    def _on_fill(self, slot: SlotId | None, report: FillReport) -> None:
        """Book a fill and tell everyone whom it concerns."""
        self._upkeep.hedger.on_fill(slot, report)
        desk = self.session.desks.get(report.fill.market)
        if desk is None:
            return
        self.session.book_fill(desk, report)
        self.kill.on_fill(desk, report.fill.side, self._clock.now_ns())
        self.session.refresh_limits(self.orders, self.account)
        self._refresh(desk)

    def _on_level_freed(self, slot: SlotId, _state: OrderState, _reason: str) -> None:
        """Let the slot decide anew."""
        desk = self.session.desks.get(slot.market)
        if desk is not None:
            self._refresh(desk)

    def _on_rejected(self, slot: SlotId, reason: str) -> None:
        """Count what the exchange refused; post-only rejections are none of these."""
        self._upkeep.on_rejected(reason)
        self.session.note_rejected(slot.market, reason)

    def _on_post_only_rejected(self, slot: SlotId) -> None:
        """Count it as rejected, though it is no failure, and keep more distance."""
        desk = self.session.desks.get(slot.market)
        if desk is not None:
            self.session.note_rejected(slot.market, POST_ONLY_FAILED)
            desk.on_post_only(slot, self._clock.now_ns(), rejected=True)


async def _opened(surroundings: Surroundings, stop: Stop, *, closing: bool) -> Opened | None:
    """Open a session; None where the wish to stop came first."""
    opening = asyncio.ensure_future(_open(surroundings, closing=closing))
    asked = asyncio.ensure_future(stop.asked.wait())
    try:
        await asyncio.wait((opening, asked), return_when=asyncio.FIRST_COMPLETED)
        return None if stop.asked.is_set() else opening.result()
    finally:
        await _end([opening, asked])


async def _open(surroundings: Surroundings, *, closing: bool) -> Opened:
    changed = await check_in(surroundings, closing=closing)
    opened = await open_session(surroundings, closing=closing)
    if changed:
        opened.session.journal.note("leverage_set", {name: str(value) for name, value in changed.items()})
    return opened


async def _end(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until they are gone."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
