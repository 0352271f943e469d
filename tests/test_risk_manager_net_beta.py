"""The limit over all markets by their betas: exact, on the worst case of either side, never in the way of
an order that reduces its own market's position."""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_risk_manager import ASK, BID, FREE, MARKET, NOW, PPM, RICH, RULES, USD, order

from market_maker.domain import Reason, Side, SlotId
from market_maker.exposure import (
    NO_LIMIT,
    Exposure,
    MarketRisk,
    NetBetaSettings,
    Portfolio,
    beta_ppm,
    is_near_liquidation,
    net_beta,
    net_beta_room,
)
from market_maker.risk_manager import Approved, Refused, RiskManager, limits_in_force

UNLIMITED = NetBetaSettings(0.0)
# Lots are worth 100 USD: a thousand dollars are ten of them at a beta of one.
LIMIT = NetBetaSettings(1_000.0)
NAMES = ("X", "Y", "Z")


def reason_of(manager: RiskManager, slot: SlotId, decision, **markets: MarketRisk) -> Reason:
    verdict = manager.approve(slot, decision, Portfolio(markets, RICH), NOW)
    return verdict.reason if isinstance(verdict, Refused) else Reason.NONE


def verdict(slot: SlotId, lots: int, limit: NetBetaSettings = LIMIT, **markets: MarketRisk) -> Reason:
    return reason_of(RiskManager(FREE, limit), slot, order(lots), **markets)


def held(lots: int, beta: float = 1.0, **exposure: int) -> MarketRisk:
    return MARKET._replace(position_lots=lots, beta_ppm=beta_ppm(beta), exposure=Exposure(**exposure))


@pytest.mark.parametrize("slot", [BID, ASK])
def test_the_limit_holds_exactly_on_either_side(slot):
    assert verdict(slot, 10, X=MARKET) == Reason.NONE
    assert verdict(slot, 11, X=MARKET) == Reason.RISK_NET_BETA
    assert verdict(slot, 11, UNLIMITED, X=MARKET) == Reason.NONE


def test_other_markets_count_by_their_betas_and_on_the_side_of_the_order():
    other = held(4, beta=1.5)
    assert verdict(BID, 4, X=MARKET, Y=other) == Reason.NONE
    assert verdict(BID, 5, X=MARKET, Y=other) == Reason.RISK_NET_BETA
    assert verdict(ASK, 16, X=MARKET, Y=other) == Reason.NONE
    assert verdict(ASK, 17, X=MARKET, Y=other) == Reason.RISK_NET_BETA
    assert verdict(BID, 5, X=held(0, beta=2.0)) == Reason.NONE
    assert verdict(BID, 6, X=held(0, beta=2.0)) == Reason.RISK_NET_BETA


def test_the_orders_of_other_markets_count_on_the_side_that_they_threaten_only():
    resting = held(0, buy_lots=6, sell_lots=9)
    assert verdict(BID, 4, X=MARKET, Y=resting) == Reason.NONE
    assert verdict(BID, 5, X=MARKET, Y=resting) == Reason.RISK_NET_BETA
    assert verdict(ASK, 1, X=MARKET, Y=resting) == Reason.NONE
    assert verdict(ASK, 2, X=MARKET, Y=resting) == Reason.RISK_NET_BETA
    # A short position is room for buys only as far as its own bids would leave it.
    assert verdict(BID, 14, X=MARKET, Y=held(-10, buy_lots=6)) == Reason.NONE
    assert verdict(BID, 15, X=MARKET, Y=held(-10, buy_lots=6)) == Reason.RISK_NET_BETA


def test_a_hedge_is_allowed_where_the_portfolio_is_past_the_limit():
    long = held(30)
    assert verdict(BID, 1, X=MARKET, Y=long) == Reason.RISK_NET_BETA
    assert verdict(ASK, 30, X=MARKET, Y=long) == Reason.NONE
    assert verdict(ASK, 41, X=MARKET, Y=long) == Reason.RISK_NET_BETA


def test_a_market_may_always_be_reduced_though_its_position_was_the_others_hedge():
    """Short here, long there: to close the short leaves the long alone, and is allowed all the same."""
    short, long = held(-25), held(30)
    assert verdict(BID, 25, X=short, Y=long) == Reason.NONE
    assert verdict(BID, 26, X=short, Y=long) == Reason.RISK_NET_BETA


def test_a_limit_that_falls_below_the_exposure_leaves_orders_that_reduce():
    manager = RiskManager(FREE, LIMIT)
    long = held(10)
    assert reason_of(manager, ASK, order(10), X=long) == Reason.NONE
    manager.reload(FREE, NetBetaSettings(500.0))
    assert reason_of(manager, BID, order(1), X=long) == Reason.RISK_NET_BETA
    assert reason_of(manager, ASK, order(10), X=long) == Reason.NONE
    assert reason_of(manager, ASK, order(15), X=long) == Reason.NONE
    assert reason_of(manager, ASK, order(16), X=long) == Reason.RISK_NET_BETA
    manager.reload(replace(FREE, max_orders_per_s=9.0))
    assert reason_of(manager, BID, order(1), X=long) == Reason.RISK_NET_BETA


def test_a_market_without_a_beta_binds_nothing():
    assert verdict(BID, 5_000, X=held(0, beta=-0.5)) == Reason.NONE
    assert verdict(BID, 10, X=MARKET, Y=held(5_000, beta=0.0)) == Reason.NONE
    assert net_beta_room({"X": held(0, beta=0.0)}, "X", USD) == (NO_LIMIT, NO_LIMIT)


def test_betas_are_held_within_a_range_and_are_one_where_unknown():
    found = [beta_ppm(beta) for beta in (0.25, -0.1, 5.0, 5.1, math.inf, -math.inf, math.nan)]
    assert found == [250_000, 0, 5 * PPM, 5 * PPM, PPM, PPM, PPM]
    assert MARKET.beta_ppm == PPM


def test_limits_in_force_differ_by_side_where_the_others_lean():
    def limits(x: MarketRisk, **others: MarketRisk) -> tuple[int, int]:
        return limits_in_force(FREE, "X", Portfolio({"X": x, **others}, RICH), LIMIT)

    assert limits(MARKET) == (10, 10)
    assert limits(held(3, buy_lots=9)) == (10, 10)
    assert limits(MARKET, Y=held(4)) == (6, 14)
    assert limits(MARKET, Y=held(-4, sell_lots=1)) == (14, 5)
    assert limits(MARKET, Y=held(40)) == (0, 50)
    assert limits(held(0, beta=0.5), Y=held(4)) == (12, 28)
    tight = MARKET._replace(rules=RULES._replace(max_position_lots=8))
    assert limits(tight, Y=held(4)) == (6, 8)
    assert RiskManager(FREE, LIMIT).limits_in_force("X", Portfolio({"X": MARKET, "Y": held(4)}, RICH)) == (
        6,
        14,
    )


def test_the_default_leaves_a_market_with_a_beta_of_two_its_own_limit():
    market = held(0, beta=2.0)
    assert verdict(BID, 100, NetBetaSettings(), X=market) == Reason.NONE
    assert verdict(BID, 101, NetBetaSettings(), X=market) == Reason.RISK_NET_BETA


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_a_limit_is_a_number_of_at_least_zero(bad):
    with pytest.raises(ValueError, match="max_net_beta_usd: expected a number of at least 0"):
        NetBetaSettings(bad)


def test_the_nearness_of_a_liquidation_is_a_share_of_the_mark():
    near = held(1)._replace(liquidation_lot_pusd=96 * USD)
    assert is_near_liquidation({"X": near}, 40_001)
    assert not is_near_liquidation({"X": near}, 40_000)
    assert not is_near_liquidation({"X": near._replace(position_lots=0), "Y": held(5)}, 40_001)


# Any sequence of orders, fills and cancels, against plain fractions.


@dataclass
class World:
    """Markets with the orders that were approved; the exchange's rule for reduce-only orders."""

    positions: dict[str, int]
    lot_usd: dict[str, Fraction]
    betas: dict[str, int]
    orders: list[tuple[str, Side, int, bool]] = field(default_factory=list)

    def risks(self) -> dict[str, MarketRisk]:
        risks = {}
        for name, lots in self.positions.items():
            counts = [0, 0, 0, 0]
            for market, side, size, reduce_only in self.orders:
                if market == name:
                    counts[2 * reduce_only + (side == Side.SELL)] += size
            exposure, lot_pusd = Exposure(*counts), int(self.lot_usd[name] * USD)
            risks[name] = MarketRisk(RULES, lots, exposure, lot_pusd, beta_ppm=self.betas[name])
        return risks

    def reachable(self, name: str, orders: list[tuple[str, Side, int, bool]]) -> set[int]:
        """Every position that some of a market's orders, filled in some order, lead to."""
        mine = [o for o in orders if o[0] == name]
        found, todo = {(self.positions[name], frozenset(range(len(mine))))}, []
        todo += found
        while todo:
            position, left = todo.pop()
            for i in left:
                state = filled(position, mine[i], mine[i][2]), left - {i}
                if state not in found:
                    found.add(state)
                    todo.append(state)
        return {position for position, _ in found}

    def beta_usd(self, name: str, lots: int) -> Fraction:
        return Fraction(self.betas[name], PPM) * self.lot_usd[name] * lots

    def worst(self, orders: list[tuple[str, Side, int, bool]]) -> tuple[Fraction, Fraction]:
        """Largest net beta, and its largest negative."""
        each = [[self.beta_usd(n, p) for p in self.reachable(n, orders)] for n in self.positions]
        return sum((max(values) for values in each), Fraction(0)), -sum(
            (min(values) for values in each), Fraction(0)
        )


def filled(position: int, resting: tuple[str, Side, int, bool], lots: int) -> int:
    _, side, _, reduce_only = resting
    return position + side * (min(lots, max(0, -side * position)) if reduce_only else lots)


lots_of = st.integers(1, 4)
steps = st.one_of(
    st.tuples(st.just("order"), st.sampled_from(NAMES), st.sampled_from(Side), lots_of, st.booleans()),
    st.tuples(st.just("fill"), st.integers(0, 9), lots_of),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
)


@pytest.mark.slow
@given(
    positions=st.tuples(*[st.integers(-6, 6)] * 3),
    lots_usd=st.tuples(*[st.integers(8, 2_400).map(lambda eighths: Fraction(eighths, 8))] * 3),
    betas=st.tuples(*[st.sampled_from((0, 400_000, PPM, 1_333_333, 5 * PPM))] * 3),
    limit_usd=st.integers(1, 3_000),
    sequence=st.lists(steps, min_size=1, max_size=14),
)
def test_no_sequence_of_approvals_fills_and_cancels_passes_the_limit(
    positions, lots_usd, betas, limit_usd, sequence
):
    """Worst case and net beta stay within the limit, or where they began, but for what reduced a market.

    An approval is right where it is given and where it is refused; fills and cancels never raise either side.
    """
    world = World(*(dict(zip(NAMES, given, strict=True)) for given in (positions, lots_usd, betas)))
    manager = RiskManager(FREE, NetBetaSettings(float(limit_usd)))
    bounds = [max(Fraction(limit_usd), side) for side in world.worst([])]
    for step in sequence:
        before = world.worst(world.orders)
        if step[0] == "order":
            _, name, side, lots, reduce_only = step
            with_it = [*world.orders, (name, side, lots, reduce_only)]
            after = world.worst(with_it)
            side_of = 0 if side == Side.BUY else 1
            reduces = max(side * p for p in world.reachable(name, with_it)) <= 0
            decision = order(lots, reduce_only=reduce_only)
            result = manager.approve(SlotId(name, side, 0), decision, Portfolio(world.risks(), RICH), NOW)
            passes = reduces or betas[NAMES.index(name)] == 0 or after[side_of] <= limit_usd
            assert isinstance(result, Approved) == passes
            if passes:
                world.orders = with_it
                bounds[side_of] += (after[side_of] - before[side_of]) if reduces else 0
            else:
                assert result.reason == Reason.RISK_NET_BETA
        elif world.orders:
            resting = world.orders.pop(step[1] % len(world.orders))
            if step[0] == "fill":
                lots = min(step[2], resting[2])
                world.positions[resting[0]] = filled(world.positions[resting[0]], resting, lots)
                if resting[2] > lots:
                    world.orders.append((*resting[:2], resting[2] - lots, resting[3]))
            assert all(now <= was for now, was in zip(world.worst(world.orders), before, strict=True))
        worst = world.worst(world.orders)
        assert all(now <= bound for now, bound in zip(worst, bounds, strict=True))
        net = sum((world.beta_usd(n, p) for n, p in world.positions.items()), Fraction(0))
        assert -bounds[1] <= net <= bounds[0]
        assert tuple(Fraction(side, USD * PPM) for side in net_beta(world.risks())) == worst
