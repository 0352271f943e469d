"""REST look-ups: wire bytes of what the exchange knows at this instant. The caller adds the latency.

What the API accepted but the matching engine has not seen yet is not found: a look-up right after a
time-out proves nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import dropwhile

from market_maker.emulator import frames
from market_maker.emulator.frames import text
from market_maker.emulator.market_queries import MarketQueries
from market_maker.emulator.orders import Order
from market_maker.emulator.pages import ANY, WHOLE, Page, Wanted, page_body
from market_maker.emulator.wire import WireOrder

OrderFilter = Callable[[Order], bool]


def every_order(_: Order) -> bool:
    """Admit any order."""
    return True


class Queries(MarketQueries):
    """Answers look-ups; each method gives the body of a reply with HTTP status 200."""

    def open_orders(self, account_id: int, wanted: Wanted = ANY) -> bytes:
        """Orders that rest."""
        return frames.ok(list(self._shown(self._venue.accounts[account_id].open.values(), wanted)))

    def order(self, account_id: int, order_id: int) -> bytes:
        """One order, open or ended.

        Raises
        ------
        KeyError
            If there is none of that id.
        """
        return frames.ok(self._wire.order(self._venue.accounts[account_id].by_id[order_id]))

    def order_by_external_id(self, account_id: int, external_id: str) -> bytes:
        """List of the order with an external id, open or ended; empty where there is none (or not yet)."""
        order = self._venue.accounts[account_id].by_external.get(external_id)
        return frames.ok(list(self._shown([] if order is None else [order], ANY)))

    def order_history(
        self,
        account_id: int,
        wanted: Wanted = ANY,
        page: Page = WHOLE,
        admits: OrderFilter = every_order,
        *,
        by_update: bool = False,
    ) -> bytes:
        """Orders that ended, newest first: by id, or by the instant of their end."""
        orders = reversed(self._venue.accounts[account_id].by_id.values())
        ended: Iterable[Order] = (order for order in orders if not order.is_open and admits(order))
        if by_update:
            ended = sorted(ended, key=lambda order: (-order.updated_ns, -order.order_id))
            ended, page = _behind(ended, page.cursor), Page(limit=page.limit)
        return page_body(self._shown(ended, wanted), lambda row: row.id, page)

    def trades(self, account_id: int, since_ns: int = 0, wanted: Wanted = ANY, page: Page = WHOLE) -> bytes:
        """Matches of the account since an instant, newest first as the API has them, without external ids."""
        recent = reversed(self._venue.accounts[account_id].trades)
        rows = (self._wire.trade(account_id, t, on_stream=False) for t in recent if t.time_ns >= since_ns)
        chosen = (row for row in rows if wanted.admits(row.market, row.side, row.trade_type))
        return page_body(chosen, lambda row: row.id, page)

    def positions(self, account_id: int, wanted: Wanted = ANY) -> bytes:
        """Positions that are not flat."""
        account = self._venue.accounts[account_id]
        rows = (self._wire.position(account, held) for held in account.positions.values() if held.lots)
        return frames.ok([row for row in rows if wanted.admits(row.market, row.side)])

    def position_history(self, account_id: int, wanted: Wanted = ANY, page: Page = WHOLE) -> bytes:
        """Positions, open and ended, newest first."""
        account = self._venue.accounts[account_id]
        known = [*account.past_positions, *account.positions.values()]
        newest_first = sorted(known, key=lambda position: -position.position_id)
        rows = (self._wire.past_position(account, position) for position in newest_first)
        chosen = (row for row in rows if wanted.admits(row.market, row.side))
        return page_body(chosen, lambda row: row.id, page)

    def balance(self, account_id: int, now_ns: int) -> bytes:
        """The account's money."""
        return frames.ok(self._wire.balance(self._venue.accounts[account_id], now_ns))

    def funding_payments(
        self, account_id: int, since_ns: int = 0, wanted: Wanted = ANY, page: Page = WHOLE
    ) -> bytes:
        """Funding booked since an instant, newest first."""
        recent = reversed(self._venue.accounts[account_id].payments)
        rows = (self._wire.payment(account_id, p) for p in recent if p.time_ns >= since_ns)
        chosen = (row for row in rows if wanted.admits(row.market, row.side))
        return page_body(chosen, lambda row: row.id, page)

    def fees(self, account_id: int, markets: Sequence[str] = ()) -> bytes:
        """Fee rates of the account in the named markets; in all where none is named."""
        account = self._venue.accounts[account_id]
        rates = {
            "makerFeeRate": text(account.maker_fee),
            "takerFeeRate": text(account.taker_fee),
            "builderFeeRate": "0",
        }
        return frames.ok([{"market": name, **rates} for name in self._known(markets)])

    def leverage(self, account_id: int, markets: Sequence[str] = ()) -> bytes:
        """Leverage of the account in the named markets; in all where none is named."""
        account = self._venue.accounts[account_id]
        names = self._known(markets)
        return frames.ok([{"market": name, "leverage": text(account.leverage_in(name))} for name in names])

    def _shown(self, orders: Iterable[Order], wanted: Wanted) -> Iterator[WireOrder]:
        rows = (self._wire.order(order) for order in orders if order.is_known)
        return (row for row in rows if wanted.admits(row.market, row.side, row.type))


def _behind(orders: Iterable[Order], cursor: int | None) -> Iterable[Order]:
    """Return the orders that follow the one whose id is the cursor."""
    if cursor is None:
        return orders
    rest = dropwhile(lambda order: order.order_id != cursor, orders)
    next(rest, None)
    return rest
