"""What the running process is doing, as one value: shown live, written to a file, read by `mm status`.

Every quote that is missing has its reason. The file is replaced as a whole, so a reader never sees half of
one, and it outlives a crash: its age tells.
"""

import os
from pathlib import Path

import msgspec
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from market_maker.kill_ladder import LOSSES

FILE_NAME = "status.json"
STOPPED = "STOPPED"


class QuoteStatus(msgspec.Struct, frozen=True):
    """One slot: the order that rests there (price and size empty if none) and the last decision's reason."""

    side: str
    level: int
    price: str
    size: str
    state: str
    reason: str


class MarketStatus(msgspec.Struct, frozen=True):
    """One market; sigma in bps per √minute, latency in ms from send to acknowledgement, money in USD."""

    market: str
    regime: str
    trend: str
    trend_strength: float
    sigma_bps: float
    mid: str
    position: str
    position_usd: str
    fills: int
    pnl_usd: str
    latency_ms: float
    halt: str
    quotes: list[QuoteStatus]


class Status(msgspec.Struct, frozen=True):
    """The whole process at one instant: of the market's time, and of the machine's (`written_ns`).

    `net_beta_usd` is what all positions together count as in the reference market; empty for one market.
    `kill_step` and `kill_cause` are where the kill ladder stands, `kill_latch` the step that only `mm resume`
    lifts, empty if there is none.
    """

    pid: int
    state: str
    profile: str
    venue: str
    started_ns: int
    updated_ns: int
    written_ns: int
    equity_usd: str
    pnl_usd: str
    journal: str
    markets: list[MarketStatus]
    net_beta_usd: str = ""
    kill_step: str = "NORMAL"
    kill_cause: str = ""
    kill_latch: str = ""


class StatusError(Exception):
    """The status file is missing or can not be read."""


def write_status(folder: Path, status: Status) -> None:
    """Replace the status file of a folder, readable by its owner alone.

    Raises
    ------
    OSError
        If the folder can not be written.
    """
    temporary = folder / f".{FILE_NAME}.{os.getpid()}"
    # It tells positions and money: like the journal beside it, it is nobody else's.
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(status))
        temporary.replace(folder / FILE_NAME)
    except OSError:
        # A full disk is not left fuller.
        temporary.unlink(missing_ok=True)
        raise


def read_status(folder: Path) -> Status:
    """Read the status file of a folder.

    Raises
    ------
    StatusError
        If there is none, or it is not one of ours.
    """
    path = folder / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except FileNotFoundError:
        msg = f"expected {path}, found none: nothing has run with this journal folder yet (see --folder)"
        raise StatusError(msg) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        msg = f"expected a status file at {path}, but it can not be read: {error}"
        raise StatusError(msg) from error


def is_running(status: Status) -> bool:
    """Whether the process that wrote a status is alive and has not ended its session."""
    if status.state == STOPPED:
        return False
    try:
        os.kill(status.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_REGIME_STYLE = {"CALM": "cyan", "NORMAL": "green", "ELEVATED": "yellow", "EXTREME": "bold red"}
_MAINNET = "mainnet"
_REAL_MONEY = "bold white on red"
_TREND_MARK = {"BULLISH": "▲", "BEARISH": "▼", "NEUTRAL": "·"}


def _quote_text(quote: QuoteStatus) -> Text:
    if quote.price:
        style = "green" if quote.side == "BUY" else "red"
        return Text(f"{quote.size} @ {quote.price}", style=style)
    return Text(quote.reason.lower().replace("_", " "), style="dim yellow")


def _quotes(market: MarketStatus, side: str) -> Text:
    chosen = sorted((q for q in market.quotes if q.side == side), key=lambda q: q.level)
    return Text("\n").join(_quote_text(q) for q in chosen)


def status_view(status: Status, footer: str = "") -> Group:
    """Live picture of a status for a terminal of 80 columns or more."""
    table = Table(box=box.SIMPLE_HEAD, expand=False, pad_edge=False, collapse_padding=True)
    table.add_column("market", no_wrap=True)
    table.add_column("regime", min_width=12)
    table.add_column("position", no_wrap=True)
    for heading in ("bids", "asks"):
        table.add_column(heading, min_width=14)
    table.add_column("result", justify="right", no_wrap=True)
    for market in status.markets:
        style = _REGIME_STYLE.get(market.regime, "")
        trend = f"trend {_TREND_MARK.get(market.trend, '?')} {market.trend_strength:.2f}"
        if market.halt:
            trend, style = market.halt.lower().replace("_", " "), "bold red"
        table.add_row(
            Text.assemble((market.market, "bold"), f"\n{market.mid}\n{market.latency_ms:.0f} ms"),
            Text(f"{market.regime}\n{market.sigma_bps:.1f} bps\n{trend}", style=style),
            f"{market.position}\n{market.position_usd} $",
            _quotes(market, "BUY"),
            _quotes(market, "SELL"),
            f"{market.fills} fills\n{market.pnl_usd} $",
        )
    head = Text.assemble(
        (f"{status.state}  ", "bold"),
        (status.venue, _REAL_MONEY if status.venue == _MAINNET else "bold"),
        (f"  profile {status.profile}  ", "bold"),
        f"equity {status.equity_usd} $  PnL {status.pnl_usd} $",
        f"  net beta {status.net_beta_usd} $" if status.net_beta_usd else "",
    )
    end = Text(footer, style="dim")
    if status.kill_step == "NORMAL":
        return Group(head, table, end)
    return Group(head, _ladder_text(status), table, end)


def _ladder_text(status: Status) -> Text:
    """Where the kill ladder stands, and how it comes down."""
    words = f"{status.kill_step} for {status.kill_cause}".lower().replace("_", " ")
    by_loss = status.kill_cause in {cause.name for cause in LOSSES}
    unlatched = "it comes down with profit, or by mm resume" if by_loss else "it comes down by itself"
    lifted = "latched: mm resume lifts it" if status.kill_latch else unlatched
    return Text(f"kill ladder: {words}; {lifted}", style="bold red" if status.kill_latch else "yellow")
