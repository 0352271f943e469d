"""Parquet recordings as messages, in whole columns: the same rules as `ParquetMarket`, many rows at a time.

A hole in the books of more than `GAP_NS` breaks the book until the next one.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import NS_PER_S
from market_maker.recordings.columns import (
    BBO_COLUMNS,
    BOOK_COLUMNS,
    TRADE_COLUMNS,
    BatchReader,
    ParquetMarket,
    Table,
)
from market_maker.recordings.findings import Findings, Stamps
from market_maker.recordings.messages import (
    BREAK,
    PASSED,
    QUOTE,
    SNAPSHOT,
    Messages,
    joined,
    merge,
    single_rows,
    take,
)
from market_maker.recordings.store import (
    BEST_ASK,
    BEST_BID,
    LEVEL_ASK,
    LEVEL_BID,
    TRADE_BUY,
    TRADE_SELL,
    TRADE_UNKNOWN,
)

if TYPE_CHECKING:
    import polars as pl

GAP_NS: Final = 10 * NS_PER_S
SIDES_INFERRED: Final = "taker_sides_inferred"  # a finding: trades whose taker the recorder only guessed
_ROWS: Final = 16_384
_REMEMBERED_IDS: Final = 8_192

_Stamps = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def parquet_messages(market: ParquetMarket, findings: Findings) -> Iterator[Messages]:
    """Messages of a market's tables, trades before the book they changed, the book before the quotes.

    Raises
    ------
    RecordingError
        At the first row that cannot be read; the file and row are named.
    """
    sources = [_trades(market, findings), _books(market, findings)]
    if market.quotes is not None:
        sources.append(_quotes(market, market.quotes, findings))
    return merge(sources)


def _pieces(
    market: ParquetMarket, table: Table, columns: tuple[str, ...], findings: Findings
) -> "Iterator[tuple[pl.DataFrame, BatchReader, _Stamps]]":
    stamps = Stamps(findings)
    for first, batch in table.batches(columns, _ROWS):
        reader = BatchReader(table.path, first, batch, market.grid)
        venue_ns = reader.stamp_array("ts")
        yield batch, reader, (stamps.repaired(venue_ns), reader.stamp_array("recv"), venue_ns)


def _books(market: ParquetMarket, findings: Findings) -> Iterator[Messages]:
    last_ns = 0
    for _, reader, stamps in _pieces(market, market.book, BOOK_COLUMNS, findings):
        bids = reader.level_arrays("bpx", "bsz", market.shift_ticks[0])
        asks = reader.level_arrays("apx", "asz", market.shift_ticks[1])
        books = _snapshots(stamps, bids, asks)
        yield with_breaks(books, last_ns, findings)
        last_ns = int(stamps[0][-1])


def _snapshots(
    stamps: _Stamps, bids: tuple[NDArray[np.int64], ...], asks: tuple[NDArray[np.int64], ...]
) -> Messages:
    counts = bids[0] + asks[0]
    first = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=first[1:])
    # Bids and asks lie one after the other; each message takes its bids, then its asks.
    bid_first = np.cumsum(bids[0]) - bids[0]
    ask_first = np.cumsum(asks[0]) - asks[0]
    bid_rows = np.repeat(first[:-1] - bid_first, bids[0]) + np.arange(bids[1].size)
    ask_rows = np.repeat(first[:-1] + bids[0] - ask_first, asks[0]) + np.arange(asks[1].size)
    code = np.empty(int(first[-1]), np.uint8)
    ticks, lots = np.empty(code.size, np.int64), np.empty(code.size, np.int64)
    for rows, side, levels in ((bid_rows, LEVEL_BID, bids), (ask_rows, LEVEL_ASK, asks)):
        code[rows], ticks[rows], lots[rows] = side, levels[1], levels[2]
    return Messages(*stamps, np.full(counts.size, SNAPSHOT, np.uint8), first, code, ticks, lots)


def with_breaks(books: Messages, last_ns: int, findings: Findings) -> Messages:
    """Add a break to each hole of more than `GAP_NS`, that long after the last book before it."""
    before = np.concatenate([[last_ns or books.at_ns[0]], books.at_ns[:-1]])
    holes = np.flatnonzero(books.at_ns - before > GAP_NS)
    if not holes.size:
        return books
    findings.gaps.extend(zip(before[holes].tolist(), books.at_ns[holes].tolist(), strict=True))
    at_ns = before[holes] + GAP_NS
    nothing = np.zeros(0, np.int64)
    breaks = single_rows((at_ns, at_ns, at_ns), BREAK, (nothing.astype(np.uint8), nothing, nothing), each=0)
    whole = joined([books, breaks])
    return take(whole, np.argsort(whole.at_ns, kind="stable"))


def _quotes(market: ParquetMarket, table: Table, findings: Findings) -> Iterator[Messages]:
    for batch, reader, stamps in _pieces(market, table, BBO_COLUMNS, findings):
        code = np.tile(np.array([BEST_BID, BEST_ASK], np.uint8), len(batch))
        ticks = np.stack([reader.whole(name, is_price=True) for name in ("bid", "ask")], axis=1)
        lots = np.stack([reader.whole(name, is_price=False) for name in ("bid_sz", "ask_sz")], axis=1)
        yield single_rows(stamps, QUOTE, (code, ticks.ravel(), lots.ravel()), each=2)


def _trades(market: ParquetMarket, findings: Findings) -> Iterator[Messages]:
    with_id, with_doubt = ("id" in market.trades.columns, "side_sure" in market.trades.columns)
    columns = (*TRADE_COLUMNS, *["id"] * with_id, *["side_sure"] * with_doubt)
    seen = RecentIds(findings)
    for batch, reader, stamps in _pieces(market, market.trades, columns, findings):
        if with_doubt:
            findings.count(SIDES_INFERRED, len(batch) - int(batch["side_sure"].sum()))
        rows = (
            trade_codes(reader.stamp_array("side")),
            reader.whole("px", is_price=True),
            reader.whole("sz", is_price=False),
        )
        trades = single_rows(stamps, PASSED, rows)
        yield take(trades, np.flatnonzero(seen.new(batch["id"]))) if with_id else trades


def trade_codes(sides: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Codes of trades from the taker's side: +1, −1, or 0 where it is not known."""
    known = np.where(sides > 0, TRADE_BUY, TRADE_SELL)
    return np.where(sides == 0, TRADE_UNKNOWN, known).astype(np.uint8)


class RecentIds:
    """Tells trades that were recorded twice: a recorder that reconnects is sent the last ones again."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._tail: pl.Series | None = None

    def new(self, ids: "pl.Series") -> NDArray[np.bool_]:
        """Which of the next ids were not among the recent ones."""
        before = 0 if self._tail is None else len(self._tail)
        whole = ids if self._tail is None else self._tail.append(ids)
        fresh = whole.is_first_distinct().to_numpy()[before:]
        self._tail = whole.tail(_REMEMBERED_IDS).clone()
        self._findings.count("trades_twice", int(np.count_nonzero(~fresh)))
        return fresh
