"""A recorded market as the other participants: the emulator follows it, and the bot's orders queue among it.

Levels are set to the sizes that were displayed, and recorded trades come as aggressive orders of their price,
size and side, so that an order of the bot fills when its turn comes. What a trade took from the others is not
taken twice: the next recorded book says how much there is, whatever was left. Every book event is an instant
of its own, compared with the book as it then is.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from market_maker.domain import NS_PER_S, BookUpdate, Side, Trade
from market_maker.emulator.flow import BookView, Flow, FlowEvent, LevelChange, PastBar, TakerOrder
from market_maker.instrument import Instrument
from market_maker.recordings.discovery import open_recording
from market_maker.recordings.events import BestQuote, RecordedMarket, RecordingError, Stamped
from market_maker.recordings.folding import FoldedBook

_DEPTH = 25
_SIDES = (Side.BUY, Side.SELL)


class RecordedFlow:
    """The other participants of one recorded market; implements `Flow`.

    Parameters
    ----------
    start_ns : int
        Instant of the first events in the session: the whole book as it stood at `origin_ns`.
    origin_ns, end_ns : int
        Part of the recording that is followed, by its own clock.
    """

    def __init__(self, recorded: RecordedMarket, start_ns: int, origin_ns: int, end_ns: int) -> None:
        self.market = recorded.instrument.name
        self._tick = recorded.instrument.tick
        self._shift_ns = start_ns - origin_ns
        self._end_ns = end_ns
        self._folded = FoldedBook()
        self._shown: dict[Side, set[int]] = {side: set() for side in _SIDES}
        self._events: Iterator[Stamped] = recorded.events()
        self._pending = self._skip_to(origin_ns)
        self._next_ns: int | None = start_ns

    def next_ns(self) -> int | None:
        """Instant of the next events, None when the followed part has ended."""
        return self._next_ns

    @property
    def end_ns(self) -> int:
        """Instant in the session at which the followed part ends."""
        return self._end_ns + self._shift_ns

    def pop(self, book: BookView) -> Sequence[FlowEvent]:
        """Events of the instant `next_ns`; a following instant may be the same one.

        Raises
        ------
        RecordingError
            If the recording cannot be read on from here.
        """
        if not self._shown[Side.BUY]:
            changes = self._difference(book)
            self._schedule()
            return changes
        if self._pending is None:
            return []
        at_ns, event = self._pending
        if isinstance(event, Trade):
            return self._trades(at_ns)
        before = self._best()
        if isinstance(event, BookUpdate):
            self._folded.apply_update(event)
        elif isinstance(event, BestQuote):
            self._folded.apply_quote(event)
        self._advance()
        if isinstance(event, BestQuote) and self._best() == before:
            return self._touch_difference(book)
        return self._difference(book)

    def index_price(self) -> Decimal:
        """Recorded mid as of the last instant popped, USD."""
        bid, ask = self._best()
        return (self._tick * (bid + ask)) / 2

    def past_bars(self, count: int) -> list[PastBar]:
        """Nothing is known of the time before a recording."""
        return []

    def _skip_to(self, origin_ns: int) -> Stamped | None:
        for at_ns, event in self._events:
            if at_ns > origin_ns and self._is_complete():
                return at_ns, event
            if isinstance(event, BookUpdate):
                self._folded.apply_update(event)
            elif isinstance(event, BestQuote):
                self._folded.apply_quote(event)
        if not self._is_complete():
            msg = f"{self.market}: expected a book with both sides, was none in the recording"
            raise RecordingError(msg)
        return None

    def _is_complete(self) -> bool:
        return all(self._folded.best_ticks(side) is not None for side in _SIDES)

    def _best(self) -> tuple[int, int]:
        return self._folded.best_ticks(Side.BUY) or 0, self._folded.best_ticks(Side.SELL) or 0

    def _advance(self) -> None:
        # Where the recording can not be read on, the flow has ended.
        self._pending, self._next_ns = None, None
        self._pending = next(self._events, None)
        self._schedule()

    def _schedule(self) -> None:
        if self._pending is None or self._pending[0] > self._end_ns:
            self._next_ns = None
        else:
            self._next_ns = self._pending[0] + self._shift_ns

    def _trades(self, at_ns: int) -> list[FlowEvent]:
        orders: list[FlowEvent] = []
        while self._pending is not None and self._pending[0] == at_ns:
            trade = self._pending[1]
            if not isinstance(trade, Trade):
                break
            orders.append(TakerOrder(trade.taker_side, trade.price_ticks, trade.size_lots))
            self._advance()
        return orders

    def _touch_difference(self, book: BookView) -> list[FlowEvent]:
        changes: list[FlowEvent] = []
        for side, price in zip(_SIDES, self._best(), strict=True):
            lots = self._folded.lots(side, price)
            if book.external_lots(side, price) != lots:
                changes.append(LevelChange(side, price, lots))
        return changes

    def _difference(self, book: BookView) -> list[FlowEvent]:
        falls: list[FlowEvent] = []
        rises: list[FlowEvent] = []
        for side in _SIDES:
            target = self._folded.window(side, _DEPTH)
            gone = sorted(self._shown[side].difference(target))
            falls.extend(LevelChange(side, price, 0) for price in gone if book.external_lots(side, price))
            for price, lots in target.items():
                shown = book.external_lots(side, price)
                if lots != shown:
                    (falls if lots < shown else rises).append(LevelChange(side, price, lots))
            self._shown[side] = set(target)
        # Room is made first, so that the others never cross one another on the way.
        return falls + rises


def build_recorded_flows(
    path: Path,
    markets: Sequence[str],
    start_ns: int,
    *,
    offset_s: float = 0.0,
    duration_s: float | None = None,
) -> tuple[list[Instrument], list[Flow]]:
    """Instruments and flows of a recording, all from one instant at which every market has a book.

    Parameters
    ----------
    markets : sequence of str
        Markets wanted; empty for all that the recording has.
    start_ns : int
        Instant of the session at which the recording begins.
    offset_s, duration_s : float
        Where in the recording to begin, and how long to follow it (to its end by default).

    Raises
    ------
    RecordingError
        If it cannot be opened or read, or ends before it would begin.
    """
    recorded = list(open_recording(path, markets).markets.values())
    origin_ns = max(_ready_ns(market) for market in recorded) + round(offset_s * NS_PER_S)
    end_ns = min(market.last_ns for market in recorded)
    if origin_ns >= end_ns:
        span_s = (end_ns - origin_ns) / NS_PER_S + offset_s
        msg = f"{path}: expected an offset below the recording's {span_s:.1f} s, was {offset_s:.1f} s"
        raise RecordingError(msg)
    if duration_s is not None:
        end_ns = min(end_ns, origin_ns + round(duration_s * NS_PER_S))
    flows: list[Flow] = [RecordedFlow(market, start_ns, origin_ns, end_ns) for market in recorded]
    return [market.instrument for market in recorded], flows


def _ready_ns(market: RecordedMarket) -> int:
    sides: set[Side] = set()
    for at_ns, event in market.events():
        if isinstance(event, BestQuote):
            return at_ns
        if isinstance(event, BookUpdate):
            sides.update(side for side, levels in ((Side.BUY, event.bids), (Side.SELL, event.asks)) if levels)
            if event.is_snapshot and len(sides) == len(_SIDES):
                return at_ns
    msg = f"{market.instrument.name}: expected a book with both sides, was none in the recording"
    raise RecordingError(msg)
