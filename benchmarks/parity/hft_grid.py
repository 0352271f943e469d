"""The grid market maker of hftbacktest's tutorial, timed in its own environment.

20 orders a side, ten ticks apart, from 20 ticks off the mid, looked at ten times a second; what is no longer
in the grid is cancelled. Power queue model, hash-map depth, no partial fills; constant latency.
`hft_grid.py EVENTS TICK REPEATS LATENCY_NS` prints JSON; what is compiled is compiled before.
"""

import json
import sys
from time import process_time
from typing import Any

import numpy as np
from hftbacktest import BUY, GTX, LIMIT, SELL, BacktestAsset, HashMapMarketDepthBacktest, Recorder
from numba import njit, uint64
from numba.typed import Dict

_GRID = 20
_STEP_NS = 100_000_000
_BUY, _SELL = BUY, SELL
_WAITS = False
_LOT = 0.001
_GAP_NS = 1_000_000_000


@njit
def _grid(first: float, step: float, wanted: bool, tick: float) -> Any:  # noqa: ANN401, FBT001  (a typed dict)
    """Prices of a side by their ticks, which are the orders' ids."""
    prices = Dict.empty(np.uint64, np.float64)
    if wanted and np.isfinite(first):
        for i in range(_GRID):
            price = first + i * step
            prices[uint64(round(price / tick))] = price
    return prices


@njit
def grid_trading(hbt: Any, recorder: Any, quantity: float, most: float) -> int:  # noqa: ANN401
    """Quote until the data end; the number of requests."""
    tick = hbt.depth(0).tick_size
    interval, half, requests = 10 * tick, 20 * tick, 0
    while hbt.elapse(_STEP_NS) == 0:
        hbt.clear_inactive_orders(0)
        depth, position, orders = hbt.depth(0), hbt.position(0), hbt.orders(0)
        mid = (depth.best_bid + depth.best_ask) / 2.0
        first_bid = np.floor((mid - half) / interval) * interval
        first_ask = np.ceil((mid + half) / interval) * interval
        bids = _grid(first_bid, -interval, position < most, tick)
        asks = _grid(first_ask, interval, position > -most, tick)
        values = orders.values()
        while values.has_next():
            order = values.get()
            gone = (order.side == _BUY and order.order_id not in bids) or (
                order.side == _SELL and order.order_id not in asks
            )
            if gone and order.cancellable:
                hbt.cancel(0, order.order_id, _WAITS)
                requests += 1
        for order_id, price in bids.items():
            if order_id not in orders:
                hbt.submit_buy_order(0, order_id, price, quantity, GTX, LIMIT, _WAITS)
                requests += 1
        for order_id, price in asks.items():
            if order_id not in orders:
                hbt.submit_sell_order(0, order_id, price, quantity, GTX, LIMIT, _WAITS)
                requests += 1
        recorder.record(hbt)
    return requests


def repeated(events: Any, count: int) -> Any:  # noqa: ANN401  (theirs have no types)
    """Their events one time after the other, a second between them."""
    last_ns = max(int(events["exch_ts"].max()), int(events["local_ts"].max()))
    span_ns = last_ns - int(events["exch_ts"].min()) + _GAP_NS
    pieces = []
    for i in range(count):
        piece = events.copy()
        piece["exch_ts"] += i * span_ns
        piece["local_ts"] += i * span_ns
        pieces.append(piece)
    return np.concatenate(pieces)


def _play(events: Any, tick: float, latency_ns: int) -> dict[str, float]:  # noqa: ANN401
    asset = (
        BacktestAsset()
        .data([events])
        .linear_asset(1.0)
        .constant_order_latency(latency_ns, latency_ns)
        .power_prob_queue_model(2.0)
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.00025)
        .tick_size(tick)
        .lot_size(_LOT)
    )
    recorder = Recorder(1, 1_000_000)
    hbt = HashMapMarketDepthBacktest([asset])
    begun = process_time()
    requests = grid_trading(hbt, recorder.recorder, 0.1, 5.0)
    seconds = process_time() - begun
    fills = hbt.state_values(0).num_trades
    hbt.close()
    return {"seconds": seconds, "requests": requests, "fills": int(fills)}


def main() -> None:
    """Play a little to compile, then all of it."""
    path, tick, count, latency_ns = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    events = np.load(path)
    _play(events[:20_000], tick, latency_ns)
    result = _play(repeated(events, count), tick, latency_ns)
    levels = int(((events["ev"] & 0xFF != 2) & (events["ev"] & (1 << 31) != 0)).sum())
    sys.stdout.write(json.dumps(result | {"level_updates": count * levels}) + "\n")


if __name__ == "__main__":
    main()
