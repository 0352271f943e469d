"""What a session needs from outside."""

from dataclasses import dataclass, field

from market_maker.clock import Clock, Entropy
from market_maker.config import Config
from market_maker.gateway import Gateway
from market_maker.ladder_keeper import KeptLadders
from market_maker.metrics import Metrics
from market_maker.past import Past
from market_maker.reference_feed import ReferenceFeed
from market_maker.trade_journal import TradeJournal


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
