"""The REST API's half of a request: arrival, refusal or acceptance, and the hand-over to the matching engine.

The reply to an accepted request and the account stream's news of its result travel apart; which arrives
first is drawn for each request.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator import frames
from market_maker.emulator.accounts import Account
from market_maker.emulator.feeds import AccountFeed
from market_maker.emulator.flow import TakerOrder
from market_maker.emulator.matching import MatchingEngine
from market_maker.emulator.orders import Order
from market_maker.emulator.outbox import Outbox
from market_maker.emulator.requests import (
    CancelRequest,
    DeadMansSwitchRequest,
    LeverageRequest,
    MassCancelRequest,
    OrderRequest,
    Request,
)
from market_maker.emulator.rules import Delay
from market_maker.emulator.streams import OrderIds, Reply
from market_maker.emulator.timeline import Step, Timeline
from market_maker.emulator.validation import Refusal, leverage_refusal, maintenance_refusal, validate
from market_maker.emulator.venue import Venue

_MINUTE_NS = 60 * NS_PER_S
_BAD_REQUEST = Refusal(400, 1133)
_SERVER_ERROR = Refusal(500, 500)


class RateLimiter:
    """At most so many requests in any minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._taken: deque[int] = deque()

    def admit(self, now_ns: int) -> bool:
        """Count a request; false where it is one too many, and then it is not counted."""
        while self._taken and self._taken[0] <= now_ns - _MINUTE_NS:
            self._taken.popleft()
        if len(self._taken) >= self._per_minute:
            return False
        self._taken.append(now_ns)
        return True


@dataclass(slots=True)
class _Call:
    """A request on its way."""

    ticket: int
    account: Account
    news: AccountFeed
    reply_ns: int
    stream_first: bool
    data: OrderIds | None = None
    body: bytes = b""


class RestApi:
    """Takes requests in and answers them."""

    def __init__(
        self,
        venue: Venue,
        engine: MatchingEngine,
        timeline: Timeline,
        outbox: Outbox,
        rng: np.random.Generator,
    ) -> None:
        self._venue = venue
        self._engine = engine
        self._timeline = timeline
        self._outbox = outbox
        self._rng = rng
        self._faults = outbox.faults
        self._latency = venue.rules.latency
        self._limiters: dict[int | str, RateLimiter] = {}
        self._tickets = 0
        # Replies that follow their news: sent once the step's frames are on their way.
        self._late: list[_Call] = []

    def submit(self, account: Account, news: AccountFeed, request: Request, now_ns: int) -> int:
        """Send a request; return its ticket."""
        self._tickets += 1
        call = _Call(self._tickets, account, news, 0, stream_first=False)
        arrival_ns = now_ns + self._leg_ns(self._latency.request)
        self._timeline.plan(arrival_ns, partial(self._arrive, call, request))
        return call.ticket

    def ask(self, pool: int | str, query: Callable[[], bytes], now_ns: int) -> int:
        """Send a look-up; return its ticket. It tells how things stand when the answer arrives."""
        self._tickets += 1
        due_ns = now_ns + self._leg_ns(self._latency.request) + self._leg_ns(self._latency.reply)
        self._timeline.plan(due_ns, partial(self._answer, self._tickets, pool, query))
        return self._tickets

    def _leg_ns(self, leg: Delay) -> int:
        return leg.draw_ns(self._rng) + self._faults.extra_ns()

    def _answer(self, ticket: int, pool: int | str, query: Callable[[], bytes], now_ns: int) -> None:
        if self._faults.happens("unreachable"):
            return
        refusal = self._refusal(pool, now_ns)
        if refusal is None:
            body = self._faults.body(query())
            self._reply(Reply(ticket, now_ns + self._faults.stale_ns(), 200, 0, "", None, body))
        else:
            self._refuse(ticket, refusal, now_ns)

    def _refusal(self, pool: int | str, now_ns: int) -> Refusal | None:
        """Refuse what no request gets past: the rate limit of its pool, maintenance, a failing server."""
        rules = self._venue.rules.orders
        pool = "" if rules.one_rate_limit else pool
        limiter = self._limiters.get(pool)
        if limiter is None:
            limiter = self._limiters[pool] = RateLimiter(rules.requests_per_minute)
        if not limiter.admit(now_ns) or self._faults.happens("rate_limit"):
            return Refusal(429, 429)
        if self._faults.happens("errors_before"):
            return _SERVER_ERROR
        return maintenance_refusal(self._venue)

    def _refuse(self, ticket: int, refusal: Refusal, due_ns: int) -> None:
        self._reply(_refused(ticket, refusal, due_ns))

    def _reply(self, reply: Reply) -> None:
        """Send a reply, unless it is lost, or the server fails after the work is done."""
        if reply.http_status == 200 and self._faults.happens("errors_after"):
            reply = _refused(reply.ticket, _SERVER_ERROR, reply.due_ns)
        for told in self._faults.replies(reply):
            self._outbox.reply(told)

    def send_late_replies(self) -> None:
        """Send the replies that were to follow their news."""
        for call in self._late:
            self._succeed(call, max(call.reply_ns, call.news.due_ns + 1))
        self._late.clear()

    def _arrive(self, call: _Call, request: Request, now_ns: int) -> None:
        if self._faults.happens("unreachable"):
            return
        call.reply_ns = now_ns + self._leg_ns(self._latency.reply)
        call.stream_first = float(self._rng.random()) < self._latency.stream_first_probability
        refusal = self._refusal(call.account.account_id, now_ns) or self._dispatch(call, request, now_ns)
        if refusal is not None:
            self._refuse(call.ticket, refusal, call.reply_ns)

    def _dispatch(self, call: _Call, request: Request, now_ns: int) -> Refusal | None:
        if isinstance(request, OrderRequest):
            return self._take_order(call, request, now_ns)
        if isinstance(request, CancelRequest):
            return self._take_cancel(call, request, now_ns)
        if isinstance(request, MassCancelRequest):
            return self._take_mass_cancel(call, request, now_ns)
        if isinstance(request, LeverageRequest):
            return self._take_leverage(call, request)
        return self._take_switch(call, request, now_ns)

    def _take_order(self, call: _Call, request: OrderRequest, now_ns: int) -> Refusal | None:
        order = validate(self._venue, call.account, request, now_ns)
        if isinstance(order, Refusal):
            return order
        order.order_id = next(self._venue.order_ids)
        call.account.register(order)
        call.data = OrderIds(order.order_id, request.external_id)
        self._hand_over(call, partial(self._place, order), now_ns)
        self._timeline.plan(request.expire_ns, partial(self._engine.expire, order))
        return None

    def _take_cancel(self, call: _Call, request: CancelRequest, now_ns: int) -> Refusal | None:
        account = call.account
        order = account.by_external.get(request.external_id) if request.external_id else None
        if order is None:
            order = account.open.get(request.order_id)
        if order is None or not order.is_open:
            code = self._venue.rules.orders.cancel_unknown_code
            return Refusal(404 if code == 404 else 400, code)
        self._hand_over(call, partial(self._cancel, order), now_ns)
        return None

    def _place(self, order: Order, now_ns: int) -> None:
        self._engine.place(order, now_ns)
        self._take_from(order, "early_fills", now_ns)

    def _cancel(self, order: Order, now_ns: int) -> None:
        self._take_from(order, "late_fills", now_ns)
        self._engine.cancel(order, now_ns)

    def _take_from(self, order: Order, fault: str, now_ns: int) -> None:
        """Let somebody take from an order just now, where such a fault is on."""
        if self._faults.is_on and order.is_open and order.in_engine:
            market = self._venue.markets[order.market]
            lots = self._faults.lots_taken(fault, order.remaining_lots)
            if lots:
                # Whatever is ahead of it goes too.
                better = [
                    size
                    for ticks, size in market.book.levels(order.side)
                    if (ticks - order.price_ticks) * order.side > 0
                ]
                lots += sum(better) + market.book.lots_ahead(order)
                self._engine.apply(market, TakerOrder(Side(-order.side), order.price_ticks, lots), now_ns)

    def _take_mass_cancel(self, call: _Call, request: MassCancelRequest, now_ns: int) -> Refusal | None:
        if not (request.cancel_all or request.markets or request.order_ids or request.external_ids):
            return _BAD_REQUEST
        self._hand_over(call, partial(self._mass_cancel, call.account, request), now_ns)
        return None

    def _mass_cancel(self, account: Account, request: MassCancelRequest, now_ns: int) -> None:
        for order in list(account.open.values()):
            if order.in_engine and _is_named(order, request):
                self._engine.cancel(order, now_ns)

    def _take_switch(self, call: _Call, request: DeadMansSwitchRequest, now_ns: int) -> Refusal | None:
        if request.countdown_s < 0:
            return _BAD_REQUEST
        due_ns = now_ns + request.countdown_s * NS_PER_S if request.countdown_s else 0
        call.account.switch_due_ns = due_ns
        if due_ns:
            self._timeline.plan(due_ns, partial(self._fire_switch, call.account))
        self._succeed(call, call.reply_ns)
        return None

    def _take_leverage(self, call: _Call, request: LeverageRequest) -> Refusal | None:
        refusal = leverage_refusal(self._venue, call.account, request)
        if refusal is None:
            call.account.leverages[request.market] = request.leverage
            call.body = frames.ok({"market": request.market, "leverage": frames.text(request.leverage)})
            self._succeed(call, call.reply_ns)
        return refusal

    def _fire_switch(self, account: Account, now_ns: int) -> None:
        """Cancel everything, unless the switch was armed anew since this step was planned."""
        if account.switch_due_ns == now_ns:
            account.switch_due_ns = 0
            account.switch_fired_ns = now_ns
            self._mass_cancel(account, MassCancelRequest(cancel_all=True), now_ns)

    def _hand_over(self, call: _Call, step: Step, now_ns: int) -> None:
        """Pass an accepted request on; the engine sees an account's requests in the order of acceptance."""
        account = call.account
        due_ns = max(account.matching_due_ns, now_ns + self._leg_ns(self._latency.matching))
        account.matching_due_ns = due_ns
        self._timeline.plan(due_ns, partial(self._match, call, step))
        if not call.stream_first:
            self._succeed(call, call.reply_ns)

    def _match(self, call: _Call, step: Step, now_ns: int) -> None:
        step(now_ns)
        if call.stream_first:
            self._late.append(call)
        else:
            call.news.hold_until(call.reply_ns + 1)

    def _succeed(self, call: _Call, due_ns: int) -> None:
        ids = call.data
        data = None if ids is None else {"id": ids.id, "externalId": ids.external_id}
        body = call.body or frames.ok(data)
        self._reply(Reply(call.ticket, due_ns, 200, 0, "", ids, body))


def _refused(ticket: int, refusal: Refusal, due_ns: int) -> Reply:
    body = frames.error(refusal.code, refusal.message)
    return Reply(ticket, due_ns, refusal.http_status, refusal.code, refusal.message, None, body)


def _is_named(order: Order, request: MassCancelRequest) -> bool:
    return (
        request.cancel_all
        or order.market in request.markets
        or order.order_id in request.order_ids
        or order.request.external_id in request.external_ids
    )
