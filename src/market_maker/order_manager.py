"""Approved decisions become requests, and every wait for what becomes of them has an end.

An order is recorded, and so counts in the exposure, before its request is sent: four levels decided at once
see each other. A reply means accepted; what becomes of the order is heard from the account stream, or, when
that keeps silent past a deadline, from a look-up. An order that a look-up does not find may be on its way: it
counts until it has not been found for `order_not_found_settle_s`, or is past its own expiry.

Nothing here decides: a stale approval (its slot changed meanwhile) is dropped; the next decision sees why.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from market_maker.clock import Clock, Entropy
from market_maker.domain import NS_PER_S, Action, NewOrder, OrderState, SlotId
from market_maker.gateway import Gateway, OrderReport, OutcomeUnknown
from market_maker.order_records import NOT_FOUND, OrderObservers, OrderSettings
from market_maker.order_requests import OrderRequests
from market_maker.order_table import OrderEventKind, TrackedOrder
from market_maker.risk_manager import Approved

_CLOCK_SKEW_NS = 10 * NS_PER_S
_MAX_BACKOFF = 6


class RecoverPolicy(Enum):
    """What to do at start with orders of ours from an earlier run."""

    ADOPT = auto()
    CANCEL = auto()


@dataclass(frozen=True, slots=True)
class Recovered:
    """Orders found at start: taken over, of ours and still open, not of ours; ids of ours met, and kept."""

    adopted: tuple[TrackedOrder, ...]
    remaining: tuple[TrackedOrder, ...]
    foreign: tuple[OrderReport, ...]
    found: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconcile leaves: orders whose trades are missing or state is unknown, and foreign ones."""

    unsettled: tuple[TrackedOrder, ...]
    foreign: tuple[OrderReport, ...]


class OrderManager(OrderRequests):
    """Sends, follows and ends the orders of one bot.

    Parameters
    ----------
    gateway, clock, entropy : Gateway, Clock, Entropy
        The exchange, the time, and the source of ids and nonces.
    settings : OrderSettings
        How orders are named and how long anything is waited for.
    observers : OrderObservers, optional
        Who is told of fills, freed slots and rejections.

    Raises
    ------
    ValueError
        If the id prefix is not of 1 to 16 letters, digits and underscores.
    """

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        entropy: Entropy,
        settings: OrderSettings,
        observers: OrderObservers | None = None,
    ) -> None:
        super().__init__(gateway, clock, entropy, settings, observers)
        self._next_snapshot_ns = 0
        self._deaf_until_ns = 0
        self._is_unanswered = False
        self._foreign: tuple[OrderReport, ...] = ()

    @property
    def foreign(self) -> tuple[OrderReport, ...]:
        """Orders of the account that are not ours, as of the last snapshot."""
        return self._foreign

    def apply(self, slot: SlotId, approved: Approved) -> Coroutine[Any, Any, None]:
        """Carry an approved decision out; to be awaited. The reservation is made by the call itself.

        Raises
        ------
        ValueError
            If the approval is for another slot.
        CredentialsRefused, MarketNotFound
            When awaited: the exchange will accept no order of this kind.
        """
        if approved.slot != slot:
            msg = f"expected an approval for {slot}, was for {approved.slot}"
            raise ValueError(msg)
        current = self.slot_order(slot)
        action = approved.decision.action
        if action == Action.PLACE and current is None:
            return self._send(self._reserve(approved, None), None)
        if current is not None:
            if action == Action.REPLACE and current.state == OrderState.LIVE:
                return self._send(self._reserve(approved, current), current)
            if action == Action.CANCEL and current.state != OrderState.PENDING_CANCEL:
                self._hear(current, OrderEventKind.CANCEL_SENT)
                return self._cancel(current)
        return _nothing()

    async def cancel_all(self, markets: Collection[str], *, one_by_one: bool = False) -> list[TrackedOrder]:
        """Cancel every order of ours in some markets, and verify with the exchange that none is open.

        Where there are or may be foreign orders, ours are cancelled one by one, else all at once first.

        Returns
        -------
        list of TrackedOrder
            What may still be open at the deadline; empty: nothing is.

        Raises
        ------
        OutcomeUnknown
            If until the deadline the exchange did not say what is open.
        """
        wanted = frozenset(markets)
        for order in self.working(wanted):
            self._hear(order, OrderEventKind.CANCEL_SENT)
        if not (self._foreign or one_by_one):
            await self._ask(self._gateway.mass_cancel(sorted(wanted)))
            self.counters.cancelled += 1
            await asyncio.sleep(self._settings.cancel_all_retry_s)
        else:
            await asyncio.gather(*(self._cancel(order) for order in self.working(wanted)))
        return await self._clear(lambda: self.working(wanted), wanted)

    @property
    def is_due(self) -> bool:
        """Whether `reconcile` has something to ask the exchange."""
        now_ns = self._clock.now_ns()
        if now_ns >= self._next_snapshot_ns or any(self._is_due(order, now_ns) for order in self.working()):
            return True
        return bool(self._without_trades(now_ns))

    async def reconcile(self) -> Reconciled:
        """Look up what is overdue, fetch missing trades, compare with the open orders.

        Requests that fail are tried again by the next call.

        Raises
        ------
        CredentialsRefused
            If the exchange does not accept ours any more.
        """
        now_ns = self._clock.now_ns()
        due = [order for order in self.working() if self._is_due(order, now_ns)]
        # Where nobody answered the last time, one look-up is enough to see whether that is over.
        asked = due[:1] if self._is_unanswered else due
        answers = await asyncio.gather(*map(self._look_up, asked))
        self._is_unanswered = bool(answers) and not any(answers)
        await self._fetch_trades(now_ns)
        if now_ns >= self._next_snapshot_ns:
            await self._compare()
        unsettled = [order for order in self._all_at_risk() if _is_unsettled(order)]
        return Reconciled(tuple(unsettled), self._foreign)

    def adopt(self, order: NewOrder, report: OrderReport) -> bool:
        """Go on with an order of an earlier run, in the slot that its id names; False where that is taken.

        What it had filled by the report is in the position that we started from.
        """
        slot = self._slot_of(report)
        if slot is None or self.slot_order(slot) is not None:
            return False
        self._track_report(report, slot, order)
        return True

    async def recover(
        self, policy: RecoverPolicy, markets: Collection[str], keep: Collection[str] = ()
    ) -> Recovered:
        """Find the orders that are open at start; adopt ours in the named markets, or cancel all of ours.

        An order is adopted into the slot that its id names, if that is free; any other is cancelled. Those
        that are to be kept, or are followed already, stay.

        Raises
        ------
        VenueError
            If the exchange does not say what is open.
        """
        reports = [report for report in await self._open_orders() if self.owns(report.external_id)]
        kept = tuple(report.external_id for report in reports if report.external_id in keep)
        found = tuple(
            report.external_id
            for report in reports
            if not (report.external_id in keep or self._has_slot(report.external_id))
        )
        adopted = []
        for report in reports:
            if report.external_id in keep:
                continue
            slot = self._slot_of(report) if policy is RecoverPolicy.ADOPT else None
            if slot is not None and slot.market in markets and self.slot_order(slot) is None:
                adopted.append(self._track_report(report, slot))
            else:
                self.on_order_report(report)
        strays = {order.order.market for order in self._strays()}
        remaining = await self._clear(self._strays, strays) if strays else []
        return Recovered(tuple(adopted), tuple(remaining), self._foreign, found, kept)

    def on_stream_resumed(self) -> None:
        """Let the next reconcile look up whatever is pending: what became of it may have been missed."""
        self._deaf_until_ns = self._clock.now_ns()
        self._next_snapshot_ns = 0

    def _strays(self) -> list[TrackedOrder]:
        return [order for order in self.working() if order.slot is None]

    def _all_at_risk(self) -> Iterable[TrackedOrder]:
        return [order for orders in self._at_risk.values() for order in orders.values()]

    def _slot_of(self, report: OrderReport) -> SlotId | None:
        level = report.external_id.split("-")[1]
        return SlotId(report.market, report.side, int(level)) if level.isdecimal() else None

    def _is_due(self, order: TrackedOrder, now_ns: int) -> bool:
        if order.in_flight or now_ns < order.next_look_ns:
            return False
        patience_ns = round(self._settings.order_pending_timeout_s * NS_PER_S)
        if order.state == OrderState.LIVE:
            return order.slot is None or now_ns >= order.order.expire_ns + patience_ns
        was_missed = order.since_ns <= self._deaf_until_ns
        return was_missed or order.state == OrderState.UNKNOWN or now_ns - order.since_ns >= patience_ns

    async def _look_up(self, order: TrackedOrder) -> bool:
        """Ask what became of an order; whether there was an answer."""
        interval_ns = round(self._settings.order_lookup_interval_s * NS_PER_S)
        order.next_look_ns = self._clock.now_ns() + interval_ns
        reply = await self._ask(self._gateway.order(order.external_id))
        if not reply:
            return False
        report = reply[0]
        if report is None:
            self._not_found(order)
            return True
        self.on_order_report(report)
        is_stray = order.slot is None and order.state == OrderState.LIVE
        if is_stray or order.state == OrderState.PENDING_CANCEL:
            self._hear(order, OrderEventKind.CANCEL_SENT)
            await self._cancel(order)
        return True

    def _not_found(self, order: TrackedOrder) -> None:
        if order.in_flight or not order.is_working:
            return
        now_ns = self._clock.now_ns()
        settle_ns = round(self._settings.order_not_found_settle_s * NS_PER_S)
        order.missing_since_ns = order.missing_since_ns or now_ns
        if now_ns - order.missing_since_ns >= settle_ns or now_ns >= order.order.expire_ns + settle_ns:
            order.presumed = True
            self._hear(order, OrderEventKind.GONE, NOT_FOUND)

    def _without_trades(self, now_ns: int) -> list[TrackedOrder]:
        patience_ns = round(self._settings.order_pending_timeout_s * NS_PER_S)
        return [
            order
            for order in self._all_at_risk()
            if order.awaiting_since_ns
            and now_ns - order.awaiting_since_ns >= patience_ns << min(order.trade_looks, _MAX_BACKOFF)
        ]

    async def _fetch_trades(self, now_ns: int) -> None:
        waiting = self._without_trades(now_ns)
        if not waiting:
            return
        since_ns = min(order.placed_ns for order in waiting) - _CLOCK_SKEW_NS
        for fills in await self._ask(self._gateway.fills(since_ns)):
            for report in fills:
                # What matched before we began is in the position that we began with.
                if report.fill.order_id in self._external_ids:
                    self.on_fill(report)
        for order in waiting:
            order.trade_looks += 1

    async def _open_orders(self) -> list[OrderReport]:
        try:
            async with asyncio.timeout(self._settings.order_request_timeout_s):
                reports = await self._gateway.open_orders()
        except TimeoutError as error:
            msg = f"open orders: expected a reply in {self._settings.order_request_timeout_s} s, had none"
            raise OutcomeUnknown(msg) from error
        interval_ns = round(self._settings.order_snapshot_interval_s * NS_PER_S)
        self._next_snapshot_ns = self._clock.now_ns() + interval_ns
        self._foreign = tuple(report for report in reports if not self.owns(report.external_id))
        return reports

    async def _compare(self) -> set[str] | None:
        """Take in what is open, look up what should be and is not; the open ids, None without an answer."""
        asked_ns = self._clock.now_ns()
        reply = await self._ask(self._open_orders())
        if not reply:
            return None
        reports = reply[0]
        for report in reports:
            if self.owns(report.external_id):
                self.on_order_report(report)
        open_ids = {report.external_id for report in reports}
        missing = [
            order
            for order in self.working()
            if order.state == OrderState.LIVE
            and order.since_ns < asked_ns
            and order.external_id not in open_ids
        ]
        await asyncio.gather(*(self._look_up(order) for order in missing))
        return open_ids

    async def _clear(
        self, select: Callable[[], list[TrackedOrder]], markets: Collection[str]
    ) -> list[TrackedOrder]:
        """Cancel and verify in rounds, until none of the selected orders is left or time is up."""
        deadline_ns = self._clock.now_ns() + round(self._settings.cancel_all_timeout_s * NS_PER_S)
        verified = False
        while True:
            open_ids = await self._compare()
            if open_ids is not None:
                verified = True
                await self._clear_round(select(), open_ids)
                if not select():
                    return []
            if self._clock.now_ns() >= deadline_ns:
                break
            await asyncio.sleep(self._pause_s(deadline_ns))
        if not verified:
            msg = f"open orders in {', '.join(sorted(markets))}: expected a list of them, had no answer"
            raise OutcomeUnknown(msg)
        return select()

    def _pause_s(self, deadline_ns: int) -> float:
        """Seconds to the next round: as set, or until the exchange takes requests again."""
        until_ns = min(self._rate_limited_until_ns, deadline_ns)
        return max(self._settings.cancel_all_retry_s, (until_ns - self._clock.now_ns()) / NS_PER_S)

    async def _clear_round(self, orders: list[TrackedOrder], open_ids: set[str]) -> None:
        now_ns = self._clock.now_ns()
        requests: list[Coroutine[Any, Any, object]] = []
        for order in orders:
            if order.in_flight or now_ns < order.next_look_ns:
                continue
            if order.external_id in open_ids:
                self._hear(order, OrderEventKind.CANCEL_SENT)
                requests.append(self._cancel(order))
            else:
                requests.append(self._look_up(order))
        await asyncio.gather(*requests)


async def _nothing() -> None:
    """Nothing to be sent."""


def _is_unsettled(order: TrackedOrder) -> bool:
    return order.state == OrderState.UNKNOWN or (order.trade_looks > 0 and order.awaited_lots > 0)
