"""Outcomes of a trial in a folder, to be shown later: `result.json` and Arrow files beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from market_maker.backtest.outcome import Outcome


class SavedError(Exception):
    """A folder that holds no result: expected X, was Y."""


class Saved(NamedTuple):
    """A trial as it was saved; `header` is what its writer said of data, calibration and settings."""

    header: dict[str, Any]
    outcomes: list[Outcome]


def save(
    folder: Path, outcomes: Sequence[Outcome], header: Mapping[str, Any], *, replace: bool = False
) -> None:
    """Write outcomes into a folder, whole or not at all."""
    raise NotImplementedError


def load(folder: Path) -> Saved:
    """Read what `save` wrote."""
    raise NotImplementedError
