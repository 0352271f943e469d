"""What it costs to keep what decisions were made from, and how fast they are made again.

The same calls that the live strategy makes for a book and its four decisions, on two desks in turns: one
with a tape, one without; so noise hits both. What the tape gives out is compressed as the journal's
thread would, and timed apart: that is the thread's time, not the event loop's. Then a session's inputs
are replayed.
"""

import json
import platform
import sys
import tempfile
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import numpy as np

from market_maker.cli.inside import run_inside
from market_maker.cli.play import Play
from market_maker.clock import SystemClock
from market_maker.config import load_config
from market_maker.decision_record import DecisionTape, pack_block
from market_maker.decision_replay import Replay, find_inputs
from market_maker.domain import NS_PER_S, BookUpdate
from market_maker.gateway import Fees
from market_maker.instrument import Instrument
from market_maker.market_desk import MarketDesk
from market_maker.orderbook_manager import BookSettings
from market_maker.strategy_rows import Params

MARKETS: Final = ("BTC-USD", "ETH-USD", "WIF-USD")
SCENARIO: Final = "mixed"
SEED: Final = 1
START_NS: Final = 1_767_571_200 * NS_PER_S
_GAP_NS: Final = NS_PER_S // 13


def _desk() -> MarketDesk:
    step = Decimal("0.01")
    instrument = Instrument("BTC-USD", step, step, step)
    desk = MarketDesk(instrument, Fees(Decimal(0), Decimal(0)), Params(), BookSettings(), 0.03, 0.1)
    desk.on_mark(Decimal(100), START_NS)
    desk.set_account(0, (1_000_000, 1_000_000))
    return desk


def _updates(count: int) -> list[BookUpdate]:
    """Small changes at both sides of a mid that moves now and then."""
    generator = np.random.default_rng(SEED)
    mids = 10_000 + np.cumsum(generator.integers(-1, 2, count)).astype(int)
    sizes = generator.integers(1, 9_000, (count, 10))
    return [
        BookUpdate(
            "BTC-USD",
            is_snapshot=True,
            bids=[(int(mid) - 1 - at, int(size[at])) for at in range(5)],
            asks=[(int(mid) + 1 + at, int(size[5 + at])) for at in range(5)],
            seq=1,
            venue_ns=START_NS + number * _GAP_NS,
            recv_ns=START_NS + number * _GAP_NS,
        )
        for number, (mid, size) in enumerate(zip(mids, sizes, strict=True))
    ]


def _hear(desk: MarketDesk, update: BookUpdate) -> None:
    desk.on_book(update, update.recv_ns)
    for slot in desk.slots:
        desk.decide(slot, update.recv_ns)


def _timed(perf_ns: Callable[[], int], desk: MarketDesk, update: BookUpdate) -> int:
    begun_ns = perf_ns()
    _hear(desk, update)
    return perf_ns() - begun_ns


def _recording(books: int) -> dict[str, float]:
    """Event loop's and thread's time for a book with four decisions, by the median."""
    blocks: list[bytes] = []

    def take(block: bytes) -> bool:
        blocks.append(block)
        return True

    with_tape, without, perf_ns = _desk(), _desk(), SystemClock().perf_ns
    with_tape.record(DecisionTape(take))
    pairs = [(_timed(perf_ns, with_tape, it), _timed(perf_ns, without, it)) for it in _updates(books)]
    taped, plain = np.percentile(np.array(pairs[books // 10 :], np.float64) / 1e3, 50.0, axis=0)
    begun_ns = perf_ns()
    packed = [pack_block(block) for block in blocks]
    spent_us = (perf_ns() - begun_ns) / 1e3
    return {
        "without_us": round(float(plain), 2),
        "event_loop_us": round(float(taped - plain), 2),
        "thread_us": round(spent_us / books, 2),
        "bytes_raw": round(sum(map(len, blocks)) / books, 1),
        "bytes_packed": round(sum(map(len, packed)) / books, 1),
    }


def _replaying(seconds: float) -> dict[str, float]:
    """Replay a session of the demo's markets."""
    perf_ns = SystemClock().perf_ns
    with tempfile.TemporaryDirectory() as folder:
        overrides = (f"markets={','.join(MARKETS)}", f"journal_dir={folder}")
        config = load_config(overrides=overrides, environ={}, env_file=None)
        journal = run_inside(config, Play(seconds, SCENARIO, SEED, speed=0.0), show=False).played.journal
        paths = find_inputs(journal)
        size = sum(path.stat().st_size for path in paths)
        begun_ns = perf_ns()
        replayed = Replay(paths).run()
        spent_s = (perf_ns() - begun_ns) / NS_PER_S
    decisions = sum(it.decisions for it in replayed.markets.values())
    books = sum(it.books for it in replayed.markets.values())
    return {
        "market_seconds": seconds,
        "books": books,
        "decisions": decisions,
        "differences": replayed.differences,
        "mb_per_hour": round(size / 1e6 * 3600 / seconds, 2),
        "decisions_per_s": round(decisions / spent_s),
        "times_real_time": round(seconds / spent_s, 1),
    }


def main(books: int = 20_000, seconds: float = 300.0) -> dict[str, Any]:
    """Measure on so many books, and a session of so many seconds."""
    _recording(100)
    return {
        "benchmark": "inputs",
        "python": platform.python_version(),
        "markets": list(MARKETS),
        "scenario": SCENARIO,
        "recording": _recording(books),
        "replaying": _replaying(seconds),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(), indent=2) + "\n")
