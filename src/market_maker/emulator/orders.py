"""An order as the exchange keeps it, and the records of trades."""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from market_maker.domain import Side
from market_maker.emulator.requests import OrderRequest


class OrderStatus(Enum):
    """Status on the wire."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class StatusReason(Enum):
    """Why an order ended, on the wire."""

    NONE = "NONE"
    DISABLED_MARKET = "DISABLED_MARKET"
    NOT_ENOUGH_FUNDS = "NOT_ENOUGH_FUNDS"
    NO_LIQUIDITY = "NO_LIQUIDITY"
    INVALID_QTY = "INVALID_QTY"
    SELF_TRADE_PROTECTION = "SELF_TRADE_PROTECTION"
    POST_ONLY_FAILED = "POST_ONLY_FAILED"
    REDUCE_ONLY_FAILED = "REDUCE_ONLY_FAILED"
    PREV_ORDER_NOT_FOUND = "PREV_ORDER_NOT_FOUND"
    ORDER_REPLACED = "ORDER_REPLACED"
    POST_ONLY_MODE = "POST_ONLY_MODE"
    REDUCE_ONLY_MODE = "REDUCE_ONLY_MODE"
    TRADING_OFF_MODE = "TRADING_OFF_MODE"
    ACCOUNT_LIQUIDATION = "ACCOUNT_LIQUIDATION"


class TradeType(Enum):
    """What brought a trade about."""

    TRADE = "TRADE"
    LIQUIDATION = "LIQUIDATION"


_OPEN = (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


@dataclass(slots=True, eq=False)
class Order:
    """One order. The API accepts it first; `in_engine` says whether the matching engine has seen it."""

    order_id: int
    account_id: int
    request: OrderRequest
    price_ticks: int
    lots: int
    created_ns: int
    updated_ns: int
    trade_type: TradeType = TradeType.TRADE
    status: OrderStatus = OrderStatus.NEW
    reason: StatusReason = StatusReason.NONE
    in_engine: bool = False
    filled_lots: int = 0
    filled_tick_lots: int = 0
    fee: Decimal = field(default=Decimal(0))

    @property
    def remaining_lots(self) -> int:
        """Lots that have not filled."""
        return self.lots - self.filled_lots

    @property
    def is_open(self) -> bool:
        """Whether it may still fill."""
        return self.status in _OPEN

    @property
    def is_known(self) -> bool:
        """Whether a look-up finds it; one on its way to the matching engine is not found."""
        return self.in_engine or not self.is_open

    @property
    def market(self) -> str:
        """Market of the order."""
        return self.request.market

    @property
    def side(self) -> Side:
        """Side of the order."""
        return self.request.side


class PublicTrade(NamedTuple):
    """One match, as everybody sees it."""

    trade_id: int
    taker_side: Side
    price_ticks: int
    lots: int
    trade_type: TradeType
    time_ns: int


class AccountTrade(NamedTuple):
    """One match of one of an account's orders. The fee is positive when paid, USD."""

    trade_id: int
    market: str
    order_id: int
    external_id: str
    side: Side
    price_ticks: int
    lots: int
    fee: Decimal
    is_taker: bool
    trade_type: TradeType
    time_ns: int
    position_before: int
    position_after: int
