"""Reader of Parquet recordings: `NAME_book`, `NAME_trades` and perhaps `NAME_bbo`, in one folder.

Columns: book `ts recv bid bid_sz ask ask_sz bpx bsz apx asz` (a row is a whole snapshot, best level first);
bbo `ts recv bid bid_sz ask ask_sz`; trades `ts recv px sz side [id]` (side +1 the buyer took, −1 the seller,
0 unknown). Stamps are nanoseconds; the venue's order the merged stream, trades before the book they changed.

Polars is an extra: it is imported when a Parquet file is opened, and its absence is a `RecordingError`.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BookUpdate, Side, Trade
from market_maker.instrument import Instrument
from market_maker.recordings.events import REPAIRABLE_DISORDER_NS, BestQuote, RecordingError, Stamped
from market_maker.recordings.grid import Grid, decimal_unit, off_grid_text, whole_array

if TYPE_CHECKING:
    import polars as pl

_BATCH_ROWS = 4096
_SAMPLE_ROWS = 4096
_REMEMBERED_IDS = 8192
BBO_COLUMNS = ("ts", "recv", "bid", "bid_sz", "ask", "ask_sz")
BOOK_COLUMNS = (*BBO_COLUMNS, "bpx", "bsz", "apx", "asz")
TRADE_COLUMNS = ("ts", "recv", "px", "sz", "side")
_LOCKED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Table:
    """One Parquet file, opened: its path, columns and number of rows, its stamps checked."""

    path: Path
    columns: tuple[str, ...]
    rows: int
    first_ns: int
    last_ns: int

    def batches(
        self, columns: tuple[str, ...], rows: int = _BATCH_ROWS
    ) -> Iterator[tuple[int, "pl.DataFrame"]]:
        """Rows of the named columns in pieces, each with the number of its first row."""
        for first in range(0, self.rows, rows):
            yield first, _collect(self.path, columns, (first, rows))

    def sample(self, columns: tuple[str, ...]) -> NDArray[np.float64]:
        """Values of the first and last rows of the named columns, lists flattened."""
        spans = {(0, _SAMPLE_ROWS), (max(0, self.rows - _SAMPLE_ROWS), _SAMPLE_ROWS)}
        pieces = [_flat(_collect(self.path, (name,), span)[name]) for name in columns for span in spans]
        return np.concatenate(pieces)


def open_table(path: Path, columns: tuple[str, ...]) -> Table:
    """Open a Parquet file, check its columns and that its stamps rise.

    Raises
    ------
    RecordingError
        If it is truncated or corrupt, lacks a column, is empty, or is out of order by more than a second.
    """
    head = _collect(path, None, (0, 1))
    missing = [name for name in columns if name not in head.columns]
    if missing:
        msg = f"{path}: expected the columns {', '.join(columns)}, was without {', '.join(missing)}"
        raise RecordingError(msg)
    stamps = _collect(path, ("ts",), None)["ts"].to_numpy()
    if not stamps.size:
        msg = f"{path}: expected rows, was empty"
        raise RecordingError(msg)
    late = np.flatnonzero(stamps < np.maximum.accumulate(stamps) - REPAIRABLE_DISORDER_NS)
    if late.size:
        row = int(late[0])
        msg = f"{path}, row {row}: expected stamps that rise, was {int(stamps[row])} after a later one"
        raise RecordingError(msg)
    return Table(path, tuple(head.columns), stamps.size, int(stamps[0]), int(stamps.max()))


def _collect(path: Path, columns: tuple[str, ...] | None, span: tuple[int, int] | None) -> "pl.DataFrame":
    try:
        import polars as pl
    except ImportError as error:
        msg = f"{path}: reading Parquet needs polars; install the extra: extended-market-maker[backtest]"
        raise RecordingError(msg) from error
    try:
        frame = pl.scan_parquet(path)
        if columns is not None:
            frame = frame.select(columns)
        if span is not None:
            frame = frame.slice(*span)
        return frame.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"{path}: expected a whole Parquet file, was truncated or corrupt ({reason})"
        raise RecordingError(msg) from error


def _flat(column: "pl.Series") -> NDArray[np.float64]:
    values = column.explode() if column.dtype.is_nested() else column
    return values.drop_nulls().to_numpy().astype(np.float64)


@dataclass(frozen=True, slots=True)
class ParquetMarket:
    """One market's Parquet files.

    Where the book is shown on a coarser grid than trades print on, rounded down on both sides (StandX), half
    of its rows look locked: levels are moved up by half of the display step, asks one tick further than bids.
    """

    instrument: Instrument
    grid: Grid
    book: Table
    trades: Table
    quotes: Table | None
    shift_ticks: tuple[int, int] = (0, 0)

    @property
    def first_ns(self) -> int:
        """Instant of the first book; what was traded before it has no book to trade against."""
        return self.book.first_ns

    @property
    def last_ns(self) -> int:
        """Instant of the last event."""
        tables = (self.book, self.trades, self.quotes)
        return max(table.last_ns for table in tables if table is not None)

    def events(self) -> Iterator[Stamped]:
        """Stream the rows as values; see `RecordedMarket.events`."""
        streams = [self._trades(), self._books()]
        if self.quotes is not None:
            streams.append(self._quotes(self.quotes))
        ranked = [((at, rank, event) for at, event in stream) for rank, stream in enumerate(streams)]
        for at_ns, _, event in heapq.merge(*ranked, key=lambda item: item[:2]):
            yield at_ns, event

    def _books(self) -> Iterator[Stamped]:
        name = self.instrument.name
        at_ns = 0
        for first, batch in self.book.batches(BOOK_COLUMNS):
            reader = BatchReader(self.book.path, first, batch, self.grid)
            bids = reader.levels("bpx", "bsz", self.shift_ticks[0])
            asks = reader.levels("apx", "asz", self.shift_ticks[1])
            for bid, ask, ts, recv in zip(bids, asks, *reader.stamps(), strict=True):
                at_ns = max(at_ns, ts)
                yield (
                    at_ns,
                    BookUpdate(name, is_snapshot=True, bids=bid, asks=ask, seq=ts, venue_ns=ts, recv_ns=recv),
                )

    def _quotes(self, table: Table) -> Iterator[Stamped]:
        name = self.instrument.name
        at_ns = 0
        for first, batch in table.batches(BBO_COLUMNS):
            reader = BatchReader(table.path, first, batch, self.grid)
            columns = [reader.ticks("bid"), reader.lots("bid_sz"), reader.ticks("ask"), reader.lots("ask_sz")]
            for bid, bid_lots, ask, ask_lots, ts, recv in zip(*columns, *reader.stamps(), strict=True):
                at_ns = max(at_ns, ts)
                yield at_ns, BestQuote(name, bid, bid_lots, ask, ask_lots, ts, ts, recv)

    def _trades(self) -> Iterator[Stamped]:
        with_id = "id" in self.trades.columns
        columns = (*TRADE_COLUMNS, "id") if with_id else TRADE_COLUMNS
        seen = _RecentIds()
        rule = _TickRule()
        at_ns = 0
        for first, batch in self.trades.batches(columns):
            reader = BatchReader(self.trades.path, first, batch, self.grid)
            ids = reader.integers("id") if with_id else range(first, first + len(batch))
            values = zip(ids, reader.integers("side"), reader.ticks("px"), reader.lots("sz"), strict=True)
            for (number, sign, price, lots), ts, recv in zip(values, *reader.stamps(), strict=True):
                at_ns = max(at_ns, ts)
                side = rule.side(sign, price)
                # A recorder that reconnects is sent the last trades again.
                if not with_id or seen.is_new(number):
                    yield at_ns, Trade(self.instrument.name, number, side, price, lots, ts, recv)


class _RecentIds:
    """Tells trades that were recorded twice, over a bounded memory."""

    def __init__(self) -> None:
        self._order: deque[int] = deque()
        self._known: set[int] = set()

    def is_new(self, number: int) -> bool:
        if number in self._known:
            return False
        self._known.add(number)
        self._order.append(number)
        if len(self._order) > _REMEMBERED_IDS:
            self._known.discard(self._order.popleft())
        return True


class _TickRule:
    """Taker side of a trade: as recorded, else the buyer after a rise, the seller after a fall."""

    def __init__(self) -> None:
        self._side = Side.BUY
        self._price = 0

    def side(self, sign: int, price: int) -> Side:
        if sign:
            self._side = Side.BUY if sign > 0 else Side.SELL
        elif self._price and price != self._price:
            self._side = Side.BUY if price > self._price else Side.SELL
        self._price = price
        return self._side


class BatchReader:
    """Columns of one piece of a table as whole numbers; knows the row to name in an error.

    Its methods raise `RecordingError`, with file and row.
    """

    def __init__(self, path: Path, first_row: int, batch: "pl.DataFrame", grid: Grid) -> None:
        self._path = path
        self._first_row = first_row
        self._batch = batch
        self._grid = grid

    def stamps(self) -> tuple[list[int], list[int]]:
        """Stamps of the venue and of the receipt, ns."""
        return self.integers("ts"), self.integers("recv")

    def integers(self, name: str) -> list[int]:
        """Whole numbers of a column, perhaps written as text."""
        column = self._full(name)
        try:
            return [int(value) for value in column.to_list()]
        except ValueError as error:
            msg = f"{self._path}, from row {self._first_row}: expected whole numbers in {name} ({error})"
            raise RecordingError(msg) from error

    def ticks(self, name: str) -> list[int]:
        """Prices as ticks."""
        whole: list[int] = self.whole(name, is_price=True).tolist()
        return whole

    def lots(self, name: str) -> list[int]:
        """Sizes as lots."""
        whole: list[int] = self.whole(name, is_price=False).tolist()
        return whole

    def whole(self, name: str, *, is_price: bool) -> NDArray[np.int64]:
        """Prices as ticks or sizes as lots."""
        return self._whole(name, self._full(name).to_numpy(), is_price=is_price)

    def stamp_array(self, name: str) -> NDArray[np.int64]:
        """Stamps, ns."""
        column = self._full(name)
        if not column.dtype.is_integer():
            self._fail(0, f"expected whole nanoseconds in {name}, was {column.dtype}")
        return column.to_numpy().astype(np.int64)

    def levels(self, prices: str, sizes: str, shift: int) -> Iterator[list[tuple[int, int]]]:
        """Levels of each row, (ticks, lots), moved by so many ticks."""
        counts, ticks, lots = self.level_arrays(prices, sizes, shift)
        pairs = list(zip(ticks.tolist(), lots.tolist(), strict=True))
        start = 0
        for count in counts.tolist():
            yield pairs[start : start + count]
            start += count

    def level_arrays(
        self, prices: str, sizes: str, shift: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Levels of each row, one row after the other: how many it has, ticks, lots."""
        counts = self._full(prices).list.len().to_numpy().astype(np.int64)
        other = self._full(sizes).list.len().to_numpy()
        uneven = np.flatnonzero(counts != other)
        if uneven.size:
            row = int(uneven[0])
            self._fail(row, f"expected {counts[row]} sizes in {sizes} as in {prices}, was {other[row]}")
        values = [_flat(self._batch[name]) for name in (prices, sizes)]
        if any(column.size != counts.sum() for column in values):
            self._fail(0, f"expected values in {prices} and {sizes}, was without some")
        ticks = self._whole(prices, values[0], is_price=True, counts=counts) + shift
        lots = self._whole(sizes, values[1], is_price=False, counts=counts)
        return counts, ticks, lots

    def _full(self, name: str) -> "pl.Series":
        column = self._batch[name]
        if column.null_count():
            self._fail(int(column.is_null().arg_max() or 0), f"expected a value in {name}, was none")
        return column

    def _whole(
        self,
        name: str,
        values: NDArray[np.float64],
        *,
        is_price: bool,
        counts: NDArray[np.int64] | None = None,
    ) -> NDArray[np.int64]:
        unit = self._grid.tick if is_price else self._grid.step
        whole, bad = whole_array(values, unit)
        if bad >= 0:
            row = bad if counts is None else int(np.searchsorted(np.cumsum(counts), bad, side="right"))
            label = f"a {'price' if is_price else 'size'} in {name}"
            self._fail(row, off_grid_text(label, unit, float(values[bad])))
        return whole

    def _fail(self, row: int, text: str) -> None:
        msg = f"{self._path}, row {self._first_row + row}: {text}"
        raise RecordingError(msg)


def open_parquet_market(market: str, stem: Path, grid: Grid | None) -> ParquetMarket:
    """Open the files `stem_book`, `stem_trades` and, if it exists, `stem_bbo` (`.parquet`).

    Raises
    ------
    RecordingError
        If one that is needed is missing, or any cannot be read.
    """
    book = _existing(stem, "book", BOOK_COLUMNS)
    trades = _existing(stem, "trades", TRADE_COLUMNS)
    quotes = _existing(stem, "bbo", BBO_COLUMNS) if parquet_path(stem, "bbo").exists() else None
    shown = decimal_unit(book.sample(("bpx", "apx")).tolist())
    printed = decimal_unit(trades.sample(("px",)).tolist())
    step = decimal_unit([*book.sample(("bsz", "asz")).tolist(), *trades.sample(("sz",)).tolist()])
    if shown is None or printed is None or step is None:
        msg = f"{book.path}: expected prices and sizes above zero, was without"
        raise RecordingError(msg)
    grid = grid or Grid(min(shown, printed), step)
    half = int(shown / grid.tick) // 2
    shift = (half - 1, half) if half and _is_locked(book) else (0, 0)
    return ParquetMarket(grid.instrument(market), grid, book, trades, quotes, shift)


def parquet_path(stem: Path, kind: str) -> Path:
    """Path of a market's file of one kind: book, bbo or trades."""
    return stem.with_name(f"{stem.name}_{kind}.parquet")


def _existing(stem: Path, kind: str, columns: tuple[str, ...]) -> Table:
    path = parquet_path(stem, kind)
    if not path.exists():
        msg = f"{path}: expected the {kind} of {stem.name}, was not there"
        raise RecordingError(msg)
    return open_table(path, columns)


def _is_locked(book: Table) -> bool:
    return bool(np.mean(book.sample(("bid",)) >= book.sample(("ask",))) > _LOCKED_SHARE)
