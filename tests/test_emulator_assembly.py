"""An exchange from its source: the same one twice, and sources that do not exist."""

import pytest

from market_maker.domain import NS_PER_S
from market_maker.emulator.assembly import MarketSource, build_exchange
from market_maker.emulator.rules import ExchangeRules, OrderRules
from market_maker.emulator.scenarios import UnknownMarket, UnknownScenario
from market_maker.recordings.events import RecordingError

START_NS = 1_767_571_200 * NS_PER_S


def after_a_second(source: MarketSource) -> bytes:
    exchange = build_exchange(source, START_NS)
    exchange.advance(START_NS + NS_PER_S)
    return exchange.queries.instruments()


def test_the_same_source_makes_the_same_exchange():
    source = MarketSource(("BTC-USD", "ETH-USD"), "mixed", seed=3)
    assert after_a_second(source) == after_a_second(source)
    assert after_a_second(source) != after_a_second(MarketSource(("BTC-USD", "ETH-USD"), "mixed", seed=4))


def test_rules_are_those_that_are_given():
    rules = ExchangeRules(orders=OrderRules(requests_per_minute=7))
    exchange = build_exchange(MarketSource(("BTC-USD",)), START_NS, rules)
    assert exchange.venue.rules is rules
    assert list(exchange.venue.markets) == ["BTC-USD"]


def test_sources_that_do_not_exist(tmp_path):
    with pytest.raises(UnknownMarket):
        build_exchange(MarketSource(("NONE-USD",)), START_NS)
    with pytest.raises(UnknownScenario):
        build_exchange(MarketSource(("BTC-USD",), "none"), START_NS)
    with pytest.raises(RecordingError):
        build_exchange(MarketSource((), recording=tmp_path), START_NS)
