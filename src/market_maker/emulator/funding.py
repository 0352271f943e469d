"""The hourly funding rate from samples of the premium index.

Rate(1 h) = (P + clamp(i − P, ±c)) / 8 with P the linearly time-weighted mean of the premium index, i the
interest term and c the clamp, then the market's hourly cap (extended-api.md §6).
"""

from decimal import Decimal

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.orderbook import OrderBook
from market_maker.emulator.rules import MoneyRules
from market_maker.instrument import Instrument

_HOUR_S = 3600.0
_RATE_DIGITS = 10
_HOURS = 8.0
_LEAST_SAMPLES = 12


def period_ns(rules: MoneyRules) -> int:
    """Length of a funding hour after speed-up, ns."""
    return round(_HOUR_S / rules.funding_speedup * NS_PER_S)


def sample_ns(rules: MoneyRules) -> int:
    """Time between samples, ns; a shortened hour still has a dozen of them."""
    return min(round(rules.funding_sample_s * NS_PER_S), period_ns(rules) // _LEAST_SAMPLES)


def premium_for(rate: float, rules: MoneyRules) -> float:
    """Return the constant premium that makes a rate of the period, both fractions; the cap left aside."""
    eighths = _HOURS * rate
    clamp = rules.funding_clamp if eighths > rules.funding_interest else -rules.funding_clamp
    return eighths + clamp


class FundingMeter:
    """Running weighted mean of one market's premium index since the last payment.

    Attributes
    ----------
    shift : float
        Added to every sample from now on, a fraction: so that the side that pays changes.
    """

    def __init__(self, rules: MoneyRules, cap: Decimal) -> None:
        self._rules = rules
        self._cap = float(cap)
        self.shift = 0.0
        self._count = 0
        self._sum = 0.0

    def sample(self, premium: float) -> None:
        """Take a sample in; the n-th weighs n."""
        self._count += 1
        self._sum += self._count * (premium + self.shift)

    def rate(self) -> Decimal:
        """Rate of the period as it stands, a fraction; positive: longs pay."""
        weights = self._count * (self._count + 1) / 2.0
        mean = self._sum / weights if weights else 0.0
        clamp = self._rules.funding_clamp
        interest = max(-clamp, min(clamp, self._rules.funding_interest - mean))
        rate = max(-self._cap, min(self._cap, (mean + interest) / _HOURS))
        return round(Decimal(rate), _RATE_DIGITS)

    def restart(self) -> None:
        """Forget the period's samples."""
        self._count = 0
        self._sum = 0.0


def premium_index(book: OrderBook, instrument: Instrument, index: Decimal, notional: Decimal) -> float:
    """Return (max(0, impact bid − index) − max(0, index − impact ask)) / index; a thin side counts as 0."""
    lots = instrument.lots_down(notional / index) or 1
    base = float(index)
    bid = _impact_price(book, Side.BUY, lots)
    ask = _impact_price(book, Side.SELL, lots)
    tick = float(instrument.tick)
    above = max(0.0, bid * tick - base) if bid is not None else 0.0
    below = max(0.0, base - ask * tick) if ask is not None else 0.0
    return (above - below) / base


def _impact_price(book: OrderBook, side: Side, lots: int) -> float | None:
    """Average ticks at which `lots` of a side would be taken."""
    left, cost = lots, 0
    for ticks, size in book.levels(side):
        taken = min(left, size)
        cost += ticks * taken
        left -= taken
        if left == 0:
            return cost / lots
    return None
