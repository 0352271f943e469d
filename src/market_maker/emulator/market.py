"""One market inside the exchange: its book, its flow, mark and index price, funding and bars."""

import math
from collections import deque
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.flow import Flow, PastBar
from market_maker.emulator.funding import FundingMeter, premium_index
from market_maker.emulator.orderbook import OrderBook
from market_maker.emulator.rules import ExchangeRules
from market_maker.instrument import Instrument, MarketStatus

if TYPE_CHECKING:
    from market_maker.emulator.orders import PublicTrade

_MINUTE_NS = 60 * NS_PER_S
_BARS_KEPT = 10_000
# The mark moves on a grid finer than the tick, as the captured one does.
MARKS_PER_TICK = 100
_TRADES_KEPT = 50
_RATES_KEPT = 10_000


class Bar(NamedTuple):
    """One-minute bar in ticks, with the lots traded."""

    open_ns: int
    open_ticks: int
    high_ticks: int
    low_ticks: int
    close_ticks: int
    lots: int


class MinuteBars:
    """Bars built from trades; a minute without one repeats the last close."""

    def __init__(self) -> None:
        self._closed: deque[Bar] = deque(maxlen=_BARS_KEPT)
        self._bar: Bar | None = None

    def trade(self, ticks: int, lots: int, now_ns: int) -> None:
        """Take a trade in."""
        self.roll(now_ns)
        bar = self._bar
        if bar is None:
            self._bar = Bar(now_ns - now_ns % _MINUTE_NS, ticks, ticks, ticks, ticks, lots)
            return
        high, low = max(bar.high_ticks, ticks), min(bar.low_ticks, ticks)
        open_ticks = bar.open_ticks if bar.lots else ticks
        self._bar = Bar(bar.open_ns, open_ticks, high, low, ticks, bar.lots + lots)

    def roll(self, now_ns: int) -> None:
        """Close the bars whose minute is over."""
        while self._bar is not None and now_ns >= self._bar.open_ns + _MINUTE_NS:
            bar = self._bar
            self._closed.append(bar)
            close = bar.close_ticks
            self._bar = Bar(bar.open_ns + _MINUTE_NS, close, close, close, close, 0)

    @property
    def forming(self) -> list[Bar]:
        """The bar that is not closed yet, if there is one."""
        return [] if self._bar is None else [self._bar]

    def closed(self, count: int) -> list[Bar]:
        """Return the last closed bars, oldest first."""
        return list(self._closed)[-count:] if count > 0 else []


class Market:
    """State of one market. `mark` and `index` are zero until its flow has spoken.

    `applied_rates` are the funding rates that were paid, with the instants; `recent_trades` the last ones.
    """

    def __init__(self, instrument: Instrument, flow: Flow, rules: ExchangeRules) -> None:
        self.instrument = instrument
        self.flow = flow
        self.book = OrderBook(rules.orders.departures)
        self.status: MarketStatus = instrument.status
        self.bars = MinuteBars()
        self.mark_bars = MinuteBars()
        self.index_bars = MinuteBars()
        self.recent_trades: deque[PublicTrade] = deque(maxlen=_TRADES_KEPT)
        self.applied_rates: deque[tuple[int, Decimal]] = deque(maxlen=_RATES_KEPT)
        self.funding = FundingMeter(rules.money, instrument.hourly_funding_cap)
        self.next_funding_ns = 0
        self.last_ticks = 0
        self.traded_lots = 0
        self.started = False
        self.index = Decimal(0)
        self.mark = Decimal(0)
        self._past: list[PastBar] = []
        self._rules = rules.money
        self._basis = 0.0
        self._marked_ns = 0

    @property
    def name(self) -> str:
        """Name of the market."""
        return self.instrument.name

    @property
    def mid(self) -> Decimal:
        """Middle of the best prices, USD; the mark where a side is empty."""
        bid, ask = self.book.best_ticks(Side.BUY), self.book.best_ticks(Side.SELL)
        return self.mark if bid is None or ask is None else self.instrument.price(bid + ask) / 2

    @property
    def mark_unit(self) -> Decimal:
        """Smallest change of the mark, USD; bars of mark and index are in these."""
        return self.instrument.tick / MARKS_PER_TICK

    def refresh_mark(self, now_ns: int) -> bool:
        """Read the index and move the mark: index + EMA(mid − index). Returns whether the mark changed."""
        price = self.flow.index_price() if self.started else Decimal(0)
        if price <= 0:
            return False
        index = self._below_premium(price)
        if not self.index:
            self._basis = float(price - index)
        self.index = index
        self._move_basis(float(index), now_ns)
        unit = self.mark_unit
        units = max(1, round((float(index) + self._basis) / float(unit)))
        self.mark_bars.trade(units, 1, now_ns)
        self.index_bars.trade(round(index / unit), 1, now_ns)
        mark = unit * units
        changed = mark != self.mark
        self.mark = mark
        return changed

    def _below_premium(self, price: Decimal) -> Decimal:
        premium = self._rules.funding_premium
        return (price / (1 + Decimal(premium))).quantize(price) if premium else price

    def _move_basis(self, index: float, now_ns: int) -> None:
        bid, ask = self.book.best_ticks(Side.BUY), self.book.best_ticks(Side.SELL)
        if bid is None or ask is None:
            return
        gap = 0.5 * (bid + ask) * float(self.instrument.tick) - index
        elapsed_s = (now_ns - self._marked_ns) / NS_PER_S if self._marked_ns else 0.0
        self._basis += (gap - self._basis) * -math.expm1(-elapsed_s / self._rules.mark_basis_s)
        self._marked_ns = now_ns

    def sample_premium(self) -> None:
        """Take a sample of the premium index, where there is an index."""
        if self.index > 0:
            notional = self._rules.impact_notional_usd
            self.funding.sample(premium_index(self.book, self.instrument, self.index, notional))

    def record_trade(self, ticks: int, lots: int, now_ns: int) -> None:
        """Note a public trade."""
        self.last_ticks = ticks
        self.traded_lots += lots
        self.bars.trade(ticks, lots, now_ns)

    def last_bars(self, count: int, now_ns: int) -> list[Bar]:
        """Return the last closed bars, oldest first, the time before the session included."""
        return self._with_past(self.bars, 1, count, now_ns)

    def last_price_bars(self, bars: MinuteBars, count: int, now_ns: int) -> list[Bar]:
        """Return the last closed bars of mark or index, oldest first, in units of the mark."""
        return self._with_past(bars, MARKS_PER_TICK, count, now_ns)

    def _with_past(self, bars: MinuteBars, scale: int, count: int, now_ns: int) -> list[Bar]:
        bars.roll(now_ns)
        built = bars.closed(count)
        missing = count - len(built)
        past = [_as_bar(bar, scale) for bar in self._past_bars(missing)] if missing > 0 else []
        first_ns = built[0].open_ns if built else now_ns
        return [bar for bar in past if bar.open_ns < first_ns] + built

    def _past_bars(self, count: int) -> list[PastBar]:
        # A longer history ends in the shorter one, and takes long to make.
        if count > len(self._past):
            self._past = self.flow.past_bars(count)
        return self._past[-count:]


def _as_bar(bar: PastBar, scale: int) -> Bar:
    return Bar(
        bar.open_ns,
        scale * bar.open_ticks,
        scale * bar.high_ticks,
        scale * bar.low_ticks,
        scale * bar.close_ticks,
        lots=0,
    )
