"""A trial: one recorded market, everybody who plays in it, and what became of them.

The span is cut in two. On the first part the models are calibrated and the symmetric baseline finds its
width; everybody already quotes in it, so that signals and queues are warm when scoring begins, but only the
second part counts. The market is read hour by hour, so memory does not grow with its length. Markets are
played each with an account of its own, or together in one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from market_maker.backtest import look_ahead
from market_maker.backtest.conclusions import Source
from market_maker.backtest.contest import Conditions, Entrant, lineup
from market_maker.backtest.fill_models import Fees, FillModel, are_sides_sure, models_for
from market_maker.backtest.funding import NO_FUNDING, Funding, with_funding
from market_maker.backtest.host import Contestant, MarketMakerRun, RunSettings
from market_maker.backtest.joint_account import JointAccounts, JointSeat, JointSettings
from market_maker.backtest.look_ahead import Checked
from market_maker.backtest.outcome import Label, Outcome
from market_maker.backtest.pieces import between, sliced
from market_maker.backtest.portfolio import Seat, SharedAccount, side_by_side
from market_maker.backtest.reference import Reference, reference_of, with_reference
from market_maker.backtest.tally import Entry, Tally
from market_maker.backtest.yardsticks import Yardsticks, find_yardsticks
from market_maker.cross_market import modelled_market
from market_maker.domain import NS_PER_S
from market_maker.fitting.calibration import Part, first_part
from market_maker.instrument import Instrument
from market_maker.orderbook_manager import BookSettings
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import CODES, FUNDING, Hour, MarketInfo, Store
from market_maker.risk_manager import RiskSettings
from market_maker.strategy_rows import has_lines

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
    look_ahead_instants: int = 0  # at which it is checked that nothing looks ahead
    reference: str = ""  # market of the same store that is the outside reference of all others


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
    checked: list[Checked]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A market's contest before it is played: who plays, and by which rules."""

    instrument: Instrument
    span: Span
    models: tuple[FillModel, ...]
    yardsticks: Yardsticks
    labels: list[Label]
    contestants: list[Contestant]
    rules: RunSettings

    def new_run(self) -> MarketMakerRun:
        """A run in which nothing has happened yet."""
        return MarketMakerRun(self.instrument, self.contestants, self.rules)


class _Match:
    """A market's contest while it is played."""

    def __init__(
        self, store: Store, market: str, entered: Sequence[Entrant], settings: TrialSettings, told: Told
    ) -> None:
        info, span = store.info(market), find_span(store.info(market), settings)
        self._settings = settings
        self._watched = Watched(
            store, market, span, funding_of(info, settings), told, _reference_for(market, store, settings)
        )
        self.contest = prepare(info, self._watched, entered, settings)
        self.run = self.contest.new_run()
        players = zip(self.contest.labels, self.contest.contestants, strict=True)
        entries = [Entry(label, player.rules(), has_lines(player.params)) for label, player in players]
        source = Source(info.venue, sides_sure=are_sides_sure(info))
        self._tally = Tally(self.contest.instrument, entries, source, span.score_ns)

    def hours(self) -> Iterator[Hour]:
        """The market, in pieces."""
        return self._watched.hours("plays", self._watched.span.end_ns + 1)

    def feed(self, piece: Hour) -> None:
        """Play a piece."""
        self._tally.market(piece)
        for played in self.run.feed(piece):
            self._tally.take(played)

    def finish(self) -> Trial:
        """Add up what was played."""
        contest, span = self.contest, self._watched.span
        for played in self.run.finish():
            self._tally.take(played)
        outcomes = self._tally.finish(span.end_ns, self.run, self._settings.seed)
        checked = _look_ahead(contest, self._watched, self._settings.look_ahead_instants)
        return Trial(
            self._watched.market, span, self.run.rows, contest.models, contest.yardsticks, outcomes, checked
        )


def run_trial(
    store: Store, market: str, entered: Sequence[Entrant], settings: TrialSettings, told: Told
) -> Trial:
    """Play a market.

    Raises
    ------
    RecordingError
        If a file is not what its description says, or the span holds nothing.
    """
    match = _Match(store, market, entered, settings, told)
    for piece in match.hours():
        match.feed(piece)
    return match.finish()


def run_together(
    store: Store, entered: Mapping[str, Sequence[Entrant]], settings: TrialSettings, told: Told
) -> list[Trial]:
    """Play markets beside each other in one account, over the time that all of them have.

    Raises
    ------
    RecordingError
        If a file is not what its description says, or the markets have no time in common.
    """
    spans = [find_span(store.info(market), settings) for market in entered]
    common = (max(span.start_ns for span in spans), min(span.end_ns for span in spans) + 1)
    if common[1] - common[0] < NS_PER_S:
        msg = f"{', '.join(entered)}: expected a second that all have events in, was none"
        raise RecordingError(msg)
    shared = replace(settings, span_ns=common)
    matches = [_Match(store, market, players, shared, told) for market, players in entered.items()]
    account, joint = SharedAccount(*_seated(matches)), JointAccounts(_joined(matches, entered))
    for slices in side_by_side([match.hours() for match in matches], common[0]):
        for match, pieces in zip(matches, slices, strict=True):
            for piece in pieces:
                match.feed(piece)
        account.look()
        joint.look()
    return [match.finish() for match in matches]


def _seated(matches: "Sequence[_Match]") -> tuple[dict[Label, list[Seat]], dict[Label, RiskSettings]]:
    """Where everybody plays; who plays by another fill model or latency is somebody else."""
    seats: dict[Label, list[Seat]] = {}
    risks: dict[Label, RiskSettings] = {}
    for match in matches:
        for row, (label, player) in enumerate(
            zip(match.contest.labels, match.contest.contestants, strict=True)
        ):
            seats.setdefault(label, []).append(Seat(match.run, row))
            risks.setdefault(label, player.risk)
    return seats, risks


def _joined(
    matches: "Sequence[_Match]", entered: Mapping[str, Sequence[Entrant]]
) -> list[tuple[list[JointSeat], JointSettings]]:
    """Everybody's markets together. Who quotes a market by a baseline's line sees no other by a model."""
    seats: dict[Label, list[JointSeat]] = {}
    for market, match in zip(entered, matches, strict=True):
        players = zip(match.contest.labels, match.contest.contestants, strict=True)
        for row, (label, player) in enumerate(players):
            seat = JointSeat(market, match.run, row, modelled_market(player.params))
            seats.setdefault(label, []).append(seat)
    settings = {entrant.name: entrant.joint for players in entered.values() for entrant in players}
    return [(found, settings[label.name]) for label, found in seats.items()]


def _look_ahead(contest: Prepared, watched: "Watched", count: int) -> list[Checked]:
    if not count:
        return []
    span, found = contest.span, []
    watched.told(watched.market, "checks", 0, count)
    at = look_ahead.instants(span.score_ns, span.end_ns, count)
    for checked in look_ahead.check(contest.new_run, watched.between, span.start_ns, at):
        found.append(checked)
        watched.told(watched.market, "checks", len(found), count)
    return found


def prepare(
    info: MarketInfo, watched: "Watched", entered: Sequence[Entrant], settings: TrialSettings
) -> Prepared:
    """Fit the baselines on the first part, and line everybody up."""
    instrument, span = watched.store.instrument(info.market), watched.span
    models = models_for(info, settings.fill_models)
    conditions = Conditions(models, settings.latencies_s, settings.fees)
    shared = RunSettings(book=settings.book, start_equity_usd=settings.start_equity_usd)
    yardsticks = find_yardsticks(
        lambda: watched.hours("fits", span.score_ns),
        Part(span.start_ns, span.score_ns),
        entered,
        instrument,
        conditions,
        shared,
    )
    labels, contestants = lineup(entered, conditions, instrument, yardsticks.quoters)
    rules = replace(shared, score_from_ns=span.score_ns, sample_s=_sample_s(span))
    return Prepared(instrument, span, models, yardsticks, labels, contestants, rules)


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


def _reference_for(market: str, store: Store, settings: TrialSettings) -> Reference | None:
    """Outside prices to put into a market; none of its own."""
    is_other = settings.reference not in ("", market)
    return reference_of(store, settings.reference) if is_other else None


@dataclass(frozen=True, slots=True)
class Watched:
    """A market as it is read, with funding and outside prices; tells how far that is."""

    store: Store
    market: str
    span: Span
    funding: Funding
    told: Told
    reference: Reference | None = None

    def hours(self, doing: str, to_ns: int) -> Iterator[Hour]:
        """Events of the span up to and without an instant, in pieces."""
        start_ns, total_ns = self.span.start_ns, to_ns - self.span.start_ns
        self.told(self.market, doing, 0, total_ns)
        for piece in self.between(start_ns, to_ns):
            yield piece
            self.told(self.market, doing, int(piece.venue_ns[-1]) - start_ns, total_ns)
        self.told(self.market, doing, total_ns, total_ns)

    def between(self, from_ns: int, to_ns: int) -> Iterator[Hour]:
        """Events from an instant up to and without another, which begin with the book of then."""
        hours = with_funding(between(self.store.hours(self.market), from_ns, to_ns), self.funding)
        if self.reference is not None:
            hours = with_reference(hours, self.reference, (from_ns, to_ns))
        # Small enough to be stopped soon, and for a bar that moves.
        return (piece for hour in hours for piece in sliced(hour, _ROWS))


def _sample_s(span: Span) -> float:
    return max((span.end_ns - span.score_ns) / NS_PER_S / _CURVE_POINTS, _SHORTEST_SAMPLE_S)
