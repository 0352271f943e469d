"""The kill ladder in a session: what its causes measure, and what each step does.

Widen and reduce only are in what every decision reads (`Session.refresh_limits`); from cancel all on each
market is halted for the cause, so that its orders go and none comes. Flatten also takes the position out,
stop also ends the process. Each change is in the journal, and a latch is kept for the next start.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Final

from market_maker.account_stream import AccountStream
from market_maker.config_sections import ConnectionSettings, SessionSettings
from market_maker.domain import NS_PER_S
from market_maker.kill_ladder import KillLadderSettings, Readings, Standing, Step, advance
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.past import KILL_STEP, RESUMED
from market_maker.position_exit import PositionExit
from market_maker.recent import RecentMarkouts, RecentMean
from market_maker.risk_manager import RiskSettings, RiskState, limit_pusd
from market_maker.session import Session
from market_maker.shutdown import Stop

_LATENCIES: Final = 10
_LATENCY_WINDOW_S: Final = 120.0
_ERROR_WINDOW_S: Final = 120.0
_FILLS: Final = 20
_FILL_WINDOW_S: Final = 600.0
_RETRY_S: Final = 1.0
_DIGITS: Final = 4


class KillWatch:
    """Reads the causes, advances the ladder and carries its steps out.

    Parameters
    ----------
    stop : Stop
        Asked at the last step.
    refresh : callable
        Writes what is known of a market's orders where decisions read it, and wakes its levels.
    """

    def __init__(
        self,
        session: Session,
        orders: OrderManager,
        account: AccountStream,
        stop: Stop,
        refresh: Callable[[MarketDesk], None],
    ) -> None:
        self._session = session
        self._orders = orders
        self._account = account
        self._stop = stop
        self._refresh = refresh
        self._settings = session.config.of(KillLadderSettings)
        self._look_s = session.config.of(SessionSettings).idle_look_s
        self._max_skew_s = session.config.of(ConnectionSettings).max_clock_skew_s
        self._latencies = RecentMean(_LATENCY_WINDOW_S, _LATENCIES)
        self._errors = RecentMean(_ERROR_WINDOW_S, 1)
        self._markouts = RecentMarkouts(_FILLS, _FILL_WINDOW_S)
        self._heard_ns = session.clock.now_ns()
        self._skew_s = 0.0
        self._exit = PositionExit(session, orders, account, stop.asked)
        self._changed = asyncio.Event()
        if session.standing.step >= Step.CANCEL_ALL:
            # Latched before a restart.
            session.halt_all(session.standing.reason, f"kill ladder: {session.standing.step.name}")

    def on_event(self, desk: MarketDesk, now_ns: int) -> None:
        """Note that a market's stream said something; it counts while book and account can be trusted."""
        if desk.book.trusted and not self._account.is_lost:
            self._heard_ns = now_ns

    def on_latency(self, seconds: float, now_ns: int) -> None:
        """Take in how long an order took."""
        self._latencies.add(seconds, now_ns)

    def on_fill(self, desk: MarketDesk, side: int, now_ns: int) -> None:
        """Take in that one of our orders matched."""
        self._markouts.on_fill(desk.name, side, desk.mid2_ticks, now_ns)

    def on_errors(self, now_ns: int) -> None:
        """Take in that there were too many failures within the circuit breaker's window."""
        self._errors.add(1.0, now_ns)

    def on_skew(self, seconds: float) -> None:
        """Take in how far the clocks are apart."""
        self._skew_s = abs(seconds)

    @property
    def is_skewed(self) -> bool:
        """Whether the clocks were so far apart, when last compared, that the ladder asks for a step."""
        return self._skew_s / self._max_skew_s >= min(
            filter(None, self._settings.kill_clock), default=math.inf
        )

    def readings(self) -> Readings:
        """What the causes measure now."""
        session, now_ns = self._session, self._session.clock.now_ns()
        risk, limits = session.risk.export(), session.config.of(RiskSettings)
        balance = self._account.balance
        self._markouts.on_time({name: desk.mid2_ticks for name, desk in session.desks.items()}, now_ns)
        margin = limits.max_margin_utilisation
        ratio = 0.0 if balance is None else float(balance.margin_ratio)
        return Readings(
            drawdown=_share(risk.peak_pusd - risk.equity_pusd, limits.max_drawdown_usd),
            day_loss=_share(risk.day_start_pusd - risk.equity_pusd, limits.max_day_loss_usd),
            margin=ratio / margin if margin else 0.0,
            stale_s=(now_ns - self._heard_ns) / NS_PER_S,
            latency_s=self._latencies.mean(now_ns),
            errors=float(self._errors.count(now_ns)),
            clock=self._skew_s / self._max_skew_s,
            toxic_bps=self._markouts.loss_bps(now_ns),
        )

    def look(self) -> None:
        """Advance the ladder by the readings of now, and put into force what changed."""
        before, readings = self._session.standing, self.readings()
        after = advance(self._settings, before, readings, self._session.clock.now_ns())
        self._session.standing = after
        if after._replace(since_ns=0) != before._replace(since_ns=0):
            self._put_in_force(before, readings)

    def resume(self, why: str) -> Standing:
        """Lift whatever is latched, and measure losses from now on; where the ladder stood."""
        session, before = self._session, self._session.standing
        session.risk.restore(RiskState())
        session.watch_equity()
        session.standing = Standing()
        session.journal.keep(RESUMED, {"from": before.step.name, "cause": before.cause.name, "why": why})
        self._put_in_force(before, Readings())
        return before

    async def run(self) -> None:
        """Take the positions out for as long as the ladder says so."""
        while True:
            if not self._flattens():
                self._changed.clear()
                await self._changed.wait()
            await asyncio.sleep(self._look_s)
            if self._flattens() and not self._session.is_flat():
                await self._exit.run(lambda: not self._flattens())
                # Whatever it could not do by now is tried anew, but not at once.
                await asyncio.sleep(_RETRY_S)

    def _flattens(self) -> bool:
        return self._session.standing.step >= Step.FLATTEN

    def _put_in_force(self, before: Standing, readings: Readings) -> None:
        session, after = self._session, self._session.standing
        fields = {
            "step": after.step.name,
            "cause": after.cause.name,
            "before": before.step.name,
            "latch": after.latch.name,
            "latched_by": after.latched_by.name,
            "readings": {name: round(value, _DIGITS) for name, value in readings._asdict().items()},
        }
        session.journal.keep(KILL_STEP, fields)
        self._changed.set()
        if before.step >= Step.CANCEL_ALL:
            session.resume_all(before.reason)
        if after.step >= Step.CANCEL_ALL:
            session.halt_all(after.reason, f"kill ladder: {after.step.name}")
        session.refresh_limits(self._orders, self._account)
        for desk in session.desks.values():
            self._refresh(desk)
        # A second wish would be one to hurry, and leave the position.
        if after.step == Step.STOP and not self._stop.asked.is_set():
            self._stop.ask(f"kill ladder: STOP for {after.cause.name}")


def _share(loss_pusd: int, limit_usd: float) -> float:
    """Loss as a share of its limit; 0 where there is none."""
    return max(0.0, loss_pusd / limit_pusd(limit_usd)) if limit_usd > 0 else 0.0
