"""Whether the exchange had better be left alone for a while: it failed too often, or was asked too often."""

from collections import deque
from typing import Final

from market_maker.config_sections import CircuitBreakerSettings
from market_maker.domain import NS_PER_S

_FIRST_PAUSE_S: Final = 2.0
# Quoting is to come back within ten seconds of the last refusal.
_LONGEST_PAUSE_S: Final = 8.0
_FORGOTTEN_S: Final = 60.0
_TRIAL_S: Final = 10.0


class CircuitBreaker:
    """Counts failures within a window. It opens at a number of them, and then forgets them.

    After its pause comes a trial: a single new failure within ten seconds opens it again. So a pause can be
    short, and an exchange that is still down gets a handful of orders for each, not a storm.

    Parameters
    ----------
    settings : CircuitBreakerSettings
        How many failures, within how long.

    Attributes
    ----------
    last : str
        What the last failure was.
    """

    def __init__(self, settings: CircuitBreakerSettings) -> None:
        self._max_failures = settings.breaker_max_failures
        self._window_ns = round(settings.breaker_window_s * NS_PER_S)
        self._failures_ns: deque[int] = deque()
        self._trial_until_ns = 0
        self.last = ""

    def fail(self, now_ns: int, count: int = 1, why: str = "no answer") -> None:
        """Note failures, and what they were."""
        if count:
            self.last = why
        self._failures_ns.extend([now_ns] * count)

    def opens(self, now_ns: int) -> bool:
        """Whether there were too many failures; they count no more."""
        while self._failures_ns and self._failures_ns[0] < now_ns - self._window_ns:
            self._failures_ns.popleft()
        if len(self._failures_ns) < (1 if now_ns < self._trial_until_ns else self._max_failures):
            return False
        self._failures_ns.clear()
        return True

    def try_again(self, now_ns: int) -> None:
        """Begin a trial: what failed before, or during the pause, was counted once and counts no more."""
        self._failures_ns.clear()
        self._trial_until_ns = now_ns + round(_TRIAL_S * NS_PER_S)


class RateBackoff:
    """After refusals for the number of requests: pauses that double, and a request a second within them.

    Attributes
    ----------
    must_pull : bool
        The pause is one of several: what rests is not kept up with, and had better go.
    """

    def __init__(self) -> None:
        self.must_pull = False
        self._refused = 0
        self._pause_s = _FIRST_PAUSE_S
        self._until_ns = 0
        self._next_ns = 0

    def is_pausing(self, refused: int, now_ns: int) -> bool:
        """Whether no new order should be sent now. `refused` counts the refusals so far."""
        is_new = refused > self._refused
        self._refused = refused
        if now_ns < self._until_ns:
            return True
        if not is_new:
            self.must_pull = False
            return False
        if now_ns - self._until_ns > _FORGOTTEN_S * NS_PER_S:
            self._pause_s = _FIRST_PAUSE_S
        self.must_pull = self._pause_s > _FIRST_PAUSE_S
        self._until_ns = now_ns + round(self._pause_s * NS_PER_S)
        self._pause_s = min(2.0 * self._pause_s, _LONGEST_PAUSE_S)
        return True

    def take_turn(self, refused: int, now_ns: int) -> bool:
        """Whether a request that can not wait for the end of a pause may go out: one a second may."""
        if not self.is_pausing(refused, now_ns):
            return True
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + NS_PER_S
        return True
