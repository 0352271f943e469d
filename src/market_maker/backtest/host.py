"""The host of a runner: from settings to rows, from hours of a recording to the log of orders and fills."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest import runner
from market_maker.backtest.rows import LARGEST, Bench, FeedRow, RiskRow, SlotOrderRow
from market_maker.domain import BPS, NS_PER_S
from market_maker.exposure import PPM
from market_maker.fills.engine import FillEngine, frozen
from market_maker.fills.rows import MarketRow, StrategyRow, rows_of
from market_maker.instrument import Instrument
from market_maker.kernel import write_row
from market_maker.orderbook_manager import BookSettings
from market_maker.pricing_engine import MarketParams
from market_maker.recordings.store import Hour
from market_maker.risk_manager import RiskSettings, limit_pusd
from market_maker.risk_view import market_rules
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, Slot, State

_PPB_PER_BPS: Final = 100_000
_ANY_RATE: Final = 10**15


@dataclass(frozen=True)
class Contestant:
    """One setting in a run: the strategy's parameters, its limits, and how its orders fill and travel."""

    params: Params = field(default_factory=Params)
    risk: RiskSettings = field(default_factory=RiskSettings)
    fills: StrategyRow = field(default_factory=StrategyRow)


@dataclass(frozen=True)
class RunSettings:
    """What all contestants of a run share."""

    book: BookSettings = field(default_factory=BookSettings)
    feed_extra_ns: tuple[int, ...] = (0,)  # delay on top of the recorded one, for each feed
    timer_s: float = 0.25  # s between two looks at a quiet book
    order_life_s: float = 300.0  # s that an order lives at the exchange
    start_equity_usd: float = 10_000.0


def market_row(instrument: Instrument) -> MarketRow:
    """The exchange's rules of a market, as the fill engine reads them."""
    largest = instrument.max_limit_order_value / instrument.value(1, 1)
    return MarketRow(
        min_lots=instrument.min_lots,
        max_tick_lots=min(int(largest), LARGEST),
        band_up_ppm=int(instrument.price_cap * PPM),
        band_down_ppm=int(instrument.price_floor * PPM),
    )


def risk_row(instrument: Instrument, contestant: Contestant, settings: RunSettings) -> RiskRow:
    """Limits of a contestant in whole numbers: the stricter of its own and the exchange's."""
    risk, rules = contestant.risk, market_rules(instrument, contestant.risk)
    position = min(rules.max_position_pusd, limit_pusd(risk.max_gross_notional_usd))
    stress_ppm = round(risk.stress_move * PPM)
    if stress_ppm:
        position = min(position, limit_pusd(risk.max_stress_loss_usd) * PPM // stress_ppm)
    band = min(Decimal(repr(risk.mark_price_band)), instrument.price_cap)
    floor = min(Decimal(repr(risk.mark_price_band)), instrument.price_floor)
    rate = round(risk.max_orders_per_s * NS_PER_S) or _ANY_RATE
    return RiskRow(
        tick_lot_pusd=rules.tick_lot_pusd,
        max_position_lots=min(rules.max_position_lots, LARGEST),
        max_position_pusd=min(position, LARGEST),
        max_order_pusd=min(rules.max_order_pusd, LARGEST),
        band_ppm=round(risk.mark_price_band * PPM) or LARGEST,
        band_up_ppm=int(band * PPM),
        band_down_ppm=int(floor * PPM),
        rate_n_per_s=rate,
        day_loss_pusd=min(limit_pusd(risk.max_day_loss_usd), LARGEST),
        drawdown_pusd=min(limit_pusd(risk.max_drawdown_usd), LARGEST),
        start_pusd=limit_pusd(settings.start_equity_usd),
        tokens_n=max(rate, NS_PER_S),
        order_life_ns=round(settings.order_life_s * NS_PER_S),
    )


class MarketMakerRun:
    """K contestants over one recorded market.

    Parameters
    ----------
    instrument : Instrument
        Rules of the market.
    contestants : sequence of Contestant
        They do not see each other. Their number of levels is the same, or it is an error.

    Attributes
    ----------
    bench : Bench
        The arrays as they are now.
    rows : int
        Rows taken in so far.
    """

    def __init__(
        self,
        instrument: Instrument,
        contestants: Sequence[Contestant],
        settings: RunSettings | None = None,
    ) -> None:
        settings = settings or RunSettings()
        levels = {contestant.params.quote.num_levels for contestant in contestants}
        if len(levels) != 1:
            msg = f"expected one number of levels for all settings of a run, was {sorted(levels)}"
            raise ValueError(msg)
        self.rows = 0
        self._each = 2 * levels.pop()
        self._count = len(contestants)
        self._timer_ns = round(settings.timer_s * NS_PER_S)
        self._feeds = rows_of(FeedRow, len(settings.feed_extra_ns))
        self._feeds["extra_ns"] = settings.feed_extra_ns
        self._feeds["depth_levels"] = max(1, settings.book.book_depth_levels)
        self._feeds["depth_span"] = settings.book.book_depth_bps / BPS
        self._cursor: Any = np.zeros(2 + len(self._feeds), np.int64)
        self._tail: Hour | None = None
        self.engine = FillEngine(
            market_row(instrument),
            [contestant.fills for contestant in contestants],
            orders_each=2 * self._each + 2,
            feeds=len(self._feeds),
        )
        self.bench = self._make_bench(instrument, contestants, settings)

    def _make_bench(
        self, instrument: Instrument, contestants: Sequence[Contestant], settings: RunSettings
    ) -> Bench:
        count = self._count
        params, risks = rows_of(Params, count), rows_of(RiskRow, count)
        accounts, slots = rows_of(Account, count), rows_of(Slot, count * self._each)
        for k, contestant in enumerate(contestants):
            fills = contestant.fills
            market = MarketParams(
                min_lots=instrument.min_lots,
                tick_lot_usd=float(instrument.value(1, 1)),
                maker_fee_bps=fills.maker_fee_ppb / _PPB_PER_BPS,
                taker_fee_bps=fills.taker_fee_ppb / _PPB_PER_BPS,
            )
            write_row(params[k : k + 1], replace(contestant.params, market=market))
            write_row(risks[k : k + 1], risk_row(instrument, contestant, settings))
            write_row(accounts[k : k + 1], Account(order_latency_s=fills.request_ns / NS_PER_S))
        slots["level"] = np.tile(np.repeat(np.arange(self._each // 2), 2), count)
        slots["side"] = np.tile([1, -1], count * self._each // 2)
        return Bench(
            world=self.engine.world,
            params=params,
            states=rows_of(State, count),
            accounts=accounts,
            risks=risks,
            slots=slots,
            held=rows_of(SlotOrderRow, count * self._each),
            decisions=rows_of(DecisionRow, count),
            books=rows_of(BookRow, len(self._feeds)),
            feeds=self._feeds,
            cursor=self._cursor,
        )

    def feed(self, hour: Hour) -> Iterator[NDArray[Any]]:
        """Run a piece of the market, of any length in whole frames; the log comes in pieces.

        What is not certain before later rows are known waits for them, so it does not matter how a market
        is cut.
        """
        if not len(hour.venue_ns):
            return
        self.rows += len(hour.venue_ns)
        rows = hour if self._tail is None else _joined(self._tail, hour)
        if self._tail is None:
            self._cursor[-1] = int(hour.venue_ns[0]) + self._timer_ns
        yield from self._run(rows, int(hour.venue_ns[-1]) - 1)
        # A slow feed has not heard all of it yet.
        first = int(self._cursor[1:-1].min())
        columns: list[Any] = [column[first:] for column in rows]
        self._tail = Hour(*columns)
        self._cursor[:-1] -= first

    def finish(self) -> Iterator[NDArray[Any]]:
        """Run up to the last row: nothing more will come."""
        if self._tail is None or not self.rows:
            return
        end_ns = int(self._cursor[-1]) if not len(self._tail.venue_ns) else int(self._tail.venue_ns[-1])
        yield from self._run(self._tail, end_ns)

    def _run(self, rows: Hour, end_ns: int) -> Iterator[NDArray[Any]]:
        self.engine.reach(rows)
        self.bench = self.bench._replace(world=self.engine.world)
        columns = frozen(rows)
        done = False
        while not done:
            done = runner.run(self.bench, columns, end_ns, self._timer_ns)
            yield self.engine.drain()

    def run(self, hours: Iterable[Hour]) -> NDArray[Any]:
        """Run hours one after the other; the whole log."""
        pieces = [piece for hour in hours for piece in self.feed(hour)]
        return np.concatenate([*pieces, *self.finish()])


def _joined(first: Hour, second: Hour) -> Hour:
    pairs: Any = zip(first, second, strict=True)
    columns = [np.concatenate(pair) for pair in pairs]
    return Hour(*columns)
