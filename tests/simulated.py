"""One world of a simulation, played for a while with a plan that the test writes."""

import asyncio
from pathlib import Path

from market_maker.faultsim.fault_plan import FaultPlan, PlannedFault, Stretch
from market_maker.faultsim.simulation import SimulationSettings, bot_config
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.faultsim.world import World, WorldSettings

MARKET = "ETH-USD"


def plan_of(*faults: PlannedFault, seconds=120.0) -> FaultPlan:
    """A plan of these faults, and quiet after the last."""
    over_s = max((fault.end_s for fault in faults), default=0.0)
    return FaultPlan(tuple(faults), (Stretch(over_s, seconds),))


class Simulated:
    """What came of a world: it, and what was reported of it as (invariant, detail)."""

    def __init__(self, folder: Path, *faults: PlannedFault, seconds=120.0, during=None, foreign=False, **how):
        self.reports: list[tuple[str, str]] = []
        self.folder = folder / "main"
        for name in ("main", "second"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        drawn = WorldSettings(
            how.pop("seed", 1), seconds, MARKET, 60.0, foreign=foreign, requests_per_minute=1000
        )
        chosen = SimulationSettings(overrides=how.pop("settings", ()))
        configs = tuple(bot_config(chosen, drawn, folder / name) for name in ("main", "second"))

        async def main() -> None:
            plan = plan_of(*faults, seconds=seconds)
            self.world = World(drawn, configs, folder, plan, lambda *told: self.reports.append(told))
            beside = asyncio.ensure_future(during(self.world)) if during is not None else None
            await self.world.play()
            if beside is not None:
                beside.result()

        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(main())

    def kinds(self) -> set[str]:
        """Invariants that were reported as violated."""
        return {invariant for invariant, _ in self.reports}
