"""The account over a real socket in virtual time: in turn or lost, quiet for as long as it likes."""

import asyncio
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise

import pytest
from inside import in_virtual_time
from stream_server import KEY, SETTINGS, START_MS, Peer, frame, serving

from market_maker.domain import OrderState
from market_maker.exchanges.account_feed import MAX_BACKLOG, account_feed
from market_maker.gateway import (
    BalanceReport,
    CredentialsRefused,
    FillReport,
    OrderReport,
    PositionReport,
    StreamLost,
)
from market_maker.instrument import Instrument

BTC = Instrument("BTC-USD", tick=Decimal(1), step=Decimal(1), min_size=Decimal(1))
ETH = Instrument("ETH-USD", tick=Decimal(1), step=Decimal(1), min_size=Decimal(1))
MARKETS = {"BTC-USD": BTC, "ETH-USD": ETH}
ACCOUNT = "/account"
MONEY = {"balance": "100", "equity": "101", "availableForTrade": "90"}


def told(seq, kind, *, snapshot=False, **parts):
    return frame({"isSnapshot": snapshot} | parts, seq, kind)


def order(seq, status="NEW", market="BTC-USD", **changes):
    row = {
        "id": 1844000421446684673,
        "externalId": "mm-1",
        "market": market,
        "side": "BUY",
        "status": status,
        "qty": "2",
        "price": "100.000000",
        "updatedTime": START_MS,
    }
    return told(seq, "ORDER", orders=[row | changes])


def trade(seq, number=9):
    row = {
        "id": number,
        "market": "BTC-USD",
        "orderId": 5,
        "side": "BUY",
        "price": "100",
        "qty": "1",
        "fee": "0.01",
    }
    return told(seq, "TRADE", trades=[row | {"externalOrderId": "mm-1", "createdTime": START_MS}])


def position(market="BTC-USD", side="LONG", size="3"):
    return {"market": market, "side": side, "size": size, "openPrice": "100", "markPrice": "101"}


def positions(seq, *rows, snapshot=False):
    return told(seq, "POSITION", snapshot=snapshot, positions=list(rows))


def snapshots(*rows):
    """What the exchange says to whoever connects."""
    return (
        told(1, "ORDER", snapshot=True, orders=[]),
        told(2, "BALANCE", snapshot=True, balance=MONEY),
        positions(3, *rows, snapshot=True),
    )


def says(*frames):
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
    await peer.send(*snapshots())
    await peer.stay(pong=False)


class Heard:
    """What the feed gave, and what it counted."""

    def __init__(self, timed, unknown, server):
        self.timed = timed
        self.events = [event for _, event in timed]
        self.unknown = unknown
        self.server = server

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def kinds(self):
        return [type(event).__name__ for event in self.events]


def watched(*scripts, seconds=10.0):
    """Read the feed for so long against scripts, one a connection."""

    async def program():
        async with serving() as (server, connect, clock):
            server.scripts[ACCOUNT] = list(scripts)
            unknown = Counter()
            events = []
            feed = account_feed(connect, MARKETS, SETTINGS, clock, unknown)
            loop = asyncio.get_running_loop()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while (event := await anext(feed, None)) is not None:
                        events.append((loop.time(), event))
            await feed.aclose()
            return Heard(events, unknown, server)

    return in_virtual_time(program)


def test_snapshots_then_changes_in_their_order():
    heard = watched(
        says(*snapshots(position()), order(4), trade(5), order(6, "FILLED"), positions(7, position()))
    )
    assert heard.kinds == [
        "BalanceReport",
        "PositionReport",
        "OrderReport",
        "FillReport",
        "OrderReport",
        "PositionReport",
    ]
    assert [report.state for report in heard.of(OrderReport)] == [OrderState.LIVE, OrderState.FILLED]
    assert heard.of(OrderReport)[0].order_id == 1844000421446684673
    assert heard.of(FillReport)[0].fill.external_id == "mm-1"
    assert heard.unknown == {}
    assert heard.server.opened[0].headers["X-Api-Key"] == KEY


def test_any_mixture_of_kinds_in_one_frame():
    mixed = told(
        4,
        "ORDER",
        orders=[],
        trades=[],
        positions=[position(), position("ETH-USD", "SHORT", "2")],
        balance=MONEY,
    )
    heard = watched(says(*snapshots(), mixed))
    assert [(report.market, report.size_lots) for report in heard.of(PositionReport)] == [
        ("BTC-USD", 3),
        ("ETH-USD", -2),
    ]
    assert len(heard.of(BalanceReport)) == 2


def test_what_a_snapshot_of_positions_does_not_list_is_flat():
    heard = watched(
        says_and_closes(*snapshots(position(), position("ETH-USD", "SHORT"))), says(*snapshots(position()))
    )
    after = heard.events[heard.kinds.index("StreamLost") :]
    reports = {event.market: event for event in after if isinstance(event, PositionReport)}
    assert reports["BTC-USD"].size_lots == 3
    assert reports["ETH-USD"] == PositionReport(
        "ETH-USD", 0, Decimal(0), Decimal(0), None, START_MS * 1_000_000
    )


def test_a_snapshot_of_another_kind_or_a_change_flattens_nothing():
    heard = watched(
        says(*snapshots(position()), told(4, "BALANCE", snapshot=True, balance=MONEY), positions(5))
    )
    assert [report.size_lots for report in heard.of(PositionReport)] == [3]


def test_flat_is_said_once_and_a_closed_position_not_again():
    closed = position() | {"status": "CLOSED"}
    heard = watched(says(*snapshots(position()), positions(4, closed), positions(5, snapshot=True)))
    assert [report.size_lots for report in heard.of(PositionReport)] == [3, 0]


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        ((order(5),), "expected account frame 4, was 5"),
        ((order(4), order(3)), "expected account frame 5, was 3"),
        ((order(4)[:50],), "expected an account frame"),
        ((b"no JSON",), "expected an account frame"),
        ((order(4, side="BOTH"),), "expected side BUY or SELL, was BOTH"),
        ((order(4, price="100.5"),), "expected a multiple of 1, was 100.5"),
        ((positions(4, position(side="BUY")),), "LONG or SHORT"),
    ],
)
def test_out_of_turn_or_corrupt_is_lost_once_and_resumes_with_snapshots(frames, why):
    """lessons.md §2: a gap on either stream is a reason to trust it no more."""
    heard = watched(says(*snapshots(), *frames, order(9)), says(*snapshots(), order(4)))
    assert heard.kinds.count("StreamLost") == 1
    lost = heard.kinds.index("StreamLost")
    assert why in heard.events[lost].why
    assert heard.events[lost].market == ""
    assert heard.kinds[lost + 1 :] == ["BalanceReport", "OrderReport"]
    assert heard.timed[lost + 1][0] < 0.5


def test_a_stream_that_does_not_begin_at_one_missed_something():
    heard = watched(says(*snapshots()[1:]), says(*snapshots()))
    assert heard.kinds == ["StreamLost", "BalanceReport"]


def test_a_snapshot_of_the_orders_is_a_start_whatever_its_number():
    """Where numbers begin is seen in captures, and promised nowhere."""
    begun = (
        told(0, "ORDER", snapshot=True, orders=[]),
        told(1, "BALANCE", snapshot=True, balance=MONEY),
    )
    assert watched(says(*begun, order(2))).kinds == ["BalanceReport", "OrderReport"]
    lost = watched(says(*begun, order(3)), says(*snapshots()))
    assert lost.kinds == ["BalanceReport", "StreamLost", "BalanceReport"]


def test_a_closed_position_may_have_no_side():
    heard = watched(says(*snapshots(), positions(4, position(side="", size="0"))))
    assert heard.of(PositionReport)[0].size_lots == 0


def test_the_same_frame_twice_is_dropped():
    heard = watched(says(*snapshots(), trade(4), trade(4), order(5)))
    assert heard.kinds == ["BalanceReport", "FillReport", "OrderReport"]
    assert heard.unknown == {"account frame twice": 1}


def test_a_fill_told_twice_goes_to_the_ledger_twice_which_books_it_once():
    """lessons.md §2: trades are delivered twice at times; only the ledger knows those of the look-ups too."""
    heard = watched(says(*snapshots(), trade(4, number=9), trade(5, number=9)))
    assert [report.fill.trade_id for report in heard.of(FillReport)] == [9, 9]


def test_quiet_is_not_lost():
    """lessons.md §2: nothing happens on an account for hours, and pings say that it lives."""
    heard = watched(says(*snapshots()), seconds=7200.0)
    assert heard.kinds == ["BalanceReport"]
    assert len(heard.server.opened) == 1


@pytest.mark.parametrize("begin", [(), snapshots()[:1]])
def test_a_stream_that_opens_and_does_not_say_what_there_is_is_opened_anew(begin):
    """Its first words were lost, and an account without orders has no others to say."""
    heard = watched(says(*begin), says(*begin), says(*snapshots()), seconds=60.0)
    assert heard.kinds == ["StreamLost", "BalanceReport"]
    assert heard.events[0].why.startswith("expected the stream to say what there is within 10 s")
    assert 20.0 < heard.timed[1][0] < 22.0


def test_a_stream_that_never_begins_is_no_storm():
    heard = watched(*[says()] * 40, seconds=100.0)
    assert heard.kinds == ["StreamLost"]
    pauses = [later - before - 10.0 for before, later in pairwise(heard.server.tries(ACCOUNT))]
    assert pauses[0] < 0.3
    assert max(pauses[-3:]) > 1.5


def test_a_loss_after_a_position_was_said_to_be_gone_is_said():
    """That word alone says to the reader that the stream is back."""
    begun = (told(1, "ORDER", snapshot=True, orders=[]), positions(2, snapshot=True))
    heard = watched(says_and_closes(*snapshots(position())), says_and_closes(*begun), says(), seconds=5.0)
    assert heard.kinds[-3:] == ["StreamLost", "PositionReport", "StreamLost"]


def test_open_and_dead_is_lost_within_two_pings():
    """lessons.md §3: the stream is open and silent."""
    heard = watched(deaf, says(*snapshots()), seconds=20.0)
    assert heard.kinds == ["BalanceReport", "StreamLost", "BalanceReport"]
    assert heard.timed[1][0] < 5.1
    assert heard.events[1].why == "a ping was not answered within 5 s"


def test_a_closed_stream_comes_back():
    """lessons.md §3: the stream closes and never comes back."""
    heard = watched(says_and_closes(*snapshots()), 503, 503, says(*snapshots()))
    assert heard.kinds == ["BalanceReport", "StreamLost", "BalanceReport"]


def test_flapping_is_no_storm():
    heard = watched(says_and_closes(*snapshots()), seconds=60.0)
    assert 15 <= heard.kinds.count("StreamLost") <= 32
    assert all(a != b for a, b in pairwise(heard.kinds))


def test_an_exchange_that_is_down_at_first_is_waited_for():
    heard = watched(503, 503, 503, says(*snapshots()))
    assert heard.kinds == ["StreamLost", "BalanceReport"]
    assert heard.events[0].why.endswith("refused the stream /account: HTTP 503")


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_ends_the_feed_and_shows_no_key(status):
    """lessons.md §1.18: a 401 is fatal."""
    with pytest.raises(CredentialsRefused, match=f"HTTP {status}") as caught:
        watched(status)
    assert KEY not in repr(caught.value)


def test_a_key_that_is_revoked_in_mid_stream():
    with pytest.raises(CredentialsRefused):
        watched(says_and_closes(*snapshots()), 401)


def test_words_types_fields_and_markets_that_nobody_documented_are_counted():
    """lessons.md §2: an unknown enum value must not stop the bot."""
    heard = watched(
        says(
            *snapshots(),
            order(4, "SLEEPING", statusReason="BORED", extra={"x": []}),
            told(5, "SPOT_BALANCE", spotBalances=[]),
            told(6, "AIRDROP", gifts=[1]),
            frame(["a list"], 7, "NEWS"),
            frame(["a list"], 8, "DEPOSIT"),
            positions(9, position("DOGE-USD")),
            b'{"type":"HEARTBEAT"}',
            order(10),
        )
    )
    assert heard.kinds == ["BalanceReport", "OrderReport", "OrderReport"]
    assert heard.of(OrderReport)[0].state is OrderState.UNKNOWN
    assert heard.unknown == {
        "order status SLEEPING": 1,
        "status reason BORED": 1,
        "account frame AIRDROP": 1,
        "account frame NEWS": 1,
        "account frame HEARTBEAT": 1,
        "market DOGE-USD, not asked for": 1,
    }


def test_a_reader_that_has_stopped_does_not_fill_the_memory():
    async def program():
        async with serving() as (server, connect, clock):
            flood = says(*snapshots(), *[order(seq) for seq in range(4, MAX_BACKLOG + 100)])
            server.scripts[ACCOUNT] = [flood, says(*snapshots())]
            unknown = Counter()
            feed = account_feed(connect, MARKETS, SETTINGS, clock, unknown)
            first = await anext(feed)
            await asyncio.sleep(30)
            rest = [await anext(feed) for _ in range(2)]
            await feed.aclose()
            return [first, *rest], unknown

    events, unknown = in_virtual_time(program)
    assert [type(event) for event in events] == [BalanceReport, StreamLost, BalanceReport]
    assert unknown == {"account event left unread": MAX_BACKLOG}


def test_a_loss_that_nobody_has_read_is_not_cleared_away():
    async def program():
        async with serving() as (server, connect, clock):
            orders = [order(seq) for seq in range(4, MAX_BACKLOG + 3)]
            server.scripts[ACCOUNT] = [says_and_closes(*snapshots(), *orders), says(*snapshots())]
            feed = account_feed(connect, MARKETS, SETTINGS, clock, Counter())
            await anext(feed)
            # The loss is the last that there is room for.
            await asyncio.sleep(60)
            rest = [await anext(feed) for _ in range(2)]
            await feed.aclose()
            return rest

    lost, back = in_virtual_time(program)
    assert lost == StreamLost("", f"{MAX_BACKLOG} events were not read")
    assert isinstance(back, BalanceReport)


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 8, 12, 20, 40])
def test_cancelled_at_any_step_nothing_is_left(steps):
    async def program():
        async with serving() as (server, connect, clock):
            server.scripts[ACCOUNT] = [says_and_closes(*snapshots()), deaf]
            feed = account_feed(connect, MARKETS, SETTINGS, clock, Counter())

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
