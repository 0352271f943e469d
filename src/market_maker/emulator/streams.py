"""What leaves the exchange, as values: replies and frames, each with the instant at which it arrives.

A subscription is one connection's reader of one topic: it has its own sequence, from 1, and delivers in
order. What is under way when it closes is lost, as on a closed connection.
"""

from typing import Final, NamedTuple

PUBLIC_KINDS: Final = ("book", "bbo", "trades", "mark", "index", "funding")
ACCOUNT: Final = "account"
ACCOUNT_KINDS: Final = ("ORDER", "TRADE", "POSITION", "BALANCE")


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
