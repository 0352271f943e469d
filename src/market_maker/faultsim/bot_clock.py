"""The clock of one machine in a simulation: virtual, and off by as much as the faults have it."""

from market_maker.clock import Clock


class BotClock:
    """Another clock, ahead of it by what may change.

    Attributes
    ----------
    ahead_ns : int
        How far it is ahead, ns; negative where it is behind.
    """

    def __init__(self, clock: Clock) -> None:
        self.ahead_ns = 0
        self._clock = clock

    def now_ns(self) -> int:
        """Instant by this clock, ns since the epoch."""
        return self._clock.now_ns() + self.ahead_ns

    def perf_ns(self) -> int:
        """Always the same: what our code takes is no time here, on every machine."""
        return 0
