"""Orders on an exchange whose replies and events come in any order, twice, late or never.

The exchange's own books are the truth: at every step the position may move by no more than the bot counts
with, an order that ended has ended for good, and a trade is booked once. When all is quiet again, both agree.
"""

import asyncio
from collections import Counter

import pytest
from fakes import START_NS, FakeGateway
from fuzzing import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from order_world import MARKET, approve

from market_maker.clock import Entropy, LoopClock
from market_maker.domain import Action, OrderState, Side, SlotId
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.gateway import FillReport, OutcomeUnknown
from market_maker.order_manager import OrderManager
from market_maker.order_records import OrderObservers, OrderSettings

SLOTS = [SlotId(MARKET, side, level) for side in Side for level in (0, 1)]
FATES = st.tuples(
    # How long a request is on its way and its reply on the way back, s; and what the caller sees of it.
    st.sampled_from([0.0, 0.0, 0.2, 3.0]),
    st.sampled_from([0.0, 0.0, 0.5]),
    st.sampled_from(["answered", "answered", "unanswered", "broken off", "never arrives"]),
)
USUAL = (0.0, 0.0, "answered")
ENDINGS = st.sampled_from([OrderState.CANCELLED, OrderState.EXPIRED, OrderState.REJECTED])
# Unanswered requests, settled look-ups and backed-off fetches of trades all end within this.
QUIET_S = 400


class LossyGateway(FakeGateway):
    """Carries a request out whether or not its caller still waits for it."""

    def __init__(self):
        super().__init__()
        self.fate = USUAL
        self.on_their_way = {}

    async def _transmit(self, request):
        way_s, back_s, seen = self.fate
        if seen == "never arrives":
            request.close()
            msg = "no connection"
            raise OutcomeUnknown(msg)
        task = asyncio.create_task(self._later(way_s, request))
        task.add_done_callback(asyncio.Task.exception)
        if seen == "broken off":
            msg = "connection reset"
            raise OutcomeUnknown(msg)
        if seen == "unanswered":
            await asyncio.sleep(3600)
        reply = await asyncio.shield(task)
        await asyncio.sleep(back_s)
        return reply

    async def _later(self, way_s, request):
        await asyncio.sleep(way_s)
        return await request

    async def place(self, order):
        arrives = self.fate[2] != "never arrives"
        if arrives:
            self.on_their_way[order.external_id] = order
        return await self._transmit(self._place(order))

    async def _place(self, order):
        try:
            return await super().place(order)
        finally:
            del self.on_their_way[order.external_id]

    async def cancel(self, market, external_id):
        return await self._transmit(super().cancel(market, external_id))

    async def order(self, external_id):
        return await self._transmit(super().order(external_id))

    async def open_orders(self):
        return await self._transmit(super().open_orders())

    async def fills(self, since_ns):
        return list(self.past_fills)


class Orders(RuleBasedStateMachine):
    """One order manager, and the exchange that it can only hear of."""

    def __init__(self):
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.gateway = LossyGateway()
        self.booked = 0
        self.trades = Counter()
        self.ended = {}
        self.tasks = []
        self.runner.run(self.build())

    async def build(self):
        self.orders = OrderManager(
            self.gateway,
            LoopClock(asyncio.get_running_loop(), START_NS),
            Entropy(1),
            OrderSettings(),
            OrderObservers(on_fill=self.on_fill, on_level_freed=self.on_freed),
        )

    def on_fill(self, slot, report):
        fill = report.fill
        self.trades[fill.trade_id] += 1
        self.booked += fill.side * fill.size_lots

    def on_freed(self, slot, state, reason):
        assert self.orders.slot_order(slot) is None

    def pass_time(self, seconds):
        self.runner.run(asyncio.sleep(seconds))
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            assert task.exception() is None

    async def begin(self, request):
        self.tasks.append(asyncio.create_task(request))
        await asyncio.sleep(0)

    @initialize(slot=st.sampled_from(SLOTS), lots=st.integers(1, 9))
    def quote(self, slot, lots):
        self.decide(slot, lots, Action.PLACE, USUAL)

    @rule(
        slot=st.sampled_from(SLOTS),
        lots=st.integers(1, 9),
        action=st.sampled_from([Action.REPLACE, Action.REPLACE, Action.CANCEL]),
        fate=FATES,
    )
    def decide(self, slot, lots, action, fate):
        """A decision goes out; nobody waits for what becomes of it."""
        self.gateway.fate = fate
        if self.orders.slot_order(slot) is None:
            action = Action.PLACE
        self.runner.run(self.begin(self.orders.apply(slot, approve(slot, action, lots=lots))))
        self.pass_time(0)

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 6.0]))
    def wait(self, seconds):
        self.pass_time(seconds)

    @precondition(lambda self: self.gateway.resting())
    @rule(data=st.data(), lots=st.integers(1, 9))
    def match(self, data, lots):
        name = data.draw(st.sampled_from(self.gateway.resting()))
        order = self.gateway.orders[name]
        self.gateway.fill(name, min(lots, order.size_lots - order.filled_lots))

    @precondition(lambda self: self.gateway.resting())
    @rule(data=st.data(), state=ENDINGS)
    def end(self, data, state):
        self.gateway.finish(data.draw(st.sampled_from(self.gateway.resting())), state)

    @precondition(lambda self: self.gateway.stream)
    @rule(data=st.data(), how=st.sampled_from(["once", "once", "again", "never"]))
    def hear(self, data, how):
        """Any of the events that the stream still holds comes, comes and will come again, or is lost."""
        stream = self.gateway.stream
        at = data.draw(st.integers(0, len(stream) - 1))
        event = stream[at]
        if how != "again":
            del stream[at]
        if how == "never":
            return
        if isinstance(event, FillReport):
            self.orders.on_fill(event)
        else:
            self.orders.on_order_report(event)

    @rule(fate=FATES)
    def reconcile(self, fate):
        self.gateway.fate = fate
        self.runner.run(self.orders.reconcile())

    @invariant()
    def the_worst_that_is_counted_covers_the_truth(self):
        exposure = self.orders.exposure(MARKET)
        truth = {
            side: sum(self.open_lots(side)) + sum(self.lots_on_their_way(side))
            for side in (Side.BUY, Side.SELL)
        }
        position = self.position()
        assert self.booked + exposure.buy_lots >= position + truth[Side.BUY]
        assert self.booked - exposure.sell_lots <= position - truth[Side.SELL]

    @invariant()
    def an_order_that_ended_has_ended(self):
        assert all(order.external_id not in self.ended for order in self.orders.working())
        for slot in SLOTS:
            order = self.orders.slot_order(slot)
            assert order is None or order.is_working
        for name, order in self.gateway.orders.items():
            if order.state >= OrderState.FILLED and self.knows_the_end(name):
                self.ended[name] = order.state

    def knows_the_end(self, name):
        return all(order.external_id != name for order in self.orders.working())

    @invariant()
    def a_trade_is_booked_once(self):
        assert all(times == 1 for times in self.trades.values())

    def position(self):
        return sum(order.side * order.filled_lots for order in self.gateway.orders.values())

    def open_lots(self, side):
        found = (self.gateway.orders[name] for name in self.gateway.resting())
        return [order.size_lots - order.filled_lots for order in found if order.side == side]

    def lots_on_their_way(self, side):
        return [order.size_lots for order in self.gateway.on_their_way.values() if order.side == side]

    def teardown(self):
        self.gateway.fate = USUAL
        self.pass_time(10)
        for _ in range(QUIET_S):
            self.runner.run(self.orders.reconcile())
            self.pass_time(1)
            if self.booked == self.position() and self.agrees():
                break
        assert self.booked == self.position()
        assert self.agrees()
        self.a_trade_is_booked_once()
        self.runner.run(self.cancel_what_waits())
        self.runner.close()

    def agrees(self):
        exposure = self.orders.exposure(MARKET)
        counted = exposure.buy_lots, exposure.sell_lots
        return counted == (sum(self.open_lots(Side.BUY)), sum(self.open_lots(Side.SELL)))

    async def cancel_what_waits(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


TestOrders = Orders.TestCase
TestOrders.settings = examples(40, steps=40)
TestOrders.pytestmark = [pytest.mark.slow]
