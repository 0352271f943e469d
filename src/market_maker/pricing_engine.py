"""At which price, and how much of it, a level is to be quoted.

A quote stands at a distance from the fair value, the mid leaning towards the micro-price. The distance is a
fixed percent, a multiple of the smoothed spread, a multiple of what volatility does during a quote's life, or
a model's. It is scaled by the regime first, clamped afterwards, so that no scale undercuts the floor (fees,
volatility over the latency, least edge). A σ-based distance ignores the regime's scale, or volatility would
count twice. What volatility does while an order is on its way adds to every distance, as variances add: the
price that an order was meant for is that old when it arrives, so a slow link quotes wider.

Inventory shifts both quotes: tanh with a deadband, normalised to the limit that binds, growing with σ (the
linear skew of Guéant 2017, models.md §3, flattened near the limit), or as the model says; order flow and the
cost of carrying add to it. A quote that opens risk never comes nearer than the floor, whatever the shift; one
that reduces may give up its edge. Rounding is outward.

The module knows no orders and no gates: it never says whether to quote.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from market_maker.domain import BPS, Book, Side
from market_maker.kernel import kernel, new_row
from market_maker.micro_price import MicroPriceSettings, lean_ticks
from market_maker.trend_signal import TrendMode, TrendSettings

_SECONDS_PER_MINUTE: Final = 60.0
_MAX_EXACT: Final = 2.0**53  # ticks or lots that a float still holds exactly
_BUY: Final = int(Side.BUY)


class OffsetMode(IntEnum):
    """Where the distance to the fair value comes from."""

    FIXED = 0
    DYNAMIC = 1
    VOLATILITY = 2
    AVELLANEDA_STOIKOV = 3
    GLFT = 4


_FIXED: Final = int(OffsetMode.FIXED)
_DYNAMIC: Final = int(OffsetMode.DYNAMIC)
_VOLATILITY: Final = int(OffsetMode.VOLATILITY)
_FADE: Final = int(TrendMode.FADE)


@dataclass(frozen=True)
class QuoteSettings:
    """How many levels, how large, and around which value."""

    num_levels: int = 2  # levels on each side
    level_size_usd: float = 1000.0  # USD, notional of the nearest level
    level_size_growth: float = 1.0  # factor on the size from one level to the next
    max_depth_share: float = 0.5  # a level is at most this share of the size displayed on its side
    micro_price_weight: float = 0.5  # fair value: 0 is the mid, 1 the micro-price
    reduce_size_growth: float = 1.5  # share by which reducing quotes grow at the position limit


@dataclass(frozen=True)
class OffsetSettings:
    """Distance of a quote from the fair value."""

    offset_mode: OffsetMode = OffsetMode.VOLATILITY  # fixed, dynamic, volatility, avellaneda_stoikov or glft
    price_offset_per_level_percent: float = 0.3  # %, of each level (fixed)
    offset_spread_multiplier: float = 1.0  # of the smoothed spread (dynamic)
    offset_sigma_multiple: float = 1.0  # of σ over the expected life of a quote (volatility)
    quote_lifetime_s: float = 5.0  # s, expected life of a quote
    level_offset_step: float = 1.0  # each further level adds this share of the first one's offset
    min_offset_bps: float = 1.0  # bps, least offset (all modes but fixed)
    max_offset_bps: float = 300.0  # bps, largest offset in NORMAL (all modes but fixed)
    min_edge_bps: float = 0.3  # bps, what an opening quote keeps after fees and latency
    offset_latency_sigmas: float = 1.0  # of σ over the order latency, in every offset and in the floor


@dataclass(frozen=True)
class SkewSettings:
    """Shift of both quotes against the inventory."""

    skew_max_bps: float = 4.0  # bps, before the factor: the skew at the limit in a market that sleeps
    inventory_skew_factor: float = 0.5  # share of the largest skew that is used
    skew_sigma_multiple: float = 2.5  # of σ per √minute, before the factor: takes over in a market that moves
    skew_shape: float = 1.5  # k of tanh(k·x)/tanh(k): larger reacts earlier
    skew_deadband: float = 0.03  # share of the limit that is left alone
    skew_cap_bps: float = 150.0  # bps, of everything that shifts the quotes together


@dataclass(frozen=True)
class MarketParams:
    """What pricing must know of the market itself; written by the host from the instrument."""

    min_lots: int = 1  # lots, smallest order
    tick_lot_usd: float = 1.0  # USD, notional of one lot at one tick
    maker_fee_bps: float = 0.0  # bps, negative for a rebate
    taker_fee_bps: float = 2.5  # bps
    small_reduce_admitted: bool = False  # the exchange takes a reducing order below its smallest size


@dataclass
class Conditions:
    """Under which a quote is priced. Regime and trend enter as plain factors."""

    fair_ticks: float = 0.0  # ticks
    sigma_bps: float = 0.0  # bps/√minute
    spread_bps: float = 0.0  # bps, smoothed
    latency_s: float = 0.0  # s, from a decision to the exchange
    fee_bps: float = 0.0  # bps, maker
    carry_bps: float = 0.0  # bps, expected cost of holding a long; positive shifts both quotes down
    extra_bps: float = 0.0  # bps, asked for by the guards
    flow_bps: float = 0.0  # bps, shift of both quotes by order flow, positive up
    model_half_bps: float = 0.0  # bps, a model's distance
    model_shift_bps: float = 0.0  # bps, a model's shift of both quotes for inventory, drift and carry
    offset_scale: float = 1.0  # of the regime
    skew_scale: float = 1.0  # of regime and trend together
    inventory_share: float = 0.0  # effective inventory as a share of the limit that binds, −1 … 1


@kernel
def fair_value_ticks(
    settings: QuoteSettings,
    micro: MicroPriceSettings,
    bid_ticks: int,
    ask_ticks: int,
    bid_lots: int,
    ask_lots: int,
) -> float:
    """Mid leaning towards the micro-price, ticks: heavy bids push it up."""
    mid = 0.5 * (float(bid_ticks) + float(ask_ticks))
    return mid + settings.micro_price_weight * lean_ticks(micro, bid_ticks, ask_ticks, bid_lots, ask_lots)


@kernel
def move_bps(sigma_bps: float, seconds: float) -> float:
    """Standard deviation of the mid's move in a time, bps, from σ in bps per √minute."""
    return sigma_bps * math.sqrt(max(seconds, 0.0) / _SECONDS_PER_MINUTE)


@kernel
def _latency_bps(settings: OffsetSettings, conditions: Conditions) -> float:
    return settings.offset_latency_sigmas * move_bps(conditions.sigma_bps, conditions.latency_s)


@kernel
def cost_floor_bps(settings: OffsetSettings, conditions: Conditions) -> float:
    """Fee, volatility over the order latency and least edge, bps: what an opening quote must not undercut."""
    return conditions.fee_bps + _latency_bps(settings, conditions) + settings.min_edge_bps


@kernel
def ceiling_bps(settings: OffsetSettings, conditions: Conditions) -> float:
    """Largest offset, bps; it moves out with the regime and never in. A fixed offset has none."""
    if settings.offset_mode == _FIXED:
        return math.inf
    return settings.max_offset_bps * max(conditions.offset_scale, 1.0)


@kernel
def _scaled_offset_bps(settings: OffsetSettings, conditions: Conditions) -> float:
    if settings.offset_mode == _FIXED:
        return settings.price_offset_per_level_percent * 100.0 * conditions.offset_scale
    if settings.offset_mode == _DYNAMIC:
        return settings.offset_spread_multiplier * conditions.spread_bps * conditions.offset_scale
    if settings.offset_mode != _VOLATILITY:
        return conditions.fee_bps + conditions.model_half_bps
    move = move_bps(conditions.sigma_bps, settings.quote_lifetime_s)
    return conditions.fee_bps + settings.offset_sigma_multiple * move


@kernel
def _with_latency_bps(settings: OffsetSettings, conditions: Conditions) -> float:
    scaled, latency = _scaled_offset_bps(settings, conditions), _latency_bps(settings, conditions)
    # A root would change the last digit where there is nothing to add.
    return math.sqrt(scaled * scaled + latency * latency) if latency > 0.0 else scaled


@kernel
def offset_bps(settings: OffsetSettings, conditions: Conditions, level: int) -> float:
    """Distance of a level from the fair value, bps, before any skew.

    Scaled, then widened by the latency, then clamped between floor and ceiling, then stepped out by the
    level, then widened by what the guards ask for; the ceiling holds for the result, the floor above all.
    """
    fixed = settings.offset_mode == _FIXED
    least = 0.0 if fixed else settings.min_offset_bps
    floor = max(cost_floor_bps(settings, conditions), least)
    ceiling = max(ceiling_bps(settings, conditions), floor)
    step = 1.0 if fixed else settings.level_offset_step
    first = min(max(_with_latency_bps(settings, conditions), floor), ceiling)
    return min(first * (1.0 + step * float(level)) + conditions.extra_bps, ceiling)


@kernel
def inventory_share(inventory_lots: float, limit_long_lots: int, limit_short_lots: int) -> float:
    """Inventory as a share of the limit on its side, −1 … 1; past a limit of nothing it is all of it."""
    limit = float(limit_long_lots if inventory_lots > 0.0 else limit_short_lots)
    if math.fabs(inventory_lots) < limit:
        return inventory_lots / limit
    return math.copysign(1.0, inventory_lots) if inventory_lots != 0.0 else 0.0


@kernel
def has_model(settings: OffsetSettings) -> bool:
    """Whether distance and shift are a model's."""
    return bool(settings.offset_mode > _VOLATILITY)


@kernel
def _inventory_shift_bps(settings: SkewSettings, conditions: Conditions) -> float:
    share = math.fabs(conditions.inventory_share)
    beyond = max(share - settings.skew_deadband, 0.0) / max(1.0 - settings.skew_deadband, 1e-9)
    shape = math.tanh(settings.skew_shape * beyond) / math.tanh(max(settings.skew_shape, 1e-9))
    largest = max(settings.skew_max_bps, settings.skew_sigma_multiple * conditions.sigma_bps)
    pull = settings.inventory_skew_factor * largest * shape * conditions.skew_scale
    return -math.copysign(pull, conditions.inventory_share) - conditions.carry_bps


@kernel
def skew_bps(settings: SkewSettings, offset: OffsetSettings, conditions: Conditions) -> float:
    """Shift of both quotes, bps: negative (down) with a long inventory or a cost of holding longs."""
    by_model = has_model(offset)
    shift = conditions.model_shift_bps if by_model else _inventory_shift_bps(settings, conditions)
    return min(max(shift + conditions.flow_bps, -settings.skew_cap_bps), settings.skew_cap_bps)


@kernel
def trend_skew_scale(trend: TrendSettings, inventory_lots: float, strong_direction: int) -> float:
    """Factor on the skew: the trend's where a strong trend (0: none) runs against the inventory, else 1."""
    if inventory_lots * float(strong_direction) < 0.0:
        return trend.trend_skew_multiplier
    return 1.0


@kernel
def is_counter_trend(trend: TrendSettings, side: int, direction: int) -> bool:
    """Whether a side is the one to shrink: it sells into a rise (follow), or buys it (fade)."""
    return side == direction if trend.trend_mode == _FADE else side == -direction


@kernel
def trend_size_scale(trend: TrendSettings, side: int, direction: int) -> float:
    """Factor on the size of a side in a trend; 1 without one."""
    if direction == 0:
        return 1.0
    if is_counter_trend(trend, side, direction):
        return 1.0 - trend.trend_size_reduction
    return trend.trend_size_growth


@kernel
def quote_distance_bps(
    settings: OffsetSettings, conditions: Conditions, side: int, offset: float, skew: float
) -> float:
    """Distance of an opening quote from the fair value after the skew, bps: never under the floor."""
    return max(offset - float(side) * skew, cost_floor_bps(settings, conditions))


@kernel
def target_ticks(side: int, fair_ticks: float, distance_bps: float) -> float:
    """Price at a distance from the fair value, ticks, not yet rounded; negative distances reach across."""
    return fair_ticks * (1.0 - float(side) * distance_bps / BPS)


@kernel
def round_outward(side: int, price_ticks: float) -> int:
    """Whole ticks: bids down, asks up; 0 where the price is not finite or out of proportion."""
    if not (math.isfinite(price_ticks) and math.fabs(price_ticks) < _MAX_EXACT):
        return 0
    return math.floor(price_ticks) if side == _BUY else math.ceil(price_ticks)


@kernel
def edge_bps(side: int, price_ticks: float, fair_ticks: float, fee_bps: float) -> float:
    """What a fill at a price earns against the fair value, bps after the fee; nan without a fair value."""
    if not fair_ticks > 0.0:
        return math.nan
    return float(side) * (fair_ticks - price_ticks) / fair_ticks * BPS - fee_bps


@kernel
def _whole_lots(lots: float) -> int:
    return math.floor(lots) if math.isfinite(lots) and math.fabs(lots) < _MAX_EXACT else 0


@kernel
def level_lots(settings: QuoteSettings, market: MarketParams, level: int, fair_ticks: float) -> int:
    """Plain size of a level, lots; 0 where it comes to nothing or cannot be computed."""
    usd_per_lot = fair_ticks * market.tick_lot_usd
    if not usd_per_lot > 0.0:
        return 0
    return _whole_lots(
        settings.level_size_usd * math.pow(settings.level_size_growth, float(level)) / usd_per_lot
    )


@kernel
def scaled_lots(
    settings: QuoteSettings, market: MarketParams, plain_lots: int, scale: float, depth_lots: int
) -> int:
    """Size after a factor and the share of the depth; neither brings it below the smallest order."""
    lots = _whole_lots(min(float(plain_lots) * scale, settings.max_depth_share * float(depth_lots)))
    return max(lots, market.min_lots)


class PricingParams(Protocol):
    """The settings that pricing reads; `strategy_rows.Params` is one."""

    @property
    def quote(self) -> QuoteSettings:
        """Levels and sizes."""

    @property
    def offset(self) -> OffsetSettings:
        """Distances."""

    @property
    def skew(self) -> SkewSettings:
        """Shift against the inventory."""

    @property
    def micro_price(self) -> MicroPriceSettings:
        """What the sizes at the best prices foretell."""

    @property
    def market(self) -> MarketParams:
        """The market itself."""


class BookSource(Protocol):
    """Whoever knows the market's book."""

    @property
    def book(self) -> Book:
        """The latest book, our own orders taken out."""


class InventorySource(Protocol):
    """Whoever knows position and limits, in lots."""

    @property
    def position_lots(self) -> int:
        """Signed position."""

    def limit_lots(self, side: Side) -> int:
        """Largest position that may be reached by trading on a side, as a positive number."""


class PricingEngine:
    """Pricing of one market, for the bench: it gathers the inputs and calls the kernels.

    Prices come in and go out in USD; `tick_size` is what converts them, once.
    """

    def __init__(
        self,
        settings: PricingParams,
        orderbook_manager: BookSource,
        risk_manager: InventorySource,
        tick_size: float,
    ) -> None:
        self._quote = new_row(settings.quote)[0]
        self._offset = new_row(settings.offset)[0]
        self._skew = new_row(settings.skew)[0]
        self._micro_price = new_row(settings.micro_price)[0]
        self._market = new_row(settings.market)[0]
        self._books = orderbook_manager
        self._risk = risk_manager
        self._tick_size = float(tick_size)

    def fair_value(self) -> float:
        """Fair value now, USD."""
        return self._fair_ticks() * self._tick_size

    def inventory_skew(self, conditions: Conditions) -> float:
        """Shift of both quotes for the position held, bps; negative when long."""
        return skew_bps(self._skew, self._offset, self._complete(conditions))

    def compute_offset(self, level: int, conditions: Conditions) -> float:
        """Distance of a level from the fair value before the skew, bps."""
        return offset_bps(self._offset, self._complete(conditions), int(level))

    def compute_target_price(self, side: Side, level: int, conditions: Conditions) -> float:
        """Price of a level on the grid, USD: never nearer than the floor where it opens risk."""
        full = self._complete(conditions)
        offset, skew = offset_bps(self._offset, full, int(level)), skew_bps(self._skew, self._offset, full)
        distance = offset - float(side) * skew
        if side * self._risk.position_lots >= 0:
            distance = quote_distance_bps(self._offset, full, int(side), offset, skew)
        target = target_ticks(int(side), float(full.fair_ticks), distance)
        return round_outward(int(side), target) * self._tick_size

    def round_to_tick(self, side: Side, price: float) -> float:
        """Nearest price of the grid that does not improve on `price`, USD."""
        return round_outward(int(side), self._ticks(price)) * self._tick_size

    def theoretical_edge_bps(self, side: Side, price: float) -> float:
        """What a fill at a price (USD) earns against the fair value, bps after the maker fee."""
        fee = float(self._market.maker_fee_bps)
        return edge_bps(int(side), self._ticks(price), self._fair_ticks(), fee)

    def level_size(self, level: int) -> int:
        """Plain size of a level, lots."""
        return level_lots(self._quote, self._market, int(level), self._fair_ticks())

    def _ticks(self, price: float) -> float:
        # A price on the grid, divided by the tick as floats, may land a hair beside the whole number.
        return round(float(price) / self._tick_size, 6)

    def _fair_ticks(self) -> float:
        book = self._books.book
        sizes = (book.bid_ticks, book.ask_ticks, book.bid_lots, book.ask_lots)
        return fair_value_ticks(self._quote, self._micro_price, *sizes)

    def _complete(self, conditions: Conditions) -> Conditions:
        record: Conditions = new_row(conditions)[0]
        record.fair_ticks = self._fair_ticks()
        record.fee_bps = float(self._market.maker_fee_bps)
        record.inventory_share = inventory_share(
            float(self._risk.position_lots),
            int(self._risk.limit_lots(Side.BUY)),
            int(self._risk.limit_lots(Side.SELL)),
        )
        return record
