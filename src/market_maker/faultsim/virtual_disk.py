"""A disk that is slow, or full, or that a process dies in front of; and the journal's way to it.

Lines gather for as long as the writer thread of a live session lets them, and go to real files. So what a
killed process had not handed over is lost, the line that was being written is torn, and a restart reads what
is there by the same code as after any crash.
"""

import asyncio
import errno
import os
from collections import Counter, deque
from pathlib import Path
from typing import Final

from market_maker.clock import Clock
from market_maker.journal_files import InputFiles, JournalFiles, JournalSettings

_MS_PER_S: Final = 1000.0
_RETRY_S: Final = 1.0


class VirtualDisk:
    """Where journals go.

    Parameters
    ----------
    folder : Path
        Real folder of the files.

    Attributes
    ----------
    is_full : bool
        Nothing can be written.
    delay_s : float
        How long a write takes.
    counts : Counter
        Writes that failed or were slow, by fault.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_full = False
        self.delay_s = 0.0
        self.counts: Counter[str] = Counter()


class VirtualSink:
    """Journal sink of one process; as `ThreadSink`, with the loop's timers for its thread.

    Attributes
    ----------
    failed : str or None
        Why nothing is written any more.
    inputs : None
        What decisions are made from is not kept here.
    """

    inputs: InputFiles | None = None

    def __init__(self, disk: VirtualDisk, settings: JournalSettings, clock: Clock, name: str) -> None:
        self.failed: str | None = None
        self._disk = disk
        self._files = JournalFiles(name, settings, clock)
        self._batch_s = settings.journal_batch_ms / _MS_PER_S
        self._most = settings.journal_queue_records
        self._lines: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._left = b""

    def write(self, line: bytes, *, keep: bool) -> bool:
        """Queue one line; while the disk fails only one to be kept, and no more than fit."""
        full, fails = len(self._lines) >= self._most, self.failed is not None
        if self._is_closed or (full and (fails or not keep)) or (fails and not keep):
            return False
        self._lines.append(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch_s, self._begin_write)
        return True

    def write_inputs(self, block: bytes) -> bool:
        """Take no block."""
        return False

    def close(self) -> None:
        """Write what waits, and end."""
        if not self._is_closed:
            self._is_closed = True
            self._write_all()
            self._end()

    def kill(self, torn_share: float) -> None:
        """Lose what waits, but for what was under way to the disk: the last of these lines is torn.

        Parameters
        ----------
        torn_share : float
            How much of what waited is there, 0 to 1.
        """
        if self._is_closed:
            return
        if self.failed is None and not self._disk.is_full:
            data = self._left + b"".join(self._lines)
            self._files.write(data[: int(len(data) * torn_share)])
        self._lines.clear()
        self._end()

    def _end(self) -> None:
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._files.close()

    def _begin_write(self) -> None:
        delay_s = self._disk.delay_s
        if delay_s > 0:
            self._disk.counts["slow_disk"] += 1
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._write_all)
        else:
            self._write_all()

    def _write_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._left += b"".join(self._lines)
        self._lines.clear()
        if self._disk.is_full:
            self._disk.counts["full_disk"] += 1
            # A disk fills up in the middle of a line; what is left waits.
            taken = 0 if self.failed is not None else len(self._left) // 2
            self._files.write(self._left[:taken])
            self._left = self._left[taken:]
            self.failed = os.strerror(errno.ENOSPC)
            if not self._is_closed:
                self._timer = asyncio.get_running_loop().call_later(_RETRY_S, self._write_all)
            return
        self._files.write(self._left)
        self.failed, self._left = None, b""
