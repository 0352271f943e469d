"""A model made ready for one market: risk aversion, horizon, and the table of its exact solution.

With inventory bounded by Q, GLFT's stationary offsets follow from the ground state f of the tridiagonal
matrix M (models.md, section 2): δᵇ(q) = ln(f_q / f_{q+1})/k + (1/γ)·ln(1 + γ/k). The smallest eigenvalue is
that of a matrix of a few dozen rows; the ratios of f then come by recursion from the bound inwards, the
direction in which errors die out. `glft_solution` solves the same another way, and is the yardstick in tests.
"""

import math
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from market_maker.market_making_models import spread_base
from market_maker.model_quotes import CELLS, ModelRow, ModelSettings

_SQRT_S_PER_MINUTE: Final = math.sqrt(60.0)
# Volatilities of the table: from the calibrated one by this factor down and up, an odd number of them.
_REACH: Final = 8.0
_MOST_SIGMAS: Final = 33
# With more orders to the limit, the closed form is as good and a table too coarse.
MOST_ORDERS: Final = 40


def model_row(settings: ModelSettings, limit_orders: float) -> ModelRow:
    """Make a model ready.

    Parameters
    ----------
    limit_orders : float
        Position limit in sizes of the nearest level.

    Returns
    -------
    ModelRow
        The default row, by which nothing is quoted, without a calibration or a limit.
    """
    if not (settings.is_calibrated and 0.0 < limit_orders < math.inf):
        return ModelRow()
    gamma = settings.model_gamma or risk_aversion(settings, limit_orders)
    sigma = settings.model_sigma_bps / _SQRT_S_PER_MINUTE
    most = math.floor(limit_orders)
    row = ModelRow(
        gamma=gamma,
        a_per_s=settings.model_a_per_s,
        k_per_bps=settings.model_k_per_bps,
        horizon_s=_horizon_s(settings),
        limit_orders=limit_orders,
    )
    if not (settings.model_finite and 1 <= most <= MOST_ORDERS):
        return row
    each_way = (min(CELLS // (2 * most + 1), _MOST_SIGMAS) - 1) // 2
    step = math.log(_REACH) / each_way
    sigmas = [sigma * math.exp(step * at) for at in range(-each_way, each_way + 1)]
    lines = [bid_offsets(row, one, most) for one in sigmas]
    return replace(
        row,
        most=most,
        sigmas=len(sigmas),
        sigma_low=sigmas[0],
        sigma_step=step,
        table=tuple(np.concatenate(lines).tolist()),
    )


def risk_aversion(settings: ModelSettings, limit_orders: float) -> float:
    """γ with which Avellaneda–Stoikov's inventory has the limit at so many standard deviations.

    Its stationary variance is 1 / (2·k·skew), with a skew of γσ²T for each order (see `backtest.baselines`).
    """
    deviation = limit_orders / settings.model_limit_deviations
    skew = 1.0 / (2.0 * settings.model_k_per_bps * deviation**2)
    sigma = settings.model_sigma_bps / _SQRT_S_PER_MINUTE
    return skew / (sigma**2 * _horizon_s(settings))


def _horizon_s(settings: ModelSettings) -> float:
    return settings.model_horizon_arrivals / settings.model_a_per_s


def bid_offsets(row: ModelRow, sigma: float, most: int) -> NDArray[np.float64]:
    """Optimal stationary offsets of the bid for q = −most … most, bps; σ in bps/√s.

    At the upper bound, where nothing is bought, it goes on in a line.
    """
    inventory = np.arange(-most, most + 1, dtype=np.float64)
    ratio = row.gamma / row.k_per_bps
    eta = row.a_per_s * math.exp(-(1.0 + 1.0 / ratio) * math.log1p(ratio))
    # In units of η; the ground state is even, so its upper half is enough.
    diagonal = row.k_per_bps * row.gamma * sigma**2 / 2.0 / eta * inventory**2
    coupling = np.eye(2 * most + 1, k=1) + np.eye(2 * most + 1, k=-1)
    lowest = float(np.linalg.eigvalsh(np.diag(diagonal) - coupling)[0])
    rises = np.zeros(most)  # ln(f_q / f_{q+1}) for q = 0 … most − 1
    ratio_out = 0.0
    for q in range(most, 0, -1):
        ratio_out = 1.0 / (diagonal[most + q] - lowest - ratio_out)
        rises[q - 1] = -math.log(ratio_out)
    steps = np.concatenate([-rises[::-1], rises]) / row.k_per_bps
    offsets = spread_base(row.gamma, row.k_per_bps) + steps
    return np.append(offsets, 2.0 * offsets[-1] - offsets[-2])
