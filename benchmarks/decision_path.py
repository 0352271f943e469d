"""From the bytes of a book frame to four decisions: how long it takes, and what a busy market adds to it.

The frames are the emulator's own, of a generated BTC-USD market, with its trades and marks between them. They
go the product's way: `decode_book`, `MarketDesk.on_book` (book and signals), then `MarketDesk.decide` for two
levels on both sides. What is decided comes to rest before the next frame, so slots and book know orders of
ours, and a long position makes one side reduce.

The same frames are played three times: as they were sent, one a second, and a thousand a second; and as they
were sent with every signal, guard, lean and the model's quotes on, and with all of them off. Time is
virtual: nothing sleeps. At one a second every frame ends a second of the signals' grids. At a thousand the
price moves a thousand times faster, which no guard lets pass; so at both of these rates the guards compute
but never trip, and the work is the same. The schedules take turns, block by block, and share the noise.
"""

import json
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple, cast

import numpy as np

from market_maker.clock import Entropy, SystemClock
from market_maker.config import Config, load_config
from market_maker.domain import NS_PER_S, Action, BookUpdate, Decision, NewOrder, OrderState, SlotId
from market_maker.emulator.exchange import Exchange
from market_maker.emulator.rules import ExchangeRules
from market_maker.emulator.scenarios import build_flows, instruments
from market_maker.emulator.streams import StreamFrame, Topic
from market_maker.exchanges.frames import decode_book, decode_trades
from market_maker.exchanges.quotes import decode_index, decode_mark
from market_maker.exchanges.replies import decode_candles
from market_maker.gateway import Candle, Fees, Gateway
from market_maker.instrument import Instrument
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.order_records import OrderSettings
from market_maker.order_table import OrderEventKind, TrackedOrder
from market_maker.orderbook_manager import BookSettings

MARKET: Final = "BTC-USD"
SCENARIO: Final = "mixed"
SEED: Final = 1
START_NS: Final = 1_767_571_200 * NS_PER_S
LIMITS: Final = {
    "total_p50_us": 60.0,
    "total_p99_us": 300.0,
    "p50_ratio_1000_to_1_per_s": 1.5,
    "decisions_p50_ratio_on_to_off": 2.0,
}
_BLOCK: Final = 100
_LIMIT_USD: Final = Decimal(10_000)
_GUARDS_NEVER_TRIP: Final = (
    "jump_sigmas=1000",
    "micro_vol_k=1000000",
    "micro_drift_k=1000000",
    "imbalance_threshold=1",
    "trend_strong_threshold=1",
)
_SECTIONS: Final = (
    "vol_regime_enabled",
    "trend_enabled",
    "toxicity_enabled",
    "jump_enabled",
    "imbalance_enabled",
    "flow_enabled",
    "funding_enabled",
    "micro_price_enabled",
)
_EVERYTHING_ON: Final = (
    *(f"{name}=true" for name in _SECTIONS),
    "micro_price_spreads_ticks=2",
    "micro_price_table=0.1,0.3,0.5,0.7,0.9",
    "reference_source=index",
    "reference_beta=0.5",
    "offset_mode=glft",
    "model_a_per_s=0.5",
    "model_k_per_bps=0.4",
    "model_sigma_bps=5",
)
_EVERYTHING_OFF: Final = (*(f"{name}=false" for name in _SECTIONS), "reference_source=none")
_STAGES: Final = ("decode", "book_and_observe", "four_decisions", "total")


class Recording(NamedTuple):
    """What the exchange sent, and what it said of the time before."""

    instrument: Instrument
    candles: list[Candle]
    frames: list[StreamFrame]

    def books(self) -> list[bytes]:
        """Book frames alone."""
        return [sent.frame for sent in self.frames if sent.kind == "book"]


@dataclass(frozen=True)
class Schedule:
    """When frames come: `gap_ns` apart, or (0) when they were sent; and the settings that go with it."""

    gap_ns: int
    overrides: tuple[str, ...] = ()


SCHEDULES: Final = {
    "as_sent": Schedule(0),
    "1_per_s": Schedule(NS_PER_S, _GUARDS_NEVER_TRIP),
    "1000_per_s": Schedule(NS_PER_S // 1000, _GUARDS_NEVER_TRIP),
    "everything_on": Schedule(0, _EVERYTHING_ON),
    "everything_off": Schedule(0, _EVERYTHING_OFF),
}


def record(minutes: float) -> Recording:
    """Let the exchange run by itself, and keep what one subscriber is sent."""
    listed, flows = instruments([MARKET]), build_flows(SCENARIO, [MARKET], SEED, START_NS)
    exchange = Exchange(listed, flows, ExchangeRules(), np.random.default_rng(SEED), START_NS)
    candles = decode_candles(exchange.queries.candles(MARKET, 20, START_NS))
    for kind in ("book", "trades", "mark", "index", "funding"):
        exchange.subscribe(Topic(kind, MARKET))
    end_ns = START_NS + round(minutes * 60 * NS_PER_S)
    frames: list[StreamFrame] = []
    while (due_ns := exchange.next_due_ns()) is not None and due_ns <= end_ns:
        frames += [output for output in exchange.advance(due_ns) if isinstance(output, StreamFrame)]
    return Recording(listed[0], candles, frames)


class RestingOrders(OrderManager):
    """Orders that rest as soon as they are wanted: no request leaves the house."""

    def __init__(self, entropy: Entropy) -> None:
        gateway = cast("Gateway", None)  # nothing is ever sent
        super().__init__(gateway, SystemClock(), entropy, OrderSettings(order_tombstones_kept=100))
        self._names = entropy

    def carry_out(self, slot: SlotId, decision: Decision, now_ns: int) -> None:
        """Let a decision take effect at once."""
        old = self.slot_order(slot)
        if old is not None and decision.action in (Action.REPLACE, Action.CANCEL):
            self._hear(old, OrderEventKind.REPORTED_CANCELLED)
        if decision.action in (Action.PLACE, Action.REPLACE):
            order = NewOrder(
                market=slot.market,
                external_id=f"mm-{slot.level}-{self._names.token(12)}",
                side=slot.side,
                price_ticks=decision.price_ticks,
                size_lots=decision.size_lots,
                post_only=True,
                reduce_only=decision.reduce_only,
                immediate_or_cancel=False,
                expire_ns=now_ns + 90 * NS_PER_S,
                nonce=self._names.nonce(),
            )
            self._track(TrackedOrder(order, slot, now_ns, now_ns, OrderState.LIVE))


@dataclass
class Samples:
    """Durations of one round on one schedule, ns, one entry a frame, and what was decided."""

    decode: list[int] = field(default_factory=list)
    book_and_observe: list[int] = field(default_factory=list)
    four_decisions: list[int] = field(default_factory=list)
    total: list[int] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    slots_resting: int = 0


class Host:
    """One desk fed with the recording on a schedule; what it decides rests before the next frame."""

    def __init__(self, recording: Recording, schedule: Schedule, samples: Samples) -> None:
        config = load_config(overrides=schedule.overrides, environ={}, env_file=None)
        self._instrument = recording.instrument
        self._desk = _desk(config, recording)
        self._orders = RestingOrders(Entropy(SEED))
        self._schedule = schedule
        self._samples = samples
        self._now_ns = START_NS
        self._perf_ns: Callable[[], int] = SystemClock().perf_ns

    def hear(self, sent: StreamFrame, *, measured: bool) -> None:
        """Take one frame of any kind in."""
        if self._schedule.gap_ns == 0:
            self._now_ns = sent.due_ns
        elif sent.kind == "book":
            self._now_ns += self._schedule.gap_ns
        if sent.kind == "book":
            self._on_book(sent.frame, measured=measured)
        elif sent.kind == "trades":
            for trade in decode_trades(sent.frame, self._instrument, self._now_ns):
                self._desk.on_trade(trade, self._now_ns)
        elif sent.kind == "mark":
            self._on_mark(decode_mark(sent.frame, self._instrument).price)
        elif sent.kind == "index":
            self._desk.on_index(decode_index(sent.frame, self._instrument).price, self._now_ns)

    def _on_mark(self, price: Decimal) -> None:
        self._desk.on_mark(price, self._now_ns)
        limit = self._instrument.lots_down(_LIMIT_USD / price)
        self._desk.set_account(limit // 5, (limit, limit))

    def _on_book(self, frame: bytes, *, measured: bool) -> None:
        perf_ns, desk, now_ns = self._perf_ns, self._desk, self._now_ns
        begun = perf_ns()
        update: BookUpdate = decode_book(frame, self._instrument, now_ns)
        decoded = perf_ns()
        desk.on_book(update, now_ns)
        observed = perf_ns()
        decisions = [desk.decide(slot, now_ns) for slot in desk.slots]
        decided = perf_ns()
        if measured:
            self._note((begun, decoded, observed, decided), decisions)
        self._carry_out(decisions)

    def _note(self, instants: tuple[int, int, int, int], decisions: Sequence[Decision]) -> None:
        begun, decoded, observed, decided = instants
        samples = self._samples
        samples.decode.append(decoded - begun)
        samples.book_and_observe.append(observed - decoded)
        samples.four_decisions.append(decided - observed)
        samples.total.append(decided - begun)
        samples.actions.update(decision.action.name for decision in decisions)
        samples.reasons.update(decision.reason.name for decision in decisions)
        samples.slots_resting += len(self._orders.working())

    def _carry_out(self, decisions: Sequence[Decision]) -> None:
        desk, now_ns = self._desk, self._now_ns
        if all(decision.action == Action.KEEP for decision in decisions):
            return
        for slot, decision in zip(desk.slots, decisions, strict=True):
            if decision.action != Action.KEEP:
                self._orders.carry_out(slot, decision, now_ns)
                desk.sent(slot, now_ns)
        desk.write_slots(self._orders, now_ns)


def _desk(config: Config, recording: Recording) -> MarketDesk:
    fees = Fees(Decimal(0), Decimal("0.00025"))
    desk = MarketDesk(
        recording.instrument,
        fees,
        config.strategy_params(MARKET),
        config.of(BookSettings, MARKET),
        mark_band=0.03,
        latency_s=0.1,
    )
    desk.seed(recording.candles)
    return desk


def _blocks(frames: Sequence[StreamFrame]) -> Iterator[Sequence[StreamFrame]]:
    for start in range(0, len(frames), _BLOCK):
        yield frames[start : start + _BLOCK]


def _round(recording: Recording, warm_up: int) -> dict[str, Samples]:
    """Play the recording once on every schedule; the first `warm_up` frames are not counted."""
    samples = {name: Samples() for name in SCHEDULES}
    hosts = [Host(recording, schedule, samples[name]) for name, schedule in SCHEDULES.items()]
    for index, block in enumerate(_blocks(recording.frames)):
        for host in hosts:
            for sent in block:
                host.hear(sent, measured=index * _BLOCK >= warm_up)
    return samples


def _spread_us(durations_ns: Sequence[int]) -> dict[str, float]:
    p50, p99 = np.percentile(np.array(durations_ns, np.float64) / 1e3, (50.0, 99.0))
    return {"p50": round(float(p50), 2), "p99": round(float(p99), 2)}


def _shares(counts: Counter[str]) -> dict[str, float]:
    return {name: round(count / counts.total(), 4) for name, count in counts.most_common()}


def _report(rounds: Sequence[Samples]) -> dict[str, Any]:
    """All rounds of one schedule together."""
    durations = {
        f"{stage}_us": _spread_us([ns for each in rounds for ns in vars(each)[stage]]) for stage in _STAGES
    }
    count = sum(len(each.total) for each in rounds)
    return {
        "samples": count,
        **durations,
        "actions": _shares(sum((each.actions for each in rounds), Counter())),
        "reasons": _shares(sum((each.reasons for each in rounds), Counter())),
        "orders_resting": round(sum(each.slots_resting for each in rounds) / count, 2),
    }


def _figures(played: Sequence[dict[str, Samples]]) -> dict[str, float]:
    """The figures that have a limit, from all durations of some rounds."""
    sent, slow, fast = (
        _spread_us([ns for each in played for ns in each[name].total])
        for name in ("as_sent", "1_per_s", "1000_per_s")
    )
    on, off = (
        _spread_us([ns for each in played for ns in each[name].four_decisions])
        for name in ("everything_on", "everything_off")
    )
    return {
        "total_p50_us": sent["p50"],
        "total_p99_us": sent["p99"],
        "p50_ratio_1000_to_1_per_s": round(fast["p50"] / slow["p50"], 3),
        "decisions_p50_ratio_on_to_off": round(on["p50"] / off["p50"], 3),
    }


def _json_loads_us(frames: Sequence[bytes]) -> float:
    """Median of the standard library's parser on the same bytes: a yardstick of this machine."""
    perf_ns = SystemClock().perf_ns
    durations = []
    for frame in frames:
        begun = perf_ns()
        json.loads(frame)
        durations.append(perf_ns() - begun)
    return _spread_us(durations)["p50"]


def main(minutes: float = 20.0, rounds: int = 5, warm_up: int = 1000) -> dict[str, Any]:
    """Measure.

    Parameters
    ----------
    minutes : float
        Market time of the recording.
    rounds : int
        How often it is played from its beginning; all rounds are counted together, and the one with the
        smallest p99 is also shown alone: it is the one that other programs disturbed least.
    warm_up : int
        First frames of each round that are not counted.
    """
    recording = record(minutes)
    played = [_round(recording, warm_up) for _ in range(rounds)]
    books = recording.books()
    measured = _figures(played)
    each_round = [_figures([samples]) for samples in played]
    json_loads_us = _json_loads_us(books)
    return {
        "benchmark": "decision_path",
        "python": platform.python_version(),
        "market": MARKET,
        "scenario": SCENARIO,
        "book_frames": len(books),
        "frame_bytes": _quantiles([len(frame) for frame in books]),
        "levels_in_a_frame": _quantiles([frame.count(b'"p":') for frame in books]),
        "schedules": {name: _report([each[name] for each in played]) for name in SCHEDULES},
        "measured": measured,
        "limits": LIMITS,
        "met": {name: measured[name] <= limit for name, limit in LIMITS.items()},
        "quietest_round": min(each_round, key=lambda figures: figures["total_p99_us"]),
        "json_loads_p50_us": json_loads_us,
        "total_p50_in_json_loads": round(measured["total_p50_us"] / json_loads_us, 2),
    }


def _quantiles(values: Sequence[int]) -> dict[str, float]:
    p50, p99 = np.percentile(values, (50.0, 99.0))
    return {"p50": float(p50), "p99": float(p99), "max": float(max(values))}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(), indent=2) + "\n")
