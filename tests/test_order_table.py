"""The transition table: every pair of state and event."""

import itertools

import pytest
from fakes import START_NS

from market_maker.domain import NewOrder, OrderState, Side, SlotId
from market_maker.order_table import REPORTED, TERMINAL, TRANSITIONS, WORKING, OrderEventKind, TrackedOrder

S, E = OrderState, OrderEventKind

# One row a working state, one column an event, as the design wants it; terminal states stay.
EVENTS = [
    E.ACCEPTED,
    E.REFUSED,
    E.TIMED_OUT,
    E.CANCEL_SENT,
    E.CANCEL_REFUSED,
    E.CANCEL_MISSED,
    E.REPORTED_OPEN,
    E.GONE,
]
WAIT = "PENDING_CANCEL"
EXPECTED = {
    S.PENDING_NEW: "PENDING_NEW REJECTED UNKNOWN PENDING_CANCEL PENDING_NEW UNKNOWN LIVE REJECTED",
    S.LIVE: "LIVE UNKNOWN LIVE PENDING_CANCEL LIVE UNKNOWN LIVE CANCELLED",
    S.PENDING_CANCEL: f"{WAIT} REJECTED {WAIT} {WAIT} LIVE UNKNOWN {WAIT} CANCELLED",
    S.UNKNOWN: "PENDING_NEW REJECTED UNKNOWN PENDING_CANCEL UNKNOWN UNKNOWN LIVE REJECTED",
}
ENDINGS = {
    E.REPORTED_FILLED: S.FILLED,
    E.REPORTED_CANCELLED: S.CANCELLED,
    E.REPORTED_REJECTED: S.REJECTED,
    E.REPORTED_EXPIRED: S.EXPIRED,
    E.FILLED_UP: S.FILLED,
}


def expected(state: OrderState, event: OrderEventKind) -> OrderState:
    if state in TERMINAL:
        return state
    if event in ENDINGS:
        return ENDINGS[event]
    return S[EXPECTED[state].split()[EVENTS.index(event)]]


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)))
def test_every_pair_of_state_and_event(state, event):
    assert TRANSITIONS[state, event] == expected(state, event)


def test_the_table_has_no_other_entries():
    assert len(TRANSITIONS) == len(S) * len(E)
    assert set(WORKING) | TERMINAL == set(S)
    assert not set(WORKING) & TERMINAL


def test_what_the_exchange_can_report():
    assert set(REPORTED) == TERMINAL | {S.LIVE}


@pytest.mark.parametrize("first", list(ENDINGS))
@pytest.mark.parametrize("then", list(E))
def test_lesson_3_terminal_wins(first, then):
    order = tracked()
    assert order.hear(first, START_NS)
    state = order.state
    assert not order.hear(then, START_NS + 1)
    assert order.state == state
    assert order.since_ns == START_NS


def tracked() -> TrackedOrder:
    order = NewOrder("M", "mm-0-a", Side.BUY, 100, 10, True, False, False, START_NS + 10, 1)
    return TrackedOrder(order, SlotId("M", Side.BUY, 0), placed_ns=START_NS, since_ns=START_NS)


def test_what_is_at_risk_until_the_trades_are_here():
    order = tracked()
    assert (order.remaining_lots, order.awaited_lots, order.at_risk_lots) == (10, 0, 10)
    order.reported_lots = 4
    assert (order.remaining_lots, order.awaited_lots, order.at_risk_lots) == (6, 4, 10)
    order.traded_lots = 4
    assert (order.remaining_lots, order.awaited_lots, order.at_risk_lots) == (6, 0, 6)
    order.reported_lots = 10
    order.hear(E.REPORTED_FILLED, START_NS)
    assert (order.remaining_lots, order.awaited_lots, order.at_risk_lots) == (0, 6, 6)
    assert not order.can_be_forgotten()
    order.traded_lots = 10
    assert order.at_risk_lots == 0
    assert order.can_be_forgotten()
