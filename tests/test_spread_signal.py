"""The smoothed spread: by time whatever the update rate, or by samples."""

import math

import pytest

from market_maker import spread_signal
from market_maker.domain import NS_PER_S
from market_maker.kernel import new_row
from market_maker.spread_signal import SpreadEmaSettings, SpreadEmaState


def record(value):
    return new_row(value)[0]


def smoothed(settings, spreads, step_s):
    rule, state = record(settings), record(SpreadEmaState())
    for i, spread in enumerate(spreads):
        spread_signal.update(rule, state, spread, round(i * step_s * NS_PER_S))
    return float(state.spread_bps)


def test_the_spread_is_smoothed_by_time_whatever_the_update_rate():
    # Lesson 13: an average over sample counts gives another answer at another rate.
    sparse = smoothed(SpreadEmaSettings(), [1.0, 5.0, 5.0], 10.0)
    dense = smoothed(SpreadEmaSettings(), [1.0] * 1000 + [5.0] * 1001, 0.01)
    assert sparse == pytest.approx(1.0 + 4.0 * (1.0 - math.exp(-1.0)))
    assert dense == pytest.approx(sparse, rel=1e-9)


def test_the_legacy_spread_is_smoothed_by_sample():
    legacy = SpreadEmaSettings(spread_ema_alpha=0.15)
    assert smoothed(legacy, [1.0, 5.0, 5.0], 1.0) == pytest.approx(1.0 + 4.0 * (1.0 - 0.85**2))


def test_a_spread_that_is_no_number_is_passed_over():
    assert smoothed(SpreadEmaSettings(), [2.0, math.nan, -1.0], 1.0) == 2.0
