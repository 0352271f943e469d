"""An emulator on loopback in a thread of its own, for programs that bring an event loop of their own."""

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from market_maker.clock import SystemClock
from market_maker.emulator.assembly import MarketSource, build_exchange
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.server import EmulatorServer, ServedAccount, ServerRules
from market_maker.emulator.server_rules import served_account

SEED = 5
PATIENCE_S = 30.0


@dataclass
class Served:
    """A running emulator: where it is, its accounts, and its loop."""

    url: str
    accounts: list[ServedAccount]
    driver: ExchangeDriver
    loop: asyncio.AbstractEventLoop

    def keys(self, account: int = 0, of: int | None = None) -> dict[str, str]:
        """Environment with the API key of an account, and the signing key of the same or another."""
        signer = self.accounts[account if of is None else of]
        return {"MM_API_KEY": self.accounts[account].api_key, "MM_STARK_PRIVATE_KEY": signer.private_key}

    def do(self, work):
        """Run a coroutine function on the emulator's loop; return its result."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(PATIENCE_S)


@contextmanager
def served(*, tls=None, deposit="10000", skewed_s=0.0, markets=("BTC-USD",), **rules):
    """Serve a flat market with three accounts. `skewed_s` is how far the exchange's own clock is ahead."""
    ready, up = threading.Event(), []

    async def main():
        clock = SystemClock()
        source = MarketSource(markets, scenario="flat", seed=SEED)
        driver = ExchangeDriver(build_exchange(source, clock.now_ns()), clock)
        ids = [driver.exchange.add_account(Decimal(deposit)) for _ in range(3)]
        accounts = [served_account(number, SEED, index) for index, number in enumerate(ids)]
        server = EmulatorServer(driver, accounts, ServerRules(clock_skew_s=skewed_s, **rules))
        driver.start()
        await server.start(tls=tls)
        ended = asyncio.Event()
        up.append((Served(server.url, accounts, driver, asyncio.get_running_loop()), ended))
        ready.set()
        await ended.wait()
        await server.close()
        driver.close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(PATIENCE_S), "the emulator did not start"
        [(emulator, ended)] = up
        try:
            yield emulator
        finally:
            emulator.loop.call_soon_threadsafe(ended.set)
    finally:
        thread.join(PATIENCE_S)
