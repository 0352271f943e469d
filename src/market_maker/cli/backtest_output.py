"""What `mm backtest` prints, and what it tells beside the runs: data, calibration, terms, settings."""

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from market_maker.backtest.fill_models import unsure_share
from market_maker.backtest.report import report_table
from market_maker.backtest.result_json import result_json
from market_maker.backtest.saved import Saved
from market_maker.backtest.trial import funding_of
from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.recordings.store import CODES, FUNDING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market_maker.backtest.look_ahead import Checked
    from market_maker.backtest.trial import Span, Trial, TrialSettings
    from market_maker.config import Config
    from market_maker.recordings.store import Store

_MS: Final = 1000.0
_SHOWN: Final = 5
_DECISION_SECTIONS: Final = ("quote", "risk")


def header(
    store: "Store", trials: "Sequence[Trial]", configs: "Sequence[Config]", settings: "TrialSettings"
) -> dict[str, Any]:
    """What is told beside the runs: data, calibration, and under which terms."""
    fees = settings.fees
    return {
        "data": {trial.market: _data(store, trial, settings) for trial in trials},
        "calibration": {
            trial.market: {**trial.yardsticks.calibration.as_dict(), "left_out": trial.yardsticks.left_out}
            for trial in trials
        },
        "terms": {
            "latencies_ms": [latency * _MS for latency in settings.latencies_s],
            "calibrate_share": settings.calibrate_share,
            "seed": settings.seed,
            "maker_fee_bps": fees.maker_bps,
            "taker_fee_bps": fees.taker_bps,
            "rebate_tiers": fees.rebate_tiers,
            "deposit_usd": settings.start_equity_usd,
            "reference": settings.reference,
        },
        "look_ahead": {
            trial.market: [
                {
                    "at": _instant(checked.at_ns),
                    "seconds_before": checked.before,
                    "seconds_changed_after": checked.after,
                    "differences": list(checked.differences),
                    "sound": checked.is_sound,
                }
                for checked in trial.checked
            ]
            for trial in trials
            if trial.checked
        },
        "settings": {config.value("profile"): _changed(config) for config in configs},
    }


def _data(store: "Store", trial: "Trial", settings: "TrialSettings") -> dict[str, Any]:
    info, span = store.info(trial.market), trial.span
    due = funding_of(info, settings).ns
    told = int(((due >= span.start_ns) & (due <= span.end_ns)).sum())
    return {
        "venue": info.venue,
        "tick": info.tick,
        "step": info.step,
        "events": trial.events,
        **_instants(span),
        "gaps": len(info.gaps),
        "gap_seconds": sum(end - begin for begin, end in info.gaps) / NS_PER_S,
        "taker_unsure_share": unsure_share(info),
        "fill_models": [model.name for model in trial.models],
        "funding_payments": info.counts.get(CODES[FUNDING], 0) + told,
        "findings": dict(info.findings),
        "sources": [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in info.sources],
    }


def _instants(span: "Span") -> dict[str, str]:
    named = (("start", span.start_ns), ("scored_from", span.score_ns), ("end", span.end_ns))
    return {name: _instant(ns) for name, ns in named}


def _instant(ns: int) -> str:
    import numpy as np

    return f"{np.datetime64(ns // NS_PER_MS, 'ms')}Z"


def _changed(config: "Config") -> dict[str, Any]:
    """Settings that are not as they are by default, and sizes and limits in any case."""
    settings = config.schema.settings
    shown = {}
    for name, setting in settings.items():
        if setting.section in _DECISION_SECTIONS or config.origins[name] != "default":
            shown[name] = setting.shown(config.value(name))
    return shown


def print_result(trials: "Sequence[Trial]", told: dict[str, Any], *, as_json: bool) -> None:
    """Print everything: JSON alone on standard output, or tables and what the data do not support."""
    outcomes = [outcome for trial in trials for outcome in trial.outcomes]
    if as_json:
        print(result_json(Saved(told, outcomes)))
        return
    console = Console()
    console.print(report_table(outcomes))
    for trial in trials:
        for name, why in trial.yardsticks.left_out.items():
            console.print(Text(f"- {trial.market}: {name} does not play: {why}", style="yellow"))
        for checked in trial.checked:
            console.print(_look_ahead(trial.market, checked))


def _look_ahead(market: str, checked: "Checked") -> Text:
    where = f"{market}: the future changed from {_instant(checked.at_ns)} on"
    if checked.is_sound:
        text = f"- {where}: {checked.before:,} seconds before it are the same, {checked.after} after it not."
        return Text(text, style="green")
    if not checked.differences:
        return Text(f"- {where}: nothing differs after it either, so nothing is shown.", style="bold red")
    found = "\n  ".join(checked.differences[:_SHOWN])
    return Text(f"- {where}: {len(checked.differences)} differences before it:\n  {found}", style="bold red")
