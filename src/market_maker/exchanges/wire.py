"""The objects of Extended's JSON that streams and REST share, and their conversion to the port's values.

The wire writes numbers as strings ("84050.000000"), instants as milliseconds and direction in words; inside,
prices are ticks, sizes lots, instants nanoseconds. Fields that are not listed here are ignored. An enum value
that nobody documented is counted in `Unknown` and read sensibly: a new word must not stop the bot. A number
that cannot be what it claims to be is a `CorruptFrame`.
"""

from collections import Counter
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, TypeVar

import msgspec

from market_maker.domain import NS_PER_MS, Fill, OrderState, Side
from market_maker.gateway import BalanceReport, FillReport, OrderReport, PositionReport
from market_maker.instrument import Instrument, InstrumentError

T = TypeVar("T")
Unknown = Counter[str]
ZERO: Final = Decimal(0)
_SHOWN_BYTES = 160
_TRADE: Final = "TRADE"
# Arithmetic on more digits than any amount has would take its time.
_MOST_DIGITS: Final = 25
# Ticks and lots of any market: their rows in the compiled core hold 64 bits.
_MOST_UNITS: Final = 10**16
# An instant of the wire, ms since 1970: its nanoseconds fit into 64 bits too.
Millis = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]

_SIDES: Final = {"BUY": Side.BUY, "SELL": Side.SELL}
_POSITION_SIGNS: Final = {"LONG": 1, "SHORT": -1}
_LIVE_STATES: Final = ("NEW", "PARTIALLY_FILLED", "UNTRIGGERED", "TRIGGERED")
_ORDER_STATES: Final = {
    **dict.fromkeys(_LIVE_STATES, OrderState.LIVE),
    "FILLED": OrderState.FILLED,
    "CANCELLED": OrderState.CANCELLED,
    "REJECTED": OrderState.REJECTED,
    "EXPIRED": OrderState.EXPIRED,
}
_REASONS: Final = frozenset(
    {
        "NONE",
        "UNKNOWN",
        "UNKNOWN_MARKET",
        "DISABLED_MARKET",
        "NOT_ENOUGH_FUNDS",
        "NO_LIQUIDITY",
        "INVALID_FEE",
        "INVALID_QTY",
        "INVALID_PRICE",
        "INVALID_VALUE",
        "UNKNOWN_ACCOUNT",
        "SELF_TRADE_PROTECTION",
        "POST_ONLY_FAILED",
        "REDUCE_ONLY_FAILED",
        "INVALID_EXPIRE_TIME",
        "POSITION_TPSL_CONFLICT",
        "INVALID_LEVERAGE",
        "PREV_ORDER_NOT_FOUND",
        "PREV_ORDER_TRIGGERED",
        "TPSL_OTHER_SIDE_FILLED",
        "PREV_ORDER_CONFLICT",
        "ORDER_REPLACED",
        "POST_ONLY_MODE",
        "REDUCE_ONLY_MODE",
        "TRADING_OFF_MODE",
        "NEGATIVE_EQUITY",
        "ACCOUNT_LIQUIDATION",
    }
)


# Text that is no UTF-8 and lists within lists within lists are told by other errors than its own.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class CorruptFrame(ValueError):
    """What arrived is not what the protocol says; the stream that carried it is not to be trusted."""


class WireOrder(msgspec.Struct, rename="camel", gc=False):
    """An order of the account, from the stream or from REST."""

    id: int
    market: str
    side: str
    status: str
    qty: Decimal
    external_id: str = ""
    status_reason: str = ""
    price: Decimal | None = None
    filled_qty: Decimal = ZERO
    reduce_only: bool = False
    post_only: bool = False
    updated_time: Millis = 0


class WireFill(msgspec.Struct, rename="camel", gc=False):
    """A match of one of the account's orders; `externalOrderId` comes on the stream only."""

    id: int
    market: str
    order_id: int
    side: str
    price: Decimal
    qty: Decimal
    fee: Decimal = ZERO
    is_taker: bool = False
    trade_type: str = "TRADE"
    external_order_id: str = ""
    created_time: Millis = 0


class WirePosition(msgspec.Struct, rename="camel", gc=False):
    """A position; `size` is absolute. The liquidation price may be null, missing or an empty string."""

    market: str
    side: str
    size: Decimal
    status: str = "OPENED"
    open_price: Decimal | None = None
    mark_price: Decimal | None = None
    liquidation_price: str | float | None = None
    updated_at: Millis = 0


class WireBalance(msgspec.Struct, rename="camel", gc=False):
    """The account's money."""

    balance: Decimal
    equity: Decimal
    available_for_trade: Decimal
    initial_margin: Decimal = ZERO
    margin_ratio: Decimal = ZERO
    updated_time: Millis = 0


def corrupt(expected: str, found: object) -> CorruptFrame:
    """Error that names what the protocol says and what came instead, shortened."""
    text = found.decode("utf-8", "backslashreplace") if isinstance(found, bytes) else str(found)
    shown = text if len(text) <= _SHOWN_BYTES else f"{text[:_SHOWN_BYTES]}…"
    return CorruptFrame(f"expected {expected}, was {shown}")


def frame_reader(frame_type: type[T], expected: str) -> Callable[[bytes], T]:
    """Reader of frames of a type; it raises `CorruptFrame`, in which `expected` names what was read for."""
    decoder = msgspec.json.Decoder(frame_type, strict=False)

    def read(frame: bytes) -> T:
        try:
            return decoder.decode(frame)
        except UNREADABLE as error:
            raise corrupt(f"{expected} ({error})", frame) from error

    return read


def check_market(found: str, instrument: Instrument) -> None:
    """Fail where a frame is of another market than its stream.

    Raises
    ------
    CorruptFrame
        If it is.
    """
    if found != instrument.name:
        raise corrupt(f"market {instrument.name}", found)


def check_turn(kind: str, seq: int, expected: int) -> None:
    """Fail where a frame of a numbered stream is not the one whose turn it is.

    Raises
    ------
    CorruptFrame
        If it is not.
    """
    if seq != expected:
        msg = f"expected {kind} frame {expected}, was {seq}"
        raise CorruptFrame(msg)


def side_of(word: str) -> Side:
    """Side of an order or a taker; a side cannot be guessed, so an unknown word is corrupt."""
    side = _SIDES.get(word)
    if side is None:
        raise corrupt("side BUY or SELL", word)
    return side


def ticks_of(instrument: Instrument, price: Decimal) -> int:
    """Ticks of a positive price on the grid, of a size that prices have."""
    try:
        ticks = instrument.ticks(price)
    except InstrumentError as error:
        raise CorruptFrame(str(error)) from error
    if not 0 < ticks <= _MOST_UNITS:
        raise corrupt(f"a positive price of {instrument.name}", price)
    return ticks


def lots_of(instrument: Instrument, size: Decimal) -> int:
    """Lots of a size on the grid, not negative, and no more than a market has."""
    try:
        lots = instrument.lots(size)
    except InstrumentError as error:
        raise CorruptFrame(str(error)) from error
    if not 0 <= lots <= _MOST_UNITS:
        raise corrupt(f"a size of {instrument.name} that is not negative", size)
    return lots


def traded_price(instrument: Instrument, price: Decimal, kind: str) -> Decimal:
    """Price of a trade, at the nearest tick if it is a liquidation or the like, that may be off the grid."""
    if kind == _TRADE:
        return price
    return instrument.price(instrument.ticks_down(amount(price, "price of a trade") + instrument.tick / 2))


def amount(value: Decimal | None, label: str) -> Decimal:
    """Amount of money or rate, finite and of a size that money has; a missing one is zero."""
    if value is None:
        return ZERO
    if not (value.is_finite() and value.adjusted() < _MOST_DIGITS):
        raise corrupt(f"a finite {label}", value)
    return value


def order_report(wire: WireOrder, instrument: Instrument | None, unknown: Unknown) -> OrderReport:
    """Report of an order; a status that nobody documented becomes UNKNOWN, to be settled by a look-up.

    In a market that we do not know (no `instrument`) it has neither price nor sizes: they are 0.
    """
    state = _ORDER_STATES.get(wire.status)
    if state is None:
        unknown[f"order status {wire.status}"] += 1
        state = OrderState.UNKNOWN
    if wire.status_reason and wire.status_reason not in _REASONS:
        unknown[f"status reason {wire.status_reason}"] += 1
    return OrderReport(
        market=wire.market,
        order_id=wire.id,
        external_id=wire.external_id,
        side=side_of(wire.side),
        state=state,
        reason=wire.status_reason,
        # A market order may carry no price.
        price_ticks=ticks_of(instrument, wire.price) if instrument and wire.price else 0,
        size_lots=lots_of(instrument, wire.qty) if instrument else 0,
        filled_lots=lots_of(instrument, wire.filled_qty) if instrument and wire.filled_qty else 0,
        reduce_only=wire.reduce_only,
        post_only=wire.post_only,
        venue_ns=wire.updated_time * NS_PER_MS,
    )


def fill_report(wire: WireFill, instrument: Instrument, unknown: Unknown, recv_ns: int) -> FillReport:
    """Report of a match.

    Our position changed in a liquidation too: it is booked at the nearest tick and counted, instead of being
    lost with the frame.
    """
    if wire.trade_type != _TRADE:
        unknown[f"trade type {wire.trade_type}"] += 1
    fill = Fill(
        market=wire.market,
        trade_id=wire.id,
        order_id=wire.order_id,
        external_id=wire.external_order_id,
        side=side_of(wire.side),
        price_ticks=ticks_of(instrument, traded_price(instrument, wire.price, wire.trade_type)),
        size_lots=lots_of(instrument, wire.qty),
        is_taker=wire.is_taker,
        venue_ns=wire.created_time * NS_PER_MS,
        recv_ns=recv_ns,
    )
    return FillReport(fill, amount(wire.fee, "fee"))


def position_report(wire: WirePosition, instrument: Instrument, unknown: Unknown) -> PositionReport:
    """Report of a position; a closed one has size zero whatever its size field still says."""
    if wire.status not in ("OPENED", "CLOSED"):
        unknown[f"position status {wire.status}"] += 1
    lots = 0 if wire.status == "CLOSED" else lots_of(instrument, abs(wire.size))
    sign = _POSITION_SIGNS.get(wire.side, 0)
    if lots and not sign:
        raise corrupt("position side LONG or SHORT", wire.side)
    lots *= sign
    return PositionReport(
        market=wire.market,
        size_lots=lots,
        open_price=amount(wire.open_price, "open price"),
        mark_price=amount(wire.mark_price, "mark price"),
        liquidation_price=_liquidation_price(wire.liquidation_price),
        venue_ns=wire.updated_at * NS_PER_MS,
    )


def _liquidation_price(value: str | float | None) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        price = Decimal(str(value))
    except InvalidOperation as error:
        raise corrupt("a liquidation price", value) from error
    # Zero and below say what null says: no price liquidates this position.
    return price if price.is_finite() and price > 0 else None


def balance_report(wire: WireBalance) -> BalanceReport:
    """Report of the account's money."""
    return BalanceReport(
        balance=amount(wire.balance, "balance"),
        equity=amount(wire.equity, "equity"),
        available_for_trade=amount(wire.available_for_trade, "available for trade"),
        initial_margin=amount(wire.initial_margin, "initial margin"),
        margin_ratio=amount(wire.margin_ratio, "margin ratio"),
        venue_ns=wire.updated_time * NS_PER_MS,
    )
