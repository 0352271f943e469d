"""What a session shows while it runs: a live table on a terminal, else lines, and the status file."""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog
from rich.console import Console
from rich.live import Live

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S
from market_maker.session_report import status_of
from market_maker.status import STOPPED, Status, status_view, write_status
from market_maker.strategy import MarketMakerStrategy

_LOOK_EVERY_S: Final = 0.25
_SHOW_EVERY_NS: Final = NS_PER_S // 2
_LOG_EVERY_NS: Final = 10 * NS_PER_S


class SessionView:
    """Shows one session.

    Parameters
    ----------
    seconds : float or None
        How long the session is to quote, None for until stopped.
    live : bool
        A live table on standard error; else a line of log there every ten seconds.
    """

    def __init__(
        self, folder: Path, journal: Path, clock: Clock, seconds: float | None, *, live: bool
    ) -> None:
        self.strategy: MarketMakerStrategy | None = None
        self._folder = folder
        self._journal = journal
        self._clock = clock
        self._length = "" if seconds is None else f" of {seconds:,.0f}"
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True) if live else None
        self._log = structlog.wrap_logger(
            structlog.PrintLogger(sys.stderr),
            processors=[
                structlog.processors.TimeStamper(fmt="%H:%M:%S"),
                structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
            ],
        )
        self._task: asyncio.Future[None] | None = None
        self._shown_ns = 0
        self._journal_failed = False
        self._logged_ns = clock.perf_ns()

    def begin(self, strategy: MarketMakerStrategy) -> None:
        """Show a strategy from now on."""
        self.strategy = strategy
        if self._live is not None:
            self._live.start()
        self._task = asyncio.ensure_future(self._run(strategy))

    def end(self) -> None:
        """Show the last status."""
        if self.strategy is not None:
            self._show(self.strategy, STOPPED)

    async def close(self) -> None:
        """Stop showing."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._live is not None:
            self._live.stop()

    def check_journal(self, failed: str | None) -> None:
        """Say once that nothing is written to the journal any more, if that is so."""
        if failed is not None and not self._journal_failed:
            self._journal_failed = True
            self._log.warning(
                "the journal can not be written any more", file=str(self._journal), error=failed
            )

    async def _run(self, strategy: MarketMakerStrategy) -> None:
        while True:
            # The market's time may run faster than anybody reads.
            if self._clock.perf_ns() - self._shown_ns >= _SHOW_EVERY_NS:
                self._show(strategy, "STOPPING" if strategy.stop.why else "QUOTING")
            await asyncio.sleep(_LOOK_EVERY_S)

    def _show(self, strategy: MarketMakerStrategy, state: str) -> None:
        now_ns = self._clock.perf_ns()
        status = status_of(strategy.session, strategy.orders, state, self._journal)
        elapsed = f"{(status.updated_ns - status.started_ns) / NS_PER_S:,.0f}{self._length} s"
        if self._live is not None:
            footer = f"{elapsed}   journal {self._journal}   Ctrl-C stops"
            self._live.update(status_view(status, footer), refresh=True)
        elif now_ns - self._logged_ns >= _LOG_EVERY_NS:
            self._logged_ns = now_ns
            self._log_line(status, elapsed)
        self._shown_ns = now_ns
        self.check_journal(strategy.session.journal.failed)
        try:
            write_status(self._folder, status)
        except OSError as error:
            self._log.warning("the status file can not be written", error=str(error))

    def _log_line(self, status: Status, elapsed: str) -> None:
        halted = [f"{market.market} {market.halt}" for market in status.markets if market.halt]
        self._log.info(
            status.state,
            network=status.venue,
            elapsed=elapsed,
            equity_usd=status.equity_usd,
            pnl_usd=status.pnl_usd,
            fills=sum(market.fills for market in status.markets),
            halted=", ".join(halted) or "none",
        )
