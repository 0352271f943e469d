"""Where a session's journal goes: files in a folder, cut by size and by day, readable by their owner alone.

The journal itself is lines (`.jsonl`), and what decisions were made from lies beside it (`.inputs`), in
blocks that are compressed here, off the event loop. Both are named `<name>-<instant of the session>-<part>`,
so their order by name is that of time. Inputs are worth less than money: where they cannot be written, the
journal goes on without them.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path
from typing import Final, Protocol

from market_maker.clock import Clock
from market_maker.decision_record import file_header, pack_block
from market_maker.domain import NS_PER_S

_NS_PER_DAY: Final = 86_400 * NS_PER_S
JOURNAL_SUFFIX: Final = ".jsonl"
INPUTS_SUFFIX: Final = ".inputs"


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """Where the journal goes and how it is cut."""

    journal_dir: str = "journal"  # folder of the files
    journal_max_bytes: int = 64_000_000  # a file is closed past this size; also at midnight UTC
    journal_queue_records: int = 50_000  # records that may wait for the disk
    journal_batch_ms: float = 50.0  # how long records gather before they are written and synced
    journal_close_timeout_s: float = 10.0  # longest wait for the disk when the process ends
    journal_inputs_enabled: bool = True  # keep what decisions were made from, for mm replay
    state_dir: str = ""  # folder that bots in one account share; empty: the journal's


class Target(Protocol):
    """Where the bytes of a journal end: files, or memory in a simulation or a test.

    What a disk did not take when a call failed goes first with the next one, from the byte on where it ended.
    """

    def write(self, data: bytes, /) -> object:
        """Append whole lines, or a whole block of inputs."""
        ...

    def flush(self) -> object:
        """Make what was written last."""
        ...

    def close(self) -> object:
        """End it."""
        ...


class _Parts:
    """Files of one stem and suffix, one after the other; each begins with `header()`."""

    def __init__(
        self, stem: Path, suffix: str, max_bytes: int, clock: Clock, header: Callable[[], bytes] = bytes
    ) -> None:
        self._stem = stem
        self._suffix = suffix
        self._max_bytes = max_bytes
        self._clock = clock
        self._header = header
        self._part = 0
        self._written = 0
        self._is_begun = False
        self._day = 0
        self._left = b""
        self._file, self.path = self._opened(0)

    def append(self, data: bytes) -> None:
        """Append, in a new file where the old one is full or of yesterday."""
        is_full = self._written + len(data) > self._max_bytes
        is_old = is_full or self._clock.now_ns() // _NS_PER_DAY != self._day
        if self._is_begun and is_old and not self._left:
            # Where the disk has no room for another file, the old one goes on.
            with suppress(OSError):
                self._cut()
        self._written += len(data)
        self._is_begun = True
        self._left += data
        self._put()

    def sync(self) -> None:
        """Write through to the disk."""
        self._put()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write through and close."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()

    def _put(self) -> None:
        """Give what is left to the system: it outlives this process, if not the machine."""
        while self._left:
            self._left = self._left[self._file.write(self._left) :]

    def _cut(self) -> None:
        self.sync()
        old = self._file
        self._file, self.path = self._opened(self._part + 1)
        self._part += 1
        old.close()

    def _opened(self, part: int) -> tuple[FileIO, Path]:
        path = part_path(self._stem, part, self._suffix)
        file = FileIO(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb")
        self._left = self._header()
        self._written = len(self._left)
        self._is_begun = False
        self._day = self._clock.now_ns() // _NS_PER_DAY
        return file, path


def part_path(stem: Path, part: int, suffix: str) -> Path:
    """Path of one file of a session."""
    return stem.with_name(f"{stem.name}-{part:04d}{suffix}")


class JournalFiles:
    """The journal of one session.

    Raises
    ------
    OSError
        If the folder or the first file cannot be written.
    """

    def __init__(self, name: str, settings: JournalSettings, clock: Clock) -> None:
        folder = Path(settings.journal_dir)
        if folder.is_file():
            msg = f"journal_dir: expected a folder, was a file: {folder}"
            raise NotADirectoryError(msg)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._settings = settings
        self._clock = clock
        self._stem = _free_stem(folder, name, clock)
        self._parts = _Parts(self._stem, JOURNAL_SUFFIX, settings.journal_max_bytes, clock)

    @property
    def path(self) -> Path:
        """File that is being written."""
        return self._parts.path

    def inputs(self) -> "InputFiles | None":
        """Files beside the journal for what decisions were made from; None where they are not wanted."""
        if not self._settings.journal_inputs_enabled:
            return None
        return InputFiles(self._stem, self._settings, self._clock)

    def write(self, data: bytes) -> None:
        """Append whole lines."""
        self._parts.append(data)

    def flush(self) -> None:
        """Write through to the disk."""
        self._parts.sync()

    def close(self) -> None:
        """Write through and close."""
        self._parts.close()


def _free_stem(folder: Path, name: str, clock: Clock) -> Path:
    # Sessions in virtual time all begin at one instant: the next free microsecond tells them apart.
    started = datetime.fromtimestamp(clock.now_ns() / NS_PER_S, UTC)
    while True:
        stem = folder / f"{name}-{started:%Y%m%dT%H%M%S.%f}"
        if not part_path(stem, 0, JOURNAL_SUFFIX).exists():
            return stem
        started += timedelta(microseconds=1)


class InputFiles:
    """What the decisions of one session were made from, compressed block by block; made by `JournalFiles`.

    Attributes
    ----------
    failed : str or None
        Why nothing is written any more: it never raises.
    """

    def __init__(self, stem: Path, settings: JournalSettings, clock: Clock) -> None:
        self.failed: str | None = None
        self._stem = stem
        self._max_bytes = settings.journal_max_bytes
        self._clock = clock
        # Opened with the first block: a session that never began leaves none.
        self._parts: _Parts | None = None

    def write(self, block: bytes) -> None:
        """Write one block as the tape gives it."""
        self._attempt(lambda: self._write(block))

    def flush(self) -> None:
        """Write through to the disk."""
        if self._parts is not None:
            self._attempt(self._parts.sync)

    def close(self) -> None:
        """Write through and close."""
        if self._parts is not None:
            self._attempt(self._parts.close)

    def _write(self, block: bytes) -> None:
        if self._parts is None:
            self._parts = _Parts(self._stem, INPUTS_SUFFIX, self._max_bytes, self._clock, file_header)
        self._parts.append(pack_block(block))

    def _attempt(self, step: Callable[[], None]) -> None:
        if self.failed is None:
            try:
                step()
            except OSError as error:
                self.failed = str(error)
