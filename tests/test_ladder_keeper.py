"""A ladder's record: written when something changes, taken up where it fits, dropped where it does not."""

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pytest

from market_maker.domain import NS_PER_S, Fill, Side
from market_maker.gateway import FillReport
from market_maker.grid import GridSettings, GridSpacing, Ladder, LadderState
from market_maker.instrument import Instrument
from market_maker.journal_files import JournalFiles, JournalSettings
from market_maker.kernel import new_row, plain, write_row
from market_maker.ladder_keeper import LadderKeeper, kept_ladders
from market_maker.trade_journal import InlineSink, TradeJournal

MARKET = Instrument("X-USD", Decimal("0.1"), Decimal("0.01"), Decimal("0.01"))
SETTINGS = GridSettings(grid_levels=3, grid_min_spacing_bps=10.0, grid_spacing=GridSpacing.ARITHMETIC)
NOW_NS = 1_700_000_000 * NS_PER_S
LOTS = 100
FEE = Decimal("0.002")


class StoppedClock:
    def __init__(self) -> None:
        self.now = NOW_NS

    def now_ns(self) -> int:
        return self.now

    def perf_ns(self) -> int:
        return self.now


class FlushedFiles:
    """Files whose lines are there at once: they are read while they are open."""

    def __init__(self, files: JournalFiles) -> None:
        self._files = files
        self.flush, self.close = files.flush, files.close

    def write(self, data: bytes) -> None:
        self._files.write(data)
        self._files.flush()


class Host:
    """A ladder that follows a position, and its keeper, with a journal in a folder."""

    open: ClassVar[list["Host"]] = []

    def __init__(self, folder: Path, settings: GridSettings = SETTINGS, venue: str = "testnet") -> None:
        self.clock = StoppedClock()
        self.files = JournalFiles("mm", JournalSettings(str(folder)), self.clock)
        self.journal = TradeJournal(InlineSink(FlushedFiles(self.files)), self.clock)
        self.row = new_row(LadderState())
        self.settings = settings
        self.keeper = LadderKeeper(MARKET, settings, self.row, self.journal, venue)
        self.position = self.trades = 0
        self.open.append(self)

    def look(self, mid: float = 100_000.0) -> None:
        """What a decision does: the ladder follows, the keeper looks."""
        ladder = Ladder(self.settings, LadderState(**plain(self.row[0])))
        ladder.follow(mid, 1.0, LOTS, self.position, 0, NOW_NS)
        write_row(self.row, LadderState(**plain(ladder.state)))
        self.keeper.watch()

    def fill(self, side: Side, price_ticks: int, lots: int) -> None:
        self.position += side * lots
        self.trades += 1
        fill = Fill("X-USD", self.trades, 1, "mm", side, price_ticks, lots, False, NOW_NS, NOW_NS)
        self.keeper.on_fill(FillReport(fill, FEE))

    def records(self, kind: str = "ladder") -> list[dict[str, object]]:
        lines = self.files.path.read_bytes().splitlines()
        return [record for record in map(json.loads, lines) if record["type"] == kind]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while Host.open:
        Host.open.pop().journal.close()


def traded(folder: Path) -> Host:
    """Two lines bought, one of them sold again, and a part of the next sale."""
    host = Host(folder)
    host.look()
    for side, price, lots in ((1, 99_900, 100), (1, 99_800, 100), (-1, 99_900, 100), (-1, 100_000, 30)):
        host.fill(Side(side), price, lots)
        host.look(float(price))
    return host


def kept(folder: Path) -> dict[str, object] | None:
    return kept_ladders(folder, "testnet", ("X-USD",), NOW_NS).records.get("X-USD")  # type: ignore[return-value]  # JSON


def test_every_change_is_written_and_nothing_else(tmp_path: Path) -> None:
    host = traded(tmp_path)
    host.look(100_010.0)
    records = host.records()
    assert [record["why"] for record in records] == ["anchored", "moved", "moved", "moved", "filled"]
    assert [record["position_lots"] for record in records] == [0, 100, 200, 100, 70]
    assert [record["round_trips"] for record in records] == [0, 0, 0, 1, 1]
    assert records[-1]["open_lines"] == [[1, 99_900, 70, "0.0014"]]
    # 100 ticks of 0.1 on a lot of 0.01 are a dime; 130 lots were closed, the last 30 at the same distance.
    assert records[-1]["pnl_usd"] == "12.9934"


def test_a_fill_that_moves_nothing_is_written_too(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.look()
    host.fill(Side.BUY, 99_900, 10)
    host.fill(Side.SELL, 100_100, 10)
    host.look()
    assert [record["why"] for record in host.records()] == ["anchored", "filled"]


def test_a_restart_takes_up_lines_and_round_trips(tmp_path: Path) -> None:
    first = traded(tmp_path)
    before = first.keeper.report()
    again = Host(tmp_path)
    assert again.keeper.restore(kept(tmp_path), 70, 0)
    after = again.keeper.report()
    assert after.ladder == before.ladder
    assert after.trips.open_lines == before.trips.open_lines
    assert (after.trips.round_trips, after.trips.pnl) == (0, 0)
    again.position = 70
    again.look(99_950.0)
    assert [(record["why"], record["missed_lots"]) for record in again.records()] == [("restored", 0)]


@pytest.mark.parametrize(
    ("position", "missed", "hole", "open_lots"),
    [
        (170, 100, -1, [(99_800, 100), (99_900, 70)]),
        (-30, -100, 0, [(100_100, 30)]),
        (70, 0, -1, [(99_900, 70)]),
    ],
)
def test_what_filled_after_the_record_filled_at_its_lines(
    tmp_path: Path, position: int, missed: int, hole: int, open_lots: list[tuple[int, int]]
) -> None:
    traded(tmp_path)
    again = Host(tmp_path)
    assert again.keeper.restore(kept(tmp_path), position, 0)
    report = again.keeper.report()
    assert report.ladder.hole == hole
    assert [(line.price_ticks, line.size_lots) for line in report.trips.open_lines] == open_lots
    assert again.records()[0]["missed_lots"] == missed


@pytest.mark.parametrize(
    ("change", "position", "why"),
    [
        ({}, 400, "expected a position that its lines lead to, was 400 lots"),
        ({"line_lots": 0}, 70, "expected an anchor, a distance and a size above 0"),
        ({"anchor_ticks": 0.0}, 70, "expected an anchor, a distance and a size above 0"),
        ({"spacing_bps": 9.0}, 70, "expected lines 10 bps apart or more, were 9"),
        ({"hole": "low"}, 70, "expected a ladder's record: Expected `int`, got `str` - at `$.ladder.hole`"),
    ],
)
def test_a_ladder_that_does_not_fit_is_dropped_and_the_journal_says_why(
    tmp_path: Path, change: dict[str, object], position: int, why: str
) -> None:
    traded(tmp_path)
    record = kept(tmp_path)
    assert record is not None
    record = record | {"ladder": record["ladder"] | change}  # type: ignore[operator]  # JSON
    again = Host(tmp_path)
    assert not again.keeper.restore(record, position, 200_001)
    assert again.keeper.report().ladder == LadderState()
    held = again.keeper.report().trips.open_lines
    assert [(line.price_ticks, line.size_lots) for line in held] == [(100_000, position)]
    assert [note["why"] for note in again.records("ladder_dropped")] == [why]


def test_without_a_record_there_is_nothing_to_say(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert not host.keeper.restore(None, 0, 0)
    assert host.records("ladder_dropped") == []


def test_a_ladder_of_another_venue_market_or_day_is_not_found(tmp_path: Path) -> None:
    traded(tmp_path)
    day_ns = 86_400 * NS_PER_S
    assert set(kept_ladders(tmp_path, "testnet", ("X-USD", "Y-USD"), NOW_NS + day_ns).records) == {"X-USD"}
    assert kept_ladders(tmp_path, "testnet", ("X-USD",), NOW_NS + day_ns + 1).records == {}
    assert kept_ladders(tmp_path, "testnet", ("X-USD",), NOW_NS - 1).records == {}
    assert kept_ladders(tmp_path, "paper", ("X-USD",), NOW_NS).records == {}
    assert kept_ladders(tmp_path, "testnet", ("Y-USD",), NOW_NS).records == {}
    assert kept_ladders(tmp_path / "none", "testnet", ("X-USD",), NOW_NS).records == {}


def test_the_newest_session_counts(tmp_path: Path) -> None:
    old = traded(tmp_path)
    os.utime(old.files.path, ns=(1, 1))
    new = Host(tmp_path)
    new.look(90_000.0)
    found = kept(tmp_path)
    assert found is not None
    assert found["ladder"]["anchor_ticks"] == 90_000.0  # type: ignore[index]  # JSON
