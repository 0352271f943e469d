"""Figures that hold runs of one market against each other: by contestant, fill model and latency."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from market_maker.backtest.outcome import Interval, Outcome
from market_maker.backtest.report_columns import latency_text, name_text
from market_maker.backtest.report_data import instants, packed, thinned
from market_maker.backtest.report_run import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PARTS,
    PURPLE,
    RED,
    SKY,
    Figure,
    words,
)

_COLORS: Final = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, GREY)
_DASHES: Final = ("solid", "dash", "dashdot", "dot", "longdash")
_SYMBOLS: Final = ("circle", "diamond", "square", "triangle-up", "cross")
_REASON_COLORS: Final = (RED, ORANGE, PURPLE, "#5d4a8a", GREY, "#3d434c")
_LARGEST_REASONS: Final = 6
_NAMED_SHARE: Final = 0.005


def _name(outcome: Outcome) -> str:
    """As plotly, which reads tags in its labels, shows it."""
    return html.escape(name_text(outcome))


def pnl_figure(outcomes: Sequence[Outcome], most: int) -> Figure:
    """PnL of each contestant in time, and its inventory below."""
    data: list[dict[str, Any]] = []
    for at, outcome in enumerate(outcomes):
        curve = thinned(outcome.curve, ("total", "position_lots"), most)
        lot_usd = float(outcome.tick * outcome.step)
        inventory = curve["position_lots"] * (curve["mid2_ticks"] / 2) * lot_usd
        for values, axis in ((curve["total"], ""), (inventory, "2")):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": instants(curve["ns"]),
                    "y": packed(values),
                    "name": _name(outcome),
                    "legendgroup": _name(outcome),
                    "showlegend": not axis,
                    "yaxis": f"y{axis}",
                    "line": {
                        "color": _COLORS[at % len(_COLORS)],
                        "dash": _DASHES[at % len(_DASHES)],
                        "width": 1.8,
                    },
                }
            )
    layout = {
        "height": 560,
        "xaxis": {"type": "date", "anchor": "y2", "title": {"text": "time, UTC"}},
        "yaxis": {"domain": [0.42, 1.0], "title": {"text": "PnL, USD"}, "automargin": True},
        "yaxis2": {
            "domain": [0.0, 0.36],
            "title": {"text": "inventory, USD"},
            "tickformat": ",~r",
            "automargin": True,
        },
        "hovermode": "x unified",
    }
    return {"data": data, "layout": layout}


def parts_figure(outcomes: Sequence[Outcome]) -> Figure:
    """Parts of the PnL in bps of volume as bars, and their sum with its confidence interval."""
    names = [_name(outcome) for outcome in outcomes]
    data: list[dict[str, Any]] = []
    for part, (color, _) in PARTS.items():
        found = [outcome.intervals.get(f"{part}_bps") for outcome in outcomes]
        values = [None if interval is None else interval.estimate for interval in found]
        if any(values):
            data.append(
                {
                    "type": "bar",
                    "x": names,
                    "y": values,
                    "name": words(part),
                    "marker": {"color": color, "opacity": 0.8},
                    "hovertemplate": "%{y:+.3f} bps",
                }
            )
    totals = [outcome.intervals.get("pnl_bps_of_volume") for outcome in outcomes]
    data.append(_estimates(names, totals, "PnL, with its interval", symbol="diamond", color=INK))
    layout = {
        "height": 420,
        "barmode": "relative",
        "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": "bps of volume"}, "zeroline": True, "automargin": True},
    }
    return {"data": data, "layout": layout}


def models_figure(outcomes: Sequence[Outcome]) -> Figure:
    """PnL in bps of volume by contestant under each fill model, with intervals."""
    return _grouped(outcomes, [outcome.label.fill_model.replace("_", " ") for outcome in outcomes])


def latencies_figure(outcomes: Sequence[Outcome]) -> Figure:
    """PnL in bps of volume by contestant at each latency, with intervals."""
    return _grouped(outcomes, [latency_text(outcome.label.latency_s) for outcome in outcomes])


def _grouped(outcomes: Sequence[Outcome], groups: Sequence[str]) -> Figure:
    data = []
    for at, group in enumerate(dict.fromkeys(groups)):
        mine = [outcome for outcome, name in zip(outcomes, groups, strict=True) if name == group]
        data.append(
            {
                **_estimates(
                    [_name(outcome) for outcome in mine],
                    [outcome.intervals.get("pnl_bps_of_volume") for outcome in mine],
                    group,
                    symbol=_SYMBOLS[at % len(_SYMBOLS)],
                    color=_COLORS[at % len(_COLORS)],
                ),
                "offsetgroup": group,
            }
        )
    layout = {
        "height": 380,
        "scattermode": "group",
        "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": "PnL, bps of volume"}, "zeroline": True, "automargin": True},
    }
    return {"data": data, "layout": layout}


def _estimates(
    names: Sequence[str], found: Sequence[Interval | None], title: str, *, symbol: str, color: str
) -> dict[str, Any]:
    known = [(name, interval) for name, interval in zip(names, found, strict=True) if interval is not None]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [name for name, _ in known],
        "y": [interval.estimate for _, interval in known],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [interval.high - interval.estimate for _, interval in known],
            "arrayminus": [interval.estimate - interval.low for _, interval in known],
            "color": color,
        },
        "name": title,
        "marker": {"symbol": symbol, "size": 10, "color": color},
        "hovertemplate": "%{y:+.3f} bps",
    }


def uptime_figure(outcomes: Sequence[Outcome]) -> Figure:
    """How the time was spent: both sides quoted, one side on purpose, paused, each by reason."""
    names = [_name(outcome) for outcome in outcomes]
    both = [outcome.summary.uptime.quote_uptime for outcome in outcomes]
    data = [_share(names, both, "both sides", BLUE, "")]
    one_sided = [outcome.summary.uptime.one_sided for outcome in outcomes]
    paused = [outcome.summary.uptime.pauses for outcome in outcomes]
    for shares, title, pattern in ((one_sided, "one side", "/"), (paused, "paused", "")):
        reasons = _largest(shares)
        for at, reason in enumerate(reasons):
            values = [share.get(reason, 0.0) for share in shares]
            color = SKY if pattern else _REASON_COLORS[at % len(_REASON_COLORS)]
            data.append(_share(names, values, f"{title}: {reason}", color, pattern))
        rest = [sum(v for reason, v in share.items() if reason not in reasons) for share in shares]
        if any(rest):
            data.append(_share(names, rest, f"{title}: other reasons", GREY, pattern))
    layout = {
        "height": 120 + 44 * len(outcomes),
        "barmode": "stack",
        "xaxis": {"tickformat": ".0%", "range": [0, 1], "title": {"text": "share of the time"}},
        "yaxis": {"type": "category", "autorange": "reversed", "automargin": True},
    }
    return {"data": data, "layout": layout}


def _largest(shares: Iterable[Mapping[str, float]]) -> list[str]:
    most: dict[str, float] = {}
    for share in shares:
        for reason, value in share.items():
            most[reason] = max(most.get(reason, 0.0), value)
    named = sorted((reason for reason in most if most[reason] >= _NAMED_SHARE), key=lambda name: -most[name])
    return named[:_LARGEST_REASONS]


def _share(names: list[str], values: list[float], title: str, color: str, pattern: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": values,
        "name": title,
        "marker": {"color": color, "pattern": {"shape": pattern, "bgcolor": color, "fgcolor": "white"}},
        "hovertemplate": "%{x:.2%}",
    }
