"""Conversion of recordings, whatever their format, to the event format; with what validation found.

One clock offset is taken out of all markets of a venue: a recorder has one clock. Where its fastest messages
seem to arrive before they were sent, the clock is behind by at least that; the offset is the fastest
thousandth of the hour in which they were fastest. A clock that is ahead cannot be told from a slow way.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from market_maker.recordings.columns import ParquetMarket
from market_maker.recordings.discovery import market_name, open_recording
from market_maker.recordings.event_source import raw_messages
from market_maker.recordings.events import RecordedMarket, RecordingError
from market_maker.recordings.findings import Findings
from market_maker.recordings.grid import Grid
from market_maker.recordings.hour_folding import HourFolding
from market_maker.recordings.messages import Messages
from market_maker.recordings.parquet_source import parquet_messages
from market_maker.recordings.raw import RawMarket
from market_maker.recordings.segment_source import (
    SegmentMarket,
    open_segments,
    segment_files,
    segment_messages,
)
from market_maker.recordings.store import FORMAT_VERSION, LAST, Hour, MarketInfo, SourceInfo
from market_maker.recordings.store_writer import MarketWriter
from market_maker.recordings.tardis_source import TardisMarket, is_tardis, open_tardis, tardis_messages

_FASTEST: Final = 0.001
_NS_PER_US: Final = 1_000
_KEPT_GAPS: Final = 10_000
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One market of a recording, ready to be converted: its grid, its files, and its messages.

    `span_ns` is from the first stamp to the last, for the progress; (0, 0) where that is not known.
    """

    market: str
    venue: str
    grid: Grid
    files: tuple[Path, ...]
    messages: Callable[[Findings], Iterator[Messages]]
    span_ns: tuple[int, int] = (0, 0)


# What is told while a conversion runs: the market, the stamp reached, events written so far.
Progress = Callable[[str, int, int], None]


def convert(
    sources: Sequence[Source], store: Path, *, replace: bool = False, progress: Progress | None = None
) -> list[MarketInfo]:
    """Convert markets of recordings into a store; all of them or, where one fails, none.

    Raises
    ------
    RecordingError
        At the first row, line or stamp that cannot be repaired; nothing is left behind.
    """
    names = [source.market for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"{store}: expected each market from one source, was {', '.join(twice)} from more"
        raise RecordingError(msg)
    with ExitStack() as stack:
        staged = []
        for source in sources:
            writer = stack.enter_context(MarketWriter(store, source.market, replace=replace))
            staged.append(_stage(source, writer, progress))
        fastest: dict[str, int] = {}
        for market in staged:
            venue = market.source.venue
            fastest[venue] = min(fastest.get(venue, 0), market.fastest_us)
        return [market.commit(fastest[market.source.venue] * _NS_PER_US) for market in staged]


@dataclass(frozen=True, slots=True)
class _Staged:
    source: Source
    writer: MarketWriter
    findings: Findings
    fastest_us: int

    def commit(self, offset_ns: int) -> MarketInfo:
        """Move the market into place."""
        source, findings = self.source, self.findings
        findings.count("gaps", len(findings.gaps))
        return self.writer.commit(
            MarketInfo(
                version=FORMAT_VERSION,
                market=source.market,
                venue=source.venue,
                tick=format(source.grid.tick.normalize(), "f"),
                step=format(source.grid.step.normalize(), "f"),
                clock_offset_ns=offset_ns,
                counts={},
                gaps=findings.gaps[:_KEPT_GAPS],
                findings=dict(sorted(findings.counts.items())),
                sources=[_source_info(path) for path in source.files],
                hours=[],
            )
        )


def _stage(source: Source, writer: MarketWriter, progress: Progress | None) -> _Staged:
    findings = Findings()
    folding = HourFolding(f"{source.files[0]}: {source.market}", findings)
    fastest_us, events = 0, 0
    for messages in source.messages(findings):
        for hour in folding.feed(messages):
            fastest_us = min(fastest_us, _fastest_us(hour))
            events += hour.kind.size
            writer.add(hour)
        if progress is not None:
            progress(source.market, int(messages.at_ns[-1]), events)
    for hour in folding.finish():
        fastest_us = min(fastest_us, _fastest_us(hour))
        writer.add(hour)
    if not writer.hours:
        msg = f"{source.files[0]}: expected messages of {source.market}, was without"
        raise RecordingError(msg)
    return _Staged(source, writer, findings, fastest_us)


def _fastest_us(hour: Hour) -> int:
    delays = hour.delay_us[(hour.kind & LAST) != 0]
    return int(np.quantile(delays, _FASTEST, method="lower"))


def _source_info(path: Path) -> SourceInfo:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return SourceInfo(path.name, path.stat().st_size, digest.hexdigest())


def open_sources(
    path: Path, markets: Sequence[str] = (), grids: dict[str, Grid] | None = None, venue: str = ""
) -> list[Source]:
    """Open a recording of any format for conversion.

    Parameters
    ----------
    markets : sequence of str
        Markets wanted; empty for all that are there.
    grids : dict
        Tick and step by market, where what the data show is not to be relied on.
    venue : str
        Whose clock it is; else the venue that the files name, or the folder's name.

    Raises
    ------
    RecordingError
        If it cannot be read, or lacks a market.
    """
    files = [path] if path.is_file() else sorted(path.glob("*"))
    segments = segment_files(path)
    if segments:
        found = [_segment_source(market, venue) for market in open_segments(segments).values()]
        return _wanted(path, found, markets)
    tables = [file for file in files if is_tardis(file)]
    if tables:
        found = [_tardis_source(market, venue) for market in open_tardis(tables, grids or {}).values()]
        return _wanted(path, found, markets)
    recording = open_recording(path, markets, grids)
    label = venue or (path if path.is_dir() else path.resolve().parent).name
    return [_source(name, market, label) for name, market in recording.markets.items()]


def _wanted(path: Path, found: list[Source], markets: Sequence[str]) -> list[Source]:
    names = [market_name(market) for market in markets] or [source.market for source in found]
    missing = sorted(set(names) - {source.market for source in found})
    if missing:
        there = ", ".join(source.market for source in found)
        msg = f"{path}: expected the markets {', '.join(missing)}, was a recording of {there}"
        raise RecordingError(msg)
    return [source for source in found if source.market in names]


def _tardis_source(market: TardisMarket, venue: str) -> Source:
    files = tuple(path for paths in market.files.values() for path in paths)
    return Source(
        market.market,
        venue or market.venue,
        market.grid,
        files,
        lambda findings: tardis_messages(market, findings),
    )


def _segment_source(market: SegmentMarket, venue: str) -> Source:
    header = market.header
    return Source(
        header.market,
        venue or header.network,
        market.grid,
        market.files,
        lambda findings: segment_messages(market, findings),
    )


def _source(name: str, market: RecordedMarket, venue: str) -> Source:
    if isinstance(market, ParquetMarket):
        tables = [table for table in (market.book, market.trades, market.quotes) if table is not None]
        first_ns = min(table.first_ns for table in tables)
        return Source(
            name,
            venue,
            market.grid,
            tuple(table.path for table in tables),
            lambda findings: parquet_messages(market, findings),
            (first_ns, market.last_ns),
        )
    if isinstance(market, RawMarket):
        return Source(
            name,
            venue,
            market.grid,
            tuple(file.path for file in market.files),
            lambda findings: raw_messages(market, findings),
            (market.first_ns, market.last_ns),
        )
    msg = f"{name}: expected Parquet or raw files, was another format"
    raise RecordingError(msg)
