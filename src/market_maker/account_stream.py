"""The account as the exchange tells it: order reports, fills, positions and balance, passed on as they come.

The stream starts with what is there, so losing it and getting it back need no special path: the host is told
that it is lost, and each report that follows is applied as any other. Positions and balance are kept here as
last heard, for those who ask between events; REST look-ups refresh the same two.
"""

import asyncio
from typing import Final, Protocol

from market_maker.gateway import (
    BalanceReport,
    FillReport,
    Gateway,
    OrderReport,
    PositionReport,
    StreamLost,
)

# A mass cancel is told in a burst: a few reports in a step of the loop, then others have their turn.
_TOGETHER: Final = 3


class AccountListener(Protocol):
    """Whoever acts on the account's events."""

    def on_order_report(self, report: OrderReport) -> None:
        """One of the account's orders changed."""
        ...

    def on_fill_report(self, report: FillReport) -> None:
        """One of the account's orders matched."""
        ...

    def on_account_changed(self) -> None:
        """Positions or balance were heard anew."""
        ...

    def on_account_lost(self, why: str) -> None:
        """The stream can not be trusted until it resumes."""
        ...


class AccountStream:
    """Last heard positions and balance of the account, and the task that hears them.

    Parameters
    ----------
    gateway : Gateway
        Where the events come from.
    listener : AccountListener
        Told of each event, in order.

    Attributes
    ----------
    is_lost : bool
        The stream was lost and has said nothing since: nobody would hear of a fill.
    """

    def __init__(self, gateway: Gateway, listener: AccountListener) -> None:
        self._gateway = gateway
        self._listener = listener
        self._positions: dict[str, PositionReport] = {}
        self.balance: BalanceReport | None = None
        self.is_lost = False

    def position(self, market: str) -> PositionReport | None:
        """Last heard position in a market; None while it is flat or unheard of."""
        return self._positions.get(market)

    async def run(self) -> None:
        """Hear the account until cancelled."""
        heard = 0
        async for event in self._gateway.account_events():
            heard += 1
            if heard % _TOGETHER == 0:
                await asyncio.sleep(0)
            self.is_lost = isinstance(event, StreamLost)
            match event:
                case OrderReport():
                    self._listener.on_order_report(event)
                case FillReport():
                    self._listener.on_fill_report(event)
                case PositionReport():
                    self._positions[event.market] = event
                    self._listener.on_account_changed()
                case BalanceReport():
                    self.balance = event
                    self._listener.on_account_changed()
                case StreamLost():
                    self._listener.on_account_lost(event.why)

    async def refresh(self) -> None:
        """Look positions and balance up; what the exchange does not list is flat.

        Raises
        ------
        VenueError
            If the exchange does not answer; what was known stays.
        """
        positions, balance = await asyncio.gather(self._gateway.positions(), self._gateway.balance())
        self._positions = {report.market: report for report in positions}
        self.balance = balance
        self._listener.on_account_changed()
