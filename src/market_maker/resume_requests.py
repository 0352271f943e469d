"""How `mm resume` reaches the process that runs: a file beside its journal, which it takes and deletes.

The folder and the file are their owner's alone; a file of somebody else's, or one that others may write, is
no request. Each process has a file of its own, named by its id.
"""

import os
import stat
from pathlib import Path
from typing import Final

_MODE: Final = 0o600
_LONGEST: Final = 200


class ResumeRequests:
    """The request file of one process.

    Parameters
    ----------
    folder : Path
        Where its journal is.
    pid : int
        The process that is to resume.
    """

    def __init__(self, folder: Path, pid: int) -> None:
        self.path = folder / f"resume-{pid}.request"

    def put(self, why: str) -> None:
        """Ask the process to resume.

        Raises
        ------
        OSError
            If the folder can not be written.
        """
        temporary = self.path.with_suffix(f".{os.getpid()}")
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, _MODE)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(why[:_LONGEST])
        temporary.replace(self.path)

    def take(self) -> str | None:
        """Take the request, and why it was made; None where there is none, or none of the owner's."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
            is_ours = _is_ours(os.fstat(file.fileno()))
            why = file.read(_LONGEST) if is_ours else ""
        self.drop()
        return why if is_ours else None

    def drop(self) -> None:
        """Delete the request, if there is one."""
        try:
            self.path.unlink()
        except OSError:
            return


def _is_ours(found: os.stat_result) -> bool:
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and not others_write
