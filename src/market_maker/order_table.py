"""What becomes of an order when something is heard of it: the transition table, and one order's record.

REST replies and stream events come in any order, so every pair of state and event has an entry. A terminal
state stays, whatever is heard later; a fill counts in every state. PENDING_NEW lasts until the exchange says
that the order rests, because its reply means accepted and no more. UNKNOWN is an order of which nobody knows
whether it exists: it can still fill, and only the exchange's word or a settled look-up ends it.
"""

from dataclasses import dataclass
from enum import IntEnum, auto
from typing import Final

from market_maker.domain import NewOrder, OrderState, SlotId


class OrderEventKind(IntEnum):
    """What can be heard, or be done, about an order."""

    ACCEPTED = auto()  # reply: the exchange took the order in
    REFUSED = auto()  # reply: the order does not exist
    TIMED_OUT = auto()  # no reply to the order, or to its cancel
    CANCEL_SENT = auto()  # its cancel, or an order that replaces it, was sent
    CANCEL_REFUSED = auto()  # that was refused, and nothing changed
    CANCEL_MISSED = auto()  # that was refused because the order was not found
    REPORTED_OPEN = auto()  # stream or look-up: it rests
    REPORTED_FILLED = auto()
    REPORTED_CANCELLED = auto()
    REPORTED_REJECTED = auto()
    REPORTED_EXPIRED = auto()
    FILLED_UP = auto()  # its trades add up to its size
    GONE = auto()  # repeated look-ups did not find it


_S = OrderState
_E = OrderEventKind

TERMINAL: Final = frozenset({_S.FILLED, _S.CANCELLED, _S.REJECTED, _S.EXPIRED})
WORKING: Final = tuple(state for state in _S if state not in TERMINAL)

_ENDINGS: Final = {
    _E.REPORTED_FILLED: _S.FILLED,
    _E.REPORTED_CANCELLED: _S.CANCELLED,
    _E.REPORTED_REJECTED: _S.REJECTED,
    _E.REPORTED_EXPIRED: _S.EXPIRED,
    _E.FILLED_UP: _S.FILLED,
}

_WORKING_ROWS: Final[dict[OrderState, dict[OrderEventKind, OrderState]]] = {
    _S.PENDING_NEW: {
        _E.ACCEPTED: _S.PENDING_NEW,
        _E.REFUSED: _S.REJECTED,
        _E.TIMED_OUT: _S.UNKNOWN,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.PENDING_NEW,
        _E.CANCEL_MISSED: _S.UNKNOWN,
        _E.REPORTED_OPEN: _S.LIVE,
        _E.GONE: _S.REJECTED,
    },
    _S.LIVE: {
        _E.ACCEPTED: _S.LIVE,
        # The stream says that it rests, the reply that it never will: a look-up decides.
        _E.REFUSED: _S.UNKNOWN,
        _E.TIMED_OUT: _S.LIVE,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.LIVE,
        _E.CANCEL_MISSED: _S.UNKNOWN,
        _E.REPORTED_OPEN: _S.LIVE,
        _E.GONE: _S.CANCELLED,
    },
    _S.PENDING_CANCEL: {
        _E.ACCEPTED: _S.PENDING_CANCEL,
        _E.REFUSED: _S.REJECTED,
        _E.TIMED_OUT: _S.PENDING_CANCEL,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.LIVE,
        # It may have filled, ended, or not have arrived yet.
        _E.CANCEL_MISSED: _S.UNKNOWN,
        _E.REPORTED_OPEN: _S.PENDING_CANCEL,
        _E.GONE: _S.CANCELLED,
    },
    _S.UNKNOWN: {
        _E.ACCEPTED: _S.PENDING_NEW,
        _E.REFUSED: _S.REJECTED,
        _E.TIMED_OUT: _S.UNKNOWN,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.UNKNOWN,
        _E.CANCEL_MISSED: _S.UNKNOWN,
        _E.REPORTED_OPEN: _S.LIVE,
        _E.GONE: _S.REJECTED,
    },
}

TRANSITIONS: Final[dict[tuple[OrderState, OrderEventKind], OrderState]] = {
    **{
        (state, event): after
        for state, row in _WORKING_ROWS.items()
        for event, after in (row | _ENDINGS).items()
    },
    **{(state, event): state for state in TERMINAL for event in _E},
}

REPORTED: Final = {
    _S.LIVE: _E.REPORTED_OPEN,
    _S.FILLED: _E.REPORTED_FILLED,
    _S.CANCELLED: _E.REPORTED_CANCELLED,
    _S.REJECTED: _E.REPORTED_REJECTED,
    _S.EXPIRED: _E.REPORTED_EXPIRED,
}


@dataclass(slots=True, eq=False)
class TrackedOrder:
    """One of our orders, as far as we know. To be read by others, written by the order manager.

    Parameters
    ----------
    slot : SlotId or None
        None for a stray: an order of ours that nobody decided in this run, counted until it is cancelled.
    since_ns : int
        When it entered its state.
    reported_lots, traded_lots : int
        Filled size by the exchange's reports, and by the trades that we have; reports may be ahead.
    presumed : bool
        Its end is our conclusion from look-ups that did not find it.
    missing_since_ns, awaiting_since_ns : int
        First look-up that did not find it; first report of a fill whose trade has not come. 0 if none.
    """

    order: NewOrder
    slot: SlotId | None
    placed_ns: int
    since_ns: int
    state: OrderState = OrderState.PENDING_NEW
    order_id: int = 0
    reported_lots: int = 0
    traded_lots: int = 0
    in_flight: bool = False
    presumed: bool = False
    missing_since_ns: int = 0
    next_look_ns: int = 0
    awaiting_since_ns: int = 0
    trade_looks: int = 0

    @property
    def external_id(self) -> str:
        """The id that we gave it."""
        return self.order.external_id

    @property
    def price_ticks(self) -> int:
        """Limit price."""
        return self.order.price_ticks

    @property
    def size_lots(self) -> int:
        """Size as ordered."""
        return self.order.size_lots

    @property
    def is_working(self) -> bool:
        """Whether it may still rest or come to rest."""
        return self.state < OrderState.FILLED

    @property
    def remaining_lots(self) -> int:
        """What is left of it by the larger of reports and trades; 0 once it ended."""
        if not self.is_working:
            return 0
        return max(0, self.order.size_lots - max(self.reported_lots, self.traded_lots))

    @property
    def awaited_lots(self) -> int:
        """Size that is reported as filled, whose trades have not come."""
        return max(0, self.reported_lots - self.traded_lots)

    @property
    def at_risk_lots(self) -> int:
        """Size that the position may still change by: what may fill, and fills whose trades have not come."""
        return self.remaining_lots + self.awaited_lots

    def hear(self, event: OrderEventKind, now_ns: int) -> bool:
        """Pass an event through the table; whether the state changed."""
        after = TRANSITIONS[self.state, event]
        if after == self.state:
            return False
        self.state = after
        self.since_ns = now_ns
        self.next_look_ns = 0
        return True

    def can_be_forgotten(self) -> bool:
        """Whether nothing of consequence can still come: it ended, is answered, and its trades are here."""
        return not (self.is_working or self.in_flight or self.awaited_lots)
