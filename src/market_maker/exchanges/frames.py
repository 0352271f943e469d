"""Decoders of Extended's stream frames: bytes in, integers of the vocabulary out.

Book frames are the hot path: their levels are read as floats, few by `levels.py`, many by `level_scanner.py`,
and once more in Decimal where that can not tell. Levels are keyed by ticks, because one price arrives as
"84050" and "84050.000000".
"""

from collections.abc import Mapping
from decimal import Decimal
from itertools import compress, product
from typing import Final, NamedTuple

import msgspec

from market_maker.domain import NS_PER_MS, BookUpdate, Trade
from market_maker.exchanges.level_scanner import scan_levels
from market_maker.exchanges.levels import ExactLevel, Level, exact_levels, fast_levels
from market_maker.exchanges.wire import (
    CorruptFrame,
    Millis,
    Unknown,
    WireBalance,
    WireFill,
    WireOrder,
    WirePosition,
    amount,
    balance_report,
    check_market,
    corrupt,
    fill_report,
    frame_reader,
    lots_of,
    order_report,
    position_report,
    side_of,
    ticks_of,
    traded_price,
)
from market_maker.gateway import AccountEvent, FundingRate
from market_maker.instrument import Instrument

_WHOLE_BOOK_BYTES: Final = 2_000
_ACCOUNT_KINDS: Final = ("ORDER", "TRADE", "POSITION", "BALANCE")
_NONE: Final[frozenset[str]] = frozenset()
# The kinds of a frame, by which of them it speaks of.
_KINDS: Final = {
    said: frozenset(compress(_ACCOUNT_KINDS, said))
    for said in product((False, True), repeat=len(_ACCOUNT_KINDS))
}


class _Book(msgspec.Struct, gc=False):
    t: str
    m: str
    b: list[Level] = []
    a: list[Level] = []


class _BookFrame(msgspec.Struct, gc=False):
    data: _Book
    ts: Millis
    seq: int


class _WholeBook(msgspec.Struct, gc=False):
    t: str
    m: str
    b: msgspec.Raw = msgspec.Raw(b"[]")
    a: msgspec.Raw = msgspec.Raw(b"[]")


class _WholeBookFrame(msgspec.Struct, gc=False):
    data: _WholeBook
    ts: Millis
    seq: int


class _ExactBook(msgspec.Struct, gc=False):
    b: list[ExactLevel] = []
    a: list[ExactLevel] = []


class _ExactBookFrame(msgspec.Struct, gc=False):
    data: _ExactBook


class _Trade(msgspec.Struct, gc=False):
    """A public trade; `S` is the taker's side."""

    i: int
    m: str
    side: str = msgspec.field(name="S")
    time_ms: Millis = msgspec.field(name="T")
    p: Decimal
    q: Decimal
    kind: str = msgspec.field(name="tT", default="TRADE")


class _TradesFrame(msgspec.Struct, gc=False):
    data: list[_Trade]


class _Funding(msgspec.Struct, gc=False):
    m: str
    f: Decimal
    time_ms: Millis = msgspec.field(name="T")


class _FundingFrame(msgspec.Struct, gc=False):
    data: _Funding


class _AccountData(msgspec.Struct, rename="camel", gc=False):
    is_snapshot: bool = False
    orders: list[WireOrder] | None = None
    trades: list[WireFill] | None = None
    positions: list[WirePosition] | None = None
    balance: WireBalance | None = None


class _AccountWire(msgspec.Struct, gc=False):
    data: _AccountData
    ts: Millis
    seq: int


_read_book = frame_reader(_BookFrame, "a book frame")
_read_whole_book = frame_reader(_WholeBookFrame, "a book frame")
_read_exact_book = frame_reader(_ExactBookFrame, "a book frame")
_read_trades = frame_reader(_TradesFrame, "a trades frame")
_read_funding = frame_reader(_FundingFrame, "a funding frame")
_read_account = frame_reader(_AccountWire, "an account frame")


def decode_book(frame: bytes, instrument: Instrument, recv_ns: int) -> BookUpdate:
    """Snapshot or delta of an order book.

    A snapshot's `q` is the absolute size; a delta's `q` is the change and `c` the absolute size. An empty
    delta is a frame like any other: it has a place in the sequence::

        {"type":"DELTA","data":{"t":"DELTA","m":"BTC-USD","b":[{"q":"0.00118","p":"84074","c":"0.00118"}],
         "a":[{"q":"-0.26796","p":"84078.000000","c":"2.54894"}],"d":"f"},"ts":1790425441925,"seq":2}

    Raises
    ------
    CorruptFrame
        If the frame is not JSON of this shape, is of another market, or a number is off the grid or negative.
    """
    if len(frame) >= _WHOLE_BOOK_BYTES:
        update = _decode_whole_book(frame, instrument, recv_ns)
        if update is not None:
            return update
    wire = _read_book(frame)
    data = wire.data
    is_snapshot = _is_snapshot(data.t, data.m, instrument)
    tick, step = float(instrument.tick), float(instrument.step)
    bids = fast_levels(data.b, tick, step, is_snapshot=is_snapshot)
    asks = fast_levels(data.a, tick, step, is_snapshot=is_snapshot)
    if bids is None or asks is None:
        exact = _read_exact_book(frame).data
        bids = exact_levels(exact.b, instrument, is_snapshot=is_snapshot)
        asks = exact_levels(exact.a, instrument, is_snapshot=is_snapshot)
    return BookUpdate(data.m, is_snapshot, bids, asks, wire.seq, wire.ts * NS_PER_MS, recv_ns)


def _decode_whole_book(frame: bytes, instrument: Instrument, recv_ns: int) -> BookUpdate | None:
    """Many levels at once, or None where something in them takes the other way."""
    wire = _read_whole_book(frame)
    data = wire.data
    is_snapshot = _is_snapshot(data.t, data.m, instrument)
    tick, step = float(instrument.tick), float(instrument.step)
    bids = scan_levels(data.b, tick, step, is_snapshot=is_snapshot)
    asks = scan_levels(data.a, tick, step, is_snapshot=is_snapshot)
    if bids is None or asks is None:
        return None
    return BookUpdate(data.m, is_snapshot, bids, asks, wire.seq, wire.ts * NS_PER_MS, recv_ns)


def _is_snapshot(kind: str, market: str, instrument: Instrument) -> bool:
    if market != instrument.name or kind not in ("SNAPSHOT", "DELTA"):
        raise corrupt(f"SNAPSHOT or DELTA of {instrument.name}", f"{kind} of {market}")
    return kind == "SNAPSHOT"


def decode_trades(frame: bytes, instrument: Instrument, recv_ns: int) -> list[Trade]:
    """Public trades of a market; liquidations and deleveragings are trades too, at the nearest tick.

    Example::

        {"data":[{"m":"BTC-USD","S":"SELL","tT":"TRADE","T":1728478935001,"p":"61998.0","q":"0.04839",
         "i":1844000421446684673}],"ts":1728478935001,"seq":5}
    """
    return [_trade(wire, instrument, recv_ns) for wire in _read_trades(frame).data]


def _trade(wire: _Trade, instrument: Instrument, recv_ns: int) -> Trade:
    """Public trade in ticks and lots."""
    check_market(wire.m, instrument)
    return Trade(
        market=wire.m,
        trade_id=wire.i,
        taker_side=side_of(wire.side),
        price_ticks=ticks_of(instrument, traded_price(instrument, wire.p, wire.kind)),
        size_lots=lots_of(instrument, wire.q),
        venue_ns=wire.time_ms * NS_PER_MS,
        recv_ns=recv_ns,
    )


def decode_funding(frame: bytes, instrument: Instrument) -> FundingRate:
    """Funding rate of one hour, a fraction; positive: longs pay.

    Example::

        {"data":{"m":"BTC-USD","T":1701563440000,"f":"0.000013"},"ts":1701563440000,"seq":2}
    """
    wire = _read_funding(frame)
    check_market(wire.data.m, instrument)
    rate = amount(wire.data.f, "funding rate")
    return FundingRate(wire.data.m, rate, wire.data.time_ms * NS_PER_MS)


class AccountFrame(NamedTuple):
    """One frame of the account stream.

    Parameters
    ----------
    events : list of AccountEvent
        Orders, then fills, positions, balance.
    kinds : frozenset of str
        Which of ORDER, TRADE, POSITION, BALANCE the frame speaks of. With `is_snapshot` what is not listed
        under a kind does not exist: an empty POSITION snapshot says that the account is flat.
    seq : int
        Place in the sequence, one more than the frame before.
    other_markets : frozenset of str
        Markets that the account has something in and that we were not given: their events are left out.
    """

    events: list[AccountEvent]
    kinds: frozenset[str]
    is_snapshot: bool
    seq: int
    venue_ns: int
    other_markets: frozenset[str] = _NONE


def decode_account(
    frame: bytes, instruments: Mapping[str, Instrument], recv_ns: int, unknown: Unknown
) -> AccountFrame:
    """Orders, fills, positions and balance of the account, in any mixture.

    Example::

        {"type":"POSITION","data":{"isSnapshot":true,"positions":[]},"ts":1763797802075,"seq":3}

    Other kinds (SPOT_BALANCE, DEPOSIT, …) give a frame without events, that has its place in the sequence.

    Raises
    ------
    CorruptFrame
        If the frame is not JSON of this shape, or a number of it is off the grid.
    """
    wire = _read_account(frame)
    data = wire.data
    orders, trades, positions, balance = data.orders, data.trades, data.positions, data.balance
    known = instruments.get
    events: list[AccountEvent] = []
    if orders:
        events += [order_report(it, market, unknown) for it in orders if (market := known(it.market))]
    if trades:
        events += [fill_report(it, market, unknown, recv_ns) for it in trades if (market := known(it.market))]
    if positions:
        events += [position_report(it, market, unknown) for it in positions if (market := known(it.market))]
    told = len(orders or ()) + len(trades or ()) + len(positions or ())
    others = _NONE if len(events) == told else _other_markets(data, instruments)
    if balance is not None:
        events.append(balance_report(balance))
    kinds = _KINDS[orders is not None, trades is not None, positions is not None, balance is not None]
    return AccountFrame(events, kinds, data.is_snapshot, wire.seq, wire.ts * NS_PER_MS, others)


def _other_markets(data: _AccountData, instruments: Mapping[str, Instrument]) -> frozenset[str]:
    items: list[WireOrder | WireFill | WirePosition] = [
        *(data.orders or ()),
        *(data.trades or ()),
        *(data.positions or ()),
    ]
    return frozenset(item.market for item in items if item.market not in instruments)


__all__ = [
    "AccountFrame",
    "CorruptFrame",
    "Unknown",
    "decode_account",
    "decode_book",
    "decode_funding",
    "decode_trades",
]
