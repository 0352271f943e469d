"""What the takers want: which way the flow presses, and whether it is out of the ordinary.

Three measures make the direction. Order-flow imbalance of the best quotes (Cont, Kukanov and Stoikov 2014;
models.md, section 5) with weak inequalities, over depth, in its own root mean square; the imbalance of the
trade tape, signed over total volume; and whose arrivals are the more excited (`trade_arrivals`). The first
explains 65 % of price moves, the tape 32 %, both together 67 % (there, table 4): so it has two thirds of the
weight, and the tape one, half by volume and half by arrivals. How one-sided volume is on its own clock, as a
rank in the market's past (`flow_toxicity`), says when to fear it.

A direction shifts both quotes with it, so that we neither sell early into buying nor buy into selling. Rare
toxicity widens; together with a strong direction it pulls the side that is being run over: asks where buyers
press. It never pulls both sides, and without books and trades it fades: no flow is no danger.
"""

import math
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from market_maker import flow_toxicity, trade_arrivals
from market_maker.domain import NS_PER_S, Side
from market_maker.flow_toxicity import MAX_BUCKETS, FlowToxicityState
from market_maker.kernel import kernel, new_row
from market_maker.trade_arrivals import ArrivalState

DIRECTION_STEP: Final = 1.0 / 20.0
RANK_STEP: Final = 1.0 / 100.0
# A value in force gives way once the new one is nearer to another step by this much, not at each flicker.
_STICKY: Final = 0.75
_MAX_EXACT: Final = 2**53  # ticks or lots that a float still holds exactly


def _require(settings: "OrderFlowSettings", low: float, high: float, *names: str) -> None:
    for name in names:
        was = vars(settings)[name]
        if not low <= was <= high:
            msg = f"{name}: expected {low:g} to {high:g}, was {was!r}"
            raise ValueError(msg)


@dataclass(frozen=True)
class OrderFlowSettings:
    """How flow is measured and what is made of it. ValueError out of bounds."""

    flow_enabled: bool = True
    flow_tau_s: float = 5.0  # s, time constant of tape imbalance and order-flow imbalance
    flow_arrival_s: float = 5.0  # s, time constant with which an arrival excites further ones
    flow_bucket_s: float = 5.0  # s, a bucket of toxicity holds what usually trades in this time
    flow_window_buckets: int = 20  # buckets that toxicity is measured over, at most 64
    flow_history_s: float = (
        7200.0  # s, time constant of what is usual, and of the past that toxicity ranks in
    )
    flow_gap_reset_s: float = 60.0  # s without book and trade after which what is recent starts anew
    flow_quote_weight: float = 0.67  # weight of the best quotes' flow in the direction; the tape has the rest
    flow_toxic_rank: float = 0.9  # rank of toxicity above which flow is toxic
    flow_pull_direction: float = 0.5  # direction from which toxic flow runs a side over
    flow_extra_sigmas: float = 0.5  # widening at the highest rank, in σ over the life of a quote
    flow_shift_sigmas: float = 0.25  # shift of both quotes at a direction of 1, in σ over the life of a quote

    def __post_init__(self) -> None:
        _require(self, 0.1, 3600.0, "flow_tau_s", "flow_arrival_s", "flow_bucket_s", "flow_gap_reset_s")
        _require(self, 1, MAX_BUCKETS, "flow_window_buckets")
        _require(self, 2.0 * self.flow_bucket_s * self.flow_window_buckets, 1e6, "flow_history_s")
        _require(self, 0.0, 1.0, "flow_quote_weight", "flow_toxic_rank", "flow_pull_direction")
        _require(self, 0.0, 100.0, "flow_extra_sigmas", "flow_shift_sigmas")


@dataclass
class OrderFlowState:
    """Flow of one market. The first three are in force; what they are made of may be newer."""

    direction: float = 0.0  # −1 to 1 in steps of 1/20, positive where buyers press
    toxic_rank: float = 0.0  # 0 to 1 in steps of 1/100; 0 until known
    volume_direction: float = 0.0  # −1 to 1, the imbalance by the clock of volume as the last book found it
    started: bool = False
    last_ns: int = 0  # of the last event
    span_s: float = 0.0  # s watched, slowly forgotten
    traded_lots: float = 0.0  # in that span, forgotten alike
    signed_lots: float = 0.0  # bought less sold, decays with flow_tau_s
    total_lots: float = 0.0  # traded, decays alike
    volume_imbalance: float = 0.0  # −1 to 1, by the clock of volume
    quote_lots: float = 0.0  # order-flow imbalance of the best quotes, decays with flow_tau_s
    quote_squares: float = 0.0  # ticks²·s, of the move that it stands for; slowly forgotten
    depth_lots: float = 0.0  # average size at a best quote
    bid_ticks: int = 0  # of the last book; 0: none
    bid_lots: int = 0
    ask_ticks: int = 0
    ask_lots: int = 0
    toxicity: FlowToxicityState = field(default_factory=FlowToxicityState)
    arrivals: ArrivalState = field(default_factory=ArrivalState)


@kernel
def _window(settings: OrderFlowSettings) -> int:
    return min(max(settings.flow_window_buckets, 1), MAX_BUCKETS)


@kernel
def usual_lots(state: OrderFlowState, seconds: float) -> float:
    """Volume that usually trades in so many seconds, lots; 0 until anything is known."""
    return state.traded_lots / state.span_s * seconds if state.span_s > 0.0 else 0.0


@kernel
def _is_warm(settings: OrderFlowSettings, state: OrderFlowState) -> bool:
    """Whether what is usual has been watched for as long as one window of buckets lasts."""
    return state.span_s >= settings.flow_bucket_s * float(_window(settings))


@kernel
def _restart(state: OrderFlowState) -> None:
    """Forget what is recent. What is usual here survives a gap, and the gap does not count as silence."""
    state.direction = 0.0
    state.toxic_rank = 0.0
    state.signed_lots = 0.0
    state.total_lots = 0.0
    state.volume_imbalance = 0.0
    state.quote_lots = 0.0
    state.bid_ticks = 0
    flow_toxicity.restart(state.toxicity)
    trade_arrivals.restart(state.arrivals)
    state.started = True


@kernel
def quote_move_ticks(state: OrderFlowState) -> float:
    """Move that the recent order-flow imbalance stands for, ticks: OFI/(2·depth); 0 without depth."""
    return state.quote_lots / (2.0 * state.depth_lots) if state.depth_lots > 0.0 else 0.0


@kernel
def _let_pass(settings: OrderFlowSettings, state: OrderFlowState, elapsed_s: float) -> None:
    recent = math.exp(-elapsed_s / settings.flow_tau_s)
    usual = math.exp(-elapsed_s / settings.flow_history_s)
    move = quote_move_ticks(state)
    # The square of what decays, over the time that passed, so that the update rate does not matter.
    held_s = 0.5 * settings.flow_tau_s * (1.0 - recent * recent)
    state.quote_squares = state.quote_squares * usual + move * move * held_s
    state.span_s = state.span_s * usual + settings.flow_history_s * (1.0 - usual)
    state.traded_lots *= usual
    if state.bid_ticks > 0:
        # The sizes that were shown count for as long as they were.
        shown = 0.5 * (float(state.bid_lots) + float(state.ask_lots))
        state.depth_lots = shown + (state.depth_lots - shown) * recent
    state.quote_lots *= recent
    state.signed_lots *= recent
    state.total_lots *= recent
    flow_toxicity.forget(state.toxicity, usual)
    trade_arrivals.advance(state.arrivals, elapsed_s, settings.flow_arrival_s, settings.flow_history_s)


@kernel
def _advance(settings: OrderFlowSettings, state: OrderFlowState, now_ns: int) -> bool:
    """Let time pass until an event; False for one that is out of order, which is to be ignored."""
    elapsed_s = float(now_ns - state.last_ns) / NS_PER_S
    if not state.started or math.fabs(elapsed_s) > settings.flow_gap_reset_s:
        _restart(state)
    elif elapsed_s < 0.0:
        return False
    else:
        _let_pass(settings, state, elapsed_s)
    state.last_ns = now_ns
    return True


@kernel
def on_trade(
    settings: OrderFlowSettings,
    state: OrderFlowState,
    side: int,
    price_ticks: int,
    size_lots: int,
    now_ns: int,
) -> None:
    """Take a public trade in; `side` is the taker's, 0 where unknown.

    Impossible values and instants before the last event are ignored. Nothing comes into force before the
    next book, but that a gap ends what was.
    """
    possible = 0 < price_ticks < _MAX_EXACT and 0 < size_lots < _MAX_EXACT and -1 <= side <= 1
    if not settings.flow_enabled or not possible or not _advance(settings, state, now_ns):
        return
    lots = float(size_lots)
    window = _window(settings)
    share = flow_toxicity.classify(state.toxicity, side, price_ticks)
    signed = 2.0 * share - 1.0
    if _is_warm(settings, state):
        bucket_lots = usual_lots(state, settings.flow_bucket_s)
        if flow_toxicity.add(state.toxicity, window, bucket_lots, lots, share):
            flow_toxicity.remember(state.toxicity, window, settings.flow_history_s, now_ns)
        alpha = -math.expm1(-lots / max(bucket_lots, 1.0))
        state.volume_imbalance += alpha * (signed - state.volume_imbalance)
    state.signed_lots += signed * lots
    state.total_lots += lots
    state.traded_lots += lots
    trade_arrivals.arrive(state.arrivals, side, share, settings.flow_arrival_s, now_ns)


@kernel
def event_lots(state: OrderFlowState, bid_ticks: int, bid_lots: int, ask_ticks: int, ask_lots: int) -> int:
    """Order-flow imbalance of one change of the best quotes, lots: what demand gained on supply.

    Sizes count where the price is kept, too: the inequalities are weak. 0 without a book before.
    """
    if state.bid_ticks <= 0:
        return 0
    lots = 0
    if bid_ticks >= state.bid_ticks:
        lots += bid_lots
    if bid_ticks <= state.bid_ticks:
        lots -= state.bid_lots
    if ask_ticks <= state.ask_ticks:
        lots -= ask_lots
    if ask_ticks >= state.ask_ticks:
        lots += state.ask_lots
    return lots


@kernel
def tape_imbalance(settings: OrderFlowSettings, state: OrderFlowState) -> float:
    """Bought less sold over all that was traded, −1 to 1, by the clock of time.

    The divisor is at least what usually trades meanwhile, so that one trade in a silence says little.
    """
    total = max(state.total_lots, usual_lots(state, settings.flow_tau_s))
    return min(max(state.signed_lots / total, -1.0), 1.0) if total > 0.0 else 0.0


@kernel
def quote_imbalance(state: OrderFlowState) -> float:
    """Order-flow imbalance of the best quotes in its own root mean square, −1 to 1: tanh(z/2)."""
    if state.span_s <= 0.0 or state.quote_squares <= 0.0:
        return 0.0
    return math.tanh(0.5 * quote_move_ticks(state) / math.sqrt(state.quote_squares / state.span_s))


@kernel
def pressure(settings: OrderFlowSettings, state: OrderFlowState) -> float:
    """Direction of the flow before it is put in steps, −1 to 1; 0 until warm."""
    if not _is_warm(settings, state):
        return 0.0
    tape = 0.5 * (tape_imbalance(settings, state) + trade_arrivals.balance(state.arrivals))
    weight = settings.flow_quote_weight
    return weight * quote_imbalance(state) + (1.0 - weight) * tape


@kernel
def _fading_rank(settings: OrderFlowSettings, state: OrderFlowState) -> float:
    """Rank of the toxicity; where no bucket closed for longer than usual it fades, by the window's length."""
    quiet_s = float(state.last_ns - state.toxicity.closed_ns) / NS_PER_S - settings.flow_bucket_s
    window_s = settings.flow_bucket_s * float(_window(settings))
    return state.toxicity.rank * math.exp(-max(quiet_s, 0.0) / window_s)


@kernel
def in_steps(was: float, value: float, step: float) -> float:
    """Nearest step to a value, but what was in force where the value has hardly left it."""
    if math.fabs(value - was) < _STICKY * step:
        return was
    return math.floor(value / step + 0.5) * step


@kernel
def on_book(  # noqa: PLR0913 (best prices and sizes are four plain values)
    settings: OrderFlowSettings,
    state: OrderFlowState,
    bid_ticks: int,
    bid_lots: int,
    ask_ticks: int,
    ask_lots: int,
    now_ns: int,
) -> None:
    """Take the best quotes in, and put direction and rank in force.

    A book that lacks a side, is crossed or comes before the last event is ignored.
    """
    possible = 0 < bid_ticks <= ask_ticks < _MAX_EXACT and min(bid_lots, ask_lots) > 0
    possible = possible and max(bid_lots, ask_lots) < _MAX_EXACT
    if not settings.flow_enabled or not possible or not _advance(settings, state, now_ns):
        return
    if state.bid_ticks <= 0:
        state.depth_lots = 0.5 * (float(bid_lots) + float(ask_lots))
    state.quote_lots += float(event_lots(state, bid_ticks, bid_lots, ask_ticks, ask_lots))
    state.bid_ticks = bid_ticks
    state.bid_lots = bid_lots
    state.ask_ticks = ask_ticks
    state.ask_lots = ask_lots
    state.direction = in_steps(state.direction, pressure(settings, state), DIRECTION_STEP)
    state.toxic_rank = in_steps(state.toxic_rank, _fading_rank(settings, state), RANK_STEP)
    state.volume_direction = state.volume_imbalance


@kernel
def _positive(move_bps: float) -> float:
    return move_bps if math.isfinite(move_bps) and move_bps > 0.0 else 0.0


@kernel
def extra_bps(settings: OrderFlowSettings, state: OrderFlowState, move_bps: float) -> float:
    """Widening of both sides, bps ≥ 0: none up to the toxic rank, then growing in proportion to the rank.

    `move_bps` is σ over the expected life of a quote.
    """
    above = state.toxic_rank - settings.flow_toxic_rank
    if not settings.flow_enabled or above <= 0.0:
        return 0.0
    return settings.flow_extra_sigmas * _positive(move_bps) * above / (1.0 - settings.flow_toxic_rank)


@kernel
def shift_bps(settings: OrderFlowSettings, state: OrderFlowState, move_bps: float) -> float:
    """Shift of both quotes, bps: up where buyers press. `move_bps` is σ over the expected life of a quote."""
    if not settings.flow_enabled:
        return 0.0
    return settings.flow_shift_sigmas * _positive(move_bps) * state.direction


@kernel
def pulls(settings: OrderFlowSettings, state: OrderFlowState, side: int) -> bool:
    """Whether our side (+1 bids, −1 asks) is being run over: toxic flow with a strong direction against it.

    The volume that makes it toxic must not lean the other way. Never true of both sides.
    """
    against = -float(side) * state.direction
    if not settings.flow_enabled or against <= 0.0 or against < settings.flow_pull_direction:
        return False
    return state.toxic_rank > settings.flow_toxic_rank and state.direction * state.volume_direction >= 0.0


class FlowReading(NamedTuple):
    """What the instrument shows: what is in force, and the measures as they are now."""

    direction: float
    toxic_rank: float
    toxicity: float
    tape_imbalance: float
    volume_imbalance: float
    quote_imbalance: float
    buy_intensity: float
    sell_intensity: float


class OrderFlow:
    """Order flow of one market on the bench: feed it trades and books, read direction and rank.

    Examples
    --------
    >>> flow = OrderFlow()
    >>> for second in range(600):
    ...     side = Side.BUY if second > 590 else Side.SELL if second % 2 else Side.BUY
    ...     flow.on_trade(side, 1000, 5, second * 1_000_000_000)
    ...     flow.on_book(999, 10, 1001, 10, second * 1_000_000_000)
    >>> flow.get().direction > 0.0, flow.pulls(Side.BUY)
    (True, False)
    """

    def __init__(self, settings: OrderFlowSettings | None = None) -> None:
        self._settings = new_row(settings or OrderFlowSettings())[0]
        self.state = new_row(OrderFlowState())[0]

    def on_trade(self, taker_side: int, price_ticks: int, size_lots: int, now_ns: int) -> None:
        """Take a public trade in: see the function of the same name."""
        on_trade(self._settings, self.state, int(taker_side), price_ticks, size_lots, now_ns)

    def on_book(self, bid_ticks: int, bid_lots: int, ask_ticks: int, ask_lots: int, now_ns: int) -> None:
        """Take the best quotes in: see the function of the same name."""
        on_book(self._settings, self.state, bid_ticks, bid_lots, ask_ticks, ask_lots, now_ns)

    def pulls(self, side: Side) -> bool:
        """Whether a side of ours is being run over."""
        return bool(pulls(self._settings, self.state, int(side)))

    def get(self) -> FlowReading:
        """Return the latest reading."""
        state = self.state
        return FlowReading(
            float(state.direction),
            float(state.toxic_rank),
            float(flow_toxicity.toxicity(state.toxicity)),
            float(tape_imbalance(self._settings, state)),
            float(state.volume_imbalance),
            float(quote_imbalance(state)),
            float(trade_arrivals.relative_intensity(state.arrivals, 1)),
            float(trade_arrivals.relative_intensity(state.arrivals, -1)),
        )
