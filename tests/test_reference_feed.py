"""An outside venue in a session: its prices reach the desks, and nothing that happens to it ends anything."""

import asyncio
import json
from collections import Counter
from decimal import Decimal

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time

from market_maker.cli.connection import outside_in
from market_maker.cli.host import Seat, play_session
from market_maker.clock import Entropy, LoopClock, SystemClock
from market_maker.config import load_config
from market_maker.domain import NS_PER_S, Reason, Side
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.reference_feed import OutsidePrice, RecordedReference, hear_reference
from market_maker.reference_price import PriceSource

ETH = "ETH-USD"
HEARS = ("reference_source=outside", "reference_basis_s=5", "reference_stale_s=4", "reference_dead_s=8")


class Elsewhere:
    """A venue whose price is the exchange's, told twice a second, until it ends or fails."""

    def __init__(self, inside, seconds, failure=None):
        self.inside, self.seconds, self.failure = inside, seconds, failure
        self.unknown = Counter({"outside stream lost": 2})
        self.asked = []
        self.closed = False

    async def prices(self, markets):
        self.asked.append(tuple(markets))
        for _ in range(2 * self.seconds):
            await asyncio.sleep(0.5)
            mid = (self.inside.best(Side.BUY) + self.inside.best(Side.SELL)) / 2
            yield OutsidePrice(BTC, Decimal(mid), self.inside.clock.now_ns())
        if self.failure is not None:
            raise self.failure

    async def close(self):
        self.closed = True


def played(venue_seconds, seconds, *settings, during=None, **venue):
    """Trade beside a venue; the run and the venue."""

    async def program():
        inside = Inside()
        elsewhere = Elsewhere(inside, venue_seconds, **venue)

        async def watch(strategy):
            await inside.until(seconds - 1)
            desk = strategy.session.desks[BTC]
            return None if during is None else during(desk, strategy.orders)

        run = await inside.session(seconds, *HEARS, *settings, reference=elsewhere, during=watch)
        assert_sound(inside, run)
        return run, elsewhere

    return in_virtual_time(program)


def notes(run, kind):
    lines = [json.loads(line) for line in run.journal.decode().splitlines()]
    return [line for line in lines if kind in line.values()]


@pytest.mark.slow
def test_an_outside_price_is_heard_and_a_quiet_session_goes_on_as_before():
    reasons = []

    def look(desk, orders):
        reasons.extend(desk.side_reason(side, orders) for side in Side)

    run, elsewhere = played(60, 40, during=look)
    assert elsewhere.asked == [(BTC,)]
    assert all(reason < Reason.NO_BOOK for reason in reasons)
    assert notes(run, "reference_ended") == []
    # What the venue said that nobody knows is told as that of the exchange is.
    assert notes(run, "outside stream lost")


@pytest.mark.slow
@pytest.mark.parametrize("failure", [None, KeyError("a bug of the feed")])
def test_a_feed_that_ends_stops_new_risk_by_its_silence_and_nothing_else(failure):
    reasons = []
    run, _ = played(
        10,
        40,
        failure=failure,
        during=lambda desk, orders: reasons.extend(desk.side_reason(side, orders) for side in Side),
    )
    assert reasons == [Reason.REFERENCE_STALE] * 2
    [note] = notes(run, "reference_ended")
    assert ("a bug of the feed" if failure else "no more prices") in json.dumps(note)
    assert run.outcome.why == "time is up"


def test_prices_go_to_the_desk_of_their_market_at_the_time_they_are_heard():
    class Desk:
        def __init__(self):
            self.heard = []

        def on_price(self, source, price, now_ns):
            self.heard.append((source, price, now_ns))

    async def program():
        clock = LoopClock(asyncio.get_running_loop(), 50 * NS_PER_S)
        rows = [(1, BTC, 9), (2, BTC, 10), (2, "SOL-USD", 1), (3, ETH, 20), (7, BTC, 11)]
        prices = [OutsidePrice(market, Decimal(price), at * NS_PER_S) for at, market, price in rows]
        desks, woken = {BTC: Desk(), ETH: Desk()}, []
        await hear_reference(RecordedReference(prices, clock, 2 * NS_PER_S), desks, clock, woken.append)
        return desks, woken

    desks, woken = in_virtual_time(program)
    assert desks[BTC].heard == [
        (PriceSource.OUTSIDE, Decimal(10), 50 * NS_PER_S),
        (PriceSource.OUTSIDE, Decimal(11), 55 * NS_PER_S),
    ]
    assert desks[ETH].heard == [(PriceSource.OUTSIDE, Decimal(20), 51 * NS_PER_S)]
    assert woken == [desks[BTC], desks[ETH], desks[BTC]]


def test_a_recorded_reference_ends_when_it_is_closed():
    async def program():
        clock = LoopClock(asyncio.get_running_loop(), 0)
        prices = (OutsidePrice(BTC, Decimal(n + 1), n * NS_PER_S) for n in range(100))
        feed, heard = RecordedReference(prices, clock, 0), []
        async for price in feed.prices([BTC]):
            heard.append((price.price, price.venue_ns, clock.now_ns()))
            if len(heard) == 3:
                await feed.close()
        return heard

    assert in_virtual_time(program) == [(Decimal(n + 1), n * NS_PER_S, n * NS_PER_S) for n in range(3)]


@pytest.mark.slow
def test_the_host_closes_the_feed_with_the_gateway(tmp_path):
    async def program():
        inside = Inside()
        elsewhere = Elsewhere(inside, 60)
        config = load_config([f"markets={BTC}", f"journal_dir={tmp_path}", *HEARS])
        gateway = InProcessGateway(inside.driver, inside.account_id)
        seat = Seat(gateway, inside.clock, Entropy(1), str(inside.account_id), reference=elsewhere)
        return await play_session(seat, config, 5.0, show=False), elsewhere

    result, elsewhere = in_virtual_time(program)
    assert result.failure is None
    assert elsewhere.asked == [(BTC,)]
    assert elsewhere.closed


def made(*settings):
    async def program():
        feed = outside_in(load_config(["markets=BTC-USD,SOL-USD", *settings]), SystemClock())
        if feed is not None:
            await feed.close()
        return feed is not None

    return asyncio.run(program())


def test_a_feed_is_made_where_a_market_wants_one(capsys):
    assert not made("outside_venue=binance")
    assert capsys.readouterr().err == ""
    assert not made("reference_source=outside")
    assert "BTC-USD is quoted without a reference" in capsys.readouterr().err
    assert made("reference_source=outside", "outside_venue=binance")
    told = " ".join(capsys.readouterr().err.split())
    assert "SOL-USD is quoted without a reference" in told
    assert "SOL-USD to be among outside_symbols" in told
    assert "BTC-USD is quoted" not in told
    assert made("BTC-USD:reference_source=outside", "outside_venue=binance")
    assert capsys.readouterr().err == ""
