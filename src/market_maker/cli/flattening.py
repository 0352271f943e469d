"""Closes positions: every order in their markets goes first, then a session that is nothing but its end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from market_maker.cli.clearing import Cleared, clear_orders, order_line
from market_maker.clock import Clock, Entropy
from market_maker.config import Config
from market_maker.gateway import FillReport, Gateway, PositionReport
from market_maker.instrument import Instrument
from market_maker.journal_files import JournalFiles, JournalSettings
from market_maker.order_records import OrderSettings
from market_maker.past import Past, Whose, read_past
from market_maker.public_markets import find_markets
from market_maker.session_report import venue_of
from market_maker.strategy import MarketMakerStrategy, Outcome
from market_maker.surroundings import Surroundings
from market_maker.trade_journal import InlineSink, TradeJournal

# The whole session is told by these; what it trades with is closed by reducing orders alone.
_CLOSING: Final = (
    "stop_action=flatten",
    "foreign_orders=leave",
    "dead_man_enabled=false",
    "account_leverage=0",
    "warm_from_candles=false",
)
Adjust = Callable[[Sequence[str]], Config]


@dataclass(frozen=True, slots=True)
class Flattened:
    """What was cancelled, traded, and is left of positions and orders."""

    orders: Cleared
    before: tuple[PositionReport, ...]
    left: tuple[PositionReport, ...] = ()
    fills: tuple[FillReport, ...] = ()
    remaining: tuple[str, ...] = ()
    instruments: dict[str, Instrument] = field(default_factory=dict)

    def as_lines(self) -> dict[str, list[dict[str, object]]]:
        """Lists for people and for JSON; money in USD, sizes in base units, signed where positions are."""
        unverified: list[dict[str, object]] = [{"external_id": name} for name in self.remaining]
        still_open = [order_line(order, self.instruments) for order in self.orders.remaining]
        return {
            "cancelled": [order_line(order, self.instruments) for order in self.orders.gone],
            "fills": [self._fill_line(report) for report in self.fills],
            "positions_left": [self._position_line(report) for report in self.left],
            "remaining": still_open + unverified,
        }

    def _fill_line(self, report: FillReport) -> dict[str, object]:
        fill, rules = report.fill, self.instruments[report.fill.market]
        return {
            "market": fill.market,
            "side": fill.side.name,
            "price": str(rules.price(fill.price_ticks)),
            "size": str(rules.size(fill.size_lots)),
            "fee": str(report.fee),
            "is_taker": fill.is_taker,
        }

    def _position_line(self, report: PositionReport) -> dict[str, object]:
        size = self.instruments[report.market].size(report.size_lots)
        return {"market": report.market, "size": str(size), "value": str(size * report.mark_price)}

    @property
    def is_done(self) -> bool:
        """Whether the positions are flat and nothing is open."""
        return not (self.left or self.remaining or self.orders.remaining)


async def flatten(
    gateway: Gateway, clock: Clock, adjust: Adjust, markets: Sequence[str], seconds: float, account: str = ""
) -> Flattened:
    """Cancel, close, verify.

    Parameters
    ----------
    adjust : callable
        Gives the settings with some more of them set.
    markets : sequence of str
        Which to close; all that have a position where none is named.
    seconds : float
        Longest time to spend on closing.
    account : str
        The account's id: what is closed is then noted for the bot's next start.

    Raises
    ------
    VenueError, StartRefused, MarketChoiceError
        If the exchange does not answer, or a market can not be traded.
    """
    instruments = await gateway.instruments(())
    chosen = find_markets(instruments, markets)

    def concerns(market: str) -> bool:
        return not chosen or market in chosen

    cleared = await clear_orders(gateway, clock, lambda order: concerns(order.market), whole_markets=True)
    before = tuple(report for report in await gateway.positions() if concerns(report.market))
    if not before:
        return Flattened(cleared, (), instruments=instruments)
    held = tuple(sorted(report.market for report in before))
    config = adjust([*_CLOSING, f"markets={','.join(held)}", f"stop_reduce_s={seconds:g}"])
    begun_ns = clock.now_ns()
    outcome = await _close(gateway, clock, config, account)
    fills = [report for report in await gateway.fills(begun_ns) if report.fill.market in held]
    left = tuple(report for report in await gateway.positions() if report.market in held)
    return Flattened(cleared, before, left, tuple(fills), outcome.remaining, instruments)


async def _close(gateway: Gateway, clock: Clock, config: Config, account: str) -> Outcome:
    whose = Whose(venue_of(config, gateway), account, config.of(OrderSettings).order_id_prefix)
    past = read_past(Path(config.of(JournalSettings).journal_dir), whose) if account else Past()
    files = JournalFiles("mm", config.of(JournalSettings), clock)
    journal = TradeJournal(InlineSink(files), clock)
    try:
        surroundings = Surroundings(gateway, config, clock, Entropy(), journal, past=past)
        outcome = await MarketMakerStrategy.run(surroundings, 0.0, lambda _strategy: None)
        journal.session_stop(outcome.why, {}, outcome.remaining)
    finally:
        journal.close()
    return outcome
