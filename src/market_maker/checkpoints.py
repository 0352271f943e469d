"""What a restart needs to know of a session, in the journal: written when it changes, read by `past.py`."""

from market_maker.hedging import HedgeOrders
from market_maker.past import CHECKPOINT, Whose
from market_maker.session import Session


class Checkpoints:
    """Writes the checkpoints of one session.

    Parameters
    ----------
    whose : Whose
        Which bot it is.
    """

    def __init__(self, session: Session, whose: Whose) -> None:
        self._session = session
        self._whose = whose
        self._written: dict[str, object] = {}

    def write(self, positions: dict[str, int], hedges: HedgeOrders) -> None:
        """Write one."""
        fields = self._written = self._fields(hedges)
        self._session.journal.keep(CHECKPOINT, {**self._whose._asdict(), "positions": positions, **fields})

    def watch(self, hedges: HedgeOrders) -> None:
        """Write one where anything but positions changed; they are in the fills."""
        if self._fields(hedges) != self._written:
            self.write(self.positions(), hedges)

    def positions(self) -> dict[str, int]:
        """Signed lots by market, as they are booked."""
        return {name: self._session.ledger.position_lots(name) for name in self._session.desks}

    def _fields(self, hedges: HedgeOrders) -> dict[str, object]:
        risk, standing = self._session.risk.export(), self._session.standing
        return {
            # What the equity is now is asked of the exchange again.
            "risk": risk._replace(equity_pusd=0)._asdict() | {"halt": risk.halt.name},
            "latch": standing.latch.name,
            "latched_by": standing.latched_by.name,
            "hedge": {"fees_usd": hedges.fees_usd, "day": hedges.day},
        }
