"""Limits, halts and money of a session, against the exchange's own books."""

from decimal import Decimal

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time, rules

from market_maker.domain import Reason, Side
from market_maker.gateway import OutcomeUnknown

ALL = (BTC, "ETH-USD", "WIF-USD")


def play(seconds, *settings, scenario="mixed", markets=(BTC,), seed=1, exchange_rules=None, **how):
    async def main():
        inside = Inside(scenario, markets, seed, exchange_rules)
        return inside, await inside.session(seconds, *settings, **how)

    return in_virtual_time(main)


def limit_lots(run, market: str) -> int:
    """The position limit of a market by the settings, at its lowest mark, with a lot to spare."""
    session = run.strategy.session
    desk = session.desks[market]
    return int(session.limit_usd(market) / (desk.mark * desk.instrument.step) * Decimal("1.02"))


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["crypto", "legacy"])
@pytest.mark.parametrize(("scenario", "seed"), [("mixed", 3), ("crash", 1), ("crash", 2), ("trend", 4)])
def test_no_fill_takes_a_position_past_the_limit(profile, scenario, seed):
    """Lesson 2, by the exchange's own books: a limit of two levels, that the flow would gladly pass."""
    inside, run = play(
        25.0,
        "max_position_notional_usd=1500",
        scenario=scenario,
        markets=ALL,
        seed=seed,
        profile=profile,
    )
    assert_sound(inside, run)
    for market in ALL:
        limit = limit_lots(run, market)
        assert inside.account.worst_lots.get(market, 0) <= limit
        assert inside.account.limit_breaches(market, limit) == 0
        assert run.strategy.session.ledger.counts(market).limit_breaches == 0


@pytest.mark.parametrize("side", list(Side))
def test_over_the_limit_only_reducing_orders_remain(side):
    """Lesson 1: reducing is always allowed."""

    async def main():
        inside = Inside("calm")
        await inside.until(0.5)
        await inside.order(side, inside.best(Side(-side)) + side * 300, 3_000)
        return inside, await inside.session(12.0, "max_position_notional_usd=1200")

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    placed = [call.what for call in run.gateway.made("place")]
    assert placed
    sides = {order.side for order in placed if order.reduce_only}
    assert sides == {Side(-side)}
    first = placed[0]
    assert first.side == -side


def test_a_drawdown_leaves_reducing_orders_only_and_says_why():
    seen = {}

    async def main():
        inside = Inside("calm")
        await inside.until(0.5)
        await inside.order(Side.BUY, inside.best(Side.SELL) + 300, 2_000)

        async def during(strategy):
            await inside.until(4.0)
            assert len(inside.account.open) > 1
            # The limit falls below what the position may have lost already.
            settings = strategy.session.risk
            equity = strategy.session.ledger.equity()
            settings.on_equity(int((equity + 2_000) * 10**12), inside.clock.now_ns())
            await inside.until(6.0)
            desk = strategy.session.desks[BTC]
            seen["reasons"] = {slot.side: reason for slot, reason in desk.reasons.items()}
            seen["open"] = [order.side * order.remaining_lots for order in inside.account.open.values()]
            seen["position"] = inside.account.position_lots(BTC)
            seen["limits"] = strategy.session.limits[BTC]

        return inside, await inside.session(9.0, "kill_drawdown=0,0,0,0,0", during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert seen["limits"] == (0, 0)
    assert seen["reasons"][Side.BUY] is Reason.RISK_DRAWDOWN
    # What rests can not carry the position past flat.
    assert seen["open"]
    assert all(lots < 0 for lots in seen["open"])
    assert sum(seen["open"]) + seen["position"] >= 0
    assert "RISK_DRAWDOWN" in [halt["reason"] for halt in run.records("halt")]
    late = [call.what for call in run.gateway.made("place") if call.at_s > 5.5]
    assert all(order.side is Side.SELL for order in late)


def test_a_drawdown_in_a_market_without_events_is_acted_upon_all_the_same():
    async def main():
        inside = Inside("flat")

        async def during(strategy):
            await inside.until(4.0)
            inside.driver.losing = {"mark", "POSITION", "BALANCE"}
            equity = strategy.session.ledger.equity()
            strategy.session.risk.on_equity(int((equity + 2_000) * 10**12), inside.clock.now_ns())
            await inside.until(6.0)
            assert inside.open_ids() == []

        return inside, await inside.session(7.0, "kill_drawdown=0,0,0,0,0", during=during)

    inside, run = in_virtual_time(main)
    assert run.error is None
    assert inside.open_ids() == []


@pytest.mark.slow
@pytest.mark.parametrize("lost_answers", [0, 3])
def test_funding_is_booked_to_the_last_digit(lost_answers):
    async def main():
        inside = Inside("mixed", ALL, exchange_rules=rules(money={"funding_speedup": 360.0}))

        async def during(strategy):
            await inside.until(9.5)
            errors = [OutcomeUnknown("no answer")] * lost_answers
            strategy.session.gateway.fail["funding_payments"].extend(errors)

        return inside, await inside.session(45.0, during=during)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    assert len(inside.account.payments) >= 4
    for market in ALL:
        paid = sum(payment.amount for payment in inside.account.payments if payment.market == market)
        assert run.strategy.session.ledger.attribution(market).funding == paid


def test_uptime_ends_with_quoting_and_not_with_the_session():
    async def main():
        inside = Inside("calm")

        async def during(strategy):
            await inside.until(8.0)
            strategy.stop.ask("a test")

        return inside, await inside.session(
            20.0, "stop_action=reduce", "stop_reduce_s=30", "level_size_usd=500", during=during
        )

    _, run = in_virtual_time(main)
    session = run.strategy.session
    report = session.uptime[BTC].report(session.quoted_until_ns)
    assert report.end_ns == session.quoted_until_ns
    assert abs(session.quoted_until_ns - session.started_ns - 7.7e9) < 0.4e9
    assert "STOPPING" not in report.pauses


def test_fills_of_an_order_are_judged_by_the_limit_under_which_it_went_out():
    async def main():
        inside = Inside("calm")
        seen = {}

        async def during(strategy):
            await inside.until(3.0)
            session = strategy.session
            before = session.limits[BTC]
            session.limits[BTC] = (0, 0)
            order = next(o for o in inside.account.open.values() if o.side is Side.BUY)
            await inside.order(Side.SELL, order.price_ticks, order.lots + 10**6, account_id=inside.other_id)
            await inside.until(3.3)
            seen["before"], seen["position"] = before, session.ledger.position_lots(BTC)
            seen["breaches"] = session.ledger.counts(BTC).limit_breaches

        await inside.session(5.0, during=during)
        return seen

    seen = in_virtual_time(main)
    assert seen["before"][0] >= seen["position"] > 0
    assert seen["breaches"] == 0


def test_a_market_that_does_not_exist_ends_the_opening():
    async def main():
        inside = Inside()
        inside.markets = (BTC, "NO-USD")
        return await inside.session(5.0)

    run = in_virtual_time(main)
    assert "NO-USD" in str(run.error)
    assert run.tasks_left == 0
