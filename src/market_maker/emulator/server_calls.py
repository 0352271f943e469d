"""One REST call: its arguments, who makes it, and how its answer goes out."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from market_maker.access import AUTHORIZATION, admits
from market_maker.emulator import frames
from market_maker.emulator.driver import ExchangeClosed, ExchangeDriver
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.pages import Page, Wanted
from market_maker.emulator.server_rules import REST_PATH, STREAM_PATH, ServedAccount
from market_maker.emulator.streams import Reply
from market_maker.emulator.validation import Refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API_KEY: Final = "X-Api-Key"
BAD_REQUEST: Final = Refusal(400, 400)
UNAUTHORIZED: Final = Refusal(401, 401)
FORBIDDEN: Final = Refusal(403, 403)
NOT_FOUND: Final = Refusal(404, 404)
MARKET_NOT_FOUND: Final = Refusal(400, 1001)
_OK: Final = 200
_JSON: Final = {"Content-Type": "application/json"}
_MOST_DIGITS: Final = 19


class CallRefused(Exception):
    """A call that is answered by an error."""

    def __init__(self, refusal: Refusal, why: str = "") -> None:
        super().__init__(why or refusal.message)
        self.refusal = refusal


class Arguments:
    """What a call names in its path and its query.

    Each method raises `CallRefused` for what is not of its kind.
    """

    def __init__(self, request: web.Request) -> None:
        self._path = request.match_info
        self._query = request.query

    def part(self, name: str) -> str:
        """Part of the path."""
        return self._path[name]

    def number_in_path(self, name: str) -> int:
        """Whole number in the path."""
        return _whole(name, self._path[name])

    def texts(self, name: str) -> tuple[str, ...]:
        """Values of a key that may be repeated."""
        return tuple(self._query.getall(name, ()))

    def word(self, name: str) -> str:
        """Value of a key, empty without it."""
        return self._query.get(name, "")

    def number(self, name: str) -> int | None:
        """Whole number, None without it."""
        text = self._query.get(name)
        return None if text is None else _whole(name, text)

    def required_number(self, name: str) -> int:
        """Whole number that must be there."""
        value = self.number(name)
        if value is None:
            raise CallRefused(BAD_REQUEST, f"expected {name}, was missing")
        return value

    def wanted(self) -> Wanted:
        """Which rows are wanted: by market, side and type."""
        return Wanted(self.texts("market"), self.word("side"), self.word("type"))

    def page(self, most: int) -> Page:
        """Which page is wanted, of at most so many rows."""
        limit = self.number("limit")
        return Page(self.number("cursor"), min(limit, most) if limit else most)


def _whole(name: str, text: str) -> int:
    # int() would also take digits of other scripts, and underscores.
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise CallRefused(BAD_REQUEST, f"{name}: expected a whole number, was {text!r}")
    return int(text)


def respond(status: int, body: bytes) -> web.Response:
    """Build a reply with a JSON body."""
    return web.Response(status=status, body=body, headers=_JSON)


def refusal_response(refusal: Refusal, why: str = "") -> web.Response:
    """Build a reply that refuses."""
    return respond(refusal.http_status, frames.error(refusal.code, why or refusal.message))


class Desk:
    """Knows who calls, and passes calls to the exchange and its answers back."""

    def __init__(self, driver: ExchangeDriver, accounts: Mapping[str, ServedAccount]) -> None:
        self.driver = driver
        self._accounts = accounts

    def account(self, request: web.Request) -> ServedAccount:
        """Return the account that an API key opens.

        Raises
        ------
        CallRefused
            If there is no key, or none of this exchange.
        """
        account = self.account_of(request.headers.get(API_KEY, ""))
        if account is None:
            raise CallRefused(UNAUTHORIZED)
        return account

    def account_of(self, api_key: str) -> ServedAccount | None:
        """Return the account that an API key opens, None where it opens none."""
        return self._accounts.get(api_key)

    def pool(self, request: web.Request) -> int | str:
        """Whose rate limit a call counts against: the account's, or the address's where none is named."""
        account = self.account_of(request.headers.get(API_KEY, ""))
        return (request.remote or "") if account is None else account.account_id

    async def look_up(self, pool: int | str, query: Callable[[], bytes]) -> web.Response:
        """Answer a look-up; `query` may raise `CallRefused`."""
        refused: list[Refusal] = []
        failed: list[Exception] = []

        def guarded() -> bytes:
            try:
                return query()
            except CallRefused as error:
                refused.append(error.refusal)
                return frames.error(error.refusal.code, str(error))
            except Exception as error:  # noqa: BLE001  (raised below: here it would end the whole exchange)
                failed.append(error)
                return b""

        reply = await self.driver.ask(pool, guarded)
        if failed:
            raise failed[0]
        # A fault of the exchange comes before what the look-up found.
        status = refused[0].http_status if refused and reply.http_status == _OK else reply.http_status
        return respond(status, reply.frame)

    async def refuse(self, pool: int | str, refusal: Refusal, why: str = "") -> web.Response:
        """Answer a call that is none, as late as any other."""

        def query() -> bytes:
            raise CallRefused(refusal, why)

        return await self.look_up(pool, query)


def reply_response(reply: Reply) -> web.Response:
    """Pass the exchange's reply on."""
    return respond(reply.http_status, reply.frame)


def admitted(token: str) -> Middleware:
    """Refuse calls that do not bring the server's token, if it has one."""

    @web.middleware
    async def checked(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not admits(token, request.headers.get(AUTHORIZATION, "")):
            return refusal_response(UNAUTHORIZED, "expected the token of this emulator")
        return await handler(request)

    return checked


def cut_off(exchange: Exchange) -> Middleware:
    """Cut the connections of calls that come, or would be answered, while the exchange is unreachable."""

    @web.middleware
    async def reached(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_at_exchange(request):
            return await handler(request)
        response = None if exchange.turns_away() else await handler(request)
        if response is None or exchange.is_unreachable:
            if request.transport is not None:
                request.transport.abort()
            return response or web.Response()
        return response

    return reached


def _is_at_exchange(request: web.Request) -> bool:
    return request.path.startswith((REST_PATH, STREAM_PATH))


@web.middleware
async def envelope(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse calls that do not say who makes them; give every error the API's envelope."""
    if _is_at_exchange(request) and not request.headers.get("User-Agent"):
        return refusal_response(FORBIDDEN, "expected a User-Agent, was none")
    try:
        return await handler(request)
    except CallRefused as error:
        return refusal_response(error.refusal, str(error))
    except ExchangeClosed as error:
        return refusal_response(Refusal(500, 500), str(error))
    except web.HTTPException as error:
        return refusal_response(Refusal(error.status, error.status), error.reason)
