"""Model quotes: published and computed numbers through their units, the table, what must hold always."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import market_making_models as models
from market_maker import model_quotes
from market_maker.glft_solution import Quoting, exact_offsets
from market_maker.kernel import kernel, new_row, row_dtype
from market_maker.model_quotes import CELLS, ModelRow, ModelSettings
from market_maker.model_table import MOST_ORDERS, model_row, risk_aversion

PER_MINUTE = math.sqrt(60.0)  # bps/√s to bps/√minute
USUAL = ModelSettings(model_a_per_s=1.0, model_k_per_bps=1.0, model_sigma_bps=3.1)


class Quoter:
    """Both quotes' distances from the mid, by one model."""

    def __init__(self, given_settings, limit_orders, *, is_glft=True):
        self.row = model_row(given_settings, limit_orders)
        self._settings, self._row = new_row(given_settings), new_row(self.row)
        self._is_glft = is_glft

    def half_and_shift(self, sigma, inventory, drift=0.0):
        found = model_quotes.half_and_shift(
            self._settings[0], self._row[0], self._is_glft, float(sigma), float(inventory), float(drift)
        )
        return float(found[0]), float(found[1])

    def offsets(self, sigma, inventory, drift=0.0):
        """Bid's and ask's; sigma per √second."""
        half, shift = self.half_and_shift(sigma * PER_MINUTE, inventory, drift)
        return half - shift, half + shift


def glft(gamma, sigma, k, a_per_s, *, most=30, finite=True):
    given_settings = ModelSettings(
        model_a_per_s=a_per_s,
        model_k_per_bps=k,
        model_sigma_bps=sigma * PER_MINUTE,
        model_gamma=gamma,
        model_finite=finite,
    )
    return Quoter(given_settings, float(most))


@pytest.mark.parametrize(
    ("inventory", "left_s", "bid", "ask"),
    [
        (0, 1.0, 99.154614789, 100.845385211),
        (0, 0.5, 99.254614789, 100.745385211),
        (1, 1.0, 98.754614789, 100.445385211),
        (5, 1.0, 97.154614789, 98.845385211),
        (5, 0.5, 98.254614789, 99.745385211),
    ],
)
def test_avellaneda_stoikov_vectors(inventory, left_s, bid, ask):
    given_settings = ModelSettings(
        model_a_per_s=140.0,
        model_k_per_bps=1.5,
        model_sigma_bps=2.0 * PER_MINUTE,
        model_gamma=0.1,
        model_horizon_arrivals=140.0 * left_s,
    )
    found = Quoter(given_settings, 10.0, is_glft=False).offsets(2.0, inventory)
    assert (100.0 - found[0], 100.0 + found[1]) == pytest.approx((bid, ask), abs=1e-9)


VECTORS = [
    ((0.01, 0.3, 0.3, 0.9), (3.313045, 3.313045), (3.381168, 3.244919), (3.653480, 2.972522)),
    ((0.01, 0.4, 0.3, 0.9), (3.324458, 3.324458), (3.415401, 3.233506), (3.778746, 2.869957)),
    ((0.01, 1.0, 0.3, 0.2), (3.525651, 3.525651), (4.017546, 3.032313), (5.918517, 1.100245)),
    ((0.01, 0.6, 0.9, 0.9), (1.144474, 1.144474), (1.223403, 1.065493), (1.536590, 0.751100)),
]


@pytest.mark.parametrize(("market", "flat", "one", "five"), VECTORS)
def test_exact_vectors_by_the_table(market, flat, one, five):
    quoter = glft(*market)
    for inventory, expected in ((0, flat), (1, one), (5, five), (-5, five[::-1])):
        assert quoter.offsets(market[1], inventory) == pytest.approx(expected, abs=1.5e-6)


@pytest.mark.parametrize(
    ("market", "inventory", "expected", "drift"),
    [
        ((0.01, 0.3, 0.3, 0.9), 1, (3.380781, 3.245049), 0.0),
        ((0.01, 1.0, 0.3, 0.2), 1, (3.998808, 3.039040), 0.0),
        ((0.01, 1.0, 0.3, 0.2), 5, (5.918344, 1.119505), 0.0),
        ((0.01, 0.3, 0.3, 0.9), 0, (3.237509, 3.388322), 0.001),
    ],
)
def test_closed_form_vectors(market, inventory, expected, drift):
    quoter = glft(*market, finite=False)
    assert quoter.row.table == ()
    assert quoter.offsets(market[1], inventory, drift) == pytest.approx(expected, abs=1.5e-6)


def test_the_published_example_of_half_spread_and_skew():
    quoter = glft(0.05, 10.69, 0.04235741115084049, 2.986162360812285, finite=False)
    half, shift = quoter.half_and_shift(10.69 * PER_MINUTE, 1)
    assert half == pytest.approx(20.47208533844371, rel=1e-12)
    assert shift == pytest.approx(-9.76326865029227, rel=1e-12)


def test_an_order_of_any_size_is_the_unit():
    """Guéant's model A with size Δ is the same with γΔ for one order (models.md, section 3)."""
    gamma, sigma, k, a, size = 2e-4, 0.7, 1.3, 0.8, 50.0
    expected = models.sized_glft_offsets(150.0, gamma, sigma, k, a, size)
    assert glft(gamma * size, sigma, k, a, finite=False).offsets(sigma, 3) == pytest.approx(expected)


@pytest.mark.parametrize("limit", [1.0, 2.0, 10.0, 10.9, 25.0, float(MOST_ORDERS)])
def test_the_table_is_the_exact_solution(limit):
    row = model_row(USUAL, limit)
    most = math.floor(limit)
    lines = np.array(row.table).reshape(row.sigmas, 2 * most + 1)
    assert lines.size <= CELLS
    assert row.sigmas % 2 == 1
    for at in {0, row.sigmas // 2, row.sigmas - 1}:
        sigma = row.sigma_low * math.exp(row.sigma_step * at)
        bids, _ = exact_offsets(Quoting(row.gamma, sigma, row.k_per_bps, row.a_per_s), most)
        assert lines[at, :-1] == pytest.approx(bids[:-1], abs=1e-9)
    assert row.sigma_low * math.exp(row.sigma_step * (row.sigmas // 2)) == pytest.approx(3.1 / PER_MINUTE)


@pytest.mark.parametrize(("limit", "bound"), [(5.0, 0.003), (10.0, 0.003), (25.0, 0.015), (40.0, 0.05)])
def test_between_its_volatilities_it_is_nearly_the_exact_solution(limit, bound):
    """The bound is in parts of 1/k, the distance over which arrivals fall by e."""
    quoter = Quoter(USUAL, limit)
    row, most = quoter.row, math.floor(limit)
    places = np.linspace(0.3, row.sigmas - 1.5, 7)
    for place in places:
        sigma = row.sigma_low * math.exp(row.sigma_step * float(place))
        bids, asks = exact_offsets(Quoting(row.gamma, sigma, row.k_per_bps, row.a_per_s), most)
        for inventory in range(1 - most, most):
            exact = bids[most + inventory], asks[most + inventory]
            assert quoter.offsets(sigma, inventory) == pytest.approx(exact, abs=bound / row.k_per_bps)


def test_at_the_limit_the_way_back_is_exact():
    quoter = Quoter(USUAL, 10.0)
    sigma = 3.1 / PER_MINUTE
    bids, asks = exact_offsets(Quoting(quoter.row.gamma, sigma, 1.0, 1.0), 10)
    assert quoter.offsets(sigma, 10)[1] == pytest.approx(asks[-1], abs=1e-9)
    assert quoter.offsets(sigma, -10)[0] == pytest.approx(bids[0], abs=1e-9)
    assert quoter.offsets(sigma, 25) == quoter.offsets(sigma, 10)


@pytest.mark.parametrize(
    ("market", "limits_share", "bound"),
    [
        ((0.01, 0.3, 0.3, 0.9), 0.33, 0.002),
        ((0.01, 0.3, 0.3, 0.9), -0.5, 0.005),
        # Each order moves this one's quotes by a seventh of 1/k: far from linear.
        ((0.01, 1.0, 0.3, 0.2), 0.1, 0.11),
    ],
)
def test_a_drift_is_near_the_exact_solution(market, limits_share, bound):
    """For a drift that asks for this share of the limit, within the middle third; bound in parts of 1/k."""
    quoter, (gamma, sigma, k, a_per_s) = glft(*market), market
    drift = limits_share * 30.0 * gamma * sigma**2
    bids, asks = exact_offsets(Quoting(gamma, sigma, k, a_per_s, drift=drift), 30)
    for inventory in range(-10, 11):
        exact = bids[30 + inventory], asks[30 + inventory]
        assert quoter.offsets(sigma, inventory, drift) == pytest.approx(exact, abs=bound / k)


@pytest.mark.parametrize("is_glft", [True, False])
def test_a_drift_asks_for_no_more_than_the_limit(is_glft):
    quoter = Quoter(USUAL, 10.0, is_glft=is_glft)
    flat = quoter.half_and_shift(3.1, 0.0)
    strong, stronger = quoter.half_and_shift(3.1, 0.0, 1.0), quoter.half_and_shift(3.1, 0.0, 100.0)
    assert strong[0] == stronger[0] == flat[0]
    assert strong[1] == stronger[1] > flat[1] == 0.0
    assert quoter.half_and_shift(3.1, 0.0, -100.0)[1] == -strong[1]
    assert quoter.half_and_shift(0.0, 0.0, 1.0)[1] == 0.0


def test_without_limits_that_bind_the_drift_of_avellaneda_stoikov_is_what_it_earns():
    """The indifference price is the mid expected at the horizon: μ·T up."""
    quoter = Quoter(USUAL, 10.0, is_glft=False)
    drift = 1e-5
    assert quoter.half_and_shift(3.1, 0.0, drift)[1] == pytest.approx(drift * quoter.row.horizon_s)


def test_the_rule_for_risk_aversion_puts_the_limit_at_its_deviations():
    gamma = risk_aversion(USUAL, 10.0)
    assert model_row(USUAL, 10.0).gamma == gamma
    skew = models.as_skew(gamma, 3.1 / PER_MINUTE, 140.0)
    inventory = np.arange(-40, 41)
    weights = np.exp(-USUAL.model_k_per_bps * skew * inventory.astype(float) ** 2)
    deviation = math.sqrt(float((weights * inventory**2).sum() / weights.sum()))
    assert 3.0 * deviation == pytest.approx(10.0, rel=1e-6)
    assert model_row(replace(USUAL, model_gamma=0.5), 10.0).gamma == 0.5


@pytest.mark.parametrize(
    ("given_settings", "limit"),
    [
        (ModelSettings(), 10.0),
        (replace(USUAL, model_sigma_bps=0.0), 10.0),
        (USUAL, 0.0),
        (USUAL, math.nan),
        (USUAL, math.inf),
    ],
)
def test_without_a_calibration_or_a_limit_there_is_no_model(given_settings, limit):
    quoter = Quoter(given_settings, limit)
    assert quoter.row == ModelRow()
    assert quoter.half_and_shift(5.0, 1.0, 1.0) == (0.0, 0.0)


@pytest.mark.parametrize("limit", [0.5, MOST_ORDERS + 1.0])
def test_a_limit_below_an_order_or_of_very_many_has_the_closed_form(limit):
    quoter = Quoter(USUAL, limit)
    assert quoter.row.sigmas == 0
    expected = models.glft_offsets(0.25, quoter.row.gamma, 0.4, 1.0, 1.0)
    assert quoter.offsets(0.4, 0.25) == pytest.approx(expected)


@pytest.mark.parametrize("arguments", [(math.nan, 0.0, 0.0), (3.0, math.inf, 0.0), (3.0, 0.0, -math.inf)])
def test_what_is_not_finite_is_no_quote(arguments):
    assert all(math.isnan(value) for value in Quoter(USUAL, 10.0).half_and_shift(*arguments))


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.sampled_from([0.7, 1.0, 10.0, 33.3, 100.0]),
    st.floats(-10.0, 1e4),
    st.floats(-1e3, 1e3),
    st.lists(st.floats(-200.0, 200.0), min_size=2, max_size=6),
)
def test_quotes_are_finite_and_lean_against_the_inventory(is_glft, limit, sigma, drift, inventories):
    quoter = Quoter(USUAL, limit, is_glft=is_glft)
    found = [quoter.half_and_shift(sigma, inventory, drift) for inventory in sorted(inventories)]
    assert all(math.isfinite(half + shift) and half > 0.0 for half, shift in found)
    for (half, shift), (next_half, next_shift) in pairwise(found):
        tolerance = 1e-9 * (1.0 + abs(half) + abs(shift))
        assert next_half - next_shift >= half - shift - tolerance
        assert next_half + next_shift <= half + shift + tolerance


@settings(max_examples=40, deadline=None)
@given(st.booleans(), st.floats(0.1, 60.0), st.floats(-12.0, 12.0), st.floats(-0.01, 0.01))
def test_a_short_is_the_mirror_of_a_long(is_glft, sigma, inventory, drift):
    quoter = Quoter(USUAL, 10.0, is_glft=is_glft)
    half, shift = quoter.half_and_shift(sigma, inventory, drift)
    assert quoter.half_and_shift(sigma, -inventory, -drift) == pytest.approx((half, -shift), abs=1e-12)


def test_in_a_wilder_market_quotes_stand_wider():
    for is_glft in (True, False):
        quoter = Quoter(USUAL, 10.0, is_glft=is_glft)
        halves = [quoter.half_and_shift(sigma, 0.0)[0] for sigma in (0.01, 1.0, 3.1, 10.0, 30.0, 100.0)]
        assert halves == sorted(halves)
    # Beyond the table's last line offsets go on growing.
    assert Quoter(USUAL, 10.0).half_and_shift(50.0, 0.0)[0] > Quoter(USUAL, 10.0).half_and_shift(25.0, 0.0)[0]


def test_drift_is_a_share_of_what_a_trend_means_and_the_carry_a_second():
    def drift(trend, carry=0.0, holding_s=0.0, sigma=6.0):
        return model_quotes.drift_bps_per_s(new_row(USUAL)[0], sigma, trend, carry, holding_s)

    assert drift(1.0) * 60.0 == pytest.approx(0.1 * 6.0)
    assert drift(-0.5) == -0.5 * drift(1.0)
    assert drift(7.0) == drift(1.0)
    assert drift(1.0, sigma=-1.0) == 0.0
    assert drift(0.0, carry=3.0, holding_s=300.0) == pytest.approx(-0.01)
    assert drift(0.0, carry=-3.0, holding_s=300.0) == pytest.approx(0.01)
    assert drift(0.0, carry=3.0) == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model_a_per_s", -1.0),
        ("model_k_per_bps", math.nan),
        ("model_sigma_bps", math.inf),
        ("model_gamma", -0.1),
        ("model_limit_deviations", 0.0),
        ("model_horizon_arrivals", 0.0),
        ("model_trend_share", -0.1),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=rf"^{name}: expected a number of at least"):
        ModelSettings(**{name: value})


@kernel
def _many(settings_row, row, out):
    for i in range(out.shape[0]):
        half, shift = model_quotes.half_and_shift(
            settings_row[0], row[0], True, 1.0 + 0.01 * i, float(i % 20 - 10), 0.0
        )
        out[i, 0] = half
        out[i, 1] = shift


def test_kernels_call_it_and_get_the_same():
    quoter = Quoter(USUAL, 10.0)
    out = np.zeros((200, 2))
    _many(new_row(USUAL), new_row(quoter.row), out)
    for i in range(0, 200, 7):
        assert tuple(out[i]) == quoter.half_and_shift(1.0 + 0.01 * i, i % 20 - 10)


def test_a_row_holds_its_table():
    assert row_dtype(ModelRow)["table"].shape == (CELLS,)
    row = model_row(USUAL, 10.0)
    assert len(row.table) == 693
    assert new_row(row)[0].table[:693].tolist() == list(row.table)
