"""A recorded book as it stood: snapshots, depth changes and the best-quote stream folded into one.

Depth changes alone leave the touch stale by up to the venue's publishing interval, and a raw file starts
with changes and no snapshot. The best quote is exact and prompt, so it decides what the touch is: levels
better than it are gone. Sequence numbers say which of the two is newer.
"""

from itertools import islice

from sortedcontainers import SortedDict

from market_maker.domain import BookUpdate, Side
from market_maker.recordings.events import BestQuote

_SIDES = (Side.BUY, Side.SELL)


class FoldedBook:
    """The book of one recorded market, both sides."""

    def __init__(self) -> None:
        # Keyed by minus the side's sign times the price, so that the best comes first on both sides.
        self._levels: dict[Side, SortedDict] = {side: SortedDict() for side in _SIDES}
        self._quote: BestQuote | None = None
        self._update_seq = -1

    def apply_update(self, update: BookUpdate) -> None:
        """Take in a snapshot or changed levels; a best quote that is newer keeps its say."""
        changes = {Side.BUY: update.bids, Side.SELL: update.asks}
        for side, levels in changes.items():
            book = self._levels[side]
            if update.is_snapshot:
                book.clear()
            for price, lots in levels:
                self._set(side, price, lots)
        self._update_seq = update.seq
        if self._quote is not None and self._quote.seq > update.seq:
            self._fold(self._quote)
        else:
            self._quote = None
            self._uncross(update)

    def apply_quote(self, quote: BestQuote) -> None:
        """Take in a best quote, unless it is older than the last update or crossed."""
        if quote.seq < self._update_seq or quote.bid_ticks >= quote.ask_ticks:
            return
        self._quote = quote
        self._fold(quote)

    def best_ticks(self, side: Side) -> int | None:
        """Best price of a side, None where it is empty."""
        book = self._levels[side]
        return -side * book.peekitem(0)[0] if book else None

    def lots(self, side: Side, price_ticks: int) -> int:
        """Size at a price."""
        return int(self._levels[side].get(-side * price_ticks, 0))

    def window(self, side: Side, depth: int) -> dict[int, int]:
        """Best levels of a side, price to size, best first."""
        return {-side * key: lots for key, lots in islice(self._levels[side].items(), depth)}

    def _set(self, side: Side, price: int, lots: int) -> None:
        if lots > 0:
            self._levels[side][-side * price] = lots
        else:
            self._levels[side].pop(-side * price, None)

    def _fold(self, quote: BestQuote) -> None:
        touches = ((Side.BUY, quote.bid_ticks, quote.bid_lots), (Side.SELL, quote.ask_ticks, quote.ask_lots))
        for side, price, lots in touches:
            self._drop_better(side, price)
            self._set(side, price, lots)

    def _drop_better(self, side: Side, price: int) -> None:
        book = self._levels[side]
        while book and book.peekitem(0)[0] < -side * price:
            book.popitem(0)

    def _uncross(self, update: BookUpdate) -> None:
        bid, ask = self.best_ticks(Side.BUY), self.best_ticks(Side.SELL)
        if bid is None or ask is None or bid < ask:
            return
        # The side that this update touched is the newer one: what it meets on the other side is gone.
        if any(price == bid and lots > 0 for price, lots in update.bids):
            self._drop_better(Side.SELL, bid + 1)
        else:
            self._drop_better(Side.BUY, ask - 1)
