"""What a market's flow looks like to a maker, measured alike on a recording and on a generated flow.

A maker always stands at the touch, at the back of the queue: joined when the touch is shown, moved along when
it moves, filled when a trade goes through its price or eats the queue before it. Mids are sampled on a
one-second grid. Trades of one instant and side are one taker.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from market_maker.domain import NS_PER_S, BookUpdate, Side, Trade
from market_maker.emulator.flow import Flow, LevelChange, TakerOrder
from market_maker.recordings.events import BestQuote, RecordedMarket
from market_maker.recordings.folding import FoldedBook

MARKOUT_S = 5


class Touch(NamedTuple):
    at_ns: int
    bid: int
    bid_lots: int
    ask: int
    ask_lots: int


class Print(NamedTuple):
    at_ns: int
    side: Side
    price: int
    lots: int


Observation = Touch | Print


@dataclass(frozen=True)
class FlowStatistics:
    seconds: float
    sigma_1s_bps: float  # per root minute, from one-second returns
    sigma_30s_bps: float  # the same from thirty-second returns
    half_spread_bps: float
    median_spread_ticks: float
    takers_per_s: float
    dispersion_1s: float  # variance over mean of the number of takers in a second
    dispersion_10s: float
    sign_persistence: float  # share of takers on the side of the one before
    fills_per_minute: float
    markout_bps: float  # mid five seconds after a touch fill against its price, positive for the maker
    adverse_sigmas: float  # the mid's move against the fill in five seconds, in sigmas of five seconds

    @property
    def volatility_ratio(self) -> float:
        return self.sigma_30s_bps / self.sigma_1s_bps

    @property
    def markout_sigmas(self) -> float:
        return self.markout_bps / self.sigma_5s_bps

    @property
    def sigma_5s_bps(self) -> float:
        return self.sigma_30s_bps * math.sqrt(MARKOUT_S / 60)


class _Joiner:
    """The maker on one side of the touch."""

    def __init__(self, side: Side) -> None:
        self._side = side
        self._price: int | None = None
        self._queue = 0

    def on_touch(self, price: int, lots: int) -> None:
        if price != self._price:
            self._price, self._queue = price, lots
        else:
            self._queue = min(self._queue, lots)

    def filled_at(self, trade: Print) -> int | None:
        price = self._price
        if price is None or trade.side == self._side:
            return None
        beyond = (price - trade.price) * self._side
        if beyond < 0:
            return None
        self._queue -= trade.lots
        if beyond == 0 and self._queue >= 0:
            return None
        self._price = None
        return price


def measure(observations: Iterable[Observation]) -> FlowStatistics:
    """Statistics of a flow of touches and prints in the order of time."""
    joiners = {side: _Joiner(side) for side in Side}
    stamps: list[int] = []
    mids: list[float] = []
    spreads: list[int] = []
    takers: list[tuple[int, Side]] = []
    fills: list[tuple[int, Side, int, float]] = []
    for item in observations:
        if isinstance(item, Touch):
            joiners[Side.BUY].on_touch(item.bid, item.bid_lots)
            joiners[Side.SELL].on_touch(item.ask, item.ask_lots)
            stamps.append(item.at_ns)
            mids.append((item.bid + item.ask) / 2)
            spreads.append(item.ask - item.bid)
        elif stamps:
            if not takers or takers[-1] != (item.at_ns, item.side):
                takers.append((item.at_ns, item.side))
            for side, joiner in joiners.items():
                price = joiner.filled_at(item)
                if price is not None:
                    fills.append((item.at_ns, side, price, mids[-1]))
    return _summary(np.array(stamps), np.array(mids), np.array(spreads), takers, fills)


def _summary(stamps, mids, spreads, takers, fills) -> FlowStatistics:
    seconds = (stamps[-1] - stamps[0]) / NS_PER_S
    grid = np.arange(stamps[0], stamps[-1], NS_PER_S)
    logs = np.log(mids[np.searchsorted(stamps, grid, side="right") - 1])
    sigma_30 = _sigma_bps(logs, 30)
    held = np.diff(stamps, append=stamps[-1])
    counts = np.histogram([at for at, _ in takers], bins=np.append(grid, grid[-1] + NS_PER_S))[0]
    signs = np.array([side for _, side in takers])
    complete = [fill for fill in fills if fill[0] + MARKOUT_S * NS_PER_S <= stamps[-1]]
    at, sides, prices, before = (np.array(column) for column in zip(*complete, strict=True))
    later = mids[np.searchsorted(stamps, at + MARKOUT_S * NS_PER_S, side="right") - 1]
    return FlowStatistics(
        seconds=seconds,
        sigma_1s_bps=_sigma_bps(logs, 1),
        sigma_30s_bps=sigma_30,
        half_spread_bps=float(np.average(spreads / mids, weights=held) * 0.5e4),
        median_spread_ticks=float(np.median(spreads)),
        takers_per_s=len(takers) / seconds,
        dispersion_1s=_dispersion(counts),
        dispersion_10s=_dispersion(counts[: len(counts) // 10 * 10].reshape(-1, 10).sum(axis=1)),
        sign_persistence=float(np.mean(signs[1:] == signs[:-1])),
        fills_per_minute=len(fills) / seconds * 60,
        markout_bps=float(np.mean(sides * (later - prices) / prices) * 1e4),
        adverse_sigmas=float(
            -np.mean(sides * (later - before) / before) * 1e4 / (sigma_30 * math.sqrt(MARKOUT_S / 60))
        ),
    )


def _sigma_bps(logs, lag: int) -> float:
    return float(math.sqrt(np.mean((logs[lag:] - logs[:-lag]) ** 2) / lag * 60) * 1e4)


def _dispersion(counts) -> float:
    return float(np.var(counts) / np.mean(counts))


def of_recording(market: RecordedMarket) -> Iterator[Observation]:
    """Touches and prints of a recorded market."""
    book = FoldedBook()
    for at_ns, event in market.events():
        if isinstance(event, Trade):
            yield Print(at_ns, event.taker_side, event.price_ticks, event.size_lots)
            continue
        if isinstance(event, BookUpdate):
            book.apply_update(event)
        elif isinstance(event, BestQuote):
            book.apply_quote(event)
        bid, ask = book.best_ticks(Side.BUY), book.best_ticks(Side.SELL)
        if bid is not None and ask is not None:
            yield Touch(at_ns, bid, book.lots(Side.BUY, bid), ask, book.lots(Side.SELL, ask))


class MinimalBook:
    """A book of anonymous levels alone, matched by price: the least that a flow can be run against."""

    def __init__(self) -> None:
        self.levels: dict[Side, dict[int, int]] = {side: {} for side in Side}

    def best_ticks(self, side: Side) -> int | None:
        prices = self.levels[side]
        if not prices:
            return None
        return max(prices) if side is Side.BUY else min(prices)

    def external_lots(self, side: Side, price_ticks: int) -> int:
        return self.levels[side].get(price_ticks, 0)

    def account_lots(self, side: Side, price_ticks: int) -> int:
        return 0

    def apply(self, event: LevelChange | TakerOrder) -> list[tuple[int, int]]:
        """Apply an event; prices and sizes of what was taken."""
        if isinstance(event, LevelChange):
            if event.size_lots > 0:
                self.levels[event.side][event.price_ticks] = event.size_lots
            else:
                self.levels[event.side].pop(event.price_ticks, None)
            return []
        return list(self._take(event))

    def _take(self, order: TakerOrder) -> Iterator[tuple[int, int]]:
        maker = Side(-order.side)
        left = order.size_lots
        while left > 0:
            price = self.best_ticks(maker)
            if price is None or (price - order.limit_ticks) * order.side > 0:
                return
            taken = min(left, self.levels[maker][price])
            self.levels[maker][price] -= taken
            if not self.levels[maker][price]:
                del self.levels[maker][price]
            left -= taken
            yield price, taken

    def touch(self, at_ns: int) -> Touch | None:
        bid, ask = self.best_ticks(Side.BUY), self.best_ticks(Side.SELL)
        if bid is None or ask is None:
            return None
        return Touch(at_ns, bid, self.levels[Side.BUY][bid], ask, self.levels[Side.SELL][ask])


def of_flow(flow: Flow, seconds: float) -> Iterator[Observation]:
    """Touches and prints of a flow that is run against a book of its own."""
    book = MinimalBook()
    end_ns = None
    while (at_ns := flow.next_ns()) is not None:
        end_ns = end_ns or at_ns + round(seconds * NS_PER_S)
        if at_ns > end_ns:
            return
        for event in flow.pop(book):
            for price, lots in book.apply(event):
                yield Print(at_ns, event.side, price, lots)
        touch = book.touch(at_ns)
        if touch is not None:
            yield touch
