"""Decoders of the small frames beside the book: best quote, mark and index price, and what every frame has.

They come up to a hundred times a second and hold a handful of numbers, so they are read in Decimal, exactly.
"""

from collections.abc import Container
from decimal import Decimal

import msgspec

from market_maker.domain import NS_PER_MS, BestQuote
from market_maker.exchanges.wire import (
    CorruptFrame,
    Millis,
    amount,
    check_market,
    corrupt,
    frame_reader,
    lots_of,
    ticks_of,
)
from market_maker.gateway import IndexPrice, MarkPrice
from market_maker.instrument import Instrument


class Envelope(msgspec.Struct, gc=False):
    """What every frame carries, whatever it says: its type where it has one, instant (ms) and number.

    A frame without a number has `seq` 0: its stream can not be checked for gaps.
    """

    type: str | None = None
    ts: int = 0
    seq: int = 0


class _Level(msgspec.Struct, gc=False):
    p: Decimal
    q: Decimal


class _Quote(msgspec.Struct, gc=False):
    t: str
    m: str
    b: list[_Level] = []
    a: list[_Level] = []


class _QuoteFrame(msgspec.Struct, gc=False):
    data: _Quote
    ts: Millis


class _Price(msgspec.Struct, gc=False):
    m: str
    p: Decimal
    ts: Millis = 0


class _PriceFrame(msgspec.Struct, gc=False):
    data: _Price
    ts: Millis


read_envelope = frame_reader(Envelope, "a frame with a type and a number")
_read_quote = frame_reader(_QuoteFrame, "a best quote frame")
_read_price = frame_reader(_PriceFrame, "a price frame")


def foreign_envelope(frame: bytes, types: Container[str]) -> Envelope | None:
    """Envelope of a frame that could not be decoded, if it is none of the types that we know.

    A new type is no reason to trust the stream less, and the frame has its place in the sequence. None where
    the frame has a known type, or no type: then it is corrupt.
    """
    try:
        envelope = read_envelope(frame)
    except CorruptFrame:
        return None
    return envelope if envelope.type and envelope.type not in types else None


def decode_bbo(frame: bytes, instrument: Instrument, recv_ns: int) -> BestQuote:
    """Best quote of a market: a book frame of depth 1, which is always a snapshot.

    A side may be empty. Of several levels the best counts::

        {"type":"SNAPSHOT","data":{"t":"SNAPSHOT","m":"BTC-USD","b":[{"q":"0.00118","p":"84050.000000"}],
         "a":[{"q":"1.2","p":"84051"}],"d":"1"},"ts":1790425441925,"seq":41}

    Raises
    ------
    CorruptFrame
        If the frame is not JSON of this shape, is no snapshot, is of another market, or a number is off the
        grid or negative.
    """
    wire = _read_quote(frame)
    data = wire.data
    check_market(data.m, instrument)
    if data.t != "SNAPSHOT":
        raise corrupt(f"SNAPSHOT of the best quote of {instrument.name}", data.t)
    bid_ticks, bid_lots = max(_levels(data.b, instrument), default=(0, 0))
    ask_ticks, ask_lots = min(_levels(data.a, instrument), default=(0, 0))
    return BestQuote(data.m, bid_ticks, bid_lots, ask_ticks, ask_lots, wire.ts * NS_PER_MS, recv_ns)


def _levels(levels: list[_Level], instrument: Instrument) -> list[tuple[int, int]]:
    found = [(ticks_of(instrument, level.p), lots_of(instrument, level.q)) for level in levels]
    return [level for level in found if level[1]]


def decode_mark(frame: bytes, instrument: Instrument) -> MarkPrice:
    """Mark price; it lies off the tick grid.

    Example::

        {"type":"MP","data":{"m":"BTC-USD","p":"84058.473541750005","ts":1790425441925},
         "ts":1790425441930,"seq":1,"sourceEventId":null}

    Raises
    ------
    CorruptFrame
        If the frame is not JSON of this shape, is of another market, or the price is not positive.
    """
    return MarkPrice(instrument.name, *_price(frame, instrument, "mark price"))


def decode_index(frame: bytes, instrument: Instrument) -> IndexPrice:
    """Index price, of the same shape (`"type":"IP"`), and refused for the same reasons."""
    return IndexPrice(instrument.name, *_price(frame, instrument, "index price"))


def _price(frame: bytes, instrument: Instrument, what: str) -> tuple[Decimal, int]:
    wire = _read_price(frame)
    check_market(wire.data.m, instrument)
    price = amount(wire.data.p, what)
    if price <= 0:
        raise corrupt(f"a positive {what} of {instrument.name}", price)
    return price, (wire.data.ts or wire.ts) * NS_PER_MS
