"""Funding payments, fetched after each rate that is published, and booked once."""

from collections.abc import Awaitable, Callable
from typing import Final

from market_maker.clock import Clock
from market_maker.domain import NS_PER_S
from market_maker.gateway import FundingPayment, VenueError
from market_maker.ledger import Ledger
from market_maker.past import PaymentKey, payment_key
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

    Attributes
    ----------
    is_due : bool
        There may be a payment to fetch.
    """

    def __init__(self, fetch: Fetch, ledger: Ledger, journal: TradeJournal, clock: Clock) -> None:
        self._fetch = fetch
        self._ledger = ledger
        self._journal = journal
        self._clock = clock
        self._first_ns = self._since_ns = clock.now_ns()
        self.is_due = True
        self._known: frozenset[PaymentKey] = frozenset()

    def begin(self, known: frozenset[PaymentKey], since_ns: int) -> None:
        """Ask from an instant on, and book no payment that is in the equity that the session began with."""
        self._known, self._first_ns, self._since_ns = known, since_ns, since_ns

    def expect(self) -> None:
        """A funding rate was published: there may be a payment to fetch."""
        self.is_due = True

    async def fetch(self) -> None:
        """Book the payments since the last look, if there may be any.

        Raises
        ------
        VenueError
            If the exchange does not answer; the next call asks again.
        """
        if not self.is_due:
            return
        self.is_due = False
        asked_ns = self._clock.now_ns()
        try:
            payments = await self._fetch(self._since_ns)
        except VenueError:
            self.is_due = True
            raise
        for payment in payments:
            is_ours = self._ledger.has(payment.market)
            is_new = payment_key(payment) not in self._known
            if is_ours and is_new and self._ledger.book_funding(payment):
                self._journal.funding(payment)
        self._since_ns = max(self._first_ns, asked_ns - _LOOK_BACK_NS)
