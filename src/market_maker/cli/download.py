"""`mm data download`: days of public archives."""

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from market_maker.cli.app import JsonOption, examples
from market_maker.cli.data import data_app, interruptible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from market_maker.recordings.archives import RemoteFile, Told

_DATES = ["%Y-%m-%d"]


@data_app.command(
    epilog=examples(
        "mm data download tardis --symbol BTCUSDT --from 2024-08-01 --to tardis",
        "mm data download binance --symbol ETHUSDT --kind trades --from 2024-08-01 --until 2024-08-07 --to z",
    )
)
def download(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="tardis or binance.")],
    symbol: Annotated[list[str], typer.Option("--symbol", help="As the venue writes it; may be repeated.")],
    first: Annotated[datetime, typer.Option("--from", formats=_DATES, help="First day, UTC.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of the files.")],
    *,
    last: Annotated[
        datetime | None, typer.Option("--until", formats=_DATES, help="Last day. [the first]")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Kind of file; may be repeated. [all]")
    ] = None,
    venue: Annotated[str, typer.Option("--venue", help="Venue, for tardis.")] = "binance-futures",
    base_url: Annotated[str, typer.Option("--base-url", help="Another address of the same archive.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Download days of public market data: with progress, gone on with where it was cut off, and checked.

    The archive `tardis` gives the first day of each month without a key. Ctrl-C keeps what came so far as
    NAME.part, and the next call goes on with it.
    """
    from market_maker.recordings.archives import ARCHIVES, days, remote_file

    if archive not in ARCHIVES:
        msg = f"expected {' or '.join(ARCHIVES)}, was {archive!r}"
        raise typer.BadParameter(msg, param_hint="ARCHIVE")
    known = ARCHIVES[archive]
    unknown = [name for name in kind or () if name not in known.kinds]
    if unknown:
        msg = f"expected {', '.join(known.kinds)}, was {', '.join(unknown)}"
        raise typer.BadParameter(msg, param_hint="--kind")
    span = days(first.date(), (last or first).date())
    if not span:
        msg = f"expected {first.date()} or later, was {last}"
        raise typer.BadParameter(msg, param_hint="--until")
    address = base_url or known.base_url
    files = [
        remote_file(known, address, venue, name, each, day)
        for each in symbol
        for name in kind or known.kinds
        for day in span
    ]
    with interruptible("stopped: what came is kept, and gone on with the next time"):
        fresh = asyncio.run(_download(files, to))
    if as_json:
        print(json.dumps({"folder": str(to), "downloaded": fresh, "files": [file.name for file in files]}))
    else:
        Console().print(f"{len(fresh)} of {len(files)} files downloaded to {to}; the others were there")


async def _download(files: "list[RemoteFile]", folder: Path) -> list[str]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from market_maker.recordings.archives import download as fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    fresh = []
    with Progress(*columns, console=Console(stderr=True)) as bars:
        for file in files:
            task = bars.add_task(file.name, total=None)
            if await fetch(file, folder, _teller(bars, task)):
                fresh.append(file.name)
            bars.stop_task(task)
    return fresh


def _teller(bars: "Progress", task: "TaskID") -> "Told":
    def told(_name: str, have: int, total: int) -> None:
        bars.update(task, completed=have, total=total or None)

    return told
