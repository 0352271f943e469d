"""The vocabulary, in integers.

Prices are integer ticks, sizes integer lots, instants integer nanoseconds since the epoch (UTC). What is
sent to an exchange or booked never was a float; floats are for estimates and live in the decision modules.
Everything here is a value: nothing in this module does anything.
"""

from enum import IntEnum
from typing import Final, NamedTuple

NS_PER_S: Final = 1_000_000_000
NS_PER_MS: Final = 1_000_000
BPS: Final = 1e4


class Side(IntEnum):
    """Side of an order or of a trade's taker; its value is the sign of the position change."""

    BUY = 1
    SELL = -1


class Regime(IntEnum):
    """Volatility regime, in rising order."""

    CALM = 0
    NORMAL = 1
    ELEVATED = 2
    EXTREME = 3


class Direction(IntEnum):
    """Direction of the trend; its value is the sign of the expected move."""

    BEARISH = -1
    NEUTRAL = 0
    BULLISH = 1


class Action(IntEnum):
    """What is to be done with a slot."""

    KEEP = 0
    PLACE = 1
    REPLACE = 2
    CANCEL = 3


class Reason(IntEnum):
    """Why a decision, a refusal or a missing quote is what it is. Every decision carries one."""

    NONE = 0
    # An order is wanted, or the one that rests is good.
    NEW_QUOTE = 1
    PRICE_MOVED = 2
    SIZE_CHANGED = 3
    AGE_EXCEEDED = 4
    WITHIN_TOLERANCE = 5
    MIN_REPRICE_INTERVAL = 6
    REQUEST_PENDING = 7
    QUOTE_FAR = 8  # one rests, too far from the fair value or too small to count as a quote
    # No order is wanted: the market.
    NO_BOOK = 20
    STALE_BOOK = 21
    CROSSED_BOOK = 22
    SPREAD_TOO_NARROW = 23
    MARK_MISSING = 24
    # No order is wanted: soft gates.
    EXTREME_REGIME = 40
    TOXIC_VOLATILITY = 41
    TOXIC_DRIFT = 42
    JUMP = 43
    IMBALANCE = 44
    STRONG_TREND = 45
    POST_ONLY_BACKOFF = 46
    TOXIC_FLOW = 47
    REFERENCE_STALE = 48
    REFERENCE_FAR = 49
    GRID_OUTSIDE = 50  # the price has left the ladder
    GRID_STOPPED = 51  # it has left it by so much that the ladder only reduces
    HEDGING = 52  # a hedge takes on the other side: our own quotes stay out of its way
    GRID_IDLE = 53  # no order belongs on the line now: it is the other side's, or was filled last
    # No order is wanted: limits.
    POSITION_LIMIT = 60
    BELOW_MIN_SIZE = 61
    PRICE_BAND = 62
    NOT_FINITE = 63
    # The kill ladder's causes; drawdown, loss of the day and margin are the risk manager's below.
    DATA_STALE = 64
    LATENCY_HIGH = 65
    ERROR_RATE = 66
    CLOCK_SKEWED = 67
    TOXIC_FILLS = 68
    # Refused by the risk manager.
    RISK_POSITION = 80
    RISK_NOTIONAL = 81
    RISK_ORDER_SIZE = 82
    RISK_GROSS = 83
    RISK_MARGIN = 84
    RISK_LIQUIDATION = 85
    RISK_STRESS = 86
    RISK_PRICE_BAND = 87
    RISK_ORDER_RATE = 88
    RISK_DAY_LOSS = 89
    RISK_DRAWDOWN = 90
    RISK_NO_ACCOUNT = 91
    RISK_NET_BETA = 92
    # Hard halts.
    STARTING = 100
    STOPPING = 101
    STREAM_LOST = 102
    CIRCUIT_BREAKER = 103
    DESYNCHRONISED = 104
    RATE_LIMITED = 105
    MARKET_CLOSED = 106  # the exchange takes no new positions there


class OrderState(IntEnum):
    """State of one of our orders, as far as we know. Those from FILLED on are terminal."""

    PENDING_NEW = 0
    LIVE = 1
    PENDING_CANCEL = 2
    UNKNOWN = 3
    FILLED = 10
    CANCELLED = 11
    REJECTED = 12
    EXPIRED = 13


class SlotId(NamedTuple):
    """The place of one order: market, side and level (0 is the nearest to the fair value)."""

    market: str
    side: Side
    level: int


class BookUpdate(NamedTuple):
    """One frame of a market's order book: a whole snapshot, or changed levels.

    Levels are (price_ticks, size_lots); the size is absolute, and zero removes the level.
    """

    market: str
    is_snapshot: bool
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    seq: int
    venue_ns: int
    recv_ns: int


class BestQuote(NamedTuple):
    """Best prices and sizes of a market from the fast stream; ticks and lots are 0 where a side is empty.

    It says nothing of the levels behind, and is newer than a book frame only if its `venue_ns` is.
    """

    market: str
    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    venue_ns: int
    recv_ns: int


class Book(NamedTuple):
    """What the signals read of a book: best prices, sizes there and near them, our own orders taken out."""

    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    bid_depth_lots: int
    ask_depth_lots: int
    venue_ns: int
    recv_ns: int


class Trade(NamedTuple):
    """A public trade; `taker_side` is the side of the aggressor."""

    market: str
    trade_id: int
    taker_side: Side
    price_ticks: int
    size_lots: int
    venue_ns: int
    recv_ns: int


class Fill(NamedTuple):
    """One match of one of our orders."""

    market: str
    trade_id: int
    order_id: int
    external_id: str
    side: Side
    price_ticks: int
    size_lots: int
    is_taker: bool
    venue_ns: int
    recv_ns: int


class NewOrder(NamedTuple):
    """An order to be sent. `replaces` is the external id of the order whose place it takes, or empty."""

    market: str
    external_id: str
    side: Side
    price_ticks: int
    size_lots: int
    post_only: bool
    reduce_only: bool
    immediate_or_cancel: bool
    expire_ns: int
    nonce: int
    replaces: str = ""


class Decision(NamedTuple):
    """What `decide` wants of a slot, and why. Price and size are zero unless an order is placed."""

    action: Action
    reason: Reason
    price_ticks: int
    size_lots: int
    reduce_only: bool
