"""The ablation: what each feature of the profile is worth, on every recording. `make ablation` runs it.

    python docs/study/make_ablation.py                # all of ../shared/data
    python docs/study/make_ablation.py --recordings DIR --only hyperliquid
    python docs/study/make_ablation.py --reuse        # the page again, from results that are there

Each market is one call of `mm backtest`: the full profile, the same less each feature, and changed, as rows
of one pass. Models are fitted on the first part of each market (`mm calibrate --share`), which is not scored.
Four markets are played once more in one account, and generated weeks with the funding of a table. Tables go
between the marks `<!-- study NAME -->` and `<!-- /study -->` of docs/study/ablation.md, plots beside it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import ablation_tables as tables
import numpy as np
from ablation_plots import save_differences, save_variances
from ablation_tables import PESSIMISTIC, Markets
from generated_days import Days, write_days
from make_study import FUNDING, FUNDING_TABLE, RECORDINGS, ROOT, filled

from market_maker.backtest.ablation import Comparison, compare
from market_maker.backtest.fill_models import BASE
from market_maker.backtest.funding import read_funding
from market_maker.backtest.outcome import BUCKET_DTYPE, Outcome
from market_maker.backtest.portfolio_risk import PortfolioRisk, portfolio_risks
from market_maker.backtest.saved import RESULT_NAME, load
from market_maker.domain import BPS, NS_PER_S
from market_maker.recordings.store import FUNDING_PARTS, NS_PER_HOUR

PAGE: Final = ROOT / "docs" / "study" / "ablation.md"
RESULTS: Final = ROOT / "benchmarks" / "results" / "ablation"
SHARE: Final = 0.2
WITHOUT: Final = "regime,trend,flow,funding,micro_price"
# The market of a recording that stands in for an outside venue's, for the others of it.
REFERENCE: Final = "BTC-USD"
CHANGES: Final = ("fade:trend_mode=fade", "grid:strategy=grid")
REFERENCED: Final = (
    "outside 0:reference_source=outside",
    "outside 0.5:reference_source=outside;reference_beta=0.5",
)
TOGETHER: Final = "hyperliquid-2025-09-04"
JOINED: Final = (
    "with hedge:hedge_enabled=true",
    "with hedge alone:hedge_enabled=true;portfolio_enabled=false",
)
ACCOUNT: Final = "one account"
# Weeks of the table whose rates were high, low, and as usual.
WEEKS: Final = (("HYPE-USD", "2025-05-20"), ("SOL-USD", "2025-10-09"), ("BTC-USD", "2025-06-02"))
_HOURS: Final = 7 * 24


class Job(NamedTuple):
    """One call of `mm backtest`: its title, the data, and what is asked for."""

    title: str
    data: Path
    arguments: tuple[str, ...]
    result: Path


class Week(NamedTuple):
    """A generated week: its title, its market and the rates of its hours, fractions."""

    title: str
    days: Days

    @property
    def mean_bps(self) -> float:
        """Mean rate of an hour, bps."""
        return float(np.mean(np.array(self.days.rates))) * BPS


def _mm(arguments: Sequence[str], log: Path, allowed: Sequence[int] = (0,)) -> bytes:
    """Run a command, what it tells beside its output into a file; give the output."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as told:
        command = [sys.executable, "-m", "market_maker", *arguments]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=told, check=False)
    if ended.returncode not in allowed:
        sys.exit(f"{' '.join(arguments)}\n{log.read_text(errors='replace')[-2_000:]}")
    return ended.stdout


def calibrate(folder: str, recordings: Path, results: Path) -> tuple[list[str], dict[str, Any]]:
    """Markets of a recording, and what the first part of each gave: settings by market and section."""
    written = results / f"{folder}.toml"
    written.parent.mkdir(parents=True, exist_ok=True)
    words = ("calibrate", str(recordings / folder), "--share", str(SHARE), "--json", "--write", str(written))
    # 4 is all refused: there is nothing to quote by then, and the rest is played.
    told = json.loads(_mm(words, results / f"{folder}-calibrate.log", allowed=(0, 4)))
    (results / f"{folder}.json").write_text(json.dumps(told), encoding="utf-8")
    names = [market["market"] for market in told["markets"]]
    return names, tomllib.loads(written.read_text(encoding="utf-8")).get("markets", {})


def fitted_variants(market: str, found: Mapping[str, Any]) -> Iterator[str]:
    """Variants that stand on a calibration, as `--variant` takes them."""
    model = found.get("model", {})
    if len(model) == len(("model_a_per_s", "model_k_per_bps", "model_sigma_bps")):
        settings = ";".join(f"{market}:{name}={value:g}" for name, value in model.items())
        for mode in ("avellaneda_stoikov", "glft"):
            yield f"{mode.replace('_', ' ')}:{market}:offset_mode={mode};{settings}"
    micro = found.get("micro_price", {})
    if micro:
        lists = {name: ",".join(f"{value:g}" for value in values) for name, values in micro.items()}
        yield "fitted micro price:" + ";".join(f"{market}:{name}={text}" for name, text in lists.items())


def market_jobs(folder: str, recordings: Path, results: Path) -> list[Job]:
    """A job for each market of a recording."""
    names, found = calibrate(folder, recordings, results)
    jobs = []
    for market in names:
        variants = [*CHANGES, *fitted_variants(market, found.get(market, {}))]
        words = ["--market", market, "--without", WITHOUT, *_funding(folder, recordings)]
        if REFERENCE in names and market != REFERENCE:
            variants += REFERENCED
            words += ["--reference", REFERENCE]
        words += [word for variant in variants for word in ("--variant", variant)]
        title = f"{RECORDINGS[folder]} {market}"
        jobs.append(Job(title, recordings / folder, tuple(words), results / title.replace(" ", "-")))
    return jobs


def _funding(folder: str, recordings: Path) -> list[str]:
    if folder not in FUNDING:
        return []
    return ["--funding", str(recordings / FUNDING_TABLE), "--funding-venue", FUNDING[folder]]


def account_job(recordings: Path, results: Path) -> Job:
    """All markets of a recording in one account."""
    words = ["--one-account", "--without", "portfolio", *_funding(TOGETHER, recordings)]
    words += [word for variant in JOINED for word in ("--variant", variant)]
    return Job(ACCOUNT, recordings / TOGETHER, tuple(words), results / "one-account")


def weeks(recordings: Path) -> list[Week]:
    """Weeks to generate, with the rates of the table."""
    rates = read_funding(recordings / FUNDING_TABLE, FUNDING[TOGETHER])
    found = []
    for market, day in WEEKS:
        start_ns = int(np.datetime64(day, "ns").astype(np.int64))
        # Payments are stamped some ms after the hour.
        numbers = (rates[market].ns + NS_PER_S * 60 - start_ns) // NS_PER_HOUR
        table = dict(zip(numbers.tolist(), (rates[market].rate_ppb / FUNDING_PARTS).tolist(), strict=True))
        paid = tuple(float(table.get(hour + 1, 0.0)) for hour in range(_HOURS))
        found.append(Week(f"{market} from {day}", Days(market, start_ns, paid)))
    return found


def week_job(week: Week, recordings: Path, results: Path) -> Job:
    """A generated week, made on the way."""
    folder = results / "generated" / week.title.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    write_days(folder, week.days, seed=1)
    words = ("--without", "funding", "--calibrate-share", "0.05", *_funding(TOGETHER, recordings))
    return Job(week.title, folder, words, results / week.title.replace(" ", "-"))


def play(job: Job) -> None:
    """Run a backtest, and save it."""
    words = ["backtest", "--data", str(job.data), "--profile", "crypto", "--latency-ms", "250", "--json"]
    words += ["--fill-model", BASE, "--fill-model", PESSIMISTIC, *job.arguments]
    _mm([*words, "--save", str(job.result), "--replace"], job.result.with_suffix(".log"))


def play_all(jobs: Sequence[Job], *, reuse: bool, processes: int) -> None:
    """Run what is not there; the first alone, so that kernels are compiled once."""
    left = [job for job in jobs if not (reuse and (job.result / RESULT_NAME).is_file())]

    def told(numbered: tuple[int, Job]) -> None:
        play(numbered[1])
        sys.stderr.write(f"{numbered[0]} of {len(left)}: {numbered[1].title}\n")

    for numbered in list(enumerate(left[:1], 1)):
        told(numbered)
    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(told, enumerate(left[1:], 2)))


def accounts_of(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """An outcome for each account, its buckets the sums over its markets: what comparisons need."""
    found = []
    for _, group in groupby(sorted(outcomes, key=_label), key=_label):
        one, *others = group
        summed = np.array(one.buckets, BUCKET_DTYPE)
        for name in ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding", "volume"):
            summed[name] += sum((other.buckets[name] for other in others), np.zeros(len(summed)))
        found.append(Outcome(one.label, ACCOUNT, one.summary, buckets=summed, seconds=one.seconds))
    return found


def _label(outcome: Outcome) -> tuple[str, str]:
    return outcome.label.fill_model, outcome.label.name


def risks_of(account: Sequence[Outcome]) -> list[PortfolioRisk]:
    """How much the PnL of each account moves, against the first's."""
    return portfolio_risks([list(one) for _, one in groupby(account, lambda outcome: outcome.market)])


def page_blocks(
    markets: Markets, account: Sequence[Outcome], generated: Markets, rates: Mapping[str, float]
) -> tuple[dict[str, str], list[Comparison]]:
    """Blocks of the page by the name in their marks, and all comparisons."""
    weak = tables.weak_pairs(markets)
    everything: dict[str, Sequence[Outcome]] = {**markets, ACCOUNT: accounts_of(account), **generated}
    blocks, every = {}, {}
    for model in (PESSIMISTIC, BASE):
        # The only model of a market stands in for both.
        found = compare(tables.under(everything, model), family=lambda _: ())
        every.update({(one.market, one.variant, one.fill_model): one for one in found})
        blocks[f"{model} differences"] = tables.difference_table(found, weak, list(markets))
        blocks[f"{model} count"] = f"{found[0].comparisons if found else 0} comparisons."
        if model == PESSIMISTIC:
            told = tables.verdicts(found, weak, tuple(RECORDINGS.values()))
            blocks["verdicts"] = tables.verdict_text(told)
    comparisons = list(every.values())
    if account:
        joined = [one for one in comparisons if one.market == ACCOUNT]
        hours = float(account[0].buckets["seconds"].sum()) / 3600.0
        blocks["account"] = tables.account_table(risks_of(account), joined, hours)
    if generated:
        blocks["funding"] = tables.funding_table(generated, rates)
        blocks["funding differences"] = tables.difference_table(
            [one for one in comparisons if one.market in generated and one.fill_model == PESSIMISTIC],
            {},
            list(generated),
        )
    for title, outcomes in markets.items():
        blocks[title] = tables.result_block(outcomes)
    return blocks, comparisons


def write_page(
    page: Path, markets: Markets, account: Sequence[Outcome], generated: Markets, rates: Mapping[str, float]
) -> None:
    """Write the plots and the blocks of the page."""
    blocks, comparisons = page_blocks(markets, account, generated, rates)
    plots = page.parent / "plots"
    save_differences([one for one in comparisons if one.market in markets], plots / "ablation.svg")
    save_variances(risks_of(account), plots / "ablation-account.svg")
    page.write_text(filled(page.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def main() -> None:
    """Run what is wanted, and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--only", default="", metavar="WORD", help="recordings with this in their name")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--reuse", action="store_true", help="take results that are there, run the others")
    options = parser.parse_args()
    recordings, results = options.recordings, options.results
    folders = [folder for folder in RECORDINGS if options.only in folder]
    of_markets = [job for folder in folders for job in market_jobs(folder, recordings, results)]
    all_weeks = [] if options.only else weeks(recordings)
    of_weeks = [week_job(week, recordings, results) for week in all_weeks]
    of_account = [account_job(recordings, results)] if TOGETHER in folders else []
    play_all([*of_markets, *of_account, *of_weeks], reuse=options.reuse, processes=options.processes)
    shutil.rmtree(results / "generated", ignore_errors=True)
    write_page(
        options.page,
        {job.title: load(job.result).outcomes for job in of_markets},
        [one for job in of_account for one in load(job.result).outcomes],
        {job.title: load(job.result).outcomes for job in of_weeks},
        {week.title: week.mean_bps for week in all_weeks},
    )


if __name__ == "__main__":
    main()
