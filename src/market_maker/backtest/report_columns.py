"""The figures of a run as they are read: heading, meaning, text. For the terminal, the page, the study."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from market_maker.backtest.conclusions import FEW_BLOCKS, FEW_FILLS, LARGEST_SHARE
from market_maker.backtest.intervals import Difference
from market_maker.backtest.outcome import Outcome
from market_maker.domain import NS_PER_MS, NS_PER_S

ABSENT: Final = "-"
_MS_PER_S: Final = NS_PER_S // NS_PER_MS
_SHOWN_SHARE: Final = 0.0005
_MOST_REASONS: Final = 4
_FIGURE: Final = re.compile(r"[-+]?\d[\d,.e+-]*")


@dataclass(frozen=True)
class Column:
    """One figure: its heading with the unit, what it means, and how it reads for an outcome."""

    heading: str
    meaning: str
    text: Callable[[Outcome], str]


def latency_text(latency_s: float) -> str:
    """Latency as it is read.

    >>> latency_text(0.25), latency_text(1.0)
    ('250 ms', '1 s')
    """
    return f"{latency_s * _MS_PER_S:g} ms" if latency_s < 1 else f"{latency_s:g} s"


def name_text(outcome: Outcome) -> str:
    """Name of the contestant as it is read."""
    return outcome.label.name.replace("_", " ")


def signed(value: float | Decimal, digits: int = 2) -> str:
    """Number with its sign, unless it is shown as zero, and thousands apart.

    >>> signed(-1234.5), signed(0.25), signed(-0.001)
    ('-1,234.50', '+0.25', '0.00')
    """
    text = f"{value:+,.{digits}f}"
    return text if any(digit in text for digit in "123456789") else text[1:]


def reasons(shares: Mapping[str, float], most: int = 99) -> str:
    """Reasons with their shares of the time, the largest first.

    >>> reasons({"STALE_BOOK": 0.0001, "QUOTE_FAR": 0.004, "JUMP": 0.031})
    'JUMP 3.1%, QUOTE_FAR 0.4%'
    """
    known = sorted(shares.items(), key=lambda one: -one[1])[:most]
    return ", ".join(f"{name} {share:.1%}" for name, share in known if share >= _SHOWN_SHARE) or ABSENT


def interval_text(outcome: Outcome, figure: str) -> str:
    """Confidence interval of a figure of `outcome.FIGURES`."""
    found = outcome.intervals.get(figure)
    return ABSENT if found is None else f"{signed(found.low)} to {signed(found.high)}"


def verdict(outcome: Outcome) -> str:
    """One sentence: whether it earned or lost, or why that cannot be told."""
    name, found = name_text(outcome), outcome.intervals.get("pnl_bps_of_volume")
    if found is None and not _fills(outcome):
        return f"{name}: nothing was traded, nothing can be said of its PnL."
    if found is None:
        return f"{name}: too little was traded, or for too short a time, to say anything of its PnL."
    told = f"{name}: PnL {signed(found.estimate)} bps of volume"
    between = f"{found.confidence:.0%} interval {signed(found.low)} to {signed(found.high)}"
    why_not = _why_not(outcome)
    if why_not:
        return f"{told}, {between}; no conclusion: {why_not}."
    return f"{told}, {between}: it {'earned' if found.low > 0 else 'lost'}, if orders filled as assumed."


def head_to_head(found: Difference, pair: Sequence[Outcome]) -> str:
    """One sentence: the first contestant against the second, over the same time."""
    interval, names = found.pnl_per_hour_usd, [name_text(outcome) for outcome in pair]
    told = (
        f"{names[0]} against {names[1]}: PnL {signed(interval.estimate)} USD an hour, drawn in pairs, "
        f"{interval.confidence:.0%} interval {signed(interval.low)} to {signed(interval.high)}"
    )
    for outcome, name in zip(pair, names, strict=True):
        if _too_little(outcome):
            return f"{told}; no conclusion: {name}: {_too_little(outcome)}."
    if interval.spans_zero:
        return f"{told}; no conclusion: it may be chance."
    return f"{told}: {names[0] if interval.low > 0 else names[1]} did better, if orders filled as assumed."


def _too_little(outcome: Outcome) -> str:
    fills, found = _fills(outcome), outcome.intervals.get("pnl_bps_of_volume")
    if outcome.volume_share > LARGEST_SHARE:
        return f"its volume is {outcome.volume_share:.1%} of the market's"
    if fills < FEW_FILLS:
        return f"{fills} fills are too few"
    return "the time was too short" if found is not None and found.blocks < FEW_BLOCKS else ""


def _why_not(outcome: Outcome) -> str:
    too_little, found = _too_little(outcome), outcome.intervals["pnl_bps_of_volume"]
    if too_little:
        return too_little
    per_hour = outcome.intervals.get("pnl_per_hour_usd", found)
    return "earning and losing cannot be told apart" if found.spans_zero or per_hour.spans_zero else ""


def against(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What stands against conclusions, each with those whom it concerns; once where only figures differ."""
    alike: dict[str, dict[str, list[Outcome]]] = {}
    for outcome in outcomes:
        for sentence in outcome.conclusions:
            same = alike.setdefault(_FIGURE.sub("#", sentence), {})
            same.setdefault(sentence, []).append(outcome)
    for same in alike.values():
        sentence = next(iter(same))
        concerned = [outcome for some in same.values() for outcome in some]
        names = ", ".join(dict.fromkeys(name_text(outcome) for outcome in concerned))
        whose = "all" if len(concerned) == len(outcomes) else f"{names}; {len(concerned)} of {len(outcomes)}"
        yield f"{sentence.rstrip('.')}{', or alike' if len(same) > 1 else ''} ({whose})."


def _estimate(figure: str) -> Callable[[Outcome], str]:
    def text(outcome: Outcome) -> str:
        found = outcome.intervals.get(figure)
        return ABSENT if found is None else signed(found.estimate)

    return text


def _with_interval(figure: str) -> Callable[[Outcome], str]:
    def text(outcome: Outcome) -> str:
        found = outcome.intervals.get(figure)
        return ABSENT if found is None else f"{signed(found.estimate)} ({interval_text(outcome, figure)})"

    return text


def _markout(horizon_s: int) -> Callable[[Outcome], str]:
    def text(outcome: Outcome) -> str:
        found = outcome.summary.markouts_bps.get(horizon_s)
        return ABSENT if found is None else signed(found)

    return text


def plain(value: float) -> str:
    """Positive number with three digits that count, and no exponent.

    >>> plain(0.01234), plain(5.06), plain(506_123.0)
    ('0.0123', '5.06', '506,123')
    """
    digits = 0 if value <= 0 else max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{digits}f}"


def _median(values: Mapping[str, float], unit: float, suffix: str = "") -> str:
    return plain(values["p50"] * unit) + suffix if "p50" in values else ABSENT


def _fills(outcome: Outcome) -> int:
    return outcome.summary.fills.buys + outcome.summary.fills.sells


COLUMNS: Final[Mapping[str, Column]] = {
    "contestant": Column("contestant", "profile or baseline", name_text),
    "latency": Column("latency", "one way, to the exchange", lambda o: latency_text(o.label.latency_s)),
    "fill_model": Column(
        "fill model",
        "how orders in the queue are assumed to fill",
        lambda o: o.label.fill_model.replace("_", " "),
    ),
    "uptime": Column(
        "uptime",
        "share of the time with good quotes on both sides",
        lambda o: f"{o.summary.uptime.quote_uptime:.1%}",
    ),
    "one_sided": Column(
        "one side on purpose",
        "share of the time, by the four largest reasons",
        lambda o: reasons(o.summary.uptime.one_sided, _MOST_REASONS),
    ),
    "pauses": Column(
        "paused",
        "share of the time, by the four largest reasons",
        lambda o: reasons(o.summary.uptime.pauses, _MOST_REASONS),
    ),
    "orders": Column(
        "orders a minute",
        "placements, replacements and cancellations a minute",
        lambda o: f"{o.summary.orders_per_minute:,.0f}",
    ),
    "fills": Column("fills", "matches of our orders", lambda o: f"{_fills(o):,}"),
    "volume": Column("volume, USD", "traded by us", lambda o: f"{o.summary.fills.volume_usd:,.0f}"),
    "volume_share": Column(
        "of market", "our volume as a share of the market's", lambda o: f"{o.volume_share:.2%}"
    ),
    "pnl": Column("PnL, USD", "with what is open valued at the mid", lambda o: signed(o.summary.pnl.total)),
    "pnl_bps": Column(
        "PnL, bps of volume", "with its confidence interval", _with_interval("pnl_bps_of_volume")
    ),
    "pnl_bps_alone": Column("PnL, bps", "of volume", _estimate("pnl_bps_of_volume")),
    "interval": Column(
        "interval, bps", "of the PnL in bps of volume", lambda o: interval_text(o, "pnl_bps_of_volume")
    ),
    "spread_bps": Column("spread, bps", "earned against the mid at the fill", _estimate("spread_bps")),
    "adverse_selection_bps": Column(
        "adverse sel., bps", "move of the mid in the 5 s after the fill", _estimate("adverse_selection_bps")
    ),
    "inventory_bps": Column("inventory, bps", "move of the mid after these 5 s", _estimate("inventory_bps")),
    "fees_bps": Column("fees, bps", "paid, negative", _estimate("fees_bps")),
    "rebates_bps": Column("rebates, bps", "as accrued", _estimate("rebates_bps")),
    "funding_bps": Column("funding, bps", "as paid", _estimate("funding_bps")),
    "pnl_per_hour": Column("PnL/h, USD", "with its confidence interval", _with_interval("pnl_per_hour_usd")),
    "pnl_per_risk": Column(
        "PnL per risk",
        "PnL of an hour over the standard deviation of an hour of the held inventory",
        _with_interval("pnl_per_inventory_risk"),
    ),
    "max_inventory": Column(
        "max inventory, USD", "largest, at the mid", lambda o: f"{o.summary.inventory.max_abs:,.0f}"
    ),
    "inventory_limit": Column(
        "limit, USD", "of the inventory", lambda o: f"{o.summary.inventory.limit:,.0f}"
    ),
    "breaches": Column(
        "breaches",
        "fills that raised the risk past the limit in force",
        lambda o: f"{o.summary.inventory.limit_breaches:,}",
    ),
    "drawdown": Column(
        "drawdown, USD", "largest fall from a peak of the PnL", lambda o: f"{abs(o.max_drawdown_usd):,.2f}"
    ),
    "turnover": Column(
        "turnover/day",
        "volume of a day over the mean absolute inventory",
        lambda o: f"{o.turnover_per_day:,.0f}",
    ),
    "fill_ratio": Column(
        "fill ratio", "accepted orders that filled at least in part", lambda o: f"{o.fill_ratio:.2%}"
    ),
    "time_to_fill": Column(
        "time to fill", "median, from resting to the fill", lambda o: _median(o.time_to_fill_s, 1.0, " s")
    ),
    "queue": Column(
        "queue",
        "median size in front when the order came to rest, base units",
        lambda o: _median(o.queue_ahead_lots, float(o.step)),
    ),
    "markout_1": Column("markout 1 s, bps", "move of the mid in our favour", _markout(1)),
    "markout_5": Column("markout 5 s, bps", "move of the mid in our favour", _markout(5)),
    "markout_30": Column("markout 30 s, bps", "move of the mid in our favour", _markout(30)),
}
