"""JSON bodies of requests, as the official client sends them, to requests of the exchange.

An order of SDK 2.6.0::

    {"id":"31…46","market":"BTC-USD","type":"LIMIT","side":"SELL","qty":"0.001","price":"84000","reduceOnly":false,
     "postOnly":false,"timeInForce":"GTT","expiryEpochMillis":1795387528053,"fee":"0.00025","nonce":"4195148984",
     "selfTradeProtectionLevel":"ACCOUNT","settlement":{"signature":{"r":"0x66","s":"0x7a"},"starkKey":"0x61",
     "collateralPosition":"10002"},"builderFee":"0.0001","builderId":7}

Unknown fields are tolerated, and numbers may come as strings or as numbers. Conditional, TPSL and TWAP
orders, and take-profit or stop-loss legs, are refused with 1132; the times in force FOK and TOB with 1133.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from market_maker.domain import NS_PER_MS, Side
from market_maker.emulator.requests import (
    LeverageRequest,
    MassCancelRequest,
    OrderRequest,
    OrderType,
    SelfTrade,
    TimeInForce,
)
from market_maker.emulator.signatures import SignedOrder

MALFORMED: Final = 400
_PRICE_MISSING: Final = 1130
_TYPE_REFUSED: Final = 1132
_PARAMETERS_REFUSED: Final = 1133

# No price, size or rate is as large or as fine as this; arithmetic on such numbers would not end.
_LARGEST_EXPONENT: Final = 30
_LATEST_MS: Final = 2**53
_SIDES: Final = {"BUY": Side.BUY, "SELL": Side.SELL}
_TYPES: Final = {kind.value: kind for kind in OrderType}
_TYPES_LEFT_OUT: Final = ("CONDITIONAL", "TPSL", "TWAP")
_TIMES: Final = {time.value: time for time in TimeInForce}
_LEVELS: Final = {level.value: level for level in SelfTrade}
_ZERO: Final = Decimal(0)


class BodyRefused(Exception):
    """A body that is no request: an error code of the exchange, and what was wrong."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class _Signature(msgspec.Struct):
    r: str
    s: str


class _Settlement(msgspec.Struct, rename="camel"):
    signature: _Signature
    stark_key: str
    collateral_position: Decimal


class OrderBody(msgspec.Struct, rename="camel"):
    """Body of POST /user/order."""

    id: str
    market: str
    type: str
    side: str
    qty: Decimal
    time_in_force: str
    expiry_epoch_millis: int
    fee: Decimal
    nonce: Decimal
    price: Decimal | None = None
    reduce_only: bool = False
    post_only: bool = False
    self_trade_protection_level: str = "ACCOUNT"
    cancel_id: str | None = None
    settlement: _Settlement | None = None
    trigger: dict[str, object] | None = None
    tp_sl_type: str | None = None
    take_profit: dict[str, object] | None = None
    stop_loss: dict[str, object] | None = None
    builder_fee: Decimal | None = None
    builder_id: int | None = None


class _MassCancelBody(msgspec.Struct, rename="camel"):
    order_ids: list[int] | None = None
    external_order_ids: list[str] | None = None
    markets: list[str] | None = None
    cancel_all: bool | None = None


class _LeverageBody(msgspec.Struct):
    market: str
    leverage: Decimal


T = TypeVar("T")


def _reader(kind: type[T]) -> Callable[[bytes], T]:
    decode = msgspec.json.Decoder(kind, strict=False).decode

    def read(body: bytes) -> T:
        try:
            return decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BodyRefused(MALFORMED, str(error)) from error

    return read


read_order = _reader(OrderBody)
_read_mass_cancel = _reader(_MassCancelBody)
_read_leverage = _reader(_LeverageBody)


def order_request(body: OrderBody) -> OrderRequest:
    """Return what an order asks for; its settlement is not looked at.

    Raises
    ------
    BodyRefused
        For a kind of order that there is not, or words and numbers that mean nothing.
    """
    _check_kind(body)
    if body.price is None:
        raise BodyRefused(_PRICE_MISSING, "expected a price, was none")
    for name, value in (("qty", body.qty), ("price", body.price), ("fee", body.fee), ("nonce", body.nonce)):
        _check_number(name, value)
    if not 0 < body.expiry_epoch_millis < _LATEST_MS:
        raise BodyRefused(_PARAMETERS_REFUSED, f"expiryEpochMillis: was {body.expiry_epoch_millis}")
    return OrderRequest(
        market=body.market,
        external_id=body.id,
        side=_word(_SIDES, "side", body.side),
        price=body.price,
        qty=body.qty,
        expire_ns=body.expiry_epoch_millis * NS_PER_MS,
        nonce=int(body.nonce),
        fee=body.fee,
        order_type=_word(_TYPES, "type", body.type),
        time_in_force=_word(_TIMES, "timeInForce", body.time_in_force),
        post_only=body.post_only,
        reduce_only=body.reduce_only,
        cancel_id=body.cancel_id or "",
        self_trade=_word(_LEVELS, "selfTradeProtectionLevel", body.self_trade_protection_level),
    )


def signed_order(body: OrderBody, request: OrderRequest) -> SignedOrder:
    """Return what the order's settlement signs.

    Raises
    ------
    BodyRefused
        If there is no settlement, or the builder's fee comes without the builder.
    """
    settlement = body.settlement
    if settlement is None:
        raise BodyRefused(_PARAMETERS_REFUSED, "expected a settlement, was none")
    if (body.builder_fee is None) != (body.builder_id is None):
        raise BodyRefused(_PARAMETERS_REFUSED, "expected builderFee and builderId together")
    builder_fee = _ZERO if body.builder_fee is None else body.builder_fee
    _check_number("builderFee", builder_fee)
    _check_number("collateralPosition", settlement.collateral_position)
    return SignedOrder(
        side=request.side,
        qty=request.qty,
        price=request.price,
        fee=request.fee + builder_fee,
        expiry_ms=body.expiry_epoch_millis,
        nonce=request.nonce,
        vault=int(settlement.collateral_position),
        public_key=_hexadecimal(settlement.stark_key),
        r=_hexadecimal(settlement.signature.r),
        s=_hexadecimal(settlement.signature.s),
    )


def mass_cancel_request(body: bytes) -> MassCancelRequest:
    """Parse `{"orderIds":[1],"externalOrderIds":["a"],"markets":["BTC-USD"],"cancelAll":false}`.

    Raises
    ------
    BodyRefused
        If it is not of that shape.
    """
    wanted = _read_mass_cancel(body)
    return MassCancelRequest(
        markets=tuple(wanted.markets or ()),
        order_ids=tuple(wanted.order_ids or ()),
        external_ids=tuple(wanted.external_order_ids or ()),
        cancel_all=bool(wanted.cancel_all),
    )


def leverage_request(body: bytes) -> LeverageRequest:
    """Parse `{"market":"BTC-USD","leverage":"10"}`.

    Raises
    ------
    BodyRefused
        If it is not of that shape.
    """
    wanted = _read_leverage(body)
    _check_number("leverage", wanted.leverage)
    return LeverageRequest(market=wanted.market, leverage=wanted.leverage)


def _check_kind(body: OrderBody) -> None:
    triggered = body.trigger or body.tp_sl_type or body.take_profit or body.stop_loss
    if triggered or body.type in _TYPES_LEFT_OUT:
        why = f"expected a LIMIT or MARKET order without triggers, was {body.type}"
        raise BodyRefused(_TYPE_REFUSED, why)


def _word(known: dict[str, T], name: str, word: str) -> T:
    if word not in known:
        raise BodyRefused(_PARAMETERS_REFUSED, f"{name}: expected one of {', '.join(known)}, was {word}")
    return known[word]


def _check_number(name: str, value: Decimal) -> None:
    exponent = value.as_tuple().exponent
    fine = isinstance(exponent, int) and abs(exponent) <= _LARGEST_EXPONENT
    if not fine or abs(value.adjusted()) > _LARGEST_EXPONENT:
        raise BodyRefused(_PARAMETERS_REFUSED, f"{name}: expected a number, was {value}")


def _hexadecimal(digits: str) -> int:
    try:
        return int(digits, 16)
    except ValueError:
        raise BodyRefused(_PARAMETERS_REFUSED, "expected hexadecimal digits in the settlement") from None
