"""Runs a session on the exchange inside: which loop, which clock, which market, what is shown meanwhile.

At speed 1 it lives in real time. At any other speed the event loop's time is virtual: it stands still while
code runs, so the same seed takes the same steps however fast the machine is.
"""

import asyncio
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np
import uvloop

from market_maker.cli.view import SessionView
from market_maker.clock import Clock, Entropy, LoopClock, SystemClock
from market_maker.config import Config
from market_maker.config_sections import MetricsSettings, SessionSettings
from market_maker.domain import NS_PER_S
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.flow import Flow
from market_maker.emulator.recorded_flow import build_recorded_flows
from market_maker.emulator.rules import ExchangeRules, MoneyRules
from market_maker.emulator.scenarios import build_flows, instruments, market_names
from market_maker.exchanges.in_process import InProcessGateway, InProcessVenue
from market_maker.exchanges.replies import decode_markets
from market_maker.exchanges.wire import Unknown
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.gateway import VenueError
from market_maker.instrument import Instrument
from market_maker.metrics import Metrics, start_http_server
from market_maker.public_markets import Listing
from market_maker.recordings.discovery import open_recording
from market_maker.recordings.events import RecordingError
from market_maker.session import Surroundings
from market_maker.session_report import summary_of
from market_maker.strategy import MarketMakerStrategy, Outcome
from market_maker.summary import RunSummary, as_dict
from market_maker.trade_journal import InlineSink, JournalFiles, JournalSettings, ThreadSink, TradeJournal

# 2026-01-05 00:00 UTC: virtual sessions begin there, so that a seed repeats to the byte.
VIRTUAL_START_NS: Final = 1_767_571_200 * NS_PER_S
_HOUR_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Play:
    """What is played on the exchange inside.

    Parameters
    ----------
    seconds : float or None
        How long to quote; None: until stopped.
    speed : float
        Seconds of the market in a second; 1 is real time, 0 as fast as the machine goes.
    recording : Path or None
        Recorded market to follow instead of the generated scenario, from `offset_s` on.
    funding_every_s : float
        Time between two funding payments; 3600 on the exchange.
    """

    seconds: float | None
    scenario: str
    seed: int
    speed: float = 1.0
    recording: Path | None = None
    offset_s: float = 0.0
    deposit: Decimal = Decimal(10_000)
    funding_every_s: float = _HOUR_S


@dataclass(frozen=True, slots=True)
class Played:
    """What came of it; `runs` is empty where it was stopped before it began.

    `journal_failed` is why the journal is not whole, None if it is. `failure` is what ended it, if it began
    and anything but the time or a wish to stop did.
    """

    outcome: Outcome
    runs: list[RunSummary]
    exchange: Exchange
    account_id: int
    journal: Path
    journal_failed: str | None = None
    failure: Exception | None = None


def markets_of(play: Play, wanted: Sequence[str]) -> tuple[str, ...]:
    """Markets that a play has, where none is named: those of the recording, else those wanted."""
    if play.recording is None:
        return tuple(wanted)
    return tuple(open_recording(play.recording).markets)


def listings_inside(seed: int = 1) -> list[Listing]:
    """Markets of the exchange inside as it lists them, after a minute of its life."""
    names, end_ns = market_names(), VIRTUAL_START_NS + 60 * NS_PER_S
    flows = build_flows("mixed", names, seed, VIRTUAL_START_NS)
    rng = np.random.default_rng([seed, 1])
    exchange = Exchange(instruments(names), flows, ExchangeRules(), rng, VIRTUAL_START_NS)
    exchange.advance(end_ns)
    return list(decode_markets(exchange.queries.instruments(), Unknown()).values())


def run_inside(config: Config, play: Play, *, show: bool) -> Played:
    """Run a session on the exchange inside.

    Raises
    ------
    VenueError, RecordingError, UnknownScenario, UnknownMarket, OSError
        If it can not begin. What ends it later is in what is returned, beside the summary.
    """
    real = play.speed == 1.0
    factory: Callable[[], asyncio.AbstractEventLoop]
    factory = uvloop.new_event_loop if real else lambda: VirtualTimeLoop(play.speed)
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_play(config, play, show=show))


def _markets(config: Config, play: Play, start_ns: int) -> tuple[list[Instrument], list[Flow]]:
    wanted = config.of(SessionSettings).markets
    if play.recording is None:
        return instruments(wanted), build_flows(play.scenario, wanted, play.seed, start_ns)
    return build_recorded_flows(
        play.recording, wanted, start_ns, offset_s=play.offset_s, duration_s=play.seconds
    )


async def _play(config: Config, play: Play, *, show: bool) -> Played:
    real = play.speed == 1.0
    clock: Clock = SystemClock() if real else LoopClock(asyncio.get_running_loop(), VIRTUAL_START_NS)
    start_ns = clock.now_ns()
    listed, flows = _markets(config, play, start_ns)
    rules = ExchangeRules(money=MoneyRules(funding_speedup=_HOUR_S / play.funding_every_s))
    exchange = Exchange(listed, flows, rules, np.random.default_rng([play.seed, 1]), start_ns)
    account_id = exchange.add_account(play.deposit)
    venue = InProcessVenue(exchange, clock)
    settings = config.of(JournalSettings)
    files = JournalFiles("mm", settings, clock)
    journal = TradeJournal(ThreadSink(files, settings) if real else InlineSink(files), clock)
    view = SessionView(Path(settings.journal_dir), files.path, clock, play.seconds, live=show)
    metrics, served = Metrics(), config.of(MetricsSettings)
    server = start_http_server(metrics, served.metrics_port) if served.metrics_enabled else None
    venue.start()
    try:
        gateway = InProcessGateway(venue, account_id)
        surroundings = Surroundings(gateway, config, clock, Entropy(play.seed), journal, metrics)
        outcome, failure = await _ended(surroundings, play, view)
        # The exchange stands still from here: its books are compared with ours as they were looked at last.
        venue.close()
        # What is left is to say how it went; that is not to be cut short.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        runs = _runs(outcome, config)
        journal.session_stop(outcome.why, {"runs": [as_dict(run) for run in runs]})
        view.end()
    finally:
        await view.close()
        venue.close()
        journal.close()
        view.check_journal(journal.failed)
        if server is not None:
            server.close()
    return Played(outcome, runs, exchange, account_id, files.path, journal.failed, failure)


async def _ended(
    surroundings: Surroundings, play: Play, view: SessionView
) -> tuple[Outcome, Exception | None]:
    """Run the strategy to its end; a failure after it began is kept for later, and summed up like any."""
    try:
        return await MarketMakerStrategy.run(surroundings, play.seconds, view.begin), None
    except (VenueError, RecordingError) as error:
        strategy = view.strategy
        if strategy is None:
            raise
        remaining = tuple(order.external_id for order in strategy.orders.working())
        return Outcome(strategy.stop.why or str(error), remaining, strategy), error


def _runs(outcome: Outcome, config: Config) -> list[RunSummary]:
    strategy = outcome.strategy
    if strategy is None:
        return []
    return summary_of(strategy.session, strategy.orders, config.of(SessionSettings).network.value)
