"""What happens to an account that runs out of money: orders cancelled, then positions closed by force.

Available below zero cancels every order that is not reduce-only. A maintenance margin above the equity
closes the positions, up to five slices of a fifth (at least $1,000) at the bankruptcy price, and what is
left at 5 % worse. The exchange's slices are fill-or-kill; here a slice takes what there is.
"""

from decimal import Decimal

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.accounts import Account
from market_maker.emulator.margin import available_for_trade, maintenance_margin
from market_maker.emulator.market import Market
from market_maker.emulator.matching import MatchingEngine
from market_maker.emulator.orders import Order, StatusReason, TradeType
from market_maker.emulator.requests import OrderRequest, OrderType, SelfTrade, TimeInForce
from market_maker.emulator.venue import Venue

_SLICES = 5
_LEAST_SLICE_USD = Decimal(1000)
_WORSE = Decimal("0.05")


class RiskDesk:
    """Enforces the margin of accounts."""

    def __init__(self, venue: Venue, engine: MatchingEngine) -> None:
        self._venue = venue
        self._engine = engine

    def enforce(self, account: Account, now_ns: int) -> None:
        """Cancel or liquidate what the account's equity does not carry."""
        if not account.open and not any(account.ledger.lots.values()):
            return
        if available_for_trade(self._venue, account) < 0:
            for order in list(account.open.values()):
                if not order.request.reduce_only:
                    self._engine.cancel(order, now_ns, StatusReason.NOT_ENOUGH_FUNDS)
        if self._venue.rules.money.liquidation_enabled and self._is_broke(account):
            self._liquidate(account, now_ns)

    def _is_broke(self, account: Account) -> bool:
        maintenance = maintenance_margin(self._venue, account)
        return maintenance > 0 and maintenance > self._venue.equity(account)

    def _liquidate(self, account: Account, now_ns: int) -> None:
        for order in list(account.open.values()):
            self._engine.cancel(order, now_ns, StatusReason.ACCOUNT_LIQUIDATION)
        for name in list(account.positions):
            self._close_position(account, self._venue.markets[name], now_ns)

    def _close_position(self, account: Account, market: Market, now_ns: int) -> None:
        bankruptcy = self._bankruptcy_price(account, market)
        lots = abs(account.position_lots(market.name))
        least = market.instrument.lots_down(_LEAST_SLICE_USD / market.mark) if market.mark else lots
        slice_lots = max(least, -(-lots // _SLICES))
        for _ in range(_SLICES):
            if not self._is_broke(account):
                return
            self._sell_off(account, market, slice_lots, bankruptcy, now_ns)
        if self._is_broke(account):
            worse = _WORSE if account.position_lots(market.name) < 0 else -_WORSE
            self._sell_off(account, market, lots, bankruptcy * (1 + worse), now_ns)

    def _bankruptcy_price(self, account: Account, market: Market) -> Decimal:
        """Return the mark at which the account's equity is zero, all else equal."""
        size = market.instrument.size(account.position_lots(market.name))
        return market.mark - self._venue.equity(account) / size if size else market.mark

    def _sell_off(self, account: Account, market: Market, lots: int, price: Decimal, now_ns: int) -> None:
        held = account.position_lots(market.name)
        lots = min(lots, abs(held))
        if lots == 0:
            return
        side = Side.SELL if held > 0 else Side.BUY
        instrument = market.instrument
        ticks = instrument.ticks_up(price) if side is Side.SELL else instrument.ticks_down(price)
        order_id = next(self._venue.order_ids)
        request = OrderRequest(
            market=market.name,
            external_id=f"liquidation-{order_id}",
            side=side,
            price=instrument.price(max(1, ticks)),
            qty=instrument.size(lots),
            expire_ns=now_ns + NS_PER_S,
            order_type=OrderType.MARKET,
            time_in_force=TimeInForce.IOC,
            self_trade=SelfTrade.DISABLED,
        )
        order = Order(order_id, account.account_id, request, max(1, ticks), lots, now_ns, now_ns)
        order.trade_type = TradeType.LIQUIDATION
        account.register(order)
        self._engine.place(order, now_ns)
