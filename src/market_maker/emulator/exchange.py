"""The exchange without sockets: requests in, outputs with their due instants out, time given by the caller.

The caller submits, asks `next_due_ns`, and calls `advance` then; everything in between, latency included,
happens in the exchange's own time. The same seed and the same calls give the same outputs to the byte.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

import numpy as np

from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.emulator.accounts import EXACT, Account, FundingPayment
from market_maker.emulator.api import RestApi
from market_maker.emulator.changes import Changes
from market_maker.emulator.fault_injection import FaultInjector
from market_maker.emulator.fault_schedule import FaultSchedule
from market_maker.emulator.faults import Faults, FaultWindow
from market_maker.emulator.flow import BookView, Flow
from market_maker.emulator.funding import period_ns, sample_ns
from market_maker.emulator.liquidation import RiskDesk
from market_maker.emulator.market import Market
from market_maker.emulator.matching import MatchingEngine
from market_maker.emulator.outbox import Outbox
from market_maker.emulator.queries import Queries
from market_maker.emulator.requests import Request
from market_maker.emulator.rules import ExchangeRules, Mode
from market_maker.emulator.streams import Output, Topic
from market_maker.emulator.subscriptions import Subscriptions
from market_maker.emulator.timeline import Timeline
from market_maker.emulator.venue import Venue
from market_maker.emulator.wire import Wire
from market_maker.instrument import Instrument, MarketStatus

_SAMPLES_PER_ESTIMATE = 12
_DEFAULT_LEVERAGE = Decimal(10)


class Exchange:
    """An Extended-like exchange in virtual time.

    Parameters
    ----------
    instruments, flows : Sequence
        Markets, and one flow for each of them.
    rules : ExchangeRules
        How it behaves.
    rng : numpy.random.Generator
        Source of latencies and of the order of answers.
    start_ns : int
        Instant at which it opens.

    Attributes
    ----------
    queries : Queries
        REST look-ups of this instant.
    venue : Venue
        The exchange's own state and books, to be read.

    Raises
    ------
    ValueError
        If a market has not exactly one flow.
    """

    def __init__(
        self,
        instruments: Sequence[Instrument],
        flows: Sequence[Flow],
        rules: ExchangeRules,
        rng: np.random.Generator,
        start_ns: int,
    ) -> None:
        self.venue = Venue(instruments, flows, rules)
        self._rules = rules
        self._now_ns = start_ns
        self._changes = Changes()
        self._timeline = Timeline()
        # Of their own, so that neither who listens nor what fails changes what else happens.
        stream_rng, fault_rng = rng.spawn(2)
        self._injector = FaultInjector(fault_rng)
        self._schedule = FaultSchedule(self.venue, self._timeline, self._injector, start_ns)
        self._outbox = Outbox(rules, stream_rng, self._injector)
        self._engine = MatchingEngine(self.venue, self._changes)
        self._desk = RiskDesk(self.venue, self._engine)
        self._api = RestApi(self.venue, self._engine, self._timeline, self._outbox, rng)
        self._wire = Wire(self.venue)
        self.queries = Queries(self.venue, self._wire)
        self._markets = list(self.venue.markets.values())
        self._streams = Subscriptions(self.venue, self._wire, self._timeline, self._outbox)
        self._samples = 0
        self._plan_timers()

    def _plan_timers(self) -> None:
        start_ns, plan, money = self._now_ns, self._timeline.plan, self._rules.money
        plan(start_ns, self._mark_timer)
        plan(start_ns + sample_ns(money), self._sample_timer)
        self._plan_funding(start_ns)
        if self._rules.streams.balance_interval_s > 0:
            plan(start_ns, self._balance_timer)

    def add_account(
        self,
        deposit: Decimal,
        leverage: Decimal = _DEFAULT_LEVERAGE,
        maker_fee: Decimal | None = None,
        taker_fee: Decimal | None = None,
        client_id: int | None = None,
    ) -> int:
        """Open an account with a deposit, USD; return its id.

        Fee rates default to those of the rules; a negative maker rate is a rebate. Accounts of one client are
        told apart by self-trade protection at account level only.
        """
        money = self._rules.money
        fees = (
            money.maker_fee if maker_fee is None else maker_fee,
            money.taker_fee if taker_fee is None else taker_fee,
        )
        account = self.venue.open_account(deposit, leverage, fees, client_id)
        self._streams.open_account(account)
        return account.account_id

    def account(self, account_id: int) -> Account:
        """Return an account's books, to be read."""
        return self.venue.accounts[account_id]

    def equity(self, account_id: int) -> Decimal:
        """Return an account's equity at the marks, USD, exact."""
        return self.venue.equity(self.venue.accounts[account_id])

    def book(self, market: str) -> BookView:
        """Return a market's book, to be read."""
        return self.venue.markets[market].book

    def mark(self, market: str) -> Decimal:
        """Return a market's mark price, USD; zero until its flow has spoken."""
        return self.venue.markets[market].mark

    def set_mode(self, mode: Mode) -> None:
        """Change what the exchange admits, from now."""
        self.venue.mode = mode

    def set_market_status(self, market: str, status: MarketStatus) -> None:
        """Change a market's status, from now."""
        self.venue.markets[market].status = status

    def shift_funding(self, market: str, shift: float) -> None:
        """Add a share of the price to a market's premium from now on, so that the funding rate follows."""
        self.venue.markets[market].funding.shift = shift

    def set_faults(self, faults: Faults) -> None:
        """Have these faults from now on, beside those that are planned; `Faults()` ends them."""
        self._schedule.set(faults, self._now_ns)

    def plan_faults(self, windows: Sequence[FaultWindow]) -> None:
        """Have faults in windows of time, counted from the exchange's start."""
        self._schedule.plan(windows)

    @property
    def faults(self) -> Faults:
        """Faults that are on at present."""
        return self._schedule.faults

    @property
    def fault_counts(self) -> dict[str, int]:
        """How often each fault happened."""
        return dict(self._injector.counts)

    @property
    def is_silent(self) -> bool:
        """Whether no stream tells anything at present; a server then answers no ping either."""
        return self._injector.is_silent

    @property
    def is_unreachable(self) -> bool:
        """Whether nobody reaches it at present; a server then cuts every connection."""
        return self._injector.is_unreachable

    def turns_away(self) -> bool:
        """Whether somebody who comes now can not reach it; counted as a fault."""
        return self._injector.happens("unreachable")

    def subscribe(self, topic: Topic) -> int:
        """Open a subscription: sequence numbers from 1, how things stand first; return its number.

        Raises
        ------
        ValueError
            If there is no such topic.
        """
        return self._streams.subscribe(topic, self._now_ns)

    def unsubscribe(self, subscription: int) -> None:
        """Close a subscription, if it is open; what is under way is lost."""
        self._streams.unsubscribe(subscription)

    def submit(self, account_id: int, request: Request, now_ns: int) -> int:
        """Send a request; its answer comes as a `Reply` with the ticket that is returned."""
        account = self.venue.accounts[account_id]
        return self._api.submit(account, self._streams.accounts[account_id], request, now_ns)

    def ask(self, pool: int | str, query: Callable[[], bytes], now_ns: int) -> int:
        """Send a look-up, that counts against the rate limit of a pool; answered like a request."""
        return self._api.ask(pool, query, now_ns)

    def next_due_ns(self) -> int | None:
        """Instant at which `advance` has something to do next."""
        planned = (self._timeline.next_due_ns(), self._outbox.next_due_ns(), self._next_flow()[0])
        return min((due_ns for due_ns in planned if due_ns is not None), default=None)

    def advance(self, now_ns: int) -> list[Output]:
        """Carry out everything due until an instant, in order of time; return the outputs due until then."""
        while True:
            planned_ns = self._timeline.next_due_ns()
            flow_ns, market = self._next_flow()
            due_ns = (
                flow_ns if planned_ns is None else min(planned_ns, planned_ns if flow_ns is None else flow_ns)
            )
            if due_ns is None or due_ns > now_ns:
                break
            self._now_ns = max(self._now_ns, due_ns)
            if market is not None and flow_ns == due_ns:
                self._flow_step(market)
            else:
                self._timeline.run_next()
            self._finish_step()
        self._now_ns = max(self._now_ns, now_ns)
        return self._outbox.pop_until(now_ns)

    def _next_flow(self) -> tuple[int | None, Market | None]:
        best_ns: int | None = None
        best: Market | None = None
        for market in self._markets:
            due_ns = market.flow.next_ns()
            if due_ns is not None and (best_ns is None or due_ns < best_ns):
                best_ns, best = due_ns, market
        return best_ns, best

    def _flow_step(self, market: Market) -> None:
        for event in market.flow.pop(market.book):
            self._engine.apply(market, event, self._now_ns)
        if not market.started:
            market.started = True
            self._refresh_mark(market)

    def _finish_step(self) -> None:
        """Enforce margins after fills, then hand the step's changes to the streams."""
        now_ns = self._now_ns
        for account_id in self._changes.traded_accounts():
            self._desk.enforce(self.venue.accounts[account_id], now_ns)
        for name, trades in self._changes.drain_trades().items():
            self._streams.markets[name].trades(trades, now_ns)
        for account_id, changes in self._changes.drain_accounts().items():
            self._streams.accounts[account_id].publish(changes, now_ns)
        self._api.send_late_replies()
        for feed in self._streams.markets.values():
            feed.after_step(now_ns)

    def _refresh_mark(self, market: Market) -> None:
        index = market.index
        changed = market.refresh_mark(self._now_ns)
        feed = self._streams.markets[market.name]
        if changed:
            feed.mark(self._now_ns)
        if market.index != index:
            feed.index(self._now_ns)

    def _mark_timer(self, now_ns: int) -> None:
        for market in self._markets:
            self._refresh_mark(market)
        for account in self.venue.accounts.values():
            self._desk.enforce(account, now_ns)
        self._timeline.plan(now_ns + self._rules.streams.mark_interval_ms * NS_PER_MS, self._mark_timer)

    def _balance_timer(self, now_ns: int) -> None:
        for account in self.venue.accounts.values():
            held = [name for name, lots in account.ledger.lots.items() if lots]
            if held:
                changes = self._changes.account(account.account_id)
                changes.balance = True
                changes.positions.update(dict.fromkeys(held))
        self._timeline.plan(
            now_ns + round(self._rules.streams.balance_interval_s * NS_PER_S), self._balance_timer
        )

    def _sample_timer(self, now_ns: int) -> None:
        self._samples += 1
        for market in self._markets:
            market.sample_premium()
            if self._samples % _SAMPLES_PER_ESTIMATE == 0:
                self._streams.markets[market.name].funding(market.funding.rate(), now_ns)
        self._timeline.plan(now_ns + sample_ns(self._rules.money), self._sample_timer)

    def _plan_funding(self, now_ns: int) -> None:
        period = period_ns(self._rules.money)
        due_ns = now_ns - now_ns % period + period
        for market in self._markets:
            market.next_funding_ns = due_ns
        self._timeline.plan(due_ns, self._funding_timer)

    def _funding_timer(self, now_ns: int) -> None:
        for market in self._markets:
            rate = market.funding.rate()
            for account in self.venue.accounts.values():
                self._pay_funding(account, market, rate)
            market.funding.restart()
            market.applied_rates.append((now_ns, rate))
            self._streams.markets[market.name].funding(rate, now_ns)
        self._plan_funding(now_ns)

    def _pay_funding(self, account: Account, market: Market, rate: Decimal) -> None:
        lots = account.position_lots(market.name)
        if lots == 0:
            return
        size = market.instrument.size(lots)
        amount = EXACT.minus(EXACT.multiply(EXACT.multiply(rate, market.mark), size))
        position_id = account.positions[market.name].position_id
        payment_id = next(self.venue.payment_ids)
        payment = FundingPayment(
            payment_id, market.name, position_id, lots, market.mark, rate, amount, self._now_ns
        )
        account.record_payment(payment)
        self.venue.house.pay(amount)
        self._changes.account(account.account_id).balance = True
