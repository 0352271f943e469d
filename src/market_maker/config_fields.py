"""What one setting is: its type, unit and meaning, and how a text or a TOML value becomes it.

Everything is read off the section's dataclass: the type from the annotation, the unit from the end of the
name, the meaning from the comment behind the field. Pydantic does the conversion; the messages are ours.
What fits together within a section, the section checks itself when it is made.
"""

import ast
import dataclasses
import difflib
import functools
import inspect
import textwrap
import tokenize
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from io import StringIO
from typing import Any, Final, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from market_maker.config_rules import Range, Rule
from market_maker.config_sections import Secret

_UNITS: Final = {
    # The first end that fits counts: a rate ends like a time.
    "_per_s": "1/s",
    "_ns": "ns",
    "_ms": "ms",
    "_s": "s",
    "_bps": "bps",
    "_usd": "USD",
    "_percent": "%",
    "_ticks": "ticks",
    "_lots": "lots",
    "_mb": "MB",
    "_share": "share",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One setting of one section."""

    section: str
    name: str
    owner: type  # the section's dataclass, whose comments say what its fields mean
    type: Any
    default: Any
    rule: Rule

    @property
    def meaning(self) -> str:
        """What it is, from the comment beside it; of a switch without one, what its type or section is."""
        # Read when asked for: parsing all sections takes longer than the rest of the settings.
        comment = _comments(self.owner).get(self.name, "")
        if comment:
            return comment.removeprefix(f"{self.unit}, ")
        documented = self.type if self.is_enum else self.owner
        return (inspect.getdoc(documented) or "").partition("\n")[0]

    @property
    def unit(self) -> str:
        """Unit, from the end of the name; empty where there is none."""
        return next((unit for end, unit in _UNITS.items() if self.name.endswith(end)), "")

    @property
    def env_name(self) -> str:
        """Environment variable that sets it."""
        return f"MM_{self.name.upper()}"

    @property
    def is_secret(self) -> bool:
        """Whether its value must never print."""
        return self.type is Secret

    @property
    def expected(self) -> str:
        """What a value has to be, as messages say it."""
        if self.is_enum:
            return "one of " + ", ".join(member.name.lower() for member in self.type)
        if self.type in (int, float, Decimal):
            return f"{'a whole number' if self.type is int else 'a number'} {self.rule}"
        text = "a text" if isinstance(self.rule, Range) else str(self.rule)
        return {bool: "true or false", str: text, Secret: text}.get(self.type, self._expected_list)

    @property
    def is_enum(self) -> bool:
        """Whether it is one of a few names."""
        return isinstance(self.type, type) and issubclass(self.type, Enum)

    @property
    def _expected_list(self) -> str:
        return (
            "numbers, such as 1,2.5"
            if "float" in str(self.type)
            else "different names, such as BTC-USD,ETH-USD"
        )

    def parse(self, raw: object) -> Any:  # noqa: ANN401  (the type is the field's)
        """Convert a text or a TOML value.

        Raises
        ------
        ValueError
            If the value is not of the type, or outside of the range.
        """
        try:
            value = _adapter(self.type).validate_python(self._prepared(raw))
        except ValidationError as error:
            raise ValueError(self.expected) from error
        parts = value if isinstance(value, tuple) else (value,)
        repeated = len(set(parts)) < len(parts) and all(isinstance(part, str) for part in parts)
        if not parts or repeated or not all(self._admits(part) for part in parts):
            raise ValueError(self.expected)
        return value

    def _admits(self, part: object) -> bool:
        if isinstance(part, Secret):
            return not part or self._admits(part.reveal())
        if isinstance(part, str):
            return bool(part) and (isinstance(self.rule, Range) or self.rule.holds(part))
        if isinstance(part, int | float | Decimal) and isinstance(self.rule, Range):
            return self.rule.holds(part)
        return True

    def _prepared(self, raw: object) -> object:
        if self.type is Secret:
            return Secret(_unquoted(str(raw)))
        if isinstance(raw, str):
            return self._from_text(raw.strip())
        # Pydantic would take true for 1, and a number for the member of an enum that has this value.
        if isinstance(raw, bool) is not (self.type is bool) or self.is_enum:
            raise ValueError(self.expected)
        return raw

    def _from_text(self, text: str) -> object:
        if self.is_enum:
            members = {name.lower(): member for name, member in self.type.__members__.items()}
            if text not in members:
                raise ValueError(self.expected)
            return members[text]
        if self.type is not str and str(self.type).startswith("tuple"):
            return tuple(part.strip() for part in text.split(",") if part.strip())
        return text

    def shown(self, value: object) -> str | int | float | bool | list[Any]:
        """Give a value as JSON and TOML have it: an enum by its lower-case name, a secret masked."""
        if isinstance(value, Enum):
            return value.name.lower()
        if isinstance(value, tuple):
            return list(value)
        return value if isinstance(value, str | int | float) else str(value)


def _unquoted(text: str) -> str:
    """Take off what a file or a shell leaves around a key: white space, a pair of quotes."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1].strip()
    return text


@functools.cache
def _adapter(of: Any) -> TypeAdapter[Any]:  # noqa: ANN401  (the type is the field's)
    return TypeAdapter(of, config=ConfigDict(arbitrary_types_allowed=True))


def settings_of(section: str, cls: type, rules: Mapping[str, Rule]) -> list[Setting]:
    """List the settings of a section's dataclass, in its order."""
    hints = get_type_hints(cls)
    return [
        Setting(
            section=section,
            name=field.name,
            type=hints[field.name],
            default=getattr(cls(), field.name),
            rule=rules.get(field.name, Range()),
            owner=cls,
        )
        for field in dataclasses.fields(cls)
    ]


@functools.cache
def _comments(cls: type) -> dict[str, str]:
    source = textwrap.dedent(inspect.getsource(cls))
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    by_line = {t.start[0]: t.string.lstrip("# ").rstrip() for t in tokens if t.type == tokenize.COMMENT}
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            found[node.target.id] = " ".join(by_line[line] for line in lines if line in by_line)
    return found


def closest(name: str, known: Sequence[str]) -> str:
    """Hint at the most similar known name, empty if none is."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
