"""`mm backtest --without`, `--variant`: which variants play beside their profiles, and how they compare."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from market_maker.backtest.ablation import Comparison, Variant
    from market_maker.backtest.outcome import Interval
    from market_maker.config import Config

_LARGE: Final = 100.0


def read_variants(
    features: Sequence[str], changed: Sequence[str], *, one_account: bool
) -> "dict[str, Variant]":
    """Read what was typed; each variant once, by its name.

    Raises
    ------
    BadParameter
        If one is not understood, or leaves out what does nothing in markets that are played apart.
    """
    from market_maker.backtest.ablation import FEATURES, PORTFOLIO, AblationError, variant, without

    try:
        found = [variant for text in features for variant in without(text)]
    except AblationError as error:
        raise typer.BadParameter(str(error), param_hint="--without") from error
    if not one_account and any(one.overrides == FEATURES[PORTFOLIO] for one in found):
        msg = f"expected --one-account with {PORTFOLIO}, which does nothing in markets that are played apart"
        raise typer.BadParameter(msg, param_hint="--without")
    try:
        found += [variant(text) for text in changed]
    except AblationError as error:
        raise typer.BadParameter(str(error), param_hint="--variant") from error
    return {one.name: one for one in found}


def variant_configs(
    variants: "Mapping[str, Variant]", profiles: Sequence[str], load: "Callable[[str, Sequence[str]], Config]"
) -> "dict[str, Config]":
    """Settings of each variant of each profile, by the name that it plays under."""
    from market_maker.backtest.ablation import variant_name

    return {
        variant_name(profile, variant): load(profile, variant.overrides)
        for profile in profiles
        for variant in variants.values()
    }


def comparison_dicts(found: "Sequence[Comparison]") -> list[dict[str, Any]]:
    """Comparisons as plain values."""
    return [dataclasses.asdict(one) for one in found]


def print_comparisons(found: "Sequence[Comparison]") -> None:
    """Show each variant beside its profile: by how much it earned more, and how sure that is."""
    from market_maker.backtest.report_columns import latency_text, signed

    if not found:
        return
    title = Text("PnL of a variant over its profile's, USD an hour")
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for heading in ("variant", "difference", "95% interval", "of all together"):
        is_name = heading == "variant"
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=not is_name)
    before = ""
    for one in found:
        terms = f"{one.market}, {one.fill_model.replace('_', ' ')} fills, {latency_text(one.latency_s)}"
        if terms != before:
            table.add_row(Text(terms, style="bold"))
        before = terms
        cells = (one.variant, signed(one.interval.estimate), _span(one.interval), _span(one.adjusted))
        table.add_row(*(Text(cell) for cell in cells))
    Console().print(table)
    most = max(one.comparisons for one in found)
    told = f"- The last interval is adjusted for the number of comparisons (Bonferroni, up to {most})."
    Console().print(Text(told, style="yellow"))


def _span(interval: "Interval") -> str:
    from market_maker.backtest.report_columns import signed

    # Three digits say enough, and leave room on a narrow screen.
    digits = 2 if max(-interval.low, interval.high) < _LARGE else 1
    return f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"
