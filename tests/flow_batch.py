"""The measures of order flow by their definitions, from all events up to each one: no running state.

An event is (ns, is_book, …): side, price, size of a trade, or the best quotes (bid, its size, ask, its size).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from market_maker.order_flow import OrderFlowSettings

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
GRIDS = {"BTC": (1.0, 1e-5), "ETH": (0.1, 1e-4), "SOL": (0.01, 0.01), "WLFI": (1e-5, 1.0)}


def recorded(folder: str, market: str, quotes: str, tick: float, step: float, first: int, count: int):
    """Events of a recorded market in the order in which they came, as rows; skips where it is absent."""
    pl = pytest.importorskip("polars")
    path = DATA / folder
    if not path.is_dir():
        pytest.skip(f"no recording at {path}")
    trades = pl.read_parquet(path / f"{market}_trades.parquet", columns=["recv", "side", "px", "sz"])
    columns = ["recv", "bid", "bid_sz", "ask", "ask_sz"]
    books = pl.read_parquet(path / f"{market}_{quotes}.parquet", columns=columns).drop_nulls()
    rows = np.zeros((len(trades) + len(books), 6), np.int64)
    rows[: len(trades), [0, 2]] = trades.select("recv", "side").to_numpy()
    rows[: len(trades), 3] = np.rint(trades["px"].to_numpy() / tick)
    rows[: len(trades), 4] = np.rint(trades["sz"].to_numpy() / step)
    rows[len(trades) :, 0] = books["recv"].to_numpy()
    rows[len(trades) :, 1] = 1
    for column, (name, unit) in enumerate(zip(columns[1:], (tick, step, tick, step), strict=True), 2):
        rows[len(trades) :, column] = np.rint(books[name].to_numpy() / unit)
    return rows[np.argsort(rows[:, 0], kind="stable")][first : first + count]


def possible(row) -> bool:
    """Whether an event could have happened."""
    _, is_book, a, b, c, d = (int(it) for it in row)
    limit = 2**53
    if is_book:
        return 0 < a <= c < limit and 0 < min(b, d) <= max(b, d) < limit
    return abs(a) <= 1 and 0 < b < limit and 0 < c < limit


@dataclass
class Flow:
    """What the events were, with the watched time that excludes gaps, and what follows at each of them."""

    settings: OrderFlowSettings
    rows: np.ndarray  # accepted events
    place: np.ndarray  # for each event given, how many were accepted by then
    watched_s: np.ndarray
    began: np.ndarray  # index of the first event since the last gap

    def __post_init__(self):
        count = range(len(self.rows))
        self.at_s = (self.rows[:, 0] - self.rows[0, 0]) / 1e9
        self.is_trade = self.rows[:, 1] == 0
        self.lots = np.where(self.is_trade, self.rows[:, 4], 0).astype(float)
        self.share = np.array([self._bought(i) if self.is_trade[i] else 0.0 for i in count])
        self.signed = self.lots * (2.0 * self.share - 1.0)
        self.event_lots = np.array([self._event_lots(i) for i in count], float)
        self.move_ticks = np.array([self._move_ticks(i) for i in count])
        self.warm = np.array([self.is_warm(i) for i in count])
        seconds = self.settings.flow_bucket_s
        self.bucket_lots = np.array([max(self.usual(i, seconds) - self._own(i, seconds), 1.0) for i in count])
        trades = np.flatnonzero(self.is_trade)
        repeats = (np.diff(self.rows[trades][:, [0, 2]], axis=0) == 0).all(axis=1)
        self.arrives = self.is_trade.copy()
        self.arrives[trades[1:][repeats]] = False

    def _own(self, n: int, seconds: float) -> float:
        """What the n-th event adds to the volume that usually trades in so many seconds."""
        return self.lots[n] / self.span_s(n) * seconds if self.watched_s[n] > 0.0 else 0.0

    def _weights(self, n: int, time_constant_s: float, *, slow: bool) -> np.ndarray:
        """What events up to the n-th still weigh at it: all of them (slow), or those since the last gap."""
        clock = self.watched_s if slow else self.at_s
        weights = np.exp((clock[: n + 1] - clock[n]) / time_constant_s)
        if not slow:
            weights[: self.began[n]] = 0.0
        return weights

    def _bought(self, i: int) -> float:
        side = self.rows[i, 2]
        if side:
            return float(side > 0)
        trades = np.flatnonzero(self.is_trade[: i + 1])
        prices, starts = self.rows[trades, 3], self.began[trades]
        known = starts[1:] == starts[:-1]
        if not known.any() or not known[-1]:
            return 0.5
        changes = np.diff(prices)[known]
        weights = self._weights(i, self.settings.flow_history_s, slow=True)[trades[1:][known]]
        sigma = math.sqrt((weights * changes**2).sum() / weights.sum())
        return 0.5 * (1.0 + math.erf(changes[-1] / sigma / math.sqrt(2.0))) if sigma > 0.0 else 0.5

    def _event_lots(self, i: int) -> int:
        books = np.flatnonzero(~self.is_trade[self.began[i] : i])
        if self.is_trade[i] or not len(books):
            return 0
        old_bid, old_bid_lots, old_ask, old_ask_lots = self.rows[self.began[i] + books[-1], 2:]
        bid, bid_lots, ask, ask_lots = self.rows[i, 2:]
        demand = (bid_lots if bid >= old_bid else 0) - (old_bid_lots if bid <= old_bid else 0)
        supply = (ask_lots if ask <= old_ask else 0) - (old_ask_lots if ask >= old_ask else 0)
        return int(demand - supply)

    def span_s(self, n: int) -> float:
        history_s = self.settings.flow_history_s
        return -history_s * math.expm1(-self.watched_s[n] / history_s)

    def is_warm(self, n: int) -> bool:
        return self.span_s(n) >= self.settings.flow_bucket_s * self.settings.flow_window_buckets

    def usual(self, n: int, seconds: float) -> float:
        weights = self._weights(n, self.settings.flow_history_s, slow=True)
        return weights @ self.lots[: n + 1] / self.span_s(n) * seconds if self.watched_s[n] > 0.0 else 0.0

    def tape(self, n: int) -> float:
        weights = self._weights(n, self.settings.flow_tau_s, slow=False)
        total = max(weights @ self.lots[: n + 1], self.usual(n, self.settings.flow_tau_s))
        return min(max(weights @ self.signed[: n + 1] / total, -1.0), 1.0) if total > 0.0 else 0.0

    def _move_ticks(self, n: int) -> float:
        weights = self._weights(n, self.settings.flow_tau_s, slow=False)
        books = np.flatnonzero(~self.is_trade[: n + 1])
        books = books[books >= self.began[n]]
        if not len(books):
            return 0.0
        shown = self.rows[books][:, [3, 5]].mean(axis=1)
        left = weights[books]
        # Each size counts from when it was shown to the next one; the first as if it always had been.
        counts = np.append(left[1:], 1.0) - left
        counts[0] += left[0]
        return float(weights @ self.event_lots[: n + 1] / (2.0 * (counts @ shown)))

    def quotes(self, n: int) -> float:
        tau_s = self.settings.flow_tau_s
        steps = np.arange(1, n + 1)[self.began[1 : n + 1] == self.began[:n]]
        held_s = 0.5 * tau_s * -np.expm1(-2.0 * (self.at_s[steps] - self.at_s[steps - 1]) / tau_s)
        weights = self._weights(n, self.settings.flow_history_s, slow=True)[steps]
        squares = weights @ (self.move_ticks[steps - 1] ** 2 * held_s)
        if squares <= 0.0:
            return 0.0
        return math.tanh(0.5 * self.move_ticks[n] / math.sqrt(squares / self.span_s(n)))

    def balance(self, n: int) -> float:
        kernel_s = self.settings.flow_arrival_s
        recent = self._weights(n, kernel_s, slow=False) * self.arrives[: n + 1]
        usual = self._weights(n, self.settings.flow_history_s, slow=True) * self.arrives[: n + 1]
        eager = []
        for share in (self.share[: n + 1], 1.0 - self.share[: n + 1]):
            rate = usual @ share / self.span_s(n) if self.watched_s[n] > 0.0 else 0.0
            eager.append(0.4 + 0.6 * (recent @ share) / kernel_s / rate if rate > 0.0 else 1.0)
        return (eager[0] - eager[1]) / (eager[0] + eager[1])

    def warm_trades(self, n: int) -> np.ndarray:
        """Give the trades since the last gap that went into buckets."""
        trades = np.flatnonzero(self.is_trade[: n + 1] & self.warm[: n + 1])
        return trades[trades >= self.began[n]]

    def volume_imbalance(self, n: int) -> float:
        trades = self.warm_trades(n)
        spent = self.lots[trades] / self.bucket_lots[trades]
        later = spent.sum() - np.cumsum(spent)
        return float((2.0 * self.share[trades] - 1.0) @ (-np.expm1(-spent) * np.exp(-later)))

    def toxicity(self, n: int) -> float:
        """From cumulative volume, cut at the buckets' borders."""
        trades = self.warm_trades(n)
        ends = np.cumsum([0.0, *self.lots[trades]])
        net = np.cumsum([0.0, *self.signed[trades]])
        borders = [0.0]
        while borders[-1] < ends[-1]:
            began = np.searchsorted(ends, borders[-1], "right") - 1
            borders.append(borders[-1] + self.bucket_lots[trades[began]])
        closed = np.searchsorted(borders, ends[-1] * (1.0 + 1e-12), "right") - 1
        first = max(closed - self.settings.flow_window_buckets, 0)
        if closed == 0:
            return 0.0
        sums = np.interp(borders[first : closed + 1], ends, net)
        return float(np.abs(np.diff(sums)).sum() / (borders[closed] - borders[first]))


def flow_of(settings: OrderFlowSettings, rows: np.ndarray) -> Flow | None:
    """The accepted events: those that could have happened, in order but for jumps as wide as a gap."""
    accepted, place, watched_s, began = [], [], [], []
    for row in rows:
        last = accepted[-1] if accepted else None
        elapsed_s = (row[0] - last[0]) / 1e9 if last is not None else 0.0
        gap = last is None or abs(elapsed_s) > settings.flow_gap_reset_s
        if possible(row) and (gap or elapsed_s >= 0.0):
            began.append(len(accepted) if gap else began[-1])
            watched_s.append((watched_s[-1] if watched_s else 0.0) + (0.0 if gap else elapsed_s))
            accepted.append(row)
        place.append(len(accepted) - 1)
    if not accepted:
        return None
    return Flow(settings, np.array(accepted), np.array(place), np.array(watched_s), np.array(began))
