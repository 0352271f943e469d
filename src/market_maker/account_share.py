"""Bots of this machine that trade in one account, so that none takes the dead man's switch from another.

The switch is the account's, not the bot's. Each running bot holds a lock on a file of its own; the system
lets go of it when the process ends, however it ends. A file that nobody holds was left by a bot that died:
its orders may still rest, and only the switch, unless somebody feeds it, takes them away.
"""

import asyncio
import fcntl
import os
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from market_maker.past import Whose
from market_maker.start_refusals import AnotherBotQuotes

_RETRY_S: Final = 0.2
_ODD: Final = re.compile(r"[^A-Za-z0-9_.]+")


class Siblings(NamedTuple):
    """Other bots in the account, by the prefix of their orders: those that run, those that died."""

    running: tuple[str, ...] = ()
    died: tuple[str, ...] = ()


class AccountShare(Protocol):
    """What a bot knows of the others in its account.

    Attributes
    ----------
    knows : bool
        Whether it would know of others.
    """

    knows: bool

    async def join(self) -> None:
        """Tell the others that this bot runs.

        Raises
        ------
        AnotherBotQuotes
            If one with the same prefix does already.
        """
        ...

    def siblings(self) -> Siblings:
        """The others, as they are now."""
        ...

    def forget(self, died: tuple[str, ...]) -> None:
        """Know of bots that died no more: nothing of theirs rests."""
        ...

    def leave(self, *, nothing_open: bool) -> None:
        """Tell the others that this bot has ended; with orders that may be open it is one that died."""
        ...

    def exclusive(self) -> AbstractAsyncContextManager[None]:
        """Keep others from joining meanwhile."""
        ...


class Alone:
    """An account of whose other bots nothing is known."""

    knows = False

    async def join(self) -> None:
        """Nobody is to be told."""

    def siblings(self) -> Siblings:
        """There are none."""
        return Siblings()

    def forget(self, died: tuple[str, ...]) -> None:
        """There was none."""

    def leave(self, *, nothing_open: bool) -> None:
        """Nobody is to be told."""

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Nobody joins."""
        yield


class LockedFiles:
    """The bots of this machine, by the files that they hold locks on.

    Parameters
    ----------
    folder : Path
        Folder that all of them share; made where it is not there.
    whose : Whose
        Which bot this is.
    """

    knows = True

    def __init__(self, folder: Path, whose: Whose) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._prefix = whose.prefix
        self._stem = f"account-{_ODD.sub('_', whose.venue)}-{_ODD.sub('_', whose.account)}"
        self._own: int | None = None

    async def join(self) -> None:
        """Tell the others that this bot runs.

        Raises
        ------
        AnotherBotQuotes
            If one with the same prefix does already.
        """
        async with self.exclusive():
            self._own = _locked(self._path(self._prefix))
        if self._own is None:
            msg = (
                f"expected no other bot with the prefix {self._prefix} in this account, one runs already;"
                " stop it, or give this one a prefix of its own (--set order_id_prefix=...)"
            )
            raise AnotherBotQuotes(msg)

    def siblings(self) -> Siblings:
        """The others, as they are now."""
        running: list[str] = []
        died: list[str] = []
        for path in sorted(self._folder.glob(f"{self._stem}-*.lock")):
            name = path.name.removeprefix(f"{self._stem}-").removesuffix(".lock")
            if name != self._prefix:
                descriptor = _locked(path)
                (running if descriptor is None else died).append(name)
                _release(descriptor)
        return Siblings(tuple(running), tuple(died))

    def forget(self, died: tuple[str, ...]) -> None:
        """Know of bots that died no more: nothing of theirs rests."""
        for name in died:
            descriptor = _locked(self._path(name))
            if descriptor is not None:
                self._path(name).unlink(missing_ok=True)
                _release(descriptor)

    def leave(self, *, nothing_open: bool) -> None:
        """Tell the others that this bot has ended; with orders that may be open it is one that died."""
        if self._own is not None:
            if nothing_open:
                self._path(self._prefix).unlink(missing_ok=True)
            _release(self._own)
            self._own = None

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Keep others from joining meanwhile."""
        descriptor = await self._guarded()
        try:
            yield
        finally:
            _release(descriptor)

    async def _guarded(self) -> int:
        """Hold the guard's lock; other processes hold it for as long as a request takes."""
        path = self._folder / f"{self._stem}.guard"
        while (descriptor := _locked(path)) is None:  # noqa: ASYNC110  (no event comes from another process)
            await asyncio.sleep(_RETRY_S)
        return descriptor

    def _path(self, prefix: str) -> Path:
        return self._folder / f"{self._stem}-{prefix}.lock"


def _locked(path: Path) -> int | None:
    """Lock a file, which is made where it is not there; None where somebody else holds it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _release(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
