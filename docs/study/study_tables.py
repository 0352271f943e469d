"""Tables of the study, in Markdown, from saved backtests."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from market_maker.backtest.fill_models import BASE
from market_maker.backtest.intervals import differences
from market_maker.backtest.outcome import Outcome
from market_maker.backtest.report_columns import (
    ABSENT,
    COLUMNS,
    head_to_head,
    interval_text,
    latency_text,
    name_text,
    plain,
    reasons,
    signed,
    verdict,
)
from market_maker.backtest.saved import Saved

SHOWN_LATENCY_S: Final = 0.25
PARTS: Final = ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding")
PROFILES: Final = ("crypto", "legacy")

Row = Sequence[str]


def table(heads: Row, rows: Iterable[Row]) -> str:
    """Markdown of a table; all columns after the first are to the right."""
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def base_of(outcomes: Sequence[Outcome]) -> str:
    """Fill model that a market is mainly shown under: `base`, or the only one that it has."""
    models = {outcome.label.fill_model for outcome in outcomes}
    return BASE if BASE in models else min(models)


def shown(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those at the latency that is mainly shown."""
    return [outcome for outcome in outcomes if outcome.label.latency_s == SHOWN_LATENCY_S]


def main_view(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """One run of each contestant: at the latency and under the fill model that are mainly shown."""
    model = base_of(outcomes)
    return [outcome for outcome in shown(outcomes) if outcome.label.fill_model == model]


def by_columns(outcomes: Iterable[Outcome], names: Sequence[str]) -> str:
    """A row for each run, of columns that the report has too."""
    heads = [COLUMNS[name].heading for name in names]
    return table(heads, ([COLUMNS[name].text(outcome) for name in names] for outcome in outcomes))


def quoting_table(outcomes: Sequence[Outcome]) -> str:
    """How it was quoted."""
    names = ("contestant", "uptime", "pauses", "one_sided", "orders", "max_inventory", "breaches")
    return by_columns(main_view(outcomes), names)


def result_table(outcomes: Sequence[Outcome]) -> str:
    """What came of it, under each fill model."""
    names = ("contestant", "fill_model", "fills", "volume", "volume_share", "pnl", "pnl_bps", "pnl_per_hour")
    return by_columns(shown(outcomes), (*names, "pnl_per_risk", "drawdown"))


def parts_table(outcomes: Sequence[Outcome]) -> str:
    """Where it came from: the parts of the PnL in bps of volume, each with its interval."""
    rows = []
    for outcome in main_view(outcomes):
        cells = [_estimate(outcome, f"{part}_bps") for part in ("pnl", *PARTS)]
        rows.append([name_text(outcome), *cells])
    heads = ["contestant", "PnL", *(part.replace("_", " ") for part in PARTS)]
    return table(heads, rows)


def _estimate(outcome: Outcome, figure: str) -> str:
    figure = "pnl_bps_of_volume" if figure == "pnl_bps" else figure
    found = outcome.intervals.get(figure)
    if found is None:
        return ABSENT
    if found.low == found.high == found.estimate:
        return signed(found.estimate)
    return f"{signed(found.estimate)} ({interval_text(outcome, figure)})"


def latency_table(outcomes: Sequence[Outcome]) -> str:
    """PnL in bps of volume and fills at each latency, under the fill model that is mainly shown."""
    model = base_of(outcomes)
    latencies = sorted({outcome.label.latency_s for outcome in outcomes})
    names = dict.fromkeys(outcome.label.name for outcome in outcomes)
    runs = {(run.label.name, run.label.latency_s): run for run in outcomes if run.label.fill_model == model}
    rows = [
        [name.replace("_", " "), *(_fills_and_bps(runs.get((name, latency))) for latency in latencies)]
        for name in names
    ]
    return table(["contestant", *(latency_text(latency) for latency in latencies)], rows)


def _fills_and_bps(run: Outcome | None) -> str:
    if run is None:
        return ABSENT
    return f"{COLUMNS['fills'].text(run)} fills: {_estimate(run, 'pnl_bps')}"


def markout_table(outcomes: Sequence[Outcome]) -> str:
    """Markouts, waiting and turnover."""
    names = ("contestant", "markout_1", "markout_5", "markout_30", "fill_ratio", "time_to_fill", "queue")
    return by_columns(main_view(outcomes), (*names, "turnover"))


def conclusions(outcomes: Sequence[Outcome]) -> str:
    """What may be concluded of each contestant, and of the first one against each other one."""
    runs = main_view(outcomes)
    by_name = {run.label.name: run for run in runs}
    pairs = [
        head_to_head(found, (by_name[found.first], by_name[found.second])) for found in differences(runs)
    ]
    return "\n".join(f"- {sentence}" for sentence in (*(verdict(run) for run in runs), *pairs))


def data_table(recordings: Mapping[str, Saved]) -> str:
    """What was played on: span, events, the market's volume and volatility while it was scored."""
    rows = []
    for title, saved in recordings.items():
        for market, outcomes in by_market(saved.outcomes).items():
            first = outcomes[0]
            told = saved.header.get("data", {}).get(market, {})
            rows.append(
                [
                    f"{title} {market}",
                    _span(told.get("scored_from", ""), told.get("end", "")),
                    f"{first.seconds / 3600:,.2f}",
                    f"{told.get('events', first.summary.events):,}",
                    f"{first.market_volume_usd / 1_000_000:,.1f}",
                    f"{first.sigma_bps:.1f}",
                    f"{told.get('gap_seconds', 0):,.0f}",
                ]
            )
    heads = ["market", "scored, UTC", "hours", "events", "volume, M USD", "bps/√min", "gaps, s"]
    return table(heads, rows)


def _span(start: str, end: str) -> str:
    """Two instants, the day once where it is the same."""
    (day, _, begins), (last, _, ends) = start[:16].partition("T"), end[:16].partition("T")
    return f"{day} {begins} to {ends if last == day else f'{last} {ends}'}"


def calibration_table(recordings: Mapping[str, Saved]) -> str:
    """What the baselines were fitted to, on the first part of each recording."""
    rows = []
    for title, saved in recordings.items():
        for market, found in saved.header.get("calibration", {}).items():
            volatility, arrivals = found["volatility"], found["arrivals"]
            left_out = found.get("left_out") or {}
            why = found["refused"] or "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            rows.append(
                [
                    f"{title} {market}",
                    f"{volatility['sigma_bps']:.2f}",
                    _fitted(volatility["sigma_ticks"], volatility["sigma_error"]),
                    _fitted(arrivals["a_per_s"], arrivals["a_error"]),
                    _fitted(arrivals["k_per_tick"], arrivals["k_error"]),
                    f"{arrivals['r2']:.3f}" if arrivals["a_per_s"] else ABSENT,
                    f"{arrivals['orders']:,}",
                    plain(found["symmetric_half_ticks"]),
                    why or ABSENT,
                ]
            )
    heads = [
        *("market", "bps/√min", "sigma, ticks/√s", "A, 1/s", "k, 1/tick", "R²", "taker orders"),
        *("symmetric half-width, ticks", "refused or left out"),
    ]
    return table(heads, rows)


def _fitted(value: float, error: float) -> str:
    """What was fitted with its standard error; nothing where the fit is refused."""
    return f"{plain(value)} ± {plain(error)}" if value else ABSENT


def readme_table(recordings: Mapping[str, Saved]) -> str:
    """Both profiles on every market, at the latency and under the fill model that are mainly shown."""
    rows = []
    for title, saved in recordings.items():
        for market, outcomes in by_market(saved.outcomes).items():
            for run in main_view(outcomes):
                if run.label.name in PROFILES:
                    why = reasons({**run.summary.uptime.pauses, **run.summary.uptime.one_sided}, 2)
                    rows.append([f"{title} {market}", *_readme_cells(run, why)])
    heads = [
        *("market", "profile", "uptime", "paused or one-sided, the two largest", "orders/min", "fills"),
        *("of market", "PnL, bps of volume (95% interval)", "max inventory, USD"),
    ]
    return table(heads, rows)


def _readme_cells(run: Outcome, why: str) -> Row:
    names = ("orders", "fills", "volume_share", "pnl_bps", "max_inventory")
    return [name_text(run), COLUMNS["uptime"].text(run), why, *(COLUMNS[name].text(run) for name in names)]


def by_market(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes of each market, in their order."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.market, []).append(outcome)
    return found


# What a market's section has, in its order; the titles take the fill model that it is mainly shown under.
BLOCKS: Final[Mapping[str, Callable[[Sequence[Outcome]], str]]] = {
    "What may be concluded ({model} fills, 250 ms)": conclusions,
    "Quoting ({model} fills, 250 ms)": quoting_table,
    "Result under each fill model, 250 ms": result_table,
    "Parts of the PnL in bps of volume, with 95% intervals ({model} fills, 250 ms)": parts_table,
    "Fills and PnL in bps of volume by latency ({model} fills)": latency_table,
    "Markouts and waiting ({model} fills, 250 ms)": markout_table,
}
