"""What a strategy knows, in rows: everything that `observe` and `decide` read or write, and nothing else.

`Params` is what was set, `State` what the market's events made of it, `Account` what the host knows of money
and connection, `Slot` the order that rests in one place, and `DecisionRow` the answer with what led to it. A
market is one row of each but the slot, which comes once for every level and side. The kernels have no other
memory, so rows that are equal bring decisions that are equal, and a row that was kept can be decided again.

A record is declared as a dataclass; `kernel.row_dtype` makes one dtype of the class, and that same object
goes to Numba whoever asks. A class that is copied or subclassed would be a dtype of its own, and every kernel
would be compiled once more for it. Fields may be added anywhere but before the first five of `DecisionRow`.

Prices are in ticks, sizes in lots, times in ns of the host's clock; what is not known yet is 0.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from market_maker.domain import Action, Decision, Reason, Side
from market_maker.funding import FundingSettings, FundingState, HoldingState
from market_maker.grid import GridSettings, LadderState, Strategy, slots_each
from market_maker.kernel import Row
from market_maker.micro_price import MicroPriceSettings
from market_maker.model_quotes import ModelRow, ModelSettings
from market_maker.order_flow import OrderFlowSettings, OrderFlowState
from market_maker.post_only_safety import PostOnlySettings, PostOnlyState
from market_maker.pricing_engine import (
    Conditions,
    MarketParams,
    OffsetSettings,
    QuoteSettings,
    SkewSettings,
)
from market_maker.realised_volatility import VolatilitySettings, VolatilityState
from market_maker.reference_price import ReferenceSettings, ReferenceState
from market_maker.spread_signal import SpreadEmaSettings, SpreadEmaState
from market_maker.toxicity_guard import (
    ImbalanceSettings,
    JumpSettings,
    MarketView,
    SpreadGuardSettings,
    ToxicitySettings,
    ToxicityState,
)
from market_maker.trend_signal import TrendSettings, TrendState
from market_maker.volatility_regime import RegimeScaleSettings, RegimeState, VolatilityRegimeSettings

_BUY: Final = int(Side.BUY)
_KEEP: Final = int(Action.KEEP)
_NONE: Final = int(Reason.NONE)
# Looking a member up is several times faster than constructing it.
_ACTIONS: Final = {int(action): action for action in Action}
_REASONS: Final = {int(reason): reason for reason in Reason}


class ExtremeAction(IntEnum):
    """What EXTREME does to orders: pause those that add risk, or pull the reducing ones too."""

    PAUSE_OPENING = 0
    PULL_ALL = 1


@dataclass(frozen=True)
class RepriceSettings:
    """When a resting order is worth a move, and what the extremes do."""

    reprice_tolerance: float = 0.5  # share of the quote's offset that a price may be off
    reprice_tolerance_ticks: float = 1.0  # ticks, least tolerance
    reprice_size_tolerance: float = 0.5  # share of the wanted size that a size may be off
    reprice_safety_enabled: bool = True  # leave a price that no longer pays its costs without waiting
    min_reprice_interval_s: float = 0.7  # s, least time between two changes of an order
    max_order_age_s: float = 120.0  # s, age at which an order is renewed
    stale_after_s: float = 10.0  # s without any frame, after which the book is not trusted
    warmup_limit_scale: float = 0.5  # factor on the position limits until volatility is known
    extreme_action: ExtremeAction = ExtremeAction.PAUSE_OPENING  # pause_opening or pull_all


@dataclass(frozen=True)
class Params:
    """All settings of one market's strategy."""

    quote: QuoteSettings = field(default_factory=QuoteSettings)
    offset: OffsetSettings = field(default_factory=OffsetSettings)
    skew: SkewSettings = field(default_factory=SkewSettings)
    spread_ema: SpreadEmaSettings = field(default_factory=SpreadEmaSettings)
    reprice: RepriceSettings = field(default_factory=RepriceSettings)
    volatility: VolatilitySettings = field(default_factory=VolatilitySettings)
    regime: VolatilityRegimeSettings = field(default_factory=VolatilityRegimeSettings)
    regime_scale: RegimeScaleSettings = field(default_factory=RegimeScaleSettings)
    trend: TrendSettings = field(default_factory=TrendSettings)
    toxicity: ToxicitySettings = field(default_factory=ToxicitySettings)
    jump: JumpSettings = field(default_factory=JumpSettings)
    imbalance: ImbalanceSettings = field(default_factory=ImbalanceSettings)
    spread_guard: SpreadGuardSettings = field(default_factory=SpreadGuardSettings)
    post_only: PostOnlySettings = field(default_factory=PostOnlySettings)
    flow: OrderFlowSettings = field(default_factory=OrderFlowSettings)
    micro_price: MicroPriceSettings = field(default_factory=MicroPriceSettings)
    funding: FundingSettings = field(default_factory=FundingSettings)
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    grid: GridSettings = field(default_factory=GridSettings)
    market: MarketParams = field(default_factory=MarketParams)
    model_row: ModelRow = field(default_factory=ModelRow)


@dataclass
class BookRow:
    """`domain.Book` as a row."""

    bid_ticks: int = 0
    bid_lots: int = 0
    ask_ticks: int = 0
    ask_lots: int = 0
    bid_depth_lots: int = 0
    ask_depth_lots: int = 0
    venue_ns: int = 0
    recv_ns: int = 0


@dataclass
class State:
    """Signals of one market, and the last book and trade."""

    volatility: VolatilityState = field(default_factory=VolatilityState)
    regime: RegimeState = field(default_factory=RegimeState)
    trend: TrendState = field(default_factory=TrendState)
    toxicity: ToxicityState = field(default_factory=ToxicityState)
    spread_ema: SpreadEmaState = field(default_factory=SpreadEmaState)
    flow: OrderFlowState = field(default_factory=OrderFlowState)
    funding: FundingState = field(default_factory=FundingState)
    reference: ReferenceState = field(default_factory=ReferenceState)
    market_view: MarketView = field(
        default_factory=MarketView
    )  # what the guards know: regime and trend in force
    sigma_bps: float = 0.0  # bps/√minute, in force: quotes are priced by it
    book: BookRow = field(default_factory=BookRow)
    book_ns: int = 0  # instant of the last book
    warm: bool = False  # volatility counts, or regimes are disabled
    trade_side: int = 0  # of the last taker
    trade_ticks: int = 0
    trade_lots: int = 0
    trade_ns: int = 0


@dataclass
class Account:
    """What the host knows of account and connection; it writes all of it."""

    position_lots: int = 0  # signed
    limit_long_lots: int = 0  # largest long position in NORMAL, the tightest of all limits
    limit_short_lots: int = 0  # largest short position, as a positive number
    effective_inventory_lots: float = 0.0  # signed: position and what other markets add to its risk
    mark_ticks: float = 0.0  # 0: unknown, and no risk is added
    band_low_ticks: int = 0  # lowest price of a sell, 0: unknown
    band_high_ticks: int = 0  # highest price of a buy, 0: unknown
    order_latency_s: float = 0.0  # s, from a decision to the exchange
    halt_reason: int = 0  # of domain.Reason; NONE to quote
    widening: float = 1.0  # factor on the offset of what opens risk; above 1 on the kill ladder
    last_frame_ns: int = 0  # instant of the last frame of any kind
    holding: HoldingState = field(default_factory=HoldingState)  # how long positions have been held
    ladder: LadderState = field(default_factory=LadderState)  # lines of the grid; `decide` moves it


@dataclass
class Slot:
    """One place for an order, and the order there. Lots are worst cases: what may still fill."""

    side: int = _BUY
    level: int = 0
    price_ticks: int = 0
    size_lots: int = 0  # as sent
    remaining_lots: int = 0
    inner_lots: int = 0  # remaining of our other orders on this side, nearer levels
    outer_lots: int = 0  # the same, farther levels
    placed_ns: int = 0  # when the order was sent, or last renewed
    last_change_ns: int = 0  # when the last request was sent
    post_only: PostOnlyState = field(default_factory=PostOnlyState)
    resting: bool = False
    request_pending: bool = False
    reduce_only: bool = False


@dataclass
class DecisionRow:
    """A `domain.Decision` in its first five fields, then what led to it."""

    action: int = _KEEP
    reason: int = _NONE
    price_ticks: int = 0
    size_lots: int = 0
    reduce_only: bool = False
    gate: int = _NONE  # why the side may take no new risk
    wanted_ticks: int = 0  # the quote that would be placed now
    wanted_lots: int = 0
    room_lots: int = 0  # largest size that the limit in force leaves to this slot
    only_reduces: bool = False
    fair_ticks: float = 0.0
    offset_bps: float = 0.0
    skew_bps: float = 0.0
    conditions: Conditions = field(default_factory=Conditions)


def has_lines(params: Params) -> bool:
    """Whether the grid quotes, so that a level is a line of its ladder."""
    return params.grid.strategy == Strategy.GRID


def levels_each(params: Params) -> int:
    """Levels on each side that a market has slots for."""
    return slots_each(params.grid) if has_lines(params) else params.quote.num_levels


def read_decision(row: Row) -> Decision:
    """Return the decision that `decide` wrote to its row."""
    action, reason, price_ticks, size_lots, reduce_only = row.item()[:5]
    return Decision(_ACTIONS[action], _REASONS[reason], price_ticks, size_lots, reduce_only)
