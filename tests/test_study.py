"""The study's tables, plots and pages, from outcomes that never were."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from outcomes import many, outcome, without_trading

from market_maker.backtest.saved import Saved, save

ROOT = Path(__file__).resolve().parents[1]
CALIBRATION = {
    "volatility": {"sigma_bps": 6.8, "sigma_ticks": 2.5, "sigma_error": 0.1},
    "arrivals": {
        "a_per_s": 1.2,
        "a_error": 0.05,
        "k_per_tick": 0.3,
        "k_error": 0.02,
        "r2": 0.97,
        "orders": 1234,
    },
    "symmetric_half_ticks": 4.0,
    "refused": "",
    "left_out": {"glft": "no"},
}


@pytest.fixture(scope="module")
def study():
    folder = str(ROOT / "docs" / "study")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("make_study")
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def tables(study):
    return importlib.import_module("study_tables")


def saved(*outcomes):
    told = {
        "scored_from": "2025-09-04T19:54:00.1Z",
        "end": "2025-09-04T20:21:00.2Z",
        "events": 99,
        "gap_seconds": 18,
    }
    return Saved({"data": {"ETH-USD": told}, "calibration": {"ETH-USD": CALIBRATION}}, list(outcomes))


def cells(table):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_the_shown_view_is_one_run_of_each_contestant(tables):
    runs = tables.main_view(many())
    assert [run.label.name for run in runs] == ["crypto", "legacy", "symmetric", "avellaneda_stoikov", "glft"]
    assert {(run.label.fill_model, run.label.latency_s) for run in runs} == {("base", 0.25)}
    assert tables.base_of(many(models=("trade_through",))) == "trade_through"


def test_tables_are_whole(tables):
    for make in tables.BLOCKS.values():
        text = make(many())
        widths = {len(row) for row in cells(text)} if text.startswith("|") else {1}
        assert len(widths) == 1
        assert "nan" not in text


def test_the_result_has_every_fill_model_at_the_shown_latency(tables):
    head, _, *rows = cells(tables.result_table(many()))
    assert len(rows) == 15
    assert head[:3] == ["contestant", "fill model", "fills"]


def test_latencies_stand_beside_each_other(tables):
    head, _, *rows = cells(tables.latency_table(many()))
    assert head == ["contestant", "10 ms", "250 ms", "1 s"]
    assert len(rows) == 5
    assert rows[0][1].startswith("120 fills: ")


def test_who_traded_nothing_has_a_row_too(tables):
    idle = without_trading(outcome())
    assert cells(tables.parts_table([idle]))[2][1:] == ["-"] * 7
    assert "nothing was traded" in tables.conclusions([idle])


def test_data_and_calibration_are_told(tables):
    runs = {"Hyperliquid": saved(*many())}
    row = cells(tables.data_table(runs))[2]
    assert row[0] == "Hyperliquid ETH-USD"
    assert row[1] == "2025-09-04 19:54 to 20:21"
    row = cells(tables.calibration_table(runs))[2]
    assert row[2:] == [
        "2.50 ± 0.100",
        "1.20 ± 0.0500",
        "0.300 ± 0.0200",
        "0.970",
        "1,234",
        "4.00",
        "glft: no",
    ]


def test_blocks_are_replaced_and_the_rest_is_left_alone(study):
    text = "Mine.\n<!-- study a -->\nold\n<!-- /study -->\nAlso mine.\n<!-- study b -->\n<!-- /study -->\n"
    once = study.filled(text, {"a": "new", "b": "more"})
    assert once == (
        "Mine.\n<!-- study a -->\n\nnew\n\n<!-- /study -->\nAlso mine.\n"
        "<!-- study b -->\n\nmore\n\n<!-- /study -->\n"
    )
    assert study.filled(once, {"a": "new", "b": "more"}) == once
    with pytest.raises(study.MarkMissing, match="study c"):
        study.filled(text, {"c": ""})


def test_the_page_has_a_place_for_every_market(study):
    page = study.PAGE.read_text(encoding="utf-8")
    markets = ("Binance BTC-USD", "Binance ETH-USD", "StandX BTC-USD")
    markets += tuple(f"Hyperliquid {name}-USD" for name in ("BTC", "ETH", "SOL", "WLFI"))
    study.filled(page, dict.fromkeys(("data", "calibration", *markets, "stress"), "x"))
    study.filled(study.README.read_text(encoding="utf-8"), {"readme": "x"})


def test_what_is_wanted_is_planned(study, tmp_path):
    assert [run.folder for run in study.plan([], tmp_path)] == list(study.RECORDINGS)
    [run] = study.plan(["hyperliquid-2025-09-04/ETH-USD"], tmp_path)
    assert (run.market, run.result.name) == ("ETH-USD", "hyperliquid-2025-09-04-ETH-USD")
    assert study.plan(["bars"], tmp_path) == []
    with pytest.raises(ValueError, match="expected a recording"):
        study.plan(["elsewhere"], tmp_path)


def stressed(model, **changed):
    entry = {
        "session": "crash",
        "date": "2020-03-12",
        "markets": ["BTC-USD"],
        "name": "crypto",
        "fill_model": model,
        "quote_uptime": 0.4,
        "fills": 1200,
        "pnl_usd": -250.4,
        "largest_fall_flattened_usd": 300.0,
        "stress_loss_limit_usd": 1000.0,
        "max_inventory_usd": 5000.0,
        "max_margin_ratio": 0.02,
        "halt": None,
        "holds": True,
    }
    return {**entry, **changed}


def test_crash_days_show_base_fills_and_the_worst_of_all(study):
    stress = importlib.import_module("study_stress")
    worse = {"largest_fall_flattened_usd": 1200.0, "halt": "RISK_DRAWDOWN", "holds": False, "pnl_usd": -9.0}
    text = stress.stress_table([stressed("pessimistic", **worse), stressed("base")])
    assert cells(text)[2] == [
        *("2020-03-12 BTC", "crash", "crypto", "40.0%", "1,200", "-250", "1,200", "1,000", "5,000"),
        *("2.0%", "RISK_DRAWDOWN", "NO"),
    ]


def test_an_account_of_several_markets_has_its_row(study):
    stress = importlib.import_module("study_stress")
    shared = stressed("base", session="shared", markets=["BTC-USD", "ETH-USD"])
    del shared["quote_uptime"], shared["max_inventory_usd"]
    of_one = stressed("base", session="shared")
    rows = cells(stress.stress_table([of_one, shared]))[2:]
    assert [row[:4] for row in rows] == [["2020-03-12 BTC ETH", "crash, one account", "crypto", "-"]]


@pytest.mark.slow
def test_pages_come_from_results_that_are_there(study, tmp_path, monkeypatch):
    result = tmp_path / "results" / "hyperliquid-2025-09-04-ETH-USD"
    save(result, many(), saved().header)
    page, readme = tmp_path / "page.md", tmp_path / "README.md"
    marks = "".join(f"<!-- study {name} -->\n<!-- /study -->\n" for name in ("data", "calibration"))
    page.write_text(f"{marks}<!-- study Hyperliquid ETH-USD -->\n<!-- /study -->\n")
    readme.write_text("<!-- study readme -->\n<!-- /study -->\n")
    arguments = ["--results", str(tmp_path / "results"), "--page", str(page), "--readme", str(readme)]
    monkeypatch.setattr(
        sys, "argv", ["make_study.py", "--reuse", "--only", "hyperliquid-2025-09-04/ETH-USD", *arguments]
    )
    study.main()
    assert "avellaneda stoikov" in page.read_text()
    assert len(cells(readme.read_text())) > 4
    plots = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert plots == ["equity.svg", "latency.svg", "markouts.svg", "parts.svg", "pnl.svg", "uptime.svg"]
    before = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    assert all(len(content) < 300_000 for content in before.values())
    study.main()
    assert {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()} == before


def test_plots_bear_who_traded_nothing_and_a_lone_market(study, tmp_path):
    plots = importlib.import_module("study_plots")
    idle = without_trading(outcome())
    empty = replace(idle, curve=idle.curve[:0])
    assert len(plots.save_plots({"One": [empty]}, tmp_path)) == 6
