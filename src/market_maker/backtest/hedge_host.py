"""The host of a contestant's hedge: what its rows hold to `hedging.plan`, and the plan back into its rows."""

from typing import Any

from market_maker.backtest.hedge_desk import HEDGE_SLOTS
from market_maker.backtest.host import MarketMakerRun
from market_maker.domain import BPS, Action
from market_maker.exposure import PUSD_PER_USD
from market_maker.hedging import HedgeOrder, HedgeOrders, HedgePlan, HedgeSettings, ReferenceMarket, plan

_PPB_PER_BPS = 100_000


class HedgeHost:
    """Plans the hedge of a contestant in its reference market; its run has slots for hedges."""

    def __init__(self, run: MarketMakerRun, row: int, settings: HedgeSettings) -> None:
        self._run = run
        self._row = row
        self._settings = settings
        self._orders = HedgeOrders()
        self._paid_usd = 0.0

    def look(self, net_beta_usd: float) -> HedgePlan:
        """Find what is wanted now, and ask the desk for it."""
        now_ns = int(self._run.bench.clock[0].now_ns)
        market, orders = self._market(), self._as_they_are(now_ns)
        wanted = plan(self._settings, net_beta_usd, market, orders, now_ns)
        self._ask(wanted, orders)
        return wanted

    def _first_slot(self) -> int:
        bench = self._run.bench
        return (self._row + 1) * (len(bench.slots) // len(bench.params)) - HEDGE_SLOTS

    def _market(self) -> ReferenceMarket:
        bench: Any = self._run.bench
        account, fills = bench.accounts[self._row], bench.world.strategies[self._row]
        book = bench.books[fills.feed]
        first = self._first_slot()
        each = len(bench.slots) // len(bench.params)
        quotes = slice(self._row * each, first)
        held, sides = bench.held[quotes], bench.slots["side"][quotes]
        lots = held["remaining_lots"] * (held["order_id"] != 0)
        lots = lots + held["new_remaining_lots"] * (held["new_id"] != 0)
        is_halted = account.halt_reason != 0
        return ReferenceMarket(
            bid_ticks=0 if is_halted else int(book.bid_ticks),
            ask_ticks=int(book.ask_ticks),
            lot_usd=int(bench.risks[self._row].lot_pusd) / PUSD_PER_USD,
            min_lots=int(bench.world.market[0].min_lots),
            position_lots=int(account.position_lots),
            limit_long_lots=int(account.limit_long_lots),
            limit_short_lots=int(account.limit_short_lots),
            quote_buy_lots=int(lots[sides > 0].sum()),
            quote_sell_lots=int(lots[sides < 0].sum()),
            maker_fee_bps=int(fills.maker_fee_ppb) / _PPB_PER_BPS,
            taker_fee_bps=int(fills.taker_fee_ppb) / _PPB_PER_BPS,
        )

    def _as_they_are(self, now_ns: int) -> HedgeOrders:
        bench: Any = self._run.bench
        row, fills = bench.hedges[self._row], bench.world.strategies[self._row]
        tick_lot_usd = int(bench.risks[self._row].tick_lot_pusd) / PUSD_PER_USD
        paid_ppb = int(row.maker_tick_lots) * max(int(fills.maker_fee_ppb), 0)
        paid_ppb += int(row.taker_tick_lots) * int(fills.taker_fee_ppb)
        paid_usd = paid_ppb * tick_lot_usd / (_PPB_PER_BPS * BPS)
        if paid_usd > self._paid_usd:
            self._orders = self._orders.with_fee(paid_usd - self._paid_usd, now_ns)
            self._paid_usd = paid_usd
        first = self._first_slot()
        rest, take = bench.held[first], bench.held[first + 1]
        return self._orders._replace(
            resting=_order_of(rest, int(bench.slots[first].side)),
            is_pending=bool(rest.new_id != 0 or rest.cancel_id != 0),
            taking=_order_of(take, int(bench.slots[first + 1].side)),
            rested_ns=int(row.rested_ns),
            took_ns=int(row.took_ns),
        )

    def _ask(self, wanted: HedgePlan, orders: HedgeOrders) -> None:
        row: Any = self._run.bench.hedges[self._row]
        row.rest_action = _action(wanted.rest, orders)
        if wanted.rest is not None and row.rest_action in (Action.PLACE, Action.REPLACE):
            row.rest_side, row.rest_ticks, row.rest_lots = wanted.rest
        row.take_lots = 0
        if wanted.take is not None:
            row.take_side, row.take_ticks, row.take_lots = wanted.take


def _action(wanted: HedgeOrder | None, orders: HedgeOrders) -> int:
    """What brings the resting order to what is wanted; one of the other side goes first."""
    old = orders.resting
    if old is None:
        return Action.KEEP if wanted is None else Action.PLACE
    if wanted is None or wanted.side != old.side:
        return Action.CANCEL
    return Action.KEEP if wanted == old else Action.REPLACE


def _order_of(held: Any, side: int) -> HedgeOrder | None:  # noqa: ANN401  (a record)
    """The order of a slot, or the one on its way there, with what is left of it."""
    if held.order_id != 0:
        return HedgeOrder(side, int(held.price_ticks), int(held.remaining_lots))
    if held.new_id != 0:
        return HedgeOrder(side, int(held.new_price_ticks), int(held.new_remaining_lots))
    return None
