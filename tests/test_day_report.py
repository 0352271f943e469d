"""The figures of a day: exact, each part summed on its own, and together what flowed and is held."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.day_books import Day, FillRow, FundingRow
from market_maker.day_report import book_totals, day_report, position_at
from market_maker.domain import Side
from market_maker.journal_history import BookedFill, JournalBooks, JournalledSession

BTC = "BTC-USD"
DAY = Day(1_000, 2_000)
few = settings(max_examples=50)
prices = st.decimals("0.01", 100_000, places=2)
sizes = st.decimals("0.00001", 10, places=5)
fees = st.decimals(-1, 1, places=12)
days = st.lists(st.tuples(st.sampled_from(Side), prices, sizes, fees, prices), min_size=1, max_size=8)


def booked(number, side, price, size, fee, mid):
    row = FillRow(BTC, number, number, side, price, size, fee, False, DAY.start_ns + number)
    return BookedFill(row, mid)


def books(fills, payments=()):
    session = JournalledSession("s", DAY.start_ns, DAY.end_ns, fills=list(fills), funding=list(payments))
    return JournalBooks([session])


@few
@given(days, fees, sizes)
def test_the_parts_add_up_to_the_cash_and_the_change_of_what_is_held(day, funding, held):
    fills = [booked(number, *fill) for number, fill in enumerate(day)]
    payment = FundingRow(BTC, 1, held, Decimal(1), Decimal(1), funding, DAY.start_ns)
    figures = day_report(books(fills, [payment]), DAY, {BTC: held}).markets[BTC]
    held_after = figures.position_end * fills[-1].mid
    held_before = figures.position_start * fills[0].mid
    assert figures.total == figures.cash + held_after - held_before
    assert figures.position_end - figures.position_start == sum(f.row.side * f.row.size for f in fills)
    totals = book_totals([fill.row for fill in fills], [payment], DAY)
    assert totals["volume_usd"] == figures.volume
    assert totals["fees_usd"] == figures.fees
    assert totals["rebates_usd"] == figures.rebates
    assert totals["funding_usd"] == figures.funding == funding


def test_without_a_position_at_the_end_the_movement_is_not_known():
    report = day_report(books([booked(1, Side.BUY, *map(Decimal, ("10", "1", "0", "11")))]), DAY, None)
    assert report.markets[BTC].spread == report.total.spread == 1
    assert report.markets[BTC].movement is report.markets[BTC].total is report.total.total is None


def test_a_position_of_now_is_led_back_to_the_end_of_the_day():
    rows = [
        booked(number, side, Decimal(10), Decimal(2), Decimal(0), Decimal(10)).row
        for number, side in ((5, Side.BUY), (1_000, Side.BUY), (1_001, Side.SELL), (1_002, Side.BUY))
    ]
    assert position_at({BTC: Decimal(7)}, rows, DAY.end_ns) == {BTC: Decimal(5)}
