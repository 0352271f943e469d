"""Each example runs for a few seconds on a real emulator, prints JSON, and ends well by itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
PATIENCE_S = 90.0
OPTIONS = ("--port=0", "--market=BTC-USD", "--accounts=2", "--json", "--exit-with-stdin")


@pytest.fixture
def emulator():
    """URL of an emulator that ends with the test, and with the test's process."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    command = [sys.executable, "-m", "market_maker", "emulator", *OPTIONS]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environ, **pipes) as process:
        try:
            yield json.loads(process.stdout.readline())["url"]
            assert process.communicate(timeout=PATIENCE_S) == ("", "")
            assert process.returncode == 0
        finally:
            process.kill()


def run(example: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(example), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_there_are_examples():
    assert [example.name for example in EXAMPLES] == ["official_sdk.py"]


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs_and_leaves_nothing_behind(example, emulator):
    done = run(example, "--url", emulator, "--seconds", "3")
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert seen["placed"] >= 6
    assert (seen["open_orders"], seen["unheard_of"], seen["failed"], seen["refusals"]) == (0, 0, [], {})
    assert seen["frames"]["book"] > 0
    assert seen["frames"]["account"] > seen["placed"]


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_fails_where_it_can_do_nothing(example, emulator):
    assert run(example, "--url", emulator, "--account", "2").returncode == 1
    assert run(example, "--url", emulator, "--market", "NONE-USD").returncode == 1
