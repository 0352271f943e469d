"""`mm simulate`: the same seed to the byte in every process, what it prints, and seeds that once failed."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.faultsim.fault_plan import FAULT_NAMES, chosen_faults
from market_maker.faultsim.simulation import SimulationSettings, simulate

CORPUS = tomllib.loads((Path(__file__).parent / "simulation_seeds.toml").read_text())["seed"]
SHORT = ["simulate", "--seeds", "5..5", "--hours", "0.1", "--json"]


def test_the_faults_are_listed(capsys):
    assert main(["simulate", "--faults", "list"]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FAULT_NAMES)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--seeds", "5..4"], "--seeds: expected A..B with 0 <= A <= B"),
        (["--seeds", "x"], "--seeds: expected A..B"),
        (["--faults", "kil"], "no fault 'kil'; there are drop_frames"),
        (["--seeds", "1", "--set", "num_levels=x"], "num_levels: expected"),
    ],
)
def test_what_can_not_be_meant_is_one_message(given, told, capsys):
    assert main(["simulate", *given]) == ExitCode.USAGE
    assert told in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_journal_in_processes_with_other_hashes():
    outputs = []
    for hash_seed in ("1", "2"):
        ended = subprocess.run(
            [sys.executable, "-m", "market_maker", *SHORT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
        )
        outputs.append(json.loads(ended.stdout))
    for output in outputs:
        assert output.pop("cpu_s") > 0
    assert outputs[0] == outputs[1]
    assert outputs[0]["violations"] == []
    assert (outputs[0]["seeds"], outputs[0]["hours"]) == (1, 0.1)
    assert len(outputs[0]["journal_sha256"]) == 64
    assert outputs[0]["faults"]
    assert set(outputs[0]["faults"]) <= {*FAULT_NAMES, "foreign_orders", "machine_down", "post_only_after_s"}


@pytest.mark.slow
def test_an_interrupt_tells_what_was_played_and_leaves_no_process(tmp_path):
    words = ["simulate", "--seeds", "1..500", "--hours", "0.05", "--faults", "none", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "market_maker", *words, "--processes", "2", "--keep", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as running:
        # By then some of the first are done, and told.
        while not (tmp_path / "seed-8").exists():
            assert running.poll() is None
            os.sched_yield()
        # As a terminal does it: to all of them.
        os.killpg(running.pid, signal.SIGINT)
        # That this comes to an end shows that nobody holds the pipes any more.
        out, told = running.communicate(timeout=60)
    assert running.returncode == ExitCode.INTERRUPTED
    assert b"Traceback" not in told
    assert b"of 500 seeds" in told
    assert 1 <= json.loads(out)["seeds"] < 500


@pytest.mark.slow
def test_a_violation_is_printed_with_the_command_that_repeats_it_and_journals_are_kept(
    capsys, tmp_path, monkeypatch
):
    # No position can agree with books of which a fill more is told.
    monkeypatch.setattr("market_maker.ledger.Ledger.position_lots", lambda _self, _market: 7)
    words = ["--seeds", "3", "--hours", "0.05", "--faults", "none", "--keep", str(tmp_path)]
    assert main(["simulate", *words, "--processes", "1"]) == ExitCode.FAILED
    shown, said = capsys.readouterr()
    assert said.startswith("seed 3: "), "said at once, not in the report alone"
    assert "VIOLATED" in shown
    assert "mm simulate --seeds 3..3 --hours 0.05 --faults none --changes 8" in shown
    assert list((tmp_path / "seed-3" / "main").glob("*.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: f"{entry['seed']}-{entry['faults'][:20]}")
def test_a_seed_that_once_failed_is_clean(entry):
    settings = SimulationSettings(
        hours=entry["hours"],
        faults=chosen_faults(entry["faults"]),
        market_events_per_minute=entry.get("changes", 8.0),
    )
    result = simulate(entry["seed"], settings)
    assert result.violations == []
    assert result.fills > 0
