"""What a session needs from outside."""

from collections.abc import Callable
from dataclasses import dataclass, field

from market_maker.account_share import AccountShare, Alone
from market_maker.clock import Clock, Entropy
from market_maker.config import Config
from market_maker.gateway import Gateway
from market_maker.ladder_keeper import KeptLadders
from market_maker.metrics import Metrics
from market_maker.past import Past
from market_maker.reference_feed import ReferenceFeed
from market_maker.trade_journal import TradeJournal


def nobody_asks() -> str | None:
    """Say that nobody wants anything resumed."""
    return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a session needs from outside: exchange, settings, time, randomness, journal, metrics.

    Parameters
    ----------
    reference : ReferenceFeed or None
        Prices of an outside venue; whoever made it closes it.
    ladders : KeptLadders
        Ladders of earlier sessions, to go on with.
    past : Past
        What earlier sessions of this bot left, and which bot it is.
    share : AccountShare
        The other bots in the account.
    resume_asked : callable
        Why somebody wants the kill ladder's latch lifted, once for each wish; None while nobody does.
    """

    gateway: Gateway
    config: Config
    clock: Clock
    entropy: Entropy
    journal: TradeJournal
    metrics: Metrics = field(default_factory=Metrics)
    reference: ReferenceFeed | None = None
    ladders: KeptLadders = field(default_factory=KeptLadders)
    past: Past = field(default_factory=Past)
    share: AccountShare = field(default_factory=Alone)
    resume_asked: Callable[[], str | None] = nobody_asks
