"""Money on paper: cash, positions and margin of one account, exact, by the exchange's rules (cross margin).

Equity is cash plus each position at its mark. The initial margin of a market is the larger of what position
and buys, or position and sells, would come to, times 1 / leverage or the tier's rate; the maintenance margin
half of the tier's rate on the position. Nobody is liquidated on paper: where the margin is used up, orders
that open are refused.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final

from market_maker.domain import NewOrder
from market_maker.exchanges.paper_orders import PaperOrder
from market_maker.gateway import BalanceReport, PositionReport
from market_maker.instrument import Instrument

ZERO: Final = Decimal(0)
EXACT: Final = Context(prec=80, traps=[Inexact, InvalidOperation])
_HALF: Final = Decimal("0.5")
_ENTRY_DIGITS: Final = 6


@dataclass(slots=True)
class Holding:
    """Position in a market: signed lots, and the price at which it was opened, rounded."""

    instrument: Instrument
    lots: int = 0
    open_price: Decimal = ZERO
    mark: Decimal = ZERO

    def value(self, price: Decimal) -> Decimal:
        """Signed value at a price, USD."""
        return EXACT.multiply(self.instrument.size(self.lots), price)

    @property
    def notional(self) -> Decimal:
        """Value at the mark without its sign, USD."""
        return abs(self.value(self.mark))

    @property
    def unrealised(self) -> Decimal:
        """PnL at the mark, USD."""
        return EXACT.subtract(self.value(self.mark), self.value(self.open_price))

    def move(self, lots: int, price: Decimal) -> None:
        """Change it by a fill: the entry price averages as it grows, and stays as it shrinks."""
        before, self.lots = self.lots, self.lots + lots
        if not self.lots:
            self.open_price = ZERO
        elif before * lots >= 0:
            held = self.open_price * abs(before) + price * abs(lots)
            self.open_price = round(held / abs(self.lots), _digits(self.instrument.tick) + _ENTRY_DIGITS)
        elif before * self.lots < 0:
            self.open_price = price
        if self.mark == ZERO:
            self.mark = price


def _digits(tick: Decimal) -> int:
    exponent = tick.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def tier_rate(instrument: Instrument, notional: Decimal) -> Decimal:
    """Initial margin rate of the tier that a notional falls into."""
    tiers = instrument.margin_tiers
    return next((t.initial_margin for t in tiers if notional <= t.upper_bound), tiers[-1].initial_margin)


class Purse:
    """Cash, holdings and leverage.

    Parameters
    ----------
    cash : Decimal
        Money at the beginning, USD.
    leverage : Decimal
        In every market until it is set; a market's own maximum bounds it.
    """

    def __init__(self, cash: Decimal, leverage: Decimal) -> None:
        self.cash = cash
        self.leverages: dict[str, Decimal] = {}
        self._leverage = leverage
        self._holdings: dict[str, Holding] = {}

    def holding(self, instrument: Instrument) -> Holding:
        """Position in a market."""
        return self._holdings.setdefault(instrument.name, Holding(instrument))

    @property
    def held(self) -> list[Holding]:
        """Positions that are not flat."""
        return [holding for holding in self._holdings.values() if holding.lots]

    def leverage(self, instrument: Instrument) -> Decimal:
        """Leverage that is set in a market."""
        return self.leverages.get(instrument.name, min(self._leverage, instrument.max_leverage))

    def receive(self, amount: Decimal) -> None:
        """Book an amount, negative when paid."""
        self.cash = EXACT.add(self.cash, amount)

    @property
    def equity(self) -> Decimal:
        """Cash plus positions at their marks, USD."""
        equity = self.cash
        for holding in self.held:
            equity = EXACT.add(equity, holding.value(holding.mark))
        return equity

    @property
    def maintenance(self) -> Decimal:
        """Maintenance margin, USD."""
        rates = ((h.notional, tier_rate(h.instrument, h.notional) * _HALF) for h in self.held)
        return sum((notional * rate for notional, rate in rates), ZERO)

    def initial_margin(self, orders: Iterable[PaperOrder]) -> Decimal:
        """What positions and open orders bind, USD."""
        working: dict[str, list[PaperOrder]] = {holding.instrument.name: [] for holding in self.held}
        for placed in orders:
            working.setdefault(placed.order.market, []).append(placed)
        return sum((self._market_margin(name, placed) for name, placed in working.items()), ZERO)

    def _market_margin(self, market: str, orders: Iterable[PaperOrder]) -> Decimal:
        holding = self._holdings[market]
        tick_lots = {1: 0, -1: 0}
        for placed in orders:
            tick_lots[placed.order.side] += placed.order.price_ticks * placed.remaining_lots
        held, value = holding.value(holding.mark), holding.instrument.value
        notional = max(abs(held + value(tick_lots[1], 1)), abs(held - value(tick_lots[-1], 1)))
        return notional * self._rate(holding.instrument, notional)

    def _rate(self, instrument: Instrument, notional: Decimal) -> Decimal:
        return max(1 / self.leverage(instrument), tier_rate(instrument, notional))

    def standing_lots(self, order: NewOrder, orders: Iterable[PaperOrder]) -> int:
        """Position on an order's side with all open orders of that side filled, its predecessor left out."""
        same = (p for p in orders if p.order.side == order.side and p.order.market == order.market)
        others = sum(p.remaining_lots for p in same if p.order.external_id != order.replaces)
        return int(order.side) * self._holdings[order.market].lots + others

    def order_cost(self, order: NewOrder, orders: Iterable[PaperOrder]) -> Decimal:
        """What an order binds beyond what is bound already, USD."""
        holding = self._holdings[order.market]
        instrument, price = holding.instrument, holding.instrument.price(order.price_ticks)
        standing = self.standing_lots(order, orders)
        lots = order.size_lots + min(0, 2 * standing)
        rate = self._rate(instrument, abs(instrument.size(standing + order.size_lots)) * price)
        better = int(order.side) * instrument.size(order.size_lots) * ((holding.mark or price) - price)
        return max(rate * price * instrument.size(lots) - min(better, ZERO), ZERO)

    def balance(self, orders: Iterable[PaperOrder], at_ns: int) -> BalanceReport:
        """The account's money as the exchange shows it."""
        equity, margin, unrealised = self.equity, self.initial_margin(orders), ZERO
        for holding in self.held:
            unrealised = EXACT.add(unrealised, holding.unrealised)
        return BalanceReport(
            balance=EXACT.subtract(equity, unrealised),
            equity=equity,
            available_for_trade=equity - margin,
            initial_margin=margin,
            margin_ratio=self.maintenance / equity if equity > 0 else ZERO,
            venue_ns=at_ns,
        )

    def position(self, holding: Holding, at_ns: int) -> PositionReport:
        """A position as the exchange shows it."""
        return PositionReport(
            holding.instrument.name,
            holding.lots,
            holding.open_price,
            holding.mark,
            self._liquidation_price(holding),
            at_ns,
        )

    def _liquidation_price(self, holding: Holding) -> Decimal | None:
        """Mark at which equity falls to the maintenance margin, all else equal; None where there is none."""
        if not holding.lots:
            return None
        size = holding.instrument.size(holding.lots)
        rate = tier_rate(holding.instrument, holding.notional) * _HALF
        others = self.maintenance - holding.notional * rate
        price = (size * holding.mark - self.equity + others) / (size - rate * abs(size))
        return price if price > 0 else None


def funding_of(lots: int, mark: Decimal, rate: Decimal, instrument: Instrument) -> Decimal:
    """Funding received on a position, USD: −rate × mark × signed size."""
    return EXACT.multiply(EXACT.multiply(-rate, mark), instrument.size(lots))
