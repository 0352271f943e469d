"""Makes the decisions of a recorded session again, from what they were made from, and compares them.

The pure functions that trade are called with the rows that the session's inputs hold, in the same order and
at the same instants; what comes out must be what came out then, byte for byte: each decision, the post-only
state of each slot, and where all rows of a market were written, its signals. With settings changed the same
moments are decided otherwise; that is no simulation, because position and resting orders stay those of the
session.
"""

import dataclasses
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from market_maker import decision_record as tape
from market_maker.config import DECISION_SECTIONS, SCHEMA, ConfigError
from market_maker.config_rules import disorder, unrelated
from market_maker.config_sources import Given, Reader
from market_maker.decision_record import InputsFile, InputsUnreadable, Kind
from market_maker.journal_files import INPUTS_SUFFIX, JOURNAL_SUFFIX
from market_maker.kernel import Row, write_row
from market_maker.model_quotes import ModelSettings
from market_maker.model_table import model_row
from market_maker.replayed_market import (
    ACCOUNT_BYTES,
    BOOK_BYTES,
    ROWS_BYTES,
    SLOT_BYTES,
    Change,
    Difference,
    MarketCounts,
    ReplayedMarket,
)

Progress = Callable[[int, int], None]
_RECORDED: Final = "recorded"


@dataclass
class Replayed:
    """What came of a replay. `torn_bytes` were cut off the end; `missing_blocks` are holes between."""

    markets: dict[str, MarketCounts] = field(default_factory=dict)
    first: list[Difference] = field(default_factory=list)
    torn_bytes: int = 0
    missing_blocks: int = 0
    sources: str = ""
    stopped: bool = False

    @property
    def differences(self) -> int:
        """Decisions and states that came out otherwise."""
        return sum(it.differences + it.state_differences for it in self.markets.values())


def find_inputs(journal: Path) -> list[Path]:
    """Files of inputs, in order, of the session that a file of the journal is of.

    Raises
    ------
    InputsUnreadable
        If there are none.
    """
    if not journal.is_file():
        msg = f"{journal}: expected a file of a journal, found none"
        raise InputsUnreadable(msg)
    stem = journal.name.removesuffix(journal.suffix).rpartition("-")[0]
    found = sorted(journal.parent.glob(f"{stem}-*{INPUTS_SUFFIX}")) if stem else []
    if journal.suffix not in (JOURNAL_SUFFIX, INPUTS_SUFFIX) or not found:
        msg = (
            f"{journal}: expected the inputs of its decisions beside it ({stem or '…'}-0000{INPUTS_SUFFIX}), \
found none; the session ran with journal_inputs_enabled off, or ended before its first block"
        )
        raise InputsUnreadable(msg)
    return found


class Replay:
    """Replays the inputs of one session.

    Parameters
    ----------
    paths : sequence of Path
        Its files, in order.
    markets : sequence of str
        Only these; all if empty.
    change : callable or None
        Changes the settings in a market's row; what comes out is then expected to differ.
    shown : int
        Differences that are kept with their inputs, the first ones.
    until_first : bool
        End at the first difference.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        markets: Sequence[str] = (),
        change: Change | None = None,
        shown: int = 3,
        *,
        until_first: bool = False,
    ) -> None:
        self.result = Replayed()
        self._paths = paths
        self._wanted = frozenset(markets)
        self._change = change
        self._shown = shown
        self._until_first = until_first
        self._markets: dict[int, ReplayedMarket | None] = {}
        self._next_number = 0
        self._steps: Mapping[int, Callable[[bytes, int], int]] = {
            Kind.KEYFRAME: self._rows,
            Kind.SEED: self._seed,
            Kind.BOOK: self._book,
            Kind.TRADE: self._trade,
            Kind.PRICE: self._price,
            Kind.FUNDING: self._funding,
            Kind.POST_ONLY: self._post_only,
            Kind.DECISION: self._decide,
        }

    def run(self, progress: Progress = lambda _done, _of: None) -> Replayed:
        """Replay to the end; `progress` is told the bytes that were read, and all.

        Raises
        ------
        InputsUnreadable
            If a file is damaged, of other rows, or has no market that is wanted.
        """
        files = [InputsFile(path) for path in self._paths]
        sizes = [path.stat().st_size for path in self._paths]
        self.result.sources = files[0].sources
        for at, file in enumerate(files):
            for block in file.blocks():
                self._check_number(block.number)
                self._play(file.path, block.records)
                progress(sum(sizes[:at]) + file.read_bytes, sum(sizes))
                if self.result.stopped:
                    return self.result
            self.result.torn_bytes += file.torn_bytes
        if not self.result.markets:
            wanted = " or ".join(sorted(self._wanted)) or "any market"
            msg = f"{self._paths[0]}: expected inputs of {wanted}, found none"
            raise InputsUnreadable(msg)
        return self.result

    def _check_number(self, number: int) -> None:
        """After a hole nobody knows the rows, until they are written again."""
        if number != self._next_number:
            self.result.missing_blocks += abs(number - self._next_number)
            for market in self._markets.values():
                if market is not None:
                    market.is_known = False
        self._next_number = number + 1

    def _play(self, path: Path, records: bytes) -> None:
        at = 0
        while at < len(records) and not self.result.stopped:
            try:
                at = self._steps[records[at]](records, at)
            except (struct.error, KeyError, IndexError) as error:
                msg = f"{path}: expected a record of a known kind, was {records[at : at + 16]!r}"
                raise InputsUnreadable(msg) from error
            self.result.stopped = self._until_first and self.result.differences > 0

    def _market(self, index: int) -> ReplayedMarket | None:
        market = self._markets.get(index)
        return market if market is not None and market.is_known else None

    def _rows(self, records: bytes, at: int) -> int:
        _, index, now_ns, name_bytes, slots = tape.KEYFRAME.unpack_from(records, at)
        at += tape.KEYFRAME.size
        name = records[at : at + name_bytes].decode()
        at += name_bytes
        end = at + ROWS_BYTES + slots * SLOT_BYTES
        if index not in self._markets:
            self._markets[index] = self._opened(name)
        market = self._markets[index]
        if market is not None:
            market.rows(records[at : at + ROWS_BYTES], records[at + ROWS_BYTES : end], now_ns)
        return int(end)

    def _opened(self, name: str) -> ReplayedMarket | None:
        if self._wanted and name not in self._wanted:
            return None
        counts = self.result.markets.setdefault(name, MarketCounts())
        return ReplayedMarket(name, self._change, counts, self.result.first, self._shown)

    def _seed(self, records: bytes, at: int) -> int:
        _, index, _, count = tape.SEED.unpack_from(records, at)
        at += tape.SEED.size
        end = at + 8 * count
        if (market := self._market(index)) is not None:
            market.seed(records[at:end])
        return int(end)

    def _book(self, records: bytes, at: int) -> int:
        _, index, now_ns = tape.HEAD.unpack_from(records, at)
        at += tape.HEAD.size
        if (market := self._market(index)) is not None:
            market.book(records[at : at + BOOK_BYTES], now_ns)
        return at + BOOK_BYTES

    def _trade(self, records: bytes, at: int) -> int:
        _, index, now_ns, side, price_ticks, size_lots = tape.TRADE.unpack_from(records, at)
        if (market := self._market(index)) is not None:
            market.trade(side, price_ticks, size_lots, now_ns)
        return at + tape.TRADE.size

    def _price(self, records: bytes, at: int) -> int:
        _, index, now_ns, source, price_ticks = tape.PRICE.unpack_from(records, at)
        if (market := self._market(index)) is not None:
            market.price(source, price_ticks, now_ns)
        return at + tape.PRICE.size

    def _funding(self, records: bytes, at: int) -> int:
        _, index, now_ns, rate = tape.FUNDING.unpack_from(records, at)
        if (market := self._market(index)) is not None:
            market.funding(rate, now_ns)
        return at + tape.FUNDING.size

    def _post_only(self, records: bytes, at: int) -> int:
        _, index, now_ns, slot, rejected = tape.POST_ONLY.unpack_from(records, at)
        if (market := self._market(index)) is not None:
            market.post_only(slot, now_ns, rejected=rejected)
        return at + tape.POST_ONLY.size

    def _decide(self, records: bytes, at: int) -> int:
        _, index, now_ns, slot, flags = tape.DECISION.unpack_from(records, at)
        at += tape.DECISION.size
        changed = []
        for flag, size in _CHANGED:
            end = at + size if flags & flag else at
            changed.append(records[at:end])
            at = end
        if (market := self._market(index)) is not None:
            market.decide(slot, now_ns, changed)
        elif (unknown := self._markets.get(index)) is not None:
            unknown.counts.skipped += 1
        return at


_CHANGED: Final = (
    (tape.ACCOUNT_CHANGED, ACCOUNT_BYTES),
    (tape.SLOT_CHANGED, SLOT_BYTES),
    (tape.DECISION_CHANGED, tape.DECISION_BYTES),
)


def settings_change(overrides: Sequence[str]) -> Change:
    """Change of settings in a market's row, from `name=value` and `MARKET:name=value` as `--set` takes them.

    Raises
    ------
    ConfigError
        If one is no setting that decisions are made by, or its value is not admitted; from the change itself,
        if it does not fit the session's other settings.
    """
    reader = Reader(SCHEMA.settings, SCHEMA.shared)
    given = list(reader.command_line(overrides))
    problems = list(reader.problems)
    values = {}
    for one in given:
        setting = SCHEMA.settings[one.name]
        if setting.section not in DECISION_SECTIONS:
            where = f"[{setting.section}] reaches decisions through position, limits and book"
            problems.append(
                f"{one.name}: expected a setting that decide() reads; {where}, which are recorded"
            )
            continue
        try:
            values[one] = setting.parse(one.raw)
        except ValueError as expected:
            problems.append(f"{one.name}: expected {expected}, was {one.raw!r} (from {one.origin})")
    if problems:
        raise ConfigError(problems)
    return lambda market, params: _set(market, params, values)


def _set(market: str, params: Row, values: Mapping[Given, Any]) -> None:
    for wanted in (None, market):
        for given, value in values.items():
            if given.market == wanted:
                _put(params[SCHEMA.settings[given.name].section][given.name], value)
    _check_fit(params, {given.name: given.origin for given in values if given.market in (None, market)})
    limit_orders = float(params["model_row"]["limit_orders"][0])
    write_row(
        params["model_row"], model_row(ModelSettings(**_values(params["model"], ModelSettings)), limit_orders)
    )


def _put(field: Row, value: Any) -> None:  # noqa: ANN401  (a setting of any type)
    if isinstance(value, tuple):
        field[0] = 0
        field[0][: len(value)] = value
    else:
        field[0] = value


def _values(section: Row, cls: type) -> dict[str, Any]:
    """Settings of a section as they are in its row; a list without the zeros that fill its row up."""
    found = {f.name: section[f.name][0] for f in dataclasses.fields(cls)}
    return {
        name: tuple(np.trim_zeros(it, "b").tolist()) if it.ndim else it.item() for name, it in found.items()
    }


def _check_fit(params: Row, changed: Mapping[str, str]) -> None:
    """Whether the settings in a row fit together, as they are checked when they are loaded."""
    values = {name: setting.default for name, setting in SCHEMA.settings.items()}
    origins = dict.fromkeys(values, _RECORDED) | dict(changed)
    problems = []
    for section, cls in DECISION_SECTIONS.items():
        row = _values(params[section], cls)
        values |= row
        if not changed.keys() & row.keys():
            # It was checked when the session began.
            continue
        try:
            cls(**row)
        except ValueError as refused:
            problems.append(str(refused))
    problems += [*disorder(SCHEMA.ordered, values, origins), *unrelated(SCHEMA.related, values, origins)]
    if problems:
        raise ConfigError(problems)
