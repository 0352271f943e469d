"""Hedges in the reference market: what `hedging.plan` wants becomes orders, in slots of their own.

A hedge goes the way of every order: the risk manager approves it, the order manager follows it, its fill is
booked, a stop cancels and verifies it. Before one takes, our own quotes in its way are cancelled, kept from
coming back, and seen to be gone; so is what rests for the same purpose and would fill beside it. While a fill
of a hedge is reported and its trade is not here yet, positions are not what they seem, and nothing is done.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from market_maker.account_stream import AccountStream
from market_maker.domain import Action, Decision, OrderState, Reason, Side, SlotId
from market_maker.gateway import FillReport
from market_maker.hedging import (
    HedgeOrder,
    HedgeOrders,
    HedgePlan,
    HedgeSettings,
    HedgeWhy,
    ReferenceMarket,
    plan,
)
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.order_table import TrackedOrder
from market_maker.risk_manager import Approved, OrderStyle
from market_maker.session import Session

# Levels of quotes are 20 at most.
REST_LEVEL: Final = 90
TAKE_LEVEL: Final = 91
_LEVELS: Final = (REST_LEVEL, TAKE_LEVEL)
_STEP_S: Final = 0.25
_LOOK_S: Final = 0.05


class Hedger:
    """The task that trades the reference market against the portfolio's net beta.

    Parameters
    ----------
    stopping : asyncio.Event
        Set once the session is to end: from then on hedges only go.
    refresh : callable
        Writes what is known of a market's orders where decisions read it, and wakes its levels.
    """

    def __init__(
        self,
        session: Session,
        orders: OrderManager,
        account: AccountStream,
        stopping: asyncio.Event,
        refresh: Callable[[MarketDesk], None],
    ) -> None:
        self._session = session
        self._orders = orders
        self._account = account
        self._stopping = stopping
        self._refresh = refresh
        self._settings = session.config.of(HedgeSettings)
        self._desk = session.desks[session.cross.reference]
        self._history = HedgeOrders()
        self._sent: list[TrackedOrder] = []
        self._noted = HedgeWhy.DISABLED
        self._refused = Reason.NONE
        self._held: set[tuple[str, Side]] = set()

    @property
    def is_enabled(self) -> bool:
        """Whether there is anything to run."""
        return self._settings.hedge_enabled

    @property
    def fees_today_usd(self) -> float:
        """What hedges of this process have paid since 00:00 UTC."""
        return self._history.fees_today(self._session.clock.now_ns())

    @property
    def history(self) -> HedgeOrders:
        """Hedges as they are, and what they have paid today."""
        return self._history

    def restore(self, day: int, fees_usd: float) -> None:
        """Let hedges have paid so much on a day, counted from the epoch: the budget outlives a restart."""
        self._history = self._history._replace(day=day, fees_usd=fees_usd)

    def on_fill(self, slot: SlotId | None, report: FillReport) -> None:
        """Count the fee where a fill is a hedge's; a rebate does not refill the budget."""
        if slot is not None and slot.level in _LEVELS:
            fee_usd = max(0.0, float(report.fee))
            self._history = self._history.with_fee(fee_usd, self._session.clock.now_ns())

    async def run(self) -> None:
        """Plan and carry out, again and again.

        Raises
        ------
        CredentialsRefused, MarketNotFound
            The exchange will accept no order of this kind.
        """
        while True:
            await asyncio.sleep(_LOOK_S if self._held else _STEP_S)
            wanted = self._plan()
            if wanted is not None:
                self._hold(wanted)
                # What was sent took its time: what to take is to be found anew then.
                if not await self._carry_rest(wanted.rest):
                    await self._carry_take(wanted)

    def _plan(self) -> HedgePlan | None:
        """What is wanted now; None while a fill of a hedge waits for its trade."""
        self._sent = [order for order in self._sent if order.is_working or order.awaited_lots]
        if any(order.awaited_lots for order in self._sent):
            return None
        session, market = self._session, self._market()
        net_beta_usd = session.cross.known_net_beta_usd(session.values_usd())
        if market is None or self._stands_aside():
            wanted = HedgePlan(0, None, None, HedgeWhy.UNKNOWN)
        else:
            orders, now_ns = self._as_they_are(net_beta_usd), session.clock.now_ns()
            wanted = plan(self._settings, net_beta_usd, market, orders, now_ns)
            # An order has a limit of its own; what that leaves over is for the next.
            most = session.largest_order_lots(self._desk.name, market.ask_ticks)
            wanted = wanted._replace(rest=_at_most(wanted.rest, most), take=_at_most(wanted.take, most))
        self._note(wanted.why, net_beta_usd)
        return wanted

    def _stands_aside(self) -> bool:
        """Whether no hedge may rest: the session ends, or the reference market is not to be quoted now."""
        session, desk = self._session, self._desk
        return (
            self._stopping.is_set()
            or session.reducing
            or session.quoted_until_ns > 0
            or desk.halts.gravest != Reason.NONE
            or any(Reason.NO_BOOK <= why <= Reason.CROSSED_BOOK for why in desk.reasons.values())
        )

    def _market(self) -> ReferenceMarket | None:
        session, desk, book = self._session, self._desk, self._desk.book.book
        if book is None or not desk.book.trusted:
            return None
        exposure, limits, fees = self._orders.exposure(desk.name), session.limits[desk.name], desk.fees_bps
        return ReferenceMarket(
            bid_ticks=book.bid_ticks,
            ask_ticks=book.ask_ticks,
            lot_usd=session.lot_usd(desk),
            min_lots=desk.instrument.min_lots,
            position_lots=session.ledger.position_lots(desk.name),
            limit_long_lots=limits[0],
            limit_short_lots=limits[1],
            quote_buy_lots=exposure.buy_lots + exposure.reduce_buy_lots - self._at_risk_lots(Side.BUY),
            quote_sell_lots=exposure.sell_lots + exposure.reduce_sell_lots - self._at_risk_lots(Side.SELL),
            maker_fee_bps=fees[0],
            taker_fee_bps=fees[1],
        )

    def _as_they_are(self, net_beta_usd: float) -> HedgeOrders:
        side = Side.SELL if net_beta_usd > 0 else Side.BUY
        rests, takes = (
            # Where there is one on both sides, the one that would go is not asked about.
            self._orders.slot_order(self._slot(side, level))
            or self._orders.slot_order(self._slot(-side, level))
            for level in _LEVELS
        )
        is_pending = rests is not None and (rests.in_flight or rests.state != OrderState.LIVE)
        return self._history._replace(resting=_seen(rests), is_pending=is_pending, taking=_seen(takes))

    def _slot(self, side: int, level: int) -> SlotId:
        return SlotId(self._desk.name, Side(side), level)

    def _hedges(self, side: int, level: int) -> list[TrackedOrder]:
        """Working orders of a slot: one that is being replaced, and the one that takes its place, are two."""
        slot = self._slot(side, level)
        return [order for order in self._orders.working((self._desk.name,)) if order.slot == slot]

    def _at_risk_lots(self, side: Side) -> int:
        return sum(order.at_risk_lots for level in _LEVELS for order in self._hedges(side, level))

    async def _carry_rest(self, wanted: HedgeOrder | None) -> bool:
        """Bring what rests to what is to rest, the other side's first; whether anything was sent for it."""
        for side in sorted(Side, key=lambda side: wanted is not None and side == wanted.side):
            slot = self._slot(side, REST_LEVEL)
            old = self._orders.slot_order(slot)
            if wanted is None or side != wanted.side:
                if old is not None and old.state != OrderState.PENDING_CANCEL:
                    return await self._send(slot, _CANCEL)
            elif old is None:
                return await self._send(slot, _order(Action.PLACE, wanted))
            elif old.state == OrderState.LIVE and _seen(old) != wanted:
                return await self._send(slot, _order(Action.REPLACE, wanted))
        return False

    def _hold(self, wanted: HedgePlan) -> None:
        """Keep our quotes from coming back into the way of what is to be taken, or is being taken."""
        name = self._desk.name
        sides = {side for side in Side if self._hedges(side, TAKE_LEVEL)}
        sides |= {Side(wanted.take.side)} if wanted.take is not None else set()
        held = {(name, Side(-side)) for side in sides}
        if held != self._held:
            self._session.held_sides.difference_update(self._held)
            self._session.held_sides.update(held)
            self._held = held
            self._refresh(self._desk)

    async def _carry_take(self, wanted: HedgePlan) -> None:
        """Take what is wanted, once nothing of ours is in the way; before that, see that it goes."""
        if wanted.take is None:
            return
        ours = self._in_the_way(wanted.take)
        if ours:
            leaving = {
                order.slot for order in ours if order.slot and order.state != OrderState.PENDING_CANCEL
            }
            await asyncio.gather(*(self._send(slot, _CANCEL) for slot in leaving))
        elif self._rests_no_more(wanted.take.side, wanted.rest):
            slot = self._slot(wanted.take.side, TAKE_LEVEL)
            await self._send(slot, _order(Action.PLACE, wanted.take), OrderStyle.IMMEDIATE_OR_CANCEL)

    def _in_the_way(self, take: HedgeOrder) -> list[TrackedOrder]:
        """Orders of ours that a taking one would match."""
        return [
            order
            for order in self._orders.working((self._desk.name,))
            if order.order.side == -take.side and take.side * (take.price_ticks - order.price_ticks) >= 0
        ]

    def _rests_no_more(self, side: int, wanted: HedgeOrder | None) -> bool:
        """Whether what rests on a side is no more than is to: both it and what is taken may fill."""
        resting = sum(order.at_risk_lots for order in self._hedges(side, REST_LEVEL))
        return resting <= (0 if wanted is None else wanted.size_lots)

    async def _send(self, slot: SlotId, decision: Decision, style: OrderStyle = OrderStyle.POST_ONLY) -> bool:
        """Ask the risk manager, and carry out what it lets pass; whether that was anything."""
        session, now_ns = self._session, self._session.clock.now_ns()
        if session.must_wait(decision, self._orders.counters.rate_limited):
            return False
        portfolio = session.portfolio(self._orders, self._account)
        verdict = session.risk.approve(slot, decision, portfolio, now_ns, style)
        approved = verdict if isinstance(verdict, Approved) else verdict.instead
        self._note_refused(slot, Reason.NONE if isinstance(verdict, Approved) else verdict.reason)
        if approved is None:
            return False
        session.note_approved(slot, approved.decision)
        sending = self._orders.apply(slot, approved)
        order = self._orders.slot_order(slot)
        session.note_sent(approved.decision, order)
        if order is not None and slot.level in _LEVELS:
            self._sent.append(order)
        if slot.level == REST_LEVEL:
            self._history = self._history._replace(rested_ns=now_ns)
        elif slot.level == TAKE_LEVEL:
            self._history = self._history._replace(took_ns=now_ns)
        self._refresh(self._desk)
        await sending
        self._refresh(self._desk)
        return True

    def _note(self, why: HedgeWhy, net_beta_usd: float) -> None:
        """Journal what hedges are about, where that changed; to wait is part of resting."""
        why = HedgeWhy.RESTING if why == HedgeWhy.WAITING else why
        if why != self._noted:
            self._noted = why
            fields = {
                "market": self._desk.name,
                "why": why.name,
                "net_beta_usd": round(net_beta_usd, 2),
                "fees_today_usd": round(self.fees_today_usd, 6),
            }
            self._session.journal.note("hedge", fields)

    def _note_refused(self, slot: SlotId, reason: Reason) -> None:
        if reason not in (Reason.NONE, self._refused):
            self._session.journal.refused(slot, reason)
            self._session.metrics.refused(self._desk.name, reason)
        self._refused = reason


_CANCEL: Final = Decision(Action.CANCEL, Reason.HEDGING, 0, 0, reduce_only=False)


def _order(action: Action, wanted: HedgeOrder) -> Decision:
    return Decision(action, Reason.HEDGING, wanted.price_ticks, wanted.size_lots, reduce_only=False)


def _seen(order: TrackedOrder | None) -> HedgeOrder | None:
    """An order as a plan has it: with what is left of it."""
    if order is None:
        return None
    return HedgeOrder(order.order.side, order.price_ticks, order.at_risk_lots)


def _at_most(wanted: HedgeOrder | None, lots: int) -> HedgeOrder | None:
    if wanted is None or lots <= 0:
        return None
    return wanted._replace(size_lots=min(wanted.size_lots, lots))
