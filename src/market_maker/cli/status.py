"""`mm status`: what the process that runs now, or ran last, is doing."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from market_maker.cli.app import (
    ConfigOption,
    ExitCode,
    JsonOption,
    ProfileOption,
    SetOption,
    app,
    examples,
    load_settings,
)


@app.command(epilog=examples("mm status", "mm status --json", "mm status --folder other/journal"))
def status(
    *,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Journal folder. (default: the settings' journal_dir)"),
    ] = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the status that a running session writes, with the reason for every quote that is missing.

    Exits with 1 where the last session is not running any more.
    """
    from market_maker.clock import SystemClock
    from market_maker.domain import NS_PER_S
    from market_maker.journal_files import JournalSettings
    from market_maker.status import is_running, read_status, status_view

    if folder is None:
        folder = Path(load_settings(config, settings, profile).of(JournalSettings).journal_dir)
    latest = read_status(folder)
    running = is_running(latest)
    if as_json:
        print(msgspec.json.encode({"running": running, "status": latest}).decode())
    else:
        age_s = (SystemClock().now_ns() - latest.written_ns) / NS_PER_S
        footer = f"written {age_s:.0f} s ago by process {latest.pid}"
        footer += "" if running else ", which is not running"
        Console().print(status_view(latest, f"{footer}; journal {latest.journal}"))
    raise typer.Exit(ExitCode.OK if running else ExitCode.FAILED)
