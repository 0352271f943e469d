"""How the exchange of one seed behaves where its documentation is silent, and how far away it is.

A client must be right under every answer: so each seed draws one.
"""

from typing import Final

import numpy as np

from market_maker.emulator.rules import (
    Delay,
    ExchangeRules,
    FailureStatus,
    LatencyRules,
    MoneyRules,
    OrderRules,
    StreamRules,
)

# Five minutes are an hour of funding: several payments, to either side.
_FUNDING_SPEEDUP: Final = 12.0
_MARK_INTERVAL_MS: Final = 5_000
# One way to the exchange, ms: next door, across a continent, from Europe to Tokyo as it is at times.
_WAYS_MS: Final = (20.0, 20.0, 80.0, 400.0)
_TAIL_SHARE: Final = 0.25
_FRAME_ORDERS: Final = (
    ("ORDER", "TRADE", "POSITION", "BALANCE"),
    ("TRADE", "ORDER", "BALANCE", "POSITION"),
    ("POSITION", "BALANCE", "TRADE", "ORDER"),
)


def draw_rules(seed: int, requests_per_minute: int) -> ExchangeRules:
    """Rules of one seed's exchange."""
    rng = np.random.default_rng([seed, 4])
    way_ms = _WAYS_MS[int(rng.integers(len(_WAYS_MS)))]
    way = Delay(way_ms, _TAIL_SHARE * way_ms)
    return ExchangeRules(
        latency=LatencyRules(
            request=way, reply=way, stream=way, stream_first_probability=float(rng.uniform(0.1, 0.9))
        ),
        orders=OrderRules(
            post_only_failure=FailureStatus.CANCELLED if rng.integers(2) else FailureStatus.REJECTED,
            requests_per_minute=requests_per_minute,
        ),
        money=MoneyRules(funding_speedup=_FUNDING_SPEEDUP),
        streams=StreamRules(
            mark_interval_ms=_MARK_INTERVAL_MS,
            fill_frame_order=_FRAME_ORDERS[int(rng.integers(len(_FRAME_ORDERS)))],
            closed_positions_sent=bool(rng.integers(2)),
            empty_deltas_sent=bool(rng.integers(2)),
        ),
    )
