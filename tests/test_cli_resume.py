"""`mm resume`: the only way down from what is latched, for a session that runs and for the next start."""

import json
import os
import stat
import sys
from io import StringIO
from threading import Thread

import pytest

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.clock import SystemClock
from market_maker.domain import Reason
from market_maker.journal_files import JournalFiles, JournalSettings
from market_maker.kill_ladder import Cause, Step
from market_maker.past import Whose, read_past
from market_maker.resume_requests import ResumeRequests
from market_maker.risk_manager import RiskState
from market_maker.status import Status, write_status
from market_maker.trade_journal import InlineSink, TradeJournal

WHOSE = Whose("testnet", "7", "mm")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)


def status(**changes) -> Status:
    given = {
        "pid": os.getpid(),
        "state": "QUOTING",
        "profile": "crypto",
        "venue": "testnet",
        "started_ns": 1,
        "updated_ns": 2,
        "written_ns": 3,
        "equity_usd": "1",
        "pnl_usd": "0",
        "journal": "journal/mm.jsonl",
        "markets": [],
        "kill_step": "FLATTEN",
        "kill_cause": "DRAWDOWN",
        "kill_latch": "FLATTEN",
    }
    return Status(**(given | changes))


def session_that_was_killed(
    folder, whose=WHOSE, latch=Step.FLATTEN, halt=Reason.RISK_DRAWDOWN, step=Step.NORMAL
):
    """A journal as a session leaves it that nobody ended."""
    journal = TradeJournal(
        InlineSink(JournalFiles("mm", JournalSettings(journal_dir=str(folder)), SystemClock())), SystemClock()
    )
    risk = RiskState(peak_pusd=9, day_start_pusd=8, day=1)
    fields = {
        **whose._asdict(),
        "positions": {"BTC-USD": 5},
        "risk": risk._asdict() | {"halt": halt.name},
        "latch": latch.name,
        "latched_by": (Cause.DRAWDOWN if latch else Cause.NONE).name,
        "hedge": {"fees_usd": 1.5, "day": 1},
    }
    journal.keep("checkpoint", fields)
    if step:
        ladder = {"step": step.name, "cause": "DRAWDOWN", "latch": "NORMAL", "latched_by": "NONE"}
        journal.keep("kill_step", ladder)
    journal.close()


def answered(capsys, *arguments) -> tuple[int, dict]:
    code = main(["resume", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def session_that_runs(folder, asked: list[str], **changes) -> Thread:
    """Takes the request as a session does, and says so in its status."""
    folder.mkdir(exist_ok=True)
    write_status(folder, status(**changes))
    requests = ResumeRequests(folder, os.getpid())

    def run():
        deadline_ns = SystemClock().now_ns() + 10 * 10**9
        while not asked and SystemClock().now_ns() < deadline_ns:
            why = requests.take()
            if why is not None:
                asked.append(why)
                write_status(folder, status(kill_step="NORMAL", kill_cause="", kill_latch=""))

    thread = Thread(target=run)
    thread.start()
    return thread


def test_a_session_that_runs_is_asked_and_what_was_lifted_is_said(tmp_path, capsys):
    asked = []
    thread = session_that_runs(tmp_path / "journal", asked)
    code, found = answered(capsys, "--why", "looked at the fills")
    thread.join()
    assert code == ExitCode.OK
    assert asked == ["looked at the fills"]
    assert found == {
        "resumed": True,
        "running": True,
        "step": "FLATTEN",
        "cause": "DRAWDOWN",
        "accepts_positions": False,
    }
    assert not list((tmp_path / "journal").glob("resume*"))


def test_a_session_that_runs_and_has_nothing_latched_is_left_alone(tmp_path, capsys):
    folder = tmp_path / "journal"
    folder.mkdir()
    write_status(folder, status(kill_step="WIDEN", kill_cause="LATENCY", kill_latch=""))
    assert main(["resume"]) == ExitCode.OK
    assert "nothing is latched" in capsys.readouterr().err
    assert not list(folder.glob("resume*"))


@pytest.mark.parametrize("cause", ["DRAWDOWN", "DAY_LOSS"])
def test_a_loss_that_only_profit_would_bring_down_is_lifted_though_it_is_not_latched(tmp_path, capsys, cause):
    lost = {"kill_step": "REDUCE_ONLY", "kill_cause": cause, "kill_latch": ""}
    thread = session_that_runs(tmp_path / "journal", asked := [], **lost)
    code, found = answered(capsys)
    thread.join()
    assert (code, len(asked)) == (ExitCode.OK, 1)
    assert (found["resumed"], found["step"], found["cause"]) == (True, "REDUCE_ONLY", cause)


def test_such_a_loss_is_lifted_for_the_next_start_too(tmp_path, capsys):
    session_that_was_killed(tmp_path / "journal", latch=Step.NORMAL, halt=Reason.NONE, step=Step.REDUCE_ONLY)
    code, found = answered(capsys)
    assert (code, found["resumed"], found["step"], found["cause"]) == (0, True, "REDUCE_ONLY", "DRAWDOWN")
    assert read_past(tmp_path / "journal", WHOSE).risk is None
    assert not answered(capsys)[1]["resumed"]


def test_where_nothing_runs_the_next_start_finds_nothing_latched(tmp_path, capsys):
    folder = tmp_path / "journal"
    session_that_was_killed(folder)
    assert read_past(folder, WHOSE).latch is Step.FLATTEN
    code, found = answered(capsys)
    assert code == ExitCode.OK
    assert (found["resumed"], found["running"], found["step"], found["cause"]) == (
        True,
        False,
        "FLATTEN",
        "DRAWDOWN",
    )
    past = read_past(folder, WHOSE)
    assert (past.latch, past.latched_by, past.risk) == (Step.NORMAL, Cause.NONE, None)
    # What is not latched stays: positions are still compared, and hedges have paid what they paid.
    assert past.positions == {"BTC-USD": 5}
    assert not past.positions_accepted
    assert past.hedge_fees_usd == 1.5
    # A second time there is nothing left to lift.
    assert answered(capsys) == (
        ExitCode.OK,
        {"resumed": False, "running": False, "step": "", "cause": "", "accepts_positions": False},
    )


def test_however_many_demos_came_since_what_is_latched_stays_so(tmp_path, capsys):
    folder = tmp_path / "journal"
    session_that_was_killed(folder)
    for number in range(60):
        path = folder / f"mm-20260105T000000.{number:06d}-0000.jsonl"
        path.write_text('{"type":"session_start","t":1}\n')
    assert read_past(folder, WHOSE).latch is Step.FLATTEN
    assert answered(capsys)[1]["resumed"]


def test_a_halt_of_the_risk_manager_alone_is_lifted_too(tmp_path, capsys):
    session_that_was_killed(tmp_path / "journal", latch=Step.NORMAL)
    code, found = answered(capsys)
    assert (code, found["step"], found["cause"]) == (ExitCode.OK, "REDUCE_ONLY", "RISK_DRAWDOWN")
    assert read_past(tmp_path / "journal", WHOSE).risk is None


def test_positions_are_accepted_only_where_that_is_said(tmp_path, capsys):
    folder = tmp_path / "journal"
    session_that_was_killed(folder, latch=Step.NORMAL, halt=Reason.NONE)
    assert not answered(capsys)[1]["resumed"]
    assert not read_past(folder, WHOSE).positions_accepted
    assert main(["resume", "--accept-positions"]) == ExitCode.OK
    assert "lifted the doubt about positions" in capsys.readouterr().err
    assert read_past(folder, WHOSE).positions_accepted


def test_nothing_that_ever_ran_has_nothing_latched(tmp_path, capsys):
    assert main(["resume", "--folder", str(tmp_path / "elsewhere")]) == ExitCode.OK
    said = capsys.readouterr().err
    assert "nothing is latched" in said
    # Settings of the command line are not known here: a session on mainnet is looked for with its own.
    assert "on testnet under the prefix mm in " in said
    # Another bot's latch is its own.
    session_that_was_killed(tmp_path / "journal", Whose("testnet", "7", "other"))
    assert not answered(capsys)[1]["resumed"]


@pytest.mark.parametrize(
    ("arguments", "typed", "code"),
    [
        ((), "mainnet\n", ExitCode.OK),
        ((), "yes\n", ExitCode.USAGE),
        (("--confirm", "mainnet"), "", ExitCode.OK),
        (("--confirm", "yes"), "", ExitCode.USAGE),
    ],
)
def test_real_money_is_confirmed_by_a_word(tmp_path, capsys, monkeypatch, arguments, typed, code):
    whose = WHOSE._replace(venue="mainnet")
    session_that_was_killed(tmp_path / "journal", whose)
    monkeypatch.setattr(sys, "stdin", StringIO(typed))
    assert main(["resume", "--set", "network=mainnet", *arguments]) == code
    assert read_past(tmp_path / "journal", whose).latch is (Step.NORMAL if code == 0 else Step.FLATTEN)
    assert ("Type mainnet" in capsys.readouterr().err) == (not arguments)


# The request itself


def test_a_request_is_its_owners_alone_and_taken_once(tmp_path):
    requests = ResumeRequests(tmp_path, 5)
    assert requests.take() is None
    requests.put("why " * 100)
    assert stat.S_IMODE(requests.path.stat().st_mode) == 0o600
    assert requests.take() == ("why " * 100)[:200]
    assert requests.take() is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_others_may_write_or_that_leads_elsewhere_is_no_request(tmp_path):
    requests = ResumeRequests(tmp_path, 5)
    requests.put("why")
    requests.path.chmod(0o666)
    assert requests.take() is None
    (tmp_path / "target").write_text("why")
    requests.path.symlink_to(tmp_path / "target")
    assert requests.take() is None
