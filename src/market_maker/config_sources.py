"""Where settings come from: one layer per source, each a list of assignments that know their origin.

From weak to strong: the profile, TOML files in the order given, `.env`, the `MM_*` environment, `--set`.
A name that nobody knows is a problem, never ignored: a misspelt limit is no limit.
"""

import io
import os
import shlex
import stat
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final, NamedTuple

from dotenv.parser import parse_stream
from pydantic_settings import BaseSettings, DotEnvSettingsSource

from market_maker.config_fields import Setting, closest

DEFAULT_PROFILE: Final = "crypto"
_PREFIX: Final = "MM_"
# Whatever the group or anybody else may do with a file.
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class Given(NamedTuple):
    """One assignment: a raw value for a setting, of all markets or of one, and where it was found."""

    market: str | None
    name: str
    raw: object
    origin: str


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads sources into assignments; what is wrong with them is added to `problems`.

    `shared` names the sections and settings that are one for all markets.
    """

    settings: Mapping[str, Setting]
    shared: frozenset[str]
    problems: list[str] = field(default_factory=list)

    def command_line(self, overrides: Sequence[str]) -> Iterator[Given]:
        """Read `name=value` and `MARKET:name=value`."""
        for text in overrides:
            left, equals, raw = text.partition("=")
            market, _, name = left.strip().rpartition(":")
            origin = f"--set {market}:" if market else "--set"
            if not equals:
                # The text is not repeated: what was meant as a value may be a secret.
                self.problems.append("--set: expected name=value, found no '='")
            elif self._is_known(name, origin) and self._may_set(name, market, origin):
                yield Given(market or None, name, raw, origin)

    def environment(self, environ: Mapping[str, str | None], source: str = "") -> Iterator[Given]:
        """Read the variables `MM_<NAME>`, of the environment or of a file `source`."""
        names = {setting.env_name: setting.name for setting in self.settings.values()}
        for variable, raw in sorted(environ.items()):
            if not variable.startswith(_PREFIX):
                continue
            if variable not in names:
                where = f" in {source}" if source else ""
                hint = closest(variable, list(names))
                self.problems.append(f"{variable}: no setting has this environment variable{where}{hint}")
            elif raw is not None:
                yield Given(None, names[variable], raw, f"{variable} in {source}" if source else variable)

    def env_file(self, path: Path) -> Iterator[Given]:
        """Read the `MM_*` variables of a `.env` file; its other lines are not ours."""
        if not path.is_file():
            self.problems.append(f"{path}: expected a file of MM_NAME=value lines, found none")
            return
        text = self._text(path, "a file of MM_NAME=value lines")
        if text is None:
            return
        for line in parse_stream(io.StringIO(text)):
            if line.error or (line.value is None and (line.key or "").startswith(_PREFIX)):
                # The line is not repeated: it may hold a secret.
                place = f"{path}, line {line.original.line}"
                self.problems.append(f"{place}: expected NAME=value, found no '=' or no closing quote")
                return
        source = DotEnvSettingsSource(
            BaseSettings, env_file=path, env_file_encoding="utf-8", case_sensitive=True
        )
        self._check_mode(path, source.env_vars)
        yield from self.environment(source.env_vars, str(path))

    def _check_mode(self, path: Path, variables: Mapping[str, str | None]) -> None:
        """A file with a secret in it must be its owner's alone."""
        secret = [s.env_name for s in self.settings.values() if s.is_secret and variables.get(s.env_name)]
        # Of a link too: whoever owns it says which file is read. The mode that counts is the file's.
        whose = foreign_owner((path.stat().st_uid, path.lstat().st_uid))
        if secret and whose:
            self.problems.append(
                f"{path}: expected a file of yours with {' and '.join(secret)} in it, was {whose};"
                " put the keys into a file that you made"
            )
        mode = stat.S_IMODE(path.stat().st_mode)
        if secret and mode & _OTHERS:
            self.problems.append(
                f"{path}: expected mode 0600 of a file with {' and '.join(secret)} in it, was {mode:04o}:"
                f" others can read it; run chmod 600 {shlex.quote(str(path))}"
            )

    def toml_file(self, path: Path) -> Iterator[Given]:
        """Read a TOML file."""
        text = self._text(path, "a TOML file of settings")
        if text is not None:
            yield from self._toml(text, str(path))

    def _text(self, path: Path, expected: str) -> str | None:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is not UTF-8 text"
            self.problems.append(f"{path}: expected {expected}, but {reason}")
            return None

    def profile(self, name: str, origin: str) -> Iterator[Given]:
        """Read a profile of the package; the default profile is the settings' own defaults."""
        if name == DEFAULT_PROFILE:
            return
        if name not in profile_names():
            known = ", ".join(profile_names())
            self.problems.append(f"profile: expected one of {known}, was {name!r} (from {origin})")
            return
        text = (resources.files("market_maker") / "profiles" / f"{name}.toml").read_text(encoding="utf-8")
        yield from self._toml(text, f"profile {name}")

    def _toml(self, text: str, source: str) -> Iterator[Given]:
        try:
            tables = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            self.problems.append(f"{source}: expected TOML, but {error}")
            return
        markets = tables.pop("markets", {})
        if "profile" in tables:
            yield Given(None, "profile", tables.pop("profile"), source)
        yield from self._sections(tables, None, source)
        if not isinstance(markets, dict):
            self.problems.append(
                f'{source}: expected tables [markets."NAME".section], was markets = {markets!r}'
            )
            return
        for market, sections in markets.items():
            if isinstance(sections, dict):
                yield from self._sections(sections, market, source)
            else:
                # Not a market's name but a key's, under the wrong heading: its value is not repeated.
                is_secret = market in self.settings and self.settings[market].is_secret
                was = "something else" if is_secret else repr(sections)
                self.problems.append(f'{source}: expected a table [markets."{market}".section], was {was}')

    def _sections(self, tables: Mapping[str, Any], market: str | None, source: str) -> Iterator[Given]:
        known = {setting.section for setting in self.settings.values()}
        for section, table in tables.items():
            if section not in known or not isinstance(table, dict):
                self.problems.append(f"{source}: {self._unknown_section(section, known)}")
                continue
            place = f'[markets."{market}".{section}]' if market else f"[{section}]"
            for name, raw in table.items():
                origin = f"{source} {place}"
                if self._is_in(section, name, origin) and self._may_set(name, market, origin):
                    yield Given(market, name, raw, origin)

    def _unknown_section(self, section: str, known: set[str]) -> str:
        if section in self.settings:
            return f"{section}: expected it under [{self.settings[section].section}], was at the top"
        return f"[{section}]: no such section{closest(section, sorted(known))}"

    def _is_in(self, section: str, name: str, origin: str) -> bool:
        if not self._is_known(name, origin):
            return False
        home = self.settings[name].section
        if home != section:
            self.problems.append(f"{name}: expected it under [{home}], was in {origin}")
        return home == section

    def _is_known(self, name: str, origin: str) -> bool:
        if name not in self.settings:
            hint = closest(name, list(self.settings))
            self.problems.append(
                f"{name or 'a setting without a name'}: no such setting (from {origin}){hint}"
            )
        return name in self.settings

    def _may_set(self, name: str, market: str | None, origin: str) -> bool:
        setting = self.settings[name]
        if market and not self.shared.isdisjoint((name, setting.section)):
            self.problems.append(
                f"{name}: expected one value for all markets, was one for {market} (from {origin})"
            )
        elif setting.is_secret:
            place = f"{setting.env_name} in the environment or in .env"
            self.problems.append(f"{name}: expected a secret to come from {place}, was in {origin}")
        else:
            return True
        return False


def foreign_owner(owners: Sequence[int]) -> str:
    """Whose a file is, by the owners of the file and of the link to it; empty where it is ours."""
    # A system without users of its own says nothing of owners.
    ours = os.geteuid() if sys.platform != "win32" else 0
    return next((f"a file of user {owner}" for owner in owners if owner != ours), "")


def profile_names() -> list[str]:
    """Profiles that can be named."""
    folder = resources.files("market_maker") / "profiles"
    files = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(
        {DEFAULT_PROFILE, *(name.removesuffix(".toml") for name in files if name.endswith(".toml"))}
    )
