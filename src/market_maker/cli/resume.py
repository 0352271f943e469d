"""`mm resume`: lifts what the kill ladder has latched, in the process that runs or for the next start."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from market_maker.cli.app import (
    ConfigOption,
    ExitCode,
    JsonOption,
    ProfileOption,
    SetOption,
    app,
    examples,
    load_settings,
    note,
)

if TYPE_CHECKING:
    from market_maker.cli.resuming import Lifted


@app.command(epilog=examples("mm resume", "mm resume --why 'looked at the fills'", "mm resume --json"))
def resume(
    *,
    why: Annotated[
        str, typer.Option(metavar="TEXT", help="Why it is right to go on; kept in the journal.")
    ] = "asked for",
    accept_positions: Annotated[
        bool,
        typer.Option(
            "--accept-positions",
            help="Take the exchange's positions for right, where a start was refused because of them.",
        ),
    ] = False,
    confirm: Annotated[
        str | None, typer.Option(metavar="WORD", help="Confirm real money where nobody attends: mainnet.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Journal folder. (default: the settings' journal_dir)"),
    ] = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Lift what the kill ladder has latched: from cancel all on, for a loss or for margin, time does not.

    Losses are counted from now on: the equity of now is the peak, and the start of the day. Where no session
    runs, the next start may trade again.

    Exits with 0 if something was lifted or nothing is latched, with 1 if the session did not take it.
    """
    from market_maker.cli.resuming import resume_session
    from market_maker.journal_files import JournalSettings

    loaded = load_settings(config, settings, profile)
    where = folder or Path(loaded.of(JournalSettings).journal_dir)
    lifted = resume_session(loaded, where, why, confirm, accept_positions=accept_positions)
    _show(lifted, as_json=as_json)
    raise typer.Exit(ExitCode.OK if lifted.is_done else ExitCode.FAILED)


def _show(lifted: "Lifted", *, as_json: bool) -> None:
    import msgspec

    if as_json:
        print(msgspec.json.encode(lifted.as_dict()).decode())
    else:
        note(lifted.text)
