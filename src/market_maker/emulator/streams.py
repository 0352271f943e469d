"""What leaves the exchange: replies and frames, each with the instant at which it arrives.

A subscription is one connection's reader of one topic: it has its own sequence, from 1, and delivers in
order. What is under way when it closes is lost, as on a closed connection.
"""

import heapq
from typing import Final, NamedTuple

import numpy as np

from market_maker.emulator.frames import Payload, Stamp, frame
from market_maker.emulator.rules import ExchangeRules

PUBLIC_KINDS: Final = ("book", "bbo", "trades", "mark", "index", "funding")
ACCOUNT: Final = "account"


class OrderIds(NamedTuple):
    """Data of the reply to an accepted order."""

    id: int
    external_id: str


class Reply(NamedTuple):
    """REST answer to a request: `code` is 0 and `data` set (for an order) on success; `frame` is the body."""

    ticket: int
    due_ns: int
    http_status: int
    code: int
    message: str
    data: OrderIds | None
    frame: bytes


class Topic(NamedTuple):
    """What a subscription tells of: a kind of one market, or of all on one sequence where `market` is empty.

    Kinds are book, bbo, trades, mark, index, funding, and account (of `account_id`).
    """

    kind: str
    market: str = ""
    account_id: int = 0


class StreamFrame(NamedTuple):
    """Frame of a subscription. An account's has the kind of its news: ORDER, TRADE, POSITION or BALANCE."""

    subscription: int
    due_ns: int
    kind: str
    frame: bytes


class StreamClosed(NamedTuple):
    """The exchange closed a subscription."""

    subscription: int
    due_ns: int


Output = Reply | StreamFrame | StreamClosed


class Stream:
    """One subscription's sequence, and the instant of its last delivery."""

    __slots__ = ("due_ns", "is_open", "number", "seq", "topic")

    def __init__(self, number: int, topic: Topic) -> None:
        self.number = number
        self.topic = topic
        self.is_open = True
        self.seq = 0
        self.due_ns = 0


class Outbox:
    """Outputs in order of their due instants.

    Parameters
    ----------
    rules : ExchangeRules
        Latency of streams.
    rng : numpy.random.Generator
        Source of that latency; its own, so that it makes no difference to requests who listens.
    """

    def __init__(self, rules: ExchangeRules, rng: np.random.Generator) -> None:
        self._delay = rules.latency.stream
        self._rng = rng
        self._heap: list[tuple[int, int, Output, Stream | None]] = []
        self._count = 0

    def arrival_ns(self, now_ns: int) -> int:
        """Draw the instant at which a stream delivers what happens now."""
        return now_ns + self._delay.draw_ns(self._rng)

    def reply(self, reply: Reply) -> None:
        """Queue a REST answer."""
        self._push(reply, None)

    def send(self, stream: Stream, kind: str, payload: Payload, now_ns: int, due_ns: int) -> None:
        """Queue the next frame of a subscription; it arrives at `due_ns`, or with the one before it."""
        stream.seq += 1
        stream.due_ns = max(stream.due_ns, due_ns)
        sent = frame(payload, Stamp(now_ns, stream.seq))
        self._push(StreamFrame(stream.number, stream.due_ns, kind, sent), stream)

    def _push(self, output: Output, stream: Stream | None) -> None:
        self._count += 1
        heapq.heappush(self._heap, (output.due_ns, self._count, output, stream))

    def next_due_ns(self) -> int | None:
        """Instant of the next output."""
        return self._heap[0][0] if self._heap else None

    def pop_until(self, now_ns: int) -> list[Output]:
        """Return the outputs due, in order, without those whose subscription was closed meanwhile."""
        outputs = []
        while self._heap and self._heap[0][0] <= now_ns:
            _, _, output, stream = heapq.heappop(self._heap)
            if stream is None or stream.is_open:
                outputs.append(output)
        return outputs
