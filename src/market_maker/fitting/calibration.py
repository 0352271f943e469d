"""A market's first part in, what is fitted out: hours are taken one at a time, nothing later is looked at."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from market_maker.domain import NS_PER_S
from market_maker.fitting.bars import MinuteBars, ranges
from market_maker.fitting.intensity import FitSettings, ReachCounts, block_edges_ns, fit, reaches
from market_maker.fitting.micro_price import StepCounts, fit_micro_price
from market_maker.fitting.movement import volatility
from market_maker.fitting.quotes import QuoteReader, Quotes
from market_maker.fitting.record import Calibration
from market_maker.recordings.store import Hour

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SPREADS = 1 << 14  # ticks; a wider spread counts as this wide


@dataclass(frozen=True)
class Part:
    """From an instant, included, to another, excluded, ns."""

    start_ns: int
    end_ns: int


def first_part(start_ns: int, end_ns: int, share: float) -> Part:
    """First share of a span.

    Raises
    ------
    ValueError
        If the share is not above 0 and at most 1.
    """
    if not 0.0 < share <= 1.0:
        msg = f"expected a share above 0 and at most 1, was {share:g}"
        raise ValueError(msg)
    return Part(start_ns, start_ns + round((end_ns - start_ns) * share))


def calibrate(
    hours: Iterable[Hour], market: str, part: Part, settings: FitSettings | None = None
) -> Calibration:
    """Calibrate on a part of a market.

    Parameters
    ----------
    hours : iterable of Hour
        From the part's first hour or earlier, so that its book is known; reading ends with the part.
    """
    calibrator = Calibrator(market, part, settings)
    for hour in hours:
        calibrator.take(hour)
        if int(hour.venue_ns[-1]) >= part.end_ns:
            break
    return calibrator.result()


class Calibrator:
    """Takes hours of a market in, and keeps counts and one mid a second."""

    def __init__(self, market: str, part: Part, settings: FitSettings | None = None) -> None:
        self._market, self._part, self._settings = market, part, settings
        self._reader = QuoteReader()
        self._counts = ReachCounts(part.start_ns, part.end_ns)
        self._steps = StepCounts(part.start_ns, part.end_ns)
        self._bars = MinuteBars()
        self._last: tuple[int, int] = (0, 0)  # best quotes in force
        self._heard_ns = part.start_ns
        self._edges = block_edges_ns(part.start_ns, part.end_ns)
        self._block_ns: Any = np.zeros(len(self._edges) - 1)
        self._spread_ns: Any = np.zeros(_SPREADS)
        self._mid2_ns = 0.0
        self._next_s = -(-part.start_ns // NS_PER_S)
        self._grid: list[NDArray[np.int64]] = []

    def take(self, hour: Hour) -> None:
        """Take rows in that follow the ones before; those past the part are left out."""
        end = int(np.searchsorted(hour.venue_ns, self._part.end_ns, side="left"))
        if not end:
            return
        columns: list[Any] = [column[:end] for column in hour]
        rows = Hour(*columns)
        found, sized = self._reader.read_both(rows)
        self._steps.take(sized)
        begin = int(np.searchsorted(found.ns, self._part.start_ns, side="left"))
        if begin:
            self._last = (int(found.bid_ticks[begin - 1]), int(found.ask_ticks[begin - 1]))
        heard_ns = int(rows.venue_ns[-1])
        if heard_ns < self._part.start_ns:
            return
        firsts = (self._heard_ns, *self._last)
        pairs = zip(firsts, found, strict=True)
        quotes = Quotes(*(np.concatenate([[first], column[begin:]]) for first, column in pairs))
        self._note_time(quotes, heard_ns)
        self._bars.take(quotes, heard_ns)
        ns, reach = reaches(rows, quotes)
        self._counts.take(ns, reach)
        self._last = (int(quotes.bid_ticks[-1]), int(quotes.ask_ticks[-1]))
        self._heard_ns = heard_ns

    def result(self) -> Calibration:
        """What was found in all that was taken in."""
        known_ns = float(self._block_ns.sum())
        grid = np.concatenate([np.zeros(0, np.int64), *self._grid])
        spread = float(self._spread_ns @ np.arange(_SPREADS)) / known_ns if known_ns else 0.0
        return Calibration(
            market=self._market,
            start_ns=self._part.start_ns,
            end_ns=self._part.end_ns,
            seconds=known_ns / NS_PER_S,
            mid_ticks=self._mid2_ns / known_ns / 2.0 if known_ns else 0.0,
            spread_ticks=spread,
            volatility=volatility(grid),
            arrivals=fit(
                self._counts.at_least(), self._block_ns / NS_PER_S, self._touch_ticks(), self._settings
            ),
            micro_price=fit_micro_price(self._steps),
            ranges=ranges(*self._bars.bars(), grid),
        )

    def _touch_ticks(self) -> float:
        """Half of the spread that is not exceeded in half of the time."""
        passed = np.cumsum(self._spread_ns)
        return float(np.searchsorted(passed, passed[-1] / 2.0)) / 2.0

    def _note_time(self, quotes: Quotes, end_ns: int) -> None:
        """Book the time from the first of the quotes to an instant, and the mid at each full second of it."""
        ends = np.append(quotes.ns, end_ns)
        held = np.where(quotes.bid_ticks > 0, np.diff(ends), 0)
        passed = np.interp(self._edges, ends, np.append(0.0, np.cumsum(held)))
        self._block_ns += np.diff(passed)
        spread = np.clip(quotes.ask_ticks - quotes.bid_ticks, 0, _SPREADS - 1)
        self._spread_ns += np.bincount(spread, held, _SPREADS)
        self._mid2_ns += float(quotes.mid2_ticks.astype(np.float64) @ held)
        seconds = np.arange(self._next_s, end_ns // NS_PER_S + 1)
        if seconds.size:
            at = np.searchsorted(quotes.ns, seconds * NS_PER_S, side="right") - 1
            self._grid.append(quotes.mid2_ticks[at])
            self._next_s = int(seconds[-1]) + 1
