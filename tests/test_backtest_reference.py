"""A market's mid as another one's outside price: known no sooner than it was, and frames stay whole."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_markets import START_NS, write_market
from test_backtest_pieces import ROWS, book_of, hour, told
from test_backtest_runner import INSTRUMENT, contestant, market

from market_maker.backtest.funding import NO_FUNDING
from market_maker.backtest.host import MarketMakerRun, RunSettings
from market_maker.backtest.pieces import between, joined, sliced
from market_maker.backtest.reference import (
    OutsidePrices,
    reference_of,
    reference_prices,
    with_reference,
)
from market_maker.backtest.trial import Span, Watched
from market_maker.domain import Reason
from market_maker.recordings.conversion import convert, open_sources
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import (
    CLEAR,
    CODE_MASK,
    GAP,
    LAST,
    LEVEL_ASK,
    LEVEL_BID,
    OUTSIDE,
    open_store,
)
from market_maker.reference_price import PriceSource, ReferenceSettings

S = 10**9
ALL = (0, 2**62)


def prices(*heard):
    ns, parts = zip(*heard, strict=True) if heard else ((), ())
    return OutsidePrices(np.array(ns, np.int64), np.array(parts, np.int64))


def outside(pieces):
    return [(ns, ticks) for ns, code, ticks, _ in told(pieces) if code == OUTSIDE]


def delayed(rows, delays_us):
    return hour(rows)._replace(delay_us=np.array(delays_us, np.int32))


def test_prices_come_before_what_has_their_stamp_however_both_are_cut():
    heard = [(5, 1), (20, 100), (45, 200), (50, 7), (51, 9), (70, 11)]
    expected = [*ROWS[:3], (20, OUTSIDE, 100, 0), *ROWS[3:6], (45, OUTSIDE, 200, 0), (50, OUTSIDE, 7, 0)]
    expected += [ROWS[6], (51, OUTSIDE, 9, 0)]
    for pieces in ([prices(*heard)], [prices(one) for one in heard], [prices(), prices(*heard), prices()]):
        for hours in ([hour(ROWS)], list(sliced(hour(ROWS), 1))):
            assert told(with_reference(hours, pieces, (6, 60))) == expected
    assert told(with_reference([hour(ROWS)], [], ALL)) == ROWS
    assert list(with_reference([], [prices(*heard)], ALL)) == []


def test_a_row_of_an_outside_price_is_a_frame_of_its_own_without_a_delay():
    [merged] = with_reference([delayed(ROWS, [9] * len(ROWS))], [prices((20, 100))], ALL)
    [row] = np.flatnonzero(merged.kind & CODE_MASK == OUTSIDE)
    assert merged.kind[row] & LAST
    assert merged.delay_us[row] == 0
    assert [column.dtype for column in merged] == [column.dtype for column in hour(ROWS)]


def test_a_mid_is_heard_with_the_delay_of_its_own_frame_and_never_before_an_earlier_one():
    rows = [
        (1 * S, CLEAR, 0, 0),
        (1 * S, LEVEL_BID, 99, 5),
        (1 * S, LEVEL_ASK, 101, 5),
        (1 * S + 10, LEVEL_BID, 100, 5),
        (1 * S + 20, LEVEL_ASK, 102, 5),  # behind the best: no news
        (2 * S + 30, LEVEL_ASK, 102, 6),  # the mid stands, but a second has begun
        (2 * S + 40, GAP, 0, 0),
        (3 * S + 50, LEVEL_BID, 98, 6),  # nobody knows the book
    ]
    source = delayed(rows, [0, 0, 3, 1, 0, -4, 0, 0])
    # Of rows with one stamp the last one's delay counts; the next is heard no sooner.
    first = (1 * S + 3_000, 10_000)
    found = [(1 * S + 3_000, 10_050), (2 * S + 30, 10_050)]
    for pieces in ([source], sliced(source, 1)):
        ns, parts = (np.concatenate(columns) for columns in zip(*reference_prices(pieces), strict=True))
        heard = list(zip(ns.tolist(), parts.tolist(), strict=True))
        # The side that comes first stands alone within a stamp, and that is no mid.
        assert heard == [first, *found]


_FRAMES = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 4), st.integers(0, 3_000)), min_size=1, max_size=30
)


def market_of(frames):
    """Whole snapshots of one frame each; of (stamp, mid in ticks above 100, delay)."""
    frames = sorted(frames, key=lambda frame: frame[0])
    stamps, kinds, ticks, delays = [], [], [], []
    for at, mid, delay in frames:
        stamps += [at * 100_000] * 3
        kinds += [CLEAR, LEVEL_BID, LEVEL_ASK | LAST]
        ticks += [0, 99 + mid, 101 + mid]
        delays += [delay] * 3
    made = hour([(ns, kind & CODE_MASK, at, 1) for ns, kind, at in zip(stamps, kinds, ticks, strict=True)])
    return made._replace(kind=np.array(kinds, np.uint8), delay_us=np.array(delays, np.int32))


@settings(max_examples=40, deadline=None)
@given(_FRAMES, _FRAMES, st.integers(0, 45))
def test_what_is_merged_was_known_by_then_and_the_future_changes_nothing_before(theirs, ours, cut):
    source, market = market_of(theirs), market_of(ours)
    [merged] = with_reference([market], reference_prices([source]), ALL)
    # The market's own rows are all there, in their order, and no frame is torn.
    own = merged.kind & CODE_MASK != OUTSIDE
    assert all((mine[own] == its).all() for mine, its in zip(merged, market, strict=True))
    assert (np.diff(merged.venue_ns) >= 0).all()
    before = np.flatnonzero(~own) - 1
    assert all(merged.kind[row] & LAST for row in before if row >= 0)
    # Each price stood at the other market by then, and was heard.
    ends = np.flatnonzero(source.kind & LAST)
    for ns, parts in outside([merged]):
        known = source.venue_ns[ends] + source.delay_us[ends].astype(np.int64) * 1_000 <= ns
        mids = source.ticks[ends] + source.ticks[ends - 1]
        assert parts in {50 * int(mid) for mid in mids[known]}
    # Frames of the other market from an instant on are left out: nothing before it is another.
    at_ns = cut * 100_000
    early = [frame for frame in theirs if frame[0] < cut]
    pieces = reference_prices([market_of(early)]) if early else []
    told_early = [row for row in outside(with_reference([market], pieces, ALL)) if row[0] < at_ns]
    assert told_early == [row for row in outside([merged]) if row[0] < at_ns]


@settings(max_examples=40, deadline=None)
@given(_FRAMES, _FRAMES, st.integers(0, 45), st.integers(1, 9))
def test_a_market_read_in_two_parts_has_the_same_prices(theirs, ours, cut, rows):
    source, market = market_of(theirs), market_of(ours)
    end_ns, at_ns = 45 * 100_000, cut * 100_000

    def read(from_ns, to_ns):
        hours = between([market], from_ns, to_ns)
        pieces = reference_prices(sliced(source, rows))
        return outside(with_reference(hours, pieces, (from_ns, to_ns)))

    whole, parts = read(0, end_ns), read(0, at_ns) + read(at_ns, end_ns)
    # Without an event of its own a part of the market has no prices either.
    stamps = market.venue_ns
    if stamps[0] < at_ns <= stamps[-1]:
        assert parts == whole


def test_a_price_that_the_format_cannot_hold_is_refused():
    with pytest.raises(RecordingError, match="at most 21474836 ticks"):
        list(with_reference([hour(ROWS)], [prices((20, 2**31))], ALL))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    pytest.importorskip("polars")
    folder = tmp_path_factory.mktemp("reference")
    for seed, name in enumerate(("BTC", "ETH")):
        write_market(folder, name, seed=seed + 1, seconds=20)
    convert(open_sources(folder), folder / "store")
    return open_store(folder / "store")


def test_the_mid_of_a_recorded_market_is_put_into_another(store):
    reference = reference_of(store, "BTC-USD")
    span = Span(START_NS, START_NS + 4 * S, START_NS + 20 * S)
    watched = Watched(store, "ETH-USD", span, NO_FUNDING, lambda *_told: None, reference)
    plain = Watched(store, "ETH-USD", span, NO_FUNDING, lambda *_told: None)
    pieces = list(watched.hours("plays", span.end_ns))
    assert outside(plain.hours("plays", span.end_ns)) == []
    found = outside(pieces)
    assert len(found) > 40  # four books a second, most of which move the mid
    assert all(499_000 < parts / 100 * 5 < 501_000 for _, parts in found)
    whole = pieces[0]
    for piece in pieces[1:]:
        whole = joined(whole, piece)
    own = whole.kind & CODE_MASK != OUTSIDE
    [rows] = [np.count_nonzero(hour.venue_ns < span.end_ns) for hour in store.hours("ETH-USD")]
    assert np.count_nonzero(own) == rows
    # It may be read again, and says the same.
    assert outside(watched.hours("plays", span.end_ns)) == found
    assert book_of([row for row in told(pieces) if row[1] != OUTSIDE]) is not None


def test_a_market_that_is_not_there_is_no_reference(store):
    with pytest.raises(RecordingError, match="SOL-USD"):
        reference_of(store, "SOL-USD")


def heard_by(source, events):
    """Play a market with one contestant who listens to a source; the run and its samples."""
    one = contestant()
    reference = ReferenceSettings(reference_source=source, reference_basis_s=1.0, reference_fresh_s=1.0)
    one = replace(one, params=replace(one.params, reference=reference))
    run = MarketMakerRun(INSTRUMENT, [one], RunSettings(sample_s=0.1))
    return run, run.run(events).samples


def test_outside_prices_are_heard_by_who_listens_and_show_no_life_of_the_market():
    quoted = market(rows=600)
    last_ns = int(quoted.venue_ns[-1])
    seconds = [int(quoted.venue_ns[0]) + n * S // 2 for n in range(80)]
    outside_prices = prices(*((ns, 6_000_000) for ns in seconds))
    events = list(with_reference([quoted], [outside_prices], (0, last_ns + 25 * S)))
    run, samples = heard_by(PriceSource.OUTSIDE, events)
    assert run.bench.states[0].reference.has_price
    assert run.bench.states[0].reference.log_price == pytest.approx(math.log(60_000.0))
    reasons = dict(
        zip(((samples["ns"] - last_ns) // S).tolist(), samples["bid_reason"].tolist(), strict=True)
    )
    assert reasons[5] != Reason.STALE_BOOK
    assert reasons[15] == Reason.STALE_BOOK
    deaf, _ = heard_by(PriceSource.INDEX, events)
    assert not deaf.bench.states[0].reference.has_price
