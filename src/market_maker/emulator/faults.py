"""What may go wrong at the exchange, as numbers: 0 is off, a probability is per frame or per request.

`mm demo --fault drop_frames=0.1@10+20` is a `FaultWindow`: from 10 s on, for 20 s. Without a value a fault
has its usual one, without a window it is there all the time.
"""

import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, Final

_POST_ONLY_AFTER_S: Final = 5.0


class FaultError(ValueError):
    """A fault that does not exist, or a number that it can not have."""


def _probability(usual: float, meaning: str) -> float:
    return field(default=0.0, metadata={"meaning": meaning, "usual": usual, "highest": 1.0})


def _amount(usual: float, meaning: str) -> float:
    return field(default=0.0, metadata={"meaning": meaning, "usual": usual, "highest": math.inf})


@dataclass(frozen=True, slots=True)
class Faults:
    """Faults that are on at one time.

    Raises
    ------
    FaultError
        For a number out of its range.
    """

    drop_frames: float = _probability(0.1, "probability that a frame is lost, its number with it")
    duplicate_frames: float = _probability(0.1, "probability that a frame comes twice, with the same number")
    reorder_frames: float = _probability(0.1, "probability that a frame is late, behind those after it")
    corrupt_frames: float = _probability(0.1, "probability that a frame is cut off or garbled")
    close_streams: float = _probability(0.02, "probability that a stream is closed instead of a frame")
    silent_streams: float = _probability(1.0, "1: no stream tells anything, nor answers a ping")
    unreachable: float = _probability(1.0, "1: every connection is cut, and no request arrives")
    rate_limit: float = _probability(0.5, "probability that a request is refused with 429")
    errors_before: float = _probability(0.3, "probability of a 500 instead of carrying a request out")
    errors_after: float = _probability(0.3, "probability of a 500 after a request was carried out")
    lost_replies: float = _probability(0.3, "probability that a request is carried out and never answered")
    extra_latency_ms: float = _amount(200.0, "added to each leg of requests and streams, ms")
    latency_tail_ms: float = _amount(200.0, "mean of an exponential part added to each leg, ms")
    maintenance: float = _probability(1.0, "1: every request is refused with 1010")
    post_only_after_s: float = _amount(_POST_ONLY_AFTER_S, "post-only mode that follows a maintenance, s")
    unknown_values: float = _probability(
        0.3, "probability of an undocumented word, type or field in an account frame"
    )
    duplicate_trades: float = _probability(0.3, "probability that trades are told twice, each in its turn")
    late_replies: float = _probability(0.3, "probability that a reply takes 4 to 12 s more")
    reorder_replies: float = _probability(0.3, "probability that a reply is late, behind those after it")
    duplicate_replies: float = _probability(0.3, "probability that a reply comes twice")
    stale_lookups: float = _probability(0.3, "probability that a look-up's answer is old when it arrives")
    stale_snapshots: float = _probability(0.5, "probability that a whole book is that of a snapshot before")
    null_liquidation: float = _probability(0.5, "probability that a position has no liquidation price")
    early_fills: float = _probability(0.3, "probability that an order is taken from as soon as it rests")
    late_fills: float = _probability(0.3, "probability that an order is taken from just before its cancel")

    def __post_init__(self) -> None:
        values = asdict(self)
        for each in fields(self):
            _check(each, values[each.name])

    def values(self) -> dict[str, float]:
        """Those that are on, by name."""
        return {name: value for name, value in asdict(self).items() if value > 0}

    def with_those_of(self, other: "Faults") -> "Faults":
        """Both at once; of each fault the larger number."""
        mine, others = asdict(self), asdict(other)
        return Faults(**{name: max(value, others[name]) for name, value in mine.items()})


def _check(fault: Field[Any], value: float) -> None:
    highest = fault.metadata["highest"]
    if not 0 <= value <= highest or math.isinf(value):
        wanted = "0 or more" if math.isinf(highest) else f"a number from 0 to {highest:g}"
        msg = f"fault {fault.name}: expected {wanted}, was {value}"
        raise FaultError(msg)


MEANINGS: Final[dict[str, str]] = {each.name: each.metadata["meaning"] for each in fields(Faults)}
_USUAL: Final[dict[str, float]] = {each.name: each.metadata["usual"] for each in fields(Faults)}


@dataclass(frozen=True, slots=True)
class FaultWindow:
    """Faults, and when: seconds since the exchange opened."""

    faults: Faults
    start_s: float = 0.0
    end_s: float = math.inf


def known_faults() -> str:
    """Table of the faults, for errors and help: name, usual value, meaning."""
    width = max(map(len, MEANINGS))
    return "\n".join(f"{name:<{width}}  {_USUAL[name]:>5g}  {text}" for name, text in MEANINGS.items())


def faults_of(values: Mapping[str, float]) -> Faults:
    """Make faults of their names and numbers.

    Raises
    ------
    FaultError
        For a name that is none, or a number out of its range.
    """
    for name in values:
        if name not in MEANINGS:
            msg = f"no fault {name!r}; there are (with their usual values)\n{known_faults()}"
            raise FaultError(msg)
    return Faults(**values)


def parse_fault(text: str) -> FaultWindow:
    """Read `name[=value][,…][@from+for]`, seconds since the exchange opened.

    Raises
    ------
    FaultError
        If it is not of this form; the message lists the faults.

    Examples
    --------
    >>> window = parse_fault("drop_frames=0.2@10+20")
    >>> window.faults.values(), window.start_s, window.end_s
    ({'drop_frames': 0.2}, 10.0, 30.0)
    >>> parse_fault("maintenance").faults.values()
    {'maintenance': 1.0, 'post_only_after_s': 5.0}
    """
    named, at, when = text.partition("@")
    values = dict(_named_value(part.strip(), text) for part in named.split(","))
    if "maintenance" in values:
        values.setdefault("post_only_after_s", _POST_ONLY_AFTER_S)
    faults = faults_of(values)
    if not at:
        return FaultWindow(faults)
    begin, plus, duration = when.partition("+")
    if not plus:
        raise _malformed(text)
    start_s, duration_s = _number(begin, text), _number(duration, text)
    if start_s < 0 or duration_s <= 0:
        raise _malformed(text)
    return FaultWindow(faults, start_s, start_s + duration_s)


def _named_value(part: str, text: str) -> tuple[str, float]:
    name, equals, value = part.partition("=")
    return name, _number(value, text) if equals else _USUAL.get(name, 1.0)


def _number(word: str, text: str) -> float:
    try:
        number = float(word)
    except ValueError as error:
        raise _malformed(text) from error
    if not math.isfinite(number):
        raise _malformed(text)
    return number


def _malformed(text: str) -> FaultError:
    msg = (
        f"fault {text!r}: expected name[=value][@from+for], such as drop_frames=0.1@10+20 (seconds); "
        f"there are (with their usual values)\n{known_faults()}"
    )
    return FaultError(msg)
