"""Cross margin: what an account's positions and orders bind, and what an order would cost.

Per market the initial margin is max(|position + buys|, |position − sells|) × rate, the position at the mark
and the orders at their own prices; the rate is 1/leverage, or the tier's if that is higher. The maintenance
margin is half of the tier's rate on the position. Order cost is that of extended-api.md §4.
"""

from collections.abc import Iterable
from decimal import Decimal

from market_maker.domain import Side
from market_maker.emulator.accounts import Account
from market_maker.emulator.market import Market
from market_maker.emulator.orders import Order
from market_maker.emulator.venue import Venue
from market_maker.instrument import Instrument

_ZERO = Decimal(0)
_HALF = Decimal("0.5")


def tier_rate(instrument: Instrument, notional: Decimal) -> Decimal:
    """Return the initial margin rate of the tier that a notional falls into."""
    for tier in instrument.margin_tiers:
        if notional <= tier.upper_bound:
            return tier.initial_margin
    return instrument.margin_tiers[-1].initial_margin if instrument.margin_tiers else _ZERO


def initial_rate(account: Account, instrument: Instrument, notional: Decimal) -> Decimal:
    """Return the account's initial margin rate at a notional."""
    return rate_at(account.leverage_in(instrument.name), instrument, notional)


def rate_at(leverage: Decimal, instrument: Instrument, notional: Decimal) -> Decimal:
    """Return the initial margin rate of a leverage at a notional."""
    return max(1 / leverage, tier_rate(instrument, notional))


def _open_values(orders: Iterable[Order], market: Market) -> tuple[Decimal, Decimal]:
    """Value of what buys, and of what sells, may still fill, USD."""
    buys = sells = 0
    for order in orders:
        tick_lots = order.price_ticks * order.remaining_lots
        if order.side is Side.BUY:
            buys += tick_lots
        else:
            sells += tick_lots
    return market.instrument.value(buys, 1), market.instrument.value(sells, 1)


def market_notional(account: Account, market: Market, spared: Order | None = None) -> Decimal:
    """Return the notional that one market's margin is taken of, USD, as if `spared` were not there."""
    orders = [order for order in account.open_in(market.name) if order is not spared]
    lots = account.position_lots(market.name)
    if not orders and lots == 0:
        return _ZERO
    held = market.instrument.size(lots) * market.mark
    buys, sells = _open_values(orders, market)
    return max(abs(held + buys), abs(held - sells))


def market_margin(account: Account, market: Market, spared: Order | None = None) -> Decimal:
    """Return the initial margin that one market binds, USD, as if `spared` were not there."""
    notional = market_notional(account, market, spared)
    return notional * initial_rate(account, market.instrument, notional)


def initial_margin(venue: Venue, account: Account, spared: Order | None = None) -> Decimal:
    """Return the initial margin of all markets, USD."""
    return sum((market_margin(account, market, spared) for market in venue.markets.values()), _ZERO)


def available_for_trade(venue: Venue, account: Account, spared: Order | None = None) -> Decimal:
    """Equity − initial margin, USD; may be negative."""
    return venue.equity(account) - initial_margin(venue, account, spared)


def maintenance_margin(venue: Venue, account: Account) -> Decimal:
    """Return half the tier's rate on every position at the mark, USD."""
    total = _ZERO
    for name, position in account.positions.items():
        market = venue.markets[name]
        notional = abs(market.instrument.size(position.lots) * market.mark)
        total += notional * tier_rate(market.instrument, notional) * _HALF
    return total


def order_cost(account: Account, market: Market, order: Order, spared: Order | None = None) -> Decimal:
    """Return what an order binds beyond what is bound already, USD.

    Buy: max(IMR × P × (Q + min(0, 2 × (position + Σ open buys))) − open loss, 0) with open loss
    min(Q × (mark − P), 0); sell mirrored.
    """
    instrument = market.instrument
    sign = int(order.side)
    same_side = [o for o in account.open_in(market.name) if o.side is order.side and o is not spared]
    standing = sign * account.position_lots(market.name) + sum(o.remaining_lots for o in same_side)
    lots = order.lots + min(0, 2 * standing)
    price = instrument.price(order.price_ticks)
    held = abs(instrument.size(standing + order.lots)) * price
    rate = initial_rate(account, instrument, held)
    mark = market.mark or price
    open_loss = min(sign * instrument.size(order.lots) * (mark - price), _ZERO)
    return max(rate * price * instrument.size(lots) - open_loss, _ZERO)


def liquidation_price(venue: Venue, account: Account, market: Market) -> Decimal | None:
    """Return the mark at which equity falls to the maintenance margin, all else equal; None without one."""
    lots = account.position_lots(market.name)
    if lots == 0:
        return None
    size = market.instrument.size(lots)
    notional = abs(size * market.mark)
    rate = tier_rate(market.instrument, notional) * _HALF
    others = maintenance_margin(venue, account) - notional * rate
    price = (size * market.mark - venue.equity(account) + others) / (size - rate * abs(size))
    return price if price > 0 else None
