"""What `mm demo` and `mm run` share: the speed option, and a session's end printed."""

import sys
from typing import TYPE_CHECKING, Final

import typer

from market_maker.cli.app import ExitCode

if TYPE_CHECKING:
    from market_maker.cli.host import Played

LONGEST_S: Final = 366 * 86_400.0
RICHEST_USD: Final = 1e12
_FASTEST: Final = 100_000.0


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
