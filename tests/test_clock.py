"""Clocks and entropy: time that never runs backwards, and draws that a seed repeats."""

import asyncio

from market_maker.clock import Entropy, LoopClock, SystemClock
from market_maker.domain import NS_PER_S
from market_maker.faultsim.virtual_loop import VirtualTimeLoop


def test_the_system_clock_never_runs_backwards() -> None:
    clock = SystemClock()
    readings = [clock.now_ns() for _ in range(1000)]
    assert readings == sorted(readings)
    assert clock.perf_ns() <= clock.perf_ns()


def test_the_loop_clock_follows_virtual_time() -> None:
    async def main() -> tuple[int, int]:
        clock = LoopClock(asyncio.get_running_loop(), start_ns=5 * NS_PER_S)
        before = clock.now_ns()
        await asyncio.sleep(3600.0)
        assert clock.perf_ns() > 0
        return before, clock.now_ns()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        assert runner.run(main()) == (5 * NS_PER_S, 3605 * NS_PER_S)


def test_a_seed_repeats_nonces_and_tokens() -> None:
    first, second = Entropy(7), Entropy(7)
    assert [first.nonce() for _ in range(5)] == [second.nonce() for _ in range(5)]
    assert first.token(12) == second.token(12)
    assert Entropy().token(16) != Entropy().token(16)


def test_nonces_stay_in_the_documented_range() -> None:
    entropy = Entropy(1)
    assert all(1 <= entropy.nonce() <= 2**31 - 1 for _ in range(1000))
    assert entropy.token(8).isalnum()
