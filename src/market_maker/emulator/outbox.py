"""What is on its way out of the exchange, in order of the instants at which it arrives."""

import heapq

import numpy as np

from market_maker.emulator.fault_injection import FaultInjector
from market_maker.emulator.frames import Payload, Stamp, frame
from market_maker.emulator.rules import ExchangeRules
from market_maker.emulator.streams import Output, Reply, Stream, StreamClosed, StreamFrame


class Outbox:
    """Outputs in order of their due instants.

    Parameters
    ----------
    rules : ExchangeRules
        Latency of streams.
    rng : numpy.random.Generator
        Source of that latency; its own, so that it makes no difference to requests who listens.
    faults : FaultInjector
        What goes wrong on the way.
    """

    def __init__(self, rules: ExchangeRules, rng: np.random.Generator, faults: FaultInjector) -> None:
        self._delay = rules.latency.stream
        self._rng = rng
        self.faults = faults
        self._heap: list[tuple[int, int, Output, Stream | None]] = []
        self._count = 0

    def arrival_ns(self, now_ns: int) -> int:
        """Draw the instant at which a stream delivers what happens now."""
        return now_ns + self._delay.draw_ns(self._rng) + self.faults.extra_ns()

    def reply(self, reply: Reply) -> None:
        """Queue a REST answer."""
        self._push(reply, None)

    def send(self, stream: Stream, kind: str, payload: Payload, now_ns: int, due_ns: int) -> None:
        """Queue the next frame of a subscription; it arrives at `due_ns`, or with the one before it."""
        if not stream.is_open:
            return
        if not self.faults.is_on:
            self._push(_numbered(stream, kind, payload, now_ns, due_ns), stream)
            return
        for told, harmed in self.faults.payloads(kind, payload):
            for output in self.faults.frames(_numbered(stream, told, harmed, now_ns, due_ns)):
                self._push_harmed(stream, output)

    def _push_harmed(self, stream: Stream, output: StreamFrame | StreamClosed) -> None:
        if isinstance(output, StreamClosed):
            # What is under way is lost with the connection.
            stream.is_open = False
            self._push(output, None)
        else:
            self._push(output, stream)

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


def _numbered(stream: Stream, kind: str, payload: Payload, now_ns: int, due_ns: int) -> StreamFrame:
    stream.seq += 1
    stream.due_ns = max(stream.due_ns, due_ns)
    sent = frame(payload, Stamp(now_ns, stream.seq))
    return StreamFrame(stream.number, stream.due_ns, kind, sent)
