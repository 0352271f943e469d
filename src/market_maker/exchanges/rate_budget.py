"""How many requests may still be sent this minute.

The exchange counts all requests of an address in one pool, cancels included. So a share is kept that only
cancels and the dead man's switch may use: what takes risk off must never wait for what puts it on. The
minute slides, which is stricter than any fixed minute the exchange may count by.
"""

from collections import deque
from typing import Final

from market_maker.domain import NS_PER_S
from market_maker.gateway import RateLimited

_WINDOW_NS: Final = 60 * NS_PER_S


class RateBudget:
    """Requests of the last minute against the limit. Instants are given by the caller.

    Parameters
    ----------
    requests_per_minute : int
        The exchange's limit.
    reserve_share : float
        Share of it that only urgent requests may use.
    """

    def __init__(self, requests_per_minute: int, reserve_share: float) -> None:
        self.requests_per_minute: Final = requests_per_minute
        self.reserve: Final = int(requests_per_minute * reserve_share)
        self._sent_ns: deque[int] = deque()
        self._paused_until_ns = 0

    def used(self, now_ns: int) -> int:
        """Requests of the last minute."""
        while self._sent_ns and self._sent_ns[0] <= now_ns - _WINDOW_NS:
            self._sent_ns.popleft()
        return len(self._sent_ns)

    def wait_s(self, now_ns: int, *, urgent: bool = False) -> float:
        """How long a request has to wait; 0 if it may go out."""
        limit = self.requests_per_minute - (0 if urgent else self.reserve)
        wait_ns = 0 if urgent else max(0, self._paused_until_ns - now_ns)
        over = self.used(now_ns) - limit
        if over >= 0:
            wait_ns = max(wait_ns, self._sent_ns[over] + _WINDOW_NS - now_ns)
        return wait_ns / NS_PER_S

    def spend(self, now_ns: int, *, urgent: bool = False) -> None:
        """Count a request that is about to be sent.

        Raises
        ------
        RateLimited
            If it has to wait; then it is not counted, and must not be sent.
        """
        wait_s = self.wait_s(now_ns, urgent=urgent)
        if wait_s > 0:
            raise RateLimited(self._refusal(wait_s, urgent=urgent), wait_s)
        self._sent_ns.append(now_ns)

    def pause(self, now_ns: int, pause_s: float) -> None:
        """Hold back what is not urgent: the exchange has refused a request for the rate."""
        self._paused_until_ns = max(self._paused_until_ns, now_ns + round(pause_s * NS_PER_S))

    def _refusal(self, wait_s: float, *, urgent: bool) -> str:
        kept = "" if urgent else f", {self.reserve} of them kept for cancels"
        return (
            f"not sent, to keep within {self.requests_per_minute} requests a minute{kept}: "
            f"the next may go in {wait_s:.1f} s"
        )
