"""The account of a contestant on a stress day: equity at each mark, its worst moment, what getting out costs.

Equity is cash and the position at the mark, less fees. To get out is decided at a mark and reaches the book a
latency later: what the book then pays, against the mark of the decision, and the taker fee are the cost. What
the book does not hold trades 5 % beyond its last level.
"""

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.fills.rows import TAKER, EventKind, StrategyRow
from market_maker.instrument import Instrument
from market_maker.recordings import store
from market_maker.recordings.store import Hour

_BEYOND: Final = 0.05
_LOOK_MARKS: Final = 10
_RATE_PARTS: Final = 1_000_000_000
_FILL: Final = int(EventKind.FILL)

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Marks(NamedTuple):
    """Marks of a piece of the market: instants, prices in hundredths of a tick."""

    ns: _Ints
    parts: _Ints


class HourBooks:
    """An hour of a market whose books are snapshots, for looking up what was shown at an instant."""

    def __init__(self, hour: Hour) -> None:
        codes = hour.kind & store.CODE_MASK
        rows = codes == store.MARK
        self._hour = hour
        self._codes = codes
        self._starts = np.flatnonzero(codes == store.CLEAR)
        self._start_ns = hour.venue_ns[self._starts]
        ends = np.flatnonzero(hour.kind & store.LAST)
        self._ends = ends[np.searchsorted(ends, self._starts)] + 1
        self.last_ns = int(hour.venue_ns[-1])
        self.marks = Marks(hour.venue_ns[rows], hour.ticks[rows].astype(np.int64))

    def side_at(self, at_ns: int, side: int) -> tuple[_Ints, _Ints]:
        """Prices and sizes of a side (`LEVEL_BID` or `LEVEL_ASK`) as of an instant, best first."""
        which = max(int(np.searchsorted(self._start_ns, at_ns, side="right")) - 1, 0)
        start, end = int(self._starts[which]), int(self._ends[which])
        rows = start + np.flatnonzero(self._codes[start:end] == side)
        ticks, lots = self._hour.ticks[rows].astype(np.int64), self._hour.lots[rows].astype(np.int64)
        order = np.argsort(ticks if side == store.LEVEL_ASK else -ticks)
        return ticks[order], lots[order]


@dataclass(frozen=True)
class WayOut:
    """Taking a position off the market at once.

    Attributes
    ----------
    equity_usd : float
        At the mark, before.
    fall_usd : float
        From the highest equity so far to this.
    cost_usd : float
        What is lost against the mark on the way, `fee_usd` included; negative where the market came our way.
    beyond_lots : int
        What the displayed book did not hold.
    """

    ns: int
    equity_usd: float
    fall_usd: float = 0.0
    position_usd: float = 0.0
    cost_usd: float = 0.0
    fee_usd: float = 0.0
    beyond_lots: int = 0

    @property
    def loss_usd(self) -> float:
        """Loss from the highest equity when it is done."""
        return self.fall_usd + self.cost_usd


class _Decided(NamedTuple):
    """A way out that has not reached the book."""

    ns: int
    equity_usd: float
    fall_usd: float
    lots: int
    mark_parts: int


@dataclass
class AccountPath:
    """Equity at the marks from hour to hour.

    Parameters
    ----------
    leverage : float
        Set at the exchange, for the initial margin; 0: the largest that the market's tier allows.
    """

    instrument: Instrument
    fills: StrategyRow
    start_usd: float
    leverage: float = 0.0
    equity_usd: list[_Floats] = field(default_factory=list)
    max_position_usd: float = 0.0
    max_margin_use: float = 0.0  # initial margin of the position / equity
    max_margin_ratio: float = 0.0  # maintenance margin / equity; liquidation from 1
    max_fall_usd: float = 0.0  # from the peak; `worst` is the way out of that moment
    least_usd: float = field(init=False)
    liquidated_ns: int = 0  # first mark with equity ≤ maintenance margin; 0: never
    fill_count: int = 0
    volume_usd: float = 0.0
    fees_usd: float = 0.0
    max_loss_usd: float = 0.0  # from the peak, with the way out, as reckoned every ten seconds
    worst: WayOut = field(init=False)
    dearest: WayOut = field(init=False)  # the most that a way out would have cost, of the same
    end: WayOut = field(init=False)
    position_lots: int = 0

    def __post_init__(self) -> None:
        self._usd = float(self.instrument.value(1, 1))
        self._cash = 0  # tick·lots
        self._peak_usd = self.least_usd = self.start_usd
        self._decided: _Decided | None = None
        self._mark_ns = self._mark_parts = 0
        self.worst = self.end = self.dearest = WayOut(0, self.start_usd)

    def take(self, log: NDArray[Any], books: HourBooks) -> None:
        """Take in an hour of the market and the contestant's own rows of the log in it."""
        self._meet_book(books)
        fills = log[log["kind"] == _FILL]
        lots, cash, fees = self._booked(fills)
        known = np.searchsorted(fills["ns"], books.marks.ns, side="right")
        self._value(books, lots[known], cash[known], fees[known])
        self._keep(lots, cash, fees)
        self._meet_book(books)

    def finish(self, log: NDArray[Any], books: HourBooks) -> None:
        """Take in what the log ends with, and get out; the last book is all that there is."""
        self._keep(*self._booked(log[log["kind"] == _FILL]))
        if self._decided is not None:
            self.worst = self._way_out(self._decided, books)
        held = self.position_lots * self._mark_parts / store.PRICE_PARTS
        equity = self.start_usd + (self._cash + held) * self._usd - self.fees_usd
        last = _Decided(
            self._mark_ns, equity, max(self._peak_usd - equity, 0.0), self.position_lots, self._mark_parts
        )
        self.end = self._way_out(last, books)

    def _keep(self, lots: _Ints, cash: _Ints, fees: _Floats) -> None:
        self.position_lots, self._cash, self.fees_usd = int(lots[-1]), int(cash[-1]), float(fees[-1])

    def _booked(self, fills: NDArray[Any]) -> tuple[_Ints, _Ints, _Floats]:
        """Position, cash and fees before the first fill and after each."""
        signed = fills["side"] * fills["lots"]
        value = fills["price_ticks"] * fills["lots"]
        rates = np.where(fills["role"] == TAKER, self.fills.taker_fee_ppb, self.fills.maker_fee_ppb)
        fees = value * self._usd * rates / _RATE_PARTS
        self.fill_count += len(fills)
        self.volume_usd += float(value.sum()) * self._usd
        return (
            self.position_lots + np.concatenate([[0], np.cumsum(signed)]).astype(np.int64),
            self._cash - np.concatenate([[0], np.cumsum(fills["side"] * value)]).astype(np.int64),
            self.fees_usd + np.concatenate([[0.0], np.cumsum(fees)]),
        )

    def _value(self, books: HourBooks, lots: _Ints, cash: _Ints, fees: _Floats) -> None:
        marks = books.marks
        if not len(marks.ns):
            return
        held = lots * marks.parts / store.PRICE_PARTS
        equity = self.start_usd + (cash + held) * self._usd - fees
        notional = np.abs(held) * self._usd
        peak = np.maximum.accumulate(np.concatenate([[self._peak_usd], equity]))[1:]
        self._peak_usd = float(peak[-1])
        self.least_usd = min(self.least_usd, float(equity.min()))
        self.max_position_usd = max(self.max_position_usd, float(notional.max()))
        self._weigh(marks, equity, notional)
        self.equity_usd.append(equity)
        self._mark_ns, self._mark_parts = int(marks.ns[-1]), int(marks.parts[-1])
        falls = peak - equity
        self._look_around(books, equity, falls, lots)
        at = int(falls.argmax())
        if falls[at] > self.max_fall_usd:
            self.max_fall_usd = float(falls[at])
            self._decided = _decided(marks, equity, falls, lots, at)

    def _look_around(self, books: HourBooks, equity: _Floats, falls: _Floats, lots: _Ints) -> None:
        """Reckon every ten seconds what it would be to get out; at an hour's end its last book has to do."""
        for at in range(0, len(lots), _LOOK_MARKS):
            if lots[at]:
                way = self._way_out(_decided(books.marks, equity, falls, lots, at), books)
                self.max_loss_usd = max(self.max_loss_usd, way.loss_usd)
                if way.cost_usd > self.dearest.cost_usd:
                    self.dearest = way

    def _weigh(self, marks: Marks, equity: _Floats, notional: _Floats) -> None:
        """Margins as the exchange reckons them: the tier's rate opens a position, half of it keeps it."""
        tiers = self.instrument.margin_tiers
        bounds = [float(tier.upper_bound) for tier in tiers]
        rates = np.array([float(tier.initial_margin) for tier in tiers])
        tier = rates[np.minimum(np.searchsorted(bounds, notional), len(rates) - 1)]
        opening = np.maximum(tier, 1 / self.leverage if self.leverage else 0.0) * notional
        keeping = tier / 2 * notional
        solvent = np.maximum(equity, 1e-9)
        self.max_margin_use = max(self.max_margin_use, float((opening / solvent).max()))
        self.max_margin_ratio = max(self.max_margin_ratio, float((keeping / solvent).max()))
        gone = np.flatnonzero((equity <= keeping) & (notional > 0))
        if gone.size and not self.liquidated_ns:
            self.liquidated_ns = int(marks.ns[int(gone[0])])

    def _meet_book(self, books: HourBooks) -> None:
        due = self._decided
        if due is not None and due.ns + self.fills.request_ns <= books.last_ns:
            self.worst = self._way_out(due, books)
            self._decided = None

    def _way_out(self, due: _Decided, books: HourBooks) -> WayOut:
        side = store.LEVEL_BID if due.lots > 0 else store.LEVEL_ASK
        book = books.side_at(due.ns + self.fills.request_ns, side)
        tick_lots, beyond = walk_book(*book, abs(due.lots))
        fee = tick_lots * self._usd * self.fills.taker_fee_ppb / _RATE_PARTS
        held = due.lots * due.mark_parts / store.PRICE_PARTS * self._usd
        got = tick_lots * self._usd * (1 if due.lots > 0 else -1)
        return WayOut(due.ns, due.equity_usd, due.fall_usd, held, held - got + fee, fee, beyond)


def _decided(marks: Marks, equity: _Floats, falls: _Floats, lots: _Ints, at: int) -> _Decided:
    return _Decided(
        int(marks.ns[at]), float(equity[at]), float(falls[at]), int(lots[at]), int(marks.parts[at])
    )


def walk_book(ticks: _Ints, lots: _Ints, wanted_lots: int) -> tuple[float, int]:
    """Value in tick·lots of taking levels one after the other, and how many lots lay beyond the last.

    >>> walk_book(np.array([100, 90]), np.array([2, 3]), 4)
    (380.0, 0)
    >>> walk_book(np.array([100, 80]), np.array([1, 1]), 3)
    (256.0, 1)
    """
    taken = np.diff(np.minimum(np.cumsum(lots), wanted_lots), prepend=0)
    beyond = wanted_lots - int(taken.sum())
    falls = ticks[0] >= ticks[-1]
    last = float(ticks[-1]) * (1 - _BEYOND if falls else 1 + _BEYOND)
    return float((ticks * taken).sum()) + beyond * last, beyond
