"""Funding payments, fetched after each rate that is published, and booked once."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S
from market_maker.gateway import FundingPayment, VenueError
from market_maker.ledger import Ledger
from market_maker.trade_journal import TradeJournal

# The exchange stamps a payment up to a second late.
_LOOK_BACK_NS: Final = 10 * NS_PER_S
Fetch = Callable[[int], Awaitable[list[FundingPayment]]]


class FundingBooks:
    """Fetches and books the payments of one session.

    Parameters
    ----------
    fetch : callable
        Payments since an instant, ns; fails as requests do.
    """

    def __init__(self, fetch: Fetch, ledger: Ledger, journal: TradeJournal, clock: Clock) -> None:
        self._fetch = fetch
        self._ledger = ledger
        self._journal = journal
        self._clock = clock
        self._started_ns = self._since_ns = clock.now_ns()
        self._due = True
        self._missed: set[tuple[str, int]] = set()

    def note_missed(self, payments: Iterable[FundingPayment]) -> None:
        """Journal payments that are in the equity that the session began with, and book them no more."""
        for payment in payments:
            self._missed.add((payment.market, payment.payment_id))
            self._journal.funding(payment, missed=True)

    def expect(self) -> None:
        """A funding rate was published: there may be a payment to fetch."""
        self._due = True

    async def fetch(self) -> None:
        """Book the payments since the last look, if there may be any.

        Raises
        ------
        VenueError
            If the exchange does not answer; the next call asks again.
        """
        if not self._due:
            return
        self._due = False
        asked_ns = self._clock.now_ns()
        try:
            payments = await self._fetch(self._since_ns)
        except VenueError:
            self._due = True
            raise
        for payment in payments:
            is_ours = self._ledger.has(payment.market)
            is_new = (payment.market, payment.payment_id) not in self._missed
            if is_ours and is_new and self._ledger.book_funding(payment):
                self._journal.funding(payment)
        self._since_ns = max(self._started_ns, asked_ns - _LOOK_BACK_NS)
