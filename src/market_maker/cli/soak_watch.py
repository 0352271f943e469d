"""What a process holds, looked at from outside: by the system, by its metrics, by its status file.

The system's part is Linux's `/proc`; whatever does not answer just now (while it starts) is None.
"""

import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from market_maker.status import Status, StatusError, read_status

_PROC: Final = Path("/proc")
_MB: Final = 1e6
_MS_PER_S: Final = 1e3
_US_PER_S: Final = 1e6
_ANSWER_S: Final = 2.0


class CannotWatch(Exception):
    """The system does not tell what a process holds."""


class ProcessGone(Exception):
    """The process that is watched is no more."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process at one instant, s since the watch began; None: not told.

    Memory in 10⁶ bytes; `loop_late_ms` is how late the timers of its event loop were since the last sample,
    `decision_us` the mean time of a decision since then, `round_trip_ms` the order latency that it measures.
    """

    at_s: float
    memory_mb: float
    descriptors: int
    threads: int
    tasks: int | None = None
    python_blocks: int | None = None
    loop_late_ms: float | None = None
    loop_latest_ms: float | None = None
    decision_us: float | None = None
    round_trip_ms: float | None = None
    orders: int | None = None
    fills: int | None = None
    halted: str | None = None


def check_watchable() -> None:
    """Fail where there is no way to look at another process.

    Raises
    ------
    CannotWatch
        If the system has no `/proc` of Linux's kind.
    """
    if not (_PROC / "self" / "statm").exists():
        msg = (
            "expected Linux, whose /proc tells what a process holds; there is none here: soak in a container"
        )
        raise CannotWatch(msg)


def look_at_process(pid: int, at_s: float) -> Sample:
    """What the system says of a process.

    Raises
    ------
    ProcessGone
        If it has ended.
    """
    folder = _PROC / str(pid)
    try:
        pages = int((folder / "statm").read_text().split()[1])
        descriptors, threads = len(os.listdir(folder / "fd")), len(os.listdir(folder / "task"))
    except OSError as error:
        msg = f"expected process {pid} to run, was gone"
        raise ProcessGone(msg) from error
    return Sample(at_s, pages * os.sysconf("SC_PAGE_SIZE") / _MB, descriptors, threads)


class BotWatch:
    """Takes samples of a bot: of its process, its metrics and its status file.

    Parameters
    ----------
    metrics_port : int
        Where it serves its metrics, on this machine.
    journal : Path
        Its journal folder.
    """

    def __init__(self, pid: int, metrics_port: int, journal: Path) -> None:
        self._pid = pid
        self._url = f"http://127.0.0.1:{metrics_port}/metrics"
        self._journal = journal
        self._decided = (0.0, 0.0)

    def take(self, at_s: float) -> Sample:
        """Look once.

        Raises
        ------
        ProcessGone
            If the process has ended.
        """
        # The system first: answering is work of the bot's own.
        seen = look_at_process(self._pid, at_s)
        told = self._metrics()
        if not told:
            return seen
        status = self._status()
        return Sample(
            at_s,
            seen.memory_mb,
            seen.descriptors,
            seen.threads,
            tasks=round(told["mm_tasks"]),
            python_blocks=round(told["mm_python_blocks"]),
            loop_late_ms=told["mm_loop_late_seconds"] * _MS_PER_S,
            loop_latest_ms=told["mm_loop_latest_seconds"] * _MS_PER_S,
            decision_us=self._decision_us(told),
            round_trip_ms=_round_trip_ms(status),
            orders=round(told.get("mm_orders_total", 0.0)),
            fills=round(told.get("mm_fills_total", 0.0)),
            halted=None if status is None else _halted(status),
        )

    def _metrics(self) -> dict[str, float]:
        """Sums over all labels by name; empty where nobody answers."""
        try:
            with urllib.request.urlopen(self._url, timeout=_ANSWER_S) as reply:
                text = reply.read().decode()
        except OSError:
            return {}
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def _status(self) -> Status | None:
        try:
            return read_status(self._journal)
        except StatusError:
            return None

    def _decision_us(self, told: dict[str, float]) -> float | None:
        """Mean since the last look."""
        before = self._decided
        self._decided = told.get("mm_decision_seconds_sum", 0.0), told.get("mm_decision_seconds_count", 0.0)
        count = self._decided[1] - before[1]
        return (self._decided[0] - before[0]) / count * _US_PER_S if count else None


def _round_trip_ms(status: Status | None) -> float | None:
    if status is None or not status.markets:
        return None
    return sum(market.latency_ms for market in status.markets) / len(status.markets)


def _halted(status: Status) -> str:
    return ", ".join(f"{market.market} {market.halt}" for market in status.markets if market.halt)
