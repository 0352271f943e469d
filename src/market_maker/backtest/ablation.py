"""What each part of a profile is worth: the same profile without it, or changed, over the same events.

A variant is a profile with some settings of its own, and plays beside it in one pass. What is compared is the
PnL of the same stretches of time, so that what the market did to both cancels (`intervals.paired`).

Many comparisons find something by chance: of twenty true zeros one lies outside of its 95% interval. So each
has a second interval after Bonferroni: in a family of m comparisons, those under one fill model and latency,
each is drawn at a confidence of 1 − 0.05/m. All of them then hold together with 95%, however they depend on
each other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from market_maker.backtest.intervals import CONFIDENCE, paired
from market_maker.backtest.outcome import Interval, Label, Outcome

PORTFOLIO: Final = "portfolio"

# What switches a feature off.
FEATURES: Final[Mapping[str, tuple[str, ...]]] = {
    "regime": ("vol_regime_enabled=false",),
    "trend": ("trend_enabled=false",),
    "flow": ("flow_enabled=false",),
    "funding": ("funding_enabled=false",),
    PORTFOLIO: ("portfolio_enabled=false",),
    "micro_price": ("micro_price_enabled=false",),
}


class AblationError(ValueError):
    """A variant that is not understood; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Variant:
    """How it is called after its profile, and its settings as `--set` takes them."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """By how much the PnL of a variant exceeds its profile's, USD an hour, all else equal.

    Attributes
    ----------
    interval : Interval
        As if there were no other comparison.
    adjusted : Interval
        So wide that all `comparisons` of its family hold together.
    """

    market: str
    fill_model: str
    latency_s: float
    profile: str
    variant: str
    interval: Interval
    adjusted: Interval
    comparisons: int


def without(text: str) -> list[Variant]:
    """Variants that lack one feature each, from their names with commas between.

    Raises
    ------
    AblationError
        For a feature that is not known.

    >>> [variant.name for variant in without("flow,trend")]
    ['without flow', 'without trend']
    """
    found = []
    for name in text.split(","):
        if name not in FEATURES:
            msg = f"expected features such as {','.join(FEATURES)}, was {name!r}"
            raise AblationError(msg)
        found.append(Variant(f"without {name.replace('_', ' ')}", FEATURES[name]))
    return found


def variant(text: str) -> Variant:
    """Read a variant, `NAME:setting=value;setting=value`; a setting may have its market before it.

    Raises
    ------
    AblationError
        If it is of another form.

    >>> variant("glft:offset_mode=glft;ETH-USD:model_a_per_s=1.5").overrides
    ('offset_mode=glft', 'ETH-USD:model_a_per_s=1.5')
    """
    name, _, settings = text.partition(":")
    overrides = tuple(setting.strip() for setting in settings.split(";") if setting.strip())
    if not name.strip() or "=" in name or not overrides:
        msg = f"expected NAME:setting=value;setting=value, was {text!r}"
        raise AblationError(msg)
    return Variant(name.strip(), overrides)


def variant_name(profile: str, of: Variant) -> str:
    """Name under which a variant of a profile plays."""
    return f"{profile} {of.name}"


def _terms(label: Label) -> tuple[object, ...]:
    return label.fill_model, label.latency_s


def compare(
    markets: Mapping[str, Sequence[Outcome]],
    seed: int = 0,
    family: Callable[[Label], tuple[object, ...]] = _terms,
) -> list[Comparison]:
    """Every variant against its profile, by market, fill model and latency.

    Parameters
    ----------
    markets : mapping of str to outcomes
        All that is compared, by the title of its market.
    family : callable, optional
        What is adjusted for one another: comparisons of an equal value, by the profile's label.

    Returns
    -------
    list of Comparison
        Those of which something can be said: at least three blocks of time.
    """
    families: dict[tuple[object, ...], list[tuple[str, Outcome, list[Outcome]]]] = {}
    for title, outcomes in markets.items():
        for profile, variants in _groups(outcomes):
            families.setdefault(family(profile.label), []).append((title, profile, variants))
    return [found for family in families.values() for found in _family(family, seed)]


def _groups(outcomes: Sequence[Outcome]) -> Iterator[tuple[Outcome, list[Outcome]]]:
    """Profiles that have variants, each with them."""
    for profile in outcomes:
        label = profile.label
        if label.name != label.profile:
            continue
        variants = [
            other
            for other in outcomes
            if (other.label.fill_model, other.label.latency_s) == (label.fill_model, label.latency_s)
            and other.label.profile == label.profile
            and other.label.name.startswith(f"{label.name} ")
            and np.array_equal(other.buckets["end_ns"], profile.buckets["end_ns"])
        ]
        if variants:
            yield profile, variants


def _family(groups: Sequence[tuple[str, Outcome, list[Outcome]]], seed: int) -> Iterator[Comparison]:
    count = sum(len(variants) for _, _, variants in groups)
    together = 1.0 - (1.0 - CONFIDENCE) / count
    for title, profile, variants in groups:
        buckets = [variant.buckets for variant in variants]
        alone = paired(profile.buckets, buckets, seed=seed)
        adjusted = paired(profile.buckets, buckets, seed=seed, confidence=together)
        for other, one, wide in zip(variants, alone, adjusted, strict=True):
            if one is not None and wide is not None:
                label = profile.label
                yield Comparison(
                    title, label.fill_model, label.latency_s, label.name, other.label.name, one, wide, count
                )
