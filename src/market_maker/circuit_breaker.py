"""Whether the exchange has failed us so often lately that we had better leave it alone for a while."""

from collections import deque

from market_maker.config_sections import CircuitBreakerSettings
from market_maker.domain import NS_PER_S


class CircuitBreaker:
    """Counts failures within a window. It opens at a number of them, and then forgets: the next try is free.

    Parameters
    ----------
    settings : CircuitBreakerSettings
        How many failures, within how long.
    """

    def __init__(self, settings: CircuitBreakerSettings) -> None:
        self._max_failures = settings.breaker_max_failures
        self._window_ns = round(settings.breaker_window_s * NS_PER_S)
        self._failures_ns: deque[int] = deque()

    def fail(self, now_ns: int, count: int = 1) -> None:
        """Note failures."""
        self._failures_ns.extend([now_ns] * count)

    def opens(self, now_ns: int) -> bool:
        """Whether there were too many failures; they count no more."""
        while self._failures_ns and self._failures_ns[0] < now_ns - self._window_ns:
            self._failures_ns.popleft()
        if len(self._failures_ns) < self._max_failures:
            return False
        self._failures_ns.clear()
        return True
