"""Whether a market is calm, normal, elevated or extreme, and by what that scales the strategy.

A regime is entered at once when the volatility signal reaches its threshold, and left after a dwell time
below a share of it, so that a market on the edge does not flap. It is looked at once for every second of the
estimator's grid. Each regime scales offsets, skew, limits, intervals and ages; thresholds in bps follow the
offsets that they protect.

While volatility does not count (`realised_volatility.is_warm` is false), the last regime is held. What is
quoted meanwhile (as in ELEVATED, with halved limits) is for the caller to decide.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker import realised_volatility
from market_maker.domain import Regime
from market_maker.kernel import Row, kernel, new_row
from market_maker.realised_volatility import VolatilitySettings, VolatilityState, require

_CALM: Final = int(Regime.CALM)
_NORMAL: Final = int(Regime.NORMAL)
_ELEVATED: Final = int(Regime.ELEVATED)
_EXTREME: Final = int(Regime.EXTREME)


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
        require(
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
        require(*((0.0 < x < math.inf, f"{name} above 0", x) for name, x in vars(self).items()))
        limits = (self.vol_limit_scale_calm, self.vol_limit_scale_elevated)
        require((max(limits) <= 1.0, "vol_limit_scale_* of at most 1", limits))


@dataclass
class RegimeState:
    """Regime of one market, as measured and as applied."""

    # By regime: observed seconds below its exit.
    below_s: Annotated[NDArray[np.int64], 4] = field(default_factory=lambda: np.zeros(4, np.int64))
    regime_measured: int = _NORMAL
    regime_applied: int = _NORMAL


@kernel
def current_regime(state: RegimeState) -> int:
    """Regime to scale by, a value of `Regime`; NORMAL at first, and always where regimes are disabled."""
    return int(state.regime_applied)


@kernel
def measured_regime(state: RegimeState) -> int:
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
def _classify(settings: VolatilityRegimeSettings, state: RegimeState, sigma: float) -> None:
    """Rise at once; leave a regime after the dwell time below its exit. Monotone in the path of sigma."""
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
def update(
    settings: VolatilitySettings,
    regime_settings: VolatilityRegimeSettings,
    volatility: VolatilityState,
    regime: RegimeState,
    log_mid: float,
    now_ns: int,
) -> None:
    """Take the logarithm of a mid in, and look at the regime after every second that it ends."""
    while realised_volatility.advance(settings, volatility, log_mid, now_ns):
        if realised_volatility.is_warm(volatility):
            _classify(regime_settings, regime, realised_volatility.sigma_bps(volatility))


@kernel
def seed(
    settings: VolatilitySettings,
    regime_settings: VolatilityRegimeSettings,
    volatility: VolatilityState,
    regime: RegimeState,
    closes: NDArray[np.float64],
    n: int,
) -> None:
    """Make a cold estimator warm from the first `n` one-minute closes, and take the regime that they show."""
    if realised_volatility.seed(settings, volatility, closes, n):
        # Candles up to now say more than a regime held over a gap, so nothing is held here.
        regime.regime_measured = _CALM
        _classify(regime_settings, regime, realised_volatility.sigma_bps(volatility))


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
def _update_rows(rows: tuple[Row, Row, Row, Row], log_mid: float, now_ns: int) -> None:
    settings, regime_settings, volatility, regime = rows
    update(settings[0], regime_settings[0], volatility[0], regime[0], log_mid, now_ns)


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
        self._scales = new_row(scales or RegimeScaleSettings())
        self.volatility = new_row(VolatilityState())
        self.regime = new_row(RegimeState())
        set_up = (
            new_row(settings or VolatilitySettings()),
            new_row(regime_settings or VolatilityRegimeSettings()),
        )
        self._rows = (*set_up, self.volatility, self.regime)

    def update(self, mid: float, now_ns: int) -> None:
        """Take a mid price in; one that is not positive is ignored."""
        if mid > 0.0:
            _update_rows(self._rows, math.log(mid), now_ns)

    def seed(self, closes: NDArray[np.float64]) -> None:
        """Make it warm from one-minute closes, oldest first."""
        settings, regime_settings, volatility, regime = self._rows
        seed(settings[0], regime_settings[0], volatility[0], regime[0], closes, closes.size)

    def get(self) -> VolatilityReading:
        """Return the latest reading."""
        state, volatility = self.regime[0], self.volatility[0]
        return VolatilityReading(
            Regime(current_regime(state)),
            Regime(measured_regime(state)),
            realised_volatility.sigma_bps(volatility),
            realised_volatility.sigma_fast_bps(volatility),
            realised_volatility.sigma_long_bps(volatility),
            realised_volatility.is_warm(volatility),
        )

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
