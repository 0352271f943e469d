"""How much a market moves, by horizon: realised volatility on a one-second grid.

Log mids are put on a fixed one-second grid, and realised volatility is taken from overlapping K-second
returns over a short, a medium and a long window: sigma = 1e4 * sqrt(sum r^2 / K / minutes covered), in bps
per square root of a minute. One-second returns understate what a quote is exposed to, so they serve only a
separate fast sigma for the micro guards. The signal is max(short, medium); the long horizon is the market's
own baseline. Source: realised variance with overlapping returns (models.md, section 7; design.md, section 5).
The grid holds whole numbers of 1e-8, so the running sums are exact: they cannot drift, whatever the uptime.

It refuses to guess: a gap resets the coverage, because a carried mid fakes a calm market, and `is_warm` is
false until the short horizon counts again. One-minute candles may seed it over a start.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS, NS_PER_S
from market_maker.kernel import kernel

RING_S: Final = 2048  # grid samples kept; a power of two
_MASK: Final = RING_S - 1
_UNIT: Final = 1e-8  # log price of one grid unit, 1e-4 bps
_MAX_LOG: Final = 100.0
_MAX_RETURN: Final = 50_000_000  # half a log unit; its square, summed over a full ring, fits in 63 bits
_S_PER_MINUTE: Final = 60.0
_MIN_SEED_RETURNS: Final = 3
_SHORT, _MEDIUM, _LONG, _FAST, _HORIZONS = 0, 1, 2, 3, 4


def require(*checks: tuple[bool, str, object]) -> None:
    """Raise ValueError for the first check that does not hold; each names what was expected and what was."""
    for holds, expected, was in checks:
        if not holds:
            msg = f"expected {expected}, was {was}"
            raise ValueError(msg)


@dataclass(frozen=True)
class VolatilitySettings:
    """Settings of the estimator; all in whole seconds, or ValueError.

    The windows ascend, hold at least two return intervals each, and fit in the ring with one.
    """

    vol_short_window_s: float = 60.0  # s, the horizon that makes the state warm
    vol_medium_window_s: float = 300.0  # s
    vol_long_window_s: float = 900.0  # s, the market's own baseline
    vol_fast_window_s: float = 30.0  # s, of one-second returns, for the micro guards
    vol_short_return_s: float = 5.0  # s, K of the short window
    vol_medium_return_s: float = 15.0  # s, K of the medium window
    vol_long_return_s: float = 30.0  # s, K of the long window
    vol_gap_reset_s: float = 15.0  # s without an update after which the coverage starts anew

    def __post_init__(self) -> None:
        whole = {name: float(value).is_integer() for name, value in vars(self).items()}
        require(*((ok, f"{name} in whole seconds", vars(self)[name]) for name, ok in whole.items()))
        windows = (self.vol_short_window_s, self.vol_medium_window_s, self.vol_long_window_s)
        returns = (self.vol_short_return_s, self.vol_medium_return_s, self.vol_long_return_s)
        fast, gap = self.vol_fast_window_s, self.vol_gap_reset_s
        fits = all(1.0 <= k <= w / 2.0 and w + k < RING_S for w, k in zip(windows, returns, strict=True))
        require(
            (fits, f"vol_*_return_s from 1 to half its window, both within {RING_S} s", (windows, returns)),
            (windows[0] <= windows[1] <= windows[2], "short <= medium <= long vol_*_window_s", windows),
            (2.0 <= fast < RING_S - 1, f"vol_fast_window_s from 2 to {RING_S - 2}", fast),
            (1.0 <= gap < RING_S, f"vol_gap_reset_s from 1 to {RING_S - 1}", gap),
        )


@dataclass
class VolatilityState:
    """State of the estimator. Arrays of four are by horizon: short, medium, long, fast."""

    # Log mids on the grid, in 1e-8; sums of squared returns, in 1e-16.
    ring: Annotated[NDArray[np.int64], 2048] = field(default_factory=lambda: np.zeros(RING_S, np.int64))
    sums: Annotated[NDArray[np.int64], 4] = field(default_factory=lambda: np.zeros(4, np.int64))
    # Sigmas in use and from candles, in bps/sqrt(min), 0 without.
    sigmas: Annotated[NDArray[np.float64], 4] = field(default_factory=lambda: np.zeros(4))
    seeds: Annotated[NDArray[np.float64], 4] = field(default_factory=lambda: np.zeros(4))
    head: int = 0  # grid samples written, ever
    samples: int = 0  # grid samples since the last gap, at most RING_S
    second: int = 0  # second that the newest mid belongs to
    pending: int = 0  # newest log mid, 1e-8; enters the grid when its second ends
    has_mid: bool = False
    warm: bool = False


@kernel
def _window_and_return_s(settings: VolatilitySettings, horizon: int) -> tuple[int, int]:
    if horizon == _SHORT:
        return int(settings.vol_short_window_s), int(settings.vol_short_return_s)
    if horizon == _MEDIUM:
        return int(settings.vol_medium_window_s), int(settings.vol_medium_return_s)
    if horizon == _LONG:
        return int(settings.vol_long_window_s), int(settings.vol_long_return_s)
    return int(settings.vol_fast_window_s), 1


@kernel
def _squared_return(state: VolatilityState, newer: int, return_s: int) -> int:
    move = state.ring[newer & _MASK] - state.ring[(newer - return_s) & _MASK]
    bounded = max(-_MAX_RETURN, min(_MAX_RETURN, move))
    return int(bounded * bounded)


@kernel
def _roll(settings: VolatilitySettings, state: VolatilityState, horizon: int) -> None:
    """Take the return that ends at the newest sample into a sum, and the one that left the window out."""
    window_s, return_s = _window_and_return_s(settings, horizon)
    newest = state.head - 1
    if state.samples > return_s:
        state.sums[horizon] += _squared_return(state, newest, return_s)
    if state.samples > window_s + return_s:
        state.sums[horizon] -= _squared_return(state, newest - window_s, return_s)


@kernel
def _returns_counted(settings: VolatilitySettings, state: VolatilityState, horizon: int) -> int:
    """Returns of a horizon that covers half its window; 0 for one that does not count yet."""
    window_s, return_s = _window_and_return_s(settings, horizon)
    returns = min(state.samples - return_s, window_s)
    return int(returns) if 2 * returns >= window_s else 0


@kernel
def _refresh(settings: VolatilitySettings, state: VolatilityState) -> None:
    """Compute the sigmas: a horizon uses its seed until it counts."""
    for horizon in range(_HORIZONS):
        returns = _returns_counted(settings, state, horizon)
        if returns > 0:
            return_s = _window_and_return_s(settings, horizon)[1]
            variance = state.sums[horizon] / return_s / (returns / _S_PER_MINUTE)
            state.sigmas[horizon] = BPS * _UNIT * math.sqrt(variance)
        else:
            state.sigmas[horizon] = state.seeds[horizon]
    state.warm = _returns_counted(settings, state, _SHORT) > 0 or state.seeds[_SHORT] > 0.0


@kernel
def sigma_bps(state: VolatilityState) -> float:
    """Volatility signal, max(short, medium), in bps per square root of a minute; 0 when nothing counts."""
    return float(max(state.sigmas[_SHORT], state.sigmas[_MEDIUM]))


@kernel
def sigma_fast_bps(state: VolatilityState) -> float:
    """Volatility of one-second returns, in bps per square root of a minute; 0 when it does not count."""
    return float(state.sigmas[_FAST])


@kernel
def sigma_long_bps(state: VolatilityState) -> float:
    """Baseline from the longest horizon that counts, in bps per square root of a minute; 0 if none does."""
    if state.sigmas[_LONG] > 0.0:
        return float(state.sigmas[_LONG])
    if state.sigmas[_MEDIUM] > 0.0:
        return float(state.sigmas[_MEDIUM])
    return float(state.sigmas[_SHORT])


@kernel
def is_warm(state: VolatilityState) -> bool:
    """Whether the short horizon covers half its window, or the state was seeded."""
    return bool(state.warm)


@kernel
def _end_second(settings: VolatilitySettings, state: VolatilityState) -> None:
    """The mid that stood last becomes the grid sample of its second."""
    state.ring[state.head & _MASK] = state.pending
    state.head += 1
    state.second += 1
    state.samples = min(state.samples + 1, RING_S)
    for horizon in range(_HORIZONS):
        _roll(settings, state, horizon)
    _refresh(settings, state)


@kernel
def _forget(settings: VolatilitySettings, state: VolatilityState) -> None:
    """Start the coverage anew. Seeds describe the time before the first mid, so a later gap ends them too."""
    state.samples = 0
    for horizon in range(_HORIZONS):
        state.sums[horizon] = 0
        if state.has_mid:
            state.seeds[horizon] = 0.0
    state.has_mid = True
    _refresh(settings, state)


@kernel
def advance(settings: VolatilitySettings, state: VolatilityState, log_mid: float, now_ns: int) -> bool:
    """Take the logarithm of a mid in, or end one second before it: then true, and to be called again.

    So a caller sees every second of the grid, whatever the update rate. A mid that is not finite, or of an
    earlier second, is ignored. A step of the clock by more than the gap setting, to either side, starts the
    coverage anew.
    """
    if not (math.isfinite(log_mid) and abs(log_mid) <= _MAX_LOG):
        return False
    second = now_ns // NS_PER_S
    elapsed_s = second - state.second
    if not state.has_mid or abs(elapsed_s) > settings.vol_gap_reset_s:
        _forget(settings, state)
    elif elapsed_s < 0:
        return False
    elif elapsed_s > 0:
        _end_second(settings, state)
        return True
    state.second = second
    state.pending = math.floor(log_mid / _UNIT + 0.5)
    return False


@kernel
def _candle_sigma_bps(closes: NDArray[np.float64], n: int, minutes: int) -> float:
    """Root mean square of the last one-minute returns that are sound, in bps; 0 without any."""
    squares = 0.0
    used = 0
    for i in range(max(1, n - minutes), n):
        older, newer = closes[i - 1], closes[i]
        if 0.0 < older < math.inf and 0.0 < newer < math.inf:
            squares += (math.log(newer) - math.log(older)) ** 2
            used += 1
    return BPS * math.sqrt(squares / used) if used > 0 else 0.0


@kernel
def seed(settings: VolatilitySettings, state: VolatilityState, closes: NDArray[np.float64], n: int) -> bool:
    """Make a cold state warm from the first `n` one-minute closes, oldest first; return whether it was.

    Each horizon uses its seed until its own coverage counts. Closes that are not positive and finite are
    passed over. A state whose short horizon counts on live mids is left alone.
    """
    if _returns_counted(settings, state, _SHORT) > 0:
        return False
    for horizon in range(_HORIZONS):
        minutes = int(_window_and_return_s(settings, horizon)[0] / _S_PER_MINUTE)
        count = min(n, closes.size)
        state.seeds[horizon] = _candle_sigma_bps(closes, count, max(_MIN_SEED_RETURNS, minutes))
    _refresh(settings, state)
    return bool(state.warm)
