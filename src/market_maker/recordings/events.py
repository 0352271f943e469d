"""What every recording becomes, whatever venue and format it comes from: one stream of stamped values.

A stream yields `(at_ns, event)` in the order of the venue's clock; `at_ns` never falls.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from market_maker.domain import BookUpdate, Trade
from market_maker.instrument import Instrument

REPAIRABLE_DISORDER_NS = 1_000_000_000


class RecordingError(ValueError):
    """A recording that cannot be read: file, line or row, what was expected and what was there."""


class BestQuote(NamedTuple):
    """Best bid and ask of a market with their sizes; levels better than these are gone."""

    market: str
    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    seq: int
    venue_ns: int
    recv_ns: int


RecordedEvent = BookUpdate | BestQuote | Trade
Stamped = tuple[int, RecordedEvent]


class RecordedMarket(Protocol):
    """One market of a recording. Sequence numbers order book updates and best quotes among each other."""

    @property
    def instrument(self) -> Instrument:
        """Tick and step, as given or as the data show them; limits are defaults."""
        ...

    @property
    def first_ns(self) -> int:
        """Instant of the first event."""
        ...

    @property
    def last_ns(self) -> int:
        """Instant of the last event."""
        ...

    def events(self) -> Iterator[Stamped]:
        """Stream the events from the start, in constant memory; may be called again.

        Raises
        ------
        RecordingError
            At the first line or row that cannot be read.
        """
        ...


def repaired_ns(at_ns: int, previous_ns: int, place: str) -> int:
    """Instant that does not fall behind the previous one.

    Clocks that are corrected step back a little; more than a second is a file out of order.

    Raises
    ------
    RecordingError
        If the stamp lies more than a second behind the previous one.
    """
    if at_ns < previous_ns - REPAIRABLE_DISORDER_NS:
        msg = f"{place}: expected a stamp of {previous_ns} ns or later, was {at_ns}"
        raise RecordingError(msg)
    return max(at_ns, previous_ns)
