"""The symmetric baseline's width: which are tried, which is best, and that it earns what it is said to."""

import os
from dataclasses import replace
from decimal import Decimal

import pytest
from model_market import START_NS, model_market, pieces

from market_maker.backtest.baselines import symmetric
from market_maker.backtest.host import Contestant, MarketMakerRun
from market_maker.backtest.widths import CANDIDATES, Score, best, candidates, scores, with_symmetric_width
from market_maker.domain import NS_PER_S
from market_maker.fills.money import FRACTION
from market_maker.fills.rows import EventKind, StrategyRow
from market_maker.fitting.calibration import Part, calibrate
from market_maker.fitting.record import Calibration, Volatility
from market_maker.instrument import Instrument
from market_maker.pricing_engine import QuoteSettings
from market_maker.risk_manager import RiskSettings
from market_maker.strategy_rows import Params, RepriceSettings

INSTRUMENT = Instrument("X-USD", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"))
PLAYER = Contestant(
    Params(
        quote=QuoteSettings(num_levels=1, level_size_usd=120.0),
        reprice=RepriceSettings(reprice_tolerance_ticks=1.0, min_reprice_interval_s=0.1),
    ),
    RiskSettings(max_position_notional_usd=3_000.0),
    StrategyRow(maker_fee_ppb=20_000),
)
SECONDS = 60 if os.environ.get("NUMBA_DISABLE_JIT") == "1" else 600


def known(sigma_ticks):
    return Calibration("X-USD", spread_ticks=1.0, volatility=Volatility(sigma_ticks=sigma_ticks, refused=""))


def test_widths_reach_from_the_touch_to_two_deviations_of_a_minute():
    halves = candidates(known(50.0))
    assert halves[0] == 0.5
    assert halves[-1] == pytest.approx(2.0 * 50.0 * 60.0**0.5, abs=0.25)
    assert len(halves) <= CANDIDATES
    assert list(halves) == sorted(set(halves))
    assert all((2.0 * half).is_integer() for half in halves)


def test_without_volatility_there_are_still_widths():
    halves = candidates(Calibration("X-USD", spread_ticks=6.0))
    assert (halves[0], halves[-1]) == (3.0, 24.0)


def test_the_best_trades_and_earns_most_and_is_the_wider_of_equals():
    found = [Score(1.0, -50, 90), Score(2.0, 40, 30), Score(3.0, 40, 12), Score(4.0, 70, 9), Score(5.0, 0, 0)]
    assert best(found) == found[2]
    # A loss that was traded for beats no trade at all.
    assert best([found[0], found[4]]) == found[0]


def test_where_none_trades_the_narrowest_is_taken():
    assert best([Score(2.0, 0, 0), Score(1.0, -3, 5), Score(9.0, 1, 1)]).half_ticks == 1.0


@pytest.fixture(scope="module")
def market():
    return model_market(SECONDS, sigma_ticks=0.5, mid=600_000)


@pytest.mark.slow
def test_scores_are_what_each_width_alone_has_gained(market):
    halves = (1.5, 4.0, 9.0)
    together = scores(halves, pieces(market, 5), INSTRUMENT, PLAYER)
    assert [score.half_ticks for score in together] == list(halves)
    assert together[0].fills > together[2].fills > 0
    for half, score in zip(halves, together, strict=True):
        assert scores([half], [market], INSTRUMENT, PLAYER) == [score]
        run = MarketMakerRun(INSTRUMENT, [replace(PLAYER, quoter=symmetric(half))])
        piece = run.run([market])
        fills = piece.log[piece.log["kind"] == EventKind.FILL]
        assert len(fills) == score.fills
        mid2 = int(piece.mids["mid2_ticks"][-1])
        gain = sum(
            2 * FRACTION * -side * lots * price
            + FRACTION * side * lots * mid2
            - 2 * 100 * 20_000 * lots * price
            for side, lots, price in fills[["side", "lots", "price_ticks"]].tolist()
        )
        assert score.twice_gain == gain


@pytest.mark.slow
def test_a_calibration_gets_its_width_and_nothing_else(market):
    part = Part(START_NS, START_NS + SECONDS * NS_PER_S)
    found = calibrate([market], "X-USD", part)
    wide = with_symmetric_width(found, [market], INSTRUMENT, PLAYER)
    assert wide == replace(found, symmetric_half_ticks=wide.symmetric_half_ticks)
    tried = candidates(found)
    assert wide.symmetric_half_ticks in tried
    assert wide.symmetric_half_ticks == best(scores(tried, [market], INSTRUMENT, PLAYER)).half_ticks
