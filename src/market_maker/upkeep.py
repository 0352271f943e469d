"""What is looked after while quoting, beside the quoting: the time that passes, the account, failures.

Each concern is a task of its own, so that a request that hangs holds up nothing else, least of all the dead
man's switch. A failure of the exchange never ends one of them; only refused credentials do.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from typing import Any, Final

from market_maker.account_stream import AccountStream
from market_maker.checkpoints import Checkpoints
from market_maker.circuit_breaker import CircuitBreaker
from market_maker.config_sections import CircuitBreakerSettings, SessionSettings
from market_maker.domain import Reason
from market_maker.gateway import CredentialsRefused, VenueError
from market_maker.hedger import Hedger
from market_maker.instrument import MarketStatus
from market_maker.kill_watch import KillWatch
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.past import Whose
from market_maker.reconciliation import compare_account
from market_maker.reference_feed import hear_reference
from market_maker.session import Session
from market_maker.session_report import show_account_metrics, show_metrics
from market_maker.shutdown import Stop
from market_maker.startup import DeadMansSwitch
from market_maker.stream_watch import StreamWatch

_TICK_S: Final = 0.25
_KEEP_S: Final = 1.0
# Shorter than the pause of the circuit breaker, which a market that closes may open for all.
_MARKETS_S: Final = 3.0
_CLOCK_S: Final = 60.0
# A clock that was set right is to be known soon.
_SKEWED_S: Final = 5.0


class Upkeep:
    """The tasks of a session that are no market's and no level's.

    Parameters
    ----------
    streams : StreamWatch
        What is known of the streams.
    refresh : callable
        Writes what is known of a market's orders where decisions read it, and wakes its levels.
    stop : Stop
        The wish to end the session.

    Attributes
    ----------
    switch : DeadMansSwitch
        Fed here, by a healthy quoting loop alone.
    hedger : Hedger
        Trades the reference market against the net beta, where that is wanted.
    kill : KillWatch
        The kill ladder.
    """

    def __init__(
        self,
        session: Session,
        orders: OrderManager,
        account: AccountStream,
        streams: StreamWatch,
        refresh: Callable[[MarketDesk], None],
        stop: Stop,
    ) -> None:
        self.switch = DeadMansSwitch(session)
        self.hedger = Hedger(session, orders, account, stop.asked, refresh)
        self.kill = KillWatch(session, orders, account, stop, refresh)
        past = session.past
        self.hedger.restore(past.hedge_day, past.hedge_fees_usd)
        self._checkpoints = Checkpoints(session, past.whose)
        self._keeps = past.whose != Whose()
        self._session = session
        self._orders = orders
        self._account = account
        self._streams = streams
        self._refresh = refresh
        breaker = session.config.of(CircuitBreakerSettings)
        self._breaker, self._cooldown_s = CircuitBreaker(breaker), breaker.breaker_cooldown_s
        settings = session.config.of(SessionSettings)
        self._compare_every_s, self._look_s = settings.position_refresh_s, settings.idle_look_s
        self._compare_now = asyncio.Event()
        self._look_at_markets = asyncio.Event()
        self._feed_now = asyncio.Event()
        self._settle_now = asyncio.Event()
        self._was_lost = False

    def tasks(self) -> Iterator[Coroutine[None, None, None]]:
        """Everything that is to run while quoting."""
        yield self._timer_task()
        yield self._keeper_task()
        yield self._settling_task()
        yield self._switch_task()
        yield self._comparing_task()
        yield self._breaker_task()
        yield self._markets_task()
        yield self._clock_task()
        yield self.kill.run()
        if self.hedger.is_enabled:
            yield self.hedger.run()

    def outside_tasks(self, wake: Callable[[MarketDesk], None]) -> list[asyncio.Future[None]]:
        """Task that hears an outside venue, if there is one; nothing ends where it does.

        Parameters
        ----------
        wake : callable
            Told of each market with news.
        """
        session = self._session
        if session.reference is None:
            return []
        task = asyncio.ensure_future(hear_reference(session.reference, session.desks, session.clock, wake))
        task.add_done_callback(
            lambda done: None if done.cancelled() else session.note_reference_ended(done.exception())
        )
        return [task]

    def on_rejected(self, reason: str) -> None:
        """Count what the exchange refused; post-only rejections are none of these."""
        self._breaker.fail(self._session.clock.now_ns(), why=reason)
        self._look_at_markets.set()

    def on_account_lost(self, why: str) -> None:
        """Pull the quotes until the stream is back and the account was compared."""
        self._was_lost = True
        self._streams.on_account_lost(why)
        self._refresh_all()
        self._compare_now.set()

    def _refresh_all(self) -> None:
        for desk in self._session.desks.values():
            self._refresh(desk)

    def _may_ask(self) -> bool:
        return self._session.may_ask(self._orders.counters.rate_limited)

    async def _timer_task(self) -> None:
        """Wake every level now and then: age, staleness and holds pass without an event."""
        while True:
            await asyncio.sleep(self._look_s)
            self._streams.check(self._session.clock.now_ns())
            self._session.watch_rate(self._orders.counters.rate_limited)
            for desk in self._session.desks.values():
                self._refresh(desk)
                # A step for each market: books and replies are not to wait for all of them.
                await asyncio.sleep(0)

    async def _keeper_task(self) -> None:
        """Every second or look: watch equity, advance the kill ladder, show what is. It awaits no reply."""
        session, every_s = self._session, max(_KEEP_S, self._look_s)
        while True:
            await asyncio.sleep(every_s)
            if session.is_healthy() and self.switch.is_due:
                self._feed_now.set()
            if session.funding.is_due or self._orders.is_due:
                self._settle_now.set()
            if session.metrics.is_read:
                await self._show_metrics()
            self._streams.count_unknown(session.gateway.unknown)
            if session.reference is not None:
                self._streams.count_unknown(session.reference.unknown)
            if session.watch_equity():
                session.refresh_limits(self._orders, self._account)
            self.kill.look()
            if (why := session.resume_asked()) is not None:
                self.kill.resume(why)
            self.keep_checkpoint()

    async def _settling_task(self) -> None:
        """When it is time, and however long the replies take: settle overdue orders, fetch funding."""
        while True:
            await self._settle_now.wait()
            if self._may_ask():
                await self._orders.reconcile()
                await self._try(self._session.funding.fetch(), "not_kept")
            # What is due again meanwhile waits for the next second.
            self._settle_now.clear()

    async def _show_metrics(self) -> None:
        for desk in self._session.desks.values():
            show_metrics(self._session, self._orders, desk)
            await asyncio.sleep(0)
        show_account_metrics(self._session)

    def keep_checkpoint(self) -> None:
        """Write down what a restart needs to know, if it changed."""
        if self._keeps:
            self._checkpoints.watch(self.hedger.history)

    async def _switch_task(self) -> None:
        """Feed the dead man's switch, while the loop that it guards is healthy."""
        while True:
            await self._feed_now.wait()
            await self._try(self.switch.feed(), "not_fed")
            self._feed_now.clear()

    async def _try(self, request: Coroutine[Any, Any, None], failed: str) -> bool:
        """Whether a request that is repeated anyway was answered; if not, it is in the journal."""
        try:
            await self._session.answer(request)
        except CredentialsRefused:
            raise
        except VenueError as error:
            self._session.journal.note(failed, {"why": str(error)})
            return False
        return True

    async def _comparing_task(self) -> None:
        """Compare our books with the exchange's now and then; at once after a loss, and until they agree."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._compare_every_s):
                    await self._compare_now.wait()
            self._compare_now.clear()
            # Until the stream is back nobody would hear of the next fill, however well the books agree.
            if self._account.is_lost or not await self._agree():
                self._compare_now.set()
                await asyncio.sleep(_TICK_S if self._account.is_lost else _KEEP_S)
            elif not self._compare_now.is_set():
                self._session.resume_all(Reason.DESYNCHRONISED)
                self._streams.on_account_compared()

    async def _agree(self) -> bool:
        if not self._may_ask():
            return False
        if self._was_lost:
            self._was_lost = False
            self._orders.on_stream_resumed()
            await self._orders.reconcile()
        return await compare_account(self._session, self._orders, self._account)

    async def _markets_task(self) -> None:
        """See now and then, and soon after a refusal, whether the exchange takes new positions everywhere."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._compare_every_s):
                    await self._look_at_markets.wait()
            self._look_at_markets.clear()
            if not (self._may_ask() and await self._try(self._check_markets(), "markets_not_looked_at")):
                self._look_at_markets.set()
            await asyncio.sleep(_MARKETS_S)

    async def _check_markets(self) -> None:
        """Halt a market that is closed, before its refusals halt them all."""
        session = self._session
        statuses = await session.gateway.statuses(tuple(session.desks))
        for name, desk in session.desks.items():
            status = statuses.get(name)
            if status is MarketStatus.ACTIVE:
                session.resume(desk, Reason.MARKET_CLOSED)
            else:
                found = "not listed" if status is None else status.value
                session.halt(desk, Reason.MARKET_CLOSED, f"expected status ACTIVE, was {found}")
            self._refresh(desk)

    async def _clock_task(self) -> None:
        """Compare the clocks now and then; they agreed when the session began."""
        while True:
            await asyncio.sleep(_SKEWED_S if self.kill.is_skewed else _CLOCK_S)
            if self._may_ask():
                await self._try(self._check_clock(), "clock_not_compared")

    async def _check_clock(self) -> None:
        self.kill.on_skew(await self._session.gateway.clock_skew_s())

    async def _breaker_task(self) -> None:
        """Halt after repeated failures; after the cooldown try again, once the exchange answers a look-up."""
        session, counters, unknown = self._session, self._orders.counters, 0
        while True:
            await asyncio.sleep(self._look_s)
            # A request that nobody answered is a failure of the exchange too.
            self._breaker.fail(session.clock.now_ns(), counters.unknown - unknown)
            unknown = counters.unknown
            if not self._breaker.opens(session.clock.now_ns()):
                continue
            self.kill.on_errors(session.clock.now_ns())
            session.halt_all(Reason.CIRCUIT_BREAKER, f"repeated failures, the last: {self._breaker.last}")
            self._refresh_all()
            await asyncio.sleep(self._cooldown_s)
            await self._until_it_answers()
            unknown = counters.unknown
            self._breaker.try_again(session.clock.now_ns())
            session.resume_all(Reason.CIRCUIT_BREAKER)

    async def _until_it_answers(self) -> None:
        answers = False
        while not answers:
            answers = self._may_ask() and await self._try(self._account.refresh(), "not_back")
            await asyncio.sleep(0.0 if answers else _KEEP_S)
