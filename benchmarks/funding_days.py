"""Where the inventory leans under a funding rate, and whether what was paid is what we booked.

    python benchmarks/funding_days.py                       # a day for each rate
    python benchmarks/funding_days.py --hours 2 --results /tmp/short

Sessions of the real shell on the exchange inside, in virtual time, on one generated market whose price stands
at a constant premium over its index, so that the exchange's own formula brings about the rate. The market is
the same for every rate, and lighter than usual, so that a day takes minutes. A day is made of pieces, each a
session of its own with a seed of its own; a piece that is done is kept in the folder of results and not
played again. What is asked of the exchange at the end is its own books, not what it told us.
"""

import argparse
import asyncio
import io
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from market_maker.clock import Entropy, LoopClock
from market_maker.config import load_config
from market_maker.domain import BPS, NS_PER_S
from market_maker.emulator.driver import ExchangeDriver
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.funding import premium_for
from market_maker.emulator.generator import GeneratedFlow
from market_maker.emulator.price_path import Phase, Schedule
from market_maker.emulator.rules import ExchangeRules, MoneyRules, StreamRules
from market_maker.emulator.scenarios import market_model
from market_maker.exchanges.in_process import InProcessGateway
from market_maker.faultsim.virtual_loop import VirtualTimeLoop
from market_maker.kernel import sources_hash
from market_maker.session import Surroundings
from market_maker.strategy import MarketMakerStrategy
from market_maker.trade_journal import InlineSink, TradeJournal

RATES_BPS: Final = (-10.0, -0.6, 0.0, 0.6, 10.0)
MARKET: Final = "SOL-USD"
HOUR_S: Final = 3600.0
# A whole hour, as funding is counted.
START_NS: Final = 1_767_571_200 * NS_PER_S
_DEPOSIT: Final = Decimal(10_000)
_SAMPLE_S: Final = 10.0
_AFTER_S: Final = 30.0
_CHANGES_HZ: Final = 1.0
_STREAMS: Final = StreamRules(book_interval_ms=1000, bbo_interval_ms=1000, mark_interval_ms=5000)
_SETTINGS: Final = (f"markets={MARKET}", "num_levels=1")


@dataclass(frozen=True)
class Piece:
    """One session: an hourly rate in bps, so many hours of it, and a seed; hours may be shortened."""

    rate_bps: float
    hours: int
    seed: int
    hour_s: float = HOUR_S


class _Unread(io.RawIOBase):
    """Takes a journal that nobody reads."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:  # noqa: ANN401  (any buffer)
        return len(data)


def play(piece: Piece, *settings: str) -> dict[str, Any]:
    """Play a piece; what it says is plain JSON, amounts of money exact as text."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(_play(piece, settings))


def _exchange(piece: Piece) -> Exchange:
    money = MoneyRules(funding_speedup=HOUR_S / piece.hour_s)
    money = replace(money, funding_premium=premium_for(piece.rate_bps / BPS, money))
    model = market_model(MARKET)
    model = replace(model, book=replace(model.book, changes_hz=_CHANGES_HZ))
    flow = GeneratedFlow(model, Schedule((Phase(60.0),)), piece.seed, START_NS)
    rules = ExchangeRules(streams=_STREAMS, money=money)
    return Exchange([model.instrument], [flow], rules, np.random.default_rng([piece.seed, 1]), START_NS)


async def _play(piece: Piece, settings: Sequence[str]) -> dict[str, Any]:
    clock = LoopClock(asyncio.get_running_loop(), START_NS)
    exchange = _exchange(piece)
    account_id = exchange.add_account(_DEPOSIT)
    driver = ExchangeDriver(exchange, clock)
    driver.start()
    gateway = InProcessGateway(driver, account_id)
    overrides = [*_SETTINGS, f"funding_period_s={piece.hour_s:g}", *settings]
    config = load_config(overrides, environ={}, env_file=None)
    journal = TradeJournal(InlineSink(_Unread()), clock)
    surroundings = Surroundings(gateway, config, clock, Entropy(piece.seed), journal)
    seconds = piece.hours * piece.hour_s
    sampler = asyncio.ensure_future(_sample(exchange, account_id, seconds))
    try:
        outcome = await MarketMakerStrategy.run(surroundings, seconds + _AFTER_S, lambda _: None)
        inventory = await sampler
    finally:
        sampler.cancel()
        await gateway.close()
    if outcome.strategy is None:
        msg = f"expected a session, was none: {outcome.why}"
        raise RuntimeError(msg)
    return _told(piece, exchange, account_id, outcome.strategy, inventory)


async def _sample(exchange: Exchange, account_id: int, seconds: float) -> list[float]:
    """Inventory at the mid, USD, by the exchange, at equal times until the last instant of funding."""
    market, account = exchange.venue.markets[MARKET], exchange.account(account_id)
    every_s = min(_SAMPLE_S, seconds / 60.0)
    found = []
    for _ in range(round(seconds / every_s)):
        await asyncio.sleep(every_s)
        size = market.instrument.size(account.position_lots(MARKET))
        found.append(float(size * market.mid))
    return found


def _told(
    piece: Piece, exchange: Exchange, account_id: int, strategy: MarketMakerStrategy, inventory: list[float]
) -> dict[str, Any]:
    market, account = exchange.venue.markets[MARKET], exchange.account(account_id)
    ledger = strategy.session.ledger
    by_exchange = sum((payment.amount for payment in account.payments), Decimal(0))
    by_formula = Decimal(0)
    for paid in account.payments:
        by_formula -= paid.rate * paid.mark_price * market.instrument.size(paid.lots)
    hours = np.array_split(np.array(inventory), piece.hours)
    counts = ledger.counts(MARKET)
    return {
        "rate_bps": piece.rate_bps,
        "seed": piece.seed,
        "hourly_usd": [round(float(hour.mean()), 4) for hour in hours],
        "applied_bps": [float(rate) * BPS for _, rate in market.applied_rates],
        "payments": len(account.payments),
        "funding_ledger_usd": str(ledger.attribution(MARKET).funding),
        "funding_exchange_usd": str(by_exchange),
        "funding_formula_usd": str(by_formula),
        "books_agree": bool(strategy.books_agree),
        "fills": counts.buys + counts.sells,
        "pnl_usd": str(ledger.change_of_equity(MARKET)),
    }


def _pieces(hours: int, piece_hours: int, hour_s: float) -> Iterator[Piece]:
    """All pieces, every rate's first before any second: half of a run compares the rates too."""
    for number, begun in enumerate(range(0, hours, piece_hours)):
        for rate in RATES_BPS:
            yield Piece(rate, min(piece_hours, hours - begun), number + 1, hour_s)


def _path(folder: Path, piece: Piece) -> Path:
    # What another version of the program did is not this one's.
    name = f"{sources_hash()}_{piece.rate_bps:+g}bp_{piece.hours}x{piece.hour_s:g}s_{piece.seed}.json"
    return folder / name


def _keep(folder: Path, piece: Piece, result: dict[str, Any]) -> None:
    path = _path(folder, piece)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(result))
    unfinished.replace(path)


def _played(pieces: Sequence[Piece], folder: Path, processes: int) -> list[dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    left = [piece for piece in pieces if not _path(folder, piece).exists()]
    done = len(pieces) - len(left)
    for piece, result in _results(left, processes):
        _keep(folder, piece, result)
        done += 1
        sys.stderr.write(f"{done} of {len(pieces)}: {piece.rate_bps:+g} bp, {piece.hours} h\n")
    return [json.loads(_path(folder, piece).read_text()) for piece in pieces]


def _results(pieces: Sequence[Piece], processes: int) -> Iterator[tuple[Piece, dict[str, Any]]]:
    """Play pieces, each as soon as there is a process for it; one process is this one."""
    if processes == 1:
        yield from ((piece, play(piece)) for piece in pieces)
        return
    with ProcessPoolExecutor(processes) as pool:
        waiting = {pool.submit(play, piece): piece for piece in pieces}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _half_width(values: Sequence[float]) -> float | None:
    """Half of a 95 % interval of the mean from hours, widened for what an hour tells of the next one."""
    n = len(values)
    if n < 3 or not (spread := statistics.stdev(values)):
        return None
    mean = statistics.fmean(values)
    centred = [value - mean for value in values]
    squares = sum(value * value for value in centred)
    persistence = sum(a * b for a, b in pairwise(centred)) / squares
    persistence = min(max(persistence, 0.0), 0.9)
    return 1.96 * spread / math.sqrt(n) * math.sqrt((1.0 + persistence) / (1.0 - persistence))


def _hours(pieces: Sequence[dict[str, Any]]) -> list[float]:
    return [value for piece in pieces for value in piece["hourly_usd"]]


def row(
    rate_bps: float, pieces: Sequence[dict[str, Any]], unpaid: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What all pieces of a rate come to; the lean is against the same hours of the market without a rate."""
    hours = _hours(pieces)
    leans = [with_rate - without for with_rate, without in zip(hours, _hours(unpaid), strict=True)]
    names = ("funding_ledger_usd", "funding_exchange_usd", "funding_formula_usd")
    sums = {name: sum((Decimal(piece[name]) for piece in pieces), Decimal(0)) for name in names}
    each_equal = all(len({Decimal(piece[name]) for name in names}) == 1 for piece in pieces)
    return {
        "rate_bps": rate_bps,
        "applied_bps": statistics.fmean(rate for piece in pieces for rate in piece["applied_bps"]),
        "hours": len(hours),
        "mean_position_usd": statistics.fmean(hours),
        "half_interval_usd": _half_width(hours),
        "lean_usd": statistics.fmean(leans),
        "lean_half_interval_usd": _half_width(leans),
        "fills": sum(piece["fills"] for piece in pieces),
        "payments": sum(piece["payments"] for piece in pieces),
        **{name: str(amount) for name, amount in sums.items()},
        "payments_equal": each_equal and all(piece["books_agree"] for piece in pieces),
        "pnl_usd": str(sum((Decimal(piece["pnl_usd"]) for piece in pieces), Decimal(0))),
    }


def main(
    folder: Path, hours: int = 24, piece_hours: int = 6, processes: int = 2, hour_s: float = HOUR_S
) -> dict[str, Any]:
    """Play what is left to play of every rate, and sum up."""
    results = _played(list(_pieces(hours, piece_hours, hour_s)), folder, processes)
    of = {rate: [each for each in results if each["rate_bps"] == rate] for rate in RATES_BPS}
    rows = [row(rate, of[rate], of[0.0]) for rate in RATES_BPS]
    return {"benchmark": "funding_days", "market": MARKET, "rows": rows}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows for the eye."""
    head = (
        "| rate, bp/h | mean position, USD | less that at 0, USD |"
        " received by our ledger, USD | by the exchange, USD | equal |"
    )
    return "\n".join([head, "|---:|---:|---:|---:|---:|---|", *(_line(each) for each in rows)])


def _line(each: dict[str, Any]) -> str:
    mean = _with_interval(each["mean_position_usd"], each["half_interval_usd"])
    lean = _with_interval(each["lean_usd"], each["lean_half_interval_usd"])
    ours, theirs = each["funding_ledger_usd"], each["funding_exchange_usd"]
    equal = "yes" if each["payments_equal"] else "no"
    return f"| {each['rate_bps']:+g} | {mean} | {lean} | {ours} | {theirs} | {equal} |"


def _with_interval(mean: float, half: float | None) -> str:
    return f"{mean:,.0f}" + (f" ± {half:,.0f}" if half is not None else "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--piece-hours", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/funding_days"))
    given = parser.parse_args()
    found = main(given.results, given.hours, given.piece_hours, given.processes)
    sys.stderr.write(table(found["rows"]) + "\n")
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
