"""The generated market: the same for the same seed, never crossed, and to a maker like the recorded ones."""

import hashlib
import math
import subprocess
import sys
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import flow_statistics
import numpy as np
import pytest
from flow_statistics import FlowStatistics, MinimalBook, Touch

from market_maker.domain import NS_PER_S, Side
from market_maker.emulator.flow import LevelChange, TakerOrder
from market_maker.emulator.scenarios import build_flows, market_names
from market_maker.recordings.discovery import open_recording

START_NS = 1_790_000_030_000_000_000
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SEEDS = (1, 2, 3, 4)
SECONDS = 900.0

# Measured with flow_statistics on the recordings:
#
#                      30 s / 1 s  markout   markout  adverse  dispersion of takers  takers
#                      volatility  5 s, bps  sigmas   sigmas   in 1 s   in 10 s      a second
# Binance BTC             0.88      −0.77     −0.31    0.33    25.2     48.2         15.8
# Binance ETH             0.80      −0.41     −0.19    0.21     9.7     14.1         10.2
# Hyperliquid BTC         1.46      −1.04     −0.79    0.86     1.10     2.25         1.14
# Hyperliquid ETH         1.12      −1.18     −0.51    0.59     1.61     5.02         1.39
# Hyperliquid SOL         1.28      −1.67     −0.58    0.68     1.28     2.90         0.94
# Hyperliquid WLFI        1.12      −1.21     −0.12    0.29     1.50     3.15         0.52
# StandX BTC              1.70      −0.21     −0.17    0.23     1.88     7.16         0.88
#
# Sigmas are those of five seconds, from 30 s returns. The bands are the recorded ranges widened by a quarter
# at either end, for a generated quarter of an hour is a sample too. Clustering is that of the venues of
# Extended's own activity (Hyperliquid, StandX): the generated rate of takers is theirs.
BANDS = {
    "volatility_ratio": (0.60, 2.13),
    "markout_bps": (-2.10, -0.16),
    "markout_sigmas": (-0.99, -0.09),
    "adverse_sigmas": (0.16, 1.08),
    "dispersion_1s": (1.05, 2.35),
    "dispersion_10s": (1.69, 8.95),
    "takers_per_s": (0.39, 4.0),
}
BUSY_VENUE = {"dispersion_1s", "dispersion_10s", "takers_per_s"}
SIGMA_BANDS_BPS = {"BTC-USD": (3, 10), "ETH-USD": (4, 11), "SOL-USD": (5, 12), "WIF-USD": (20, 45)}
RECORDINGS = [
    ("binance-usdm-2024-08-08", "BTC-USD"),
    ("binance-usdm-2024-08-08", "ETH-USD"),
    ("hyperliquid-2025-09-04", "BTC-USD"),
    ("hyperliquid-2025-09-04", "ETH-USD"),
    ("hyperliquid-2025-09-04", "SOL-USD"),
    ("hyperliquid-2025-09-04", "WLFI-USD"),
]


def flow(market, seed=1, scenario="mixed"):
    return build_flows(scenario, [market], seed, START_NS)[0]


def events(market, seed, count):
    generated, book, out = flow(market, seed), MinimalBook(), []
    for _ in range(count):
        at_ns = generated.next_ns()
        for event in generated.pop(book):
            book.apply(event)
            out.append((at_ns, event))
    return out


def fingerprint(market, seed, count):
    return hashlib.sha256(repr(events(market, seed, count)).encode()).hexdigest()


def mean_of(name, statistics: list[FlowStatistics]) -> float:
    return float(np.mean([getattr(item, name) for item in statistics]))


@pytest.mark.slow
@pytest.mark.parametrize("market", market_names())
def test_generated_flow_lies_within_the_bands_of_the_recordings(market):
    seeds = [flow_statistics.measure(flow_statistics.of_flow(flow(market, seed), SECONDS)) for seed in SEEDS]
    for name, (low, high) in BANDS.items():
        assert low <= mean_of(name, seeds) <= high, name
    low, high = SIGMA_BANDS_BPS[market]
    assert low <= mean_of("sigma_1s_bps", seeds) <= high


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "market"), RECORDINGS)
def test_recordings_lie_within_the_same_bands(folder, market):
    pytest.importorskip("polars")
    if not (DATA / folder).exists():
        pytest.skip("no recordings here")
    recorded = open_recording(DATA / folder, [market]).markets[market]
    measured = flow_statistics.measure(flow_statistics.of_recording(recorded))
    for name, (low, high) in BANDS.items():
        if not (folder.startswith("binance") and name in BUSY_VENUE):
            assert low <= getattr(measured, name) <= high, name


@pytest.mark.parametrize("market", market_names())
def test_same_seed_gives_the_same_flow_and_another_seed_another(market):
    assert events(market, 7, 200) == events(market, 7, 200)
    assert events(market, 7, 200) != events(market, 8, 200)


@pytest.mark.slow
def test_same_seed_gives_the_same_flow_in_another_process():
    code = "import test_emulator_generator as t; print(t.fingerprint('WIF-USD', 3, 400))"
    here = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=here, timeout=60
    )
    assert result.stdout.strip() == fingerprint("WIF-USD", 3, 400)


def test_a_market_does_not_depend_on_which_others_are_generated():
    together = build_flows("mixed", ["BTC-USD", "ETH-USD"], 5, START_NS)[1]
    alone = flow("ETH-USD", 5)
    ours, theirs = MinimalBook(), MinimalBook()
    for _ in range(100):
        assert together.next_ns() == alone.next_ns()
        assert together.pop(ours) == alone.pop(theirs)


@pytest.mark.parametrize("market", market_names())
def test_book_never_crosses_and_time_rises(market):
    generated, book = flow(market, 2), MinimalBook()
    last_ns = START_NS - 1
    for _ in range(3000):
        at_ns = generated.next_ns()
        assert at_ns > last_ns
        last_ns = at_ns
        for event in generated.pop(book):
            assert event.size_lots >= (0 if isinstance(event, LevelChange) else 1)
            book.apply(event)
            bid, ask = book.best_ticks(Side.BUY), book.best_ticks(Side.SELL)
            assert bid is None or ask is None or bid < ask


def test_first_events_show_twenty_levels_a_side():
    generated, book = flow("BTC-USD"), MinimalBook()
    assert generated.next_ns() == START_NS
    first = generated.pop(book)
    assert len(first) == 40
    assert all(isinstance(event, LevelChange) for event in first)


def test_later_instants_change_few_levels():
    counts = [len(list(group)) for group in _by_instant(events("BTC-USD", 1, 1500))]
    assert np.mean(counts) < 10


def _by_instant(stamped):
    instants = {}
    for at_ns, event in stamped:
        instants.setdefault(at_ns, []).append(event)
    return list(instants.values())[1:]


def test_takers_trade_at_a_plausible_rate_on_both_sides():
    takers = [event for _, event in events("ETH-USD", 1, 3000) if isinstance(event, TakerOrder)]
    seconds = events("ETH-USD", 1, 3000)[-1][0] / NS_PER_S - START_NS / NS_PER_S
    assert 0.5 < len(takers) / seconds < 4
    buys = sum(event.side is Side.BUY for event in takers) / len(takers)
    assert 0.3 < buys < 0.7


def test_some_takers_sweep_several_levels():
    generated, book = flow("SOL-USD", 4), MinimalBook()
    deepest = 0
    for _ in range(3000):
        for event in generated.pop(book):
            deepest = max(deepest, len(book.apply(event)))
    assert deepest >= 3


def test_depth_that_was_taken_comes_back():
    generated, book = flow("BTC-USD", 1, "flat"), MinimalBook()
    for event in generated.pop(book):
        book.apply(event)
    for side in Side:
        book.levels[side].clear()
    for _ in range(600):
        for event in generated.pop(book):
            book.apply(event)
    bid, ask = book.best_ticks(Side.BUY), book.best_ticks(Side.SELL)
    assert ask - bid <= 5
    assert sum(book.levels[Side.BUY].values()) > 100_000


def test_index_price_is_the_efficient_price_near_the_mid():
    generated, book = flow("ETH-USD"), MinimalBook()
    for _ in range(500):
        for event in generated.pop(book):
            book.apply(event)
    index = generated.index_price()
    mid = Decimal(book.best_ticks(Side.BUY) + book.best_ticks(Side.SELL)) / 2 * Decimal("0.1")
    assert isinstance(index, Decimal)
    assert abs(index / mid - 1) < Decimal("0.003")


def test_past_bars_lead_to_the_start_with_the_volatility_of_the_process():
    generated = flow("BTC-USD")
    bars = generated.past_bars(240)
    assert [bar.open_ns for bar in bars[-2:]] == [1_789_999_860_000_000_000, 1_789_999_920_000_000_000]
    assert bars[-60:] == generated.past_bars(60)
    assert all(bar.low_ticks <= min(bar.open_ticks, bar.close_ticks) for bar in bars)
    assert all(bar.high_ticks >= max(bar.open_ticks, bar.close_ticks) for bar in bars)
    assert all(before.close_ticks == after.open_ticks for before, after in pairwise(bars))
    assert bars[-1].close_ticks == 84_077
    moves = np.diff(np.log([bar.close_ticks for bar in bars])) * 1e4
    assert 3.5 < moves.std() < 5.5


def test_markets_of_one_seed_are_correlated():
    mids = []
    for market in ("BTC-USD", "ETH-USD"):
        touches = [o for o in flow_statistics.of_flow(flow(market, 9), 240) if isinstance(o, Touch)]
        stamps = np.array([touch.at_ns for touch in touches])
        logs = np.log([(touch.bid + touch.ask) / 2 for touch in touches])
        grid = np.arange(START_NS + NS_PER_S, START_NS + 239 * NS_PER_S, 5 * NS_PER_S)
        mids.append(np.diff(logs[np.searchsorted(stamps, grid, side="right") - 1]))
    assert np.corrcoef(mids)[0, 1] > 0.5


def test_markout_arithmetic_on_a_flow_made_by_hand():
    second = NS_PER_S
    quiet = [Touch(k * second, 99, 10, 101, 10) for k in range(60)]
    sales = [flow_statistics.Print(20 * second + k, Side.SELL, 99, 6) for k in (1, 2)]
    later = [Touch(k * second, 97, 10, 99, 10) for k in range(21, 90)]
    measured = flow_statistics.measure([*quiet[:21], *sales, *later])
    # The second sale eats the queue: bought at 99 when the mid was 100, five seconds later it is 98.
    assert measured.fills_per_minute == pytest.approx(60 / 89)
    assert measured.markout_bps == pytest.approx(-1 / 99 * 1e4)
    sigma_5s = measured.sigma_30s_bps * math.sqrt(5 / 60)
    assert measured.adverse_sigmas == pytest.approx(2 / 100 * 1e4 / sigma_5s)
