"""The matching engine: price–time priority among accounts' orders and what others show.

Everything that may trade is a `_Taker` sweeping the other side. The flow is authoritative for others: a
level of theirs that reaches across the book trades with our orders, and merely removes what others showed
in its way.
"""

from dataclasses import dataclass
from decimal import Decimal

from market_maker.domain import Side
from market_maker.emulator.accounts import EXACT, Account, book_fill, signed
from market_maker.emulator.changes import Changes
from market_maker.emulator.flow import FlowEvent, LevelChange, TakerOrder
from market_maker.emulator.market import Market
from market_maker.emulator.orderbook import opposite
from market_maker.emulator.orders import (
    AccountTrade,
    Order,
    OrderStatus,
    PublicTrade,
    StatusReason,
    TradeType,
)
from market_maker.emulator.requests import SelfTrade, TimeInForce
from market_maker.emulator.rules import FailureStatus, Mode
from market_maker.emulator.venue import Venue
from market_maker.instrument import MarketStatus

_FAILURE = {
    FailureStatus.REJECTED: OrderStatus.REJECTED,
    FailureStatus.CANCELLED: OrderStatus.CANCELLED,
}


@dataclass(slots=True)
class _Taker:
    side: Side
    limit_ticks: int
    lots: int
    order: Order | None = None
    is_level: bool = False

    @property
    def is_hungry(self) -> bool:
        return self.lots > 0 and (self.order is None or self.order.is_open)

    def reaches(self, ticks: int) -> bool:
        return ticks <= self.limit_ticks if self.side is Side.BUY else ticks >= self.limit_ticks


@dataclass(frozen=True, slots=True)
class _Match:
    market: Market
    taker_side: Side
    ticks: int
    lots: int
    trade_id: int
    trade_type: TradeType
    now_ns: int


class MatchingEngine:
    """Carries out what the API accepted and what the flows say; notes every change."""

    def __init__(self, venue: Venue, changes: Changes) -> None:
        self._venue = venue
        self._changes = changes
        self._rules = venue.rules.orders

    def apply(self, market: Market, event: FlowEvent, now_ns: int) -> None:
        """Apply an event of the flow."""
        if isinstance(event, TakerOrder):
            self._sweep(market, _Taker(event.side, event.limit_ticks, event.size_lots), now_ns)
        else:
            self._apply_level(market, event, now_ns)

    def _apply_level(self, market: Market, event: LevelChange, now_ns: int) -> None:
        lots = event.size_lots
        if lots > 0:
            taker = _Taker(event.side, event.price_ticks, lots, is_level=True)
            self._sweep(market, taker, now_ns)
            lots = taker.lots
        market.book.set_external(event.side, event.price_ticks, lots)

    def place(self, order: Order, now_ns: int) -> None:
        """Take an accepted order (or replacement) into the book; nothing happens where it ended before."""
        if not order.is_open:
            return
        order.in_engine = True
        market = self._venue.markets[order.market]
        reason = self._replace(order, now_ns) or self._refusal(market, order)
        if reason is not None:
            self._close(order, _FAILURE[self._rules.post_only_failure], reason, now_ns)
            return
        taker = _Taker(order.side, order.price_ticks, order.lots, order)
        self._sweep(market, taker, now_ns)
        if not order.is_open:
            return
        if order.request.time_in_force is TimeInForce.IOC:
            why = StatusReason.NONE if order.filled_lots else StatusReason.NO_LIQUIDITY
            self._close(order, OrderStatus.CANCELLED, why, now_ns)
            return
        market.book.add_order(order)
        self._note(order, now_ns)

    def cancel(self, order: Order, now_ns: int, reason: StatusReason = StatusReason.NONE) -> None:
        """Cancel an order if it is still open."""
        if order.is_open:
            self._close(order, OrderStatus.CANCELLED, reason, now_ns)

    def expire(self, order: Order, now_ns: int) -> None:
        """End an order whose time is over, if it is still open."""
        if order.is_open:
            self._close(order, OrderStatus.EXPIRED, StatusReason.NONE, now_ns)

    def _replace(self, order: Order, now_ns: int) -> StatusReason | None:
        """Cancel the predecessor; from here on a failure of the order ends both."""
        if not order.request.cancel_id:
            return None
        account = self._venue.accounts[order.account_id]
        old = account.by_external.get(order.request.cancel_id)
        if old is None or not old.is_open:
            return StatusReason.PREV_ORDER_NOT_FOUND
        self._close(old, OrderStatus.CANCELLED, StatusReason.ORDER_REPLACED, now_ns)
        if not self._rules.replacement_counts_filled:
            return None
        if order.lots <= old.filled_lots:
            return StatusReason.INVALID_QTY
        order.lots -= old.filled_lots
        return None

    def _refusal(self, market: Market, order: Order) -> StatusReason | None:
        """Why the engine does not take an order that the API took."""
        if order.trade_type is TradeType.LIQUIDATION:
            return None
        request = order.request
        account = self._venue.accounts[order.account_id]
        closed = self._closed_reason(market, order)
        if closed is not None:
            return closed
        if request.reduce_only and not _reduces(account, order):
            return StatusReason.REDUCE_ONLY_FAILED
        best = market.book.best_ticks(opposite(order.side))
        crosses = best is not None and _Taker(order.side, order.price_ticks, order.lots).reaches(best)
        return StatusReason.POST_ONLY_FAILED if request.post_only and crosses else None

    def _closed_reason(self, market: Market, order: Order) -> StatusReason | None:
        mode, status, request = self._venue.mode, market.status, order.request
        if status not in (MarketStatus.ACTIVE, MarketStatus.REDUCE_ONLY):
            return StatusReason.DISABLED_MARKET
        if mode is Mode.MAINTENANCE:
            return StatusReason.TRADING_OFF_MODE
        if mode is Mode.POST_ONLY and not request.post_only:
            return StatusReason.POST_ONLY_MODE
        reducing_only = mode is Mode.REDUCE_ONLY or status is MarketStatus.REDUCE_ONLY
        return StatusReason.REDUCE_ONLY_MODE if reducing_only and not request.reduce_only else None

    def _sweep(self, market: Market, taker: _Taker, now_ns: int) -> None:
        book, maker_side = market.book, opposite(taker.side)
        while taker.is_hungry:
            front = book.front(maker_side)
            if front is None or not taker.reaches(front[0]):
                return
            ticks, entry = front
            maker = entry.order
            if maker is None and taker.is_level:
                book.take_front(maker_side, entry.lots)
                continue
            if maker is not None and self._is_self_trade(taker, maker):
                self._close(maker, OrderStatus.CANCELLED, StatusReason.SELF_TRADE_PROTECTION, now_ns)
                continue
            lots = min(taker.lots, entry.lots)
            if maker is not None and maker.request.reduce_only:
                lots = min(lots, abs(self._venue.accounts[maker.account_id].position_lots(market.name)))
            taker.lots -= lots
            book.take_front(maker_side, lots)
            self._settle(market, taker, maker, (ticks, lots), now_ns)

    def _is_self_trade(self, taker: _Taker, maker: Order) -> bool:
        order = taker.order
        if order is None or order.request.self_trade is SelfTrade.DISABLED:
            return False
        if order.account_id == maker.account_id:
            return True
        accounts = self._venue.accounts
        same_client = accounts[order.account_id].client_id == accounts[maker.account_id].client_id
        return same_client and order.request.self_trade is SelfTrade.CLIENT

    def _settle(
        self, market: Market, taker: _Taker, maker: Order | None, at: tuple[int, int], now_ns: int
    ) -> None:
        ticks, lots = at
        kind = taker.order.trade_type if taker.order else TradeType.TRADE
        match = _Match(market, taker.side, ticks, lots, next(self._venue.trade_ids), kind, now_ns)
        market.record_trade(ticks, lots, now_ns)
        trade = PublicTrade(match.trade_id, taker.side, ticks, lots, kind, now_ns)
        market.recent_trades.append(trade)
        self._changes.public_trade(market.name, trade)
        if taker.order is None and maker is None:
            return
        for order, side in ((taker.order, taker.side), (maker, opposite(taker.side))):
            if order is None:
                lots_in = signed(side, lots)
                self._venue.outside.trade(market.name, lots_in, market.instrument.value(ticks, lots_in))
            else:
                self._fill(match, order, is_taker=order is taker.order)

    def _fill(self, match: _Match, order: Order, *, is_taker: bool) -> None:
        market, venue = match.market, self._venue
        account = venue.accounts[order.account_id]
        lots = signed(order.side, match.lots)
        value = market.instrument.value(match.ticks, lots)
        rate = account.taker_fee if is_taker else account.maker_fee
        fee = EXACT.multiply(value.copy_abs(), rate)
        account.ledger.trade(market.name, lots, value)
        account.ledger.pay(fee)
        venue.house.receive(fee)
        before = account.position_lots(market.name)
        self._move_position(account, match, lots, fee)
        order.filled_lots += match.lots
        order.filled_tick_lots += match.lots * match.ticks
        order.fee = EXACT.add(order.fee, fee)
        trade = AccountTrade(
            trade_id=match.trade_id,
            market=market.name,
            order_id=order.order_id,
            external_id=order.request.external_id,
            side=order.side,
            price_ticks=match.ticks,
            lots=match.lots,
            fee=fee,
            is_taker=is_taker,
            trade_type=match.trade_type,
            time_ns=match.now_ns,
            position_before=before,
            position_after=before + lots,
        )
        account.record_trade(trade, market.instrument.value(match.ticks, before + lots))
        self._changes.account(account.account_id).trades.append(trade)
        self._after_fill(account, order, match.now_ns)

    def _move_position(self, account: Account, match: _Match, lots: int, fee: Decimal) -> None:
        market = match.market
        position = self._venue.position(account, market.name, match.now_ns)
        closing = position.lots * lots < 0
        if closing:
            closed = min(abs(position.lots), abs(lots))
            position.closed_lots += closed
            position.closed_tick_lots += closed * match.ticks
            position.close_fees = EXACT.add(position.close_fees, fee)
        else:
            position.open_fees = EXACT.add(position.open_fees, fee)
        book_fill(position, market.instrument, lots, market.instrument.price(match.ticks))
        position.realised = EXACT.subtract(position.realised, fee)
        position.updated_ns = match.now_ns
        position.exit_type = match.trade_type
        if position.lots:
            position.was_long = position.lots > 0
        self._changes.account(account.account_id).positions[market.name] = None

    def _after_fill(self, account: Account, order: Order, now_ns: int) -> None:
        if order.remaining_lots == 0:
            self._close(order, OrderStatus.FILLED, StatusReason.NONE, now_ns)
        else:
            order.status = OrderStatus.PARTIALLY_FILLED
            self._note(order, now_ns)
        for other in account.open_in(order.market):
            if other.in_engine and other.request.reduce_only and not _has_something_to_reduce(account, other):
                self._close(other, OrderStatus.CANCELLED, StatusReason.REDUCE_ONLY_FAILED, now_ns)

    def _close(self, order: Order, status: OrderStatus, reason: StatusReason, now_ns: int) -> None:
        order.status = status
        order.reason = reason
        self._venue.markets[order.market].book.remove_order(order)
        self._venue.accounts[order.account_id].retire(order)
        self._note(order, now_ns)

    def _note(self, order: Order, now_ns: int) -> None:
        order.updated_ns = now_ns
        self._changes.account(order.account_id).orders[order.order_id] = order


def _has_something_to_reduce(account: Account, order: Order) -> bool:
    return account.position_lots(order.market) * int(order.side) < 0


def _reduces(account: Account, order: Order) -> bool:
    return _has_something_to_reduce(account, order) and order.lots <= abs(account.position_lots(order.market))
