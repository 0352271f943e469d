"""Public archives of market data, one file for each day: downloaded, resumed, and checked.

A file grows as `NAME.part` and gets its name once it is whole: of the length that the server said, of the
SHA-256 that the archive publishes where it does, else a gzip or zip whose own checksums hold. A part that is
there already is gone on with (`Range`).
"""

import asyncio
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

from market_maker.recordings.events import RecordingError

_CHUNK_BYTES: Final = 1 << 18
_TRIES: Final = 5
_PAUSE_S: Final = 1.0
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)

# Told while a file comes: its name, bytes that are here, bytes in all (0: not known).
Told = Callable[[str, int, int], None]


class DownloadError(RecordingError):
    """A file of an archive that cannot be had, or is not what its checksum says."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive: where it is, how a day's file is called there, whether a checksum lies beside it.

    `path` is filled in with `venue`, `kind`, `symbol`, `year`, `month`, `day` and `date`.
    """

    base_url: str
    path: str
    kinds: tuple[str, ...]
    has_checksums: bool
    note: str = ""


ARCHIVES: Final = {
    "tardis": Archive(
        "https://datasets.tardis.dev/v1",
        "{venue}/{kind}/{year}/{month}/{day}/{symbol}.csv.gz",
        ("incremental_book_L2", "trades", "book_ticker", "derivative_ticker"),
        has_checksums=False,
        note="the first day of each month is free; other days need a key and are refused",
    ),
    "binance": Archive(
        "https://data.binance.vision/data/futures/um/daily",
        "{kind}/{symbol}/{symbol}-{kind}-{date}.zip",
        ("trades", "bookTicker", "bookDepth", "aggTrades"),
        has_checksums=True,
        note="it holds no depth of the book by events: mm data convert does not read it",
    ),
}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of an archive: its address, its name here, the address of its checksum (empty: none)."""

    url: str
    name: str
    checksum_url: str = ""


def days(first: date, last: date) -> list[date]:
    """Days from the first to the last, both included."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def remote_file(archive: Archive, base_url: str, venue: str, kind: str, symbol: str, day: date) -> RemoteFile:
    """File of one day of one kind."""
    path = archive.path.format(
        venue=venue,
        kind=kind,
        symbol=symbol,
        year=f"{day:%Y}",
        month=f"{day:%m}",
        day=f"{day:%d}",
        date=day.isoformat(),
    )
    url = f"{base_url.rstrip('/')}/{path}"
    suffix = ".zip" if path.endswith(".zip") else ".csv.gz"
    name = f"{symbol}-{kind}-{day.isoformat()}{suffix}"
    return RemoteFile(url, name, f"{url}.CHECKSUM" if archive.has_checksums else "")


async def download(file: RemoteFile, folder: Path, told: Told, pause_s: float = _PAUSE_S) -> bool:
    """Have a file in a folder; False if it was there already.

    Raises
    ------
    DownloadError
        If the server refuses it, it does not come whole in five tries, or its checksum is another.
    """
    target = folder / file.name
    if _is_there(target):
        return False
    part = target.with_name(f"{target.name}.part")
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        expected = await _checksum(session, file)
        await _fetch(session, file, part, told, pause_s)
    try:
        await asyncio.to_thread(_check, part, file, expected)
    except DownloadError:
        # Going on with it would never mend it.
        part.unlink()
        raise
    part.rename(target)
    return True


def _is_there(target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.exists()


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


async def _checksum(session: aiohttp.ClientSession, file: RemoteFile) -> str:
    if not file.checksum_url:
        return ""
    try:
        async with session.get(file.checksum_url) as reply:
            _check_status(file.checksum_url, reply.status)
            words = (await reply.text()).split()
    except (aiohttp.ClientError, TimeoutError) as error:
        msg = f"{file.checksum_url}: expected the checksum of the file, was not to be had ({error})"
        raise DownloadError(msg) from error
    if not words or len(words[0]) != hashlib.sha256().digest_size * 2:
        msg = f"{file.checksum_url}: expected a SHA-256, was {' '.join(words)[:80]!r}"
        raise DownloadError(msg)
    return words[0].lower()


async def _fetch(
    session: aiohttp.ClientSession, file: RemoteFile, part: Path, told: Told, pause_s: float
) -> None:
    why = ""
    for number in range(_TRIES):
        if number:
            await asyncio.sleep(pause_s * 2 ** (number - 1))
        try:
            await _go_on(session, file, part, told)
        except (aiohttp.ClientError, TimeoutError) as error:
            why = str(error) or type(error).__name__
        else:
            return
    msg = f"{file.url}: expected the file in {_TRIES} tries, was cut off ({why}); what came is kept"
    raise DownloadError(msg)


async def _go_on(session: aiohttp.ClientSession, file: RemoteFile, part: Path, told: Told) -> None:
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    async with session.get(file.url, headers=headers) as reply:
        if reply.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Nothing is left to be sent: the check tells whether what is here is the file.
            return
        _check_status(file.url, reply.status)
        if reply.status != HTTPStatus.PARTIAL_CONTENT:
            have = 0
        length = have + (reply.content_length or 0)
        with part.open("ab" if have else "wb") as target:
            async for chunk in reply.content.iter_chunked(_CHUNK_BYTES):
                target.write(chunk)
                have += len(chunk)
                told(file.name, have, length)


def _check_status(url: str, status: int) -> None:
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        msg = f"the server answered {status}"
        raise aiohttp.ClientPayloadError(msg)
    meanings = {401: "a key is needed", 403: "it is not free", 404: "there is no such file"}
    msg = f"{url}: expected a file, was answered {status} ({meanings.get(status, 'refused')})"
    raise DownloadError(msg)


def _check(path: Path, file: RemoteFile, expected: str) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
    if expected and digest.hexdigest() != expected:
        msg = f"{file.url}: expected the SHA-256 {expected}, was {digest.hexdigest()}"
        raise DownloadError(msg)
    try:
        whole = _is_whole(path, file.name)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        msg = f"{file.url}: expected a whole {file.name.rpartition('.')[2]} file, was corrupt ({error})"
        raise DownloadError(msg) from error
    if not whole:
        msg = f"{file.url}: expected a whole zip file, was corrupt"
        raise DownloadError(msg)


def _is_whole(path: Path, name: str) -> bool:
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as packed:
            return packed.testzip() is None
    with gzip.open(path) as packed:
        while packed.read(_CHUNK_BYTES):
            pass
    return True
