"""`mm config`, `mm markets`, and how `mm` ends: what is printed where, and the exit code."""

import json
import os
from pathlib import Path

import pytest
import typer.main
from rich.text import Text

from market_maker.cli import main
from market_maker.cli.app import ExitCode, app
from market_maker.cli.settings_reference import markdown
from market_maker.config import SCHEMA
from market_maker.emulator.scenarios import market_names
from market_maker.gateway import VenueError

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder, no `MM_*` variables, and a terminal wide enough for a row."""
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


def test_show_prints_value_unit_origin_and_meaning(mm):
    code, out, err = mm("config", "show", "--section", "trend", "--set", "trend_fast_ema_s=42")
    row = next(line.split() for line in out.splitlines() if "trend_fast_ema_s" in line)
    assert (code, err) == (0, "")
    assert row[:4] == ["trend_fast_ema_s", "42.0", "s", "--set"]
    assert "num_levels" not in out


def test_show_as_json_holds_every_setting(mm):
    code, out, err = mm("config", "show", "--json")
    shown = json.loads(out)["settings"]
    assert (code, err) == (0, "")
    assert {name for section in shown.values() for name in section} == set(SCHEMA.settings)


def test_show_for_one_market(mm):
    code, out, err = mm(
        "config", "show", "-m", "ETH-USD", "-s", "ETH-USD:num_levels=1", "--section", "quote", "--json"
    )
    assert code == 0
    assert json.loads(out)["settings"]["quote"]["num_levels"]["origin"] == "--set ETH-USD:"
    _, _, err = mm("config", "show", "-s", "ETH-USD:num_levels=1")
    assert "ETH-USD has values of its own: num_levels" in err


def test_show_refuses_an_unknown_section(mm):
    code, out, err = mm("config", "show", "--section", "trends")
    assert (code, out) == (2, "")
    assert "expected one of session" in err


def test_settings_are_found_in_the_folder_and_the_environment(mm, folder, monkeypatch):
    (folder / "mm.toml").write_text("[quote]\nnum_levels = 3\n")
    (folder / ".env").write_text("MM_LEVEL_SIZE_USD=321\n")
    monkeypatch.setenv("MM_TREND_ENABLED", "false")
    _, out, _ = mm("config", "show", "--json")
    shown = json.loads(out)["settings"]
    assert shown["quote"]["num_levels"] == {"value": 3, "unit": "", "origin": "mm.toml [quote]"}
    assert shown["quote"]["level_size_usd"]["origin"] == "MM_LEVEL_SIZE_USD in .env"
    assert shown["trend"]["trend_enabled"] == {"value": False, "unit": "", "origin": "MM_TREND_ENABLED"}


def test_check_of_good_settings(mm):
    code, out, _ = mm("config", "check", "--profile", "legacy")
    assert code == 0
    assert f"All {len(SCHEMA.settings)} settings are fit" in out
    code, out, _ = mm("config", "check", "--json")
    assert json.loads(out) == {"ok": True, "problems": [], "origins": {"default": len(SCHEMA.settings)}}


def test_check_of_bad_settings_lists_every_problem(mm):
    code, out, err = mm("config", "check", "-s", "num_levels=x", "-s", "trend_fast=1")
    assert (code, out) == (ExitCode.USAGE, "")
    assert "2 problems" in err
    assert "num_levels: expected a whole number of at least 1 and at most 20, was 'x' (from --set)" in err
    assert "did you mean trend_fast_ema_s?" in err
    code, out, err = mm("config", "check", "-s", "num_levels=x", "--json")
    assert (code, err, json.loads(out)["ok"]) == (ExitCode.USAGE, "", False)


def test_the_reference_is_up_to_date():
    committed = (REPOSITORY / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert markdown() == committed, "run make docs"


def test_the_reference_verb_prints_it(mm):
    code, out, _ = mm("config", "reference")
    assert (code, out) == (0, markdown())


def test_a_secret_is_masked_everywhere(mm, monkeypatch):
    monkeypatch.setenv("MM_API_KEY", "swordfish")
    for words in (
        ("config", "show"),
        ("config", "show", "--json"),
        ("config", "check"),
        ("config", "reference"),
    ):
        assert "swordfish" not in "".join(mm(*words)[1:])


def test_markets_lists_what_the_exchange_inside_offers(mm):
    code, out, _ = mm("markets", "--inside")
    assert code == 0
    assert all(name in out for name in market_names())
    _, out, _ = mm("markets", "--inside", "--json")
    assert [market["name"] for market in json.loads(out)["markets"]] == market_names()


def test_no_word_of_a_help_text_is_taken_for_markup():
    """`[all]` would be a style of that name, and vanish."""
    for verb, command in typer.main.get_command(app).commands.items():
        for option in command.params:
            text = option.help or ""
            assert Text.from_markup(text).plain == text, (verb, option.name)


def test_version_and_help(mm):
    assert mm("--version")[:2] == (0, "mm 0.1.0\n")
    code, out, _ = mm("--help")
    assert code == 0
    assert "Examples" in out


@pytest.mark.parametrize(
    "words", [("nonsense",), ("config", "show", "--nonsense"), ("config", "show", "--set")]
)
def test_usage_errors_end_with_2(mm, words):
    code, out, err = mm(*words)
    assert (code, out) == (2, "")
    assert "Error" in err


@pytest.fixture
def failing_verb():
    """A verb that raises what it is given, for the length of a test."""
    raised: list[BaseException] = []

    def fail() -> None:
        raise raised[0]

    app.command("fail")(fail)
    yield raised
    app.registered_commands.pop()


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (VenueError("the exchange is closed"), ExitCode.EXCHANGE, "mm: the exchange is closed"),
        (
            PermissionError(13, "Permission denied", "journals"),
            ExitCode.DATA,
            "mm: journals: Permission denied",
        ),
        (VenueError(""), ExitCode.EXCHANGE, "mm: VenueError"),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED, ""),
    ],
)
def test_a_known_error_is_one_message_and_an_exit_code(mm, failing_verb, error, code, message):
    failing_verb.append(error)
    assert mm("fail") == (code, "", f"{message}\n" if message else "")


def test_debug_shows_where_an_error_arose(mm, failing_verb):
    failing_verb.append(VenueError("closed"))
    with pytest.raises(VenueError):
        mm("fail", "--debug")


def test_an_unknown_error_is_not_hidden(mm, failing_verb):
    failing_verb.append(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        mm("fail")
