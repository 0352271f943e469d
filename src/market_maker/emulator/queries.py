"""REST look-ups: wire bytes of what the exchange knows at this instant. The caller adds the latency.

What the API accepted but the matching engine has not seen yet is not found: a look-up right after a
time-out proves nothing.
"""

from collections.abc import Sequence
from decimal import Decimal

from market_maker.domain import Side
from market_maker.emulator import frames
from market_maker.emulator.frames import millis, text
from market_maker.emulator.market import Market
from market_maker.emulator.venue import Venue
from market_maker.emulator.wire import Wire
from market_maker.instrument import Instrument, MarketStatus

_PERCENT = Decimal(100)


class Queries:
    """Answers look-ups; each method gives the body of a reply with HTTP status 200."""

    def __init__(self, venue: Venue, wire: Wire) -> None:
        self._venue = venue
        self._wire = wire

    def open_orders(self, account_id: int) -> bytes:
        """Orders that rest."""
        orders = self._venue.accounts[account_id].open.values()
        return frames.ok([self._wire.order(order) for order in orders if order.in_engine])

    def order_by_external_id(self, account_id: int, external_id: str) -> bytes:
        """List of the order with an external id, open or ended; empty where there is none (or not yet)."""
        order = self._venue.accounts[account_id].by_external.get(external_id)
        known = order is not None and (order.in_engine or not order.is_open)
        return frames.ok([self._wire.order(order)] if order is not None and known else [])

    def trades(self, account_id: int, since_ns: int = 0) -> bytes:
        """Matches of the account since an instant, newest first as the API has them, without external ids."""
        account = self._venue.accounts[account_id]
        recent = [trade for trade in reversed(account.trades) if trade.time_ns >= since_ns]
        return frames.ok([self._wire.trade(account_id, trade, on_stream=False) for trade in recent])

    def positions(self, account_id: int) -> bytes:
        """Positions that are not flat."""
        account = self._venue.accounts[account_id]
        held = [position for position in account.positions.values() if position.lots]
        return frames.ok([self._wire.position(account, position) for position in held])

    def balance(self, account_id: int, now_ns: int) -> bytes:
        """The account's money."""
        return frames.ok(self._wire.balance(self._venue.accounts[account_id], now_ns))

    def funding_payments(self, account_id: int, since_ns: int = 0) -> bytes:
        """Funding booked since an instant, newest first."""
        account = self._venue.accounts[account_id]
        recent = [payment for payment in reversed(account.payments) if payment.time_ns >= since_ns]
        return frames.ok([self._wire.payment(account_id, payment) for payment in recent])

    def candles(self, market: str, count: int, now_ns: int) -> bytes:
        """Last closed one-minute bars, newest first.

        Raises
        ------
        KeyError
            If there is no such market.
        """
        state = self._venue.markets[market]
        scale = self._wire.scales[market]
        rows = [
            {
                "o": scale.price(bar.open_ticks),
                "l": scale.price(bar.low_ticks),
                "h": scale.price(bar.high_ticks),
                "c": scale.price(bar.close_ticks),
                "v": scale.size(bar.lots),
                "T": millis(bar.open_ns),
            }
            for bar in reversed(state.last_bars(count, now_ns))
        ]
        return frames.ok(rows)

    def fees(self, account_id: int, markets: Sequence[str] = ()) -> bytes:
        """Fee rates of the account in the named markets; in all where none is named."""
        account = self._venue.accounts[account_id]
        rates = {
            "makerFeeRate": text(account.maker_fee),
            "takerFeeRate": text(account.taker_fee),
            "builderFeeRate": "0",
        }
        return frames.ok([{"market": name, **rates} for name in markets or self._venue.markets])

    def leverage(self, account_id: int, markets: Sequence[str] = ()) -> bytes:
        """Leverage of the account in the named markets; in all where none is named."""
        account = self._venue.accounts[account_id]
        names = markets or self._venue.markets
        return frames.ok([{"market": name, "leverage": text(account.leverage_in(name))} for name in names])

    def instruments(self, markets: Sequence[str] = ()) -> bytes:
        """Markets by name, unknown ones left out; all where none is named."""
        known = self._venue.markets
        return frames.ok([_market(known[name]) for name in markets or known if name in known])


def _market(market: Market) -> dict[str, object]:
    active = market.status in (MarketStatus.ACTIVE, MarketStatus.REDUCE_ONLY)
    asset = market.name.split("-")[0]
    return {
        "name": market.name,
        "type": "PERPETUAL",
        "uiName": market.name,
        "category": "Crypto",
        "assetName": asset,
        "assetPrecision": _digits(market.instrument.step),
        "collateralAssetName": "USD",
        "collateralAssetPrecision": 6,
        "active": active,
        "isRfq": False,
        "isOffHours": False,
        "status": market.status.value,
        "tradingHours": "CONTINUOUS",
        "marketStats": _stats(market),
        "tradingConfig": _trading_config(market.instrument),
        "l2Config": {
            "type": "STARKX",
            "collateralId": "0x1",
            "syntheticId": "0x" + asset.encode().hex(),
            "syntheticResolution": 10 ** _digits(market.instrument.step),
            "collateralResolution": 1_000_000,
        },
        "visibleOnUi": True,
    }


def _stats(market: Market) -> dict[str, object]:
    price = market.instrument.price
    bid, ask = market.book.best_ticks(Side.BUY), market.book.best_ticks(Side.SELL)
    volume = market.instrument.size(market.traded_lots)
    last = text(price(market.last_ticks))
    return {
        "dailyVolume": text(volume * market.mark),
        "dailyVolumeBase": text(volume),
        "dailyPriceChange": "0",
        "dailyLow": last,
        "dailyHigh": last,
        "lastPrice": last,
        "askPrice": text(price(ask or 0)),
        "bidPrice": text(price(bid or 0)),
        "markPrice": text(market.mark),
        "indexPrice": text(market.index),
        "fundingRate": text(market.funding.rate()),
        "nextFundingRate": millis(market.next_funding_ns),
        "openInterest": "0",
        "openInterestBase": "0",
        "deleverageLevels": {"shortPositions": [], "longPositions": []},
    }


def _trading_config(instrument: Instrument) -> dict[str, object]:
    return {
        "minOrderSize": text(instrument.min_size),
        "minOrderSizeChange": text(instrument.step),
        "minPriceChange": text(instrument.tick),
        "maxMarketOrderValue": text(instrument.max_market_order_value),
        "maxLimitOrderValue": text(instrument.max_limit_order_value),
        "maxPositionValue": text(instrument.max_position_value),
        "maxLeverage": text(instrument.max_leverage),
        # In percent on the wire (extended-api.md §6), a fraction here.
        "hourlyFundingRateCap": text(instrument.hourly_funding_cap * _PERCENT),
        "openInterestLimit": "0",
        "maxNumOrders": str(instrument.max_open_orders),
        "limitPriceCap": text(instrument.price_cap),
        "limitPriceFloor": text(instrument.price_floor),
        "riskFactorConfig": [
            {"upperBound": text(tier.upper_bound), "riskFactor": text(tier.initial_margin)}
            for tier in instrument.margin_tiers
        ],
    }


def _digits(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
