"""The way out: the wish to stop, then no order open, verified with the exchange, then the position."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from market_maker.account_stream import AccountStream
from market_maker.config_sections import SessionSettings, StopAction
from market_maker.domain import NS_PER_S
from market_maker.kill_ladder import Step
from market_maker.order_manager import OrderManager
from market_maker.position_exit import PositionExit
from market_maker.session import Session

_STEP_S: Final = 0.25
_SETTLE_S: Final = 1.0
# How long the book of a position may take to come.
_BOOKS_NS: Final = 10 * NS_PER_S


class Stop:
    """The wish to end the session, from wherever it comes; asked for twice it also hurries."""

    def __init__(self) -> None:
        self.why = ""
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()

    def ask(self, why: str) -> None:
        """Ask for the end; a second call only hurries it: no position is reduced then."""
        if self.asked.is_set():
            self.hurried.set()
        self.why = self.why or why
        self.asked.set()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Ask when SIGINT, SIGTERM or SIGHUP comes, for as long as this lasts.

        SIGHUP comes where the terminal is closed or the connection to it breaks; under nohup it is ignored.
        """
        loop = asyncio.get_running_loop()
        wanted = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            wanted.append(signal.SIGHUP)
        with suppress(NotImplementedError):
            for number in wanted:
                loop.add_signal_handler(number, self.ask, number.name)
        try:
            yield
        finally:
            with suppress(NotImplementedError):
                for number in wanted:
                    loop.remove_signal_handler(number)


async def reduce_position(
    session: Session, orders: OrderManager, account: AccountStream, hurried: asyncio.Event
) -> None:
    """Rest reducing orders only until flat, the time for it is over, or somebody hurries."""
    settings = session.config.of(SessionSettings)
    if settings.stop_action is not StopAction.REDUCE or session.standing.step >= Step.FLATTEN:
        return
    session.reducing = True
    session.refresh_limits(orders, account)
    deadline_ns = session.clock.now_ns() + round(settings.stop_reduce_s * NS_PER_S)
    while session.clock.now_ns() < deadline_ns and not (session.is_flat() or hurried.is_set()):
        if session.standing.step >= Step.FLATTEN:
            # Nothing rests any more that could reduce.
            return
        await _step(hurried)


async def _step(hurried: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_STEP_S):
            await hurried.wait()


async def books_for_positions(session: Session, hurried: asyncio.Event) -> None:
    """Wait until every market with a position has a book and a mark, or the time for it is over."""
    deadline_ns = session.clock.now_ns() + _BOOKS_NS
    while session.clock.now_ns() < deadline_ns and not hurried.is_set():
        held = [desk for name, desk in session.desks.items() if session.ledger.position_lots(name)]
        if all(desk.book.book is not None and desk.mark is not None for desk in held):
            return
        await _step(hurried)


async def _settle(session: Session, orders: OrderManager) -> None:
    """Look up orders, as while quoting: one of which nothing is known is in the way of the next."""
    while True:
        await asyncio.sleep(_SETTLE_S)
        if any(any(orders.exposure(name)) for name in session.desks):
            await orders.reconcile()


async def flatten_position(
    session: Session,
    orders: OrderManager,
    account: AccountStream,
    hurried: asyncio.Event,
    remaining: tuple[str, ...],
) -> tuple[str, ...]:
    """Take what is left of the positions off the market, where that is wanted or the kill ladder says so.

    Returns
    -------
    tuple of str
        What may be open all the same: `remaining`, until orders have rested and been cancelled here.
    """
    settings = session.config.of(SessionSettings)
    if settings.stop_action is not StopAction.FLATTEN and session.standing.step < Step.FLATTEN:
        return remaining
    deadline_ns = session.clock.now_ns() + round(settings.stop_reduce_s * NS_PER_S)
    way_out = PositionExit(session, orders, account, hurried)
    way_out.remaining = remaining
    settling = asyncio.ensure_future(_settle(session, orders))
    try:
        await way_out.run(lambda: session.clock.now_ns() >= deadline_ns)
    finally:
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
    if not session.is_flat():
        lots = {name: session.ledger.position_lots(name) for name in session.desks}
        session.journal.note("position_left", {"lots": lots})
    return way_out.remaining
