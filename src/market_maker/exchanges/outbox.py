"""Where the tasks that hear streams leave events for the one iterator that hands them out.

A reader that falls behind must not let memory grow. Values of which only the last counts replace each other
here; the rest is bounded by whoever puts it in, who asks for the `backlog` and gives its stream up.
"""

import asyncio
from collections import deque
from typing import Generic, TypeVar

E = TypeVar("E")


class _Latest:
    """A place in the queue for a value that may still change."""

    def __init__(self, key: str) -> None:
        self.key = key


class Outbox(Generic[E]):
    """Events in the order in which they were put in; nothing comes out before it is opened."""

    def __init__(self) -> None:
        self._queue: deque[E | _Latest] = deque()
        self._latest: dict[str, E] = {}
        self._may_read = asyncio.Event()
        self._is_open = False
        self._has_ended = False

    @property
    def backlog(self) -> int:
        """Events that nobody has read yet."""
        return len(self._queue)

    def put(self, event: E) -> None:
        """Add an event."""
        self._queue.append(event)
        self._wake()

    def open(self) -> None:
        """Let events out."""
        self._is_open = True
        self._may_read.set()

    def put_first(self, event: E) -> None:
        """Add an event before all others, and let them out."""
        self._queue.appendleft(event)
        self.open()

    def put_latest(self, key: str, event: E) -> None:
        """Add an event, or put it where the unread one of that key is."""
        if key not in self._latest:
            self._queue.append(_Latest(key))
        self._latest[key] = event
        self._wake()

    def clear(self) -> int:
        """Drop what nobody has read, and say how much it was."""
        dropped = len(self._queue)
        self._queue.clear()
        self._latest.clear()
        return dropped

    def end(self) -> None:
        """Nothing more will come."""
        self._has_ended = True
        self._may_read.set()

    async def take(self) -> E | None:
        """Wait for the next event; None after the last."""
        while not (self._is_open and self._queue):
            if self._has_ended:
                return None
            self._may_read.clear()
            await self._may_read.wait()
        item = self._queue.popleft()
        return self._latest.pop(item.key) if isinstance(item, _Latest) else item

    def _wake(self) -> None:
        if self._is_open:
            self._may_read.set()
