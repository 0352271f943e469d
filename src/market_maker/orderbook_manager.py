"""One market's order book, kept from frames, and what of it can be trusted.

A side is a sorted list of prices beside a dict of sizes. Changes cluster at the best price, which is kept at
the end of the list, so that a change there moves next to nothing. What is read is the book of the others: our
own orders are taken out, or we would follow and outbid ourselves.

The stream is trusted from a snapshot on, until its sequence has a gap. An own order that the book does not
show yet takes away no more than there is. One that is gone stays in the frames for a moment, so its size is
taken out until a frame speaks of that price, for `own_linger_ms` at most. Quiet is not stale: what counts is
the last frame of any kind.

The fast stream's best quotes lie over the book and never change it. One is in force while its `venue_ns` is
later than the last book frame's: it hides what is better than it and gives price and size of the best level,
and the book gives the levels behind. It covers both sides or none, so sides of different instants never meet
and cross. Within one millisecond nobody knows which came later, and the book, which is whole, wins.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, NamedTuple

from market_maker.domain import BPS, NS_PER_MS, NS_PER_S, BestQuote, Book, BookUpdate, Reason, Side
from market_maker.instrument import Instrument

_BELOW_ALL: Final = -(2**63)
# A best quote whose clock is ahead hides the book no longer than this.
_BEST_OUTLIVES_BOOK_NS: Final = 2 * NS_PER_S


@dataclass(frozen=True, slots=True)
class BookSettings:
    """What of the book counts as near, and how long our own orders echo in it."""

    book_depth_levels: int = 5  # levels a side that count as near the best price
    book_depth_bps: float = 10.0  # and no farther from it than this, bps; 0: levels alone
    own_linger_ms: float = 250.0  # the book may still show an order of ours that is gone


class SequenceGap(NamedTuple):
    """A frame came out of turn."""

    expected: int
    found: int


class _Echo(NamedTuple):
    """Our size at a price as it was a moment ago, which the book may still show."""

    lots: int
    until_ns: int


class _Best(NamedTuple):
    """The best quote that lies over a side."""

    key: int
    lots: int


_NO_BEST: Final = _Best(0, 0)  # no price is zero
_EMPTY: Final = _Best(_BELOW_ALL, 0)


class _Top(NamedTuple):
    ticks: int
    lots: int
    depth_lots: int


class _BookSide:
    """Levels of one side, keyed by sign × ticks in rising order: the best is the last."""

    def __init__(self, side: Side, settings: BookSettings) -> None:
        self._sign = int(side)
        self._max_levels = max(1, settings.book_depth_levels)
        self._span = settings.book_depth_bps / BPS
        self._linger_ns = round(settings.own_linger_ms * NS_PER_MS)
        self._keys: list[int] = []
        self._lots: dict[int, int] = {}
        self._own: dict[int, int] = {}
        self._echoes: dict[int, _Echo] = {}
        self._best = _NO_BEST
        # Most frames change one side: the other's top stands until a change, or while an echo may end.
        self._top: _Top | None = None
        self._top_stands = False

    def replace(self, levels: list[tuple[int, int]]) -> None:
        # A price listed twice has its last size, as in a delta.
        sizes = dict(levels) if self._sign > 0 else {-ticks: lots for ticks, lots in levels}
        if min(sizes.values(), default=1) <= 0:
            sizes = {key: lots for key, lots in sizes.items() if lots > 0}
        self._lots = sizes
        self._keys = sorted(sizes)
        self._echoes.clear()
        self._top_stands = False

    def change(self, levels: list[tuple[int, int]]) -> None:
        sign, keys, sizes, echoes = self._sign, self._keys, self._lots, self._echoes
        for ticks, lots in levels:
            key = sign * ticks
            if lots > 0:
                if key not in sizes:
                    insort(keys, key)
                sizes[key] = lots
            elif sizes.pop(key, 0):
                del keys[bisect_left(keys, key)]
            if key in echoes:
                del echoes[key]
        if levels:
            self._top_stands = False

    def lay_over(self, ticks: int, lots: int) -> None:
        """Let the best quote of this side be shown; one without a size says that the side is empty."""
        best = _Best(self._sign * ticks, lots) if lots > 0 else _EMPTY
        if best != self._best:
            self._best = best
            self._top_stands = False

    def uncover(self) -> None:
        """Show the book alone."""
        self._best = _NO_BEST
        self._top_stands = False

    def set_own(self, levels: Mapping[int, int], now_ns: int) -> bool:
        """Take our sizes in; whether the book of the others may have changed by it, or by time."""
        had_echoes = bool(self._echoes)
        before, hidden = self._own, self._hidden(now_ns)
        self._own = {self._sign * ticks: lots for ticks, lots in levels.items() if lots > 0}
        if self._own == before:
            return had_echoes
        self._top_stands = False
        for key, lots in before.items():
            if lots > self._own.get(key, 0):
                self._echoes[key] = _Echo(hidden[key], now_ns + self._linger_ns)
        return True

    def _hidden(self, now_ns: int) -> dict[int, int]:
        """What is to be taken out of the levels: our orders, and those whose echo has not ended."""
        if not self._echoes:
            return self._own
        self._echoes = {key: echo for key, echo in self._echoes.items() if now_ns < echo.until_ns}
        return self._own | {key: max(echo.lots, self._own.get(key, 0)) for key, echo in self._echoes.items()}

    def top(self, now_ns: int) -> _Top | None:
        """Best price and size of the others, and their size near it."""
        if not self._top_stands:
            self._top = self._find_top(self._hidden(now_ns))
            self._top_stands = not self._echoes
        return self._top

    def _find_top(self, hidden: Mapping[int, int]) -> _Top | None:
        sizes, (over_key, over_lots) = self._lots, self._best
        best = best_lots = depth = limit = 0
        missing = self._max_levels
        for key in self._shown():
            lots = over_lots if key == over_key else sizes[key]
            if key in hidden:
                lots -= hidden[key]
            if lots <= 0:
                continue
            if not best_lots:
                best, best_lots = key, lots
                limit = self._far_key(key)
            elif key < limit:
                break
            depth += lots
            missing -= 1
            if not missing:
                break
        return _Top(self._sign * best, best_lots, depth) if best_lots else None

    def _far_key(self, best: int) -> int:
        if self._span <= 0.0:
            return _BELOW_ALL
        return best - int(abs(best) * self._span)

    def _shown(self) -> Iterator[int]:
        """Keys of the levels with our orders in them, best first."""
        if self._best is _NO_BEST:
            return reversed(self._keys)
        better = len(self._keys) - bisect_left(self._keys, self._best.key)
        return chain((self._best.key,), islice(reversed(self._keys), better, None))

    def levels(self, count: int, now_ns: int) -> list[tuple[int, int]]:
        """Return the best levels of the others, best first."""
        hidden, sizes, over = self._hidden(now_ns), self._lots, self._best
        shown = ((key, over.lots if key == over.key else sizes[key]) for key in self._shown())
        net = ((key, lots - hidden.get(key, 0)) for key, lots in shown)
        return list(islice(((self._sign * key, lots) for key, lots in net if lots > 0), count))


class OrderbookManager:
    """The book of one market: frames in, `Book` out.

    Parameters
    ----------
    instrument : Instrument
        The market.
    settings : BookSettings
        What counts as near, and how long our own orders echo.

    Attributes
    ----------
    trusted : bool
        Whether the frames since the last snapshot came in turn.
    last_frame_ns : int
        When the last frame of any kind came, ns; 0 before the first.
    gaps : int
        Gaps of the sequence so far; `last_gap` is the latest.
    shows_own : bool
        Whether the frames show our own orders; on paper they do not, and nothing is taken out.
    """

    def __init__(self, instrument: Instrument, settings: BookSettings) -> None:
        self.trusted = False
        self.shows_own = True
        self.last_frame_ns = 0
        self.gaps = 0
        self.last_gap: SequenceGap | None = None
        self._market = instrument.name
        self._bids = _BookSide(Side.BUY, settings)
        self._asks = _BookSide(Side.SELL, settings)
        self._seq = 0
        self._now_ns = 0
        self._frame_times_ns = (0, 0)
        self._best: BestQuote | None = None
        self._book: Book | None = None
        self._reason = Reason.NO_BOOK
        # What is read is worked out when it is asked for, once for however many changes.
        self._is_stale = False

    def apply(self, update: BookUpdate) -> Book | None:
        """Take in a frame; the book it leaves, or None (`reason` says why) while there is none to trust.

        Raises
        ------
        ValueError
            If the frame is of another market.
        """
        self._check_market(update.market)
        self.heard(update.recv_ns)
        if update.is_snapshot:
            self._restart(update)
        elif self._in_turn(update.seq):
            self._bids.change(update.bids)
            self._asks.change(update.asks)
            self._note_frame(update)
        return self.book

    def apply_best(self, best: BestQuote) -> Book | None:
        """Lay a best quote over the book if it is the newest frame; the book, or None as from `apply`.

        It is no ground for trust: before a snapshot, and after a gap, there is no book with it either. One
        that is itself crossed leaves no book, and so does one with an empty side, for the reason NO_BOOK.

        Raises
        ------
        ValueError
            If the quote is of another market.
        """
        self._check_market(best.market)
        self.heard(best.recv_ns)
        is_newest = self._best is None or best.venue_ns >= self._best.venue_ns
        if is_newest and best.venue_ns > self._frame_times_ns[0]:
            self._best = best
            self._bids.lay_over(best.bid_ticks, best.bid_lots)
            self._asks.lay_over(best.ask_ticks, best.ask_lots)
            self._is_stale = True
        return self.book

    def heard(self, recv_ns: int) -> None:
        """Note that a frame of any kind came: the stream is alive."""
        self.last_frame_ns = max(self.last_frame_ns, recv_ns)
        self._now_ns = max(self._now_ns, recv_ns)

    def lose_trust(self) -> None:
        """Trust nothing until the next snapshot: the stream was lost, or a frame of it was corrupt."""
        self.trusted = False
        self._is_stale = True

    def set_own(self, side: Side, levels: Mapping[int, int], now_ns: int) -> None:
        """Say what of ours rests on a side in all: lots by price in ticks. It is taken out of the book."""
        self._now_ns = max(self._now_ns, now_ns)
        if not self.shows_own:
            return
        book_side = self._bids if side is Side.BUY else self._asks
        if book_side.set_own(levels, self._now_ns):
            self._is_stale = True

    @property
    def book(self) -> Book | None:
        """The book of the others, None while there is none to trust."""
        if self._is_stale:
            self._refresh()
        return self._book

    @property
    def reason(self) -> Reason:
        """Why there is no book: NO_BOOK, STREAM_LOST or CROSSED_BOOK; NONE where there is one."""
        if self._is_stale:
            self._refresh()
        return self._reason

    @property
    def mid2_ticks(self) -> int | None:
        """Bid plus ask of the others, which is twice the mid: an integer where the mid is none."""
        return None if (book := self.book) is None else book.bid_ticks + book.ask_ticks

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        """Best levels of the others as (price_ticks, size_lots), best first; none without trust."""
        if not self.trusted:
            return []
        return (self._bids if side is Side.BUY else self._asks).levels(count, self._now_ns)

    def _restart(self, update: BookUpdate) -> None:
        # A snapshot heals whatever was missed; a lower number is a new connection's first.
        if self.trusted and update.seq > self._seq + 1:
            self._note_gap(update.seq)
        self.trusted = True
        self._seq = update.seq
        self._bids.replace(update.bids)
        self._asks.replace(update.asks)
        self._note_frame(update)

    def _note_frame(self, update: BookUpdate) -> None:
        self._frame_times_ns = (update.venue_ns, update.recv_ns)
        self._is_stale = True
        best = self._best
        if best is None:
            return
        if update.venue_ns >= best.venue_ns or update.recv_ns - best.recv_ns >= _BEST_OUTLIVES_BOOK_NS:
            self._best = None
            self._bids.uncover()
            self._asks.uncover()

    def _check_market(self, market: str) -> None:
        if market != self._market:
            msg = f"expected a frame of {self._market}, was of {market}"
            raise ValueError(msg)

    def _in_turn(self, seq: int) -> bool:
        # The same frame twice changes nothing: sizes are absolute.
        if not self.trusted or seq == self._seq:
            return False
        if seq != self._seq + 1:
            self._note_gap(seq)
            self.lose_trust()
            return False
        self._seq = seq
        return True

    def _note_gap(self, found: int) -> None:
        self.gaps += 1
        self.last_gap = SequenceGap(self._seq + 1, found)

    def _refresh(self) -> None:
        self._is_stale = False
        self._book = None
        if not self.trusted:
            self._reason = Reason.STREAM_LOST if self._seq else Reason.NO_BOOK
            return
        bid, ask = self._bids.top(self._now_ns), self._asks.top(self._now_ns)
        if bid is None or ask is None:
            self._reason = Reason.NO_BOOK
        elif bid.ticks >= ask.ticks:
            self._reason = Reason.CROSSED_BOOK
        else:
            self._reason = Reason.NONE
            best = self._best
            times_ns = self._frame_times_ns if best is None else (best.venue_ns, best.recv_ns)
            self._book = Book(
                bid.ticks,
                bid.lots,
                ask.ticks,
                ask.lots,
                bid.depth_lots,
                ask.depth_lots,
                *times_ns,
            )
