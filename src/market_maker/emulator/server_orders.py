"""REST calls that change something: orders, cancels, leverage, the dead man's switch.

A call that the exchange took in happens, whether or not its caller still waits for the answer.
"""

from collections.abc import Awaitable, Callable, Iterable

import msgspec
from aiohttp import web

from market_maker.emulator.bodies import (
    MALFORMED,
    BodyRefused,
    leverage_request,
    mass_cancel_request,
    order_request,
    read_order,
    signed_order,
)
from market_maker.emulator.requests import CancelRequest, DeadMansSwitchRequest, OrderRequest, Request
from market_maker.emulator.server_calls import (
    BAD_REQUEST,
    Arguments,
    CallRefused,
    Desk,
    reply_response,
)
from market_maker.emulator.server_rules import REST_PATH, ServedAccount, ServerRules
from market_maker.emulator.settlement import l2_config
from market_maker.emulator.signatures import SignedOrder, settlement_code
from market_maker.emulator.validation import Refusal

Reader = Callable[[web.Request, bytes], Request]


class OrderCalls:
    """Passes requests on to the exchange."""

    def __init__(self, desk: Desk, rules: ServerRules) -> None:
        self._desk = desk
        self._rules = rules
        markets = desk.driver.exchange.venue.markets.values()
        self._configs = {market.name: l2_config(market.instrument) for market in markets}

    def routes(self) -> Iterable[web.RouteDef]:
        """Paths and what answers them."""
        order = f"{REST_PATH}/user/order"
        return [
            web.post(order, self._place),
            web.delete(order, self._handler(_cancel_by_external_id)),
            web.delete(f"{order}/{{id}}", self._handler(_cancel_by_id)),
            web.post(f"{order}/massCancel", self._handler(lambda _, body: mass_cancel_request(body))),
            web.post(f"{REST_PATH}/user/deadmanswitch", self._handler(_switch)),
            web.patch(f"{REST_PATH}/user/leverage", self._handler(lambda _, body: leverage_request(body))),
        ]

    def _handler(self, read: Reader) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            try:
                wanted = read(request, body)
            except (BodyRefused, CallRefused) as error:
                return await self._refuse(request, error)
            return await self._send(self._desk.account(request), wanted)

        return handle

    async def _place(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        try:
            body = read_order(raw)
            wanted = order_request(body)
            signed = signed_order(body, wanted) if self._rules.verify_signatures else None
        except BodyRefused as error:
            return await self._refuse(request, error)
        own = self._desk.account(request)
        if signed is not None:
            wanted = msgspec.structs.replace(wanted, settlement_code=self._checked(own, wanted, signed))
        return await self._send(own, wanted)

    def _checked(self, own: ServedAccount, wanted: OrderRequest, signed: SignedOrder) -> int:
        config = self._configs.get(wanted.market)
        if config is None:
            return 0
        return settlement_code(signed, own.public_key, own.vault, config, self._rules.domain)

    async def _send(self, own: ServedAccount, wanted: Request) -> web.StreamResponse:
        return reply_response(await self._desk.driver.send(own.account_id, wanted))

    async def _refuse(self, request: web.Request, error: BodyRefused | CallRefused) -> web.StreamResponse:
        pool = self._desk.pool(request)
        if isinstance(error, CallRefused):
            return await self._desk.refuse(pool, error.refusal, str(error))
        response = await self._desk.refuse(pool, Refusal(400, error.code), str(error))
        if error.code == MALFORMED and self._rules.malformed_body_empty:
            response.body = b""
        return response


def _cancel_by_id(request: web.Request, _: bytes) -> CancelRequest:
    return CancelRequest(order_id=Arguments(request).number_in_path("id"))


def _cancel_by_external_id(request: web.Request, _: bytes) -> CancelRequest:
    external_id = Arguments(request).word("externalId")
    if not external_id:
        raise CallRefused(BAD_REQUEST, "expected externalId, was missing")
    return CancelRequest(external_id=external_id)


def _switch(request: web.Request, _: bytes) -> DeadMansSwitchRequest:
    return DeadMansSwitchRequest(countdown_s=Arguments(request).required_number("countdownTime"))
