"""How far to step back, and why: widen, reduce only, cancel all, flatten, stop.

Each cause is one number; its thresholds say from where on it asks for which step, and the highest step that
any cause asks for is in force at once. The way down is slow: one step at a time, each after every cause has
been clearly below that step's threshold for a while. From CANCEL_ALL on, a step that money asked for (a
drawdown, the loss of a day, margin) is latched: time does not lift it, only somebody who resumes.

The module knows neither orders nor positions; what a step means is its host's. A reading that is not a number
asks for nothing: a cause of which nothing is known is no cause.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NamedTuple

from market_maker.domain import NS_PER_S, Reason


class Step(IntEnum):
    """What is done, from nothing to the end of the process; each step includes those before it."""

    NORMAL = 0
    WIDEN = 1
    REDUCE_ONLY = 2
    CANCEL_ALL = 3
    FLATTEN = 4
    STOP = 5


class Cause(IntEnum):
    """What asked for a step."""

    NONE = 0
    DRAWDOWN = 1
    DAY_LOSS = 2
    MARGIN = 3
    STALE_DATA = 4
    LATENCY = 5
    ERRORS = 6
    CLOCK = 7
    TOXIC_FILLS = 8


_CAUSES: Final = tuple(Cause)[1:]
REASONS: Final = {
    Cause.NONE: Reason.NONE,
    Cause.DRAWDOWN: Reason.RISK_DRAWDOWN,
    Cause.DAY_LOSS: Reason.RISK_DAY_LOSS,
    Cause.MARGIN: Reason.RISK_MARGIN,
    Cause.STALE_DATA: Reason.DATA_STALE,
    Cause.LATENCY: Reason.LATENCY_HIGH,
    Cause.ERRORS: Reason.ERROR_RATE,
    Cause.CLOCK: Reason.CLOCK_SKEWED,
    Cause.TOXIC_FILLS: Reason.TOXIC_FILLS,
}
# They are over when money has come back, or once somebody resumes: a bot that may only reduce earns nothing.
LOSSES: Final = frozenset({Cause.DRAWDOWN, Cause.DAY_LOSS})
_STEPS: Final = len(Step) - 1


@dataclass(frozen=True, slots=True)
class KillLadderSettings:
    """Thresholds of each cause for widen, reduce only, cancel all, flatten and stop; 0: never for that.

    Raises
    ------
    ValueError
        If a cause has not five thresholds, or a later step a lower one than an earlier.
    """

    kill_drawdown: tuple[float, ...] = (0.5, 0.75, 0.0, 1.0, 1.5)  # of max_drawdown_usd, fall from the peak
    kill_day_loss: tuple[float, ...] = (0.5, 0.75, 0.0, 1.0, 1.5)  # of max_day_loss_usd, loss since 00:00 UTC
    kill_margin: tuple[float, ...] = (0.9, 1.0, 0.0, 1.15, 0.0)  # of max_margin_utilisation, margin ratio
    kill_stale: tuple[float, ...] = (0.0, 0.0, 30.0, 0.0, 0.0)  # s, without data of any market to be trusted
    kill_latency: tuple[float, ...] = (2.0, 5.0, 0.0, 0.0, 0.0)  # s, mean order latency of late
    kill_errors: tuple[float, ...] = (4.0, 8.0, 0.0, 0.0, 0.0)  # openings of the circuit breaker in 2 minutes
    kill_clock: tuple[float, ...] = (0.5, 0.0, 1.0, 0.0, 0.0)  # of max_clock_skew_s, clocks apart
    kill_toxic: tuple[float, ...] = (8.0, 20.0, 0.0, 0.0, 0.0)  # bps, mean loss within 5 s of our last fills
    kill_widening: float = 2.0  # factor on the offset of quotes that open risk, from widen on
    kill_clear_share: float = 0.8  # below this share of its threshold a cause is over
    kill_step_down_s: float = 20.0  # how long it must be over for each step down

    def __post_init__(self) -> None:
        for name, thresholds in self.by_name().items():
            set_ones = [threshold for threshold in thresholds if threshold]
            if len(thresholds) != _STEPS or set_ones != sorted(set_ones):
                shown = ",".join(f"{threshold:g}" for threshold in thresholds)
                msg = f"{name}: expected {_STEPS} numbers, none below one before it but 0, was {shown}"
                raise ValueError(msg)
        if self.kill_widening < 1.0:
            msg = f"kill_widening: expected at least 1, was {self.kill_widening:g}"
            raise ValueError(msg)
        if not 0.0 < self.kill_clear_share <= 1.0:
            msg = f"kill_clear_share: expected above 0 and at most 1, was {self.kill_clear_share:g}"
            raise ValueError(msg)

    def by_name(self) -> dict[str, tuple[float, ...]]:
        """Thresholds by the name of their setting, in the order of the causes."""
        return {
            "kill_drawdown": self.kill_drawdown,
            "kill_day_loss": self.kill_day_loss,
            "kill_margin": self.kill_margin,
            "kill_stale": self.kill_stale,
            "kill_latency": self.kill_latency,
            "kill_errors": self.kill_errors,
            "kill_clock": self.kill_clock,
            "kill_toxic": self.kill_toxic,
        }


class Readings(NamedTuple):
    """What the causes measure now, each in the unit of its thresholds; the larger, the worse."""

    drawdown: float = 0.0
    day_loss: float = 0.0
    margin: float = 0.0
    stale_s: float = 0.0
    latency_s: float = 0.0
    errors: float = 0.0
    clock: float = 0.0
    toxic_bps: float = 0.0


class Standing(NamedTuple):
    """Where the ladder stands.

    `step` is in force and `cause` asked for it last. `since_ns` is when it was last asked for, or taken.
    `latch` is the step that time does not bring it below, NORMAL if none, and `latched_by` its cause.
    """

    step: Step = Step.NORMAL
    cause: Cause = Cause.NONE
    since_ns: int = 0
    latch: Step = Step.NORMAL
    latched_by: Cause = Cause.NONE

    @property
    def reason(self) -> Reason:
        """Reason that a missing quote is given."""
        return REASONS[self.cause]


def asked_for(settings: KillLadderSettings, readings: Readings, share: float = 1.0) -> tuple[Step, Cause]:
    """Highest step that a reading asks for, and the first cause that does; `share` scales all thresholds.

    >>> asked_for(KillLadderSettings(), Readings(drawdown=0.8))
    (<Step.REDUCE_ONLY: 2>, <Cause.DRAWDOWN: 1>)
    """
    found, by = 0, Cause.NONE
    for cause, reading, thresholds in zip(_CAUSES, readings, settings.by_name().values(), strict=True):
        # From the highest step down: one that is already asked for needs no second cause.
        for step in range(len(thresholds), found if reading > 0.0 else len(thresholds), -1):
            if 0.0 < thresholds[step - 1] * share <= reading:
                found, by = step, cause
                break
    return Step(found), by


def advance(settings: KillLadderSettings, standing: Standing, readings: Readings, now_ns: int) -> Standing:
    """Where the ladder stands after a look at the readings: up at once, down a step at a time."""
    step, cause = asked_for(settings, readings)
    if step >= Step.CANCEL_ALL:
        standing = _latched(settings, standing, readings)
    if step > standing.step:
        return standing._replace(step=step, cause=cause, since_ns=now_ns)
    if standing.step == Step.NORMAL:
        return standing
    held, holds = asked_for(settings, readings, settings.kill_clear_share)
    if held >= standing.step:
        return standing._replace(cause=holds, since_ns=now_ns)
    if now_ns - standing.since_ns < settings.kill_step_down_s * NS_PER_S:
        return standing
    return _step_down(standing, now_ns)


def restored(latch: Step, latched_by: Cause, now_ns: int) -> Standing:
    """Where the ladder stands after a restart: on the step that was latched before it."""
    return Standing(latch, latched_by, now_ns, latch, latched_by)


def _latched(settings: KillLadderSettings, standing: Standing, readings: Readings) -> Standing:
    money = Readings(readings.drawdown, readings.day_loss, readings.margin)
    step, cause = asked_for(settings, money)
    if step >= Step.CANCEL_ALL and step > standing.latch:
        return standing._replace(latch=step, latched_by=cause)
    return standing


def _step_down(standing: Standing, now_ns: int) -> Standing:
    """One step, but not below the latch; there its cause is the one to name."""
    step = Step(max(standing.step - 1, standing.latch))
    since_ns = standing.since_ns if step == standing.step else now_ns
    cause = standing.latched_by if step == standing.latch else standing.cause
    return standing._replace(step=step, cause=cause, since_ns=since_ns)
