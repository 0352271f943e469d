"""What is to happen inside the exchange, in order of time, and at one instant in the order of planning."""

import heapq
from collections.abc import Callable

Step = Callable[[int], None]


class Timeline:
    """Planned steps; each is called with its own instant."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Step]] = []
        self._count = 0

    def plan(self, due_ns: int, step: Step) -> None:
        """Plan a step."""
        self._count += 1
        heapq.heappush(self._heap, (due_ns, self._count, step))

    def next_due_ns(self) -> int | None:
        """Instant of the next step."""
        return self._heap[0][0] if self._heap else None

    def run_next(self) -> None:
        """Carry the next step out."""
        due_ns, _, step = heapq.heappop(self._heap)
        step(due_ns)
