"""Virtual time: hours in milliseconds, in the same order every time, and sockets still served."""

import asyncio

from market_maker.faultsim.virtual_loop import VirtualTimeLoop


def _run(coroutine, pace: float = 0.0):  # type: ignore[no-untyped-def]
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(pace)) as runner:
        return runner.run(coroutine)


def test_a_day_of_sleep_takes_no_time_and_ends_on_the_second() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400.0)
        return asyncio.get_running_loop().time()

    assert _run(main()) == 86_400.0


def test_timers_fire_in_the_order_of_their_instants() -> None:
    fired: list[int] = []

    async def one(delay: int) -> None:
        await asyncio.sleep(delay)
        fired.append(delay)

    async def main() -> None:
        await asyncio.gather(*(one(d) for d in (30, 10, 20, 10)))

    _run(main())
    assert fired == [10, 10, 20, 30]


def test_time_stands_still_while_code_runs() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(1000):
            await asyncio.sleep(0)
        return loop.time() - start

    assert _run(main()) == 0.0


def test_a_paced_loop_reaches_the_same_instant() -> None:
    async def main() -> float:
        await asyncio.sleep(2.0)
        return asyncio.get_running_loop().time()

    assert _run(main(), pace=1000.0) == 2.0


def test_a_call_from_a_thread_wakes_an_idle_loop() -> None:
    async def main() -> str:
        return await asyncio.to_thread(lambda: "done")

    assert _run(main()) == "done"
