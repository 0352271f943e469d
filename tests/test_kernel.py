"""Rows built from annotated classes, and a compilation cache that never trades old logic."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from numpy.typing import NDArray

from market_maker.kernel import kernel, new_row, plain, row_dtype, write_row


class Mode(IntEnum):
    SLOW = 0
    FAST = 1


@dataclass(frozen=True)
class Inner:
    gain: float = 2.0
    mode: Mode = Mode.FAST


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    enabled: bool = True
    count: int = 3
    ring: Annotated[NDArray[np.float64], 4] = field(default_factory=lambda: np.zeros(4))


@kernel
def _advance(rows: NDArray[np.void], x: float) -> float:
    record = rows[0]
    record.ring[record.count % 4] = x * record.inner.gain
    record.count += 1
    return float(record.ring[3])


def test_a_row_carries_nested_values_arrays_and_enums() -> None:
    row = new_row(Outer())
    assert row[0].inner.gain == 2.0
    assert row[0].inner.mode == Mode.FAST
    assert _advance(row, 1.5) == 3.0
    assert row[0].count == 4


def test_rows_of_a_class_share_one_dtype_object() -> None:
    assert new_row(Inner()).dtype is new_row(Inner()).dtype


def test_values_are_coerced_to_the_fields_types() -> None:
    row = new_row(Inner())
    write_row(row, Inner(gain=3))
    assert isinstance(row[0].gain, float)


def test_plain_gives_values_for_the_journal() -> None:
    assert plain(new_row(Outer())[0]) == {
        "inner": {"gain": 2.0, "mode": 1},
        "enabled": True,
        "count": 3,
        "ring": [0.0, 0.0, 0.0, 0.0],
    }


@dataclass(frozen=True)
class Tabled:
    cells: Annotated[tuple[float, ...], 3] = ()


def test_a_tuple_fills_its_row_from_the_start_and_zeros_follow() -> None:
    row = new_row(Tabled((1.0, 2.5)))
    assert row[0].cells.tolist() == [1.0, 2.5, 0.0]
    write_row(row, Tabled((4.0,)))
    assert row[0].cells.tolist() == [4.0, 0.0, 0.0]
    assert hash(Tabled((1.0,))) == hash(Tabled((1.0,)))


def test_a_tuple_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        new_row(Tabled((1.0,) * 4))


def test_a_field_of_another_type_is_refused_by_name() -> None:
    @dataclass
    class Wrong:
        label: str = ""

    with pytest.raises(TypeError, match="field label: expected float, int, bool"):
        row_dtype(Wrong)


_CHILD = """
import sys; sys.path.insert(0, {src!r})
from market_maker.caller import entry
print(entry(2.0))
"""


@pytest.mark.slow
def test_an_edit_of_a_callee_in_another_file_is_never_served_from_the_cache(tmp_path: Path) -> None:
    package = tmp_path / "src" / "market_maker"
    package.mkdir(parents=True)
    source = Path(__file__).resolve().parents[1] / "src" / "market_maker"
    for name in ("__init__.py", "kernel.py", "domain.py"):
        (package / name).write_text((source / name).read_text())
    head = "from market_maker.kernel import kernel\n"
    (package / "caller.py").write_text(
        head + "from market_maker.callee import inner\n@kernel\ndef entry(x):\n    return inner(x)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")}
    environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    results = []
    for factor in ("3.0", "5.0"):
        (package / "callee.py").write_text(head + f"@kernel\ndef inner(x):\n    return x * {factor}\n")
        child = _CHILD.format(src=str(package.parent))
        run = subprocess.run(
            [sys.executable, "-B", "-c", child], env=environment, capture_output=True, text=True, check=True
        )
        results.append(float(run.stdout))
    assert results == [6.0, 10.0]
    kept = list((tmp_path / "cache" / "extended-market-maker" / "kernels").iterdir())
    assert len(kept) == 2


def test_the_key_of_the_cache_covers_what_kernels_import_and_nothing_else(tmp_path: Path) -> None:
    """A constant two imports away counts, however the import is written; a mere user of kernels does not."""
    package = tmp_path / "src" / "market_maker"
    (package / "deep").mkdir(parents=True)
    source = Path(__file__).resolve().parents[1] / "src" / "market_maker"
    for name in ("__init__.py", "kernel.py"):
        (package / name).write_text((source / name).read_text())
    (package / "deep" / "__init__.py").write_text("")
    (package / "deep" / "limits.py").write_text("LARGEST = 1\n")
    (package / "rows.py").write_text("from market_maker.deep import (\n    limits,\n)\n")
    (package / "entry.py").write_text(
        "from market_maker.kernel import kernel\nimport market_maker.rows\n@kernel\ndef one():\n    pass\n"
    )
    (package / "host.py").write_text(
        "from market_maker import entry\nfrom market_maker.kernel import new_row\n"
    )
    child = "import sys; sys.path.insert(0, {src!r}); from market_maker.kernel import {name}; print({name}())"

    def key(name: str = "kernel_sources_hash") -> str:
        command = [sys.executable, "-B", "-c", child.format(src=str(package.parent), name=name)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    first, every = key(), key("sources_hash")
    (package / "host.py").write_text("from market_maker import entry\n")
    assert (key(), key("sources_hash") == every) == (first, False)
    for changed in ("deep/limits.py", "deep/__init__.py", "rows.py", "entry.py", "__init__.py", "kernel.py"):
        before = key()
        with (package / changed).open("a") as file:
            file.write("# edited\n")
        assert key() != before, changed
