"""`mm backtest --one-account`: how much the PnL of all markets together moves."""

import dataclasses
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market_maker.backtest.portfolio_risk import PortfolioRisk


def risk_dicts(risks: "Sequence[PortfolioRisk]") -> list[dict[str, Any]]:
    """Risks as plain values."""
    return [
        {
            **dataclasses.asdict(risk.label),
            "pnl_usd": round(risk.pnl_usd, 6),
            "variance_usd2_per_10s": risk.variance,
            "end_deviation_usd": risk.end_deviation,
            "variance_alone_usd2_per_10s": dict(risk.alone),
            "net_position_rms_usd": round(risk.net_usd, 6),
            "fills": risk.fills,
            "variance_ratio": None if risk.ratio is None else dataclasses.asdict(risk.ratio),
        }
        for risk in risks
    ]


def print_risks(risks: "Sequence[PortfolioRisk]") -> None:
    """Show each account's PnL and how it moved, against the first of its fill model and latency."""
    from market_maker.backtest.report_columns import latency_text, signed

    if not risks:
        return
    title = Text("PnL of all markets together, and how much it moves")
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    headings = ("PnL USD", "variance in 10 s", "net USD", "fills", "ratio to first", "95% interval")
    table.add_column("contestant")
    for heading in headings:
        table.add_column(heading.replace(" ", "\n", 1), justify="right", no_wrap=True)
    before = ""
    for risk in sorted(risks, key=lambda one: (one.label.latency_s, one.label.fill_model)):
        terms = f"{risk.label.fill_model.replace('_', ' ')} fills, {latency_text(risk.label.latency_s)}"
        if terms != before:
            table.add_row(Text(terms, style="bold"))
        before = terms
        ratio = risk.ratio
        cells = (
            risk.label.name,
            signed(risk.pnl_usd),
            f"{risk.variance:.3f}",
            f"{risk.net_usd:,.0f}",
            str(risk.fills),
            "" if ratio is None else f"{ratio.estimate:.2f}",
            "" if ratio is None else f"{ratio.low:.2f} to {ratio.high:.2f}",
        )
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)
