"""Named scenarios: which phases the generated markets go through, and what the markets are like in them.

All markets of a scenario go through its schedule; the wild alt may have one of its own.
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from market_maker.emulator.flow import Flow
from market_maker.emulator.generator import GeneratedFlow, MarketModel
from market_maker.emulator.ladder import BookModel
from market_maker.emulator.price_path import Phase, PriceModel, Schedule
from market_maker.emulator.takers import TakerModel
from market_maker.instrument import Instrument, MarginTier

WILD_ALT = "WIF-USD"
_S_PER_MINUTE = 60.0


class UnknownScenario(ValueError):
    """No scenario of this name; the message lists those that exist."""


class UnknownMarket(ValueError):
    """No generated market of this name; the message lists those that exist."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Schedules and what differs from the markets' usual models."""

    schedule: Schedule
    alt_schedule: Schedule | None = None
    sigma_bps: Mapping[str, float] | None = None  # per root minute, by market
    adapt: Callable[[MarketModel], MarketModel] | None = None


def _instrument(name: str, tick: str, step: str, min_size: str, *, leverage: int = 50) -> Instrument:
    margin = Decimal(1) / leverage
    tiers = (MarginTier(Decimal(4_000_000), margin), MarginTier(Decimal(60_000_000), 2 * margin))
    return Instrument(
        name,
        Decimal(tick),
        Decimal(step),
        Decimal(min_size),
        max_leverage=Decimal(leverage),
        margin_tiers=tiers,
    )


_MODELS = {
    model.instrument.name: model
    for model in (
        MarketModel(
            _instrument("BTC-USD", "1", "0.00001", "0.0001"),
            PriceModel(start_price=84_077.0, sigma_bps=4.5, factor_share=0.9),
            BookModel(changes_hz=16.0, touch_lots=60_000.0, spread_ticks=0.55),
            TakerModel(rate_hz=0.4, median_lots=1_500.0),
        ),
        MarketModel(
            _instrument("ETH-USD", "0.1", "0.001", "0.01"),
            PriceModel(start_price=2_415.0, sigma_bps=6.0, factor_share=0.85),
            BookModel(changes_hz=16.0, touch_lots=15_000.0, spread_ticks=0.6),
            TakerModel(rate_hz=0.42, median_lots=400.0),
        ),
        MarketModel(
            _instrument("SOL-USD", "0.01", "0.01", "0.1"),
            PriceModel(start_price=141.3, sigma_bps=8.0, factor_share=0.75),
            BookModel(changes_hz=14.0, touch_lots=9_000.0, spread_ticks=0.7),
            TakerModel(rate_hz=0.36, median_lots=300.0),
        ),
        MarketModel(
            _instrument(WILD_ALT, "0.0001", "1", "10", leverage=10),
            PriceModel(start_price=0.8512, sigma_bps=27.0, factor_share=0.45, volatility_noise=0.4),
            BookModel(changes_hz=12.0, touch_lots=4_000.0, spread_ticks=3.0, holes=0.25, swept_share=0.25),
            TakerModel(rate_hz=0.3, median_lots=350.0, informed=0.8),
        ),
    )
}

_CALM_SIGMA_BPS = {"BTC-USD": 2.2, "ETH-USD": 2.8, "SOL-USD": 3.2, WILD_ALT: 3.0}

_MIXED = Schedule(
    (
        Phase(7.0, volatility=0.7),
        Phase(5.0, volatility=2.2, activity=1.5),
        Phase(5.0, volatility=0.8, reversion_per_s=0.2),
        Phase(8.0, drift_bps_s=1.2, activity=1.3),
        Phase(4.0, volatility=1.5, jumps_per_minute=15.0, jump_bps=5.0, depth=0.7),
        Phase(6.0, drift_bps_s=-1.0, activity=1.2),
        Phase(20.0, volatility=0.7, reversion_per_s=0.1),
        Phase(45.0),
        Phase(20.0, volatility=1.6, jumps_per_minute=4.0, jump_bps=8.0, depth=0.7),
        Phase(40.0, drift_bps_s=-0.2, volatility=0.9),
        Phase(60.0, volatility=0.6, reversion_per_s=0.05),
        Phase(30.0, drift_bps_s=0.25, volatility=1.2, activity=1.3),
        Phase(60.0, volatility=0.9),
    ),
    repeat_from=6,
)
_MIXED_ALT = Schedule(
    (
        Phase(9.0, volatility=0.6),
        Phase(7.0, volatility=4.5, activity=1.2, depth=0.7, spread=0.4),
        Phase(8.0, volatility=0.7, reversion_per_s=0.2),
        Phase(7.0, drift_bps_s=3.0, volatility=0.8, activity=1.3),
        Phase(9.0, volatility=1.0, jumps_per_minute=12.0, jump_bps=15.0),
        Phase(45.0, volatility=0.7),
        Phase(12.0, volatility=2.2, jumps_per_minute=5.0, jump_bps=20.0, depth=0.6, spread=0.6),
        Phase(50.0, volatility=0.8, drift_bps_s=-0.6),
        Phase(60.0, volatility=0.7, reversion_per_s=0.05),
        Phase(25.0, drift_bps_s=1.0, activity=1.3),
    ),
    repeat_from=5,
)
_CRASH = Schedule(
    (
        Phase(10.0, volatility=0.8),
        Phase(
            40.0,
            volatility=2.5,
            drift_bps_s=-5.0,
            jumps_per_minute=25.0,
            jump_mean_bps=-12.0,
            jump_bps=8.0,
            depth=0.25,
            spread=2.0,
            activity=2.5,
        ),
        Phase(
            20.0, volatility=3.0, jumps_per_minute=10.0, jump_bps=15.0, depth=0.35, spread=2.0, activity=2.0
        ),
        Phase(30.0, volatility=2.0, drift_bps_s=2.5, depth=0.5, spread=1.5, activity=1.5),
        Phase(120.0, volatility=1.5, depth=0.7),
    ),
    repeat_from=4,
)


def _scripted(model: MarketModel) -> MarketModel:
    price = replace(model.price, volatility_noise=0.0)
    takers = replace(
        model.takers, rate_hz=1.0, fast_excitation=0.0, slow_excitation=0.0, persistence=0.0, impact=0.0
    )
    return replace(model, price=price, takers=takers)


_STILL = dict.fromkeys(_MODELS, 0.0)
_SCENARIOS = {
    "calm": Scenario(Schedule((Phase(60.0),)), sigma_bps=_CALM_SIGMA_BPS),
    "choppy": Scenario(Schedule((Phase(25.0, volatility=1.5, reversion_per_s=0.15),))),
    "trend": Scenario(
        Schedule((Phase(10.0, volatility=0.7), Phase(600.0, drift_bps_s=2.0, activity=1.3)), 1)
    ),
    "crash": Scenario(_CRASH),
    "mixed": Scenario(_MIXED, _MIXED_ALT),
    "ramp": Scenario(Schedule((Phase(600.0, drift_bps_s=2.0),)), sigma_bps=_STILL, adapt=_scripted),
    "flat": Scenario(Schedule((Phase(600.0),)), sigma_bps=_STILL, adapt=_scripted),
}


def scenario_names() -> list[str]:
    """Names of the scenarios that exist."""
    return list(_SCENARIOS)


def market_names() -> list[str]:
    """Names of the markets that can be generated."""
    return list(_MODELS)


def instruments(markets: Sequence[str]) -> list[Instrument]:
    """Trading rules of the named markets, in their order.

    Raises
    ------
    UnknownMarket
        If one of them does not exist.
    """
    return [market_model(market).instrument for market in markets]


def build_flows(scenario: str, markets: Sequence[str], seed: int, start_ns: int) -> list[Flow]:
    """Flows of the named markets in a scenario, in their order; the same seed makes the same flows.

    Raises
    ------
    UnknownScenario, UnknownMarket
        If there is no such scenario or market; the messages list what exists.
    """
    if scenario not in _SCENARIOS:
        hint = _hint(scenario, list(_SCENARIOS))
        msg = f"expected a scenario of {', '.join(_SCENARIOS)}, was {scenario!r}{hint}"
        raise UnknownScenario(msg)
    chosen = _SCENARIOS[scenario]
    flows: list[Flow] = []
    for market in markets:
        own = chosen.alt_schedule if market == WILD_ALT else None
        schedule = own or chosen.schedule
        flows.append(GeneratedFlow(_adapted(market_model(market), chosen), schedule, seed, start_ns))
    return flows


def build_quiet_flow(market: str, changes_per_minute: float, seed: int, start_ns: int) -> Flow:
    """Flow of a market where little happens: so many instants a minute, every sixth with a taker.

    The price goes through the phases of `mixed`; it is what a long simulation can afford.

    Raises
    ------
    UnknownMarket
        If there is no such market.
    """
    model = market_model(market)
    book = replace(model.book, changes_hz=changes_per_minute / _S_PER_MINUTE)
    # Those that others excite come on top: two to each.
    takers = replace(model.takers, rate_hz=changes_per_minute / _S_PER_MINUTE / 18.0)
    return GeneratedFlow(replace(model, book=book, takers=takers), _MIXED, seed, start_ns)


def market_model(market: str) -> MarketModel:
    """Model of a generated market, in no scenario.

    Raises
    ------
    UnknownMarket
        If it does not exist.
    """
    if market not in _MODELS:
        hint = _hint(market, list(_MODELS))
        msg = f"expected a market of {', '.join(_MODELS)}, was {market!r}{hint}"
        raise UnknownMarket(msg)
    return _MODELS[market]


def _hint(name: str, known: Sequence[str]) -> str:
    by_folded = {other.casefold(): other for other in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=1)
    return f"; did you mean {by_folded[close[0]]}?" if close else ""


def _adapted(model: MarketModel, scenario: Scenario) -> MarketModel:
    if scenario.sigma_bps is not None:
        price = replace(model.price, sigma_bps=scenario.sigma_bps[model.instrument.name])
        model = replace(model, price=price)
    return model if scenario.adapt is None else scenario.adapt(model)
