"""Hosts a session wherever it takes place: its journal, its metrics, what is shown, and one end for all.

Where that is (the exchange inside, in virtual time, or an exchange behind sockets) is the caller's: a `Seat`.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from market_maker.account_share import AccountShare, Alone, LockedFiles
from market_maker.cli.loop_watch import LoopWatch
from market_maker.cli.process_figures import ProcessFigures
from market_maker.cli.view import SessionView
from market_maker.clock import Clock, Entropy
from market_maker.config import Config
from market_maker.config_sections import MetricsSettings, SessionSettings
from market_maker.gateway import Gateway, VenueError
from market_maker.grid import GridSettings, Strategy
from market_maker.journal_files import JournalFiles, JournalSettings
from market_maker.ladder_keeper import KeptLadders, kept_ladders
from market_maker.metrics import Metrics, MetricsServer, start_http_server
from market_maker.order_records import OrderSettings
from market_maker.past import Past, Whose, read_past
from market_maker.recordings.events import RecordingError
from market_maker.reference_feed import ReferenceFeed
from market_maker.resume_requests import ResumeRequests
from market_maker.session_report import fill_model_of, portfolio_of, summary_of, venue_of
from market_maker.strategy import MarketMakerStrategy, Outcome
from market_maker.summary import RunSummary, as_dict
from market_maker.surroundings import Surroundings, nobody_asks
from market_maker.trade_journal import (
    InlineSink,
    Sink,
    ThreadSink,
    TradeJournal,
)

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
Began = Callable[[MarketMakerStrategy], None]


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a session takes place.

    Parameters
    ----------
    account : str
        The account's id at the exchange.
    watch : LoopWatch or None
        Measures how long the event loop is held; None in virtual time, where nobody waits for it.
    began : callable
        Told of the strategy as soon as it exists.
    reference : ReferenceFeed or None
        Prices of an outside venue.
    has_past : bool
        The account outlives the session: what earlier ones left in the journal is of this account.
    """

    gateway: Gateway
    clock: Clock
    entropy: Entropy
    account: str
    watch: LoopWatch | None = None
    began: Began = lambda _strategy: None
    reference: ReferenceFeed | None = None
    has_past: bool = False


@dataclass(frozen=True, slots=True)
class AtEnd:
    """What the exchange says of the account at the end; `why_not` where it could not be asked."""

    equity: Decimal | None = None
    open_orders: int | None = None
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a session; `runs` is empty where it was stopped before it began.

    `journal_failed` is why the journal is not whole, None if it is. `failure` is what ended it, if it began
    and anything but the time or a wish to stop did. `unknown` counts what of the exchange's was not as
    documented, or left out; `loop` says how long the event loop was held.
    """

    outcome: Outcome
    runs: list[RunSummary]
    network: str
    account: str
    at_end: AtEnd
    journal: Path
    journal_failed: str | None = None
    failure: Exception | None = None
    unknown: Mapping[str, int] = field(default_factory=dict)
    loop: Mapping[str, object] | None = None


async def play_session(seat: Seat, config: Config, seconds: float | None, *, show: bool) -> Played:
    """Run a session to its end, and close the gateway and the feed of an outside venue.

    Raises
    ------
    VenueError, ForeignOrdersFound, OSError
        If it can not begin. What ends it later is in what is returned, beside the summary.
    """
    try:
        return await _played(seat, config, seconds, show=show)
    finally:
        if seat.reference is not None:
            await seat.reference.close()
        await seat.gateway.close()


async def _played(seat: Seat, config: Config, seconds: float | None, *, show: bool) -> Played:
    settings, clock = config.of(JournalSettings), seat.clock
    with ExitStack() as stack:
        files = JournalFiles("mm", settings, clock)
        journal = TradeJournal(_sink(seat, files, settings), clock)
        # In virtual time, where nobody watches the loop, everything happens in its turn.
        view = SessionView(files.path, clock, seconds, live=show, threaded=seat.watch is not None)
        stack.callback(lambda: view.check_journal(journal.failed))
        stack.callback(journal.close)
        metrics = Metrics()
        _serve(metrics, config.of(MetricsSettings), seat, stack)
        surroundings = Surroundings(
            seat.gateway,
            config,
            clock,
            seat.entropy,
            journal,
            metrics,
            seat.reference,
            _ladders(seat, config),
            _past(seat, config),
            _share(seat, config),
            _resumes(seat, files.path.parent),
        )
        try:
            outcome, failure = await _ended(surroundings, seat, seconds, view)
            at_end = await look_at_end(seat.gateway, outcome, config.of(OrderSettings))
            # The exchange inside stands still from here: its books are compared as they were looked at last.
            await seat.gateway.close()
            # What is left is to say how it went; that is not to be cut short.
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            runs = _runs(outcome, config, seat.gateway)
            summary: dict[str, object] = {"runs": [as_dict(run) for run in runs]}
            if outcome.strategy is not None:
                summary["portfolio"] = portfolio_of(outcome.strategy.session)
            journal.session_stop(outcome.why, summary, outcome.remaining)
            await view.end()
        finally:
            await view.close()
    return Played(
        outcome,
        runs,
        venue_of(config, seat.gateway),
        seat.account,
        at_end,
        files.path,
        journal.failed,
        failure,
        dict(seat.gateway.unknown),
        seat.watch.figures() if seat.watch is not None else None,
    )


def _serve(metrics: Metrics, settings: MetricsSettings, seat: Seat, stack: ExitStack) -> None:
    """Serve the metrics until the end, if they are wanted; in real time with those of the process."""
    if not settings.metrics_enabled:
        return
    if seat.watch is not None:
        figures = ProcessFigures(asyncio.get_running_loop())
        figures.begin(metrics.registry)
        stack.callback(figures.end)
    stack.callback(_metrics_server(metrics, settings).close)


def _metrics_server(metrics: Metrics, settings: MetricsSettings) -> MetricsServer:
    token = settings.metrics_token.reveal()
    return start_http_server(metrics, settings.metrics_port, settings.metrics_host, token)


def _ladders(seat: Seat, config: Config) -> KeptLadders:
    """Ladders that earlier sessions left at this venue."""
    markets = [
        name
        for name in config.of(SessionSettings).markets
        if config.of(GridSettings, name).strategy == Strategy.GRID
    ]
    venue = venue_of(config, seat.gateway)
    folder = Path(config.of(JournalSettings).journal_dir)
    return kept_ladders(folder, venue, markets, seat.clock.now_ns()) if markets else KeptLadders(venue)


def _whose(seat: Seat, config: Config) -> Whose:
    return Whose(venue_of(config, seat.gateway), seat.account, config.of(OrderSettings).order_id_prefix)


def _past(seat: Seat, config: Config) -> Past:
    """What earlier sessions of the same bot left at this venue."""
    if not seat.has_past:
        return Past()
    return read_past(Path(config.of(JournalSettings).journal_dir), _whose(seat, config))


def _share(seat: Seat, config: Config) -> AccountShare:
    """The other bots of this machine in the account."""
    if not seat.has_past:
        return Alone()
    settings = config.of(JournalSettings)
    return LockedFiles(Path(settings.state_dir or settings.journal_dir), _whose(seat, config))


def _resumes(seat: Seat, folder: Path) -> Callable[[], str | None]:
    """Where `mm resume` asks; nobody asks a session in virtual time."""
    if seat.watch is None:
        return nobody_asks
    requests = ResumeRequests(folder, os.getpid())
    # Of a process that had our id before.
    requests.drop()
    return requests.take


def _sink(seat: Seat, files: JournalFiles, settings: JournalSettings) -> Sink:
    # A write to the disk may take a while; in virtual time it takes none, and its order is always the same.
    inputs = files.inputs()
    return InlineSink(files, inputs) if seat.watch is None else ThreadSink(files, settings, inputs)


async def _ended(
    surroundings: Surroundings, seat: Seat, seconds: float | None, view: SessionView
) -> tuple[Outcome, Exception | None]:
    """Run the strategy to its end; a failure after it began is kept for later, and summed up like any."""

    def begin(strategy: MarketMakerStrategy) -> None:
        # Whose fills these are: one folder may hold the journals of several accounts.
        venue = venue_of(surroundings.config, seat.gateway)
        surroundings.journal.keep("account", {"venue": venue, "account": seat.account})
        view.begin(strategy)
        seat.began(strategy)
        if seat.watch is not None:
            # What is there by now stays: no collection is to look through it while orders are open.
            gc.collect()
            gc.freeze()
            seat.watch.begin()

    try:
        return await MarketMakerStrategy.run(surroundings, seconds, begin), None
    except (VenueError, RecordingError) as error:
        strategy = view.strategy
        if strategy is None:
            raise
        remaining = tuple(order.external_id for order in strategy.orders.working())
        return Outcome(strategy.stop.why or str(error), remaining, strategy), error
    finally:
        gc.unfreeze()
        if seat.watch is not None:
            seat.watch.end()


async def look_at_end(gateway: Gateway, outcome: Outcome, orders: OrderSettings) -> AtEnd:
    """Tell the account's money and our open orders as the exchange has them; ask, if need be.

    A session that ended well has compared both a moment ago; a later look would be at other marks.
    """
    strategy = outcome.strategy
    if strategy is not None and strategy.books_agree and not outcome.remaining:
        return AtEnd(strategy.equity_at_end, 0)
    try:
        ours = [report for report in await gateway.open_orders() if orders.owns(report.external_id)]
        return AtEnd((await gateway.balance()).equity, len(ours))
    except VenueError as error:
        return AtEnd(why_not=str(error))


def _runs(outcome: Outcome, config: Config, gateway: Gateway) -> list[RunSummary]:
    strategy = outcome.strategy
    if strategy is None:
        return []
    return summary_of(strategy.session, strategy.orders, fill_model_of(config, gateway))
