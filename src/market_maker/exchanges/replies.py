"""Decoders of the bodies of Extended's REST replies: what they carry, as values of the port.

Each raises the `VenueError` of a reply that reports one, and `CorruptFrame` for what is not of its shape.
What is of markets that were not given is left out.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

import msgspec

from market_maker.domain import NS_PER_MS
from market_maker.exchanges.envelope import data_reader
from market_maker.exchanges.wire import (
    UNREADABLE,
    ZERO,
    CorruptFrame,
    Unknown,
    WireBalance,
    WireFill,
    WireOrder,
    WirePosition,
    amount,
    balance_report,
    corrupt,
    fill_report,
    lots_of,
    order_report,
    position_report,
)
from market_maker.gateway import (
    Accepted,
    BalanceReport,
    Candle,
    Fees,
    FillReport,
    FundingPayment,
    OrderReport,
    PositionReport,
)
from market_maker.instrument import Instrument, InstrumentError, MarginTier, MarketStatus
from market_maker.public_markets import Listing

Instruments = Mapping[str, Instrument]

_PERCENT: Final = Decimal(100)
_STATUSES: Final = {status.value: status for status in MarketStatus}


class _RiskTier(msgspec.Struct, rename="camel"):
    upper_bound: Decimal
    risk_factor: Decimal


class _TradingConfig(msgspec.Struct, rename="camel"):
    min_order_size: Decimal
    min_order_size_change: Decimal
    min_price_change: Decimal
    max_market_order_value: Decimal
    max_limit_order_value: Decimal
    max_position_value: Decimal
    max_leverage: Decimal
    hourly_funding_rate_cap: Decimal
    max_num_orders: int
    limit_price_cap: Decimal
    limit_price_floor: Decimal
    risk_factor_config: list[_RiskTier] = []


class _Stats(msgspec.Struct, rename="camel"):
    daily_volume: Decimal | None = None
    bid_price: Decimal | None = None
    ask_price: Decimal | None = None
    mark_price: Decimal | None = None


class _Market(msgspec.Struct, rename="camel"):
    name: str
    trading_config: _TradingConfig
    status: str = "ACTIVE"
    type: str = "PERPETUAL"
    active: bool = True
    is_rfq: bool = False
    trading_hours: str = "CONTINUOUS"
    market_stats: _Stats = msgspec.field(default_factory=_Stats)


class _Name(msgspec.Struct):
    name: str = "?"


class _Fee(msgspec.Struct, rename="camel"):
    market: str
    maker_fee_rate: Decimal
    taker_fee_rate: Decimal


class _Leverage(msgspec.Struct):
    market: str
    leverage: Decimal


class _Bar(msgspec.Struct):
    o: Decimal
    h: Decimal
    low: Decimal = msgspec.field(name="l")
    c: Decimal
    time_ms: int = msgspec.field(name="T")


class WirePayment(msgspec.Struct, rename="camel"):
    """A funding payment; `size` is absolute."""

    id: int
    market: str
    side: str
    size: Decimal
    mark_price: Decimal
    funding_fee: Decimal
    funding_rate: Decimal
    paid_time: int


class _Accepted(msgspec.Struct, rename="camel"):
    id: int
    external_id: str


_read_raw_list = data_reader(list[msgspec.Raw], "a list of markets")
_read_orders = data_reader(list[WireOrder], "a list of orders")
read_fills = data_reader(list[WireFill], "a list of trades")
read_positions = data_reader(list[WirePosition], "a list of positions")
_read_balance = data_reader(WireBalance, "a balance")
_read_fees = data_reader(list[_Fee], "a list of fees")
_read_leverage = data_reader(list[_Leverage], "a list of leverages")
_read_bars = data_reader(list[_Bar], "a list of candles")
read_payments = data_reader(list[WirePayment], "a list of funding payments")
_read_accepted = data_reader(_Accepted, "the ids of an accepted order")
_read_market = msgspec.json.Decoder(_Market, strict=False)
_read_name = msgspec.json.Decoder(_Name, strict=False)


def decode_markets(body: bytes, unknown: Unknown) -> dict[str, Listing]:
    """Markets by name. One that cannot be read is left out and counted: the other 398 are not its fault.

    Example::

        {"status":"OK","data":[{"name":"BTC-USD","type":"PERPETUAL","active":true,"isRfq":false,
         "status":"ACTIVE","tradingHours":"CONTINUOUS","marketStats":{"askPrice":"84078","bidPrice":"84077",…},
         "tradingConfig":{"minOrderSize":"0.0001","minOrderSizeChange":"0.00001","minPriceChange":"1",…}}]}
    """
    listings: dict[str, Listing] = {}
    for raw in _read_raw_list(body):
        try:
            listing = _listing(_read_market.decode(raw), unknown)
        except (*UNREADABLE, InstrumentError, CorruptFrame) as error:
            unknown[f"market {_name(raw)}: {error}"] += 1
        else:
            listings[listing.instrument.name] = listing
    return listings


def _name(raw: msgspec.Raw) -> str:
    try:
        return _read_name.decode(raw).name
    except UNREADABLE:
        return "?"


def _listing(wire: _Market, unknown: Unknown) -> Listing:
    if wire.status not in _STATUSES:
        unknown[f"market status {wire.status}"] += 1
    stats = wire.market_stats
    return Listing(
        instrument=_instrument(wire),
        kind=wire.type,
        is_active=wire.active,
        is_rfq=wire.is_rfq,
        trading_hours=wire.trading_hours,
        bid=stats.bid_price,
        ask=stats.ask_price,
        mark=stats.mark_price,
        daily_volume_usd=stats.daily_volume,
    )


def _instrument(wire: _Market) -> Instrument:
    config = wire.trading_config
    return Instrument(
        name=wire.name,
        tick=config.min_price_change,
        step=config.min_order_size_change,
        min_size=config.min_order_size,
        max_limit_order_value=amount(config.max_limit_order_value, "maxLimitOrderValue"),
        max_market_order_value=amount(config.max_market_order_value, "maxMarketOrderValue"),
        max_position_value=amount(config.max_position_value, "maxPositionValue"),
        max_leverage=amount(config.max_leverage, "maxLeverage"),
        max_open_orders=config.max_num_orders,
        price_cap=amount(config.limit_price_cap, "limitPriceCap"),
        price_floor=amount(config.limit_price_floor, "limitPriceFloor"),
        # The wire has it in percent.
        hourly_funding_cap=amount(config.hourly_funding_rate_cap, "hourlyFundingRateCap") / _PERCENT,
        margin_tiers=tuple(
            MarginTier(amount(tier.upper_bound, "upperBound"), amount(tier.risk_factor, "riskFactor"))
            for tier in config.risk_factor_config
        ),
        status=_STATUSES.get(wire.status, MarketStatus.UNKNOWN),
    )


def decode_orders(body: bytes, instruments: Instruments, unknown: Unknown) -> list[OrderReport]:
    """Orders of the account (open ones, a page of the history, or by external id).

    Those in other markets than the given ones are there too, without price and size: they may be of others.

    Example::

        {"status":"OK","data":[{"id":1775511783722512384,"externalId":"2554","market":"ETH-USD","type":"LIMIT",
         "side":"BUY","status":"PARTIALLY_FILLED","price":"3300","qty":"0.2","filledQty":"0.1",
         "reduceOnly":false,"postOnly":true,"createdTime":1701563440000,"updatedTime":1701563440000,
         "timeInForce":"GTT","expireTime":1712754771819}]}
    """
    return [order_report(wire, instruments.get(wire.market), unknown) for wire in _read_orders(body)]


def decode_fills(body: bytes, instruments: Instruments, recv_ns: int, unknown: Unknown) -> list[FillReport]:
    """Matches of the account, newest first as the exchange sends them; REST does not name the external id.

    Example::

        {"status":"OK","data":[{"id":1784963886257016832,"market":"BTC-USD","orderId":9223372036854775808,
         "side":"BUY","price":"58853.0000000000000000","qty":"0.0900000000000000","fee":"0.0000000000000000",
         "tradeType":"TRADE","createdTime":1701563440000,"isTaker":true}],"pagination":{"cursor":1,"count":1}}
    """
    wires = (wire for wire in read_fills(body) if wire.market in instruments)
    return [fill_report(wire, instruments[wire.market], unknown, recv_ns) for wire in wires]


def decode_positions(body: bytes, instruments: Instruments, unknown: Unknown) -> list[PositionReport]:
    """Open positions of the account in the given markets; those in others are counted.

    Example::

        {"status":"OK","data":[{"id":1,"market":"BTC-USD","status":"OPENED","side":"LONG","size":"0.1",
         "openPrice":"39000","markPrice":"40000","liquidationPrice":null,"updatedAt":1701563440000}]}
    """
    reports: list[PositionReport] = []
    for wire in read_positions(body):
        if wire.market in instruments:
            reports.append(position_report(wire, instruments[wire.market], unknown))
        elif wire.size:
            unknown[f"position in {wire.market}, not asked for"] += 1
    return reports


def decode_balance(body: bytes) -> BalanceReport:
    """Money of the account. (With a balance of zero the exchange answers 404 instead.).

    Example::

        {"status":"OK","data":{"balance":"168.513778","equity":"7524.084059","availableForTrade":"5008.437240",
         "initialMargin":"2515.646819","marginRatio":"0.1672","updatedTime":1779030428936}}
    """
    return balance_report(_read_balance(body))


def decode_fees(body: bytes) -> dict[str, Fees]:
    """Fee rates by market.

    Example::

        {"status":"OK","data":[{"market":"BTC-USD","makerFeeRate":"0.00000","takerFeeRate":"0.00025"}]}
    """
    return {
        fee.market: Fees(amount(fee.maker_fee_rate, "maker fee"), amount(fee.taker_fee_rate, "taker fee"))
        for fee in _read_fees(body)
    }


def decode_leverage(body: bytes) -> dict[str, Decimal]:
    """Leverage that the account is set to, by market.

    Example::

        {"status":"OK","data":[{"market":"SOL-USD","leverage":"10"}]}
    """
    leverage = {wire.market: amount(wire.leverage, "leverage") for wire in _read_leverage(body)}
    for value in leverage.values():
        if value <= ZERO:
            raise corrupt("a leverage above 0", value)
    return leverage


def decode_candles(body: bytes) -> list[Candle]:
    """Bars, oldest first (the wire has the newest first).

    Example::

        {"status":"OK","data":[{"o":"65206.2","l":"65206.2","h":"65206.2","c":"65206.2","T":1715797320000}]}
    """
    bars = sorted(_read_bars(body), key=lambda bar: bar.time_ms)
    return [
        Candle(
            bar.time_ms * NS_PER_MS,
            _bar_price(bar.o),
            _bar_price(bar.h),
            _bar_price(bar.low),
            _bar_price(bar.c),
        )
        for bar in bars
    ]


def _bar_price(price: Decimal) -> Decimal:
    if amount(price, "price of a candle") <= ZERO:
        raise corrupt("a positive price of a candle", price)
    return price


def decode_funding_payments(body: bytes, instruments: Instruments) -> list[FundingPayment]:
    """Funding booked on the account, oldest first.

    Whether the wire's `fundingFee` is positive when paid or when received is documented nowhere. The payment
    is −rate × mark × signed size, so the sign is taken from there and the amount from the fee::

        {"status":"OK","data":[{"id":8341,"market":"BNB-USD","side":"LONG","size":"1.116","value":"560.77401888",
         "markPrice":"502.48568","fundingFee":"0.0073","fundingRate":"0.000013","paidTime":1723147241346}]}
    """
    wires = sorted(read_payments(body), key=lambda payment: payment.paid_time)
    return [_payment(wire, instruments[wire.market]) for wire in wires if wire.market in instruments]


def _payment(wire: WirePayment, instrument: Instrument) -> FundingPayment:
    return FundingPayment(
        payment_id=wire.id,
        market=wire.market,
        size_lots=lots_of(instrument, abs(wire.size)) * direction_of(wire.side),
        mark_price=amount(wire.mark_price, "mark price"),
        rate=amount(wire.funding_rate, "funding rate"),
        amount=funding_received(wire),
        venue_ns=wire.paid_time * NS_PER_MS,
    )


def direction_of(side: str) -> int:
    """Sign of a position, 1 or -1."""
    if side not in ("LONG", "SHORT"):
        raise corrupt("position side LONG or SHORT", side)
    return 1 if side == "LONG" else -1


def funding_received(wire: WirePayment) -> Decimal:
    """Amount of a payment, USD: positive when received."""
    fee = abs(amount(wire.funding_fee, "funding fee"))
    rate_times_size = amount(wire.funding_rate, "funding rate") * abs(wire.size) * direction_of(wire.side)
    return fee if rate_times_size < ZERO else -fee


def decode_accepted(body: bytes) -> Accepted:
    """Ids of an order that the exchange took in.

    Example::

        {"status":"OK","data":{"id":1791389621914243072,"externalId":"3109797900059961"}}
    """
    wire = _read_accepted(body)
    return Accepted(wire.id, wire.external_id)
