"""The emulator's server in virtual time, over a market whose other participants say what a test lets them.

Prices of others: bids 83,990 and 83,980, asks 84,010 and 84,020, one BTC each; the index is 84,000.
"""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import aiohttp
import numpy as np
from emulator_flows import ScriptedFlow
from x10.clients.rest import RestApiClient
from x10.clients.stream import StreamClient
from x10.core.client_config import (
    ClientConfig,
    DefaultsConfig,
    EndpointsConfig,
    SigningConfig,
    StarknetDomain,
)
from x10.core.stark_account import StarkPerpetualAccount

from market_maker.clock import LoopClock
from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.flow import LevelChange, TakerOrder
from market_maker.emulator.rules import ExchangeRules
from market_maker.emulator.scenarios import instruments
from market_maker.emulator.server import EmulatorServer, ServedAccount, ServerRules
from market_maker.emulator.server_rules import served_account

BTC, ETH = "BTC-USD", "ETH-USD"
START_NS = 1_767_571_230 * NS_PER_S
SEED = 7
AGENT = {"User-Agent": "test/1"}


@dataclass
class World:
    """A served exchange, its accounts and its clients."""

    clock: LoopClock
    exchange: Exchange
    driver: ExchangeDriver
    server: EmulatorServer
    accounts: list[ServedAccount]
    flows: dict[str, ScriptedFlow]
    session: aiohttp.ClientSession
    sdk_clients: list[RestApiClient] = field(default_factory=list)

    @property
    def rest(self) -> str:
        return f"{self.server.url}/api/v1"

    @property
    def streams(self) -> str:
        return f"{self.server.url.replace('http', 'ws')}/stream.extended.exchange/v1"

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.now_ns() // NS_PER_S, tz=UTC)

    def in_an_hour(self) -> datetime:
        return self.now + timedelta(hours=1)

    def key(self, account: int = 0) -> dict[str, str]:
        return AGENT | {"X-Api-Key": self.accounts[account].api_key}

    async def call(self, method: str, path: str, account: int | None = 0, **how):
        """Status and body of a REST call; the body is None where it is empty."""
        headers = AGENT if account is None else self.key(account)
        async with self.session.request(
            method, self.rest + path, headers=how.pop("headers", headers), **how
        ) as reply:
            raw = await reply.read()
            return reply.status, json.loads(raw) if raw else None

    async def get(self, path: str, account: int | None = 0):
        """Data of a look-up that succeeds."""
        status, body = await self.call("GET", path, account)
        assert (status, body["status"]) == (200, "OK"), body
        return body["data"]

    async def refused(self, method: str, path: str, account: int | None = 0, **how) -> tuple[int, int]:
        """HTTP status and error code of a call that is refused."""
        status, body = await self.call(method, path, account, **how)
        assert body["status"] == "ERROR", body
        assert body["error"]["message"]
        return status, body["error"]["code"]

    def stark_account(self, account: int = 0, **other) -> StarkPerpetualAccount:
        own = self.accounts[account]
        given = {
            "vault": own.vault,
            "private_key": own.private_key,
            "public_key": own.public_key,
            "api_key": own.api_key,
        }
        return StarkPerpetualAccount(**(given | other))

    def sdk(self, account: int = 0, **other) -> RestApiClient:
        """The official client, as it is."""
        client = RestApiClient(sdk_config(self.server.url), self.stark_account(account, **other))
        self.sdk_clients.append(client)
        return client

    def sdk_streams(self) -> StreamClient:
        return StreamClient(api_url=sdk_config(self.server.url).endpoints.stream_url)

    def feed(self, *events: LevelChange | TakerOrder, market: str = BTC, after_s: float = 0.01) -> None:
        """Let the others act, soon. (Whoever awaits next wakes the driver.)."""
        self.flows[market].feed(self.clock.now_ns() + round(after_s * NS_PER_S), *events)


def sdk_config(url: str) -> ClientConfig:
    """The official client's configuration, pointed at the emulator."""
    streams = f"{url.replace('http', 'ws')}/stream.extended.exchange"
    return ClientConfig(
        defaults=DefaultsConfig(market_price_slippage=Decimal("0.0075"), request_timeout_seconds=5),
        signing=SigningConfig(
            signing_domain="x",
            starknet_domain=StarknetDomain(
                name="Perpetuals", version="v0", chain_id="SN_SEPOLIA", revision="1"
            ),
        ),
        endpoints=EndpointsConfig(
            api_base_url=f"{url}/api/v1",
            api_base_order_management_url=f"{url}/api/v1",
            stream_url=f"{streams}/v1",
            stream_rpc_url=f"{streams}/v2/rpc",
            onboarding_url=url,
            vault_asset_name="XVS",
        ),
    )


def standing_book(market: str) -> list[LevelChange]:
    """What others show at first."""
    middle, step = (84_000, 10) if market == BTC else (24_000, 10)
    lots = 100_000
    return [
        LevelChange(side, middle - int(side) * step * distance, lots) for side in Side for distance in (1, 2)
    ]


@asynccontextmanager
async def world(
    rules: ExchangeRules | None = None,
    server_rules: ServerRules | None = None,
    *,
    accounts: int = 2,
    deposit: str = "10000",
    clients: tuple[int | None, ...] = (),
):
    """Serve an exchange; half a second of it has passed. `clients` are the accounts' client ids."""
    clock = LoopClock(asyncio.get_running_loop(), START_NS)
    flows = {BTC: ScriptedFlow(BTC, "84000"), ETH: ScriptedFlow(ETH, "2400")}
    for market, flow in flows.items():
        flow.feed(START_NS, *standing_book(market))
    listed = instruments(tuple(flows))
    rng = np.random.default_rng(SEED)
    exchange = Exchange(listed, list(flows.values()), rules or ExchangeRules(), rng, START_NS)
    owners = clients or (None,) * accounts
    ids = [exchange.add_account(Decimal(deposit), client_id=owner) for owner in owners]
    served = [served_account(number, SEED, index) for index, number in enumerate(ids)]
    driver = ExchangeDriver(exchange, clock)
    server = EmulatorServer(driver, served, server_rules or ServerRules())
    driver.start()
    await server.start()
    async with aiohttp.ClientSession() as session:
        here = World(clock, exchange, driver, server, served, flows, session)
        try:
            await asyncio.sleep(0.5)
            yield here
        finally:
            for client in here.sdk_clients:
                await client.close()
            await session.close()
            driver.close()
            await server.close()
