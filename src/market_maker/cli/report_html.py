"""`mm report`: a saved backtest as one page of HTML, and as a table."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from market_maker.cli.app import JsonOption, app, examples

REPORT_NAME = "report.html"


@app.command(
    epilog=examples(
        "mm report results/btc",
        "mm report results/btc --market BTC-USD --out btc.html",
        "mm report results/btc --json",
    )
)
def report(
    saved: Annotated[Path, typer.Argument(metavar="SAVED", help="Folder that mm backtest --save wrote.")],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page. [SAVED/report.html]")
    ] = None,
    market: Annotated[
        list[str] | None, typer.Option("--market", "-m", help="Only this; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a saved backtest: a table here, and everything in one HTML file that opens without a network.

    The page says first what the data say and do not say, then holds profiles, baselines, fill models and
    latencies against each other, and shows of each run its quotes and fills in time, where the PnL came from,
    markouts, queues and waiting times.
    """
    from market_maker.backtest.report import chosen, report_table, write_report
    from market_maker.backtest.result_json import result_json
    from market_maker.backtest.saved import load

    shown = chosen(load(saved), market or ())
    path = out or saved / REPORT_NAME
    write_report(shown, path)
    if as_json:
        print(result_json(shown))
        return
    console = Console()
    console.print(report_table(shown.outcomes))
    console.print(Text(f"Page: {path} ({path.stat().st_size / 1e6:.1f} MB)"), soft_wrap=True)
