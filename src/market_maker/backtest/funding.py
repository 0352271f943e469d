"""Funding from a table, for recordings that have none of their own.

The table is Parquet with the columns `venue`, `market` (BTC or BTC-USD), `ts` (UTC) and `rate`, a fraction
per interval, paid at `ts` by longs to shorts where it is positive. The mid stands in for a mark that the
recording does not have.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from market_maker.recordings.discovery import market_name
from market_maker.recordings.events import RecordingError
from market_maker.recordings.store import FUNDING, FUNDING_PARTS, LAST, Hour

_COLUMNS: Final = ("venue", "market", "ts", "rate")
_LARGEST: Final = 2**31 - 1


@dataclass(frozen=True)
class Funding:
    """Payments of one market, by instant (ns, rising) and rate (10⁻⁹)."""

    ns: NDArray[np.int64]
    rate_ppb: NDArray[np.int64]


NO_FUNDING: Final = Funding(np.zeros(0, np.int64), np.zeros(0, np.int64))


def read_funding(path: Path, venue: str) -> dict[str, Funding]:
    """Read the payments of a venue, by market.

    Raises
    ------
    RecordingError
        If it is no such table, knows no such venue, or has a rate that cannot be; the row is named.
    """
    rows = _read(path)
    venues = sorted(set(rows["venue"].to_list()))
    if venue not in venues:
        msg = f"{path}: expected the funding of {venue}, was of {', '.join(venues) or 'nobody'}"
        raise RecordingError(msg)
    parts = np.rint(rows["rate"].to_numpy() * FUNDING_PARTS)
    wrong = np.flatnonzero(~(np.abs(parts) <= _LARGEST))
    if wrong.size:
        msg = f"{path}, row {int(wrong[0])}: expected a rate, was {rows['rate'][int(wrong[0])]}"
        raise RecordingError(msg)
    of_venue = rows["venue"].to_numpy() == venue
    names = np.array([market_name(str(name)) for name in rows["market"].to_list()])
    stamps = rows["ts"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    found = {}
    for market in sorted(set(names[of_venue].tolist())):
        mine = np.flatnonzero(of_venue & (names == market))
        mine = mine[np.argsort(stamps[mine], kind="stable")]
        found[market] = Funding(stamps[mine], parts[mine].astype(np.int64))
    return found


def _read(path: Path) -> Any:  # noqa: ANN401  (polars is of an extra)
    try:
        import polars as pl
    except ImportError as error:
        msg = f"{path}: reading funding needs polars; install the extra: extended-market-maker[backtest]"
        raise RecordingError(msg) from error
    try:
        rows = pl.read_parquet(path)
        missing = [name for name in _COLUMNS if name not in rows.columns]
        if missing:
            msg = f"{path}: expected the columns {', '.join(_COLUMNS)}, was without {', '.join(missing)}"
            raise RecordingError(msg)
        stamps = pl.col("ts").cast(pl.Datetime("ns", "UTC")).dt.replace_time_zone(None)
        return rows.with_columns(pl.col("rate").cast(pl.Float64).fill_null(float("nan")), stamps)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        msg = f"{path}: expected a Parquet table of funding, was none ({reason})"
        raise RecordingError(msg) from error


def with_funding(hours: Iterable[Hour], funding: Funding) -> Iterator[Hour]:
    """Put payments among the events, each before what has its stamp."""
    paid = -1
    for hour in hours:
        first = int(hour.venue_ns[0]) if paid < 0 else paid + 1
        paid = int(hour.venue_ns[-1])
        due = slice(*np.searchsorted(funding.ns, [first, paid + 1]).tolist())
        yield _inserted(hour, funding.ns[due], funding.rate_ppb[due])


def _inserted(hour: Hour, ns: NDArray[np.int64], rate_ppb: NDArray[np.int64]) -> Hour:
    if not ns.size:
        return hour
    at = np.searchsorted(hour.venue_ns, ns)
    return Hour(
        np.insert(hour.venue_ns, at, ns),
        np.insert(hour.delay_us, at, 0),
        np.insert(hour.kind, at, FUNDING | LAST),
        np.insert(hour.ticks, at, rate_ppb),
        np.insert(hour.lots, at, 0),
    )
