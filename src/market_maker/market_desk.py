"""One market: its rows, its book, its slots, and every reason for which it may not be quoted now.

The desk is where values meet. It turns events into the rows that `observe` and `decide` read, and hands their
decisions out; it sends nothing and waits for nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Final, NamedTuple

import numpy as np

from market_maker import funding, post_only_safety, pricing_engine, trend_signal, volatility_regime
from market_maker import reprice_pipeline as pipeline
from market_maker.decision_record import DecisionTape, MarketRows, MarketTape
from market_maker.domain import (
    BPS,
    NS_PER_S,
    BestQuote,
    Book,
    BookUpdate,
    Decision,
    Direction,
    OrderState,
    Reason,
    Regime,
    Side,
    SlotId,
    Trade,
)
from market_maker.gateway import Candle, Fees
from market_maker.halts import Halts
from market_maker.instrument import Instrument
from market_maker.kernel import Row, new_row
from market_maker.order_manager import OrderManager
from market_maker.order_table import TrackedOrder
from market_maker.orderbook_manager import BookSettings, OrderbookManager
from market_maker.pricing_engine import MarketParams
from market_maker.reference_price import PriceSource
from market_maker.strategy_rows import (
    Account,
    BookRow,
    DecisionRow,
    Params,
    Slot,
    State,
    levels_each,
    read_decision,
)
from market_maker.summary import Quotes, is_good_quote

_LATENCY_WEIGHT: Final = 0.1
_SIZE_SLACK: Final = 0.99
_LATELY_NS: Final = 10 * NS_PER_S
_TIMES: Final = Book._fields.index("venue_ns")
_UNHEALTHY: Final = frozenset(
    {Reason.NO_BOOK, Reason.STALE_BOOK} | {reason for reason in Reason if reason >= Reason.STARTING}
)
_RESTING: Final = (OrderState.LIVE, OrderState.PENDING_CANCEL)


class _Held(NamedTuple):
    """What a slot's row says of the order there, in the order in which it is written."""

    resting: bool
    request_pending: bool
    price_ticks: int
    size_lots: int
    remaining_lots: int
    reduce_only: bool
    placed_ns: int


_INNER_OUTER: Final = ("inner_lots", "outer_lots")
_EMPTY_SLOT: Final = (*_INNER_OUTER, "resting", "request_pending")


def _held(order: TrackedOrder) -> _Held:
    return _Held(
        resting=True,
        request_pending=order.in_flight or order.state != OrderState.LIVE,
        price_ticks=order.price_ticks,
        size_lots=order.size_lots,
        remaining_lots=order.remaining_lots,
        reduce_only=order.order.reduce_only,
        placed_ns=order.placed_ns,
    )


def market_params(instrument: Instrument, fees: Fees) -> MarketParams:
    """What pricing must know of a market, from the exchange's rules and the account's fees."""
    return MarketParams(
        min_lots=instrument.min_lots,
        tick_lot_usd=float(instrument.value(1, 1)),
        maker_fee_bps=float(fees.maker) * BPS,
        taker_fee_bps=float(fees.taker) * BPS,
    )


class MarketDesk:
    """Rows, book and slots of one market.

    Parameters
    ----------
    params : Params
        Settings of the strategy here; the market's own facts are put in from `instrument` and `fees`.
    mark_band : float
        How far from the mark an order may lie by our own limit, a fraction.
    latency_s : float
        Order latency that is assumed until one is measured.
    """

    def __init__(
        self,
        instrument: Instrument,
        fees: Fees,
        params: Params,
        book_settings: BookSettings,
        mark_band: float,
        latency_s: float,
    ) -> None:
        self.instrument = instrument
        self.book = OrderbookManager(instrument, book_settings)
        self.halts = Halts()
        self.mark: Decimal | None = None
        self.latest: Book | None = None
        self.limit_reason = Reason.POSITION_LIMIT
        self.slots = tuple(
            SlotId(instrument.name, side, level)
            for level in range(levels_each(params))
            for side in (Side.BUY, Side.SELL)
        )
        self._slots_of = {side: tuple(slot for slot in self.slots if slot.side is side) for side in Side}
        self._decided_ns = 0
        self._level_lots = (0, 0)
        self.reasons: dict[SlotId, Reason] = dict.fromkeys(self.slots, Reason.STARTING)
        self._band_up = 1 + min(Decimal(repr(mark_band)), instrument.price_cap)
        self._band_down = 1 - min(Decimal(repr(mark_band)), instrument.price_floor)
        self._params = new_row(replace(params, market=market_params(instrument, fees)))
        self._state = new_row(State())
        self._account = new_row(Account(order_latency_s=latency_s))
        self._rows = {slot: new_row(Slot(int(slot.side), slot.level)) for slot in self.slots}
        # Several fields at once: 1 us, where each by its name takes a third of that.
        self._empty_slots = {slot: row[list(_EMPTY_SLOT)] for slot, row in self._rows.items()}
        self._held_slots = {slot: row[[*_INNER_OUTER, *_Held._fields]] for slot, row in self._rows.items()}
        self._decision = new_row(DecisionRow())
        self._book_row = new_row(BookRow())
        # Touched on every event: 0.1 us through a view of the field, 2 us as `row[0].field`.
        self._halt_reason = self._account["halt_reason"]
        self._last_frame_ns = self._account["last_frame_ns"]
        self._latency_s = self._account["order_latency_s"]
        self._regime_state = self._state[0].regime
        self._decided = self._decision[list(Decision._fields)]
        self._tape: MarketTape | None = None
        # Asked for far more often than there is news.
        self._regime: Regime | None = None

    @property
    def name(self) -> str:
        """Name of the market."""
        return self.instrument.name

    @property
    def ladder(self) -> Row:
        """Row of the ladder, which `decide` moves."""
        ladder: Row = self._account["ladder"]
        return ladder

    def record(self, tape: DecisionTape) -> None:
        """Take down what the pipeline is asked from here on, with the rows that it reads, and its answers."""
        rows = MarketRows(
            self._params, self._state, self._account, self._rows, self._decision, self._book_row
        )
        self._tape = tape.market(self.name, rows)

    def seed(self, candles: Sequence[Candle]) -> None:
        """Warm the volatility up from one-minute bars, oldest first."""
        closes = np.array([float(candle.close) for candle in candles], np.float64)
        if len(closes):
            self._regime = None
            pipeline.seed(self._params, self._state, closes, len(closes))
            if self._tape is not None:
                self._tape.seed(closes)

    def on_book(self, update: BookUpdate, now_ns: int) -> bool:
        """Take a book frame in and advance the signals; False where the book can not be trusted."""
        self.on_frame(now_ns)
        book = self.book.apply(update)
        if book is None:
            return False
        self._observe(book, now_ns)
        return True

    def on_best_quote(self, best: BestQuote, now_ns: int) -> bool:
        """Take a best quote in; the signals advance, and the answer is True, where the others' book is new.

        False is no news, or no book: a quote that is crossed leaves none, and slots are to be asked then too.
        """
        self.on_frame(now_ns)
        before, book = self.book.book, self.book.apply_best(best)
        if book is None or (before is not None and book[:_TIMES] == before[:_TIMES]):
            return False
        self._observe(book, now_ns)
        return True

    def _observe(self, book: Book, now_ns: int) -> None:
        self.latest = book
        self._book_row[0] = book
        self._regime = None
        pipeline.observe_book(self._params, self._state, self._book_row, now_ns)
        if self._tape is not None:
            self._tape.book(now_ns)

    def on_trade(self, trade: Trade, now_ns: int) -> None:
        """Take a public trade in."""
        self.on_frame(now_ns)
        side, price_ticks, size_lots = int(trade.taker_side), trade.price_ticks, trade.size_lots
        pipeline.observe_trade(self._params, self._state, side, price_ticks, size_lots, now_ns)
        if self._tape is not None:
            self._tape.trade(side, price_ticks, size_lots, now_ns)

    def on_price(self, source: PriceSource, price: Decimal, now_ns: int) -> None:
        """Take a price of elsewhere in, USD; no news of this market's own streams."""
        price_ticks = float(price / self.instrument.tick)
        pipeline.observe_price(self._params, self._state, int(source), price_ticks, now_ns)
        if self._tape is not None:
            self._tape.price(int(source), price_ticks, now_ns)

    def on_index(self, price: Decimal, now_ns: int) -> None:
        """Take the exchange's index in."""
        self.on_frame(now_ns)
        self.on_price(PriceSource.INDEX, price, now_ns)

    def on_funding(self, rate: Decimal, now_ns: int) -> None:
        """Take the exchange's hourly funding rate in, a fraction; positive: longs pay."""
        self.on_frame(now_ns)
        pipeline.observe_funding(self._params, self._state, float(rate), now_ns)
        if self._tape is not None:
            self._tape.funding(float(rate), now_ns)

    def on_fill(self, position_before_lots: int, change_lots: int, now_ns: int) -> None:
        """Take a fill of ours in: how long positions last decides what funding will cost."""
        holding, settings = self._account[0].holding, self._params[0].funding
        funding.on_fill(settings, holding, position_before_lots, change_lots, now_ns)

    def on_mark(self, price: Decimal, now_ns: int) -> None:
        """Take the exchange's mark in: it sets the price band."""
        self.on_frame(now_ns)
        self.on_price(PriceSource.MARK, price, now_ns)
        self.mark = price
        account = self._account
        account["mark_ticks"] = float(price / self.instrument.tick)
        account["band_high_ticks"] = self.instrument.ticks_down(price * self._band_up)
        account["band_low_ticks"] = self.instrument.ticks_up(price * self._band_down)

    def on_frame(self, now_ns: int) -> None:
        """Note that the stream lives."""
        self._last_frame_ns[0] = now_ns

    def on_latency(self, seconds: float) -> None:
        """Take a measured order latency into the running mean."""
        self._latency_s += _LATENCY_WEIGHT * (seconds - self._latency_s)

    def set_account(
        self, position_lots: int, limits: tuple[int, int], others_lots: float = 0.0, widening: float = 1.0
    ) -> None:
        """Write position, (long, short) limits, what other markets add to it, lots; how far quotes widen."""
        account = self._account
        account["widening"] = widening
        account["position_lots"] = position_lots
        account["effective_inventory_lots"] = position_lots + others_lots
        account["limit_long_lots"], account["limit_short_lots"] = limits

    def write_slots(self, orders: OrderManager, now_ns: int) -> None:
        """Write what is known of our orders here into the slots and the book."""
        own: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        at_risk = dict.fromkeys(self.slots, 0)
        for order in orders.working((self.name,)):
            levels = own[order.order.side]
            levels[order.price_ticks] = levels.get(order.price_ticks, 0) + order.remaining_lots
            if order.slot in at_risk:
                # Of an order and the one that is to take its place, the larger may fill.
                at_risk[order.slot] = max(at_risk[order.slot], order.at_risk_lots)
        for side, levels in own.items():
            self._write_side(self._slots_of[side], orders, at_risk)
            self.book.set_own(side, levels, now_ns)

    def _write_side(
        self, slots: Sequence[SlotId], orders: OrderManager, at_risk: Mapping[SlotId, int]
    ) -> None:
        """Write the slots of a side, nearest first."""
        inner, outer = 0, sum(at_risk[slot] for slot in slots)
        for slot in slots:
            outer -= at_risk[slot]
            order = orders.slot_order(slot)
            if order is None or not order.is_working:
                self._empty_slots[slot][0] = inner, outer, False, False
            else:
                self._held_slots[slot][0] = inner, outer, *_held(order)
            inner += at_risk[slot]

    def sent(self, slot: SlotId, now_ns: int) -> None:
        """Note that a request for a slot goes out now."""
        self._rows[slot]["last_change_ns"] = now_ns

    def on_post_only(self, slot: SlotId, now_ns: int, *, rejected: bool) -> None:
        """Tell a slot's post-only safety how an order came out; a hedge's slot has none."""
        if slot not in self._rows:
            return
        settings, state = self._params[0].post_only, self._rows[slot][0].post_only
        if rejected:
            post_only_safety.on_rejection(settings, state, now_ns)
        else:
            post_only_safety.on_success(settings, state, now_ns)
        if self._tape is not None:
            self._tape.post_only(slot, now_ns, rejected=rejected)

    def decide(self, slot: SlotId, now_ns: int) -> Decision:
        """Ask the pipeline about a slot; its reason is kept for the status."""
        self._decided_ns = now_ns
        self._halt_reason[0] = max(self.halts.gravest, self.book.reason)
        pipeline.decide(self._params, self._state, self._account, self._rows[slot], self._decision, now_ns)
        if self._tape is not None:
            self._tape.decided(slot, now_ns)
        decision = read_decision(self._decided)
        at_limit = decision.reason == Reason.POSITION_LIMIT
        self.reasons[slot] = self.limit_reason if at_limit else decision.reason
        return decision

    def is_deciding(self, now_ns: int) -> bool:
        """Whether somebody asked lately, and nothing but the market itself keeps a quote from resting."""
        asked = now_ns - self._decided_ns < _LATELY_NS
        return asked and any(reason not in _UNHEALTHY for reason in self.reasons.values())

    @property
    def mid2_ticks(self) -> int:
        """Twice the mid of the others' book, ticks; 0 before the first book."""
        return 0 if self.latest is None else self.latest.bid_ticks + self.latest.ask_ticks

    @property
    def sigma_bps(self) -> float:
        """Volatility in force, bps per √minute."""
        return float(self._state["sigma_bps"][0])

    @property
    def fees_bps(self) -> tuple[float, float]:
        """Fees of making and of taking."""
        market = self._params[0].market
        return float(market.maker_fee_bps), float(market.taker_fee_bps)

    @property
    def latency_s(self) -> float:
        """Mean order latency, s."""
        return float(self._latency_s[0])

    @property
    def measured_regime(self) -> Regime:
        """Regime that the volatility says, whether or not the strategy acts on it."""
        if self._regime is None:
            self._regime = Regime(int(volatility_regime.measured_regime(self._regime_state)))
        return self._regime

    def trend(self) -> tuple[Direction, float]:
        """Direction and strength (0 to 1) of the trend."""
        params, state = self._params[0].trend, self._state[0].trend
        direction = Direction(int(trend_signal.direction(params, state)))
        return direction, float(trend_signal.strength(params, state))

    def standing(self, orders: OrderManager) -> Quotes:
        """How both sides are quoted now, or why they are not."""
        quotes = self._quotes(orders)
        good = self._good_sides(quotes)
        bid, ask = Side.BUY in good, Side.SELL in good
        return Quotes(
            bid,
            ask,
            Reason.NONE if bid else self._side_reason(Side.BUY, quotes),
            Reason.NONE if ask else self._side_reason(Side.SELL, quotes),
            self.measured_regime == Regime.EXTREME,
        )

    def is_quoted(self, side: Side, orders: OrderManager) -> bool:
        """Whether a side rests at half a level's size or more, within 3 spreads or one σ√minute of fair."""
        return side in self._good_sides(self._quotes(orders))

    def _good_sides(self, quotes: Sequence[TrackedOrder]) -> set[Side]:
        if self.latest is None or self.mid2_ticks <= 0 or not quotes:
            return set()
        mid = self.mid2_ticks / 2
        spread = self.latest.ask_ticks - self.latest.bid_ticks
        sigma_ticks = self.sigma_bps / BPS * mid
        # An order was sized at an earlier price and rounded down: a percent is not held against it.
        level_lots = math.floor(self.level_lots() * _SIZE_SLACK)
        return {
            order.order.side
            for order in quotes
            if order.state in _RESTING
            and is_good_quote(order.remaining_lots, level_lots, order.price_ticks - mid, spread, sigma_ticks)
        }

    def _quotes(self, orders: OrderManager) -> list[TrackedOrder]:
        """Orders here that are quotes; hedges are none."""
        return [order for order in orders.working((self.name,)) if order.slot in self._rows]

    def side_reason(self, side: Side, orders: OrderManager) -> Reason:
        """Why a side is not quoted: the reason of its nearest level, or that what rests does not count."""
        return self._side_reason(side, self._quotes(orders))

    def _side_reason(self, side: Side, quotes: Sequence[TrackedOrder]) -> Reason:
        reasons = [self.reasons[slot] for slot in self._slots_of[side]]
        # Of a ladder's lines the nearest that has something to do.
        reason = next((reason for reason in reasons if reason != Reason.GRID_IDLE), reasons[0])
        rests = any(order.order.side == side for order in quotes)
        return Reason.QUOTE_FAR if rests and reason < Reason.NO_BOOK else reason

    def level_lots(self) -> int:
        """Plain size of the nearest level at the mid, lots."""
        mid2_ticks, lots = self._level_lots
        if mid2_ticks != self.mid2_ticks:
            mid2_ticks, params = self.mid2_ticks, self._params[0]
            lots = pricing_engine.level_lots(params.quote, params.market, 0, mid2_ticks / 2)
            self._level_lots = mid2_ticks, lots
        return lots
