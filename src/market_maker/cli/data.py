"""`mm data convert` and `mm data inspect`: recordings to the event format, and what is in them."""

import json
import signal
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from market_maker.cli.app import ExitCode, JsonOption, app, examples, note

if TYPE_CHECKING:
    from market_maker.recordings.conversion import Progress, Source
    from market_maker.recordings.grid import Grid
    from market_maker.recordings.store import MarketInfo, Store

data_app = typer.Typer(
    name="data",
    help="Recorded markets: convert, inspect and download them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    epilog=examples("mm data convert recordings/ --to data", "mm data inspect data"),
)
app.add_typer(data_app)


@contextmanager
def interruptible(message: str = "stopped: nothing half done is left behind") -> Iterator[None]:
    """Have Ctrl-C end the work as an exception, so that what is half done is taken away."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        note(message)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@data_app.command(
    epilog=examples(
        "mm data convert recordings/hyperliquid --to data",
        "mm data convert btcusdt.gz ethusdt.gz --to data --venue binance",
        "mm data convert tardis/ --to data --grid BTC-USD:0.1:0.001",
        "mm data convert heard/ --to data --market BTC-USD --replace --json",
    )
)
def convert(
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Files or folders of recordings.")
    ],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of the converted markets.")],
    *,
    market: Annotated[
        list[str] | None, typer.Option("--market", "-m", help="Only this; may be repeated.")
    ] = None,
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="MARKET:TICK:STEP", help="Instead of what the data show."),
    ] = None,
    venue: Annotated[
        str, typer.Option("--venue", help="Whose clock it is; markets of one venue share it.")
    ] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Convert anew what is there already.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Convert recordings to the event format, all of them or none.

    Parquet books and trades, raw collector files (gzip), Tardis CSV, and what `mm record` wrote. What is
    wrong is repaired where a rule exists, and told; else the file and the row are named, and nothing is left.
    """
    from market_maker.recordings.conversion import convert as convert_all
    from market_maker.recordings.conversion import open_sources

    with interruptible():
        grids = _grids(grid or ())
        found = [source for path in sources for source in open_sources(path, market or (), grids, venue)]
        with conversion_progress(found) as told:
            infos = convert_all(found, to, replace=replace, progress=told)
    _show(to, infos, {}, as_json=as_json)


@data_app.command(epilog=examples("mm data inspect data", "mm data inspect data/BTC-USD --json"))
def inspect(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Converted markets, or one of them.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Read converted markets from end to end, check every row and checksum, and say what is in them."""
    from market_maker.recordings.store import open_store

    with interruptible():
        store = open_store(path)
        spans = {market: _checked(store, market) for market in store.markets}
    _show(path, [store.info(market) for market in store.markets], spans, as_json=as_json)


def _grids(given: "list[str] | tuple[()]") -> "dict[str, Grid]":
    from market_maker.recordings.discovery import market_name
    from market_maker.recordings.grid import Grid

    grids = {}
    for text in given:
        try:
            name, tick, step = text.split(":")
            grids[market_name(name)] = Grid(Decimal(tick), Decimal(step))
        except (ValueError, InvalidOperation) as error:
            msg = f"expected MARKET:TICK:STEP such as BTC-USD:0.1:0.001, was {text!r}"
            raise typer.BadParameter(msg, param_hint="--grid") from error
    return grids


@contextmanager
def conversion_progress(sources: "Sequence[Source]") -> "Iterator[Progress]":
    """Bars on standard error, one for each market."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[events]:>11,} events"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        spans = {source.market: source.span_ns for source in sources}
        tasks = {
            market: bars.add_task(market, total=last - first or None, events=0)
            for market, (first, last) in spans.items()
        }

        def told(market: str, at_ns: int, events: int) -> None:
            bars.update(tasks[market], completed=max(at_ns - spans[market][0], 0), events=events)

        yield told


def _checked(store: "Store", market: str) -> dict[str, Any]:
    """Read all hours; return figures that only the rows tell."""
    from market_maker.recordings.events import RecordingError

    delays = []
    for hour, expected in zip(store.hours(market), store.info(market).hours, strict=True):
        crc = 0
        for column in hour:
            crc = zlib.crc32(column.data, crc)
        if crc != expected.crc32:
            msg = (
                f"{store.path}: {market} {expected.label}: expected the checksum {expected.crc32}, was {crc}"
            )
            raise RecordingError(msg)
        delays.append(float(hour.delay_us[len(hour.delay_us) // 2]) / 1000)
    return {"delay_ms": round(sorted(delays)[len(delays) // 2], 3)}


def _show(path: Path, infos: "list[MarketInfo]", extra: dict[str, dict[str, Any]], *, as_json: bool) -> None:
    rows = [{**_row(info), **extra.get(info.market, {})} for info in infos]
    if as_json:
        print(json.dumps({"store": str(path), "markets": rows}, indent=2))
        return
    # Two to a cell, so that it fits 80 columns.
    table = Table(title=str(path), box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("market\nvenue", "from\nto", "events", "tick\nstep", "clock\noffset", "found"):
        justify: Literal["left", "right"] = "right" if name == "events" else "left"
        is_whole = name in ("from\nto", "events", "tick\nstep")
        table.add_column(name, justify=justify, overflow="fold", no_wrap=is_whole)
    for row in rows:
        counts = {**row["findings"], "gaps": len(row["gaps"])}
        found = "\n".join(f"{name} {count:,}" for name, count in counts.items() if count) or "nothing"
        table.add_row(
            f"{row['market']}\n{row['venue']}",
            f"{row['start']}\n{row['end']}",
            f"{row['events']:,}",
            f"{row['tick']}\n{row['step']}",
            f"{row['clock_offset_ms']} ms",
            found,
        )
    Console().print(table)


def _row(info: "MarketInfo") -> dict[str, Any]:
    import numpy as np

    ends = [
        str(np.datetime64(at, "ms"))
        for at in (info.hours[0].first_ns // 10**6, info.hours[-1].last_ns // 10**6)
    ]
    return {
        "market": info.market,
        "venue": info.venue,
        "start": f"{ends[0]}Z",
        "end": f"{ends[1]}Z",
        "hours": len(info.hours),
        "events": sum(info.counts.values()),
        "counts": info.counts,
        "tick": info.tick,
        "step": info.step,
        "clock_offset_ms": info.clock_offset_ns / 1e6,
        "gaps": [
            {"from_ns": begin, "to_ns": end, "seconds": (end - begin) / 1e9} for begin, end in info.gaps
        ],
        "findings": info.findings,
        "sources": [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in info.sources],
    }
