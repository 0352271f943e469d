"""What to do with one slot now: the only composition of the decision modules.

`observe_*` advance every signal once per event; `decide` reads them and says of one slot whether to keep,
place, replace or cancel, and why. Live trading, simulation and backtest host these same functions: no clock,
no memory but the rows passed in.

Hard halts come first and remove everything. Soft gates (regime, guards, trend, flow, reference) only say that
a side may take no new risk: what is left of it is a reducing order of at most the position, maybe further
out. Then price, size, the limit in force, the post-only clamp, and last whether a resting order is worth a
move. A move may come before the least interval only if it takes an opening order out of a price that no
longer pays its costs; a size that the limit no longer allows is shrunk at once. Nothing is decided while a
request is pending: the slot is settled first.

Where the grid quotes, price and size are those of the slot's line, and of the guards only those hold that a
resting ladder needs; all else is the same.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from market_maker import (
    funding,
    order_flow,
    post_only_safety,
    realised_volatility,
    reference_price,
    resting_order,
    spread_signal,
    toxicity_guard,
    trend_signal,
    volatility_regime,
)
from market_maker.domain import BPS, NS_PER_S, Action, Book, Decision, Reason, Regime, Side
from market_maker.grid import Strategy
from market_maker.kernel import Row, kernel, new_row, write_row
from market_maker.reference_price import PriceSource
from market_maker.side_gates import gate, line_gate, spread_bps
from market_maker.strategy_rows import (
    Account,
    BookRow,
    DecisionRow,
    ExtremeAction,
    Params,
    RepriceSettings,
    Slot,
    State,
    read_decision,
)
from market_maker.wanted_quote import gather, want_line, want_quote

_BUY: Final = int(Side.BUY)
_ELEVATED: Final = int(Regime.ELEVATED)
_EXTREME: Final = int(Regime.EXTREME)
_KEEP: Final = int(Action.KEEP)
_PLACE: Final = int(Action.PLACE)
_REPLACE: Final = int(Action.REPLACE)
_CANCEL: Final = int(Action.CANCEL)
_NONE: Final = int(Reason.NONE)
_NEW_QUOTE: Final = int(Reason.NEW_QUOTE)
_SIZE_CHANGED: Final = int(Reason.SIZE_CHANGED)
_WITHIN_TOLERANCE: Final = int(Reason.WITHIN_TOLERANCE)
_REQUEST_PENDING: Final = int(Reason.REQUEST_PENDING)
_NO_BOOK: Final = int(Reason.NO_BOOK)
_STALE_BOOK: Final = int(Reason.STALE_BOOK)
_CROSSED_BOOK: Final = int(Reason.CROSSED_BOOK)
_MARK_MISSING: Final = int(Reason.MARK_MISSING)
_EXTREME_REGIME: Final = int(Reason.EXTREME_REGIME)
_STRONG_TREND: Final = int(Reason.STRONG_TREND)
_BACKOFF: Final = int(Reason.POST_ONLY_BACKOFF)
_POSITION_LIMIT: Final = int(Reason.POSITION_LIMIT)
_BELOW_MIN_SIZE: Final = int(Reason.BELOW_MIN_SIZE)
_PRICE_BAND: Final = int(Reason.PRICE_BAND)
_NOT_FINITE: Final = int(Reason.NOT_FINITE)
_TOXIC_FLOW: Final = int(Reason.TOXIC_FLOW)
_GRID_IDLE: Final = int(Reason.GRID_IDLE)
_PULL_ALL: Final = int(ExtremeAction.PULL_ALL)
_INDEX: Final = int(PriceSource.INDEX)
_GRID: Final = int(Strategy.GRID)


@kernel
def _has_two_sides(book: BookRow) -> bool:
    return min(book.bid_ticks, book.ask_ticks) > 0 and min(book.bid_lots, book.ask_lots) > 0


@kernel
def _refresh_view(p: Params, s: State) -> None:
    """Put the signals in force. Until volatility counts, the market is taken to be ELEVATED."""
    view = s.market_view
    s.sigma_bps = realised_volatility.sigma_bps(s.volatility)
    view.sigma_fast_bps = realised_volatility.sigma_fast_bps(s.volatility)
    view.regime = volatility_regime.current_regime(s.regime)
    s.warm = realised_volatility.is_warm(s.volatility) or not p.regime.vol_regime_enabled
    if not s.warm:
        s.sigma_bps = max(s.sigma_bps, p.regime.vol_regime_elevated_bps)
        view.regime = max(view.regime, _ELEVATED)
    # The guards look for what is out of the ordinary, and a lively minute is ordinary too.
    view.sigma_bps = max(s.sigma_bps, realised_volatility.sigma_long_bps(s.volatility))
    view.trend_direction = trend_signal.direction(p.trend, s.trend)
    view.trend_strong = trend_signal.is_strong(p.trend, s.trend)


@kernel
def observe_book(P: Row, S: Row, B: Row, now_ns: int) -> None:  # noqa: N803  (rows are capital)
    """Advance every signal by one book. One that is crossed or lacks a side is kept, and moves no signal."""
    p, s, book = P[0], S[0], B[0]
    s.book = book
    s.book_ns = now_ns
    if not _has_two_sides(book) or book.bid_ticks >= book.ask_ticks:
        return
    log_mid = math.log(0.5 * float(book.bid_ticks + book.ask_ticks))
    volatility_regime.update(p.volatility, p.regime, s.volatility, s.regime, log_mid, now_ns)
    sigma_long = realised_volatility.sigma_long_bps(s.volatility)
    trend_signal.update(p.trend, s.trend, log_mid, sigma_long, now_ns)
    toxicity_guard.update(
        p.toxicity, p.imbalance, s.toxicity, log_mid, book.bid_depth_lots, book.ask_depth_lots, now_ns
    )
    spread_signal.update(p.spread_ema, s.spread_ema, spread_bps(book), now_ns)
    order_flow.on_book(p.flow, s.flow, book.bid_ticks, book.bid_lots, book.ask_ticks, book.ask_lots, now_ns)
    reference_price.on_mid(p.reference, s.reference, log_mid, now_ns)
    s.market_view.tick_bps = 2.0 * BPS / float(book.bid_ticks + book.ask_ticks)
    _refresh_view(p, s)


@kernel
def observe_trade(
    P: Row,  # noqa: N803
    S: Row,  # noqa: N803
    side: int,
    price_ticks: int,
    size_lots: int,
    now_ns: int,
) -> None:
    """Take a public trade in. `side` is the taker's, 0 where it is unknown."""
    p, s = P[0], S[0]
    order_flow.on_trade(p.flow, s.flow, side, price_ticks, size_lots, now_ns)
    s.trade_side = side
    s.trade_ticks = price_ticks
    s.trade_lots = size_lots
    s.trade_ns = now_ns


@kernel
def observe_price(P: Row, S: Row, source: int, price_ticks: float, now_ns: int) -> None:  # noqa: N803
    """Take a price of elsewhere in, in ticks: mark, index or an outside venue's mid (`PriceSource`)."""
    p, s = P[0], S[0]
    reference_price.on_price(p.reference, s.reference, source, price_ticks, now_ns)
    if source == _INDEX and _has_two_sides(s.book):
        funding.on_index(p.funding, s.funding, price_ticks, s.book.bid_ticks, s.book.ask_ticks, now_ns)


@kernel
def observe_funding(P: Row, S: Row, rate: float, now_ns: int) -> None:  # noqa: N803
    """Take the exchange's hourly funding rate in, a fraction; positive: longs pay."""
    p, s = P[0], S[0]
    funding.on_rate(p.funding, s.funding, rate, now_ns)


@kernel
def seed(P: Row, S: Row, closes: NDArray[np.float64], n: int) -> None:  # noqa: N803
    """Warm the volatility up from `n` one-minute closes, oldest first."""
    p, s = P[0], S[0]
    volatility_regime.seed(p.volatility, p.regime, s.volatility, s.regime, closes, n)
    _refresh_view(p, s)


@kernel
def _halt_reason(settings: RepriceSettings, s: State, a: Account, now_ns: int) -> int:
    if a.halt_reason != _NONE:
        return a.halt_reason
    if not _has_two_sides(s.book):
        return _NO_BOOK
    if s.book.bid_ticks >= s.book.ask_ticks:
        return _CROSSED_BOOK
    if float(now_ns - a.last_frame_ns) > settings.stale_after_s * NS_PER_S:
        return _STALE_BOOK
    finite = math.isfinite(a.mark_ticks + a.order_latency_s + a.effective_inventory_lots)
    if not (finite and math.isfinite(s.sigma_bps + s.market_view.sigma_bps + s.spread_ema.spread_bps)):
        return _NOT_FINITE
    return _NONE


@kernel
def _want(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow, now_ns: int) -> int:
    """Compute the quote that is wanted now; return why there is none, else NONE."""
    halt = _halt_reason(p.reprice, s, a, now_ns)
    if halt != _NONE:
        return halt
    has_lines = p.grid.strategy == _GRID
    d.gate = line_gate(p, s, a, slot, now_ns) if has_lines else gate(p, s, a, d, slot.side, now_ns)
    if d.gate == _EXTREME_REGIME and p.reprice.extreme_action == _PULL_ALL:
        return _EXTREME_REGIME
    gather(p, s, a, d.conditions, now_ns)
    return want_line(p, s, a, slot, d, now_ns) if has_lines else want_quote(p, s, a, slot, d)


@kernel
def _compare(p: Params, s: State, a: Account, slot: Slot, d: DecisionRow, now_ns: int) -> None:
    """Choose the action where a quote is wanted."""
    replaces = _REPLACE if slot.resting else _PLACE
    flag_is_wrong = slot.reduce_only and slot.side * a.position_lots >= 0
    if slot.resting and (slot.remaining_lots > d.room_lots or flag_is_wrong):
        d.reason = _SIZE_CHANGED
    elif post_only_safety.backing_off(slot.post_only, now_ns):
        d.reason = _BACKOFF
    elif slot.resting:
        d.reason = resting_order.change_reason(p, s, a, slot, d, now_ns)
    else:
        d.reason = _NEW_QUOTE
    if d.reason < _WITHIN_TOLERANCE:
        d.action = replaces
        d.price_ticks = d.wanted_ticks
        d.size_lots = d.wanted_lots
        d.reduce_only = d.only_reduces


@kernel
def decide(
    P: Row,  # noqa: N803
    S: Row,  # noqa: N803
    A: Row,  # noqa: N803
    L: Row,  # noqa: N803
    D: Row,  # noqa: N803
    now_ns: int,
) -> None:
    """Decide about one slot and write it to the decision row: guards, price, size, limit, clamp, move.

    `L` is the slot's row. The same rows and instant give the same decision, however often asked.
    """
    p, s, a, slot, d = P[0], S[0], A[0], L[0], D[0]
    d.action = _KEEP
    d.price_ticks = 0
    d.size_lots = 0
    d.reduce_only = False
    d.gate = _NONE
    d.wanted_ticks = 0
    d.wanted_lots = 0
    d.room_lots = 0
    d.only_reduces = False
    if slot.request_pending:
        d.reason = _REQUEST_PENDING
        return
    d.reason = _want(p, s, a, slot, d, now_ns)
    if d.reason == _NONE:
        _compare(p, s, a, slot, d, now_ns)
    elif slot.resting:
        d.action = _CANCEL


class RepricePipeline:
    """Observe and decide for one market, for the bench: it keeps the rows and calls the kernels."""

    def __init__(self, params: Params) -> None:
        self.params = new_row(params)
        self.state = new_row(State())
        self.account = new_row(Account())
        self.slot = new_row(Slot())
        self.decision = new_row(DecisionRow())
        self._book = new_row(BookRow())

    def observe(self, book: Book, now_ns: int) -> None:
        """Advance every signal by one book."""
        self._book[0] = tuple(book)
        observe_book(self.params, self.state, self._book, now_ns)

    def evaluate(self, account: Account, slot: Slot, now_ns: int) -> Decision:
        """Decide about a slot. The ladder goes on where it is, whatever the account says of it."""
        ladder = self.account["ladder"].copy()
        write_row(self.account, account)
        self.account["ladder"] = ladder
        write_row(self.slot, slot)
        decide(self.params, self.state, self.account, self.slot, self.decision, now_ns)
        return read_decision(self.decision)

    def needs_reprice(self, account: Account, slot: Slot, now_ns: int) -> bool:
        """Whether the slot's price is further from the wanted one than the tolerance."""
        self.evaluate(account, slot, now_ns)
        return resting_order.needs_reprice(self.params[0], self.slot[0], self.decision[0])

    def age_exceeded(self, slot: Slot, now_ns: int) -> bool:
        """Whether the slot's order is due to be renewed."""
        write_row(self.slot, slot)
        return resting_order.age_exceeded(
            self.params[0], self.slot[0], int(self.state[0].market_view.regime), now_ns
        )
