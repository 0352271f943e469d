"""What a client may ask of the exchange, as values, and the vocabulary of orders on the wire."""

from decimal import Decimal
from enum import Enum

import msgspec

from market_maker.domain import Side


class OrderType(Enum):
    """Kind of order; a MARKET order carries a limit price all the same and must be IOC."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"


class TimeInForce(Enum):
    """GTT rests until it expires; IOC cancels what does not fill at once."""

    GTT = "GTT"
    IOC = "IOC"


class SelfTrade(Enum):
    """Whose resting orders are cancelled instead of being traded against; the taker's level decides."""

    DISABLED = "DISABLED"
    ACCOUNT = "ACCOUNT"
    CLIENT = "CLIENT"


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /user/order: a new order, or with `cancel_id` the atomic replacement of another.

    Attributes
    ----------
    price, qty : Decimal
        USD and base units, on the market's grid.
    fee : Decimal
        Highest fee rate accepted, a fraction.
    cancel_id : str
        External id of the order that is replaced, empty for none.
    settlement_code : int
        What is wrong with the signature, as an error code; 0 for nothing. Checked after all else.
    """

    market: str
    external_id: str
    side: Side
    price: Decimal
    qty: Decimal
    expire_ns: int
    nonce: int = 1
    fee: Decimal = Decimal("0.00025")
    order_type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTT
    post_only: bool = False
    reduce_only: bool = False
    cancel_id: str = ""
    self_trade: SelfTrade = SelfTrade.ACCOUNT
    settlement_code: int = 0


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """DELETE /user/order: one order, by external id or else by the exchange's id."""

    external_id: str = ""
    order_id: int = 0


class MassCancelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /user/order/massCancel: every order that one of the fields names."""

    markets: tuple[str, ...] = ()
    order_ids: tuple[int, ...] = ()
    external_ids: tuple[str, ...] = ()
    cancel_all: bool = False


class DeadMansSwitchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /user/deadmanswitch: cancel all of the account's orders after the countdown; 0 disarms."""

    countdown_s: int


class LeverageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PATCH /user/leverage: the account's leverage in one market, from now."""

    market: str
    leverage: Decimal


Request = OrderRequest | CancelRequest | MassCancelRequest | DeadMansSwitchRequest | LeverageRequest
