"""How wide the market is, smoothed: what dynamic offsets are a multiple of.

By time, a spread counts for as long as it was in force, so that a burst of updates weighs no more than one
update. By samples, as the legacy profile has it, each update has the same weight.
"""

import math
from dataclasses import dataclass

from market_maker.domain import NS_PER_S
from market_maker.kernel import kernel


@dataclass(frozen=True)
class SpreadEmaSettings:
    """Smoothing of the market's spread."""

    spread_ema_s: float = 10.0  # s, time constant
    spread_ema_alpha: float = 0.0  # weight of each sample instead of the time constant; 0: by time


@dataclass
class SpreadEmaState:
    """Smoothed spread of one market."""

    spread_bps: float = 0.0  # bps, smoothed
    held_bps: float = 0.0  # bps, in force since last_ns
    last_ns: int = 0
    started: bool = False


@kernel
def update(settings: SpreadEmaSettings, state: SpreadEmaState, spread_bps: float, now_ns: int) -> None:
    """Take a spread in. By time, a spread counts for as long as it was in force, whatever the update rate."""
    if not math.isfinite(spread_bps) or spread_bps < 0.0:
        return
    if not state.started:
        state.spread_bps = spread_bps
        state.started = True
    elif settings.spread_ema_alpha > 0.0:
        state.spread_bps += min(settings.spread_ema_alpha, 1.0) * (spread_bps - state.spread_bps)
    else:
        elapsed_s = float(max(now_ns - state.last_ns, 0)) / NS_PER_S
        alpha = -math.expm1(-elapsed_s / max(settings.spread_ema_s, 1e-3))
        state.spread_bps += alpha * (state.held_bps - state.spread_bps)
    state.held_bps = spread_bps
    state.last_ns = max(now_ns, state.last_ns)
