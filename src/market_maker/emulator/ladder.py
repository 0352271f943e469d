"""The levels that others show on one side of a generated market.

A window of consecutive prices follows the best one. Levels are born thin and grow towards a size that rises
with the distance from the touch; each change is noted for the exchange as the new size at the price.
"""

from dataclasses import dataclass

from market_maker.domain import Side
from market_maker.emulator.draws import Draws
from market_maker.emulator.flow import BookView, LevelChange

_GROWTH_LEVELS = 4.0
_NEWBORN = 0.35


@dataclass(frozen=True, slots=True)
class BookModel:
    """The displayed book of a market."""

    changes_hz: float  # instants a second at which something changes
    touch_lots: float  # mean size at the touch, in a phase of depth 1
    spread_ticks: float  # mean spread above one tick, in a phase of spread 1 at the model's sigma
    levels: int = 20
    deep: float = 3.0  # size of the deep levels as a multiple of the touch
    holes: float = 0.0  # share of prices at which nobody quotes
    lag_s: float = 0.4  # time in which quotes follow the efficient price
    tolerance: float = 0.3  # move that quotes wait for, in sigmas of one second
    swept_share: float = 0.2  # share of the quotes left behind by the price that are taken, not withdrawn


class Ladder:
    """One side's levels, from the best on."""

    def __init__(self, side: Side, model: BookModel, draws: Draws) -> None:
        self.side = side
        self.best = 0
        self._model = model
        self._draws = draws
        self._lots: dict[int, int] = {}

    def start(self, best: int, depth: float) -> list[LevelChange]:
        """Set all levels for the first time."""
        self.best = best
        prices = [best - self.side * distance for distance in range(self._model.levels)]
        return self._place(prices, depth, 1.0)

    def withdraw_to(self, best: int) -> list[LevelChange]:
        """Take the levels better than a price away."""
        gone = [price for price in self._lots if (price - best) * self.side > 0]
        return [self._set(price, 0) for price in sorted(gone)]

    def thin_to(self, best: int) -> tuple[list[LevelChange], int]:
        """Withdraw most of each level better than a price; the changes, and the size left in all."""
        changes, left = [], 0
        for price in sorted(price for price in self._lots if (price - best) * self.side > 0):
            lots = max(1, round(self._lots[price] * (0.1 + 0.5 * self._draws.uniform())))
            changes.append(self._set(price, lots))
            left += lots
        return changes, left

    def move_to(self, best: int, depth: float) -> list[LevelChange]:
        """Follow the best price: new levels on the one end, none past the other."""
        old, self.best = self.best, best
        step = (best - old) * self.side
        if step > 0:
            fresh = [best - self.side * distance for distance in range(min(step, self._model.levels))]
        else:
            worst = best - self.side * (self._model.levels - 1)
            fresh = [worst + self.side * distance for distance in range(min(-step, self._model.levels))]
        changes = self._place(fresh, depth, _NEWBORN)
        limit = best - self.side * (self._model.levels - 1)
        outside = [price for price in self._lots if (limit - price) * self.side > 0]
        return changes + [self._set(price, 0) for price in outside]

    def refresh(self, depth: float) -> list[LevelChange]:
        """Change one level, most often near the touch, half-way towards the size that belongs there."""
        distance = min(int(self._draws.exponential() * _GROWTH_LEVELS), self._model.levels - 1)
        price = self.best - self.side * distance
        shown = self._lots.get(price, 0)
        target = self._target(distance, depth)
        lots = round(shown + (target - shown) * (0.3 + 0.4 * self._draws.uniform()))
        return [] if lots == shown else [self._set(price, lots)]

    def reread(self, book: BookView, limit: int) -> None:
        """See what takers have left, from the best level to a price."""
        for price in [price for price in self._lots if (price - limit) * self.side >= 0]:
            lots = book.external_lots(self.side, price)
            if lots > 0:
                self._lots[price] = lots
            else:
                del self._lots[price]

    def shown_best(self) -> int:
        """Best price at which something is shown; where the window starts if nothing is."""
        prices = self._lots
        if self.best in prices or not prices:
            return self.best
        return max(prices) if self.side is Side.BUY else min(prices)

    def _place(self, prices: list[int], depth: float, share: float) -> list[LevelChange]:
        changes = []
        for price in prices:
            if price <= 0:
                continue
            distance = (self.best - price) * self.side
            lots = round(self._target(distance, depth) * (share if distance < _GROWTH_LEVELS else 1.0))
            if lots != self._lots.get(price, 0):
                changes.append(self._set(price, lots))
        return changes

    def _target(self, distance: int, depth: float) -> float:
        model = self._model
        if distance > 0 and model.holes > 0.0 and self._draws.uniform() < model.holes:
            return 0.0
        growth = 1.0 + (model.deep - 1.0) * min(1.0, distance / _GROWTH_LEVELS)
        return model.touch_lots * depth * growth * (0.15 + 0.85 * self._draws.exponential())

    def _set(self, price: int, lots: int) -> LevelChange:
        if lots > 0:
            self._lots[price] = lots
        else:
            self._lots.pop(price, None)
        return LevelChange(self.side, price, max(lots, 0))
