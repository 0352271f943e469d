"""The recorder: what a gateway tells of markets, written down as it came, for as long as it is left running.

A block is written each second and each thousand records, so a process that is killed loses a second at most;
what was written stays readable (recordings/segments.py). A new segment begins with each start, each hour and
each so many bytes. Between segments of one run nothing is lost: the stream goes on.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S
from market_maker.exchanges.records import record_of
from market_maker.gateway import Gateway
from market_maker.instrument import Instrument
from market_maker.recordings.segments import SUFFIX, Record, SegmentHeader, SegmentWriter, cut_torn_tail

_BLOCK_RECORDS: Final = 1_000
_HOUR_NS: Final = 3_600 * NS_PER_S


@dataclass(frozen=True, slots=True)
class RecorderSettings:
    """How often a block is written (s), and at what size a segment ends (bytes)."""

    block_s: float = 1.0
    segment_bytes: int = 256 << 20


class Recorder:
    """Records markets of a gateway into segments below a folder, one folder for each market.

    Parameters
    ----------
    network : str
        What the segments say they were heard on.

    Attributes
    ----------
    counts : Counter
        Records by market and kind, such as `("BTC-USD", "book")`.
    """

    def __init__(
        self,
        gateway: Gateway,
        folder: Path,
        clock: Clock,
        network: str,
        settings: RecorderSettings | None = None,
    ) -> None:
        self._gateway = gateway
        self._folder = folder
        self._clock = clock
        self._network = network
        self._settings = settings or RecorderSettings()
        self.counts: Counter[tuple[str, str]] = Counter()

    async def run(self, markets: Sequence[str]) -> None:
        """Record until cancelled; what was heard is on the disk then.

        Raises
        ------
        VenueError
            If a market is not known.
        OSError
            If the disk does not take it.
        """
        instruments = await self._gateway.instruments(markets)
        tasks = [asyncio.create_task(self._record(instruments[market])) for market in markets]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _record(self, instrument: Instrument) -> None:
        header = SegmentHeader(
            instrument.name, str(instrument.tick), str(instrument.step), self._network, self._clock.now_ns()
        )
        segments = _Segments(self._folder, header, self._settings)
        waiting: list[Record] = []
        writer = asyncio.create_task(self._write_blocks(segments, waiting))
        try:
            async for event in self._gateway.market_events(instrument.name):
                now_ns = self._clock.now_ns()
                waiting.append(record_of(event, now_ns))
                self.counts[instrument.name, type(event).__name__] += 1
                if writer.done():
                    # The disk does not take it: say so now, not at the end of the recording.
                    await writer
                if len(waiting) >= _BLOCK_RECORDS:
                    segments.write(waiting, now_ns)
        finally:
            writer.cancel()
            segments.write(waiting, self._clock.now_ns())
            segments.close()

    async def _write_blocks(self, segments: "_Segments", waiting: list[Record]) -> None:
        while True:
            await asyncio.sleep(self._settings.block_s)
            segments.write(waiting, self._clock.now_ns())


class _Segments:
    """The segment that is being written, and the rule when the next one begins."""

    def __init__(self, folder: Path, header: SegmentHeader, settings: RecorderSettings) -> None:
        self._folder = folder / header.market
        self._header = header
        self._settings = settings
        self._writer: SegmentWriter | None = None
        self._hour = 0
        for path in sorted(self._folder.glob(f"*{SUFFIX}"))[-1:]:
            cut_torn_tail(path)

    def write(self, records: list[Record], now_ns: int) -> None:
        """Append the records, and forget them."""
        if not records:
            return
        writer = self._writer
        if writer is None or now_ns // _HOUR_NS != self._hour or writer.size >= self._settings.segment_bytes:
            writer = self._next(now_ns)
        writer.write(records)
        records.clear()

    def close(self) -> None:
        """End the segment."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _next(self, now_ns: int) -> SegmentWriter:
        self.close()
        self._hour = now_ns // _HOUR_NS
        stamp = str(np.datetime64(now_ns, "ns")).replace(":", "").replace("-", "")
        self._writer = SegmentWriter(self._folder / f"{stamp}{SUFFIX}", self._header)
        return self._writer
