"""A generated market that follows one-minute bars: a book, its takers and a mark, as hours of events.

The book stands on a lattice around the mid (`stress_path`). As the last minute's range grows, the spread
widens, the lattice grows coarser and loses levels, and what is left of them holds less; heavy volume thins it
further. Only what has happened so far enters, so the book gives nothing of the bar away. What takers do is in
`stress_flow`.

This is no model of any venue: it is a book that is bad to a market maker in the ways that crash days are.
"""

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.stress_bars import NS_PER_MINUTE, BarDay
from market_maker.backtest.stress_flow import LEVELS, Minutes, Side, Trades, marks_of, trades_of
from market_maker.backtest.stress_path import STEP_S, STEPS, Path, spread_ticks, walk
from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.recordings import store
from market_maker.recordings.store import Hour

_MINUTES: Final = 60
_STEP_NS: Final = round(STEP_S * NS_PER_S)
_JITTER_NS: Final = 150 * NS_PER_MS
# Levels in lattice steps from the best one: dense, then each fourth, then each sixteenth price.
_DENSE, _FOURTH = 8, 12
_GROWTH: Final = np.concatenate([np.linspace(1.0, 2.5, _DENSE), np.full(4, 5.0), np.full(4, 10.0)])
_TOUCH_SHARE: Final = 0.005  # of a typical minute's volume
_THINNING: Final = 0.7
_VOLUME_THINNING: Final = 0.15
_LEAST_WILDNESS: Final = 0.25
_HOLES: Final = 0.08
_MOST_HOLES: Final = 0.5
_LIFE_STEPS: Final = 40
_MARK_STEPS: Final = 5
_FEED_US: Final = 30_000.0

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class _Before(NamedTuple):
    """What the next hour needs to know of the last."""

    mids: _Floats  # of the last minute's steps
    lots: _Floats  # volume of the same steps
    bids: Side  # last step alone
    asks: Side
    mark: float


def _mixed(*parts: _Ints | int) -> _Floats:
    """Uniform numbers from 0 to 1 that depend on their inputs alone (splitmix64)."""
    mixed = np.full(1, 0x9E3779B97F4A7C15, np.uint64)
    for part in parts:
        mixed = (mixed ^ np.asarray(part).astype(np.uint64)) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = mixed ^ (mixed >> np.uint64(27))
        mixed = mixed * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    floats: _Floats = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return floats


class StressBook:
    """The market of one day, hour by hour; the same day and seed give the same bytes.

    Parameters
    ----------
    day : BarDay
        Its median range and volume are what is taken as usual.
    """

    def __init__(self, day: BarDay, seed: int = 1) -> None:
        self.day = day
        self._seed = seed
        name = f"{day.source} {day.name}".encode()
        self._key = int.from_bytes(hashlib.sha256(name).digest()[:7])
        traded = day.lots[day.lots > 0]
        ranges = day.ticks[:, 1] - day.ticks[:, 2]
        self.typical_ticks = max(float(np.median(ranges)), 1.0)
        self.typical_lots = max(float(np.median(traded)) if traded.size else 1.0, 1.0)

    def hours(self, first: int = 0, count: int | None = None) -> Iterator[Hour]:
        """Make the day's hours, one at a time, or `count` of them from number `first` on."""
        before = None
        last = -(-len(self.day.lots) // _MINUTES)
        for number in range(first, last if count is None else min(first + count, last)):
            minute = number * _MINUTES
            hour, before = self._hour(number, slice(minute, minute + _MINUTES), before)
            yield hour

    def _hour(self, number: int, minutes: slice, before: _Before | None) -> tuple[Hour, _Before]:
        rng = np.random.default_rng((self._seed, self._key, number))
        bars, volume = self.day.ticks[minutes], self.day.lots[minutes]
        path = walk(bars, self.typical_ticks, rng)
        mid = path.mid.ravel()
        before = before or self._opening(mid)
        range_ticks = _trailing_range(before.mids, mid)
        lots = _taken_lots(rng, path.mid, volume)
        recent = np.cumsum(np.concatenate([before.lots, lots]))
        busy = (recent[STEPS:] - recent[:-STEPS]) / self.typical_lots
        bids, asks = self._book(number, path, bars, range_ticks, busy)
        earlier = _shifted(before.bids, bids), _shifted(before.asks, asks)
        trades = trades_of(rng, path, Minutes(bars, volume), lots, earlier)
        marks = marks_of(mid, before.mark)
        hour = self._rows(rng, minutes.start, (bids, asks), trades, marks)
        last = _Before(mid[-STEPS:], lots[-STEPS:], _last(bids), _last(asks), float(marks[-1]))
        return hour, last

    def _opening(self, mid: _Floats) -> _Before:
        """Stand as if the market had rested before the day, in a usual minute's range."""
        swing = np.sin(np.linspace(0, 2 * np.pi, STEPS)) * self.typical_ticks / 2
        nothing = Side(np.zeros((1, LEVELS), np.int64), np.zeros((1, LEVELS), np.int64))
        usual = np.full(STEPS, self.typical_lots / STEPS)
        return _Before(mid[0] + swing, usual, nothing, nothing, float(mid[0]))

    def _book(
        self, number: int, path: Path, bars: _Ints, range_ticks: _Floats, busy: _Floats
    ) -> tuple[Side, Side]:
        wildness = np.maximum(range_ticks / self.typical_ticks, _LEAST_WILDNESS)
        spread = spread_ticks(range_ticks, self.typical_ticks)
        lattice = 2 ** np.floor(np.log2(np.maximum(spread / 2, 1.0))).astype(np.int64)
        bid, ask = _best(path, bars, spread, lattice)
        depth = self.typical_lots * _TOUCH_SHARE * wildness**-_THINNING
        depth *= np.maximum(busy, 0.1) ** -_VOLUME_THINNING
        holes = np.clip(_HOLES * (wildness - 1.0), 0.0, _MOST_HOLES)
        step = number * _MINUTES * STEPS + np.arange(len(bid))
        sides = []
        for sign, best in ((-1, bid), (1, ask)):
            ticks = _lattice_prices(best, lattice, sign)
            sides.append(Side(ticks, self._sizes(ticks, step, depth, holes, sign)))
        return sides[0], sides[1]

    def _sizes(self, ticks: _Ints, step: _Ints, depth: _Floats, holes: _Floats, sign: int) -> _Ints:
        """Sizes that stay for a while at a price, and change there one by one."""
        phase = (_mixed(self._seed, ticks) * _LIFE_STEPS).astype(np.int64)
        epoch = (step[:, None] + phase) // _LIFE_STEPS
        drawn = _mixed(self._seed, self._key, ticks, epoch, sign + 1)
        sizes = depth[:, None] * _GROWTH * (0.15 - 0.85 * np.log1p(-drawn))
        lots: _Ints = np.maximum(np.rint(sizes), 1).astype(np.int64)
        gone = _mixed(self._seed, ticks, epoch, sign + 3) < holes[:, None]
        gone[:, 0] = False
        return np.where(gone | (ticks <= 0), 0, lots)

    def _rows(
        self, rng: np.random.Generator, minute: int, book: tuple[Side, Side], trades: Trades, marks: _Floats
    ) -> Hour:
        """Lay the events of each step side by side, then leave out what there is not."""
        bids, asks = book
        steps, slots = len(marks), trades.lots.shape[1]
        kind = np.zeros((steps, slots + 2 + 2 * LEVELS), np.int64)
        ticks, lots = np.zeros_like(kind), np.zeros_like(kind)
        at_clear, at_mark = slots, slots + 1 + 2 * LEVELS
        at_asks = at_clear + 1 + LEVELS
        kind[:, :slots] = np.where(trades.buys, store.TRADE_BUY, store.TRADE_SELL) | store.LAST
        ticks[:, :slots], lots[:, :slots] = trades.ticks, trades.lots
        kind[:, at_clear] = store.CLEAR
        kind[:, at_clear + 1 : at_asks] = store.LEVEL_BID
        ticks[:, at_clear + 1 : at_asks], lots[:, at_clear + 1 : at_asks] = bids
        # The best ask is always there, so it comes last and ends the frame.
        kind[:, at_asks:at_mark] = store.LEVEL_ASK
        ticks[:, at_asks:at_mark], lots[:, at_asks:at_mark] = asks.ticks[:, ::-1], asks.lots[:, ::-1]
        kind[:, at_mark - 1] |= store.LAST
        kind[:, at_mark] = store.MARK | store.LAST
        ticks[:, at_mark] = np.rint(marks * store.PRICE_PARTS)
        there = lots > 0
        there[:, at_clear] = True
        there[:, at_mark] = np.arange(steps) % _MARK_STEPS == 0
        start_ns = self.day.start_ns + minute * NS_PER_MINUTE
        stamps = start_ns + np.arange(steps) * _STEP_NS + rng.integers(0, _JITTER_NS, steps)
        delays = np.rint(_FEED_US * (0.5 + 0.5 * rng.exponential(1.0, steps))).astype(np.int64)
        counts = there.sum(axis=1)
        return Hour(
            np.repeat(stamps, counts),
            np.repeat(delays, counts).astype(np.int32),
            kind[there].astype(np.uint8),
            ticks[there].astype(np.int32),
            lots[there].astype(np.uint32),
        )


def _trailing_range(before: _Floats, mid: _Floats) -> _Floats:
    """High minus low of the minute up to each step."""
    windows = np.lib.stride_tricks.sliding_window_view(np.concatenate([before[1:], mid]), STEPS)
    found: _Floats = windows.max(axis=1) - windows.min(axis=1)
    return found


def _last(side: Side) -> Side:
    return Side(side.ticks[-1:], side.lots[-1:])


def _shifted(before: Side, side: Side) -> Side:
    """Levels as they were a step earlier."""
    return Side(
        np.concatenate([before.ticks, side.ticks[:-1]]), np.concatenate([before.lots, side.lots[:-1]])
    )


def _best(path: Path, bars: _Ints, spread: _Floats, lattice: _Ints) -> tuple[_Ints, _Ints]:
    """Best prices, on the lattice but within the bar; at high and low they are the bar's own."""
    mid = path.mid.ravel()
    high, low = np.repeat(bars[:, 1], STEPS), np.repeat(bars[:, 2], STEPS)
    bid = np.maximum(np.floor((mid - spread / 2) / lattice).astype(np.int64) * lattice, low)
    ask = np.minimum(np.ceil((mid + spread / 2) / lattice).astype(np.int64) * lattice, high)
    firsts = np.arange(len(bars)) * STEPS
    at_high = firsts + np.where(path.high_first, path.anchors[:, 1], path.anchors[:, 2])
    at_low = firsts + np.where(path.high_first, path.anchors[:, 2], path.anchors[:, 1])
    ask[at_high], bid[at_low] = bars[:, 1], bars[:, 2]
    locked = ask <= bid
    # In a minute too narrow for two prices one side stands outside the bar, and nothing trades there.
    ask = np.where(locked & (bid < high), bid + 1, ask)
    bid = np.where(ask <= bid, ask - 1, bid)
    return np.maximum(bid, 1), np.maximum(ask, 2)


def _lattice_prices(best: _Ints, lattice: _Ints, sign: int) -> _Ints:
    """Prices of the levels from the best on outwards."""
    ticks = np.empty((len(best), LEVELS), np.int64)
    ticks[:, 0] = best
    for level in range(1, LEVELS):
        gap = lattice * (1 if level < _DENSE else 4 if level < _FOURTH else 16)
        below = ticks[:, level - 1]
        ticks[:, level] = (below // gap + 1) * gap if sign > 0 else (-(-below // gap) - 1) * gap
    return ticks


def _taken_lots(rng: np.random.Generator, mid: _Floats, volume: _Ints) -> _Floats:
    """Split each bar's volume over its steps: half by chance, half by how far the mid goes."""
    chance = rng.gamma(0.7, 1.0, mid.shape)
    way = np.abs(np.diff(mid, axis=1, prepend=mid[:, :1])) + 1e-9
    shares = chance / chance.sum(axis=1, keepdims=True) + way / way.sum(axis=1, keepdims=True)
    lots: _Floats = (shares / 2 * volume[:, None]).ravel()
    return lots
