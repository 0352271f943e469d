"""Several markets in one account: one clock, and the limits that they share.

Markets run beside each other in short slices of time. After each slice everybody's equity, behind the loss of
a day, the drawdown, the margin and the liquidation of each market, is the account's: the start, and what all
its markets have gained at the marks that are known. Of the limits on gross notional and stress, what nobody
uses, with all orders counted as filled, is shared out evenly: within a slice a market does not hear of the
others, and so they cannot pass the limits together. Live, whoever asks first has all that is left.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.host import MarketMakerRun, account_limit_pusd
from market_maker.backtest.pieces import split
from market_maker.domain import NS_PER_S
from market_maker.recordings.store import Hour
from market_maker.risk_manager import RiskSettings

SLICE_NS: Final = NS_PER_S

_Ints = NDArray[np.int64]
_Name = TypeVar("_Name", bound=Hashable)


class Seat(NamedTuple):
    """Where a contestant of the account plays: a market's run, and its row there."""

    run: MarketMakerRun
    row: int


class SharedAccount:
    """What the markets of an account have in common, for each contestant.

    Parameters
    ----------
    seats : mapping
        Of each contestant, by whatever names it, its seats in the markets that it plays in.
    risks : mapping
        Limits of each contestant.
    """

    def __init__(self, seats: Mapping[_Name, Sequence[Seat]], risks: Mapping[_Name, RiskSettings]) -> None:
        names = list(seats)
        self._account_pusd = np.array([account_limit_pusd(risks[name]) for name in names], np.int64)
        runs = {id(seat.run): seat.run for seat in chain.from_iterable(seats.values())}
        self._markets = [_Market(run, names, seats) for run in runs.values()]
        self._seated = np.array([len(seats[name]) for name in names], np.int64)
        self._size = len(names)
        # Before anything is known, everybody has an even share.
        self.look()

    def look(self) -> None:
        """Tell every market what the account has, and how much of the common limits it may use."""
        gains = np.zeros(self._size, np.int64)
        used = np.zeros(self._size, np.int64)
        for market in self._markets:
            market.read()
            gains[market.names] += market.gains_pusd
            used[market.names] += market.used_pusd
        free = np.maximum(self._account_pusd - used, 0)
        for market in self._markets:
            room = market.used_pusd + (free // self._seated)[market.names]
            market.write(gains[market.names] - market.gains_pusd, room)


class _Market:
    """One market's rows of the contestants; `names` are their places in the account."""

    def __init__(
        self, run: MarketMakerRun, names: Sequence[_Name], seats: Mapping[_Name, Sequence[Seat]]
    ) -> None:
        here = [
            (place, seat.row) for place, name in enumerate(names) for seat in seats[name] if seat.run is run
        ]
        self._run = run
        self.names = np.array([place for place, _ in here])
        self._rows = np.array([row for _, row in here])
        risks: Any = run.bench.risks
        self._start_pusd: _Ints = risks["start_pusd"][self._rows].copy()
        self._limit_pusd: _Ints = risks["max_position_pusd"][self._rows].copy()
        self.gains_pusd = self.used_pusd = np.zeros(len(here), np.int64)

    def read(self) -> None:
        """Find what was gained at the marks that are known, and what is used at worst."""
        bench: Any = self._run.bench
        accounts, risks = bench.world.strategies[self._rows], bench.risks[self._rows]
        cash = accounts["flow_tick_lots"] - accounts["fees"] + accounts["rebates"] + accounts["funding"]
        held = accounts["position_lots"] * risks["lot_pusd"]
        self.gains_pusd = cash * risks["tick_lot_pusd"] + held
        self.used_pusd = self._worst_lots(bench) * risks["lot_pusd"]

    def write(self, others_gained_pusd: _Ints, room_pusd: _Ints) -> None:
        """Set what the limits of this market go by from the next mark on."""
        risks: Any = self._run.bench.risks
        risks["start_pusd"][self._rows] = self._start_pusd + others_gained_pusd
        risks["max_position_pusd"][self._rows] = np.minimum(self._limit_pusd, room_pusd)

    def _worst_lots(self, bench: Any) -> _Ints:  # noqa: ANN401  (arrays of records)
        """Largest position on either side if all that may still fill did, as the contestants know it.

        What filled unheard is in the orders yet; with the exchange's position it would count twice.
        """
        position_lots = bench.accounts["position_lots"][self._rows]
        count = len(bench.params)
        held, sides = bench.held.reshape(count, -1), bench.slots["side"].reshape(count, -1)
        resting = np.where(held["order_id"] != 0, held["remaining_lots"], 0)
        coming = np.where(held["new_id"] != 0, held["new_remaining_lots"], 0)
        lots = (resting + coming)[self._rows]
        longs = position_lots + np.where(sides[self._rows] > 0, lots, 0).sum(axis=1)
        shorts = -position_lots + np.where(sides[self._rows] < 0, lots, 0).sum(axis=1)
        worst: _Ints = np.maximum(np.maximum(longs, shorts), 0)
        return worst


def side_by_side(
    streams: Sequence[Iterable[Hour]], start_ns: int, slice_ns: int = SLICE_NS
) -> Iterator[list[list[Hour]]]:
    """Pieces of each market for each slice of time, in turn, up to the end of the longest.

    Frames are not cut: rows of one stamp stay in one slice.
    """
    readers = [_Reader(stream) for stream in streams]
    until_ns = start_ns
    while not all(reader.is_done for reader in readers):
        # Nothing happens before the first row that is left.
        first_ns = min(reader.next_ns for reader in readers)
        until_ns = max(until_ns, first_ns) // slice_ns * slice_ns + slice_ns
        yield [list(reader.until(until_ns)) for reader in readers]


class _Reader:
    """One market's pieces, read up to an instant."""

    def __init__(self, stream: Iterable[Hour]) -> None:
        self._stream = iter(stream)
        self._rest: Hour | None = next(self._stream, None)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return self._rest is None

    @property
    def next_ns(self) -> int:
        """Stamp of the first row that is left."""
        return 2**62 if self._rest is None else int(self._rest.venue_ns[0])

    def until(self, end_ns: int) -> Iterator[Hour]:
        """Pieces stamped before an instant."""
        while self._rest is not None and int(self._rest.venue_ns[0]) < end_ns:
            before, after = split(self._rest, end_ns)
            yield before
            self._rest = after if after.venue_ns.size else next(self._stream, None)
