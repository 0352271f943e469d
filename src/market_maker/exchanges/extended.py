"""The exchange itself behind the port: requests over REST, what happens over WebSocket.

Look-ups are decoded as the emulator's are; orders are signed here, at most one in each turn of the event
loop, because a signature takes half a millisecond of it. Where nothing can be known of a request but that it
was sent, it fails as `OutcomeUnknown`, and whoever sent it looks it up.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from market_maker.clock import Clock
from market_maker.config_sections import ConnectionSettings
from market_maker.domain import NS_PER_MS, NS_PER_S, NewOrder
from market_maker.exchanges import replies
from market_maker.exchanges.account_feed import account_feed
from market_maker.exchanges.credentials import AccountInfo, Keys, emulator_keys, log_in
from market_maker.exchanges.endpoints import Endpoint
from market_maker.exchanges.envelope import check_carried_out, next_cursor
from market_maker.exchanges.history import AccountHistory
from market_maker.exchanges.market_feed import market_feed
from market_maker.exchanges.rest import Query, RestClient
from market_maker.exchanges.settlements import Settlement, decode_settlements
from market_maker.exchanges.signing import OrderSigner, OrderTerms
from market_maker.exchanges.socket import Connector
from market_maker.exchanges.wire import ZERO, CorruptFrame, Unknown
from market_maker.gateway import (
    Accepted,
    AccountEvent,
    BalanceReport,
    Candle,
    CredentialsRefused,
    Fees,
    FillReport,
    FundingPayment,
    MarketEvent,
    MarketNotFound,
    OrderRefused,
    OrderReport,
    OutcomeUnknown,
    PositionReport,
)
from market_maker.instrument import Instrument, MarketStatus
from market_maker.public_markets import Listing, find_markets

__all__ = ["ExtendedGateway", "Keys", "RateTier", "emulator_keys"]

_BAR_NS: Final = 60 * NS_PER_S
_NOT_FOUND: Final = 404
_MARKET_NOT_FOUND: Final = 1001
_FEE_TOO_LOW: Final = 1128
# The Date header counts whole seconds; the middle of one is half a second off at most.
_DATE_MIDDLE_S: Final = 0.5
_ANY_MARKET: Final = "BTC-USD"
# More names than this in a query are more than the whole answer.
_MOST_NAMED: Final = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RateTier:
    """Requests a minute: the limit that is set, the part kept for cancels, and those of the last minute."""

    requests_per_minute: int
    kept_for_cancels: int
    used: int


class ExtendedGateway:
    """One account on Extended, or on an emulator that speaks its protocol, as a `Gateway`.

    `instruments` comes first: it says by which ticks and lots the rest is decoded. Made by `connect`.

    Attributes
    ----------
    account : AccountInfo or None
        None without keys: then only what is public can be asked.
    """

    simulated = ""

    def __init__(
        self,
        rest: RestClient,
        streams: Connector,
        settings: ConnectionSettings,
        clock: Clock,
        identity: tuple[AccountInfo, OrderSigner] | None = None,
    ) -> None:
        self.unknown: Unknown = Unknown()
        self.account: AccountInfo | None = identity[0] if identity else None
        self._signer: OrderSigner | None = identity[1] if identity else None
        self._rest = rest
        self._streams = streams
        self._settings = settings
        self._clock = clock
        self._instruments: dict[str, Instrument] = {}
        self._settlements: dict[str, Settlement] = {}
        # Terms of orders that rest (at the maker's fee) and of others, by market.
        self._terms: dict[str, tuple[OrderTerms, OrderTerms]] = {}
        self._signing = asyncio.Lock()

    @classmethod
    async def connect(
        cls, endpoint: Endpoint, keys: Keys | None, settings: ConnectionSettings, clock: Clock
    ) -> "ExtendedGateway":
        """Open the way to an exchange; with keys, look up whose they are.

        Raises
        ------
        CredentialsRefused
            If the keys are not of one sub-account of this network.
        Unreachable
            If there is no connection.
        """
        api_key = keys.api_key if keys else None
        rest = RestClient(endpoint, api_key, settings, clock)
        try:
            identity = await log_in(rest, keys) if keys else None
        except BaseException:
            await rest.close()
            raise
        streams = Connector(rest.session, endpoint.stream_url, api_key, endpoint.headers)
        return cls(rest, streams, settings, clock, identity)

    async def listings(self, markets: Sequence[str] = ()) -> dict[str, Listing]:
        """Markets as the exchange lists them; all where none is named, those that exist where some are."""
        found, _ = await self._listed(markets)
        return found

    async def instruments(self, markets: Sequence[str]) -> dict[str, Instrument]:
        """Trading rules of the named markets, open for trading or not; of all where none is named."""
        found, settlements = await self._listed(markets)
        offered = {name: listing.instrument for name, listing in found.items()}
        if any(market not in offered for market in markets):
            # The message is to say what there is.
            everything, _ = await self._listed(())
            offered = {name: listing.instrument for name, listing in everything.items()}
        self._instruments = find_markets(offered, markets) if markets else offered
        self._settlements = settlements
        self._terms.clear()
        return dict(self._instruments)

    async def statuses(self, markets: Sequence[str]) -> dict[str, MarketStatus]:
        """Status of the named markets as it is now; one that is not listed any more is left out."""
        listed = await self.listings(markets)
        return {name: listing.instrument.status for name, listing in listed.items()}

    async def fees(self, market: str) -> Fees:
        """Fee rates of the account in a market."""
        instrument = self._instrument(market)
        rates = await self._ask("/user/fees", [("market", market)], replies.decode_fees)
        if market not in rates:
            msg = f"{market}: expected fee rates, was without"
            raise OutcomeUnknown(msg)
        fees = rates[market]
        settlement = self._settlements.get(market)
        if settlement is not None:
            # A rebate is not part of what is signed: the fee accepted is never below nothing.
            maker = OrderTerms(instrument, settlement, max(fees.maker, ZERO))
            self._terms[market] = maker, OrderTerms(instrument, settlement, max(fees.taker, ZERO))
        return fees

    async def leverage(self, markets: Sequence[str]) -> dict[str, Decimal]:
        """Leverage that the account is set to in the named markets."""
        return await self._ask("/user/leverage", _named(markets), replies.decode_leverage)

    async def set_leverage(self, market: str, leverage: Decimal) -> None:
        """Set the leverage of the account in a market."""
        self._instrument(market)
        body = msgspec.json.encode({"market": market, "leverage": format(leverage, "f")})
        await self._order("PATCH", "/user/leverage", body=body)

    async def clock_skew_s(self) -> float:
        """How far the exchange's clock is ahead of ours, s, to half a second and half the way there."""
        market = next(iter(self._instruments), _ANY_MARKET)
        reply = await self._rest.ask(f"/info/markets/{market}/stats", private=False)
        try:
            written_s = parsedate_to_datetime(reply.headers.get("Date", "")).timestamp() + _DATE_MIDDLE_S
        except ValueError as error:
            msg = f"{self._rest.endpoint.host}: expected a Date with the reply, was without"
            raise OutcomeUnknown(msg) from error
        return written_s - (reply.sent_ns + reply.received_ns) / 2 / NS_PER_S

    async def rate_tier(self) -> RateTier:
        """The rate budget. The exchange tells its limit nowhere, so this is the one that is set."""
        budget = self._rest.budget
        return RateTier(budget.requests_per_minute, budget.reserve, budget.used(self._clock.now_ns()))

    async def candles(self, market: str, count: int) -> list[Candle]:
        """Return the last closed one-minute bars, oldest first."""
        self._instrument(market)
        # The newest bar is still open.
        query: Query = [("interval", "PT1M"), ("limit", count + 1)]
        bars = await self._ask(f"/info/candles/{market}/trades", query, replies.decode_candles, private=False)
        now_ns = self._clock.now_ns()
        closed = [bar for bar in bars if bar.open_ns + _BAR_NS <= now_ns]
        return closed[-count:] if count else []

    async def place(self, order: NewOrder) -> Accepted:
        """Send an order, or the atomic replacement of another."""
        body = await self._signed(order, await self._terms_of(order))
        try:
            reply = await self._rest.send("POST", "/user/order", body=body)
        except OrderRefused as refusal:
            if refusal.code == _FEE_TOO_LOW:
                # The account's fees have changed: the next order asks for them anew.
                self._terms.pop(order.market, None)
            raise
        return _decoded(replies.decode_accepted, reply)

    async def cancel(self, market: str, external_id: str) -> None:
        """Ask for the cancel of one order."""
        await self._order("DELETE", "/user/order", [("externalId", external_id)], urgent=True)

    async def mass_cancel(self, markets: Sequence[str]) -> None:
        """Ask for the cancel of every order of the account in the named markets."""
        body = msgspec.json.encode({"markets": list(markets)})
        await self._order("POST", "/user/order/massCancel", body=body, urgent=True)

    async def arm_dead_mans_switch(self, countdown_s: int) -> None:
        """Arm, feed or (0) disarm the dead man's switch."""
        await self._order("POST", "/user/deadmanswitch", [("countdownTime", countdown_s)], urgent=True)

    async def open_orders(self) -> list[OrderReport]:
        """Every order of the account that rests; one in a market that is not loaded has no price and size."""
        return await self._history("/user/orders", (), self._orders, _order_turn)

    async def order(self, external_id: str) -> OrderReport | None:
        """Look one order up."""
        try:
            # Orders of others bear ids of their making.
            found = await self._ask(f"/user/orders/external/{quote(external_id, safe='')}", (), self._orders)
        except OrderRefused as refusal:
            if refusal.code == _NOT_FOUND:
                return None
            raise
        return found[0] if found else None

    async def fills(self, since_ns: int) -> list[FillReport]:
        """Matches of the account since an instant, oldest first."""
        return await self._history(
            "/user/trades",
            _named(self._instruments),
            lambda body: replies.decode_fills(body, self._instruments, self._clock.now_ns(), self.unknown),
            lambda report: (report.fill.venue_ns, report.fill.trade_id),
            since_ns,
        )

    async def positions(self) -> list[PositionReport]:
        """Positions of the account, those that are not flat."""
        # Of all markets: those in markets that are not loaded are counted, for they take margin too.
        return await self._ask(
            "/user/positions",
            (),
            lambda body: replies.decode_positions(body, self._instruments, self.unknown),
        )

    async def balance(self) -> BalanceReport:
        """The account's money."""
        try:
            return await self._ask("/user/balance", (), replies.decode_balance)
        except OrderRefused as refusal:
            if refusal.code != _NOT_FOUND:
                raise
            # An account that never had money.
            return BalanceReport(ZERO, ZERO, ZERO, ZERO, ZERO, self._clock.now_ns())

    async def funding_payments(self, since_ns: int) -> list[FundingPayment]:
        """Funding booked since an instant, oldest first."""
        since_ms = since_ns // NS_PER_MS
        # Two generations of the documentation, two names.
        query = [*_named(self._instruments), ("startTime", since_ms), ("fromTime", since_ms)]
        return await self._history(
            "/user/funding/history",
            query,
            lambda body: replies.decode_funding_payments(body, self._instruments),
            lambda payment: (payment.venue_ns, payment.payment_id),
            since_ns,
        )

    def history(self) -> AccountHistory:
        """Past of the account, as the exchange wrote it down."""
        return AccountHistory(self._rest)

    def market_events(self, market: str) -> AsyncIterator[MarketEvent]:
        """Book, best quote, trades, mark, index and funding of one market."""
        instrument = self._instrument(market)
        return market_feed(self._streams, instrument, self._settings, self._clock, self.unknown)

    def account_events(self) -> AsyncIterator[AccountEvent]:
        """Orders, fills, positions and balance of the account; starts with what is there."""
        return account_feed(self._streams, self._instruments, self._settings, self._clock, self.unknown)

    async def close(self) -> None:
        """Close all connections; streams end."""
        await self._rest.close()

    def _instrument(self, market: str) -> Instrument:
        if market not in self._instruments:
            msg = f"expected a market of {', '.join(sorted(self._instruments))}, was {market}"
            raise MarketNotFound(msg, _MARKET_NOT_FOUND)
        return self._instruments[market]

    async def _listed(self, markets: Sequence[str]) -> tuple[dict[str, Listing], dict[str, Settlement]]:
        try:
            body = await self._rest.get("/info/markets", _named(markets), private=False)
        except MarketNotFound:
            return {}, {}
        listings = _decoded(lambda reply: replies.decode_markets(reply, self.unknown), body)
        return listings, _decoded(lambda reply: decode_settlements(reply, self.unknown), body)

    async def _terms_of(self, order: NewOrder) -> OrderTerms:
        if order.market not in self._terms:
            try:
                await self.fees(order.market)
            except OutcomeUnknown as error:
                msg = f"not sent: the fees of {order.market}, that are signed, are not known ({error})"
                raise OrderRefused(msg) from error
        if order.market not in self._terms:
            msg = f"{order.market}: expected l2Config, was without: its orders can not be signed"
            raise OrderRefused(msg)
        resting, taking = self._terms[order.market]
        return resting if order.post_only else taking

    async def _signed(self, order: NewOrder, terms: OrderTerms) -> bytes:
        if self._signer is None:
            msg = f"{self._rest.endpoint.network}: expected keys to sign with, was without"
            raise CredentialsRefused(msg)
        await self._signing.acquire()
        # The next signature waits for the next turn of the loop, in which sockets and timers have theirs.
        asyncio.get_running_loop().call_soon(self._signing.release)
        return self._signer.body(order, terms)

    async def _order(
        self, method: str, path: str, query: Query = (), *, body: bytes = b"", urgent: bool = False
    ) -> None:
        _decoded(check_carried_out, await self._rest.send(method, path, query, body=body, urgent=urgent))

    def _orders(self, body: bytes) -> list[OrderReport]:
        return replies.decode_orders(body, self._instruments, self.unknown)

    async def _ask(self, path: str, query: Query, decode: Callable[[bytes], T], *, private: bool = True) -> T:
        return _decoded(decode, await self._rest.get(path, query, private=private))

    async def _history(
        self,
        path: str,
        query: Query,
        decode: Callable[[bytes], list[T]],
        turn: Callable[[T], tuple[int, int]],
        since_ns: int = 0,
    ) -> list[T]:
        """All pages of a list that has the newest first, oldest first and each entry once, since an instant.

        `turn` gives an entry's instant and id. The wire has whole milliseconds.
        """
        since_ns -= since_ns % NS_PER_MS
        found: dict[int, tuple[int, T]] = {}
        cursors: list[int] = []
        while True:
            body = await self._rest.get(path, [*query, *(("cursor", last) for last in cursors[-1:])])
            page = [(*turn(entry), entry) for entry in _decoded(decode, body)]
            found |= {number: (at_ns, entry) for at_ns, number, entry in page}
            cursor = next_cursor(body)
            reaches_back = not page or min(at_ns for at_ns, _, _ in page) < since_ns
            # A last page has no cursor, or the one before it again.
            if cursor is None or cursor in cursors or reaches_back:
                recent = sorted((at_ns, number) for number, (at_ns, _) in found.items() if at_ns >= since_ns)
                return [found[number][1] for _, number in recent]
            cursors.append(cursor)


def _order_turn(order: OrderReport) -> tuple[int, int]:
    return order.venue_ns, order.order_id


def _named(markets: Iterable[str]) -> list[tuple[str, str | int]]:
    names: list[tuple[str, str | int]] = [("market", market) for market in markets]
    return names if len(names) <= _MOST_NAMED else []


def _decoded(decode: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decode(body)
    except CorruptFrame as error:
        raise OutcomeUnknown(str(error)) from error
