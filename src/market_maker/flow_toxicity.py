"""How one-sided the flow is, by the clock of volume, and how unusual that is for this market.

Traded volume fills buckets; a trade is split across their borders. Toxicity is the volume that found no
counter-flow in the last buckets, as a share of theirs: Σ|bought − sold| / Σ volume (Easley, López de Prado
and O'Hara 2012; models.md, section 6). A bucket holds what usually trades in a set time, as it was when it
was opened, so that the measure suits any market and follows its day.

Where the taker's side is known the trade counts on that side. Where it is not, the share Φ(ΔP/σ) of it was
bought, ΔP the change of the trade price and σ its running root mean square. That is the weaker rule
(Andersen and Bondarenko 2014), meant for recordings that lost the side.

The level means little and differs by market; its rank in the market's own slowly forgotten past is what is
read. The measure forecasts little beyond volume and volatility, so it widens, and pauses nothing by itself.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import NS_PER_S
from market_maker.kernel import kernel

MAX_BUCKETS: Final = 64
RANK_BINS: Final = 128
# The window overlaps from one bucket to the next: a rank among fewer windows than these is chance.
LEAST_WINDOWS: Final = 3
_SQRT_2: Final = math.sqrt(2.0)


def _ring() -> NDArray[np.float64]:
    return np.zeros(MAX_BUCKETS, np.float64)


def _bins() -> NDArray[np.float64]:
    return np.zeros(RANK_BINS, np.float64)


@dataclass
class FlowToxicityState:
    """The last buckets of one market, the open one, and how toxic its flow has been."""

    imbalances: Annotated[NDArray[np.float64], MAX_BUCKETS] = field(default_factory=_ring)  # lots, a bucket
    volumes: Annotated[NDArray[np.float64], MAX_BUCKETS] = field(default_factory=_ring)  # lots, a bucket
    imbalance_lots: float = 0.0  # sum over the window
    volume_lots: float = 0.0  # sum over the window
    next_bucket: int = 0  # place in the rings
    filled: int = 0  # buckets in the window
    bucket_lots: float = 0.0  # size of the open bucket
    room_lots: float = 0.0  # what it still takes; 0: none is open
    net_lots: float = 0.0  # bought less sold in it
    past: Annotated[NDArray[np.float64], RANK_BINS] = field(default_factory=_bins)  # times, slowly forgotten
    rank: float = 0.0  # of the toxicity in its past, 0 to 1; 0 until known
    closed_ns: int = 0  # when the last bucket closed
    price_ticks: int = 0  # of the last trade; 0: none
    changes: float = 0.0  # of the price, slowly forgotten
    change_squares: float = 0.0  # ticks², their squares


@kernel
def buy_share(change_ticks: float, sigma_ticks: float) -> float:
    """Share of a trade that was bought, from how its price changed: Φ(ΔP/σ), one half where σ is unknown."""
    if not sigma_ticks > 0.0:
        return 0.5
    return 0.5 * (1.0 + math.erf(change_ticks / sigma_ticks / _SQRT_2))


@kernel
def restart(state: FlowToxicityState) -> None:
    """Empty the window, as after a gap; the past and the habit of the price stay."""
    state.imbalance_lots = 0.0
    state.volume_lots = 0.0
    state.next_bucket = 0
    state.filled = 0
    state.room_lots = 0.0
    state.rank = 0.0
    state.price_ticks = 0


@kernel
def forget(state: FlowToxicityState, kept: float) -> None:
    """Let the price's changes fade to the share that is kept."""
    state.changes *= kept
    state.change_squares *= kept


@kernel
def classify(state: FlowToxicityState, side: int, price_ticks: int) -> float:
    """Share of a trade that was bought: 1 or 0 by the taker's side, in bulk where that is 0.

    Takes the price in, so it is called once for each trade.
    """
    change = float(price_ticks - state.price_ticks) if state.price_ticks > 0 else 0.0
    if state.price_ticks > 0:
        state.changes += 1.0
        state.change_squares += change * change
    state.price_ticks = price_ticks
    if side != 0:
        return 1.0 if side > 0 else 0.0
    sigma = math.sqrt(state.change_squares / state.changes) if state.changes > 0.0 else 0.0
    return buy_share(change, sigma)


@kernel
def _refresh_sums(state: FlowToxicityState, window: int) -> None:
    """Sum anew once a round, so that rounding does not add up over weeks."""
    imbalance = 0.0
    volume = 0.0
    for i in range(window):
        imbalance += state.imbalances[i]
        volume += state.volumes[i]
    state.imbalance_lots = imbalance
    state.volume_lots = volume


@kernel
def _close(state: FlowToxicityState, window: int) -> None:
    i = state.next_bucket % window
    if state.filled == window:
        state.imbalance_lots -= state.imbalances[i]
        state.volume_lots -= state.volumes[i]
    state.imbalances[i] = math.fabs(state.net_lots)
    state.volumes[i] = state.bucket_lots
    state.imbalance_lots += state.imbalances[i]
    state.volume_lots += state.bucket_lots
    state.filled = min(state.filled + 1, window)
    state.next_bucket = (i + 1) % window
    if state.next_bucket == 0:
        _refresh_sums(state, window)


@kernel
def add(state: FlowToxicityState, window: int, usual_lots: float, size_lots: float, share: float) -> bool:
    """Pour a trade into the buckets; say whether one was closed.

    `usual_lots` is the size of a bucket that is opened now, `share` what part of the trade was bought. Whole
    buckets beyond a window are passed over: they would leave the same window.
    """
    size = max(usual_lots, 1.0)
    beyond = max(size_lots - state.room_lots, 0.0)
    left = size_lots - max(math.floor(beyond / size) - float(window + 1), 0.0) * size
    closed = False
    while left > 0.0:
        if state.room_lots <= 0.0:
            state.bucket_lots = size
            state.room_lots = size
            state.net_lots = 0.0
        part = min(left, state.room_lots)
        state.net_lots += part * (2.0 * share - 1.0)
        state.room_lots -= part
        left -= part
        if state.room_lots <= 0.0:
            _close(state, window)
            closed = True
    return closed


@kernel
def toxicity(state: FlowToxicityState) -> float:
    """Share of the window's volume that found no counter-flow, 0 to 1; 0 while the window is empty."""
    if state.filled == 0 or state.volume_lots <= 0.0:
        return 0.0
    return min(max(state.imbalance_lots / state.volume_lots, 0.0), 1.0)


@kernel
def remember(state: FlowToxicityState, window: int, history_s: float, now_ns: int) -> None:
    """Rank the toxicity in its past, then add it there; called where a bucket was closed.

    The rank is the share of the past that was lower, with half of what was alike.
    """
    kept = math.exp(-float(max(now_ns - state.closed_ns, 0)) / NS_PER_S / history_s)
    state.closed_ns = now_ns
    own = min(int(toxicity(state) * RANK_BINS), RANK_BINS - 1)
    total = 0.0
    lower = 0.0
    for i in range(RANK_BINS):
        weight = state.past[i] * kept
        state.past[i] = weight
        total += weight
        if i < own:
            lower += weight
    if state.filled < window:
        return
    state.rank = (lower + 0.5 * state.past[own]) / total if total >= LEAST_WINDOWS * window else 0.0
    state.past[own] += 1.0
