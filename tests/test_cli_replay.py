"""`mm replay`: what it prints and how it ends."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest
from recorded import RecordedDesk, Recording, X, plant_decision
from served import served

from market_maker.cli.app import ExitCode, main
from market_maker.decision_replay import find_inputs

PATIENCE_S = 180.0


@pytest.fixture
def journal(tmp_path):
    recording = Recording(tmp_path / "j")
    RecordedDesk(recording.tape).walk(30)
    return recording.end()


def replay(capsys, *words):
    code = main(["replay", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_equal_decisions_are_counted_and_end_well(journal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, err = replay(capsys, journal)
    assert (code, err) == (ExitCode.OK, "")
    assert "Equal, bit for bit: 120 decisions." in out
    assert X in out


def test_json_is_all_that_is_printed(journal, capsys):
    code, out, err = replay(capsys, journal, "--json")
    found = json.loads(out)
    assert (code, err) == (ExitCode.OK, "")
    assert found["equal"] is True
    assert found["markets"][X]["decisions"] == 120
    assert (found["torn_bytes"], found["missing_blocks"], found["first"]) == (0, 0, [])


def test_a_difference_is_shown_with_its_inputs_and_fails(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    recording = Recording(tmp_path / "j")
    desk = RecordedDesk(recording.tape).walk(30)
    journal = recording.end()
    price = plant_decision(journal, desk)
    code, out, _ = replay(capsys, journal, "--until-first-difference")
    assert code == ExitCode.FAILED
    assert "DIFFERENT" in out
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in replay(capsys, journal, "--until-first-difference")[1]
    assert f"1. decision: {X} " in out
    assert "Ended at the first difference." in out
    assert f"│ price_ticks │ {price ^ 1} " in out
    assert "limit_long_lots" in out
    code, out, _ = replay(capsys, journal, "--json", "--show", "1")
    found = json.loads(out)
    assert code == ExitCode.FAILED
    assert not found["equal"]
    assert len(found["first"]) == 1


def test_with_other_settings_differences_are_what_was_asked_for(journal, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = replay(capsys, journal, "--set", "min_offset_bps=40")
    assert code == ExitCode.OK
    assert "With min_offset_bps=40, " in out
    assert "settings" in out
    assert "offset.min_offset_bps" in out
    assert " times " in out
    code, out, _ = replay(capsys, journal, "--set", "min_offset_bps=40", "--json")
    found = json.loads(out)
    assert code == ExitCode.OK
    assert found["settings"] == ["min_offset_bps=40"]
    assert found["markets"][X]["differences"] == sum(it["count"] for it in found["markets"][X]["changed"])


def test_a_session_that_was_cut_off_says_so(journal, capsys):
    [path] = find_inputs(journal)
    path.write_bytes(path.read_bytes()[:-5])
    code, out, _ = replay(capsys, journal)
    assert code == ExitCode.OK
    assert "cut off" in out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--market", "NO-USD"), ExitCode.DATA),
        (("--set", "no_such=1"), ExitCode.USAGE),
        (("--set", "max_position_notional_usd=1"), ExitCode.USAGE),
    ],
)
def test_what_is_not_there_is_one_message(journal, capsys, words, code):
    found, out, err = replay(capsys, journal, *words)
    assert (found, out) == (code, "")
    assert err.startswith("mm: ")


def test_a_journal_without_inputs_or_with_damaged_ones_is_unreadable(journal, capsys):
    [path] = find_inputs(journal)
    path.write_bytes(b"\n" + path.read_bytes())
    code, _, err = replay(capsys, journal)
    assert code == ExitCode.DATA
    assert "mm-inputs 1" in err
    path.unlink()
    code, _, err = replay(capsys, journal)
    assert code == ExitCode.DATA
    assert "journal_inputs_enabled" in err


def bot(folder, url, *words):
    """`mm run` on an emulator, in a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    settings = ("network=emulator", f"emulator_url={url}", "markets=BTC-USD", f"journal_dir={folder}")
    options = [word for setting in settings for word in ("-s", setting)]
    return subprocess.Popen(
        [sys.executable, "-m", "market_maker", "run", *options, "--account", "0", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=clean,
    )  # fmt: skip


def recorded_bytes(folder):
    return sum(path.stat().st_size for path in folder.glob("*.inputs"))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_session_over_sockets_replays_however_it_ended(tmp_path, capsys, killed):
    with (
        served() as emulator,
        bot(tmp_path, emulator.url, *([] if killed else ["--seconds", "8"])) as process,
    ):
        try:
            if killed:
                # The header alone is 7 kB; some seconds of quoting are as much again.
                while recorded_bytes(tmp_path) < 14_000 and process.poll() is None:
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(0.2)
                process.send_signal(signal.SIGKILL)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == (-signal.SIGKILL if killed else ExitCode.OK), (out, err)
    [journal] = tmp_path.glob("*.jsonl")
    code, out, _ = replay(capsys, journal, "--json")
    found = json.loads(out)
    assert (code, found["equal"]) == (ExitCode.OK, True)
    assert found["markets"]["BTC-USD"]["decisions"] > 50
    assert found["missing_blocks"] == 0
