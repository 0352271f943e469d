"""The exchange's books: fills, fees, margin, funding, liquidation; nothing is lost, to the last digit."""

from decimal import Decimal

import pytest
from emulator_flows import START_NS, Bench, default_instrument, instant_rules, outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.accounts import Position, book_fill
from market_maker.emulator.flow import LevelChange, TakerOrder
from market_maker.emulator.funding import FundingMeter, premium_for, premium_index
from market_maker.emulator.margin import (
    available_for_trade,
    initial_margin,
    liquidation_price,
    maintenance_margin,
    order_cost,
    tier_rate,
)
from market_maker.emulator.orderbook import OrderBook
from market_maker.emulator.orders import Order
from market_maker.emulator.requests import SelfTrade
from market_maker.emulator.rules import MoneyRules
from market_maker.instrument import MarginTier

BUY, SELL = Side.BUY, Side.SELL


def books(bench: Bench, account: int = 0):
    return bench.exchange.account(bench.accounts[account])


@pytest.mark.parametrize(
    ("fills", "lots", "open_price", "realised"),
    [
        ([(10, 100)], 10, "100", "0"),
        ([(10, 100), (10, 110)], 20, "105", "0"),
        ([(10, 100), (-4, 110)], 6, "100", "4"),
        ([(10, 100), (-10, 90)], 0, "100", "-10"),
        ([(10, 100), (-15, 110)], -5, "110", "10"),
        ([(-10, 100), (4, 90)], -6, "100", "4"),
        ([(1, 100), (2, 101)], 3, "100.666667", "0"),
    ],
)
def test_entry_price_and_realised_pnl(fills, lots, open_price, realised):
    position = Position(1, "X-USD", 0, 0)
    for signed_lots, price in fills:
        book_fill(position, default_instrument(), signed_lots, Decimal(price))
    assert (position.lots, position.open_price) == (lots, Decimal(open_price))
    assert position.realised == Decimal(realised)
    assert position.max_lots == max(abs(sum(lots for lots, _ in fills[: i + 1])) for i in range(len(fills)))


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["order", "level", "taker", "mark"]),
        st.sampled_from([BUY, SELL]),
        st.integers(90, 110),
        st.integers(0, 12),
        st.integers(0, 1),
    ),
    max_size=30,
)


@pytest.mark.slow
@given(EVENTS, st.sampled_from([("1", "0.1"), ("0.25", "0.003"), ("5", "0.7")]))
@settings(max_examples=60, deadline=None)
def test_money_and_lots_are_conserved(events, grid):
    """Cash of accounts, of the others and of the exchange sums to the deposits; positions sum to zero."""
    tick, step = Decimal(grid[0]), Decimal(grid[1])
    instrument = default_instrument(tick=tick, step=step, min_size=step)
    hours = instant_rules(money=MoneyRules(funding_speedup=360.0))
    bench = Bench(hours, instrument, accounts=2, maker_fee=Decimal("-0.00013"))
    for kind, side, ticks, lots, who in events:
        if kind == "order":
            bench.send(bench.request(side, ticks, lots, self_trade=SelfTrade.DISABLED), who)
        elif kind == "mark":
            bench.flow.index = instrument.price(ticks)
            bench.wait(1)
        else:
            bench.events((LevelChange if kind == "level" else TakerOrder)(side, ticks, lots))
    bench.wait(10)
    venue = bench.exchange.venue
    ledgers = [venue.outside, venue.house, *(books(bench, i).ledger for i in (0, 1))]
    assert sum(ledger.cash for ledger in ledgers) == Decimal(200000)
    assert sum(ledger.lots.get(bench.market, 0) for ledger in ledgers) == 0
    for who in (0, 1):
        account = books(bench, who)
        assert account.ledger.lots.get(bench.market, 0) == account.position_lots(bench.market)
        assert bench.exchange.equity(account.account_id) == _equity_from_history(bench, account)


def _equity_from_history(bench, account) -> Decimal:
    instrument = bench.instrument
    cash = account.deposit
    for trade in account.trades:
        cash -= int(trade.side) * instrument.value(trade.price_ticks, trade.lots) + trade.fee
    cash += sum(payment.amount for payment in account.payments)
    return cash + instrument.size(account.position_lots(bench.market)) * bench.exchange.mark(bench.market)


def test_the_wires_balance_and_unrealised_pnl_add_up_to_the_equity():
    bench = Bench(accounts=1)
    bench.events(LevelChange(SELL, 100, 1), LevelChange(SELL, 101, 2), LevelChange(SELL, 102, 10))
    bench.place(BUY, 102, 7)
    bench.listen()
    bench.wait(1)
    balance = bench.frames("BALANCE")[-1]["data"]["balance"]
    assert Decimal(balance["balance"]) + Decimal(balance["unrealisedPnl"]) == Decimal(balance["equity"])
    assert Decimal(balance["equity"]) == bench.exchange.equity(bench.accounts[0])


def test_worst_position_and_breaches_of_a_limit():
    bench = Bench()
    bench.events(LevelChange(SELL, 101, 50), LevelChange(BUY, 99, 50))
    for lots in (4, 4):
        bench.place(BUY, 101, lots)
    bench.place(SELL, 99, 20)
    account = books(bench)
    assert account.worst_lots == {"X-USD": 12}
    assert account.worst_value == {"X-USD": Decimal("118.8")}
    assert [account.limit_breaches("X-USD", limit) for limit in (3, 7, 8, 12)] == [3, 2, 1, 0]


def margined(position: int = 0, buys=(), sells=()) -> Bench:
    """Ten times leverage, mark at 100, with a position and resting orders (ticks, lots)."""
    bench = Bench(deposit="1000", leverage=Decimal(10), taker_fee=Decimal(0))
    if position:
        side = BUY if position > 0 else SELL
        bench.events(LevelChange(Side(-side), 100, abs(position)))
        bench.place(side, 100, abs(position))
    for side, orders in ((BUY, buys), (SELL, sells)):
        for ticks, lots in orders:
            bench.place(side, ticks, lots)
    return bench


@pytest.mark.parametrize(
    ("position", "buys", "sells", "margin"),
    [
        (0, [], [], "0"),
        (50, [], [], "50"),
        (50, [(90, 10)], [], "59"),
        (50, [], [(110, 10)], "50"),
        (50, [], [(110, 100)], "60"),
        (-50, [(90, 10)], [(110, 10)], "61"),
        (0, [(90, 10)], [(110, 10)], "11"),
    ],
)
def test_initial_margin(position, buys, sells, margin):
    bench = margined(position, buys, sells)
    venue, account = bench.exchange.venue, books(bench)
    assert initial_margin(venue, account) == Decimal(margin)
    assert available_for_trade(venue, account) == bench.exchange.equity(account.account_id) - Decimal(margin)


@pytest.mark.parametrize(
    ("position", "buys", "sells", "side", "ticks", "lots", "cost"),
    [
        (0, [], [], BUY, 90, 10, "9"),
        (0, [], [], SELL, 110, 10, "11"),
        # A sell below the mark loses at once.
        (0, [], [], SELL, 90, 10, "19"),
        (0, [], [], BUY, 105, 10, "15.5"),
        (-20, [], [], BUY, 90, 40, "0"),
        (-20, [], [], BUY, 90, 50, "9"),
        (-20, [(90, 15)], [], BUY, 90, 20, "9"),
        (20, [], [(110, 5)], SELL, 110, 40, "11"),
    ],
)
def test_order_cost(position, buys, sells, side, ticks, lots, cost):
    bench = margined(position, buys, sells)
    order = Order(0, bench.accounts[0], bench.request(side, ticks, lots), ticks, lots, 0, 0)
    assert order_cost(books(bench), bench.exchange.venue.markets["X-USD"], order) == Decimal(cost)


def test_cost_is_checked_without_what_a_replacement_frees():
    bench = margined()
    order = bench.place(BUY, 100, 900)
    assert bench.send(bench.request(BUY, 100, 900)).code == 1140
    assert bench.send(bench.request(BUY, 100, 900, cancel_id=order.request.external_id)).code == 0
    assert bench.send(bench.request(BUY, 100, 100)).code == 0
    assert bench.send(bench.request(BUY, 100, 1)).code == 1140


def test_tiers_bound_the_leverage():
    tiers = (MarginTier(Decimal(100), Decimal("0.2")), MarginTier(Decimal(200), Decimal("0.5")))
    instrument = default_instrument(margin_tiers=tiers)
    rates = [tier_rate(instrument, Decimal(value)) for value in (100, 101, 500)]
    assert rates == [Decimal("0.2"), Decimal("0.5"), Decimal("0.5")]
    assert tier_rate(default_instrument(margin_tiers=()), Decimal(1)) == 0


def test_a_level_of_the_same_size_changes_nothing():
    book = OrderBook()
    book.watch()
    book.set_external(BUY, 99, 0)
    assert not book.has_changes


def test_negative_available_cancels_all_but_reduce_only_orders():
    bench = margined(200)
    risky = bench.place(BUY, 100, 700)
    reducing = bench.place(SELL, 120, 100, reduce_only=True)
    bench.flow.index = Decimal(94)
    bench.wait(2)
    assert outcome(risky) == ("CANCELLED", "NOT_ENOUGH_FUNDS", 0)
    assert reducing.is_open


@pytest.mark.parametrize(("position", "liquidation"), [(900, None), (-900, None), (0, "none")])
def test_liquidation_price_is_where_equity_meets_maintenance(position, liquidation):
    bench = margined(position)
    venue, account = bench.exchange.venue, books(bench)
    market = venue.markets["X-USD"]
    price = liquidation_price(venue, account, market)
    if liquidation == "none":
        assert price is None
        return
    market.mark = price
    gap = bench.exchange.equity(account.account_id) - maintenance_margin(venue, account)
    assert abs(gap) < Decimal("1e-18")


def test_an_account_without_debt_has_no_liquidation_price():
    bench = margined(5)
    assert (
        liquidation_price(bench.exchange.venue, books(bench), bench.exchange.venue.markets["X-USD"]) is None
    )


@pytest.mark.parametrize("position", [900, -900])
def test_liquidation_closes_the_position_by_force(position):
    bench = margined(position)
    sign = 1 if position > 0 else -1
    side = Side(-sign)
    resting = bench.place(side, 100 + 20 * sign, 1, reduce_only=True)
    bench.events(*(LevelChange(side, 100 - sign * 11 - int(side), 5000) for side in (BUY, SELL)))
    bench.flow.index = Decimal(100 - sign * 11)
    bench.wait(2)
    assert bench.position() == 0
    assert outcome(resting) == ("CANCELLED", "ACCOUNT_LIQUIDATION", 0)
    last = books(bench).trades[-1]
    assert last.trade_type.value == "LIQUIDATION"
    assert last.external_id.startswith("liquidation-")


def test_an_order_may_be_called_as_one_that_closes_by_force_will_be():
    bench = margined(900)
    books(bench).history_limit = 2
    latest = bench.place(BUY, 50, 1)
    # The ids count up: this one, then those of the liquidation.
    clash = bench.place(BUY, 50, 1, external_id=f"liquidation-{latest.order_id + 2}")
    bench.events(*(LevelChange(side, 89 - int(side), 5000) for side in (BUY, SELL)))
    bench.flow.index = Decimal(89)
    bench.wait(2)
    assert not clash.is_open
    assert bench.position() == 0
    books(bench).ledger.receive(Decimal(100_000))
    for _ in range(3):
        bench.cancel(bench.place(BUY, 80, 1))
    assert len(books(bench).by_id) == len(books(bench).by_external) == 2


def test_liquidation_goes_on_with_the_next_market_when_one_is_closed():
    second = default_instrument(name="Y-USD")
    bench = Bench(deposit="1000", leverage=Decimal(10), taker_fee=Decimal(0), others=[second])
    for flow in bench.flows:
        flow.feed(bench.now_ns, LevelChange(SELL, 100, 450))
    bench.wait(0)
    bench.place(BUY, 100, 450)
    bench.place(BUY, 100, 450, market="Y-USD")
    bench.events(LevelChange(BUY, 88, 5000))
    for flow in bench.flows:
        flow.index = Decimal("88.5")
    bench.wait(3)
    # The second market has no bid: what is left there is tried again with every mark.
    assert bench.position() == 0
    assert books(bench).position_lots("Y-USD") == 450


def test_liquidation_stops_when_the_rest_is_safe_and_can_be_switched_off():
    for enabled, left in ((True, False), (False, True)):
        bench = Bench(
            instant_rules(money=MoneyRules(liquidation_enabled=enabled)), deposit="1000", leverage=Decimal(10)
        )
        bench.events(LevelChange(SELL, 100, 900))
        bench.place(BUY, 100, 900)
        bench.events(LevelChange(BUY, 91, 5000))
        bench.flow.index = Decimal("89.4")
        bench.wait(2)
        assert (bench.position() == 900) is left
        assert bench.position() > 0


@pytest.mark.parametrize(
    ("premiums", "cap", "rate"),
    [
        ([], "0.0025", "0.0000125"),
        ([0.0, 0.0], "0.0025", "0.0000125"),
        # Within the clamp the interest term is what is paid.
        ([0.0003], "0.0025", "0.0000125"),
        ([0.0016], "0.0025", "0.0001375"),
        ([-0.0016], "0.0025", "-0.0001375"),
        # Linear weights: (1·0 + 2·0.003) / 3.
        ([0.0, 0.003], "0.0025", "0.0001875"),
        ([1.0], "0.0025", "0.0025"),
        ([-1.0], "0.0025", "-0.0025"),
    ],
)
def test_funding_rate(premiums, cap, rate):
    meter = FundingMeter(MoneyRules(), Decimal(cap))
    for premium in premiums:
        meter.sample(premium)
    assert meter.rate() == Decimal(rate)
    meter.restart()
    assert meter.rate() == Decimal("0.0000125")


@pytest.mark.parametrize("bps", [-10.0, -0.6, 0.0, 0.125, 0.6, 10.0])
def test_the_premium_for_a_rate_brings_that_rate_about(bps):
    meter = FundingMeter(MoneyRules(), Decimal("0.0025"))
    meter.sample(premium_for(bps / 1e4, MoneyRules()))
    assert float(meter.rate()) == pytest.approx(bps / 1e4, abs=1e-10)


@pytest.mark.parametrize(("premium", "index"), [(0.0, "100"), (0.25, "80"), (-0.2, "125")])
def test_a_premium_moves_the_index_and_leaves_the_mark_at_the_price(premium, index):
    bench = Bench(instant_rules(money=MoneyRules(funding_premium=premium)))
    bench.events(LevelChange(BUY, 99, 1000), LevelChange(SELL, 101, 1000))
    bench.flow.index = Decimal("100.00")
    bench.wait(5)
    market = bench.exchange.venue.markets[bench.market]
    assert (market.index, market.mark) == (Decimal(index), Decimal(100))


@pytest.mark.parametrize(
    ("bids", "asks", "premium"),
    [
        ([(99, 1000)], [(101, 1000)], 0.0),
        ([(102, 1000)], [(103, 1000)], 0.02),
        ([(97, 1000)], [(98, 1000)], -0.02),
        ([(104, 500), (102, 500)], [(105, 1000)], 0.03),
        ([(102, 10)], [(103, 10)], 0.0),
    ],
)
def test_premium_index_at_the_impact_notional(bids, asks, premium):
    book = OrderBook()
    for side, levels in ((BUY, bids), (SELL, asks)):
        for ticks, lots in levels:
            book.set_external(side, ticks, lots)
    # 10,000 USD at 100 are 1,000 lots of 0.1.
    assert premium_index(book, default_instrument(), Decimal(100), Decimal(10000)) == pytest.approx(premium)


@pytest.mark.parametrize("position", [7, -7])
def test_funding_is_paid_at_the_hour_to_the_last_digit(position):
    bench = Bench(instant_rules(money=MoneyRules(funding_speedup=60.0)), taker_fee=Decimal(0))
    side = BUY if position > 0 else SELL
    bench.events(LevelChange(Side(-side), 100, 7))
    bench.place(side, 100, 7)
    before = bench.cash()
    bench.flow.index = Decimal("99.37")
    bench.wait(58)
    assert not books(bench).payments
    bench.wait(3)
    (payment,) = books(bench).payments
    assert payment.time_ns == START_NS + 60 * NS_PER_S
    assert payment.lots == position
    assert payment.mark_price == bench.exchange.mark("X-USD") == Decimal("99.37")
    size = bench.instrument.size(position)
    assert payment.amount == -payment.rate * payment.mark_price * size
    assert bench.cash() - before == payment.amount
    assert bench.exchange.venue.house.cash == -payment.amount
    bench.wait(60)
    assert len(books(bench).payments) == 2


def test_history_is_finite():
    bench = Bench(instant_rules(money=MoneyRules(funding_speedup=360.0)))
    account = books(bench)
    account.history_limit = 2
    for _ in range(4):
        bench.events(LevelChange(SELL, 101, 1))
        bench.place(BUY, 101, 1)
    assert len(account.trades) == 2
    assert list(account.by_external) == ["o3", "o4"]
    for _ in range(4):
        bench.wait(10)
    assert len(account.payments) == 2
