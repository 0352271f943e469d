"""`mm soak`: what it watches, what it says, a planted leak, and a short soak with real processes."""

import json
import mmap
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from market_maker.cli.app import ExitCode, app, main
from market_maker.cli.soak_bot import BotEnd, bot_process
from market_maker.cli.soak_faults import chosen_faults, draw_windows
from market_maker.cli.soak_report import FIGURES, Soak, as_dict, print_soak, trends_of, warm_up_s
from market_maker.cli.soak_watch import BotWatch, ProcessGone, Sample, look_at_process
from market_maker.emulator.faults import MEANINGS, FaultError, parse_fault
from market_maker.soak_trend import Verdict

PATIENCE_S = 120.0
EVERY_S = 5.0
WELL = BotEnd(0)


def samples(minutes, **figures):
    """Samples of so many minutes; each figure is a function of the hours that passed."""
    steady = {"memory_mb": 150.0, "descriptors": 49, "threads": 10, "tasks": 47, "loop_late_ms": 1.0}
    made = []
    for n in range(int(minutes * 60 / EVERY_S)):
        hours = n * EVERY_S / 3600
        made.append(Sample(n * EVERY_S, **{**steady, **{name: of(hours) for name, of in figures.items()}}))
    return made


def soaked(seen, end=WELL, **more):
    return Soak(1800.0, seen, {"close_streams": 3}, end, **more)


def test_a_soak_that_stands_still_has_no_problem():
    soak = soaked(samples(30))
    assert soak.problems == []
    judged = {name: trend.verdict for name, trend in soak.trends.items() if trend.samples}
    assert set(judged.values()) == {Verdict.FINE}
    assert as_dict(soak)["warm_up_seconds"] == pytest.approx(600, abs=EVERY_S)


@pytest.mark.parametrize(
    ("figure", "of", "named"),
    [
        ("memory_mb", lambda hours: 150 + 20 * hours, "memory grows by 20.00 MB an hour"),
        ("descriptors", lambda hours: 49 + int(12 * hours), "descriptors grows by"),
        ("tasks", lambda hours: 47 + int(30 * hours), "tasks grows by"),
        ("threads", lambda hours: 10 + int(10 * hours), "threads grows by"),
        ("loop_late_ms", lambda hours: 1 + 10 * hours, "loop late grows by 10.00 ms an hour"),
        ("decision_us", lambda hours: 30 + 300 * hours, "decision grows by 300.00 µs an hour"),
        ("round_trip_ms", lambda hours: 80 + 300 * hours, "round trip grows by 300.00 ms an hour"),
    ],
)
def test_a_planted_leak_is_named(figure, of, named):
    [problem] = soaked(samples(30, **{figure: of})).problems
    assert problem.startswith(named)


def test_a_growth_in_the_warm_up_is_none():
    warm = samples(30, memory_mb=lambda hours: 150 + 600 * min(hours, 1 / 6))
    assert warm_up_s(warm) == pytest.approx(600, abs=2 * EVERY_S)
    assert soaked(warm).problems == []


def test_a_short_soak_says_so_and_guesses_nothing(capsys):
    soak = soaked(samples(2, memory_mb=lambda hours: 150 + 100 * hours))
    assert soak.problems == []
    print_soak(soak)
    said = capsys.readouterr().out
    assert "Too short for a verdict on memory" in said
    assert "soak for 15 minutes or more" in said
    assert "Nothing failed; no trend could be judged." in said


def test_the_table_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_soak(soaked(samples(2, memory_mb=lambda hours: 650 + 300_000 * hours)))
    said = capsys.readouterr().out
    assert "…" not in said
    assert all(words in said for words in ("later half", "per hour", "too short", "python blocks"))


def test_a_bot_that_ends_by_itself_or_not_in_order_is_a_problem():
    end = BotEnd(3, {}, "mm: the exchange is gone")
    [problem] = soaked(samples(30), end, ended_early=True).problems
    assert problem == "the bot ended by itself with exit code 3: mm: the exchange is gone"
    [problem] = soaked(samples(30), BotEnd(1, {}, "books differ")).problems
    assert problem == "the bot did not stop in order, exit code 1: books differ"


def test_nothing_seen_is_reported_too(capsys):
    soak = soaked([], BotEnd(2, {}, "mm: no"), ended_early=True)
    assert json.loads(json.dumps(as_dict(soak)))["seconds"] == 0.0
    print_soak(soak)
    assert "ended by itself with exit code 2" in capsys.readouterr().out


def test_a_process_that_leaks_is_seen_through_the_system():
    """A real leak, sampled as a soak does it, at the instants of half an hour."""
    seen, held = [], []
    with ExitStack() as leaked:
        for n in range(120):
            seen.append(look_at_process(os.getpid(), 15.0 * n))
            leaked.enter_context(Path("/dev/null").open("rb"))
            # Of its own, whatever this process has freed before and could use again.
            held.append(mmap.mmap(-1, 200_000))
            held[-1].write(b"x" * 200_000)
    problems = soaked(seen).problems
    assert {problem.split()[0] for problem in problems} == {"memory", "descriptors"}
    # 4 in a minute.
    assert trends_of(seen)["descriptors"].slope == pytest.approx(240, rel=0.05)


def test_a_process_that_is_gone_is_said_to_be():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    with pytest.raises(ProcessGone, match=f"expected process {process.pid} to run, was gone"):
        look_at_process(process.pid, 0.0)


def test_a_bot_that_does_not_answer_yet_is_watched_from_outside(tmp_path):
    # Port 1 is nobody's.
    sample = BotWatch(os.getpid(), 1, tmp_path).take(1.0)
    assert (sample.tasks, sample.decision_us, sample.halted) == (None, None, None)
    assert sample.memory_mb > 10
    assert sample.descriptors > 2


def test_a_bot_that_fails_at_once_leaves_its_last_words(tmp_path):
    with bot_process(["--set", "no_such_setting=1"], tmp_path) as bot:
        assert bot.ends_within(PATIENCE_S)
        end = bot.end()
    assert (end.exit_code, end.is_well) == (ExitCode.USAGE, False)
    assert "no_such_setting" in (tmp_path / "bot.log").read_text()


def test_faults_come_each_in_turn_and_leave_both_ends_calm():
    named = chosen_faults([])
    windows = [parse_fault(text) for text in draw_windows(named, 3600.0, 1)]
    assert {name for window in windows for name in window.faults.values()} == set(MEANINGS)
    assert all(before.end_s < after.start_s for before, after in pairwise(windows))
    assert windows[0].start_s == 30.0
    assert 3600 - 120 < windows[-1].end_s <= 3570
    # As many of each, give or take one.
    counts = [sum(text.startswith(f"{name}@") for text in draw_windows(named, 3600.0, 1)) for name in named]
    assert max(counts) - min(counts) <= 1


def test_the_same_seed_draws_the_same_faults():
    assert draw_windows(["maintenance"], 600.0, 1) == draw_windows(["maintenance"], 600.0, 1)
    assert draw_windows(["maintenance"], 600.0, 1) != draw_windows(["maintenance"], 600.0, 2)
    assert draw_windows(chosen_faults(["none"]), 600.0, 1) == []


def test_a_week_of_faults_fits_a_command_line():
    assert sum(len(text) + 9 for text in draw_windows(chosen_faults([]), 168 * 3600.0, 1)) < 1_000_000


@pytest.mark.parametrize(
    ("text", "said"), [("no_fault", "no fault 'no_fault'"), ("maintenance@1+2", "alone")]
)
def test_a_fault_that_cannot_be_drawn_is_refused(text, said):
    with pytest.raises(FaultError, match=said):
        chosen_faults([text])


def test_the_command_refuses_settings_and_faults_before_anything_starts(capsys):
    assert main(["soak", "--hours", "1", "--set", "no_such_setting=1"]) == ExitCode.USAGE
    assert main(["soak", "--hours", "1", "--fault", "nothing"]) == ExitCode.USAGE
    assert main(["soak", "--hours", "0"]) == ExitCode.USAGE
    assert "no_such_setting" in capsys.readouterr().err


def test_the_command_lists_the_faults():
    said = CliRunner().invoke(app, ["soak", "--hours", "1", "--fault", "list"])
    assert said.exit_code == 0
    assert all(name in said.output for name in MEANINGS)


def start(folder, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "market_maker", "soak", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_a_short_soak_with_real_processes_watches_everything_and_stops_when_asked(tmp_path):
    kept = tmp_path / "kept"
    words = (
        "--hours",
        "0.05",
        "--every",
        "0.5",
        "--json",
        "--fault",
        "duplicate_frames",
        "-s",
        "markets=BTC-USD",
    )
    with start(tmp_path, *words, "--keep", str(kept)) as process:
        try:
            samples_file = kept / "samples.jsonl"
            while process.poll() is None and not told(samples_file, "orders"):
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert (process.returncode, "Traceback" in err) == (ExitCode.INTERRUPTED, False), err
    result = json.loads(out)
    assert (result["interrupted"], result["problems"]) == (True, [])
    assert set(result["figures"]) == {each.name for each in FIGURES}
    assert {figure["verdict"] for figure in result["figures"].values()} == {"too short"}
    assert result["bot"]["account"]["equal"] is True
    assert result["bot"]["account"]["open_orders"] == 0
    for name in ("tasks", "python_blocks", "loop_late_ms", "decision_us", "round_trip_ms"):
        assert told(samples_file, name), name


def told(path, name):
    """Whether some whole sample of a file has a figure, other than nothing."""
    lines = path.read_text().splitlines() if path.exists() else []
    return any(json.loads(line)[name] for line in lines if line.endswith("}"))
