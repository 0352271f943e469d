"""What the mid is expected to become, given the sizes at the best prices: Stoikov's micro-price, estimated.

The best quotes are a Markov chain, one step a change of price or size. Its states are the cells of the table
of `market_maker.micro_price`, for either sign of the balance b = (bids − asks)/(bids + asks). From a state, Q
are the chances to go to another without a move of the mid, r = R¹k is the expected move in one step, R² the
chances to move and arrive in another. Then g¹ = (1 − Q)⁻¹r is the expected next move of the mid,
B = (1 − Q)⁻¹R² where that leaves the chain, and g = g¹ + B·g¹ + B²·g¹ + … what all moves to come add up to
(Stoikov 2018; models.md, section 4).

The data is made symmetric: each step also counts as its mirror image, bids and asks exchanged. Then g is odd
in b, and half of the states are enough: a step from one sign of b to the other counts −1 in Q and R². That is
the same sum, without the constant part that B would keep for ever. An exact balance expects nothing.

Where a tick is small, g exceeds the half-spread: the balance foretells more than the next tick. The table is
cut to the spread, and the record has it uncut too. Errors come from leaving out a block of time at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_maker.fitting.intensity import BLOCKS, block_edges_ns
from market_maker.fitting.quotes import SizedQuotes
from market_maker.fitting.record import MicroPrice
from market_maker.micro_price import COLUMNS, SPREADS

Floats = NDArray[np.float64]

_WIDEST: Final = 1 << 12  # ticks; a wider spread counts as this wide
_FINE: Final = COLUMNS * (_WIDEST + 1)


@dataclass(frozen=True)
class MicroPriceFitSettings:
    """When the spread gets a row of its own in the table, and when there is no table."""

    least_share: float = 0.1  # of all steps that begin in a row
    least_steps: int = 100  # that begin in a cell of the table
    least_moves: int = 10  # of the mid, from a cell
    most_error: float = 0.25  # standard error of the table, in half-spreads: root mean square over steps
    most_terms: int = 100  # of the sum, by which it has converged
    tolerance: float = 1e-4  # last term of a sum that has converged, in half-spreads


class Chain(NamedTuple):
    """The chain's odd half: by state, steps that begin there and those that move the mid; Q, R² and r."""

    steps: Floats
    moves: Floats
    stay: Floats
    leave: Floats
    drift: Floats  # ticks


class StepCounts:
    """Steps of the best quotes from state to state, by exact spread and block of time.

    Parameters
    ----------
    start_ns, end_ns : int
        The part of the recording that the blocks divide; steps that end before it do not count.
    """

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self._start_ns = start_ns
        self._edges = block_edges_ns(start_ns, end_ns)[1:-1]
        self._last = SizedQuotes(*(np.zeros(1, np.int64) for _ in range(5)))
        self._keys: NDArray[np.int64] = np.zeros(0, np.int64)
        self._sums: Any = np.zeros((5, 0))

    def take(self, quotes: SizedQuotes) -> None:
        """Count the steps of quotes that follow the ones before; none leads over time without a book."""
        if not quotes.ns.size:
            return
        ns, bid, ask, bids, asks = (np.concatenate(pair) for pair in zip(self._last, quotes, strict=True))
        self._last = SizedQuotes(*(column[-1:] for column in quotes))
        known = (bid > 0) & (ask > bid) & (bids + asks > 0)
        spread = np.clip(ask - bid, 0, _WIDEST)
        weight = np.abs(bids - asks) / np.maximum(bids + asks, 1)
        state = spread * COLUMNS + np.minimum((weight * COLUMNS).astype(np.int64), COLUMNS - 1)
        block = np.searchsorted(self._edges, ns, side="right")
        sign = np.sign(bids - asks).astype(np.float64)
        is_step = known[:-1] & known[1:] & (ns[1:] >= self._start_ns)
        before, after = sign[:-1][is_step], sign[1:][is_step]
        shift = np.diff(bid + ask)[is_step] / 2.0
        moves = shift != 0.0
        flow = before * after
        sums = (np.ones(len(shift)), moves, np.where(moves, 0.0, flow), moves * flow, before * shift)
        self._add(((block[1:] * _FINE + state[:-1]) * _FINE + state[1:])[is_step], np.array(sums))

    def _add(self, keys: NDArray[np.int64], sums: Floats) -> None:
        self._keys, at = np.unique(np.concatenate([self._keys, keys]), return_inverse=True)
        both = np.concatenate([self._sums, sums], axis=1)
        self._sums = np.array([_totals(at, row, len(self._keys)) for row in both])

    def by_spread(self) -> Floats:
        """Steps by the spread that they begin with, ticks from 0."""
        return _totals(self._keys // _FINE % _FINE // COLUMNS, self._sums[0], _WIDEST + 1)

    def chain(self, edges: NDArray[np.int64], without: int = -1) -> Chain:
        """The chain, without a block of time; rows end with the spreads given, and the last with any."""
        size = COLUMNS * len(edges)
        rows = np.minimum(np.searchsorted(edges, np.arange(_WIDEST + 1)), len(edges) - 1)
        states = (rows[:, None] * COLUMNS + np.arange(COLUMNS)).ravel()
        block, pair = np.divmod(self._keys, _FINE * _FINE)
        counted = block != without
        begin, end = states[pair[counted] // _FINE], states[pair[counted] % _FINE]
        steps, moves, stay, leave, drift = self._sums[:, counted]
        counts = _totals(begin, steps, size)
        each = np.maximum(counts, 1.0)
        at, cells = begin * size + end, size * size
        return Chain(
            counts,
            _totals(begin, moves, size),
            _totals(at, stay, cells).reshape(size, size) / each[:, None],
            _totals(at, leave, cells).reshape(size, size) / each[:, None],
            _totals(begin, drift, size) / each,
        )


def fit_micro_price(counts: StepCounts, settings: MicroPriceFitSettings | None = None) -> MicroPrice:
    """Estimate the table, with as many rows as the data can fill, or say why not."""
    rule = settings or MicroPriceFitSettings()
    by_spread = counts.by_spread()
    most = _edges(by_spread, rule.least_share) if by_spread.any() else np.zeros(0, np.int64)
    found = MicroPrice(refused="expected changes of the best quotes or their sizes, was none")
    for rows in range(len(most), 0, -1):
        edges = _thinned(most, by_spread, rows)
        found = _fitted(counts, edges, np.repeat(_mean_spreads(edges, by_spread) / 2.0, COLUMNS), rule)
        if not found.refused:
            break
    return found


def _fitted(
    counts: StepCounts, edges: NDArray[np.int64], half: Floats, rule: MicroPriceFitSettings
) -> MicroPrice:
    """Table of the rows given, half of whose spread is given cell by cell; or why not."""
    chain = counts.chain(edges)
    steps, moves = int(chain.steps.sum()), int(chain.moves.sum())
    why = _too_little(chain, rule)
    if why:
        return MicroPrice(steps=steps, moves=moves, refused=why)
    shares, terms = expected_moves(chain, half, rule)
    if not terms:
        was = "it does not: the mid goes one way, and the balance does not turn"
        why = f"expected the moves to come to add up within {rule.most_terms} terms, was a sum of which {was}"
        return MicroPrice(steps=steps, moves=moves, refused=why)
    errors = _errors([counts.chain(edges, block) for block in range(BLOCKS)], half, rule)
    error = float(np.sqrt(errors**2 @ chain.steps / steps))
    if not error <= rule.most_error:
        was = f"{error:.2f} (standard error): too few moves, or a market that changed"
        why = f"expected the table to within {rule.most_error:g} half-spreads, was {was}"
        return MicroPrice(steps=steps, moves=moves, refused=why)
    return MicroPrice(
        table=tuple(np.clip(shares, -1.0, 1.0).tolist()),
        spreads_ticks=tuple(edges.astype(np.float64).tolist()),
        uncut=tuple(shares.tolist()),
        errors=tuple(errors.tolist()),
        steps=steps,
        moves=moves,
        terms=terms,
        refused="",
    )


def expected_moves(chain: Chain, half: Floats, rule: MicroPriceFitSettings) -> tuple[Floats, int]:
    """What all moves to come add up to, half-spreads, and after how many of them; 0 if the sum goes on."""
    # A state that no move leaves would make a row of Q that sums to one: it has no inverse.
    until_move = np.eye(len(half)) - chain.stay
    term = np.linalg.solve(until_move, chain.drift)
    onward = np.linalg.solve(until_move, chain.leave)
    total = term.copy()
    for terms in range(1, rule.most_terms + 1):
        if np.abs(term / half).max() <= rule.tolerance:
            return total / half, terms
        term = onward @ term
        total += term
    return total / half, 0


def _errors(chains: Sequence[Chain], half: Floats, rule: MicroPriceFitSettings) -> Floats:
    """Standard errors of the table's cells, infinite where a cell hangs on one block of time."""
    if any(not chain.moves.all() for chain in chains):
        return np.full(len(half), np.inf)
    left = [np.clip(expected_moves(chain, half, rule)[0], -1.0, 1.0) for chain in chains]
    errors: Floats = np.sqrt((len(chains) - 1) * np.var(left, axis=0))
    return errors


def _edges(by_spread: Floats, least_share: float) -> NDArray[np.int64]:
    """Widest spread of each row: rows from the narrowest on, each with its share of the steps at least."""
    least = max(least_share, 1.0 / SPREADS) * by_spread.sum()
    edges, held = [], 0.0
    for spread, steps in enumerate(by_spread.tolist()):
        held += steps
        if held >= least:
            edges.append(spread)
            held = 0.0
    # What is left over is too little for a row, and belongs to the last.
    edges[-1] = int(np.flatnonzero(by_spread)[-1])
    return np.array(edges, np.int64)


def _thinned(edges: NDArray[np.int64], by_spread: Floats, rows: int) -> NDArray[np.int64]:
    """Fewer rows: the two neighbours with the fewest steps are joined, until so many are left."""
    kept = edges.tolist()
    passed = np.cumsum(by_spread)
    while len(kept) > rows:
        held = np.diff([0.0, *(passed[edge] for edge in kept)])
        at = int(np.argmin(held[:-1] + held[1:]))
        del kept[at]
    return np.array(kept, np.int64)


def _too_little(chain: Chain, rule: MicroPriceFitSettings) -> str:
    steps, moves = int(chain.steps.min()), int(chain.moves.min())
    if steps < rule.least_steps:
        return f"expected at least {rule.least_steps} steps of the best quotes from each cell, was {steps}"
    if moves < rule.least_moves:
        return f"expected at least {rule.least_moves} moves of the mid from each cell, was {moves}"
    return ""


def _mean_spreads(edges: NDArray[np.int64], by_spread: Floats) -> Floats:
    rows = np.minimum(np.searchsorted(edges, np.arange(len(by_spread))), len(edges) - 1)
    total = _totals(rows, by_spread * np.arange(len(by_spread)), len(edges))
    return total / _totals(rows, by_spread, len(edges))


def _totals(at: NDArray[np.int64], weights: Floats, size: int) -> Floats:
    # Its stubs promise whole numbers; with weights they are floats, but for no rows at all.
    counted: Any = np.bincount(at, weights, size)
    totals: Floats = counted.astype(np.float64)
    return totals
