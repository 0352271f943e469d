"""Before real money is at stake: what is about to trade, and a word that nobody types by accident."""

import asyncio
import sys
from decimal import Decimal
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from market_maker.config import Config
from market_maker.config_sections import SessionSettings
from market_maker.pricing_engine import QuoteSettings
from market_maker.risk_manager import RiskSettings

WORD: Final = "mainnet"


class NotConfirmed(Exception):
    """Nobody confirmed that real money is to be traded."""


async def confirm(config: Config, account: str, equity: Decimal, given: str | None) -> None:
    """Show what is about to trade, and ask for the word; to be called before anything is sent.

    Parameters
    ----------
    given : str or None
        The word from the command line, for a start that nobody attends; None asks at the terminal.

    Raises
    ------
    NotConfirmed
        If the word is another, or there is none.
    """
    console = Console(stderr=True)
    console.print(_about(config, account, equity))
    if given is None:
        console.print(Text(f"Type {WORD} to trade, anything else to leave: ", style="bold red"), end="")
        # On a thread, so that a signal is met while we wait.
        typed = await asyncio.to_thread(sys.stdin.readline)
    else:
        typed = given
    check_word(typed)


def check_word(typed: str) -> None:
    """Fail unless it is the word.

    Raises
    ------
    NotConfirmed
        If it is another, or empty.
    """
    if typed.strip() != WORD:
        # What was typed may have been meant for another prompt.
        was = "something else" if typed.strip() else "nothing"
        msg = f"expected {WORD} to be typed (or --confirm {WORD}), was {was}; nothing was sent"
        raise NotConfirmed(msg)


def _about(config: Config, account: str, equity: Decimal) -> Table:
    settings = config.of(SessionSettings)
    title = f"REAL MONEY: network {settings.network.value}, account {account}, equity {equity:,.2f} USD"
    table = Table(title=Text(title, style="bold white on red"), title_justify="left")
    table.add_column("market")
    for heading in ("levels a side", "level size USD", "max position USD", "max order USD"):
        table.add_column(heading, justify="right")
    for market in settings.markets:
        quote, risk = config.of(QuoteSettings, market), config.of(RiskSettings, market)
        limits = (risk.max_position_notional_usd, risk.max_order_notional_usd)
        table.add_row(market, str(quote.num_levels), f"{quote.level_size_usd:,.2f}", *map(_limit, limits))
    risk = config.of(RiskSettings)
    whole = {
        "gross": risk.max_gross_notional_usd,
        "loss of a day": risk.max_day_loss_usd,
        "drawdown": risk.max_drawdown_usd,
    }
    limits_text = ", ".join(f"{name} {_limit(limit)}" for name, limit in whole.items())
    table.caption = f"Account as a whole, USD: {limits_text}. At a stop: {settings.stop_action.value}."
    return table


def _limit(usd: float | Decimal) -> str:
    return f"{usd:,.0f}" if usd else "no limit"
