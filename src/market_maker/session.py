"""What one session trades with: desks, books, limits and the account, put together once.

The strategy runs the tasks; this is the state that they share, and whatever concerns all markets together.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any, Final, TypeVar

from market_maker.account_stream import AccountStream
from market_maker.circuit_breaker import RateBackoff
from market_maker.clock import Clock, Entropy
from market_maker.config import Config
from market_maker.config_sections import SessionSettings
from market_maker.domain import NS_PER_S, Action, Decision, Reason, Regime, Side, SlotId
from market_maker.exposure import NO_LIMIT, PUSD_PER_USD, Portfolio
from market_maker.gateway import FillReport, Gateway, OutcomeUnknown, VenueError
from market_maker.instrument import Instrument
from market_maker.ledger import Ledger, OpeningPosition
from market_maker.market_desk import MarketDesk, warm_up
from market_maker.metrics import MarketFigures, Metrics, Percentiles
from market_maker.order_manager import OrderManager, RecoverPolicy
from market_maker.order_records import OrderSettings
from market_maker.order_table import TrackedOrder
from market_maker.orderbook_manager import BookSettings
from market_maker.risk_manager import RiskManager, RiskSettings
from market_maker.risk_view import MarketRiskBuilder, account_view, pusd_down
from market_maker.summary import Quotes, UptimeTracker
from market_maker.trade_journal import TradeJournal

_CANDLES: Final = 20
_NS_PER_US: Final = 1_000
_EXACT_DIGITS: Final = 60
_REMEMBERED_ORDERS: Final = 5_000
Limits = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a session needs from outside: exchange, settings, time, randomness, journal, metrics."""

    gateway: Gateway
    config: Config
    clock: Clock
    entropy: Entropy
    journal: TradeJournal
    metrics: Metrics = field(default_factory=Metrics)


class Session:
    """State of one run over all its markets.

    Attributes
    ----------
    start_equity : Decimal
        The account's equity at the beginning, USD.
    limits : dict
        (long, short) position limits in force by market, lots.
    reducing : bool
        Only reducing orders are wanted any more.
    quoted_until_ns : int
        When quoting ended; 0 while it goes on.
    """

    def __init__(
        self,
        surroundings: Surroundings,
        desks: Mapping[str, MarketDesk],
        ledger: Ledger,
        leverage: Mapping[str, Decimal],
    ) -> None:
        config, clock = surroundings.config, surroundings.clock
        self.gateway = surroundings.gateway
        self.config = config
        self.clock = clock
        self.journal = surroundings.journal
        self.metrics = surroundings.metrics
        self.desks = desks
        self.ledger = ledger
        self.risk = RiskManager(config.of(RiskSettings))
        self.uptime = {name: UptimeTracker(clock.now_ns()) for name in desks}
        self.decision_us = {name: Percentiles() for name in desks}
        self.started_ns = clock.now_ns()
        self.start_equity = ledger.equity()
        self.limits: dict[str, Limits] = dict.fromkeys(desks, (0, 0))
        self.events = dict.fromkeys(desks, 0)
        self.requests: dict[str, Counter[Action]] = {name: Counter() for name in desks}
        self.rejected = dict.fromkeys(desks, 0)
        self._builders = {
            name: MarketRiskBuilder(desk.instrument, config.of(RiskSettings, name), leverage.get(name))
            for name, desk in desks.items()
        }
        self.reducing = False
        self.quoted_until_ns = 0
        self._pace = RateBackoff()
        self._refusals: dict[SlotId, Reason] = {}
        self._limits_of: OrderedDict[str, Limits] = OrderedDict()
        self._patience_s = config.of(OrderSettings).order_request_timeout_s
        self._funding_due = True
        self._funding_since_ns = self.started_ns
        self._decided_ns = self.started_ns

    def portfolio(self, orders: OrderManager, account: AccountStream) -> Portfolio:
        """Positions, worst-case orders and money as they are now."""
        markets = {}
        for name, desk in self.desks.items():
            position = account.position(name)
            markets[name] = self._builders[name].build(
                desk.mark,
                self.ledger.position_lots(name),
                orders.exposure(name),
                position.liquidation_price if position else None,
            )
        if account.balance is None:
            return Portfolio(markets, None)
        view = account_view(account.balance)
        # The exchange tells the balance every few seconds; what the marks did since then is in our books.
        equity_pusd = min(view.equity_pusd, pusd_down(self.ledger.equity()))
        return Portfolio(markets, view._replace(equity_pusd=equity_pusd))

    def refresh_limits(self, orders: OrderManager, account: AccountStream) -> None:
        """Write positions and the limits in force into the desks; a halted account may only reduce."""
        portfolio = self.portfolio(orders, account)
        halted = Reason.STOPPING if self.reducing else self.risk.halt_reason
        for name, desk in self.desks.items():
            limits = (0, 0) if halted else self.risk.limits_in_force(name, portfolio)
            self.limits[name] = limits
            desk.limit_reason = halted or Reason.POSITION_LIMIT
            desk.set_account(self.ledger.position_lots(name), limits)

    def decide(self, desk: MarketDesk, slot: SlotId) -> Decision:
        """Ask a desk about a slot, and take the time."""
        begun_ns = self.clock.perf_ns()
        decision = desk.decide(slot, self.clock.now_ns())
        spent_us = (self.clock.perf_ns() - begun_ns) / _NS_PER_US
        self.decision_us[desk.name].add(spent_us)
        self.metrics.decision(desk.name, spent_us)
        return decision

    def note_approved(self, slot: SlotId, decision: Decision) -> None:
        """Count a request."""
        self.journal.decision(slot, decision)
        self._refusals.pop(slot, None)
        self.requests[slot.market][decision.action] += 1
        self.metrics.order(slot.market, decision.action.name.lower())

    def note_sent(self, decision: Decision, order: TrackedOrder | None) -> None:
        """Journal what goes out for a decision, and remember the limits that its fills are judged by."""
        if order is None:
            return
        if decision.action == Action.CANCEL:
            self.journal.cancel_sent(order.order.market, order.external_id)
        elif order.external_id not in self._limits_of:
            self.journal.order_sent(order.order)
            self._limits_of[order.external_id] = self.limits[order.order.market]
            if len(self._limits_of) > _REMEMBERED_ORDERS:
                self._limits_of.popitem(last=False)

    def note_quotes(self, desk: MarketDesk, orders: OrderManager) -> None:
        """Account for the time that the sides of a market are quoted, or why they are not."""
        if self.quoted_until_ns:
            return
        quotes = Quotes(
            desk.is_quoted(Side.BUY, orders),
            desk.is_quoted(Side.SELL, orders),
            desk.side_reason(Side.BUY, orders),
            desk.side_reason(Side.SELL, orders),
            desk.measured_regime == Regime.EXTREME,
        )
        self.uptime[desk.name].update(self.clock.now_ns(), quotes)

    def end_quoting(self) -> None:
        """Note that quoting ends now; what becomes of the quotes from here on is no uptime."""
        self.quoted_until_ns = self.quoted_until_ns or self.clock.now_ns()

    def on_mid(self, desk: MarketDesk, now_ns: int) -> None:
        """Book the mid of a market's new book."""
        self.events[desk.name] += 1
        self.ledger.on_mid(desk.name, desk.mid2_ticks, now_ns)

    def book_fill(self, desk: MarketDesk, report: FillReport) -> None:
        """Book one of our fills, once."""
        # Before any book there is no mid: the fill then counts as made at the mid.
        mid2_ticks = desk.mid2_ticks or 2 * report.fill.price_ticks
        now = self.limits[desk.name]
        then = self._limits_of.get(report.fill.external_id, now)
        limits = (max(now[0], then[0]), max(now[1], then[1]))
        if self.ledger.book_fill(report, mid2_ticks, limits):
            self.journal.fill(report, mid2_ticks)
            fill = report.fill
            value = desk.instrument.value(fill.price_ticks, fill.size_lots)
            self.metrics.fill(desk.name, fill.side, value)

    def note_refused(self, desk: MarketDesk, slot: SlotId, reason: Reason) -> None:
        """Note that the risk manager let a decision not pass; one that lasts is written once."""
        desk.reasons[slot] = reason
        self.metrics.refused(desk.name, reason)
        if self._refusals.get(slot) != reason:
            self._refusals[slot] = reason
            self.journal.refused(slot, reason)

    def note_rejected(self, market: str, reason: str) -> None:
        """Note that the exchange rejected an order."""
        self.rejected[market] += 1
        self.journal.note("rejected", {"market": market, "reason": reason})
        self.metrics.reject(market, reason)

    def show_metrics(self, desk: MarketDesk, orders: OrderManager) -> None:
        """Set the gauges of a market to what is now."""
        direction, strength = desk.trend()
        figures = MarketFigures(
            regime=desk.measured_regime,
            trend=int(direction) * strength,
            position_usd=self.ledger.inventory_usd(desk.name),
            quotes_live=len(orders.working((desk.name,))),
            pnl_usd=self.ledger.attribution(desk.name).by_name(),
        )
        self.metrics.show(desk.name, figures)

    def show_account_metrics(self) -> None:
        """Set the gauges of the account to what is now."""
        self.metrics.show_account(self.ledger.equity(), journal_failed=self.journal.failed is not None)

    def watch_equity(self) -> bool:
        """Tell the risk manager the equity; whether its halt (day loss, drawdown) came or went."""
        before = self.risk.halt_reason
        reason = self.risk.on_equity(pusd_down(self.ledger.equity()), self.clock.now_ns())
        if reason and reason != before:
            self.journal.halt("", reason, f"equity {self.ledger.equity()} USD")
        elif reason != before:
            self.note_resumed("", before)
        return reason != before

    def halt_all(self, reason: Reason, detail: str) -> None:
        """Pull the quotes of all markets for a reason."""
        for desk in self.desks.values():
            self.halt(desk, reason, detail)

    def halt(self, desk: MarketDesk, reason: Reason, detail: str) -> None:
        """Pull the quotes of one market for a reason."""
        if desk.halts.put(reason, in_force=True):
            self.journal.halt(desk.name, reason, detail)

    def resume_all(self, reason: Reason) -> None:
        """Lift a reason in all markets."""
        for desk in self.desks.values():
            self.resume(desk, reason)

    def resume(self, desk: MarketDesk, reason: Reason) -> None:
        """Lift a reason in one market."""
        if desk.halts.put(reason, in_force=False):
            self.note_resumed(desk.name, reason)

    def note_resumed(self, market: str, reason: Reason) -> None:
        """Journal that a reason not to quote has passed; an empty market stands for all."""
        self.journal.note("resume", {"market": market, "reason": reason.name})

    def must_wait(self, decision: Decision, refused: int) -> bool:
        """Whether a request must wait because there were too many; a cancel does not for long.

        `refused` counts the requests that the exchange refused for their number so far.
        """
        if decision.action == Action.CANCEL:
            return not self.may_ask(refused)
        return self._pace.is_pausing(refused, self.clock.now_ns())

    def may_ask(self, refused: int) -> bool:
        """Whether a look-up or a cancel may go out now; once a second it may also amid refusals."""
        return self._pace.take_turn(refused, self.clock.now_ns())

    def watch_rate(self, refused: int) -> None:
        """Pull the quotes where pauses for the number of requests grow long, until they are over."""
        self._pace.is_pausing(refused, self.clock.now_ns())
        if self._pace.must_pull:
            self.halt_all(Reason.RATE_LIMITED, f"{refused} requests refused")
        else:
            self.resume_all(Reason.RATE_LIMITED)

    def limit_usd(self, market: str) -> Decimal:
        """Position limit of a market by the settings and the exchange, at its mark, USD."""
        desk, rules = self.desks[market], self._builders[market].rules
        limit = Decimal(rules.max_position_pusd) / PUSD_PER_USD
        if desk.mark is None or rules.max_position_lots == NO_LIMIT:
            return limit
        return min(limit, desk.instrument.size(rules.max_position_lots) * desk.mark)

    def is_flat(self) -> bool:
        """Whether no market has a position."""
        return not any(self.ledger.position_lots(name) for name in self.desks)

    def is_healthy(self) -> bool:
        """Whether the loop of at least one market decides and may quote: only then is the switch fed.

        A market that is halted does not, though its orders' ends are still waited for; and one that only
        waits, for longer than any request takes, has orders of which nobody knows whether they rest.
        """
        now_ns = self.clock.now_ns()
        deciding = [d for d in self.desks.values() if d.is_deciding(now_ns) and not d.halts.gravest]
        if any(reason != Reason.REQUEST_PENDING for desk in deciding for reason in desk.reasons.values()):
            self._decided_ns = now_ns
        return bool(deciding) and now_ns - self._decided_ns <= self._patience_s * NS_PER_S

    async def answer(self, request: Coroutine[Any, Any, T]) -> T:
        """Wait for the reply to a request, but not for ever.

        Raises
        ------
        OutcomeUnknown
            If none came in time.
        """
        try:
            async with asyncio.timeout(self._patience_s):
                return await request
        except TimeoutError as error:
            msg = f"expected a reply in {self._patience_s:g} s, had none"
            raise OutcomeUnknown(msg) from error

    def expect_funding(self) -> None:
        """A funding rate was published: there may be a payment to fetch."""
        self._funding_due = True

    async def fetch_funding(self) -> None:
        """Book the funding payments since the last look, if there may be any."""
        if not self._funding_due:
            return
        self._funding_due = False
        asked_ns = self.clock.now_ns()
        try:
            payments = await self.answer(self.gateway.funding_payments(self._funding_since_ns))
        except VenueError:
            self._funding_due = True
            raise
        for payment in payments:
            if payment.market in self.desks and self.ledger.book_funding(payment):
                self.journal.funding(payment)
        # The exchange stamps a payment up to a second late: look back that far, but not before the start.
        self._funding_since_ns = max(self.started_ns, asked_ns - 10 * NS_PER_S)


async def open_session(surroundings: Surroundings) -> Session:
    """Ask the exchange for markets, fees, past prices, positions and balance, and set everything up.

    Raises
    ------
    VenueError
        If a market does not exist, or the exchange does not answer.
    """
    gateway, config = surroundings.gateway, surroundings.config
    warm_up()
    instruments = await gateway.instruments(config.of(SessionSettings).markets)
    desks = {name: await _open_desk(surroundings, instrument) for name, instrument in instruments.items()}
    # Before positions are read: an order of an earlier run that fills after that would be in no book of ours.
    leftovers = OrderManager(gateway, surroundings.clock, surroundings.entropy, config.of(OrderSettings))
    await leftovers.recover(RecoverPolicy.CANCEL, instruments)
    leverage = await gateway.leverage(tuple(instruments))
    session = Session(surroundings, desks, await _open_ledger(gateway, instruments), leverage)
    session.watch_equity()
    session.journal.session_start(instruments, config.as_dict())
    if gateway.simulated:
        session.journal.note("paper", {"fill_model": gateway.simulated})
    return session


async def _open_desk(surroundings: Surroundings, instrument: Instrument) -> MarketDesk:
    gateway, config, name = surroundings.gateway, surroundings.config, instrument.name
    settings = config.of(SessionSettings)
    desk = MarketDesk(
        instrument,
        await gateway.fees(name),
        config.strategy_params(name),
        config.of(BookSettings, name),
        config.of(RiskSettings, name).mark_price_band,
        settings.assumed_latency_s,
    )
    desk.book.shows_own = not gateway.simulated
    if surroundings.journal.tape is not None:
        desk.record(surroundings.journal.tape)
    if settings.warm_from_candles:
        desk.seed(await gateway.candles(name, _CANDLES))
    return desk


async def _open_ledger(gateway: Gateway, instruments: Mapping[str, Instrument]) -> Ledger:
    """Books that start from the account's money and its positions, at the marks of the position reports.

    The equity of a balance is of another instant, and of other marks; what was paid and earned is not.
    """
    positions = [report for report in await gateway.positions() if report.market in instruments]
    equity = (await gateway.balance()).balance
    opening = {}
    with localcontext() as context:
        context.prec = _EXACT_DIGITS
        for report in positions:
            instrument = instruments[report.market]
            equity += instrument.size(report.size_lots) * (report.mark_price - report.open_price)
            # No mid is known yet.
            mid2_ticks = 2 * instrument.ticks_down(report.mark_price)
            opening[report.market] = OpeningPosition(report.size_lots, mid2_ticks, report.mark_price)
    return Ledger(instruments, equity, opening)
