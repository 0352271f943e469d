"""Correlations and betas as one page of HTML, which opens without a network."""

import html
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from plotly.offline import get_plotlyjs

from market_maker.backtest.joint_moves import JointMoves, Vector

_SCALE: Final = [[0.0, "#b2182b"], [0.5, "#f7f7f7"], [1.0, "#2166ac"]]
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1000px;padding:0 1rem;color:#222}"
    ".plot{height:440px}p{color:#555}"
)


def write_page(found: JointMoves, reference: str, source: str, path: Path) -> None:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(page(found, reference, source), encoding="utf-8")
    partial.replace(path)


def page(found: JointMoves, reference: str, source: str) -> str:
    """The whole page: a matrix of correlations, betas to the reference with intervals."""
    figures = [matrix_figure(found), betas_figure(found, reference)]
    blocks = "".join(
        f'<div class="plot" id="p{n}"></div>'
        f'<script type="application/json" id="f{n}">{_json(figure)}</script>'
        for n, figure in enumerate(figures)
    )
    draw = (
        "for(const n of [0,1]){const f=JSON.parse(document.getElementById('f'+n).textContent);"
        "Plotly.newPlot('p'+n,f.data,f.layout,{responsive:true,displaylogo:false})}"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:\">"
        f"<title>Correlation of markets</title><style>{_STYLE}</style></head><body>"
        f"<h1>How {html.escape(', '.join(found.names))} move together</h1>"
        f"<p>{html.escape(source)}; overlapping returns of {found.return_s:g} s over "
        f"{found.seconds / 60:.0f} minutes. "
        f"Ranges are 95 % intervals of a block bootstrap ({found.blocks} blocks).</p>{blocks}"
        f"<script>{get_plotlyjs()}</script><script>{draw}</script></body></html>\n"
    )


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _listed(values: Vector) -> Any:  # noqa: ANN401  (lists of numbers as deep as the array)
    """Lists with None where there is no number."""
    return (
        [_listed(row) for row in values] if values.ndim > 1 else [_number(value) for value in values.tolist()]
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def matrix_figure(found: JointMoves) -> dict[str, Any]:
    """Correlations as a picture, each with its interval in its cell."""
    rho, low, high = found.rho
    names = list(found.names)
    texts = [
        [_cell(rho[i, j], low[i, j], high[i, j], same=i == j) for j in range(len(names))]
        for i in range(len(names))
    ]
    heat = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": _listed(rho),
        "text": texts,
        "texttemplate": "%{text}",
        "hovertemplate": "%{y}, %{x}: %{z:.3f}<extra></extra>",
        "zmin": -1,
        "zmax": 1,
        "colorscale": _SCALE,
    }
    layout = {"title": {"text": "Correlation"}, "yaxis": {"autorange": "reversed"}, "margin": {"l": 100}}
    return {"data": [heat], "layout": layout}


def _cell(value: float, low: float, high: float, *, same: bool) -> str:
    if not np.isfinite(value):
        return "?"
    is_sure = same or not np.isfinite(low + high)
    return f"{value:.2f}" if is_sure else f"{value:.2f}<br>{low:.2f} to {high:.2f}"


def betas_figure(found: JointMoves, reference: str) -> dict[str, Any]:
    """Betas to the reference as bars with their intervals."""
    at = found.names.index(reference)
    beta, low, high = (figure[at] for figure in found.beta)
    bars = {
        "type": "bar",
        "x": list(found.names),
        "y": _listed(beta),
        "marker": {"color": "#2166ac"},
        "error_y": {"type": "data", "array": _listed(high - beta), "arrayminus": _listed(beta - low)},
        "hovertemplate": "%{x}: %{y:.3f}<extra></extra>",
    }
    title = f"Beta: what a dollar of each market moves like in dollars of {reference}"
    return {"data": [bars], "layout": {"title": {"text": title}, "yaxis": {"rangemode": "tozero"}}}
