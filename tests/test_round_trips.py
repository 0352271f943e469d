"""Round trips: whole lines against an oracle on random walks, parts, fees to the last digit, restarts."""

import doctest
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import round_trips
from market_maker.domain import Side
from market_maker.grid import LadderState
from market_maker.instrument import Instrument
from market_maker.round_trips import OpenLine, RoundTrips, grid_summary, held_lines

INSTRUMENT = Instrument("X-USD", Decimal("0.5"), Decimal("0.01"), Decimal("0.01"))
UNIT = Decimal("0.005")  # USD a tick and lot
LINE_LOTS = 12
FEE = Decimal("0.0007")


def line_ticks(line: int) -> int:
    return 10_000 + 50 * line


def test_its_example_holds() -> None:
    assert doctest.testmod(round_trips).failed == 0


def crossings(path: list[int]) -> list[tuple[Side, int]]:
    """Fills of a ladder whose hole follows a path: the hole moves into the line that is filled."""
    return [
        (Side.BUY if line < before else Side.SELL, line)
        for before, line in zip([0, *path], path, strict=False)
        if line != before
    ]


paths = st.lists(st.sampled_from((-1, 1)), max_size=120).map(
    lambda steps: [sum(steps[: count + 1]) for count in range(len(steps))]
)


@settings(deadline=None)
@given(paths)
def test_on_a_walk_each_line_and_its_neighbour_are_a_round_trip(path: list[int]) -> None:
    trips = RoundTrips(INSTRUMENT)
    stack: list[tuple[Side, int]] = []  # the oracle: the last line that was opened is closed first
    pairs = []
    for side, line in crossings(path):
        trips.book(side, line_ticks(line), LINE_LOTS, FEE, LINE_LOTS)
        if stack and stack[-1][0] != side:
            pairs.append((stack.pop()[1], line))
        else:
            stack.append((side, line))
    report = trips.report()
    assert all(abs(opened - closed) == 1 for opened, closed in pairs)
    assert report.round_trips == len(pairs)
    assert report.pnl == len(pairs) * (50 * LINE_LOTS * UNIT - 2 * FEE)
    hole = path[-1] if path else 0
    assert trips.net_lots == -hole * LINE_LOTS
    assert [(line.side, line.price_ticks) for line in report.open_lines] == sorted(
        ((side, line_ticks(line)) for side, line in stack), key=lambda item: item[1]
    )


fills = st.lists(
    st.tuples(
        st.sampled_from(list(Side)),
        st.integers(-6, 6).map(line_ticks),
        st.integers(1, 40),
        st.decimals(min_value=Decimal("-0.01"), max_value=Decimal("0.01"), places=6),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(fills)
def test_cash_and_fees_are_those_of_the_fills_to_the_last_digit(
    booked: list[tuple[Side, int, int, Decimal]],
) -> None:
    trips = RoundTrips(INSTRUMENT)
    for side, price, lots, fee in booked:
        trips.book(side, price, lots, fee, LINE_LOTS)
    report = trips.report()
    cash = -sum(side * price * lots for side, price, lots, _ in booked)
    open_cash = -sum(line.side * line.price_ticks * line.size_lots for line in report.open_lines)
    assert report.spread == (cash - open_cash) * UNIT
    assert report.fees + sum(line.fee for line in report.open_lines) == sum(fee for *_, fee in booked)
    assert report.pnl == report.spread - report.fees
    assert trips.net_lots == sum(side * lots for side, _, lots, _ in booked)
    assert report.round_trips == report.closed_lots // LINE_LOTS
    assert len({line.side for line in report.open_lines}) <= 1


@settings(deadline=None)
@given(fills, st.integers(0, 60))
def test_open_lines_are_all_that_a_restart_needs(
    booked: list[tuple[Side, int, int, Decimal]], cut: int
) -> None:
    whole, first = RoundTrips(INSTRUMENT), RoundTrips(INSTRUMENT)
    for fill in booked:
        whole.book(*fill, LINE_LOTS)
    for fill in booked[:cut]:
        first.book(*fill, LINE_LOTS)
    second = RoundTrips(INSTRUMENT, first.report().open_lines)
    for fill in booked[cut:]:
        second.book(*fill, LINE_LOTS)
    assert first.report().pnl + second.report().pnl == whole.report().pnl
    assert second.report().open_lines == whole.report().open_lines


def test_partial_fills_are_one_round_trip_when_the_line_is_through() -> None:
    trips = RoundTrips(INSTRUMENT)
    for lots in (5, 7):
        trips.book(Side.BUY, 9_950, lots, Decimal("0.001"), LINE_LOTS)
    trips.book(Side.SELL, 10_000, 11, Decimal("0.003"), LINE_LOTS)
    assert trips.report().round_trips == 0
    assert trips.report().spread == 50 * 11 * UNIT
    assert [(line.price_ticks, line.size_lots) for line in trips.report().open_lines] == [(9_950, 1)]
    trips.book(Side.SELL, 10_000, 1, Decimal("0.003"), LINE_LOTS)
    assert trips.report().round_trips == 1
    assert trips.report().fees == Decimal("0.008")
    assert trips.report().open_lines == ()


def test_fills_heard_out_of_order_come_to_the_same() -> None:
    pnl = []
    for lines in ((-1, 0), (0, -1)):
        trips = RoundTrips(INSTRUMENT)
        for line in (-1, -2):
            trips.book(Side.BUY, line_ticks(line), LINE_LOTS, FEE, LINE_LOTS)
        for line in lines:
            trips.book(Side.SELL, line_ticks(line), LINE_LOTS, FEE, LINE_LOTS)
        pnl.append(trips.report().pnl)
    assert pnl[0] == pnl[1] == 2 * (50 * LINE_LOTS * UNIT - 2 * FEE)


def test_what_an_earlier_ladder_holds_is_closed_last() -> None:
    opened = [OpenLine(Side.BUY, price, LINE_LOTS, FEE) for price in (9_100, 9_000, 8_000)]
    trips = RoundTrips(INSTRUMENT, opened)
    for expected in ([9_000, 9_100], [9_100], []):
        trips.book(Side.SELL, 8_050, LINE_LOTS, FEE, LINE_LOTS)
        assert [line.price_ticks for line in trips.report().open_lines] == expected
    assert trips.report().spread == (50 - 950 - 1_050) * LINE_LOTS * UNIT


def test_a_position_of_unknown_origin_counts_as_traded_at_the_mid() -> None:
    assert held_lines(0, 20_001) == []
    assert held_lines(-7, 20_001) == [OpenLine(Side.SELL, 10_000, 7, Decimal(0))]
    trips = RoundTrips(INSTRUMENT, held_lines(7, 20_000))
    trips.book(Side.SELL, 10_010, 7, FEE, 7)
    assert trips.report().pnl == 70 * UNIT - FEE
    assert trips.net_lots == 0


def test_the_summary_takes_its_figures_from_ladder_and_round_trips() -> None:
    trips = RoundTrips(INSTRUMENT)
    trips.book(Side.BUY, 9_950, LINE_LOTS, FEE, LINE_LOTS)
    ladder = LadderState(
        anchor_ticks=10_000.5, spacing_bps=50.0, hole=-1, line_lots=LINE_LOTS, base_lots=0, anchored=4
    )
    summary = grid_summary(INSTRUMENT, ladder, trips.report())
    assert (summary.round_trips, summary.open_lines, summary.hole, summary.anchored) == (0, 1, -1, 4)
    assert (summary.anchor, summary.line_size) == (Decimal("5000.25"), Decimal("0.12"))
    assert (summary.pnl_usd, summary.spread_usd, summary.fees_usd) == (0, 0, 0)


def test_one_fill_may_close_and_open() -> None:
    trips = RoundTrips(INSTRUMENT)
    trips.book(Side.BUY, 9_950, 10, Decimal("0.010"), 10)
    trips.book(Side.SELL, 10_000, 15, Decimal("0.015"), 10)
    assert trips.report().fees == Decimal("0.020")
    assert trips.report().open_lines == (OpenLine(Side.SELL, 10_000, 5, Decimal("0.005")),)
    assert trips.net_lots == -5


def test_without_a_ladder_every_lot_is_a_line() -> None:
    trips = RoundTrips(INSTRUMENT)
    trips.book(Side.BUY, 9_950, 3, FEE, 0)
    trips.book(Side.SELL, 10_000, 3, FEE, 0)
    assert trips.report().round_trips == 3
