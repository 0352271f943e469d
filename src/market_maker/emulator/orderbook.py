"""The book of one market with price–time priority.

Each price is a queue of entries: orders of accounts, and anonymous chunks of what others show. Others speak
in totals per price only (`set_external`): a rise joins the back of the queue, a fall leaves it from the
back or from every chunk alike, which decides how fast an order of ours moves up.
"""

from bisect import bisect_left, insort

from market_maker.domain import Side
from market_maker.emulator.orders import Order
from market_maker.emulator.rules import Departures


def opposite(side: Side) -> Side:
    """Return the other side."""
    return Side.SELL if side is Side.BUY else Side.BUY


class Entry:
    """A place in a queue: lots of an account's order, or of others where `order` is None."""

    __slots__ = ("lots", "order")

    def __init__(self, lots: int, order: Order | None) -> None:
        self.lots = lots
        self.order = order


class _Level:
    __slots__ = ("entries", "external_lots", "total_lots")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.total_lots = 0
        self.external_lots = 0

    def append(self, lots: int, order: Order | None) -> None:
        self.total_lots += lots
        if order is not None:
            self.entries.append(Entry(lots, order))
            return
        self.external_lots += lots
        if self.entries and self.entries[-1].order is None:
            self.entries[-1].lots += lots
        else:
            self.entries.append(Entry(lots, None))

    def take(self, entry: Entry, lots: int) -> None:
        entry.lots -= lots
        self.total_lots -= lots
        if entry.order is None:
            self.external_lots -= lots
        if entry.lots == 0:
            self.entries.remove(entry)

    def shrink_external(self, lots: int, departures: Departures) -> None:
        chunks = [entry for entry in self.entries if entry.order is None]
        before, left = self.external_lots, self.external_lots - lots
        if departures is Departures.PROPORTIONAL:
            for entry, share in [(entry, entry.lots * left // before) for entry in chunks]:
                self._leave(entry, share)
                left -= share
        # What rounding left over goes from the back, as everything does in the other model.
        for entry in reversed(chunks):
            share = min(left, entry.lots)
            self._leave(entry, share)
            left -= share
        self.entries = [entry for entry in self.entries if entry.lots > 0]

    def _leave(self, entry: Entry, lots: int) -> None:
        entry.lots -= lots
        self.total_lots -= lots
        self.external_lots -= lots


class _Half:
    """One side. Keys are side × ticks in rising order, so that the best price is the last key."""

    __slots__ = ("changed", "keys", "levels", "side")

    def __init__(self, side: Side) -> None:
        self.side = int(side)
        self.levels: dict[int, _Level] = {}
        self.keys: list[int] = []
        self.changed: dict[int, int] | None = None

    def touch(self, ticks: int) -> _Level:
        """Return the level, made if need be, noting its size before the change."""
        level = self.levels.get(ticks)
        if level is None:
            level = self.levels[ticks] = _Level()
            insort(self.keys, self.side * ticks)
        if self.changed is not None:
            self.changed.setdefault(ticks, level.total_lots)
        return level

    def settle(self, ticks: int) -> None:
        if self.levels[ticks].total_lots == 0:
            del self.levels[ticks]
            self.keys.pop(bisect_left(self.keys, self.side * ticks))


class OrderBook:
    """Both sides of one market, in ticks and lots."""

    def __init__(self, departures: Departures = Departures.PROPORTIONAL) -> None:
        self._departures = departures
        self._halves = {Side.BUY: _Half(Side.BUY), Side.SELL: _Half(Side.SELL)}

    def best_ticks(self, side: Side) -> int | None:
        """Best price of a side, None where it is empty."""
        half = self._halves[side]
        return half.side * half.keys[-1] if half.keys else None

    def total_lots(self, side: Side, price_ticks: int) -> int:
        """Size at a price, everybody's."""
        level = self._halves[side].levels.get(price_ticks)
        return 0 if level is None else level.total_lots

    def external_lots(self, side: Side, price_ticks: int) -> int:
        """Size that others (not the accounts) show at a price."""
        level = self._halves[side].levels.get(price_ticks)
        return 0 if level is None else level.external_lots

    def account_lots(self, side: Side, price_ticks: int) -> int:
        """Size that accounts show at a price."""
        level = self._halves[side].levels.get(price_ticks)
        return 0 if level is None else level.total_lots - level.external_lots

    def levels(self, side: Side) -> list[tuple[int, int]]:
        """(ticks, lots) of a side, best first."""
        half = self._halves[side]
        return [(half.side * key, half.levels[half.side * key].total_lots) for key in reversed(half.keys)]

    def lots_ahead(self, order: Order) -> int:
        """Lots in front of a resting order at its price."""
        ahead = 0
        for entry in self._halves[order.side].levels[order.price_ticks].entries:
            if entry.order is order:
                break
            ahead += entry.lots
        return ahead

    def front(self, side: Side) -> tuple[int, Entry] | None:
        """Price and entry that fill next on a side."""
        half = self._halves[side]
        if not half.keys:
            return None
        ticks = half.side * half.keys[-1]
        return ticks, half.levels[ticks].entries[0]

    def take_front(self, side: Side, lots: int) -> None:
        """Remove lots from the entry that `front` gave."""
        half = self._halves[side]
        ticks = half.side * half.keys[-1]
        level = half.touch(ticks)
        level.take(level.entries[0], lots)
        half.settle(ticks)

    def add_order(self, order: Order) -> None:
        """Put what remains of an account's order at the back of the queue at its price."""
        self._halves[order.side].touch(order.price_ticks).append(order.remaining_lots, order)

    def remove_order(self, order: Order) -> None:
        """Take an account's order out of the book; nothing happens where it does not rest."""
        half = self._halves[order.side]
        level = half.levels.get(order.price_ticks)
        entry = next((e for e in level.entries if e.order is order), None) if level else None
        if entry is not None:
            half.touch(order.price_ticks).take(entry, entry.lots)
            half.settle(order.price_ticks)

    def set_external(self, side: Side, price_ticks: int, lots: int) -> None:
        """Others now show `lots` in all at a price."""
        before = self.external_lots(side, price_ticks)
        if lots == before:
            return
        half = self._halves[side]
        level = half.touch(price_ticks)
        if lots > before:
            level.append(lots - before, None)
        else:
            level.shrink_external(lots, self._departures)
            half.settle(price_ticks)

    def watch(self) -> None:
        """Start to note which levels change, from now."""
        for half in self._halves.values():
            half.changed = {}

    def unwatch(self) -> None:
        """Stop noting changes."""
        for half in self._halves.values():
            half.changed = None

    @property
    def has_changes(self) -> bool:
        """Whether any level was touched since `watch` or `drain_changes`."""
        return any(half.changed for half in self._halves.values())

    def drain_changes(self, side: Side) -> list[tuple[int, int, int]]:
        """Return (ticks, lots now, change of lots) of the levels that changed, best first; starts anew."""
        half = self._halves[side]
        noted = half.changed or {}
        half.changed = None if half.changed is None else {}
        rows = ((ticks, self.total_lots(side, ticks), before) for ticks, before in noted.items())
        changed = [(ticks, lots, lots - before) for ticks, lots, before in rows if lots != before]
        return sorted(changed, key=lambda row: -half.side * row[0])
