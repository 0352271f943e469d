"""Another venue's prices: frames as they were recorded, a server on loopback, and time that jumps."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from inside import in_virtual_time
from stream_server import SETTINGS, START_NS, Peer, StreamServer, stay

from market_maker.clock import LoopClock
from market_maker.config_sections import OutsideSettings, OutsideVenue
from market_maker.exchanges.outside import BinanceTickers, decode_ticker, outside_feed
from market_maker.exchanges.wire import CorruptFrame

BTC, ETH = "BTC-USD", "ETH-USD"
PATH = "/stream?streams=btcusdt@bookTicker/ethusdt@bookTicker"
RECORDED = (
    b'{"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT",'
    b'"b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256314}}'
)


def ticker(number, bid="100.0", ask="100.2", symbol="BTCUSDT", **changes):
    data = {"e": "bookTicker", "u": number, "s": symbol, "b": bid, "B": "1", "a": ask, "A": "1"}
    data |= {"T": 1_000 + number, "E": 1_000 + number} | changes
    return json.dumps({"stream": f"{symbol.lower()}@bookTicker", "data": data}).encode()


def sending(*frames, then=stay):
    async def script(peer: Peer):
        await peer.send(*frames)
        await then(peer)

    return script


async def dropped(peer: Peer):
    await peer.socket.close(code=1001)


def listened(scripts, seconds=3.0, markets=(BTC, ETH), **changes):
    """Listen for so long; the prices with the time of each, the counts, and when it was connected."""

    async def program():
        server = StreamServer()
        server.scripts[PATH] = list(scripts)
        await server.start()
        loop = asyncio.get_running_loop()
        settings = OutsideSettings(OutsideVenue.BINANCE, outside_url=server.url + "/", **changes)
        feed = BinanceTickers(settings, SETTINGS, LoopClock(loop, START_NS))
        prices, begun_s = [], loop.time()

        def note(price):
            prices.append((round(loop.time() - begun_s, 3), price))

        async def listen():
            async for price in feed.prices(markets):
                note(price)

        try:
            async with asyncio.timeout(seconds):
                await listen()
        except TimeoutError:
            pass
        finally:
            await feed.close()
            await server.stop()
        return prices, feed.unknown, [opened.path for opened in server.opened], server.tries(PATH)

    return in_virtual_time(program)


def mids(prices):
    return [(price.market, str(price.price)) for _, price in prices]


def test_a_recorded_frame_is_read():
    assert decode_ticker(RECORDED) == (
        "BTCUSDT",
        Decimal("61800.25"),
        5123107839020,
        1_723_161_256_314_000_000,
    )


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"[]",
        b"\xff{}",
        b'{"result":null,"id":1}',
        ticker(1, e="aggTrade"),
        ticker(1, b="NaN"),
        ticker(1, b="0", a="0"),
        ticker(1, b="101", a="100"),
        ticker(1, b=None),
    ],
)
def test_what_is_no_best_quote_is_refused(frame):
    with pytest.raises(CorruptFrame):
        decode_ticker(frame)


def test_both_symbols_come_over_one_stream_and_only_what_moves_is_told():
    frames = [
        ticker(1),
        ticker(2),  # the same mid, at once
        ticker(3, "100.1", "100.3"),
        ticker(4, "3000", "3001", "ETHUSDT"),
        ticker(3, "99", "99.2"),  # late
        ticker(9, "1", "2", "XRPUSDT"),
    ]
    prices, unknown, opened, _ = listened([sending(*frames)])
    # A reader that is not there yet gets the latest of each market.
    assert mids(prices)[-2:] == [(BTC, "100.2"), (ETH, "3000.5")]
    assert [price.venue_ns for _, price in prices][-1] == 1_004_000_000
    assert opened == [PATH]
    assert unknown == Counter({"outside symbol XRPUSDT": 1, "outside frame late or twice": 1})


def test_a_mid_that_stands_is_repeated_each_second():
    async def steady(peer: Peer):
        for number in range(1, 31):
            await peer.send(ticker(number))
            await asyncio.sleep(0.1)

    prices, *_ = listened([steady])
    assert mids(prices) == [(BTC, "100.1")] * 3
    at_s = [at for at, _ in prices]
    assert all(0.99 < later - earlier < 1.2 for earlier, later in pairwise(at_s))


def test_corrupt_and_unknown_frames_are_counted_and_the_stream_goes_on():
    frames = [b"{", b'{"result":null,"id":1}', ticker(1, b="x"), b'{"stream":"x@depth","data":{}}', ticker(2)]
    prices, unknown, _, tries = listened([sending(*frames)])
    assert mids(prices) == [(BTC, "100.1")]
    assert unknown == Counter({"outside frame corrupt": 2, "outside frame of another kind": 2})
    assert len(tries) == 1


def test_a_lost_stream_comes_back_with_pauses_and_begins_a_new_sequence():
    scripts = [sending(ticker(50), then=dropped), 451, 403, sending(ticker(1, "90", "92"))]
    prices, unknown, _, tries = listened(scripts, seconds=10.0)
    assert mids(prices) == [(BTC, "100.1"), (BTC, "91")]
    assert unknown == Counter({"outside stream lost": 3})
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert all(0.1 < pause < 2.0 for pause in pauses)


def test_a_venue_that_never_answers_is_asked_ever_more_seldom():
    prices, unknown, _, tries = listened([451], seconds=600.0)
    assert prices == []
    assert 12 < len(tries) < 40
    assert 29.0 < tries[-1] - tries[-2] < 61.0
    assert unknown["outside stream lost"] == len(tries)


def test_silence_renews_the_connection():
    prices, unknown, _, tries = listened([sending(ticker(1)), sending(ticker(2, "101", "103"))], seconds=40.0)
    assert mids(prices) == [(BTC, "100.1"), (BTC, "102")]
    assert len(tries) == 2
    assert 30.0 <= tries[1] - tries[0] < 35.0
    assert unknown["outside stream lost"] == 1


def test_only_markets_with_a_symbol_are_asked_for_and_two_may_share_one():
    pairs = (f"{BTC}=btcusdt", "BTC-EUR=BTCUSDT")
    prices, _, opened, _ = listened([], seconds=1.0, markets=("SOL-USD",), outside_symbols=pairs)
    assert prices == []
    assert opened == []
    _, _, opened, _ = listened([], 1.0, (BTC, "BTC-EUR", "SOL-USD"), outside_symbols=pairs)
    assert opened == ["/stream?streams=btcusdt@bookTicker"]


def test_a_reader_that_lags_gets_the_newest_price_of_each_market():
    async def program():
        server = StreamServer()
        server.scripts[PATH] = [sending(*(ticker(n, str(100 + n), str(100 + n)) for n in range(1, 60)))]
        await server.start()
        settings = OutsideSettings(OutsideVenue.BINANCE, outside_url=server.url)
        feed = outside_feed(settings, SETTINGS, LoopClock(asyncio.get_running_loop(), START_NS))
        prices = feed.prices((BTC, ETH))
        first = await anext(prices)
        await asyncio.sleep(1.0)
        second = await anext(prices)
        await prices.aclose()
        await feed.close()
        await server.stop()
        return first, second, server.live

    first, second, live = in_virtual_time(program)
    assert first.price < second.price == 159
    assert live == 0


def test_without_a_venue_there_is_no_feed():
    assert outside_feed(OutsideSettings(), SETTINGS, None) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"outside_symbols": ("BTC-USD",)}, "outside_symbols: expected MARKET=SYMBOL"),
        ({"outside_symbols": ("A=B", "A=C")}, "outside_symbols: expected each market once"),
        ({"outside_url": "https://fstream.binance.com"}, "outside_url: expected ws://"),
        ({"outside_url": "wss://me:secret@fstream.binance.com"}, "outside_url: expected ws://"),
    ],
)
def test_settings_that_lead_nowhere_are_refused(changes, expected):
    with pytest.raises(ValueError, match=expected):
        replace(OutsideSettings(), **changes)


def test_symbols_are_read_from_the_settings():
    assert OutsideSettings().symbols == {BTC: "BTCUSDT", ETH: "ETHUSDT"}
