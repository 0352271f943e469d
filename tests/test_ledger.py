"""Exact books: every part on its own, and then the identity."""

from dataclasses import replace
from decimal import Decimal

import pytest
from fakes import START_NS
from hypothesis import example, given
from hypothesis import strategies as st

from market_maker.domain import Fill, Side
from market_maker.gateway import FillReport, FundingPayment
from market_maker.instrument import Instrument
from market_maker.ledger import Ledger, OpeningPosition, PnlParts

S = 10**9
X = Instrument("X", tick=Decimal("0.01"), step=Decimal("0.001"), min_size=Decimal("0.001"))
UNIT = Instrument("X", tick=Decimal(1), step=Decimal(1), min_size=Decimal(1))
START = Decimal(10_000)


def fill(
    side: Side, price: int, lots: int, trade_id: int, at_s: float = 0, fee: str = "0", *, taker: bool = False
) -> FillReport:
    at_ns = START_NS + round(at_s * S)
    return FillReport(Fill("X", trade_id, 1, "mm-0-a", side, price, lots, taker, at_ns, at_ns), Decimal(fee))


def payment(payment_id: int, amount: str) -> FundingPayment:
    return FundingPayment(payment_id, "X", 1, Decimal(100), Decimal(0), Decimal(amount), START_NS)


def books(instrument: Instrument = UNIT, opening: OpeningPosition | None = None) -> Ledger:
    return Ledger({"X": instrument}, START, {"X": opening} if opening else None)


def test_the_parts_of_one_round_trip():
    ledger = books()
    ledger.on_mid("X", 202, START_NS)
    assert ledger.book_fill(fill(Side.BUY, 100, 10, 1), 202)
    ledger.on_mid("X", 196, START_NS + 3 * S)
    ledger.on_mid("X", 210, START_NS + 6 * S)
    ledger.book_fill(fill(Side.SELL, 107, 10, 2, 7), 210)
    ledger.on_mid("X", 216, START_NS + 9 * S)
    parts = ledger.attribution("X")
    # Mids: 101 at the first fill, 98 five seconds later, 105 at the second, 108 at the end.
    assert parts.spread == 10 * (101 - 100) + -10 * (105 - 107)
    assert parts.adverse_selection == 10 * (98 - 101) + -10 * (108 - 105)
    assert parts.inventory == 10 * (108 - 98)
    assert parts.total == ledger.change_of_equity("X") == 70
    assert ledger.equity() == START + 70


def test_lesson_7_a_flat_short_shows_what_it_earned():
    ledger = books()
    ledger.book_fill(fill(Side.SELL, 100, 10, 1), 200)
    ledger.book_fill(fill(Side.BUY, 100, 10, 2), 200)
    assert ledger.attribution("X").total == 0
    ledger.book_fill(fill(Side.SELL, 100, 10, 3), 200)
    ledger.book_fill(fill(Side.BUY, 80, 10, 4), 160)
    assert ledger.attribution("X").total == 200
    assert ledger.equity() == START + 200


def test_lesson_7_buy_at_100_sell_at_90_is_a_loss():
    ledger = books()
    ledger.on_mid("X", 200, START_NS)
    ledger.book_fill(fill(Side.BUY, 100, 1, 1), 200)
    ledger.on_mid("X", 180, START_NS + 60 * S)
    ledger.book_fill(fill(Side.SELL, 90, 1, 2, 60), 180)
    parts = ledger.attribution("X")
    assert parts.total == -10
    assert (parts.spread, parts.adverse_selection, parts.inventory) == (0, 0, -10)
    assert ledger.equity() == START - 10


def test_lesson_6_the_closing_loss_is_in_the_equity():
    ledger = books()
    ledger.book_fill(fill(Side.BUY, 100, 10, 1), 200)
    ledger.on_mark("X", Decimal(95))
    open_equity = ledger.equity()
    ledger.book_fill(fill(Side.SELL, 93, 10, 2, fee="2.5", taker=True), 190)
    assert open_equity == START - 50
    assert ledger.equity() == START - 70 - Decimal("2.5")


def test_a_trade_and_a_payment_are_booked_once():
    ledger = books()
    assert ledger.book_fill(fill(Side.BUY, 100, 1, 1), 200)
    assert not ledger.book_fill(fill(Side.BUY, 100, 1, 1), 200)
    assert ledger.position_lots("X") == 1
    assert ledger.book_funding(payment(1, "-0.25"))
    assert not ledger.book_funding(payment(1, "-0.25"))
    assert ledger.attribution("X").funding == Decimal("-0.25")


@pytest.mark.slow
def test_the_memory_of_trade_ids_is_bounded():
    ledger = books()
    first = fill(Side.BUY, 100, 1, 0)
    ledger.book_fill(first, 200)
    for trade_id in range(1, 100_001):
        ledger.book_funding(payment(trade_id, "0"))
    ledger.book_funding(payment(100_001, "0"))
    assert not ledger.book_fill(first, 200)
    assert ledger.book_funding(payment(1, "0"))


def test_fees_are_negative_and_rebates_are_theirs():
    ledger = books()
    ledger.book_fill(fill(Side.BUY, 100, 1, 1, fee="0.025", taker=True), 200)
    ledger.book_fill(fill(Side.BUY, 100, 3, 2, fee="-0.004"), 200)
    parts = ledger.attribution("X")
    assert (parts.fees, parts.rebates) == (Decimal("-0.025"), Decimal("0.004"))
    assert ledger.equity() == START - Decimal("0.021")
    assert ledger.maker_share("X") == 0.75
    assert ledger.volume_usd("X") == 400
    assert (ledger.counts("X").buys, ledger.counts("X").sells) == (2, 0)
    assert Ledger({"X": X}, START).maker_share("X") == 1.0


def test_a_position_that_was_brought_along():
    ledger = books(X, OpeningPosition(-500, 20_001, Decimal("100.02")))
    assert ledger.mid2_ticks("X") == 20_001
    assert ledger.equity() == START
    ledger.on_mid("X", 20_101, START_NS + S)
    ledger.on_mark("X", Decimal("100.49"))
    parts = ledger.attribution("X")
    assert parts.inventory == parts.total == Decimal("-0.25")
    assert parts.basis == Decimal("-0.5") * (Decimal("-0.015") - Decimal("0.015"))
    assert ledger.equity() == START - Decimal("0.235")
    assert ledger.max_abs_inventory_usd("X") == Decimal("50.2525")
    assert ledger.inventory_usd("X") == Decimal("-50.2525")


def test_markouts_are_weighted_by_volume_and_positive_when_it_went_our_way():
    ledger = books()
    ledger.on_mid("X", 20_000, START_NS)
    ledger.book_fill(fill(Side.BUY, 9_990, 3, 1), 20_000)
    ledger.book_fill(fill(Side.SELL, 10_010, 1, 2), 20_000)
    ledger.on_mid("X", 20_020, START_NS + S)
    ledger.on_mid("X", 20_040, START_NS + S + 1)
    ledger.on_mid("X", 20_000, START_NS + 5 * S + 1)
    # At 1 s the mid of that instant, 10010: buys +10 bps, sells −10.
    assert ledger.markouts_bps("X") == {1: 5.0, 5: 10.0, 30: 0.0}
    assert ledger.markouts_bps("X", from_price=True)[1] == pytest.approx(
        10_000 * (3 * 20 + 0) / (3 * 9_990 + 10_010)
    )
    ledger.close(START_NS + 29 * S)
    assert ledger.markouts_bps("X")[30] == 0.0
    ledger.close(START_NS + 30 * S)
    assert ledger.markouts_bps("X")[30] == 0.0
    assert ledger.attribution("X").total == ledger.change_of_equity("X")


def test_close_resolves_what_is_due():
    ledger = books()
    ledger.book_fill(fill(Side.BUY, 100, 1, 1), 200)
    ledger.on_mid("X", 202, START_NS + 1)
    before = ledger.attribution("X")
    ledger.close(START_NS + 5 * S)
    assert ledger.markouts_bps("X") == {1: 100.0, 5: 100.0, 30: 0.0}
    assert ledger.attribution("X") == before


def test_a_late_fill_does_not_hold_up_the_others():
    ledger = books()
    ledger.book_fill(fill(Side.BUY, 100, 1, 1, at_s=2), 200)
    ledger.book_fill(fill(Side.BUY, 100, 1, 2, at_s=1), 200)
    ledger.on_mid("X", 210, START_NS + 4 * S)
    assert ledger.markouts_bps("X")[1] == 0.0
    assert ledger.attribution("X").total == ledger.change_of_equity("X") == 10


@pytest.mark.parametrize(
    ("position", "side", "lots", "limits", "breach"),
    [
        (0, Side.BUY, 5, (5, 5), False),
        (0, Side.BUY, 6, (5, 5), True),
        (0, Side.SELL, 6, (9, 5), True),
        (8, Side.SELL, 2, (5, 5), False),
        (8, Side.BUY, 1, (5, 5), True),
        (-8, Side.BUY, 8, (0, 0), False),
        (-8, Side.BUY, 9, (0, 0), True),
        (8, Side.SELL, 9, (-3, -3), True),
        (0, Side.BUY, 99, None, False),
    ],
)
def test_a_breach_is_a_fill_that_adds_risk_past_the_limit(position, side, lots, limits, breach):
    ledger = books(UNIT, OpeningPosition(position, 200, Decimal(100)))
    ledger.book_fill(fill(side, 100, lots, 1), 200, limits)
    assert ledger.counts("X").limit_breaches == breach


def test_a_drift_of_the_price_is_no_breach():
    ledger = books()
    ledger.book_fill(fill(Side.BUY, 100, 5, 1), 200, (5, 5))
    ledger.on_mid("X", 400, START_NS + S)
    assert ledger.counts("X").limit_breaches == 0
    assert ledger.max_abs_inventory_usd("X") == 1_000


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mid"), st.integers(1, 3_000_001), st.integers(0, 8 * S)),
        st.tuples(st.just("mark"), st.decimals(1, 15_000, places=9)),
        st.tuples(
            st.just("fill"),
            st.sampled_from(Side),
            st.integers(1, 2_000_000),
            st.integers(1, 10**7),
            st.decimals(-3, 3, places=12),
        ),
        st.tuples(st.just("funding"), st.decimals(-50, 50, places=14)),
    ),
    max_size=40,
)
OPENINGS = st.builds(
    OpeningPosition,
    st.integers(-(10**6), 10**6),
    st.integers(1, 3_000_001),
    st.decimals(1, 15_000, places=9),
)


@pytest.mark.slow
@example(
    # The mid moves within five seconds of the fill and after them.
    steps=[("fill", Side.BUY, 100, 5, Decimal("0.1")), ("mid", 210, 6 * S), ("mid", 230, 6 * S)],
    opening=OpeningPosition(1, 200, Decimal(100)),
    odd=False,
    cash=Decimal(0),
)
@given(steps=STEPS, opening=OPENINGS, odd=st.booleans(), cash=st.decimals(-(10**6), 10**9, places=8))
def test_lesson_7_the_parts_add_up_to_the_change_of_equity_to_the_last_digit(steps, opening, odd, cash):
    instrument = replace(X, tick=Decimal("0.25"), step=Decimal("0.003")) if odd else X
    ledger = Ledger({"X": instrument}, cash, {"X": opening})
    now, mid2, mark = START_NS, opening.mid2_ticks, opening.mark
    position, money = opening.lots, cash - opening.lots * instrument.step * opening.mark
    for trade_id, (kind, *args) in enumerate(steps):
        if kind == "mid":
            mid2, now = args[0], now + args[1]
            ledger.on_mid("X", mid2, now)
        elif kind == "mark":
            mark = args[0]
            ledger.on_mark("X", mark)
        elif kind == "fill":
            side, price, lots, fee = args
            report = FillReport(Fill("X", trade_id, 1, "a", side, price, lots, False, now, now), fee)
            ledger.book_fill(report, mid2)
            position += side * lots
            money -= side * instrument.value(price, lots) + fee
        else:
            ledger.book_funding(payment(trade_id, str(args[0])))
            money += args[0]
    ledger.close(now)
    parts = ledger.attribution("X")
    assert isinstance(parts, PnlParts)
    equity = money + position * instrument.step * mark
    assert ledger.equity() == ledger.equity({"X": mark}) == equity
    assert ledger.change_of_equity("X") == equity - cash
    assert parts.total == equity - cash - parts.basis
