"""What the rest of the market does: the seam between the matching core and whoever drives it.

A flow is a seeded generator or a recording. It speaks of anonymous liquidity only: how much others show at a
price, and which aggressive orders others send. The bot's own orders queue among it and fill against it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from market_maker.domain import Side


@dataclass(frozen=True, slots=True)
class LevelChange:
    """Others now show `size_lots` in all at a price. A rise joins the back of the queue; a fall leaves it.

    A level that reaches across the opposite side trades against what of our accounts rests there first.
    """

    side: Side
    price_ticks: int
    size_lots: int


@dataclass(frozen=True, slots=True)
class TakerOrder:
    """Somebody takes up to `size_lots`, to no worse than `limit_ticks`; what is left over is cancelled."""

    side: Side
    limit_ticks: int
    size_lots: int


FlowEvent = LevelChange | TakerOrder


@dataclass(frozen=True, slots=True)
class PastBar:
    """One-minute bar of the time before the session, in ticks."""

    open_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int


class BookView(Protocol):
    """What a flow may see of the book that it feeds: best prices and sizes with every account's orders in."""

    def best_ticks(self, side: Side) -> int | None:
        """Best price of a side, None where it is empty."""
        ...

    def external_lots(self, side: Side, price_ticks: int) -> int:
        """Size that others (not the accounts) show at a price."""
        ...

    def account_lots(self, side: Side, price_ticks: int) -> int:
        """Size that the exchange's accounts (the bot) show at a price."""
        ...


class Flow(Protocol):
    """The other participants of one market."""

    market: str

    def next_ns(self) -> int | None:
        """Instant of the next events, None when the flow has ended."""
        ...

    def pop(self, book: BookView) -> Sequence[FlowEvent]:
        """Events of the instant `next_ns`, in order; advances the flow."""
        ...

    def index_price(self) -> Decimal:
        """Price from which the exchange computes mark and funding, USD, as of the last instant popped."""
        ...

    def past_bars(self, count: int) -> list[PastBar]:
        """Bars before the first instant, oldest first; empty where nothing is known (a recording)."""
        ...
