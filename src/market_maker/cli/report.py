"""The end of a session: its summary, what the exchange says of the account, the journal."""

from rich.console import Console
from rich.text import Text

from market_maker.cli.app import ExitCode
from market_maker.cli.host import Played
from market_maker.config_sections import DeadMansSwitchSettings, SessionSettings
from market_maker.kill_ladder import Step
from market_maker.session import Session
from market_maker.strategy import MarketMakerStrategy
from market_maker.summary import money, summary_table, to_json


def print_report(played: Played, *, as_json: bool) -> ExitCode:
    """Print the summary.

    KILLED where the kill ladder ended the session.
    FAILED where an order may be open, the books differ from the exchange's, or the journal is not whole.
    """
    account = _account(played)
    if as_json:
        print(to_json(played.runs, account))
    else:
        console = Console()
        if played.runs:
            console.print(summary_table(played.runs))
        console.print(_closing(played, account), soft_wrap=True)
    strategy = played.outcome.strategy
    if strategy is None:
        return ExitCode.INTERRUPTED
    if strategy.session.standing.step == Step.STOP:
        return ExitCode.KILLED
    return ExitCode.OK if _is_sound(played, strategy) else ExitCode.FAILED


def _is_sound(played: Played, strategy: MarketMakerStrategy) -> bool:
    return not played.outcome.remaining and strategy.books_agree and played.journal_failed is None


def _account(played: Played) -> dict[str, object]:
    """What our ledger and the exchange say of the account at the end; None where nobody could tell."""
    strategy, at_end = played.outcome.strategy, played.at_end
    account: dict[str, object] = {
        "network": played.network,
        "account_id": played.account,
        "exchange_equity_usd": None if at_end.equity is None else money(at_end.equity),
        "open_orders": at_end.open_orders,
        "stopped_by": played.outcome.why,
    }
    if at_end.why_not:
        account["not_verified"] = at_end.why_not
    if strategy is None:
        return account
    account |= {
        "ledger_equity_usd": money(strategy.equity_at_end),
        "equal": None if at_end.equity is None else strategy.books_agree,
        "stop_action": strategy.session.config.of(SessionSettings).stop_action.value,
        "positions": _positions(strategy.session),
        "kill_ladder": _ladder(strategy.session),
        "unknown": dict(played.unknown),
        "journal": str(played.journal),
        "journal_failed": played.journal_failed,
    }
    return account if played.loop is None else {**account, "loop": played.loop}


def _ladder(session: Session) -> dict[str, str]:
    """Where the kill ladder stood at the end, and what of that is latched."""
    standing = session.standing
    return {"step": standing.step.name, "cause": standing.cause.name, "latched": standing.latch.name}


def _positions(session: Session) -> dict[str, str]:
    """Size of the position that is left, by market."""
    lots = {name: session.ledger.position_lots(name) for name in session.desks}
    return {name: f"{session.desks[name].instrument.size(left):f}" for name, left in lots.items() if left}


def _closing(played: Played, account: dict[str, object]) -> Text:
    strategy, where = played.outcome.strategy, f"{played.network}, account {played.account}"
    if strategy is None:
        what = f"Stopped ({played.outcome.why}) before it quoted on {where}; no order was placed."
        return Text(what + _of_before(played), style="yellow")
    lines = [
        f"Ended on {where}: {played.outcome.why}.",
        _open_orders(strategy, played),
        _equity(strategy, account),
    ]
    left = ", ".join(f"{size} {name}" for name, size in _positions(strategy.session).items())
    lines.append(f"Position left: {left or 'none'} (stop_action {account['stop_action']}).")
    if strategy.session.standing.latch:
        ladder = _ladder(strategy.session)
        lines.append(f"Kill ladder: {ladder['latched']} for {ladder['cause']}, latched; mm resume lifts it.")
    if played.outcome.remaining:
        lines.append(f"May still be open: {', '.join(played.outcome.remaining)}")
        lines.append(_what_to_do(strategy.session))
    if played.unknown:
        words = ", ".join(f"{word} {count}" for word, count in sorted(played.unknown.items()))
        lines.append(f"Not as documented, or left out: {words}")
    lines.append(f"Journal: {played.journal}")
    if played.journal_failed is not None:
        lines.append(f"The journal is NOT WHOLE: {played.journal_failed}")
    return Text("\n".join(lines), style="" if _is_sound(played, strategy) else "bold red")


def _of_before(played: Played) -> str:
    """What is known of an earlier run's orders, where this one ended before it looked for them."""
    count = played.at_end.open_orders
    if not played.outcome.remaining or count == 0:
        return ""
    found = "may be open" if count is None else f"that are open: {count}"
    return f"\nOrders of an earlier run {found}; mm cancel-all cancels them."


def _what_to_do(session: Session) -> str:
    switch = session.config.of(DeadMansSwitchSettings)
    falls = f"The dead man's switch cancels them within {switch.dead_man_countdown_s:g} s"
    return (
        f"{falls if switch.dead_man_enabled else 'Nothing cancels them'}; mm cancel-all cancels and verifies."
    )


def _open_orders(strategy: MarketMakerStrategy, played: Played) -> str:
    where = "on paper" if strategy.session.gateway.simulated else "at the exchange"
    if played.at_end.open_orders is None:
        return f"Open orders {where}: NOT VERIFIED ({played.at_end.why_not})."
    return f"Open orders {where}: {played.at_end.open_orders}."


def _equity(strategy: MarketMakerStrategy, account: dict[str, object]) -> str:
    ours, theirs = account["ledger_equity_usd"], account["exchange_equity_usd"]
    whose = "the paper account's" if strategy.session.gateway.simulated else "the exchange's"
    if theirs is None:
        return f"Equity: ours {ours}, {whose} NOT VERIFIED."
    verdict = "equal, to the last digit" if strategy.books_agree else "DIFFERENT"
    return f"Equity: ours {ours}, {whose} {theirs}: {verdict}."
