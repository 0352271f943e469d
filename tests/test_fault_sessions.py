"""A minute of quoting with each fault on from 15 s to 35 s: nothing left open, no breach, quoting again."""

import pytest
from inside import Inside, assert_sound, in_virtual_time

from market_maker.domain import Reason, Side
from market_maker.emulator.faults import MEANINGS, parse_fault

MARKETS = ("BTC-USD", "ETH-USD", "WIF-USD")
END_S, AGAIN_S, SAMPLE_S = 35.0, 10.0, 0.25
# A quote may be missing because the market forbids it; that is no fault of the recovery.
SOFT = frozenset(
    {
        Reason.EXTREME_REGIME,
        Reason.TOXIC_VOLATILITY,
        Reason.TOXIC_DRIFT,
        Reason.JUMP,
        Reason.IMBALANCE,
        Reason.STRONG_TREND,
        Reason.POST_ONLY_BACKOFF,
    }
)
# `post_only_after_s` is nothing without a maintenance, and the tail is tried with its base; others need
# something to be stale or late about.
SPECS = {
    name: {
        "latency_tail_ms": "extra_latency_ms,latency_tail_ms",
        "post_only_after_s": "maintenance,post_only_after_s=3",
        "stale_lookups": "lost_replies,stale_lookups",
        "stale_snapshots": "close_streams,stale_snapshots",
        "late_fills": "close_streams,late_fills",
    }.get(name, name)
    for name in MEANINGS
}


def sides_to_see(inside, strategy) -> set[tuple[str, Side]]:
    """Sides on which something rests at the exchange, or the market forbids it."""
    resting = {(order.market, order.side) for order in inside.account.open.values()}
    gated = {
        (slot.market, slot.side)
        for desk in strategy.session.desks.values()
        for slot, reason in desk.reasons.items()
        if reason in SOFT
    }
    return resting | gated


def session_with(fault: str, seed: int = 1):
    """A session with a fault; when each side was seen again after it, s from its end."""
    again: dict[tuple[str, Side], float] = {}

    async def main():
        inside = Inside("calm", MARKETS, seed)
        inside.exchange.plan_faults([parse_fault(f"{fault}@15+20")])

        async def during(strategy):
            at_s = END_S
            while at_s < END_S + 2 * AGAIN_S:
                await inside.until(at_s)
                for side in sides_to_see(inside, strategy):
                    again.setdefault(side, at_s - END_S)
                at_s += SAMPLE_S

        return inside, await inside.session(60.0, during=during)

    return *in_virtual_time(main), again


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_session_outlives_a_fault_and_quotes_again_within_ten_seconds(name):
    inside, run, again = session_with(SPECS[name])
    assert inside.exchange.fault_counts[name] > 0
    assert_sound(inside, run)
    for market in MARKETS:
        assert run.strategy.session.ledger.counts(market).limit_breaches == 0
    assert set(again) == {(market, side) for market in MARKETS for side in Side}
    assert max(again.values()) <= AGAIN_S
