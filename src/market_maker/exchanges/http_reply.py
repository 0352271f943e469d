"""The reply to one HTTP/1.1 request, read from the bytes of its connection.

What an API needs of HTTP and no more: a status, headers, and a body that is counted, in chunks, or ends with
the connection. It asks for no compression. Whatever else arrives is `BadReply`.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

_LONGEST_HEAD: Final = 64 * 1024
# What answers an order has a few hundred.
_LONGEST_BODY: Final = 1024 * 1024
_END_OF_HEAD: Final = b"\r\n\r\n"
_INFORMATIONAL: Final = range(100, 200)
_BODILESS: Final = (204, 304)
_STATUS_DIGITS: Final = 3
_LENGTH_DIGITS: Final = 9
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class BadReply(ValueError):
    """What came is no HTTP reply."""


class HttpReply(NamedTuple):
    """A reply; headers by name in lower case. `keeps_alive`: the connection can carry another request."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    keeps_alive: bool


def read_reply(received: bytes, *, is_over: bool = False) -> HttpReply | None:
    r"""Reply of what was received so far; None if more must come. `is_over`: nothing will.

    >>> read_reply(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").body
    b'{}'

    Raises
    ------
    BadReply
        If it is no reply, or not a whole one when the connection is over.
    """
    begun = 0
    while True:
        head_end = received.find(_END_OF_HEAD, begun)
        if head_end < 0:
            rest = received[begun:]
            if is_over or len(received) > _LONGEST_HEAD or not b"HTTP/1.".startswith(rest[:7]):
                raise _bad("a reply", rest)
            return None
        status, is_newest, headers = _read_head(received[begun:head_end])
        begun = head_end + len(_END_OF_HEAD)
        if status not in _INFORMATIONAL:
            break
    rest = received[begun:]
    body, surplus = _read_body(status, headers, rest, is_over=is_over)
    if body is None:
        if is_over or len(rest) > _LONGEST_BODY:
            raise _bad("a whole body", rest)
        return None
    keeps_alive = (
        is_newest and not is_over and not surplus and "close" not in headers.get("connection", "").lower()
    )
    return HttpReply(status, headers, body, keeps_alive)


def _read_head(head: bytes) -> tuple[int, bool, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, after = first.partition(" ")
    word, _, _ = after.partition(" ")
    if version not in ("HTTP/1.1", "HTTP/1.0") or len(word) != _STATUS_DIGITS or not _is_number(word):
        raise _bad("an HTTP/1.1 status line", head)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _bad("a header", line.encode("latin-1"))
        known = headers.get(name.lower())
        headers[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
    return int(word), version == "HTTP/1.1", headers


def _read_body(
    status: int, headers: Mapping[str, str], rest: bytes, *, is_over: bool
) -> tuple[bytes | None, bytes]:
    """Body, None if it is not all there, and what came after it."""
    if status in _BODILESS:
        return b"", rest
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise _bad("chunks", headers["transfer-encoding"].encode("latin-1"))
        return _read_chunks(rest)
    counted = headers.get("content-length")
    if counted is None:
        # It ends with the connection, which then is of no further use.
        return (rest if is_over else None), b""
    if not _is_number(counted) or len(counted) > _LENGTH_DIGITS or int(counted) > _LONGEST_BODY:
        raise _bad(f"a Content-Length up to {_LONGEST_BODY}", counted.encode("latin-1"))
    length = int(counted)
    return (rest[:length] if len(rest) >= length else None), rest[length:]


def _read_chunks(rest: bytes) -> tuple[bytes | None, bytes]:
    chunks: list[bytes] = []
    at = 0
    while (end := rest.find(b"\r\n", at)) >= 0:
        size = rest[at:end].split(b";", 1)[0].strip()
        if not size or len(size) > _LENGTH_DIGITS or not _HEX.issuperset(size):
            raise _bad("the length of a chunk", rest[at:end])
        length, begun = int(size, 16), end + 2
        if length == 0:
            # Headers may follow the last chunk; an empty line ends them.
            trailer_end = rest.find(_END_OF_HEAD, end)
            return (None, b"") if trailer_end < 0 else (b"".join(chunks), rest[trailer_end + 4 :])
        at = begun + length + 2
        if len(rest) < at:
            return None, b""
        if rest[at - 2 : at] != b"\r\n":
            raise _bad("the end of a chunk", rest[at - 2 : at])
        chunks.append(rest[begun : at - 2])
    return None, b""


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit()


def _bad(expected: str, found: bytes) -> BadReply:
    return BadReply(f"expected {expected}, was {found[:80]!r}")
