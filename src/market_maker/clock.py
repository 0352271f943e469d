"""The one reader of time and the one source of randomness, injected wherever either is needed.

Instants are nanoseconds since the epoch (UTC). Waiting goes through asyncio, so an event loop with a time of
its own (`LoopClock`) carries the whole process through virtual time.
"""

import asyncio
import random
import secrets
import time
from typing import Final, Protocol

from market_maker.domain import NS_PER_S

_NONCE_LIMIT = 2**31 - 1
_ID_ALPHABET: Final = b"0123456789abcdefghijklmnopqrstuvwxyz"
_TO_ID_CHARACTER: Final = bytes(_ID_ALPHABET[byte % len(_ID_ALPHABET)] for byte in range(256))


class Clock(Protocol):
    """What the shell may ask about time."""

    def now_ns(self) -> int:
        """Wall-clock instant, ns since the epoch."""
        ...

    def perf_ns(self) -> int:
        """Monotonic reading for durations of our own code, ns."""
        ...


class SystemClock:
    """The machine's clock. `now_ns` never runs backwards within a process: it is anchored once."""

    def __init__(self) -> None:
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def now_ns(self) -> int:
        """Wall-clock instant, ns since the epoch."""
        return time.monotonic_ns() + self._offset_ns

    def perf_ns(self) -> int:
        """Monotonic reading for durations, ns."""
        return time.perf_counter_ns()

    def thread_ns(self) -> int:
        """Time that the processor spent on this thread, ns."""
        return time.thread_time_ns()


class ShiftedClock:
    """Another clock, ahead by a constant; behind where that is negative."""

    def __init__(self, clock: Clock, ahead_s: float) -> None:
        self._clock = clock
        self._ahead_ns = round(ahead_s * NS_PER_S)

    def now_ns(self) -> int:
        """Shifted instant, ns since the epoch."""
        return self._clock.now_ns() + self._ahead_ns

    def perf_ns(self) -> int:
        """Monotonic reading for durations, ns."""
        return self._clock.perf_ns()


class LoopClock:
    """Time as an event loop has it, counted from `start_ns`: virtual where the loop is virtual."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_ns: int) -> None:
        self._loop = loop
        self._start_ns = start_ns
        self._origin_s = self._at_s = loop.time()
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Instant of the loop, ns since the epoch."""
        at_s = self._loop.time()
        # Virtual time stands still while code runs, and is asked for all the while.
        if at_s != self._at_s:
            self._at_s = at_s
            self._now_ns = self._start_ns + round((at_s - self._origin_s) * NS_PER_S)
        return self._now_ns

    def perf_ns(self) -> int:
        """Monotonic reading of the machine for durations of our own code, ns."""
        return time.perf_counter_ns()


class Entropy:
    """Nonces and order ids: seeded, the same run draws the same ones; else the system's randomness."""

    def __init__(self, seed: int | None = None) -> None:
        # An array library's generator takes a tenth of a signature's time for a handful of bytes.
        self._random = random.Random(secrets.randbits(128) if seed is None else seed)

    def nonce(self) -> int:
        """Order nonce in 1 … 2³¹ − 1, the range that the exchange documents."""
        return self._random.randint(1, _NONCE_LIMIT)

    def token(self, length: int) -> str:
        """Random string of lower-case letters and digits."""
        return self._random.randbytes(length).translate(_TO_ID_CHARACTER).decode()
