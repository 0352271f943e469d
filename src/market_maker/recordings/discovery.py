"""Opening a recording: a file or a folder in, its markets out, whatever format they are in."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from market_maker.recordings.columns import open_parquet_market, parquet_path
from market_maker.recordings.events import RecordedMarket, RecordingError
from market_maker.recordings.grid import Grid
from market_maker.recordings.raw import RawMarket, RawSummary, inspect_raw

_KINDS = ("book", "bbo", "trades")
_QUOTE_ASSETS = ("USDT", "USDC", "USD")
_FORMATS = "NAME_book.parquet with NAME_trades.parquet, or raw *.gz of 'local_ns json' lines"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that was opened and checked: its path and its markets by name."""

    path: Path
    markets: Mapping[str, RecordedMarket]


def market_name(label: str) -> str:
    """Name of a market as Extended writes it.

    >>> [market_name(label) for label in ("BTCUSDT", "WLFI", "ETH-USD", "btc_usdc")]
    ['BTC-USD', 'WLFI-USD', 'ETH-USD', 'BTC-USD']
    """
    base = label.upper()
    for quote in _QUOTE_ASSETS:
        if base.endswith(quote) and len(base) > len(quote):
            base = base.removesuffix(quote)
            break
    return f"{base.rstrip('-_/')}-USD"


def open_recording(
    path: Path, markets: Sequence[str] = (), grids: Mapping[str, Grid] | None = None
) -> Recording:
    """Open a file or a folder; tick and step are those given in `grids`, else what the data show.

    Parameters
    ----------
    markets : sequence of str
        Markets wanted (`BTC-USD`); empty for all that the recording has.

    Raises
    ------
    RecordingError
        If nothing is there, no format is known, a wanted market is missing, or a file cannot be read.
    """
    if not path.exists():
        msg = f"{path}: expected a recording, was not found"
        raise RecordingError(msg)
    wanted = [market_name(market) for market in markets]
    given = grids or {}
    found = _parquet_stems(path)
    raw = _raw_files(path)
    available = sorted({*found, *raw})
    if not available:
        msg = f"{path}: expected {_FORMATS}, was neither"
        raise RecordingError(msg)
    missing = [market for market in wanted if market not in available]
    if missing:
        msg = f"{path}: expected the markets {', '.join(missing)}, was a recording of {', '.join(available)}"
        raise RecordingError(msg)
    opened: dict[str, RecordedMarket] = {}
    for market in wanted or available:
        if market in found:
            opened[market] = open_parquet_market(market, found[market], given.get(market))
        else:
            opened[market] = _raw_market(market, raw[market], given.get(market))
    return Recording(path, opened)


def _parquet_stems(path: Path) -> dict[str, Path]:
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    stems = {}
    for file in files:
        label, _, kind = file.stem.rpartition("_")
        stem = file.with_name(label) if label else file
        if file.suffix == ".parquet" and kind in _KINDS and parquet_path(stem, "book").exists():
            stems[market_name(label)] = stem
    return stems


def _raw_files(path: Path) -> dict[str, list[RawSummary]]:
    files = [path] if path.is_file() else sorted(path.glob("*.gz"))
    by_market = defaultdict(list)
    for file in files:
        if file.suffix == ".gz":
            summary = inspect_raw(file)
            by_market[market_name(summary.symbol)].append(summary)
    return by_market


def _raw_market(market: str, files: list[RawSummary], given: Grid | None) -> RawMarket:
    ordered = sorted(files, key=lambda file: file.first_ns)
    for earlier, later in pairwise(ordered):
        if later.first_ns < earlier.last_ns:
            msg = f"{later.path}: expected a start after {earlier.path.name} ends, was an overlap"
            raise RecordingError(msg)
    grid = given or Grid(min(file.grid.tick for file in ordered), min(file.grid.step for file in ordered))
    return RawMarket(grid.instrument(market), grid, tuple(ordered))
