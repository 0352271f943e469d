"""What the wire costs: decoding, signing and sending beside the official SDK, and how long the loop is held.

Ours and the SDK's take turns in one run, frame by frame and order by order, so noise hits both. Orders go
over loopback to a process of its own: to a server that only reads the request and writes the same reply,
which leaves what the two clients take; to an emulator that answers at once, which adds to both what a whole
exchange takes; and to one that checks signatures as well. The last part is a session over sockets, 4 levels
on both sides of three markets, whose tasks are timed step by step.
"""

import asyncio
import json
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

import numpy as np
import uvloop
from x10.clients.rest.rest_api_client import RestApiClient
from x10.config import TESTNET_CONFIG
from x10.core.client_config import ClientConfig, EndpointsConfig
from x10.core.stark_account import StarkPerpetualAccount
from x10.models.account import AccountStreamDataModel
from x10.models.http import WrappedStreamResponseModel
from x10.models.order import OrderSide
from x10.models.orderbook import OrderbookUpdateModel

from market_maker.cli.child import child_process
from market_maker.cli.connected import Visit, run_connected
from market_maker.clock import Entropy, SystemClock
from market_maker.config import load_config
from market_maker.config_sections import ConnectionSettings, Network, Secret
from market_maker.domain import NS_PER_S, NewOrder, Side
from market_maker.emulator.assembly import MarketSource, build_exchange
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.rules import Delay, ExchangeRules, LatencyRules, OrderRules
from market_maker.emulator.server import EmulatorServer, ServerRules
from market_maker.emulator.server_rules import served_account
from market_maker.exchanges.credentials import Keys
from market_maker.exchanges.endpoints import Endpoint, endpoint_of
from market_maker.exchanges.extended import ExtendedGateway
from market_maker.exchanges.frames import Unknown, decode_account, decode_book
from market_maker.instrument import Instrument
from market_maker.orderbook_manager import BookSettings, OrderbookManager

Decode = Callable[[bytes], object]

MARKETS: Final = ("BTC-USD", "ETH-USD", "WIF-USD")
SCENARIO: Final = "mixed"
SEED: Final = 1
LEVELS: Final = 6_000
LIMITS: Final = {"snapshot_ratio": 0.2, "snapshot_block_ms": 5.0, "send_ratio": 0.7, "loop_over_5_ms": 0}
_BTC: Final = Instrument("BTC-USD", Decimal(1), Decimal("0.00001"), Decimal("0.0001"))
_DEPOSIT: Final = Decimal(100_000)
_AWAY: Final = Decimal("0.98")
_AT_ONCE: Final = LatencyRules(Delay(), Delay(), Delay(), Delay())
_NO_LIMIT: Final = 1_000_000
# As many as four levels on both sides.
_CLEARED_EVERY: Final = 8
_WARM_UP: Final = 10

perf_ns: Final = SystemClock().perf_ns


class Pair(NamedTuple):
    """Durations of the SDK's way and of ours, ns, taken in turns."""

    sdk: list[int]
    ours: list[int]

    def report(self) -> dict[str, Any]:
        """Percentiles in µs, and the ratio of the medians."""
        sdk, ours = _spread_us(self.sdk), _spread_us(self.ours)
        return {"sdk_us": sdk, "ours_us": ours, "ratio": round(ours["p50"] / sdk["p50"], 3)}


def _spread_us(durations_ns: Sequence[int]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(durations_ns, np.float64) / 1e3, (50.0, 99.0))
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def _timed(call: Callable[[], object]) -> int:
    begun = perf_ns()
    call()
    return perf_ns() - begun


def snapshot_frame(levels: int) -> bytes:
    """Return a snapshot of BTC-USD in the captured shape: prices in several spellings, no `c`."""
    rng = np.random.default_rng(SEED)
    sides = []
    for sign in (-1, 1):
        prices = 84_050 + sign * np.cumsum(rng.choice([1, 1, 1, 2, 3, 5], levels // 2))
        sizes = rng.integers(1, 400_000, levels // 2)
        endings = rng.choice(["", "", ".0", ".000000"], levels // 2)
        sides.append(
            [
                {"q": f"{size / 1e5:.5f}", "p": f"{price}{ending}"}
                for price, size, ending in zip(prices, sizes, endings, strict=True)
            ]
        )
    return _book_frame("SNAPSHOT", *sides)


def delta_frame() -> bytes:
    """Return a change of ten levels."""
    sides = [
        [{"q": "-0.04619", "p": str(price), "c": "2.99615"} for price in range(start, start + 5)]
        for start in (84_040, 84_051)
    ]
    return _book_frame("DELTA", *sides)


def _book_frame(kind: str, bids: list[dict[str, str]], asks: list[dict[str, str]]) -> bytes:
    data = {"t": kind, "m": "BTC-USD", "b": bids, "a": asks, "d": "f"}
    frame = {"type": kind, "data": data, "ts": 1_790_425_441_925, "seq": 1}
    return json.dumps(frame, separators=(",", ":")).encode()


def account_frame() -> bytes:
    """Return one order of the account, as the stream tells of it."""
    order = {
        "id": 1_844_000_421_446_684_673,
        "accountId": 3017,
        "externalId": "mm-0-0a1b2c3d4e5f",
        "market": "BTC-USD",
        "type": "LIMIT",
        "side": "BUY",
        "status": "NEW",
        "price": "84000.000000",
        "averagePrice": "0",
        "qty": "0.020000",
        "filledQty": "0",
        "payedFee": "0",
        "reduceOnly": False,
        "postOnly": True,
        "createdTime": 1_790_425_441_925,
        "updatedTime": 1_790_425_441_925,
        "expiryTime": 1_790_425_741_925,
        "timeInForce": "GTT",
    }
    data = {"isSnapshot": False, "orders": [order]}
    frame = {"type": "ORDER", "data": data, "ts": 1_790_425_441_930, "seq": 9}
    return json.dumps(frame, separators=(",", ":")).encode()


def measure_decoding(rounds: int) -> dict[str, Any]:
    """Decode three kinds of frames, and let the book take the largest in."""
    book = WrappedStreamResponseModel[OrderbookUpdateModel]
    account = WrappedStreamResponseModel[AccountStreamDataModel]
    snapshot, delta, order = snapshot_frame(LEVELS), delta_frame(), account_frame()
    markets, unknown = {_BTC.name: _BTC}, Unknown()
    ways: dict[str, tuple[bytes, int, Decode, Decode]] = {
        "snapshot": (snapshot, rounds, book.model_validate_json, lambda frame: decode_book(frame, _BTC, 1)),
        "delta": (delta, rounds * 20, book.model_validate_json, lambda frame: decode_book(frame, _BTC, 1)),
        "account": (
            order,
            rounds * 20,
            account.model_validate_json,
            lambda frame: decode_account(frame, markets, 1, unknown),
        ),
    }
    report: dict[str, Any] = {}
    for name, (frame, times, sdk, ours) in ways.items():
        pair = _taking_turns(frame, times, sdk, ours)
        report[name] = {"bytes": len(frame), **pair.report()}
    report["snapshot"]["levels"] = LEVELS
    manager = OrderbookManager(_BTC, BookSettings())
    thread_ns, blocks = SystemClock().thread_ns, []
    for _ in range(rounds):
        begun = thread_ns()
        manager.apply(decode_book(snapshot, _BTC, 1))
        blocks.append(thread_ns() - begun)
    report["snapshot"]["decode_and_apply_us"] = _spread_us(blocks)
    return report


def _taking_turns(frame: bytes, times: int, sdk: Decode, ours: Decode) -> Pair:
    pair = Pair([], [])
    for turn in range(times + _WARM_UP):
        took = _timed(lambda: sdk(frame)), _timed(lambda: ours(frame))
        if turn >= _WARM_UP:
            pair.sdk.append(took[0])
            pair.ours.append(took[1])
    return pair


class Responder(asyncio.Protocol):
    """Answers each order with the same words, and passes all else on to an emulator."""

    REPLY: Final = b'{"status":"OK","data":{"id":1844000421446684673,"externalId":"mm-0-0a1b2c3d4e5f"}}'
    HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"

    def __init__(self, emulator_port: int) -> None:
        self._port = emulator_port
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the connection."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the request is whole."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"POST"):
            self._passing = asyncio.create_task(self._pass_on(self._received))
        elif len(body) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            return
        else:
            self._transport.write(self.HEAD % len(self.REPLY) + self.REPLY)
        self._received = b""

    async def _pass_on(self, request: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        self._transport.write(head + await reader.readexactly(length))
        writer.close()


async def serve(*, verify: bool, at_once: bool, bare: bool) -> None:
    """Be the emulator, with two accounts, until standard input ends."""
    clock = SystemClock()
    rules = ExchangeRules(
        latency=_AT_ONCE if at_once else LatencyRules(), orders=OrderRules(requests_per_minute=_NO_LIMIT)
    )
    exchange = build_exchange(MarketSource(MARKETS, SCENARIO, SEED), clock.now_ns(), rules)
    served = [served_account(exchange.add_account(_DEPOSIT), SEED, index) for index in range(2)]
    driver = ExchangeDriver(exchange, clock)
    server = EmulatorServer(driver, served, ServerRules(verify_signatures=verify))
    driver.start()
    await server.start()
    url = server.url
    if bare:
        port = urlsplit(url).port
        responder = await asyncio.get_running_loop().create_server(lambda: Responder(port), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{responder.sockets[0].getsockname()[1]}"
    sys.stdout.write(json.dumps({"url": url}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.close()
    driver.close()


def _server(*options: str) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), "serve", *options]


class Client(NamedTuple):
    """One of the two ways to place an order."""

    place: Callable[[int], Awaitable[object]]
    clear: Callable[[], Awaitable[object]]


def _sdk_config(endpoint: Endpoint) -> ClientConfig:
    endpoints = EndpointsConfig(
        api_base_url=endpoint.rest_url,
        api_base_order_management_url=endpoint.rest_url,
        stream_url=endpoint.stream_url,
        stream_rpc_url="",
        onboarding_url="",
        vault_asset_name="",
    )
    return ClientConfig(defaults=TESTNET_CONFIG.defaults, signing=TESTNET_CONFIG.signing, endpoints=endpoints)


def _ours(gateway: ExtendedGateway, instrument: Instrument, price: Decimal) -> Client:
    ticks, lots = instrument.ticks(price), instrument.min_lots * 2
    clock, entropy = SystemClock(), Entropy()

    async def place(number: int) -> None:
        order = NewOrder(
            market=instrument.name,
            external_id=f"mm-0-{entropy.token(12)}",
            side=Side.BUY,
            price_ticks=ticks - number,
            size_lots=lots,
            post_only=True,
            reduce_only=False,
            immediate_or_cancel=False,
            expire_ns=clock.now_ns() + 300 * NS_PER_S,
            nonce=entropy.nonce(),
        )
        await gateway.place(order)

    return Client(place, lambda: gateway.mass_cancel([instrument.name]))


def _sdks(rest: RestApiClient, instrument: Instrument, price: Decimal) -> Client:
    size = instrument.size(instrument.min_lots * 2)

    async def place(number: int) -> None:
        at = price - instrument.price(number)
        await rest.place_order(instrument.name, size, at, OrderSide.BUY, Decimal(0), post_only=True)

    return Client(place, lambda: rest.orders.mass_cancel(cancel_all=True))


async def _send_orders(url: str, orders: int) -> Pair:
    """Place orders one by one, the SDK's and ours in turns, each on an account of its own."""
    endpoint = endpoint_of(Network.EMULATOR, url)
    mine, theirs = served_account(0, SEED, 0), served_account(0, SEED, 1)
    keys = Keys(Secret(mine.api_key), Secret(mine.private_key))
    account = StarkPerpetualAccount(theirs.vault, theirs.private_key, theirs.public_key, theirs.api_key)
    settings = ConnectionSettings(requests_per_minute=_NO_LIMIT)
    gateway = await ExtendedGateway.connect(endpoint, keys, settings, SystemClock())
    rest = RestApiClient(_sdk_config(endpoint), account)
    try:
        instrument = (await gateway.instruments([MARKETS[0]]))[MARKETS[0]]
        close = (await gateway.candles(instrument.name, 1))[0].close
        price = instrument.price(instrument.ticks_down(close * _AWAY))
        return await _place_in_turns(
            _sdks(rest, instrument, price), _ours(gateway, instrument, price), orders
        )
    finally:
        await rest.close()
        await gateway.close()


async def _place_in_turns(sdk: Client, ours: Client, orders: int) -> Pair:
    pair = Pair([], [])
    for number in range(orders + _WARM_UP):
        took = []
        for client in (sdk, ours):
            begun = perf_ns()
            await client.place(number % _CLEARED_EVERY)
            took.append(perf_ns() - begun)
        if number >= _WARM_UP:
            pair.sdk.append(took[0])
            pair.ours.append(took[1])
        if number % _CLEARED_EVERY == _CLEARED_EVERY - 1:
            await sdk.clear()
            await ours.clear()
    return pair


def measure_sending(orders: int) -> dict[str, Any]:
    """Sign and send orders to three servers."""
    report: dict[str, Any] = {}
    servers = {"bare_server": ["--bare"], "emulator": [], "emulator_checking_signatures": ["--verify"]}
    for name, options in servers.items():
        with child_process(_server(*options, "--at-once")) as server:
            url = server.wait_for_url()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                report[name] = runner.run(_send_orders(url, orders)).report()
    return report


def measure_loop(seconds: float) -> dict[str, Any]:
    """Quote over sockets with 4 levels on both sides of three markets, and time each step of each task."""
    with child_process(_server("--verify")) as server, tempfile.TemporaryDirectory() as folder:
        overrides = (
            "network=emulator",
            f"emulator_url={server.wait_for_url()}",
            f"markets={','.join(MARKETS)}",
            f"journal_dir={folder}",
            "num_levels=4",
        )
        config = load_config(overrides=overrides, environ={}, env_file=None)
        played = run_connected(config, Visit(seconds), show=False)
    return {
        "seconds": seconds,
        "why": played.outcome.why,
        "book_events": sum(run.events for run in played.runs),
        "orders_placed": sum(run.orders.placed + run.orders.replaced for run in played.runs),
        **(played.loop or {}),
    }


def main(rounds: int = 100, orders: int = 300, seconds: float = 60.0) -> dict[str, Any]:
    """Measure.

    Parameters
    ----------
    rounds : int
        How often the snapshot is decoded; small frames twenty times as often.
    orders : int
        Orders placed by each of the two ways at each of the three servers.
    seconds : float
        How long the session over sockets quotes.
    """
    decoding, sending, loop = measure_decoding(rounds), measure_sending(orders), measure_loop(seconds)
    measured = {
        "snapshot_ratio": decoding["snapshot"]["ratio"],
        "snapshot_block_ms": round(decoding["snapshot"]["decode_and_apply_us"]["p50"] / 1e3, 2),
        "send_ratio": sending["bare_server"]["ratio"],
        "loop_over_5_ms": loop["processor"]["over_5_ms"],
    }
    return {
        "benchmark": "wire",
        "python": platform.python_version(),
        "markets": list(MARKETS),
        "scenario": SCENARIO,
        "decoding": decoding,
        "sending": sending,
        "loop": loop,
        "measured": measured,
        "limits": LIMITS,
        "met": {name: measured[name] <= limit for name, limit in LIMITS.items()},
    }


if __name__ == "__main__":
    if "serve" in sys.argv:
        # On the loop that `mm emulator` runs on.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            named = {
                name: f"--{name.replace('_', '-')}" in sys.argv for name in ("verify", "at_once", "bare")
            }
            runner.run(serve(**named))
    else:
        sys.stdout.write(json.dumps(main(), indent=2) + "\n")
