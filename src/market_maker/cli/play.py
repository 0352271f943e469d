"""What `mm demo` and `mm run` share: the speed option, and a session from settings to report."""

import sys
from typing import TYPE_CHECKING, Final

import typer

from market_maker.cli.app import ExitCode

if TYPE_CHECKING:
    from market_maker.cli.host import Play
    from market_maker.config import Config

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


def play_and_report(config: "Config", play: "Play", *, as_json: bool) -> ExitCode:
    """Run a session on the exchange inside, and print its summary and where the journal is.

    Raises
    ------
    Exception
        Whatever ended the session before its time, once the summary is printed.
    """
    from market_maker.cli.host import run_inside
    from market_maker.cli.report import print_report

    played = run_inside(config, play, show=not as_json and sys.stderr.isatty())
    code = print_report(played, as_json=as_json)
    if played.failure is not None:
        raise played.failure
    return code
