"""Control of the emulator itself, for whoever runs it on this machine: accounts with keys, state, faults.

No key is asked for, so it is there on loopback only, and only for who calls it by an address of loopback: a
web page whose own name was made to lead here is refused.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from aiohttp import web

from market_maker.access import is_loopback
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.faults import FaultError, faults_of
from market_maker.emulator.frames import text
from market_maker.emulator.server_calls import (
    BAD_REQUEST,
    FORBIDDEN,
    CallRefused,
    Handler,
    refusal_response,
    respond,
)
from market_maker.emulator.server_rules import ServedAccount

CONTROL_PATH: Final = "/emulator"

_read_values = msgspec.json.Decoder(dict[str, float]).decode


def described(accounts: Iterable[ServedAccount]) -> list[dict[str, object]]:
    """Accounts with their keys, as they are handed out."""
    return [
        {
            "accountId": account.account_id,
            "apiKey": account.api_key,
            "starkPrivateKey": account.private_key,
            "starkPublicKey": account.public_key,
            "vault": account.vault,
        }
        for account in accounts
    ]


def _from_here(handler: Handler) -> Handler:
    async def checked(request: web.Request) -> web.StreamResponse:
        named = _without_port(request.host)
        # A browser that calls for a page of somebody else says so.
        if not is_loopback(named) or "Origin" in request.headers:
            raise CallRefused(FORBIDDEN, f"expected a call by an address of loopback, was {named}")
        return await handler(request)

    return checked


def _without_port(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


class ControlCalls:
    """Answers what only the emulator can be asked."""

    def __init__(self, driver: ExchangeDriver, accounts: Iterable[ServedAccount]) -> None:
        self._exchange = driver.exchange
        self._accounts = list(accounts)

    def routes(self) -> Iterable[web.RouteDef]:
        """Paths and what answers them."""
        return [
            web.get(f"{CONTROL_PATH}/accounts", _from_here(self._describe)),
            web.get(f"{CONTROL_PATH}/state", _from_here(self._state)),
            web.post(f"{CONTROL_PATH}/faults", _from_here(self._set_faults)),
        ]

    async def _describe(self, _: web.Request) -> web.StreamResponse:
        return respond(200, msgspec.json.encode({"accounts": described(self._accounts)}))

    async def _state(self, _: web.Request) -> web.StreamResponse:
        ids = [account.account_id for account in self._accounts]
        state = {
            "openOrders": {str(number): len(self._exchange.account(number).open) for number in ids},
            "equity": {str(number): text(self._exchange.equity(number)) for number in ids},
            "faults": self._exchange.faults.values(),
            "faultCounts": self._exchange.fault_counts,
        }
        return respond(200, msgspec.json.encode(state))

    async def _set_faults(self, request: web.Request) -> web.StreamResponse:
        """Set the faults that the body names, `{"lost_replies":0.3}`; the others are off."""
        try:
            faults = faults_of(_read_values(await request.read()))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, FaultError) as error:
            return refusal_response(BAD_REQUEST, str(error))
        self._exchange.set_faults(faults)
        return respond(200, msgspec.json.encode({"faults": faults.values()}))
