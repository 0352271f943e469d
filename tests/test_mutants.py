"""The net holds: each planted bug fits the code, and is caught, mostly by the seed that caught it last."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mutating
import pytest

ALL = mutating.read_mutants()
NAMES = [mutant.name for mutant in ALL]


@pytest.fixture(scope="module")
def played():
    """All mutants played by one process, each in a fork of it."""
    ended = subprocess.run(
        [sys.executable, mutating.__file__, "--json", "--jobs", "1"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.stdout, ended.stderr
    return json.loads(ended.stdout)


def test_there_are_twelve_or_more_of_different_lessons():
    assert len(set(NAMES)) == len(NAMES) >= 12
    assert len({mutant.lesson for mutant in ALL}) >= 10
    assert all(1 <= mutant.lesson <= 22 and mutant.says for mutant in ALL)


@pytest.mark.parametrize("mutant", ALL, ids=NAMES)
def test_a_planted_bug_fits_the_code(mutant):
    for edit in mutant.edits:
        before = (mutating.SOURCES / edit.file).read_text()
        assert edit.source() != before
        compile(edit.source(), edit.file, "exec")


def test_a_bug_that_fits_no_more_is_told():
    edit = replace(ALL[0].edits[0], before="lines that are not there")
    with pytest.raises(mutating.MutantStale, match="expected once, was there 0 times: 'lines that"):
        edit.source()


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ALL, ids=NAMES)
def test_a_planted_bug_is_caught(mutant, played):
    caught = next(found for found in played["mutants"] if found["name"] == mutant.name)
    assert caught["seed"], f"find a seed: make mutants ARGS='--seeds 1..200 --only {mutant.name} --write'"
    # A bug that merely breaks the process shows nothing of the net.
    assert caught["invariant"] != "crash" or mutant.invariant == "crash", caught["detail"]


@pytest.mark.slow
def test_the_same_seeds_violate_nothing_without_a_bug(played):
    assert played["without_a_bug"] == []


def test_seeds_that_were_found_are_written_and_nothing_else(tmp_path: Path):
    copy = tmp_path / "mutants.toml"
    copy.write_text(mutating.MUTANTS.read_text())
    found = {NAMES[0]: mutating.Caught(NAMES[0], 17, "rate"), NAMES[1]: mutating.Caught(NAMES[1])}
    mutating.renew(copy, found)
    after = mutating.read_mutants(copy)
    assert after == [replace(ALL[0], seed=17, invariant="rate"), *ALL[1:]]
