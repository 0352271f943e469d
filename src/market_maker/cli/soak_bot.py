"""A bot as a process of its own: `mm run` on an emulator, what it says kept in a folder."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

# A stop waits for the exchange, and for the position where it is to be closed.
_STOP_S: Final = 120.0
_SUMMARY, _LOG = "summary.json", "bot.log"


@dataclass(frozen=True, slots=True)
class BotEnd:
    """How a bot ended: exit code, what it says of its account, its last words."""

    exit_code: int
    account: dict[str, Any] = field(default_factory=dict)
    last_words: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it ended in order: books equal, nothing open, journal whole."""
        return self.exit_code == 0


class BotProcess:
    """A bot that this process started; made by `bot_process`."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path) -> None:
        self._process = process
        self._folder = folder

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ends_within(self, seconds: float) -> bool:
        """Wait so long; whether it ended meanwhile."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> BotEnd:
        """Ask it to stop, kill it if it does not, and say how it ended."""
        self._process.send_signal(signal.SIGTERM)
        if not self.ends_within(_STOP_S):
            self._process.kill()
        return self.end()

    def end(self) -> BotEnd:
        """How it ended; waits until it has."""
        code = self._process.wait()
        words = (self._folder / _LOG).read_text(errors="replace").strip().splitlines()
        return BotEnd(code, _account(self._folder / _SUMMARY), words[-1] if words else "")


def _account(path: Path) -> dict[str, Any]:
    try:
        summary = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
    account: dict[str, Any] = summary.get("account", {})
    return account


@contextmanager
def bot_process(words: Sequence[str], folder: Path) -> Iterator[BotProcess]:
    """Start `mm run --json` with these options, and kill it in the end if it still runs.

    Parameters
    ----------
    folder : Path
        Where its summary and its log are kept.
    """
    # No key of ours is its business. A session of its own: Ctrl-C at the terminal is for us alone.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    with ExitStack() as stack:
        out = stack.enter_context((folder / _SUMMARY).open("wb"))
        errors = stack.enter_context((folder / _LOG).open("wb"))
        process = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "market_maker", "run", "--json", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env=environ,
                start_new_session=True,
            )
        )
        # Before it is waited for, whatever happens here.
        stack.callback(process.kill)
        yield BotProcess(process, folder)


def free_port() -> int:
    """Port of this machine that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port
