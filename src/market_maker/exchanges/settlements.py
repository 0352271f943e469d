"""How the exchange's chain counts a market: the assets of an order and their smallest units.

A market's `l2Config` says it. Without it orders can not be signed, so a market that lacks it is left out
here, and can still be watched.
"""

from dataclasses import dataclass

import msgspec

from market_maker.exchanges.envelope import data_reader
from market_maker.exchanges.wire import UNREADABLE, Unknown


@dataclass(frozen=True, slots=True)
class Settlement:
    """Assets of a market on the chain: hexadecimal ids with 0x, and smallest units in one whole unit."""

    synthetic_id: str
    synthetic_resolution: int
    collateral_id: str
    collateral_resolution: int


class _L2Config(msgspec.Struct, rename="camel"):
    synthetic_id: str
    synthetic_resolution: int
    collateral_id: str
    collateral_resolution: int


class _Market(msgspec.Struct, rename="camel"):
    name: str
    l2_config: _L2Config


_read_markets = data_reader(list[msgspec.Raw], "a list of markets")
_read_market = msgspec.json.Decoder(_Market, strict=False)


def decode_settlements(body: bytes, unknown: Unknown) -> dict[str, Settlement]:
    """Settlement by market, of those that name one; others are counted.

    Example::

        {"status":"OK","data":[{"name":"BTC-USD",…,"l2Config":{"type":"STARKX","collateralId":"0x1",
         "syntheticId":"0x4254432d3600000000000000000000","syntheticResolution":1000000,
         "collateralResolution":1000000}}]}
    """
    settlements: dict[str, Settlement] = {}
    for raw in _read_markets(body):
        try:
            wire = _read_market.decode(raw)
            settlements[wire.name] = _settlement(wire.l2_config)
        except (*UNREADABLE, ValueError) as error:
            unknown[f"settlement: {error}"] += 1
    return settlements


def _settlement(wire: _L2Config) -> Settlement:
    if wire.synthetic_resolution <= 0 or wire.collateral_resolution <= 0:
        msg = f"expected positive resolutions, was {wire.synthetic_resolution}, {wire.collateral_resolution}"
        raise ValueError(msg)
    # Through a number and back: the signing library wants one spelling of a number.
    return Settlement(
        synthetic_id=hex(int(wire.synthetic_id, 16)),
        synthetic_resolution=wire.synthetic_resolution,
        collateral_id=hex(int(wire.collateral_id, 16)),
        collateral_resolution=wire.collateral_resolution,
    )
