"""Best quotes of a recorded market: what stood at the end of each frame, wherever it changed."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.fills import depth
from market_maker.fills.engine import FillEngine, frozen
from market_maker.fills.rows import NO_ASK, NO_BID, Cells, MarketRow, StrategyRow, World
from market_maker.kernel import kernel
from market_maker.recordings import store
from market_maker.recordings.store import Hour

_LAST: Final = store.LAST
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


@kernel
def follow_quotes(w: World, rows: Hour, found: Cells, bid: int, ask: int) -> int:
    """Take rows into the book; write each change of the best quotes (ns, bid, ask); return how many.

    `bid` and `ask` are what stood before.
    """
    count = 0
    for i in range(len(rows.venue_ns)):
        kind = _int(rows.kind[i])
        depth.follow(w, 0, kind, _int(rows.ticks[i]), _int(rows.lots[i]))
        if not kind & _LAST:
            continue
        d = w.depths[0]
        is_known = d.trusted and d.bid_ticks != _NO_BID and d.ask_ticks != _NO_ASK
        new_bid, new_ask = (d.bid_ticks, d.ask_ticks) if is_known else (0, 0)
        if new_bid != bid or new_ask != ask:
            bid, ask = new_bid, new_ask
            found[count, 0] = rows.venue_ns[i]
            found[count, 1] = bid
            found[count, 2] = ask
            count += 1
    return count


class QuoteReader:
    """Follows the book of a market through its hours."""

    def __init__(self) -> None:
        self._engine = FillEngine(MarketRow(), [StrategyRow()], orders_each=1)
        self._last = (0, 0)

    def read(self, hour: Hour) -> Quotes:
        """Changes of the best quotes in rows that follow the ones before."""
        self._engine.reach(hour)
        frames = int(np.count_nonzero(hour.kind & _LAST))
        found: Any = np.zeros((frames, 3), np.int64)
        count = follow_quotes(self._engine.world, frozen(hour), found, *self._last)
        if count:
            self._last = (int(found[count - 1, 1]), int(found[count - 1, 2]))
        return Quotes(*(np.ascontiguousarray(column) for column in found[:count].T))
