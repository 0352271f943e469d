"""A market's tick, step and limits; Decimal to integers and back, exactly.

Inside the system a price is a whole number of ticks and a size a whole number of lots (the exchange's size
step). Steps are not always powers of ten, so conversion divides, checks or floors, and multiplies.
"""

from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation, localcontext
from enum import Enum

_EXACT_DIGITS = 60


class InstrumentError(ValueError):
    """A price, size or market parameter that the instrument does not admit."""


class MarketStatus(Enum):
    """The exchange's status of a market."""

    ACTIVE = "ACTIVE"
    REDUCE_ONLY = "REDUCE_ONLY"
    DELISTED = "DELISTED"
    PRELISTED = "PRELISTED"
    DISABLED = "DISABLED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class MarginTier:
    """Up to `upper_bound` (USD) a position takes `initial_margin` of its notional; maintenance is half."""

    upper_bound: Decimal
    initial_margin: Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """Trading rules of one market, as the exchange publishes them.

    Parameters
    ----------
    tick, step : Decimal
        Smallest price change (USD) and smallest size change (base units); both positive.
    min_size : Decimal
        Smallest order, base units.
    price_cap, price_floor : Decimal
        Allowed distance of a buy above, of a sell below the mark, as fractions.

    Raises
    ------
    InstrumentError
        If tick, step or minimum size is not positive.
    """

    name: str
    tick: Decimal
    step: Decimal
    min_size: Decimal
    max_limit_order_value: Decimal = Decimal("15000000")
    max_market_order_value: Decimal = Decimal("3000000")
    max_position_value: Decimal = Decimal("60000000")
    max_leverage: Decimal = Decimal("50")
    max_open_orders: int = 200
    price_cap: Decimal = Decimal("0.05")
    price_floor: Decimal = Decimal("0.05")
    hourly_funding_cap: Decimal = Decimal("0.0025")
    margin_tiers: tuple[MarginTier, ...] = field(
        default=(
            MarginTier(Decimal("4000000"), Decimal("0.02")),
            MarginTier(Decimal("60000000"), Decimal("0.04")),
        )
    )
    status: MarketStatus = MarketStatus.ACTIVE

    def __post_init__(self) -> None:
        for label, value in (("tick", self.tick), ("step", self.step), ("min_size", self.min_size)):
            if not (value.is_finite() and value > 0):
                msg = f"{self.name}: expected a positive {label}, was {value}"
                raise InstrumentError(msg)

    def ticks(self, price: Decimal) -> int:
        """Whole ticks of a price that lies on the grid.

        >>> Instrument("X-USD", Decimal("0.25"), Decimal("0.003"), Decimal("0.003")).ticks(Decimal("10.50"))
        42

        Raises
        ------
        InstrumentError
            If the price is off the grid.
        """
        return _whole(price, self.tick, self.name, "price")

    def lots(self, size: Decimal) -> int:
        """Whole lots of a size that lies on the grid.

        Raises
        ------
        InstrumentError
            If the size is off the grid.
        """
        return _whole(size, self.step, self.name, "size")

    def ticks_down(self, price: Decimal) -> int:
        """Ticks of the nearest grid price at or below `price`."""
        return _divide(price, self.tick, ROUND_FLOOR)

    def ticks_up(self, price: Decimal) -> int:
        """Ticks of the nearest grid price at or above `price`."""
        return _divide(price, self.tick, ROUND_CEILING)

    def lots_down(self, size: Decimal) -> int:
        """Lots of the largest grid size at or below `size`."""
        return _divide(size, self.step, ROUND_FLOOR)

    @property
    def min_lots(self) -> int:
        """Smallest order in lots, rounded up to the grid."""
        return _divide(self.min_size, self.step, ROUND_CEILING)

    def price(self, ticks: int) -> Decimal:
        """Price of a number of ticks, USD."""
        return self.tick * ticks

    def size(self, lots: int) -> Decimal:
        """Size of a number of lots, base units."""
        return self.step * lots

    def value(self, ticks: int, lots: int) -> Decimal:
        """Notional of `lots` at `ticks`, USD; signed as `lots` is."""
        return self.tick * ticks * (self.step * lots)


def _divide(value: Decimal, unit: Decimal, rounding: str) -> int:
    with localcontext() as context:
        context.prec = _EXACT_DIGITS
        return int((value / unit).to_integral_value(rounding=rounding))


def _whole(value: Decimal, unit: Decimal, market: str, what: str) -> int:
    try:
        # Both are exact: a quotient of more digits than the context has is an error, no rounding.
        count, rest = divmod(value, unit)
    except InvalidOperation:
        # Not finite, or more than any market holds.
        rest = unit
    if rest:
        msg = f"{market}: {what} expected a multiple of {unit}, was {value}"
        raise InstrumentError(msg)
    return int(count)
