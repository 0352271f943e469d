"""Ticks and steps that are no powers of ten, through whole sessions: filled and booked to the last digit."""

from decimal import Decimal

import pytest
from emulator_flows import ScriptedFlow
from inside import START_NS, Inside, assert_sound, in_virtual_time

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.flow import LevelChange, TakerOrder
from market_maker.instrument import Instrument

NAME = "ODD-USD"
SECONDS = 40
DEPTH = 6


def scripted(instrument: Instrument, mid_ticks: int, lots: int) -> ScriptedFlow:
    """A market two ticks wide that steps up and down by a tick; each half second a taker sweeps a side."""
    flow = ScriptedFlow(NAME, str(instrument.price(mid_ticks)))
    shown: dict[tuple[Side, int], int] = {}
    for half_second in range(2 * SECONDS):
        at_ns = START_NS + half_second * NS_PER_S // 2
        mid = mid_ticks + half_second // 20 % 2
        wanted = {
            (side, mid - side * distance): lots + (half_second + distance) % 3
            for side in Side
            for distance in range(1, DEPTH)
        }
        gone = [LevelChange(*level, 0) for level in shown if level not in wanted]
        flow.feed(at_ns, *gone, *(LevelChange(*level, size) for level, size in wanted.items()))
        shown = wanted
        side = Side.BUY if half_second % 4 < 2 else Side.SELL
        flow.feed(
            at_ns + NS_PER_S // 4, TakerOrder(side, mid + side * max(2, mid_ticks // 500), DEPTH * lots)
        )
    return flow


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tick", "step", "least", "mid_ticks", "lots"),
    [
        ("0.25", "0.003", "0.006", 4_000, 2_000),
        ("5", "0.7", "0.7", 60, 30),
        ("0.00025", "7", "50", 40_003, 1_100),
        ("0.3", "0.00011", "0.00011", 210_000, 90_001),
    ],
)
def test_a_session_on_an_odd_grid(tick, step, least, mid_ticks, lots):
    instrument = Instrument(NAME, Decimal(tick), Decimal(step), Decimal(least))

    async def main():
        flow = scripted(instrument, mid_ticks, lots)
        inside = Inside(markets=(NAME,), flows=[flow], listed=[instrument])
        return inside, await inside.session(SECONDS - 2.0)

    inside, run = in_virtual_time(main)
    assert_sound(inside, run)
    trades = inside.account.trades
    assert {trade.side for trade in trades} == set(Side)
    assert not any(trade.is_taker for trade in trades)
    # A fill on its way may leave less to reduce than an order was made for; nothing else is refused.
    refusals = {record["reason"].partition(":")[0] for record in run.records("rejected")}
    assert refusals <= {"POST_ONLY_FAILED", "1136", "1137", "1138"}
    placed = [call.what for call in run.gateway.made("place")]
    assert min(order.size_lots for order in placed) >= instrument.min_lots
