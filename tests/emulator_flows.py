"""A scripted flow, and an exchange on the bench: requests and events one by one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.flow import BookView, FlowEvent, LevelChange, PastBar, TakerOrder
from market_maker.emulator.orders import Order
from market_maker.emulator.requests import CancelRequest, OrderRequest
from market_maker.emulator.rules import (
    Delay,
    ExchangeRules,
    LatencyRules,
    MoneyRules,
    OrderRules,
    StreamRules,
)
from market_maker.emulator.streams import PUBLIC_KINDS, Output, Reply, StreamFrame, Topic
from market_maker.instrument import Instrument

START_NS = 1_750_000_000_000_000_000 - 1_750_000_000_000_000_000 % (3600 * NS_PER_S)
MARKET = "X-USD"
NO_DELAY = LatencyRules(Delay(), Delay(), Delay(), Delay(), stream_first_probability=0.0)


def instant_rules(**sections) -> ExchangeRules:
    """Rules without latency and without periodic balance frames."""
    given = {
        "latency": NO_DELAY,
        "orders": OrderRules(),
        "streams": StreamRules(balance_interval_s=0.0),
        "money": MoneyRules(),
    }
    return ExchangeRules(**(given | sections))


class ScriptedFlow:
    """A flow whose events are fed by a test."""

    def __init__(self, market: str, index: str = "100", bars: Sequence[PastBar] = ()) -> None:
        self.market = market
        self.index = Decimal(index)
        self._bars = list(bars)
        self._script: list[tuple[int, list[FlowEvent]]] = []

    def feed(self, at_ns: int, *events: FlowEvent) -> None:
        self._script.append((at_ns, list(events)))
        self._script.sort(key=lambda item: item[0])

    def next_ns(self) -> int | None:
        return self._script[0][0] if self._script else None

    def pop(self, book: BookView) -> Sequence[FlowEvent]:
        return self._script.pop(0)[1]

    def index_price(self) -> Decimal:
        return self.index

    def past_bars(self, count: int) -> list[PastBar]:
        return self._bars[-count:]


def default_instrument(**changes) -> Instrument:
    """Tick 1 USD, step 0.1, so that prices read as ticks; roomy limits."""
    base = Instrument(MARKET, Decimal(1), Decimal("0.1"), Decimal("0.1"), price_cap=Decimal("0.5"))
    return replace(base, price_floor=Decimal("0.5"), **changes)


class Bench:
    """One market, some accounts, and the helpers that tests speak in. Prices are ticks, sizes lots."""

    def __init__(
        self, rules=None, instrument=None, accounts=1, deposit="100000", others=(), **account
    ) -> None:
        self.instrument = instrument or default_instrument()
        self.market = self.instrument.name
        self.flow = ScriptedFlow(self.market, str(self.instrument.price(100)))
        self.rules = rules or instant_rules()
        self.rng = np.random.default_rng(1)
        self.flows = [self.flow, *(ScriptedFlow(other.name) for other in others)]
        instruments = [self.instrument, *others]
        self.exchange = Exchange(instruments, self.flows, self.rules, self.rng, START_NS)
        self.accounts = [self.exchange.add_account(Decimal(deposit), **account) for _ in range(accounts)]
        self.now_ns = START_NS
        self.outputs: list[Output] = []
        self._names = 0
        self.events()

    @property
    def book(self):
        return self.exchange.venue.markets[self.market].book

    def events(self, *events: FlowEvent) -> None:
        """Let the flow say something, now."""
        self.flow.feed(self.now_ns, *events)
        self.wait(0)

    def level(self, side: Side, ticks: int, lots: int) -> None:
        self.events(LevelChange(side, ticks, lots))

    def taker(self, side: Side, limit: int, lots: int) -> None:
        self.events(TakerOrder(side, limit, lots))

    def wait(self, seconds: float) -> list[Output]:
        self.now_ns += round(seconds * NS_PER_S) + 10
        got = self.exchange.advance(self.now_ns)
        self.outputs += got
        return got

    def request(self, side: Side, ticks: int, lots: int, **changes) -> OrderRequest:
        self._names += 1
        given = {
            "market": self.market,
            "external_id": f"o{self._names}",
            "side": side,
            "price": self.instrument.price(ticks),
            "qty": self.instrument.size(lots),
            "expire_ns": self.now_ns + 600 * NS_PER_S,
        }
        return OrderRequest(**(given | changes))

    def send(self, request, account: int = 0) -> Reply:
        """Submit, wait a moment, return the reply."""
        ticket = self.exchange.submit(self.accounts[account], request, self.now_ns)
        got = self.wait(0.001)
        return next(out for out in got if isinstance(out, Reply) and out.ticket == ticket)

    def ask(self, query, pool: int | str = "look-ups") -> Reply:
        """Look something up, wait a moment, return the reply."""
        ticket = self.exchange.ask(pool, query, self.now_ns)
        got = self.wait(0.001)
        return next(out for out in got if isinstance(out, Reply) and out.ticket == ticket)

    def place(self, side: Side, ticks: int, lots: int, account: int = 0, **changes) -> Order:
        """Place an order that the API takes; return it as the exchange keeps it."""
        request = self.request(side, ticks, lots, **changes)
        reply = self.send(request, account)
        assert reply.http_status == 200, reply.message
        return self.order(request.external_id, account)

    def cancel(self, order: Order, account: int = 0) -> Reply:
        return self.send(CancelRequest(external_id=order.request.external_id), account)

    def order(self, external_id: str, account: int = 0) -> Order:
        return self.exchange.account(self.accounts[account]).by_external[external_id]

    def position(self, account: int = 0) -> int:
        return self.exchange.account(self.accounts[account]).position_lots(self.market)

    def cash(self, account: int = 0) -> Decimal:
        return self.exchange.account(self.accounts[account]).ledger.cash

    def listen(self, account: int | None = 0) -> list[int]:
        """Subscribe to everything of the market, and to an account; the numbers of the subscriptions."""
        topics = [Topic(kind, self.market) for kind in PUBLIC_KINDS]
        if account is not None:
            topics.append(Topic("account", account_id=self.accounts[account]))
        return [self.exchange.subscribe(topic) for topic in topics]

    def hang_up(self, subscriptions: Sequence[int]) -> None:
        for number in subscriptions:
            self.exchange.unsubscribe(number)

    def frames(self, kind: str | None = None) -> list[dict]:
        """Decoded stream frames so far, of one kind or all."""
        found = [out for out in self.outputs if isinstance(out, StreamFrame)]
        return [json.loads(out.frame) for out in found if kind is None or out.kind == kind]


def outcome(order: Order) -> tuple[str, str, int]:
    """Status, reason and filled lots of an order."""
    return order.status.value, order.reason.value, order.filled_lots
