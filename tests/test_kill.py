"""kill -9 amid quoting, with real processes: the exchange clears the book, a restart goes on with it."""

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager

import aiohttp
import pytest

from market_maker.cli.child import emulator_process
from market_maker.clock import SystemClock
from market_maker.domain import NS_PER_S
from market_maker.trade_journal import read_journal

PATIENCE_S = 90.0
COUNTDOWN_S = 3
OPEN = {"NEW", "PARTIALLY_FILLED"}

pytestmark = pytest.mark.slow


class Account:
    """An account of the emulator as its own stream tells it: what is open, and when what ended."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.open: set[str] = set()
        self.ended: dict[str, tuple[str, int]] = {}

    async def until(self, wanted) -> None:
        """Read the stream until something is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not wanted(self):
                self._take(json.loads(await self._socket.receive_str()))

    def _take(self, frame: dict) -> None:
        for order in frame["data"].get("orders") or ():
            name, status = order["externalId"], order["status"]
            if status in OPEN:
                self.open.add(name)
            else:
                self.open.discard(name)
                self.ended[name] = status, frame["ts"]


@asynccontextmanager
async def account_of(url: str):
    """Account 0 of an emulator, heard beside the bot."""
    async with aiohttp.ClientSession(headers={"User-Agent": "test"}) as session:
        async with session.get(f"{url}/emulator/accounts") as reply:
            key = (await reply.json())["accounts"][0]["apiKey"]
        stream = f"{url.replace('http', 'ws', 1)}/stream.extended.exchange/v1/account"
        async with session.ws_connect(stream, headers={"X-Api-Key": key}) as socket:
            yield Account(socket)


async def start_bot(url: str, folder, *words: str) -> asyncio.subprocess.Process:
    """`mm run` on an emulator, in a process of its own."""
    settings = {
        "network": "emulator",
        "emulator_url": url,
        "markets": "BTC-USD",
        "journal_dir": folder / "journal",
    }
    options = [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "market_maker", "run", *options, *words,
        cwd=folder, env=environ,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def kill_amid_quoting(url: str, account: Account, folder, *words: str) -> int:
    """Start the bot, wait until both sides rest, and kill it; when that was, ns."""
    bot = await start_bot(url, folder, *words)
    try:
        await account.until(lambda it: len(it.open) >= 4)
    finally:
        bot.send_signal(signal.SIGKILL)
        killed_ns = SystemClock().now_ns()
        await bot.communicate()
    return killed_ns


def test_the_switch_clears_the_book_within_its_countdown_of_a_kill(tmp_path):
    switch = ("-s", f"dead_man_countdown_s={COUNTDOWN_S}", "-s", "dead_man_interval_s=1")

    async def main(url):
        async with account_of(url) as account:
            killed_ns = await kill_amid_quoting(url, account, tmp_path, *switch)
            left = set(account.open)
            await account.until(lambda it: not it.open)
            return killed_ns, left, account.ended

    with emulator_process(["--scenario", "flat"]) as emulator:
        killed_ns, left, ended = asyncio.run(main(emulator.wait_for_url()))
    assert len(left) >= 4
    ends = [ended[name] for name in left]
    assert {status for status, _ in ends} == {"CANCELLED"}
    # By the exchange's clock, which on this machine is ours.
    after_s = [at_ms / 1000 - killed_ns / NS_PER_S for _, at_ms in ends]
    assert max(after_s) < COUNTDOWN_S + 2


def test_a_restart_goes_on_with_what_a_kill_left_and_leaves_nothing_itself(tmp_path):
    async def main(url):
        async with account_of(url) as account:
            await kill_amid_quoting(url, account, tmp_path)
            left = set(account.open)
            again = await start_bot(url, tmp_path, "--seconds", "3", "--json")
            async with asyncio.timeout(PATIENCE_S):
                # Read meanwhile: the exchange gives a client up that does not answer its pings.
                (out, err), _ = await asyncio.gather(
                    again.communicate(), account.until(lambda it: not it.open)
                )
            return left, account.ended, again.returncode, out, err

    with emulator_process(["--scenario", "flat"]) as emulator:
        left, ended, code, out, err = asyncio.run(main(emulator.wait_for_url()))
    assert code == 0, err.decode()
    assert len(left) >= 4
    assert {ended[name][0] for name in left} == {"CANCELLED"}
    restarted = [
        record
        for path in sorted((tmp_path / "journal").glob("*.jsonl"))
        for record in read_journal(path)
        if record["type"] == "restarted"
    ]
    assert [record["known"] for record in restarted] == [False, True]
    # What the journal had not written down yet when it was killed is cancelled instead.
    assert set(restarted[1]["adopted"]) <= left
    assert restarted[1]["adopted"]
    [run] = json.loads(out)["runs"]
    assert run["open_orders_at_end"] == 0
