"""The host of a runner: from settings to rows, from hours of a recording to the log of orders and fills."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest import runner
from market_maker.backtest.hedge_desk import HEDGE_SLOTS
from market_maker.backtest.pieces import joined, part
from market_maker.backtest.rows import (
    LARGEST,
    SPENT_CELLS,
    SPENT_REASONS,
    Bench,
    ClockRow,
    FeedRow,
    GroupRow,
    HedgeRow,
    MemoRow,
    MidRow,
    Piece,
    QuoterRow,
    RiskRow,
    SampleRow,
    SlotOrderRow,
    StandingRow,
)
from market_maker.domain import BPS, NS_PER_S, Reason
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
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, Slot, State, levels_each
from market_maker.summary import OrderCounts, Quotes, Uptime, UptimeTracker

_PPB_PER_BPS: Final = 100_000
_ANY_RATE: Final = 10**15
_MIDS: Final = 1 << 16
_SAMPLES: Final = 1 << 12
_BOTH: Final = 0
_ONE: Final = 1
_NEITHER: Final = 2


@dataclass(frozen=True)
class Latency:
    """Time that messages take, s, by what is asked and which way; or as recorded, which is one for a run."""

    request_s: float = 0.0
    reply_s: float = 0.0
    cancel_request_s: float = 0.0
    cancel_reply_s: float = 0.0
    recorded: bool = False

    def put_in(self, fills: StrategyRow) -> StrategyRow:
        """The same row with these times."""
        return replace(
            fills,
            request_ns=round(self.request_s * NS_PER_S),
            reply_ns=round(self.reply_s * NS_PER_S),
            cancel_request_ns=round(self.cancel_request_s * NS_PER_S),
            cancel_reply_ns=round(self.cancel_reply_s * NS_PER_S),
            recorded_latency=self.recorded,
        )


@dataclass(frozen=True)
class Contestant:
    """One setting in a run: how it quotes, its parameters and limits, how its orders fill and travel."""

    params: Params = field(default_factory=Params)
    risk: RiskSettings = field(default_factory=RiskSettings)
    fills: StrategyRow = field(default_factory=StrategyRow)
    quoter: QuoterRow = field(default_factory=QuoterRow)
    latency: Latency | None = None  # in the place of the times in `fills`
    hedges: bool = False  # has slots for hedges, which its host asks for (`hedge_desk`)

    def rules(self) -> StrategyRow:
        """How its orders fill, travel and pay."""
        return self.fills if self.latency is None else self.latency.put_in(self.fills)


@dataclass(frozen=True)
class RunSettings:
    """What all contestants of a run share."""

    book: BookSettings = field(default_factory=BookSettings)
    feed_extra_ns: tuple[int, ...] = (0,)  # delay on top of the recorded one, for each feed
    timer_s: float = 0.25  # s between two looks at a quiet book
    order_life_s: float = 300.0  # s that an order lives at the exchange
    start_equity_usd: float = 10_000.0
    sample_s: float = 0.0  # s between two samples of every contestant, 0: none
    score_from_ns: int = 0  # before this instant time and requests are not counted
    asks_all: bool = False  # ask every contestant at every frame: slower, and the same to the bit


def market_row(instrument: Instrument) -> MarketRow:
    """The exchange's rules of a market, as the fill engine reads them."""
    largest = instrument.max_limit_order_value / instrument.value(1, 1)
    return MarketRow(
        min_lots=instrument.min_lots,
        max_tick_lots=min(int(largest), LARGEST),
        band_up_ppm=int(instrument.price_cap * PPM),
        band_down_ppm=int(instrument.price_floor * PPM),
    )


def account_limit_pusd(risk: RiskSettings) -> int:
    """Largest notional of all markets together, picodollars: by the limits on gross and on stress."""
    gross, stress_ppm = limit_pusd(risk.max_gross_notional_usd), round(risk.stress_move * PPM)
    stress = limit_pusd(risk.max_stress_loss_usd) * PPM // stress_ppm if stress_ppm else LARGEST
    return min(gross, stress, LARGEST)


def risk_row(instrument: Instrument, contestant: Contestant, settings: RunSettings) -> RiskRow:
    """Limits of a contestant in whole numbers: the stricter of its own and the exchange's."""
    risk, rules = contestant.risk, market_rules(instrument, contestant.risk)
    position = min(rules.max_position_pusd, account_limit_pusd(risk))
    band = min(Decimal(repr(risk.mark_price_band)), instrument.price_cap)
    floor = min(Decimal(repr(risk.mark_price_band)), instrument.price_floor)
    rate = round(risk.max_orders_per_s * NS_PER_S) or _ANY_RATE
    margin = rules.initial_margin_ppm
    utilisation = round(risk.max_margin_utilisation * PPM)
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
        leverage_ppm=utilisation * PPM // margin if utilisation and margin else LARGEST,
        maintenance_ppm=-(-margin // 2),
        distance_ppm=round(risk.min_liquidation_distance * PPM),
    )


class MarketMakerRun:
    """K contestants over one recorded market.

    Parameters
    ----------
    instrument : Instrument
        Rules of the market.
    contestants : sequence of Contestant
        They do not see each other.
    latencies : array of (instant, request, reply), ns, optional
        As recorded, in the order of time, for the contestants that ask for it.

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
        latencies: NDArray[np.int64] | None = None,
    ) -> None:
        settings = settings or RunSettings()
        self.rows = 0
        self._each = 2 * max(levels_each(contestant.params) for contestant in contestants)
        if any(contestant.hedges for contestant in contestants):
            self._each += HEDGE_SLOTS
        self._count = len(contestants)
        self._settings = settings
        self._feeds = rows_of(FeedRow, len(settings.feed_extra_ns))
        self._feeds["extra_ns"] = settings.feed_extra_ns
        self._feeds["depth_levels"] = max(1, settings.book.book_depth_levels)
        self._feeds["depth_span"] = settings.book.book_depth_bps / BPS
        self._cursor: Any = np.zeros(1 + len(self._feeds), np.int64)
        self._clock: Any = rows_of(ClockRow, 1)
        self._spent: Any = np.zeros((self._count, SPENT_CELLS), np.int64)
        self._mids: Any = rows_of(MidRow, _MIDS)
        self._samples: Any = rows_of(SampleRow, max(_SAMPLES, 4 * self._count))
        self._standings: Any = rows_of(StandingRow, self._count)
        self._standings["cell"] = (_NEITHER * SPENT_REASONS + int(Reason.STARTING)) * 2
        self._tail: Hour | None = None
        self.engine = FillEngine(
            market_row(instrument),
            [contestant.rules() for contestant in contestants],
            orders_each=2 * self._each + 2,
            feeds=len(self._feeds),
            latencies=latencies,
        )
        self.bench = self._make_bench(instrument, contestants, settings)

    def _make_bench(
        self, instrument: Instrument, contestants: Sequence[Contestant], settings: RunSettings
    ) -> Bench:
        count = self._count
        params, risks = rows_of(Params, count), rows_of(RiskRow, count)
        accounts, slots = rows_of(Account, count), rows_of(Slot, count * self._each)
        quoters, hedges = rows_of(QuoterRow, count), rows_of(HedgeRow, count)
        hedges["enabled"] = [contestant.hedges for contestant in contestants]
        for k, contestant in enumerate(contestants):
            fills = contestant.rules()
            market = MarketParams(
                min_lots=instrument.min_lots,
                tick_lot_usd=float(instrument.value(1, 1)),
                maker_fee_bps=fills.maker_fee_ppb / _PPB_PER_BPS,
                taker_fee_bps=fills.taker_fee_ppb / _PPB_PER_BPS,
            )
            write_row(params[k : k + 1], replace(contestant.params, market=market))
            write_row(quoters[k : k + 1], contestant.quoter)
            write_row(risks[k : k + 1], risk_row(instrument, contestant, settings))
            write_row(accounts[k : k + 1], Account(order_latency_s=fills.request_ns / NS_PER_S))
        groups, memos = _grouped(contestants)
        slots["level"] = np.tile(np.repeat(np.arange(self._each // 2), 2), count)
        slots["side"] = np.tile([1, -1], count * self._each // 2)
        return Bench(
            world=self.engine.world,
            params=params,
            quoters=quoters,
            groups=groups,
            states=rows_of(State, len(groups)),
            memos=memos,
            accounts=accounts,
            risks=risks,
            slots=slots,
            held=rows_of(SlotOrderRow, count * self._each),
            decisions=rows_of(DecisionRow, count),
            hedges=hedges,
            books=rows_of(BookRow, len(self._feeds)),
            feeds=self._feeds,
            cursor=self._cursor,
            clock=self._clock,
            standings=self._standings,
            spent=self._spent,
            mids=self._mids,
            samples=self._samples,
        )

    def feed(self, hour: Hour) -> Iterator[Piece]:
        """Run a piece of the market, of any length in whole frames; what came of it comes in pieces.

        What is not certain before later rows are known waits for them, so it does not matter how a market
        is cut.
        """
        if not len(hour.venue_ns):
            return
        self.rows += len(hour.venue_ns)
        rows = hour if self._tail is None else joined(self._tail, hour)
        if self._tail is None:
            self._start(int(hour.venue_ns[0]))
        yield from self._run(rows, int(hour.venue_ns[-1]) - 1)
        # A slow feed has not heard all of it yet.
        first = int(self._cursor[1:].min())
        self._tail = part(rows, slice(first, None))
        self._cursor -= first

    def finish(self) -> Iterator[Piece]:
        """Run up to the last row: nothing more will come."""
        if self._tail is not None:
            yield from self._run(self._tail, int(self._tail.venue_ns[-1]))

    def _start(self, first_ns: int) -> None:
        settings, clock = self._settings, self._clock
        clock["now_ns"] = first_ns
        clock["asks_all"] = settings.asks_all
        clock["timer_step_ns"] = round(settings.timer_s * NS_PER_S)
        clock["timer_ns"] = first_ns + clock["timer_step_ns"]
        clock["sample_step_ns"] = step_ns = round(settings.sample_s * NS_PER_S)
        if step_ns:
            clock["sample_ns"] = -(-first_ns // step_ns) * step_ns
        if settings.score_from_ns > first_ns:
            clock["score_ns"] = settings.score_from_ns
        self._standings["since_ns"] = self._standings["start_ns"] = first_ns

    def _run(self, rows: Hour, end_ns: int) -> Iterator[Piece]:
        self.engine.reach(rows)
        self.bench = self.bench._replace(world=self.engine.world)
        columns = frozen(rows)
        done = False
        while not done:
            done = runner.run(self.bench, columns, end_ns)
            yield self._drain()

    def _drain(self) -> Piece:
        clock = self._clock
        mids, samples = int(clock["mids"][0]), int(clock["samples"][0])
        clock["mids"] = clock["samples"] = 0
        return Piece(self.engine.drain(), self._mids[:mids].copy(), self._samples[:samples].copy())

    def run(self, hours: Iterable[Hour]) -> Piece:
        """Run hours one after the other; everything in one piece."""
        pieces = [piece for hour in hours for piece in self.feed(hour)]
        columns: list[Any] = [np.concatenate(parts) for parts in zip(*pieces, *self.finish(), strict=True)]
        return Piece(*columns)

    def uptime(self, k: int) -> Uptime:
        """How contestant k spent its time up to now, as a live session would report it."""
        standing, end_ns = self._standings[k], int(self._clock["now_ns"][0])
        spent = self._spent[k].copy()
        spent[standing.cell] += max(0, end_ns - int(standing.since_ns))
        now_ns = int(standing.start_ns)
        tracker = UptimeTracker(now_ns)
        # Good quotes have the lowest cells: the tracker's count starts with them, as the kernel's did.
        for cell in np.flatnonzero(spent).tolist():
            tracker.update(now_ns, _quotes(cell))
            now_ns += int(spent[cell])
        return tracker.report(now_ns)

    def counts(self, k: int) -> OrderCounts:
        """Requests of contestant k since scoring began."""
        risk = self.bench.risks[k]
        return OrderCounts(int(risk.placed), int(risk.replaced), int(risk.cancelled), int(risk.rejected))


def _grouped(contestants: Sequence[Contestant]) -> tuple[Any, Any]:
    """Groups of contestants whose signals can only be equal, and each contestant's group."""
    found: dict[tuple[object, ...], int] = {}
    memos = rows_of(MemoRow, len(contestants))
    leaders = []
    for k, contestant in enumerate(contestants):
        p = contestant.params
        signals = (p.volatility, p.regime, p.trend, p.toxicity, p.imbalance, p.spread_ema)
        key = (contestant.fills.feed, *signals, p.flow, p.funding, p.reference)
        if key not in found:
            found[key] = len(found)
            leaders.append(k)
        memos[k].group = found[key]
        memos[k].levels = levels_each(p)
    groups = rows_of(GroupRow, len(found))
    groups["leader"] = leaders
    groups["feed"] = [key[0] for key in found]
    return groups, memos


def _quotes(cell: int) -> Quotes:
    """Any quotes whose time belongs into a cell."""
    rest, extreme = divmod(cell, 2)
    kind, reason = divmod(rest, SPENT_REASONS)
    return Quotes(kind != _NEITHER, kind == _BOTH, Reason(reason), Reason(reason), bool(extreme))
