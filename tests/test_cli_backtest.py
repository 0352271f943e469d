"""`mm backtest` as it is typed: output, exit codes, what is saved, and what is refused."""

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from played_markets import START_NS, S, write_market

from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.recordings.store import open_store

pytest.importorskip("polars")
PATIENCE_S = 300
QUICK = ("--latency-ms", "20", "--fill-model", "base", "--profile", "crypto")
PARTS = ("spread", "adverse_selection", "inventory", "fees", "rebates", "funding")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    for name in [name for name in os.environ if name.startswith("MM_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Markets are kept here. The kernels' own folder was chosen when the tests began."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def recording(tmp_path, cache):
    where = tmp_path / "recording"
    where.mkdir()
    return write_market(where)


@pytest.fixture
def mm(capsys):
    def run(*words):
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def child(*words):
    command = [sys.executable, "-m", "market_maker", "backtest", *words]
    return subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)


@pytest.mark.slow
def test_everybody_plays_under_every_model_and_latency(mm, recording):
    names = [word for name in ("symmetric", "avellaneda_stoikov", "glft") for word in ("--baseline", name)]
    code, out, _ = mm("backtest", "--data", "recording", "--latency-ms", "10,1000", *names, "--json")
    assert code == ExitCode.OK
    told = json.loads(out)
    runs = told["runs"]
    players = {"crypto", "legacy", "symmetric", "avellaneda_stoikov", "glft"} - {
        *told["calibration"]["BTC-USD"]["left_out"]
    }
    played = {(run["name"], run["fill_model"], run["latency_ms"]) for run in runs}
    models = ("pessimistic", "base", "optimistic")
    assert played == {(n, m, ms) for n in players for m in models for ms in (10.0, 1000.0)}
    for run in runs:
        pnl = run["pnl_usd"]
        assert Decimal(pnl["total"]) == sum(Decimal(pnl[part]) for part in PARTS)
        assert sum(run["pauses"].values()) + sum(run["one_sided"].values()) + run["quote_uptime"] == (
            pytest.approx(1.0)
        )
        assert run["conclusions"]
    assert any(run["fills"]["count"] for run in runs)
    data = told["data"]["BTC-USD"]
    assert (data["tick"], data["step"], data["taker_unsure_share"]) == ("0.1", "0.001", 0.0)
    assert data["scored_from"] == "2026-01-01T00:00:24.000Z" or data["scored_from"].startswith("2026-01-01")
    assert [len(file["sha256"]) for file in data["sources"]] == [64, 64]


@pytest.mark.slow
def test_the_table_names_who_played(mm, recording):
    code, out, _ = mm("backtest", "--data", "recording", *QUICK, "--profile", "legacy")
    assert code == ExitCode.OK
    assert "BTC-USD, 20 ms" in out
    assert "crypto" in out
    assert "legacy" in out


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes_here_and_in_another_process(mm, recording):
    words = ("--data", "recording", *QUICK, "--baseline", "symmetric", "--json", "--save")
    first = mm("backtest", *words, "one")[1]
    second = mm("backtest", *words, "two")[1]
    third = child(*words, "three")
    assert third.returncode == ExitCode.OK, third.stderr.decode()
    assert first == second == third.stdout.decode()
    saved = [
        {path.name: path.read_bytes() for path in Path(name).iterdir()} for name in ("one", "two", "three")
    ]
    assert saved[0] == saved[1] == saved[2]
    assert "result.json" in saved[0]


@pytest.mark.slow
def test_two_thousand_events_are_played_alike_compiled_and_not(mm, recording):
    near = ("offset_mode=fixed", "price_offset_per_level_percent=0.003", "min_edge_bps=0")
    settings = [word for setting in near for word in ("--set", setting)]
    words = ("--data", "recording", *QUICK, "--baseline", "symmetric", "--json", *settings)
    words += ("--to", "2026-01-01T00:00:25")
    compiled = mm("backtest", *words)[1]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "market_maker", "backtest", *words]
    plain = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=True, env=environment)
    told = json.loads(compiled)
    assert told["data"]["BTC-USD"]["events"] > 1_500
    assert all(run["fills"]["count"] for run in told["runs"])
    assert compiled == plain.stdout.decode()


@pytest.mark.slow
def test_nothing_looks_ahead_and_the_check_is_told(mm, recording):
    code, out, _ = mm("backtest", "--data", "recording", *QUICK, "--check-look-ahead", "--json")
    checks = json.loads(out)["look_ahead"]["BTC-USD"]
    assert code == ExitCode.OK
    assert [check["sound"] for check in checks] == [True] * 3
    assert all(check["seconds_before"] > 20 and check["seconds_changed_after"] for check in checks)
    code, out, _ = mm("backtest", "--data", "recording", *QUICK, "--check-look-ahead")
    assert (code, out.count("the future changed from 2026-01-01T00:0")) == (ExitCode.OK, 3)


@pytest.mark.slow
def test_funding_from_a_table_is_paid(mm, recording):
    import polars as pl

    stamps = [START_NS + 60 * S, START_NS + 90 * S]
    at = pl.Series(stamps).cast(pl.Datetime("ns", "UTC"))
    columns = {"venue": ["here"] * 2, "market": ["BTC"] * 2, "ts": at, "rate": [0.001, 0.002]}
    pl.DataFrame(columns).write_parquet("funding.parquet")
    words = ("--data", "recording", *QUICK, "--set", "min_offset_bps=0.1", "--json")
    plain = json.loads(mm("backtest", *words)[1])
    code, out, _ = mm("backtest", *words, "--funding", "funding.parquet", "--funding-venue", "here")
    told = json.loads(out)
    assert (code, told["data"]["BTC-USD"]["funding_payments"]) == (ExitCode.OK, 2)
    assert plain["data"]["BTC-USD"]["funding_payments"] == 0
    assert [Decimal(run["pnl_usd"]["funding"]) for run in plain["runs"]] == [0]
    for run in told["runs"]:
        assert Decimal(run["pnl_usd"]["total"]) == sum(Decimal(run["pnl_usd"][part]) for part in PARTS)
        assert Decimal(run["pnl_usd"]["funding"]) != 0


@pytest.mark.parametrize("words", [("--baseline", "glft"), ("--save", "kept"), ("--one-account",)])
def test_stress_plays_profiles_and_keeps_nothing(mm, words):
    code, _, err = mm("backtest", "--data", "bars.parquet", "--stress", *words)
    assert (code, words[0] in err) == (ExitCode.USAGE, True), err
    code, _, err = mm("backtest", "--data", "bars.parquet", "--stress")
    assert (code, "bars.parquet" in err) == (ExitCode.DATA, True), err


@pytest.mark.slow
def test_variants_are_compared_with_their_profile(mm, tmp_path, cache):
    # Three blocks of time are the least that anything can be said of.
    write_market(tmp_path, seconds=300)
    words = ("backtest", "--data", str(tmp_path), *QUICK, "--without", "trend,regime")
    words += ("--variant", "same:trend_enabled=true", "--set", "min_edge_bps=0")
    code, out, _ = mm(*words, "--json")
    assert code == ExitCode.OK
    told = json.loads(out)
    names = ["crypto", "crypto without trend", "crypto without regime", "crypto same"]
    assert [run["name"] for run in told["runs"]] == names
    assert [one["variant"] for one in told["comparisons"]] == names[1:]
    assert {one["comparisons"] for one in told["comparisons"]} == {3}
    for one in told["comparisons"]:
        assert one["adjusted"]["low"] <= one["interval"]["low"] <= one["interval"]["high"]
    assert told["comparisons"][2]["interval"]["low"] == told["comparisons"][2]["interval"]["high"] == 0.0
    text = mm(*words)[1]
    assert "PnL of a variant over its profile's" in text
    assert "up to 3" in text


@pytest.mark.slow
def test_a_saved_result_is_what_mm_report_shows(mm, recording):
    pytest.importorskip("plotly")
    printed = mm("backtest", "--data", "recording", *QUICK, "--json", "--save", "kept")[1]
    code, shown, _ = mm("report", "kept", "--json")
    assert (code, shown) == (ExitCode.OK, printed)


@pytest.mark.slow
def test_markets_are_played_one_after_the_other_or_chosen(mm, recording):
    write_market(recording, "ETH", seed=5)
    out = mm("backtest", "--data", "recording", *QUICK, "--json")[1]
    assert [run["market"] for run in json.loads(out)["runs"]] == ["BTC-USD", "ETH-USD"]
    [store] = [path for path in Path("cache/extended-market-maker/markets").iterdir() if path.is_dir()]
    alone = mm("backtest", "--data", str(store), "--market", "ETH", *QUICK, "--json")[1]
    assert json.loads(alone)["runs"] == json.loads(out)["runs"][1:]


@pytest.mark.slow
def test_markets_share_an_account_where_that_is_asked_for(mm, recording):
    write_market(recording, "ETH", seed=5)
    words = ("backtest", "--data", "recording", *QUICK, "--json", "--set", "max_gross_notional_usd=1000")
    apart, together = (json.loads(mm(*words, *more)[1])["runs"] for more in ((), ("--one-account",)))
    assert [run["market"] for run in together] == ["BTC-USD", "ETH-USD"]
    most = [sum(Decimal(run["inventory_usd"]["max_abs"]) for run in runs) for runs in (apart, together)]
    assert most[1] < most[0]
    assert {run["open_orders_at_end"] for run in together} != {0}


@pytest.mark.slow
def test_without_takers_only_trades_through_a_price_fill(mm, recording):
    write_market(recording, sure=0.5)
    code, out, err = mm("backtest", "--data", "recording", *QUICK, "--json")
    assert code == ExitCode.OK
    assert {run["fill_model"] for run in json.loads(out)["runs"]} == {"trade_through"}
    assert "trade_through" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--baseline", "magic"), "magic"),
        (("--fill-model", "hopeful"), "hopeful"),
        (("--latency-ms", "fast"), "fast"),
        (("--latency-ms", "10,-1"), "-1"),
        (("--profile", "nobody"), "nobody"),
        (("--set", "level_size_usd=-1"), "level_size_usd"),
        (("--calibrate-share", "0.99"), "calibrate-share"),
        (("--from", "yesterday"), "yesterday"),
        (("--without", "luck"), "luck"),
        (("--without", "portfolio"), "--one-account"),
        (("--variant", "fade"), "NAME:setting=value"),
        (("--variant", "x:trend_mode=sideways"), "trend_mode"),
        (("--variant", "x:level_size_usd=9"), "expected the sizes of crypto"),
    ],
)
def test_a_wrong_word_is_refused(mm, recording, words, message):
    code, out, err = mm("backtest", "--data", "recording", *words)
    assert (code, out) == (ExitCode.USAGE, "")
    assert message in err


def truncated(path):
    path.write_bytes(path.read_bytes()[:-200])


def emptied(path):
    path.write_bytes(b"")


def corrupted(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    content[-40:-8] = bytes(32)
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [truncated, emptied, corrupted])
@pytest.mark.parametrize("table", ["BTC_book.parquet", "BTC_trades.parquet"])
def test_a_damaged_file_is_refused_by_name(mm, recording, spoil, table):
    spoil(recording / table)
    code, out, err = mm("backtest", "--data", "recording", *QUICK, "--save", "kept")
    assert (code, out) == (ExitCode.DATA, "")
    assert table in err
    assert not Path("kept").exists()


def test_rows_out_of_order_are_refused_by_row(mm, recording):
    stamps = START_NS + np.arange(480) * S // 4
    stamps[100] = START_NS
    write_market(recording, changes={"book": {"ts": stamps}})
    code, _, err = mm("backtest", "--data", "recording", *QUICK)
    assert (code, "BTC_book.parquet, row 100" in err) == (ExitCode.DATA, True), err


@pytest.mark.slow
def test_a_price_off_the_grid_is_refused_by_row(mm, recording):
    # So many that the grid is read off others.
    write_market(recording, seconds=6_000)
    prices = np.full(12_000, 10_000.0)
    prices[6_000] = 10_000.03
    write_market(recording, seconds=6_000, changes={"trades": {"px": prices}})
    code, _, err = mm("backtest", "--data", "recording", *QUICK)
    assert (code, "BTC_trades.parquet, row 6000" in err, "0.1" in err) == (ExitCode.DATA, True, True), err


def test_a_store_that_was_tampered_with_is_refused_by_row(mm, recording):
    assert mm("data", "convert", "recording", "--to", "store")[0] == ExitCode.OK
    path = next(Path("store/BTC-USD").glob("*.arrow"))
    [hour] = open_store(Path("store")).hours("BTC-USD")
    kinds = hour.kind.tobytes()
    content = path.read_bytes()
    at = content.index(kinds)
    path.write_bytes(content[: at + 700] + b"\xff" + content[at + 701 :])
    code, _, err = mm("backtest", "--data", "store", *QUICK)
    assert (code, f"{path}, row 700" in err) == (ExitCode.DATA, True), err
    path.write_bytes(content[:-2_000])
    code, _, err = mm("backtest", "--data", "store", *QUICK)
    assert (code, str(path) in err) == (ExitCode.DATA, True), err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", "nowhere"), "nowhere"),
        (("--data", "recording", "--market", "SOL"), "SOL-USD"),
        (("--data", "recording", "--from", "2027-01-01"), "BTC-USD"),
    ],
)
def test_data_that_is_not_there_is_said(mm, recording, words, message):
    code, _, err = mm("backtest", *words, *QUICK)
    assert (code, message in err) == (ExitCode.DATA, True), err


def test_a_folder_that_holds_something_is_refused_before_anything_runs(mm, recording):
    Path("kept").mkdir()
    Path("kept/thesis.txt").write_text("mine")
    code, _, err = mm("backtest", "--data", "recording", *QUICK, "--save", "kept", "--replace")
    assert (code, "kept" in err) == (ExitCode.DATA, True)
    assert "BTC-USD" not in err
    assert Path("kept/thesis.txt").read_text() == "mine"


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(folder, recording):
    words = ("--data", "recording", "--save", "kept", "--json")
    command = [sys.executable, "-m", "market_maker", "backtest", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        # The bar of the conversion: it is over, and the market is about to be played.
        assert b"BTC-USD" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == ExitCode.INTERRUPTED
    assert (out, b"Traceback" in err, b"nothing was saved" in err) == (b"", False, True)
    assert not list(folder.glob("*kept*"))
