"""One seed, one simulation: everything that fails in it, and what was violated."""

import asyncio
import gc
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from market_maker.clock import SystemClock
from market_maker.config import Config, load_config
from market_maker.faultsim.fault_plan import plan_faults
from market_maker.faultsim.final_books import CANARY, journals_sha256
from market_maker.faultsim.invariants import Violation
from market_maker.faultsim.life import Killed
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.faultsim.world import World, WorldSettings

_S_PER_HOUR: Final = 3600.0
_REQUESTS_PER_MINUTE: Final = 1000
# Levels at once must leave room for one another; one is what a long simulation can afford mostly.
_LEVELS: Final = (*[1] * 9, 2)
_NS_PER_S: Final = 1e9


@dataclass(frozen=True, slots=True)
class SimulationSettings:
    """What every seed of a run has in common.

    Parameters
    ----------
    faults : sequence of str
        Classes of faults to draw from.
    overrides : sequence of str
        Settings of the bot, as `--set` takes them.
    keep : Path or None
        Folder in which the journals of each seed are kept.
    """

    hours: float = 1.0
    faults: Sequence[str] = ()
    market: str = "ETH-USD"
    market_events_per_minute: float = 8.0
    overrides: Sequence[str] = ()
    keep: Path | None = None


@dataclass(slots=True)
class SeedResult:
    """What came of one seed."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    journal_sha256: str = ""
    steps: int = 0
    lives: int = 0
    orders: int = 0
    fills: int = 0
    cpu_s: float = 0.0


def simulate(seed: int, settings: SimulationSettings) -> SeedResult:
    """Play one seed; the same seed and settings give the same result, and the same journals to the byte."""
    clock = SystemClock()
    began_ns = clock.thread_ns()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if settings.keep is None else settings.keep / f"seed-{seed}"
        for name in ("main", "second"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        gc.collect()
        # What lives on is not looked through again before the next seed.
        gc.freeze()
        gc.disable()
        try:
            with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
                result = runner.run(_play(seed, settings, folder))
        finally:
            gc.enable()
        result.journal_sha256 = journals_sha256(folder / "main")
    result.cpu_s = (clock.thread_ns() - began_ns) / _NS_PER_S
    return result


async def _play(seed: int, settings: SimulationSettings, folder: Path) -> SeedResult:
    result = SeedResult(seed)
    rng = np.random.default_rng([seed, 2])
    seconds = settings.hours * _S_PER_HOUR
    plan = plan_faults(settings.faults, seconds, rng)
    drawn = WorldSettings(
        seed,
        seconds,
        settings.market,
        settings.market_events_per_minute,
        foreign=bool(rng.integers(2)),
        requests_per_minute=_REQUESTS_PER_MINUTE,
        levels=_LEVELS[int(rng.integers(len(_LEVELS)))],
    )
    configs = tuple(bot_config(settings, drawn, folder / name) for name in ("main", "second"))

    def report(invariant: str, detail: str) -> None:
        result.violations.append(Violation(seed, world.watch.steps, world.now_s, invariant, detail))

    def on_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            report("crash", f"{context.get('message', '')}: {error!r}")

    asyncio.get_running_loop().set_exception_handler(on_error)
    world = World(drawn, (configs[0], configs[1]), folder, plan, report)
    await world.play()
    result.faults = Counter(world.exchange.fault_counts) + world.all_counts()
    result.steps = world.watch.steps
    result.lives = len(world.lives)
    result.orders = world.watch.orders_sent
    result.fills = len(world.account.trades)
    return result


def bot_config(settings: SimulationSettings, drawn: WorldSettings, folder: Path) -> Config:
    """Settings of the bot: a limit that binds, a key that is not to be seen anywhere."""
    overrides = [
        "network=emulator",
        f"markets={drawn.market}",
        f"journal_dir={folder}",
        "journal_inputs_enabled=no",
        f"num_levels={drawn.levels}",
        "max_position_notional_usd=2500",
        "idle_look_s=3",
        f"requests_per_minute={drawn.requests_per_minute}",
        f"foreign_orders={'leave' if drawn.foreign else 'refuse'}",
        *settings.overrides,
    ]
    return load_config(overrides, environ={"MM_API_KEY": CANARY})
