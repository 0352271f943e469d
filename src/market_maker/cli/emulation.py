"""Hosts the emulator: opens the exchange, serves it in real time, says where, and ends when it is told to."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import uvloop
from rich.console import Console
from rich.live import Live
from rich.text import Text

from market_maker.access import is_loopback
from market_maker.clock import ShiftedClock, SystemClock
from market_maker.config_sections import NO_SECRET, Secret
from market_maker.emulator.assembly import MarketSource, build_exchange
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.faults import FaultWindow
from market_maker.emulator.rules import Delay, ExchangeRules, LatencyRules, MoneyRules, OrderRules
from market_maker.emulator.server import EmulatorServer
from market_maker.emulator.server_control import CONTROL_PATH, described
from market_maker.emulator.server_rules import (
    REST_PATH,
    STREAM_PATH,
    ServedAccount,
    ServerRules,
    served_account,
)
from market_maker.gateway import Unreachable
from market_maker.recordings.events import RecordingError

_HOUR_S: Final = 3600.0
_TAIL_SHARE: Final = 0.25
_STATUS_S: Final = 1.0
_STDIN: Final = 0
_READ_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Emulation:
    """What is emulated, for whom and where; `deposit` is each account's, USD, the clock may be ahead."""

    source: MarketSource
    rules: ExchangeRules
    server_rules: ServerRules
    faults: tuple[FaultWindow, ...]
    accounts: int
    deposit: Decimal
    host: str
    port: int
    clock_ahead_s: float = 0.0
    token: Secret = NO_SECRET


def exchange_rules(
    latency_ms: float | None, funding_every_s: float, requests_per_minute: int, *, one_rate_limit: bool
) -> ExchangeRules:
    """Rules of the exchange. Each way takes `latency_ms` and a tail of a quarter; None: the usual time."""
    latency = LatencyRules()
    if latency_ms is not None:
        way = Delay(latency_ms, _TAIL_SHARE * latency_ms)
        latency = LatencyRules(request=way, matching=Delay(), reply=way, stream=way)
    return ExchangeRules(
        latency=latency,
        orders=OrderRules(requests_per_minute=requests_per_minute, one_rate_limit=one_rate_limit),
        money=MoneyRules(funding_speedup=_HOUR_S / funding_every_s),
    )


def run_emulation(emulation: Emulation, *, exit_with_stdin: bool, as_json: bool) -> None:
    """Serve until SIGINT, SIGTERM or (then SIGINT is left to others) the end of standard input.

    Raises
    ------
    Unreachable
        If the address can not be listened on.
    UnknownScenario, UnknownMarket, RecordingError
        If there is no such market.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(emulation, exit_with_stdin=exit_with_stdin, as_json=as_json))


async def _serve(emulation: Emulation, *, exit_with_stdin: bool, as_json: bool) -> None:
    stop = _stop_event(exit_with_stdin=exit_with_stdin)
    clock = ShiftedClock(SystemClock(), emulation.clock_ahead_s)
    exchange = build_exchange(emulation.source, clock.now_ns(), emulation.rules)
    exchange.plan_faults(emulation.faults)
    accounts = [
        served_account(exchange.add_account(emulation.deposit), emulation.source.seed, index)
        for index in range(emulation.accounts)
    ]
    driver = ExchangeDriver(exchange, clock)
    server = EmulatorServer(driver, accounts, emulation.server_rules)
    try:
        await server.start(emulation.host, emulation.port, token=emulation.token.reveal())
    except (OSError, UnicodeError) as error:  # the latter for a name that no host can have
        msg = f"expected to listen on {emulation.host}:{emulation.port}, was refused: {_reason(error)}"
        raise Unreachable(msg) from error
    driver.start()
    try:
        if as_json:
            print(json.dumps({"url": server.url, "accounts": described(accounts)}), flush=True)
        else:
            _announce(server.url, accounts, with_control=is_loopback(emulation.host))
        await _watch(driver, accounts, stop, show=not as_json and sys.stderr.isatty())
        if not as_json:
            print(_told_at_the_end(driver, accounts), flush=True)
    except RecordingError as failure:
        if not exit_with_stdin:
            raise
        # Whoever started us hears of it, leaves in order, and then tells us to end.
        print(json.dumps({"failed": str(failure)}), flush=True)
        await stop.wait()
        raise
    finally:
        driver.close()
        await server.close()


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return "not the name of a host"
    # asyncio's own text repeats the address, and numbers of name look-ups are none of the system's.
    if isinstance(error, socket.gaierror) or not error.errno:
        return (error.strerror or str(error)).lower()
    return os.strerror(error.errno).lower()


def _stop_event(*, exit_with_stdin: bool) -> asyncio.Event:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    if not exit_with_stdin:
        loop.add_signal_handler(signal.SIGINT, stop.set)
        return stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait_for_end() -> None:
        # Not through sys.stdin: its lock, held by this thread, would be in the way of the interpreter's end.
        while os.read(_STDIN, _READ_BYTES):
            pass
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_for_end, name="stdin", daemon=True).start()
    return stop


def _announce(url: str, accounts: list[ServedAccount], *, with_control: bool) -> None:
    rows = [f"  REST     {url}{REST_PATH}", f"  streams  {url.replace('http', 'ws', 1)}{STREAM_PATH}"]
    if with_control:
        rows.append(f"  control  {url}{CONTROL_PATH}/accounts, /state, /faults")
    rows.append("Test accounts. Their keys are known to everybody: never send money to them.")
    for account in accounts:
        rows.append(f"  account {account.account_id}, vault {account.vault}")
        rows.append(f"    API key            {account.api_key}")
        rows.append(f"    Stark private key  {account.private_key}")
        rows.append(f"    Stark public key   {account.public_key}")
    rows.append("Ctrl-C ends it.")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"The exchange listens on {url}", style="bold")
    console.print("\n".join(rows), markup=False)


async def _watch(
    driver: ExchangeDriver, accounts: list[ServedAccount], stop: asyncio.Event, *, show: bool
) -> None:
    """Wait for the end, showing how the exchange stands; fail with whatever it failed with."""
    with ExitStack() as stack:
        view = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        live = stack.enter_context(view) if show else None
        while not stop.is_set():
            driver.check_failure()
            if live is not None:
                live.update(_status(driver, accounts), refresh=True)
            try:
                await asyncio.wait_for(stop.wait(), _STATUS_S)
            except TimeoutError:
                continue


def _status(driver: ExchangeDriver, accounts: list[ServedAccount]) -> Text:
    faults = [f"{name}={value:g}" for name, value in driver.exchange.faults.values().items()]
    return Text("   ".join([*_standings(driver, accounts), *faults]))


def _standings(driver: ExchangeDriver, accounts: list[ServedAccount]) -> list[str]:
    exchange = driver.exchange
    return [
        f"{account.account_id}: {len(exchange.account(account.account_id).open)} open, "
        f"{exchange.equity(account.account_id):,.2f} USD"
        for account in accounts
    ]


def _told_at_the_end(driver: ExchangeDriver, accounts: list[ServedAccount]) -> str:
    """How the accounts stand, and how often each fault happened."""
    counts = [f"{name} {count}" for name, count in sorted(driver.exchange.fault_counts.items())]
    rows = ["The exchange ended."]
    rows += [f"  account {standing}" for standing in _standings(driver, accounts)]
    return "\n".join([*rows, f"  faults that happened: {', '.join(counts) or 'none'}"])
