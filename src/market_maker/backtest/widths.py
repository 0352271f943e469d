"""The symmetric baseline's width: whichever would have earned most on the part that nothing is scored on.

Widths from the touch to two standard deviations of a minute's move, evenly spaced in their logarithm, play it
side by side in one run, under one fill model and latency. The score is the equity at the end, the position at
the mid. Equal scores go to the wider one. A width that hardly trades scores 0, which beats every width that
loses, and would be no yardstick: so at least ten fills are asked of it, and where none has as many, the
narrowest is taken.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from market_maker.backtest.baselines import symmetric
from market_maker.backtest.host import Contestant, MarketMakerRun, RunSettings
from market_maker.fills.money import FRACTION
from market_maker.fitting.record import Calibration
from market_maker.instrument import Instrument
from market_maker.recordings.store import Hour

CANDIDATES: Final = 16
_LEAST_FILLS: Final = 10
_WIDEST_DEVIATIONS: Final = 2.0
_S_PER_MINUTE: Final = 60.0
_LEAST_RATIO: Final = 8.0  # widest to narrowest, where nothing is known of volatility


class Score(NamedTuple):
    """What a width came to: twice the equity gained, in 10⁻¹¹ tick·lots (that is whole), and its fills."""

    half_ticks: float
    twice_gain: int
    fills: int


def candidates(calibration: Calibration) -> tuple[float, ...]:
    """Half-widths to try, in half ticks, rising."""
    narrowest = max(0.5, calibration.spread_ticks / 2.0)
    by_volatility = _WIDEST_DEVIATIONS * calibration.sigma_ticks * math.sqrt(_S_PER_MINUTE)
    ratio = max(by_volatility / narrowest, _LEAST_RATIO)
    steps = (narrowest * ratio ** (n / (CANDIDATES - 1)) for n in range(CANDIDATES))
    return tuple(sorted({round(2.0 * half) / 2.0 for half in steps}))


def best(scores: Sequence[Score]) -> Score:
    """The best of those that trade; the narrowest where none does."""
    traded = [score for score in scores if score.fills >= _LEAST_FILLS]
    if not traded:
        return min(scores, key=lambda score: score.half_ticks)
    return max(traded, key=lambda score: (score.twice_gain, score.half_ticks))


def scores(
    halves: Sequence[float],
    hours: Iterable[Hour],
    instrument: Instrument,
    player: Contestant,
    settings: RunSettings | None = None,
) -> list[Score]:
    """Play widths side by side; `player` has the sizes, limits, fill model and latency of all."""
    rows = [replace(player, fills=replace(player.fills), quoter=symmetric(half)) for half in halves]
    run = MarketMakerRun(instrument, rows, settings)
    mid2 = 0
    for hour in hours:
        for piece in run.feed(hour):
            mid2 = _last_mid2(piece.mids["mid2_ticks"].tolist(), mid2)
    for piece in run.finish():
        mid2 = _last_mid2(piece.mids["mid2_ticks"].tolist(), mid2)
    return [
        Score(half, _twice_gain(run, k, mid2), int(run.bench.world.strategies[k].fills))
        for k, half in enumerate(halves)
    ]


def with_symmetric_width(
    calibration: Calibration,
    hours: Iterable[Hour],
    instrument: Instrument,
    player: Contestant,
    settings: RunSettings | None = None,
) -> Calibration:
    """Calibration with the symmetric baseline's best width on the same part.

    Parameters
    ----------
    hours : iterable of Hour
        The calibrated part, and nothing of what is scored.
    """
    found = scores(candidates(calibration), hours, instrument, player, settings)
    return replace(calibration, symmetric_half_ticks=best(found).half_ticks)


def _last_mid2(mids: Sequence[int], before: int) -> int:
    return next((mid2 for mid2 in reversed(mids) if mid2 > 0), before)


def _twice_gain(run: MarketMakerRun, k: int, mid2: int) -> int:
    row = run.bench.world.strategies[k]
    held = int(row.position_lots) * mid2
    whole = int(row.flow_tick_lots) - int(row.fees) + int(row.rebates) + int(row.funding)
    parts = -int(row.fees_frac) + int(row.rebates_frac) + int(row.funding_frac)
    return FRACTION * (2 * whole + held) + 2 * parts
