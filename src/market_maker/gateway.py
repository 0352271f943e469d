"""The port: what any exchange must offer to the market maker, and the values that cross it.

Three hosts stand behind it: the emulator's core in this process, the live exchange, and paper trading.
A reply to a request means *accepted*, never *resting*: results come on the account stream, before or after
the reply. Amounts of money are Decimal here; prices and sizes of orders are ticks and lots.
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

from market_maker.domain import BestQuote, BookUpdate, Fill, NewOrder, OrderState, Side, Trade
from market_maker.instrument import Instrument, MarketStatus


class VenueError(Exception):
    """The exchange, or the way to it, failed a request. `code` is the exchange's own, 0 if none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class OrderRefused(VenueError):
    """The exchange refused the request; nothing of it exists there."""


class RateLimited(OrderRefused):
    """The request was refused because too many were sent; `retry_after_s` is how long to wait."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message, 429)
        self.retry_after_s = retry_after_s


class OutcomeUnknown(VenueError):
    """No answer came: the request may or may not have been carried out."""


class Unreachable(OutcomeUnknown):
    """No connection came about: the host is unknown, refuses, or shows a certificate that is not trusted."""


class CredentialsRefused(VenueError):
    """The exchange does not accept the key or the signature; trying again is of no use."""


class MarketNotFound(VenueError):
    """The exchange has no such market."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Reply to an order that the exchange took in: its id there."""

    order_id: int
    external_id: str


class OrderReport(NamedTuple):
    """State of one of the account's orders, from the account stream or a look-up."""

    market: str
    order_id: int
    external_id: str
    side: Side
    state: OrderState
    reason: str
    price_ticks: int
    size_lots: int
    filled_lots: int
    reduce_only: bool
    post_only: bool
    venue_ns: int


@dataclass(frozen=True, slots=True)
class FillReport:
    """One match of one of the account's orders; the fee is positive when paid, USD."""

    fill: Fill
    fee: Decimal


@dataclass(frozen=True, slots=True)
class PositionReport:
    """Position in one market: signed lots, prices in USD. `liquidation_price` is None where there is none."""

    market: str
    size_lots: int
    open_price: Decimal
    mark_price: Decimal
    liquidation_price: Decimal | None
    venue_ns: int


@dataclass(frozen=True, slots=True)
class BalanceReport:
    """The account's money, USD. Equity is balance plus unrealised PnL at the exchange's mark."""

    balance: Decimal
    equity: Decimal
    available_for_trade: Decimal
    initial_margin: Decimal
    margin_ratio: Decimal
    venue_ns: int


@dataclass(frozen=True, slots=True)
class MarkPrice:
    """The exchange's mark price of a market, USD."""

    market: str
    price: Decimal
    venue_ns: int


@dataclass(frozen=True, slots=True)
class IndexPrice:
    """The index price of a market, that funding is measured against, USD."""

    market: str
    price: Decimal
    venue_ns: int


@dataclass(frozen=True, slots=True)
class FundingRate:
    """The hourly funding rate of a market, a fraction of notional; positive: longs pay."""

    market: str
    rate: Decimal
    venue_ns: int


@dataclass(frozen=True, slots=True)
class FundingPayment:
    """Funding booked on the account, USD: positive when received."""

    payment_id: int
    market: str
    size_lots: int
    mark_price: Decimal
    rate: Decimal
    amount: Decimal
    venue_ns: int


@dataclass(frozen=True, slots=True)
class StreamLost:
    """A stream can not be trusted (closed, silent, a gap in its sequence). It resumes with a snapshot."""

    market: str
    why: str


@dataclass(frozen=True, slots=True)
class Candle:
    """One-minute bar: opening instant, prices in USD."""

    open_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal


@dataclass(frozen=True, slots=True)
class Fees:
    """Maker and taker fee rates, fractions of notional; a negative maker rate is a rebate."""

    maker: Decimal
    taker: Decimal


MarketEvent = BookUpdate | BestQuote | Trade | MarkPrice | IndexPrice | FundingRate | StreamLost
AccountEvent = OrderReport | FillReport | PositionReport | BalanceReport | StreamLost


class Gateway(Protocol):
    """One account on one exchange.

    Every request raises a `VenueError`: `OrderRefused` when it surely did not happen, `OutcomeUnknown` when
    nobody knows.

    Attributes
    ----------
    unknown : Counter
        Words of the exchange that nobody documented, and frames left out, counted by what they were.
    simulated : str
        Name of the model by which orders are filled on paper: they are in no book then. Empty where an
        exchange fills them.
    """

    simulated: str

    @property
    def unknown(self) -> Counter[str]:
        """Counts of what was not understood."""
        ...

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        """Trading rules of the named markets; of all where none is named.

        Raises
        ------
        MarketNotFound
            If one of them does not exist; the message lists those that do.
        """
        ...

    async def statuses(self, markets: Sequence[str]) -> dict[str, MarketStatus]:
        """Status of the named markets as it is now; one that is not listed any more is left out."""
        ...

    async def fees(self, market: str) -> Fees:
        """Fee rates of the account in a market."""
        ...

    async def leverage(self, markets: Sequence[str]) -> dict[str, Decimal]:
        """Leverage that the account is set to in the named markets; 1 / leverage is its initial margin."""
        ...

    async def set_leverage(self, market: str, leverage: Decimal) -> None:
        """Set the leverage of the account in a market."""
        ...

    async def clock_skew_s(self) -> float:
        """How far the exchange's clock is ahead of ours, s, as well as one request can tell."""
        ...

    async def candles(self, market: str, count: int) -> list[Candle]:
        """Return the last closed one-minute bars, oldest first; fewer where the market is young."""
        ...

    async def place(self, order: NewOrder) -> Accepted:
        """Send an order, or the atomic replacement of another."""
        ...

    async def cancel(self, market: str, external_id: str) -> None:
        """Ask for the cancel of one order; the result comes on the account stream."""
        ...

    async def mass_cancel(self, markets: Sequence[str]) -> None:
        """Ask for the cancel of every order of the account in the named markets."""
        ...

    async def arm_dead_mans_switch(self, countdown_s: int) -> None:
        """Cancel all of the account's orders unless called again within the countdown; 0 disarms."""
        ...

    async def open_orders(self) -> list[OrderReport]:
        """Every order of the account that rests."""
        ...

    async def order(self, external_id: str) -> OrderReport | None:
        """Look one order up; None where the exchange does not know it (or not yet)."""
        ...

    async def fills(self, since_ns: int) -> list[FillReport]:
        """Matches of the account since an instant, oldest first."""
        ...

    async def positions(self) -> list[PositionReport]:
        """Positions of the account, those that are not flat."""
        ...

    async def balance(self) -> BalanceReport:
        """The account's money."""
        ...

    async def funding_payments(self, since_ns: int) -> list[FundingPayment]:
        """Funding booked since an instant, oldest first."""
        ...

    def market_events(self, market: str) -> AsyncIterator[MarketEvent]:
        """Book, best quote, trades, mark, index and funding of one market.

        Starts with a snapshot of the book, and resumes with one after a `StreamLost`.
        """
        ...

    def account_events(self) -> AsyncIterator[AccountEvent]:
        """Orders, fills, positions and balance of the account; starts with what is there."""
        ...

    async def close(self) -> None:
        """Release what the gateway holds; requests fail from then on."""
        ...
