"""Levels of a whole book, quickly: a compiled scan of their text, and arithmetic on arrays.

A snapshot of BTC-USD has 6,000 levels, one a minute, and nobody is served while it is decoded. Most of that
time goes into making an object of every level, so none is made. The scan knows one plain spelling, decimal
digits with or without quotes, a point and a sign: up to 15 digits and a power of ten up to 22 are exact in a
float, so mantissa / power is the float that any correct parser gives. Whatever else it meets (an exponent,
another key, more digits) it leaves to the parser of the small frames, which decides alike.
"""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from market_maker.exchanges.levels import FAST_LIMIT, GRID_TOLERANCE, Levels
from market_maker.kernel import kernel

Text = NDArray[np.uint8]

_SHORTEST_LEVEL: Final = len('{"p":1,"q":1},')
_SPACE: Final = ord(" ")
_QUOTE: Final = ord('"')
_COMMA: Final = ord(",")
_MINUS: Final = ord("-")
_POINT: Final = ord(".")
_COLON: Final = ord(":")
_ZERO: Final = ord("0")
_OPEN: Final = ord("[")
_CLOSE: Final = ord("]")
_OPEN_LEVEL: Final = ord("{")
_CLOSE_LEVEL: Final = ord("}")
_P: Final = ord("p")
_Q: Final = ord("q")
_C: Final = ord("c")
_MOST_DIGITS: Final = 15
_FULL: Final = 900_000_000_000_000  # one more digit might not fit into a float's 53 bits
_LARGEST_POWER: Final = 1e22
_ODD: Final = -1


def scan_levels(text: msgspec.Raw, tick: float, step: float, *, is_snapshot: bool) -> Levels | None:
    """Levels in ticks and lots, or None where a slower way must tell what they are.

    Parameters
    ----------
    text : msgspec.Raw
        A JSON array of levels, known to be valid JSON.
    """
    found = np.frombuffer(text, np.uint8)
    room = len(found) // _SHORTEST_LEVEL + 1
    prices, sizes = np.empty(room), np.empty(room)
    count = _scan(found, prices, sizes, _Q if is_snapshot else _C)
    if count <= 0:
        return [] if count == 0 else None
    ticks, lots = _whole(prices[:count] / tick, 0.5), _whole(sizes[:count] / step, -0.5)
    if ticks is None or lots is None:
        return None
    return list(zip(ticks, lots, strict=True))


def _whole(values: NDArray[np.float64], lowest: float) -> list[int] | None:
    # A missing size is minus infinity.
    if not (lowest < values.min() and values.max() < FAST_LIMIT):
        return None
    whole = np.rint(values)
    if np.abs(values - whole).max() > GRID_TOLERANCE:
        return None
    numbers: list[int] = whole.astype(np.int64).tolist()
    return numbers


def warm_up() -> None:
    """Compile the scan, or load it from the cache, before a frame waits for it."""
    scan_levels(msgspec.Raw(b'[{"p":"1","q":"1","c":"1"}]'), 1.0, 1.0, is_snapshot=True)


@kernel
def _scan(text: Text, prices: NDArray[np.float64], sizes: NDArray[np.float64], size_key: int) -> int:
    """Fill prices and sizes in; how many there are, or -1 for what is spelled oddly.

    The last character is the bracket that ends the array, and no step goes past one, so none leaves the text.
    """
    if len(text) < 2 or text[0] != _OPEN or text[-1] != _CLOSE:
        return _ODD
    count = 0
    at = _skip(text, 1)
    while text[at] == _OPEN_LEVEL and count < len(prices):
        price, size, at = _level(text, at + 1, size_key)
        if at == _ODD:
            return _ODD
        prices[count] = price
        sizes[count] = size
        count += 1
        at = _skip(text, at)
    return count if at == len(text) - 1 else _ODD


@kernel
def _skip(text: Text, at: int) -> int:
    while text[at] == _SPACE or text[at] == _COMMA:
        at += 1
    return at


@kernel
def _level(text: Text, at: int, size_key: int) -> tuple[float, float, int]:
    """Price and size of a level, and where it ends."""
    price, change, size = math.nan, math.nan, -math.inf
    at = _skip(text, at)
    while text[at] != _CLOSE_LEVEL:
        if text[at] != _QUOTE or at + 3 >= len(text) or text[at + 2] != _QUOTE or text[at + 3] != _COLON:
            return price, size, _ODD
        key = text[at + 1]
        value, at = _number(text, at + 4)
        if key == _P:
            price = value
        elif key == _Q:
            change = value
        elif key == _C:
            size = value
        else:
            return price, size, _ODD
        if at == _ODD:
            return price, size, _ODD
        at = _skip(text, at)
    if math.isnan(price) or math.isnan(change):
        return price, size, _ODD
    return price, change if size_key == _Q else size, at + 1


@kernel
def _number(text: Text, at: int) -> tuple[float, int]:
    """A number, with or without quotes, and where it ends."""
    while text[at] == _SPACE:
        at += 1
    quoted = text[at] == _QUOTE
    if quoted:
        at += 1
    sign = 1.0
    if text[at] == _MINUS:
        sign = -1.0
        at += 1
    begun, power = at, 1.0
    whole, _, at = _digits(text, begun, 0)
    if at == _ODD or at - begun > _MOST_DIGITS or (text[begun] == _ZERO and at - begun > 1):
        return math.nan, _ODD
    if text[at] == _POINT:
        whole, power, at = _digits(text, at + 1, whole)
    if at == _ODD or (text[at] == _QUOTE) != quoted:
        return math.nan, _ODD
    return sign * float(whole) / power, at + 1 if quoted else at


@kernel
def _digits(text: Text, at: int, before: int) -> tuple[int, float, int]:
    """Digits after those of `before`; the power of ten that was added, and where they end.

    When a float is full, only zeros may follow, which change nothing behind the point.
    """
    begun, whole, power, is_full = at, before, 1.0, False
    while _ZERO <= text[at] <= _ZERO + 9:
        digit = int(text[at]) - _ZERO
        is_full = is_full or whole >= _FULL or power >= _LARGEST_POWER
        if not is_full:
            whole = 10 * whole + digit
            power *= 10.0
        elif digit:
            return whole, power, _ODD
        at += 1
    return whole, power, at if at > begun else _ODD
