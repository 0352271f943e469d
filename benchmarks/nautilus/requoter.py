"""A two-level post-only requoter in NautilusTrader, timed in its own environment.

Two buys and two sells around the mid, placed anew when the mid has moved by two ticks; latency and data as
the other engines have them: depth changes and trades of hftbacktest's conversion, by the exchange's stamps.
`requoter.py EVENTS TICK SHARE LATENCY_NS` plays the first share of the events and prints JSON. Making its
objects and adding them is not timed, nor its import.
"""

import json
import sys
from decimal import Decimal
from time import process_time
from typing import Any

import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.models import FillModel, LatencyModel
from nautilus_trader.config import BacktestEngineConfig, LoggingConfig, RiskEngineConfig, StrategyConfig
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import BookOrder, OrderBookDelta, OrderBookDeltas, TradeTick
from nautilus_trader.model.enums import (
    AccountType,
    AggressorSide,
    BookAction,
    BookType,
    OmsType,
    OrderSide,
    RecordFlag,
)
from nautilus_trader.model.identifiers import TradeId, Venue
from nautilus_trader.model.objects import Money
from nautilus_trader.test_kit.providers import TestInstrumentProvider
from nautilus_trader.trading.strategy import Strategy

_EXCHANGE = 1 << 31
_BUY = 1 << 29
_CODE = 0xFF
_TRADE = 2
_CLEAR = 3
_LEVELS_TICKS = (20, 40)
_MOVE_TICKS = 2


class RequoterConfig(StrategyConfig, frozen=True):
    """What it quotes in, and the tick."""

    instrument: Any
    tick: float


class Requoter(Strategy):
    """Cancels and places two levels a side when the mid has moved."""

    def __init__(self, config: RequoterConfig) -> None:
        super().__init__(config)
        self.requests = 0
        self.fills = 0
        self._mid = 0.0

    def on_start(self) -> None:
        """Hear the book and the trades."""
        self.subscribe_order_book_deltas(self.config.instrument.id, BookType.L2_MBP)
        self.subscribe_trade_ticks(self.config.instrument.id)

    def on_order_book_deltas(self, deltas: OrderBookDeltas) -> None:
        """Requote where the mid has moved far enough."""
        book = self.cache.order_book(self.config.instrument.id)
        bid, ask = book.best_bid_price(), book.best_ask_price()
        if bid is None or ask is None:
            return
        mid = (bid.as_double() + ask.as_double()) / 2.0
        if abs(mid - self._mid) < _MOVE_TICKS * self.config.tick:
            return
        self._mid = mid
        self.cancel_all_orders(self.config.instrument.id)
        for away in _LEVELS_TICKS:
            self._place(OrderSide.BUY, mid - away * self.config.tick)
            self._place(OrderSide.SELL, mid + away * self.config.tick)

    def _place(self, side: OrderSide, price: float) -> None:
        instrument = self.config.instrument
        self.requests += 1
        order = self.order_factory.limit(
            instrument_id=instrument.id,
            order_side=side,
            quantity=instrument.make_qty(0.01),
            price=instrument.make_price(price),
            post_only=True,
        )
        self.submit_order(order)

    def on_order_filled(self, event: Any) -> None:  # noqa: ANN401  (theirs)
        """Count it."""
        self.fills += 1


def data_of(events: Any, instrument: Any) -> list[Any]:  # noqa: ANN401  (theirs)
    """Changes of one instant as one batch of deltas, and trades."""
    made: list[Any] = []
    batch: list[OrderBookDelta] = []
    for number, row in enumerate(events):
        code, ns = int(row["ev"]) & _CODE, int(row["exch_ts"])
        is_buy = bool(int(row["ev"]) & _BUY)
        if batch and (code == _TRADE or ns != batch[-1].ts_event):
            _close(made, batch, instrument)
            batch = []
        if code == _TRADE:
            side = AggressorSide.BUYER if is_buy else AggressorSide.SELLER
            price, size = instrument.make_price(row["px"]), instrument.make_qty(row["qty"])
            made.append(TradeTick(instrument.id, price, size, side, TradeId(str(number)), ns, ns))
        elif code != _CLEAR:
            size, side = float(row["qty"]), OrderSide.BUY if is_buy else OrderSide.SELL
            order = BookOrder(side, instrument.make_price(row["px"]), instrument.make_qty(size), 0)
            action = BookAction.UPDATE if size > 0 else BookAction.DELETE
            batch.append(OrderBookDelta(instrument.id, action, order, 0, number, ns, ns))
    if batch:
        _close(made, batch, instrument)
    return made


def _close(made: list[Any], batch: list[OrderBookDelta], instrument: Any) -> None:  # noqa: ANN401
    """Flag the last of a batch, as its feeds do."""
    last = batch[-1]
    batch[-1] = OrderBookDelta(
        instrument.id, last.action, last.order, RecordFlag.F_LAST, last.sequence, last.ts_event, last.ts_init
    )
    made.append(OrderBookDeltas(instrument.id, batch))


def play(events: Any, tick: float, latency_ns: int) -> dict[str, float]:  # noqa: ANN401
    """Run it: processor time of the run alone."""
    instrument = TestInstrumentProvider.btcusdt_perp_binance()
    quiet = LoggingConfig(bypass_logging=True)
    engine = BacktestEngine(BacktestEngineConfig(logging=quiet, risk_engine=RiskEngineConfig(bypass=True)))
    engine.add_venue(
        venue=Venue("BINANCE"),
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        base_currency=None,
        starting_balances=[Money(1_000_000, USDT)],
        default_leverage=Decimal(10),
        book_type=BookType.L2_MBP,
        fill_model=FillModel(),
        latency_model=LatencyModel(base_latency_nanos=latency_ns),
        trade_execution=True,
    )
    engine.add_instrument(instrument)
    engine.add_data(data_of(events, instrument))
    strategy = Requoter(RequoterConfig(instrument=instrument, tick=tick))
    engine.add_strategy(strategy)
    begun = process_time()
    engine.run()
    seconds = process_time() - begun
    result = {"seconds": seconds, "requests": strategy.requests, "fills": strategy.fills}
    engine.dispose()
    return result


def main() -> None:
    """Play the exchange's side of a share of the events."""
    path, tick, share, latency_ns = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    events = np.load(path)
    events = events[(events["ev"] & _EXCHANGE) != 0]
    events = events[: int(len(events) * share)]
    result = play(events, tick, latency_ns)
    levels = int((events["ev"] & _CODE != _TRADE).sum())
    sys.stdout.write(json.dumps(result | {"level_updates": levels}) + "\n")


if __name__ == "__main__":
    main()
