"""The clock that joins market and requests, and the host that holds the arrays.

Time runs as at an exchange: the market's rows come first at an instant, then requests that arrive and orders
that expire, then what is sent. A market is fed in pieces, an hour or a single frame; where it is cut changes
nothing, because nothing but the market is advanced past the last row that is known.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.fills import matching, orders
from market_maker.fills.rows import (
    BOOKS,
    HEADS,
    NEVER_NS,
    TAILS,
    DepthRow,
    LogRow,
    MarketRow,
    OrderRow,
    ReplyRow,
    RequestKind,
    RequestRow,
    Rows,
    StrategyRow,
    World,
    rows_of,
)
from market_maker.kernel import inner_kernel, kernel, new_row, write_row
from market_maker.recordings import store
from market_maker.recordings.store import Hour

_NEVER_NS: Final = NEVER_NS
_CANCEL: Final = int(RequestKind.CANCEL)
_REPLACE: Final = int(RequestKind.REPLACE)
_REPLIES_EACH: Final = 1024
_LOG_SPARE: Final = 4096
# Unsigned and signed numbers together would make floats in compiled code.
_int: Final[Any] = np.int64
_MOST_COLUMNS: Final = 2**22
_OFF_GRID: Final = (store.MARK, store.INDEX, store.OUTSIDE, store.FUNDING, store.GAP, store.CLEAR)


class FillError(Exception):
    """The engine cannot go on: expected X, was Y."""


@dataclass
class ActionRow:
    """Something to be sent at an instant: an order, or the cancel of the order `target_id`."""

    now_ns: int = 0
    strategy: int = 0
    kind: int = 0
    tag: int = 0
    side: int = 1
    price_ticks: int = 0
    lots: int = 0
    post_only: bool = True
    immediate: bool = False
    reduce_only: bool = False
    expire_ns: int = NEVER_NS
    target_id: int = 0


@inner_kernel
def settle(w: World, now_ns: int) -> None:
    """Carry out everything that is due at the exchange, and find the next instant."""
    m = w.market[0]
    m.due_ns = _NEVER_NS
    for k in range(len(w.strategies)):
        s = w.strategies[k]
        if s.due_ns <= now_ns:
            orders.serve(w, k, now_ns)
            s.due_ns = orders.next_due_ns(w, k)
        m.due_ns = min(m.due_ns, s.due_ns)


@inner_kernel
def _hear_all(w: World, now_ns: int) -> None:
    """Pass over the replies that have come: nobody listens in a replay of written requests."""
    m = w.market[0]
    for k in range(len(w.strategies)):
        s = w.strategies[k]
        while s.replies_heard < s.replies_sent:
            if w.replies[k * m.replies_each + s.replies_heard % m.replies_each].due_ns > now_ns:
                break
            s.replies_heard += 1
        s.due_ns = orders.next_due_ns(w, k)


@inner_kernel
def _act(w: World, action: ActionRow) -> None:
    k, now_ns = action.strategy, action.now_ns
    old = orders.find_order(w, k, action.target_id) if action.target_id != 0 else -1
    if action.kind == _CANCEL:
        orders.send_cancel(w, k, now_ns, old, action.target_id)
        return
    g = orders.new_order(w, k)
    if g < 0:
        w.market[0].overflow = True
        return
    order = w.orders[g]
    order.tag = action.tag
    order.side = action.side
    order.price_ticks = action.price_ticks
    order.size_lots = action.lots
    order.post_only = action.post_only
    order.immediate = action.immediate
    order.reduce_only = action.reduce_only
    order.expire_ns = action.expire_ns
    orders.send(w, g, now_ns, old, action.target_id if action.kind == _REPLACE else 0)


@kernel
def replay(
    w: World,
    rows: Hour,
    actions: Rows[ActionRow],
    cursor: NDArray[np.int64],
    end_ns: int,
) -> bool:
    """Run rows and written requests in the order of time; `cursor` is the next of each.

    Rows are all taken in, the rest up to `end_ns`. False where the log is full: empty it and call again.
    """
    m = w.market[0]
    room = len(w.log) - 4 * len(w.orders) - len(w.strategies)
    while not m.overflow:
        row_ns = rows.venue_ns[cursor[0]] if cursor[0] < len(rows.venue_ns) else _NEVER_NS
        act_ns = actions[cursor[1]].now_ns if cursor[1] < len(actions) else _NEVER_NS
        now_ns = min(row_ns, act_ns, m.due_ns)
        if now_ns == _NEVER_NS or (row_ns > now_ns and now_ns > end_ns):
            return True
        if m.log_rows > room:
            return False
        if row_ns == now_ns:
            i = cursor[0]
            cursor[0] += 1
            matching.apply_row(w, now_ns, _int(rows.kind[i]), _int(rows.ticks[i]), _int(rows.lots[i]))
        elif m.due_ns == now_ns:
            _hear_all(w, now_ns)
            settle(w, now_ns)
        else:
            cursor[1] += 1
            _act(w, actions[cursor[1] - 1])
    return True


def frozen(hour: Hour) -> Hour:
    """The same columns, not to be written to: one type for the compiler, mapped or not."""
    columns: list[Any] = [column.view() for column in hour]
    for column in columns:
        column.flags.writeable = False
    return Hour(*columns)


def price_range(hour: Hour) -> tuple[int, int]:
    """Lowest and highest price on the grid in some rows; (0, 0) where there is none."""
    codes = hour.kind & store.CODE_MASK
    ticks = hour.ticks[~np.isin(codes, _OFF_GRID) & (hour.ticks > 0)]
    if not ticks.size:
        return 0, 0
    low, high = int(ticks.min()), int(ticks.max())
    if high - low >= _MOST_COLUMNS // 2:
        # Nobody trades that far away: such levels are left out of the book.
        middle = int(np.median(ticks))
        low, high = max(low, middle - _MOST_COLUMNS // 4), min(high, middle + _MOST_COLUMNS // 4)
    return low, high


class FillEngine:
    """The arrays of a market and its contestants.

    Parameters
    ----------
    market : MarketRow
        Rules of the market.
    strategies : sequence of StrategyRow
        One contestant each.
    orders_each : int
        Most orders of one contestant at a time, those on their way included.
    feeds : int
        Number of delayed books.
    latencies : array of (instant, request, reply), ns, optional
        Recorded latencies in the order of time.

    Attributes
    ----------
    world : World
        The arrays as they are now; a wider range of prices makes some of them anew.
    """

    def __init__(
        self,
        market: MarketRow,
        strategies: Sequence[StrategyRow],
        *,
        orders_each: int = 16,
        feeds: int = 0,
        latencies: NDArray[np.int64] | None = None,
    ) -> None:
        count = len(strategies)
        recorded: Any = np.zeros((0, 3), np.int64) if latencies is None else latencies.astype(np.int64)
        self._books = 1 + feeds
        self._levels = self._columns(1)
        self._log = rows_of(LogRow, _LOG_SPARE + 8 * (count * orders_each + 1))
        row: Any = new_row(market)
        row["orders_each"] = orders_each
        row["requests_each"] = 2 * orders_each
        row["replies_each"] = _REPLIES_EACH
        row["latency_rows"] = len(recorded)
        rows = rows_of(StrategyRow, count)
        for k, strategy in enumerate(strategies):
            write_row(rows[k : k + 1], strategy)
        rows["day_rebate_ppb"] = rows["rebate_ppb"][:, 0] * (rows["rebate_share_ppm"][:, 0] == 0)
        self._market = row
        self.world = World(
            market=row,
            strategies=rows,
            orders=rows_of(OrderRow, count * orders_each + 1),
            requests=rows_of(RequestRow, count * 2 * orders_each),
            replies=rows_of(ReplyRow, count * _REPLIES_EACH),
            depths=rows_of(DepthRow, 1 + feeds),
            levels=self._levels,
            latencies=recorded,
            log=self._log,
        )

    def reach(self, hour: Hour) -> None:
        """Make columns for all prices of some rows, and room around them for our own."""
        low, high = price_range(hour)
        if high:
            self.reach_prices(low, high)

    def reach_prices(self, low: int, high: int) -> None:
        """Make columns for a range of prices, ticks, and as much again around them."""
        base, width = int(self._market["base_ticks"][0]), self._levels.shape[2]
        if width > 1 and base <= low and high < base + width:
            return
        if width > 1:
            low, high = min(low, base), max(high, base + width - 1)
        spare = (high - low) // 4 + high // 16 + 16
        low, high = max(low - spare, 0), high + spare
        levels = self._columns(high - low + 1)
        if width > 1:
            at = base - low
            levels[..., at : at + width] = self._levels
        self._levels = levels
        self._market["base_ticks"] = low
        self.world = self.world._replace(levels=levels)

    def _columns(self, width: int) -> Any:  # noqa: ANN401  (an array, where kernels see cells)
        levels = np.zeros((BOOKS + 2 * self._books, 2, width), np.int64)
        levels[[HEADS, TAILS]] = -1
        return levels

    def drain(self) -> NDArray[Any]:
        """Take the log as it is, and start it anew.

        Raises
        ------
        FillError
            If an order, a request or a reply found no place since: the run is void.
        """
        market = self._market
        if market["overflow"][0]:
            msg = f"expected at most {market['orders_each'][0]} orders of a strategy at a time, was more"
            raise FillError(msg)
        count = int(market["log_rows"][0])
        market["log_rows"] = 0
        taken: NDArray[Any] = self._log[:count].copy()
        return taken

    def replay(
        self, hour: Hour, actions: Rows[ActionRow], cursor: NDArray[np.int64], end_ns: int
    ) -> Iterator[NDArray[Any]]:
        """Run rows and written requests; the log comes in pieces. `cursor[1]` moves on through `actions`.

        Parameters
        ----------
        end_ns : int
            How far requests may run ahead: the last stamp less one while more rows may come.
        """
        self.reach(hour)
        cursor[0] = 0
        rows = frozen(hour)
        done = False
        while not done:
            done = replay(self.world, rows, actions, cursor, end_ns)
            yield self.drain()
