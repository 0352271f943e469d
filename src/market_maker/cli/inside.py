"""Hosts a session on the exchange inside the process, in virtual time.

The event loop's time stands still while code runs, so the same seed takes the same steps however fast the
machine is; a pace only waits each jump out.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from market_maker.cli.host import Played, Seat, play_session
from market_maker.cli.play import HOUR_S, Play
from market_maker.clock import Entropy, LoopClock
from market_maker.config import Config
from market_maker.config_sections import SessionSettings
from market_maker.domain import NS_PER_S
from market_maker.emulator.assembly import MarketSource, build_exchange
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.faults import parse_fault
from market_maker.emulator.rules import ExchangeRules, MoneyRules
from market_maker.emulator.scenarios import market_names
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.exchanges.replies import decode_markets
from market_maker.exchanges.wire import Unknown
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.public_markets import Listing

# 2026-01-05 00:00 UTC: virtual sessions begin there, so that a seed repeats to the byte.
VIRTUAL_START_NS: Final = 1_767_571_200 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Inside:
    """What came of a session on the exchange inside, and that exchange as it stood still at the end."""

    played: Played
    exchange: Exchange
    account_id: int


def listings_inside(seed: int = 1) -> list[Listing]:
    """Markets of the exchange inside as it lists them, after a minute of its life."""
    exchange = build_exchange(MarketSource(market_names(), seed=seed), VIRTUAL_START_NS)
    exchange.advance(VIRTUAL_START_NS + 60 * NS_PER_S)
    return list(decode_markets(exchange.queries.instruments(), Unknown()).values())


def run_inside(config: Config, play: Play, *, show: bool) -> Inside:
    """Run a session on the exchange inside.

    Raises
    ------
    VenueError, RecordingError, UnknownScenario, UnknownMarket, FaultError, OSError
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
    rules = ExchangeRules(money=MoneyRules(funding_speedup=HOUR_S / play.funding_every_s))
    exchange = build_exchange(source, clock.now_ns(), rules)
    exchange.plan_faults([parse_fault(fault) for fault in play.faults])
    account_id = exchange.add_account(play.deposit)
    driver = ExchangeDriver(exchange, clock)
    driver.start()
    seat = Seat(InProcessGateway(driver, account_id), clock, Entropy(play.seed), str(account_id))
    return Inside(await play_session(seat, config, play.seconds, show=show), exchange, account_id)
