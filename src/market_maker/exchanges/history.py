"""What the exchange remembers of an account: its matches and funding payments, page by page.

For the comparison of a day's books. The newest come first. Prices and sizes stay as the exchange writes them,
so that nothing depends on a market's present tick, or on its being listed still. How far back the exchange
remembers is documented nowhere: `kept_since_ns` says from where on it told, unless it told of something older
than was asked for.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Generic, TypeVar

import msgspec

from market_maker.day_books import FillRow, FundingRow, Row
from market_maker.domain import NS_PER_MS
from market_maker.exchanges.envelope import data_reader, next_cursor
from market_maker.exchanges.replies import (
    WirePayment,
    direction_of,
    funding_received,
    read_fills,
    read_payments,
    read_positions,
)
from market_maker.exchanges.rest import Query, RestClient
from market_maker.exchanges.wire import ZERO, CorruptFrame, amount, side_of
from market_maker.gateway import OutcomeUnknown, RateLimited

T = TypeVar("T")
Reached = Callable[[int], None]

_PAGE_ROWS: Final = 1_000
_TRIES: Final = 5


class _Rebates(msgspec.Struct, rename="camel"):
    total_paid: Decimal = ZERO


_read_rebates = data_reader(list[_Rebates], "a list of rebates")


@dataclass(frozen=True, slots=True)
class Told(Generic[Row]):
    """What the exchange told, oldest first; `kept_since_ns` is None where it surely told of everything."""

    rows: list[Row]
    kept_since_ns: int | None


def _nobody(_reached_ns: int) -> None:
    """Tell nobody."""


class AccountHistory:
    """Look-ups of the past of the account whose key a client has. Where there are too many, they wait."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    async def trades(
        self, markets: Sequence[str], since_ns: int, reached: Reached = _nobody
    ) -> Told[FillRow]:
        """Matches since an instant, in the named markets; in all where none is named.

        `reached` is told the oldest instant of each page.
        """
        return await self._told("/user/trades", markets, decode_trade_rows, since_ns, reached)

    async def payments(
        self, markets: Sequence[str], since_ns: int, reached: Reached = _nobody
    ) -> Told[FundingRow]:
        """Funding payments since an instant."""
        # Without startTime: an older payment is what shows that none is forgotten.
        return await self._told("/user/funding/history", markets, decode_payment_rows, since_ns, reached)

    async def rebates_paid(self) -> Decimal:
        """Rebates that the account was ever paid, USD; of days the exchange does not tell."""
        rows = _decoded(_read_rebates, await self._get("/user/rebates/stats", ()))
        return sum((amount(row.total_paid, "totalPaid") for row in rows), ZERO)

    async def held(self, markets: Sequence[str], trades: Told[FillRow]) -> dict[str, Decimal] | None:
        """Signed positions after the last of the trades, that are brought up to date; None while they change.

        A market that is not named is flat.
        """
        newest_ns = max((row.venue_ns for row in trades.rows), default=0)
        for _ in range(_TRIES):
            before = await self._positions(markets)
            fresh = await self.trades(markets, newest_ns)
            trades.rows.extend(row for row in fresh.rows if row not in trades.rows[-_PAGE_ROWS:])
            if await self._positions(markets) == before:
                return before
        return None

    async def _positions(self, markets: Sequence[str]) -> dict[str, Decimal]:
        wires = _decoded(read_positions, await self._get("/user/positions", _named(markets)))
        return {
            wire.market: abs(wire.size) * direction_of(wire.side)
            for wire in wires
            if wire.size and wire.status != "CLOSED"
        }

    async def _told(
        self,
        path: str,
        markets: Sequence[str],
        decode: Callable[[bytes], list[Row]],
        since_ns: int,
        reached: Reached,
    ) -> Told[Row]:
        found: set[Row] = set()
        oldest_ns: int | None = None
        cursors: list[int] = []
        query: Query = [*_named(markets), ("limit", _PAGE_ROWS)]
        while True:
            body = await self._get(path, [*query, *(("cursor", last) for last in cursors[-1:])])
            page = _decoded(decode, body)
            if page:
                found |= set(page)
                in_page_ns = min(row.venue_ns for row in page)
                oldest_ns = in_page_ns if oldest_ns is None else min(oldest_ns, in_page_ns)
                reached(oldest_ns)
            is_whole = oldest_ns is not None and oldest_ns < since_ns
            cursor = next_cursor(body)
            # A last page has no cursor, or the one before it again.
            if is_whole or not page or cursor is None or cursor in cursors:
                rows = sorted(found, key=lambda row: (row.venue_ns, row.number))
                recent = [row for row in rows if row.venue_ns >= since_ns]
                return Told(recent, None if is_whole else oldest_ns)
            cursors.append(cursor)

    async def _get(self, path: str, query: Query) -> bytes:
        while True:
            try:
                return await self._rest.get(path, query)
            except RateLimited as refusal:
                await asyncio.sleep(refusal.retry_after_s)


def decode_trade_rows(body: bytes) -> list[FillRow]:
    """Matches, as `GET /user/trades` tells them; prices may be off the grid where a position was liquidated.

    Example::

        {"status":"OK","data":[{"id":1784963886257016832,"market":"BTC-USD","orderId":9223372036854775808,
         "side":"BUY","price":"58853.0000000000000000","qty":"0.0900000000000000","fee":"0.0000000000000000",
         "tradeType":"TRADE","createdTime":1701563440000,"isTaker":true}],"pagination":{"cursor":1,"count":1}}
    """
    return [
        FillRow(
            market=wire.market,
            number=wire.id,
            order_id=wire.order_id,
            side=side_of(wire.side),
            price=amount(wire.price, "price"),
            size=amount(wire.qty, "qty"),
            fee=amount(wire.fee, "fee"),
            is_taker=wire.is_taker,
            venue_ns=wire.created_time * NS_PER_MS,
        )
        for wire in read_fills(body)
    ]


def decode_payment_rows(body: bytes) -> list[FundingRow]:
    """Funding payments; the sign of the amount comes from rate and position, as in `decode_funding_payments`.

    Example::

        {"status":"OK","data":[{"id":8341,"market":"BNB-USD","side":"LONG","size":"1.116","value":"560.77401888",
         "markPrice":"502.48568","fundingFee":"0.0073","fundingRate":"0.000013","paidTime":1723147241346}]}
    """
    return [_payment_row(wire) for wire in read_payments(body)]


def _payment_row(wire: WirePayment) -> FundingRow:
    return FundingRow(
        market=wire.market,
        number=wire.id,
        size=abs(amount(wire.size, "size")) * direction_of(wire.side),
        mark_price=amount(wire.mark_price, "mark price"),
        rate=amount(wire.funding_rate, "funding rate"),
        amount=funding_received(wire),
        venue_ns=wire.paid_time * NS_PER_MS,
    )


def _named(markets: Sequence[str]) -> list[tuple[str, str | int]]:
    return [("market", market) for market in markets]


def _decoded(decode: Callable[[bytes], list[T]], body: bytes) -> list[T]:
    try:
        return decode(body)
    except CorruptFrame as error:
        raise OutcomeUnknown(str(error)) from error
