"""The tally of a backtest: what the runner drains, hour by hour, becomes one outcome for each contestant.

Everything streams. Fills are kept until their last markout is known and then booked; stretches of ten seconds
are merged in pairs, samples and fills thinned by half, whenever there are too many. So memory stays flat,
while every figure is of all fills; only quantiles and plots are of those that are kept.

Scoring may start in mid-run: what was traded before counts only as the position held then, valued at the mid.
Pieces are put together until there is enough to do, because most of them are small.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from market_maker.backtest.books import Books
from market_maker.backtest.conclusions import Evidence, Source, conclusions
from market_maker.backtest.contestant_tally import ContestantTally, Entry, Span
from market_maker.backtest.intervals import block_count, estimates, intervals
from market_maker.backtest.outcome import HORIZONS_S, QUANTILES, Markout, Outcome
from market_maker.backtest.rows import LARGEST, Bench, MidRow, Piece, RiskRow, SampleRow
from market_maker.backtest.series import Mids
from market_maker.backtest.sums import exact_dot
from market_maker.domain import BPS, NS_PER_S
from market_maker.exposure import PUSD_PER_USD
from market_maker.fills.rows import EventKind, LogRow
from market_maker.grid import LadderState
from market_maker.instrument import Instrument
from market_maker.kernel import plain, row_dtype
from market_maker.recordings import store
from market_maker.recordings.store import Hour
from market_maker.round_trips import GridSummary, grid_summary
from market_maker.summary import FillSummary, InventorySummary, OrderCounts, RunSummary, Uptime

BUCKET_S: Final = 10
_ENOUGH_ROWS: Final = 200_000
_S_PER_MINUTE: Final = 60.0
_S_PER_DAY: Final = 86_400.0
_TRADES: Final = (store.TRADE_BUY, store.TRADE_SELL, store.TRADE_UNKNOWN)


class Played(Protocol):
    """What the tally asks a run at its end."""

    @property
    def bench(self) -> Bench:
        """The arrays as they are now."""
        ...

    def uptime(self, k: int) -> Uptime:
        """How contestant k spent its time."""
        ...

    def counts(self, k: int) -> OrderCounts:
        """Requests of contestant k."""
        ...


@dataclass
class _Market:
    """The market while it was scored."""

    volume_tick_lots: int = 0
    events: int = 0
    marks: tuple[int, int] = (0, 0)  # when scoring starts, and the last; 1/100 tick, 0: none


class Tally:
    """Adds up what a run of one market brings.

    Parameters
    ----------
    instrument : Instrument
        The market.
    entries : sequence of Entry
        In the order of the run's contestants.
    source : Source
        Where the recording comes from.
    score_from_ns : int
        What is before counts as the opening position only.
    """

    def __init__(
        self, instrument: Instrument, entries: Sequence[Entry], source: Source, score_from_ns: int = 0
    ) -> None:
        self._instrument = instrument
        self._source = source
        self._score_from_ns = score_from_ns
        self._market = _Market()
        self._entries = list(entries)
        self._positions = [0] * len(self._entries)  # when scoring starts
        self._accepted = np.zeros(len(self._entries), np.int64)
        self._contestants: list[ContestantTally] = []
        self._mids = Mids()
        self._log: list[NDArray[Any]] = []
        self._samples: list[NDArray[Any]] = []
        self._mid_rows: list[NDArray[Any]] = []
        self._rows = 0
        self._first_ns = -1
        self._seen_ns = -1
        self._start_ns = -1
        self._done_ns = -1  # everything before it is taken in
        self._edge_ns = -1  # last edge of a stretch
        self._edge_mid2 = 0

    def market(self, hour: Hour) -> None:
        """Take in a piece of the recording: the market's volume and its mark. Order with `take` is free."""
        scored = int(np.searchsorted(hour.venue_ns, self._score_from_ns))
        codes = hour.kind & store.CODE_MASK
        marks = np.flatnonzero(codes == store.MARK)
        opening, last = self._market.marks
        if marks.size:
            before = marks[hour.venue_ns[marks] <= self._score_from_ns]
            opening = int(hour.ticks[before[-1]]) if before.size else opening
            last = int(hour.ticks[marks[-1]])
        self._market.marks = (opening, last)
        trades = scored + np.flatnonzero(np.isin(codes[scored:], _TRADES))
        self._market.events += len(codes) - scored
        self._market.volume_tick_lots += exact_dot(
            hour.ticks[trades].astype(np.int64), hour.lots[trades].astype(np.int64)
        )

    def take(self, piece: Piece) -> None:
        """Take in what a run drained, in its order."""
        log = piece.log
        accepted = log["strategy"][(log["kind"] == EventKind.ACCEPTED) & (log["ns"] >= self._score_from_ns)]
        self._accepted += np.bincount(accepted, minlength=len(self._entries))
        money = log[(log["kind"] == EventKind.FILL) | (log["kind"] == EventKind.FUNDING)]
        for rows, into in ((money, self._log), (piece.mids, self._mid_rows), (piece.samples, self._samples)):
            if len(rows):
                into.append(rows)
                self._rows += len(rows)
        stamps = [rows["ns"] for rows in (log, piece.mids, piece.samples) if len(rows)]
        if not stamps:
            return
        self._seen_ns = max(self._seen_ns, *(int(ns[-1]) for ns in stamps))
        if self._first_ns < 0:
            self._first_ns = min(int(ns[0]) for ns in stamps)
        if self._rows >= _ENOUGH_ROWS:
            self._work(self._seen_ns)

    def finish(self, end_ns: int, run: Played, seed: int = 0) -> list[Outcome]:
        """End the books at an instant, or at the last one that was seen if that is later.

        Parameters
        ----------
        run : Played
            The run that was tallied, as it is at the end.
        seed : int
            Of the bootstrap; all contestants are drawn alike.
        """
        end_ns = max(end_ns, self._seen_ns, self._score_from_ns)
        if self._first_ns < 0:
            self._first_ns = end_ns
        self._work(end_ns + 1)
        if self._start_ns < 0:
            self._start(end_ns)
        self._close(end_ns)
        return [self._outcome(k, run, end_ns, seed) for k in range(len(self._contestants))]

    def _work(self, until_ns: int) -> None:
        """Take in everything that came; all before `until_ns` is complete."""
        log, mids = _joined(self._log, LogRow), _joined(self._mid_rows, MidRow)
        self._mids.add(mids["ns"], mids["mid2_ticks"])
        samples = _joined(self._samples, SampleRow)
        later = samples["ns"] >= until_ns
        self._log, self._mid_rows, self._samples = [], [], [samples[later]]
        self._rows = int(later.sum())
        if self._start_ns < 0:
            before = log["ns"] < self._score_from_ns
            self._note_positions(log[before])
            log = log[~before]
            if until_ns <= self._score_from_ns:
                self._log = [log]
                self._mids.forget(min(until_ns, self._score_from_ns))
                return
            self._start(max(self._score_from_ns, self._first_ns))
        scored = samples[~later & (samples["ns"] >= self._start_ns)]
        span = Span(self._done_ns, until_ns, self._edges(until_ns), self._edge_ns, self._edge_mid2)
        for contestant, rows, own_samples in zip(
            self._contestants, self._split(log), self._split(scored), strict=True
        ):
            contestant.advance(rows, own_samples, self._mids, span)
        self._pass_edges(span.edges)
        self._done_ns = until_ns
        self._mids.forget(until_ns)

    def _note_positions(self, log: NDArray[Any]) -> None:
        for k, rows in enumerate(self._split(log)):
            if len(rows):
                self._positions[k] = int(rows["position_lots"][-1])

    def _start(self, start_ns: int) -> None:
        # What happens at that instant is scored, a new mid too.
        opening2 = int(self._mids.before(np.array([start_ns]))[0])
        if not opening2 and len(self._mids.mid2):
            opening2 = int(self._mids.mid2[0])
        self._start_ns = self._done_ns = self._edge_ns = start_ns
        self._edge_mid2 = opening2
        self._contestants = [
            ContestantTally(self._instrument, entry, position, opening2)
            for entry, position in zip(self._entries, self._positions, strict=True)
        ]

    def _split(self, rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Rows of each contestant."""
        order = np.argsort(rows["strategy"], kind="stable")
        bounds = np.searchsorted(rows["strategy"][order], np.arange(len(self._entries) + 1))
        for first, last in pairwise(bounds.tolist()):
            yield rows[order[first:last]]

    def _edges(self, until_ns: int) -> NDArray[np.int64]:
        """Ends of the stretches that are complete before an instant."""
        step = BUCKET_S * NS_PER_S
        count = max(0, (until_ns - 1 - self._edge_ns) // step)
        edges: NDArray[np.int64] = self._edge_ns + step * np.arange(1, count + 1, dtype=np.int64)
        return edges

    def _close(self, end_ns: int) -> None:
        """Take in the last stretch, and the fills that never saw their markouts."""
        is_open = end_ns > self._edge_ns or self._edge_ns == self._start_ns
        edges = np.array([end_ns] if is_open else [], np.int64)
        span = Span(end_ns, end_ns, edges, self._edge_ns, self._edge_mid2)
        for contestant in self._contestants:
            contestant.close(self._mids, span)
        self._pass_edges(edges)

    def _pass_edges(self, edges: NDArray[np.int64]) -> None:
        if len(edges):
            self._edge_ns = int(edges[-1])
            self._edge_mid2 = int(self._mids.at(edges[-1:])[0])

    def _outcome(self, k: int, run: Played, end_ns: int, seed: int) -> Outcome:
        contestant = self._contestants[k]
        books, entry = contestant.books, contestant.entry
        buckets, fills = contestant.buckets, contestant.fills.rows
        seconds, accepted = (end_ns - self._start_ns) / NS_PER_S, int(self._accepted[k])
        found = intervals(buckets, seed)
        figures = estimates(buckets)
        market_volume = books.usd(self._market.volume_tick_lots)
        share = books.sums.volume / self._market.volume_tick_lots if self._market.volume_tick_lots else 0.0
        count = books.sums.buys + books.sums.sells
        liquidated = bool(run.bench.risks[k].liquidated)
        evidence = Evidence(count, block_count(buckets), seconds, share, found, liquidated)
        mean_held = float(buckets["held_s"].sum()) / seconds if seconds else 0.0
        volume = books.usd(books.sums.volume)
        per_day = float(volume) / mean_held / seconds * _S_PER_DAY if mean_held > 0.0 else 0.0
        variance = float(buckets["return2"].sum()) / seconds if seconds else 0.0
        return Outcome(
            label=entry.label,
            market=self._instrument.name,
            summary=self._summary(k, run, end_ns),
            tick=self._instrument.tick,
            step=self._instrument.step,
            intervals=found,
            market_volume_usd=market_volume,
            volume_share=share,
            conclusions=conclusions(evidence, self._source),
            fills=fills,
            fills_stride=contestant.fills.stride,
            curve=contestant.curve.rows,
            buckets=buckets,
            markouts=_markouts(books),
            seconds=seconds,
            liquidated=liquidated,
            turnover_per_day=per_day,
            max_drawdown_usd=books.drawdown_usd,
            fill_ratio=books.orders_filled / accepted if accepted else 0.0,
            time_to_fill_s=_quantiles(fills["age_ns"][fills["age_ns"] > 0] / NS_PER_S),
            queue_ahead_lots=_quantiles(fills["queue_ahead_lots"][fills["queue_ahead_lots"] >= 0]),
            pnl_per_hour_usd=figures.get("pnl_per_hour_usd", 0.0),
            pnl_per_inventory_risk=figures.get("pnl_per_inventory_risk", 0.0),
            sigma_bps=math.sqrt(variance * _S_PER_MINUTE) * BPS,
            mean_abs_inventory_usd=mean_held,
        )

    def _summary(self, k: int, run: Played, end_ns: int) -> RunSummary:
        contestant = self._contestants[k]
        books, label, sums = contestant.books, contestant.entry.label, contestant.books.sums
        moves = books.moves()
        end_mid2 = self._edge_mid2
        return RunSummary(
            name=label.name,
            market=self._instrument.name,
            profile=label.profile,
            fill_model=label.fill_model,
            uptime=run.uptime(k),
            pnl=books.pnl(end_mid2, self._market.marks),
            events=self._market.events,
            orders=run.counts(k),
            fills=FillSummary(
                sums.buys,
                sums.sells,
                1.0 - sums.taker_volume / sums.volume if sums.volume else 1.0,
                books.usd(sums.volume),
            ),
            inventory=InventorySummary(
                max_abs=books.usd_of_double(books.max_abs2),
                limit=_limit_usd(run.bench.risks[k]),
                end=books.usd_of_double((books.opening[0] + sums.lots) * end_mid2),
                limit_breaches=int(run.bench.risks[k].breaches),
            ),
            markouts_bps={s: moves[0, -1, s].bps if moves else 0.0 for s in HORIZONS_S},
            open_orders_at_end=int(run.bench.world.strategies[k].resting),
            rebates_credited=books.rebates_credited(end_ns),
            grid=self._grid(k, run) if contestant.entry.has_lines else None,
        )

    def _grid(self, k: int, run: Played) -> GridSummary:
        trips, ladder = self._contestants[k].trips.report(), run.bench.accounts[k].ladder
        whole = trips.closed_lots // max(int(ladder.line_lots), 1)
        found = grid_summary(self._instrument, LadderState(**plain(ladder)), trips)
        return replace(found, round_trips=whole)


def _joined(pieces: Sequence[NDArray[Any]], cls: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, row_dtype(cls)), *pieces])


def _limit_usd(risk: RiskRow) -> Decimal:
    """Position limit by the settings at the last mark, USD; 0: none."""
    limit = min(int(risk.max_position_pusd), int(risk.max_position_lots) * int(risk.lot_pusd) or LARGEST)
    return Decimal(limit) / PUSD_PER_USD if limit < LARGEST else Decimal(0)


def _markouts(books: Books) -> tuple[Markout, ...]:
    return tuple(
        Markout(
            side,
            level,
            seconds,
            moves.bps,
            moves.bps_from_price,
            moves.fills,
            float(books.usd(moves.volume_at_price)),
        )
        for (side, level, seconds), moves in sorted(books.moves().items())
    )


def _quantiles(values: NDArray[Any]) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.quantile(values, [int(name[1:]) / 100 for name in QUANTILES])
    return dict(zip(QUANTILES, found.tolist(), strict=True))


__all__ = ["Entry", "Played", "Source", "Tally"]
