"""The record of what decisions were made from: it comes back, whole or cut off, and never otherwise."""

import json
import os
import stat

import pytest
from fakes import ManualClock
from recorded import RecordedDesk, Recording

from market_maker.decision_record import DecisionTape, InputsFile, InputsUnreadable, pack_block
from market_maker.decision_replay import find_inputs
from market_maker.journal_files import JournalFiles, JournalSettings
from market_maker.kernel import sources_hash
from market_maker.trade_journal import InlineSink, ThreadSink, TradeJournal, read_journal


def recorded(tmp_path, steps=40, **how):
    recording = Recording(tmp_path / "j", **how)
    RecordedDesk(recording.tape).walk(steps)
    return find_inputs(recording.end())


def numbers(path):
    return [block.number for block in InputsFile(path).blocks()]


def test_blocks_come_back_in_order_and_the_file_says_who_wrote_it(tmp_path):
    [path] = recorded(tmp_path)
    file = InputsFile(path)
    blocks = list(file.blocks())
    assert [block.number for block in blocks] == list(range(len(blocks)))
    assert len(blocks) > 3
    assert (file.torn_bytes, file.read_bytes) == (0, path.stat().st_size)
    assert file.sources == sources_hash()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_the_same_calls_are_the_same_bytes(tmp_path):
    first, second = (recorded(tmp_path / name)[0].read_bytes() for name in "ab")
    assert first == second


def test_records_go_out_after_a_second_or_when_there_are_many():
    blocks = []
    tape = DecisionTape(lambda block: blocks.append(block) or True)
    tape.add(b"x", 5)
    assert blocks == [b"\0\0\0\0x"]
    tape.add(b"y", 999_999_999)
    assert len(blocks) == 1
    tape.add(b"z", 1_000_000_005)
    assert blocks[1:] == [b"\1\0\0\0yz"]
    for _ in range(1024):
        tape.add(b"w", 1_000_000_006)
    assert blocks[2:] == [b"\2\0\0\0" + b"w" * 1024]
    tape.flush()
    assert len(blocks) == 3


def test_files_are_cut_by_size_and_each_begins_with_the_header(tmp_path):
    paths = recorded(tmp_path, 200, max_bytes=14_000)
    assert len(paths) > 2
    assert [path.name[-11:] for path in paths[:2]] == ["0000.inputs", "0001.inputs"]
    assert len({path.read_bytes().partition(b"\n")[0] for path in paths}) == 1
    found = [number for path in paths for number in numbers(path)]
    assert found == list(range(len(found)))


def test_a_file_that_is_cut_off_anywhere_gives_its_whole_blocks(tmp_path):
    [path] = recorded(tmp_path)
    data, every = path.read_bytes(), numbers(path)
    begin = data.index(b"\n") + 1
    torn = path.with_name("torn.inputs")
    for size in [*range(begin, len(data), 97), len(data) - 1]:
        torn.write_bytes(data[:size])
        file = InputsFile(torn)
        found = [block.number for block in file.blocks()]
        assert found == every[: len(found)]
        assert file.read_bytes + file.torn_bytes == size or not found
        assert len(found) < len(every)


def test_a_last_block_that_was_written_in_part_is_torn(tmp_path):
    [path] = recorded(tmp_path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    file = InputsFile(path)
    assert len(list(file.blocks())) > 2
    assert file.torn_bytes > 0


def test_a_block_that_is_damaged_before_others_is_told_with_its_place(tmp_path):
    [path] = recorded(tmp_path)
    data = bytearray(path.read_bytes())
    begin = data.index(b"\n") + 1
    data[begin + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputsUnreadable, match=f"a sound block at byte {begin}, was a damaged one"):
        list(InputsFile(path).blocks())


@pytest.mark.parametrize("data", [b"", b"{}\n", b"mm-inputs 2 {}\n", b"mm-inputs 1 {\n", b"mm-inputs 1 []\n"])
def test_what_is_no_record_is_refused(tmp_path, data):
    path = tmp_path / "mm-1-0000.inputs"
    path.write_bytes(data)
    with pytest.raises(InputsUnreadable, match="mm-inputs 1"):
        InputsFile(path)


def test_rows_of_another_version_are_refused_with_the_field(tmp_path):
    [path] = recorded(tmp_path)
    title, _, rest = path.read_bytes().partition(b"\n")
    header = json.loads(title[len(b"mm-inputs 1 ") :])
    header["rows"]["Account"]["mark_ticks"][1] = "<f4[]"
    path.write_bytes(b"mm-inputs 1 " + json.dumps(header).encode() + b"\n" + rest)
    with pytest.raises(InputsUnreadable, match=r"was Account of version .* differs in mark_ticks"):
        InputsFile(path)


def test_an_empty_block_is_whole():
    assert len(pack_block(b"\1\0\0\0")) > 20


class FullInputs:
    """Beside a journal that is written, inputs that are not."""

    def __init__(self, folder):
        settings = JournalSettings(journal_dir=str(folder), journal_batch_ms=0.0)
        self.files = JournalFiles("mm", settings, ManualClock())
        self.inputs = self.files.inputs()
        self.settings = settings
        # Another file is where the first one is to be made.
        self.files.path.with_suffix(".inputs").touch()


@pytest.mark.parametrize("threaded", [False, True])
def test_inputs_that_cannot_be_written_leave_the_journal_whole(tmp_path, threaded):
    full = FullInputs(tmp_path)
    if threaded:
        sink = ThreadSink(full.files, full.settings, full.inputs)
    else:
        sink = InlineSink(full.files, full.inputs)
    journal = TradeJournal(sink, ManualClock())
    RecordedDesk(journal.tape).walk(20)
    journal.note("hello", {})
    journal.close()
    assert journal.failed is None
    assert "exists" in full.inputs.failed
    assert next(read_journal(full.files.path))["type"] == "hello"


@pytest.mark.parametrize("threaded", [False, True])
def test_a_journal_writes_inputs_beside_its_lines(tmp_path, threaded):
    settings = JournalSettings(journal_dir=str(tmp_path), journal_batch_ms=0.0)
    files = JournalFiles("mm", settings, ManualClock())
    inputs = files.inputs()
    sink = ThreadSink(files, settings, inputs) if threaded else InlineSink(files, inputs)
    journal = TradeJournal(sink, ManualClock())
    RecordedDesk(journal.tape).walk(50)
    journal.close()
    [path] = find_inputs(files.path)
    assert numbers(path) == list(range(len(numbers(path))))
    assert journal.tape.dropped == 0


def test_a_journal_keeps_no_inputs_where_they_are_not_wanted(tmp_path):
    settings = JournalSettings(journal_dir=str(tmp_path), journal_inputs_enabled=False)
    files = JournalFiles("mm", settings, ManualClock())
    journal = TradeJournal(InlineSink(files, files.inputs()), ManualClock())
    journal.close()
    assert journal.tape is None
    assert not list(tmp_path.glob("*.inputs"))
