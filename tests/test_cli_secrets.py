"""A canary: a key, given in every way, comes out nowhere."""

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from served import served

from market_maker.cli import main
from market_maker.cli.app import ExitCode

CANARY = "canary7f3e9ad1b2"
STARK_CANARY = "0x7fe1ad0be5ca9a41"
MISSHAPEN = "7fe1ad0be5ca9a41zz"
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder and no `MM_*` variables."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture(scope="module")
def emulator():
    with served() as running:
        yield running


@pytest.fixture
def mm(capsys):
    def run(*words: str) -> tuple[int, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def written(folder: Path, *but: str) -> str:
    """Whatever the files of a folder hold, but for those that held the key from the beginning."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in but]
    return "\n".join(path.read_text(errors="replace") for path in files)


def assert_silent(text: str) -> None:
    for secret in (CANARY, STARK_CANARY, STARK_CANARY.removeprefix("0x"), MISSHAPEN):
        assert secret not in text


LOOK = (("config", "show"), ("config", "show", "--json"), ("config", "check"), ("config", "check", "--json"))
ASK = (("run", "--seconds", "1"), ("doctor",), ("cancel-all",), ("flatten",), ("markets",))
LINES = f"MM_API_KEY={CANARY}\nMM_STARK_PRIVATE_KEY={STARK_CANARY}\n"


def in_the_environment(_folder, monkeypatch, key=STARK_CANARY):
    monkeypatch.setenv("MM_API_KEY", CANARY)
    monkeypatch.setenv("MM_STARK_PRIVATE_KEY", key)


def in_env_file(folder, _monkeypatch):
    (folder / ".env").write_text(LINES)
    (folder / ".env").chmod(0o600)


def in_a_misshapen_form(folder, monkeypatch):
    in_the_environment(folder, monkeypatch, MISSHAPEN)


def in_a_file_for_all_to_read(folder, _monkeypatch):
    (folder / ".env").write_text(LINES)
    (folder / ".env").chmod(0o644)


def in_a_file_without_an_end(folder, _monkeypatch):
    (folder / ".env").write_text(f"MM_API_KEY='{CANARY}\nMM_STARK_PRIVATE_KEY {STARK_CANARY}\n")


def in_a_toml_file(folder, _monkeypatch):
    (folder / "mm.toml").write_text(f'[credentials]\napi_key = "{CANARY}"\n[markets]\napi_key = "{CANARY}"\n')


def in_a_toml_file_that_is_none(folder, _monkeypatch):
    (folder / "mm.toml").write_text(
        f'[credentials]\napi_key = "{CANARY}\nstark_private_key = {STARK_CANARY}\n'
    )


def under_a_wrong_name(folder, monkeypatch):
    in_the_environment(folder, monkeypatch)
    monkeypatch.setenv("MM_APIKEY", CANARY)
    monkeypatch.setenv("MM_STARK_KEY", STARK_CANARY)


WAYS = (
    in_the_environment,
    in_env_file,
    in_a_misshapen_form,
    in_a_file_for_all_to_read,
    in_a_file_without_an_end,
    in_a_toml_file,
    in_a_toml_file_that_is_none,
    under_a_wrong_name,
)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_key_comes_out_nowhere_however_it_is_given(mm, folder, monkeypatch, emulator, way):
    way(folder, monkeypatch)
    on_it = ("-s", "network=emulator", "-s", f"emulator_url={emulator.url}")
    for words in (*LOOK, *((*words, *on_it) for words in ASK)):
        code, text = mm(*words)
        assert_silent(text)
        assert "Traceback" not in text
        if words in ASK and words != ("markets",):
            assert code in (ExitCode.USAGE, ExitCode.EXCHANGE)
    assert_silent(written(folder, ".env", "mm.toml"))


@pytest.mark.parametrize(
    "words",
    [
        ("-s", f"api_key={CANARY}"),
        ("-s", f"api_key:{CANARY}"),
        ("-s", f"BTC-USD:stark_private_key={STARK_CANARY}"),
        ("--api-key", CANARY),
        (f"--stark-private-key={STARK_CANARY}",),
        ("--env-file", "keys"),
    ],
)
def test_a_key_on_the_command_line_is_refused_and_not_repeated(mm, folder, words):
    (folder / "keys").write_text(LINES)
    (folder / "keys").chmod(0o640)
    code, text = mm("run", *words)
    assert code == ExitCode.USAGE
    assert_silent(text)


def test_an_env_file_of_ones_own_choice_is_read(mm, folder, emulator):
    (folder / "keys").write_text(LINES)
    (folder / "keys").chmod(0o600)
    on_it = ("-s", "network=emulator", "-s", f"emulator_url={emulator.url}")
    code, text = mm("run", *on_it, "--env-file", "keys")
    assert (code, "does not accept the API key" in text) == (ExitCode.EXCHANGE, True)
    assert_silent(text)


def scraped(port: int, process: subprocess.Popen) -> str:
    """Metrics of a process, once it serves them."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
                return response.read().decode()
        except urllib.error.URLError:
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    msg = "the session ended without metrics"
    raise AssertionError(msg)


@pytest.mark.slow
def test_a_session_with_keys_of_its_own_writes_them_nowhere(folder, emulator):
    keys = emulator.keys(2)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    settings = ["network=emulator", f"emulator_url={emulator.url}", "markets=BTC-USD", "journal_dir=j"]
    settings += ["metrics_enabled=yes", f"metrics_port={port}"]
    words = ["run", "--seconds", "3", "--json", *(word for each in settings for word in ("-s", each))]
    with subprocess.Popen(
        [sys.executable, "-m", "market_maker", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **keys},
    ) as process:
        metrics = scraped(port, process)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, "Traceback" in err) == (ExitCode.OK, False), err
    assert json.loads(out)["runs"][0]["orders"]["placed"] > 0
    assert not emulator.driver.exchange.account(emulator.accounts[2].account_id).open
    everything = out + err + metrics + written(folder)
    assert "mm_equity_usd" in everything
    assert '"api_key":"***"' in written(folder)
    for key in keys.values():
        assert key not in everything
        assert key.removeprefix("0x") not in everything
