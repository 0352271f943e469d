"""The order of a numbered stream: the next frame, one heard before, or a reason to trust it no more."""

from collections import Counter
from typing import Final

from market_maker.exchanges.wire import check_turn

# A frame that comes twice comes soon after itself.
_REMEMBERED: Final = 64


class Turns:
    """Numbers of the frames of one stream.

    A number that was heard may come again only with the very same frame: numbers that start anew must not
    pass for repeats.

    Parameters
    ----------
    kind : str
        Name of the stream in errors and in `unknown`, where repeats are counted.
    """

    def __init__(self, kind: str, unknown: Counter[str]) -> None:
        self._kind = kind
        self._unknown = unknown
        self._next: int | None = None
        self._heard: dict[int, int] = {}

    def restart(self, first: int | None = None) -> None:
        """Begin a new connection, whose first frame has that number; None: any."""
        self._next = first
        self._heard.clear()

    @property
    def has_begun(self) -> bool:
        """Whether the number of the next frame is known."""
        return self._next is not None

    def is_next(self, seq: int, frame: bytes) -> bool:
        """Take the next frame; False for one that was heard before.

        Raises
        ------
        CorruptFrame
            If it is neither.
        """
        fingerprint = hash(frame)
        if self._heard.get(seq) == fingerprint:
            self._unknown[f"{self._kind} frame twice"] += 1
            return False
        if self._next is not None:
            check_turn(self._kind, seq, self._next)
        self._next = seq + 1
        self._heard[seq] = fingerprint
        if len(self._heard) > _REMEMBERED:
            del self._heard[next(iter(self._heard))]
        return True
