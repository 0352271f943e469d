"""What was traded, paid and earned, exactly; and where the profit came from.

Positions are lots, sums of price times size whole tick·lots, money Decimal in a context that raises rather
than rounds. Mids come doubled (bid + ask, in ticks), so that they are whole.

For fill i of signed size qᵢ at price pᵢ, mid mᵢ (the last before it), end mid m_E and m₅ the mid five seconds
later or at the end: spread Σ qᵢ(mᵢ − pᵢ), adverse selection Σ qᵢ(m₅ − mᵢ), inventory q₀(m_E − m₀) +
Σ qᵢ(m_E − m₅), and fees, rebates, funding as booked. Each is summed on its own; that they add up to the
change of equity less the basis (position × (mark − mid)) is an identity for the tests, not a definition.
"""

from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Final, NamedTuple

from market_maker.domain import BPS, NS_PER_S, Side
from market_maker.gateway import FillReport, FundingPayment
from market_maker.instrument import Instrument

MARKOUT_HORIZONS_S: Final = (1, 5, 30)
_ATTRIBUTION_S: Final = 5
_EXACT: Final = Context(prec=60, traps=[Inexact, InvalidOperation])
_ZERO: Final = Decimal(0)
_REMEMBERED_IDS: Final = 100_000


class OpeningPosition(NamedTuple):
    """Position in a market when the ledger begins: signed lots, doubled mid in ticks, the exchange's mark."""

    lots: int
    mid2_ticks: int
    mark: Decimal


@dataclass(frozen=True, slots=True)
class PnlParts:
    """Profit in one market by where it came from, USD. `basis` leads from `total` to the change of equity."""

    spread: Decimal
    adverse_selection: Decimal
    inventory: Decimal
    fees: Decimal
    rebates: Decimal
    funding: Decimal
    basis: Decimal

    def by_name(self) -> dict[str, Decimal]:
        """The parts that add up to the total, by name."""
        return {
            "spread": self.spread,
            "adverse_selection": self.adverse_selection,
            "inventory": self.inventory,
            "fees": self.fees,
            "rebates": self.rebates,
            "funding": self.funding,
        }

    @property
    def total(self) -> Decimal:
        """Sum of the parts, basis not among them."""
        total = _ZERO
        for part in self.by_name().values():
            total = _EXACT.add(total, part)
        return total


@dataclass(slots=True)
class FillCounts:
    """Fills of one market: counts by side, sizes in lots, volume in tick·lots."""

    buys: int = 0
    sells: int = 0
    volume_tick_lots: int = 0
    maker_tick_lots: int = 0
    limit_breaches: int = 0


class _Pending(NamedTuple):
    due_ns: int
    lots: int
    mid2_ticks: int
    price_ticks: int


@dataclass(slots=True)
class _Horizon:
    """Fills that wait for their mid some seconds later, and the sums of those that had it (doubled ticks)."""

    after_ns: int
    waiting: deque[_Pending] = field(default_factory=deque)
    lots: int = 0
    lots_mid_later: int = 0  # Σ q·m_h
    move: int = 0  # Σ q·(m_h − m)
    move_from_price: int = 0  # Σ q·(m_h − p)
    volume: int = 0  # Σ |q|·m
    volume_at_price: int = 0  # Σ |q|·p

    def add(self, now_ns: int, lots: int, mid2_ticks: int, price_ticks: int) -> None:
        due_ns = now_ns + self.after_ns
        if self.waiting:
            due_ns = max(due_ns, self.waiting[-1].due_ns)
        self.waiting.append(_Pending(due_ns, lots, mid2_ticks, price_ticks))

    def resolve(self, before_ns: int, mid2_ticks: int) -> None:
        """Give the mid to all that were due before an instant."""
        while self.waiting and self.waiting[0].due_ns < before_ns:
            item = self.waiting.popleft()
            self.lots += item.lots
            self.lots_mid_later += item.lots * mid2_ticks
            self.move += item.lots * (mid2_ticks - item.mid2_ticks)
            self.move_from_price += item.lots * (mid2_ticks - 2 * item.price_ticks)
            self.volume += abs(item.lots) * item.mid2_ticks
            self.volume_at_price += abs(item.lots) * 2 * item.price_ticks


@dataclass(slots=True)
class _Account:
    """One market's books. Sums of price × size are in tick·lots, doubled where a mid is in them."""

    instrument: Instrument
    opening: OpeningPosition
    position: int
    mid2_ticks: int
    mark: Decimal | None
    flow: int = 0  # −Σ q·p
    spread2: int = 0
    fees: Decimal = _ZERO
    rebates: Decimal = _ZERO
    funding: Decimal = _ZERO
    max_abs2: int = 0
    counts: FillCounts = field(default_factory=FillCounts)
    horizons: dict[int, _Horizon] = field(
        default_factory=lambda: {s: _Horizon(s * NS_PER_S) for s in MARKOUT_HORIZONS_S}
    )

    def usd(self, tick_lots: int) -> Decimal:
        unit = _EXACT.multiply(self.instrument.tick, self.instrument.step)
        return _EXACT.multiply(unit, tick_lots)

    def usd_of_double(self, tick_lots: int) -> Decimal:
        return _EXACT.divide(self.usd(tick_lots), Decimal(2))

    def value(self, lots: int, price: Decimal) -> Decimal:
        return _EXACT.multiply(_EXACT.multiply(self.instrument.step, lots), price)

    def mid(self, mid2_ticks: int) -> Decimal:
        return _EXACT.divide(_EXACT.multiply(self.instrument.tick, mid2_ticks), Decimal(2))

    def cash(self) -> Decimal:
        """Cash since the beginning: trades, fees, rebates, funding."""
        cash = _EXACT.subtract(self.usd(self.flow), self.fees)
        return _EXACT.add(_EXACT.add(cash, self.rebates), self.funding)

    def last_mark(self) -> Decimal:
        return self.mid(self.mid2_ticks) if self.mark is None else self.mark

    def note_inventory(self) -> None:
        self.max_abs2 = max(self.max_abs2, abs(self.position) * self.mid2_ticks)


class Ledger:
    """Exact books of all markets of one account.

    Parameters
    ----------
    instruments : mapping of str to Instrument
        The markets that are booked.
    start_equity : Decimal
        The account's equity at the beginning, at the exchange's marks, USD.
    opening : mapping of str to OpeningPosition
        Positions at the beginning; flat where not named.
    """

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        start_equity: Decimal,
        opening: Mapping[str, OpeningPosition] | None = None,
    ) -> None:
        self._accounts: dict[str, _Account] = {}
        self._start_cash = start_equity
        self._trade_ids: OrderedDict[tuple[str, int, int], None] = OrderedDict()
        self._payment_ids: OrderedDict[tuple[str, int, int], None] = OrderedDict()
        for name, instrument in instruments.items():
            start = (opening or {}).get(name)
            mark = None if start is None else start.mark
            start = start or OpeningPosition(0, 0, _ZERO)
            account = _Account(instrument, start, start.lots, start.mid2_ticks, mark)
            account.note_inventory()
            self._accounts[name] = account
            self._start_cash = _EXACT.subtract(self._start_cash, account.value(start.lots, start.mark))

    def book_fill(
        self, report: FillReport, mid2_ticks: int, limits_lots: tuple[int, int] | None = None
    ) -> bool:
        """Book a match once.

        Parameters
        ----------
        mid2_ticks : int
            Best bid plus best ask before the fill, ticks.
        limits_lots : (long, short), optional
            Limits in force when it came; a fill that adds risk past them is counted as a breach.

        Returns
        -------
        bool
            False if the trade was booked before.
        """
        fill = report.fill
        if not _remember(self._trade_ids, (fill.market, fill.trade_id, int(fill.side))):
            return False
        account = self._accounts[fill.market]
        lots = int(fill.side) * fill.size_lots
        notional = fill.price_ticks * fill.size_lots
        account.position += lots
        account.flow -= lots * fill.price_ticks
        account.spread2 += lots * (mid2_ticks - 2 * fill.price_ticks)
        account.mid2_ticks = account.mid2_ticks or mid2_ticks
        if report.fee < 0:
            account.rebates = _EXACT.subtract(account.rebates, report.fee)
        else:
            account.fees = _EXACT.add(account.fees, report.fee)
        for horizon in account.horizons.values():
            horizon.add(fill.recv_ns, lots, mid2_ticks, fill.price_ticks)
        account.note_inventory()
        counts = account.counts
        counts.buys += fill.side == Side.BUY
        counts.sells += fill.side == Side.SELL
        counts.volume_tick_lots += notional
        counts.maker_tick_lots += 0 if fill.is_taker else notional
        counts.limit_breaches += _is_breach(fill.side, account.position, limits_lots)
        return True

    def on_mid(self, market: str, mid2_ticks: int, now_ns: int) -> None:
        """A new mid: best bid plus best ask, ticks. Markouts due before it take the mid until now."""
        account = self._accounts[market]
        for horizon in account.horizons.values():
            if horizon.waiting:
                horizon.resolve(now_ns, account.mid2_ticks)
        account.mid2_ticks = mid2_ticks
        account.note_inventory()

    def on_mark(self, market: str, mark: Decimal) -> None:
        """A new mark price of the exchange, USD."""
        self._accounts[market].mark = mark

    def book_funding(self, payment: FundingPayment) -> bool:
        """Book a funding payment once, positive when received; False if it was booked before."""
        if not _remember(self._payment_ids, (payment.market, payment.payment_id, 0)):
            return False
        account = self._accounts[payment.market]
        account.funding = _EXACT.add(account.funding, payment.amount)
        return True

    def close(self, end_ns: int) -> None:
        """End the books: markouts due by now are resolved, those that are not stay out of the averages."""
        for account in self._accounts.values():
            for horizon in account.horizons.values():
                horizon.resolve(end_ns + 1, account.mid2_ticks)

    def has(self, market: str) -> bool:
        """Whether a market is booked here."""
        return market in self._accounts

    def position_lots(self, market: str) -> int:
        """Signed position by the fills that were booked."""
        return self._accounts[market].position

    def mid2_ticks(self, market: str) -> int:
        """Twice the last mid, ticks; at first that of the opening position, else 0."""
        return self._accounts[market].mid2_ticks

    def counts(self, market: str) -> FillCounts:
        """Counts of a market's fills."""
        return self._accounts[market].counts

    def attribution(self, market: str) -> PnlParts:
        """Where the profit came from until now; the last mid is the end."""
        account = self._accounts[market]
        horizon = account.horizons[_ATTRIBUTION_S]
        end2 = account.mid2_ticks
        adverse2 = horizon.move
        for item in horizon.waiting:
            adverse2 += item.lots * (end2 - item.mid2_ticks)
        opening = account.opening
        # A fill that waits has m₅ = m_E, and adds nothing to the inventory part.
        inventory2 = opening.lots * (end2 - opening.mid2_ticks)
        inventory2 += horizon.lots * end2 - horizon.lots_mid_later
        basis_now = _EXACT.subtract(account.last_mark(), account.mid(end2))
        basis_then = _EXACT.subtract(opening.mark, account.mid(opening.mid2_ticks))
        return PnlParts(
            spread=account.usd_of_double(account.spread2),
            adverse_selection=account.usd_of_double(adverse2),
            inventory=account.usd_of_double(inventory2),
            fees=_EXACT.minus(account.fees),
            rebates=account.rebates,
            funding=account.funding,
            basis=_EXACT.subtract(
                account.value(account.position, basis_now), account.value(opening.lots, basis_then)
            ),
        )

    def change_of_equity(self, market: str) -> Decimal:
        """Cash of a market since the beginning plus the change of its position's value at the mark, USD."""
        account = self._accounts[market]
        held = account.value(account.position, account.last_mark())
        brought = account.value(account.opening.lots, account.opening.mark)
        return _EXACT.subtract(_EXACT.add(account.cash(), held), brought)

    def equity(self, marks: Mapping[str, Decimal] | None = None) -> Decimal:
        """Equity at the given marks, or at the last ones heard where none is given, USD."""
        equity = self._start_cash
        for name, account in self._accounts.items():
            mark = (marks or {}).get(name, account.last_mark())
            equity = _EXACT.add(equity, account.cash())
            equity = _EXACT.add(equity, account.value(account.position, mark))
        return equity

    def volume_usd(self, market: str) -> Decimal:
        """Traded notional, USD."""
        account = self._accounts[market]
        return account.usd(account.counts.volume_tick_lots)

    def maker_share(self, market: str) -> float:
        """Share of the volume that rested before it traded; 1 while there is none."""
        counts = self._accounts[market].counts
        return counts.maker_tick_lots / counts.volume_tick_lots if counts.volume_tick_lots else 1.0

    def max_abs_inventory_usd(self, market: str) -> Decimal:
        """Largest inventory that was held, at the mid, USD."""
        account = self._accounts[market]
        return account.usd_of_double(account.max_abs2)

    def inventory_usd(self, market: str) -> Decimal:
        """Signed inventory at the last mid, USD."""
        account = self._accounts[market]
        return account.usd_of_double(account.position * account.mid2_ticks)

    def markouts_bps(self, market: str, *, from_price: bool = False) -> dict[int, float]:
        """Volume-weighted move after our fills by horizon in seconds, positive when it went our way.

        From the mid at the fill, or from the fill's price. 0 while no fill is that old.
        """
        result = {}
        for seconds, horizon in self._accounts[market].horizons.items():
            move = horizon.move_from_price if from_price else horizon.move
            volume = horizon.volume_at_price if from_price else horizon.volume
            result[seconds] = move / volume * BPS if volume else 0.0
        return result


def _is_breach(side: Side, position: int, limits_lots: tuple[int, int] | None) -> bool:
    if limits_lots is None:
        return False
    long_lots, short_lots = limits_lots
    if side == Side.BUY:
        return position > max(0, long_lots)
    return -position > max(0, short_lots)


def _remember(ids: OrderedDict[tuple[str, int, int], None], key: tuple[str, int, int]) -> bool:
    if key in ids:
        return False
    ids[key] = None
    if len(ids) > _REMEMBERED_IDS:
        ids.popitem(last=False)
    return True
