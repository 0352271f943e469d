"""Replays give the session's decisions, in any process, compiled or not; differences have their inputs."""

import json
import os
import subprocess
import sys

import pytest
from recorded import RecordedDesk, Recording, X, plant, plant_decision

from market_maker.cli.inside import run_inside
from market_maker.cli.play import Play
from market_maker.config import ConfigError, load_config
from market_maker.decision_record import InputsUnreadable
from market_maker.decision_replay import Replay, find_inputs, settings_change
from market_maker.emulator.scenarios import scenario_names

PATIENCE_S = 300.0


def walked(tmp_path, steps=60, desks=(X,), **how):
    """Journal and desks of a made market."""
    recording = Recording(tmp_path / "j", **how)
    found = [RecordedDesk(recording.tape, name, seed) for seed, name in enumerate(desks)]
    for _ in range(steps):
        for desk in found:
            desk.walk(1)
    return recording.end(), found


def replayed(journal, *overrides, **how):
    change = settings_change(overrides) if overrides else None
    return Replay(find_inputs(journal), change=change, **how).run()


def session(folder, *settings, markets="BTC-USD", **how):
    """Journal of a session on the exchange inside."""
    given = ["network=emulator", f"markets={markets}", f"journal_dir={folder}", *settings]
    play = Play(**({"seconds": 600.0, "scenario": "mixed", "seed": 1} | how))
    return run_inside(load_config(given), play, show=False).played.journal


def test_every_decision_comes_out_as_it_did(tmp_path):
    journal, [desk] = walked(tmp_path)
    told = []
    result = Replay(find_inputs(journal)).run(lambda done, of: told.append((done, of)))
    counts = result.markets[X]
    assert result.differences == 0
    assert counts.books == 60
    assert counts.decisions == len(desk.decisions) == 240
    assert counts.trades > 5
    assert counts.states >= 2
    assert (result.torn_bytes, result.missing_blocks, counts.skipped) == (0, 0, 0)
    assert told[-1][0] == told[-1][1] == find_inputs(journal)[0].stat().st_size
    assert len({decision.reason for decision in desk.decisions}) > 1


def test_markets_are_replayed_beside_each_other_or_one_alone(tmp_path):
    journal, _ = walked(tmp_path, desks=("A-USD", "B-USD"))
    both = replayed(journal)
    assert {name: it.decisions for name, it in both.markets.items()} == {"A-USD": 240, "B-USD": 240}
    assert both.differences == 0
    assert list(replayed(journal, markets=("B-USD",)).markets) == ["B-USD"]
    with pytest.raises(InputsUnreadable, match="expected inputs of C-USD"):
        replayed(journal, markets=("C-USD",))


def test_without_candles_and_without_a_book_there_is_a_record_too(tmp_path):
    recording = Recording(tmp_path)
    RecordedDesk(recording.tape, candles=0)
    assert replayed(recording.end()).markets[X].states == 1


@pytest.mark.parametrize("size", [1, 20, 100, 1_000, 4_000])
def test_a_record_that_was_cut_off_is_replayed_up_to_the_cut(tmp_path, size):
    journal, _ = walked(tmp_path)
    [path] = find_inputs(journal)
    path.write_bytes(path.read_bytes()[:-size])
    result = replayed(journal)
    assert result.differences == 0
    assert 0 < result.markets[X].decisions <= 240
    assert result.torn_bytes > 0


def test_after_a_hole_the_rows_begin_anew_and_what_is_left_is_equal(tmp_path):
    journal, _ = walked(tmp_path, 80, desks=("A-USD", "B-USD"), keeps=lambda number: number not in (2, 3))
    result = replayed(journal)
    assert result.missing_blocks == 2
    assert result.differences == 0
    for counts in result.markets.values():
        assert 200 < counts.decisions < 320


def test_without_its_first_file_a_record_begins_where_the_rows_are_written_next(tmp_path):
    journal, _ = walked(tmp_path, 300, max_bytes=16_000)
    paths = find_inputs(journal)
    assert len(paths) > 3
    paths[1].unlink()
    result = replayed(journal)
    assert result.missing_blocks > 0
    assert result.markets[X].skipped > 0
    assert result.differences == 0


def test_other_settings_decide_otherwise_and_are_told_with_their_inputs(tmp_path):
    journal, _ = walked(tmp_path)
    result = replayed(journal, "min_offset_bps=40", f"{X}:num_levels=2", shown=2)
    counts = result.markets[X]
    assert counts.differences > 20
    assert counts.state_differences == counts.states == 0
    assert len(result.first) == 2
    first = result.first[0]
    assert first.what == "decision"
    assert first.recorded != first.replayed
    assert first.inputs["settings"]["offset"]["min_offset_bps"] == 40.0
    assert first.inputs["account"]["limit_long_lots"] == 10**6
    assert first.inputs["slot"]["side"] in (1, -1)
    assert sum(counts.changed.values()) == counts.differences
    at_first = replayed(journal, "min_offset_bps=40", until_first=True)
    assert (at_first.differences, at_first.stopped) == (1, True)


def test_settings_of_another_market_change_nothing(tmp_path):
    journal, _ = walked(tmp_path)
    assert replayed(journal, "OTHER-USD:min_offset_bps=40").differences == 0


def test_post_only_settings_and_signals_are_lived_through_anew(tmp_path):
    journal, _ = walked(tmp_path, 500)
    assert replayed(journal).differences == 0
    assert replayed(journal, "pof_streak_for_backoff=1").differences > 0
    assert replayed(journal, "vol_regime_enabled=no").differences > 0


def test_a_decision_that_was_another_is_a_difference(tmp_path):
    journal, [desk] = walked(tmp_path)
    price = plant_decision(journal, desk)
    result = replayed(journal)
    assert 0 < result.markets[X].differences < 40
    difference = result.first[0]
    assert difference.recorded["price_ticks"] == price ^ 1
    assert difference.replayed["price_ticks"] == price
    assert difference.recorded["action"] == difference.replayed["action"]


def test_a_state_that_was_another_is_told_by_its_fields_once(tmp_path):
    journal, [desk] = walked(tmp_path)
    second = (desk.now_ns // 10**9).to_bytes(8, "little")
    plant(journal, lambda records: records.rfind(second), 2)
    result = replayed(journal)
    assert result.markets[X].state_differences == 1
    [difference] = result.first
    assert difference.what == "state"
    assert list(difference.recorded) == ["volatility.second"]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("max_position_notional_usd=5", r"expected a setting that decide\(\) reads"),
        ("no_such=5", "no such setting"),
        ("min_offset_bps=-1", "expected a number"),
        ("min_offset_bps", "found no '='"),
    ],
)
def test_what_cannot_be_set_is_refused(override, expected):
    with pytest.raises(ConfigError, match=expected):
        settings_change([override])


def test_settings_that_do_not_fit_those_of_the_session_are_refused(tmp_path):
    journal, _ = walked(tmp_path, 5)
    with pytest.raises(ConfigError, match="vol_regime_calm_bps"):
        replayed(journal, "vol_regime_calm_bps=1000")


@pytest.mark.parametrize("name", ["none.jsonl", "mm-1-0000.jsonl", "status.json"])
def test_without_inputs_there_is_nothing_to_replay(tmp_path, name):
    path = tmp_path / name
    if name != "none.jsonl":
        path.touch()
    with pytest.raises(InputsUnreadable, match="expected"):
        find_inputs(path)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", scenario_names())
def test_a_session_of_every_scenario_replays_bit_for_bit(tmp_path, scenario):
    markets = "BTC-USD,WIF-USD" if scenario == "mixed" else "BTC-USD"
    journal = session(tmp_path, scenario=scenario, markets=markets, seconds=630.0)
    result = replayed(journal)
    assert result.differences == 0
    assert (result.missing_blocks, result.torn_bytes) == (0, 0)
    for counts in result.markets.values():
        assert counts.books > 500
        assert counts.decisions > 2_000
        assert counts.states >= 3


def run_replay(journal, **environ):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MM_")}
    words = [sys.executable, "-m", "market_maker", "replay", str(journal), "--json"]
    ended = subprocess.run(
        words, capture_output=True, env={**clean, **environ}, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 0, ended.stderr.decode()
    return json.loads(ended.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("environ", [{"PYTHONHASHSEED": "99"}, {"NUMBA_DISABLE_JIT": "1"}])
def test_another_process_compiled_or_not_decides_the_same(tmp_path, environ):
    journal = session(tmp_path, seconds=45.0, scenario="choppy")
    found = run_replay(journal, **environ)
    assert found["equal"]
    counts = found["markets"]["BTC-USD"]
    assert counts["books"] + counts["trades"] + counts["decisions"] >= 2_000
