"""Whole sessions on the exchange inside, in virtual time: the real emulator, the real shell, no socket."""

import asyncio
import io
import json
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from market_maker.clock import Entropy, LoopClock
from market_maker.config import load_config
from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.requests import OrderRequest
from market_maker.emulator.rules import ExchangeRules
from market_maker.emulator.scenarios import build_flows, instruments
from market_maker.emulator.streams import StreamFrame, Topic
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.session import Surroundings
from market_maker.strategy import MarketMakerStrategy, Outcome
from market_maker.trade_journal import InlineSink, TradeJournal

# An hour of funding and a minute of candles begin here.
START_NS = 1_767_571_200 * NS_PER_S
BTC = "BTC-USD"


def in_virtual_time(program):
    """Run a coroutine function on a loop whose time jumps; return its result."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(program())


def rules(**sections) -> ExchangeRules:
    """Rules of the exchange; each argument is a section's changes by field."""
    base = ExchangeRules()
    parts = {"latency": base.latency, "orders": base.orders, "streams": base.streams, "money": base.money}
    return replace(base, **{name: replace(parts[name], **fields) for name, fields in sections.items()})


class Call(NamedTuple):
    """A request, when it was made, and what it was about."""

    at_s: float
    name: str
    what: object


class WatchedGateway(InProcessGateway):
    """The gateway as it is, with a note of each request; those that a test names fail.

    `fail[name]` are errors of the next requests, one each; `refuse[name]` is the error of all of them.
    With `hides_fills` the look-up of past matches finds none; that of funding waits for `answers`.
    """

    def __init__(self, driver: ExchangeDriver, account_id: int) -> None:
        super().__init__(driver, account_id)
        self.calls: list[Call] = []
        self.fail: dict[str, deque[Exception]] = defaultdict(deque)
        self.refuse: dict[str, Exception] = {}
        self.hides_fills = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.skew_s = 0.0
        self._clock = driver.clock

    def made(self, name: str) -> list[Call]:
        """Requests of a name."""
        return [call for call in self.calls if call.name == name]

    def _note(self, name: str, what: object = "") -> None:
        self.calls.append(Call((self._clock.now_ns() - START_NS) / NS_PER_S, name, what))
        if self.fail[name]:
            raise self.fail[name].popleft()
        if name in self.refuse:
            raise self.refuse[name]

    async def instruments(self, markets):
        self._note("instruments")
        return await super().instruments(markets)

    async def statuses(self, markets):
        self._note("statuses", tuple(markets))
        return await super().statuses(markets)

    async def fees(self, market):
        self._note("fees", market)
        return await super().fees(market)

    async def leverage(self, markets):
        self._note("leverage", tuple(markets))
        return await super().leverage(markets)

    async def set_leverage(self, market, leverage):
        self._note("set_leverage", (market, leverage))
        await super().set_leverage(market, leverage)

    async def clock_skew_s(self):
        self._note("clock_skew_s")
        return self.skew_s

    async def candles(self, market, count):
        self._note("candles", market)
        return await super().candles(market, count)

    async def place(self, order):
        self._note("place", order)
        return await super().place(order)

    async def cancel(self, market, external_id):
        self._note("cancel", external_id)
        await super().cancel(market, external_id)

    async def mass_cancel(self, markets):
        self._note("mass_cancel", tuple(markets))
        await super().mass_cancel(markets)

    async def arm_dead_mans_switch(self, countdown_s):
        self._note("arm_dead_mans_switch", countdown_s)
        await super().arm_dead_mans_switch(countdown_s)

    async def open_orders(self):
        self._note("open_orders")
        return await super().open_orders()

    async def order(self, external_id):
        self._note("order", external_id)
        return await super().order(external_id)

    async def fills(self, since_ns):
        self._note("fills", since_ns)
        found = await super().fills(since_ns)
        return [] if self.hides_fills else found

    async def positions(self):
        self._note("positions")
        return await super().positions()

    async def balance(self):
        self._note("balance")
        return await super().balance()

    async def funding_payments(self, since_ns):
        self._note("funding_payments", since_ns)
        await self.answers.wait()
        return await super().funding_payments(since_ns)


class FlakyDriver(ExchangeDriver):
    """Loses the frames of the kinds that are named, and breaks streams when told to."""

    def __init__(self, exchange, clock) -> None:
        super().__init__(exchange, clock)
        self.losing: set[str] = set()
        self.opened = {}

    def open_stream(self, topic, queue=None):
        self.opened[topic] = super().open_stream(topic, queue)
        return self.opened[topic]

    def _deliver(self, output) -> None:
        if not (isinstance(output, StreamFrame) and output.kind in self.losing):
            super()._deliver(output)

    def break_market(self, market: str) -> None:
        """Send a frame that is none."""
        self.opened[Topic("book", market)].queue.put_nowait(("book", b"{"))

    def break_account(self, account_id: int) -> None:
        """Send a frame that is none."""
        self.opened[Topic("account", account_id=account_id)].queue.put_nowait(("ORDER", b"{"))


class FailingFlow:
    """A flow of another, that fails at an instant; from then on it has ended."""

    def __init__(self, flow, at_ns: int, error: Exception) -> None:
        self.market = flow.market
        self._flow, self._at_ns, self._error = flow, at_ns, error
        self._ended = False

    def next_ns(self):
        return None if self._ended else self._flow.next_ns()

    def pop(self, book):
        if self._flow.next_ns() >= self._at_ns:
            self._ended = True
            raise self._error
        return self._flow.pop(book)

    def index_price(self):
        return self._flow.index_price()

    def past_bars(self, count):
        return self._flow.past_bars(count)


@dataclass
class Run:
    """A session that ended: its outcome or its error, and what it left behind."""

    outcome: Outcome | None
    error: Exception | None
    strategy: MarketMakerStrategy | None
    gateway: WatchedGateway
    journal: bytes
    tasks_left: int

    def records(self, kind: str = "") -> list[dict]:
        """Records of the journal, of one kind or all."""
        lines = [json.loads(line) for line in self.journal.splitlines()]
        return [line for line in lines if not kind or line["type"] == kind]

    def notes(self, kind: str) -> list[dict]:
        return self.records(kind)


class Inside:
    """An exchange with one account that a bot trades on, and one of somebody else. Made inside the loop."""

    def __init__(
        self,
        scenario="flat",
        markets=(BTC,),
        seed=1,
        exchange_rules=None,
        deposit="10000",
        flows=None,
        listed=None,
    ) -> None:
        self.clock = LoopClock(asyncio.get_running_loop(), START_NS)
        self.markets = tuple(markets)
        self.seed = seed
        listed = listed or instruments(markets)
        chosen = flows or build_flows(scenario, markets, seed, START_NS)
        generator = np.random.default_rng([seed, 1])
        self.exchange = Exchange(listed, chosen, exchange_rules or ExchangeRules(), generator, START_NS)
        self.account_id = self.exchange.add_account(Decimal(deposit))
        self.other_id = self.exchange.add_account(Decimal(10_000_000))
        self.driver = FlakyDriver(self.exchange, self.clock)
        self.driver.start()
        self._orders = 0

    @property
    def account(self):
        """The bot's account, as the exchange keeps it."""
        return self.exchange.account(self.account_id)

    @property
    def now_s(self) -> float:
        """Seconds since the exchange opened."""
        return (self.clock.now_ns() - START_NS) / NS_PER_S

    async def until(self, at_s: float) -> None:
        """Wait for an instant of the exchange."""
        await asyncio.sleep(max(0.0, at_s - self.now_s))

    async def order(self, side: Side, ticks: int, lots: int, market=BTC, account_id=None, **changes) -> str:
        """Place an order past the bot, in its account or another; return its id."""
        self._orders += 1
        instrument = self.exchange.venue.markets[market].instrument
        given = {
            "market": market,
            "external_id": f"manual{self._orders}",
            "side": side,
            "price": instrument.price(ticks),
            "qty": instrument.size(lots),
            "expire_ns": self.clock.now_ns() + 3600 * NS_PER_S,
        }
        request = OrderRequest(**(given | changes))
        reply = await self.driver.send(self.account_id if account_id is None else account_id, request)
        assert reply.http_status == 200, reply.message
        return request.external_id

    def best(self, side: Side, market=BTC) -> int:
        """Best price at the exchange, ticks."""
        return self.exchange.book(market).best_ticks(side)

    def open_ids(self) -> list[str]:
        """External ids of what the bot's account has open at the exchange."""
        return [order.request.external_id for order in self.account.open.values()]

    async def session(
        self, seconds, *settings, profile=None, during=None, prepare=None, seed=None, **surroundings
    ) -> Run:
        """Trade for so long.

        `prepare(gateway)` is called before, `during(strategy)` beside it; the rest is for `Surroundings`.
        """
        overrides = [f"markets={','.join(self.markets)}", *settings]
        config = load_config(overrides, profile=profile)
        gateway = WatchedGateway(self.driver, self.account_id)
        if prepare is not None:
            prepare(gateway)
        target = io.BytesIO()
        journal = TradeJournal(InlineSink(target), self.clock)
        entropy = Entropy(self.seed if seed is None else seed)
        strategies: list[MarketMakerStrategy] = []
        beside: list[asyncio.Task] = []

        def started(strategy) -> None:
            strategies.append(strategy)
            if during is not None:
                beside.append(asyncio.ensure_future(during(strategy)))

        before = asyncio.all_tasks()
        outcome, error = None, None
        try:
            around = Surroundings(gateway, config, self.clock, entropy, journal, **surroundings)
            outcome = await MarketMakerStrategy.run(around, seconds, started)
        except Exception as failure:  # noqa: BLE001  (whatever ended it is what the test is about)
            error = failure
        left = asyncio.all_tasks() - before - set(beside)
        for task in beside:
            assert task.done(), "the session ended before what ran beside it"
            task.result()
        strategy = strategies[0] if strategies else None
        return Run(outcome, error, strategy, gateway, target.getvalue(), len(left))


def assert_sound(inside: Inside, run: Run) -> None:
    """Nothing open, no task left, switch off; our books are the exchange's to the last digit and add up."""
    assert run.error is None
    assert run.tasks_left == 0
    assert run.outcome.remaining == ()
    assert inside.open_ids() == []
    assert inside.account.switch_due_ns == 0
    strategy = run.strategy
    ledger = strategy.session.ledger
    for market in inside.markets:
        assert ledger.position_lots(market) == inside.account.position_lots(market)
        parts = ledger.attribution(market)
        assert parts.total + parts.basis == ledger.change_of_equity(market)
    changes = sum(ledger.change_of_equity(market) for market in inside.markets)
    assert ledger.equity() - strategy.session.start_equity == changes
    assert strategy.books_agree
    assert strategy.equity_at_end == inside.exchange.equity(inside.account_id)
