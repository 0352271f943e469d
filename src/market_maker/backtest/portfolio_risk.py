"""How much the PnL of an account of several markets moves, and whether one way has less of it than another.

A contestant's PnL is summed over its markets, at the mids, every ten seconds; its risk is the variance of the
changes. Two ways of the same fill model and latency are compared by the ratio of their variances, drawn in
pairs of blocks of time (`intervals`): what the market did to both cancels.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.intervals import CONFIDENCE, RESAMPLES, resample, student_quantile
from market_maker.backtest.outcome import Interval, Label, Outcome
from market_maker.domain import NS_PER_S

STEP_S: Final = 10.0
_LEAST_BLOCK_S: Final = 60.0
_LEAST_BLOCKS: Final = 3

Vector = NDArray[np.float64]


class PortfolioRisk(NamedTuple):
    """An account's PnL and how it moved; the ratio is its variance over the first's, which has none.

    Attributes
    ----------
    variance : float
        Of the change in ten seconds, USD².
    end_deviation : float
        Standard deviation of the PnL at the end, USD, over drawn blocks of time; 0: too short for it.
    alone : mapping
        Variance of each market's own change in ten seconds, USD².
    net_usd : float
        Root mean square of the positions' signed values together, USD.
    """

    label: Label
    pnl_usd: float
    variance: float
    end_deviation: float
    fills: int
    ratio: Interval | None
    alone: Mapping[str, float]
    net_usd: float


def portfolio_risks(markets: Sequence[Sequence[Outcome]], seed: int = 0) -> list[PortfolioRisk]:
    """Risk of everybody who plays in all the markets, each against the first of its fill model and latency.

    Parameters
    ----------
    markets : sequence
        Outcomes of each market of the account, played over the same time.
    """
    found: dict[Label, list[Outcome]] = {}
    for outcomes in markets:
        for outcome in outcomes:
            found.setdefault(outcome.label, []).append(outcome)
    whole = {label: mine for label, mine in found.items() if len(mine) == len(markets)}
    firsts: dict[tuple[str, float], Vector] = {}
    risks = []
    for label, outcomes in whole.items():
        instants = _instants(outcomes)
        changes = _changes(outcomes, instants)
        key = label.fill_model, label.latency_s
        is_first = key not in firsts
        first = firsts.setdefault(key, changes)
        risks.append(
            PortfolioRisk(
                label=label,
                pnl_usd=float(changes.sum()),
                variance=_variance(changes),
                end_deviation=_end_deviation(changes, seed),
                fills=sum(outcome.summary.fills.buys + outcome.summary.fills.sells for outcome in outcomes),
                ratio=None if is_first else variance_ratio(changes, first, seed),
                alone={one.market: _variance(_changes([one], instants)) for one in outcomes},
                net_usd=_net_usd(outcomes, instants),
            )
        )
    return risks


def _instants(outcomes: Sequence[Outcome]) -> NDArray[np.int64]:
    """Every ten seconds that all markets have, ns."""
    step_ns = round(STEP_S * NS_PER_S)
    if not all(len(outcome.curve) for outcome in outcomes):
        return np.zeros(0, np.int64)
    start = max(int(outcome.curve["ns"][0]) for outcome in outcomes)
    end = min(int(outcome.curve["ns"][-1]) for outcome in outcomes)
    return np.arange(-(-start // step_ns) * step_ns, end + 1, step_ns)


def _sampled(outcome: Outcome, instants: NDArray[np.int64]) -> NDArray[np.intp]:
    return np.searchsorted(outcome.curve["ns"], instants, side="right") - 1


def _changes(outcomes: Sequence[Outcome], instants: NDArray[np.int64]) -> Vector:
    """Changes of the PnL of some markets together."""
    totals = np.zeros(instants.size)
    for outcome in outcomes:
        totals += outcome.curve["total"][_sampled(outcome, instants)]
    return np.diff(totals)


def _variance(changes: Vector) -> float:
    return float(changes.var()) if changes.size else 0.0


def _net_usd(outcomes: Sequence[Outcome], instants: NDArray[np.int64]) -> float:
    net = np.zeros(instants.size)
    for outcome in outcomes:
        rows = outcome.curve[_sampled(outcome, instants)]
        net += rows["position_lots"] * (rows["mid2_ticks"] / 2.0 * float(outcome.tick * outcome.step))
    return float(np.sqrt((net**2).mean())) if net.size else 0.0


def _block(count: int) -> int:
    return min(count, max(math.ceil(_LEAST_BLOCK_S / STEP_S), math.ceil(2.0 * math.cbrt(count))))


def _end_deviation(changes: Vector, seed: int) -> float:
    if not changes.size or changes.size // _block(changes.size) < _LEAST_BLOCKS:
        return 0.0
    return float(resample(changes[None], _block(changes.size), RESAMPLES, seed)[0].std())


def variance_ratio(changes: Vector, first: Vector, seed: int = 0) -> Interval | None:
    """Variance of one series of changes over another's of the same time; None where there is too little.

    The interval is that of the ratio's logarithm.
    """
    count = changes.size
    blocks = count // _block(count) if count else 0
    if first.size != count or blocks < _LEAST_BLOCKS or not min(changes.var(), first.var()) > 0.0:
        return None
    columns = np.array([changes, changes**2, first, first**2])
    drawn = resample(columns, _block(count), RESAMPLES, seed) / count
    ratios = np.log(drawn[1] - drawn[0] ** 2) - np.log(drawn[3] - drawn[2] ** 2)
    estimate = math.log(changes.var() / first.var())
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    widening = student_quantile(1.0 - tail, blocks - 1) / NormalDist().inv_cdf(1.0 - tail)
    widening *= math.sqrt(blocks / (blocks - 1))
    ends = (estimate - (estimate - low) * widening, estimate + (high - estimate) * widening)
    return Interval(
        math.exp(estimate), math.exp(float(ends[0])), math.exp(float(ends[1])), CONFIDENCE, blocks
    )
