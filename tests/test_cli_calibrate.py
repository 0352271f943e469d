"""`mm calibrate`: figures, reasons and exit codes."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from model_market import START_NS, model_market

from market_maker.cli import main
from market_maker.cli.calibrate_settings import settings_text
from market_maker.config import load_config
from market_maker.domain import NS_PER_S
from market_maker.fitting.record import Calibration, MicroPrice
from market_maker.micro_price import MicroPriceSettings
from market_maker.model_quotes import ModelSettings
from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    CODE_MASK,
    FORMAT_VERSION,
    NS_PER_HOUR,
    Hour,
    MarketInfo,
)
from market_maker.recordings.store_writer import MarketWriter

HOUR_END_NS = (START_NS // NS_PER_HOUR + 1) * NS_PER_HOUR


def write(folder, market, hour):
    info = MarketInfo(FORMAT_VERSION, market, "made", "0.1", "0.001", 0, {}, [], {}, [], [])
    row = int((hour.venue_ns < HOUR_END_NS).sum())
    with MarketWriter(folder, market) as writer:
        for rows in (slice(0, row), slice(row, None)):
            writer.add(Hour(*(column[rows] for column in hour)))
        writer.commit(info)


def with_sizes(hour, seed=1):
    """The same market with other sizes at its best quotes."""
    codes = hour.kind & CODE_MASK
    best = (codes == BEST_BID) | (codes == BEST_ASK)
    sizes = np.random.default_rng(seed).integers(1, 200, len(codes)).astype(np.uint32)
    return hour._replace(lots=np.where(best, sizes, hour.lots))


@pytest.fixture(scope="module")
def markets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    write(folder, "BTC-USD", with_sizes(model_market(900)))
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
    assert "ETH-USD has no micro-price: expected at least 100 steps" in " ".join(err.split())
    assert "BTC-USD has no micro-price" not in err


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


def test_other_estimates_of_volatility_stand_beside_sigma(mm, markets):
    _, out, _ = mm(markets, "--market", "BTC-USD", "--json")
    [found] = json.loads(out)["markets"]
    ranges = found["ranges"]
    assert ranges["refused"] == ""
    assert ranges["minutes"] == 15
    assert ranges["rogers_satchell_bps"] == pytest.approx(found["volatility"]["sigma_bps"], rel=0.35)
    _, out, _ = mm(markets)
    words = " ".join(out.split())
    for row in ("one-minute closes", "Rogers, Satchell", "bipower", "share of jumps", "micro-price"):
        assert row in words


def test_what_is_written_is_read_as_settings(mm, markets, tmp_path):
    path = tmp_path / "found.toml"
    code, out, _ = mm(markets, "--write", path, "--json")
    assert code == 0
    btc, eth = json.loads(out)["markets"]
    config = load_config(config_files=[path])
    assert config.own_markets == ("BTC-USD", "ETH-USD")
    model = config.of(ModelSettings, "BTC-USD")
    assert model.model_a_per_s == pytest.approx(btc["arrivals"]["a_per_s"], rel=1e-5)
    ticks_per_bps = btc["mid_ticks"] / 1e4
    assert model.model_k_per_bps == pytest.approx(btc["arrivals"]["k_per_tick"] * ticks_per_bps, rel=1e-5)
    assert model.model_sigma_bps == pytest.approx(btc["volatility"]["sigma_bps"], rel=1e-5)
    micro = config.of(MicroPriceSettings, "BTC-USD")
    assert micro.micro_price_table == pytest.approx(tuple(btc["micro_price"]["table"]), abs=1e-4)
    assert micro.micro_price_spreads_ticks == tuple(btc["micro_price"]["spreads_ticks"]) != ()
    # What was refused is left at its default, and the file says why.
    other = config.of(ModelSettings, "ETH-USD")
    assert (other.model_a_per_s, other.model_k_per_bps) == (0.0, 0.0)
    assert other.model_sigma_bps == pytest.approx(eth["volatility"]["sigma_bps"], rel=1e-5)
    assert config.of(MicroPriceSettings, "ETH-USD") == MicroPriceSettings()
    text = path.read_text()
    assert f"# No model_a_per_s and no model_k_per_bps: {eth['arrivals']['refused']}." in text
    assert f"# No micro_price_table, so the weighted mid: {eth['micro_price']['refused']}." in text


def test_a_file_of_its_own_is_written_anew_and_no_other(mm, markets, tmp_path):
    path = tmp_path / "found.toml"
    assert mm(markets, "--market", "BTC-USD", "--write", path)[0] == 0
    first = path.read_text()
    assert mm(markets, "--market", "BTC-USD", "--share", "0.9", "--write", path)[0] == 0
    assert path.read_text() != first
    path.write_text("[quote]\nnum_levels = 1\n")
    code, _, err = mm(markets, "--write", path)
    assert code == 2
    assert "expected a new file, or one that mm calibrate wrote" in " ".join(err.replace("│", " ").split())
    assert path.read_text() == "[quote]\nnum_levels = 1\n"
    code, _, err = mm(markets, "--write", tmp_path / "none" / "found.toml")
    assert code == 2
    assert "expected a file in a folder that exists" in " ".join(err.replace("│", " ").split())


def test_a_market_of_which_nothing_is_known_has_no_section():
    text = settings_text(Path('a "b"\n.c'), [Calibration("X-USD", end_ns=NS_PER_S)])
    assert tomllib.loads(text) == {}
    assert text.count("nothing was fitted") == 3


def test_a_table_that_no_setting_takes_is_not_written():
    odd = MicroPrice(table=(2.0,) * 5, spreads_ticks=(1.0,), errors=(0.1,) * 5, refused="")
    with pytest.raises(ValueError, match="micro_price_table"):
        settings_text(Path("data"), [Calibration("X-USD", micro_price=odd)])
