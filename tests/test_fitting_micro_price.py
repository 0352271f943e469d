"""The micro-price from best quotes: a known chain, the full chain by the book, recordings' other halves."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker.domain import NS_PER_S
from market_maker.fitting.micro_price import (
    MicroPriceFitSettings,
    StepCounts,
    expected_moves,
    fit_micro_price,
)
from market_maker.fitting.quotes import SizedQuotes
from market_maker.kernel import new_row
from market_maker.micro_price import COLUMNS, SPREADS, MicroPriceSettings, lean_ticks

RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data"
BOOKS = 2 * COLUMNS  # ranges of bids / (bids + asks)


def quotes_of(mid2, spread, book, step_ns=1):
    """Quotes of half ticks, whole spreads and ranges of the balance, one each step."""
    spread = np.broadcast_to(spread, mid2.shape)
    bids = 2 * np.asarray(book) + 1
    return SizedQuotes(
        np.arange(1, len(mid2) + 1) * step_ns,
        (mid2 - spread) // 2,
        (mid2 + spread) // 2,
        bids,
        2 * BOOKS - bids,
    )


def counted(quotes):
    counts = StepCounts(0, int(quotes.ns[-1]) + 1)
    counts.take(quotes)
    return counts


def settings_of(found):
    return MicroPriceSettings(micro_price_table=found.table, micro_price_spreads_ticks=found.spreads_ticks)


# --- A chain whose micro-price is known --------------------------------------------------------------------


def known_chain(steps, chance, persistence, seed=1):
    """A market one tick wide. With a chance a step, the mid moves a tick, up more often under heavy bids.

    A move up has the chance ½ + tilt of the book. After it the book is as before with the chance
    `persistence`, else any. So a book expects 2·tilt of the next move, and 2·tilt/(1 − persistence) of all.
    """
    rng = np.random.default_rng(seed)
    tilt = 0.1 * (np.arange(BOOKS) - (BOOKS - 1) / 2) / ((BOOKS - 1) / 2)
    books, mid2, book, at = np.zeros(steps, int), np.zeros(steps, int), 0, 2_000_001
    draws, fresh = rng.random((steps, 3)), rng.integers(0, BOOKS, steps)
    for i in range(steps):
        if draws[i, 0] < chance:
            at += 2 if draws[i, 1] < 0.5 + tilt[book] else -2
            if draws[i, 2] >= persistence:
                book = fresh[i]
        books[i], mid2[i] = book, at
    return quotes_of(mid2, 1, books), 2.0 * tilt / (1.0 - persistence)


@pytest.mark.slow
@pytest.mark.parametrize("persistence", [0.0, 0.5])
def test_a_known_chain_is_recovered(persistence):
    quotes, expected = known_chain(200_000, 0.5, persistence)
    found = fit_micro_price(counted(quotes))
    assert found.refused == ""
    assert found.spreads_ticks == (1.0,)
    # Shares of a half-spread of half a tick.
    assert found.uncut == pytest.approx((2.0 * expected[COLUMNS:]).tolist(), abs=0.06)
    assert np.abs(np.subtract(found.uncut, 2.0 * expected[COLUMNS:])).max() < 4.0 * max(found.errors)
    assert found.steps == 199_999
    assert found.moves == np.count_nonzero(np.diff(quotes.bid_ticks))
    # Without persistence the first move is all that a book foretells, up to noise in the chain.
    assert found.terms <= (8 if persistence == 0.0 else 25)


@pytest.mark.slow
def test_the_table_leans_as_the_chain_does():
    quotes, expected = known_chain(200_000, 0.5, 0.0)
    row = new_row(settings_of(fit_micro_price(counted(quotes))))[0]
    for book in range(BOOKS):
        lean = float(lean_ticks(row, 100, 101, 2 * book + 1, 2 * BOOKS - 2 * book - 1))
        assert lean == pytest.approx(expected[book], abs=0.03)


# --- The full chain, by the book ---------------------------------------------------------------------------


def full_chain(quotes, edges):
    """Stoikov's sum over both signs of the balance, the data doubled by its mirror image; ticks by state.

    States are row × range of the book; the moves K are all that there are.
    """
    mid = (quotes.bid_ticks + quotes.ask_ticks) / 2
    rows = np.minimum(np.searchsorted(edges, quotes.ask_ticks - quotes.bid_ticks), len(edges) - 1)
    books = (BOOKS * quotes.bid_lots // (quotes.bid_lots + quotes.ask_lots)).astype(int)
    size = BOOKS * len(edges)
    stay, leave = np.zeros((size, size)), np.zeros((size, size))
    jumps = sorted(set(np.diff(mid)) | set(-np.diff(mid)))
    first = np.zeros((size, len(jumps)))
    for sign in (1, -1):
        state = rows * BOOKS + (books if sign > 0 else BOOKS - 1 - books)
        for begin, end, jump in zip(state[:-1], state[1:], sign * np.diff(mid), strict=True):
            if jump == 0.0:
                stay[begin, end] += 1
            else:
                leave[begin, end] += 1
                first[begin, jumps.index(jump)] += 1
    steps = (stay + leave).sum(axis=1, keepdims=True)
    until_move = np.linalg.inv(np.eye(size) - stay / steps)
    term = until_move @ (first / steps) @ np.array(jumps)
    onward = until_move @ (leave / steps)
    total = np.zeros(size)
    for _ in range(400):
        total += term
        term = onward @ term
    return total.reshape(len(edges), BOOKS)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 3))
def test_half_of_the_states_give_what_all_of_them_give(seed, widest):
    rng = np.random.default_rng(seed)
    steps = 3_000
    books = np.clip(np.round(rng.normal(4.5, 2.5, steps)), 0, BOOKS - 1).astype(int)
    spreads = rng.integers(1, widest + 1, steps)
    leaps = np.where(rng.random(steps) < 0.4, rng.integers(-2, 3, steps), 0) + (
        rng.random(steps) < books / 20
    )
    mid2 = 2 * (200_000 + np.cumsum(leaps)) + spreads % 2
    quotes = quotes_of(mid2, spreads, books)
    edges = np.arange(1, widest + 1)
    half = np.repeat([spreads[:-1][spreads[:-1] == edge].mean() / 2 for edge in edges], COLUMNS)
    chain = counted(quotes).chain(edges)
    shares, terms = expected_moves(chain, half, MicroPriceFitSettings(tolerance=1e-10, most_terms=400))
    assert terms > 0
    by_all = full_chain(quotes, edges)
    assert by_all == pytest.approx(-by_all[:, ::-1], abs=1e-6)
    assert (shares * half).reshape(widest, COLUMNS) == pytest.approx(by_all[:, COLUMNS:], abs=1e-6)


# --- Steps and rows ----------------------------------------------------------------------------------------


def test_steps_do_not_depend_on_how_the_market_is_cut():
    quotes, _ = known_chain(5_000, 0.5, 0.3)
    counts = StepCounts(0, 5_001)
    for part in np.array_split(np.arange(5_000), 13):
        counts.take(SizedQuotes(*(column[part] for column in quotes)))
    counts.take(SizedQuotes(*(column[:0] for column in quotes)))
    assert fit_micro_price(counts) == fit_micro_price(counted(quotes))


def test_no_step_leads_over_time_without_a_book_or_from_before_the_part():
    quotes = quotes_of(np.array([101, 101, 103, 103, 105, 105]), 1, [3, 4, 5, 6, 7, 8])
    lost = SizedQuotes(*(np.where(np.arange(6) == 3, 0, column) for column in quotes))
    lost = lost._replace(ns=quotes.ns)
    assert counted(lost).by_spread().sum() == 3
    late = StepCounts(4, 7)
    late.take(quotes)
    assert late.by_spread().sum() == 3
    locked = quotes._replace(ask_ticks=quotes.bid_ticks)
    assert counted(locked).by_spread().sum() == 0
    empty = quotes._replace(bid_lots=0 * quotes.ns, ask_lots=0 * quotes.ns)
    assert counted(empty).by_spread().sum() == 0


def test_a_book_in_balance_expects_nothing_even_in_a_rise():
    ones = np.ones(2_000, np.int64)
    mid2 = 2_001 + 2 * np.arange(2_000)
    level = SizedQuotes(np.arange(1, 2_001), (mid2 - 1) // 2, (mid2 + 1) // 2, ones, ones)
    chain = counted(level).chain(np.array([1]))
    assert chain.drift.tolist() == [0.0] * COLUMNS


def spread_market(shares, steps=60_000, seed=3):
    """A market whose spreads have shares of the time, with moves of the mid from all of its books."""
    rng = np.random.default_rng(seed)
    spreads = rng.choice(np.array(list(shares)), steps, p=np.array(list(shares.values())))
    books = rng.integers(0, BOOKS, steps)
    ups = rng.random(steps) < 0.5 + 0.04 * (np.roll(books, 1) - 4.5)
    mid2 = 2 * (10**6 + np.cumsum(np.where(ups, 1, -1))) + spreads % 2
    return quotes_of(mid2, spreads, books)


@pytest.mark.slow
def test_spreads_have_rows_as_the_data_can_fill_them():
    few = fit_micro_price(counted(spread_market({1: 0.6, 2: 0.3, 3: 0.06, 40: 0.04})))
    assert few.spreads_ticks == (1.0, 40.0)
    many = fit_micro_price(counted(spread_market(dict.fromkeys(range(1, 21), 1 / 20))))
    assert 5 <= len(many.spreads_ticks) <= SPREADS
    assert many.spreads_ticks[-1] == 20.0
    short = fit_micro_price(counted(spread_market(dict.fromkeys(range(1, 21), 1 / 20), steps=3_000)))
    assert 1 <= len(short.spreads_ticks) < len(many.spreads_ticks)
    wide = fit_micro_price(counted(spread_market({1: 0.5, 100_000: 0.5})))
    assert wide.spreads_ticks == (1.0, 4096.0)


def test_what_is_beyond_the_spread_is_cut_and_told():
    quotes = spread_market({1: 1.0})
    quicker = SizedQuotes(
        quotes.ns, 5 * quotes.bid_ticks, 5 * quotes.bid_ticks + 1, quotes.bid_lots, quotes.ask_lots
    )
    found = fit_micro_price(counted(quicker))
    assert max(found.uncut) > 1.5
    assert max(found.table) == 1.0
    settings_of(found)


def test_too_little_is_refused_with_a_reason():
    nothing = fit_micro_price(StepCounts(0, 1))
    assert (nothing.table, nothing.refused) == (
        (),
        "expected changes of the best quotes or their sizes, was none",
    )
    short = fit_micro_price(counted(spread_market({1: 1.0}, steps=300)))
    assert short.refused.startswith("expected at least 100 steps of the best quotes from each cell, was ")
    still = quotes_of(np.full(5_000, 2_001), 1, np.arange(5_000) % BOOKS)
    found = fit_micro_price(counted(still))
    assert found.refused == "expected at least 10 moves of the mid from each cell, was 0"
    assert (found.steps, found.moves, found.table) == (4_999, 0, ())


def test_a_sum_that_does_not_end_is_refused():
    # Heavy bids stay heavy, and the mid rises with them for ever.
    books = COLUMNS + np.arange(5_000) % COLUMNS
    found = fit_micro_price(counted(quotes_of(2_001 + 2 * np.arange(5_000), 1, books)))
    assert found.refused.startswith("expected the moves to come to add up within 100 terms")


def test_a_market_that_changes_its_mind_is_refused():
    # Half of the time bids lead, half of the time asks: each cell hangs on the blocks that are in.
    rng = np.random.default_rng(4)
    books = rng.integers(0, BOOKS, 3_000)
    sign = np.where(np.arange(3_000) < 1_500, 1, -1)
    ups = rng.random(3_000) < 0.5 + 0.09 * sign * (np.roll(books, 1) - 4.5)
    mid2 = 200_001 + 6 * np.cumsum(np.where(ups, 1, -1))
    found = fit_micro_price(counted(quotes_of(mid2, 1, books)))
    assert "half-spreads, was" in found.refused
    assert found.table == ()
    # One cell moves in one block alone.
    only = np.where(np.arange(3_000) < 290, books, np.maximum(books, 1))
    only = np.where(np.arange(3_000) < 290, only, np.minimum(only, BOOKS - 2))
    lone = fit_micro_price(counted(quotes_of(mid2, 1, only)), MicroPriceFitSettings(least_steps=1))
    assert "was inf (standard error)" in lone.refused


# --- Recordings: fitted on the first half, judged on the second --------------------------------------------


def recorded(name):
    polars = pytest.importorskip("polars")
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip("the recordings are not here")
    frame = polars.read_parquet(path, columns=["ts", "bid", "bid_sz", "ask", "ask_sz"]).sort("ts")
    prices = [frame[side].to_numpy() for side in ("bid", "ask")]
    gaps = np.diff(np.unique(np.concatenate(prices)))
    tick = gaps[gaps > 1e-9].min()
    step = min(frame[side].filter(frame[side] > 0).min() for side in ("bid_sz", "ask_sz"))
    lots = [np.round(frame[side].to_numpy() / step * 100).astype(np.int64) for side in ("bid_sz", "ask_sz")]
    ticks = [np.round(price / tick).astype(np.int64) for price in prices]
    return SizedQuotes(frame["ts"].to_numpy(), *ticks, *lots)


def leans(row, quotes, at):
    columns = (column[at].tolist() for column in quotes[1:])
    return np.array([float(lean_ticks(row, *book)) for book in zip(*columns, strict=True)])


def judged(quotes, found, half_ns, every_s, ahead_s):
    """Share of the mid's squared error that each lean saves on the second half: weighted mid, micro-price."""
    start, end = half_ns, int(quotes.ns[-1]) - ahead_s * NS_PER_S
    stamps = np.arange(start, end, every_s * NS_PER_S)
    at = np.searchsorted(quotes.ns, stamps, side="right") - 1
    then = np.searchsorted(quotes.ns, stamps + ahead_s * NS_PER_S, side="right") - 1
    mid = (quotes.bid_ticks + quotes.ask_ticks) / 2
    move = mid[then] - mid[at]
    saved = []
    for rule in (MicroPriceSettings(), settings_of(found)):
        lean = leans(new_row(rule)[0], quotes, at)
        saved.append(1.0 - float(((move - lean) ** 2).mean() / (move**2).mean()))
    return saved


def halves(name):
    quotes = recorded(name)
    half_ns = int(quotes.ns[0] + quotes.ns[-1]) // 2
    counts = StepCounts(int(quotes.ns[0]), half_ns)
    counts.take(SizedQuotes(*(column[: np.searchsorted(quotes.ns, half_ns)] for column in quotes)))
    found = fit_micro_price(counts)
    assert found.refused == ""
    return quotes, half_ns, counts, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "every_s", "least"),
    [
        ("hyperliquid-2025-09-04/BTC_bbo.parquet", 1, 0.02),
        ("hyperliquid-2025-09-04/ETH_bbo.parquet", 1, 0.015),
        ("hyperliquid-2025-09-04/SOL_bbo.parquet", 1, 0.01),
        ("hyperliquid-2025-09-04/WLFI_bbo.parquet", 1, -0.005),
        ("standx-btc-2026-01/BTC-USD_book.parquet", 10, -0.002),
    ],
)
def test_it_predicts_the_other_half_better_than_the_mid(name, every_s, least):
    quotes, half_ns, _, found = halves(name)
    for ahead_s in (1, 5, 10):
        weighted, micro = judged(quotes, found, half_ns, every_s, ahead_s)
        assert micro > least
        # Where the weighted mid does harm, the table does less.
        assert micro > min(weighted, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("market", ["BTC", "ETH", "SOL"])
def test_it_is_a_martingale_on_the_other_half_where_the_mid_is_none(market):
    quotes, half_ns, counts, found = halves(f"hyperliquid-2025-09-04/{market}_bbo.parquet")
    edges = np.array(found.spreads_ticks, int)
    spread = quotes.ask_ticks - quotes.bid_ticks
    row = np.minimum(np.searchsorted(edges, spread), len(edges) - 1)
    by_spread = counts.by_spread()
    rows = np.minimum(np.searchsorted(edges, np.arange(len(by_spread))), len(edges) - 1)
    half = np.bincount(rows, by_spread * np.arange(len(by_spread))) / np.bincount(rows, by_spread) / 2
    balance = (quotes.bid_lots - quotes.ask_lots) / (quotes.bid_lots + quotes.ask_lots)
    column = np.minimum((np.abs(balance) * COLUMNS).astype(int), COLUMNS - 1)
    lean = np.sign(balance) * np.reshape(found.uncut, (-1, COLUMNS))[row, column] * half[row]
    mid = (quotes.bid_ticks + quotes.ask_ticks) / 2
    begin, ahead = int(np.searchsorted(quotes.ns, half_ns)), 10
    known = lean[begin:-ahead]
    moves, steps = ((x[begin + ahead :] - x[begin:-ahead]) for x in (mid, mid + lean))

    def foretold(change):
        return float(known @ change / (known @ known))

    assert foretold(moves) > 0.15
    assert abs(foretold(steps)) < 0.1
