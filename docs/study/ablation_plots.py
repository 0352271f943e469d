"""Plots of the ablation: differences with their intervals, and how an account over all markets varies."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from ablation_tables import variant_of
from matplotlib.axes import Axes
from numpy.typing import NDArray
from study_plots import BLUE, GREY, ORANGE, RED, panels, save_figure

from market_maker.backtest.ablation import Comparison
from market_maker.backtest.outcome import Interval
from market_maker.backtest.portfolio_risk import PortfolioRisk

_COLORS: Final = {"pessimistic": RED, "base": BLUE, "trade_through": ORANGE}
_APART: Final = 0.28


def save_differences(found: Sequence[Comparison], path: Path) -> None:
    """A panel for each market: PnL of each variant over the profile's, 95% and adjusted intervals."""
    by_market: dict[str, list[Comparison]] = {}
    for one in found:
        by_market.setdefault(one.market, []).append(one)
    most = max(len({one.variant for one in ones}) for ones in by_market.values())
    save_figure(panels(by_market, _differences, height=0.9 + 0.26 * most), path)


def _differences(ax: Axes, found: Sequence[Comparison]) -> None:
    names = list(dict.fromkeys(variant_of(one) for one in found))
    models = list(dict.fromkeys(one.fill_model for one in found))
    for at, model in enumerate(models):
        mine = [one for one in found if one.fill_model == model]
        offset = (at - (len(models) - 1) / 2) * _APART
        places = np.array([names.index(variant_of(one)) + offset for one in mine])
        estimates = np.array([one.interval.estimate for one in mine])
        color = _COLORS.get(model, GREY)
        wide = _errors([one.adjusted for one in mine])
        ax.errorbar(estimates, places, xerr=wide, fmt="none", ecolor=color, elinewidth=0.8, alpha=0.6)
        ax.errorbar(
            estimates,
            places,
            xerr=_errors([one.interval for one in mine]),
            fmt="o",
            color=color,
            markersize=3.5,
            elinewidth=2.2,
            label=f"{model.replace('_', ' ')} fills",
        )
    ax.axvline(0, color="#555", linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set_xlabel("PnL over the full profile's, USD/h")


def _errors(found: Sequence[Interval]) -> NDArray[np.float64]:
    low = [one.estimate - one.low for one in found]
    high = [one.high - one.estimate for one in found]
    return np.maximum([low, high], 0.0)


def save_variances(risks: Sequence[PortfolioRisk], path: Path) -> None:
    """A panel for each fill model: variance of the account's PnL over the full profile's."""
    by_model: dict[str, list[PortfolioRisk]] = {}
    for risk in risks:
        if risk.ratio is not None:
            by_model.setdefault(f"{risk.label.fill_model} fills", []).append(risk)
    if by_model:
        save_figure(panels(by_model, _variances, height=1.6), path)


def _variances(ax: Axes, risks: Sequence[PortfolioRisk]) -> None:
    known = [(risk.label, risk.ratio) for risk in risks if risk.ratio is not None]
    ax.errorbar(
        [ratio.estimate for _, ratio in known],
        range(len(known)),
        xerr=_errors([ratio for _, ratio in known]),
        fmt="o",
        color=BLUE,
        markersize=4,
        capsize=2,
    )
    ax.axvline(1, color="#555", linewidth=0.8)
    ax.set_yticks(range(len(known)), [label.name.removeprefix(f"{label.profile} ") for label, _ in known])
    ax.set_ylim(len(known) - 0.5, -0.5)
    ax.set_xlabel("variance of the account's PnL, over the full profile's")
