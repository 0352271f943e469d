"""One life of the trading process: from its start to its end, or to the instant at which it is killed.

Everything above the gateway and the disk is the real shell. Kill -9 runs no line of it any more: from then on
its gateway and its journal are dead, so that whatever its tasks still do while they are taken away reaches
nobody.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from market_maker.clock import Entropy
from market_maker.config import Config
from market_maker.config_sections import ConnectionSettings
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.requests import (
    CancelRequest,
    DeadMansSwitchRequest,
    MassCancelRequest,
    Request,
)
from market_maker.emulator.streams import Reply
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.exchanges.rate_budget import RateBudget
from market_maker.faultsim.bot_clock import BotClock
from market_maker.faultsim.virtual_disk import VirtualDisk, VirtualSink
from market_maker.gateway import VenueError
from market_maker.journal_files import JournalSettings
from market_maker.metrics import Metrics
from market_maker.order_records import OrderSettings
from market_maker.past import Whose, read_past
from market_maker.public_markets import MarketChoiceError
from market_maker.session_report import fill_model_of, portfolio_of, summary_of, venue_of
from market_maker.shutdown import Stop
from market_maker.start_refusals import UNKNOWN_ORDERS, StartRefused
from market_maker.strategy import MarketMakerStrategy, Outcome
from market_maker.summary import as_dict
from market_maker.surroundings import Surroundings
from market_maker.trade_journal import TradeJournal

T = TypeVar("T")
_URGENT = (CancelRequest, MassCancelRequest, DeadMansSwitchRequest)


class Killed(BaseException):
    """The process is dead: nothing of it goes on."""


class _InnerStop(Stop):
    """The wish to end as a process in the simulation hears it: signals of the real one are not for it."""

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        yield


class MortalGateway(InProcessGateway):
    """The gateway of one life: with the live client's budget of requests, and dead once its process is.

    Parameters
    ----------
    sent : callable
        Told of each request as it goes out; None is a look-up.
    """

    def __init__(
        self,
        driver: ExchangeDriver,
        account_id: int,
        clock: BotClock,
        settings: ConnectionSettings,
        sent: Callable[[Request | None], None],
    ) -> None:
        super().__init__(driver, account_id, clock)
        self.is_dead = False
        self._sent = sent
        self._budget = RateBudget(settings.requests_per_minute, settings.cancel_reserve_share)

    async def _send(self, request: Request) -> Reply:
        self._spend(request)
        return await super()._send(request)

    async def _look_up(self, query: Callable[[], bytes], decode: Callable[[bytes], T]) -> T:
        self._spend(None)
        return await super()._look_up(query, decode)

    def _spend(self, request: Request | None) -> None:
        if self.is_dead:
            raise Killed
        self._budget.spend(self._now_ns(), urgent=isinstance(request, _URGENT))
        self._sent(request)

    async def close(self) -> None:
        """Leave the exchange open: others are there too."""
        self.is_dead = True


@dataclass(frozen=True, slots=True)
class Machine:
    """What processes of one machine share: the way to the exchange, disk, clock, settings, randomness."""

    driver: ExchangeDriver
    account_id: int
    disk: VirtualDisk
    clock: BotClock
    config: Config
    entropy: Entropy
    sent: Callable[[Request | None], None]


class Life:
    """One process, from its start on.

    Attributes
    ----------
    strategy : MarketMakerStrategy or None
        What it runs, once that exists.
    outcome : Outcome or None
        How it ended, if it ended by itself and in order.
    error : BaseException or None
        What it ended with otherwise.
    is_killed : bool
        Somebody killed it.
    """

    def __init__(self, machine: Machine, name: str = "mm") -> None:
        self.strategy: MarketMakerStrategy | None = None
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.is_killed = False
        self._machine = machine
        self._stop = _InnerStop()
        config = machine.config
        self._gateway = MortalGateway(
            machine.driver, machine.account_id, machine.clock, config.of(ConnectionSettings), machine.sent
        )
        self._sink = VirtualSink(machine.disk, config.of(JournalSettings), machine.clock, name)
        self._task = asyncio.ensure_future(self._run())

    @property
    def is_over(self) -> bool:
        """Whether it ended."""
        return self._task.done()

    @property
    def journal_failed(self) -> str | None:
        """Why its journal is not whole, None if it is."""
        return self._sink.failed

    def failure(self) -> BaseException | None:
        """What it crashed with: neither an end in order, nor a refusal of the exchange's, nor a kill."""
        return None if self.is_killed else self._task.exception()

    def terminate(self) -> None:
        """SIGTERM."""
        self._stop.ask("SIGTERM")

    def kill(self, torn_share: float) -> None:
        """SIGKILL; so much of what waited for the disk is there."""
        if not self.is_over:
            self.is_killed = True
            self._gateway.is_dead = True
            self._sink.kill(torn_share)
            self._task.cancel()

    async def wait(self) -> None:
        """Wait until it has ended."""
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        journal = TradeJournal(self._sink, self._machine.clock)
        with suppress(Killed):
            try:
                await self._trade(journal)
            except (VenueError, StartRefused, MarketChoiceError) as error:
                self.error = error
            except asyncio.CancelledError:
                if not self.is_killed:
                    raise
            finally:
                journal.close()

    async def _trade(self, journal: TradeJournal) -> None:
        machine, config = self._machine, self._machine.config
        prefix = config.of(OrderSettings).order_id_prefix
        whose = Whose(venue_of(config, self._gateway), str(machine.account_id), prefix)
        past = read_past(machine.disk.folder, whose)
        surroundings = Surroundings(
            self._gateway,
            config,
            machine.clock,
            machine.entropy,
            journal,
            Metrics(is_read=False),
            past=past,
        )
        try:
            self.outcome = await MarketMakerStrategy.run(surroundings, None, self._began, self._stop)
        finally:
            strategy = self.strategy
            if strategy is not None and not self.is_killed:
                runs = summary_of(strategy.session, strategy.orders, fill_model_of(config, self._gateway))
                summary = {
                    "runs": [as_dict(run) for run in runs],
                    "portfolio": portfolio_of(strategy.session),
                }
                remaining = (UNKNOWN_ORDERS,) if self.outcome is None else self.outcome.remaining
                journal.session_stop(strategy.stop.why, summary, remaining)

    def _began(self, strategy: MarketMakerStrategy) -> None:
        self.strategy = strategy
