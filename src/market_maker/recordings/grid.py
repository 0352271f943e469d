"""Tick and step of a recorded market: read off the data, and applied to it with a check."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from market_maker.instrument import Instrument

_DIGITS = 10
_SCALE = 10**_DIGITS
# A double keeps 15 digits: a price of eight digits is off its grid by far less than this part of a tick.
_TOLERANCE = 1e-3


class OffGrid(ValueError):
    """A value that is no multiple of the tick or step."""


def common_unit(values: Iterable[float]) -> Decimal | None:
    """Largest unit of which all values are multiples, to ten decimals; None where all are zero.

    >>> common_unit([61800.2, 61800.5])
    Decimal('0.1')
    """
    unit = math.gcd(*(round(value * _SCALE) for value in values))
    return Decimal(unit).scaleb(-_DIGITS).normalize() if unit else None


def decimal_unit(values: Iterable[float]) -> Decimal | None:
    """Power of ten that represents all values; a tick seen through few prices must not come out too coarse.

    >>> decimal_unit([61800.2, 61800.4])
    Decimal('0.1')
    """
    unit = common_unit(values)
    if unit is None:
        return None
    exponent = unit.as_tuple().exponent
    digits = exponent if isinstance(exponent, int) else 0
    return Decimal(1).scaleb(min(digits, 0))


@dataclass(frozen=True, slots=True)
class Grid:
    """Conversion of recorded floats to ticks and lots."""

    tick: Decimal
    step: Decimal

    def instrument(self, market: str) -> Instrument:
        """Instrument with this tick and step; the smallest order is one step."""
        return Instrument(market, self.tick, self.step, self.step)

    def ticks(self, price: float) -> int:
        """Ticks of a price.

        Raises
        ------
        OffGrid
            If the price is not on the grid.
        """
        return _whole(price, self.tick, "a price")

    def lots(self, size: float) -> int:
        """Lots of a size.

        Raises
        ------
        OffGrid
            If the size is not on the grid.
        """
        return _whole(size, self.step, "a size")


def _whole(value: float, unit: Decimal, label: str) -> int:
    count = value / float(unit)
    if not (math.isfinite(count) and abs(count - round(count)) <= _TOLERANCE and count >= 0):
        raise OffGrid(off_grid_text(label, unit, value))
    return round(count)


def off_grid_text(label: str, unit: Decimal, value: float) -> str:
    """Message for a value off the grid."""
    return f"expected {label} that is a multiple of {unit}, was {value}"


def whole_array(values: NDArray[np.float64], unit: Decimal) -> tuple[NDArray[np.int64], int]:
    """Multiples of a unit, and the index of the first value that is none (−1 if all are)."""
    counts = values / float(unit)
    with np.errstate(invalid="ignore"):
        rounded = np.rint(counts)
        good = (np.abs(counts - rounded) <= _TOLERANCE) & (counts >= 0)
    bad = np.flatnonzero(~good)
    whole = np.where(good, rounded, 0.0).astype(np.int64)
    return whole, int(bad[0]) if bad.size else -1
