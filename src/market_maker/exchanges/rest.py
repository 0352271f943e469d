"""The way of a request to the exchange and back: one session, one budget, failures as types.

A failure says what became of the request. It never left (no connection), it was refused (the exchange says
so in its envelope), or nobody knows (no answer, half an answer, a failure inside the exchange). An order is
sent once. A look-up is sent again, once and by the HTTP library, where a connection that was kept alive turns
out to be dropped; so is the cancel of one order, which is the same if it arrives twice.
"""

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
from market_maker.exchanges.rate_budget import RateBudget
from market_maker.gateway import CredentialsRefused, OrderRefused, OutcomeUnknown, Unreachable, VenueError

USER_AGENT: Final = "extended-market-maker/1"

Query = Sequence[tuple[str, str | int]]

_SUCCESSES: Final = (200, 201, 204)
_RATE_LIMITED: Final = 429
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
        Also for streams; it names no key by itself.

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
        common = {"User-Agent": USER_AGENT, "Accept": "application/json", "Content-Type": "application/json"}
        self._public_headers = common
        self._private_headers = {**common, "X-Api-Key": api_key.reveal()} if api_key else common
        self._urls: dict[str, URL] = {}
        timeout_s = settings.request_timeout_s
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
        reply = await self.ask("GET", path, query, private=private)
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
        """Body of the reply to a request that changes something. Urgent ones may use the reserve.

        Raises
        ------
        VenueError
            By what the exchange says, or by how far the request came.
        """
        reply = await self.ask(method, path, query, body=body, urgent=urgent)
        if reply.status in _SUCCESSES:
            return reply.body
        raise self._error(reply)

    async def ask(
        self,
        method: str,
        path: str,
        query: Query = (),
        *,
        body: bytes = b"",
        private: bool = True,
        urgent: bool = False,
    ) -> Reply:
        """Reply of the exchange, whatever it is.

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
        if private and self._api_key is None:
            msg = f"{self.endpoint.network}: expected keys for {path}, was without: set MM_API_KEY"
            raise CredentialsRefused(msg)
        sent_ns = self._clock.now_ns()
        self.budget.spend(sent_ns, urgent=urgent)
        try:
            async with self.session.request(
                method,
                self._url(path, query),
                data=body or None,
                headers=self._private_headers if private else self._public_headers,
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            # Without its cause: that may carry the headers of the request.
            raise connection_failure(self.endpoint, error) from None
        if self._key_bytes and self._key_bytes in content:
            # What a server repeats must not come back in an error or a log.
            content = content.replace(self._key_bytes, _MASK)
        return Reply(response.status, content, response.headers, sent_ns, self._clock.now_ns())

    async def close(self) -> None:
        """Close all connections."""
        await self.session.close()

    def _url(self, path: str, query: Query) -> URL:
        if query:
            asked = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in query)
            return URL(f"{self.endpoint.rest_url}{path}?{asked}", encoded=True)
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = URL(f"{self.endpoint.rest_url}{path}", encoded=True)
        return url

    def _error(self, reply: Reply) -> VenueError:
        retry_after_s = _retry_after_s(reply.headers.get("Retry-After", ""))
        if reply.status == _RATE_LIMITED:
            self.budget.pause(reply.received_ns, retry_after_s)
        return venue_error(reply.status, reply.body, retry_after_s)


def connection_failure(endpoint: Endpoint, error: aiohttp.ClientError | TimeoutError) -> VenueError:
    """What a failure of the HTTP library says of the request: never sent, or without an answer."""
    where = f"{endpoint.network} at {endpoint.host}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Unreachable(f"{where}: {_certificate_problem(error)}")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return Unreachable(f"{where}: no TLS connection ({error.os_error}); is it a server with TLS?")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable(f"{where}: the name of the host is unknown; check the network of this machine")
    if isinstance(error, aiohttp.ClientConnectorError):
        return Unreachable(f"{where}: no connection ({error.strerror}); is it up, and the address right?")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Unreachable(f"{where}: no connection in time; check the network of this machine")
    if isinstance(error, TimeoutError):
        return OutcomeUnknown(f"{where}: no reply in time")
    return OutcomeUnknown(f"{where}: the connection was lost before the reply ({type(error).__name__})")


def _certificate_problem(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    problem = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)
    return (
        f"its TLS certificate is not trusted ({problem}); check the date of this machine, its root "
        "certificates, and whether a proxy is in between"
    )


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
