"""One recorded market, decided again: its rows advanced by the functions that trade, and compared.

What must come out as it did, byte for byte: each decision, the post-only state of each slot, and where the
session wrote all rows of the market, its signals. What differs is told with its inputs, and the session's
rows are gone on with, so that one difference is not counted for ever after.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from market_maker import post_only_safety
from market_maker import reprice_pipeline as pipeline
from market_maker.decision_record import DECISION_BYTES, view_of
from market_maker.domain import Action, Reason, Side
from market_maker.kernel import Row, new_row, plain, row_dtype
from market_maker.strategy_rows import Account, BookRow, DecisionRow, Params, Slot, State

ACCOUNT_BYTES: Final = row_dtype(Account).itemsize
SLOT_BYTES: Final = row_dtype(Slot).itemsize
BOOK_BYTES: Final = row_dtype(BookRow).itemsize
ROWS_BYTES: Final = row_dtype(Params).itemsize + row_dtype(State).itemsize + ACCOUNT_BYTES
_CUTS: Final = np.cumsum([0, row_dtype(Params).itemsize, row_dtype(State).itemsize, ACCOUNT_BYTES]).tolist()
_DECIDED: Final = ("action", "reason", "price_ticks", "size_lots", "reduce_only")
_LONGEST_SHOWN: Final = 16
Change = Callable[[str, Row], None]


class Difference(NamedTuple):
    """Something that came out otherwise than in the session.

    Parameters
    ----------
    what : str
        decision, post_only or state.
    slot : str
        Side and level; empty for a market's state.
    event : int
        Number of the market's record.
    recorded, replayed : dict
        What came out then and now: all of a decision or a slot's state, of a market's state what differs.
    inputs : dict
        Rows that a decision was made from, by name.
    """

    what: str
    market: str
    slot: str
    now_ns: int
    event: int
    recorded: dict[str, Any]
    replayed: dict[str, Any]
    inputs: dict[str, dict[str, Any]]


@dataclass
class MarketCounts:
    """What was replayed of one market.

    `skipped` are the decisions after a hole, up to where the market's rows were written again; `changed`
    counts the differing decisions by how they came out then and now.
    """

    books: int = 0
    trades: int = 0
    decisions: int = 0
    states: int = 0
    skipped: int = 0
    differences: int = 0
    state_differences: int = 0
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)


class ReplayedSlot:
    """One slot's row, which is the session's but for its post-only state: that is advanced here."""

    def __init__(self, row: bytes) -> None:
        self.row = new_row(Slot())
        self.decision = b""
        self._bytes = view_of(self.row)
        self._bytes[:] = row
        self._post_only = self.row["post_only"]

    def take(self, row: bytes, *, strict: bool) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Take the session's row; its post-only state and ours, where they should be equal and are not."""
        ours = self._post_only.copy()
        self._bytes[:] = row
        if self._post_only.tobytes() == ours.tobytes():
            return None
        if strict:
            return plain(self._post_only[0]), plain(ours[0])
        self._post_only[:] = ours
        return None

    def __str__(self) -> str:
        return f"{Side(int(self.row['side'][0])).name} {int(self.row['level'][0])}"


class ReplayedMarket:
    """The rows of one market, advanced by the functions that trade.

    Parameters
    ----------
    change : callable or None
        Changes the settings; signals and post-only states are then our own, and compared with nothing.
    first : list
        Takes differences of all markets, while they are fewer than `shown`.
    """

    def __init__(
        self, name: str, change: Change | None, counts: MarketCounts, first: list[Difference], shown: int
    ) -> None:
        self.name = name
        self.counts = counts
        self.is_known = False
        self._change = change
        self._first = first
        self._shown = shown
        self._event = 0
        self._params, self._state = new_row(Params()), new_row(State())
        self._account, self._book = new_row(Account()), new_row(BookRow())
        self._decision = new_row(DecisionRow())
        self._account_bytes, self._book_bytes = view_of(self._account), view_of(self._book)
        self._state_bytes, self._params_bytes = view_of(self._state), view_of(self._params)
        self._decision_bytes = view_of(self._decision)[:DECISION_BYTES]
        self._slots: list[ReplayedSlot] = []

    def rows(self, data: bytes, slots: bytes, now_ns: int) -> None:
        """Take all rows in: compared where ours go on, else where we begin."""
        params, state, account = (data[a:b] for a, b in pairwise(_CUTS))
        if self.is_known and self._change is None:
            self._compare_state(state, now_ns)
        if not self.is_known or self._change is None:
            self._state_bytes[:] = state
            self._params_bytes[:] = params
        if not self.is_known and self._change is not None:
            self._change(self.name, self._params)
        self._account_bytes[:] = account
        self._take_slots([slots[at : at + SLOT_BYTES] for at in range(0, len(slots), SLOT_BYTES)], now_ns)
        self.is_known = True

    def _take_slots(self, rows: Sequence[bytes], now_ns: int) -> None:
        if not self.is_known:
            self._slots = [ReplayedSlot(row) for row in rows]
        for slot, row in zip(self._slots, rows, strict=True):
            self._take_slot(slot, row, now_ns)
            slot.decision = b""

    def _take_slot(self, slot: ReplayedSlot, row: bytes, now_ns: int) -> None:
        unequal = slot.take(row, strict=self._change is None)
        if unequal is not None:
            self.counts.state_differences += 1
            self._show(Difference("post_only", self.name, str(slot), now_ns, self._event, *unequal, {}))

    def _compare_state(self, state: bytes, now_ns: int) -> None:
        self.counts.states += 1
        if self._state_bytes == state:
            return
        self.counts.state_differences += 1
        recorded = np.frombuffer(state, row_dtype(State))
        differing = dict(_unequal(plain(recorded[0]), plain(self._state[0])))
        then, now = ({name: pair[at] for name, pair in differing.items()} for at in (0, 1))
        self._show(Difference("state", self.name, "", now_ns, self._event, then, now, {}))

    def _show(self, difference: Difference) -> None:
        if len(self._first) < self._shown:
            self._first.append(difference)

    def seed(self, closes: bytes) -> None:
        """Warm up from candles."""
        prices = np.frombuffer(closes, np.float64).copy()
        pipeline.seed(self._params, self._state, prices, len(prices))

    def book(self, row: bytes, now_ns: int) -> None:
        """Take a book in."""
        self._event += 1
        self.counts.books += 1
        self._book_bytes[:] = row
        pipeline.observe_book(self._params, self._state, self._book, now_ns)

    def trade(self, side: int, price_ticks: int, size_lots: int, now_ns: int) -> None:
        """Take a public trade in."""
        self._event += 1
        self.counts.trades += 1
        pipeline.observe_trade(self._params, self._state, side, price_ticks, size_lots, now_ns)

    def price(self, source: int, price_ticks: float, now_ns: int) -> None:
        """Take a price of elsewhere in."""
        self._event += 1
        pipeline.observe_price(self._params, self._state, source, price_ticks, now_ns)

    def funding(self, rate: float, now_ns: int) -> None:
        """Take a funding rate in."""
        self._event += 1
        pipeline.observe_funding(self._params, self._state, rate, now_ns)

    def post_only(self, at: int, now_ns: int, *, rejected: bool) -> None:
        """Take in how a post-only order came out."""
        self._event += 1
        settings, state = self._params[0].post_only, self._slots[at].row[0].post_only
        if rejected:
            post_only_safety.on_rejection(settings, state, now_ns)
        else:
            post_only_safety.on_success(settings, state, now_ns)

    def decide(self, at: int, now_ns: int, changed: Sequence[bytes]) -> None:
        """Decide about a slot, and compare. `changed` are account, slot and decision; empty as they were."""
        self._event += 1
        self.counts.decisions += 1
        slot, (account, row, decision) = self._slots[at], changed
        if account:
            self._account_bytes[:] = account
        if row:
            self._take_slot(slot, row, now_ns)
        slot.decision = decision or slot.decision
        pipeline.decide(self._params, self._state, self._account, slot.row, self._decision, now_ns)
        if self._decision_bytes != slot.decision:
            self._note(slot, now_ns)

    def _note(self, slot: ReplayedSlot, now_ns: int) -> None:
        whole = np.zeros(1, row_dtype(DecisionRow))
        view_of(whole)[:DECISION_BYTES] = slot.decision
        then, now = _decided(whole), _decided(self._decision)
        self.counts.differences += 1
        self.counts.changed[_named(then), _named(now)] += 1
        if len(self._first) == self._shown:
            return
        rows = {
            "account": self._account,
            "slot": slot.row,
            "state": self._state,
            "settings": self._params,
            "worked_out": self._decision,
        }
        inputs = {name: _short(plain(row[0])) for name, row in rows.items()}
        self._show(Difference("decision", self.name, str(slot), now_ns, self._event, then, now, inputs))


def _decided(row: Row) -> dict[str, Any]:
    fields = {name: row[name].item() for name in _DECIDED}
    return fields | {"action": Action(fields["action"]).name, "reason": Reason(fields["reason"]).name}


def _named(decided: Mapping[str, Any]) -> str:
    return f"{decided['action']} {decided['reason']}"


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its long arrays."""
    whole = {name: _short(value) if isinstance(value, dict) else value for name, value in row.items()}
    return {name: v for name, v in whole.items() if not (isinstance(v, list) and len(v) > _LONGEST_SHOWN)}


def _unequal(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Fields of a row that differ, by dotted name; of a long array the first place."""
    for name, value in theirs.items():
        if isinstance(value, dict):
            yield from _unequal(value, ours[name], f"{above}{name}.")
        elif isinstance(value, list):
            pairs = enumerate(zip(value, ours[name], strict=True))
            yield from ((f"{above}{name}[{at}]", pair) for at, pair in pairs if pair[0] != pair[1])
        elif value != ours[name]:
            yield f"{above}{name}", (value, ours[name])
