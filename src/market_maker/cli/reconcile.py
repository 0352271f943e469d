"""`mm reconcile`: a day of our journal against the exchange's history, and what the day came to."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from market_maker.cli.app import (
    ConfigOption,
    EnvFileOption,
    ExitCode,
    JsonOption,
    ProfileOption,
    SetOption,
    app,
    examples,
    load_settings,
)
from market_maker.cli.orders import AccountOption, MarketOption

if TYPE_CHECKING:
    from market_maker.cli.reconcile_output import Reconciled, Scope, TheirBooks
    from market_maker.clock import Clock
    from market_maker.config import Config
    from market_maker.day_books import Day
    from market_maker.exchanges.history import AccountHistory
    from market_maker.journal_history import JournalBooks

# How late the exchange may have noted what our journal puts into the day.
_MARGIN_S: Final = 60
_DAY_S: Final = 86_400
# While a session runs: by then its journal and the exchange's history both have what happened.
_SETTLED_S: Final = 5

Reached = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is compared: a day, markets (all where none is named), a folder of journals, an account."""

    day: "Day"
    markets: tuple[str, ...]
    folder: Path
    account: int | None


@app.command(
    epilog=examples(
        "mm reconcile --day 2026-11-22",
        "mm reconcile --day 2026-11-22 --market BTC-USD --json",
        "mm reconcile --day 2026-11-22 --journal backup/journal --set network=mainnet",
    )
)
def reconcile(
    *,
    day: Annotated[
        str,
        typer.Option(metavar="DAY", help="Day to compare, UTC: YYYY-MM-DD."),
    ],
    market: MarketOption = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder of journals. (default: the settings' journal_dir)"),
    ] = None,
    account: AccountOption = None,
    profile: ProfileOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    env_file: EnvFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the fills, fees, funding and rebates of a day in our journal with the exchange's history.

    It only looks: no order is sent or cancelled. Exits with 0 if both are equal to the last digit, with 1 if
    they differ in anything.
    """
    from market_maker.cli.reconcile_output import show, to_json
    from market_maker.clock import SystemClock
    from market_maker.journal_files import JournalSettings

    loaded, clock = load_settings(config, settings, profile, env_file), SystemClock()
    folder = journal or Path(loaded.of(JournalSettings).journal_dir)
    asked = _Asked(_of_day(day, clock.now_ns()), tuple(market or ()), folder, account)
    found = asyncio.run(_reconcile(loaded, clock, asked, shows=not as_json and sys.stderr.isatty()))
    if as_json:
        print(to_json(found))
    else:
        show(found, Console())
    raise typer.Exit(ExitCode.OK if found.is_equal else ExitCode.FAILED)


def _of_day(day: str, now_ns: int) -> "Day":
    from market_maker.day_books import Day
    from market_maker.domain import NS_PER_S

    try:
        date = datetime.strptime(day, "%Y-%m-%d")  # noqa: DTZ007  (UTC is said below)
    except ValueError:
        msg = f"expected a day as YYYY-MM-DD, was {day!r}"
        raise typer.BadParameter(msg, param_hint="--day") from None
    start_ns = int(date.replace(tzinfo=UTC).timestamp()) * NS_PER_S
    if start_ns > now_ns:
        msg = f"expected a day that has begun, was {date:%Y-%m-%d}"
        raise typer.BadParameter(msg, param_hint="--day")
    return Day(start_ns, start_ns + _DAY_S * NS_PER_S)


async def _reconcile(config: "Config", clock: "Clock", asked: _Asked, *, shows: bool) -> "Reconciled":
    from market_maker.cli.connection import connect
    from market_maker.cli.reconcile_output import Scope
    from market_maker.config_sections import SessionSettings
    from market_maker.day_books import Day
    from market_maker.domain import NS_PER_S
    from market_maker.journal_history import TradedAt, read_books

    network, now_ns = config.of(SessionSettings).network.value, clock.now_ns()
    gateway = await connect(config, clock, asked.account)
    try:
        account = "" if gateway.account is None else str(gateway.account.account_id)
        with _progress(now_ns, asked.day.start_ns, shows=shows) as reached:
            theirs = await _their_books(gateway.history(), asked, reached)
    finally:
        await gateway.close()
    # After the exchange was asked, so that what it told of is in the journal by now.
    books = read_books(asked.folder, asked.day, TradedAt(network, account))
    day = asked.day
    is_running = now_ns < day.end_ns and any(session.stopped is None for session in books.sessions)
    if is_running:
        day = Day(day.start_ns, max(day.start_ns, now_ns - _SETTLED_S * NS_PER_S))
    return _compared(
        Scope(network, account, day, asked.folder, is_running), books.only(asked.markets), theirs
    )


def _compared(scope: "Scope", books: "JournalBooks", theirs: "TheirBooks") -> "Reconciled":
    from market_maker.cli.reconcile_output import Reconciled
    from market_maker.day_books import compare
    from market_maker.day_report import book_totals, day_report, position_at

    day, trades, payments = scope.day, theirs.trades, theirs.payments
    held = None if theirs.held_now is None else position_at(theirs.held_now, trades.rows, day.end_ns)
    return Reconciled(
        scope,
        books,
        theirs,
        compare((fill.row for fill in books.fills), trades.rows, day, trades.kept_since_ns),
        compare(books.funding, payments.rows, day, payments.kept_since_ns),
        day_report(books, day, held),
        book_totals(trades.rows, payments.rows, day),
    )


async def _their_books(history: "AccountHistory", asked: _Asked, reached: Reached) -> "TheirBooks":
    from market_maker.cli.reconcile_output import TheirBooks
    from market_maker.domain import NS_PER_S

    since_ns = asked.day.start_ns - _MARGIN_S * NS_PER_S
    trades = await history.trades(asked.markets, since_ns, reached)
    payments = await history.payments(asked.markets, since_ns)
    held_now = await history.held(asked.markets, trades)
    return TheirBooks(trades, payments, held_now, await history.rebates_paid())


@contextmanager
def _progress(from_ns: int, to_ns: int, *, shows: bool) -> Iterator[Reached]:
    """How far back the exchange's history was read: it has the newest first."""
    if not shows:
        yield lambda _reached_ns: None
        return
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("the exchange's history", total=max(1, from_ns - to_ns))
        yield lambda reached_ns: bar.update(task, completed=from_ns - reached_ns)
