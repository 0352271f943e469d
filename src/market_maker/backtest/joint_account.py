"""What the markets of one account are to one another: the portfolio's skew, its net-beta limit, its hedge.

As in a live session, a `CrossMarket` is told each market's mid, and says what the positions of the others add
to a market's inventory, and their betas. It is asked between two slices of time; within one, a market goes by
what the others were at its end. Of the limit on net beta, what nobody uses is shared out evenly, for the same
reason as the gross limit is (`portfolio`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from market_maker.backtest.hedge_host import HedgeHost
from market_maker.backtest.host import MarketMakerRun
from market_maker.backtest.rows import LARGEST
from market_maker.correlation import CorrelationSettings
from market_maker.cross_market import CrossMarket, ModelledMarket
from market_maker.exposure import PPM, PUSD_PER_USD, NetBetaSettings, beta_ppm
from market_maker.hedging import HedgeSettings
from market_maker.risk_manager import limit_pusd


@dataclass(frozen=True, slots=True)
class JointSettings:
    """How a contestant sees the markets of its account together.

    `reference` is the market that betas are to and that hedges trade in; where it is not played, and where
    none is named, it is the first.
    """

    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    net_beta: NetBetaSettings = field(default_factory=NetBetaSettings)
    hedge: HedgeSettings = field(default_factory=HedgeSettings)
    reference: str = ""


class JointSeat(NamedTuple):
    """A contestant in one of the markets: its row of the run there, and the model that it quotes by there."""

    market: str
    run: MarketMakerRun
    row: int
    model: ModelledMarket | None = None


class Position(NamedTuple):
    """Of a contestant in a market, lots: what it holds, and the longest and shortest that it can come to."""

    lots: int
    long_lots: int
    short_lots: int
    lot_pusd: int  # value of a lot at the mark, 0: unknown


class JointAccount:
    """What one contestant is told of all its markets together.

    Parameters
    ----------
    seats : sequence of JointSeat
        Its markets, in the order of the account.
    cross : CrossMarket
        Of these markets; contestants that see them alike may share one.
    """

    def __init__(self, seats: Sequence[JointSeat], settings: JointSettings, cross: CrossMarket) -> None:
        self._seats = seats
        self._settings = settings
        self._cross = cross
        at = next(seat for seat in seats if seat.market == cross.reference)
        self._hedge = HedgeHost(at.run, at.row, settings.hedge) if settings.hedge.hedge_enabled else None

    def look(self) -> None:
        """Write what the other markets are to each, then what the hedge is to do."""
        found = {seat.market: position_of(seat.run, seat.row) for seat in self._seats}
        values_usd = {name: p.lots * p.lot_pusd / PUSD_PER_USD for name, p in found.items()}
        rooms = self._rooms_pusd(found)
        for seat in self._seats:
            risks: Any = seat.run.bench.risks[seat.row]
            lot_usd = found[seat.market].lot_pusd / PUSD_PER_USD
            risks["others_lots"] = self._cross.others_lots(seat.market, values_usd, lot_usd)
            risks["room_long_pusd"], risks["room_short_pusd"] = rooms[seat.market]
        if self._hedge is not None:
            self._hedge.look(self._cross.known_net_beta_usd(values_usd))

    def _rooms_pusd(self, found: dict[str, Position]) -> dict[str, tuple[int, int]]:
        """Largest long and short position of each market within the limit on net beta, by value."""
        if self._settings.net_beta.max_net_beta_usd <= 0.0:
            return dict.fromkeys(found, (LARGEST, LARGEST))
        limit = limit_pusd(self._settings.net_beta.max_net_beta_usd)
        betas = {name: beta_ppm(self._cross.betas[name]) for name in found}
        longs = {name: p.long_lots * p.lot_pusd for name, p in found.items()}
        shorts = {name: p.short_lots * p.lot_pusd for name, p in found.items()}
        ways = [
            (used, max(0, limit - sum(betas[name] * used[name] for name in found) // PPM) // len(found))
            for used in (longs, shorts)
        ]
        return {
            name: (_room(ways[0][0][name], ways[0][1], beta), _room(ways[1][0][name], ways[1][1], beta))
            for name, beta in betas.items()
        }


def _room(used_pusd: int, free_pusd: int, beta_ppm: int) -> int:
    return LARGEST if beta_ppm <= 0 else min(max(0, used_pusd + free_pusd * PPM // beta_ppm), LARGEST)


def position_of(run: MarketMakerRun, row: int) -> Position:
    """What a contestant holds in a market, and the ends that its orders can lead to, as it knows them.

    What filled unheard is in the orders yet; with the exchange's position it would count twice.
    """
    bench: Any = run.bench
    each = len(bench.slots) // len(bench.params)
    slots = slice(row * each, (row + 1) * each)
    held, sides = bench.held[slots], bench.slots["side"][slots]
    lots = np.where(held["order_id"] != 0, held["remaining_lots"], 0)
    lots += np.where(held["new_id"] != 0, held["new_remaining_lots"], 0)
    position = int(bench.accounts["position_lots"][row])
    buys, sells = int(lots[sides > 0].sum()), int(lots[sides < 0].sum())
    return Position(position, position + buys, sells - position, int(bench.risks["lot_pusd"][row]))


class JointAccounts:
    """Everybody's markets together, over the same runs.

    Parameters
    ----------
    accounts : sequence
        Each contestant's seats, in the order of the account, and how it sees them together. The first feed's
        books are what all of them hear.
    """

    def __init__(self, accounts: Sequence[tuple[Sequence[JointSeat], JointSettings]]) -> None:
        # Those that see the same alike share a matrix.
        self._crosses: dict[tuple[object, ...], CrossMarket] = {}
        self._accounts = [JointAccount(*one, self._cross_of(*one)) for one in accounts]
        self._runs = {seat.market: seat.run for seats, _ in accounts for seat in seats}
        self._heard_ns = dict.fromkeys(self._runs, 0)

    def _cross_of(self, seats: Sequence[JointSeat], settings: JointSettings) -> CrossMarket:
        names = [seat.market for seat in seats]
        reference = settings.reference if settings.reference in names else names[0]
        models = {seat.market: seat.model for seat in seats}
        key = (settings.correlation, reference, *models.items())
        if key not in self._crosses:
            self._crosses[key] = CrossMarket(names, settings.correlation, reference, models)
        return self._crosses[key]

    def look(self) -> None:
        """Take in the mids that are new, each at the instant at which it was heard; then tell everybody."""
        found = sorted(self._news())
        for cross in self._crosses.values():
            for heard_ns, name, mid in found:
                cross.on_mid(name, mid, heard_ns)
        for account in self._accounts:
            account.look()

    def _news(self) -> Iterator[tuple[int, str, float]]:
        for name, run in self._runs.items():
            book: Any = run.bench.books[0]
            heard_ns, bid, ask = int(book.recv_ns), int(book.bid_ticks), int(book.ask_ticks)
            if heard_ns != self._heard_ns[name] and min(bid, ask) > 0:
                self._heard_ns[name] = heard_ns
                yield heard_ns, name, (bid + ask) / 2.0
