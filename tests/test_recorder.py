"""The recorder: everything heard is on the disk, in blocks and segments, whatever ends it."""

import asyncio
from decimal import Decimal

import pytest
from inside import BTC, Inside, in_virtual_time

from market_maker.clock import LoopClock
from market_maker.domain import NS_PER_S, BestQuote, BookUpdate, Side, Trade
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.exchanges.records import record_of
from market_maker.gateway import FundingRate, IndexPrice, MarketNotFound, MarkPrice, StreamLost
from market_maker.instrument import Instrument
from market_maker.recorder import Recorder, RecorderSettings
from market_maker.recordings.segments import SegmentHeader, SegmentWriter, read_header, read_records

T0 = 1_767_571_230 * NS_PER_S
EVENTS = [
    BookUpdate(BTC, True, [(100, 5)], [(102, 5)], 1, T0, T0 + 10),
    BestQuote(BTC, 101, 7, 102, 4, T0 + 5, T0 + 20),
    Trade(BTC, 9, Side.SELL, 101, 3, T0 + 4, T0 + 30),
    MarkPrice(BTC, Decimal("101.25"), T0 + 6),
    IndexPrice(BTC, Decimal("101.5"), T0 + 6),
    FundingRate(BTC, Decimal("0.000013"), T0 + 6),
    StreamLost(BTC, "silent"),
]


class Told:
    """A gateway that tells what it is given, one event each `pause_s`, then waits for ever."""

    def __init__(self, events, pause_s=0.1):
        self.events = events
        self.pause_s = pause_s

    async def instruments(self, markets):
        return {name: Instrument(name, Decimal(1), Decimal("0.1"), Decimal("0.1")) for name in markets}

    async def market_events(self, market):
        for event in self.events:
            await asyncio.sleep(self.pause_s)
            yield event
        await asyncio.Event().wait()


def record(folder, gateway, seconds, settings=None, markets=(BTC,), start_ns=T0):
    """Record in virtual time; the segments, and what each holds."""

    async def main():
        clock = LoopClock(asyncio.get_running_loop(), start_ns)
        recorder = Recorder(gateway, folder, clock, "emulator", settings)
        task = asyncio.create_task(recorder.run(markets))
        await asyncio.sleep(seconds)
        before = segments(folder)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return recorder, before

    return in_virtual_time(main)


def segments(folder):
    return {path: list(read_records(path)) for path in sorted(folder.rglob("*.mmrec"))}


def test_every_kind_of_event_is_written(tmp_path):
    recorder, _ = record(tmp_path, Told(EVENTS), 5)
    [(path, found)] = segments(tmp_path).items()
    assert path.parent.name == BTC
    assert read_header(path).tick == "1"
    stamps = [T0 + round((number + 1) * 0.1 * NS_PER_S) for number in range(len(EVENTS))]
    assert [type(record) for record in found] == [type(record_of(event, 0)) for event in EVENTS]
    assert found[:3] == [record_of(event, 0) for event in EVENTS[:3]]
    assert [record.recv_ns for record in found[3:]] == pytest.approx(stamps[3:], abs=1000)
    assert sum(recorder.counts.values()) == len(EVENTS)


def test_what_was_heard_a_second_ago_is_on_the_disk_before_the_end(tmp_path):
    _, before = record(tmp_path, Told(EVENTS * 10), 5.05)
    [found] = before.values()
    assert 39 <= len(found) <= 50


def test_segments_end_by_the_hour_and_by_size(tmp_path):
    started = T0 // (3600 * NS_PER_S) * 3600 * NS_PER_S + 3598 * NS_PER_S
    record(tmp_path / "hour", Told(EVENTS * 5), 5, start_ns=started)
    found = segments(tmp_path / "hour")
    assert len(found) == 2
    assert sum(map(len, found.values())) == 35
    assert len({read_header(path).run_ns for path in found}) == 1
    record(tmp_path / "size", Told(EVENTS * 10), 10, RecorderSettings(segment_bytes=100))
    found = segments(tmp_path / "size")
    assert len(found) > 5
    assert sum(map(len, found.values())) == 70


def test_a_start_cuts_what_the_last_one_was_torn_in(tmp_path):
    path = tmp_path / BTC / "0.mmrec"
    writer = SegmentWriter(path, SegmentHeader(BTC, "1", "0.1", "emulator", 1))
    writer.write([record_of(event, 0) for event in EVENTS])
    writer.close()
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"MMB1\x00\xff")
    record(tmp_path, Told(EVENTS), 2)
    assert path.stat().st_size == size
    assert len(segments(tmp_path)) == 2


def test_a_disk_that_does_not_take_it_ends_the_recording(tmp_path):
    (tmp_path / BTC).write_text("a file where the folder should be")

    async def main():
        clock = LoopClock(asyncio.get_running_loop(), T0)
        await Recorder(Told(EVENTS * 100), tmp_path, clock, "emulator").run([BTC])

    with pytest.raises(OSError, match=BTC):
        in_virtual_time(main)


class Overheard(InProcessGateway):
    """A gateway that keeps what it told."""

    def __init__(self, driver, account_id):
        super().__init__(driver, account_id)
        self.told = []

    async def market_events(self, market):
        async for event in super().market_events(market):
            self.told.append(event)
            yield event


@pytest.mark.slow
def test_the_emulators_streams_recorded_are_those_that_were_heard(tmp_path):
    async def main():
        inside = Inside("calm")
        gateway = Overheard(inside.driver, inside.account_id)
        recorder = Recorder(gateway, tmp_path, inside.clock, "emulator")
        task = asyncio.create_task(recorder.run([BTC]))
        await asyncio.sleep(20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(MarketNotFound):
            await recorder.run(["NONE-USD"])
        return gateway.told

    told = in_virtual_time(main)
    [found] = segments(tmp_path).values()
    assert len(found) == len(told) > 100
    assert found == [record_of(event, record.recv_ns) for event, record in zip(told, found, strict=True)]
