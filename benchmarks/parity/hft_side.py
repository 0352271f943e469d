"""Runs the grid in hftbacktest, in its own environment: `convert` makes events, `run` plays the settings.

What it finds is written beside the events: `<market>.npy` the converted events, `<market>.theirs.npz` the
journal of submits, cancels, fills and rejections and the cash of each setting.
"""

import sys
from pathlib import Path
from typing import Any

import grid
import numpy as np
from hftbacktest import (
    BUY,
    EXPIRED,
    FILLED,
    GTX,
    LIMIT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
)
from hftbacktest.data.utils import binancefutures
from numba import njit

_ROWS = 3_000_000
_BUY = BUY
_FILLED = FILLED
_EXPIRED = EXPIRED
_WAITS = False
_UNIT = float(grid.STEPS_PER_UNIT)


@njit
def _lots(quantity: float) -> int:
    return int(np.floor(quantity * _UNIT + 0.5))


@njit
def _note(journal: Any, count: int, kind: int, ns: int, order: Any) -> int:  # noqa: ANN401  (arrays and records)
    row = journal[count]
    row.kind = kind
    row.ns = ns
    row.side, row.ticks, row.lots = order
    return count + 1


@njit
def _hear(hbt: Any, journal: Any, count: int) -> int:  # noqa: ANN401
    """Write down what ended since the last step, and forget it."""
    values = hbt.orders(0).values()
    while values.has_next():
        order = values.get()
        side = 1 if order.side == _BUY else -1
        if order.status == _FILLED:
            lots = _lots(order.exec_qty)
            count = _note(
                journal, count, grid.FILL, order.exch_timestamp, (side, order.exec_price_tick, lots)
            )
        elif order.status == _EXPIRED:
            lots = _lots(order.qty)
            count = _note(journal, count, grid.EXPIRED, order.exch_timestamp, (side, order.price_tick, lots))
    hbt.clear_inactive_orders(0)
    return count


@njit
def _cancel(hbt: Any, setting: Any, journal: Any, count: int, wanted: Any) -> int:  # noqa: ANN401
    """Cancel what is not in the grid."""
    values = hbt.orders(0).values()
    while values.has_next():
        order = values.get()
        side = 1 if order.side == _BUY else -1
        first, number = wanted[0] if side > 0 else wanted[1]
        if order.cancellable and not grid.is_wanted(setting, side, first, number, order.price_tick):
            lots = _lots(order.qty)
            count = _note(journal, count, grid.CANCEL, hbt.current_timestamp, (side, order.price_tick, lots))
            hbt.cancel(0, order.order_id, _WAITS)
    return count


@njit
def _submit(hbt: Any, setting: Any, journal: Any, count: int, side: int, want: Any) -> int:  # noqa: ANN401
    """Post what the grid lacks; the price is an order's id."""
    orders, tick = hbt.orders(0), hbt.depth(0).tick_size
    first, number = want
    qty = setting.order_lots / _UNIT
    for i in range(number):
        ticks = first - side * i * setting.interval_ticks
        if np.uint64(ticks) in orders:
            continue
        if side > 0:
            hbt.submit_buy_order(0, np.uint64(ticks), ticks * tick, qty, GTX, LIMIT, _WAITS)
        else:
            hbt.submit_sell_order(0, np.uint64(ticks), ticks * tick, qty, GTX, LIMIT, _WAITS)
        count = _note(journal, count, grid.SUBMIT, hbt.current_timestamp, (side, ticks, setting.order_lots))
    return count


@njit
def play(hbt: Any, setting: Any, journal: Any, stop_ns: int) -> int:  # noqa: ANN401
    """Decide at every step up to an instant; the number of lines in the journal."""
    count = 0
    if hbt.elapse(grid.START_NS) != 0:
        return -1
    while hbt.current_timestamp + setting.step_ns <= stop_ns:
        if hbt.elapse(setting.step_ns) != 0:
            return -1
        count = _hear(hbt, journal, count)
        depth = hbt.depth(0)
        bid, ask = depth.best_bid_tick, depth.best_ask_tick
        # Their position is a sum of floats.
        lots = _lots(hbt.position(0))
        first_bid, first_ask = grid.first_prices(setting, bid, ask, lots)
        buys = (first_bid, grid.count_on(setting, 1, lots))
        sells = (first_ask, grid.count_on(setting, -1, lots))
        count = _cancel(hbt, setting, journal, count, (buys, sells))
        count = _submit(hbt, setting, journal, count, 1, buys)
        count = _submit(hbt, setting, journal, count, -1, sells)
    return count


def asset(events: Any, setting: Any, tick: float) -> Any:  # noqa: ANN401  (theirs has no types)
    """Build one market with the queue model and latencies of a setting."""
    made = (
        BacktestAsset()
        .data([events])
        .linear_asset(1.0)
        .constant_order_latency(int(setting["entry_ns"]), int(setting["reply_ns"]))
        .no_partial_fill_exchange()
        .trading_value_fee_model(grid.MAKER_FEE, grid.TAKER_FEE)
        .tick_size(tick)
        .lot_size(1.0 / grid.STEPS_PER_UNIT)
    )
    if setting["queue"] == grid.RISK_AVERSE:
        return made.risk_adverse_queue_model()
    return made.power_prob_queue_model(float(setting["power"]))


def convert(source: Path, target: Path) -> None:
    """Write the events of a collector's file as their converter makes them."""
    np.save(target, binancefutures.convert(str(source), buffer_size=_ROWS))


def run(market: grid.Market, folder: Path, count: int) -> None:
    """Play all settings, one after the other."""
    events = np.load(folder / f"{market.name}.npy")
    stop_ns = int(events["exch_ts"].max()) - grid.END_NS
    journal = np.zeros(_ROWS, grid.JOURNAL_DTYPE)
    journals, cash = [], np.zeros((count, 2))
    for k, setting in enumerate(grid.settings_of(market, count)):
        hbt = HashMapMarketDepthBacktest([asset(events, setting, market.tick)])
        lines = play(hbt, setting, journal, stop_ns)
        if lines < 0:
            raise SystemExit(f"hftbacktest: expected data up to {stop_ns}, was the end of them")
        state = hbt.state_values(0)
        cash[k] = state.balance, state.fee
        journal["setting"][:lines] = k
        journals.append(journal[:lines].copy())
        hbt.close()
    np.savez(folder / f"{market.name}.theirs.npz", journal=np.concatenate(journals), cash=cash)


def main() -> None:
    """Do `convert SOURCE TARGET` or `run MARKET FOLDER COUNT`."""
    if sys.argv[1] == "convert":
        convert(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        market = next(m for m in grid.MARKETS if m.name == sys.argv[2])
        run(market, Path(sys.argv[3]), int(sys.argv[4]))


if __name__ == "__main__":
    main()
