"""What a restart needs to know of a session, in the journal: written when it changes, read by `past.py`."""

from typing import NamedTuple

from market_maker.hedging import HedgeOrders
from market_maker.kill_ladder import Cause, Step
from market_maker.past import CHECKPOINT, Whose
from market_maker.risk_manager import RiskState
from market_maker.session import Session


class _Kept(NamedTuple):
    risk: RiskState
    latch: Step
    latched_by: Cause
    hedge_fees_usd: float
    hedge_day: int


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
        self._written: _Kept | None = None

    def write(self, positions: dict[str, int], hedges: HedgeOrders) -> None:
        """Write one."""
        kept = self._written = self._to_keep(hedges)
        fields = {
            "positions": positions,
            "risk": kept.risk._asdict() | {"halt": kept.risk.halt.name},
            "latch": kept.latch.name,
            "latched_by": kept.latched_by.name,
            "hedge": {"fees_usd": kept.hedge_fees_usd, "day": kept.hedge_day},
        }
        self._session.journal.keep(CHECKPOINT, self._whose._asdict() | fields)

    def watch(self, hedges: HedgeOrders) -> None:
        """Write one where anything but positions changed; they are in the fills."""
        if self._to_keep(hedges) != self._written:
            self.write(self.positions(), hedges)

    def positions(self) -> dict[str, int]:
        """Signed lots by market, as they are booked."""
        return {name: self._session.ledger.position_lots(name) for name in self._session.desks}

    def _to_keep(self, hedges: HedgeOrders) -> _Kept:
        standing = self._session.standing
        # What the equity is now is asked of the exchange again.
        risk = self._session.risk.export()._replace(equity_pusd=0)
        return _Kept(risk, standing.latch, standing.latched_by, hedges.fees_usd, hedges.day)
