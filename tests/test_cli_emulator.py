"""`mm emulator` as a process: what it says, whom it serves, how it ends; and bad input as one message."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import pytest

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.clock import SystemClock
from market_maker.domain import NS_PER_S
from market_maker.emulator.faults import known_faults
from market_maker.emulator.signatures import account_keys

PATIENCE_S = 60.0


@contextmanager
def running(*options: str, **how):
    """An emulator of one market on a free port, ended in any case."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    command = [sys.executable, "-m", "market_maker", "emulator", "--port=0", "--market=BTC-USD", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environ, **(pipes | how)) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process) -> tuple[int, str, str]:
    """Exit code, and what it said on either output after what was read."""
    process.stdin.close()
    code = process.wait(PATIENCE_S)
    # Not `communicate`: it passes over what the reader's buffer took along with the first line.
    return code, process.stdout.read(), process.stderr.read()


def get(url: str, **headers: str):
    request = urllib.request.Request(url, headers={"User-Agent": "test/1"} | headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
        return json.load(reply)


@pytest.mark.slow
def test_it_serves_its_accounts_until_standard_input_closes():
    with running("--json", "--exit-with-stdin", "--seed=4", "--accounts=3", "--deposit=500") as process:
        said = json.loads(process.stdout.readline())
        keys = [account_keys(4, index) for index in range(3)]
        assert [account["apiKey"] for account in said["accounts"]] == [each.api_key for each in keys]
        assert [account["starkPrivateKey"] for account in said["accounts"]] == [k.private_key for k in keys]
        assert get(f"{said['url']}/emulator/accounts") == {"accounts": said["accounts"]}
        [market] = get(f"{said['url']}/api/v1/info/markets")["data"]
        assert market["name"] == "BTC-USD"
        balance = get(f"{said['url']}/api/v1/user/balance", **{"X-Api-Key": keys[2].api_key})
        assert float(balance["data"]["equity"]) == 500
        # Ctrl-C at the terminal is for whoever started it.
        process.send_signal(signal.SIGINT)
        assert get(f"{said['url']}/emulator/state")["faults"] == {}
        assert ended(process) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number):
    with running("--fault=rate_limit=1") as process:
        first = process.stdout.readline()
        assert first.startswith("The exchange listens on http://127.0.0.1:")
        url = first.split()[-1]
        with pytest.raises(urllib.error.HTTPError, match="429"):
            get(f"{url}/api/v1/info/markets")
        process.send_signal(number)
        code, said, errors = ended(process)
    assert (code, errors) == (0, "")
    keys = account_keys(1, 1)
    assert "  account 3002: 0 open, 10,000.00 USD\n  faults that happened: rate_limit 1\n" in said
    for part in (keys.api_key, keys.private_key, keys.public_key, f"{url}/api/v1", "never send money"):
        assert part in said
    assert f"ws{url.removeprefix('http')}/stream.extended.exchange/v1" in said


@pytest.mark.slow
def test_its_clock_may_be_ahead_and_all_may_share_a_limit():
    options = ("--clock-ahead=120", "--one-limit", "--requests-per-minute=1")
    with running("--json", "--exit-with-stdin", *options) as process:
        said = json.loads(process.stdout.readline())
        url, key = f"{said['url']}/api/v1/info/markets", said["accounts"][0]["apiKey"]
        with urllib.request.urlopen(
            urllib.request.Request(url, headers={"User-Agent": "test/1"}), timeout=PATIENCE_S
        ) as reply:
            there_s = parsedate_to_datetime(reply.headers["Date"]).timestamp()
        assert 100 < there_s - SystemClock().now_ns() / NS_PER_S < 140
        with pytest.raises(urllib.error.HTTPError, match="429"):
            get(f"{said['url']}/api/v1/user/positions", **{"X-Api-Key": key})
        assert ended(process) == (0, "", "")


@pytest.mark.slow
def test_it_ends_with_a_parent_that_is_killed():
    command = [sys.executable, "-m", "market_maker", "emulator", "--port=0", "--json", "--exit-with-stdin"]
    starter = "import subprocess, sys; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE).wait()"
    with subprocess.Popen(
        [sys.executable, "-c", starter, *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert json.loads(process.stdout.readline())["url"]
        process.kill()
        # The emulator holds the other end of this pipe until it is gone.
        assert process.stdout.read() == ""


def complaint(capsys, *words: str) -> tuple[int, str]:
    """Exit code and message of a command that fails."""
    code = main(["emulator", *words])
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    return code, said.err


@pytest.mark.slow
def test_a_port_that_is_taken(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said = complaint(capsys, f"--port={port}", "--market=BTC-USD")
    assert code == ExitCode.EXCHANGE
    [line] = said.splitlines()
    assert line.startswith("mm: ")
    assert f"127.0.0.1:{port}" in line
    assert "already in use" in line


def test_bad_input(capsys, tmp_path, monkeypatch):
    # Without one, an address that others reach is refused before it is tried.
    monkeypatch.setenv("MM_EMULATOR_TOKEN", "a-token-of-16-signs")
    code, said = complaint(capsys, "--market=BTC-EUR")
    assert (code, "BTC-EUR" in said) == (ExitCode.EXCHANGE, True)
    code, said = complaint(capsys, "--scenario=calmer")
    assert (code, "did you mean calm" in said) == (ExitCode.USAGE, True)
    code, said = complaint(capsys, "--fault=nonsense@1+1")
    assert (code, "lost_replies" in said) == (ExitCode.USAGE, True)
    assert said.startswith("mm: no fault 'nonsense'")
    code, said = complaint(capsys, f"--recording={tmp_path}")
    assert code == ExitCode.DATA
    code, said = complaint(capsys, "--accounts=0")
    assert code == ExitCode.USAGE
    code, said = complaint(capsys, "--host=203.0.113.7", "--market=BTC-USD")
    assert code == ExitCode.EXCHANGE
    for nowhere in ("no such host", "a..b"):
        code, said = complaint(capsys, f"--host={nowhere}", "--market=BTC-USD")
        assert (code, nowhere in said, "unknown error" in said) == (ExitCode.EXCHANGE, True, False)


@pytest.mark.parametrize("verb", ["emulator", "demo"])
def test_the_faults_are_listed(capsys, verb):
    assert main([verb, "--fault=list"]) == ExitCode.OK
    said = capsys.readouterr()
    assert known_faults() in said.out
    assert said.err == ""
