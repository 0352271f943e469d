"""Streams: who is subscribed, sequence numbers, the cadence of book frames, and outputs on their way.

A stream delivers in order. Subscribing anew restarts it with sequence number 1 and a snapshot, and what was
still under way on the old one is lost, as on a closed connection. Nothing is encoded where nobody listens.
"""

import heapq
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from market_maker.domain import NS_PER_MS, Side
from market_maker.emulator import frames
from market_maker.emulator.accounts import Account
from market_maker.emulator.changes import AccountChanges
from market_maker.emulator.frames import Scale, Stamp
from market_maker.emulator.market import Market
from market_maker.emulator.orders import PublicTrade
from market_maker.emulator.rules import ExchangeRules
from market_maker.emulator.venue import Venue
from market_maker.emulator.wire import Wire


class OrderIds(NamedTuple):
    """Data of the reply to an accepted order."""

    id: int
    external_id: str


class Reply(NamedTuple):
    """REST answer to a request: `code` is 0 and `data` set (for an order) on success; `frame` is the body."""

    ticket: int
    due_ns: int
    http_status: int
    code: int
    message: str
    data: OrderIds | None
    frame: bytes


class AccountFrame(NamedTuple):
    """Frame of an account stream: ORDER, TRADE, POSITION or BALANCE."""

    account_id: int
    due_ns: int
    kind: str
    frame: bytes


class MarketFrame(NamedTuple):
    """Frame of a market's stream: book, trades, mark or funding, each with its own sequence."""

    market: str
    due_ns: int
    kind: str
    frame: bytes


Output = Reply | AccountFrame | MarketFrame


class Stream:
    """One connection's sequence and its earliest next delivery."""

    def __init__(self) -> None:
        self.is_open = False
        self.epoch = 0
        self.seq = 0
        self.due_ns = 0

    def restart(self) -> None:
        """Open it anew."""
        self.is_open = True
        self.epoch += 1
        self.seq = 0

    def close(self) -> None:
        """Close it; what is under way is lost."""
        self.is_open = False
        self.epoch += 1


class Outbox:
    """Outputs in order of their due instants."""

    def __init__(self, rules: ExchangeRules, rng: np.random.Generator) -> None:
        self._delay = rules.latency.stream
        self._rng = rng
        self._heap: list[tuple[int, int, Output, Stream | None, int]] = []
        self._count = 0

    def reply(self, reply: Reply) -> None:
        """Queue a REST answer."""
        self._push(reply, None)

    def due_after(self, stream: Stream, now_ns: int) -> int:
        """Draw the instant at which a stream delivers what happens now, and bind its later frames to it."""
        stream.due_ns = max(stream.due_ns, now_ns + self._delay.draw_ns(self._rng))
        return stream.due_ns

    def frame(self, stream: Stream, output: AccountFrame | MarketFrame) -> None:
        """Queue a stream's frame."""
        self._push(output, stream)

    def _push(self, output: Output, stream: Stream | None) -> None:
        self._count += 1
        epoch = stream.epoch if stream else 0
        heapq.heappush(self._heap, (output.due_ns, self._count, output, stream, epoch))

    def next_due_ns(self) -> int | None:
        """Instant of the next output."""
        return self._heap[0][0] if self._heap else None

    def pop_until(self, now_ns: int) -> list[Output]:
        """Return the outputs due, in order, without those whose stream was closed meanwhile."""
        outputs = []
        while self._heap and self._heap[0][0] <= now_ns:
            _, _, output, stream, epoch = heapq.heappop(self._heap)
            if stream is None or stream.epoch == epoch:
                outputs.append(output)
        return outputs


class MarketStreams:
    """The four public streams of one market."""

    def __init__(self, market: Market, scale: Scale, rules: ExchangeRules, outbox: Outbox) -> None:
        self._market = market
        self._scale = scale
        self._outbox = outbox
        self._interval_ns = rules.streams.book_interval_ms * NS_PER_MS
        self._streams = {kind: Stream() for kind in ("book", "trades", "mark", "funding")}
        self._delta_due = False

    @property
    def is_open(self) -> bool:
        """Whether anybody listens."""
        return self._streams["book"].is_open

    @property
    def epoch(self) -> int:
        """Number of the subscription, for the timers that belong to it."""
        return self._streams["book"].epoch

    def subscribe(self, now_ns: int) -> None:
        """Restart all streams: book snapshot, mark and funding as they stand."""
        for stream in self._streams.values():
            stream.restart()
        self._market.book.watch()
        self.snapshot(now_ns)
        if self._market.mark > 0:
            self.mark(now_ns)
            self.funding(self._market.funding.rate(), now_ns)

    def unsubscribe(self) -> None:
        """Close all streams."""
        self._market.book.unwatch()
        for stream in self._streams.values():
            stream.close()

    def snapshot(self, now_ns: int) -> None:
        """Send the whole book."""
        book = self._market.book
        book.watch()
        bids, asks = book.levels(Side.BUY), book.levels(Side.SELL)
        self._send(
            "book",
            now_ns,
            lambda stamp: frames.book_snapshot(self._market.name, self._scale, bids, asks, stamp),
        )

    def delta_instant(self, now_ns: int) -> int | None:
        """Instant at which the next delta is to be sent; None where nothing changed or one is due already."""
        if self._delta_due or not self.is_open or not self._market.book.has_changes:
            return None
        self._delta_due = True
        return now_ns - now_ns % self._interval_ns + self._interval_ns

    def delta(self, now_ns: int) -> None:
        """Send what changed since the last book frame."""
        self._delta_due = False
        if not self.is_open:
            return
        book = self._market.book
        bids, asks = book.drain_changes(Side.BUY), book.drain_changes(Side.SELL)
        if bids or asks:
            self._send(
                "book",
                now_ns,
                lambda stamp: frames.book_delta(self._market.name, self._scale, bids, asks, stamp),
            )

    def trades(self, matches: list[PublicTrade], now_ns: int) -> None:
        """Send public trades."""
        self._send(
            "trades", now_ns, lambda stamp: frames.trades(self._market.name, self._scale, matches, stamp)
        )

    def mark(self, now_ns: int) -> None:
        """Send the mark price."""
        self._send("mark", now_ns, lambda stamp: frames.mark(self._market.name, self._market.mark, stamp))

    def funding(self, rate: Decimal, now_ns: int) -> None:
        """Send a funding rate: the hour's as it stands, or the one that was applied."""
        self._send("funding", now_ns, lambda stamp: frames.funding(self._market.name, rate, stamp))

    def _send(self, kind: str, now_ns: int, encode: Callable[[Stamp], bytes]) -> None:
        stream = self._streams[kind]
        if not stream.is_open:
            return
        stream.seq += 1
        due_ns = self._outbox.due_after(stream, now_ns)
        frame = encode(Stamp(now_ns, stream.seq))
        self._outbox.frame(stream, MarketFrame(self._market.name, due_ns, kind, frame))


class AccountStream:
    """The private stream of one account."""

    def __init__(self, venue: Venue, account: Account, wire: Wire, outbox: Outbox) -> None:
        self._rules = venue.rules.streams
        self._account = account
        self._wire = wire
        self._outbox = outbox
        self._stream = Stream()

    @property
    def due_ns(self) -> int:
        """Instant of the last frame under way."""
        return self._stream.due_ns

    def hold_until(self, instant_ns: int) -> None:
        """Deliver nothing more before an instant."""
        self._stream.due_ns = max(self._stream.due_ns, instant_ns)

    def subscribe(self, now_ns: int) -> None:
        """Restart with snapshots of orders, balance and positions."""
        self._stream.restart()
        self._outbox.due_after(self._stream, now_ns)
        account = self._account
        orders = [self._wire.order(order) for order in account.open.values() if order.in_engine]
        positions = [self._wire.position(account, p) for p in account.positions.values() if p.lots]
        self._send("ORDER", {"isSnapshot": True, "orders": orders}, now_ns)
        self._send("BALANCE", {"isSnapshot": True, "balance": self._wire.balance(account, now_ns)}, now_ns)
        self._send("POSITION", {"isSnapshot": True, "positions": positions}, now_ns)

    def unsubscribe(self) -> None:
        """Close the stream."""
        self._stream.close()

    def publish(self, changes: AccountChanges, now_ns: int) -> None:
        """Send what one step changed, a frame for each kind, in the order of the rules."""
        self._outbox.due_after(self._stream, now_ns)
        if not self._stream.is_open:
            return
        for kind in self._rules.fill_frame_order:
            data = self._data(kind, changes, now_ns)
            if data is not None:
                self._send(kind, data, now_ns)

    def _data(self, kind: str, changes: AccountChanges, now_ns: int) -> dict[str, object] | None:
        wire, account = self._wire, self._account
        if kind == "BALANCE":
            touched = changes.balance or changes.trades
            return {"isSnapshot": False, "balance": wire.balance(account, now_ns)} if touched else None
        rows: list[object]
        if kind == "ORDER":
            name, rows = "orders", [wire.order(order) for order in changes.orders.values()]
        elif kind == "TRADE":
            name = "trades"
            rows = [wire.trade(account.account_id, trade, on_stream=True) for trade in changes.trades]
        else:
            positions = (account.positions[market] for market in changes.positions)
            sent = [p for p in positions if p.lots or self._rules.closed_positions_sent]
            name, rows = "positions", [wire.position(account, position) for position in sent]
        return {"isSnapshot": False, name: rows} if rows else None

    def _send(self, kind: str, data: dict[str, object], now_ns: int) -> None:
        stream = self._stream
        stream.seq += 1
        due_ns = max(stream.due_ns, now_ns)
        frame = frames.account(kind, data, Stamp(now_ns, stream.seq))
        self._outbox.frame(stream, AccountFrame(self._account.account_id, due_ns, kind, frame))
