"""The account as the exchange tells it: one stream, in turn or lost.

It is quiet while nothing happens, so silence says nothing and pings alone tell whether it lives. A gap, a
corrupt frame, a close or a ping without an answer is said once, as `StreamLost`; the stream comes back with
snapshots of orders, balance and positions. Orders that a snapshot does not list are left to the comparison
of our books with the exchange's, which asks for them one by one; a position that it does not list is flat.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from market_maker.clock import Clock
from market_maker.config_sections import ConnectionSettings
from market_maker.exchanges.frames import AccountFrame, decode_account
from market_maker.exchanges.link import Link, StreamLoss, hear_all
from market_maker.exchanges.outbox import Outbox
from market_maker.exchanges.quotes import foreign_envelope, read_envelope
from market_maker.exchanges.socket import ACCOUNT_PATH, Connector, StreamBroken
from market_maker.exchanges.turns import Turns
from market_maker.exchanges.wire import ZERO, CorruptFrame, check_turn
from market_maker.gateway import AccountEvent, CredentialsRefused, PositionReport, StreamLost
from market_maker.instrument import Instrument

MAX_BACKLOG: Final = 4_000
_FIRST: Final = 1
_TYPES: Final = frozenset({"ORDER", "TRADE", "POSITION", "BALANCE"})
_OTHER_TYPES: Final = frozenset({"SPOT_BALANCE", "DEPOSIT", "WITHDRAWAL", "TRANSFER"})


class _Account:
    """Hears the account's stream."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        clock: Clock,
        outbox: Outbox[AccountEvent],
        unknown: Counter[str],
    ) -> None:
        self._instruments = instruments
        self._clock = clock
        self._outbox = outbox
        self._unknown = unknown
        self._turns = Turns("account", unknown)
        self._is_known_lost = self._has_begun = False
        # Markets in which the stream last said that there is a position.
        self._held: set[str] = set()

    def on_open(self) -> None:
        self._turns.restart()
        self._has_begun = False

    def has_begun(self) -> bool:
        """Whether this connection told an event: a balance is always among the first."""
        return self._has_begun

    def on_frame(self, frame: bytes) -> None:
        if self._outbox.backlog >= MAX_BACKLOG:
            self._unknown["account event left unread"] += self._outbox.clear()
            # An earlier loss may have been among what was cleared.
            self._is_known_lost = False
            msg = f"{MAX_BACKLOG} events were not read"
            raise StreamBroken(msg)
        try:
            decoded = decode_account(frame, self._instruments, self._clock.now_ns(), self._unknown)
        except CorruptFrame:
            envelope = foreign_envelope(frame, _TYPES)
            if envelope is None:
                raise
            self._count_type(envelope.type)
            if envelope.seq:
                self._is_next(envelope.seq, frame)
            return
        # Whatever its number: the first word of this stream is a snapshot of the orders.
        is_start = decoded.is_snapshot and "ORDER" in decoded.kinds
        if self._is_next(decoded.seq, frame, is_start=is_start):
            if not decoded.kinds:
                self._count_type(read_envelope(frame).type)
            self._hand_on(decoded)

    def _is_next(self, seq: int, frame: bytes, *, is_start: bool = False) -> bool:
        if not (self._turns.has_begun or is_start):
            check_turn("account", seq, _FIRST)
        return self._turns.is_next(seq, frame)

    def _count_type(self, kind: str | None) -> None:
        if kind not in _OTHER_TYPES:
            self._unknown[f"account frame {kind}"] += 1

    def _hand_on(self, decoded: AccountFrame) -> None:
        self._unknown.update(f"market {market}, not asked for" for market in decoded.other_markets)
        listed: set[str] = set()
        for event in decoded.events:
            if isinstance(event, PositionReport):
                listed.add(event.market)
                self._note_position(event)
            self._tell(event)
        if decoded.is_snapshot and "POSITION" in decoded.kinds:
            for market in sorted(self._held - listed):
                self._held.discard(market)
                self._tell(PositionReport(market, 0, ZERO, ZERO, None, decoded.venue_ns))

    def _tell(self, event: AccountEvent) -> None:
        self._is_known_lost, self._has_begun = False, True
        self._outbox.put(event)

    def _note_position(self, report: PositionReport) -> None:
        if report.size_lots:
            self._held.add(report.market)
        else:
            self._held.discard(report.market)

    def on_lost(self, loss: StreamLoss) -> None:
        if not self._is_known_lost:
            self._is_known_lost = True
            self._outbox.put(StreamLost("", str(loss)))


def account_feed(
    connect: Connector,
    instruments: Mapping[str, Instrument],
    settings: ConnectionSettings,
    clock: Clock,
    unknown: Counter[str],
) -> AsyncGenerator[AccountEvent, None]:
    """Orders, fills, positions and balance of the account, in the order in which the exchange tells them.

    After a `StreamLost` the first event of another kind says that the stream is back; a balance is always
    among the first.

    Parameters
    ----------
    connect : Connector
        Opens the stream, with the account's key; the iterator ends when it is closed.
    instruments : mapping of str to Instrument
        The markets whose orders, fills and positions are told.
    unknown : Counter
        Counts words and types of frames that nobody documented, and repeated frames.

    Raises
    ------
    CredentialsRefused
        If the exchange does not accept the key; no further try would help.
    """
    outbox = Outbox[AccountEvent]()
    outbox.open()
    refused = {401: CredentialsRefused, 403: CredentialsRefused}
    hearer = _Account(instruments, clock, outbox, unknown)
    link = Link(connect, ACCOUNT_PATH, settings, fatal=refused, has_begun=hearer.has_begun)
    return hear_all(outbox, [(link, hearer)])
