"""`mm markets correlation`: how markets move together, as a table and as a picture."""

import asyncio
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from market_maker.cli.app import (
    ConfigOption,
    EnvFileOption,
    JsonOption,
    SetOption,
    examples,
    load_settings,
    note,
)
from market_maker.cli.data import conversion_progress, interruptible
from market_maker.cli.markets import markets_app
from market_maker.cli.orders import MarketOption
from market_maker.domain import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market_maker.backtest.joint_moves import Grid, JointMoves, Vector
    from market_maker.config import Config
    from market_maker.gateway import Candle

_EVER: Final = (0, 2**62)
_LONGEST_MINUTES: Final = 1_440
_PICTURE: Final = Path("correlation.html")


@markets_app.command(
    epilog=examples(
        "mm markets correlation",
        "mm markets correlation --market BTC-USD --market ETH-USD --market SOL-USD --minutes 720",
        "mm markets correlation --data data --reference BTC-USD --out correlation.html",
        "mm markets correlation --data recordings/hyperliquid --return-s 30 --json",
    )
)
def correlation(
    *,
    market: MarketOption = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", "-d", metavar="PATH", help="Converted markets, or any recording. [the exchange]"
        ),
    ] = None,
    reference: Annotated[
        str, typer.Option("--reference", metavar="MARKET", help="Market that betas are to. [the first]")
    ] = "",
    return_s: Annotated[
        int | None,
        typer.Option(
            "--return-s", min=1, max=3600, help="Length of returns, with --data. [portfolio_return_s]"
        ),
    ] = None,
    minutes: Annotated[
        int, typer.Option("--minutes", min=10, max=_LONGEST_MINUTES, help="Candles of the exchange.")
    ] = 720,
    since: Annotated[
        datetime | None, typer.Option("--from", metavar="TIME", help="With --data: from here on, UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", metavar="TIME", help="With --data: up to here, UTC.")
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The picture, a page of HTML.")
    ] = _PICTURE,
    config: ConfigOption = None,
    settings: SetOption = None,
    env_file: EnvFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how markets move together: correlations, and betas to a reference market, with intervals.

    Of a recording, or of the exchange's one-minute candles for the markets of the settings. Short returns
    show too little of it: markets answer the same news seconds apart. What the bot goes by is the same over
    the last quarter of an hour or so (portfolio_halflife_s), shrunk until it has seen enough.
    """
    from market_maker.backtest.joint_moves import joint_moves
    from market_maker.correlation import CorrelationSettings

    loaded = load_settings(config, settings, None, env_file)
    if data is None:
        _refuse(("--return-s", return_s), ("--from", since), ("--to", until))
        grid = asyncio.run(_live_grid(loaded, market or (), minutes))
        steps, source = 1, f"one-minute candles of {_network(loaded)}"
    else:
        grid = _recorded_grid(data, market or (), (_ns(since, _EVER[0]), _ns(until, _EVER[1])))
        steps, source = (
            return_s or int(loaded.of(CorrelationSettings).portfolio_return_s),
            f"recorded in {data}",
        )
    names = _ordered(grid.names, reference)
    try:
        found = joint_moves(grid, steps)
    except ValueError as error:
        raise _bad("--return-s" if data else "--minutes", str(error)) from error
    _draw(found, names[0], source, out)
    if as_json:
        print(json.dumps(as_dict(found, names[0], source), indent=2, allow_nan=False))
        return
    console = Console()
    console.print(matrix_table(found))
    console.print(betas_table(found, names[0]))


def _bad(option: str, message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=option)


def _refuse(*given: tuple[str, object]) -> None:
    for option, value in given:
        if value is not None:
            raise _bad(option, "expected with --data alone, was without it: the exchange gives minutes")


def _ns(at: datetime | None, otherwise: int) -> int:
    return otherwise if at is None else round(at.replace(tzinfo=UTC).timestamp()) * NS_PER_S


def _network(config: "Config") -> str:
    from market_maker.config_sections import SessionSettings

    return config.of(SessionSettings).network.value


def _ordered(names: "Sequence[str]", reference: str) -> list[str]:
    """Markets with the reference first."""
    from market_maker.recordings.discovery import market_name

    if not reference:
        return list(names)
    wanted = reference if reference in names else market_name(reference)
    if wanted not in names:
        raise _bad("--reference", f"expected one of {', '.join(names)}, was {reference}")
    return [wanted, *(name for name in names if name != wanted)]


def _recorded_grid(path: Path, markets: "Sequence[str]", span_ns: tuple[int, int]) -> "Grid":
    from market_maker.backtest.joint_moves import grid_of_store
    from market_maker.backtest.trial_data import cache_folder, chosen, open_data

    with interruptible("stopped"):
        store = open_data(path, cache_folder(), conversion_progress)
        return grid_of_store(store, _several(chosen(store, path, markets)), span_ns)


def _several(names: "Sequence[str]") -> "Sequence[str]":
    if len(names) < 2:
        raise _bad("--market", f"expected two markets or more, was {', '.join(names) or 'none'}")
    return names


async def _live_grid(config: "Config", markets: "Sequence[str]", minutes: int) -> "Grid":
    from market_maker.backtest.joint_moves import grid_of_candles
    from market_maker.cli.connection import connect_public
    from market_maker.clock import SystemClock
    from market_maker.config_sections import SessionSettings
    from market_maker.public_markets import select_markets

    gateway = await connect_public(config, SystemClock())
    try:
        there = await gateway.instruments(())
        names = _several(list(select_markets(there, markets or config.of(SessionSettings).markets)))
        found: dict[str, list[Candle]] = {name: await gateway.candles(name, minutes) for name in names}
    finally:
        await gateway.close()
    try:
        return grid_of_candles(found)
    except ValueError as error:
        raise _bad("--market", str(error)) from error


def _draw(found: "JointMoves", reference: str, source: str, path: Path) -> None:
    try:
        from market_maker.backtest.joint_moves_page import write_page
    except ImportError:
        note("no picture: it needs plotly; install the extra: extended-market-maker[backtest]")
        return
    write_page(found, reference, source, path)
    note(f"picture: {path}")


def as_dict(found: "JointMoves", reference: str, source: str) -> dict[str, Any]:
    """What was found, for `--json`; null where nothing can be said."""
    at, names = found.names.index(reference), found.names
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    return {
        "source": source,
        "reference": reference,
        "return_s": found.return_s,
        "seconds": found.seconds,
        "blocks": found.blocks,
        "markets": [
            {"name": name, "sigma_bps": _number(found.sigma_bps[i]), "beta": _ends(found.beta, at, i)}
            for i, name in enumerate(names)
        ],
        "correlations": [{"markets": [names[i], names[j]], **_ends(found.rho, i, j)} for i, j in pairs],
    }


def _ends(figure: "tuple[Vector, Vector, Vector]", i: int, j: int) -> dict[str, float | None]:
    keys = ("estimate", "low", "high")
    return {key: _number(values[i, j]) for key, values in zip(keys, figure, strict=True)}


def _number(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def matrix_table(found: "JointMoves") -> Table:
    """Correlations for the terminal: the redder, the more two markets move apart, the bluer, together."""
    table = Table(title=f"Correlation, returns of {found.return_s:g} s, {found.seconds / 60:.0f} minutes")
    table.add_column("")
    for name in found.names:
        table.add_column(name, justify="center", no_wrap=True)
    for i, name in enumerate(found.names):
        table.add_row(name, *(_cell(found, i, j) for j in range(len(found.names))))
    return table


def _cell(found: "JointMoves", i: int, j: int) -> Text:
    value, low, high = (float(figure[i, j]) for figure in found.rho)
    if not math.isfinite(value):
        return Text("?")
    faded = round(255 * (1.0 - min(abs(value), 1.0)))
    color = f"#{faded:02x}{faded:02x}ff" if value >= 0.0 else f"#ff{faded:02x}{faded:02x}"
    is_sure = i == j or not math.isfinite(low + high)
    text = f"{value:.2f}" if is_sure else f"{value:.2f}\n{low:.2f} to {high:.2f}"
    return Text(text, style=f"{'white' if abs(value) > 0.6 else 'black'} on {color}")


def betas_table(found: "JointMoves", reference: str) -> Table:
    """Betas to the reference and volatility, for the terminal."""
    at = found.names.index(reference)
    table = Table(title=f"What a dollar of a market moves like in dollars of {reference}")
    for heading in ("market", "beta", "95 % interval", "sigma bps/√min"):
        table.add_column(heading, justify="left" if heading == "market" else "right")
    for i, name in enumerate(found.names):
        beta, low, high = (float(figure[at, i]) for figure in found.beta)
        ends = f"{low:.2f} to {high:.2f}" if math.isfinite(low + high) else "the span is too short"
        table.add_row(name, f"{beta:.2f}", "" if i == at else ends, f"{found.sigma_bps[i]:.1f}")
    return table
