"""How many seconds of the market pass in a second of the machine, for the demo at its highest speed.

The demo's three markets with the exchange inside, as `mm demo --speed max --json` plays them: one thread does
all of it, so what it takes of a core is the time that it takes. Both the clock and the processor are asked;
on a busy machine they differ, and the second is the one to compare.
"""

import json
import platform
import resource
import sys
import tempfile
from typing import Any, Final

from market_maker.cli.inside import run_inside
from market_maker.cli.play import Play
from market_maker.clock import SystemClock
from market_maker.config import Config, load_config
from market_maker.domain import NS_PER_S

MARKETS: Final = ("BTC-USD", "ETH-USD", "WIF-USD")
SCENARIO: Final = "mixed"
SEED: Final = 1
_WARM_UP_S: Final = 2.0


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _measure(config: Config, seconds: float) -> dict[str, Any]:
    perf_ns = SystemClock().perf_ns
    begun_ns, begun_cpu_s = perf_ns(), _cpu_s()
    played = run_inside(config, Play(seconds, SCENARIO, SEED, speed=0.0), show=False).played
    wall_s, cpu_s = (perf_ns() - begun_ns) / NS_PER_S, _cpu_s() - begun_cpu_s
    events = sum(run.events for run in played.runs)
    return {
        "market_seconds": seconds,
        "wall_seconds": round(wall_s, 3),
        "cpu_seconds": round(cpu_s, 3),
        "book_events": events,
        "requests": sum(
            run.orders.placed + run.orders.replaced + run.orders.cancelled for run in played.runs
        ),
        "times_real_time": round(seconds / wall_s, 1),
        "times_real_time_per_core": round(seconds / cpu_s, 1),
        "cpu_us_per_book_event": round(cpu_s / max(events, 1) * 1e6, 1),
    }


def main(seconds: float = 300.0, rounds: int = 3) -> dict[str, Any]:
    """Measure `rounds` sessions of so many seconds each; the quickest by processor time is the result."""
    with tempfile.TemporaryDirectory() as folder:
        overrides = (f"markets={','.join(MARKETS)}", f"journal_dir={folder}")
        config = load_config(overrides=overrides, environ={}, env_file=None)
        # Compilation, or loading it from the cache, is no part of the speed.
        run_inside(config, Play(_WARM_UP_S, SCENARIO, SEED, speed=0.0), show=False)
        measured = [_measure(config, seconds) for _ in range(rounds)]
    best = max(measured, key=lambda each: each["times_real_time_per_core"])
    return {
        "benchmark": "speed",
        "python": platform.python_version(),
        "markets": list(MARKETS),
        "scenario": SCENARIO,
        "rounds": measured,
        "times_real_time": best["times_real_time"],
        "times_real_time_per_core": best["times_real_time_per_core"],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(), indent=2) + "\n")
