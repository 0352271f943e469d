"""CSV files, plain or gzip, read in blocks of whole lines; what is wrong is told with its line."""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from market_maker.recordings.events import RecordingError

if TYPE_CHECKING:
    import polars as pl

_BLOCK_BYTES: Final = 1 << 24
_DECODE_ERRORS: Final = (gzip.BadGzipFile, EOFError, zlib.error, OSError)


def csv_header(path: Path) -> tuple[str, ...]:
    """Names of the columns, from the first line.

    Raises
    ------
    RecordingError
        If the file is empty, truncated or no gzip although its name says so.
    """
    try:
        with _opened(path) as file:
            return tuple(file.readline(1 << 16).decode().strip().split(","))
    except (*_DECODE_ERRORS, UnicodeDecodeError) as error:
        msg = f"{path}: expected a CSV file, was truncated or corrupt ({error})"
        raise RecordingError(msg) from error


def csv_blocks(
    path: Path, schema: Mapping[str, "pl.DataType"], wanted: Sequence[str] = ()
) -> "Iterator[tuple[int, pl.DataFrame]]":
    """Wanted columns (none: all) of a file in pieces, each with the number of its first line, from 2 on.

    Raises
    ------
    RecordingError
        If the file is truncated or corrupt, or a line does not have the columns' types.
    """
    line = 2
    try:
        for block in _blocks(path):
            frame = _parsed(block, schema, wanted)
            if frame is None:
                raise RecordingError(_first_bad(path, line, block, schema))
            if len(frame):
                yield line, frame
            line += len(frame)
    except _DECODE_ERRORS as error:
        msg = f"{path}: expected a whole file, was truncated or corrupt after line {line - 1} ({error})"
        raise RecordingError(msg) from error


def _opened(path: Path) -> "gzip.GzipFile":
    # A plain file is what `gzip` would call it if it could: a stream of bytes.
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _blocks(path: Path) -> Iterator[bytes]:
    rest = b""
    with _opened(path) as file:
        file.readline()
        while chunk := file.read(_BLOCK_BYTES):
            whole, found, rest = (rest + chunk).rpartition(b"\n")
            if found:
                yield whole + b"\n"
    if rest:
        yield rest + b"\n"


def _parsed(
    block: bytes, schema: Mapping[str, "pl.DataType"], wanted: Sequence[str] = ()
) -> "pl.DataFrame | None":
    import polars as pl

    try:
        frame = pl.scan_csv(block, has_header=False, schema=dict(schema))
        return frame.select(list(wanted) or list(schema)).collect()
    except pl.exceptions.PolarsError:
        return None


def _first_bad(path: Path, line: int, block: bytes, schema: Mapping[str, "pl.DataType"]) -> str:
    lines = block.splitlines(keepends=True)
    low, high = 0, len(lines)
    while high - low > 1:
        middle = (low + high) // 2
        if _parsed(b"".join(lines[low:middle]), schema) is None:
            high = middle
        else:
            low = middle
    was = lines[low].decode(errors="replace").strip()[:80]
    return f"{path}, line {line + low}: expected the columns {', '.join(schema)}, was {was!r}"
