"""One-minute bars against a plain reading of the quotes, and the figures that are made of them."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.domain import NS_PER_S
from market_maker.fitting.bars import NS_PER_MINUTE, MinuteBars, ranges
from market_maker.fitting.quotes import Quotes
from market_maker.range_volatility import Bars


def quotes_of(rows):
    """Quotes of (ns, bid plus ask) with a spread of two half ticks."""
    ns, mid2 = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    return Quotes(ns, np.where(mid2 > 0, mid2 // 2 - 1, 0), np.where(mid2 > 0, mid2 - mid2 // 2 + 1, 0))


def pieces_of(rows, end_ns, cuts):
    """Rows cut at instants, each piece beginning with what stood; as the calibrator hands them on."""
    bounds = [rows[0][0], *sorted(cut for cut in cuts if rows[0][0] < cut < end_ns), end_ns]
    for begin, end in pairwise(bounds):
        stood = [mid for ns, mid in rows if ns <= begin][-1]
        yield quotes_of([(begin, stood), *((ns, mid) for ns, mid in rows if begin < ns < end)]), end


def plain_bars(rows, end_ns):
    """The same by reading the mid at every change, minute by minute."""
    found = []
    for minute in range(rows[0][0] // NS_PER_MINUTE, end_ns // NS_PER_MINUTE + 1):
        begin, end = minute * NS_PER_MINUTE, (minute + 1) * NS_PER_MINUTE
        if begin < rows[0][0] or end > end_ns:
            continue
        mids = [[mid for ns, mid in rows if ns <= begin][-1]]
        mids += [mid for ns, mid in rows if begin < ns < end]
        if all(mids):
            found.append((minute, mids[0], max(mids), min(mids), mids[-1]))
    return found


@st.composite
def markets(draw):
    stamps = draw(st.lists(st.integers(0, 300), min_size=1, max_size=60, unique=True))
    mids = draw(st.lists(st.sampled_from([0, *range(200, 220)]), min_size=len(stamps), max_size=len(stamps)))
    return [(at * NS_PER_S, mid) for at, mid in zip(sorted(stamps), mids, strict=True)]


@settings(max_examples=40)
@given(markets(), st.lists(st.integers(1, 399), max_size=4))
def test_bars_are_those_of_a_plain_reading_however_the_market_is_cut(rows, cuts):
    end_ns = 400 * NS_PER_S
    builder = MinuteBars()
    for quotes, end in pieces_of(rows, end_ns, [cut * NS_PER_S for cut in cuts]):
        builder.take(quotes, end)
    minutes, bars = builder.bars()
    found = np.stack([minutes, *bars], axis=1).astype(int).tolist()
    assert found == [list(row) for row in plain_bars(rows, end_ns)]


def test_there_are_none_of_nothing():
    minutes, bars = MinuteBars().bars()
    assert minutes.size == bars.close.size == 0
    assert ranges(minutes, bars, np.zeros(0, np.int64)).refused


def walk(minutes, seed=1, jump=0.0):
    """Minute bars and one-second mids of a random walk of 5 bps per √minute."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0.0, 5e-4 / math.sqrt(600), 600 * minutes)
    moves[300 * minutes] += jump
    mids = 2e6 * np.exp(np.cumsum(moves)).reshape(minutes, 600)
    bars = Bars(mids[:, 0], mids.max(1), mids.min(1), mids[:, -1])
    return bars, np.round(mids.ravel()[::10]).astype(np.int64)


def test_a_random_walk_has_its_volatility_by_all():
    bars, mids = walk(600)
    found = ranges(np.arange(600), bars, mids)
    assert (found.refused, found.minutes) == ("", 600)
    for figure in (
        found.close_bps,
        found.parkinson_bps,
        found.garman_klass_bps,
        found.rogers_satchell_bps,
        found.yang_zhang_bps,
        found.realised_bps,
        found.bipower_bps,
        found.two_scale_bps,
    ):
        assert figure == pytest.approx(5.0, rel=0.1)
    assert found.jump_share < 0.1


def test_a_jump_is_a_share_of_the_realised_variance():
    bars, mids = walk(600, jump=0.01)
    found = ranges(np.arange(600), bars, mids)
    # 1 % squared is 1e-4; 600 minutes of 5 bps are 1.5e-4.
    assert found.jump_share == pytest.approx(0.4, abs=0.1)
    assert found.realised_bps > found.bipower_bps


def test_what_happens_over_a_gap_is_nobodys():
    bars, mids = walk(600)
    minutes = np.arange(600) + 7 * (np.arange(600) >= 300)
    higher = np.where(np.arange(600) >= 300, 1.5, 1.0)
    moved = Bars(*(column * higher for column in bars))
    cut = np.concatenate([mids[:18_000], np.zeros(420, np.int64), mids[18_000:] * 3 // 2])
    found = ranges(minutes, moved, cut)
    assert found.close_bps == pytest.approx(5.0, rel=0.1)
    assert found.yang_zhang_bps == pytest.approx(5.0, rel=0.1)
    assert found.two_scale_bps == pytest.approx(5.0, rel=0.1)


def test_too_few_minutes_in_a_row_are_refused():
    bars, mids = walk(24)
    assert ranges(np.arange(24), bars, mids).refused == ""
    # Two in a row at a time: no estimate from neighbours.
    minutes = np.arange(24) * 3 // 2
    found = ranges(minutes, bars, mids)
    assert found.refused == "expected at least 12 whole minutes of trusted book, was 0"
    assert found.close_bps == 0.0


def test_a_market_that_stands_still_has_no_jumps():
    flat = Bars(*(np.full(20, 100.0) for _ in range(4)))
    found = ranges(np.arange(20), flat, np.full(60, 100))
    assert (found.refused, found.realised_bps, found.jump_share, found.two_scale_bps) == ("", 0.0, 0.0, 0.0)
