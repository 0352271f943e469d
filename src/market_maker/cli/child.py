"""The emulator as a process of its own, that ends with ours however ours ends.

It reads standard input until that closes: the system closes it when we end, also on kill -9.
"""

import os
import selectors
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Final

import msgspec

from market_maker.gateway import VenueError

# A cold start with an empty cache of compiled Python; usually it takes a second.
_START_S: Final = 60.0
_END_S: Final = 5.0
_READ_BYTES: Final = 65_536


class EmulatorEnded(VenueError):
    """The emulator's process did not start, or ended before we did; `exit_code` is its own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class _Ready(msgspec.Struct):
    url: str


class _Failure(msgspec.Struct):
    failed: str


class EmulatorProcess:
    """An emulator that this process started; made by `emulator_process`."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    def wait_for_url(self) -> str:
        """URL that it serves, once it does.

        Raises
        ------
        EmulatorEnded
            If it ends before, or says nothing for a minute.
        """
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while not line.endswith(b"\n") and selector.select(_START_S):
                # Byte by byte: what comes after the line is for whoever listens later.
                read = os.read(self.output, 1)
                if not read:
                    raise self.ended()
                line += read
        try:
            return msgspec.json.decode(line, type=_Ready).url
        except msgspec.DecodeError as error:
            self._process.kill()
            msg = f"expected the emulator to say its URL, was {line[:200]!r}"
            raise EmulatorEnded(msg, self._process.wait()) from error

    @property
    def output(self) -> int:
        """Descriptor of its standard output; it can be read to the end once the process is gone."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def hear(self) -> str:
        """Read what it says, to be called when it says something; why its market is no more, empty if it is.

        Its standard output comes to its end with it. Where only its market is gone it says so, and still
        answers requests::

            {"failed":"btcusdt.gz, line 7: expected 'local_ns json'"}
        """
        said = os.read(self.output, _READ_BYTES)
        if not said:
            return "the emulator ended"
        failed = [_read_failure(line) for line in said.splitlines()]
        return next(filter(None, failed), "")

    def ended(self) -> EmulatorEnded:
        """Say why it ended, in its own words; to be asked once it has."""
        code = self._wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        if said and code > 0:
            return EmulatorEnded(said[-1].removeprefix("mm: "), code)
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return EmulatorEnded(f"the emulator ended {how}", code)

    def end(self) -> None:
        """End it, and fail if it failed.

        Raises
        ------
        EmulatorEnded
            If its exit code says so.
        """
        self.close()
        if self._wait():
            raise self.ended()

    def close(self) -> None:
        """End it, and wait until it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._wait()

    def _wait(self) -> int:
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def emulator_process(options: Sequence[str]) -> Iterator[EmulatorProcess]:
    """Start an emulator, and end it in the end.

    Parameters
    ----------
    options : sequence of str
        Options of `mm emulator`: what it plays.
    """
    command = [sys.executable, "-m", "market_maker", "emulator", "--port", "0", "--json", "--exit-with-stdin"]
    with child_process([*command, *options]) as emulator:
        yield emulator


@contextmanager
def child_process(command: Sequence[str]) -> Iterator[EmulatorProcess]:
    """Start a command that behaves as an emulator, and end it in the end."""
    # No key of ours is its business. A session of its own: Ctrl-C at the terminal is for us alone.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environ,
            start_new_session=True,
        ) as process,
    ):
        emulator = EmulatorProcess(process, errors)
        try:
            yield emulator
        finally:
            emulator.close()


def _read_failure(line: bytes) -> str:
    try:
        return msgspec.json.decode(line, type=_Failure).failed
    except msgspec.DecodeError:
        return ""
