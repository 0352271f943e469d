"""A generated market: a book that follows a hidden efficient price, and takers that know some of it.

Quotes follow the efficient price with a lag and a tolerance, so that between two quotes there is something to
know; informed takers use it, and quotes that are left behind are in part taken before they are withdrawn.
That is what gives the resting order its adverse selection, and one-second returns their smoothness. Every
order moves the price for good by a little. When volatility rises, sizes fall and the spread widens.
"""

import math
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from market_maker.domain import BPS, NS_PER_MS, NS_PER_S, Side
from market_maker.emulator.draws import Draws
from market_maker.emulator.flow import BookView, FlowEvent, PastBar, TakerOrder
from market_maker.emulator.ladder import BookModel, Ladder
from market_maker.emulator.price_path import STEP_NS, PathPoint, PriceModel, PricePath, Schedule, past_bars
from market_maker.emulator.takers import TakerModel, Takers
from market_maker.instrument import Instrument

_SHARED_STREAM = 0
_INDEX_DIGITS = 4
_SPREAD_HZ = 1.5
_HURRY_SIGMAS = 3.0


@dataclass(frozen=True, slots=True)
class MarketModel:
    """All of one market: trading rules, price, book, takers."""

    instrument: Instrument
    price: PriceModel
    book: BookModel
    takers: TakerModel


class GeneratedFlow:
    """The other participants of one generated market; implements `Flow`.

    Parameters
    ----------
    seed : int
        The same seed gives the same market, whatever other markets there are; markets of one seed share
        their factor.
    start_ns : int
        Instant of the first events, which set the whole book.
    """

    def __init__(self, model: MarketModel, schedule: Schedule, seed: int, start_ns: int) -> None:
        self.market = model.instrument.name
        self._model = model
        self._seed = seed
        self._tick = float(model.instrument.tick)
        self._start_ns = start_ns
        self._next_ns = start_ns
        self._last_ns = start_ns
        shared, own, noise = self._seeds(0)
        self._path = PricePath(model.price, schedule, shared, own)
        self._draws = Draws(noise)
        self._takers = Takers(model.takers, self._draws)
        self._bids = Ladder(Side.BUY, model.book, self._draws)
        self._asks = Ladder(Side.SELL, model.book, self._draws)
        self._impact = 0.0
        self._value_ticks = self._quoted_ticks = model.price.start_price / self._tick
        self._spread_ticks = 1
        self._taken: tuple[Side, int] | None = None
        self._started = False

    def next_ns(self) -> int | None:
        """Instant of the next events; a generated market never ends."""
        return self._next_ns

    def pop(self, book: BookView) -> list[FlowEvent]:
        """Events of the instant `next_ns`, in order."""
        now_ns = self._next_ns
        point = self._path.at((now_ns - self._start_ns) // STEP_NS)
        elapsed_s = (now_ns - self._last_ns) / NS_PER_S
        self._last_ns = now_ns
        self._next_ns = now_ns + self._gap_ns(point)
        self._value_ticks = math.exp(point.log_price + self._impact) / self._tick
        if not self._started:
            return self._start(point)
        self._reread(book)
        sigma_ticks = max(point.sigma_bps / math.sqrt(60.0) / BPS * self._value_ticks, 1e-9)
        events = self._requote(point, elapsed_s, sigma_ticks)
        depth = self._depth(point)
        events += self._bids.refresh(depth) if self._draws.uniform() < 0.5 else self._asks.refresh(depth)
        if self._takers.arrives(elapsed_s, self._activity(point)):
            events.append(self._taker(sigma_ticks))
        return events

    def index_price(self) -> Decimal:
        """Efficient price as of the last instant popped, USD."""
        exponent = self._model.instrument.tick.as_tuple().exponent
        digits = _INDEX_DIGITS - (exponent if isinstance(exponent, int) else 0)
        return Decimal(f"{self._value_ticks * self._tick:.{digits}f}")

    def past_bars(self, count: int) -> list[PastBar]:
        """Bars of the same process before the start, oldest first."""
        shared, own, _ = self._seeds(1)
        return past_bars(self._model.price, self._tick, self._start_ns, count, (shared, own))

    def _seeds(self, purpose: int) -> list[np.random.SeedSequence]:
        name = int.from_bytes(self.market.encode())
        shared = np.random.SeedSequence((self._seed, purpose, _SHARED_STREAM))
        own = np.random.SeedSequence((self._seed, purpose, name))
        return [shared, *own.spawn(2)]

    def _gap_ns(self, point: PathPoint) -> int:
        hurry = (
            math.sqrt(max(point.sigma_bps / self._model.price.sigma_bps, 0.25)) if point.sigma_bps else 1.0
        )
        rate = self._model.book.changes_hz * min(hurry, 1.6)
        return NS_PER_MS + round(self._draws.exponential() * NS_PER_S / rate)

    def _agitation(self, point: PathPoint) -> float:
        return point.sigma_bps / self._model.price.sigma_bps if self._model.price.sigma_bps else 1.0

    def _depth(self, point: PathPoint) -> float:
        return point.phase.depth / math.pow(max(self._agitation(point), 0.5), 0.7)

    def _activity(self, point: PathPoint) -> float:
        return point.phase.activity * math.pow(max(self._agitation(point), 0.3), 0.8)

    def _start(self, point: PathPoint) -> list[FlowEvent]:
        self._started = True
        self._quoted_ticks = self._value_ticks
        self._spread_ticks = self._drawn_spread(point)
        bid = round(self._quoted_ticks - self._spread_ticks / 2)
        depth = self._depth(point)
        return [*self._bids.start(bid, depth), *self._asks.start(bid + self._spread_ticks, depth)]

    def _drawn_spread(self, point: PathPoint) -> int:
        extra = self._model.book.spread_ticks * point.phase.spread * max(self._agitation(point), 0.5)
        return 1 + int(extra * (0.4 + 0.6 * self._draws.exponential()))

    def _requote(self, point: PathPoint, elapsed_s: float, sigma_ticks: float) -> list[FlowEvent]:
        gap = self._value_ticks - self._quoted_ticks
        # After a jump nobody waits: the further the price is off, the faster quotes follow.
        hurry = max(1.0, abs(gap) / (_HURRY_SIGMAS * sigma_ticks)) if sigma_ticks > 1e-6 else 1.0
        self._quoted_ticks += gap * -math.expm1(-elapsed_s * min(hurry, 4.0) / self._model.book.lag_s)
        widened = self._draws.uniform() < elapsed_s * _SPREAD_HZ
        if widened:
            self._spread_ticks = self._drawn_spread(point)
        ideal = self._quoted_ticks - self._spread_ticks / 2
        waits = 0.55 + self._model.book.tolerance * sigma_ticks
        bid = self._bids.best if abs(ideal - self._bids.best) < waits else round(ideal)
        ask = bid + self._spread_ticks
        if bid <= 0 or (bid == self._bids.best and ask == self._asks.best):
            return []
        return self._move(bid, ask, self._depth(point))

    def _move(self, bid: int, ask: int, depth: float) -> list[FlowEvent]:
        events: list[FlowEvent] = []
        for ladder, best in ((self._bids, bid), (self._asks, ask)):
            if (ladder.best - best) * ladder.side > 0:
                events += self._leave(ladder, best)
        return [*events, *self._bids.move_to(bid, depth), *self._asks.move_to(ask, depth)]

    def _leave(self, ladder: Ladder, best: int) -> list[FlowEvent]:
        if self._draws.uniform() >= self._model.book.swept_share:
            return [*ladder.withdraw_to(best)]
        changes, left = ladder.thin_to(best)
        self._takers.excite()
        limit = best + ladder.side
        order = TakerOrder(Side(-ladder.side), limit, left + self._takers.lots(walking=False))
        return [*changes, order, *ladder.withdraw_to(best)]

    def _taker(self, sigma_ticks: float) -> TakerOrder:
        side = self._takers.side((self._value_ticks - self._quoted_ticks) / max(sigma_ticks, 0.5))
        reach = self._takers.reach_ticks(self._spread_ticks)
        lots = self._takers.lots(walking=reach > 0)
        ladder = self._asks if side is Side.BUY else self._bids
        limit = max(1, ladder.shown_best() + side * reach)
        moved_ticks = side * self._takers.impact_sigmas(lots) * sigma_ticks
        self._impact += moved_ticks / self._value_ticks
        self._quoted_ticks += moved_ticks
        self._taken = (ladder.side, limit)
        return TakerOrder(side, limit, lots)

    def _reread(self, book: BookView) -> None:
        if self._taken is None:
            return
        side, limit = self._taken
        self._taken = None
        (self._bids if side is Side.BUY else self._asks).reread(book, limit)
