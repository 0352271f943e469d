"""What a session begins with, asked of the exchange once: markets, fees, past prices, positions, money."""

from collections.abc import Mapping
from decimal import Decimal, localcontext
from typing import Final

from market_maker import cross_market
from market_maker.config import ConfigError
from market_maker.config_sections import SessionSettings
from market_maker.domain import BPS, BookUpdate, Side, Trade
from market_maker.gateway import Candle, Fees, Gateway
from market_maker.grid import GridSettings, Strategy, pays_its_fees
from market_maker.instrument import Instrument
from market_maker.ledger import Ledger, OpeningPosition
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager, RecoverPolicy
from market_maker.order_records import OrderSettings
from market_maker.orderbook_manager import BookSettings
from market_maker.risk_manager import RiskSettings
from market_maker.session import Session, Surroundings
from market_maker.strategy_rows import Params

_CANDLES: Final = 20
_EXACT_DIGITS: Final = 60
_NOTHING: Final = OpeningPosition(0, 0, Decimal(0))


async def open_session(surroundings: Surroundings) -> Session:
    """Ask the exchange for markets, fees, past prices, positions and balance, and set everything up.

    Raises
    ------
    VenueError
        If a market does not exist, or the exchange does not answer.
    ConfigError
        If the lines of a ladder are too near each other to pay their fees.
    """
    gateway, config = surroundings.gateway, surroundings.config
    warm_up()
    cross_market.warm_up()
    instruments = await gateway.instruments(config.of(SessionSettings).markets)
    desks = {name: await _open_desk(surroundings, instrument) for name, instrument in instruments.items()}
    # Before positions are read: an order of an earlier run that fills after that would be in no book of ours.
    leftovers = OrderManager(gateway, surroundings.clock, surroundings.entropy, config.of(OrderSettings))
    await leftovers.recover(RecoverPolicy.CANCEL, instruments)
    leverage = await gateway.leverage(tuple(instruments))
    opening, equity = await _opening_positions(gateway, instruments)
    session = Session(surroundings, desks, Ledger(instruments, equity, opening), leverage)
    session.watch_equity()
    session.journal.session_start(instruments, config.as_dict())
    for name, keeper in session.ladders.items():
        held = opening.get(name, _NOTHING)
        keeper.restore(surroundings.ladders.records.get(name), held.lots, held.mid2_ticks)
    if gateway.simulated:
        session.journal.note("paper", {"fill_model": gateway.simulated})
    return session


async def _open_desk(surroundings: Surroundings, instrument: Instrument) -> MarketDesk:
    gateway, config, name = surroundings.gateway, surroundings.config, instrument.name
    settings, fees = config.of(SessionSettings), await gateway.fees(name)
    _check_ladder(config.of(GridSettings, name), name, float(fees.maker) * BPS)
    desk = MarketDesk(
        instrument,
        fees,
        config.strategy_params(name),
        config.of(BookSettings, name),
        config.of(RiskSettings, name).mark_price_band,
        settings.assumed_latency_s,
    )
    desk.book.shows_own = not gateway.simulated
    if surroundings.journal.tape is not None:
        desk.record(surroundings.journal.tape)
    if settings.warm_from_candles:
        desk.seed(await gateway.candles(name, _CANDLES))
    return desk


def _check_ladder(settings: GridSettings, market: str, maker_fee_bps: float) -> None:
    if settings.strategy == Strategy.GRID and not pays_its_fees(settings, maker_fee_bps):
        least, fees = settings.grid_min_spacing_bps, 2.0 * maker_fee_bps
        expected = f"more than two maker fees, {fees:g} bps on {market}"
        msg = f"grid_min_spacing_bps: expected {expected}, was {least:g}"
        raise ConfigError([msg])


async def _opening_positions(
    gateway: Gateway, instruments: Mapping[str, Instrument]
) -> tuple[dict[str, OpeningPosition], Decimal]:
    """Positions at the marks of their reports, and the account's equity at these marks.

    The equity of a balance is of another instant, and of other marks; what was paid and earned is not.
    """
    positions = [report for report in await gateway.positions() if report.market in instruments]
    equity = (await gateway.balance()).balance
    opening = {}
    with localcontext() as context:
        context.prec = _EXACT_DIGITS
        for report in positions:
            instrument = instruments[report.market]
            equity += instrument.size(report.size_lots) * (report.mark_price - report.open_price)
            # No mid is known yet.
            mid2_ticks = 2 * instrument.ticks_down(report.mark_price)
            opening[report.market] = OpeningPosition(report.size_lots, mid2_ticks, report.mark_price)
    return opening, equity


def warm_up() -> None:
    """Compile every kernel that a desk calls, or load it from the cache, before a frame waits for it."""
    step = Decimal("0.01")
    instrument = Instrument("WARM-UP", step, step, step)
    desk = MarketDesk(instrument, Fees(Decimal(0), Decimal(0)), Params(), BookSettings(), 0.05, 0.1)
    update = BookUpdate(
        "WARM-UP", is_snapshot=True, bids=[(9_999, 9)], asks=[(10_001, 9)], seq=1, venue_ns=1, recv_ns=1
    )
    desk.seed([Candle(0, *(Decimal(price),) * 4) for price in (100, 101, 100)])
    desk.on_mark(Decimal(100), 1)
    desk.on_book(update, 1)
    desk.on_trade(Trade("WARM-UP", 1, Side.BUY, 10_001, 1, 1, 1), 1)
    desk.on_index(Decimal(100), 1)
    desk.on_funding(Decimal(0), 1)
    desk.on_fill(0, 1, 1)
    desk.trend()
    slot = desk.slots[0]
    desk.decide(slot, 1)
    desk.on_post_only(slot, 1, rejected=True)
    desk.on_post_only(slot, 1, rejected=False)
    desk.measured_regime.value  # noqa: B018  (compiles a kernel)
    desk.level_lots()
