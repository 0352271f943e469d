"""Hosts a session on the exchange inside the process, in virtual time.

The event loop's time stands still while code runs, so the same seed takes the same steps however fast the
machine is; a pace only waits each jump out.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from market_maker.cli.host import Played, Seat, play_session
from market_maker.clock import Entropy, LoopClock
from market_maker.config import Config
from market_maker.config_sections import SessionSettings
from market_maker.domain import NS_PER_S
from market_maker.emulator.assembly import MarketSource, build_exchange
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.rules import ExchangeRules, MoneyRules
from market_maker.emulator.scenarios import market_names
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.exchanges.replies import decode_markets
from market_maker.exchanges.wire import Unknown
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.public_markets import Listing
from market_maker.recordings.discovery import open_recording

# 2026-01-05 00:00 UTC: virtual sessions begin there, so that a seed repeats to the byte.
VIRTUAL_START_NS: Final = 1_767_571_200 * NS_PER_S
_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Play:
    """What is played on an emulated exchange.

    Parameters
    ----------
    seconds : float or None
        How long to quote; None: until stopped.
    speed : float
        Seconds of the market in a second; 0 as fast as the machine goes.
    recording : Path or None
        Recorded market to follow instead of the generated scenario, from `offset_s` on.
    funding_every_s : float
        Time between two funding payments; 3600 on the exchange.
    faults : sequence of str
        Faults of the exchange as `parse_fault` reads them.
    """

    seconds: float | None
    scenario: str
    seed: int
    speed: float = 0.0
    recording: Path | None = None
    offset_s: float = 0.0
    deposit: Decimal = Decimal(10_000)
    funding_every_s: float = _HOUR_S
    faults: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Inside:
    """What came of a session on the exchange inside, and that exchange as it stood still at the end."""

    played: Played
    exchange: Exchange
    account_id: int


def markets_of(recording: Path | None, wanted: Sequence[str]) -> tuple[str, ...]:
    """Markets to quote where none is named: those of the recording, else those wanted."""
    return tuple(wanted) if recording is None else tuple(open_recording(recording).markets)


def listings_inside(seed: int = 1) -> list[Listing]:
    """Markets of the exchange inside as it lists them, after a minute of its life."""
    exchange = build_exchange(MarketSource(market_names(), seed=seed), VIRTUAL_START_NS)
    exchange.advance(VIRTUAL_START_NS + 60 * NS_PER_S)
    return list(decode_markets(exchange.queries.instruments(), Unknown()).values())


def run_inside(config: Config, play: Play, *, show: bool) -> Inside:
    """Run a session on the exchange inside.

    Raises
    ------
    VenueError, RecordingError, UnknownScenario, UnknownMarket, OSError
        If it can not begin. What ends it later is in what is returned, beside the summary.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(play.speed)) as runner:
        return runner.run(_run(config, play, show=show))


async def _run(config: Config, play: Play, *, show: bool) -> Inside:
    clock = LoopClock(asyncio.get_running_loop(), VIRTUAL_START_NS)
    source = MarketSource(
        markets=config.of(SessionSettings).markets,
        scenario=play.scenario,
        seed=play.seed,
        recording=play.recording,
        offset_s=play.offset_s,
        seconds=play.seconds,
    )
    rules = ExchangeRules(money=MoneyRules(funding_speedup=_HOUR_S / play.funding_every_s))
    exchange = build_exchange(source, clock.now_ns(), rules)
    account_id = exchange.add_account(play.deposit)
    driver = ExchangeDriver(exchange, clock)
    driver.start()
    seat = Seat(InProcessGateway(driver, account_id), clock, Entropy(play.seed), str(account_id))
    return Inside(await play_session(seat, config, play.seconds, show=show), exchange, account_id)
