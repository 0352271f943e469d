"""The study: backtests of every recording, and the pages that show them. `make study` runs it.

    python docs/study/make_study.py                # all of ../shared/data
    python docs/study/make_study.py --recordings DIR --only hyperliquid-2025-09-04/ETH-USD
    python docs/study/make_study.py --reuse        # the pages again, from results that are there

Each recording is one call of `mm backtest`, and so are the crash days (`--only bars`). Tables go between the
marks `<!-- study NAME -->` and `<!-- /study -->` of docs/study/backtest.md and README.md, plots beside the
page; what stands around them is written by hand and left alone.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from study_plots import save_plots
from study_stress import stress_table
from study_tables import BLOCKS, base_of, by_market, calibration_table, data_table, readme_table

from market_maker.backtest.outcome import Outcome
from market_maker.backtest.saved import RESULT_NAME, Saved, load

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "study" / "backtest.md"
README: Final = ROOT / "README.md"
RESULTS: Final = ROOT / "benchmarks" / "results" / "study"
PROFILES: Final = ("crypto", "legacy")
BASELINES: Final = ("symmetric", "avellaneda_stoikov", "glft")
LATENCIES_MS: Final = "10,250,1000"
# Folder of a recording, and the name of its venue in the pages.
RECORDINGS: Final = {
    "binance-usdm-2024-08-08": "Binance",
    "hyperliquid-2025-09-04": "Hyperliquid",
    "standx-btc-2026-01": "StandX",
}
# Of the others the table of funding does not have the venue or the time.
FUNDING: Final = {"hyperliquid-2025-09-04": "hyperliquid"}
FUNDING_TABLE: Final = "funding/seven-venues-2025-03-2026-03.parquet"
STRESS: Final = "bars"
STRESS_BARS: Final = "bars/crash-days-1m.parquet"


class Run(NamedTuple):
    """One call of `mm backtest`: a recording, perhaps one market of it, and where the result goes."""

    folder: str
    market: str
    result: Path


class MarkMissing(ValueError):
    """A page without the marks of a block that is to be written."""


def plan(only: Sequence[str], results: Path) -> list[Run]:
    """Runs that are wanted: every recording, or those of `only`, each FOLDER or FOLDER/MARKET."""
    wanted = [word.partition("/") for word in only if word != STRESS]
    if not only:
        wanted = [(folder, "", "") for folder in RECORDINGS]
    for folder, _, _ in wanted:
        if folder not in RECORDINGS:
            msg = f"expected a recording ({', '.join(RECORDINGS)}) or {STRESS}, was {folder}"
            raise ValueError(msg)
    return [Run(folder, market, results / (f"{folder}-{market}".strip("-"))) for folder, _, market in wanted]


def play(run: Run, recordings: Path) -> None:
    """Run one backtest, and save it."""
    arguments = ["--data", str(recordings / run.folder), *_named("--baseline", BASELINES)]
    arguments += ["--latency-ms", LATENCIES_MS, "--save", str(run.result), "--replace"]
    if run.market:
        arguments += ["--market", run.market]
    if run.folder in FUNDING:
        arguments += ["--funding", str(recordings / FUNDING_TABLE), "--funding-venue", FUNDING[run.folder]]
    _backtest(arguments, run.result.with_suffix(".json"))


def play_stress(result: Path, recordings: Path) -> None:
    """Run the crash days; that a profile does not hold there is a result, too."""
    _backtest(["--data", str(recordings / STRESS_BARS), "--stress"], result, allowed=(0, 1))


def _named(option: str, names: Sequence[str]) -> list[str]:
    return [word for name in names for word in (option, name)]


def _backtest(arguments: Sequence[str], output: Path, allowed: Sequence[int] = (0,)) -> None:
    command = [sys.executable, "-m", "market_maker", "backtest", *_named("--profile", PROFILES)]
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    with partial.open("wb") as written:
        ended = subprocess.run([*command, *arguments, "--json"], stdout=written, check=False)
    if ended.returncode not in allowed:
        sys.exit(ended.returncode)
    partial.replace(output)


def filled(text: str, blocks: Mapping[str, str]) -> str:
    """Page with its blocks replaced.

    Raises
    ------
    MarkMissing
        If the page has no place for one of them.
    """
    for name, content in blocks.items():
        begin, end = f"<!-- study {name} -->\n", "<!-- /study -->"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            msg = f"expected the marks '{begin.strip()}' and '{end}' around a block, was none"
            raise MarkMissing(msg)
        text = f"{before}{begin}\n{content}\n\n{end}{after}"
    return text


def market_block(outcomes: Sequence[Outcome]) -> str:
    """All tables of one market."""
    model = base_of(outcomes).replace("_", " ")
    return "\n\n".join(
        f"**{title.format(model=model)}**\n\n{make(outcomes)}" for title, make in BLOCKS.items()
    )


def page_blocks(recordings: Mapping[str, Saved]) -> dict[str, str]:
    """Blocks of the page, by the name in their marks."""
    markets = {
        f"{venue} {market}": market_block(outcomes)
        for venue, saved in recordings.items()
        for market, outcomes in by_market(saved.outcomes).items()
    }
    return {"data": data_table(recordings), "calibration": calibration_table(recordings), **markets}


def write_pages(recordings: Mapping[str, Saved], page: Path, readme: Path) -> None:
    """Write the plots, and the tables of recordings."""
    markets = {
        f"{venue} {market}": outcomes
        for venue, saved in recordings.items()
        for market, outcomes in by_market(saved.outcomes).items()
    }
    save_plots(markets, page.parent / "plots")
    _fill(page, page_blocks(recordings))
    _fill(readme, {"readme": readme_table(recordings)})


def _fill(path: Path, blocks: Mapping[str, str]) -> None:
    path.write_text(filled(path.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def _recordings(runs: Sequence[Run], recordings: Path, *, reuse: bool) -> dict[str, Saved]:
    """Results by venue; runs of the same venue together."""
    found: dict[str, Saved] = {}
    for run in runs:
        if not (reuse and (run.result / RESULT_NAME).is_file()):
            play(run, recordings)
        saved, venue = load(run.result), RECORDINGS[run.folder]
        before = found.get(venue, Saved({}, []))
        found[venue] = Saved(before.header | saved.header, [*before.outcomes, *saved.outcomes])
    return found


def main() -> None:
    """Run what is wanted, and write the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--only", action="append", default=[], metavar="FOLDER[/MARKET]|bars")
    parser.add_argument("--reuse", action="store_true", help="take results that are there, run the others")
    options = parser.parse_args()
    runs = plan(options.only, options.results)
    if runs:
        found = _recordings(runs, options.recordings, reuse=options.reuse)
        write_pages(found, options.page, options.readme)
    if not options.only or STRESS in options.only:
        result = options.results / "stress.json"
        if not (options.reuse and result.is_file()):
            play_stress(result, options.recordings)
        _fill(options.page, {"stress": stress_table(json.loads(result.read_bytes())["stress"])})


if __name__ == "__main__":
    main()
