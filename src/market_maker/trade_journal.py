"""What happened, one JSON value a line, readable after a crash.

The event loop encodes a record and hands the bytes to a sink. Live, that is a thread which writes and syncs
in batches: a synchronous fsync on the loop stalls it for up to 200 ms. In virtual time it writes at once.

A full queue drops ordinary records and says so in the journal; records of money (fills, funding, sessions,
halts) stay. A failing disk ends nothing: `failed` says why, records of money wait for it, and the journal
goes on once it works. Secrets are masked by key.
"""

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from market_maker.clock import Clock
from market_maker.decision_record import DecisionTape
from market_maker.domain import Action, Decision, NewOrder, Reason, Side, SlotId
from market_maker.gateway import FillReport, FundingPayment, OrderReport
from market_maker.instrument import Instrument
from market_maker.journal_files import JOURNAL_SUFFIX, InputFiles, JournalSettings, Target

_SECRET_WORDS: Final = ("api_key", "apikey", "private_key", "secret", "password", "auth_token")
_SHOWN_BYTES: Final = 80
# Between two looks at whether a disk that failed works again.
_RETRY_S: Final = 1.0
# A second of a market each, or a thousand records.
_QUEUED_BLOCKS: Final = 256
# An enum's own `.name` and its construction cost microseconds a decision.
_SIDES: Final = {int(side): side.name for side in Side}
_ACTIONS: Final = {int(action): action.name for action in Action}
_REASONS: Final = {int(reason): reason.name for reason in Reason}


class JournalCorrupt(ValueError):
    """A line that is not the last is no JSON object: the file was damaged, not torn by a crash."""


class Sink(Protocol):
    """Takes the lines of a journal. It never raises and never blocks for long."""

    @property
    def failed(self) -> str | None:
        """Why nothing is written any more, None while it is."""
        ...

    def write(self, line: bytes, *, keep: bool) -> bool:
        """Take one line; False where it was dropped. One to be kept finds room while the disk works."""
        ...

    @property
    def inputs(self) -> InputFiles | None:
        """Where the inputs of decisions go, None where they are not kept."""
        ...

    def write_inputs(self, block: bytes) -> bool:
        """Take a block of inputs; False where it was dropped."""
        ...

    def close(self) -> None:
        """Write what waits, and end."""
        ...


class InlineSink:
    """Writes at once: for virtual time and for tests."""

    def __init__(self, target: Target, inputs: InputFiles | None = None) -> None:
        self._target = target
        self.inputs = inputs
        self.failed: str | None = None

    def write(self, line: bytes, *, keep: bool) -> bool:
        """Write one line."""
        return self._attempt(lambda: self._target.write(line))

    def write_inputs(self, block: bytes) -> bool:
        """Write one block."""
        if self.inputs is None:
            return False
        self.inputs.write(block)
        return self.inputs.failed is None

    def close(self) -> None:
        """Flush and close the targets."""
        if self.inputs is not None:
            self.inputs.close()
        self._attempt(self._target.flush)
        self._attempt(self._target.close)

    def _attempt(self, step: Callable[[], object]) -> bool:
        if self.failed is None:
            try:
                step()
            except OSError as error:
                self.failed = str(error)
        return self.failed is None


class ThreadSink:
    """Writes and syncs in batches on a thread of its own."""

    def __init__(self, target: Target, settings: JournalSettings, inputs: InputFiles | None = None) -> None:
        self.inputs = inputs
        self._target = target
        self._settings = settings
        self._lines: deque[bytes] = deque()
        self._blocks: deque[bytes] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._failed: str | None = None
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> str | None:
        """Why nothing is written any more, None while it is."""
        if self._failed is None and not self._closing and not self._thread.is_alive():
            return "the writer thread has ended"
        return self._failed

    def write(self, line: bytes, *, keep: bool) -> bool:
        """Queue one line; while the disk fails only one to be kept, and no more than fit."""
        with self._wake:
            full = len(self._lines) >= self._settings.journal_queue_records
            fails = self._failed is not None
            if self._closing or (full and (fails or not keep)) or (fails and not keep):
                return False
            if not self._lines:
                # While lines gather the thread knows; waking it for each would cost the event loop its turn.
                self._wake.notify()
            self._lines.append(line)
            return True

    def write_inputs(self, block: bytes) -> bool:
        """Queue one block."""
        with self._wake:
            writes = self.inputs is not None and self.inputs.failed is None
            if not writes or self._failed is not None or self._closing:
                return False
            if len(self._blocks) >= _QUEUED_BLOCKS:
                return False
            self._wake.notify()
            self._blocks.append(block)
            return True

    def close(self) -> None:
        """Write what waits; a disk that does not answer in time is a failure."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        timeout_s = self._settings.journal_close_timeout_s
        self._thread.join(timeout_s)
        if self._thread.is_alive() and self._failed is None:
            self._failed = f"expected the disk to answer within {timeout_s} s"

    def _run(self) -> None:
        while self._wait():
            if self._attempt(self._write_lines):
                self._write_blocks()
        if self.inputs is not None:
            self.inputs.close()
        if self._failed is not None:
            self._attempt(self._write_lines)
        failed = self._failed
        self._attempt(self._target.close)
        self._failed = failed or self._failed

    def _write_lines(self) -> None:
        batch = self._take(self._lines)
        if batch or self._failed is not None:
            self._target.write(batch)
            self._target.flush()

    def _attempt(self, step: Callable[[], object]) -> bool:
        try:
            step()
        except OSError as error:
            self._failed = str(error)
        else:
            self._failed = None
        return self._failed is None

    def _wait(self) -> bool:
        """Wait until something came, and let lines gather; False when closed and nothing is left."""
        with self._wake:
            if self._failed is not None and not self._closing:
                self._wake.wait_for(lambda: self._closing, _RETRY_S)
                return True
            self._wake.wait_for(lambda: self._lines or self._blocks or self._closing)
            self._wake.wait_for(lambda: self._closing, self._settings.journal_batch_ms / 1000)
            return bool(self._lines or self._blocks)

    def _take(self, waiting: deque[bytes]) -> bytes:
        with self._wake:
            batch = b"".join(waiting)
            waiting.clear()
        return batch

    def _write_blocks(self) -> None:
        with self._wake:
            blocks = tuple(self._blocks)
            self._blocks.clear()
        for block in blocks:
            if self.inputs is not None:
                self.inputs.write(block)


class TradeJournal:
    """Records of one session. Every one has its `type`, its instant `t` (ns) and its number `n`.

    Parameters
    ----------
    sink : Sink
        Where the lines go.
    clock : Clock
        Stamps them.

    Attributes
    ----------
    tape : DecisionTape or None
        Takes down what decisions are made from; None where that is not kept.
    """

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self.tape = None if sink.inputs is None else DecisionTape(sink.write_inputs)
        self._sink = sink
        self._clock = clock
        self._encoder = msgspec.json.Encoder(enc_hook=str)
        self._count = 0
        self._unsaid = 0
        self.dropped = 0

    @property
    def failed(self) -> str | None:
        """Why nothing is written any more, None while it is."""
        return self._sink.failed

    def session_start(self, markets: Mapping[str, Instrument], settings: Mapping[str, object]) -> None:
        """Begin of a session: its markets with tick and step, and its settings without secrets."""
        steps = {name: {"tick": m.tick, "step": m.step} for name, m in markets.items()}
        self._write("session_start", {"markets": steps, "settings": masked(settings)}, keep=True)

    def session_stop(self, why: str, summary: Mapping[str, object], remaining: Sequence[str]) -> None:
        """End of a session, and our orders that may still be open."""
        fields = {"why": why, "remaining": list(remaining), "summary": summary}
        self._write("session_stop", fields, keep=True)

    def decision(self, slot: SlotId, decision: Decision) -> None:
        """What was wanted of a slot, and why."""
        fields = {
            **_slot(slot),
            "action": _ACTIONS[decision.action],
            "reason": _REASONS[decision.reason],
            "price_ticks": decision.price_ticks,
            "size_lots": decision.size_lots,
            "reduce_only": decision.reduce_only,
        }
        self._write("decision", fields)

    def refused(self, slot: SlotId, reason: Reason) -> None:
        """A decision that the risk manager turned down."""
        self._write("refused", {**_slot(slot), "reason": reason.name})

    def order_sent(self, order: NewOrder) -> None:
        """An order, or the replacement of one, on its way."""
        self._write("order_sent", {**order._asdict(), "side": order.side.name})

    def cancel_sent(self, market: str, external_id: str) -> None:
        """A cancel on its way; an empty id stands for all orders of the market."""
        self._write("cancel_sent", {"market": market, "external_id": external_id})

    def order_report(self, report: OrderReport) -> None:
        """State of an order, as the exchange tells it."""
        names = {"side": report.side.name, "state": report.state.name}
        self._write("order", {**report._asdict(), **names})

    def fill(self, report: FillReport, mid2_ticks: int, *, missed: bool = False) -> None:
        """A match of one of our orders, and twice the mid before it; missed while no session heard it."""
        fill = report.fill
        fields = {**fill._asdict(), "side": fill.side.name, "fee": report.fee, "mid2_ticks": mid2_ticks}
        self._write("fill", {**fields, "missed": True} if missed else fields, keep=True)

    def funding(self, payment: FundingPayment, *, missed: bool = False) -> None:
        """A funding payment as booked; missed while no session asked for it."""
        fields = dataclasses.asdict(payment)
        self._write("funding", {**fields, "missed": True} if missed else fields, keep=True)

    def halt(self, market: str, reason: Reason, detail: str) -> None:
        """Quoting stopped; an empty market stands for all."""
        self._write("halt", {"market": market, "reason": reason.name, "detail": detail}, keep=True)

    def note(self, kind: str, fields: Mapping[str, object]) -> None:
        """Anything else worth keeping, under a type of its own."""
        self._write(kind, masked(fields))

    def keep(self, kind: str, fields: Mapping[str, object]) -> None:
        """What a restart needs, under a type of its own; a full queue does not drop it."""
        self._write(kind, fields, keep=True)

    def close(self) -> None:
        """Write what waits, and end."""
        if self.tape is not None:
            self.tape.close()
            if self.tape.dropped:
                self.note("inputs_dropped", {"blocks": self.tape.dropped})
        self._sink.close()

    def _write(self, kind: str, fields: Mapping[str, object], *, keep: bool = False) -> None:
        if not self._send(kind, fields, keep=keep):
            self.dropped += 1
            self._unsaid += 1
        elif self._unsaid:
            # Only once there is room again: else a line about each dropped line would fill the queue instead.
            self._send("dropped", {"count": self._unsaid}, keep=True)
            self._unsaid = 0

    def _send(self, kind: str, fields: Mapping[str, object], *, keep: bool) -> bool:
        self._count += 1
        record = {"type": kind, "t": self._clock.now_ns(), "n": self._count, **fields}
        return self._sink.write(self._encoder.encode(record) + b"\n", keep=keep)


def _slot(slot: SlotId) -> dict[str, object]:
    return {"market": slot.market, "side": _SIDES[slot.side], "level": slot.level}


def masked(fields: Mapping[str, object]) -> dict[str, object]:
    """Copy without secrets: what stands under a key that names one becomes `***`, at any depth."""
    secret = {key for key in fields if any(word in key.lower() for word in _SECRET_WORDS)}
    return {key: "***" if key in secret else _masked_value(value) for key, value in fields.items()}


def _masked_value(value: object) -> object:
    if isinstance(value, Mapping):
        return masked(value)
    if isinstance(value, list | tuple):
        return [_masked_value(item) for item in value]
    return value


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Records of one file, in order.

    A last line that a crash cut off comes as `{"type": "torn", "line": …, "bytes": …}`.

    Raises
    ------
    JournalCorrupt
        At a line that is no JSON object although its end was written; the message gives file and line.
    """
    decoder = msgspec.json.Decoder(dict[str, Any])
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                record = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                if not line.endswith(b"\n"):
                    record = {"type": "torn", "line": number, "bytes": len(line)}
                else:
                    msg = f"{path}:{number}: expected a JSON object, was {line[:_SHOWN_BYTES]!r}"
                    raise JournalCorrupt(msg) from error
            yield record


def latest_journal(folder: Path) -> list[Path]:
    """Files, in order, of the session that was written last; empty where there is none."""
    return next(iter(session_files(folder)), [])


def latest_records(folder: Path, kind: str, sessions: int) -> Iterator[list[dict[str, Any]]]:
    """Records of one type by session, the last first, at most so many; damaged lines are left out."""
    begin = b'{"type":"%s",' % kind.encode()
    for files in session_files(folder)[:sessions]:
        found = []
        for path in files:
            with path.open("rb") as file:
                found += [_decoded(line) for line in file if line.startswith(begin)]
        yield [record for record in found if record is not None]


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def session_files(folder: Path) -> list[list[Path]]:
    """Files of each session in order, the session that was written last first."""
    sessions: dict[str, list[Path]] = {}
    for path in sorted(folder.glob(f"*-*-*{JOURNAL_SUFFIX}")):
        sessions.setdefault(_session(path), []).append(path)

    def written(session: str) -> tuple[int, str]:
        return max(path.stat().st_mtime_ns for path in sessions[session]), session

    return [sessions[session] for session in sorted(sessions, key=written, reverse=True)]


def _session(path: Path) -> str:
    return path.stem.rpartition("-")[0]
