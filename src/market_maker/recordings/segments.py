"""Segments: what a recorder heard, appended block by block to files that survive the death of the process.

A file is a row of blocks: `MMB1`, length and CRC-32 of what follows (little-endian, 4 bytes each), and zlib
of MessagePack. The first block is the header, each other one a list of records. A block that the end of the
file cuts short was being written when the process died: it is left out. One that is wrong before the end is
damage, and refused.
"""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from market_maker.recordings.events import RecordingError

SUFFIX: Final = ".mmrec"
_VERSION: Final = 1
_MAGIC: Final = b"MMB1"
_FRAME: Final = struct.Struct("<4sII")
_LARGEST_BLOCK: Final = 1 << 28


class BookRecord(msgspec.Struct, frozen=True, array_like=True, tag="b"):
    """A book frame; levels are (ticks, lots)."""

    is_snapshot: bool
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    seq: int
    venue_ns: int
    recv_ns: int


class QuoteRecord(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """A best quote; ticks and lots are 0 where a side is empty."""

    bid_ticks: int
    bid_lots: int
    ask_ticks: int
    ask_lots: int
    venue_ns: int
    recv_ns: int


class TradeRecord(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """A trade; `side` is +1 where the taker bought, −1 where it sold."""

    trade_id: int
    side: int
    ticks: int
    lots: int
    venue_ns: int
    recv_ns: int


class ValueRecord(msgspec.Struct, frozen=True, array_like=True, tag="v"):
    """A mark price, an index price (USD) or a funding rate, as the decimal string that came."""

    name: str
    value: str
    venue_ns: int
    recv_ns: int


class LostRecord(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """The stream could not be trusted from here on, and why."""

    why: str
    recv_ns: int


Record = BookRecord | QuoteRecord | TradeRecord | ValueRecord | LostRecord


class SegmentHeader(msgspec.Struct, frozen=True):
    """What a segment is of: market, tick and step as decimal strings, the network it was heard on.

    `run_ns` is when the recorder began: segments of one run go on where the one before ended.
    """

    market: str
    tick: str
    step: str
    network: str
    run_ns: int
    version: int = _VERSION


class SegmentWriter:
    """Appends blocks to a new segment."""

    def __init__(self, path: Path, header: SegmentHeader) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("xb", buffering=0)
        self.size = 0
        self._append(msgspec.msgpack.encode(header))

    def write(self, records: Sequence[Record]) -> None:
        """Append one block; it is with the system when this returns."""
        self._append(msgspec.msgpack.encode(records))

    def close(self) -> None:
        """Have the disk hold what was written, and close."""
        os.fsync(self._file.fileno())
        self._file.close()

    def _append(self, payload: bytes) -> None:
        body = zlib.compress(payload, 1)
        block = _FRAME.pack(_MAGIC, len(body), zlib.crc32(body)) + body
        self._file.write(block)
        self.size += len(block)


def read_header(path: Path) -> SegmentHeader:
    """What a segment is of.

    Raises
    ------
    RecordingError
        If the file is empty, damaged, or of another version.
    """
    with path.open("rb") as file:
        payload = next(_payloads(path, file), None)
    try:
        header = msgspec.msgpack.decode(payload or b"", type=SegmentHeader)
    except msgspec.MsgspecError as error:
        msg = f"{path}: expected a recorded segment, was without its header ({error})"
        raise RecordingError(msg) from error
    if header.version != _VERSION:
        msg = f"{path}: expected version {_VERSION} of the segments, was {header.version}"
        raise RecordingError(msg)
    return header


def read_records(path: Path) -> Iterator[Record]:
    """Records of a segment, as they were heard; a block cut short by the end of the file is left out.

    Raises
    ------
    RecordingError
        At a block that is damaged; its offset is named.
    """
    with path.open("rb") as file:
        payloads = _payloads(path, file)
        next(payloads, None)
        for payload in payloads:
            try:
                yield from msgspec.msgpack.decode(payload, type=list[Record])
            except msgspec.MsgspecError as error:
                msg = f"{path}, before byte {file.tell()}: expected records, was another block ({error})"
                raise RecordingError(msg) from error


def cut_torn_tail(path: Path) -> int:
    """Cut off a block that the end of the file cuts short; return how many bytes it had.

    Raises
    ------
    RecordingError
        At a block that is damaged, as in `read_records`.
    """
    with path.open("r+b") as file:
        end = 0
        for _ in _payloads(path, file):
            end = file.tell()
        torn = file.seek(0, os.SEEK_END) - end
        file.truncate(end)
    return torn


def _payloads(path: Path, file: BinaryIO) -> Iterator[bytes]:
    size = os.fstat(file.fileno()).st_size
    at = 0
    while at + _FRAME.size <= size:
        magic, length, crc = _FRAME.unpack(file.read(_FRAME.size))
        end = at + _FRAME.size + length
        if magic != _MAGIC or length > _LARGEST_BLOCK:
            msg = f"{path}, byte {at}: expected a block of a segment, was {magic!r}"
            raise RecordingError(msg)
        if end > size:
            return
        body = file.read(length)
        if zlib.crc32(body) != crc:
            msg = f"{path}, byte {at}: expected a block with the checksum {crc:08x}, was damaged"
            raise RecordingError(msg)
        yield zlib.decompress(body)
        at = end
