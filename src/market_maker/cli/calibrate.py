"""`mm calibrate`: what recorded markets say of volatility, orders and the micro-price, or why they do not."""

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from market_maker.cli.app import ExitCode, JsonOption, app, examples, note
from market_maker.cli.data import conversion_progress, interruptible
from market_maker.domain import BPS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from market_maker.fitting.calibration import Part
    from market_maker.fitting.record import Calibration, MicroPrice, Ranges
    from market_maker.recordings.store import Hour, Store


_REFUSED = "refused"
_NOTHING = "-"


@app.command(
    epilog=examples(
        "mm calibrate data",
        "mm calibrate recordings/hyperliquid --market BTC-USD --share 0.2",
        "mm calibrate data --write calibrated.toml && mm backtest --data data --config calibrated.toml",
        "mm calibrate data --from 2026-01-06T00:00:00 --to 2026-01-06T06:00:00 --json",
    )
)
def calibrate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Converted markets, or any recording.")],
    *,
    market: Annotated[
        list[str] | None, typer.Option("--market", "-m", help="Only this; may be repeated.")
    ] = None,
    share: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="First part of the span to calibrate on.")
    ] = 1.0,
    since: Annotated[
        datetime | None, typer.Option("--from", metavar="TIME", help="Span from here on, UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", metavar="TIME", help="Span up to here, UTC.")
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write what was found as a TOML file of settings."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Fit what the model quotes need: volatility, and how many orders reach how far from the mid.

    λ(δ) = A·exp(−k·δ) is the number of taker orders a second, on one side, that reach δ ticks from the mid.
    The micro-price is what the mid is expected to become by the sizes at the best prices. A poor fit is
    refused with its reason. mm backtest does the same on the first part of its span.
    """
    from market_maker.backtest.trial_data import cache_folder, chosen, open_data
    from market_maker.cli.calibrate_settings import check_target, write_settings

    if write:
        check_target(write)
    with interruptible("stopped"):
        store = open_data(data, cache_folder(), conversion_progress)
        markets = chosen(store, data, market or ())
        parts = {name: _part(store, name, since, until, share) for name in markets}
        with _progress(parts) as bars:
            found = [_calibrated(store, name, part, bars) for name, part in parts.items()]
    if write:
        write_settings(write, data, found)
    _show(data, store, found, as_json=as_json)
    if all(calibration.refused for calibration in found):
        raise typer.Exit(ExitCode.DATA)


def _part(
    store: "Store", market: str, since: datetime | None, until: datetime | None, share: float
) -> "Part":
    from market_maker.fitting.calibration import first_part
    from market_maker.recordings.events import RecordingError

    hours = store.info(market).hours
    # Its last event belongs to a span that nobody cut.
    start_ns = max(hours[0].first_ns, _ns(since) if since else 0)
    end_ns = min(hours[-1].last_ns + 1, _ns(until) if until else hours[-1].last_ns + 1)
    if start_ns >= end_ns:
        msg = f"{store.path}: {market}: expected events in the span, was a recording of another time"
        raise RecordingError(msg)
    return first_part(start_ns, end_ns, share)


def _ns(at: datetime) -> int:
    utc = at if at.tzinfo else at.replace(tzinfo=UTC)
    return round(utc.timestamp() * 1e6) * (NS_PER_S // 10**6)


Bars = dict[str, Any]


@contextmanager
def _progress(parts: "dict[str, Part]") -> "Iterator[Bars]":
    """Bars on standard error, one for each market, which move with the time that was read."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks = {name: bars.add_task(name, total=part.end_ns - part.start_ns) for name, part in parts.items()}
        yield {"bars": bars, "tasks": tasks}


def _calibrated(store: "Store", market: str, part: "Part", shown: Bars) -> "Calibration":
    from market_maker.fitting.calibration import calibrate as calibrate_market

    def watched() -> "Iterator[Hour]":
        for hour in store.hours(market):
            yield hour
            reached_ns = min(int(hour.venue_ns[-1]), part.end_ns) - part.start_ns
            shown["bars"].update(shown["tasks"][market], completed=max(reached_ns, 0))

    found = calibrate_market(watched(), market, part)
    shown["bars"].update(shown["tasks"][market], completed=part.end_ns - part.start_ns)
    return found


def _show(path: Path, store: "Store", found: "list[Calibration]", *, as_json: bool) -> None:
    if as_json:
        rows = [_as_json(store, calibration) for calibration in found]
        print(json.dumps({"data": str(path), "markets": rows}, indent=2))
        return
    columns = [_cells(calibration) for calibration in found]
    table = Table("", title=str(path))
    for calibration in found:
        table.add_column(calibration.market, justify="right")
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    Console().print(table)
    for calibration in found:
        for why in filter(None, (calibration.volatility.refused, calibration.arrivals.refused)):
            note(f"{calibration.market} is refused: {why}")
        if calibration.micro_price.refused:
            note(f"{calibration.market} has no micro-price: {calibration.micro_price.refused}")


def _cells(found: "Calibration") -> dict[str, str]:
    sigma, fit = found.volatility, found.arrivals
    no_sigma, no_fit = bool(sigma.refused), bool(fit.refused)
    return {
        "book, s": f"{found.seconds:,.1f}",
        "mean spread, ticks": f"{found.spread_ticks:.2f}",
        "sigma, bps/√minute": _REFUSED if no_sigma else f"{sigma.sigma_bps:.2f}",
        "sigma, ticks/√s": _REFUSED if no_sigma else f"{sigma.sigma_ticks:.4g} ± {sigma.sigma_error:.2g}",
        "from returns over, s": "" if no_sigma else f"{sigma.interval_s:g}",
        **_range_cells(found.ranges),
        "A, 1/s": _REFUSED if no_fit else f"{fit.a_per_s:.3g} ± {fit.a_error:.1g}",
        "k, 1/tick": _REFUSED if no_fit else f"{fit.k_per_tick:.3g} ± {fit.k_error:.1g}",
        "1/k, bps": "" if no_fit else f"{BPS / fit.k_per_tick / found.mid_ticks:.3f}",
        "R²": f"{fit.r2:.3f}" if fit.to_ticks else "",
        "taker orders": f"{fit.orders:,}",
        "that reach, ticks": f"{fit.from_ticks:g} … {fit.to_ticks:g}" if fit.to_ticks else "",
        **_micro_price_cells(found.micro_price),
    }


def _range_cells(found: "Ranges") -> dict[str, str]:
    figures = (found.close_bps, found.rogers_satchell_bps, found.bipower_bps)
    names = ("  one-minute closes", "  Rogers, Satchell", "  bipower")
    shown = [_NOTHING if found.refused else f"{figure:.2f}" for figure in figures]
    jumps = _NOTHING if found.refused else f"{found.jump_share:.0%}"
    return {**dict(zip(names, shown, strict=True)), "  share of jumps": jumps}


def _micro_price_cells(found: "MicroPrice") -> dict[str, str]:
    """By spread, the lean where the book is one-sided: the last column of the table."""
    if found.refused:
        return {"micro-price, half-spreads": _REFUSED, "  of spreads to, ticks": ""}
    columns = len(found.table) // len(found.spreads_ticks)
    leans = found.table[columns - 1 :: columns]
    return {
        "micro-price, half-spreads": " ".join(f"{lean:.2f}" for lean in leans),
        "  of spreads to, ticks": " ".join(f"{edge:g}" for edge in found.spreads_ticks),
    }


def _as_json(store: "Store", found: "Calibration") -> dict[str, Any]:
    info = store.info(found.market)
    # Nothing else than JSON's own numbers: an error that cannot be told is left out.
    return {"market": found.market, "venue": info.venue, "tick": info.tick, **_finite(found.as_dict())}


def _finite(value: Any) -> Any:  # noqa: ANN401  (any plain value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, float) and not abs(value) < float("inf"):
        return None
    return value
