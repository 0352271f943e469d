"""The ablation: verdicts by the rule, generated weeks, tables and plots, a page that has all places."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outcomes import outcome

from market_maker.backtest.ablation import Comparison
from market_maker.backtest.funding import Funding
from market_maker.backtest.outcome import BUCKET_DTYPE, Interval, Label
from market_maker.funding import rate_of
from market_maker.recordings import store
from market_maker.recordings.store import open_store

ROOT = Path(__file__).resolve().parents[1]
S = 10**9


@pytest.fixture(scope="module")
def ablation():
    folder = str(ROOT / "docs" / "study")
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("make_ablation")
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def tables(ablation):
    return importlib.import_module("ablation_tables")


@pytest.fixture(scope="module")
def days(ablation):
    return importlib.import_module("generated_days")


def buckets(pnl):
    rows = np.zeros(len(pnl), BUCKET_DTYPE)
    rows["end_ns"] = np.arange(1, len(pnl) + 1) * 10 * S
    rows["seconds"] = 10.0
    rows["inventory"] = pnl
    return rows


def run(name, pnl, *, model="pessimistic", market="ETH-USD", share=0.01):
    label = Label(name, "crypto", model, 0.25)
    return replace(outcome(), label=label, market=market, buckets=buckets(pnl), volume_share=share)


def runs(*, seed=1, gain=0.0, model="pessimistic", **more):
    """A profile, one variant that earns so much more in each stretch, and one that is the same."""
    pnl = np.random.default_rng(seed).normal(size=240)
    return [
        run("crypto", pnl, model=model, **more),
        run("crypto fade", pnl + gain + 0.01 * np.sin(np.arange(240)), model=model, **more),
        run("crypto without flow", pnl, model=model, **more),
    ]


def compared(market, low, high, variant="crypto fade"):
    middle = (low + high) / 2.0
    interval = Interval(middle, low, high, 0.95, 30)
    return Comparison(market, "pessimistic", 0.25, "crypto", variant, interval, interval, 7)


VENUES = ("Here", "There", "Elsewhere")


def test_a_change_is_recommended_by_two_venues_and_none_against_it(tables):
    def verdict(*found, weak=()):
        [told] = tables.verdicts(found, dict.fromkeys(weak, "fills"), VENUES)
        return told.is_recommended, told.is_confirmed

    here, there, against = (
        compared("Here A", 1, 2),
        compared("There A", 1, 3),
        compared("Elsewhere A", -2, -1),
    )
    assert verdict(here) == (False, False)
    assert verdict(here, compared("Here B", 1, 2)) == (False, False)
    assert verdict(here, there) == (True, False)
    assert verdict(here, there, compared("Elsewhere A", -2, 1)) == (True, False)
    assert verdict(here, there, against) == (False, False)
    assert verdict(against, compared("Here A", -3, -2)) == (False, True)
    assert verdict(here, there, weak=[("There A", "crypto fade")]) == (False, False)
    text = tables.verdict_text(tables.verdicts([here, there], {}, VENUES))
    assert "| fade | Here, There | - | change |" in text
    assert tables.verdicts([compared("one account", 1, 2)], {}, VENUES) == []


def test_what_bears_no_conclusion_is_told(tables):
    few = replace(outcome(count=20), label=Label("crypto fade", "crypto", "base", 0.25))
    markets = {"A": runs(share=0.2), "B": [*runs(), few]}
    weak = tables.weak_pairs(markets)
    assert weak["A", "crypto without flow"] == "volume"
    assert weak["B", "crypto fade"] == "fills"
    assert ("B", "crypto without flow") not in weak
    short = [replace(one, buckets=one.buckets[:20]) for one in runs()]
    assert tables.weakness(short[0]) == "time"


def test_blocks_are_whole_and_say_what_was_found(ablation, tables):
    markets = {"Here ETH-USD": runs(gain=0.5), "There X-USD": runs(seed=2, gain=-0.5, model="trade_through")}
    account = [
        one
        for model in ("pessimistic", "base")
        for market in ("ETH-USD", "SOL-USD")
        for one in runs(model=model, market=market, seed=len(market + model))
    ]
    generated = {"week": runs(gain=0.1)}
    blocks, found = ablation.page_blocks(markets, account, generated, {"week": -0.5})
    assert {one.comparisons for one in found if one.market == "Here ETH-USD"} == {8}
    rows = {line.split("|")[1].strip(): line for line in blocks["pessimistic differences"].splitlines()}
    assert rows["fade"].count("**") == 4
    assert "+180" in rows["fade"]
    assert "-180" in rows["fade"]
    assert rows["without flow"].count("same") == 2
    assert blocks["pessimistic count"] == "8 comparisons."
    for text in blocks.values():
        lines = [line for line in text.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
        assert "nan" not in text
    page = ablation.PAGE.read_text(encoding="utf-8")
    kept = {name: text for name, text in blocks.items() if name not in markets}
    titles = ("Binance BTC-USD", "Binance ETH-USD", "StandX BTC-USD")
    titles += tuple(f"Hyperliquid {name}-USD" for name in ("BTC", "ETH", "SOL", "WLFI"))
    assert "+180" in ablation.filled(page, {**kept, **dict.fromkeys(titles, "x")})


def test_accounts_are_the_sum_of_their_markets(ablation, tables):
    outcomes = [*runs(market="ETH-USD"), *runs(market="SOL-USD", seed=9)]
    full, fade, _ = ablation.accounts_of(outcomes)
    assert (full.label.name, fade.label.name) == ("crypto", "crypto fade")
    expected = tables.pnl_of(outcomes[0].buckets) + tables.pnl_of(outcomes[3].buckets)
    assert tables.pnl_of(full.buckets) == pytest.approx(expected)


@pytest.mark.slow
def test_plots_are_written_and_the_same_again(ablation, tmp_path):
    markets = {"Here A": runs(gain=0.2), "There B": runs(seed=3)}
    account = [*runs(market="ETH-USD"), *runs(market="SOL-USD", seed=9)]
    page = tmp_path / "ablation.md"
    blocks, _ = ablation.page_blocks(markets, account, {}, {})
    page.write_text("".join(f"<!-- study {name} -->\n<!-- /study -->\n" for name in blocks))
    ablation.write_page(page, markets, account, {}, {})
    first = {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()}
    assert sorted(first) == ["ablation-account.svg", "ablation.svg"]
    ablation.write_page(page, markets, account, {}, {})
    assert {path.name: path.read_bytes() for path in (tmp_path / "plots").iterdir()} == first


def test_variants_stand_on_what_was_fitted(ablation):
    model = {"model_a_per_s": 0.5, "model_k_per_bps": 1.25, "model_sigma_bps": 3.0}
    micro = {"micro_price_spreads_ticks": [1, 2], "micro_price_table": [0.1] * 10}
    names = [text.partition(":")[0] for text in ablation.fitted_variants("X-USD", {"model": model})]
    assert names == ["avellaneda stoikov", "glft"]
    [text] = ablation.fitted_variants("X-USD", {"model": {"model_sigma_bps": 3.0}, "micro_price": micro})
    assert text.startswith("fitted micro price:X-USD:micro_price_spreads_ticks=1,2;X-USD:")
    assert list(ablation.fitted_variants("X-USD", {})) == []


def test_a_generated_hour_has_the_rate_of_the_table(days, tmp_path):
    for rate in (-0.0002, 0.00001, 0.00011):
        assert rate_of(days.premium_of(rate)) == pytest.approx(rate)
    pytest.importorskip("polars")
    week = days.Days("SOL-USD", 1_760_054_400 * S, (0.0001, -0.0001))
    days.write_days(tmp_path, week, seed=1)
    made = open_store(tmp_path)
    first, second = made.hours("SOL-USD")
    for hour, rate in ((first, 0.0001), (second, -0.0001)):
        codes = hour.kind & store.CODE_MASK
        bids = hour.ticks[codes == store.LEVEL_BID].reshape(-1, 6)[::5, 0]
        asks = hour.ticks[codes == store.LEVEL_ASK].reshape(-1, 6)[::5, 0]
        index = hour.ticks[codes == store.INDEX] / store.PRICE_PARTS
        best = bids if rate > 0 else asks
        assert (best - index) / index == pytest.approx(days.premium_of(rate), abs=2e-6)
        assert (bids < asks).all()
        assert np.isin(hour.kind[codes == store.TRADE_BUY], store.TRADE_BUY | store.LAST).all()
        assert (np.diff(hour.venue_ns) >= 0).all()
    assert [one.tobytes() for one in next(days.hours(week, 1))] == [one.tobytes() for one in first]


def test_weeks_have_the_rates_that_are_paid_at_the_end_of_their_hours(ablation, monkeypatch, tmp_path):
    start_ns = int(np.datetime64("2025-10-09", "ns").astype(np.int64))
    stamps = start_ns + np.arange(400) * 3600 * S + 73_000_000
    table = Funding(stamps, np.arange(400) * 1_000)
    monkeypatch.setattr(ablation, "read_funding", lambda *_: {"SOL-USD": table})
    monkeypatch.setattr(ablation, "WEEKS", (("SOL-USD", "2025-10-09"),))
    [week] = ablation.weeks(tmp_path)
    assert week.days.rates[:3] == pytest.approx([1e-6, 2e-6, 3e-6])
    assert len(week.days.rates) == 168
    assert week.mean_bps == pytest.approx(84.5e-6 * 1e4)
    assert json.dumps(week.title) == '"SOL-USD from 2025-10-09"'
