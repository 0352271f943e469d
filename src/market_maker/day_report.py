"""What a day came to, by market, from exact values: traded, paid, received, and where profit came from.

Until the last fill of the day the profit is what the fills earned against the mids before them (`spread`),
what those mids moved while a position was held from one fill to the next (`movement`), and fees, rebates and
funding. Each part is summed on its own; with the first and last mid they add up to the cash that flowed plus
the change of the position's value. What sessions that lie within the day say of themselves, with adverse
selection apart, is summed beside it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact, InvalidOperation, localcontext
from typing import Final, NamedTuple

from market_maker.day_books import Day, FillRow, FundingRow
from market_maker.domain import Side
from market_maker.journal_history import BookedFill, JournalBooks, JournalledSession

_EXACT: Final = Context(prec=60, traps=[Inexact, InvalidOperation])
_ZERO: Final = Decimal(0)


@dataclass(slots=True)
class DayFigures:
    """Figures of a day, USD; of one market, or of all together.

    Fees are positive when paid, rebates and funding when received. `movement` and the positions (in units of
    the market) are None where nobody knows the position that the day began with; so is what depends on them.
    """

    buys: int = 0
    sells: int = 0
    volume: Decimal = _ZERO
    maker_volume: Decimal = _ZERO
    fees: Decimal = _ZERO
    rebates: Decimal = _ZERO
    funding: Decimal = _ZERO
    payments: int = 0
    spread: Decimal = _ZERO
    cash: Decimal = _ZERO
    movement: Decimal | None = _ZERO
    position_start: Decimal | None = None
    position_end: Decimal | None = None
    by_sessions: dict[str, Decimal] = field(default_factory=dict)

    @property
    def total(self) -> Decimal | None:
        """Profit until the last fill; None where `movement` is."""
        if self.movement is None:
            return None
        with localcontext(_EXACT):
            return self.spread + self.movement - self.fees + self.rebates + self.funding


class DayReport(NamedTuple):
    """A day by market, all of it, and sessions that lie only partly in it: their summaries are no part."""

    markets: dict[str, DayFigures]
    total: DayFigures
    not_attributed: list[str]


def day_report(books: JournalBooks, day: Day, held_at_end: Mapping[str, Decimal] | None) -> DayReport:
    """Figures of a day from the journal's books; an entry that stands there twice counts once.

    Parameters
    ----------
    held_at_end : mapping of str to Decimal or None
        Signed positions at the end of the day, flat where not named; None where they are not known.
    """
    fills = {(fill.row.market, fill.row.number, fill.row.side): fill for fill in reversed(books.fills)}
    payments = {(payment.market, payment.number): payment for payment in reversed(books.funding)}
    fills_of: defaultdict[str, list[BookedFill]] = defaultdict(list)
    payments_of: defaultdict[str, list[FundingRow]] = defaultdict(list)
    for fill in fills.values():
        if day.has(fill.row.venue_ns):
            fills_of[fill.row.market].append(fill)
    for payment in payments.values():
        if day.has(payment.venue_ns):
            payments_of[payment.market].append(payment)
    inside = [session for session in books.sessions if _is_within(session, day)]
    markets = sorted({*fills_of, *payments_of, *(name for session in inside for name in session.pnl)})
    figures = {}
    with localcontext(_EXACT):
        for name in markets:
            held = None if held_at_end is None else held_at_end.get(name, _ZERO)
            figures[name] = _traded(fills_of[name], held)
            figures[name].payments = len(payments_of[name])
            figures[name].funding = sum((payment.amount for payment in payments_of[name]), _ZERO)
            figures[name].cash += figures[name].funding
            figures[name].by_sessions = _summed(session.pnl.get(name, {}) for session in inside)
        total = _together(figures.values())
    return DayReport(figures, total, [s.name for s in books.sessions if s not in inside and _touches(s, day)])


def position_at(
    held_now: Mapping[str, Decimal], trades: Iterable[FillRow], end_ns: int
) -> dict[str, Decimal]:
    """Signed positions at an instant: those of now, with all that was traded from then on taken back."""
    held: defaultdict[str, Decimal] = defaultdict(Decimal, held_now)
    with localcontext(_EXACT):
        for trade in trades:
            if trade.venue_ns >= end_ns:
                held[trade.market] -= trade.side * trade.size
    return dict(held)


def book_totals(trades: Iterable[FillRow], payments: Iterable[FundingRow], day: Day) -> dict[str, Decimal]:
    """Sums of a book of a day, USD: volume, fees, rebates and funding, signed as in `DayFigures`."""
    of_day = [row for row in trades if day.has(row.venue_ns)]
    with localcontext(_EXACT):
        return {
            "volume_usd": sum((row.price * row.size for row in of_day), _ZERO),
            "fees_usd": sum((max(row.fee, _ZERO) for row in of_day), _ZERO),
            "rebates_usd": sum((max(-row.fee, _ZERO) for row in of_day), _ZERO),
            "funding_usd": sum((row.amount for row in payments if day.has(row.venue_ns)), _ZERO),
        }


def _is_within(session: JournalledSession, day: Day) -> bool:
    return bool(session.pnl) and day.has(session.begun_ns) and day.has(session.ended_ns)


def _touches(session: JournalledSession, day: Day) -> bool:
    return session.begun_ns < day.end_ns and session.ended_ns >= day.start_ns


def _traded(fills: list[BookedFill], held_at_end: Decimal | None) -> DayFigures:
    """Figures of the fills of one market."""
    fills = sorted(fills, key=lambda fill: (fill.row.venue_ns, fill.row.number))
    figures = DayFigures(position_end=held_at_end, movement=None if held_at_end is None else _ZERO)
    for row, mid in fills:
        value, signed = row.price * row.size, row.side * row.size
        figures.buys += row.side is Side.BUY
        figures.sells += row.side is Side.SELL
        figures.volume += value
        figures.maker_volume += _ZERO if row.is_taker else value
        figures.fees += max(row.fee, _ZERO)
        figures.rebates += max(-row.fee, _ZERO)
        figures.spread += signed * (mid - row.price)
        figures.cash -= row.side * value + row.fee
    if held_at_end is not None:
        figures.movement, figures.position_start = _movement(fills, held_at_end)
    return figures


def _movement(fills: list[BookedFill], held_at_end: Decimal) -> tuple[Decimal, Decimal]:
    """What mids moved while a position was held between fills, USD; and the position before the first."""
    held, movement = held_at_end, _ZERO
    later_mid: Decimal | None = None
    for row, mid in reversed(fills):
        if later_mid is not None:
            movement += held * (later_mid - mid)
        held -= row.side * row.size
        later_mid = mid
    return movement, held


def _summed(parts: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    total: defaultdict[str, Decimal] = defaultdict(Decimal)
    for by_name in parts:
        for name, amount in by_name.items():
            total[name] += amount
    return dict(total)


def _together(figures: Iterable[DayFigures]) -> DayFigures:
    total = DayFigures()
    for one in figures:
        total.buys += one.buys
        total.sells += one.sells
        total.payments += one.payments
        total.volume += one.volume
        total.maker_volume += one.maker_volume
        total.fees += one.fees
        total.rebates += one.rebates
        total.funding += one.funding
        total.spread += one.spread
        total.cash += one.cash
        if total.movement is not None:
            total.movement = None if one.movement is None else total.movement + one.movement
        total.by_sessions = _summed((total.by_sessions, one.by_sessions))
    return total
