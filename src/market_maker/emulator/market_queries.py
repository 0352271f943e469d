"""Public REST look-ups: wire bytes of what the exchange knows of its markets at this instant."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from market_maker.domain import NS_PER_MS, NS_PER_S, Side
from market_maker.emulator import frames
from market_maker.emulator.frames import millis, text
from market_maker.emulator.market import Bar, Market, MinuteBars
from market_maker.emulator.pages import WHOLE, Page, page_body
from market_maker.emulator.settlement import (
    COLLATERAL_ID,
    COLLATERAL_RESOLUTION,
    L2Config,
    asset_of,
    decimals,
    l2_config,
)
from market_maker.emulator.venue import Venue
from market_maker.emulator.wire import Wire
from market_maker.instrument import Instrument, MarketStatus

TRADE_CANDLES: Final = "trades"
MARK_CANDLES: Final = "mark-prices"
INDEX_CANDLES: Final = "index-prices"
CANDLE_KINDS: Final = (TRADE_CANDLES, MARK_CANDLES, INDEX_CANDLES)

_LISTED_MS: Final = 1_752_829_532_673
_PERCENT: Final = Decimal(100)
_MINUTE_NS: Final = 60 * NS_PER_S
_MOST_MINUTES: Final = 10_000
_ZERO: Final = Decimal(0)


class CandleShape(NamedTuple):
    """What a candle is of and how long, and the instant that none of them opens after; None: now."""

    kind: str = TRADE_CANDLES
    minutes: int = 1
    end_ns: int | None = None


ONE_MINUTE: Final = CandleShape()


class MarketQueries:
    """Answers public look-ups; each method gives the body of a reply with HTTP status 200.

    Those that take the name of a market raise KeyError where there is none of that name.
    """

    def __init__(self, venue: Venue, wire: Wire) -> None:
        self._venue = venue
        self._wire = wire

    def instruments(self, markets: Sequence[str] = ()) -> bytes:
        """Markets by name, unknown ones left out; all where none is named."""
        return frames.ok([self._market(self._venue.markets[name]) for name in self._known(markets)])

    def stats(self, market: str) -> bytes:
        """Statistics of a market."""
        return frames.ok(self._stats(self._venue.markets[market]))

    def order_book(self, market: str) -> bytes:
        """Whole book of a market, best prices first, with the long keys that it has on REST."""
        book, scale = self._venue.markets[market].book, self._wire.scales[market]

        def rows(side: Side) -> list[dict[str, str]]:
            return [
                {"qty": scale.size(lots), "price": scale.price(ticks)} for ticks, lots in book.levels(side)
            ]

        return frames.ok({"market": market, "bid": rows(Side.BUY), "ask": rows(Side.SELL)})

    def recent_trades(self, market: str) -> bytes:
        """Last public trades, newest first."""
        newest_first = reversed(self._venue.markets[market].recent_trades)
        return frames.ok(frames.trade_rows(market, self._wire.scales[market], newest_first))

    def candles(self, market: str, count: int, now_ns: int, shape: CandleShape = ONE_MINUTE) -> bytes:
        """Last closed candles, newest first; the volume is known of trades only."""
        state = self._venue.markets[market]
        end_ns = now_ns if shape.end_ns is None else min(now_ns, shape.end_ns + 1)
        spared = (now_ns - end_ns) // _MINUTE_NS + (shape.minutes - 1 if shape.minutes > 1 else 0)
        needed = min(count * shape.minutes + spared, _MOST_MINUTES)
        whole = [
            bar for bar in _grouped(_bars(state, shape.kind, needed, now_ns), shape) if bar.open_ns < end_ns
        ]
        return frames.ok([_candle(state, shape.kind, bar) for bar in reversed(whole[-count:])])

    def candle_frame(self, market: str, shape: CandleShape, now_ns: int, seq: int) -> bytes:
        """Frame of a candle stream: the candle that is forming; no row where nothing is known of it."""
        state = self._venue.markets[market]
        length_ns = shape.minutes * _MINUTE_NS
        known = _bars(state, shape.kind, shape.minutes, now_ns) + _minute_bars(state, shape.kind).forming
        forming = [bar for bar in known if bar.open_ns // length_ns == now_ns // length_ns]
        rows = [_candle(state, shape.kind, _folded(forming))] if forming else []
        return msgspec.json.encode({"data": rows, "ts": millis(now_ns), "seq": seq})

    def funding_rates(self, market: str, start_ns: int, end_ns: int, page: Page = WHOLE) -> bytes:
        """Rates that were paid between two instants, newest first; the cursor is the instant in ms."""
        rates = reversed(self._venue.markets[market].applied_rates)
        wanted = (pair for pair in rates if start_ns <= pair[0] <= end_ns)
        rows = (frames.WireRate(market, millis(at_ns), text(rate)) for at_ns, rate in wanted)
        return page_body(rows, lambda row: row.T, page)

    def open_interest(self, market: str, now_ns: int) -> bytes:
        """Open interest of the accounts; only the present one is known, so there is one row."""
        state = self._venue.markets[market]
        size = self._open_size(state)
        value = text(size * state.mark)
        return frames.ok([{"i": value, "I": text(size), "t": now_ns // NS_PER_MS}])

    def assets(self) -> bytes:
        """Collateral and base assets."""
        rows = [_asset(1, "USD", L2Config(COLLATERAL_ID, COLLATERAL_RESOLUTION), is_collateral=True)]
        for number, market in enumerate(self._venue.markets.values(), start=2):
            config = l2_config(market.instrument)
            rows.append(_asset(number, asset_of(market.name), config, is_collateral=False))
        return frames.ok(rows)

    def _market(self, market: Market) -> dict[str, object]:
        active = market.status in (MarketStatus.ACTIVE, MarketStatus.REDUCE_ONLY)
        config = l2_config(market.instrument)
        return {
            "name": market.name,
            "type": "PERPETUAL",
            "uiName": market.name,
            "category": "Crypto",
            "subCategory": "L1",
            "assetName": asset_of(market.name),
            "assetPrecision": decimals(market.instrument.step),
            "collateralAssetName": "USD",
            "collateralAssetPrecision": 6,
            "description": asset_of(market.name),
            "active": active,
            "isRfq": False,
            "isOffHours": False,
            "status": market.status.value,
            "tradingHours": "CONTINUOUS",
            "marketStats": self._stats(market),
            "tradingConfig": _trading_config(market.instrument),
            "l2Config": {
                "type": "STARKX",
                "collateralId": config.collateral_id,
                "syntheticId": config.synthetic_id,
                "syntheticResolution": config.synthetic_resolution,
                "collateralResolution": config.collateral_resolution,
            },
            "visibleOnUi": True,
            "referenceMarket": "null",
            "createdAt": _LISTED_MS,
        }

    def _stats(self, market: Market) -> dict[str, object]:
        price = market.instrument.price
        bid, ask = market.book.best_ticks(Side.BUY), market.book.best_ticks(Side.SELL)
        volume = market.instrument.size(market.traded_lots)
        open_size = self._open_size(market)
        last = text(price(market.last_ticks))
        return {
            "dailyVolume": text(volume * market.mark),
            "dailyVolumeBase": text(volume),
            "dailyPriceChange": "0",
            "dailyPriceChangePercentage": "0",
            "dailyLow": last,
            "dailyHigh": last,
            "lastPrice": last,
            "askPrice": text(price(ask or 0)),
            "bidPrice": text(price(bid or 0)),
            "markPrice": text(market.mark),
            "indexPrice": text(market.index),
            "fundingRate": text(market.funding.rate()),
            "nextFundingRate": millis(market.next_funding_ns),
            "openInterest": text(open_size * market.mark),
            "openInterestBase": text(open_size),
            "deleverageLevels": {"shortPositions": [], "longPositions": []},
        }

    def _known(self, markets: Sequence[str]) -> list[str]:
        known = self._venue.markets
        return [name for name in markets or known if name in known]

    def _open_size(self, market: Market) -> Decimal:
        lots = sum(abs(account.position_lots(market.name)) for account in self._venue.accounts.values())
        return market.instrument.size(lots)


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
            {
                "upperBound": text(tier.upper_bound),
                "riskFactor": text(tier.initial_margin),
                "isAvailableForUsers": True,
            }
            for tier in instrument.margin_tiers
        ],
        "uPnlWithdrawable": True,
        "postWithdrawalMarginFactor": "0.1",
    }


def _asset(number: int, name: str, config: L2Config, *, is_collateral: bool) -> dict[str, object]:
    resolution = config.synthetic_resolution
    return {
        "id": number,
        "name": name,
        "symbol": name,
        "precision": len(str(resolution)) - 1,
        "isActive": True,
        "isCollateral": is_collateral,
        "starkexId": config.synthetic_id,
        "starkexResolution": resolution,
        "l1Id": "0x0",
        "l1Resolution": resolution,
        "version": 1,
        "type": "PERPETUAL",
        "canBeUsedAsCollateral": is_collateral,
    }


def _bars(market: Market, kind: str, count: int, now_ns: int) -> list[Bar]:
    if kind == TRADE_CANDLES:
        return market.last_bars(count, now_ns)
    return market.last_price_bars(_minute_bars(market, kind), count, now_ns)


def _minute_bars(market: Market, kind: str) -> MinuteBars:
    if kind == TRADE_CANDLES:
        return market.bars
    return market.mark_bars if kind == MARK_CANDLES else market.index_bars


def _grouped(bars: Sequence[Bar], shape: CandleShape) -> list[Bar]:
    """Bars of the shape's length; one that is not whole, at either end of what is known, is left out."""
    length_ns = shape.minutes * _MINUTE_NS
    groups = (list(group) for _, group in groupby(bars, lambda bar: bar.open_ns // length_ns))
    return [_folded(group) for group in groups if len(group) == shape.minutes]


def _folded(bars: Sequence[Bar]) -> Bar:
    return Bar(
        open_ns=bars[0].open_ns,
        open_ticks=bars[0].open_ticks,
        high_ticks=max(bar.high_ticks for bar in bars),
        low_ticks=min(bar.low_ticks for bar in bars),
        close_ticks=bars[-1].close_ticks,
        lots=sum(bar.lots for bar in bars),
    )


def _candle(market: Market, kind: str, bar: Bar) -> dict[str, object]:
    unit = market.instrument.tick if kind == TRADE_CANDLES else market.mark_unit
    row: dict[str, object] = {
        "o": text(unit * bar.open_ticks),
        "l": text(unit * bar.low_ticks),
        "h": text(unit * bar.high_ticks),
        "c": text(unit * bar.close_ticks),
        "T": millis(bar.open_ns),
    }
    if kind == TRADE_CANDLES:
        row["v"] = text(market.instrument.size(bar.lots))
    return row
