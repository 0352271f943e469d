"""The command `mm`: what its verbs share. Options, where settings are looked for, and how an error ends.

A verb lives in a file of its own, declares itself with `@app.command()`, and imports what is heavy inside its
function, so that `mm --help` answers at once.
"""

import os
import sys
from collections.abc import Sequence
from enum import IntEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from market_maker.config import Config

DEBUG_FLAG: Final = "--debug"
DEFAULT_CONFIG: Final = Path("mm.toml")
DEFAULT_ENV_FILE: Final = Path(".env")


class ExitCode(IntEnum):
    """How `mm` ends."""

    OK = 0
    FAILED = 1
    USAGE = 2
    EXCHANGE = 3
    DATA = 4
    KILLED = 5
    INTERRUPTED = 130


ConfigOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--config", "-c", metavar="FILE", help="TOML file of settings; may be repeated. [./mm.toml]"
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        metavar="NAME=VALUE",
        help="Set one setting, for one market as MARKET:NAME=VALUE; may be repeated.",
    ),
]
EnvFileOption = Annotated[
    Path | None,
    typer.Option("--env-file", metavar="FILE", help="File of MM_NAME=value lines, keys among them. [./.env]"),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", "-p", metavar="NAME", help="Set of defaults: crypto or legacy.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON to standard output, and nothing else there.")
]


def examples(*lines: str) -> str:
    """Lay out example commands for the end of a help text, one to a line."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"  [cyan]{line}[/cyan]" for line in lines)])


app = typer.Typer(
    name="mm",
    help="Market maker for crypto perpetuals on the Extended exchange, with an exchange inside to try it on.",
    epilog=examples(
        "mm demo --seconds 40", "mm config show", "mm run --profile legacy --set ETH-USD:trend_enabled=no"
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        typer.echo(f"mm {metadata.version('extended-market-maker')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            callback=lambda wanted: _print_version(wanted=wanted),
            is_eager=True,
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option(DEBUG_FLAG, help="Show where an error arose. Stands before or after the verb.")
    ] = False,
) -> None:
    """Market maker for crypto perpetuals."""


def load_settings(
    config_files: Sequence[Path] | None,
    overrides: Sequence[str] | None,
    profile: str | None,
    env_file: Path | None = None,
) -> "Config":
    """Load the settings as every verb does: ./mm.toml and ./.env where nothing else is named.

    Raises
    ------
    ConfigError
        If the settings are not fit to run with.
    """
    from market_maker.config import load_config

    default_files = [DEFAULT_CONFIG] if DEFAULT_CONFIG.is_file() else []
    return load_config(
        overrides=overrides or (),
        config_files=config_files or default_files,
        environ=os.environ,
        env_file=env_file or (DEFAULT_ENV_FILE if DEFAULT_ENV_FILE.is_file() else None),
        profile=profile,
    )


def note(message: str) -> None:
    """Say something to the person at the terminal, beside the output."""
    Console(stderr=True).print(Text(message, style="yellow"))


def _known_errors() -> dict[type[Exception], ExitCode]:
    """Errors that a person can mend, and the exit code of each. Imported only once there is an error."""
    from market_maker.backtest.report import ReportError
    from market_maker.backtest.saved import SavedError
    from market_maker.cli.confirmation import NotConfirmed
    from market_maker.config import ConfigError
    from market_maker.decision_record import InputsUnreadable
    from market_maker.emulator.faults import FaultError
    from market_maker.emulator.scenarios import UnknownMarket, UnknownScenario
    from market_maker.exchanges.endpoints import EndpointError
    from market_maker.gateway import VenueError
    from market_maker.instrument import InstrumentError
    from market_maker.public_markets import MarketChoiceError
    from market_maker.recordings.events import RecordingError
    from market_maker.start_refusals import StartRefused, StoppedByLadder
    from market_maker.status import StatusError
    from market_maker.trade_journal import JournalCorrupt

    return {
        ConfigError: ExitCode.USAGE,
        EndpointError: ExitCode.USAGE,
        NotConfirmed: ExitCode.USAGE,
        FaultError: ExitCode.USAGE,
        UnknownScenario: ExitCode.USAGE,
        UnknownMarket: ExitCode.EXCHANGE,
        MarketChoiceError: ExitCode.USAGE,
        VenueError: ExitCode.EXCHANGE,
        InstrumentError: ExitCode.EXCHANGE,
        StoppedByLadder: ExitCode.KILLED,
        StartRefused: ExitCode.EXCHANGE,
        RecordingError: ExitCode.DATA,
        SavedError: ExitCode.DATA,
        ReportError: ExitCode.USAGE,
        StatusError: ExitCode.DATA,
        JournalCorrupt: ExitCode.DATA,
        InputsUnreadable: ExitCode.DATA,
        OSError: ExitCode.DATA,
    }


def _report(error: Exception) -> ExitCode:
    Console(stderr=True).print(
        Text("mm: ", style="bold red").append(Text(_message(error), style="default")), soft_wrap=True
    )
    return _exit_code(error)


def _exit_code(error: Exception) -> ExitCode:
    from market_maker.cli.child import EmulatorEnded

    # What was wrong with what it was to play is wrong with what we were asked for.
    if isinstance(error, EmulatorEnded) and error.exit_code in (ExitCode.USAGE, ExitCode.DATA):
        return ExitCode(error.exit_code)
    return next(code for kind, code in _known_errors().items() if isinstance(error, kind))


def _message(error: Exception) -> str:
    from market_maker.config import ConfigError

    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    lines = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, ConfigError) and len(lines) > 1:
        lines.insert(0, f"{len(lines)} problems")
    return "\n  ".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `mm`; return the exit code. An error that a person can mend is one message, not a stack trace."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=[word for word in given if word != DEBUG_FLAG], prog_name="mm")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.OK
    except tuple(_known_errors()) as error:
        if DEBUG_FLAG in given:
            raise
        return _report(error)
    return ExitCode.OK
