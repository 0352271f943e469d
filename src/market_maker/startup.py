"""Start and restart are the same path: find what is open, adopt or cancel our own, refuse foreign orders."""

import asyncio
from typing import Final

from market_maker.config_sections import DeadMansSwitchSettings, ForeignOrders, SessionSettings
from market_maker.domain import NS_PER_S
from market_maker.gateway import CredentialsRefused, VenueError
from market_maker.order_manager import OrderManager, RecoverPolicy
from market_maker.session import Session

_RETRY_S: Final = 4.0
_PAUSE_S: Final = 1.0


class ForeignOrdersFound(Exception):
    """The account has open orders that are not ours."""


async def recover_orders(session: Session, orders: OrderManager) -> None:
    """Cancel what an earlier run of ours left open, and look for orders of others.

    Raises
    ------
    ForeignOrdersFound
        If there are any, and the settings do not let them stay.
    VenueError
        If the exchange does not answer.
    """
    recovered = await orders.recover(RecoverPolicy.CANCEL, session.desks)
    session.journal.note("recovered", {"remaining": len(recovered.remaining)})
    if recovered.foreign and session.config.of(SessionSettings).foreign_orders is ForeignOrders.REFUSE:
        names = ", ".join(report.external_id or str(report.order_id) for report in recovered.foreign[:5])
        msg = (
            f"expected a sub-account of our own, found {len(recovered.foreign)} open orders of others"
            f" ({names}); cancel them, or let them stay with --set foreign_orders=leave"
        )
        raise ForeignOrdersFound(msg)


class DeadMansSwitch:
    """Armed before the first order, fed while quoting is healthy, disarmed when nothing is left to guard.

    It is account-wide: with orders of others on the account it is left armed at the end only if ours may
    still be open.
    """

    def __init__(self, session: Session) -> None:
        self._settings = session.config.of(DeadMansSwitchSettings)
        self._session = session
        self._fed_ns = 0
        self._next_ns = 0

    async def feed(self) -> None:
        """Start the countdown anew, if it is time to.

        Raises
        ------
        VenueError
            If the exchange does not take the call; the countdown then goes on.
        """
        now_ns = self._session.clock.now_ns()
        if self._settings.dead_man_enabled and now_ns >= self._next_ns:
            interval_s = self._settings.dead_man_interval_s
            self._next_ns = now_ns + round(min(_RETRY_S, interval_s) * NS_PER_S)
            await self._session.gateway.arm_dead_mans_switch(round(self._settings.dead_man_countdown_s))
            self._fed_ns = now_ns
            self._next_ns = now_ns + round(interval_s * NS_PER_S)

    async def disarm(self) -> None:
        """Stop the countdown; where that fails to the end of the countdown it fires on an empty book."""
        if not self._fed_ns:
            return
        countdown_ns = round(self._settings.dead_man_countdown_s * NS_PER_S)
        deadline_ns = self._session.clock.now_ns() + countdown_ns
        while True:
            try:
                await self._session.gateway.arm_dead_mans_switch(0)
            except VenueError as error:
                if self._session.clock.now_ns() >= deadline_ns or isinstance(error, CredentialsRefused):
                    self._session.journal.note("dead_mans_switch", {"left_armed": str(error)})
                    return
            else:
                return
            await asyncio.sleep(_PAUSE_S)
