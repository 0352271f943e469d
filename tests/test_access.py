"""Who may ask our servers: this machine, or whoever has the token."""

import asyncio
import urllib.error
import urllib.request

import aiohttp
import pytest
from emulator_served import world
from inside import in_virtual_time

from market_maker.access import Exposed, admits, bearer
from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.config import ConfigError, load_config
from market_maker.config_sections import MetricsSettings, Network, Secret
from market_maker.emulator.server import EmulatorServer
from market_maker.exchanges.endpoints import endpoint_of
from market_maker.metrics import Metrics, start_http_server

TOKEN = "token-of-16-signs-or-more"


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"]
)
def test_what_is_not_the_token_is_refused(header):
    assert not admits(TOKEN, header)


@pytest.mark.parametrize("addr", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_metrics_beyond_this_machine_need_a_token(addr):
    with pytest.raises(Exposed, match="expected a loopback address or a token"):
        start_http_server(Metrics(), 0, addr)
    given = [f"metrics_host={addr}", "metrics_enabled=yes"]
    with pytest.raises(ConfigError, match=r"MM_METRICS_TOKEN.*was .* without one"):
        load_config(overrides=given)
    config = load_config(overrides=given, environ={"MM_METRICS_TOKEN": TOKEN})
    assert config.of(MetricsSettings).metrics_host == addr


@pytest.mark.parametrize("name", ["MM_METRICS_TOKEN", "MM_EMULATOR_TOKEN"])
@pytest.mark.parametrize("token", ["short", "two words and more than that", "x" * 300])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused_and_not_shown(name, token):
    with pytest.raises(ConfigError) as raised:
        load_config(environ={name: token})
    assert token not in str(raised.value)


def asked(port, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_with_a_token_answer_only_to_it():
    server = start_http_server(Metrics(), 0, "0.0.0.0", TOKEN)
    try:
        assert asked(server.port) == (401, "")
        assert asked(server.port, Authorization="Bearer wrong") == (401, "")
        status, text = asked(server.port, Authorization=bearer(TOKEN))
    finally:
        server.close()
    assert (status, "mm_equity_usd" in text) == (200, True)
    assert TOKEN not in text


async def exposed(program):
    async with world() as here:
        server = EmulatorServer(here.driver, [])
        with pytest.raises(Exposed, match="MM_EMULATOR_TOKEN"):
            await server.start("0.0.0.0")
        await server.start("0.0.0.0", token=TOKEN)
        try:
            await program(server.url.replace("0.0.0.0", "127.0.0.1"))
        finally:
            await server.close()


def test_an_emulator_beyond_this_machine_answers_only_to_its_token():
    async def program(url):
        headers = {"User-Agent": "test"}
        endpoint = endpoint_of(Network.EMULATOR, url, Secret(TOKEN))
        assert TOKEN not in repr(endpoint)
        async with aiohttp.ClientSession(headers=headers) as session:
            for path in (
                "/api/v1/info/markets",
                "/emulator/accounts",
                "/stream.extended.exchange/v1/account",
            ):
                async with session.get(url + path) as reply:
                    assert reply.status == 401
                    assert TOKEN not in await reply.text()
                async with session.get(url + path, headers={"Authorization": "Bearer no"}) as reply:
                    assert reply.status == 401
            async with session.get(url + "/api/v1/info/markets", headers=endpoint.headers) as reply:
                assert reply.status == 200
            # Keys are handed out on a loopback address alone, token or not.
            async with session.get(url + "/emulator/accounts", headers=endpoint.headers) as reply:
                assert reply.status == 404

    in_virtual_time(lambda: exposed(program))


def test_the_verb_refuses_too(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MM_EMULATOR_TOKEN", raising=False)
    assert main(["emulator", "--host", "0.0.0.0", "--port", "0"]) == ExitCode.USAGE
    assert "MM_EMULATOR_TOKEN" in capsys.readouterr().err


def test_an_own_client_brings_the_token(monkeypatch):
    """Look-ups, orders and streams, by the gateway that trades."""
    from market_maker.clock import LoopClock
    from market_maker.config_sections import ConnectionSettings
    from market_maker.exchanges.extended import ExtendedGateway

    async def program(url):
        endpoint = endpoint_of(Network.EMULATOR, url, Secret(TOKEN))
        clock = LoopClock(asyncio.get_running_loop(), 0)
        gateway = await ExtendedGateway.connect(endpoint, None, ConnectionSettings(), clock)
        try:
            await gateway.instruments(["BTC-USD"])
            events = gateway.market_events("BTC-USD")
            assert await anext(events) is not None
        finally:
            await gateway.close()

    in_virtual_time(lambda: exposed(program))
