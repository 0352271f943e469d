"""The matching engine beside a sorted list: the same fills one by one, the same queues, the same endings."""

from dataclasses import dataclass, field

import pytest
from emulator_flows import Bench, instant_rules
from fuzzing import examples
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from market_maker.domain import Side
from market_maker.emulator.requests import CancelRequest, MassCancelRequest, SelfTrade, TimeInForce
from market_maker.emulator.rules import Departures, OrderRules

BUY, SELL = Side.BUY, Side.SELL
ACCOUNTS = 3
OTHERS = -1
LEVEL = -2
EDIT_NOT_FOUND, NO_POSITION, SAME_SIDE, LARGER_THAN_POSITION = 1142, 1137, 1138, 1136


@dataclass(eq=False)
class Lots:
    """Something that rests: an order of an account, or what others show."""

    name: str
    who: int
    side: Side
    ticks: int
    lots: int
    reduce_only: bool = False
    self_trade: bool = False


@dataclass
class Reference:
    """All that rests in one list, in order of arrival; sorting it by price gives the priority."""

    rests: list[Lots] = field(default_factory=list)
    positions: list[int] = field(default_factory=lambda: [0] * ACCOUNTS)
    endings: dict[str, tuple[str, str]] = field(default_factory=dict)
    fills: list[tuple[str, int, int]] = field(default_factory=list)

    def end(self, order: Lots, status: str, reason: str = "NONE") -> None:
        self.rests = [rest for rest in self.rests if rest is not order]
        self.endings[order.name] = status, reason

    def against(self, order: Lots) -> list[Lots]:
        """What the order could trade with, first things first; sorted() keeps the order of arrival."""
        crossing = [
            rest
            for rest in self.rests
            if rest.side is not order.side and order.side * (order.ticks - rest.ticks) >= 0
        ]
        return sorted(crossing, key=lambda rest: order.side * rest.ticks)

    def sweep(self, order: Lots, *, is_level: bool = False) -> None:
        while order.lots and order.name not in self.endings and (found := self.against(order)):
            self.meet(order, found[0], is_level=is_level)

    def meet(self, order: Lots, rest: Lots, *, is_level: bool) -> None:
        if rest.who == OTHERS and is_level:
            self.rests.remove(rest)
            return
        if order.self_trade and rest.who == order.who:
            self.end(rest, "CANCELLED", "SELF_TRADE_PROTECTION")
            return
        lots = min(order.lots, rest.lots)
        if rest.reduce_only:
            lots = min(lots, abs(self.positions[rest.who]))
        order.lots -= lots
        rest.lots -= lots
        for one in (order, rest):
            if one.who >= 0:
                self.fills.append((one.name, rest.ticks, lots))
                self.positions[one.who] += one.side * lots
                self.after_fill(one)
        if rest.who == OTHERS and not rest.lots:
            self.rests.remove(rest)

    def after_fill(self, order: Lots) -> None:
        if not order.lots:
            self.end(order, "FILLED")
        for other in [rest for rest in self.rests if rest.reduce_only and rest.who == order.who]:
            if self.positions[order.who] * other.side >= 0:
                self.end(other, "CANCELLED", "REDUCE_ONLY_FAILED")

    def place(self, order: Lots, *, post_only: bool, ioc: bool) -> None:
        if post_only and self.against(order):
            self.end(order, "REJECTED", "POST_ONLY_FAILED")
            return
        size = order.lots
        self.sweep(order)
        if order.name in self.endings:
            return
        if ioc:
            self.end(order, "CANCELLED", "NONE" if order.lots < size else "NO_LIQUIDITY")
        else:
            self.rests.append(order)

    def show(self, side: Side, ticks: int, lots: int) -> None:
        """Others show so much at a price: more joins the queue at its back, less leaves from there."""
        shown = Lots("", OTHERS, side, ticks, lots)
        self.sweep(shown, is_level=True)
        theirs = [rest for rest in self.rests if (rest.who, rest.side, rest.ticks) == (OTHERS, side, ticks)]
        change = shown.lots - sum(rest.lots for rest in theirs)
        if change > 0:
            self.rests.append(Lots("", OTHERS, side, ticks, change))
        for rest in reversed(theirs):
            gone = min(rest.lots, max(0, -change))
            rest.lots -= gone
            change += gone
        self.rests = [rest for rest in self.rests if rest.lots]

    def levels(self, side: Side) -> list[tuple[int, int]]:
        totals: dict[int, int] = {}
        for rest in self.rests:
            if rest.side is side:
                totals[rest.ticks] = totals.get(rest.ticks, 0) + rest.lots
        return sorted(totals.items(), reverse=side is BUY)


SIDES = st.sampled_from([BUY, SELL])
TICKS = st.integers(96, 104)
SIZES = st.integers(1, 9)
WHO = st.integers(0, ACCOUNTS - 1)
KINDS = st.sampled_from(["plain", "plain", "post only", "at once"])


class Matching(RuleBasedStateMachine):
    """The exchange on the bench, and the list beside it."""

    def __init__(self):
        super().__init__()
        rules = instant_rules(orders=OrderRules(departures=Departures.BACK, requests_per_minute=10**6))
        self.bench = Bench(rules=rules, accounts=ACCOUNTS, deposit="100000000")
        self.reference = Reference()
        self.names = 0

    def send(self, order, *, post_only=False, ioc=False, **changes):
        """Send an order; whether the API took it."""
        request = self.bench.request(
            order.side,
            order.ticks,
            order.lots,
            external_id=order.name,
            post_only=post_only,
            time_in_force=TimeInForce.IOC if ioc else TimeInForce.GTT,
            reduce_only=order.reduce_only,
            self_trade=SelfTrade.ACCOUNT if order.self_trade else SelfTrade.DISABLED,
            **changes,
        )
        reply = self.bench.send(request, order.who)
        return reply.code if reply.http_status != 200 else 0

    def new(self, who, side, ticks, lots, **changes):
        self.names += 1
        return Lots(f"n{self.names}", who, side, ticks, lots, **changes)

    @rule(who=WHO, side=SIDES, ticks=TICKS, lots=SIZES, kind=KINDS, self_trade=st.booleans())
    def place(self, who, side, ticks, lots, kind, self_trade):
        order = self.new(who, side, ticks, lots, self_trade=self_trade)
        how = {"post_only": kind == "post only", "ioc": kind == "at once"}
        assert self.send(order, **how) == 0
        self.reference.place(order, **how)

    @rule(who=WHO, side=SIDES, ticks=TICKS, lots=SIZES, kind=KINDS)
    def reduce(self, who, side, ticks, lots, kind):
        order = self.new(who, side, ticks, lots, reduce_only=True)
        position = self.reference.positions[who]
        how = {"post_only": kind == "post only", "ioc": kind == "at once"}
        code = self.send(order, **how)
        if not position:
            assert code == NO_POSITION
        elif position * side > 0:
            assert code == SAME_SIDE
        elif lots > abs(position):
            assert code == LARGER_THAN_POSITION
        else:
            assert code == 0
            self.reference.place(order, **how)

    @rule(who=WHO, ticks=TICKS, lots=SIZES, post_only=st.booleans(), data=st.data())
    def replace(self, who, ticks, lots, post_only, data):
        names = [rest.name for rest in self.reference.rests if rest.who == who]
        name = data.draw(st.sampled_from([*names, *list(self.reference.endings)[-2:], "never"]))
        old = next((rest for rest in self.reference.rests if (rest.name, rest.who) == (name, who)), None)
        order = self.new(who, old.side if old else BUY, ticks, lots)
        code = self.send(order, post_only=post_only, cancel_id=name)
        if old is None:
            assert code == EDIT_NOT_FOUND
        else:
            assert code == 0
            self.reference.end(old, "CANCELLED", "ORDER_REPLACED")
            self.reference.place(order, post_only=post_only, ioc=False)

    @rule(data=st.data())
    @precondition(lambda self: any(rest.who >= 0 for rest in self.reference.rests))
    def cancel(self, data):
        order = data.draw(st.sampled_from([rest for rest in self.reference.rests if rest.who >= 0]))
        self.bench.send(CancelRequest(external_id=order.name), order.who)
        self.reference.end(order, "CANCELLED")

    @rule(who=WHO)
    def cancel_all(self, who):
        self.bench.send(MassCancelRequest(cancel_all=True), who)
        for rest in [rest for rest in self.reference.rests if rest.who == who]:
            self.reference.end(rest, "CANCELLED")

    @rule(side=SIDES, ticks=TICKS, lots=st.integers(0, 12))
    def others_show(self, side, ticks, lots):
        self.bench.level(side, ticks, lots)
        self.reference.show(side, ticks, lots)

    @rule(side=SIDES, ticks=TICKS, lots=SIZES)
    def others_take(self, side, ticks, lots):
        self.bench.taker(side, ticks, lots)
        self.reference.sweep(Lots("", OTHERS, side, ticks, lots))

    @invariant()
    def fills_are_the_same_one_by_one(self):
        trades = [
            (trade.trade_id, trade.is_taker, trade.external_id, trade.price_ticks, trade.lots)
            for account in self.bench.accounts
            for trade in self.bench.exchange.account(account).trades
        ]
        # Of each match the taker is booked first.
        found = sorted(trades, key=lambda trade: (trade[0], not trade[1]))
        assert [trade[2:] for trade in found] == self.reference.fills

    @invariant()
    def books_are_the_same(self):
        book = self.bench.book
        for side in (BUY, SELL):
            assert book.levels(side) == self.reference.levels(side)
        bid, ask = book.best_ticks(BUY), book.best_ticks(SELL)
        assert bid is None or ask is None or bid < ask

    @invariant()
    def orders_and_positions_are_the_same(self):
        resting = {rest.name: rest.lots for rest in self.reference.rests if rest.who >= 0}
        open_now = {}
        for number, account in enumerate(self.bench.accounts):
            assert self.bench.position(number) == self.reference.positions[number]
            for order in self.bench.exchange.account(account).by_external.values():
                if order.is_open:
                    open_now[order.request.external_id] = order.remaining_lots
                else:
                    ended = order.status.value, order.reason.value
                    assert ended == self.reference.endings[order.request.external_id]
        assert open_now == resting


TestMatching = Matching.TestCase
TestMatching.settings = examples(25, steps=40)
TestMatching.pytestmark = [pytest.mark.slow]
