"""Sessions on the exchange inside, from settings to summary, as the command line hosts them."""

from decimal import Decimal
from pathlib import Path

import pytest

from market_maker.cli.host import AtEnd
from market_maker.cli.inside import VIRTUAL_START_NS, run_inside
from market_maker.cli.play import Play, markets_of
from market_maker.config import load_config
from market_maker.emulator.scenarios import UnknownMarket, UnknownScenario
from market_maker.status import read_status
from market_maker.summary import as_dict
from market_maker.trade_journal import read_journal

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
MACHINE_TIME = ("decision_us",)


def inside(tmp_path, *settings, markets="BTC-USD", name="j", **how):
    given = ["network=emulator", f"markets={markets}", f"journal_dir={tmp_path / name}", *settings]
    config = load_config(given)
    given = {"seconds": 5.0, "scenario": "flat", "seed": 1, "speed": 0.0}
    return run_inside(config, Play(**(given | how)), show=False)


def play(tmp_path, *settings, **how):
    return inside(tmp_path, *settings, **how).played


def without_machine_time(summary: dict) -> dict:
    return {key: value for key, value in summary.items() if key not in MACHINE_TIME}


def test_a_play_ends_with_a_summary_for_each_market_and_equal_books(tmp_path):
    ended = inside(tmp_path, markets="BTC-USD,ETH-USD", scenario="mixed", seconds=10.0)
    played, exchange = ended.played, ended.exchange
    assert [run.market for run in played.runs] == ["BTC-USD", "ETH-USD"]
    assert played.outcome.remaining == ()
    strategy = played.outcome.strategy
    assert strategy.books_agree
    assert strategy.equity_at_end == exchange.equity(ended.account_id)
    assert played.at_end == AtEnd(strategy.equity_at_end, 0)
    assert (played.network, played.account) == ("emulator", str(ended.account_id))
    assert not exchange.account(ended.account_id).open
    assert all(run.open_orders_at_end == 0 for run in played.runs)


def test_the_journal_begins_and_ends_with_the_session(tmp_path):
    played = play(tmp_path)
    records = list(read_journal(played.journal))
    assert records[0]["type"] == "session_start"
    assert records[0]["markets"] == {"BTC-USD": {"tick": "1", "step": "0.00001"}}
    assert records[-1]["type"] == "session_stop"
    assert records[-1]["why"] == "time is up"
    assert records[-1]["summary"]["runs"] == [as_dict(run) for run in played.runs]
    assert records[0]["t"] >= VIRTUAL_START_NS


@pytest.mark.slow
def test_the_same_seed_repeats_and_another_does_not(tmp_path):
    runs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        played = play(tmp_path, name=name, seed=seed, scenario="mixed", seconds=15.0)
        lines = played.journal.read_bytes().splitlines()[1:-1]
        runs.append((lines, [without_machine_time(as_dict(run)) for run in played.runs]))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_the_status_file_says_how_it_ended(tmp_path):
    played = play(tmp_path)
    status = read_status(tmp_path / "j")
    assert status.state == "STOPPED"
    assert status.journal == str(played.journal)
    assert [market.market for market in status.markets] == ["BTC-USD"]


@pytest.mark.slow
def test_a_pace_other_than_real_time_reaches_the_same_end(tmp_path):
    fast, paced = play(tmp_path, name="a"), play(tmp_path, name="b", speed=10_000.0)
    assert fast.journal.read_bytes().splitlines()[1:-1] == paced.journal.read_bytes().splitlines()[1:-1]


def test_the_deposit_and_the_time_of_funding_are_those_of_the_play(tmp_path):
    ended = inside(tmp_path, deposit=Decimal(2_500), funding_every_s=2.0)
    assert ended.played.outcome.strategy.session.start_equity == 2_500
    assert ended.exchange.venue.markets["BTC-USD"].next_funding_ns - VIRTUAL_START_NS <= 8e9


@pytest.mark.parametrize(
    ("how", "markets", "error", "names"),
    [
        ({"scenario": "storm"}, "BTC-USD", UnknownScenario, "crash"),
        ({}, "NO-USD", UnknownMarket, "BTC-USD"),
    ],
)
def test_what_does_not_exist_is_said_beside_what_does(tmp_path, how, markets, error, names):
    with pytest.raises(error, match=names):
        play(tmp_path, markets=markets, **how)


def test_a_journal_folder_that_can_not_be_made_is_an_os_error(tmp_path):
    (tmp_path / "j").write_text("a file")
    with pytest.raises(OSError, match="j"):
        play(tmp_path)


def test_markets_of_a_scenario_are_those_wanted():
    assert markets_of(None, ["BTC-USD"]) == ("BTC-USD",)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="no recordings here")
def test_a_recording_is_followed_and_the_books_are_equal(tmp_path):
    how = {"recording": DATA / "hyperliquid-2025-09-04" / "WLFI_book.parquet", "seconds": 30.0}
    chosen = markets_of(how["recording"], [])
    played = play(tmp_path, markets=",".join(chosen), **how)
    assert played.outcome.strategy.books_agree
    assert played.outcome.remaining == ()
    assert [run.market for run in played.runs] == list(chosen)
    assert played.runs[0].events > 10
