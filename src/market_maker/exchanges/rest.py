"""The way of a request to the exchange and back: one session, one budget, failures as types.

A failure says what became of the request. It never left (no connection), it was refused (the exchange says
so in its envelope), or nobody knows (no answer, half an answer, a failure inside the exchange). What changes
something is sent once, on connections of its own. A look-up is sent again, once and by the HTTP library,
where a connection that was kept alive turns out to be dropped.
"""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

import aiohttp
from yarl import URL

from market_maker.clock import Clock
from market_maker.config_sections import ConnectionSettings, Secret
from market_maker.exchanges.endpoints import Endpoint
from market_maker.exchanges.envelope import is_envelope, venue_error
from market_maker.exchanges.order_line import ConnectFailed, LineLost, OrderLines
from market_maker.exchanges.rate_budget import RateBudget
from market_maker.exchanges.socket import USER_AGENT
from market_maker.gateway import (
    CredentialsRefused,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    Unreachable,
    VenueError,
)

Query = Sequence[tuple[str, str | int]]

_SUCCESSES: Final = (200, 201, 204)
_DEFAULT_PAUSE_S: Final = 3.0
_LONGEST_PAUSE_S: Final = 600.0
# Connections stay warm between two calls of the dead man's switch.
_KEEP_ALIVE_S: Final = 30.0
_DNS_CACHE_S: Final = 60
_CONNECT_SHARE: Final = 0.8
_MASK: Final = b"********"


class Reply(NamedTuple):
    """Whatever came back, and the instants between which the exchange wrote it."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    sent_ns: int
    received_ns: int


class RestClient:
    """Requests of one account, or of none, to one network.

    Parameters
    ----------
    api_key : Secret, optional
        Goes with private requests only.

    Attributes
    ----------
    session : aiohttp.ClientSession
        Also for the streams; it names no key by itself.

    Raises
    ------
    CredentialsRefused
        If the key can not be sent in a header.
    """

    def __init__(
        self, endpoint: Endpoint, api_key: Secret | None, settings: ConnectionSettings, clock: Clock
    ) -> None:
        self.endpoint: Final = endpoint
        self.budget: Final = RateBudget(settings.requests_per_minute, settings.cancel_reserve_share)
        self._clock = clock
        self._api_key = api_key
        self._key_bytes = _header_bytes(api_key) if api_key else b""
        common = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            "Content-Type": "application/json",
            **endpoint.headers,
        }
        self._public_headers = common
        self._private_headers = {**common, "X-Api-Key": api_key.reveal()} if api_key else common
        self._timeout_s = timeout_s = settings.request_timeout_s
        self._lines = OrderLines(endpoint, self._private_headers)
        self.session: Final = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=_DNS_CACHE_S
            ),
            # A time-out is what it says: by default one of over 5 s is rounded up to a whole second.
            timeout=aiohttp.ClientTimeout(
                total=timeout_s, sock_connect=timeout_s * _CONNECT_SHARE, ceil_threshold=timeout_s + 1
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def get(self, path: str, query: Query = (), *, private: bool = True) -> bytes:
        """Body of a look-up.

        Raises
        ------
        VenueError
            By what the exchange says. What no envelope of the exchange comes with is unknown: a proxy's 404
            does not say that an order is not there.
        """
        reply = await self.ask(path, query, private=private)
        if reply.status in _SUCCESSES:
            return reply.body
        error = self._error(reply)
        if isinstance(error, OrderRefused) and reply.body and not is_envelope(reply.body):
            msg = f"{self.endpoint.host}: expected a reply of the exchange, was HTTP status {reply.status}"
            raise OutcomeUnknown(msg, reply.status)
        raise error

    async def send(
        self, method: str, path: str, query: Query = (), *, body: bytes = b"", urgent: bool = False
    ) -> bytes:
        """Body of the reply to a request that changes something; sent once. Urgent ones may use the reserve.

        Raises
        ------
        VenueError
            By what the exchange says, or by how far the request came.
        """
        sent_ns = self._admit(path, private=True, urgent=urgent)
        is_sent = False
        try:
            async with asyncio.timeout(self._timeout_s):
                line = await self._lines.line()
                is_sent = True
                status, headers, content, _ = await self._lines.exchange(
                    line, method, _target(path, query), body
                )
        except ConnectFailed as failure:
            raise _unreachable(self.endpoint, failure.cause) from failure
        except LineLost as loss:
            # Without its cause: that shows what came, and who repeats our headers repeats the key.
            why = self._masked(str(loss).encode()).decode()
            raise _outcome_unknown(
                self.endpoint, f"the connection was lost before the reply ({why})"
            ) from None
        except TimeoutError as error:
            if not is_sent:
                raise _unreachable(self.endpoint, error) from error
            raise _outcome_unknown(self.endpoint, "no reply in time") from error
        if status in _SUCCESSES:
            return self._masked(content)
        raise self._error(Reply(status, self._masked(content), headers, sent_ns, self._clock.now_ns()))

    async def ask(self, path: str, query: Query = (), *, private: bool = True) -> Reply:
        """Reply to a look-up, whatever it is.

        Raises
        ------
        RateLimited
            If the budget does not admit the request; it was not sent.
        Unreachable
            If no connection came about; it was not sent.
        OutcomeUnknown
            If no whole reply came.
        CredentialsRefused
            If the request is private and there is no key.
        """
        sent_ns = self._admit(path, private=private, urgent=False)
        try:
            async with self.session.get(
                URL(f"{self.endpoint.rest_url}{_target(path, query)}", encoded=True),
                headers=self._private_headers if private else self._public_headers,
                allow_redirects=False,
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            failure = request_failure(self.endpoint, error)
        else:
            return Reply(response.status, self._masked(body), response.headers, sent_ns, self._clock.now_ns())
        # Not raised within: the library's error carries the headers of the request, and would go along.
        raise failure

    async def close(self) -> None:
        """Close all connections."""
        await self._lines.close()
        await self.session.close()

    def _admit(self, path: str, *, private: bool, urgent: bool) -> int:
        if private and self._api_key is None:
            msg = f"{self.endpoint.network}: expected keys for {path}, was without: set MM_API_KEY"
            raise CredentialsRefused(msg)
        if self.session.closed:
            raise _outcome_unknown(self.endpoint, "the connection was closed by us, nothing is sent any more")
        now_ns = self._clock.now_ns()
        self.budget.spend(now_ns, urgent=urgent)
        return now_ns

    def _masked(self, body: bytes) -> bytes:
        """Body without our key: what a server repeats must not come back in an error or a log."""
        return body.replace(self._key_bytes, _MASK) if self._key_bytes else body

    def _error(self, reply: Reply) -> VenueError:
        retry_after_s = _retry_after_s(reply.headers.get("retry-after", ""))
        error = venue_error(reply.status, reply.body, retry_after_s)
        if isinstance(error, RateLimited):
            self.budget.pause(reply.received_ns, retry_after_s)
        return error


def request_failure(endpoint: Endpoint, error: aiohttp.ClientError | TimeoutError) -> VenueError:
    """What a failure of the HTTP library says of the request: never sent, or without an answer."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _unreachable(endpoint, socket.gaierror())
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unreachable(endpoint, error.os_error)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return _unreachable(endpoint, error)
    if isinstance(error, TimeoutError):
        return _outcome_unknown(endpoint, "no reply in time")
    return _outcome_unknown(endpoint, f"the connection was lost before the reply ({type(error).__name__})")


def _outcome_unknown(endpoint: Endpoint, why: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"{endpoint.network} at {endpoint.host}: {why}")


def _unreachable(endpoint: Endpoint, cause: OSError) -> Unreachable:
    if isinstance(cause, ssl.SSLCertVerificationError):
        why = (
            f"its TLS certificate is not trusted ({cause.verify_message}); check the date of this machine, "
            "its root certificates, and whether a proxy is in between"
        )
    elif isinstance(cause, ssl.SSLError):
        why = f"no TLS connection ({cause.reason}); is it a server with TLS?"
    elif isinstance(cause, socket.gaierror):
        why = "the name of the host is unknown; check the network of this machine"
    elif isinstance(cause, TimeoutError):
        why = "no connection in time; check the network of this machine"
    else:
        why = f"no connection ({cause.strerror or cause}); is it up, and the address right?"
    return Unreachable(f"{endpoint.network} at {endpoint.host}: {why}")


def _target(path: str, query: Query) -> str:
    if not query:
        return path
    return f"{path}?" + "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query)


def _retry_after_s(header: str) -> float:
    try:
        asked_s = float(header)
    except ValueError:
        return _DEFAULT_PAUSE_S
    return asked_s if 0 < asked_s <= _LONGEST_PAUSE_S else _DEFAULT_PAUSE_S


def _header_bytes(api_key: Secret) -> bytes:
    key = api_key.reveal()
    if not key.isascii() or not key.isprintable() or " " in key:
        msg = "api_key: expected printable ASCII characters without spaces, was something else"
        raise CredentialsRefused(msg)
    return key.encode()
