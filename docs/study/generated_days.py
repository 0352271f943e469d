"""Days of a made market with the funding of a table: what half an hour of recording cannot hold.

The mid is a random walk that takers push: who takes is right on average, and a maker is picked off. Prices
know nothing of the rates, so that what a rate does to a maker is what it does to its inventory. The index
stands so far from the best quotes that the formula of the exchange gives the rate of the table. What is paid
is put in by `mm backtest --funding`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.recordings import store
from market_maker.recordings.store import NS_PER_HOUR, Hour, MarketInfo
from market_maker.recordings.store_writer import MarketWriter

TICK: Final = "0.01"
STEP: Final = "0.01"
_PRICE_TICKS: Final = 10_000.0  # a tick is a bp
_STEPS: Final = 3600
_SIGMA_TICKS: Final = 0.55  # of a second, takers' pushes apart
_LEVELS: Final = 6
_TAKERS_PER_S: Final = 0.3  # on each side
_REACH: Final = 0.55  # chance that a taker stops at a level
_TAKER_LOTS: Final = 600.0
_LEVEL_LOTS: Final = 1_500.0
_PUSH_TICKS: Final = 0.45
_SIZES: Final = 4_096
_PRICES_EVERY: Final = 5
_DELAY_US: Final = 20_000

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Days(NamedTuple):
    """Hours of a market with the rate that is paid at the end of each."""

    market: str
    start_ns: int
    rates: Sequence[float]


def premium_of(rate: float) -> float:
    """Premium over the index that makes an hourly rate by the exchange's formula, both fractions."""
    interest, clamp = 0.0001, 0.0005
    return 8.0 * rate + (clamp if 8.0 * rate > interest else -clamp)


def write_days(folder: Path, days: Days, seed: int) -> None:
    """Write a market into a store."""
    info = MarketInfo(store.FORMAT_VERSION, days.market, "generated", TICK, STEP, 0, {}, [], {}, [], [])
    with MarketWriter(folder, days.market, replace=True) as writer:
        for hour in hours(days, seed):
            writer.add(hour)
        writer.commit(info)


def hours(days: Days, seed: int) -> Iterator[Hour]:
    """Make the hours one by one; the same days and seed give the same bytes."""
    mid = _PRICE_TICKS
    sizes = 0.2 + np.random.default_rng(seed).exponential(1.0, (2, _SIZES))
    for number, rate in enumerate(days.rates):
        rng = np.random.default_rng((seed, number))
        hour, mid = _hour(rng, days.start_ns + number * NS_PER_HOUR, mid, premium_of(rate), sizes)
        yield hour


def _hour(
    rng: np.random.Generator, start_ns: int, mid: float, premium: float, sizes: _Floats
) -> tuple[Hour, float]:
    taken = rng.poisson(_TAKERS_PER_S, (2, _STEPS))
    drawn = _SIGMA_TICKS * rng.standard_normal(_STEPS) + _PUSH_TICKS * (taken[0] - taken[1])
    mids = np.maximum(mid + np.cumsum(drawn), 100.0)
    bid, ask = np.floor(mids - 0.5).astype(np.int64), np.ceil(mids + 0.5).astype(np.int64)
    index = np.where(premium > 0.0, bid, ask) / (1.0 + premium)
    rows = _Rows(start_ns + np.arange(_STEPS) * NS_PER_S + rng.integers(0, 200 * NS_PER_MS, _STEPS))
    level = np.arange(_LEVELS)
    for side, best in ((0, bid[:, None] - level), (1, ask[:, None] + level)):
        lots = np.rint(_LEVEL_LOTS * (1.0 + level) ** 0.5 * sizes[side][best % _SIZES]).astype(np.int64)
        rows.book(side, best, np.maximum(lots, 1))
    for side, best in ((0, ask), (1, bid)):
        at = np.repeat(np.arange(_STEPS - 1), taken[side][1:])
        away = rng.geometric(_REACH, at.size) - 1
        ticks = best[at] + np.minimum(away, _LEVELS - 1) * (1 - 2 * side)
        # After the book of the step before, and before the one that they pushed.
        rows.trades(side, at, ticks, 1 + rng.exponential(_TAKER_LOTS, at.size).astype(np.int64))
    rows.prices(store.MARK, mids)
    rows.prices(store.INDEX, index)
    return rows.hour(), float(mids[-1])


class _Rows:
    """Events in no order yet; a frame's rows stay in theirs."""

    def __init__(self, stamps: _Ints) -> None:
        self._stamps = stamps
        steps = np.arange(len(stamps))
        self._columns = [(steps, 0 * steps, stamps, 0 * steps + store.CLEAR, 0 * steps, 0 * steps)]

    def book(self, side: int, ticks: _Ints, lots: _Ints) -> None:
        """Levels of a side, a row for each step, best first; the asks come last and end the frame."""
        steps, levels = ticks.shape
        kind = np.full((steps, levels), (store.LEVEL_BID, store.LEVEL_ASK)[side])
        if side:
            kind[:, -1] |= store.LAST
        place = np.broadcast_to(1 + side * levels + np.arange(levels), kind.shape)
        step = np.repeat(np.arange(steps), levels)
        self._columns.append(
            (step, place.ravel(), self._stamps[step], kind.ravel(), ticks.ravel(), lots.ravel())
        )

    def trades(self, side: int, steps: _Ints, ticks: _Ints, lots: _Ints) -> None:
        """Trades halfway to the next step's book; side 0: the taker bought."""
        stamps = (self._stamps[steps] + self._stamps[steps + 1]) // 2
        kind = np.full(len(steps), (store.TRADE_BUY, store.TRADE_SELL)[side] | store.LAST)
        self._columns.append((steps, 0 * steps, stamps, kind, ticks, lots))

    def prices(self, code: int, ticks: _Floats) -> None:
        """Mark or index, now and then, with the book's stamp and after it."""
        steps = np.arange(0, len(ticks), _PRICES_EVERY)
        parts = np.rint(ticks[steps] * store.PRICE_PARTS).astype(np.int64)
        place = np.full(len(steps), 1_000 + code)
        kind = np.full(len(steps), code | store.LAST)
        self._columns.append((steps, place, self._stamps[steps], kind, parts, 0 * steps))

    def hour(self) -> Hour:
        """All of them in the order of time."""
        _, place, stamps, kind, ticks, lots = (
            np.concatenate(column) for column in zip(*self._columns, strict=True)
        )
        order = np.lexsort((place, stamps))
        return Hour(
            stamps[order],
            np.full(len(order), _DELAY_US, np.int32),
            kind[order].astype(np.uint8),
            ticks[order].astype(np.int32),
            lots[order].astype(np.uint32),
        )
