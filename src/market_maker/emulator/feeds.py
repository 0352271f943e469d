"""Where frames come from: what a market and an account tell those who subscribed, and how often.

A payload is encoded once for all its readers, and not at all where there are none.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from market_maker.domain import NS_PER_MS, Side
from market_maker.emulator import frames
from market_maker.emulator.accounts import Account
from market_maker.emulator.changes import AccountChanges
from market_maker.emulator.frames import Payload, Scale
from market_maker.emulator.market import Market
from market_maker.emulator.orders import PublicTrade
from market_maker.emulator.outbox import Outbox
from market_maker.emulator.rules import StreamRules
from market_maker.emulator.streams import PUBLIC_KINDS, Stream
from market_maker.emulator.timeline import Timeline
from market_maker.emulator.venue import Venue
from market_maker.emulator.wire import Wire


class _Best(NamedTuple):
    """Best (ticks, lots) of each side; empty where the side is."""

    bids: tuple[tuple[int, int], ...] = ()
    asks: tuple[tuple[int, int], ...] = ()


class MarketFeed:
    """The public streams of one market."""

    def __init__(
        self, market: Market, scale: Scale, rules: StreamRules, timeline: Timeline, outbox: Outbox
    ) -> None:
        self._market = market
        self._scale = scale
        self._timeline = timeline
        self._outbox = outbox
        self._rules = rules
        self._delta_ns = rules.book_interval_ms * NS_PER_MS
        self._best_ns = rules.bbo_interval_ms * NS_PER_MS
        self._readers: dict[str, list[Stream]] = {kind: [] for kind in PUBLIC_KINDS}
        self._delta_planned = False
        self._best_planned = False
        self._best = _Best()
        self._before: tuple[list[tuple[int, int]], list[tuple[int, int]]] | None = None

    def add(self, stream: Stream, now_ns: int) -> None:
        """Take a reader in, and tell it how things stand."""
        kind = stream.topic.kind
        if kind == "book":
            if not self._readers["book"]:
                self._market.book.watch()
            self.snapshot(stream, now_ns)
        elif kind == "bbo":
            self._tell_best(now_ns)
            self._send((stream,), now_ns, self._best_payload)
        elif kind != "trades" and self._market.mark > 0:
            self._send((stream,), now_ns, lambda: self._standing(kind, now_ns))
        self._readers[kind].append(stream)

    def remove(self, stream: Stream) -> None:
        """Let a reader go."""
        readers = self._readers[stream.topic.kind]
        readers.remove(stream)
        if not readers and stream.topic.kind == "book":
            self._market.book.unwatch()

    def snapshot(self, stream: Stream, now_ns: int) -> None:
        """Send the whole book to one reader; the others are told first what changed, lest it comes twice."""
        self._send_changes([reader for reader in self._readers["book"] if reader is not stream], now_ns)
        book, zeros = self._market.book, self._rules.zeros_in_snapshots
        bids, asks = book.levels(Side.BUY), book.levels(Side.SELL)
        before, self._before = self._before, (bids, asks)
        if before is not None and self._outbox.faults.happens("stale_snapshots"):
            bids, asks = before
        self._send(
            (stream,),
            now_ns,
            lambda: frames.book_snapshot(self._market.name, self._scale, bids, asks, zeros=zeros),
        )

    def after_step(self, now_ns: int) -> None:
        """Plan the frames of what a step of the exchange changed in the book."""
        if self._readers["book"] and not self._delta_planned and self._market.book.has_changes:
            self._delta_planned = True
            self._timeline.plan(now_ns - now_ns % self._delta_ns + self._delta_ns, self._delta_timer)
        if self._readers["bbo"] and not self._best_planned and self._best_now() != self._best:
            self._best_planned = True
            self._timeline.plan(now_ns - now_ns % self._best_ns + self._best_ns, self._best_timer)

    def trades(self, matches: list[PublicTrade], now_ns: int) -> None:
        """Send public trades."""
        self._send(
            self._readers["trades"],
            now_ns,
            lambda: frames.trades(self._market.name, self._scale, matches),
        )

    def mark(self, now_ns: int) -> None:
        """Send the mark price."""
        self._send(self._readers["mark"], now_ns, lambda: self._standing("mark", now_ns))

    def index(self, now_ns: int) -> None:
        """Send the index price."""
        self._send(self._readers["index"], now_ns, lambda: self._standing("index", now_ns))

    def funding(self, rate: Decimal, now_ns: int) -> None:
        """Send a funding rate: the hour's as it stands, or the one that was applied."""
        self._send(self._readers["funding"], now_ns, lambda: frames.funding(self._market.name, rate, now_ns))

    def _standing(self, kind: str, now_ns: int) -> Payload:
        market = self._market
        if kind == "mark":
            return frames.mark(market.name, market.mark, now_ns)
        if kind == "index":
            return frames.index(market.name, market.index, now_ns)
        return frames.funding(market.name, market.funding.rate(), now_ns)

    def _delta_timer(self, now_ns: int) -> None:
        self._delta_planned = False
        changed_back = self._rules.empty_deltas_sent and self._market.book.has_changes
        self._send_changes(self._readers["book"], now_ns, even_none=changed_back)

    def _send_changes(self, readers: Sequence[Stream], now_ns: int, *, even_none: bool = False) -> None:
        book = self._market.book
        bids, asks = book.drain_changes(Side.BUY), book.drain_changes(Side.SELL)
        if bids or asks or even_none:
            self._send(readers, now_ns, lambda: frames.book_delta(self._market.name, self._scale, bids, asks))

    def _best_timer(self, now_ns: int) -> None:
        self._best_planned = False
        self._tell_best(now_ns)

    def _tell_best(self, now_ns: int) -> None:
        """Send the best prices and sizes where they are others than those sent last."""
        best = self._best_now()
        if best != self._best:
            self._best = best
            self._send(self._readers["bbo"], now_ns, self._best_payload)

    def _best_payload(self) -> Payload:
        return frames.book_snapshot(self._market.name, self._scale, self._best.bids, self._best.asks)

    def _best_now(self) -> _Best:
        return _Best(self._best_of(Side.BUY), self._best_of(Side.SELL))

    def _best_of(self, side: Side) -> tuple[tuple[int, int], ...]:
        ticks = self._market.book.best_ticks(side)
        return () if ticks is None else ((ticks, self._market.book.total_lots(side, ticks)),)

    def _send(self, readers: Sequence[Stream], now_ns: int, encode: Callable[[], Payload]) -> None:
        if not readers:
            return
        payload = encode()
        for stream in readers:
            self._outbox.send(stream, stream.topic.kind, payload, now_ns, self._outbox.arrival_ns(now_ns))


class AccountFeed:
    """The private stream of one account; all its readers hear of a thing at the same instant."""

    def __init__(self, venue: Venue, account: Account, wire: Wire, outbox: Outbox) -> None:
        self._rules = venue.rules.streams
        self._account = account
        self._wire = wire
        self._outbox = outbox
        self._readers: list[Stream] = []
        self.due_ns = 0  # instant of the last news under way

    def hold_until(self, instant_ns: int) -> None:
        """Deliver nothing more before an instant."""
        self.due_ns = max(self.due_ns, instant_ns)

    def add(self, stream: Stream, now_ns: int) -> None:
        """Take a reader in, and send it snapshots of orders, balance and positions."""
        self._draw(now_ns)
        account, wire = self._account, self._wire
        orders = [wire.order(order) for order in account.open.values() if order.in_engine]
        positions = [wire.position(account, p) for p in account.positions.values() if p.lots]
        self._send([stream], "ORDER", {"isSnapshot": True, "orders": orders}, now_ns)
        self._send(
            [stream], "BALANCE", {"isSnapshot": True, "balance": wire.balance(account, now_ns)}, now_ns
        )
        self._send([stream], "POSITION", {"isSnapshot": True, "positions": positions}, now_ns)
        self._readers.append(stream)

    def remove(self, stream: Stream) -> None:
        """Let a reader go."""
        self._readers.remove(stream)

    def publish(self, changes: AccountChanges, now_ns: int) -> None:
        """Send what one step changed, a frame for each kind, in the order of the rules."""
        # Also where nobody listens, since replies follow the news.
        self._draw(now_ns)
        if not self._readers:
            return
        for kind in self._rules.fill_frame_order:
            data = self._data(kind, changes, now_ns)
            if data is not None:
                self._send(self._readers, kind, data, now_ns)

    def _draw(self, now_ns: int) -> None:
        self.due_ns = max(self.due_ns, self._outbox.arrival_ns(now_ns))

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

    def _send(self, readers: Sequence[Stream], kind: str, data: dict[str, object], now_ns: int) -> None:
        payload = frames.account(kind, data)
        for stream in readers:
            self._outbox.send(stream, kind, payload, now_ns, self.due_ns)
