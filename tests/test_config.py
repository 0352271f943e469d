"""The assembler on sections of the test's own, then the real ones: names, profiles, the files of configs/."""

import dataclasses
from contextlib import suppress
from decimal import Decimal
from enum import IntEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.config import SCHEMA, Config, ConfigError, Schema, load_config
from market_maker.config_rules import ACCOUNT_WIDE, ORDERED, RELATED, RULES, Order, Range, Text
from market_maker.config_sections import CredentialSettings, DeadMansSwitchSettings, Secret, SessionSettings
from market_maker.config_sources import profile_names
from market_maker.pricing_engine import QuoteSettings

REPOSITORY = Path(__file__).resolve().parents[1]


class Mode(IntEnum):
    """How it leans."""

    FOLLOW = 0
    FADE = 1


@dataclasses.dataclass(frozen=True)
class LeanSettings:
    """Whether to lean.

    Raises
    ------
    ValueError
        If fast is not below slow.
    """

    lean_enabled: bool = True
    lean_mode: Mode = Mode.FOLLOW
    lean_fast_s: float = 60.0  # s, the fast one
    lean_slow_s: float = 300.0  # s, the slow one
    lean_levels: int = 2  # levels a side
    lean_bias_bps: float = 0.0  # bps, up is positive
    lean_name: str = "pisa"

    def __post_init__(self):
        if not self.lean_fast_s < self.lean_slow_s:
            raise ValueError(f"lean_fast_s: expected below lean_slow_s, was {self.lean_fast_s}")


@dataclasses.dataclass(frozen=True)
class LimitSettings:
    """How much is too much."""

    limit_usd: Decimal = Decimal("1000.50")
    limit_ladder: tuple[float, ...] = (0.5, 1.0)  # shares


SMALL = Schema(
    sections={
        "session": SessionSettings,
        "credentials": CredentialSettings,
        "lean": LeanSettings,
        "limits": LimitSettings,
    },
    shared=frozenset({"session", "credentials"}),
    rules={
        "lean_name": Text("lower-case letters", "[a-z]+"),
        "lean_bias_bps": Range(-10, 10),
        "lean_fast_s": Range(above=True),
    },
    ordered=[Order("lean_levels", "limit_usd", zero_is_none=True)],
)


def load(*overrides, files=(), environ=None, env_file=None, profile=None) -> Config:
    return load_config(overrides, files, environ or {}, env_file, profile, SMALL)


def problems(*overrides, **sources) -> str:
    with pytest.raises(ConfigError) as raised:
        load(*overrides, **sources)
    return str(raised.value)


@pytest.fixture
def toml(tmp_path):
    def write(text: str, name: str = "mm.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_defaults_are_those_of_the_dataclasses():
    config = load()
    assert config.section("lean") == LeanSettings()
    assert config.of(LimitSettings) == LimitSettings()
    assert set(config.origins.values()) == {"default"}


def test_each_source_beats_the_weaker_ones(toml, tmp_path):
    first = toml("[lean]\nlean_slow_s = 201\nlean_fast_s = 11\nlean_levels = 1\nlean_bias_bps = 1")
    second = toml("[lean]\nlean_slow_s = 202\nlean_fast_s = 12\nlean_levels = 2", "second.toml")
    env_file = tmp_path / ".env"
    env_file.write_text("# keys\nOTHER=1\nMM_LEAN_SLOW_S=203\nMM_LEAN_FAST_S=13\n")
    environ = {"MM_LEAN_SLOW_S": "204", "MM_LEAN_ENABLED": "no", "HOME": "/"}
    config = load("lean_enabled=yes", files=[first, second], environ=environ, env_file=env_file)
    assert config.section("lean") == LeanSettings(
        lean_slow_s=204.0, lean_fast_s=13.0, lean_levels=2, lean_bias_bps=1.0, lean_enabled=True
    )
    assert config.origins["lean_slow_s"] == "MM_LEAN_SLOW_S"
    assert config.origins["lean_fast_s"] == f"MM_LEAN_FAST_S in {env_file}"
    assert config.origins["lean_levels"] == f"{second} [lean]"
    assert config.origins["lean_bias_bps"] == f"{first} [lean]"
    assert config.origins["lean_enabled"] == "--set"


def test_a_market_has_its_own_values_within_a_source_but_a_stronger_source_wins(toml):
    path = toml('[lean]\nlean_levels = 3\n[markets."ETH-USD".lean]\nlean_levels = 4\nlean_mode = "fade"')
    config = load("ETH-USD:lean_fast_s=7", "lean_fast_s=8", files=[path], environ={"MM_LEAN_MODE": "follow"})
    eth = config.of(LeanSettings, "ETH-USD")
    assert (eth.lean_levels, eth.lean_mode, eth.lean_fast_s) == (4, Mode.FOLLOW, 7.0)
    btc = config.params("BTC-USD")["lean"]
    assert (btc.lean_levels, btc.lean_mode, btc.lean_fast_s) == (3, Mode.FOLLOW, 8.0)
    assert config.own_markets == ("ETH-USD",)
    assert config.own_settings("ETH-USD") == ["lean_fast_s", "lean_levels"]
    assert config.market_origins("ETH-USD")["lean_levels"] == f'{path} [markets."ETH-USD".lean]'
    assert config.value("lean_levels", "ETH-USD") == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lean_fast_s=abc", "lean_fast_s: expected a number above 0, was 'abc' (from --set)"),
        ("lean_fast_s=nan", "lean_fast_s: expected a number above 0, was 'nan' (from --set)"),
        ("lean_fast_s=inf", "lean_fast_s: expected a number above 0, was 'inf' (from --set)"),
        ("lean_fast_s=-1", "lean_fast_s: expected a number above 0, was '-1' (from --set)"),
        ("lean_fast_s=", "lean_fast_s: expected a number above 0, was '' (from --set)"),
        ("lean_levels=1.5", "lean_levels: expected a whole number of at least 0, was '1.5' (from --set)"),
        ("lean_enabled=maybe", "lean_enabled: expected true or false, was 'maybe' (from --set)"),
        ("lean_mode=FADE", "lean_mode: expected one of follow, fade, was 'FADE' (from --set)"),
        ("lean_mode=1", "lean_mode: expected one of follow, fade, was '1' (from --set)"),
        ("limit_usd=1e999999", "limit_usd: expected a number of at least 0, was '1e999999' (from --set)"),
        ("markets=", "markets: expected different names, such as BTC-USD,ETH-USD, was '' (from --set)"),
        (
            "markets=A,B,A",
            "markets: expected different names, such as BTC-USD,ETH-USD, was 'A,B,A' (from --set)",
        ),
        ("lean_name=P1SA", "lean_name: expected lower-case letters, was 'P1SA' (from --set)"),
        ("lean_name=", "lean_name: expected lower-case letters, was '' (from --set)"),
        ("limit_ladder=1,x", "limit_ladder: expected numbers, such as 1,2.5, was '1,x' (from --set)"),
        ("limit_ladder=1,-2", "limit_ladder: expected numbers, such as 1,2.5, was '1,-2' (from --set)"),
        ("lean_levelz=1", "lean_levelz: no such setting (from --set); did you mean lean_levels?"),
        ("=1", "a setting without a name: no such setting (from --set)"),
        ("lean_levels", "--set: expected name=value, found no '='"),
        (
            "ETH-USD:markets=A",
            "markets: expected one value for all markets, was one for ETH-USD (from --set ETH-USD:)",
        ),
        (
            "lean_fast_s=400",
            "lean_fast_s: expected below lean_slow_s, was 400.0 (lean_fast_s from --set, lean_slow_s",
        ),
        ("profile=modern", "profile: expected one of crypto"),
    ],
)
def test_a_bad_override_says_what_was_expected_and_what_was_found(override, message):
    assert message in problems(override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[lean]\nlean_fast_s = true",
            "lean_fast_s: expected a number above 0, was True (from {} [lean])",
        ),
        ("[lean]\nlean_enabled = 1", "lean_enabled: expected true or false, was 1 (from {} [lean])"),
        ("[lean]\nlean_mode = 1", "lean_mode: expected one of follow, fade, was 1 (from {} [lean])"),
        ("[lean]\nlimit_usd = 1", "limit_usd: expected it under [limits], was in {} [lean]"),
        ("[leam]\nx = 1", "{}: [leam]: no such section; did you mean lean?"),
        ("lean_levels = 1", "{}: lean_levels: expected it under [lean], was at the top"),
        ("lean = 1", "{}: [lean]"),
        (
            'markets = ["BTC-USD"]',
            "{}: expected tables [markets.\"NAME\".section], was markets = ['BTC-USD']",
        ),
        (
            '[markets."A".session]\nnetwork = "emulator"',
            "network: expected one value for all markets, was one for A",
        ),
        ("[markets]\nETH-USD = 1", '{}: expected a table [markets."ETH-USD".section], was 1'),
        (
            "[lean]\nlean_levelz = 1",
            "lean_levelz: no such setting (from {} [lean]); did you mean lean_levels?",
        ),
        ("[lean", "{}: expected TOML, but "),
        (
            '[credentials]\napi_key = "k"',
            "api_key: expected a secret to come from MM_API_KEY in the environment",
        ),
    ],
)
def test_a_bad_file_says_where(toml, text, message):
    path = toml(text)
    assert message.format(path) in problems(files=[path])


def test_missing_and_unreadable_files_are_problems(tmp_path):
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    found = problems(files=[tmp_path / "none.toml", binary], env_file=tmp_path / ".env")
    assert f"{tmp_path / 'none.toml'}: expected a TOML file of settings, but No such file" in found
    assert f"{binary}: expected a TOML file of settings, but it is not UTF-8 text" in found
    assert f"{tmp_path / '.env'}: expected a file of MM_NAME=value lines, found none" in found


def test_unknown_variables_are_problems_in_the_environment_and_in_the_file(tmp_path):
    env_file = tmp_path / ".env"
    env_file.write_text("MM_LEAN_LEVEL=1\n")
    found = problems(environ={"MM_LEAN_MOD": "fade"}, env_file=env_file)
    assert "MM_LEAN_MOD: no setting has this environment variable; did you mean MM_LEAN_MODE?" in found
    assert f"MM_LEAN_LEVEL: no setting has this environment variable in {env_file}; did you mean" in found


def test_all_problems_are_listed_and_each_once():
    with pytest.raises(ConfigError) as raised:
        load("lean_levels=x", "ETH-USD:lean_mode=x", "nonsense=1")
    assert len(raised.value.problems) == 3


def test_a_profile_named_on_the_command_line_wins(toml):
    path = toml('profile = "modern"')
    assert "profile: expected one of crypto, legacy, was 'modern' (from" in problems(files=[path])
    assert load(files=[path], profile="crypto").origins["profile"] == "--profile"


def test_types_arrive_exact():
    config = load("limit_usd=2.1", "limit_ladder=1,2.5", "lean_bias_bps=-3", "markets= A-USD , B-USD")
    assert config.of(LimitSettings) == LimitSettings(Decimal("2.1"), (1.0, 2.5))
    assert config.of(LeanSettings).lean_bias_bps == -3.0
    assert config.of(SessionSettings).markets == ("A-USD", "B-USD")


def test_a_secret_never_prints_and_comes_from_the_environment_only():
    config = load(environ={"MM_API_KEY": "swordfish"})
    assert config.of(CredentialSettings).api_key == Secret("swordfish")
    assert config.of(CredentialSettings).api_key.reveal() == "swordfish"
    assert bool(config.of(CredentialSettings).api_key)
    shown = f"{config.as_dict()} {config.of(CredentialSettings)!r} {config.section('credentials')}"
    assert "swordfish" not in shown
    assert "********" in shown
    assert "swordfish" not in problems("api_key=swordfish")
    assert "swordfish" not in problems("api_key:swordfish")


ORDER = "0800000000000010ffffffffffffffffb781126dcae7b2321e66a241adc64d2f"
KEY_PROBLEM = "expected 0x and up to 64 hex digits, a number above 0 and below the order of the Stark curve"


@pytest.mark.parametrize("given", ["0x1234abcd", " 0x1234abcd\n", '"0x1234abcd"', "'0x1234abcd' "])
def test_what_a_shell_leaves_around_a_key_is_taken_off(given):
    config = load_config(environ={"MM_STARK_PRIVATE_KEY": given, "MM_API_KEY": given})
    credentials = config.of(CredentialSettings)
    assert {credentials.api_key.reveal(), credentials.stark_private_key.reveal()} == {"0x1234abcd"}


@pytest.mark.parametrize("given", ["", " ", '""'])
def test_an_empty_key_is_none(given):
    assert not load_config(environ={"MM_STARK_PRIVATE_KEY": given}).of(CredentialSettings).stark_private_key


@pytest.mark.parametrize(
    "given",
    [
        "1234abcd",
        "0xxyz",
        "0x0",
        f"0x{ORDER}",
        "0x" + "f" * 64,
        "0x" + "1" * 65,
        "0x12 34",
        "0x12\n34",
        "0x1234'",
        "0x\uff11\uff12",
    ],
)
def test_a_signing_key_that_is_none_is_refused_without_being_shown(given):
    with pytest.raises(ConfigError, match=KEY_PROBLEM) as raised:
        load_config(environ={"MM_STARK_PRIVATE_KEY": given})
    assert given not in str(raised.value)
    assert "was something else (from MM_STARK_PRIVATE_KEY)" in str(raised.value)


def test_the_largest_signing_key_is_one():
    load_config(environ={"MM_STARK_PRIVATE_KEY": f"0x{int(ORDER, 16) - 1:x}"})


@pytest.mark.parametrize("given", ["two words", "line\nbreak", "quo'te", "é", "x" * 257])
def test_an_api_key_that_fits_no_header_is_refused_without_being_shown(given):
    with pytest.raises(ConfigError, match="no spaces or quotes, was something else") as raised:
        load_config(environ={"MM_API_KEY": given})
    assert given not in str(raised.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_a_file_with_a_key_that_others_can_read_is_refused_with_the_command_that_mends_it(tmp_path, mode):
    env_file = tmp_path / "my keys"
    env_file.write_text("MM_API_KEY=swordfish\nMM_NUM_LEVELS=1\n")
    env_file.chmod(mode)
    with pytest.raises(ConfigError) as raised:
        load_config(env_file=env_file)
    [problem] = raised.value.problems
    assert problem == (
        f"{env_file}: expected mode 0600 of a file with MM_API_KEY in it, was {mode:04o}:"
        f" others can read it; run chmod 600 '{env_file}'"
    )


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("MM_API_KEY=swordfish", 0o600),
        ("MM_API_KEY=swordfish", 0o400),
        ("MM_NUM_LEVELS=1", 0o644),
        ("MM_API_KEY=", 0o644),
    ],
)
def test_a_file_of_ones_own_and_one_without_a_key_are_read(tmp_path, text, mode):
    env_file = tmp_path / ".env"
    env_file.write_text(text)
    env_file.chmod(mode)
    assert load_config(env_file=env_file)


def test_a_key_under_a_wrong_heading_is_not_shown(toml):
    for text in (
        '[markets]\napi_key = "swordfish"',
        '[markets."A"]\napi_key = "swordfish"',
        'api_key = "swordfish"',
        '[lean]\napi_key = "swordfish"',
        'credentials = "swordfish"',
        '[credentials]\napi_key = "swordfish',
    ):
        assert "swordfish" not in problems(files=[toml(text)])


def test_as_dict_shows_value_unit_and_origin():
    config = load("ETH-USD:lean_mode=fade", "lean_fast_s=5")
    shown = config.as_dict()
    assert shown["settings"]["lean"]["lean_fast_s"] == {"value": 5.0, "unit": "s", "origin": "--set"}
    assert shown["settings"]["limits"]["limit_usd"] == {
        "value": "1000.50",
        "unit": "USD",
        "origin": "default",
    }
    assert shown["markets"]["ETH-USD"] == {
        "lean_mode": {"value": "fade", "unit": "", "origin": "--set ETH-USD:"}
    }
    assert config.as_dict(["lean"], "ETH-USD")["settings"]["lean"]["lean_mode"]["value"] == "fade"


def test_meanings_come_from_the_comments_and_a_switch_takes_its_sections_or_enums():
    meanings = {name: setting.meaning for name, setting in SMALL.settings.items()}
    assert meanings["lean_fast_s"] == "the fast one"
    assert meanings["lean_slow_s"] == "the slow one"
    assert meanings["lean_enabled"] == "Whether to lean."
    assert meanings["lean_mode"] == "How it leans."


def test_a_name_in_two_sections_is_refused():
    with pytest.raises(ValueError, match="in one section only, was in two: limit_ladder, limit_usd"):
        Schema({"one": LimitSettings, "two": LimitSettings})


@given(st.text(max_size=40), st.sampled_from(sorted(SMALL.settings)))
def test_no_text_breaks_the_loader(text, name):
    for override in (text, f"{name}={text}", f"{text}:{name}=1"):
        with suppress(ConfigError):
            assert load(override).params("BTC-USD")


@given(st.floats(1e-9, 299.0))
def test_a_number_survives_being_written(number):
    assert load(f"lean_fast_s={number!r}").value("lean_fast_s") == number


# The real sections.


def test_defaults_and_profiles_load():
    for profile in profile_names():
        config = load_config(profile=profile)
        assert all(type(config.section(name)) is cls for name, cls in SCHEMA.sections.items())
    assert "crypto" in profile_names()


@pytest.mark.parametrize(
    ("name", "unit"), [("max_orders_per_s", "1/s"), ("stop_reduce_s", "s"), ("journal_batch_ms", "ms")]
)
def test_a_rate_is_not_a_time(name, unit):
    assert SCHEMA.settings[name].unit == unit


def test_the_environment_reaches_every_setting_by_its_name():
    config = load_config(environ={"MM_DEAD_MAN_INTERVAL_S": "10"})
    assert config.of(DeadMansSwitchSettings).dead_man_interval_s == 10.0
    assert len({setting.env_name for setting in SCHEMA.settings.values()}) == len(SCHEMA.settings)


def test_every_setting_has_a_meaning_and_a_lower_case_name():
    assert [
        name for name, setting in SCHEMA.settings.items() if not setting.meaning or name != name.lower()
    ] == []


def test_a_sections_own_check_is_reported_with_the_origin():
    with pytest.raises(ConfigError, match=r"metrics_port: expected 1 to 65535, was 0 \(from --set\)"):
        load_config(["metrics_port=0"])
    with pytest.raises(
        ConfigError, match="vol_regime_calm_bps from default, vol_regime_elevated_bps from --set"
    ):
        load_config(["vol_regime_elevated_bps=3"])


def test_the_rules_name_settings_that_exist():
    named = {*RULES, *ACCOUNT_WIDE, *(name for order in ORDERED for name in order[:2])}
    named.update(name for relation in RELATED for name in relation.names)
    assert named <= set(SCHEMA.settings)


@pytest.mark.parametrize(
    ("overrides", "fits"),
    [
        (["max_order_age_s=149"], True),
        (["max_order_age_s=150"], False),
        (["max_order_age_s=150", "vol_regime_enabled=no"], True),
        (["max_order_age_s=300", "vol_regime_enabled=no"], False),
        (["vol_order_age_scale_elevated=3"], False),
        (["level_size_usd=1250", "level_size_growth=2"], True),
        (["level_size_usd=1250", "level_size_growth=2", "num_levels=3"], False),
        (["level_size_usd=2500", "level_size_growth=0.5"], True),
        (["level_size_usd=2501", "level_size_growth=0.5"], False),
        (["level_size_growth=1e300", "num_levels=20"], False),
        (["level_size_growth=1e300", "num_levels=20", "max_order_notional_usd=0"], True),
    ],
)
def test_settings_of_several_sections_fit_together(overrides, fits):
    if fits:
        load_config(overrides)
        return
    with pytest.raises(ConfigError, match=r"expected the (age|largest level).* \(from --set\)"):
        load_config(overrides)


_MODEL = ["model_a_per_s=1", "model_k_per_bps=1", "model_sigma_bps=3"]


@pytest.mark.parametrize("mode", ["avellaneda_stoikov", "glft"])
def test_quotes_by_a_model_want_its_calibration_and_a_limit(mode):
    params = load_config([f"offset_mode={mode}", *_MODEL]).strategy_params("ETH-USD")
    assert params.model_row.limit_orders == 10.0
    own = [f"ETH-USD:{setting}" for setting in (f"offset_mode={mode}", *_MODEL)]
    assert load_config(own).strategy_params("ETH-USD").model_row == params.model_row
    for lacking in ([], _MODEL[:2], [*_MODEL, "max_position_notional_usd=0"]):
        with pytest.raises(ConfigError, match="model_a_per_s: expected these above 0 where offset_mode is"):
            load_config([f"offset_mode={mode}", *lacking])


def test_a_limit_of_zero_is_no_limit():
    assert load("limit_usd=0").value("limit_usd") == 0


def test_the_strategys_params_carry_the_markets_own_values():
    config = load_config(["ETH-USD:num_levels=1", "trend_enabled=no"])
    params = config.strategy_params("ETH-USD")
    assert (params.quote.num_levels, params.trend.trend_enabled) == (1, False)
    assert config.strategy_params("BTC-USD").quote.num_levels == QuoteSettings().num_levels


def test_sections_stay_small_enough_to_be_read():
    assert {name: cls for name, cls in SCHEMA.sections.items() if len(dataclasses.fields(cls)) > 12} == {}


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").glob("*.toml")), ids=lambda path: path.stem)
def test_each_file_of_configs_loads(path):
    config = load_config(config_files=[path])
    assert all(
        "default" in origin or path.name in origin or "profile" in origin
        for origin in config.origins.values()
    )


def test_the_example_env_file_names_settings_that_exist(tmp_path):
    env_file = tmp_path / ".env"
    env_file.write_text((REPOSITORY / ".env.example").read_text().replace("# MM_", "MM_"))
    env_file.chmod(0o600)
    assert load_config(env_file=env_file).of(CredentialSettings).api_key
