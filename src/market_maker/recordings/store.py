"""The event format: a recorded market as five columns, 21 bytes an event, one file for each hour.

`FOLDER/MARKET/2026-01-05T22.arrow` is an Arrow IPC file of one uncompressed record batch, so that the columns
are mapped into memory and not read; `FOLDER/MARKET/market.json` says what they mean (`MarketInfo`).

A *frame* is one message of the venue: consecutive rows of one stamp and one delay, the last of them flagged
`LAST`. A reader acts on a frame as a whole. Sizes are absolute. An hour with a trusted book starts with
`CLEAR` and that book, so every hour can be read by itself.
"""

import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from market_maker.domain import NS_PER_S
from market_maker.instrument import Instrument, InstrumentError
from market_maker.recordings.events import RecordingError

FORMAT_VERSION: Final = 1
INFO_NAME: Final = "market.json"
NS_PER_HOUR: Final = 3600 * NS_PER_S

# Codes of the low four bits of `kind`.
LEVEL_BID: Final = 1  # size of a bid level; 0 removes it
LEVEL_ASK: Final = 2
CLEAR: Final = 3  # the book is empty; the levels of a snapshot follow in the same frame
TRADE_BUY: Final = 4  # the taker bought
TRADE_SELL: Final = 5
TRADE_UNKNOWN: Final = 6
BEST_BID: Final = 7  # bids better than this are gone; its size is set
BEST_ASK: Final = 8
MARK: Final = 9  # ticks: price in hundredths of a tick
INDEX: Final = 10
FUNDING: Final = 11  # ticks: rate in 1e-9, longs pay where it is positive
GAP: Final = 12  # nothing is trusted until the next CLEAR
OUTSIDE: Final = 13  # ticks: price of another market or venue, hundredths of a tick in one scale throughout
CODES: Final = {
    LEVEL_BID: "level_bid",
    LEVEL_ASK: "level_ask",
    CLEAR: "clear",
    TRADE_BUY: "trade_buy",
    TRADE_SELL: "trade_sell",
    TRADE_UNKNOWN: "trade_unknown",
    BEST_BID: "best_bid",
    BEST_ASK: "best_ask",
    MARK: "mark",
    INDEX: "index",
    FUNDING: "funding",
    GAP: "gap",
    OUTSIDE: "outside",
}
CODE_MASK: Final = 0x0F
LAST: Final = 0x80
_UNUSED_BITS: Final = 0x70
PRICE_PARTS: Final = 100
FUNDING_PARTS: Final = 1_000_000_000

EVENT_COLUMNS: Final[Mapping[str, DTypeLike]] = {
    "venue_ns": np.dtype(np.int64),
    "delay_us": np.dtype(np.int32),
    "kind": np.dtype(np.uint8),
    "ticks": np.dtype(np.int32),
    "lots": np.dtype(np.uint32),
}
EVENT_BYTES: Final = 21

_MAGIC: Final = b"ARROW1"
# Where a footer's table keeps its fourth field, and how a block is laid out.
_BATCHES_FIELD: Final = 10
_BLOCK: Final = struct.Struct("<qi4xq")
_ALIGNMENT: Final = 64
_HOUR_LABEL: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d")


class Hour(NamedTuple):
    """The events of one hour, as columns of equal length that cannot be written to.

    `venue_ns` never falls; `delay_us` is receive time minus venue time, the venue's clock offset taken out
    (µs, may be negative); `kind` is a code and the flag `LAST`.
    """

    venue_ns: NDArray[np.int64]
    delay_us: NDArray[np.int32]
    kind: NDArray[np.uint8]
    ticks: NDArray[np.int32]
    lots: NDArray[np.uint32]


class HourInfo(msgspec.Struct, frozen=True):
    """One file of a market: label (`2026-01-05T22`), rows, first and last stamp, CRC-32 of the columns."""

    label: str
    rows: int
    first_ns: int
    last_ns: int
    crc32: int


class SourceInfo(msgspec.Struct, frozen=True):
    """A file that a market was converted from: name, size in bytes, SHA-256."""

    name: str
    bytes: int
    sha256: str


class MarketInfo(msgspec.Struct, frozen=True):
    """What `market.json` says of a market.

    Attributes
    ----------
    tick, step : str
        Decimal strings, USD and base units.
    clock_offset_ns : int
        What was taken out of receive minus venue time, the same for all markets of the venue.
    counts : dict
        Events by the name of their code.
    gaps : list of (int, int)
        From the last trusted stamp to the first one after it, ns.
    findings : dict
        What validation found and repaired, counted.
    """

    version: int
    market: str
    venue: str
    tick: str
    step: str
    clock_offset_ns: int
    counts: dict[str, int]
    gaps: list[tuple[int, int]]
    findings: dict[str, int]
    sources: list[SourceInfo]
    hours: list[HourInfo]


class Store:
    """Converted markets in one folder, opened: `market.json` of each was read and its files are all there."""

    def __init__(self, path: Path, folders: Mapping[str, tuple[Path, MarketInfo]]) -> None:
        self.path = path
        self._folders = dict(folders)

    @property
    def markets(self) -> tuple[str, ...]:
        """Names of the markets, sorted."""
        return tuple(sorted(self._folders))

    def info(self, market: str) -> MarketInfo:
        """What is known of a market.

        Raises
        ------
        RecordingError
            If the store has no such market.
        """
        return self._found(market)[1]

    def instrument(self, market: str) -> Instrument:
        """Tick and step of a market; the smallest order is one step, limits are defaults."""
        info = self.info(market)
        return Instrument(market, Decimal(info.tick), Decimal(info.step), Decimal(info.step))

    def hours(self, market: str) -> Iterator[Hour]:
        """Hours of a market in the order of time, each mapped into memory and checked when it is reached.

        Raises
        ------
        RecordingError
            At the first file that is not what `market.json` says; the file and row are named.
        """
        folder, info = self._found(market)
        for hour in info.hours:
            yield read_hour(hour_path(folder, hour.label), hour)

    def _found(self, market: str) -> tuple[Path, MarketInfo]:
        if market not in self._folders:
            msg = f"{self.path}: expected the market {market}, was a store of {', '.join(self.markets)}"
            raise RecordingError(msg)
        return self._folders[market]


def hour_path(folder: Path, label: str) -> Path:
    """File of an hour in its market's folder."""
    return folder / f"{label}.arrow"


def hour_label(at_ns: int) -> str:
    """Name of the hour (UTC) that an instant lies in.

    >>> hour_label(1767653689230000000)
    '2026-01-05T22'
    """
    return str(np.datetime64(at_ns // NS_PER_HOUR * NS_PER_HOUR, "ns"))[:13]


def is_store(path: Path) -> bool:
    """Whether a path is a folder of converted markets, or one of them."""
    return path.is_dir() and bool(_info_paths(path))


def open_store(path: Path) -> Store:
    """Open a folder of converted markets, or the folder of one.

    Raises
    ------
    RecordingError
        If nothing is there, the format's version is another, or a file is missing or truncated.
    """
    infos = _info_paths(path) if path.is_dir() else []
    if not infos:
        msg = f"{path}: expected a folder of converted markets, was none (mm data convert makes one)"
        raise RecordingError(msg)
    folders = {}
    for info_path in infos:
        info = _read_info(info_path)
        for hour in info.hours:
            _check_size(hour_path(info_path.parent, hour.label), hour)
        folders[info.market] = (info_path.parent, info)
    return Store(path, folders)


def read_hour(path: Path, expected: HourInfo) -> Hour:
    """Map one hour into memory and check every row of it.

    Raises
    ------
    RecordingError
        If the file is truncated, of other types, or holds a row that cannot be; the row is named.
    """
    _check_types(path)
    columns = _mapped(path, expected.rows)
    hour = Hour(**{name: columns[name] for name in EVENT_COLUMNS})
    _check_rows(path, hour, expected)
    return hour


def body_span(content: "mmap.mmap | bytes", path: Path) -> tuple[int, int]:
    """Offset and length of the columns in an Arrow file, as its footer tells.

    The footer is a flatbuffer: a table whose fourth field is a vector of blocks, one for each record batch:
    offset (8 bytes), length of its header (4, padded to 8), length of its body (8).

    Raises
    ------
    RecordingError
        If the file is truncated, or has more than one record batch.
    """
    try:
        if content[:6] != _MAGIC or content[-6:] != _MAGIC:
            raise ValueError
        at = len(content) - 10 - int.from_bytes(content[-10:-6], "little")
        table = at + _unpack("<I", content, at)
        field = _unpack("<H", content, table - _unpack("<i", content, table) + _BATCHES_FIELD)
        vector = table + field + _unpack("<I", content, table + field)
        offset, header, length = _BLOCK.unpack_from(content, vector + 4)
        if _unpack("<I", content, vector) != 1:
            raise ValueError
    except (ValueError, struct.error) as error:
        msg = f"{path}: expected an Arrow file of one record batch, was truncated or corrupt"
        raise RecordingError(msg) from error
    return offset + header, length


def _unpack(layout: str, content: "mmap.mmap | bytes", at: int) -> int:
    number: int = struct.unpack_from(layout, content, at)[0]
    return number


def column_spans(rows: int) -> tuple[dict[str, int], int]:
    """Offset of each column from the first one, and the length of them all, bytes."""
    spans, at = {}, 0
    for name, dtype in EVENT_COLUMNS.items():
        spans[name] = at
        size = rows * np.dtype(dtype).itemsize
        at += -(-size // _ALIGNMENT) * _ALIGNMENT
    return spans, at


def _info_paths(path: Path) -> list[Path]:
    own = path / INFO_NAME
    if own.is_file():
        return [own]
    return sorted(found for found in path.glob(f"*/{INFO_NAME}") if not found.parent.name.startswith("."))


def _read_info(path: Path) -> MarketInfo:
    try:
        content = path.read_bytes()
        version = msgspec.json.decode(content, type=dict[str, Any]).get("version")
        if version != FORMAT_VERSION:
            msg = f"{path}: expected version {FORMAT_VERSION} of the format, was {version}; convert it again"
            raise RecordingError(msg)
        info = msgspec.json.decode(content, type=MarketInfo)
        Instrument(info.market, Decimal(info.tick), Decimal(info.step), Decimal(info.step))
    except (
        msgspec.MsgspecError,
        InvalidOperation,
        InstrumentError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:
        msg = f"{path}: expected the description of a market, was corrupt ({error})"
        raise RecordingError(msg) from error
    labels = [hour.label for hour in info.hours]
    if not all(_HOUR_LABEL.fullmatch(label) for label in labels) or labels != sorted(set(labels)):
        msg = f"{path}: expected hours in the order of time, was {', '.join(labels[:5])} …"
        raise RecordingError(msg)
    return info


def _check_size(path: Path, hour: HourInfo) -> None:
    least = column_spans(hour.rows)[1]
    size = path.stat().st_size if path.is_file() else -1
    if size < least:
        was = f"{size} bytes (truncated)" if size >= 0 else "not there"
        msg = f"{path}: expected {hour.rows} events in at least {least} bytes, was {was}"
        raise RecordingError(msg)


def _check_types(path: Path) -> None:
    try:
        import polars as pl
    except ImportError as error:
        msg = f"{path}: reading events needs polars; install the extra: extended-market-maker[backtest]"
        raise RecordingError(msg) from error
    try:
        schema = pl.read_ipc_schema(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"{path}: expected an Arrow file of events, was truncated or corrupt ({reason})"
        raise RecordingError(msg) from error
    types = (pl.Int64, pl.Int32, pl.UInt8, pl.Int32, pl.UInt32)
    if schema != pl.Schema(dict(zip(EVENT_COLUMNS, types, strict=True))):
        was = ", ".join(f"{name} {kind}" for name, kind in schema.items())
        msg = f"{path}: expected the columns {', '.join(EVENT_COLUMNS)} of the format's types, was {was}"
        raise RecordingError(msg)


def _mapped(path: Path, rows: int) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    start, length = body_span(content, path)
    spans, expected = column_spans(rows)
    if length != expected or start + length > len(content):
        msg = f"{path}: expected {rows} events in {expected} bytes, was {length} bytes"
        raise RecordingError(msg)
    return {
        name: np.frombuffer(content, np.dtype(dtype), rows, start + spans[name])
        for name, dtype in EVENT_COLUMNS.items()
    }


def _check_rows(path: Path, hour: Hour, expected: HourInfo) -> None:
    falls = np.flatnonzero(hour.venue_ns[1:] < hour.venue_ns[:-1])
    if falls.size:
        row = int(falls[0]) + 1
        before, was = int(hour.venue_ns[row - 1]), int(hour.venue_ns[row])
        msg = f"{path}, row {row}: expected a stamp of {before} ns or later, was {was}"
        raise RecordingError(msg)
    codes = hour.kind & CODE_MASK
    unknown = np.flatnonzero((codes < LEVEL_BID) | (codes > OUTSIDE) | ((hour.kind & _UNUSED_BITS) != 0))
    if unknown.size:
        row = int(unknown[0])
        msg = f"{path}, row {row}: expected a kind of the format, was {int(hour.kind[row])}"
        raise RecordingError(msg)
    if not hour.kind.size or not hour.kind[-1] & LAST:
        msg = f"{path}, row {hour.kind.size}: expected the end of a frame, was none"
        raise RecordingError(msg)
    ends = (int(hour.venue_ns[0]), int(hour.venue_ns[-1]))
    if ends != (expected.first_ns, expected.last_ns):
        msg = f"{path}: expected stamps {expected.first_ns} … {expected.last_ns}, was {ends[0]} … {ends[1]}"
        raise RecordingError(msg)
