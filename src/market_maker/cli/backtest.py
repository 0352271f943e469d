"""`mm backtest`: what profiles and baselines would have done in recorded markets."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from market_maker.cli.app import (
    ConfigOption,
    EnvFileOption,
    ExitCode,
    JsonOption,
    SetOption,
    app,
    examples,
    load_settings,
    note,
)
from market_maker.cli.backtest_ablation import (
    comparison_dicts,
    print_comparisons,
    read_variants,
    variant_configs,
)
from market_maker.cli.backtest_portfolio import print_risks, risk_dicts
from market_maker.cli.data import conversion_progress, interruptible
from market_maker.domain import NS_PER_S

if TYPE_CHECKING:
    from market_maker.backtest.trial import Told, Trial, TrialSettings
    from market_maker.config import Config
    from market_maker.recordings.store import Store

_PROFILES: Final = ("crypto", "legacy")
_TIMES: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]
_INSTANTS: Final = 3
_SLOWEST_MS: Final = 60_000.0


@app.command(
    epilog=examples(
        "mm backtest --data recordings/hyperliquid",
        "mm backtest --data data --market BTC-USD --latency-ms 50 --fill-model base",
        "mm backtest --data data --profile crypto --profile legacy --baseline glft --save results/btc",
        "mm backtest --data data --set level_size_usd=500 --json > result.json",
        "mm backtest --data data --one-account --without portfolio",
        "mm backtest --data data --profile crypto --without regime,trend,flow",
        "mm backtest --data data --profile crypto --variant 'fade:trend_mode=fade'",
        "mm backtest --data data --check-look-ahead",
        "mm backtest --data data --funding funding.parquet --funding-venue hyperliquid",
        "mm backtest --data data --reference BTC-USD --set reference_source=outside --set reference_beta=0.5",
        "mm backtest --data bars/crash-days-1m.parquet --stress",
    )
)
def backtest(
    *,
    data: Annotated[
        Path,
        typer.Option("--data", "-d", metavar="PATH", help="Converted markets, or any recording."),
    ],
    market: Annotated[
        list[str] | None, typer.Option("--market", "-m", help="Only this; may be repeated.")
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            "--profile", "-p", metavar="NAME", help="Who plays; may be repeated. (default: crypto, legacy)"
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            "-b",
            metavar="NAME",
            help="Yardstick beside them: symmetric, avellaneda_stoikov or glft; may be repeated.",
        ),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="FEATURE[,FEATURE]",
            help="Each profile once more without each: regime, trend, flow, funding, micro_price, or with "
            "--one-account portfolio.",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME:SETTING=VALUE[;...]",
            help="Each profile once more with settings of its own; may be repeated.",
        ),
    ] = None,
    latency_ms: Annotated[
        str,
        typer.Option(
            "--latency-ms", metavar="MS[,MS]", help="Time of an order to the exchange, and as long back."
        ),
    ] = "10,250,1000",
    fill_model: Annotated[
        list[str] | None,
        typer.Option(
            "--fill-model",
            metavar="NAME",
            help="Only this: pessimistic, base, optimistic or trade_through; may be repeated. "
            "(default: the first three; the last alone where the data do not say who took)",
        ),
    ] = None,
    calibrate_share: Annotated[
        float,
        typer.Option(min=0.05, max=0.9, help="First part of the span: models are fitted, nothing is scored."),
    ] = 0.2,
    since: Annotated[
        datetime | None,
        typer.Option("--from", metavar="TIME", formats=_TIMES, help="Read from here on, UTC."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", metavar="TIME", formats=_TIMES, help="Read up to here, UTC.")
    ] = None,
    one_account: Annotated[
        bool,
        typer.Option(
            "--one-account", help="All markets beside each other in one account, whose limits they share."
        ),
    ] = False,
    deposit: Annotated[
        float, typer.Option(min=10.0, max=1e12, help="Equity of each at the beginning, USD.")
    ] = 10_000.0,
    rebates: Annotated[
        bool, typer.Option("--rebates", help="Credit maker rebates by the share of this market's volume.")
    ] = False,
    funding: Annotated[
        Path | None,
        typer.Option(
            "--funding", metavar="FILE", help="Parquet table of funding, for recordings that have none."
        ),
    ] = None,
    funding_venue: Annotated[
        str, typer.Option("--funding-venue", metavar="NAME", help="Whose, of that table.")
    ] = "hyperliquid",
    reference: Annotated[
        str,
        typer.Option(
            "--reference", metavar="MARKET", help="Of the same data: the outside reference of all others."
        ),
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 1,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Keep everything there, for mm report.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a result that is there.")] = False,
    check_look_ahead: Annotated[
        bool,
        typer.Option("--check-look-ahead", help="Change the future, see that nothing before it changes."),
    ] = False,
    stress: Annotated[
        bool, typer.Option("--stress", help="Days of minute bars, a book made of them, the slowest latency.")
    ] = False,
    config: ConfigOption = None,
    settings: SetOption = None,
    env_file: EnvFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Play profiles and baselines over recorded markets, and say what would have happened, and why.

    Variants of a profile (--without, --variant) are compared with it over the same stretches of time.

    Everybody has equal sizes, limits, fees and latencies, and plays under each fill model beside each other.
    The decisions are those of mm run. A recording in another format is converted first, and kept.
    """
    from market_maker.backtest.fill_models import Fees
    from market_maker.backtest.funding import read_funding
    from market_maker.backtest.trial import EVER, TrialSettings
    from market_maker.orderbook_manager import BookSettings
    from market_maker.recordings.discovery import market_name

    def load(name: str, overrides: Sequence[str] = ()) -> "Config":
        return load_settings(config, [*(settings or ()), *overrides], name, env_file)

    baselines = tuple(dict.fromkeys(baseline or ()))
    names = tuple(dict.fromkeys(profile or _PROFILES))
    configs = [load(name) for name in names]
    changes = read_variants(without or (), variant or (), one_account=one_account)
    wanted = _Wanted(
        data,
        tuple(market or ()),
        baselines,
        variant_configs(changes, names, load),
        save,
        replace=replace,
        one_account=one_account,
    )
    terms = TrialSettings(
        latencies_s=_latencies_s(latency_ms),
        fill_models=tuple(dict.fromkeys(fill_model or ())),
        fees=Fees(rebate_tiers=rebates),
        calibrate_share=calibrate_share,
        span_ns=(_ns(since, EVER[0]), _ns(until, EVER[1])),
        seed=seed,
        funding=read_funding(funding, funding_venue) if funding else {},
        start_equity_usd=deposit,
        book=configs[0].of(BookSettings),
        look_ahead_instants=_INSTANTS if check_look_ahead else 0,
        reference=market_name(reference) if reference else "",
    )
    _check_names(wanted.baselines, terms.fill_models)
    if stress:
        raise typer.Exit(_stress(wanted, configs, terms, as_json=as_json))
    raise typer.Exit(_play(wanted, configs, terms, as_json=as_json))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is played on, by whom beside the profiles, and where the result goes."""

    data: Path
    markets: tuple[str, ...]
    baselines: tuple[str, ...]
    variants: "Mapping[str, Config]"
    save: Path | None
    replace: bool
    one_account: bool


def _stress(
    wanted: _Wanted, configs: "Sequence[Config]", terms: "TrialSettings", *, as_json: bool
) -> ExitCode:
    from market_maker.cli.backtest_stress import play_stress

    refused = (
        ("--baseline", wanted.baselines),
        ("--without or --variant", wanted.variants),
        ("--save", wanted.save),
        ("--one-account", wanted.one_account),
        ("--reference", terms.reference),
    )
    for option, given in refused:
        if given:
            msg = "expected none with --stress, which plays profiles and keeps nothing"
            raise typer.BadParameter(msg, param_hint=option)
    return play_stress(wanted.data, wanted.markets, configs, terms, as_json=as_json)


def _play(
    wanted: _Wanted, configs: "Sequence[Config]", settings: "TrialSettings", *, as_json: bool
) -> ExitCode:
    from market_maker.backtest.ablation import compare
    from market_maker.backtest.portfolio_risk import portfolio_risks
    from market_maker.backtest.saved import check_target
    from market_maker.backtest.saved import save as save_result
    from market_maker.backtest.trial_data import cache_folder, chosen, open_data
    from market_maker.cli.backtest_output import header, print_result

    if wanted.save is not None:
        check_target(wanted.save, replace=wanted.replace)
    with interruptible("stopped: nothing was saved"):
        store = open_data(wanted.data, cache_folder(), conversion_progress)
        markets = chosen(store, wanted.data, wanted.markets)
        trials = _trials(store, markets, configs, wanted, settings)
        found = compare({trial.market: trial.outcomes for trial in trials}, settings.seed)
        risks = portfolio_risks([trial.outcomes for trial in trials]) if wanted.one_account else []
        told = header(store, trials, configs, settings) | {"comparisons": comparison_dicts(found)}
        if risks:
            told["portfolio_risk"] = risk_dicts(risks)
        _tell_models(trials, settings)
        if wanted.save is not None:
            outcomes = [outcome for trial in trials for outcome in trial.outcomes]
            save_result(wanted.save, outcomes, told, replace=wanted.replace)
    print_result(trials, told, as_json=as_json)
    if not as_json:
        print_comparisons(found)
        print_risks(risks)
    if wanted.save is not None:
        note(f"saved in {wanted.save}: mm report {wanted.save}")
    is_sound = all(checked.is_sound for trial in trials for checked in trial.checked)
    return ExitCode.OK if is_sound else ExitCode.FAILED


def _trials(
    store: "Store",
    markets: Sequence[str],
    configs: "Sequence[Config]",
    wanted: _Wanted,
    settings: "TrialSettings",
) -> "list[Trial]":
    from market_maker.backtest.contest import entrants
    from market_maker.backtest.trial import run_together, run_trial

    # Before anything runs: a market that cannot be played ends it now and not in an hour.
    entered = {market: entrants(configs, wanted.baselines, market, wanted.variants) for market in markets}
    with _progress(store, markets) as told:
        if wanted.one_account:
            return run_together(store, entered, settings, told)
        return [run_trial(store, market, entered[market], settings, told) for market in markets]


def _tell_models(trials: "Sequence[Trial]", settings: "TrialSettings") -> None:
    """Say where a market was not played as it was asked for."""
    for trial in trials:
        played = [model.name for model in trial.models]
        if settings.fill_models and played != list(settings.fill_models):
            note(f"{trial.market}: played as {', '.join(played)} alone, its data do not say who took")


@contextmanager
def _progress(store: "Store", markets: Sequence[str]) -> "Iterator[Told]":
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[doing]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {market: bars.add_task(market, total=None, doing="waits", start=False) for market in markets}

        def told(market: str, doing: str, done_ns: int, total_ns: int) -> None:
            task = tasks[market]
            bars.start_task(task)
            bars.update(task, total=total_ns, completed=done_ns, doing=doing)

        yield told


def _check_names(baselines: Sequence[str], models: Sequence[str]) -> None:
    from market_maker.backtest.baselines import NAMES
    from market_maker.backtest.fill_models import MODELS

    for option, names, known in (("--baseline", baselines, NAMES), ("--fill-model", models, tuple(MODELS))):
        unknown = [name for name in names if name not in known]
        if unknown:
            msg = f"expected {', '.join(known)}, was {', '.join(unknown)}"
            raise typer.BadParameter(msg, param_hint=option)


def _latencies_s(text: str) -> tuple[float, ...]:
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0.0 <= ms <= _SLOWEST_MS for ms in found):
        msg = f"expected milliseconds from 0 to {_SLOWEST_MS:g} such as 10,250, was {text!r}"
        raise typer.BadParameter(msg, param_hint="--latency-ms")
    return tuple(dict.fromkeys(ms / 1000.0 for ms in found))


def _ns(at: datetime | None, otherwise: int) -> int:
    return otherwise if at is None else round(at.replace(tzinfo=UTC).timestamp()) * NS_PER_S
