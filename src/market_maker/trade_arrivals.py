"""How eagerly takers come on each side, against how they usually come.

Trades call for trades: arrivals are modelled as self-exciting, with an exponential kernel (Hawkes 1971; for
markets Bacry, Mastromatteo and Muzy 2015, arXiv 1502.04592). The intensity of a side is a constant part and
what past arrivals still excite; the exponential kernel needs one decaying number a side, so an arrival costs
the same however many came before. The share of arrivals that others caused, the branching ratio, is a
constant, not a fit: a fit per market would add a fragile estimate and change the reading little.

Each side is read relative to its own long-run rate, so that a market where buyers come more often by habit
leans nowhere, and a silence leads both sides back to balance.
"""

from dataclasses import dataclass
from math import exp
from typing import Final

from market_maker.kernel import kernel

# Counts of self-exciting arrivals have a variance of 1/(1 − n)² times their mean; by the minute the recorded
# markets give n = 0.36 to 0.84 (BTC on Hyperliquid, BTC on StandX).
BRANCHING_RATIO: Final = 0.6


@dataclass
class ArrivalState:
    """Recent and usual arrivals of takers in one market."""

    recent_buys: float = 0.0  # 1/s, arrivals under the exponential kernel
    recent_sells: float = 0.0  # 1/s
    usual_buys: float = 0.0  # arrivals, slowly forgotten
    usual_sells: float = 0.0  # arrivals, slowly forgotten
    span_s: float = 0.0  # s in which they came, forgotten alike
    last_ns: int = 0  # of the last arrival
    last_side: int = 0


@kernel
def restart(state: ArrivalState) -> None:
    """Forget what is recent; how a side usually comes is the market's nature and stays."""
    state.recent_buys = 0.0
    state.recent_sells = 0.0


@kernel
def advance(state: ArrivalState, elapsed_s: float, kernel_s: float, history_s: float) -> None:
    """Let time pass: the excitation decays with one time constant, the past is forgotten with another."""
    recent = exp(-elapsed_s / kernel_s)
    state.recent_buys *= recent
    state.recent_sells *= recent
    usual = exp(-elapsed_s / history_s)
    state.usual_buys *= usual
    state.usual_sells *= usual
    state.span_s = state.span_s * usual + history_s * (1.0 - usual)


@kernel
def arrive(state: ArrivalState, side: int, buy_share: float, kernel_s: float, now_ns: int) -> None:
    """Take a trade in, after `advance`. What one taker eats at one instant is one arrival.

    `side` is the taker's, 0 where unknown; `buy_share` is the probability that it bought, 1 or 0 where known.
    """
    if now_ns == state.last_ns and side == state.last_side:
        return
    state.last_ns = now_ns
    state.last_side = side
    state.recent_buys += buy_share / kernel_s
    state.recent_sells += (1.0 - buy_share) / kernel_s
    state.usual_buys += buy_share
    state.usual_sells += 1.0 - buy_share


@kernel
def relative_intensity(state: ArrivalState, side: int) -> float:
    """Intensity of a side's takers as a multiple of its long-run mean; 1 where none is known."""
    usual = state.usual_buys if side > 0 else state.usual_sells
    recent = state.recent_buys if side > 0 else state.recent_sells
    if usual <= 0.0 or state.span_s <= 0.0:
        return 1.0
    return 1.0 - BRANCHING_RATIO + BRANCHING_RATIO * recent * state.span_s / usual


@kernel
def balance(state: ArrivalState) -> float:
    """Which side is the more eager, −1 to 1: positive where buyers are further above their habit."""
    buys = relative_intensity(state, 1)
    sells = relative_intensity(state, -1)
    return (buys - sells) / (buys + sells)
