"""What one session trades with: desks, books, limits and the account, put together once.

The strategy runs the tasks; this is the state that they share, and whatever concerns all markets together.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

from market_maker.account_stream import AccountStream
from market_maker.circuit_breaker import RateBackoff
from market_maker.config_sections import HedgerSettings
from market_maker.correlation import CorrelationSettings
from market_maker.cross_market import CrossMarket, modelled_market
from market_maker.domain import NS_PER_S, Action, Decision, Reason, Side, SlotId
from market_maker.exposure import NO_LIMIT, PUSD_PER_USD, NetBetaSettings, Portfolio
from market_maker.funding_books import FundingBooks
from market_maker.gateway import FillReport, FundingPayment, OutcomeUnknown
from market_maker.grid import GridSettings, Strategy
from market_maker.kill_ladder import KillLadderSettings, Standing, Step
from market_maker.ladder_keeper import LadderKeeper
from market_maker.ledger import Ledger
from market_maker.market_desk import MarketDesk
from market_maker.metrics import Percentiles
from market_maker.order_manager import OrderManager
from market_maker.order_records import OrderSettings
from market_maker.order_table import TrackedOrder
from market_maker.risk_manager import RiskManager, RiskSettings
from market_maker.risk_view import MarketRiskBuilder, account_view, pusd_down
from market_maker.summary import UptimeTracker
from market_maker.surroundings import Surroundings

_NS_PER_US: Final = 1_000
Limits = tuple[int, int]
T = TypeVar("T")


class Session:
    """State of one run over all its markets.

    Attributes
    ----------
    start_equity : Decimal
        The account's equity at the beginning, USD.
    limits : dict
        (long, short) position limits in force by market, lots.
    cross : CrossMarket
        What the markets are to one another.
    ladders : dict
        Keeper of the ladder of each market where the grid quotes.
    held_sides : set
        (market, side) where no quote is to come anew, because a hedge is about to take there.
    largest_net_beta_usd : float
        Largest that all positions together counted as in the reference market, either side, USD.
    reducing : bool
        Only reducing orders are wanted any more.
    funding : FundingBooks
        Payments of funding, as they are fetched and booked.
    standing : Standing
        Where the kill ladder stands.
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
        self.reference = surroundings.reference
        self.past = surroundings.past
        self.share = surroundings.share
        self.resume_asked = surroundings.resume_asked
        self.desks = desks
        self.ledger = ledger
        self.ladders = {
            name: LadderKeeper(
                desk.instrument,
                config.of(GridSettings, name),
                desk.ladder,
                self.journal,
                surroundings.ladders.venue,
            )
            for name, desk in desks.items()
            if config.of(GridSettings, name).strategy == Strategy.GRID
        }
        self.risk = RiskManager(config.of(RiskSettings), config.of(NetBetaSettings))
        reference = config.of(HedgerSettings).hedge_market or next(iter(desks))
        models = {name: modelled_market(config.strategy_params(name)) for name in desks}
        self.cross = CrossMarket(tuple(desks), config.of(CorrelationSettings), reference, models)
        self.funding = FundingBooks(self._fetch_funding, ledger, self.journal, clock)
        self.standing = Standing()
        self.uptime = {name: UptimeTracker(clock.now_ns()) for name in desks}
        self.decision_us = {name: Percentiles() for name in desks}
        self.started_ns = clock.now_ns()
        self.start_equity = ledger.equity()
        self.limits: dict[str, Limits] = dict.fromkeys(desks, (0, 0))
        self.held_sides: set[tuple[str, Side]] = set()
        self.largest_net_beta_usd = 0.0
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
        self._orders_kept = config.of(OrderSettings).order_tombstones_kept
        self._patience_s = config.of(OrderSettings).order_request_timeout_s
        self._decided_ns = self.started_ns
        self._widening = config.of(KillLadderSettings).kill_widening

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
                self.cross.betas[name],
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
        halted = self._why_only_reducing()
        widening = self._widening if self.standing.step >= Step.WIDEN else 1.0
        values_usd = self.values_usd()
        net_beta_usd = abs(self.cross.net_beta_usd(values_usd))
        self.largest_net_beta_usd = max(self.largest_net_beta_usd, net_beta_usd)
        for name, desk in self.desks.items():
            limits = (0, 0) if halted else self.risk.limits_in_force(name, portfolio)
            self.limits[name] = limits
            desk.limit_reason = halted or Reason.POSITION_LIMIT
            others_lots = self.cross.others_lots(name, values_usd, self.lot_usd(desk))
            desk.set_account(self.ledger.position_lots(name), limits, others_lots, widening)

    def _why_only_reducing(self) -> Reason:
        """Why no order may add risk anywhere; NONE where it may."""
        if self.reducing:
            return Reason.STOPPING
        by_ladder = self.standing.reason if self.standing.step >= Step.REDUCE_ONLY else Reason.NONE
        return self.risk.halt_reason or by_ladder

    @staticmethod
    def lot_usd(desk: MarketDesk) -> float:
        """Value of a lot at the mark, for estimates, USD; 0 without one."""
        return 0.0 if desk.mark is None else float(desk.mark * desk.instrument.step)

    def largest_order_lots(self, market: str, price_ticks: int) -> int:
        """Lots of the largest order at a price, by the settings and the exchange."""
        rules = self._builders[market].rules
        return rules.max_order_pusd // (price_ticks * rules.tick_lot_pusd)

    def values_usd(self) -> dict[str, float]:
        """Signed values of the positions at their marks, for estimates, USD; 0 without a mark."""
        return {
            name: self.ledger.position_lots(name) * self.lot_usd(desk) for name, desk in self.desks.items()
        }

    def net_beta_usd(self) -> float:
        """Position in the reference market that all positions together count as, USD."""
        return self.cross.net_beta_usd(self.values_usd())

    def decide(self, desk: MarketDesk, slot: SlotId) -> Decision:
        """Ask a desk about a slot, and take the time."""
        begun_ns = self.clock.perf_ns()
        decision = desk.decide(slot, self.clock.now_ns())
        spent_us = (self.clock.perf_ns() - begun_ns) / _NS_PER_US
        self.decision_us[desk.name].add(spent_us)
        if desk.name in self.ladders:
            self.ladders[desk.name].watch()
        self.metrics.decision(desk.name, spent_us)
        is_new = decision.action in (Action.PLACE, Action.REPLACE)
        if is_new and (slot.market, slot.side) in self.held_sides:
            desk.reasons[slot] = Reason.HEDGING
            return decision._replace(action=Action.KEEP, reason=Reason.HEDGING)
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
            if len(self._limits_of) > self._orders_kept:
                self._limits_of.popitem(last=False)

    def note_quotes(self, desk: MarketDesk, orders: OrderManager) -> None:
        """Account for the time that the sides of a market are quoted, or why they are not."""
        if self.quoted_until_ns:
            return
        self.uptime[desk.name].update(self.clock.now_ns(), desk.standing(orders))

    def end_quoting(self) -> None:
        """Note that quoting ends now; what becomes of the quotes from here on is no uptime."""
        self.quoted_until_ns = self.quoted_until_ns or self.clock.now_ns()

    def on_mid(self, desk: MarketDesk, now_ns: int) -> None:
        """Book the mid of a market's new book."""
        self.events[desk.name] += 1
        self.ledger.on_mid(desk.name, desk.mid2_ticks, now_ns)
        self.cross.on_mid(desk.name, float(desk.mid2_ticks), now_ns)

    def book_fill(self, desk: MarketDesk, report: FillReport) -> None:
        """Book one of our fills, once."""
        # Before any book there is no mid: the fill then counts as made at the mid.
        mid2_ticks = desk.mid2_ticks or 2 * report.fill.price_ticks
        now = self.limits[desk.name]
        then = self._limits_of.get(report.fill.external_id, now)
        limits = (max(now[0], then[0]), max(now[1], then[1]))
        before_lots = self.ledger.position_lots(desk.name)
        if self.ledger.book_fill(report, mid2_ticks, limits):
            self.journal.fill(report, mid2_ticks)
            fill = report.fill
            desk.on_fill(before_lots, fill.side * fill.size_lots, self.clock.now_ns())
            if desk.name in self.ladders:
                self.ladders[desk.name].on_fill(report)
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

    def note_reference_ended(self, error: BaseException | None) -> None:
        """Journal that no more prices of an outside venue will come, and why."""
        self.journal.note("reference_ended", {"why": str(error or "it has no more prices")})

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

    async def _fetch_funding(self, since_ns: int) -> list[FundingPayment]:
        return await self.answer(self.gateway.funding_payments(since_ns))
