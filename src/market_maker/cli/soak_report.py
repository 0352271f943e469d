"""The end of a soak: a line for each figure that was watched, and what is wrong."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from market_maker.cli.soak_bot import BotEnd
from market_maker.cli.soak_watch import Sample
from market_maker.soak_trend import Limit, Point, Trend, Verdict, judge

# A third of the time, but no longer: by then caches are full and every kind of fault has come once.
_WARM_UP_S: Final = 600.0
_MANY: Final = 1_000
_STYLE: Final = {
    Verdict.FINE: "green",
    Verdict.GROWS: "bold red",
    Verdict.UNSURE: "yellow",
    Verdict.TOO_SHORT: "yellow",
}


class Figure(NamedTuple):
    """One figure that is watched: its name and unit, where it is in a sample, its limit, how it is folded."""

    name: str
    unit: str
    read: Callable[[Sample], float | None]
    limit: Limit
    fold: Callable[[Sequence[float]], float] = median
    fails: bool = True


# Less than two more over the whole time is no leak: something was opened for good.
_COUNT: Final = Limit(least=2.0, least_s=120.0)
_TIME: Final = Limit(share=0.5, least=1.0, least_s=300.0)
FIGURES: Final = (
    Figure("memory", "MB", lambda sample: sample.memory_mb, Limit(per_hour=1.0)),
    # What the allocator keeps of it is in memory: this one only says whose fault a growth is.
    Figure("python_blocks", "", lambda sample: sample.python_blocks, Limit(per_hour=1e4), fails=False),
    Figure("descriptors", "", lambda sample: sample.descriptors, _COUNT, min),
    Figure("tasks", "", lambda sample: sample.tasks, _COUNT, min),
    Figure("threads", "", lambda sample: sample.threads, _COUNT, min),
    Figure("loop_late", "ms", lambda sample: sample.loop_late_ms, _TIME),
    Figure("decision", "µs", lambda sample: sample.decision_us, Limit(share=0.5, least=50.0, least_s=300.0)),
    Figure(
        "round_trip", "ms", lambda sample: sample.round_trip_ms, Limit(share=0.5, least=20.0, least_s=300.0)
    ),
)


@dataclass(frozen=True)
class Soak:
    """What was seen: samples, faults that came by name, how the bot ended, whether it was cut short."""

    wanted_s: float
    samples: Sequence[Sample]
    faults: Mapping[str, int]
    end: BotEnd
    ended_early: bool = False
    interrupted: bool = False
    trends: dict[str, Trend] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "trends", trends_of(self.samples))

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words; empty if nothing is."""
        found = [_growth(each, self.trends[each.name]) for each in FIGURES if each.fails]
        if self.ended_early:
            found.append(
                f"the bot ended by itself with exit code {self.end.exit_code}: {self.end.last_words}"
            )
        elif not self.end.is_well:
            found.append(
                f"the bot did not stop in order, exit code {self.end.exit_code}: {self.end.last_words}"
            )
        return [each for each in found if each]


def warm_up_s(samples: Sequence[Sample]) -> float:
    """How much of the beginning is left out, s."""
    return min(_WARM_UP_S, samples[-1].at_s / 3) if samples else 0.0


def trends_of(samples: Sequence[Sample]) -> dict[str, Trend]:
    """Trend of every figure after the warm-up."""
    begin_s = warm_up_s(samples)
    warm = [sample for sample in samples if sample.at_s >= begin_s]
    return {each.name: judge(_points(warm, each), each.limit, each.fold) for each in FIGURES}


def _points(samples: Sequence[Sample], figure: Figure) -> list[Point]:
    read = ((sample.at_s, figure.read(sample)) for sample in samples)
    return [(at_s, value) for at_s, value in read if value is not None]


def _growth(figure: Figure, trend: Trend) -> str:
    if trend.verdict is not Verdict.GROWS or trend.slope is None:
        return ""
    unit = f" {figure.unit}" if figure.unit else ""
    slope = f"{figure.name.replace('_', ' ')} grows by {trend.slope:,.2f}{unit} an hour"
    return f"{slope}, from {trend.first:,.2f} to {trend.last:,.2f}"


def as_dict(soak: Soak) -> dict[str, Any]:
    """A soak as plain values."""
    return {
        "seconds": round(soak.samples[-1].at_s, 1) if soak.samples else 0.0,
        "wanted_seconds": soak.wanted_s,
        "warm_up_seconds": round(warm_up_s(soak.samples), 1),
        "samples": len(soak.samples),
        "interrupted": soak.interrupted,
        "figures": {each.name: _figure_json(each, soak.trends[each.name]) for each in FIGURES},
        "faults": dict(soak.faults),
        "orders": _last(soak, "orders"),
        "fills": _last(soak, "fills"),
        "halted_samples": dict(Counter(sample.halted for sample in soak.samples if sample.halted)),
        "bot": {"exit_code": soak.end.exit_code, "account": soak.end.account},
        "problems": soak.problems,
    }


def _figure_json(figure: Figure, trend: Trend) -> dict[str, Any]:
    return {
        "unit": figure.unit,
        "verdict": trend.verdict.value,
        "first": round(trend.first, 3),
        "last": round(trend.last, 3),
        "per_hour": _rounded(trend.slope),
        "per_hour_99": None if trend.slope is None else [_rounded(trend.low), _rounded(trend.high)],
        "late_per_hour": _rounded(trend.late_slope),
        "limit_per_hour": figure.limit.per_hour,
        "least_seconds": figure.limit.least_s,
        "judged_seconds": round(trend.seconds, 1),
        "samples": trend.samples,
    }


def _rounded(bound: float | None) -> float | None:
    return None if bound is None else round(bound, 3)


def _last(soak: Soak, name: str) -> int | None:
    told = [sample.orders if name == "orders" else sample.fills for sample in soak.samples]
    return next((count for count in reversed(told) if count is not None), None)


def print_soak(soak: Soak) -> None:
    """Print the table, what came, and what is wrong."""
    console = Console()
    console.print(_table(soak))
    lasted_s = soak.samples[-1].at_s if soak.samples else 0.0
    came = ", ".join(f"{name} {count:,}" for name, count in sorted(soak.faults.items())) or "none"
    lines = [
        f"Watched for {lasted_s / 60:,.1f} minutes, the first {warm_up_s(soak.samples) / 60:,.1f} as warm-up;"
        f" {_last(soak, 'orders') or 0:,} orders, {_last(soak, 'fills') or 0:,} fills.",
        f"Faults that came: {came}.",
        *_doubts(soak),
    ]
    console.print(Text("\n".join(lines)), soft_wrap=True)
    verdict = Text("\n".join(soak.problems) or _nothing_grows(soak))
    verdict.stylize("bold red" if soak.problems else "green")
    console.print(verdict, soft_wrap=True)


def _nothing_grows(soak: Soak) -> str:
    verdicts = {trend.verdict for trend in soak.trends.values()}
    if verdicts == {Verdict.FINE}:
        return "No trend."
    if verdicts == {Verdict.TOO_SHORT}:
        return "Nothing failed; no trend could be judged."
    return "No trend in what could be judged."


def _table(soak: Soak) -> Table:
    table = Table(title="Soak", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("figure", "first", "last", "per hour", "99% interval", "later half", "verdict"):
        is_word = heading in ("figure", "verdict")
        # On a narrow terminal the interval takes two lines, and nothing is cut off.
        table.add_column(heading, justify="left" if is_word else "right", no_wrap="%" not in heading)
    for each in FIGURES:
        trend = soak.trends[each.name]
        table.add_row(
            f"{each.name.replace('_', ' ')}{f', {each.unit}' if each.unit else ''}",
            _short(trend.first),
            _short(trend.last),
            _short(trend.slope, sign="+"),
            "" if trend.low is None else f"{_short(trend.low, sign='+')} to {_short(trend.high, sign='+')}",
            _short(trend.late_slope, sign="+"),
            Text(trend.verdict.value, style=_STYLE[trend.verdict]),
        )
    return table


def _short(value: float | None, sign: str = "") -> str:
    """A number in so many digits as are read."""
    if value is None:
        return ""
    return format(value, f"{sign},.0f" if abs(value) >= _MANY else f"{sign}.2f")


def _doubts(soak: Soak) -> list[str]:
    """What could not be judged, and what would be needed."""
    lines = []
    short = [each for each in FIGURES if soak.trends[each.name].verdict is Verdict.TOO_SHORT]
    if short:
        names = ", ".join(each.name.replace("_", " ") for each in short)
        least_s = max(each.limit.least_s for each in short)
        lines.append(
            f"Too short for a verdict on {names}: a slope needs {least_s / 60:,.0f} minutes after the"
            f" warm-up, so soak for {1.5 * least_s / 60:,.0f} minutes or more."
        )
    unsure = [
        each.name.replace("_", " ") for each in FIGURES if soak.trends[each.name].verdict is Verdict.UNSURE
    ]
    if unsure:
        lines.append(
            f"Not sure of {', '.join(unsure)}: growth that has ended, or too much noise to exclude one past"
            " the limit; soak longer."
        )
    return lines
