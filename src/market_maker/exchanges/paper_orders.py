"""Orders on paper: what became of each in the exchange's words, and the refusals of its API."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from market_maker.domain import NewOrder, OrderState, Side
from market_maker.fills.rows import FillReason
from market_maker.gateway import OrderRefused, OrderReport

UNKNOWN_ORDER: Final = 404
_HISTORY: Final = 20_000
_MESSAGES: Final = {
    UNKNOWN_ORDER: "Order not found.",
    1002: "Market is disabled.",
    1014: "Market is in reduce only mode.",
    1049: "Leverage is below the minimum.",
    1050: "Leverage exceeds the maximum of the market.",
    1120: "Order quantity less than min trade size.",
    1122: "Order value exceeds max order value.",
    1126: "Max open orders number exceeded.",
    1127: "Max position value exceeded.",
    1133: "Invalid order parameters.",
    1134: "Duplicate order.",
    1135: "Invalid order expiration date.",
    1136: "Reduce-only order size exceeds open position size.",
    1137: "Position is missing for reduce-only order.",
    1138: "Position is the same side as reduce-only order.",
    1140: "New order cost exceeds available balance.",
    1141: "Invalid price amount.",
    1142: "Edit order not found.",
}
# What the exchange's door refuses leaves nothing behind; what its matching engine does not take is told.
_DOOR: Final = {
    FillReason.NOT_FOUND: 1142,
    FillReason.MIN_SIZE: 1120,
    FillReason.MIN_VALUE: 1120,
    FillReason.MAX_VALUE: 1122,
    FillReason.PRICE_BAND: 1141,
    FillReason.EXPIRY: 1135,
    FillReason.INVALID: 1133,
}
_WORDS: Final = {
    FillReason.NONE: "NONE",
    FillReason.POST_ONLY: "POST_ONLY_FAILED",
    FillReason.NO_LIQUIDITY: "NO_LIQUIDITY",
    FillReason.REDUCE_ONLY: "REDUCE_ONLY_FAILED",
    FillReason.REPLACED: "ORDER_REPLACED",
    FillReason.SELF_TRADE: "SELF_TRADE_PROTECTION",
    FillReason.FILLED_BEFORE: "INVALID_QTY",
}


def refusal(code: int) -> OrderRefused:
    """A refusal as the exchange words it."""
    return OrderRefused(f"{code}: {_MESSAGES[code]}", code)


def door_code(reason: FillReason, side: Side, position_lots: int) -> int:
    """Code of a rejection at the exchange's door; 0 where it is the matching engine's."""
    if reason is not FillReason.REDUCE_ONLY:
        return _DOOR.get(reason, 0)
    if position_lots == 0:
        return 1137
    return 1138 if position_lots * side > 0 else 1136


@dataclass(slots=True, eq=False)
class PaperOrder:
    """One order of ours. `number` is its number in the engine; `accepted` the reply to who sent it."""

    order: NewOrder
    order_id: int
    accepted: asyncio.Future[None]
    number: int = 0
    state: OrderState = OrderState.PENDING_NEW
    reason: str = "NONE"
    filled_lots: int = 0
    updated_ns: int = 0
    cancels: deque[asyncio.Future[None]] = field(default_factory=deque)

    @property
    def is_open(self) -> bool:
        """Whether it may still fill."""
        return self.state in (OrderState.PENDING_NEW, OrderState.LIVE)

    @property
    def remaining_lots(self) -> int:
        """Lots that have not filled."""
        return self.order.size_lots - self.filled_lots

    def accept(self) -> None:
        """Reply that it was taken in."""
        if not self.accepted.done():
            self.accepted.set_result(None)

    def refuse(self, error: Exception) -> None:
        """Reply that it was not."""
        if not self.accepted.done():
            self.accepted.set_exception(error)

    def answer_cancel(self, error: Exception | None) -> None:
        """Reply to the first cancel that waits for one."""
        if not self.cancels:
            return
        waiting = self.cancels.popleft()
        if waiting.done():
            return
        if error is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(error)

    def fail(self, error: Exception) -> None:
        """Reply to whoever waits that nobody knows."""
        self.refuse(error)
        while self.cancels:
            self.answer_cancel(error)

    def move(self, state: OrderState, reason: FillReason, at_ns: int) -> None:
        """Note what became of it."""
        self.state = state
        self.reason = _WORDS[reason]
        self.updated_ns = at_ns

    def report(self) -> OrderReport:
        """The order as the account stream and look-ups tell it."""
        order = self.order
        return OrderReport(
            market=order.market,
            order_id=self.order_id,
            external_id=order.external_id,
            side=order.side,
            state=self.state,
            reason=self.reason,
            price_ticks=order.price_ticks,
            size_lots=order.size_lots,
            filled_lots=self.filled_lots,
            reduce_only=order.reduce_only,
            post_only=order.post_only,
            venue_ns=self.updated_ns,
        )


class PaperOrders:
    """Orders by their ids; of those that ended the last ones."""

    def __init__(self) -> None:
        self._by_id: dict[str, PaperOrder] = {}
        self._by_number: dict[tuple[str, int], PaperOrder] = {}
        self._open: dict[str, PaperOrder] = {}
        self._ended: deque[PaperOrder] = deque()

    def add(self, placed: PaperOrder) -> None:
        """Take in an order that has its number."""
        order = placed.order
        self._by_id[order.external_id] = placed
        self._by_number[order.market, placed.number] = placed
        self._open[order.external_id] = placed

    def find(self, external_id: str) -> PaperOrder | None:
        """An order by the id that we gave it."""
        return self._by_id.get(external_id)

    def numbered(self, market: str, number: int) -> PaperOrder | None:
        """An order by its number in its market's engine."""
        return self._by_number.get((market, number))

    def open_in(self, market: str = "") -> list[PaperOrder]:
        """Orders that may fill, in one market if named, those on their way among them, oldest first."""
        return [placed for placed in self._open.values() if market in ("", placed.order.market)]

    def remembered(self) -> list[PaperOrder]:
        """All that are known, those that ended among them."""
        return list(self._by_id.values())

    def end(self, placed: PaperOrder) -> None:
        """Move an order that ended to the history, which is finite."""
        if self._open.pop(placed.order.external_id, None) is None:
            return
        self._ended.append(placed)
        if len(self._ended) > _HISTORY:
            self.forget(self._ended.popleft())

    def forget(self, placed: PaperOrder) -> None:
        """Know nothing of an order any more."""
        order = placed.order
        self._open.pop(order.external_id, None)
        self._by_id.pop(order.external_id, None)
        self._by_number.pop((order.market, placed.number), None)
