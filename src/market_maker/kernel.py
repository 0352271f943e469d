"""The one door to Numba: the `@kernel` decorator, and rows built from annotated classes.

A decision module declares its settings and its state as dataclasses with defaults. `new_row` turns one into
a one-row structured array of the same field names; kernels take the record `row[0]` and read `params.x`,
write `state.y`. The same source runs compiled and, with NUMBA_DISABLE_JIT=1, as plain Python.

Numba's file cache does not notice edits of callees or of constants in other files, so a stale cache would
trade old logic. The cache folder is therefore keyed by a hash of every source that has a kernel and of all
that these import, however indirectly, and that is set here, before Numba is imported.
"""

import dataclasses
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

P = ParamSpec("P")
R = TypeVar("R")
Row = NDArray[Any]

_KEPT_CACHES = 4
_PACKAGE = Path(__file__).parent
_MODULE = "market_maker.kernel"
# Where a function is compiled, and which modules and names a line imports, in brackets or not.
_HAS_KERNELS = re.compile(rb"^[ \t]*@(?:inner_|inline_)?kernel\b", re.MULTILINE)
_NAMES_OF = rb"from[ \t]+(market_maker[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
_IMPORTED = re.compile(rb"^[ \t]*(?:" + _NAMES_OF + rb"|import[ \t]+(market_maker[\w.]*))", re.MULTILINE)


@cache
def sources_hash() -> str:
    """Hash of all sources of the package as they were first asked for: every result is a function of them."""
    return _hash(_sources())


def kernel_sources_hash() -> str:
    """Hash of the sources that compiled code can depend on."""
    sources = _sources()
    found: set[str] = set()
    left = {module for module, text in sources.items() if _HAS_KERNELS.search(text)} | {_MODULE}
    while left:
        module = left.pop()
        found.add(module)
        left |= (_imported(module, sources[module]) & sources.keys()) - found
    return _hash({module: sources[module] for module in found})


def _sources() -> dict[str, bytes]:
    """Text of each module of the package, by its dotted name."""
    paths = {path.relative_to(_PACKAGE.parent).with_suffix(""): path for path in _PACKAGE.rglob("*.py")}
    return {".".join(name.parts).removesuffix(".__init__"): path.read_bytes() for name, path in paths.items()}


def _imported(module: str, text: bytes) -> set[str]:
    """Names that may be modules of ours that a module imports; its packages are run before it."""
    parts = module.split(".")
    named = {".".join(parts[:length]) for length in range(1, len(parts))}
    for package, names, plain_import in _IMPORTED.findall(text):
        base = (package or plain_import).decode()
        named.add(base)
        named |= {f"{base}.{name.decode()}" for name in re.findall(rb"\w+", names)}
    return named


def _hash(sources: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for module, text in sorted(sources.items()):
        digest.update(module.encode())
        digest.update(text)
    return digest.hexdigest()[:16]


def _set_cache_dir() -> None:
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = base / "extended-market-maker" / "kernels"
    folder = root / kernel_sources_hash()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        stale = sorted(root.iterdir(), key=lambda p: p.stat().st_mtime, reverse=True)[_KEPT_CACHES:]
        for old in stale:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        # A home that cannot be written: Numba then compiles anew in every process.
        return
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


_set_cache_dir()

import numba  # noqa: E402  (the cache folder must be set before Numba reads it)


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a pure function on its first call, with a cache that survives the process.

    A kernel guards its domain itself: compiled log(0), sqrt(-1), int(nan) and reads out of bounds give
    garbage in silence. It uses `math.*`, never `np.*`, and never builds an enum from a number.
    """
    compiled: Callable[P, R] = numba.njit(cache=True)(function)
    return compiled


def inner_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a pure function that only kernels call.

    It has no way in from Python, no cache of its own, and counts no references of arrays, whose caller holds
    them: with many arrays those are half of the time to compile, and much of the time to run. It makes none.
    """
    # Numba's stubs do not know these options.
    decorate: Any = numba.njit
    compiled: Callable[P, R] = decorate(no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)(function)
    return compiled


def inline_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function as `inner_kernel` does, into its callers and not as a call of its own.

    For what runs on every row of a market: a call that hands many arrays on costs some 20 ns, which is more
    than such a function does. Each caller compiles it anew, so it is short, or called from one place.
    """
    decorate: Any = numba.njit
    options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "_nrt": False, "forceinline": True}
    compiled: Callable[P, R] = decorate(**options)(function)
    return compiled


@cache
def row_dtype(cls: type) -> np.dtype[Any]:
    """Structured dtype of a dataclass of floats, ints, bools, int enums, nested dataclasses and arrays.

    An array field is `Annotated[NDArray[np.float64], length]`, or where values are to be hashed and compared
    `Annotated[tuple[float, ...], length]`, which may be shorter: zeros follow. The same class gives the same
    object: Numba knows it by identity, and an equal one costs 15 µs a call.

    Raises
    ------
    TypeError
        For a field of any other type.
    """
    hints = get_type_hints(cls, include_extras=True)
    fields: list[Any] = [_field(f.name, hints[f.name]) for f in dataclasses.fields(cls)]
    return np.dtype((np.record, np.dtype(fields, align=True)))


def _field(name: str, hint: Any) -> tuple[Any, ...]:  # noqa: ANN401  (any annotation may come)
    if get_origin(hint) is Annotated:
        array, length = get_args(hint)
        is_tuple = get_origin(array) is tuple
        scalar = get_args(array)[0] if is_tuple else get_args(get_args(array)[1])[0]
        return name, np.dtype(scalar), (length,)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return name, row_dtype(hint)
    for python_type, scalar in ((bool, np.bool_), (int, np.int64), (float, np.float64)):
        if isinstance(hint, type) and issubclass(hint, python_type):
            return name, scalar
    msg = f"field {name}: expected float, int, bool, int enum, dataclass or annotated array, was {hint!r}"
    raise TypeError(msg)


def new_row(value: object) -> Row:
    """One-row structured array that holds the values of a dataclass instance."""
    cls: type = type(value)
    row = np.zeros(1, row_dtype(cls))
    write_row(row, value)
    return row


def write_row(row: Row, value: object) -> None:
    """Overwrite a row in place with the values of a dataclass instance, coerced to the row's types."""
    _write(row[0], value)


def _write(record: Any, value: Any) -> None:  # noqa: ANN401  (a record of any dtype)
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if dataclasses.is_dataclass(item):
            _write(record[field.name], item)
        elif isinstance(item, tuple):
            record[field.name] = 0
            record[field.name][: len(item)] = item
        else:
            record[field.name] = item


def plain(record: Any) -> dict[str, Any]:  # noqa: ANN401  (a record of any dtype)
    """Return a record as nested dicts of plain Python values, for the journal."""
    names = record.dtype.names or ()
    return {name: _plain(record[name]) for name in names}


def _plain(item: Any) -> Any:  # noqa: ANN401
    if isinstance(item, np.void):
        return plain(item)
    if isinstance(item, np.ndarray | np.generic):
        return item.tolist()
    return item


__all__ = [
    "Row",
    "inline_kernel",
    "inner_kernel",
    "kernel",
    "kernel_sources_hash",
    "new_row",
    "plain",
    "row_dtype",
    "sources_hash",
    "write_row",
]
