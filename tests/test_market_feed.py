"""One market over real sockets in virtual time: in turn or lost, and never silent about it."""

import asyncio
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise

import pytest
from inside import in_virtual_time
from stream_server import SETTINGS, START_MS, START_NS, Peer, book, delta, frame, levels, serving, stay

from market_maker.domain import NS_PER_S, BestQuote, BookUpdate, Side, Trade
from market_maker.exchanges.market_feed import market_feed
from market_maker.exchanges.side_streams import MAX_BACKLOG
from market_maker.gateway import FundingRate, IndexPrice, MarketNotFound, MarkPrice, StreamLost
from market_maker.instrument import Instrument

BTC = Instrument("BTC-USD", tick=Decimal(1), step=Decimal(1), min_size=Decimal(1))
BOOK = "/orderbooks/BTC-USD"
BEST = "/orderbooks/BTC-USD?depth=1"
TRADES = "/publicTrades/BTC-USD"
MARK = "/prices/mark/BTC-USD"
INDEX = "/prices/index/BTC-USD"
FUNDING = "/funding/BTC-USD"


def best(seq, bid, ask=None):
    data = {
        "t": "SNAPSHOT",
        "m": "BTC-USD",
        "b": levels([(bid, 1)], change=False),
        "a": levels([(ask or bid + 1, 1)], change=False),
    }
    return frame(data, seq, "SNAPSHOT")


def trades(seq, *ids, ms=START_MS):
    rows = [{"m": "BTC-USD", "S": "BUY", "tT": "TRADE", "T": ms, "p": "101", "q": "1", "i": i} for i in ids]
    return frame(rows, seq)


def mark(seq, price, kind="MP"):
    return frame({"m": "BTC-USD", "p": str(price), "ts": START_MS}, seq, kind)


def index(seq, price):
    return mark(seq, price, "IP")


def funding(seq, rate):
    return frame({"m": "BTC-USD", "T": START_MS, "f": str(rate)}, seq)


def says(*frames):
    """Send frames, then stay."""

    async def script(peer: Peer):
        await peer.send(*frames)
        await peer.stay()

    return script


def says_and_closes(*frames):
    async def script(peer: Peer):
        await peer.send(*frames)
        await peer.socket.close(code=1001)

    return script


async def deaf(peer: Peer):
    """A snapshot, and then neither a frame nor a pong."""
    await peer.send(book(1))
    await peer.stay(pong=False)


async def lively(peer: Peer):
    """A book that moves each second."""
    hearing = asyncio.ensure_future(peer.stay())
    seq = 1
    await peer.send(book(1))
    while not hearing.done():
        await asyncio.sleep(1)
        seq += 1
        await peer.send(delta(seq))


class Heard:
    """What a feed gave, when, and what it left out."""

    def __init__(self, events, unknown, server):
        self.timed = events
        self.events = [event for _, event in events]
        self.unknown = unknown
        self.server = server

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def books(self):
        """Book events: the sequence number of an update, the word "lost" for a loss."""
        return [
            event.seq if isinstance(event, BookUpdate) else "lost"
            for event in self.events
            if isinstance(event, BookUpdate | StreamLost)
        ]

    @property
    def whys(self):
        return [event.why for event in self.of(StreamLost)]


def watched(scripts, seconds=10.0, *, settings=SETTINGS):
    """Read a feed for so long against scripts by path."""

    async def program():
        async with serving() as (server, connect, clock):
            server.scripts.update({path: list(of) for path, of in scripts.items()})
            unknown = Counter()
            events = []
            feed = market_feed(connect, BTC, settings, clock, unknown)
            loop = asyncio.get_running_loop()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while (event := await anext(feed, None)) is not None:
                        events.append((loop.time(), event))
            await feed.aclose()
            return Heard(events, unknown, server)

    return in_virtual_time(program)


def test_six_streams_become_one():
    heard = watched(
        {
            BOOK: [says(book(1), delta(2))],
            BEST: [says(best(1, 100))],
            TRADES: [says(trades(1, 7))],
            MARK: [says(mark(1, "100.5"))],
            INDEX: [says(index(1, "100.25"))],
            FUNDING: [says(funding(1, "0.000013"))],
        },
        1.0,
    )
    assert {opened.path for opened in heard.server.opened} == {BOOK, BEST, TRADES, MARK, INDEX, FUNDING}
    assert heard.books == [1, 2]
    assert [quote[1:5] for quote in heard.of(BestQuote)] == [(100, 1, 101, 1)]
    assert [(trade.trade_id, trade.taker_side) for trade in heard.of(Trade)] == [(7, Side.BUY)]
    assert [event.price for event in heard.of(MarkPrice)] == [Decimal("100.5")]
    assert [event.price for event in heard.of(IndexPrice)] == [Decimal("100.25")]
    assert [event.rate for event in heard.of(FundingRate)] == [Decimal("0.000013")]
    assert heard.unknown == {}
    assert all(START_NS <= update.recv_ns < START_NS + NS_PER_S for update in heard.of(BookUpdate))


def test_the_book_comes_first():
    async def late(peer: Peer):
        await asyncio.sleep(2)
        await peer.send(book(1))
        await peer.stay()

    heard = watched({BOOK: [late], MARK: [says(mark(1, 5), mark(2, 6))], TRADES: [says(trades(1, 1, 2))]})
    assert isinstance(heard.events[0], BookUpdate)
    assert len(heard.events) == 4
    assert heard.of(MarkPrice)[0].price == 6


def test_a_snapshot_of_each_minute_is_in_turn_like_any_frame():
    heard = watched({BOOK: [says(book(1), delta(2), book(3), delta(4), book(5))]})
    assert heard.books == [1, 2, 3, 4, 5]


def test_a_full_book_of_more_than_a_mebibyte():
    big = book(1, [(price, "1.000000") for price in range(1, 40_000)])
    assert len(big) > 2**20
    heard = watched({BOOK: [says(big, delta(2))]})
    assert heard.books == [1, 2]
    assert len(heard.of(BookUpdate)[0].bids) == 39_999


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ((book(1), delta(2), delta(4)), "expected book frame 3, was 4"),
        ((book(1), delta(2), book(4)), "expected book frame 3, was 4"),
        ((book(1), delta(3), delta(2)), "expected book frame 2, was 3"),
        ((book(1), delta(2), delta(1)), "expected book frame 3, was 1"),
        ((book(1), delta(2)[:40]), "expected a book frame"),
        ((book(1), b"no JSON"), "expected a book frame"),
        ((book(1), b"{}"), "expected a book frame"),
        ((book(1), delta(2, [(99, "0.5")])), "expected a multiple of 1, was 0.5"),
        ((book(1), book(2, market="ETH-USD")), "was SNAPSHOT of ETH-USD"),
    ],
)
def test_a_book_out_of_turn_or_corrupt_is_lost_once_and_resumes_with_a_snapshot(frames, why):
    """lessons.md §1.11, §2: a gap of the sequence is a reason to trust nothing until the next snapshot."""
    heard = watched({BOOK: [says(*frames, delta(9)), says(book(1), delta(2))]})
    lost = heard.books.index("lost")
    assert heard.books.count("lost") == 1
    assert all(isinstance(seq, int) and seq < 4 for seq in heard.books[:lost])
    assert heard.books[lost + 1 :] == [1, 2]
    assert heard.of(BookUpdate)[lost].is_snapshot
    assert why in heard.whys[0]
    assert heard.of(StreamLost)[0].market == "BTC-USD"
    times = [at_s for at_s, event in heard.timed if isinstance(event, BookUpdate)]
    assert times[lost] - times[lost - 1] < 0.3


def test_a_book_that_begins_with_a_change_is_lost():
    heard = watched({BOOK: [says(delta(2)), says(book(1))]})
    assert heard.books == ["lost", 1]
    assert "a snapshot at the start of the book" in heard.whys[0]


def test_the_same_frame_twice_is_dropped():
    heard = watched({BOOK: [says(book(1), book(1), delta(2), delta(2), delta(3))]})
    assert heard.books == [1, 2, 3]
    assert heard.unknown == {"book frame twice": 2}


def test_a_size_change_at_the_best_price_is_an_event():
    """lessons.md §1.11: what changes the size only wakes the bot as well; sizes are absolute."""
    heard = watched({BOOK: [says(book(1), delta(2, [(100, 5)]), delta(3, [(55, 0)]))]})
    assert [update.bids for update in heard.of(BookUpdate)] == [[(100, 1)], [(100, 5)], [(55, 0)]]


def test_a_closed_stream_comes_back():
    """lessons.md §3: the stream closes and never comes back."""
    heard = watched({BOOK: [says_and_closes(book(1)), 503, 503, says(book(1))]}, 20)
    assert heard.books == [1, "lost", 1]
    assert heard.whys[0].startswith("closed by the exchange: 1001")


def test_open_and_silent_without_pongs_is_lost_within_two_pings():
    """lessons.md §3: it is open and silent, and the bot quotes on a dead book."""
    heard = watched({BOOK: [deaf, lively]}, 20)
    lost_s = next(at_s for at_s, event in heard.timed if isinstance(event, StreamLost))
    assert 5 <= lost_s < 5.1
    assert heard.books[:3] == [1, "lost", 1]


def test_open_and_silent_with_pongs_is_lost_after_the_named_silence():
    """lessons.md §3, the same with a server that answers pings: the book has a snapshot each minute."""
    heard = watched({BOOK: [says(book(1)), lively]}, 100)
    lost_s = next(at_s for at_s, event in heard.timed if isinstance(event, StreamLost))
    assert 90 <= lost_s < 90.1
    assert heard.whys == ["no frame for 90 s"]
    assert heard.books[2] == 1


@pytest.mark.slow
def test_quiet_is_not_stale():
    """lessons.md §2: a book that changes nothing but has its snapshot each minute is alive."""

    async def quiet(peer: Peer):
        hearing = asyncio.ensure_future(peer.stay())
        for seq in range(1, 61):
            await peer.send(book(seq))
            await asyncio.sleep(60)
        await hearing

    heard = watched({BOOK: [quiet]}, 3000)
    assert heard.books == list(range(1, 51))


def test_an_empty_change_keeps_its_place():
    heard = watched({BOOK: [says(book(1), delta(2, ()), delta(3))]})
    assert heard.books == [1, 2, 3]


def test_a_flapping_book_says_so_once_each_time_and_is_no_storm():
    """lessons.md §2: resubscribe with backoff, so that a flapping link is no storm of mass cancels."""
    heard = watched({BOOK: [says_and_closes(book(1))]}, 60)
    assert 15 <= heard.books.count("lost") <= 32
    assert all(a != b for a, b in pairwise(heard.books))


def test_an_outage_is_said_once_however_often_it_is_tried():
    heard = watched({BOOK: [says_and_closes(book(1)), *[503] * 12, says(book(1))]}, 60)
    assert heard.books == [1, "lost", 1]


def test_an_exchange_that_is_down_at_first_is_waited_for():
    heard = watched({BOOK: [503, 503, says(book(1))], MARK: [503, says(mark(1, 5))]})
    assert heard.books == ["lost", 1]
    assert "refused the stream /orderbooks/BTC-USD: HTTP 503" in heard.whys[0]
    assert heard.of(MarkPrice)[0].price == 5
    assert heard.unknown == {"mark stream lost": 1}


def test_a_market_that_is_not_there_ends_the_feed():
    with pytest.raises(MarketNotFound, match="/orderbooks/BTC-USD: HTTP 404"):
        watched({BOOK: [404]})


def test_a_stream_beside_the_book_that_is_not_there_does_not():
    heard = watched({BOOK: [says(book(1))], INDEX: [404]})
    assert heard.books == [1]
    assert heard.unknown["index stream lost"] > 3


def test_a_server_that_restarts_in_mid_stream():
    async def program():
        async with serving() as (server, connect, clock):
            server.scripts[BOOK] = [lively]
            unknown = Counter()
            events = []

            async def read():
                feed = market_feed(connect, BTC, SETTINGS, clock, unknown)
                while True:
                    events.append(await anext(feed))

            reading = asyncio.ensure_future(read())
            await asyncio.sleep(10.5)
            await server.stop()
            await asyncio.sleep(30)
            down = len(events)
            await server.start()
            await asyncio.sleep(10)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            return events[:down], events[down:]

    before, after = in_virtual_time(program)
    assert isinstance(before[-1], StreamLost)
    assert sum(isinstance(event, StreamLost) for event in before + after) == 1
    assert after[0].is_snapshot
    assert len(after) > 5


@pytest.mark.parametrize(
    ("path", "frames", "kind", "seen", "counted"),
    [
        (MARK, (mark(1, 1), mark(2, 2), mark(5, 5)), MarkPrice, 5, {"mark gap": 1}),
        (MARK, (mark(1, 1), mark(3, 3)), MarkPrice, 3, {"mark gap": 1}),
        (MARK, (mark(4, 4), mark(3, 3)), MarkPrice, 4, {"mark frame late or twice": 1}),
        (INDEX, (index(1, 1), index(1, 1)), IndexPrice, 1, {"index frame late or twice": 1}),
        (FUNDING, (funding(1, 1), funding(9, 9)), FundingRate, 9, {"funding gap": 1}),
        (BEST, (best(1, 90), best(3, 93)), BestQuote, 93, {"best quote gap": 1}),
        (MARK, (mark(0, 1), mark(0, 2)), MarkPrice, 2, {}),
        (MARK, (mark(1, 1), mark(2, 7, "XP"), mark(3, 3)), MarkPrice, 3, {"mark frame XP": 1, "mark gap": 1}),
    ],
)
def test_gaps_beside_the_book_are_counted_and_skipped(path, frames, kind, seen, counted):
    heard = watched({BOOK: [says(book(1))], path: [says(*frames)]}, 1.0)
    last = heard.of(kind)[-1]
    assert (last.bid_ticks if kind is BestQuote else last.rate if kind is FundingRate else last.price) == seen
    assert heard.unknown == counted
    assert heard.books == [1]


@pytest.mark.parametrize("path", [BEST, TRADES, MARK, INDEX, FUNDING])
def test_a_corrupt_frame_beside_the_book_is_counted_and_the_connection_renewed(path):
    good = {BEST: best, TRADES: trades, MARK: mark, INDEX: index, FUNDING: funding}[path]
    heard = watched({BOOK: [says(book(1))], path: [says(good(1, 50)[:-9]), says(good(1, 60))]})
    assert heard.books == [1]
    assert len(heard.events) == 2
    assert sum(heard.unknown.values()) == 1
    assert next(iter(heard.unknown)).endswith("frame corrupt")
    assert len(heard.server.tries(path)) == 2


def test_trades_come_once_whatever_is_repeated():
    """lessons.md §2: trades are delivered twice at times."""
    heard = watched(
        {
            BOOK: [says(book(1))],
            TRADES: [says_and_closes(trades(1, 1, 2), trades(2, 2, 3)), says(trades(1, 1, 2, 3, 4))],
        }
    )
    assert [trade.trade_id for trade in heard.of(Trade)] == [1, 2, 3, 4]
    assert heard.unknown == {"trade twice": 4, "trades stream lost": 1}


def test_trades_that_come_late_are_trades_all_the_same():
    heard = watched({BOOK: [says(book(1))], TRADES: [says(trades(1, 1), trades(3, 3), trades(2, 2))]})
    assert [trade.trade_id for trade in heard.of(Trade)] == [1, 3, 2]
    assert heard.unknown == {"trades gap": 1, "trades frame late or twice": 1}


def test_trades_repeated_to_whoever_connects_are_not_of_now():
    past = trades(1, 1, 2, ms=START_MS - 60_000).replace(f'"ts": {START_MS - 60_000}'.encode(), b"")
    assert b'"ts": ' + str(START_MS).encode() in past
    heard = watched({BOOK: [says(book(1))], TRADES: [says(past, trades(2, 3))]})
    assert [trade.trade_id for trade in heard.of(Trade)] == [3]
    assert heard.unknown == {"trade long past": 2}


def test_a_trade_that_is_forgotten_is_long_past_when_it_comes_again():
    then, later = f'"ts": {START_MS}'.encode(), f'"ts": {START_MS + 10_001}'.encode()
    again = trades(2, 1).replace(then, later)
    heard = watched({BOOK: [says(book(1))], TRADES: [says(trades(1, 1), again, trades(3, 2))]})
    assert [trade.trade_id for trade in heard.of(Trade)] == [1, 2]
    assert heard.unknown == {"trade long past": 1}


def test_frames_from_the_future_are_frames():
    ahead = START_MS + 3_000
    heard = watched({BOOK: [says(book(1).replace(str(START_MS).encode(), str(ahead).encode()), delta(2))]})
    assert heard.books == [1, 2]
    assert heard.of(BookUpdate)[0].venue_ns > heard.of(BookUpdate)[0].recv_ns


def test_fields_and_types_that_nobody_documented_are_tolerated_and_counted():
    odd = [
        book(1).replace(b'"d": "f"', b'"d": "f", "new": [{"x": 1}]'),
        b'{"type":"NOTICE","data":["maintenance at noon"],"ts":1,"seq":2}',
        delta(3),
        b'{"type":"HEARTBEAT"}',
        delta(4),
    ]
    heard = watched({BOOK: [says(*odd)]})
    assert heard.books == [1, 3, 4]
    assert heard.unknown == {"book frame NOTICE": 1, "book frame HEARTBEAT": 1}


def test_mark_and_index_that_fall_silent_are_asked_for_again():
    heard = watched({BOOK: [lively], MARK: [says(mark(1, 5)), says(mark(1, 6))]}, 100)
    assert [event.price for event in heard.of(MarkPrice)] == [5, 6]
    assert heard.unknown["mark stream lost"] == 1
    assert len(heard.server.tries(FUNDING)) == len(heard.server.tries(TRADES)) == 1


def test_a_reader_that_lags_gets_the_last_values_and_every_change():
    async def program():
        async with serving() as (server, connect, clock):
            server.scripts[BOOK] = [says(book(1), *[delta(seq) for seq in range(2, 301)])]
            server.scripts[BEST] = [says(*[best(seq, 50 + seq) for seq in range(1, 301)])]
            feed = market_feed(connect, BTC, SETTINGS, clock, Counter())
            events = [await anext(feed)]
            await asyncio.sleep(3)
            async with asyncio.timeout(1):
                while len(events) < 301:
                    events.append(await anext(feed))
            await feed.aclose()
            return events

    events = in_virtual_time(program)
    assert [event.seq for event in events if isinstance(event, BookUpdate)] == list(range(1, 301))
    assert [event.bid_ticks for event in events if isinstance(event, BestQuote)] == [350]


def test_a_reader_that_has_stopped_does_not_fill_the_memory():
    async def flooding(peer: Peer):
        await peer.send(book(1), *[delta(seq) for seq in range(2, MAX_BACKLOG + 500)])
        await peer.stay()

    async def program():
        async with serving() as (server, connect, clock):
            server.scripts[BOOK] = [flooding, lively]
            server.scripts[TRADES] = [says(*[trades(seq, seq) for seq in range(1, 50)])]
            unknown = Counter()
            feed = market_feed(connect, BTC, SETTINGS, clock, unknown)
            await anext(feed)
            await asyncio.sleep(30)
            events = [await anext(feed) for _ in range(5)]
            await feed.aclose()
            return events, unknown

    events, unknown = in_virtual_time(program)
    assert events[0] == StreamLost("BTC-USD", f"{MAX_BACKLOG} events were not read")
    assert next(event for event in events if isinstance(event, BookUpdate)).is_snapshot
    assert unknown["market event left unread"] >= MAX_BACKLOG


def test_it_ends_with_the_connector():
    async def program():
        async with serving() as (server, connect, clock):
            server.scripts[BOOK] = [lively]
            feed = market_feed(connect, BTC, SETTINGS, clock, Counter())
            await anext(feed)
            await connect._session.close()
            return [event async for event in feed]

    assert not any(isinstance(event, StreamLost) for event in in_virtual_time(program))


@pytest.mark.parametrize("steps", [0, 1, 3, 6, 9, 12, 15, 20, 30, 50, 100])
def test_cancelled_at_any_step_no_task_and_no_connection_is_left(steps):
    async def program():
        async with serving() as (server, connect, clock):
            server.scripts.update(
                {BOOK: [says_and_closes(book(1))], MARK: [deaf], TRADES: [stay], INDEX: [503]}
            )
            feed = market_feed(connect, BTC, SETTINGS, clock, Counter())

            async def read():
                async for _ in feed:
                    pass

            reading = asyncio.ensure_future(read())
            for _ in range(steps):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            left = [task for task in asyncio.all_tasks() if "Link.run" in repr(task)]
            await asyncio.sleep(2)
            return left, server.live

    assert in_virtual_time(program) == ([], 0)
