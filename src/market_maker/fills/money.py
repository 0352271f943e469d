"""Exact money: fees, rebates and funding in tick·lots and 10⁻¹¹ of one.

An amount is rate × value with the rate in 10⁻⁹ and the value in hundredths of a tick·lot (a mark lies off the
grid), hence 10⁻¹¹. Two whole numbers hold it; no product passes 2⁶³ while rate × value is below 9·10²³.
"""

from typing import Final

from market_maker.kernel import inner_kernel

FRACTION: Final = 10**11
_FRACTION: Final = FRACTION
_PARTS: Final = 10**5
_RATE_PARTS: Final = 10**6


@inner_kernel
def share(rate_ppb: int, value_parts: int) -> tuple[int, int]:
    """Whole tick·lots and fraction (10⁻¹¹, never negative) of a rate of a value."""
    high, low = value_parts // _PARTS, value_parts % _PARTS
    product = rate_ppb * high
    fraction = (product % _RATE_PARTS) * _PARTS + rate_ppb * low
    return product // _RATE_PARTS + fraction // _FRACTION, fraction % _FRACTION


@inner_kernel
def total(whole: int, fraction: int, more: int, more_fraction: int) -> tuple[int, int]:
    """Sum of two amounts."""
    fraction += more_fraction
    return whole + more + fraction // _FRACTION, fraction % _FRACTION
