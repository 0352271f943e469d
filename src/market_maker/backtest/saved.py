"""Outcomes of a trial in a folder, to be shown later: `result.json` and Arrow files beside it.

`result.json` has `format`, `version`, the writer's `header`, and `outcomes`: the fields of `Outcome`, amounts
of money as exact decimal strings, `arrays` naming for each array its file, rows and CRC-32. The file
`003-fills.arrow` is the Arrow IPC file (zstd) of the fourth outcome's fills, a column for each field.

A folder is written aside under a hidden name and then moved into place, so a result is there whole or not at
all. The same outcomes give the same bytes.
"""

import dataclasses
import io
import re
import shutil
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec
import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.outcome import BUCKET_DTYPE, CURVE_DTYPE, FILL_DTYPE, Outcome
from market_maker.ledger import PnlParts
from market_maker.summary import RunSummary

FORMAT: Final = "extended-market-maker backtest"
FORMAT_VERSION: Final = 1
RESULT_NAME: Final = "result.json"
_DTYPES: Final = {"fills": FILL_DTYPE, "curve": CURVE_DTYPE, "buckets": BUCKET_DTYPE}
_FILE_NAME: Final = re.compile(r"\d{3,}-[a-z]+\.arrow")
_NO_POLARS: Final = "saved results need polars; install the extra: extended-market-maker[backtest]"


class SavedError(Exception):
    """A folder that holds no result, or where none may be written: expected X, was Y."""


class Saved(NamedTuple):
    """A trial as it was saved; `header` is what its writer said of data, calibration and settings."""

    header: dict[str, Any]
    outcomes: list[Outcome]


class _ArrayFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str
    rows: int
    crc32: int


def _struct(cls: type, replaced: Mapping[str, Any], left_out: Collection[str] = ()) -> Any:  # noqa: ANN401  (a class made of annotations)
    """Class that decodes the fields of a dataclass, some of them as another type."""
    hints = {**get_type_hints(cls), **replaced}
    fields = [(f.name, hints[f.name]) for f in dataclasses.fields(cls) if f.name not in left_out]
    return msgspec.defstruct(cls.__name__, fields, forbid_unknown_fields=True)


# A protocol cannot be decoded into; the parts that a tally gives are the ledger's.
_Run: Final = _struct(RunSummary, {"pnl": PnlParts})
_Stored: Final = _struct(Outcome, {"summary": _Run}, _DTYPES)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    outcome: msgspec.Raw
    arrays: dict[str, _ArrayFile]


class _Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    version: int
    header: dict[str, Any]
    outcomes: list[_Entry]


class _Kind(msgspec.Struct, frozen=True):
    format: str = ""
    version: int = 0


def save(
    folder: Path, outcomes: Sequence[Outcome], header: Mapping[str, Any], *, replace: bool = False
) -> None:
    """Write outcomes into a folder, whole or not at all.

    Parameters
    ----------
    folder : Path
        Made with its parents; it may be there if it is empty.
    header : mapping
        Anything that is JSON: data, calibration, settings.
    replace : bool
        Whether a result that is there already may be replaced; nothing else ever is.

    Raises
    ------
    SavedError
        If the folder holds something already, or a value has no exact form in JSON.
    """
    check_target(folder, replace=replace)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        entries = [_write_outcome(partial, i, outcome) for i, outcome in enumerate(outcomes)]
        result = _Result(FORMAT, FORMAT_VERSION, dict(header), entries)
        (partial / RESULT_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
        _move(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load(folder: Path) -> Saved:
    """Read what `save` wrote.

    Raises
    ------
    SavedError
        If it is not a result, or of another version, or any of its files is missing or damaged.
    """
    path = folder / RESULT_NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        was = "a folder without it" if folder.is_dir() else "no such folder"
        msg = f"{path}: expected a saved backtest (mm backtest --save), was {was}"
        raise SavedError(msg) from error
    _check_kind(path, content)
    try:
        result = msgspec.json.decode(content, type=_Result)
        outcomes = [_read_outcome(folder, entry) for entry in result.outcomes]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{path}: expected the fields of a saved backtest, was corrupt ({error})"
        raise SavedError(msg) from error
    return Saved(result.header, outcomes)


def _check_kind(path: Path, content: bytes) -> None:
    try:
        kind = msgspec.json.decode(content, type=_Kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = f"{path}: expected a saved backtest, was corrupt or cut off ({error})"
        raise SavedError(msg) from error
    if kind.format != FORMAT:
        msg = f"{path}: expected the format {FORMAT!r}, was {kind.format!r}"
        raise SavedError(msg)
    if kind.version != FORMAT_VERSION:
        msg = f"{path}: expected version {FORMAT_VERSION} of the format, was {kind.version}; run it again"
        raise SavedError(msg)


def check_target(folder: Path, *, replace: bool) -> None:
    """Refuse a folder that `save` would refuse, before the work is done.

    Raises
    ------
    SavedError
        If it holds something already: anything, or with `replace` anything but a result.
    """
    if not folder.exists():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if not replace:
        msg = f"{folder}: expected no such folder yet or an empty one, was there already"
        raise SavedError(msg)
    try:
        _check_kind(folder / RESULT_NAME, (folder / RESULT_NAME).read_bytes())
    except (OSError, SavedError) as error:
        msg = f"{folder}: expected a saved backtest to replace, was something else"
        raise SavedError(msg) from error


def _move(partial: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _write_outcome(folder: Path, number: int, outcome: Outcome) -> _Entry:
    stored = {
        f.name: msgspec.to_builtins(value) if f.name == "summary" else value
        for f in dataclasses.fields(outcome)
        if f.name not in _DTYPES
        for value in [vars(outcome)[f.name]]
    }
    content = msgspec.json.encode(stored)
    try:
        msgspec.json.decode(content, type=_Stored)
    except msgspec.ValidationError as error:
        msg = f"{outcome.label}: expected finite numbers of the declared types, was not ({error})"
        raise SavedError(msg) from error
    arrays: dict[str, NDArray[Any]] = {name: vars(outcome)[name] for name in _DTYPES}
    files = {name: _write_array(folder / f"{number:03d}-{name}.arrow", a) for name, a in arrays.items()}
    return _Entry(msgspec.Raw(content), files)


def _write_array(path: Path, rows: NDArray[Any]) -> _ArrayFile:
    try:
        import polars as pl
    except ImportError as error:
        raise SavedError(_NO_POLARS) from error
    names = rows.dtype.names or ()
    sink = io.BytesIO()
    pl.DataFrame({name: np.ascontiguousarray(rows[name]) for name in names}).write_ipc(
        sink, compression="zstd"
    )
    content = sink.getvalue()
    path.write_bytes(content)
    return _ArrayFile(path.name, len(rows), zlib.crc32(content))


def _read_outcome(folder: Path, entry: _Entry) -> Outcome:
    stored: dict[str, Any] = msgspec.structs.asdict(msgspec.json.decode(entry.outcome, type=_Stored))
    summary = RunSummary(**msgspec.structs.asdict(stored.pop("summary")))
    if entry.arrays.keys() != _DTYPES.keys():
        msg = (
            f"{folder / RESULT_NAME}: expected the arrays {', '.join(_DTYPES)}, was {', '.join(entry.arrays)}"
        )
        raise SavedError(msg)
    for name, dtype in _DTYPES.items():
        stored[name] = _read_array(folder, entry.arrays[name], dtype)
    return Outcome(summary=summary, **stored)


def _read_array(folder: Path, described: _ArrayFile, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        import polars as pl
    except ImportError as error:
        raise SavedError(_NO_POLARS) from error
    path = folder / described.file
    if not _FILE_NAME.fullmatch(described.file) or not path.is_file():
        msg = f"{path}: expected the file that {RESULT_NAME} names, was not there"
        raise SavedError(msg)
    content = path.read_bytes()
    found = zlib.crc32(content)
    if found != described.crc32:
        msg = (
            f"{path}: expected the CRC-32 {described.crc32:08x}, was {found:08x} (damaged or of another run)"
        )
        raise SavedError(msg)
    try:
        frame = pl.read_ipc(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"{path}: expected an Arrow file, was corrupt ({reason})"
        raise SavedError(msg) from error
    names = list(dtype.names or ())
    if frame.columns != names or frame.height != described.rows:
        msg = (
            f"{path}: expected {described.rows} rows of {', '.join(names)}, "
            f"was {frame.height} of {', '.join(frame.columns)}"
        )
        raise SavedError(msg)
    rows = np.zeros(frame.height, dtype)
    for name in names:
        rows[name] = frame[name].to_numpy()
    return rows
