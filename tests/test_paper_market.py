"""A market on paper: time, order and funding of what is heard, and that it fills as a backtest does."""

import asyncio
from contextlib import suppress
from decimal import Decimal

import numpy as np
import pytest
from inside import BTC, Inside, in_virtual_time

from market_maker.cli.paper import paper_gateway
from market_maker.clock import Entropy
from market_maker.config import load_config
from market_maker.domain import NS_PER_MS, NS_PER_S, BookUpdate, NewOrder, Side, Trade
from market_maker.exchanges import paper_market
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.exchanges.paper_market import FeedDelay, PaperMarket, Terms
from market_maker.fills.engine import FillEngine
from market_maker.fills.rows import EventKind, MarketRow, QueueModel, StrategyRow
from market_maker.gateway import FundingRate, MarkPrice, StreamLost
from market_maker.instrument import Instrument
from market_maker.recorder import Recorder
from market_maker.recordings.conversion import convert, open_sources
from market_maker.recordings.segment_source import FOREVER_NS
from market_maker.recordings.store import open_store
from market_maker.session import Surroundings
from market_maker.strategy import MarketMakerStrategy
from market_maker.trade_journal import InlineSink, TradeJournal

X = "X-USD"
INSTRUMENT = Instrument(X, Decimal(1), Decimal(1), Decimal(1))
T0 = 1_767_571_200 * NS_PER_S
# Our clock is ahead of the exchange's by this and the way of the news.
BEHIND_MS = 330
REQUEST_MS, REPLY_MS = 50, 40
# Quotes so near that they fill often.
NEAR = (
    "offset_mode=fixed",
    "price_offset_per_level_percent=0.004",
    "num_levels=3",
    "min_edge_bps=0",
    "offset_latency_sigmas=0",
)
LATENCY = {"request_ns": REQUEST_MS * NS_PER_MS, "cancel_request_ns": REQUEST_MS * NS_PER_MS}


class Paper:
    """A market whose exchange is given by hand, in ms since T0 on the exchange's clock."""

    def __init__(self, funding_every_s=3600.0, **fills) -> None:
        self.lines = []
        row = StrategyRow(**(LATENCY | {"reply_ns": REPLY_MS * NS_PER_MS} | fills))
        self.market = PaperMarket(
            INSTRUMENT, Terms(MarketRow(), row), FeedDelay(), funding_every_s, self._take
        )

    def _take(self, at_ns, line) -> None:
        self.lines.append((round((at_ns - T0) / NS_PER_MS), EventKind(int(line["kind"])).name, line.copy()))

    def ours(self, at_ms, late_ms=0) -> int:
        """When we hear on our clock of what was at an instant there."""
        return T0 + (at_ms + BEHIND_MS + late_ms) * NS_PER_MS

    def book(self, at_ms, bids=(), asks=(), *, snapshot=False, late_ms=0):
        at_ns, heard_ns = T0 + at_ms * NS_PER_MS, self.ours(at_ms, late_ms)
        self._hear(BookUpdate(X, snapshot, list(bids), list(asks), 1, at_ns, heard_ns), heard_ns)

    def trade(self, at_ms, side, ticks, lots, late_ms=0, number=None):
        at_ns, heard_ns = T0 + at_ms * NS_PER_MS, self.ours(at_ms, late_ms)
        number = at_ms if number is None else number
        self._hear(Trade(X, number, side, ticks, lots, at_ns, heard_ns), heard_ns)

    def mark(self, at_ms, price):
        self._hear(MarkPrice(X, Decimal(price), T0 + at_ms * NS_PER_MS), self.ours(at_ms))

    def funding(self, at_ms, rate):
        self._hear(FundingRate(X, Decimal(rate), T0 + at_ms * NS_PER_MS), self.ours(at_ms))

    def lose(self, at_ms):
        self._hear(StreamLost(X, "gone"), self.ours(at_ms))

    def _hear(self, event, heard_ns):
        self.market.hear(event, heard_ns)

    def send(self, at_ms, side, ticks, lots, replaced=0, **changes):
        """Send an order at our clock's reading of an instant there; its number."""
        given = {
            "post_only": True,
            "reduce_only": False,
            "immediate_or_cancel": False,
            "expire_ns": self.ours(at_ms) + 3600 * NS_PER_S,
            "nonce": 1,
        }
        order = NewOrder(X, "o", side, ticks, lots, **(given | changes))
        return self.market.send(order, replaced, self.ours(at_ms))

    def until(self, at_ms):
        """Let our clock get to its reading of an instant there; what the log says since."""
        before = len(self.lines)
        self.market.advance(self.ours(at_ms))
        return [(at, kind) for at, kind, _ in self.lines[before:]]


@pytest.fixture
def paper():
    made = Paper()
    made.book(0, [(99, 10)], [(101, 10)], snapshot=True)
    return made


def test_an_order_rests_once_word_of_it_would_have_come(paper):
    paper.send(100, Side.BUY, 99, 4)
    assert paper.market.next_ns <= paper.ours(100 + REQUEST_MS + REPLY_MS) + 1
    assert paper.until(100 + REQUEST_MS + REPLY_MS) == [(430, "SENT")]
    # Told on our clock: at the exchange it was 330 ms earlier.
    assert paper.until(101 + REQUEST_MS + REPLY_MS) == [(100 + REQUEST_MS + BEHIND_MS, "ACCEPTED")]
    assert paper.market.next_ns > paper.ours(1_000)


def test_trades_fill_what_is_behind_the_queue_and_no_more(paper):
    paper.send(100, Side.BUY, 99, 4)
    paper.trade(200, Side.SELL, 99, 12)
    paper.trade(210, Side.SELL, 99, 1)
    paper.until(400)
    fills = [
        (line["lots"].item(), line["remaining_lots"].item())
        for _, kind, line in paper.lines
        if kind == "FILL"
    ]
    assert fills == [(2, 2), (1, 1)]


def test_frames_that_overtook_each_other_are_put_in_order(paper):
    """The book shows what is left after the trade; heard before it, it would say that others had left."""
    for late_ms in (0, 30):
        made = Paper(queue_model=int(QueueModel.RISK_AVERSE))
        made.book(0, [(99, 10)], [(101, 10)], snapshot=True)
        made.send(100, Side.BUY, 99, 4)
        if late_ms:
            made.book(201, [(99, 3)])
        made.trade(200, Side.SELL, 99, 7, late_ms)
        if not late_ms:
            made.book(201, [(99, 3)])
        made.trade(210, Side.SELL, 99, 4)
        made.until(400)
        assert [line["lots"].item() for _, kind, line in made.lines if kind == "FILL"] == [1]


def test_a_frame_that_comes_too_late_counts_when_it_comes(paper):
    paper.send(100, Side.BUY, 99, 4)
    paper.until(400)
    paper.trade(300, Side.SELL, 98, 9, late_ms=200)
    assert paper.until(700) == [(400 - REPLY_MS + BEHIND_MS, "FILL")]


def test_a_lost_stream_fills_nothing_until_there_is_a_book_again(paper):
    paper.send(100, Side.BUY, 99, 4)
    paper.until(300)
    paper.lose(310)
    paper.book(320, [], [(98, 9)])
    assert paper.until(500) == []
    paper.book(520, [(97, 5)], [(99, 3)], snapshot=True)
    assert [kind for _, kind in paper.until(700)] == ["FILL"]


def test_before_a_snapshot_there_is_no_book():
    made = Paper()
    assert made.market.next_ns == FOREVER_NS
    made.until(1_000)
    made.mark(10, "100")
    made.book(20, [(99, 1)])
    assert not made.market.has_book
    made.book(30, [(99, 1)], snapshot=True)
    assert made.market.has_book


def test_funding_is_paid_once_an_hour_by_the_first_rate_after_it():
    made = Paper(funding_every_s=1.0)
    made.book(100, [(99, 10)], [(101, 10)], snapshot=True)
    made.mark(110, "100.5")
    made.funding(120, "0.5")  # what was paid last, or an estimate
    made.send(150, Side.BUY, 101, 4, post_only=False)
    made.funding(900, "0.3")
    made.funding(1_010, "0.001")
    made.funding(1_020, "0.4")
    made.funding(1_900, "0.2")
    made.funding(3_001, "-0.002")
    made.until(4_000)
    paid = [
        tuple(line[name].item() for name in ("lots", "price_ticks", "remaining_lots"))
        for _, kind, line in made.lines
        if kind == "FUNDING"
    ]
    assert paid == [(4, 1_000_000, 10_050), (4, -2_000_000, 10_050)]


def test_the_least_delay_is_that_of_the_last_minutes():
    delay = FeedDelay()
    assert (delay.ns, delay.is_known) == (0, False)
    for second, late_ns in ((0, 50), (10, 30), (70, 40), (100, 60), (140, 55), (210, 70)):
        delay.note(T0 + second * NS_PER_S, T0 + second * NS_PER_S + late_ns)
        assert delay.is_known
        # The minute that goes on and the one before it.
        assert delay.ns == {0: 50, 10: 30, 70: 30, 100: 30, 140: 40, 210: 55}[second]
    delay.note(T0 + 211 * NS_PER_S, T0 + 210 * NS_PER_S)
    assert delay.ns == -NS_PER_S


class Watched(FillEngine):
    """The engine as it is, with its requests and its log kept."""

    def __init__(self, market, strategies, **how) -> None:
        super().__init__(market, strategies, **how)
        self.given = market, strategies, how
        self.logs, self.acted = [], []

    def replay(self, hour, actions, cursor, end_ns):
        before = int(cursor[1])
        for log in super().replay(hour, actions, cursor, end_ns):
            self.logs.append(log)
            yield log
        self.acted.append(actions[before : int(cursor[1])].copy())


class Overheard:
    """What a recorder is told: the very frames that the session heard."""

    def __init__(self, public, heard) -> None:
        self.instruments = public.instruments
        self._heard = heard

    async def market_events(self, _market):
        while True:
            yield await self._heard.get()


class Told(InProcessGateway):
    """The exchange inside; what it tells is overheard."""

    def __init__(self, *given) -> None:
        super().__init__(*given)
        self.heard = asyncio.Queue()

    async def market_events(self, market):
        async for event in super().market_events(market):
            self.heard.put_nowait(event)
            yield event


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["choppy", "crash"])
def test_a_session_on_paper_fills_as_a_backtest_of_its_recording_to_the_last_bit(
    tmp_path, monkeypatch, scenario
):
    """The same engine on the same frames, as they came and as `mm record` and `mm data convert` have them."""
    made = []

    def watched(*given, **how):
        made.append(Watched(*given, **how))
        return made[-1]

    monkeypatch.setattr(paper_market, "FillEngine", watched)
    # So long that no frame is later than a reply: then both know the venue's order.
    config = load_config([f"markets={BTC}", "paper_latency_ms=250", *NEAR])

    async def main():
        inside = Inside(scenario)
        public = Told(inside.driver, inside.account_id)
        recorder = Recorder(Overheard(public, public.heard), tmp_path / "heard", inside.clock, "emulator")
        recording = asyncio.ensure_future(recorder.run([BTC]))
        await inside.until(2.0)
        gateway = paper_gateway(config, public, inside.clock)
        journal = TradeJournal(InlineSink((tmp_path / "journal").open("wb")), inside.clock)
        surroundings = Surroundings(gateway, config, inside.clock, Entropy(1), journal)
        outcome = await MarketMakerStrategy.run(surroundings, 100.0, lambda _strategy: None)
        recording.cancel()
        with suppress(asyncio.CancelledError):
            await recording
        await gateway.close()
        journal.close()
        return outcome

    outcome = in_virtual_time(main)
    assert outcome.strategy.books_agree
    [info] = convert(open_sources(tmp_path / "heard"), tmp_path / "store")
    [engine] = made
    live, actions = np.concatenate(engine.logs), np.concatenate(engine.acted)
    market, strategies, how = engine.given
    again = FillEngine(market, strategies, **how)
    cursor = np.zeros(2, np.int64)
    hours = list(open_store(tmp_path / "store").hours(BTC))
    pieces = [log for hour in hours for log in again.replay(hour, actions, cursor, int(live["ns"].max()))]
    fills = live[live["kind"] == EventKind.FILL]
    assert info.counts["level_bid"] > 1_000
    assert len(fills) > 10
    assert {1, -1} <= set(fills["side"].tolist())
    assert np.concatenate(pieces).tobytes() == live.tobytes()
