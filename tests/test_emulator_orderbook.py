"""The book: queues, external totals, changes; against a naive reference."""

from dataclasses import dataclass

import pytest
from emulator_flows import Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.domain import Side
from market_maker.emulator.orderbook import OrderBook
from market_maker.emulator.orders import Order
from market_maker.emulator.requests import SelfTrade
from market_maker.emulator.rules import Departures

BUY, SELL = Side.BUY, Side.SELL


def an_order(bench: Bench, side: Side, ticks: int, lots: int) -> Order:
    return Order(1, 1, bench.request(side, ticks, lots), ticks, lots, 0, 0)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench()


def test_best_prices_and_totals(bench):
    book = OrderBook()
    book.set_external(BUY, 99, 5)
    book.set_external(BUY, 98, 7)
    book.set_external(SELL, 101, 3)
    book.add_order(an_order(bench, BUY, 99, 2))
    assert (book.best_ticks(BUY), book.best_ticks(SELL)) == (99, 101)
    assert book.levels(BUY) == [(99, 7), (98, 7)]
    assert (book.external_lots(BUY, 99), book.account_lots(BUY, 99)) == (5, 2)
    book.set_external(SELL, 101, 0)
    assert book.best_ticks(SELL) is None
    assert book.total_lots(SELL, 101) == 0


@pytest.mark.parametrize(
    ("departures", "fall_to", "ahead"),
    [
        (Departures.BACK, 15, 10),
        (Departures.BACK, 10, 10),
        (Departures.BACK, 4, 4),
        (Departures.PROPORTIONAL, 15, 8),
        (Departures.PROPORTIONAL, 10, 5),
        (Departures.PROPORTIONAL, 4, 2),
        (Departures.PROPORTIONAL, 0, 0),
    ],
)
def test_a_fall_leaves_from_the_back_or_from_all(bench, departures, fall_to, ahead):
    # Ten lots ahead of ours and ten behind.
    book = OrderBook(departures)
    book.set_external(BUY, 99, 10)
    order = an_order(bench, BUY, 99, 1)
    book.add_order(order)
    book.set_external(BUY, 99, 20)
    book.set_external(BUY, 99, fall_to)
    assert book.external_lots(BUY, 99) == fall_to
    assert book.account_lots(BUY, 99) == 1
    assert book.lots_ahead(order) == ahead


def test_changes_are_net_and_best_first(bench):
    book = OrderBook()
    book.set_external(BUY, 99, 5)
    book.watch()
    book.set_external(BUY, 98, 4)
    book.set_external(BUY, 99, 8)
    book.set_external(BUY, 97, 4)
    book.set_external(BUY, 97, 0)
    assert book.has_changes
    assert book.drain_changes(BUY) == [(99, 8, 3), (98, 4, 4)]
    assert book.drain_changes(BUY) == []
    book.unwatch()
    book.set_external(BUY, 99, 1)
    assert not book.has_changes


def test_removing_an_order_that_does_not_rest_changes_nothing(bench):
    book = OrderBook()
    book.remove_order(an_order(bench, BUY, 99, 2))
    book.set_external(BUY, 99, 2)
    book.remove_order(an_order(bench, BUY, 99, 2))
    assert book.levels(BUY) == [(99, 2)]


@dataclass
class _Rest:
    """A resting order of the naive reference."""

    name: str
    side: Side
    ticks: int
    lots: int


STEPS = st.lists(
    st.tuples(st.sampled_from([BUY, SELL]), st.integers(95, 105), st.integers(1, 9), st.integers(0, 2)),
    max_size=25,
)


@pytest.mark.slow
@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_price_time_priority_against_a_naive_reference(steps):
    """Orders of three accounts, matched by sorting a list, give the same fills and the same rest."""
    bench = Bench(accounts=3)
    rests: list[_Rest] = []
    expected: list[tuple[str, int, int]] = []
    for side, ticks, size, who in steps:
        lots = size
        name = bench.place(side, ticks, lots, who, self_trade=SelfTrade.DISABLED).request.external_id
        crossing = [r for r in rests if r.side is not side and int(side) * (ticks - r.ticks) >= 0]
        # sorted() is stable: time priority is the order of the list.
        for rest in sorted(crossing, key=lambda r: int(side) * r.ticks):
            taken = min(lots, rest.lots)
            if taken:
                expected.append((rest.name, rest.ticks, taken))
            lots -= taken
            rest.lots -= taken
        rests = [r for r in rests if r.lots]
        if lots:
            rests.append(_Rest(name, side, ticks, lots))
    fills = [
        (trade.trade_id, trade.external_id, trade.price_ticks, trade.lots)
        for account in bench.accounts
        for trade in bench.exchange.account(account).trades
        if not trade.is_taker
    ]
    assert [fill[1:] for fill in sorted(fills)] == expected
    for side in (BUY, SELL):
        total = sum(r.lots for r in rests if r.side is side)
        assert sum(lots for _, lots in bench.book.levels(side)) == total
    bid, ask = bench.book.best_ticks(BUY), bench.book.best_ticks(SELL)
    assert bid is None or ask is None or bid < ask
