"""Funding in simulation: the inventory leans to the side that is paid, payments are the exchange's exactly.

The benchmark's own sessions, with hours of a minute; days are the benchmark's.
"""

import importlib.util
import json
import sys
from decimal import Decimal
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
NAMES = ("funding_ledger_usd", "funding_exchange_usd", "funding_formula_usd")
MINUTE_S = 60.0


@pytest.fixture(scope="module")
def days():
    spec = importlib.util.spec_from_file_location("benchmark_funding_days", BENCHMARKS / "funding_days.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_inventory_leans_to_the_paid_side_and_payments_are_the_exchanges(days):
    told = {rate: days.play(days.Piece(rate, 5, 1, MINUTE_S)) for rate in (-10.0, 10.0)}
    for rate, piece in told.items():
        assert piece["applied_bps"] == pytest.approx([rate] * len(piece["applied_bps"]), abs=0.4)
        assert piece["payments"] >= 3
        assert len({Decimal(piece[name]) for name in NAMES}) == 1
        assert Decimal(piece["funding_ledger_usd"]) > 0
        assert piece["books_agree"]
    mean = {rate: sum(piece["hourly_usd"]) / 5 for rate, piece in told.items()}
    assert mean[-10.0] > 0 > mean[10.0]


def piece(rate, hourly, paid="1.5", theirs=None):
    names = dict.fromkeys(NAMES, paid) | {"funding_exchange_usd": theirs or paid}
    counts = {"rate_bps": rate, "hourly_usd": hourly, "applied_bps": [rate], "payments": 1, "fills": 7}
    return {**counts, **names, "books_agree": True, "pnl_usd": "2.5"}


def test_a_row_sums_its_pieces_and_one_digit_that_differs_is_seen(days):
    unpaid = [piece(0.0, [5.0, -5.0]), piece(0.0, [1.0, 3.0])]
    equal = days.row(10.0, [piece(10.0, [-10.0, -20.0]), piece(10.0, [-30.0, -20.0])], unpaid)
    assert (equal["mean_position_usd"], equal["lean_usd"], equal["hours"]) == (-20.0, -21.0, 4)
    assert (equal["funding_ledger_usd"], equal["payments_equal"]) == ("3.0", True)
    pieces = [piece(10.0, [1.0, 1.0], "1.5", "1.6"), piece(10.0, [1.0, 1.0], "1.6", "1.5")]
    crossed = days.row(10.0, pieces, unpaid)
    # The sums agree, the sessions do not.
    assert crossed["funding_ledger_usd"] == crossed["funding_exchange_usd"]
    assert crossed["payments_equal"] is False
    assert "-20 ± " in days.table([equal])
    readme = (BENCHMARKS / "README.md").read_text()
    assert [name for name in equal if f"`{name}`" not in readme and "half_interval" not in name] == []


@pytest.mark.slow
def test_a_session_that_was_played_is_not_played_again(days, tmp_path, monkeypatch):
    monkeypatch.setattr(days, "RATES_BPS", (0.0,))
    first = days.main(tmp_path, hours=1, piece_hours=1, processes=1, hour_s=20.0)
    (kept,) = tmp_path.iterdir()
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"fills": 12_345}))
    again = days.main(tmp_path, hours=1, piece_hours=1, processes=1, hour_s=20.0)
    assert first["rows"][0]["payments_equal"]
    assert again["rows"][0]["fills"] == 12_345
    assert set(first) == {"benchmark", "market", "rows"}
