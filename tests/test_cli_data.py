"""`mm data` and `mm record` as they are typed: output, exit codes, and what is left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from served import served
from test_recordings import FRAMES, write_raw
from test_recordings_columns import write_tables

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.recordings.store import open_store

pytest.importorskip("polars")
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def mm(capsys):
    def run(*words):
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_convert_and_inspect(folder, mm, monkeypatch):
    (folder / "tables").mkdir()
    write_tables(folder / "tables")
    code, out, _ = mm("data", "convert", "tables", "--to", "store", "--venue", "here", "--json")
    assert code == ExitCode.OK
    [market] = json.loads(out)["markets"]
    assert (market["market"], market["venue"], market["events"]) == ("BTC-USD", "here", 11)
    code, out, _ = mm("data", "inspect", "store", "--json")
    assert code == ExitCode.OK
    assert json.loads(out)["markets"][0]["delay_ms"] == 0.0
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = mm("data", "inspect", "store/BTC-USD")
    assert code == ExitCode.OK
    assert all(
        words in out for words in ("BTC-USD", "here", market["start"], market["end"], "trades_twice 1")
    )


def test_a_second_conversion_needs_a_word(folder, mm):
    write_raw(folder / "x.gz", FRAMES)
    assert mm("data", "convert", "x.gz", "--to", "store")[0] == ExitCode.OK
    code, _, err = mm("data", "convert", "x.gz", "--to", "store")
    assert code == ExitCode.DATA
    assert "--replace" in err
    assert (
        mm("data", "convert", "x.gz", "--to", "store", "--replace", "--grid", "BTC:0.05:0.01")[0]
        == ExitCode.OK
    )
    assert open_store(folder / "store").info("BTC-USD").tick == "0.05"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("data", "convert", "nowhere", "--to", "x"), ExitCode.DATA, "nowhere: expected a recording"),
        (
            ("data", "convert", "x.gz", "--to", "y", "--grid", "BTC"),
            ExitCode.USAGE,
            "expected MARKET:TICK:STEP",
        ),
        (("data", "inspect", "nowhere"), ExitCode.DATA, "expected a folder of converted markets"),
        (
            ("data", "download", "x", "--symbol", "A", "--from", "2024-01-01", "--to", "x"),
            ExitCode.USAGE,
            "tardis",
        ),
        (
            (
                "data",
                "download",
                "tardis",
                "--symbol",
                "A",
                "--from",
                "2024-01-01",
                "--to",
                "x",
                "--kind",
                "y",
            ),
            ExitCode.USAGE,
            "incremental_book_L2",
        ),
    ],
)
def test_what_is_wrong_is_said(mm, words, code, message):
    found, _, err = mm(*words)
    assert (found, message in err) == (code, True), err


def test_a_flipped_bit_is_found_by_inspect(folder, mm):
    write_raw(folder / "x.gz", FRAMES)
    mm("data", "convert", "x.gz", "--to", "store")
    path = next((folder / "store" / "BTC-USD").glob("*.arrow"))
    [hour] = open_store(folder / "store").hours("BTC-USD")
    content = bytearray(path.read_bytes())
    content[content.index(hour.lots.tobytes())] ^= 1
    path.write_bytes(content)
    code, _, err = mm("data", "inspect", "store")
    assert code == ExitCode.DATA
    assert "expected the checksum" in err


def start(*words):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    return subprocess.Popen(
        [sys.executable, "-m", "market_maker", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environ, "COLUMNS": "200"},
    )


@pytest.mark.slow
def test_an_interrupted_conversion_leaves_no_half_file(folder):
    # The pipe never ends: the conversion waits in the middle of its source.
    write_raw(folder / "x.gz", FRAMES * 20_000)
    process = start("data", "convert", "x.gz", "--to", "store")
    hidden = folder / "store" / ".BTC-USD.partial"
    while not hidden.exists():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.INTERRUPTED, err
    assert b"nothing half done is left behind" in err
    assert list((folder / "store").iterdir()) == []


@pytest.mark.slow
def test_a_recording_survives_kill_9_and_converts(folder, mm):
    with served() as emulator:
        network = ("--set", "network=emulator", "--set", f"emulator_url={emulator.url}")
        process = start("record", "--market", "BTC-USD", "--to", "heard", *network)
        while not any(path.stat().st_size > 2_000 for path in Path("heard").rglob("*.mmrec")):
            assert process.poll() is None, process.communicate()
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        code, out, _ = mm(
            "record", "--market", "BTC-USD", "--to", "heard", "--seconds", "2", "--json", *network
        )
        assert code == ExitCode.OK
        assert json.loads(out)["events"]["BTC-USD"]["BookUpdate"] > 0
        assert mm("record", "--market", "NONE-USD", "--to", "heard", *network)[0] == ExitCode.EXCHANGE
    code, out, _ = mm("data", "convert", "heard", "--to", "store", "--json")
    assert code == ExitCode.OK
    [market] = json.loads(out)["markets"]
    assert market["venue"] == "emulator"
    assert market["counts"]["clear"] >= 2
    assert market["counts"]["gap"] >= 1
