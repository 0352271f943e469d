"""Who plays in a trial: profiles, their variants and baselines, each once for every fill model and latency.

What is compared is how they quote, so sizes, limits, fees and latencies are the same for all. A variant is a
profile with some settings of its own. A baseline plays with the first profile's sizes, limits and reprice
gates, and quotes by its own line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from market_maker.backtest.fill_models import Fees, FillModel, fill_row
from market_maker.backtest.host import Contestant
from market_maker.backtest.joint_account import JointSettings
from market_maker.backtest.outcome import Label
from market_maker.backtest.rows import QuoterRow
from market_maker.config import Config, ConfigError
from market_maker.config_sections import HedgerSettings, SessionSettings
from market_maker.correlation import CorrelationSettings
from market_maker.exposure import NetBetaSettings
from market_maker.hedging import HedgeSettings
from market_maker.instrument import Instrument
from market_maker.risk_manager import RiskSettings
from market_maker.strategy_rows import Params

BASELINE_PROFILE = "baseline"


@dataclass(frozen=True, slots=True)
class Entrant:
    """One way to quote; `baseline` is the name of its line, empty where the pipeline decides."""

    name: str
    profile: str
    params: Params
    risk: RiskSettings
    baseline: str = ""
    joint: JointSettings = field(default_factory=JointSettings)  # where its markets share an account


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which everybody plays: each fill model at each latency (s, each way)."""

    models: Sequence[FillModel]
    latencies_s: Sequence[float]
    fees: Fees


def entrants(
    configs: Sequence[Config],
    baselines: Sequence[str],
    market: str,
    variants: Mapping[str, Config] = MappingProxyType({}),
) -> list[Entrant]:
    """Profiles as they are set for a market, then their variants, then the baselines.

    Parameters
    ----------
    variants : mapping of str to Config
        Settings of each variant by its name.

    Raises
    ------
    ConfigError
        If nobody plays, or sizes or limits of the profiles differ.
    """
    if not configs:
        msg = "expected at least one profile, was none"
        raise ConfigError([msg])
    named = [(config.of(SessionSettings).profile, config) for config in configs] + list(variants.items())
    found = [
        Entrant(
            name,
            config.of(SessionSettings).profile,
            config.strategy_params(market),
            config.of(RiskSettings, market),
            joint=_joint(config),
        )
        for name, config in named
    ]
    first = found[0]
    for other in found[1:]:
        _check_equal(first, other)
    # A baseline sees its own inventory alone, and has no hedge.
    alone = replace(first, profile=BASELINE_PROFILE, joint=JointSettings(net_beta=first.joint.net_beta))
    return found + [replace(alone, name=name, baseline=name) for name in baselines]


def _joint(config: Config) -> JointSettings:
    return JointSettings(
        config.of(CorrelationSettings),
        config.of(NetBetaSettings),
        config.of(HedgeSettings),
        config.of(HedgerSettings).hedge_market,
    )


def _check_equal(first: Entrant, other: Entrant) -> None:
    wanted, was = _sizes(first), _sizes(other)
    if wanted != was:
        msg = f"{other.name}: expected the sizes of {first.name}, {wanted}, was {was}: it would not be fair"
        raise ConfigError([msg])
    if first.risk != other.risk:
        msg = f"{other.name}: expected the limits of {first.name}, {first.risk}, was {other.risk}"
        raise ConfigError([msg])


def _sizes(entrant: Entrant) -> str:
    quote = entrant.params.quote
    return f"{quote.num_levels} levels of {quote.level_size_usd:g} USD growing by {quote.level_size_growth:g}"


def lineup(
    entered: Sequence[Entrant],
    conditions: Conditions,
    instrument: Instrument,
    quoters: Mapping[str, QuoterRow],
) -> tuple[list[Label], list[Contestant]]:
    """Rows of a run: latencies, in each the fill models, in each the entrants.

    Parameters
    ----------
    quoters : mapping of str to QuoterRow
        Line of each baseline that plays; those without one are left out.
    """
    labels, contestants = [], []
    players = [entrant for entrant in entered if not entrant.baseline or entrant.baseline in quoters]
    for latency_s in conditions.latencies_s:
        for model in conditions.models:
            fills = fill_row(model, latency_s, conditions.fees, instrument)
            for entrant in players:
                quoter = quoters[entrant.baseline] if entrant.baseline else QuoterRow()
                labels.append(Label(entrant.name, entrant.profile, model.name, latency_s))
                hedges = entrant.joint.hedge.hedge_enabled
                contestants.append(
                    Contestant(entrant.params, entrant.risk, replace(fills), quoter, hedges=hedges)
                )
    return labels, contestants


def order_lots(entrant: Entrant, mid_ticks: float, instrument: Instrument) -> int:
    """Lots of an order of the nearest level at a price, at least the market's least."""
    lot_usd = mid_ticks * float(instrument.value(1, 1))
    return max(int(entrant.params.quote.level_size_usd / lot_usd), instrument.min_lots, 1) if lot_usd else 1


def limit_lots(entrant: Entrant, mid_ticks: float, instrument: Instrument) -> int:
    """Lots of the largest position that its own limits leave at a price."""
    lot_usd = mid_ticks * float(instrument.value(1, 1))
    by_notional = entrant.risk.max_position_notional_usd / lot_usd if lot_usd else 0.0
    by_size = entrant.risk.max_position_size / float(instrument.step)
    bounds = [bound for bound in (by_notional, by_size) if bound > 0.0]
    return max(int(min(bounds)), 1) if bounds else order_lots(entrant, mid_ticks, instrument)
