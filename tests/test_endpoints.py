import pytest

from market_maker.config_sections import Network
from market_maker.exchanges.endpoints import EndpointError, endpoint_of


@pytest.mark.parametrize(
    ("network", "rest", "stream", "chain", "host"),
    [
        (
            Network.MAINNET,
            "https://api.starknet.extended.exchange/api/v1",
            "wss://api.starknet.extended.exchange/stream.extended.exchange/v1",
            "SN_MAIN",
            "api.starknet.extended.exchange",
        ),
        (
            Network.TESTNET,
            "https://api.starknet.sepolia.extended.exchange/api/v1",
            "wss://api.starknet.sepolia.extended.exchange/stream.extended.exchange/v1",
            "SN_SEPOLIA",
            "api.starknet.sepolia.extended.exchange",
        ),
        (
            Network.EMULATOR,
            "http://127.0.0.1:8790/api/v1",
            "ws://127.0.0.1:8790/stream.extended.exchange/v1",
            "SN_SEPOLIA",
            "127.0.0.1:8790",
        ),
    ],
)
def test_each_network_has_its_addresses_and_its_chain(network, rest, stream, chain, host):
    endpoint = endpoint_of(network, "http://127.0.0.1:8790")
    assert (endpoint.network, endpoint.rest_url, endpoint.stream_url) == (network.value, rest, stream)
    assert (endpoint.chain_id, endpoint.host) == (chain, host)


def test_the_emulators_address_does_not_matter_elsewhere():
    assert endpoint_of(Network.TESTNET, "nonsense").host == "api.starknet.sepolia.extended.exchange"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://localhost:8443/", "https://localhost:8443"),
        ("http://[::1]:8790", "http://[::1]:8790"),
        ("http://emulator.test", "http://emulator.test"),
    ],
)
def test_an_emulator_may_be_on_any_host(url, origin):
    endpoint = endpoint_of(Network.EMULATOR, url)
    assert endpoint.origin == origin
    assert endpoint.stream_url.startswith("wss://" if url.startswith("https") else "ws://")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8790",
        "ftp://127.0.0.1:8790",
        "http://",
        "http://127.0.0.1:http",
        "http://127.0.0.1:0",
        "http://127.0.0.1:99999",
        "http://[::1:8790",
        "http://127.0.0.1:8790/api/v1",
        "http://127.0.0.1:8790?x=1",
        "http://user:word@127.0.0.1:8790",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(url):
    with pytest.raises(EndpointError, match=r"emulator_url: expected .*http://127\.0\.0\.1:8790.*, was "):
        endpoint_of(Network.EMULATOR, url)
