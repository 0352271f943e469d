"""Half-width and shift of quotes by a model: Avellaneda & Stoikov, or GLFT with bounded inventory.

The question: how far apart two quotes stand, and how far both move, for a volatility, inventory and drift.
The formulas are those of `market_making_models` (models.md, sections 1 to 3) in bps, seconds and orders of
the nearest level; A and k are calibrated on recordings. GLFT's exact solution for an inventory that cannot
pass the position limit is looked up in a table, which `model_table` makes once: offsets over volatility and
inventory, linear between.

Avellaneda & Stoikov's horizon rolls: T − t is always the time in which so many orders arrive at the mid. A
drift μ counts as the inventory μ/(γσ²) that one would want to hold in it, no more than the limit; each order
of it moves both quotes as one that is held does, the other way. The module refuses to quote without a row:
zeros come back, and the caller's floor holds.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Final

from market_maker import market_making_models as models
from market_maker.kernel import kernel

CELLS: Final = 700  # of a table, so many floats as a row may have
_S_PER_MINUTE: Final = 60.0
_SQRT_S_PER_MINUTE: Final = math.sqrt(_S_PER_MINUTE)


@dataclass(frozen=True)
class ModelSettings:
    """The market as the model quotes see it, and what they make of trend and funding.

    Raises
    ------
    ValueError
        If a value is out of its range; the message says what was expected and what was found.
    """

    model_a_per_s: float = 0.0  # 1/s, orders that reach the mid, each side; `mm calibrate` finds it; 0: none
    model_k_per_bps: float = 0.0  # per bps, how fast fewer orders reach further; `mm calibrate` finds it
    model_sigma_bps: float = 0.0  # bps/√minute, usual volatility; `mm calibrate` finds it
    model_gamma: float = 0.0  # per bps and order, risk aversion; 0: by the rule of the next setting
    model_limit_deviations: float = 3.0  # standard deviations of inventory that the position limit shall be
    model_horizon_arrivals: float = 140.0  # orders that reach the mid within the rolling horizon
    model_finite: bool = True  # glft by the exact solution within the position limit, not the closed form
    model_trend_share: float = (
        0.1  # of σ per √minute: a trend of full strength is expected to move so in 60 s
    )

    def __post_init__(self) -> None:
        checks = (
            ("model_a_per_s", self.model_a_per_s, 0.0),
            ("model_k_per_bps", self.model_k_per_bps, 0.0),
            ("model_sigma_bps", self.model_sigma_bps, 0.0),
            ("model_gamma", self.model_gamma, 0.0),
            ("model_limit_deviations", self.model_limit_deviations, 0.1),
            ("model_horizon_arrivals", self.model_horizon_arrivals, 0.1),
            ("model_trend_share", self.model_trend_share, 0.0),
        )
        for name, value, least in checks:
            if not least <= value < math.inf:
                msg = f"{name}: expected a number of at least {least:g}, was {value:g}"
                raise ValueError(msg)

    @property
    def is_calibrated(self) -> bool:
        """Whether the models have what they stand on."""
        return min(self.model_a_per_s, self.model_k_per_bps, self.model_sigma_bps) > 0.0


@dataclass(frozen=True)
class ModelRow:
    """A model made ready for one market; written by the host, see `model_table.model_row`.

    The table holds offsets of the bid, bps: for each volatility of a geometric grid a line of 2·most + 1
    inventories, short first. The ask's are the mirror. In the default row there is nothing to quote by.
    """

    gamma: float = 0.0  # per bps and order
    a_per_s: float = 0.0  # 1/s
    k_per_bps: float = 0.0
    horizon_s: float = 0.0  # s, of Avellaneda & Stoikov
    limit_orders: float = 0.0  # position limit
    most: int = 0  # largest inventory of the table, orders
    sigmas: int = 0  # lines of the table, 0: none
    sigma_low: float = 0.0  # bps/√s, of the first line
    sigma_step: float = 0.0  # ln of the ratio of one line's volatility to the one before
    table: Annotated[tuple[float, ...], CELLS] = ()


@kernel
def _inventory_offset(row: ModelRow, line: int, inventory: float) -> float:
    """Offset of the bid in a line of the table, linear between whole inventories."""
    place = inventory + float(row.most)
    before = min(max(math.floor(place), 0), 2 * row.most - 1)
    share = place - float(before)
    first = line * (2 * row.most + 1) + before
    return (1.0 - share) * row.table[first] + share * row.table[first + 1]


@kernel
def _looked_up(row: ModelRow, sigma: float, inventory: float) -> tuple[float, float]:
    """Half-width and shift by the table, bps, for a volatility within it or below."""
    sigma = max(sigma, row.sigma_low)
    line = min(math.floor(math.log(sigma / row.sigma_low) / row.sigma_step), row.sigmas - 2)
    low = row.sigma_low * math.exp(row.sigma_step * float(line))
    high = low * math.exp(row.sigma_step)
    # Offsets are nearly linear in σ, so that a coarse grid does.
    share = (sigma - low) / (high - low)
    held = min(max(inventory, -float(row.most)), float(row.most))
    bid = (1.0 - share) * _inventory_offset(row, line, held) + share * _inventory_offset(row, line + 1, held)
    ask = (1.0 - share) * _inventory_offset(row, line, -held) + share * _inventory_offset(
        row, line + 1, -held
    )
    return 0.5 * (bid + ask), 0.5 * (ask - bid)


@kernel
def _wanted_orders(row: ModelRow, sigma: float, drift: float) -> float:
    """Inventory that a drift asks for, μ/(γσ²), within the limit."""
    if drift == 0.0:
        return 0.0
    risk = row.gamma * sigma * sigma
    if math.fabs(drift) >= risk * row.limit_orders:
        return math.copysign(row.limit_orders, drift)
    return drift / risk


@kernel
def half_and_shift(
    settings: ModelSettings,
    row: ModelRow,
    is_glft: bool,  # noqa: FBT001  (kernels are called by position)
    sigma_bps: float,
    inventory_orders: float,
    drift_bps_per_s: float,
) -> tuple[float, float]:
    """Distance of both quotes from their centre, and of the centre from the fair value, bps, + up.

    Parameters
    ----------
    is_glft
        Guéant, Lehalle & Fernandez-Tapia; else Avellaneda & Stoikov.
    sigma_bps
        Volatility, bps per √minute.
    inventory_orders
        Signed; past the position limit it counts as the limit.
    drift_bps_per_s
        Expected move of the mid, with what holding a long costs taken off.

    Returns
    -------
    tuple of float
        Zeros without a model's row; nan where an argument is not finite.
    """
    if not row.gamma > 0.0:
        return 0.0, 0.0
    if not math.isfinite(sigma_bps + inventory_orders + drift_bps_per_s):
        return math.nan, math.nan
    sigma = max(sigma_bps, 0.0) / _SQRT_S_PER_MINUTE
    held = min(max(inventory_orders, -row.limit_orders), row.limit_orders)
    wanted = _wanted_orders(row, sigma, drift_bps_per_s)
    if not is_glft:
        skew = models.as_skew(row.gamma, sigma, row.horizon_s)
        half = models.as_half_spread(row.gamma, sigma, row.k_per_bps, row.horizon_s)
        return half, skew * (wanted - held)
    skew = models.glft_skew(row.gamma, sigma, row.k_per_bps, row.a_per_s)
    if settings.model_finite and row.sigmas > 0:
        highest = row.sigma_low * math.exp(row.sigma_step * float(row.sigmas - 1))
        half, shift = _looked_up(row, min(sigma, highest), held)
        # Beyond the table it only widens, as the closed form does.
        wider = 0.5 * skew * max(1.0 - highest / sigma, 0.0) if sigma > 0.0 else 0.0
        return half + wider, shift + skew * wanted
    return models.spread_base(row.gamma, row.k_per_bps) + 0.5 * skew, skew * (wanted - held)


@kernel
def drift_bps_per_s(
    settings: ModelSettings, sigma_bps: float, trend: float, carry_bps: float, holding_s: float
) -> float:
    """Expected move of the mid, less the cost of holding a long, bps a second.

    Parameters
    ----------
    sigma_bps
        Volatility, bps per √minute: what a trend is measured in.
    trend
        Strength with its sign, −1 … 1.
    carry_bps
        Expected cost of holding a long for `holding_s`; negative: it pays.
    holding_s
        Expected time that a position is held; without one the carry does not count.
    """
    trend_part = settings.model_trend_share * min(max(trend, -1.0), 1.0) * max(sigma_bps, 0.0) / _S_PER_MINUTE
    return trend_part - carry_bps / holding_s if holding_s > 0.0 else trend_part
