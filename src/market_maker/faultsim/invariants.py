"""What must hold whatever fails, held against the exchange's own books after each of its steps.

What the bot believes is asked for two things only: whether it is halted, and why a side is not quoted.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import Final, NamedTuple

from market_maker.config_sections import DeadMansSwitchSettings
from market_maker.domain import NS_PER_S, Reason, Side
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.orders import Order, StatusReason
from market_maker.emulator.requests import CancelRequest, OrderRequest, Request
from market_maker.faultsim.fault_plan import NETWORK_FAULTS, FaultPlan
from market_maker.faultsim.life import Life, Machine
from market_maker.kill_ladder import Step
from market_maker.market_desk import MarketDesk
from market_maker.order_records import OrderSettings
from market_maker.risk_manager import RiskSettings

# A quote may be missing because the market forbids it, or because there is no room for more.
_FORBIDDEN_BY_THE_MARKET: Final = frozenset(
    {
        Reason.EXTREME_REGIME,
        Reason.TOXIC_VOLATILITY,
        Reason.TOXIC_DRIFT,
        Reason.JUMP,
        Reason.IMBALANCE,
        Reason.STRONG_TREND,
        Reason.POST_ONLY_BACKOFF,
        Reason.TOXIC_FLOW,
        Reason.TOXIC_FILLS,
        Reason.REFERENCE_FAR,
        Reason.POSITION_LIMIT,
        Reason.BELOW_MIN_SIZE,
        Reason.SPREAD_TOO_NARROW,
    }
)
_LATCHED: Final = (Reason.RISK_DRAWDOWN, Reason.RISK_DAY_LOSS)
# What only a failure of the exchange or of the way to it may bring about.
_BY_FAILURE: Final = frozenset({Reason.CIRCUIT_BREAKER, Reason.RATE_LIMITED})
_TIMES_OF_TWO: Final = 3
# How far, and for how long, a loss may be past its limit while orders that add risk rest.
_LOSS_SLACK: Final = Decimal("1.25")
_LOSS_S: Final = 20.0
# How long it may take to close a position once the kill ladder wants it closed and nothing fails.
_FLATTENED_S: Final = 45.0
# The best prices are compared now and then; where they stood still since the look before none is on its way.
_BOOK_EVERY_S: Final = 5.0
_BOOK_LOOKS: Final = 3
_BOOK_LEVELS: Final = 3
# How long an order may rest while halted once requests get through: two requests, a look-up, their pauses.
_HALTED_S: Final = 15.0
# How much later than its countdown the switch may have been fed last: a request on its way.
_SLACK_S: Final = 15.0
_QUOTED_AGAIN_S: Final = 45.0
# A mark that a decision was made by may be this old: no frame came, or the request took long.
_MARKS_NS: Final = 180 * NS_PER_S
_MINUTE_NS: Final = 60 * NS_PER_S


class Violation(NamedTuple):
    """An invariant that did not hold: at which step of the exchange, and s since it opened."""

    seed: int
    step: int
    at_s: float
    invariant: str
    detail: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What is watched: the exchange, the bot's account and machine, its plan of faults."""

    exchange: Exchange
    machine: Machine
    plan: FaultPlan
    market: str
    start_ns: int
    requests_per_minute: int


class Watch:
    """Looks on, and says what was violated; each invariant once until it holds again.

    Attributes
    ----------
    steps : int
        Steps of the exchange so far.
    life : Life or None
        The process that trades at present.
    second : Life or None
        The last process that was started by mistake.
    second_until_ns : int
        Until when its orders may rest.
    is_down : bool
        Nobody is there to start a process for the time being.
    """

    def __init__(self, scene: Scene, report: Callable[[str, str], None]) -> None:
        self.steps = 0
        self.life: Life | None = None
        self.second: Life | None = None
        self.second_until_ns = 0
        self.is_down = False
        self._scene = scene
        self._report = report
        self._account = scene.exchange.account(scene.machine.account_id)
        config = scene.machine.config
        self._owns = config.of(OrderSettings).owns
        self._limit_usd = Decimal(repr(config.of(RiskSettings).max_position_notional_usd))
        self._drawdown_usd = Decimal(repr(config.of(RiskSettings).max_drawdown_usd))
        self._peak_usd, self._over_since_s, self._held_since_s = Decimal(0), -1.0, -1.0
        self._book_looked_s, self._book_differs = 0.0, 0
        self._book_seen: dict[Side, list[int]] = {}
        switch = config.of(DeadMansSwitchSettings)
        self._switch_s = switch.dead_man_countdown_s + switch.dead_man_interval_s
        self._countdown_s = switch.dead_man_countdown_s
        self._step_usd = scene.exchange.venue.markets[scene.market].instrument.step
        self._network = scene.plan.spans(NETWORK_FAULTS, with_clocks=True)
        self._all = scene.plan.spans()
        self._seen: tuple[int, ...] = ()
        self._worst = {Side.BUY: 0, Side.SELL: 0}
        self._marks: deque[tuple[int, Decimal]] = deque()
        self._requests: deque[int] = deque()
        self.orders_sent = self.requests_sent = 0
        self._foreign: dict[str, Order] = {}
        self._halted_since_s = self._unguarded_since_s = -1.0
        self._served_s = {Side.BUY: 0.0, Side.SELL: 0.0}
        self._broken: set[str] = set()

    def is_quiet(self, now_s: float) -> bool:
        """Whether no fault is on, and all were over long enough for books to be settled."""
        return self._all.over_for_s(now_s) >= _QUOTED_AGAIN_S

    def own_open(self) -> list[Order]:
        """Orders of ours that are open at the exchange."""
        return [order for order in self._account.open.values() if self._owns(order.request.external_id)]

    def add_foreign(self, order: Order) -> None:
        """Know of an order of somebody else on the account; it is to stay."""
        self._foreign[order.request.external_id] = order

    def on_request(self, request: Request | None) -> None:
        """Look at a request as it leaves: the rate, and whose order is cancelled."""
        now_ns = self._scene.machine.driver.clock.now_ns()
        requests = self._requests
        requests.append(now_ns)
        self.requests_sent += 1
        while requests[0] <= now_ns - _MINUTE_NS:
            requests.popleft()
        most = self._scene.requests_per_minute
        detail = f"{len(requests)} requests in a minute of {most}"
        self._hold("rate", holds=len(requests) <= most, detail=detail)
        self.orders_sent += isinstance(request, OrderRequest | CancelRequest)
        if isinstance(request, CancelRequest) and not self._owns(request.external_id):
            self._report("foreign", f"asked for the cancel of {request.external_id!r}")

    def after_step(self, now_ns: int) -> None:
        """Check what one step of the exchange may have changed."""
        self.steps += 1
        self._note_mark(now_ns)
        position = self._account.position_lots(self._scene.market)
        seen = (position, *self._account.open)
        if seen != self._seen:
            self._seen = seen
            self._check_exposure(position, now_ns)
            self._check_foreign(now_ns)

    def _note_mark(self, now_ns: int) -> None:
        mark, marks = self._scene.exchange.mark(self._scene.market), self._marks
        if mark > 0 and (not marks or marks[-1][1] != mark):
            # Only marks that are lower than all after them can be the lowest of a stretch that ends now.
            while marks and marks[-1][1] >= mark:
                marks.pop()
            marks.append((now_ns, mark))
        while len(marks) > 1 and marks[1][0] <= now_ns - _MARKS_NS:
            marks.popleft()

    def _check_exposure(self, position: int, now_ns: int) -> None:
        """Worst case: the position and all orders of ours of a side, at the lowest mark of late.

        Only where it has grown: the price may carry a position past its limit, an order may not. Of two bots
        that somebody started by mistake each keeps to the limit, and hears of the other's orders too late:
        each may turn a position round that is at the limit of the other side.
        """
        times = 1 if now_ns >= self.second_until_ns else _TIMES_OF_TWO
        for side in Side:
            orders = [order for order in self.own_open() if order.side is side]
            adding = sum(order.remaining_lots for order in orders if not order.request.reduce_only)
            worst = side * position + adding
            if worst > max(self._worst[side], 0) and self._marks:
                most = times * int(self._limit_usd / (self._marks[0][1] * self._step_usd))
                detail = f"{worst} lots of at most {most}: position {position}"
                self._hold(f"exposure {side.name}", holds=worst <= most, detail=detail)
            self._worst[side] = worst

    def _check_foreign(self, now_ns: int) -> None:
        for name, order in list(self._foreign.items()):
            if order.is_open:
                continue
            del self._foreign[name]
            by_somebody = order.reason is StatusReason.NONE and order.filled_lots == 0
            fired = self._account.switch_fired_ns == order.updated_ns
            if by_somebody and not fired and order.status.value == "CANCELLED":
                self._report("foreign", f"{name} was cancelled")

    def sample(self, now_s: float) -> None:
        """Look at what takes time: halts, the dead man's switch, quotes that come back."""
        own = self.own_open()
        desk = self._desk()
        self._check_halted(now_s, desk, own)
        self._check_guarded(now_s, desk, own)
        self._check_quoted(now_s, desk, own)
        self._check_calm(now_s, desk)
        self._check_loss(now_s, desk, own)
        self._check_flattened(now_s, desk)
        self._check_book(now_s, desk)

    def _desk(self) -> MarketDesk | None:
        strategy = self.life.strategy if self.life is not None and not self.life.is_over else None
        return None if strategy is None else strategy.session.desks[self._scene.market]

    def _check_halted(self, now_s: float, desk: MarketDesk | None, own: list[Order]) -> None:
        halted = desk is not None and desk.halts.gravest >= Reason.STARTING
        if not (halted and own):
            self._halted_since_s = -1.0
            self._broken.discard("halted")
            return
        if self._halted_since_s < 0:
            self._halted_since_s = now_s
        clear_s = self._network.over_for_s(now_s)
        rested_s = now_s - self._halted_since_s
        allowed = min(clear_s, rested_s) <= _HALTED_S and rested_s <= self._switch_s + _SLACK_S
        reason = desk.halts.gravest.name if desk is not None else ""
        detail = f"{_named(own[0])} rests for {rested_s:.0f} s though halted ({reason})"
        self._hold("halted", holds=allowed, detail=detail)

    def _check_calm(self, now_s: float, desk: MarketDesk | None) -> None:
        """Nothing fails: no market may be halted for failures."""
        reason = Reason.NONE if desk is None else desk.halts.gravest
        holds = reason not in _BY_FAILURE or not self.is_quiet(now_s)
        self._hold("calm", holds=holds, detail=f"halted ({reason.name}) though nothing fails")

    def _check_loss(self, now_s: float, desk: MarketDesk | None, own: list[Order]) -> None:
        """Past the limit of a fall from the peak, by the exchange's equity, nothing that adds risk rests."""
        if desk is None or not self._drawdown_usd:
            return
        equity = self._scene.exchange.equity(self._account.account_id)
        self._peak_usd = max(self._peak_usd, equity)
        fall = self._peak_usd - equity
        adds = any(self._adds(own, side) for side in Side)
        if not adds or fall <= self._drawdown_usd * _LOSS_SLACK:
            self._over_since_s = -1.0
        elif self._over_since_s < 0:
            self._over_since_s = now_s
        holds = self._over_since_s < 0 or now_s - self._over_since_s <= _LOSS_S
        detail = f"equity fell by {fall:.2f} USD of {self._drawdown_usd}, and orders that add risk rest"
        self._hold("drawdown", holds=holds, detail=detail)

    def _adds(self, own: list[Order], side: Side) -> bool:
        """Whether orders of a side could take the position past flat."""
        held = -side * self._account.position_lots(self._scene.market)
        plain = (order for order in own if order.side is side and not order.request.reduce_only)
        return sum(order.remaining_lots for order in plain) > max(held, 0)

    def _check_flattened(self, now_s: float, desk: MarketDesk | None) -> None:
        """The kill ladder says flatten: soon after the last fault no position is left that can be closed."""
        session = self.life.strategy.session if self.life is not None and self.life.strategy else None
        if desk is None or session is None or session.standing.step < Step.FLATTEN:
            self._held_since_s = -1.0
            return
        lots = self._account.position_lots(self._scene.market)
        if abs(lots) < desk.instrument.min_lots:
            self._held_since_s = -1.0
        elif self._held_since_s < 0:
            self._held_since_s = now_s
        held_s = 0.0 if self._held_since_s < 0 else now_s - self._held_since_s
        holds = min(held_s, self._all.over_for_s(now_s)) <= _FLATTENED_S
        self._hold("flat", holds=holds, detail=f"{lots} lots for {held_s:.0f} s though to be flattened")

    def _check_book(self, now_s: float, desk: MarketDesk | None) -> None:
        """Nothing fails: the bot's best prices are those of the exchange's book without our orders.

        Those of somebody else on the account are others' to the bot.
        """
        if now_s - self._book_looked_s < _BOOK_EVERY_S:
            return
        self._book_looked_s = now_s
        if desk is None or not desk.book.trusted or not self.is_quiet(now_s):
            self._book_differs = 0
            return
        book = self._scene.exchange.venue.markets[self._scene.market].book
        own_lots: Counter[tuple[Side, int]] = Counter()
        for order in self.own_open():
            own_lots[order.side, order.price_ticks] += order.remaining_lots
        theirs = {
            side: list(islice((t for t, lots in book.levels(side) if lots > own_lots[side, t]), _BOOK_LEVELS))
            for side in Side
        }
        ours = {side: [ticks for ticks, _ in desk.book.levels(side, _BOOK_LEVELS)] for side in Side}
        if ours == theirs:
            self._book_differs = 0
        elif theirs == self._book_seen:
            self._book_differs += 1
        self._book_seen = theirs
        detail = f"best prices are {theirs}, the bot has {ours}"
        self._hold("book", holds=self._book_differs < _BOOK_LOOKS, detail=detail)

    def _check_guarded(self, now_s: float, desk: MarketDesk | None, own: list[Order]) -> None:
        """No process quotes, and none feeds the switch: nothing may rest for longer than its countdown."""
        second = self.second is not None and self.second.strategy is not None and not self.second.is_over
        if desk is not None or not own or second:
            self._unguarded_since_s = -1.0
            self._broken.discard("orphan")
            return
        if self._unguarded_since_s < 0:
            self._unguarded_since_s = now_s
        rested_s = now_s - self._unguarded_since_s
        detail = f"{_named(own[0])} rests for {rested_s:.0f} s without a process"
        self._hold("orphan", holds=rested_s <= self._countdown_s + _SLACK_S, detail=detail)

    def _check_quoted(self, now_s: float, desk: MarketDesk | None, own: list[Order]) -> None:
        quiet_s = self._all.over_for_s(now_s)
        if quiet_s < _QUOTED_AGAIN_S or self.is_down:
            self._served_s = dict.fromkeys(Side, now_s)
        resting = {order.side for order in own}
        for side in Side:
            if side in resting or (desk is not None and self._may_rest(desk, side)):
                self._served_s[side] = now_s
            missing_s = now_s - self._served_s[side]
            if missing_s <= _QUOTED_AGAIN_S:
                self._broken.discard(f"liveness {side.name}")
                continue
            detail = f"no {side.name} order for {missing_s:.0f} s, {self._why(desk, side)}"
            self._hold(f"liveness {side.name}", holds=False, detail=detail)

    def _may_rest(self, desk: MarketDesk, side: Side) -> bool:
        """Whether a side has a good reason to have no order: the market's, or a loss that latched."""
        strategy = self.life.strategy if self.life is not None else None
        if strategy is not None and strategy.session.risk.halt_reason in _LATCHED:
            return True
        reasons = {desk.reasons[slot] for slot in desk.slots if slot.side is side}
        return bool(reasons & _FORBIDDEN_BY_THE_MARKET)

    def _why(self, desk: MarketDesk | None, side: Side) -> str:
        if desk is None:
            error = self.life.error if self.life is not None else None
            return f"no session ({error})"
        return ", ".join(desk.reasons[slot].name for slot in desk.slots if slot.side is side)

    def _hold(self, invariant: str, *, holds: bool, detail: str) -> None:
        if holds:
            self._broken.discard(invariant)
        elif invariant not in self._broken:
            self._broken.add(invariant)
            self._report(invariant.split()[0], detail)


def _named(order: Order) -> str:
    return f"{order.request.external_id} {order.side.name} {order.remaining_lots} at {order.price_ticks}"
