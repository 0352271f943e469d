"""Money on paper: exact, and by the emulator's own reckoning of the same positions and orders."""

import asyncio
from decimal import Decimal

import pytest
from inside import BTC, Inside, in_virtual_time

from market_maker.domain import NS_PER_S, NewOrder, Side
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.exchanges.paper_money import Holding, Purse, funding_of
from market_maker.exchanges.paper_orders import PaperOrder
from market_maker.instrument import Instrument

X = Instrument("X-USD", Decimal("0.5"), Decimal("0.01"), Decimal("0.01"))


def order(market, side, ticks, lots, replaces="", external_id="o"):
    return NewOrder(market, external_id, side, ticks, lots, True, False, False, 0, 1, replaces)


def working(loop, *orders):
    return [PaperOrder(it, 1, loop.create_future()) for it in orders]


@pytest.mark.parametrize(
    ("moves", "lots", "open_price"),
    [
        ([(4, 10)], 4, "10"),
        ([(4, 10), (4, 20)], 8, "15"),
        ([(4, 10), (-1, 20)], 3, "10"),
        ([(4, 10), (-4, 20)], 0, "0"),
        ([(4, 10), (-6, 20)], -2, "20"),
        ([(-3, 10), (-6, 11)], -9, "10.6666667"),
    ],
)
def test_the_entry_price_averages_as_a_position_grows_and_stays_as_it_shrinks(moves, lots, open_price):
    holding = Holding(X)
    for change, price in moves:
        holding.move(change, Decimal(price))
    assert (holding.lots, holding.open_price) == (lots, Decimal(open_price))


def test_balance_is_equity_less_what_is_not_realised():
    purse = Purse(Decimal(1_000), Decimal(10))
    purse.holding(X).move(-300, Decimal(20))
    purse.receive(Decimal("60.25"))
    purse.holding(X).mark = Decimal("21.125")
    report = purse.balance([], 7)
    assert report.equity == Decimal("1060.25") - Decimal("3.00") * Decimal("21.125")
    assert report.balance == report.equity + Decimal("3.00") * Decimal("1.125")
    assert report.initial_margin == Decimal("63.375") / 10
    assert report.available_for_trade == report.equity - report.initial_margin
    assert report.margin_ratio == Decimal("63.375") * Decimal("0.01") / report.equity
    assert report.venue_ns == 7


def test_funding_is_received_on_a_short_where_the_rate_is_positive():
    assert funding_of(-200, Decimal("20.5"), Decimal("0.001"), X) == Decimal("0.041")
    assert funding_of(200, Decimal("20.5"), Decimal("0.001"), X) == Decimal("-0.041")


@pytest.mark.parametrize("side", list(Side))
def test_margin_and_liquidation_are_the_emulators(side):
    """A position and orders on both sides, at an exchange and on paper."""

    async def main():
        inside = Inside("flat")
        gateway = InProcessGateway(inside.driver, inside.account_id)
        instrument = (await gateway.instruments([BTC]))[BTC]
        await inside.until(2.0)
        best = inside.best(Side(-side))
        await inside.order(side, best + 100 * side, 30_000, post_only=False)
        placed = [
            (Side.BUY, inside.best(Side.BUY) - 200, 5_000),
            (Side.SELL, inside.best(Side.SELL) + 250, 9_000),
        ]
        for each in placed:
            await inside.order(*each)
        await asyncio.sleep(1.0)
        [theirs], balance = await gateway.positions(), await gateway.balance()
        loop = asyncio.get_running_loop()
        orders = working(loop, *(order(BTC, *each) for each in placed))
        purse = Purse(Decimal(0), (await gateway.leverage([BTC]))[BTC])
        purse.holding(instrument).move(theirs.size_lots, theirs.open_price)
        purse.holding(instrument).mark = theirs.mark_price
        purse.receive(balance.equity - purse.equity)
        return theirs, balance, purse, orders, instrument

    theirs, balance, purse, orders, instrument = in_virtual_time(main)
    ours = purse.balance(orders, balance.venue_ns)
    assert theirs.size_lots * side > 0
    assert ours.margin_ratio > 0
    for name in ("balance", "equity", "available_for_trade", "initial_margin"):
        assert getattr(ours, name) == getattr(balance, name), name
    assert ours.margin_ratio == pytest.approx(balance.margin_ratio, abs=Decimal("1e-4"))
    position = purse.position(purse.holding(instrument), theirs.venue_ns)
    assert position.open_price == theirs.open_price
    assert position.liquidation_price == pytest.approx(theirs.liquidation_price, abs=Decimal("0.01"))


@pytest.mark.parametrize(
    ("held", "side", "lots", "cost"),
    [
        (0, Side.BUY, 100, "2.0"),
        (100, Side.BUY, 100, "2.0"),
        # What closes binds nothing; what turns a position round is the difference.
        (100, Side.SELL, 100, "0"),
        (100, Side.SELL, 300, "2.0"),
    ],
)
def test_an_orders_cost_is_what_it_binds_beyond_what_is_bound(held, side, lots, cost):
    purse = Purse(Decimal(1_000), Decimal(10))
    holding = purse.holding(X)
    if held:
        holding.move(held, Decimal(20))
    holding.mark = Decimal(20)
    assert purse.order_cost(order("X-USD", side, 40, lots), []) == Decimal(cost)


def test_a_price_worse_than_the_mark_costs_its_loss_at_once():
    purse = Purse(Decimal(1_000), Decimal(10))
    purse.holding(X).mark = Decimal(20)
    assert purse.order_cost(order("X-USD", Side.BUY, 42, 100), []) == Decimal("2.1") + 1
    assert purse.order_cost(order("X-USD", Side.BUY, 38, 100), []) == Decimal("1.9")


def test_the_markets_tier_bounds_the_leverage():
    purse = Purse(Decimal(1_000), Decimal(100))
    assert purse.leverage(X) == 50
    purse.holding(X).mark = Decimal(20)
    whole = 5_000_000 * 100 // 20
    assert purse.order_cost(order("X-USD", Side.BUY, 40, whole), []) == 5_000_000 * Decimal("0.04")


def test_time_of_the_report_is_that_asked_for():
    assert Purse(Decimal(1), Decimal(1)).balance([], NS_PER_S).venue_ns == NS_PER_S
