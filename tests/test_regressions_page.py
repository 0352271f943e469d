"""The page of defects names tests that exist, and leaves no defect out."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "explanation" / "regressions.md"
DEFECTS = 22


def defined() -> set[str]:
    """Names of the test functions under `tests/`."""
    return {
        node.name
        for path in TESTS.glob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def rows() -> list[list[str]]:
    """Cells of the page's rows: number, defect, where, tests."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if re.match(r"\| \d", line)
    ]


def test_every_defect_has_a_row():
    assert sorted(int(row[0]) for row in rows()) == list(range(1, DEFECTS + 1))


def test_every_test_that_the_page_names_exists():
    existing = defined()
    for number, _, _, tests in rows():
        named = re.findall(r"`(test_\w+)`", tests)
        assert named, number
        assert set(named) <= existing, number


def test_every_module_that_the_page_names_exists():
    for number, _, where, _ in rows():
        for path in re.findall(r"`([\w/]+\.py)`", where):
            assert (TESTS.parent / "src" / "market_maker" / path).exists(), (number, path)
