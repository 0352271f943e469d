"""`mm doctor` against an emulator behind sockets: what it finds, and that it changes nothing."""

import json
import os

import pytest
from served import served
from test_cli_orders import Trader

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.domain import Side

CANARY = "canary0d1e2f"

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def mm(capsys):
    def run(url, *words: str) -> tuple[int, dict, str]:
        """Exit code, verdicts by check with what was found and advised, and all that was printed."""
        way = ("-s", "network=emulator", "-s", f"emulator_url={url}", "-s", "markets=BTC-USD")
        code = main(["doctor", *way, "--json", *words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        told = json.loads(captured.out)
        assert told["ready"] == (code == ExitCode.OK)
        found = {it["check"]: (it["verdict"], f"{it['found']}; {it['advice']}") for it in told["checks"]}
        return code, found, captured.out + captured.err

    return run


def test_where_all_is_well_every_check_is_made_and_nothing_is_changed(mm, capsys):
    with served() as emulator:
        code, found, _ = mm(emulator.url)
        assert code == ExitCode.OK
        assert set(found) == {
            "settings",
            "network",
            "clock",
            "market BTC-USD",
            "keys",
            "balance",
            "leverage BTC-USD",
            "open orders",
            "rate limit",
            "latency",
            "dead man's switch",
            "stream of the account",
            "stream of BTC-USD",
        }
        assert {verdict for verdict, _ in found.values()} == {"ok"}
        trader = Trader(emulator, 0)
        assert trader.open_ids() == set()
        assert trader.account.switch_due_ns == 0
        way = ("-s", "network=emulator", "-s", f"emulator_url={emulator.url}", "-s", "markets=BTC-USD")
        assert main(["doctor", *way]) == ExitCode.OK
        captured = capsys.readouterr()
        assert "stream of BTC-USD" in captured.out
        assert "ready to trade" in captured.err


def test_open_orders_of_others_keep_the_switch_from_being_tried(mm):
    with served() as emulator:
        trader = Trader(emulator, 0)
        name = trader.order(Side.BUY, 50, 1_000)
        code, found, _ = mm(emulator.url)
        assert code == ExitCode.FAILED
        verdict, text = found["open orders"]
        assert verdict == "fail"
        assert name in text
        assert "foreign_orders=leave" in text
        assert "not tried" in found["dead man's switch"][1]
        code, found, _ = mm(emulator.url, "-s", "foreign_orders=leave")
        assert code == ExitCode.OK
        assert found["open orders"][0] == "warn"
        assert trader.open_ids() == {name}
        assert trader.account.switch_due_ns == 0


def test_a_skewed_clock_an_empty_account_and_a_market_that_is_not_there(mm):
    with served(skewed_s=40.0, deposit="0") as emulator:
        code, found, _ = mm(emulator.url, "-s", "markets=BTC-USD,NO-USD", "-s", "account_leverage=5")
        assert code == ExitCode.FAILED
        assert found["clock"][0] == "fail"
        assert "NTP" in found["clock"][1]
        assert found["balance"][0] == "fail"
        assert found["market NO-USD"][0] == "fail"
        assert found["market BTC-USD"][0] == "ok"
        assert found["leverage BTC-USD"][0] == "warn"
        # The rest was looked at all the same.
        assert found["stream of BTC-USD"][0] == "ok"


def test_a_key_that_is_not_accepted_is_said_and_never_shown(mm, monkeypatch):
    with served() as emulator:
        monkeypatch.setenv("MM_API_KEY", CANARY)
        monkeypatch.setenv("MM_STARK_PRIVATE_KEY", emulator.accounts[0].private_key)
        code, found, printed = mm(emulator.url)
        assert code == ExitCode.FAILED
        assert found["keys"][0] == "fail"
        assert "does not accept the API key" in found["keys"][1]
        assert found["market BTC-USD"][0] == "ok"
        assert CANARY not in printed
        assert emulator.accounts[0].private_key not in printed


def test_where_nobody_listens_the_network_is_what_failed(mm):
    code, found, _ = mm("http://127.0.0.1:9")
    assert code == ExitCode.FAILED
    assert found["network"][0] == "fail"
    assert "127.0.0.1:9" in found["network"][1]
