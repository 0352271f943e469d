"""The streams of a market beside its book: what each frame says stands alone, so gaps are no loss of trust.

What is missing, late, repeated or unreadable is counted; a frame that can not be read also renews the
connection, because nobody knows what else of it is wrong.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from market_maker.clock import Clock
from market_maker.domain import NS_PER_MS, NS_PER_S, Trade
from market_maker.exchanges.frames import decode_trades
from market_maker.exchanges.link import StreamLoss
from market_maker.exchanges.outbox import Outbox
from market_maker.exchanges.quotes import read_envelope
from market_maker.exchanges.wire import CorruptFrame
from market_maker.gateway import MarketEvent
from market_maker.instrument import Instrument

# So many events unread are minutes of a busy market: the reader has stopped reading.
MAX_BACKLOG: Final = 4_000
# A server may repeat the last trades to whoever connects; these are not trades of now.
_OLD_TRADE_NS: Final = 10 * NS_PER_S
_TRADE_IDS_KEPT: Final = 1_000

MarketOutbox = Outbox[MarketEvent]
Decode = Callable[[bytes], Sequence[MarketEvent]]


class SideStream:
    """Hears a stream beside the book.

    Parameters
    ----------
    kind : str
        Its name in `unknown`.
    decode : callable
        Events of a frame.
    put : callable
        Where an event goes.
    types : frozenset of str
        Frame types that are read; empty: the stream has none.
    only_latest : bool
        Whether a frame that comes late says nothing any more.
    """

    def __init__(
        self,
        kind: str,
        decode: Decode,
        put: Callable[[MarketEvent], None],
        unknown: Counter[str],
        *,
        types: frozenset[str] = frozenset(),
        only_latest: bool = True,
    ) -> None:
        self._kind = kind
        self._decode = decode
        self._put = put
        self._unknown = unknown
        self._types = types
        self._only_latest = only_latest
        self._seq = 0

    def on_open(self) -> None:
        """Begin a new sequence."""
        self._seq = 0

    def on_frame(self, frame: bytes) -> None:
        """Hand the events of a frame on."""
        envelope = read_envelope(frame)
        if self._types and envelope.type and envelope.type not in self._types:
            self._unknown[f"{self._kind} frame {envelope.type}"] += 1
            return
        if self._is_news(envelope.seq):
            for event in self._decode(frame):
                self._put(event)

    def _is_news(self, seq: int) -> bool:
        last, self._seq = self._seq, max(self._seq, seq)
        if seq == 0 or last == 0:
            return True
        if seq > last:
            if seq > last + 1:
                self._unknown[f"{self._kind} gap"] += 1
            return True
        self._unknown[f"{self._kind} frame late or twice"] += 1
        return seq < last and not self._only_latest

    def on_lost(self, loss: StreamLoss) -> None:
        """Count it: the next frame makes up for what was missed."""
        what = "frame corrupt" if isinstance(loss, CorruptFrame) else "stream lost"
        self._unknown[f"{self._kind} {what}"] += 1


class PublicTrades:
    """Decodes public trades: each once, and none that is long past."""

    def __init__(
        self, instrument: Instrument, clock: Clock, outbox: MarketOutbox, unknown: Counter[str]
    ) -> None:
        self._instrument = instrument
        self._clock = clock
        self._outbox = outbox
        self._unknown = unknown
        self._heard_ns: OrderedDict[int, int] = OrderedDict()

    def decode(self, frame: bytes) -> list[MarketEvent]:
        """Trades of a frame that are news."""
        sent_ns = read_envelope(frame).ts * NS_PER_MS
        trades = decode_trades(frame, self._instrument, self._clock.now_ns())
        return [trade for trade in trades if self._is_news(trade, sent_ns)]

    def _is_news(self, trade: Trade, sent_ns: int) -> bool:
        past_ns = sent_ns - _OLD_TRADE_NS
        self._forget(past_ns)
        if trade.venue_ns < past_ns:
            self._unknown["trade long past"] += 1
            return False
        if trade.trade_id in self._heard_ns:
            self._unknown["trade twice"] += 1
            return False
        self._heard_ns[trade.trade_id] = trade.venue_ns
        return True

    def _forget(self, past_ns: int) -> None:
        """Forget what would be long past if it came again, and the oldest of too many."""
        while self._heard_ns:
            oldest_ns = next(iter(self._heard_ns.values()))
            if oldest_ns >= past_ns and len(self._heard_ns) < _TRADE_IDS_KEPT:
                return
            self._heard_ns.popitem(last=False)

    def put(self, event: MarketEvent) -> None:
        """Add a trade, unless so many wait that the reader must have stopped."""
        if self._outbox.backlog < MAX_BACKLOG:
            self._outbox.put(event)
        else:
            self._unknown["market event left unread"] += 1
