"""Best quotes of a recorded market: what stood at the end of each frame, wherever it changed."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.fills import depth
from market_maker.fills.engine import FillEngine, frozen
from market_maker.fills.rows import ASKS, BIDS, NO_ASK, NO_BID, Cells, MarketRow, StrategyRow, World
from market_maker.kernel import kernel
from market_maker.recordings import store
from market_maker.recordings.store import Hour

_LAST: Final = store.LAST
_BIDS: Final = BIDS
_ASKS: Final = ASKS
_NO_BID: Final = NO_BID
_NO_ASK: Final = NO_ASK
# Unsigned and signed numbers together would make floats in compiled code.
_int: Final[Any] = np.int64


class Quotes(NamedTuple):
    """Changes of the best quotes, in the order of time; both prices are 0 where there is no trusted book."""

    ns: NDArray[np.int64]
    bid_ticks: NDArray[np.int64]
    ask_ticks: NDArray[np.int64]

    @property
    def mid2_ticks(self) -> NDArray[np.int64]:
        """Bid plus ask: the mid in half ticks, 0 where there is none."""
        return self.bid_ticks + self.ask_ticks


class SizedQuotes(NamedTuple):
    """Changes of the best quotes and of what stands there; all are 0 where there is no trusted book."""

    ns: NDArray[np.int64]
    bid_ticks: NDArray[np.int64]
    ask_ticks: NDArray[np.int64]
    bid_lots: NDArray[np.int64]
    ask_lots: NDArray[np.int64]


@kernel
def follow_quotes(w: World, rows: Hour, found: Cells, last: Cells) -> int:
    """Take rows into the book; write each change of the best quotes and sizes; return how many.

    `found` is (ns, bid, ask, bid lots, ask lots) a row; the first row of `last` is what stood before.
    """
    count = 0
    bid, ask, bid_lots, ask_lots = last[0, 1], last[0, 2], last[0, 3], last[0, 4]
    for i in range(len(rows.venue_ns)):
        kind = _int(rows.kind[i])
        depth.follow(w, 0, kind, _int(rows.ticks[i]), _int(rows.lots[i]))
        if not kind & _LAST:
            continue
        d = w.depths[0]
        is_known = d.trusted and d.bid_ticks != _NO_BID and d.ask_ticks != _NO_ASK
        new_bid, new_ask = (d.bid_ticks, d.ask_ticks) if is_known else (0, 0)
        new_bids = depth.size_at(w, 0, _BIDS, new_bid) if is_known else 0
        new_asks = depth.size_at(w, 0, _ASKS, new_ask) if is_known else 0
        moves = new_bid != bid or new_ask != ask
        if moves or new_bids != bid_lots or new_asks != ask_lots:
            bid, ask, bid_lots, ask_lots = new_bid, new_ask, new_bids, new_asks
            found[count, 0] = rows.venue_ns[i]
            found[count, 1] = bid
            found[count, 2] = ask
            found[count, 3] = bid_lots
            found[count, 4] = ask_lots
            count += 1
    return count


class QuoteReader:
    """Follows the book of a market through its hours."""

    def __init__(self) -> None:
        self._engine = FillEngine(MarketRow(), [StrategyRow()], orders_each=1)
        self._last: Any = np.zeros((1, 5), np.int64)

    def read(self, hour: Hour) -> Quotes:
        """Changes of the best quotes in rows that follow the ones before."""
        return self.read_both(hour)[0]

    def read_both(self, hour: Hour) -> tuple[Quotes, SizedQuotes]:
        """Changes of the best prices, and of them or their sizes, in rows that follow the ones before."""
        self._engine.reach(hour)
        frames = int(np.count_nonzero(hour.kind & _LAST))
        found: Any = np.zeros((frames, 5), np.int64)
        count = follow_quotes(self._engine.world, frozen(hour), found, self._last)
        sized = found[:count]
        prices = np.concatenate([self._last, sized])[:, 1:3]
        moves = (np.diff(prices, axis=0) != 0).any(axis=1)
        if count:
            self._last = sized[-1:].copy()
        quotes = Quotes(*(np.ascontiguousarray(column) for column in sized[moves, :3].T))
        return quotes, SizedQuotes(*(np.ascontiguousarray(column) for column in sized.T))
