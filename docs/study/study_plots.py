"""Plots of the study: small SVG files, the same bytes from the same results."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from study_tables import PARTS, base_of, main_view, shown

from market_maker.backtest.outcome import HORIZONS_S, Interval, Outcome
from market_maker.backtest.report_columns import latency_text, name_text
from market_maker.backtest.report_data import thinned
from market_maker.backtest.report_run import PARTS as PART_STYLES
from market_maker.domain import NS_PER_S

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8a8f98"),
)
_COLORS: Final = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, GREY)
_STYLES: Final = ("-", "--", "-.", ":", (0, (6, 2)))
_MARKERS: Final = ("o", "D", "s", "^", "P")
_POINTS: Final = 400
NS_PER_MINUTE: Final = 60 * NS_PER_S
_WIDTH: Final = 4.6
_HEIGHT: Final = 2.7

_STYLE: Final[Any] = {
    "font.size": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "study",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
}

T = TypeVar("T")
Markets = Mapping[str, Sequence[Outcome]]


def save_plots(markets: Markets, folder: Path) -> list[Path]:
    """Write every plot; `markets` has all runs of a market by its title."""
    return [save_figure(panels(markets, draw), folder / f"{name}.svg") for name, draw in PLOTS.items()]


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as SVG, without the time of day."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        figure.savefig(path, metadata={"Date": None})
    return path


def panels(shown: Mapping[str, T], draw: Callable[[Axes, T], None], height: float = _HEIGHT) -> Figure:
    """Two panels beside each other, as many rows as it takes; one legend for all, the title above each."""
    with mpl.rc_context(_STYLE):
        return _panels(shown, draw, height)


def _panels(shown: Mapping[str, T], draw: Callable[[Axes, T], None], height: float) -> Figure:
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(_WIDTH * columns, height * rows + 0.4), layout="constrained")
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for ax, (title, of_panel) in zip(axes.flat, shown.items(), strict=False):
        draw(ax, of_panel)
        ax.set_title(title, loc="left", fontweight="bold")
    for ax in axes.flat[len(shown) :]:
        ax.set_visible(False)
    labels: dict[str, Any] = {}
    for ax in axes.flat[: len(shown)]:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            labels.setdefault(label, handle)
    if labels:
        figure.legend(
            labels.values(), labels.keys(), loc="outside upper left", ncols=4, frameon=False, fontsize=8
        )
    return figure


def _pnl(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    runs = shown(outcomes)
    _grouped(ax, runs, [run.label.fill_model.replace("_", " ") for run in runs])


def _latency(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    model = base_of(outcomes)
    runs = [run for run in outcomes if run.label.fill_model == model]
    _grouped(ax, runs, [latency_text(run.label.latency_s) for run in runs])


def _grouped(ax: Axes, runs: Sequence[Outcome], groups: Sequence[str]) -> None:
    names = list(dict.fromkeys(name_text(run) for run in runs))
    kinds = list(dict.fromkeys(groups))
    for at, kind in enumerate(kinds):
        known = [
            (names.index(name_text(run)), run.intervals["pnl_bps_of_volume"])
            for run, group in zip(runs, groups, strict=True)
            if group == kind and "pnl_bps_of_volume" in run.intervals
        ]
        offset = (at - (len(kinds) - 1) / 2) * 0.22
        _estimates(ax, [(place + offset, found) for place, found in known], kind, at)
    _named(ax, names)
    ax.axhline(0, color="#555", linewidth=0.8)
    ax.set_ylabel("PnL, bps of volume")


def _estimates(ax: Axes, found: Sequence[tuple[float, Interval]], label: str, at: int) -> None:
    places = [place for place, _ in found]
    estimates = np.array([interval.estimate for _, interval in found])
    low = np.array([interval.low for _, interval in found])
    high = np.array([interval.high for _, interval in found])
    # A bootstrap's interval need not hold the estimate.
    errors = np.maximum([estimates - low, high - estimates], 0.0)
    ax.errorbar(
        places,
        estimates,
        yerr=errors,
        fmt=_MARKERS[at % len(_MARKERS)],
        color=_COLORS[at % len(_COLORS)],
        markersize=4,
        capsize=2,
        linewidth=1,
        label=label,
    )


def _named(ax: Axes, names: Sequence[str]) -> None:
    ax.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])


def _parts(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    runs = main_view(outcomes)
    names = [name_text(run) for run in runs]
    above, below = np.zeros(len(runs)), np.zeros(len(runs))
    for part in PARTS:
        found = [run.intervals.get(f"{part}_bps") for run in runs]
        values = np.array([0.0 if one is None else one.estimate for one in found])
        if not values.any():
            continue
        bottom = np.where(values >= 0, above, below)
        ax.bar(
            range(len(runs)),
            values,
            bottom=bottom,
            width=0.6,
            color=PART_STYLES[part][0],
            label=part.replace("_", " "),
        )
        above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
    totals = [(float(at), run.intervals["pnl_bps_of_volume"]) for at, run in enumerate(runs) if run.intervals]
    if totals:
        ax.plot(
            [at for at, _ in totals], [one.estimate for _, one in totals], "D", color="black", label="PnL"
        )
    _named(ax, names)
    ax.axhline(0, color="#555", linewidth=0.8)
    ax.set_ylabel("bps of volume")


def _uptime(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    runs = main_view(outcomes)
    names, left = [name_text(run) for run in runs], np.zeros(len(runs))
    for label, color, hatch, values in _spent(runs):
        ax.barh(range(len(runs)), values, left=left, color=color, hatch=hatch, edgecolor="white", label=label)
        left = left + values
    ax.set_yticks(range(len(runs)), names)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("share of the time, %")


def _spent(runs: Sequence[Outcome]) -> list[tuple[str, str, str, np.ndarray[Any, Any]]]:
    def shares(values: Sequence[float]) -> np.ndarray[Any, Any]:
        return 100.0 * np.array(values)

    one_sided = [sum(run.summary.uptime.one_sided.values()) for run in runs]
    found = [
        ("both sides", BLUE, "", shares([run.summary.uptime.quote_uptime for run in runs])),
        ("one side on purpose", SKY, "///", shares(one_sided)),
    ]
    pauses = [run.summary.uptime.pauses for run in runs]
    known = [
        (reason, color) for reason, color in _REASON_COLORS.items() if any(reason in one for one in pauses)
    ]
    for reason, color in known:
        found.append((reason, color, "", shares([one.get(reason, 0.0) for one in pauses])))
    named = {reason for reason, _ in known}
    rest = [sum(share for reason, share in one.items() if reason not in named) for one in pauses]
    if any(rest):
        found.append(("other pauses", GREY, "", shares(rest)))
    return found


# One colour a reason, in every panel.
_REASON_COLORS: Final = {
    "TOXIC_VOLATILITY": RED,
    "TOXIC_DRIFT": ORANGE,
    "JUMP": PURPLE,
    "EXTREME_REGIME": "#7a1f0c",
    "RISK_DRAWDOWN": GREEN,
    "RISK_DAY_LOSS": "#b9d8a8",
    "QUOTE_FAR": "#e9d8a6",
    "REQUEST_PENDING": "#9a86c2",
    "STALE_BOOK": "#3d434c",
}


def _equity(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    for at, run in enumerate(main_view(outcomes)):
        curve = thinned(run.curve, ("total", "position_lots"), _POINTS)
        minutes = (curve["ns"] - curve["ns"][0]) / NS_PER_MINUTE if len(curve) else []
        style: Any = _STYLES[at % len(_STYLES)]
        ax.plot(
            minutes,
            curve["total"],
            linestyle=style,
            color=_COLORS[at % len(_COLORS)],
            linewidth=1.1,
            label=name_text(run),
        )
    ax.set_xlabel("minutes since scoring began")
    ax.axhline(0, color="#555", linewidth=0.8)
    ax.set_ylabel("PnL, USD")


def _markouts(ax: Axes, outcomes: Sequence[Outcome]) -> None:
    for at, run in enumerate(main_view(outcomes)):
        known = [horizon for horizon in HORIZONS_S if horizon in run.summary.markouts_bps]
        if not known:
            continue
        style: Any = _STYLES[at % len(_STYLES)]
        values = [0.0, *(run.summary.markouts_bps[horizon] for horizon in known)]
        ax.plot(
            range(len(values)),
            values,
            marker=_MARKERS[at % len(_MARKERS)],
            linestyle=style,
            color=_COLORS[at % len(_COLORS)],
            markersize=4,
            label=name_text(run),
        )
    ax.set_xticks(range(1 + len(HORIZONS_S)), ["fill", *(f"{horizon} s" for horizon in HORIZONS_S)])
    ax.axhline(0, color="#555", linewidth=0.8)
    ax.set_ylabel("move in our favour, bps")


PLOTS: Final[Mapping[str, Callable[[Axes, Sequence[Outcome]], None]]] = {
    "pnl": _pnl,
    "parts": _parts,
    "latency": _latency,
    "uptime": _uptime,
    "equity": _equity,
    "markouts": _markouts,
}
