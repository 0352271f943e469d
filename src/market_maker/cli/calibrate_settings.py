"""What `mm calibrate --write` writes: what was found, as a TOML file of settings of each market."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from market_maker.domain import BPS, NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from market_maker.fitting.record import Calibration, MicroPrice

_FIRST_LINE = "# Written by mm calibrate"


def check_target(path: Path) -> None:
    """Refuse a file that somebody else wrote: what is in it would be lost."""
    if not path.parent.is_dir():
        message = f"expected a file in a folder that exists, was {path}"
    elif path.exists() and not (path.is_file() and _is_ours(path)):
        message = f"expected a new file, or one that mm calibrate wrote, was {path}; name another"
    else:
        return
    raise typer.BadParameter(message, param_hint="--write")


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().startswith(_FIRST_LINE.encode())


def write_settings(path: Path, data: Path, found: "Sequence[Calibration]") -> None:
    """Write the settings of all markets; what was refused is left out, and a comment says why."""
    path.write_text(settings_text(data, found), encoding="utf-8")


def settings_text(data: Path, found: "Sequence[Calibration]") -> str:
    """TOML of the settings.

    Raises
    ------
    ValueError
        If a table is one that the settings do not take.
    """
    lines = [
        f"{_FIRST_LINE} from {_quoted(str(data))}: what the model quotes and the micro-price need to know.",
        "# Add it to other settings: mm run --config mine.toml --config this.toml; so with mm backtest.",
    ]
    for calibration in found:
        lines += ["", *_market(calibration)]
    return "\n".join(lines) + "\n"


def _market(found: "Calibration") -> "Iterator[str]":
    hours = (found.end_ns - found.start_ns) / NS_PER_S / 3600.0
    yield f"# {_quoted(found.market)}: {hours:.2f} h, of which {found.seconds:,.0f} s with a trusted book."
    heading, micro = f"[markets.{_quoted(found.market)}", found.micro_price
    model = list(_model(found))
    if any(not line.startswith("#") for line in model):
        yield f"{heading}.model]"
    yield from model
    if micro.refused:
        yield f"# No micro_price_table, so the weighted mid: {micro.refused}."
    else:
        yield ""
        yield f"{heading}.micro_price]"
        yield from _micro_price(micro)


def _model(found: "Calibration") -> "Iterator[str]":
    fit, sigma = found.arrivals, found.volatility
    if fit.refused:
        yield f"# No model_a_per_s and no model_k_per_bps: {fit.refused}."
    else:
        ticks_per_bps = found.mid_ticks / BPS
        k, k_error = fit.k_per_tick * ticks_per_bps, fit.k_error * ticks_per_bps
        yield f"model_a_per_s = {fit.a_per_s:.6g}  # ± {fit.a_error:.1g}"
        yield f"model_k_per_bps = {k:.6g}  # ± {k_error:.1g}, at a mid of {found.mid_ticks:.6g} ticks"
    if sigma.refused:
        yield f"# No model_sigma_bps: {sigma.refused}."
    else:
        error = sigma.sigma_error / sigma.sigma_ticks * sigma.sigma_bps
        yield f"model_sigma_bps = {sigma.sigma_bps:.6g}  # ± {error:.1g}"


def _micro_price(found: "MicroPrice") -> "Iterator[str]":
    from market_maker.micro_price import COLUMNS, MicroPriceSettings

    # What cannot be set must not be written.
    MicroPriceSettings(micro_price_table=found.table, micro_price_spreads_ticks=found.spreads_ticks)
    yield f"# From {found.moves:,} moves of the mid; each value ± {max(found.errors):.2f} at most."
    yield f"micro_price_spreads_ticks = [{', '.join(f'{edge:g}' for edge in found.spreads_ticks)}]"
    yield "micro_price_table = ["
    for row, edge in enumerate(found.spreads_ticks):
        cells = found.table[row * COLUMNS : (row + 1) * COLUMNS]
        yield f"  {', '.join(f'{cell:.4f}' for cell in cells)},  # up to {edge:g} ticks"
    yield "]"


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are TOML's, once all that is not ASCII is escaped too."""
    return json.dumps(text)
