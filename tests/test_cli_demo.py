"""`mm demo` and `mm run` over real sockets: a real process, its child, its summary, its end."""

import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from served import served

from market_maker.cli.app import ExitCode

PATIENCE_S = 180.0
pytestmark = pytest.mark.slow


@contextmanager
def mm(folder: Path, *words: str, **environ: str):
    """The command in a process of its own, in a folder, without our `MM_*` variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    with subprocess.Popen(
        [sys.executable, "-m", "market_maker", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=folder,
        env={**clean, "COLUMNS": "200", **environ},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(folder: Path, *words: str, **environ: str) -> tuple[int, str, str]:
    with mm(folder, *words, **environ) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_quoting(folder: Path, process: subprocess.Popen) -> dict:
    """Status of a session once an order of it rests."""
    path = folder / "journal" / "status.json"
    while process.poll() is None:
        status = json.loads(path.read_bytes()) if path.exists() else {"markets": []}
        if any(quote["price"] for market in status["markets"] for quote in market["quotes"]):
            return status
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    raise AssertionError(process.stderr.read())


def test_a_demo_over_sockets_ends_with_equal_books(tmp_path):
    code, out, err = ended(tmp_path, "demo", "--seconds", "6", "--json")
    summary = json.loads(out)
    account = summary["account"]
    assert (code, [line for line in err.splitlines() if line.startswith("mm: ")]) == (ExitCode.OK, [])
    assert (account["network"], account["equal"], account["open_orders"]) == ("emulator", True, 0)
    assert [run["market"] for run in summary["runs"]] == ["BTC-USD", "ETH-USD", "WIF-USD"]
    assert all(run["orders"]["placed"] >= 4 for run in summary["runs"])
    assert all(run["inventory_usd"]["limit_breaches"] == 0 for run in summary["runs"])
    assert account["loop"]["steps"] > 500
    assert account["loop"]["processor"]["longest_ms"]


def test_a_demo_with_a_fault_says_what_it_was_and_ends_with_equal_books(tmp_path):
    words = ("demo", "--seconds", "12", "--json", "-m", "BTC-USD", "--fault", "close_streams=1@4+2")
    code, out, _ = ended(tmp_path, *words)
    summary = json.loads(out)
    assert (code, summary["account"]["equal"], summary["account"]["open_orders"]) == (0, True, 0)
    assert "STREAM_LOST" in {**summary["runs"][0]["pauses"], **summary["runs"][0]["one_sided"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_demo_in_order_and_its_emulator_with_it(tmp_path, number):
    with mm(tmp_path, "demo", "--json") as process:
        wait_until_quoting(tmp_path, process)
        [emulator] = children(process.pid)
        watched = os.pidfd_open(emulator)
        process.send_signal(number)
        out, _ = process.communicate(timeout=PATIENCE_S)
        assert select.select([watched], [], [], PATIENCE_S)[0]
        os.close(watched)
    account = json.loads(out)["account"]
    assert (process.returncode, account["stopped_by"]) == (ExitCode.OK, number.name)
    assert (account["open_orders"], account["equal"]) == (0, True)


def test_the_emulator_does_not_outlive_a_demo_that_is_killed(tmp_path):
    with mm(tmp_path, "demo", "--json") as process:
        wait_until_quoting(tmp_path, process)
        [emulator] = children(process.pid)
        watched = os.pidfd_open(emulator)
        process.kill()
        assert select.select([watched], [], [], PATIENCE_S)[0]
        os.close(watched)


def test_an_emulator_that_dies_ends_the_demo_and_nothing_is_told_that_nobody_knows(tmp_path):
    with mm(tmp_path, "demo", "--json", "-s", "cancel_all_timeout_s=2") as process:
        wait_until_quoting(tmp_path, process)
        [emulator] = children(process.pid)
        os.kill(emulator, signal.SIGKILL)
        out, err = process.communicate(timeout=PATIENCE_S)
    account = json.loads(out)["account"]
    assert process.returncode == ExitCode.EXCHANGE
    assert (account["stopped_by"], account["open_orders"], account["equal"]) == (
        "the emulator ended",
        None,
        None,
    )
    assert "not_verified" in account
    assert [line for line in err.splitlines() if line.startswith("mm: ")] == [
        "mm: the emulator ended by SIGKILL"
    ]


@pytest.mark.parametrize("words", [("--scenario", "storm"), ("-m", "NO-USD")])
def test_what_the_emulator_has_not_is_one_message(tmp_path, words):
    code, out, err = ended(tmp_path, "demo", *words)
    assert (code in (ExitCode.USAGE, ExitCode.EXCHANGE), out) == (True, "")
    [line] = err.splitlines()
    assert line.startswith("mm: expected a ")
    assert words[1] in line


def test_run_on_an_emulator_takes_an_account_and_leaves_nothing_open(tmp_path):
    with served() as emulator:
        on_it = ("-s", "network=emulator", "-s", f"emulator_url={emulator.url}", "-s", "markets=BTC-USD")
        code, out, _ = ended(tmp_path, "run", *on_it, "--account", "1", "--seconds", "4")
        account = emulator.driver.exchange.account(emulator.accounts[1].account_id)
        assert (code, len(account.open)) == (ExitCode.OK, 0)
        assert f"Ended on emulator, account {emulator.accounts[1].account_id}: time is up." in out
        assert "Open orders at the exchange: 0." in out
