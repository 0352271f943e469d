"""Writer of the event format: everything is made aside and moved into place as a whole.

An interrupted conversion leaves the folder as it was: hours are written into a hidden folder beside the
market's, which a later conversion of the same market removes.
"""

import fcntl
import os
import shutil
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
import numpy as np

from market_maker.domain import NS_PER_S
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import (
    CODE_MASK,
    CODES,
    EVENT_COLUMNS,
    INFO_NAME,
    Hour,
    HourInfo,
    MarketInfo,
    hour_label,
    hour_path,
    read_hour,
)

_US: int = NS_PER_S // 1_000_000


class MarketWriter:
    """Writes one market hour by hour; `commit` puts it into place, leaving the context without it drops all.

    Parameters
    ----------
    store : Path
        Folder of the store; it is made if it is not there.
    replace : bool
        Whether a market of that name that is there already may be replaced.

    Raises
    ------
    RecordingError
        If the market is there already, or another process writes it.
    """

    def __init__(self, store: Path, market: str, *, replace: bool = False) -> None:
        self._target = store / market
        self._staging = store / f".{market}.partial"
        self._replace = replace
        self._hours: list[HourInfo] = []
        self._counts = np.zeros(CODE_MASK + 1, np.int64)
        if self._target.exists() and not replace:
            msg = f"{self._target}: expected no such market yet, was there already (--replace converts anew)"
            raise RecordingError(msg)
        store.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(store / f".{market}.lock", os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            msg = f"{self._target}: expected no other conversion of it, was one under way"
            raise RecordingError(msg) from error
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.with_name(f"{self._staging.stem}.lock").unlink(missing_ok=True)
        os.close(self._lock)

    @property
    def hours(self) -> int:
        """Hours written so far."""
        return len(self._hours)

    @property
    def counts(self) -> dict[str, int]:
        """Events written so far, by the name of their code."""
        return {name: int(self._counts[code]) for code, name in CODES.items() if self._counts[code]}

    def add(self, hour: Hour) -> None:
        """Write the events of one hour, all of them."""
        label = hour_label(int(hour.venue_ns[0]))
        self._hours.append(_write(self._staging, label, hour))
        self._counts += np.bincount(hour.kind & CODE_MASK, minlength=CODE_MASK + 1)

    def commit(self, info: MarketInfo) -> MarketInfo:
        """Take the clock's offset out of the delays, write the description and move all into place.

        `hours` and `counts` of the description are filled in.
        """
        if info.clock_offset_ns:
            self._hours = [self._without_offset(hour, info.clock_offset_ns) for hour in self._hours]
        whole = msgspec.structs.replace(info, hours=self._hours, counts=self.counts)
        path = self._staging / INFO_NAME
        path.write_bytes(msgspec.json.format(msgspec.json.encode(whole)) + b"\n")
        _sync(path)
        _sync(self._staging)
        if self._replace and self._target.exists():
            old = self._staging.with_suffix(".old")
            shutil.rmtree(old, ignore_errors=True)
            self._target.rename(old)
            self._staging.rename(self._target)
            shutil.rmtree(old)
        else:
            self._staging.rename(self._target)
        _sync(self._target.parent)
        return whole

    def _without_offset(self, expected: HourInfo, offset_ns: int) -> HourInfo:
        hour = read_hour(hour_path(self._staging, expected.label), expected)
        delay = hour.delay_us.astype(np.int64) - offset_ns // _US
        limits = np.iinfo(np.int32)
        return _write(
            self._staging,
            expected.label,
            hour._replace(delay_us=np.clip(delay, limits.min, limits.max).astype(np.int32)),
        )


def _write(folder: Path, label: str, hour: Hour) -> HourInfo:
    import polars as pl

    columns = {
        name: np.ascontiguousarray(column, dtype)
        for column, (name, dtype) in zip(hour, EVENT_COLUMNS.items(), strict=True)
    }
    path = hour_path(folder, label)
    partial = path.with_suffix(".tmp")
    rows = hour.kind.size
    pl.DataFrame(columns).write_ipc(partial, compression="uncompressed", record_batch_size=rows)
    _sync(partial)
    partial.rename(path)
    crc = 0
    for column in columns.values():
        crc = zlib.crc32(column.data, crc)
    return HourInfo(label, rows, int(hour.venue_ns[0]), int(hour.venue_ns[-1]), crc)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
