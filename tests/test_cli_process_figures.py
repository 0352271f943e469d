"""Figures of a process: tasks, memory that Python holds, and how late the loop's timers are."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry

from market_maker.cli.process_figures import ProcessFigures
from market_maker.faultsim.virtual_loop import VirtualTimeLoop


@pytest.fixture
def registry():
    return CollectorRegistry()


def figure(registry, name):
    return registry.get_sample_value(name)


def test_tasks_are_those_that_have_not_ended(registry):
    async def main():
        figures = ProcessFigures(asyncio.get_running_loop())
        figures.begin(registry)
        before = figure(registry, "mm_tasks")
        waiting = [asyncio.ensure_future(asyncio.sleep(60)) for _ in range(3)]
        during = await asyncio.to_thread(figure, registry, "mm_tasks")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        after = figure(registry, "mm_tasks")
        figures.end()
        return before, during, after

    before, during, after = asyncio.run(main())
    # The thread is asked for by the task that is there already.
    assert (during - before, after - before) == (3, 0)


def test_what_python_holds_is_counted(registry):
    async def main():
        figures = ProcessFigures(asyncio.get_running_loop())
        figures.begin(registry)
        before = figure(registry, "mm_python_blocks")
        kept = [object() for _ in range(10_000)]
        grown = figure(registry, "mm_python_blocks") - before
        figures.end()
        return grown, len(kept)

    grown, kept = asyncio.run(main())
    assert grown == pytest.approx(kept, rel=0.2)


def test_a_loop_that_is_held_is_late_and_what_was_told_is_forgotten(registry):
    async def main():
        loop = asyncio.get_running_loop()
        figures = ProcessFigures(loop)
        figures.begin(registry)
        # Between two timers, the first of which is due after 0.1 s.
        loop.call_at(loop.time() + 0.05, loop.hold, 0.3)
        await asyncio.sleep(1.0)
        told = figure(registry, "mm_loop_latest_seconds")
        await asyncio.sleep(1.0)
        figures.end()
        return told, figure(registry, "mm_loop_latest_seconds"), figure(registry, "mm_loop_late_seconds")

    class HeldLoop(VirtualTimeLoop):
        """A loop whose time can pass while a callback runs."""

        held_s = 0.0

        def hold(self, seconds):
            self.held_s += seconds

        def time(self):
            return super().time() + self.held_s

    with asyncio.Runner(loop_factory=HeldLoop) as runner:
        told, later, mean = runner.run(main())
    assert told == pytest.approx(0.25, abs=0.01)
    assert (later, mean) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.0, abs=1e-6))
