"""An event loop whose time jumps to the next timer as soon as nothing is ready to run.

Hours pass in seconds, and the same program with the same seed takes the same steps: time stands still while
code runs, so the machine's speed changes nothing. With a pace, each jump is waited out at so many virtual
seconds a real one; a machine too slow for it only takes longer. Sockets of this loop, both ends in it, work
too: before a jump the kernel gets a moment to hand over what is under way.
"""

import asyncio
import selectors
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_IDLE_S = 0.05
_HAND_OVER_S = 0.0003
# A loop without sockets only hears of signals and of other threads: every so many steps will do.
_ASKED_EVERY = 32
# What a loop registers for itself: the pipe that other threads wake it by.
_OWN_FILES = 1


class _PacedSelector(selectors.DefaultSelector):
    """A selector that moves virtual time on instead of waiting for it."""

    def __init__(self, pace: float) -> None:
        super().__init__()
        self.virtual_s = 0.0
        self._pace = pace
        self._skips = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            return list(super().select(_IDLE_S))
        if self._skips:
            self._skips -= 1
            self.virtual_s += timeout
            return []
        # Without sockets the kernel need not be asked each time.
        self._skips = 0 if self._pace or len(self.get_map()) > _OWN_FILES else _ASKED_EVERY - 1
        real_s = timeout / self._pace if self._pace else self._hand_over_s()
        ready = super().select(real_s if timeout > 0 else 0)
        if not ready and timeout > 0:
            self.virtual_s += timeout
        return list(ready)

    def register(
        self, fileobj: "FileDescriptorLike", events: int, data: object = None
    ) -> selectors.SelectorKey:
        self._skips = 0
        return super().register(fileobj, events, data)

    def _hand_over_s(self) -> float:
        return _HAND_OVER_S if len(self.get_map()) > _OWN_FILES else 0.0


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Event loop in virtual time, from 0 s.

    Parameters
    ----------
    pace : float
        Virtual seconds a real second; 0 is as fast as the machine goes.
    """

    def __init__(self, pace: float = 0.0) -> None:
        selector = _PacedSelector(pace)
        self._paced = selector
        super().__init__(selector)
        # Timers due within this are run together; the machine's own resolution would differ by platform.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._paced.virtual_s
