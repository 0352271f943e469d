"""The port for prices of an outside venue, and the task that brings them to the desks.

Such a feed is a help and never a need: while it is silent, the guard of `reference_price` is all that
follows. So nothing that happens to it ends or pauses a session, and a market that it does not know goes
without.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple, Protocol

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S
from market_maker.market_desk import MarketDesk
from market_maker.reference_price import PriceSource


class OutsidePrice(NamedTuple):
    """Price of one of our markets elsewhere, in that venue's currency, and the venue's instant."""

    market: str
    price: Decimal
    venue_ns: int


class ReferenceFeed(Protocol):
    """Prices of our markets at an outside venue.

    Attributes
    ----------
    unknown : Counter
        What of the venue's was not understood or left out, and losses of its stream, counted.
    """

    @property
    def unknown(self) -> Counter[str]:
        """Counts of what was not understood."""
        ...

    def prices(self, markets: Sequence[str]) -> AsyncIterator[OutsidePrice]:
        """Prices of the named markets as they come; of those that the venue has, and the feed knows.

        A lost connection is silence until it is back.
        """
        ...

    async def close(self) -> None:
        """Release what the feed holds; its prices end."""
        ...


async def hear_reference(
    feed: ReferenceFeed, desks: Mapping[str, MarketDesk], clock: Clock, heard: Callable[[MarketDesk], None]
) -> None:
    """Bring a feed's prices to the desks until it ends; `heard` is told whose price is new."""
    async for outside in feed.prices(tuple(desks)):
        desk = desks[outside.market]
        desk.on_price(PriceSource.OUTSIDE, outside.price, clock.now_ns())
        heard(desk)


class RecordedReference:
    """Prices of a recording, each as long after the first instant as it was then.

    Parameters
    ----------
    prices : iterable of OutsidePrice
        In the order of time.
    clock : Clock
        What the time is; the recording begins when it is listened to.
    first_ns : int
        Instant of the recording that counts as now.
    """

    def __init__(self, prices: Iterable[OutsidePrice], clock: Clock, first_ns: int) -> None:
        self._prices = prices
        self._clock = clock
        self._first_ns = first_ns
        self._is_closed = False
        self.unknown: Counter[str] = Counter()

    async def prices(self, markets: Sequence[str]) -> AsyncIterator[OutsidePrice]:
        """Prices of the named markets; what was before the first instant is left out."""
        ahead_ns = self._clock.now_ns() - self._first_ns
        for outside in self._prices:
            if outside.market not in markets or outside.venue_ns < self._first_ns:
                continue
            due_ns = outside.venue_ns + ahead_ns
            await asyncio.sleep(max(due_ns - self._clock.now_ns(), 0) / NS_PER_S)
            if self._is_closed:
                return
            yield outside._replace(venue_ns=due_ns)

    async def close(self) -> None:
        """End; the price that is waited for is the last one that is read."""
        self._is_closed = True
