"""`mm replay`: the decisions of a recorded session, made again and compared."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from market_maker.cli.app import ExitCode, JsonOption, SetOption, app, examples

if TYPE_CHECKING:
    from market_maker.decision_replay import Replayed
    from market_maker.replayed_market import Difference

_COMMONEST: Final = 5
_SHOWN: Final = 3
_SHOWN_WITH_SET: Final = 1


@app.command(
    epilog=examples(
        "mm replay journal/mm-20260105T000000.000000-0000.jsonl",
        "mm replay FILE --market BTC-USD --until-first-difference",
        "mm replay FILE --set reprice_tolerance=0.3 --json",
    )
)
def replay(
    journal: Annotated[Path, typer.Argument(metavar="JOURNAL", help="A file of the session's journal.")],
    *,
    market: Annotated[
        list[str] | None,
        typer.Option(
            "--market", "-m", metavar="MARKET", help="Only this market; may be repeated (default: all)."
        ),
    ] = None,
    until_first: Annotated[
        bool, typer.Option("--until-first-difference", help="End at the first difference.")
    ] = False,
    shown: Annotated[
        int | None,
        typer.Option(
            "--show",
            metavar="N",
            min=0,
            max=1000,
            help="Differences to show with their inputs. [3, 1 with --set]",
        ),
    ] = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the decisions of a session again, from what they were made from, and compare them bit for bit.

    Exits with 0 if all are equal, with 1 if one differs, with 4 if the record cannot be read. With --set the
    same moments are decided with other settings, and differences are what was asked for.
    """
    from market_maker.decision_replay import Replay, find_inputs, settings_change
    from market_maker.kernel import sources_hash

    change = settings_change(settings) if settings else None
    if shown is None:
        shown = _SHOWN if change is None else _SHOWN_WITH_SET
    run = Replay(find_inputs(journal), market or (), change, shown, until_first=until_first)
    with _progress(as_json=as_json) as told:
        replayed = run.run(told)
    is_ours = replayed.sources == sources_hash()
    if as_json:
        print(json.dumps(_as_dict(replayed, settings or [], same_sources=is_ours), indent=2))
    else:
        _print(Console(), replayed, settings or [], same_sources=is_ours)
    differs = replayed.differences > 0 and change is None
    raise typer.Exit(ExitCode.FAILED if differs else ExitCode.OK)


@contextmanager
def _progress(*, as_json: bool) -> "Iterator[Any]":
    """A bar on the terminal, where somebody sees it."""
    if as_json or not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replaying", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _as_dict(replayed: "Replayed", settings: list[str], *, same_sources: bool) -> dict[str, Any]:
    markets = {}
    for name, counts in replayed.markets.items():
        changed = [
            {"recorded": then, "replayed": now, "count": count}
            for (then, now), count in counts.changed.most_common()
        ]
        markets[name] = {**asdict(counts), "changed": changed}
    return {
        "equal": replayed.differences == 0,
        "differences": replayed.differences,
        "settings": settings,
        "markets": markets,
        "stopped_at_first": replayed.stopped,
        "torn_bytes": replayed.torn_bytes,
        "missing_blocks": replayed.missing_blocks,
        "sources": replayed.sources,
        "same_sources": same_sources,
        "first": [difference._asdict() for difference in replayed.first],
    }


def _print(console: Console, replayed: "Replayed", settings: list[str], *, same_sources: bool) -> None:
    for number, difference in enumerate(replayed.first, start=1):
        console.print(_difference_table(number, difference))
        if difference.inputs:
            console.print(_inputs_table(difference))
    console.print(_counts_table(replayed))
    for name, counts in replayed.markets.items():
        for (then, now), count in counts.changed.most_common(_COMMONEST):
            console.print(f"{name}: {count:,} times {then} came out as {now}", highlight=False)
    console.print(_verdict(replayed, settings, same_sources=same_sources), soft_wrap=True)


def _counts_table(replayed: "Replayed") -> Table:
    table = Table()
    table.add_column("market", no_wrap=True)
    heads = ("books", "trades", "decisions", "differ", "states", "differ ", "skipped")
    for head in heads:
        table.add_column(head, justify="right")
    for name, it in replayed.markets.items():
        figures = (
            it.books,
            it.trades,
            it.decisions,
            it.differences,
            it.states,
            it.state_differences,
            it.skipped,
        )
        table.add_row(name, *(f"{figure:,}" for figure in figures))
    return table


def _difference_table(number: int, difference: "Difference") -> Table:
    place = f"{difference.market} {difference.slot}".rstrip()
    table = Table(
        title=f"{number}. {difference.what}: {place}, event {difference.event:,}, {difference.now_ns} ns",
        title_justify="left",
    )
    for head in ("field", "recorded", "replayed"):
        table.add_column(head, overflow="fold")
    for name, then in difference.recorded.items():
        now = difference.replayed[name]
        table.add_row(name, str(then), str(now), style="" if then == now else "bold yellow")
    return table


def _inputs_table(difference: "Difference") -> Table:
    table = Table(title="made from", title_justify="left")
    for head in ("row", "field", "value"):
        table.add_column(head, overflow="fold")
    for row, fields in difference.inputs.items():
        for name, value in _flat(fields):
            table.add_row(row, name, str(value))
    return table


def _flat(fields: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _verdict(replayed: "Replayed", settings: list[str], *, same_sources: bool) -> Text:
    decisions = sum(it.decisions for it in replayed.markets.values())
    changed = sum(it.differences for it in replayed.markets.values())
    lines = []
    if settings:
        share = changed / decisions if decisions else 0.0
        counted = f"{changed:,} of {decisions:,} decisions ({share:.2%})"
        lines.append(f"With {', '.join(settings)}, {counted} come out otherwise,")
        lines.append("at the positions and orders that the session had: this is no simulation.")
    elif replayed.differences:
        lines.append(f"DIFFERENT: {replayed.differences:,} differences in {decisions:,} decisions.")
    else:
        lines.append(f"Equal, bit for bit: {decisions:,} decisions.")
    if replayed.stopped:
        lines.append("Ended at the first difference.")
    if replayed.missing_blocks:
        skipped = sum(it.skipped for it in replayed.markets.values())
        lines.append(
            f"{replayed.missing_blocks} blocks are missing; {skipped:,} decisions after them were left out."
        )
    if replayed.torn_bytes:
        lines.append(f"The session was cut off: its last {replayed.torn_bytes} bytes are no whole block.")
    if not same_sources:
        lines.append(f"Recorded by other sources than these ({replayed.sources}).")
    failed = replayed.differences > 0 and not settings
    return Text("\n".join(lines), style="bold red" if failed else "")
