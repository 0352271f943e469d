"""Fills and funding of all sessions that are in a folder of journals, for the comparison of a day's books.

Only records of money are decoded, so that a day with millions of decisions is read in seconds. Sessions on
paper, on another network or of another account are left aside. A last line that a crash cut off is counted.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Context, Decimal, Inexact, InvalidOperation
from io import BufferedReader
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from market_maker.day_books import Day, FillRow, FundingRow
from market_maker.domain import Side
from market_maker.trade_journal import JournalCorrupt, session_files

_EXACT: Final = Context(prec=60, traps=[Inexact, InvalidOperation])
_KINDS: Final = ("session_start", "session_stop", "account", "paper", "fill", "funding", "dropped")
_WANTED: Final = tuple(f'{{"type":"{kind}",'.encode() for kind in _KINDS)
_RECORD: Final = b'{"type":"'
_TAIL_BYTES: Final = 65_536
_SHOWN_BYTES: Final = 80
# A record is written after the instant that it tells of, by the clock of another machine.
_CLOCK_SLACK_NS: Final = 3_600 * 10**9
_TWO: Final = Decimal(2)

Steps = Mapping[str, tuple[Decimal, Decimal]]


class TradedAt(NamedTuple):
    """TradedAt journals count: the network, and the account's id; that is not asked for where it is empty."""

    network: str
    account: str = ""


class BookedFill(NamedTuple):
    """A fill as the journal has it, and the mid before it, USD."""

    row: FillRow
    mid: Decimal


@dataclass(slots=True)
class JournalledSession:
    """One session: begin and end by its records, why it stopped (None where it was cut off), its summary.

    `pnl` has the parts of the profit by market, as the summary at the end of the session says.
    """

    name: str
    begun_ns: int
    ended_ns: int
    network: str = ""
    account: str = ""
    is_paper: bool = False
    stopped: str | None = None
    pnl: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    fills: list[BookedFill] = field(default_factory=list)
    funding: list[FundingRow] = field(default_factory=list)
    torn_lines: int = 0
    dropped: int = 0

    def is_of(self, whose: TradedAt) -> bool:
        """Whether it traded there, in that account, as far as its journal says."""
        is_account = not (self.account and whose.account) or self.account == whose.account
        return not self.is_paper and self.network == whose.network and is_account

    def only(self, markets: Collection[str]) -> "JournalledSession":
        """What of it concerns the named markets."""
        return replace(
            self,
            pnl={market: parts for market, parts in self.pnl.items() if market in markets},
            fills=[fill for fill in self.fills if fill.row.market in markets],
            funding=[payment for payment in self.funding if payment.market in markets],
        )


@dataclass(frozen=True, slots=True)
class JournalBooks:
    """What the sessions of one account say; `left_aside` counts those of others."""

    sessions: list[JournalledSession]
    left_aside: int = 0

    @property
    def fills(self) -> list[BookedFill]:
        """Fills of all sessions."""
        return [fill for session in self.sessions for fill in session.fills]

    @property
    def funding(self) -> list[FundingRow]:
        """Funding payments of all sessions."""
        return [payment for session in self.sessions for payment in session.funding]

    def only(self, markets: Collection[str]) -> "JournalBooks":
        """What of it concerns the named markets; all where none is named."""
        if not markets:
            return self
        return JournalBooks([session.only(markets) for session in self.sessions], self.left_aside)


# What comes of a record whose line is JSON and whose fields are not its kind's.
_MISSHAPEN = (KeyError, TypeError, AttributeError, ArithmeticError, ValueError)


def read_books(folder: Path, day: Day, whose: TradedAt) -> JournalBooks:
    """Read what the sessions in a folder say that were written to on a day or later.

    A fill may be noted after its day: by the session that finds it when it starts.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    JournalCorrupt
        At a damaged line that is not the last of its file.
    """
    if not folder.is_dir():
        raise FileNotFoundError(2, "expected a folder of journals, was none", str(folder))
    since_ns = day.start_ns - _CLOCK_SLACK_NS
    found = [read_session(files) for files in session_files(folder) if _last_ns(files[-1]) >= since_ns]
    ours = [session for session in found if session.is_of(whose)]
    return JournalBooks(sorted(ours, key=lambda session: session.begun_ns), len(found) - len(ours))


def read_session(files: list[Path]) -> JournalledSession:
    """Read the records of money of one session, whose files are given in order.

    Raises
    ------
    JournalCorrupt
        At a damaged line that is not the last of its file.
    """
    session = JournalledSession(files[0].stem.rpartition("-")[0], _first_ns(files[0]), _last_ns(files[-1]))
    steps: dict[str, tuple[Decimal, Decimal]] = {}
    for path in files:
        for record in _records(path):
            try:
                _take(session, record, steps)
            except _MISSHAPEN as error:
                kind = record["type"]
                msg = f"{path}: expected the fields of a {kind} record, was {record!s:.160} ({error!r})"
                raise JournalCorrupt(msg) from error
    return session


def _money(value: object) -> Decimal:
    amount = Decimal(str(value))
    if not amount.is_finite():
        msg = f"expected a finite amount, was {amount}"
        raise ValueError(msg)
    return amount


def _take(
    session: JournalledSession, record: dict[str, Any], steps: dict[str, tuple[Decimal, Decimal]]
) -> None:
    kind = record["type"]
    if kind == "fill":
        session.fills.append(_fill(record, steps))
    elif kind == "funding":
        session.funding.append(_payment(record, steps))
    elif kind == "session_start":
        steps |= {
            name: (_money(market["tick"]), _money(market["step"]))
            for name, market in record["markets"].items()
        }
        session.network = record["settings"]["settings"]["session"]["network"]["value"]
    elif kind == "session_stop":
        session.stopped = record["why"]
        session.pnl = _pnl(record["summary"])
    else:
        _take_note(session, kind, record)


def _take_note(session: JournalledSession, kind: str, record: dict[str, Any]) -> None:
    if kind == "account":
        session.account = record["account"]
    elif kind == "paper":
        session.is_paper = True
    elif kind == "dropped":
        session.dropped += record["count"]
    else:
        session.torn_lines += 1


def _pnl(summary: Mapping[str, Any]) -> dict[str, dict[str, Decimal]]:
    return {
        run["market"]: {part: _money(amount) for part, amount in run["pnl_usd"].items()}
        for run in summary.get("runs", ())
    }


def _fill(record: Mapping[str, Any], steps: Steps) -> BookedFill:
    tick, step = steps[record["market"]]
    ticks = record["price_ticks"]
    row = FillRow(
        market=record["market"],
        number=record["trade_id"],
        order_id=record["order_id"],
        side=Side[record["side"]],
        price=_EXACT.multiply(tick, ticks),
        size=_EXACT.multiply(step, record["size_lots"]),
        fee=_money(record["fee"]),
        is_taker=record["is_taker"],
        venue_ns=record["venue_ns"],
    )
    mid2_ticks = record.get("mid2_ticks") or 2 * ticks
    return BookedFill(row, _EXACT.divide(_EXACT.multiply(tick, mid2_ticks), _TWO))


def _payment(record: Mapping[str, Any], steps: Steps) -> FundingRow:
    return FundingRow(
        market=record["market"],
        number=record["payment_id"],
        size=_EXACT.multiply(steps[record["market"]][1], record["size_lots"]),
        mark_price=_money(record["mark_price"]),
        rate=_money(record["rate"]),
        amount=_money(record["amount"]),
        venue_ns=record["venue_ns"],
    )


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """Records of money of one file; a last line that was cut off comes as one of type `torn`."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                yield {"type": "torn"}
            elif line.startswith(_WANTED):
                yield _decoded(line, path, number)
            elif not line.startswith(_RECORD):
                raise _damaged(line, path, number)


def _decoded(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(line, path, number) from error


def _damaged(line: bytes, path: Path, number: int) -> JournalCorrupt:
    return JournalCorrupt(f"{path}:{number}: expected a JSON object, was {line[:_SHOWN_BYTES]!r}")


def _first_ns(path: Path) -> int:
    with path.open("rb") as file:
        return _instant(file.readline())


def _last_ns(path: Path) -> int:
    """Instant of the last whole record, ns; 0 where there is none."""
    with path.open("rb") as file:
        return max((_instant(line) for line in _tail(file)), default=0)


def _tail(file: BufferedReader) -> list[bytes]:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    return file.read().splitlines()


def _instant(line: bytes) -> int:
    try:
        return msgspec.json.decode(line, type=_Stamp).t
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0


class _Stamp(msgspec.Struct):
    t: int = 0
