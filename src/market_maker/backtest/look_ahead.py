"""Does anything before an instant depend on what comes after it? Asked by changing the future.

At some instants the market is played up to there as it was recorded, and then goes on differently: every
price shifted, every size doubled, all heard at once. Whatever was decided, sent, filled or seen before the
instant has to be the same to the byte. That something differs after it shows that it was a question.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.host import MarketMakerRun
from market_maker.backtest.rows import Piece
from market_maker.domain import NS_PER_S
from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    CODE_MASK,
    INDEX,
    LEVEL_ASK,
    LEVEL_BID,
    MARK,
    OUTSIDE,
    PRICE_PARTS,
    TRADE_BUY,
    TRADE_SELL,
    TRADE_UNKNOWN,
    Hour,
)

_SHIFT: Final = 0.01  # of the price
_AFTER_NS: Final = 120 * NS_PER_S
_COMPARED_S: Final = 60  # after an instant; what is played beyond it ends there, which is a difference too
_SIZED: Final = (LEVEL_BID, LEVEL_ASK, BEST_BID, BEST_ASK, TRADE_BUY, TRADE_SELL, TRADE_UNKNOWN)
_MOST_LOTS: Final = 2**32 - 1

# What was noted in a second: checksum by stream and second.
_Seconds = dict[tuple[str, int], int]
Events = Callable[[int, int], Iterable[Hour]]


@dataclass(frozen=True, slots=True)
class Checked:
    """What changing the future from an instant on did.

    Attributes
    ----------
    before : int
        Seconds before the instant in which something was noted: decisions sent, fills, mids, samples.
    differences : tuple of str
        Where something before it became another; empty if nothing looks ahead.
    after : int
        Seconds after it that differ; 0 says that the check showed nothing.
    """

    at_ns: int
    before: int
    differences: tuple[str, ...]
    after: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing looked ahead, and that would have been seen."""
        return not self.differences and self.after > 0


def instants(start_ns: int, end_ns: int, count: int) -> list[int]:
    """Full seconds that cut a span into equal parts."""
    edges = np.linspace(start_ns, end_ns, count + 2)[1:-1]
    return [int(edge) // NS_PER_S * NS_PER_S for edge in edges]


def check(
    new_run: Callable[[], MarketMakerRun], events: Events, start_ns: int, at: Sequence[int]
) -> Iterator[Checked]:
    """Change the future from each of some instants on, and compare what was before.

    Parameters
    ----------
    events : callable
        The market from an instant to another, which begins with the book of then.
    at : sequence of int
        Full seconds.
    """
    end_ns = max(at) + _AFTER_NS
    true = _noted(new_run(), events(start_ns, end_ns))
    for at_ns in at:
        changed = chain(events(start_ns, at_ns), changed_market(events(at_ns, at_ns + _AFTER_NS)))
        yield _compared(true, _noted(new_run(), changed), at_ns)


def changed_market(hours: Iterable[Hour]) -> Iterator[Hour]:
    """The same market at other prices, with other sizes, heard at once."""
    shift = 0
    for hour in hours:
        codes = hour.kind & CODE_MASK
        sized = np.isin(codes, _SIZED)
        if not shift and sized.any():
            shift = max(round(float(np.median(hour.ticks[sized])) * _SHIFT), 1)
        ticks = hour.ticks.astype(np.int64) + shift * sized
        ticks += shift * PRICE_PARTS * np.isin(codes, (MARK, INDEX, OUTSIDE))
        lots = np.where(sized, np.minimum(2 * hour.lots.astype(np.int64), _MOST_LOTS), hour.lots)
        yield hour._replace(
            delay_us=np.zeros_like(hour.delay_us), ticks=ticks.astype(np.int32), lots=lots.astype(np.uint32)
        )


def _noted(run: MarketMakerRun, hours: Iterable[Hour]) -> _Seconds:
    seconds: _Seconds = {}
    for hour in hours:
        for piece in run.feed(hour):
            _add(seconds, piece)
    for piece in run.finish():
        _add(seconds, piece)
    return seconds


def _add(seconds: _Seconds, piece: Piece) -> None:
    for stream, rows in zip(Piece._fields, piece, strict=True):
        for second, part in _by_second(rows):
            seconds[stream, second] = zlib.crc32(part.tobytes(), seconds.get((stream, second), 0))


def _by_second(rows: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    of = rows["ns"] // NS_PER_S
    edges = [0, *(np.flatnonzero(of[1:] != of[:-1]) + 1).tolist(), len(rows)]
    for first, end in pairwise(edges):
        if end > first:
            yield int(of[first]), rows[first:end]


def _compared(true: _Seconds, changed: _Seconds, at_ns: int) -> Checked:
    edge = at_ns // NS_PER_S
    until = edge + _COMPARED_S
    keys = sorted({key for key in chain(true, changed) if key[1] < until}, key=lambda key: key[::-1])
    other = [key for key in keys if true.get(key) != changed.get(key)]
    before = tuple(
        f"{stream} at {np.datetime64(second, 's')}Z, before {np.datetime64(edge, 's')}Z"
        for stream, second in other
        if second < edge
    )
    noted, after = {key[1] for key in keys if key[1] < edge}, {key[1] for key in other if key[1] >= edge}
    return Checked(at_ns, len(noted), before, len(after))
