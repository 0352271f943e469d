"""`mm markets correlation`: of recorded markets and of the exchange's candles, in three shapes."""

import json
import math
import re
from decimal import Decimal

import numpy as np
import pytest
from played_markets import START_NS, S, write_market
from served import served

from market_maker.backtest.joint_moves import Grid, grid_of_candles, joint_moves
from market_maker.backtest.joint_moves_page import page
from market_maker.cli import main
from market_maker.cli.app import ExitCode
from market_maker.cli.correlation import as_dict
from market_maker.gateway import Candle

pytestmark = pytest.mark.slow
NAMES = ("BTC-USD", "ETH-USD", "SOL-USD")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def mm(capsys):
    def run(*words):
        code = main(["markets", *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """BTC and ETH are the same walk, SOL is one of its own."""
    folder = tmp_path_factory.mktemp("recording")
    for name, seed in (("BTC", 1), ("ETH", 1), ("SOL", 2)):
        write_market(folder, name, seed=seed, seconds=300)
    return folder


def test_a_recording_as_json_and_as_a_picture(mm, recording, tmp_path):
    code, out, err = mm(
        "correlation", "--data", recording, "--return-s", 2, "--json", "--out", "pages/moves.html"
    )
    assert code == ExitCode.OK
    told = json.loads(out)
    assert (told["reference"], told["return_s"], told["blocks"]) == ("BTC-USD", 2.0, 4)
    found = {tuple(pair["markets"]): pair for pair in told["correlations"]}
    assert found["BTC-USD", "ETH-USD"]["estimate"] == pytest.approx(1.0)
    apart = found["BTC-USD", "SOL-USD"]
    assert apart["low"] < 0.0 < apart["high"]
    assert abs(apart["estimate"]) < 0.4
    assert [market["beta"]["estimate"] for market in told["markets"]][:2] == pytest.approx([1.0, 1.0])
    text = (tmp_path / "pages" / "moves.html").read_text()
    figures = re.findall(r'<script type="application/json" id="f\d">(.*?)</script>', text)
    matrix, betas = map(json.loads, figures)
    assert matrix["data"][0]["z"][0][1] == pytest.approx(1.0)
    assert betas["data"][0]["x"] == list(NAMES)
    assert "://" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert "pages/moves.html" in err


def test_tables_chosen_markets_and_another_reference(mm, recording, tmp_path):
    chosen = ("--market", "ETH", "--market", "SOL", "--reference", "SOL")
    code, out, _ = mm("correlation", "--data", recording, *chosen, "--set", "portfolio_return_s=3")
    assert code == ExitCode.OK
    assert "returns of 3 s" in out
    assert "dollars of SOL-USD" in re.sub(r"\s+", " ", out)
    assert "BTC-USD" not in out
    assert (tmp_path / "correlation.html").exists()


def test_a_span_that_is_too_short_has_no_intervals(mm, recording):
    to = "2026-01-01T00:00:40"
    code, out, _ = mm("correlation", "--data", recording, "--return-s", 1, "--to", to)
    assert code == ExitCode.OK
    assert "the span is too short" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--market", "BTC"), ExitCode.USAGE, "expected two markets or more, was BTC-USD"),
        (("--reference", "XRP"), ExitCode.USAGE, "expected one of BTC-USD, ETH-USD, SOL-USD, was XRP"),
        (("--return-s", "600"), ExitCode.USAGE, "BTC-USD: expected two mids 600 s apart, was none"),
        (("--from", "2026-02-01"), ExitCode.DATA, "expected ten seconds that all have"),
        (("--market", "XRP"), ExitCode.DATA, "expected the markets XRP-USD, was one of"),
    ],
)
def test_what_cannot_be_done_is_said(mm, recording, words, code, message):
    found, out, err = mm("correlation", "--data", recording, *words)
    assert (found, out) == (code, "")
    assert message in re.sub(r"[│\s]+", " ", err)


def test_options_belong_behind_the_verb_and_some_to_recordings(mm):
    code, _, err = mm("--inside", "correlation")
    assert code == ExitCode.USAGE
    assert "expected options behind correlation" in re.sub(r"[│\s]+", " ", err)
    code, _, err = mm("correlation", "--return-s", "5")
    assert code == ExitCode.USAGE
    assert "expected with --data alone" in re.sub(r"[│\s]+", " ", err)


def test_candles_of_the_exchange(mm):
    with served(markets=NAMES[:2]) as emulator:
        way = (
            "-s",
            "network=emulator",
            "-s",
            f"emulator_url={emulator.url}",
            "-s",
            "markets=BTC-USD,ETH-USD",
        )
        code, out, _ = mm("correlation", *way, "--minutes", "30", "--json")
        assert code == ExitCode.OK
        told = json.loads(out)
        assert told["return_s"] == 60.0
        assert told["source"] == "one-minute candles of emulator"
        assert [market["name"] for market in told["markets"]] == ["BTC-USD", "ETH-USD"]
        code, _, err = mm("correlation", *way, "--market", "NO-USD")
        assert code == ExitCode.EXCHANGE
        assert "NO-USD" in err
    code, out, err = mm("correlation", "-s", "network=emulator", "-s", "emulator_url=http://127.0.0.1:9")
    assert (code, out) == (ExitCode.EXCHANGE, "")
    assert err.startswith("mm: ")


def together(n, count=4_000, seed=1):
    """Log mids with one common factor, on a grid of seconds, some of them unknown."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0.0, 1e-4, count) + rng.normal(0.0, 0.5e-4, (n, count))
    mids = np.cumsum(moves, axis=1)
    mids[1, 100:200] = math.nan
    return Grid(tuple(f"M{i}" for i in range(n)), START_NS, 1.0, mids)


def test_estimates_are_numpy_s_where_all_is_known_and_intervals_hold_the_truth():
    grid = together(3)
    found = joint_moves(grid, 5)
    returns = grid.log_mids[:, 5:] - grid.log_mids[:, :-5]
    pair = returns[[0, 2]]
    second = pair @ pair.T / pair.shape[1]
    assert found.rho[0][0, 2] == pytest.approx(second[0, 1] / math.sqrt(second[0, 0] * second[1, 1]))
    assert found.beta[0][0, 2] == pytest.approx(second[0, 1] / second[0, 0])
    assert found.sigma_bps[0] == pytest.approx(1e4 * math.sqrt(second[0, 0] / 5 * 60))
    known = returns[:2, np.isfinite(returns[1])]
    both = known @ known.T
    assert found.rho[0][0, 1] == pytest.approx(both[0, 1] / np.sqrt(both[0, 0] * both[1, 1]), rel=0.02)
    truth = 1.0 / 1.25
    assert (found.rho[1][~np.eye(3, dtype=bool)] <= truth).all()
    assert (found.rho[2][~np.eye(3, dtype=bool)] >= truth).all()


def test_markets_that_do_not_move_have_no_correlation():
    grid = Grid(("A", "B"), START_NS, 1.0, np.array([np.zeros(400), np.arange(400) * 1e-4]))
    found = joint_moves(grid, 1)
    told = as_dict(found, "A", "made")
    assert told["correlations"][0]["estimate"] is None
    assert told["markets"][1]["beta"]["estimate"] is None
    assert '"z":[[null,null],[null,1.0]]' in page(found, "A", "made")
    assert ">?<" not in page(found, "A", "made")


def test_no_candles_are_refused_and_a_minute_that_one_lacks_is_unknown():
    def candle(minute, close):
        return Candle(START_NS + minute * 60 * S, *(Decimal(close),) * 4)

    grid = grid_of_candles({"A": [candle(0, 10), candle(2, 11)], "B": [candle(1, 5)]})
    assert np.isfinite(grid.log_mids).tolist() == [[True, False, True], [False, True, False]]
    with pytest.raises(ValueError, match="expected candles of A, B, was none"):
        grid_of_candles({"A": [], "B": []})
