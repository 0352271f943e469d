"""What a ladder earned: lots that were bought and sold again, each with its counterpart, exactly.

A fill closes what is open on the other side before it opens anything: the cheapest of what was bought, the
dearest of what was sold. On a ladder that is the line which was opened last, the neighbour of the one that
fills. Where several lines are heard of in another order than they filled in, the sum is the same. A round
trip is a line's worth of lots that was closed.

Prices are ticks, sizes lots, the spread whole tick·lots. A fee is split over the lots of its fill, and the
last of them takes what is left, so that the pieces add up to it to the last digit.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, localcontext
from typing import Final, NamedTuple

from market_maker.domain import Side
from market_maker.grid import LadderState
from market_maker.instrument import Instrument

_EXACT: Final = Context(prec=60, traps=[Inexact, InvalidOperation])
_FEE_GRAIN: Final = Decimal("1E-12")
_ZERO: Final = Decimal(0)


class OpenLine(NamedTuple):
    """Lots that were filled at a price and not closed yet, with the fee that was paid for them, USD."""

    side: Side
    price_ticks: int
    size_lots: int
    fee: Decimal


@dataclass(frozen=True, slots=True)
class TripReport:
    """What the round trips came to, USD. `open_lines` is what still waits for its other half.

    Attributes
    ----------
    round_trips : int
        Lines that were opened and closed again, whole.
    pnl : Decimal
        Spread of all lots that were closed, less their fees on both sides.
    """

    round_trips: int
    pnl: Decimal
    spread: Decimal
    fees: Decimal
    closed_lots: int
    open_lines: tuple[OpenLine, ...]


@dataclass(frozen=True, slots=True)
class GridSummary:
    """What a run's summary says of its ladder: what it earned, and where it stands at the end.

    `pnl_usd` is that of the round trips, `open_lines` counts those that wait for their other half, `hole` is
    the line in which nothing rests, `anchor` the price of line 0, `anchored` how often it was set.
    """

    round_trips: int
    pnl_usd: Decimal
    spread_usd: Decimal
    fees_usd: Decimal
    open_lines: int
    hole: int
    anchor: Decimal
    spacing_bps: float
    line_size: Decimal
    anchored: int

    def rows(self) -> dict[str, str]:
        """Rows of the summary's table, by label."""
        return {
            "grid round trips": f"{self.round_trips:,}",
            "grid round trips USD": f"{self.pnl_usd:,.4f}",
            "grid open lines": f"{self.open_lines:,}",
            "grid anchor / hole": f"{self.anchor:f} / {self.hole:+d}",
            "grid spacing bps": f"{self.spacing_bps:.2f}",
        }


def grid_summary(instrument: Instrument, ladder: LadderState, trips: TripReport) -> GridSummary:
    """Put a ladder and what it earned together."""
    return GridSummary(
        round_trips=trips.round_trips,
        pnl_usd=trips.pnl,
        spread_usd=trips.spread,
        fees_usd=trips.fees,
        open_lines=len(trips.open_lines),
        hole=ladder.hole,
        anchor=_EXACT.multiply(instrument.tick, Decimal(ladder.anchor_ticks)),
        spacing_bps=ladder.spacing_bps,
        line_size=instrument.size(ladder.line_lots),
        anchored=ladder.anchored,
    )


def held_lines(position_lots: int, mid2_ticks: int) -> list[OpenLine]:
    """A position of unknown origin as an open line, traded at a mid (doubled, ticks) without a fee."""
    side = Side.BUY if position_lots > 0 else Side.SELL
    return [OpenLine(side, mid2_ticks // 2, abs(position_lots), _ZERO)] if position_lots else []


@dataclass(slots=True)
class _Lots:
    size_lots: int
    fee: Decimal

    def take(self, lots: int) -> Decimal:
        """Take lots away; their share of the fee."""
        share = self.fee if lots == self.size_lots else _share(self.fee, lots, self.size_lots)
        self.size_lots -= lots
        self.fee = _EXACT.subtract(self.fee, share)
        return share


def _share(fee: Decimal, lots: int, of_lots: int) -> Decimal:
    with localcontext(prec=_EXACT.prec):
        return (fee * lots / of_lots).quantize(_FEE_GRAIN, ROUND_HALF_EVEN).normalize()


class RoundTrips:
    """The round trips of one market.

    Examples
    --------
    >>> trips = RoundTrips(Instrument("X-USD", Decimal("0.5"), Decimal("0.01"), Decimal("0.01")))
    >>> trips.book(Side.BUY, 200, 10, Decimal("0.001"), line_lots=10)
    >>> trips.book(Side.SELL, 202, 10, Decimal("0.001"), line_lots=10)
    >>> trips.report().round_trips, trips.report().pnl
    (1, Decimal('0.098'))
    """

    def __init__(self, instrument: Instrument, open_lines: Iterable[OpenLine] = ()) -> None:
        self._unit = _EXACT.multiply(instrument.tick, instrument.step)
        self._open: dict[Side, dict[int, _Lots]] = {Side.BUY: {}, Side.SELL: {}}
        self._spread_tick_lots = 0
        self._fees = _ZERO
        self._closed_lots = 0
        self._trips = 0
        self._part_lots = 0  # closed of the round trip that is not complete
        for line in open_lines:
            self._add(line.side, line.price_ticks, _Lots(line.size_lots, line.fee))

    @property
    def net_lots(self) -> int:
        """Signed size of what is open."""
        return sum(int(side) * lots.size_lots for side, at in self._open.items() for lots in at.values())

    def book(self, side: Side, price_ticks: int, size_lots: int, fee: Decimal, line_lots: int) -> None:
        """Take one fill in.

        Parameters
        ----------
        fee : Decimal
            Paid for the fill, USD; negative for a rebate.
        line_lots : int
            Size of a line of the ladder now: so many closed lots are a round trip.
        """
        filled = _Lots(size_lots, fee)
        against = self._open[Side(-side)]
        while filled.size_lots and against:
            at_ticks = min(against) if side == Side.SELL else max(against)
            other = against[at_ticks]
            lots = min(filled.size_lots, other.size_lots)
            self._fees = _EXACT.add(self._fees, _EXACT.add(filled.take(lots), other.take(lots)))
            self._spread_tick_lots += int(side) * (at_ticks - price_ticks) * lots
            self._count(lots, line_lots)
            if not other.size_lots:
                del against[at_ticks]
        if filled.size_lots:
            self._add(side, price_ticks, filled)

    def report(self) -> TripReport:
        """What the round trips came to until now; open lines from the lowest price."""
        spread = _EXACT.multiply(self._unit, self._spread_tick_lots)
        return TripReport(
            round_trips=self._trips,
            pnl=_EXACT.subtract(spread, self._fees),
            spread=spread,
            fees=self._fees,
            closed_lots=self._closed_lots,
            open_lines=tuple(
                OpenLine(side, price, lots.size_lots, lots.fee)
                for side, at in self._open.items()
                for price, lots in sorted(at.items())
            ),
        )

    def _add(self, side: Side, price_ticks: int, lots: _Lots) -> None:
        there = self._open[side].setdefault(price_ticks, _Lots(0, _ZERO))
        there.size_lots += lots.size_lots
        there.fee = _EXACT.add(there.fee, lots.fee)

    def _count(self, lots: int, line_lots: int) -> None:
        self._closed_lots += lots
        whole, self._part_lots = divmod(self._part_lots + lots, max(line_lots, 1))
        self._trips += whole
