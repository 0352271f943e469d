"""Which markets to quote: what the exchange lists, what of it can be quoted, and how it compares.

A market is quotable where it is an active perpetual with an order book that never closes: request-for-quote
markets have none, and those of traditional assets close for the night. What a maker wants to know of one is
its tick in bps (the least it can improve a price by), the smallest order in USD, and the spread.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from rich.table import Table

from market_maker.domain import BPS
from market_maker.gateway import MarketNotFound
from market_maker.instrument import Instrument, MarketStatus

_MATCHES = 3
_LISTED = 40


class MarketChoiceError(ValueError):
    """The markets that were asked for exist, but cannot be quoted as asked."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A market as the exchange lists it; prices and volume in USD, None where nothing is known."""

    instrument: Instrument
    kind: str = "PERPETUAL"
    is_active: bool = True
    is_rfq: bool = False
    trading_hours: str = "CONTINUOUS"
    bid: Decimal | None = None
    ask: Decimal | None = None
    mark: Decimal | None = None
    daily_volume_usd: Decimal | None = None

    @property
    def obstacle(self) -> str:
        """Why the market cannot be quoted, in a word or two; empty where it can."""
        status = self.instrument.status
        checks = (
            (self.kind == "PERPETUAL", f"type {self.kind}"),
            (status is MarketStatus.ACTIVE, f"status {status.value}"),
            (self.is_active, "not active"),
            (not self.is_rfq, "request for quote"),
            (self.trading_hours == "CONTINUOUS", f"hours {self.trading_hours}"),
        )
        return next((why for passed, why in checks if not passed), "")

    @property
    def price(self) -> Decimal | None:
        """Middle of the book, else the mark."""
        if self.bid and self.ask:
            return (self.bid + self.ask) / 2
        return self.mark or None


@dataclass(frozen=True, slots=True)
class MarketRow:
    """What a maker wants to know of a market; None where the exchange did not say."""

    name: str
    tick_bps: float | None
    min_size_usd: float | None
    spread_bps: float | None
    daily_volume_usd: float | None
    max_leverage: float
    obstacle: str


def find_markets(available: Mapping[str, Instrument], wanted: Sequence[str]) -> dict[str, Instrument]:
    """Instruments of the wanted markets, in the order wanted, whether or not they can be traded now.

    Raises
    ------
    MarketNotFound
        If one does not exist; the message names close matches and what there is.
    MarketChoiceError
        If one is wanted twice.
    """
    chosen: dict[str, Instrument] = {}
    for name in wanted:
        if name not in available:
            raise MarketNotFound(_not_found(name, available))
        if name in chosen:
            msg = f"expected each market once, was {name} twice"
            raise MarketChoiceError(msg)
        chosen[name] = available[name]
    return chosen


def select_markets(available: Mapping[str, Instrument], wanted: Sequence[str]) -> dict[str, Instrument]:
    """Instruments of the wanted markets, in the order wanted, to be quoted.

    Raises
    ------
    MarketNotFound
        If one does not exist; the message names close matches and what there is.
    MarketChoiceError
        If none is wanted, one is wanted twice, or one is not open for trading.
    """
    if not wanted:
        msg = f"expected at least one market, was none; available: {_shortened(available)}"
        raise MarketChoiceError(msg)
    chosen = find_markets(available, wanted)
    for name, instrument in chosen.items():
        if instrument.status is not MarketStatus.ACTIVE:
            msg = (
                f"{name}: expected status ACTIVE, was {instrument.status.value}; take it out of markets"
                " (mm flatten closes a position in it)"
            )
            raise MarketChoiceError(msg)
    return chosen


def _not_found(name: str, available: Mapping[str, Instrument]) -> str:
    by_folded = {known.casefold(): known for known in available}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=_MATCHES, cutoff=0.5)
    hint = f"; did you mean {' or '.join(by_folded[match] for match in close)}?" if close else ""
    return f"no market {name!r}{hint} (available: {_shortened(available)})"


def _shortened(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _LISTED} more" if len(ordered) > _LISTED else ""
    return (", ".join(ordered[:_LISTED]) or "none") + more


def market_row(listing: Listing) -> MarketRow:
    """Figures of one market."""
    instrument, price = listing.instrument, listing.price
    spread = listing.ask - listing.bid if listing.bid and listing.ask else None
    volume = listing.daily_volume_usd
    return MarketRow(
        name=instrument.name,
        tick_bps=float(instrument.tick / price) * BPS if price else None,
        min_size_usd=float(instrument.min_size * price) if price else None,
        spread_bps=float(spread / price) * BPS if price and spread is not None else None,
        daily_volume_usd=None if volume is None else float(volume),
        max_leverage=float(instrument.max_leverage),
        obstacle=listing.obstacle,
    )


def rank_markets(listings: Iterable[Listing]) -> list[MarketRow]:
    """Figures of all markets: the quotable first, then by volume of the day, then by name."""
    rows = [market_row(listing) for listing in listings]
    return sorted(rows, key=lambda row: (bool(row.obstacle), -(row.daily_volume_usd or 0.0), row.name))


def markets_table(rows: Sequence[MarketRow]) -> Table:
    """Table of `mm markets` for the terminal."""
    table = Table(title="Markets")
    table.add_column("market", no_wrap=True)
    for heading in ("tick bps", "min order USD", "spread bps", "24 h volume USD", "leverage"):
        table.add_column(heading, justify="right")
    table.add_column("quotable")
    for row in rows:
        table.add_row(
            row.name,
            _number(row.tick_bps, 3),
            _number(row.min_size_usd, 2),
            _number(row.spread_bps, 2),
            _number(row.daily_volume_usd, 0),
            f"{row.max_leverage:g}x",
            row.obstacle or "yes",
        )
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
