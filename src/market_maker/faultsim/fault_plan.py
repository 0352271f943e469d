"""What goes wrong in a simulated hour, drawn from its seed: storms of a few faults, and quiet between.

The quiet stretches are there to see that everything comes back: quotes, and books that agree.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from market_maker.emulator.faults import MEANINGS, FaultError, Faults, FaultWindow

# The first faults come once the first quotes rest; the last quiet is for the end and its books.
_CALM_START_S: Final = 20.0
_LAST_QUIET_S: Final = 150.0
_STORM_S: Final = (20.0, 90.0)
_QUIET_S: Final = (100.0, 150.0)
_MOST_AT_ONCE: Final = 4


class _Kind(NamedTuple):
    """How a class of faults is drawn: how strong, how long; rates are relative to those of others."""

    low: float
    high: float
    shortest_s: float
    longest_s: float
    rate: float = 1.0


# What the emulator does by itself, by the names of its faults.
_EMULATED: Final = {
    "drop_frames": _Kind(0.02, 0.4, 3, 40),
    "duplicate_frames": _Kind(0.05, 0.6, 3, 40),
    "reorder_frames": _Kind(0.05, 0.6, 3, 40),
    "corrupt_frames": _Kind(0.02, 0.2, 3, 30),
    "close_streams": _Kind(0.01, 0.2, 3, 30),
    "silent_streams": _Kind(1, 1, 3, 40),
    "unreachable": _Kind(1, 1, 2, 40),
    "rate_limit": _Kind(0.1, 1.0, 2, 40),
    "errors_before": _Kind(0.1, 1.0, 3, 40),
    "errors_after": _Kind(0.1, 1.0, 3, 40),
    "lost_replies": _Kind(0.1, 1.0, 3, 40),
    "late_replies": _Kind(0.1, 1.0, 3, 40),
    "reorder_replies": _Kind(0.2, 1.0, 3, 40),
    "duplicate_replies": _Kind(0.2, 1.0, 3, 40),
    "stale_lookups": _Kind(0.2, 1.0, 3, 40),
    "extra_latency_ms": _Kind(50, 2_000, 3, 40),
    "latency_tail_ms": _Kind(50, 1_000, 3, 40),
    "maintenance": _Kind(1, 1, 2, 40),
    "unknown_values": _Kind(0.1, 1.0, 3, 40),
    "duplicate_trades": _Kind(0.2, 1.0, 3, 40),
    "stale_snapshots": _Kind(0.5, 1.0, 10, 60),
    "null_liquidation": _Kind(0.3, 1.0, 5, 60),
    "early_fills": _Kind(0.1, 0.8, 3, 30),
    "late_fills": _Kind(0.1, 0.8, 3, 30),
}
# What is done to the account, the market, the machine and the process.
_STAGED: Final = {
    "clock_skew": _Kind(-2.5, 2.5, 5, 60),
    "clock_jump": _Kind(-20.0, 20.0, 5, 30),
    "funding_flip": _Kind(-0.01, 0.01, 30, 200),
    "margin_shrink": _Kind(1.0, 1.5, 5, 60),
    "market_reduce_only": _Kind(1, 1, 5, 40),
    "market_delisted": _Kind(1, 1, 5, 40),
    "full_disk": _Kind(1, 1, 5, 40),
    "slow_disk": _Kind(0.05, 3.0, 5, 40),
    "sigterm": _Kind(1, 1, 1, 1, 2.0),
    "kill": _Kind(0, 1, 2, 25, 4.0),
    "second_instance": _Kind(1, 1, 5, 30),
}
_KINDS: Final = _EMULATED | _STAGED
# A maintenance ends in post-only mode.
_POST_ONLY_S: Final = (3.0, 20.0)

FAULT_NAMES: Final = tuple(_KINDS)
_CLOCKS: Final = frozenset({"clock_skew", "clock_jump"})
# While one of these is on, a request may take as long as it likes.
NETWORK_FAULTS: Final = frozenset(
    {
        "unreachable",
        "rate_limit",
        "errors_before",
        "errors_after",
        "lost_replies",
        "late_replies",
        "extra_latency_ms",
        "latency_tail_ms",
        "maintenance",
        "stale_lookups",
    }
)


class Stretch(NamedTuple):
    """From one instant to another, s since the exchange opened."""

    start_s: float
    end_s: float


class Spans:
    """Stretches of time, joined where they overlap, asked about with instants that only grow."""

    def __init__(self, stretches: Iterable[Stretch]) -> None:
        self._joined: list[Stretch] = []
        for stretch in sorted(stretches):
            if self._joined and stretch.start_s <= self._joined[-1].end_s:
                last = self._joined[-1]
                self._joined[-1] = Stretch(last.start_s, max(last.end_s, stretch.end_s))
            else:
                self._joined.append(stretch)
        self._next = 0

    def over_for_s(self, at_s: float) -> float:
        """How long the last of them has been over, s; 0 within one."""
        while self._next < len(self._joined) and self._joined[self._next].end_s <= at_s:
            self._next += 1
        if self._next < len(self._joined) and self._joined[self._next].start_s <= at_s:
            return 0.0
        return at_s - (self._joined[self._next - 1].end_s if self._next else 0.0)


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """One fault: its class, how strong, from when to when, s since the exchange opened."""

    name: str
    value: float
    start_s: float
    end_s: float

    @property
    def window(self) -> FaultWindow | None:
        """The same for the emulator; None where it is done from outside."""
        if self.name not in _EMULATED:
            return None
        values = {self.name: self.value}
        end_s = self.end_s
        if self.name == "maintenance":
            # `end_s` is that of the post-only mode after it.
            values["post_only_after_s"] = post_s = (self.end_s - self.start_s) / 3
            end_s -= post_s
        return FaultWindow(Faults(**values), self.start_s, end_s)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All of a simulation: its faults by their beginnings, and the stretches without any."""

    faults: tuple[PlannedFault, ...]
    quiet: tuple[Stretch, ...]

    def spans(self, names: Collection[str] = FAULT_NAMES, *, with_clocks: bool = False) -> Spans:
        """When faults of these classes are on, and while pauses take longer because a clock fell back."""
        stretches = [Stretch(fault.start_s, fault.end_s) for fault in self.faults if fault.name in names]
        for fault in self.faults if with_clocks else ():
            if fault.name in _CLOCKS:
                fell_s = fault.end_s if fault.value > 0.0 else fault.start_s
                stretches.append(Stretch(fell_s, fell_s + abs(fault.value)))
        return Spans(stretches)


def chosen_faults(text: str) -> tuple[str, ...]:
    """Read `all`, `none`, or names with commas between.

    Raises
    ------
    FaultError
        For a name that is none.
    """
    if text in ("all", "none"):
        return FAULT_NAMES if text == "all" else ()
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in _KINDS:
            msg = f"no fault {name!r}; there are {', '.join(FAULT_NAMES)}"
            raise FaultError(msg)
    return names


def meaning_of(name: str) -> str:
    """What a class of faults is, in a few words."""
    return MEANINGS.get(name) or _STAGED_MEANINGS[name]


_STAGED_MEANINGS: Final = {
    "clock_skew": "our clock is off by up to 2.5 s",
    "clock_jump": "our clock jumps by up to 20 s, and back",
    "funding_flip": "the premium that funding follows jumps, to either side",
    "margin_shrink": "the account's leverage is cut, so that orders bind ten times as much",
    "market_reduce_only": "the market takes reducing orders only",
    "market_delisted": "the market takes no orders",
    "full_disk": "the journal can not be written",
    "slow_disk": "each write of the journal takes up to 3 s",
    "sigterm": "the process is told to end, and started again",
    "kill": "the process is killed, often just at a fill or a request, and started again",
    "second_instance": "the bot is started once more on the same account",
}


def plan_faults(names: Collection[str], seconds: float, rng: np.random.Generator) -> FaultPlan:
    """Draw a plan for so many seconds."""
    at_s = _CALM_START_S
    last_s = seconds - _LAST_QUIET_S
    faults: list[PlannedFault] = []
    quiet: list[Stretch] = []
    while names and at_s + _STORM_S[1] + 60.0 < last_s:
        storm = _storm(sorted(names), at_s, rng)
        faults += storm
        over_s = max(fault.end_s for fault in storm)
        at_s = over_s + float(rng.uniform(*_QUIET_S))
        quiet.append(Stretch(over_s, min(at_s, last_s)))
    # The last storm is followed by nothing but quiet.
    begin_s = quiet.pop().start_s if quiet else 0.0
    quiet.append(Stretch(begin_s, seconds))
    return FaultPlan(tuple(sorted(faults, key=lambda fault: fault.start_s)), tuple(quiet))


def _storm(names: Sequence[str], at_s: float, rng: np.random.Generator) -> list[PlannedFault]:
    weights = np.array([_KINDS[name].rate for name in names])
    count = min(int(rng.integers(1, _MOST_AT_ONCE + 1)), len(names))
    chosen = rng.choice(len(names), size=count, replace=False, p=weights / weights.sum())
    length_s = float(rng.uniform(*_STORM_S))
    return [_drawn(names[int(index)], at_s, length_s, rng) for index in chosen]


def _drawn(name: str, at_s: float, length_s: float, rng: np.random.Generator) -> PlannedFault:
    kind = _KINDS[name]
    start_s = at_s + float(rng.uniform(0.0, length_s))
    end_s = start_s + float(rng.uniform(kind.shortest_s, kind.longest_s))
    if name == "maintenance":
        end_s += float(rng.uniform(*_POST_ONLY_S))
    return PlannedFault(name, float(rng.uniform(kind.low, kind.high)), start_s, end_s)
