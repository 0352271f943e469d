"""One market on paper: what is heard of it and what we send, through the fill engine as it comes.

Frames become rows by the code that converts recordings, and rows and requests meet in the engine that runs
backtests: a recording of the same frames with the same requests fills alike, to the lot.

The engine lives on the venue's clock, which ours is compared with by the least delay of what is heard lately;
the offset of the clocks is in it, and cannot be told apart. So an order leaves at the instant whose news was
just heard, and its latency holds the way of the news too. The engine runs behind the market by the time that
a reply takes: by then frames that overtook each other are in order again, and what became of an order is
known when word of it would have come.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np

from market_maker.domain import NS_PER_S, BestQuote, BookUpdate, NewOrder, Side, Trade
from market_maker.exchanges.records import record_of
from market_maker.fills.engine import ActionRow, FillEngine
from market_maker.fills.rows import MarketRow, RequestKind, StrategyRow, rows_of
from market_maker.gateway import Fees, MarketEvent
from market_maker.instrument import Instrument
from market_maker.kernel import write_row
from market_maker.recordings.findings import Findings
from market_maker.recordings.hour_folding import HourFolding
from market_maker.recordings.segment_source import FOREVER_NS, Translator, Waiting
from market_maker.recordings.segments import LostRecord
from market_maker.recordings.store import Hour

RATE_PARTS: Final = 10**9
_LOOK_BACK_NS: Final = 60 * NS_PER_S
_LARGEST: Final = 2**62
# Most orders of ours in a market, whatever the exchange allows: the engine looks at each for many things.
_MOST_ORDERS: Final = 500
_SPARE_ORDERS: Final = 64
_NO_ROWS: Final = Hour(
    np.zeros(0, np.int64),
    np.zeros(0, np.int32),
    np.zeros(0, np.uint8),
    np.zeros(0, np.int32),
    np.zeros(0, np.uint32),
)


class FeedDelay:
    """Least delay of frames, from the venue's stamp to our clock, over the last one to two minutes."""

    def __init__(self) -> None:
        self._before_ns = self._now_ns = FOREVER_NS
        self._since_ns = 0

    @property
    def is_known(self) -> bool:
        """Whether any frame was heard."""
        return min(self._before_ns, self._now_ns) < FOREVER_NS

    @property
    def ns(self) -> int:
        """The delay; 0 while nothing was heard. It may be negative: the clocks differ."""
        return min(self._before_ns, self._now_ns) if self.is_known else 0

    def note(self, venue_ns: int, recv_ns: int) -> None:
        """Take a frame's stamps in."""
        if recv_ns - self._since_ns >= _LOOK_BACK_NS:
            self._before_ns, self._now_ns = self._now_ns, FOREVER_NS
            self._since_ns = recv_ns
        self._now_ns = min(self._now_ns, recv_ns - venue_ns)


class Terms(NamedTuple):
    """How orders are matched in a market: the exchange's rules, and how ours fill, travel and pay."""

    rules: MarketRow
    fills: StrategyRow


class PaperMarket:
    """A market's fill engine, fed event by event.

    Parameters
    ----------
    terms : Terms
        How orders are matched.
    delay : FeedDelay
        Of all markets of an exchange together.
    funding_every_s : float
        Time between two instants of funding, s.
    take : callable
        Told of each line of the engine's log, in order: the instant on our clock, and the line.

    Attributes
    ----------
    has_book : bool
        Whether a book was heard: before that nothing can be said of an order.
    fees : Fees
        Rates that fills are charged.
    round_trip_s : float
        From sending to hearing, s.
    """

    def __init__(
        self,
        instrument: Instrument,
        terms: Terms,
        delay: FeedDelay,
        funding_every_s: float,
        take: Callable[[int, Any], None],
    ) -> None:
        self.instrument = instrument
        self.has_book = False
        self.most_orders = max(1, min(instrument.max_open_orders, _MOST_ORDERS))
        self._delay = delay
        self._take = take
        maker, taker = terms.fills.maker_fee_ppb, terms.fills.taker_fee_ppb
        self.fees = Fees(Decimal(maker) / RATE_PARTS, Decimal(taker) / RATE_PARTS)
        self.round_trip_s = (terms.fills.request_ns + terms.fills.reply_ns) / NS_PER_S
        self._lag_ns = terms.fills.reply_ns
        # What the lag is for is not to be waited for again.
        fills = replace(terms.fills, reply_ns=0, cancel_reply_ns=0)
        self._engine = FillEngine(terms.rules, [fills], orders_each=2 * self.most_orders + _SPARE_ORDERS)
        self._request_ns = min(fills.request_ns, fills.cancel_request_ns)
        self._waiting = Waiting()
        self._translator = Translator(instrument.tick, Findings(), round(funding_every_s * NS_PER_S))
        self._folding = HourFolding(instrument.name, Findings())
        self._actions: list[ActionRow] = []
        self._numbered = 0
        self._reached_ns = 0

    def hear(self, event: MarketEvent, now_ns: int) -> None:
        """Take in what the market told."""
        record = record_of(event, now_ns)
        if isinstance(event, BookUpdate | BestQuote | Trade):
            self.has_book = self.has_book or (isinstance(event, BookUpdate) and event.is_snapshot)
            self._delay.note(event.venue_ns, event.recv_ns)
        if isinstance(record, LostRecord):
            self._lose(record)
        else:
            self._waiting.push(record)

    def _lose(self, record: LostRecord) -> None:
        """What came before a loss is told before it."""
        for stamp_ns, waiting in self._waiting.until(FOREVER_NS):
            self._translator.add(waiting, self._stamp(stamp_ns))
        self._translator.add(record, self._reached_ns)
        self._run(self._reached_ns)

    def send(self, order: NewOrder, replaced: int, now_ns: int) -> int:
        """Send an order, in the place of another where `replaced` is not 0; its number in the engine."""
        self._numbered += 1
        kind = RequestKind.REPLACE if replaced else RequestKind.PLACE
        self._act(
            ActionRow(
                kind=int(kind),
                side=int(order.side),
                price_ticks=order.price_ticks,
                lots=order.size_lots,
                post_only=order.post_only,
                immediate=order.immediate_or_cancel,
                reduce_only=order.reduce_only,
                expire_ns=order.expire_ns - self._delay.ns,
                target_id=replaced,
            ),
            now_ns,
        )
        return self._numbered

    def cancel(self, number: int, now_ns: int) -> None:
        """Ask for the cancel of an order by its number."""
        self._act(ActionRow(kind=int(RequestKind.CANCEL), target_id=number), now_ns)

    def _act(self, action: ActionRow, now_ns: int) -> None:
        last_ns = self._actions[-1].now_ns if self._actions else self._reached_ns
        action.now_ns = max(last_ns, now_ns - self._delay.ns)
        self._actions.append(action)

    @property
    def next_ns(self) -> int:
        """When something is next to be done, on our clock; FOREVER_NS where nothing is."""
        first_ns = min(self._waiting.first_ns, int(self._engine.world.market[0].due_ns))
        if self._actions:
            first_ns = min(first_ns, self._actions[0].now_ns + self._request_ns)
        if first_ns >= _LARGEST or not self._delay.is_known:
            return FOREVER_NS
        return max(first_ns, self._reached_ns) + 1 + self._lag_ns + self._delay.ns

    def advance(self, now_ns: int) -> None:
        """Carry out everything that is certain by now, an instant of our clock."""
        if not self._delay.is_known:
            return
        until_ns = max(self._reached_ns, now_ns - self._delay.ns - self._lag_ns)
        for stamp_ns, record in self._waiting.until(until_ns):
            self._translator.add(record, self._stamp(stamp_ns))
        self._run(until_ns)

    def _stamp(self, stamp_ns: int) -> int:
        """Stamp of a row: one that comes too late is of the instant that was reached."""
        self._reached_ns = max(self._reached_ns, stamp_ns)
        return self._reached_ns

    def _rows(self) -> Iterator[Hour]:
        if not len(self._translator.found):
            return iter(())
        return chain(self._folding.feed(self._translator.found.take()), self._folding.finish())

    def _run(self, until_ns: int) -> None:
        """Play the rows that were translated, and all requests that are due before an instant."""
        actions = rows_of(ActionRow, len(self._actions))
        for place, action in enumerate(self._actions):
            write_row(actions[place : place + 1], action)
        cursor: Any = np.zeros(2, np.int64)
        for rows in self._rows():
            # Of one instant the market comes first, and more of it may follow.
            self._play(rows, actions, cursor, int(rows.venue_ns[-1]) - 1)
        if len(actions) > cursor[1] or self._engine.world.market[0].due_ns < until_ns:
            self._play(_NO_ROWS, actions, cursor, until_ns - 1)
        del self._actions[: int(cursor[1])]
        self._reached_ns = max(self._reached_ns, until_ns)

    def _play(self, rows: Hour, actions: Any, cursor: Any, end_ns: int) -> None:  # noqa: ANN401  (arrays)
        for log in self._engine.replay(rows, actions, cursor, end_ns):
            for line in log:
                self._take(int(line["ns"]) + self._delay.ns, line)


def warm_up() -> None:
    """Compile what paper trading needs, or load it from the cache."""
    name, at_ns = "WARM-UP", NS_PER_S
    instrument = Instrument(name, Decimal(1), Decimal(1), Decimal(1))
    terms = Terms(MarketRow(), StrategyRow())
    market = PaperMarket(instrument, terms, FeedDelay(), 1.0, lambda _at_ns, _line: None)
    book = BookUpdate(name, is_snapshot=True, bids=[(99, 9)], asks=[], seq=1, venue_ns=at_ns, recv_ns=at_ns)
    market.hear(book, at_ns)
    order = NewOrder(
        market=name,
        external_id="",
        side=Side.BUY,
        price_ticks=99,
        size_lots=1,
        post_only=True,
        reduce_only=False,
        immediate_or_cancel=False,
        expire_ns=_LARGEST,
        nonce=0,
    )
    market.send(order, 0, at_ns)
    market.advance(2 * at_ns)
