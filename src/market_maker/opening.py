"""What a session begins with, asked of the exchange once: markets, fees, past prices, positions, money."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Final, NamedTuple

from market_maker import cross_market
from market_maker.account_opening import AccountOpening, open_account
from market_maker.checkpoints import Checkpoints
from market_maker.config import ConfigError
from market_maker.config_sections import SessionSettings
from market_maker.domain import BPS, BookUpdate, NewOrder, Side, Trade
from market_maker.gateway import Candle, Fees
from market_maker.grid import GridSettings, Strategy, pays_its_fees
from market_maker.hedging import HedgeOrders
from market_maker.instrument import Instrument
from market_maker.kill_ladder import Step, restored
from market_maker.ledger import Ledger, OpeningPosition
from market_maker.market_desk import MarketDesk
from market_maker.order_manager import OrderManager
from market_maker.order_records import OrderSettings
from market_maker.orderbook_manager import BookSettings
from market_maker.past import Past, Whose
from market_maker.risk_manager import RiskSettings
from market_maker.session import Session
from market_maker.start_refusals import StoppedByLadder
from market_maker.strategy_rows import Params
from market_maker.surroundings import Surroundings

_CANDLES: Final = 20
_NOTHING: Final = OpeningPosition(0, 0, Decimal(0))


class Opened(NamedTuple):
    """A session, and the account as it was found."""

    session: Session
    account: AccountOpening


async def open_session(surroundings: Surroundings, *, closing: bool = False) -> Opened:
    """Ask the exchange for markets, fees, past prices, positions and balance, and set everything up.

    Parameters
    ----------
    closing : bool
        Nothing is to be quoted, so no order of an earlier run is gone on with.

    Raises
    ------
    VenueError
        If a market does not exist, or the exchange does not answer.
    ConfigError
        If the lines of a ladder are too near each other to pay their fees.
    StartRefused
        If positions are not what our journal leads to, or the kill ladder has ended an earlier session.
    """
    gateway, config = surroundings.gateway, surroundings.config
    if not closing:
        check_ladder_step(surroundings.past)
    warm_up()
    cross_market.warm_up()
    instruments = await gateway.instruments(config.of(SessionSettings).markets)
    desks = {name: await _open_desk(surroundings, instrument) for name, instrument in instruments.items()}
    leftovers = OrderManager(gateway, surroundings.clock, surroundings.entropy, config.of(OrderSettings))
    past = replace(surroundings.past, orders=_fitting(surroundings, desks))
    if closing:
        # To close what the exchange holds, it need not be what we think.
        past = replace(past, orders={}, positions_accepted=True)
    account = await open_account(gateway, config, instruments, past, leftovers, surroundings.clock)
    past = account.past
    leverage = await gateway.leverage(tuple(instruments))
    session = Session(surroundings, desks, Ledger(instruments, account.equity, account.positions), leverage)
    session.funding.begin(account.known_payments, account.payments_since_ns)
    _restore(session, past)
    session.journal.session_start(instruments, config.as_dict())
    _note_restart(session, past, account)
    for name, keeper in session.ladders.items():
        held = account.positions.get(name, _NOTHING)
        keeper.restore(surroundings.ladders.records.get(name), held.lots, held.mid2_ticks)
    if gateway.simulated:
        session.journal.note("paper", {"fill_model": gateway.simulated})
    return Opened(session, account)


def check_ladder_step(past: Past) -> None:
    """Refuse to begin where the kill ladder ended the last session, and nobody has resumed since.

    Raises
    ------
    StoppedByLadder
        If so.
    """
    if past.latch == Step.STOP:
        msg = (
            f"expected no latched stop, the kill ladder ended an earlier session for {past.latched_by.name};"
            " look into why, then mm resume (with the settings of this start: network, prefix, journal)"
        )
        raise StoppedByLadder(msg)


def _fitting(surroundings: Surroundings, desks: Mapping[str, MarketDesk]) -> dict[str, NewOrder]:
    """Orders of an earlier run that may be gone on with, if they rest: quotes that have a slot here."""
    past = surroundings.past
    if past.latch >= Step.CANCEL_ALL:
        return {}
    now_ns = surroundings.clock.now_ns()
    slots = {(slot.market, slot.side, str(slot.level)) for desk in desks.values() for slot in desk.slots}
    return {
        name: order
        for name, order in past.orders.items()
        if order.post_only
        and order.expire_ns > now_ns
        and (order.market, order.side, name.split("-")[1]) in slots
    }


def _restore(session: Session, past: Past) -> None:
    """Let peaks, and what was latched, be what they were."""
    if past.risk is not None:
        # The equity is not known yet; what it is now is seen with the next look.
        session.risk.restore(past.risk._replace(equity_pusd=past.risk.peak_pusd))
    session.standing = restored(past.latch, past.latched_by, session.clock.now_ns())
    session.watch_equity()


def _note_restart(session: Session, past: Past, account: AccountOpening) -> None:
    """Journal whose session it is and what filled while nobody listened; such fills are in its positions."""
    if past.whose == Whose():
        return
    checkpoints, positions = Checkpoints(session, past.whose), {}
    for name in session.desks:
        missed = (report.fill for report in account.missed if report.fill.market == name)
        later = sum(fill.side * fill.size_lots for fill in missed)
        positions[name] = session.ledger.position_lots(name) - later
    checkpoints.write(positions, HedgeOrders(day=past.hedge_day, fees_usd=past.hedge_fees_usd))
    for report in account.missed:
        session.journal.fill(report, 2 * report.fill.price_ticks, missed=True)
    for payment in account.missed_payments:
        session.journal.funding(payment, missed=True)
    fields = {
        "known": past.is_known,
        "missed_fills": len(account.missed),
        "adopted": [order.external_id for order, _ in account.adopted],
        "latch": past.latch.name,
    }
    session.journal.note("restarted", fields)


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
