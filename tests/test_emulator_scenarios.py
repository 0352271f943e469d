"""The named scenarios: each does what its name says."""

import flow_statistics
import numpy as np
import pytest
from flow_statistics import Touch

from market_maker.domain import NS_PER_S
from market_maker.emulator.flow import LevelChange
from market_maker.emulator.scenarios import (
    WILD_ALT,
    UnknownMarket,
    UnknownScenario,
    build_flows,
    instruments,
    market_names,
    scenario_names,
)

START_NS = 1_790_000_000_000_000_000


def mids(scenario, market, seconds, seed=1):
    """Mids each second from the start, in bps from the first."""
    generated = build_flows(scenario, [market], seed, START_NS)[0]
    touches = [item for item in flow_statistics.of_flow(generated, seconds) if isinstance(item, Touch)]
    stamps = np.array([touch.at_ns for touch in touches])
    prices = np.array([(touch.bid + touch.ask) / 2 for touch in touches])
    grid = START_NS + np.arange(seconds) * NS_PER_S
    sampled = prices[np.searchsorted(stamps, grid, side="right") - 1]
    return (sampled / sampled[0] - 1) * 1e4


def sigma_bps(values):
    return float(np.sqrt(np.mean(np.diff(values) ** 2) * 60))


def test_every_scenario_starts_for_every_market():
    for scenario in scenario_names():
        flows = build_flows(scenario, market_names(), 1, START_NS)
        assert [item.market for item in flows] == market_names()
        assert all(item.next_ns() == START_NS for item in flows)


def test_the_scenarios_and_markets_that_the_issue_names_exist():
    assert {"calm", "choppy", "trend", "crash", "mixed"} <= set(scenario_names())
    assert market_names() == ["BTC-USD", "ETH-USD", "SOL-USD", "WIF-USD"]


def test_instruments_are_in_the_order_asked_for_and_like_extended():
    alt, btc = instruments([WILD_ALT, "BTC-USD"])
    assert (alt.name, btc.name) == (WILD_ALT, "BTC-USD")
    assert (str(btc.tick), str(btc.step), str(btc.min_size)) == ("1", "0.00001", "0.0001")


def test_unknown_scenario_says_which_exist():
    with pytest.raises(UnknownScenario, match=r"calm, choppy, trend, crash, mixed.*was 'wild'"):
        build_flows("wild", ["BTC-USD"], 1, START_NS)


@pytest.mark.parametrize("build", [instruments, lambda markets: build_flows("calm", markets, 1, START_NS)])
def test_unknown_market_says_which_exist(build):
    with pytest.raises(UnknownMarket, match=r"BTC-USD, ETH-USD, SOL-USD, WIF-USD, was 'DOGE-USD'"):
        build(["BTC-USD", "DOGE-USD"])


@pytest.mark.slow
@pytest.mark.parametrize("market", market_names())
def test_calm_stays_below_five_bps(market):
    values = [sigma_bps(mids("calm", market, 300, seed)) for seed in (1, 2)]
    assert np.mean(values) < 5.0


@pytest.mark.slow
def test_choppy_returns_to_where_it_was():
    moves = [mids("choppy", "ETH-USD", 400, seed) for seed in (1, 2, 3)]
    ratio = np.mean([np.mean((m[30:] - m[:-30]) ** 2) / 30 / np.mean(np.diff(m) ** 2) for m in moves])
    assert ratio < 0.8


def test_trend_rises_by_two_bps_a_second():
    values = mids("trend", "BTC-USD", 70)
    assert 1.5 < (values[-1] - values[15]) / (len(values) - 16) < 2.5


def test_crash_falls_fast_with_gaps_and_a_thin_book():
    values = mids("crash", "BTC-USD", 50)
    assert values[9] > -20
    assert values[-1] < -200
    assert np.diff(values).min() < -10


def test_crash_thins_the_book():
    def shown(seconds):
        generated = build_flows("crash", ["BTC-USD"], 1, START_NS)[0]
        book = flow_statistics.MinimalBook()
        while generated.next_ns() < START_NS + seconds * NS_PER_S:
            for event in generated.pop(book):
                book.apply(event)
        return sum(sum(levels.values()) for levels in book.levels.values())

    assert shown(40) < 0.5 * shown(8)


@pytest.mark.slow
def test_mixed_shows_every_kind_of_phase_within_forty_seconds():
    quiet, burst = [], []
    for seed in (1, 2, 3):
        values = mids("mixed", WILD_ALT, 40, seed)
        quiet.append(sigma_bps(values[:9]))
        burst.append(sigma_bps(values[9:17]))
    assert np.mean(quiet) < 40
    assert np.mean(burst) > 60
    majors = [mids("mixed", "BTC-USD", 40, seed) for seed in (1, 2, 3, 4)]
    trend = np.mean([values[25] - values[17] for values in majors])
    assert trend > 4


@pytest.mark.parametrize("market", market_names())
def test_ramp_rises_by_two_bps_a_second_and_no_more(market):
    values = mids("ramp", market, 30)
    expected = np.arange(30) * 2.0
    assert np.abs(values - expected)[2:].max() < 4.0


@pytest.mark.parametrize("market", market_names())
def test_flat_stays_with_takers_on_both_sides(market):
    assert np.abs(mids("flat", market, 30)).max() < 4.0
    generated = build_flows("flat", [market], 1, START_NS)[0]
    book, sides = flow_statistics.MinimalBook(), set()
    for _ in range(500):
        for event in generated.pop(book):
            if not isinstance(event, LevelChange):
                sides.add(event.side)
            book.apply(event)
    assert len(sides) == 2
