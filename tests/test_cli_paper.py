"""`mm run --paper` as a process of its own, on the public data of an emulator."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager, suppress

import pytest
from served import served

from market_maker.cli.app import ExitCode, main
from market_maker.cli.child import emulator_process
from market_maker.cli.paper import announcement, connect_paper
from market_maker.clock import SystemClock
from market_maker.config import ConfigError, load_config
from market_maker.domain import NS_PER_S
from market_maker.trade_journal import read_journal

PATIENCE_S = 240.0
CLOCK = SystemClock()
# Quotes so near that they fill often.
NEAR = (
    "offset_mode=fixed",
    "price_offset_per_level_percent=0.002",
    "num_levels=3",
    "min_edge_bps=0",
    "offset_latency_sigmas=0",
)
# Of nobody: were they used, the exchange would refuse them.
WRONG_KEYS = {"MM_API_KEY": "0" * 32, "MM_STARK_PRIVATE_KEY": "0xabc"}


@contextmanager
def on_paper(folder, url, *words, settings=NEAR):
    """`mm run --paper` on an emulator; killed if it outlives the test."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    given = (
        "network=emulator", f"emulator_url={url}", "markets=BTC-USD", f"journal_dir={folder}", *settings
    )  # fmt: skip
    options = [word for setting in given for word in ("-s", setting)]
    process = subprocess.Popen(
        [sys.executable, "-m", "market_maker", "run", "--paper", *options, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder,
        env={**clean, **WRONG_KEYS},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def lines_of(folder):
    return [line for path in sorted(folder.glob("*.jsonl")) for line in read_journal(path)]


def wait_for(folder, process, since=0, **wanted):
    """Wait until the journal has such a line."""
    deadline_ns = CLOCK.now_ns() + round(PATIENCE_S * NS_PER_S)
    while not any(wanted.items() <= line.items() for line in lines_of(folder)[since:]):
        assert process.poll() is None, process.communicate()
        assert CLOCK.now_ns() < deadline_ns, wanted
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)


def ended(process):
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.slow
def test_a_session_fills_on_both_sides_ends_well_and_replays_bit_for_bit(tmp_path, capsys):
    with emulator_process(["--scenario", "choppy"]) as emulator:
        url = emulator.wait_for_url()
        with on_paper(tmp_path, url, "--seconds", "45", "--json") as process:
            code, out, err = ended(process)
        with urllib.request.urlopen(f"{url}/emulator/state") as reply:
            state = json.load(reply)
    assert code == ExitCode.OK, err
    assert "PAPER: live data of emulator, no key is asked for" in err
    summary = json.loads(out)
    [run], account = summary["runs"], summary["account"]
    assert run["fill_model"] == "paper-base"
    assert run["fills"]["buys"] > 0
    assert run["fills"]["sells"] > 0
    assert run["quote_uptime"] > 0.3
    assert (run["open_orders_at_end"], run["inventory_usd"]["limit_breaches"]) == (0, 0)
    assert (account["network"], account["account_id"]) == ("paper (emulator)", "paper")
    assert account["equal"] is True
    assert (account["unknown"], account["journal_failed"]) == ({}, None)
    # At the exchange nothing happened.
    assert not any(state["openOrders"].values())
    journal = lines_of(tmp_path)
    assert {"type": "paper", "fill_model": "paper-base"}.items() <= journal[1].items()
    assert json.loads((tmp_path / "status.json").read_text())["venue"] == "paper (emulator)"
    assert main(["replay", account["journal"], "--json"]) == ExitCode.OK
    replayed = json.loads(capsys.readouterr().out)
    assert replayed["equal"] is True
    assert replayed["markets"]["BTC-USD"]["decisions"] > 50


@pytest.mark.slow
def test_ctrl_c_leaves_cleanly_and_after_a_kill_a_start_begins_anew(tmp_path):
    with served() as emulator:
        with on_paper(tmp_path, emulator.url) as process:
            wait_for(tmp_path, process, type="order", state="LIVE")
            process.send_signal(signal.SIGKILL)
            process.communicate()
        with on_paper(tmp_path, emulator.url) as process:
            before = len(lines_of(tmp_path))
            wait_for(tmp_path, process, before, type="order", state="LIVE")
            process.send_signal(signal.SIGINT)
            code, out, err = ended(process)
    assert code == ExitCode.OK, err
    assert "Ended on paper (emulator), account paper: SIGINT." in out
    assert "Open orders on paper: 0." in out
    assert "the paper account's" in out
    starts = [line for line in lines_of(tmp_path) if line["type"] == "paper"]
    assert len(starts) == 2


@pytest.mark.slow
def test_an_exchange_that_dies_takes_the_quotes_and_not_the_books(tmp_path):
    with (
        emulator_process(["--scenario", "flat"]) as emulator,
        on_paper(tmp_path, emulator.wait_for_url(), "--json") as process,
    ):
        wait_for(tmp_path, process, type="order", state="LIVE")
        emulator.end()
        wait_for(tmp_path, process, type="halt")
        process.send_signal(signal.SIGTERM)
        code, out, err = ended(process)
    assert code == ExitCode.OK, err
    summary = json.loads(out)
    assert summary["account"]["equal"] is True
    assert summary["account"]["open_orders"] == 0


def test_no_account_of_the_exchange_is_taken():
    with pytest.raises(ConfigError, match="--account: expected without --paper"):
        asyncio.run(connect_paper(load_config(["network=emulator"]), CLOCK, account=1))


def test_an_exchange_that_is_not_there_is_one_message(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    where = ["-s", "network=emulator", "-s", "emulator_url=http://127.0.0.1:9"]
    assert main(["run", "--paper", *where]) == ExitCode.EXCHANGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "mm: " in err


@pytest.mark.parametrize("network", ["testnet", "mainnet"])
def test_what_it_is_is_said_first(network):
    said = announcement(load_config([f"network={network}", "paper_fill_model=pessimistic"]))
    for part in ("PAPER", network, "no key", "pessimistic", "10,000.00 USD", "begins anew"):
        assert part in said
