"""The study: backtests of every recording, and the pages that show them. `make study` runs it.

    python docs/study/make_study.py                # all of ../shared/data
    python docs/study/make_study.py --recordings DIR --only hyperliquid-2025-09-04/ETH-USD
    python docs/study/make_study.py --reuse        # the pages again, from results that are there

Each recording is one call of `mm backtest`. Tables go between the marks `<!-- study NAME -->` and
`<!-- /study -->` of docs/study/backtest.md and README.md, plots beside the page; what stands around them is
written by hand and left alone.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from study_plots import save_plots
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


class Run(NamedTuple):
    """One call of `mm backtest`: a recording, perhaps one market of it, and where the result goes."""

    folder: str
    market: str
    result: Path


class MarkMissing(ValueError):
    """A page without the marks of a block that is to be written."""


def plan(only: Sequence[str], results: Path) -> list[Run]:
    """Runs that are wanted: every recording, or those of `only`, each FOLDER or FOLDER/MARKET."""
    wanted = [word.partition("/") for word in only] or [(folder, "", "") for folder in RECORDINGS]
    for folder, _, _ in wanted:
        if folder not in RECORDINGS:
            msg = f"expected a recording ({', '.join(RECORDINGS)}), was {folder}"
            raise ValueError(msg)
    return [Run(folder, market, results / (f"{folder}-{market}".strip("-"))) for folder, _, market in wanted]


def play(run: Run, recordings: Path) -> None:
    """Run one backtest, and save it."""
    command = [sys.executable, "-m", "market_maker", "backtest", "--data", str(recordings / run.folder)]
    command += [word for name in PROFILES for word in ("--profile", name)]
    command += [word for name in BASELINES for word in ("--baseline", name)]
    command += ["--latency-ms", LATENCIES_MS, "--save", str(run.result), "--replace", "--json"]
    if run.market:
        command += ["--market", run.market]
    run.result.parent.mkdir(parents=True, exist_ok=True)
    with run.result.with_suffix(".json").open("wb") as output:
        subprocess.run(command, stdout=output, check=True)


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
    """Write plots and tables."""
    markets = {
        f"{venue} {market}": outcomes
        for venue, saved in recordings.items()
        for market, outcomes in by_market(saved.outcomes).items()
    }
    save_plots(markets, page.parent / "plots")
    for path, blocks in ((page, page_blocks(recordings)), (readme, {"readme": readme_table(recordings)})):
        path.write_text(filled(path.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def main() -> None:
    """Run what is wanted, and write the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--only", action="append", default=[], metavar="FOLDER[/MARKET]")
    parser.add_argument("--reuse", action="store_true", help="take results that are there, run the others")
    options = parser.parse_args()
    recordings: dict[str, Saved] = {}
    for run in plan(options.only, options.results):
        if not (options.reuse and (run.result / RESULT_NAME).is_file()):
            play(run, options.recordings)
        saved, venue = load(run.result), RECORDINGS[run.folder]
        before = recordings.get(venue, Saved({}, []))
        recordings[venue] = Saved(before.header | saved.header, [*before.outcomes, *saved.outcomes])
    write_pages(recordings, options.page, options.readme)


if __name__ == "__main__":
    main()
