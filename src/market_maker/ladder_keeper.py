"""A market's ladder as it is kept: what it earned, its record in the journal, and its return after a restart.

Every change goes to the journal: a new anchor, a line that filled or a part of one, with all that is needed
to go on from there. A restart takes the newest record of its market and venue, if that is of the last day and
the position is one that its lines can have led to; its orders then go back to the same prices. What filled
after the record was written is taken to have filled at the prices of its lines, without a fee.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from market_maker.domain import NS_PER_S, Side
from market_maker.gateway import FillReport
from market_maker.grid import GridSettings, Ladder, LadderState
from market_maker.instrument import Instrument
from market_maker.kernel import Row, plain, write_row
from market_maker.round_trips import OpenLine, RoundTrips, TripReport, held_lines
from market_maker.trade_journal import TradeJournal, latest_records

RECORD: Final = "ladder"
_SESSIONS_BACK: Final = 20
_NO_FEE: Final = Decimal(0)
_OLDEST_NS: Final = 86_400 * NS_PER_S
_CHANGES: Final = ("anchored", "stopped", "hole", "base_lots", "filled_lots")
_WHY: Final = dict(zip(_CHANGES, ("anchored", "stopped", "moved", "unloaded", "filled"), strict=True))


class _Record(msgspec.Struct, frozen=True):
    """What is needed of a record to go on from it."""

    position_lots: int
    ladder: LadderState
    open_lines: list[OpenLine]


@dataclass(frozen=True, slots=True)
class LadderReport:
    """A ladder now, and what it earned since the session began."""

    ladder: LadderState
    trips: TripReport


@dataclass(frozen=True, slots=True)
class KeptLadders:
    """Newest records of ladders by market, and the venue that they are of, which new ones are kept with."""

    venue: str = ""
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def kept_ladders(folder: Path, venue: str, markets: Collection[str], now_ns: int) -> KeptLadders:
    """Newest record of the ladder of each market on a venue; none that is older than a day.

    Parameters
    ----------
    folder : Path
        Where the journals are; it need not exist.
    venue : str
        Where orders go, in words: a ladder on paper is none of a network.
    """

    def is_kept(record: Mapping[str, Any]) -> bool:
        is_here = record.get("venue") == venue and record.get("market") in markets
        return is_here and 0 <= now_ns - int(record["t"]) <= _OLDEST_NS

    found: dict[str, Mapping[str, Any]] = {}
    for session in latest_records(folder, RECORD, _SESSIONS_BACK):
        last = {str(record["market"]): record for record in session if is_kept(record)}
        found = last | found
        if len(found) == len(markets):
            break
    return KeptLadders(venue, found)


class LadderKeeper:
    """Keeps the ladder of one market.

    Parameters
    ----------
    ladder : Row
        The row that decisions read and change; it is watched, and written only by `restore`.
    venue : str
        Where orders go; kept with each record.
    """

    def __init__(
        self, instrument: Instrument, settings: GridSettings, ladder: Row, journal: TradeJournal, venue: str
    ) -> None:
        self.trips = RoundTrips(instrument)
        self._instrument = instrument
        self._settings = settings
        self._ladder = ladder
        self._journal = journal
        self._venue = venue
        self._seen = ladder[list(_CHANGES)]
        self._noted = self._seen.item()
        self._has_traded = False

    def restore(self, record: Mapping[str, Any] | None, position_lots: int, mid2_ticks: int) -> bool:
        """Go on with the ladder of a record, if it fits; the journal says what came of it.

        A position without a ladder counts as traded at the mid, which is given doubled.
        """
        self.trips = RoundTrips(self._instrument, held_lines(position_lots, mid2_ticks))
        if record is None:
            return False
        try:
            kept = msgspec.convert(record, _Record)
        except msgspec.ValidationError as error:
            return self._drop(f"expected a ladder's record: {error}")
        why_not = self._misfit(kept, position_lots)
        if why_not:
            return self._drop(why_not)
        self.trips = RoundTrips(self._instrument, kept.open_lines)
        missed = self._book_missed(kept, position_lots - kept.position_lots)
        ladder = Ladder(self._settings, kept.ladder)
        ladder.settle(position_lots)
        write_row(self._ladder, LadderState(**plain(ladder.state)))
        self._write("restored", missed_lots=missed)
        return True

    def watch(self) -> None:
        """Journal the ladder if anything has changed since the last look."""
        now = self._seen.item()
        if now == self._noted and not self._has_traded:
            return
        changed = (name for name, a, b in zip(_CHANGES, self._noted, now, strict=True) if a != b)
        self._write(_WHY[next(changed, "filled_lots")])

    def on_fill(self, report: FillReport) -> None:
        """Take in one of our fills; its record is written when the ladder has heard of it."""
        fill = report.fill
        line_lots = int(self._ladder["line_lots"][0])
        self.trips.book(fill.side, fill.price_ticks, fill.size_lots, report.fee, line_lots)
        self._has_traded = True

    def report(self) -> LadderReport:
        """The ladder now, and its round trips."""
        return LadderReport(LadderState(**plain(self._ladder[0])), self.trips.report())

    def _misfit(self, kept: _Record, position_lots: int) -> str:
        """Why a ladder is not gone on with; empty if it is."""
        ladder = kept.ladder
        if min(ladder.anchor_ticks, ladder.spacing_bps, ladder.line_lots) <= 0:
            return "expected an anchor, a distance and a size above 0"
        least = self._settings.grid_min_spacing_bps
        if ladder.spacing_bps < least:
            return f"expected lines {least:g} bps apart or more, were {ladder.spacing_bps:g}"
        settled = Ladder(self._settings, ladder)
        settled.settle(position_lots)
        if abs(int(settled.state.filled_lots)) >= ladder.line_lots:
            return f"expected a position that its lines lead to, was {position_lots} lots"
        return ""

    def _book_missed(self, kept: _Record, missed_lots: int) -> int:
        """Book what filled since the record at the prices of its lines, nearest first."""
        side = Side.BUY if missed_lots > 0 else Side.SELL
        lines = [line for line in Ladder(self._settings, kept.ladder).lines() if line.side == side]
        left = abs(missed_lots)
        for line in sorted(lines, key=lambda line: -side * line.price_ticks):
            lots = min(left, line.size_lots)
            if lots > 0:
                self.trips.book(side, line.price_ticks, lots, _NO_FEE, kept.ladder.line_lots)
            left -= lots
        return missed_lots - int(side) * left

    def _drop(self, why: str) -> bool:
        self._journal.note("ladder_dropped", {"market": self._instrument.name, "why": why})
        return False

    def _write(self, why: str, **more: object) -> None:
        self._noted, self._has_traded = self._seen.item(), False
        report = self.report()
        ladder = report.ladder
        position = ladder.base_lots - ladder.hole * ladder.line_lots + ladder.filled_lots
        fields = {
            "market": self._instrument.name,
            "venue": self._venue,
            "why": why,
            "position_lots": position,
            "ladder": ladder,
            "open_lines": report.trips.open_lines,
            "round_trips": report.trips.round_trips,
            "pnl_usd": report.trips.pnl,
            **more,
        }
        self._journal.keep(RECORD, fields)
