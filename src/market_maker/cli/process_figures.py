"""What a process holds, as metrics: tasks of its loop, blocks of memory of Python, how late its timers are.

Told when it is asked: nothing is counted while nobody listens, but for a timer that finds out how late it is.
"""

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_EVERY_S: Final = 0.1


class ProcessFigures(Collector):
    """Figures of this process; asked from the thread that serves the metrics.

    Parameters
    ----------
    loop : AbstractEventLoop
        The loop whose tasks are counted.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._guard = threading.Lock()
        self._late_s = 0.0
        self._latest_s = 0.0
        self._timers = 0

    def begin(self, registry: CollectorRegistry) -> None:
        """Tell them to whoever asks a registry, and time the loop from now on."""
        registry.register(self)
        self._plan()

    def end(self) -> None:
        """Time the loop no more."""
        if self._timer is not None:
            self._timer.cancel()

    def describe(self) -> list[Metric]:
        """Nothing before it is asked: registering counts nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Count what there is; the lateness is that of the timers since it was asked last."""
        with self._guard:
            late_s, latest_s = self._late_s / max(self._timers, 1), self._latest_s
            self._late_s = self._latest_s = 0.0
            self._timers = 0
        tasks = len(asyncio.all_tasks(self._loop))
        yield GaugeMetricFamily("mm_tasks", "Tasks of the event loop that have not ended", value=tasks)
        held = sys.getallocatedblocks()
        yield GaugeMetricFamily("mm_python_blocks", "Blocks of memory that Python holds", value=held)
        yield GaugeMetricFamily("mm_loop_late_seconds", "Mean lateness of timers since asked", value=late_s)
        yield GaugeMetricFamily("mm_loop_latest_seconds", "Most late timer since asked", value=latest_s)

    def _plan(self) -> None:
        due_s = self._loop.time() + _EVERY_S
        self._timer = self._loop.call_at(due_s, self._on_timer, due_s)

    def _on_timer(self, due_s: float) -> None:
        late_s = max(self._loop.time() - due_s, 0.0)
        with self._guard:
            self._late_s += late_s
            self._latest_s = max(self._latest_s, late_s)
            self._timers += 1
        self._plan()
