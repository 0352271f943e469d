"""Tables of the ablation, in Markdown, from saved backtests of a profile and its variants."""

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from study_tables import by_columns, table

from market_maker.backtest.ablation import Comparison
from market_maker.backtest.conclusions import FEW_BLOCKS, FEW_FILLS, LARGEST_SHARE
from market_maker.backtest.fill_models import TRADE_THROUGH
from market_maker.backtest.intervals import block_count
from market_maker.backtest.outcome import Interval, Outcome
from market_maker.backtest.portfolio_risk import PortfolioRisk
from market_maker.backtest.report_columns import ABSENT, signed

PESSIMISTIC: Final = "pessimistic"
VENUES_NEEDED: Final = 2
_S_PER_HOUR: Final = 3600.0
_RESULT_COLUMNS: Final = (
    "contestant",
    "uptime",
    "orders",
    "fills",
    "volume_share",
    "pnl_bps",
    "pnl_per_hour",
)

Markets = Mapping[str, Sequence[Outcome]]


def under(markets: Markets, model: str) -> dict[str, list[Outcome]]:
    """Runs under a fill model, or the only one that a market has."""
    return {
        title: [one for one in outcomes if one.label.fill_model in (model, TRADE_THROUGH)]
        for title, outcomes in markets.items()
    }


def variant_of(comparison: Comparison) -> str:
    """Name of a variant without its profile's."""
    return comparison.variant.removeprefix(f"{comparison.profile} ")


def weakness(outcome: Outcome) -> str:
    """Why a run bears no conclusion, by the study's rules; empty where it does."""
    fills = outcome.summary.fills.buys + outcome.summary.fills.sells
    if outcome.volume_share > LARGEST_SHARE:
        return "volume"
    if fills < FEW_FILLS:
        return "fills"
    return "time" if block_count(outcome.buckets) < FEW_BLOCKS else ""


def weak_pairs(markets: Markets) -> dict[tuple[str, str], str]:
    """Markets and contestants that bear no conclusion, with the reason; a profile's is its variants', too."""
    found = {}
    for title, outcomes in markets.items():
        own = {one.label.name: weakness(one) for one in outcomes}
        for one in outcomes:
            why = own[one.label.name] or own.get(one.label.profile, "")
            if why:
                found[title, one.label.name] = why
    return found


def difference_table(
    found: Sequence[Comparison], weak: Mapping[tuple[str, str], str], titles: Sequence[str]
) -> str:
    """A row for each variant, a column for each market: USD an hour with the adjusted interval."""
    by_place = {(variant_of(one), one.market): one for one in found}
    variants = list(dict.fromkeys(variant for variant, _ in by_place))
    rows = [
        [variant, *(_cell(by_place.get((variant, title)), weak) for title in titles)] for variant in variants
    ]
    return table(["variant", *titles], rows)


def _cell(one: Comparison | None, weak: Mapping[tuple[str, str], str]) -> str:
    if one is None:
        return ABSENT
    alone, wide = one.interval, one.adjusted
    if alone.low == alone.high == 0.0:
        return "same"
    mark = "*" if not alone.spans_zero else ""
    text = f"{signed(alone.estimate)}{mark} ({signed(wide.low)} to {signed(wide.high)})"
    text = f"**{text}**" if not wide.spans_zero else text
    return f"{text} †" if (one.market, one.variant) in weak else text


class Verdict(NamedTuple):
    """Of a variant: venues where it certainly did better, and where worse, than the profile."""

    variant: str
    better: tuple[str, ...]
    worse: tuple[str, ...]

    @property
    def is_recommended(self) -> bool:
        """Whether the rule for a change of defaults is met."""
        return len(self.better) >= VENUES_NEEDED and not self.worse

    @property
    def is_confirmed(self) -> bool:
        """Whether the same rule speaks for the profile as it is."""
        return len(self.worse) >= VENUES_NEEDED and not self.better


def verdicts(
    found: Sequence[Comparison], weak: Mapping[tuple[str, str], str], venues: Sequence[str]
) -> list[Verdict]:
    """What the adjusted intervals say of each variant, by venue, without runs that bear no conclusion."""
    by_variant: dict[str, list[Comparison]] = {}
    for one in found:
        if one.market.partition(" ")[0] in venues:
            by_variant.setdefault(variant_of(one), []).append(one)
    told = []
    for variant, of_variant in by_variant.items():
        sound = [one for one in of_variant if (one.market, one.variant) not in weak]
        better = {one.market.partition(" ")[0] for one in sound if one.adjusted.low > 0.0}
        worse = {one.market.partition(" ")[0] for one in sound if one.adjusted.high < 0.0}
        told.append(Verdict(variant, tuple(sorted(better)), tuple(sorted(worse))))
    return told


def verdict_text(told: Sequence[Verdict]) -> str:
    """The rule applied, as a table."""
    rows = [
        [
            one.variant,
            ", ".join(one.better) or ABSENT,
            ", ".join(one.worse) or ABSENT,
            "change" if one.is_recommended else "keep, confirmed" if one.is_confirmed else "keep",
        ]
        for one in told
    ]
    return table(["variant", "certainly better on", "certainly worse on", "default"], rows)


def result_block(outcomes: Sequence[Outcome]) -> str:
    """What each contestant did in a market."""
    return by_columns(outcomes, (*_RESULT_COLUMNS, "markout_5", "max_inventory", "drawdown"))


def pnl_of(buckets: NDArray[np.void]) -> NDArray[np.float64]:
    """PnL of each stretch of time, USD."""
    parts = ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding")
    gain: NDArray[np.float64] = np.sum([buckets[part] for part in parts], axis=0)
    return gain


def account_table(risks: Sequence[PortfolioRisk], comparisons: Sequence[Comparison], hours: float) -> str:
    """One account over several markets: how much its PnL varies, with and without what joins them."""
    pairs = {(one.variant, one.fill_model): one for one in comparisons}
    rows = [
        [
            risk.label.name,
            risk.label.fill_model,
            f"{math.sqrt(risk.variance):.2f}",
            ratio_text(risk.ratio),
            _widest(risk),
            f"{risk.net_usd:,.0f}",
            signed(risk.pnl_usd / hours),
            _cell(pairs.get((risk.label.name, risk.label.fill_model)), {}),
            f"{risk.fills:,}",
        ]
        for risk in risks
    ]
    heads = [
        *("contestant", "fill model", "std of 10 s of PnL, USD", "variance over the first's (95%)"),
        *("largest market's share", "rms of net position, USD"),
        *("PnL/h, USD", "difference (adjusted interval)", "fills"),
    ]
    return table(heads, rows)


def _widest(risk: PortfolioRisk) -> str:
    """The market that varies most, and its own variance over that of all together."""
    market = max(risk.alone, key=lambda name: risk.alone[name])
    return f"{market} {risk.alone[market] / risk.variance:.0%}" if risk.variance > 0.0 else ABSENT


def ratio_text(ratio: Interval | None) -> str:
    """Ratio of variances with its interval; nothing of the first itself."""
    return ABSENT if ratio is None else f"{ratio.estimate:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def funding_table(markets: Markets, rates: Mapping[str, float]) -> str:
    """Generated days: the mean position and what funding paid, with and without the module."""
    rows = []
    for title, outcomes in markets.items():
        for one in outcomes:
            hours = one.seconds / _S_PER_HOUR
            lot_usd = float(one.tick * one.step)
            curve = one.curve
            held = curve["position_lots"] * curve["mid2_ticks"] / 2.0 * lot_usd
            rows.append(
                [
                    title,
                    f"{rates[title]:+.2f}",
                    one.label.name,
                    one.label.fill_model,
                    f"{float(held.mean()) if len(held) else 0.0:+,.0f}",
                    f"{one.mean_abs_inventory_usd:,.0f}",
                    signed(float(one.buckets["funding"].sum()) / hours, 3),
                    signed(float(pnl_of(one.buckets).sum()) / hours),
                ]
            )
    heads = [
        *("days", "mean rate, bp/h", "contestant", "fill model", "mean position, USD"),
        *("mean position of either sign, USD", "funding, USD/h", "PnL, USD/h"),
    ]
    return table(heads, rows)
