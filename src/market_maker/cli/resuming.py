"""How a latch is lifted: by a request to the process that runs, or by a record for the next start."""

import asyncio
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from market_maker.cli.confirmation import WORD, check_word
from market_maker.clock import Clock, SystemClock
from market_maker.config import Config
from market_maker.config_sections import Network, SessionSettings
from market_maker.domain import NS_PER_S, Reason
from market_maker.journal_files import JournalFiles, JournalSettings
from market_maker.kill_ladder import LOSSES, Step
from market_maker.order_records import OrderSettings
from market_maker.past import RESUMED, Past, latest_past
from market_maker.resume_requests import ResumeRequests
from market_maker.status import Status, StatusError, is_running, read_status
from market_maker.trade_journal import InlineSink, TradeJournal

_PATIENCE_NS: Final = 15 * NS_PER_S
_LOOK_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Lifted:
    """What came of it: what was latched and for what, whether a process runs, whether it is lifted now.

    `where` is what was looked at, in words.
    """

    running: bool
    step: str
    cause: str
    is_done: bool
    accepts_positions: bool = False
    where: str = ""

    def as_dict(self) -> dict[str, object]:
        """As `--json` has it."""
        fields = asdict(self)
        del fields["where"]
        return {"resumed": fields.pop("is_done") and self.has_effect, **fields}

    @property
    def has_effect(self) -> bool:
        """Whether there was anything to lift or to accept."""
        return bool(self.step) or self.accepts_positions

    @property
    def text(self) -> str:
        """As a person reads it."""
        if not self.has_effect:
            return f"nothing is latched {self.where}: the kill ladder comes down by itself"
        what = f"{self.step} for {self.cause}" if self.step else "the doubt about positions"
        if not self.is_done:
            return f"{what}: the process that runs did not lift it in time; see mm status"
        whom = "the session quotes again" if self.running else "the next start may trade"
        return f"lifted {what}; losses are counted from now on, and {whom}"


def resume_session(
    config: Config, folder: Path, why: str, confirmed: str | None, *, accept_positions: bool
) -> Lifted:
    """Lift what is latched in a folder of journals.

    Raises
    ------
    NotConfirmed
        If nobody confirms real money.
    OSError
        If the folder can not be written.
    """
    clock, status = SystemClock(), _running(folder)
    if status is not None:
        if not _is_liftable(status):
            where = f"in the session on {status.venue} that runs"
            return Lifted(running=True, step="", cause="", is_done=True, where=where)
        _confirm(status.venue, confirmed)
        return asyncio.run(_ask(folder, status, why, clock))
    settings = config.of(SessionSettings)
    venue, prefix = settings.network.value, config.of(OrderSettings).order_id_prefix
    past = latest_past(folder, venue, prefix)
    where = f"on {venue} under the prefix {prefix} in {folder}"
    lifted = replace(_of_past(past, accept_positions=accept_positions), where=where)
    if past is not None and lifted.has_effect:
        _confirm(past.whose.venue, confirmed)
        _write(config, folder, past, why, clock, lifted)
    return lifted


def _running(folder: Path) -> Status | None:
    """Status of the process that runs, if one does."""
    try:
        status = read_status(folder)
    except StatusError:
        return None
    return status if is_running(status) else None


def _confirm(venue: str, confirmed: str | None) -> None:
    if venue != Network.MAINNET.value:
        return
    if confirmed is None:
        question = f"REAL MONEY. Type {WORD} to let it trade again, anything else to leave: "
        Console(stderr=True).print(Text(question, style="bold red"), end="")
        confirmed = sys.stdin.readline()
    check_word(confirmed)


async def _ask(folder: Path, status: Status, why: str, clock: Clock) -> Lifted:
    """Ask the process, and wait until its status says that it has lifted the latch."""
    requests = ResumeRequests(folder, status.pid)
    requests.put(why)
    deadline_ns = clock.now_ns() + _PATIENCE_NS
    is_done = False
    while not is_done and clock.now_ns() < deadline_ns:
        await asyncio.sleep(_LOOK_S)
        now = _running(folder)
        is_done = now is not None and not _is_liftable(now)
    if not is_done:
        requests.drop()
    step = status.kill_latch or status.kill_step
    return Lifted(running=True, step=step, cause=status.kill_cause, is_done=is_done)


def _is_liftable(status: Status) -> bool:
    """Whether time alone does not bring the ladder down."""
    return bool(status.kill_latch) or status.kill_cause in {cause.name for cause in LOSSES}


def _of_past(past: Past | None, *, accept_positions: bool) -> Lifted:
    """What is latched on disk; a halt of the risk manager's that is no step of the ladder counts too."""
    if past is None:
        return Lifted(running=False, step="", cause="", is_done=True)
    halt = Reason.NONE if past.risk is None else past.risk.halt
    step, cause = past.latch.name, past.latched_by.name
    if past.latch == Step.NORMAL:
        by_loss = past.step if past.cause in LOSSES else Step.NORMAL
        step, cause = (by_loss.name, past.cause.name) if by_loss else ("", "")
        step, cause = (Step.REDUCE_ONLY.name, halt.name) if halt else (step, cause)
    return Lifted(running=False, step=step, cause=cause, is_done=True, accepts_positions=accept_positions)


def _write(config: Config, folder: Path, past: Past, why: str, clock: Clock, lifted: Lifted) -> None:
    """Keep a record that the next start reads."""
    settings = replace(config.of(JournalSettings), journal_dir=str(folder))
    sink = InlineSink(JournalFiles("mm", settings, clock))
    journal = TradeJournal(sink, clock)
    fields = {
        **past.whose._asdict(),
        "from": lifted.step or Step.NORMAL.name,
        "cause": lifted.cause,
        "why": why,
        "accepts_positions": lifted.accepts_positions,
    }
    journal.keep(RESUMED, fields)
    journal.close()
    if sink.failed is not None:
        raise OSError(sink.failed)
