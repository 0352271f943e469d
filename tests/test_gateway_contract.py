"""What every gateway owes to the market maker: one suite over the exchange inside, the emulator on a socket,
both with orders on paper, and, with MM_TEST_TESTNET_API_KEY and MM_TEST_TESTNET_STARK_PRIVATE_KEY in the
environment, the real testnet.

Only the port is used here, so that nothing is asked of the testnet that the emulator makes easy.
"""

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import pytest
from inside import BTC, Inside, in_virtual_time

from market_maker.cli.paper import paper_gateway
from market_maker.clock import Entropy, SystemClock
from market_maker.config import load_config
from market_maker.config_sections import ConnectionSettings, Network, Secret
from market_maker.domain import NS_PER_S, BestQuote, BookUpdate, NewOrder, OrderState, Side
from market_maker.emulator.server import EmulatorServer
from market_maker.emulator.server_rules import served_account
from market_maker.exchanges.endpoints import endpoint_of
from market_maker.exchanges.extended import ExtendedGateway, Keys
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.gateway import (
    BalanceReport,
    FillReport,
    MarketNotFound,
    OrderRefused,
    OrderReport,
    PositionReport,
    StreamLost,
    VenueError,
)
from market_maker.instrument import MarketStatus

PATIENCE_S = 20.0
FAR = Decimal("0.98")
TESTNET_KEYS = ("MM_TEST_TESTNET_API_KEY", "MM_TEST_TESTNET_STARK_PRIVATE_KEY")
DUPLICATE_ORDER, QUANTITY_BELOW_MINIMUM = 1134, 1120


class Bench:
    """A gateway, what its streams tell, and orders without ceremony."""

    def __init__(self, gateway, clock) -> None:
        self.gateway = gateway
        self.clock = clock
        self.entropy = Entropy()
        self.market_events = []
        self.account_events = []
        self.instrument = None
        self._tasks = []
        self._heard = asyncio.Event()

    async def __aenter__(self):
        self.instrument = (await self.gateway.instruments([BTC]))[BTC]
        self._tasks = [
            asyncio.ensure_future(self._read(self.gateway.market_events(BTC), self.market_events)),
            asyncio.ensure_future(self._read(self.gateway.account_events(), self.account_events)),
        ]
        await self.until(lambda: self.latest(BestQuote) and self.latest(BalanceReport))
        return self

    async def __aexit__(self, *_):
        with suppress(VenueError):
            await self.gateway.mass_cancel([BTC])
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.gateway.close()

    async def _read(self, events, heard):
        async for event in events:
            heard.append(event)
            self._heard.set()

    async def until(self, true):
        """Wait until a stream has told what makes it true; what it then is."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := true()):
                self._heard.clear()
                await self._heard.wait()
        return found

    def latest(self, kind):
        heard = [event for event in (*self.market_events, *self.account_events) if isinstance(event, kind)]
        return heard[-1] if heard else None

    def order(self, side, ticks, **changes):
        instrument = self.instrument
        plain = NewOrder(
            market=BTC,
            external_id=f"contract-{self.entropy.token(12)}",
            side=side,
            price_ticks=ticks,
            size_lots=instrument.min_lots,
            post_only=True,
            reduce_only=False,
            immediate_or_cancel=False,
            expire_ns=self.clock.now_ns() + 120 * NS_PER_S,
            nonce=self.entropy.nonce(),
        )
        return plain._replace(**changes)

    def resting(self, side=Side.BUY, **changes):
        """An order well away from the market."""
        quote = self.latest(BestQuote)
        mid = self.instrument.price(quote.bid_ticks + quote.ask_ticks) / 2
        price = mid * FAR if side == Side.BUY else mid / FAR
        return self.order(side, self.instrument.ticks_down(price), **changes)

    def taking(self, side, **changes):
        """An order that fills at once."""
        quote = self.latest(BestQuote)
        margin = quote.ask_ticks // 1000 + 1
        ticks = quote.ask_ticks + margin if side == Side.BUY else quote.bid_ticks - margin
        return self.order(side, ticks, **({"post_only": False, "immediate_or_cancel": True} | changes))

    def report_of(self, order, *states):
        """The last report of an order on the stream, once it is in one of the states."""
        heard = [
            event
            for event in self.account_events
            if isinstance(event, OrderReport) and event.external_id == order.external_id
        ]
        return heard[-1] if heard and heard[-1].state in states else None

    async def reported(self, order, *states):
        return await self.until(lambda: self.report_of(order, *states))

    async def rest(self, **changes):
        order = self.resting(**changes)
        accepted = await self.gateway.place(order)
        assert accepted.external_id == order.external_id
        await self.reported(order, OrderState.LIVE)
        return order, accepted

    async def open_ids(self):
        return {order.external_id for order in await self.gateway.open_orders()}


@asynccontextmanager
async def in_process():
    inside = Inside("flat")
    await inside.until(1.0)
    yield Bench(InProcessGateway(inside.driver, inside.account_id), inside.clock)


@asynccontextmanager
async def on_paper():
    async with in_process() as bench:
        yield Bench(paper_gateway(load_config(), bench.gateway, bench.clock), bench.clock)


@asynccontextmanager
async def over_sockets(*, is_public=False):
    inside = Inside("flat")
    account = served_account(inside.account_id, 1, 0)
    server = EmulatorServer(inside.driver, [account])
    await server.start()
    await inside.until(1.0)
    keys = None if is_public else Keys(Secret(account.api_key), Secret(account.private_key))
    endpoint = endpoint_of(Network.EMULATOR, server.url)
    try:
        yield Bench(
            await ExtendedGateway.connect(endpoint, keys, ConnectionSettings(), inside.clock), inside.clock
        )
    finally:
        inside.driver.close()
        await server.close()


@asynccontextmanager
async def on_paper_over_sockets():
    async with over_sockets(is_public=True) as bench:
        yield Bench(paper_gateway(load_config(), bench.gateway, bench.clock), bench.clock)


@asynccontextmanager
async def on_testnet():
    keys = Keys(*(Secret(os.environ[name]) for name in TESTNET_KEYS))
    clock = SystemClock()
    endpoint = endpoint_of(Network.TESTNET, "")
    yield Bench(await ExtendedGateway.connect(endpoint, keys, ConnectionSettings(), clock), clock)


def in_real_time(program):
    return asyncio.run(program())


NO_TESTNET = pytest.mark.skipif(
    any(not os.environ.get(name) for name in TESTNET_KEYS), reason=f"needs {' and '.join(TESTNET_KEYS)}"
)
HOSTS = [
    pytest.param((in_process, in_virtual_time), id="in process"),
    pytest.param((over_sockets, in_virtual_time), id="sockets"),
    pytest.param((on_paper, in_virtual_time), id="paper"),
    pytest.param((on_paper_over_sockets, in_virtual_time), id="paper over sockets"),
    pytest.param((on_testnet, in_real_time), id="testnet", marks=[NO_TESTNET, pytest.mark.slow]),
]


@pytest.fixture(params=HOSTS)
def at(request):
    """Run a test at a bench of the host."""
    host, run = request.param

    def run_at_bench(test):
        async def program():
            async with host() as bench, bench:
                return await test(bench)

        return run(program)

    return run_at_bench


def test_the_status_of_markets_is_told_and_one_that_is_not_listed_is_left_out(at):
    async def use(bench):
        assert await bench.gateway.statuses([BTC, "BTC-USX"]) == {BTC: MarketStatus.ACTIVE}

    at(use)


def test_instruments_by_name_and_an_unknown_market(at):
    async def test(bench):
        everything = await bench.gateway.instruments(())
        assert bench.instrument == everything[BTC]
        with pytest.raises(MarketNotFound, match="no market 'BTC-USX'; did you mean BTC-USD"):
            await bench.gateway.instruments([BTC, "BTC-USX"])
        assert list(await bench.gateway.instruments([BTC])) == [BTC]
        with pytest.raises(MarketNotFound):
            await bench.gateway.place(bench.resting()._replace(market="BTC-USX"))

    at(test)


def test_fees_and_leverage(at):
    async def test(bench):
        fees = await bench.gateway.fees(BTC)
        assert Decimal("-0.001") < fees.maker <= fees.taker < Decimal("0.01")
        leverage = await bench.gateway.leverage([BTC])
        assert list(leverage) == [BTC]
        assert 0 < leverage[BTC] <= bench.instrument.max_leverage
        other = Decimal(4) if leverage[BTC] != 4 else Decimal(5)
        await bench.gateway.set_leverage(BTC, other)
        assert await bench.gateway.leverage([BTC]) == {BTC: other}
        await bench.gateway.set_leverage(BTC, leverage[BTC])

    at(test)


def test_the_clock_and_candles(at):
    async def test(bench):
        assert abs(await bench.gateway.clock_skew_s()) < 3
        candles = await bench.gateway.candles(BTC, 3)
        opened = [candle.open_ns for candle in candles]
        assert opened == sorted(set(opened))
        assert len(candles) <= 3
        assert all(at_ns % (60 * NS_PER_S) == 0 for at_ns in opened)
        assert all(at_ns + 60 * NS_PER_S <= bench.clock.now_ns() for at_ns in opened)
        assert all(candle.low <= min(candle.open, candle.close) for candle in candles)

    at(test)


def test_an_order_rests_is_found_and_is_cancelled(at):
    async def test(bench):
        order, accepted = await bench.rest()
        found = await bench.gateway.order(order.external_id)
        assert (found.order_id, found.state) == (accepted.order_id, OrderState.LIVE)
        assert (found.side, found.price_ticks, found.size_lots) == (
            Side.BUY,
            order.price_ticks,
            order.size_lots,
        )
        assert (found.post_only, found.reduce_only, found.filled_lots) == (True, False, 0)
        assert order.external_id in await bench.open_ids()
        await bench.gateway.cancel(BTC, order.external_id)
        await bench.reported(order, OrderState.CANCELLED)
        assert order.external_id not in await bench.open_ids()
        gone = await bench.gateway.order(order.external_id)
        assert gone is None or gone.state == OrderState.CANCELLED

    at(test)


def test_a_replacement_takes_the_place_of_an_order(at):
    async def test(bench):
        order, _ = await bench.rest(side=Side.SELL)
        new = bench.resting(side=Side.SELL, replaces=order.external_id)
        new = new._replace(price_ticks=order.price_ticks + 1)
        await bench.gateway.place(new)
        await bench.reported(new, OrderState.LIVE)
        await bench.reported(order, OrderState.CANCELLED)
        ids = await bench.open_ids()
        assert new.external_id in ids
        assert order.external_id not in ids

    at(test)


def test_an_id_is_taken_once(at):
    async def test(bench):
        order, _ = await bench.rest()
        with pytest.raises(OrderRefused) as refusal:
            await bench.gateway.place(order._replace(nonce=bench.entropy.nonce()))
        assert refusal.value.code == DUPLICATE_ORDER

    at(test)


def test_a_post_only_order_that_would_take_is_rejected_on_the_stream(at):
    async def test(bench):
        order = bench.taking(Side.BUY, post_only=True, immediate_or_cancel=False)
        await bench.gateway.place(order)
        report = await bench.reported(order, OrderState.REJECTED, OrderState.CANCELLED)
        assert report.reason == "POST_ONLY_FAILED"
        assert report.filled_lots == 0

    at(test)


def test_an_order_that_was_never_there(at):
    async def test(bench):
        assert await bench.gateway.order("contract-nobody") is None
        with pytest.raises(OrderRefused):
            await bench.gateway.cancel(BTC, "contract-nobody")

    at(test)


def test_a_refusal_says_its_code_and_leaves_nothing(at):
    async def test(bench):
        order = bench.resting(size_lots=1)
        assert bench.instrument.min_lots > 1
        with pytest.raises(OrderRefused) as refusal:
            await bench.gateway.place(order)
        assert refusal.value.code == QUANTITY_BELOW_MINIMUM
        assert await bench.gateway.order(order.external_id) is None

    at(test)


def test_a_fill_is_told_and_can_be_looked_up(at):
    async def test(bench):
        since_ns = bench.clock.now_ns() - 5 * NS_PER_S
        # From the account's own earlier trades, where it had some.
        before = {report.fill.trade_id for report in await bench.gateway.fills(since_ns)}
        order = bench.taking(Side.BUY)
        await bench.gateway.place(order)
        await bench.reported(order, OrderState.FILLED)
        fill = await bench.until(lambda: bench.latest(FillReport))
        assert (fill.fill.external_id, fill.fill.side) == (order.external_id, Side.BUY)
        assert fill.fill.is_taker
        assert fill.fill.size_lots <= order.size_lots
        assert fill.fee >= 0
        position = await bench.until(lambda: bench.latest(PositionReport))
        assert position.market == BTC
        held = {report.market: report.size_lots for report in await bench.gateway.positions()}
        assert held[BTC] == position.size_lots
        looked_up = [
            report for report in await bench.gateway.fills(since_ns) if report.fill.trade_id not in before
        ]
        assert sum(report.fill.size_lots for report in looked_up) == order.size_lots
        assert fill.fill.trade_id in {report.fill.trade_id for report in looked_up}
        assert [r.fill.venue_ns for r in looked_up] == sorted(r.fill.venue_ns for r in looked_up)
        back = bench.taking(Side.SELL, reduce_only=True)
        await bench.gateway.place(back)
        await bench.reported(back, OrderState.FILLED)
        balance = await bench.gateway.balance()
        assert balance.equity > 0
        assert balance.available_for_trade <= balance.equity

    at(test)


def test_funding_payments_come_in_their_order(at):
    async def test(bench):
        paid = await bench.gateway.funding_payments(bench.clock.now_ns() - 86_400 * NS_PER_S)
        assert [payment.venue_ns for payment in paid] == sorted(payment.venue_ns for payment in paid)

    at(test)


def test_mass_cancel_ends_every_order_of_the_market(at):
    async def test(bench):
        orders = [(await bench.rest(side=side))[0] for side in (Side.BUY, Side.BUY, Side.SELL)]
        await bench.gateway.mass_cancel([BTC])
        for order in orders:
            await bench.reported(order, OrderState.CANCELLED)
        assert not await bench.open_ids() & {order.external_id for order in orders}

    at(test)


@pytest.mark.slow
def test_the_dead_mans_switch_cancels_unless_it_is_fed_or_disarmed(at):
    async def test(bench):
        order, _ = await bench.rest()
        await bench.gateway.arm_dead_mans_switch(10)
        await asyncio.sleep(6)
        await bench.gateway.arm_dead_mans_switch(10)
        await asyncio.sleep(6)
        await bench.gateway.arm_dead_mans_switch(0)
        await asyncio.sleep(12)
        assert bench.report_of(order, OrderState.LIVE)
        await bench.gateway.arm_dead_mans_switch(5)
        await bench.reported(order, OrderState.CANCELLED)

    at(test)


def test_streams_start_with_what_is_there_and_go_on_in_turn(at):
    async def test(bench):
        await bench.until(lambda: sum(isinstance(event, BookUpdate) for event in bench.market_events) >= 5)
        books = [event for event in bench.market_events if isinstance(event, BookUpdate)]
        assert books[0].is_snapshot
        assert books[0].bids
        assert books[0].asks
        assert all(lots > 0 for _, lots in (*books[0].bids, *books[0].asks))
        assert [book.seq for book in books] == list(range(books[0].seq, books[0].seq + len(books)))
        assert not any(isinstance(event, StreamLost) for event in bench.market_events + bench.account_events)
        assert bench.gateway.unknown == {}

    at(test)


def test_a_gateway_that_is_closed_fails_every_request(at):
    async def test(bench):
        await bench.gateway.close()
        for request in (
            bench.gateway.place(bench.resting()),
            bench.gateway.cancel(BTC, "contract-any"),
            bench.gateway.open_orders(),
            bench.gateway.balance(),
        ):
            with pytest.raises(VenueError):
                await request

    at(test)
