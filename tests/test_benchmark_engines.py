"""What the comparisons with other engines do to their inputs, and what they say without them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from market_maker.recordings import store
from market_maker.recordings.store import Hour

ROOT = Path(__file__).parents[1]
ENGINES = ROOT / "benchmarks" / "engines.py"
COMPARE = ROOT / "benchmarks" / "parity" / "compare.py"


def run(script, *options):
    command = [sys.executable, str(script), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def module():
    spec = importlib.util.spec_from_file_location("engines", ENGINES)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def hour(kinds):
    count = len(kinds)
    ns, zeros = np.arange(count, dtype=np.int64), np.zeros(count, np.int32)
    return Hour(ns, zeros, np.array(kinds, np.uint8), zeros, zeros.astype(np.uint32))


@pytest.mark.slow
def test_a_frame_that_ended_with_a_best_quote_ends_without_it():
    last = store.LAST
    rows = hour([store.LEVEL_BID, store.BEST_BID | last, store.BEST_ASK | last, store.TRADE_BUY | last])
    kept = module().without_best_quotes(rows)
    assert kept.kind.tolist() == [store.LEVEL_BID | last, store.TRADE_BUY | last]
    assert kept.venue_ns.tolist() == [0, 3]


def test_repetitions_follow_each_other():
    rows = hour([store.LEVEL_BID | store.LAST] * 3)
    stamps = [part.venue_ns.tolist() for part in module().pieces(rows, 2)]
    assert stamps == [[0, 1, 2], [2 + 10**9, 3 + 10**9, 4 + 10**9]]


@pytest.mark.slow
def test_both_say_what_is_missing_and_do_not_fail(tmp_path):
    for script in (ENGINES, COMPARE):
        done = run(script, "--data", str(tmp_path))
        assert done.returncode == 0
        assert str(tmp_path) in str(json.loads(done.stdout)["missing"])
