"""The end of a session on the exchange inside: its summary, what the exchange's books say, the journal."""

from rich.console import Console
from rich.text import Text

from market_maker.cli.app import ExitCode
from market_maker.cli.host import Played
from market_maker.config_sections import SessionSettings
from market_maker.session import Session
from market_maker.strategy import MarketMakerStrategy
from market_maker.summary import money, summary_table, to_json


def print_report(played: Played, *, as_json: bool) -> ExitCode:
    """Print the summary.

    FAILED where an order may be open, the books differ from the exchange's, or the journal is not whole.
    """
    account = _account(played)
    if as_json:
        print(to_json(played.runs, account))
    else:
        console = Console()
        if played.runs:
            console.print(summary_table(played.runs))
        console.print(_closing(played, account))
    strategy = played.outcome.strategy
    if strategy is None:
        return ExitCode.INTERRUPTED
    return ExitCode.OK if _is_sound(played, strategy) else ExitCode.FAILED


def _is_sound(played: Played, strategy: MarketMakerStrategy) -> bool:
    return not played.outcome.remaining and strategy.books_agree and played.journal_failed is None


def _account(played: Played) -> dict[str, object]:
    """What our ledger and the exchange's books say of the account at the end."""
    exchange, strategy = played.exchange, played.outcome.strategy
    open_orders = len(exchange.account(played.account_id).open)
    equity = {"exchange_equity_usd": money(exchange.equity(played.account_id))}
    if strategy is None:
        return {**equity, "stopped_by": played.outcome.why, "open_orders": open_orders}
    return {
        "ledger_equity_usd": money(strategy.equity_at_end),
        **equity,
        "equal": strategy.books_agree,
        "open_orders": open_orders,
        "stopped_by": played.outcome.why,
        "stop_action": strategy.session.config.of(SessionSettings).stop_action.value,
        "positions": _positions(strategy.session),
        "journal": str(played.journal),
        "journal_failed": played.journal_failed,
    }


def _positions(session: Session) -> dict[str, str]:
    """Size of the position that is left, by market."""
    lots = {name: session.ledger.position_lots(name) for name in session.desks}
    return {name: f"{session.desks[name].instrument.size(left):f}" for name, left in lots.items() if left}


def _closing(played: Played, account: dict[str, object]) -> Text:
    strategy = played.outcome.strategy
    if strategy is None:
        return Text(f"Stopped ({played.outcome.why}) before it quoted; nothing was sent.", style="yellow")
    lines = [f"Ended: {played.outcome.why}. Open orders at the exchange: {account['open_orders']}."]
    verdict = "equal, to the last digit" if strategy.books_agree else "DIFFERENT"
    lines.append(
        f"Equity: ours {account['ledger_equity_usd']},"
        f" the exchange's {account['exchange_equity_usd']}: {verdict}."
    )
    left = ", ".join(f"{size} {name}" for name, size in _positions(strategy.session).items())
    lines.append(f"Position left: {left or 'none'} (stop_action {account['stop_action']}).")
    if played.outcome.remaining:
        lines.append(f"May still be open: {', '.join(played.outcome.remaining)}")
    lines.append(f"Journal: {played.journal}")
    if played.journal_failed is not None:
        lines.append(f"The journal is NOT WHOLE: {played.journal_failed}")
    return Text("\n".join(lines), style="" if _is_sound(played, strategy) else "bold red")
