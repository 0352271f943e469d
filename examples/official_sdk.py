"""The exchange's official SDK, unmodified, at work on an emulator beside the market maker.

Start an emulator with two accounts and the market maker on the first of them, then this on the second:

    mm emulator --accounts 2
    mm run --set network=emulator
    python examples/official_sdk.py --seconds 60

It listens to the book and to its account, keeps one post-only order on each side of the best prices (atomic
replacements), takes a little now and then, cancels everything at the end, and prints what it saw as JSON. It
exits with 1 if anything of it is left open, or an order that was accepted was never heard of on the stream.
The SDK comes with the development tools (`pip install -e .[dev]`); its streams need websockets below 14.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import aiohttp
from x10.clients.rest.rest_api_client import RestApiClient
from x10.clients.stream.stream_client import StreamClient
from x10.core.client_config import (
    ClientConfig,
    DefaultsConfig,
    EndpointsConfig,
    SigningConfig,
    StarknetDomain,
)
from x10.core.stark_account import StarkPerpetualAccount
from x10.errors import SdkError
from x10.models.market import MarketModel
from x10.models.order import OrderSide, TimeInForce

MAKER_FEE = Decimal(0)
TAKER_FEE = Decimal("0.00025")
DISTANCE = Decimal("0.0005")
TAKE_EVERY = 10
ENDED = ("FILLED", "CANCELLED", "REJECTED", "EXPIRED")


@dataclass
class Seen:
    """What the streams told."""

    bid: Decimal | None = None
    ask: Decimal | None = None
    frames: Counter[str] = field(default_factory=Counter)
    placed: set[str] = field(default_factory=set)
    heard: set[str] = field(default_factory=set)
    resting: dict[str, str] = field(default_factory=dict)
    trades: int = 0
    refusals: Counter[str] = field(default_factory=Counter)


def configuration(url: str) -> ClientConfig:
    """The SDK's configuration for an emulator at a URL."""
    streams = "ws" + url.removeprefix("http") + "/stream.extended.exchange"
    return ClientConfig(
        defaults=DefaultsConfig(market_price_slippage=Decimal("0.0075"), request_timeout_seconds=5),
        signing=SigningConfig(
            signing_domain="emulator",
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


async def account_of(url: str, number: int) -> StarkPerpetualAccount:
    """Keys of an account, that an emulator hands out to whoever asks."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/emulator/accounts") as reply:
        keys = (await reply.json())["accounts"][number]
    return StarkPerpetualAccount(
        vault=keys["vault"],
        private_key=keys["starkPrivateKey"],
        public_key=keys["starkPublicKey"],
        api_key=keys["apiKey"],
    )


async def listen_to_book(streams: StreamClient, market: str, seen: Seen) -> None:
    """Keep the best prices."""
    async with streams.subscribe_to_orderbooks(market, depth=1) as frames:
        async for frame in frames:
            seen.frames["book"] += 1
            if frame.data and frame.data.bid and frame.data.ask:
                seen.bid, seen.ask = frame.data.bid[0].price, frame.data.ask[0].price


async def listen_to_account(streams: StreamClient, api_key: str, seen: Seen) -> None:
    """Keep what became of our orders, and count our trades."""
    async with streams.subscribe_to_account_updates(api_key) as frames:
        async for frame in frames:
            seen.frames["account"] += 1
            for order in (frame.data.orders or []) if frame.data else []:
                seen.heard.add(order.external_id)
                side = str(order.side)
                if order.status not in ENDED:
                    seen.resting[side] = order.external_id
                elif seen.resting.get(side) == order.external_id:
                    del seen.resting[side]
            seen.trades += len(frame.data.trades or []) if frame.data else 0


class SecondClient:
    """One account of the emulator through the official SDK."""

    def __init__(self, rest: RestApiClient, market: MarketModel, seen: Seen) -> None:
        self.rest = rest
        self.market = market
        self.seen = seen
        self.size = market.trading_config.min_order_size * 2

    async def quote(self, side: OrderSide) -> None:
        """Keep one post-only order a little behind the best price."""
        best = self.seen.bid if side is OrderSide.BUY else self.seen.ask
        if best is None:
            return
        is_buy = side is OrderSide.BUY
        away, rounding = (1 - DISTANCE, ROUND_FLOOR) if is_buy else (1 + DISTANCE, ROUND_CEILING)
        price = self.market.trading_config.round_price(best * away, rounding)
        await self._send(
            self.rest.place_order(
                self.market.name,
                self.size,
                price,
                side,
                MAKER_FEE,
                post_only=True,
                previous_order_id=self.seen.resting.get(str(side)),
            )
        )

    async def take(self, side: OrderSide) -> None:
        """Take the smallest size at once."""
        best = self.seen.ask if side is OrderSide.BUY else self.seen.bid
        if best is None:
            return
        through = Decimal("1.002") if side is OrderSide.BUY else Decimal("0.998")
        price = self.market.trading_config.round_price(best * through, ROUND_FLOOR)
        await self._send(
            self.rest.place_order(
                self.market.name, self.size, price, side, TAKER_FEE, time_in_force=TimeInForce.IOC
            )
        )

    async def _send(self, request: Coroutine[Any, Any, Any]) -> None:
        try:
            reply = await request
        except SdkError as error:
            self.seen.refusals[str(error)[:120]] += 1
        else:
            self.seen.placed.add(reply.data.external_id)

    async def leave(self) -> int:
        """Cancel everything; how many orders are open then."""
        for _ in range(20):
            await self.rest.orders.mass_cancel(cancel_all=True)
            await asyncio.sleep(0.25)
            left = (await self.rest.account.get_open_orders()).data or []
            if not left:
                return 0
        return len(left)


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds, at most so long; whether it does."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110  (what is waited for comes from two streams)
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True


async def run(url: str, number: int, market_name: str, seconds: float) -> dict[str, Any]:
    """Trade for a while; what was seen."""
    account, config, seen = await account_of(url, number), configuration(url), Seen()
    streams = StreamClient(api_url=config.endpoints.stream_url)
    async with RestApiClient(config, account) as rest:
        markets = await rest.info.get_markets_dict()
        client = SecondClient(rest, markets[market_name], seen)
        listening = [
            asyncio.ensure_future(listen_to_book(streams, market_name, seen)),
            asyncio.ensure_future(listen_to_account(streams, account.api_key, seen)),
        ]
        await until(lambda: seen.bid is not None and seen.frames["account"] > 0, 10.0)
        for turn in range(int(seconds)):
            for side in (OrderSide.BUY, OrderSide.SELL):
                await client.quote(side)
            if turn % TAKE_EVERY == TAKE_EVERY - 1:
                await client.take(OrderSide.BUY if turn // TAKE_EVERY % 2 else OrderSide.SELL)
            await asyncio.sleep(1.0)
        open_orders = await client.leave()
        unheard_of = not await until(lambda: seen.placed <= seen.heard, 5.0)
        for task in listening:
            task.cancel()
        ended = await asyncio.gather(*listening, return_exceptions=True)
        balance = await rest.account.get_balance()
    failed = [repr(error) for error in ended if not isinstance(error, asyncio.CancelledError | None)]
    return {
        "placed": len(seen.placed),
        "refusals": dict(seen.refusals),
        "frames": dict(seen.frames),
        "trades": seen.trades,
        "equity_usd": str(balance.data.equity if balance.data else None),
        "open_orders": open_orders,
        "unheard_of": len(seen.placed - seen.heard) if unheard_of else 0,
        "failed": failed,
    }


def main() -> int:
    """Run the example; 0 if nothing is left open and everything was heard of."""
    parser = argparse.ArgumentParser(description="The official SDK on an emulator of ours.")
    parser.add_argument("--url", default="http://127.0.0.1:8790", help="where the emulator listens")
    parser.add_argument("--account", type=int, default=1, help="which of its accounts, from 0")
    parser.add_argument("--market", default="BTC-USD")
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    seen = asyncio.run(run(given.url, given.account, given.market, given.seconds))
    print(json.dumps(seen, indent=2))
    return 1 if seen["open_orders"] or seen["unheard_of"] or seen["failed"] or not seen["placed"] else 0


if __name__ == "__main__":
    sys.exit(main())
