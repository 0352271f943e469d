"""The grid market maker that both engines run: its settings, what it decides, what each engine writes down.

Nothing but numpy and numba: the module is imported in both environments. Both engines find their own way
through the market; shared are the prices of a grid, so that a difference is one of the engines.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit

NS_PER_MS: Final = 1_000_000
SETTINGS: Final = 64
# Binance's first second holds the snapshot: nobody rests before it.
START_NS: Final = 1_000 * NS_PER_MS
END_NS: Final = 100 * NS_PER_MS
STEPS_PER_UNIT: Final = 1000
MAKER_FEE: Final = 0.0002
TAKER_FEE: Final = 0.0005

RISK_AVERSE: Final = 0
POWER: Final = 1

SUBMIT: Final = 0
CANCEL: Final = 1
FILL: Final = 2
EXPIRED: Final = 3
KINDS: Final = ("submits", "cancels", "fills", "rejections")

SETTING_DTYPE: Final = np.dtype(
    [
        ("levels", np.int64),  # orders a side
        ("interval_ticks", np.int64),
        ("half_ticks", np.float64),  # from the mid to the nearest order
        ("skew_ticks", np.float64),  # down by this for each order's size that is held
        ("order_lots", np.int64),
        ("max_lots", np.int64),
        ("step_ns", np.int64),  # between two decisions
        ("entry_ns", np.int64),  # to the exchange
        ("reply_ns", np.int64),
        ("queue", np.int64),
        ("power", np.float64),
    ],
    align=True,
)
JOURNAL_DTYPE: Final = np.dtype(
    [
        ("setting", np.int64),
        ("kind", np.int64),
        ("ns", np.int64),  # of a fill and a rejection: at the exchange
        ("side", np.int64),
        ("ticks", np.int64),
        ("lots", np.int64),
    ],
    align=True,
)


class Market(NamedTuple):
    """A recorded market: file of the collector, tick, widths that suit its spread (ticks)."""

    name: str
    tick: float
    halves: tuple[float, ...]
    intervals: tuple[int, ...]


MARKETS: Final = (
    Market("btcusdt", 0.1, (0.5, 2.0, 5.0, 20.0, 100.0), (1, 2, 5, 10, 50)),
    Market("ethusdt", 0.01, (0.5, 1.0, 3.0, 10.0, 50.0), (1, 2, 5, 10, 20)),
)


def settings_of(market: Market, count: int) -> np.ndarray[Any, Any]:
    """Settings drawn from widths, sizes, steps and latencies; the same every time."""
    rng = np.random.default_rng(2024)
    rows = np.zeros(count, SETTING_DTYPE)
    for k in range(count):
        row = rows[k]
        row["levels"] = rng.choice([1, 2, 5, 10, 20])
        row["interval_ticks"] = rng.choice(market.intervals)
        row["half_ticks"] = rng.choice(market.halves)
        row["skew_ticks"] = rng.choice([0.0, 0.1, 0.5, 2.0])
        row["order_lots"] = rng.choice([1, 10, 100, 1000])
        row["max_lots"] = row["order_lots"] * rng.choice([2, 5, 20])
        row["step_ns"] = rng.choice([50, 100, 137, 500]) * NS_PER_MS
        row["entry_ns"] = rng.choice([1, 5, 10, 60, 250]) * NS_PER_MS + k
        row["reply_ns"] = rng.choice([1, 5, 10, 60, 250]) * NS_PER_MS
        row["queue"] = k % 2
        row["power"] = rng.choice([1.0, 2.0, 3.0])
    return rows


@njit
def first_prices(setting: Any, bid_ticks: int, ask_ticks: int, lots: int) -> tuple[int, int]:  # noqa: ANN401  (a record)
    """Nearest prices of the grid on both sides, ticks; what would take is left to the exchange to refuse."""
    middle = (bid_ticks + ask_ticks) / 2.0 - setting.skew_ticks * (lots / setting.order_lots)
    interval = setting.interval_ticks
    bid = int(np.floor((middle - setting.half_ticks) / interval)) * interval
    ask = int(np.ceil((middle + setting.half_ticks) / interval)) * interval
    return bid, ask


@njit
def count_on(setting: Any, side: int, lots: int) -> int:  # noqa: ANN401  (a record)
    """Orders wanted on a side: none where the position is at its limit."""
    return setting.levels if side * lots < setting.max_lots else 0


@njit
def is_wanted(setting: Any, side: int, first: int, count: int, ticks: int) -> bool:  # noqa: ANN401  (a record)
    """Whether a price belongs to the grid of a side."""
    away = side * (first - ticks)
    return 0 <= away < count * setting.interval_ticks and away % setting.interval_ticks == 0
