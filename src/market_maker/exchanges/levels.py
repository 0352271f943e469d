"""Levels of a book frame: numbers of the wire in, whole ticks and lots out.

The numbers are read as floats and divided by the tick or step: below 1e9 units the quotient is within 4e-7 of
the whole number it stands for, so a check to 1e-6 finds whatever lies off the grid. Where the check fails, or
the number is larger, the frame is decoded once more in Decimal, which decides exactly.

A book of thousands of levels goes another way to the same numbers: `level_scanner.py`.
"""

import math
from decimal import Decimal
from typing import Final

import msgspec

from market_maker.exchanges.wire import corrupt, lots_of, ticks_of
from market_maker.instrument import Instrument

GRID_TOLERANCE: Final = 1e-6
FAST_LIMIT: Final = 1e9

Levels = list[tuple[int, int]]


class Level(msgspec.Struct, gc=False):
    """A level of a book frame: price, size or change of size, and absolute size where it is given."""

    p: float
    q: float
    c: float = -math.inf


class ExactLevel(msgspec.Struct, gc=False):
    """The same level, exactly."""

    p: Decimal
    q: Decimal
    c: Decimal | None = None


def fast_levels(levels: list[Level], tick: float, step: float, *, is_snapshot: bool) -> Levels | None:
    """Levels in ticks and lots, or None where only `exact_levels` can tell what they are."""
    found: Levels = []
    for level in levels:
        price = level.p / tick
        size = (level.q if is_snapshot else level.c) / step
        # Also false for NaN, which must not reach round().
        if not (0.5 < price < FAST_LIMIT and -0.5 < size < FAST_LIMIT):
            return None
        ticks, lots = round(price), round(size)
        if abs(price - ticks) > GRID_TOLERANCE or abs(size - lots) > GRID_TOLERANCE:
            return None
        found.append((ticks, lots))
    return found


def exact_levels(levels: list[ExactLevel], instrument: Instrument, *, is_snapshot: bool) -> Levels:
    """Levels in ticks and lots.

    Raises
    ------
    CorruptFrame
        If a number is off the grid or negative, or a delta lacks the absolute size.
    """
    found: Levels = []
    for level in levels:
        size = level.q if is_snapshot else level.c
        if size is None:
            raise corrupt(f"absolute size `c` in a delta of {instrument.name}", f"none at {level.p}")
        found.append((ticks_of(instrument, level.p), lots_of(instrument, size)))
    return found
