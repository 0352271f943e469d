"""Order flow: its measures against batch definitions on every prefix, what is in force, what follows."""

import math
import os

import numpy as np
import pytest
from flow_batch import GRIDS, flow_of, recorded
from hypothesis import given, settings
from hypothesis import strategies as st

from market_maker import flow_toxicity, order_flow, trade_arrivals
from market_maker.domain import NS_PER_S, Side
from market_maker.kernel import Row, kernel, new_row
from market_maker.order_flow import (
    DIRECTION_STEP,
    RANK_STEP,
    FlowReading,
    OrderFlow,
    OrderFlowSettings,
    OrderFlowState,
    event_lots,
    extra_bps,
    in_steps,
    on_book,
    on_trade,
    pulls,
    shift_bps,
)

PURE = os.environ.get("NUMBA_DISABLE_JIT") == "1"
T0 = 1_700_000_000 * NS_PER_S
# Plain Python takes a millisecond an event.
EVENTS = 600 if PURE else 2000
EXAMPLES = 8 if PURE else 25
SMALL = OrderFlowSettings(
    flow_tau_s=2.0,
    flow_arrival_s=1.0,
    flow_bucket_s=1.0,
    flow_window_buckets=4,
    flow_history_s=60.0,
    flow_gap_reset_s=5.0,
)
COLUMNS = (
    "direction",
    "toxic_rank",
    "pressure",
    "tape",
    "quotes",
    "balance",
    "volume_imbalance",
    "toxicity",
    "usual",
    "pulls_bids",
    "pulls_asks",
)


@kernel
def _run(settings: Row, state: Row, rows: np.ndarray, out: np.ndarray) -> None:
    """Feed events; a row of `out` is what stands after each."""
    p, s = settings[0], state[0]
    for i in range(rows.shape[0]):
        row = rows[i]
        if row[1] == 0:
            on_trade(p, s, row[2], row[3], row[4], row[0])
        else:
            on_book(p, s, row[2], row[3], row[4], row[5], row[0])
        out[i, 0] = s.direction
        out[i, 1] = s.toxic_rank
        out[i, 2] = order_flow.pressure(p, s)
        out[i, 3] = order_flow.tape_imbalance(p, s)
        out[i, 4] = order_flow.quote_imbalance(s)
        out[i, 5] = trade_arrivals.balance(s.arrivals)
        out[i, 6] = s.volume_imbalance
        out[i, 7] = flow_toxicity.toxicity(s.toxicity)
        out[i, 8] = order_flow.usual_lots(s, p.flow_tau_s)
        out[i, 9] = 1.0 if pulls(p, s, 1) else 0.0
        out[i, 10] = 1.0 if pulls(p, s, -1) else 0.0


def run(rows, params=SMALL):
    out = np.zeros((len(rows), len(COLUMNS)))
    _run(new_row(params), new_row(OrderFlowState()), np.asarray(rows, np.int64), out)
    return dict(zip(COLUMNS, out.T, strict=True))


def record(value):
    return new_row(value)[0]


def in_force(**values):
    return record(OrderFlowState(**values))


# --- Against batch definitions ----------------------------------------------------------------------------


def assert_like_batch(rows, params=SMALL):
    """Every measure after every event equals its definition on the events so far."""
    found, flow = run(rows, params), flow_of(params, rows)
    toxicity = volume = 0.0
    for i, n in enumerate(flow.place if flow else ()):
        if n < 0:
            continue
        if flow.is_trade[n] or flow.began[n] == n:
            toxicity, volume = flow.toxicity(n), flow.volume_imbalance(n)
        measures = [flow.tape(n), flow.quotes(n), flow.balance(n), volume, toxicity]
        tape, quotes, balance = measures[:3]
        weight = params.flow_quote_weight
        pressure = weight * quotes + (1.0 - weight) * (tape + balance) / 2.0 if flow.warm[n] else 0.0
        got = [found[name][i] for name in ("tape", "quotes", "balance", "volume_imbalance", "toxicity")]
        assert got == pytest.approx(measures, abs=1e-7), i
        assert found["pressure"][i] == pytest.approx(pressure, abs=1e-7)
        assert found["usual"][i] == pytest.approx(flow.usual(n, params.flow_tau_s), rel=1e-7, abs=1e-9)
    return found, flow


def assert_sound(found, rows):
    """Quantised, in bounds, never both sides; in force only what a book confirmed."""
    for name, step in (("direction", DIRECTION_STEP), ("toxic_rank", RANK_STEP)):
        steps = found[name] / step
        assert np.allclose(steps, np.rint(steps))
    assert (np.abs(found["direction"]) <= 1.0).all()
    assert ((found["toxic_rank"] >= 0.0) & (found["toxic_rank"] <= 1.0)).all()
    assert not (found["pulls_bids"] * found["pulls_asks"]).any()
    for name in ("direction", "toxic_rank", "pulls_bids", "pulls_asks"):
        changed = np.flatnonzero(np.diff(found[name])) + 1
        # A trade after a gap ends what was in force; else only books change it.
        assert not found[name][changed[rows[changed, 1] == 0]].any()


TRADES = st.tuples(
    st.integers(0, 900), st.just(0), st.sampled_from([1, -1, 0]), st.integers(95, 105), st.integers(1, 80)
)
BOOKS = st.tuples(
    st.integers(0, 900), st.just(1), st.integers(95, 99), st.integers(1, 50), st.integers(99, 104)
)
ODD = st.one_of(
    st.tuples(
        st.integers(-3000, 9000), st.just(0), st.integers(-2, 2), st.integers(-1, 99), st.integers(-5, 9)
    ),
    st.tuples(
        st.integers(-9000, 3000), st.just(1), st.integers(-1, 99), st.integers(-5, 50), st.integers(90, 99)
    ),
)


def stream(steps, ask_lots):
    now_ns, rows = T0, []
    for (gap_ms, *values), lots in zip(steps, ask_lots, strict=False):
        now_ns += gap_ms * 1_000_000
        rows.append((now_ns, *values, lots if values[0] else 0))
    return np.array(rows, np.int64)


SIZES = st.lists(st.integers(1, 60), min_size=70, max_size=70)


@given(st.lists(st.one_of(TRADES, TRADES, BOOKS), min_size=20, max_size=70), SIZES)
@settings(max_examples=EXAMPLES)
def test_made_streams_equal_the_batch_definitions_on_every_prefix(steps, ask_lots):
    rows = stream(steps, ask_lots)
    found, _ = assert_like_batch(rows)
    assert_sound(found, rows)


@given(st.lists(st.one_of(TRADES, BOOKS, ODD), min_size=10, max_size=70), SIZES)
@settings(max_examples=EXAMPLES)
def test_gaps_and_corrupt_events_leave_what_the_definitions_say(steps, ask_lots):
    rows = stream(steps, ask_lots)
    found, _ = assert_like_batch(rows)
    assert_sound(found, rows)


@given(st.lists(st.one_of(TRADES, BOOKS, ODD), min_size=2, max_size=70), SIZES, st.integers(1, 69))
@settings(max_examples=EXAMPLES)
def test_a_prefix_brings_what_the_whole_brought_there(steps, ask_lots, cut):
    rows = stream(steps, ask_lots)
    whole, prefix = run(rows), run(rows[:cut])
    for name in COLUMNS:
        assert np.array_equal(whole[name][: len(prefix[name])], prefix[name])


@pytest.mark.slow
@pytest.mark.parametrize("side_known", [True, False])
def test_hyperliquid_equals_the_batch_definitions_on_every_prefix(side_known):
    rows = recorded(
        "hyperliquid-2025-09-04", "ETH", "bbo", *GRIDS["ETH"], 0, EVENTS if side_known else EVENTS // 2
    )
    if not side_known:
        rows[rows[:, 1] == 0, 2] = 0
    found, flow = assert_like_batch(rows)
    assert_sound(found, rows)
    assert flow.warm.mean() > 0.5


@pytest.mark.slow
def test_standx_equals_the_batch_definitions_on_every_prefix():
    rows = recorded("standx-btc-2026-01", "BTC-USD", "book", 0.01, 1e-4, 20_000, EVENTS)
    found, flow = assert_like_batch(rows)
    assert_sound(found, rows)
    assert flow.warm.mean() > 0.5


@pytest.mark.slow
@pytest.mark.skipif(PURE, reason="a whole recording is for the compiled kernels")
@pytest.mark.parametrize("market", GRIDS)
def test_a_side_is_pulled_seldom(market):
    rows = recorded("hyperliquid-2025-09-04", market, "bbo", *GRIDS[market], 0, 100_000)
    found = run(rows, OrderFlowSettings())
    assert_sound(found, rows)
    held_s = np.diff(rows[:, 0], append=rows[-1, 0]) / 1e9
    pulled = found["pulls_bids"] + found["pulls_asks"]
    assert held_s @ pulled / held_s.sum() < 0.05
    assert (found["toxic_rank"] > 0.0).any()


# --- The best quotes' flow --------------------------------------------------------------------------------


def test_the_vector_of_the_models():
    # In half ticks: (P_b, q_b, P_a, q_a) of models.md, section 5.
    books = [(200, 5, 201, 4), (200, 7, 201, 4), (201, 2, 202, 6), (201, 2, 202, 3), (200, 8, 201, 1)]
    flow, found = OrderFlow(), []
    for i, book in enumerate(books):
        found.append(event_lots(flow.state, *book))
        flow.on_book(*book, T0 + i)
    assert found == [0, 2, 6, 3, -3]
    assert flow.state.quote_lots == pytest.approx(8.0)


def test_a_move_is_the_imbalance_over_twice_the_depth():
    flow = OrderFlow(SMALL)
    assert order_flow.quote_move_ticks(flow.state) == 0.0
    flow.on_book(100, 30, 101, 10, T0)
    flow.on_book(100, 70, 101, 10, T0)
    assert order_flow.quote_move_ticks(flow.state) == pytest.approx(40.0 / (2.0 * 20.0))
    assert order_flow.quote_imbalance(flow.state) == 0.0
    flow.on_book(100, 70, 101, 10, T0 + NS_PER_S)
    assert 0.0 < order_flow.quote_imbalance(flow.state) < 1.0


def test_no_reading_depends_on_the_update_rate():
    def played(rate):
        rows = []
        for i in range(40 * rate):
            now_ns = T0 + i * NS_PER_S // rate
            rows.append((now_ns, 1, 100, 10 + 7 * (i // rate % 3), 101, 20))
            if i % rate == 0:
                rows.append((now_ns, 0, 1 if i // rate % 4 else -1, 100, 10, 0))
        return run(np.array(rows))

    slow, fast = played(1), played(10)
    for name in ("tape", "balance", "toxicity", "usual"):
        assert fast[name][-10] == pytest.approx(slow[name][-1], rel=1e-9)
    assert fast["quotes"][-10] == pytest.approx(slow["quotes"][-1], rel=0.05)


# --- What is in force ---------------------------------------------------------------------------------------


def steady(seconds, start_s=0.0, *, buys=0.5, lots=10):
    """Two trades and four books a second; `buys` is the share of buyers' trades, evenly spread."""
    rows, bought = [], 0
    for i in range(round(seconds * 2)):
        side = 1 if (i + 1) * buys >= bought + 1 else -1
        bought += side > 0
        now_ns = T0 + round((start_s + i / 2) * NS_PER_S)
        rows.append((now_ns, 0, side, 100, lots, 0))
        rows += [(now_ns + n * 250_000_000, 1, 100, 50 + n, 101, 50 + n) for n in range(2)]
    return rows


def test_buyers_bring_a_direction_up_and_sellers_one_down():
    for buys, sign in ((1.0, 1.0), (0.0, -1.0)):
        found = run(np.array(steady(25) + steady(5, 25.0, buys=buys, lots=40)))
        assert found["direction"][-1] * sign > 0.2
        assert found["pressure"][-1] * found["tape"][-1] > 0.0


def test_nothing_is_in_force_before_the_first_window_is_watched():
    found = run(np.array(steady(8, buys=1.0)))
    assert not found["direction"][: 4 * 6].any()
    assert found["direction"][-1] != 0.0


def test_a_silence_of_trades_ends_the_flow():
    rows = steady(25) + steady(5, 25.0, buys=1.0, lots=40)
    loud = run(np.array(rows))
    assert loud["direction"][-1] > 0.2
    assert loud["toxic_rank"][-1] > 0.8
    quiet = [(T0 + round((30.0 + 0.25 * n) * NS_PER_S), 1, 100, 50, 101, 50) for n in range(80)]
    found = run(np.array(rows + quiet))
    assert found["direction"][-1] == 0.0
    assert found["toxic_rank"][-1] < 0.1
    assert found["toxicity"][-1] == found["toxicity"][len(rows) - 1]


def test_a_gap_starts_what_is_recent_anew_and_keeps_what_is_usual():
    rows = steady(25) + steady(5, 25.0, buys=1.0, lots=40)
    found = run(np.array([*rows, (T0 + 40 * NS_PER_S, 0, -1, 100, 10, 0)]))
    for name in ("direction", "toxic_rank", "quotes"):
        assert found[name][-1] == 0.0
    assert found["usual"][-1] == pytest.approx(found["usual"][-2], rel=0.05)
    # A clock that was set back is a gap too.
    found = run(np.array([*rows, (T0, 1, 100, 50, 101, 50)]))
    assert found["direction"][-1] == 0.0
    assert found["usual"][-1] == pytest.approx(found["usual"][-2])


@pytest.mark.parametrize(
    "row",
    [
        (0, 2, 100, 5, 0),
        (0, 1, 0, 5, 0),
        (0, 1, 100, 0, 0),
        (0, 1, 100, -5, 0),
        (0, 1, 2**53, 5, 0),
        (0, 1, 100, 2**53, 0),
        (1, 0, 5, 101, 5),
        (1, 102, 5, 101, 5),
        (1, 100, 5, 2**53, 5),
        (1, 100, 0, 101, 5),
        (1, 100, 5, 101, -5),
        (1, 100, 5, 101, 2**53),
    ],
)
def test_an_impossible_event_changes_nothing(row):
    rows = steady(10)
    for now_ns in (rows[-1][0] + 1, rows[-1][0] - NS_PER_S):
        state, with_it = new_row(OrderFlowState()), new_row(OrderFlowState())
        for target, events in ((state, rows), (with_it, [*rows, (now_ns, *row)])):
            _run(new_row(SMALL), target, np.array(events), np.zeros((len(events), len(COLUMNS))))
        assert state.tobytes() == with_it.tobytes()


def test_an_event_before_the_last_is_ignored():
    rows = steady(10)
    late = [(rows[-1][0] - NS_PER_S, 0, 1, 100, 50, 0), (rows[-1][0] - NS_PER_S, 1, 90, 5, 91, 5)]
    found = run(np.array(rows + late))
    for name in COLUMNS:
        assert found[name][-1] == found[name][-3]


def test_when_disabled_nothing_is_measured_and_nothing_follows():
    off = OrderFlowSettings(flow_enabled=False)
    state = new_row(OrderFlowState())
    _run(new_row(off), state, np.array(steady(10)), np.zeros((60, len(COLUMNS))))
    assert state.tobytes() == new_row(OrderFlowState()).tobytes()
    loud = in_force(direction=1.0, toxic_rank=1.0)
    assert extra_bps(record(off), loud, 5.0) == 0.0
    assert shift_bps(record(off), loud, 5.0) == 0.0
    assert not pulls(record(off), loud, 1)
    assert not pulls(record(off), loud, -1)


@given(st.floats(-1.0, 1.0), st.floats(-1.0, 1.0))
def test_a_step_in_force_gives_way_only_to_another(start, value):
    was = in_steps(0.0, start, DIRECTION_STEP)
    now = in_steps(was, value, DIRECTION_STEP)
    assert now == was or abs(now - value) <= 0.5 * DIRECTION_STEP + 1e-12
    assert abs(now - value) <= 0.75 * DIRECTION_STEP + 1e-12
    assert in_steps(now, value, DIRECTION_STEP) == now


def test_a_flicker_at_the_border_of_two_steps_moves_nothing():
    was = in_steps(0.0, 0.274, DIRECTION_STEP)
    assert {in_steps(was, 0.275 + e, DIRECTION_STEP) for e in (-0.002, 0.0, 0.002)} == {was}


# --- What follows -------------------------------------------------------------------------------------------

DEFAULT = OrderFlowSettings()


@pytest.mark.parametrize(("rank", "expected"), [(0.0, 0.0), (0.9, 0.0), (0.95, 0.25), (1.0, 0.5)])
def test_widening_grows_above_the_toxic_rank(rank, expected):
    state = in_force(toxic_rank=rank)
    assert extra_bps(record(DEFAULT), state, 8.0) == pytest.approx(expected * 8.0)


def test_no_rank_is_above_one():
    never = record(OrderFlowSettings(flow_toxic_rank=1.0))
    assert extra_bps(never, in_force(toxic_rank=1.0), 8.0) == 0.0


@pytest.mark.parametrize("direction", [-1.0, -0.4, 0.0, 0.6])
def test_quotes_shift_with_the_flow(direction):
    assert shift_bps(record(DEFAULT), in_force(direction=direction), 8.0) == pytest.approx(2.0 * direction)


@pytest.mark.parametrize("move_bps", [math.nan, math.inf, -1.0, 0.0])
def test_a_move_that_is_none_widens_and_shifts_nothing(move_bps):
    loud = in_force(direction=1.0, toxic_rank=1.0)
    assert extra_bps(record(DEFAULT), loud, move_bps) == 0.0
    assert shift_bps(record(DEFAULT), loud, move_bps) == 0.0


@pytest.mark.parametrize(
    ("direction", "rank", "volume", "bids", "asks"),
    [
        (0.5, 0.95, 0.0, False, True),  # buyers run over our asks
        (-0.5, 0.95, 0.0, True, False),
        (0.5, 0.95, 0.3, False, True),
        (0.5, 0.95, -0.3, False, False),  # the volume leans the other way
        (0.45, 0.95, 0.0, False, False),
        (0.5, 0.9, 0.0, False, False),
        (0.0, 1.0, 0.0, False, False),
    ],
)
def test_only_the_side_that_is_run_over_is_pulled(direction, rank, volume, bids, asks):
    state = in_force(direction=direction, toxic_rank=rank, volume_direction=volume)
    assert pulls(record(DEFAULT), state, int(Side.BUY)) == bids
    assert pulls(record(DEFAULT), state, int(Side.SELL)) == asks


def test_without_a_threshold_no_direction_still_pulls_nothing():
    state = in_force(toxic_rank=1.0)
    anything = record(OrderFlowSettings(flow_pull_direction=0.0))
    assert not pulls(anything, state, 1)
    assert not pulls(anything, state, -1)


# --- Settings and the bench ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "limits"),
    [
        ("flow_tau_s", 0.0, "0.1 to 3600"),
        ("flow_arrival_s", math.nan, "0.1 to 3600"),
        ("flow_bucket_s", 0.0, "0.1 to 3600"),
        ("flow_gap_reset_s", 1e9, "0.1 to 3600"),
        ("flow_window_buckets", 65, "1 to 64"),
        ("flow_history_s", 199.0, "200 to 1e\\+06"),
        ("flow_quote_weight", 1.5, "0 to 1"),
        ("flow_toxic_rank", -0.1, "0 to 1"),
        ("flow_pull_direction", 2.0, "0 to 1"),
        ("flow_extra_sigmas", -1.0, "0 to 100"),
        ("flow_shift_sigmas", 101.0, "0 to 100"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(name, value, limits):
    with pytest.raises(ValueError, match=f"{name}: expected {limits}, was {value}"):
        OrderFlowSettings(**{name: value})


def test_the_bench_shows_what_the_kernels_say():
    flow = OrderFlow(SMALL)
    rows = steady(25) + steady(5, 25.0, buys=1.0, lots=40)
    for now_ns, is_book, *values in rows:
        if is_book:
            flow.on_book(*values, now_ns)
        else:
            flow.on_trade(*values[:3], now_ns)
    found, reading = run(np.array(rows)), flow.get()
    assert isinstance(reading, FlowReading)
    assert reading.direction == found["direction"][-1] > 0.0
    assert reading.toxic_rank == found["toxic_rank"][-1]
    assert (reading.toxicity, reading.tape_imbalance) == (found["toxicity"][-1], found["tape"][-1])
    assert (reading.volume_imbalance, reading.quote_imbalance) == (
        found["volume_imbalance"][-1],
        found["quotes"][-1],
    )
    assert reading.buy_intensity > 1.0 > reading.sell_intensity
    assert not flow.pulls(Side.BUY)
