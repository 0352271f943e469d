"""What a session came to: the same summary from every host, as JSON, and as a table for the terminal.

Time is counted from the first quote. It is split without rest: both sides good, one side missing on purpose
(a limit, the trend), or paused, by reason. A quote is good where it rests at half of its level's size or
more, near the fair value. Amounts of money are exact decimal strings; shares, rates and markouts are floats.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

import msgspec
from rich.console import Group
from rich.table import Table

from market_maker.domain import NS_PER_MS, NS_PER_S, Reason
from market_maker.round_trips import GridSummary

_NEAR_SPREADS: Final = 3.0
_S_PER_MINUTE: Final = 60.0
_CENT_DIGITS: Final = 2
_ON_PURPOSE: Final = frozenset(
    {
        Reason.POSITION_LIMIT,
        Reason.STRONG_TREND,
        Reason.RISK_POSITION,
        Reason.RISK_NOTIONAL,
        Reason.RISK_GROSS,
        Reason.RISK_MARGIN,
        Reason.RISK_LIQUIDATION,
        Reason.RISK_STRESS,
    }
)
_RUNS_A_TABLE: Final = 3
_SECTION_ENDS: Final = frozenset({"paused", "volume USD", "basis USD", "limit breaches"})


class Quotes(NamedTuple):
    """Standing of a market's quotes from one instant on; a reason matters where its side is not good."""

    bid_ok: bool
    ask_ok: bool
    bid_reason: Reason
    ask_reason: Reason
    is_extreme: bool


def is_good_quote(
    resting_lots: int, level_lots: int, distance_ticks: float, spread_ticks: float, sigma_ticks: float
) -> bool:
    """Whether an order counts as a quote.

    It rests at half of the level's size or more, and within three spreads or one σ of a minute of the fair
    value, whichever is wider. The distance is taken without its sign.
    """
    near = max(_NEAR_SPREADS * spread_ticks, sigma_ticks)
    return resting_lots > 0 and 2 * resting_lots >= level_lots and abs(distance_ticks) <= near


class _Kind(IntEnum):
    BOTH = 0
    ONE_SIDED = 1
    PAUSED = 2


_Spent = Counter[tuple[_Kind, Reason, bool]]


@dataclass(frozen=True, slots=True)
class Uptime:
    """Shares of the time since the first quote; `quote_uptime`, `one_sided` and `pauses` add up to 1.

    Where nothing was ever quoted the time counts from the start: its pauses say why.
    """

    start_ns: int
    end_ns: int
    quote_uptime: float = 0.0
    quote_uptime_outside_extreme: float = 0.0
    one_sided: Mapping[str, float] = field(default_factory=dict)
    pauses: Mapping[str, float] = field(default_factory=dict)


class UptimeTracker:
    """Adds the time up, from one change of the quotes' standing to the next."""

    def __init__(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._last_ns = start_ns
        self._has_quoted = False
        self._quotes = Quotes(
            bid_ok=False,
            ask_ok=False,
            bid_reason=Reason.STARTING,
            ask_reason=Reason.STARTING,
            is_extreme=False,
        )
        self._spent_ns: _Spent = Counter()

    def update(self, now_ns: int, quotes: Quotes) -> None:
        """Take in the standing from now on. Time that runs backwards adds nothing."""
        self._spend(self._spent_ns, now_ns)
        self._last_ns = max(self._last_ns, now_ns)
        self._quotes = quotes
        if not self._has_quoted and (quotes.bid_ok or quotes.ask_ok):
            self._has_quoted = True
            self._start_ns = self._last_ns
            self._spent_ns.clear()

    def report(self, now_ns: int) -> Uptime:
        """Shares up to now; the tracker goes on."""
        spent = self._spent_ns.copy()
        self._spend(spent, now_ns)
        end_ns = max(self._last_ns, now_ns)
        total = sum(spent.values())
        if not total:
            return Uptime(self._start_ns, end_ns)
        both = sum(ns for (kind, _, _), ns in spent.items() if kind is _Kind.BOTH)
        outside = sum(ns for (_, _, extreme), ns in spent.items() if not extreme)
        both_outside = spent[_Kind.BOTH, Reason.NONE, False]
        return Uptime(
            start_ns=self._start_ns,
            end_ns=end_ns,
            quote_uptime=both / total,
            quote_uptime_outside_extreme=both_outside / outside if outside else 0.0,
            one_sided=_by_reason(spent, _Kind.ONE_SIDED, total),
            pauses=_by_reason(spent, _Kind.PAUSED, total),
        )

    def _spend(self, spent_ns: _Spent, now_ns: int) -> None:
        kind, reason = _standing(self._quotes)
        spent_ns[kind, reason, self._quotes.is_extreme] += max(0, now_ns - self._last_ns)


def _standing(quotes: Quotes) -> tuple[_Kind, Reason]:
    if quotes.bid_ok and quotes.ask_ok:
        return _Kind.BOTH, Reason.NONE
    if not quotes.bid_ok and not quotes.ask_ok:
        # Reasons are ordered by gravity; the graver one is what keeps the market without a quote.
        return _Kind.PAUSED, max(quotes.bid_reason, quotes.ask_reason)
    reason = quotes.ask_reason if quotes.bid_ok else quotes.bid_reason
    return (_Kind.ONE_SIDED if reason in _ON_PURPOSE else _Kind.PAUSED), reason


def _by_reason(spent: _Spent, wanted: _Kind, total: int) -> dict[str, float]:
    by_reason: Counter[Reason] = Counter()
    for (kind, reason, _), ns in spent.items():
        if kind is wanted and ns:
            by_reason[reason] += ns
    return {reason.name: ns / total for reason, ns in by_reason.most_common()}


class Pnl(Protocol):
    """Profit by part, USD; `basis` leads from the total to the exchange's equity."""

    @property
    def total(self) -> Decimal: ...  # noqa: D102  (the parts are defined with the ledger)
    @property
    def spread(self) -> Decimal: ...  # noqa: D102
    @property
    def adverse_selection(self) -> Decimal: ...  # noqa: D102
    @property
    def inventory(self) -> Decimal: ...  # noqa: D102
    @property
    def fees(self) -> Decimal: ...  # noqa: D102
    @property
    def rebates(self) -> Decimal: ...  # noqa: D102
    @property
    def funding(self) -> Decimal: ...  # noqa: D102
    @property
    def basis(self) -> Decimal: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class OrderCounts:
    """Requests of one market; `rejected` counts what the exchange refused, at once or later."""

    placed: int = 0
    replaced: int = 0
    cancelled: int = 0
    rejected: int = 0

    @property
    def sent(self) -> int:
        """Requests in all."""
        return self.placed + self.replaced + self.cancelled


@dataclass(frozen=True, slots=True)
class FillSummary:
    """Fills of one market; the maker's share is of the volume."""

    buys: int = 0
    sells: int = 0
    maker_share: float = 1.0
    volume_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class InventorySummary:
    """Inventory of one market at its mid, USD; a breach is a fill that raised the risk past the limit."""

    max_abs: Decimal = Decimal(0)
    limit: Decimal = Decimal(0)
    end: Decimal = Decimal(0)
    limit_breaches: int = 0


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One market and contestant. Markouts in bps by horizon in seconds, decision times in µs.

    `grid` is what a ladder came to, None where there is none.
    """

    name: str
    market: str
    profile: str
    fill_model: str
    uptime: Uptime
    pnl: Pnl
    events: int = 0
    orders: OrderCounts = OrderCounts()
    fills: FillSummary = FillSummary()
    inventory: InventorySummary = InventorySummary()
    markouts_bps: Mapping[int, float] = field(default_factory=dict)
    decision_p50_us: float = 0.0
    decision_p99_us: float = 0.0
    open_orders_at_end: int = 0
    rebates_credited: Decimal | None = None
    grid: GridSummary | None = None

    @property
    def seconds(self) -> float:
        """Time since the first quote."""
        return (self.uptime.end_ns - self.uptime.start_ns) / NS_PER_S

    @property
    def orders_per_minute(self) -> float:
        """Requests a minute."""
        return self.orders.sent * _S_PER_MINUTE / self.seconds if self.seconds else 0.0


def money(amount: Decimal) -> str:
    """Exact amount with two digits after the point at least.

    >>> money(Decimal("12.5")), money(Decimal("-1E-7")), money(Decimal("3.1400")), money(Decimal("-0"))
    ('12.50', '-0.0000001', '3.14', '0.00')
    """
    whole, _, digits = f"{amount if amount else Decimal(0):f}".partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(_CENT_DIGITS, '0')}"


def _instant(ns: int) -> str:
    seconds, rest = divmod(ns, NS_PER_S)
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"
    return f"{text}.{rest // NS_PER_MS:03d}Z" if rest >= NS_PER_MS else f"{text}Z"


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def as_dict(run: RunSummary) -> dict[str, object]:
    """One entry of `runs`."""
    uptime, orders, fills, inventory = run.uptime, run.orders, run.fills, run.inventory
    pnl = _pnl_parts(run.pnl)
    if run.rebates_credited is not None:
        pnl["rebates_credited"] = money(run.rebates_credited)
    return {
        "name": run.name,
        "market": run.market,
        "profile": run.profile,
        "fill_model": run.fill_model,
        "start": _instant(uptime.start_ns),
        "end": _instant(uptime.end_ns),
        "seconds": run.seconds,
        "events": run.events,
        "quote_uptime": uptime.quote_uptime,
        "quote_uptime_outside_extreme": uptime.quote_uptime_outside_extreme,
        "one_sided": dict(uptime.one_sided),
        "pauses": dict(uptime.pauses),
        "orders": {
            "placed": orders.placed,
            "replaced": orders.replaced,
            "cancelled": orders.cancelled,
            "rejected": orders.rejected,
            "per_minute": run.orders_per_minute,
        },
        "fills": {
            "count": fills.buys + fills.sells,
            "buys": fills.buys,
            "sells": fills.sells,
            "maker_share": _finite(fills.maker_share),
            "volume_usd": money(fills.volume_usd),
        },
        "pnl_usd": pnl,
        "inventory_usd": {
            "max_abs": money(inventory.max_abs),
            "limit": money(inventory.limit),
            "end": money(inventory.end),
            "limit_breaches": inventory.limit_breaches,
        },
        "markout_bps": {str(horizon): _finite(bps) for horizon, bps in sorted(run.markouts_bps.items())},
        "decision_us": {"p50": _finite(run.decision_p50_us), "p99": _finite(run.decision_p99_us)},
        "open_orders_at_end": run.open_orders_at_end,
        **({} if run.grid is None else {"grid": _grid(run.grid)}),
    }


def _grid(grid: GridSummary) -> dict[str, object]:
    fields = asdict(grid).items()
    return {name: money(value) if isinstance(value, Decimal) else value for name, value in fields}


def _pnl_parts(pnl: Pnl) -> dict[str, str]:
    return {
        "total": money(pnl.total),
        "spread": money(pnl.spread),
        "adverse_selection": money(pnl.adverse_selection),
        "inventory": money(pnl.inventory),
        "fees": money(pnl.fees),
        "rebates": money(pnl.rebates),
        "funding": money(pnl.funding),
        "basis": money(pnl.basis),
    }


def to_json(runs: Iterable[RunSummary], account: Mapping[str, object] | None = None) -> str:
    """Return the summary as `--json` prints it, with what the host says of the account beside the runs."""
    beside = {} if account is None else {"account": account}
    return msgspec.json.encode({"runs": [as_dict(run) for run in runs], **beside}).decode()


def summary_table(runs: Sequence[RunSummary]) -> Group:
    """Summary for a terminal of 80 columns: a column for each run, three to a table."""
    chunks = [runs[start : start + _RUNS_A_TABLE] for start in range(0, len(runs), _RUNS_A_TABLE)]
    return Group(*(_table(chunk) for chunk in chunks))


def _table(runs: Sequence[RunSummary]) -> Table:
    # A reason of 16 letters fits three times beside the labels.
    table = Table(title="Summary", pad_edge=False)
    table.add_column("", no_wrap=True)
    for run in runs:
        table.add_column(f"{run.market}\n{run.name}", justify="right", overflow="fold")
    columns = [_column(run) for run in runs]
    for label in dict.fromkeys(label for column in columns for label in column):
        cells = (column.get(label, "-") for column in columns)
        table.add_row(label, *cells, end_section=label in _SECTION_ENDS)
    return table


def _column(run: RunSummary) -> dict[str, str]:
    uptime, orders, fills, inventory = run.uptime, run.orders, run.fills, run.inventory
    return {
        "seconds": f"{run.seconds:,.1f}",
        "quote uptime": _percent(uptime.quote_uptime),
        "  outside EXTREME": _percent(uptime.quote_uptime_outside_extreme),
        "one side on purpose": _reasons(uptime.one_sided),
        "paused": _reasons(uptime.pauses),
        "orders a minute": f"{run.orders_per_minute:,.1f}",
        "placed / replaced": f"{orders.placed:,} / {orders.replaced:,}",
        "cancelled / rejected": f"{orders.cancelled:,} / {orders.rejected:,}",
        "fills buy / sell": f"{fills.buys:,} / {fills.sells:,}",
        "volume USD": f"{fills.volume_usd:,.2f}",
        **{f"{_label(part)} USD": f"{Decimal(amount):,.4f}" for part, amount in _pnl_parts(run.pnl).items()},
        "max inventory USD": f"{inventory.max_abs:,.0f}",
        "inventory limit USD": f"{inventory.limit:,.0f}",
        "inventory at end USD": f"{inventory.end:,.2f}",
        "limit breaches": str(inventory.limit_breaches),
        "markout bps": "\n".join(f"{s} s {_finite(bps):+.2f}" for s, bps in sorted(run.markouts_bps.items()))
        or "-",
        "decision µs p50 / p99": f"{run.decision_p50_us:.0f} / {run.decision_p99_us:.0f}",
        "open orders at end": str(run.open_orders_at_end),
        **({} if run.grid is None else run.grid.rows()),
    }


def _label(part: str) -> str:
    return "PnL" if part == "total" else part.replace("_", " ").replace("inventory", "inventory PnL")


def _percent(share: float) -> str:
    return f"{share:.1%}"


def _reasons(shares: Mapping[str, float]) -> str:
    return "\n".join(f"{name} {_percent(share)}" for name, share in shares.items()) or "-"
