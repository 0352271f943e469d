"""What a session shows while it runs: a live table on a terminal, else lines, and the status file.

In real time the table is drawn, and the file written, on a thread: the disk may take its time.
"""

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
from market_maker.session_report import market_status, status_of
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
    threaded : bool
        Whether there is a thread for it; in virtual time everything happens in its turn.
    """

    def __init__(
        self, journal: Path, clock: Clock, seconds: float | None, *, live: bool, threaded: bool
    ) -> None:
        self.strategy: MarketMakerStrategy | None = None
        self._folder = journal.parent
        self._journal = journal
        self._clock = clock
        self._threaded = threaded
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
        self._drawing: asyncio.Future[None] | None = None
        self._shown_ns = 0
        self._journal_failed = False
        self._status_failed = False
        self._logged_ns = clock.perf_ns()

    def begin(self, strategy: MarketMakerStrategy) -> None:
        """Show a strategy from now on."""
        self.strategy = strategy
        if self._live is not None:
            self._live.start()
        self._task = asyncio.ensure_future(self._run(strategy))

    async def end(self) -> None:
        """Show the last status."""
        await self._rest()
        if self.strategy is not None:
            self._draw(*await self._status(self.strategy, STOPPED))

    async def close(self) -> None:
        """Stop showing."""
        await self._rest()
        if self._live is not None:
            self._live.stop()

    async def _rest(self) -> None:
        """Show nothing more by itself, and wait until what is being drawn is drawn."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._drawing is not None:
            await self._drawing

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
                shown = await self._status(strategy, "STOPPING" if strategy.stop.why else "QUOTING")
                if self._threaded:
                    loop = asyncio.get_running_loop()
                    self._drawing = loop.run_in_executor(None, self._draw, *shown)
                    await asyncio.shield(self._drawing)
                else:
                    self._draw(*shown)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _status(self, strategy: MarketMakerStrategy, state: str) -> tuple[Status, str | None]:
        """What it is doing now, and why the journal is not whole."""
        self._shown_ns = self._clock.perf_ns()
        session, markets = strategy.session, []
        for desk in session.desks.values():
            markets.append(market_status(session, strategy.orders, desk))
            # A step for each market: nobody waits for a picture.
            await asyncio.sleep(0)
        return status_of(session, state, self._journal, markets), session.journal.failed

    def _draw(self, status: Status, journal_failed: str | None) -> None:
        now_ns = self._clock.perf_ns()
        elapsed = f"{(status.updated_ns - status.started_ns) / NS_PER_S:,.0f}{self._length} s"
        if self._live is not None:
            footer = f"{elapsed}   journal {self._journal}   Ctrl-C stops"
            self._live.update(status_view(status, footer), refresh=True)
        elif now_ns - self._logged_ns >= _LOG_EVERY_NS:
            self._logged_ns = now_ns
            self._log_line(status, elapsed)
        self.check_journal(journal_failed)
        try:
            write_status(self._folder, status)
            self._status_failed = False
        except OSError as error:
            # Twice a second it would bury all else.
            if not self._status_failed:
                self._log.warning("the status file can not be written", error=str(error))
            self._status_failed = True

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
