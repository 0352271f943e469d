"""An exchange from what it is to trade: generated markets by scenario and seed, or a recording."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from market_maker.emulator.exchange import Exchange
from market_maker.emulator.flow import Flow
from market_maker.emulator.recorded_flow import build_recorded_flows
from market_maker.emulator.rules import ExchangeRules
from market_maker.emulator.scenarios import build_flows, instruments
from market_maker.instrument import Instrument

_USUAL: Final = ExchangeRules()


@dataclass(frozen=True, slots=True)
class MarketSource:
    """What an exchange trades.

    Parameters
    ----------
    markets : sequence of str
        Names; empty for all that a recording has.
    scenario : str
        Generated market, where nothing recorded is followed.
    seed : int
        Of the generated market and of the exchange's latencies.
    recording : Path or None
        Recorded market to follow instead, from `offset_s` on, for `seconds` (None: to its end).
    """

    markets: Sequence[str]
    scenario: str = "mixed"
    seed: int = 1
    recording: Path | None = None
    offset_s: float = 0.0
    seconds: float | None = None


def build_exchange(source: MarketSource, start_ns: int, rules: ExchangeRules = _USUAL) -> Exchange:
    """Open an exchange at an instant; the same source and instant make the same exchange.

    Raises
    ------
    UnknownScenario, UnknownMarket, RecordingError
        If the source does not exist, or can not be read.
    """
    listed, flows = _markets(source, start_ns)
    return Exchange(listed, flows, rules, np.random.default_rng([source.seed, 1]), start_ns)


def _markets(source: MarketSource, start_ns: int) -> tuple[list[Instrument], list[Flow]]:
    if source.recording is None:
        names = source.markets
        return instruments(names), build_flows(source.scenario, names, source.seed, start_ns)
    return build_recorded_flows(
        source.recording, source.markets, start_ns, offset_s=source.offset_s, duration_s=source.seconds
    )
