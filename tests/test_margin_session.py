"""Accounts too small for the quotes that the settings ask for."""

import pytest
from inside import BTC, Inside, assert_sound, in_virtual_time

from market_maker.domain import Reason

ALL = (BTC, "ETH-USD", "WIF-USD")


def play(deposit: str, markets=ALL):
    async def main():
        inside = Inside("mixed", markets, deposit=deposit)
        return inside, await inside.session(30.0, profile="crypto")

    return in_virtual_time(main)


def refused(run) -> set[str]:
    return {record["reason"] for record in run.records("refused")}


def quote_uptime(run, market: str) -> float:
    session = run.strategy.session
    return session.uptime[market].report(session.quoted_until_ns).quote_uptime


@pytest.mark.slow
@pytest.mark.parametrize("deposit", ["500", "100"])
def test_a_small_account_never_asks_for_what_it_can_not_pay(deposit):
    """Some levels are refused by us, with the reason; by the exchange only where a mark moved meanwhile."""
    inside, run = play(deposit)
    assert_sound(inside, run)
    too_dear = [record for record in run.records("rejected") if record["reason"].startswith("1140")]
    assert len(too_dear) <= 0.03 * len(run.gateway.made("place"))
    assert Reason.CIRCUIT_BREAKER.name not in {record["reason"] for record in run.records("halt")}
    assert Reason.RISK_MARGIN.name in refused(run)
    if deposit == "500":
        assert max(quote_uptime(run, market) for market in ALL) > 0.1


def test_leverage_is_asked_for_before_the_first_order():
    _, run = play("500", (BTC,))
    assert [call.what for call in run.gateway.made("leverage")] == [(BTC,)]
    assert run.gateway.made("leverage")[0].at_s < run.gateway.made("place")[0].at_s
