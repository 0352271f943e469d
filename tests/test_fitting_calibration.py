"""Calibration over hours: what a market was made with, however it is cut, and nothing later."""

import json

import numpy as np
import pytest
from model_market import START_NS, as_hour, model_market, pieces

from market_maker.domain import NS_PER_S
from market_maker.fitting.calibration import Part, calibrate, first_part
from market_maker.fitting.quotes import QuoteReader
from market_maker.fitting.record import Calibration
from market_maker.recordings.store import (
    BEST_BID,
    CLEAR,
    GAP,
    LEVEL_ASK,
    LEVEL_BID,
    TRADE_BUY,
    TRADE_SELL,
    Hour,
)

X = "X-USD"
WHOLE = Part(START_NS, START_NS + 900 * NS_PER_S)


@pytest.fixture(scope="module")
def market():
    return model_market(900)


def test_best_quotes_are_told_where_they_change():
    hour = as_hour(
        [
            (10, CLEAR, 0, 0),
            (10, LEVEL_BID, 99, 5),
            (10, LEVEL_BID, 98, 5),
            (10, LEVEL_ASK, 101, 5),
            (20, LEVEL_BID, 98, 7),
            (30, BEST_BID, 98, 7),
            (40, GAP, 0, 0),
            (50, CLEAR, 0, 0),
            (50, LEVEL_BID, 97, 5),
            (60, LEVEL_ASK, 99, 5),
        ]
    )
    found = QuoteReader().read(hour)
    assert found.ns.tolist() == [10, 30, 40, 60]
    assert found.bid_ticks.tolist() == [99, 98, 0, 97]
    assert found.ask_ticks.tolist() == [101, 101, 0, 99]
    assert found.mid2_ticks.tolist() == [200, 199, 0, 196]


def test_best_quotes_are_told_with_their_sizes_where_either_changes():
    hour = as_hour(
        [
            (10, CLEAR, 0, 0),
            (10, LEVEL_BID, 99, 5),
            (10, LEVEL_BID, 98, 5),
            (10, LEVEL_ASK, 101, 6),
            (20, LEVEL_BID, 98, 7),
            (30, LEVEL_BID, 99, 8),
            (40, BEST_BID, 98, 7),
            (50, GAP, 0, 0),
            (60, GAP, 0, 0),
        ]
    )
    reader = QuoteReader()
    prices, sized = reader.read_both(hour)
    assert prices.ns.tolist() == [10, 40, 50]
    assert sized.ns.tolist() == [10, 30, 40, 50]
    assert sized.bid_ticks.tolist() == [99, 99, 98, 0]
    assert sized.ask_ticks.tolist() == [101, 101, 101, 0]
    assert sized.bid_lots.tolist() == [5, 8, 7, 0]
    assert sized.ask_lots.tolist() == [6, 6, 6, 0]
    again = reader.read_both(as_hour([(70, CLEAR, 0, 0)]))
    assert [len(found.ns) for found in again] == [0, 0]


def test_best_quotes_do_not_depend_on_how_a_market_is_cut(market):
    whole = QuoteReader().read(market)
    reader = QuoteReader()
    cut = [reader.read(piece) for piece in pieces(market, 7)]
    for column, parts in zip(whole, zip(*cut, strict=True), strict=True):
        assert np.concatenate(parts).tolist() == column.tolist()


def test_a_market_made_by_the_model_gives_its_parameters(market):
    found = calibrate([market], X, WHOLE)
    assert found.refused == ""
    assert found.seconds == pytest.approx(900.0, abs=0.5)
    assert found.mid_ticks == pytest.approx(60_000, rel=1e-2)
    assert found.ranges.minutes == 14
    assert found.spread_ticks == pytest.approx(2.0)
    assert found.sigma_ticks == pytest.approx(3.0, rel=0.25)
    # Reaches are rounded up to whole ticks: on the grid, by three quarters of one on average.
    assert abs(found.k_per_tick - 0.25) < 3.0 * found.arrivals.k_error < 0.1
    assert found.a_per_s == pytest.approx(2.0 * np.exp(0.75 * 0.25), rel=0.12)


def test_the_result_does_not_depend_on_how_the_market_is_cut(market):
    whole, cut = calibrate([market], X, WHOLE), calibrate(pieces(market, 9), X, WHOLE)
    assert cut.arrivals == whole.arrivals
    assert cut.volatility == whole.volatility
    assert (cut.micro_price, cut.ranges) == (whole.micro_price, whole.ranges)
    assert (cut.seconds, cut.spread_ticks) == (whole.seconds, whole.spread_ticks)
    assert cut.mid_ticks == pytest.approx(whole.mid_ticks, rel=1e-12)


def test_nothing_after_the_part_changes_it(market):
    part = first_part(WHOLE.start_ns, WHOLE.end_ns, 0.5)
    row = int(np.searchsorted(market.venue_ns, part.end_ns))
    ticks, lots = market.ticks.copy(), market.lots.copy()
    ticks[row:] += 7_777
    lots[row:] *= 3
    other = market._replace(ticks=ticks, lots=lots)
    found = calibrate([market], X, part)
    assert calibrate([other], X, part) == found
    assert calibrate([Hour(*(column[:row] for column in market))], X, part) == found
    assert found.end_ns == part.end_ns


def test_hours_after_the_part_are_not_even_read(market):
    def hours():
        yield market
        msg = "read past the part"
        raise AssertionError(msg)

    calibrate(hours(), X, first_part(WHOLE.start_ns, WHOLE.end_ns, 0.5))


def test_a_part_within_the_market_knows_the_book_from_before(market):
    later = Part(START_NS + 300 * NS_PER_S, WHOLE.end_ns)
    found = calibrate(pieces(market, 12), X, later)
    assert found.seconds == pytest.approx(600.0, abs=0.5)
    assert found.refused == ""
    inside = calibrate([market], X, later)
    assert (inside.arrivals, inside.volatility) == (found.arrivals, found.volatility)
    assert (inside.micro_price, inside.ranges) == (found.micro_price, found.ranges)


def test_time_without_a_trusted_book_counts_for_nothing():
    first, second = model_market(400), model_market(400, seed=2, start_ns=START_NS + 1_000 * NS_PER_S)
    lost = as_hour([(START_NS + 401 * NS_PER_S, GAP, 0, 0)])
    early = as_hour([(START_NS + 500 * NS_PER_S, TRADE_BUY, 60_900, 1)])
    hours = [first, lost, early, second]
    found = calibrate(hours, X, Part(START_NS, START_NS + 1_400 * NS_PER_S))
    assert found.seconds == pytest.approx(801.0, abs=0.5)
    assert found.arrivals.depths_ticks[-1] < 100.0
    assert found.sigma_ticks == pytest.approx(3.0, rel=0.25)


def test_a_silent_market_is_refused_for_both():
    quiet = as_hour([(START_NS, CLEAR, 0, 0), (START_NS, LEVEL_BID, 99, 5), (START_NS, LEVEL_ASK, 101, 5)])
    found = calibrate([quiet], X, WHOLE)
    assert (found.a_per_s, found.k_per_tick, found.sigma_ticks, found.sigma_bps) == (0.0, 0.0, 0.0, 0.0)
    assert "taker orders" in found.refused
    assert "trusted book" in found.volatility.refused


def test_a_market_that_never_moves_is_refused():
    rows = [(START_NS, CLEAR, 0, 0), (START_NS, LEVEL_BID, 99, 5), (START_NS, LEVEL_ASK, 101, 5)]
    reach = np.random.default_rng(1).geometric(0.3, 800)
    rows += [(START_NS + (n + 1) * NS_PER_S, TRADE_SELL, 100 - int(far), 1) for n, far in enumerate(reach)]
    found = calibrate([as_hour(rows)], X, WHOLE)
    assert found.arrivals.refused == ""
    assert found.refused == "expected the mid to move, was the same throughout"


def test_shares_of_a_span():
    assert first_part(100, 1_100, 0.2) == Part(100, 300)
    for share in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="expected a share"):
            first_part(0, 1, share)


def test_a_record_is_plain_json(market):
    found = calibrate([market], X, WHOLE)
    told = json.loads(json.dumps(found.as_dict()))
    assert told["refused"] == ""
    assert told["arrivals"]["k_per_tick"] == found.k_per_tick
    assert Calibration(X).refused == "nothing was fitted"
