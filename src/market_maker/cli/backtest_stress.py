"""`mm backtest --stress`: profiles on the crash days of a file of bars."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console

from market_maker.cli.app import ExitCode, note
from market_maker.cli.data import interruptible

if TYPE_CHECKING:
    from market_maker.backtest.stress import OnHour
    from market_maker.backtest.stress_bars import BarDay
    from market_maker.backtest.trial import TrialSettings
    from market_maker.config import Config


def play_stress(
    path: Path,
    markets: Sequence[str],
    configs: "Sequence[Config]",
    terms: "TrialSettings",
    *,
    as_json: bool,
) -> ExitCode:
    """Play all days of a file of bars at the slowest latency that is asked for.

    FAILED where somebody was liquidated, or lost more than the stress loss of its settings.
    """
    from market_maker.backtest.fill_models import sided
    from market_maker.backtest.stress import StressSettings, run_stress
    from market_maker.backtest.stress_outcome import stress_json, stress_table, together
    from market_maker.config_sections import SessionSettings

    settings = StressSettings(
        latency_s=max(terms.latencies_s),
        seed=terms.seed,
        fill_models=tuple(model.name for model in sided(terms.fill_models)),
        fees=terms.fees,
        start_equity_usd=terms.start_equity_usd,
    )
    players = {config.of(SessionSettings).profile: config for config in configs}
    with interruptible("stopped"), _progress() as told:
        outcomes = run_stress(_days(path, markets), players, settings, told)
    if as_json:
        print(msgspec.json.encode({"stress": stress_json(outcomes)}).decode())
    else:
        Console().print(stress_table(outcomes))
    failed = [(one.date, one.label) for one in outcomes if not one.holds]
    failed += [(one.date, one.label) for one in together(outcomes) if not one.holds]
    for date, label in dict.fromkeys(failed):
        note(f"{date}, {label.name}, {label.fill_model}: beyond its stress loss, or liquidated")
    return ExitCode.FAILED if failed else ExitCode.OK


def _days(path: Path, markets: Sequence[str]) -> "list[BarDay]":
    from market_maker.backtest.stress_bars import read_days
    from market_maker.recordings.discovery import market_name

    days = read_days(path)
    there = sorted({day.market for day in days})
    wanted = [market_name(name) for name in markets] or there
    missing = sorted(set(wanted) - set(there))
    if missing:
        msg = f"expected markets of these days ({', '.join(there)}), was {', '.join(missing)}"
        raise typer.BadParameter(msg, param_hint="--market")
    return [day for day in days if day.market in wanted]


@contextmanager
def _progress() -> "Iterator[OnHour]":
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def told(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield told
