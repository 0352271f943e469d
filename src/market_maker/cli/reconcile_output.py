"""What `mm reconcile` found, as JSON and for the terminal."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from market_maker.day_books import Day, Difference, FillRow, FundingRow, Kind
from market_maker.day_report import DayFigures, DayReport
from market_maker.domain import NS_PER_MS, NS_PER_S, Side
from market_maker.exchanges.history import Told
from market_maker.journal_history import JournalBooks
from market_maker.summary import money

AnyDifference = Difference[FillRow] | Difference[FundingRow]

_WORDS: Final = {
    Kind.MISSING_IN_JOURNAL: "missing in the journal",
    Kind.MISSING_AT_EXCHANGE: "missing at the exchange",
    Kind.NOT_KEPT: "older than what the exchange still keeps",
    Kind.DIFFERS: "differs",
    Kind.DOUBLED: "doubled in the journal",
}
_NAMES: Final = {"venue_ns": "time", "number": "id", "is_taker": "taker"}
_MOST_SHOWN: Final = 50
_MARKETS_A_TABLE: Final = 3


class Scope(NamedTuple):
    """What was compared: the day, or what of it is over where a session `is_running`."""

    network: str
    account: str
    day: Day
    folder: Path
    is_running: bool = False


class TheirBooks(NamedTuple):
    """What the exchange told; positions are None where they changed all the time."""

    trades: Told[FillRow]
    payments: Told[FundingRow]
    held_now: dict[str, Decimal] | None
    rebates_paid: Decimal


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Both books of a day: their differences, and the day's figures by ours.

    `theirs_in_all` has the exchange's own sums by name, USD.
    """

    scope: Scope
    books: JournalBooks
    theirs: TheirBooks
    fills: list[Difference[FillRow]]
    funding: list[Difference[FundingRow]]
    report: DayReport
    theirs_in_all: dict[str, Decimal]

    @property
    def differences(self) -> list[AnyDifference]:
        """All of them: of fills, then of funding."""
        return [*self.fills, *self.funding]

    @property
    def is_equal(self) -> bool:
        """Whether there is none."""
        return not self.differences


def to_json(found: Reconciled) -> str:
    """Return what `--json` prints: amounts are exact decimal strings, ids strings too."""
    scope, theirs, books = found.scope, found.theirs, found.books
    figures = {name: _figures(market) for name, market in found.report.markets.items()}
    return json.dumps(
        {
            "day": _date(scope.day),
            "compared_until": _instant(scope.day.end_ns),
            "network": scope.network,
            "account": scope.account,
            "equal": found.is_equal,
            "differences": [_difference(one) for one in found.differences],
            "history_begins": {
                "fills": _begin(theirs.trades.kept_since_ns),
                "funding": _begin(theirs.payments.kept_since_ns),
            },
            "markets": figures,
            "total": _figures(found.report.total),
            "exchange_total": {name: money(amount) for name, amount in found.theirs_in_all.items()},
            "rebates_ever_paid_usd": money(theirs.rebates_paid),
            "not_attributed": found.report.not_attributed,
            "journal": {
                "folder": str(scope.folder),
                "sessions": [session.name for session in books.sessions],
                "of_others": books.left_aside,
                "torn_lines": sum(session.torn_lines for session in books.sessions),
            },
        },
        indent=2,
    )


def _difference(one: AnyDifference) -> dict[str, object]:
    row = one.row
    return {
        "kind": one.kind.value,
        "entry": _entry(one),
        "market": row.market,
        "id": str(row.number),
        "time": _instant(row.venue_ns),
        "fields": [_NAMES.get(name, name) for name in one.fields],
        "ours": None if one.ours is None else _shown(one.ours),
        "theirs": None if one.theirs is None else _shown(one.theirs),
    }


def _entry(one: AnyDifference) -> str:
    return "fill" if isinstance(one.row, FillRow) else "funding"


def _shown(row: FillRow | FundingRow) -> dict[str, object]:
    return {_NAMES.get(name, name): _value(name, value) for name, value in row._asdict().items()}


def _value(name: str, value: object) -> object:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value else "0"
    if isinstance(value, Side):
        return value.name
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    return _instant(value) if name == "venue_ns" else str(value)


def _figures(figures: DayFigures) -> dict[str, object]:
    pnl = {
        "total": figures.total,
        "spread": figures.spread,
        "movement": figures.movement,
        "fees": -figures.fees,
        "rebates": figures.rebates,
        "funding": figures.funding,
    }
    held = (figures.position_start, figures.position_end)
    return {
        "fills": {
            "count": figures.buys + figures.sells,
            "buys": figures.buys,
            "sells": figures.sells,
            "volume_usd": money(figures.volume),
            "maker_volume_usd": money(figures.maker_volume),
        },
        "funding_payments": figures.payments,
        "pnl_usd": {name: _money(amount) for name, amount in pnl.items()},
        "cash_usd": money(figures.cash),
        "position": {name: _size(size) for name, size in zip(("start", "end"), held, strict=True)},
        "pnl_of_whole_sessions_usd": {name: money(amount) for name, amount in figures.by_sessions.items()},
    }


def _money(amount: Decimal | None) -> str | None:
    return None if amount is None else money(amount)


def _size(size: Decimal | None) -> str | None:
    return None if size is None else str(_value("size", size))


def _instant(ns: int) -> str:
    moment = datetime.fromtimestamp(ns // NS_PER_S, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % NS_PER_S // NS_PER_MS:03d}Z"


def _date(day: Day) -> str:
    return _instant(day.start_ns)[:10]


def _begin(kept_since_ns: int | None) -> str | None:
    return None if kept_since_ns is None else _instant(kept_since_ns)


def show(found: Reconciled, console: Console) -> None:
    """Print the day's figures, what differs, and the verdict."""
    if found.report.markets:
        for table in _tables(found):
            console.print(table)
    if found.differences:
        console.print(_differences_table(found.differences[:_MOST_SHOWN]))
    console.print(
        Text("\n".join(_closing(found)), style="" if found.is_equal else "bold red"), soft_wrap=True
    )


def _tables(found: Reconciled) -> Iterable[Table]:
    columns = {**found.report.markets}
    if len(columns) > 1:
        columns["all"] = found.report.total
    names = list(columns)
    for start in range(0, len(names), _MARKETS_A_TABLE):
        chunk = names[start : start + _MARKETS_A_TABLE]
        table = Table(title=f"{_date(found.scope.day)} by our journal", title_justify="left")
        table.add_column("", no_wrap=True)
        rows = {name: _column(columns[name]) for name in chunk}
        for name in chunk:
            table.add_column(name, justify="right")
        for label in dict.fromkeys(label for column in rows.values() for label in column):
            table.add_row(label, *(rows[name].get(label, "-") for name in chunk))
        yield table


def _column(figures: DayFigures) -> dict[str, str]:
    amounts = {
        "fees paid": figures.fees,
        "rebates": figures.rebates,
        "funding": figures.funding,
        "spread earned": figures.spread,
        "movement": figures.movement,
        "PnL to the last fill": figures.total,
        "cash": figures.cash,
    }
    return {
        "fills buy / sell": f"{figures.buys:,} / {figures.sells:,}",
        "volume USD": money(figures.volume),
        "funding payments": f"{figures.payments:,}",
        **{f"{name} USD": _money(amount) or "-" for name, amount in amounts.items()},
        "position start / end": " / ".join(
            _size(size) or "-" for size in (figures.position_start, figures.position_end)
        ),
        **{
            f"sessions: {name.replace('_', ' ')} USD": money(amount)
            for name, amount in figures.by_sessions.items()
        },
    }


def _differences_table(differences: Iterable[AnyDifference]) -> Table:
    table = Table(title="Differences", title_justify="left")
    for column in ("time", "entry", "market", "id", "what", "ours", "the exchange's"):
        table.add_column(column, overflow="fold")
    for one in differences:
        names = one.fields or _most_telling(one.row)
        table.add_row(
            _instant(one.row.venue_ns),
            _entry(one),
            one.row.market,
            str(one.row.number),
            _WORDS[one.kind],
            _cell(one.ours, names),
            _cell(one.theirs, names),
        )
    return table


def _most_telling(row: FillRow | FundingRow) -> tuple[str, ...]:
    return ("side", "size", "price", "fee") if isinstance(row, FillRow) else ("size", "rate", "amount")


def _cell(row: FillRow | FundingRow | None, names: Iterable[str]) -> str:
    if row is None:
        return "-"
    shown = _shown(row)
    return "\n".join(f"{_NAMES.get(name, name)} {shown[_NAMES.get(name, name)]}" for name in names)


def _closing(found: Reconciled) -> Iterable[str]:
    scope, count = found.scope, len(found.differences)
    where = f"{scope.network}, account {scope.account}"
    if count > _MOST_SHOWN:
        yield f"{count - _MOST_SHOWN} more differences are not shown; --json has all."
    yield from _of_the_history(found)
    torn = sum(session.torn_lines for session in found.books.sessions)
    if torn:
        yield f"Cut off in their last line, as a crash leaves it: {torn} of the journal's files."
    if found.report.not_attributed:
        yield f"In no session's summary of the day: {', '.join(found.report.not_attributed)}."
    if scope.is_running:
        yield f"A session has no end: it runs, or was killed. Compared until {_instant(scope.day.end_ns)}."
    if found.theirs.rebates_paid:
        paid = money(found.theirs.rebates_paid)
        yield f"Rebates credited to the account so far, of which the exchange tells no days: {paid} USD."
    verdict = "no difference, to the last digit" if found.is_equal else f"{count} differences"
    yield f"{_date(scope.day)} on {where}: {verdict}. Sessions read: {len(found.books.sessions)}."


def _of_the_history(found: Reconciled) -> Iterable[str]:
    """Say where the exchange's memory begins, if that leaves entries of ours without a partner."""
    for what, told, differences in (
        ("fills", found.theirs.trades, found.fills),
        ("funding", found.theirs.payments, found.funding),
    ):
        if told.kept_since_ns is not None and any(one.kind is Kind.NOT_KEPT for one in differences):
            begins = _instant(told.kept_since_ns)
            yield f"The exchange's history of {what} begins at {begins}; what is older can not be compared."
