"""What is promised of secrets, files and dependencies: see docs/security.md.

Canary keys and tokens go through every verb there is, found by asking the command line itself, so that a new
one is covered on the day it comes. `test_cli_secrets.py` has the ways to give a key, and a session with one.
"""

import os
import re
import signal
import tomllib
import traceback
from pathlib import Path

import pytest
import typer

from market_maker.cli import main
from market_maker.cli.app import DEBUG_FLAG, app
from market_maker.config import SCHEMA
from market_maker.config_sections import Secret
from market_maker.config_sources import foreign_owner

CANARIES = {
    "MM_API_KEY": "canary7f3e9ad1b2",
    "MM_STARK_PRIVATE_KEY": "0x7fe1ad0be5ca9a41",
    "MM_METRICS_TOKEN": "canary-metrics-5e0d91",
    "MM_EMULATOR_TOKEN": "canary-emulator-c77a02",
}
ROOT = Path(__file__).parents[1]
LONGEST_S = 60
# Nobody listens there.
NOWHERE = ("-s", "network=emulator", "-s", "emulator_url=http://127.0.0.1:9")
# What a verb that would go on by itself is told, so that it ends.
SHORT = {
    ("demo",): ("--seconds", "1", "--speed", "max"),
    ("emulator",): ("--fault", "list"),
    ("run",): ("--seconds", "1"),
    ("simulate",): ("--faults", "list"),
    ("soak",): ("--faults", "list"),
}
# A required argument is answered with a file that is not there, unless it must be something else.
NEEDED = {
    "day": "2026-01-01",
    "first": "2026-01-01",
    "market": "BTC-USD",
    "hours": "0.001",
    "symbol": "BTCUSDT",
}


def verbs(command, path=()):
    """Every verb, and the groups that do something by themselves."""
    if path:
        yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from verbs(inner, (*path, name))


VERBS = dict(verbs(typer.main.get_command(app)))


def words_for(path):
    """A call of a verb that is complete, and ends by itself."""
    words = [*path, *SHORT.get(path, ())]
    named = {option for parameter in VERBS[path].params for option in parameter.opts}
    for parameter in VERBS[path].params:
        if parameter.required and not set(parameter.opts) & set(words):
            value = NEEDED.get(parameter.name, "missing")
            is_option = parameter.param_type_name == "option"
            words += [parameter.opts[0], value] if is_option else [value]
    return words + list(NOWHERE if "--set" in named and path != ("demo",) else ())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, no `MM_*` variables, and an end to what does not end."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(LONGEST_S)
    yield tmp_path
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _too_long(*_):
    msg = f"expected the verb to end within {LONGEST_S} s; name what makes it short in SHORT"
    raise AssertionError(msg)


def given(monkeypatch, **changes):
    for name, value in (CANARIES | changes).items():
        monkeypatch.setenv(name, value)


def told(capfd, words):
    """Whatever a call says: output, errors, and the stack trace of what is not caught."""
    trace = ""
    try:
        main(words)
    except Exception:  # noqa: BLE001  (whatever comes is looked through)
        trace = traceback.format_exc()
    captured = capfd.readouterr()
    return captured.out + captured.err + trace


def assert_silent(text):
    for secret in CANARIES.values():
        assert secret.removeprefix("0x") not in text


def assert_left_nothing(folder, *but):
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in but:
            content = path.read_bytes()
            for secret in CANARIES.values():
                assert secret.removeprefix("0x").encode() not in content, path


@pytest.mark.slow
@pytest.mark.parametrize("path", VERBS, ids=" ".join)
def test_no_verb_tells_a_secret(capfd, folder, monkeypatch, path):
    words = words_for(path)
    given(monkeypatch)
    text = told(capfd, words)
    assert text
    assert_silent(text)
    assert_silent(told(capfd, [*words, DEBUG_FLAG]))
    given(monkeypatch, MM_STARK_PRIVATE_KEY=CANARIES["MM_STARK_PRIVATE_KEY"] + "zz", MM_MARKETZ="x")
    assert_silent(told(capfd, [*words, DEBUG_FLAG]))
    for secret in CANARIES.values():
        assert_silent(told(capfd, [*words, "--set", f"api_key={secret}"]))
    assert_left_nothing(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [path for path in VERBS if path in (("config", "show"), ("run",), ("doctor",))]
)
def test_no_verb_tells_a_secret_that_is_in_the_wrong_place(capfd, folder, path):
    lines = [f'{name.removeprefix("MM_").lower()} = "{value}"' for name, value in CANARIES.items()]
    for sections in (
        ["[credentials]"],
        ["[metrics]"],
        [],
        ["[markets]"],
        ['[markets."BTC-USD".credentials]'],
    ):
        (folder / "mm.toml").write_text("\n".join([*sections, *lines]))
        assert_silent(told(capfd, [*words_for(path), DEBUG_FLAG]))
    assert_left_nothing(folder, "mm.toml")


def test_every_setting_that_is_a_key_or_a_token_is_a_secret():
    """Or it would be printed as any other, and taken from a TOML file that everybody may read."""
    telling = re.compile(r"(?<!_id)(_key|_token|secret|password)$")
    settings = SCHEMA.settings.values()
    named = {setting.env_name for setting in settings if telling.search(setting.name)}
    assert named == {setting.env_name for setting in settings if setting.is_secret} == set(CANARIES)
    assert CANARIES["MM_API_KEY"] not in f"{Secret(CANARIES['MM_API_KEY'])!r}{[Secret('x')]}"


@pytest.mark.parametrize(("owners", "ours"), [((0, 0), True), ((0, 7), False), ((7, 0), False)])
def test_a_file_of_keys_must_be_ours_and_so_must_a_link_to_it(owners, ours):
    me = os.geteuid()
    assert (foreign_owner([me + other for other in owners]) == "") == ours


def test_a_link_to_a_file_of_keys_has_the_mode_of_the_file(capfd, folder):
    kept = folder / "kept"
    kept.write_text(f"MM_API_KEY={CANARIES['MM_API_KEY']}\n")
    kept.chmod(0o640)
    (folder / ".env").symlink_to(kept)
    assert "expected mode 0600" in told(capfd, ["config", "check"])
    kept.chmod(0o600)
    text = told(capfd, ["config", "show"])
    assert "expected mode 0600" not in text
    assert_silent(text)


@pytest.mark.slow
def test_what_a_session_writes_is_its_owners_alone(capfd, folder):
    before = os.umask(0)
    try:
        told(capfd, ["demo", "--seconds", "1", "--speed", "max", "-s", "journal_dir=deep/journal"])
    finally:
        os.umask(before)
    written = [folder / "deep" / "journal", *(folder / "deep" / "journal").iterdir()]
    assert len(written) > 2
    for path in written:
        assert path.stat().st_mode & 0o077 == 0, path


LOCKS = [ROOT / "requirements.lock", *sorted(ROOT.glob("benchmarks/*/requirements.lock"))]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.parent.name)
def test_every_dependency_is_pinned_with_hashes(lock):
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^\s*#.*\n?", "", lock.read_text()))
    entries = [entry for entry in entries if entry.strip()]
    assert len(entries) > 10
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,]+\])?==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_every_dependency_that_is_declared_is_locked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    declared = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    declared += [it for extra in project["project"]["optional-dependencies"].values() for it in extra]
    locked = set(
        re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==", (ROOT / "requirements.lock").read_text())
    )
    for requirement in declared:
        assert re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower() in locked


def test_nothing_is_installed_that_is_not_pinned():
    """By the Makefile and by CI: with hashes, or nothing but this package, or the one tool at its version."""
    lines = [(ROOT / "Makefile").read_text().replace("\\\n", " "), (ROOT / ".ci" / "run").read_text()]
    installs = [
        line for text in lines for line in text.splitlines() if re.search(r"\b(pip|uv) install\b", line)
    ]
    assert installs
    for line in installs:
        pinned = "--require-hashes" in line or re.search(r" [a-z-]+==\$\([A-Z_]+\)$", line)
        assert pinned or "--no-deps --no-build-isolation -e ." in line, line
