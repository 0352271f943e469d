"""One contestant's books in a backtest: what the ledger keeps for a live session, from columns of fills.

Sums are exact: whole tick·lots (doubled where a mid is in them), fees and rebates in 10⁻⁹ of one, funding in
10⁻¹¹. What curves and intervals are made of is in floats of USD, for they are read and not booked.

The mid of a fill is the last one of an instant before it: what the very frame did to the book comes after.
A fill is kept until its last markout is known, so memory does not grow with the run.
"""

from collections import Counter
from collections.abc import Mapping
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.outcome import ALL_LEVELS, BOTH_SIDES, HORIZONS_S
from market_maker.backtest.series import Mids
from market_maker.backtest.sums import ATTRIBUTION_S, FILLS, Ints, Moves, Sums, exact_dot
from market_maker.domain import NS_PER_S
from market_maker.fills.rows import TAKER, EventKind, StrategyRow
from market_maker.instrument import Instrument
from market_maker.ledger import PnlParts

EXACT: Final = Context(prec=80, traps=[Inexact, InvalidOperation])
PPB: Final = Decimal("1E-9")
FUNDING_UNIT: Final = Decimal("1E-11")
_LAST_S: Final = HORIZONS_S[-1]
_NS_PER_DAY: Final = 86_400 * NS_PER_S

Floats = NDArray[np.floating[Any]]


class Parts(NamedTuple):
    """Cumulative USD at some instants, what is open valued at their mids."""

    volume: Floats
    spread: Floats
    adverse_selection: Floats
    inventory: Floats
    fees: Floats
    rebates: Floats
    funding: Floats


class Path(NamedTuple):
    """Instants at which position or mid may have changed, and what was held from each to the next."""

    ns: Ints
    held_usd: Floats  # signed


class Books:
    """Books of one contestant from the instant at which scoring starts.

    Parameters
    ----------
    rates : StrategyRow
        Fees and rebates as the run had them.
    position : int
        Lots held when scoring starts.
    mid2_ticks : int
        Mid then, doubled; 0 if there was none yet.
    """

    def __init__(self, instrument: Instrument, rates: StrategyRow, position: int, mid2_ticks: int) -> None:
        self.rates = rates
        self.opening = (position, mid2_ticks)
        self.sums = Sums()
        self.max_abs2 = abs(position) * mid2_ticks
        self.drawdown_usd = 0.0
        self.orders_filled = 0
        self._unit = EXACT.multiply(instrument.tick, instrument.step)
        self._unit_usd = float(self._unit)
        self._waiting: NDArray[Any] = np.zeros(0, FILLS)
        self._funding: list[tuple[int, int]] = []  # instant, 10⁻¹¹ tick·lots
        self._days: Counter[int] = Counter()
        self._partly: set[int] = set()
        self._peak_usd = 0.0

    def add(self, rows: NDArray[Any], mids: Mids) -> None:
        """Take in log rows of fills and funding since scoring began; `mids` reaches as far as they do."""
        paid = rows["kind"] == EventKind.FUNDING
        for row in rows[paid]:
            # Longs pay where the rate is positive; a mark is in hundredths of a tick.
            amount = -int(row["price_ticks"]) * int(row["remaining_lots"]) * int(row["lots"])
            self._funding.append((int(row["ns"]), amount))
        filled = rows[rows["kind"] == EventKind.FILL]
        if not len(filled):
            return
        fills = np.zeros(len(filled), FILLS)
        for name in ("ns", "order_id", "side", "price_ticks", "lots", "role", "position_lots"):
            fills[name] = filled[name]
        fills["rebate_ppb"] = filled["rebate_ppb"]
        fills["queue_ahead_lots"] = filled["queue_ahead_lots"]
        fills["level"] = filled["tag"] // 2
        fills["age_ns"] = np.where(filled["accepted_ns"] > 0, filled["ns"] - filled["accepted_ns"], 0)
        mid2 = mids.before(fills["ns"])
        mid2 = np.where(mid2 > 0, mid2, filled["mid2_ticks"])
        fills["mid2_ticks"] = np.where(mid2 > 0, mid2, 2 * fills["price_ticks"])
        self._note_inventory(fills)
        self._waiting = np.concatenate([self._waiting, fills])
        self._count_orders(filled)
        self._accrue(fills)

    def _note_inventory(self, fills: NDArray[Any]) -> None:
        before = self.opening[0] + self.sums.lots + int((self._waiting["side"] * self._waiting["lots"]).sum())
        after = before + np.cumsum(fills["side"] * fills["lots"])
        self.max_abs2 = max(self.max_abs2, int(np.abs(after * fills["mid2_ticks"]).max()))

    def _count_orders(self, filled: NDArray[Any]) -> None:
        """Count orders at their first fill; those filled in part may be met again."""
        ids = np.unique(filled["order_id"])
        self.orders_filled += len(ids) - sum(1 for order_id in ids.tolist() if order_id in self._partly)
        ended = filled["remaining_lots"] == 0
        self._partly.update(filled["order_id"][~ended].tolist())
        self._partly.difference_update(filled["order_id"][ended].tolist())
        # Ids rise, and an order lives minutes.
        oldest = int(ids[-1]) - 10_000
        self._partly = {order_id for order_id in self._partly if order_id > oldest}

    def _accrue(self, fills: NDArray[Any]) -> None:
        """Rebates by day, for what is credited at its end."""
        earning = fills[fills["rebate_ppb"] > 0]
        days = earning["ns"] // _NS_PER_DAY
        for day in np.unique(days).tolist():
            of = earning[days == day]
            for rate in np.unique(of["rebate_ppb"]).tolist():
                at_rate = of[of["rebate_ppb"] == rate]
                self._days[day] += rate * exact_dot(at_rate["lots"], at_rate["price_ticks"])

    def resolve(self, mids: Mids, until_ns: int) -> None:
        """Give fills the mids of their horizons; all mids before `until_ns` are known."""
        rows = self._waiting
        for seconds in HORIZONS_S:
            due_ns = rows["ns"] + seconds * NS_PER_S
            name = f"mid2_{seconds}s"
            now = np.flatnonzero((rows[name] == 0) & (due_ns < until_ns))
            later = mids.at(due_ns[now])
            rows[name][now] = np.where(later > 0, later, rows["mid2_ticks"][now])

    def release(self, until_ns: int) -> NDArray[Any]:
        """Book the fills whose horizons are all before `until_ns`, and let them go."""
        count = int(np.searchsorted(self._waiting["ns"], until_ns - _LAST_S * NS_PER_S))
        rows = self._waiting[:count]
        self._waiting = self._waiting[count:].copy()
        self.sums.add(rows)
        return rows

    def release_all(self) -> NDArray[Any]:
        """Book what is left at the end."""
        rows, self._waiting = self._waiting, self._waiting[:0]
        self.sums.add(rows)
        return rows

    def parts(self, instants: Ints, mid2: Ints) -> Parts:
        """Cumulative parts at instants that are not before the last release, with their mids."""
        rows, sums = self._waiting, self.sums
        unit, half = self._unit_usd, 0.5 * self._unit_usd
        filled = np.searchsorted(rows["ns"], instants, "right")
        aged = np.searchsorted(rows["ns"] + ATTRIBUTION_S * NS_PER_S, instants, "right")
        signed = rows["side"] * rows["lots"]
        value = (rows["lots"] * rows["price_ticks"]).astype(np.float64)
        later = rows[f"mid2_{ATTRIBUTION_S}s"]
        lots, at_mid = _running(signed), _running(signed * rows["mid2_ticks"])
        spread = sums.spread2 + _running(signed * (rows["mid2_ticks"] - 2 * rows["price_ticks"]))[filled]
        adverse = sums.adverse2 + _running(signed * (later - rows["mid2_ticks"]))[aged]
        adverse = adverse + (lots[filled] - lots[aged]) * mid2 - (at_mid[filled] - at_mid[aged])
        position, opening2 = self.opening
        inventory = position * (mid2 - opening2) + (sums.lots5 + lots[aged]) * mid2
        inventory = inventory - sums.lots_mid5 - _running(signed * later)[aged]
        taken = np.where(rows["role"] == TAKER, value, 0.0)
        maker_cost = (float(sums.volume - sums.taker_volume) + _running(value - taken)[filled]) * float(
            self.rates.maker_fee_ppb
        )
        taker_cost = (float(sums.taker_volume) + _running(taken)[filled]) * float(self.rates.taker_fee_ppb)
        earned = float(sums.rebates_ppb) + _running(value * rows["rebate_ppb"])[filled]
        earned = earned + np.maximum(-maker_cost, 0.0) + np.maximum(-taker_cost, 0.0)
        cost = np.maximum(maker_cost, 0.0) + np.maximum(taker_cost, 0.0)
        return Parts(
            volume=(float(sums.volume) + _running(value)[filled]) * unit,
            spread=spread * half,
            adverse_selection=adverse * half,
            inventory=inventory * half,
            fees=-cost * (unit * 1e-9),
            rebates=earned * (unit * 1e-9),
            funding=self._funding_at(instants),
        )

    def _funding_at(self, instants: Ints) -> Floats:
        when = np.array([ns for ns, _ in self._funding], np.int64)
        amounts = np.array([float(amount) for _, amount in self._funding])
        return _running(amounts)[np.searchsorted(when, instants, "right")] * (self._unit_usd * 1e-11)

    def positions(self, instants: Ints) -> Ints:
        """Position after all fills up to each instant, lots."""
        signed = self._waiting["side"] * self._waiting["lots"]
        after = np.searchsorted(self._waiting["ns"], instants, "right")
        return self.opening[0] + self.sums.lots + _running(signed)[after]

    def path(self, mids: Mids, edges: Ints, from_ns: int, until_ns: int) -> Path:
        """What was held at each change in [from, until), edges among them; inventory and drawdown noted."""
        fill_ns = self._waiting["ns"]
        changes = np.concatenate(
            [
                np.array([from_ns], np.int64),
                _within(mids.ns, from_ns, until_ns),
                _within(fill_ns, from_ns, until_ns),
                edges,
            ]
        )
        changes.sort(kind="stable")
        mid2, position = mids.at(changes), self.positions(changes)
        held2 = position * mid2
        self.max_abs2 = max(self.max_abs2, int(np.abs(held2).max()))
        total = self._totals(changes, held2)
        peaks = np.maximum(np.maximum.accumulate(total), self._peak_usd)
        self._peak_usd = float(peaks[-1])
        self.drawdown_usd = max(self.drawdown_usd, float((peaks - total).max()))
        return Path(changes, held2 * (0.5 * self._unit_usd))

    def _totals(self, instants: Ints, held2: Ints) -> Floats:
        rows, sums = self._waiting, self.sums
        filled = np.searchsorted(rows["ns"], instants, "right")
        value = rows["lots"] * rows["price_ticks"]
        taken = rows["role"] == TAKER
        rate = np.where(taken, self.rates.taker_fee_ppb, self.rates.maker_fee_ppb) - rows["rebate_ppb"]
        paid = (sums.volume - sums.taker_volume) * float(self.rates.maker_fee_ppb)
        paid += sums.taker_volume * float(self.rates.taker_fee_ppb) - float(sums.rebates_ppb)
        cost = (paid + _running(value * (rate * 1.0)))[filled] * 1e-9
        flow2 = 2 * (sums.flow - _running(rows["side"] * value)[filled])
        gained2 = flow2 + held2 - self.opening[0] * self.opening[1]
        return gained2 * (0.5 * self._unit_usd) - cost * self._unit_usd + self._funding_at(instants)

    def usd(self, tick_lots: int, unit: Decimal = Decimal(1)) -> Decimal:
        """Exact USD of whole tick·lots, or of parts of one."""
        return EXACT.multiply(EXACT.multiply(self._unit, tick_lots), unit)

    def usd_of_double(self, tick_lots: int) -> Decimal:
        """Exact USD of doubled tick·lots."""
        return EXACT.divide(self.usd(tick_lots), Decimal(2))

    def pnl(self, end_mid2: int, marks: tuple[int, int]) -> PnlParts:
        """Parts at the end mid, each of its own sums; `marks` then and now, 1/100 tick, 0: the mid."""
        sums, (position, opening2) = self.sums, self.opening
        adverse2 = sums.adverse2 + sums.open_lots * end_mid2 - sums.open_lots_mid
        inventory2 = position * (end_mid2 - opening2) + sums.lots5 * end_mid2 - sums.lots_mid5
        fees, rebates = self._fees_and_rebates()
        basis = (position + sums.lots) * _over_mid(marks[1], end_mid2)
        basis -= position * _over_mid(marks[0], opening2)
        return PnlParts(
            spread=self.usd_of_double(sums.spread2),
            adverse_selection=self.usd_of_double(adverse2),
            inventory=self.usd_of_double(inventory2),
            fees=EXACT.minus(self.usd(fees, PPB)),
            rebates=self.usd(rebates, PPB),
            funding=self.usd(sum(amount for _, amount in self._funding), FUNDING_UNIT),
            basis=self.usd(basis, Decimal("0.01")),
        )

    def _fees_and_rebates(self) -> tuple[int, int]:
        """Paid and earned, 10⁻⁹ tick·lots; a negative fee is a rebate."""
        sums = self.sums
        costs = (
            (sums.volume - sums.taker_volume) * self.rates.maker_fee_ppb,
            sums.taker_volume * self.rates.taker_fee_ppb,
        )
        paid = sum(max(cost, 0) for cost in costs)
        return paid, sums.rebates_ppb + sum(max(-cost, 0) for cost in costs)

    def rebates_credited(self, end_ns: int) -> Decimal:
        """Rebates of whole days that were enough to be credited, of those accrued since scoring began."""
        least = self.rates.rebate_least_tick_lots * 10**9
        today = end_ns // _NS_PER_DAY
        return self.usd(sum(n for day, n in self._days.items() if day < today and n >= least), PPB)

    def change_of_equity(self, end_mid2: int, marks: tuple[int, int]) -> Decimal:
        """Cash since scoring began and the change of the position's value at the mark, on their own."""
        sums, (position, opening2) = self.sums, self.opening
        fees, rebates = self._fees_and_rebates()
        held = (position + sums.lots) * (_over_mid(marks[1], end_mid2) + 50 * end_mid2)
        held -= position * (_over_mid(marks[0], opening2) + 50 * opening2)
        cash = EXACT.add(self.usd(sums.flow), self.usd(rebates - fees, PPB))
        funding = self.usd(sum(amount for _, amount in self._funding), FUNDING_UNIT)
        return EXACT.add(EXACT.add(cash, funding), self.usd(held, Decimal("0.01")))

    def moves(self) -> Mapping[tuple[int, int, int], Moves]:
        """Markout sums by side, level and horizon, and their totals."""
        found: dict[tuple[int, int, int], Moves] = {}
        for (side, level, seconds), moves in sorted(self.sums.moves.items()):
            for of in ((BOTH_SIDES, ALL_LEVELS), (side, ALL_LEVELS), (side, level)):
                key = (*of, seconds)
                found[key] = found.get(key, Moves()).plus(moves)
        return found


def _running(values: NDArray[Any]) -> NDArray[Any]:
    """Sums of the first 0, 1, 2 … values."""
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])


def _within(ns: Ints, from_ns: int, until_ns: int) -> Ints:
    first, last = np.searchsorted(ns, [from_ns, until_ns])
    return ns[first:last]


def _over_mid(mark_parts: int, mid2_ticks: int) -> int:
    """By how much the mark lies over the mid, 1/100 tick; an unknown mark is the mid."""
    return mark_parts - 50 * mid2_ticks if mark_parts else 0
