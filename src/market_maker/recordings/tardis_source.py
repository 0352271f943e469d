"""Tardis CSV files as messages, in whole columns.

Example lines, stamps in µs::

    exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount
    binance-futures,BTCUSDT,1598918403696000,1598918403810979,true,bid,11657.07,10.896

Rows of one stamp are one message; the first of a run of snapshot rows forgets the book, as a recorder that
connected anew has it. Files are told apart by their header, and joined by symbol in the order of time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.recordings.csv_blocks import csv_blocks, csv_header
from market_maker.recordings.discovery import market_name
from market_maker.recordings.events import RecordingError
from market_maker.recordings.findings import Findings, Stamps
from market_maker.recordings.grid import Grid, decimal_unit, off_grid_text, whole_array
from market_maker.recordings.messages import (
    CHANGES,
    PASSED,
    QUOTE,
    SNAPSHOT,
    Messages,
    joined,
    merge,
    part,
    single_rows,
    without_end,
)
from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    FUNDING,
    FUNDING_PARTS,
    INDEX,
    LEVEL_ASK,
    LEVEL_BID,
    MARK,
    PRICE_PARTS,
    TRADE_BUY,
    TRADE_SELL,
    TRADE_UNKNOWN,
)

if TYPE_CHECKING:
    import polars as pl

_HEAD: Final = ("exchange", "symbol", "timestamp", "local_timestamp")
BOOK: Final = (*_HEAD, "is_snapshot", "side", "price", "amount")
TRADES: Final = (*_HEAD, "id", "side", "price", "amount")
QUOTES: Final = (*_HEAD, "ask_amount", "ask_price", "bid_price", "bid_amount")
TICKER: Final = (
    *_HEAD,
    "funding_timestamp",
    "funding_rate",
    "predicted_funding_rate",
    "open_interest",
    "last_price",
    "index_price",
    "mark_price",
)
_KINDS: Final = (TRADES, BOOK, QUOTES, TICKER)
_TEXTS: Final = ("exchange", "symbol", "side", "id")
_NS_PER_US: Final = 1_000
_SAMPLE_ROWS: Final = 50_000


@dataclass(frozen=True, slots=True)
class TardisMarket:
    """Files of one symbol: by their columns, in the order of time."""

    market: str
    venue: str
    grid: Grid
    files: dict[tuple[str, ...], list[Path]]


@dataclass(slots=True)
class _Found:
    venue: str
    files: dict[tuple[str, ...], list[tuple[int, Path]]] = field(default_factory=dict)


def is_tardis(path: Path) -> bool:
    """Whether a file's first line is that of a Tardis CSV file that is read here."""
    return path.name.endswith((".csv", ".csv.gz")) and csv_header(path) in _KINDS


def open_tardis(paths: list[Path], grids: dict[str, Grid]) -> dict[str, TardisMarket]:
    """Open files by symbol; tick and step are those given, else what the first rows show.

    Raises
    ------
    RecordingError
        If a file cannot be read, has no rows, or the symbol lacks a book.
    """
    found: dict[str, _Found] = {}
    for path in paths:
        columns = csv_header(path)
        _, first = next(csv_blocks(path, _schema(columns)), (0, None))
        if first is None:
            msg = f"{path}: expected rows, was empty"
            raise RecordingError(msg)
        venue, symbol, stamp = first.row(0)[:3]
        entry = found.setdefault(market_name(symbol), _Found(venue))
        entry.files.setdefault(columns, []).append((stamp, path))
    return {name: _market(name, entry, grids.get(name)) for name, entry in found.items()}


def tardis_messages(market: TardisMarket, findings: Findings) -> Iterator[Messages]:
    """Messages of a symbol's files: trades before the book they changed, the book before the quotes.

    Raises
    ------
    RecordingError
        At the first line that cannot be read; the file and line are named.
    """
    readers = {TRADES: _trades, BOOK: _whole_books, QUOTES: _quotes, TICKER: _tickers}
    return merge([readers[kind](market, findings) for kind in _KINDS if kind in market.files])


def _market(name: str, entry: _Found, grid: Grid | None) -> TardisMarket:
    files = {kind: [path for _, path in sorted(found)] for kind, found in entry.files.items()}
    if BOOK not in files:
        some = next(iter(files.values()))[0]
        msg = f"{some}: expected a file of incremental_book_L2 for {name} beside it, was without"
        raise RecordingError(msg)
    return TardisMarket(name, entry.venue, grid or _shown_grid(files), files)


def _shown_grid(files: dict[tuple[str, ...], list[Path]]) -> Grid:
    prices: set[float] = set()
    sizes: set[float] = set()
    for kind in (BOOK, TRADES):
        for path in files.get(kind, [])[:1]:
            for line, piece in csv_blocks(path, _schema(kind), ("price", "amount")):
                prices.update(piece["price"].drop_nulls().unique().to_list())
                sizes.update(piece["amount"].drop_nulls().unique().to_list())
                if line > _SAMPLE_ROWS:
                    break
    tick, step = decimal_unit(prices), decimal_unit(sizes)
    if tick is None or step is None:
        msg = f"{files[BOOK][0]}: expected prices and sizes above zero, was without"
        raise RecordingError(msg)
    return Grid(tick, step)


def _schema(columns: tuple[str, ...]) -> dict[str, "pl.DataType"]:
    import polars as pl

    def kind(name: str) -> "pl.DataType":
        if name in _TEXTS:
            return pl.String()
        if name == "is_snapshot":
            return pl.Boolean()
        return pl.Int64() if name.endswith("timestamp") else pl.Float64()

    return {name: kind(name) for name in columns}


def _wanted(columns: tuple[str, ...]) -> list[str]:
    unread = {"exchange", "symbol", "id", "predicted_funding_rate", "open_interest"}
    return [name for name in columns if name not in unread]


class _Lines:
    """Rows of one piece of a file, as whole numbers; knows the line to name."""

    def __init__(self, path: Path, line: int, frame: "pl.DataFrame", grid: Grid) -> None:
        self.frame = frame
        self._path = path
        self._line = line
        self._grid = grid

    def stamps(self, order: Stamps) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        venue_ns = self.full("timestamp").to_numpy() * _NS_PER_US
        recv_ns = self.full("local_timestamp").to_numpy() * _NS_PER_US
        return order.repaired(venue_ns, f"{self._path}, line", self._line), recv_ns, venue_ns

    def full(self, name: str) -> "pl.Series":
        column = self.frame[name]
        if column.null_count():
            row = int(column.is_null().arg_max() or 0)
            msg = f"{self._path}, line {self._line + row}: expected a value in {name}, was none"
            raise RecordingError(msg)
        return column

    def whole(self, name: str) -> NDArray[np.int64]:
        values = self.full(name).to_numpy()
        unit = self._grid.tick if "price" in name else self._grid.step
        whole, bad = whole_array(values, unit)
        if bad >= 0:
            text = off_grid_text(f"a value in {name}", unit, float(values[bad]))
            msg = f"{self._path}, line {self._line + bad}: {text} (a finer tick or step may be given)"
            raise RecordingError(msg)
        return whole

    def codes(self, words: dict[str, int]) -> NDArray[np.uint8]:
        side = self.full("side")
        codes = np.zeros(len(side), np.uint8)
        for word, code in words.items():
            codes[(side == word).to_numpy()] = code
        unknown = np.flatnonzero(codes == 0)
        if unknown.size:
            row = int(unknown[0])
            msg = f"{self._path}, line {self._line + row}: expected {' or '.join(words)}, was {side[row]!r}"
            raise RecordingError(msg)
        return codes


def _lines(market: TardisMarket, kind: tuple[str, ...]) -> Iterator[_Lines]:
    for path in market.files[kind]:
        for line, frame in csv_blocks(path, _schema(kind), _wanted(kind)):
            yield _Lines(path, line, frame, market.grid)


def _books(market: TardisMarket, findings: Findings) -> Iterator[Messages]:
    order = Stamps(findings)
    was_snapshot = False
    for lines in _lines(market, BOOK):
        at_ns, recv_ns, seq = lines.stamps(order)
        snapshot = lines.full("is_snapshot").to_numpy()
        changes = (np.diff(seq) != 0) | (np.diff(recv_ns) != 0) | (snapshot[1:] != snapshot[:-1])
        first = np.concatenate([[0], np.flatnonzero(changes) + 1]).astype(np.int64)
        before = np.concatenate([[was_snapshot], snapshot[first[1:] - 1]])
        was_snapshot = bool(snapshot[-1])
        kind = np.where(snapshot[first] & ~before, SNAPSHOT, CHANGES).astype(np.uint8)
        findings.count("snapshots", int(np.count_nonzero(kind == SNAPSHOT)))
        yield Messages(
            at_ns[first],
            recv_ns[first],
            seq[first],
            kind,
            np.append(first, seq.size),
            lines.codes({"bid": LEVEL_BID, "ask": LEVEL_ASK}),
            lines.whole("price"),
            lines.whole("amount"),
        )


def _whole_books(market: TardisMarket, findings: Findings) -> Iterator[Messages]:
    """Messages that the end of a block cut in two are one again."""
    held: Messages | None = None
    for books in _books(market, findings):
        piece = books if held is None else joined([held, books])
        is_cut = held is not None and piece.kind[1] == CHANGES
        if is_cut and piece.seq[0] == piece.seq[1] and piece.recv_ns[0] == piece.recv_ns[1]:
            piece = without_end(piece, 0)
        count = piece.at_ns.size
        held = part(piece, count - 1, count)
        if count > 1:
            yield part(piece, 0, count - 1)
    if held is not None:
        yield held


def _trades(market: TardisMarket, findings: Findings) -> Iterator[Messages]:
    order = Stamps(findings)
    words = {"buy": TRADE_BUY, "sell": TRADE_SELL, "unknown": TRADE_UNKNOWN}
    for lines in _lines(market, TRADES):
        rows = (lines.codes(words), lines.whole("price"), lines.whole("amount"))
        yield single_rows(lines.stamps(order), PASSED, rows)


def _quotes(market: TardisMarket, findings: Findings) -> Iterator[Messages]:
    import polars as pl

    order = Stamps(findings)
    for lines in _lines(market, QUOTES):
        # A side that is empty leaves its fields empty: such a quote says nothing that the book does not.
        columns = [lines.frame[name].is_not_null() for name in QUOTES[4:]]
        is_whole = columns[0] & columns[1] & columns[2] & columns[3]
        findings.count("one_sided_quotes", len(is_whole) - int(is_whole.sum()))
        stamps = lines.stamps(order)
        lines.frame = lines.frame.with_columns(pl.col(QUOTES[4:]).fill_null(0))
        ticks = np.stack([lines.whole("bid_price"), lines.whole("ask_price")], axis=1)
        lots = np.stack([lines.whole("bid_amount"), lines.whole("ask_amount")], axis=1)
        keep = is_whole.to_numpy()
        if keep.any():
            at_ns, recv_ns, seq = (column[keep] for column in stamps)
            code = np.tile(np.array([BEST_BID, BEST_ASK], np.uint8), at_ns.size)
            yield single_rows(
                (at_ns, recv_ns, seq), QUOTE, (code, ticks[keep].ravel(), lots[keep].ravel()), 2
            )


def _tickers(market: TardisMarket, findings: Findings) -> Iterator[Messages]:
    order = Stamps(findings)
    per_price = PRICE_PARTS / float(market.grid.tick)
    paid = _Paid()
    last = {MARK: 0, INDEX: 0}
    for lines in _lines(market, TICKER):
        stamps = lines.stamps(order)
        told = [(FUNDING, *paid.rates(lines.frame))]
        for code, name in ((MARK, "mark_price"), (INDEX, "index_price")):
            values = np.rint(lines.frame[name].to_numpy() * per_price)
            shown = np.flatnonzero(np.isfinite(values))
            whole = values[shown].astype(np.int64)
            changed = np.flatnonzero(np.diff(whole, prepend=last[code]))
            told.append((code, shown[changed], whole[changed]))
            last[code] = int(whole[-1]) if whole.size else last[code]
        row = np.concatenate([rows for _, rows, _ in told])
        if row.size:
            by_row = np.argsort(row, kind="stable")
            at_ns, recv_ns, seq = (column[row[by_row]] for column in stamps)
            rows = (
                np.concatenate([np.full(rows.size, code, np.uint8) for code, rows, _ in told])[by_row],
                np.concatenate([ticks for _, _, ticks in told])[by_row],
                np.zeros(row.size, np.int64),
            )
            yield single_rows((at_ns, recv_ns, seq), PASSED, rows)


class _Paid:
    """Rates as they are paid: a ticker tells an estimate all the time, for the instant that it names.

    Once it names the next instant, the rate that it told last was paid.
    """

    def __init__(self) -> None:
        self._due_us = 0
        self._rate = float("nan")

    def rates(self, frame: "pl.DataFrame") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows of a piece in which a payment shows, and what was paid, in 10⁻⁹."""
        due_us = frame["funding_timestamp"].forward_fill().fill_null(self._due_us).to_numpy()
        rate = frame["funding_rate"].fill_nan(None).forward_fill().fill_null(self._rate).to_numpy()
        before_us, before = np.append(self._due_us, due_us[:-1]), np.append(self._rate, rate[:-1])
        self._due_us, self._rate = int(due_us[-1]), float(rate[-1])
        rows = np.flatnonzero((due_us > before_us) & (before_us > 0) & np.isfinite(before))
        return rows, np.rint(before[rows] * FUNDING_PARTS).astype(np.int64)
