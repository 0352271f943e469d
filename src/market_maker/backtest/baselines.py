"""The yardsticks: a symmetric quoter, Avellaneda–Stoikov and GLFT, each a linear quoter and no more.

A linear quoter rests at `half` ticks on both sides of the mid, both moved down by `skew` ticks for each order
size held long. Inventory of such a quoter, where arrivals fall as exp(−k·δ), is a birth-death chain whose
stationary weights are exp(−k·skew·q²): a Gaussian of variance 1 / (2·k·skew), whatever σ and A are.

So the models' one free number, the risk aversion γ, is not tuned on anything: it is such that
Avellaneda–Stoikov's inventory has its position limit at `limit_deviations` standard deviations, so far out
that a solution without limits holds. GLFT gets the same γ. Further levels lie one half-width apart.

Avellaneda–Stoikov's horizon rolls: T − t is constant, as long as it takes `horizon_arrivals` orders to arrive
at the mid, which is the A·T of the published example (models.md, section 1).
"""

from dataclasses import dataclass
from typing import Final

from market_maker import market_making_models as models
from market_maker.backtest.rows import Quoter, QuoterRow
from market_maker.fitting.record import Calibration

SYMMETRIC: Final = "symmetric"
AVELLANEDA_STOIKOV: Final = "avellaneda_stoikov"
GLFT: Final = "glft"
NAMES: Final = (SYMMETRIC, AVELLANEDA_STOIKOV, GLFT)


class BaselineRefused(ValueError):
    """A baseline that the calibration cannot carry; the message says why."""


@dataclass(frozen=True)
class BaselineSettings:
    """What the models leave open; nothing here is fitted."""

    limit_deviations: float = 3.0  # standard deviations of the model's inventory at the position limit
    horizon_arrivals: float = 140.0  # orders that arrive at the mid within the rolling horizon


def quoter(
    name: str,
    calibration: Calibration,
    order_lots: int,
    limit_lots: int,
    settings: BaselineSettings | None = None,
) -> QuoterRow:
    """Row of a baseline.

    Parameters
    ----------
    name : str
        One of `NAMES`.
    order_lots, limit_lots : int
        Size of an order of level 0, and the position limit that all contestants share.

    Raises
    ------
    BaselineRefused
        If the calibration was refused, or the symmetric width was not looked for.
    """
    if name not in NAMES:
        msg = f"expected a baseline of {', '.join(NAMES)}, was {name!r}"
        raise BaselineRefused(msg)
    if name == SYMMETRIC:
        return symmetric(calibration.symmetric_half_ticks)
    if calibration.refused:
        msg = f"{calibration.market}: {name} has nothing to stand on: {calibration.refused}"
        raise BaselineRefused(msg)
    given = settings or BaselineSettings()
    horizon_s = given.horizon_arrivals / calibration.a_per_s
    gamma = risk_aversion(calibration, limit_lots / order_lots, given)
    market = (gamma, calibration.sigma_ticks, calibration.k_per_tick)
    if name == AVELLANEDA_STOIKOV:
        half, skew = models.as_half_spread(*market, horizon_s), models.as_skew(*market[:2], horizon_s)
    else:
        skew = models.glft_skew(*market, calibration.a_per_s)
        half = models.spread_base(gamma, calibration.k_per_tick) + skew / 2.0
    return _row(half, skew)


def symmetric(half_ticks: float) -> QuoterRow:
    """Row of the symmetric quoter of a half-width.

    Raises
    ------
    BaselineRefused
        If the width is not positive: it was not looked for.
    """
    if half_ticks <= 0.0:
        msg = "expected a half-width of the symmetric quoter above 0 ticks, was none: no part to find it on"
        raise BaselineRefused(msg)
    return _row(half_ticks, 0.0)


def risk_aversion(calibration: Calibration, limit_orders: float, settings: BaselineSettings) -> float:
    """γ by the rule above, per tick and order size."""
    deviation = limit_orders / settings.limit_deviations
    skew = 1.0 / (2.0 * calibration.k_per_tick * deviation**2)
    horizon_s = settings.horizon_arrivals / calibration.a_per_s
    return skew / (calibration.sigma_ticks**2 * horizon_s)


def _row(half_ticks: float, skew_ticks: float) -> QuoterRow:
    return QuoterRow(
        kind=int(Quoter.LINEAR), half_ticks=half_ticks, level_step_ticks=half_ticks, skew_ticks=skew_ticks
    )
