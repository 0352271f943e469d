"""The ladder: lines, hole, parts, bounds, spacing, unloading; that asking again changes nothing."""

import doctest
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import grid
from market_maker.domain import NS_PER_MS, NS_PER_S, Reason, Side
from market_maker.grid import GridSettings, GridSpacing, Ladder, LadderLine, LadderState
from market_maker.instrument import Instrument
from market_maker.kernel import plain
from market_maker.round_trips import RoundTrips

LOTS = 100
MID = 100_000.0
T0 = 1_700_000_000 * NS_PER_S
# A distance of 10 bps: lines 100 ticks apart, nearly.
SETTINGS = GridSettings(grid_levels=3, grid_min_spacing_bps=10.0, grid_recentre_s=60.0)
PLAIN = GridSettings(
    grid_levels=3, grid_min_spacing_bps=10.0, grid_recentre_s=60.0, grid_spacing=GridSpacing.ARITHMETIC
)


def ladder(
    chosen: GridSettings = PLAIN, mid: float = MID, position_lots: int = 0, sigma_bps: float = 1.0
) -> Ladder:
    made = Ladder(chosen)
    made.follow(mid, sigma_bps, LOTS, position_lots, 0, T0)
    return made


def wants(made: Ladder) -> dict[int, tuple[str, int]]:
    """Side and price by line."""
    return {line.line: (line.side.name, line.price_ticks) for line in made.lines()}


def gates(made: Ladder, side: Side) -> set[Reason]:
    return {line.gate for line in made.lines() if line.side == side}


def state(made: Ladder) -> dict[str, Any]:
    return plain(made.state)


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("grid_levels", 0),
        ("grid_levels", 51),
        ("grid_spacing_sigmas", 0.0),
        ("grid_spacing_minutes", math.nan),
        ("grid_min_spacing_bps", 0.0),
        ("grid_max_spacing_bps", 4.0),
        ("grid_respace_factor", 1.0),
        ("grid_recentre_s", 0.0),
        ("grid_stop_bps", -1.0),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_its_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected .* to .*, was {value}"):
        GridSettings(**{name: value})  # type: ignore[arg-type]  # values of one kind or the other by name


def test_the_grid_is_off_by_default() -> None:
    assert GridSettings().strategy is grid.Strategy.MARKET_MAKER


def test_the_least_distance_must_pay_both_fees() -> None:
    assert grid.pays_its_fees(GridSettings(grid_min_spacing_bps=3.0), 1.49)
    assert not grid.pays_its_fees(GridSettings(grid_min_spacing_bps=3.0), 1.5)
    assert not grid.pays_its_fees(GridSettings(grid_min_spacing_bps=3.0), 0.00015 * 1e4)
    assert grid.pays_its_fees(GridSettings(grid_min_spacing_bps=0.01), 0.0)


# --- lines --------------------------------------------------------------------------------------------------


def test_its_examples_hold() -> None:
    assert doctest.testmod(grid).failed == 0


def test_without_an_anchor_no_line_wants_an_order() -> None:
    made = Ladder(SETTINGS)
    assert made.lines() == []
    assert made.state.anchored == 0


def test_a_fresh_ladder_bids_below_and_asks_above() -> None:
    assert wants(ladder()) == {
        -3: ("BUY", 99_700),
        -2: ("BUY", 99_800),
        -1: ("BUY", 99_900),
        1: ("SELL", 100_100),
        2: ("SELL", 100_200),
        3: ("SELL", 100_300),
    }


def test_equal_ratios_and_rounding_away_from_the_market() -> None:
    for line, (side, price) in wants(ladder(SETTINGS)).items():
        exact = MID * math.exp(line * 0.001)
        assert price == (math.floor(exact) if side == "BUY" else math.ceil(exact))


def test_levels_count_away_from_the_market() -> None:
    made = ladder()
    chosen, row = made.settings, made.state
    for side, prices in ((Side.BUY, [99_900, 99_800, 99_700]), (Side.SELL, [100_100, 100_200, 100_300])):
        levels = range(grid.slots_each(PLAIN))
        found = [int(grid.line_ticks(chosen, row, int(side), level)) for level in levels]
        assert [price for price in found if price] == prices


@given(
    st.integers(1, 10),
    st.floats(1.0, 1e7),
    st.floats(0.0, 500.0),
    st.sampled_from(list(GridSpacing)),
    st.integers(-10, 10),
)
@settings(deadline=None)
def test_lines_are_a_tick_apart_at_least(
    levels: int, mid: float, sigma_bps: float, spacing: GridSpacing, lines_bought: int
) -> None:
    made = ladder(GridSettings(grid_levels=levels, grid_spacing=spacing), mid, 0, sigma_bps)
    made.follow(mid, sigma_bps, LOTS, lines_bought * LOTS, 0, T0)
    lines = made.lines()
    prices = [line.price_ticks for line in lines]
    assert prices == sorted(set(prices))
    hole = -min(max(lines_bought, -levels), levels)
    assert all((line.side == Side.BUY) == (line.line < hole) for line in lines)
    for line in lines:
        exact = float(grid.line_price(made.state, float(line.line)))
        assert 0 <= line.side * (exact - line.price_ticks) < 1


def test_a_line_without_a_price_wants_no_order() -> None:
    made = ladder(GridSettings(grid_levels=10), mid=4.0)
    assert [line.price_ticks for line in made.lines() if line.side == Side.BUY] == [1, 2, 3]


# --- fills --------------------------------------------------------------------------------------------------


def test_a_line_that_filled_re_arms_its_neighbour() -> None:
    made = ladder()
    made.follow(99_900.0, 1.0, LOTS, LOTS, 0, T0)
    assert wants(made)[0] == ("SELL", 100_000)
    assert -1 not in wants(made)
    made.follow(99_800.0, 1.0, LOTS, 2 * LOTS, 0, T0)
    assert wants(made)[-1] == ("SELL", 99_900)
    made.follow(99_900.0, 1.0, LOTS, LOTS, 0, T0)
    assert wants(made)[-2] == ("BUY", 99_800)
    made.follow(MID, 1.0, LOTS, 0, 0, T0)
    assert wants(made) == wants(ladder())
    made.follow(100_100.0, 1.0, LOTS, -LOTS, 0, T0)
    assert wants(made)[0] == ("BUY", 100_000)
    assert 1 not in wants(made)


def test_a_part_leaves_the_rest_resting() -> None:
    made = ladder()
    made.follow(99_900.0, 1.0, LOTS, 60, 0, T0)
    assert made.state.hole == 0
    sizes = {line.line: line.size_lots for line in made.lines()}
    assert sizes == {-3: LOTS, -2: LOTS, -1: 40, 1: LOTS, 2: LOTS, 3: LOTS}
    # What is sold meanwhile on the other side is to be bought again.
    made.follow(99_900.0, 1.0, LOTS, 20, 0, T0)
    assert {line.line: line.size_lots for line in made.lines()}[-1] == 80
    made.follow(99_900.0, 1.0, LOTS, -30, 0, T0)
    sizes = {line.line: line.size_lots for line in made.lines()}
    assert (sizes[-1], sizes[1]) == (LOTS, 70)


def test_a_rest_below_the_smallest_order_counts_into_the_next_line() -> None:
    made = ladder()
    made.follow(99_900.0, 1.0, LOTS, 97, 0, T0)
    assert {line.line: line.size_lots for line in made.lines(min_lots=10)}[-1] == 10
    made.follow(99_900.0, 1.0, LOTS, 107, 0, T0)
    sizes = {line.line: line.size_lots for line in made.lines(min_lots=10)}
    assert made.state.hole == -1
    assert (sizes[-2], sizes[0]) == (93, LOTS)


def test_the_hole_stays_within_the_ladder() -> None:
    made = ladder()
    made.follow(99_700.0, 1.0, LOTS, 5 * LOTS, 0, T0)
    assert (made.state.hole, made.state.filled_lots) == (-3, 2 * LOTS)
    assert {line.side for line in made.lines()} == {Side.SELL}
    # What is too much goes first.
    made.follow(99_700.0, 1.0, LOTS, 3 * LOTS, 0, T0)
    assert (made.state.hole, made.state.filled_lots) == (-3, 0)


def test_the_hole_can_be_read_alone() -> None:
    made = ladder()
    made.settle(-150)
    assert (made.state.hole, made.state.filled_lots) == (1, -50)


asked = st.tuples(
    st.floats(97_000.0, 103_000.0),
    st.floats(0.5, 40.0),
    st.integers(1, 200),
    st.integers(-700, 700),
    st.sampled_from((-1, 0, 1)),
    st.integers(0, 400).map(lambda seconds: T0 + seconds * NS_PER_S),
)


@given(st.integers(-500, 500), st.lists(asked, max_size=25))
@settings(deadline=None)
def test_asked_again_nothing_changes_and_inventory_is_the_hole_s(
    start_lots: int, questions: list[tuple[float, float, int, int, int, int]]
) -> None:
    made = ladder(SETTINGS, position_lots=start_lots)
    base = abs(start_lots)
    for question in questions:
        before = int(made.state.anchored)
        made.follow(*question)
        after = state(made)
        made.follow(*question)
        assert state(made) == after
        # Within its slot of time as well.
        made.follow(*question[:-1], question[-1] + 99 * NS_PER_MS)
        assert state(made) == after
        position = question[3]
        assert position == after["base_lots"] - after["hole"] * after["line_lots"] + after["filled_lots"]
        assert abs(after["hole"]) <= 3
        assert abs(after["filled_lots"]) < after["line_lots"] or abs(after["hole"]) == 3
        base = abs(position) if after["anchored"] != before else base
        assert abs(after["base_lots"]) <= base
        base = abs(after["base_lots"])


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 2 * LOTS)), max_size=40))
@settings(deadline=None, max_examples=60)
def test_whatever_fills_the_orders_stay_apart_and_the_books_add_up(takers: list[tuple[bool, int]]) -> None:
    """Takers hit the best line in parts; cash is what round trips earned and what is open cost."""
    made = ladder()
    trips = RoundTrips(Instrument("X-USD", Decimal(1), Decimal(1), Decimal(1)))
    position = cash = 0
    for buys, size in takers:
        side = Side.SELL if buys else Side.BUY  # ours
        lines = [line for line in made.lines() if line.side == side]
        if lines:
            best = min(lines, key=lambda line: -side * line.price_ticks)
            lots = min(size, best.size_lots)
            position += side * lots
            cash -= side * lots * best.price_ticks
            trips.book(side, best.price_ticks, lots, Decimal(0), LOTS)
            made.follow(float(best.price_ticks), 1.0, LOTS, position, 0, T0)
        bids = [line.price_ticks for line in made.lines() if line.side == Side.BUY]
        asks = [line.price_ticks for line in made.lines() if line.side == Side.SELL]
        assert max(bids, default=0) + 100 < min(asks, default=MID * 2)
    report = trips.report()
    open_cash = -sum(line.side * line.price_ticks * line.size_lots for line in report.open_lines)
    assert report.spread == cash - open_cash
    # Two lines apart at most, where parts crossed the hole; never at a loss.
    assert report.closed_lots * 100 <= report.spread <= report.closed_lots * 200
    assert trips.net_lots == position


# --- bounds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mid", "side"), [(99_699.0, -1), (100_301.0, 1)])
def test_outside_the_lines_nothing_adds_risk_until_the_mid_is_back(mid: float, side: int) -> None:
    made = ladder()
    made.follow(mid, 1.0, LOTS, 0, 0, T0)
    assert made.state.outside == side
    assert gates(made, Side.BUY) == gates(made, Side.SELL) == {Reason.GRID_OUTSIDE}
    assert made.state.anchored == 1
    made.follow(MID, 1.0, LOTS, 0, 0, T0 + NS_PER_S)
    assert gates(made, Side.BUY) == gates(made, Side.SELL) == {Reason.NONE}


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_mid_that_hovers_at_the_last_line_does_not_switch_the_gate(sign: int) -> None:
    made = ladder()
    for distance, outside in (
        (299.0, 0),
        (301.0, sign),
        (299.0, sign),
        (251.0, sign),
        (249.0, 0),
        (299.0, 0),
    ):
        made.follow(MID + sign * distance, 1.0, LOTS, 0, 0, T0)
        assert made.state.outside == outside


def test_after_a_while_outside_the_ladder_follows() -> None:
    made = ladder()
    made.follow(99_600.0, 1.0, LOTS, 300, 0, T0)
    made.follow(99_500.0, 1.0, LOTS, 300, 0, T0 + 60 * NS_PER_S - 1)
    assert made.state.anchored == 1
    made.follow(99_550.0, 1.0, 90, 300, 0, T0 + 60 * NS_PER_S)
    assert made.state.anchored == 2
    assert (made.state.anchor_ticks, made.state.hole, made.state.outside) == (99_550.0, 0, 0)
    assert (made.state.base_lots, made.state.line_lots) == (300, 90)


def test_going_inside_starts_the_wait_anew_and_so_does_the_other_side() -> None:
    made = ladder()
    made.follow(99_600.0, 1.0, LOTS, 0, 0, T0)
    made.follow(MID, 1.0, LOTS, 0, 0, T0 + 30 * NS_PER_S)
    made.follow(99_600.0, 1.0, LOTS, 0, 0, T0 + 40 * NS_PER_S)
    made.follow(100_400.0, 1.0, LOTS, 0, 0, T0 + 95 * NS_PER_S)
    made.follow(100_400.0, 1.0, LOTS, 0, 0, T0 + 154 * NS_PER_S)
    assert made.state.anchored == 1
    made.follow(100_400.0, 1.0, LOTS, 0, 0, T0 + 155 * NS_PER_S)
    assert made.state.anchored == 2


def test_the_ladder_does_not_run_after_a_strong_trend() -> None:
    made = ladder()
    made.follow(99_600.0, 1.0, LOTS, 0, -1, T0)
    made.follow(99_600.0, 1.0, LOTS, 0, -1, T0 + 90 * NS_PER_S)
    assert made.state.anchored == 1
    made.follow(99_600.0, 1.0, LOTS, 0, 1, T0 + 90 * NS_PER_S)
    assert made.state.anchored == 2


@pytest.mark.parametrize("sign", [-1, 1])
def test_far_outside_it_stops_until_it_is_anchored_anew(sign: int) -> None:
    made = ladder()
    bound = MID + sign * 300.0
    made.follow(bound * (1 + sign * 0.0099), 1.0, LOTS, 0, 0, T0)
    assert not made.state.stopped
    made.follow(bound * (1 + sign * 0.0101), 1.0, LOTS, 0, 0, T0)
    assert gates(made, Side.BUY) == gates(made, Side.SELL) == {Reason.GRID_STOPPED}
    made.follow(MID, 1.0, LOTS, 0, 0, T0 + 59 * NS_PER_S)
    assert gates(made, Side.BUY) == gates(made, Side.SELL) == {Reason.GRID_STOPPED}
    made.follow(MID + 7.0, 1.0, LOTS, 0, 0, T0 + 60 * NS_PER_S)
    assert gates(made, Side.BUY) == gates(made, Side.SELL) == {Reason.NONE}
    assert made.state.anchor_ticks == MID + 7.0


def test_a_strong_trend_pauses_the_lines_against_it() -> None:
    made = ladder()
    made.follow(MID, 1.0, LOTS, 0, 1, T0)
    assert (gates(made, Side.BUY), gates(made, Side.SELL)) == ({Reason.NONE}, {Reason.STRONG_TREND})
    made.follow(MID, 1.0, LOTS, 0, -1, T0)
    assert (gates(made, Side.BUY), gates(made, Side.SELL)) == ({Reason.STRONG_TREND}, {Reason.NONE})
    off = Ladder(GridSettings(grid_trend_pause=False))
    off.follow(MID, 1.0, LOTS, 0, -1, T0)
    assert gates(off, Side.BUY) == {Reason.NONE}


# --- what was held at anchoring -----------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
def test_the_nearest_line_unloads_the_base_at_its_own_price(sign: int) -> None:
    reducing = Side.SELL if sign > 0 else Side.BUY
    made = ladder(position_lots=sign * 250)
    first = wants(made)
    for held in (150, 50):
        made.follow(MID, 1.0, LOTS, sign * held, 0, T0)
        assert (made.state.base_lots, made.state.hole) == (sign * held, 0)
        assert wants(made) == first
    # The line's last part is its own: half of it has filled.
    made.follow(MID, 1.0, LOTS, -sign * 50, 0, T0)
    assert (made.state.base_lots, made.state.hole) == (0, 0)
    sizes = {line.line: line.size_lots for line in made.lines() if line.side == reducing}
    assert sizes[sign] == 50


def test_lines_that_would_take_inventory_past_the_ladder_s_are_gated() -> None:
    made = ladder(position_lots=300)
    assert gates(made, Side.BUY) == {Reason.POSITION_LIMIT}
    assert gates(made, Side.SELL) == {Reason.NONE}
    made.follow(MID, 1.0, LOTS, 150, 0, T0)
    assert [(line.line, line.gate) for line in made.lines() if line.side == Side.BUY] == [
        (-3, Reason.POSITION_LIMIT),
        (-2, Reason.POSITION_LIMIT),
        (-1, Reason.NONE),
    ]
    short = ladder(position_lots=-300)
    assert gates(short, Side.SELL) == {Reason.POSITION_LIMIT}
    assert gates(short, Side.BUY) == {Reason.NONE}


def test_what_is_bought_on_top_of_a_base_goes_last() -> None:
    made = ladder(position_lots=100)
    made.follow(99_900.0, 1.0, LOTS, 200, 0, T0)
    assert (made.state.base_lots, made.state.hole) == (100, -1)
    made.follow(MID, 1.0, LOTS, 100, 0, T0)
    assert (made.state.base_lots, made.state.hole) == (0, -1)
    made.follow(MID, 1.0, LOTS, 0, 0, T0)
    assert (made.state.base_lots, made.state.hole) == (0, 0)


# --- spacing ------------------------------------------------------------------------------------------------


def test_the_distance_is_a_multiple_of_sigma_within_its_bounds() -> None:
    chosen = GridSettings(grid_spacing_sigmas=1.5, grid_spacing_minutes=4.0, grid_max_spacing_bps=100.0)
    for sigma_bps, spacing_bps in ((10.0, 30.0), (0.0, 5.0), (80.0, 100.0)):
        assert ladder(chosen, sigma_bps=sigma_bps).state.spacing_bps == pytest.approx(spacing_bps)


def test_a_flat_ladder_is_spaced_anew_when_sigma_has_changed_enough() -> None:
    chosen = GridSettings(grid_spacing_minutes=1.0, grid_levels=3, grid_respace_factor=1.5)
    made = ladder(chosen, sigma_bps=20.0)
    for sigma_bps, wanted_bps in ((29.0, 20.0), (14.0, 20.0), (31.0, 31.0), (21.0, 31.0), (20.0, 20.0)):
        made.follow(MID + 50.0, sigma_bps, 110, 0, 0, T0)
        assert made.state.spacing_bps == pytest.approx(wanted_bps)
    assert (made.state.anchor_ticks, made.state.line_lots, made.state.anchored) == (MID + 50.0, 110, 3)


def test_a_flat_ladder_takes_a_new_size_when_that_is_another() -> None:
    made = ladder()
    for size, wanted in ((190, LOTS), (200, 200), (101, 200), (100, 100)):
        made.follow(MID, 1.0, size, 0, 0, T0)
        assert made.state.line_lots == wanted


@pytest.mark.parametrize("position_lots", [LOTS, 30, -30])
def test_a_ladder_that_holds_something_keeps_its_lines(position_lots: int) -> None:
    made = ladder(SETTINGS, sigma_bps=20.0)
    before = made.lines()
    made.follow(MID, 80.0, LOTS, position_lots, 0, T0)
    assert made.state.anchored == 1
    kept = {line.line: line.price_ticks for line in before}
    assert all(kept.get(line.line, line.price_ticks) == line.price_ticks for line in made.lines())


# --- what is no market --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mid", "sigma_bps"),
    [(math.nan, 1.0), (0.0, 1.0), (math.inf, 1.0), (MID, math.nan), (MID, math.inf), (MID, -1.0)],
)
def test_without_a_mid_or_a_sigma_the_ladder_stays(mid: float, sigma_bps: float) -> None:
    made = ladder()
    before = state(made)
    made.follow(mid, sigma_bps, LOTS, 500, 1, T0 + 900 * NS_PER_S)
    assert state(made) == before


def test_without_a_size_there_is_no_ladder_and_none_is_given_up() -> None:
    made = Ladder(PLAIN)
    made.follow(MID, 1.0, 0, 0, 0, T0)
    assert made.lines() == []
    made = ladder()
    made.follow(99_000.0, 1.0, 0, 0, 0, T0)
    made.follow(99_000.0, 1.0, 0, 0, 0, T0 + 900 * NS_PER_S)
    assert made.state.anchored == 1


def test_a_ladder_that_was_kept_goes_on_at_the_same_prices() -> None:
    made = ladder(SETTINGS)
    made.follow(99_900.0, 1.0, LOTS, 140, 0, T0)
    kept = LadderState(**state(made))
    again = Ladder(SETTINGS, kept)
    again.follow(99_950.0, 9.0, 80, 140, 0, T0 + 900 * NS_PER_S)
    assert again.lines() == made.lines()
    assert made.lines()[1] == LadderLine(-2, Side.BUY, 99_800, 60, Reason.NONE)
