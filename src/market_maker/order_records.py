"""Our orders as far as we know: what the exchange says of them in, slots and worst-case exposure out.

The synchronous half of the order manager. Records are keyed by external id. One that ended stays as a
tombstone, so that a late reply or report finds it and makes no ghost; the oldest are dropped beyond a number,
but never one whose reply or trades are still to come.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from market_maker.clock import Clock
from market_maker.domain import Fill, NewOrder, OrderState, Side, SlotId
from market_maker.exposure import Exposure
from market_maker.gateway import FillReport, OrderReport
from market_maker.order_table import REPORTED, OrderEventKind, TrackedOrder

POST_ONLY_FAILED = "POST_ONLY_FAILED"
RATE_LIMITED = "RATE_LIMITED"
NOT_FOUND = "NOT_FOUND"
NOT_SENT = "NOT_SENT"
REPLACED_ORDER_GONE = "REPLACED_ORDER_GONE"
# The order that was to be replaced filled or ended first: a race, and no fault of the order.
_LOST_RACES = {REPLACED_ORDER_GONE, "PREV_ORDER_NOT_FOUND", "PREV_ORDER_TRIGGERED", "PREV_ORDER_CONFLICT"}
_NO_REJECTION = frozenset({POST_ONLY_FAILED, RATE_LIMITED, NOT_FOUND, NOT_SENT} | _LOST_RACES)
_TRADES_PER_ORDER = 8


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """How orders are named, how long they live, and how long anything of theirs is waited for."""

    order_id_prefix: str = "mm"  # letters, digits and _; tells this bot's orders from all others
    order_expiry_s: float = 300.0  # the exchange ends an order by itself after this
    order_request_timeout_s: float = 5.0  # a request without reply by then has an unknown outcome
    order_pending_timeout_s: float = 5.0  # a pending state that lasts longer is looked up
    order_lookup_interval_s: float = 1.0  # between two look-ups of one order
    order_not_found_settle_s: float = 5.0  # not found for this long: it never existed, or is gone
    order_snapshot_interval_s: float = 30.0  # between two comparisons with all open orders
    cancel_all_timeout_s: float = 15.0  # what is open then is reported as remaining
    cancel_all_retry_s: float = 0.25  # between two rounds of cancelling and verifying
    order_tombstones_kept: int = 2000  # ended orders that are remembered

    def owns(self, external_id: str) -> bool:
        """Whether an id is one that this bot gives, in this run or an earlier one."""
        return external_id.startswith(f"{self.order_id_prefix}-")


@dataclass(slots=True)
class OrderCounters:
    """Counts since the start: requests sent by kind, refusals, unknown outcomes, unanswered look-ups."""

    placed: int = 0
    replaced: int = 0
    cancelled: int = 0
    rejected: int = 0
    post_only_rejected: int = 0
    rate_limited: int = 0
    unknown: int = 0
    unanswered: int = 0


def _ignore_fill(_slot: SlotId | None, _report: FillReport) -> None:
    return


def _ignore_freed(_slot: SlotId, _state: OrderState, _reason: str) -> None:
    return


def _ignore_post_only(_slot: SlotId) -> None:
    return


def _ignore_rejection(_slot: SlotId, _reason: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class OrderObservers:
    """Who is told of what. A fill comes before the freeing of its slot; its slot is None if unknown.

    A level is freed when its last order ended. A rejection is an order, or a replacement, that the exchange
    would not have; a post-only rejection, a rate limit, an order that never arrived and a replacement that
    came too late are none.
    """

    on_fill: Callable[[SlotId | None, FillReport], None] = _ignore_fill
    on_level_freed: Callable[[SlotId, OrderState, str], None] = _ignore_freed
    on_post_only_rejected: Callable[[SlotId], None] = _ignore_post_only
    on_rejected: Callable[[SlotId, str], None] = _ignore_rejection


class OrderRecords:
    """Every order of ours, its slot, and the exposure that they make together."""

    def __init__(self, clock: Clock, settings: OrderSettings, observers: OrderObservers) -> None:
        self.counters = OrderCounters()
        self._clock = clock
        self._settings = settings
        self._observers = observers
        self._orders: dict[str, TrackedOrder] = {}
        self._at_risk: dict[str, dict[str, TrackedOrder]] = {}
        self._exposures: dict[str, Exposure] = {}
        self._slots: dict[SlotId, list[TrackedOrder]] = {}
        self._tombstones: deque[str] = deque()
        self._external_ids: dict[int, str] = {}
        self._trades: OrderedDict[tuple[str, int, int], None] = OrderedDict()

    def owns(self, external_id: str) -> bool:
        """Whether an id is one that this bot gives, in this run or an earlier one."""
        return self._settings.owns(external_id)

    def slot_order(self, slot: SlotId) -> TrackedOrder | None:
        """The newest order of a slot that has not ended."""
        orders = self._slots.get(slot)
        return orders[-1] if orders else None

    def working(self, markets: Collection[str] | None = None) -> list[TrackedOrder]:
        """Orders that may rest or come to rest, strays among them; in all markets if none are named."""
        names = self._at_risk if markets is None else markets
        return [order for name in names for order in self._at_risk.get(name, {}).values() if order.is_working]

    def exposure(self, market: str) -> Exposure:
        """Lots by side that may still change the position: whatever has not surely ended or been booked."""
        exposure = self._exposures.get(market)
        if exposure is None:
            exposure = _total(self._at_risk.get(market, {}).values())
            self._exposures[market] = exposure
        return exposure

    def on_order_report(self, report: OrderReport) -> None:
        """Take in a report from the stream, a look-up or a snapshot; one that is not ours changes nothing."""
        tracked = self._orders.get(report.external_id)
        event = REPORTED.get(report.state)
        is_ghost = tracked is None or (tracked.presumed and not tracked.is_working)
        if is_ghost and event is OrderEventKind.REPORTED_OPEN and self.owns(report.external_id):
            tracked = self._track_stray(report, tracked)
        if tracked is None:
            return
        if report.order_id:
            tracked.order_id = report.order_id
            self._external_ids[report.order_id] = report.external_id
        tracked.missing_since_ns = 0
        tracked.reported_lots = max(tracked.reported_lots, report.filled_lots)
        if tracked.awaited_lots and not tracked.awaiting_since_ns:
            tracked.awaiting_since_ns = self._clock.now_ns()
        self._count_risk(tracked)
        if event is not None:
            self._hear(tracked, event, report.reason)

    def on_fill(self, report: FillReport) -> Fill | None:
        """Take in a match; its fill, or None if it was taken in before. Fills of unknown orders count too."""
        fill = report.fill
        key = (fill.market, fill.trade_id, int(fill.side))
        if key in self._trades:
            return None
        self._trades[key] = None
        if len(self._trades) > self._settings.order_tombstones_kept * _TRADES_PER_ORDER:
            self._trades.popitem(last=False)
        # The exchange's list of past trades has its own order id alone.
        external_id = fill.external_id or self._external_ids.get(fill.order_id, "")
        if external_id != fill.external_id:
            fill = fill._replace(external_id=external_id)
            report = replace(report, fill=fill)
        tracked = self._orders.get(external_id)
        if tracked is None:
            self._observers.on_fill(None, report)
            return fill
        tracked.traded_lots += fill.size_lots
        if not tracked.awaited_lots:
            tracked.awaiting_since_ns = 0
        self._count_risk(tracked)
        self._observers.on_fill(tracked.slot, report)
        if tracked.traded_lots >= tracked.size_lots:
            self._hear(tracked, OrderEventKind.FILLED_UP)
        return fill

    def _track(self, tracked: TrackedOrder) -> None:
        self._orders[tracked.external_id] = tracked
        self._count_risk(tracked)
        if tracked.slot is not None:
            self._slots.setdefault(tracked.slot, []).append(tracked)

    def know(self, trades: Iterable[tuple[str, int, int]]) -> None:
        """Take in that matches (market, trade id, side) are in the positions already."""
        self._trades.update(dict.fromkeys(trades))

    def _has_slot(self, external_id: str) -> bool:
        tracked = self._orders.get(external_id)
        return tracked is not None and tracked.slot is not None

    def _track_report(
        self, report: OrderReport, slot: SlotId | None, sent: NewOrder | None = None
    ) -> TrackedOrder:
        """Begin to follow an order of ours that the exchange has and we did not; it is open."""
        now_ns = self._clock.now_ns()
        tracked = TrackedOrder(
            order=sent
            or NewOrder(
                market=report.market,
                external_id=report.external_id,
                side=report.side,
                price_ticks=report.price_ticks,
                size_lots=report.size_lots,
                post_only=report.post_only,
                reduce_only=report.reduce_only,
                immediate_or_cancel=False,
                expire_ns=now_ns + round(self._settings.order_expiry_s * 1e9),
                nonce=0,
            ),
            slot=slot,
            placed_ns=min(report.venue_ns, now_ns),
            since_ns=now_ns,
            state=OrderState.LIVE,
            order_id=report.order_id,
            # What it filled before we met it is in the position that we started from.
            reported_lots=report.filled_lots,
            traded_lots=report.filled_lots,
        )
        self._track(tracked)
        return tracked

    def _track_stray(self, report: OrderReport, presumed: TrackedOrder | None) -> TrackedOrder:
        tracked = self._track_report(report, None)
        if presumed is not None:
            tracked.traded_lots = presumed.traded_lots
        return tracked

    def _count_risk(self, tracked: TrackedOrder) -> None:
        orders = self._at_risk.setdefault(tracked.order.market, {})
        self._exposures.pop(tracked.order.market, None)
        if tracked.is_working or tracked.awaited_lots:
            orders[tracked.external_id] = tracked
        else:
            orders.pop(tracked.external_id, None)

    def _hear(self, tracked: TrackedOrder, event: OrderEventKind, reason: str = "") -> None:
        was_working = tracked.is_working
        tracked.hear(event, self._clock.now_ns())
        if was_working and not tracked.is_working:
            self._end(tracked, reason)

    def _end(self, tracked: TrackedOrder, reason: str) -> None:
        self._count_risk(tracked)
        self._tombstones.append(tracked.external_id)
        self._forget_oldest()
        post_only_failed = reason == POST_ONLY_FAILED
        rejected = tracked.state == OrderState.REJECTED and reason not in _NO_REJECTION
        self.counters.post_only_rejected += post_only_failed
        self.counters.rejected += rejected
        slot = tracked.slot
        if slot is None:
            return
        orders = self._slots[slot]
        orders.remove(tracked)
        if post_only_failed:
            self._observers.on_post_only_rejected(slot)
        if rejected:
            self._observers.on_rejected(slot, reason)
        if not orders:
            self._observers.on_level_freed(slot, tracked.state, reason)

    def _forget_oldest(self) -> None:
        excess = len(self._tombstones) - self._settings.order_tombstones_kept
        for _ in range(max(0, excess)):
            external_id = self._tombstones.popleft()
            tracked = self._orders.get(external_id)
            if tracked is not None and not tracked.can_be_forgotten():
                self._tombstones.append(external_id)
            elif tracked is not None:
                self._external_ids.pop(tracked.order_id, None)
                del self._orders[external_id]


def _total(orders: Iterable[TrackedOrder]) -> Exposure:
    buy = sell = reduce_buy = reduce_sell = count = 0
    for tracked in orders:
        open_lots = tracked.remaining_lots
        # A fill that is reported but not booked did happen: no rule of the exchange takes it back.
        sure_lots = tracked.awaited_lots
        count += tracked.is_working
        reduce_lots = open_lots if tracked.order.reduce_only else 0
        if tracked.order.side == Side.BUY:
            buy += open_lots - reduce_lots + sure_lots
            reduce_buy += reduce_lots
        else:
            sell += open_lots - reduce_lots + sure_lots
            reduce_sell += reduce_lots
    return Exposure(buy, sell, reduce_buy, reduce_sell, count)
