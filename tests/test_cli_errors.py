"""Bad input on the command line: one clear message, an exit code, no stack trace, nothing lost."""

import gzip
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.status import read_status
from market_maker.trade_journal import read_journal

PLAY = ("--seconds", "2", "--speed", "max", "--scenario", "flat")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder and no `MM_*` variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def mm(capsys):
    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def assert_one_message(result, code, *parts):
    """The exit code, nothing on standard output, and a single line on standard error with these parts."""
    assert (result[0], result[1]) == (code, "")
    [line] = result[2].splitlines()
    assert line.startswith("mm: ")
    for part in parts:
        assert part in line


def told(err: str) -> list[str]:
    """Messages on standard error, without the log of a session that lasts longer."""
    assert "Traceback" not in err
    return [line for line in err.splitlines() if line.startswith("mm: ")]


# What does not exist.


def test_a_wrong_market_names_a_close_match_and_what_exists(mm):
    found = "BTC-USD, ETH-USD, SOL-USD, WIF-USD, was 'BTC-US'; did you mean BTC-USD?"
    assert_one_message(mm("demo", "-m", "BTC-US", *PLAY), ExitCode.EXCHANGE, found)


@pytest.mark.parametrize(
    ("name", "hint"), [("mixde", "was 'mixde'; did you mean mixed?"), ("storm", "was 'storm'")]
)
def test_a_wrong_scenario_names_a_close_match_and_what_exists(mm, name, hint):
    result = mm("demo", "--seconds", "2", "--speed", "max", "--scenario", name)
    assert_one_message(result, ExitCode.USAGE, "calm, choppy, trend, crash, mixed, ramp, flat", hint)
    assert result[2].rstrip().endswith(hint)


def test_a_wrong_profile_names_what_exists(mm):
    result = mm("demo", *PLAY, "--profile", "legcy")
    assert_one_message(result, ExitCode.USAGE, "expected one of crypto, legacy, was 'legcy' (from --profile)")


# Settings: what was expected, what was found, and where it came from.

NO_FOLDER = "journal_dir: expected a folder, was a file: taken"
NOT_99 = "num_levels: expected a whole number of at least 1 and at most 20, was"


def test_a_bad_setting_on_the_command_line(mm):
    assert_one_message(mm("demo", *PLAY, "-s", "num_levels=x"), ExitCode.USAGE, f"{NOT_99} 'x' (from --set)")


def test_a_bad_setting_in_the_environment(mm, monkeypatch):
    monkeypatch.setenv("MM_NUM_LEVELS", "99")
    assert_one_message(mm("demo", *PLAY), ExitCode.USAGE, f"{NOT_99} '99' (from MM_NUM_LEVELS)")


def test_a_bad_setting_in_a_file(mm, folder):
    (folder / "my.toml").write_text("[quote]\nnum_levels = 99\n")
    result = mm("run", "-c", "my.toml")
    assert_one_message(result, ExitCode.USAGE, f"{NOT_99} 99 (from my.toml [quote])")


def test_a_bad_setting_in_the_env_file(mm, folder):
    (folder / ".env").write_text("MM_NUM_LEVELS=99\n")
    assert_one_message(mm("demo", *PLAY), ExitCode.USAGE, f"{NOT_99} '99' (from MM_NUM_LEVELS in .env)")


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"MM_NUM_LEVELS 3\n", ".env, line 1: expected NAME=value"),
        (b"OTHER=1\nMM_NUM_LEVELS\n", ".env, line 2: expected NAME=value"),
        (b'MM_API_KEY="swordfish\n', ".env, line 1: expected NAME=value"),
        (b"\xff\xfe\n", ".env: expected a file of MM_NAME=value lines, but it is not UTF-8 text"),
    ],
)
def test_an_env_file_that_can_not_be_read_is_not_passed_over(mm, folder, content, where):
    (folder / ".env").write_bytes(content)
    result = mm("demo", *PLAY)
    assert_one_message(result, ExitCode.USAGE, where)
    assert "swordfish" not in result[2]


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"[quote\n", "my.toml: expected TOML, but"),
        (b"\xff\xfe\n", "my.toml: expected a TOML file of settings, but it is not UTF-8 text"),
        (b"[quotes]\nnum_levels=2\n", "[quotes]: no such section; did you mean quote?"),
    ],
)
def test_a_file_that_can_not_be_read_is_named(mm, folder, content, where):
    (folder / "my.toml").write_bytes(content)
    assert_one_message(mm("demo", *PLAY, "-c", "my.toml"), ExitCode.USAGE, where)


def test_an_unknown_setting_has_a_hint_wherever_it_comes_from(mm, folder, monkeypatch):
    result = mm("demo", *PLAY, "-s", "trend_fast=1")
    assert_one_message(result, ExitCode.USAGE, "no such setting (from --set); did you mean trend_fast_ema_s?")
    monkeypatch.setenv("MM_NUM_LEVEL", "2")
    assert_one_message(mm("demo", *PLAY), ExitCode.USAGE, "MM_NUM_LEVEL", "did you mean MM_NUM_LEVELS?")
    monkeypatch.delenv("MM_NUM_LEVEL")
    (folder / "mm.toml").write_text("[quote]\nnum_level = 2\n")
    assert_one_message(mm("demo", *PLAY), ExitCode.USAGE, "mm.toml [quote]", "did you mean num_levels?")


def test_all_problems_are_told_at_once(mm):
    code, out, err = mm("demo", *PLAY, "-s", "num_levels=0", "-s", "level_size_usd=nan")
    assert (code, out) == (ExitCode.USAGE, "")
    first, *others = err.splitlines()
    assert first == "mm: 2 problems"
    assert [line.split(":")[0].strip() for line in others] == ["num_levels", "level_size_usd"]


@pytest.mark.parametrize(
    "words",
    [
        ("--speed", "0"),
        ("--speed", "nan"),
        ("--seconds", "nan"),
        ("--seconds", "inf"),
        ("--offset", "inf"),
        ("--deposit", "inf"),
        ("--deposit", "1e30"),
        ("--funding-every", "inf"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(mm, words):
    code, out, err = mm("demo", *PLAY, *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert words[0] in err
    assert "Traceback" not in err


def test_a_journal_folder_that_can_not_be_written_is_said_before_anything_is_sent(mm, folder):
    (folder / "taken").write_text("a file")
    assert_one_message(mm("demo", *PLAY, "-s", "journal_dir=taken"), ExitCode.DATA, NO_FOLDER)


@pytest.mark.slow
def test_a_journal_that_is_cut_short_is_said_and_the_end_is_a_failure(mm):
    # Kernels are in their cache before files may grow no more.
    assert mm("demo", *PLAY, "--json")[0] == ExitCode.OK
    limited = ["sh", "-c", 'ulimit -f 16; exec "$0" "$@"', sys.executable, "-m", "market_maker"]
    play = ["demo", "--seconds", "15", "--speed", "max"]
    as_json, as_text = (
        subprocess.run([*limited, *play, *more], capture_output=True, text=True, check=False)
        for more in (["--json"], [])
    )
    assert (as_json.returncode, as_text.returncode) == (ExitCode.FAILED, ExitCode.FAILED)
    assert "File too large" in json.loads(as_json.stdout)["account"]["journal_failed"]
    assert as_json.stderr.count("the journal can not be written any more") == 1
    assert "The journal is NOT WHOLE" in as_text.stdout


@pytest.mark.parametrize(
    ("words", "markets"),
    [
        ((), ["BTC-USD", "ETH-USD", "WIF-USD"]),
        (("-s", "markets=ETH-USD"), ["ETH-USD"]),
        (("-s", "markets=ETH-USD", "-m", "BTC-USD"), ["BTC-USD"]),
    ],
)
def test_a_demo_quotes_the_markets_that_are_set_else_three(mm, words, markets):
    code, out, _ = mm("demo", *PLAY, "--json", *words)
    shown = json.loads(out)
    assert code == ExitCode.OK
    assert [run["market"] for run in shown["runs"]] == markets
    assert (shown["account"]["stop_action"], shown["account"]["journal_failed"]) == ("hold", None)
    held = {run["market"] for run in shown["runs"] if float(run["inventory_usd"]["end"])}
    assert set(shown["account"]["positions"]) == held


# Recordings.

T0_MS = 1_723_161_256_000
LOCAL0_NS = 1_723_161_255_000_000_000
# More lines than are looked at when a recording is opened.
SAMPLED = 4_000


def levels(size: int) -> tuple[list, list]:
    bids = [[f"{60_000.0 - tick / 10:.1f}", f"{size + tick}.001"] for tick in range(6)]
    return bids, [[f"{60_000.1 + tick / 10:.1f}", f"{size + tick}.001"] for tick in range(6)]


def raw_line(at_ms: int, frame: dict) -> str:
    return f"{LOCAL0_NS + at_ms * 1_000_000} {json.dumps(frame)}\n"


def change(update: int, at_ms: int, size: int) -> str:
    bids, asks = levels(size)
    data = {"e": "depthUpdate", "T": T0_MS + at_ms, "s": "BTCUSDT", "u": update, "pu": update - 1}
    return raw_line(at_ms, {"data": {**data, "b": bids, "a": asks}})


def raw_lines(seconds: int) -> list[str]:
    """A book that changes ten times a second; before it, changes that were there already."""
    bids, asks = levels(40)
    whole = {"lastUpdateId": 1, "T": T0_MS, "bids": bids, "asks": asks}
    before = [raw_line(0, whole), *[change(1, 0, 40)] * (SAMPLED - 1)]
    return before + [change(2 + n, 100 * n, 40 + n % 3) for n in range(10 * seconds)]


def write_raw(path: Path, lines: list[str]) -> Path:
    path.write_bytes(gzip.compress("".join(lines).encode(), 1))
    return path


def follow(mm, path, *words, seconds="12"):
    return mm("demo", "--recording", str(path), "--seconds", seconds, "--speed", "max", *words)


def test_a_recording_that_is_cut_in_half_is_refused_before_anything_is_sent(mm, folder):
    path = write_raw(folder / "btcusdt.gz", raw_lines(12))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = follow(mm, path)
    assert_one_message(result, ExitCode.DATA, "btcusdt.gz: expected a whole gzip file, was truncated")


def test_a_parquet_recording_that_is_cut_in_half_is_refused(mm, folder):
    pl = pytest.importorskip("polars")
    for kind in ("book", "trades"):
        pl.DataFrame({"ts": list(range(1000))}).write_parquet(folder / f"BTC_{kind}.parquet")
    path = folder / "BTC_book.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_one_message(follow(mm, folder), ExitCode.DATA, "BTC_book.parquet: expected")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "empty: expected NAME_book.parquet"),
        ("none", "none: expected a recording, was not found"),
        ("notes.txt", "notes.txt: expected NAME_book.parquet"),
    ],
)
def test_a_path_without_a_recording_is_named(mm, folder, name, message):
    (folder / "empty").mkdir()
    (folder / "notes.txt").write_text("hello")
    assert_one_message(follow(mm, folder / name), ExitCode.DATA, message)


def test_a_market_that_a_recording_has_not_is_named_beside_those_it_has(mm, folder):
    path = write_raw(folder / "btcusdt.gz", raw_lines(2))
    result = follow(mm, path, "-m", "ETH-USD")
    assert_one_message(result, ExitCode.DATA, "expected the markets ETH-USD, was a recording of BTC-USD")


def test_an_offset_beyond_a_recording_says_how_long_it_is(mm, folder):
    path = write_raw(folder / "btcusdt.gz", raw_lines(2))
    result = follow(mm, path, "--offset", "900")
    assert_one_message(result, ExitCode.DATA, "expected an offset below the recording's 1.9 s, was 900.0 s")


def spoilt(folder: Path) -> Path:
    """A recording of 20 s with a line in its middle that is none; it shows only once it is reached."""
    lines = raw_lines(20)
    lines[SAMPLED + 80] = "17231612 {'no': json\n"
    return write_raw(folder / "btcusdt.gz", lines)


@pytest.mark.slow
def test_a_corrupt_line_that_is_reached_while_trading_ends_the_session_in_order(mm, folder):
    code, out, err = follow(mm, spoilt(folder), "--json", "-s", "journal_dir=j")
    assert code == ExitCode.DATA
    [line] = told(err)
    assert f"btcusdt.gz, line {SAMPLED + 81}: expected 'local_ns json'" in line
    summary = json.loads(out)
    account, [run] = summary["account"], summary["runs"]
    assert (account["open_orders"], account["equal"]) == (0, True)
    assert "line" in account["stopped_by"]
    # The reader is ahead of the market by what it puts back in order.
    assert 6.0 < run["seconds"] < 9.0
    assert run["orders"]["placed"] >= 4
    assert run["quote_uptime"] > 0.9
    records = list(read_journal(Path(account["journal"])))
    assert records[-1]["type"] == "session_stop"
    assert records[-1]["why"] == account["stopped_by"]
    assert records[-1]["summary"]["runs"] == summary["runs"]
    assert read_status(folder / "j").state == "STOPPED"


@pytest.mark.slow
def test_a_corrupt_line_ends_a_session_in_real_time_too(folder):
    """A process of its own: the summary on one stream, the message alone on the other, no stack trace."""
    command = [sys.executable, "-m", "market_maker", "demo", "--recording", str(spoilt(folder))]
    done = subprocess.run(
        [*command, "--offset", "4", "--seconds", "20"],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == ExitCode.DATA
    assert "Ended on emulator" in done.stdout
    assert "Open orders at the exchange: 0." in done.stdout
    assert "equal, to the last digit" in done.stdout
    assert "time is up" not in done.stdout
    [line] = told(done.stderr)
    assert "expected 'local_ns json'" in line


@pytest.mark.slow
def test_the_corrupt_line_past_the_time_that_was_asked_for_is_no_matter(mm, folder):
    code, out, err = follow(mm, spoilt(folder), "--json", seconds="3")
    assert (code, told(err)) == (ExitCode.OK, [])
    assert Decimal(json.loads(out)["runs"][0]["pnl_usd"]["total"]) == 0


@pytest.mark.parametrize("day", ["yesterday", "2026-13-01", "2026-02-30", ""])
def test_a_day_that_is_none_is_told_as_what_was_expected(mm, day):
    code, out, err = mm("reconcile", "--day", day)
    assert (code, out) == (ExitCode.USAGE, "")
    assert f"expected a day as YYYY-MM-DD, was {day!r}" in err


@pytest.mark.slow
def test_a_status_file_that_can_not_be_written_is_told_once(mm, folder):
    (folder / "journal" / "status.json").mkdir(parents=True)
    code, _, err = mm("demo", *PLAY)
    assert code == ExitCode.OK
    assert err.count("the status file can not be written") == 1
