"""Dangers of resting a quote on one side right now: range, drift, jump, imbalance, a narrow spread.

Three looks at the mid: how far it ran inside the last seconds (range), how far it stands from where it was
(drift), and whether it leapt within the time that an order of ours takes to move (jump). A limit in basis
points cannot suit both a major and a wild alt, so RELATIVE mode measures in the market's own baseline σ (bps
per √minute): in T seconds a Brownian mid ranges over 1.596·σ·√(T/60) and moves by 0.798·σ·√(T/60) on average
(Feller 1951); the limit is k times that, at least two ticks. A rise threatens the asks, a fall the bids: the
threatened side is widened, and pulled where the move is far above its limit. STATIC mode is the behaviour of
the requirements' §1.1: fixed limits, both sides pulled.

The mid is sampled every 100 ms, so that memory and cost do not depend on the update rate and a flicker
between two samples leaves no trace; without an update it stays in force. The guard knows no position: whether
the reducing side stays is the pipeline's business. Nor does it estimate σ: until a baseline exists the caller
passes a stand-in, since σ = 0 means a market that never moves and leaves two ticks as the limit.
"""

import math
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS, NS_PER_MS, NS_PER_S, Reason, Regime, Side
from market_maker.kernel import kernel, new_row

GRID_NS: Final = 100 * NS_PER_MS
GRID_S: Final = GRID_NS / NS_PER_S
GRID_SLOTS: Final = 256
MAX_WINDOW_S: Final = (GRID_SLOTS - 1) * GRID_S

RANGE_PER_SIGMA: Final = 1.5957691216057308  # E[max − min] = √(8/π)·σ·√t
MOVE_PER_SIGMA: Final = 0.7978845608028654  # E|x(t) − x(0)| = √(2/π)·σ·√t
_FLOOR_TICKS: Final = 2.0


class ToxicityMode(IntEnum):
    """How the limits of range and drift are set."""

    RELATIVE = 0
    STATIC = 1


def _require(settings: dict[str, Any], low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= settings[name] <= high:
            msg = f"{name}: expected {low:g} to {high:g}, was {settings[name]!r}"
            raise ValueError(msg)


@dataclass(frozen=True)
class ToxicitySettings:
    """Limits of range and drift. ValueError out of bounds: a window must fit the grid."""

    toxicity_enabled: bool = True
    toxicity_mode: ToxicityMode = ToxicityMode.RELATIVE
    micro_vol_window_s: float = 5.0  # s, of the range
    micro_drift_window_s: float = 3.0  # s, of the drift
    micro_vol_k: float = 1.5  # limit of the range, in expected ranges (RELATIVE)
    micro_drift_k: float = 3.0  # limit of the drift, in expected absolute moves (RELATIVE)
    toxicity_pull_ratio: float = 2.0  # pulled above this many limits (RELATIVE)
    micro_drift_trend_tolerance: float = 1.5  # factor on the drift limit of the side that a trend favours
    micro_vol_max_bps: float = 8.0  # bps (STATIC)
    micro_drift_max_bps: float = 6.0  # bps (STATIC)
    toxicity_hard_pause_ratio: float = 1.25  # paused above this many limits (STATIC)
    volatility_offset_multiplier: float = 0.35  # extra offset per bp of excess over a limit

    def __post_init__(self) -> None:
        _require(vars(self), GRID_S, MAX_WINDOW_S, "micro_vol_window_s", "micro_drift_window_s")
        _require(vars(self), 1.0, 1e3, "toxicity_pull_ratio", "toxicity_hard_pause_ratio")
        _require(vars(self), 1.0, 1e3, "micro_drift_trend_tolerance")
        _require(vars(self), 0.0, 1e6, "micro_vol_k", "micro_drift_k", "volatility_offset_multiplier")
        _require(vars(self), 0.0, 1e6, "micro_vol_max_bps", "micro_drift_max_bps")


@dataclass(frozen=True)
class JumpSettings:
    """When a move within one order latency is a jump; ignored in STATIC mode. ValueError out of bounds."""

    jump_enabled: bool = True
    jump_sigmas: float = 8.0  # of the fast volatility over the latency
    jump_min_ticks: float = 3.0  # ticks, smallest move that counts
    jump_hold_s: float = 2.0  # s, for which the threatened side stays pulled

    def __post_init__(self) -> None:
        _require(vars(self), 0.0, 1e3, "jump_sigmas", "jump_min_ticks", "jump_hold_s")


@dataclass(frozen=True)
class ImbalanceSettings:
    """When a one-sided book pauses the side that it threatens. ValueError out of bounds."""

    imbalance_enabled: bool = True
    imbalance_window_s: float = 10.0  # s, time constant of the average
    imbalance_threshold: float = 0.9  # of (bids − asks) / (bids + asks)

    def __post_init__(self) -> None:
        _require(vars(self), 1e-3, 3600.0, "imbalance_window_s")
        _require(vars(self), 0.0, 1.0, "imbalance_threshold")


@dataclass(frozen=True)
class SpreadGuardSettings:
    """Narrowest market spread in which we quote; 0 accepts a locked book. ValueError out of bounds."""

    min_spread_bps: float = 0.0  # bps

    def __post_init__(self) -> None:
        _require(vars(self), 0.0, 1e4, "min_spread_bps")


@dataclass
class MarketView:
    """What the guard needs to know of the market; the caller keeps it up to date."""

    sigma_bps: float = 0.0  # bps/√minute, the market's own baseline
    sigma_fast_bps: float = 0.0  # bps/√minute, from one-second returns
    latency_s: float = 0.0  # s, from a decision to the exchange
    tick_bps: float = 0.0  # bps, one tick
    trend_direction: int = 0  # of domain.Direction
    trend_strong: bool = False
    regime: int = int(Regime.NORMAL)  # of domain.Regime


def _ring() -> NDArray[np.float64]:
    return np.zeros(GRID_SLOTS, np.float64)


@dataclass
class ToxicityState:
    """The last seconds of one market's mid, its smoothed imbalance, and the holds after jumps."""

    started: bool = False
    slot: int = 0  # grid slot of the last update
    log_mid: float = 0.0  # in force now
    closes: Annotated[NDArray[np.float64], GRID_SLOTS] = field(default_factory=_ring)  # at each slot's end
    imbalance: float = 0.0  # average, −1 to 1; positive when bids are heavy
    imbalance_held: float = 0.0  # in force since imbalance_ns
    imbalance_ns: int = 0
    sell_pulled_until_ns: int = 0  # after a jump up
    buy_pulled_until_ns: int = 0  # after a jump down


@kernel
def _window_slots(window_s: float) -> int:
    return max(1, int(min(max(window_s, 0.0), MAX_WINDOW_S) / GRID_S + 0.5))


@kernel
def _slot_at(state: ToxicityState, now_ns: int) -> int:
    return max(state.slot, now_ns // GRID_NS)


@kernel
def _update_mid(state: ToxicityState, log_mid: float, now_ns: int) -> None:
    if not math.isfinite(log_mid):
        return
    slot = _slot_at(state, now_ns)
    if not state.started:
        # Before the first mid nothing is known to have moved.
        state.started, state.log_mid, state.slot = True, log_mid, slot - GRID_SLOTS
    for i in range(max(state.slot + 1, slot - GRID_SLOTS + 1), slot):
        state.closes[i % GRID_SLOTS] = state.log_mid
    state.closes[slot % GRID_SLOTS] = log_mid
    state.slot = slot
    state.log_mid = log_mid


@kernel
def _update_imbalance(
    settings: ImbalanceSettings, state: ToxicityState, bid_lots: int, ask_lots: int, now_ns: int
) -> None:
    if bid_lots < 0 or ask_lots < 0 or bid_lots + ask_lots == 0:
        return
    if state.imbalance_ns > 0 and now_ns > state.imbalance_ns:
        elapsed_s = float(now_ns - state.imbalance_ns) / NS_PER_S
        kept = math.exp(-elapsed_s / max(settings.imbalance_window_s, 1e-3))
        # The value that was in force counts, for as long as it was: one odd frame cannot fill a silence.
        state.imbalance = state.imbalance_held + (state.imbalance - state.imbalance_held) * kept
    state.imbalance_held = float(bid_lots - ask_lots) / float(bid_lots + ask_lots)
    state.imbalance_ns = max(state.imbalance_ns, now_ns)


@kernel
def update(  # noqa: PLR0913 (one book frame is two settings, the state and four plain values)
    settings: ToxicitySettings,
    imbalance_settings: ImbalanceSettings,
    state: ToxicityState,
    log_mid: float,
    bid_depth_lots: int,
    ask_depth_lots: int,
    now_ns: int,
) -> None:
    """Advance the guard by one book frame.

    `log_mid` is the logarithm of the mid in any unit; the depths are sizes at and near the best prices. A mid
    that is not finite, or a book without depth, leaves its estimate as it was.
    """
    _update_mid(state, log_mid, now_ns)
    _update_imbalance(imbalance_settings, state, bid_depth_lots, ask_depth_lots, now_ns)


@kernel
def excursions_bps(settings: ToxicitySettings, state: ToxicityState, now_ns: int) -> tuple[float, float]:
    """Rise from the range window's lowest mid and fall from its highest, bps ≥ 0; their sum is the range."""
    mid = lowest = highest = float(state.log_mid)
    closes = state.closes
    oldest = _slot_at(state, now_ns) - _window_slots(settings.micro_vol_window_s)
    for i in range(oldest, state.slot):
        close = closes[i % GRID_SLOTS]
        lowest = min(lowest, close)
        highest = max(highest, close)
    return float(mid - lowest) * BPS, float(highest - mid) * BPS


@kernel
def _move_bps(state: ToxicityState, slots: int, now_ns: int) -> float:
    then = _slot_at(state, now_ns) - slots
    if then >= state.slot:
        return 0.0
    return float(state.log_mid - state.closes[then % GRID_SLOTS]) * BPS


@kernel
def drift_bps(settings: ToxicitySettings, state: ToxicityState, now_ns: int) -> float:
    """Mid now less the mid one drift window ago, bps."""
    return _move_bps(state, _window_slots(settings.micro_drift_window_s), now_ns)


@kernel
def limit_bps(sigma_bps: float, window_s: float, multiple: float, floor_bps: float) -> float:
    """Limit of a relative check: a multiple of σ·√(window in minutes), at least the floor, bps."""
    return max(multiple * sigma_bps * math.sqrt(max(window_s, 0.0) / 60.0), floor_bps)


@kernel
def _view_is_sound(view: MarketView) -> bool:
    total = view.sigma_bps + view.sigma_fast_bps + view.latency_s + view.tick_bps
    lowest = min(view.sigma_bps, view.sigma_fast_bps, view.latency_s, view.tick_bps)
    return math.isfinite(total) and lowest >= 0.0


@kernel
def _watch_jumps(jump: JumpSettings, state: ToxicityState, view: MarketView, now_ns: int) -> None:
    slots = max(1, math.ceil(min(view.latency_s, MAX_WINDOW_S) / GRID_S - 1e-9))
    # A calm minute leaves next to no fast volatility, and the first ordinary move after it is no jump: the
    # fast one alone saw two to six times as many jumps in the recordings.
    sigma_bps = max(view.sigma_fast_bps, view.sigma_bps)
    threshold = limit_bps(sigma_bps, slots * GRID_S, jump.jump_sigmas, jump.jump_min_ticks * view.tick_bps)
    move = _move_bps(state, slots, now_ns)
    until_ns = now_ns + int(jump.jump_hold_s * NS_PER_S)
    if move > threshold:
        state.sell_pulled_until_ns = until_ns
    elif move < -threshold:
        state.buy_pulled_until_ns = until_ns


@kernel
def _jump_held(state: ToxicityState, side: int, now_ns: int) -> bool:
    until_ns = state.sell_pulled_until_ns if side == Side.SELL else state.buy_pulled_until_ns
    return now_ns < until_ns


@kernel
def _drift_tolerance(
    settings: ToxicitySettings, state: ToxicityState, view: MarketView, side: int, now_ns: int
) -> float:
    jumped = now_ns < max(state.sell_pulled_until_ns, state.buy_pulled_until_ns)
    if view.trend_strong and view.trend_direction == side and view.regime != Regime.EXTREME and not jumped:
        return settings.micro_drift_trend_tolerance
    return 1.0


@kernel
def _judge(
    width: float, width_limit: float, drift: float, drift_limit: float, ratio: float, multiplier: float
) -> tuple[int, float]:
    # Range and drift see the same move: the larger excess counts, not their sum.
    extra_bps = float(multiplier * max(0.0, width - width_limit, drift - drift_limit))
    if width > ratio * width_limit:
        return Reason.TOXIC_VOLATILITY.value, extra_bps
    return (Reason.TOXIC_DRIFT.value if drift > ratio * drift_limit else Reason.NONE.value), extra_bps


@kernel
def _relative(
    settings: ToxicitySettings, state: ToxicityState, view: MarketView, side: int, now_ns: int
) -> tuple[int, float]:
    rise, fall = excursions_bps(settings, state, now_ns)
    against = rise if side == Side.SELL else fall
    drift = -float(side) * drift_bps(settings, state, now_ns)
    floor_bps = _FLOOR_TICKS * view.tick_bps
    multiple = settings.micro_vol_k * RANGE_PER_SIGMA
    range_limit = limit_bps(view.sigma_bps, settings.micro_vol_window_s, multiple, floor_bps)
    multiple = settings.micro_drift_k * MOVE_PER_SIGMA
    drift_limit = limit_bps(view.sigma_bps, settings.micro_drift_window_s, multiple, floor_bps)
    drift_limit *= _drift_tolerance(settings, state, view, side, now_ns)
    ratio, multiplier = settings.toxicity_pull_ratio, settings.volatility_offset_multiplier
    return _judge(against, range_limit, drift, drift_limit, ratio, multiplier)


@kernel
def _static(settings: ToxicitySettings, state: ToxicityState, now_ns: int) -> tuple[int, float]:
    rise, fall = excursions_bps(settings, state, now_ns)
    drift = math.fabs(drift_bps(settings, state, now_ns))
    ratio, multiplier = settings.toxicity_hard_pause_ratio, settings.volatility_offset_multiplier
    vol_max, drift_max = settings.micro_vol_max_bps, settings.micro_drift_max_bps
    return _judge(rise + fall, vol_max, drift, drift_max, ratio, multiplier)


@kernel
def check(
    settings: ToxicitySettings,
    jump: JumpSettings,
    state: ToxicityState,
    view: MarketView,
    side: int,
    now_ns: int,
) -> tuple[int, float]:
    """Say whether a side (+1 our bids, −1 our asks) may be quoted, and how much further out.

    Returns a reason (NONE: quote; JUMP, TOXIC_VOLATILITY, TOXIC_DRIFT or NOT_FINITE: pull this side) and the
    extra offset in bps ≥ 0, which also holds for a side that is kept in spite of it. A jump is noticed here,
    so `state` keeps the hold that it starts; asking again at the same instant changes nothing.
    """
    if not state.started:
        return Reason.NONE.value, 0.0
    if settings.toxicity_mode == ToxicityMode.STATIC:
        if settings.toxicity_enabled:
            return _static(settings, state, now_ns)
        return Reason.NONE.value, 0.0
    if not _view_is_sound(view):
        return Reason.NOT_FINITE.value, 0.0
    if jump.jump_enabled:
        _watch_jumps(jump, state, view, now_ns)
    reason, extra_bps = Reason.NONE.value, 0.0
    if settings.toxicity_enabled:
        reason, extra_bps = _relative(settings, state, view, side, now_ns)
    if jump.jump_enabled and _jump_held(state, side, now_ns):
        reason = Reason.JUMP.value
    return reason, extra_bps


@kernel
def imbalance_check(settings: ImbalanceSettings, state: ToxicityState, side: int) -> int:
    """IMBALANCE where a side is threatened, else NONE: heavy bids foretell a rise and threaten the asks."""
    if settings.imbalance_enabled and -float(side) * state.imbalance > settings.imbalance_threshold:
        return Reason.IMBALANCE.value
    return Reason.NONE.value


@kernel
def spread_check(settings: SpreadGuardSettings, spread_bps: float) -> int:
    """SPREAD_TOO_NARROW where the market's spread is below the least that we quote in, else NONE."""
    if not math.isfinite(spread_bps):
        return Reason.NOT_FINITE.value
    return Reason.SPREAD_TOO_NARROW.value if spread_bps < settings.min_spread_bps else Reason.NONE.value


class ToxicityGuard:
    """The guard of one market, for the bench: it keeps the state and calls the kernels."""

    def __init__(
        self,
        settings: ToxicitySettings,
        jump: JumpSettings,
        imbalance: ImbalanceSettings,
        spread: SpreadGuardSettings,
    ) -> None:
        self._settings = new_row(settings)[0]
        self._jump = new_row(jump)[0]
        self._imbalance = new_row(imbalance)[0]
        self._spread = new_row(spread)[0]
        self._state = new_row(ToxicityState())[0]

    def update(self, log_mid: float, bid_depth_lots: int, ask_depth_lots: int, now_ns: int) -> None:
        """Advance by one book frame: see the function of the same name."""
        now_ns, log_mid = int(now_ns), float(log_mid)
        update(self._settings, self._imbalance, self._state, log_mid, bid_depth_lots, ask_depth_lots, now_ns)

    def get(self, now_ns: int) -> tuple[float, float, float]:
        """Return range and drift of the mid in bps, and the smoothed imbalance, at an instant."""
        rise, fall = excursions_bps(self._settings, self._state, int(now_ns))
        return rise + fall, drift_bps(self._settings, self._state, int(now_ns)), float(self._state.imbalance)

    def check(self, view: MarketView, side: Side, now_ns: int) -> tuple[Reason, float]:
        """Reason to pull a side (NONE: quote), and the extra offset in bps."""
        record = new_row(view)[0]
        reason, extra_bps = check(self._settings, self._jump, self._state, record, int(side), int(now_ns))
        return Reason(reason), extra_bps

    def imbalance_check(self, side: Side) -> Reason:
        """Reason to pause a side of a one-sided book, or NONE."""
        return Reason(imbalance_check(self._imbalance, self._state, int(side)))

    def spread_check(self, spread_bps: float) -> Reason:
        """Reason to pause in a narrow market, or NONE."""
        return Reason(spread_check(self._spread, float(spread_bps)))
