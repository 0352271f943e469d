"""What can be wrong with the way to an exchange: one clear message, an exit code, nothing left open.

Real servers on loopback, and the whole command line against them.
"""

import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
import trustme
from served import PATIENCE_S, served

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.config import load_config
from market_maker.domain import Side
from market_maker.emulator.requests import OrderRequest
from market_maker.status import FILE_NAME

STARK_KEY = "0x123456789abcdef"
CANARY = "canary-0d1e2f"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder and no `MM_*` variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def mm(capsys, monkeypatch):
    def run(*words: str, **environ: str) -> tuple[int, str, str]:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def on(url: str, *words: str) -> list[str]:
    """`mm run` for a few seconds on an emulator."""
    return ["run", "--seconds", "2", "-s", "network=emulator", "-s", f"emulator_url={url}", *words]


def assert_one_message(result, code, *parts):
    """The exit code, nothing on standard output, a single line on standard error with these parts."""
    assert (result[0], result[1]) == (code, "")
    [line] = result[2].splitlines()
    assert line.startswith("mm: ")
    for part in parts:
        assert part in line, line


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


# No way there.


def test_a_port_where_nobody_listens(mm, folder):
    port = free_port()
    result = mm(*on(f"http://127.0.0.1:{port}"))
    assert_one_message(result, ExitCode.EXCHANGE, "emulator", f"127.0.0.1:{port}", "no connection")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_host_that_does_not_exist(mm):
    result = mm(*on("http://no-such-host.invalid:8790", "-s", "request_timeout_s=20"))
    assert_one_message(result, ExitCode.EXCHANGE, "no-such-host.invalid:8790")


@pytest.mark.slow
def test_a_certificate_that_nobody_trusts(mm):
    import ssl

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with served(tls=tls) as emulator:
        result = mm(*on(emulator.url))
    assert_one_message(result, ExitCode.EXCHANGE, "127.0.0.1", "certificate")


def test_a_server_that_is_no_exchange(mm):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>")

        thread = threading.Thread(target=answer)
        thread.start()
        result = mm(*on(f"http://127.0.0.1:{listening.getsockname()[1]}"))
        thread.join(PATIENCE_S)
    assert_one_message(result, ExitCode.EXCHANGE, "is mm emulator running there?")


def test_an_address_that_is_none(mm):
    assert_one_message(
        mm(*on("127.0.0.1:8790")), ExitCode.USAGE, "emulator_url: expected http:// or https://"
    )


# Keys.


def test_no_keys_for_a_real_network(mm):
    assert_one_message(mm("run"), ExitCode.USAGE, "MM_API_KEY and MM_STARK_PRIVATE_KEY", "api-management")


def test_an_account_of_a_network_that_hands_out_none(mm):
    assert_one_message(mm("run", "--account", "1"), ExitCode.USAGE, "--account: expected with network = emu")


def test_a_key_that_the_exchange_does_not_know(mm):
    with served() as emulator:
        given = {"MM_API_KEY": CANARY, "MM_STARK_PRIVATE_KEY": STARK_KEY}
        result = mm(*on(emulator.url), **given)
    assert_one_message(result, ExitCode.EXCHANGE, "emulator at 127.0.0.1", "does not accept the API key")
    assert CANARY not in result[2]
    assert STARK_KEY not in result[2]


def test_a_signing_key_of_another_account(mm):
    with served() as emulator:
        result = mm(*on(emulator.url), **emulator.keys(0, of=1))
    assert_one_message(result, ExitCode.EXCHANGE, "must be of one sub-account")
    assert emulator.accounts[1].private_key not in result[2]


def test_an_account_that_the_emulator_has_not(mm):
    with served() as emulator:
        result = mm(*on(emulator.url, "--account", "9"))
    assert_one_message(result, ExitCode.EXCHANGE, "expected keys of account 9")


# The account, the market, the time.


def test_a_market_that_the_exchange_has_not(mm):
    with served() as emulator:
        result = mm(*on(emulator.url, "-s", "markets=BTC-US"))
    assert_one_message(result, ExitCode.EXCHANGE, "'BTC-US'; did you mean BTC-USD?")


def test_a_clock_that_is_off(mm):
    with served(skewed_s=60.0) as emulator:
        result = mm(*on(emulator.url))
    assert_one_message(result, ExitCode.EXCHANGE, "expected our clock within 3 s", "behind", "NTP")


def test_an_account_without_money(mm):
    with served(deposit="0") as emulator:
        result = mm(*on(emulator.url, "-s", "markets=BTC-USD"))
    assert_one_message(result, ExitCode.EXCHANGE, "expected money on the account")


def place_by_hand(emulator):
    """Rest an order of somebody else in account 0, far from the market."""

    async def place():
        exchange, clock = emulator.driver.exchange, emulator.driver.clock
        instrument = exchange.venue.markets["BTC-USD"].instrument
        ticks = round(exchange.book("BTC-USD").best_ticks(Side.BUY) * 0.97)
        order = OrderRequest(
            market="BTC-USD",
            external_id="by-hand",
            side=Side.BUY,
            price=instrument.price(ticks),
            qty=instrument.size(100),
            expire_ns=clock.now_ns() + 3600 * 10**9,
        )
        reply = await emulator.driver.send(emulator.accounts[0].account_id, order)
        assert reply.http_status == 200, reply.message

    emulator.do(place)


def open_ids(emulator) -> list[str]:
    account = emulator.driver.exchange.account(emulator.accounts[0].account_id)
    return [order.request.external_id for order in account.open.values()]


@pytest.mark.slow
def test_orders_of_others_are_named_and_left_alone(mm):
    with served() as emulator:
        place_by_hand(emulator)
        result = mm(*on(emulator.url, "-s", "markets=BTC-USD"))
        assert open_ids(emulator) == ["by-hand"]
    assert_one_message(
        result, ExitCode.EXCHANGE, "1 open orders of others (by-hand in BTC-USD)", "foreign_orders=leave"
    )


def test_mainnet_is_not_traded_by_accident(mm):
    given = {"MM_API_KEY": CANARY, "MM_STARK_PRIVATE_KEY": STARK_KEY, "MM_NETWORK": "mainnet"}
    assert load_config(environ=given).value("network").value == "mainnet"
    # Whatever the settings say, a demo plays on the emulator.
    code, out, err = mm("demo", "--seconds", "1", "--speed", "max", "--scenario", "flat", "--json", **given)
    assert code == ExitCode.OK
    assert '"network":"emulator"' in out
    assert CANARY not in out + err


# Stopped while connecting.


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_connecting_ends_it_at_once(folder, number):
    """A server that takes the connection and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE_S)
        command = on(f"http://127.0.0.1:{listening.getsockname()[1]}")
        with subprocess.Popen(
            [sys.executable, "-m", "market_maker", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                process.send_signal(number)
                out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (ExitCode.INTERRUPTED, b"")
    assert err == b"mm: stopped; no session had begun, and nothing was sent.\n"
    assert not (folder / FILE_NAME).exists()
