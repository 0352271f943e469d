"""When which faults are on, and the mode that the exchange is in during a maintenance and after it."""

import math
from collections.abc import Sequence
from functools import partial

from market_maker.domain import NS_PER_S
from market_maker.emulator.fault_injection import FaultInjector
from market_maker.emulator.faults import Faults, FaultWindow
from market_maker.emulator.rules import Mode
from market_maker.emulator.timeline import Timeline
from market_maker.emulator.venue import Venue


class FaultSchedule:
    """Switches faults on and off.

    Parameters
    ----------
    start_ns : int
        Instant at which the exchange opened; windows count from it.
    """

    def __init__(self, venue: Venue, timeline: Timeline, injector: FaultInjector, start_ns: int) -> None:
        self._venue = venue
        self._timeline = timeline
        self._injector = injector
        self._start_ns = start_ns
        self._set = Faults()
        self._windows: list[Faults] = []
        self._now = Faults()

    @property
    def faults(self) -> Faults:
        """Those that are on at present."""
        return self._now

    def set(self, faults: Faults, now_ns: int) -> None:
        """Have these faults, beside those of open windows, until others are set."""
        self._set = faults
        self._switch(now_ns)

    def plan(self, windows: Sequence[FaultWindow]) -> None:
        """Have faults in windows of time."""
        for window in windows:
            self._plan_step(window.start_s, partial(self._open, window))
            if math.isfinite(window.end_s):
                self._plan_step(window.end_s, partial(self._close, window))

    def _plan_step(self, at_s: float, step: "partial[None]") -> None:
        self._timeline.plan(self._start_ns + round(at_s * NS_PER_S), step)

    def _open(self, window: FaultWindow, now_ns: int) -> None:
        self._windows.append(window.faults)
        self._switch(now_ns)

    def _close(self, window: FaultWindow, now_ns: int) -> None:
        self._windows.remove(window.faults)
        self._switch(now_ns)

    def _switch(self, now_ns: int) -> None:
        before, after = self._now, self._set
        for faults in self._windows:
            after = after.with_those_of(faults)
        self._now = after
        self._injector.switch(after)
        if after.maintenance and not before.maintenance:
            self._venue.mode = Mode.MAINTENANCE
            self._injector.counts["maintenance"] += 1
        elif before.maintenance and not after.maintenance:
            self._end_maintenance(before.post_only_after_s, now_ns)

    def _end_maintenance(self, post_only_s: float, now_ns: int) -> None:
        if post_only_s > 0:
            self._venue.mode = Mode.POST_ONLY
            self._injector.counts["post_only_after_s"] += 1
            self._timeline.plan(now_ns + round(post_only_s * NS_PER_S), self._open_again)
        else:
            self._venue.mode = self._venue.rules.mode

    def _open_again(self, _now_ns: int) -> None:
        if not self._now.maintenance:
            self._venue.mode = self._venue.rules.mode
