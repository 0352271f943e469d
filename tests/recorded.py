"""A desk that is recorded: books, trades, rejections and decisions of a made market, without a session."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
from fakes import START_NS, ManualClock, snapshot

from market_maker.decision_record import DecisionTape, InputsFile, pack_block
from market_maker.decision_replay import find_inputs
from market_maker.domain import NS_PER_S, Action, Decision, Side, Trade
from market_maker.gateway import Candle, Fees
from market_maker.instrument import Instrument
from market_maker.journal_files import JournalFiles, JournalSettings
from market_maker.market_desk import MarketDesk
from market_maker.orderbook_manager import BookSettings
from market_maker.strategy_rows import Params

X = "X-USD"
FAR = (10**6, 10**6)


@dataclass
class RecordedDesk:
    """A desk that walks at random, one book every 0.1 s, and is asked about each slot after each."""

    tape: DecisionTape
    name: str = X
    seed: int = 1
    candles: int = 20
    now_ns: int = START_NS
    decisions: list[Decision] = field(default_factory=list)

    def __post_init__(self) -> None:
        instrument = Instrument(self.name, Decimal("0.01"), Decimal("0.01"), Decimal("0.1"))
        self.desk = MarketDesk(
            instrument, Fees(Decimal(0), Decimal("0.00025")), Params(), BookSettings(), 0.03, 0.1
        )
        self.desk.record(self.tape)
        closes = [100 + 0.02 * (n % 2) for n in range(self.candles)]
        self.desk.seed([Candle(n * 60 * NS_PER_S, *(Decimal(repr(c)),) * 4) for n, c in enumerate(closes)])
        self.desk.on_mark(Decimal(100), self.now_ns)
        self.desk.set_account(0, FAR)
        self._generator = np.random.default_rng(self.seed)
        self._mid = 10_000

    def walk(self, steps: int) -> "RecordedDesk":
        """Take so many books, with what comes between them."""
        for _ in range(steps):
            self.now_ns += NS_PER_S // 10
            self._mid += int(self._generator.integers(-2, 3))
            bids = [(self._mid - n, int(self._generator.integers(1, 9_000))) for n in range(1, 8)]
            asks = [(self._mid + n, int(self._generator.integers(1, 9_000))) for n in range(1, 8)]
            self.desk.on_book(snapshot(self.name, bids, asks, self.now_ns), self.now_ns)
            self._between()
            for slot in self.desk.slots:
                decision = self.desk.decide(slot, self.now_ns)
                self.decisions.append(decision)
                if decision.action != Action.KEEP:
                    self.desk.sent(slot, self.now_ns)
        return self

    def _between(self) -> None:
        draw = self._generator.random()
        if draw < 0.2:
            trade = Trade(self.name, 1, Side.SELL, self._mid, 5, self.now_ns, self.now_ns)
            self.desk.on_trade(trade, self.now_ns)
        if draw < 0.05:
            slot = self.desk.slots[int(draw * 80)]
            self.desk.on_post_only(slot, self.now_ns, rejected=draw < 0.03)
        if draw < 0.1:
            self.desk.on_latency(draw)
            self.desk.set_account(int(draw * 1e4), FAR)


@dataclass
class Recording:
    """A record of desks in files, as a journal has them."""

    folder: Path
    keeps: Callable[[int], bool] = lambda _number: True
    max_bytes: int = 64_000_000
    offered: int = 0

    def __post_init__(self) -> None:
        settings = JournalSettings(journal_dir=str(self.folder), journal_max_bytes=self.max_bytes)
        self._files = JournalFiles("mm", settings, ManualClock())
        self._inputs = self._files.inputs()
        self.tape = DecisionTape(self._offer)

    def _offer(self, block: bytes) -> bool:
        self.offered += 1
        if not self.keeps(self.offered - 1):
            return False
        self._inputs.write(block)
        return True

    def end(self) -> Path:
        """Close everything; the journal's file."""
        self.tape.close()
        self._inputs.close()
        self._files.close()
        return self._files.path


def plant(journal: Path, find: Callable[[bytes], int], change: int) -> None:
    """Change one byte, where `find` says, of what was recorded: as if the session had computed otherwise."""
    [path] = find_inputs(journal)
    title, _, _ = path.read_bytes().partition(b"\n")
    blocks = list(InputsFile(path).blocks())
    data = title + b"\n"
    done = False
    for number, records in blocks:
        at = -1 if done else find(records)
        changed = bytearray(records)
        if at >= 0:
            changed[at] ^= change
            done = True
        data += pack_block(number.to_bytes(4, "little") + changed)
    assert done
    path.write_bytes(data)


def plant_decision(journal: Path, desk: RecordedDesk) -> int:
    """Let the record say that the first quote had another price; the price that it had."""
    action, reason, price_ticks, *_ = next(it for it in desk.decisions if it.price_ticks)
    decided = struct.pack("<qqq", action, reason, price_ticks)

    def price_of(records: bytes) -> int:
        at = records.find(decided)
        return at + 16 if at >= 0 else at

    plant(journal, price_of, 1)
    return price_ticks
