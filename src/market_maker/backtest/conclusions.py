"""What a result does not support, in plain sentences."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from market_maker.backtest.outcome import Interval

FEW_FILLS: Final = 100
FEW_BLOCKS: Final = 10
LARGEST_SHARE: Final = 0.05
_OWN: Final = "extended"


@dataclass(frozen=True)
class Source:
    """Where a recording comes from: its venue, and whether trades say who took."""

    venue: str = ""
    sides_sure: bool = True

    @property
    def is_extended(self) -> bool:
        """Whether it is the exchange that the bot is for."""
        return self.venue.casefold().startswith(_OWN)


@dataclass(frozen=True)
class Evidence:
    """What a result rests on."""

    fills: int
    blocks: int
    seconds: float
    volume_share: float
    intervals: Mapping[str, Interval]
    liquidated: bool = False


def conclusions(evidence: Evidence, source: Source) -> tuple[str, ...]:
    """Sentences that stand against a conclusion, the gravest first; none where the data bears one."""
    found = [*_of_amount(evidence), *_of_intervals(evidence), *_of_source(source)]
    return tuple(found)


def _of_amount(evidence: Evidence) -> list[str]:
    found = []
    if evidence.liquidated:
        found.append(
            "Its equity fell to the maintenance margin: the exchange would have taken its position over."
        )
    if not evidence.fills:
        found.append("Nothing was filled: the data says nothing of profit.")
    elif evidence.fills < FEW_FILLS:
        found.append(
            f"{_count(evidence.fills, 'fill')}: too few to judge profit by volume (fewer than {FEW_FILLS})."
        )
    if evidence.blocks < FEW_BLOCKS:
        found.append(
            f"{evidence.seconds / 60:.1f} minutes were scored, "
            f"{_count(evidence.blocks, 'independent block')} of time: too short for an interval to be "
            f"trusted (fewer than {FEW_BLOCKS})."
        )
    if evidence.volume_share > LARGEST_SHARE:
        found.append(
            f"Our volume is {evidence.volume_share:.1%} of the market's: beyond {LARGEST_SHARE:.0%} "
            "the recording does not show how the market would have answered."
        )
    return found


def _of_intervals(evidence: Evidence) -> list[str]:
    interval = evidence.intervals.get("pnl_per_hour_usd")
    if interval is None or not evidence.fills or not interval.spans_zero:
        return []
    return [
        f"Profit and loss cannot be told apart: {interval.estimate:+.4g} USD an hour, "
        f"{interval.confidence:.0%} interval {interval.low:+.4g} … {interval.high:+.4g}."
    ]


def _of_source(source: Source) -> list[str]:
    found = []
    if not source.sides_sure:
        found.append(
            "The taker's side of the trades is inferred: who would have been filled is less certain."
        )
    if not source.is_extended:
        venue = source.venue or "another venue"
        found.append(f"Recorded on {venue}, not on Extended: its takers, latency and fees may differ.")
    return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
