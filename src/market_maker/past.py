"""What earlier sessions of the same bot left, read from their journals: how a restart knows what was.

A bot is known by where it trades, in which account, and under which prefix its orders go. Its newest
checkpoint and what was journalled after it give the positions that the exchange must have, the peaks behind
its limits, the step that the kill ladder was latched on, what hedges have paid today, the orders that it sent
and the fills that it has noted. A line that a crash tore is left out: it was not yet said.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from market_maker.domain import NS_PER_S, Fill, NewOrder, Reason, Side
from market_maker.gateway import FundingPayment
from market_maker.kill_ladder import Cause, Step
from market_maker.risk_manager import RiskState
from market_maker.trade_journal import session_files

CHECKPOINT: Final = "checkpoint"
RESUMED: Final = "resumed"
KILL_STEP: Final = "kill_step"
_KINDS: Final = (CHECKPOINT, RESUMED, KILL_STEP, "fill", "funding", "order_sent", "session_stop")
_WANTED: Final = tuple(f'{{"type":"{kind}",'.encode() for kind in _KINDS)
_SESSIONS_BACK: Final = 50
# Lines within which a session says whose it is.
_BEGIN: Final = 1_000
# More than can have been sent within the life of one.
_ORDERS_KEPT: Final = 5_000
# A fill is journalled this long after it was made, at most, or is to be looked for when positions differ.
LOOK_BACK_NS: Final = 120 * NS_PER_S
TradeKey = tuple[str, int, int]
PaymentKey = tuple[str, int]
Record = Mapping[str, Any]


class Whose(NamedTuple):
    """Which bot: the venue in words, the account's id there, and the prefix of its orders' ids."""

    venue: str = ""
    account: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier sessions left; `Past()` where nothing is known of any.

    Attributes
    ----------
    whose : Whose
        Whose it is, and under which the session that begins keeps its own records.
    is_known : bool
        There is a checkpoint.
    positions : mapping
        Signed lots that its fills add up to, by market.
    positions_accepted : bool
        Somebody resumed after a start was refused for them: the exchange's are right.
    risk : RiskState or None
        Peak and start of the day; None where they are to begin anew.
    latch, latched_by : Step, Cause
        Where the kill ladder was latched.
    step, cause : Step, Cause
        Where it stood last, latched or not.
    hedge_fees_usd, hedge_day : float, int
        What hedges have paid on a day, counted from the epoch.
    begun_ns : int
        When it began, as far back as was read: what is older is in its first checkpoint.
    noted_ns : int
        When it last said anything.
    trades : mapping
        Instants of the fills that are in the journal, ns of the exchange, by their keys.
    payments : set
        Funding payments that are in the journal, by market and id.
    orders : mapping
        Orders that it sent, by external id.
    may_have_open : bool
        It began, and did not end by saying that none of its orders is open.
    """

    whose: Whose = field(default_factory=Whose)
    is_known: bool = False
    positions: Mapping[str, int] = field(default_factory=dict)
    positions_accepted: bool = False
    risk: RiskState | None = None
    latch: Step = Step.NORMAL
    latched_by: Cause = Cause.NONE
    step: Step = Step.NORMAL
    cause: Cause = Cause.NONE
    hedge_fees_usd: float = 0.0
    hedge_day: int = -1
    begun_ns: int = 0
    noted_ns: int = 0
    trades: Mapping[TradeKey, int] = field(default_factory=dict)
    payments: Set[PaymentKey] = frozenset()
    orders: Mapping[str, NewOrder] = field(default_factory=dict)
    may_have_open: bool = False

    @property
    def asks_since_ns(self) -> int:
        """From where on the exchange's history may have fills that are not in the journal."""
        newest_ns = max(self.trades.values(), default=self.noted_ns)
        return max(0, min(newest_ns, self.noted_ns) - LOOK_BACK_NS)

    @property
    def oldest_ns(self) -> int:
        """From where on all fills are known, as far back as was read."""
        return min(self.trades.values(), default=self.asks_since_ns)


def trade_key(fill: Fill) -> TradeKey:
    """What tells one match of the account's from all others; one with itself is two."""
    return fill.market, fill.trade_id, int(fill.side)


def payment_key(payment: FundingPayment) -> PaymentKey:
    """What tells one payment of the account's from all others."""
    return payment.market, payment.payment_id


def past_of(sessions: Iterable[Iterable[Record]], whose: Whose) -> Past:
    """Put the past together from the records of sessions, the oldest first; those of others do not count."""
    folded = _Fold(whose)
    for records in sessions:
        for record in _ours(records, whose):
            folded.take(record)
    return folded.past()


def read_past(folder: Path, whose: Whose) -> Past:
    """Read the past of a bot from a folder of journals; it need not exist.

    Sessions are read backwards until there is a checkpoint, and each fill that the exchange may tell of anew.
    """
    found: list[list[dict[str, Any]]] = []
    past = Past(whose)
    for files in session_files(folder):
        if len(found) == _SESSIONS_BACK:
            break
        if whose not in _bots_of(files):
            continue
        records = [record for path in files for record in _records(path)]
        if past.is_known and int(records[-1]["t"]) < past.asks_since_ns:
            break
        found.insert(0, records)
        past = past_of(found, whose)
    return past


def latest_past(folder: Path, venue: str, prefix: str) -> Past | None:
    """Past of the bot that traded last at a venue under a prefix, whatever the account; None if none did."""
    for files in session_files(folder):
        for bot in _bots_of(files):
            if bot.venue == venue and bot.prefix == prefix:
                return read_past(folder, bot)
    return None


def _bots_of(files: Sequence[Path]) -> list[Whose]:
    """Whose a session is: it says so as it begins. One that had no past, such as a demo, is nobody's."""
    # Whoever deletes old parts leaves a session without its begin.
    lines = _BEGIN if files[0].stem.endswith("-0000") else None
    begun = (record for record in _records(files[0], lines) if "prefix" in record)
    return [Whose(record["venue"], record["account"], record["prefix"]) for record in begun]


def _records(path: Path, lines: int | None = None) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for line in islice(file, lines):
            if line.startswith(_WANTED) and line.endswith(b"}\n"):
                try:
                    yield msgspec.json.decode(line, type=dict[str, Any])
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue


def _ours(records: Iterable[Record], whose: Whose) -> Iterator[Record]:
    """Records of a session from the first on that says whose it is, if that is this bot."""
    is_ours = False
    for record in records:
        if "prefix" in record:
            is_ours = Whose(record["venue"], record["account"], record["prefix"]) == whose
        if is_ours and record["type"] in _KINDS:
            yield record


class _Fold:
    """Takes records in, one after another."""

    def __init__(self, whose: Whose) -> None:
        self._past = Past(whose)
        self._begun_ns = self._noted_ns = 0
        self._positions: dict[str, int] = {}
        self._trades: dict[TradeKey, int] = {}
        self._payments: set[PaymentKey] = set()
        self._orders: dict[str, NewOrder] = {}
        self._may_have_open = False

    def past(self) -> Past:
        return replace(
            self._past,
            begun_ns=self._begun_ns,
            noted_ns=self._noted_ns,
            positions=self._positions,
            trades=self._trades,
            payments=self._payments,
            orders=self._orders,
            may_have_open=self._may_have_open,
        )

    def take(self, record: Record) -> None:
        kind = record["type"]
        # These two may come long after the last word of what was traded.
        if kind == "session_stop":
            self._may_have_open = bool(record.get("remaining", self._may_have_open))
            return
        if kind == RESUMED:
            self._resumed(record)
            return
        self._noted_ns = int(record["t"])
        self._begun_ns = self._begun_ns or self._noted_ns
        if kind == "fill":
            self._fill(record)
        elif kind == "funding":
            self._payments.add((record["market"], record["payment_id"]))
        elif kind == "order_sent":
            self._order(record)
        elif kind == CHECKPOINT:
            self._checkpoint(record)
        elif kind == KILL_STEP:
            self._past = replace(
                self._past,
                latch=Step[record["latch"]],
                latched_by=Cause[record["latched_by"]],
                step=Step[record["step"]],
                cause=Cause[record["cause"]],
            )

    def _order(self, record: Record) -> None:
        fields = {name: record[name] for name in NewOrder._fields}
        self._orders[record["external_id"]] = NewOrder(**fields | {"side": Side[record["side"]]})
        if len(self._orders) > _ORDERS_KEPT:
            del self._orders[next(iter(self._orders))]

    def _fill(self, record: Record) -> None:
        market, side = record["market"], Side[record["side"]]
        key = (market, record["trade_id"], int(side))
        if key not in self._trades:
            self._trades[key] = record["venue_ns"]
            self._positions[market] = self._positions.get(market, 0) + side * record["size_lots"]

    def _checkpoint(self, record: Record) -> None:
        risk, hedge = record["risk"], record["hedge"]
        self._positions = dict(record["positions"])
        # What it sent from there on may not have reached the disk.
        self._may_have_open = True
        self._past = replace(
            self._past,
            is_known=True,
            positions_accepted=False,
            risk=RiskState(**risk | {"halt": Reason[risk["halt"]]}),
            latch=Step[record["latch"]],
            latched_by=Cause[record["latched_by"]],
            hedge_fees_usd=hedge["fees_usd"],
            hedge_day=hedge["day"],
        )

    def _resumed(self, record: Record) -> None:
        """Whoever resumed has lifted the latch, and accepted the positions if there was a doubt."""
        self._past = replace(
            self._past,
            risk=None,
            latch=Step.NORMAL,
            latched_by=Cause.NONE,
            step=Step.NORMAL,
            cause=Cause.NONE,
        )
        if record.get("accepts_positions"):
            self._past = replace(self._past, positions_accepted=True)
