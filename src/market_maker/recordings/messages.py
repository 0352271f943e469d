"""A recorded market on its way to the event format: messages of the venue as columns, merged by time.

Every source yields its messages in pieces; `merge` puts the pieces of several sources into one order.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

SNAPSHOT: Final = 0  # rows are all levels of the book
CHANGES: Final = 1  # rows are changed levels
QUOTE: Final = 2  # two rows: best bid and best ask
PASSED: Final = 3  # rows are handed on as they are: trades, mark, index, funding
BREAK: Final = 4  # the book cannot be trusted until the next snapshot; no rows

_FOREVER = int(np.iinfo(np.int64).max)


class Messages(NamedTuple):
    """Messages in the order of time; the rows of message i are `first[i]` up to `first[i + 1]`.

    `at_ns` never falls, whatever the venue's own stamps did; `seq` says which of two book messages is newer;
    `code` is a code of the event format.
    """

    at_ns: NDArray[np.int64]
    recv_ns: NDArray[np.int64]
    seq: NDArray[np.int64]
    kind: NDArray[np.uint8]
    first: NDArray[np.int64]
    code: NDArray[np.uint8]
    ticks: NDArray[np.int64]
    lots: NDArray[np.int64]


def single_rows(
    stamps: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    kind: int,
    rows: tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]],
    each: int = 1,
) -> Messages:
    """Messages that all have `each` rows, from (at, recv, seq) and (code, ticks, lots)."""
    count = stamps[0].size
    first = np.arange(count + 1, dtype=np.int64) * each
    return Messages(*stamps, np.full(count, kind, np.uint8), first, *rows)


def take(messages: Messages, order: NDArray[np.int64]) -> Messages:
    """Messages of the given numbers, in that order, with their rows."""
    counts = np.diff(messages.first)[order]
    first = np.zeros(order.size + 1, np.int64)
    np.cumsum(counts, out=first[1:])
    rows = np.repeat(messages.first[order] - first[:-1], counts) + np.arange(first[-1])
    return Messages(
        messages.at_ns[order],
        messages.recv_ns[order],
        messages.seq[order],
        messages.kind[order],
        first,
        messages.code[rows],
        messages.ticks[rows],
        messages.lots[rows],
    )


def joined(pieces: Sequence[Messages]) -> Messages:
    """Pieces one after the other."""
    columns = [np.concatenate(column) for column in zip(*pieces, strict=True)]
    offsets = np.cumsum([0, *(piece.code.size for piece in pieces)])
    starts = [piece.first[:-1] + offset for piece, offset in zip(pieces, offsets[:-1], strict=True)]
    columns[4] = np.concatenate([*starts, offsets[-1:]]).astype(np.int64)
    return Messages(*columns)


def merge(sources: Sequence[Iterator[Messages]]) -> Iterator[Messages]:
    """Pieces of all sources in the order of time; where stamps are equal, earlier sources come first."""
    waiting: list[list[Messages]] = [[] for _ in sources]
    newest = [-1] * len(sources)
    while newest:
        # Nothing that is yet to come is older than the newest of what its source has shown.
        until = min(newest)
        ready = [piece for pieces in waiting for piece in _cut(pieces, until)]
        if ready:
            yield _ordered(ready)
        if until == _FOREVER:
            return
        for number, source in enumerate(sources):
            if newest[number] == until:
                piece = next(source, None)
                newest[number] = _FOREVER if piece is None else int(piece.at_ns[-1])
                if piece is not None:
                    waiting[number].append(piece)


def _cut(pieces: list[Messages], until: int) -> Iterator[Messages]:
    held = []
    for piece in pieces:
        count = int(np.searchsorted(piece.at_ns, until, side="left"))
        if count:
            yield part(piece, 0, count)
        if count < piece.at_ns.size:
            held.append(part(piece, count, piece.at_ns.size))
    pieces[:] = held


def part(piece: Messages, begin: int, end: int) -> Messages:
    """Messages `begin` up to `end`, without a copy."""
    first = piece.first[begin : end + 1]
    rows = slice(int(first[0]), int(first[-1]))
    return Messages(
        piece.at_ns[begin:end],
        piece.recv_ns[begin:end],
        piece.seq[begin:end],
        piece.kind[begin:end],
        first - first[0],
        piece.code[rows],
        piece.ticks[rows],
        piece.lots[rows],
    )


def without_end(piece: Messages, number: int) -> Messages:
    """Messages in which that one goes on with the rows of the next."""
    return piece._replace(
        at_ns=np.delete(piece.at_ns, number + 1),
        recv_ns=np.delete(piece.recv_ns, number + 1),
        seq=np.delete(piece.seq, number + 1),
        kind=np.delete(piece.kind, number + 1),
        first=np.delete(piece.first, number + 1),
    )


def _ordered(pieces: Sequence[Messages]) -> Messages:
    whole = joined(pieces) if len(pieces) > 1 else pieces[0]
    if (whole.at_ns[1:] >= whole.at_ns[:-1]).all():
        return whole
    return take(whole, np.argsort(whole.at_ns, kind="stable"))
