"""What must hold of the books: the bot's, its journals', and the exchange's, once nothing is under way."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from market_maker.config_sections import SessionSettings, StopAction
from market_maker.emulator.accounts import Account
from market_maker.emulator.exchange import Exchange
from market_maker.faultsim.life import Life
from market_maker.journal_files import JOURNAL_SUFFIX
from market_maker.trade_journal import JournalCorrupt, read_journal

CANARY: Final = "canary-5f0e7c1d9b"
Report = Callable[[str, str], None]
_NAMED: Final = 3


def journal_files(folder: Path) -> list[Path]:
    """Files of all lives, in order."""
    return sorted(folder.glob(f"*{JOURNAL_SUFFIX}"))


def journals_sha256(folder: Path) -> str:
    """SHA-256 of all that is in a folder's journals, but for where that folder is."""
    digest = hashlib.sha256()
    for path in journal_files(folder):
        digest.update(path.read_bytes().replace(str(folder).encode(), b""))
    return digest.hexdigest()


def check_life(exchange: Exchange, account: Account, life: Life, report: Report) -> None:
    """The books of a life that ended in order: they add up, and are the exchange's to the last digit."""
    strategy = life.strategy
    if strategy is None:
        return
    check_identity(life, report)
    if not strategy.books_agree:
        report("books", f"not settled at the end: {strategy.stop.why}")
        return
    equity = exchange.equity(account.account_id)
    if strategy.equity_at_end != equity:
        report("books", f"equity {strategy.equity_at_end} USD at the end, the exchange's was {equity}")
    flattens = strategy.session.config.of(SessionSettings).stop_action is StopAction.FLATTEN
    for name, desk in strategy.session.desks.items():
        check_position(account, life, name, report)
        left = account.position_lots(name)
        # What is smaller than the smallest order can not be closed.
        if flattens and abs(left) >= desk.instrument.min_lots and not strategy.stop.hurried.is_set():
            report("flat", f"{name}: {left} lots are left after the end")


def check_position(account: Account, life: Life, market: str, report: Report) -> None:
    """The position by our fills is the one at the exchange."""
    strategy = life.strategy
    if strategy is not None:
        ours, theirs = strategy.session.ledger.position_lots(market), account.position_lots(market)
        if ours != theirs:
            report("position", f"{market}: {ours} lots by our fills, {theirs} at the exchange")


def check_identity(life: Life, report: Report) -> None:
    """The parts of the profit add up to the change of equity."""
    strategy = life.strategy
    if strategy is None:
        return
    ledger = strategy.session.ledger
    for name in strategy.session.desks:
        parts, change = ledger.attribution(name), ledger.change_of_equity(name)
        if parts.total + parts.basis != change:
            report(
                "identity", f"{name}: parts {parts.total} + basis {parts.basis}, equity changed by {change}"
            )
    changes = sum(ledger.change_of_equity(name) for name in strategy.session.desks)
    if ledger.equity() - strategy.session.start_equity != changes:
        report(
            "identity", f"equity changed by {ledger.equity() - strategy.session.start_equity}, not {changes}"
        )


def check_journals(account: Account, folder: Path, report: Report) -> None:
    """Every fill of the exchange stands in the journals once, whatever became of process and disk."""
    seen: Counter[tuple[int, str]] = Counter()
    for record in _records(folder, report):
        if record["type"] == "fill":
            seen[int(record["trade_id"]), record["side"]] += 1
    known = {(trade.trade_id, trade.side.name) for trade in account.trades}
    missing = sorted(known - seen.keys())
    for what, wrong in (
        ("are in no journal", missing),
        ("are in the journals twice", [key for key, count in seen.items() if count > 1]),
        ("are in the journals alone", [key for key in seen if key not in known]),
    ):
        if wrong:
            report("journal", f"{len(wrong)} fills {what}, such as {wrong[:_NAMED]}")


def _records(folder: Path, report: Report) -> Iterable[dict[str, Any]]:
    for path in journal_files(folder):
        if CANARY.encode() in path.read_bytes():
            report("secret", f"the key stands in {path.name}")
        try:
            yield from read_journal(path)
        except JournalCorrupt as error:
            report("journal", str(error).replace(str(folder), ""))
