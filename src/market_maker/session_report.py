"""What a session shows: its status while it runs, and its summary at the end."""

import os
from collections.abc import Sequence
from decimal import Decimal
from itertools import combinations
from pathlib import Path

from market_maker.clock import SystemClock
from market_maker.config import Config
from market_maker.config_sections import SessionSettings
from market_maker.domain import Action, OrderState, Reason, SlotId
from market_maker.gateway import Gateway
from market_maker.market_desk import MarketDesk
from market_maker.metrics import MarketFigures
from market_maker.order_manager import OrderManager
from market_maker.round_trips import GridSummary, grid_summary
from market_maker.session import Session
from market_maker.status import MarketStatus, QuoteStatus, Status
from market_maker.summary import FillSummary, InventorySummary, OrderCounts, RunSummary

_MS_PER_S = 1_000.0
_CENT = Decimal("0.01")
_DIGITS = 4


def _cents(amount: Decimal) -> str:
    return f"{amount.quantize(_CENT):,}"


def _quote(desk: MarketDesk, orders: OrderManager, slot: SlotId) -> QuoteStatus:
    order, reason = orders.slot_order(slot), desk.halts.gravest or desk.reasons.get(slot, Reason.HEDGING)
    if order is None or order.state not in (OrderState.LIVE, OrderState.PENDING_CANCEL):
        state = "NONE" if order is None else order.state.name
        return QuoteStatus(slot.side.name, slot.level, "", "", state, reason.name)
    price, size = desk.instrument.price(order.price_ticks), desk.instrument.size(order.remaining_lots)
    return QuoteStatus(slot.side.name, slot.level, f"{price:f}", f"{size:f}", order.state.name, reason.name)


def _hedges(desk: MarketDesk, orders: OrderManager) -> list[SlotId]:
    """Slots with orders that are no quotes, while there are any."""
    slots = {order.slot for order in orders.working((desk.name,)) if order.slot is not None}
    return sorted(slots.difference(desk.slots), key=lambda slot: (slot.level, slot.side))


def market_status(session: Session, orders: OrderManager, desk: MarketDesk) -> MarketStatus:
    """What the session does in one market now."""
    name, ledger, instrument = desk.name, session.ledger, desk.instrument
    direction, strength = desk.trend()
    counts, halt = ledger.counts(name), desk.halts.gravest
    return MarketStatus(
        market=name,
        regime=desk.measured_regime.name,
        trend=direction.name,
        trend_strength=strength,
        sigma_bps=desk.sigma_bps,
        mid=f"{instrument.tick * desk.mid2_ticks / 2:f}",
        position=f"{instrument.size(ledger.position_lots(name)):f}",
        position_usd=_cents(ledger.inventory_usd(name)),
        fills=counts.buys + counts.sells,
        pnl_usd=_cents(ledger.attribution(name).total),
        latency_ms=desk.latency_s * _MS_PER_S,
        halt=halt.name if halt else "",
        quotes=[_quote(desk, orders, slot) for slot in (*desk.slots, *_hedges(desk, orders))],
    )


def show_metrics(session: Session, orders: OrderManager, desk: MarketDesk) -> None:
    """Set the gauges of a market to what is now."""
    direction, strength = desk.trend()
    figures = MarketFigures(
        regime=desk.measured_regime,
        trend=int(direction) * strength,
        position_usd=session.ledger.inventory_usd(desk.name),
        quotes_live=len(orders.working((desk.name,))),
        pnl_usd=session.ledger.attribution(desk.name).by_name(),
        beta=session.cross.betas[desk.name],
    )
    session.metrics.show(desk.name, figures)


def show_account_metrics(session: Session) -> None:
    """Set the gauges of the account to what is now."""
    failed = session.journal.failed is not None
    session.metrics.show_account(session.ledger.equity(), session.net_beta_usd(), journal_failed=failed)
    session.metrics.show_ladder(session.standing.step, session.standing.cause.name)


def portfolio_of(session: Session) -> dict[str, object]:
    """What the markets of a session were to one another, at its end and at its largest; money in USD."""
    cross = session.cross
    names = cross.matrix.names
    return {
        "reference": cross.reference,
        "betas": {name: round(beta, _DIGITS) for name, beta in cross.betas.items()},
        "correlations": {
            f"{one} {other}": round(cross.matrix.correlation(one, other), _DIGITS)
            for one, other in combinations(names, 2)
        },
        "net_beta_usd": round(session.net_beta_usd(), _DIGITS),
        "largest_net_beta_usd": round(session.largest_net_beta_usd, _DIGITS),
    }


def venue_of(config: Config, gateway: Gateway) -> str:
    """Where a session trades, in words: the network, and whether that is on paper."""
    network = config.of(SessionSettings).network.value
    return f"paper ({network})" if gateway.simulated else network


def fill_model_of(config: Config, gateway: Gateway) -> str:
    """How a session's orders are filled: by a network, or by a model."""
    return gateway.simulated or config.of(SessionSettings).network.value


def status_of(session: Session, state: str, journal: Path, markets: Sequence[MarketStatus]) -> Status:
    """What the session does now, given what it does in its markets."""
    settings = session.config.of(SessionSettings)
    equity = session.ledger.equity()
    return Status(
        pid=os.getpid(),
        state=state,
        profile=settings.profile,
        venue=venue_of(session.config, session.gateway),
        started_ns=session.started_ns,
        updated_ns=session.clock.now_ns(),
        written_ns=SystemClock().now_ns(),
        equity_usd=_cents(equity),
        pnl_usd=_cents(equity - session.start_equity),
        journal=str(journal),
        markets=list(markets),
        net_beta_usd=f"{session.net_beta_usd():,.2f}" if len(session.desks) > 1 else "",
        kill_step=session.standing.step.name,
        kill_cause=session.standing.cause.name if session.standing.cause else "",
        kill_latch=session.standing.latch.name if session.standing.latch else "",
    )


def summary_of(session: Session, orders: OrderManager, fill_model: str) -> list[RunSummary]:
    """How the session went, a run for each market. `fill_model` says how orders were filled."""
    return [_run(session, orders, name, fill_model) for name in session.desks]


def _run(session: Session, orders: OrderManager, name: str, fill_model: str) -> RunSummary:
    ledger, counts, requests = session.ledger, session.ledger.counts(name), session.requests[name]
    profile, times = session.config.of(SessionSettings).profile, session.decision_us[name]
    return RunSummary(
        name=profile,
        market=name,
        profile=profile,
        fill_model=fill_model,
        uptime=session.uptime[name].report(session.quoted_until_ns or session.clock.now_ns()),
        pnl=ledger.attribution(name),
        events=session.events[name],
        orders=OrderCounts(
            requests[Action.PLACE], requests[Action.REPLACE], requests[Action.CANCEL], session.rejected[name]
        ),
        fills=FillSummary(counts.buys, counts.sells, ledger.maker_share(name), ledger.volume_usd(name)),
        inventory=InventorySummary(
            max_abs=ledger.max_abs_inventory_usd(name),
            limit=session.limit_usd(name),
            end=ledger.inventory_usd(name),
            limit_breaches=counts.limit_breaches,
        ),
        markouts_bps=ledger.markouts_bps(name),
        decision_p50_us=times.p50,
        decision_p99_us=times.p99,
        open_orders_at_end=len(orders.working((name,))),
        grid=_grid_of(session, name),
    )


def _grid_of(session: Session, market: str) -> GridSummary | None:
    keeper = session.ladders.get(market)
    if keeper is None:
        return None
    report = keeper.report()
    return grid_summary(session.desks[market].instrument, report.ladder, report.trips)
