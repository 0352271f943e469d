"""One market as the exchange tells it: six streams, a connection each, one iterator of events.

The book is what quotes are made of, so its stream is either in turn or lost: a gap, a corrupt frame, a close,
a ping without an answer or silence is said once, as `StreamLost`, and everything until the next snapshot is
left out. The other streams are values that the next frame replaces: what is missing there is counted in
`unknown`, and the connection renewed, without a word to the strategy.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Final, NamedTuple

from market_maker.clock import Clock
from market_maker.config_sections import ConnectionSettings
from market_maker.exchanges.frames import decode_book, decode_funding
from market_maker.exchanges.link import Link, StreamHearer, StreamLoss, hear_all
from market_maker.exchanges.quotes import Envelope, decode_bbo, decode_index, decode_mark, foreign_envelope
from market_maker.exchanges.side_streams import MAX_BACKLOG, Decode, MarketOutbox, PublicTrades, SideStream
from market_maker.exchanges.socket import Connector, StreamBroken
from market_maker.exchanges.turns import Turns
from market_maker.exchanges.wire import CorruptFrame, corrupt
from market_maker.gateway import MarketEvent, MarketNotFound, StreamLost
from market_maker.instrument import Instrument

_BOOK_TYPES: Final = frozenset({"SNAPSHOT", "DELTA"})


class _Book:
    """Hears the book: in turn from a snapshot on, or lost."""

    def __init__(
        self, instrument: Instrument, clock: Clock, outbox: MarketOutbox, unknown: Counter[str]
    ) -> None:
        self._instrument = instrument
        self._clock = clock
        self._outbox = outbox
        self._unknown = unknown
        self._turns = Turns("book", unknown)
        self._is_known_lost = False
        self._has_begun = False

    def on_open(self) -> None:
        self._turns.restart()

    def on_frame(self, frame: bytes) -> None:
        if self._outbox.backlog >= MAX_BACKLOG:
            self._unknown["market event left unread"] += self._outbox.clear()
            # An earlier loss may have been among what was cleared.
            self._is_known_lost = False
            msg = f"{MAX_BACKLOG} events were not read"
            raise StreamBroken(msg)
        try:
            update = decode_book(frame, self._instrument, self._clock.now_ns())
        except CorruptFrame:
            envelope = foreign_envelope(frame, _BOOK_TYPES)
            if envelope is None:
                raise
            self._pass_over(envelope, frame)
            return
        if not (self._turns.has_begun or update.is_snapshot):
            raise corrupt("a snapshot at the start of the book", f"frame {update.seq}, a change")
        if self._turns.is_next(update.seq, frame):
            if update.is_snapshot:
                self._is_known_lost = False
            self._put(update)

    def _pass_over(self, envelope: Envelope, frame: bytes) -> None:
        """Note a frame of a type that nobody documented; it has its place in the sequence all the same."""
        self._unknown[f"book frame {envelope.type}"] += 1
        if self._turns.has_begun and envelope.seq:
            self._turns.is_next(envelope.seq, frame)

    def on_lost(self, loss: StreamLoss) -> None:
        if not self._is_known_lost:
            self._is_known_lost = True
            self._put(StreamLost(self._instrument.name, str(loss)))

    def _put(self, event: MarketEvent) -> None:
        if self._has_begun:
            self._outbox.put(event)
        else:
            self._has_begun = True
            self._outbox.put_first(event)


class _Side(NamedTuple):
    """A stream of which only the last frame counts."""

    kind: str
    path: str
    types: frozenset[str]
    decode: Decode
    may_be_silent: bool = False


def market_feed(
    connect: Connector,
    instrument: Instrument,
    settings: ConnectionSettings,
    clock: Clock,
    unknown: Counter[str],
) -> AsyncGenerator[MarketEvent, None]:
    """Book, best quote, trades, mark, index and funding of one market.

    The first event is a snapshot of the book, or the reason why there is none; after a `StreamLost` the next
    book event is a snapshot. Events of one stream keep their order. Unread best quotes and prices give way to
    newer ones; changes of the book never do.

    Parameters
    ----------
    connect : Connector
        Opens the streams; the iterator ends when it is closed.
    unknown : Counter
        Counts what was left out: gaps, repeats and corrupt frames of the streams beside the book, frames of
        types that nobody documented.

    Raises
    ------
    MarketNotFound
        If the exchange has no book of that name.
    """
    outbox = MarketOutbox()
    market = instrument.name
    trades = PublicTrades(instrument, clock, outbox, unknown)
    book_link = Link(
        connect,
        f"/orderbooks/{market}",
        settings,
        silence_s=settings.stream_silence_s,
        fatal={404: MarketNotFound},
    )
    heard: list[tuple[Link, StreamHearer]] = [
        (book_link, _Book(instrument, clock, outbox, unknown)),
        (
            Link(connect, f"/publicTrades/{market}", settings),
            SideStream("trades", trades.decode, trades.put, unknown, only_latest=False),
        ),
    ]
    for side in _sides(instrument, clock):
        silence_s = 0.0 if side.may_be_silent else settings.stream_silence_s
        hearer = SideStream(side.kind, side.decode, _latest(outbox, side.kind), unknown, types=side.types)
        heard.append((Link(connect, side.path, settings, silence_s=silence_s), hearer))
    return hear_all(outbox, heard)


def _latest(outbox: MarketOutbox, kind: str) -> Callable[[MarketEvent], None]:
    return lambda event: outbox.put_latest(kind, event)


def _sides(instrument: Instrument, clock: Clock) -> list[_Side]:
    market = instrument.name
    return [
        _Side(
            "best quote",
            f"/orderbooks/{market}?depth=1",
            frozenset({"SNAPSHOT"}),
            lambda frame: (decode_bbo(frame, instrument, clock.now_ns()),),
        ),
        _Side(
            "mark",
            f"/prices/mark/{market}",
            frozenset({"MP"}),
            lambda frame: (decode_mark(frame, instrument),),
        ),
        _Side(
            "index",
            f"/prices/index/{market}",
            frozenset({"IP"}),
            lambda frame: (decode_index(frame, instrument),),
        ),
        _Side(
            "funding",
            f"/funding/{market}",
            frozenset(),
            lambda frame: (decode_funding(frame, instrument),),
            may_be_silent=True,
        ),
    ]
