"""A ladder of resting orders around an anchor: what each of its lines is for, and where it lies.

Lines j = −N … N lie around the anchor, each a fixed distance from the next. One of them is the hole: below
it every line wants a bid, above it every line wants an ask, in it rests nothing. A bid that has filled makes
its line the hole, so that an ask follows one line above it, and the other way round: the neighbouring line
is re-armed, and inventory is −hole × line size beside the base, which is what was held at anchoring.

The hole is read off the position, with hysteresis: it moves when a whole line has filled, and a part of one
leaves the rest resting. So it depends on the path where parts fill on both sides, and never on how often it
is asked. What was held at anchoring is not kept: the nearest line of the side that reduces it is re-armed at
its own price until the base is gone, and lines that would take inventory past N lines' worth are gated.

The distance is a multiple of σ, set when the ladder is anchored. A ladder that is flat at its anchor is
anchored anew where the distance that is wanted has changed by a factor. Past the outermost line nothing adds
risk; far past it this stays so until the ladder is anchored anew around the mid, which happens after a while
outside, though not while a strong trend still runs that way.

A slot is one line for good. Levels count away from the market on both sides, as elsewhere: a bid's level l
is line N−1−l, an ask's line l−N+1 (the lowest line never wants an ask, nor the highest a bid).
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from market_maker.domain import BPS, NS_PER_MS, NS_PER_S, Reason, Side
from market_maker.kernel import kernel, new_row

MAX_LEVELS: Final = 50
# Time counts in slots, as it does for the toxicity guard: between two of them time alone changes nothing.
_SLOT_NS: Final = 100 * NS_PER_MS
_MAX_EXACT: Final = 2.0**53
# Lines that grow by a ratio are a tick apart, and what floats lose of it.
_LEAST_STEP_TICKS: Final = 1.01
_BUY: Final = int(Side.BUY)
_NONE: Final = int(Reason.NONE)
_OUTSIDE: Final = int(Reason.GRID_OUTSIDE)
_STOPPED: Final = int(Reason.GRID_STOPPED)
_STRONG_TREND: Final = int(Reason.STRONG_TREND)
_POSITION_LIMIT: Final = int(Reason.POSITION_LIMIT)


class Strategy(IntEnum):
    """What the orders are for: quotes around the fair value, or the ladder."""

    MARKET_MAKER = 0
    GRID = 1


class GridSpacing(IntEnum):
    """Equal ratios between lines, or equal differences."""

    GEOMETRIC = 0
    ARITHMETIC = 1


_ARITHMETIC: Final = int(GridSpacing.ARITHMETIC)


def _require(settings: dict[str, Any], low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= settings[name] <= high:
            msg = f"{name}: expected {low:g} to {high:g}, was {settings[name]!r}"
            raise ValueError(msg)


@dataclass(frozen=True)
class GridSettings:
    """The strategy, and its ladder where that is the grid. ValueError out of bounds.

    A round trip earns the distance between two lines and pays the maker fee twice: the host refuses a least
    distance that does not exceed that (`pays_its_fees`).
    """

    strategy: Strategy = Strategy.MARKET_MAKER  # market_maker or grid
    grid_levels: int = 5  # lines on each side of the anchor
    grid_spacing: GridSpacing = GridSpacing.GEOMETRIC  # geometric or arithmetic
    grid_spacing_sigmas: float = 1.0  # distance of two lines, in σ over grid_spacing_minutes
    grid_spacing_minutes: float = 5.0  # min, over which σ is taken
    grid_min_spacing_bps: float = 5.0  # bps, least distance of two lines; above twice the maker fee
    grid_max_spacing_bps: float = 200.0  # bps, largest distance
    grid_respace_factor: float = 2.0  # change of wanted distance or size that re-anchors a flat ladder
    grid_recentre_s: float = 300.0  # s past the outermost line, after which the ladder is anchored anew
    grid_stop_bps: float = 100.0  # bps past the outermost line, from which on it only reduces
    grid_trend_pause: bool = True  # pause the lines that trade against a strong trend

    def __post_init__(self) -> None:
        _require(vars(self), 1, MAX_LEVELS, "grid_levels")
        _require(vars(self), 1e-3, 1e3, "grid_spacing_sigmas", "grid_spacing_minutes")
        _require(vars(self), 1e-2, 1e3, "grid_min_spacing_bps")
        _require(vars(self), self.grid_min_spacing_bps, 1e3, "grid_max_spacing_bps")
        _require(vars(self), 1.01, 100.0, "grid_respace_factor")
        _require(vars(self), 0.1, 1e7, "grid_recentre_s")
        _require(vars(self), 0.0, 1e4, "grid_stop_bps")


@dataclass
class LadderState:
    """The ladder of one market. `anchor_ticks` is 0 until there is one."""

    anchor_ticks: float = 0.0  # ticks, price of line 0
    spacing_bps: float = 0.0  # bps, distance of two lines (at the anchor)
    step_ticks: float = 0.0  # ticks, distance of two lines where that is equal; 0: their ratio is
    hole: int = 0  # line in which nothing rests
    line_lots: int = 0  # size of every line
    base_lots: int = 0  # signed: held at anchoring, and not unloaded yet
    filled_lots: int = 0  # signed: + bought of the line below the hole, − sold of the one above it
    outside: int = 0  # −1 below, +1 above all lines, now or when the ladder stopped
    outside_slot: int = 0  # when it went there, in 100 ms since the epoch
    stopped: bool = False  # it went too far; lifted by a new anchor
    strong_direction: int = 0  # of the trend, 0: none or not strong
    anchored: int = 0  # how often the ladder was anchored


def slots_each(settings: GridSettings) -> int:
    """Number of levels a side: every line but the one that never wants an order there."""
    return 2 * settings.grid_levels


def pays_its_fees(settings: GridSettings, maker_fee_bps: float) -> bool:
    """Whether the least distance of two lines exceeds what a round trip pays."""
    # A fee in bps comes from a float: 0.00015 is a little less than 1.5.
    return settings.grid_min_spacing_bps > 2.0 * maker_fee_bps + 1e-9


@kernel
def _line_of(settings: GridSettings, side: int, level: int) -> int:
    return side * (settings.grid_levels - 1 - level)


@kernel
def line_price(ladder: LadderState, line: float) -> float:
    """Price of a line, or of a place between two, before rounding, ticks."""
    if ladder.step_ticks > 0.0:
        return ladder.anchor_ticks + line * ladder.step_ticks
    return ladder.anchor_ticks * math.exp(line * ladder.spacing_bps / BPS)


@kernel
def _wanted_spacing_bps(settings: GridSettings, mid_ticks: float, sigma_bps: float) -> float:
    """Distance of two lines that σ asks for, at least a tick, bps."""
    move = settings.grid_spacing_sigmas * sigma_bps * math.sqrt(settings.grid_spacing_minutes)
    spacing = min(max(move, settings.grid_min_spacing_bps), settings.grid_max_spacing_bps)
    return max(spacing, BPS / mid_ticks)


@kernel
def _anchor(
    settings: GridSettings,
    ladder: LadderState,
    mid_ticks: float,
    spacing_bps: float,
    line_lots: int,
    position_lots: int,
) -> None:
    ladder.anchor_ticks = math.floor(2.0 * mid_ticks + 0.5) / 2.0
    ladder.spacing_bps = spacing_bps
    # Equal ratios are narrowest at the bottom, and no two lines may come within a tick of each other.
    ratio = spacing_bps / BPS
    lowest_step = mid_ticks * math.exp(-float(settings.grid_levels) * ratio) * math.expm1(ratio)
    is_arithmetic = settings.grid_spacing == _ARITHMETIC or lowest_step < _LEAST_STEP_TICKS
    ladder.step_ticks = max(mid_ticks * ratio, 1.0) if is_arithmetic else 0.0
    ladder.hole = 0
    ladder.line_lots = line_lots
    ladder.base_lots = position_lots
    ladder.filled_lots = 0
    ladder.outside = 0
    ladder.outside_slot = 0
    ladder.stopped = False
    ladder.anchored += 1


@kernel
def settle(settings: GridSettings, ladder: LadderState, position_lots: int) -> None:
    """Read the hole of an anchored ladder off the position. What is traded against the base unloads it."""
    excess = position_lots - ladder.base_lots + ladder.hole * ladder.line_lots
    if excess * ladder.base_lots < 0:
        unloaded = min(abs(excess), abs(ladder.base_lots))
        sign = 1 if excess > 0 else -1
        ladder.base_lots += sign * unloaded
        excess -= sign * unloaded
    lines = abs(excess) // ladder.line_lots
    hole = ladder.hole - (lines if excess > 0 else -lines)
    hole = min(max(hole, -settings.grid_levels), settings.grid_levels)
    excess -= (ladder.hole - hole) * ladder.line_lots
    ladder.hole = hole
    ladder.filled_lots = excess


@kernel
def _side_past(ladder: LadderState, mid_ticks: float, lines: float) -> int:
    """Side on which the mid is more than so many lines away from the anchor, 0 where it is not."""
    if mid_ticks < line_price(ladder, -lines):
        return -1
    return 1 if mid_ticks > line_price(ladder, lines) else 0


@kernel
def _watch_bounds(settings: GridSettings, ladder: LadderState, mid_ticks: float, now_ns: int) -> None:
    lines = float(settings.grid_levels)
    side = _side_past(ladder, mid_ticks, lines)
    # Back is half a line inside: a mid that hovers at the last line would pull and place with every tick.
    if side == 0 and ladder.outside != 0 and _side_past(ladder, mid_ticks, lines - 0.5) == ladder.outside:
        side = ladder.outside
    if side == 0:
        if not ladder.stopped:
            ladder.outside = 0
            ladder.outside_slot = 0
        return
    if ladder.outside != side:
        ladder.outside = side
        ladder.outside_slot = now_ns // _SLOT_NS
    bound = line_price(ladder, float(side) * lines)
    if float(side) * (mid_ticks - bound) / bound * BPS > settings.grid_stop_bps:
        ladder.stopped = True


@kernel
def _ratio(a: float, b: float) -> float:
    return max(a / b, b / a)


@kernel
def _is_due(
    settings: GridSettings, ladder: LadderState, wanted_bps: float, line_lots: int, now_ns: int
) -> bool:
    """Whether the ladder is to be anchored anew: outside for long, or flat and spaced or sized badly."""
    if ladder.outside != 0:
        slots = now_ns // _SLOT_NS - ladder.outside_slot
        waited = float(slots) * (_SLOT_NS / NS_PER_S) >= settings.grid_recentre_s
        return waited and ladder.strong_direction != ladder.outside
    if ladder.hole != 0 or ladder.filled_lots != 0:
        return False
    change = max(_ratio(wanted_bps, ladder.spacing_bps), _ratio(float(line_lots), float(ladder.line_lots)))
    return change >= settings.grid_respace_factor


@kernel
def follow(  # noqa: PLR0913 (one look is settings, state and six plain values)
    settings: GridSettings,
    ladder: LadderState,
    mid_ticks: float,
    sigma_bps: float,
    line_lots: int,
    position_lots: int,
    strong_direction: int,
    now_ns: int,
) -> None:
    """Bring the ladder up to date; the same arguments again change nothing.

    Parameters
    ----------
    mid_ticks : float
        Mid of the market; without one the ladder stays as it is.
    sigma_bps : float
        Volatility in force, bps per √minute.
    line_lots : int
        Size of a line of a ladder that is anchored now; it is not where that is not above 0.
    position_lots : int
        Signed position.
    strong_direction : int
        Sign of a strong trend, 0 where there is none.
    now_ns : int
        Counts in slots of 100 ms.
    """
    if not (1.0 <= mid_ticks < _MAX_EXACT and 0.0 <= sigma_bps < math.inf):
        return
    ladder.strong_direction = strong_direction
    is_anchored = ladder.anchor_ticks > 0.0
    if is_anchored:
        settle(settings, ladder, position_lots)
        _watch_bounds(settings, ladder, mid_ticks, now_ns)
    if line_lots <= 0:
        return
    wanted_bps = _wanted_spacing_bps(settings, mid_ticks, sigma_bps)
    if not is_anchored or _is_due(settings, ladder, wanted_bps, line_lots, now_ns):
        _anchor(settings, ladder, mid_ticks, wanted_bps, line_lots, position_lots)


@kernel
def gate(settings: GridSettings, ladder: LadderState, side: int, level: int) -> int:
    """Why a line may take no new risk, a value of `Reason`; NONE if it may."""
    if ladder.stopped:
        return _STOPPED
    if ladder.outside != 0:
        return _OUTSIDE
    if settings.grid_trend_pause and ladder.strong_direction == -side:
        return _STRONG_TREND
    # A line that has filled is the hole.
    after = side * (ladder.base_lots - _line_of(settings, side, level) * ladder.line_lots)
    if after > settings.grid_levels * ladder.line_lots:
        return _POSITION_LIMIT
    return _NONE


@kernel
def line_ticks(settings: GridSettings, ladder: LadderState, side: int, level: int) -> int:
    """Price of a slot's line, bids rounded down and asks up; 0 where no order belongs there now."""
    line = _line_of(settings, side, level)
    if ladder.anchor_ticks <= 0.0 or side * (ladder.hole - line) <= 0:
        return 0
    price = line_price(ladder, float(line))
    if not 0.0 < price < _MAX_EXACT:
        return 0
    return math.floor(price) if side == _BUY else math.ceil(price)


@kernel
def rest_lots(settings: GridSettings, ladder: LadderState, side: int, level: int, min_lots: int) -> int:
    """Size that a slot's line still wants: its own, less what has filled of it, at least the smallest order.

    What is bought past the end of a line counts as bought of the next.
    """
    rest = ladder.line_lots
    if _line_of(settings, side, level) == ladder.hole - side:
        rest -= max(side * ladder.filled_lots, 0)
    return max(rest, min_lots)


class LadderLine(NamedTuple):
    """A line that wants an order: its number, side, price in ticks and size in lots; and why it is paused."""

    line: int
    side: Side
    price_ticks: int
    size_lots: int
    gate: Reason


class Ladder:
    """The ladder of one market on the bench: feed it what the market does, read what it wants.

    Examples
    --------
    >>> ladder = Ladder(GridSettings(grid_levels=2, grid_min_spacing_bps=10.0))
    >>> ladder.follow(mid_ticks=50_000.0, sigma_bps=2.0, line_lots=100, position_lots=0)
    >>> [(line.line, line.side.name, line.price_ticks) for line in ladder.lines()]
    [(-2, 'BUY', 49900), (-1, 'BUY', 49950), (1, 'SELL', 50051), (2, 'SELL', 50101)]
    >>> ladder.follow(mid_ticks=49_950.0, sigma_bps=2.0, line_lots=100, position_lots=100)
    >>> [(line.line, line.side.name, line.price_ticks) for line in ladder.lines()]
    [(-2, 'BUY', 49900), (0, 'SELL', 50000), (1, 'SELL', 50051), (2, 'SELL', 50101)]
    """

    def __init__(self, settings: GridSettings, ladder: LadderState | None = None) -> None:
        self._levels = slots_each(settings)
        self.settings = new_row(settings)[0]
        self.state = new_row(ladder or LadderState())[0]

    def follow(
        self,
        mid_ticks: float,
        sigma_bps: float,
        line_lots: int,
        position_lots: int,
        strong_direction: int = 0,
        now_ns: int = 0,
    ) -> None:
        """See the function of the same name."""
        now = (float(mid_ticks), float(sigma_bps), line_lots, position_lots, strong_direction, now_ns)
        follow(self.settings, self.state, *now)

    def settle(self, position_lots: int) -> None:
        """See the function of the same name."""
        settle(self.settings, self.state, position_lots)

    def lines(self, min_lots: int = 1) -> list[LadderLine]:
        """Lines that want an order, from the lowest."""
        found = []
        for side in Side:
            for level in range(self._levels):
                price = int(line_ticks(self.settings, self.state, int(side), level))
                if price > 0:
                    line = int(_line_of(self.settings, int(side), level))
                    size = int(rest_lots(self.settings, self.state, int(side), level, min_lots))
                    reason = Reason(int(gate(self.settings, self.state, int(side), level)))
                    found.append(LadderLine(line, side, price, size, reason))
        return sorted(found)
