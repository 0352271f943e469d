"""What `mm report` shows of a saved backtest: a table for the terminal, one page of HTML."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from market_maker.backtest.outcome import Outcome
from market_maker.backtest.report_columns import COLUMNS, against, latency_text
from market_maker.backtest.saved import Saved

_SHOWN: Final = ("contestant", "uptime", "orders", "fills", "pnl", "pnl_bps_alone", "interval")
_NO_PLOTLY: Final = "the page needs plotly; install the extra: extended-market-maker[backtest]"


class ReportError(Exception):
    """A report that cannot be made: expected X, was Y."""


def chosen(saved: Saved, markets: Collection[str]) -> Saved:
    """The same of some markets alone; of all where none is named.

    Raises
    ------
    ReportError
        If nothing was saved, or nothing of a market that is named.
    """
    there = {outcome.market for outcome in saved.outcomes}
    unknown = sorted(set(markets) - there)
    if unknown or not there:
        msg = f"expected markets of this backtest ({', '.join(sorted(there)) or 'it has none'}), was "
        raise ReportError(msg + (", ".join(unknown) or "none"))
    kept = [outcome for outcome in saved.outcomes if not markets or outcome.market in markets]
    return Saved(saved.header, kept)


def write_report(saved: Saved, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises
    ------
    ReportError
        If plotly is not installed.
    """
    try:
        from market_maker.backtest.report_page import page
    except ImportError as error:
        raise ReportError(_NO_PLOTLY) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page(saved), encoding="utf-8")
    partial.replace(path)


def report_table(outcomes: Sequence[Outcome]) -> Group:
    """For the terminal: a table for each market and latency, and below what the data do not support."""
    by_market: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_market.setdefault(outcome.market, []).append(outcome)
    return Group(*(part for runs in by_market.values() for part in _of_market(runs)))


def _of_market(runs: Sequence[Outcome]) -> Iterator[RenderableType]:
    for latency_s in sorted({run.label.latency_s for run in runs}):
        yield _table([run for run in runs if run.label.latency_s == latency_s])
    for sentence in against(runs):
        yield Text(f"- {sentence}", style="yellow")


def _table(runs: Sequence[Outcome]) -> Table:
    title = Text(f"{runs[0].market}, {latency_text(runs[0].label.latency_s)} to the exchange")
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in _SHOWN:
        heading = COLUMNS[name].heading.replace(" ", "\n", 1)
        table.add_column(heading, justify="left" if name == "contestant" else "right", no_wrap=True)
    before = ""
    for run in runs:
        model = COLUMNS["fill_model"].text(run)
        if model != before:
            table.add_row(Text(f"{model} fills", style="bold"))
        before = model
        table.add_row(*(Text(COLUMNS[name].text(run)) for name in _SHOWN))
    return table
