"""The wire: JSON of stream frames, in the shapes of extended-api.md §2.3 and §3.1.

Numbers that matter are strings, instants epoch milliseconds. A book delta, as it goes out:
`{"type":"DELTA","data":{"t":"DELTA","m":"X-USD","b":[{"q":"-0.1","p":"84053","c":"2.9"}],"a":[],"d":"f"},"ts":1,"seq":2}`
"""

from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import msgspec

from market_maker.domain import NS_PER_MS, Side
from market_maker.emulator.orders import PublicTrade
from market_maker.instrument import Instrument

_encode = msgspec.json.Encoder().encode
_TEXTS_KEPT = 4_096
_ZEROS = ("", "0", "", "000000")


def text(value: Decimal) -> str:
    """Decimal as the wire has it, never in scientific notation."""
    return format(value, "f")


def millis(instant_ns: int) -> int:
    """Epoch milliseconds of an instant."""
    return instant_ns // NS_PER_MS


class Scale:
    """Texts of a market's prices and sizes; the last ones used are kept, since a book repeats them."""

    def __init__(self, instrument: Instrument) -> None:
        self.price: Callable[[int], str] = lru_cache(_TEXTS_KEPT)(lambda ticks: text(instrument.price(ticks)))
        self.size: Callable[[int], str] = lru_cache(_TEXTS_KEPT)(lambda lots: text(instrument.size(lots)))

    def price_with_zeros(self, ticks: int) -> str:
        """Price in one of the three spellings that were captured: `84053`, `84052.0`, `84050.000000`."""
        plain = self.price(ticks)
        zeros = _ZEROS[ticks % len(_ZEROS)]
        return plain + zeros if "." in plain or not zeros else f"{plain}.{zeros}"


class Stamp(NamedTuple):
    """Instant and sequence number of a frame."""

    now_ns: int
    seq: int


class _Quantity(msgspec.Struct):
    q: str
    p: str


class _Change(msgspec.Struct):
    q: str
    p: str
    c: str


class _BookData(msgspec.Struct):
    t: str
    m: str
    b: list[_Quantity] | list[_Change]
    a: list[_Quantity] | list[_Change]
    d: str = "f"


class _Frame(msgspec.Struct):
    """Envelope with a type."""

    type: str
    data: object
    ts: int
    seq: int


class _Untyped(msgspec.Struct):
    """Envelope of trades and funding."""

    data: object
    ts: int
    seq: int


class _PriceFrame(msgspec.Struct):
    """Envelope of mark and index prices."""

    type: str
    data: object
    ts: int
    seq: int
    sourceEventId: None = None  # noqa: N815  (the wire's name)


class WireTrade(msgspec.Struct):
    """A public trade."""

    m: str
    S: str
    tT: str  # noqa: N815  (the wire's name)
    T: int
    p: str
    q: str
    i: int


class _WirePrice(msgspec.Struct):
    m: str
    p: str
    ts: int


class WireRate(msgspec.Struct):
    """A funding rate and its instant."""

    m: str
    T: int
    f: str


Level = tuple[int, int]
Change = tuple[int, int, int]
_PRICES = ("MP", "IP")


class Payload(NamedTuple):
    """Data of a frame, encoded once for all readers; `type` is the envelope's, empty where it has none."""

    type: str
    data: msgspec.Raw


def frame(payload: Payload, stamp: Stamp) -> bytes:
    """Put a payload into the envelope of one subscription."""
    now_ms = millis(stamp.now_ns)
    if payload.type in _PRICES:
        return _encode(_PriceFrame(payload.type, payload.data, now_ms, stamp.seq))
    if payload.type:
        return _encode(_Frame(payload.type, payload.data, now_ms, stamp.seq))
    return _encode(_Untyped(payload.data, now_ms, stamp.seq))


def _payload(kind: str, data: object) -> Payload:
    return Payload(kind, msgspec.Raw(_encode(data)))


def book_snapshot(
    market: str, scale: Scale, bids: Iterable[Level], asks: Iterable[Level], *, zeros: bool = False
) -> Payload:
    """Whole book, or its best level a side; levels are (ticks, lots), best first."""
    price = scale.price_with_zeros if zeros else scale.price

    def rows(levels: Iterable[Level]) -> list[_Quantity]:
        return [_Quantity(scale.size(lots), price(ticks)) for ticks, lots in levels]

    return _payload("SNAPSHOT", _BookData("SNAPSHOT", market, rows(bids), rows(asks)))


def book_delta(market: str, scale: Scale, bids: Iterable[Change], asks: Iterable[Change]) -> Payload:
    """Changed levels: (ticks, lots now, change of lots)."""

    def rows(changes: Iterable[Change]) -> list[_Change]:
        return [
            _Change(scale.size(change), scale.price(ticks), scale.size(lots))
            for ticks, lots, change in changes
        ]

    return _payload("DELTA", _BookData("DELTA", market, rows(bids), rows(asks)))


def trade_rows(market: str, scale: Scale, matches: Iterable[PublicTrade]) -> list[WireTrade]:
    """Public trades as the wire has them, in their order."""
    return [
        WireTrade(
            m=market,
            S="BUY" if match.taker_side is Side.BUY else "SELL",
            tT=match.trade_type.value,
            T=millis(match.time_ns),
            p=scale.price(match.price_ticks),
            q=scale.size(match.lots),
            i=match.trade_id,
        )
        for match in matches
    ]


def trades(market: str, scale: Scale, matches: Iterable[PublicTrade]) -> Payload:
    """Public trades of one step, oldest first."""
    return _payload("", trade_rows(market, scale, matches))


def mark(market: str, price: Decimal, now_ns: int) -> Payload:
    """Mark price."""
    return _payload("MP", _WirePrice(market, text(price), millis(now_ns)))


def index(market: str, price: Decimal, now_ns: int) -> Payload:
    """Index price."""
    return _payload("IP", _WirePrice(market, text(price), millis(now_ns)))


def funding(market: str, rate: Decimal, now_ns: int) -> Payload:
    """Funding rate of an hour, a fraction."""
    return _payload("", WireRate(market, millis(now_ns), text(rate)))


def account(kind: str, data: dict[str, object]) -> Payload:
    """Payload of the account stream: ORDER, TRADE, POSITION or BALANCE."""
    return _payload(kind, data)


def ok(data: object = None) -> bytes:
    """Body of a REST reply that succeeded."""
    return _encode({"status": "OK"} if data is None else {"status": "OK", "data": data})


def error(code: int, message: str) -> bytes:
    """Body of a REST reply that refused."""
    return _encode({"status": "ERROR", "error": {"code": code, "message": message}})
