"""Status and summary of a session, beside what the session and the exchange know."""

from decimal import Decimal
from pathlib import Path

import pytest
from inside import BTC, Inside, in_virtual_time

from market_maker.domain import Side
from market_maker.session_report import market_status, status_of, summary_of

WIF = "WIF-USD"


def status(strategy, state):
    markets = [
        market_status(strategy.session, strategy.orders, desk) for desk in strategy.session.desks.values()
    ]
    return status_of(strategy.session, state, Path("j.jsonl"), markets)


def watched(at_s=6.0, seconds=8.0, scenario="mixed"):
    """A session, its status amid quoting, and what the exchange had then."""

    async def main():
        inside = Inside(scenario, (BTC, WIF))
        seen = {}

        async def during(strategy):
            await inside.until(at_s)
            seen["status"] = status(strategy, "QUOTING")
            seen["open"] = {
                (order.market, order.side.name, f"{order.request.price:f}")
                for order in inside.account.open.values()
            }

        run = await inside.session(seconds, during=during)
        return inside, run, seen

    return in_virtual_time(main)


def test_the_status_shows_the_quotes_that_rest_and_a_reason_for_every_slot():
    _, _, seen = watched()
    quotes = [(market.market, quote) for market in seen["status"].markets for quote in market.quotes]
    resting = {(name, q.side, q.price) for name, q in quotes if q.price}
    assert resting
    assert resting <= seen["open"]
    assert all(quote.reason for _, quote in quotes)
    assert all(quote.size for _, quote in quotes if quote.price)


def test_the_status_at_the_end_agrees_with_the_exchange():
    inside, run, _ = watched()
    at_end = status(run.strategy, "STOPPED")
    instruments = {name: inside.exchange.venue.markets[name].instrument for name in (BTC, WIF)}
    for market in at_end.markets:
        lots = inside.account.position_lots(market.market)
        assert Decimal(market.position) == instruments[market.market].size(lots)
        assert market.halt == "STOPPING"
        assert not any(quote.price for quote in market.quotes)
    trades = len(inside.account.trades)
    assert sum(market.fills for market in at_end.markets) == trades


@pytest.mark.slow
def test_the_summary_counts_what_the_exchange_counts():
    inside, run, _ = watched(seconds=25.0)
    for summary in summary_of(run.strategy.session, run.strategy.orders, "emulator"):
        trades = [trade for trade in inside.account.trades if trade.market == summary.market]
        assert summary.fills.buys == sum(trade.side is Side.BUY for trade in trades)
        assert summary.fills.sells == sum(trade.side is Side.SELL for trade in trades)
        instrument = inside.exchange.venue.markets[summary.market].instrument
        volume = sum(instrument.value(trade.price_ticks, trade.lots) for trade in trades)
        assert summary.fills.volume_usd == volume
        assert summary.fill_model == "emulator"
        placed = [c.what for c in run.gateway.made("place") if c.what.market == summary.market]
        assert summary.orders.placed == sum(not order.replaces for order in placed)
        assert summary.orders.replaced == sum(bool(order.replaces) for order in placed)
        assert summary.open_orders_at_end == 0
        assert summary.inventory.limit_breaches == 0
        assert abs(summary.inventory.end) <= summary.inventory.max_abs <= summary.inventory.limit
        assert summary.events > 0
        assert 0 < summary.decision_p50_us <= summary.decision_p99_us
        # From the first quote to the end of quoting.
        assert 24.0 < summary.seconds < 25.0
        shares = [summary.uptime.quote_uptime, *summary.uptime.one_sided.values()]
        assert abs(sum(shares) + sum(summary.uptime.pauses.values()) - 1.0) < 1e-9
