"""What a runner keeps beside the fill engine: the rows that decisions read, and what a strategy knows.

Strategy k has the slots k·S … k·S + S − 1, nearest level first, the buy of a level before its sell.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from market_maker.fills.rows import Cells, Rows, World
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, Slot, State

LARGEST: Final = 2**62


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
    order_life_ns: int = 0
    decisions: int = 0
    placed: int = 0
    replaced: int = 0
    cancelled: int = 0
    rejected: int = 0
    refused: int = 0  # by these limits


@dataclass
class SlotOrderRow:
    """What a slot knows of its order, and of the one that is to take its place; id 0: none."""

    order_id: int = 0
    order: int = 0
    price_ticks: int = 0
    size_lots: int = 0
    remaining_lots: int = 0
    reduce_only: bool = False
    placed_ns: int = 0
    new_id: int = 0
    new_order: int = 0
    new_price_ticks: int = 0
    new_size_lots: int = 0
    new_remaining_lots: int = 0
    new_reduce_only: bool = False
    new_placed_ns: int = 0
    cancel_id: int = 0  # the order whose cancel is on its way


@dataclass
class FeedRow:
    """A delayed book: what of it was heard."""

    extra_ns: int = 0  # on top of the recorded delay
    now_ns: int = 0  # when its last frame was heard
    mark_parts: int = 0
    depth_levels: int = 5
    depth_span: float = 0.001  # fraction of the price; 0: levels alone
    has_book: bool = False  # its last frame changed the book


class Bench(NamedTuple):
    """All arrays of a runner."""

    world: World
    params: Rows[Params]  # K
    states: Rows[State]  # K
    accounts: Rows[Account]  # K
    risks: Rows[RiskRow]  # K
    slots: Rows[Slot]  # K·S
    held: Rows[SlotOrderRow]  # K·S
    decisions: Rows[DecisionRow]  # K
    books: Rows[BookRow]  # one for each feed
    feeds: Rows[FeedRow]
    cursor: Cells  # next row of the exchange, then of each feed, then the instant of the timer
