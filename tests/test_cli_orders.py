"""`mm cancel-all`, `mm flatten` and `mm markets` against an emulator behind sockets."""

import asyncio
import itertools
import json
import os
from threading import Event, Thread

import pytest
from served import served

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.requests import OrderRequest, TimeInForce
from market_maker.emulator.rules import Mode

BTC, ETH = "BTC-USD", "ETH-USD"
CANARY = "canary-0d1e2f"
NUMBERS = itertools.count(1)

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """An empty folder and no `MM_*` variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def emulator():
    with served(markets=(BTC, ETH)) as running:
        yield running


class Trader:
    """One account of the emulator, acted on past the bot."""

    def __init__(self, emulator, index: int) -> None:
        self.emulator = emulator
        self.index = index
        self.account_id = emulator.accounts[index].account_id

    @property
    def account(self):
        return self.emulator.driver.exchange.account(self.account_id)

    def order(self, side, ticks_off, lots, market=BTC, *, name="", ioc=False, times=1):
        """Place an order so far from the best price of its own side; negative: through the other."""
        external_id = name or f"manual-{self.index}-{next(NUMBERS)}"

        async def send(external_id):
            driver = self.emulator.driver
            rules = driver.exchange.venue.markets[market].instrument
            best = driver.exchange.book(market).best_ticks(side)
            request = OrderRequest(
                market=market,
                external_id=external_id,
                side=side,
                price=rules.price(best - side * ticks_off),
                qty=rules.size(lots),
                expire_ns=driver.clock.now_ns() + 600 * NS_PER_S,
                time_in_force=TimeInForce.IOC if ioc else TimeInForce.GTT,
            )
            reply = await driver.send(self.account_id, request)
            assert reply.http_status == 200, reply

        async def send_all():
            await asyncio.gather(*(send(f"{external_id}{'+' * n}") for n in range(times)))
            # Accepted first, matched later.
            await asyncio.sleep(0.3)

        self.emulator.do(send_all)
        return external_id

    def open_ids(self) -> set[str]:
        async def look():
            return {order.request.external_id for order in self.account.open.values()}

        return self.emulator.do(look)

    def lots(self, market=BTC) -> int:
        async def look():
            return self.account.position_lots(market)

        return self.emulator.do(look)


@pytest.fixture
def mm(capsys, emulator):
    def run(verb, *words: str, account: int = 0) -> tuple[int, str, str]:
        way = ("-s", "network=emulator", "-s", f"emulator_url={emulator.url}")
        chosen = () if verb == "markets" else ("--account", str(account))
        code = main([verb, *way, *chosen, *words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


def test_cancel_all_cancels_everything_and_says_what(mm, emulator):
    trader = Trader(emulator, 0)
    names = {trader.order(Side.BUY, 50, 1_000), trader.order(Side.SELL, 60, 1_000, ETH)}
    assert trader.open_ids() == names
    code, out, _ = mm("cancel-all", "--json")
    told = json.loads(out)
    assert code == ExitCode.OK
    assert trader.open_ids() == set()
    assert {line["external_id"] for line in told["cancelled"]} == names
    assert {line["state"] for line in told["cancelled"]} == {"CANCELLED"}
    assert told["remaining"] == []
    assert told["nothing_open"] is True
    assert told["network"] == "emulator"


def test_of_very_many_orders_the_first_are_shown_and_the_others_counted(mm, emulator):
    trader = Trader(emulator, 0)
    trader.order(Side.BUY, 50, 100, times=33)
    assert len(trader.open_ids()) == 33
    code, out, _ = mm("cancel-all")
    assert (code, trader.open_ids()) == (ExitCode.OK, set())
    assert out.count("│ BTC-USD │") == 30
    assert "and 3 more; --json has them all" in out


def test_cancel_all_beside_a_bot_that_goes_on_quoting_says_so(mm, emulator):
    trader = Trader(emulator, 1)
    trader.order(Side.BUY, 50, 1_000)
    quoting = Event()

    def quote():
        while not quoting.is_set():
            if not trader.open_ids():
                trader.order(Side.BUY, 50, 1_000)

    bot = Thread(target=quote)
    bot.start()
    try:
        code, out, err = mm("cancel-all", "--json", account=1)
    finally:
        quoting.set()
        bot.join()
    told = json.loads(out)
    assert code == ExitCode.FAILED
    assert told["came_meanwhile"] > 0
    assert told["nothing_open"] is False
    assert "LIVE" not in {line["state"] for line in told["cancelled"]}
    assert "somebody quotes here; stop that first" in err
    assert mm("cancel-all", account=1)[0] == ExitCode.OK


def test_cancel_all_of_one_market_or_of_ours_leaves_the_others(mm, emulator):
    trader = Trader(emulator, 1)
    ours = trader.order(Side.BUY, 50, 1_000, name="mm-0-abcdefghijkl")
    theirs = trader.order(Side.BUY, 55, 1_000)
    elsewhere = trader.order(Side.SELL, 60, 1_000, ETH)
    code, out, _ = mm("cancel-all", "--ours", account=1)
    assert code == ExitCode.OK
    assert ours in out
    assert trader.open_ids() == {theirs, elsewhere}
    code, out, _ = mm("cancel-all", "--market", ETH, account=1)
    assert code == ExitCode.OK
    assert trader.open_ids() == {theirs}
    code, out, err = mm("cancel-all", account=1)
    assert (code, theirs in out) == (ExitCode.OK, True)
    assert "nothing is open" in err
    assert mm("cancel-all", account=1)[0] == ExitCode.OK


def test_a_market_that_does_not_exist_is_a_slip_and_cancels_nothing(mm, emulator):
    trader = Trader(emulator, 1)
    name = trader.order(Side.BUY, 50, 1_000)
    code, out, err = mm("cancel-all", "--market", "BTC-US", account=1)
    assert (code, out) == (ExitCode.EXCHANGE, "")
    assert "did you mean BTC-USD" in err
    assert trader.open_ids() == {name}
    assert mm("cancel-all", account=1)[0] == ExitCode.OK


@pytest.mark.parametrize("side", list(Side))
def test_flatten_cancels_and_closes_and_says_how(mm, emulator, side):
    trader = Trader(emulator, 0)
    resting = trader.order(side, 50, 1_000)
    trader.order(side, -300, 2_000, ioc=True)
    assert trader.lots() == side * 2_000
    code, out, _ = mm("flatten", "--json")
    told = json.loads(out)
    assert code == ExitCode.OK
    assert trader.lots() == 0
    assert trader.open_ids() == set()
    assert [line["external_id"] for line in told["cancelled"]] == [resting]
    assert told["fills"]
    assert {line["side"] for line in told["fills"]} == {Side(-side).name}
    assert told["positions_left"] == []
    assert told["flat_and_clear"] is True


def test_flatten_with_nothing_held_does_nothing(mm):
    code, out, err = mm("flatten", account=2)
    assert (code, out) == (ExitCode.OK, "")
    assert "flat" in err


def test_flatten_of_one_market_leaves_the_other(mm, emulator):
    trader = Trader(emulator, 2)
    for market in (BTC, ETH):
        trader.order(Side.BUY, -300, 2_000, market, ioc=True)
    elsewhere = trader.order(Side.BUY, 60, 1_000, ETH)
    code, _, _ = mm("flatten", "--market", BTC, account=2)
    assert code == ExitCode.OK
    assert trader.lots(BTC) == 0
    assert trader.lots(ETH) == 2_000
    assert trader.open_ids() == {elsewhere}
    assert mm("flatten", account=2)[0] == ExitCode.OK
    assert trader.lots(ETH) == 0


def test_flatten_in_post_only_mode_rests_reducing_orders_and_says_what_is_left(mm, emulator):
    trader = Trader(emulator, 0)
    trader.order(Side.BUY, -300, 2_000, ioc=True)

    async def set_mode(mode):
        emulator.driver.exchange.set_mode(mode)

    emulator.do(lambda: set_mode(Mode.POST_ONLY))
    try:
        code, out, _ = mm("flatten", "--seconds", "3", "--json")
    finally:
        emulator.do(lambda: set_mode(Mode.OPEN))
    told = json.loads(out)
    left = trader.lots()
    assert (code == ExitCode.OK) == (left == 0)
    assert bool(told["positions_left"]) == bool(left)
    assert trader.open_ids() == set()
    assert mm("flatten")[0] == ExitCode.OK
    assert trader.lots() == 0


def test_the_markets_of_a_network_are_listed_without_a_key(mm, monkeypatch):
    monkeypatch.setenv("MM_API_KEY", CANARY)
    code, out, err = mm("markets", "--json")
    assert code == ExitCode.OK
    assert {row["name"] for row in json.loads(out)["markets"]} == {BTC, ETH}
    code, out, err = mm("markets", "--market", ETH)
    assert code == ExitCode.OK
    assert ETH in out
    assert BTC not in out
    assert CANARY not in out + err


@pytest.mark.parametrize("verb", ["cancel-all", "flatten", "markets"])
def test_where_nobody_listens_there_is_one_message(capsys, verb):
    code = main([verb, "-s", "network=emulator", "-s", "emulator_url=http://127.0.0.1:9"])
    captured = capsys.readouterr()
    assert (code, captured.out) == (ExitCode.EXCHANGE, "")
    [line] = captured.err.splitlines()
    assert line.startswith("mm: ")
    assert "127.0.0.1:9" in line


@pytest.mark.parametrize("verb", ["cancel-all", "flatten"])
def test_without_keys_there_is_one_message(capsys, verb):
    code = main([verb, "-s", "network=testnet"])
    captured = capsys.readouterr()
    assert (code, captured.out) == (ExitCode.USAGE, "")
    assert "MM_API_KEY" in captured.err
