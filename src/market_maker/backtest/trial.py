"""A trial: one recorded market, everybody who plays in it, and what became of them.

The span is cut in two. On the first part the models are calibrated and the symmetric baseline finds its
width; everybody already quotes in it, so that signals and queues are warm when scoring begins, but only the
second part counts. The market is read hour by hour, so memory does not grow with its length.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from market_maker.backtest.conclusions import Source
from market_maker.backtest.contest import Conditions, Entrant, lineup
from market_maker.backtest.fill_models import Fees, FillModel, are_sides_sure, models_for
from market_maker.backtest.funding import NO_FUNDING, Funding, with_funding
from market_maker.backtest.host import MarketMakerRun, RunSettings
from market_maker.backtest.outcome import Outcome
from market_maker.backtest.pieces import between, sliced
from market_maker.backtest.tally import Entry, Tally
from market_maker.backtest.yardsticks import Yardsticks, find_yardsticks
from market_maker.domain import NS_PER_S
from market_maker.fitting.calibration import Part, first_part
from market_maker.orderbook_manager import BookSettings
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import CODES, FUNDING, Hour, MarketInfo, Store

EVER: Final = (0, 2**62)
_CURVE_POINTS: Final = 5_000
_SHORTEST_SAMPLE_S: Final = 0.5
_ROWS: Final = 65_536

# What is told while a trial runs: the market, what is done, how much of it is done, ns of how many.
Told = Callable[[str, str, int, int], None]


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """What all markets of a backtest share."""

    latencies_s: tuple[float, ...] = (0.01, 0.25, 1.0)  # each way
    fill_models: tuple[str, ...] = ()  # those of the market where empty
    fees: Fees = field(default_factory=Fees)
    calibrate_share: float = 0.2  # of the span, before anything is scored
    span_ns: tuple[int, int] = EVER  # read from the first, included, to the second
    seed: int = 1  # of the bootstrap
    funding: Mapping[str, Funding] = field(default_factory=dict)  # of markets that were recorded without
    start_equity_usd: float = 10_000.0
    book: BookSettings = field(default_factory=BookSettings)


@dataclass(frozen=True, slots=True)
class Span:
    """Of a market: the first stamp that is read, the one from which on is scored, and the last, ns."""

    start_ns: int
    score_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of one market's contest."""

    market: str
    span: Span
    events: int
    models: tuple[FillModel, ...]
    yardsticks: Yardsticks
    outcomes: list[Outcome]


def run_trial(
    store: Store, market: str, entered: Sequence[Entrant], settings: TrialSettings, told: Told
) -> Trial:
    """Play a market.

    Raises
    ------
    RecordingError
        If a file is not what its description says, or the span holds nothing.
    """
    info, instrument = store.info(market), store.instrument(market)
    span = find_span(info, settings)
    models = models_for(info, settings.fill_models)
    conditions = Conditions(models, settings.latencies_s, settings.fees)
    shared = RunSettings(book=settings.book, start_equity_usd=settings.start_equity_usd)
    watched = _Watched(market, span, funding_of(info, settings), told)
    yardsticks = find_yardsticks(
        lambda: watched.hours(store, "fits", span.score_ns),
        Part(span.start_ns, span.score_ns),
        entered,
        instrument,
        conditions,
        shared,
    )
    labels, contestants = lineup(entered, conditions, instrument, yardsticks.quoters)
    run = MarketMakerRun(
        instrument, contestants, replace(shared, score_from_ns=span.score_ns, sample_s=_sample_s(span))
    )
    entries = [Entry(label, player.fills) for label, player in zip(labels, contestants, strict=True)]
    source = Source(info.venue, sides_sure=are_sides_sure(info))
    tally = Tally(instrument, entries, source, span.score_ns)
    for hour in watched.hours(store, "plays", span.end_ns + 1):
        tally.market(hour)
        for piece in run.feed(hour):
            tally.take(piece)
    for piece in run.finish():
        tally.take(piece)
    return Trial(market, span, run.rows, models, yardsticks, tally.finish(span.end_ns, run, settings.seed))


def find_span(info: MarketInfo, settings: TrialSettings) -> Span:
    """Cut a market's span into the part to calibrate on and the part that is scored.

    Raises
    ------
    RecordingError
        If nothing of the market lies in the span that is wanted.
    """
    start_ns = max(settings.span_ns[0], info.hours[0].first_ns)
    end_ns = min(settings.span_ns[1] - 1, info.hours[-1].last_ns)
    if end_ns - start_ns < NS_PER_S:
        msg = f"{info.market}: expected a second of events in the span, was a recording of another time"
        raise RecordingError(msg)
    return Span(start_ns, first_part(start_ns, end_ns, settings.calibrate_share).end_ns, end_ns)


def funding_of(info: MarketInfo, settings: TrialSettings) -> Funding:
    """Payments to put into a market: those of the table, none where the recording has its own."""
    has_own = info.counts.get(CODES[FUNDING], 0) > 0
    return NO_FUNDING if has_own else settings.funding.get(info.market, NO_FUNDING)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A market as it is read, with funding; tells how far that is."""

    market: str
    span: Span
    funding: Funding
    told: Told

    def hours(self, store: Store, doing: str, to_ns: int) -> Iterator[Hour]:
        start_ns, total_ns = self.span.start_ns, to_ns - self.span.start_ns
        self.told(self.market, doing, 0, total_ns)
        for hour in with_funding(between(store.hours(self.market), start_ns, to_ns), self.funding):
            # Small enough to be stopped soon, and for a bar that moves.
            for piece in sliced(hour, _ROWS):
                yield piece
                self.told(self.market, doing, int(piece.venue_ns[-1]) - start_ns, total_ns)
        self.told(self.market, doing, total_ns, total_ns)


def _sample_s(span: Span) -> float:
    return max((span.end_ns - span.score_ns) / NS_PER_S / _CURVE_POINTS, _SHORTEST_SAMPLE_S)
