"""Lets faults happen: what becomes of a frame, how late a leg is, and a count of all that was done.

Chance comes from a generator of its own, which is drawn from only while a fault is on. So a run without
faults is the same to the byte, and the same faults hit the same frames again.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np

from market_maker.domain import NS_PER_MS, NS_PER_S
from market_maker.emulator.faults import Faults
from market_maker.emulator.frames import Payload
from market_maker.emulator.rules import Delay
from market_maker.emulator.streams import ACCOUNT_KINDS, Reply, StreamClosed, StreamFrame

_LATE_MS: Final = Delay(150.0, 100.0)
_STALE_MS: Final = Delay(200.0, 600.0)
# From just within a client's patience of five seconds to long past it.
_LATE_REPLY_S: Final = (4.0, 12.0)
_LIQUIDATION_PRICE: Final = re.compile(rb'"liquidationPrice":"[^"]*"')
_UNKNOWN_REASON: Final = "REASON_OF_TOMORROW"
_UNKNOWN_TYPE: Final = Payload("LOYALTY", msgspec.Raw(b'{"isSnapshot":false,"points":"12"}'))
_UNKNOWN_FIELD: Final = ("fieldOfTomorrow", {"nested": ["1", None]})
_LATENCIES: Final = frozenset({"extra_latency_ms", "latency_tail_ms"})
_TOLD_TWICE: Final = ("trades", "TRADE")


class FaultInjector:
    """Decides, for one thing at a time, whether a fault hits it.

    Attributes
    ----------
    counts : Counter
        How often each fault happened.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._values: dict[str, float] = {}
        self._latency = Delay()
        self.counts: Counter[str] = Counter()

    def switch(self, faults: Faults) -> None:
        """Have these faults from now on, and no others."""
        self._values = faults.values()
        self._latency = Delay(faults.extra_latency_ms, faults.latency_tail_ms)

    @property
    def is_on(self) -> bool:
        """Whether there is any fault at present."""
        return bool(self._values)

    @property
    def is_silent(self) -> bool:
        """Whether the streams are silent at present."""
        return "silent_streams" in self._values

    @property
    def is_unreachable(self) -> bool:
        """Whether the exchange can not be reached at present."""
        return "unreachable" in self._values

    def happens(self, fault: str) -> bool:
        """Draw whether a fault happens, and count it."""
        probability = self._values.get(fault)
        if probability is None or not float(self._rng.random()) < probability:
            return False
        self.counts[fault] += 1
        return True

    def extra_ns(self) -> int:
        """Draw by how much a leg is slower, ns."""
        late = self._values.keys() & _LATENCIES
        if not late:
            return 0
        self.counts.update(late)
        return self._latency.draw_ns(self._rng)

    def payloads(self, kind: str, payload: Payload) -> Iterator[tuple[str, Payload]]:
        """Say what is sent instead of a payload, each with a number of its own."""
        if kind == "POSITION":
            payload = Payload(payload.type, msgspec.Raw(self.body(bytes(payload.data))))
        if kind in ACCOUNT_KINDS and self.happens("unknown_values"):
            yield from self._with_unknown_values(kind, payload)
        else:
            yield kind, payload
        if kind in _TOLD_TWICE and self.happens("duplicate_trades"):
            yield kind, payload

    def _with_unknown_values(self, kind: str, payload: Payload) -> Iterator[tuple[str, Payload]]:
        what = int(self._rng.integers(3))
        if what == 0:
            yield _UNKNOWN_TYPE.type, _UNKNOWN_TYPE
            yield kind, payload
            return
        data: dict[str, Any] = msgspec.json.decode(payload.data)
        rows = [row for value in data.values() if isinstance(value, list) for row in value]
        name, value = _UNKNOWN_FIELD if what == 1 or kind != "ORDER" else ("statusReason", _UNKNOWN_REASON)
        for row in rows or [data]:
            row[name] = value
        yield kind, Payload(payload.type, msgspec.Raw(msgspec.json.encode(data)))

    def replies(self, reply: Reply) -> list[Reply]:
        """Say what becomes of a reply on its way."""
        if not self._values:
            return [reply]
        if self.happens("lost_replies"):
            return []
        if self.happens("late_replies"):
            reply = reply._replace(due_ns=reply.due_ns + round(self._rng.uniform(*_LATE_REPLY_S) * NS_PER_S))
        if self.happens("reorder_replies"):
            reply = reply._replace(due_ns=reply.due_ns + _LATE_MS.draw_ns(self._rng))
        if self.happens("duplicate_replies"):
            return [reply, reply._replace(due_ns=reply.due_ns + _LATE_MS.draw_ns(self._rng))]
        return [reply]

    def stale_ns(self) -> int:
        """Draw how old the answer to a look-up is when it arrives, ns."""
        return _STALE_MS.draw_ns(self._rng) if self.happens("stale_lookups") else 0

    def body(self, body: bytes) -> bytes:
        """Say what becomes of what tells of positions: they may lack their liquidation price."""
        is_on = "null_liquidation" in self._values and _LIQUIDATION_PRICE.search(body)
        if is_on and self.happens("null_liquidation"):
            return _LIQUIDATION_PRICE.sub(b'"liquidationPrice":null', body)
        return body

    def lots_taken(self, fault: str, lots: int) -> int:
        """Draw how much of an order is taken at an awkward moment, lots; often all of it, 0: none."""
        if not self.happens(fault):
            return 0
        return lots if self._rng.integers(2) else max(1, int(self._rng.integers(lots + 1)))

    def frames(self, output: StreamFrame) -> list[StreamFrame | StreamClosed]:
        """Say what becomes of a numbered frame on its way."""
        if self.happens("silent_streams") or self.happens("drop_frames"):
            return []
        if self.happens("unreachable") or self.happens("close_streams"):
            return [StreamClosed(output.subscription, output.due_ns)]
        if self.happens("corrupt_frames"):
            output = output._replace(frame=self._garbled(output.frame))
        if self.happens("reorder_frames"):
            output = output._replace(due_ns=output.due_ns + _LATE_MS.draw_ns(self._rng))
        if self.happens("duplicate_frames"):
            again_ns = output.due_ns + int(self._rng.integers(NS_PER_MS))
            return [output, output._replace(due_ns=again_ns)]
        return [output]

    def _garbled(self, frame: bytes) -> bytes:
        place = int(self._rng.integers(1, len(frame)))
        if self._rng.integers(2):
            return frame[:place]
        return frame[:place] + b"\x00" + frame[place + 1 :]
