"""The settings of a run, assembled: which sections there are, which source wins, what fits together.

Every module defines its own section, a frozen dataclass with defaults; here they are filled from the command
line over the `MM_*` environment over `.env` over TOML files over the profile over the defaults. Each value
keeps its origin. Within one source a market's own value is stronger than the one for all markets; between
sources the stronger source wins, so that `--set` is never beaten by a file.
"""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar, get_type_hints

from market_maker.config_fields import Setting, settings_of
from market_maker.config_rules import (
    ACCOUNT_WIDE,
    ORDERED,
    RELATED,
    RULES,
    Order,
    Relation,
    Rule,
    disorder,
    unrelated,
)
from market_maker.config_sections import SHELL_SECTIONS
from market_maker.config_sources import DEFAULT_PROFILE, Given, Reader
from market_maker.correlation import CorrelationSettings
from market_maker.exposure import NetBetaSettings
from market_maker.hedging import HedgeSettings
from market_maker.journal_files import JournalSettings
from market_maker.kill_ladder import KillLadderSettings
from market_maker.model_quotes import ModelRow
from market_maker.model_table import model_row
from market_maker.order_records import OrderSettings
from market_maker.orderbook_manager import BookSettings
from market_maker.pricing_engine import MarketParams
from market_maker.risk_manager import RiskSettings
from market_maker.strategy_rows import Params

T = TypeVar("T")
DEFAULT_ORIGIN: Final = "default"


class ConfigError(Exception):
    """The settings are not fit to run with; `problems` holds one line for each thing that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclasses.dataclass(frozen=True)
class Schema:
    """The sections that exist, which of them (or of their settings) are one for all markets, and the rules.

    Raises
    ------
    ValueError
        If two sections have a setting of the same name.
    """

    sections: Mapping[str, type]
    shared: frozenset[str] = frozenset()
    rules: Mapping[str, Rule] = dataclasses.field(default_factory=dict)
    ordered: Sequence[Order] = ()
    related: Sequence[Relation] = ()
    settings: Mapping[str, Setting] = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        every = [s for name, cls in self.sections.items() for s in settings_of(name, cls, self.rules)]
        by_name = {setting.name: setting for setting in every}
        if len(by_name) < len(every):
            twice = sorted({s.name for s in every if by_name[s.name] is not s})
            msg = f"expected each setting in one section only, was in two: {', '.join(twice)}"
            raise ValueError(msg)
        object.__setattr__(self, "settings", MappingProxyType(by_name))


# What is written from the instrument or worked out from settings is no setting.
DECISION_SECTIONS: Final[Mapping[str, type]] = {
    name: cls for name, cls in get_type_hints(Params).items() if cls not in (MarketParams, ModelRow)
}

PROCESS_SECTIONS: Final[Mapping[str, type]] = {
    **SHELL_SECTIONS,
    "orders": OrderSettings,
    "journal": JournalSettings,
}

# What concerns all markets together: a value for one of them would be ignored.
PORTFOLIO_SECTIONS: Final[Mapping[str, type]] = {
    "net_beta": NetBetaSettings,
    "portfolio": CorrelationSettings,
    "hedge": HedgeSettings,
    "kill_ladder": KillLadderSettings,
}

SCHEMA: Final = Schema(
    sections={
        **PROCESS_SECTIONS,
        **DECISION_SECTIONS,
        "book": BookSettings,
        "risk": RiskSettings,
        **PORTFOLIO_SECTIONS,
    },
    shared=ACCOUNT_WIDE.union(PROCESS_SECTIONS, PORTFOLIO_SECTIONS),
    rules=RULES,
    ordered=ORDERED,
    related=RELATED,
)


@dataclasses.dataclass(frozen=True)
class _Resolved:
    """The values that hold for one market, or for all."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]
    sections: Mapping[str, Any]


class Config:
    """All settings of a run, validated, with the origin of each."""

    def __init__(self, schema: Schema, common: _Resolved, markets: Mapping[str, _Resolved]) -> None:
        self.schema = schema
        self._common = common
        self._markets = markets
        # Sections are asked for by the second, by type.
        self._by_type = {
            market: {type(section): section for section in resolved.sections.values()}
            for market, resolved in {"": common, **markets}.items()
        }

    def section(self, name: str) -> Any:  # noqa: ANN401  (each section has a type of its own; `of` is typed)
        """Return a section as it is for all markets."""
        return self._common.sections[name]

    def of(self, cls: type[T], market: str = "") -> T:
        """Return the section of a type, for one market if named."""
        found = self._by_type[market if market in self._by_type else ""][cls]
        assert isinstance(found, cls)
        return found

    def params(self, market: str) -> Mapping[str, Any]:
        """Return all sections by name as they are for one market, its own values applied."""
        return self._for(market).sections

    def strategy_params(self, market: str) -> Params:
        """Return the strategy's settings in one market; the market's own facts are put in by its desk."""
        sections = self._for(market).sections
        limit_usd = sections["risk"].max_position_notional_usd or math.inf
        row = model_row(sections["model"], limit_usd / sections["quote"].level_size_usd)
        return Params(**{name: sections[name] for name in DECISION_SECTIONS}, model_row=row)

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each value for all markets comes from, by the name of the setting."""
        return self._common.origins

    def market_origins(self, market: str) -> Mapping[str, str]:
        """Where each value of one market comes from."""
        return self._for(market).origins

    def value(self, name: str, market: str = "") -> Any:  # noqa: ANN401  (the type is the setting's)
        """Return one setting."""
        return self._for(market).values[name]

    @property
    def own_markets(self) -> tuple[str, ...]:
        """Markets that have values of their own; the caller says so where one of them is not quoted."""
        return tuple(self._markets)

    def own_settings(self, market: str) -> list[str]:
        """Names of the settings whose value or origin is the market's own."""
        mine, common = self._for(market), self._common
        return [n for n in mine.origins if mine.origins[n] != common.origins[n]]

    def as_dict(self, sections: Iterable[str] = (), market: str = "") -> dict[str, Any]:
        """Return the settings as plain values, secrets masked: what the journal and `--json` show.

        Parameters
        ----------
        sections : iterable of str
            Only these; all if empty.
        market : str
            As they are for this market; else those for all, and beside them each market's own.
        """
        wanted = list(sections) or list(self.schema.sections)
        by_section = {
            section: self._shown(
                market, [s.name for s in self.schema.settings.values() if s.section == section]
            )
            for section in wanted
        }
        if market:
            return {"market": market, "settings": by_section}
        own = {name: self._shown(name, self.own_settings(name)) for name in self._markets}
        return {"settings": by_section, "markets": own}

    def _shown(self, market: str, names: Iterable[str]) -> dict[str, Any]:
        settings, resolved = self.schema.settings, self._for(market)
        return {
            name: {
                "value": settings[name].shown(resolved.values[name]),
                "unit": settings[name].unit,
                "origin": resolved.origins[name],
            }
            for name in names
        }

    def _for(self, market: str) -> _Resolved:
        return self._markets.get(market, self._common)


def load_config(
    overrides: Sequence[str] = (),
    config_files: Sequence[Path] = (),
    environ: Mapping[str, str] = MappingProxyType({}),
    env_file: Path | None = None,
    profile: str | None = None,
    schema: Schema = SCHEMA,
) -> Config:
    """Assemble and validate the settings.

    Parameters
    ----------
    overrides : sequence of str
        `name=value` or `MARKET:name=value`, as `--set` takes them; the last one wins.
    config_files : sequence of Path
        TOML files; a later one wins.
    environ : mapping
        The environment; only `MM_*` is read.
    env_file : Path or None
        A `.env` file.
    profile : str or None
        Profile named on the command line; it wins over one that is named anywhere else.

    Raises
    ------
    ConfigError
        With every problem found, not only the first.
    """
    reader = Reader(schema.settings, schema.shared)
    layers = [list(reader.toml_file(path)) for path in config_files]
    layers.append(list(reader.env_file(env_file)) if env_file else [])
    layers.append(list(reader.environment(environ)))
    layers.append(list(reader.command_line(overrides)))
    if profile is not None:
        layers.append([Given(None, "profile", profile, "--profile")])
    layers.insert(0, list(reader.profile(*_chosen_profile(layers))))
    problems = list(reader.problems)
    common = _resolve(schema, layers, None, problems)
    own = sorted({given.market for layer in layers for given in layer if given.market})
    markets = {market: _resolve(schema, layers, market, problems) for market in own}
    if problems:
        # A value for all markets is looked at once for each market too.
        raise ConfigError(list(dict.fromkeys(problems)))
    return Config(schema, common, markets)


def _chosen_profile(layers: Sequence[Sequence[Given]]) -> tuple[str, str]:
    named = [(str(given.raw), given.origin) for layer in layers for given in layer if given.name == "profile"]
    return named[-1] if named else (DEFAULT_PROFILE, DEFAULT_ORIGIN)


def _resolve(
    schema: Schema, layers: Sequence[Sequence[Given]], market: str | None, problems: list[str]
) -> _Resolved:
    values = {name: setting.default for name, setting in schema.settings.items()}
    origins = dict.fromkeys(values, DEFAULT_ORIGIN)
    for given in _strongest(layers, market).values():
        setting = schema.settings[given.name]
        try:
            values[given.name] = setting.parse(given.raw)
            origins[given.name] = given.origin
        except ValueError as expected:
            was = "something else" if setting.is_secret else repr(given.raw)
            problems.append(f"{given.name}: expected {expected}, was {was} (from {given.origin})")
    problems.extend(disorder(schema.ordered, values, origins))
    problems.extend(unrelated(schema.related, values, origins))
    sections: dict[str, Any] = {}
    for section, cls in schema.sections.items():
        try:
            sections[section] = cls(**{f.name: values[f.name] for f in dataclasses.fields(cls)})
        except ValueError as refused:
            problems.append(f"{refused} ({_blame(str(refused), cls, origins)})")
    return _Resolved(MappingProxyType(values), MappingProxyType(origins), MappingProxyType(sections))


def _strongest(layers: Sequence[Sequence[Given]], market: str | None) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for layer in layers:
        found.update({given.name: given for given in layer if given.market is None})
        found.update({given.name: given for given in layer if market and given.market == market})
    return found


def _blame(refusal: str, cls: type, origins: Mapping[str, str]) -> str:
    """Where the values that a section's own check refused came from; it names one setting or several."""
    words = set(re.findall(r"\w+", refusal))
    named = [f.name for f in dataclasses.fields(cls) if f.name in words]
    if len(named) == 1:
        return f"from {origins[named[0]]}"
    return ", ".join(f"{name} from {origins[name]}" for name in named) or f"in {cls.__name__}"
