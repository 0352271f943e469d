"""A reference for a recorded market: the mid of another one, put among its events as the price of outside.

An outside price is stamped with the instant at which it was heard, and has no delay of its own. So it is
known no sooner than it was, and never holds up the market's own frames behind it. Its scale is the other
market's: what matters is how it moves, and the basis takes the rest.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import NS_PER_S
from market_maker.fitting.quotes import QuoteReader
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import LAST, OUTSIDE, PRICE_PARTS, Hour, Store

_LARGEST: Final = 2**31 - 1
_NS_PER_US: Final = 1000


class OutsidePrices(NamedTuple):
    """Prices in the order of time: when each was heard, ns, and the price in hundredths of a tick."""

    ns: NDArray[np.int64]
    parts: NDArray[np.int64]


_NO_PRICES: Final = OutsidePrices(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class Reference:
    """Mid of a recorded market, as outside prices, hour by hour; may be iterated again."""

    store: Store
    market: str

    def __iter__(self) -> Iterator[OutsidePrices]:
        return reference_prices(self.store.hours(self.market))


def reference_of(store: Store, market: str) -> Reference:
    """Make a reference of a market of a store.

    Raises
    ------
    RecordingError
        If the store has no such market.
    """
    return Reference(store, store.info(market).market)


def reference_prices(hours: Iterable[Hour]) -> Iterator[OutsidePrices]:
    """Mids of a market: each that is another than before, and each second the one that stands.

    A second without a frame is silent, as is a market without a trusted book.
    """
    reader, mid2, heard_ns, second = QuoteReader(), 0, 0, -1
    for hour in hours:
        quotes = reader.read(hour)
        mids = np.concatenate([np.array([mid2], np.int64), quotes.mid2_ticks])
        seconds = np.flatnonzero(np.diff(hour.venue_ns // NS_PER_S, prepend=second))
        # The last row of a stamp: what stands at its end was known then, and not before.
        ns = np.union1d(quotes.ns, hour.venue_ns[seconds])
        rows = np.searchsorted(hour.venue_ns, ns, side="right") - 1
        standing = mids[np.searchsorted(quotes.ns, ns, side="right")]
        delay_ns = np.maximum(hour.delay_us[rows].astype(np.int64), 0) * _NS_PER_US
        heard = np.maximum(np.maximum.accumulate(ns + delay_ns), heard_ns)
        mid2, second = int(mids[-1]), int(hour.venue_ns[-1]) // NS_PER_S
        heard_ns = int(heard[-1]) if heard.size else heard_ns
        known = standing > 0
        yield OutsidePrices(heard[known], standing[known] * (PRICE_PARTS // 2))


def with_reference(
    hours: Iterable[Hour], prices: Iterable[OutsidePrices], span_ns: tuple[int, int]
) -> Iterator[Hour]:
    """Put outside prices among the events of a market, each before what has its stamp; frames stay whole.

    Parameters
    ----------
    span_ns : (int, int)
        Prices are put in from the first instant, included, to the second; those after the last event too,
        so that a market that is read in two parts has the same ones.

    Raises
    ------
    RecordingError
        If a price is too large for the format.
    """
    waiting = _Waiting(prices, span_ns)
    previous: Hour | None = None
    for hour in hours:
        if previous is not None:
            yield previous
        previous = _merged(hour, waiting.until(int(hour.venue_ns[-1]) + 1))
    if previous is not None:
        yield _merged(previous, waiting.until(span_ns[1]))


class _Waiting:
    """Prices that are due later, read as far as is asked for."""

    def __init__(self, prices: Iterable[OutsidePrices], span_ns: tuple[int, int]) -> None:
        self._source = iter(prices)
        self._span_ns = span_ns
        self._left = _NO_PRICES

    def until(self, end_ns: int) -> OutsidePrices:
        """Prices heard before an instant that were not given yet."""
        first_ns, end_ns = self._span_ns[0], min(end_ns, self._span_ns[1])
        found = [self._left]
        while not (found[-1].ns.size and found[-1].ns[-1] >= end_ns):
            piece = next(self._source, None)
            if piece is None:
                break
            found.append(_cut(piece, slice(int(np.searchsorted(piece.ns, first_ns)), None)))
        every = OutsidePrices(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
        due = int(np.searchsorted(every.ns, end_ns))
        self._left = _cut(every, slice(due, None))
        return _cut(every, slice(0, due))


def _cut(prices: OutsidePrices, span: slice) -> OutsidePrices:
    return OutsidePrices(prices.ns[span], prices.parts[span])


def _merged(hour: Hour, prices: OutsidePrices) -> Hour:
    if not prices.ns.size:
        return hour
    if int(prices.parts.max()) > _LARGEST:
        msg = (
            f"expected outside prices of at most {_LARGEST // PRICE_PARTS} ticks, was one above; take another"
        )
        raise RecordingError(msg)
    at = np.searchsorted(hour.venue_ns, prices.ns)
    return Hour(
        np.insert(hour.venue_ns, at, prices.ns),
        np.insert(hour.delay_us, at, 0),
        np.insert(hour.kind, at, OUTSIDE | LAST),
        np.insert(hour.ticks, at, prices.parts.astype(np.int32)),
        np.insert(hour.lots, at, 0),
    )
