"""Fill models: which a market gets, and what each means to the engine."""

from decimal import Decimal

import msgspec
import pytest
from played_markets import write_market

from market_maker.backtest.fill_models import MODELS, Fees, fill_row, models_for, unsure_share
from market_maker.fills.rows import QueueModel
from market_maker.instrument import Instrument
from market_maker.recordings.conversion import convert, open_sources
from market_maker.recordings.store import FORMAT_VERSION, MarketInfo

MARKET = Instrument("X-USD", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"))
INFO = MarketInfo(FORMAT_VERSION, "X-USD", "here", "0.1", "0.001", 0, {}, [], {}, [], [])


def info(counts, findings=()):
    return msgspec.structs.replace(INFO, counts=counts, findings=dict(findings))


def names(models):
    return [model.name for model in models]


def test_three_models_where_the_taker_is_known():
    known = info({"trade_buy": 60, "trade_sell": 40})
    assert names(models_for(known)) == ["pessimistic", "base", "optimistic"]
    assert names(models_for(known, ("optimistic", "base", "base"))) == ["optimistic", "base"]
    with pytest.raises(KeyError):
        models_for(known, ("hopeful",))


@pytest.mark.parametrize(
    ("counts", "findings", "share"),
    [
        ({"trade_buy": 50, "trade_unknown": 50}, {}, 0.5),
        ({"trade_buy": 100}, {"taker_sides_inferred": 20}, 0.2),
        ({"level_bid": 7}, {}, 0.0),
    ],
)
def test_trades_without_a_taker_fill_only_when_they_go_through(counts, findings, share):
    found = info(counts, findings)
    assert unsure_share(found) == share
    expected = ["trade_through"] if share else ["pessimistic"]
    assert names(models_for(found, ("pessimistic",))) == expected


def test_inferred_takers_are_counted_when_a_recording_is_converted(tmp_path):
    pytest.importorskip("polars")
    write_market(tmp_path, seconds=20, sure=0.5)
    [found] = convert(open_sources(tmp_path), tmp_path / "store")
    assert 0.3 < unsure_share(found) < 0.7


def test_a_row_has_the_models_queue_the_latency_both_ways_and_extendeds_fees():
    row = fill_row(MODELS["pessimistic"], 0.25, Fees(), MARKET)
    assert row.queue_model == QueueModel.RISK_AVERSE
    latencies = {row.request_ns, row.reply_ns, row.cancel_request_ns, row.cancel_reply_ns}
    assert latencies == {250_000_000}
    assert (row.maker_fee_ppb, row.taker_fee_ppb) == (0, 250_000)
    assert not row.rebate_ppb.any()
    assert not row.rebate_share_ppm.any()
    assert not fill_row(MODELS["trade_through"], 0.0, Fees(), MARKET).book_fills


def test_rebates_are_extendeds_tiers():
    row = fill_row(MODELS["base"], 0.0, Fees(rebate_tiers=True), MARKET)
    assert row.rebate_share_ppm.tolist() == [5_000, 10_000, 25_000, 50_000]
    assert row.rebate_ppb.tolist() == [20_000, 40_000, 80_000, 130_000]
    # 10 USD in units of 0.1 × 0.001 USD.
    assert row.rebate_least_tick_lots == 100_000
