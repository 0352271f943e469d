"""Everything that the fill engine remembers, in rows of whole numbers.

Prices are ticks, sizes lots, instants ns, money tick·lots: price × size, one being worth tick × step USD.
What fees and funding add is finer: an amount is a pair of whole tick·lots and a fraction in 10⁻¹¹ of one, the
fraction never negative. Rates are parts in 10⁹. Floats are the place in a queue, and nothing else.

Strategy k has the orders k·M … k·M + M − 1; an order's place in that array is used again once it ended.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Any, Final, NamedTuple, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from market_maker.kernel import Row, new_row, row_dtype

NO_BID: Final = 0
NO_ASK: Final = 2**62
BIDS: Final = 0
ASKS: Final = 1
# Ahead of an order at a price that the book does not show: nobody knows, so no trade there reaches it.
UNSEEN: Final = 1e15
NEVER_NS: Final = 2**62
REBATE_TIERS: Final = 4
# Which way a message goes, and what it is about.
REQUEST: Final = 1
REPLY: Final = 2
ORDER_PATH: Final = 0
CANCEL_PATH: Final = 1
# Planes of `levels`: first and last order of ours at a price (−1: none), then two buffers of each book.
HEADS: Final = 0
TAILS: Final = 1
BOOKS: Final = 2
MAKER: Final = 0
TAKER: Final = 1


class QueueModel(IntEnum):
    """How the place in the queue moves up when the size at a price falls."""

    RISK_AVERSE = 0  # others leave from behind us: only trades, and a level smaller than what was ahead
    POWER = 1  # share of leavers behind us: f(back) / (f(back) + f(front)) with f(x) = xⁿ
    LOG = 2  # the same with f(x) = log(1 + x)
    TRADE_THROUGH = 3  # never: an order fills only where the market trades past its price
    AHEAD = 4  # others leave from ahead of us, as long as there are any: the best that can be hoped


class OrderPlace(IntEnum):
    """What is in an order's place."""

    FREE = 0
    TRAVELLING = 1
    RESTING = 2


class RequestKind(IntEnum):
    """What is asked of the exchange."""

    PLACE = 0
    CANCEL = 1
    REPLACE = 2


class EventKind(IntEnum):
    """What happened to an order; also what a reply says. FUNDING and LIQUIDATED concern a position."""

    SENT = 0
    ACCEPTED = 1
    REJECTED = 2
    CANCELLED = 3
    CANCEL_REJECTED = 4
    EXPIRED = 5
    FILL = 6
    FUNDING = 7
    CANCEL_SENT = 8
    LIQUIDATED = 9  # noted by who keeps the account; the engine itself never liquidates


class FillReason(IntEnum):
    """Why an order was rejected or ended."""

    NONE = 0
    POST_ONLY = 1  # it would have taken
    NO_LIQUIDITY = 2  # immediate or cancel, and nothing there
    REDUCE_ONLY = 3  # nothing, or not so much, to reduce
    REPLACED = 4
    NOT_FOUND = 5  # the order to be cancelled or replaced is gone
    MIN_SIZE = 6
    MIN_VALUE = 7
    MAX_VALUE = 8
    PRICE_BAND = 9
    EXPIRY = 10
    INVALID = 11  # post-only and immediate, no price, no place
    SELF_TRADE = 12  # our own order on the other side was in the way
    FILLED_BEFORE = 13  # what its predecessor filled leaves nothing


@dataclass
class MarketRow:
    """Rules of a market, and what the exchange side knows of it."""

    min_lots: int = 1
    min_tick_lots: int = 0  # least value of an order that opens, tick·lots
    max_tick_lots: int = 0  # largest value of an order, 0: none
    band_up_ppm: int = 0  # how far a buy may lie above the mark, 0: no band
    band_down_ppm: int = 0  # how far a sell may lie below it
    replacement_counts_filled: bool = False  # a replacement's size includes what its predecessor filled
    mark_from_mid: bool = True  # the book's mid is the mark until there is one
    base_ticks: int = 0  # price of the first column of `levels`
    mark_parts: int = 0  # last mark, hundredths of a tick; 0: none yet
    volume_tick_lots: int = 0  # public trades
    day_end_ns: int = 0  # the next 00:00 UTC; 0: no row yet
    orders_each: int = 0  # places for orders of a strategy, M
    requests_each: int = 0  # length of a strategy's ring of requests
    replies_each: int = 0
    latency_rows: int = 0
    own_count: Annotated[NDArray[np.int64], 2] = field(default_factory=lambda: np.zeros(2, np.int64))
    own_best: Annotated[NDArray[np.int64], 2] = field(default_factory=lambda: np.zeros(2, np.int64))
    own_worst: Annotated[NDArray[np.int64], 2] = field(default_factory=lambda: np.zeros(2, np.int64))
    arrivals: int = 0  # events that may have met orders of ours
    sweeps: int = 0  # strategies whose reduce-only orders are to be looked at
    due_ns: int = NEVER_NS  # least `due_ns` of the strategies, or earlier
    log_rows: int = 0
    overflow: bool = False  # a ring was full: the run is void


@dataclass
class StrategyRow:
    """One contestant: how its orders fill, travel and pay, then what became of it."""

    queue_model: int = int(QueueModel.POWER)
    queue_power: float = 2.0  # n of POWER
    lots_per_unit: float = 1.0  # the queue is counted in this many lots (LOG depends on the unit)
    partial_fills: bool = True  # False: whoever is reached fills whole, and shares nothing
    book_fills: bool = True  # levels that reach our price fill it too, not trades alone
    maker_fee_ppb: int = 0
    taker_fee_ppb: int = 250_000
    rebate_share_ppm: Annotated[NDArray[np.int64], REBATE_TIERS] = field(
        default_factory=lambda: np.zeros(REBATE_TIERS, np.int64)
    )  # share of all volume from which a tier counts, rising; 0: no tier
    rebate_ppb: Annotated[NDArray[np.int64], REBATE_TIERS] = field(
        default_factory=lambda: np.zeros(REBATE_TIERS, np.int64)
    )
    rebate_least_tick_lots: int = 0  # less than this in a day is not credited
    request_ns: int = 0  # to the exchange, a new order or replacement
    reply_ns: int = 0  # back
    cancel_request_ns: int = 0
    cancel_reply_ns: int = 0
    recorded_latency: bool = False  # from the recorded array instead
    feed: int = 0  # which delayed book it sees
    position_lots: int = 0
    orders_sent: int = 0  # also the last order's id
    requests_sent: int = 0
    requests_served: int = 0
    replies_sent: int = 0
    replies_heard: int = 0
    last_request_ns: int = 0
    last_reply_ns: int = 0
    due_ns: int = NEVER_NS  # next instant at which something of it happens
    expiry_ns: int = NEVER_NS  # first expiry of its resting orders, or earlier
    resting: int = 0
    arrival: int = 0  # the event that `left_lots` belongs to
    left_lots: int = 0  # what our orders have left of it
    needs_sweep: bool = False
    flow_tick_lots: int = 0  # −Σ q·p
    maker_tick_lots: int = 0
    taker_tick_lots: int = 0
    fills: int = 0
    day_rebate_ppb: int = 0  # rate in force today
    fees: int = 0  # paid, tick·lots
    fees_frac: int = 0  # 10⁻¹¹ tick·lots
    rebates: int = 0  # accrued
    rebates_frac: int = 0
    day_rebates: int = 0  # accrued and not yet credited or lost
    day_rebates_frac: int = 0
    credited: int = 0
    credited_frac: int = 0
    funding: int = 0  # received
    funding_frac: int = 0


@dataclass
class OrderRow:
    """One order at the exchange, or on its way there."""

    strategy: int = 0
    order_id: int = 0
    tag: int = 0  # the sender's own mark
    place: int = int(OrderPlace.FREE)
    side: int = 1
    price_ticks: int = 0
    size_lots: int = 0
    remaining_lots: int = 0
    post_only: bool = True
    immediate: bool = False
    reduce_only: bool = False
    expire_ns: int = NEVER_NS
    front: float = 0.0  # ahead of it, in queue units
    traded: float = 0.0  # traded at its price since the level last changed
    accepted_ns: int = 0  # when it came to rest; 0: it has not
    queue_ahead_lots: int = -1  # ahead of it then; −1: unknown, the book did not show the price
    earlier: int = -1  # neighbours at the same price, by arrival
    later: int = -1


@dataclass
class RequestRow:
    """A request on its way. `old_id` is the order to be cancelled or replaced, in the place `old`."""

    due_ns: int = 0
    kind: int = 0
    order: int = 0
    old: int = 0
    old_id: int = 0


@dataclass
class ReplyRow:
    """What a strategy will hear of an order, and when."""

    due_ns: int = 0
    venue_ns: int = 0
    kind: int = 0
    reason: int = 0
    order: int = 0
    order_id: int = 0
    tag: int = 0
    side: int = 0
    price_ticks: int = 0
    lots: int = 0
    remaining_lots: int = 0
    taker: bool = False


@dataclass
class LogRow:
    """One line of the log of orders and fills; its bytes are all data.

    Of FUNDING, `lots` is the position, `price_ticks` the rate (10⁻⁹), `remaining_lots` the mark (1/100 tick);
    of LIQUIDATED the same without a rate.
    """

    ns: int = 0
    strategy: int = 0
    kind: int = 0
    reason: int = 0
    order_id: int = 0
    tag: int = 0
    side: int = 0
    price_ticks: int = 0
    lots: int = 0
    remaining_lots: int = 0
    position_lots: int = 0
    mid2_ticks: int = 0  # bid plus ask at the exchange then, 0: none
    front: float = 0.0
    role: int = MAKER
    accepted_ns: int = 0  # when the order came to rest; 0: it has not
    queue_ahead_lots: int = -1  # ahead of it then; −1: unknown
    rebate_ppb: int = 0  # rate that a maker's fill earned


@dataclass
class DepthRow:
    """One book. Each side is kept twice, so that a snapshot can be compared with what was before.

    `low` and `high` bound the prices that may have a size, by buffer and side: 2·buffer + side.
    """

    active: int = 0
    bid_ticks: int = NO_BID
    ask_ticks: int = NO_ASK
    old_bid_ticks: int = NO_BID
    old_ask_ticks: int = NO_ASK
    low: Annotated[NDArray[np.int64], 4] = field(default_factory=lambda: np.full(4, NO_ASK, np.int64))
    high: Annotated[NDArray[np.int64], 4] = field(default_factory=lambda: np.zeros(4, np.int64))
    in_snapshot: bool = False
    limited: bool = False  # it came as a snapshot: what lies beyond its levels is unknown
    trusted: bool = True
    after_gap: bool = False


RowT = TypeVar("RowT", covariant=True)


class Rows(Protocol[RowT]):
    """A structured array, as kernels use it: records by number, which are written through."""

    @overload
    def __getitem__(self, index: int, /) -> RowT: ...
    @overload
    def __getitem__(self, index: slice, /) -> Row: ...
    def __len__(self) -> int: ...


class Cells(Protocol):
    """An array of whole numbers, as kernels use it."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of its axes."""
        ...

    def __getitem__(self, index: int | tuple[int, ...], /) -> int: ...
    def __setitem__(self, index: int | tuple[int, ...], value: int, /) -> None: ...


class World(NamedTuple):
    """All arrays of the engine. Kernels take it whole; a piece of the market is one call."""

    market: Rows[MarketRow]  # 1
    strategies: Rows[StrategyRow]  # K
    orders: Rows[OrderRow]  # K·M, and a spare one
    requests: Rows[RequestRow]  # K·Q
    replies: Rows[ReplyRow]  # K·R
    depths: Rows[DepthRow]  # the exchange's book, then the delayed ones
    levels: Cells  # plane, side, price − base
    latencies: Cells  # instant, request, reply, ns; rising
    log: Rows[LogRow]


def rows_of(cls: type, count: int) -> Any:  # noqa: ANN401  (an array of any record)
    """Array of `count` rows of a record type, with its defaults."""
    rows = np.zeros(count, row_dtype(cls))
    rows[:] = new_row(cls())
    return rows
