"""The efficient price of a market: what it would be worth if everybody knew what somebody knows.

On a grid of a tenth of a second, log price moves by drift, by noise whose variance is itself random, by
jumps, and in some phases back towards where the phase began. Noise, volatility and jumps have a part that all
markets share, drawn by each market from the same seed, so that markets are correlated and each can be
advanced alone. Phases follow a schedule; volatility wanders around what they say.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from market_maker.domain import BPS, NS_PER_S
from market_maker.emulator.flow import PastBar

STEP_NS = NS_PER_S // 10
_STEP_S = STEP_NS / NS_PER_S
_BLOCK_STEPS = 600
_STEPS_PER_MINUTE = 600
_NS_PER_MINUTE = 60 * NS_PER_S
_BAR_STEPS = 60
_VOLATILITY_KEPT = 1.0 - _STEP_S / 90.0
_ROOT_STEPS = math.sqrt(_STEPS_PER_MINUTE)


@dataclass(frozen=True, slots=True)
class Phase:
    """How a market behaves for a while."""

    seconds: float
    volatility: float = 1.0  # multiple of the market's sigma
    drift_bps_s: float = 0.0  # of the efficient price
    jumps_per_minute: float = 0.0
    jump_bps: float = 0.0  # standard deviation of a jump around its mean
    jump_mean_bps: float = 0.0
    reversion_per_s: float = 0.0  # pull towards the price at which the phase began
    depth: float = 1.0  # multiple of the displayed sizes
    spread: float = 1.0  # multiple of the spread
    activity: float = 1.0  # multiple of the rate of takers


@dataclass(frozen=True, slots=True)
class PriceModel:
    """Price and volatility of a market."""

    start_price: float  # USD
    sigma_bps: float  # per root minute, in a phase of volatility 1
    factor_share: float  # correlation with the factor that all markets share
    volatility_noise: float = 0.3  # standard deviation of the logarithm of volatility


@dataclass(frozen=True, slots=True)
class Schedule:
    """Phases in order; after the last one it goes on from number `repeat_from`."""

    phases: tuple[Phase, ...]
    repeat_from: int = 0


class PathPoint(NamedTuple):
    """The efficient price at a step: log price in USD, volatility in force (bps per root minute), phase."""

    log_price: float
    sigma_bps: float
    phase: Phase


class PricePath:
    """The efficient price of one market from the start on, made block by block as it is asked for."""

    def __init__(
        self,
        model: PriceModel,
        schedule: Schedule,
        shared: np.random.SeedSequence,
        own: np.random.SeedSequence,
    ) -> None:
        self._model = model
        self._volatility_scale = model.volatility_noise * math.sqrt(1.0 - _VOLATILITY_KEPT**2)
        self._schedule = schedule
        self._shared = np.random.default_rng(shared)
        self._own = np.random.default_rng(own)
        self._phase_number = 0
        self._phase_left = schedule.phases[0].seconds
        self._log_price = self._anchor = math.log(model.start_price)
        self._log_volatility = 0.0
        self._first_step = 0
        self._points: list[PathPoint] = []

    def at(self, step: int) -> PathPoint:
        """Point of a step; steps may only rise from call to call."""
        while step >= self._first_step + len(self._points):
            self._first_step += len(self._points)
            self._points = self._block()
        return self._points[step - self._first_step]

    def _block(self) -> list[PathPoint]:
        share, rest = self._model.factor_share, math.sqrt(1.0 - self._model.factor_share**2)
        common = self._shared.standard_normal((3, _BLOCK_STEPS))
        chances = self._shared.random(_BLOCK_STEPS).tolist()
        own = self._own.standard_normal((2, _BLOCK_STEPS))
        price_noise = (share * common[0] + rest * own[0]).tolist()
        volatility_noise = (share * common[1] + rest * own[1]).tolist()
        jump_noise = common[2].tolist()
        draws = zip(price_noise, volatility_noise, jump_noise, chances, strict=True)
        return [self._advance(*draw) for draw in draws]

    def _advance(
        self, price_noise: float, volatility_noise: float, jump_noise: float, chance: float
    ) -> PathPoint:
        phase = self._phase()
        model = self._model
        kept = _VOLATILITY_KEPT * self._log_volatility
        self._log_volatility = kept + self._volatility_scale * volatility_noise
        # Mean variance stays what the model says: minus the variance of the logarithm.
        wander = math.exp(self._log_volatility - model.volatility_noise**2)
        sigma_bps = model.sigma_bps * phase.volatility * wander
        move_bps = phase.drift_bps_s * _STEP_S + sigma_bps * price_noise / _ROOT_STEPS
        if chance < phase.jumps_per_minute / _STEPS_PER_MINUTE:
            move_bps += phase.jump_mean_bps + phase.jump_bps * jump_noise
        pull = phase.reversion_per_s * _STEP_S * (self._anchor - self._log_price)
        self._log_price += move_bps / BPS + pull
        return PathPoint(self._log_price, sigma_bps, phase)

    def _phase(self) -> Phase:
        phases = self._schedule.phases
        if self._phase_left <= 0.0:
            following = self._phase_number + 1
            self._phase_number = following if following < len(phases) else self._schedule.repeat_from
            self._phase_left += phases[self._phase_number].seconds
            self._anchor = self._log_price
        self._phase_left -= _STEP_S
        return phases[self._phase_number]


def past_bars(
    model: PriceModel, tick: float, start_ns: int, count: int, seeds: Sequence[np.random.SeedSequence]
) -> list[PastBar]:
    """One-minute bars that end at the last whole minute before the start, oldest first.

    They are walked backwards from the start price, with the model's sigma and the factor (first of the seeds)
    shared with the other markets; a longer history ends in the shorter one.
    """
    shared, own = (np.random.default_rng(seed) for seed in seeds)
    share, rest = model.factor_share, math.sqrt(1.0 - model.factor_share**2)
    log_close = math.log(model.start_price)
    end_ns = start_ns // _NS_PER_MINUTE * _NS_PER_MINUTE
    bars = []
    for back in range(1, count + 1):
        noise = share * shared.standard_normal(_BAR_STEPS) + rest * own.standard_normal(_BAR_STEPS)
        moves = np.concatenate(([0.0], np.cumsum(noise))) * model.sigma_bps / BPS / math.sqrt(_BAR_STEPS)
        ticks = np.maximum(np.rint(np.exp(log_close + moves) / tick), 1.0).astype(np.int64)
        bar = PastBar(
            end_ns - back * _NS_PER_MINUTE, int(ticks[-1]), int(ticks.max()), int(ticks.min()), int(ticks[0])
        )
        bars.append(bar)
        log_close += float(moves[-1])
    return bars[::-1]
