"""The status: written whole, read back, and shown with a reason for each quote that is missing."""

import io
import os

import pytest
from rich.console import Console

from market_maker.status import (
    FILE_NAME,
    MarketStatus,
    QuoteStatus,
    Status,
    StatusError,
    is_running,
    read_status,
    status_view,
    write_status,
)


def status(**changes) -> Status:
    quotes = [
        QuoteStatus("BUY", 0, "84000", "0.01", "LIVE", "WITHIN_TOLERANCE"),
        QuoteStatus("BUY", 1, "", "", "NONE", "POSITION_LIMIT"),
        QuoteStatus("SELL", 0, "", "", "NONE", "STRONG_TREND"),
    ]
    market = MarketStatus(
        market="BTC-USD",
        regime="ELEVATED",
        trend="BULLISH",
        trend_strength=0.75,
        sigma_bps=12.3,
        mid="84001.5",
        position="0.02",
        position_usd=changes.pop("position_usd", "1,680.03"),
        fills=7,
        pnl_usd="-1.25",
        latency_ms=85.0,
        halt=changes.pop("halt", ""),
        quotes=changes.pop("quotes", quotes),
    )
    given = {
        "pid": os.getpid(),
        "state": "QUOTING",
        "profile": "crypto",
        "venue": "emulator",
        "started_ns": 1,
        "updated_ns": 2,
        "written_ns": 3,
        "equity_usd": "9,998.75",
        "pnl_usd": "-1.25",
        "journal": "journal/mm.jsonl",
        "markets": [market],
    }
    return Status(**(given | changes))


def shown(value: Status, footer="") -> str:
    console = Console(width=140, record=True, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    console.print(status_view(value, footer))
    console.file.close()
    return console.export_text()


def test_what_is_written_is_read_back(tmp_path):
    write_status(tmp_path, status())
    assert read_status(tmp_path) == status()
    write_status(tmp_path, status(state="STOPPED"))
    assert read_status(tmp_path).state == "STOPPED"
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_what_is_written_is_for_its_owner_alone(tmp_path):
    write_status(tmp_path, status())
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_what_can_not_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "status.json").mkdir()
    with pytest.raises(OSError):  # noqa: PT011  (whichever the system says)
        write_status(tmp_path, status())
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]


def test_a_folder_without_a_status_says_so(tmp_path):
    with pytest.raises(StatusError, match="nothing has run"):
        read_status(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"pid": "x"}', b"[]"])
def test_a_file_that_is_no_status_says_so(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(StatusError, match="can not be read"):
        read_status(tmp_path)


def test_the_view_has_the_quotes_and_the_reason_for_each_that_is_missing():
    text = shown(status(), "Ctrl-C stops")
    for part in (
        "BTC-USD",
        "ELEVATED",
        "0.01 @ 84000",
        "position limit",
        "strong trend",
        "1,680.03",
        "9,998.75",
    ):
        assert part in text
    assert "stream lost" not in text
    assert "Ctrl-C stops" in text


def test_nothing_of_the_view_is_cut_off_at_80_columns():
    quotes = [
        QuoteStatus(side, level, "84047.5", "0.01189", "LIVE", "")
        for side in ("BUY", "SELL")
        for level in (0, 1)
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(status_view(status(halt="CIRCUIT_BREAKER", quotes=quotes, position_usd="-10,680.03")))
    text = console.export_text()
    assert "…" not in text
    for words in ("7 fills", "-1.25 $", "-10,680.03 $", "84047.5", "0.01189 @", "breaker"):
        assert words in text


def test_the_view_says_that_a_market_is_halted():
    assert "stream lost" in shown(status(halt="STREAM_LOST"))


@pytest.mark.parametrize(("venue", "is_red"), [("mainnet", True), ("testnet", False), ("emulator", False)])
def test_the_network_is_shown_and_real_money_in_red(venue, is_red):
    console = Console(record=True, width=110, file=io.StringIO(), force_terminal=True)
    console.print(status_view(status(venue=venue)))
    head = console.export_text(styles=True).splitlines()[0]
    assert venue in head
    assert ("41m" in head) is is_red


def test_a_process_that_is_there_runs_and_one_that_stopped_does_not():
    assert is_running(status())
    assert not is_running(status(state="STOPPED"))


def test_where_the_kill_ladder_stands_is_shown_with_the_way_down():
    assert "kill ladder" not in shown(status())
    latency = shown(status(kill_step="WIDEN", kill_cause="LATENCY"))
    assert "kill ladder: widen for latency; it comes down by itself" in latency
    lost = shown(status(kill_step="REDUCE_ONLY", kill_cause="DRAWDOWN"))
    assert "reduce only for drawdown; it comes down with profit, or by mm resume" in lost
    latched = shown(status(kill_step="FLATTEN", kill_cause="DRAWDOWN", kill_latch="FLATTEN"))
    assert "kill ladder: flatten for drawdown; latched: mm resume lifts it" in latched
