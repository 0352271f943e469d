"""The backtest beside hftbacktest and NautilusTrader, on one recording: processor time of each, in one run.

Binance's BTC recording, one time after the other until it has about five million changes of levels.
hftbacktest plays the grid market maker of its tutorial, NautilusTrader a two-level requoter (once through
the recording, and reckoned up: its objects would fill the memory), ours the profile `crypto` with everything
on, one setting, and 64 that differ in width and skew. All have 10 ms each way and have compiled before the
clock starts. Each runs in a process of its own; the other engines' environments are made by
`make .venv-parity/.installed .venv-nautilus/.installed`. Without them, or the recording, it says what is
missing and measures the rest.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from time import process_time
from typing import Any, Final

import numpy as np

from market_maker.backtest.fill_models import MODELS, Fees, fill_row
from market_maker.backtest.host import Contestant, MarketMakerRun
from market_maker.config import load_config
from market_maker.recordings import store
from market_maker.recordings.store import Hour, Store, open_store
from market_maker.risk_manager import RiskSettings

HERE: Final = Path(__file__).parent
RECORDING: Final = "binance-usdm-2024-08-08/btcusdt.gz"
TICK: Final = "0.1"
REPEATS: Final = 11
SETTINGS: Final = 64
LATENCY_NS: Final = 10_000_000
GAP_NS: Final = 1_000_000_000
ROUNDS: Final = 2
LIMITS: Final = {
    "one_to_hftbacktest": 1.2,
    "each_of_64_to_hftbacktest": 1 / 6,
    "one_to_nautilus": 1 / 20,
    "second_start_s": 2.0,
    "memory_of_tenfold_data": 1.1,
}


def without_best_quotes(rows: Hour) -> Hour:
    """Depth and trades alone, which is what the other engines read; a frame's end stays one."""
    kept = np.flatnonzero(~np.isin(rows.kind & store.CODE_MASK, (store.BEST_BID, store.BEST_ASK)))
    ends = np.maximum.reduceat(rows.kind & store.LAST, kept)
    columns: list[Any] = [column[kept] for column in rows]
    chosen = Hour(*columns)
    return chosen._replace(kind=(chosen.kind & store.CODE_MASK) | ends)


def pieces(rows: Hour, count: int) -> Iterator[Hour]:
    """Yield the recording one time after the other, a second between them."""
    span_ns = int(rows.venue_ns[-1] - rows.venue_ns[0]) + GAP_NS
    for i in range(count):
        yield rows._replace(venue_ns=rows.venue_ns + i * span_ns)


def varied(contestant: Contestant) -> Iterator[Contestant]:
    """Yield contestants that differ in width and skew, eight of each, as a sweep would have them."""
    for width, skew in product(np.linspace(0.5, 2.25, 8), np.linspace(0.1, 0.8, 8)):
        params = contestant.params
        offset = replace(params.offset, offset_sigma_multiple=float(width))
        leaning = replace(params.skew, inventory_skew_factor=float(skew))
        yield replace(contestant, params=replace(params, offset=offset, skew=leaning))


def play(
    opened: Store, settings: int, repeats: int, *, best_quotes: bool = False, warm: bool = True
) -> dict[str, Any]:
    """Run ours in this process: processor time of the run, of all until its end, and the most memory.

    Warm, a little of the recording is played before, so that nothing is loaded while the clock runs.
    """
    market = opened.markets[0]
    instrument, config = opened.instrument(market), load_config(profile="crypto")
    rows = Hour(*[np.concatenate(column) for column in zip(*opened.hours(market), strict=True)])
    if not best_quotes:
        rows = without_best_quotes(rows)
    fills = fill_row(MODELS["base"], LATENCY_NS / 1e9, Fees(), instrument)
    contestant = Contestant(config.strategy_params(market), config.of(RiskSettings, market), fills)
    contestants = [contestant] if settings == 1 else list(islice(varied(contestant), settings))
    if warm:
        few = int(np.flatnonzero(rows.kind & store.LAST)[100]) + 1
        MarketMakerRun(instrument, [contestant]).run([Hour(*[column[:few] for column in rows])])
    run = MarketMakerRun(instrument, contestants)
    begun = process_time()
    lines = sum(len(piece.log) for part in pieces(rows, repeats) for piece in run.feed(part))
    lines += sum(len(piece.log) for piece in run.finish())
    risks: Any = run.bench.risks
    return {
        "seconds": process_time() - begun,
        "all_s": process_time(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
        "rows": run.rows,
        "decisions": int(risks["decisions"].sum()),
        "log_rows": lines,
    }


def child(*command: str) -> dict[str, Any]:
    """Run a process that prints JSON on its last line."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(folder: Path, settings: int, repeats: int, what: str = "depth") -> dict[str, Any]:
    """Run ours in a process of its own."""
    return child(sys.executable, __file__, "--play", str(folder), str(settings), str(repeats), what)


def best(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Find the one that other programs disturbed least."""
    return min(runs, key=lambda run: run["seconds"])


def missing(source: Path, peers: dict[str, Path]) -> list[str]:
    """Say what is not there."""
    absent = [] if source.is_file() else [f"{source}: the recording (--data names its folder)"]
    make = "make .venv-parity/.installed .venv-nautilus/.installed"
    return absent + [
        f"{path}: {name}'s environment ({make})" for name, path in peers.items() if not path.is_file()
    ]


def measure(source: Path, peers: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Run all engines in turns."""
    with tempfile.TemporaryDirectory() as folder:
        converted, events = Path(folder) / "store", Path(folder) / "events.npy"
        convert = [
            sys.executable,
            "-m",
            "market_maker",
            "data",
            "convert",
            str(source),
            "--to",
            str(converted),
        ]
        subprocess.run([*convert, "--json"], check=True, capture_output=True)
        ours(converted, 1, 1)
        found: dict[str, Any] = {}
        theirs = peers["hftbacktest"]
        if theirs.is_file():
            side = str(HERE / "parity" / "hft_side.py")
            subprocess.run([theirs, side, "convert", str(source), str(events)], check=True, stdout=sys.stderr)
        found["rounds"] = [_round(converted, events, peers) for _ in range(rounds)]
        found["with_best_quotes"] = ours(converted, 1, REPEATS, "all")
        found["one_tenth"] = ours(converted, 1, 1)
        found["tenfold"] = ours(converted, 1, 10)
    return found


def _round(converted: Path, events: Path, peers: dict[str, Path]) -> dict[str, Any]:
    measured = {}
    if events.is_file():
        grid = [str(peers["hftbacktest"]), str(HERE / "parity" / "hft_grid.py"), str(events), TICK]
        measured["hftbacktest"] = child(*grid, str(REPEATS), str(LATENCY_NS))
    measured["one"] = ours(converted, 1, REPEATS)
    measured["one_from_the_start"] = ours(converted, 1, REPEATS, "cold")
    measured["many"] = ours(converted, SETTINGS, REPEATS)
    if events.is_file() and peers["nautilus"].is_file():
        script = [str(peers["nautilus"]), str(HERE / "nautilus" / "requoter.py"), str(events), TICK]
        once = child(*script, "1.0", str(LATENCY_NS))
        measured["nautilus"] = once | {"seconds": once["seconds"] * REPEATS, "reckoned_up": REPEATS}
    return measured


def ratios(found: dict[str, Any]) -> dict[str, float]:
    """Reckon the figures that have a limit."""
    rounds = found["rounds"]
    names = set(rounds[0])
    seconds = {name: best([one[name] for one in rounds])["seconds"] for name in names}
    second = min(one["one_from_the_start"]["all_s"] for one in rounds)
    measured = {
        "second_start_s": second - seconds["one"],
        "memory_of_tenfold_data": found["tenfold"]["peak_mb"] / found["one_tenth"]["peak_mb"],
    }
    if "hftbacktest" in names:
        measured["one_to_hftbacktest"] = seconds["one"] / seconds["hftbacktest"]
        measured["each_of_64_to_hftbacktest"] = seconds["many"] / SETTINGS / seconds["hftbacktest"]
    if "nautilus" in names:
        measured["one_to_nautilus"] = seconds["one"] / seconds["nautilus"]
    return {name: round(value, 4) for name, value in measured.items()}


def main() -> None:
    """Measure, or with `--play` be the process that is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the recordings")
    parser.add_argument("--play", nargs=4, metavar=("STORE", "SETTINGS", "REPEATS", "ROWS"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    if options.play:
        path, settings, repeats, what = options.play
        played = play(
            open_store(Path(path)),
            int(settings),
            int(repeats),
            best_quotes=what == "all",
            warm=what != "cold",
        )
        sys.stdout.write(json.dumps(played) + "\n")
        return
    source = options.data / RECORDING
    peers = {
        name: Path(f".venv-{folder}/bin/python")
        for name, folder in (("hftbacktest", "parity"), ("nautilus", "nautilus"))
    }
    absent = missing(source, peers)
    result: dict[str, Any] = {"missing": absent} if absent else {}
    if source.is_file():
        found = measure(source, peers, options.rounds)
        measured = ratios(found)
        met = {name: measured[name] <= LIMITS[name] for name in measured}
        result |= {"measured": measured, "limits": LIMITS, "met": met} | found
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
