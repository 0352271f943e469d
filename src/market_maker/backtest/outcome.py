"""What became of a contestant in a backtest: exact sums, intervals, fills, a curve, what they do not show.

Money in `summary` is exact; everything beside it is for reading and plotting, in floats of USD. Arrays are
structured: the dataclass of the same name says what the fields are, `row_dtype` makes the dtype of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.kernel import row_dtype
from market_maker.summary import RunSummary

# Figures that have an interval, in the order in which they are shown.
FIGURES: Final = (
    "pnl_bps_of_volume",
    "spread_bps",
    "adverse_selection_bps",
    "inventory_bps",
    "fees_bps",
    "rebates_bps",
    "funding_bps",
    "pnl_per_hour_usd",
    "pnl_per_inventory_risk",
)
HORIZONS_S: Final = (1, 5, 30)
QUANTILES: Final = ("p10", "p50", "p90", "p99")
ALL_LEVELS: Final = -1
BOTH_SIDES: Final = 0


@dataclass(frozen=True)
class Label:
    """Who played: name, profile, how its orders filled, latency to the exchange."""

    name: str
    profile: str
    fill_model: str
    latency_s: float


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval about it; `blocks` is how many independent pieces of time it rests on."""

    estimate: float
    low: float
    high: float
    confidence: float
    blocks: int

    @property
    def spans_zero(self) -> bool:
        """Whether the sign is open."""
        return self.low <= 0.0 <= self.high


class Markout(NamedTuple):
    """Volume-weighted move of the mid after our fills, bps, positive when it went our way.

    From the mid before the fill (`bps`) and from the fill's price (`bps_from_price`); `side` 0 is both sides,
    `level` −1 all levels. Fills younger than the horizon at the end are in none of them.
    """

    side: int
    level: int
    horizon_s: int
    bps: float
    bps_from_price: float
    fills: int
    volume_usd: float


@dataclass
class FillRecord:
    """One fill. Mids are doubled ticks (bid plus ask), 0 where the recording ended before the horizon."""

    ns: int = 0
    order_id: int = 0
    level: int = 0
    side: int = 0
    price_ticks: int = 0
    lots: int = 0
    role: int = 0  # fills.rows.MAKER or TAKER
    mid2_ticks: int = 0  # the last before the fill
    mid2_1s: int = 0
    mid2_5s: int = 0
    mid2_30s: int = 0
    queue_ahead_lots: int = -1  # ahead of the order when it was accepted; −1: unknown
    age_ns: int = 0  # since it was accepted; 0: unknown
    position_lots: int = 0  # after it


@dataclass
class CurvePoint:
    """Standing at an instant of the samples. USD since scoring began; what is open is valued at the mid."""

    ns: int = 0
    mid2_ticks: int = 0
    position_lots: int = 0
    total: float = 0.0
    spread: float = 0.0
    adverse_selection: float = 0.0
    inventory: float = 0.0
    fees: float = 0.0
    rebates: float = 0.0
    funding: float = 0.0
    bid_ticks: int = 0  # nearest of our orders, as the contestant knew it; 0: none
    ask_ticks: int = 0
    fair_ticks: float = 0.0
    sigma_bps: float = 0.0
    limit_lots: int = 0
    regime: int = 0  # domain.Regime
    trend: float = 0.0  # strength, signed
    paused: int = 0  # the graver domain.Reason while neither side rests, else 0


@dataclass
class Bucket:
    """What a short stretch of time added. The bootstrap draws from these; money in USD."""

    end_ns: int = 0
    seconds: float = 0.0
    volume: float = 0.0
    spread: float = 0.0
    adverse_selection: float = 0.0
    inventory: float = 0.0
    fees: float = 0.0
    rebates: float = 0.0
    funding: float = 0.0
    held2_s: float = 0.0  # ∫ (inventory in USD)² dt
    held_s: float = 0.0  # ∫ |inventory in USD| dt
    return2: float = 0.0  # squared relative change of the mid


FILL_DTYPE: Final = row_dtype(FillRecord)
CURVE_DTYPE: Final = row_dtype(CurvePoint)
BUCKET_DTYPE: Final = row_dtype(Bucket)


def _no_rows(dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.zeros(0, dtype)


@dataclass(frozen=True)
class Outcome:
    """One contestant in one market.

    Attributes
    ----------
    summary : RunSummary
        Exact; the parts of its PnL add up to the change of equity to the last digit.
    tick, step : Decimal
        The market's grid, USD and base units: what ticks and lots of the arrays are worth.
    intervals : mapping of str to Interval
        By figure, those of `FIGURES` that are defined: without volume there are no bps of it.
    market_volume_usd : Decimal
        Public trades while it was scored.
    conclusions : tuple of str
        Sentences that say what the data does not support; empty where nothing stands against it.
    fills : array of FillRecord
        At most some 20,000: where there were more, each `fills_stride`-th. The figures are of all.
    curve : array of CurvePoint
        At most some 5,000, evenly thinned.
    buckets : array of Bucket
        The whole scored time without a gap, at most some 4,000.
    liquidated : bool
        Whether its equity fell to the maintenance margin in the run: the exchange takes the position over.
    turnover_per_day : float
        Volume of a day over the mean absolute inventory.
    fill_ratio : float
        Orders that filled at least in part, of those that the exchange accepted.
    time_to_fill_s, queue_ahead_lots : mapping of str to float
        Quantiles over the fills that are kept, by name; empty without fills.
    pnl_per_inventory_risk : float
        PnL of an hour over the standard deviation that an hour of the held inventory had, per √hour: PnL/h
        ÷ (σ of the mid per √h × root mean square inventory). 0 where nothing was held.
    """

    label: Label
    market: str
    summary: RunSummary
    tick: Decimal = Decimal(1)
    step: Decimal = Decimal(1)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    market_volume_usd: Decimal = Decimal(0)
    volume_share: float = 0.0
    conclusions: tuple[str, ...] = ()
    fills: NDArray[Any] = field(default_factory=lambda: _no_rows(FILL_DTYPE))
    fills_stride: int = 1
    curve: NDArray[Any] = field(default_factory=lambda: _no_rows(CURVE_DTYPE))
    buckets: NDArray[Any] = field(default_factory=lambda: _no_rows(BUCKET_DTYPE))
    markouts: tuple[Markout, ...] = ()
    seconds: float = 0.0  # scored
    liquidated: bool = False
    turnover_per_day: float = 0.0
    max_drawdown_usd: float = 0.0
    fill_ratio: float = 0.0
    time_to_fill_s: Mapping[str, float] = field(default_factory=dict)
    queue_ahead_lots: Mapping[str, float] = field(default_factory=dict)
    pnl_per_hour_usd: float = 0.0
    pnl_per_inventory_risk: float = 0.0
    sigma_bps: float = 0.0  # of the mid, per √minute, while it was scored
    mean_abs_inventory_usd: float = 0.0
