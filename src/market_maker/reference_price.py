"""What another price of the same market says of ours: where the mid will go, and whether it can be trusted.

The reference is the exchange's mark or index, or an outside venue's mid. It stands apart from the local mid
by a basis (funding, another currency, another index), which is an exponential mean in continuous time of
log(mid) − log(reference). What the reference is away from mid and basis, lead = log(reference) + basis −
log(mid), is what it moved and the local mid has not followed yet; the fair value leans by beta times that,
under a cap. Source: design.md, section 5, fair value.

Two guards hold whatever beta is. A reference that is silent while the mid moves widens the quotes by what the
market may have moved unseen, and stops new risk when it is taken for dead. One that is far from mid and basis
widens by the excess, and stops new risk where it is very far: one of the two prices is wrong.

Streams that speak on change are silent by right while nothing moves, so silence counts from the first move of
the mid that the reference left unanswered. The module refuses to lean or to judge distances before the basis
was observed for its time constant, and does without any reference: one that never came changes nothing.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple

from market_maker.domain import BPS, NS_PER_S, Reason
from market_maker.kernel import Row, kernel, new_row
from market_maker.toxicity_guard import GRID_NS, GRID_S

# What changes by less is noise: lead and lean are in force in steps, bps.
STEP_BPS: Final = 0.1
_SECONDS_PER_MINUTE: Final = 60.0

_NONE: Final = int(Reason.NONE)
_STALE: Final = int(Reason.REFERENCE_STALE)
_FAR: Final = int(Reason.REFERENCE_FAR)


class PriceSource(IntEnum):
    """Where a reference price comes from: the exchange's mark or index, or an outside venue."""

    NONE = 0
    MARK = 1
    INDEX = 2
    OUTSIDE = 3


_NO_SOURCE: Final = int(PriceSource.NONE)


def _require(settings: dict[str, Any], low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= settings[name] <= high:
            msg = f"{name}: expected {low:g} to {high:g}, was {settings[name]!r}"
            raise ValueError(msg)


@dataclass(frozen=True)
class ReferenceSettings:
    """Which reference is heard, what it moves, and when it is doubted. ValueError out of bounds."""

    reference_source: PriceSource = PriceSource.INDEX  # none, mark, index or outside
    reference_beta: float = 0.0  # share of the lead that the fair value follows; 0: the guards alone
    reference_max_lean_bps: float = 5.0  # bps, largest lean of the fair value
    reference_basis_s: float = 120.0  # s, time constant of the basis; also the time to observe it first
    reference_fresh_s: float = 3.0  # s, silence after which nothing leans and no basis is learned
    reference_stale_s: float = 30.0  # s, silence after which quotes widen
    reference_dead_s: float = 120.0  # s, silence after which no new risk is taken
    reference_far_sigmas: float = 5.0  # largest lead, in sigmas over reference_far_s, before quotes widen ...
    reference_far_s: float = 10.0  # s, ... over which the volatility is taken
    reference_far_bps: float = 15.0  # bps, least such limit
    reference_far_ratio: float = 2.0  # no new risk above this many limits

    def __post_init__(self) -> None:
        _require(vars(self), 0.0, 1.0, "reference_beta")
        _require(vars(self), 0.0, 1e3, "reference_max_lean_bps", "reference_far_sigmas")
        _require(vars(self), 1.0, 86_400.0, "reference_basis_s")
        _require(vars(self), GRID_S, 3_600.0, "reference_fresh_s", "reference_far_s")
        _require(vars(self), self.reference_fresh_s, 86_400.0, "reference_stale_s")
        _require(vars(self), self.reference_stale_s, 86_400.0, "reference_dead_s")
        _require(vars(self), STEP_BPS, 1e4, "reference_far_bps")
        _require(vars(self), 1.0, 1e3, "reference_far_ratio")


@dataclass
class ReferenceState:
    """Reference, mid and basis of one market."""

    log_price: float = 0.0  # of the reference, in force
    log_mid: float = 0.0  # in force
    basis: float = 0.0  # mean of log(mid) − log(reference)
    covered_s: float = 0.0  # s of which the basis is a mean
    lead_bps: float = 0.0  # bps, in force; 0 until the basis is covered
    lean_bps: float = 0.0  # bps, in force
    mid_ns: int = 0  # instant of the last mid
    learned_ns: int = 0  # up to which the basis was learned
    unanswered_ns: int = 0  # instant of the first move of the mid since the reference spoke
    is_unanswered: bool = False
    has_price: bool = False
    has_mid: bool = False


@kernel
def _silence_ns(state: ReferenceState, now_ns: int) -> int:
    """How long the mid has moved without a word of the reference."""
    return max(now_ns - state.unanswered_ns, 0) if state.is_unanswered else 0


@kernel
def _learn(settings: ReferenceSettings, state: ReferenceState, now_ns: int) -> None:
    """Let the gap that was in force count for as long as both of its prices were fresh."""
    fresh_ns = int(settings.reference_fresh_s * NS_PER_S)
    until_ns = min(now_ns, state.mid_ns + fresh_ns)
    if state.is_unanswered:
        until_ns = min(until_ns, state.unanswered_ns + fresh_ns)
    elapsed_s = float(until_ns - state.learned_ns) / NS_PER_S
    if state.has_price and state.has_mid and elapsed_s > 0.0:
        # A plain mean at first: the first gap is no better than those that follow.
        kept = math.exp(-elapsed_s / settings.reference_basis_s)
        weight = max(1.0 - kept, elapsed_s / (state.covered_s + elapsed_s))
        state.basis += weight * (state.log_mid - state.log_price - state.basis)
        state.covered_s += elapsed_s
    state.learned_ns = max(state.learned_ns, now_ns)


@kernel
def _in_steps(bps: float) -> float:
    """Nearest step toward zero."""
    steps = math.floor(math.fabs(bps) / STEP_BPS + 1e-9) * STEP_BPS
    return math.copysign(steps, bps)


@kernel
def _put_in_force(settings: ReferenceSettings, state: ReferenceState, now_ns: int) -> None:
    state.lead_bps = 0.0
    state.lean_bps = 0.0
    if state.has_price and state.has_mid and state.covered_s >= settings.reference_basis_s:
        lead_bps = BPS * (state.log_price + state.basis - state.log_mid)
        state.lead_bps = _in_steps(max(-BPS, min(BPS, lead_bps)))
        if float(_silence_ns(state, now_ns)) <= settings.reference_fresh_s * NS_PER_S:
            most = settings.reference_max_lean_bps
            lean_bps = _in_steps(settings.reference_beta * state.lead_bps)
            state.lean_bps = max(-most, min(most, lean_bps))


@kernel
def on_price(
    settings: ReferenceSettings, state: ReferenceState, source: int, price_ticks: float, now_ns: int
) -> None:
    """Take a reference price in.

    Parameters
    ----------
    settings, state
        The state is changed in place.
    source
        Of `PriceSource`; another than the one set is ignored.
    price_ticks
        In any unit, always the same one; a price that is not positive and finite is ignored.
    now_ns
        When it was heard, ns of the host's clock. One that answers a mid after the time of a dead reference
        starts the basis anew: what it was is long past.
    """
    if source == _NO_SOURCE or source != settings.reference_source:
        return
    if not (math.isfinite(price_ticks) and price_ticks > 0.0):
        return
    _learn(settings, state, now_ns)
    if float(_silence_ns(state, now_ns)) > settings.reference_dead_s * NS_PER_S:
        state.covered_s = 0.0
    state.log_price = math.log(price_ticks)
    state.has_price = True
    state.is_unanswered = False
    _put_in_force(settings, state, now_ns)


@kernel
def on_mid(settings: ReferenceSettings, state: ReferenceState, log_mid: float, now_ns: int) -> None:
    """Take the local mid in: its natural logarithm, in any unit; one that is not finite is ignored.

    A mid that was away for the time of a dead reference starts the basis anew.
    """
    if not math.isfinite(log_mid):
        return
    _learn(settings, state, now_ns)
    if state.has_mid and float(now_ns - state.mid_ns) > settings.reference_dead_s * NS_PER_S:
        state.covered_s = 0.0
    if state.has_mid and log_mid != state.log_mid and not state.is_unanswered:
        state.is_unanswered = True
        state.unanswered_ns = now_ns
    state.log_mid = log_mid
    state.has_mid = True
    state.mid_ns = max(state.mid_ns, now_ns)
    _put_in_force(settings, state, now_ns)


@kernel
def lean_bps(settings: ReferenceSettings, state: ReferenceState) -> float:
    """Shift of the fair value, bps, positive upward; never beyond the cap, 0 without a fresh reference."""
    most = settings.reference_max_lean_bps
    return max(-most, min(most, float(state.lean_bps)))


@kernel
def far_limit_bps(settings: ReferenceSettings, sigma_bps: float) -> float:
    """Largest lead, bps, that widens nothing: sigmas over the stated time, at least the floor."""
    moved_bps = sigma_bps * math.sqrt(settings.reference_far_s / _SECONDS_PER_MINUTE)
    return max(settings.reference_far_sigmas * moved_bps, settings.reference_far_bps)


@kernel
def check(
    settings: ReferenceSettings, state: ReferenceState, sigma_bps: float, now_ns: int
) -> tuple[int, float]:
    """Say whether new risk may be taken, and how much further out quotes go.

    Parameters
    ----------
    settings, state
        Nothing is changed.
    sigma_bps
        Volatility, bps per √minute; one that is no number, or negative, counts as none.
    now_ns
        The answer is the same within a slot of 100 ms.

    Returns
    -------
    int
        REFERENCE_STALE (dead), REFERENCE_FAR, or NONE.
    float
        Extra offset in bps, at least 0, which also holds for orders that reduce.
    """
    if not state.has_price:
        return _NONE, 0.0
    sigma = sigma_bps if math.isfinite(sigma_bps) and sigma_bps > 0.0 else 0.0
    silence_s = 0.0
    if state.is_unanswered:
        silence_s = float(now_ns // GRID_NS - state.unanswered_ns // GRID_NS) * GRID_S
    unseen_s = min(silence_s, settings.reference_dead_s) - settings.reference_stale_s
    stale_bps = sigma * math.sqrt(max(unseen_s, 0.0) / _SECONDS_PER_MINUTE)
    limit = far_limit_bps(settings, sigma)
    ratio, lead = settings.reference_far_ratio, math.fabs(state.lead_bps)
    far_bps = min(max(lead - limit, 0.0), (ratio - 1.0) * limit)
    reason = _FAR if lead > ratio * limit else _NONE
    if silence_s > settings.reference_dead_s:
        reason = _STALE
    return reason, float(max(stale_bps, far_bps))


@kernel
def _on_price_row(settings: Row, state: Row, source: int, price_ticks: float, now_ns: int) -> None:
    on_price(settings[0], state[0], source, price_ticks, now_ns)


@kernel
def _on_mid_row(settings: Row, state: Row, log_mid: float, now_ns: int) -> None:
    on_mid(settings[0], state[0], log_mid, now_ns)


class ReferenceReading(NamedTuple):
    """What the instrument shows, bps: what the reference is ahead of us, and what the fair value leans."""

    lead_bps: float
    lean_bps: float


class ReferencePrice:
    """Reference of one market on the bench: feed it prices and mids, read lead, lean and guards.

    Examples
    --------
    >>> reference = ReferencePrice(ReferenceSettings(reference_beta=0.5, reference_basis_s=10.0))
    >>> for second in range(60):
    ...     reference.on_price(PriceSource.INDEX, 100.0, second * 1_000_000_000)
    ...     reference.on_mid(100.2, second * 1_000_000_000)
    >>> reference.on_price(PriceSource.INDEX, 100.05, 60_000_000_000)
    >>> [round(bps, 1) for bps in reference.get()]
    [4.9, 2.4]
    """

    def __init__(self, settings: ReferenceSettings | None = None) -> None:
        self._settings = new_row(settings or ReferenceSettings())
        self.state = new_row(ReferenceState())

    def on_price(self, source: PriceSource, price: float, now_ns: int) -> None:
        """Take a reference price in; one of another source than the one set is ignored."""
        _on_price_row(self._settings, self.state, int(source), float(price), int(now_ns))

    def on_mid(self, mid: float, now_ns: int) -> None:
        """Take the local mid in, a price; one that is not positive is ignored."""
        if mid > 0.0:
            _on_mid_row(self._settings, self.state, math.log(mid), int(now_ns))

    def get(self) -> ReferenceReading:
        """Return lead and lean in force."""
        state = self.state[0]
        return ReferenceReading(float(state.lead_bps), float(lean_bps(self._settings[0], state)))

    def check(self, sigma_bps: float, now_ns: int) -> tuple[Reason, float]:
        """Reason to take no new risk (NONE: none), and the extra offset in bps."""
        reason, extra_bps = check(self._settings[0], self.state[0], float(sigma_bps), int(now_ns))
        return Reason(reason), extra_bps
