"""How long our code holds the event loop: every step of every task is timed, from its wake to its next wait.

A timer that is late says only that something was; this says what. A step costs about a microsecond more for
it. Steps of other callbacks (a library's parser, a timer) are not seen; collections of garbage are, as they
happen within a step.

Two clocks tell two things: by the wall's, how long the loop was held; by the processor's, how much of that
our code took. Where other processes want the processor too, only the second is ours to mend.
"""

import asyncio
import contextvars
import gc
from collections.abc import Coroutine, Generator
from types import CoroutineType
from typing import Any, Final, Protocol, TypeVar

from market_maker.metrics import Percentiles

T = TypeVar("T")
_NS_PER_US: Final = 1_000
_NS_PER_MS: Final = 1_000_000
_TOO_LONG_NS: Final = 5 * _NS_PER_MS
# Named one by one if they are among the slowest.
_NOTED_NS: Final = _NS_PER_MS
_KEPT: Final = 5


class StepClock(Protocol):
    """What times a step."""

    def perf_ns(self) -> int:
        """Monotonic reading, ns."""
        ...

    def thread_ns(self) -> int:
        """Time that the processor spent on this thread, ns."""
        ...


class _Longest:
    """Percentiles of steps by one of the clocks, how many were too long, and the longest of each task."""

    def __init__(self) -> None:
        self._steps = Percentiles()
        self._too_long = 0
        self._by_task: dict[str, int] = {}

    def add(self, name: str, spent_ns: int) -> None:
        self._steps.add(spent_ns / _NS_PER_US)
        if spent_ns >= _NOTED_NS:
            self._too_long += spent_ns > _TOO_LONG_NS
            self._by_task[name] = max(self._by_task.get(name, 0), spent_ns)

    def figures(self) -> dict[str, object]:
        longest = sorted(self._by_task.items(), key=lambda item: -item[1])[:_KEPT]
        return {
            "p50_us": round(self._steps.p50, 1),
            "p99_us": round(self._steps.p99, 1),
            "over_5_ms": self._too_long,
            "longest_ms": {name: round(ns / _NS_PER_MS, 3) for name, ns in longest},
        }


class LoopWatch:
    """Times the steps of an event loop's tasks, from `begin` to `end`."""

    def __init__(self, clock: StepClock) -> None:
        self._perf_ns = clock.perf_ns
        self._thread_ns = clock.thread_ns
        self._wall = _Longest()
        self._processor = _Longest()
        self._steps = 0
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
        """How many steps there were, their percentiles in µs, and the longest of a task in ms."""
        return {
            "steps": self._steps,
            "wall": self._wall.figures(),
            "processor": self._processor.figures(),
            "longest_collection_ms": round(self._collected_ns / _NS_PER_MS, 3),
        }

    def now(self) -> tuple[int, int]:
        """Read both clocks."""
        return self._perf_ns(), self._thread_ns()

    def count(self, name: str, begun: tuple[int, int]) -> None:
        """Count a step that began at a reading of the clocks and ends now."""
        perf_ns, thread_ns = begun
        if self._began_ns is None or perf_ns < self._began_ns:
            return
        self._steps += 1
        self._processor.add(name, self._thread_ns() - thread_ns)
        self._wall.add(name, self._perf_ns() - perf_ns)

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
        begun = self._watch.now()
        try:
            return self._send(value)
        finally:
            self._watch.count(self.__qualname__, begun)

    def throw(self, *error: Any) -> Any:  # noqa: ANN401  (whatever event loop and coroutine exchange)
        begun = self._watch.now()
        try:
            return self._inner.throw(*error)
        finally:
            self._watch.count(self.__qualname__, begun)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._inner.__await__()
