"""The disk of a simulation: slow, full and mended, and what a kill leaves of what waited for it."""

import asyncio
import json

import pytest
from inside import in_virtual_time

from market_maker.clock import LoopClock
from market_maker.faultsim.virtual_disk import VirtualDisk, VirtualSink
from market_maker.journal_files import JournalSettings


def written(folder, program) -> bytes:
    """What is in the files after a program that is given the disk and a sink on it."""

    async def main():
        disk = VirtualDisk(folder)
        clock = LoopClock(asyncio.get_running_loop(), 0)
        sink = VirtualSink(disk, JournalSettings(str(folder)), clock, "mm")
        await program(disk, sink)

    in_virtual_time(main)
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def test_lines_gather_for_a_batch_and_then_outlive_a_kill(tmp_path):
    async def program(_disk, sink):
        sink.write(b"1\n", keep=False)
        await asyncio.sleep(0.06)
        sink.write(b"2\n", keep=True)
        sink.kill(0.0)
        assert not sink.write(b"3\n", keep=True)
        sink.close()

    assert written(tmp_path, program) == b"1\n"


def test_what_was_under_way_at_a_kill_is_torn(tmp_path):
    async def program(_disk, sink):
        sink.write(b"12345\n", keep=True)
        sink.write(b"67890\n", keep=True)
        sink.kill(0.75)

    assert written(tmp_path, program) == b"12345\n678"


def test_a_slow_disk_writes_late(tmp_path):
    async def program(disk, sink):
        disk.delay_s = 2.0
        sink.write(b"1\n", keep=True)
        await asyncio.sleep(1.9)
        sink.kill(0.0)
        assert disk.counts["slow_disk"] == 1

    assert written(tmp_path, program) == b""


def test_a_full_disk_is_said_drops_what_may_be_dropped_and_loses_nothing_else(tmp_path):
    async def program(disk, sink):
        disk.is_full = True
        sink.write(json.dumps({"a": 1}).encode() + b"\n", keep=True)
        await asyncio.sleep(0.1)
        assert "No space" in sink.failed
        assert not sink.write(b"dropped\n", keep=False)
        assert sink.write(b'{"a": 2}\n', keep=True)
        disk.is_full = False
        await asyncio.sleep(1.1)
        assert sink.failed is None
        sink.close()

    assert [json.loads(line)["a"] for line in written(tmp_path, program).splitlines()] == [1, 2]


@pytest.mark.parametrize("mends", [False, True])
def test_the_end_of_a_process_on_a_full_disk(tmp_path, mends):
    async def program(disk, sink):
        disk.is_full = True
        sink.write(b"1\n", keep=True)
        await asyncio.sleep(0.1)
        disk.is_full = not mends
        sink.close()
        assert (sink.failed is None) == mends

    assert written(tmp_path, program) == (b"1\n" if mends else b"1")
