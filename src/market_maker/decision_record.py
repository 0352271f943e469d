"""What decisions were made from, in bytes: enough to make every one of them again.

A market's `MarketTape` notes, in order, each call of the pure functions with the rows that it read, and each
decision that came out. Rows go down as they are in memory, and only where they changed since the slot was
last asked; a record costs the event loop about a microsecond. Records gather in blocks, which a sink
compresses and writes elsewhere. Each block has its length, its checksum and its number, so that one which is
torn or missing is noticed. All rows of a market are written as a whole at the beginning, every five minutes,
and after a block that found no room: there a reader compares them, or begins anew.

A file is a line of text, `mm-inputs 1 {json}`, which says how the rows are laid out and by which sources,
then blocks. Numbers are little-endian.

block: `MMB1`, number u32, packed length u32, raw length u32, CRC-32 of what is packed u32, zlib data
record: kind u8, market u8, now_ns i64, then by kind what `_KEYFRAME` and its like below say
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import NS_PER_S, SlotId
from market_maker.kernel import Row, row_dtype, sources_hash
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, Slot, State

_TITLE: Final = b"mm-inputs 1 "
_MARK: Final = b"MMB1"
_BLOCK: Final = struct.Struct("<4sIIII")
_NUMBER: Final = struct.Struct("<I")
_FULL: Final = 1024
_LONGEST_NS: Final = NS_PER_S
_KEYFRAME_EVERY_NS: Final = 300 * NS_PER_S
# Fastest: the sink shares the processor with the event loop, and rows that repeat shrink all the same.
_EFFORT: Final = 1
_LARGEST_BYTES: Final = 1 << 28

HEAD: Final = struct.Struct("<BBq")
KEYFRAME: Final = struct.Struct("<BBqBB")  # length of the name, slots; name, params, state, account, slots
SEED: Final = struct.Struct("<BBqI")  # closes; the closes as f64
TRADE: Final = struct.Struct("<BBqbqq")  # taker's side, price in ticks, size in lots
POST_ONLY: Final = struct.Struct("<BBqB?")  # slot, rejected
PRICE: Final = struct.Struct("<BBqbd")  # source, price in ticks
FUNDING: Final = struct.Struct("<BBqd")  # hourly rate
DECISION: Final = struct.Struct("<BBqBB")  # slot, flags; account row, slot row, decision, each if flagged
# A book is the head and the book's row.

ACCOUNT_CHANGED: Final = 1
SLOT_CHANGED: Final = 2
DECISION_CHANGED: Final = 4
# The five fields of `domain.Decision` come first in the row.
DECISION_BYTES: Final = row_dtype(DecisionRow).fields["reduce_only"][1] + 1  # type: ignore[index]  # has fields


class Kind(IntEnum):
    """What a record is about."""

    KEYFRAME = 1
    SEED = 2
    BOOK = 3
    TRADE = 4
    POST_ONLY = 5
    DECISION = 6
    PRICE = 7
    FUNDING = 8


class InputsUnreadable(ValueError):
    """A file of inputs is damaged, of another format, or of rows that this version does not have."""


class MarketRows(NamedTuple):
    """The rows of one market, as its desk has them."""

    params: Row
    state: Row
    account: Row
    slots: Mapping[SlotId, Row]
    decision: Row
    book: Row


def view_of(row: Row) -> memoryview:
    """Bytes of a row, which may be read and written in place."""
    return row.view(np.uint8).data


class DecisionTape:
    """Gathers the records of all markets into blocks.

    Parameters
    ----------
    offer : callable
        Takes a block; False where there is no room for it.

    Attributes
    ----------
    dropped : int
        Blocks that found no room. Each is a hole; after it every market begins with its rows as a whole.
    """

    def __init__(self, offer: Callable[[bytes], bool]) -> None:
        self.dropped = 0
        self._offer = offer
        self._markets: list[MarketTape] = []
        self._parts: list[bytes] = []
        self._now_ns = 0
        self._flush_ns = 0
        self._number = 0

    def market(self, name: str, rows: MarketRows) -> "MarketTape":
        """Begin the record of a market with its rows as they are."""
        tape = MarketTape(self, len(self._markets), name, rows)
        self._markets.append(tape)
        tape.write_rows(0)
        return tape

    def add(self, record: bytes, now_ns: int) -> None:
        """Append a record; what is gathered for a second, or fills a block, goes out."""
        parts = self._parts
        parts.append(record)
        if now_ns >= self._flush_ns or len(parts) >= _FULL:
            self._now_ns = now_ns
            self._flush_ns = now_ns + _LONGEST_NS
            self.flush()

    def flush(self) -> None:
        """Hand out what is gathered."""
        if not self._parts:
            return
        block = _NUMBER.pack(self._number) + b"".join(self._parts)
        self._number += 1
        self._parts.clear()
        if not self._offer(block):
            self.dropped += 1

    def close(self) -> None:
        """End with the rows of every market, so that a reader can compare them."""
        for market in self._markets:
            market.write_rows(self._now_ns)
        self.flush()


class _SlotTape:
    """A slot's row, and what of it and of its decisions was written last."""

    def __init__(self, index: int, row: Row) -> None:
        self.index = index
        self.row_bytes = view_of(row).tobytes
        self.written = b""
        self.decision = b""


class MarketTape:
    """The record of one market. Each method is called right after the pure function that it is named for."""

    def __init__(self, tape: DecisionTape, index: int, name: str, rows: MarketRows) -> None:
        self._tape = tape
        self._index = index
        self._name = name.encode()
        self._params = view_of(rows.params)
        self._state = view_of(rows.state)
        # Bound once: what is called on every event pays for each look-up.
        self._account_bytes = view_of(rows.account).tobytes
        self._book_bytes = view_of(rows.book).tobytes
        self._decision_bytes = view_of(rows.decision)[:DECISION_BYTES].tobytes
        self._slots = {slot: _SlotTape(at, row) for at, (slot, row) in enumerate(rows.slots.items())}
        self._account_written = b""
        self._dropped = tape.dropped
        self._rows_due_ns = 0

    def write_rows(self, now_ns: int) -> None:
        """Write all rows as they are."""
        self._dropped = self._tape.dropped
        self._rows_due_ns = now_ns + _KEYFRAME_EVERY_NS if now_ns else 0
        self._account_written = self._account_bytes()
        head = KEYFRAME.pack(Kind.KEYFRAME, self._index, now_ns, len(self._name), len(self._slots))
        parts = [head, self._name, self._params.tobytes(), self._state.tobytes(), self._account_written]
        for slot in self._slots.values():
            slot.written, slot.decision = slot.row_bytes(), b""
            parts.append(slot.written)
        self._tape.add(b"".join(parts), now_ns)

    def seed(self, closes: NDArray[np.float64]) -> None:
        """Note the candles that warmed the volatility up."""
        self._add(SEED.pack(Kind.SEED, self._index, 0, len(closes)) + closes.tobytes(), 0)

    def book(self, now_ns: int) -> None:
        """Note a book, which is in the book's row."""
        self._add(HEAD.pack(_BOOK, self._index, now_ns) + self._book_bytes(), now_ns)
        if now_ns >= self._rows_due_ns:
            self.write_rows(now_ns)

    def trade(self, side: int, price_ticks: int, size_lots: int, now_ns: int) -> None:
        """Note a public trade."""
        self._add(TRADE.pack(Kind.TRADE, self._index, now_ns, side, price_ticks, size_lots), now_ns)

    def price(self, source: int, price_ticks: float, now_ns: int) -> None:
        """Note a price of elsewhere."""
        self._add(PRICE.pack(Kind.PRICE, self._index, now_ns, source, price_ticks), now_ns)

    def funding(self, rate: float, now_ns: int) -> None:
        """Note a funding rate."""
        self._add(FUNDING.pack(Kind.FUNDING, self._index, now_ns, rate), now_ns)

    def post_only(self, slot: SlotId, now_ns: int, *, rejected: bool) -> None:
        """Note how a post-only order came out."""
        at = self._slots[slot].index
        self._add(POST_ONLY.pack(Kind.POST_ONLY, self._index, now_ns, at, rejected), now_ns)

    def decided(self, slot: SlotId, now_ns: int) -> None:
        """Note what was decided about a slot, with the rows that it was decided from."""
        known, flags, changed = self._slots[slot], 0, b""
        row = self._account_bytes()
        if row != self._account_written:
            self._account_written = changed = row
            flags = ACCOUNT_CHANGED
        row = known.row_bytes()
        if row != known.written:
            known.written = row
            changed += row
            flags |= SLOT_CHANGED
        row = self._decision_bytes()
        if row != known.decision:
            known.decision = row
            changed += row
            flags |= DECISION_CHANGED
        head = _pack_decision(_DECISION, self._index, now_ns, known.index, flags)
        self._add(head + changed if flags else head, now_ns)

    def _add(self, record: bytes, now_ns: int) -> None:
        if self._dropped == self._tape.dropped:
            self._tape.add(record, now_ns)
        else:
            # The rows already have in them what the record would say.
            self.write_rows(now_ns)


# Looked up on every event: an enum's member by its name costs as much as the record.
_BOOK: Final = int(Kind.BOOK)
_DECISION: Final = int(Kind.DECISION)
_pack_decision: Final = DECISION.pack


def pack_block(block: bytes) -> bytes:
    """Compress a block of the tape, and put length, checksum and number before it."""
    (number,) = _NUMBER.unpack_from(block)
    records = block[_NUMBER.size :]
    packed = zlib.compress(records, _EFFORT)
    return _BLOCK.pack(_MARK, number, len(packed), len(records), zlib.crc32(packed)) + packed


def _layout(dtype: np.dtype[Any]) -> dict[str, Any]:
    fields: Mapping[str, Any] = dtype.fields or {}
    return {
        name: [offset, _layout(field) if field.names else f"{field.base.str}{list(field.shape)}"]
        for name, (field, offset) in ((name, fields[name][:2]) for name in dtype.names or ())
    }


def _layouts() -> dict[str, Any]:
    rows = (Params, State, Account, Slot, BookRow, DecisionRow)
    return {cls.__name__: _layout(row_dtype(cls)) for cls in rows}


def file_header() -> bytes:
    """First line of a file: how rows are laid out, and the sources that wrote it."""
    header = {
        "version": metadata.version("extended-market-maker"),
        "sources": sources_hash(),
        "rows": _layouts(),
    }
    return _TITLE + json.dumps(header, separators=(",", ":")).encode() + b"\n"


class Block(NamedTuple):
    """Records that were written together."""

    number: int
    records: bytes


class InputsFile:
    """One file of inputs, read.

    Attributes
    ----------
    sources : str
        Hash of the sources that wrote it; `kernel.sources_hash()` is that of ours.
    read_bytes : int
        How far the blocks have been read.
    torn_bytes : int
        Bytes of a last block that a crash cut off, once the blocks have been read.

    Raises
    ------
    InputsUnreadable
        If it is none, or its rows are laid out otherwise than ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.read_bytes = 0
        self.torn_bytes = 0
        with path.open("rb") as file:
            line = file.readline()
        self._begin = len(line)
        header = self._header(line)
        self.sources = str(header.get("sources", ""))
        self.version = str(header.get("version", ""))
        self._check(header.get("rows", {}))

    def blocks(self) -> Iterator[Block]:
        """Read the blocks, in order, to the end or to where a crash cut the file off.

        Raises
        ------
        InputsUnreadable
            At a block that is damaged though others follow it.
        """
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            at = file.seek(self._begin)
            while at < size:
                head = file.read(_BLOCK.size)
                packed = file.read(_BLOCK.unpack(head)[2]) if len(head) == _BLOCK.size else b""
                end = at + len(head) + len(packed)
                block = _unpacked(head, packed)
                if block is None:
                    if end < size:
                        msg = f"{self.path}: expected a sound block at byte {at}, was a damaged one"
                        raise InputsUnreadable(msg)
                    self.torn_bytes = size - at
                    return
                at = self.read_bytes = end
                yield block

    def _header(self, line: bytes) -> dict[str, Any]:
        if line.startswith(_TITLE) and line.endswith(b"\n"):
            try:
                header = json.loads(line[len(_TITLE) :])
            except (ValueError, RecursionError):
                header = None
            if isinstance(header, dict):
                return header
        msg = f"{self.path}: expected a file that begins with {_TITLE.decode()!r}, was {line[:40]!r}"
        raise InputsUnreadable(msg)

    def _check(self, rows: Mapping[str, Any]) -> None:
        ours = json.loads(json.dumps(_layouts()))
        wrong = [name for name in ours if rows.get(name) != ours[name]]
        if wrong:
            fields = ", ".join(sorted(_differing(rows.get(wrong[0], {}), ours[wrong[0]]))[:5])
            msg = (
                f"{self.path}: expected the rows of this version, was {wrong[0]} of version {self.version} "
                f"(sources {self.sources}), which differs in {fields}; replay it with that version"
            )
            raise InputsUnreadable(msg)


def _differing(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Sequence[str]:
    return [name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name)]


def _unpacked(head: bytes, packed: bytes) -> Block | None:
    """Decompress a block; None where it is not whole."""
    if len(head) < _BLOCK.size:
        return None
    mark, number, packed_bytes, raw_bytes, checksum = _BLOCK.unpack(head)
    is_whole = mark == _MARK and len(packed) == packed_bytes and raw_bytes <= _LARGEST_BYTES
    if not is_whole or zlib.crc32(packed) != checksum:
        return None
    records = zlib.decompress(packed, bufsize=raw_bytes)
    return Block(number, records) if len(records) == raw_bytes else None
