"""One-minute bars of the days that a market maker must survive.

A file of bars is a Parquet table with the columns `source`, `market`, `ts` (start of the minute), `open`,
`high`, `low`, `close` (USD) and `volume`; a day is one source, market and UTC date in it. Volume is in base
units, but of BitMEX in USD, since its contract is a dollar. BitMEX also calls the last close the open, even
where nothing traded there: an open outside its bar is taken for the nearest price in it. A minute without a
row had no trade: the price stands still.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.domain import BPS, NS_PER_S
from market_maker.instrument import Instrument
from market_maker.recordings.discovery import market_name
from market_maker.recordings.events import RecordingError

NS_PER_MINUTE: Final = 60 * NS_PER_S
MINUTES_PER_HOUR: Final = 60
_PRICES: Final = ("open", "high", "low", "close")
_COLUMNS: Final = ("source", "market", "ts", *_PRICES, "volume")
_TICK_BPS: Final = 0.5
_LOT_USD: Final = 5.0
_USD_SOURCE: Final = "bitmex"


@dataclass(frozen=True)
class BarDay:
    """The bars of one market and UTC date, on a grid of ticks and lots.

    Attributes
    ----------
    ticks : array, minutes × 4
        Open, high, low, close.
    lots : array
        Volume of each minute.
    """

    source: str
    market: str
    date: str
    instrument: Instrument
    start_ns: int
    ticks: NDArray[np.int64]
    lots: NDArray[np.int64]

    @property
    def name(self) -> str:
        """Market and date."""
        return f"{self.market} {self.date}"


def power_of_ten(most: float) -> Decimal:
    """Largest power of ten that is not above a number.

    >>> power_of_ten(2.1), power_of_ten(0.00002)
    (Decimal('1'), Decimal('0.00001'))
    """
    return Decimal(f"{Decimal(1).scaleb(math.floor(math.log10(most))):f}")


def stress_instrument(market: str, price: float) -> Instrument:
    """Grid of a market whose own is not known: a tick of 0.05 to 0.5 bps, a lot of 0.50 to 5 USD."""
    tick, step = power_of_ten(price * _TICK_BPS / BPS), power_of_ten(_LOT_USD / price)
    return Instrument(market, tick, step, step)


def read_days(path: Path) -> list[BarDay]:
    """All days of a file, in the order of date, market and source.

    Raises
    ------
    RecordingError
        If the file is no table of bars, or a bar cannot be; its market and minute are named.
    """
    table = _read(path)
    days = []
    for key, rows in table.group_by("source", "market", "date", maintain_order=True):
        source, market, date = (str(part) for part in key)
        days.append(_day(path, source, market, date, rows))
    if not days:
        msg = f"{path}: expected bars, was an empty table"
        raise RecordingError(msg)
    return sorted(days, key=lambda day: (day.date, day.market, day.source))


def _read(path: Path) -> Any:  # noqa: ANN401  (polars is of an extra)
    try:
        import polars as pl
    except ImportError as error:
        msg = f"{path}: reading bars needs polars; install the extra: extended-market-maker[backtest]"
        raise RecordingError(msg) from error
    try:
        table = pl.read_parquet(path)
        missing = [name for name in _COLUMNS if name not in table.columns]
        if missing:
            msg = f"{path}: expected a table of bars, was one without {', '.join(missing)}"
            raise RecordingError(msg)
        numbers = [pl.col(name).cast(pl.Float64) for name in (*_PRICES, "volume")]
        stamps = pl.col("ts").cast(pl.Datetime("ns", "UTC"))
        table = table.with_columns(*numbers, stamps.dt.date().cast(pl.String).alias("date"))
        return table.with_columns(stamps.cast(pl.Int64).alias("ts"))
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"{path}: expected a Parquet table of bars, was none ({reason})"
        raise RecordingError(msg) from error


def _day(path: Path, source: str, market: str, date: str, rows: Any) -> BarDay:  # noqa: ANN401
    stamps = rows["ts"].fill_null(0).to_numpy().astype(np.int64)
    prices = np.column_stack([rows[name].fill_null(np.nan).to_numpy() for name in _PRICES])
    volume = rows["volume"].fill_null(np.nan).to_numpy()
    if source.startswith(_USD_SOURCE):
        volume = volume / prices[:, 3]
    _check(f"{path}, {market}", stamps, prices, volume)
    prices[:, 0] = np.clip(prices[:, 0], prices[:, 2], prices[:, 1])
    market = market_name(market)
    instrument = stress_instrument(market, float(prices[0, 0]))
    tick, step = float(instrument.tick), float(instrument.step)
    ticks = np.maximum(np.rint(prices / tick), 1).astype(np.int64)
    lots = np.rint(volume / step).astype(np.int64)
    return BarDay(
        source=source,
        market=market,
        date=date,
        instrument=instrument,
        start_ns=int(stamps[0]),
        **_without_holes(stamps, ticks, lots),
    )


def _check(
    where: str, stamps: NDArray[np.int64], prices: NDArray[np.float64], volume: NDArray[np.float64]
) -> None:
    open_, high, low, close = prices.T
    possible = (low > 0) & np.isfinite(high) & (low <= close) & (close <= high)
    possible &= (open_ > 0) & np.isfinite(open_) & np.isfinite(volume) & (volume >= 0)
    wrong = np.flatnonzero(~possible)
    if wrong.size:
        row = int(wrong[0])
        msg = f"{where}, {_minute(stamps[row])}: expected low ≤ close ≤ high, an open and a volume, was "
        raise RecordingError(msg + ", ".join(f"{value:g}" for value in (*prices[row], volume[row])))
    off_grid = np.flatnonzero(stamps % NS_PER_MINUTE)
    if off_grid.size:
        msg = f"{where}: expected bars that start on a minute, was {_minute(stamps[int(off_grid[0])])}"
        raise RecordingError(msg)
    falls = np.flatnonzero(np.diff(stamps) <= 0)
    if falls.size:
        before, was = stamps[int(falls[0])], stamps[int(falls[0]) + 1]
        msg = f"{where}: expected a minute after {_minute(before)}, was {_minute(was)}"
        raise RecordingError(msg)


def _minute(at_ns: "np.int64") -> str:
    return str(np.datetime64(int(at_ns), "ns"))[:19]


def _without_holes(
    stamps: NDArray[np.int64], ticks: NDArray[np.int64], lots: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Put a bar of no volume into each minute that has none."""
    at = (stamps - stamps[0]) // NS_PER_MINUTE
    full_ticks = np.empty((int(at[-1]) + 1, 4), np.int64)
    full_lots = np.zeros(len(full_ticks), np.int64)
    for row, (first, after) in enumerate(pairwise([*at.tolist(), len(full_ticks)])):
        full_ticks[first] = ticks[row]
        full_lots[first] = lots[row]
        full_ticks[first + 1 : after] = ticks[row, 3]
    return {"ticks": full_ticks, "lots": full_lots}


def crash_hour(days: Sequence[BarDay]) -> int:
    """Hour, from the first bar on, in which the deepest fall within an hour of any of the days begins."""
    deepest, found = 0.0, 0
    for day in days:
        high, low = day.ticks[:, 1], day.ticks[:, 2]
        before = np.concatenate([np.full(MINUTES_PER_HOUR - 1, high[0]), high])
        hours = np.lib.stride_tricks.sliding_window_view(before, MINUTES_PER_HOUR)
        falls = 1.0 - low / hours.max(axis=1)
        at = int(falls.argmax())
        if falls[at] > deepest:
            begins = at - (MINUTES_PER_HOUR - 1) + int(hours[at].argmax())
            deepest, found = float(falls[at]), max(begins, 0) // MINUTES_PER_HOUR
    return found
