"""`mm calibrate`: figures, reasons and exit codes."""

import json

import pytest
from model_market import START_NS, model_market

from market_maker.cli import main
from market_maker.domain import NS_PER_S
from market_maker.recordings.store import FORMAT_VERSION, NS_PER_HOUR, Hour, MarketInfo
from market_maker.recordings.store_writer import MarketWriter

HOUR_END_NS = (START_NS // NS_PER_HOUR + 1) * NS_PER_HOUR


def write(folder, market, hour):
    info = MarketInfo(FORMAT_VERSION, market, "made", "0.1", "0.001", 0, {}, [], {}, [], [])
    row = int((hour.venue_ns < HOUR_END_NS).sum())
    with MarketWriter(folder, market) as writer:
        for rows in (slice(0, row), slice(row, None)):
            writer.add(Hour(*(column[rows] for column in hour)))
        writer.commit(info)


@pytest.fixture(scope="module")
def markets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write(folder, "BTC-USD", model_market(900))
    write(folder, "ETH-USD", model_market(900, a_per_s=0.01, seed=2))
    return folder


@pytest.fixture
def mm(capsys):
    def run(*words):
        code = main(["calibrate", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_json_has_the_figures_and_their_goodness(mm, markets):
    code, out, _ = mm(markets, "--market", "BTC-USD", "--json")
    assert code == 0
    told = json.loads(out)
    [found] = told["markets"]
    assert (found["market"], found["tick"], found["refused"]) == ("BTC-USD", "0.1", "")
    assert found["arrivals"]["k_per_tick"] == pytest.approx(0.25, rel=0.2)
    assert found["arrivals"]["k_error"] > 0.0
    assert 0.9 < found["arrivals"]["r2"] <= 1.0
    assert found["volatility"]["sigma_ticks"] == pytest.approx(3.0, rel=0.25)
    assert found["seconds"] == pytest.approx(900.0, abs=1.0)


def test_a_refusal_has_its_reason_beside_the_table(mm, markets):
    code, out, err = mm(markets)
    assert code == 0
    assert "refused" in out
    assert "R²" in out
    assert "ETH-USD is refused: expected at least 40 taker orders past the touch" in " ".join(err.split())
    assert "BTC-USD is refused" not in err


def test_where_everything_is_refused_it_fails(mm, markets):
    code, out, _ = mm(markets, "--market", "ETH-USD", "--json")
    assert code == 4
    [found] = json.loads(out)["markets"]
    assert found["refused"]
    assert found["arrivals"]["a_per_s"] == 0.0


def test_a_share_and_a_span(mm, markets):
    _, out, _ = mm(markets, "--market", "BTC-USD", "--share", "0.5", "--json")
    [half] = json.loads(out)["markets"]
    assert half["seconds"] == pytest.approx(450.0, abs=1.0)
    span = ("--from", "2026-01-05T22:56:00", "--to", "2026-01-05T23:02:00")
    _, out, _ = mm(markets, "--market", "BTC-USD", *span, "--json")
    [found] = json.loads(out)["markets"]
    assert (found["start_ns"] - START_NS) / NS_PER_S == 120.0
    assert (found["end_ns"] - START_NS) / NS_PER_S == 480.0
    assert found["seconds"] == pytest.approx(360.0, abs=1.0)


def test_a_span_outside_and_a_market_that_is_not_there(mm, markets):
    code, _, err = mm(markets, "--from", "2027-01-01")
    assert code == 4
    assert "expected events in the span" in " ".join(err.split())
    code, _, err = mm(markets, "--market", "SOL-USD")
    assert code == 4
    assert "SOL-USD" in err
    code, _, err = mm(markets / "none")
    assert code == 4
