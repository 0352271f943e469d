"""Those who take: when an aggressive order comes, on which side, how large, how far it may reach.

Orders excite further orders on two time scales (Hawkes, as in Bacry, Mastromatteo and Muzy 2015), sides
persist, and some of the takers know where the price is going: they buy while it stands below its efficient
value. Sizes are lognormal; most orders stop at the touch, some walk the book.
"""

import math
from dataclasses import dataclass

from market_maker.domain import Side
from market_maker.emulator.draws import Draws


@dataclass(frozen=True, slots=True)
class TakerModel:
    """Takers of a market."""

    rate_hz: float  # of those that nothing excites, in a phase of activity 1
    median_lots: float
    size_noise: float = 1.4  # standard deviation of the logarithm of the size
    fast_excitation: float = 0.25  # mean number of orders that one order excites soon
    slow_excitation: float = 0.4  # and later
    fast_decay_hz: float = 3.0
    slow_decay_hz: float = 0.12
    persistence: float = 0.3  # probability of taking the side of the order before, come what may
    informed: float = 0.6  # weight of the mispricing in the choice of a side
    walking_share: float = 0.06  # share of orders that reach past the touch
    walking_size: float = 8.0  # how much larger those are
    impact: float = 0.07  # lasting move of the price by a median order, in sigmas of one second


class Takers:
    """The arrival of takers in one market."""

    def __init__(self, model: TakerModel, draws: Draws) -> None:
        self._model = model
        self._draws = draws
        self._fast = 0.0
        self._slow = 0.0
        self._last_side = 1

    def arrives(self, elapsed_s: float, activity: float) -> bool:
        """Whether an order comes in the time elapsed; excites others if so."""
        model = self._model
        rate = activity * model.rate_hz + self._fast + self._slow
        self._fast *= math.exp(-model.fast_decay_hz * elapsed_s)
        self._slow *= math.exp(-model.slow_decay_hz * elapsed_s)
        came = self._draws.uniform() < -math.expm1(-rate * elapsed_s)
        if came:
            self.excite()
        return came

    def excite(self) -> None:
        """Let an order raise the rate of those to come."""
        self._fast += self._model.fast_excitation * self._model.fast_decay_hz
        self._slow += self._model.slow_excitation * self._model.slow_decay_hz

    def side(self, mispricing_sigmas: float) -> Side:
        """Side of the next order, given how far the efficient price stands above the quoted one."""
        if self._draws.uniform() >= self._model.persistence:
            lean = self._model.informed * math.tanh(mispricing_sigmas)
            self._last_side = 1 if self._draws.uniform() < 0.5 * (1.0 + lean) else -1
        return Side.BUY if self._last_side > 0 else Side.SELL

    def lots(self, *, walking: bool) -> int:
        """Size of the next order."""
        size = self._model.median_lots * math.exp(self._model.size_noise * self._draws.normal())
        return max(1, round(size * (self._model.walking_size if walking else 1.0)))

    def reach_ticks(self, spread_ticks: int) -> int:
        """How many ticks past the touch the next order may go."""
        if self._draws.uniform() >= self._model.walking_share:
            return 0
        return 1 + round(self._draws.exponential() * (1.0 + spread_ticks))

    def impact_sigmas(self, lots: int) -> float:
        """Lasting impact of an order, in sigmas of one second: as the root of its size, up to a bound."""
        return self._model.impact * min(math.sqrt(lots / self._model.median_lots), 4.0)
