"""The journal: what is written comes back, whatever happens to the disk, the queue or the last line."""

import errno
import io
import json
import os
import stat
import threading
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker import journal_files
from market_maker.domain import Action, Decision, Fill, NewOrder, OrderState, Reason, Side, SlotId
from market_maker.gateway import FillReport, FundingPayment, OrderReport
from market_maker.instrument import Instrument
from market_maker.journal_files import JournalFiles, JournalSettings
from market_maker.trade_journal import (
    InlineSink,
    JournalCorrupt,
    ThreadSink,
    TradeJournal,
    latest_journal,
    latest_records,
    masked,
    read_journal,
)

DAY_NS = 86_400_000_000_000
SLOT = SlotId("BTC-USD", Side.BUY, 1)
KEEP = Decision(Action.KEEP, Reason.WITHIN_TOLERANCE, 0, 0, reduce_only=False)
FILL = FillReport(
    Fill("BTC-USD", 2**62, 5, "mm-1", Side.SELL, 100, 7, is_taker=False, venue_ns=1, recv_ns=2),
    Decimal("-0.0000001"),
)


class StoppedClock:
    def __init__(self, now_ns=1_700_000_000_000_000_000):
        self.now = now_ns

    def now_ns(self):
        return self.now

    def perf_ns(self):
        return self.now


class MemoryTarget:
    def __init__(self):
        self.data = bytearray()

    def write(self, data):
        self.data += data

    def flush(self):
        pass

    def close(self):
        pass


class FullDisk:
    """Takes so many bytes, then fails as a full disk does."""

    def __init__(self, room):
        self.room = room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self):
        pass

    def close(self):
        pass


class SlowDisk(MemoryTarget):
    """Does not write before it is allowed to."""

    def __init__(self):
        super().__init__()
        self.reached = threading.Event()
        self.allowed = threading.Event()

    def write(self, data):
        self.reached.set()
        self.allowed.wait(10)
        super().write(data)


def settings(folder="unused", **changes):
    return JournalSettings(**{"journal_dir": str(folder), "journal_batch_ms": 0.0} | changes)


def in_memory():
    target = MemoryTarget()
    return target, TradeJournal(InlineSink(target), StoppedClock())


def lines(target):
    return [json.loads(line) for line in bytes(target.data).splitlines()]


def test_records_are_plain_values():
    target, journal = in_memory()
    instrument = Instrument("BTC-USD", Decimal(1), Decimal("0.00001"), Decimal("0.0001"))
    journal.session_start({"BTC-USD": instrument}, {"size": Decimal("0.10"), "api_key": "hush"})
    journal.decision(SLOT, KEEP)
    journal.refused(SLOT, Reason.RISK_GROSS)
    journal.order_sent(
        NewOrder("BTC-USD", "b", Side.BUY, 9, 1, post_only=True, reduce_only=False, immediate_or_cancel=False,
                 expire_ns=5, nonce=6, replaces="a")
    )  # fmt: skip
    journal.cancel_sent("BTC-USD", "b")
    report = OrderReport(
        "BTC-USD",
        4,
        "b",
        Side.BUY,
        OrderState.LIVE,
        "NONE",
        9,
        1,
        0,
        reduce_only=False,
        post_only=True,
        venue_ns=3,
    )
    journal.order_report(report)
    journal.fill(FILL, 201)
    journal.funding(FundingPayment(1, "BTC-USD", 5, Decimal(40000), Decimal("0.00001"), Decimal("-0.40"), 7))
    journal.halt("", Reason.STOPPING, "signal")
    journal.note("account", {"equity": Decimal("10.000"), "path": Path("x")})
    journal.session_stop("signal", {"fills": 1}, ["mm-0-a"])
    journal.close()
    records = lines(target)
    assert [record["n"] for record in records] == list(range(1, 12))
    assert {record["t"] for record in records} == {1_700_000_000_000_000_000}
    by_type = {record["type"]: record for record in records}
    assert by_type["session_start"]["settings"] == {"size": "0.10", "api_key": "***"}
    assert by_type["session_start"]["markets"] == {"BTC-USD": {"tick": "1", "step": "0.00001"}}
    assert by_type["decision"]["action"] == "KEEP"
    assert by_type["decision"]["reason"] == "WITHIN_TOLERANCE"
    assert by_type["decision"]["side"] == "BUY"
    assert by_type["refused"]["reason"] == "RISK_GROSS"
    assert by_type["order_sent"]["replaces"] == "a"
    assert by_type["order"]["state"] == "LIVE"
    assert by_type["fill"]["fee"] == "-1E-7"
    assert (by_type["fill"]["trade_id"], by_type["fill"]["mid2_ticks"]) == (2**62, 201)
    assert by_type["funding"]["amount"] == "-0.40"
    assert by_type["account"] == {
        "type": "account",
        "t": records[0]["t"],
        "n": 10,
        "equity": "10.000",
        "path": "x",
    }


def test_secrets_are_masked_at_any_depth():
    fields = {"a": {"stark_PRIVATE_KEY": "x", "b": [{"password": 1, "c": 2}]}, "order_rate_tokens": 5}
    assert masked(fields) == {
        "a": {"stark_PRIVATE_KEY": "***", "b": [{"password": "***", "c": 2}]},
        "order_rate_tokens": 5,
    }


def test_session_in_files(tmp_path):
    clock = StoppedClock()
    sink = ThreadSink(JournalFiles("mm", settings(tmp_path / "j"), clock), settings())
    journal = TradeJournal(sink, clock)
    journal.fill(FILL, 201)
    journal.decision(SLOT, KEEP)
    journal.close()
    assert journal.failed is None
    (path,) = latest_journal(tmp_path / "j")
    assert [record["type"] for record in read_journal(path)] == ["fill", "decision"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_rotation_by_size_and_by_day(tmp_path):
    clock = StoppedClock(DAY_NS * 100)
    files = JournalFiles("mm-x", settings(tmp_path, journal_max_bytes=60), clock)
    for part in ("a", "b", "c"):
        files.write(json.dumps({"part": part * 20}).encode() + b"\n")
    clock.now += DAY_NS
    files.write(b'{"part":"d"}\n')
    assert files.path.name.endswith("-0003.jsonl")
    files.close()
    files.close()
    paths = latest_journal(tmp_path)
    assert paths[-1] == files.path
    parts = [[record["part"][0] for record in read_journal(path)] for path in paths]
    assert parts == [["a"], ["b"], ["c"], ["d"]]


def test_latest_session_is_the_one_written_last(tmp_path):
    assert latest_journal(tmp_path) == []
    for name, now_ns, written_s in (("aa", 2 * DAY_NS, 1), ("zz", DAY_NS, 3), ("bb", DAY_NS, 2)):
        files = JournalFiles(name, settings(tmp_path), StoppedClock(now_ns))
        files.close()
        os.utime(files.path, (written_s, written_s))
    assert [path.name[:2] for path in latest_journal(tmp_path)] == ["zz"]


def test_sessions_of_one_instant_have_files_of_their_own(tmp_path):
    first = JournalFiles("mm", settings(tmp_path), StoppedClock(DAY_NS))
    first.close()
    second = JournalFiles("mm", settings(tmp_path), StoppedClock(DAY_NS))
    second.close()
    assert first.path.name == "mm-19700102T000000.000000-0000.jsonl"
    assert second.path.name == "mm-19700102T000000.000001-0000.jsonl"


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        JournalFiles("mm", settings(tmp_path / "file"), StoppedClock())


def test_a_full_disk_is_a_state_and_no_exception():
    journal = TradeJournal(InlineSink(FullDisk(200)), StoppedClock())
    for _ in range(5):
        journal.decision(SLOT, KEEP)
    assert "No space left" in journal.failed
    assert journal.dropped == 4
    journal.close()


def test_a_full_disk_behind_the_thread():
    sink = ThreadSink(FullDisk(10), settings())
    journal = TradeJournal(sink, StoppedClock())
    journal.fill(FILL, 201)
    journal.close()
    assert "No space left" in journal.failed
    journal.fill(FILL, 201)
    assert journal.dropped == 1


class MendedDisk(MemoryTarget):
    """Fails until it is mended; what it was given meanwhile waits for that, as `JournalFiles` has it."""

    def __init__(self):
        super().__init__()
        self.failed = threading.Event()
        self.mended = threading.Event()
        self.left = b""

    def write(self, data):
        self.left += data
        if not self.mended.is_set():
            self.failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        self.data += self.left
        self.left = b""


def test_the_journal_goes_on_once_the_disk_has_room_again_and_no_fill_is_lost():
    disk = MendedDisk()
    journal = TradeJournal(ThreadSink(disk, settings()), StoppedClock())
    journal.fill(FILL, 201)
    assert disk.failed.wait(10)
    while journal.failed is None:
        continue
    journal.decision(SLOT, KEEP)
    journal.fill(FILL, 203)
    assert journal.dropped == 1
    disk.mended.set()
    journal.close()
    records = lines(disk)
    assert [record["type"] for record in records] == ["fill", "fill", "dropped"]
    assert [record.get("mid2_ticks") for record in records] == [201, 203, None]
    assert journal.failed is None


class OddFile(io.FileIO):
    """Takes so many bytes, then says that the disk is full until told otherwise."""

    room = 0

    def write(self, data):
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = super().write(bytes(data)[: self.room])
        OddFile.room -= taken
        return taken


def test_a_file_goes_on_at_the_byte_where_a_full_disk_stopped_it(tmp_path, monkeypatch):
    monkeypatch.setattr(journal_files, "FileIO", OddFile)
    files = JournalFiles("mm", settings(tmp_path, journal_max_bytes=20), StoppedClock())
    OddFile.room = 5
    with pytest.raises(OSError, match="No space"):
        files.write(b'{"a":1}\n')
    with pytest.raises(OSError, match="No space"):
        files.write(b'{"a":2}\n')
    assert files.path.read_bytes() == b'{"a":'
    OddFile.room = 1_000
    files.flush()
    files.write(b'{"a":3}\n')
    files.close()
    assert [r["a"] for path in sorted(tmp_path.iterdir()) for r in read_journal(path)] == [1, 2, 3]


def test_back_pressure_drops_ordinary_records_counts_them_and_keeps_fills():
    disk = SlowDisk()
    journal = TradeJournal(ThreadSink(disk, settings(journal_queue_records=2)), StoppedClock())
    journal.decision(SLOT, KEEP)
    assert disk.reached.wait(10)
    for _ in range(5):
        journal.decision(SLOT, KEEP)
    assert journal.dropped == 3
    journal.fill(FILL, 201)
    disk.allowed.set()
    journal.close()
    records = lines(disk)
    assert [record["type"] for record in records] == ["decision"] * 3 + ["fill", "dropped"]
    assert records[-1]["count"] == 3
    assert journal.failed is None


def test_a_disk_that_hangs_at_the_end_is_a_failure():
    disk = SlowDisk()
    journal = TradeJournal(ThreadSink(disk, settings(journal_close_timeout_s=0.01)), StoppedClock())
    journal.fill(FILL, 201)
    assert disk.reached.wait(10)
    journal.close()
    assert "0.01 s" in journal.failed
    disk.allowed.set()


def test_corrupt_middle_line_names_file_and_line(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"a":1}\n{"b":\n{"c":3}\n')
    reader = read_journal(path)
    assert next(reader) == {"a": 1}
    with pytest.raises(JournalCorrupt, match=r"j\.jsonl:2: expected a JSON object"):
        next(reader)
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(JournalCorrupt, match=r"j\.jsonl:1:"):
        list(read_journal(path))


@pytest.mark.slow
def test_torn_at_every_byte_offset(tmp_path):
    target, journal = in_memory()
    journal.fill(FILL, 201)
    journal.note("text", {"words": 'ümläut \n " ∆'})
    journal.decision(SLOT, KEEP)
    whole = bytes(target.data)
    records = lines(target)
    path = tmp_path / "torn.jsonl"
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        ends = [i for i in range(len(whole)) if whole[i : i + 1] == b"\n"]
        complete = sum(end <= cut for end in ends)
        found = list(read_journal(path))
        assert found[:complete] == records[:complete]
        rest = found[complete:]
        torn = cut not in {0, *ends, *(end + 1 for end in ends)}
        assert [record["type"] for record in rest] == (["torn"] if torn else [])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    records=st.lists(
        st.dictionaries(st.text(alphabet="abcxyz", min_size=1), json_values, max_size=4), max_size=5
    )
)
def test_round_trip(records, tmp_path_factory):
    target, journal = in_memory()
    for record in records:
        journal.note("note", record)
    path = tmp_path_factory.getbasetemp() / "round-trip.jsonl"
    path.write_bytes(bytes(target.data))
    found = [
        {key: item for key, item in record.items() if key not in ("type", "t", "n")}
        for record in read_journal(path)
    ]
    assert found == records


def test_what_a_restart_needs_is_found_session_by_session_the_last_first(tmp_path):
    clock = StoppedClock()
    for number in range(3):
        clock.now += DAY_NS
        files = JournalFiles("mm", JournalSettings(str(tmp_path)), clock)
        journal = TradeJournal(InlineSink(files), clock)
        journal.note("other", {"number": -1})
        journal.keep("ladder", {"number": number})
        journal.keep("ladder", {"number": number + 10})
        journal.close()
        os.utime(files.path, ns=(clock.now, clock.now))
    with files.path.open("ab") as file:
        file.write(b'{"type":"ladder","t":\n{"type":"ladder","numb')
    found = [[record["number"] for record in session] for session in latest_records(tmp_path, "ladder", 2)]
    assert found == [[2, 12], [1, 11]]
    assert list(latest_records(tmp_path / "none", "ladder", 2)) == []
