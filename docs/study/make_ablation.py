"""The ablation: the profile beside itself less each part, on every recording. `make ablation` runs it.

    python docs/study/make_ablation.py             # all of ../shared/data
    python docs/study/make_ablation.py --reuse     # the page again, from results that are there

Each recording is calibrated on its first fifth, which gives the model quotes and the micro-price their
settings, and each market is then one call of `mm backtest`. Tables go between the marks of
docs/study/ablation.md, the plot beside it; what stands around them is written by hand.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from make_study import RECORDINGS, ROOT, filled
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from study_tables import table

PAGE: Final = ROOT / "docs" / "study" / "ablation.md"
PLOT: Final = ROOT / "docs" / "study" / "plots" / "ablation.png"
RESULTS: Final = ROOT / "benchmarks" / "results" / "ablation"
FEATURES: Final = "regime,trend,flow,funding,micro_price"
VARIANTS: Final = ("fade:trend_mode=fade", "grid:strategy=grid")
MODEL_VARIANTS: Final = ("as:offset_mode=avellaneda_stoikov", "glft:offset_mode=glft")
# Where the taker's side is inferred only trades beyond our price fill us.
MODELS: Final = {"standx-btc-2026-01": ("trade_through",)}
Comparison = Mapping[str, Any]


def play(folder: str, recordings: Path, results: Path) -> None:
    """Calibrate a recording on its first part and play everybody on the rest."""
    results.mkdir(parents=True, exist_ok=True)
    data, settings = str(recordings / folder), results / f"{folder}.toml"
    settings.unlink(missing_ok=True)
    _mm(["calibrate", data, "--share", "0.2", "--write", str(settings)])
    for market, found in tomllib.loads(settings.read_text())["markets"].items():
        # Without a calibration there is no model to quote by.
        variants = VARIANTS + MODEL_VARIANTS * ("model_a_per_s" in found.get("model", {}))
        arguments = [
            "backtest",
            "--data",
            data,
            "--market",
            market,
            "--profile",
            "crypto",
            "--without",
            FEATURES,
        ]
        arguments += [word for variant in variants for word in ("--variant", variant)]
        models = MODELS.get(folder, ("base", "pessimistic"))
        arguments += [word for model in models for word in ("--fill-model", model)]
        played = _mm([*arguments, "--latency-ms", "250", "--config", str(settings), "--json"])
        (results / f"{folder}-{market}.json").write_bytes(played)


def _mm(arguments: Sequence[str]) -> bytes:
    command = [sys.executable, "-m", "market_maker", *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if ended.returncode:
        sys.exit(ended.returncode)
    return ended.stdout


def comparison_table(comparisons: Sequence[Comparison], models: Sequence[str]) -> str:
    """One row for each variant, with its difference under each fill model, USD an hour."""
    by_place = {(it["variant"], it["fill_model"]): it for it in comparisons}
    names = list(dict.fromkeys(it["variant"] for it in comparisons))
    heads = ["against full `crypto`, USD an hour", *models]
    rows = [[name, *(_cell(by_place[name, model]) for model in models)] for name in names]
    return table(heads, rows)


def _cell(comparison: Comparison) -> str:
    narrow, wide = comparison["interval"], comparison["adjusted"]
    if narrow is None:
        return "too short"
    text = f"{narrow['estimate']:+.2f} ({narrow['low']:+.2f} to {narrow['high']:+.2f})"
    if wide is not None and wide["low"] * wide["high"] > 0:
        return f"**{text}**"
    return text


def save_plot(found: Mapping[str, Sequence[Comparison]], path: Path) -> None:
    """Each variant's difference with both intervals, a panel for each market, the stricter fill model."""
    figure = Figure(figsize=(11, 2.2 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (market, comparisons) in zip(
        figure.subplots(len(found), 1, squeeze=False)[:, 0], found.items(), strict=True
    ):
        model = comparisons[-1]["fill_model"]
        shown = [it for it in comparisons if it["fill_model"] == model and it["interval"] is not None]
        for at, it in enumerate(shown):
            ax.hlines(at, it["adjusted"]["low"], it["adjusted"]["high"], color="0.75", lw=2)
            ax.hlines(at, it["interval"]["low"], it["interval"]["high"], color="C0", lw=4)
            ax.plot(it["interval"]["estimate"], at, "ko", ms=4)
        ax.set_yticks(range(len(shown)), [it["variant"].removeprefix("crypto ") for it in shown], fontsize=7)
        ax.axvline(0.0, color="0.4", lw=0.8)
        ax.set_title(
            f"{market}, {model}: USD an hour against full crypto; blue 95 %, grey adjusted", fontsize=8
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def write_page(results: Path, page: Path, plot: Path) -> None:
    """Fill the page from whatever results are there."""
    blocks, plotted = {}, {}
    for folder, venue in RECORDINGS.items():
        models = MODELS.get(folder, ("base", "pessimistic"))
        for path in sorted(results.glob(f"{folder}-*.json")):
            comparisons = json.loads(path.read_bytes())["comparisons"]
            name = f"{venue} {comparisons[0]['market']}"
            plotted[name], blocks[name] = comparisons, comparison_table(comparisons, models)
    page.write_text(filled(page.read_text(), blocks))
    save_plot(plotted, plot)


def main(arguments: Sequence[str]) -> None:
    """Run what is wanted and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--reuse", action="store_true", help="write the page from the results that are there")
    given = parser.parse_args(arguments)
    if not given.reuse:
        for folder in RECORDINGS:
            sys.stderr.write(f"{folder}\n")
            play(folder, given.recordings, given.results)
    write_page(given.results, PAGE, PLOT)


if __name__ == "__main__":
    main(sys.argv[1:])
