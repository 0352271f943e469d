"""What became of contestants on stress days: figures, table, JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from itertools import groupby, pairwise
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from market_maker.backtest.outcome import Label
from market_maker.backtest.stress_account import WayOut
from market_maker.domain import NS_PER_S, Reason
from market_maker.risk_manager import RiskSettings
from market_maker.summary import OrderCounts, Uptime


class Session(Enum):
    """What is played of a day, and with whose account."""

    DAY = "day"
    CRASH = "crash"
    SHARED = "crash, one account"


@dataclass(frozen=True)
class StressOutcome:
    """A contestant in a session of a market. USD.

    Attributes
    ----------
    market_volume_usd : float
        Of the bars that were played.
    loss_usd, max_fall_usd : float
        Largest fall of equity at the mark, below its start and below its highest.
    risk : RiskSettings
        Limits in force.
    max_loss_usd : float
        Largest loss from the highest equity with the way out, had it been taken.
    worst, dearest, end : WayOut
        Getting out at once where equity had fallen most below its highest, where it would have cost most, and
        at the end.
    halt : Reason
        Loss of a day or drawdown, if one of them ended it.
    gain_usd : array
        Equity less its start at each mark, one a second.
    """

    session: Session
    market: str
    date: str
    label: Label
    uptime: Uptime
    orders: OrderCounts
    fills: int
    volume_usd: float
    market_volume_usd: float
    pnl_usd: float
    fees_usd: float
    loss_usd: float
    max_fall_usd: float
    risk: RiskSettings
    max_position_usd: float
    max_margin_use: float
    max_margin_ratio: float
    liquidated_ns: int
    halt: Reason
    max_loss_usd: float
    worst: WayOut
    dearest: WayOut
    end: WayOut
    gain_usd: NDArray[np.float64] = field(repr=False)

    @property
    def holds(self) -> bool:
        """Whether there was no liquidation, and no loss beyond the stress loss."""
        return not self.liquidated_ns and _within(self.max_loss_usd, self.risk)


@dataclass(frozen=True)
class Together:
    """The markets of a date in one account; USD.

    Attributes
    ----------
    ways_out_usd : float
        Cost of getting out of each market where it would have cost most, which need not be one moment.
    max_margin_ratio : float
        Maintenance margin of the largest positions, had all been held at once, of the least equity; an upper
        bound. Liquidation from 1.
    """

    date: str
    markets: tuple[str, ...]
    label: Label
    risk: RiskSettings
    fills: int
    volume_usd: float
    pnl_usd: float
    loss_usd: float
    max_fall_usd: float
    ways_out_usd: float
    max_margin_ratio: float
    halt: Reason

    @property
    def max_loss_usd(self) -> float:
        """Largest fall with the dearest ways out, as if they had met; an upper bound."""
        return self.max_fall_usd + self.ways_out_usd

    @property
    def holds(self) -> bool:
        """Whether there can have been no liquidation, and was no loss beyond the stress loss."""
        return self.max_margin_ratio < 1.0 and _within(self.max_loss_usd, self.risk)


def _within(loss_usd: float, risk: RiskSettings) -> bool:
    return risk.max_stress_loss_usd <= 0 or loss_usd <= risk.max_stress_loss_usd


def together(outcomes: Sequence[StressOutcome]) -> list[Together]:
    """Accounts that markets shared."""

    def key(outcome: StressOutcome) -> tuple[str, str, str, float]:
        label = outcome.label
        return outcome.date, label.name, label.fill_model, label.latency_s

    shared = [outcome for outcome in outcomes if outcome.session is Session.SHARED]
    return [_added(list(group)) for _, group in groupby(sorted(shared, key=key), key)]


def _added(group: Sequence[StressOutcome]) -> Together:
    gain = np.sum([outcome.gain_usd for outcome in group], axis=0)
    falls = np.maximum.accumulate(np.maximum(gain, 0.0)) - gain
    start_usd = group[0].end.equity_usd - group[0].pnl_usd
    least_usd = max(start_usd + float(gain.min()), 1e-9)
    # A market's ratio is that of its own equity, which is no less than what the account had left.
    keeping = sum(one.max_margin_ratio * (start_usd + float(one.gain_usd.max())) for one in group)
    return Together(
        date=group[0].date,
        markets=tuple(one.market for one in group),
        label=group[0].label,
        risk=group[0].risk,
        fills=sum(one.fills for one in group),
        volume_usd=sum(one.volume_usd for one in group),
        pnl_usd=sum(one.pnl_usd for one in group),
        loss_usd=max(float(-gain.min()), 0.0),
        max_fall_usd=float(falls.max()),
        ways_out_usd=sum(max(one.dearest.cost_usd, 0.0) for one in group),
        max_margin_ratio=keeping / least_usd,
        halt=max(one.halt for one in group),
    )


def as_dict(outcome: StressOutcome) -> dict[str, Any]:
    """One entry of `stress`; money in USD as numbers, shares of 1."""
    uptime, orders = outcome.uptime, outcome.orders
    return {
        **_head(outcome.session, outcome.date, [outcome.market], outcome.label),
        "quote_uptime": uptime.quote_uptime,
        "one_sided": dict(uptime.one_sided),
        "pauses": dict(uptime.pauses),
        "orders": {
            "placed": orders.placed,
            "replaced": orders.replaced,
            "cancelled": orders.cancelled,
            "rejected": orders.rejected,
        },
        "fills": outcome.fills,
        "volume_usd": _cents(outcome.volume_usd),
        "volume_share": outcome.volume_usd / outcome.market_volume_usd if outcome.market_volume_usd else 0.0,
        "pnl_usd": _cents(outcome.pnl_usd),
        "fees_usd": _cents(outcome.fees_usd),
        "largest_loss_usd": _cents(outcome.loss_usd),
        "largest_fall_usd": _cents(outcome.max_fall_usd),
        "largest_fall_flattened_usd": _cents(outcome.max_loss_usd),
        "stress_loss_limit_usd": outcome.risk.max_stress_loss_usd,
        "halt": outcome.halt.name if outcome.halt else None,
        "max_inventory_usd": _cents(outcome.max_position_usd),
        "max_margin_use": outcome.max_margin_use,
        "max_margin_ratio": outcome.max_margin_ratio,
        "liquidated": _instant(outcome.liquidated_ns) if outcome.liquidated_ns else None,
        "flatten_worst": _way(outcome.worst),
        "flatten_dearest": _way(outcome.dearest),
        "flatten_end": _way(outcome.end),
        "holds": outcome.holds,
    }


def together_dict(account: Together) -> dict[str, Any]:
    """One entry of `stress` for an account of several markets."""
    return {
        **_head(Session.SHARED, account.date, account.markets, account.label),
        "fills": account.fills,
        "volume_usd": _cents(account.volume_usd),
        "pnl_usd": _cents(account.pnl_usd),
        "largest_loss_usd": _cents(account.loss_usd),
        "largest_fall_usd": _cents(account.max_fall_usd),
        "largest_fall_flattened_usd": _cents(account.max_loss_usd),
        "stress_loss_limit_usd": account.risk.max_stress_loss_usd,
        "halt": account.halt.name if account.halt else None,
        "max_margin_ratio": account.max_margin_ratio,
        "holds": account.holds,
    }


def stress_json(outcomes: Sequence[StressOutcome]) -> list[dict[str, Any]]:
    """Entries of all sessions, accounts of several markets last."""
    return [*map(as_dict, outcomes), *map(together_dict, together(outcomes))]


def _head(session: Session, date: str, markets: Sequence[str], label: Label) -> dict[str, Any]:
    return {
        "session": session.name.lower(),
        "date": date,
        "markets": list(markets),
        "name": label.name,
        "profile": label.profile,
        "fill_model": label.fill_model,
        "latency_ms": label.latency_s * 1000.0,
    }


def _way(way: WayOut) -> dict[str, Any]:
    return {
        "at": _instant(way.ns),
        "position_usd": _cents(way.position_usd),
        "cost_usd": _cents(way.cost_usd),
        "fee_usd": _cents(way.fee_usd),
        "beyond_lots": way.beyond_lots,
    }


def _cents(amount: float) -> float:
    return round(amount, 2) + 0.0


def _instant(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // NS_PER_S, UTC):%Y-%m-%dT%H:%M:%SZ}"


def stress_table(outcomes: Sequence[StressOutcome]) -> Group:
    """Tables for a terminal of 100 columns: one for each session."""
    tables = []
    for session in (Session.DAY, Session.CRASH):
        rows = [outcome for outcome in outcomes if outcome.session is session]
        if rows:
            tables.append(_alone(session, rows))
    shared = together(outcomes)
    if shared:
        tables.append(_shared(shared))
    return Group(*tables)


_TITLES: Final = {
    Session.DAY: "Whole day, an account for each market",
    Session.CRASH: "From the hour before the crash, an account for each market",
    Session.SHARED: "From the hour before the crash, one account for all markets of the date",
}
_CAPTION: Final = (
    "USD, at the mark. fall: largest, from the highest equity; dear, end: cost of getting out at "
    "once, the most at any time and at the end; loss: largest fall with it; held: largest inventory; "
    "MM: maintenance margin / equity at most. holds: no liquidation, and the loss within the stress "
    "loss of {limit}; stop: by the limit of drawdown or day's loss"
)
_TEXTS: Final = ("day", "who", "fills by")
_Entry = TypeVar("_Entry", StressOutcome, Together)


def _table(
    session: Session,
    entries: Sequence[_Entry],
    columns: Sequence[str],
    cells: Callable[[_Entry], Sequence[str]],
) -> Table:
    limits = sorted({f"{one.risk.max_stress_loss_usd:,.0f}" for one in entries})
    table = Table(
        title=_TITLES[session], caption=_CAPTION.format(limit=" / ".join(limits)), box=SIMPLE_HEAD, padding=0
    )
    for column in ("day", "who", "fills by", *columns, "holds"):
        table.add_column(column, justify="left" if column in _TEXTS else "right", no_wrap=True)
    days = [*(_day(one) for one in entries), ""]
    for one, (day, following) in zip(entries, pairwise(days), strict=True):
        label, verdict = one.label, ("yes" if one.holds else "NO") + (", stop" if one.halt else "")
        table.add_row(day, label.name, label.fill_model, *cells(one), verdict, end_section=day != following)
    return table


def _day(entry: StressOutcome | Together) -> str:
    markets = (entry.market,) if isinstance(entry, StressOutcome) else entry.markets
    return f"{' '.join(name.removesuffix('-USD') for name in markets)} {entry.date[2:].replace('-', '')}"


def _alone(session: Session, entries: Sequence[StressOutcome]) -> Table:
    def cells(one: StressOutcome) -> Sequence[str]:
        return (
            f"{one.uptime.quote_uptime:.0%}",
            f"{one.fills:,}",
            f"{one.pnl_usd:,.0f}",
            f"{one.max_fall_usd:,.0f}",
            f"{one.dearest.cost_usd:,.0f}",
            f"{one.end.cost_usd:,.0f}",
            f"{one.max_loss_usd:,.0f}",
            f"{one.max_position_usd:,.0f}",
            f"{one.max_margin_ratio:.1%}",
        )

    return _table(
        session, entries, ("up", "fills", "PnL", "fall", "dear", "end", "loss", "held", "MM"), cells
    )


def _shared(entries: Sequence[Together]) -> Table:
    def cells(one: Together) -> Sequence[str]:
        return (
            f"{one.fills:,}",
            f"{one.volume_usd / 1e6:,.2f}",
            f"{one.pnl_usd:,.0f}",
            f"{one.max_fall_usd:,.0f}",
            f"{one.ways_out_usd:,.0f}",
            f"{one.max_loss_usd:,.0f}",
            f"{one.max_margin_ratio:.1%}",
        )

    return _table(Session.SHARED, entries, ("fills", "M USD", "PnL", "fall", "dear", "loss", "MM"), cells)
