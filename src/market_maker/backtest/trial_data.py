"""The market of a trial: a store as it is, or any recording, converted once and kept.

A conversion is kept under a name made of what it depends on: the files' SHA-256, their grids and venue, and
the converter's own source. So it is never stale, and nobody has to think of it. All markets of a recording
are converted together, whichever are asked for: the clock offset of a venue is common to them.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from market_maker import recordings
from market_maker.recordings.conversion import Progress, Source, convert, open_sources
from market_maker.recordings.discovery import market_name
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import Store, is_store, open_store

_KEPT: Final = 8

# Shows a conversion's progress while it runs.
Shown = Callable[[Sequence[Source]], AbstractContextManager[Progress]]


def cache_folder() -> Path:
    """Where conversions are kept: below XDG_CACHE_HOME, or ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "extended-market-maker" / "markets"


def open_data(path: Path, cache: Path, shown: Shown) -> Store:
    """Open a store, or convert a recording of any format into one that is kept in the cache.

    Raises
    ------
    RecordingError
        If nothing is there, or it is corrupt, empty, truncated, unsorted or off its grid; the place is named.
    """
    if is_store(path):
        return open_store(path)
    sources = open_sources(path)
    target = cache / _key(sources)
    with _alone(cache):
        if not target.exists():
            _convert_whole(sources, target, shown)
        os.utime(target)
        _drop_oldest(cache)
    return open_store(target)


def chosen(store: Store, path: Path, markets: Sequence[str]) -> tuple[str, ...]:
    """Markets of a store that are wanted, in its own order; all if none is named.

    Raises
    ------
    RecordingError
        If one is not there.
    """
    wanted = {market_name(market) for market in markets}
    missing = sorted(wanted - set(store.markets))
    if missing:
        msg = f"{path}: expected the markets {', '.join(missing)}, was one of {', '.join(store.markets)}"
        raise RecordingError(msg)
    return tuple(market for market in store.markets if market in wanted or not wanted)


def _convert_whole(sources: Sequence[Source], target: Path, shown: Shown) -> None:
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with shown(sources) as progress:
            convert(sources, partial, progress=progress)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """One process converts; another waits for it, and finds it done if it wanted the same."""
    cache.mkdir(parents=True, exist_ok=True)
    number = os.open(cache / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def _drop_oldest(cache: Path) -> None:
    folders = [found for found in cache.iterdir() if found.is_dir() and not found.suffix]
    for old in sorted(folders, key=lambda found: found.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def _key(sources: Sequence[Source]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.market} {source.venue} {source.grid.tick} {source.grid.step}\n".encode())
        for file in source.files:
            digest.update(f"{file.name} {_sha256(file)}\n".encode())
    for module in sorted(Path(recordings.__file__).parent.glob("*.py")):
        digest.update(module.read_bytes())
    return digest.hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
