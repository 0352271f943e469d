"""What `mm demo` and `mm run` share: what is played, and a session's end printed. Light to import."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from market_maker.cli.app import ExitCode

if TYPE_CHECKING:
    from market_maker.cli.host import Played

HOUR_S: Final = 3600.0
LONGEST_S: Final = 366 * 86_400.0
RICHEST_USD: Final = 1e12
_FASTEST: Final = 100_000.0


@dataclass(frozen=True, slots=True)
class Play:
    """What is played on an emulated exchange.

    Parameters
    ----------
    seconds : float or None
        How long to quote; None: until stopped.
    speed : float
        Seconds of the market in a second; 0 as fast as the machine goes.
    recording : Path or None
        Recorded market to follow instead of the generated scenario, from `offset_s` on.
    funding_every_s : float
        Time between two funding payments; 3600 on the exchange.
    faults : sequence of str
        Faults of the exchange as `parse_fault` reads them.
    """

    seconds: float | None
    scenario: str
    seed: int
    speed: float = 0.0
    recording: Path | None = None
    offset_s: float = 0.0
    deposit: Decimal = Decimal(10_000)
    funding_every_s: float = HOUR_S
    faults: Sequence[str] = ()


def speed_of(text: str) -> float:
    """Market seconds in a second; 0 for max.

    Raises
    ------
    typer.BadParameter
        If it is neither max nor a positive number.
    """
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0.0 < speed <= _FASTEST:
        msg = f"--speed: expected max or a number above 0, was {text!r}"
        raise typer.BadParameter(msg)
    return speed


def markets_of(recording: Path | None, wanted: Sequence[str]) -> tuple[str, ...]:
    """Markets to quote where none is named: those of the recording, else those wanted."""
    if recording is None:
        return tuple(wanted)
    from market_maker.recordings.discovery import open_recording

    return tuple(open_recording(recording).markets)


def is_shown(*, as_json: bool) -> bool:
    """Whether to show a live table: there is somebody to see it."""
    return not as_json and sys.stderr.isatty()


def report(played: "Played", *, as_json: bool) -> ExitCode:
    """Print the summary of a session, what the exchange says of the account, and where the journal is.

    Raises
    ------
    Exception
        Whatever ended the session before its time, once the summary is printed.
    """
    from market_maker.cli.report import print_report

    code = print_report(played, as_json=as_json)
    if played.failure is not None:
        raise played.failure
    return code
