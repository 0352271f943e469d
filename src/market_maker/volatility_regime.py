"""How much a market moves, and whether that is calm, normal, elevated or extreme.

Log mids are put on a fixed one-second grid, and realised volatility is taken from overlapping K-second
returns over a short, a medium and a long window: sigma = 1e4 * sqrt(sum r^2 / K / minutes covered), in bps
per square root of a minute. One-second returns understate what a quote is exposed to, so they serve only a
separate fast sigma for the micro guards. The signal is max(short, medium); the long horizon is the market's
own baseline. Source: realised variance with overlapping returns (models.md, section 7; design.md, section 5).
The grid holds whole numbers of 1e-8, so the running sums are exact: they cannot drift, whatever the uptime.

It refuses to guess: a gap resets the coverage, because a carried mid fakes a calm market; the last regime is
then held, and `is_warm` is false until the short horizon counts again. What is quoted meanwhile (as in
ELEVATED, with halved limits) is for the caller to decide.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS, NS_PER_S, Regime
from market_maker.kernel import Row, kernel, new_row

RING_S: Final = 2048  # grid samples kept; a power of two
_MASK: Final = RING_S - 1
_UNIT: Final = 1e-8  # log price of one grid unit, 1e-4 bps
_MAX_LOG: Final = 100.0
_MAX_RETURN: Final = 50_000_000  # half a log unit; its square, summed over a full ring, fits in 63 bits
_S_PER_MINUTE: Final = 60.0
_MIN_SEED_RETURNS: Final = 3
_SHORT, _MEDIUM, _LONG, _FAST, _HORIZONS = 0, 1, 2, 3, 4
_CALM: Final = int(Regime.CALM)
_NORMAL: Final = int(Regime.NORMAL)
_ELEVATED: Final = int(Regime.ELEVATED)
_EXTREME: Final = int(Regime.EXTREME)


def _require(*checks: tuple[bool, str, object]) -> None:
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
        _require(*((ok, f"{name} in whole seconds", vars(self)[name]) for name, ok in whole.items()))
        windows = (self.vol_short_window_s, self.vol_medium_window_s, self.vol_long_window_s)
        returns = (self.vol_short_return_s, self.vol_medium_return_s, self.vol_long_return_s)
        fast, gap = self.vol_fast_window_s, self.vol_gap_reset_s
        fits = all(1.0 <= k <= w / 2.0 and w + k < RING_S for w, k in zip(windows, returns, strict=True))
        _require(
            (fits, f"vol_*_return_s from 1 to half its window, both within {RING_S} s", (windows, returns)),
            (windows[0] <= windows[1] <= windows[2], "short <= medium <= long vol_*_window_s", windows),
            (2.0 <= fast < RING_S - 1, f"vol_fast_window_s from 2 to {RING_S - 2}", fast),
            (1.0 <= gap < RING_S, f"vol_gap_reset_s from 1 to {RING_S - 1}", gap),
        )


@dataclass(frozen=True)
class VolatilityRegimeSettings:
    """Settings of the classification; thresholds are in bps per square root of a minute.

    The thresholds ascend from above zero, the ratio is in (0, 1], the dwell not negative, or ValueError.
    """

    vol_regime_enabled: bool = True  # when false the regime is measured, but NORMAL for all scaling
    vol_regime_calm_bps: float = 5.0  # bps/sqrt(min), below: CALM
    vol_regime_elevated_bps: float = 25.0  # bps/sqrt(min), from here: ELEVATED
    vol_regime_extreme_bps: float = 60.0  # bps/sqrt(min), from here: EXTREME
    vol_regime_exit_ratio: float = 0.85  # a regime is left below this share of its threshold ...
    vol_regime_dwell_s: float = 20.0  # s, ... after so many observed seconds

    def __post_init__(self) -> None:
        bps = (self.vol_regime_calm_bps, self.vol_regime_elevated_bps, self.vol_regime_extreme_bps)
        ascend = 0.0 < bps[0] < bps[1] < bps[2] < math.inf
        ratio, dwell = self.vol_regime_exit_ratio, self.vol_regime_dwell_s
        _require(
            (ascend, "0 < vol_regime_calm_bps < vol_regime_elevated_bps < vol_regime_extreme_bps", bps),
            (0.0 < ratio <= 1.0, "vol_regime_exit_ratio in (0, 1]", ratio),
            (0.0 <= dwell < math.inf, "vol_regime_dwell_s of at least 0", dwell),
        )


@dataclass(frozen=True)
class RegimeScaleSettings:
    """Factors by which a regime scales what was set for NORMAL, where each is 1. EXTREME takes ELEVATED's.

    All are positive and a limit's is at most 1, or ValueError. The skew follows sigma already, so ELEVATED
    only adds urgency; its wider offset buys the time that a faster market takes, so its interval stays.
    """

    vol_offset_scale_calm: float = 0.7  # factor on offsets
    vol_offset_scale_elevated: float = 2.0  # factor on offsets
    vol_skew_scale_calm: float = 1.0  # factor on the inventory skew
    vol_skew_scale_elevated: float = 1.5  # factor on the inventory skew
    vol_limit_scale_calm: float = 1.0  # factor on the position limit, at most 1
    vol_limit_scale_elevated: float = 0.5  # factor on the position limit, at most 1
    vol_reprice_interval_scale_calm: float = 1.5  # factor on the least time between two reprices
    vol_reprice_interval_scale_elevated: float = 1.0  # factor on the least time between two reprices
    vol_order_age_scale_calm: float = 2.0  # factor on the age at which an order is renewed
    vol_order_age_scale_elevated: float = 0.5  # factor on the age at which an order is renewed

    def __post_init__(self) -> None:
        _require(*((0.0 < x < math.inf, f"{name} above 0", x) for name, x in vars(self).items()))
        limits = (self.vol_limit_scale_calm, self.vol_limit_scale_elevated)
        _require((max(limits) <= 1.0, "vol_limit_scale_* of at most 1", limits))


@dataclass
class VolatilityState:
    """State of one market. Arrays of four are by horizon (short, medium, long, fast) or by regime."""

    # Log mids on the grid, in 1e-8; sums of squared returns, in 1e-16.
    ring: Annotated[NDArray[np.int64], 2048] = field(default_factory=lambda: np.zeros(RING_S, np.int64))
    sums: Annotated[NDArray[np.int64], 4] = field(default_factory=lambda: np.zeros(4, np.int64))
    # Sigmas in use and from candles, in bps/sqrt(min), 0 without; observed seconds below a regime's exit.
    sigmas: Annotated[NDArray[np.float64], 4] = field(default_factory=lambda: np.zeros(4))
    seeds: Annotated[NDArray[np.float64], 4] = field(default_factory=lambda: np.zeros(4))
    below_s: Annotated[NDArray[np.int64], 4] = field(default_factory=lambda: np.zeros(4, np.int64))
    head: int = 0  # grid samples written, ever
    samples: int = 0  # grid samples since the last gap, at most RING_S
    second: int = 0  # second that the newest mid belongs to
    pending: int = 0  # newest log mid, 1e-8; enters the grid when its second ends
    has_mid: bool = False
    warm: bool = False
    regime_measured: int = _NORMAL
    regime_applied: int = _NORMAL


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
def current_regime(state: VolatilityState) -> int:
    """Regime to scale by, a value of `Regime`; NORMAL at first, and always where regimes are disabled."""
    return int(state.regime_applied)


@kernel
def measured_regime(state: VolatilityState) -> int:
    """Regime of the market as measured, a value of `Regime`, whether or not it is used."""
    return int(state.regime_measured)


@kernel
def _threshold_bps(settings: VolatilityRegimeSettings, regime: int) -> float:
    if regime == _NORMAL:
        return settings.vol_regime_calm_bps
    if regime == _ELEVATED:
        return settings.vol_regime_elevated_bps
    return settings.vol_regime_extreme_bps


@kernel
def _classify(settings: VolatilityRegimeSettings, state: VolatilityState) -> None:
    """Rise at once; leave a regime after the dwell time below its exit. Monotone in the path of sigma."""
    sigma = sigma_bps(state)
    measured = _CALM
    for regime in range(_NORMAL, _EXTREME + 1):
        threshold = _threshold_bps(settings, regime)
        is_below = sigma < settings.vol_regime_exit_ratio * threshold
        state.below_s[regime] = state.below_s[regime] + 1 if is_below else 0
        rests = not is_below or state.below_s[regime] < settings.vol_regime_dwell_s
        if sigma >= threshold or (rests and regime <= state.regime_measured):
            measured = regime
    state.regime_measured = measured
    state.regime_applied = measured if settings.vol_regime_enabled else _NORMAL


@kernel
def _advance(
    settings: VolatilitySettings, regime_settings: VolatilityRegimeSettings, state: VolatilityState
) -> None:
    """End a second: the mid that stood last becomes its grid sample."""
    state.ring[state.head & _MASK] = state.pending
    state.head += 1
    state.samples = min(state.samples + 1, RING_S)
    for horizon in range(_HORIZONS):
        _roll(settings, state, horizon)
    _refresh(settings, state)
    if state.warm:
        _classify(regime_settings, state)


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
def update(
    settings: VolatilitySettings,
    regime_settings: VolatilityRegimeSettings,
    state: VolatilityState,
    log_mid: float,
    now_ns: int,
) -> None:
    """Take the logarithm of a mid in; the grid advances as seconds end, whatever the update rate.

    One that is not finite, or of an earlier second, is ignored. A step of the clock by more than the gap
    setting, to either side, starts the coverage anew.
    """
    if not (math.isfinite(log_mid) and abs(log_mid) <= _MAX_LOG):
        return
    second = now_ns // NS_PER_S
    elapsed_s = second - state.second
    if not state.has_mid or abs(elapsed_s) > settings.vol_gap_reset_s:
        _forget(settings, state)
    elif elapsed_s < 0:
        return
    else:
        for _ in range(elapsed_s):
            _advance(settings, regime_settings, state)
    state.second = second
    state.pending = math.floor(log_mid / _UNIT + 0.5)


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
def seed(
    settings: VolatilitySettings,
    regime_settings: VolatilityRegimeSettings,
    state: VolatilityState,
    closes: NDArray[np.float64],
    n: int,
) -> None:
    """Make a cold state warm from the first `n` one-minute closes, oldest first.

    Each horizon uses its seed until its own coverage counts. Closes that are not positive and finite are
    passed over. A state whose short horizon counts on live mids is left alone.
    """
    if _returns_counted(settings, state, _SHORT) > 0:
        return
    for horizon in range(_HORIZONS):
        minutes = int(_window_and_return_s(settings, horizon)[0] / _S_PER_MINUTE)
        count = min(n, closes.size)
        state.seeds[horizon] = _candle_sigma_bps(closes, count, max(_MIN_SEED_RETURNS, minutes))
    _refresh(settings, state)
    if state.warm:
        # Candles up to now say more than a regime held over a gap, so nothing is held here.
        state.regime_measured = _CALM
        _classify(regime_settings, state)


@kernel
def _pick(regime: int, calm: float, elevated: float) -> float:
    if regime == _CALM:
        return calm
    return 1.0 if regime == _NORMAL else elevated


@kernel
def offset_scale(scales: RegimeScaleSettings, regime: int) -> float:
    """Factor on offsets in a regime."""
    return _pick(regime, scales.vol_offset_scale_calm, scales.vol_offset_scale_elevated)


@kernel
def skew_scale(scales: RegimeScaleSettings, regime: int) -> float:
    """Factor on the inventory skew in a regime."""
    return _pick(regime, scales.vol_skew_scale_calm, scales.vol_skew_scale_elevated)


@kernel
def limit_scale(scales: RegimeScaleSettings, regime: int) -> float:
    """Factor on the position limit in a regime, at most 1."""
    return _pick(regime, scales.vol_limit_scale_calm, scales.vol_limit_scale_elevated)


@kernel
def reprice_interval_scale(scales: RegimeScaleSettings, regime: int) -> float:
    """Factor on the least time between two reprices in a regime."""
    return _pick(regime, scales.vol_reprice_interval_scale_calm, scales.vol_reprice_interval_scale_elevated)


@kernel
def order_age_scale(scales: RegimeScaleSettings, regime: int) -> float:
    """Factor on the age at which an order is renewed in a regime."""
    return _pick(regime, scales.vol_order_age_scale_calm, scales.vol_order_age_scale_elevated)


@kernel
def _update_row(settings: Row, regime_settings: Row, state: Row, log_mid: float, now_ns: int) -> None:
    update(settings[0], regime_settings[0], state[0], log_mid, now_ns)


class VolatilityReading(NamedTuple):
    """What the instrument shows. Sigmas are in bps per square root of a minute."""

    regime: Regime
    measured: Regime
    sigma_bps: float
    sigma_fast_bps: float
    sigma_long_bps: float
    is_warm: bool


class VolatilityRegime:
    """Volatility of one market on the bench: feed it mids, read the regime and what it scales.

    Examples
    --------
    >>> vol = VolatilityRegime()
    >>> for second in range(60):
    ...     vol.update(100.0 + 0.05 * (second % 2), second * 1_000_000_000)
    >>> vol.get().is_warm, vol.get().regime.name, vol.scale_offsets(Regime.ELEVATED)
    (True, 'NORMAL', 2.0)
    """

    def __init__(
        self,
        settings: VolatilitySettings | None = None,
        regime_settings: VolatilityRegimeSettings | None = None,
        scales: RegimeScaleSettings | None = None,
    ) -> None:
        self._settings = new_row(settings or VolatilitySettings())
        self._regime_settings = new_row(regime_settings or VolatilityRegimeSettings())
        self._scales = new_row(scales or RegimeScaleSettings())
        self.state = new_row(VolatilityState())

    def update(self, mid: float, now_ns: int) -> None:
        """Take a mid price in; one that is not positive is ignored."""
        if mid > 0.0:
            _update_row(self._settings, self._regime_settings, self.state, math.log(mid), now_ns)

    def seed(self, closes: NDArray[np.float64]) -> None:
        """Make it warm from one-minute closes, oldest first."""
        seed(self._settings[0], self._regime_settings[0], self.state[0], closes, closes.size)

    def get(self) -> VolatilityReading:
        """Return the latest reading."""
        state = self.state[0]
        regimes = Regime(current_regime(state)), Regime(measured_regime(state))
        sigmas = sigma_bps(state), sigma_fast_bps(state), sigma_long_bps(state)
        return VolatilityReading(*regimes, *sigmas, is_warm(state))

    def scale_offsets(self, regime: Regime) -> float:
        """Factor on offsets."""
        return offset_scale(self._scales[0], int(regime))

    def scale_thresholds(self, regime: Regime) -> float:
        """Factor on a static limit in bps: it stays in proportion to the offset that it protects."""
        return self.scale_offsets(regime)

    def scale_skew(self, regime: Regime) -> float:
        """Factor on the inventory skew."""
        return skew_scale(self._scales[0], int(regime))

    def scale_limits(self, regime: Regime) -> float:
        """Factor on the position limit, at most 1."""
        return limit_scale(self._scales[0], int(regime))

    def scale_reprice_interval(self, regime: Regime) -> float:
        """Factor on the least time between two reprices."""
        return reprice_interval_scale(self._scales[0], int(regime))

    def scale_order_age(self, regime: Regime) -> float:
        """Factor on the age at which an order is renewed."""
        return order_age_scale(self._scales[0], int(regime))
