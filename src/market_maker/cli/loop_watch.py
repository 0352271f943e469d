"""How long our code holds the event loop: every step of every task is timed, from its wake to its next wait.

A timer that is late says only that something was; this says what. A step costs about half a microsecond more
for it. Steps of other callbacks (a library's parser, a timer) are not seen; collections of garbage are, as
they happen within a step.
"""

import asyncio
import contextvars
import gc
from collections.abc import Coroutine, Generator
from types import CoroutineType
from typing import Any, Final, TypeVar

from market_maker.clock import Clock
from market_maker.metrics import Percentiles

T = TypeVar("T")
_NS_PER_US: Final = 1_000
_NS_PER_MS: Final = 1_000_000
_LONG_NS: Final = 5 * _NS_PER_MS
# Named one by one if they are among the slowest.
_NOTED_NS: Final = _NS_PER_MS
_KEPT: Final = 5


class LoopWatch:
    """Times the steps of an event loop's tasks; what happens before `begin` is not counted.

    Parameters
    ----------
    clock : Clock
        Whose `perf_ns` is read.
    """

    def __init__(self, clock: Clock) -> None:
        self._perf_ns = clock.perf_ns
        self._steps = Percentiles()
        self._slowest: dict[str, int] = {}
        self._long = 0
        self._longest_ns = 0
        self._collecting_ns = 0
        self._collected_ns = 0
        self._began_ns: int | None = None

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Time the tasks that the loop makes from now on."""
        loop.set_task_factory(self._task)

    def begin(self) -> None:
        """Count from now on."""
        self._began_ns = self._perf_ns()
        gc.callbacks.append(self._on_collection)

    def end(self) -> None:
        """Count no more."""
        self._began_ns = None
        if self._on_collection in gc.callbacks:
            gc.callbacks.remove(self._on_collection)

    def figures(self) -> dict[str, object]:
        """Steps, their percentiles in µs, those over 5 ms, and the slowest in ms by task."""
        slowest = sorted(self._slowest.items(), key=lambda item: -item[1])[:_KEPT]
        return {
            "steps": self._steps.count,
            "p50_us": round(self._steps.p50, 1),
            "p99_us": round(self._steps.p99, 1),
            "max_ms": round(self._longest_ns / _NS_PER_MS, 3),
            "over_5_ms": self._long,
            "slowest_ms": {name: round(ns / _NS_PER_MS, 3) for name, ns in slowest},
            "longest_collection_ms": round(self._collected_ns / _NS_PER_MS, 3),
        }

    def count(self, name: str, begun_ns: int) -> None:
        """Count a step that began at an instant of the clock's and ends now."""
        if self._began_ns is None or begun_ns < self._began_ns:
            return
        spent_ns = self._perf_ns() - begun_ns
        self._steps.add(spent_ns / _NS_PER_US)
        if spent_ns < _NOTED_NS:
            return
        self._long += spent_ns > _LONG_NS
        self._longest_ns = max(self._longest_ns, spent_ns)
        self._slowest[name] = max(self._slowest.get(name, 0), spent_ns)

    def perf_ns(self) -> int:
        """Read the clock."""
        return self._perf_ns()

    def _on_collection(self, phase: str, _info: dict[str, int]) -> None:
        now_ns = self._perf_ns()
        if phase == "start":
            self._collecting_ns = now_ns
        else:
            self._collected_ns = max(self._collected_ns, now_ns - self._collecting_ns)

    def _task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        if isinstance(coroutine, Coroutine):
            coroutine = _Timed(coroutine, self)
        return asyncio.Task(coroutine, loop=loop, context=context)


class _Timed(Coroutine[Any, Any, T]):
    """A coroutine whose steps are timed."""

    __slots__ = ("__name__", "__qualname__", "_inner", "_send", "_watch")

    def __init__(self, inner: Coroutine[Any, Any, T], watch: LoopWatch) -> None:
        self._inner = inner
        self._send = inner.send
        self._watch = watch
        named = inner if isinstance(inner, CoroutineType) else type(inner)
        self.__name__ = self.__qualname__ = named.__qualname__

    def send(self, value: Any, /) -> Any:  # noqa: ANN401  (whatever event loop and coroutine exchange)
        begun_ns = self._watch.perf_ns()
        try:
            return self._send(value)
        finally:
            self._watch.count(self.__qualname__, begun_ns)

    def throw(self, *error: Any) -> Any:  # noqa: ANN401  (whatever event loop and coroutine exchange)
        begun_ns = self._watch.perf_ns()
        try:
            return self._inner.throw(*error)
        finally:
            self._watch.count(self.__qualname__, begun_ns)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()
