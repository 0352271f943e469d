"""Each benchmark runs, and its JSON has the fields that benchmarks/README.md names. No time is judged."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def benchmark(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def in_json(result, fields):
    """Check that a result survives JSON and has its fields, and that the README names them."""
    readme = (BENCHMARKS / "README.md").read_text()
    assert json.loads(json.dumps(result)) == result
    assert set(fields) <= set(result)
    assert [name for name in result if f"`{name}`" not in readme] == []


@pytest.mark.slow
def test_decision_path_measures_every_stage_on_every_schedule():
    result = benchmark("decision_path").main(minutes=0.5, rounds=2, warm_up=100)
    in_json(result, ["measured", "limits", "met", "schedules", "quietest_round", "total_p50_in_json_loads"])
    paced, switched = {"as_sent", "1_per_s", "1000_per_s"}, {"everything_on", "everything_off"}
    assert set(result["schedules"]) == paced | switched
    for schedule in result["schedules"].values():
        assert schedule["samples"] == result["schedules"]["as_sent"]["samples"] > 100
        assert schedule["orders_resting"] > 1.5
        assert sum(schedule["actions"].values()) == pytest.approx(1.0, abs=0.01)
        for stage in ("decode_us", "book_and_observe_us", "four_decisions_us", "total_us"):
            assert 0.0 < schedule[stage]["p50"] <= schedule[stage]["p99"]
    assert set(result["met"]) == set(result["limits"]) == set(result["measured"])


@pytest.mark.slow
def test_inputs_are_recorded_and_replayed():
    result = benchmark("inputs").main(books=200, seconds=5.0)
    in_json(result, ["recording", "replaying"])
    assert result["replaying"]["differences"] == 0
    assert result["replaying"]["decisions"] > 100
    assert 0 < result["recording"]["bytes_packed"] < result["recording"]["bytes_raw"]


@pytest.mark.slow
def test_speed_counts_market_time_per_core():
    result = benchmark("speed").main(seconds=2.0, rounds=1)
    in_json(result, ["rounds", "times_real_time", "times_real_time_per_core"])
    assert result["rounds"][0]["market_seconds"] == 2.0
    assert result["rounds"][0]["book_events"] > 10


@pytest.mark.slow
def test_memory_is_read_in_a_process_for_each_point():
    result = benchmark("memory").main(minutes=(0.02, 0.05))
    in_json(result, ["points", "rss_first_mb", "rss_last_mb", "growth_mb_per_hour"])
    assert [point["market_seconds"] for point in result["points"]] == [1.2, 3.0]
    assert all(point["rss_mb"] > 10.0 and point["events"] > 0 for point in result["points"])


@pytest.mark.slow
def test_profiles_are_shown_side_by_side():
    profiles = benchmark("profiles")
    result = profiles.main(seconds=3.0)
    in_json(result, ["benchmark", "rows"])
    rows = result["rows"]
    assert {row["profile"] for row in rows} == {"crypto", "legacy"}
    assert {row["where"] for row in rows} == {"mixed", "ramp", "crash"}
    assert len(profiles.markdown(rows).splitlines()) == 2 + len(rows)


@pytest.mark.slow
def test_wire_is_measured_beside_the_sdk_and_over_sockets():
    result = benchmark("wire").main(rounds=2, orders=3, seconds=2.0)
    in_json(result, ["decoding", "sending", "loop", "measured", "limits", "met"])
    for pair in (*result["decoding"].values(), *result["sending"].values()):
        assert pair["ours_us"]["p50"] > 0.0
        assert pair["ratio"] > 0.0
    assert result["loop"]["why"] == "time is up"
    assert result["loop"]["orders_placed"] > 0
    assert result["loop"]["steps"] > 100
    assert set(result["met"]) == set(result["limits"]) == set(result["measured"])


@pytest.mark.slow
def test_fills_measure_every_number_of_settings():
    result = benchmark("fills").main({1: 2_000, 3: 1_000})
    assert set(result) == {"k1", "k3"}
    for figures in result.values():
        in_json(figures, ["settings", "rows_per_s", "decisions", "log_rows"])
    assert result["k3"]["decisions"] % 3 == 0
