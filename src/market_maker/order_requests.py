"""One request each, and what its reply means for the orders it is about.

A reply means accepted; a refusal, that nothing happened; anything else, that nobody knows. A request whose
task is cancelled midway has an unknown outcome too.
"""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from market_maker.clock import Clock, Entropy
from market_maker.domain import NS_PER_S, NewOrder, OrderState
from market_maker.gateway import (
    CredentialsRefused,
    Gateway,
    MarketNotFound,
    OrderRefused,
    RateLimited,
    VenueError,
)
from market_maker.order_records import (
    NOT_SENT,
    RATE_LIMITED,
    REPLACED_ORDER_GONE,
    OrderObservers,
    OrderRecords,
    OrderSettings,
)
from market_maker.order_table import OrderEventKind, TrackedOrder
from market_maker.risk_manager import Approved, OrderStyle

_REPLACED_ORDER_NOT_FOUND = 1142
_PREFIX = re.compile(r"[A-Za-z0-9_]{1,16}")
_TOKEN_LENGTH = 12

T = TypeVar("T")


class OrderRequests(OrderRecords):
    """The requests to the exchange, and the records that they change.

    Parameters
    ----------
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
        if not _PREFIX.fullmatch(settings.order_id_prefix):
            msg = f"order_id_prefix: expected 1 to 16 letters, digits or _, was {settings.order_id_prefix!r}"
            raise ValueError(msg)
        super().__init__(clock, settings, observers or OrderObservers())
        self._gateway = gateway
        self._entropy = entropy
        self._rate_limited_until_ns = 0

    @property
    def rate_limited_until_ns(self) -> int:
        """No request should be sent before this instant; 0 if the exchange never refused one for its rate."""
        return self._rate_limited_until_ns

    def _reserve(self, approved: Approved, old: TrackedOrder | None) -> TrackedOrder:
        now_ns = self._clock.now_ns()
        slot, decision = approved.slot, approved.decision
        order = NewOrder(
            market=slot.market,
            external_id=f"{self._settings.order_id_prefix}-{slot.level}-{self._entropy.token(_TOKEN_LENGTH)}",
            side=slot.side,
            price_ticks=decision.price_ticks,
            size_lots=decision.size_lots,
            post_only=approved.style == OrderStyle.POST_ONLY,
            reduce_only=decision.reduce_only,
            immediate_or_cancel=approved.style == OrderStyle.IMMEDIATE_OR_CANCEL,
            expire_ns=now_ns + round(self._settings.order_expiry_s * NS_PER_S),
            nonce=self._entropy.nonce(),
            replaces=old.external_id if old else "",
        )
        tracked = TrackedOrder(order, slot, placed_ns=now_ns, since_ns=now_ns)
        self._track(tracked)
        if old is not None:
            self._hear(old, OrderEventKind.CANCEL_SENT)
        return tracked

    async def _send(self, new: TrackedOrder, old: TrackedOrder | None) -> None:
        event, old_event, reason = OrderEventKind.TIMED_OUT, OrderEventKind.TIMED_OUT, ""
        if new.state != OrderState.PENDING_NEW:
            # Cancelled between its decision and its turn: it never leaves the house.
            self._settle(new, old, OrderEventKind.REFUSED, OrderEventKind.CANCEL_REFUSED, NOT_SENT)
            return
        if old is None:
            self.counters.placed += 1
        else:
            self.counters.replaced += 1
        new.in_flight = True
        try:
            async with asyncio.timeout(self._settings.order_request_timeout_s):
                accepted = await self._gateway.place(new.order)
            new.order_id = accepted.order_id
            self._external_ids[accepted.order_id] = new.external_id
            event = OrderEventKind.ACCEPTED
        except OrderRefused as refusal:
            event, reason = OrderEventKind.REFUSED, self._refusal_reason(refusal)
            gone = reason == REPLACED_ORDER_GONE
            old_event = OrderEventKind.CANCEL_MISSED if gone else OrderEventKind.CANCEL_REFUSED
        except (CredentialsRefused, MarketNotFound) as refusal:
            event, old_event, reason = OrderEventKind.REFUSED, OrderEventKind.CANCEL_REFUSED, str(refusal)
            raise
        except (VenueError, TimeoutError):
            self.counters.unknown += 1
        finally:
            # Also when this task is cancelled: then nobody knows what became of the order.
            new.in_flight = False
            self._settle(new, old, event, old_event, reason)

    def _settle(
        self,
        new: TrackedOrder,
        old: TrackedOrder | None,
        event: OrderEventKind,
        old_event: OrderEventKind,
        reason: str,
    ) -> None:
        # The old order first: its slot is not free while it lives on.
        if old is not None and event != OrderEventKind.ACCEPTED:
            self._hear(old, old_event)
        self._hear(new, event, reason)

    def _refusal_reason(self, refusal: OrderRefused) -> str:
        if isinstance(refusal, RateLimited):
            self._limit_rate(refusal)
            return RATE_LIMITED
        return REPLACED_ORDER_GONE if refusal.code == _REPLACED_ORDER_NOT_FOUND else str(refusal)

    def _limit_rate(self, refusal: RateLimited) -> None:
        self.counters.rate_limited += 1
        until_ns = self._clock.now_ns() + round(refusal.retry_after_s * NS_PER_S)
        self._rate_limited_until_ns = max(self._rate_limited_until_ns, until_ns)

    async def _cancel(self, order: TrackedOrder) -> None:
        self.counters.cancelled += 1
        order.next_look_ns = self._clock.now_ns() + round(self._settings.order_lookup_interval_s * NS_PER_S)
        event = OrderEventKind.TIMED_OUT
        try:
            async with asyncio.timeout(self._settings.order_request_timeout_s):
                await self._gateway.cancel(order.order.market, order.external_id)
        except RateLimited as refusal:
            self._limit_rate(refusal)
            event = OrderEventKind.CANCEL_REFUSED
        except OrderRefused:
            event = OrderEventKind.CANCEL_MISSED
        except CredentialsRefused:
            self._hear(order, OrderEventKind.CANCEL_REFUSED)
            raise
        except (VenueError, TimeoutError):
            self.counters.unknown += 1
        else:
            return
        self._hear(order, event)

    async def _ask(self, request: Coroutine[Any, Any, T]) -> list[T]:
        """Reply to a request that may be repeated, alone in a list; no reply in time is an empty list."""
        try:
            async with asyncio.timeout(self._settings.order_request_timeout_s):
                return [await request]
        except RateLimited as refusal:
            self._limit_rate(refusal)
        except CredentialsRefused:
            raise
        except (VenueError, TimeoutError):
            self.counters.unanswered += 1
        return []
