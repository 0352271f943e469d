"""Who plays: equal terms for all, each once for every fill model and latency."""

from dataclasses import replace
from decimal import Decimal

import pytest

from market_maker.backtest.contest import (
    Conditions,
    Entrant,
    entrants,
    limit_lots,
    lineup,
    order_lots,
)
from market_maker.backtest.fill_models import MODELS, Fees
from market_maker.backtest.rows import Quoter, QuoterRow
from market_maker.backtest.trial import Span, TrialSettings, find_span
from market_maker.config import ConfigError, load_config
from market_maker.instrument import Instrument
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import FORMAT_VERSION, HourInfo, MarketInfo
from market_maker.risk_manager import RiskSettings

S = 10**9
X = "X-USD"
MARKET = Instrument(X, Decimal("0.1"), Decimal("0.001"), Decimal("0.002"))
LINE = QuoterRow(int(Quoter.LINEAR), half_ticks=3.0)


def profiles(*overrides):
    return [load_config(overrides=overrides, profile=name) for name in ("crypto", "legacy")]


def test_profiles_then_baselines_with_the_first_profiles_sizes():
    crypto, legacy, glft = entrants(profiles(f"{X}:level_size_usd=77"), ["glft"], X)
    assert [one.name for one in (crypto, legacy, glft)] == ["crypto", "legacy", "glft"]
    assert [one.profile for one in (crypto, legacy, glft)] == ["crypto", "legacy", "baseline"]
    assert {one.params.quote.level_size_usd for one in (crypto, legacy, glft)} == {77.0}
    assert glft.params == crypto.params != legacy.params
    assert crypto.risk == legacy.risk == glft.risk


def test_a_variant_plays_as_its_profile_with_settings_of_its_own():
    names = ("crypto without trend", "legacy fade")
    settings = ("trend_enabled=false", "trend_mode=fade")
    variants = {
        name: load_config(overrides=[setting], profile=name.split()[0])
        for name, setting in zip(names, settings, strict=True)
    }
    entered = entrants(profiles(), ["glft"], X, variants)
    assert [one.name for one in entered] == ["crypto", "legacy", *names, "glft"]
    assert [one.profile for one in entered] == ["crypto", "legacy", "crypto", "legacy", "baseline"]
    assert not entered[2].params.trend.trend_enabled
    assert replace(entered[2].params, trend=entered[0].params.trend) == entered[0].params
    larger = {"crypto more": load_config(overrides=["level_size_usd=2000"], profile="crypto")}
    with pytest.raises(ConfigError, match="crypto more: expected the sizes of crypto"):
        entrants(profiles(), [], X, larger)


@pytest.mark.parametrize(
    "setting", ["level_size_usd=500", "num_levels=3", "level_size_growth=2", "max_position_notional_usd=1"]
)
def test_unequal_sizes_or_limits_are_refused(setting):
    crypto, legacy = profiles()
    other = load_config(overrides=[setting], profile="legacy")
    assert len(entrants([crypto, legacy], [], X)) == 2
    with pytest.raises(ConfigError, match="legacy: expected"):
        entrants([crypto, other], [], X)
    with pytest.raises(ConfigError, match="at least one"):
        entrants([], [], X)


def test_everybody_once_for_each_model_and_latency_and_who_has_no_line_is_left_out():
    entered = entrants(profiles(), ["glft", "symmetric"], X)
    models = (MODELS["base"], MODELS["optimistic"])
    labels, players = lineup(entered, Conditions(models, (0.01, 1.0), Fees()), MARKET, {"glft": LINE})
    assert len(labels) == len(players) == 3 * 2 * 2
    assert len({(label.name, label.fill_model, label.latency_s) for label in labels}) == 12
    for label, player in zip(labels, players, strict=True):
        assert player.fills.request_ns == round(label.latency_s * S)
        assert player.fills.queue_model == MODELS[label.fill_model].queue_model
        assert (player.quoter == LINE) is (label.name == "glft")
    # Rows are written to: nobody shares one.
    assert len({id(player.fills) for player in players}) == 12


def test_sizes_in_lots():
    entrant = Entrant("x", "crypto", entrants(profiles(), [], X)[0].params, RiskSettings())
    # A lot at 100,000 ticks is worth 10 USD.
    assert order_lots(entrant, 100_000.0, MARKET) == 100
    assert limit_lots(entrant, 100_000.0, MARKET) == 1_000
    assert order_lots(entrant, 1e9, MARKET) == 2
    by_size = replace(entrant, risk=RiskSettings(max_position_size=0.5))
    assert limit_lots(by_size, 100_000.0, MARKET) == 500
    free = replace(entrant, risk=RiskSettings(max_position_notional_usd=0.0))
    assert limit_lots(free, 100_000.0, MARKET) == 100


def info(first_s, last_s):
    hours = [HourInfo("1970-01-01T00", 2, first_s * S, last_s * S, 0)]
    return MarketInfo(FORMAT_VERSION, X, "here", "0.1", "0.001", 0, {}, [], {}, [], hours)


def test_the_first_part_is_a_share_of_what_is_read():
    assert find_span(info(100, 200), TrialSettings()) == Span(100 * S, 120 * S, 200 * S)
    cut = TrialSettings(span_ns=(150 * S, 170 * S), calibrate_share=0.5)
    assert find_span(info(100, 200), cut) == Span(150 * S, 160 * S, 170 * S - 1)
    with pytest.raises(RecordingError, match=X):
        find_span(info(100, 200), TrialSettings(span_ns=(200 * S, 300 * S)))
