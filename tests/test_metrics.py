"""Metrics and percentiles."""

import math
import urllib.request
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_maker.domain import Reason, Regime, Side
from market_maker.metrics import MarketFigures, Metrics, Percentiles, start_http_server

FIGURES = MarketFigures(
    Regime.ELEVATED, -0.5, Decimal("-120.5"), 4, {"spread": Decimal("1.25"), "fees": Decimal(-1)}
)


def filled():
    metrics = Metrics()
    metrics.show("BTC-USD", FIGURES)
    metrics.show_account(Decimal("10000.5"), journal_failed=True)
    metrics.fill("BTC-USD", Side.SELL, Decimal("-84.5"))
    metrics.order("BTC-USD", "placed")
    metrics.order("BTC-USD", "placed")
    metrics.reject("BTC-USD", "POST_ONLY_FAILED")
    metrics.refused("BTC-USD", Reason.RISK_GROSS)
    metrics.sequence_gap("BTC-USD")
    metrics.decision("BTC-USD", 30.0)
    return metrics


@pytest.mark.parametrize(
    "line",
    [
        'mm_quotes_live{market="BTC-USD"} 4.0',
        'mm_position_usd{market="BTC-USD"} -120.5',
        'mm_regime{market="BTC-USD"} 2.0',
        'mm_trend{market="BTC-USD"} -0.5',
        'mm_pnl_usd{market="BTC-USD",part="spread"} 1.25',
        "mm_equity_usd 10000.5",
        "mm_journal_failed 1.0",
        'mm_fills_total{market="BTC-USD",side="SELL"} 1.0',
        'mm_volume_usd_total{market="BTC-USD",side="SELL"} 84.5',
        'mm_orders_total{kind="placed",market="BTC-USD"} 2.0',
        'mm_rejects_total{market="BTC-USD",reason="POST_ONLY_FAILED"} 1.0',
        'mm_refusals_total{market="BTC-USD",reason="RISK_GROSS"} 1.0',
        'mm_sequence_gaps_total{market="BTC-USD"} 1.0',
        'mm_decision_seconds_bucket{le="2e-05",market="BTC-USD"} 0.0',
        'mm_decision_seconds_bucket{le="5e-05",market="BTC-USD"} 1.0',
    ],
)
def test_lines(line):
    assert line in filled().text().splitlines()


def test_two_instances_do_not_add_up():
    filled()
    assert 'mm_fills_total{market="BTC-USD",side="SELL"} 1.0' in filled().text()


@pytest.mark.slow
def test_server_answers_on_loopback_and_stops():
    server = start_http_server(filled(), 0)
    url = f"http://127.0.0.1:{server.port}/metrics"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as reply:
        assert b"mm_equity_usd 10000.5" in reply.read()
    server.close()
    with pytest.raises(OSError, match="refused"):
        opener.open(url, timeout=5)


@pytest.mark.parametrize("addr", ["0.0.0.0", "10.0.0.1", "::"])
def test_server_refuses_other_machines(addr):
    with pytest.raises(ValueError, match="loopback"):
        start_http_server(Metrics(), 0, addr)


def test_percentiles_of_nothing_and_of_odd_values():
    durations = Percentiles()
    assert (durations.p50, durations.p99, durations.count) == (0.0, 0.0, 0)
    for us in (math.nan, math.inf, -math.inf):
        durations.add(us)
    assert durations.count == 0
    durations.add(-1.0)
    durations.add(0.0)
    assert durations.p50 == pytest.approx(0.1)
    durations.add(1e30)
    assert durations.quantile(1.0) > 1e7


@pytest.mark.slow
@given(samples=st.lists(st.floats(0.2, 1e7), min_size=1, max_size=60), share=st.floats(0.0, 1.0))
def test_percentiles_are_within_one_percent(samples, share):
    durations = Percentiles()
    for us in samples:
        durations.add(us)
    exact = float(np.quantile(samples, share, method="inverted_cdf"))
    assert durations.quantile(share) == pytest.approx(exact, rel=0.0101)


def test_the_kill_ladder_is_a_gauge_with_its_cause():
    metrics = Metrics()
    metrics.show_ladder(0, "NONE")
    assert 'mm_kill_step{cause="none"} 0.0' in metrics.text()
    metrics.show_ladder(4, "DRAWDOWN")
    assert 'mm_kill_step{cause="drawdown"} 4.0' in metrics.text()
    assert 'cause="none"' not in metrics.text()
