"""The lean towards the micro-price: the weighted mid without a table, a mirrored table with one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.kernel import new_row
from market_maker.micro_price import COLUMNS, SPREADS, MicroPriceSettings, lean_ticks

ONE = MicroPriceSettings(micro_price_table=(0.1, 0.3, 0.4, 0.6, 0.7), micro_price_spreads_ticks=(1.0,))
TWO = MicroPriceSettings(
    micro_price_table=(0.1, 0.3, 0.4, 0.6, 0.7, 0.0, -0.1, 0.2, 0.5, 1.0),
    micro_price_spreads_ticks=(1.0, 4.0),
)
LOTS = st.integers(0, 10**9)
SHARE = st.floats(-1.0, 1.0)


def lean(settings, bid, ask, bid_lots, ask_lots):
    return float(lean_ticks(new_row(settings)[0], bid, ask, bid_lots, ask_lots))


@st.composite
def tables(draw):
    edges = sorted(draw(st.sets(st.integers(1, 50), max_size=SPREADS)))
    values = draw(st.lists(SHARE, min_size=COLUMNS * len(edges), max_size=COLUMNS * len(edges)))
    return MicroPriceSettings(
        micro_price_table=tuple(values), micro_price_spreads_ticks=tuple(float(edge) for edge in edges)
    )


def test_without_a_table_it_is_the_weighted_mid():
    # models.md, section 4: the first row of the author's BAC data, 14.33 × 20 and 14.34 × 471.
    bids, asks = 20, 471
    assert bids / (bids + asks) == pytest.approx(0.040733, abs=5e-7)
    mid = 1433.5 + lean(MicroPriceSettings(), 1433, 1434, bids, asks)
    assert mid / 100 == pytest.approx(14.330407, abs=5e-7)
    assert lean(MicroPriceSettings(), 100, 110, 3, 1) == pytest.approx(2.5)


def test_a_table_has_its_values_at_the_centres_of_its_columns():
    for column, share in enumerate(ONE.micro_price_table):
        heavy = 2 * COLUMNS + 2 * column + 1  # of 4 × COLUMNS lots: |b| is at the centre of the column
        assert lean(ONE, 10, 11, heavy, 4 * COLUMNS - heavy) == pytest.approx(0.5 * share)
        assert lean(ONE, 10, 11, 4 * COLUMNS - heavy, heavy) == pytest.approx(-0.5 * share)
    assert lean(ONE, 10, 11, 60, 40) == pytest.approx(0.5 * 0.2)
    assert lean(ONE, 10, 11, 7, 7) == 0.0
    assert lean(ONE, 10, 11, 7, 0) == pytest.approx(0.35)


def test_a_spread_has_its_row_and_the_last_one_serves_all_that_are_wider():
    assert lean(TWO, 10, 11, 9, 0) == pytest.approx(0.5 * 0.7)
    assert lean(TWO, 10, 12, 9, 0) == pytest.approx(1.0)
    assert lean(TWO, 10, 14, 9, 0) == pytest.approx(2.0)
    assert lean(TWO, 10, 20, 9, 0) == pytest.approx(5.0)


def test_where_there_is_nothing_to_lean_on_it_is_nothing():
    off = MicroPriceSettings(micro_price_enabled=False)
    assert lean(off, 10, 11, 9, 1) == 0.0
    for settings in (MicroPriceSettings(), ONE):
        assert lean(settings, 10, 11, 0, 0) == 0.0
        assert lean(settings, 10, 11, -5, 9) == 0.0
        assert lean(settings, 10, 11, 9, -5) == 0.0
        assert lean(settings, 10, 10, 9, 1) == 0.0
        assert lean(settings, 11, 10, 9, 1) == 0.0


@given(tables(), st.integers(1, 10**7), st.integers(1, 100), LOTS, LOTS)
def test_it_is_antisymmetric_and_inside_the_spread(settings, bid, spread, bids, asks):
    found = lean(settings, bid, bid + spread, bids, asks)
    assert math.isfinite(found)
    assert lean(settings, bid, bid + spread, asks, bids) == -found
    assert abs(found) <= 0.5 * spread
    assert bid <= bid + 0.5 * spread + found <= bid + spread


@given(st.lists(SHARE, min_size=COLUMNS, max_size=COLUMNS), st.integers(0, 10**6))
def test_a_lot_more_moves_it_by_little(values, bids):
    settings = MicroPriceSettings(micro_price_table=tuple(values), micro_price_spreads_ticks=(1.0,))
    step = abs(lean(settings, 10, 11, bids + 1, 10**6) - lean(settings, 10, 11, bids, 10**6))
    # The steepest line goes from −1 to 1 over one column; b moves by less than two in the million a lot.
    assert step <= 0.5 * 2.0 * COLUMNS * 2e-6 + 1e-12


@pytest.mark.parametrize(
    ("table", "spreads", "expected"),
    [
        ((0.1,) * 4, (1.0,), "micro_price_table: expected 5 values for each of 1 ranges"),
        ((0.1,) * 5, (), "micro_price_table: expected 5 values for each of 0 ranges"),
        ((), (1.0,), "was 0 values"),
        ((0.1, 0.2, math.nan, 0.3, 0.4), (1.0,), "micro_price_table: expected shares of the half-spread"),
        ((0.1, 0.2, math.inf, 0.3, 0.4), (1.0,), "micro_price_table: expected shares of the half-spread"),
        ((0.1, 0.2, 0.3, 0.4, 1.01), (1.0,), "was .*1.01"),
        ((0.1,) * 5, (0.0,), "micro_price_spreads_ticks: expected up to 8 whole numbers from 1"),
        ((0.1,) * 5, (1.5,), "micro_price_spreads_ticks"),
        ((0.1,) * 10, (2.0, 2.0), "micro_price_spreads_ticks"),
        ((0.1,) * 5, (math.inf,), "micro_price_spreads_ticks"),
        ((0.1,) * 5, (math.nan,), "micro_price_spreads_ticks"),
        ((0.1,) * 45, tuple(float(n) for n in range(1, 10)), "micro_price_spreads_ticks"),
    ],
)
def test_a_table_that_cannot_be_is_refused(table, spreads, expected):
    with pytest.raises(ValueError, match=expected):
        MicroPriceSettings(micro_price_table=table, micro_price_spreads_ticks=spreads)
