"""The watch over the event loop: what is timed, what is counted, what is named."""

import asyncio
import gc

import pytest

from market_maker.cli.loop_watch import LoopWatch

MS = 1_000_000


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.at_ns = 0
        self.away_ns = 0

    def perf_ns(self) -> int:
        return self.at_ns

    def thread_ns(self) -> int:
        return self.at_ns - self.away_ns

    def work(self, ms: float) -> None:
        """Take time without giving the loop back."""
        self.at_ns += round(ms * MS)


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def watch(clock):
    made = LoopWatch(clock)
    yield made
    made.end()


def wall(watch):
    """Figures by the clock on the wall, with the longest step of all."""
    figures = watch.figures()["wall"]
    return figures | {"longest": next(iter(figures["longest_ms"].values()), 0.0)}


def run(watch, program):
    async def main():
        watch.install(asyncio.get_running_loop())
        return await asyncio.ensure_future(program())

    return asyncio.run(main())


def test_each_step_is_counted_from_its_wake_to_its_next_wait(clock, watch):
    async def works_twice():
        clock.work(3)
        await asyncio.sleep(0)
        clock.work(7)

    watch.begin()
    run(watch, works_twice)
    # The loop has tasks of its own to end with.
    assert watch.figures()["steps"] >= 2
    assert wall(watch)["over_5_ms"] == 1
    [(name, longest_ms)] = wall(watch)["longest_ms"].items()
    assert (name.split(".")[-1], longest_ms) == ("works_twice", 7.0)


def test_what_others_took_of_the_processor_is_told_apart(clock, watch):
    watch.begin()
    begun = watch.now()
    clock.work(2)
    clock.away_ns = 30 * MS
    clock.work(30)
    watch.count("task", begun)
    figures = watch.figures()
    assert figures["wall"]["longest_ms"] == {"task": 32.0}
    assert figures["processor"]["longest_ms"] == {"task": 2.0}
    assert (figures["wall"]["over_5_ms"], figures["processor"]["over_5_ms"]) == (1, 0)


def test_tasks_end_as_they_would_without_it(watch):
    async def fails():
        raise ZeroDivisionError

    async def waits():
        await asyncio.sleep(3600)

    async def main():
        task = asyncio.ensure_future(waits())
        await asyncio.sleep(0)
        unstarted = asyncio.ensure_future(waits())
        for each in (task, unstarted):
            each.cancel()
        results = await asyncio.gather(task, unstarted, fails(), asyncio.sleep(0, 42), return_exceptions=True)
        return [type(result) if isinstance(result, BaseException) else result for result in results]

    watch.begin()
    assert run(watch, main) == [asyncio.CancelledError, asyncio.CancelledError, ZeroDivisionError, 42]


def test_what_runs_before_the_beginning_and_after_the_end_is_not_counted(clock, watch):
    async def begins_amid_a_step():
        clock.work(9)
        watch.begin()
        clock.work(9)
        await asyncio.sleep(0)
        clock.work(1)
        await asyncio.sleep(0)
        watch.end()
        clock.work(9)

    run(watch, begins_amid_a_step)
    assert (watch.figures()["steps"], wall(watch)["longest"]) == (1, 1.0)


def test_the_longest_collection_is_told(clock, watch):
    class Slow:
        def __del__(self):
            clock.work(4)

    watch.begin()
    ring = Slow()
    ring.ring = ring
    del ring
    gc.collect()
    assert watch.figures()["longest_collection_ms"] == 4.0


def test_the_slowest_are_few_and_in_their_order(clock, watch):
    watch.begin()
    for ms in (2, 9, 4, 6, 3, 7, 5, 0.5):
        begun = watch.now()
        clock.work(ms)
        watch.count(f"task {ms}", begun)
    assert list(wall(watch)["longest_ms"].values()) == [9.0, 7.0, 6.0, 5.0, 4.0]
