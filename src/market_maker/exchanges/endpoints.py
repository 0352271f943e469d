"""Where an exchange is reached, and under which name its orders are signed.

A signature holds for one network alone: the chain id is part of what is signed. The emulator signs as the
testnet does.
"""

from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from market_maker.access import AUTHORIZATION, bearer
from market_maker.config_sections import NO_SECRET, Network, Secret

_REST_PATH: Final = "/api/v1"
_STREAM_PATH: Final = "/stream.extended.exchange/v1"
_TESTNET_CHAIN: Final = "SN_SEPOLIA"
_PORTS: Final = {"http": 80, "https": 443}
_PORT_RANGE: Final = range(1, 65536)


class EndpointError(ValueError):
    """The address of the emulator is none."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Addresses of one network. `rest_url` ends in /api/v1, `stream_url` in /v1, both without a slash.

    `token` is an emulator's that listens beyond its machine.
    """

    network: str
    rest_url: str
    stream_url: str
    chain_id: str
    token: Secret = NO_SECRET

    @property
    def headers(self) -> dict[str, str]:
        """What every request has to bring: the token of an emulator that asks for one."""
        return {AUTHORIZATION: bearer(self.token.reveal())} if self.token else {}

    @property
    def origin(self) -> str:
        """What the paths of all requests are appended to: scheme, host and port.

        >>> endpoint_of(Network.EMULATOR, "http://127.0.0.1:8790/").origin
        'http://127.0.0.1:8790'
        """
        return self.rest_url.removesuffix(_REST_PATH)

    @property
    def host(self) -> str:
        """Name or address of the host, and its port where that is not the scheme's own."""
        parts = urlsplit(self.rest_url)
        port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
        return f"{parts.hostname}{port}"


def endpoint_of(network: Network, emulator_url: str, emulator_token: Secret = NO_SECRET) -> Endpoint:
    """Addresses of a network; `emulator_url` and its token count for the emulator only.

    >>> endpoint_of(Network.EMULATOR, "http://127.0.0.1:8790").stream_url
    'ws://127.0.0.1:8790/stream.extended.exchange/v1'

    Raises
    ------
    EndpointError
        If the network is the emulator and its address is none.
    """
    if network is Network.MAINNET:
        return _endpoint(network, "https://api.starknet.extended.exchange", "SN_MAIN")
    if network is Network.TESTNET:
        return _endpoint(network, "https://api.starknet.sepolia.extended.exchange", _TESTNET_CHAIN)
    return replace(_endpoint(network, _checked(emulator_url), _TESTNET_CHAIN), token=emulator_token)


def _endpoint(network: Network, origin: str, chain_id: str) -> Endpoint:
    streams = "ws" + origin.removeprefix("http")
    return Endpoint(network.value, f"{origin}{_REST_PATH}", f"{streams}{_STREAM_PATH}", chain_id)


def _checked(url: str) -> str:
    origin = url.rstrip("/")
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError as error:
        raise _no_address(url) from error
    bare = f"{parts.scheme}://{parts.netloc}" == origin and "@" not in parts.netloc
    if parts.scheme not in _PORTS or not parts.hostname or not bare:
        raise _no_address(url)
    if port is not None and port not in _PORT_RANGE:
        raise _no_address(url)
    return origin


def _no_address(url: str) -> EndpointError:
    return EndpointError(
        f"emulator_url: expected http:// or https://, a host and a port (http://127.0.0.1:8790), was {url!r}"
    )
