"""The report as one page: what it needs is inside, so that it opens anywhere, without a network."""

import html
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

from plotly.offline import get_plotlyjs

from market_maker.backtest.fill_models import BASE
from market_maker.backtest.intervals import differences
from market_maker.backtest.outcome import Outcome
from market_maker.backtest.report_columns import (
    COLUMNS,
    against,
    head_to_head,
    latency_text,
    name_text,
    verdict,
)
from market_maker.backtest.report_comparison import (
    latencies_figure,
    models_figure,
    parts_figure,
    pnl_figure,
    uptime_figure,
)
from market_maker.backtest.report_run import (
    BAND_ROWS,
    BANDS,
    PARTS,
    Figure,
    markout_figure,
    timeline,
    waiting_figure,
)
from market_maker.backtest.saved import Saved

_WHO: Final = ("contestant", "fill_model")
_PARTS: Final = tuple(f"{part}_bps" for part in PARTS)
_PROFIT: Final = (
    *(*_WHO, "fills", "volume", "volume_share", "pnl", "pnl_bps"),
    *(*_PARTS, "pnl_per_hour", "pnl_per_risk", "drawdown"),
)
_QUOTING: Final = (
    *(*_WHO, "uptime", "one_sided", "pauses", "orders", "fill_ratio", "time_to_fill", "queue"),
    *("max_inventory", "inventory_limit", "breaches", "turnover", "markout_1", "markout_5", "markout_30"),
)
_RUN_KEYS: Final = ("market", "latency", "model", "name")
_VIEW_KEYS: Final = ("market", "latency", "model")
_REASONS: Final = frozenset({"one_sided", "pauses"})
# Points of a run's lines: as many as a page of some 15 MB allows, within what a screen can show.
_POINTS_IN_ALL: Final = 75_000
_FEWEST_POINTS, _MOST_POINTS = 300, 2_000
_OPENING_LATENCY_S: Final = 0.25


def page(saved: Saved) -> str:
    """The whole page. Lines are thinned so that its size stays reasonable with many runs."""
    points = min(_MOST_POINTS, max(_FEWEST_POINTS, _POINTS_IN_ALL // max(1, len(saved.outcomes))))
    files = resources.files("market_maker.backtest")
    style = files.joinpath("report_page.css").read_text(encoding="utf-8")
    script = files.joinpath("report_page.js").read_text(encoding="utf-8")
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:\">",
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Backtest</title><style>{style}</style></head><body>",
            *_head(saved),
            *_selects(saved.outcomes),
            "<main>",
            *_sections(saved.outcomes, points),
            *_about(saved.header),
            "</main>",
            f"<script>{get_plotlyjs()}</script>",
            f"<script>{script}</script>",
            "</body></html>\n",
        ]
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _json(value: object) -> str:
    """JSON that may stand in a script element, whatever is in its strings."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _of(outcome: Outcome) -> dict[str, str]:
    label = outcome.label
    return {
        "market": outcome.market,
        "latency": f"{label.latency_s:g}",
        "model": label.fill_model,
        "name": label.name,
    }


def _attributes(keys: Mapping[str, str], wanted: Iterable[str]) -> str:
    return "".join(f' data-{key}="{_text(keys[key])}"' for key in wanted)


def _head(saved: Saved) -> Iterator[str]:
    markets = list(dict.fromkeys(outcome.market for outcome in saved.outcomes))
    yield f"<header><h1>Backtest: {_text(', '.join(markets))}</h1>"
    yield (
        "<p>What would have become of our orders in recorded markets. A recording does not answer them, and "
        "does not say what stood where in a queue: so the fill models stand beside each other, and what the "
        "data do not support is said first.</p></header>"
    )


def _selects(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "<nav><div>"
    for key, title in (
        ("market", "market"),
        ("latency", "latency"),
        ("model", "fill model"),
        ("name", "contestant"),
    ):
        yield f'<label>{title}<select id="{key}"></select></label>'
    yield "</div></nav>"
    runs = []
    for outcome in outcomes:
        keys = _of(outcome)
        words = {
            "latency": latency_text(outcome.label.latency_s),
            "model": outcome.label.fill_model.replace("_", " "),
            "name": name_text(outcome),
        }
        runs.append({**keys, "labels": {**keys, **words}})
    # What the page opens with: everything else is a choice away.
    opening = min(range(len(runs)), key=lambda at: _distance(outcomes[at])) if runs else 0
    yield f'<script type="application/json" id="runs" data-opening="{opening}">{_json(runs)}</script>'


def _distance(outcome: Outcome) -> tuple[bool, float]:
    return outcome.label.fill_model != BASE, abs(outcome.label.latency_s - _OPENING_LATENCY_S)


def _sections(outcomes: Sequence[Outcome], points: int) -> Iterator[str]:
    for group in _groups(outcomes, _VIEW_KEYS):
        yield _conclusions(group)
    for group in _groups(outcomes, ["market"]):
        absent = {part for part in _PARTS if all(_is_zero(outcome, part) for outcome in group)}
        profit = [name for name in _PROFIT if name not in absent]
        yield _table("What was earned", profit, group)
        yield _table("How it was quoted and filled", _QUOTING, group)
    yield from _comparisons(outcomes, max(_FEWEST_POINTS, points // 2))
    for outcome in outcomes:
        yield from _run(outcome, points)


def _comparisons(outcomes: Sequence[Outcome], points: int) -> Iterator[str]:
    for group in _groups(outcomes, _VIEW_KEYS):
        yield _figure("PnL and inventory of all contestants", _VIEW_KEYS, group[0], pnl_figure(group, points))
        yield _figure(
            "Where the PnL comes from, and how sure it is", _VIEW_KEYS, group[0], parts_figure(group)
        )
        yield _figure("How the time was spent", _VIEW_KEYS, group[0], uptime_figure(group))
    for group in _groups(outcomes, keys := ("market", "latency")):
        if len({outcome.label.fill_model for outcome in group}) > 1:
            yield _figure("The same under each fill model", keys, group[0], models_figure(group))
    for group in _groups(outcomes, keys := ("market", "model")):
        if len({outcome.label.latency_s for outcome in group}) > 1:
            yield _figure("The same at each latency", keys, group[0], latencies_figure(group))


def _is_zero(outcome: Outcome, figure: str) -> bool:
    found = outcome.intervals.get(figure)
    return found is None or found.low == found.estimate == found.high == 0.0


def _run(outcome: Outcome, points: int) -> Iterator[str]:
    name = _text(name_text(outcome))
    yield _figure(
        f"{name}: quotes, fills and money in time", _RUN_KEYS, outcome, timeline(outcome, points), _legend()
    )
    if len(outcome.fills):
        note = (
            "<p class=soft>Moves of the mid in our favour, weighted by volume. Of the orders that were "
            f"accepted {outcome.fill_ratio:.2%} filled at least in part.</p>"
        )
        yield _figure(
            f"{name}: markouts by side and level", _RUN_KEYS, outcome, markout_figure(outcome), note
        )
        yield _figure(
            f"{name}: time to the fill, and the queue in front", _RUN_KEYS, outcome, waiting_figure(outcome)
        )


def _groups(outcomes: Sequence[Outcome], keys: Sequence[str]) -> list[list[Outcome]]:
    found: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        of_run = _of(outcome)
        found.setdefault(tuple(of_run[key] for key in keys), []).append(outcome)
    return list(found.values())


def _figure(title: str, keys: Sequence[str], outcome: Outcome, figure: Figure, beside: str = "") -> str:
    return (
        f'<section{_attributes(_of(outcome), keys)}><h2>{title}</h2>{beside}<div class="plot"></div>'
        f'<script type="application/json">{_json(figure)}</script></section>'
    )


def _legend() -> str:
    rows = []
    for row, at in BAND_ROWS.items():
        chips = "".join(f'<i style="background:{color}"></i>{name}' for name, color in BANDS[at])
        rows.append(f"<span>{row}:{chips}</span>")
    return f'<div class="bands">{"".join(rows)}</div>'


def _conclusions(group: Sequence[Outcome]) -> str:
    lines = [f"<li>{_text(verdict(outcome))}</li>" for outcome in group]
    by_name = {outcome.label.name: outcome for outcome in group}
    for found in differences(group):
        pair = by_name[found.first], by_name[found.second]
        lines.append(f"<li>{_text(head_to_head(found, pair))}</li>")
    lines += [f"<li>{_text(sentence)}</li>" for sentence in against(group)]
    return (
        f"<section{_attributes(_of(group[0]), ('market', 'latency', 'model'))}>"
        f"<h2>What the data say, and what they do not</h2><ul>{''.join(lines)}</ul></section>"
    )


def _table(title: str, columns: Sequence[str], group: Sequence[Outcome]) -> str:
    heads = "".join(
        f'<th title="{_text(COLUMNS[name].meaning)}">{_text(COLUMNS[name].heading)}</th>' for name in columns
    )
    rows, before = [], ""
    for outcome in sorted(group, key=lambda one: one.label.latency_s):
        keys = _of(outcome)
        begins = f"{keys['latency']} {keys['model']}"
        mark = ' class="group"' if before and begins != before else ""
        before = begins
        cells = "".join(
            f"<td{' class=reasons' if name in _REASONS else ''}>{_text(COLUMNS[name].text(outcome))}</td>"
            for name in columns
        )
        rows.append(f"<tr{mark}{_attributes(keys, keys)}>{cells}</tr>")
    return (
        f'<section data-market="{_text(group[0].market)}"><h2>{title}</h2>'
        "<p class=soft>All fill models at the chosen latency. A click on a row shows that run; where the "
        "pointer rests on a heading, it says what it means.</p>"
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _about(header: Mapping[str, Any]) -> Iterator[str]:
    told = json.dumps(header, indent=2, default=str, ensure_ascii=False)
    yield "<section><details><summary>Data, calibration and settings</summary>"
    yield f"<pre>{_text(told)}</pre></details></section>"
