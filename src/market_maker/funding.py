"""What holding a position until it is closed will cost in funding, and how much inventory that allows.

Funding is paid on what is held at whole hours (UTC). A long that is held for a memoryless time of mean h is
still there after t with probability exp(-t / h), so with the next instant tau away and one every T it costs
rate * exp(-tau / h) / (1 - exp(-T / h)): nothing to speak of just after an instant, all of it just before the
next. The mean holding time is Little's: position held, over time, by what was closed in it, both forgotten
exponentially; a prior worth some closings stands in for what was not seen.

The rate is the exchange's own formula (extended-api.md, section 6) on our sight of the premium of the best
quotes over the index; what is not seen and not yet passed of the hour is filled with the smoothed present
premium. The exchange's stated rate fills in by the share of the passed hour, as the formula weighs it, that
was not seen, and is all there is without a fresh index. The module knows no position limits and no money.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

from market_maker.domain import BPS, NS_PER_S
from market_maker.kernel import Row, kernel, new_row
from market_maker.toxicity_guard import GRID_NS

_INTEREST: Final = 0.0001  # of eight hours, the exchange's
_CLAMP: Final = 0.0005  # limit of interest minus premium, the exchange's
_HOURS: Final = 8.0
_SAMPLE_NS: Final = 5 * NS_PER_S  # time between the exchange's samples
_LEAST_SAMPLES: Final = 12  # of a period that is shorter than an hour
_STALE_NS: Final = 60 * NS_PER_S  # an index that is older says nothing of the present premium
_LARGEST: Final = 1.0  # a rate or premium beyond is none
_STEP_BPS: Final = 0.05  # of the carry, so that quotes do not follow every tick of the index
_LEAST_HOLDING_S: Final = 1.0
_LEAST_CLOSINGS: Final = 1e-9


def _require(settings: dict[str, Any], low: float, high: float, *names: str) -> None:
    for name in names:
        if not low <= settings[name] <= high:
            msg = f"{name}: expected {low:g} to {high:g}, was {settings[name]!r}"
            raise ValueError(msg)


@dataclass(frozen=True)
class FundingSettings:
    """How funding enters quotes, skew and limits. ValueError out of bounds."""

    funding_enabled: bool = True  # when false nothing costs any carry
    funding_period_s: float = 3600.0  # s, between two instants of funding, counted from the epoch
    funding_holding_s: float = 900.0  # s, mean holding time until enough was closed to measure it
    funding_holding_closings: float = 10.0  # closing fills that the holding time above is worth
    funding_holding_memory_s: float = 14_400.0  # s, time constant of the measurement, and the longest result
    funding_premium_smoothing_s: float = 300.0  # s, time constant of the present premium
    funding_max_carry_bps: float = 5.0  # bps, largest carry, whatever the rate
    funding_full_effect_bps: float = 2.0  # bps, carry at which skew and limits have moved all they may
    funding_skew_growth: float = 1.0  # share by which the skew of inventory that pays grows
    funding_skew_relief: float = 0.5  # share by which the skew of inventory that is paid shrinks
    funding_limit_growth: float = 0.25  # share by which the limit of the side that is paid grows
    funding_limit_cut: float = 0.5  # share by which the limit of the side that pays shrinks

    def __post_init__(self) -> None:
        _require(vars(self), 1.0, 86_400.0, "funding_period_s", "funding_premium_smoothing_s")
        _require(vars(self), 1.0, 1e7, "funding_holding_s", "funding_holding_memory_s")
        _require(vars(self), 1.0, 1e6, "funding_holding_closings")
        _require(vars(self), 0.0, 1e3, "funding_max_carry_bps")
        _require(vars(self), 1e-3, 1e3, "funding_full_effect_bps")
        _require(vars(self), 0.0, 10.0, "funding_skew_growth", "funding_limit_growth")
        _require(vars(self), 0.0, 1.0, "funding_skew_relief", "funding_limit_cut")


@dataclass
class FundingState:
    """What is known of one market's rate. Samples are the exchange's, one every five seconds."""

    stated_rate: float = 0.0  # the exchange's, a fraction; positive: longs pay
    stated_ns: int = 0  # 0: none was stated
    premium: float = 0.0  # of the best quotes over the index, in force since index_ns
    index_ns: int = 0  # 0: there was no index
    smoothed: float = 0.0  # premium, smoothed
    followed_s: float = 0.0  # s, since the index is followed without a gap
    period_ns: int = 0  # instant at which the running period began
    passed: int = 0  # samples of the period that the exchange has taken
    seen_weight: float = 0.0  # weight of those that were seen; the n-th weighs n
    seen_sum: float = 0.0  # weighted sum of their premiums
    own_rate: float = 0.0  # our prediction of the running period's rate, from the index alone


@dataclass
class HoldingState:
    """How long our positions last in one market, from our own fills; everything is forgotten alike."""

    lot_seconds: float = 0.0  # position held, over time
    closed_lots: float = 0.0
    closings: float = 0.0  # fills that closed something
    position_lots: int = 0  # signed, since last_ns
    last_ns: int = 0


@kernel
def _period_ns(settings: FundingSettings) -> int:
    return int(settings.funding_period_s * NS_PER_S)


@kernel
def _sample_ns(period_ns: int) -> int:
    return min(_SAMPLE_NS, period_ns // _LEAST_SAMPLES)


@kernel
def _taken(elapsed_ns: int, sample_ns: int) -> int:
    """Samples taken in a period before an instant; the one at the instant itself is yet to be."""
    return max((elapsed_ns - 1) // sample_ns, 0)


@kernel
def _weight(samples: int) -> float:
    return 0.5 * float(samples) * float(samples + 1)


@kernel
def _smoothing_s(settings: FundingSettings) -> float:
    return min(settings.funding_premium_smoothing_s, settings.funding_period_s / _LEAST_SAMPLES)


@kernel
def premium_of(index_ticks: float, bid_ticks: int, ask_ticks: int) -> float:
    """Premium of the best quotes over the index, a fraction; nan where it cannot be told."""
    if not (math.isfinite(index_ticks) and index_ticks > 0.0 and 0 < bid_ticks < ask_ticks):
        return math.nan
    above = max(0.0, float(bid_ticks) - index_ticks)
    below = max(0.0, index_ticks - float(ask_ticks))
    premium = (above - below) / index_ticks
    return premium if math.fabs(premium) <= _LARGEST else math.nan


@kernel
def rate_of(premium: float) -> float:
    """Rate of a period whose weighted mean premium is this, a fraction; positive: longs pay."""
    return (premium + min(max(_INTEREST - premium, -_CLAMP), _CLAMP)) / _HOURS


@kernel
def on_rate(settings: FundingSettings, state: FundingState, rate: float, now_ns: int) -> None:
    """Take the exchange's hourly rate, a fraction; one that is out of order or impossible is ignored."""
    if settings.funding_enabled and math.fabs(rate) <= _LARGEST and now_ns >= state.stated_ns:
        state.stated_rate = rate
        state.stated_ns = now_ns


@kernel
def _count(settings: FundingSettings, state: FundingState, now_ns: int) -> None:
    """Count the samples since the last index, with the premium that was in force while it was fresh."""
    period_ns = _period_ns(settings)
    sample_ns = _sample_ns(period_ns)
    begun_ns = now_ns - now_ns % period_ns
    if state.period_ns != begun_ns:
        state.period_ns = begun_ns
        state.passed = 0
        state.seen_weight = 0.0
        state.seen_sum = 0.0
    passed = _taken(now_ns - begun_ns, sample_ns)
    if state.index_ns > 0:
        fresh_until_ns = min(now_ns, state.index_ns + _STALE_NS)
        seen = max(_taken(fresh_until_ns - begun_ns, sample_ns), state.passed)
        weight = _weight(seen) - _weight(state.passed)
        state.seen_weight += weight
        state.seen_sum += weight * state.premium
    state.passed = passed


@kernel
def _smooth(settings: FundingSettings, state: FundingState, premium: float, now_ns: int) -> None:
    elapsed_ns = now_ns - state.index_ns
    if state.index_ns == 0 or elapsed_ns > _STALE_NS:
        state.smoothed = premium
        state.followed_s = 0.0
        return
    elapsed_s = float(elapsed_ns) / NS_PER_S
    alpha = -math.expm1(-elapsed_s / _smoothing_s(settings))
    state.smoothed += alpha * (state.premium - state.smoothed)
    state.followed_s += elapsed_s


@kernel
def on_index(
    settings: FundingSettings,
    state: FundingState,
    index_ticks: float,
    bid_ticks: int,
    ask_ticks: int,
    now_ns: int,
) -> None:
    """Take an index price and the best quotes at its instant, and predict the running period's rate.

    Prices are in ticks, the index in fractions of one. What makes no premium or is out of order is ignored.
    """
    premium = premium_of(index_ticks, bid_ticks, ask_ticks)
    if not (settings.funding_enabled and math.isfinite(premium)) or now_ns < state.index_ns:
        return
    _count(settings, state, now_ns)
    _smooth(settings, state, premium, now_ns)
    state.premium = premium
    state.index_ns = now_ns
    period_ns = _period_ns(settings)
    whole = _weight(period_ns // _sample_ns(period_ns))
    state.own_rate = rate_of((state.seen_sum + (whole - state.seen_weight) * state.smoothed) / whole)


@kernel
def own_share(settings: FundingSettings, state: FundingState) -> float:
    """Share of our own prediction in the rate, 0 to 1: what was seen of the hour that has passed.

    It counts less until the present premium is known for as long as it is smoothed.
    """
    seen = state.seen_weight / _weight(state.passed) if state.passed > 0 else 1.0
    return seen * min(1.0, state.followed_s / _smoothing_s(settings))


@kernel
def expected_rate(settings: FundingSettings, state: FundingState, now_ns: int) -> float:
    """Rate to expect at the next instant, a fraction; positive: longs pay. 0 while nothing is known."""
    if state.stated_ns == 0:
        return state.own_rate
    if now_ns - state.index_ns > _STALE_NS:
        return state.stated_rate
    share = own_share(settings, state)
    return state.stated_rate + share * (state.own_rate - state.stated_rate)


@kernel
def _kept(settings: FundingSettings, elapsed_ns: int) -> float:
    return math.exp(-float(elapsed_ns) / NS_PER_S / settings.funding_holding_memory_s)


@kernel
def _lot_seconds(settings: FundingSettings, before: float, position_lots: int, kept: float) -> float:
    """Position over time, after one of so many lots was held while all else faded to a share."""
    memory_s = settings.funding_holding_memory_s
    return before * kept + math.fabs(float(position_lots)) * memory_s * (1.0 - kept)


@kernel
def on_fill(
    settings: FundingSettings,
    holding: HoldingState,
    position_before_lots: int,
    change_lots: int,
    now_ns: int,
) -> None:
    """Take one of our fills in. Lots are signed; an instant out of order counts as the last one."""
    if holding.last_ns > 0:
        kept = _kept(settings, max(now_ns - holding.last_ns, 0))
        holding.lot_seconds = _lot_seconds(settings, holding.lot_seconds, position_before_lots, kept)
        holding.closed_lots *= kept
        holding.closings *= kept
    if position_before_lots > 0 > change_lots or position_before_lots < 0 < change_lots:
        holding.closed_lots += float(min(abs(change_lots), abs(position_before_lots)))
        holding.closings += 1.0
    holding.position_lots = position_before_lots + change_lots
    holding.last_ns = max(now_ns, holding.last_ns)


@kernel
def holding_s(settings: FundingSettings, holding: HoldingState, now_ns: int) -> float:
    """Mean time for which a lot is held, s: as measured, with the setting as so many closings more.

    A position that is held at present counts too: nothing closing for hours makes the time longer.
    """
    longest_s = max(settings.funding_holding_memory_s, _LEAST_HOLDING_S)
    prior = settings.funding_holding_closings
    if holding.closings < _LEAST_CLOSINGS:
        return min(settings.funding_holding_s, longest_s)
    kept = _kept(settings, max(now_ns - holding.last_ns, 0))
    held = _lot_seconds(settings, holding.lot_seconds, holding.position_lots, kept)
    held_per_closing = held * holding.closings / holding.closed_lots
    mean_s = (prior * settings.funding_holding_s + held_per_closing) / (prior + holding.closings * kept)
    return min(max(mean_s, _LEAST_HOLDING_S), longest_s)


@kernel
def payments_held_for(to_next_s: float, period_s: float, mean_holding_s: float) -> float:
    """Expected number of instants that a position is held over: the sum of exp(−t / h) over all to come."""
    return math.exp(-to_next_s / mean_holding_s) / -math.expm1(-period_s / mean_holding_s)


@kernel
def carry_bps(settings: FundingSettings, state: FundingState, holding: HoldingState, now_ns: int) -> float:
    """Expected cost of holding a long until it is closed, bps of its value; negative: it is paid.

    It changes at the start of a slot of 100 ms, at a fill and when rate or index are told; in steps.
    """
    if not settings.funding_enabled:
        return 0.0
    slot_ns = now_ns - now_ns % GRID_NS
    period_ns = _period_ns(settings)
    to_next_s = float(period_ns - slot_ns % period_ns) / NS_PER_S
    payments = payments_held_for(to_next_s, settings.funding_period_s, holding_s(settings, holding, slot_ns))
    carry = BPS * expected_rate(settings, state, slot_ns) * payments
    largest = settings.funding_max_carry_bps
    carry = min(max(carry, -largest), largest)
    # Half a step and less is nothing: a rate of nearly nothing must not flicker between two signs.
    return math.copysign(math.floor(math.fabs(carry) / _STEP_BPS + 0.5) * _STEP_BPS, carry)


@kernel
def _effect(settings: FundingSettings, carry_bps: float) -> float:
    return min(math.fabs(carry_bps) / settings.funding_full_effect_bps, 1.0)


@kernel
def skew_scale(settings: FundingSettings, carry_bps: float, inventory_lots: float) -> float:
    """Factor on the skew: above 1 where the inventory pays, below where it is paid, else 1."""
    costs = carry_bps * inventory_lots
    if not settings.funding_enabled or costs == 0.0:
        return 1.0
    change = settings.funding_skew_growth if costs > 0.0 else -settings.funding_skew_relief
    return 1.0 + change * _effect(settings, carry_bps)


@kernel
def limit_scale(settings: FundingSettings, carry_bps: float, side: int) -> float:
    """Factor on the limit of long (+1) or short (−1) positions: above 1 where they are paid."""
    costs = carry_bps * float(side)
    if not settings.funding_enabled or costs == 0.0:
        return 1.0
    change = -settings.funding_limit_cut if costs > 0.0 else settings.funding_limit_growth
    return 1.0 + change * _effect(settings, carry_bps)


class FundingCarry:
    """Funding of one market on the bench: feed it rates, index prices and fills, read the carry.

    Examples
    --------
    >>> funding = FundingCarry()
    >>> minute_ns = 60 * 1_000_000_000
    >>> funding.on_rate(0.0002, minute_ns)
    >>> [round(funding.carry_bps(minute * minute_ns), 2) for minute in (5, 30, 50, 59)]
    [0.05, 0.3, 1.05, 1.9]
    """

    def __init__(self, settings: FundingSettings | None = None) -> None:
        self._settings: Row = new_row(settings or FundingSettings())
        self.state = new_row(FundingState())
        self.holding = new_row(HoldingState())

    def on_rate(self, rate: float, now_ns: int) -> None:
        """Take the exchange's hourly rate, a fraction."""
        on_rate(self._settings[0], self.state[0], float(rate), int(now_ns))

    def on_index(self, index_ticks: float, bid_ticks: int, ask_ticks: int, now_ns: int) -> None:
        """Take an index price with the best quotes, ticks."""
        on_index(self._settings[0], self.state[0], float(index_ticks), bid_ticks, ask_ticks, int(now_ns))

    def on_fill(self, position_before_lots: int, change_lots: int, now_ns: int) -> None:
        """Take one of our fills, signed lots."""
        on_fill(self._settings[0], self.holding[0], position_before_lots, change_lots, int(now_ns))

    def expected_rate(self, now_ns: int) -> float:
        """Rate to expect at the next instant, a fraction."""
        return float(expected_rate(self._settings[0], self.state[0], int(now_ns)))

    def holding_s(self, now_ns: int) -> float:
        """Mean holding time, s."""
        return float(holding_s(self._settings[0], self.holding[0], int(now_ns)))

    def carry_bps(self, now_ns: int) -> float:
        """Expected cost of holding a long, bps; negative: it is paid."""
        return float(carry_bps(self._settings[0], self.state[0], self.holding[0], int(now_ns)))

    def skew_scale(self, now_ns: int, inventory_lots: float) -> float:
        """Factor on the skew of an inventory."""
        return float(skew_scale(self._settings[0], self.carry_bps(now_ns), float(inventory_lots)))

    def limit_scale(self, now_ns: int, side: int) -> float:
        """Factor on the limit of long (+1) or short (−1) positions."""
        return float(limit_scale(self._settings[0], self.carry_bps(now_ns), int(side)))
