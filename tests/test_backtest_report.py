import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest
from outcomes import many, outcome, without_trading
from rich.console import Console

from market_maker.backtest import report_comparison as comparison
from market_maker.backtest.intervals import Difference
from market_maker.backtest.outcome import BUCKET_DTYPE, FIGURES, Interval
from market_maker.backtest.report import ReportError, chosen, report_table, write_report
from market_maker.backtest.report_columns import COLUMNS, against, head_to_head, verdict
from market_maker.backtest.report_data import drawdown, packed, shares_up_to, spread_out, thinned
from market_maker.backtest.report_page import page
from market_maker.backtest.report_run import BAND_ROWS, BANDS, markout_figure, timeline, waiting_figure
from market_maker.backtest.result_json import result_json
from market_maker.backtest.saved import Saved, save
from market_maker.cli.app import ExitCode, main
from market_maker.summary import FillSummary

NASTY = "</script><script>alert(1)</script><b>\"'&-USD"


class _Elements(HTMLParser):
    """Elements with their attributes, and the text of scripts."""

    def __init__(self):
        super().__init__()
        self.elements = []
        self.scripts = []
        self._in_script = False

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"
        if self._in_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in_script = self._in_script and tag != "script"

    def handle_data(self, data):
        if self._in_script:
            self.scripts[-1] += data


def parsed(text):
    found = _Elements()
    found.feed(text)
    found.close()
    return found


def unpacked(values):
    return np.frombuffer(base64.b64decode(values["bdata"]), f"<{values['dtype']}")


def trace(figure, name):
    return next(one for one in figure["data"] if one.get("name") == name)


def valid(figure):
    """The figure as plotly's own classes take it: a property that does not exist is an error there."""
    data = [{**one, "x": figure["time"]} if one.get("x") == "@time" else one for one in figure["data"]]
    return go.Figure({"data": data, "layout": figure["layout"]})


def shown(renderable, width=110):
    console = Console(width=width, record=True, file=None, force_terminal=False, quiet=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


@pytest.fixture(scope="module")
def runs():
    return many(latencies=(0.01, 0.25))


def test_thinning_keeps_the_extremes_the_order_and_both_ends():
    rows = outcome(points=5_000).curve
    kept = thinned(rows, ("total", "position_lots"), 500)
    assert len(kept) <= 502
    assert kept[0] == rows[0]
    assert kept[-1] == rows[-1]
    assert (np.diff(kept["ns"]) > 0).all()
    for column in ("total", "position_lots"):
        assert kept[column].max() == rows[column].max()
        assert kept[column].min() == rows[column].min()


def test_what_is_short_is_not_thinned():
    rows = outcome(points=50).curve
    assert thinned(rows, ("total", "position_lots"), 500) is rows
    assert spread_out(3, 10).tolist() == [0, 1, 2]
    assert spread_out(1_000, 3).tolist() == [0, 500, 999]


def test_a_drawdown_begins_at_what_was_paid_in():
    assert drawdown(np.array([-2.0, 1.0, 0.5])).tolist() == [-2.0, 0.0, -0.5]
    assert drawdown(np.array([])).tolist() == []


def test_shares_end_at_one():
    values, shares = shares_up_to(np.array([3.0, 1.0, 2.0, 2.0]), 10)
    assert values.tolist() == [1.0, 2.0, 2.0, 3.0]
    assert shares.tolist() == [0.25, 0.5, 0.75, 1.0]


def test_packed_numbers_are_read_back_as_they_were():
    assert unpacked(packed(np.array([1.5, -2.0]))).tolist() == [1.5, -2.0]
    assert unpacked(packed(np.array([61_800.2]), "f8")).tolist() == [61_800.2]


@pytest.mark.slow
def test_a_timeline_has_quotes_fills_bands_and_every_part(runs):
    run = runs[0]
    figure = timeline(run, 10_000)
    valid(figure)
    assert unpacked(trace(figure, "mid")["y"]).tolist() == (run.curve["mid2_ticks"] * 0.1 / 2).tolist()
    bid = unpacked(trace(figure, "our bid")["y"])
    assert np.isnan(bid[run.curve["bid_ticks"] == 0]).all()
    assert (unpacked(trace(figure, "inventory")["y"]) != 0).any()
    buys = run.fills[run.fills["side"] == 1]
    assert unpacked(trace(figure, "buys")["y"]).tolist() == (buys["price_ticks"] * 0.1).tolist()
    traded = (run.fills["lots"] * run.fills["price_ticks"]).sum() * 0.1 * 0.001
    assert unpacked(trace(figure, "turnover")["y"])[-1] == pytest.approx(traded)
    parts = {one["name"] for one in figure["data"] if one.get("yaxis") == "y4"}
    assert parts == {"spread", "adverse selection", "inventory", "fees", "rebates", "PnL"}
    assert unpacked(trace(figure, "PnL")["y"])[-1] == pytest.approx(run.curve["total"][-1])
    assert unpacked(figure["time"])[0] == run.curve["ns"][0] / 1e6


def test_bands_tell_regime_trend_and_quotes_apart(runs):
    run = runs[0]
    [bands] = [one for one in timeline(run, 10_000)["data"] if one["type"] == "heatmap"]
    quotes, trend, regime = unpacked(bands["z"]).reshape(3, -1)
    assert regime.tolist() == run.curve["regime"].tolist()
    for row, name in ((quotes, "quotes"), (trend, "trend")):
        assert row.min() >= BAND_ROWS[name].start
        assert row.max() < BAND_ROWS[name].stop
    neither = (run.curve["bid_ticks"] == 0) & (run.curve["ask_ticks"] == 0)
    assert (BANDS[quotes[neither][0]][0], BANDS[quotes[~neither].min()][0]) == ("none", "both sides")
    assert BANDS[trend[run.curve["trend"].argmax()]][0] == "strongly up"
    assert BANDS[trend[np.abs(run.curve["trend"]).argmin()]][0] == "none"


def test_markouts_begin_with_the_half_spread_and_are_by_side_and_level(runs):
    figure = markout_figure(runs[0])
    valid(figure)
    assert {one["name"] for one in figure["data"]} == {
        "buys, level 0",
        "buys, level 1",
        "sells, level 0",
        "sells, level 1",
    }
    from_price, from_mid = [one for one in figure["data"] if one["name"] == "buys, level 0"]
    assert from_price["y"] == pytest.approx([1.5, 1.4, 1.0, -1.5])
    assert from_mid["y"] == pytest.approx([0.0, -0.1, -0.5, -3.0])


def test_waiting_leaves_out_what_is_not_known(runs):
    fills = runs[0].fills.copy()
    fills["queue_ahead_lots"][:] = -1
    fills["queue_ahead_lots"][fills["side"] == 1] = 10
    figure = waiting_figure(replace(runs[0], fills=fills))
    valid(figure)
    ahead = [one for one in figure["data"] if one["xaxis"] == "x2"]
    assert [len(unpacked(one["x"])) for one in ahead] == [(fills["side"] == 1).sum(), 0]
    assert unpacked(ahead[0]["x"]) == pytest.approx(0.01)


def test_comparisons_are_valid_figures_with_every_contestant(runs):
    group = [run for run in runs if run.label.latency_s == 0.25 and run.label.fill_model == "base"]
    for figure in (
        comparison.pnl_figure(group, 400),
        comparison.parts_figure(group),
        comparison.uptime_figure(group),
        comparison.models_figure(runs),
        comparison.latencies_figure(runs),
    ):
        valid(figure)
    assert [one["name"] for one in comparison.models_figure(runs)["data"]] == [
        "pessimistic",
        "base",
        "optimistic",
    ]
    assert [one["name"] for one in comparison.latencies_figure(runs)["data"]] == ["10 ms", "250 ms"]


def test_intervals_are_drawn_from_the_estimate(runs):
    error = trace(comparison.parts_figure(runs[:1]), "PnL, with its interval")["error_y"]
    assert error["array"] == pytest.approx([0.9])
    assert error["arrayminus"] == pytest.approx([1.2])


def test_time_adds_up_to_all_of_it():
    reasons = {f"REASON_{i}": 0.01 * i for i in range(10)}
    run = outcome()
    uptime = replace(run.summary.uptime, quote_uptime=0.5, one_sided={"STRONG_TREND": 0.05}, pauses=reasons)
    figure = comparison.uptime_figure([replace(run, summary=replace(run.summary, uptime=uptime))])
    assert sum(one["x"][0] for one in figure["data"]) == pytest.approx(1.0)
    assert trace(figure, "paused: other reasons")["x"] == pytest.approx([0.06])


def test_what_hardly_ever_paused_is_not_named():
    run = outcome()
    uptime = replace(
        run.summary.uptime, quote_uptime=0.9, one_sided={}, pauses={"JUMP": 0.096, "NO_BOOK": 0.004}
    )
    figure = comparison.uptime_figure([replace(run, summary=replace(run.summary, uptime=uptime))])
    assert [one["name"] for one in figure["data"]] == ["both sides", "paused: JUMP", "paused: other reasons"]
    assert sum(one["x"][0] for one in figure["data"]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("low", "high", "volume_share", "words"),
    [
        (0.1, 2.0, 0.01, "it earned"),
        (-3.0, -0.1, 0.01, "it lost"),
        (-1.0, 1.0, 0.01, "no conclusion: earning and losing cannot be told apart"),
        (0.1, 2.0, 0.051, "no conclusion: its volume is 5.1% of the market's"),
    ],
)
def test_verdicts(low, high, volume_share, words):
    interval = Interval((low + high) / 2, low, high, 0.95, 20)
    run = replace(outcome(), intervals={FIGURES[0]: interval}, volume_share=volume_share)
    assert words in verdict(run)


def test_what_is_too_little_bears_no_verdict():
    interval = Interval(1.0, 0.1, 2.0, 0.95, 20)
    earned = replace(outcome(), intervals={FIGURES[0]: interval})
    assert "it earned" in verdict(earned)
    few = replace(earned.summary, fills=FillSummary(50, 49, 1.0))
    assert "no conclusion: 99 fills are too few" in verdict(replace(earned, summary=few))
    short = {FIGURES[0]: replace(interval, blocks=9)}
    assert "no conclusion: the time was too short" in verdict(replace(earned, intervals=short))
    unsure = {FIGURES[0]: interval, "pnl_per_hour_usd": replace(interval, low=-0.1)}
    assert "no conclusion: earning and losing" in verdict(replace(earned, intervals=unsure))


def test_what_speaks_against_is_said_once():
    runs = [
        replace(outcome("crypto"), conclusions=("Of all.", "94 fills: too few.")),
        replace(outcome("legacy"), conclusions=("Of all.", "95 fills: too few.", "Of one.")),
        replace(outcome("glft"), conclusions=("Of all.",)),
    ]
    assert list(against(runs)) == [
        "Of all (all).",
        "94 fills: too few, or alike (crypto, legacy; 2 of 3).",
        "Of one (legacy; 1 of 3).",
    ]


def test_without_trading_everything_is_said_and_nothing_fails():
    idle = without_trading(outcome())
    assert "nothing was traded" in verdict(idle)
    texts = {name: column.text(idle) for name, column in COLUMNS.items()}
    assert texts["pnl_bps"] == texts["time_to_fill"] == texts["markout_5"] == "-"
    assert "nan" not in " ".join(texts.values())
    page(Saved({}, [idle]))
    valid(timeline(idle, 100))
    valid(comparison.parts_figure([idle]))


def test_the_page_needs_nothing_from_outside(runs):
    text = page(Saved({"data": {"venue": "x"}}, runs))
    assert text.count("plotly.js v") == 1
    elements = parsed(text).elements
    assert not [tag for tag, has in elements if {"src", "href"} & has.keys()]
    [policy] = [has["content"] for _, has in elements if has.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")


@pytest.mark.slow
def test_the_page_shows_every_run_once_and_every_comparison(runs):
    elements = parsed(page(Saved({}, runs))).elements
    rows = [has for tag, has in elements if tag == "tr" and "data-name" in has]
    assert len(rows) == 2 * len(runs)
    sections = [has for tag, has in elements if tag == "section" and "data-market" in has]
    of_runs = [has for has in sections if "data-name" in has]
    assert len(of_runs) == 3 * len(runs)
    views = [has for has in sections if has.keys() == {"data-market", "data-latency", "data-model"}]
    assert len(views) == 4 * 6
    assert sum(has.keys() == {"data-market", "data-latency"} for has in sections) == 2
    assert sum(has.keys() == {"data-market", "data-model"} for has in sections) == 3


def test_nothing_is_held_against_itself(runs):
    alone = [run for run in runs if (run.label.fill_model, run.label.latency_s) == ("base", 0.25)]
    text = page(Saved({}, alone))
    assert "The same under each fill model" not in text
    assert "The same at each latency" not in text
    assert "Where the PnL comes from" in text


def test_the_page_opens_with_base_fills_at_a_quarter_of_a_second(runs):
    found = parsed(page(Saved({}, runs)))
    script, element = next(
        (script, element)
        for script, element in zip(found.scripts, _scripts(found), strict=True)
        if "data-opening" in element
    )
    opening = json.loads(script)[int(element["data-opening"])]
    assert (opening["model"], opening["latency"]) == ("base", "0.25")


def test_parts_that_nobody_had_take_no_column(runs):
    nothing = Interval(0.0, 0.0, 0.0, 0.95, 25)
    without = [replace(run, intervals={**run.intervals, "funding_bps": nothing}) for run in runs]
    assert "rebates, bps" in page(Saved({}, without))
    assert "funding, bps" not in page(Saved({}, without))
    assert "funding, bps" in page(Saved({}, [*without[1:], runs[0]]))


def test_names_from_the_data_cannot_become_markup():
    text = page(Saved({"data": {NASTY: 1}}, [outcome(name=NASTY, market=NASTY)]))
    found = parsed(text)
    assert not any("alert(1)" in script[:40] for script in found.scripts)
    assert {has["data-market"] for _, has in found.elements if "data-market" in has} == {NASTY}
    assert ("b", {}) not in found.elements
    index = next(
        script for script, element in zip(found.scripts, _scripts(found), strict=True) if "id" in element
    )
    assert json.loads(index)[0]["market"] == NASTY


def _scripts(found):
    return [has for tag, has in found.elements if tag == "script"]


def test_figures_escape_names_for_plotly():
    run = outcome(name="<b>me</b>")
    text = json.dumps(comparison.pnl_figure([run], 100)["data"])
    assert "&lt;b&gt;me&lt;/b&gt;" in text
    assert "<b>" not in text


@pytest.mark.slow
def test_the_page_stays_small_with_many_runs():
    runs = [run for at in range(7) for run in many(f"M{at}-USD")]
    assert len(page(Saved({}, runs))) < 25_000_000


def test_the_table_has_each_run_and_what_the_data_do_not_support(runs):
    text = shown(report_table(runs))
    assert len(re.findall(r"avellaneda", text)) == 6
    assert "ETH-USD, 10 ms to the exchange" in text
    assert "The taker side of this market's trades is inferred (all)." in text


def test_markets_are_chosen_by_name(runs):
    both = Saved({}, [*runs, outcome(market="BTC-USD")])
    assert {run.market for run in chosen(both, ["BTC-USD"]).outcomes} == {"BTC-USD"}
    assert chosen(both, []).outcomes == both.outcomes
    with pytest.raises(ReportError, match=r"\(BTC-USD, ETH-USD\), was SOL-USD"):
        chosen(both, ["SOL-USD"])
    with pytest.raises(ReportError, match="it has none"):
        chosen(Saved({}, []), [])


def test_a_page_is_written_whole(tmp_path):
    path = tmp_path / "new" / "page.html"
    write_report(Saved({}, [outcome()]), path)
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    assert path.read_text(encoding="utf-8").endswith("</html>\n")


def test_the_result_is_json_of_the_summary_and_more():
    told = json.loads(result_json(Saved({"calibration": {"k": 1}}, [outcome()])))
    assert told["calibration"] == {"k": 1}
    [run] = told["runs"]
    assert (run["name"], run["latency_ms"], run["fills"]["count"]) == ("crypto", 250.0, 120)
    assert run["intervals"]["pnl_bps_of_volume"]["blocks"] == 25
    assert run["markouts"][0].keys() >= {"side", "level", "horizon_s", "bps"}


@pytest.mark.slow
def test_the_verb_writes_the_page_and_prints_the_table(tmp_path, capsys):
    folder = tmp_path / "result"
    save(folder, [outcome(), outcome("legacy")], {"data": {}})
    assert main(["report", str(folder)]) == ExitCode.OK
    assert (folder / "report.html").stat().st_size > 1_000_000
    assert "legacy" in capsys.readouterr().out
    assert main(["report", str(folder), "--json", "--out", str(tmp_path / "r.html")]) == ExitCode.OK
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 2


@pytest.mark.slow
def test_the_verb_says_what_is_wrong(tmp_path, capsys):
    assert main(["report", str(tmp_path / "nothing")]) == ExitCode.DATA
    assert "expected a saved backtest" in capsys.readouterr().err
    save(tmp_path / "one", [outcome()], {})
    assert main(["report", str(tmp_path / "one"), "--market", "X"]) == ExitCode.USAGE
    assert "ETH-USD" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("low", "high", "changed", "words"),
    [
        (0.5, 1.5, {}, "+1.00 USD an hour, drawn in pairs, 95% interval +0.50 to +1.50: crypto did better"),
        (-1.5, -0.5, {}, ": legacy did better"),
        (-0.5, 1.5, {}, "; no conclusion: it may be chance."),
        (0.5, 1.5, {"volume_share": 0.06}, "; no conclusion: legacy: its volume is 6.0% of the market's."),
    ],
)
def test_one_against_another(low, high, changed, words):
    found = Difference("ETH-USD", "base", 0.25, "crypto", "legacy", Interval(1.0, low, high, 0.95, 25))
    assert words in head_to_head(found, (outcome(), replace(outcome("legacy"), **changed)))


def test_the_page_holds_the_first_contestant_against_the_others():
    buckets = np.zeros(300, BUCKET_DTYPE)
    buckets["end_ns"], buckets["seconds"] = np.arange(300), 10.0
    better = buckets.copy()
    better["spread"] = 1.0
    runs = [replace(outcome(), buckets=better), replace(outcome("legacy"), buckets=buckets)]
    assert "crypto against legacy: PnL +360.00 USD an hour" in page(Saved({}, runs))
