"""REST calls that look an account up: money, positions, orders, trades, fees. An API key opens them."""

from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from market_maker.domain import NS_PER_MS
from market_maker.emulator import frames
from market_maker.emulator.orders import Order
from market_maker.emulator.pages import Wanted
from market_maker.emulator.server_calls import NOT_FOUND, Arguments, CallRefused, Desk
from market_maker.emulator.server_rules import REST_PATH, ServedAccount, ServerRules

Look = Callable[[ServedAccount, Arguments], bytes]


class PrivateCalls:
    """Answers what the owner of an account may ask."""

    def __init__(self, desk: Desk, accounts: Iterable[ServedAccount], rules: ServerRules) -> None:
        self._desk = desk
        self._exchange = desk.driver.exchange
        self._queries = desk.driver.exchange.queries
        self._clock = desk.driver.clock
        self._accounts = list(accounts)
        self._rules = rules

    def routes(self) -> Iterable[web.RouteDef]:
        """Paths and what answers them."""
        queries = self._queries
        looks: dict[str, Look] = {
            "/user/account/info": lambda own, _: frames.ok(self._described(own)),
            "/user/accounts": lambda own, _: frames.ok([self._described(a) for a in self._family(own)]),
            "/user/client/info": lambda own, _: frames.ok({"id": self._client_id(own)}),
            "/user/balance": self._balance,
            "/user/spot/balances": lambda _own, _asked: frames.ok([]),
            "/user/positions": lambda own, asked: queries.positions(own.account_id, asked.wanted()),
            "/user/positions/history": self._position_history,
            "/user/orders": lambda own, asked: queries.open_orders(own.account_id, asked.wanted()),
            "/user/orders/history": self._order_history,
            "/user/orders/{id}": self._order,
            "/user/orders/external/{externalId}": self._order_by_external_id,
            "/user/trades": self._trades,
            "/user/funding/history": self._funding_history,
            "/user/rebates/stats": lambda _own, _asked: frames.ok([_NO_REBATES]),
            "/user/fees": lambda own, asked: queries.fees(own.account_id, asked.texts("market")),
            "/user/leverage": lambda own, asked: queries.leverage(own.account_id, asked.texts("market")),
        }
        return [web.get(REST_PATH + path, self._handler(look)) for path, look in looks.items()]

    def _handler(self, look: Look) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            own = self._desk.account(request)
            return await self._desk.look_up(own.account_id, lambda: look(own, Arguments(request)))

        return handle

    def _client_id(self, own: ServedAccount) -> int:
        return self._exchange.account(own.account_id).client_id

    def _family(self, own: ServedAccount) -> list[ServedAccount]:
        client_id = self._client_id(own)
        return [account for account in self._accounts if self._client_id(account) == client_id]

    def _described(self, own: ServedAccount) -> dict[str, object]:
        index = self._family(own).index(own)
        return {
            "accountId": own.account_id,
            "accountIndex": index,
            "accountIndexForKeyGeneration": index,
            "bridgeStarknetAddress": "0x0",
            "description": f"test account {own.account_id}",
            "l2Key": own.public_key,
            "l2Vault": str(own.vault),
            "status": "ACTIVE",
        }

    def _balance(self, own: ServedAccount, _: Arguments) -> bytes:
        account = self._exchange.account(own.account_id)
        is_empty = account.ledger.cash == 0 and not any(account.ledger.lots.values())
        if is_empty and self._rules.balance_404_when_zero:
            raise CallRefused(NOT_FOUND, "Balance not found.")
        return self._queries.balance(own.account_id, self._clock.now_ns())

    def _position_history(self, own: ServedAccount, asked: Arguments) -> bytes:
        page = asked.page(self._rules.page_limit)
        return self._queries.position_history(own.account_id, asked.wanted(), page)

    def _order_history(self, own: ServedAccount, asked: Arguments) -> bytes:
        ids, external_ids = asked.texts("id"), asked.texts("externalId")

        def admits(order: Order) -> bool:
            named = str(order.order_id) in ids or order.request.external_id in external_ids
            return (named or not (ids or external_ids)) and self._is_kept(order)

        return self._queries.order_history(
            own.account_id,
            asked.wanted(),
            asked.page(self._rules.page_limit),
            admits,
            by_update=asked.word("sort") == "UPDATED_AT",
        )

    def _is_kept(self, order: Order) -> bool:
        return self._rules.unfilled_orders_kept or order.is_open or order.filled_lots > 0

    def _order(self, own: ServedAccount, asked: Arguments) -> bytes:
        order_id = asked.number_in_path("id")
        order = self._exchange.account(own.account_id).by_id.get(order_id)
        if order is None or not order.is_known or not self._is_kept(order):
            raise CallRefused(NOT_FOUND, "Order not found.")
        return self._queries.order(own.account_id, order_id)

    def _order_by_external_id(self, own: ServedAccount, asked: Arguments) -> bytes:
        external_id = asked.part("externalId")
        order = self._exchange.account(own.account_id).by_external.get(external_id)
        if order is not None and not self._is_kept(order):
            return frames.ok([])
        return self._queries.order_by_external_id(own.account_id, external_id)

    def _trades(self, own: ServedAccount, asked: Arguments) -> bytes:
        page = asked.page(self._rules.page_limit)
        return self._queries.trades(own.account_id, 0, asked.wanted(), page)

    def _funding_history(self, own: ServedAccount, asked: Arguments) -> bytes:
        since_ms = asked.number("fromTime") or asked.number("startTime") or 0
        page = asked.page(self._rules.page_limit)
        wanted = Wanted(asked.texts("market"), asked.word("side"))
        return self._queries.funding_payments(own.account_id, since_ms * NS_PER_MS, wanted, page)


_NO_REBATES = {
    "totalPaid": "0",
    "rebatesRate": "0",
    "marketShare": "0",
    "nextTierMakerShare": "0.005",
    "nextTierRebateRate": "0.00002",
}
