"""How much memory the demo takes after one and after twenty minutes of the market's time, and how it grows.

Each point is a process of its own that plays the demo's three markets in virtual time, with the exchange
inside, and reads its resident memory at the end, while everything is still held. So the exchange's own
history (orders, trades) counts too; the live bot would not have it.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from market_maker.cli.inside import run_inside
from market_maker.cli.play import Play
from market_maker.config import load_config

MARKETS: Final = ("BTC-USD", "ETH-USD", "WIF-USD")
SCENARIO: Final = "mixed"
SEED: Final = 1
_STATM: Final = Path("/proc/self/statm")
_MB: Final = 1e6
_COMPILE_S: Final = 1.0


def resident_mb() -> float:
    """Resident memory of this process in 10⁶ bytes; its peak where the system tells no more than that."""
    if _STATM.exists():
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MB if sys.platform == "darwin" else peak * 1024 / _MB


def point(seconds: float) -> dict[str, Any]:
    """Play for so long in this process, and say what is resident then."""
    before_mb = resident_mb()
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(
            overrides=(f"markets={','.join(MARKETS)}", f"journal_dir={folder}"), environ={}, env_file=None
        )
        played = run_inside(config, Play(seconds, SCENARIO, SEED, speed=0.0), show=False).played
        return {
            "market_seconds": seconds,
            "rss_mb": round(resident_mb(), 1),
            "rss_before_mb": round(before_mb, 1),
            "events": sum(run.events for run in played.runs),
            "fills": sum(run.fills.buys + run.fills.sells for run in played.runs),
            "journal_mb": round(played.journal.stat().st_size / _MB, 2),
        }


def main(minutes: Sequence[float] = (1.0, 10.0, 20.0)) -> dict[str, Any]:
    """Measure after so many minutes of the market's time, ascending: the first, …, the last."""
    # A process that has to compile keeps a hundred megabytes for it: let another one fill the cache.
    _in_a_process(_COMPILE_S)
    points = [_in_a_process(60.0 * each) for each in minutes]
    first, before_last, last = points[0], points[-2], points[-1]
    return {
        "benchmark": "memory",
        "python": platform.python_version(),
        "markets": list(MARKETS),
        "scenario": SCENARIO,
        "method": "statm" if _STATM.exists() else "peak",
        "points": points,
        "rss_first_mb": first["rss_mb"],
        "rss_last_mb": last["rss_mb"],
        "growth_mb_per_hour": _growth(first, last),
        "growth_late_mb_per_hour": _growth(before_last, last),
    }


def _growth(earlier: dict[str, Any], later: dict[str, Any]) -> float:
    hours = (later["market_seconds"] - earlier["market_seconds"]) / 3600.0
    grown_mb: float = later["rss_mb"] - earlier["rss_mb"]
    per_hour: float = round(grown_mb / hours, 1)
    return per_hour


def _in_a_process(seconds: float) -> dict[str, Any]:
    """Measure one point in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), str(seconds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    given = sys.argv[1:]
    found = point(float(given[0])) if given else main()
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
