"""One market's desk: what it makes of events and orders, and why it would not quote."""

from decimal import Decimal

import pytest
from fakes import START_NS, snapshot
from order_world import World, virtual

from market_maker.domain import (
    NS_PER_S,
    Action,
    BestQuote,
    BookUpdate,
    OrderState,
    Reason,
    Side,
    SlotId,
    Trade,
)
from market_maker.gateway import Candle, Fees
from market_maker.halts import Halts
from market_maker.instrument import Instrument
from market_maker.market_desk import MarketDesk, market_params
from market_maker.orderbook_manager import BookSettings
from market_maker.strategy_rows import Params

X = "X-USD"
BID, ASK = SlotId(X, Side.BUY, 0), SlotId(X, Side.SELL, 0)
FAR = (10**6, 10**6)
BIDS = [(9_999 - n, 5_000) for n in range(10)]
ASKS = [(10_001 + n, 5_000) for n in range(10)]


def desk_of(*, known=True) -> MarketDesk:
    """A desk of a calm market at 100.00 USD with a tick of 0.01, warm, its mark and limits known."""
    instrument = Instrument(X, Decimal("0.01"), Decimal("0.01"), Decimal("0.1"))
    desk = MarketDesk(instrument, Fees(Decimal(0), Decimal("0.00025")), Params(), BookSettings(), 0.03, 0.1)
    closes = [100 + 0.02 * (n % 2) for n in range(20)]
    desk.seed([Candle(n * 60 * NS_PER_S, *(Decimal(repr(c)),) * 4) for n, c in enumerate(closes)])
    if known:
        desk.on_mark(Decimal("100.00"), START_NS)
        desk.set_account(0, FAR)
        assert desk.on_book(snapshot(X, BIDS, ASKS), START_NS)
    return desk


def test_the_gravest_halt_is_the_one_that_is_given():
    halts = Halts()
    assert halts.gravest is Reason.NONE
    assert halts.put(Reason.STREAM_LOST, in_force=True)
    assert halts.put(Reason.STOPPING, in_force=True)
    assert not halts.put(Reason.STOPPING, in_force=True)
    assert halts.gravest is Reason.STREAM_LOST
    assert halts.put(Reason.STREAM_LOST, in_force=False)
    assert halts.gravest is Reason.STOPPING
    assert halts.put(Reason.STOPPING, in_force=False)
    assert not halts.put(Reason.STOPPING, in_force=False)
    assert halts.gravest is Reason.NONE


def test_facts_of_the_market_come_from_instrument_and_fees():
    instrument = Instrument(X, Decimal("0.5"), Decimal("0.001"), Decimal("0.0015"))
    facts = market_params(instrument, Fees(Decimal("-0.00002"), Decimal("0.00025")))
    assert facts.min_lots == 2
    assert facts.tick_lot_usd == pytest.approx(0.0005)
    assert facts.maker_fee_bps == pytest.approx(-0.2)
    assert facts.taker_fee_bps == pytest.approx(2.5)


@virtual
async def test_both_sides_are_quoted_around_the_mid(world):
    desk, orders = desk_of(), world.orders
    bid, ask = desk.decide(BID, START_NS), desk.decide(ASK, START_NS)
    assert (bid.action, ask.action) == (Action.PLACE, Action.PLACE)
    assert bid.price_ticks < 10_000 < ask.price_ticks
    assert min(bid.size_lots, ask.size_lots) >= desk.instrument.min_lots
    assert desk.reasons[BID] is Reason.NEW_QUOTE
    assert desk.side_reason(Side.BUY, orders) is Reason.NEW_QUOTE


def test_without_a_book_nothing_is_quoted_and_the_reason_says_so():
    desk = desk_of(known=False)
    desk.on_mark(Decimal("100.00"), START_NS)
    desk.set_account(0, FAR)
    assert desk.mid2_ticks == 0
    assert desk.decide(BID, START_NS).reason is Reason.NO_BOOK


def test_without_a_mark_no_risk_is_taken():
    desk = desk_of(known=False)
    desk.set_account(0, FAR)
    desk.on_book(snapshot(X, BIDS, ASKS), START_NS)
    assert desk.decide(BID, START_NS).reason is Reason.MARK_MISSING


def test_a_silent_stream_is_stale_whatever_kind_of_frame_was_last():
    desk = desk_of()
    assert desk.decide(BID, START_NS + 9 * NS_PER_S).action is Action.PLACE
    assert desk.decide(BID, START_NS + 11 * NS_PER_S).reason is Reason.STALE_BOOK
    trade = Trade(X, 1, Side.BUY, 10_001, 5, START_NS, START_NS)
    desk.on_trade(trade, START_NS + 11 * NS_PER_S)
    assert desk.decide(BID, START_NS + 11 * NS_PER_S).action is Action.PLACE


def test_a_gap_of_the_book_is_a_lost_stream_until_the_next_snapshot():
    desk = desk_of()
    delta = BookUpdate(
        X, is_snapshot=False, bids=[(9_999, 1)], asks=[], seq=3, venue_ns=START_NS, recv_ns=START_NS
    )
    assert not desk.on_book(delta, START_NS)
    assert desk.decide(BID, START_NS).reason is Reason.STREAM_LOST
    assert desk.on_book(snapshot(X, BIDS, ASKS), START_NS)
    assert desk.decide(BID, START_NS).action is Action.PLACE


def best_quote(bid, ask, at_ns):
    return BestQuote(X, bid, 5_000, ask, 5_000, at_ns, at_ns)


def test_a_best_quote_moves_the_quotes_before_the_book_does():
    desk = desk_of()
    before = desk.decide(BID, START_NS).price_ticks
    assert desk.on_best_quote(best_quote(9_997, 9_999, START_NS + 1), START_NS + 1)
    assert desk.mid2_ticks == 2 * 9_998
    assert desk.decide(BID, START_NS + 1).price_ticks < before
    # The same once more is no news for the signals.
    assert not desk.on_best_quote(best_quote(9_997, 9_999, START_NS + 2), START_NS + 2)


def test_a_crossed_best_quote_takes_the_quotes_away_until_the_next_frame():
    desk = desk_of()
    assert not desk.on_best_quote(best_quote(10_001, 10_001, START_NS + 1), START_NS + 1)
    assert desk.decide(BID, START_NS + 1).reason is Reason.CROSSED_BOOK
    assert desk.on_best_quote(best_quote(9_999, 10_001, START_NS + 2), START_NS + 2)
    assert desk.decide(BID, START_NS + 2).action is Action.PLACE


def test_a_best_quote_is_a_frame_like_any_and_no_book():
    desk = desk_of()
    later = START_NS + 11 * NS_PER_S
    desk.on_best_quote(best_quote(9_999, 10_001, later), later)
    assert desk.decide(BID, later).action is Action.PLACE
    unknown = desk_of(known=False)
    assert not unknown.on_best_quote(best_quote(9_999, 10_001, START_NS), START_NS)
    assert unknown.decide(BID, START_NS).reason is Reason.NO_BOOK


@pytest.mark.parametrize("reason", [Reason.STOPPING, Reason.CIRCUIT_BREAKER, Reason.DESYNCHRONISED])
def test_a_halt_is_the_reason_of_every_slot(reason):
    desk = desk_of()
    desk.halts.put(reason, in_force=True)
    assert {desk.decide(slot, START_NS).reason for slot in desk.slots} == {reason}


def test_a_side_at_its_limit_gives_the_reason_of_the_limit():
    desk = desk_of()
    desk.set_account(0, (0, 10**6))
    assert desk.decide(BID, START_NS).reason is Reason.POSITION_LIMIT
    desk.limit_reason = Reason.RISK_DRAWDOWN
    desk.decide(BID, START_NS)
    assert desk.reasons[BID] is Reason.RISK_DRAWDOWN
    assert desk.decide(ASK, START_NS).action is Action.PLACE


def test_over_its_limit_the_other_side_reduces_up_to_flat():
    desk = desk_of()
    desk.set_account(500, (0, 0))
    ask = desk.decide(ASK, START_NS)
    assert ask.action is Action.PLACE
    assert ask.reduce_only
    assert ask.size_lots <= 500
    assert desk.decide(BID, START_NS).action is Action.KEEP


def test_the_price_band_is_the_tighter_of_ours_and_the_exchanges():
    instrument = Instrument(X, Decimal("0.01"), Decimal("0.01"), Decimal("0.1"), price_cap=Decimal("0.001"))
    desk = MarketDesk(instrument, Fees(Decimal(0), Decimal(0)), Params(), BookSettings(), 0.03, 0.1)
    desk.set_account(0, FAR)
    desk.on_book(snapshot(X, BIDS, ASKS), START_NS)
    # A mark far below the book: no buy may lie more than 0.1 % above it.
    desk.on_mark(Decimal("99.00"), START_NS)
    assert desk.decide(BID, START_NS).reason is Reason.PRICE_BAND


@virtual
async def test_an_order_of_ours_is_in_its_slot_and_out_of_the_book(world):
    desk = desk_of()
    await world.quote(BID, price=9_999, lots=5_000)
    desk.write_slots(world.orders, START_NS)
    assert desk.book.levels(Side.BUY, 1) == [(9_998, 5_000)]
    assert desk.decide(BID, START_NS).reason is not Reason.NEW_QUOTE
    world.gateway.finish(world.orders.slot_order(BID).external_id, OrderState.CANCELLED)
    world.pump()
    # Its echo in the book dies away.
    for later in (1, 2):
        desk.write_slots(world.orders, START_NS + later * NS_PER_S)
    assert desk.book.levels(Side.BUY, 1) == [(9_999, 5_000)]
    assert desk.decide(BID, START_NS).reason is Reason.NEW_QUOTE


@virtual
async def test_nothing_is_decided_about_a_slot_whose_request_is_on_its_way(world):
    desk = desk_of()
    await world.do(BID, price=9_990, lots=1_000)
    desk.write_slots(world.orders, START_NS)
    assert desk.decide(BID, START_NS).reason is Reason.REQUEST_PENDING
    world.pump()
    desk.write_slots(world.orders, START_NS)
    assert desk.decide(BID, START_NS).reason is not Reason.REQUEST_PENDING


@virtual
async def test_an_outer_level_leaves_room_for_the_larger_of_an_order_and_its_replacement(world: World):
    desk = desk_of()
    desk.set_account(-1_500, (0, 0))
    await world.quote(BID, price=9_990, lots=1_400)
    await world.do(BID, Action.REPLACE, price=9_991, lots=1_000)
    desk.write_slots(world.orders, START_NS)
    outer = desk.decide(SlotId(X, Side.BUY, 1), START_NS)
    assert outer.reduce_only
    assert outer.size_lots == 100


@virtual
async def test_a_side_is_quoted_by_an_order_of_half_the_size_that_is_near(world: World):
    desk = desk_of()
    plain = desk.level_lots()
    assert not desk.is_quoted(Side.BUY, world.orders)
    name = await world.quote(BID, price=9_998, lots=plain)
    assert desk.is_quoted(Side.BUY, world.orders)
    assert not desk.is_quoted(Side.SELL, world.orders)
    world.gateway.fill(name, plain * 6 // 10)
    world.pump()
    assert not desk.is_quoted(Side.BUY, world.orders)


@virtual
async def test_an_order_far_away_quotes_nothing(world: World):
    desk = desk_of()
    await world.quote(BID, price=9_000, lots=desk.level_lots())
    assert not desk.is_quoted(Side.BUY, world.orders)


def test_a_rejected_post_only_order_holds_the_slot_back_and_only_that():
    desk = desk_of()
    for _ in range(3):
        desk.on_post_only(BID, START_NS, rejected=True)
    held, free = desk.decide(BID, START_NS), desk.decide(ASK, START_NS)
    assert held.reason is Reason.POST_ONLY_BACKOFF or held.price_ticks < 9_999
    assert free.action is Action.PLACE


def test_latency_is_a_running_mean():
    desk = desk_of()
    for _ in range(100):
        desk.on_latency(0.5)
    assert desk.latency_s == pytest.approx(0.5, abs=0.001)


def test_a_desk_that_is_asked_and_may_quote_is_healthy():
    desk = desk_of()
    assert not desk.is_deciding(START_NS)
    desk.decide(BID, START_NS)
    assert desk.is_deciding(START_NS + NS_PER_S)
    assert not desk.is_deciding(START_NS + 10 * NS_PER_S)


@pytest.mark.parametrize("reason", [Reason.STOPPING, Reason.CIRCUIT_BREAKER, Reason.RATE_LIMITED])
def test_a_desk_in_a_halt_is_not(reason):
    desk = desk_of()
    desk.halts.put(reason, in_force=True)
    for slot in desk.slots:
        desk.decide(slot, START_NS)
    assert not desk.is_deciding(START_NS)


def test_a_pause_of_the_market_is_no_sickness():
    desk = desk_of()
    desk.set_account(0, (0, 0))
    for slot in desk.slots:
        desk.decide(slot, START_NS)
    assert set(desk.reasons.values()) == {Reason.POSITION_LIMIT}
    assert desk.is_deciding(START_NS)


@virtual
async def test_a_halved_order_still_counts_when_the_price_has_moved_a_little(world):
    desk = desk_of()
    half = desk.level_lots() // 2
    await world.quote(BID, price=9_998, lots=half)
    assert desk.is_quoted(Side.BUY, world.orders)
