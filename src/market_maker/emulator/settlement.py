"""Assets of a market in the settlement layer: what an order's signature is about.

Ids are the asset's name and resolution in ASCII, as on the exchange: `BTC-6` is
0x4254432d3600000000000000000000.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from market_maker.instrument import Instrument

COLLATERAL_ID: Final = "0x31857064564ed0ff978e687456963cba09c2c6985d8f9300a1de4962fafa054"
COLLATERAL_RESOLUTION: Final = 1_000_000
_ID_BYTES: Final = 15


@dataclass(frozen=True, slots=True)
class L2Config:
    """Ids (hexadecimal) and resolutions (units in one) of the synthetic asset and of the collateral."""

    synthetic_id: str
    synthetic_resolution: int
    collateral_id: str = COLLATERAL_ID
    collateral_resolution: int = COLLATERAL_RESOLUTION


def asset_of(market: str) -> str:
    """Name of a market's base asset."""
    return market.split("-")[0]


def decimals(value: Decimal) -> int:
    """Count the digits behind the point."""
    exponent = value.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def l2_config(instrument: Instrument) -> L2Config:
    """Settlement assets of a market; its resolution is ten times as fine as its size step.

    >>> l2_config(Instrument("BTC-USD", Decimal("0.1"), Decimal("0.00001"), Decimal("0.0001"))).synthetic_id
    '0x4254432d3600000000000000000000'
    """
    digits = decimals(instrument.step) + 1
    name = f"{asset_of(instrument.name)}-{digits}".encode()
    return L2Config("0x" + name.ljust(_ID_BYTES, b"\0").hex(), 10**digits)
