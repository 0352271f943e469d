"""What a runner keeps beside the fill engine: the rows that decisions read, and what a strategy knows.

Strategy k has the slots k·S … k·S + S − 1, nearest level first, the buy of a level before its sell; those
beyond its number of levels stay empty.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from numpy.typing import NDArray

from market_maker.fills.rows import NEVER_NS, Cells, Rows, World
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, Slot, State

LARGEST: Final = 2**62
# How time is split: kind × reason × whether the regime is extreme, one cell each.
SPENT_KINDS: Final = 3
SPENT_REASONS: Final = 128
SPENT_CELLS: Final = SPENT_KINDS * SPENT_REASONS * 2


class Quoter(IntEnum):
    """Who decides: the market maker's pipeline, or a baseline's line through mid and inventory."""

    MARKET_MAKER = 0
    LINEAR = 1


@dataclass
class QuoterRow:
    """A contestant's way to quote. Distances are in ticks.

    LINEAR bids mid − skew·q − half − level·step with q the position in sizes of the nearest level; the ask is
    its mirror. Everything else (sizes, limits, tolerances, intervals) is as the parameters say.
    """

    kind: int = int(Quoter.MARKET_MAKER)
    half_ticks: float = 0.0  # distance of the nearest level from the mid
    level_step_ticks: float = 0.0  # added by each level
    skew_ticks: float = 0.0  # both quotes move down by this for each size of inventory held long


@dataclass
class RiskRow:
    """Limits of a contestant, in picodollars and parts per million, and the state behind some of them."""

    tick_lot_pusd: int = 1  # value of a lot at a price of one tick
    max_position_lots: int = LARGEST
    max_position_pusd: int = LARGEST  # the least of the limits on notional, gross and stress
    max_order_pusd: int = LARGEST
    band_ppm: int = LARGEST  # how far from the mark an order may be priced
    band_up_ppm: int = 0  # the same or the exchange's cap, whichever is less, for the quotes; 0: none
    band_down_ppm: int = 0
    rate_n_per_s: int = LARGEST  # orders a second, in 10⁻⁹
    day_loss_pusd: int = LARGEST
    drawdown_pusd: int = LARGEST
    start_pusd: int = 0  # equity at the beginning
    tokens_n: int = 0
    tokens_ns: int = 0
    peak_pusd: int = 0
    day_start_pusd: int = 0
    day: int = -1
    halt: int = 0  # of domain.Reason, latched
    lot_pusd: int = 0  # value of a lot at the mark as it is known; 0: unknown
    equity_pusd: int = 0
    leverage_ppm: int = LARGEST  # largest position by equity
    maintenance_ppm: int = 0  # of a position's value, what equity must not fall to
    distance_ppm: int = 0  # of a position's value, least equity above that to take more risk
    liquidated: bool = False
    mark_parts: int = 0  # what equity was worked out from
    seen_fills: int = -1
    seen_funding: int = 0
    others_lots: float = 0.0  # what other markets add to the inventory; the host writes it
    room_long_pusd: int = (
        LARGEST  # what the account's limit on net beta leaves to each side; the host writes it
    )
    room_short_pusd: int = LARGEST
    order_life_ns: int = 0
    decisions: int = 0
    placed: int = 0
    replaced: int = 0
    cancelled: int = 0
    rejected: int = 0
    refused: int = 0  # by these limits
    breaches: int = 0  # fills that took the position past the limits, those when the order was sent too


@dataclass
class SlotOrderRow:
    """What a slot knows of its order, and of the one that is to take its place; id 0: none."""

    reason: int = 100  # of the last decision; STARTING
    gate: int = 0  # why it could take no new risk
    extra_bps: float = 0.0
    order_id: int = 0
    order: int = 0
    price_ticks: int = 0
    size_lots: int = 0
    remaining_lots: int = 0
    reduce_only: bool = False
    placed_ns: int = 0
    limit_lots: int = 0  # on its side, when it was sent
    new_id: int = 0
    new_order: int = 0
    new_price_ticks: int = 0
    new_size_lots: int = 0
    new_remaining_lots: int = 0
    new_reduce_only: bool = False
    new_placed_ns: int = 0
    new_limit_lots: int = 0
    cancel_id: int = 0  # the order whose cancel is on its way


@dataclass
class FeedRow:
    """A delayed book: what of it was heard."""

    extra_ns: int = 0  # on top of the recorded delay
    now_ns: int = 0  # when its last frame was heard
    alive_ns: int = 0  # the same, of frames of the market itself
    mark_parts: int = 0
    depth_levels: int = 5
    depth_span: float = 0.001  # fraction of the price; 0: levels alone
    has_book: bool = False  # its last frame changed the book


@dataclass
class GroupRow:
    """Contestants whose signals are set equally share a state; what of it decisions read, and its number."""

    feed: int = 0
    leader: int = 0  # a contestant of it
    version: int = 0
    bid_ticks: int = 0
    ask_ticks: int = 0
    sigma_bps: float = 0.0
    base_sigma_bps: float = 0.0
    fast_sigma_bps: float = 0.0
    regime: int = -1
    direction: int = 0
    strong: bool = False
    warm: bool = False
    buy_imbalance: int = 0
    sell_imbalance: int = 0
    buy_flow: bool = False  # pulled by toxic flow
    sell_flow: bool = False
    flow_direction: float = 0.0
    flow_rank: float = 0.0
    lead_bps: float = 0.0  # of the reference
    lean_bps: float = 0.0


@dataclass
class MemoRow:
    """What a contestant need not be asked again (`memory`), and what is its own of the shared signals."""

    group: int = 0
    levels: int = 0  # on each side; those of a ladder are its lines
    buy_pulled_until_ns: int = 0
    sell_pulled_until_ns: int = 0
    lasts: bool = False  # as it is being asked: whether its outcomes may be remembered,
    same: bool = False  # and are those before,
    reach_ticks: float = 0.0  # and how far around this fair value they would be the same
    version: int = -1  # of the group; −1: nothing is remembered
    gate_ns: int = 0
    low_ticks: float = 0.0  # fair values between which nothing changes
    high_ticks: float = 0.0
    spread_bps: float = -1.0  # smoothed spread that it holds for; −1: any
    depth_lots: int = 0


@dataclass
class StandingRow:
    """How a contestant's quotes stand, since when, and what that was worked out from."""

    since_ns: int = 0
    start_ns: int = 0  # of the time that counts
    cell: int = 0  # of `Bench.spent`
    has_quoted: bool = False
    mid2_ticks: int = 0  # at which the size of the nearest level was worked out
    level_lots: int = 0


@dataclass
class HedgeRow:
    """What a contestant's hedge is to do, which its host writes between two slices, and what it did.

    A wish is carried out once, when nothing is on its way: KEEP and 0 lots are none.
    """

    enabled: bool = False
    rest_action: int = 0  # of domain.Action
    rest_side: int = 1
    rest_ticks: int = 0
    rest_lots: int = 0
    take_side: int = 1
    take_ticks: int = 0
    take_lots: int = 0
    rested_ns: int = -NEVER_NS  # when the last request for the resting order left
    took_ns: int = -NEVER_NS
    maker_tick_lots: int = 0  # value of its fills
    taker_tick_lots: int = 0


@dataclass
class ClockRow:
    """Instants at which the runner does something by itself, and what it has written."""

    now_ns: int = 0
    timer_ns: int = NEVER_NS
    timer_step_ns: int = 0
    sample_ns: int = NEVER_NS
    sample_step_ns: int = 0
    asks_all: bool = False  # at every frame, whether or not anything changed
    score_ns: int = NEVER_NS
    mid2_ticks: int = 0
    mids: int = 0
    samples: int = 0


@dataclass
class MidRow:
    """A new mid at the exchange, after a whole frame: best bid plus best ask, 0 where there is none."""

    ns: int = 0
    mid2_ticks: int = 0


@dataclass
class SampleRow:
    """A contestant at an instant of the exchange's time, as it sees itself; 0: none or unknown."""

    ns: int = 0
    strategy: int = 0
    mid2_ticks: int = 0  # of the exchange
    position_lots: int = 0
    bid_ticks: int = 0  # nearest that rests
    ask_ticks: int = 0
    fair_ticks: float = 0.0
    sigma_bps: float = 0.0  # bps/√minute
    regime: int = 0
    trend: float = 0.0  # strength, signed
    bid_reason: int = 0  # of the nearest level
    ask_reason: int = 0
    limit_lots: int = 0  # position limit in force, the regime's factor included


class Piece(NamedTuple):
    """What a piece of the market brought: orders and fills, mids, samples, each in the order of time."""

    log: NDArray[Any]
    mids: NDArray[Any]
    samples: NDArray[Any]


class Bench(NamedTuple):
    """All arrays of a runner."""

    world: World
    params: Rows[Params]  # K
    quoters: Rows[QuoterRow]  # K
    groups: Rows[GroupRow]  # G
    states: Rows[State]  # G
    memos: Rows[MemoRow]  # K
    accounts: Rows[Account]  # K
    risks: Rows[RiskRow]  # K
    slots: Rows[Slot]  # K·S
    held: Rows[SlotOrderRow]  # K·S
    decisions: Rows[DecisionRow]  # K
    hedges: Rows[HedgeRow]  # K
    books: Rows[BookRow]  # one for each feed
    feeds: Rows[FeedRow]
    cursor: Cells  # next row of the exchange, then of each feed
    clock: Rows[ClockRow]  # 1
    standings: Rows[StandingRow]  # K
    spent: Cells  # K × SPENT_CELLS, ns
    mids: Rows[MidRow]
    samples: Rows[SampleRow]
