"""What a tally keeps of one contestant: its books, and the stretches, points and fills made of them."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.books import PPB, Books, Parts
from market_maker.backtest.outcome import BUCKET_DTYPE, CURVE_DTYPE, FILL_DTYPE, Label
from market_maker.backtest.series import Buckets, Mids, Thinned
from market_maker.domain import NS_PER_S, Side
from market_maker.fills.rows import TAKER, EventKind, StrategyRow
from market_maker.instrument import Instrument
from market_maker.round_trips import RoundTrips, held_lines

_MOST_BUCKETS: Final = 4096
_MOST_POINTS: Final = 5_000
_MOST_FILLS: Final = 20_000
_SAMPLED: Final = (
    "ns",
    "bid_ticks",
    "ask_ticks",
    "fair_ticks",
    "sigma_bps",
    "limit_lots",
    "regime",
    "trend",
)


@dataclass(frozen=True)
class Entry:
    """A contestant as the run has it: its label, fees and rebates of its row, whether it trades a grid."""

    label: Label
    rates: StrategyRow
    has_lines: bool = False


class Span(NamedTuple):
    """A piece of time that is complete: [from, until), and the ends of the stretches in it.

    `edge_ns` is the last end before them, `edge_mid2` the mid then, doubled.
    """

    from_ns: int
    until_ns: int
    edges: NDArray[np.int64]
    edge_ns: int
    edge_mid2: int


class ContestantTally:
    """One contestant from the instant at which scoring starts.

    Parameters
    ----------
    position : int
        Lots held then.
    mid2_ticks : int
        Mid then, doubled; 0 if there was none yet.
    """

    def __init__(self, instrument: Instrument, entry: Entry, position: int, mid2_ticks: int) -> None:
        self.entry = entry
        self.books = Books(instrument, entry.rates, position, mid2_ticks)
        # A lot at a time: the size of a line is known at the end.
        self.trips = RoundTrips(instrument, held_lines(position, mid2_ticks))
        self.fills = Thinned(_MOST_FILLS, FILL_DTYPE)
        self.curve = Thinned(_MOST_POINTS, CURVE_DTYPE)
        self._buckets = Buckets(_MOST_BUCKETS)
        self._at_edge = np.zeros(len(Parts._fields))
        self._held = np.zeros(2)  # in the stretch that is open: USD·s, USD²·s

    def advance(self, log: NDArray[Any], samples: NDArray[Any], mids: Mids, span: Span) -> None:
        """Take in fills, funding and samples of a span."""
        self.books.add(log, mids)
        if self.entry.has_lines:
            self._pair(log)
        self.books.resolve(mids, span.until_ns)
        held = self._hold(mids, span)
        if len(span.edges):
            self._end_stretches(mids, span, held)
        if len(samples):
            self._draw(samples, mids)
        self._keep(self.books.release(span.until_ns))

    def close(self, mids: Mids, span: Span) -> None:
        """End the stretch that is open, and book the fills that never saw their markouts."""
        if len(span.edges):
            self._end_stretches(mids, span, self._held.reshape(2, 1).copy())
        self._keep(self.books.release_all())

    @property
    def buckets(self) -> NDArray[Any]:
        """Stretches of the time so far."""
        return self._buckets.rows()

    def _pair(self, log: NDArray[Any]) -> None:
        """Take fills into the round trips of the ladder."""
        rates = self.entry.rates
        for row in log[log["kind"] == EventKind.FILL]:
            price, lots = int(row["price_ticks"]), int(row["lots"])
            taken = row["role"] == TAKER
            fee_ppb = rates.taker_fee_ppb if taken else rates.maker_fee_ppb
            fee = self.books.usd(price * lots * (fee_ppb - int(row["rebate_ppb"])), PPB)
            self.trips.book(Side(int(row["side"])), price, lots, fee, 1)

    def _hold(self, mids: Mids, span: Span) -> NDArray[np.float64]:
        """∫|held|dt and ∫held²dt of each stretch that ends; what is left waits for the next end."""
        path = self.books.path(mids, span.edges, span.from_ns, span.until_ns)
        seconds = np.diff(path.ns, append=span.until_ns) / NS_PER_S
        usd = np.abs(path.held_usd)
        found = np.zeros((2, len(span.edges)))
        ends = np.searchsorted(path.ns, span.edges)
        for i, weights in enumerate((usd * seconds, usd * usd * seconds)):
            running = np.concatenate([[0.0], np.cumsum(weights)])
            found[i] = np.diff(running[ends], prepend=-self._held[i])
            left = running[-1] - running[ends[-1]] if len(ends) else self._held[i] + running[-1]
            self._held[i] = left
        return found

    def _end_stretches(self, mids: Mids, span: Span, held: NDArray[np.float64]) -> None:
        mid2 = mids.at(span.edges)
        parts = self.books.parts(span.edges, mid2)
        found = np.zeros(len(span.edges), BUCKET_DTYPE)
        found["end_ns"] = span.edges
        found["seconds"] = np.diff(span.edges, prepend=span.edge_ns) / NS_PER_S
        for i, name in enumerate(Parts._fields):
            found[name] = np.diff(parts[i], prepend=self._at_edge[i])
            self._at_edge[i] = parts[i][-1]
        found["held_s"], found["held2_s"] = held
        before = np.concatenate([[span.edge_mid2], mid2[:-1]]).astype(np.float64)
        known = (before > 0) & (mid2 > 0)
        found["return2"] = np.where(known, (mid2 / np.where(known, before, 1.0) - 1.0) ** 2, 0.0)
        self._buckets.add(found)

    def _draw(self, samples: NDArray[Any], mids: Mids) -> None:
        found = np.zeros(len(samples), CURVE_DTYPE)
        for name in _SAMPLED:
            found[name] = samples[name]
        found["mid2_ticks"] = mids.at(samples["ns"])
        parts = self.books.parts(samples["ns"], found["mid2_ticks"])
        for name, values in zip(Parts._fields[1:], parts[1:], strict=True):
            found[name] = values
            found["total"] += values
        # As the exchange has it: the contestant may not have heard of its last fill.
        found["position_lots"] = self.books.positions(samples["ns"])
        idle = (samples["bid_ticks"] == 0) & (samples["ask_ticks"] == 0)
        found["paused"] = np.where(idle, np.maximum(samples["bid_reason"], samples["ask_reason"]), 0)
        self.curve.add(found)

    def _keep(self, released: NDArray[Any]) -> None:
        rows = np.zeros(len(released), FILL_DTYPE)
        for name in FILL_DTYPE.names or ():
            rows[name] = released[name]
        self.fills.add(rows)
