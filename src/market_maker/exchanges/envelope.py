"""The envelope of Extended's REST replies, and its errors as types.

Every reply is `{"status":"OK","data":…}` or `{"status":"ERROR","error":{"code":1140,…}}`. Errors are told
apart by their code, never by the words of the message. A reader made here raises the `VenueError` of an
envelope that says ERROR (some come with HTTP 200), and `CorruptFrame` for what is no such reply.
"""

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from market_maker.exchanges.wire import UNREADABLE, corrupt
from market_maker.gateway import (
    CredentialsRefused,
    MarketNotFound,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    VenueError,
)

T = TypeVar("T")

_HTTP_OK: Final = 200
_REFUSALS: Final = range(400, 500)
_SERVER_FAILURES: Final = range(500, 600)
_UNHANDLED: Final = 1006
_CREDENTIAL_CODES: Final = frozenset({401, 1100, 1101, 1102})
_MARKET_NOT_FOUND: Final = 1001
_RATE_LIMITED: Final = 429


class _WireError(msgspec.Struct):
    code: int | str = 0
    message: str = ""


class _Pagination(msgspec.Struct):
    cursor: int | None = None
    count: int = 0


class _Envelope(msgspec.Struct):
    status: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    error: _WireError | None = None
    pagination: _Pagination | None = None


_read_envelope = msgspec.json.Decoder(_Envelope, strict=False)


def data_reader(data_type: type[T], expected: str) -> Callable[[bytes], T]:
    """Reader of the `data` of a reply; `expected` names it in the error."""
    decoder = msgspec.json.Decoder(data_type, strict=False)

    def read(body: bytes) -> T:
        data = _data(body)
        try:
            return decoder.decode(data)
        except UNREADABLE as error:
            raise corrupt(f"{expected} ({error})", body) from error

    return read


def check_carried_out(body: bytes) -> None:
    """Fail where a reply that carries no data reports an error; an empty body says that all is well.

    Raises
    ------
    VenueError
        If it does.
    """
    if body:
        _data(body)


def is_envelope(body: bytes) -> bool:
    """Whether a body is the exchange's own; what is not may be the page of a proxy."""
    return _envelope(body) is not None


def _data(body: bytes) -> msgspec.Raw:
    envelope = _envelope(body)
    if envelope is None:
        raise corrupt("a reply envelope", body)
    if envelope.status.upper() != "OK":
        raise venue_error(_HTTP_OK, body)
    return envelope.data


def _envelope(body: bytes) -> _Envelope | None:
    try:
        return _read_envelope.decode(body)
    except UNREADABLE:
        # What is no envelope may be a proxy's page or an empty body; the caller says what that means.
        return None


def venue_error(http_status: int, body: bytes, retry_after_s: float = 1.0) -> VenueError:
    """Error of a reply, by its code; by the HTTP status where the body carries none.

    A failure of the server itself (5xx, 1006) leaves open whether the request was carried out, and so does
    what is neither a refusal in words nor by its status (4xx), such as a redirect or 202::

        {"status":"ERROR","error":{"code":1140,"message":"New order cost exceeds available balance."}}
    """
    envelope = _envelope(body)
    error = envelope.error if envelope is not None else None
    code = error.code if error is not None and isinstance(error.code, int) and error.code else http_status
    message = f"{code}: {error.message if error is not None else f'HTTP status {http_status}'}"
    if _RATE_LIMITED in (code, http_status):
        return RateLimited(message, retry_after_s)
    if code in _CREDENTIAL_CODES:
        return CredentialsRefused(message, code)
    if code == _MARKET_NOT_FOUND:
        return MarketNotFound(message, code)
    is_refusal = http_status in _REFUSALS or (envelope is not None and envelope.status.upper() == "ERROR")
    if not is_refusal or code == _UNHANDLED or code in _SERVER_FAILURES:
        return OutcomeUnknown(message, code)
    return OrderRefused(message, code)


def next_cursor(body: bytes) -> int | None:
    """Cursor of the next page, None after the last; a page may repeat the cursor that it was asked for."""
    envelope = _envelope(body)
    return envelope.pagination.cursor if envelope is not None and envelope.pagination is not None else None
