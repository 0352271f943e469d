"""Which keys are taken for which network, and what is asked before real money is traded."""

import asyncio
import io
import sys
from decimal import Decimal

import pytest

from market_maker.cli.confirmation import NotConfirmed, confirm
from market_maker.cli.connected import Visit, run_connected
from market_maker.cli.connection import connect, endpoint_in, keys_in
from market_maker.clock import SystemClock
from market_maker.config import ConfigError, load_config
from market_maker.exchanges.endpoints import EndpointError

BOTH = {"MM_API_KEY": "swordfish", "MM_STARK_PRIVATE_KEY": "0xabc"}


def config(network="testnet", *settings, **environ):
    return load_config([f"network={network}", *settings], environ=environ)


def test_the_testnet_is_where_nothing_else_is_said():
    assert endpoint_in(load_config()).network == "testnet"


def test_an_emulators_address_that_is_none_is_refused():
    with pytest.raises(EndpointError, match="emulator_url: expected http"):
        endpoint_in(config("emulator", "emulator_url=nowhere"))


@pytest.mark.parametrize("network", ["testnet", "mainnet", "emulator"])
def test_both_keys_are_taken_on_any_network(network):
    keys = keys_in(config(network, **BOTH))
    assert (keys.api_key.reveal(), keys.stark_private_key.reveal()) == ("swordfish", "0xabc")


def test_an_emulator_hands_out_its_own():
    assert keys_in(config("emulator")) is None


@pytest.mark.parametrize(
    ("network", "given", "parts"),
    [
        ("testnet", (), ("MM_API_KEY and MM_STARK_PRIVATE_KEY: expected for testnet", "sepolia", "mm demo")),
        ("testnet", ("MM_API_KEY",), ("MM_STARK_PRIVATE_KEY: expected for testnet", "chmod 600")),
        ("mainnet", ("MM_STARK_PRIVATE_KEY",), ("MM_API_KEY: expected for mainnet", "app.extended")),
        ("emulator", ("MM_API_KEY",), ("MM_STARK_PRIVATE_KEY: expected both keys or none",)),
    ],
)
def test_missing_keys_are_one_message_that_says_where_to_get_them(network, given, parts):
    with pytest.raises(ConfigError) as raised:
        keys_in(config(network, **{name: BOTH[name] for name in given}))
    [problem] = raised.value.problems
    assert all(part in problem for part in parts)
    assert "swordfish" not in problem


def test_an_account_is_chosen_on_an_emulator_only():
    with pytest.raises(ConfigError, match="--account: expected with network = emulator only"):
        asyncio.run(connect(config(**BOTH), SystemClock(), account=1))


# Real money.


def ask(monkeypatch, typed="", given=None, *settings):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    asyncio.run(confirm(config("mainnet", *settings), "4711", Decimal("1234.5"), given))


@pytest.mark.parametrize(("typed", "given"), [("mainnet\n", None), (" mainnet", None), ("", "mainnet")])
def test_the_word_confirms(monkeypatch, typed, given):
    ask(monkeypatch, typed, given)


@pytest.mark.parametrize(
    ("typed", "given", "was"),
    [
        ("", None, "nothing"),
        ("\n", None, "nothing"),
        ("yes\n", None, "something else"),
        ("Mainnet\n", None, "something else"),
        ("mainnet\n", "testnet", "something else"),
        ("mainnet\n", "", "nothing"),
    ],
)
def test_nothing_else_does(monkeypatch, typed, given, was):
    with pytest.raises(NotConfirmed, match=f"was {was}; nothing was sent"):
        ask(monkeypatch, typed, given)


def test_what_is_about_to_trade_is_shown_first(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    ask(monkeypatch, "mainnet\n", None, "ETH-USD:level_size_usd=321", "max_drawdown_usd=0")
    out, shown = capsys.readouterr()
    assert out == ""
    for part in ("mainnet", "4711", "1,234.50", "BTC-USD", "ETH-USD", "321.00", "10,000", "30,000", "hold"):
        assert part in shown
    assert "drawdown no limit" in shown


def test_another_word_is_refused_before_anybody_is_asked():
    """There is no network here: had it connected first, that would be the error."""
    with pytest.raises(NotConfirmed, match="was something else; nothing was sent"):
        run_connected(config("mainnet"), Visit(1.0, None, "testnet"), show=False)
