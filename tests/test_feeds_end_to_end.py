"""Both feeds against the emulator's server over sockets, in virtual time, with each fault of its streams."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from decimal import Decimal

import aiohttp
import pytest
from inside import BTC, Inside, in_virtual_time
from stream_server import SETTINGS

from market_maker.config_sections import Secret
from market_maker.domain import BestQuote, BookUpdate, OrderState, Side, Trade
from market_maker.emulator.faults import Faults
from market_maker.emulator.server import EmulatorServer
from market_maker.emulator.server_rules import served_account
from market_maker.exchanges.account_feed import account_feed
from market_maker.exchanges.market_feed import market_feed
from market_maker.exchanges.socket import Connector
from market_maker.gateway import (
    BalanceReport,
    CredentialsRefused,
    IndexPrice,
    MarketNotFound,
    MarkPrice,
    OrderReport,
    PositionReport,
    StreamLost,
)
from market_maker.instrument import Instrument
from market_maker.orderbook_manager import BookSettings, OrderbookManager

FAULT_S = 20.0
CLEAN_S = 12.0


class Market:
    """Reads a market feed for as long as it is let, and keeps the book."""

    def __init__(self, world: "World") -> None:
        self.events = []
        self.unknown = Counter()
        self.book = OrderbookManager(world.instrument, BookSettings())
        self._loop = asyncio.get_running_loop()
        self._feed = market_feed(world.connect, world.instrument, SETTINGS, world.inside.clock, self.unknown)
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for event in self._feed:
            self.events.append((self._loop.time(), event))
            if isinstance(event, BookUpdate):
                assert event.is_snapshot or self.book.trusted
                self.book.apply(event)
            elif isinstance(event, StreamLost):
                self.book.lose_trust()

    def levels(self):
        return [self.book.levels(side, 30) for side in Side]

    def times(self, kind):
        return [at_s for at_s, event in self.events if isinstance(event, kind)]


class World:
    """The exchange inside behind its server, and a client of it."""

    def __init__(self, inside: Inside, connect: Connector, wrong: Connector) -> None:
        self.inside = inside
        self.connect = connect
        self.wrong = wrong
        self.instrument: Instrument = inside.exchange.venue.markets[BTC].instrument


@asynccontextmanager
async def world():
    inside = Inside("choppy")
    account = served_account(inside.account_id, 1, 0)
    server = EmulatorServer(inside.driver, [account])
    await server.start()
    url = f"{server.url.replace('http', 'ws')}/stream.extended.exchange/v1"
    async with aiohttp.ClientSession() as session:
        try:
            right, wrong = Secret(account.api_key), Secret("no-such-key")
            yield World(inside, Connector(session, url, right), Connector(session, url, wrong))
        finally:
            await session.close()
            inside.driver.close()
            await server.close()


async def ended(*tasks: asyncio.Task) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


@pytest.mark.slow
def test_the_book_over_the_wire_is_the_exchanges():
    async def program():
        async with world() as here:
            market = Market(here)
            await asyncio.sleep(150)
            fresh = Market(here)
            await asyncio.sleep(3)
            kinds = {type(event) for _, event in market.events}
            snapshots = sum(isinstance(event, BookUpdate) and event.is_snapshot for _, event in market.events)
            await ended(market.task, fresh.task)
            return market, fresh, kinds, snapshots

    market, fresh, kinds, snapshots = in_virtual_time(program)
    assert market.levels() == fresh.levels()
    assert len(market.levels()[0]) > 5
    assert {BookUpdate, BestQuote, Trade, MarkPrice, IndexPrice} <= kinds
    assert StreamLost not in kinds
    assert snapshots == 3
    assert market.book.gaps == 0
    assert market.unknown == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "loses"),
    [
        ({"drop_frames": 0.1}, True),
        ({"duplicate_frames": 0.3}, False),
        ({"reorder_frames": 0.1}, True),
        ({"corrupt_frames": 0.1}, True),
        ({"close_streams": 0.05}, True),
        ({"silent_streams": 1.0}, True),
        ({"extra_latency_ms": 400.0, "latency_tail_ms": 300.0}, False),
        ({"duplicate_trades": 0.5}, False),
    ],
)
def test_each_fault_of_the_streams_is_survived(fault, loses):
    async def program():
        async with world() as here:
            market = Market(here)
            await asyncio.sleep(5)
            here.inside.exchange.set_faults(Faults(**fault))
            await asyncio.sleep(FAULT_S)
            here.inside.exchange.set_faults(Faults())
            await asyncio.sleep(CLEAN_S)
            fresh = Market(here)
            await asyncio.sleep(3)
            await ended(market.task, fresh.task)
            return market, fresh

    market, fresh = in_virtual_time(program)
    lost = market.times(StreamLost)
    assert bool(lost) == loses
    assert len(lost) <= 16
    assert all(at_s < 5 + FAULT_S + 10 for at_s in lost)
    assert market.book.gaps == 0
    assert market.levels() == fresh.levels()
    for kind in (BookUpdate, BestQuote, MarkPrice):
        assert market.times(kind)[-1] > 5 + FAULT_S + CLEAN_S


class Account:
    """Reads the account feed: what rests and what is held, as the stream tells it."""

    def __init__(self, here: World) -> None:
        self.events = []
        self.unknown = Counter()
        self.live = set()
        self.position = 0
        feed = account_feed(here.connect, {BTC: here.instrument}, SETTINGS, here.inside.clock, self.unknown)
        self.task = asyncio.ensure_future(self._read(feed))

    async def _read(self, feed) -> None:
        async for event in feed:
            self.events.append(event)
            match event:
                case OrderReport(state=OrderState.LIVE):
                    self.live.add(event.external_id)
                case OrderReport():
                    self.live.discard(event.external_id)
                case PositionReport():
                    self.position = event.size_lots


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "loses"),
    [
        ({}, False),
        ({"drop_frames": 0.2}, True),
        ({"duplicate_frames": 0.3}, False),
        ({"corrupt_frames": 0.2}, True),
        ({"close_streams": 0.2}, True),
        ({"silent_streams": 1.0}, True),
        ({"unknown_values": 0.5, "duplicate_trades": 0.5}, False),
    ],
)
def test_the_account_is_known_again_after_each_fault(fault, loses):
    async def program():
        async with world() as here:
            account = Account(here)
            inside = here.inside
            await asyncio.sleep(1)
            inside.exchange.set_faults(Faults(**fault))
            for number in range(10):
                bid, ask = inside.best(Side.BUY), inside.best(Side.SELL)
                await inside.order(Side.BUY, bid - 100 - number, 1000)
                await inside.order(Side.BUY, ask + 50, 1000)
                await asyncio.sleep(2)
            inside.exchange.set_faults(Faults())
            await asyncio.sleep(CLEAN_S)
            last = await inside.order(Side.BUY, inside.best(Side.BUY) - 300, 1000)
            await asyncio.sleep(1)
            await ended(account.task)
            return account, last, inside.account.position_lots(BTC), set(inside.open_ids())

    account, last, position, open_ids = in_virtual_time(program)
    lost = [event for event in account.events if isinstance(event, StreamLost)]
    assert bool(lost) == loses
    assert last in account.live
    assert account.position == position == 10_000
    if not fault:
        assert account.live == open_ids
    assert any(isinstance(event, BalanceReport) for event in account.events)


def test_a_wrong_key_and_a_wrong_market_end_their_feeds():
    async def program():
        async with world() as here:
            with pytest.raises(CredentialsRefused, match="HTTP 401"):
                await anext(
                    account_feed(here.wrong, {BTC: here.instrument}, SETTINGS, here.inside.clock, Counter())
                )
            nothing = Instrument("NO-USD", Decimal(1), Decimal(1), Decimal(1))
            with pytest.raises(MarketNotFound, match="NO-USD: HTTP 404"):
                await anext(market_feed(here.connect, nothing, SETTINGS, here.inside.clock, Counter()))

    in_virtual_time(program)
